"""The log's requests to brokers: append a batch, find where a partition ends, fetch records.

Invariants:
(1) an append is one record batch of an idempotent producer with acks=all, to the partition that is named;
(2) an append that may have been sent and is not acknowledged raises ``OutcomeUnknown``, and its producer gets no
    more appends: it would retry without a limit, and later batches would get wrong sequence numbers;
(3) a read request is repeated until it succeeds or its time is over: then ``LogUnavailable``.

``aiokafka``'s client is used, not its consumer: that reads ahead in the background from offsets it manages itself,
which hinders the read of one record by its offset, or of the end of a partition at a moment after a call.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, NamedTuple

from aiokafka import TopicPartition
from aiokafka.errors import (
    BrokerNotAvailableError,
    KafkaError,
    LeaderNotAvailableError,
    MessageSizeTooLargeError,
    OffsetOutOfRangeError,
    RecordListTooLargeError,
    for_code,
)
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.record.memory_records import MemoryRecords

from ledger import background
from ledger.errors import LogUnavailable, LogUnreadable, OutcomeUnknown
from ledger.kafka.address import KafkaAddress
from ledger.kafka.clock import BrokerClock
from ledger.kafka.connection import new_client, new_producer
from ledger.kafka.retry import retry_until
from ledger.kafka.topic import APPEND_BYTES_MAX
from ledger.ports import NewRecord

NO_OFFSET: Final = -1
"""The broker has the batch already, and no longer knows its offset."""

_LATEST: Final = -1
_EARLIEST: Final = -2
_READ_UNCOMMITTED: Final = 0
_NEW_LEADER_S: Final = 0.002
"""A new leader shows the records it has a moment after its election."""
_ABANDON_S: Final = 1.0
_NOTHING_WRITTEN: Final = (MessageSizeTooLargeError, RecordListTooLargeError)
"""Errors by which a broker refuses a batch before it checks anything else."""

_log = logging.getLogger(__name__)


class Stored(NamedTuple):
    """A record in the topic, event or fork."""

    offset: int
    value: bytes
    key: bytes = b""


class Page(NamedTuple):
    """Some records in the order of offsets, and the offset after the last of them and of Kafka's own batches."""

    records: list[Stored]
    next_offset: int


class _Producer:
    """An idempotent producer that can be abandoned, and the number of its pending appends."""

    def __init__(self, producer: Any) -> None:
        self.producer = producer
        self.pending = 0
        self.abandoned = False


