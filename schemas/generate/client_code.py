"""The generated part of ``stakelog_client``: one method for each command and each read, their typed results, and one
exception for each code of a refusal. Written from ``openapi.json``, so it follows the published contract exactly.
"""

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from textwrap import wrap
from typing import Any, Final, NamedTuple

from api.http.problems import KINDS
from api.openapi.schemas import ref, schemas_of
from projections.models.bets import ChangedBet
from projections.models.periods import Outcome
from schemas.generate.document import document

FOLDER: Final = Path(__file__).parents[2] / "src" / "stakelog_client" / "generated"

CLIENT_FILES: Final = (
    *("blocking_commands.py", "blocking_reads.py", "commands.py", "models.py", "reads.py", "refusals.py"),
)

Schema = dict[str, Any]

_WIDTH: Final = 112
_OF_EVERY_COMMAND: Final = ("type", "command_id", "user_id", "metadata", "private")
_ANY_EVENT: Final = {"EventData", "Record"}
"""Schemas whose shape depends on the event's type: the caller gets a dictionary, and checks the type first."""

_OF_LIVE_FEEDS: Final = (ChangedBet, Outcome)
"""What only live feeds send. OpenAPI has no schemas for the events of a stream."""

_KEEPS_NULL: Final = {"SetLimits"}
"""In these commands null does not mean the same as an absent field."""

_BY_THE_CLIENT: Final = {"min_position", "timeout_ms", "If-None-Match"}
"""Parameters of reads that the client sends by itself, or does not need."""

_NOT_GENERATED: Final = {
    "getEvents",
    "getEvent",
    "getCommand",
    "getMetrics",
    "getSchema",
    "getOAuthMetadata",
    "getLive",
}
"""Reads that are written by hand, or that no client of the ledger needs."""

_RETRIED: Final = {408, 429}
"""Statuses below 500 that the client handles by itself: they say nothing about the command."""

_HEAD: Final = '"""{title}\n\nWritten by `make schemas` from openapi.json: do not edit.\n"""\n\n'


class _Argument(NamedTuple):
    """A field of a command, or a parameter of a read. `name` is its name in the contract."""

    name: str
    annotation: str
    required: bool
    description: str
    in_path: bool = False

    @property
    def python_name(self) -> str:
        return "event_type" if self.name == "type" else self.name


class _CommandMethod(NamedTuple):
    type: str
    description: str
    arguments: list[_Argument]
    keeps_null: bool


class _ReadMethod(NamedTuple):
    """`item`: the type of a list's items; empty if the read does not return a list."""

    name: str
    path: str
    result: str
    item: str
    description: str
    arguments: list[_Argument]


def client_code() -> dict[str, str]:
    """File name below ``FOLDER`` → content."""
    return _Writer(document()).files()


