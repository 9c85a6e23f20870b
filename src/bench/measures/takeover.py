"""How long a node without any state needs to take a large partition over from a snapshot, phase by phase.

1. The partition is filled by a real writer, so the topic and the state are what a day of commands leaves.
2. The fresh node has an empty folder, connections of its own, and nothing of the first one's memory.
3. It has taken over once the partition is open and the retry of the partition's very first command has its first
   answer; one that differs ends the measure.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Final

from msgspec import Struct

from bench.figures import BenchError
from ledger.core.commands import Command, Deposit, OpenWallet, PlaceBet, SettleBet, canonical
from ledger.errors import LedgerError
from ledger.kafka.address import KafkaAddress
from ledger.kafka.log import open_log
from ledger.kafka.snapshots import open_snapshots
from ledger.node.node import Node
from ledger.node.owns_all import node_of_whole_log
from ledger.snapshots.snapshots import Snapshots
from ledger.sqlite.state_store import SqliteStateStore
from ledger.writer.requests import Accepted

ASSETS: Final = {"INR": 2}
COMMANDS_A_WALLET: Final = 50
_BATCH: Final = 2_000
_ACTOR: Final = "bench"


class Takeover(Struct, frozen=True):
    """Times in seconds. ``total_s`` is what a client waits: from the fresh node's gain of the partition to the first
    answer. ``snapshot_s`` is at full speed, without the pauses for commands."""

    events: int
    values: int
    snapshot_bytes: int
    filled_s: float
    snapshot_s: float
    loaded_s: float
    opened_s: float
    first_answer_s: float
    total_s: float


def _commands(events: int) -> Iterator[Command]:
    """``events`` commands, each accepted: a wallet is opened, filled, and bets until the next one's turn."""
    made = 0
    for user in range(events):
        user_id = f"player-{user:07d}"
        yield OpenWallet(command_id="open", user_id=user_id)
        yield Deposit(command_id="deposit", user_id=user_id, order_id="order-1", asset="INR", amount=1_000_000)
        for number in range((COMMANDS_A_WALLET - 2) // 2):
            bet_id = f"bet-{user:07d}-{number:04d}"
            yield PlaceBet(
                command_id=f"place-{bet_id}",
                user_id=user_id,
                bet_id=bet_id,
                game="external",
                period="20260101T120000Z",
                selection="red",
                asset="INR",
                stake=100 + number,
            )
            yield SettleBet(command_id=f"settle-{bet_id}", user_id=user_id, bet_id=bet_id, payout=number % 3 * 100)
        made += COMMANDS_A_WALLET
        if made >= events:
            return


def _sha256(command: Command) -> str:
    return sha256(canonical(command)).hexdigest()


def _clock() -> int:
    return time.time_ns() // 1_000


async def take_over(
    address: KafkaAddress,
    folder: Path,
    *,
    topic: str,
    events: int = 1_000_000,
    tell: Callable[[str], None] = lambda _: None,
) -> Takeover:
    """Fill the one partition of a new topic, take a snapshot, take over. ``folder`` is empty. Raises BenchError."""
    try:
        tell(f"filling a partition with {events} events")
        began_s = time.monotonic()
        first = await _fill(address, folder / "first.sqlite3", topic, events)
        filled_s = time.monotonic() - began_s
        tell("taking a snapshot")
        values, snapshot_s = await _take_snapshot(address, folder / "first.sqlite3", topic)
        tell("taking the partition over")
        return await _measured(address, folder / "fresh.sqlite3", topic, first, filled_s, values, snapshot_s)
    except LedgerError as error:
        raise BenchError(f"the takeover cannot be measured: {error}") from error


async def _fill(address: KafkaAddress, state: Path, topic: str, events: int) -> Accepted:
    """Returns the result of the very first command."""
    node = node_of_whole_log(
        await open_log(address, 1, topic=topic), SqliteStateStore(state), _clock, ASSETS, generation=1
    )
    await node.start()
    first: Accepted | None = None
    batch: list[tuple[Command, str]] = []
    try:
        for command in _commands(events):
            batch.append((command, _sha256(command)))
            if len(batch) == _BATCH:
                answer = await _post(node, batch)
                first, batch = first or answer, []
        if batch:
            answer = await _post(node, batch)
            first = first or answer
    finally:
        await node.stop()
    if first is None:
        raise BenchError("no command was accepted")
    return first


async def _post(node: Node, batch: list[tuple[Command, str]]) -> Accepted:
    answers = await node.post_many(batch, _ACTOR)
    wrong = next((answer for answer in answers if not isinstance(answer, Accepted)), None)
    if wrong is not None:
        raise BenchError(f"a command was not accepted: {wrong}")
    first = answers[0]
    assert isinstance(first, Accepted)
    return first


async def _take_snapshot(address: KafkaAddress, state: Path, topic: str) -> tuple[int, float]:
    """Returns the number of its values, and its time in seconds."""
    log = await open_log(address, 1, topic=topic)
    store = SqliteStateStore(state)
    snapshots = Snapshots(log, store, await open_snapshots(address, 1, topic=f"{topic}.snapshots"), duty=1.0)
    began_s = time.monotonic()
    try:
        marker = await snapshots.write(0)
        if marker is None:
            raise BenchError("there is no state to take a snapshot of")
        return marker.values, time.monotonic() - began_s
    finally:
        await snapshots.close()
        await log.close()
        store.close()


async def _measured(
    address: KafkaAddress, state: Path, topic: str, first: Accepted, filled_s: float, values: int, snapshot_s: float
) -> Takeover:
    began_s = time.monotonic()
    log = await open_log(address, 1, topic=topic)
    store = SqliteStateStore(state)
    kept = await open_snapshots(address, 1, topic=f"{topic}.snapshots")
    snapshots = Snapshots(log, store, kept, spool=state.parent)
    await snapshots.prepare(0)
    at = store.checkpoint(0)
    if at is None:
        raise BenchError("no snapshot was loaded")
    loaded_s = time.monotonic()
    node = node_of_whole_log(log, store, _clock, ASSETS, generation=2)
    await node.start()
    opened_s = time.monotonic()
    try:
        command = next(_commands(1))
        answer = await node.post(command, _sha256(command), _ACTOR)
        answered_s = time.monotonic()
        if not isinstance(answer, Accepted) or (answer.position, answer.head, answer.hit) != (
            first.position,
            first.head,
            True,
        ):
            raise BenchError(f"the retry of the first command returned {answer}, the first time {first}")
        sizes = [len(record.value) async for page in kept.read(0, 0) for record in page]
    finally:
        await node.stop()
        await snapshots.close()
    return Takeover(
        events=at.seq,
        values=values,
        snapshot_bytes=sum(sizes),
        filled_s=filled_s,
        snapshot_s=snapshot_s,
        loaded_s=loaded_s - began_s,
        opened_s=opened_s - loaded_s,
        first_answer_s=answered_s - opened_s,
        total_s=answered_s - began_s,
    )


def take_over_once(address: KafkaAddress, folder: Path, *, topic: str, events: int = 1_000_000) -> Takeover:
    """The same, blocking. Raises BenchError."""
    return asyncio.run(take_over(address, folder, topic=topic, events=events))
