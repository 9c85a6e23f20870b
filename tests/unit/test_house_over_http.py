"""``GET /v1/house``: what an operator and an auditor read."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from ledger.core.games.periods import name_of
from ledger.core.games.rules import book_of, read_rules
from ledger.core.position import partition_of
from projections.models.house import HOUR_US
from unit.api_in_memory import InMemoryApi
from unit.given import (
    ASSETS,
    NOON,
    SECOND_US,
    deposit,
    grant_bonus,
    open_wallet,
    place_bet,
    record_result,
    settle_bet,
)
from unit.node_in_memory import World
from unit.test_document_of_reads import schema_of

USERS: Final = ("u1", "u2", "u3", "ada")
PERIOD: Final = name_of(NOON)
NO_GAME: Final = {
    "from_us": NOON,
    "game": None,
    "bets": 0,
    "staked": 0,
    "paid_out": 0,
    "fees": 0,
    "commissions": 0,
    "bonuses": 4 * 500,
    "edge_ppm": None,
    "expected_edge_ppm": None,
}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[InMemoryApi]:
    """Four wallets in four partitions: each got a bonus, bet 1,000 on green and won, and bet 100 outside and lost."""
    async with InMemoryApi(tmp_path) as api:
        for user_id in USERS:
            await api.world.given(
                open_wallet(user_id),
                deposit(5_000, user_id=user_id),
                grant_bonus(500, user_id=user_id),
                place_bet(1_000, "b1", game="wingo_30s", period=PERIOD, selection="green", user_id=user_id),
                place_bet(100, "b2", user_id=user_id),
                settle_bet(0, "b2", user_id=user_id),
            )
        api.world.clock.now_us = NOON + 32 * SECOND_US
        await api.world.given(record_result("7", PERIOD))
        await api.fold()
        yield api


async def read(api: InMemoryApi, query: str, status: int = 200) -> Any:
    response = await api.get(f"/v1/house?{query}")
    assert response.status == status, response.body
    schema_of("/v1/house", status).validate(response.json())
    return response.json()


async def test_an_hour_has_each_game_and_the_money_that_no_game_moved(api: InMemoryApi) -> None:
    document = await read(api, "asset=INR")
    assert document.pop("as_of")["lag_ms"] == 0
    external = {"game": "external", "bets": 4, "staked": 400, "edge_ppm": 1_000_000, "bonuses": 0}
    wingo = {
        "game": "wingo_30s",
        "bets": 4,
        "staked": 4_000,
        "paid_out": 4 * 1_960,
        "fees": 80,
        "edge_ppm": -960_000,
        "expected_edge_ppm": 69_000,  # 5 % of the stake after the fee, and the fee of 2 %
        "bonuses": 0,
    }
    assert document == {"items": [NO_GAME, NO_GAME | external, NO_GAME | wingo], "warnings": []}


async def test_a_day_is_the_sum_of_its_hours_and_one_game_is_read_alone(api: InMemoryApi) -> None:
    api.world.clock.now_us = NOON + 2 * HOUR_US
    await api.world.given(place_bet(300, "b3"))
    await api.fold()
    hours = (await read(api, "asset=INR&game=external"))["items"]
    assert [(item["from_us"], item["staked"]) for item in hours] == [(NOON + 2 * HOUR_US, 300), (NOON, 400)]
    (day,) = (await read(api, "asset=INR&game=external&by=day"))["items"]
    assert (day["from_us"], day["bets"], day["staked"]) == (NOON - 12 * HOUR_US, 5, 700)
    (later,) = (await read(api, f"asset=INR&from_us={NOON + HOUR_US}"))["items"]
    assert later["from_us"] == NOON + 2 * HOUR_US
    assert (await read(api, f"asset=INR&to_us={NOON}"))["items"] == []
    assert len((await read(api, f"asset=INR&from_us={NOON}&to_us={NOON + 1}"))["items"]) == 3


async def test_a_partition_that_is_behind_is_named_in_as_of(api: InMemoryApi) -> None:
    behind = partition_of("u1", 4)
    before = (await read(api, "asset=INR"))["as_of"]["positions"]
    await api.world.given(*(place_bet(10, "late", user_id=user_id) for user_id in USERS))
    await api.fold(only=[partition for partition in range(4) if partition != behind])
    document = await read(api, "asset=INR&game=external")
    (item,) = document["items"]
    here = sum(partition_of(user_id, 4) == behind for user_id in USERS)
    assert item["staked"] == 400 + 10 * (len(USERS) - here)
    assert document["as_of"]["positions"][behind] == before[behind]


async def test_too_long_a_time_an_unknown_unit_and_a_missing_asset_are_400(api: InMemoryApi) -> None:
    too_long = f"from_us={NOON - 400 * 24 * HOUR_US}"
    for query, field in ((f"asset=INR&{too_long}", "from_us"), ("asset=INR&by=week", "by"), ("", "asset")):
        problem = await read(api, query, 400)
        assert (problem["code"], problem["field"]) == ("malformed_request", field)
    assert (await read(api, "asset=NONE"))["items"] == []


async def test_games_in_which_commissions_and_bonuses_exceed_the_edge_are_warnings(tmp_path: Path) -> None:
    money = {"registration": 5, "wagering": {"bonus": 20}, "commission": {"rates_e9": [4_000_000, 1]}}
    file = read_rules(json.dumps({"money": {"INR": money}}), ASSETS)
    started = await World(4, rules=book_of(file.games, money=file.money)).start()
    async with InMemoryApi(tmp_path, started=started) as api:
        warnings = (await read(api, "asset=INR"))["warnings"]
        below = {name for name in file.games if not name.startswith("k3")}  # 5.4 % is below what K3 wins, 5.86 %
        assert {warning["game"] for warning in warnings} == below
        (warning,) = (await read(api, "asset=INR&game=5d_3m"))["warnings"]
        assert warning.pop("message").startswith("5d_3m, INR: the house can lose.")
        figures = {"edge_ppm": 20_000, "commissions_ppm": 4_001, "bonuses_ppm": 50_000}
        assert warning == {"game": "5d_3m", "leg": "A:big", **figures}
        assert (await read(api, "asset=GOLD"))["warnings"] == []
        assert (await read(api, "asset=INR&game=external"))["warnings"] == []
