"""Reads the read model in a database server, the same for PostgreSQL and MySQL.

Invariant: a read is one READ ONLY transaction. Its first statement reads which generation is live and fixes the
snapshot.
"""

import logging
from collections.abc import Sequence
from typing import Any, Final

from projections.models import MODELS
from projections.storage.common import Statement, ready
from projections.storage.database import Conflict, Database, TableGone
from projections.storage.port import Pool, ReadModelUnavailable, message_for_log
from projections.storage.server import RETRIES
from projections.storage.statements import LIVE, Compiled
from projections.tables.model import Models
from projections.tables.queries import Builder, Query, Rows
from projections.tables.tables import Tables

_TRIES: Final = 8

_log = logging.getLogger(__name__)


class ServerReadModel:
    """``ReadModel`` in a database server, or in a replica of it. ``close`` also closes ``database``.

    Statements name the tables of a generation, so the live generation must be known first. To save a round trip, they
    are made for the generation of the last read and sent together with the query for the live generation. If another
    generation is live, all are sent again.
    """

    def __init__(self, database: Database, *, models: Models = MODELS, log_outages: bool = False) -> None:
        """``log_outages``: log the begin and the end of each time in which reads fail, with the server's address."""
        self._database, self._row_types = database, models.row_types
        self._log_outages, self._available = log_outages, True
        self._generation: int | None = None
        self._statements: dict[tuple[int, Builder, frozenset[str]], Statement] = {}
        self._tables: dict[int, Tables] = {}
        self._own: Compiled | None = None

    @property
    def pool(self) -> Pool:
        return self._database.pool

    async def _sql(self) -> Compiled:
        if self._own is None:
            await self._database.opened()
            self._own = Compiled(self._database.dialect)
        return self._own

    async def retries(self) -> dict[str, int]:
        statement = (await self._sql())[RETRIES]
        try:
            (found,) = await self._database.look([(statement, ())])
        except (TableGone, Conflict):
            return {}
        return dict(found)

    async def fetch(self, queries: Sequence[Query], *, quick: bool = False) -> list[Rows]:  # noqa: ARG002 — all are alike
        try:
            found = await self._fetch(queries)
        except ReadModelUnavailable as error:
            if self._log_outages and self._available:
                _log.warning("reads fail: %s", message_for_log(error))
            self._available = False
            raise
        if self._log_outages and not self._available:
            _log.info("reads work again")
        self._available = True
        return found

    async def _fetch(self, queries: Sequence[Query]) -> list[Rows]:
        live_now = (await self._sql())[LIVE]
        pointer: tuple[Statement, Sequence[Any]] = (live_now, live_now.values({}))
        for _ in range(_TRIES):
            generation = self._generation
            statements = [pointer]
            if generation is not None:
                statements += [self._statement(generation, query) for query in queries]
            try:
                live, *found = await self._database.look(statements)
            except TableGone:
                if generation is None:
                    break
                self._generation = None  # it was dropped after the last read
                continue
            except Conflict:  # a replica cancels a query whose snapshot it can no longer keep
                continue
            if not live:
                break
            if live[0][0] == generation:
                return found
            self._generation = live[0][0]
        raise ReadModelUnavailable("the database has no live generation yet: its follower is starting")

    def _statement(self, generation: int, query: Query) -> tuple[Statement, Sequence[Any]]:
        name = (generation, query.builder, query.conditions)
        statement = self._statements.get(name)
        if statement is None:
            tables = self._tables.get(generation)
            if tables is None:
                self._statements.clear()  # they are of earlier generations
                tables = Tables(generation, self._row_types)
                self._tables = {generation: tables}
            statement = self._statements[name] = ready(
                query.builder(tables, query.conditions), self._database.dialect
            )
        return statement, statement.values({"generation": generation, **query.values})

    async def close(self) -> None:
        await self._database.close()
