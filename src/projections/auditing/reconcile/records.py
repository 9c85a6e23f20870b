"""The records of one partition by wallet. More records are read when a response is newer."""

import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Final

import msgspec
from msgspec import Struct

from ledger.operations.audit import RecordsFrom
from projections.auditing.oracle import UnknownRecord, is_wallet


class Record(Struct, gc=False):
    """The fields that are decoded of every record; ``data`` stays encoded."""

    seq: int
    time_us: int
    user_id: str
    actor: str
    type: str
    data: msgspec.Raw
    postings: list[tuple[str, str, int]]


Collector = Callable[[Record], None]

decode: Final = msgspec.json.Decoder(Record).decode


def records_after(records: RecordsFrom, partition: int, seq: int, end: int) -> Iterator[tuple[bytes, Record]]:
    """Yield the partition's records after ``seq``, up to ``end`` or the end of the log. Raises UnknownRecord."""
    for page in records.read(partition, end, seq + 1):
        for row in page:
            try:
                event = decode(row[0])
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise UnknownRecord(f"the record {partition}:{seq + 1} cannot be read: {error}") from error
            seq = event.seq
            yield row[0], event


class PartitionRecords:
    """One partition's records by wallet. Safe to use from several threads."""

    def __init__(self, records: RecordsFrom, partition: int, end: int, *collectors: Collector) -> None:
        """Reads all records up to seq ``end``. Each of ``collectors`` is called once with every record, also with
        those that are read later. Raises UnknownRecord."""
        self._records, self.partition = records, partition
        self._collectors = collectors
        self._by_wallet: dict[str, tuple[list[int], list[bytes]]] = {}
        self._lock = threading.Lock()
        self.end = 0
        self._read_to(end)
        self.first_end = self.end

    def wallets(self) -> list[str]:
        """The user_ids of all wallets with an event, sorted."""
        return sorted(user_id for user_id in self._by_wallet if is_wallet(user_id))

    def streams(self, beginning: str) -> list[str]:
        """The ids with an event that begin with this text, such as ``gift:``, sorted."""
        return sorted(user_id for user_id in self._by_wallet if user_id.startswith(beginning))

    def users_to(self, seq: int) -> set[str]:
        """Every id with an event up to this seq, including the streams of the ledger."""
        return {user_id for user_id, (seqs, _) in list(self._by_wallet.items()) if seqs[0] <= seq}

    def of_wallet(self, user_id: str) -> tuple[list[int], list[bytes]]:
        """Return the wallet's seqs and records. Both lists only grow at the end."""
        return self._by_wallet[user_id]

    def records_to(self, seq: int) -> Iterator[bytes]:
        """Yield every record up to this seq, wallet by wallet."""
        for seqs, records in list(self._by_wallet.values()):
            yield from records[: bisect_right(seqs, seq)]

    def opens(self, user_id: str) -> bool:
        """Whether the wallet was ever opened."""
        return any(b'"type":"wallet_opened"' in record for record in self._by_wallet[user_id][1])

    def reaches(self, seq: int) -> bool:
        """Read the records up to this seq. Returns whether the log has it."""
        if seq > self.end:
            with self._lock:
                if seq > self.end:
                    self._read_to(seq)
        return seq <= self.end

    def _read_to(self, end: int) -> None:
        for record, event in records_after(self._records, self.partition, self.end, end):
            seqs, stored = self._by_wallet.setdefault(event.user_id, ([], []))
            stored.append(record)
            seqs.append(event.seq)
            self.end = event.seq
            for collect in self._collectors:
                collect(event)
