"""Periods of many games at once, at midnight, and of a game that is no longer played."""

import asyncio
from unittest.mock import patch

import pytest

from ledger.core.bet_events import BetSettled
from ledger.core.fields import Proof
from ledger.core.games.periods import name_of
from ledger.core.games.rules import BUILT_IN, RuleBook, book_of, read_rules
from ledger.core.position import partition_of
from ledger.errors import LogUnavailable
from ledger.operations.audit import verify
from ledger.writer.requests import Accepted, Failed
from naive_games import paid_legs
from unit.given import ASSETS, NOON, SECOND_US, cancel_period, deposit, open_wallet, place_bet, record_result
from unit.node_in_memory import World
from unit.test_audit import BUILT_IN_TABLES, Lists
from unit.test_settlement import USERS

PARTITIONS = 4
STAKE = 1_000
RESULTS = {"wingo": "7", "trx_wix": "9", "k3": "135", "5d": "01234"}
BLOCK_HASH = "00000000" + "4f" * 26 + "9abc"
"""A made-up one, of the first block at the period's end: its last decimal digit is the result of TrxWix."""
MIDNIGHT = NOON - NOON % (86_400 * SECOND_US)


def period_that_ends_at(game: str, ends_at_us: int) -> str:
    return name_of(ends_at_us - BUILT_IN.games[game].length_s * SECOND_US)


async def settled_bets(world: World) -> dict[tuple[str, str], int]:
    """(user, bet) → payout of every settlement, once nothing is open."""
    await world.quiet()
    found = [(event.user_id, event.data) for event in world.events() if isinstance(event.data, BetSettled)]
    assert len({(user_id, data.bet_id) for user_id, data in found}) == len(found), "each bet once"
    await world.assert_true_of_the_log()
    return {(user_id, data.bet_id): data.payout for user_id, data in found}


async def test_periods_of_all_games_that_end_in_one_second_are_settled_each_by_its_own_result() -> None:
    ends_at_us = MIDNIGHT + 30 * 60 * SECOND_US
    games = {name: name.rpartition("_")[0] for name in BUILT_IN.games}
    assert set(games.values()) == {*RESULTS}
    world = await World(PARTITIONS).start()
    world.clock.now_us = ends_at_us - 10 * SECOND_US
    for user_id in USERS:
        await world.given(open_wallet(user_id), deposit(len(games) * STAKE, user_id=user_id))
        for game, rules in games.items():
            selection, period = ("A:0" if rules == "5d" else "odd"), period_that_ends_at(game, ends_at_us)
            await world.given(place_bet(STAKE, game, game=game, period=period, selection=selection, user_id=user_id))
    world.clock.now_us = ends_at_us + 2 * SECOND_US
    block = Proof(BLOCK_HASH, 66_000_000, ends_at_us + SECOND_US)
    outcomes = [
        record_result(
            RESULTS[rules],
            period_that_ends_at(game, ends_at_us),
            game=game,
            proof=block if rules == "trx_wix" else None,
        )
        for game, rules in games.items()
    ]
    await world.post_many(*outcomes)
    paid = await settled_bets(world)
    assert paid.keys() == {(user_id, game) for user_id in USERS for game in games}
    for (_, game), payout in paid.items():
        rules = games[game]
        selection = "A:0" if rules == "5d" else "odd"
        assert payout == sum(part for _, _, part in paid_legs(rules, selection, STAKE, RESULTS[rules])), game
    verify(Lists(world.appended.records), tables=BUILT_IN_TABLES)
    await world.stop()


