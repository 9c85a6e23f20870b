"""Which partitions live in this process: routing of commands and follow-ups, start, checkpoints, stop.

Truths:
(1) a command reaches the one writer of its user's partition, and a wallet's commands reach it in the order given;
(2) a follow-up leaves only after the event that sends it is durable; it stays open, on disk too, until its arrival
    is durable, and is delivered again at every start while it is open;
(3) ``stop`` answers everything that was accepted, then saves the state, then closes the log.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from typing import Any, Final

from ledger.commands import AnyFollowUp, Command
from ledger.money import Assets
from ledger.partitioning import partition_of
from ledger.ports import Clock, EventLog, LedgerError, LogDamaged, StateStore
from ledger.record import EMPTY_SHA256, Head, MalformedRecord, decode, sha256_hex, time_us_of
from ledger.tickets import (
    Accepted,
    Answer,
    CommandTicket,
    Failed,
    LookupTicket,
    Parcel,
    Ticket,
    WalletRead,
    WalletTicket,
)
from ledger.writer import MAILBOX_MAX, Writer

CHANGES_PER_CHECKPOINT: Final = 150_000
"""Values that wait before all partitions are saved. Chosen: some 60 MB of memory and 2 s of replay after a crash."""

CHECKPOINT_S: Final = 15.0
"""… or after so long, so that a crash on a quiet day costs no replay."""

RECENT_WALLETS: Final = 100_000
"""Wallets kept in memory over all partitions; measured: about 1 kB each."""

CHECKED_AT_START: Final = 100_000
"""Records before the checkpoints whose chain a start checks, so that fresh damage is found before it is built on."""

_LOOK_AGAIN_S: Final = 0.25

_UNSAVED_MAX: Final = 20
"""How many checkpoints may be missed before the process stops rather than let memory grow; chosen: some 1.2 GB."""

CLOCK_BEHIND_MAX_US: Final = 1_000_000

_log = logging.getLogger(__name__)


class Node:
    """All partitions of a log, in this process."""

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
    ) -> None:
        self._log, self._store, self._clock = log, store, clock
        self._changes_per_checkpoint = changes_per_checkpoint
        self._checked_at_start = checked_at_start
        self._generation = generation
        self.partitions = log.partitions
        self.halted: asyncio.Future[LedgerError] = asyncio.get_running_loop().create_future()
        self.ready = False
        self._stores: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._checkpoint_at_s = time.monotonic()
        self._pause_s = 0.0
        # The first event that a read does not know yet is asked for again and again until it is folded.
        self._time_us_at: dict[int, tuple[int, int]] = {}
        self.writers = [
            Writer(
                partition,
                log,
                store,
                clock,
                assets,
                deliver=self._deliver,
                halted=self._on_halt,
                recent_max=max(recent_wallets // log.partitions, 16),
                mailbox_max=mailbox_max,
            )
            for partition in range(log.partitions)
        ]

    # --- life ----------------------------------------------------------------------------------------------------

    async def start(self) -> int:
        """Recover every partition, then begin to answer. Answers how many records were replayed.

        Raises CheckpointAhead, LogDamaged, LogUnavailable, LedgerError: nothing has been written then.
        """
        began = time.monotonic()
        replayed = 0
        save_every = max(self._changes_per_checkpoint // self.partitions, 1)
        for writer in self.writers:
            await self._check_tail(writer.partition)
            replayed += await writer.recover(save_every=save_every)
        for writer in self.writers:
            for partition, seq in writer.take_arrivals():
                assert partition < self.partitions, "a cause is an event of this log"
                origin = self.writers[partition]
                origin.state.close_follow_up(seq)
                if origin.state.changes >= save_every:
                    origin.save_now()
        _log.info(
            "recovered %d partitions, %d records replayed, in %.1f s",
            self.partitions,
            replayed,
            time.monotonic() - began,
        )
        for writer in self.writers:
            writer.start(self._generation)
        await self._opened()
        self._stores = asyncio.get_running_loop().create_task(self._look_after_stores(), name="stores")
        self.ready = True
        return replayed

    async def _opened(self) -> None:
        """Wait until every writer may decide; at once where nobody else can write. Raises Superseded."""
        for writer in self.writers:
            if writer.opened.is_set():
                continue
            opening = asyncio.get_running_loop().create_task(writer.opened.wait())
            waited: list[asyncio.Future[Any]] = [opening, self.halted]
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if not opening.done():
                opening.cancel()
                raise self.halted.result()

    async def _check_tail(self, partition: int) -> None:
        """Check the chain of the partition's last records up to its checkpoint; the rest is checked in the replay."""
        checkpoint = self._store.checkpoint(partition)
        end = await self._log.head(partition)
        if checkpoint is None or checkpoint.seq > end.seq:
            return
        seq = max(checkpoint.seq - self._checked_at_start // self.partitions, 0)
        prev: str | None = EMPTY_SHA256 if seq == 0 else None
        while seq < checkpoint.seq:
            records = await self._log.read(partition, seq + 1, min(2_000, checkpoint.seq - seq))
            if not records:
                raise LogDamaged(partition, seq + 1, "the record is missing")
            for record in records:
                seq += 1
                try:
                    place, stated_prev, _ = decode(record)
                except MalformedRecord as error:
                    raise LogDamaged(partition, seq, str(error)) from error
                if place != (partition, seq) or (prev is not None and stated_prev != prev):
                    raise LogDamaged(partition, seq, "the record does not continue the chain")
                prev = sha256_hex(record)

    def stop_accepting(self) -> None:
        """Answer every new ticket ``shutting_down``."""
        self.ready = False
        for writer in self.writers:
            writer.stop_accepting()

    async def stop(self, *, quiet_within_s: float = 5.0) -> None:
        """Answer all that was accepted, let follow-ups arrive (those that don't in time are delivered at the next
        start), save the state, close the log. Raises LedgerError where the state cannot be saved."""
        self.stop_accepting()
        self._stopping.set()
        if self._stores is not None:
            await self._stores  # never cancelled: its thread would go on saving beside the last checkpoint
        deadline = time.monotonic() + quiet_within_s
        # Follow-ups wander between writers, so quiet is a state of all of them, which no single event tells.
        while not all(writer.idle for writer in self.writers) and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.002)
        try:
            for writer in self.writers:
                await writer.stop()
            if not self.halted.done():
                for writer in self.writers:
                    await writer.save()
        finally:
            await self._log.close()
            self._store.close()

    def _on_halt(self, partition: int, error: LedgerError) -> None:
        _log.error("partition %d has stopped: %s", partition, error)
        self.ready = False
        if not self.halted.done():
            self.halted.set_result(error)

    @property
    def clock_behind(self) -> bool:
        """Whether this machine's clock is more than a second behind what is written already."""
        return any(writer.behind_us > CLOCK_BEHIND_MAX_US for writer in self.writers)

    # --- asking --------------------------------------------------------------------------------------------------

    def writer_of(self, user_id: str) -> Writer:
        return self.writers[partition_of(user_id, self.partitions)]

    async def post(self, command: Command, request_sha256: str, actor: str, *, dry_run: bool = False) -> Answer:
        """Decide one command. The answer is final but for ``Failed``."""
        parcel = Parcel(1)
        ticket = CommandTicket(command, request_sha256, actor, parcel, dry_run=dry_run)
        self.writer_of(command.user_id).submit(ticket)
        await parcel.done
        return ticket.answer

    async def post_many(
        self, commands: Sequence[tuple[Command, str]], actor: str, *, dry_run: bool = False
    ) -> list[Answer]:
        """Decide many; the answers in the order given. Commands of one wallet are decided in the order given."""
        if not commands:
            return []
        parcel = Parcel(len(commands))
        tickets = [
            CommandTicket(command, request_sha256, actor, parcel, dry_run=dry_run)
            for command, request_sha256 in commands
        ]
        writers, partitions = self.writers, self.partitions
        for ticket in tickets:
            writers[partition_of(ticket.user_id, partitions)].submit(ticket)
        await parcel.done
        return [ticket.answer for ticket in tickets]

    async def first_answer(self, user_id: str, command_id: str) -> Accepted | Failed | None:
        """The answer that the command got when it was accepted; None if it never was."""
        answer = await self._ask(LookupTicket(user_id, command_id, Parcel(1)))
        assert answer is None or isinstance(answer, Accepted | Failed)
        return answer

    async def wallet(self, user_id: str) -> WalletRead | Failed:
        """The wallet as its writer knows it, after everything that was answered before this call."""
        answer = await self._ask(WalletTicket(user_id, Parcel(1)))
        assert isinstance(answer, WalletRead | Failed)
        return answer

    async def _ask(self, ticket: Ticket) -> Answer:
        self.writer_of(ticket.user_id).submit(ticket)
        await ticket.parcel.done
        return ticket.answer

    async def heads(self) -> list[Head]:
        """Where every partition ends, as its log says. Raises LogUnavailable."""
        return [await self._log.head(partition) for partition in range(self.partitions)]

    async def records(self, partition: int, from_seq: int, limit: int) -> list[bytes]:
        """Durable records. Raises LogUnavailable."""
        return await self._log.read(partition, from_seq, limit)

    def end(self, partition: int) -> int:
        """The partition's last durable seq."""
        return self.writers[partition].head.seq

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

    # --- follow-ups and checkpoints --------------------------------------------------------------------------------

    def _deliver(self, origin: int, seq: int, follow_up: AnyFollowUp) -> None:
        state = self.writers[origin].state
        self.writer_of(follow_up.user_id).receive(follow_up, lambda: state.close_follow_up(seq))

    async def _look_after_stores(self) -> None:
        """Learn which keys the stores hold, then make checkpoints; one thing at a time, until ``stop``."""
        try:
            await self._learn_keys()
            while not self._stopping.is_set():
                await self._checkpoint_if_due()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_AGAIN_S):
                        await self._stopping.wait()
        except Exception as error:  # noqa: BLE001 - without checkpoints memory grows: to stop is better, and heard
            _log.exception("checkpoints have ended")
            self._on_halt(-1, LedgerError(f"checkpoints have ended: {error!r}; the log has everything, start again"))

    async def _learn_keys(self) -> None:
        try:
            for writer in self.writers:
                after: str | None = ""
                while after is not None and not self._stopping.is_set():
                    after = await asyncio.to_thread(writer.state.learn_keys, after)
                    await self._checkpoint_if_due()
        except LedgerError as error:
            _log.warning("the state store's keys cannot be read, each new id is looked up on disk: %s", error)

    async def _checkpoint_if_due(self) -> None:
        changes = sum(writer.state.changes for writer in self.writers)
        elapsed_s = time.monotonic() - self._checkpoint_at_s
        if changes == 0 or elapsed_s < self._pause_s:
            return
        if changes < self._changes_per_checkpoint and elapsed_s < CHECKPOINT_S:
            return
        self._pause_s = 0.0
        for writer in self.writers:
            try:
                await writer.save()
            except LedgerError as error:
                # The log is what counts: without a checkpoint the next start only takes longer. Not at once again:
                # a disk that is full stays full for a while.
                _log.warning("no checkpoint of partition %d: %s", writer.partition, error)
                self._pause_s = CHECKPOINT_S
                if changes > _UNSAVED_MAX * self._changes_per_checkpoint:
                    why = f"the state cannot be saved, and {changes} changes wait in memory: {error}"
                    self._on_halt(writer.partition, LedgerError(f"{why}. The log has everything; start again"))
                break
        self._checkpoint_at_s = time.monotonic()
