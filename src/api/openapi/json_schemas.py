"""JSON Schemas of what goes in and of what stays: every command, every event's data, every event's whole record.

The Structs say which members there are and which may be absent; what a member may hold is said here once, by its
name, because the Structs of events trust what ``decide`` made and the readers of records should not have to. A member
that this module does not know fails the generation, so that a new one cannot go out undescribed.

What no schema can say: the order of a record's keys, its exact bytes, the chain, and that postings sum to zero.
"""

from typing import Any, Final

import msgspec

from ledger.core.commands import COMMAND_TYPES, ID_PATTERN, TIME_US_MAX, USER_ID_PATTERN, Command
from ledger.core.events import COMMAND_OF, DATA_TYPES, LEDGER, NO_REQUEST, AnyData
from ledger.core.follow_ups import REFERRAL_LEVELS
from ledger.core.money import AMOUNT_MAX
from ledger.core.position import PARTITIONS_MAX
from ledger.core.record import VERSION
from ledger.core.rejections import Code

Schema = dict[str, Any]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

SEQ_MAX: Final = 2**53 - 1
TEXT_PATTERN: Final = r"^[^\u0000-\u001f\u007f-\u009f]*$(?!\n)"
EVENT_POSITION_PATTERN: Final = r"^(0|[1-9][0-9]{0,3}):[1-9][0-9]{0,15}$(?!\n)"
ASSET_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$(?!\n)"
ANY_COMMAND_ID_PATTERN: Final = r"^[!-~]{1,128}$(?!\n)"
_USER_ID: Final = USER_ID_PATTERN.removeprefix("^").removesuffix(r"$(?!\n)")
_SHA256_PATTERN: Final = r"^[0-9a-f]{64}$(?!\n)"
_EXPIRY_PATTERN: Final = r"^~expiry:[1-9][0-9]{0,15}$(?!\n)"
_OPEN_PATTERN: Final = r"^~open:[1-9][0-9]{0,15}$(?!\n)"
_FOLLOW_UP_PATTERN: Final = r"^~[0-9a-f]{64}:0$(?!\n)"


def _text(length_max: int) -> Schema:
    return {"type": "string", "maxLength": length_max, "pattern": TEXT_PATTERN}


def _integer(least: int, most: int = AMOUNT_MAX) -> Schema:
    return {"type": "integer", "minimum": least, "maximum": most}


def _object(properties: Schema, required: list[str] | None = None) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
        "additionalProperties": False,
    }


SHA256: Final[Schema] = {"type": "string", "pattern": _SHA256_PATTERN}
USER_ID: Final[Schema] = {"type": "string", "pattern": USER_ID_PATTERN}
_PARTITION_STREAM: Final[Schema] = {"type": "string", "pattern": r"^partition:(0|[1-9][0-9]{0,3})$(?!\n)"}
ASSET: Final[Schema] = {"type": "string", "pattern": ASSET_PATTERN}
POSITION: Final[Schema] = {"type": "string", "pattern": EVENT_POSITION_PATTERN}
SEQ: Final[Schema] = _integer(1, SEQ_MAX)
PARTITION: Final[Schema] = _integer(0, PARTITIONS_MAX - 1)
TIME_US: Final[Schema] = {**_integer(0, TIME_US_MAX), "description": "Unix microseconds, UTC"}
AMOUNT: Final[Schema] = _integer(1)
AMOUNT_OR_ZERO: Final[Schema] = _integer(0)
TOTAL: Final[Schema] = _integer(-AMOUNT_MAX)
_ID: Final[Schema] = {"type": "string", "pattern": ID_PATTERN}
_SIGNED_AMOUNT: Final[Schema] = {**TOTAL, "not": {"const": 0}}
_LIMIT: Final[Schema] = {"anyOf": [AMOUNT_OR_ZERO, {"type": "null"}]}
_METADATA: Final[Schema] = {
    "type": "object",
    "maxProperties": 16,
    "propertyNames": {"maxLength": 64, "pattern": TEXT_PATTERN},
    "additionalProperties": _text(512),
}

BALANCE: Final[Schema] = _object({"cash": TOTAL, "bonus": AMOUNT_OR_ZERO, "held": AMOUNT_OR_ZERO})
BALANCES: Final[Schema] = {
    "type": "object",
    "propertyNames": {"pattern": ASSET_PATTERN},
    "additionalProperties": BALANCE,
}

