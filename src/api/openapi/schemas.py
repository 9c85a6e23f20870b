"""The named schemas of the document, from the Structs of commands, events, responses and documents.

msgspec makes a schema from a Struct and its ``Meta``. What is published differs in a few ways, because readers
in other languages need it:
(1) patterns have no look-around and end in ``$``;
(2) a tuple is an array whose items may be of any of its types: client generators know neither ``prefixItems`` nor
    ``"items": false``;
(3) integers have the format ``int64``, because the default of some languages is shorter;
(4) objects have no members but their own, so a validator finds a misspelled one;
(5) an event's data leaves out what is absent, where a command may also have null.
"""

from collections.abc import Iterable
from typing import Any, Final

import msgspec
from msgspec import Struct

from ledger.core.commands import COMMAND_TYPES, Command
from ledger.core.events import DATA_TYPES
from ledger.core.fields import TEXT_PATTERN, published

Schema = dict[str, Any]

SCHEMAS: Final = "#/components/schemas/"
_VALUES: Final = ("const", "default", "discriminator", "enum", "example", "examples")
"""Keywords whose values are no schemas."""


def ref(name: str) -> Schema:
    return {"$ref": SCHEMAS + name}


def command_name(command: type[Command]) -> str:
    """The command's ``type``."""
    tag = command.__struct_config__.tag
    assert isinstance(tag, str)
    return tag


def schemas_of(kinds: Iterable[Any]) -> dict[str, Schema]:
    """Struct name → schema, of these Structs and of all that they have."""
    _, found = msgspec.json.schema_components(kinds, ref_template=SCHEMAS + "{name}")
    assert not [name for name in found if "." in name], "two Structs have one name"
    return {name: publish(schema) for name, schema in found.items()}


def command_schemas() -> dict[str, Schema]:
    """Struct name → schema, of every command that may be posted."""
    found = schemas_of(COMMAND_TYPES)
    for command in COMMAND_TYPES:
        members = found[command.__name__]["properties"]
        members["type"]["description"] = "Type of the command"
        # Only nodes send it encrypted.
        members["private"]["anyOf"] = [kind for kind in members["private"]["anyOf"] if kind["type"] != "string"]
    return {command.__name__: _with_text_patterns(found[command.__name__]) for command in COMMAND_TYPES}


def data_schemas() -> dict[str, Schema]:
    """Struct name → schema, of the data of every event type, and of what it is made of."""
    found = schemas_of(DATA_TYPES)
    return {name: _without_nulls(schema) for name, schema in found.items()}


def one_of(kinds: Iterable[type[Struct]], description: str) -> Schema:
    return {"description": description, "oneOf": [ref(kind.__name__) for kind in kinds]}


def union_of_commands() -> Schema:
    return {
        **one_of(COMMAND_TYPES, "A command of any type; `type` says which"),
        "discriminator": {
            "propertyName": "type",
            "mapping": {command_name(command): SCHEMAS + command.__name__ for command in COMMAND_TYPES},
        },
    }


def union_of_data() -> Schema:
    """``anyOf``: the data of some types have the same members, and ``type`` stands beside the data."""
    return {
        "description": "The data of an event of any type; the `type` beside it says which",
        "anyOf": [ref(data.__name__) for data in DATA_TYPES],
    }


def with_as_of(schema: Schema, as_of: str) -> Schema:
    """The schema of a document as a response: with its ``as_of``."""
    return {
        **schema,
        "properties": {**schema["properties"], "as_of": ref(as_of)},
        "required": [*schema["required"], "as_of"],
    }


# --- what is published ---------------------------------------------------------------------------------------------


def publish(schema: Any) -> Any:
    """The schema that msgspec made, as it is published; see the module's docstring."""
    if isinstance(schema, list):
        return [publish(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found: Schema = {
        key: value if key in _VALUES else _publish_members(value) if key == "properties" else publish(value)
        for key, value in schema.items()
        if key != "title"
    }
    if "prefixItems" in found:
        kinds = found.pop("prefixItems")
        found["items"] = kinds[0] if all(kind == kinds[0] for kind in kinds) else {"anyOf": kinds}
    if "pattern" in found:
        found["pattern"] = published(found["pattern"])
        if "enum" in found:
            del found["pattern"]
    if "description" in found:
        found["description"] = " ".join(found["description"].split()).replace("``", "`")
    if {"type": "null"} in found.get("anyOf", ()):
        for kind in found["anyOf"]:  # a reader looks for the texts at the field, not at one of its types
            found |= {key: kind.pop(key) for key in ("description", "examples") if key in kind and key not in found}
    if "enum" in found and "type" not in found:
        found["type"] = {str: "string", bool: "boolean", int: "integer"}[type(found["enum"][0])]
    if found.get("type") == "integer":
        found["format"] = "int64"
    if "properties" in found:
        found.setdefault("additionalProperties", False)
        if not found["required"]:
            del found["required"]
    return found


def _publish_members(members: dict[str, Any]) -> dict[str, Any]:
    return {name: publish(schema) for name, schema in members.items()}


def not_null(schema: Schema) -> Schema:
    """The same schema without null."""
    if "anyOf" not in schema:
        return schema
    (kind,) = (one for one in schema["anyOf"] if one != {"type": "null"})
    return {**kind, **{key: value for key, value in schema.items() if key not in ("anyOf", "default")}}


def _without_nulls(schema: Schema) -> Schema:
    """The same object; a member that may be absent is absent where it is None."""
    members = {}
    for name, member in schema.get("properties", {}).items():
        members[name] = not_null(member) if "default" in member and member["default"] is None else member
    return {**schema, "properties": members}


def _with_text_patterns(schema: Any) -> Any:
    """The same schema; a text without a pattern has no control character."""
    if isinstance(schema, list):
        return [_with_text_patterns(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    described = {key: value if key in _VALUES else _with_text_patterns(value) for key, value in schema.items()}
    if described.get("type") == "string" and "pattern" not in described and "enum" not in described:
        described["pattern"] = published(TEXT_PATTERN)
    if isinstance(described.get("propertyNames"), dict):
        described["propertyNames"] = {**described["propertyNames"], "pattern": published(TEXT_PATTERN)}
    return described
