"""The read model in a database server, beyond the contracts: conflicts, bounded pools, servers that stop and
start."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from conformance.read_model import CHECKPOINTS, wallet_of
from conformance.read_model_store import AMOUNT_MAX, PARTITIONS, run
from databases import EmptyDatabases, open_database
from deploy.local.server import Server
from deploy.local.servers import MariaDb, PostgreSql
from projections.models import ROW_TYPES
from projections.models.deposits import DepositRow
from projections.models.history import HistoryRow
from projections.models.wallets import AssetRow, WalletRow
from projections.storage.common import Statement
from projections.storage.port import (
    Checkpoint,
    Overtaken,
    Quarantined,
    QuarantinedEvent,
    ReadModelUnavailable,
    Run,
    Switched,
)
from projections.storage.server import ServerReadModelStore
from projections.storage.server_reader import ServerReadModel
from projections.tables.rows import key_of
from projections.tables.tables import Tables
from real_servers import running

pytestmark = pytest.mark.system

EACH = pytest.mark.parametrize("databases", ["postgresql", "mariadb"], indirect=True)
MONTH_US = 31 * 86_400_000_000
TIME_US = 1_700_000_000_000_000


def name_of(url: str) -> str:
    return url.rpartition("/")[2]


def line(time_us: int, seq: int) -> HistoryRow:
    return HistoryRow("u1", time_us, seq, "INR", "deposited", "", f"c{seq}", 1, 0, 0, seq, 0, 0, "{}")


# --- conflicts -----------------------------------------------------------------------------------------------------


@EACH
async def test_after_a_deadlock_the_whole_transaction_is_retried_and_counted(
    databases: EmptyDatabases, database_url: str
) -> None:
    """Another session locks a row that the run writes, and then the checkpoint that the run has locked."""
    store, model = ServerReadModelStore(open_database(database_url)), ServerReadModel(open_database(database_url))
    stranger = open_database(database_url)
    live = await store.make_generation(1, PARTITIONS, live=True)
    # More rows than the run changes: MySQL rolls back the transaction that changed fewer rows.
    wallets = [WalletRow(f"u{number:03}") for number in range(200)]
    first = run(0, Checkpoint(), 1, *wallets)
    await store.commit(live.number, [first])
    await stranger.opened()
    async with stranger.writing() as session:
        await session.change(Statement(f"UPDATE wallet_g{live.number} SET status = %s", ("to",), {}), [("x",)])
        second = run(0, first.after, 2, WalletRow("u000", "open"), WalletRow("u001", "open"))
        folding = asyncio.create_task(store.commit(live.number, [second]))
        await until_waiting(databases)
        await session.change(Statement("UPDATE checkpoint SET head = head WHERE seq >= %s", ("from",), {}), [(0,)])
    await folding
    assert store.retries == 1
    assert sum((await model.retries()).values()) == 1
    assert (await store.checkpoints(live.number))[0] == second.after
    found = await store.load(live.number, 0, {WalletRow: {("u000",), ("u002",)}})
    wallets = [WalletRow("u000", "open"), WalletRow("u002", "x")]
    assert sorted(found[WalletRow], key=key_of) == wallets, "the other session committed first"
    await stranger.close()
    await model.close()
    await store.close()


@pytest.fixture
def short_lock_time_out(databases: EmptyDatabases, database_url: str) -> Iterator[None]:
    """New connections wait for a lock for at most a second."""
    if databases.kind == "postgresql":
        databases.ask(f"ALTER DATABASE \"{name_of(database_url)}\" SET lock_timeout = '1s'")
        yield
    else:
        ((before,),) = databases.ask("SELECT @@GLOBAL.innodb_lock_wait_timeout")
        databases.ask("SET GLOBAL innodb_lock_wait_timeout = 1")
        yield
        databases.ask(f"SET GLOBAL innodb_lock_wait_timeout = {before}")


@EACH
async def test_a_conflict_in_the_counter_of_retries_fails_no_commit_and_is_counted_later(
    databases: EmptyDatabases, database_url: str, short_lock_time_out: None
) -> None:
    store, model = ServerReadModelStore(open_database(database_url)), ServerReadModel(open_database(database_url))
    wallets, counter = open_database(database_url), open_database(database_url)
    live = await store.make_generation(1, PARTITIONS, live=True)
    first = run(0, Checkpoint(), 1, WalletRow("u0"))
    await store.commit(live.number, [first])
    second = run(0, first.after, 2, WalletRow("u0", "open"))
    await wallets.opened()
    await counter.opened()
    async with counter.writing() as locks_counter:
        await locks_counter.change(Statement("UPDATE retried SET number = number + %s", ("more",), {}), [(0,)])
        async with wallets.writing() as locks_row:
            await locks_row.change(Statement(f"UPDATE wallet_g{live.number} SET status = %s", ("to",), {}), [("x",)])
            folding = asyncio.create_task(store.commit(live.number, [second]))
            async with asyncio.timeout(60):
                while store.retries == 0:  # noqa: ASYNC110 - the store only counts it
                    await asyncio.sleep(0.02)
        await folding
        assert (await store.checkpoints(live.number))[0] == second.after
        assert sum((await model.retries()).values()) == 0
    await store.commit(live.number, [run(0, second.after, 3, WalletRow("u0", "open"))])
    assert sum((await model.retries()).values()) == store.retries >= 2, "the row's conflict and the counter's"
    for one in (wallets, counter, model, store):
        await one.close()


async def until_waiting(databases: EmptyDatabases) -> None:
    """Wait until the server reports a transaction that waits for the lock of a row."""
    query = {
        "postgresql": "SELECT count(*) FROM pg_locks WHERE NOT granted",
        "mariadb": "SELECT count(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'",
    }[databases.kind]
    for _ in range(100):
        if await asyncio.to_thread(databases.ask, query) != [["0"]]:
            return
        await asyncio.sleep(0.15)  # MariaDB repeats its last result for 0.1 s
    raise AssertionError("no transaction waits for a lock")


@EACH
async def test_two_folding_stores_and_many_readers_cause_no_deadlock(database_url: str) -> None:
    """Both fold every partition, in different orders; one of them commits each run, and both continue from there."""
    stores = [ServerReadModelStore(open_database(database_url)) for _ in range(2)]
    model = ServerReadModel(open_database(database_url))
    live = await stores[0].make_generation(1, PARTITIONS, live=True)
    overtaken = 0
    done = asyncio.Event()

    async def fold(store: ServerReadModelStore, turn: int) -> None:
        nonlocal overtaken
        for _ in range(60):
            before = await store.checkpoints(live.number)
            runs = []
            for partition in range(PARTITIONS):
                seq = before[partition].head.seq + 1
                users = [f"u{number:02}" for number in range(40)]
                rows = [AssetRow(user_id, "INR", 1, cash=seq) for user_id in users]
                lines = [line(TIME_US + seq * 40 + number, seq * 40 + number) for number in range(40)]
                runs.append(run(partition, before[partition], seq, *rows, *lines))
            try:
                await store.commit(live.number, runs if turn else list(reversed(runs)))
            except Overtaken:
                overtaken += 1

    async def read() -> None:
        while not done.is_set():
            await model.fetch([CHECKPOINTS, wallet_of("u1")])

    readers = [asyncio.create_task(read()) for _ in range(3)]
    await asyncio.gather(*(fold(store, turn) for turn, store in enumerate(stores)))
    done.set()
    await asyncio.gather(*readers)
    assert overtaken, "no run was committed by the other store first"
    seqs = {checkpoint.head.seq for checkpoint in await stores[0].checkpoints(live.number)}
    assert seqs == {120 - overtaken}, "each run was committed exactly once"
    assert [store.retries for store in stores] == [0, 0]
    assert sum((await model.retries()).values()) == 0
    await model.close()
    for store in stores:
        await store.close()


@EACH
async def test_checkpoints_are_locked_in_the_order_of_partitions_for_any_order_of_runs(
    databases: EmptyDatabases, database_url: str
) -> None:
    """A transaction that waits for the first checkpoint has not locked the others yet."""
    store, stranger = ServerReadModelStore(open_database(database_url)), open_database(database_url)
    live = await store.make_generation(1, PARTITIONS, live=True)
    touch = Statement("UPDATE checkpoint SET head = head WHERE checkpoint.partition = %s", ("partition",), {})
    runs = [run(partition, Checkpoint(), 1, WalletRow("u1")) for partition in reversed(range(PARTITIONS))]
    await stranger.opened()
    async with stranger.writing() as session:
        await session.change(touch, [(0,)])
        folding = asyncio.create_task(store.commit(live.number, runs))
        await until_waiting(databases)
        await session.change(touch, [(PARTITIONS - 1,)])
    await folding
    assert store.retries == 0
    await stranger.close()
    await store.close()


@EACH
async def test_a_run_that_waited_for_the_switch_is_refused(databases: EmptyDatabases, database_url: str) -> None:
    store, other = (ServerReadModelStore(open_database(database_url)) for _ in range(2))
    live = await store.make_generation(1, PARTITIONS, live=True)
    made = await store.make_generation(2, PARTITIONS, live=False)
    folding: list[asyncio.Task[None]] = []

    async def last(_: Any) -> list[Any]:
        late = run(0, Checkpoint(), 1, WalletRow("u1"))
        folding.append(asyncio.create_task(other.commit(live.number, [late])))
        await until_waiting(databases)
        return []

    await store.switch(live.number, made.number, accept=False, last=last)
    with pytest.raises(Switched, match="is retired"):
        await folding[0]
    assert (await store.checkpoints(live.number))[0] == Checkpoint()
    await store.close()
    await other.close()


# --- what is stored ------------------------------------------------------------------------------------------------


@EACH
async def test_characters_that_a_database_does_not_store_are_replaced(database_url: str) -> None:
    """The reason of a quarantine is the message of an error, which may quote any text."""
    store = ServerReadModelStore(open_database(database_url))
    live = await store.make_generation(1, PARTITIONS, live=True)
    stopped = Quarantined(0, "u1", 1, 5, "a\0b \ud800 '\\'")
    await store.commit(live.number, [run(0, Checkpoint(), 1, quarantined=[stopped])])
    (found,) = await store.quarantine(live.number)
    assert found.reason == "a\N{REPLACEMENT CHARACTER}b ? '\\'"
    await store.close()


@EACH
async def test_a_run_of_many_long_rows_is_stored(databases: EmptyDatabases, database_url: str) -> None:
    """12 MB, although the server accepts less in one statement."""
    if databases.kind == "mariadb":
        databases.ask("SET GLOBAL max_allowed_packet = 5 * 1024 * 1024")
    store = ServerReadModelStore(open_database(database_url))
    live = await store.make_generation(1, PARTITIONS, live=True)
    data = '{"metadata":"' + "🪔" * 10_000 + '"}'
    lines = [
        HistoryRow("u1", TIME_US + seq, seq, "INR", "x", "g", "c", AMOUNT_MAX, 0, 0, 1, 0, 0, data)
        for seq in range(1, 301)
    ]
    await store.commit(live.number, [run(0, Checkpoint(), 300, *lines)])
    async for _, kind, page in store.scan(live.number, 0):
        if kind is HistoryRow:
            assert all(row == line for row, line in zip(page, lines, strict=True))
    await store.close()
    if databases.kind == "mariadb":
        databases.ask("SET GLOBAL max_allowed_packet = 16 * 1024 * 1024")


@EACH
async def test_a_run_that_does_not_change_the_checkpoint_is_committed(database_url: str) -> None:
    """An UPDATE that changes nothing still matched its row; MySQL counts it only with a flag of the connection."""
    store = ServerReadModelStore(open_database(database_url))
    live = await store.make_generation(1, PARTITIONS, live=True)
    waiting = QuarantinedEvent("u1", 1, b"record")
    await store.commit(live.number, [run(0, Checkpoint(), 1, quarantined_events=[waiting])])
    (before, *_) = await store.checkpoints(live.number)
    await store.commit(live.number, [Run(0, before, before, (), released=(waiting,))])
    assert await store.quarantined_events(live.number, 0, "u1", 5) == []
    await store.close()


@EACH
async def test_of_two_rows_with_one_key_in_a_transaction_the_later_one_is_stored(database_url: str) -> None:
    database = open_database(database_url)
    store = ServerReadModelStore(database)
    live = await store.make_generation(1, PARTITIONS, live=True)
    table, number = Tables(live.number, ROW_TYPES)[DepositRow], 200
    async with database.writing() as session:
        for order_id, seqs in (("old", range(number)), ("new", range(number // 2)), ("last", range(number // 4))):
            await session.put(table, [(0, seq, order_id, 0) for seq in seqs])
    found = [row.order_id async for _, _, page in store.scan(live.number, 0, [DepositRow]) for row in page]  # type: ignore[attr-defined]
    assert found == ["last"] * 50 + ["new"] * 50 + ["old"] * 100
    await store.close()


@EACH
async def test_a_text_that_is_too_long_is_refused_and_not_cut_off(database_url: str) -> None:
    store = ServerReadModelStore(open_database(database_url))
    live = await store.make_generation(1, PARTITIONS, live=True)
    with pytest.raises(ReadModelUnavailable, match="too long"):
        await store.commit(live.number, [run(0, Checkpoint(), 1, WalletRow("u" * 81))])
    assert (await store.checkpoints(live.number))[0] == Checkpoint()
    await store.close()


@EACH
async def test_a_database_of_another_format_is_refused(databases: EmptyDatabases, database_url: str) -> None:
    store = ServerReadModelStore(open_database(database_url))
    await store.make_generation(1, PARTITIONS, live=True)
    databases.ask("UPDATE read_model_format SET format = 99", name_of(database_url))
    other = ServerReadModelStore(open_database(database_url))
    with pytest.raises(ReadModelUnavailable, match=r"format 99.*empty"):
        await other.generations()
    await store.close()
    await other.close()


@EACH
async def test_a_database_that_was_emptied_is_filled_again(databases: EmptyDatabases, database_url: str) -> None:
    store, looking = (ServerReadModelStore(open_database(database_url), make=make) for make in (True, False))
    with pytest.raises(ReadModelUnavailable, match="has no read model yet"):
        await looking.generations()
    live = await store.make_generation(1, PARTITIONS, live=True)
    assert await looking.generations() == [live]
    names = [
        "generation",
        "checkpoint",
        "read_model_format",
        *(table.name for table in Tables(1, ROW_TYPES).of.values()),
    ]
    databases.ask(f"DROP TABLE {', '.join(names)}", name_of(database_url))
    with pytest.raises(Switched):
        await store.commit(live.number, [run(0, Checkpoint(), 1, WalletRow("u1"))])
    with pytest.raises(Switched):
        await store.generations()
    assert await store.generations() == []
    remade = await store.make_generation(1, PARTITIONS, live=True)
    assert (remade.number, remade.version, remade.status) == (live.number, live.version, live.status)
    assert remade.made_at_us > live.made_at_us
    await store.close()
    await looking.close()


@EACH
async def test_several_stores_can_create_the_tables_at_the_same_time(database_url: str) -> None:
    stores = [ServerReadModelStore(open_database(database_url, connections=2)) for _ in range(5)]

    async def begin(store: ServerReadModelStore) -> bool:
        try:
            await store.make_generation(1, PARTITIONS, live=True)
        except Switched:
            return False
        return True

    made = await asyncio.gather(*(begin(store) for store in stores))
    assert sorted(made) == [False] * 4 + [True]
    assert len(await stores[0].generations()) == 1
    for store in stores:
        await store.close()


# --- months --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("databases", ["postgresql"], indirect=True)
async def test_history_is_split_into_months_that_are_made_before_their_first_line(
    databases: EmptyDatabases, database_url: str
) -> None:
    stores = [ServerReadModelStore(open_database(database_url)) for _ in range(2)]
    live = await stores[0].make_generation(1, PARTITIONS, live=True)
    lines = [line(TIME_US + month * MONTH_US, month + 1) for month in range(4)]
    # Both need the same months at the same time.
    await asyncio.gather(
        *(store.commit(live.number, [run(at, Checkpoint(), 4, *lines)]) for at, store in enumerate(stores))
    )
    found = databases.ask(
        f"SELECT tableoid::regclass, count(*) FROM history_g{live.number} GROUP BY 1 ORDER BY 1",
        name_of(database_url),
    )
    assert found == [[f"history_g1_{month}", "2"] for month in ("2023_11", "2023_12", "2024_01", "2024_02")]
    made = databases.ask(
        "SELECT count(*) FROM pg_indexes WHERE tablename = 'history_g1_2024_02'", name_of(database_url)
    )
    assert made == [["1"]], "a month has the indexes of the whole table"
    for store in stores:
        await store.close()


@pytest.mark.parametrize("databases", ["postgresql"], indirect=True)
async def test_a_month_is_made_without_waiting_for_readers(database_url: str) -> None:
    store, other = (ServerReadModelStore(open_database(database_url)) for _ in range(2))
    live = await store.make_generation(1, PARTITIONS, live=True)
    first = run(0, Checkpoint(), 1, line(TIME_US, 1))
    await store.commit(live.number, [first])
    scan = store.scan(live.number, 0)
    await anext(scan)  # keeps its snapshot and its locks while it is open
    async with asyncio.timeout(60):
        await other.commit(live.number, [run(0, first.after, 2, line(TIME_US + 2 * MONTH_US, 2))])
    rows = [row async for _, kind, page in scan for row in page if kind is HistoryRow]
    assert rows in ([line(TIME_US, 1)], []), "the scan shows its own moment"
    await store.close()
    await other.close()


# --- pools and servers ---------------------------------------------------------------------------------------------


@EACH
async def test_a_process_has_one_pool_with_a_bounded_number_of_connections(
    databases: EmptyDatabases, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Thirty readers share three connections: on a busy machine the last of them waits longer than a user should.
    for adapter in ("mysql", "postgresql"):
        monkeypatch.setattr(f"projections.storage.{adapter}._WAIT_S", 60.0)
    database = open_database(database_url, connections=3)
    store, model = ServerReadModelStore(database), ServerReadModel(database)
    await store.make_generation(1, PARTITIONS, live=True)
    most = 0

    async def count() -> None:
        nonlocal most
        for _ in range(5):
            (found,) = await asyncio.to_thread(databases.ask, connections_to(databases, database_url))
            most = max(most, int(found[0]))

    async def read() -> None:
        for _ in range(20):
            await model.fetch([CHECKPOINTS])
            assert model.pool.size <= model.pool.size_max == 3
            await store.checkpoints(1)

    await asyncio.gather(count(), *(read() for _ in range(30)))
    assert 1 <= most <= 3
    await all_back(model)
    await store.close()
    assert databases.ask(connections_to(databases, database_url)) == [["0"]]


def connections_to(databases: EmptyDatabases, url: str) -> str:
    if databases.kind == "postgresql":
        return f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name_of(url)}'"
    return f"SELECT count(*) FROM information_schema.processlist WHERE db = '{name_of(url)}'"


async def all_back(model: ServerReadModel) -> None:
    """Wait until no connection is used: that of a reader who was cancelled may be on its way back."""
    async with asyncio.timeout(60):
        while model.pool.used:  # noqa: ASYNC110 - the pool sends no event
            await asyncio.sleep(0.01)


@EACH
async def test_the_pool_works_after_a_reader_was_cancelled(database_url: str) -> None:
    database = open_database(database_url, connections=2)
    store, model = ServerReadModelStore(database), ServerReadModel(database)
    live = await store.make_generation(1, PARTITIONS, live=True)
    await store.commit(live.number, [run(0, Checkpoint(), 1, WalletRow("u1", "open"))])
    for number in range(40):
        reading = asyncio.create_task(model.fetch([CHECKPOINTS, wallet_of("u1"), CHECKPOINTS]))
        await asyncio.sleep(number * 0.0001)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        assert (await model.fetch([wallet_of("u1")]))[0][0][4] == "open"
    await all_back(model)
    await store.close()


@pytest.fixture(params=["postgresql", "mariadb"])
def own_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """To be killed, paused and started again."""
    server: Server
    if request.param == "postgresql":
        server = PostgreSql(arguments=PostgreSql.careless)
    else:
        server = MariaDb(arguments=MariaDb.careless)
    with running(server):
        yield server


async def test_a_stopped_server_is_unavailable_and_is_used_again_after_its_restart(own_server: Any) -> None:
    store = ServerReadModelStore(open_database(own_server.url))
    model = ServerReadModel(open_database(own_server.url))
    live = await store.make_generation(1, PARTITIONS, live=True)
    first = run(0, Checkpoint(), 1, WalletRow("u1", "open"))
    await store.commit(live.number, [first])
    await asyncio.gather(*(model.fetch([wallet_of("u1")]) for _ in range(8)))
    own_server.kill()
    second = run(0, first.after, 2, WalletRow("u2", "open"))
    for _ in range(2):
        began_s = time.monotonic()
        with pytest.raises(ReadModelUnavailable):
            await model.fetch([wallet_of("u1")])
        with pytest.raises(ReadModelUnavailable):
            await store.commit(live.number, [second])
        assert time.monotonic() - began_s < 60
    fresh = ServerReadModelStore(open_database(own_server.url))
    with pytest.raises(ReadModelUnavailable):
        await fresh.generations()
    own_server.start()
    async with asyncio.timeout(60):
        while True:
            try:
                assert (await model.fetch([wallet_of("u1")]))[0][0][4] == "open"
                await store.commit(live.number, [second])
                break
            except ReadModelUnavailable:
                await asyncio.sleep(0.1)
    assert (await fresh.checkpoints(live.number))[0] == second.after, "what was stored survives the crash"
    await model.close()
    await store.close()
    await fresh.close()
