"""The event log of many nodes: the Kafka topic ``stakelog.events``, key = user_id, value = record.

Durable means acknowledged by ``min.insync.replicas`` brokers; Kafka does not fsync. Any process may append to any
partition at any time, so a record in the topic is not yet an event. Invariants:
(1) a record is an event if and only if its ``seq`` and ``prev`` continue the last event before it in the order of
    offsets. Any other record is a fork: skipped and counted. No other rule decides, and the decision is final,
    because the records before a record never change;
(2) an append is one atomic batch. It landed if the broker returns the offset that its writer expected: the first one
    after all that it has read. If the broker returns another offset or none, the log reads the topic, and the chain
    decides: all records of the batch are events, or the append raises ``StaleHead``;
(3) if no broker says whether it landed, the append raises ``OutcomeUnknown``, and the next one has a new producer:
    the batch may still arrive later;
(4) ``confirm`` uses the topic's end at a moment after the call;
(5) a seq has one offset: between forks offsets and seqs grow together, so a few pairs of them give all others;
(6) a verified head with the pairs up to it is a *place*: reading may begin there, once the topic shows that head at
    that offset;
(7) a topic without the records that were read from it before is ``LogUnreadable``: it got shorter.
"""

import asyncio
import logging
from bisect import bisect_right
from collections.abc import Mapping, Sequence, Set
from itertools import pairwise
from typing import Final

import msgspec
from msgspec import Struct

from ledger import background
from ledger.core.games.tables import PayTable
from ledger.core.money import Assets
from ledger.core.money_rules import Money
from ledger.core.record import EMPTY, Head, sha256_hex
from ledger.errors import (
    DELETE_STATE,
    CheckpointAhead,
    ForeignCheckpoint,
    LogUnavailable,
    LogUnreadable,
    OutcomeUnknown,
    StaleHead,
)
from ledger.kafka.address import KafkaAddress
from ledger.kafka.client import NO_OFFSET, KafkaClient, Stored
from ledger.kafka.declarations import DECLARATIONS, Declared, declare, read_declared
from ledger.kafka.topic import APPEND_BYTES_MAX, prepare_topic
from ledger.ports import NewRecord

TOPIC: Final = "stakelog.events"

TIMEOUT_S: Final = 10.0
"""The limit of one request to a broker. Chosen: longer than an election, shorter than a client waits."""

_PAGE_BYTES: Final = 1 << 20
_RECORD_BYTES: Final = 1_024  # chosen: more than most records have, so that one fetch returns a page

_log = logging.getLogger(__name__)


class OffsetRange(Struct, frozen=True, array_like=True):
    """From this seq to the next range offsets and seqs grow together; ``forks``: how many are before it."""

    seq: int
    offset: int
    forks: int = 0


class Known(Struct, frozen=True):
    """Where reading may continue: all events up to ``seq``, whose record has the hash ``sha256``, are verified."""

    seq: int
    sha256: str
    next_offset: int
    forks: int
    ranges: tuple[OffsetRange, ...] = msgspec.field(name="runs")


_encode_place = msgspec.msgpack.Encoder().encode
_decode_place = msgspec.msgpack.Decoder(Known).decode


class _Link(Struct, gc=False):
    """The chain's fields of a record."""

    seq: int
    prev: str


_link = msgspec.json.Decoder(_Link).decode


