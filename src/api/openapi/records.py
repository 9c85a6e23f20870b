"""JSON Schemas of records: the exact shape of every event type.

The Structs of the events have the schemas of ``data``; what a record has around it is in this module.

What no schema can say: the order of a record's keys, its exact bytes, the chain, and that postings sum to zero.
"""

from typing import Final

import msgspec

from api.openapi.schemas import Schema, data_schemas, ref
from ledger.core.events import COMMAND_OF, DATA_TYPES, LEDGER, NO_REQUEST, AnyData, Balance
from ledger.core.fields import (
    ASSET_PATTERN,
    CODE_STREAM_PATTERN,
    GAME_STREAM_PATTERN,
    GIFT_STREAM_PATTERN,
    ID_PATTERN,
    NOT_RESERVED_SCHEMA,
    TIME_US_MAX,
    USER_ID_PATTERN,
    published,
)
from ledger.core.money import AMOUNT_MAX
from ledger.core.position import PARTITIONS_MAX
from ledger.core.record import VERSION

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_SEQ_MAX: Final = 2**53 - 1
_USER_ID: Final = published(USER_ID_PATTERN)
_USER_ID_IN_ACCOUNT: Final = _USER_ID.removeprefix("^").removesuffix("$")

ACCOUNTS: Final[dict[str, tuple[str, ...]]] = {
    "deposited": ("house/deposits", "house/bonuses", "cash", "bonus"),
    "withdrawal_requested": ("cash", "held"),
    "withdrawal_approved": ("held", "house/withdrawals"),
    "withdrawal_rejected": ("held", "cash"),
    "bet_placed": ("cash", "bonus", "house/stakes", "house/fees"),
    "bet_settled": ("house/payouts", "cash", "bonus"),
    "bet_cancelled": ("house/stakes", "house/fees", "cash", "bonus"),
    "hold_placed": ("cash", "held"),
    "hold_expired": ("held", "cash"),
    "hold_captured": ("held", "house/captures", "cash"),
    "hold_released": ("held", "cash"),
    "transfer_sent": ("cash", "transit/transfers"),
    "transfer_received": ("transit/transfers", "cash"),
    "transfer_returned": ("transit/transfers", "cash"),
    "bonus_granted": ("house/bonuses", "bonus"),
    "bonus_expired": ("bonus", "house/bonuses"),
    "commission_paid": ("house/commissions", "cash"),
    "gift_received": ("house/gifts", "bonus"),
    "attendance_claimed": ("house/bonuses", "bonus"),
    "adjusted": ("cash", "house/adjustments"),
    "adjustment_approved": ("cash", "house/adjustments"),
    "reversed": ("cash", "bonus", "house/deposits", "house/bonuses", "house/adjustments"),
}
"""Event type → the accounts that it may post to; the other types move nothing."""

_SETTLEMENT_ID: Final = "^~[0-9a-f]{64}:[1-9][0-9]{0,15}$"
_ALSO_OWN: Final = {
    "bet_settled": _SETTLEMENT_ID,
    "bet_cancelled": _SETTLEMENT_ID,
    "bonus_granted": "^~own:[1-9][0-9]{0,15}$",
}
"""The types that a command makes, or the ledger itself, by the outcome of a period or by its rules, with the pattern
of the ledger's own ids."""
_STREAMS: Final = {
    "writer_opened": ("^partition:(0|[1-9][0-9]{0,3})$", "partition:3"),
    "result_recorded": (published(GAME_STREAM_PATTERN), "game:wingo_30s"),
    "period_cancelled": (published(GAME_STREAM_PATTERN), "game:wingo_30s"),
    **dict.fromkeys(
        ("gift_created", "gift_closed", "gift_share_granted", "gift_share_refused"),
        (published(GIFT_STREAM_PATTERN), "gift:welcome-2026"),
    ),
    **dict.fromkeys(("referral_resolved", "referral_unknown"), (published(CODE_STREAM_PATTERN), "code:AGENT-17")),
    **dict.fromkeys(
        ("referral_code_granted", "referral_code_refused"), (published(CODE_STREAM_PATTERN), "code:AGENT-17")
    ),
}
"""Event type → the pattern of its stream, which is no wallet, and an example."""
_ALSO_ON_WALLETS: Final = frozenset({"referral_code_granted", "referral_code_refused"})
"""First on the stream of the code, and then on the wallet that claimed it."""

_MAY_MOVE_NOTHING: Final = frozenset({"bet_settled", "bet_cancelled", "commission_paid"})


_AMOUNT: Final[Schema] = {
    "type": "integer",
    "format": "int64",
    "minimum": -AMOUNT_MAX,
    "maximum": AMOUNT_MAX,
    "not": {"const": 0},
}


