"""``docs/events.md``: every event type with its data, its accounts and an example, from the schemas."""

import json
from typing import Any, Final

from api.openapi.records import ACCOUNTS, record_file
from ledger.core.events import COMMAND_OF, DATA_TYPES
from schemas.generate.markdown import row, sentence, table

_HEAD: Final = """\
# Event reference

Written by `make schemas` from the code. The JSON Schema of each record is in `schemas/events/v1`; the rules that no
schema can say are in [Audit](audit.md). Words: [glossary](glossary.md).

An event is stored as a *record*: one line of JSON, byte for byte the same in the log, in `GET /v1/events` and on
Kafka. Its members, in this order:

"""


def events_page(records: list[str]) -> str:
    """The page, as Markdown. ``records``: examples, of as many types as there are."""
    examples: dict[str, dict[str, Any]] = {}
    for record in records:
        event = json.loads(record)
        examples.setdefault(event["type"], event)
    whole = record_file(DATA_TYPES[0])["properties"]
    shared = {**whole, "data": {"description": "What happened; different for each type"}}
    members = table(("member", "meaning"), [row(name, member, {}) for name, member in shared.items()])
    sections = [_section(data.type, record_file(data), examples.get(data.type)) for data in DATA_TYPES]
    return "".join([_HEAD, members, "Stars mark the members of `data` that are always there.\n", *sections])


def _section(kind: str, record: dict[str, Any], example: dict[str, Any] | None) -> str:
    schema = record["properties"]["data"]
    command = COMMAND_OF.get(kind)
    made_by = (
        f"The command [`{command}`](commands.md#{command}) makes it." if command else "The ledger makes it by itself."
    )
    accounts = ", ".join(f"`{name}`" for name in ACCOUNTS.get(kind, ()))
    moves = f"It may post to {accounts}." if accounts else "It moves no money."
    rows = [row(name, member, schema) for name, member in schema["properties"].items()]
    shown = ""
    if example:
        body = {name: example[name] for name in ("user_id", "type", "data", "postings", "balances")}
        shown = f"```json\n{json.dumps(body, ensure_ascii=False, indent=1)}\n```\n"
    about = f"{sentence(schema['description'])} {made_by} {moves}"
    return f"\n## {kind}\n\n{about}\n\n{table(('data', 'meaning'), rows)}{shown}"