class _Partition:
    """What this process knows about one partition."""

    def __init__(self) -> None:
        self.head = EMPTY
        self.next_offset = 0
        self.forks = 0
        self.ranges: list[OffsetRange] = []
        self.in_doubt = True  # whether the topic may have records that were not read
        self.turn = asyncio.Lock()

    def known(self) -> Known:
        return Known(self.head.seq, self.head.sha256, self.next_offset, self.forks, tuple(self.ranges))

    def known_at(self, head: Head) -> Known:
        """What is known directly after the event ``head``."""
        assert 0 < head.seq <= self.head.seq, (head, self.head)
        ranges = self.ranges[: bisect_right(self.ranges, head.seq, key=lambda one: one.seq)]
        return Known(head.seq, head.sha256, self.offset_of(head.seq) + 1, ranges[-1].forks, tuple(ranges))

    def begin_at(self, known: Known) -> None:
        self.head = Head(known.seq, known.sha256)
        self.next_offset, self.forks, self.ranges = known.next_offset, known.forks, list(known.ranges)

    def take(self, stored: Stored) -> _Link | None:
        """Read the next record in the order of offsets. Returns its link if it is an event."""
        assert stored.offset >= self.next_offset, "each record is read once"
        self.next_offset = stored.offset + 1
        try:
            link = _link(stored.value)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            link = None
        if link is None or link.seq != self.head.seq + 1 or link.prev != self.head.sha256:
            self.forks += 1
            return None
        self._note_offset(link.seq, stored.offset)
        self.head = Head(link.seq, sha256_hex(stored.value))
        return link

    def append(self, records: Sequence[NewRecord], offset: int) -> None:
        """The batch of this process, which continues the head, landed at ``offset``."""
        self._note_offset(records[0].seq, offset)
        self.head = Head(records[-1].seq, sha256_hex(records[-1].record))
        self.next_offset = offset + len(records)

    def _note_offset(self, seq: int, offset: int) -> None:
        if not self.ranges or offset - seq != self.ranges[-1].offset - self.ranges[-1].seq:
            self.ranges.append(OffsetRange(seq, offset, self.forks))

    def offset_of(self, seq: int) -> int:
        one = self.ranges[bisect_right(self.ranges, seq, key=lambda one: one.seq) - 1]
        return one.offset + seq - one.seq

    def seq_at(self, offset: int) -> int | None:
        """Return the seq of the event at ``offset``; None if there is a fork, or nothing that was read."""
        index = bisect_right(self.ranges, offset, key=lambda one: one.offset) - 1
        if index < 0:
            return None
        seq = self.ranges[index].seq + offset - self.ranges[index].offset
        end = self.ranges[index + 1].seq if index + 1 < len(self.ranges) else self.head.seq + 1
        return seq if seq < end else None


