"""One partition's single writer: takes the waiting requests, decides them in a round, appends, then responds.

While an append is under way the mailbox fills, so load makes rounds larger, not slower.

Invariants:
(1) no response leaves before the round's append is durable, or, if the round writes nothing, before the log has
    confirmed the head on which it was decided;
(2) a response never rests on something that is not durable. If the append fails, everything that the round changed
    is rolled back, and each of its commands is decided again from the true head or gets ``Failed``;
(3) if it is unknown whether the append landed, the response is ``outcome_unknown``, and the log is read again before
    the next round;
(4) a command's id is never forgotten: the same command again gets its first response, read from the log;
(5) a follow-up always leaves an event, and only one, however often it is delivered; the outcome of a period leaves
    one for each open bet of the period, in as many rounds as it takes;
(6) on a log that other processes may write to, requests get ``not_owner`` until the writer has opened the partition
    (``opening``).

What a round decides is in ``round``, with its invariants; reading the log is in ``replay``, and checkpoints are in
``store_writes``.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter
from typing import Final, Literal

from ledger import background
from ledger.core.follow_up_commands import AnyFollowUp
from ledger.core.games.rules import BUILT_IN, RuleBook
from ledger.core.money import Assets
from ledger.core.record import EMPTY, Head, sha256_hex
from ledger.errors import (
    LedgerError,
    LogUnavailable,
    OutcomeUnknown,
    StaleHead,
)
from ledger.pacing import RareWarnings
from ledger.ports import Clock, EventLog, StateStore
from ledger.tracing import Span
from ledger.writer.counts import RoundCounts
from ledger.writer.kept_rules import learn_money_rules, learn_rules_of_bets
from ledger.writer.key_filter import KeyFilter
from ledger.writer.mailbox import Mailbox
from ledger.writer.opening import Opening
from ledger.writer.repeated import respond_to_repeated
from ledger.writer.replay import Arrivals, catch_up, check_checkpoint
from ledger.writer.requests import (
    Failed,
    FollowUpRequest,
    Request,
    failure_after_stop,
    key_of_command,
)
from ledger.writer.round import Announced, Round, RoundDecider, UnpaidPayout
from ledger.writer.round_spans import NOTHING_TRACED, begin_round
from ledger.writer.settlement_turn import SettlementTurn
from ledger.writer.state import PartitionState
from ledger.writer.store_writes import StoreWrites

ROUND_MAX: Final = 4_096
"""The most commands of one round. Chosen: some 40 ms of deciding, and well below a log's largest batch."""

MAILBOX_MAX: Final = 16_384
"""The most commands that wait for one partition before ``overloaded``. Chosen: under a second of work."""

_REPLAY_PAGE: Final = 2_000
_REPLAY_PAGE_SERVING: Final = 250
"""Chosen: some 6 ms at a time, where the process serves other partitions during the replay."""
_MERGE_STEPS_PER_SAVE: Final = 4
"""In a replay. Chosen: an id is written again up to four times while the log grows 250-fold."""
_RETRY_S: Final = 0.25
_TIMER_WAIT_MAX_S: Final = 0.1
"""A clock that is set forward must not delay a timer by more than this. Chosen."""
_STALE_MAX: Final = 8

SHUTTING_DOWN: Final = Failed("shutting_down", "the service is shutting down")

_log = logging.getLogger(__name__)

Deliver = Callable[[int, int, AnyFollowUp, Span | None], None]
"""(origin partition, seq of the event that sends it, follow-up, span of the round): hand it to the writer of its
wallet."""

Announce = Callable[[Announced, Span | None], None]
"""Hand the outcome of a period, an event of this partition, to the writers of all partitions."""

Halted = Callable[[int, LedgerError], None]
"""(partition, why): the partition cannot continue in this process."""


