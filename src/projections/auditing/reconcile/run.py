"""Compares every document of every wallet, as the reads return it, with the oracle's.

The oracle computes the documents from the log, record by record; then each document is read and compared member by
member. Invariants:
(1) A response is compared with the log as of the position that the response names, so the service may be in use. If a
    response is newer than the records read so far, the newer records are read first.
(2) A list contains the items that existed when its first page was read; each item is compared as of its own page.
(3) A wallet that differs is read again, a bounded number of times. A reported difference was found each time. The
    result also counts the wallets that agreed only in a later attempt.
(4) If the reads of a partition are behind the log, reconcile waits for them, for a bounded time. A quarantined wallet
    stays behind its partition: it is reported as behind, and is no difference if its documents are true at its own
    position.
(5) A response that is not a document is a difference; then the next read is compared.
(6) Memory contains the records of one partition at a time, and the sums for the reads over all users (``totals`` and
    ``games``).
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from ledger.operations.audit import RecordsFrom
from projections.auditing.oracle import Supply
from projections.auditing.reconcile.games import GameReads
from projections.auditing.reconcile.port import Accounts, Difference, Reads, Unreadable, shown
from projections.auditing.reconcile.records import PartitionRecords, Record, decode
from projections.auditing.reconcile.streams import compare_streams
from projections.auditing.reconcile.totals import CrossUserReads
from projections.auditing.reconcile.wallets import compare_wallets, seq_of

__all__ = [
    "Accounts",
    "BehindWallet",
    "Difference",
    "LatePartition",
    "Reads",
    "Reconciled",
    "Unreadable",
    "reconcile",
]

_PAUSE_S: Final = 0.25
_PROBES: Final = 5
_ROWS: Final = "rows"


class BehindWallet(NamedTuple):
    """A wallet whose documents are true at ``seq``, while the reads of its partition are further."""

    user_id: str
    partition: int
    seq: int


class LatePartition(NamedTuple):
    """A partition whose reads had reached only ``seq`` of ``end`` at the end of the wait."""

    partition: int
    seq: int
    end: int


class Reconciled(Struct):
    events: int = 0
    partitions: int = 0
    wallets: int = 0
    responses: int = 0
    retried: int = 0
    differences: int = 0
    behind: list[BehindWallet] = []
    late: list[LatePartition] = []
    unknown_users: int = 0
    """Users with rows and without an event. Each of them is a difference."""
    supply: Supply = msgspec.field(default_factory=Supply)
    cross_user: CrossUserReads | None = None
    """The comparison of queue and leaderboards; None if only some wallets were compared."""
    games: GameReads | None = None
    """The comparison of periods and the house; None as well."""

    @property
    def ok(self) -> bool:
        return not (self.differences or self.late or self.supply.remainders())


def reconcile(
    records: RecordsFrom,
    reads: Reads,
    *,
    only: Collection[str] = (),
    concurrency: int = 4,
    wait_s: float = 60.0,
    on_difference: Callable[[Difference], None] = lambda _difference: None,
    on_message: Callable[[str], None] = lambda _text: None,
    on_progress: Callable[[int, int], None] = lambda _done, _all: None,
    tables: Mapping[str, bytes] | None = None,
) -> Reconciled:
    """Compare every wallet, or ``only`` these. ``tables``: the pay tables of games as JSON, by digest.

    ``on_difference`` gets each difference after the last attempt, ``on_message`` messages for the operator, and
    ``on_progress`` the number of compared events and of all events. Raises UnknownRecord, WrongTable, and
    what ``records`` and ``reads`` raise.
    """
    ends = records.ends()
    result = Reconciled(partitions=len(ends))
    cross_user = CrossUserReads(records, len(ends))
    games = GameReads(records, len(ends), tables or {})

    def report(difference: Difference) -> None:
        result.differences += 1
        on_difference(difference)

    done, total = 0, sum(ends)
    for partition, end in enumerate(ends):
        collectors = () if only else (cross_user.collector(partition), games.collector(partition))
        log = PartitionRecords(records, partition, end, _adding_to(result.supply, end), *collectors)
        result.events += log.first_end
        wallets = [user_id for user_id in log.wallets() if not only or user_id in only]
        target = log.first_end
        if wallets:
            reached = _reached(reads, log, wallets, wait_s, on_message)
            if reached < target:
                result.late.append(LatePartition(partition, reached, target))
            target = min(reached, target)
        if wallets or not only:
            for difference in _accounts(reads, log):
                report(difference)
        for difference in _rows(reads, log, only):
            report(difference)
            result.unknown_users += difference.read == _ROWS
        for compared in compare_wallets(reads, log, wallets, concurrency, target):
            result.wallets += 1
            result.responses += compared.responses
            result.retried += compared.retried
            for difference in compared.differences:
                report(difference)
            if compared.seq < target:
                result.behind.append(BehindWallet(compared.user_id, partition, compared.seq))
            done += compared.events
            on_progress(done, total)
        for difference in () if only else compare_streams(reads, log):
            report(difference)
        done = sum(ends[: partition + 1])
        on_progress(done, total)
    if not only:
        for difference in chain(cross_user.compare(reads), games.compare(reads)):
            report(difference)
        result.responses += cross_user.responses + games.responses
        result.cross_user, result.games = cross_user, games
    return result


def _adding_to(supply: Supply, end: int) -> Callable[[Record], None]:
    """A collector that adds records to ``supply``, only up to seq ``end``: those that existed at the start, so that
    the sums of all partitions are of about the same moment."""

    def add(event: Record) -> None:
        if event.seq <= end:
            supply.add(event.postings)

    return add


def _reached(
    reads: Reads, log: PartitionRecords, wallets: Sequence[str], wait_s: float, on_message: Callable[[str], None]
) -> int:
    """Wait until the partition's reads have reached the log. Returns the seq that they have reached at least."""
    # A wallet that was never opened gets a 404, which names no position.
    probes = list(islice((user_id for user_id in wallets if log.opens(user_id)), _PROBES))
    if not probes:
        return log.first_end
    deadline_s = time.monotonic() + wait_s
    reported = False
    while True:
        seqs = [seq for seq in (_seq_of_wallet(reads, log, user_id) for user_id in probes) if seq >= 0]
        if not seqs:
            return log.first_end  # no response names a position: the comparison of each wallet reports why
        reached = max(seqs)
        if reached >= log.first_end or time.monotonic() >= deadline_s:
            return reached
        if not reported:
            on_message(
                f"the reads of partition {log.partition} are at seq {reached}, the log at {log.first_end}: "
                f"waiting for them, at most {wait_s:.0f} s"
            )
            reported = True
        time.sleep(_PAUSE_S)


