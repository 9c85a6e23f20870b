"""Compares the reads over all users, the queues and the leaderboards, with sums over the records.

It shares no code with the folds. A stake counts at the time of its bet, a payout and the net at the time of the
settlement, a cancelled bet not at all. Users with 0 are left out, ties are ordered by user_id. Days are in UTC, weeks
are ISO weeks. Invariants:
(1) Such a response names a position of every partition and is compared with the log as of exactly these positions.
    Records are only added, never removed, so a response that is older than the records read so far is requested
    again, a bounded number of times.
(2) If it stays older, as it does while a user is quarantined, nothing is compared, and the result says so: the rows
    of the other users are newer than the position that the response names.
(3) For the queue of orders, the set and the sequence of its orders are compared. Each order is compared with its
    wallet. For the queue of adjustments, also what never changes of each.
(4) All nine leaderboards of each asset are compared, for the latest days with bets and their weeks and months.
(5) Memory contains, for all partitions: each order's id, user and time; each proposed adjustment; each open bet; and
    what each user staked, won and netted on each day.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from heapq import nsmallest
from itertools import chain
from typing import Any, Final, NamedTuple

import msgspec

from ledger.operations.audit import RecordsFrom
from projections.auditing.oracle import Document, UnknownRecord
from projections.auditing.reconcile.port import LEADERS, Difference, Reads, Unreadable, shown, unequal_fields
from projections.auditing.reconcile.records import Record, records_after

DAYS_MOST: Final = 40  # chosen: a month and the weeks at its ends; 9 leaderboards are read for each day and asset
_ATTEMPTS: Final = 4
_PAUSE_S: Final = 0.25
_MEASURES: Final = ("staked", "won", "net")
_DAY: Final = timedelta(days=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

_decode_data: Final = msgspec.json.Decoder(dict[str, Any]).decode


_COLLECTED: Final = (
    "deposited",
    "withdrawal_requested",
    "adjustment_proposed",
    "bet_placed",
    "bet_settled",
    "bet_cancelled",
)


class _Queued(NamedTuple):
    """An item of a queue. The fields sort in the reverse order of the queue."""

    time_us: int
    partition: int
    seq: int
    members: tuple[Any, ...]
    """The values of ``_MEMBERS`` of the queue; the first one is the user."""


_MEMBERS: Final = {
    "orders": ("user_id", "order_id"),
    "adjustments": ("user_id", "adjustment_id", "asset", "amount", "reason", "proposed_by"),
}
"""Queue → the members of its items that are compared."""


class _Bet(NamedTuple):
    asset: str
    stake: int
    day: datetime


class _OlderResponse(Exception):
    """The response is older than the records read so far."""


class _PartitionTotals:
    """Queues and daily sums of one partition's records up to ``end``."""

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.end = 0
        self.queues: dict[str, list[_Queued]] = {queue: [] for queue in _MEMBERS}
        self.amounts: dict[tuple[str, datetime], dict[str, list[int]]] = {}
        """(Asset, day) → user → staked, won, net."""
        self._open: dict[tuple[str, str], _Bet] = {}

    def collect(self, event: Record) -> None:
        """Raises UnknownRecord."""
        self.end = event.seq
        if event.type not in _COLLECTED:
            return
        try:
            self._collect(event, event.user_id, _decode_data(event.data))
        except (msgspec.MsgspecError, KeyError, TypeError, OverflowError) as error:
            place = f"{self.partition}:{event.seq}"
            raise UnknownRecord(f"the record {place} refers to something that does not exist: {error!r}") from error

    def _collect(self, event: Record, user_id: str, data: Document) -> None:
        match event.type:
            case "bet_placed":
                bet = _Bet(data["asset"], data["stake"], _day(event.time_us))
                self._open[user_id, data["bet_id"]] = bet
                self._add(user_id, bet.asset, bet.day, (bet.stake, 0, 0))
            case "bet_settled":
                bet, payout = self._open.pop((user_id, data["bet_id"])), data["payout"]
                self._add(user_id, bet.asset, _day(event.time_us), (0, payout, payout - bet.stake))
            case "bet_cancelled":
                if not data["before_bet"]:
                    bet = self._open.pop((user_id, data["bet_id"]))
                    self._add(user_id, bet.asset, bet.day, (-bet.stake, 0, 0))
            case "adjustment_proposed":
                self._queue("adjustments", event, data | {"user_id": user_id, "proposed_by": event.actor})
            case _:
                self._queue("orders", event, data | {"user_id": user_id})

    def _queue(self, queue: str, event: Record, item: Document) -> None:
        members = tuple(item[name] for name in _MEMBERS[queue])
        self.queues[queue].append(_Queued(event.time_us, self.partition, event.seq, members))

    def _add(self, user_id: str, asset: str, day: datetime, amounts: Iterable[int]) -> None:
        own = self.amounts.setdefault((asset, day), {}).setdefault(user_id, [0, 0, 0])
        own[:] = [total + amount for total, amount in zip(own, amounts, strict=True)]