class KafkaClient:
    """One topic, for one process."""

    def __init__(self, address: KafkaAddress, topic: str, *, timeout_s: float) -> None:
        self._address, self._topic, self._timeout_s = address, topic, timeout_s
        self._options = address.client_options() | {"request_timeout_ms": int(timeout_s * 1_000)}
        self._client: Any = new_client(**self._options)
        self._producer: _Producer | None = None
        self._making = asyncio.Lock()
        self.clock = BrokerClock()
        self._abandoning: set[asyncio.Task[None]] = set()
        self._closed = False
        self._pending = 0
        self._quiet = asyncio.Event()
        self._quiet.set()

    @property
    def topic(self) -> str:
        return self._topic

    async def start(self) -> None:
        """Raises LogUnavailable."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._client.bootstrap()
                await self._client.set_topics([self._topic])
        except (KafkaError, OSError, TimeoutError) as error:
            await self._client.close()
            raise LogUnavailable(self._address.unreachable(error)) from error

    async def close(self) -> None:
        """Release everything. The caller awaits its appends first."""
        if self._producer is not None:
            self._abandon(self._producer)
        while self._abandoning:
            await asyncio.wait(self._abandoning)
        self._closed = True
        await self._client.close()
        # Pending requests fail with their connections, but a connection that is being made would outlive its client.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ABANDON_S):
                await self._quiet.wait()
        await self._client.close()

    # --- appending -----------------------------------------------------------------------------------------------

    async def append(self, partition: int, records: Sequence[NewRecord]) -> int:
        """Return the first record's offset or NO_OFFSET. Raises LogUnavailable (nothing was sent), OutcomeUnknown."""
        return await self.append_keyed(partition, [(record.user_id.encode(), record.record) for record in records])

    async def append_keyed(self, partition: int, records: Sequence[tuple[bytes, bytes | None]]) -> int:
        """``append`` of (key, value). The value None deletes the record that a compacted topic has under the key."""
        current = await self._current_producer()
        batch = current.producer.create_batch()
        for key, value in records:
            if batch.append(timestamp=None, key=key, value=value) is None:
                raise LogUnavailable(_too_large(partition, len(records)))
        batch.close()
        sent = False
        current.pending += 1
        try:
            async with asyncio.timeout(self._timeout_s):
                sent_us = self.clock.sent()
                landed = await current.producer.send_batch(batch, self._topic, partition=partition)
                sent = True
                acknowledged = await landed
                self.clock.acknowledged(sent_us, acknowledged.timestamp)
                return int(acknowledged.offset)
        except _NOTHING_WRITTEN as error:
            self._abandon(current)  # the producer counted the batch, the broker did not
            raise LogUnavailable(_too_large(partition, len(records))) from error
        except (KafkaError, OSError, TimeoutError) as error:
            self._abandon(current)
            if not sent:
                raise LogUnavailable(
                    f"{self._address} accepted nothing for partition {partition}: {error!r}"
                ) from error
            raise OutcomeUnknown(
                f"{self._address} did not acknowledge {len(records)} records of partition {partition}: {error!r}"
            ) from error
        finally:
            current.pending -= 1
            if current.abandoned:
                self._abandon_if_idle(current)

    async def _current_producer(self) -> _Producer:
        async with self._making:
            if self._producer is None:
                self._producer = _Producer(await self._new_producer())
            return self._producer

    async def _new_producer(self) -> Any:
        producer = new_producer(**self._options, enable_idempotence=True, acks="all", max_batch_size=APPEND_BYTES_MAX)
        try:
            async with asyncio.timeout(self._timeout_s):
                await producer.start()
                await producer.partitions_for(self._topic)
        except (KafkaError, OSError, TimeoutError) as error:
            await _end(producer)
            raise LogUnavailable(f"{self._address} cannot be reached to append: {error!r}") from error
        return producer

    def _abandon(self, producer: _Producer) -> None:
        """Give it no more appends; its pending ones keep their time limit."""
        producer.abandoned = True
        if self._producer is producer:
            self._producer = None
        self._abandon_if_idle(producer)

    def _abandon_if_idle(self, producer: _Producer) -> None:
        if producer.pending == 0 and not producer.producer._closed:
            producer.producer._closed = True
            task = background.start(_end(producer.producer), "kafka-abandon")
            self._abandoning.add(task)
            task.add_done_callback(self._abandoning.discard)

    # --- reading -------------------------------------------------------------------------------------------------

    async def end_offset(self, partition: int) -> int:
        """Return the offset after the last record that all in-sync replicas have, at a moment after the call.

        A leader that was just elected and does not know it yet returns an error (KIP-207), and the request is
        repeated. Raises LogUnavailable.
        """
        return await self._offset(partition, _LATEST)

    async def end_offsets(self, partitions: int) -> list[int]:
        """Return ``end_offset`` of every partition, by one request for each broker. Raises LogUnavailable."""
        ends: dict[int, int] = {}
        by_leader: dict[int | None, list[int]] = {}
        for partition in range(partitions):
            leader = self._client.cluster.leader_for_partition(TopicPartition(self._topic, partition))
            by_leader.setdefault(leader, []).append(partition)
        for leader, led in by_leader.items():
            if leader is not None and leader != -1:
                ends |= await self._ends_at(leader, led)
        for partition in range(partitions):
            if partition not in ends:  # its leader has changed, or does not respond
                ends[partition] = await self.end_offset(partition)
        return [ends[partition] for partition in range(partitions)]

    async def _ends_at(self, leader: int, partitions: Sequence[int]) -> dict[int, int]:
        """Return the end offsets of the partitions that ``leader`` leads; {} if it does not respond."""
        places = [(partition, _LATEST) for partition in partitions]
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await self._client.send(
                    leader, OffsetRequest(-1, _READ_UNCOMMITTED, [(self._topic, places)])
                )
        except (KafkaError, TimeoutError) as error:
            _log.debug("broker %s does not return the ends of its partitions: %r", leader, error)
            return {}
        ends = response.topics[0][1] if response.topics else ()
        return {end[0]: int(end[-1]) for end in ends if end[1] == 0}

    async def start_offset(self, partition: int) -> int:
        """Return the offset of the first record that still exists. Raises LogUnavailable."""
        return await self._offset(partition, _EARLIEST)

    async def _offset(self, partition: int, which: int) -> int:
        request = OffsetRequest(-1, _READ_UNCOMMITTED, [(self._topic, [(partition, which)])])
        *_, offset = await self._request(partition, request)
        return int(offset)

    async def pages(self, partition: int, offset: int, end: int, bytes_max: int) -> AsyncIterator[Page]:
        """Yield what is from ``offset`` to ``end`` or after it, page by page. Raises as ``fetch``."""
        while offset < end:
            page = await self.fetch(partition, offset, bytes_max)
            yield page
            offset = page.next_offset

    async def fetch(self, partition: int, offset: int, bytes_max: int) -> Page:
        """Return records from ``offset`` on, which must exist: at least one batch, at most about ``bytes_max``.

        Raises LogUnavailable; LogUnreadable where the topic ends before ``offset``, or its first records are missing.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                while True:
                    page = await self._fetch(partition, offset, bytes_max)
                    if page.next_offset > offset:
                        return page
                    await asyncio.sleep(_NEW_LEADER_S)
        except TimeoutError:
            raise LogUnavailable(
                f"partition {partition} of {self._topic} does not show its offset {offset}"
            ) from None

    async def _fetch(self, partition: int, offset: int, bytes_max: int) -> Page:
        place = (self._topic, [(partition, offset, bytes_max)])
        fetched = await self._request(partition, FetchRequest(0, 0, bytes_max, _READ_UNCOMMITTED, [place]))
        found, next_offset = [], offset
        batches = MemoryRecords(fetched[-1] or b"")
        while batches.has_next():
            batch = batches.next_batch()
            if not batch.validate_crc():
                raise LogUnreadable(
                    f"partition {partition} of {self._topic} has a damaged batch after offset {offset}"
                )
            if not batch.is_control_batch:
                # Kafka returns whole batches, also those that begin before the offset.
                found += [
                    Stored(record.offset, record.value or b"", record.key or b"")
                    for record in batch
                    if record.offset >= offset
                ]
            next_offset = batch.next_offset
        return Page(found, next_offset)

    async def _request(self, partition: int, request: Any) -> Any:
        """Return the partition's part of the leader's response. Raises LogUnavailable, LogUnreadable."""

        async def requested() -> Any:
            if self._closed:
                raise LogUnavailable("the log is closed")
            try:
                return await self._request_leader(partition, request)
            except OffsetOutOfRangeError:
                raise LogUnreadable(
                    f"partition {partition} of {self._topic} no longer has records that it had: it got shorter, was "
                    "created again, or its first records were deleted. Nothing was written; restore the topic"
                ) from None

        self._pending += 1
        self._quiet.clear()
        try:
            return await retry_until(
                self._timeout_s,
                requested,
                client=self._client,
                failure=f"{self._address} does not respond for partition {partition}",
            )
        finally:
            self._pending -= 1
            if not self._pending:
                self._quiet.set()

    async def _request_leader(self, partition: int, request: Any) -> Any:
        leader = self._client.cluster.leader_for_partition(TopicPartition(self._topic, partition))
        if leader is None or leader == -1:
            raise LeaderNotAvailableError(f"partition {partition}")
        response = await self._client.send(leader, request)
        if not response.topics:
            raise BrokerNotAvailableError("a response without the topic")
        part = response.topics[0][1][0]
        error = for_code(part[1])
        if error.errno != 0:
            raise error(f"partition {partition}")
        return part


def _too_large(partition: int, records: int) -> str:
    return (
        f"{records} records of partition {partition} are more than the {APPEND_BYTES_MAX} bytes of one batch; "
        "nothing was written"
    )


async def _end(producer: Any) -> None:
    """End a producer without waiting for its retries.

    ``stop`` would first send all pending batches, without a time limit. The sender is cancelled before the
    connections close, so that it sends nothing more; and again while it waits for metadata, which no longer arrives.
    """
    producer._closed = True
    sender = producer._sender.sender_task
    if sender is not None:
        sender.cancel()
    await producer.client.close()
    while sender is not None and not sender.done():
        await asyncio.wait([sender], timeout=_ABANDON_S)
        sender.cancel()
    if sender is not None:
        with contextlib.suppress(asyncio.CancelledError, KafkaError):
            sender.result()
