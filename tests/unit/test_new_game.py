"""A new game is one pure module, one line and one test. The example is taken from ``CONTRIBUTING.md``, and played."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest

from api.cli.forms_of_rules import forms_of_tables
from ledger.core.bet_events import BetSettled
from ledger.core.games import catalog, payout
from ledger.core.games.periods import name_of
from ledger.core.games.rules import RuleBook, book_of, built_in_games, game_no_longer_played
from ledger.operations.audit import verify
from pages import blocks
from schemas.generate.game_pages import game_pages
from unit.api_in_memory import InMemoryApi
from unit.given import NOON, SECOND_US, deposit, open_wallet, place_bet, record_result
from unit.node_in_memory import World
from unit.test_audit import Lists

MODULE, TEST = (
    next(block.text for block in blocks("CONTRIBUTING.md") if sign in block.text)
    for sign in ('"""Coin: heads or tails."""', 'KINDS["coin"]')
)
GAME: Final = "coin_30s"
STAKE: Final = 1_000
PAYOUT: Final = (STAKE - 20) * 195 // 100


def module_of(name: str, text: str) -> ModuleType:
    made = ModuleType(name)
    exec(compile(text, name, "exec"), made.__dict__)  # noqa: S102 - a block of our own page
    return made


def forget() -> None:
    """Clear what ``payout`` keeps of the rules."""
    for kept in vars(payout).values():
        if hasattr(kept, "cache_clear"):
            kept.cache_clear()


@pytest.fixture
def coin(monkeypatch: pytest.MonkeyPatch) -> Iterator[RuleBook]:
    """The rules of a process whose catalog has the coin."""
    name = "ledger.core.games.coin"
    module = module_of(name, MODULE)
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(catalog.KINDS, "coin", module.KIND)  # the one line
    yield book_of(built_in_games())
    forget()
    game_no_longer_played.cache_clear()


def test_its_number_is_no_other_games(coin: RuleBook) -> None:
    numbers = [kind.number for kind in catalog.KINDS.values()]
    assert len(set(numbers)) == len(numbers)
    assert GAME in coin.games


def test_the_test_of_the_example_passes_and_can_fail(coin: RuleBook, monkeypatch: pytest.MonkeyPatch) -> None:
    tests = [test for name, test in vars(module_of("coin_test", TEST)).items() if name.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        test()
    wrong = module_of("coin", MODULE.replace("== result", "!= result")).KIND
    monkeypatch.setitem(catalog.KINDS, "coin", wrong)
    forget()
    with pytest.raises(AssertionError):
        tests[0]()


async def test_a_bet_is_taken_settled_read_and_audited(coin: RuleBook, tmp_path: Path) -> None:
    world = await World(4, rules=coin).start()
    async with InMemoryApi(tmp_path, started=world) as api:
        await world.given(open_wallet(), deposit(2 * STAKE))
        for bet_id, leg in (("right", "heads"), ("wrong", "tails")):
            bet = place_bet(STAKE, bet_id, game=GAME, period=name_of(NOON), selection=leg)
            await world.given(bet)
        assert (await world.refused(place_bet(1, "x", game=GAME, period=name_of(NOON), selection="edge"))).code == (
            "invalid_selection"
        )
        world.clock.now_us = NOON + 32 * SECOND_US
        assert (await world.refused(record_result("X", name_of(NOON), game=GAME))).code == "invalid_result"
        await world.given(record_result("H", name_of(NOON), game=GAME))
        await world.quiet()
        settled = [event.data for event in world.events() if isinstance(event.data, BetSettled)]
        assert {data.bet_id: data.payout for data in settled} == {"right": PAYOUT, "wrong": 0}
        assert await world.cash() == PAYOUT
        await api.fold()
        period = (await api.get(f"/v1/games/{GAME}/periods/{name_of(NOON)}")).json()
        assert (period["result"], period["status"], period["paid_out"]) == ("H", "settled", {"INR": PAYOUT})
    verified = verify(Lists(world.appended.records), tables=forms_of_tables(coin.tables))
    assert verified.missing_tables == (coin.games[GAME].digest,), "the auditor says what it did not check"


@pytest.mark.usefixtures("coin")
def test_its_page_is_written_from_the_rules() -> None:
    page = game_pages()["coin.md"]
    assert "| `heads` | by its rules | 1.95 | 1 of 2 | 97.5 % | 95.55 % |" in page
