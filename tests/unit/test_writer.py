"""One partition's writer: its responses, when they leave, and what it rolls back when an append fails."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from msgspec.structs import replace

from ledger.core.decide import decide
from ledger.core.events import Event
from ledger.core.follow_up_commands import CountReferral, ReceiveTransfer
from ledger.core.hold_events import HoldExpired
from ledger.core.position import Position
from ledger.core.record import Head
from ledger.core.rejections import Code
from ledger.core.state_values import Value
from ledger.errors import LedgerError, LogDamaged, LogUnavailable, OutcomeUnknown, StaleHead
from ledger.memory.log import Failure
from ledger.memory.state_store import MemoryStateStore
from ledger.ports import StateStore
from ledger.writer import round as round_module
from ledger.writer import state as state_module
from ledger.writer import writer as writer_module
from ledger.writer.repeated import ranges_of
from ledger.writer.requests import (
    Accepted,
    AnyResponse,
    CommandRequest,
    DryRunAccepted,
    Failed,
    IdReused,
    Refused,
    RequestGroup,
    WalletRead,
)
from ledger.writer.writer import Writer
from unit.given import (
    ASSETS,
    NOON,
    SECOND_US,
    cancel_bet,
    deposit,
    grant_bonus,
    hold,
    open_wallet,
    place_bet,
    propose_adjustment,
    release_hold,
    request_withdrawal,
    set_limits,
    settle_bet,
    transfer,
)
from unit.node_in_memory import MS, BrittleStore, World, request_sha256

NOT_WRITTEN = LogUnavailable("the disk is full")
UNKNOWN = OutcomeUnknown("the disk broke")


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = await World().start()
    yield world
    await world.crash()


async def with_cash(world: World, amount: int = 1_000, *users: str) -> World:
    for user_id in users or ("u1",):
        await world.given(open_wallet(user_id), deposit(amount, user_id=user_id))
    return world


def reasons(answers: list[AnyResponse]) -> list[str]:
    return [answer.reason if isinstance(answer, Failed) else type(answer).__name__ for answer in answers]


async def settled() -> None:
    """Let every task run until it waits."""
    for _ in range(20):
        await asyncio.sleep(0)


# --- group commit ------------------------------------------------------------------------------------------------


async def test_commands_that_wait_together_are_one_append(world: World) -> None:
    answers = await world.post_many(*(open_wallet(f"u{number}") for number in range(100)))
    assert all(isinstance(answer, Accepted) for answer in answers)
    assert world.log.sizes == [100]


async def test_while_an_append_is_under_way_the_next_round_gathers(world: World) -> None:
    world.log.gate.clear()
    first = asyncio.create_task(world.post(open_wallet("u0")))
    await settled()
    others = [asyncio.create_task(world.post(open_wallet(f"u{number}"))) for number in range(1, 31)]
    await settled()
    assert not any(task.done() for task in (first, *others))
    world.log.gate.set()
    await asyncio.gather(first, *others)
    assert world.log.sizes == [1, 30]


async def test_a_round_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "ROUND_MAX", 40)
    await world.post_many(*(open_wallet(f"u{number}") for number in range(100)))
    assert world.log.sizes == [40, 40, 20]


async def test_no_response_leaves_before_its_append_has_landed(world: World) -> None:
    world.log.gate.clear()
    posting = asyncio.create_task(world.post(open_wallet()))
    await asyncio.sleep(0.02)
    assert not posting.done()
    world.log.gate.set()
    answer = await posting
    assert isinstance(answer, Accepted)
    head = world.appended.heads[0]
    assert (answer.position, answer.head) == (Position(0, 1), head.sha256)


async def test_commands_of_a_batch_are_decided_and_get_their_responses_in_order(world: World) -> None:
    users = [f"u{number % 7}" for number in range(70)]
    await world.given(*(open_wallet(user_id) for user_id in sorted(set(users))))
    commands = [deposit(number + 1, f"o{number}", user_id=user_id) for number, user_id in enumerate(users)]
    answers = await world.post_many(*commands)
    seqs = []
    for command, answer in zip(commands, answers, strict=True):
        assert isinstance(answer, Accepted)
        assert answer.event.command_id == command.command_id
        seqs.append(answer.position.seq)
    assert seqs == sorted(seqs)


async def test_a_refusal_does_not_stop_the_commands_after_it(world: World) -> None:
    await with_cash(world)
    answers = await world.post_many(place_bet(600, "b1"), place_bet(600, "b2"), place_bet(400, "b3"))
    assert reasons(answers) == ["Accepted", "Refused", "Accepted"]


# --- no response rests on what is not durable------------------------------------------------------------------------


async def test_a_hit_on_a_command_of_the_same_round_waits_for_it(world: World) -> None:
    world.log.gate.clear()
    command = open_wallet()
    both = [asyncio.create_task(world.post(command)) for _ in range(2)]
    await asyncio.sleep(0.02)
    assert not any(task.done() for task in both)
    world.log.gate.set()
    first, second = await asyncio.gather(*both)
    assert isinstance(first, Accepted)
    assert isinstance(second, Accepted)
    assert (first.hit, second.hit) == (False, True)
    assert (first.event, first.position, first.head) == (second.event, second.position, second.head)
    assert len(world.events()) == 1


@pytest.mark.parametrize("error", [NOT_WRITTEN, UNKNOWN])
async def test_a_command_that_did_not_land_gives_no_hit(world: World, error: LedgerError) -> None:
    world.log.fail_next.append(Failure(error, lands=False))
    command = open_wallet()
    answers = list(await asyncio.gather(world.post(command), world.post(command)))
    assert reasons(answers) == ["log_unavailable" if error is NOT_WRITTEN else "outcome_unknown"] * 2
    assert world.events() == []
    await world.accepted(command)


async def test_a_command_that_did_not_land_causes_no_refusal(world: World) -> None:
    await with_cash(world)
    world.log.fail_next.append(Failure(NOT_WRITTEN, lands=False))
    first, second = place_bet(800, "b1"), place_bet(300, "b2")
    answers = list(await asyncio.gather(world.post(first), world.post(second)))
    assert reasons(answers) == ["log_unavailable", "log_unavailable"]
    await world.accepted(second)
    assert (await world.refused(first)).code is Code.INSUFFICIENT_FUNDS


async def test_requests_that_write_nothing_get_a_response_while_the_log_is_unavailable(world: World) -> None:
    await with_cash(world)
    done = place_bet(100, "b1")
    await world.given(done)
    world.log.fail_next.append(Failure(NOT_WRITTEN, lands=False))
    answers = list(
        await asyncio.gather(
            world.post(deposit(5, "o2")), world.post(place_bet(901, "b2")), world.post(done), world.wallet()
        )
    )
    assert isinstance(answers[0], Failed)
    assert isinstance(answers[1], Refused)
    assert isinstance(answers[2], Accepted)
    assert answers[2].hit
    assert await world.cash() == 900


async def test_a_strong_read_sees_only_what_is_durable(world: World) -> None:
    await with_cash(world)
    world.log.gate.clear()
    world.log.fail_next.append(Failure(NOT_WRITTEN, lands=False))
    betting = asyncio.create_task(world.post(place_bet(400)))
    reading = asyncio.create_task(world.cash())
    await asyncio.sleep(0.02)
    assert not reading.done()
    world.log.gate.set()
    assert isinstance(await betting, Failed)
    assert await reading == 1_000


async def test_a_response_without_a_write_needs_the_log_to_confirm_the_head(world: World) -> None:
    await with_cash(world)
    await append_as_another(world, deposit(500, "theirs"))
    assert await world.cash() == 1_500
    await append_as_another(world, place_bet(1_500, "theirs"))
    assert (await world.refused(place_bet(100))).fields["available"] == 0


# --- another process wrote -----------------------------------------------------------------------------------------


async def append_as_another(world: World, *commands: Any) -> None:
    """Append the events that a second, up-to-date writer on the same log makes of the commands."""
    other = World(partitions=len(world.appended.records))
    other.appended, other.clock = world.appended, world.clock
    before = asyncio.all_tasks()
    await other.start()
    await other.given(*commands)
    for task in asyncio.all_tasks() - before:
        task.cancel()


async def test_a_stale_writer_learns_what_others_wrote_and_decides_again(world: World) -> None:
    await with_cash(world)
    await append_as_another(world, place_bet(900, "theirs"))
    assert (await world.refused(place_bet(200, "ours"))).fields["available"] == 100
    await append_as_another(world, deposit(300, "more"))
    answer = await world.accepted(place_bet(400, "ours"))
    assert answer.position.seq == len(world.events()) == 5
    await world.assert_true_of_the_log()


async def test_a_command_that_another_writer_took_is_a_hit(world: World) -> None:
    await with_cash(world)
    command = place_bet(900)
    await append_as_another(world, command)
    answer = await world.post(command)
    assert isinstance(answer, Accepted)
    assert answer.hit
    assert await world.cash() == 100


async def test_a_round_is_given_up_after_many_stale_heads(world: World) -> None:
    for _ in range(8):
        world.log.fail_next.append(Failure(StaleHead("others write"), lands=False))
    assert (await world.failed(open_wallet())).reason == "not_owner"
    await world.accepted(open_wallet())


# --- a failed append has no effect ------------------------------------------------------------------------------


async def prepared(world: World) -> World:
    await with_cash(world, 1_000, "u1", "u2")
    return await world.given(
        grant_bonus(300, "g1", expires_at_us=NOON + 50 * SECOND_US),
        place_bet(50, "old"),
        request_withdrawal(20, "w-old"),
        set_limits(stake_max_per_day=900, withdrawal_max_per_day=500),
    )


def all_kinds() -> list[Any]:
    """Commands that together change every kind of state: ids, timers, day counts, grants, follow-ups."""
    return [
        deposit(10, "o-new", bonus=5),
        place_bet(700, "new", spend="bonus_first"),
        settle_bet(80, "old"),
        cancel_bet("never came"),
        hold(30, "h-new", expires_at_us=NOON + 3 * SECOND_US),
        hold(1, "h-past", expires_at_us=NOON - 1),
        grant_bonus(7, "g-new", expires_at_us=NOON + 2 * SECOND_US),
        request_withdrawal(100, "w-new"),
        propose_adjustment(5, "a-new"),
        transfer(15, "u2", "t-new"),
        open_wallet("u3", "u1"),
    ]


@pytest.mark.parametrize("error", [NOT_WRITTEN, UNKNOWN])
async def test_a_failed_round_changes_nothing(world: World, error: LedgerError) -> None:
    await prepared(world)
    before = {user_id: await world.wallet(user_id) for user_id in ("u1", "u2", "u3")}
    log_before, commands = list(world.events()), all_kinds()
    world.log.fail_next.append(Failure(error, lands=False))
    answers = await asyncio.gather(*(world.post(command) for command in commands))
    assert set(reasons(list(answers))) == {"log_unavailable" if error is NOT_WRITTEN else "outcome_unknown"}
    assert world.events() == log_before
    assert {user_id: await world.wallet(user_id) for user_id in before} == before
    assert world.open_follow_ups() == []
    for command in commands:
        assert await world.node.first_response(command.user_id, command.command_id) is None
    for command in commands:  # every id is free, no limit is used up
        await world.accepted(command)
    await world.quiet()
    await world.assert_true_of_the_log()
    world.clock.now_us += 100 * SECOND_US
    await eventually(lambda: world.types().count("hold_expired") == 2)
    await eventually(lambda: world.types().count("bonus_expired") == 1)


async def test_timers_that_were_due_in_a_failed_round_fire_in_the_next(world: World) -> None:
    await with_cash(world)
    await world.given(hold(100, expires_at_us=NOON + SECOND_US))
    world.log.fail_next.extend([Failure(NOT_WRITTEN, lands=False), Failure(UNKNOWN, lands=False)])
    world.clock.now_us += 2 * SECOND_US
    await eventually(lambda: world.types().count("hold_expired") == 1)
    assert len(world.log.fail_next) == 0
    assert await world.cash() == 1_000


async def test_a_follow_up_of_a_failed_round_is_not_sent(world: World) -> None:
    await with_cash(world, 1_000, "u1", "u2")
    world.log.fail_next.append(Failure(NOT_WRITTEN, lands=False))
    await world.failed(transfer(100))
    await asyncio.sleep(0.02)
    await world.quiet()
    assert (await world.cash("u1"), await world.cash("u2")) == (1_000, 1_000)


async def test_a_follow_up_whose_arrival_failed_arrives_later(world: World) -> None:
    await with_cash(world, 1_000, "u1", "u2")
    sent = transfer(100)
    answer = asyncio.create_task(world.post(sent))
    await world.logged("transfer_sent")
    world.log.fail_next.extend([Failure(NOT_WRITTEN, lands=False), Failure(UNKNOWN, lands=True)])
    await answer
    await eventually(lambda: "transfer_delivered" in world.types())
    await world.quiet()
    assert (await world.cash("u1"), await world.cash("u2")) == (900, 1_100)
    assert world.types().count("transfer_received") == 1
    await eventually(lambda: world.open_follow_ups() == [])


async def test_later_commands_of_a_failed_wallet_fail_and_other_wallets_continue(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await with_cash(world, 1_000, "u1", "u2")
    monkeypatch.setattr(writer_module, "ROUND_MAX", 2)
    world.log.fail_next.append(Failure(NOT_WRITTEN, lands=False))
    answers = await world.post_many(
        place_bet(1, "b1"),
        place_bet(2, "b2"),
        place_bet(3, "b3"),  # of a later round, which could write
        place_bet(1, "c1", user_id="u2"),
        place_bet(4, "b4"),
        place_bet(2, "c2", user_id="u2"),
    )
    assert reasons(answers) == ["log_unavailable"] * 3 + ["Accepted", "log_unavailable", "Accepted"]
    assert world.types("u1") == ["wallet_opened", "deposited"]


# --- an outcome that is unknown ----------------------------------------------------------------------------------


@pytest.mark.parametrize("lands", [True, False])
async def test_after_an_unknown_outcome_the_same_command_gets_the_right_response(world: World, lands: bool) -> None:
    await with_cash(world)
    world.log.fail_next.append(Failure(UNKNOWN, lands=lands))
    command = place_bet(400)
    assert (await world.failed(command)).reason == "outcome_unknown"
    answer = await world.post(command)
    assert isinstance(answer, Accepted)
    assert answer.hit == lands
    assert (answer.position.seq, answer.head) == (3, world.appended.heads[0].sha256)
    assert await world.cash() == 600
    await world.assert_true_of_the_log()


@pytest.mark.parametrize("lands", [True, False])
async def test_commands_that_waited_during_an_unknown_outcome_are_decided_on_the_true_state(
    world: World, lands: bool
) -> None:
    await with_cash(world)
    world.log.gate.clear()
    world.log.fail_next.append(Failure(UNKNOWN, lands=lands))
    first = asyncio.create_task(world.post(place_bet(800, "b1")))
    await settled()
    second = asyncio.create_task(world.post(place_bet(300, "b2")))
    await settled()
    world.log.gate.set()
    assert reasons([await first, await second]) == ["outcome_unknown", "Refused" if lands else "Accepted"]


async def test_the_follow_up_of_a_command_whose_outcome_was_unknown_arrives(world: World) -> None:
    await with_cash(world, 1_000, "u1", "u2")
    world.log.fail_next.append(Failure(UNKNOWN, lands=True))
    await world.failed(transfer(100))
    await eventually(lambda: "transfer_delivered" in world.types())
    assert (await world.cash("u1"), await world.cash("u2")) == (900, 1_100)


# --- the same command again --------------------------------------------------------------------------------------


async def test_a_repeated_command_is_paid_once(world: World) -> None:
    await world.given(open_wallet())
    command = deposit(500)
    answers = await asyncio.gather(*(world.post(command) for _ in range(20)))
    answers += [await world.post(command) for _ in range(3)]
    assert {(answer.position, answer.head) for answer in answers if isinstance(answer, Accepted)} == {
        (Position(0, 2), world.appended.heads[0].sha256)
    }
    assert [answer.hit for answer in answers if isinstance(answer, Accepted)].count(False) == 1
    assert await world.cash() == 500


async def test_the_same_command_with_other_private_texts_is_a_hit_and_the_first_ones_stay(world: World) -> None:
    await with_cash(world)
    await world.given(place_bet(100, "b1", command_id="c", private="Zmlyc3Q="))
    for private in ("c2Vjb25k", None):
        answer = await world.post(place_bet(100, "b1", command_id="c", private=private))
        assert isinstance(answer, Accepted)
        assert answer.hit
        assert b'"private":"Zmlyc3Q="' in answer.record
    assert await world.post(place_bet(101, "b1", command_id="c", private="c2Vjb25k")) == IdReused(("stake",), "0:3")


async def test_no_follow_up_repeats_private_texts(world: World) -> None:
    await with_cash(world)
    await world.given(transfer(100, "u2", private="c2VhbGVk"))
    await world.quiet()
    private = [record for record in world.appended.records[0] if b"private" in record]
    assert len(private) == 1
    assert b'"transfer_sent"' in private[0]


async def test_an_id_with_another_body_names_the_fields_that_differ(world: World) -> None:
    await with_cash(world)
    await world.given(place_bet(100, "b1", command_id="c", metadata={"k": "v"}))
    for other, fields in (
        (place_bet(101, "b1", command_id="c", metadata={"k": "v"}), ("stake",)),
        (place_bet(100, "b2", command_id="c"), ("bet_id", "metadata")),
        (place_bet(100, "b1", command_id="c", metadata={"k": "w"}), ("metadata",)),
        (place_bet(100, "b1", command_id="c", metadata={"k": "v"}, spend="cash_first"), ("spend",)),
    ):
        assert await world.post(other) == IdReused(fields, "0:3")
    answer = await world.post(cancel_bet("b1", command_id="c"))
    assert isinstance(answer, IdReused)
    assert "type" in answer.fields
    assert await world.cash() == 900


async def test_a_limit_set_to_null_is_another_body_than_an_absent_limit(world: World) -> None:
    await world.given(open_wallet(), set_limits(command_id="c", credit_limit=None))
    assert await world.post(set_limits(command_id="c")) == IdReused(("credit_limit",), "0:2")
    again = await world.post(set_limits(command_id="c", credit_limit=None))
    assert isinstance(again, Accepted)
    assert again.hit


async def test_an_id_of_a_refused_command_is_free(world: World) -> None:
    await world.refused(deposit(5, command_id="c"))
    await world.accepted(open_wallet(command_id="c"))


async def test_a_round_of_repeated_commands_reads_the_log_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await with_cash(world)
    commands = [deposit(1, f"r{number}") for number in range(200)]
    first = await asyncio.gather(*(world.post(command) for command in commands))
    reads: list[tuple[int, int]] = []
    read = world.log.read

    async def counting(partition: int, from_seq: int, limit: int) -> list[bytes]:
        reads.append((from_seq, limit))
        return await read(partition, from_seq, limit)

    monkeypatch.setattr(world.log, "read", counting)
    again = await asyncio.gather(*(world.post(command) for command in reversed(commands)))
    assert [answer.position for answer in again if isinstance(answer, Accepted) and answer.hit] == [
        answer.position for answer in reversed(first) if isinstance(answer, Accepted)
    ]
    assert len(again) == len(commands)
    assert reads == [(3, len(commands))]


@pytest.mark.parametrize("error", [LogUnavailable("the disk fails"), LogDamaged(0, 2, "no record")])
async def test_a_repeated_command_whose_record_cannot_be_read_is_of_unknown_outcome_and_is_not_paid_again(
    world: World, monkeypatch: pytest.MonkeyPatch, error: LedgerError
) -> None:
    """``log_unavailable`` would say that nothing was written, and the client would pay again under another id."""
    await with_cash(world)
    bet = place_bet(100, "b1")
    first = await world.accepted(bet)

    async def fails(*_: int) -> list[bytes]:
        raise error

    with monkeypatch.context() as failing:
        failing.setattr(world.log, "read", fails)
        assert (await world.failed(bet)).reason == "outcome_unknown"
        looked_up = await world.node.first_response("u1", bet.command_id)
        assert isinstance(looked_up, Failed)
        assert looked_up.reason == "outcome_unknown"
    again = await world.post(bet)
    assert isinstance(again, Accepted)
    assert (again.hit, again.position) == (True, first.position)
    assert world.types() == ["wallet_opened", "deposited", "bet_placed"]
    assert await world.cash() == 900


def test_seqs_far_from_each_other_are_read_in_ranges_of_their_own() -> None:
    assert ranges_of([]) == []
    assert ranges_of([5, 3, 4, 3]) == [(3, 5)]
    assert ranges_of([1, 65, 130]) == [(1, 65), (130, 130)]
    assert ranges_of(range(1, 2_001)) == [(1, 1_000), (1_001, 2_000)]


async def test_another_actor_that_repeats_the_command_gets_the_first_response(world: World) -> None:
    command = open_wallet()
    first = await world.accepted(command, actor="one")
    again = await world.post(command, "another")
    assert isinstance(again, Accepted)
    assert again.event == first.event
    assert again.event.actor == "one"


@pytest.mark.parametrize("saved", [True, False])
async def test_responses_are_the_same_after_a_crash(world: World, saved: bool) -> None:
    commands = [open_wallet(), deposit(500), place_bet(100)]
    first = [await world.accepted(command) for command in commands]
    if saved:
        await world.save()
    await world.restart()
    again = [await world.post(command) for command in commands]
    assert [
        (answer.event, answer.position, answer.head, answer.hit) for answer in again if isinstance(answer, Accepted)
    ] == [(answer.event, answer.position, answer.head, True) for answer in first]
    for command, answer in zip(commands, first, strict=True):
        found = await world.node.first_response("u1", command.command_id)
        assert isinstance(found, Accepted)
        assert (found.event, found.position, found.head) == (answer.event, answer.position, answer.head)
    assert await world.node.first_response("u1", "never") is None
    await world.assert_true_of_the_log()


async def test_ids_and_wallets_that_left_memory_are_still_known() -> None:
    world = await World(recent_wallets=16).start()
    users = [f"u{number}" for number in range(60)]
    opened = [open_wallet(user_id) for user_id in users]
    paid = [deposit(number + 1, user_id=user_id) for number, user_id in enumerate(users)]
    bets = [place_bet(1, user_id=user_id) for user_id in users]
    for commands in (opened, paid, bets):
        await world.post_many(*commands)
        await world.save()
    assert world.writer.state.changes == 0
    for command in (*opened, *paid, *bets):
        answer = await world.post(command)
        assert isinstance(answer, Accepted)
        assert answer.hit
    for number, user_id in enumerate(users):
        assert await world.cash(user_id) == number
        assert (await world.refused(place_bet(1, user_id=user_id))).code in (
            Code.BET_ID_REUSED,
            Code.INSUFFICIENT_FUNDS,
        )
    await world.assert_true_of_the_log()
    await world.crash()


# --- a mailbox that is full --------------------------------------------------------------------------------------


async def test_a_full_mailbox_refuses_a_command_and_the_later_commands_of_its_wallet() -> None:
    world = await World(mailbox_max=4).start()
    await world.given(open_wallet("u1"), open_wallet("u2"))
    world.log.gate.clear()
    under_way = asyncio.create_task(world.post(deposit(1, "o0")))
    await settled()
    batch = asyncio.create_task(
        world.post_many(*(deposit(1, f"o{number}", user_id=f"u{number % 2 + 1}") for number in range(1, 9)))
    )
    await settled()
    waits = asyncio.create_task(world.post(deposit(1, "late")))
    assert reasons([await waits]) == ["overloaded"]
    world.log.gate.set()
    assert isinstance(await under_way, Accepted)
    answers = await batch
    for user in (0, 1):
        of_user = reasons(answers[user::2])
        assert of_user == sorted(of_user), "after the first overloaded all are"  # "A" sorts before "o"
        assert "overloaded" in of_user
    assert world.types().count("deposited") == 1 + reasons(answers).count("Accepted")
    await world.accepted(deposit(1, "now there is room"))
    await world.crash()


# --- dry runs ----------------------------------------------------------------------------------------------------


async def test_a_dry_run_returns_the_event_and_writes_nothing(world: World) -> None:
    await with_cash(world)
    command = place_bet(400)
    before = list(world.appended.records[0])
    would = await world.post(command, dry_run=True)
    assert isinstance(would, DryRunAccepted)
    assert would.event.balances["INR"].cash == 600
    assert isinstance(await world.post(place_bet(1_001), dry_run=True), Refused)
    assert world.appended.records[0] == before
    assert await world.cash() == 1_000
    accepted = await world.accepted(command)
    assert accepted.event == would.event
    again = await world.post(command, dry_run=True)
    assert isinstance(again, Accepted)
    assert again.hit


async def test_dry_runs_of_one_batch_do_not_see_each_other(world: World) -> None:
    await with_cash(world)
    commands = [(place_bet(800, bet_id), "0" * 64) for bet_id in ("b1", "b2")]
    answers = await world.node.post_many(commands, "local", dry_run=True)
    assert reasons(answers) == ["DryRunAccepted", "DryRunAccepted"]


async def test_a_dry_run_counts_due_expiries_and_writes_no_event(world: World) -> None:
    await with_cash(world)
    await world.given(hold(900, expires_at_us=NOON + SECOND_US))
    world.clock.now_us += 2 * SECOND_US
    would = await world.post(place_bet(1_000), dry_run=True)
    assert isinstance(would, DryRunAccepted)
    await world.quiet()
    assert world.types() == ["wallet_opened", "deposited", "hold_placed", "hold_expired"]


async def test_a_dry_run_fires_due_expiries_on_a_copy(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where more timers are due than a round takes, the wallet of a dry run may still have due ones."""
    await with_cash(world)
    await world.given(hold(900, expires_at_us=NOON + SECOND_US), grant_bonus(50, expires_at_us=NOON + SECOND_US))
    monkeypatch.setattr(world.writer.state, "next_due_us", lambda: None)
    monkeypatch.setattr(world.writer.state, "take_due", lambda _now_us, _limit: [])
    world.clock.now_us += 2 * SECOND_US
    would = await world.post(place_bet(1_000), dry_run=True)
    assert isinstance(would, DryRunAccepted)
    assert would.event.balances["INR"].bonus == 0
    refused = await world.post(place_bet(1_001), dry_run=True)
    assert isinstance(refused, Refused)
    assert world.types() == ["wallet_opened", "deposited", "hold_placed", "bonus_granted"]


