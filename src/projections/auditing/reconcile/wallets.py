"""One wallet's documents after the other, each held against the wallet's records as of the answer."""

import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct

from projections.auditing.oracle import Document, Story, history_key
from projections.auditing.reconcile.port import Difference, Reads, Unreadable, shown, unequal
from projections.auditing.reconcile.records import Partition

_ATTEMPTS: Final = 4
_PAUSE_S: Final = 0.25
_TIMES_SAMPLED: Final = 3
_IDS_SAMPLED: Final = 2


def seq_of(answer: Document | None, stories: Partition) -> int:
    """The seq that the answer is true at; where it says none, for there is no wallet, as far as we know."""
    if answer is None:
        return 0
    try:
        partition, _, seq = answer["as_of"]["position"].partition(":")
        return int(seq) if int(partition) == stories.partition else -1
    except (KeyError, TypeError, AttributeError, ValueError):
        return -1


class Verdict(NamedTuple):
    """``events``: how many the wallet has; ``seq``: the oldest position that an answer named."""

    user_id: str
    events: int
    seq: int
    answers: int
    asked_again: bool
    differences: list[Difference]


def verdicts(
    reads: Reads, stories: Partition, wallets: Sequence[str], at_once: int, target: int
) -> Iterator[Verdict]:
    pool = ThreadPoolExecutor(at_once, thread_name_prefix="reconcile")
    try:
        yield from pool.map(lambda user_id: _verdict(reads, stories, user_id, target), wallets)
    finally:
        pool.shutdown(cancel_futures=True)


def _verdict(reads: Reads, stories: Partition, user_id: str, target: int) -> Verdict:
    answers = attempt = 0
    while True:
        attempt += 1
        asked = _Comparison(reads, stories, user_id)
        asked.compare()
        answers += asked.answers
        behind = asked.seq < target
        if attempt == _ATTEMPTS or not (asked.differences or behind):
            break
        time.sleep(_PAUSE_S)
    events = len(stories.story(user_id)[0])
    return Verdict(user_id, events, asked.seq, answers, attempt > 1, asked.differences)


