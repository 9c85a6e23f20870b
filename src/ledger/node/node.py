"""A node: the partitions of a log that live in this process, from start to stop.

``Owners`` decides which they are (``ledger/node/owned.py``); requests for the other partitions go to ``OtherNodes``.
A node that has a log for itself owns all of it (``ledger/node/owns_all.py``).

Invariants:
(1) a command reaches the one writer of its user's partition, and a wallet's commands reach it in the order given;
(2) a follow-up leaves only after the event that sends it is durable. It stays open, on disk too, until its arrival
    is durable, and is delivered again at each start and each gain of its partition while it is open;
(3) ``stop`` closes every accepted request, then saves the state, then closes the log.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from logging import getLogger
from typing import Any, Final

from msgspec.structs import replace

from ledger import background
from ledger.cluster_ports import Owners
from ledger.core.commands import Command
from ledger.core.follow_up_commands import AnyFollowUp
from ledger.core.games.rules import BUILT_IN, RuleBook
from ledger.core.money import Assets
from ledger.core.position import RESERVED_PARTITION_PREFIX, Position, partition_of
from ledger.core.record import Head, MalformedRecord, time_us_of
from ledger.core.settlement import resolution_of
from ledger.errors import LedgerError, LogDamaged
from ledger.node.checkpoints import CHANGES_PER_CHECKPOINT, CHECKED_AT_START, Checkpoints, check_tail
from ledger.node.kept_games import KeptGames
from ledger.node.owned import OwnedPartitions, Prepare, Takeovers
from ledger.node.ports import OPEN_FOLLOW_UPS_PAGE, OpenFollowUps, OtherNodes
from ledger.node.unsettled import Unsettled
from ledger.ports import Clock, EventLog, StateStore
from ledger.tracing import Span
from ledger.writer.counts import RoundCounts
from ledger.writer.requests import (
    Accepted,
    AnyResponse,
    CommandRequest,
    Failed,
    LookupRequest,
    OutcomeRequest,
    Request,
    RequestGroup,
    WalletRead,
    WalletRequest,
)
from ledger.writer.round import Announced
from ledger.writer.settlement_turn import SettlementTurn
from ledger.writer.writer import MAILBOX_MAX, SHUTTING_DOWN, Writer

RECENT_WALLETS: Final = 100_000
"""Wallets kept in memory over all partitions; measured: about 1 kB each."""

FOLLOW_UPS_MAX: Final = 65_536
"""Follow-ups that may wait for one partition; the others are offered again later. While the log is unavailable other
nodes deliver theirs again and again. Chosen: some 40 MB."""

CLOCK_BEHIND_MAX_US: Final = 1_000_000
CLOCK_OFF_MAX_US: Final = 1_000_000

NOT_OPEN: Final = Failed(
    "not_owner", "the wallet's partition is not open on this node: another node owns it, or will own it"
)

_QUIET_LOOK_S: Final = 0.002

_log = getLogger(__name__)


def _nothing() -> None:
    """What is done once the bets of a period are settled: the list of open bets shows it."""


class Node:
    """The partitions of ``log`` that ``owners`` gives to this process."""

    def __init__(
        self,
        log: EventLog,
        store: StateStore,
        clock: Clock,
        assets: Assets,
        *,
        rules: RuleBook = BUILT_IN,
        owners: Owners,
        others: OtherNodes,
        recent_wallets: int = RECENT_WALLETS,
        mailbox_max: int = MAILBOX_MAX,
        changes_per_checkpoint: int = CHANGES_PER_CHECKPOINT,
        checked_at_start: int = CHECKED_AT_START,
        prepare: Prepare | None = None,
        clock_off_us: Callable[[], int] = lambda: 0,
        forks: Callable[[int], int] = lambda _: 0,
    ) -> None:
        """``clock_off_us``: how far this clock is from the log's. ``forks``: how many records of a partition are no
        events, as far as it was read."""
        self._log, self._store, self._clock, self.assets = log, store, clock, assets
        # Copies: this node may learn further tables, rules and games.
        self.rules = replace(
            rules, tables=dict(rules.tables), money_kept=dict(rules.money_kept), names={*rules.names, *rules.games}
        )
        self.kept_games = KeptGames(log, self.rules, clock)
        self.partitions = log.partitions
        self.halted: asyncio.Future[LedgerError] = asyncio.get_running_loop().create_future()
        self.clock_off_us, self.forks = clock_off_us, forks
        self._recent_max = max(recent_wallets // log.partitions, 16)
        self._mailbox_max = mailbox_max
        self._started = False
        self._accepting = True
        self._time_us_at: dict[int, tuple[int, int]] = {}
        """Partition → the last (seq, time) that ``time_us`` read. While a read model is late, its reads repeat one
        seq."""
        self._owners, self._others = owners, others
        self._others.bind(self)
        self.writers: dict[int, Writer] = {}
        """Of the partitions that are open on this node, or opening."""
        self._settlement_turn = SettlementTurn()
        self.counts = RoundCounts()
        """Of the rounds of its writers."""
        self._unsettled = Unsettled(self.writers, clock, self._outcomes)
        self._checkpoints = Checkpoints(self.writers, changes_per_checkpoint=changes_per_checkpoint, halt=self._halt)
        self._owned = OwnedPartitions(
            owners,
            others,
            self.writers,
            make=self._new_writer,
            prepare=prepare,
            check_tail=partial(check_tail, log, store, records_max=checked_at_start // log.partitions),
            save_every=max(changes_per_checkpoint // log.partitions, 1),
            recovered=self._on_recovered,
            dropped=self._on_dropped,
            disaster=self._halt,
        )

    def _new_writer(self, partition: int) -> Writer:
        return Writer(
            partition,
            self._log,
            self._store,
            self._clock,
            self.assets,
            rules=self.rules,
            deliver=self._deliver,
            announce=self._announce,
            halted=self._owned.ended,
            recent_max=self._recent_max,
            mailbox_max=self._mailbox_max,
            store_turn=self._checkpoints.store_turn,
            settlement_turn=self._settlement_turn,
            counts=self.counts,
        )

    @property
    def follow_ups_waiting(self) -> int:
        """How many follow-ups wait in memory for a partition, of this node or of another."""
        return self._others.waiting + sum(writer.follow_ups_waiting for writer in self.writers.values())

    @property
    def idle(self) -> bool:
        """Whether no request and no follow-up waits, and no round is under way."""
        return not self.follow_ups_waiting and all(writer.idle for writer in self.writers.values())

    def next_due_us(self) -> int | None:
        """When the next timer of its partitions is due; None if there is none."""
        due = [writer.state.next_due_us() for writer in self.writers.values() if not writer.halted]
        return min((due_us for due_us in due if due_us is not None), default=None)

    def wake(self) -> None:
        """Look at the timers now: the clock was moved, which writers otherwise notice within a tenth of a second."""
        for writer in self.writers.values():
            writer.wake()

    # --- start and stop ------------------------------------------------------------------------------------------

    async def start(self) -> int:
        """Recover and open the partitions that need no agreement with other nodes. Returns how many records were
        replayed.

        Raises CheckpointAhead, LogDamaged, LogUnavailable, Superseded, LedgerError: nothing has been appended then.
        """
        await self._owners.begin(self._owned)
        await self._wait_until_open()
        self._checkpoints.start()
        self._unsettled.start()
        self._started = True
        return self._owned.replayed

    async def join(self) -> None:
        """Take part in the agreement with the other nodes. Call it once they can reach this node, and not before:
        they forward the requests for its partitions to it. Gained partitions open later. Raises LogUnavailable,
        LogMisconfigured."""
        await self._owners.join()
        self._owners.failed.add_done_callback(self._on_owners_failed)

    async def _wait_until_open(self) -> None:
        """Wait until every writer may decide; at once where no other process can append. Raises what halts the
        node."""
        for writer in self.writers.values():
            if writer.opened.is_set():
                continue
            opening = background.awaited(writer.opened.wait(), "first-open")
            waited: list[asyncio.Future[Any]] = [opening, self.halted]
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if not opening.done():
                opening.cancel()
                raise self.halted.result()

    @property
    def ready(self) -> bool:
        """Whether every partition that this node owns takes commands."""
        return self._started and self._accepting and not self.halted.done() and self._owned.settled

    @property
    def absent_for(self) -> float:
        """How long the group of the nodes has not confirmed this one as a member, in session time-outs."""
        return self._owners.absent_for

    @property
    def owned(self) -> int:
        """How many partitions are this node's by agreement."""
        return self._owned.owned

    @property
    def open(self) -> int:
        """How many of them take commands."""
        return self._owned.open

    @property
    def standby(self) -> list[int]:
        """Partitions of other nodes whose state is here, as new as their owners'."""
        standbys = self._owned.standbys
        return sorted(partition for partition in standbys.ready if standbys.has_caught_up(partition))

    @property
    def stopped(self) -> list[int]:
        """Those that another partition contradicts: they accept no commands until this process ends."""
        return self._owned.stopped

    @property
    def takeovers(self) -> Takeovers:
        """The partitions that this node has opened since its start."""
        return self._owned.takeovers

    def stop_accepting(self) -> None:
        """Close every new request as ``shutting_down``."""
        self._accepting = False
        for writer in self.writers.values():
            writer.stop_accepting()

    async def leave(self) -> None:
        """Finish everything in flight, and hand the partitions over to the other nodes at once. Leaving again is
        harmless; a node without other nodes keeps its partitions."""
        self.stop_accepting()
        await self._owned.hand_over_all()
        await self._owners.leave()
        await self._owned.hand_over_all()  # the group may have given partitions before it knew that the node leaves

    async def stop(self, *, quiet_within_s: float = 5.0) -> None:
        """Close all accepted requests, let follow-ups arrive (the late ones are delivered again at the next start),
        save the state, close the log. Raises LedgerError where the state cannot be saved."""
        self.stop_accepting()
        await self.leave()
        await self._checkpoints.stop()
        await self._unsettled.stop()
        deadline_s = time.monotonic() + quiet_within_s
        # Follow-ups move between writers, so quiet is a state of all of them, which no single event announces.
        while not all(writer.idle for writer in self.writers.values()) and time.monotonic() < deadline_s:  # noqa: ASYNC110
            await asyncio.sleep(_QUIET_LOOK_S)
        try:
            await self._others.close()
            for writer in self.writers.values():
                await writer.stop()
            if not self.halted.done():
                await self._checkpoints.save_all()
            await self._owned.close()
        finally:
            await self._log.close()
            self._store.close()

    def _halt(self, partition: int, error: LedgerError) -> None:
        """The node must stop."""
        _log.error("partition %d has stopped: %s", partition, error)
        if not self.halted.done():
            self.halted.set_result(error)

    def _on_owners_failed(self, failed: "asyncio.Future[LedgerError]") -> None:
        if not failed.cancelled() and not self.halted.done():
            self.halted.set_result(failed.result())

    def _on_recovered(self, writer: Writer) -> None:
        for partition, seq in writer.arrivals.take():
            assert partition < self.partitions, "the cause of a follow-up is an event of this log"
            origin = self.writers.get(partition)
            if origin is not None:
                origin.state.close_follow_up(seq)
        self._checkpoints.learn_keys_of(writer)

    def _on_dropped(self, writer: Writer) -> None:
        """The partition's next owner decides the follow-ups that the writer has not decided. It also delivers the
        follow-ups that the partition has sent, when it opens the partition."""
        for left in writer.left_follow_ups():
            follow_up = left.follow_up
            self._others.deliver(*Position.parse(follow_up.cause), follow_up, left.on_durable, left.span)

    @property
    def clock_behind(self) -> bool:
        """Whether this machine's clock is more than a second behind the last event of a partition."""
        return any(writer.behind_us > CLOCK_BEHIND_MAX_US for writer in self.writers.values())

    @property
    def clock_off(self) -> bool:
        """Whether this machine's clock is more than a second away from the log's."""
        return abs(self.clock_off_us()) > CLOCK_OFF_MAX_US

    # --- requests ------------------------------------------------------------------------------------------------

    def _open_writer_of(self, user_id: str) -> Writer | None:
        """The open writer of this user's partition; None where this node has none."""
        writer = self.writers.get(partition_of(user_id, self.partitions))
        return writer if writer is not None and writer.opened.is_set() else None

    def _submit_to_others(self, requests: Sequence[Request]) -> None:
        if self._accepting:
            self._others.submit(requests)
            return
        for request in requests:
            request.close(SHUTTING_DOWN)

    async def prepare_local(self, requests: Sequence[Request]) -> None:
        """See ``LocalWriters``."""
        await self.kept_games.look_up_for(requests)

    def submit_local(self, requests: Sequence[Request]) -> None:
        """See ``LocalWriters``."""
        for request in requests:
            if request.closed:
                continue
            writer = self._open_writer_of(request.user_id)
            if writer is None:
                request.close(NOT_OPEN)
            else:
                writer.submit(request)

    def receive_local(self, follow_up: AnyFollowUp, arrived: Callable[[], None], span: Span | None = None) -> bool:
        """See ``LocalWriters``."""
        writer = self.writers.get(partition_of(follow_up.user_id, self.partitions))
        if writer is None or writer.halted or writer.follow_ups_waiting >= FOLLOW_UPS_MAX:
            return False
        writer.receive(follow_up, arrived, span)
        return True

    async def open_follow_ups_after(
        self, origin: int, seq: int, limit: int
    ) -> list[tuple[int, AnyFollowUp, Callable[[], None]]] | None:
        """See ``LocalWriters``."""
        writer = self.writers.get(origin)
        if writer is None:
            return None
        state = writer.state
        page = await state.open_follow_ups(seq, limit)
        return [(seq, follow_up, partial(state.close_follow_up, seq)) for seq, follow_up in page]

    async def post(
        self,
        command: Command,
        request_sha256: str,
        actor: str,
        *,
        dry_run: bool = False,
        games: frozenset[str] | None = None,
        span: Span | None = None,
    ) -> AnyResponse:
        """Decide one command. Every response but ``Failed`` is final. ``games``: see ``CommandRequest``; ``span``: of
        the HTTP request."""
        group = RequestGroup(1, span)
        request = CommandRequest(command, request_sha256, actor, group, dry_run=dry_run, games=games)
        await self.kept_games.look_up_for((request,))
        if not request.closed:
            self._submit(request)
        await group.done
        return request.response

    async def post_many(
        self,
        commands: Sequence[tuple[Command, str]],
        actor: str,
        *,
        dry_run: bool = False,
        games: frozenset[str] | None = None,
        span: Span | None = None,
    ) -> list[AnyResponse]:
        """Decide many commands. The responses are in the order of the commands; the commands of one wallet are
        decided in that order. ``games``: see ``CommandRequest``; ``span``: of the HTTP request."""
        if not commands:
            return []
        group = RequestGroup(len(commands), span)
        requests = [
            CommandRequest(command, request_sha256, actor, group, dry_run=dry_run, games=games)
            for command, request_sha256 in commands
        ]
        await self.kept_games.look_up_for(requests)
        return await self._responses_to(requests, group)

    async def first_response(self, user_id: str, command_id: str) -> Accepted | Failed | None:
        """The response to the command when it was first accepted; None if it was never accepted."""
        response = await self._response_to(LookupRequest(user_id, command_id, RequestGroup(1)))
        assert response is None or isinstance(response, Accepted | Failed)
        return response

    async def _outcomes(self, periods: Sequence[tuple[str, str]]) -> list[AnyResponse]:
        """For each period of a game's stream the record of the event that ended it; None if there is none yet."""
        group = RequestGroup(len(periods))
        requests = [OutcomeRequest(stream, period, group) for stream, period in periods]
        return await self._responses_to(requests, group)

    async def _responses_to(self, requests: Sequence[Request], group: RequestGroup) -> list[AnyResponse]:
        for_others: list[Request] = []
        for request in requests:
            if request.closed:
                continue
            writer = self._open_writer_of(request.user_id)
            if writer is None:
                for_others.append(request)
            else:
                writer.submit(request)
        if for_others:
            self._submit_to_others(for_others)
        await group.done
        return [request.response for request in requests]

    async def wallet(self, user_id: str) -> WalletRead | Failed:
        """The wallet as its writer knows it, after everything that was decided before this call."""
        response = await self._response_to(WalletRequest(user_id, RequestGroup(1)))
        assert isinstance(response, WalletRead | Failed)
        return response

    async def _response_to(self, request: Request) -> AnyResponse:
        self._submit(request)
        await request.group.done
        return request.response

    def _submit(self, request: Request) -> None:
        writer = self._open_writer_of(request.user_id)
        if writer is None:
            self._submit_to_others((request,))
        else:
            writer.submit(request)

    async def heads(self) -> list[Head]:
        """The head of every partition, read from the log. Raises LogUnavailable."""
        return [await self.head(partition) for partition in range(self.partitions)]

    async def head(self, partition: int) -> Head:
        """The head of the partition, read from the log. Raises LogUnavailable."""
        return await self._log.head(partition)

    def open_follow_ups(self, after: Mapping[int, int]) -> dict[int, OpenFollowUps]:
        """For standbys: a page of the open follow-ups after the seq, for each of these partitions (→ seq) that
        is open on this node."""
        found = {}
        for partition, seq in after.items():
            writer = self.writers.get(partition)
            if writer is not None and writer.is_open:
                page = OpenFollowUps(writer.head.seq, writer.state.open_seqs.after(seq, OPEN_FOLLOW_UPS_PAGE))
                found[partition] = page if page.is_last else page._replace(known_to=page.seqs[-1])
        return found

    async def records(self, partition: int, from_seq: int, limit: int) -> list[bytes]:
        """Durable records. Raises LogUnavailable."""
        return await self._log.read(partition, from_seq, limit)

    def end(self, partition: int) -> int:
        """The partition's last durable seq; 0 where it is not on this node."""
        writer = self.writers.get(partition)
        return 0 if writer is None else writer.head.seq

    async def end_now(self, partition: int) -> int | Failed:
        """The partition's last durable seq at a moment after this call began. On a shared log it comes from the
        owner's writer, on this node or another."""
        if not self._log.shared:
            return self.end(partition)
        read = await self.wallet(f"{RESERVED_PARTITION_PREFIX}{partition}")
        return read if isinstance(read, Failed) else read.position.seq

    async def time_us(self, partition: int, seq: int) -> int:
        """The time of this event. Raises LogUnavailable, LogDamaged."""
        known = self._time_us_at.get(partition)
        if known is None or known[0] != seq:
            records = await self._log.read(partition, seq, 1)
            if not records:
                raise LogDamaged(partition, seq, "the record is missing")
            try:
                known = self._time_us_at[partition] = (seq, time_us_of(records[0]))
            except MalformedRecord as error:
                raise LogDamaged(partition, seq, f"the record cannot be read: {error}") from error
        return known[1]

    # --- follow-ups ----------------------------------------------------------------------------------------------

    def _deliver(self, origin: int, seq: int, follow_up: AnyFollowUp, span: Span | None) -> None:
        sender = self.writers.get(origin)
        if sender is None:
            return  # the partition is being lost: its next owner delivers the follow-up
        arrived = partial(sender.state.close_follow_up, seq)
        if not self.receive_local(follow_up, arrived, span):
            if not self._others.may_exist and partition_of(follow_up.user_id, self.partitions) in self.stopped:
                return  # it would wait without end: the next start delivers it
            self._others.deliver(origin, seq, follow_up, arrived, span)

    def _announce(self, announced: Announced, span: Span | None) -> None:
        """Give the outcome of a period to every partition. If it does not arrive, a partition that needs it asks."""
        for partition in range(self.partitions):
            resolution = resolution_of(*announced, partition)
            if not self.receive_local(resolution, _nothing, span) and self._others.may_exist:
                self._others.deliver(*announced.position, resolution, _nothing, span)
