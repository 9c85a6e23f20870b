"""The records of one partition by wallet, as a reconciliation keeps them: read on when an answer is newer."""

import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Final

import msgspec
from msgspec import Struct

from ledger.operations.audit import RecordsFrom
from projections.auditing.oracle import NotUnderstood, is_wallet


class Record(Struct, gc=False):
    """What is looked at before it is known which read a record is for; ``data`` as it is written."""

    seq: int
    time_us: int
    user_id: str
    type: str
    data: msgspec.Raw
    postings: list[tuple[str, str, int]]


Takes = Callable[[Record], None]

decode: Final = msgspec.json.Decoder(Record).decode


def records_after(records: RecordsFrom, partition: int, seq: int, end: int) -> Iterator[tuple[bytes, Record]]:
    """The partition's records after ``seq``, up to ``end`` or where the log ends. Raises NotUnderstood."""
    for page in records.read(partition, end, seq + 1):
        for row in page:
            try:
                event = decode(row[0])
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise NotUnderstood(f"the record {partition}:{seq + 1} cannot be read: {error}") from error
            seq = event.seq
            yield row[0], event


class Partition:
    """One partition's records by wallet. Safe to use from several threads."""

    def __init__(self, records: RecordsFrom, partition: int, end: int, *takers: Takes) -> None:
        """With all up to ``end``. ``takers`` see each record once, also those that are read later."""
        self._records, self.partition = records, partition
        self._takers = takers
        self._stories: dict[str, tuple[list[int], list[bytes]]] = {}
        self._lock = threading.Lock()
        self.end = 0
        self._read_to(end)
        self.first_end = self.end

    def wallets(self) -> list[str]:
        return sorted(user_id for user_id in self._stories if is_wallet(user_id))

    def users_to(self, seq: int) -> set[str]:
        """Whoever has an event up to there, streams of games and partitions too."""
        return {user_id for user_id, (seqs, _) in list(self._stories.items()) if seqs[0] <= seq}

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
                    self._read_to(seq)
        return seq <= self.end

    def _read_to(self, end: int) -> None:
        for record, event in records_after(self._records, self.partition, self.end, end):
            seqs, stored = self._stories.setdefault(event.user_id, ([], []))
            stored.append(record)
            seqs.append(event.seq)
            self.end = event.seq
            for take in self._takers:
                take(event)
