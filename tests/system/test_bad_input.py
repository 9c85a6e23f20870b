"""To any bad input the service responds with the contract's problem, writes nothing, and keeps running."""

import gzip
import http.client
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from api.http.commands import BODY_MAX
from api.http.problems import KINDS
from system.service import Service

pytestmark = pytest.mark.system

HEADERS: Final = b"Host: stakelog\r\nContent-Type: application/json\r\n"
DEPOSIT: Final = (
    b'{"type":"deposit","command_id":"c-1","user_id":"u1","order_id":"o-1","asset":"INR","amount":%b,"metadata":%b}'
)


ODD_ID: Final = "a/b//%2F?#&+=%20"
ODD_IN_PATH: Final = "".join(f"%{byte:02X}" for byte in ODD_ID.encode()).encode()
HAS_DONE: Final[list[dict[str, Any]]] = [
    {"type": "deposit", "order_id": ODD_ID, "amount": 1_000},
    {"type": "place_bet", "bet_id": ODD_ID, "game": "external", "period": "p", "selection": "red", "stake": 5},
    {"type": "hold", "hold_id": ODD_ID, "amount": 5},
    {"type": "transfer", "transfer_id": ODD_ID, "to_user_id": "stranger", "amount": 5},
]
"""What u1 has, for the reads: one of each, under an id that a path must spell with care."""


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Service(tmp_path_factory.mktemp("bad-input") / "data", PARTITIONS="4") as service:
        assert post(service, b'{"type":"open_wallet","command_id":"c-0","user_id":"u1"}').status == 201
        for number, fields in enumerate(HAS_DONE, 1):
            done = {"command_id": f"done-{number}", "user_id": "u1", "asset": "INR", **fields}
            assert post(service, json.dumps(done).encode()).status == 201
        wait_until_returned(service)
        yield service
    assert "Traceback" not in service.log_text()
    assert "internal_error" not in service.log_text()


def wait_until_returned(service: Service) -> None:
    """Wait until the transfer to a stranger has returned, the last of all follow-ups, and the reads include it."""
    deadline_s = time.monotonic() + 30
    while True:
        answer = ask(service, b"/v1/wallets/u1/transfers/" + ODD_IN_PATH)
        if answer.status == 200 and answer.json()["status"] == "returned":
            return
        assert time.monotonic() < deadline_s, answer
        time.sleep(0.05)


@pytest.fixture
def service(running: Service) -> Iterator[Service]:
    """The running service; after the test it must stand where it stood, and take a command."""
    before = heads(running)
    yield running
    assert heads(running) == before, "a refused request has written something"
    assert post(running, command(b"5"), query="?dry_run=true").status == 200


# --- the client: bytes as they are, for a library would mend them ----------------------------------------


