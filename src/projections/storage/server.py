"""The store of a read model in a database server, the same for PostgreSQL and MySQL.

Invariants:
(1) a write is one READ COMMITTED transaction. Its first statement is the compare-and-set of the checkpoints, its
    second reads the generation's status. A transaction that waited for a switch to commit sees its effect, because
    each statement of READ COMMITTED has a new snapshot;
(2) a deadlock or a lock time-out loses nothing: the whole transaction is retried, and counted in the table
    ``retried``, where the count survives the process. It should stay at zero: no row is written by two partitions,
    and all rows are locked in the order of their keys;
(3) a generation exists once its row is in ``generation``, which is written last. MySQL commits each CREATE TABLE by
    itself; tables that a crashed process left behind are dropped by the next process that makes tables.
"""

import logging
from collections import Counter
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing, asynccontextmanager, contextmanager
from time import time_ns
from typing import Any, Final, TypeVar

import msgspec
from sqlalchemy import BigInteger, Column, Integer, MetaData, String, Table, bindparam, insert, select, update
from sqlalchemy.sql.expression import ClauseElement
from tenacity import AsyncRetrying, RetryError, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from ledger.core.record import EMPTY
from projections.models import MODELS
from projections.storage.common import Statement, ready
from projections.storage.database import Conflict, Database, Session, TableGone
from projections.storage.port import (
    ALL_USERS,
    Checked,
    Checkpoint,
    Difference,
    Generation,
    LastRuns,
    OutOfStep,
    Overtaken,
    Quarantined,
    QuarantinedEvent,
    ReadModelUnavailable,
    Run,
    Switched,
    Users,
    message_for_log,
)
from projections.storage.statements import (
    ADD_CHECKPOINT,
    ADD_EVENT,
    ADD_GENERATION,
    ADVANCE,
    CHECKED,
    CHECKPOINT_OF,
    CHECKPOINTS,
    CLEAR_DIFFERENCES,
    DELETE_EVENT,
    DELETE_GENERATION,
    DIFFERENCES,
    END_QUARANTINE,
    EVENTS,
    GENERATION_TABLES,
    GENERATIONS,
    LOCKED_CHECKPOINTS,
    QUARANTINED,
    SET_STATUS,
    STATUS,
    Compiled,
    advance_values,
    checkpoint_of,
    refuse_switch,
    scan,
)
from projections.tables.model import Models
from projections.tables.queries import Rows
from projections.tables.rows import Key, Row, is_of_user
from projections.tables.tables import (
    COMMON,
    DIFFERENCE,
    LAST_CHECK,
    QUARANTINE,
    Tables,
)

SERVER_FORMAT: Final = 1
"""Version of the tables' columns. A database of another format is refused: other nodes may be using it."""

_SCANNED_AT_ONCE: Final = 5_000
_TRIES: Final = 8
_PAUSE_S_MAX: Final = 1.0

_log = logging.getLogger(__name__)
T = TypeVar("T")

FORMAT: Final = Table(
    "read_model_format", MetaData(), Column("format", Integer, primary_key=True, autoincrement=False)
)
RETRIED: Final = Table(
    "retried",
    MetaData(),
    Column("code", String(5), primary_key=True),  # the database's error code
    Column("number", BigInteger, nullable=False),
)


_FORMAT_FOUND: Final = select(FORMAT.c.format)
_SET_FORMAT: Final = insert(FORMAT)
RETRIES: Final = select(RETRIED.c.code, RETRIED.c.number)
_ADD_RETRY: Final = insert(RETRIED)
_COUNT_RETRY: Final = (
    update(RETRIED).where(RETRIED.c.code == bindparam("of_code")).values(number=RETRIED.c.number + bindparam("more"))
)


