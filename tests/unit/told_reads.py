"""A read side of a few lines, which says what given records make of each wallet: something to reconcile with.

What it says can be altered on its way out, and it may be behind the log, as a whole or for one wallet.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import date, timedelta
from typing import Any

from ledger.core.position import partition_of
from ledger.ports import StoredRecord
from projections.auditing.oracle import Document, Story
from projections.auditing.reconcile.run import Accounts


class Records:
    """The records of a log that grows when a test says so."""

    def __init__(self, partitions: list[list[bytes]]) -> None:
        self.partitions = partitions

    def ends(self) -> Sequence[int]:
        return [len(records) for records in self.partitions]

    def read(self, partition: int, to_seq: int, from_seq: int = 1) -> Iterator[Sequence[StoredRecord]]:
        records = self.partitions[partition][from_seq - 1 : to_seq]
        for start in range(0, len(records), 3):
            yield [StoredRecord(record) for record in records[start : start + 3]]


class ToldReads:
    """``Reads``, true of ``partitions`` unless a test says otherwise."""

    def __init__(self, partitions: list[list[bytes]], page: int = 4) -> None:
        self.partitions = partitions
        self.page = page
        self.behind: dict[str, int] = {}
        """Wallet → the seq that its answers stay at."""
        self.ends: dict[int, int] = {}
        """Partition → the seq that its reads are at; all of the log where it is absent."""
        self.told_users: dict[int, tuple[int, set[str]]] = {}
        """Partition → the seq that its rows are at, and whoever has one."""
        self.altered: Callable[[str, str, Document | None], Document | None] = lambda _read, _user_id, answer: answer
        self.asked: list[tuple[str, str]] = []

    def seq(self, user_id: str) -> tuple[int, int]:
        partition = partition_of(user_id, len(self.partitions))
        end = self.ends.get(partition, len(self.partitions[partition]))
        return partition, min(end, self.behind.get(user_id, end))

    def story(self, user_id: str, until_us: int | None = None) -> Story:
        partition, seq = self.seq(user_id)
        story = Story(user_id)
        for record in self.partitions[partition][:seq]:
            event = json.loads(record)
            if event["user_id"] == user_id and (until_us is None or event["time_us"] <= until_us):
                story.take(record)
        return story

    def _answer(self, read: str, user_id: str, document: Callable[[Story], Any]) -> Document | None:
        self.asked.append((read, user_id))
        story = self.story(user_id)
        partition, seq = self.seq(user_id)
        told = document(story) if story.is_open else None
        answer = None if told is None else {**told, "as_of": {"position": f"{partition}:{seq}", "lag_ms": 0}}
        return self.altered(read, user_id, answer)

    def _page(
        self, read: str, user_id: str, items: Callable[[Story], dict[str, Document]], cursor: str | None
    ) -> Document | None:
        def page(story: Story) -> Document:
            found = list(items(story).items())[::-1]
            if cursor is not None:  # the names of the items that are left, so that what is new changes nothing
                left = json.loads(cursor)
                found = [(name, item) for name, item in found if name in left]
            rest = [name for name, _ in found[self.page :]]
            return {
                "items": [item for _, item in found[: self.page]],
                "next_cursor": json.dumps(rest) if rest else None,
            }

        return self._answer(read, user_id, page)

    def wallet(self, user_id: str) -> Document | None:
        return self._answer("wallet", user_id, Story.wallet)

    def balance_at(self, user_id: str, at_us: int) -> Document | None:
        balances = self.story(user_id, at_us).balances()
        return self._answer(
            "balance", user_id, lambda _story: {"user_id": user_id, "at_us": at_us, "balances": balances}
        )

    def history(self, user_id: str, cursor: str | None) -> Document | None:
        return self._page("history", user_id, lambda story: story.history, cursor)

    def bets(self, user_id: str, cursor: str | None) -> Document | None:
        return self._page("bets", user_id, lambda story: story.bets, cursor)

    def holds(self, user_id: str, cursor: str | None) -> Document | None:
        return self._page("holds", user_id, lambda story: story.holds, cursor)

    def bet(self, user_id: str, bet_id: str) -> Document | None:
        return self._answer("bet", user_id, lambda story: story.bets.get(bet_id))

    def hold(self, user_id: str, hold_id: str) -> Document | None:
        return self._answer("hold", user_id, lambda story: story.holds.get(hold_id))

    def transfer(self, user_id: str, transfer_id: str) -> Document | None:
        return self._answer("transfer", user_id, lambda story: story.transfers.get(transfer_id))

    def order(self, user_id: str, order_id: str) -> Document | None:
        return self._answer("order", user_id, lambda story: story.orders.get(order_id))

    def stats(self, user_id: str) -> Document | None:
        return self._answer("stats", user_id, Story.stats)

    def referrals(self, user_id: str) -> Document | None:
        return self._answer("referrals", user_id, Story.referrals)

    def accounts(self, partition: int) -> Accounts | None:
        return None

    def users(self, partition: int) -> tuple[int, set[str]] | None:
        return self.told_users.get(partition)

    def orders(self, cursor: str | None) -> Document | None:
        """A cursor is the ids that are left, as of the first page."""
        everybody = [order for story in self._stories() for order in story.orders.values()]
        everybody.sort(key=lambda order: (order["created_at_us"], *_place_of(order)), reverse=True)
        if cursor is not None:
            left = {tuple(name) for name in json.loads(cursor)}
            everybody = [order for order in everybody if (order["user_id"], order["order_id"]) in left]
        rest = [(order["user_id"], order["order_id"]) for order in everybody[self.page :]]
        page = {"items": everybody[: self.page], "next_cursor": json.dumps(rest) if rest else None}
        return self._of_everybody("orders", page)

    def leaderboard(self, name: str, asset: str, at_us: int) -> Document | None:
        measure, span = name.split("_")
        first_us, end_us = _span(span, at_us)
        totals: dict[str, int] = {}
        for story in self._stories():
            for bet in story.bets.values():
                if bet["status"] == "cancelled" or bet["asset"] != asset:
                    continue
                counts_us = bet["placed_at_us"] if measure == "staked" else bet["settled_at_us"]
                if counts_us is not None and first_us <= counts_us < end_us:
                    totals[story.user_id] = totals.get(story.user_id, 0) + _value(measure, bet)
        ranked = sorted((-value, user_id) for user_id, value in totals.items() if value != 0)
        items = [
            {"rank": rank, "user_id": user_id, "value": -value} for rank, (value, user_id) in enumerate(ranked, 1)
        ]
        board = {"name": name, "asset": asset, "from_us": first_us, "to_us": end_us, "items": items[:200]}
        return self._of_everybody("leaderboard", board)

    def _stories(self) -> list[Story]:
        users = {json.loads(record)["user_id"] for records in self.partitions for record in records}
        return [self.story(user_id) for user_id in sorted(users)]

    def _of_everybody(self, read: str, document: Document) -> Document | None:
        self.asked.append((read, ""))
        ends = [self.ends.get(partition, len(records)) for partition, records in enumerate(self.partitions)]
        for user_id, seq in self.behind.items():
            partition, _ = self.seq(user_id)
            ends[partition] = min(ends[partition], seq)
        as_of = {"positions": [f"{partition}:{seq}" for partition, seq in enumerate(ends)], "lag_ms": 0}
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
