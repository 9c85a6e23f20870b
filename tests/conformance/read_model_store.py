"""Contract tests of ``ReadModelStore``. An adapter passes if a subclass of ``ReadModelStoreContract`` passes.

The subclass has a fixture ``open_store``: each call opens one more store on the same, at first empty, storage.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import pytest

from ledger.core.record import EMPTY, Head, sha256_hex
from projections.models import ROW_TYPES
from projections.models.accounts import AccountRow
from projections.models.adjustments import AdjustmentRow
from projections.models.bets import BetRow
from projections.models.deposits import DepositRow
from projections.models.gifts import GiftRow
from projections.models.grants import GrantEventRow, GrantRow, GrantStakeRow
from projections.models.history import HistoryRow
from projections.models.holds import HoldRow
from projections.models.house import HouseRow
from projections.models.leaderboards import EndedRow, StandingRow
from projections.models.orders import OrderRow
from projections.models.periods import PeriodRow, SelectionRow
from projections.models.referral_codes import CodeRow
from projections.models.referrals import ReferralRow
from projections.models.statistics import StatisticsRow
from projections.models.transfers import TransferRow
from projections.models.wallet_list import OpenedRow
from projections.models.wallets import AssetRow, WalletRow
from projections.storage.port import (
    ALL_USERS,
    Checkpoint,
    Difference,
    Differs,
    Generation,
    OutOfStep,
    Overtaken,
    Quarantined,
    QuarantinedEvent,
    ReadModelStore,
    Run,
    Switched,
    Users,
)
from projections.tables.row_buffer import Digests
from projections.tables.rows import Row, add_digests, digest_function, key_of

PARTITIONS: Final = 4
AMOUNT_MAX: Final = 2**53 - 1
INT_MAX: Final = 2**63 - 1

OpenStore = Callable[[], Awaitable[ReadModelStore]]

ONE_OF_EACH: Final[tuple[Row, ...]] = (
    WalletRow("u1", "open", 1, "r1", "o1", "INR", AMOUNT_MAX, "0:7", 2),
    AssetRow("u1", "INR", 1, -AMOUNT_MAX, AMOUNT_MAX, 0, 5, None, 0, AMOUNT_MAX),
    OpenedRow("u1", 1, 7),
    HistoryRow("u1", 2, 7, "INR", "bet_placed", "", "c", -5, 0, 0, 1, 2, 3, '{"selection":"größer 🪔"}' * 500),
    OrderRow("u1", "o'1", "deposit", "INR", 5, 0, "completed", None, 7, 2, None, None),
    HoldRow("u1", "h1", "INR", 5, "open", None, None, 7, 2, None, None),
    TransferRow("u1", "t1", "u2", "INR", 5, "returned", "wallet_closed", 7, 2, 3),
    GrantRow("u1", "g1", "grant", "INR", AMOUNT_MAX, 0, -1, 7, 2),
    GrantEventRow("u1", 7, "g1"),
    GrantStakeRow("u1", "b%1_", '[["g1",5]]'),
    AdjustmentRow("u1", "a1", "INR", -AMOUNT_MAX, "größer", "proposed", "local", None, 7, 2, None, None),
    StatisticsRow("u1", "INR", "", 1, 2, "9" * 40, "4", "5", 6, 7, "8", 9, "10", 11, "12", 13, "14"),
    StandingRow("u1", "INR", 20_000, 19_996, 19_990, AMOUNT_MAX, 1, 0, 0, -AMOUNT_MAX, 7),
    EndedRow("u1", "INR", "week", 20_000, AMOUNT_MAX, 1, 0, 0, -AMOUNT_MAX, 7),
    ReferralRow("u1", 6, "INR", 0, str(10**30)),
    DepositRow(7, "o'1"),
    AccountRow("house/stakes", "INR", "9" * 40, "0"),
    GiftRow("gift:DIWALI", "INR", AMOUNT_MAX, 100, 99, 1, None),
    CodeRow("code:ADA", "u1"),
    PeriodRow("wingo_30s", "20241005T200030Z", "INR", 1, 2, 3, 4, 5, INT_MAX, "result", "7", '{"height":1}'),
    SelectionRow("wingo_30s", "20241005T200030Z", "big+number:7", "INR", 1, 2, INT_MAX),
    HouseRow("INR", 480_044, "wingo_30s", 20_001, 1, 2, 3, INT_MAX, *range(8, 18)),
    BetRow("u1", "b%1_", "external", "", "a \\ 'b' \"c\"", "INR", 5, "won", 0, 7, 2, 8, INT_MAX),
)


def head(seq: int, text: str = "") -> Head:
    return EMPTY if seq == 0 else Head(seq, sha256_hex(f"{seq}{text}".encode()))


def digests(rows: Sequence[Row]) -> Digests:
    found: Digests = {}
    for row in rows:
        found[row.table] = add_digests(found.get(row.table, 0), digest_function(row.table)(row))
    return found


def run(partition: int, before: Checkpoint, after_seq: int, *rows: Row, text: str = "", **more: Any) -> Run:
    """A run that changes these rows. Its digests are of these rows only, so that tests can compare them."""
    by_kind = [(kind, [row for row in rows if type(row) is kind]) for kind in ROW_TYPES]
    changed = [(kind, sorted(of_kind, key=key_of)) for kind, of_kind in by_kind if of_kind]
    return Run(partition, before, Checkpoint(head(after_seq, text), digests(rows)), changed, **more)


async def stored(store: ReadModelStore, generation: int, partition: int) -> list[Row]:
    return [row async for _, _, page in store.scan(generation, partition) for row in page]


class ReadModelStoreContract:
    """The tests; ``open_store`` comes from the subclass."""

    # --- generations -----------------------------------------------------------------------------------------------

    async def test_a_new_read_model_has_no_generation(self, open_store: OpenStore) -> None:
        store = await open_store()
        assert await store.generations() == []
        await store.close()

    async def test_a_generation_begins_at_the_empty_log(self, open_store: OpenStore) -> None:
        store = await open_store()
        live = await store.make_generation(3, PARTITIONS, live=True)
        building = await store.make_generation(4, PARTITIONS, live=False)
        assert await store.generations() == [live, building]
        assert live == Generation(live.number, 3, "live", live.made_at_us)
        assert building == Generation(building.number, 4, "building", building.made_at_us)
        assert live.number < building.number
        for one in (live, building):
            assert await store.checkpoints(one.number) == [Checkpoint()] * PARTITIONS
            assert await store.quarantine(one.number) == []
            for partition in range(PARTITIONS):
                assert await stored(store, one.number, partition) == []
        await store.close()

    async def test_there_is_one_live_generation(self, open_store: OpenStore) -> None:
        store, other = await open_store(), await open_store()
        live = await store.make_generation(1, PARTITIONS, live=True)
        with pytest.raises(Switched):
            await other.make_generation(1, PARTITIONS, live=True)
        assert await other.generations() == [live]
        await store.close()
        await other.close()

    async def test_indexes_are_made_once(self, open_store: OpenStore) -> None:
        store = await open_store()
        made = await store.make_generation(1, PARTITIONS, live=False)
        await store.make_indexes(made.number)
        await store.make_indexes(made.number)
        await store.close()

    async def test_a_dropped_generation_leaves_no_rows(self, open_store: OpenStore) -> None:
        store = await open_store()
        live = await store.make_generation(1, PARTITIONS, live=True)
        made = await store.make_generation(1, PARTITIONS, live=False)
        stopped = Quarantined(0, "u2", 1, 5, "why")
        waiting = QuarantinedEvent("u2", 1, b"record")
        await store.commit(
            made.number,
            [run(0, Checkpoint(), 1, *ONE_OF_EACH, quarantined=[stopped], quarantined_events=[waiting])],
            building=True,
        )
        await store.make_indexes(made.number)
        await store.report(made.number, 0, 1, 6, [Difference(0, "u1", "wallet", "u1", "status", "open", "none")])
        await store.drop_generation(made.number)
        assert await store.generations() == [live]
        assert await store.checkpoints(made.number) == []
        assert await store.quarantine(made.number) == []
        assert await store.quarantined_events(made.number, 0, "u2", 10) == []
        await store.drop_generation(made.number)  # as after a kill in the middle
        again = await store.make_generation(1, PARTITIONS, live=False)
        assert await stored(store, again.number, 0) == []
        await store.close()

    async def test_the_live_generation_cannot_be_dropped(self, open_store: OpenStore) -> None:
        store = await open_store()
        live = await store.make_generation(1, PARTITIONS, live=True)
        await store.commit(live.number, [run(0, Checkpoint(), 1, *ONE_OF_EACH)])
        with pytest.raises(OutOfStep):
            await store.drop_generation(live.number)
        assert await stored(store, live.number, 0) == list(ONE_OF_EACH)
        await store.close()

    async def test_all_of_a_large_generation_is_dropped(self, open_store: OpenStore) -> None:
        store = await open_store()
        made = await store.make_generation(1, PARTITIONS, live=False)
        rows = [DepositRow(seq, f"o{seq}") for seq in range(25_000)]
        await store.commit(made.number, [run(0, Checkpoint(), 1, *rows)], building=True)
        await store.drop_generation(made.number)
        assert await store.generations() == []
        again = await store.make_generation(1, PARTITIONS, live=False)
        assert await stored(store, again.number, 0) == []
        await store.close()

    # --- rows and checkpoint ---------------------------------------------------------------------------------------

    async def test_every_kind_of_row_is_loaded_unchanged(self, open_store: OpenStore) -> None:
        assert tuple(map(type, ONE_OF_EACH)) == ROW_TYPES
        store, other = await open_store(), await open_store()
        live = await store.make_generation(1, PARTITIONS, live=True)
        first = run(2, Checkpoint(), 7, *ONE_OF_EACH)
        await store.commit(live.number, [first])
        for one in (store, other):
            assert await one.checkpoints(live.number) == [Checkpoint(), Checkpoint(), first.after, Checkpoint()]
            assert await stored(one, live.number, 2) == list(ONE_OF_EACH)
            wanted = {type(row): {key_of(row)} for row in ONE_OF_EACH}
            assert await one.load(live.number, 2, wanted) == {type(row): [row] for row in ONE_OF_EACH}
        await store.close()
        await other.close()

    async def test_existing_rows_are_loaded_by_their_keys(self, open_store: OpenStore) -> None:
        store = await open_store()
        live = await store.make_generation(1, PARTITIONS, live=True)
        rows = [WalletRow(f"u{number}") for number in range(5)]
        await store.commit(live.number, [run(0, Checkpoint(), 1, *rows)])
        found = await store.load(live.number, 0, {WalletRow: {("u1",), ("u4",), ("u9",)}, AssetRow: {("u1", "INR")}})
        assert sorted(found[WalletRow], key=key_of) == [rows[1], rows[4]]
        assert not found.get(AssetRow)
        assert not (await store.load(live.number, 1, {WalletRow: {("u1",)}}))[WalletRow], "of another partition"
        await store.close()

    async def test_a_row_replaces_only_the_row_with_the_same_key(self, open_store: OpenStore) -> None:
        store = await open_store()
        live = await store.make_generation(1, PARTITIONS, live=True)
        names = ["Bob", "bob", "BOB", "bob.", "böb", "bo\u0308b", "b", "bob bob", "ß", "ss"]
        rows = [WalletRow(name, "open", number) for number, name in enumerate(names)]
        first = run(0, Checkpoint(), 1, *rows)
        await store.commit(live.number, [first])
        changed = WalletRow("bob", "closed", 99)
        await store.commit(live.number, [run(0, first.after, 2, changed)])
        expected = sorted([row for row in rows if row.user_id != "bob"] + [changed], key=key_of)
        assert await stored(store, live.number, 0) == expected, "byte for byte, and in the order of code points"
        await store.close()

    async def test_one_key_in_two_partitions_is_two_rows(self, open_store: OpenStore) -> None:
        store = await open_store()
        live = await store.make_generation(1, PARTITIONS, live=True)
        ours, theirs = AccountRow("house/stakes", "INR", "1"), AccountRow("house/stakes", "INR", "2")
        await store.commit(live.number, [run(0, Checkpoint(), 1, ours), run(3, Checkpoint(), 1, theirs)])
        assert await stored(store, live.number, 0) == [ours]
        assert await stored(store, live.number, 3) == [theirs]
        await store.close()

    async def test_a_run_is_committed_once(self, open_store: OpenStore) -> None:
        store, other = await open_store(), await open_store()
        live = await store.make_generation(1, PARTITIONS, live=True)
        first = run(0, Checkpoint(), 5, WalletRow("u1"))
        await store.commit(live.number, [first])
        for one in (store, other):
            with pytest.raises(Overtaken):
                await one.commit(live.number, [first])
        assert (await store.checkpoints(live.number))[0] == first.after
        await store.close()
        await other.close()

    @pytest.mark.parametrize(
        "beginning",
        [
            pytest.param(lambda there: Checkpoint(EMPTY, there.digests), id="at the beginning"),
            pytest.param(lambda there: Checkpoint(head(5, "fork"), there.digests), id="at another record"),
            pytest.param(lambda there: Checkpoint(Head(4, there.head.sha256), there.digests), id="behind"),
            pytest.param(lambda there: Checkpoint(Head(6, there.head.sha256), there.digests), id="ahead"),
            pytest.param(lambda there: Checkpoint(there.head, {"wallet": 1}), id="with other rows"),
            pytest.param(lambda there: Checkpoint(there.head), id="with no rows"),
        ],
    )
    async def test_a_run_from_another_checkpoint_changes_nothing(
        self, open_store: OpenStore, beginning: Callable[[Checkpoint], Checkpoint]
    ) -> None:
        store = await open_store()
        live = await store.make_generation(1, PARTITIONS, live=True)
        first = run(0, Checkpoint(), 5, WalletRow("u1"))
        await store.commit(live.number, [first])
        with pytest.raises(Overtaken):
            await store.commit(live.number, [run(0, beginning(first.after), 9, WalletRow("u1", "closed"))])
        assert (await store.checkpoints(live.number))[0] == first.after
        assert await stored(store, live.number, 0) == [WalletRow("u1")]
        await store.close()

    async def test_runs_of_one_commit_land_together_or_not_at_all(self, open_store: OpenStore) -> None:
        store = await open_store()
        live = await store.make_generation(1, PARTITIONS, live=True)
        late = run(2, Checkpoint(head(1)), 2, WalletRow("u2"))
        good = run(
            0,
            Checkpoint(),
            1,
            WalletRow("u1"),
            quarantined=[Quarantined(0, "u3", 1, 1, "why")],
            quarantined_events=[QuarantinedEvent("u3", 1, b"record")],
        )
        for runs in ([good, late], [late, good]):
            with pytest.raises(Overtaken):
                await store.commit(live.number, runs)
            assert await store.checkpoints(live.number) == [Checkpoint()] * PARTITIONS
            assert await stored(store, live.number, 0) == []
            assert await store.quarantine(live.number) == []
            assert await store.quarantined_events(live.number, 0, "u3", 9) == []
        await store.commit(live.number, [good])
        assert await stored(store, live.number, 0) == [WalletRow("u1")]
        await store.close()

    async def test_one_of_two_concurrent_commits_is_overtaken(self, open_store: OpenStore) -> None:
        stores = [await open_store() for _ in range(3)]
        live = await stores[0].make_generation(1, PARTITIONS, live=True)
        at = Checkpoint()
        for number in range(1, 8):
            runs = [run(1, at, number, WalletRow("u1", "open", 10 * number + who), text=str(who)) for who in range(3)]
            results = await asyncio.gather(
                *(one.commit(live.number, [ours]) for one, ours in zip(stores, runs, strict=True)),
                return_exceptions=True,
            )
            (winner,) = [who for who, result in enumerate(results) if result is None]
            assert all(isinstance(result, Overtaken) for result in results if result is not None), results
            at = runs[winner].after
            assert (await stores[0].checkpoints(live.number))[1] == at
            assert await stored(stores[0], live.number, 1) == [WalletRow("u1", "open", 10 * number + winner)]
        for one in stores:
            await one.close()

    async def test_only_the_live_generation_accepts_runs(self, open_store: OpenStore) -> None:
        store = await open_store()
        live = await store.make_generation(1, PARTITIONS, live=True)
        made = await store.make_generation(1, PARTITIONS, live=False)
        first = run(0, Checkpoint(), 1, WalletRow("u1"))
        for generation, building in ((made.number, False), (live.number, True), (99, False), (99, True)):
            with pytest.raises(Switched):
                await store.commit(generation, [first], building=building)
        await store.commit(live.number, [first])
        await store.commit(made.number, [first], building=True)
        assert await stored(store, made.number, 0) == [WalletRow("u1")]
        await store.close()

    # --- quarantine ------------------------------------------------------------------------------------------------

    async def test_quarantined_events_are_kept_in_order_and_are_released(self, open_store: OpenStore) -> None:
        store = await open_store()
        live = await store.make_generation(1, PARTITIONS, live=True)
        stopped = Quarantined(1, "u1", 3, 5, "ValueError: 'quoted'")
        other = Quarantined(2, "u1", 1, 5, "another partition's")
        waiting = [QuarantinedEvent("u1", seq, b"%d\x00\xff" % seq) for seq in (3, 9, 10)]
        first = run(1, Checkpoint(), 10, quarantined=[stopped], quarantined_events=[*waiting[1:], waiting[0]])
        await store.commit(
            live.number,
            [
                first,
                run(2, Checkpoint(), 1, quarantined=[other], quarantined_events=[QuarantinedEvent("u1", 1, b"x")]),
            ],
        )
        assert sorted(await store.quarantine(live.number), key=lambda one: one.partition) == [stopped, other]
        assert await store.quarantined_events(live.number, 1, "u1", 9) == waiting
        assert await store.quarantined_events(live.number, 1, "u1", 2) == waiting[:2]
        assert await store.quarantined_events(live.number, 1, "U1", 2) == []
        rest = Quarantined(1, "u1", 10, 8, "now this one")
        second = run(1, first.after, 10, WalletRow("u1"), quarantined=[rest], released=waiting[:2])
        await store.commit(live.number, [second])
        assert await store.quarantined_events(live.number, 1, "u1", 9) == waiting[2:]
        assert rest in await store.quarantine(live.number)
        third = run(1, second.after, 10, WalletRow("u1", "open"), released=waiting[2:], free=["u1"])
        await store.commit(live.number, [third])
        assert await store.quarantined_events(live.number, 1, "u1", 9) == []
        assert await store.quarantine(live.number) == [other]
        await store.close()

    # --- switching -------------------------------------------------------------------------------------------------

    async def test_a_generation_with_the_same_rows_becomes_live(self, open_store: OpenStore) -> None:
        store, other = await open_store(), await open_store()
        live, made = await self._two(store)
        await store.switch(live.number, made.number, accept=False)
        assert [one.status for one in await other.generations()] == ["retired", "live"]
        with pytest.raises(Switched):
            await other.commit(live.number, [run(1, Checkpoint(), 1)])
        await other.commit(made.number, [run(1, Checkpoint(), 1)])
        with pytest.raises(Switched):
            await store.switch(live.number, made.number, accept=True)
        await store.drop_generation(live.number)
        assert [one.number for one in await other.generations()] == [made.number]
        await store.close()
        await other.close()

    async def test_a_generation_at_another_event_does_not_become_live(self, open_store: OpenStore) -> None:
        store = await open_store()
        live, made = await self._two(store)
        await store.commit(live.number, [run(1, Checkpoint(), 1)])
        for accept in (False, True):
            with pytest.raises(OutOfStep, match="partition 1"):
                await store.switch(live.number, made.number, accept=accept)
        assert [one.status for one in await store.generations()] == ["live", "building"]
        await store.commit(made.number, [run(1, Checkpoint(), 2)], building=True)
        with pytest.raises(OutOfStep, match="partition 1"):
            await store.switch(live.number, made.number, accept=True)
        await store.close()

    async def test_different_rows_need_accept(self, open_store: OpenStore) -> None:
        store = await open_store()
        live, made = await self._two(store)
        await store.commit(live.number, [run(3, Checkpoint(), 1, WalletRow("u1"))])
        await store.commit(made.number, [run(3, Checkpoint(), 1, WalletRow("u1", "open"))], building=True)
        with pytest.raises(Differs, match="partition 3"):
            await store.switch(live.number, made.number, accept=False)
        assert [one.status for one in await store.generations()] == ["live", "building"]
        await store.switch(live.number, made.number, accept=True)
        assert [one.status for one in await store.generations()] == ["retired", "live"]
        await store.close()

    async def test_the_last_runs_land_with_the_switch(self, open_store: OpenStore) -> None:
        store = await open_store()
        live, made = await self._two(store)
        lead = run(1, Checkpoint(), 4, WalletRow("u9"))
        await store.commit(live.number, [lead])
        seen: list[Sequence[Checkpoint]] = []

        async def last(checkpoints: Sequence[Checkpoint]) -> Sequence[Run]:
            seen.append(checkpoints)
            found = await store.load(made.number, 0, {WalletRow: {("u1",)}})
            assert found[WalletRow], "what was stored before can be read on the way"
            return [lead]

        await store.switch(live.number, made.number, accept=False, last=last)
        assert seen[0][1] == lead.after
        assert await stored(store, made.number, 1) == [WalletRow("u9")]
        assert [one.status for one in await store.generations()] == ["retired", "live"]
        await store.close()

    async def test_last_runs_that_do_not_fit_change_nothing(self, open_store: OpenStore) -> None:
        store = await open_store()
        live, made = await self._two(store)
        await store.commit(live.number, [run(1, Checkpoint(), 4, WalletRow("u9"))])

        async def other_rows(_: Sequence[Checkpoint]) -> Sequence[Run]:
            return [run(1, Checkpoint(), 4, WalletRow("u8"))]

        async def elsewhere(_: Sequence[Checkpoint]) -> Sequence[Run]:
            return [run(1, Checkpoint(head(3)), 4, WalletRow("u9"))]

        async def failing(_: Sequence[Checkpoint]) -> Sequence[Run]:
            raise OSError("the log cannot be read")

        for last, error in ((other_rows, Differs), (elsewhere, Overtaken), (failing, OSError)):
            with pytest.raises(error):
                await store.switch(live.number, made.number, accept=False, last=last)
            assert [one.status for one in await store.generations()] == ["live", "building"]
            assert (await store.checkpoints(made.number))[1] == Checkpoint()
            assert await stored(store, made.number, 1) == []
        await store.close()

    async def _two(self, store: ReadModelStore) -> tuple[Generation, Generation]:
        live = await store.make_generation(1, PARTITIONS, live=True)
        made = await store.make_generation(2, PARTITIONS, live=False)
        first = run(0, Checkpoint(), 1, WalletRow("u1"))
        await store.commit(live.number, [first])
        await store.commit(made.number, [first], building=True)
        return live, made

    # --- scanning --------------------------------------------------------------------------------------------------

    async def test_a_scan_goes_table_by_table_in_the_order_of_keys(self, open_store: OpenStore) -> None:
        store = await open_store()
        live = await store.make_generation(1, PARTITIONS, live=True)
        wallets = [WalletRow(name) for name in sorted(f"u{number}" for number in range(11_000))]
        referrals = [ReferralRow("u1", level, "") for level in range(1, 7)]
        first = run(0, Checkpoint(), 1, *reversed(wallets), *referrals)
        await store.commit(live.number, [first, run(1, Checkpoint(), 1, WalletRow("stranger"))])
        pages = [page async for page in store.scan(live.number, 0)]
        assert {checkpoint for checkpoint, _, _ in map(_hashable, pages)} == {first.after.head}
        assert [row for _, kind, page in pages for row in page if kind is WalletRow] == wallets
        assert [row for _, _, page in pages for row in page] == [*wallets, *referrals]
        await store.close()

    async def test_a_scan_returns_only_the_requested_tables_and_users(self, open_store: OpenStore) -> None:
        store = await open_store()
        live = await store.make_generation(1, PARTITIONS, live=True)
        names = ["A", "B", "a", "aa", "b", "ä"]
        wallets, accounts = [WalletRow(name) for name in names], [AccountRow("house/stakes", "INR")]
        await store.commit(live.number, [run(0, Checkpoint(), 1, *wallets, *accounts)])

        async def scanned(kinds: Sequence[type[Row]], users: Users) -> list[Row]:
            return [row async for _, _, page in store.scan(live.number, 0, kinds, users) for row in page]

        assert await scanned((WalletRow,), ALL_USERS) == wallets
        assert await scanned((AccountRow,), Users("A", "B")) == accounts, "of no one user"
        assert await scanned((WalletRow, AccountRow), Users("B", "b")) == [*wallets[1:4], *accounts]
        assert await scanned((WalletRow,), Users("b")) == wallets[4:]
        await store.close()

    async def test_a_scan_without_rows_still_returns_the_checkpoint(self, open_store: OpenStore) -> None:
        store = await open_store()
        live = await store.make_generation(1, PARTITIONS, live=True)
        first = run(0, Checkpoint(), 1)
        await store.commit(live.number, [first])
        assert {checkpoint.head async for checkpoint, _, _ in store.scan(live.number, 0)} == {first.after.head}
        with pytest.raises(Switched):
            await stored(store, 99, 0)
        await store.close()

    async def test_a_scan_shows_one_moment(self, open_store: OpenStore) -> None:
        store, other = await open_store(), await open_store()
        live = await store.make_generation(1, PARTITIONS, live=True)
        wallets = [WalletRow(f"u{number:05}") for number in range(12_000)]
        first = run(0, Checkpoint(), 1, *wallets)
        await store.commit(live.number, [first])
        pages = store.scan(live.number, 0)
        seen = [await anext(pages)]
        changed = [WalletRow(f"u{number:05}", "open") for number in range(12_000)]
        await other.commit(live.number, [run(0, first.after, 2, *changed, ReferralRow("u1", 1, ""))])
        seen += [page async for page in pages]
        assert [row for _, _, page in seen for row in page] == wallets
        assert {checkpoint.head for checkpoint, _, _ in seen} == {first.after.head}
        await store.close()
        await other.close()

    async def test_a_report_on_a_dropped_generation_is_refused(self, open_store: OpenStore) -> None:
        store = await open_store()
        live = await store.make_generation(1, PARTITIONS, live=True)
        found = [Difference(0, "u1", "wallet", "u1", "status", "open", "none")]
        await store.report(live.number, 0, 5, 6, found)
        await store.report(live.number, 0, 5, 7, found)
        with pytest.raises(Switched):
            await store.report(99, 0, 5, 6, found)
        await store.close()

    async def test_closing_again_is_harmless(self, open_store: OpenStore) -> None:
        store = await open_store()
        await store.close()
        await store.close()


def _hashable(page: tuple[Checkpoint, type[Row], Sequence[Row]]) -> tuple[Head, type[Row], int]:
    return page[0].head, page[1], len(page[2])