def record_schema(data: type[AnyData], *, portable: bool) -> Schema:
    """A whole record of this event type. ``portable``: by reference, for the API's document, without the keywords
    that client generators lack; else complete in itself and as strict as JSON Schema can be."""
    kind = data.type
    own = kind not in COMMAND_OF
    accounts = ACCOUNTS.get(kind, ())
    fewest = 0 if not accounts or kind in _MAY_MOVE_NOTHING else 1
    sha256 = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
    user_id = {"type": "string", "pattern": _USER_ID, **NOT_RESERVED_SCHEMA}
    stream, of = _STREAMS.get(kind, (None, "player-15"))
    stream_of: Schema = {"type": "string", "pattern": stream} if stream else user_id
    if kind in _ALSO_ON_WALLETS:
        stream_of = {"anyOf": [stream_of, user_id]}
    properties: Schema = {
        "v": {**_one(VERSION), "description": "Version of the record's format"},
        "partition": {
            **_integer(0, PARTITIONS_MAX - 1),
            "description": "The partition of the user",
            "examples": [3],
        },
        "seq": {**_integer(1, _SEQ_MAX), "description": "Place in the partition: 1, 2, 3 …", "examples": [42]},
        "prev": {
            **sha256,
            "description": "SHA-256 of the record before; 64 zeros for seq 1",
            "examples": [NO_REQUEST],
        },
        "time_us": {
            **_integer(0, TIME_US_MAX),
            "description": "Unix time in microseconds, UTC; never decreases inside a partition",
            "examples": [1_795_438_800_000_000],
        },
        "user_id": {
            **stream_of,
            "description": "Whose event it is",
            "examples": [of],
        },
        "command_id": {
            "type": "string",
            "pattern": _own_id_pattern(kind) if own else _id_pattern(kind),
            "description": "Id of the command; the ledger's own begin with `~`",
        },
        "request_sha256": {
            **(_one(NO_REQUEST) if own else sha256),
            "description": "SHA-256 of the command in its canonical form; 64 zeros for the ledger's own events",
        },
        "actor": {
            **(_one(LEDGER) if own else {"type": "string", "pattern": _USER_ID}),
            "description": "Who posted the command",
            "examples": [LEDGER if own else "local"],
        },
        "type": {**_one(kind), "description": "Type of the event"},
        "data": {"$ref": f"#/components/schemas/{data.__name__}"} if portable else _whole_data(data),
        "postings": {
            "type": "array",
            "description": "What the event moves; the postings sum to zero in each asset",
            "items": ref("Posting") if portable else _posting(accounts),
            "minItems": 2 * fewest,
            "maxItems": len(accounts),
        },
        "balances": {
            "type": "object",
            "description": "The wallet after the event, for each asset of the postings",
            "propertyNames": {"pattern": published(ASSET_PATTERN)},
            "additionalProperties": {"$ref": "#/components/schemas/Balance"} if portable else _balance(),
            "minProperties": fewest,
            "maxProperties": min(len(accounts), 1),
        },
    }
    return {
        "description": f"The record of a `{kind}`.",
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def record_file(data: type[AnyData]) -> Schema:
    """The schema of a record as a file: one for each event type and version."""
    return {
        "$schema": _DIALECT,
        "$id": f"urn:stakelog:schema:event:v{VERSION}:{data.type}",
        "title": f"stakelog event {data.type}, version {VERSION}",
        **record_schema(data, portable=False),
    }


def record_schemas() -> dict[str, Schema]:
    """The records of all types, and what they are made of, for the API's document."""
    posting = {
        "description": "Account, asset, and the amount that is added to the account, in the asset's minor unit",
        "type": "array",
        "items": {"anyOf": [{"type": "string"}, _AMOUNT]},
        "minItems": 3,
        "maxItems": 3,
        "examples": [["wallet/player-15/cash", "INR", -500]],
    }
    return {
        "Posting": posting,
        **{f"{data.__name__}Record": record_schema(data, portable=True) for data in DATA_TYPES},
    }


def union_of_records() -> Schema:
    names = {data.type: ref(f"{data.__name__}Record") for data in DATA_TYPES}
    return {
        "description": "The record of an event of any type; `type` says which",
        "oneOf": list(names.values()),
        "discriminator": {
            "propertyName": "type",
            "mapping": {kind: reference["$ref"] for kind, reference in names.items()},
        },
    }


def _one(value: str | int) -> Schema:
    return {"type": "string" if isinstance(value, str) else "integer", "enum": [value]}


def _integer(least: int, most: int) -> Schema:
    return {"type": "integer", "format": "int64", "minimum": least, "maximum": most}


def _whole_data(data: type[AnyData]) -> Schema:
    """The data's schema, complete in itself."""
    found = data_schemas()
    schema = found[data.__name__]
    for name, member in schema["properties"].items():
        for nested in ("StakeSource", "Proof"):
            if f"/{nested}'" in str(member):
                schema["properties"][name] = found[nested]
    return schema


def _balance() -> Schema:
    (_, found) = msgspec.json.schema_components([Balance])
    schema: Schema = found["Balance"]
    return {**schema, "required": list(schema["properties"]), "additionalProperties": False}


def _posting(accounts: tuple[str, ...]) -> Schema:
    account = {"type": "string", "pattern": _account_pattern(accounts)}
    asset = {"type": "string", "pattern": published(ASSET_PATTERN)}
    return {"type": "array", "prefixItems": [account, asset, _AMOUNT], "items": False, "minItems": 3, "maxItems": 3}


def _id_pattern(kind: str) -> str:
    pattern = published(ID_PATTERN)
    return f"{pattern}|{_ALSO_OWN[kind]}" if kind in _ALSO_OWN else pattern


def _own_id_pattern(kind: str) -> str:
    if kind == "writer_opened":
        return "^~open:[1-9][0-9]{0,15}$"
    if kind == "commission_due":
        return "^~commission:[1-9][0-9]{0,15}$"
    return "^~expiry:[1-9][0-9]{0,15}$" if kind.endswith("_expired") else "^~[0-9a-f]{64}:0$"


def _account_pattern(accounts: tuple[str, ...]) -> str:
    buckets = [account for account in accounts if "/" not in account]
    alternatives = [account for account in accounts if "/" in account]
    if buckets:
        alternatives.append(f"wallet/{_USER_ID_IN_ACCOUNT}/({'|'.join(buckets)})")
    return f"^({'|'.join(alternatives)})$"
