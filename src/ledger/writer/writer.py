"""One partition's single writer: decides in memory, appends, then answers.

A *round* takes all that waits in the mailbox, decides it in order, appends the events as one whole, and only then
answers. While an append is under way the mailbox fills, so load makes rounds larger, not slower.

Truths:
(1) nothing is answered before the round's append is durable, or, where a round writes nothing, before the log has
    confirmed the head on which it was decided;
(2) an answer never rests on something that was not durable: if the append fails, all that the round touched is
    rolled back and every command of it is decided again from the true head, or told that it failed;
(3) ``outcome_unknown`` is the answer where the append's fate is; the log is read again before the next round;
(4) a command's id is never forgotten: the same command again gets its first answer, read from the log;
(5) a follow-up always leaves an event, at most one however often it is delivered;
(6) an event's time never goes back, and is never before its cause's;
(7) on a log that other processes may write, nothing is decided before a ``writer_opened`` of this writer, appended
    alone, has landed: when it takes the partition, and again whenever an append's outcome is unknown or the head was
    another than it thought. After it, whatever was under way on an older head is a fork. Until the first one of its
    generation, commands are answered ``not_owner``; who reads a higher generation stops. Started ``strictly``, its
    first one must be higher than every other in the log, and one of its own that it only finds there ends it, too: so
    no two writers ever go on with the same;
(8) a request is not decided after its deadline.
"""

import asyncio
import logging
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, Struct

from ledger.core.commands import AnyFollowUp, Command, ConcludeTransfer
from ledger.core.decide import EXPIRY, Case, decide, expire
from ledger.core.events import ADDED_BY_DECISION, COMMAND_OF, LEDGER, NO_REQUEST, Event, WriterOpened
from ledger.core.evolve import balances_follow, evolve, items_read_by
from ledger.core.follow_ups import decide_follow_up, follow_up_of
from ledger.core.items import Item, transfer_key
from ledger.core.money import Assets
from ledger.core.position import RESERVED_PARTITION_PREFIX, Position
from ledger.core.record import EMPTY, Decoded, Head, MalformedRecord, decode, encode, sha256_hex
from ledger.core.rejections import Rejection
from ledger.core.wallet import Wallet
from ledger.errors import (
    DELETE_STATE,
    CheckpointAhead,
    DuplicateCommand,
    LedgerError,
    LogDamaged,
    LogUnavailable,
    OutcomeUnknown,
    StaleHead,
    Superseded,
)
from ledger.ports import Clock, EventLog, NewRecord, StateStore
from ledger.writer.key_filter import KeyFilter
from ledger.writer.requests import (
    Accepted,
    AnyResponse,
    CommandRequest,
    DryRunAccepted,
    Failed,
    IdReused,
    LookupRequest,
    Refused,
    Request,
    WalletRead,
)
from ledger.writer.state import GENERATION_KEY, PartitionState, command_key, follow_up_key

ROUND_MAX: Final = 4_096
"""Commands decided in one round; chosen: some 40 ms of deciding, and well below a log's largest batch."""

MAILBOX_MAX: Final = 16_384
"""Commands that may wait for one partition before ``overloaded``; chosen: under a second of work."""

_TIMERS_PER_ROUND: Final = 1_024
EXPIRIES_PER_ROUND: Final = 1_024
"""However many are due, of one wallet or of many. Chosen: some 100 ms; what is asked of a wallet that has more due
waits for the next round."""
_REPLAY_PAGE: Final = 2_000
_REPLAY_PAGE_BESIDE: Final = 250
"""Chosen: some 6 ms at a time, where the partitions that are open already are served beside it."""
_RETRY_S: Final = 0.25
_STALE_MAX: Final = 8
_COMPLAIN_EVERY_US: Final = 10_000_000

SHUTTING_DOWN: Final = Failed("shutting_down", "the service is shutting down")
_TOO_LATE: Final = Failed("not_owner", "the time in which this was to be decided is over; nothing was written")

_log = logging.getLogger(__name__)


class _FollowUpRequest(Struct, frozen=True, gc=False):
    follow_up: AnyFollowUp
    arrived: Callable[[], None]


class _Sent(Struct, frozen=True, gc=False):
    """A follow-up that leaves once the round is durable, with the seq of the event that sends it."""

    seq: int
    follow_up: AnyFollowUp


class _Round:
    """What one round decided; nothing of it is known outside before its append is durable."""

    __slots__ = (
        *("answers", "arrived", "bytes", "due", "expired", "head", "hits", "records", "sent", "taken", "time_us"),
        *("unfinished", "waiting"),
    )

    def __init__(self, head: Head, time_us: int) -> None:
        self.head = head
        self.time_us = time_us
        self.records: list[NewRecord] = []
        self.bytes = 0
        self.taken = 0
        """How many of the requests it decided, from the first on: no more than go into one append."""
        self.answers: list[tuple[Request, AnyResponse]] = []
        self.hits: list[tuple[Request, int]] = []
        self.arrived: list[_FollowUpRequest] = []
        self.sent: list[_Sent] = []
        self.due: list[tuple[int, str]] = []
        self.expired = 0
        self.unfinished: set[str] = set()
        """Whose due expiries did not all go into it: nothing else may be decided of them before the others."""
        self.waiting: list[_FollowUpRequest] = []
        """Follow-ups that are for one of those."""


