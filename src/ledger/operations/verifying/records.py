"""A record as the auditor reads and writes it: its members, its data by the ``shapes``, and its command.

Invariants:
(1) ``written(read(record)) == record`` if and only if the record is canonical: the known members in their order, data
    sorted by name, no spaces, no null outside of ``limits_set``, no escape that JSON does not need;
(2) ``KINDS[…].given`` reads only what cannot be recomputed: time, wallet, command_id, actor and data. The rest of a
    record follows from these and from the records before it;
(3) a kind's ``members`` and ``command`` give the canonical bytes of the command, whose SHA-256 is in the record.
"""

from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from ledger.operations.verifying.shapes import COMMANDS, DATA, Buckets, Data, Posting

_Base = TypeVar("_Base", "Record", "Given")


class Record(Struct, forbid_unknown_fields=True, gc=False):
    """``data`` is the Struct of the record's ``type``. ``postings`` and ``balances`` are those in the record,
    or those that the auditor recomputes."""

    v: int
    partition: int
    seq: int
    prev: str
    time_us: int
    user_id: str
    command_id: str
    request_sha256: str
    actor: str
    type: str
    data: Any
    postings: list[Posting]
    balances: dict[str, Buckets]


class Unreadable(ValueError):
    """The bytes are not a record of a known version and type. The text says why."""


class Given(Struct, gc=False):
    """What a record says that cannot be recomputed. Its other members are skipped."""

    time_us: int
    user_id: str
    command_id: str
    actor: str
    data: Any


class Kind(NamedTuple):
    """How records of one event type are read."""

    name: str
    given: Callable[[bytes], Given]
    whole: Callable[[bytes], Record]
    members: Callable[[Given], tuple[Any, ...]] | None
    """The values of its command, in the order of their names; None if no command makes this event."""
    command: Callable[..., Struct]


def _kind_of(name: str) -> Kind:
    # One decoder for each type reads the record and its data at once: two steps take a quarter longer.
    data = DATA[name]
    record: type[Record] = _with_data(Record, data, forbid_unknown_fields=True)
    whole = msgspec.json.Decoder(record).decode
    if name not in COMMANDS:
        return Kind(name, msgspec.json.Decoder(_with_data(Given, data)).decode, whole, None, Struct)
    command_type, names = COMMANDS[name]
    given = _with_data(Given, data, namespace={"command_type": command_type})
    sources = {member: f"data.{member}" for member in names}
    sources |= {"command_id": "command_id", "type": "command_type", "user_id": "user_id"}
    ordered = sorted(sources)
    command = msgspec.defstruct("Command", [(member, Any) for member in ordered], gc=False)
    members = attrgetter(*(sources[member] for member in ordered))
    return Kind(name, msgspec.json.Decoder(given).decode, whole, members, command)


def _with_data(base: type[_Base], data: type[Data], **options: Any) -> type[_Base]:
    """A subclass of ``base`` whose ``data`` has this type."""
    fields: list[Any] = [(name, data if name == "data" else kind) for name, kind in base.__annotations__.items()]
    made: Any = msgspec.defstruct(base.__name__, fields, bases=(base,), gc=False, **options)
    shape: type[_Base] = made
    return shape


_TYPE: Final = b',"type":"'
_BEFORE_TYPE: Final = 200
"""No canonical record has its type earlier: two hashes of 64 digits are before it."""
_KEY: Final = 15
"""These bytes distinguish the types: ``referral_code_granted`` and ``referral_code_refused`` differ in the last."""

KINDS: Final = {(name.encode() + b'","data":{')[:_KEY]: _kind_of(name) for name in DATA}
"""The first bytes of the event type in a record → how its records are read."""
assert len(KINDS) == len(DATA)

written: Final = msgspec.json.Encoder(order="deterministic").encode
"""The canonical bytes of a Record, or of a command."""


def type_of(record: bytes) -> bytes:
    """The event type of a canonical record, a key of ``KINDS``. If the bytes are no canonical record, the result may
    be any text; the comparison with ``written`` shows it later."""
    # A quote inside of a JSON string is escaped, so the first match is the member's name.
    begin = record.find(_TYPE, _BEFORE_TYPE) + len(_TYPE)
    return record[begin : begin + _KEY]


def read(record: bytes) -> Record:
    """All members of the record. Raises Unreadable."""
    try:
        return KINDS[type_of(record)].whole(record)
    except (KeyError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Unreadable(why_unreadable(record)) from None


def why_unreadable(record: bytes) -> str:
    """Why the record cannot be read, whole or in part."""
    try:
        values = msgspec.json.decode(record)
        if not isinstance(values, dict):
            return "it is not a JSON object"
        kind = KINDS.get(type_of(record))
        if kind is None:
            return f"{values.get('type')!r} is not an event type, or the members are not in their order"
        kind.whole(record)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return str(error)
    return "it is not as its type must be"
