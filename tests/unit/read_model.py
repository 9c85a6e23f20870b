"""A read model on a real SQLite file, folded from records in lists; and the rows of a scene's events, in memory.

model = await ReadModel.folded(tmp_path, make_scenario(1).partitions)
model.sql("UPDATE {asset} SET cash = cash + 1")     # a change by hand
await model.rows()                                  # all rows of the tables
"""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

from ledger.core.position import Position
from ledger.core.record import EMPTY, Head, decode, sha256_hex
from ledger.ports import NewRecord
from ledger.sqlite.folder import EVENTS, READ_MODEL
from ledger.sqlite.log import SqliteEventLog
from projections import models as folds
from projections.models import ROW_TYPES
from projections.projecting.partition import PartitionProjector
from projections.storage.port import Checkpoint, Run
from projections.storage.sqlite import SqliteReadModelStore
from projections.tables.row_buffer import RowBuffer
from projections.tables.rows import Row, key_of
from unit.given import PARTITION, Scene

RowT = TypeVar("RowT", bound=Row)
Tables = dict[str, list[Row]]


async def write_log(folder: Path, partitions: Sequence[Sequence[bytes]]) -> None:
    """An event log that holds these records, appended some at a time."""
    log = SqliteEventLog(folder / EVENTS, len(partitions))
    for partition, records in enumerate(partitions):
        head = EMPTY
        for first in range(0, len(records), 50):
            new = [new_record(record) for record in records[first : first + 50]]
            await log.append(partition, head, new)
            head = Head(new[-1].seq, sha256_hex(new[-1].record))
    await log.close()


def new_record(record: bytes) -> NewRecord:
    place, _, event = decode(record)
    return NewRecord(place.seq, event.user_id, event.command_id, record)


class ReadModel:
    """The live generation of a store of its own, and the log that it is folded from."""

    def __init__(self, folder: Path, partitions: Sequence[Sequence[bytes]]) -> None:
        self.path = folder / READ_MODEL
        self.partitions = partitions
        self.store = SqliteReadModelStore(self.path)
        self.generation = 1

    @classmethod
    async def empty(cls, folder: Path, partitions: Sequence[Sequence[bytes]]) -> "ReadModel":
        model = cls(folder, partitions)
        made = await model.store.make_generation(folds.VERSION, len(partitions), live=True)
        model.generation = made.number
        return model

    @classmethod
    async def folded(cls, folder: Path, partitions: Sequence[Sequence[bytes]]) -> "ReadModel":
        """With every record folded, each partition at once."""
        model = await cls.empty(folder, partitions)
        for partition, records in enumerate(partitions):
            await model.fold(await model.folder(partition), records)
        return model

    async def folder(self, partition: int = 0, rows_max: int | None = None) -> PartitionProjector:
        """A new one, which begins where the tables are."""
        quarantined = [one for one in await self.store.quarantine(self.generation) if one.partition == partition]
        return PartitionProjector(
            self.store, self.generation, partition, await self.checkpoint(partition), quarantined, rows_max=rows_max
        )

    async def fold(self, folder: PartitionProjector, records: Sequence[bytes]) -> Run | None:
        """Fold and store; None where nothing continued the chain."""
        run = await folder.fold(records)
        if run is not None:
            await self.keep(folder, run)
        return run

    async def keep(self, folder: PartitionProjector, run: Run) -> None:
        await self.store.commit(self.generation, [run])
        folder.mark_stored(run)

    async def checkpoint(self, partition: int = 0) -> Checkpoint:
        return (await self.store.checkpoints(self.generation))[partition]

    async def rows(self, partition: int = 0) -> Tables:
        """All rows of the partition, in the order of keys, by their tables' names."""
        tables: Tables = {kind.table: [] for kind in ROW_TYPES}
        async for _, kind, page in self.store.scan(self.generation, partition):
            tables[kind.table] += page
        return tables

    def sql(self, statement: str, *parameters: Any) -> int:
        """By hand, on a connection of its own; ``{wallet}`` is the live table. Answers how many rows were changed."""
        names = {kind.table: f"{kind.table}_g{self.generation}" for kind in ROW_TYPES}
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            return connection.execute(statement.format(**names), parameters).rowcount


def book_of(scene: Scene) -> RowBuffer:
    """The rows of a scene's events, by all folds, in memory."""
    book = RowBuffer(ROW_TYPES, {}, complete=True)
    for seq, event in enumerate(scene.events, start=1):
        for fold in folds.FOLDS:
            fold(event, Position(PARTITION, seq), book)
    return book


def rows_of(scene: Scene, kind: type[RowT]) -> list[RowT]:
    """The rows of one table, in the order of their keys."""
    return book_of(scene)[kind].changed


def row_of(scene: Scene, kind: type[RowT], *key: Any) -> RowT:
    """One row by its key inside the partition. AssertionError where there is none."""
    (row,) = (row for row in rows_of(scene, kind) if key_of(row) == key)
    return row
