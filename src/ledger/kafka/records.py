"""The records of a topic, for programs that only read: implements ``ledger.operations.audit.RecordsFrom``.

It joins no group, and neither creates nor changes a topic.
"""

import asyncio
from collections.abc import Iterator

from ledger.kafka.address import KafkaAddress
from ledger.kafka.declarations import DECLARATIONS, Declared, read_declared
from ledger.kafka.log import TIMEOUT_S, TOPIC
from ledger.kafka.reader import KafkaLogReader
from ledger.ports import StoredRecord


class KafkaRecords:
    """One topic. All methods raise LogUnavailable, LogUnreadable."""

    def __init__(self, address: KafkaAddress, *, topic: str = TOPIC, declarations: str = DECLARATIONS) -> None:
        """Raises LogUnavailable, LogMisconfigured."""
        self._address, self._declarations = address, declarations
        self._reader = KafkaLogReader(address, topic=topic)
        self.partitions = self._reader.partitions

    def declared(self) -> Declared:
        """The assets' exponents, the pay tables and the rules of money flows."""
        return asyncio.run(read_declared(self._address, topic=self._declarations, timeout_s=TIMEOUT_S))

    def ends(self) -> list[int]:
        return self._reader.ends()

    def read(self, partition: int, to_seq: int, from_seq: int = 1) -> Iterator[list[StoredRecord]]:
        """One page: the caller asks for as many records as it wants in memory."""
        records = self._reader.read(partition, from_seq, to_seq - from_seq + 1)
        if records:
            yield [StoredRecord(record) for record in records]

    def close(self) -> None:
        self._reader.close()
