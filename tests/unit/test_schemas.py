"""What is published for other languages is what the code says now, and is true on its own.

The checks of the vectors below use the standard library only: they are what a reader in another language would write.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from api.http.commands import read_command
from api.http.problems import KINDS, MEDIA_TYPE, NOT_THERE
from api.identity.identity import ROLES
from api.openapi.records import record_file
from api.openapi.schemas import command_name, command_schemas
from api.routes.table import ROUTES
from ledger.core.commands import COMMAND_TYPES
from ledger.core.events import DATA_TYPES, LEDGER, NO_REQUEST, Event, WriterOpened
from ledger.core.position import Position
from ledger.core.record import encode
from ledger.core.rejections import Code
from schemas.generate.document import document
from schemas.generate.files import ELSEWHERE, FOLDER, elsewhere, files, write

ZEROS: Final = "0" * 64


@pytest.fixture(scope="module")
def generated() -> dict[str, bytes]:
    return files()


def vectors(name: str) -> Any:
    return json.loads((FOLDER / "vectors" / f"{name}.json").read_bytes())


def scenario_records() -> list[str]:
    return [record for partition in vectors("scenario")["partitions"] for record in partition["records"]]


# --- what is committed ----------------------------------------


def test_what_is_committed_is_what_the_code_makes(generated: dict[str, bytes]) -> None:
    committed = {path.relative_to(FOLDER).as_posix(): path for path in FOLDER.rglob("*.json")}
    assert set(committed) == set(generated), "run `make schemas`"
    for name, content in generated.items():
        assert committed[name].read_bytes() == content, f"{name} is not what the code makes now: run `make schemas`"


def test_what_is_committed_elsewhere_is_what_the_code_makes() -> None:
    made = elsewhere()
    assert set(made) == set(ELSEWHERE)
    for name, content in made.items():
        assert ELSEWHERE[name].read_bytes() == content, f"{name} is not what the code makes now: run `make schemas`"


@pytest.mark.system
def test_it_is_the_same_each_time(generated: dict[str, bytes]) -> None:
    assert files() == generated


def test_writing_removes_what_is_no_longer_made(tmp_path: Path) -> None:
    (tmp_path / "events").mkdir()
    (tmp_path / "events" / "gone.json").write_text("{}")
    write(tmp_path, {"a/b.json": b"1"})
    assert list(tmp_path.rglob("*.json")) == [tmp_path / "a" / "b.json"]


# --- schemas of records ----------------------------------------


@pytest.mark.parametrize("data", DATA_TYPES, ids=lambda data: data.type)
def test_every_event_type_has_its_strict_schema(data: Any) -> None:
    schema = record_file(data)
    Draft202012Validator.check_schema(schema)
    assert schema["additionalProperties"] is False
    assert schema["properties"]["data"]["additionalProperties"] is False
    assert schema["required"] == list(schema["properties"])


@pytest.mark.system
def test_every_record_of_the_scenario_is_what_its_schema_says_and_every_type_is_in_it() -> None:
    validators = {
        data.type: Draft202012Validator(
            json.loads((FOLDER / "events" / "v1" / f"{data.type}.json").read_bytes()),
        )
        for data in DATA_TYPES
    }
    met: Counter[str] = Counter()
    for text in scenario_records():
        record = json.loads(text)
        validators[record["type"]].validate(record)
        met[record["type"]] += 1
        for other, validator in validators.items():
            assert other == record["type"] or not validator.is_valid(record), (other, text)
    # The scenario is played on a log of one process; how a shared one is opened, tests/unit/test_shared_log.py shows.
    assert set(met) == set(validators) - {"writer_opened"}


def spoiled(record: Any) -> list[Any]:
    """Records that differ from a true one in one thing, each a thing that must not be."""
    copies = [json.loads(json.dumps(record)) for _ in range(12)]
    copies[0]["extra"] = 1
    copies[1]["data"]["extra"] = 1
    copies[2]["v"] = 2
    copies[3]["seq"] = 0
    copies[4]["prev"] = record["prev"].upper() + "0"
    copies[5]["time_us"] = 1.5
    copies[6]["user_id"] = "gift:"
    copies[7]["command_id"] = "~x\n"
    copies[8]["request_sha256"] = "0" * 63
    copies[9]["postings"] = [["house/unknown", "INR", 5], ["wallet/u1/cash", "INR", -5]]
    copies[10]["balances"] = {"INR": {"cash": 1, "bonus": 0}}
    del copies[11]["actor"]
    return copies


@pytest.mark.system
def test_a_record_that_is_wrong_in_one_thing_is_not_what_its_schema_says() -> None:
    for text in scenario_records():
        record = json.loads(text)
        data = next(data for data in DATA_TYPES if data.type == record["type"])
        validator = Draft202012Validator(record_file(data))
        for number, wrong in enumerate(spoiled(record)):
            assert not validator.is_valid(wrong), (number, wrong)


def test_how_a_partition_is_opened_has_its_schema_and_only_its_own_stream_fits() -> None:
    event = Event(1, "partition:3", "~open:7", NO_REQUEST, LEDGER, WriterOpened(generation=5), (), {})
    record = json.loads(encode(event, Position(3, 7), ZEROS))
    validator = Draft202012Validator(record_file(WriterOpened))
    validator.validate(record)
    for wrong in (*spoiled_members(record), {**record, "user_id": "u1"}, {**record, "user_id": "partition:03"}):
        assert not validator.is_valid(wrong), wrong


def spoiled_members(record: Any) -> list[Any]:
    return [
        {**record, "command_id": "~expiry:7"},
        {**record, "command_id": "~open:0"},
        {**record, "actor": "local"},
        {**record, "data": {}},
        {**record, "data": {"generation": -1}},
        {**record, "data": {"generation": 5, "cause": "3:6"}},
        {**record, "balances": {"INR": {"cash": 0, "bonus": 0, "held": 0}}},
        {**record, "postings": [["house/fees", "INR", 0]]},
    ]


# --- vectors, checked without the ledger ----------------------------------------


def test_the_storys_records_are_one_chain_a_partition() -> None:
    for partition in vectors("scenario")["partitions"]:
        head, time_us = ZEROS, 0
        for seq, text in enumerate(partition["records"], 1):
            record = json.loads(text)
            assert list(record) == [
                *("v", "partition", "seq", "prev", "time_us", "user_id", "command_id", "request_sha256", "actor"),
                *("type", "data", "postings", "balances"),
            ]
            assert (record["partition"], record["seq"], record["prev"]) == (partition["partition"], seq, head)
            assert record["time_us"] >= time_us
            head, time_us = sha256(text.encode()).hexdigest(), record["time_us"]
        assert (partition["seq"], partition["head"]) == (len(partition["records"]), head)


def test_the_storys_records_are_written_in_the_one_way() -> None:
    for text in scenario_records():
        record = json.loads(text)
        assert json.dumps(record, separators=(",", ":"), ensure_ascii=False) == text
        assert json.dumps(record["data"], sort_keys=True) == json.dumps(record["data"])
        assert list(record["balances"]) == sorted(record["balances"])
        assert None not in record["data"].values() or record["type"] == "limits_set"


def test_the_storys_money_is_neither_made_nor_lost() -> None:
    accounts: Counter[tuple[str, str]] = Counter()
    for text in scenario_records():
        record = json.loads(text)
        of_this_event: Counter[str] = Counter()
        for account, asset, amount in record["postings"]:
            accounts[account, asset] += amount
            of_this_event[asset] += amount
        assert not any(of_this_event.values()), text
        for asset, balance in record["balances"].items():
            for bucket, amount in balance.items():
                assert accounts[f"wallet/{record['user_id']}/{bucket}", asset] == amount, text
    assert not any(amount for (account, _), amount in accounts.items() if account.startswith("transit/"))


def test_each_step_of_the_scenario_made_its_record() -> None:
    scenario = vectors("scenario")
    records = {
        f"{partition['partition']}:{seq}": text
        for partition in scenario["partitions"]
        for seq, text in enumerate(partition["records"], 1)
    }
    for step in scenario["steps"]:
        text = records[step["position"]]
        record = json.loads(text)
        assert sha256(text.encode()).hexdigest() == step["head"]
        assert record["request_sha256"] == step["request_sha256"] == sha256(canonical(step["command"])).hexdigest()
        assert (record["time_us"], record["actor"]) == (step["time_us"], step["actor"])
        for name in ("user_id", "command_id"):
            assert record[name] == step["command"][name]
        for name, value in step["command"].items():
            if name not in ("type", "user_id", "command_id") and value is not None:
                assert record["data"][name] == value
        del records[step["position"]]
    for text in records.values():  # the rest are the ledger's own
        record = json.loads(text)
        assert record["command_id"].startswith("~")
        assert (record["actor"], record["request_sha256"]) == ("ledger", ZEROS)
        assert record["data"]["cause"]


def canonical(command: Any) -> bytes:
    """The rule, written once more: sorted keys, no spaces, without private and nulls but the limits of set_limits."""
    kept = {
        name: value
        for name, value in command.items()
        if name != "private" and (value is not None or (command["type"] == "set_limits" and name != "metadata"))
    }
    return json.dumps(kept, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def test_the_request_hashes_are_those_of_the_canonical_forms() -> None:
    cases = vectors("request_hashes")["cases"]
    for case in cases:
        form = case["canonical"].encode()
        assert canonical(json.loads(case["command"])) == form, case["name"]
        assert sha256(form).hexdigest() == case["request_sha256"]
        assert read_command(case["command"].encode()).request_sha256 == case["request_sha256"]
    named = {case["name"]: case["request_sha256"] for case in cases}
    same = ("the least", "keys in another order", "spaces", "nulls are left out", "escaped letters")
    assert len({named[name] for name in same}) == 1
    assert named["an empty map stays"] != named["the least"]


def murmur2(data: bytes) -> int:
    """Kafka's, from its description; the ledger has its own."""
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    h = 0x9747B28C ^ len(data)
    for at in range(0, len(data) - len(data) % 4, 4):
        k = int.from_bytes(data[at : at + 4], "little") * m & mask
        h = h * m & mask ^ ((k ^ k >> 24) * m & mask)
    if rest := data[len(data) - len(data) % 4 :]:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15


