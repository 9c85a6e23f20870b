"""All partitions of one node: follow-ups between them, crashes at every step, and the order of a batch."""

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Coroutine, Sequence
from typing import Any

import pytest

from ledger.core.bet_events import BetPlaced
from ledger.core.commands import Command
from ledger.core.events import ReferralCounted, TransferReceived
from ledger.core.position import partition_of
from ledger.core.record import Head, sha256_hex
from ledger.core.state_values import Value
from ledger.core.wallet import Wallet
from ledger.errors import CheckpointAhead, LedgerError, LogDamaged, LogUnavailable, OutcomeUnknown
from ledger.memory.log import Failure, MemoryEventLog
from ledger.node import node as node_module
from ledger.ports import NewRecord
from ledger.writer import writer as writer_module
from ledger.writer.requests import Accepted, Failed, Refused
from unit.given import (
    NOON,
    SECOND_US,
    cancel_bet,
    close_wallet,
    deposit,
    grant_bonus,
    hold,
    open_wallet,
    place_bet,
    release_hold,
    request_withdrawal,
    set_limits,
    settle_bet,
    transfer,
)
from unit.node_in_memory import BrittleStore, WatchedLog, World, request_sha256

PARTITIONS = 4


def users_of(partition: int, how_many: int = 1) -> list[str]:
    """Users whose wallets are in this partition."""
    found = (f"u{number}" for number in range(10_000) if partition_of(f"u{number}", PARTITIONS) == partition)
    return [next(found) for _ in range(how_many)]


ALICE, BOB, CAROL = (users_of(partition)[0] for partition in range(3))


async def started() -> World:
    return await World(partitions=PARTITIONS).start()


# --- routing and order -------------------------------------------------------------------------------------------


async def test_every_command_reaches_the_partition_of_its_user() -> None:
    world = await started()
    users = [f"u{number}" for number in range(100)]
    responses = await world.post_many(*(open_wallet(user_id) for user_id in users))
    for user_id, response in zip(users, responses, strict=True):
        assert isinstance(response, Accepted)
        assert response.position.partition == partition_of(user_id, PARTITIONS)
    assert all(
        writer.head == head for writer, head in zip(world.node.writers.values(), world.appended.heads, strict=True)
    )
    assert await world.node.heads() == world.appended.heads
    await world.crash()


async def test_a_batch_keeps_its_order_in_the_responses_and_in_each_wallet() -> None:
    world = await started()
    users = [f"u{number}" for number in range(10)]
    await world.post_many(*(open_wallet(user_id) for user_id in users))
    commands = [deposit(1, f"o{number}", user_id=users[number * 7 % 10]) for number in range(200)]
    responses = await world.post_many(*commands)
    assert [response.event.command_id for response in responses if isinstance(response, Accepted)] == [
        command.command_id for command in commands
    ]
    for user_id in users:
        of_user = [event.command_id for event in world.events(user_id)][1:]
        assert of_user == [command.command_id for command in commands if command.user_id == user_id]
    await world.crash()


async def test_a_failure_in_one_partition_does_not_touch_the_commands_of_others() -> None:
    world = await started()
    world.log.fail_next.append(Failure(LogUnavailable("full"), lands=False))  # the next append, of any partition
    responses = await world.post_many(open_wallet(ALICE), open_wallet(BOB), open_wallet(CAROL))
    assert Counter(type(response) for response in responses) == {Failed: 1, Accepted: 2}
    await world.crash()


async def test_an_empty_batch_has_no_responses() -> None:
    world = await started()
    assert await world.post_many() == []
    await world.crash()


async def test_a_partition_that_stops_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await started()
    await world.given(open_wallet(ALICE), open_wallet(BOB))

    def broken(*_: object) -> None:
        raise AssertionError("a rule of ours is broken")

    monkeypatch.setattr(world.node.writers[partition_of(ALICE, PARTITIONS)]._decider, "_decide_command", broken)
    assert (await world.failed(deposit(1, user_id=ALICE))).reason == "outcome_unknown"
    again = await world.failed(deposit(1, user_id=ALICE))
    assert again.reason == "outcome_unknown", "it may be a retry of a command that is in the log"
    await world.accepted(deposit(1, user_id=BOB))
    assert "partition 0" in str(await asyncio.wait_for(world.node.halted, 5))
    assert not world.node.ready
    await asyncio.wait_for(world.stop(), 5)