_MEMBERS: Final[dict[str, Schema]] = {
    "adjustment_id": _ID,
    "amount": AMOUNT,
    "asset": ASSET,
    "balance_max": _LIMIT,
    "before_bet": {"type": "boolean"},
    "bet_id": _ID,
    "bonus": AMOUNT_OR_ZERO,
    "cause": POSITION,
    "credit_limit": _LIMIT,
    "expires_at_us": _integer(-TIME_US_MAX, TIME_US_MAX),
    "first_deposit": {"type": "boolean"},
    "from": _object(
        {
            "bonus": AMOUNT_OR_ZERO,
            "cash": AMOUNT_OR_ZERO,
            "grants": {
                "type": "array",
                "items": {
                    "type": "array",
                    "prefixItems": [_ID, AMOUNT],
                    "items": False,
                    "minItems": 2,
                    "maxItems": 2,
                },
            },
        }
    ),
    "from_user_id": USER_ID,
    "game": _text(128),
    "generation": _integer(0, SEQ_MAX),
    "grant_id": _ID,
    "hold_id": _ID,
    "level": _integer(1, REFERRAL_LEVELS),
    "member": USER_ID,
    "metadata": _METADATA,
    "order_id": _ID,
    "payout": AMOUNT_OR_ZERO,
    "period": _text(128),
    "position": POSITION,
    "reason": _text(500),
    "referrer_id": USER_ID,
    "selection": _text(128),
    "spend": {"enum": ["cash_first", "bonus_first"]},
    "stake": AMOUNT,
    "stake_max_per_day": _LIMIT,
    "to_user_id": USER_ID,
    "transfer_id": _ID,
    "withdrawal_max_per_day": _LIMIT,
}

_REFUSAL: Final[Schema] = {
    "enum": [
        code.value
        for code in (
            Code.WALLET_NOT_OPEN,
            Code.WALLET_CLOSED,
            Code.AMOUNT_OUT_OF_RANGE,
            Code.BALANCE_MAX_EXCEEDED,
        )
    ]
}

_MEMBERS_OF: Final[dict[tuple[str, str], Schema]] = {
    ("adjusted", "amount"): _SIGNED_AMOUNT,
    ("adjustment_proposed", "amount"): _SIGNED_AMOUNT,
    ("transfer_refused", "reason"): _REFUSAL,
    ("transfer_returned", "reason"): _REFUSAL,
}
"""(event type, member): where a name means something else than elsewhere."""

_ACCOUNTS: Final[dict[str, tuple[str, ...]]] = {
    "deposited": ("house/deposits", "house/bonuses", "cash", "bonus"),
    "withdrawal_requested": ("cash", "held"),
    "withdrawal_approved": ("held", "house/withdrawals"),
    "withdrawal_rejected": ("held", "cash"),
    "bet_placed": ("cash", "bonus", "house/stakes"),
    "bet_settled": ("house/payouts", "cash", "bonus"),
    "bet_cancelled": ("house/stakes", "cash", "bonus"),
    "hold_placed": ("cash", "held"),
    "hold_expired": ("held", "cash"),
    "hold_captured": ("held", "house/captures", "cash"),
    "hold_released": ("held", "cash"),
    "transfer_sent": ("cash", "transit/transfers"),
    "transfer_received": ("transit/transfers", "cash"),
    "transfer_returned": ("transit/transfers", "cash"),
    "bonus_granted": ("house/bonuses", "bonus"),
    "bonus_expired": ("bonus", "house/bonuses"),
    "adjusted": ("cash", "house/adjustments"),
    "adjustment_approved": ("cash", "house/adjustments"),
    "reversed": ("cash", "bonus", "house/deposits", "house/bonuses", "house/adjustments"),
}
"""Event type → the accounts that it may post to; the types that are not here move nothing."""

_MAY_MOVE_NOTHING: Final = frozenset({"bet_settled", "bet_cancelled"})


# --- commands ----------------------------------------------------------------------------------------------------


def command_name(command: type[Command]) -> str:
    """The ``type`` by which a command is asked for."""
    tag = command.__struct_config__.tag
    assert isinstance(tag, str)
    return tag