class CrossUserReads:
    """For each partition in turn pass its records to ``collector``; after the last one call ``compare``."""

    def __init__(self, records: RecordsFrom, partitions: int) -> None:
        self._records = records
        self._parts = [_PartitionTotals(partition) for partition in range(partitions)]
        self.responses = 0
        self.retried = 0
        self.orders = 0
        """Orders in the queue, by the log."""
        self.leaderboards = 0
        self.days_left_out = 0
        self.not_compared = ""
        """Why the rest was not compared; "" if all was."""

    def collector(self, partition: int) -> Callable[[Record], None]:
        return self._parts[partition].collect

    def compare(self, reads: Reads) -> Iterator[Difference]:
        """Yield what differs in each attempt. Raises UnknownRecord, and what ``reads`` raises."""
        try:
            yield from self._differs_each_time(lambda: self._queue("orders", reads.orders))
            yield from self._differs_each_time(lambda: self._queue("adjustments", reads.adjustments))
            for name, asset, first, end in self._boards():
                self.leaderboards += 1
                yield from self._differs_each_time(lambda: self._board(reads, name, asset, first, end))  # noqa: B023 - it is called at once
        except _OlderResponse as older:
            self.not_compared = str(older)

    def _differs_each_time(self, once: Callable[[], list[Difference]]) -> list[Difference]:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                differences = once()
            except _OlderResponse:
                if attempt == _ATTEMPTS:
                    raise
                time.sleep(_PAUSE_S)
                continue
            if not differences:
                break
        self.retried += attempt > 1
        return differences

    # --- the queues ----------------------------------------------------------------------------------------------

    def _queue(self, queue: str, read: Callable[[str | None], Document | None]) -> list[Difference]:
        cursor: str | None = None
        expected: list[_Queued] = []
        place = ""
        compared = 0
        while True:
            self.responses += 1
            try:
                page = read(cursor)
            except Unreadable as error:
                return [_difference(queue, "", place, "a document", f"unreadable: {error}")]
            if page is None:
                return [_difference(queue, "", place, "a list", None)]
            if cursor is None:
                positions = _positions(page, len(self._parts))
                if positions is None:
                    return [_difference(queue, "as_of.positions", "", "one of each partition", page.get("as_of"))]
                if (short := self._reach(positions)) is not None:
                    return [_difference(queue, "as_of.positions", *short)]
                place = _place(positions)
                expected = sorted(self._queued(queue), reverse=True)
                if queue == "orders":
                    self.orders = len(expected)
            try:
                found = [tuple(item[name] for name in _MEMBERS[queue]) for item in page["items"]]
                cursor = page["next_cursor"]
            except (KeyError, TypeError) as error:
                return [_difference(queue, "", place, "items and next_cursor", f"a page without {error}")]
            for number, one in enumerate(found, compared):
                wanted = expected[number].members if number < len(expected) else None
                if one != wanted:
                    whose = self._whose(queue, wanted, one)
                    return [_difference(queue, f"items[{number}]", place, wanted, one, whose)]
            compared += len(found)
            if cursor is None or not found:
                break
        if compared < len(expected):
            wanted = expected[compared].members
            return [_difference(queue, f"items[{compared}]", place, wanted, None, wanted[0])]
        return []

    def _queued(self, queue: str) -> Iterator[_Queued]:
        return chain(*(part.queues[queue] for part in self._parts))

    def _whose(self, queue: str, wanted: tuple[Any, ...] | None, found: tuple[Any, ...]) -> str:
        """The user to report: the log's, unless the log does not have the item that was found."""
        known = any(one.members == found for one in self._queued(queue))
        return wanted[0] if known and wanted is not None else str(found[0])

    # --- the leaderboards ------------------------------------------------------------------------------------------

    def _boards(self) -> list[tuple[str, str, datetime, datetime]]:
        """Name, asset, first day and the day after the last, of each leaderboard to compare."""
        days: dict[str, set[datetime]] = {}
        for asset, day in chain(*(part.amounts for part in self._parts)):
            days.setdefault(asset, set()).add(day)
        boards = []
        for asset, all_days in sorted(days.items()):
            latest = sorted(all_days)[-DAYS_MOST:]
            self.days_left_out += len(all_days) - len(latest)
            spans = {("day", day, day + _DAY) for day in latest}
            spans |= {("week", *_week(day)) for day in latest} | {("month", *_month(day)) for day in latest}
            boards += [(f"{m}_{span}", asset, first, end) for span, first, end in sorted(spans) for m in _MEASURES]
        return boards

    def _board(self, reads: Reads, name: str, asset: str, first: datetime, end: datetime) -> list[Difference]:
        at_us = _us(first)
        read = f"leaderboards/{name}?asset={asset}&at_us={at_us}"
        self.responses += 1
        try:
            response = reads.leaderboard(name, asset, at_us)
        except Unreadable as error:
            return [_difference(read, "", "", "a document", f"unreadable: {error}")]
        if response is None:
            return [_difference(read, "", "", "a leaderboard", None)]
        positions = _positions(response, len(self._parts))
        if positions is None:
            return [_difference(read, "as_of.positions", "", "one of each partition", response.get("as_of"))]
        if (short := self._reach(positions)) is not None:
            return [_difference(read, "as_of.positions", *short)]
        leaders = self._leaders(name, asset, first, end)
        return list(_unequal_boards(read, _place(positions), _board_of(name, asset, first, end, leaders), response))

    def _leaders(self, name: str, asset: str, first: datetime, end: datetime) -> list[tuple[int, str]]:
        """The first ``LEADERS`` pairs of value and user."""
        column = _MEASURES.index(name.partition("_")[0])
        totals: dict[str, int] = {}
        for number in range((end - first).days):
            for part in self._parts:
                for user_id, amounts in part.amounts.get((asset, first + number * _DAY), {}).items():
                    totals[user_id] = totals.get(user_id, 0) + amounts[column]
        ranked = nsmallest(LEADERS, ((-value, user_id) for user_id, value in totals.items() if value))
        return [(-value, user_id) for value, user_id in ranked]

    # --- the log, as of a response ----------------------------------------------------------------------------------

    def _reach(self, positions: Sequence[int]) -> tuple[str, str, str] | None:
        """Read the records up to exactly these positions. If the log is shorter, return where, the expected and the
        found value.

        Raises _OlderResponse if later records were already read.
        """
        for part, seq in zip(self._parts, positions, strict=True):
            if seq < part.end:
                where = f"the reads of all partitions are as of seq {seq} of partition {part.partition}"
                raise _OlderResponse(
                    f"{where}, which was read up to {part.end} (behind, or a user is quarantined there)"
                )
            for _, event in records_after(self._records, part.partition, part.end, seq):
                part.collect(event)
            if part.end < seq:
                place = f"{part.partition}:{seq}"
                return place, f"at most seq {part.end}, where the log ends", place
        return None


