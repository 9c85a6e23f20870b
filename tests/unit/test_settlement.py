"""Settlement: the outcome of a period ends every open bet of it, in every partition, once, whatever happens.

Eight users in four partitions bet on one period of Wingo. The result is 7: ``big`` and ``number:7`` win.
"""

import asyncio
import logging

import pytest

from ledger.core.bet_events import BetCancelled, BetSettled
from ledger.core.games.periods import name_of
from ledger.core.games.rules import BUILT_IN, book_of, read_rules
from ledger.core.items import Bet, OpenBet
from ledger.core.position import partition_of
from ledger.core.record import decode
from ledger.core.settlement import resolution_of
from ledger.errors import LogUnavailable, OutcomeUnknown, RulesMissing
from ledger.memory.log import Failure
from ledger.memory.state_store import MemoryStateStore
from ledger.operations.audit import verify
from ledger.ports import StateStore
from ledger.writer.open_bets import ASK_AFTER_US
from ledger.writer.requests import Accepted, IdReused
from ledger.writer.round import SETTLEMENTS_PER_ROUND
from ledger.writer.writer import Writer
from naive_games import fee_of, paid_legs
from unit.given import ASSETS, NOON, SECOND_US, cancel_period, deposit, open_wallet, place_bet, record_result
from unit.node_in_memory import World
from unit.test_audit import BUILT_IN_TABLES, Lists
from unit.test_writer import append_as_another

PARTITIONS = 4
USERS = [*(f"u{number}" for number in range(7)), "ada"]
PERIOD = name_of(NOON)
NEXT = name_of(NOON + 30 * SECOND_US)
RESULT_AT = NOON + 32 * SECOND_US
STAKE = 1_000
SELECTION = "big+number:7+red"


async def bets_placed(bets: int = 1, store: StateStore | None = None, *, shared: bool = False) -> World:
    """Every user has ``bets`` open bets on PERIOD, and the result may be recorded."""
    world = await World(PARTITIONS, store, shared=shared).start()
    for user_id in USERS:
        await world.given(open_wallet(user_id), deposit(bets * STAKE, user_id=user_id))
        for number in range(bets):
            await world.given(
                place_bet(STAKE, f"b{number}", game="wingo_30s", period=PERIOD, selection=SELECTION, user_id=user_id)
            )
    world.clock.now_us = RESULT_AT
    return world


async def settled(world: World, bets: int = 1) -> None:
    """Wait until nothing is open, and check that every bet was settled once, as the independent calculator says."""
    await everything_is_settled(world)
    legs = paid_legs("wingo", SELECTION, STAKE, "7")
    payout = sum(paid for _, _, paid in legs)
    found = settlements(world)
    assert sorted((user_id, data.bet_id) for user_id, data in found) == sorted(
        (user_id, f"b{number}") for user_id in USERS for number in range(bets)
    )
    for _, data in found:
        assert (data.payout, data.unpaid, list(data.legs or ())) == (payout, None, legs)
    for user_id in USERS:
        assert await world.cash(user_id) == bets * payout
    await world.assert_true_of_the_log()
    assert world.total("house/fees") == len(USERS) * bets * fee_of(STAKE, 3)
    verify(Lists(world.appended.records), tables=BUILT_IN_TABLES)


def settlements(world: World) -> list[tuple[str, BetSettled]]:
    return [(event.user_id, event.data) for event in world.events() if isinstance(event.data, BetSettled)]


async def everything_is_settled(world: World) -> None:
    async with asyncio.timeout(60):
        while open_bets(world):  # noqa: ASYNC110 - a state of all writers
            await asyncio.sleep(0.001)
    await world.quiet()


def open_bets(world: World) -> int:
    return sum(
        len(writer.state.open_bets.of_period((game, period), 1_000))
        for writer in world.node.writers.values()
        for game in ("wingo_30s",)
        for period in (PERIOD, NEXT)
    )


async def test_one_result_settles_the_bets_of_every_partition() -> None:
    world = await bets_placed()
    assert {partition_of(user_id, PARTITIONS) for user_id in USERS} == set(range(PARTITIONS))
    result = await world.accepted(record_result("7", PERIOD))
    await settled(world)
    assert {data.cause for _, data in settlements(world)} == {str(result.position)}
    await world.stop()


@pytest.mark.system
async def test_a_settlement_takes_many_rounds_and_commands_go_on_between_them() -> None:
    bets = 2 * SETTLEMENTS_PER_ROUND
    world = await bets_placed(bets)
    await world.accepted(record_result("7", PERIOD))
    command = await world.post(deposit(1, "between", user_id=USERS[0]))
    assert isinstance(command, Accepted)
    assert open_bets(world) > 0, "the command did not wait for the whole settlement"
    await everything_is_settled(world)
    assert max(world.log.sizes) <= SETTLEMENTS_PER_ROUND + 2
    await world.stop()