def test_the_partitions_are_kafkas() -> None:
    for case in vectors("partitions")["cases"]:
        for number, partition in case["partitions"].items():
            assert (murmur2(case["user_id"].encode()) & 0x7FFFFFFF) % int(number) == partition
    partitions = len(vectors("scenario")["partitions"])
    for text in scenario_records():
        record = json.loads(text)
        assert (murmur2(record["user_id"].encode()) & 0x7FFFFFFF) % partitions == record["partition"]


def test_every_rule_is_broken_once_in_the_rejections() -> None:
    cases = vectors("rejections")["cases"]
    assert {case["code"] for case in cases} == {code.value for code in Code} | {
        "malformed_request",
        "command_id_reused",
    }
    for case in cases:
        assert case["status"] == KINDS[case["code"]].status


# --- the document ----------------------------------------

DOCUMENT: Final = document()


def contents() -> list[tuple[str, str, str, Any]]:
    """(operation, status or "request", media type, content) of everything in the document."""
    found = []
    for path, operations in DOCUMENT["paths"].items():
        for method, operation in operations.items():
            bodies = dict(operation["responses"])
            if "requestBody" in operation:
                bodies["request"] = operation["requestBody"]
            for status, said in bodies.items():
                body = said
                if "$ref" in said:
                    body = DOCUMENT["components"]["responses"][said["$ref"].rsplit("/", 1)[-1]]
                for media_type, content in body.get("content", {}).items():  # 304 has none
                    found.append((f"{method} {path}", status, media_type, content))
    return found


