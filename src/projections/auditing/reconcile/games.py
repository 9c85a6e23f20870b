"""Compares the periods of games and the house view with sums over the records.

It shares no code with the folds. A response is compared with the records up to its positions (``as_of``). What a bet
pays on average is computed by the auditor's own rules of games (``ledger.operations.verifying.pay_tables``).
Invariants:
(1) Every period of each game that the reads know is compared, in the list and by itself: its outcome, its counts and
    sums, and its distribution. Its times, and whether it still takes bets, depend on the rules and the clock of the
    service: ``open`` and ``closed`` are compared as one.
(2) Every hour of each asset is compared, from the first to the last hour in which its money moved.
(3) An expected edge is compared, unless the pay table of one of its bets is not known here. These edges are counted.
(4) Memory grows with the open bets, with the periods and their selections, and with the hours, of all partitions.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from itertools import zip_longest
from typing import Any, Final, NamedTuple

import msgspec

from ledger.operations.audit import RecordsFrom
from ledger.operations.verifying.pay_tables import PayTables, average_payout
from ledger.operations.verifying.postings import Mismatch
from projections.auditing.oracle import Document
from projections.auditing.reconcile.as_of import (
    AllPartitions,
    OlderResponse,
    decode_data,
    difference_of,
    refers_to_nothing,
)
from projections.auditing.reconcile.port import Difference, Reads, unequal_fields
from projections.auditing.reconcile.records import Record

HOUR_US: Final = 3_600_000_000
HOURS_MOST: Final = 31 * 24
"""The longest time that one read of the house returns by the hour."""
_GAME: Final = "game:"
_GIVEN: Final = {"house/bonuses": "bonuses", "house/gifts": "bonuses", "house/commissions": "commissions"}
_OUTCOMES: Final = ("result_recorded", "period_cancelled")
_PPM: Final = 1_000_000


class _Bet(NamedTuple):
    game: str
    period: str
    selection: str
    asset: str
    stake: int
    fee: int
    rules: str | None
    hour: int


class _OfPeriod:
    """The outcome and the sums of a period in one partition."""

    def __init__(self) -> None:
        self.outcome: Document | None = None
        self.open_bets = 0
        self.settled_bets = 0
        self.staked: dict[str, int] = {}
        self.paid_out: dict[str, int] = {}
        self.selections: dict[tuple[str, str], list[int]] = {}
        """(Selection, asset) → bets, staked."""


class _OfHour:
    """The sums of one game, hour and asset in one partition."""

    def __init__(self) -> None:
        self.sums = dict.fromkeys(("bets", "staked", "paid_out", "fees", "commissions", "bonuses"), 0)
        self.average: dict[int, int] = {}
        """Number of results of the game → what the bets pay on all results together, in minor units."""
        self.without_rules = 0
        self.unknown = 0
        """Bets under a pay table that is not known here."""


class _OfPartition:
    """Periods and hours of one partition's records up to ``end``."""

    def __init__(self, partition: int, tables: PayTables) -> None:
        self.partition = partition
        self.end = 0
        self.periods: dict[str, dict[str, _OfPeriod]] = {}
        """Game → period → its sums."""
        self.hours: dict[str, dict[tuple[int, str], _OfHour]] = {}
        """Asset → (hour, game) → its sums; game "" is money that no game moved."""
        self._tables = tables
        self._open: dict[tuple[str, str], _Bet] = {}

    def collect(self, event: Record) -> None:
        """Raises UnknownRecord."""
        self.end = event.seq
        hour = event.time_us // HOUR_US
        for account, asset, amount in event.postings:
            if account in _GIVEN:
                self._hour(asset, hour, "").sums[_GIVEN[account]] -= amount
        if event.type.startswith("bet_") or event.type in _OUTCOMES:
            try:
                self._collect(event, decode_data(event.data), hour)
            except (msgspec.MsgspecError, KeyError, TypeError, Mismatch) as error:
                raise refers_to_nothing(self.partition, event.seq, error) from error

    def _collect(self, event: Record, data: Document, hour: int) -> None:
        match event.type:
            case "bet_placed":
                named = (data["game"], data["period"], data["selection"], data["asset"], data["stake"])
                bet = _Bet(*named, data.get("fee") or 0, data.get("rules"), hour)
                self._open[event.user_id, data["bet_id"]] = bet
                self._count(bet, 1)
            case "bet_settled":
                bet = self._open.pop((event.user_id, data["bet_id"]))
                self._hour(bet.asset, bet.hour, bet.game).sums["paid_out"] += data["payout"]
                if bet.rules is not None:
                    period = self._period(bet.game, bet.period)
                    period.open_bets -= 1
                    period.settled_bets += 1
                    period.paid_out[bet.asset] += data["payout"]
            case "bet_cancelled":
                if not data["before_bet"]:
                    self._count(self._open.pop((event.user_id, data["bet_id"])), -1)
            case _:
                outcome = {"type": event.type, "result": data.get("result"), "proof": data.get("proof")}
                self._period(event.user_id.removeprefix(_GAME), data["period"]).outcome = outcome

    def _count(self, bet: _Bet, bets: int) -> None:
        hour = self._hour(bet.asset, bet.hour, bet.game)
        for name, amount in (("bets", 1), ("staked", bet.stake), ("fees", bet.fee)):
            hour.sums[name] += bets * amount
        if bet.rules is None:
            hour.without_rules += bets
            return
        period = self._period(bet.game, bet.period)
        period.open_bets += bets
        period.staked[bet.asset] = period.staked.get(bet.asset, 0) + bets * bet.stake
        period.paid_out.setdefault(bet.asset, 0)
        selection = period.selections.setdefault((bet.selection, bet.asset), [0, 0])
        selection[0] += bets
        selection[1] += bets * bet.stake
        table = self._tables.table_of(bet.rules)
        if table is None:
            hour.unknown += bets
        else:
            total, results = average_payout(table, bet.selection, bet.stake)
            hour.average[results] = hour.average.get(results, 0) + bets * total

    def _period(self, game: str, period: str) -> _OfPeriod:
        return self.periods.setdefault(game, {}).setdefault(period, _OfPeriod())

    def _hour(self, asset: str, hour: int, game: str) -> _OfHour:
        return self.hours.setdefault(asset, {}).setdefault((hour, game), _OfHour())


