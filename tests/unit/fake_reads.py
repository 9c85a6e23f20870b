"""Reads made by the oracle from given records, to test ``audit reconcile``.

A test can alter each document, and can let all reads or the reads of one wallet be behind the log.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import date, timedelta
from functools import cache
from typing import Any

from ledger.core.position import partition_of
from ledger.ports import StoredRecord
from projections.auditing.oracle import (
    CODE_STREAM,
    GIFT_STREAM,
    Document,
    WalletOracle,
    gift_of,
    owned_code_of,
)
from projections.auditing.reconcile.run import Accounts
from properties import naive_periods

_LATE_US = 4_000_000_000_000_000
"""A time after every period."""


class Records:
    """The records of a log; a test can let it grow."""

    def __init__(self, partitions: list[list[bytes]]) -> None:
        self.partitions = partitions

    def ends(self) -> Sequence[int]:
        return [len(records) for records in self.partitions]

    def read(self, partition: int, to_seq: int, from_seq: int = 1) -> Iterator[Sequence[StoredRecord]]:
        records = self.partitions[partition][from_seq - 1 : to_seq]
        for start in range(0, len(records), 3):
            yield [StoredRecord(record) for record in records[start : start + 3]]


@cache
def _event(record: bytes) -> Document:
    """A record is looked at for every document of every wallet. No caller changes what this returns."""
    event: Document = json.loads(record)
    return event


@cache
def _owner_and_time(record: bytes) -> tuple[str, int]:
    event = _event(record)
    return event["user_id"], event["time_us"]


class FakeReads:
    """``Reads`` that agree with ``partitions`` unless a test alters them."""

    has_private = True

    def __init__(self, partitions: list[list[bytes]], page: int = 4) -> None:
        self.partitions = partitions
        self.page = page
        self.behind: dict[str, int] = {}
        """Wallet → the seq at which its documents stay."""
        self.ends: dict[int, int] = {}
        """Partition → the seq of its reads; the end of the log if absent."""
        self.users_with_rows: dict[int, tuple[int, set[str]]] = {}
        """Partition → the seq of its rows, and the users that have rows."""
        self.altered: Callable[[str, str, Document | None], Document | None] = lambda _read, _user_id, answer: answer
        self.calls: list[tuple[str, str]] = []
        self._bets_at: tuple[tuple[int, ...], list[tuple[str, Document]]] = ((), [])

    def seq(self, user_id: str) -> tuple[int, int]:
        partition = partition_of(user_id, len(self.partitions))
        end = self.ends.get(partition, len(self.partitions[partition]))
        return partition, min(end, self.behind.get(user_id, end))

    def oracle(self, user_id: str, until_us: int | None = None) -> WalletOracle:
        partition, seq = self.seq(user_id)
        oracle = WalletOracle(user_id)
        for record in self.partitions[partition][:seq]:
            owner, time_us = _owner_and_time(record)
            if owner == user_id and (until_us is None or time_us <= until_us):
                oracle.apply(record)
        return oracle

    def _answer(self, read: str, user_id: str, document: Callable[[WalletOracle], Any]) -> Document | None:
        self.calls.append((read, user_id))
        oracle = self.oracle(user_id)
        partition, seq = self.seq(user_id)
        told = document(oracle) if oracle.is_open else None
        answer = None if told is None else {**told, "as_of": {"position": f"{partition}:{seq}", "lag_ms": 0}}
        return self.altered(read, user_id, answer)

    def _page(
        self, read: str, user_id: str, items: Callable[[WalletOracle], dict[str, Document]], cursor: str | None
    ) -> Document | None:
        def page(oracle: WalletOracle) -> Document:
            found = list(items(oracle).items())[::-1]
            if cursor is not None:  # it contains the names of the items that follow, so new items change nothing
                left = json.loads(cursor)
                found = [(name, item) for name, item in found if name in left]
            rest = [name for name, _ in found[self.page :]]
            return {
                "items": [item for _, item in found[: self.page]],
                "next_cursor": json.dumps(rest) if rest else None,
            }

        return self._answer(read, user_id, page)

    def wallet(self, user_id: str) -> Document | None:
        return self._answer("wallet", user_id, WalletOracle.wallet)

    def balance_at(self, user_id: str, at_us: int) -> Document | None:
        balances = self.oracle(user_id, at_us).balances()
        return self._answer(
            "balance", user_id, lambda _scenario: {"user_id": user_id, "at_us": at_us, "balances": balances}
        )

    def history(self, user_id: str, cursor: str | None) -> Document | None:
        return self._page("history", user_id, lambda oracle: oracle.history, cursor)

    def bets(self, user_id: str, cursor: str | None) -> Document | None:
        return self._page("bets", user_id, lambda oracle: oracle.bets, cursor)

    def holds(self, user_id: str, cursor: str | None) -> Document | None:
        return self._page("holds", user_id, lambda oracle: oracle.holds, cursor)

    def transfers(self, user_id: str, cursor: str | None) -> Document | None:
        return self._page("transfers", user_id, lambda oracle: oracle.transfers, cursor)

    def grants(self, user_id: str, cursor: str | None) -> Document | None:
        return self._page("grants", user_id, lambda oracle: oracle.grants, cursor)

    def bet(self, user_id: str, bet_id: str) -> Document | None:
        return self._answer("bet", user_id, lambda oracle: oracle.bets.get(bet_id))

    def hold(self, user_id: str, hold_id: str) -> Document | None:
        return self._answer("hold", user_id, lambda oracle: oracle.holds.get(hold_id))

    def transfer(self, user_id: str, transfer_id: str) -> Document | None:
        return self._answer("transfer", user_id, lambda oracle: oracle.transfers.get(transfer_id))

    def order(self, user_id: str, order_id: str) -> Document | None:
        return self._answer("order", user_id, lambda oracle: oracle.orders.get(order_id))

    def stats(self, user_id: str) -> Document | None:
        return self._answer("stats", user_id, WalletOracle.stats)

    def referrals(self, user_id: str) -> Document | None:
        return self._answer("referrals", user_id, WalletOracle.referrals)

    def gift(self, code: str) -> Document | None:
        return self._of_stream("gift", GIFT_STREAM, code, gift_of)

    def referral_code(self, code: str) -> Document | None:
        return self._of_stream("referral code", CODE_STREAM, code, owned_code_of)

    def _of_stream(
        self, read: str, stream: str, code: str, document: Callable[[str, list[bytes]], Document | None]
    ) -> Document | None:
        user_id = stream + code
        partition, seq = self.seq(user_id)
        records = [record for record in self.partitions[partition][:seq] if _owner_and_time(record)[0] == user_id]
        found = document(code, records)
        if found is not None:
            found = {**found, "as_of": {"position": f"{partition}:{seq}", "lag_ms": 0}}
        return self.altered(read, user_id, found)

    def accounts(self, partition: int) -> Accounts | None:
        return None

    def users(self, partition: int) -> tuple[int, set[str]] | None:
        return self.users_with_rows.get(partition)

    def orders(self, cursor: str | None) -> Document | None:
        """A cursor contains the ids that follow, as of the first page."""
        orders = [order for oracle in self._oracles() for order in oracle.orders.values()]
        orders.sort(key=lambda order: (order["created_at_us"], *_place_of(order)), reverse=True)
        if cursor is not None:
            left = {tuple(name) for name in json.loads(cursor)}
            orders = [order for order in orders if (order["user_id"], order["order_id"]) in left]
        rest = [(order["user_id"], order["order_id"]) for order in orders[self.page :]]
        page = {"items": orders[: self.page], "next_cursor": json.dumps(rest) if rest else None}
        return self._of_all_users("orders", page)

    def adjustments(self, cursor: str | None) -> Document | None:
        """All in one page."""
        found = [one for oracle in self._oracles() for one in oracle.adjustments.values()]
        found.sort(key=lambda one: (one["created_at_us"], *_place_of(one)), reverse=True)
        return self._of_all_users("adjustments", {"items": found, "next_cursor": None})

    def leaderboard(self, name: str, asset: str, at_us: int) -> Document | None:
        measure, span = name.split("_")
        first_us, end_us = _span(span, at_us)
        totals: dict[str, int] = {}
        for user_id, bet in self._bets():
            if bet["status"] == "cancelled" or bet["asset"] != asset:
                continue
            counts_us = bet["placed_at_us"] if measure == "staked" else bet["settled_at_us"]
            if counts_us is not None and first_us <= counts_us < end_us:
                totals[user_id] = totals.get(user_id, 0) + _value(measure, bet)
        ranked = sorted((-value, user_id) for user_id, value in totals.items() if value != 0)
        items = [
            {"rank": rank, "user_id": user_id, "value": -value} for rank, (value, user_id) in enumerate(ranked, 1)
        ]
        board = {"name": name, "asset": asset, "from_us": first_us, "to_us": end_us, "items": items[:200]}
        return self._of_all_users("leaderboard", board)

    def games(self) -> set[str] | None:
        return None

    def periods(self, game: str, cursor: str | None) -> Document | None:
        """Page by page; the cursor is the last period of the page before."""
        found = naive_periods.periods(self._events(), game, _LATE_US)
        rest = [one for one in found if cursor is None or one["period"] < cursor]
        page = rest[: self.page]
        next_cursor = page[-1]["period"] if len(rest) > self.page else None
        return self._of_all_users("periods", {"items": page, "next_cursor": next_cursor})

    def period(self, game: str, period: str) -> Document | None:
        found = naive_periods.period(self._events(), game, period, _LATE_US)
        return None if found is None else self._of_all_users("period", found)

    def house(self, asset: str, from_us: int, to_us: int) -> Document | None:
        items = naive_periods.house(self._events(), asset, "hour")["items"]
        wanted = [item for item in items if from_us <= item["from_us"] < to_us]
        return self._of_all_users("house", {"items": wanted, "warnings": []})

    def _events(self) -> list[Document]:
        """As far as the reads are."""
        return [
            _event(record)
            for records, end in zip(self.partitions, self._ends(), strict=True)
            for record in records[:end]
        ]

    def _ends(self) -> list[int]:
        ends = [self.ends.get(partition, len(records)) for partition, records in enumerate(self.partitions)]
        for user_id, seq in self.behind.items():
            partition, _ = self.seq(user_id)
            ends[partition] = min(ends[partition], seq)
        return ends

    def _bets(self) -> list[tuple[str, Document]]:
        """Of all users. They are computed once for all leaderboards, unless log or reads went on."""
        now = (sum(map(len, self.partitions)), *self._ends())
        if self._bets_at[0] != now:
            self._bets_at = now, [(oracle.user_id, bet) for oracle in self._oracles() for bet in oracle.bets.values()]
        return self._bets_at[1]

    def _oracles(self) -> list[WalletOracle]:
        users = {_owner_and_time(record)[0] for records in self.partitions for record in records}
        return [self.oracle(user_id) for user_id in sorted(users)]

    def _of_all_users(self, read: str, document: Document) -> Document | None:
        self.calls.append((read, ""))
        as_of = {"positions": [f"{partition}:{seq}" for partition, seq in enumerate(self._ends())], "lag_ms": 0}
        return self.altered(read, "", {**document, "as_of": as_of})


def _value(measure: str, bet: Document) -> int:
    stake: int = bet["stake"]
    if measure == "staked":
        return stake
    payout: int = bet["payout"]
    return payout if measure == "won" else payout - stake


def _place_of(order: Document) -> tuple[int, int]:
    partition, _, seq = order["position"].partition(":")
    return int(partition), int(seq)


def _span(span: str, at_us: int) -> tuple[int, int]:
    day = date(1970, 1, 1) + timedelta(microseconds=at_us)
    match span:
        case "day":
            first, end = day, day + timedelta(days=1)
        case "week":
            first = date.fromisocalendar(*day.isocalendar()[:2], 1)
            end = first + timedelta(days=7)
        case _:
            first = day.replace(day=1)
            end = date(day.year + day.month // 12, day.month % 12 + 1, 1)
    return _us(first), _us(end)


def _us(day: date) -> int:
    return (day - date(1970, 1, 1)).days * 86_400_000_000
