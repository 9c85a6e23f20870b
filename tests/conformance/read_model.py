"""Contract tests of ``ReadModel``. An adapter passes if a subclass of ``ReadModelContract`` passes.

The subclass has a fixture ``open_both``: each call opens one more store, and a model of the same, at first empty,
storage.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
import pytest

from conformance.read_model_store import AMOUNT_MAX, ONE_OF_EACH, PARTITIONS, run
from ledger.core.wallet import DAY_US
from projections.models import cohorts, history, leaderboards, movers
from projections.models.cohorts import Cohort, CohortDay
from projections.models.gifts import GiftRow, page_query
from projections.models.history import HistoryRow, history_statement
from projections.models.leaderboards import Board, EndedRow, StandingRow, values_of
from projections.models.wallet_list import OpenedRow
from projections.models.wallets import AssetRow, WalletRow, assets_statement
from projections.reads import statements
from projections.reads.suspects import Suspects
from projections.storage.port import (
    EVERY_USER,
    Checkpoint,
    Difference,
    ReadModel,
    ReadModelStore,
    ReadModelUnavailable,
)
from projections.tables.queries import Cursor, Query, Rows
from projections.tables.rows import Row
from projections.tables.wide import LOW_BITS, LOW_MASK

OpenBoth = Callable[[], Awaitable[tuple[ReadModelStore, ReadModel]]]

# Each is a different user; databases have treated some of them as equal.
LOOKALIKES: Final = (
    "Bob",
    "BOB",
    "bob",
    "bob ",
    "bob  ",
    " bob",
    "bób",
    "bo\u0301b",
    "bo\u200bb",
    "strasse",
    "straße",
    "ΣΑΣ",
    "σας",
    "ı",
    "i",
    "🙂",
    "🙃",
    "👍",
    "👍🏽",
    "ﬁ",
    "fi",
    "100%_",
    "100\\%_",
    "'; --",
)


def wallet_of(user_id: str) -> Query:
    return Query(statements.user_status, {"of_partition": 0, "user": user_id})


def assets_of(user_id: str) -> Query:
    return Query(assets_statement, {"of_partition": 0, "user": user_id})


def leaders(measure: str, most: int = 50) -> Query:
    return leaderboards.leaders(Board(f"{measure}_day", "INR", 5, 6), most)


def sums_of(user_id: str, **sums: int) -> Row:
    """A user's sums of one day, which is the user's last one."""
    row = StandingRow(user_id, "INR", 5, 4, 1)
    for measure, amount in sums.items():
        setattr(row, f"day_{measure}_high", amount >> LOW_BITS)
        setattr(row, f"day_{measure}_low", amount & LOW_MASK)
    return row


CHECKPOINTS: Final = Query(statements.checkpoints, {})


class ReadModelContract:
    """The tests; ``open_both`` comes from the subclass."""

    async def test_without_a_live_generation_reads_are_unavailable(self, open_both: OpenBoth) -> None:
        store, model = await open_both()
        with pytest.raises(ReadModelUnavailable, match="no live generation"):
            await model.fetch([CHECKPOINTS])
        await store.make_generation(1, PARTITIONS, live=False)
        with pytest.raises(ReadModelUnavailable, match="no live generation"):
            await model.fetch([CHECKPOINTS], quick=True)
        await store.make_generation(1, PARTITIONS, live=True)
        assert await model.fetch([CHECKPOINTS]) == [[(partition, 0) for partition in range(PARTITIONS)]]
        await model.close()
        await store.close()

    async def test_results_are_in_the_order_of_the_queries(self, open_both: OpenBoth) -> None:
        store, model = await open_both()
        live = await store.make_generation(1, PARTITIONS, live=True)
        await store.commit(live.number, [run(0, Checkpoint(), 7, *ONE_OF_EACH)])
        standing, assets, checkpoints = await model.fetch([wallet_of("u1"), assets_of("u1"), CHECKPOINTS])
        wallet = ("u1", "open", 1, "r1", "o1", "INR", AMOUNT_MAX, "0:7", 2)
        assert plain(standing) == [(7, None, None, *wallet)]
        amounts = ("INR", 1, -AMOUNT_MAX, AMOUNT_MAX, 0, 5, None, 0, AMOUNT_MAX)
        assert plain(assets) == [(*amounts, None, None, 0, "0", "0")], "and no wagering"
        assert plain(checkpoints) == [(0, 7), (1, 0), (2, 0), (3, 0)]
        assert await model.fetch([assets_of("u2")], quick=True) == [[]]
        assert await model.fetch([]) == []
        await model.close()
        await store.close()

    async def test_users_that_differ_in_one_byte_are_different_users(self, open_both: OpenBoth) -> None:
        store, model = await open_both()
        live = await store.make_generation(1, PARTITIONS, live=True)
        assert len(set(LOOKALIKES)) == len(LOOKALIKES)
        wallets = [WalletRow(name, "open", number) for number, name in enumerate(LOOKALIKES)]
        assets = [AssetRow(name, "INR", 1, cash=number) for number, name in enumerate(LOOKALIKES)]
        standings = [sums_of(name, staked=1) for name in LOOKALIKES]
        await store.commit(live.number, [run(0, Checkpoint(), 1, *wallets, *assets, *standings)])
        for number, name in enumerate(LOOKALIKES):
            standing, found = await model.fetch([wallet_of(name), assets_of(name)])
            assert standing[0][3:6] == (name, "open", number)
            assert [row[2] for row in found] == [number]
            loaded = await store.load(live.number, 0, {WalletRow: {(name,)}, AssetRow: {(name, "INR")}})
            assert loaded == {WalletRow: [wallets[number]], AssetRow: [assets[number]]}
        (board,) = await model.fetch([leaders("staked")])
        assert plain(board) == [(name, 0, 1) for name in sorted(LOOKALIKES)], "one line each, in the order of bytes"
        assert (await model.fetch([wallet_of("bOB")]))[0][0][3] is None
        await model.close()
        await store.close()

    async def test_differences_that_the_check_stored_make_reads_suspect(self, open_both: OpenBoth) -> None:
        store, model = await open_both()
        live = await store.make_generation(1, PARTITIONS, live=True)
        suspects = Suspects(model)
        await suspects.look()
        assert not suspects
        await store.report(live.number, 1, 7, 1, [Difference(1, "bob", "bet", "1", "stake", "1", "2")])
        await store.report(live.number, 2, 7, 1, [Difference(2, EVERY_USER, "checkpoint", "", "head", "1", "2")])
        await suspects.look()
        assert suspects.has_user("bob", 1)
        assert suspects.has_user("anyone", 2)
        assert not suspects.has_user("Bob", 1)
        for partition in (1, 2):
            await store.report(live.number, partition, 7, 1, [])
        await suspects.look()
        assert not suspects
        await model.close()
        await store.close()

    async def test_sums_are_whole_numbers_beyond_64_bits(self, open_both: OpenBoth) -> None:
        store, model = await open_both()
        live = await store.make_generation(1, PARTITIONS, live=True)
        large = 2**100 + 1
        rows = [
            sums_of("u1", won=large, net=large),
            sums_of("u2", net=-large),
            sums_of("u3", net=-1),
            sums_of("u4", staked=5),
            EndedRow("u5", "INR", "day", 5, 0, 0, 0, 0, large >> LOW_BITS, (large - 1) & LOW_MASK),
            sums_of("u6", net=-2),
            sums_of("u7", net=large),
        ]
        await store.commit(live.number, [run(0, Checkpoint(), 1, *rows)])
        for most in (1, 2, 3, 5, 6, 50):
            won, net = await model.fetch([leaders("won", most), leaders("net", most)])
            assert values_of(won) == [("u1", large)]
            expected = [("u1", large), ("u7", large), ("u5", large - 1), ("u3", -1), ("u6", -2), ("u2", -large)]
            assert values_of(net) == expected[:most]
            assert all(type(value) is int for row in (*won, *net) for value in row[1:])
            gained, lost = await model.fetch(movers.queries(Board(movers.BOARD, "INR", 5, 6), most))
            assert values_of(gained) == expected[:3][:most]
            assert values_of(lost) == expected[:2:-1][:most]
        await model.close()
        await store.close()

    async def test_sums_of_cohorts_are_whole_numbers_beyond_64_bits(self, open_both: OpenBoth) -> None:
        """The first cohort has its sums of day 5 in rows of both kinds; u0 and u5 are in neither cohort."""
        store, model = await open_both()
        live = await store.make_generation(1, PARTITIONS, live=True)
        large = 2**100 + 1
        high, low = (large >> LOW_BITS, large & LOW_MASK)
        registered = cohorts.Registered(3 * DAY_US, 5 * DAY_US)
        opened = {"u0": registered.from_us - 1, "u1": registered.from_us, "u2": 4 * DAY_US - 1, "u3": 4 * DAY_US}
        opened |= {"u4": registered.to_us - 1, "u5": registered.to_us}
        rows = [
            *(OpenedRow(user_id, time_us, 1) for user_id, time_us in opened.items()),
            *(WalletRow(user_id, "open", time_us) for user_id, time_us in opened.items() if user_id != "u2"),
            WalletRow("u2", "closed", opened["u2"], None, "o1", "INR", 5, "0:1", 5),
            sums_of("u0", staked=7, net=7),
            sums_of("u1", staked=large, net=-large),
            EndedRow("u1", "INR", "day", 3, 0, 5, 0, 0, -1, LOW_MASK),
            EndedRow("u1", "INR", "week", 3, 0, 9, 0, 0, 0, 9),
            EndedRow("u1", "GOLD", "day", 3, 0, 9, 0, 0, 0, 9),
            EndedRow("u2", "INR", "day", 5, high, low, 0, 0, -1, 0),
            sums_of("u3", net=large),
            sums_of("u5", staked=7, net=7),
        ]
        await store.commit(live.number, [run(0, Checkpoint(), 1, *rows)])
        sizes, days = await model.fetch(cohorts.queries("INR", registered))
        document = cohorts.document("INR", registered, sizes, days)
        first = [CohortDay(0, 1, 5, -1), CohortDay(2, 2, 2 * large, -large - 2**LOW_BITS)]
        assert document.items == [
            Cohort(4 * DAY_US, 2, 0, [CohortDay(1, 0, 0, large)]),
            Cohort(3 * DAY_US, 2, 1, first),
        ]
        assert all(type(number) is int for day in first for number in msgspec.structs.astuple(day))
        await model.close()
        await store.close()

    async def test_a_balance_at_a_time_is_that_of_the_last_line_until_then(self, open_both: OpenBoth) -> None:
        store, model = await open_both()
        live = await store.make_generation(1, PARTITIONS, live=True)
        rows = [AssetRow("u1", "GOLD", 5), AssetRow("u1", "INR", 5)]
        lines = [
            HistoryRow("u1", time_us, time_us, "INR", "deposited", "", "c", 1, 0, 0, -time_us, AMOUNT_MAX, 3, "{}")
            for time_us in (6, 7, 8)
        ]
        await store.commit(live.number, [run(0, Checkpoint(), 1, *rows, *lines)])
        query = history.balance_at(7).query
        values = {"of_partition": 0, "user": "u1", **query.values}
        (found,) = await model.fetch([query._replace(values=values)])
        assert plain(found) == [("GOLD", None), ("INR", f"-7 {AMOUNT_MAX} 3")]
        await model.close()
        await store.close()

    async def test_pages_of_gifts_lead_through_all_partitions(self, open_both: OpenBoth) -> None:
        store, model = await open_both()
        live = await store.make_generation(1, PARTITIONS, live=True)
        codes = [f"gift:{name}" for name in sorted(LOOKALIKES)]
        places = [(partition, code) for partition in (0, 1) for code in codes]
        for partition in (0, 1):
            rows = [GiftRow(code, "INR", 9, 3, 1, 0, None) for code in codes]
            await store.commit(live.number, [run(partition, Checkpoint(), 1, *rows)])
        found: list[Any] = []
        while page := (await model.fetch([page_query(Cursor(found[-1], ()) if found else None, 5)]))[0]:
            assert len(page) <= 5
            found += [tuple(row[:2]) for row in page]
        assert found == places
        await model.close()
        await store.close()

    async def test_a_fetch_shows_one_moment_while_runs_are_stored(self, open_both: OpenBoth) -> None:
        """Every run moves all partitions by one event, and one user's cash with them."""
        store, model = await open_both()
        live = await store.make_generation(1, PARTITIONS, live=True)
        done = asyncio.Event()
        seen: set[int] = set()

        async def fold() -> None:
            before = [Checkpoint()] * PARTITIONS
            for seq in range(1, 3_000):
                if seq > 60 and len(seen) > 1:
                    break
                runs = [
                    run(partition, before[partition], seq, AssetRow("u1", "INR", 1, cash=seq))
                    for partition in range(PARTITIONS)
                ]
                await store.commit(live.number, runs)
                before = [one.after for one in runs]
                await asyncio.sleep(0)
            done.set()

        async def look() -> None:
            while not done.is_set():
                first, assets, last = await model.fetch([CHECKPOINTS, assets_of("u1"), CHECKPOINTS])
                seqs = {row[1] for row in (*first, *last)} | {row[2] for row in assets or [(0, 0, 0)]}
                assert len(seqs) == 1, (first, assets, last)
                seen.update(seqs)
                await asyncio.sleep(0)

        await asyncio.gather(fold(), look(), look())
        assert len(seen) > 1, "nothing was seen to move"
        await model.close()
        await store.close()

    async def test_it_reads_the_generation_that_becomes_live(self, open_both: OpenBoth) -> None:
        store, model = await open_both()
        live = await store.make_generation(1, PARTITIONS, live=True)
        made = await store.make_generation(2, PARTITIONS, live=False)
        old, new = (run(0, Checkpoint(), 1, WalletRow("u1", status)) for status in ("frozen", "open"))
        await store.commit(live.number, [old])
        await store.commit(made.number, [new], building=True)
        assert (await model.fetch([wallet_of("u1")]))[0][0][4] == "frozen"
        await store.switch(live.number, made.number, accept=True)
        assert (await model.fetch([wallet_of("u1")]))[0][0][4] == "open"
        await store.drop_generation(live.number)
        assert (await model.fetch([wallet_of("u1")], quick=True))[0][0][4] == "open"
        await model.close()
        await store.close()

    async def test_it_reads_the_live_generation_after_its_last_one_was_dropped(self, open_both: OpenBoth) -> None:
        """The generation of its last read is dropped before its next read."""
        store, model = await open_both()
        live = await store.make_generation(1, PARTITIONS, live=True)
        await model.fetch([CHECKPOINTS])
        for version in (2, 3):
            made = await store.make_generation(version, PARTITIONS, live=False)
            await store.make_indexes(made.number)
            await store.switch(live.number, made.number, accept=True)
            await store.drop_generation(live.number)
            live = made
        await store.commit(live.number, [run(0, Checkpoint(), 1, WalletRow("u1", "open"))])
        assert (await model.fetch([wallet_of("u1")]))[0][0][4] == "open"
        await model.close()
        await store.close()

    async def test_many_concurrent_reads(self, open_both: OpenBoth) -> None:
        store, model = await open_both()
        live = await store.make_generation(1, PARTITIONS, live=True)
        lines = [
            HistoryRow(f"u{number % 7}", number, number, "INR", "deposited", "", "c", 1, 0, 0, 1, 0, 0, "{}")
            for number in range(1, 500)
        ]
        await store.commit(live.number, [run(0, Checkpoint(), 500, *lines)])

        async def page(user: int) -> Rows:
            values = {"of_partition": 0, "user": f"u{user}", "most": 5}
            return (await model.fetch([wallet_of(f"u{user}"), Query(history_statement, values)]))[1]

        pages = await asyncio.gather(*(page(number % 7) for number in range(60)))
        for number, found in enumerate(pages):
            newest = [row.seq for row in reversed(lines) if row.user_id == f"u{number % 7}"][:5]
            assert [row[1] for row in found] == newest
        await model.close()
        await store.close()

    async def test_closing_again_is_harmless(self, open_both: OpenBoth) -> None:
        store, model = await open_both()
        for one in (model, model, store):
            await one.close()


def plain(rows: Rows) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in rows]