# --- follow-ups --------------------------------------------------------------------------------------------------


async def test_a_transfer_arrives_and_transit_sums_to_zero() -> None:
    world = await started()
    await world.given(open_wallet(ALICE), open_wallet(BOB), deposit(1_000, user_id=ALICE))
    for number in range(20):
        await world.given(transfer(number + 1, BOB, f"t{number}", user_id=ALICE))
    await world.given(transfer(50, "never-opened", "t-lost", user_id=ALICE))
    await world.quiet()
    assert (await world.cash(ALICE), await world.cash(BOB)) == (1_000 - 210, 210)
    assert world.total("transit/") == 0
    assert world.open_follow_ups() == []
    assert (await world.wallet(ALICE)).open_items == 0
    await world.assert_true_of_the_log()
    await world.crash()


async def test_two_wallets_that_transfer_to_each_other_at_the_same_time_both_receive() -> None:
    world = await started()
    await world.given(open_wallet(ALICE), open_wallet(BOB), deposit(100, user_id=ALICE), deposit(100, user_id=BOB))
    await world.post_many(
        *(
            transfer(1, receiver, f"t{number}", user_id=sender)
            for number in range(100)
            for sender, receiver in ((ALICE, BOB), (BOB, ALICE))
        )
    )
    await world.quiet()
    assert await world.cash(ALICE) + await world.cash(BOB) == 200
    assert world.total("transit/") == 0
    assert world.types().count("transfer_delivered") == world.types().count("transfer_sent") == 200
    await world.assert_true_of_the_log()
    await world.crash()


async def test_two_hundred_signups_at_once_count_two_hundred() -> None:
    world = await started()
    await world.given(open_wallet("boss"))
    responses = await asyncio.gather(*(world.post(open_wallet(f"m{number}", "boss")) for number in range(200)))
    assert all(isinstance(response, Accepted) for response in responses)
    await world.quiet()
    counted = [event.data for event in world.events("boss") if isinstance(event.data, ReferralCounted)]
    assert sorted(data.member for data in counted) == sorted(f"m{number}" for number in range(200))
    assert {data.level for data in counted} == {1}
    assert world.open_follow_ups() == []
    await world.crash()


async def test_two_users_who_sign_up_under_each_other_at_the_same_time_count_once_each() -> None:
    world = await started()
    await world.post_many(open_wallet(ALICE, BOB), open_wallet(BOB, ALICE))
    await world.quiet()
    for user_id, member in ((ALICE, BOB), (BOB, ALICE)):
        counted = [event.data for event in world.events(user_id) if isinstance(event.data, ReferralCounted)]
        assert [(data.member, data.level) for data in counted] == [(member, 1)]
    assert world.open_follow_ups() == []
    await world.crash()


async def test_a_referral_is_counted_up_to_the_sixth_level() -> None:
    world = await started()
    chain = [f"level-{number}" for number in range(9)]
    for user_id, referrer_id in zip(chain, [None, *chain], strict=False):
        await world.given(open_wallet(user_id, referrer_id))
        await world.quiet()
    counted = {
        event.user_id: event.data.level
        for event in world.events()
        if isinstance(event.data, ReferralCounted) and event.data.member == chain[-1]
    }
    assert counted == {chain[8 - level]: level for level in range(1, 7)}
    await world.crash()


async def test_a_follow_up_is_never_earlier_than_its_cause_although_the_clock_jumps() -> None:
    world = await started()
    await world.given(open_wallet(ALICE), open_wallet(BOB), deposit(100, user_id=ALICE))
    world.clock.now_us += 100 * SECOND_US
    posting = asyncio.create_task(world.accepted(transfer(5, BOB, user_id=ALICE)))
    await world.logged("transfer_sent")
    world.clock.now_us = NOON
    sent = await posting
    await world.quiet()
    received = next(event for event in world.events(BOB) if isinstance(event.data, TransferReceived))
    assert received.time_us >= sent.event.time_us
    await world.crash()


