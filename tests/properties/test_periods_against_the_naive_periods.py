"""The product's periods and house view of a log of games, folded run by run, equal the reference model's.

The read model is a file for every commit, and a file, PostgreSQL and MariaDB for `make test`.
"""

from pathlib import Path
from random import Random
from typing import Any, Final

import msgspec
import pytest

from ledger.core.games.periods import SECOND_US, name_of
from ledger.core.games.rules import BUILT_IN
from projections.models.house import By, Hours, hours_of
from projections.models.periods import Periods
from properties import naive_periods
from properties.games_scenario import GAMES, play_games
from properties.reads_scenario import Scenario
from properties.test_reads_against_the_naive_reads import NOW_US, OpenBoth, folded, open_both, plain, seeds
from unit.folded import from_scratch, tables

__all__ = ["open_both"]  # a fixture


BY: Final[tuple[By, ...]] = ("hour", "day")


def events_of(scenario: Scenario, cut: dict[int, int] | None = None) -> list[dict[str, Any]]:
    events = [msgspec.json.decode(record) for record in scenario.records]
    return [event for event in events if cut is None or event["seq"] <= cut[event["partition"]]]


@seeds(700, 4)
async def test_every_period_and_list_of_periods_equals_the_reference_model(seed: int, open_both: OpenBoth) -> None:
    scenario = await play_games(seed)
    chance = Random(seed)
    async with folded(scenario, open_both) as product:
        for part in (0.5, 1.0):
            await product.fold(chance, part, rows_max=chance.choice((3, 40, 400_000)))
            events = events_of(scenario, product.cut)
            statuses = set()
            for name in GAMES:
                game = BUILT_IN.games[name]
                expected = naive_periods.periods(events, name, NOW_US)
                assert len(expected) > 5
                statuses |= {period["status"] for period in expected}
                found, cursor = [], None
                while True:
                    page = await product.reads.periods(game, chance.choice((1, 3, 50)), cursor)
                    document = plain(page)
                    assert isinstance(document, dict)
                    assert page.seqs == product.cut
                    found += document["items"]
                    assert isinstance(page.document, Periods)
                    if (cursor := page.document.next_cursor) is None:
                        break
                assert found == expected, name
                starts = [period["starts_at_us"] for period in expected]
                between = name_of(starts[0] + 2 * 60 * SECOND_US)
                for period in (*chance.sample([period["period"] for period in expected], 5), between):
                    one = plain(await product.reads.period(game, period))
                    assert one == naive_periods.period(events, name, period, NOW_US), (name, period)
            assert {"closed", "settled", "cancelled"} <= statuses


@seeds(760, 2)
@pytest.mark.system
async def test_the_house_view_equals_the_reference_model(seed: int, open_both: OpenBoth) -> None:
    scenario = await play_games(seed, rounds=20)
    chance = Random(seed)
    async with folded(scenario, open_both) as product:
        for part in (0.6, 1.0):
            await product.fold(chance, part, rows_max=chance.choice((3, 400_000)))
            events = events_of(scenario, product.cut)
            for asset in ("INR", "GOLD", "USDT"):
                for by in BY:
                    for game in (None, "wingo_30s", "external"):
                        hours = Hours(0, 2**31 - 1)
                        found = plain(await product.reads.house(asset, hours, game, by))
                        assert found == naive_periods.house(events, asset, by, game), (asset, by, game)
            (*_, last) = naive_periods.house(events, "INR", "hour")["items"]
            of_one_hour = hours_of("hour", last["from_us"], last["from_us"] + 1, NOW_US)
            assert of_one_hour is not None
            found = plain(await product.reads.house("INR", of_one_hour, None, "hour"))
            assert isinstance(found, dict)
            assert {item["from_us"] for item in found["items"]} == {last["from_us"]}
            assert len(events) > 100


@seeds(730, 1)
async def test_a_fold_from_scratch_makes_the_rows_that_a_fold_run_by_run_makes(
    seed: int, open_both: OpenBoth, tmp_path: Path
) -> None:
    scenario = await play_games(seed, rounds=6)
    async with folded(scenario, open_both) as product:
        await product.fold(Random(seed), 1.0, rows_max=3)
        run_by_run = await tables(product._store, product._generation, len(scenario.partitions))
    assert run_by_run == await from_scratch(tmp_path / "other", scenario.partitions)
    assert any(rows["period"] and rows["selection"] for _, rows in run_by_run)
