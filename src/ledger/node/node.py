"""Which partitions live in this process: routing of commands and follow-ups, start, checkpoints, stop.

A log for itself: all partitions, from start to stop. A log that is shared: those that ``Owners`` says
(``ledger/node/owned.py``); what is asked of the others goes to ``Remote``.

Truths:
(1) a command reaches the one writer of its user's partition, and a wallet's commands reach it in the order given;
(2) a follow-up leaves only after the event that sends it is durable; it stays open, on disk too, until its arrival
    is durable, and is delivered again at every start, and whenever its partition is gained, while it is open;
(3) ``stop`` answers everything that was accepted, then saves the state, then closes the log.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from ledger.core.commands import AnyFollowUp, Command
from ledger.core.money import Assets
from ledger.core.position import RESERVED_PARTITION_PREFIX, partition_of
from ledger.core.record import Head, MalformedRecord, time_us_of
from ledger.errors import LedgerError, LogDamaged
from ledger.node.asking_owners import asked_of_owners
from ledger.node.checkpoints import CHANGES_PER_CHECKPOINT, CHECKED_AT_START, Checkpoints, check_tail
from ledger.node.no_peers import NOT_OPEN, NoPeers
from ledger.node.owned import OwnedPartitions, Prepare, Takeovers
from ledger.node.ports import Owners, Peers, Remote
from ledger.ports import Clock, EventLog, StateStore
from ledger.writer.requests import (
    Accepted,
    AnyResponse,
    CommandRequest,
    Failed,
    LookupRequest,
    Request,
    RequestGroup,
    WalletRead,
    WalletRequest,
)
from ledger.writer.writer import MAILBOX_MAX, SHUTTING_DOWN, Writer

RECENT_WALLETS: Final = 100_000
"""Wallets kept in memory over all partitions; measured: about 1 kB each."""

FOLLOW_UPS_MAX: Final = 65_536
"""Follow-ups that may wait for one partition; more are offered again later. Whoever delivers from elsewhere does so
again and again while the log is away. Chosen: some 40 MB."""

CLOCK_BEHIND_MAX_US: Final = 1_000_000
CLOCK_OFF_MAX_US: Final = 1_000_000

_log = logging.getLogger(__name__)


class Node:
    """All partitions of a log in this process, or those that ``owners`` gives it."""

    def __init__(
        self,
        log: EventLog,
        store: StateStore,
        clock: Clock,
        assets: Assets,
        *,
        recent_wallets: int = RECENT_WALLETS,
        mailbox_max: int = MAILBOX_MAX,
        changes_per_checkpoint: int = CHANGES_PER_CHECKPOINT,
        checked_at_start: int = CHECKED_AT_START,
        generation: int = 0,
        owners: Owners | None = None,
        remote: Remote | None = None,
        peers: Peers | None = None,
        prepare: Prepare | None = None,
        clock_off_us: Callable[[], int] = lambda: 0,
    ) -> None:
        """``owners``: who else has partitions of this log; None: nobody. ``generation``: with which all are opened
        then, where the log is shared all the same. ``clock_off_us``: how far this clock is from the log's."""
        self._log, self._store, self._clock = log, store, clock
        self._checked_at_start = checked_at_start // log.partitions
        self._save_every = max(changes_per_checkpoint // log.partitions, 1)
        self._generation = generation
        self.partitions = log.partitions
        self.halted: asyncio.Future[LedgerError] = asyncio.get_running_loop().create_future()
        self.clock_off_us = clock_off_us
        self._assets = assets
        self._recent_max = max(recent_wallets // log.partitions, 16)
        self._mailbox_max = mailbox_max
        self._started = False
        self._accepting = True
        # The first event that a read does not know yet is asked for again and again until it is folded.
        self._time_us_at: dict[int, tuple[int, int]] = {}
        self._owners, self._peers = owners, peers
        self._remote: Remote = remote if remote is not None else NoPeers()
        self._remote.begin(self)
        self.writers: dict[int, Writer] = {}
        """Of the partitions that are here."""
        self._checkpoints = Checkpoints(self.writers, changes_per_checkpoint=changes_per_checkpoint, halt=self._halt)
        self._holdings: OwnedPartitions | None = None
        if owners is None:
            self.writers.update((partition, self._new_writer(partition)) for partition in range(log.partitions))
        else:
            self._holdings = OwnedPartitions(
                owners,
                self.writers,
                make=self._new_writer,
                prepare=prepare,
                save_every=self._save_every,
                open_follow_ups=self._open_elsewhere,
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
            self._assets,
            deliver=self._deliver,
            halted=self._on_halt,
            recent_max=self._recent_max,
            mailbox_max=self._mailbox_max,
            store_turn=self._checkpoints.store_turn,
        )

    # --- life ----------------------------------------------------------------------------------------------------

    async def start(self) -> int:
        """Recover every partition, then begin to answer. Answers how many records were replayed. Among other nodes
        there is none before ``join``.

        Raises CheckpointAhead, LogDamaged, LogUnavailable, LedgerError: nothing has been written then.
        """
        replayed = 0
        if self._owners is None:
            replayed = await self._start_all()
        self._checkpoints.start()
        self._started = True
        return replayed

    async def join(self) -> None:
        """Among other nodes: take part. Once this node can be reached, and not before, for the others send it what
        is asked of its partitions. What it gains is recovered and opened by and by; where there are no others
        nothing happens. Raises LogUnavailable, LogMisconfigured."""
        if self._owners is not None and self._holdings is not None:
            await self._owners.join(self._holdings.gain, self._holdings.lose, self._holdings)
            self._owners.failed.add_done_callback(self._on_owners_failed)

    async def _start_all(self) -> int:
        began = time.monotonic()
        replayed = 0
        for writer in self.writers.values():
            await check_tail(self._log, self._store, writer.partition, self._checked_at_start)
            replayed += await writer.recover(save_every=self._save_every)
        for writer in self.writers.values():
            for partition, seq in writer.arrivals.take():
                assert partition < self.partitions, "a cause is an event of this log"
                origin = self.writers[partition]
                origin.state.close_follow_up(seq)
                if origin.state.changes >= self._save_every:
                    await origin.save_or_warn()
        _log.info(
            "recovered %d partitions, %d records replayed, in %.1f s",
            self.partitions,
            replayed,
            time.monotonic() - began,
        )
        for writer in self.writers.values():
            self._checkpoints.learn_keys_of(writer)
            writer.start(self._generation)
        await self._opened()
        return replayed

    async def _opened(self) -> None:
        """Wait until every writer may decide; at once where nobody else can write. Raises Superseded."""
        for writer in self.writers.values():
            if writer.opened.is_set():
                continue
            opening = asyncio.get_running_loop().create_task(writer.opened.wait())
            waited: list[asyncio.Future[Any]] = [opening, self.halted]
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if not opening.done():
                opening.cancel()
                raise self.halted.result()

    @property
    def ready(self) -> bool:
        """Whether commands are taken in every partition that is this node's."""
        if not self._started or not self._accepting or self.halted.done():
            return False
        return self._holdings is None or self._holdings.settled

    @property
    def owned(self) -> int:
        """How many partitions are this node's by agreement."""
        return self.partitions if self._holdings is None else self._holdings.owned

    @property
    def open(self) -> int:
        """In how many of them commands are taken."""
        if self._holdings is not None:
            return self._holdings.open
        return sum(writer.is_open for writer in self.writers.values())

    @property
    def takeovers(self) -> Takeovers:
        """The partitions that were gained since the start."""
        return Takeovers() if self._holdings is None else self._holdings.takeovers

    def stop_accepting(self) -> None:
        """Respond ``shutting_down`` to every new request."""
        self._accepting = False
        for writer in self.writers.values():
            writer.stop_accepting()

    async def leave(self) -> None:
        """Among other nodes: finish what is in flight, and tell them at once, so that they go on. Leaving again is
        harmless; where there are no others nothing happens."""
        if self._owners is None or self._holdings is None:
            return
        self.stop_accepting()
        await self._holdings.lose_all()
        await self._owners.leave()
        await self._holdings.lose_all()  # what was gained meanwhile

    async def stop(self, *, quiet_within_s: float = 5.0) -> None:
        """Answer all that was accepted, let follow-ups arrive (those that don't in time are delivered at the next
        start), save the state, close the log. Raises LedgerError where the state cannot be saved."""
        self.stop_accepting()
        await self.leave()
        await self._checkpoints.stop()
        deadline = time.monotonic() + quiet_within_s
        # Follow-ups wander between writers, so quiet is a state of all of them, which no single event tells.
        while not all(writer.idle for writer in self.writers.values()) and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.002)
        try:
            await self._remote.close()
            for writer in self.writers.values():
                await writer.stop()
            if not self.halted.done():
                await self._checkpoints.save_all()
            if self._holdings is not None:
                await self._holdings.settle()
        finally:
            await self._log.close()
            self._store.close()

    def _on_halt(self, partition: int, error: LedgerError) -> None:
        """A writer has stopped."""
        if self._holdings is None:
            self._halt(partition, error)
        else:
            self._holdings.ended(partition, error)

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
            origin = self.writers.get(partition)
            if origin is not None:
                origin.state.close_follow_up(seq)
        self._checkpoints.learn_keys_of(writer)

    def _on_dropped(self, writer: Writer) -> None:
        """What it has not decided goes to whoever has the partition next. Its own follow-ups do so, too, when it is
        opened there."""
        for follow_up, arrived in writer.left_follow_ups():
            self._remote.deliver(*_origin_of(follow_up), follow_up, arrived)

    @property
    def clock_behind(self) -> bool:
        """Whether this machine's clock is more than a second behind what is written already."""
        return any(writer.behind_us > CLOCK_BEHIND_MAX_US for writer in self.writers.values())

    @property
    def clock_off(self) -> bool:
        """Whether this machine's clock is more than a second away from the log's."""
        return abs(self.clock_off_us()) > CLOCK_OFF_MAX_US

    # --- asking --------------------------------------------------------------------------------------------------

    def _open_writer_of(self, user_id: str) -> Writer | None:
        """The writer that takes what is asked of this user; None where it is not here, or not yet."""
        writer = self.writers.get(partition_of(user_id, self.partitions))
        return writer if writer is not None and writer.opened.is_set() else None

    def _submit_elsewhere(self, requests: Sequence[Request]) -> None:
        if self._accepting:
            self._remote.submit(requests)
            return
        for request in requests:
            request.close(SHUTTING_DOWN)

    def submit_here(self, requests: Sequence[Request]) -> None:
        """For ``Remote``: to the writers here, in this order; ``not_owner`` where there is none that is open."""
        for request in requests:
            writer = self._open_writer_of(request.user_id)
            if writer is None:
                request.close(NOT_OPEN)
            else:
                writer.submit(request)

    def receive_here(self, follow_up: AnyFollowUp, arrived: Callable[[], None]) -> bool:
        """For ``Remote``: whether a writer here has taken the follow-up. ``arrived`` is called once its event is
        durable, and not at all if the partition is lost before."""
        writer = self.writers.get(partition_of(follow_up.user_id, self.partitions))
        if writer is None or writer.follow_ups_waiting >= FOLLOW_UPS_MAX:
            return False
        writer.receive(follow_up, arrived)
        return True

    async def post(self, command: Command, request_sha256: str, actor: str, *, dry_run: bool = False) -> AnyResponse:
        """Decide one command. The answer is final but for ``Failed``."""
        group = RequestGroup(1)
        request = CommandRequest(command, request_sha256, actor, group, dry_run=dry_run)
        self._submit(request)
        await group.done
        return request.response

    async def post_many(
        self, commands: Sequence[tuple[Command, str]], actor: str, *, dry_run: bool = False
    ) -> list[AnyResponse]:
        """Decide many; the answers in the order given. Commands of one wallet are decided in the order given."""
        if not commands:
            return []
        group = RequestGroup(len(commands))
        requests = [
            CommandRequest(command, request_sha256, actor, group, dry_run=dry_run)
            for command, request_sha256 in commands
        ]
        elsewhere: list[Request] = []
        for request in requests:
            writer = self._open_writer_of(request.user_id)
            if writer is None:
                elsewhere.append(request)
            else:
                writer.submit(request)
        if elsewhere:
            self._submit_elsewhere(elsewhere)
        await group.done
        return [request.response for request in requests]

    async def first_answer(self, user_id: str, command_id: str) -> Accepted | Failed | None:
        """The answer that the command got when it was accepted; None if it never was."""
        answer = await self._ask(LookupRequest(user_id, command_id, RequestGroup(1)))
        assert answer is None or isinstance(answer, Accepted | Failed)
        return answer

    async def wallet(self, user_id: str) -> WalletRead | Failed:
        """The wallet as its writer knows it, after everything that was answered before this call."""
        answer = await self._ask(WalletRequest(user_id, RequestGroup(1)))
        assert isinstance(answer, WalletRead | Failed)
        return answer

    async def _ask(self, request: Request) -> AnyResponse:
        self._submit(request)
        await request.group.done
        return request.response

    def _submit(self, request: Request) -> None:
        writer = self._open_writer_of(request.user_id)
        if writer is None:
            self._submit_elsewhere((request,))
        else:
            writer.submit(request)

    async def heads(self) -> list[Head]:
        """Where every partition ends, as the log says. Raises LogUnavailable."""
        return [await self.head(partition) for partition in range(self.partitions)]

    async def head(self, partition: int) -> Head:
        """Where the partition ends, as the log says. Raises LogUnavailable."""
        return await self._log.head(partition)

    def open_follow_ups(self, partitions: Iterable[int]) -> dict[int, tuple[int, list[int]]]:
        """For heirs: of each of these that is open here, its last seq, and the events whose follow-ups are not known
        to have arrived."""
        return {
            partition: (writer.head.seq, [seq for seq, _ in writer.state.open_follow_ups()])
            for partition in partitions
            if (writer := self.writers.get(partition)) is not None and writer.is_open
        }

    async def _open_elsewhere(self, partitions: Iterable[int]) -> Mapping[int, tuple[int, Sequence[int]]]:
        """The same of partitions that other nodes have, as far as those answer."""
        if self._owners is None or self._peers is None:
            return {}
        return await asked_of_owners(self._owners, partitions, self._peers.open_follow_ups)

    async def records(self, partition: int, from_seq: int, limit: int) -> list[bytes]:
        """Durable records. Raises LogUnavailable."""
        return await self._log.read(partition, from_seq, limit)

    def end(self, partition: int) -> int:
        """The partition's last durable seq; 0 where it is not here."""
        writer = self.writers.get(partition)
        return 0 if writer is None else writer.head.seq

    async def end_now(self, partition: int) -> int | Failed:
        """The partition's last durable seq at a moment after this call began. On a log that others may write, its
        owner's writer is asked, wherever that is."""
        if not self._log.shared:
            return self.end(partition)
        read = await self.wallet(f"{RESERVED_PARTITION_PREFIX}{partition}")
        return read if isinstance(read, Failed) else read.position.seq

    async def time_us(self, partition: int, seq: int) -> int:
        """When the event there happened. Raises LogUnavailable, LogDamaged."""
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

    def _deliver(self, origin: int, seq: int, follow_up: AnyFollowUp) -> None:
        sender = self.writers.get(origin)
        if sender is None:
            return  # it is being lost: whoever opens it next sends the follow-up
        state = sender.state

        def arrived() -> None:
            state.close_follow_up(seq)

        if not self.receive_here(follow_up, arrived):
            self._remote.deliver(origin, seq, follow_up, arrived)


def _origin_of(follow_up: AnyFollowUp) -> tuple[int, int]:
    """The partition and seq of the event that sent it."""
    partition, seq = follow_up.cause.split(":")
    return int(partition), int(seq)
