"""Whether the reads say what the log says, for every wallet and every document of it.

The log is read record by record and recomputed (``projections.recomputed``); then each wallet's documents are asked
for and compared, member by member. Truths:
(1) an answer is held against the log as of the position that the answer names, so a service that is being written to
    is no obstacle: where an answer is newer than what was read of the log, the newer records are read first;
(2) a list is what was there when its first page was read, each item as it is by the page that shows it;
(3) a wallet that differs is asked again, a bounded number of times; what is said to differ differed each time. How
    many answers were right only when asked again is said too;
(4) a partition whose reads are behind the log is waited for, within a bound. A wallet that stays behind a partition
    that is not (it is quarantined, say) is named as behind, and is no difference if its answers are true where it is;
(5) memory holds one partition's records at a time.
"""

import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, Final, NamedTuple, Protocol

import msgspec
from msgspec import Struct

from ledger.audit import RecordsFrom
from projections.recomputed import Document, NotUnderstood, Story, Supply, history_key, is_wallet

_ATTEMPTS: Final = 4
_PAUSE_S: Final = 0.25
_PROBES: Final = 5
_TIMES_SAMPLED: Final = 3
_IDS_SAMPLED: Final = 2
_ABSENT: Final = "(nothing)"


class Accounts(NamedTuple):
    """A partition's totals at ``seq``: (account, asset) → (credited, debited), all wallets' buckets together as
    ``wallet/cash``, ``wallet/bonus`` and ``wallet/held``."""

    seq: int
    totals: dict[tuple[str, str], tuple[int, int]]


class Reads(Protocol):
    """What is said of wallets: the contract's documents, each with its ``as_of``. Called by several threads at once.

    None stands for the contract's 404 (``wallet_not_found``, ``bet_not_found`` …). A list is asked for page by page,
    as large as may be: ``{"items", "next_cursor", "as_of"}``, the first one without a cursor. What cannot be asked is
    raised, and ends the reconciliation.
    """

    def wallet(self, user_id: str) -> Document | None: ...
    def balance_at(self, user_id: str, at_us: int) -> Document | None: ...
    def history(self, user_id: str, cursor: str | None) -> Document | None: ...
    def bets(self, user_id: str, cursor: str | None) -> Document | None: ...
    def bet(self, user_id: str, bet_id: str) -> Document | None: ...
    def holds(self, user_id: str, cursor: str | None) -> Document | None: ...
    def hold(self, user_id: str, hold_id: str) -> Document | None: ...
    def transfer(self, user_id: str, transfer_id: str) -> Document | None: ...
    def order(self, user_id: str, order_id: str) -> Document | None: ...
    def stats(self, user_id: str) -> Document | None: ...
    def referrals(self, user_id: str) -> Document | None: ...

    def accounts(self, partition: int) -> Accounts | None:
        """None where they are not told, or not of all its events."""
        ...


class Difference(NamedTuple):
    """``read`` as a client would name it; ``field`` a path into the answer; both values as JSON."""

    user_id: str
    read: str
    field: str
    position: str
    expected: str
    found: str


class Behind(NamedTuple):
    """A wallet whose answers are true at ``seq``, while its partition's reads are further."""

    user_id: str
    partition: int
    seq: int


class Late(NamedTuple):
    """A partition whose reads had only come to ``seq`` of ``end`` when the patience was over."""

    partition: int
    seq: int
    end: int


class Reconciled(Struct):
    events: int = 0
    partitions: int = 0
    wallets: int = 0
    answers: int = 0
    asked_again: int = 0
    differences: int = 0
    behind: list[Behind] = []
    late: list[Late] = []
    supply: Supply = msgspec.field(default_factory=Supply)

    @property
    def well(self) -> bool:
        return not (self.differences or self.late or self.supply.remainders())


class _Record(Struct, gc=False):
    seq: int
    user_id: str
    postings: list[tuple[str, str, int]]


_decode: Final = msgspec.json.Decoder(_Record).decode
_to_json: Final = msgspec.json.Encoder(order="deterministic").encode