async def test_the_last_period_of_a_day_ends_at_midnight_and_is_settled_on_the_next_day() -> None:
    world = await World(PARTITIONS).start()
    world.clock.now_us = MIDNIGHT - 10 * SECOND_US
    last = period_that_ends_at("wingo_10m", MIDNIGHT)
    assert last.endswith("T235000Z")
    await world.given(open_wallet("u1"), deposit(2 * STAKE))
    await world.given(place_bet(STAKE, "last", game="wingo_10m", period=last, selection="big"))
    first = place_bet(STAKE, "first", game="wingo_10m", period=name_of(MIDNIGHT), selection="big")
    assert (await world.refused(first)).code == "period_closed", "it has not begun"
    world.clock.now_us = MIDNIGHT
    assert (await world.refused(place_bet(1, "x", game="wingo_10m", period=last, selection="big"))).code == (
        "period_closed"
    )
    await world.given(first)
    world.clock.now_us = MIDNIGHT + 2 * SECOND_US
    await world.accepted(record_result("7", last, game="wingo_10m"))
    assert await settled_bets(world) == {("u1", "last"): 1_960}
    await world.stop()


def rules_with(text: str) -> RuleBook:
    return book_of(read_rules(text, ASSETS).games)


async def test_a_game_that_was_taken_out_of_the_rules_takes_no_bet_and_still_gets_its_outcomes() -> None:
    """Otherwise its open bets would stay open, and their stakes would be lost."""
    rules = rules_with('{"games": {"wingo_90s": {"fee_bp": 0}}}')
    world = await World(PARTITIONS, rules=rules).start()
    period = name_of(NOON)
    await world.given(open_wallet("u1"), deposit(2 * STAKE))
    await world.given(place_bet(STAKE, "b", game="wingo_90s", period=period, selection="big"))
    table = rules.games["wingo_90s"]
    world.appended.tables[table.digest] = table.table  # as a node declares at its start
    world.options["rules"] = rules_with("{}")
    await world.restart()
    again = place_bet(STAKE, "c", game="wingo_90s", period=period, selection="big")
    assert (await world.refused(again)).code == "unknown_game"
    early = record_result("7", period, game="wingo_90s")
    assert (await world.refused(early)).code == "period_not_closed"
    world.clock.now_us = NOON + 92 * SECOND_US
    assert (await world.refused(record_result("x", period, game="wingo_90s"))).code == "invalid_result"
    await world.accepted(record_result("7", period, game="wingo_90s"))
    assert await settled_bets(world) == {("u1", "b"): 2 * STAKE}
    await world.stop()


async def test_a_stream_that_names_no_game_gets_no_outcome() -> None:
    world = await World(PARTITIONS).start()
    world.clock.now_us = NOON + 92 * SECOND_US
    for name in ("roulette_30s", "wingo_7s", "wingo"):
        assert (await world.refused(record_result("7", name_of(NOON), game=name))).code == "unknown_game"
    await world.stop()


async def test_only_games_that_some_rules_had_get_outcomes_also_after_a_restart() -> None:
    """A name that is only well-formed was accepted: a typing error of a game server looked like a result."""
    world = await World(PARTITIONS, rules=rules_with('{"games": {"wingo_90s": {}}}')).start()
    world.clock.now_us = NOON + 92 * SECOND_US
    for command in (
        record_result("7", name_of(NOON), game="wingo_45s"),
        cancel_period(name_of(NOON), game="wingo_45s"),
    ):
        assert (await world.refused(command)).code == "unknown_game"
    await world.node.stop()
    world.appended.games |= world.options["rules"].names  # as a node declares at its start
    world.options["rules"] = rules_with("{}")
    await world.start()
    await world.accepted(record_result("7", name_of(NOON), game="wingo_90s"))
    assert (await world.refused(record_result("7", name_of(NOON), game="wingo_45s"))).code == "unknown_game"
    await world.stop()


async def test_a_game_that_another_node_has_begun_to_play_gets_outcomes_here() -> None:
    world = await World(PARTITIONS).start()
    world.clock.now_us = NOON + 92 * SECOND_US
    outcome = record_result("7", name_of(NOON), game="wingo_90s")
    assert (await world.refused(outcome)).code == "unknown_game"
    world.appended.games.add("wingo_90s")
    world.clock.now_us += SECOND_US
    await world.accepted(outcome)
    assert await world.node.kept_games.game("wingo_45s") is None
    await world.stop()