class GameReads(AllPartitions[_OfPartition]):
    """Compares the periods and the house view. Its attributes say what was compared, and what was not."""

    def __init__(self, records: RecordsFrom, partitions: int, tables: Mapping[str, bytes]) -> None:
        """``tables``: pay tables as JSON, by digest. Raises WrongTable."""
        known = PayTables(tables)
        super().__init__(records, [_OfPartition(partition, known) for partition in range(partitions)])
        self.periods = 0
        """Periods compared."""
        self.hours: set[tuple[str, int, str]] = set()
        """(Asset, hour, game) of each item of the house that was compared."""
        self.games_unknown: list[str] = []
        """Games with events whose periods the reads do not have, because the games are no longer played."""
        self.edges_unknown: set[tuple[str, int, str]] = set()
        """The items of the house whose expected edge was not compared, because a pay table is not known here."""
        self.not_compared = ""
        """Why the rest was not compared; "" if all was."""
        self._named: tuple[str, list[int], list[str]] = ("", [], [])
        """The last result of ``_names``: its game, the ends of the partitions then, and the names."""

    def compare(self, reads: Reads) -> Iterator[Difference]:
        """Yield what differs in each attempt. Raises UnknownRecord, and what ``reads`` raises."""
        try:
            yield from self._compare_periods(reads)
            yield from self._compare_house(reads)
        except OlderResponse as older:
            self.not_compared = str(older)

    # --- periods ---------------------------------------------------------------------------------------------------

    def _compare_periods(self, reads: Reads) -> Iterator[Difference]:
        played = reads.games()
        for game in sorted({game for part in self._parts for game in part.periods}):
            if played is not None and game not in played:
                self.games_unknown.append(game)
                continue
            yield from self.differs_each_time(lambda: self._list(reads, game))  # noqa: B023 - it is called at once
            for period in reversed(self._names(game)):
                self.periods += 1
                yield from self.differs_each_time(lambda: self._one(reads, game, period))  # noqa: B023 - as above

    def _names(self, game: str) -> list[str]:
        """The periods with an event, the earliest first. Kept until further events are read: each page needs them."""
        ends = [part.end for part in self._parts]
        if self._named[:2] != (game, ends):
            names = sorted({period for part in self._parts for period in part.periods.get(game, ())})
            self._named = game, ends, names
        return self._named[2]

    def _list(self, reads: Reads, game: str) -> list[Difference]:
        read, cursor, last = f"games/{game}/periods", None, "~"
        while True:
            found = self.response(read, lambda: reads.periods(game, cursor))  # noqa: B023 - it is called at once
            if isinstance(found, Difference):
                return [found]
            page, place = found
            try:
                items, cursor = page["items"], page["next_cursor"]
                names = [item["period"] for item in items]
            except (KeyError, TypeError) as error:
                return [difference_of(read, "", place, "items and next_cursor", f"a page without {error}")]
            known = self._names(game)
            below = bisect_left(known, last)
            first = 0 if cursor is None else max(below - len(names), 0)
            expected = known[first:below][::-1]
            if names != expected or (cursor is not None and not names):
                return [_first_unequal(read, "items", place, expected, names)]
            for item, name in zip(items, names, strict=True):
                if differences := _unequal(read, place, self._document(game, name, of_list=True), item):
                    return differences
            if cursor is None:
                return []
            last = names[-1]

    def _one(self, reads: Reads, game: str, period: str) -> list[Difference]:
        read = f"games/{game}/periods/{period}"
        found = self.response(read, lambda: reads.period(game, period))
        if isinstance(found, Difference):
            return [found]
        response, place = found
        return _unequal(read, place, self._document(game, period), response)

    def _document(self, game: str, period: str, *, of_list: bool = False) -> Document:
        own = [part.periods[game][period] for part in self._parts if period in part.periods.get(game, ())]
        outcome = next((one.outcome for one in own if one.outcome is not None), None)
        open_bets = sum(one.open_bets for one in own)
        if outcome is None:
            status = "open"
        elif open_bets:
            status = "settling"
        else:
            status = "settled" if outcome["type"] == "result_recorded" else "cancelled"
        document = {
            "game": game,
            "period": period,
            "status": status,
            "result": None if outcome is None else outcome["result"],
            "proof": None if outcome is None else outcome["proof"],
            "open_bets": open_bets,
            "settled_bets": sum(one.settled_bets for one in own),
            "staked": _added_up(one.staked for one in own),
            "paid_out": _added_up(one.paid_out for one in own),
        }
        if of_list:
            return document
        bets = _added_up({key: bets for key, (bets, _) in one.selections.items()} for one in own)
        staked = _added_up({key: staked for key, (_, staked) in one.selections.items()} for one in own)
        document["distribution"] = [
            {"selection": selection, "asset": asset, "bets": count, "staked": staked[selection, asset]}
            for (selection, asset), count in sorted(bets.items())
            if count
        ]
        return document

    # --- the house -------------------------------------------------------------------------------------------------

    def _compare_house(self, reads: Reads) -> Iterator[Difference]:
        for asset in sorted({asset for part in self._parts for asset in part.hours}):
            hours = {hour for part in self._parts for hour, _ in part.hours.get(asset, ())}
            first, end = min(hours), max(hours) + 1
            for begin in range(first, end, HOURS_MOST):
                until = min(begin + HOURS_MOST, end)
                yield from self.differs_each_time(lambda: self._house(reads, asset, begin, until))  # noqa: B023

    def _house(self, reads: Reads, asset: str, first: int, end: int) -> list[Difference]:
        from_us, to_us = first * HOUR_US, end * HOUR_US
        read = f"house?asset={asset}&from_us={from_us}&to_us={to_us}"
        found = self.response(read, lambda: reads.house(asset, from_us, to_us))
        if isinstance(found, Difference):
            return [found]
        response, place = found
        try:
            got = {(item["from_us"], item["game"]): item for item in response["items"]}
            keys = [(item["from_us"], item["game"]) for item in response["items"]]
        except (KeyError, TypeError) as error:
            return [difference_of(read, "items", place, "items with from_us and game", f"items without {error}")]
        wanted = self._items(asset, first, end)
        if keys != list(wanted):
            return [_first_unequal(read, "items", place, list(wanted), keys)]
        return [
            difference_of(read, f"{game or 'no game'} at {at}: {field}", place, one, other)
            for (at, game), item in wanted.items()
            for field, one, other in unequal_fields("", item, _only(got[at, game], item))
        ]

    def _items(self, asset: str, first: int, end: int) -> dict[tuple[int, str | None], Document]:
        """The expected items of the hours from ``first`` to before ``end``: (start of the hour, game) → the item, in
        the order of the read."""
        keys = {key for part in self._parts for key in part.hours.get(asset, ()) if first <= key[0] < end}
        items = {}
        for hour, game in sorted(keys, key=lambda key: (-key[0], key[1])):
            own = [part.hours[asset][hour, game] for part in self._parts if (hour, game) in part.hours.get(asset, ())]
            sums = _added_up(one.sums for one in own)
            if not any(sums.values()):
                continue
            item: Document = {"from_us": hour * HOUR_US, "game": game or None, **sums}
            item["edge_ppm"] = _edge_ppm(sums["staked"], sums["paid_out"])
            if any(one.unknown for one in own):
                self.edges_unknown.add((asset, hour, game))
            else:
                item["expected_edge_ppm"] = _expected_edge_ppm(sums["staked"], own)
            self.hours.add((asset, hour, game))
            items[hour * HOUR_US, game or None] = item
        return items


