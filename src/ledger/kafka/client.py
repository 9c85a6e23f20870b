"""What the log asks of brokers, each a request with one fate: append a batch; where does it end; what stands there.

Truths:
(1) an append is one record batch of an idempotent producer with acks=all, to the partition that is named;
(2) an append that is not known to have failed before it left raises ``OutcomeUnknown``, and its producer takes
    nothing more: it would try for ever, and what comes after would get the wrong sequence numbers;
(3) a question is asked again until it is answered or its time is over: then ``LogUnavailable``.

``aiokafka``'s consumer is not used: it reads ahead in the background, from positions that are its own, and a read of
one record by its offset, or of a partition's end after a question came, would have to fight it. Its client is.
"""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.client import AIOKafkaClient
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

from ledger.errors import LogUnavailable, LogUnreadable, OutcomeUnknown
from ledger.kafka.address import KafkaAddress
from ledger.kafka.clock import BrokerClock
from ledger.kafka.topic import APPEND_BYTES_MAX
from ledger.ports import NewRecord

NO_OFFSET: Final = -1
"""The broker had the batch already, and has forgotten where."""

_LATEST: Final = -1
_EARLIEST: Final = -2
_READ_UNCOMMITTED: Final = 0
_TRY_AGAIN_S: Final = 0.05
_ABANDON_S: Final = 1.0
_NOTHING_WRITTEN: Final = (MessageSizeTooLargeError, RecordListTooLargeError)
"""Answers by which a broker refuses a batch before it looks at anything else."""

_log = logging.getLogger(__name__)


class Stored(NamedTuple):
    """A record in the topic, event or fork."""

    offset: int
    value: bytes
    key: bytes = b""


class Page(NamedTuple):
    """Some records in the order of offsets, and the offset behind the last of them and of all that is no record."""

    records: list[Stored]
    next_offset: int


class _Producer:
    """An idempotent producer that can be given up, with the appends that still wait for it."""

    def __init__(self, producer: Any) -> None:
        self.producer = producer
        self.waiting = 0
        self.given_up = False


