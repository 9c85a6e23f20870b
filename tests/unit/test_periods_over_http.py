"""The periods of games over HTTP: what a game server, a client app and an auditor read."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import pytest

from ledger.core.games.periods import name_of
from ledger.core.position import partition_of
from ledger.errors import LogUnavailable
from unit.api_in_memory import InMemoryApi
from unit.given import NOON, SECOND_US, cancel_bet, cancel_period, deposit, open_wallet, place_bet, record_result
from unit.test_document_of_reads import schema_of

GAMES: Final = "/v1/games"
WINGO: Final = f"{GAMES}/wingo_30s/periods"
PERIOD: Final = name_of(NOON)
USERS: Final = ("u1", "u2", "u3", "ada")
STAKE: Final = 1_000
LISTED: Final = f"{WINGO.replace('wingo_30s', '{game}')}"


def bet(user_id: str, bet_id: str = "b1", selection: str = "red", period: str = PERIOD) -> Any:
    return place_bet(STAKE, bet_id, game="wingo_30s", period=period, selection=selection, user_id=user_id)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[InMemoryApi]:
    """Everybody in four partitions has bet on PERIOD, which is open."""
    async with InMemoryApi(tmp_path) as api:
        for user_id in USERS:
            await api.world.given(open_wallet(user_id), deposit(9 * STAKE, user_id=user_id), bet(user_id))
        await api.world.given(bet("u1", "b2", "big+number:7"), bet("u2", "b3"), cancel_bet("b3", user_id="u2"))
        await api.fold()
        yield api


async def read(api: InMemoryApi, target: str, status: int = 200) -> Any:
    response = await api.get(target)
    assert response.status == status, response.body
    path = f"{LISTED}/{{period}}" if target.startswith(f"{WINGO}/") else LISTED
    schema_of(path, status).validate(response.json())
    return response.json()


async def test_a_running_period_has_its_times_its_sums_and_its_distribution(api: InMemoryApi) -> None:
    document = await read(api, f"{WINGO}/{PERIOD}")
    assert document.pop("as_of")["lag_ms"] == 0
    assert document == {
        "game": "wingo_30s",
        "period": PERIOD,
        "issue": f"{PERIOD[:8]}100171441",
        "starts_at_us": NOON,
        "closes_at_us": NOON + 25 * SECOND_US,
        "ends_at_us": NOON + 30 * SECOND_US,
        "status": "open",
        "result": None,
        "proof": None,
        "open_bets": 5,
        "settled_bets": 0,
        "staked": {"INR": 5 * STAKE},
        "paid_out": {"INR": 0},
        "distribution": [
            {"selection": "big+number:7", "asset": "INR", "bets": 1, "staked": STAKE},
            {"selection": "red", "asset": "INR", "bets": 4, "staked": 4 * STAKE},
        ],
    }


async def test_the_status_follows_the_clock_and_then_the_outcome(api: InMemoryApi) -> None:
    async def status() -> str:
        found: str = (await read(api, f"{WINGO}/{PERIOD}"))["status"]
        return found

    api.world.clock.now_us = NOON + 25 * SECOND_US - 1
    assert await status() == "open"
    api.world.clock.now_us = NOON + 25 * SECOND_US
    assert await status() == "closed"
    api.world.clock.now_us = NOON + 32 * SECOND_US
    result = await api.world.accepted(record_result("6", PERIOD))
    await api.fold()
    assert await status() == "settled"
    document = await read(api, f"{WINGO}/{PERIOD}?min_position={result.position}")
    assert (document["result"], document["open_bets"], document["settled_bets"]) == ("6", 0, 5)
    assert document["paid_out"] == {"INR": 4 * 1_960 + 980}
    assert len(document["distribution"]) == 2


async def test_a_result_whose_settlements_are_not_folded_is_settling_and_as_of_says_what_is_missing(
    api: InMemoryApi,
) -> None:
    api.world.clock.now_us = NOON + 32 * SECOND_US
    await api.world.given(record_result("6", PERIOD))
    await api.world.quiet()
    stream = partition_of("game:wingo_30s", 4)
    before = (await read(api, f"{WINGO}/{PERIOD}"))["as_of"]["positions"]
    await api.fold(only=[stream])
    api.world.clock.now_us += 5_000
    document = await read(api, f"{WINGO}/{PERIOD}")
    assert (document["status"], document["result"]) == ("settling", "6")
    assert document["open_bets"] > 0
    as_of = document["as_of"]
    assert as_of["lag_ms"] == 5
    behind = [partition for partition in range(4) if partition != stream]
    assert [as_of["positions"][partition] for partition in behind] == [before[partition] for partition in behind]
    assert as_of["positions"][stream] != before[stream]
    (listed,) = (await read(api, WINGO))["items"]
    assert listed["status"] == "settling"


async def test_a_cancelled_period_is_settling_until_every_bet_is_returned(api: InMemoryApi) -> None:
    api.world.clock.now_us = NOON + 32 * SECOND_US
    await api.world.given(cancel_period(PERIOD))
    await api.world.quiet()
    await api.fold(only=[partition_of("game:wingo_30s", 4)])
    assert (await read(api, f"{WINGO}/{PERIOD}"))["status"] == "settling"
    await api.fold()
    document = await read(api, f"{WINGO}/{PERIOD}")
    assert (document["status"], document["open_bets"], document["staked"]) == ("cancelled", 0, {"INR": 0})
    assert document["distribution"] == []


async def test_a_period_without_a_bet_exists_by_its_clock(api: InMemoryApi) -> None:
    document = await read(api, f"{WINGO}/{name_of(NOON - 30 * SECOND_US)}")
    assert (document["status"], document["open_bets"], document["staked"]) == ("closed", 0, {})
    assert document["distribution"] == []
    later = name_of(NOON + 30 * SECOND_US)
    assert (await read(api, f"{WINGO}/{later}", 404))["code"] == "period_not_found"
    api.world.clock.now_us += 30 * SECOND_US
    assert (await read(api, f"{WINGO}/{later}"))["status"] == "open"


async def test_a_period_with_a_bet_exists_also_for_a_clock_that_is_behind(api: InMemoryApi) -> None:
    api.world.clock.now_us = NOON - 1
    assert (await read(api, f"{WINGO}/{PERIOD}"))["status"] == "open"


@pytest.mark.parametrize("name", [name_of(NOON + SECOND_US), "20261123", "20261323T000000Z", "x", "20261123T130000z"])
async def test_a_period_that_is_malformed_or_off_the_grid_is_400(api: InMemoryApi, name: str) -> None:
    problem = await read(api, f"{WINGO}/{name}", 400)
    assert (problem["code"], problem["field"]) == ("malformed_request", "period")


async def test_a_game_that_takes_no_bets_is_not_found_and_external_has_no_periods(api: InMemoryApi) -> None:
    for target in (f"{GAMES}/roulette/periods", f"{GAMES}/wingo_7s/periods/{PERIOD}"):
        response = await api.get(target)
        assert (response.status, response.json()["code"]) == (404, "game_not_found")
    listed = (await api.get(f"{GAMES}/external/periods")).json()
    assert (listed["items"], listed["next_cursor"]) == ([], None)
    response = await api.get(f"{GAMES}/external/periods/round%207")
    assert (response.status, response.json()["code"]) == (404, "period_not_found")


async def test_periods_are_listed_from_the_latest_on_and_pages_neither_skip_nor_repeat(api: InMemoryApi) -> None:
    periods = [PERIOD]
    for number in range(1, 5):
        api.world.clock.now_us = NOON + number * 60 * SECOND_US  # every second period has a bet
        periods.append(name_of(api.world.clock.now_us))
        await api.world.given(bet("u1", f"p{number}", period=periods[-1]))
    await api.world.given(record_result("0", name_of(NOON + 30 * SECOND_US)))  # and one only a result
    await api.fold()
    everything = sorted([*periods, name_of(NOON + 30 * SECOND_US)], reverse=True)
    first = await read(api, f"{WINGO}?limit=2")
    found = [item["period"] for item in first["items"]]
    api.world.clock.now_us += 60 * SECOND_US
    await api.world.given(deposit(STAKE, "more"), bet("u1", "new", period=name_of(api.world.clock.now_us)))
    await api.fold()
    cursor = first["next_cursor"]
    while cursor is not None:
        page = await read(api, f"{WINGO}?limit=2&cursor={cursor}")
        found += [item["period"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert found == everything
    assert all("distribution" not in item for item in first["items"])
    other = await api.get(f"{GAMES}/k3_1m/periods?limit=2&cursor={first['next_cursor']}")
    assert (other.status, other.json()["field"]) == (400, "cursor")


async def test_reading_a_distribution_reads_no_bet(api: InMemoryApi) -> None:
    """The same response when the rows of the bets are gone."""
    before = await read(api, f"{WINGO}/{PERIOD}")
    await api.empty("bet")
    assert await read(api, f"{WINGO}/{PERIOD}") == before


async def test_the_periods_of_a_game_that_was_taken_out_of_the_rules_can_be_read(api: InMemoryApi) -> None:
    """The game was in the rules of an earlier start: the log keeps its name."""
    removed = f"{GAMES}/wingo_90s/periods"
    api.world.clock.now_us = NOON + 92 * SECOND_US
    assert (await read(api, removed, 404))["code"] == "game_not_found"
    api.world.appended.games.add("wingo_90s")
    api.world.clock.now_us += SECOND_US
    await api.world.given(record_result("7", PERIOD, game="wingo_90s"))
    await api.fold()
    (listed,) = (await read(api, removed))["items"]
    period = (await api.get(f"{removed}/{PERIOD}")).json()
    assert (listed["status"], period["result"], period["ends_at_us"]) == ("settled", "7", NOON + 90 * SECOND_US)
    assert "wingo_90s" not in {game["game"] for game in (await api.get(GAMES)).json()["items"]}
    with patch.object(api.world.log, "games", side_effect=LogUnavailable("gone")):
        api.world.clock.now_us += SECOND_US
        assert (await read(api, f"{GAMES}/wingo_45s/periods", 503))["code"] == "log_unavailable"
