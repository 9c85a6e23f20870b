"""A record as one line for people: position, time, type, subject, and the change of the balances.

Read from the record alone, as plain JSON and without the writer's types, so that a record of an unknown type also has
a line. Amounts stay in the asset's minor unit.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# The members that name an event's subject, in this order; amounts are in the columns of money.
_ABOUT: Final = (
    *("order_id", "bet_id", "hold_id", "transfer_id", "grant_id", "adjustment_id", "position", "game", "period"),
    *("selection", "stake", "payout", "spend", "to_user_id", "from_user_id", "referrer_id", "member", "level"),
    *("credit_limit", "balance_max", "stake_max_per_day", "withdrawal_max_per_day", "expires_at_us"),
    *("first_deposit", "before_bet", "result", "generation", "reason", "cause"),
)
_BUCKETS: Final = ("cash", "bonus", "held")


class Line(NamedTuple):
    """``change`` and ``balances`` are asset → bucket → minor units; ``change`` lacks the unchanged buckets."""

    position: str
    time_us: int
    user_id: str
    type: str
    about: str
    change: dict[str, dict[str, int]]
    balances: Mapping[str, Mapping[str, int]]


class Unreadable(ValueError):
    """Bytes that are no record; the text says why."""


class _Record(Struct, gc=False):
    partition: int
    seq: int
    time_us: int
    user_id: str
    type: str
    data: dict[str, Any]
    postings: list[tuple[str, str, int]]
    balances: dict[str, dict[str, int]]


_decode: Final = msgspec.json.Decoder(_Record).decode


def line_of(record: bytes) -> Line:
    """Raises Unreadable."""
    try:
        event = _decode(record)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(str(error)) from None
    own = f"wallet/{event.user_id}/"
    change: dict[str, dict[str, int]] = {}
    for account, asset, amount in event.postings:
        if account.startswith(own):
            buckets = change.setdefault(asset, {})
            bucket = account[len(own) :]
            buckets[bucket] = buckets.get(bucket, 0) + amount
    about = ", ".join(f"{name} {_shown(event.data[name])}" for name in _ABOUT if name in event.data)
    return Line(
        f"{event.partition}:{event.seq}", event.time_us, event.user_id, event.type, about, change, event.balances
    )


def utc(time_us: int) -> str:
    """Return the time as RFC 3339 with six digits; a time outside the calendar as microseconds."""
    try:
        return (_EPOCH + timedelta(microseconds=time_us)).isoformat(timespec="microseconds")[:-6] + "Z"
    except OverflowError:
        return f"{time_us} µs"


def parse_time(text: str) -> int:
    """Return the Unix microseconds of an RFC 3339 time, or of a number of microseconds. Raises ValueError."""
    if text.removeprefix("-").isascii() and text.removeprefix("-").isdigit():
        return int(text)
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise ValueError(f"{text!r} is no time: write 2026-11-23T18:00:00Z, or Unix microseconds")
    return (time - _EPOCH) // timedelta(microseconds=1)


def _shown(value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case None:
            return "default"
        case _:
            return str(value)
