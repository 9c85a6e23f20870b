"""``docs/api.md``: every request of the API with its parameters, body and response, from the OpenAPI document."""

import json
import re
from typing import Any, Final

from schemas.generate.markdown import row, sentence, starred, table

_HEAD: Final = """\
# API reference

Written by `make schemas` from the OpenAPI document, `schemas/openapi.json`. A running service serves the document at
`/schema`: as a page to a browser, as JSON to a program. Client generators read it; for Python there is
`stakelog_client`.

- Ids in paths are percent-encoded. Amounts are integers in the asset's minor unit; times are Unix microseconds, UTC.
- A request that fails gets a problem; the [error catalogue](errors.md) says what to do for each code.
- Most reads take `min_position` and have `as_of`: [Reads](reads.md). Roles: [Roles](roles.md). Login:
  [From loopback to production](production.md).
- Stars mark what is required, or always there.

"""
_CODES: Final = re.compile(r"^Problems: .*$", re.MULTILINE)

Document = dict[str, Any]


def api_page(document: Document) -> str:
    """The page, as Markdown."""
    parts = [_HEAD]
    for tag in document["tags"]:
        parts.append(f"## {tag['name'].capitalize()}\n\n{sentence(tag['description'])}\n\n")
        parts += [
            _operation(document, method, path, operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
            if tag["name"] in operation["tags"]
        ]
    return "".join(parts)


def _operation(document: Document, method: str, path: str, operation: Document) -> str:
    about = _CODES.sub(lambda line: re.sub(r"`(\w+)`", r"[`\1`](errors.md#\1)", line[0]), operation["description"])
    parts = [f"### {method.upper()} {path}\n\n{sentence(operation['summary'])}\n\n{about}\n\n"]
    parameters = [_resolved(document, parameter) for parameter in operation.get("parameters", ())]
    parts.append(
        table(
            ("parameter", "in", "meaning"),
            [(starred(one["name"], one.get("required", False)), one["in"], _meaning(one)) for one in parameters],
        )
    )
    if "requestBody" in operation:
        body = _resolved(document, operation["requestBody"])
        parts.append(f"**Body.** {_content(document, body)}")
    for status, response in operation["responses"].items():
        if status.startswith("2"):
            found = _resolved(document, response)
            parts.append(f"**{status}.** {sentence(found['description'])} {_content(document, found)}")
    return "".join(parts)


def _meaning(parameter: Document) -> str:
    schema = parameter["schema"]
    if schema.get("default") is None:
        return str(parameter["description"])
    return f"{parameter['description']}. Default: `{json.dumps(schema['default'])}`"


def _content(document: Document, message: Document) -> str:
    """The media type, the members of its object, and an example."""
    if not message.get("content"):
        return "\n\n"
    media_type, content = next(iter(message["content"].items()))
    schema = _resolved(document, content["schema"])
    rows = [
        row(name, member, schema, lambda one: _resolved(document, one))
        for name, member in schema.get("properties", {}).items()
    ]
    example = next(iter(content.get("examples", {}).values()), None)
    shown = ""
    if example is not None and "json" in media_type:
        value = _resolved(document, example)["value"]
        shown = f"```json\n{json.dumps(value, ensure_ascii=False, indent=1)}\n```\n\n"
    return f"`{media_type}`\n\n{table(('member', 'meaning'), rows)}{shown}"


def _resolved(document: Document, value: Document) -> Document:
    """What a reference inside the document leads to; the value itself if it is none."""
    while "$ref" in value:
        found: Any = document
        for part in value["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        value = found
    return value