async def test_follow_ups_between_full_mailboxes_still_arrive() -> None:
    world = await World(partitions=PARTITIONS, mailbox_max=2).start()
    await world.given(open_wallet(ALICE), open_wallet(BOB), deposit(100, user_id=ALICE))
    for number in range(5):
        await world.given(transfer(1, BOB, f"t{number}", user_id=ALICE))
    await asyncio.gather(*(world.post(deposit(1, f"o{number}", user_id=BOB)) for number in range(50)))
    await world.quiet()
    assert world.types().count("transfer_delivered") == 5
    await world.crash()


# --- crashes at every step ---------------------------------------------------------------------------------------


class MortalLog(WatchedLog):
    """The process dies at append number ``dies_at``: before the append lands, or right after it."""

    def __init__(self, base: MemoryEventLog, dies_at: int, *, lands: bool) -> None:
        super().__init__(base.partitions, base.appended)
        self.dies_at, self.lands = dies_at, lands
        self.dead = asyncio.Event()

    async def append(self, partition: int, after: Head, records: Sequence[NewRecord]) -> None:
        if self.dead.is_set():
            await asyncio.sleep(3_600)  # the process is dead: this append never happens
        if len(self.sizes) == self.dies_at:
            if self.lands:
                await super().append(partition, after, records)
            self.dead.set()
            await asyncio.sleep(3_600)
        await super().append(partition, after, records)


class MortalWorld(World):
    """Each started process lives for a given number of appends."""

    lives: list[tuple[int, bool]]
    deaths = 0

    @property
    def dead(self) -> bool:
        return isinstance(self.log, MortalLog) and self.log.dead.is_set()

    async def alive_through(self, doing: Coroutine[Any, Any, Any]) -> bool:
        """Whether the process lived until ``doing`` was done; if not, it has been started again."""
        task = asyncio.create_task(doing)
        async with asyncio.timeout(60):
            while not task.done() and not self.dead:  # noqa: ASYNC110 - each step of the loop may be the last
                await asyncio.sleep(0)
        if task.done() and not self.dead:
            assert task.exception() is None, task.exception()
            return True
        task.cancel()
        await asyncio.wait([task])
        self.deaths += 1
        await self.restart()
        return False

    def new_log(self) -> WatchedLog:
        base = super().new_log()
        if not self.lives:
            return base
        dies_at, lands = self.lives.pop(0)
        return MortalLog(base, dies_at, lands=lands)


SCENARIO = (
    open_wallet(ALICE),
    open_wallet(BOB, ALICE),
    open_wallet(CAROL, BOB),
    deposit(1_000, user_id=ALICE),
    transfer(100, BOB, "t1", user_id=ALICE),
    transfer(30, "never-opened", "t2", user_id=ALICE),
    transfer(20, CAROL, "t3", user_id=BOB),
    hold(50, expires_at_us=NOON - 1, user_id=ALICE),
)


@pytest.mark.parametrize("saved_after", [None, 2, 5])
@pytest.mark.parametrize("lands", [True, False])
@pytest.mark.system
async def test_follow_ups_take_effect_once_although_the_process_dies_at_any_append(
    lands: bool, saved_after: int | None
) -> None:
    died = 0
    for dies_at in range(40):
        world = MortalWorld(partitions=PARTITIONS)
        world.lives = [(dies_at, lands)]
        await world.start()
        died += await play(world, saved_after)
        await assert_played(world)
        await world.crash()
    assert died >= 15, "the scenario has more appends than that"


@pytest.mark.system
async def test_follow_ups_take_effect_once_although_the_process_dies_many_times() -> None:
    chance = random.Random(17)
    for _ in range(40):
        world = MortalWorld(partitions=PARTITIONS)
        world.lives = [(chance.randrange(4), chance.random() < 0.5) for _ in range(12)]
        await world.start()
        await play(world, chance.choice([None, 1, 3, 6]))
        await assert_played(world)
        await world.crash()