def send(service: Service, *parts: bytes, method: str = "POST", half_close: bool = False) -> Answer:
    """Send the parts, each by itself, and read one answer."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        for part in parts:
            connection.sendall(part)
            if len(parts) > 1:
                time.sleep(0.05)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        return read_answer(connection, method)


def read_answer(connection: socket.socket, method: str = "POST") -> Answer:
    answer = http.client.HTTPResponse(connection, method=method)
    try:
        answer.begin()
        return Answer(answer.status, {name.lower(): text for name, text in answer.getheaders()}, answer.read())
    finally:
        answer.close()


def post(
    service: Service, body: bytes, path: str = "/v1/commands", query: str = "", headers: bytes = HEADERS
) -> Answer:
    start = f"POST {path}{query} HTTP/1.1\r\nContent-Length: {len(body)}\r\n".encode()
    return send(service, start + headers + b"\r\n" + body)


def ask(service: Service, target: bytes, method: bytes = b"GET") -> Answer:
    return send(service, method + b" " + target + b" HTTP/1.1\r\nHost: stakelog\r\n\r\n", method=method.decode())


def heads(service: Service) -> Any:
    return ask(service, b"/v1/partitions").json()


def command(amount: bytes = b"5", metadata: bytes = b"null") -> bytes:
    return DEPOSIT % (amount, metadata)


def assert_problem(answer: Answer, code: str, field: str | None = None) -> None:
    """The whole shape of RFC 9457, as the contract has it."""
    assert answer.headers["content-type"] == "application/problem+json", answer
    problem = answer.json()
    kind = KINDS[code]
    assert (answer.status, problem["status"], problem["code"]) == (kind.status, kind.status, code), problem
    assert (problem["type"], problem["title"]) == (f"urn:stakelog:problem:{code}", kind.title)
    assert problem["detail"]
    assert problem.get("field") == field


# --- JSON ----------------------------------------

NOT_A_COMMAND: Final = {
    "nothing": b"",
    "spaces": b"  \n",
    "a number": b"5",
    "a text": b'"deposit"',
    "null": b"null",
    "an array": b"[%b]" % command(),
    "cut": command()[:-1],
    "two documents": command() + command(),
    "a NUL behind it": command() + b"\0",
    "single quotes": command().replace(b'"', b"'"),
    "a trailing comma": command()[:-1] + b",}",
    "a comment": b"/* */" + command(),
    "a byte order mark": b"\xef\xbb\xbf" + command(),
    "UTF-16": command().decode().encode("utf-16"),
    "UTF-16 without a mark": command().decode().encode("utf-16-le"),
    "100,000 open arrays": b"[" * 100_000,
    "100,000 arrays": b"[" * 100_000 + b"]" * 100_000,
    "100,000 open objects": b'{"a":' * 100_000,
}


@pytest.mark.parametrize("body", NOT_A_COMMAND.values(), ids=NOT_A_COMMAND)
def test_what_is_no_json_object_is_malformed(service: Service, body: bytes) -> None:
    assert_problem(post(service, body), "malformed_request")


@pytest.mark.parametrize(
    "member",
    [
        b'"amount":' + b"[" * 100_000 + b"]" * 100_000,
        b'"unknown":' + b"[" * 100_000,
        b'"metadata":' + b'{"a":' * 100_000,
    ],
    ids=["a known member", "an unknown member", "metadata"],
)
def test_a_member_that_is_nested_100_000_deep_is_malformed(service: Service, member: bytes) -> None:
    answer = post(service, b'{"type":"deposit",' + member + b"}")
    assert answer.status == 400
    assert answer.json()["code"] == "malformed_request"


@pytest.mark.parametrize(
    "body",
    [
        b'{"type":"open_wallet","command_id":"c-9","user_id":"u9"',
        b'{"command_id":"c-9","user_id":"u9"}',
        b'{"type":"no_such","command_id":"c-9","user_id":"u9"}',
        b'{"type":null,"command_id":"c-9","user_id":"u9"}',
        b'{"type":5,"command_id":"c-9","user_id":"u9"}',
        b'{"type":"Open_Wallet","command_id":"c-9","user_id":"u9"}',
        b'{"type":"receive_transfer","command_id":"~x:0","user_id":"u9"}',
        b'{"type":"wallet_opened","command_id":"c-9","user_id":"u9"}',
    ],
)
def test_a_type_that_is_none_is_malformed(service: Service, body: bytes) -> None:
    answer = post(service, body)
    assert (answer.status, answer.json()["code"]) == (400, "malformed_request")


# --- numbers ----------------------------------------

NO_INTEGERS: Final = [
    *(
        b"5.0",
        b"5e0",
        b"1E3",
        b"1e400",
        b"0.1",
        b"-0.0",
        b'"5"',
        b'""',
        b"true",
        b"false",
        b"null",
        b"[]",
        b"[5]",
        b"{}",
    ),
    *(b"9" * 5_000 + b".0", b"9" * 5_000 + b"e1", b"1e-5000"),
]
NO_JSON_NUMBERS: Final = [
    b"05",
    b"+5",
    b"5.",
    b".5",
    b"0x5",
    b"5_000",
    b"NaN",
    b"Infinity",
    b"-",
    b"--5",
    b"\xd9\xa5",
]
OUT_OF_RANGE: Final = [
    *(b"0", b"-0", b"-1", b"-9007199254740991", b"9007199254740992", b"9223372036854775807", b"9223372036854775808"),
    *(b"18446744073709551615", b"18446744073709551616", b"-9223372036854775809", b"9" * 100),
    *(b"9" * 5_000, b"-" + b"9" * 5_000, b"1" + b"0" * 1_000_000),
]


def short(value: bytes) -> str:
    return value[:20].decode(errors="replace") + ("…" if len(value) > 20 else "")


@pytest.mark.parametrize("amount", NO_INTEGERS, ids=short)
def test_an_amount_that_is_no_integer_is_malformed(service: Service, amount: bytes) -> None:
    assert_problem(post(service, command(amount)), "malformed_request", field="amount")


@pytest.mark.parametrize("amount", NO_JSON_NUMBERS, ids=short)
def test_an_amount_that_is_no_json_number_is_malformed(service: Service, amount: bytes) -> None:
    assert_problem(post(service, command(amount)), "malformed_request")


@pytest.mark.parametrize("amount", OUT_OF_RANGE, ids=short)
def test_an_integer_outside_the_range_is_refused_however_long(service: Service, amount: bytes) -> None:
    assert_problem(post(service, command(amount)), "amount_out_of_range", field="amount")


@pytest.mark.parametrize("bonus", [b"-1", b"9007199254740992", b"9" * 5_000], ids=short)
def test_a_bonus_outside_the_range_is_refused(service: Service, bonus: bytes) -> None:
    body = command().replace(b'"metadata":null', b'"bonus":' + bonus)
    assert_problem(post(service, body), "amount_out_of_range", field="bonus")


@pytest.mark.parametrize("time_us", [b"9007199254740992", b"-9007199254740992", b"9" * 5_000], ids=short)
def test_a_time_outside_of_what_json_keeps_exact_is_malformed(service: Service, time_us: bytes) -> None:
    body = b'{"type":"hold","command_id":"c-1","user_id":"u1","hold_id":"h","asset":"INR","amount":5,"expires_at_us":'
    assert_problem(post(service, body + time_us + b"}"), "malformed_request", field="expires_at_us")


def test_an_enormous_amount_beside_what_is_malformed_is_malformed(service: Service) -> None:
    enormous = b"9" * 5_000
    for metadata in (
        rb'{"a":"\ud800"}',
        rb'{"\udfff":"a"}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":"\xff"}',
        b"[" * 100_000,
    ):
        answer = post(service, command(enormous, metadata))
        assert (answer.status, answer.json()["code"]) == (400, "malformed_request"), metadata[:20]
    for metadata in (rb'{"a":"\u0007"}', rb'{"a":"1","\u0061":"2"}', rb'{"a":"\u007f"}'):
        assert_problem(post(service, command(enormous, metadata)), "malformed_request", "metadata")
    unknown = command(enormous).replace(b"metadata", rb"\ud800")
    assert_problem(post(service, unknown), "malformed_request")


# --- texts ----------------------------------------

NOT_UTF8: Final = [b"\xff", b"\xc3", b"\xc0\xaf", b"\xe2\x82", b"\xf5\x80\x80\x80", b"\xed\xa0\x80", b"\x80"]
CONTROL: Final = [
    *(rb"\u0000", rb"\n", rb"\t", rb"\u001f", rb"\u007f", b"\x7f", rb"\u0080", rb"\u009f"),
    *("\u0080".encode(), "\u0085".encode(), "\u009f".encode()),
]
LONE: Final = [rb"\ud800", rb"\udbff", rb"\udc00", rb"\ud800\u0041", rb"\ud800x", rb"\udc00\ud800", rb"a\udfff"]


@pytest.mark.parametrize("text", NOT_UTF8, ids=repr)
def test_what_is_not_utf8_is_malformed_wherever_it_stands(service: Service, text: bytes) -> None:
    for body in (
        command(metadata=b'{"a":"%b"}' % text),
        command(metadata=b'{"%b":"a"}' % text),
        command().replace(b"metadata", text),
        command().replace(b"INR", text),
        command().replace(b"deposit", text),
    ):
        answer = post(service, body)
        assert (answer.status, answer.json()["code"]) == (400, "malformed_request"), body


@pytest.mark.parametrize("text", CONTROL, ids=repr)
def test_a_control_character_is_malformed_wherever_it_stands(service: Service, text: bytes) -> None:
    for body, field in (
        (command(metadata=b'{"a":"x%by"}' % text), "metadata"),
        (command(metadata=b'{"x%by":"a"}' % text), "metadata"),
        (command().replace(b"INR", b"INR" + text), "asset"),
        (command().replace(b'"o-1"', b'"o-1%b"' % text), "order_id"),
        (command().replace(b'"u1"', b'"u1%b"' % text), "user_id"),
        (bet(b"selection", text), "selection"),
        (bet(b"period", text), "period"),
        (bet(b"game", text), "game"),
        (reason(text), "reason"),
    ):
        assert_problem(post(service, body), "malformed_request", field=field)


@pytest.mark.parametrize("text", [b"\n", b"\t", b"\x00", b"\x1f"], ids=repr)
def test_a_raw_control_character_is_no_json(service: Service, text: bytes) -> None:
    assert_problem(post(service, reason(text)), "malformed_request")


@pytest.mark.parametrize("text", LONE, ids=repr)
def test_a_lone_surrogate_is_malformed_wherever_it_stands(service: Service, text: bytes) -> None:
    for body in (
        command(metadata=b'{"a":"%b"}' % text),
        command(metadata=b'{"%b":"a"}' % text),
        command().replace(b"metadata", text),
        reason(text),
    ):
        answer = post(service, body)
        assert (answer.status, answer.json()["code"]) == (400, "malformed_request"), body


def bet(member: bytes, text: bytes) -> bytes:
    members = {b"game": b"external", b"period": b"p", b"selection": b"s"} | {member: b"x%by" % text}
    rest = b",".join(b'"%b":"%b"' % item for item in members.items())
    return b'{"type":"place_bet","command_id":"c-1","user_id":"u1","bet_id":"b","asset":"INR","stake":5,%b}' % rest


def reason(text: bytes) -> bytes:
    return b'{"type":"freeze_wallet","command_id":"c-1","user_id":"u1","reason":"x%by"}' % text


def test_texts_are_measured_in_code_points(service: Service) -> None:
    freeze = {"type": "freeze_wallet", "command_id": "c-1", "user_id": "u1"}
    for character in ("a", "é", "€", "😀"):
        right = json.dumps(freeze | {"reason": character * 500}, ensure_ascii=False).encode()
        assert post(service, right, query="?dry_run=true").status == 200
        wrong = json.dumps(freeze | {"reason": character * 501}).encode()
        assert_problem(post(service, wrong, query="?dry_run=true"), "malformed_request", field="reason")


@pytest.mark.parametrize(
    ("metadata", "taken"),
    [
        ({str(n): "" for n in range(16)}, True),
        ({str(n): "" for n in range(17)}, False),
        ({"k" * 64: "v" * 512}, True),
        ({"k" * 65: "v"}, False),
        ({"k": "v" * 513}, False),
        ({"k": 5}, False),
        ({"k": None}, False),
        ({"k": {"nested": "map"}}, False),
        ({"": ""}, True),
        ([], False),
        ("text", False),
    ],
)
def test_metadata_is_a_small_flat_map_of_strings(service: Service, metadata: Any, taken: bool) -> None:
    answer = post(service, command(metadata=json.dumps(metadata).encode()), query="?dry_run=true")
    assert answer.status == (200 if taken else 400), answer


@pytest.mark.parametrize(
    "user_id", ["", "-a", ".a", "a b", "a/b", "a\\u00e9", "a" * 65, "game:x", "partition:0", "u1\\n", "ａ", "u1%"]
)
def test_a_malformed_user_id_is_named(service: Service, user_id: str) -> None:
    body = command().replace(b'"u1"', f'"{user_id}"'.encode())
    assert_problem(post(service, body), "malformed_request", field="user_id")


@pytest.mark.parametrize("identifier", ["", "~own", "a b", "a" * 129, "é", "a\\n", "\\u0000"])
@pytest.mark.parametrize("member", ["command_id", "order_id"])
def test_a_malformed_id_is_named(service: Service, member: str, identifier: str) -> None:
    values = {"command_id": "c-1", "order_id": "o-1"} | {member: identifier}
    rest = ",".join(f'"{name}":"{value}"' for name, value in values.items())
    body = f'{{"type":"deposit","user_id":"u1","asset":"INR","amount":5,{rest}}}'.encode()
    assert_problem(post(service, body), "malformed_request", field=member)


# --- members ----------------------------------------

TWICE: Final = {
    "amount": (b'"amount":5,"amount":5', "amount"),
    "amount, then another": (b'"amount":5,"amount":500', "amount"),
    "an escaped name": (rb'"amount":5,"am\u006funt":500', "amount"),
    "an escaped name first": (rb'"am\u006funt":5,"amount":500', "amount"),
    "a null": (b'"amount":5,"bonus":null,"bonus":5', "bonus"),
    "a null last": (b'"amount":5,"bonus":5,"bonus":null', "bonus"),
    "nulls": (b'"amount":5,"bonus":null,"bonus":null', "bonus"),
    "type": (b'"amount":5,"type":"deposit"', "type"),
    "user_id": (b'"amount":5,"user_id":"u1"', "user_id"),
    "metadata": (b'"amount":5,"metadata":{},"metadata":{}', "metadata"),
    "in metadata": (b'"amount":5,"metadata":{"a":"1","a":"1"}', "metadata"),
    "in metadata, escaped": (rb'"amount":5,"metadata":{"a":"1","\u0061":"2"}', "metadata"),
    "with an enormous amount": (b'"amount":5,"amount":' + b"9" * 5_000, "amount"),
    "a hundred thousand times": (b'"amount":5,"metadata":{' + b",".join([b'"a":""'] * 100_000) + b"}", "a"),
}


@pytest.mark.parametrize(("members", "field"), TWICE.values(), ids=TWICE)
def test_a_member_that_is_given_twice_is_named(service: Service, members: bytes, field: str) -> None:
    body = b'{"type":"deposit","command_id":"c-1","user_id":"u1","order_id":"o-1","asset":"INR",%b}' % members
    assert_problem(post(service, body), "malformed_request", field=field)


@pytest.mark.parametrize(
    ("member", "field"),
    [(b'"unknown":null', "unknown"), (b'"Amount":5', "Amount"), (b'"":5', ""), (b'"actor":"u1"', "actor")],
)
def test_an_unknown_member_is_named(service: Service, member: bytes, field: str) -> None:
    assert_problem(post(service, command()[:-1] + b"," + member + b"}"), "malformed_request", field=field)


@pytest.mark.parametrize("member", ["command_id", "user_id", "order_id", "asset", "amount"])
def test_a_member_that_is_missing_or_null_is_named(service: Service, member: str) -> None:
    values = json.loads(command())
    values[member] = None
    assert_problem(post(service, json.dumps(values).encode()), "malformed_request", field=member)
    del values[member]
    assert_problem(post(service, json.dumps(values).encode()), "malformed_request", field=member)


def test_null_means_absent(service: Service) -> None:
    for text in (b'{"metadata":null,"bonus":null,', b"{"):
        body = command().replace(b',"metadata":null', b"").replace(b"{", text)
        assert post(service, body, query="?dry_run=true").json()["data"] == {
            "amount": 5,
            "asset": "INR",
            "first_deposit": False,
            "order_id": "o-1",
        }


# --- headers and bodies ----------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        b"",
        b"Content-Type:\r\n",
        b"Content-Type: text/plain\r\n",
        b"Content-Type: application/json; charset=utf-16\r\n",
        b"Content-Type: application/jsonx\r\n",
        b"Content-Type: application/problem+json\r\n",
        b"Content-Type: application/x-www-form-urlencoded\r\n",
        b"Content-Type: multipart/form-data; boundary=x\r\n",
        b"Content-Type: application/json, text/plain\r\n",
        b"Content-Type: \xff\r\n",
    ],
)
@pytest.mark.parametrize("path", ["/v1/commands", "/v1/commands/batch"])
def test_a_body_that_is_not_said_to_be_json_is_refused(service: Service, path: str, headers: bytes) -> None:
    answer = post(service, command(), path, headers=b"Host: stakelog\r\n" + headers)
    assert_problem(answer, "unsupported_media_type")


@pytest.mark.parametrize(
    "media_type", [b"APPLICATION/JSON", b"application/json; charset=utf-8", b"application/json;x"]
)
def test_json_may_be_said_in_many_ways(service: Service, media_type: bytes) -> None:
    headers = b"Host: stakelog\r\nContent-Type: " + media_type + b"\r\n"
    assert post(service, command(), query="?dry_run=true", headers=headers).status == 200


@pytest.mark.parametrize("coding", [b"gzip", b"br", b"deflate", b"gzip, identity"])
def test_a_compressed_body_is_refused(service: Service, coding: bytes) -> None:
    headers = HEADERS + b"Content-Encoding: " + coding + b"\r\n"
    assert_problem(post(service, gzip.compress(command()), headers=headers), "unsupported_media_type")


def test_a_compressed_transfer_is_refused(service: Service) -> None:
    start = b"POST /v1/commands HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n" + HEADERS + b"\r\n"
    assert_problem(send(service, start + chunk(gzip.compress(command())) + chunk(b"")), "unsupported_media_type")


@pytest.mark.parametrize("actor", [b"", b"ledger", b"~ledger", b"a b", b"a\xff", b"game:x", b"a" * 65])
def test_a_malformed_or_reserved_actor_is_named(service: Service, actor: bytes) -> None:
    headers = HEADERS + b"Stakelog-Actor: " + actor + b"\r\n"
    for path, body in (("/v1/commands", command()), ("/v1/commands/batch", b"[%b]" % command())):
        assert_problem(post(service, body, path, headers=headers), "malformed_request", field="Stakelog-Actor")


def test_a_body_of_exactly_8_mib_is_taken(service: Service) -> None:
    body = command().rjust(BODY_MAX)
    assert len(body) == BODY_MAX
    assert post(service, body, query="?dry_run=true").status == 200


@pytest.mark.parametrize("size", [BODY_MAX + 1, 10_000_000, 40_000_000])
@pytest.mark.parametrize("path", ["/v1/commands", "/v1/commands/batch"])
def test_a_body_over_8_mib_is_too_large(service: Service, path: str, size: int) -> None:
    assert_problem(post(service, command().rjust(size), path), "request_too_large")


@pytest.mark.parametrize("path", [b"/v1/commands", b"/v1/commands/batch"])
def test_a_body_over_8_mib_that_does_not_say_its_length_is_too_large(service: Service, path: bytes) -> None:
    start = b"POST " + path + b" HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + HEADERS + b"\r\n"
    body = chunk(b" " * 100_000) * 100 + chunk(command()) + chunk(b"")
    assert_problem(send(service, start + body), "request_too_large")


def test_a_client_that_announces_much_and_sends_little_gets_its_response_at_once(service: Service) -> None:
    began_s = time.monotonic()
    start = b"POST /v1/commands HTTP/1.1\r\nContent-Length: 999999999999\r\n" + HEADERS + b"\r\n{"
    assert_problem(send(service, start), "request_too_large")
    assert time.monotonic() - began_s < 20, "the time limit of a body is 25 s"


def test_a_big_body_where_none_is_wanted_does_not_hide_the_response(service: Service) -> None:
    body = b" " * 10_000_000
    assert_problem(post(service, body, "/v1/nothing"), "not_found")
    assert_problem(post(service, body, "/v1/partitions"), "method_not_allowed")
    assert_problem(post(service, body, headers=b"Host: stakelog\r\n"), "unsupported_media_type")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def test_a_body_in_chunks_is_taken(service: Service) -> None:
    start = b"POST /v1/commands?dry_run=true HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + HEADERS + b"\r\n"
    body = command()
    assert send(service, start, chunk(body[:9]), chunk(body[9:]), chunk(b"")).status == 200


def test_a_body_in_slow_pieces_is_taken(service: Service) -> None:
    start = b"POST /v1/commands?dry_run=true HTTP/1.1\r\nContent-Length: %d\r\n" % len(command()) + HEADERS + b"\r\n"
    parts = [(start + command())[at : at + 20] for at in range(0, len(start + command()), 20)]
    assert send(service, *parts).status == 200


# --- half requests and no requests ----------------------------------------


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: 1000\r\n\r\n",
        b"Content-Length: 1000\r\n\r\n{",
        b"Content-Length: 1000\r\n\r\n" + command(),
        b"Transfer-Encoding: chunked\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n" + chunk(command()),
        b"Transfer-Encoding: chunked\r\n\r\nffff\r\n" + command(),
        b"Transfer-Encoding: chunked\r\n\r\nno length\r\n",
    ],
    ids=repr,
)
def test_a_body_that_ends_early_is_malformed_even_where_what_came_is_a_command(service: Service, rest: bytes) -> None:
    start = b"POST /v1/commands HTTP/1.1\r\n" + HEADERS + rest
    assert_problem(send(service, start, half_close=True), "malformed_request")
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        connection.sendall(start)  # the client hangs up before a response


@pytest.mark.parametrize(
    "start", [b"P", b"POST /v1/commands HTTP/1.1\r\n", b"POST /v1/commands HTTP/1.1\r\n" + HEADERS]
)
def test_a_request_that_ends_in_its_headers_harms_no_other_request(service: Service, start: bytes) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        connection.sendall(start)
        connection.shutdown(socket.SHUT_WR)
        assert b"HTTP/1.1 2" not in connection.recv(1_000)


@pytest.mark.parametrize(
    "garbage",
    [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100,  # a TLS client
        b"\x00" * 1_000,
        b"\xff" * 1_000,
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /healthz\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: stakelog\r\nno colon\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: stakelog\r\nX: " + b"a" * 1_000_000,
        b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: stakelog\r\n\r\n",
        b"POST /v1/commands HTTP/1.1\r\nContent-Length: -1\r\n" + HEADERS + b"\r\n" + command(),
        b"POST /v1/commands HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n" + HEADERS + b"\r\n" + command(),
        b"POST /v1/commands HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n" + HEADERS + b"\r\n" + command(),
    ],
    ids=short,
)
def test_garbage_instead_of_http_is_refused_by_the_server_itself(service: Service, garbage: bytes) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        try:
            connection.sendall(garbage)
            said = connection.recv(1_000)
        except ConnectionError:
            said = b""
    assert said == b"" or said.startswith(b"HTTP/1.1 4"), said


def test_pipelined_requests_get_their_responses_in_order(service: Service) -> None:
    refused = [b"0", b"5.0", b"9" * 5_000, b"5"]
    requests = [
        b"POST /v1/commands?dry_run=true HTTP/1.1\r\nContent-Length: %d\r\n" % len(body) + HEADERS + b"\r\n" + body
        for body in map(command, refused)
    ]
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        connection.sendall(b"".join(requests) + b"GET /v1/nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answered = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert [int(part[:3]) for part in answered.split(b"HTTP/1.1 ")[1:]] == [422, 400, 422, 200, 404]


# --- methods, paths, queries ----------------------------------------

ROUTES: Final = {
    b"/v1/commands": "POST",
    b"/v1/commands/batch": "POST",
    b"/v1/commands/u1/c-0": "GET",
    b"/v1/wallets/u1": "GET",
    b"/v1/wallets/u1/balance": "GET",
    b"/v1/wallets/u1/history": "GET",
    b"/v1/wallets/u1/bets": "GET",
    b"/v1/wallets/u1/bets/" + ODD_IN_PATH: "GET",
    b"/v1/wallets?prefix=u1": "GET",
    b"/v1/wallets/u1/holds": "GET",
    b"/v1/wallets/u1/transfers": "GET",
    b"/v1/wallets/u1/grants": "GET",
    b"/v1/wallets/u1/holds/" + ODD_IN_PATH: "GET",
    b"/v1/wallets/u1/transfers/" + ODD_IN_PATH: "GET",
    b"/v1/wallets/u1/stats": "GET",
    b"/v1/wallets/u1/referrals": "GET",
    b"/v1/orders": "GET",
    b"/v1/adjustments": "GET",
    b"/v1/orders/u1/" + ODD_IN_PATH: "GET",
    b"/v1/partitions": "GET",
    b"/v1/events": "GET",
    b"/v1/events/0:1": "GET",
    b"/healthz": "GET",
    b"/readyz": "GET",
    b"/metrics": "GET",
    b"/schema": "GET",
}


@pytest.mark.parametrize("method", [b"PUT", b"DELETE", b"PATCH", b"HEAD", b"TRACE", b"NONSENSE", b"GET", b"POST"])
@pytest.mark.parametrize("path", ROUTES, ids=bytes.decode)
def test_a_method_that_is_not_there_is_refused_and_the_right_one_named(
    service: Service, path: bytes, method: bytes
) -> None:
    if method.decode() == ROUTES[path] or (method, ROUTES[path]) == (b"HEAD", "GET"):
        return
    answer = ask(service, path, method)
    assert (answer.status, answer.headers["allow"].split(", ")[0]) == (405, ROUTES[path])
    if method != b"HEAD":
        assert_problem(answer, "method_not_allowed")


@pytest.mark.parametrize("path", [path for path, method in ROUTES.items() if method == "GET"], ids=bytes.decode)
def test_head_is_allowed_wherever_get_is_and_ends_with_the_headers(service: Service, path: bytes) -> None:
    head = b"HEAD " + path + b" HTTP/1.1\r\nHost: stakelog\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        connection.sendall(head)
        sent = b"".join(iter(lambda: connection.recv(65_536), b""))
    start, _, body = sent.partition(b"\r\n\r\n")
    got = ask(service, path)
    assert (int(start.split()[1]), body) == (got.status, b"")
    assert b"content-type: " + got.headers["content-type"].encode() in start.lower().split(b"\r\n")
    assert b"content-length: " in start.lower()


@pytest.mark.parametrize(
    "path",
    [
        *(b"/v1", b"/v2/commands", b"/v1/wallets/", b"/v1/commands/u1", b"/v1/commands/u1/"),
        *(
            b"/V1/partitions",
            b"/v1/partitions/0",
            b"/v1/wallets/u1/nothing",
            b"/../etc/passwd",
            b"/v1/%2e%2e/healthz",
        ),
        *(b"/healthz/x", b"//v1/wallets/u1", b"/%00", b"/" + b"a" * 10_000),
        *(b"/v1/wallets/u1/", b"/v1/wallets//u1", b"/v1/wallets/u1/bets/", b"/v1/orders/u1/", b"/v1/partitions/"),
    ],
    ids=short,
)
def test_an_unknown_path_is_not_found(service: Service, path: bytes) -> None:
    assert_problem(ask(service, path), "not_found")


def test_ids_in_paths_are_percent_decoded(service: Service) -> None:
    assert ask(service, b"/v1/wallets/%75%31").json()["user_id"] == "u1"
    assert ask(service, b"/v1/commands/%75%31/c%2D0").json()["position"]


def test_an_id_keeps_its_slashes_and_signs(running: Service) -> None:
    body = {"type": "open_wallet", "command_id": ODD_ID, "user_id": "batch"}
    first = post(running, json.dumps(body).encode())
    assert first.status == 201
    assert ask(running, b"/v1/commands/batch/" + ODD_IN_PATH).json() == first.json()
    assert_problem(ask(running, b"/v1/commands/batch/a/b"), "not_found")
    for path in (b"wallets/u1/bets/", b"wallets/u1/holds/", b"wallets/u1/transfers/", b"orders/u1/"):
        answer = ask(running, b"/v1/" + path + ODD_IN_PATH)
        assert (answer.status, ODD_ID in answer.json().values()) == (200, True), answer
        assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "path",
    [
        *(b"/v1/wallets/%ff", b"/v1/wallets/%00", b"/v1/wallets/%zz", b"/v1/wallets/%", b"/v1/wallets/u1%2F"),
        *(b"/v1/wallets/u1%0A", b"/v1/wallets/game:x", b"/v1/wallets/~", b"/v1/wallets/" + b"a" * 65),
        *(b"/v1/wallets/u1%2F%2F", b"/v1/wallets/%2Fu1", b"/v1/wallets/%C3%A9"),
        *(b"/v1/commands/%ff/c-0", b"/v1/commands/game:x/c-0"),
    ],
)
def test_a_malformed_user_id_in_a_path_is_named(service: Service, path: bytes) -> None:
    assert_problem(ask(service, path), "malformed_request", field="user_id")


@pytest.mark.parametrize("command_id", [b"%ff", b"%20", b"%00", b"a" * 129, b"%C3%A9"])
def test_a_malformed_command_id_in_a_path_is_named(service: Service, command_id: bytes) -> None:
    assert_problem(ask(service, b"/v1/commands/u1/" + command_id), "malformed_request", field="command_id")


@pytest.mark.parametrize(
    "position", [b"x", b"0", b"0:0", b"0:01", b"-1:1", b"0:-1", b"0:1:1", b"%D9%A0:1", b"0:1%0A", b":"]
)
def test_a_malformed_position_in_a_path_is_named(service: Service, position: bytes) -> None:
    assert_problem(ask(service, b"/v1/events/" + position), "malformed_request", field="position")


@pytest.mark.parametrize("position", [b"0:999", b"3:9007199254740991", b"0:9999999999999999", b"9999:1"])
def test_a_position_without_an_event_is_not_found(service: Service, position: bytes) -> None:
    assert_problem(ask(service, b"/v1/events/" + position), "event_not_found")


def test_reads_of_what_is_not_there_are_not_found(service: Service) -> None:
    assert_problem(ask(service, b"/v1/wallets/stranger"), "wallet_not_found")
    for rest in (b"balance", b"history", b"bets", b"bets/b", b"holds", b"transfers/t", b"stats", b"referrals"):
        assert_problem(ask(service, b"/v1/wallets/stranger/" + rest), "wallet_not_found")
    assert_problem(ask(service, b"/v1/wallets/u1/transfers/%2F"), "transfer_not_found")
    for path in (b"wallets/u1/bets/%2F", b"wallets/u1/holds/%2F", b"orders/u1/%2F"):
        answer = ask(service, b"/v1/" + path)
        assert (answer.status, answer.json()["status"]) == (404, 404)
        assert answer.json()["code"] in ("bet_not_found", "hold_not_found", "order_not_found")
    assert_problem(ask(service, b"/v1/commands/u1/never"), "not_found")


@pytest.mark.parametrize("path", [path for path, method in ROUTES.items() if method == "GET"], ids=bytes.decode)
def test_an_unknown_query_parameter_is_named(service: Service, path: bytes) -> None:
    start = path + (b"&" if b"?" in path else b"?")
    assert_problem(ask(service, start + b"unknown=1"), "malformed_request", field="unknown")
    assert_problem(ask(service, start + b"%75nknown"), "malformed_request", field="unknown")
    assert_problem(ask(service, start + b"x=%ff"), "malformed_request")


@pytest.mark.parametrize("path", ["/v1/commands", "/v1/commands/batch"])
def test_a_malformed_dry_run_never_becomes_a_command(service: Service, path: str) -> None:
    body = command() if path == "/v1/commands" else b"[%b]" % command()
    for query in ("?dry_run", "?dry_run=", "?dry_run=1", "?dry_run=TRUE", "?dry_run=true&dry_run=true"):
        assert_problem(post(service, body, path, query), "malformed_request", field="dry_run")
    assert_problem(post(service, body, path, "?dryrun=true"), "malformed_request", field="dryrun")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        (b"", "partition"),
        (b"?partition=", "partition"),
        (b"?partition=4", "partition"),
        (b"?partition=-1", "partition"),
        (b"?partition=+1", "partition"),
        (b"?partition=1.0", "partition"),
        (b"?partition=%D9%A1", "partition"),
        (b"?partition=0&partition=0", "partition"),
        (b"?partition=0&from_seq=0", "from_seq"),
        (b"?partition=0&from_seq=" + b"9" * 5_000, "from_seq"),
        (b"?partition=0&limit=0", "limit"),
        (b"?partition=0&limit=10001", "limit"),
    ],
)
def test_a_malformed_query_of_events_is_named(service: Service, query: bytes, field: str) -> None:
    assert_problem(ask(service, b"/v1/events" + query), "malformed_request", field=field)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        (b"?min_position=", "min_position"),
        (b"?min_position=x", "min_position"),
        (b"?min_position=1", "min_position"),
        (b"?min_position=9999:1", "min_position"),
        (b"?timeout_ms=10001", "timeout_ms"),
        (b"?timeout_ms=-1", "timeout_ms"),
        (b"?consistency=weak", "consistency"),
        (b"?consistency=strong&consistency=strong", "consistency"),
    ],
)
def test_a_malformed_query_of_a_wallet_is_named(service: Service, query: bytes, field: str) -> None:
    assert_problem(ask(service, b"/v1/wallets/u1" + query), "malformed_request", field=field)


@pytest.mark.parametrize(
    ("target", "field"),
    [
        (b"wallets/u1/balance?at_us=" + b"9" * 5_000, "at_us"),
        (b"wallets/u1/balance?at_us=9007199254740992", "at_us"),
        (b"wallets/u1/balance?at_us=1.0", "at_us"),
        (b"wallets/u1/history?from_us=-9007199254740992", "from_us"),
        (b"wallets/u1/history?to_us=18446744073709551616", "to_us"),
        (b"wallets/u1/history?type=nothing", "type"),
        (b"wallets/u1/history?asset=%00", "asset"),
        (b"wallets/u1/history?game=%C2%85", "game"),
        (b"wallets/u1/bets?status=pending", "status"),
        (b"wallets/u1/bets?period=" + b"p" * 129, "period"),
        (b"wallets/u1/holds?status=open", "status"),
        (b"wallets/u1/stats?min_position=0:1&min_position=0:1", "min_position"),
        (b"orders?kind=refund", "kind"),
        (b"orders?status=open", "status"),
        (b"orders?kind=deposit&status=pending", "status"),
        (b"adjustments?status=pending", "status"),
        (b"wallets?user_id=u1&user_id=~", "user_id"),
        (b"wallets?" + b"&".join([b"user_id=u1"] * 101), "user_id"),
        (b"wallets?prefix=~", "prefix"),
        (b"orders?min_position=4:1", "min_position"),
        *(
            (path + b"?limit=" + limit, "limit")
            for path in (b"orders", b"wallets/u1/bets")
            for limit in (b"0", b"201")
        ),
        *(
            (path + b"?cursor=" + cursor, "cursor")
            for path in (b"orders", b"wallets/u1/history", b"wallets/u1/bets", b"wallets/u1/holds")
            for cursor in (b"", b"x", b"A" * 30_000, b"%00", b"%C3%A9", b"k8QIMTIzNDU2Nzgrkaz_kA", b"kaH_")
        ),
        (b"wallets/u1/bets/~1", "bet_id"),
        (b"wallets/u1/holds/%20", "hold_id"),
        (b"wallets/u1/transfers/%ff", "transfer_id"),
        (b"orders/u1/" + b"a" * 129, "order_id"),
        (b"orders/game:x/o", "user_id"),
        (b"wallets/a%2Fb/stats", "user_id"),
    ],
)
def test_a_malformed_read_is_named(service: Service, target: bytes, field: str) -> None:
    assert_problem(ask(service, b"/v1/" + target), "malformed_request", field=field)


def test_a_position_that_is_not_reached_is_not_yet_visible(service: Service) -> None:
    partition = ask(service, b"/v1/wallets/u1").json()["as_of"]["position"].split(":")[0].encode()
    query = b"?timeout_ms=20&min_position=" + partition + b":9007199254740991"
    answer = ask(service, b"/v1/wallets/u1" + query)
    assert_problem(answer, "not_yet_visible")


# --- batches ----------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{}", b"null", b'"x"', b"5", command(), b"[]", b"[%b" % command(), b"[%b,]" % command()),
        *(b"[" + b",".join([command()] * 1_001) + b"]", b"[" + b"0," * 2_000_000 + b"0]", b"[" * 100_000),
        *(b"\xef\xbb\xbf[]", b"[\xff]"),
    ],
    ids=short,
)
def test_what_is_no_array_of_1_to_1000_is_refused_whole(service: Service, body: bytes) -> None:
    assert_problem(post(service, body, "/v1/commands/batch"), "malformed_request")


MALFORMED_ELEMENTS: Final = [
    *(b"[" * 100_000 + b"]" * 100_000, command(metadata=b'{"a":' * 5_000 + b"1" + b"}" * 5_000)),
    *(b"null", b"5", b'"x"', b"[]", b"{}", b"[[[]]]", b'{"type":"no_such","command_id":"c","user_id":"u1"}'),
    *(command(b"5.0"), command(metadata=b'{"a":"1","a":"2"}'), command(metadata=rb'{"a":"\u0007"}')),
    *(command()[:-1] + b',"unknown":1}', command().replace(b'"u1"', b'"game:x"'), command(metadata=rb'{"a":"\n"}')),
]


def test_a_malformed_element_gets_its_own_problem_and_the_others_are_taken(service: Service) -> None:
    refused = [*MALFORMED_ELEMENTS, command(b"9" * 5_000), command().replace(b"INR", b"XXX")]
    elements = [part for element in refused for part in (element, command())]
    answer = post(service, b"[" + b" , ".join(elements) + b"]", "/v1/commands/batch", "?dry_run=true")
    assert answer.status == 200
    items = answer.json()
    assert len(items) == len(elements)
    for item in items[1::2]:
        assert item["status"] == 200
        assert item["result"]["dry_run"] is True
    codes = ["malformed_request"] * len(MALFORMED_ELEMENTS) + ["amount_out_of_range", "unknown_asset"]
    for item, code in zip(items[::2], codes, strict=True):
        problem = item["problem"]
        assert (item["status"], problem["status"], problem["code"]) == (KINDS[code].status, KINDS[code].status, code)
        assert problem["type"] == f"urn:stakelog:problem:{code}"
        assert problem["title"]
        assert problem["detail"]


def test_a_batch_of_malformed_elements_only_gets_a_response_for_each_element(service: Service) -> None:
    items = post(service, b"[" + b",".join([b"0"] * 1_000) + b"]", "/v1/commands/batch").json()
    assert [item["status"] for item in items] == [400] * 1_000


def test_commands_beside_malformed_ones_are_written(running: Service) -> None:
    opened = [b'{"type":"open_wallet","command_id":"c-0","user_id":"b%d"}' % n for n in range(3)]
    items = post(running, b"[" + b",{},".join(opened) + b"]", "/v1/commands/batch").json()
    assert [item["status"] for item in items] == [201, 400, 201, 400, 201]
    for n in (0, 1, 2):
        assert ask(running, b"/v1/wallets/b%d" % n).json()["status"] == "open"


# --- stopping ----------------------------------------


def test_half_requests_do_not_keep_the_service_from_stopping_well(tmp_path: Path) -> None:
    service = Service(tmp_path / "data", PARTITIONS="1")
    service.start()
    start = b"POST /v1/commands HTTP/1.1\r\n" + HEADERS + b"Content-Length: 100\r\n\r\n"
    with (
        socket.create_connection(("127.0.0.1", service.port), timeout=20) as silent,
        socket.create_connection(("127.0.0.1", service.port), timeout=20) as half_header,
        socket.create_connection(("127.0.0.1", service.port), timeout=20) as half_body,
    ):
        half_header.sendall(start[:9])
        half_body.sendall(start + b"{")
        time.sleep(0.2)
        service.stop()
        assert_problem(read_answer(half_body), "shutting_down")
        assert silent.recv(1) == b""