class _Writer:
    def __init__(self, document: Schema) -> None:
        self._schemas: dict[str, Schema] = {**document["components"]["schemas"], **schemas_of(_OF_LIVE_FEEDS)}
        self._paths: dict[str, Schema] = document["paths"]
        self._models: dict[str, Schema] = {}
        """The schemas that results refer to."""

    def files(self) -> dict[str, str]:
        commands = list(self._commands())
        reads = list(self._reads())
        for name in ("Result", *(kind.__name__ for kind in _OF_LIVE_FEEDS)):
            self._annotation(ref(name))
        used = ", ".join(sorted({name for read in reads for name in (read.result, read.item) if name}))
        parts = {
            "commands.py": _commands_file(commands, "async "),
            "blocking_commands.py": _commands_file(commands, ""),
            "reads.py": _reads_file(reads, used, "async "),
            "blocking_reads.py": _reads_file(reads, used, ""),
            "models.py": self._models_file(),
            "refusals.py": self._refusals_file(),
        }
        return {name: _formatted(text) for name, text in parts.items()}

    def _commands(self) -> Iterator[_CommandMethod]:
        for one in self._schemas["Command"]["oneOf"]:
            name = _name_of(one)
            schema = self._schemas[name]
            fields = [
                _Argument(field, self._annotation(kind), field in schema["required"], kind.get("description", ""))
                for field, kind in schema["properties"].items()
                if field not in _OF_EVERY_COMMAND
            ]
            command_type = schema["properties"]["type"]["enum"][0]
            yield _CommandMethod(command_type, schema["description"], fields, name in _KEEPS_NULL)

    def _reads(self) -> Iterator[_ReadMethod]:
        for path, operations in self._paths.items():
            operation = operations.get("get")
            if operation is None or operation["operationId"] in _NOT_GENERATED or not path.startswith("/v1/"):
                continue
            result = self._annotation(operation["responses"]["200"]["content"]["application/json"]["schema"])
            arguments = [
                _Argument(
                    parameter["name"],
                    self._annotation(parameter["schema"]),
                    parameter["required"],
                    parameter.get("description", ""),
                    parameter["in"] == "path",
                )
                for parameter in operation.get("parameters", ())
                if parameter["name"] not in _BY_THE_CLIENT
            ]
            members = self._schemas[result]["properties"]
            item = _name_of(members["items"]["items"]) if "next_cursor" in members else ""
            name = ("list_" if item else "get_") + _snake(operation["operationId"].removeprefix("get"))
            yield _ReadMethod(name, path, result, item, operation["summary"], arguments)

    def _annotation(self, schema: Schema) -> str:
        """The Python type of a JSON value. Notes each Struct that it names."""
        match schema:
            case {"$ref": _}:
                name = _name_of(schema)
                if name in _ANY_EVENT:
                    return "dict[str, Any]"
                target = self._schemas[name]
                if target.get("type") != "object" or "properties" not in target:
                    return self._annotation(target)
                if name not in self._models:
                    self._models[name] = target
                    for kind in target["properties"].values():
                        self._annotation(kind)
                return name
            case {"anyOf": kinds} | {"oneOf": kinds}:
                found = dict.fromkeys(self._annotation(kind) for kind in kinds)
                return " | ".join(sorted(found, key=lambda name: name == "None"))
            case {"type": "array"}:
                return f"list[{self._annotation(schema['items'])}]"
            case {"type": "object"}:
                values = schema.get("additionalProperties")
                return f"dict[str, {self._annotation(values) if isinstance(values, dict) else 'Any'}]"
            case {"type": "string"}:
                return "str"
            case {"type": "integer"}:
                return "int"
            case {"type": "number"}:
                return "float"
            case {"type": "boolean"}:
                return "bool"
            case {"type": "null"}:
                return "None"
        return "Any"

    def _models_file(self) -> str:
        text = _HEAD.format(title="The types of responses. Amounts are integers in the asset's minor unit.")
        text += "from __future__ import annotations\n\nfrom typing import Any\n\nfrom msgspec import Struct\n"
        for name in sorted(self._models):
            schema = self._models[name]
            members = schema["properties"]
            required = [field for field in members if field in schema.get("required", ())]
            optional = [field for field in members if field not in schema.get("required", ())]
            text += f"\n\nclass {name}(Struct, frozen=True, kw_only=True):\n"
            text += _docstring(schema.get("description", name), 4)
            for field in required:
                text += f"\n    {field}: {self._annotation(members[field])}\n" + _member_docstring(members[field])
            for field in optional:
                kind, default = self._annotation(members[field]), members[field].get("default")
                if default is None and "None" not in kind:
                    kind += " | None"
                text += f"\n    {field}: {kind} = {default!r}\n" + _member_docstring(members[field])
        return text

    def _refusals_file(self) -> str:
        text = _HEAD.format(title="One exception for each code that a request can be refused with.")
        text += "from typing import Final\n\nfrom stakelog_client.errors import Refused\n"
        refusals = {code: kind for code, kind in KINDS.items() if kind.status < 500 and kind.status not in _RETRIED}
        for code, kind in refusals.items():
            text += f"\n\nclass {_camel(code)}(Refused):\n" + _docstring(f"{kind.title} (status {kind.status}).", 4)
        text += "\n\nBY_CODE: Final[dict[str, type[Refused]]] = {\n"
        text += "".join(f'    "{code}": {_camel(code)},\n' for code in refusals) + "}\n"
        return text


def _commands_file(commands: Iterable[_CommandMethod], how: str) -> str:
    text = _HEAD.format(title=f"One method for each command, {'on asyncio' if how else 'blocking'}.")
    text += (
        "from collections.abc import Mapping\nfrom typing import Any\n\nfrom msgspec import UNSET, UnsetType\n\n"
        "from stakelog_client.generated.models import Proof, Result\n\n\n"
    )
    text += f"class {'' if how else 'Blocking'}Commands:\n"
    text += _docstring(
        "Each method posts one command and returns its event. `command_id`: the command's id; if None, the client "
        "makes one. If another process may have to post the same command again, pass an id that you have stored. "
        "`deadline_s`: how long to try; None: the client's deadline. Raises Refused by the code, "
        "OutcomeUnknown and Unavailable.",
        4,
    )
    text += (
        f"\n    {how}def post(self, command: Mapping[str, Any], *, deadline_s: float | None = None) -> Result:\n"
        '        """Post a command given as its JSON object."""\n        raise NotImplementedError\n'
    )
    return text + "".join(_command_method(command, how) for command in commands)


def _command_method(command: _CommandMethod, how: str) -> str:
    text = f"\n    {how}def {command.type}(\n        self,\n        user_id: str,\n        *,\n"
    for argument in sorted(command.arguments, key=lambda argument: not argument.required):
        kind = argument.annotation
        if argument.required:
            text += f"        {argument.name}: {kind},\n"
        elif command.keeps_null:
            text += f"        {argument.name}: UnsetType | {kind} = UNSET,\n"
        else:
            text += f"        {argument.name}: {_or_none(kind)} = None,\n"
    text += (
        "        command_id: str | None = None,\n        metadata: Mapping[str, str] | None = None,\n"
        "        private: Mapping[str, str] | None = None,\n        deadline_s: float | None = None,\n"
        "    ) -> Result:\n"
    )
    text += _method_docstring(command.description, command.arguments)
    text += f"        return {'await ' if how else ''}self.post(\n            {{\n"
    text += f'                "type": "{command.type}",\n                "user_id": user_id,\n'
    text += "".join(f'                "{argument.name}": {argument.name},\n' for argument in command.arguments)
    return text + (
        '                "command_id": command_id,\n                "metadata": metadata,\n'
        '                "private": private,\n            },\n            deadline_s=deadline_s,\n        )\n'
    )