async def play(world: MortalWorld, saved_after: int | None) -> int:
    """Post each command until it has a response; a dead process is started again. Returns the number of deaths."""
    for number, command in enumerate(SCENARIO):
        while not await world.alive_through(world.post(command)):
            pass
        if number == saved_after:
            await world.alive_through(world.save())
        while not await world.alive_through(world.quiet()):  # each transfer needs the money of the transfer before it
            pass
    return world.deaths


async def assert_played(world: World) -> None:
    """Each command took effect once."""
    commands = Counter((event.user_id, event.command_id) for event in world.events())
    assert max(commands.values()) == 1
    assert Counter(world.types()) == {
        "wallet_opened": 3,
        "referral_counted": 3,
        "deposited": 1,
        "transfer_sent": 3,
        "transfer_received": 2,
        "transfer_refused": 1,
        "transfer_delivered": 2,
        "transfer_returned": 1,
        "hold_placed": 1,
        "hold_expired": 1,
    }
    assert [await world.cash(user_id) for user_id in (ALICE, BOB, CAROL)] == [900, 80, 20]
    assert world.total("transit/") == 0
    assert world.open_follow_ups() == []
    await world.assert_true_of_the_log()


async def test_a_checkpoint_between_sending_and_arrival_keeps_the_follow_up(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await started()
    await world.given(open_wallet(ALICE), open_wallet(BOB), deposit(100, user_id=ALICE))
    receiver = world.node.writers[partition_of(BOB, PARTITIONS)]
    monkeypatch.setattr(receiver, "receive", lambda *_: None)  # the follow-up is lost
    await world.given(transfer(60, BOB, user_id=ALICE))
    await world.save()
    assert len(world.open_follow_ups()) == 1
    sender = partition_of(ALICE, PARTITIONS)
    with monkeypatch.context() as unread:
        for read in ("get", "scan"):
            unread.setattr(world.store, read, lambda *_: pytest.fail("a standby's question reads no state"))
        assert world.node.open_follow_ups({sender: 0})[sender].seqs == [world.appended.heads[sender].seq]
    await world.restart()
    await world.quiet()
    assert (await world.cash(ALICE), await world.cash(BOB)) == (40, 60)
    assert world.open_follow_ups() == []
    await world.crash()


async def test_a_checkpoint_after_the_arrival_does_not_keep_the_follow_up() -> None:
    world = await started()
    await world.given(
        open_wallet(ALICE), open_wallet(BOB), deposit(100, user_id=ALICE), transfer(60, BOB, user_id=ALICE)
    )
    await world.quiet()
    await world.save()
    await world.restart()
    assert world.open_follow_ups() == []
    await world.quiet()
    assert world.types().count("transfer_received") == 1
    await world.crash()


# --- starting ----------------------------------------------------------------------------------------------------


async def test_a_full_replay_and_a_start_from_a_checkpoint_give_the_same_state() -> None:
    world = await started()
    await world.post_many(*(open_wallet(f"u{number}") for number in range(100)))
    await world.post_many(*(deposit(5, user_id=f"u{number}") for number in range(100)))
    await world.save()
    await world.post_many(*(place_bet(2, user_id=f"u{number}") for number in range(100)))
    await world.crash()
    await world.start()
    await world.assert_true_of_the_log()
    await world.crash()
    world.store = BrittleStore()
    world.options = {"changes_per_checkpoint": 50}  # saves during the replay, so that memory stays bounded
    await world.start()
    assert any(world.store.checkpoint(partition) for partition in range(PARTITIONS))
    await world.assert_true_of_the_log()
    await world.crash()


async def test_a_checkpoint_ahead_of_the_log_is_reported_and_nothing_changes() -> None:
    world = await started()
    await world.given(open_wallet(ALICE), deposit(5, user_id=ALICE))
    await world.save()
    await world.crash()
    partition = partition_of(ALICE, PARTITIONS)
    records = world.appended.records[partition]
    checkpoint = world.store.checkpoint(partition)
    del records[1:]
    world.appended.heads[partition] = Head(1, sha256_hex(records[0]))
    with pytest.raises(CheckpointAhead, match=rf"partition {partition} is at seq 2, but the log ends at 1"):
        await world.start()
    assert world.store.checkpoint(partition) == checkpoint


async def test_a_checkpoint_of_another_log_is_reported() -> None:
    world, other = await started(), await started()
    for each, amount in ((world, 5), (other, 6)):
        await each.given(open_wallet(ALICE), deposit(amount, user_id=ALICE))
    await world.save()
    await world.crash()
    await other.crash()
    world.appended = other.appended
    with pytest.raises(CheckpointAhead, match="another log"):
        await world.start()


@pytest.mark.parametrize("saved", [True, False])
@pytest.mark.parametrize("seq", [1, 2, 3])
async def test_a_changed_record_is_reported(saved: bool, seq: int) -> None:
    world = await started()
    await world.given(
        open_wallet(ALICE), deposit(500, user_id=ALICE), place_bet(7, user_id=ALICE), cancel_bet(user_id=ALICE)
    )
    if saved:
        await world.save()
    await world.crash()
    partition = partition_of(ALICE, PARTITIONS)
    records = world.appended.records[partition]
    records[seq - 1] = records[seq - 1].replace(b'"local"', b'"other"')
    with pytest.raises(LogDamaged) as damage:
        await world.start()
    assert damage.value.partition == partition
    assert damage.value.seq == seq + 1, "the next record is the first that does not continue the chain"


async def test_a_stored_event_whose_balances_are_not_the_sum_of_its_postings_is_reported() -> None:
    world = await started()
    await world.given(open_wallet(ALICE), deposit(500, user_id=ALICE))
    await world.crash()
    partition = partition_of(ALICE, PARTITIONS)
    records = world.appended.records[partition]
    damaged = records[1].replace(b'"cash":500', b'"cash":501')
    assert damaged != records[1]
    records[1] = damaged  # the last record: the chain before it is still right
    world.appended.heads[partition] = Head(2, sha256_hex(damaged))
    with pytest.raises(LogDamaged, match="its balances are not") as damage:
        await world.start()
    assert (damage.value.partition, damage.value.seq) == (partition, 2)


async def test_a_start_without_a_state_reopens_no_follow_up_that_has_arrived() -> None:
    world = await started()
    await world.given(open_wallet(ALICE), open_wallet(BOB), deposit(100, user_id=ALICE))
    for number in range(5):
        await world.given(transfer(1, BOB, f"t{number}", user_id=ALICE))
    await world.quiet()
    await world.crash()
    world.store = BrittleStore()
    await world.start()
    assert all(not writer.state.open_seqs for writer in world.node.writers.values())
    await world.crash()


# --- random failures ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
async def test_every_command_takes_effect_once_under_any_failures(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random commands are retried until they are decided. Appends fail, the process dies, states are saved."""
    monkeypatch.setattr(writer_module, "_RETRY_S", 0.005)
    chance = random.Random(seed)
    world = await World(partitions=PARTITIONS, recent_wallets=16).start()
    users = [f"u{number}" for number in range(12)]
    commands: list[Command] = []
    for number, user_id in enumerate(users):
        commands.append(open_wallet(user_id, chance.choice([None, *users[:number]])))
    commands += [deposit(1_000, user_id=user_id) for user_id in users]
    commands += [_some_command(chance, users, number) for number in range(150)]
    responses: dict[str, Accepted | Refused] = {}
    waiting = commands[:]
    for _ in range(500):
        if not waiting:
            break
        now, waiting = waiting[:20], waiting[20:]
        _prepare_trouble(chance, world)
        for command, response in zip(now, await world.post_many(*now), strict=True):
            if isinstance(response, Failed):
                waiting.insert(0, command)
                continue
            assert isinstance(response, Accepted | Refused)
            responses[command.command_id] = response
        world.clock.now_us += chance.choice([0, 1, SECOND_US, -SECOND_US])
        trouble = chance.random()
        if trouble < 0.2:
            await world.save()
        elif trouble < 0.4:
            await world.restart()
    assert not waiting, "some commands never get a response"
    world.log.fail_next.clear()
    await world.restart()
    world.clock.now_us += 1_000 * SECOND_US
    await world.quiet()
    await asyncio.sleep(0.15)  # the last timers
    await world.quiet()

    taken = Counter(event.command_id for event in world.events() if event.actor != "ledger")
    assert taken == {command_id: 1 for command_id, response in responses.items() if isinstance(response, Accepted)}
    assert world.total("transit/") == 0
    assert world.open_follow_ups() == []
    wallets: dict[str, Wallet] = world.replayed()
    for wallet in wallets.values():
        assert all(balance.cash >= 0 and balance.bonus >= 0 for balance in wallet.balances.values())
    await world.assert_true_of_the_log()
    for command in commands:
        response = responses[command.command_id]
        if isinstance(response, Accepted):
            first = await world.node.first_response(command.user_id, command.command_id)
            assert isinstance(first, Accepted)
            assert (first.event, first.position, first.head) == (response.event, response.position, response.head)
    assert sum(isinstance(event.data, BetPlaced) for event in world.events()) > 0
    await world.crash()


def _some_command(chance: random.Random, users: list[str], number: int) -> Command:
    user_id, amount = chance.choice(users), chance.randrange(1, 300)
    some_id = f"{chance.randrange(6)}"
    due_us = chance.choice([None, NOON - 1, NOON + chance.randrange(20) * SECOND_US])
    match chance.randrange(10):
        case 0:
            return deposit(amount, f"o{number}", bonus=chance.choice([None, 5]), user_id=user_id)
        case 1 | 2:
            return place_bet(amount, f"b{some_id}", user_id=user_id)
        case 3:
            return settle_bet(amount, f"b{some_id}", user_id=user_id)
        case 4:
            return cancel_bet(f"b{some_id}", user_id=user_id)
        case 5:
            return hold(amount, f"h{some_id}", expires_at_us=due_us, user_id=user_id)
        case 6:
            return release_hold(f"h{some_id}", user_id=user_id)
        case 7:
            return grant_bonus(amount, f"g{some_id}", expires_at_us=due_us, user_id=user_id)
        case 8:
            receiver = chance.choice(["never-opened", *(other for other in users if other != user_id)])
            return transfer(amount, receiver, f"t{number}", user_id=user_id)
        case _:
            return chance.choice(
                [
                    request_withdrawal(amount, f"w{number}", user_id=user_id),
                    set_limits(balance_max=5_000, user_id=user_id),
                    close_wallet(user_id=user_id),
                ]
            )


def _prepare_trouble(chance: random.Random, world: World) -> None:
    world.log.fail_next.clear()
    for _ in range(chance.randrange(4)):
        error: LedgerError = chance.choice([LogUnavailable("full"), OutcomeUnknown("the disk broke")])
        lands = isinstance(error, OutcomeUnknown) and chance.random() < 0.5
        world.log.fail_next.append(chance.choice([None, Failure(error, lands=lands)]))


async def test_waiting_follow_ups_are_bounded_and_the_others_are_offered_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(node_module, "FOLLOW_UPS_MAX", 2)
    world = World(partitions=1)
    await world.start()
    await world.given(open_wallet("u1"), deposit(100, user_id="u1"), *(open_wallet(f"r{n}") for n in range(6)))
    responses = await world.node.post_many(
        [
            (command, request_sha256(command))
            for command in (transfer(1, f"r{number}", f"t{number}", user_id="u1") for number in range(6))
        ],
        "local",
    )
    assert all(isinstance(response, Accepted) for response in responses)
    async with asyncio.timeout(60):
        while world.open_follow_ups():  # noqa: ASYNC110 - a state that no event announces
            await asyncio.sleep(0.001)
    assert sum(event.data.type == "transfer_received" for event in world.events()) == 6
    await world.crash()


# --- a slow disk ------------------------------------------------------------------------------------------------


class SlowDisk(BrittleStore):
    """While ``slow``, each look-up in a thread waits until ``go`` is set, and one on the event loop is small."""

    def __init__(self) -> None:
        super().__init__()
        self.slow = False
        self.begun, self.go = threading.Event(), threading.Event()

    def get(self, partition: int, keys: Sequence[str]) -> dict[str, Value]:
        assert len(keys) <= 4 or not self.slow, "a long look-up stops all partitions"
        return super().get(partition, keys)

    def get_in_thread(self, partition: int, keys: Sequence[str]) -> dict[str, Value]:
        if self.slow:
            self.begun.set()
            assert self.go.wait(60)
        return super().get(partition, keys)


async def test_cold_wallets_of_one_partition_stop_no_other_partition() -> None:
    store = SlowDisk()
    world = await World(PARTITIONS, store).start()
    cold, other = users_of(0, 20), users_of(1)[0]
    await world.post_many(*(open_wallet(user_id) for user_id in (*cold, other)))
    await world.post_many(*(deposit(5, "d", user_id=user_id) for user_id in (*cold, other)))
    await world.stop()
    await world.start()  # the state is saved, and nothing of it is in memory
    store.slow = True
    again = [deposit(5, "d2", user_id=user_id) for user_id in cold]
    waiting = asyncio.create_task(world.post_many(*again))
    await asyncio.to_thread(store.begun.wait, 60)
    await world.accepted(deposit(7, user_id=other))
    assert not waiting.done()
    store.go.set()
    assert all(isinstance(answer, Accepted) for answer in await waiting)
    assert [await world.cash(user_id) for user_id in cold] == [10] * 20, "the balances on the disk were known"
    await world.assert_true_of_the_log()
    await world.stop()


async def test_wallets_with_due_timers_are_read_while_other_partitions_decide() -> None:
    store = SlowDisk()
    world = await World(PARTITIONS, store).start()
    cold, other = users_of(0, 20), users_of(1)[0]
    await world.post_many(*(open_wallet(user_id) for user_id in (*cold, other)))
    await world.post_many(*(deposit(5, "d", user_id=user_id) for user_id in cold))
    soon_us = world.clock.now_us + 1_000_000
    await world.post_many(*(hold(5, "h", expires_at_us=soon_us, user_id=user_id) for user_id in cold))
    await world.stop()
    await world.start()
    store.slow = True
    world.clock.now_us = soon_us
    await asyncio.to_thread(store.begun.wait, 60)
    await world.accepted(deposit(7, user_id=other))
    assert "hold_expired" not in world.types()
    world.clock.now_us = soon_us - 1  # the clock steps back: the timers are not forgotten
    store.go.set()
    await world.logged("hold_expired")
    await world.quiet()
    assert world.types().count("hold_expired") == len(cold)
    await world.stop()


async def test_a_start_reads_the_disk_in_threads() -> None:
    store = SlowDisk()
    world = await World(PARTITIONS, store).start()
    senders, receiver = users_of(0, 20), users_of(1)[0]
    await world.post_many(*(open_wallet(user_id) for user_id in (*senders, receiver)))
    await world.post_many(*(deposit(5, "d", user_id=user_id) for user_id in senders))
    with pytest.MonkeyPatch.context() as losing:
        losing.setattr(world.node.writers[1], "receive", lambda *_: None)
        await world.post_many(*(transfer(2, receiver, "t", user_id=user_id) for user_id in senders))
    await world.save()
    await world.post_many(*(deposit(1, "d2", user_id=user_id) for user_id in senders))
    await world.crash()
    store.slow = True
    store.go.set()
    await world.start()  # replays the second deposits, and delivers the open follow-ups
    await world.quiet()
    assert await world.cash(receiver) == 40
    assert [await world.cash(user_id) for user_id in senders] == [4] * 20
    await world.stop()
