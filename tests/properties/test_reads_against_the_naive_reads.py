"""The product's reads, folded from a log run by run, and the reference model's of the same log, must agree.

The read model is a file for every commit, and a file, PostgreSQL and MariaDB for `make test`.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any, Final

import msgspec
import pytest

from databases import EmptyDatabases, open_database
from ledger.core.position import partition_of
from ledger.core.wallet import DAY_US
from projections.models import VERSION
from projections.models.adjustments import Adjustments
from projections.models.bets import Bets
from projections.models.cohorts import registered_of
from projections.models.grants import BonusGrants
from projections.models.history import History
from projections.models.holds import Holds
from projections.models.leaderboards import LEADERBOARDS
from projections.models.orders import Orders
from projections.models.transfers import Transfers
from projections.models.wallet_list import Wallets
from projections.projecting.partition import PartitionProjector
from projections.reads.queries import Found, Reads
from projections.storage.port import Quarantined, ReadModel, ReadModelStore, Run
from projections.storage.server import ServerReadModelStore
from projections.storage.server_reader import ServerReadModel
from projections.storage.sqlite import SqliteReadModelStore
from projections.storage.sqlite_reader import SqliteReadModel
from properties import naive_reads
from properties.naive_reads import Doc, NaiveReads, NotFound, assert_walked, every_queue, every_read
from properties.reads_scenario import CODES, GIFTS, USERS, Scenario, play_scenario

PAGES: Final = (History, Bets, Holds, Transfers, BonusGrants, Orders, Adjustments, Wallets)
OF_ALL_USERS: Final = ("orders", "adjustments", "wallets")
NOW_US: Final = 2**52


SERVERS: Final = ("postgresql", "mariadb")

OpenBoth = Callable[[], tuple[ReadModelStore, ReadModel]]
"""A store, and a model of the same, at first empty, storage."""


def seeds(first: int, number: int) -> pytest.MarkDecorator:
    """The first scenario for every commit, the others, and one more on each server, for `make test`."""
    others = range(first + 1, first + number)
    return pytest.mark.parametrize(
        ("seed", "open_both"),
        [
            (first, "sqlite"),
            *(pytest.param(seed, "sqlite", marks=pytest.mark.system) for seed in others),
            *(pytest.param(first + 50, server, marks=pytest.mark.system) for server in SERVERS),
        ],
        indirect=["open_both"],
    )


@pytest.fixture
def open_both(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenBoth]:
    if request.param == "sqlite":
        path = tmp_path / "read-model.sqlite3"
        yield lambda: (SqliteReadModelStore(path), SqliteReadModel(path))
        return
    databases: EmptyDatabases = request.getfixturevalue(request.param)
    with databases.one() as url:
        yield lambda: (ServerReadModelStore(open_database(url)), ServerReadModel(open_database(url)))


class Ends:
    """The end of a log that the read model has reached."""

    def __init__(self, scenario: Scenario) -> None:
        self._partitions = scenario.partitions
        self.partitions = len(scenario.partitions)

    def end(self, partition: int) -> int:
        return len(self._partitions[partition])

    async def end_now(self, partition: int) -> int:
        return self.end(partition)

    async def time_us(self, partition: int, seq: int) -> int:
        time_us: int = msgspec.json.decode(self._partitions[partition][seq - 1])["time_us"]
        return time_us


class Folded:
    """A read model that is folded as far as a test says."""

    def __init__(self, scenario: Scenario, store: ReadModelStore, reads: Reads, generation: int) -> None:
        self._scenario, self._store, self.reads, self._generation = scenario, store, reads, generation
        self._folders: list[PartitionProjector] = []

    async def fold(self, chance: Random, part: float, rows_max: int) -> None:
        """Every partition up to that part of its length, in runs of any size."""
        if not self._folders:
            checkpoints = await self._store.checkpoints(self._generation)
            self._folders = [
                PartitionProjector(self._store, self._generation, partition, checkpoint, [], rows_max=rows_max)
                for partition, checkpoint in enumerate(checkpoints)
            ]
        for folder in self._folders:
            records = self._scenario.partitions[folder.partition]
            end = int(len(records) * part)
            while folder.head.seq < end:
                step = chance.choice((1, 2, 7, 30, 1_000))
                run = await folder.fold(records[folder.head.seq : min(folder.head.seq + step, end)])
                assert run is not None
                assert not run.quarantined, run.quarantined
                await self._store.commit(self._generation, [run])
                folder.mark_stored(run)

    async def quarantine(self, partition: int, user_id: str, seq: int) -> None:
        """As if a fold had failed on this event of the user."""
        checkpoint = (await self._store.checkpoints(self._generation))[partition]
        stopped = Quarantined(partition, user_id, seq, 1, "a test")
        await self._store.commit(self._generation, [Run(partition, checkpoint, checkpoint, (), (stopped,))])

    @property
    def cut(self) -> dict[int, int]:
        return {folder.partition: folder.head.seq for folder in self._folders}


@asynccontextmanager
async def folded(scenario: Scenario, open_both: OpenBoth) -> AsyncIterator[Folded]:
    store, model = open_both()
    generation = await store.make_generation(VERSION, len(scenario.partitions), live=True)
    try:
        yield Folded(scenario, store, Reads(model, Ends(scenario), lambda: NOW_US), generation.number)
    finally:
        await model.close()
        await store.close()


def plain(found: Found) -> Doc | NotFound:
    """In the contract's JSON, less ``as_of`` and the cursor."""
    if found.document is None:
        return NotFound(found.missing)
    document: Doc = msgspec.json.decode(msgspec.json.encode(found.document))
    document.pop("next_cursor", None)
    return document


