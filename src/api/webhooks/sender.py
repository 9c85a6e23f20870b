"""Sends to one endpoint the events of the partitions that this node owns.

Invariants:
(1) a user's event is sent only after the one before it was delivered or given up;
(2) an event is sent at least once: the cursor moves past an event only in the save that records it
    as delivered or stores it as a letter.
    After a crash, or when a partition moves, what was sent since the last save is sent again, under the same
    ``webhook-id``;
(3) memory is bounded, whatever the endpoint does: ``_FRESH_MAX`` events and ``_FRESH_BYTES`` over all partitions, and
    the letters of ``stream``. At most ``CONNECTIONS`` requests are under way;
(4) while saves fail, no new event is sent. This bounds what is sent again after a crash.
"""

import asyncio
import heapq
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from itertools import count
from typing import TYPE_CHECKING, Final, NamedTuple

from api.identity.ports import IdentityUnavailable
from api.webhooks.guard import Guard
from api.webhooks.ports import Endpoint, WebhookStore
from api.webhooks.signing import signed_headers
from api.webhooks.stream import LETTERS_MAX, PAGE, Lane, Stream
from ledger import background
from ledger.core.events import DATA_OF
from ledger.core.position import Position
from ledger.errors import LedgerError, LogDamaged
from ledger.pacing import RareWarnings
from ledger.ports import Clock

if TYPE_CHECKING:
    from api.webhooks.requests import Sending

CONNECTIONS: Final = 8
"""Chosen: at 50 ms a request 160 events a second, and little of the writers' processor time."""
FIRST_RETRY_S: Final = 5
RETRY_S_MAX: Final = 1_800
"""The pause before the first retry, which doubles with each failure, and the longest one. Each is made shorter at
random, by half at most, so that the events that failed together do not come back together."""
_RECOVERY_EVERY_US: Final = 60_000_000
"""When a receiver works again, all waiting events become due, at most once per this interval. Chosen: events that
fail every time are retried no more than once a minute because of it."""
_FAILURES: Final = 3
"""After so many failures in a row, the receiver counts as away."""
_FRESH_MAX: Final = 500
_FRESH_BYTES: Final = 4 * 1024 * 1024
_LOOK_S: Final = 0.05
"""Between two looks at the ends of the log, which are in memory. Chosen."""
_SAVE_S: Final = 0.5
"""Chosen: what is sent again after a crash is half a second's."""
_AFTER_ERROR_S: Final = 1.0

TYPES: Final = tuple(name for name in DATA_OF if name != "writer_opened")
"""The events that an endpoint may get: those of users and games."""

_log: Final = logging.getLogger(__name__)

EndsHere = Callable[[], Mapping[int, int]]
"""Partition → its last seq, for the partitions that this node owns."""
ReadRecords = Callable[[int, int, int], Awaitable[list[bytes]]]
"""(partition, first seq, how many) → the encoded records from that seq on. Raises LogUnavailable, LogDamaged."""


class Secret(NamedTuple):
    key: bytes
    until_us: int | None
    """It signs until then; None: it is the newest."""


class Counts:
    """Of all endpoints of this process."""

    def __init__(self) -> None:
        self.delivered = self.failed = self.dead = 0


class Log(NamedTuple):
    """The log, as far as a sender needs it."""

    ends: EndsHere
    records: ReadRecords


