"""Compares the reads over all users, the queues and the leaderboards, with sums over the records.

It shares no code with the folds. A response is compared with the records up to its positions (``as_of``). A stake
counts at the time of its bet, a payout and the net at the time of the settlement, a cancelled bet not at all. Users
with 0 are left out, ties are ordered by user_id. Days are in UTC, weeks are ISO weeks. Invariants:
(1) Of the queue of orders it compares which orders are in it, and in which sequence; ``wallets`` compares each order
    itself. Of the queue of adjustments it also compares the members that never change.
(2) All nine leaderboards of each asset are compared, for the latest days with bets and their weeks and months.
(3) Memory contains, of all partitions: the id, user and time of each order; the proposed adjustments; the open bets;
and what each user staked, won and netted on each day.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from heapq import nsmallest
from itertools import chain
from typing import Any, Final, NamedTuple

import msgspec

from ledger.operations.audit import RecordsFrom
from projections.auditing.oracle import Document
from projections.auditing.reconcile.as_of import (
    AllPartitions,
    OlderResponse,
    decode_data,
    difference_of,
    refers_to_nothing,
)
from projections.auditing.reconcile.port import LEADERS, Difference, Reads, Unreadable, unequal_fields
from projections.auditing.reconcile.records import Record

DAYS_MOST: Final = 40  # chosen: a month and the weeks at its ends; 9 leaderboards are read for each day and asset
_MEASURES: Final = ("staked", "won", "net")
_DAY: Final = timedelta(days=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

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
            self._collect(event, event.user_id, decode_data(event.data))
        except (msgspec.MsgspecError, KeyError, TypeError, OverflowError) as error:
            raise refers_to_nothing(self.partition, event.seq, error) from error

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


class CrossUserReads(AllPartitions[_PartitionTotals]):
    """The queues and the leaderboards."""

    def __init__(self, records: RecordsFrom, partitions: int) -> None:
        super().__init__(records, [_PartitionTotals(partition) for partition in range(partitions)])
        self.orders = 0
        """Orders in the queue, by the log."""
        self.leaderboards = 0
        self.days_left_out = 0
        self.not_compared = ""
        """Why the rest was not compared; "" if all was."""

    def compare(self, reads: Reads) -> Iterator[Difference]:
        """Yield what differs in each attempt. Raises UnknownRecord, and what ``reads`` raises."""
        try:
            yield from self.differs_each_time(lambda: self._queue("orders", reads.orders))
            yield from self.differs_each_time(lambda: self._queue("adjustments", reads.adjustments))
            for name, asset, first, end in self._boards():
                self.leaderboards += 1
                yield from self.differs_each_time(lambda: self._board(reads, name, asset, first, end))  # noqa: B023 - it is called at once
        except OlderResponse as older:
            self.not_compared = str(older)

    # --- the queues ----------------------------------------------------------------------------------------------

    def _queue(self, queue: str, read: Callable[[str | None], Document | None]) -> list[Difference]:
        cursor: str | None = None
        expected: list[_Queued] = []
        place = ""
        compared = 0
        while True:
            if cursor is None:
                response = self.response(queue, lambda: read(None))
                if isinstance(response, Difference):
                    return [response]
                page, place = response
                expected = sorted(self._queued(queue), reverse=True)
                if queue == "orders":
                    self.orders = len(expected)
            else:
                self.responses += 1
                try:
                    later = read(cursor)
                except Unreadable as error:
                    return [difference_of(queue, "", place, "a document", f"unreadable: {error}")]
                if later is None:
                    return [difference_of(queue, "", place, "a list", None)]
                page = later
            try:
                found = [tuple(item[name] for name in _MEMBERS[queue]) for item in page["items"]]
                cursor = page["next_cursor"]
            except (KeyError, TypeError) as error:
                return [difference_of(queue, "", place, "items and next_cursor", f"a page without {error}")]
            for number, one in enumerate(found, compared):
                wanted = expected[number].members if number < len(expected) else None
                if one != wanted:
                    whose = self._whose(queue, wanted, one)
                    return [difference_of(queue, f"items[{number}]", place, wanted, one, whose)]
            compared += len(found)
            if cursor is None or not found:
                break
        if compared < len(expected):
            wanted = expected[compared].members
            return [difference_of(queue, f"items[{compared}]", place, wanted, None, wanted[0])]
        return []

    def _queued(self, queue: str) -> Iterator[_Queued]:
        return chain(*(part.queues[queue] for part in self._parts))

    def _whose(self, queue: str, wanted: tuple[Any, ...] | None, found: tuple[Any, ...]) -> str:
        """The user to report: that of the expected item ``wanted``; but that of ``found`` if no item is expected
        here, or the log has no such item at all."""
        known = any(one.members == found for one in self._queued(queue))
        return wanted[0] if known and wanted is not None else str(found[0])

    # --- the leaderboards ------------------------------------------------------------------------------------------

    def _boards(self) -> list[tuple[str, str, datetime, datetime]]:
        """Name, asset, first day, and the day after the last one, of each leaderboard to compare."""
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
        found = self.response(read, lambda: reads.leaderboard(name, asset, at_us))
        if isinstance(found, Difference):
            return [found]
        response, place = found
        leaders = self._leaders(name, asset, first, end)
        return list(_unequal_boards(read, place, _board_of(name, asset, first, end, leaders), response))

    def _leaders(self, name: str, asset: str, first: datetime, end: datetime) -> list[tuple[int, str]]:
        """The expected first ``LEADERS`` items of a leaderboard, as pairs of value and user."""
        column = _MEASURES.index(name.partition("_")[0])
        totals: dict[str, int] = {}
        for number in range((end - first).days):
            for part in self._parts:
                for user_id, amounts in part.amounts.get((asset, first + number * _DAY), {}).items():
                    totals[user_id] = totals.get(user_id, 0) + amounts[column]
        ranked = nsmallest(LEADERS, ((-value, user_id) for user_id, value in totals.items() if value))
        return [(-value, user_id) for value, user_id in ranked]


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
        yield difference_of(read, "items", place, "items with user_id and value", f"items without {error}")
        return
    others = [user_id for user_id in got if user_id not in wanted]
    differing = [user_id for user_id in (*wanted, *others) if wanted.get(user_id) != got.get(user_id)]
    for user_id in differing:
        yield difference_of(read, "value", place, wanted.get(user_id), got.get(user_id), str(user_id))
    if not differing:
        for field, one, other in unequal_fields("", expected, found):
            yield difference_of(read, field, place, one, other)


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