async def test_while_the_log_cannot_be_read_an_outcome_of_an_unknown_game_is_not_refused_for_good() -> None:
    world = await World(PARTITIONS).start()
    world.clock.now_us = NOON + 92 * SECOND_US
    unknown, known = (record_result("7", name_of(NOON), game=game) for game in ("wingo_90s", "wingo_30s"))

    async def games() -> set[str]:
        raise LogUnavailable("gone")

    with patch.object(world.log, "games", games):
        failed, accepted = await world.post_many(unknown, known)
    assert isinstance(failed, Failed)
    assert failed.reason == "log_unavailable"
    assert isinstance(accepted, Accepted)
    world.clock.now_us += SECOND_US
    assert (await world.refused(unknown)).code == "unknown_game"
    await world.stop()


async def test_however_many_ask_for_unknown_games_the_log_is_read_once_a_second_also_while_it_fails() -> None:
    """Players can ask. Each read of a log in Kafka opens a connection of its own."""
    world = await World(PARTITIONS).start()
    game, reads, go_on = world.node.kept_games.game, 0, asyncio.Event()
    fails = False

    async def games() -> set[str]:
        nonlocal reads
        reads += 1
        await go_on.wait()
        if fails:
            raise LogUnavailable("gone")
        return set(world.appended.games)

    with patch.object(world.log, "games", games):
        early = [asyncio.create_task(game(f"wingo_{length}s")) for length in range(90, 110)]
        await asyncio.sleep(0.01)
        assert reads == 1
        world.appended.games.add("wingo_45s")
        world.clock.now_us += SECOND_US
        late = asyncio.create_task(game("wingo_99s"))
        await asyncio.sleep(0.01)
        go_on.set()
        assert await asyncio.gather(*early) == [None] * 20
        assert await late is None
        assert reads == 2, "a caller is answered by a read that began not long before it came"
        fails = True
        world.clock.now_us += SECOND_US
        assert [type(one) for one in await asyncio.gather(*map(game, "abc"), return_exceptions=True)] == [
            LogUnavailable
        ] * 3
        with pytest.raises(LogUnavailable):
            await game("d")
        assert reads == 3
    await world.stop()


async def test_the_games_of_open_bets_are_kept_with_a_log_that_kept_no_names() -> None:
    """A log of an earlier version has pay tables, but no names."""
    rules = rules_with('{"games": {"wingo_90s": {}}}')
    world = await World(PARTITIONS, rules=rules).start()
    await world.given(open_wallet("u1"), deposit(STAKE))
    await world.given(place_bet(STAKE, "b", game="wingo_90s", period=name_of(NOON), selection="big"))
    world.appended.tables |= rules.tables
    world.options["rules"] = rules_with("{}")
    await world.restart()
    assert world.appended.games == {"wingo_90s"}
    await world.stop()


async def test_two_partitions_whose_clocks_differ_take_no_bet_after_the_result() -> None:
    """The writer of the bets is 3 s behind the one of the result: more than the 2 s that a result waits."""
    world = await World(PARTITIONS).start()
    user_id = next(
        name for name in USERS if partition_of(name, PARTITIONS) != partition_of("game:wingo_30s", PARTITIONS)
    )
    await world.given(open_wallet(user_id), deposit(STAKE, user_id=user_id))
    world.clock.now_us = NOON + 32 * SECOND_US
    await world.accepted(record_result("7", name_of(NOON)))
    await world.quiet()
    behind = world.node.writers[partition_of(user_id, PARTITIONS)]
    behind._clock = lambda: NOON + 24 * SECOND_US
    bet = place_bet(1, game="wingo_30s", period=name_of(NOON), selection="big", user_id=user_id)
    assert (await world.refused(bet)).code == "period_closed"
    await world.stop()