class _Comparison:
    """One wallet's documents, asked for once and held against the records."""

    def __init__(self, reads: Reads, stories: Partition, user_id: str) -> None:
        self._reads, self._stories, self._user_id = reads, stories, user_id
        self._told = Story(user_id)
        self._taken = 0
        self.seq = stories.first_end
        """The oldest position that an answer named."""
        self.answers = 0
        self.differences: list[Difference] = []

    def compare(self) -> None:
        reads = self._reads
        with self._named("wallet"):
            if not self._wallet():
                return
        if not self._at(self._stories.first_end).is_open:
            return  # what it has was unreadable, and should not be there
        self._one("stats", reads.stats, Story.stats)
        self._one("referrals", reads.referrals, Story.referrals)
        for at_us in self._times():
            with self._named(f"balance?at_us={at_us}"):
                self._balance_at(at_us)
        self._list("history", reads.history, lambda story: story.history, history_key)
        self._list("bets", reads.bets, lambda story: story.bets, lambda item: str(item["bet_id"]))
        self._list("holds", reads.holds, lambda story: story.holds, lambda item: str(item["hold_id"]))
        self._each("bets", reads.bet, lambda story: story.bets, _IDS_SAMPLED)
        self._each("holds", reads.hold, lambda story: story.holds, _IDS_SAMPLED)
        self._each("transfers", reads.transfer, lambda story: story.transfers, None)
        self._each("orders", reads.order, lambda story: story.orders, None)

    @contextmanager
    def _named(self, read: str) -> Iterator[None]:
        """An answer that is no document is a difference; what is asked next is asked."""
        try:
            yield
        except Unreadable as error:
            self.answers += 1
            self._differs(read, "", "a document", f"unreadable: {error}")

    def _wallet(self) -> bool:
        """Whether the wallet is there, as it should be: then it has more documents."""
        wallet = self._reads.wallet(self._user_id)
        story = self._story_of("wallet", wallet)
        if story is None:
            return False
        if wallet is None:
            # A 404 names no position. All that the log had when we began should be visible by now.
            story = self._at(self._stories.first_end)
            if story.is_open:
                self._differs("wallet", "", story.wallet(), None)
            return False
        if not story.is_open:
            self._differs("wallet", "", None, wallet)
            return False
        self._compare("wallet", story.wallet(), wallet)
        return True

    # --- the kinds of answers ------------------------------------------------------------------------------------

    def _one(self, read: str, ask: Callable[[str], Document | None], expected: Callable[[Story], Document]) -> None:
        with self._named(read):
            answer = ask(self._user_id)
            story = self._story_of(read, answer)
            if story is not None:
                self._compare(read, expected(story), answer)

    def _balance_at(self, at_us: int) -> None:
        read = f"balance?at_us={at_us}"
        answer = self._reads.balance_at(self._user_id, at_us)
        story = self._story_of(read, answer)
        if story is None:
            return
        then = Story(self._user_id)
        for record in self._records()[: self._taken]:
            if _time_us(record) > at_us:
                break
            then.take(record)
        self._compare(read, {"user_id": self._user_id, "at_us": at_us, "balances": then.balances()}, answer)

    def _each(
        self,
        read: str,
        ask: Callable[[str, str], Document | None],
        items: Callable[[Story], dict[str, Document]],
        at_most: int | None,
    ) -> None:
        ids = list(items(self._at(self._stories.first_end)))
        for name in ids if at_most is None else {*ids[:1], *ids[1:][-(at_most - 1) :]}:
            with self._named(f"{read}/{name}"):
                answer = ask(self._user_id, name)
                story = self._story_of(f"{read}/{name}", answer)
                if story is not None:
                    # A 404 names no position: it may be as old as the oldest answer.
                    known = items(story if answer is not None else self._at(self.seq)).get(name)
                    self._compare(f"{read}/{name}", known, answer)

    def _list(
        self,
        read: str,
        ask: Callable[[str, str | None], Document | None],
        items: Callable[[Story], dict[str, Document]],
        key: Callable[[Document], str],
    ) -> None:
        cursor, keys, seen = None, None, 0
        while True:
            try:
                page = ask(self._user_id, cursor)
            except Unreadable as error:
                self.answers += 1
                self._differs(read, "" if cursor is None else f"items[{seen}]…", "a page", f"unreadable: {error}")
                return
            story = self._story_of(read, page)
            if story is None:
                return
            if page is None:
                self._differs(read, "", "a list", None)
                return
            now = items(story)
            if keys is None:
                keys = list(reversed(now))
            try:
                found, cursor = list(page["items"]), page["next_cursor"]
                found_keys = [key(item) for item in found]
            except (KeyError, TypeError) as error:
                self._differs(read, "", "items and next_cursor", f"a page without {error}")
                return
            for number, (item, name) in enumerate(zip(found, found_keys, strict=True), seen):
                if number >= len(keys) or name != keys[number]:
                    self._differs(read, f"items[{number}]", keys[number] if number < len(keys) else None, name)
                    return
                self._compare(read, now.get(name), item, f"items[{name}]")
            seen += len(found)
            if cursor is None or not found:
                break
        if seen != len(keys):
            self._differs(read, f"items[{seen}]", keys[seen], None)

    def _times(self) -> list[int]:
        """Before the first event, and at some of them."""
        times = [_time_us(record) for record in self._at_records(self._stories.first_end)]
        inner = times[:: max(1, len(times) // (_TIMES_SAMPLED - 1))][: _TIMES_SAMPLED - 1]
        return [times[0] - 1, *inner] if times else []

    # --- the log, as of an answer ----------------------------------------------------------------------------------

    def _story_of(self, read: str, answer: Document | None) -> Story | None:
        """The wallet as of the answer, or None, and a difference, where it names no position of the log."""
        self.answers += 1
        if answer is None:
            return self._told
        seq = seq_of(answer, self._stories)
        if seq < 0:
            self._differs(read, "as_of.position", f"a position in {self._stories.partition}", answer.get("as_of"))
            return None
        if not self._stories.reaches(seq):
            self._differs(read, "as_of.position", f"at most seq {self._stories.end}, where the log ends", seq)
            return None
        self.seq = min(self.seq, seq)
        return self._at(seq)

    def _at(self, seq: int) -> Story:
        count = len(self._at_records(seq))
        if count < self._taken:
            self._told, self._taken = Story(self._user_id), 0
        for record in self._records()[self._taken : count]:
            self._told.take(record)
        self._taken = count
        return self._told

    def _at_records(self, seq: int) -> list[bytes]:
        seqs, records = self._stories.story(self._user_id)
        return records[: bisect_right(seqs, seq)]

    def _records(self) -> list[bytes]:
        return self._stories.story(self._user_id)[1]

    # --- differences -----------------------------------------------------------------------------------------------

    def _compare(self, read: str, expected: Any, found: Any, path: str = "") -> None:
        for field, wanted, got in unequal(path, expected, found):
            self._differs(read, field, wanted, got)

    def _differs(self, read: str, field: str, expected: Any, found: Any) -> None:
        taken = self._stories.story(self._user_id)[0][: self._taken]
        position = f"{self._stories.partition}:{taken[-1] if taken else 0}"
        self.differences.append(
            Difference(self._user_id, read, field, position, shown(expected), shown(found)),
        )


class _Time(Struct, gc=False):
    time_us: int


_decode_time: Final = msgspec.json.Decoder(_Time).decode


def _time_us(record: bytes) -> int:
    return _decode_time(record).time_us