Deliver = Callable[[int, int, AnyFollowUp], None]
"""(origin partition, seq of the event that sent it, follow-up): hand it to the writer of its user."""

Halted = Callable[[int, LedgerError], None]
"""(partition, why): the partition can't go on in this process."""


class Writer:
    """The only one who appends to ``partition``."""

    def __init__(
        self,
        partition: int,
        log: EventLog,
        store: StateStore,
        clock: Clock,
        assets: Assets,
        *,
        deliver: Deliver,
        halted: Halted,
        recent_max: int = 10_000,
        mailbox_max: int = MAILBOX_MAX,
        store_turn: asyncio.Lock | None = None,
    ) -> None:
        """``store_turn``: held while the state is saved; the store takes one save at a time."""
        self.partition = partition
        self.head = EMPTY
        self._log, self._store, self._clock, self._assets = log, store, clock, assets
        self._deliver, self._halted = deliver, halted
        self._recent_max, self._mailbox_max = recent_max, mailbox_max
        self._time_us = 0
        self._complained_us = 0
        self._mailbox: deque[Request] = deque()
        self._follow_ups: deque[_FollowUpRequest] = deque()
        self._in_round: list[Request] = []
        self._follow_ups_in_round: Sequence[_FollowUpRequest] = ()
        self._left: list[_FollowUpRequest] = []
        self._retired = False
        self._opened_for: str | None = None
        self._awake = asyncio.Event()
        self._refusal: Failed | None = None
        self._stopping = False
        self._halt: LedgerError | None = None
        self._generation = 0
        self._highest_generation = 0
        self._read_generation = 0
        self._strictly = False
        self._append_bytes = log.append_bytes
        self._must_open = log.shared
        self._stale_rounds = 0
        self.opened = asyncio.Event()
        """Whether it takes commands: it has opened the partition, or nobody else can write."""
        if not log.shared:
            self.opened.set()
        self._between_rounds = asyncio.Lock()
        self._store_turn = store_turn if store_turn is not None else asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._arrivals: dict[int, array[int]] = {}
        self.state: PartitionState

    # --- life ----------------------------------------------------------------------------------------------------

    async def recover(self, *, save_every: int) -> int:
        """Load the checkpoint and fold in the records after it; answers how many.

        Saves the state whenever ``save_every`` values have changed, so that a start without a checkpoint needs no
        more memory than any other. Raises CheckpointAhead, LogDamaged, LogUnavailable, LogUnreadable.
        """
        checkpoint = self._store.checkpoint(self.partition)
        if checkpoint is not None:
            await self._log.begin_at(self.partition, checkpoint, self._store.place(self.partition))
        seen = KeyFilter(self._log.partitions)
        self.state = PartitionState(self.partition, self._store, self._recent_max, seen)
        self._highest_generation = self._read_generation = self.state.saved_generation()
        end = await self._log.head(self.partition)
        self.head = checkpoint or EMPTY
        await self._check_checkpoint(end)
        replayed = 0
        page = _REPLAY_PAGE_BESIDE if self._log.shared else _REPLAY_PAGE
        while self.head.seq < end.seq:
            replayed += await self._catch_up(page)
            if self._log.shared:
                await asyncio.sleep(0)  # a log that has the page in memory gives nobody else a turn
            if self.state.changes < save_every:
                continue
            if self._log.shared:
                await self.save_or_warn()
            else:
                self.save_now()
        return replayed

    async def follow(self, *, save_every: int) -> int:
        """Before the start: fold in what others have written meanwhile; answers how many events that were. Raises
        LogDamaged, LogUnavailable, LogUnreadable."""
        followed = 0
        while read := await self._catch_up(_REPLAY_PAGE_BESIDE):
            followed += read
            self._arrivals.clear()
            await asyncio.sleep(0)
            if self.state.changes >= save_every:
                await self.save_or_warn()
        return followed

    @property
    def generation(self) -> int:
        """Of its owners' group, with which it opens the partition."""
        return self._generation

    @property
    def highest_generation(self) -> int:
        """The highest with which anybody has opened the partition, as far as it has read."""
        return self._highest_generation

    def take_arrivals(self) -> list[tuple[int, int]]:
        """The (partition, seq) of the events whose follow-ups the replay has seen arrive here; once."""
        arrivals = [(partition, seq) for partition, seqs in self._arrivals.items() for seq in seqs]
        self._arrivals = {}
        return arrivals

    async def _check_checkpoint(self, end: Head) -> None:
        if self.head.seq == 0:
            return
        if self.head.seq > end.seq:
            raise CheckpointAhead(
                f"the state of partition {self.partition} is at seq {self.head.seq}, but the log ends at {end.seq}: "
                "the log got shorter. Nothing was changed; restore the log. Only if the log is known to be right, "
                f"{DELETE_STATE}"
            )
        at = (await self._log.read(self.partition, self.head.seq, 1))[0]
        if sha256_hex(at) != self.head.sha256:
            raise CheckpointAhead(
                f"the state of partition {self.partition} is of another log: its head at seq {self.head.seq} is not "
                "in this one. Nothing was changed; restore the log that belongs to it. Only if this log is known to "
                f"be right, {DELETE_STATE}"
            )
        self._time_us = self._decoded(at, self.head.seq).event.time_us

    def save_now(self) -> None:
        """Save the state in this thread: at start, where nobody waits. What cannot be saved stays in memory."""
        changes = self.state.begin_checkpoint()
        saved = False
        try:
            self.state.save(changes, self.head, self._log.place(self.partition, self.head))
            saved = True
        except LedgerError as error:
            _log.warning("no checkpoint of partition %d: %s", self.partition, error)
        finally:
            self.state.end_checkpoint(saved=saved)

    async def save_or_warn(self) -> None:
        """Save the state beside whatever goes on. What cannot be saved stays in memory."""
        try:
            await self.save()
        except LedgerError as error:
            _log.warning("no checkpoint of partition %d: %s", self.partition, error)

    def start(self, generation: int = 0, *, strictly: bool = False) -> None:
        """Begin to answer, and deliver again every follow-up that is not known to have arrived. On a shared log the
        partition is opened first, with the ``generation`` of its owners' group; ``opened`` tells when. ``strictly``:
        it is superseded, too, by an open of the same generation that it reads."""
        self._generation, self._strictly = generation, strictly
        for seq, follow_up in self.state.open_follow_ups():
            self._deliver(self.partition, seq, follow_up)
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"writer-{self.partition}")

    def open_again(self, generation: int) -> None:
        """The partition stayed with its owner while the owners' group moved on to ``generation``. Nobody had it in
        between, so what waits may go on waiting."""
        self._generation = generation
        self._must_open = True
        self._awake.set()

    def stop_accepting(self) -> None:
        """From now on requests are answered ``shutting_down``; what waits, and follow-ups, are still decided."""
        self._refuse(SHUTTING_DOWN)

    def _refuse(self, refusal: Failed) -> None:
        if self._refusal is None:
            self._refusal = refusal

    async def stop(self) -> None:
        """Answer all that waits, then stop."""
        self.stop_accepting()
        self._stopping = True
        self._awake.set()
        if self._task is not None:
            await self._task

    async def release(self, within_s: float) -> None:
        """The partition is no longer this one's: answer ``not_owner``, decide what waits, stop. What is still under
        way after ``within_s`` is ``outcome_unknown``."""
        self._refuse(Failed("not_owner", f"partition {self.partition} has been handed over"))
        self._left.extend(self._follow_ups)  # they wait for whoever has it next
        self._follow_ups.clear()
        self._stopping = True
        self._awake.set()
        if self._task is None:
            return
        await asyncio.wait({self._task}, timeout=within_s)
        if not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task})
            self.state.roll_back()
            error = LogUnavailable(f"partition {self.partition} was handed over before its log answered")
            self._close_all(error, self._in_round)

    def left_follow_ups(self) -> list[tuple[AnyFollowUp, Callable[[], None]]]:
        """After the end: what it was given to decide, and has not, as ``receive`` got it."""
        left = [*self._left, *self._follow_ups_in_round, *self._follow_ups]
        return [(waiting.follow_up, waiting.arrived) for waiting in left]

    async def retire(self, *, save: bool) -> None:
        """After the end: save the state, if it may be, and never again. Another writer may read it when this returns;
        were an older state saved then, it would fold in events twice."""
        if save:
            await self.save_or_warn()
        self._retired = True
        async with self._store_turn:
            pass  # what was under way is over

    async def save(self) -> None:
        """Make a checkpoint while commands go on. Raises LedgerError: nothing is lost but the time."""
        async with self._store_turn:
            if self._retired:
                return
            async with self._between_rounds:
                changes, at = self.state.begin_checkpoint(), self.head
                place = self._log.place(self.partition, at)
            saved = False
            try:
                if changes:
                    saving = asyncio.ensure_future(asyncio.to_thread(self.state.save, changes, at, place))
                    try:
                        await asyncio.shield(saving)
                    except asyncio.CancelledError:
                        await asyncio.wait({saving})  # its thread goes on; nobody else may save beside it
                        raise
                saved = True
            finally:
                self.state.end_checkpoint(saved=saved)

    # --- asking --------------------------------------------------------------------------------------------------

    def submit(self, request: Request) -> None:
        """Put a request into the mailbox; where that cannot be, answer it at once."""
        failed = request.group.failed
        if failed is not None and request.user_id in failed:
            request.close(failed[request.user_id])
        elif self._refusal is not None:
            request.close(self._refusal)
        elif self._halt is not None:
            request.close(Failed(_reason_of(self._halt), str(self._halt)))
        elif not self.opened.is_set():
            # Were it to wait, it could be taken after the owner of before, asked again, has rightly refused it.
            request.close(Failed("not_owner", f"partition {self.partition} is not open here yet"))
        elif len(self._mailbox) >= self._mailbox_max:
            request.close(Failed("overloaded", f"{self._mailbox_max} commands wait for partition {self.partition}"))
        else:
            self._mailbox.append(request)
            self._awake.set()

    def receive(self, follow_up: AnyFollowUp, arrived: Callable[[], None]) -> None:
        """Take a follow-up, above the mailbox's bound; ``arrived`` is called once its event is durable."""
        self._follow_ups.append(_FollowUpRequest(follow_up, arrived))
        self._awake.set()

    @property
    def waiting(self) -> int:
        """Commands and follow-ups that no round has taken yet."""
        return len(self._mailbox) + len(self._follow_ups)

    @property
    def follow_ups_waiting(self) -> int:
        """Follow-ups that no round has taken yet."""
        return len(self._follow_ups)

    @property
    def idle(self) -> bool:
        """Whether nothing waits and no round is under way; also where the partition has halted."""
        return self._halt is not None or (self.waiting == 0 and not self._between_rounds.locked())

    @property
    def is_open(self) -> bool:
        """Whether it takes commands."""
        return self.opened.is_set() and self._halt is None

    @property
    def halted(self) -> bool:
        """Whether the partition could not go on here."""
        return self._halt is not None

    @property
    def time_us(self) -> int:
        """When the partition's last event happened; 0 while it is empty."""
        return self._time_us

    @property
    def behind_us(self) -> int:
        """How far the clock is behind the partition's last event."""
        return max(self._time_us - self._clock(), 0)

    # --- rounds --------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            while await self._something_to_do():
                async with self._between_rounds:
                    self._in_round = []
                    if not self._must_open or await self._open():
                        requests = self._in_round = self._take_requests()
                        follow_ups = self._follow_ups_in_round = self._take_follow_ups()
                        await self._round(requests, follow_ups)
                        self._follow_ups_in_round = ()
                        continue
                await asyncio.sleep(_RETRY_S)
        except LedgerError as error:
            self._stop_for(error, self._in_round)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must end in an answer and a halt
            # An invariant of ours is broken: stop the partition rather than write nonsense.
            _log.exception("partition %d stops", self.partition)
            self._stop_for(LedgerError(f"partition {self.partition} stopped: {error!r}"), self._in_round)

    def _stop_for(self, error: LedgerError, requests: Sequence[Request]) -> None:
        self._halt = error
        self.state.roll_back()  # a checkpoint may still be made: nothing that was only thought may be in it
        self._close_all(error, requests)
        self._halted(self.partition, error)

    def _close_all(self, error: LedgerError, requests: Sequence[Request]) -> None:
        for request in requests:
            if not request.closed:
                request.close(Failed("outcome_unknown", str(error)))
        while self._mailbox:
            self._mailbox.popleft().close(Failed(_reason_of(error), str(error)))

    def _take_requests(self) -> list[Request]:
        if len(self._mailbox) <= ROUND_MAX:
            requests = list(self._mailbox)
            self._mailbox.clear()
            return requests
        return [self._mailbox.popleft() for _ in range(ROUND_MAX)]

    def _take_follow_ups(self) -> Sequence[_FollowUpRequest]:
        if len(self._follow_ups) <= ROUND_MAX:
            follow_ups, self._follow_ups = self._follow_ups, deque()
            return follow_ups
        return [self._follow_ups.popleft() for _ in range(ROUND_MAX)]

    async def _something_to_do(self) -> bool:
        while not self._mailbox and not self._follow_ups:
            if self._stopping:
                return False
            if self._must_open:
                return True
            due_us = self.state.next_due_us()
            wait_s = None if due_us is None else (due_us - self._clock()) / 1e6
            if wait_s is not None and wait_s <= 0:
                return True
            self._awake.clear()
            if wait_s is None:
                await self._awake.wait()
                continue
            try:
                # A clock that is set forward must not delay a timer: look again at least every 0.1 s.
                async with asyncio.timeout(min(wait_s, 0.1)):
                    await self._awake.wait()
            except TimeoutError:
                continue
        return True

    async def _round(self, requests: list[Request], follow_ups: Sequence[_FollowUpRequest]) -> None:
        """Decide, append, answer. Raises LedgerError where the partition cannot go on; every request is answered."""
        for attempt in range(_STALE_MAX):
            try:
                if self._log.shared and self._is_behind(follow_ups):
                    self._must_open = True
                    self._wait_again(requests, follow_ups)
                    return
                decided = self._decide(requests, follow_ups)
            except LedgerError as error:  # the state store cannot be read: nothing was decided
                self.state.roll_back()
                self._fail(requests, follow_ups, "log_unavailable", str(error))
                raise
            if decided.taken < len(requests):  # the others go into the next append
                self._mailbox.extendleft(reversed(requests[decided.taken :]))
                del requests[decided.taken :]
            try:
                if decided.records:
                    await self._log.append(self.partition, self.head, decided.records)
                elif requests:
                    await self._log.confirm(self.partition, self.head)
            except StaleHead as error:
                # Somebody else wrote. Nothing of this round is true any more: learn what they did, decide again.
                _log.warning("partition %d: %s (attempt %d)", self.partition, error, attempt + 1)
                self._undo(decided)
                if self._log.shared:
                    self._decide_again(requests, follow_ups)
                    return
                await self._learn(requests, follow_ups)
            except LogUnavailable as error:
                self._undo(decided)
                self._complain(error)
                await self._refuse_writes(requests, follow_ups, error)
                await asyncio.sleep(_RETRY_S)
                return
            except DuplicateCommand as error:
                self._undo(decided)
                self._fail(requests, follow_ups, "log_unavailable", str(error))
                raise
            except OutcomeUnknown as error:
                self._undo(decided)
                self._fail(requests, follow_ups, "outcome_unknown", str(error))
                if self._log.shared:
                    self._must_open = True  # it reads first
                else:
                    await self._catch_up_wholly()
                return
            else:
                await self._conclude(decided)
                return
        self._fail(requests, follow_ups, "not_owner", f"others keep writing to partition {self.partition}")

    # --- a log that others may write ---------------------------------------------------------------------------

    def _is_behind(self, follow_ups: Sequence[_FollowUpRequest]) -> bool:
        """Whether a transfer comes to its end that this one has never read of. Others have written since: it must
        read, and open, before it decides. What it does not know after that, it will never know."""
        for waiting in follow_ups:
            follow_up = waiting.follow_up
            if not isinstance(follow_up, ConcludeTransfer):
                continue
            sent = self.state.get(f"{follow_up.user_id} {transfer_key(follow_up.transfer_id)}")
            if sent is None and self._opened_for != follow_up.command_id:
                self._opened_for = follow_up.command_id
                return True
        return False

    def _decide_again(self, requests: Sequence[Request], follow_ups: Sequence[_FollowUpRequest]) -> None:
        """After another *Open*, from the true head, in the same order."""
        self._must_open = True
        self._stale_rounds += 1
        if self._stale_rounds >= _STALE_MAX:
            self._stale_rounds = 0
            self._fail(requests, follow_ups, "not_owner", f"others keep writing to partition {self.partition}")
            return
        self._wait_again(requests, follow_ups)

    def _wait_again(self, requests: Sequence[Request], follow_ups: Sequence[_FollowUpRequest]) -> None:
        self._put_back(follow_ups)
        self._mailbox.extendleft(reversed(requests))
        self._in_round = []

    async def _open(self) -> bool:
        """Append this generation's ``writer_opened``, alone; answers whether it has landed. If the log is away, who
        waits is told so. Raises Superseded, LogDamaged."""
        while True:
            try:
                await self._catch_up_wholly()
                opened = self._writer_opened()
                await self._log.append(self.partition, self.head, [opened])
            except (StaleHead, OutcomeUnknown) as error:
                _log.warning("partition %d is not open yet: %s", self.partition, error)
            except LogUnavailable as error:
                self._complain(error)
                while self._mailbox:
                    self._mailbox.popleft().close(Failed("log_unavailable", str(error)))
                if self._stopping:
                    self._left.extend(self._follow_ups)  # the next start delivers them again
                    self._follow_ups.clear()
                return False
            else:
                break
        self.head = Head(opened.seq, sha256_hex(opened.record))
        self._time_us = self._decoded(opened.record, opened.seq).event.time_us
        self._notice_owner(self._generation)
        self.state.commit()
        self._must_open = False
        self.opened.set()
        return True

    def _writer_opened(self) -> NewRecord:
        seq = self.head.seq + 1
        user_id, command_id = f"{RESERVED_PARTITION_PREFIX}{self.partition}", f"~open:{seq}"
        time_us = max(self._clock(), self._time_us)
        data = WriterOpened(generation=self._generation)
        event = Event(time_us, user_id, command_id, NO_REQUEST, LEDGER, data, (), {})
        record = encode(event, Position(self.partition, seq), self.head.sha256)
        return NewRecord(seq, user_id, command_id, record)

    def _notice_owner(self, generation: int) -> None:
        if generation > self._highest_generation:
            self._highest_generation = generation
            self.state.put(GENERATION_KEY, generation)

    def _check_still_owner(self) -> None:
        """Raises Superseded."""
        if not self._log.shared:
            return
        # What it has read it has not written, or cannot tell: another's open may be the same, byte for byte.
        same = self._strictly and self._read_generation == self._generation
        if same or self._highest_generation > self._generation:
            raise Superseded(
                f"partition {self.partition} was opened by a writer of generation {self._highest_generation}; this "
                f"one is of generation {self._generation}, and stops"
            )

    # --- what becomes of a round -----------------------------------------------------------------------------------

    def _complain(self, error: LogUnavailable) -> None:
        """Tell the operator, now and then: a disk that is full fails every round."""
        now_us = self._clock()
        if not 0 <= now_us - self._complained_us < _COMPLAIN_EVERY_US:
            self._complained_us = now_us
            _log.error("partition %d takes nothing: %s", self.partition, error)

    async def _learn(self, requests: Sequence[Request], follow_ups: Sequence[_FollowUpRequest]) -> None:
        try:
            await self._catch_up_wholly()
        except LedgerError as error:
            self._fail(requests, follow_ups, "log_unavailable", str(error))
            raise

    async def _conclude(self, decided: _Round) -> None:
        """The append is durable: make it true in memory, answer, and send what it sends."""
        self.state.commit()
        self._stale_rounds = 0
        before = self.head.seq
        self.head = decided.head
        if decided.records:
            # Else a clock that ran ahead for a moment would date what comes after it.
            self._time_us = decided.time_us
        for request, answer in decided.answers:
            request.close(answer)
        for arrived in decided.arrived:
            arrived.arrived()
        for sent in decided.sent:
            self._deliver(self.partition, sent.seq, sent.follow_up)
        for user_id in decided.unfinished:
            self.state.set_timer(decided.time_us, user_id)
        if decided.waiting:
            self._put_back(decided.waiting)
        for request, seq in decided.hits:
            if seq > before:
                request.close(self._first_answer(request, decided.records[seq - before - 1].record, seq))
            else:
                await self._answer_hit(request, seq)

    async def _answer_hit(self, request: Request, seq: int) -> None:
        try:
            record = (await self._log.read(self.partition, seq, 1))[0]
        except LogUnavailable as error:
            # Not "nothing was written": this command is in the log, its answer just cannot be read.
            request.close(Failed("outcome_unknown", str(error)))
        else:
            request.close(self._first_answer(request, record, seq))

    def _first_answer(self, request: Request, record: bytes, seq: int) -> AnyResponse:
        _, _, event = self._decoded(record, seq)
        place = Position(self.partition, seq)
        if isinstance(request, CommandRequest) and request.request_sha256 != event.request_sha256:
            return IdReused(differing_fields(request.command, event), str(place))
        return Accepted(event, place, sha256_hex(record), hit=True)

    def _undo(self, decided: _Round) -> None:
        self.state.roll_back()
        for due_us, user_id in decided.due:
            self.state.set_timer(due_us, user_id)

    def _fail(
        self,
        requests: Sequence[Request],
        follow_ups: Sequence[_FollowUpRequest],
        reason: Literal["outcome_unknown", "log_unavailable", "not_owner"],
        detail: str,
    ) -> None:
        """No request is decided; the follow-ups wait for the next round."""
        self._put_back(follow_ups)
        for request in requests:
            request.close(Failed(reason, detail))

    def _put_back(self, follow_ups: Sequence[_FollowUpRequest]) -> None:
        self._follow_ups_in_round = ()
        if self._stopping:  # the next start delivers them again; to wait for a log that is gone has no end
            self._left.extend(follow_ups)
        else:
            self._follow_ups.extendleft(reversed(follow_ups))

    async def _refuse_writes(
        self, requests: Sequence[Request], follow_ups: Sequence[_FollowUpRequest], error: LogUnavailable
    ) -> None:
        """The log takes nothing now. What would write fails; what would not is true of the last durable state.

        Each request is decided alone, from that state, for nothing of the failed round may show in an answer.
        """
        self._put_back(follow_ups)
        unavailable = Failed("log_unavailable", str(error))
        readable = []
        for request in requests:
            alone = self._decide((request,), (), timers=False)
            self._undo(alone)
            if alone.records:
                request.close(unavailable)
            else:
                readable.append((request, alone))
        try:
            if readable:
                await self._log.confirm(self.partition, self.head)
        except (StaleHead, LogUnavailable):
            for request, _ in readable:
                request.close(unavailable)
            return
        for request, alone in readable:
            if alone.hits:
                await self._answer_hit(request, alone.hits[0][1])
            else:
                request.close(alone.answers[0][1])

    # --- deciding ------------------------------------------------------------------------------------------------

    def _decide(
        self, requests: Sequence[Request], follow_ups: Sequence[_FollowUpRequest], *, timers: bool = True
    ) -> _Round:
        """Decide all in order, within the state's batch, and first, unless ``timers`` says no, what is due in other
        wallets. Raises LedgerError where the state cannot be read."""
        clock_us = self._clock()
        now_us = max(clock_us, self._time_us)
        decided = _Round(self.head, now_us)
        if timers:
            decided.due = self.state.take_due(now_us, _TIMERS_PER_ROUND)
        self._prefetch(requests, follow_ups, decided.due)
        for _, user_id in decided.due:
            self._fire_due(decided, self.state.wallet(user_id))
        for follow_up in follow_ups:
            self._decide_follow_up(decided, follow_up)
        for request in requests:
            if decided.bytes >= self._append_bytes or request.user_id in decided.unfinished:
                break
            decided.taken += 1
            if request.deadline_us is not None and clock_us > request.deadline_us:
                decided.answers.append((request, _TOO_LATE))
            elif type(request) is CommandRequest:
                if not self._decide_command(decided, request):
                    decided.taken -= 1
                    break
            elif type(request) is LookupRequest:
                seq = self.state.get(command_key(request.user_id, request.command_id))
                if isinstance(seq, int):
                    decided.hits.append((request, seq))
                else:
                    decided.answers.append((request, None))
            else:
                wallet = self.state.wallet(request.user_id)
                place = Position(self.partition, decided.head.seq)
                decided.answers.append((request, WalletRead(wallet, place)))
        return decided

    def _prefetch(
        self, requests: Sequence[Request], follow_ups: Sequence[_FollowUpRequest], due: Sequence[tuple[int, str]]
    ) -> None:
        keys = [user_id for _, user_id in due]
        for request in requests:
            user_id = request.user_id
            keys.append(user_id)
            if type(request) is CommandRequest:
                keys.append(request.command_key)
                for _, key in request.item_keys:
                    keys.append(key)
            elif type(request) is LookupRequest:
                keys.append(command_key(user_id, request.command_id))
        for waiting in follow_ups:
            follow_up = waiting.follow_up
            keys += (follow_up.user_id, command_key(follow_up.user_id, follow_up.command_id))
        self.state.prefetch(keys)

    def _decide_command(self, decided: _Round, request: CommandRequest) -> bool:
        """Whether it could be decided: False where more of its wallet is due than goes into this round."""
        failed = request.group.failed
        if failed is not None and request.user_id in failed:
            decided.answers.append((request, failed[request.user_id]))
            return True
        state, command, user_id = self.state, request.command, request.user_id
        seq = state.get(request.command_key)
        if seq is not None:
            assert isinstance(seq, int)
            decided.hits.append((request, seq))
            return True
        wallet = state.wallet(user_id)
        items: dict[str, Item | None] = {}
        for key, full_key in request.item_keys:
            items[key] = state.get(full_key)  # type: ignore[assignment]  # an item key names an item
        if request.dry_run:
            decided.answers.append((request, self._would_be(decided, request, wallet, items)))
            return True
        if wallet.grants or wallet.expiring_holds:
            wallet = self._fire_due(decided, wallet)
            if user_id in decided.unfinished:
                return False
            for key, full_key in request.item_keys:
                items[key] = state.get(full_key)  # type: ignore[assignment]  # a hold may have expired
        decision = decide(
            Case(command, request.request_sha256, request.actor, wallet, items, self._assets, decided.time_us)
        )
        if type(decision) is Rejection:
            decided.answers.append((request, Refused(decision)))
            return True
        assert type(decision) is Event
        after = self._accept(decided, wallet, decision, items)
        decided.answers.append(
            (request, Accepted(decision, Position(self.partition, decided.head.seq), decided.head.sha256))
        )
        if after.grants or after.expiring_holds:
            self._fire_due(decided, after)  # what came back to an expired grant, a hold that began expired
        return True

    def _would_be(
        self, decided: _Round, request: CommandRequest, wallet: Wallet, items: dict[str, Item | None]
    ) -> AnyResponse:
        """Decide on a copy that nobody keeps; due expiries happen in it first, as they would."""
        time_us = decided.time_us
        place = Position(self.partition, decided.head.seq + 1)
        while (event := expire(wallet, time_us, place.seq)) is not None:
            wallet, changed = evolve(wallet, items, event, place)
            items.update((key, changed[key]) for key in changed if key in items)
            place = Position(self.partition, place.seq + 1)
        decision = decide(
            Case(request.command, request.request_sha256, request.actor, wallet, items, self._assets, time_us)
        )
        return Refused(decision) if isinstance(decision, Rejection) else DryRunAccepted(decision, place)

    def _decide_follow_up(self, decided: _Round, waiting: _FollowUpRequest) -> None:
        follow_up = waiting.follow_up
        key = command_key(follow_up.user_id, follow_up.command_id)
        if self.state.get(key) is not None:
            decided.arrived.append(waiting)
            return
        decided.time_us = max(decided.time_us, follow_up.cause_time_us)
        wallet = self._fire_due(decided, self.state.wallet(follow_up.user_id))
        if follow_up.user_id in decided.unfinished:
            decided.waiting.append(waiting)
            return
        decided.arrived.append(waiting)
        self._accept(decided, wallet, decide_follow_up(follow_up, wallet, decided.time_us), {})

    def _fire_due(self, decided: _Round, wallet: Wallet) -> Wallet:
        """All that is due in the wallet, or as much of it as goes into the round: then it is ``unfinished``."""
        while (event := expire(wallet, decided.time_us, decided.head.seq + 1)) is not None:
            if decided.expired >= EXPIRIES_PER_ROUND or decided.bytes >= self._append_bytes:
                decided.unfinished.add(wallet.user_id)
                break
            wallet = self._accept(decided, wallet, event, {})
            decided.expired += 1
        return wallet

    def _accept(self, decided: _Round, wallet: Wallet, event: Event, items: dict[str, Item | None]) -> Wallet:
        """Give the event its place, its record and its effect."""
        assert balances_follow(wallet, event), (event, wallet)
        seq, prev = decided.head
        place = Position(self.partition, seq + 1)
        record = encode(event, place, prev)
        decided.head = Head(place.seq, sha256_hex(record))
        decided.records.append(NewRecord(place.seq, event.user_id, event.command_id, record))
        decided.bytes += len(record)
        after = self._apply(wallet, event, place, items)
        follow_up = follow_up_of(event, after, place, decided.head.sha256)
        if follow_up is not None:
            self.state.put(follow_up_key(place.seq), follow_up)
            decided.sent.append(_Sent(place.seq, follow_up))
        return after

    def _apply(self, wallet: Wallet, event: Event, place: Position, items: Any) -> Wallet:
        state, user_id = self.state, event.user_id
        after, changed = evolve(wallet, items, event, place)
        state.put_wallet(wallet, after)
        for key, item in changed.items():
            state.put(f"{user_id} {key}", item)
        state.put(f"{user_id} c:{event.command_id}", place.seq)
        return after

    # --- reading the log ------------------------------------------------------------------------------

    async def _catch_up_wholly(self) -> None:
        """Raises Superseded, LogDamaged, LogUnavailable."""
        while await self._catch_up(_REPLAY_PAGE):
            pass
        self._check_still_owner()

    async def _catch_up(self, limit: int) -> int:
        """Fold in at most ``limit`` events after the head; answers how many. What they sent is delivered when the
        writer starts, or at once if it runs. Raises LogDamaged, LogUnavailable."""
        events: list[tuple[Event, Head]] = []
        head, keys = self.head, []
        for record in await self._log.read(self.partition, head.seq + 1, limit):
            place, prev, event = self._decoded(record, head.seq + 1)
            if place != (self.partition, head.seq + 1) or prev != head.sha256:
                raise LogDamaged(self.partition, head.seq + 1, "the record does not continue the chain")
            head = Head(place.seq, sha256_hex(record))
            events.append((event, head))
            keys.append(event.user_id)
            keys += [f"{event.user_id} {key}" for key in items_read_by(event)]
        self.state.prefetch(keys)
        for event, at in events:
            self._apply_stored(event, at)
        self.state.commit()
        self.head = head
        return len(events)

    def _apply_stored(self, event: Event, at: Head) -> None:
        if type(event.data) is WriterOpened:
            self._notice_owner(event.data.generation)
            self._read_generation = max(self._read_generation, event.data.generation)
            self._time_us = max(self._time_us, event.time_us)
            return
        place = Position(self.partition, at.seq)
        items = {key: self.state.get(f"{event.user_id} {key}") for key in items_read_by(event)}
        after = self._apply(self.state.wallet(event.user_id), event, place, items)
        self._time_us = max(self._time_us, event.time_us)
        if self._task is None and event.command_id[0] == "~" and not event.command_id.startswith(EXPIRY):
            partition, seq = str(getattr(event.data, "cause")).split(":")  # noqa: B009 - all of these have a cause
            self._arrivals.setdefault(int(partition), array("q")).append(int(seq))
        follow_up = follow_up_of(event, after, place, at.sha256)
        if follow_up is not None:
            self.state.put(follow_up_key(at.seq), follow_up)
            if self._task is not None:
                self._deliver(self.partition, at.seq, follow_up)

    def _decoded(self, record: bytes, seq: int) -> Decoded:
        try:
            return decode(record)
        except MalformedRecord as error:
            raise LogDamaged(self.partition, seq, str(error)) from error


def _reason_of(error: LedgerError) -> Literal["not_owner", "log_unavailable"]:
    """Why a writer that has stopped answers nothing."""
    return "not_owner" if isinstance(error, Superseded) else "log_unavailable"


def differing_fields(command: Command, event: Event) -> tuple[str, ...]:
    """The names of the fields in which the command differs from the one that made the event."""
    asked = msgspec.to_builtins(command)
    given = msgspec.to_builtins(event.data)
    given["type"] = COMMAND_OF.get(event.data.type)
    names = (asked.keys() | given.keys()) - ADDED_BY_DECISION - {"command_id", "user_id"}
    return tuple(sorted(name for name in names if asked.get(name, UNSET) != given.get(name, UNSET)))