class KafkaEventLog:
    """``EventLog`` over one topic. Created by ``open_log``."""

    shared: Final = True
    append_bytes: Final = APPEND_BYTES_MAX // 2  # a round ends after this; the last command's events come on top

    def __init__(
        self, client: KafkaClient, address: KafkaAddress, partitions: int, declarations: str, timeout_s: float
    ) -> None:
        self.partitions = partitions
        self._address, self._declarations = address, declarations
        self._timeout_s = timeout_s
        self._client = client
        self._known = [_Partition() for _ in range(partitions)]
        self._appends: set[asyncio.Task[None]] = set()
        self._closed = False

    # --- appending ---------------------------------------------------------------------------------------------

    async def append(self, partition: int, after: Head, records: Sequence[NewRecord]) -> None:
        assert records, "an append has at least one record"
        self._check_open()
        # A separate task: a batch that was sent cannot be called back, and this log must notice where it landed.
        append = background.awaited(self._append(partition, after, records), "kafka-append")
        self._appends.add(append)
        append.add_done_callback(self._appends.discard)
        await background.result_of(append)

    async def _append(self, partition: int, after: Head, records: Sequence[NewRecord]) -> None:
        known = self._known[partition]
        async with known.turn:
            if known.in_doubt or known.head != after:
                await self._read_to_end(partition)
            if known.head != after:
                raise StaleHead(f"partition {partition} ends at seq {known.head.seq}, not {after.seq}")
            known.in_doubt = True
            offset = await self._client.append(partition, records)
            if offset == known.next_offset:
                known.append(records, offset)
                known.in_doubt = False
            else:
                await self._settle(partition, records, offset)

    async def _settle(self, partition: int, records: Sequence[NewRecord], offset: int) -> None:
        """The batch is in the topic, but not at the expected offset, or at an unknown one: the chain decides."""
        known = self._known[partition]
        if NO_OFFSET < offset < known.next_offset:
            raise LogUnreadable(_shorter(partition, offset, known.next_offset))
        try:
            await self._check_head(partition)
            await self._read_to_end(partition, at_least=offset + len(records))
            if offset == NO_OFFSET:
                landed = await self._contains(partition, records)
            else:
                landed = known.seq_at(offset) == records[0].seq
        except LogUnavailable as error:
            raise OutcomeUnknown(f"records of partition {partition} landed after other records: {error}") from error
        if not landed:
            raise StaleHead(f"other writers appended to partition {partition}: it ends at seq {known.head.seq}")

    async def _check_head(self, partition: int) -> None:
        """A topic that lost records and got others instead may end at the same offset: compare a record."""
        known = self._known[partition]
        if known.head.seq and sha256_hex((await self._page(partition, known.head.seq, 1))[0]) != known.head.sha256:
            raise LogUnreadable(f"partition {partition} was replaced: its seq {known.head.seq} is another record now")

    async def _contains(self, partition: int, records: Sequence[NewRecord]) -> bool:
        seq = records[0].seq
        return seq <= self._known[partition].head.seq and await self._page(partition, seq, 1) == [records[0].record]

    # --- reading -----------------------------------------------------------------------------------------------

    async def confirm(self, partition: int, head: Head) -> None:
        self._check_open()
        known = self._known[partition]
        async with known.turn:
            await self._read_to_end(partition)
            if known.head != head:
                raise StaleHead(f"partition {partition} ends at seq {known.head.seq}, not {head.seq}")

    async def head(self, partition: int) -> Head:
        self._check_open()
        known = self._known[partition]
        async with known.turn:
            await self._read_to_end(partition)
            return known.head

    async def read(self, partition: int, from_seq: int, limit: int) -> list[bytes]:
        self._check_open()
        known = self._known[partition]
        last = from_seq + limit - 1
        new: list[bytes] = []
        known_to = known.head.seq
        if last > known_to:
            async with known.turn:
                known_to = known.head.seq
                new = await self._read_to_end(partition, from_seq=from_seq, to_seq=last)
        if from_seq > known_to:
            return new
        return await self._page(partition, from_seq, min(last, known_to) - from_seq + 1) + new

    async def _page(self, partition: int, from_seq: int, limit: int) -> list[bytes]:
        """Return known events, by their offsets."""
        known = self._known[partition]
        found: list[bytes] = []
        while len(found) < limit:
            seq = from_seq + len(found)
            size = min((limit - len(found)) * _RECORD_BYTES, _PAGE_BYTES)
            for stored in (await self._client.fetch(partition, known.offset_of(seq), size)).records:
                if known.seq_at(stored.offset) != from_seq + len(found):
                    continue
                found.append(stored.value)
                if len(found) == limit:
                    break
            if from_seq + len(found) == seq:
                raise LogUnreadable(f"partition {partition} no longer has seq {seq} at offset {known.offset_of(seq)}")
        if found and _link(found[0]).seq != from_seq:
            raise LogUnreadable(f"partition {partition} was replaced: seq {from_seq} is another record now")
        return found

    async def _read_to_end(
        self, partition: int, *, at_least: int = 0, from_seq: int = 0, to_seq: int | None = None
    ) -> list[bytes]:
        """Read new records up to the end or ``to_seq``. Returns the new events from ``from_seq`` on, if it is given.

        Called under ``turn``, so that nothing known can be after the end.
        """
        known = self._known[partition]
        end = await self._client.end_offset(partition)
        if end < known.next_offset:
            raise LogUnreadable(_shorter(partition, end, known.next_offset))
        return await self._read_until(partition, max(end, at_least), from_seq=from_seq, to_seq=to_seq)

    async def _read_until(
        self, partition: int, end: int, *, from_seq: int = 0, to_seq: int | None = None
    ) -> list[bytes]:
        known = self._known[partition]
        found: list[bytes] = []
        while known.next_offset < end:
            page = await self._client.fetch(partition, known.next_offset, _PAGE_BYTES)
            for stored in page.records:
                link = known.take(stored)
                if link is None:
                    continue
                if from_seq and link.seq >= from_seq:
                    found.append(stored.value)
                if link.seq == to_seq:
                    return found
            known.next_offset = page.next_offset
        known.in_doubt = False
        return found

    def clock_off_us(self) -> int:
        """Return how far this machine's clock is ahead of the broker's, as of the last append."""
        return self._client.clock.off_us()

    def forks(self, partition: int) -> int:
        """Return how many of the partition's records that were read are no events."""
        return self._known[partition].forks

    # --- continuing from a verified place ------------------------------------------------------------------

    def place(self, partition: int, head: Head) -> bytes | None:
        return _encode_place(self._known[partition].known_at(head)) if head.seq else None

    async def begin_at(self, partition: int, head: Head, place: bytes | None) -> None:
        self._check_open()
        if head.seq == 0:
            return
        known = self._known[partition]
        async with known.turn:
            if known.head.seq >= head.seq:
                if sha256_hex((await self._page(partition, head.seq, 1))[0]) != head.sha256:
                    raise ForeignCheckpoint(_foreign(partition, head, known.offset_of(head.seq)))
            elif (then := _known_then(partition, head, place)) is not None:
                await self._check_there(partition, head, then)
                known.begin_at(then)

    async def _check_there(self, partition: int, head: Head, then: Known) -> None:
        offset = then.next_offset - 1
        end = await self._client.end_offset(partition)
        if end < then.next_offset:
            raise CheckpointAhead(_shorter(partition, end, then.next_offset))
        found = (await self._client.fetch(partition, offset, 1)).records
        if not found or found[0].offset != offset or sha256_hex(found[0].value) != head.sha256:
            raise ForeignCheckpoint(_foreign(partition, head, offset))

    # --- declarations --------------------------------------------------------------------------------------------

    async def declare(
        self,
        assets: Assets,
        tables: Mapping[str, PayTable] | None = None,
        money: Mapping[str, Money] | None = None,
        games: Set[str] = frozenset(),
    ) -> None:
        """Store the assets' exponents, the rules by their digests, and the names of the games, in a separate topic.
        Raises WrongAssets if any node declared another exponent; LogMisconfigured, LogUnavailable."""
        wanted = Declared(dict(assets), dict(tables or {}), dict(money or {}), set(games))
        # Before the declarations are read: who wrote these records had declared its assets.
        has_records = any(await self._client.end_offsets(self.partitions))
        await declare(
            self._address,
            wanted,
            topic=self._declarations,
            events_topic=self._client.topic if has_records else None,
            timeout_s=self._timeout_s,
        )

    async def tables(self) -> dict[str, PayTable]:
        return (await self._read_declared()).tables

    async def money_rules(self) -> dict[str, Money]:
        return (await self._read_declared()).money

    async def games(self) -> set[str]:
        return (await self._read_declared()).games

    async def keep_games(self, names: Set[str]) -> None:
        await self.declare((await self._read_declared()).assets, games=names)

    async def _read_declared(self) -> Declared:
        return await read_declared(self._address, topic=self._declarations, timeout_s=self._timeout_s)

    async def begin_within(self, partition: int, head: Head) -> bool:
        """Read the partition from the event ``head`` on, without the events before it, which cannot be read then.
        Returns False if the topic does not contain it.

        An event of seq s is at offset s - 1 or later: each event before it has one offset, and each fork another. So
        at most as many records are read as there are forks. ``head`` must be an event's: a fork in the topic is
        found, too. Raises LogUnavailable, LogUnreadable.
        """
        offset, bytes_max = head.seq - 1, _RECORD_BYTES
        end = await self._client.end_offset(partition)
        while offset < end:
            page = await self._client.fetch(partition, offset, bytes_max)
            for stored in page.records:
                if sha256_hex(stored.value) != head.sha256:
                    continue
                forks = stored.offset + 1 - head.seq
                one = OffsetRange(head.seq, stored.offset, forks)
                async with self._known[partition].turn:
                    self._known[partition].begin_at(Known(*head, stored.offset + 1, forks, (one,)))
                return True
            offset, bytes_max = page.next_offset, _PAGE_BYTES
        return False

    def offset_of(self, partition: int, seq: int) -> int:
        """Return the offset of an event that was read."""
        return self._known[partition].offset_of(seq)

    def last_read(self, partition: int) -> tuple[int, int]:
        """Return the seq of the last event that was read, and the first offset that was not."""
        known = self._known[partition]
        return known.head.seq, known.next_offset

    # --- closing -------------------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._closed:
            raise LogUnavailable("the log is closed")

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        while self._appends:
            await asyncio.wait(self._appends)
        await self._client.close()