def resolved(value: Any) -> Any:
    """The same schema, its references made absolute, so that it can stand alone."""
    if isinstance(value, dict):
        return {
            name: f"urn:stakelog:document{item}" if name == "$ref" else resolved(item) for name, item in value.items()
        }
    return [resolved(item) for item in value] if isinstance(value, list) else value


def test_every_example_of_the_document_is_what_the_document_says() -> None:
    registry: Registry[Any] = Registry().with_resource("urn:stakelog:document", DRAFT202012.create_resource(DOCUMENT))
    for operation, status, media_type, content in contents():
        assert content["examples"], (operation, status, media_type)
        validator = Draft202012Validator(resolved(content["schema"]), registry=registry)
        for example in content["examples"].values():
            name = example.get("$ref", "").rsplit("/", 1)[-1]
            validator.validate(DOCUMENT["components"]["examples"][name]["value"] if name else example["value"])


def test_every_parameter_of_a_path_is_declared_once_and_every_example_of_one_is_what_it_says() -> None:
    for path, operations in DOCUMENT["paths"].items():
        for operation in operations.values():
            found = operation["parameters"]
            names = [(one["in"], one["name"]) for one in found]
            assert len(names) == len(set(names)), path
            in_path = re.findall(r"{([a-z_]+)}", path)
            assert [name for where, name in names if where == "path"] == in_path, path
            for parameter in found:
                assert parameter["description"], (path, parameter)
                if "example" in parameter:
                    Draft202012Validator(parameter["schema"]).validate(parameter["example"])


def test_every_code_is_documented_with_an_example_under_its_status() -> None:
    documented: set[str] = set()
    for operation, status, media_type, content in contents():
        if media_type == MEDIA_TYPE:
            for code in content["examples"]:
                as_a_read = status == "404" and not operation.startswith("post /v1/commands") and code in NOT_THERE
                assert as_a_read or KINDS[code].status == int(status), (operation, code)
                documented.add(code)
    assert documented == set(KINDS)


def test_every_command_has_an_example_that_is_accepted_and_its_result() -> None:
    examples = DOCUMENT["components"]["examples"]
    for name, schema in zip(map(command_name, COMMAND_TYPES), command_schemas().values(), strict=True):
        command = examples[f"command.{name}"]["value"]
        Draft202012Validator(schema).validate(command)
        assert read_command(json.dumps(command).encode()).command.command_id == command["command_id"]
        assert examples[f"result.{name}"]["value"]["data"].items() >= {
            (key, value)
            for key, value in command.items()
            if key not in ("type", "command_id", "user_id", "metadata")
            and (value is not None or name == "set_limits")
        }