async def test_a_cancelled_period_returns_every_stake_with_its_fee() -> None:
    world = await bets_placed()
    await world.accepted(cancel_period(PERIOD))
    await everything_is_settled(world)
    cancelled = [event.data for event in world.events() if isinstance(event.data, BetCancelled)]
    assert len(cancelled) == len(USERS)
    assert {(data.amount, data.asset, data.reason) for data in cancelled} == {(STAKE, "INR", "void")}
    assert [await world.cash(user_id) for user_id in USERS] == [STAKE] * len(USERS)
    assert (world.total("house/fees"), world.total("house/stakes")) == (0, 0)
    verify(Lists(world.appended.records), tables=BUILT_IN_TABLES)
    await world.stop()


async def test_only_the_bets_of_the_period_and_the_game_are_settled() -> None:
    """Public code lacks the period, or the length, in its update, and pays the bets of another one."""
    world = await bets_placed()
    await world.given(deposit(3, "o2"))
    await world.given(place_bet(1, "later", game="wingo_30s", period=NEXT, selection="big"))
    await world.given(place_bet(1, "longer", game="wingo_1m", period=PERIOD, selection="big"))
    await world.given(place_bet(1, "other", game="trx_wix_1m", period=PERIOD, selection="big"))
    await world.accepted(record_result("7", PERIOD))
    await everything_is_settled_but(world, 1)
    assert {data.bet_id for _, data in settlements(world)} == {"b0"}
    await world.stop()


async def everything_is_settled_but(world: World, left: int) -> None:
    async with asyncio.timeout(60):
        while open_bets(world) > left:  # noqa: ASYNC110 - a state of all writers
            await asyncio.sleep(0.001)
    await world.quiet()


# --- crashes -----------------------------------------------------------------------------------------------------


async def crash_at_append(number: int, *, lands: bool) -> bool:
    """Settle a period of many bets; the process dies at the given append after the result was posted. Returns whether
    there was such an append."""
    world = await bets_placed(3, MemoryStateStore())
    if number % 2:
        await world.save()
    died = await world.dies_at(number, _record(world), lands=lands)
    await _record(world)
    await settled(world, 3)
    await world.stop()
    return died


async def _record(world: World) -> None:
    assert isinstance(await world.post(record_result("7", PERIOD, command_id="result")), Accepted)
    await everything_is_settled(world)


@pytest.mark.parametrize("lands", [True, False])
async def test_a_crash_at_every_append_settles_every_bet_once(lands: bool) -> None:
    number = 0
    while await crash_at_append(number, lands=lands):
        number += 1
    assert number >= PARTITIONS, "every partition has at least one append"


@pytest.mark.parametrize("error", [LogUnavailable("full"), OutcomeUnknown("?")])
@pytest.mark.parametrize("lands", [True, False])
async def test_a_failed_append_settles_every_bet_once(error: LogUnavailable | OutcomeUnknown, lands: bool) -> None:
    if isinstance(error, LogUnavailable) and lands:
        pytest.skip("then nothing was written")
    world = await bets_placed()
    world.log.fail_next.extend([None, Failure(error, lands), None, Failure(error, lands)])
    await world.accepted(record_result("7", PERIOD))
    await settled(world)
    await world.stop()


async def test_the_same_outcome_delivered_again_settles_nothing_twice() -> None:
    world = await bets_placed()
    response = await world.accepted(record_result("7", PERIOD))
    event = decode(response.record).event
    for _ in range(3):
        for writer in world.node.writers.values():
            writer.receive(resolution_of(event, response.position, response.head, writer.partition), lambda: None)
    await settled(world)
    await world.stop()


async def test_a_period_has_one_outcome() -> None:
    world = await bets_placed()
    await world.accepted(record_result("7", PERIOD, command_id="r1"))
    assert isinstance(await world.post(record_result("8", PERIOD, command_id="r1")), IdReused)
    assert (await world.refused(record_result("7", PERIOD))).code == "result_already_recorded"
    assert (await world.refused(cancel_period(PERIOD))).code == "result_already_recorded"
    await settled(world)
    await world.stop()


# --- the state of the open bets ------------------------------------------------------------------------------------


async def test_open_bets_are_state_the_log_alone_and_a_checkpoint_give_the_same() -> None:
    world = await bets_placed(2)
    await world.save()
    await world.given(deposit(5, "o9"), place_bet(5, "late", game="wingo_1m", period=PERIOD, selection="odd"))
    world.clock.now_us = RESULT_AT + SECOND_US
    await world.restart()
    for writer in world.node.writers.values():
        replayed = Writer(
            writer.partition,
            world.new_log(),
            MemoryStateStore(),
            world.clock,
            ASSETS,
            deliver=lambda *_: None,
            announce=lambda *_: None,
            halted=lambda *_: None,
        )
        await replayed.recover(save_every=5)
        for period in (("wingo_30s", PERIOD), ("wingo_1m", PERIOD)):
            seqs = writer.state.open_bets.of_period(period, 100)
            assert seqs == replayed.state.open_bets.of_period(period, 100)
            for seq in seqs:
                open_bet = writer.state.open_bet(seq)
                assert isinstance(open_bet, OpenBet)
                assert open_bet == replayed.state.open_bet(seq)
                item = writer.state.item(open_bet.user_id, f"b:{open_bet.bet_id}")
                assert isinstance(item, Bet)
                assert item.of_game is not None
                assert item.of_game.seq == seq
    await world.accepted(record_result("7", PERIOD))
    await settled(world, 2)
    await world.stop()