def _reads_file(reads: Iterable[_ReadMethod], used: str, how: str) -> str:
    iterator = "AsyncIterator" if how else "Iterator"
    text = _HEAD.format(title=f"One method for each read, {'on asyncio' if how else 'blocking'}.")
    text += (
        f"from collections.abc import {iterator}, Mapping\nfrom typing import Any, TypeVar\n\n"
        f"from stakelog_client.generated.models import {used}\nfrom stakelog_client.paths import path_of\n\n"
        "T = TypeVar('T')\n\n\n"
    )
    text += f"class {'' if how else 'Blocking'}Reads:\n"
    text += _docstring(
        "A method that returns a list reads all its pages. A read of a user shows what this client has written for "
        "that user. `deadline_s`: how long to try, for each page of a list; None: the client's deadline. "
        "Raises Refused by the code, Unavailable, NotYetVisible.",
        4,
    )
    text += (
        f"\n    {how}def read(self, path: str, parameters: Mapping[str, Any], kind: type[T], user_id: str | None, "
        "deadline_s: float | None) -> T:\n"
        '        """Get one document. `user_id`: the user it is about; None: many users."""\n'
        "        raise NotImplementedError\n"
        "\n    def pages(self, path: str, parameters: Mapping[str, Any], kind: type[Any], item: type[T], "
        f"user_id: str | None, deadline_s: float | None) -> {iterator}[T]:\n"
        '        """The items of all pages of a list. `kind`: a page, with `items` of `item`."""\n'
        "        raise NotImplementedError\n"
    )
    return text + "".join(_read_method(read, how, iterator) for read in reads)


def _read_method(read: _ReadMethod, how: str, iterator: str) -> str:
    in_path = [argument for argument in read.arguments if argument.in_path]
    paging = ("cursor", "limit") if read.item else ()
    in_query = [argument for argument in read.arguments if not argument.in_path and argument.name not in paging]
    signature = "".join(f"        {argument.name}: {argument.annotation},\n" for argument in in_path)
    signature += "        *,\n"
    for argument in in_query:
        kind = argument.annotation if argument.required else f"{_or_none(argument.annotation)} = None"
        signature += f"        {argument.python_name}: {kind},\n"
    signature += "        deadline_s: float | None = None,\n"
    returns = f"{iterator}[{read.item}]" if read.item else read.result
    text = f"\n    {'' if read.item else how}def {read.name}(\n        self,\n{signature}    ) -> {returns}:\n"
    text += _method_docstring(f"{read.description}.", in_query)
    filled = "".join(f", {argument.name}={argument.name}" for argument in in_path)
    path = f'path_of("{read.path}"{filled})' if in_path else f'"{read.path}"'
    query = ", ".join(f'"{argument.name}": {argument.python_name}' for argument in in_query)
    whose = "user_id" if any(argument.name == "user_id" for argument in in_path) else "None"
    end = f"{whose}, deadline_s)\n"
    if read.item:
        return text + f"        return self.pages({path}, {{{query}}}, {read.result}, {read.item}, {end}"
    return text + f"        return {'await ' if how else ''}self.read({path}, {{{query}}}, {read.result}, {end}"


def _method_docstring(description: str, arguments: list[_Argument]) -> str:
    each = [f"`{argument.python_name}`: {argument.description}." for argument in arguments if argument.description]
    return _docstring(" ".join([description, *each]), 8)


def _or_none(annotation: str) -> str:
    return annotation if "None" in annotation else f"{annotation} | None"


def _name_of(schema: Schema) -> str:
    return str(schema["$ref"]).rpartition("/")[2]


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _camel(code: str) -> str:
    return "".join(word.capitalize() for word in code.split("_"))


def _docstring(text: str, indent: int) -> str:
    space = " " * indent
    text = text.replace("\\", "\\\\").replace("..", ".").strip()
    if len(text) + indent + 6 <= _WIDTH:
        return f'{space}"""{text}"""\n'
    lines = wrap(text, _WIDTH - indent - 3)
    return space + '"""' + f"\n{space}".join(lines) + f'\n{space}"""\n'


def _member_docstring(schema: Schema) -> str:
    return _docstring(schema["description"], 4) if schema.get("description") else ""


def _formatted(text: str) -> str:
    for command in (["check", "--select", "I,F401", "--fix", "-q"], ["format", "-q"]):
        done = subprocess.run(  # noqa: S603  # the formatter of this environment
            [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(FOLDER / "x.py"), "-"],
            input=text.encode(),
            capture_output=True,
            check=True,
        )
        text = done.stdout.decode()
    return text
