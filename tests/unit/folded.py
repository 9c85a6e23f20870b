"""A log and a read model in files, as the service has them, and the rows that the tables must have at the end.

beside = Folder(tmp_path, scenario.partitions)   # an event log with the first half of a scenario
await beside.append_rest()
assert await beside.tables() == await from_scratch(tmp_path / "other", scenario.partitions)
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from ledger.core.record import EMPTY, Head, decode, sha256_hex
from ledger.ports import NewRecord
from ledger.sqlite.folder import EVENTS, READ_MODEL
from ledger.sqlite.log import SqliteEventLog
from ledger.sqlite.readers import SqliteLogReader
from projections.models import ROW_TYPES, VERSION
from projections.projecting.partition import PartitionProjector
from projections.storage.port import Checkpoint, ReadModelStore
from projections.storage.sqlite import SqliteReadModelStore
from projections.tables.rows import add_digests, digest_function
from sqlite_log import damage

PAGE: Final = 97

Tables = list[tuple[Checkpoint, dict[str, list[Any]]]]
"""For each partition its checkpoint, and every row of every table in the order of keys."""


class Folder:
    """A data folder with a log, written as far as a test wants it, and the way into its read model."""

    def __init__(self, path: Path, partitions: Sequence[Sequence[bytes]]) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self._partitions = partitions
        self._written = [0] * len(partitions)
        self._heads = [EMPTY] * len(partitions)

    async def append(self, share: float = 1.0) -> None:
        """Write every partition up to this share of it."""
        log = SqliteEventLog(self.path / EVENTS, len(self._partitions))
        for partition, records in enumerate(self._partitions):
            run = records[self._written[partition] : round(len(records) * share)]
            if run:
                await log.append(partition, self._heads[partition], new_records(run))
                self._heads[partition] = Head(decode(run[-1]).position.seq, sha256_hex(run[-1]))
                self._written[partition] += len(run)
        await log.close()

    def reader(self) -> SqliteLogReader:
        return SqliteLogReader(self.path / EVENTS)

    def store(self) -> SqliteReadModelStore:
        return SqliteReadModelStore(self.path / READ_MODEL)

    def damage(self, sql: str, *values: Any) -> None:
        """Change the log as no program may."""
        damage(self.path / EVENTS, sql, *values)


def new_records(records: Sequence[bytes]) -> list[NewRecord]:
    made = []
    for record in records:
        place, _, event = decode(record)
        made.append(NewRecord(place.seq, event.user_id, event.command_id, record))
    return made


async def tables(store: ReadModelStore, generation: int, partitions: int) -> Tables:
    """All that the generation holds; its digests are recomputed from the rows on the way."""
    found: Tables = []
    for partition in range(partitions):
        rows: dict[str, list[Any]] = {kind.table: [] for kind in ROW_TYPES}
        digests = dict.fromkeys(rows, 0)
        checkpoint = Checkpoint()
        async for at, kind, page in store.scan(generation, partition):
            checkpoint = at
            rows[kind.table] += page
            for row in page:
                digests[kind.table] = add_digests(digests[kind.table], digest_function(kind.table)(row))
        if checkpoint.digests:
            digests = {table: digest for table, digest in digests.items() if rows[table]}
            assert digests == checkpoint.digests, f"partition {partition}: the digests are not those of the rows"
        found.append((checkpoint, rows))
    return found


async def live_tables(folder: Path, partitions: int) -> Tables:
    store = SqliteReadModelStore(folder / READ_MODEL)
    try:
        (live,) = [one for one in await store.generations() if one.status == "live"]
        assert await store.quarantine(live.number) == []
        return await tables(store, live.number, partitions)
    finally:
        await store.close()


async def from_scratch(path: Path, partitions: Sequence[Sequence[bytes]]) -> Tables:
    """What a fold of whole partitions, from an empty read model, makes of them."""
    store = Folder(path, partitions).store()
    try:
        made = await store.make_generation(VERSION, len(partitions), live=True)
        for partition, records in enumerate(partitions):
            folder = PartitionProjector(store, made.number, partition, Checkpoint(), [])
            for start in range(0, len(records), PAGE):
                run = await folder.fold(records[start : start + PAGE])
                assert run is not None
                await store.commit(made.number, [run])
                folder.mark_stored(run)
        return await tables(store, made.number, len(partitions))
    finally:
        await store.close()