def _seq_of_wallet(reads: Reads, log: PartitionRecords, user_id: str) -> int:
    try:
        return seq_of(reads.wallet(user_id), log)
    except Unreadable:
        return -1


def _accounts(reads: Reads, log: PartitionRecords) -> Iterator[Difference]:
    """Compare the totals of all accounts with the sums of all postings. All wallets together are one account for each
    bucket."""
    try:
        totals_read = reads.accounts(log.partition)
    except Unreadable as error:
        position = f"{log.partition}:{log.end}"
        yield Difference("accounts", "accounts", "", position, shown("totals"), shown(f"unreadable: {error}"))
        return
    if totals_read is None or not log.reaches(totals_read.seq):
        return  # rows ahead of the log are reported once, for the checkpoint
    position = f"{log.partition}:{totals_read.seq}"
    totals: dict[tuple[str, str], list[int]] = {}
    for record in log.records_to(totals_read.seq):
        for account, asset, amount in decode(record).postings:
            parts = account.split("/")
            name = f"wallet/{parts[-1]}" if parts[0] == "wallet" else account
            total = totals.setdefault((name, asset), [0, 0])
            total[amount < 0] += abs(amount)
    for account, asset in sorted(totals.keys() | totals_read.totals.keys()):
        expected = totals.get((account, asset))
        found = totals_read.totals.get((account, asset))
        if expected is None or found is None or tuple(expected) != found:
            both = (shown(None if value is None else list(value)) for value in (expected, found))
            yield Difference(account, "accounts", f"{asset}: credited, debited", position, *both)


def _rows(reads: Reads, log: PartitionRecords, only: Collection[str]) -> Iterator[Difference]:
    """Compare the checkpoint with the end of the log, and the users that have rows with the users that have
    events."""
    name = f"partition:{log.partition}"
    try:
        found = reads.users(log.partition)
    except Unreadable as error:
        position = f"{log.partition}:{log.end}"
        yield Difference(name, "checkpoint", "", position, shown("a seq"), shown(f"unreadable: {error}"))
        return
    if found is None:
        return
    seq, users = found
    position = f"{log.partition}:{seq}"
    if not log.reaches(seq):
        end = f"at most {log.end}, where the log ends"
        yield Difference(name, "checkpoint", "seq", position, shown(end), shown(seq))
    for user_id in sorted(users - log.users_to(seq)):
        if not only or user_id in only:
            yield Difference(user_id, _ROWS, "", position, shown("none, as the log has no event"), shown("some"))