def _expected_edge_ppm(staked: int, own: list[_OfHour]) -> int | None:
    if any(one.without_rules for one in own):
        return None
    average = _added_up(one.average for one in own)
    assert len(average) <= 1, "a game has one number of results"
    for results, total in average.items():
        return _edge_ppm(staked * results, total)
    return None


def _edge_ppm(staked: int, paid_out: int) -> int | None:
    return (staked - paid_out) * _PPM // staked if staked else None


def _added_up(sums: Iterable[Mapping[Any, int]]) -> dict[Any, int]:
    total: dict[Any, int] = {}
    for one in sums:
        for key, amount in one.items():
            total[key] = total.get(key, 0) + amount
    return total


def _first_unequal(read: str, field: str, place: str, expected: list[Any], found: list[Any]) -> Difference:
    """The first place at which two lists differ, or a page that has no item although another one should follow."""
    for at, (one, other) in enumerate(zip_longest(expected, found)):
        if one != other:
            return difference_of(read, f"{field}[{at}]", place, one, other)
    return difference_of(read, field, place, "an item", None)


def _unequal(read: str, place: str, expected: Document, found: Any) -> list[Difference]:
    """The members of ``expected`` that differ in ``found``; ``closed`` and ``open`` are equal here."""
    of_read = _only(found, expected)
    if of_read.get("status") == "closed":
        of_read["status"] = "open"
    name = f"{expected['period']}: " if "distribution" not in expected else ""
    return [
        difference_of(read, name + field, place, one, other)
        for field, one, other in unequal_fields("", expected, of_read)
    ]


def _only(found: Any, expected: Document) -> Document:
    return {name: found[name] for name in expected if name in found} if isinstance(found, dict) else {}
