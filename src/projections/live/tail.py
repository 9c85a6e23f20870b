"""What changed in the tables, where the process has the log itself (the embedded mode): read from the log.

The follower is another process. Instead of a message from it, this one compares the ends of its log, which it has in
memory, with the checkpoints, and reads the records between two checkpoints for the names in them. Measured: with 500
commands/s it takes 1 % of a core, and a change is noticed within ``POLL_S`` after its commit.
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
"""While the tables are behind the log. Chosen: a query for the checkpoints costs 20 µs."""
_IDLE_S: Final = 0.01
_RETRY_S: Final = 0.25
_RECORDS_MAX: Final = 2_000
"""After a longer run any user may have changed. Chosen: half of what the follower stores at once."""
_CHECKPOINTS: Final = (Query(statements.checkpoints),)
_CHANGED: Final = (BALANCE, BET)


class _Data(Struct):
    game: str = ""


class _Named(Struct):
    """Those members of a record that say what it changes."""

    user_id: str
    type: str
    data: _Data


_decode: Final = msgspec.json.Decoder(_Named).decode


class LogTail:
    """Source of changes for a hub. ``end``: partition → the last seq of its log, from memory; ``records``:
    (partition, from_seq, limit) → records."""

    def __init__(
        self,
        model: ReadModel,
        partitions: int,
        end: Callable[[int], int],
        records: Callable[[int, int, int], Awaitable[list[bytes]]],
    ) -> None:
        self._model, self._partitions, self._end, self._records = model, partitions, end, records

    async def run(self, tell: Tell) -> None:
        """Tell of every change from now on, until cancelled."""
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
                        told[partition] = seq  # less than before where the tables were made again
                await asyncio.sleep(POLL_S if behind else _IDLE_S)
            except LedgerError:
                told = None  # reads report it
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