class ServerReadModelStore:
    """``ReadModelStore`` in a database server. ``close`` also closes ``database``."""

    def __init__(self, database: Database, *, make: bool = True, models: Models = MODELS) -> None:
        """``make=False``: use existing tables only. Empty tables would look like a read model without events."""
        self._database, self._make, self._row_types = database, make, models.row_types
        self._tables: dict[int, Tables] = {}
        self._scans: dict[tuple[int, type[Row]], Statement] = {}
        self._compiled: Compiled | None = None
        self.retries = 0
        """Transactions of this process that the database rolled back and that were retried."""
        self._not_stored = Counter[str]()
        """Code → retries that are not in the database's counter yet."""

    def _of(self, generation: int) -> Tables:
        if generation not in self._tables:
            self._tables[generation] = Tables(generation, self._row_types)
        return self._tables[generation]

    async def _sql(self) -> Compiled:
        """The statements. Makes the common tables first if they do not exist."""
        if self._compiled is None:
            database = self._database
            await database.opened()
            compiled = Compiled(database.dialect)
            try:
                found = await database.look([(compiled[_FORMAT_FOUND], ())])
            except TableGone:
                found = [[]]
            if found == [[]]:
                if not self._make:
                    raise ReadModelUnavailable("the database has no read model yet: its follower makes it")
                await self._prepare(compiled)
            elif found != [[(SERVER_FORMAT,)]]:
                raise ReadModelUnavailable(
                    f"the database has a read model of format {found[0][0][0]}, and this program knows format "
                    f"{SERVER_FORMAT}: name an empty database, or empty this one; it is rebuilt from the log"
                )
            self._compiled = compiled
        return self._compiled

    async def _prepare(self, compiled: Compiled) -> None:
        async with self._alone() as session:
            for table in (*COMMON.sorted_tables, RETRIED, FORMAT):
                await session.make_table(table)
            if not await session.rows(compiled[_FORMAT_FOUND]):
                there = {code for code, _ in await session.rows(compiled[RETRIES])}
                missing = [(code, 0) for code in self._database.conflicts if code not in there]
                await session.change(compiled[_ADD_RETRY], missing)
                await session.change(compiled[_SET_FORMAT], [(SERVER_FORMAT,)])

    async def _write(self, work: Callable[[Session, Compiled], Awaitable[T]]) -> T:
        """Run ``work`` in a transaction; retry the whole of it if the database rolls it back."""
        compiled = await self._sql()
        met: list[str] = []
        try:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception_type(Conflict),
                wait=wait_random_exponential(multiplier=0.01, max=_PAUSE_S_MAX),
                stop=stop_after_attempt(_TRIES),
            ):
                with attempt:
                    try:
                        async with self._database.writing() as session:
                            done = await work(session, compiled)
                    except Conflict as conflict:
                        self._met(conflict)
                        met.append(conflict.code)
                        _log.warning("the database rolled back a transaction (%s); retrying it", conflict.code)
                        raise
        except RetryError:
            await self._store_retries()
            raise ReadModelUnavailable(
                f"the database rolled back a transaction {_TRIES} times: {', '.join(met)}"
            ) from None
        except TableGone as error:
            raise Switched(f"a table is gone: {error}") from error
        await self._store_retries()
        return done

    def _met(self, conflict: Conflict) -> None:
        self.retries += 1
        self._not_stored[conflict.code] += 1

    async def _store_retries(self) -> None:
        """Add the new conflicts to the counter in the database. Never raises an error of the database: the work
        itself is already committed or has failed. Counts that cannot be stored now are stored with the next write."""
        if not self._not_stored:
            return
        counts, self._not_stored = self._not_stored, Counter()
        # In the order of the codes: two processes never wait for each other's rows.
        adding = (await self._sql())[_COUNT_RETRY]
        values = [adding.values({"of_code": code, "more": number}) for code, number in sorted(counts.items())]
        try:
            async with self._database.writing() as session:
                await session.change(adding, values)
        except (Conflict, TableGone, ReadModelUnavailable) as error:
            self._not_stored.update(counts)
            if isinstance(error, Conflict):
                self._met(error)
            _log.warning(
                "the counter of retries could not be updated (%s); it is updated with the next write",
                message_for_log(error),
            )

    async def _rows(self, clause: ClauseElement, **given: Any) -> Rows:
        statement = (await self._sql())[clause]
        with _translated():
            (found,) = await self._database.look([(statement, statement.values(given))])
        return found

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[Session]:
        with _translated():
            async with self._database.alone() as session:
                yield session

    # --- generations ---------------------------------------------------------------------------------------------

    async def generations(self) -> list[Generation]:
        try:
            return [Generation(*row) for row in await self._rows(GENERATIONS)]
        except Switched:
            self._compiled = None  # the database was emptied: the next call makes all tables
            raise

    async def make_generation(self, version: int, partitions: int, *, live: bool) -> Generation:
        compiled = await self._sql()
        async with self._alone() as session:
            there = await session.rows(compiled[GENERATIONS])
            if live and any(status == "live" for _, _, status, _ in there):
                raise Switched("another process has just made a live generation")
            number, status = max((row[0] for row in there), default=0) + 1, "live" if live else "building"
            made = Generation(number, version, status, time_ns() // 1_000)
            tables = self._of(made.number)
            for table in tables.metadata.sorted_tables:
                await session.drop_table(table)
                await session.make_table(table)
            if live:
                await session.make_indexes(tables)
            await self._drop_named(session, compiled, made.number)
            empty = [(made.number, partition, EMPTY.seq, EMPTY.sha256, "{}") for partition in range(partitions)]
            await session.change(compiled[ADD_CHECKPOINT], empty)
            row = (made.number, version, made.status, made.made_at_us)
            await session.change(compiled[ADD_GENERATION], [row])
        self._database.forget_room(made.number)
        return made

    async def make_indexes(self, generation: int) -> None:
        await self._sql()
        async with self._alone() as session:
            await session.make_indexes(self._of(generation))

    async def drop_generation(self, generation: int) -> None:
        await self._write(lambda session, compiled: self._retire(session, compiled, generation))
        for table in self._of(generation).metadata.sorted_tables:
            async with self._alone() as session:
                await session.drop_table(table)
        await self._write(lambda session, compiled: self._drop_named(session, compiled, generation))
        self._database.forget_room(generation)

    async def _retire(self, session: Session, compiled: Compiled, generation: int) -> None:
        """After this the generation can no longer become live."""
        retire = compiled[SET_STATUS]
        values = {"number": generation, "old_status": "building", "new_status": "retired"}
        await session.change(retire, [retire.values(values)])
        if await session.rows(compiled[STATUS], [generation]) == [("live",)]:
            raise OutOfStep(f"generation {generation} is live")

    async def _drop_named(self, session: Session, compiled: Compiled, generation: int) -> None:
        for table in GENERATION_TABLES:
            await session.change(compiled[DELETE_GENERATION[table]], [[generation]])

    async def checkpoints(self, generation: int) -> list[Checkpoint]:
        rows = await self._rows(CHECKPOINTS, number=generation)
        return [checkpoint_of(seq, head, digests) for _, seq, head, digests in rows]

    async def switch(self, old: int, new: int, *, accept: bool, last: LastRuns | None = None) -> None:
        runs: Sequence[Run] = ()
        at_old: Sequence[Checkpoint] | None = None

        async def work(session: Session, compiled: Compiled) -> None:
            nonlocal runs, at_old
            # Lock the checkpoints first, the lower generation first: every process that folds locks one of these
            # rows.
            locked = {number: await self._locked(session, compiled, number) for number in sorted((old, new))}
            statuses = {number: status for number, _, status, _ in await session.rows(compiled[GENERATIONS])}
            if statuses.get(old) != "live":
                raise Switched(f"generation {old} is not the live one any more")
            if statuses.get(new) != "building":
                raise OutOfStep(f"generation {new} is not being built")
            if last is not None:
                if at_old is None:
                    at_old = locked[old]
                    runs = await last(at_old)
                elif at_old != locked[old]:
                    raise Overtaken(f"generation {old} changed before the switch was retried")
                await self._make_room(new, runs)
                await self._put_runs(session, compiled, new, runs)
                locked[new] = await self._locked(session, compiled, new)
            refuse_switch(old, new, locked[old], locked[new], accept=accept)
            flip = compiled[SET_STATUS]
            flips = [
                {"number": old, "old_status": "live", "new_status": "retired"},
                {"number": new, "old_status": "building", "new_status": "live"},
            ]
            if await session.change(flip, [flip.values(values) for values in flips]) != len(flips):
                raise Switched(f"the status of generation {old} or {new} changed")

        await self._write(work)

    async def _locked(self, session: Session, compiled: Compiled, generation: int) -> list[Checkpoint]:
        rows = await session.rows(compiled[LOCKED_CHECKPOINTS], [generation])
        return [checkpoint_of(seq, head, digests) for _, seq, head, digests in rows]

    # --- folding -------------------------------------------------------------------------------------------------

    async def load(
        self, generation: int, partition: int, wanted: Mapping[type[Row], Collection[Key]]
    ) -> dict[type[Row], list[Row]]:
        await self._sql()
        tables = self._of(generation)
        found: dict[type[Row], list[Row]] = {}
        with _translated():
            for kind, keys in wanted.items():
                rows = await self._database.load(tables.of[kind], kind.key_length, partition, sorted(keys))
                found[kind] = [kind(*row) for row in rows]
        return found

    async def commit(self, generation: int, runs: Sequence[Run], *, building: bool = False) -> None:
        wanted = "building" if building else "live"

        async def work(session: Session, compiled: Compiled) -> None:
            await self._put_runs(session, compiled, generation, runs, wanted)

        try:
            await self._make_room(generation, runs)
            await self._write(work)
        except BaseException:
            self._database.forget_room(generation)
            raise

    async def _make_room(self, generation: int, runs: Sequence[Run]) -> None:
        await self._sql()
        tables = self._of(generation)
        times_us: dict[Table, list[int]] = {}
        for run in runs:
            for kind, rows in run.rows:
                if kind.month_of is not None:
                    times_us.setdefault(tables[kind], []).extend(getattr(row, kind.month_of) for row in rows)
        with _translated():
            await self._database.make_room(generation, times_us)

    async def _put_runs(
        self,
        session: Session,
        compiled: Compiled,
        generation: int,
        runs: Sequence[Run],
        wanted: str | None = None,
    ) -> None:
        """Checkpoints, then rows. ``wanted``: the status that the generation must have, if that is not known."""
        runs = sorted(runs, key=lambda run: run.partition)
        advance = compiled[ADVANCE]
        found = await session.change(advance, [advance.values(advance_values(generation, run)) for run in runs])
        if wanted is not None:
            status = await session.rows(compiled[STATUS], [generation])
            if status != [(wanted,)]:
                raise Switched(f"generation {generation} is {status[0][0] if status else 'gone'}")
        if found != len(runs):
            places = ", ".join(f"{run.partition}:{run.before.head.seq}" for run in runs)
            raise Overtaken(f"generation {generation} is not at {places}, or has other rows")
        tables = self._of(generation)
        for kind in self._row_types:
            # The rows of all partitions together are in the order of keys, because keys begin with the partition.
            rows = [
                (run.partition, *msgspec.structs.astuple(row))
                for run in runs
                for of, changed in run.rows
                if of is kind
                for row in changed
            ]
            if rows:
                await session.put(tables.of[kind], rows)
        for run in runs:
            await self._keep_quarantine(session, compiled, generation, run)

    async def _keep_quarantine(self, session: Session, compiled: Compiled, generation: int, run: Run) -> None:
        here = (generation, run.partition)
        if run.quarantined_events:
            await session.change(compiled[ADD_EVENT], [(*here, *event) for event in run.quarantined_events])
        if run.released:
            await session.change(
                compiled[DELETE_EVENT], [(*here, event.user_id, event.seq) for event in run.released]
            )
        if run.free:
            await session.change(compiled[END_QUARANTINE], [(*here, user_id) for user_id in run.free])
        if run.quarantined:
            rows = [(*here, *_storable(one.user_id, one.seq, one.time_us, one.reason)) for one in run.quarantined]
            await session.put(QUARANTINE, sorted(rows))

    async def quarantine(self, generation: int) -> list[Quarantined]:
        return [Quarantined(*row) for row in await self._rows(QUARANTINED, number=generation)]

    async def quarantined_events(
        self, generation: int, partition: int, user_id: str, limit: int
    ) -> list[QuarantinedEvent]:
        rows = await self._rows(EVENTS, number=generation, of_partition=partition, user=user_id, most=limit)
        return [QuarantinedEvent(*row) for row in rows]

    # --- checking ------------------------------------------------------------------------------------------------

    async def scan(
        self, generation: int, partition: int, kinds: Sequence[type[Row]] | None = None, users: Users = ALL_USERS
    ) -> AsyncGenerator[tuple[Checkpoint, type[Row], Sequence[Row]], None]:
        compiled = await self._sql()
        wanted = self._row_types if kinds is None else kinds
        with _translated():
            async with self._database.looking() as session:
                at = await session.rows(compiled[CHECKPOINT_OF], [generation, partition])
                if not at:
                    raise Switched(f"generation {generation} is gone")
                checkpoint = checkpoint_of(*at[0])
                for kind in wanted:
                    here = [partition, *users] if is_of_user(kind) else [partition]
                    async with aclosing(
                        session.stream(self._scan_of(generation, kind), here, _SCANNED_AT_ONCE)
                    ) as pages:
                        async for rows in pages:
                            yield checkpoint, kind, [kind(*row) for row in rows]
                yield checkpoint, wanted[-1], ()

    def _scan_of(self, generation: int, kind: type[Row]) -> Statement:
        statement = self._scans.get((generation, kind))
        if statement is None:
            table = self._of(generation).of[kind]
            statement = ready(scan(table, kind), self._database.dialect)
            self._scans[generation, kind] = statement
        return statement

    async def report(
        self, generation: int, partition: int, seq: int, now_us: int, found: Sequence[Difference]
    ) -> None:
        differences = [(generation, *_storable(*msgspec.structs.astuple(one)), now_us) for one in found]

        async def work(session: Session, compiled: Compiled) -> None:
            if not await session.rows(compiled[STATUS], [generation]):
                raise Switched(f"generation {generation} is gone")
            await session.put(LAST_CHECK, [(generation, partition, seq, now_us, len(found))])
            await session.change(compiled[CLEAR_DIFFERENCES], [[generation, partition]])
            if differences:
                await session.put(DIFFERENCE, sorted(differences))

        await self._write(work)

    async def checked(self, generation: int) -> list[Checked]:
        return [Checked(*row) for row in await self._rows(CHECKED, number=generation)]

    async def differences(self, generation: int, limit: int) -> list[Difference]:
        rows = await self._rows(DIFFERENCES, number=generation, most=limit)
        return [Difference(*row) for row in rows]

    async def close(self) -> None:
        await self._database.close()


@contextmanager
def _translated() -> Iterator[None]:
    """Translate the errors of statements that are not retried."""
    try:
        yield
    except TableGone as error:
        raise Switched(f"a table of the generation is gone: {error}") from error
    except Conflict as conflict:
        raise ReadModelUnavailable(
            f"the database rolled the transaction back ({conflict.code}): retry later"
        ) from conflict


def _storable(*values: Any) -> tuple[Any, ...]:
    """Replace what databases cannot store: reasons may quote any text, but PostgreSQL stores no U+0000, and no
    database stores lone surrogates."""
    return tuple(
        value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
        if isinstance(value, str)
        else value
        for value in values
    )