async def open_log(
    address: KafkaAddress,
    partitions: int,
    *,
    topic: str = TOPIC,
    declarations: str = DECLARATIONS,
    timeout_s: float = TIMEOUT_S,
) -> KafkaEventLog:
    """Create or check the topic, and open it. Raises LogMisconfigured, WrongPartitions, LogUnavailable."""
    await prepare_topic(address, topic, partitions, timeout_s=timeout_s)
    client = KafkaClient(address, topic, timeout_s=timeout_s)
    await client.start()
    return KafkaEventLog(client, address, partitions, declarations, timeout_s)


def _known_then(partition: int, head: Head, place: bytes | None) -> Known | None:
    """Return the decoded ``place``; None if it is damaged or of another head than ``head``."""
    if place is None:
        return None
    try:
        then = _decode_place(place)
    except msgspec.MsgspecError:
        then = None
    if (
        then is None
        or (then.seq, then.sha256) != head
        or not then.ranges
        or then.ranges[0].seq != 1
        or any(before.seq >= one.seq or before.offset >= one.offset for before, one in pairwise(then.ranges))
        or then.ranges[-1].seq > then.seq
        or then.ranges[-1].offset + then.seq - then.ranges[-1].seq + 1 != then.next_offset
    ):
        _log.warning(
            "the place in the log of partition %d is damaged: the partition is read from its start", partition
        )
        return None
    return then


def _shorter(partition: int, end: int, known: int) -> str:
    return (
        f"partition {partition} got shorter: it ends at offset {end}, but everything before {known} was read. "
        "The topic lost records that were acknowledged; nothing was changed. Stop all nodes and restore the topic"
    )


def _foreign(partition: int, head: Head, offset: int) -> str:
    return (
        f"partition {partition} does not have the head of seq {head.seq} at offset {offset}: this is another topic. "
        "Nothing was changed; restore the one that belongs to it. Only if this one is known to be right, "
        f"{DELETE_STATE}"
    )
