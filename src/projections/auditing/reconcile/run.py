"""Whether the reads say what the log says, for every wallet and every document of it.

The log is read record by record and recomputed (``projections.auditing.oracle``); then each wallet's documents are
asked for and compared, member by member. Truths:
(1) an answer is held against the log as of the position that the answer names, so a service that is being written to
    is no obstacle: where an answer is newer than what was read of the log, the newer records are read first;
(2) a list is what was there when its first page was read, each item as it is by the page that shows it;
(3) a wallet that differs is asked again, a bounded number of times; what is said to differ differed each time. How
    many answers were right only when asked again is said too;
(4) a partition whose reads are behind the log is waited for, within a bound. A wallet that stays behind a partition
    that is not (it is quarantined, say) is named as behind, and is no difference if its answers are true where it is;
(5) an answer that is no document is a difference, and whoever is next is asked for;
(6) memory holds one partition's records at a time, and of all partitions what the queue and the leaderboards need
    (``projections.auditing.reconcile.totals``).
"""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from ledger.operations.audit import RecordsFrom
from projections.auditing.oracle import Supply
from projections.auditing.reconcile.port import Accounts, Difference, Reads, Unreadable, shown
from projections.auditing.reconcile.records import Partition, Record, decode
from projections.auditing.reconcile.totals import Everybody
from projections.auditing.reconcile.wallets import seq_of, verdicts

__all__ = ["Accounts", "Behind", "Difference", "Late", "Reads", "Reconciled", "Unreadable", "reconcile"]

_PAUSE_S: Final = 0.25
_PROBES: Final = 5
_ROWS: Final = "rows"


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
    strangers: int = 0
    """Who has rows, and no event: each is a difference."""
    supply: Supply = msgspec.field(default_factory=Supply)
    everybody: Everybody | None = None
    """What was compared of queue and leaderboards; None where only some wallets were."""

    @property
    def well(self) -> bool:
        return not (self.differences or self.late or self.supply.remainders())


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
    everybody = Everybody(records, len(ends))

    def tell(difference: Difference) -> None:
        result.differences += 1
        differs(difference)

    done, total = 0, sum(ends)
    for partition, end in enumerate(ends):
        takers = () if only else (everybody.taker(partition),)
        stories = Partition(records, partition, end, _adding_to(result.supply, end), *takers)
        result.events += stories.first_end
        wallets = [user_id for user_id in stories.wallets() if not only or user_id in only]
        target = stories.first_end
        if wallets:
            reached = _reached(reads, stories, wallets, patience_s, says)
            if reached < target:
                result.late.append(Late(partition, reached, target))
            target = min(reached, target)
        if wallets or not only:
            for difference in _accounts(reads, stories):
                tell(difference)
        for difference in _rows(reads, stories, only):
            tell(difference)
            result.strangers += difference.read == _ROWS
        for verdict in verdicts(reads, stories, wallets, at_once, target):
            result.wallets += 1
            result.answers += verdict.answers
            result.asked_again += verdict.asked_again
            for difference in verdict.differences:
                tell(difference)
            if verdict.seq < target:
                result.behind.append(Behind(verdict.user_id, partition, verdict.seq))
            done += verdict.events
            progress(done, total)
        done = sum(ends[: partition + 1])
        progress(done, total)
    if not only:
        for difference in everybody.compare(reads):
            tell(difference)
        result.answers += everybody.answers
        result.everybody = everybody
    return result


def _adding_to(supply: Supply, end: int) -> Callable[[Record], None]:
    """Of what there was when it began only, so that all partitions are of about one moment."""

    def take(event: Record) -> None:
        if event.seq <= end:
            supply.take(event.postings)

    return take


def _reached(
    reads: Reads, stories: Partition, wallets: Sequence[str], patience_s: float, says: Callable[[str], None]
) -> int:
    """How far the partition's reads have come, at least; they are waited for."""
    # A wallet that was never opened answers 404, and so tells no position.
    probes = list(islice((user_id for user_id in wallets if stories.opens(user_id)), _PROBES))
    if not probes:
        return stories.first_end
    deadline_s = time.monotonic() + patience_s
    told = False
    while True:
        seqs = [seq for seq in (_seq_told(reads, stories, user_id) for user_id in probes) if seq >= 0]
        if not seqs:
            return stories.first_end  # nobody tells: what that is for each wallet is found when it is compared
        reached = max(seqs)
        if reached >= stories.first_end or time.monotonic() >= deadline_s:
            return reached
        if not told:
            says(
                f"the reads of partition {stories.partition} are at seq {reached}, the log at {stories.first_end}: "
                f"waiting for them, at most {patience_s:.0f} s"
            )
            told = True
        time.sleep(_PAUSE_S)


def _seq_told(reads: Reads, stories: Partition, user_id: str) -> int:
    try:
        return seq_of(reads.wallet(user_id), stories)
    except Unreadable:
        return -1


def _accounts(reads: Reads, stories: Partition) -> Iterator[Difference]:
    """House, transit and all wallets together, held against every posting so far."""
    try:
        told = reads.accounts(stories.partition)
    except Unreadable as error:
        position = f"{stories.partition}:{stories.end}"
        yield Difference("accounts", "accounts", "", position, shown("totals"), shown(f"unreadable: {error}"))
        return
    if told is None or not stories.reaches(told.seq):
        return  # that the rows are of more than the log has is said once, of the checkpoint
    position = f"{stories.partition}:{told.seq}"
    totals: dict[tuple[str, str], list[int]] = {}
    for record in stories.records_to(told.seq):
        for account, asset, amount in decode(record).postings:
            parts = account.split("/")
            name = f"wallet/{parts[-1]}" if parts[0] == "wallet" else account
            total = totals.setdefault((name, asset), [0, 0])
            total[amount < 0] += abs(amount)
    for account, asset in sorted(totals.keys() | told.totals.keys()):
        expected = totals.get((account, asset))
        found = told.totals.get((account, asset))
        if expected is None or found is None or tuple(expected) != found:
            both = (shown(None if value is None else list(value)) for value in (expected, found))
            yield Difference(account, "accounts", f"{asset}: credited, debited", position, *both)


def _rows(reads: Reads, stories: Partition, only: Collection[str]) -> Iterator[Difference]:
    """The checkpoint, held against the end of the log, and whoever has rows, against whoever has an event by then."""
    name = f"partition:{stories.partition}"
    try:
        told = reads.users(stories.partition)
    except Unreadable as error:
        position = f"{stories.partition}:{stories.end}"
        yield Difference(name, "checkpoint", "", position, shown("a seq"), shown(f"unreadable: {error}"))
        return
    if told is None:
        return
    seq, users = told
    position = f"{stories.partition}:{seq}"
    if not stories.reaches(seq):
        end = f"at most {stories.end}, where the log ends"
        yield Difference(name, "checkpoint", "seq", position, shown(end), shown(seq))
    for user_id in sorted(users - stories.users_to(seq)):
        if not only or user_id in only:
            yield Difference(user_id, _ROWS, "", position, shown("none, as the log has no event"), shown("some"))