def command_schemas() -> dict[str, Schema]:
    """Struct name → schema, for every command that may be posted."""
    (_, found) = msgspec.json.schema_components(COMMAND_TYPES, ref_template="#/$defs/{name}")
    schemas: dict[str, Schema] = {}
    for command in COMMAND_TYPES:
        schema = found[command.__name__]
        schema["properties"]["type"] = {"const": command_name(command)}
        schemas[command.__name__] = _with_text_patterns(schema)
    return schemas


def _with_text_patterns(schema: Any) -> Any:
    """The same schema, saying of every text that has no pattern that it holds no control character."""
    if isinstance(schema, list):
        return [_with_text_patterns(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    described = {
        key: value if key in ("default", "enum", "const", "examples") else _with_text_patterns(value)
        for key, value in schema.items()
    }
    if described.get("type") == "string" and "pattern" not in described:
        described["pattern"] = TEXT_PATTERN
    if isinstance(described.get("propertyNames"), dict):
        described["propertyNames"] = {"type": "string", **described["propertyNames"], "pattern": TEXT_PATTERN}
    return described


# --- events ------------------------------------------------------------------------------------------------------


def data_schema(data: type[AnyData]) -> Schema:
    """The ``data`` of an event of this type, as it stands in records and answers: null members left out."""
    fields = msgspec.structs.fields(data)
    properties = {
        field.encode_name: _MEMBERS_OF.get((data.type, field.encode_name), _MEMBERS[field.encode_name])
        for field in fields
    }
    schema = _object(properties, [field.encode_name for field in fields if field.required])
    if data.__doc__:
        schema = {"description": " ".join(data.__doc__.split()), **schema}
    return schema


def data_schemas() -> dict[str, Schema]:
    """Struct name → schema of the data of every event type."""
    return {data.__name__: data_schema(data) for data in DATA_TYPES}


def record_schema(data: type[AnyData], data_reference: str | None = None) -> Schema:
    """A whole record of this event type; its data in place, or by reference."""
    kind = data.type
    own = kind not in COMMAND_OF
    accounts = _ACCOUNTS.get(kind, ())
    fewest = 0 if not accounts or kind in _MAY_MOVE_NOTHING else 1
    return _object(
        {
            "v": {"const": VERSION},
            "partition": PARTITION,
            "seq": SEQ,
            "prev": {**SHA256, "description": "the head before this record; 64 zeros for seq 1"},
            "time_us": TIME_US,
            "user_id": _PARTITION_STREAM if kind == "writer_opened" else USER_ID,
            "command_id": {"type": "string", "pattern": _own_id_pattern(kind) if own else ID_PATTERN},
            "request_sha256": {"const": NO_REQUEST} if own else SHA256,
            "actor": {"const": LEDGER} if own else USER_ID,
            "type": {"const": kind},
            "data": data_schema(data) if data_reference is None else {"$ref": data_reference},
            "postings": {
                "type": "array",
                "description": "they sum to zero in each asset",
                "items": {
                    "type": "array",
                    "prefixItems": [
                        {"type": "string", "pattern": _account_pattern(accounts)},
                        ASSET,
                        _SIGNED_AMOUNT,
                    ],
                    "items": False,
                    "minItems": 3,
                    "maxItems": 3,
                },
                "minItems": 2 * fewest,
                "maxItems": len(accounts),
            },
            "balances": {**BALANCES, "minProperties": fewest, "maxProperties": min(len(accounts), 1)},
        }
    )


def _own_id_pattern(kind: str) -> str:
    if kind == "writer_opened":
        return _OPEN_PATTERN
    return _EXPIRY_PATTERN if kind.endswith("_expired") else _FOLLOW_UP_PATTERN


def _account_pattern(accounts: tuple[str, ...]) -> str:
    buckets = [account for account in accounts if "/" not in account]
    alternatives = [account for account in accounts if "/" in account]
    if buckets:
        alternatives.append(f"wallet/{_USER_ID}/({'|'.join(buckets)})")
    return f"^({'|'.join(alternatives)})$(?!\\n)"


def record_file(data: type[AnyData]) -> Schema:
    """The schema of a record as it is published: one file for each event type and version."""
    title = f"stakelog event {data.type}, version {VERSION}"
    return {
        "$schema": DIALECT,
        "$id": f"urn:stakelog:schema:event:v{VERSION}:{data.type}",
        "title": title,
        **record_schema(data),
    }