async def test_a_failed_append_of_a_bet_leaves_no_open_bet() -> None:
    world = await bets_placed()
    before = open_bets(world)
    world.clock.now_us = NOON + 31 * SECOND_US
    await world.given(deposit(5, "o5"))
    world.log.fail_next.append(Failure(LogUnavailable("full"), lands=False))
    await world.failed(place_bet(5, "x", game="wingo_30s", period=NEXT, selection="odd"))
    assert open_bets(world) == before
    await world.stop()


# --- requests for outcomes ------------------------------------------------------------------------------------------


async def test_a_partition_that_missed_the_announcement_asks_60_s_after_the_end() -> None:
    world = await bets_placed()
    for writer in world.node.writers.values():
        writer._announce = lambda *_: None
    await world.accepted(record_result("7", PERIOD))
    await world.node._unsettled.ask_once()
    await world.quiet()
    assert open_bets(world) == len(USERS), "not before 60 s"
    world.clock.now_us = NOON + 30 * SECOND_US + ASK_AFTER_US
    await world.node._unsettled.ask_once()
    await settled(world)
    await world.stop()


async def test_a_period_without_an_outcome_is_asked_for_again_and_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    world = await bets_placed()
    for minute in (1, 2, 3):
        world.clock.now_us = NOON + 30 * SECOND_US + minute * ASK_AFTER_US
        await world.node._unsettled.ask_once()
    assert sum("waits for period" in record.getMessage() for record in caplog.records) >= 3 * PARTITIONS
    await world.accepted(record_result("7", PERIOD))
    await settled(world)
    await world.stop()


async def test_a_clock_that_is_set_back_takes_no_bet_on_a_period_whose_result_is_known() -> None:
    """Also in a partition that had no bet to settle: the outcome's time reaches it all the same."""
    world = await World(PARTITIONS).start()
    for user_id in USERS:
        await world.given(open_wallet(user_id), deposit(5, user_id=user_id))
    world.clock.now_us = RESULT_AT
    await world.accepted(record_result("7", PERIOD))
    await world.quiet()
    world.clock.now_us = NOON + SECOND_US
    for user_id in USERS:
        bet = place_bet(5, game="wingo_30s", period=PERIOD, selection="big", user_id=user_id)
        assert (await world.refused(bet)).code == "period_closed"
    await world.stop()


# --- rules that change ---------------------------------------------------------------------------------------------


async def test_a_bet_is_paid_by_the_table_that_it_was_taken_under_after_the_rules_have_changed() -> None:
    world = await bets_placed()
    old = BUILT_IN.games["wingo_30s"]
    world.appended.tables[old.digest] = old.table  # as a node declares at its start
    games = read_rules('{"games": {"wingo_30s": {"odds": {"big": 100, "number": 100}, "fee_bp": 0}}}', ASSETS).games
    assert games["wingo_30s"].digest != old.digest
    world.options["rules"] = book_of(games)
    await world.restart()
    await world.accepted(record_result("7", PERIOD))
    await settled(world)
    await world.stop()


async def test_a_bet_that_another_writer_took_in_the_meantime_is_paid_by_that_writer_s_table() -> None:
    other = BUILT_IN.games["wingo_30s"]
    rules = book_of(read_rules('{"games": {"wingo_30s": {"fee_bp": 0}}}', ASSETS).games)
    rules.tables.pop(other.digest, None)
    world = await World(1, rules=rules).start()
    await world.given(open_wallet(), deposit(STAKE))
    world.appended.tables[other.digest] = other.table
    bet = place_bet(STAKE, "b0", game="wingo_30s", period=PERIOD, selection=SELECTION)
    await append_as_another(world, bet)
    world.clock.now_us = RESULT_AT
    await world.accepted(record_result("7", PERIOD))
    await everything_is_settled(world)
    assert await world.cash() == sum(paid for _, _, paid in paid_legs("wingo", SELECTION, STAKE, "7"))
    await world.stop()


async def test_open_bets_whose_table_is_lost_stop_the_start_with_the_reason() -> None:
    world = await bets_placed()
    games = read_rules('{"games": {"wingo_30s": {"fee_bp": 0}}}', ASSETS).games
    world.options["rules"] = book_of(games)
    world.options["rules"].tables.pop(BUILT_IN.games["wingo_30s"].digest, None)
    await world.crash()
    with pytest.raises(RulesMissing, match="pay table"):
        await world.start()
