"""The source of changes in embedded mode: finds out from the log which users and games changed in the tables.

The tables are filled by another process, the follower, which sends no messages. So this process compares the ends of
its log, which it has in memory, with the checkpoints in the tables. It reads the records between the previous
checkpoint and the present one, and takes the names of users and games from them. It looks every ``POLL_S`` while the
tables are behind the log, and every ``_IDLE_S`` otherwise.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from msgspec import Struct

from ledger.errors import LedgerError
from projections.live.port import ANY_GAME, BALANCE, BET, Change, Gap, Tell
from projections.reads import statements
from projections.storage.port import ReadModel
from projections.tables.queries import Query

POLL_S: Final = 0.005
"""Between two looks while the tables are behind the log. Chosen: a query for the checkpoints costs 20 µs."""
_IDLE_S: Final = 0.01
"""Between two looks at the ends of the log while the tables have reached them. Chosen."""
_RETRY_S: Final = 0.25
_RECORDS_MAX: Final = 2_000
"""After a longer run any user may have changed. Chosen: half of what the follower stores at once."""
_CHECKPOINTS: Final = (Query(statements.checkpoints),)
_CHANGED: Final = (BALANCE, BET)


class _Data(Struct):
    game: str = ""


class _Named(Struct):
    """The members of a record that say which user and game it changes."""

    user_id: str
    type: str
    data: _Data


_decode: Final = msgspec.json.Decoder(_Named).decode


class LogTail:
    """The source of changes for a hub. ``end``: partition → the last seq of its log, from memory. ``records``:
    (partition, first seq, how many) → the encoded records from that seq on."""

    def __init__(
        self,
        model: ReadModel,
        partitions: int,
        end: Callable[[int], int],
        records: Callable[[int, int, int], Awaitable[list[bytes]]],
    ) -> None:
        self._model, self._partitions, self._end, self._records = model, partitions, end, records

    async def run(self, tell: Tell) -> None:
        """Call ``tell`` with every change from now on, until cancelled. Begins with a ``Gap``, and sends another one
        after each failure to read."""
        told: dict[int, int] | None = None
        while True:
            try:
                if told is None:
                    told = await self._checkpoints()
                    tell(Gap(None, 0))
                behind = [one for one in range(self._partitions) if self._end(one) > told[one]]
                if behind:
                    folded = await self._checkpoints()
                    for partition in behind:
                        before, seq = told[partition], folded[partition]
                        if seq > before:
                            tell(await self._change(partition, before, seq))
                        told[partition] = seq  # less than before if the tables were rebuilt
                await asyncio.sleep(POLL_S if behind else _IDLE_S)
            except LedgerError:
                told = None  # not logged here: the reads of clients fail, too, and report it
                await asyncio.sleep(_RETRY_S)

    async def _checkpoints(self) -> dict[int, int]:
        (rows,) = await self._model.fetch(_CHECKPOINTS, quick=True)
        return dict(rows)

    async def _change(self, partition: int, before: int, seq: int) -> Change:
        if seq - before > _RECORDS_MAX:
            return Change(partition, before, seq, all_users=True)
        records = [_decode(record) for record in await self._records(partition, before + 1, seq - before)]
        users = {record.user_id: _CHANGED for record in records}
        games = {record.data.game for record in records if record.type == "bet_placed"}
        if any(record.type == "bet_cancelled" for record in records):
            games.add(ANY_GAME)  # the record does not name the game of its bet
        return Change(partition, before, seq, users, tuple(games))
