"""``docs/commands.md``: every command with its fields, its event and an example."""

import json
from typing import Any, Final

from api.openapi.schemas import command_name, command_schemas, data_schemas
from ledger.core.commands import COMMAND_TYPES
from ledger.core.events import COMMAND_OF
from schemas.generate.played import Example, first_of_each_type, play

_HEAD: Final = """\
# Commands

Written by `make schemas` from the code; the [API reference](api.md) has the responses, the
[error catalogue](errors.md) what to do when a command is refused. Words: [glossary](glossary.md).

A command is the JSON body of `POST /v1/commands`. Every command has `type`, `command_id` and `user_id`, and may have
`metadata` and `private`. Amounts are integers in the asset's minor unit. Fields with a star are required.

"""
_SHARED: Final = ("type", "command_id", "user_id", "metadata", "private")


def commands_page() -> str:
    """The page, as Markdown."""
    schemas, first = command_schemas(), first_of_each_type(play())
    events = {command: event for event, command in COMMAND_OF.items()}
    shared = schemas["OpenWallet"]
    parts = [_HEAD, "| field | meaning |\n| --- | --- |\n"]
    parts += [_row(name, shared) for name in _SHARED if name != "type"]
    for command in COMMAND_TYPES:
        name = command_name(command)
        parts.append(_section(name, events[name], schemas[command.__name__], first[name]))
    return "".join(parts)


def _section(name: str, event: str, schema: dict[str, Any], example: Example) -> str:
    fields = [field for field in schema["properties"] if field not in _SHARED]
    table = (
        "| field | meaning |\n| --- | --- |\n" + "".join(_row(field, schema) for field in fields) if fields else ""
    )
    body = json.dumps(example.command, ensure_ascii=False, indent=2)
    made = f"Event: [`{event}`](events.md#{event})."
    section = f"\n## {name}\n\n{schema['description']}\n\n{made}\n\n{table}\n```json\n{body}\n```\n"
    return section.replace("\n\n\n", "\n\n")


def _row(name: str, schema: dict[str, Any]) -> str:
    member = schema["properties"][name]
    if "description" not in member:  # it may be null: the description is that of its type
        member = next(one for one in member["anyOf"] if one != {"type": "null"})
    if "$ref" in member:  # an object of its own: its members, and what it is
        member = data_schemas()[member["$ref"].rpartition("/")[2]]
        members = ", ".join(f"`{name}`" for name in member["properties"])
        member = {"description": f"{member['description']} ({members})"}
    star = " \\*" if name in schema["required"] else ""
    return f"| `{name}`{star} | {member['description'].replace('|', chr(92) + '|')} |\n"