class Sender:
    """Runs from ``start`` to ``stop``; a change of the endpoint needs another one."""

    def __init__(
        self,
        endpoint: Endpoint,
        secrets: list[Secret],
        store: WebhookStore,
        log: Log,
        clock: Clock,
        guard: Guard,
        counts: Counts,
        jitter: Callable[[], float],
    ) -> None:
        """``jitter``: returns a number from 0 to 1."""
        self.endpoint = endpoint
        self._secrets, self._store, self._log, self._clock = secrets, store, log, clock
        self._guard, self._counts, self._jitter = guard, counts, jitter
        self._wanted = frozenset(TYPES if endpoint.types is None else endpoint.types)
        self._streams: dict[int, Stream] = {}
        """By partition; the one that was read last is the last one."""
        self._unclaimed_us: dict[int, int] = {}
        """Partition of this node that is not claimed → since when."""
        self._ready: deque[Lane] = deque()
        self._later: list[tuple[int, int, Lane]] = []
        """A heap of (due at, number, lane)."""
        self._numbers = count()
        self._attempts: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._failures = 0
        self._recovered_us = 0
        self._saved_s = 0.0
        self._task: asyncio.Task[None] | None = None
        self._sending: Sending | None = None
        self._warnings = RareWarnings(_log)

    def start(self) -> None:
        self._task = background.keep(self._run, "webhooks-endpoint")

    async def stop(self) -> None:
        """Give up the requests that are under way, and save what is done."""
        if self._task is None:
            return
        try:
            self._task.cancel()
            await asyncio.wait({self._task})
            await self._end_attempts()
            await self._save()
        except IdentityUnavailable as error:
            _log.warning("the last deliveries to %s will be repeated: %s", self.endpoint.endpoint_id, error)
        finally:
            await self._end_attempts()  # also if this is cancelled, because it takes too long
            if self._sending is not None:
                await self._sending.close()

    @property
    def oldest_us(self) -> int | None:
        """The time of the oldest event that is known and not delivered, or since when a partition should have been
        claimed, if that is longer ago; None: neither."""
        times = [stream.oldest_us for stream in self._streams.values()]
        return min((*(time for time in times if time is not None), *self._unclaimed_us.values()), default=None)

    # --- the loop --------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        await self._end_attempts()  # of a run that ended with an error
        self._streams.clear()
        self._ready.clear()
        self._later.clear()
        if self._sending is None:
            from api.webhooks.requests import Sending

            self._sending = Sending(self.endpoint.url, self._guard, CONNECTIONS)
        loop = asyncio.get_running_loop()
        while True:
            try:
                await self._take_partitions()
                await self._read()
                if loop.time() - self._saved_s >= _SAVE_S:
                    await self._save()
                    self._saved_s = loop.time()
                self._send()
                await self._wait()
            except (IdentityUnavailable, LedgerError) as error:
                self._warnings.warn("webhooks to %s wait: %s", self.endpoint.endpoint_id, error)
                await asyncio.sleep(_AFTER_ERROR_S)

    async def _wait(self) -> None:
        """Until a request has ended, or it is time to look again."""
        self._changed.clear()
        try:
            async with asyncio.timeout(_LOOK_S):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _take_partitions(self) -> None:
        ends = self._log.ends()
        now_us = self._clock()
        missing = [partition for partition in ends if partition not in self._streams]
        self._unclaimed_us = {partition: self._unclaimed_us.get(partition, now_us) for partition in missing}
        lost = [partition for partition in self._streams if partition not in ends]
        if lost:
            await self._save()  # the next owner may not have claimed them yet
            for partition in lost:
                self._drop(partition)
        for partition, end in ends.items():
            stream = self._streams.get(partition)
            if stream is not None and stream.more and stream.letters < LETTERS_MAX // 2:
                await self._save()
                self._drop(partition)
                stream = None
            if stream is None:
                await self._claim(partition, end)

    async def _claim(self, partition: int, end: int) -> None:
        claimed = await self._store.claim(self.endpoint.endpoint_id, partition, LETTERS_MAX)
        if claimed is None:
            return  # the endpoint was deleted: this sender is about to be stopped
        if claimed.seq > end:
            _log.warning(
                "the webhook %s got events of partition %d up to seq %d, and the log ends at %d: was an older backup "
                "restored? It continues with the next event",
                self.endpoint.endpoint_id,
                partition,
                claimed.seq,
                end,
            )
        claimed = claimed._replace(
            seq=min(claimed.seq, end),
            letters=[one for one in claimed.letters if one.seq <= end],
            after=[seq for seq in claimed.after if seq <= end],
        )
        self._unclaimed_us.pop(partition, None)
        stream = self._streams[partition] = Stream(partition, claimed)
        for lane in stream.lanes.values():
            self._schedule(lane)

    def _drop(self, partition: int) -> None:
        stream = self._streams.pop(partition, None)
        if stream is not None:  # None: a save has found that it was claimed again
            stream.is_dropped = True

    async def _read(self) -> None:
        fresh = sum(stream.fresh for stream in self._streams.values())
        fresh_bytes = sum(stream.fresh_bytes for stream in self._streams.values())
        ends = self._log.ends()
        for partition, stream in list(self._streams.items()):
            end = ends.get(partition, 0)
            if stream.read_to >= end or not stream.may_read:
                continue
            if fresh >= _FRESH_MAX or fresh_bytes >= _FRESH_BYTES:
                return
            many = min(PAGE, end - stream.read_to)
            records = await self._log.records(partition, stream.read_to + 1, many)
            self._ready.extend(stream.add(records, self._wanted))
            self._streams[partition] = self._streams.pop(partition)  # the others come before it next time
            fresh += len(records)
            fresh_bytes += sum(map(len, records))

    async def _save(self) -> None:
        saved = [one for stream in self._streams.values() if (one := stream.to_save()) is not None]
        if not saved:
            return
        superseded = await self._store.save(self.endpoint.endpoint_id, saved)
        for one in saved:
            stream = self._streams.get(one.partition)
            if one.partition in superseded:
                self._drop(one.partition)
            elif stream is not None:
                stream.saved(one)

    # --- attempts --------------------------------------------------------------------------------------------------

    def _schedule(self, lane: Lane) -> None:
        """Put the lane, whose first event is not being sent, where it waits for its turn."""
        due_us = lane.events[0].next_at_us
        if due_us <= self._clock():
            self._ready.append(lane)
        else:
            heapq.heappush(self._later, (due_us, next(self._numbers), lane))

    def _send(self) -> None:
        now_us = self._clock()
        while self._later and self._later[0][0] <= now_us:
            self._ready.append(heapq.heappop(self._later)[2])
        while self._ready and len(self._attempts) < CONNECTIONS:
            lane = self._ready.popleft()
            if lane.stream.is_dropped or lane.busy or not lane.events:
                continue
            lane.busy = True
            task = background.start(self._attempt(lane), "webhook-attempt", failed=self._on_defect)
            self._attempts.add(task)
            task.add_done_callback(self._on_attempt_end)

    def _on_attempt_end(self, task: "asyncio.Task[None]") -> None:
        self._attempts.discard(task)
        self._changed.set()

    def _on_defect(self, _: BaseException) -> None:
        """The lane stays busy, so its user waits; the log names the error."""

    async def _end_attempts(self) -> None:
        attempts = list(self._attempts)
        for task in attempts:
            task.cancel()
        if attempts:
            await asyncio.wait(attempts)

    async def _attempt(self, lane: Lane) -> None:
        stream, event = lane.stream, lane.events[0]
        sending = self._sending
        assert sending is not None, "it is opened before the first attempt"
        record = event.record
        try:
            if record is None:
                record = await self._record(stream.partition, event.seq)
            now_us = self._clock()
            keys = [secret.key for secret in self._secrets if secret.until_us is None or now_us < secret.until_us]
            headers = signed_headers(str(Position(stream.partition, event.seq)), now_us, record, keys)
            error = await sending.post(headers, record)
        except LedgerError as unavailable:
            self._warnings.warn("webhooks to %s wait: %s", self.endpoint.endpoint_id, unavailable)
            await asyncio.sleep(_AFTER_ERROR_S)
            lane.busy = False
            self._ready.append(lane)
            return
        lane.busy = False
        if stream.is_dropped:
            return  # the next owner of the partition sends it again
        if error:
            self._on_failure(lane, error)
        else:
            self._on_success(lane)
        if lane.events:
            self._schedule(lane)

    async def _record(self, partition: int, seq: int) -> bytes:
        """Raises LogUnavailable, LogDamaged."""
        records = await self._log.records(partition, seq, 1)
        if not records:
            raise LogDamaged(partition, seq, "the record is missing")
        return records[0]

    def _on_success(self, lane: Lane) -> None:
        self._counts.delivered += 1
        lane.stream.delivered(lane)
        now_us = self._clock()
        if self._failures >= _FAILURES and now_us - self._recovered_us >= _RECOVERY_EVERY_US:
            self._recovered_us = now_us
            self._ready.extend(lane for _, _, lane in self._later)
            self._later.clear()
        self._failures = 0

    def _on_failure(self, lane: Lane, error: str) -> None:
        self._counts.failed += 1
        self._failures += 1
        event, now_us = lane.events[0], self._clock()
        first_at_us = event.first_at_us or now_us
        give_up_us = first_at_us + self.endpoint.give_up_s * 1_000_000
        pause_s = min(FIRST_RETRY_S * 2 ** min(event.attempts, 20), RETRY_S_MAX) * (1 - self._jitter() / 2)
        lane.stream.failed(lane, first_at_us, min(now_us + int(pause_s * 1e6), give_up_us), error)
        if now_us >= give_up_us:
            self._counts.dead += 1
            _log.warning(
                "the webhook %s did not take the event %d:%d of %s in %d s and %d attempts: it is a dead letter (%s)",
                *(self.endpoint.endpoint_id, lane.stream.partition, event.seq, lane.user_id),
                *(self.endpoint.give_up_s, event.attempts, error),
            )
            lane.stream.give_up(lane, now_us)