# --- time --------------------------------------------------------------------------------------------------------


async def test_time_never_goes_back_whatever_the_clock_does(world: World) -> None:
    await world.given(open_wallet())
    times = []
    for number, step_s in enumerate((5, -3, 0, -100_000, 7, 200_000, -1)):
        world.clock.now_us += step_s * SECOND_US
        times.append((await world.accepted(deposit(1, f"o{number}"))).event.time_us)
    assert times == sorted(times)
    await world.crash()
    world.clock.now_us = NOON - 10**12
    await world.start()
    assert (await world.accepted(deposit(1, "after a start"))).event.time_us == times[-1]
    assert world.node.clock_behind


async def test_a_clock_that_is_set_back_repeats_no_expiry(world: World) -> None:
    await with_cash(world)
    await world.given(hold(100, expires_at_us=NOON + SECOND_US))
    world.clock.now_us += 2 * SECOND_US
    await eventually(lambda: "hold_expired" in world.types())
    world.clock.now_us = NOON
    await world.given(hold(50, "h2", expires_at_us=NOON + SECOND_US))
    await world.quiet()
    assert world.types().count("hold_expired") == 2, "the partition's time is after the expiry: it expires at once"


async def test_a_follow_up_is_dated_after_its_cause_and_due_expiries_come_first(
    world: World,
) -> None:
    await with_cash(world)
    await world.given(
        set_limits(balance_max=1_500),
        grant_bonus(500, expires_at_us=NOON + SECOND_US),
    )
    cause_time_us = NOON + 5 * SECOND_US
    arrived = asyncio.Event()
    world.writer.receive(
        ReceiveTransfer(
            command_id="~x:0",
            user_id="u1",
            cause="1:1",
            cause_time_us=cause_time_us,
            transfer_id="t",
            from_user_id="u9",
            asset="INR",
            amount=500,
        ),
        arrived.set,
    )
    await asyncio.wait_for(arrived.wait(), 5)
    assert world.types("u1")[-2:] == ["bonus_expired", "transfer_received"], (
        "the bonus is over by then: there is room"
    )
    assert [event.time_us for event in world.events("u1")[-2:]] == [cause_time_us] * 2


