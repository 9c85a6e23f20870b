"""``GET /v1/house/cohorts``: the wallets of each day of registration, and what they bet on each day since."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from ledger.core.position import partition_of
from ledger.core.wallet import DAY_US
from projections.models.leaderboards import StandingRow
from projections.models.wallet_list import OpenedRow
from projections.models.wallets import WalletRow
from projections.storage.port import Difference
from projections.tables.rows import Row
from projections.tables.wide import LOW_MASK
from unit.api_in_memory import InMemoryApi
from unit.given import NOON, cancel_bet, close_wallet, deposit, open_wallet, place_bet, settle_bet
from unit.test_document_of_reads import schema_of

DAY: Final = NOON // DAY_US * DAY_US
NEXT: Final = DAY + DAY_US
TABLES: Final = {OpenedRow: "opened_g1", WalletRow: "wallet_g1", StandingRow: "standing_g1"}

Day = tuple[int, int, int, int]


async def play(api: InMemoryApi) -> None:
    """ada, bo and cy register on the first day, cy at its last moment; di on the next, at its first moment, and eve.

    ada stakes on the first day and two days later; there her bet of 80 of the first day is cancelled. bo's first
    deposit is in GOLD; a bet of it is settled on the next day. A bet of di is cancelled at once. cy and eve place
    no bet.
    """
    world = api.world
    await world.given(open_wallet("ada"), deposit(5_000, user_id="ada"), open_wallet("bo"))
    await world.given(deposit(500, "g1", asset="GOLD", user_id="bo"), deposit(500, "o2", user_id="bo"))
    await world.given(place_bet(300, user_id="ada"), settle_bet(1_000, user_id="ada"))
    await world.given(place_bet(80, "gone", user_id="ada"), place_bet(100, "g", asset="GOLD", user_id="bo"))
    world.clock.now_us = NEXT - 1
    await world.given(open_wallet("cy"))
    world.clock.now_us = NEXT
    await world.given(open_wallet("di"), deposit(500, user_id="di"), settle_bet(0, "g", user_id="bo"))
    await world.given(place_bet(50, "gone", user_id="di"), cancel_bet("gone", user_id="di"))
    world.clock.now_us = NEXT + DAY_US - 1
    await world.given(open_wallet("eve"), deposit(500, user_id="eve"))
    world.clock.now_us = NOON + 2 * DAY_US
    await world.given(cancel_bet("gone", user_id="ada"), place_bet(200, "b2", user_id="ada"))
    await world.given(settle_bet(0, "b2", user_id="ada"), place_bet(70, "open", user_id="bo"))
    await world.given(place_bet(40, "b1", user_id="di"), settle_bet(100, "b1", user_id="di"))


FIRST_DAYS: Final = [(0, 1, 300, 700), (2, 2, 270, -200)]
NEXT_DAYS: Final = [(1, 1, 40, 60)]


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[InMemoryApi]:
    async with InMemoryApi(tmp_path) as api:
        await play(api)
        await api.fold()
        yield api


async def read(api: InMemoryApi, query: str, status: int = 200) -> Any:
    response = await api.get(f"/v1/house/cohorts?{query}")
    assert response.status == status, response.body
    schema_of("/v1/house/cohorts", status).validate(response.json())
    return response.json()


def listed(document: dict[str, Any]) -> list[tuple[int, int, int, list[Day]]]:
    return [
        (
            cohort["registered_us"],
            cohort["wallets"],
            cohort["deposited"],
            [(day["day"], day["active"], day["staked"], day["net"]) for day in cohort["days"]],
        )
        for cohort in document["items"]
    ]


async def test_each_day_of_registration_has_the_bets_of_its_wallets_by_day(api: InMemoryApi) -> None:
    document = await read(api, f"asset=INR&from_us={DAY}&to_us={NEXT + DAY_US}")
    assert document.pop("as_of")["lag_ms"] == 0
    assert (document["asset"], document["from_us"], document["to_us"]) == ("INR", DAY, NEXT + DAY_US)
    assert listed(document) == [(NEXT, 2, 2, NEXT_DAYS), (DAY, 3, 1, FIRST_DAYS)]


async def test_another_asset_has_its_own_first_deposits_and_bets(api: InMemoryApi) -> None:
    gold = await read(api, "asset=GOLD")
    assert listed(gold) == [(NEXT, 2, 0, []), (DAY, 3, 1, [(0, 1, 100, 0), (1, 0, 0, -100)])]
    none = await read(api, "asset=none-such")
    assert listed(none) == [(NEXT, 2, 0, []), (DAY, 3, 0, [])]


async def test_a_closed_wallet_stays_in_its_cohort(api: InMemoryApi) -> None:
    await api.world.given(close_wallet(user_id="cy"))
    await api.fold()
    assert listed(await read(api, "asset=INR")) == [(NEXT, 2, 2, NEXT_DAYS), (DAY, 3, 1, FIRST_DAYS)]


async def test_whole_days_of_registration_are_read_of_the_last_31_by_default(api: InMemoryApi) -> None:
    first, following = (DAY, 3, 1, FIRST_DAYS), (NEXT, 2, 2, NEXT_DAYS)
    for query, items in {
        f"from_us={NEXT - 1}": [following, first],
        f"from_us={NEXT}": [following],
        f"to_us={NEXT + 1}": [following, first],
        f"to_us={NEXT}": [first],
        f"from_us={NOON}&to_us={NOON + 1}": [first],
        f"from_us={NEXT + DAY_US}": [],
        f"from_us={NEXT}&to_us={NEXT}": [],
        f"from_us={NEXT}&to_us={DAY}": [],
    }.items():
        assert listed(await read(api, f"asset=INR&{query}")) == items, query
    by_default = await read(api, "asset=INR")
    assert (by_default["from_us"], by_default["to_us"]) == (DAY - 28 * DAY_US, DAY + 3 * DAY_US)
    api.world.clock.now_us = DAY + 31 * DAY_US
    assert listed(await read(api, "asset=INR")) == [following]


async def test_a_bet_is_seen_once_its_partition_is_folded(api: InMemoryApi) -> None:
    behind = partition_of("eve", 4)
    before = (await read(api, "asset=INR"))["as_of"]["positions"]
    await api.world.given(place_bet(10, "late", user_id="eve"), open_wallet("late"))
    await api.fold(only=[partition for partition in range(4) if partition != behind])
    document = await read(api, "asset=INR")
    assert document["as_of"]["positions"][behind] == before[behind]
    assert listed(document)[-2] == (NEXT, 2, 2, NEXT_DAYS)
    await api.fold()
    assert listed(await read(api, "asset=INR"))[-2] == (NEXT, 2, 2, [(1, 2, 50, 60)])


@pytest.mark.system
async def test_sums_of_many_wallets_are_exact_beyond_64_bits(api: InMemoryApi, tmp_path: Path) -> None:
    """With the largest low half of a sum in each of so many rows that SQLite cannot add these up."""
    many, opened_us = 32_770, NEXT + 4 * DAY_US
    day = opened_us // DAY_US
    rows: list[Row] = []
    for number in range(many):
        user_id = f"many-{number}"
        sums = {"day_staked_high": 2**20, "day_staked_low": LOW_MASK, "day_net_high": -1, "day_net_low": LOW_MASK}
        rows += [
            OpenedRow(user_id, opened_us, number),
            WalletRow(user_id, "open", opened_us),
            StandingRow(user_id, "INR", day, day, day, **sums),
        ]
    with closing(sqlite3.connect(tmp_path / "read-model.sqlite3", isolation_level=None)) as connection:
        connection.execute("BEGIN")
        for kind, table in TABLES.items():
            places = ",".join("?" * (len(kind.__struct_fields__) + 1))
            values = [(0, *msgspec.structs.astuple(row)) for row in rows if type(row) is kind]
            connection.executemany(f"INSERT INTO {table} VALUES ({places})", values)
        connection.execute("COMMIT")
    assert LOW_MASK * many > 2**63
    document = await read(api, f"asset=INR&from_us={opened_us}&to_us={opened_us + 1}")
    assert listed(document) == [(opened_us, many, 0, [(0, many, many * (2**68 + 2**48 - 1), -many)])]


async def test_more_than_31_days_a_missing_asset_and_a_time_that_is_none_are_400(api: InMemoryApi) -> None:
    month = f"from_us={DAY + 1}&to_us={DAY + 31 * DAY_US}"
    assert listed(await read(api, f"asset=INR&{month}")) == [(NEXT, 2, 2, NEXT_DAYS), (DAY, 3, 1, FIRST_DAYS)]
    for query, field in (
        (f"asset=INR&from_us={DAY}&to_us={DAY + 31 * DAY_US + 1}", "from_us"),
        (f"asset=INR&from_us={DAY - 29 * DAY_US}", "from_us"),
        (month, "asset"),
        ("asset=INR&to_us=1.5", "to_us"),
    ):
        problem = await read(api, query, 400)
        assert (problem["code"], problem["field"]) == ("malformed_request", field)
    problem = await read(api, f"asset=INR&from_us={DAY - DAY_US}&to_us={DAY + 31 * DAY_US}", 400)
    assert problem["detail"] == "from_us to to_us overlaps more than 31 UTC days: read them in parts"


async def test_it_is_suspect_if_a_row_of_its_tables_is_wrong(api: InMemoryApi) -> None:
    partition = partition_of("di", 4)
    for table in ("opened", "wallet", "standing", "ended_standing"):
        await api.differ(partition, Difference(partition, "di", table, "", "field", "1", "2"))
        assert (await read(api, "asset=INR"))["as_of"]["suspect"] is True, table
    await api.differ(partition, Difference(partition, "di", "hold", "", "field", "1", "2"))
    assert "suspect" not in (await read(api, "asset=INR"))["as_of"]
