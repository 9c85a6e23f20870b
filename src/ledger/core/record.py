"""Event ↔ record: the exact bytes that are stored and published, and the hash chain over them.

A record is UTF-8 JSON without spaces, its keys in the order of ``_Record``, strings escaping only what JSON must,
null members left out except in ``limits_set``::

    {"v":1,"partition":3,"seq":42,"prev":"<head before it>","time_us":…,"user_id":"u1","command_id":"c-1",
     "request_sha256":"<hex>","actor":"local","type":"bet_placed","data":{…},
     "postings":[["wallet/u1/cash","INR",-500],["house/stakes","INR",500]],
     "balances":{"INR":{"cash":9500,"bonus":0,"held":0}}}

Invariants:
(1) head = SHA-256 of the record, in hex; an empty partition's head is 64 zeros;
(2) a record is an event if and only if its seq and prev continue the last **event** before it in log order;
(3) ``decode(encode(event, position, prev)) == (position, prev, event)``;
(4) only this module knows old shapes. A record of an older ``v`` is read through ``UPCASTERS``, one step per version;
    its bytes, and so its hash, never change.
"""

from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct

from ledger.core.events import DATA_OF, AnyData, Balance, Event, Posting, sums_to_zero
from ledger.core.position import Position

VERSION: Final = 1

_BEGINNING: Final = b'{"v":%d,' % VERSION

EMPTY_SHA256: Final = "0" * 64

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]

UPCASTERS: Final[dict[int, Upcaster]] = {}
"""Version → the function that turns a record of it, as JSON values, into one of the next version."""


class Head(NamedTuple):
    """The end of a partition: its last seq (0 while it is empty) and the hash of its last record."""

    seq: int
    sha256: str


EMPTY: Final = Head(0, EMPTY_SHA256)


class MalformedRecord(ValueError):
    """The bytes are not a record of a known version. The text says why."""


class Decoded(NamedTuple):
    position: Position
    prev: str
    event: Event


class _Record(Struct, forbid_unknown_fields=True, gc=False):
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
    postings: tuple[Posting, ...]
    balances: dict[str, Balance]


class _RawRecord(_Record):
    data: msgspec.Raw


# Struct members are written as declared; only dicts (metadata, balances) need sorting.
_encode = msgspec.json.Encoder(order="deterministic").encode
_decode_raw = msgspec.json.Decoder(_RawRecord).decode
_decode_data: Final = {name: msgspec.json.Decoder(data).decode for name, data in DATA_OF.items()}


def sha256_hex(data: bytes) -> str:
    return sha256(data).hexdigest()


class _Timed(Struct, gc=False):
    time_us: int


_decode_timed = msgspec.json.Decoder(_Timed).decode


def time_us_of(record: bytes) -> int:
    """The time of the event of a stored record, in Unix microseconds. Raises MalformedRecord."""
    try:
        return _decode_timed(record).time_us
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MalformedRecord(str(error)) from None


class _OnlyUser(Struct, gc=False):
    user_id: str


_decode_user = msgspec.json.Decoder(_OnlyUser).decode


def records_of_user(records: Iterable[bytes], user_id: str) -> list[bytes]:
    """Return the user's records, in order, and those that name the user and cannot be read: damage is not hidden."""
    named = b'"user_id":%b' % msgspec.json.encode(user_id)  # a record has no spaces, and escapes quotes in texts
    return [record for record in records if named in record and _user_of(record) in (user_id, None)]


def _user_of(record: bytes) -> str | None:
    try:
        return _decode_user(record).user_id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def encode(event: Event, position: Position, prev: str) -> bytes:
    """The event's bytes at ``position``, after the record whose hash is ``prev``."""
    return _encode(
        _Record(
            VERSION,
            position.partition,
            position.seq,
            prev,
            event.time_us,
            event.user_id,
            event.command_id,
            event.request_sha256,
            event.actor,
            event.data.type,
            event.data,
            event.postings,
            event.balances,
        )
    )


class Members(NamedTuple):
    """Parts of a record as bytes: JSON members with their names. Each part but the first begins with a comma."""

    position: bytes
    """``"partition":3,"seq":42``."""
    time: bytes
    """``,"time_us":…``."""
    data: bytes
    """``,"type":"…","data":{…}``."""
    balances: bytes
    """``,"balances":{…}``."""


def members_of(record: bytes) -> Members:
    """The members of a record that a response repeats: copied, because encoding them again costs more.

    A quote inside a text is escaped, so what is searched for cannot be part of one. Only ``data`` has maps with names
    that a client chose: what is before it is searched from the beginning, what is behind it from the end. Raises
    MalformedRecord.
    """
    if not record.startswith(_BEGINNING):
        position, prev, event = decode(record)
        record = encode(event, position, prev)
    prev_at = record.find(b',"prev":"')
    time_at = record.find(b',"time_us":', prev_at)
    user_at = record.find(b',"user_id":"', time_at)
    type_at = record.find(b',"type":"', user_at)
    postings_at = record.rfind(b',"postings":[')
    balances_at = record.rfind(b',"balances":{')
    assert 0 < prev_at < time_at < user_at < type_at < postings_at < balances_at, record
    return Members(
        record[len(_BEGINNING) : prev_at],
        record[time_at:user_at],
        record[type_at:postings_at],
        record[balances_at:-1],
    )


def decode(record: bytes, upcasters: Mapping[int, Upcaster] = UPCASTERS) -> Decoded:
    """The position of a record, the hash of the record before it, and the event.

    Raises MalformedRecord if the bytes are not a record, its postings do not balance, or its version is unknown.
    """
    try:
        raw = _decode_raw(record)
        if raw.v != VERSION:
            raw = _decode_raw(_upcast(record, upcasters))
        data: AnyData = _decode_data[raw.type](raw.data)
    except KeyError as unknown:
        raise MalformedRecord(f"{unknown.args[0]!r} is no event type") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedRecord(str(error)) from None
    if not sums_to_zero(raw.postings):
        raise MalformedRecord("its postings do not sum to zero")
    return Decoded(
        Position(raw.partition, raw.seq),
        raw.prev,
        Event(
            raw.time_us,
            raw.user_id,
            raw.command_id,
            raw.request_sha256,
            raw.actor,
            data,
            raw.postings,
            raw.balances,
        ),
    )


def _upcast(record: bytes, upcasters: Mapping[int, Upcaster]) -> bytes:
    values = msgspec.json.decode(record)
    version = values["v"]
    while version != VERSION:
        upcast = upcasters.get(version)
        if upcast is None:
            raise MalformedRecord(f"no upcaster for version {version}; this program writes version {VERSION}")
        values = upcast(values)
        assert values["v"] == version + 1, values
        version = values["v"]
    return msgspec.json.encode(values)