# --- timers ------------------------------------------------------------------------------------------------------


async def eventually(true: Any, within_s: float = 60.0) -> float:
    """Wait until ``true()``; return how long that took, in seconds."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < within_s, "it did not happen"
        await asyncio.sleep(0.002)
    return time.monotonic() - began


async def test_a_writer_that_is_stopped_delivers_no_follow_ups_any_more() -> None:
    world = await with_cash(await World().start(), 1_000, "u1", "u2")
    await world.given(transfer(15, "u2", "t1"))
    await world.quiet()
    delivered: list[int] = []
    writer = Writer(
        0,
        world.new_log(),
        MemoryStateStore(),
        world.clock,
        ASSETS,
        deliver=lambda _, seq, *__: delivered.append(seq),
        announce=lambda *_: None,
        halted=lambda _, error: pytest.fail(str(error)),
    )
    await writer.recover(save_every=1_000)
    assert await writer.state.open_follow_ups(0, 10)
    writer.start()
    await writer.stop()
    assert delivered == []
    await world.crash()


async def test_a_timer_fires_in_time_without_any_command() -> None:
    world = World()
    real = time.time_ns() // 1_000
    world.clock = lambda: time.time_ns() // 1_000  # type: ignore[assignment]
    await world.start()
    await with_cash(world)
    due = {f"h{number}": real + 100 * MS + number * 40 * MS for number in range(5)}
    await world.given(*(hold(1, hold_id, expires_at_us=due_us) for hold_id, due_us in due.items()))
    late_us: dict[str, int] = {}

    def all_fired() -> bool:
        for event in world.events():
            if isinstance(event.data, HoldExpired):
                late_us.setdefault(event.data.hold_id, time.time_ns() // 1_000 - due[event.data.hold_id])
        return len(late_us) == len(due)

    await eventually(all_fired)
    assert all(0 <= late < 250 * MS for late in late_us.values()), late_us
    await world.crash()


async def test_a_clock_that_is_set_forward_fires_the_due_timers(world: World) -> None:
    await with_cash(world)
    await world.given(hold(100, expires_at_us=NOON + 3_600 * SECOND_US))
    await asyncio.sleep(0.01)
    world.clock.now_us += 3_600 * SECOND_US
    assert await eventually(lambda: "hold_expired" in world.types()) < 0.25


@pytest.mark.parametrize("saved", [True, False])
async def test_a_timer_survives_a_crash(world: World, saved: bool) -> None:
    await with_cash(world)
    await world.given(hold(100, expires_at_us=NOON + SECOND_US), grant_bonus(5, expires_at_us=NOON + SECOND_US))
    if saved:
        await world.save()
    await world.crash()
    world.clock.now_us += 2 * SECOND_US
    await world.start()
    await eventually(lambda: world.types().count("hold_expired") == world.types().count("bonus_expired") == 1)
    await world.restart()
    await asyncio.sleep(0.02)
    assert world.types().count("hold_expired") == 1
    await world.assert_true_of_the_log()


@pytest.mark.parametrize("saved", [True, False])
@pytest.mark.parametrize("restarted", [True, False])
async def test_many_timers_all_fire_and_in_order(
    monkeypatch: pytest.MonkeyPatch, saved: bool, restarted: bool
) -> None:
    monkeypatch.setattr(state_module, "_TIMERS_MAX", 8)
    monkeypatch.setattr(state_module, "_TIMERS_PAGE", 4)
    world = await World().start()
    users = [f"u{number}" for number in range(50)]
    await world.post_many(*(open_wallet(user_id) for user_id in users))
    await world.post_many(*(deposit(10, user_id=user_id) for user_id in users))
    steps = [(number * 29) % 50 for number in range(50)]  # in no order
    due = {user_id: NOON + (1 + step // 8) * SECOND_US for user_id, step in zip(users, steps, strict=True)}
    await world.post_many(*(hold(1, user_id=user_id, expires_at_us=due[user_id]) for user_id in users))
    if saved:
        await world.save()
    if restarted:
        await world.restart()
    for second in range(1, 8):
        world.clock.now_us = NOON + second * SECOND_US
        expected = [user_id for user_id in users if due[user_id] <= world.clock.now_us]
        await eventually(lambda expected=expected: world.types().count("hold_expired") == len(expected))
    fired = [event.user_id for event in world.events() if isinstance(event.data, HoldExpired)]
    assert sorted(fired) == sorted(users)
    assert [due[user_id] for user_id in fired] == sorted(due.values())
    await world.crash()


async def test_far_timers_fire_after_all_nearer_holds_were_released(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(state_module, "_TIMERS_MAX", 8)
    monkeypatch.setattr(state_module, "_TIMERS_PAGE", 4)
    world = await World().start()
    users = [f"u{number:02d}" for number in range(40)]
    await world.post_many(*(open_wallet(user_id) for user_id in users))
    await world.post_many(*(deposit(10, user_id=user_id) for user_id in users))
    await world.post_many(
        *(hold(1, user_id=user_id, expires_at_us=NOON + (5 + n) * SECOND_US) for n, user_id in enumerate(users))
    )
    await world.save()
    await world.restart()
    await world.post_many(*(release_hold(user_id=user_id) for user_id in users[:-3]))
    await world.quiet()
    world.clock.now_us += 100 * SECOND_US
    await eventually(lambda: world.types().count("hold_expired") == 3)
    await world.crash()


async def test_many_timers_due_at_one_time_all_fire(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "_TIMERS_MAX", 4)
    monkeypatch.setattr(state_module, "_TIMERS_PAGE", 2)
    monkeypatch.setattr(round_module, "TIMERS_PER_ROUND", 3)
    world = await World().start()
    users = [f"u{number}" for number in range(30)]
    await world.post_many(*(open_wallet(user_id) for user_id in users))
    await world.post_many(*(deposit(10, user_id=user_id) for user_id in users))
    await world.post_many(*(hold(1, user_id=user_id, expires_at_us=NOON + SECOND_US) for user_id in users))
    await world.save()
    await world.restart()
    world.clock.now_us += SECOND_US
    await eventually(lambda: world.types().count("hold_expired") == 30)
    await world.crash()


async def test_reads_get_a_response_while_timers_are_due_and_the_log_is_unavailable(world: World) -> None:
    first = deposit(100)
    await world.given(open_wallet(), first, open_wallet("u2"), deposit(100, user_id="u2"))
    await world.given(hold(5, user_id="u2", expires_at_us=NOON + SECOND_US))
    world.log.fail_next.extend([Failure(NOT_WRITTEN, lands=False)] * 50)
    world.clock.now_us += 2 * SECOND_US
    hit, read = await asyncio.gather(world.post(first), world.node.wallet("u1"))
    assert isinstance(hit, Accepted)
    assert hit.hit
    assert isinstance(read, WalletRead)
    await world.failed(deposit(1, "o2"))
    world.log.fail_next.clear()


async def test_failed_appends_leave_no_timers_behind(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "_RETRY_S", 0.01)
    await with_cash(world)
    for number in range(20):
        world.log.fail_next.append(Failure(NOT_WRITTEN, lands=False))
        await world.failed(hold(1, f"h{number}", expires_at_us=NOON + 10**12))
    assert world.writer.state.next_due_us() is None
    await world.given(deposit(1, "o2"))
    assert world.writer.state.next_due_us() is None, "the next commit sets no timer of a failed append"


# --- follow-ups --------------------------------------------------------------------------------------------------


async def test_a_follow_up_that_is_delivered_often_takes_effect_once(world: World) -> None:
    await world.given(open_wallet())
    follow_up = CountReferral(command_id="~x:0", user_id="u1", cause="0:1", cause_time_us=NOON, member="m", level=1)
    arrivals = 0

    def arrived() -> None:
        nonlocal arrivals
        arrivals += 1

    for _ in range(5):
        world.writer.receive(follow_up, arrived)
    await eventually(lambda: arrivals == 5)
    await world.restart()
    world.writer.receive(follow_up, arrived)
    await eventually(lambda: arrivals == 6)
    assert world.types() == ["wallet_opened", "referral_counted"]


async def test_a_follow_up_to_a_wallet_that_was_never_opened_leaves_an_event(world: World) -> None:
    await with_cash(world)
    await world.given(transfer(100, "unopened"))
    await eventually(lambda: "transfer_returned" in world.types())
    assert world.types("unopened") == ["transfer_refused"]
    assert await world.cash() == 1_000


async def test_rounds_that_write_nothing_let_other_tasks_run_between_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await with_cash(world)
    monkeypatch.setattr(writer_module, "ROUND_MAX", 2)
    group = RequestGroup(6)
    requests = [CommandRequest(deposit(0, f"o{n}"), request_sha256(deposit(0)), "local", group) for n in range(6)]
    for request in requests:
        world.writer.submit(request)
    closed: set[int] = set()
    while not group.done.done():
        closed.add(sum(request.closed for request in requests))
        await asyncio.sleep(0)
    assert {2, 4} <= closed, "a task that is ready runs after each round"


# --- stopping ----------------------------------------------------------------------------------------------------


async def test_a_broken_invariant_stops_the_partition_and_every_request_gets_a_response(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await with_cash(world)

    def broken(case: Any) -> Any:
        assert case.command.command_id != "evil", "a rule of ours is broken"
        return decide(case)

    monkeypatch.setattr(round_module, "decide", broken)
    world.log.gate.clear()
    before = asyncio.create_task(world.post(place_bet(1, "b0")))
    await settled()
    together = [
        asyncio.create_task(world.post(place_bet(1, bet_id, command_id=command_id)))
        for bet_id, command_id in (("b1", "good"), ("b2", "evil"), ("b3", "good too"))
    ]
    await settled()
    world.log.gate.set()
    answers = [await before, *(await asyncio.gather(*together))]
    assert reasons(answers) == ["Accepted"] + ["outcome_unknown"] * 3
    again = await world.failed(place_bet(1, "b1", command_id="good"))
    assert again.reason == "outcome_unknown", "the stopped writer cannot look whether an earlier attempt was written"
    looked_up = await world.node.first_response("u1", "good")
    assert isinstance(looked_up, Failed)
    assert looked_up.reason == "outcome_unknown"
    read = await world.node.wallet("u1")
    assert isinstance(read, Failed)
    assert read.reason == "log_unavailable"
    assert world.node.halted.done()
    assert not world.node.ready
    assert world.types() == ["wallet_opened", "deposited", "bet_placed"]
    await world.save()  # a checkpoint now must not contain the changes of the broken round
    monkeypatch.undo()
    await world.restart()
    assert await world.cash() == 999
    await world.accepted(place_bet(1, "b1", command_id="good"))
    await world.assert_true_of_the_log()


async def test_an_event_whose_balances_are_not_the_sum_of_its_postings_stops_the_partition_and_is_not_written(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await with_cash(world)

    def generous(case: Any) -> Any:
        event = decide(case)
        assert isinstance(event, Event)
        return replace(event, balances={asset: replace(b, cash=b.cash + 1) for asset, b in event.balances.items()})

    monkeypatch.setattr(round_module, "decide", generous)
    assert (await world.failed(place_bet(1, "b1"))).reason == "outcome_unknown"
    assert world.node.halted.done()
    monkeypatch.undo()
    await world.restart()
    assert world.types() == ["wallet_opened", "deposited"]
    await world.assert_true_of_the_log()


async def test_a_state_that_cannot_be_read_stops_the_partition_and_writes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await with_cash(world)
    await world.save()
    await world.restart()

    def unreadable(_partition: int, _keys: Any) -> Any:
        raise LedgerError("the state cannot be read")

    monkeypatch.setattr(world.store, "get", unreadable)
    unread = await world.failed(deposit(1, "o2"))
    assert unread.reason == "outcome_unknown", "without the state it is unknown whether the command is in the log"
    assert isinstance(await asyncio.wait_for(world.node.halted, 5), LedgerError)
    assert world.types() == ["wallet_opened", "deposited"]


async def test_stopping_decides_the_waiting_requests_and_refuses_new_ones(world: World) -> None:
    await with_cash(world, 1_000, "u1", "u2")
    world.log.gate.clear()
    asked = [asyncio.create_task(world.post(transfer(1, "u2", f"t{number}"))) for number in range(20)]
    await settled()
    stopping = asyncio.create_task(world.stop())
    await settled()
    assert (await world.failed(deposit(1, "late"))).reason == "shutting_down"
    world.log.gate.set()
    await stopping
    assert all(isinstance(answer, Accepted) for answer in await asyncio.gather(*asked))
    assert world.types("u1").count("transfer_delivered") == 20, "follow-ups are waited for"
    assert world.store.checkpoint(0) == world.appended.heads[0]
    await world.start()
    assert (await world.cash("u1"), await world.cash("u2")) == (980, 1_020)


async def test_stopping_ends_while_the_log_is_unavailable(world: World) -> None:
    await with_cash(world, 1_000, "u1", "u2")
    posting = asyncio.create_task(world.post(transfer(100)))
    await world.logged("transfer_sent")
    world.log.fail_next.extend([Failure(NOT_WRITTEN, lands=False)] * 1_000)
    await posting
    async with asyncio.timeout(60):
        await world.node.stop(quiet_within_s=0.3)
    await world.start()
    await eventually(lambda: "transfer_delivered" in world.types())
    assert (await world.cash("u1"), await world.cash("u2")) == (900, 1_100)


# --- checkpoints -------------------------------------------------------------------------------------------------


class SlowStore(MemoryStateStore):
    """A started save waits until ``go`` is set. Two saves at once would be a fault of the caller."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go = threading.Event(), threading.Event()
        self.at_once, self.most_at_once = 0, 0

    def save(self, partition: int, changes: Mapping[str, Value | None], at: Head, place: bytes | None = None) -> None:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.begun.set()
        self.go.wait(60)
        super().save(partition, dict(changes), at, place)
        self.at_once -= 1


