"""Checks how bets of games with rules end. A bet ends once, by the outcome of its period, not before the period has
ended, and is paid by the pay table that it was taken under.

The ``command_id`` of a settlement is ``~<head of the outcome>:<seq of the bet>``, so it names its cause by the hash.

Invariants:
(1) nothing of ``ledger`` is imported here, as in ``postings``;
(2) memory grows with the outcomes that have open bets, not with all periods: after every partition was read beyond an
    outcome, and no bet of its period is open, the outcome is forgotten;
(3) a settlement may be read before its cause, because only pages are in the order of time, not their events.
"""

import re
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from msgspec import UNSET

from ledger.operations.verifying.pay_tables import PayTables, wrong_result
from ledger.operations.verifying.postings import Mismatch, PlacedBet
from ledger.operations.verifying.records import Record

_ID: Final = re.compile("~([0-9a-f]{64}):([1-9][0-9]{0,15})")
_POSITION: Final = re.compile("(0|[1-9][0-9]{0,3}):([1-9][0-9]{0,15})")
_GAME: Final = "game:"
_PERIOD: Final = re.compile("[0-9]{8}T[0-9]{6}Z")
_LENGTH: Final = re.compile("_([1-9][0-9]{0,4})([smh])$")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600}
_ALLOWANCE_US: Final = 2_000_000

_Period = tuple[str, str]


class _Outcome(NamedTuple):
    period: _Period
    result: str | None
    reason: str | None
    time_us: int
    position: str


class _Settled(NamedTuple):
    """A bet that has ended: its period, and how it ended by its event."""

    period: _Period
    rules: str
    legs: Sequence[tuple[str, int, int]]
    is_result: bool
    reason: Any
    time_us: int
    cause: str
    partition: int
    seq: int


def span_of(game: str, period: str) -> tuple[int, int]:
    """When the period begins and ends, in Unix microseconds. Raises Mismatch."""
    length = _LENGTH.search(game)
    if length is None or _PERIOD.fullmatch(period) is None:
        raise Mismatch(f"{game} has no period {period}")
    length_us = int(length[1]) * _SECONDS[length[2]] * 1_000_000
    try:
        moment = datetime.strptime(period, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise Mismatch(f"{game} has no period {period}") from None
    start_us = int(moment.timestamp()) * 1_000_000
    if start_us % length_us or 86_400_000_000 % length_us:
        raise Mismatch(f"{game} has no period {period}")
    return start_us, start_us + length_us


class Settlements:
    """The outcomes of periods, and the bets that wait for them, over all partitions."""

    def __init__(self, tables: PayTables) -> None:
        self._tables = tables
        self._outcomes: dict[str, _Outcome] = {}
        self._in_order: deque[str] = deque()
        self._open: dict[_Period, int] = {}
        self._early: dict[str, list[_Settled]] = {}

    def place(self, event: Record) -> None:
        """A bet of a game with rules. Raises Mismatch if its period takes no bets at that time."""
        period = (event.data.game, event.data.period)
        start_us, end_us = span_of(*period)
        if not start_us <= event.time_us < end_us:
            raise Mismatch(f"the bet was placed outside of its period {period[1]}")
        legs = event.data.selection.count("+") + 1
        before_end_us = end_us - event.time_us
        self._tables.place(event.data.rules, period[0], event.data.stake, legs, event.data.fee, before_end_us)
        self._open[period] = self._open.get(period, 0) + 1

    def cancel(self, bet: PlacedBet) -> None:
        """A command has cancelled the bet."""
        self._close((bet.game, bet.period))

    def outcome(self, event: Record, head: str) -> None:
        """A result, or the cancellation of a period. Raises Mismatch."""
        data = event.data
        period = (event.user_id.removeprefix(_GAME), data.period)
        _, end_us = span_of(*period)
        if event.time_us < end_us + _ALLOWANCE_US:
            raise Mismatch(f"the outcome of the period {period[1]} is before its end and the allowance of 2 s")
        is_result = event.type == "result_recorded"
        if is_result:
            proof = None if data.proof is UNSET else data.proof
            if (why := wrong_result(period[0], data.result, proof, end_us)) is not None:
                raise Mismatch(why)
        position = f"{event.partition}:{event.seq}"
        found = _Outcome(
            period,
            data.result if is_result else None,
            None if is_result else data.reason,
            event.time_us,
            position,
        )
        self._outcomes[head] = found
        self._in_order.append(head)
        for settled in self._early.pop(head, ()):
            self._compare(found, settled)

    def settle(self, event: Record, bet: PlacedBet) -> None:
        """The ledger has ended the bet. Raises Mismatch."""
        data, period = event.data, (bet.game, bet.period)
        named = _ID.fullmatch(event.command_id)
        if named is None or _POSITION.fullmatch(data.cause) is None or int(named[2]) != bet.seq:
            raise Mismatch("its command_id does not name the hash of its cause and the seq of its bet")
        self._close(period)
        is_result = event.type == "bet_settled"
        reason = None if is_result else data.reason
        legs = data.legs if is_result else ()
        settled = _Settled(
            period, bet.rules, legs, is_result, reason, event.time_us, data.cause, event.partition, event.seq
        )
        outcome = self._outcomes.get(named[1])
        if outcome is None:
            self._early.setdefault(named[1], []).append(settled)
        else:
            self._compare(outcome, settled)

    def forget(self, before_us: int) -> None:
        """Every partition has been read up to ``before_us``: forget the earlier outcomes that no bet waits for."""
        kept = []
        while self._in_order:
            head = self._in_order[0]
            outcome = self._outcomes[head]
            if outcome.time_us >= before_us:
                break
            self._in_order.popleft()
            if outcome.period in self._open:
                kept.append(head)
            else:
                del self._outcomes[head]
        self._in_order.extendleft(reversed(kept))

    def without_cause(self, ends: Sequence[int]) -> tuple[int, int, str] | None:
        """Partition, seq and reason of a settlement whose outcome is not in the log, or None. ``ends``: the last seq
        of each partition that was read. A cause after it is not examined: the log may have grown while its ends were
        read."""
        for settled in (one for early in self._early.values() for one in early):
            partition, _, seq = settled.cause.partition(":")
            if int(partition) >= len(ends) or int(seq) <= ends[int(partition)]:
                reason = f"{settled.cause} is not the outcome of the period {settled.period[1]} that it names"
                return settled.partition, settled.seq, reason
        return None

    def _compare(self, outcome: _Outcome, settled: _Settled) -> None:
        _same_outcome(outcome, settled)
        if outcome.result is not None:
            try:
                self._tables.check(settled.rules, settled.legs, outcome.result)
            except Mismatch as mismatch:
                raise Mismatch(str(mismatch), settled.partition, settled.seq) from None

    def _close(self, period: _Period) -> None:
        left = self._open[period] - 1
        if left:
            self._open[period] = left
        else:
            del self._open[period]


def _same_outcome(outcome: _Outcome, settled: _Settled) -> None:
    """Raises Mismatch."""
    if settled.period != outcome.period:
        reason = f"{outcome.position}, its cause, is the outcome of the period {outcome.period[1]}, not of its own"
    elif settled.is_result != (outcome.result is not None) or settled.reason != outcome.reason:
        reason = f"{outcome.position}, its cause, ends the bets of its period in another way"
    elif settled.cause != outcome.position:
        reason = f"it names {settled.cause} as its cause, the cause is {outcome.position}"
    elif settled.time_us < outcome.time_us:
        reason = f"its time is before that of {outcome.position}, its cause"
    else:
        return
    raise Mismatch(reason, settled.partition, settled.seq)