def test_every_component_is_used_and_every_reference_leads_somewhere() -> None:
    text = json.dumps(DOCUMENT)
    for kind, components in DOCUMENT["components"].items():
        for name in components:
            used = f'"#/components/{kind}/{name}"' if kind != "securitySchemes" else f'{{"{name}": []}}'
            assert used in text, f"{kind}/{name} is not used"
    for reference in {part.split('"')[0] for part in text.split('"$ref": "#/components/')[1:]}:
        kind, name = reference.split("/", 1)
        assert name in DOCUMENT["components"][kind], reference


# --- what readers in other languages need ----------------------------------------


def nodes(value: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object in the document, with its place."""
    if isinstance(value, dict):
        yield path, value
        for name, item in value.items():
            if name not in ("example", "examples", "value"):
                yield from nodes(item, f"{path}/{name}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from nodes(item, f"{path}/{number}")


def test_no_schema_needs_what_client_generators_lack() -> None:
    for path, node in nodes(DOCUMENT):
        assert "prefixItems" not in node, path
        assert node.get("items") is not False, path
        pattern = node.get("pattern", "")
        if isinstance(pattern, str):
            assert not re.search(r"\(\?[=!<]", pattern), path
            assert "\\Z" not in pattern, path


def test_no_two_components_have_one_name() -> None:
    kinds = ("schemas", "responses", "headers", "securitySchemes")
    names = [name.lower() for kind in kinds for name in DOCUMENT["components"][kind]]
    assert sorted(names) == sorted(set(names))


def test_every_operation_command_event_and_field_says_what_it_means() -> None:
    for path, operations in DOCUMENT["paths"].items():
        for operation in operations.values():
            assert operation["summary"], path
            assert operation["description"], path
            assert "Roles: " in operation["description"], path
    for name, schema in DOCUMENT["components"]["schemas"].items():
        assert schema["description"], name
        for field, member in schema.get("properties", {}).items():
            described = member.get("description") or "$ref" in member or "$ref" in member.get("items", {})
            assert described, f"{name}.{field}"
    for kind in (*COMMAND_TYPES, *DATA_TYPES):
        for field, member in DOCUMENT["components"]["schemas"][kind.__name__]["properties"].items():
            if field != "type" and "$ref" not in str(member) and member.get("type") != "object":
                assert member.get("examples") or "enum" in member, f"{kind.__name__}.{field}"


def test_a_command_is_one_of_all_types_by_its_type() -> None:
    command = DOCUMENT["components"]["schemas"]["Command"]
    assert command["discriminator"]["propertyName"] == "type"
    names = {f"#/components/schemas/{kind.__name__}" for kind in COMMAND_TYPES}
    assert set(command["discriminator"]["mapping"].values()) == names == {one["$ref"] for one in command["oneOf"]}


def test_every_error_is_a_response_by_reference_to_the_one_problem() -> None:
    for path, operations in DOCUMENT["paths"].items():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if int(status) >= 400 and "application/json" not in response.get("content", {}):
                    assert response["$ref"].startswith("#/components/responses/"), (path, status)
    for name, response in DOCUMENT["components"]["responses"].items():
        assert response["content"][MEDIA_TYPE]["schema"] == {"$ref": "#/components/schemas/Problem"}, name
    assert DOCUMENT["components"]["schemas"]["Problem"]["properties"]["code"]["enum"] == list(KINDS)


def test_the_document_is_ready_for_login() -> None:
    schemes = DOCUMENT["components"]["securitySchemes"]
    assert schemes["bearer"]["scheme"] == "bearer"
    assert "clientCredentials" in schemes["oauth2"]["flows"]
    for route in ROUTES:
        if route.operation:
            security = DOCUMENT["paths"][route.path][route.method.lower()]["security"]
            assert bool(security) == bool(route.roles), route.path
            assert set(route.roles) <= set(ROLES), route.path


@pytest.mark.system
def test_openapi_spec_validator_accepts_the_document() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()


def test_an_event_is_decoded_without_checking_what_was_decided() -> None:
    """Bounds of events go into the schemas only: checking a pattern costs more than decoding a small record."""
    for data in DATA_TYPES:
        for field in msgspec.structs.fields(data):
            found = msgspec.inspect.type_info(field.type)
            assert not constrained(found), f"{data.type}.{field.name}"


def constrained(kind: Any) -> bool:
    if isinstance(kind, msgspec.inspect.Metadata):
        return constrained(kind.type)
    if isinstance(kind, msgspec.inspect.UnionType):
        return any(constrained(one) for one in kind.types)
    return any(getattr(kind, name, None) is not None for name in ("pattern", "ge", "le", "max_length", "min_length"))