async def test_a_checkpoint_is_made_while_commands_continue() -> None:
    store = SlowStore()
    world = await with_cash(await World(store=store).start())
    saving = asyncio.create_task(world.save())
    await asyncio.to_thread(store.begun.wait, 5)
    at = world.appended.heads[0]
    await world.given(place_bet(100, "b1"), hold(50, "h1", expires_at_us=NOON + SECOND_US), open_wallet("u2"))
    assert await world.cash() == 850
    assert (await world.refused(place_bet(1, "b1"))).code is Code.BET_ID_REUSED
    store.go.set()
    await saving
    assert store.checkpoint(0) == at
    assert await world.cash() == 850
    await world.restart()
    assert await world.cash() == 850
    assert (await world.refused(place_bet(1, "b1"))).code is Code.BET_ID_REUSED
    await world.assert_true_of_the_log()
    await world.crash()


async def test_a_checkpoint_that_fails_loses_nothing(world: World) -> None:
    await with_cash(world)
    assert isinstance(world.store, BrittleStore)
    world.store.fails = LedgerError("the disk is full")
    waiting = world.writer.state.changes
    with pytest.raises(LedgerError):
        await world.save()
    assert world.writer.state.changes == waiting
    assert world.store.checkpoint(0) is None
    await world.given(place_bet(100))
    assert await world.cash() == 900
    world.store.fails = None
    await world.save()
    assert world.store.checkpoint(0) == world.appended.heads[0]
    assert world.writer.state.changes == 0
    await world.restart()
    assert await world.cash() == 900
    await world.assert_true_of_the_log()


async def test_stopping_in_mid_checkpoint_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    store = SlowStore()
    world = await with_cash(await World(store=store, changes_per_checkpoint=1).start())
    await asyncio.to_thread(store.begun.wait, 5)  # the node's own checkpoint is under way
    stopping = asyncio.create_task(world.stop())
    await asyncio.sleep(0.05)
    store.go.set()
    await asyncio.wait_for(stopping, 5)
    assert store.most_at_once == 1, "two saves at once would mix in one transaction"
    assert store.checkpoint(0) == world.appended.heads[0]
    await world.start()
    await world.assert_true_of_the_log()
    await world.crash()


async def test_a_log_that_is_shorter_than_the_checkpoint_is_reported(world: World) -> None:
    await with_cash(world)
    await world.save()
    await world.crash()
    kept = world.appended.records[0][:1]
    world.appended.records[0][:] = kept
    world.appended.heads[0] = Head(1, __import__("hashlib").sha256(kept[0]).hexdigest())
    with pytest.raises(LedgerError, match="the log got shorter"):
        await world.start()


def test_the_store_of_these_tests_is_a_state_store() -> None:
    store: StateStore = SlowStore()
    store.close()
