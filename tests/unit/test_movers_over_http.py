"""``GET /v1/house/movers``: who won and who lost the most on a day."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from ledger.core.position import partition_of
from ledger.core.wallet import DAY_US
from unit.api_in_memory import InMemoryApi
from unit.given import NOON, cancel_bet, deposit, open_wallet, place_bet, settle_bet
from unit.test_document_of_reads import schema_of

DAY: Final = NOON // DAY_US * DAY_US
NETS: Final = {"ada": 700, "bo": -300, "cy": 40, "di": -300, "eve": 0, "fay": 700}
"""User → payout of a bet of 300, less its stake; ada and fay, and bo and di, are ties."""


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[InMemoryApi]:
    """On the first day each wallet has a settled bet; ada has also an open and a cancelled one. On the next day ada
    loses 50."""
    async with InMemoryApi(tmp_path) as api:
        for user_id, net in NETS.items():
            await api.world.given(
                open_wallet(user_id),
                deposit(5_000, user_id=user_id),
                place_bet(300, "b1", user_id=user_id),
                settle_bet(300 + net, "b1", user_id=user_id),
            )
        await api.world.given(place_bet(900, "open", user_id="ada"), place_bet(800, "gone", user_id="ada"))
        await api.world.given(cancel_bet("gone", user_id="ada"))
        api.world.clock.now_us = NOON + DAY_US
        await api.world.given(place_bet(50, "b2", user_id="ada"), settle_bet(0, "b2", user_id="ada"))
        await api.fold()
        yield api


async def read(api: InMemoryApi, query: str, status: int = 200) -> Any:
    response = await api.get(f"/v1/house/movers?{query}")
    assert response.status == status, response.body
    schema_of("/v1/house/movers", status).validate(response.json())
    return response.json()


def listed(movers: list[dict[str, Any]]) -> list[tuple[int, str, int]]:
    return [(mover["rank"], mover["user_id"], mover["net"]) for mover in movers]


async def test_wins_and_losses_of_a_day_are_ranked_and_ties_are_ordered_by_user(api: InMemoryApi) -> None:
    document = await read(api, f"asset=INR&at_us={NOON}")
    assert document.pop("as_of")["lag_ms"] == 0
    assert (document["asset"], document["from_us"], document["to_us"]) == ("INR", DAY, DAY + DAY_US)
    assert listed(document["won"]) == [(1, "ada", 700), (2, "fay", 700), (3, "cy", 40)]
    assert listed(document["lost"]) == [(1, "bo", -300), (2, "di", -300)]


async def test_today_is_the_default_and_the_limit_is_of_each_list(api: InMemoryApi) -> None:
    today = await read(api, "asset=INR")
    assert (today["from_us"], listed(today["won"]), listed(today["lost"])) == (DAY + DAY_US, [], [(1, "ada", -50)])
    one = await read(api, f"asset=INR&at_us={NOON}&limit=1")
    assert (listed(one["won"]), listed(one["lost"])) == ([(1, "ada", 700)], [(1, "bo", -300)])
    other = await read(api, f"asset=GOLD&at_us={NOON}")
    assert (other["won"], other["lost"]) == ([], [])


async def test_a_partition_that_is_behind_is_named_in_as_of(api: InMemoryApi) -> None:
    behind = partition_of("bo", 4)
    before = (await read(api, "asset=INR"))["as_of"]["positions"]
    await api.world.given(place_bet(10, "late", user_id="bo"), settle_bet(0, "late", user_id="bo"))
    await api.fold(only=[partition for partition in range(4) if partition != behind])
    document = await read(api, "asset=INR")
    assert document["as_of"]["positions"][behind] == before[behind]
    assert listed(document["lost"]) == [(1, "ada", -50)]
    await api.fold()
    assert listed((await read(api, "asset=INR"))["lost"]) == [(1, "ada", -50), (2, "bo", -10)]


async def test_a_missing_asset_and_a_limit_out_of_range_are_400(api: InMemoryApi) -> None:
    for query, field in (("", "asset"), ("asset=INR&limit=0", "limit"), ("asset=INR&limit=201", "limit")):
        problem = await read(api, query, 400)
        assert (problem["code"], problem["field"]) == ("malformed_request", field)