def reconcile(
    records: RecordsFrom,
    reads: Reads,
    *,
    only: Collection[str] = (),
    at_once: int = 4,
    patience_s: float = 60.0,
    differs: Callable[[Difference], None] = lambda _difference: None,
    says: Callable[[str], None] = lambda _text: None,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Reconciled:
    """Compare every wallet, or ``only`` these.

    ``differs`` is told each difference when it is certain, ``says`` what is worth knowing meanwhile, ``progress``
    (events of compared wallets, in all). Raises NotUnderstood, and what ``records`` and ``reads`` raise.
    """
    ends = records.ends()
    result = Reconciled(partitions=len(ends))
    done, total = 0, sum(ends)
    for partition, end in enumerate(ends):
        stories = _Partition(records, partition)
        stories.load(end, result.supply)
        result.events += stories.first_end
        wallets = [user_id for user_id in stories.users() if not only or user_id in only]
        if wallets:
            reached = _reached(reads, stories, wallets, patience_s, says)
            if reached < stories.first_end:
                result.late.append(Late(partition, reached, stories.first_end))
            target = min(reached, stories.first_end)
            for difference in _accounts(reads, stories):
                result.differences += 1
                differs(difference)
            for verdict in _verdicts(reads, stories, wallets, at_once, target):
                result.wallets += 1
                result.answers += verdict.answers
                result.asked_again += verdict.asked_again
                result.differences += len(verdict.differences)
                for difference in verdict.differences:
                    differs(difference)
                if verdict.seq < target:
                    result.behind.append(Behind(verdict.user_id, partition, verdict.seq))
                done += verdict.events
                progress(done, total)
        done = sum(ends[: partition + 1])
        progress(done, total)
    return result


class _Partition:
    """One partition's records by wallet, read on when an answer is newer. Safe to use from several threads."""

    def __init__(self, records: RecordsFrom, partition: int) -> None:
        self._records, self.partition = records, partition
        self._stories: dict[str, tuple[list[int], list[bytes]]] = {}
        self._lock = threading.Lock()
        self.end = 0
        self.first_end = 0

    def load(self, end: int, supply: Supply) -> None:
        self._read_to(end, supply)
        self.first_end = self.end

    def users(self) -> list[str]:
        return sorted(user_id for user_id in self._stories if is_wallet(user_id))

    def story(self, user_id: str) -> tuple[list[int], list[bytes]]:
        """The seqs and the records; both grow at their end only."""
        return self._stories[user_id]

    def records_to(self, seq: int) -> Iterator[bytes]:
        """Every record up to there, wallet by wallet."""
        for seqs, records in list(self._stories.values()):
            yield from records[: bisect_right(seqs, seq)]

    def opens(self, user_id: str) -> bool:
        return any(b'"type":"wallet_opened"' in record for record in self._stories[user_id][1])

    def reaches(self, seq: int) -> bool:
        """Whether the log has this seq; all up to it is known from then on."""
        if seq > self.end:
            with self._lock:
                if seq > self.end:
                    self._read_to(seq, None)
        return seq <= self.end

    def _read_to(self, end: int, supply: Supply | None) -> None:
        for page in self._records.read(self.partition, end, self.end + 1):
            for row in page:
                record = row[0]
                try:
                    event = _decode(record)
                except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                    place = f"{self.partition}:{self.end + 1}"
                    raise NotUnderstood(f"the record {place} cannot be read: {error}") from error
                seqs, stored = self._stories.setdefault(event.user_id, ([], []))
                stored.append(record)
                seqs.append(event.seq)
                self.end = event.seq
                if supply is not None:
                    supply.take(event.postings)


def _reached(
    reads: Reads, stories: _Partition, wallets: Sequence[str], patience_s: float, says: Callable[[str], None]
) -> int:
    """How far the partition's reads have come, at least; they are waited for."""
    # A wallet that was never opened answers 404, and so tells no position.
    probes = list(islice((user_id for user_id in wallets if stories.opens(user_id)), _PROBES))
    if not probes:
        return stories.first_end
    deadline_s = time.monotonic() + patience_s
    told = False
    while True:
        reached = max(_seq_of(reads.wallet(user_id), stories) for user_id in probes)
        if reached >= stories.first_end or time.monotonic() >= deadline_s:
            return reached
        if not told:
            says(
                f"the reads of partition {stories.partition} are at seq {reached}, the log at {stories.first_end}: "
                f"waiting for them, at most {patience_s:.0f} s"
            )
            told = True
        time.sleep(_PAUSE_S)


def _seq_of(answer: Document | None, stories: _Partition) -> int:
    """The seq that the answer is true at; where it says none, for there is no wallet, as far as we know."""
    if answer is None:
        return 0
    try:
        partition, _, seq = answer["as_of"]["position"].partition(":")
        return int(seq) if int(partition) == stories.partition else -1
    except (KeyError, TypeError, AttributeError, ValueError):
        return -1


def _accounts(reads: Reads, stories: _Partition) -> Iterator[Difference]:
    """House, transit and all wallets together, held against every posting so far."""
    told = reads.accounts(stories.partition)
    if told is None:
        return
    position = f"{stories.partition}:{told.seq}"
    if not stories.reaches(told.seq):
        end = f"at most seq {stories.end}, where the log ends"
        yield Difference("accounts", "accounts", "as_of", position, end, str(told.seq))
        return
    totals: dict[tuple[str, str], list[int]] = {}
    for record in stories.records_to(told.seq):
        for account, asset, amount in _decode(record).postings:
            parts = account.split("/")
            name = f"wallet/{parts[-1]}" if parts[0] == "wallet" else account
            total = totals.setdefault((name, asset), [0, 0])
            total[amount < 0] += abs(amount)
    for account, asset in sorted(totals.keys() | told.totals.keys()):
        expected = totals.get((account, asset))
        found = told.totals.get((account, asset))
        if expected is None or found is None or tuple(expected) != found:
            shown = (_shown(None if value is None else list(value)) for value in (expected, found))
            yield Difference(account, "accounts", f"{asset}: credited, debited", position, *shown)


class _Verdict(NamedTuple):
    user_id: str
    events: int
    seq: int
    answers: int
    asked_again: bool
    differences: list[Difference]


def _verdicts(
    reads: Reads, stories: _Partition, wallets: Sequence[str], at_once: int, target: int
) -> Iterator[_Verdict]:
    pool = ThreadPoolExecutor(at_once, thread_name_prefix="reconcile")
    try:
        yield from pool.map(lambda user_id: _verdict(reads, stories, user_id, target), wallets)
    finally:
        pool.shutdown(cancel_futures=True)


def _verdict(reads: Reads, stories: _Partition, user_id: str, target: int) -> _Verdict:
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
    return _Verdict(user_id, events, asked.seq, answers, attempt > 1, asked.differences)


class _Comparison:
    """One wallet's documents, asked for once and held against the records."""

    def __init__(self, reads: Reads, stories: _Partition, user_id: str) -> None:
        self._reads, self._stories, self._user_id = reads, stories, user_id
        self._told = Story(user_id)
        self._taken = 0
        self.seq = stories.first_end
        """The oldest position that an answer named."""
        self.answers = 0
        self.differences: list[Difference] = []

    def compare(self) -> None:
        reads, user_id = self._reads, self._user_id
        wallet = reads.wallet(user_id)
        story = self._story_of("wallet", wallet)
        if story is None:
            return
        if wallet is None:
            # A 404 names no position. All that the log had when we began should be visible by now.
            story = self._at(self._stories.first_end)
            if story.is_open:
                self._differs("wallet", "", story.wallet(), None)
            return
        if not story.is_open:
            self._differs("wallet", "", None, wallet)
            return
        self._compare("wallet", story.wallet(), wallet)
        self._one("stats", reads.stats(user_id), Story.stats)
        self._one("referrals", reads.referrals(user_id), Story.referrals)
        for at_us in self._times():
            self._balance_at(at_us)
        self._list("history", reads.history, lambda story: story.history, history_key)
        self._list("bets", reads.bets, lambda story: story.bets, lambda item: str(item["bet_id"]))
        self._list("holds", reads.holds, lambda story: story.holds, lambda item: str(item["hold_id"]))
        self._each("bets", reads.bet, lambda story: story.bets, _IDS_SAMPLED)
        self._each("holds", reads.hold, lambda story: story.holds, _IDS_SAMPLED)
        self._each("transfers", reads.transfer, lambda story: story.transfers, None)
        self._each("orders", reads.order, lambda story: story.orders, None)

    # --- the kinds of answers ------------------------------------------------------------------------------------

    def _one(self, read: str, answer: Document | None, expected: Callable[[Story], Document]) -> None:
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
            page = ask(self._user_id, cursor)
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
        seq = _seq_of(answer, self._stories)
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
        for field, wanted, got in _unequal(path, expected, found):
            self._differs(read, field, wanted, got)

    def _differs(self, read: str, field: str, expected: Any, found: Any) -> None:
        taken = self._stories.story(self._user_id)[0][: self._taken]
        position = f"{self._stories.partition}:{taken[-1] if taken else 0}"
        self.differences.append(
            Difference(self._user_id, read, field, position, _shown(expected), _shown(found)),
        )


def _unequal(path: str, expected: Any, found: Any) -> Iterator[tuple[str, Any, Any]]:
    """Where two documents differ; their ``as_of`` aside, and commissions of nothing."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for name in [*expected, *(name for name in found if name not in expected)]:
            if name == "as_of" and not path:
                continue
            inner = f"{path}.{name}" if path else name
            if path == "commissions" and not expected.get(name) and not found.get(name):
                continue
            if name not in expected:
                yield inner, _ABSENT, found[name]
            elif name not in found:
                yield inner, expected[name], _ABSENT
            else:
                yield from _unequal(inner, expected[name], found[name])
    elif isinstance(expected, list) and isinstance(found, list):
        for number, (wanted, got) in enumerate(zip(expected, found, strict=False)):
            yield from _unequal(f"{path}[{number}]", wanted, got)
        if len(expected) != len(found):
            yield f"{path}, length", len(expected), len(found)
    elif type(expected) is not type(found) or expected != found:
        yield path, expected, found


def _shown(value: Any) -> str:
    return value if value == _ABSENT else _to_json(value).decode()


class _Time(Struct, gc=False):
    time_us: int


_decode_time: Final = msgspec.json.Decoder(_Time).decode


def _time_us(record: bytes) -> int:
    return _decode_time(record).time_us