async def ask(reads: Reads, name: str, user_id: str, params: Mapping[str, Any], limit: int) -> Doc | NotFound:
    """A read by the reference model's names; lists are walked to their end."""
    match name:
        case "history" | "bets" | "holds" | "transfers" | "grants" | "orders" | "adjustments" | "wallets":
            return await walk(reads, name, user_id, params, limit)
        case "stats":
            return plain(await reads.statistics(user_id))
        case "balance":
            found = plain(await reads.balance(user_id, params.get("at_us")))
            if isinstance(found, dict) and "at_us" not in params:
                found["at_us"] = None
            return found
        case _:
            return plain(await getattr(reads, name)(user_id, *params.values()))


async def page_of(
    reads: Reads, name: str, user_id: str, params: Mapping[str, Any], limit: int, cursor: str | None
) -> Found:
    match name:
        case "orders":
            return await reads.orders(params, limit, cursor)
        case "adjustments":
            return await reads.adjustments(params, limit, cursor)
        case "wallets":
            return await reads.wallets(params.get("user_id", []), params.get("prefix", ""), limit, cursor)
        case "holds" | "transfers" | "grants":
            found: Found = await getattr(reads, name)(user_id, limit, cursor)
            return found
        case "history":
            return await reads.history(user_id, params, limit, cursor)
        case _:
            return await reads.bets(user_id, params, limit, cursor)


async def walk(reads: Reads, name: str, user_id: str, params: Mapping[str, Any], limit: int) -> Doc | NotFound:
    items: list[Doc] = []
    cursor: str | None = None
    while True:
        found = await page_of(reads, name, user_id, params, limit, cursor)
        answer = plain(found)
        if isinstance(answer, NotFound):
            return answer
        assert isinstance(found.document, PAGES)
        assert len(answer["items"]) <= limit
        items += answer["items"]
        cursor = found.document.next_cursor
        if cursor is None:
            return {"items": items}


def without_now(expected: Doc | NotFound, name: str, params: Mapping[str, Any]) -> Doc | NotFound:
    if name == "balance" and "at_us" not in params and isinstance(expected, dict):
        return {**expected, "at_us": None}
    return expected