class Writer:
    """The only writer of ``partition``."""

    def __init__(
        self,
        partition: int,
        log: EventLog,
        store: StateStore,
        clock: Clock,
        assets: Assets,
        *,
        rules: RuleBook = BUILT_IN,
        deliver: Deliver,
        announce: Announce,
        halted: Halted,
        recent_max: int = 10_000,
        mailbox_max: int = MAILBOX_MAX,
        store_turn: asyncio.Lock | None = None,
        settlement_turn: SettlementTurn | None = None,
        counts: RoundCounts | None = None,
    ) -> None:
        """``store_turn`` is locked during each write to the store, which takes one at a time. ``settlement_turn`` and
        ``counts`` are shared by the writers of a node."""
        self.partition = partition
        self.head = EMPTY
        self.state: PartitionState
        self.opened = asyncio.Event()
        """Set once it takes commands: it has opened the partition, or no other process can write to the log."""
        self.arrivals = Arrivals()
        """The causes of the follow-ups that the replay found in this partition."""
        self._log, self._store, self._clock, self._assets, self._rules = log, store, clock, assets, rules
        self._deliver, self._announce, self._halted = deliver, announce, halted
        self._recent_max = recent_max
        self._counts = RoundCounts() if counts is None else counts
        self._time_us = 0
        self._log_errors = RareWarnings(_log, level=logging.ERROR)
        self._unpaid_warnings = RareWarnings(_log)

        self._mailbox = Mailbox(mailbox_max)
        self._requests_in_round: list[Request] = []
        self._follow_ups_in_round: Sequence[FollowUpRequest] = ()
        self._spans = NOTHING_TRACED
        """Of the round."""
        self._abandoned: list[FollowUpRequest] = []
        self._task: asyncio.Task[None] | None = None
        self._starting = False
        self._between_rounds = asyncio.Lock()

        self._refusal: Failed | None = None
        self._stopping = False
        self._halt: LedgerError | None = None

        self._in_doubt: set[str] = set()
        """The commands whose outcome is unknown until the writer has opened the partition again."""

        self._opening = Opening(shared=log.shared)
        self._stale_rounds = 0
        if not log.shared:
            self.opened.set()

        self._settlement_turn = settlement_turn if settlement_turn is not None else SettlementTurn()
        store_turn = store_turn if store_turn is not None else asyncio.Lock()
        self.store_writes = StoreWrites(
            partition, log, store, store_turn, self._between_rounds, lambda: (self.state, self.head)
        )
        """Its checkpoints."""

    # --- read by others --------------------------------------------------------------------------------------------

    @property
    def generation(self) -> int:
        """The generation of the owners' group with which it opens the partition."""
        return self._opening.generation

    @property
    def highest_generation(self) -> int:
        """The highest generation with which the partition was opened, as far as the log has been read."""
        return self.state.highest_generation

    @property
    def waiting(self) -> int:
        """Requests and follow-ups that wait for a round."""
        return len(self._mailbox)

    @property
    def follow_ups_waiting(self) -> int:
        """Follow-ups that wait for a round."""
        return self._mailbox.follow_ups_waiting

    @property
    def idle(self) -> bool:
        """Whether nothing waits, no round is under way, and its open follow-ups are delivered again; also true if the
        partition has halted."""
        if self._halt is not None:
            return True
        return not self._starting and not self._mailbox and not self._between_rounds.locked()

    @property
    def is_open(self) -> bool:
        """Whether it takes commands."""
        return self.opened.is_set() and self._halt is None

    @property
    def halted(self) -> bool:
        """Whether the partition cannot continue in this process."""
        return self._halt is not None

    @property
    def time_us(self) -> int:
        """The time of the partition's last event; 0 if there is none."""
        return self._time_us

    @property
    def behind_us(self) -> int:
        """How far the clock is behind the partition's last event."""
        return max(self._time_us - self._clock(), 0)

    # --- replay ----------------------------------------------------------------------------------------------------

    async def recover(self, *, save_every: int) -> int:
        """Load the checkpoint and fold in the records after it. Returns how many.

        Saves the state whenever ``save_every`` values have changed, so that a start without a checkpoint needs no
        more memory than any other. Raises CheckpointAhead, LogDamaged, LogUnavailable, LogUnreadable,
        RulesMissing.
        """
        checkpoint = self._store.checkpoint(self.partition)
        if checkpoint is not None:
            await self._log.begin_at(self.partition, checkpoint, self._store.place(self.partition))
        self.state = await asyncio.to_thread(
            PartitionState, self.partition, self._store, self._recent_max, KeyFilter(self._log.partitions)
        )
        self._decider = RoundDecider(self.state, self._assets, self._rules, self._log.append_bytes)
        self._opening.note_read(self.state.highest_generation)
        end = await self._log.head(self.partition)
        if checkpoint is not None and checkpoint.seq > 0:
            self._time_us = await check_checkpoint(self._log, self.partition, checkpoint, end)
            self.head = checkpoint
        replayed = 0
        page = _REPLAY_PAGE_SERVING if self._log.shared else _REPLAY_PAGE
        while self.head.seq < end.seq:
            replayed += await self._catch_up(page)
            if self._log.shared:
                await asyncio.sleep(0)  # a log with the page in memory never suspends, and would starve other tasks
            if self.state.changes >= save_every:
                await self.store_writes.save_or_warn()
                for _ in range(_MERGE_STEPS_PER_SAVE):
                    await self.store_writes.merge()
        await self._learn_rules()
        return replayed

    async def _learn_rules(self) -> None:
        """Raises RulesMissing, LogMisconfigured, LogUnavailable."""
        await learn_rules_of_bets(self._log, self._rules, self.partition, self.state.open_bets)

    async def follow(self, *, save_every: int) -> int:
        """Before ``start``: fold in the events that others have written since. Returns how many.

        Raises LogDamaged, LogUnavailable, LogUnreadable.
        """
        followed = 0
        while read := await self._catch_up(_REPLAY_PAGE_SERVING):
            followed += read
            self.arrivals.take()
            await asyncio.sleep(0)
            if self.state.changes >= save_every:
                await self.store_writes.save_or_warn()
        await self._learn_rules()
        return followed

    async def _catch_up(self, limit: int) -> int:
        """Fold in at most ``limit`` events after the head. Returns how many. Their follow-ups are delivered at once
        if the writer runs; otherwise ``start`` delivers them."""
        replayed = await catch_up(self._log, self.state, self.head, limit)
        self.head = replayed.head
        self._time_us = max(self._time_us, replayed.time_us)
        self._opening.note_read(replayed.generation)
        if self._task is None:
            self.arrivals.add(replayed.causes)
        else:
            for sent in replayed.sent:
                self._deliver(self.partition, sent.seq, sent.follow_up, None)
            for announced in replayed.announced:
                self._announce(announced, None)
        return replayed.events

    async def _catch_up_wholly(self) -> None:
        """Raises Superseded, LogDamaged, LogUnavailable, RulesMissing."""
        while await self._catch_up(_REPLAY_PAGE):
            pass
        await self._learn_rules()
        self._opening.check_still_owner(self.state)

    # --- life ------------------------------------------------------------------------------------------------------

    def start(self, generation: int = 0, *, strictly: bool = False) -> None:
        """Begin to decide, and deliver again every follow-up that is not known to have arrived.

        On a shared log the writer first opens the partition with the ``generation`` of its owners' group, and then
        sets ``opened``. With ``strictly`` it stops, too, if it reads a ``writer_opened`` of the same generation.
        """
        self._opening.generation, self._opening.strictly = generation, strictly
        self.state.open_bets.ask_soon()
        self._starting = True
        self._task = background.start(self._run(), f"writer-{self.partition}")

    def open_again(self, generation: int) -> None:
        """The partition stays with this writer while the owners' group moves to ``generation``. No other writer owned
        it, so waiting requests may keep waiting."""
        self._opening.generation = generation
        self._opening.must_open = True
        self._mailbox.wake()

    def wake(self) -> None:
        """Look for due timers now."""
        self._mailbox.wake()

    def stop_accepting(self) -> None:
        """From now on new requests get ``shutting_down``. Waiting requests, and follow-ups, are still decided."""
        self._refusal = self._refusal or SHUTTING_DOWN

    async def stop(self) -> None:
        """Decide all waiting requests and follow-ups, then stop."""
        self.stop_accepting()
        self._stopping = True
        self._mailbox.wake()
        if self._task is not None:
            await self._task

    async def release(self, within_s: float) -> None:
        """Another process takes the partition: refuse with ``not_owner``, decide the waiting requests, stop. Requests
        still under way after ``within_s`` get ``outcome_unknown``."""
        self._refusal = self._refusal or Failed("not_owner", f"partition {self.partition} has been handed over")
        self._abandon_follow_ups()  # the next owner decides them
        self._stopping = True
        self._mailbox.wake()
        if self._task is None:
            return
        await asyncio.wait({self._task}, timeout=within_s)
        if not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task})
            self.state.roll_back()
            detail = f"partition {self.partition} was handed over before the append ended"
            self._close_all(self._requests_in_round, detail, lambda _: Failed("not_owner", detail))

    def left_follow_ups(self) -> list[FollowUpRequest]:
        """After the end: the follow-ups that it received and has not decided."""
        return [*self._abandoned, *self._follow_ups_in_round, *self._mailbox.take_follow_ups()]

    # --- requests --------------------------------------------------------------------------------------------------

    def submit(self, request: Request) -> None:
        """Put a request into the mailbox, or close it at once if it cannot be decided."""
        failed = request.group.failed
        if failed is not None and request.user_id in failed:
            request.close(failed[request.user_id])
        elif self._refusal is not None:
            request.close(self._refusal)
        elif self._halt is not None:
            request.close(failure_after_stop(self._halt, request))
        elif not self.opened.is_set():
            # If it waited, it could be accepted after the previous owner has refused the client's retry.
            request.close(Failed("not_owner", f"partition {self.partition} is not open on this node yet"))
        elif not self._mailbox.put(request):
            maximum = self._mailbox.requests_max
            request.close(Failed("overloaded", f"{maximum} commands wait for partition {self.partition}"))

    def receive(self, follow_up: AnyFollowUp, on_durable: Callable[[], None], span: Span | None = None) -> None:
        """Take a follow-up, however many requests wait. ``on_durable`` is called once its event is durable."""
        self._mailbox.put_follow_up(FollowUpRequest(follow_up, on_durable, span))

    # --- rounds ----------------------------------------------------------------------------------------------------

    async def _deliver_open_follow_ups(self) -> None:
        """Raises LedgerError."""
        seq = 0
        while not self._stopping and (page := await self.state.open_follow_ups(seq, _REPLAY_PAGE)):
            for seq, follow_up in page:
                self._deliver(self.partition, seq, follow_up, None)
        self._starting = False

    async def _run(self) -> None:
        try:
            await self._deliver_open_follow_ups()
            while await self._wait_for_work():
                async with self._between_rounds:
                    self._requests_in_round = []
                    if not self._opening.must_open or await self._open():
                        requests, follow_ups = self._mailbox.take(ROUND_MAX, with_turn=self._has_turn())
                        self._requests_in_round, self._follow_ups_in_round = requests, follow_ups
                        with begin_round(self.partition, requests, follow_ups) as self._spans:
                            await self._round(requests, follow_ups)
                        continue
                self._settlement_turn.give_back(self.partition)
                await asyncio.sleep(_RETRY_S)
        except LedgerError as error:
            self._stop_for(error, self._requests_in_round)
        except Exception as error:  # noqa: BLE001 - any error must close the requests and halt the partition
            # An invariant of ours is broken: stop the partition rather than write nonsense.
            _log.exception("partition %d stops", self.partition)
            self._stop_for(LedgerError(f"partition {self.partition} stopped: {error!r}"), self._requests_in_round)
        finally:
            self._settlement_turn.give_back(self.partition)

    def _has_turn(self) -> bool:
        """Whether something waits that needs the turn, and this partition has the turn."""
        return self._mailbox.needs_turn and self._settlement_turn.take(self.partition, self._mailbox.wake)

    async def _wait_for_work(self) -> bool:
        """Wait for requests, follow-ups, due timers or the need to open. False: the writer is to stop."""
        while not (self._mailbox.has_work or self._has_turn()):
            if self._stopping:
                return False
            if self._opening.must_open:
                return True
            due_us = self.state.next_due_us()
            if due_us is None:
                await self._mailbox.wait(None)
                continue
            wait_s = (due_us - self._clock()) / 1e6
            if wait_s <= 0:
                return True
            await self._mailbox.wait(min(wait_s, _TIMER_WAIT_MAX_S))
        return True

    def _stop_for(self, error: LedgerError, requests: Sequence[Request]) -> None:
        self._halt = error
        self.state.roll_back()  # a checkpoint may still be made, and must have only durable events in it
        self._close_all(requests, error.for_clients, partial(failure_after_stop, error))
        self._halted(self.partition, error)

    def _close_all(self, requests: Sequence[Request], detail: str, waiting: Callable[[Request], Failed]) -> None:
        """Close ``requests``, which a round may have written, and those in the mailbox."""
        for request in requests:
            if not request.closed:
                request.close(Failed("outcome_unknown", detail))
        self._close_waiting(waiting)

    def _close_waiting(self, failure: Callable[[Request], Failed]) -> None:
        while self._mailbox.requests:
            request = self._mailbox.requests.popleft()
            request.close(failure(request))

    async def _round(self, requests: list[Request], follow_ups: Sequence[FollowUpRequest]) -> None:
        """Decide, append, respond. Raises LedgerError if the partition cannot continue; every request is closed."""
        for attempt in range(_STALE_MAX):
            try:
                await learn_money_rules(self._log, self._rules, self.partition, follow_ups)
                now_us = max(self._clock(), self._time_us)
                due = await self._decider.fetch(now_us, requests, follow_ups)
                if self._opening.is_behind(self.state, self.head, follow_ups):
                    self.state.roll_back()
                    self._opening.must_open = True
                    self._wait_again(requests, follow_ups)
                    self._settlement_turn.give_back(self.partition)  # others decide while this one is opened
                    return
                # Not before ``now_us``, if the clock steps back during the read: the due timers would be lost.
                decided = self._decider.decide(self.head, now_us, self._clock(), requests, follow_ups, due)
                if due:
                    self._counts.timer_late_s.count(max(now_us - due[0][0], 0) / 1e6)
            except LogUnavailable as error:  # of the rules: nothing was decided
                self._log_errors.warn("partition %d cannot read the rules of money flows: %s", self.partition, error)
                self._wait_again(requests, follow_ups)
                self._settlement_turn.give_back(self.partition)  # others may have the rules that they need
                await asyncio.sleep(_RETRY_S)
                return
            except LedgerError:  # the state cannot be relied on: nothing was decided
                self.state.roll_back()
                self._put_back(follow_ups)
                raise
            self._settlement_turn.give_back(self.partition)  # other partitions decide while this round is appended
            if decided.decided < len(requests):  # the others go into the next append
                self._mailbox.put_back(requests[decided.decided :])
                del requests[decided.decided :]
            try:
                if decided.records:
                    began_s = perf_counter()
                    self._spans.begin_append(decided.records)
                    await self._log.append(self.partition, self.head, decided.records)
                    self._spans.end_append()
                    self._counts.append_s.count(perf_counter() - began_s)
                    self._counts.events.count(len(decided.records))
                elif requests:
                    await self._log.confirm(self.partition, self.head)
            except StaleHead as error:
                # Another writer has appended, so nothing of this round is true: read its events, decide again.
                self._counts.stale += 1
                _log.warning("partition %d: %s (attempt %d)", self.partition, error, attempt + 1)
                self.state.roll_back()
                if self._log.shared:
                    self._decide_again(requests, follow_ups)
                    return
                try:
                    await self._catch_up_wholly()
                except LedgerError:
                    self._put_back(follow_ups)
                    raise
            except LogUnavailable as error:
                self.state.roll_back()
                self._log_errors.warn("partition %d accepts no writes: %s", self.partition, error)
                await self._refuse_writes(requests, follow_ups, error)
                await asyncio.sleep(_RETRY_S)
                return
            except OutcomeUnknown as error:
                self._log_errors.warn("partition %d does not know whether it wrote: %s", self.partition, error)
                self.state.roll_back()
                self._fail(requests, follow_ups, "outcome_unknown", error.for_clients)
                if self._log.shared:
                    self._opening.must_open = True  # opening reads the log first
                    self._in_doubt.update(key for request in requests if (key := key_of_command(request)) is not None)
                else:
                    await self._catch_up_wholly()
                return
            else:
                await self._conclude(decided)
                if not decided.records:
                    await asyncio.sleep(0)  # confirming need not suspend: rounds of refusals would starve other tasks
                return
        self._fail(requests, follow_ups, "not_owner", f"others keep writing to partition {self.partition}")

    def _report_unpaid(self, unpaid: Sequence[UnpaidPayout]) -> None:
        """Count these payouts, and warn of them. Warnings are rare, so each has the number so far."""
        for one in unpaid:
            self._counts.unpaid += 1
            self._unpaid_warnings.warn(
                "the wallet %s has no room for the whole payout of its bet %s (game %s, period %s): %d %s in minor "
                "units are unpaid; pay them with `adjust` once it has room (unpaid payouts since the start: %d)",
                one.user_id,
                one.bet,
                one.game,
                one.period,
                one.amount,
                one.asset,
                self._counts.unpaid,
            )

    async def _conclude(self, decided: Round) -> None:
        """The append is durable: keep its changes, respond, and send its follow-ups."""
        assert decided.head.seq == self.head.seq + len(decided.records), (self.head, decided.head)
        assert not decided.records or decided.time_us >= self._time_us, (decided.time_us, self._time_us)
        self.state.commit()
        self._follow_ups_in_round = ()
        self._stale_rounds = 0
        self.head = decided.head
        self._counts.settled += decided.settled
        self._report_unpaid(decided.unpaid)
        if decided.records:
            # Without an event, a clock that ran ahead for a moment must not date the later events.
            self._time_us = decided.time_us
        self._time_us = max(self._time_us, decided.not_before_us)
        for request, response in decided.responses:
            request.close(response)
        for finished in decided.finished:
            finished.on_durable()
        self._spans.watch_visible(self.partition, decided)
        for sent in decided.sent:
            self._deliver(self.partition, sent.seq, sent.follow_up, self._spans.of_event(decided, sent.seq))
        for announced in decided.announced:
            self._announce(announced, self._spans.of_event(decided, announced.position.seq))
        for user_id in decided.unfinished:
            self.state.set_timer(decided.time_us, user_id)
        if decided.postponed:
            self._put_back(decided.postponed)
        if decided.repeated:
            new = {record.seq: record.record for record in decided.records}
            await respond_to_repeated(self._log, self.partition, decided.repeated, new)

    async def _refuse_writes(
        self, requests: Sequence[Request], follow_ups: Sequence[FollowUpRequest], error: LogUnavailable
    ) -> None:
        """The log accepts no writes now. Requests that would write fail; the others get their response from the last
        durable state.

        Each request is decided alone, from that state: nothing of the failed round may show in a response.
        """
        self._put_back(follow_ups)
        unavailable = Failed("log_unavailable", error.for_clients)
        readable = []
        for request in requests:
            alone = self._decider.decide_alone(self.head, self._time_us, self._clock(), request)
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
            if alone.responses:
                request.close(alone.responses[0][1])
        hits = [hit for _, alone in readable for hit in alone.repeated]
        await respond_to_repeated(self._log, self.partition, hits, {})

    def _fail(
        self,
        requests: Sequence[Request],
        follow_ups: Sequence[FollowUpRequest],
        reason: Literal["outcome_unknown", "not_owner"],
        detail: str,
    ) -> None:
        """Close the requests, undecided; the follow-ups wait for the next round."""
        self._put_back(follow_ups)
        for request in requests:
            request.close(Failed(reason, detail))

    def _put_back(self, follow_ups: Sequence[FollowUpRequest]) -> None:
        self._follow_ups_in_round = ()
        if self._stopping:  # the next start delivers them again; waiting for an unavailable log may never end
            self._abandoned.extend(follow_ups)
        else:
            self._mailbox.put_back((), follow_ups)

    def _abandon_follow_ups(self) -> None:
        """Leave the waiting follow-ups to the next writer of the partition, here or on another node."""
        self._abandoned.extend(self._mailbox.take_follow_ups())

    # --- a log that others may write to ----------------------------------------------------------------------------

    def _decide_again(self, requests: Sequence[Request], follow_ups: Sequence[FollowUpRequest]) -> None:
        """After the next *Open*, from the true head, in the same order."""
        self._opening.must_open = True
        self._stale_rounds += 1
        if self._stale_rounds >= _STALE_MAX:
            self._stale_rounds = 0
            self._fail(requests, follow_ups, "not_owner", f"others keep writing to partition {self.partition}")
            return
        self._wait_again(requests, follow_ups)

    def _wait_again(self, requests: Sequence[Request], follow_ups: Sequence[FollowUpRequest]) -> None:
        self._put_back(follow_ups)
        self._mailbox.put_back(requests)
        self._requests_in_round = []

    async def _open(self) -> bool:
        """Append this generation's ``writer_opened``, alone, and return whether it has landed. If the log is
        unavailable, the waiting requests fail. Raises Superseded, LogDamaged, RulesMissing."""
        while True:
            try:
                await self._catch_up_wholly()
                time_us = max(self._clock(), self._time_us)
                opened = self._opening.record(self.partition, self.head, time_us)
                await self._log.append(self.partition, self.head, [opened])
            except (StaleHead, OutcomeUnknown) as error:
                _log.warning("partition %d is not open yet: %s", self.partition, error)
            except LogUnavailable as error:
                self._log_errors.warn("partition %d accepts no writes: %s", self.partition, error)
                self._close_waiting(partial(self._failure_before_open, error.for_clients))
                if self._stopping:
                    self._abandon_follow_ups()  # the next start delivers them again
                return False
            else:
                break
        self.head = Head(opened.seq, sha256_hex(opened.record))
        self._time_us = time_us
        self.state.note_generation(self._opening.generation)
        self.state.commit()
        self._opening.must_open = False
        self._in_doubt.clear()
        self.opened.set()
        return True

    def _failure_before_open(self, detail: str, request: Request) -> Failed:
        """The log is unavailable, and the writer has not read whether the command is in it."""
        return Failed("outcome_unknown" if key_of_command(request) in self._in_doubt else "log_unavailable", detail)
