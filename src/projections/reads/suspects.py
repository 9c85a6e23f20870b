"""Which reads are suspect: the users and tables in which the background check found differences from the log.

The check runs in another process, maybe on another machine, and stores what it finds in the read model. Every service
looks there once a second. So no read needs a further query, and a read from the cache is marked too.
"""

import asyncio
import logging
from typing import Any, Final

from msgspec import Struct
from sqlalchemy import Select, bindparam, select

from ledger import background
from projections.storage.port import EVERY_USER, ReadModel, ReadModelUnavailable
from projections.tables.queries import Conditions, Query
from projections.tables.tables import DIFFERENCE, Tables

LOOK_S: Final = 1.0
PLACES_MAX: Final = 10_000
"""Chosen: some 2 MB. With more differing places every read is suspect."""
REPAIR: Final = "`stakelog project status` lists them, `stakelog project rebuild --accept` repairs them"

_log = logging.getLogger(__name__)


class _Found(Struct, frozen=True):
    """What differs from the log."""

    places: frozenset[str] = frozenset()
    """Users and accounts; an account's name is never a user's."""
    partitions: frozenset[int] = frozenset()
    """Partitions of which any user's rows may be wrong."""
    tables: frozenset[str] = frozenset()
    is_everything: bool = False


class Suspects:
    """What the background check has found, as of the last look. ``refuse``: suspect reads are refused, not marked."""

    def __init__(self, model: ReadModel) -> None:
        self.refuse = False
        self._model = model
        self._found = _Found()
        self._task: asyncio.Task[None] | None = None

    def __bool__(self) -> bool:
        """Whether any read is suspect."""
        return self._found != _Found()

    def has_user(self, user_id: str, partition: int) -> bool:
        found = self._found
        return user_id in found.places or partition in found.partitions or found.is_everything

    def has_table(self, table: str) -> bool:
        """Whether any row of the table is suspect."""
        found = self._found
        return table in found.tables or bool(found.partitions) or found.is_everything

    @property
    def warning(self) -> str:
        """One sentence for operators."""
        found = self._found
        parts = [f"{len(found.places)} users or accounts"] if found.places else []
        if found.partitions:
            parts.append(f"all users of {len(found.partitions)} partitions")
        what = "rows" if found.is_everything else f"rows of {' and of '.join(parts)}"
        done = "refused" if self.refuse else "marked as suspect"
        return f"{what} differ from the log, and reads of them are {done}: {REPAIR}"

    async def look(self) -> None:
        """Read what the check has found, and log a change. Raises ReadModelUnavailable."""
        (rows,) = await self._model.fetch([Query(_differing)])
        found = _found_in(rows)
        if found == self._found:
            return
        self._found = found
        if self:
            _log.error("the read model is wrong: %s", self.warning)
        else:
            _log.info("the read model agrees with the log again: no read is suspect any more")

    def start(self) -> None:
        """Look once a second, until ``stop``."""
        self._task = background.keep(self._look_forever, "suspect-reads")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _look_forever(self) -> None:
        while True:
            try:
                await self.look()
            except ReadModelUnavailable as error:
                # The reads report the outage. Until it ends, the last findings count.
                _log.debug("the findings of the background check cannot be read: %s", error)
            await asyncio.sleep(LOOK_S)


def _found_in(rows: Any) -> _Found:
    """``rows``: (partition, place, table) of each difference."""
    if len(rows) > PLACES_MAX:
        return _Found(is_everything=True)
    return _Found(
        frozenset(place for _, place, _ in rows if place not in ("", EVERY_USER)),
        frozenset(partition for partition, place, _ in rows if place == EVERY_USER),
        frozenset(table for _, place, table in rows if place),
    )


def _differing(_: Tables, __: Conditions) -> Select[Any]:
    of = DIFFERENCE.c
    here = select(of.partition, of.place, of.row_table).distinct()
    return here.where(of.generation == bindparam("generation")).limit(PLACES_MAX + 1)