def _positions(response: Document, partitions: int) -> list[int] | None:
    """The seq of each partition, in order; None if the response does not name them."""
    try:
        positions = [position.split(":") for position in response["as_of"]["positions"]]
        seqs = {int(partition): int(seq) for partition, seq in positions}
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    whole = (
        len(positions) == partitions and seqs.keys() == set(range(partitions)) and min(seqs.values(), default=0) >= 0
    )
    return [seqs[partition] for partition in range(partitions)] if whole else None


def _place(positions: Sequence[int]) -> str:
    return ",".join(f"{partition}:{seq}" for partition, seq in enumerate(positions))


def _board_of(name: str, asset: str, first: datetime, end: datetime, leaders: Sequence[tuple[int, str]]) -> Document:
    items = [
        {"rank": rank, "user_id": user_id, "value": value} for rank, (value, user_id) in enumerate(leaders, start=1)
    ]
    return {"name": name, "asset": asset, "from_us": _us(first), "to_us": _us(end), "items": items}


def _unequal_boards(read: str, place: str, expected: Document, found: Document) -> Iterator[Difference]:
    """By user if a value differs, otherwise member by member."""
    wanted = {item["user_id"]: item["value"] for item in expected["items"]}
    try:
        got = {item["user_id"]: item["value"] for item in found["items"]}
    except (KeyError, TypeError) as error:
        yield _difference(read, "items", place, "items with user_id and value", f"items without {error}")
        return
    others = [user_id for user_id in got if user_id not in wanted]
    differing = [user_id for user_id in (*wanted, *others) if wanted.get(user_id) != got.get(user_id)]
    for user_id in differing:
        yield _difference(read, "value", place, wanted.get(user_id), got.get(user_id), str(user_id))
    if not differing:
        for field, one, other in unequal_fields("", expected, found):
            yield _difference(read, field, place, one, other)


def _difference(
    read: str, field: str, place: str, expected: Any, found: Any, user_id: str = "all users"
) -> Difference:
    return Difference(user_id, read, field, place, shown(expected), shown(found))


def _day(time_us: int) -> datetime:
    at = _EPOCH + timedelta(microseconds=time_us)
    return at.replace(hour=0, minute=0, second=0, microsecond=0)


def _week(day: datetime) -> tuple[datetime, datetime]:
    first = day - day.weekday() * _DAY
    return first, first + 7 * _DAY


def _month(day: datetime) -> tuple[datetime, datetime]:
    first = day.replace(day=1)
    return first, (first + 31 * _DAY).replace(day=1)


def _us(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND
