"""A read side of a few lines, which says what given records make of each wallet: something to reconcile with.

What it says can be altered on its way out, and it may be behind the log, as a whole or for one wallet.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ledger.audit import Stored
from ledger.partitioning import partition_of
from projections.recomputed import Document, Story
from projections.reconcile import Accounts


class Records:
    """The records of a log that grows when a test says so."""

    def __init__(self, partitions: list[list[bytes]]) -> None:
        self.partitions = partitions

    def ends(self) -> Sequence[int]:
        return [len(records) for records in self.partitions]

    def read(self, partition: int, to_seq: int, from_seq: int = 1) -> Iterator[Sequence[Stored]]:
        records = self.partitions[partition][from_seq - 1 : to_seq]
        for start in range(0, len(records), 3):
            yield [Stored(record) for record in records[start : start + 3]]


class ToldReads:
    """``Reads``, true of ``partitions`` unless a test says otherwise."""

    def __init__(self, partitions: list[list[bytes]], page: int = 4) -> None:
        self.partitions = partitions
        self.page = page
        self.behind: dict[str, int] = {}
        """Wallet → the seq that its answers stay at."""
        self.ends: dict[int, int] = {}
        """Partition → the seq that its reads are at; all of the log where it is absent."""
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