class KafkaClient:
    """One topic, for one process."""

    def __init__(self, address: KafkaAddress, topic: str, *, timeout_s: float) -> None:
        self._address, self._topic, self._timeout_s = address, topic, timeout_s
        self._options = address.client_options() | {"request_timeout_ms": int(timeout_s * 1_000)}
        self._client: Any = AIOKafkaClient(**self._options)
        self._producer: _Producer | None = None
        self._making = asyncio.Lock()
        self.clock = BrokerClock()
        self._abandoning: set[asyncio.Task[None]] = set()
        self._closed = False
        self._asking = 0
        self._quiet = asyncio.Event()
        self._quiet.set()

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
        """Appends under way are the caller's to await first."""
        if self._producer is not None:
            self._give_up(self._producer)
        while self._abandoning:
            await asyncio.wait(self._abandoning)
        self._closed = True
        await self._client.close()
        # Questions under way fail with their connections; but one that was just being made would outlive its client.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ABANDON_S):
                await self._quiet.wait()
        await self._client.close()

    # --- appending -----------------------------------------------------------------------------------------------

    async def append(self, partition: int, records: Sequence[NewRecord]) -> int:
        """The offset of the first record, or NO_OFFSET. Raises LogUnavailable (nothing left), OutcomeUnknown."""
        return await self.append_keyed(partition, [(record.user_id.encode(), record.record) for record in records])

    async def append_keyed(self, partition: int, records: Sequence[tuple[bytes, bytes | None]]) -> int:
        """The same with (key, value), where None deletes what a compacted topic has under the key."""
        current = await self._current_producer()
        batch = current.producer.create_batch()
        for key, value in records:
            if batch.append(timestamp=None, key=key, value=value) is None:
                raise LogUnavailable(_too_large(partition, len(records)))
        batch.close()
        sent = False
        current.waiting += 1
        try:
            async with asyncio.timeout(self._timeout_s):
                sent_us = self.clock.sent()
                landed = await current.producer.send_batch(batch, self._topic, partition=partition)
                sent = True
                answer = await landed
                self.clock.answered(sent_us, answer.timestamp)
                return int(answer.offset)
        except _NOTHING_WRITTEN as error:
            self._give_up(current)  # the broker did not count the batch, the producer did
            raise LogUnavailable(_too_large(partition, len(records))) from error
        except (KafkaError, OSError, TimeoutError) as error:
            self._give_up(current)
            if not sent:
                raise LogUnavailable(f"{self._address} took nothing for partition {partition}: {error!r}") from error
            raise OutcomeUnknown(
                f"{self._address} did not say whether it took {len(records)} records of partition {partition}: "
                f"{error!r}"
            ) from error
        finally:
            current.waiting -= 1
            if current.given_up:
                self._abandon_if_idle(current)

    async def _current_producer(self) -> _Producer:
        async with self._making:
            if self._producer is None:
                self._producer = _Producer(await self._new_producer())
            return self._producer

    async def _new_producer(self) -> Any:
        producer = AIOKafkaProducer(
            **self._options, enable_idempotence=True, acks="all", max_batch_size=APPEND_BYTES_MAX
        )
        try:
            async with asyncio.timeout(self._timeout_s):
                await producer.start()
                await producer.partitions_for(self._topic)
        except (KafkaError, OSError, TimeoutError) as error:
            await _abandon(producer)
            raise LogUnavailable(f"{self._address} cannot be reached to append: {error!r}") from error
        return producer

    def _give_up(self, producer: _Producer) -> None:
        """It gets no more appends; those that still wait for it keep their time."""
        producer.given_up = True
        if self._producer is producer:
            self._producer = None
        self._abandon_if_idle(producer)

    def _abandon_if_idle(self, producer: _Producer) -> None:
        if producer.waiting == 0 and not producer.producer._closed:
            producer.producer._closed = True
            task = asyncio.get_running_loop().create_task(_abandon(producer.producer), name="kafka-abandon")
            self._abandoning.add(task)
            task.add_done_callback(self._abandoning.discard)

    # --- asking --------------------------------------------------------------------------------------------------

    async def end_offset(self, partition: int) -> int:
        """The offset behind the last record that all in-sync replicas have, asked for after the call.

        A leader that was just elected and does not know it yet says so (KIP-207), and is asked again. Raises
        LogUnavailable.
        """
        return await self._offset(partition, _LATEST)

    async def end_offsets(self, partitions: int) -> list[int]:
        """``end_offset`` of every partition, in one request a broker. Raises LogUnavailable."""
        ends: dict[int, int] = {}
        by_leader: dict[int | None, list[int]] = {}
        for partition in range(partitions):
            leader = self._client.cluster.leader_for_partition(TopicPartition(self._topic, partition))
            by_leader.setdefault(leader, []).append(partition)
        for leader, led in by_leader.items():
            if leader is not None and leader != -1:
                ends |= await self._ends_at(leader, led)
        for partition in range(partitions):
            if partition not in ends:  # its leader changed, or does not answer: it is looked for
                ends[partition] = await self.end_offset(partition)
        return [ends[partition] for partition in range(partitions)]

    async def _ends_at(self, leader: int, partitions: Sequence[int]) -> dict[int, int]:
        """Of those partitions that it leads."""
        asked = [(partition, _LATEST) for partition in partitions]
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await self._client.send(
                    leader, OffsetRequest(-1, _READ_UNCOMMITTED, [(self._topic, asked)])
                )
        except (KafkaError, TimeoutError) as error:
            _log.debug("broker %s does not say where its partitions end: %r", leader, error)
            return {}
        answers = response.topics[0][1] if response.topics else ()
        return {answer[0]: int(answer[-1]) for answer in answers if answer[1] == 0}

    async def start_offset(self, partition: int) -> int:
        """The offset of the first record that is still there. Raises LogUnavailable."""
        return await self._offset(partition, _EARLIEST)

    async def _offset(self, partition: int, which: int) -> int:
        request = OffsetRequest(-1, _READ_UNCOMMITTED, [(self._topic, [(partition, which)])])
        *_, offset = await self._ask(partition, request)
        return int(offset)

    async def fetch(self, partition: int, offset: int, bytes_max: int) -> Page:
        """Records from ``offset`` on, at least one batch where there is one, at most about ``bytes_max``.

        Raises LogUnavailable; LogUnreadable where the topic does not reach to ``offset``, or no longer begins before.
        """
        place = (self._topic, [(partition, offset, bytes_max)])
        answer = await self._ask(partition, FetchRequest(0, 0, bytes_max, _READ_UNCOMMITTED, [place]))
        found, next_offset = [], offset
        batches = MemoryRecords(answer[-1] or b"")
        while batches.has_next():
            batch = batches.next_batch()
            if not batch.validate_crc():
                raise LogUnreadable(
                    f"partition {partition} of {self._topic} has a damaged batch after offset {offset}"
                )
            if not batch.is_control_batch:
                # A batch comes whole, also where its middle was asked for.
                found += [
                    Stored(record.offset, record.value or b"", record.key or b"")
                    for record in batch
                    if record.offset >= offset
                ]
            next_offset = batch.next_offset
        return Page(found, next_offset)

    async def _ask(self, partition: int, request: Any) -> Any:
        """The partition's part of the leader's answer."""
        self._asking += 1
        self._quiet.clear()
        try:
            return await self._ask_until_answered(partition, request)
        finally:
            self._asking -= 1
            if not self._asking:
                self._quiet.set()

    async def _ask_until_answered(self, partition: int, request: Any) -> Any:
        error: BaseException | None = None
        try:
            async with asyncio.timeout(self._timeout_s):
                while not self._closed:
                    try:
                        return await self._ask_leader(partition, request)
                    except OffsetOutOfRangeError:
                        raise LogUnreadable(await self._out_of_range(partition)) from None
                    except KafkaError as failed:
                        error = failed
                    await asyncio.sleep(_TRY_AGAIN_S)
                    await self._client.force_metadata_update()
        except TimeoutError:
            reason = "no answer" if error is None else repr(error)
            raise LogUnavailable(f"{self._address} does not answer for partition {partition}: {reason}") from error
        raise LogUnavailable("the log is closed")

    async def _ask_leader(self, partition: int, request: Any) -> Any:
        leader = self._client.cluster.leader_for_partition(TopicPartition(self._topic, partition))
        if leader is None or leader == -1:
            raise LeaderNotAvailableError(f"partition {partition}")
        response = await self._client.send(leader, request)
        if not response.topics:
            raise BrokerNotAvailableError("an answer without the topic")
        answer = response.topics[0][1][0]
        error = for_code(answer[1])
        if error.errno != 0:
            raise error(f"partition {partition}")
        return answer

    async def _out_of_range(self, partition: int) -> str:
        return (
            f"partition {partition} of {self._topic} does not hold the records that were there: it got shorter, was "
            "made anew, or its first records were deleted. Nothing was written; restore the topic"
        )


def _too_large(partition: int, records: int) -> str:
    return (
        f"{records} records of partition {partition} are more than the {APPEND_BYTES_MAX} bytes of one batch; "
        "nothing was written"
    )


async def _abandon(producer: Any) -> None:
    """End a producer without waiting for what it still tries.

    ``stop`` would first send all that it has, for ever if need be. The sender is cancelled before the connections
    close, so that it drains nothing more; a second time where it waits for metadata that now never comes.
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