@seeds(0, 4)
@pytest.mark.system
async def test_every_read_equals_the_reference_model(seed: int, open_both: OpenBoth) -> None:
    scenario = await play_scenario(seed)
    chance = Random(seed)
    model = NaiveReads(scenario.records)
    async with folded(scenario, open_both) as product:
        await product.fold(chance, 1.0, rows_max=chance.choice((3, 40, 400_000)))
        for user_id in USERS:
            for name, params, expected in every_read(model, user_id):
                limit = chance.choice((1, 3, 200))
                found = await ask(product.reads, name, user_id, params, limit)
                assert found == without_now(expected, name, params), (user_id, name, params)
        for name, params, expected in every_queue(model):
            assert await ask(product.reads, name, "", params, chance.choice((1, 7, 200))) == expected, params
        for code in (*GIFTS, *CODES):
            assert plain(await product.reads.gift(code)) == model.gift(code, NOW_US), code
            assert plain(await product.reads.referral_code(code)) == model.referral_code(code), code


@seeds(300, 4)
async def test_every_leaderboard_equals_the_reference_model(seed: int, open_both: OpenBoth) -> None:
    scenario = await play_scenario(seed)
    chance = Random(seed)
    model = NaiveReads(scenario.records)
    times = sorted({event["time_us"] for event in model.events})
    days = sorted({time_us // DAY_US for time_us in times})
    assert len(days) > 1, "a scenario of one day would say little"
    async with folded(scenario, open_both) as product:
        await product.fold(chance, 1.0, rows_max=40)
        for name in LEADERBOARDS:
            for asset in ("INR", "GOLD", "none-such"):
                for at_us in (days[0] * DAY_US, days[-1] * DAY_US + DAY_US - 1, times[len(times) // 2]):
                    limit = chance.choice((1, 3, 200))
                    found = plain(await product.reads.leaderboard(name, asset, at_us, limit))
                    assert found == model.leaderboard(name, asset, at_us, limit), (name, asset, at_us)
        for asset in ("INR", "GOLD", "none-such"):
            for day in days:
                limit = chance.choice((1, 3, 200))
                found = plain(await product.reads.movers(asset, day * DAY_US, limit))
                assert found == model.movers(asset, day * DAY_US, limit), (asset, day)


@seeds(400, 4)
async def test_the_cohorts_equal_the_reference_model(seed: int, open_both: OpenBoth) -> None:
    scenario = await play_scenario(seed)
    chance = Random(seed)
    model = NaiveReads(scenario.records)
    openings = sorted(event["time_us"] for event in model.events if event["type"] == "wallet_opened")
    begin_us, end_us = openings[0], openings[-1] + 1
    ranges = [(begin_us, min(end_us, begin_us + 30 * DAY_US)), (end_us - DAY_US, end_us)]
    for _ in range(4):
        from_us = chance.randrange(begin_us - DAY_US, end_us)
        ranges.append((from_us, from_us + chance.choice((1, DAY_US, chance.randrange(1, 30 * DAY_US)))))
    async with folded(scenario, open_both) as product:
        for part in (0.6, 1.0):
            await product.fold(chance, part, rows_max=40)
            for asset in ("INR", "GOLD", "none-such"):
                for from_us, to_us in ranges:
                    registered = registered_of(from_us, to_us, 0)
                    assert registered is not None
                    found = plain(await product.reads.cohorts(asset, registered))
                    assert found == model.at(product.cut).cohorts(asset, from_us, to_us), (asset, from_us, to_us)


@seeds(100, 4)
async def test_reads_are_true_at_the_position_that_they_name(seed: int, open_both: OpenBoth) -> None:
    scenario = await play_scenario(seed, commands=200)
    chance = Random(seed)
    async with folded(scenario, open_both) as product:
        for part in (0.3, 0.6, 0.9):
            await product.fold(chance, part, rows_max=40)
            model = NaiveReads(scenario.records).at(product.cut)
            for user_id in USERS:
                found = await product.reads.wallet(user_id)
                assert found.seqs == {
                    partition_of(user_id, len(scenario.partitions)): product.cut[
                        partition_of(user_id, len(scenario.partitions))
                    ]
                }
                assert plain(found) == model.wallet(user_id)
                assert plain(await product.reads.statistics(user_id)) == model.stats(user_id)


@seeds(400, 1)
async def test_a_quarantined_user_does_not_hide_the_orders_of_other_users(seed: int, open_both: OpenBoth) -> None:
    scenario = await play_scenario(seed)
    async with folded(scenario, open_both) as product:
        await product.fold(Random(seed), 1.0, rows_max=400_000)
        before = await walk(product.reads, "orders", "", {}, 200)
        assert isinstance(before, dict)
        assert len(before["items"]) > 20
        await product.quarantine(partition=1, user_id="anna", seq=2)
        for filters in ({}, {"kind": "deposit"}, {"status": "completed"}):
            whole = await walk(product.reads, "orders", "", filters, 200)
            assert await walk(product.reads, "orders", "", filters, 3) == whole
        assert await walk(product.reads, "orders", "", {}, 3) == before
        found = await product.reads.orders({}, 3, None)
        assert found.seqs == product.cut
        assert found.lag_ms > 0


LISTS: Final[tuple[tuple[str, Mapping[str, str]], ...]] = (
    ("history", {}),
    ("bets", {}),
    ("bets", {"status": "open"}),
    ("bets", {"status": "won"}),
    ("bets", {"status": "lost"}),
    ("bets", {"status": "cancelled"}),
    ("holds", {}),
    ("orders", {}),
    ("orders", {"status": "pending"}),
    ("orders", {"kind": "withdrawal", "status": "pending"}),
    ("orders", {"kind": "deposit", "status": "completed"}),
    ("orders", {"status": "approved"}),
    ("orders", {"status": "reversed"}),
    ("orders", {"status": "rejected"}),
    ("orders", {"kind": "withdrawal"}),
    ("orders", {"user_id": "anna"}),
    ("orders", {"user_id": "anna", "kind": "deposit"}),
    ("orders", {"user_id": "anna", "status": "pending"}),
    ("orders", {"user_id": "anna", "kind": "deposit", "status": "completed"}),
    ("orders", {"user_id": "anna", "status": "approved"}),
    ("transfers", {}),
    ("grants", {}),
    ("adjustments", {}),
    ("adjustments", {"status": "proposed"}),
    ("adjustments", {"status": "approved"}),
)


@seeds(200, 12)
async def test_a_list_is_walked_without_a_skip_or_a_repeat_while_events_arrive(
    seed: int, open_both: OpenBoth
) -> None:
    scenario = await play_scenario(seed)
    chance = Random(seed)
    walks: dict[tuple[str, str, str], tuple[Mapping[str, Any], list[naive_reads.Page], str | None]] = {}
    async with folded(scenario, open_both) as product:
        for part in (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
            await product.fold(chance, part, rows_max=400_000)
            for name, params in LISTS:
                for user_id in USERS if name not in OF_ALL_USERS else ("",):
                    key = (name, str(params), user_id)
                    _, pages, cursor = walks.get(key, (params, [], None))
                    if pages and cursor is None:
                        continue
                    found = await page_of(product.reads, name, user_id, params, chance.choice((1, 2, 5)), cursor)
                    answer = plain(found)
                    if isinstance(answer, NotFound):
                        continue
                    assert isinstance(found.document, PAGES)
                    pages.append(naive_reads.Page(answer["items"], product.cut))
                    walks[key] = (params, pages, found.document.next_cursor)
        reference = NaiveReads(scenario.records)
        for (name, _, user_id), (params, pages, cursor) in walks.items():
            following = cursor
            while following is not None:
                found = await page_of(product.reads, name, user_id, params, 3, following)
                assert isinstance(found.document, PAGES)
                answer = plain(found)
                assert isinstance(answer, dict)
                pages.append(naive_reads.Page(answer["items"], product.cut))
                following = found.document.next_cursor
            fixed = {key: value for key, value in params.items() if key != "status"}
            moving = {key: value for key, value in params.items() if key == "status"}

            def listed(
                at: NaiveReads, name: str = name, user_id: str = user_id, fixed: Doc = fixed, **more: Any
            ) -> Doc | NotFound:
                answer: Doc | NotFound = getattr(at, name)(*([user_id] if user_id else []), **fixed, **more)
                return answer

            # Partitions are folded at their own pace: an item of a later event may be older, and may still come.
            assert_walked(pages, reference, listed, may_add=name in OF_ALL_USERS, **moving)
