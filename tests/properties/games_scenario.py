"""Logs with games for readers: what a real node writes while a dozen wallets bet on periods of five games.

    scenario = await play_games(seed)    # the same seed always makes the same log

Each round is one period of each game: bets on one leg and on several, some cancelled in time, then a result, a
cancelled period, or nothing; some bets are settled before the round ends, and others stay open.
"""

from random import Random
from typing import Any, Final

from ledger.core.commands import Command
from ledger.core.fields import Proof
from ledger.core.games.periods import name_of
from ledger.core.money import AMOUNT_MAX
from ledger.writer.requests import Accepted
from naive_games import RESULTS, legs
from properties.reads_scenario import Scenario
from unit.given import (
    SECOND_US,
    cancel_bet,
    cancel_period,
    deposit,
    freeze_wallet,
    grant_bonus,
    open_wallet,
    place_bet,
    record_result,
    settle_bet,
)
from unit.node_in_memory import World

PLAYERS: Final = ("anna", "Anna", "bob-2", "C:3", "d@x.io", "0")
WHALE: Final = "whale"
GAMES: Final = {"wingo_30s": 30, "trx_wix_1m": 60, "k3_1m": 60, "5d_30s": 30}
"""Name → the length of its periods in seconds."""
SECONDS_OF_A_ROUND: Final = 1_800
"""So that a few rounds are several hours, and two UTC days."""


async def play_games(seed: int, *, rounds: int = 30, partitions: int = 3) -> Scenario:
    chance = Random(seed)
    world = await World(partitions=partitions).start()
    for user_id in (*PLAYERS, WHALE):
        await world.given(open_wallet(user_id), deposit(30_000, user_id=user_id, bonus=chance.choice((None, 700))))
        await world.given(deposit(5_000, "gold", asset="GOLD", user_id=user_id))
    await world.given(deposit(AMOUNT_MAX, "usdt", asset="USDT", user_id=WHALE))
    numbers = iter(range(1, 1_000_000))
    for number in range(rounds):
        start_us = world.clock.now_us = (
            world.clock.now_us // (SECONDS_OF_A_ROUND * SECOND_US) * (SECONDS_OF_A_ROUND * SECOND_US)
        )
        for game in GAMES:
            await _bets_of(chance, world, game, name_of(start_us), numbers)
        world.clock.now_us = start_us + 62 * SECOND_US
        for game in chance.sample(list(GAMES), chance.choice((1, 2, 4, 4))):
            if await _accepted(world, _outcome(chance, game, name_of(start_us), start_us)):
                await world.quiet()
        if number == rounds // 2:
            await world.given(freeze_wallet(user_id=PLAYERS[0]), grant_bonus(50, user_id=PLAYERS[1]))
        world.clock.now_us = start_us + SECONDS_OF_A_ROUND * SECOND_US
    await world.quiet()
    await world.stop()
    return Scenario(world.appended.records)


async def _bets_of(chance: Random, world: World, game: str, period: str, numbers: Any) -> None:
    rules = game.rpartition("_")[0]
    for user_id in chance.sample(PLAYERS, chance.randrange(len(PLAYERS))):
        bet_id = f"b{next(numbers)}"
        selection = "+".join(chance.sample(legs(rules), chance.choice((1, 1, 1, 2, 5))))
        where = {"game": game, "period": period, "selection": selection}
        asset = chance.choice(("INR", "INR", "GOLD"))
        placed = await _accepted(
            world, place_bet(chance.randint(1, 400), bet_id, asset=asset, user_id=user_id, **where)
        )
        if placed and chance.random() < 0.15:
            await _accepted(world, cancel_bet(bet_id, user_id=user_id))
        if chance.random() < 0.2:
            await _external(chance, world, user_id, f"x{bet_id}")
    if chance.random() < 0.3:
        everything = place_bet(
            AMOUNT_MAX,
            f"all{next(numbers)}",
            game=game,
            period=period,
            selection=legs(rules)[0],
            asset="USDT",
            user_id=WHALE,
        )
        await _accepted(world, everything)


async def _external(chance: Random, world: World, user_id: str, bet_id: str) -> None:
    if await _accepted(world, place_bet(chance.randint(1, 50), bet_id, user_id=user_id)) and chance.random() < 0.6:
        await _accepted(world, settle_bet(chance.choice((0, 30)), bet_id, user_id=user_id))


def _outcome(chance: Random, game: str, period: str, start_us: int) -> Command:
    if chance.random() < 0.2:
        return cancel_period(period, game=game)
    rules = game.rpartition("_")[0]
    result = chance.choice(RESULTS[rules])
    proof = None
    if rules == "trx_wix":
        proof = Proof("ab" * 31 + f"{result}f", 66_000_000, start_us + 61 * SECOND_US)
    return record_result(result, period, game=game, proof=proof)


async def _accepted(world: World, command: Command) -> bool:
    """Whether the node accepts the command. Some bets are refused for lack of money, on purpose."""
    return isinstance(await world.post(command), Accepted)
