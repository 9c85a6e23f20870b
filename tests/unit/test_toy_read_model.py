"""A new read model is one file: this one, named in a list. Its table is created, filled, checked and read.

Everything from the table to the document follows from ``RoundRow`` and ``MODEL``, as in ``projections.models``.
"""

from pathlib import Path
from typing import Any, ClassVar, Final

from msgspec import Struct
from sqlalchemy import Select, select

from ledger.core.bet_events import BetPlaced
from ledger.core.events import Event
from ledger.core.position import Position
from ledger.core.record import EMPTY, Head
from projections.models import wallets
from projections.reads.queries import Reads
from projections.storage.port import Checkpoint, Run
from projections.storage.sqlite import SqliteReadModelStore
from projections.storage.sqlite_reader import SqliteReadModel
from projections.tables import columns
from projections.tables.model import Model, Models
from projections.tables.queries import Conditions, Query, Rows, UserRead, UserStatus, fields_of, of_one_user
from projections.tables.row_buffer import RowBuffer
from projections.tables.rows import Row, add_digests, digest_function, key_of
from projections.tables.tables import Tables
from unit.given import Scene, place_bet, settle_bet

# --- the file of a read model -------------------------------------------------------------------------------------


class RoundRow(Row):
    """A user's rounds: how many bets, and the last stake."""

    table = "round"
    key_length = 2
    indexes: ClassVar = {"round_by_last_bet": ("partition", "user_id", "last_bet_us")}

    user_id: columns.UserId
    period: columns.Text
    last_bet_us: int
    bets: columns.Small = 0
    last_stake: int | None = None
    note: columns.Json = "{}"


def needs(event: Event, buffer: RowBuffer) -> None:
    if isinstance(event.data, BetPlaced):
        buffer[RoundRow].want((event.user_id, event.data.period))


def fold(event: Event, position: Position, buffer: RowBuffer) -> None:
    match event.data:
        case BetPlaced(period=period, stake=stake):
            row = buffer[RoundRow].edit_or_add((event.user_id, period), event.time_us)
            row.bets, row.last_bet_us, row.last_stake = row.bets + 1, event.time_us, stake
            row.note = f'{{"seq":{position.seq}}}'


class Round(Struct):
    user_id: str
    periods: dict[str, tuple[int, int | None, str]]


def round_statement(tables: Tables, _: Conditions) -> Select[Any]:
    table = tables[RoundRow]
    return select(*fields_of(table)).where(of_one_user(table)).order_by(table.c.last_bet_us.desc())


def document(user: UserStatus, rows: Rows) -> Round:
    return Round(user.user_id, {period: (bets, stake, note) for period, _, bets, stake, note in rows})


MODEL: Final = Model((RoundRow,), fold, needs)
ROUNDS: Final = UserRead(Query(round_statement), document)

# --- the list that names it, and what follows from it -------------------------------------------------------------

MODELS: Final = Models((wallets.MODEL, MODEL))


class Ends:
    """A log with nothing beyond the read model."""

    partitions = 1

    def end(self, _partition: int) -> int:
        return 0

    async def end_now(self, partition: int) -> int:
        return self.end(partition)

    async def time_us(self, partition: int, seq: int) -> int:
        raise AssertionError(f"{partition}:{seq} is in the read model")


async def folded_run(store: SqliteReadModelStore, generation: int, events: list[Event], first_seq: int) -> Run:
    """The run of these events, folded over what the tables have."""
    (checkpoint,) = await store.checkpoints(generation)
    buffer = RowBuffer(MODELS.row_types, checkpoint.digests)
    for needs_of_model in MODELS.needs:
        for event in events:
            needs_of_model(event, buffer)
    buffer.fill(await store.load(generation, 0, buffer.wanted()))
    for seq, event in enumerate(events, first_seq):
        for fold_of_model in MODELS.folds:
            fold_of_model(event, Position(0, seq), buffer)
    after = Head(first_seq + len(events) - 1, "0" * 64)
    return Run(0, checkpoint, Checkpoint(after, buffer.digests()), list(buffer.changes()))


async def test_a_toy_read_model_is_created_folded_checked_and_read(tmp_path: Path) -> None:
    path = tmp_path / "read-model.sqlite3"
    store = SqliteReadModelStore(path, models=MODELS)
    live = await store.make_generation(1, partitions=1, live=True)
    assert await store.checkpoints(live.number) == [Checkpoint(EMPTY, {})]

    scene = Scene.with_cash(1_000).given(place_bet(100, "b1"), place_bet(10, "b2", period="round 8"))
    first = list(scene.events)
    await store.commit(live.number, [await folded_run(store, live.number, first, 1)])
    scene.given(settle_bet(250, "b1"), place_bet(5, "b3"))
    await store.commit(
        live.number, [await folded_run(store, live.number, scene.events[len(first) :], len(first) + 1)]
    )

    model = SqliteReadModel(path, models=MODELS)
    found = await Reads(model, Ends(), lambda: scene.now_us).read("u1", ROUNDS)
    assert found.document == Round("u1", {"round 7": (2, 5, '{"seq":6}'), "round 8": (1, 10, '{"seq":4}')})
    assert found.seqs == {0: 6}
    await model.close()

    (checkpoint,) = await store.checkpoints(live.number)
    rows = [row async for _, _, page in store.scan(live.number, 0, [RoundRow]) for row in page]
    assert [key_of(row) for row in rows] == [("u1", "round 7"), ("u1", "round 8")]
    total = 0
    for row in rows:
        total = add_digests(total, digest_function("round")(row))
    assert checkpoint.digests["round"] == total
    await store.close()


def test_the_columns_and_indexes_of_the_toy_table_come_from_its_row() -> None:
    tables = Tables(7, MODELS.row_types)
    table = tables[RoundRow]
    assert {column.name: str(column.type) for column in table.c} == {
        "partition": "INTEGER",
        "user_id": "VARCHAR(80)",
        "period": "VARCHAR(128)",
        "last_bet_us": "BIGINT",
        "bets": "INTEGER",
        "last_stake": "BIGINT",
        "note": "TEXT",
    }
    assert [column.name for column in table.primary_key] == ["partition", "user_id", "period"]
    assert [column.name for column in table.c if column.nullable] == ["last_stake"]
    assert [index.name for index in tables.indexes] == ["round_by_last_bet_g7"]
