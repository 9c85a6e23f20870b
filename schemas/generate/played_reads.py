"""The responses to reads after the commands of ``played``: the folds make the rows, ``Reads`` reads them.

The rows are in SQLite in memory. No read waits, so the reads run without an event loop.
"""

import sqlite3
from collections.abc import Callable, Coroutine, Sequence
from contextlib import closing
from typing import Any, Final

import msgspec
from sqlalchemy import insert
from sqlalchemy.dialects import sqlite

from api.http.consistency import body_of
from ledger.core.games.rules import BUILT_IN
from ledger.core.record import EMPTY, Head
from projections.models import FOLDS, ROW_TYPES, VERSION, cohorts, house
from projections.projecting.partition import continue_chain
from projections.reads.queries import Found, Reads, at_once
from projections.storage.common import create_table, ready
from projections.tables.queries import Query, Rows
from projections.tables.row_buffer import RowBuffer
from projections.tables.tables import CHECKPOINT, COMMON, GENERATION, Tables
from schemas.generate.played import GIFT, PARTITION, START_US, USER, Example

PARTITIONS: Final = 4
"""Chosen: few enough to name them all in ``as_of``; the wallets are in partition 3 of 4, as of 16."""
_DAY_US: Final = 86_400_000_000
_START_DAY_US: Final = START_US // _DAY_US * _DAY_US
_DIALECT: Final = sqlite.dialect()
_GENERATION: Final = 1
_GAME: Final = BUILT_IN.games["wingo_30s"]

Asked = Callable[[Reads], Coroutine[Any, Any, Found]]

_ASKED: Final[dict[str, Asked]] = {
    "wallet": lambda reads: reads.wallet(USER),
    "balance": lambda reads: reads.balance(USER, START_US + 2_000_000),
    "history": lambda reads: reads.history(USER, {"asset": "INR"}, 3, None),
    "bets": lambda reads: reads.bets(USER, {}, 50, None),
    "bet": lambda reads: reads.bet(USER, "bet-1"),
    "holds": lambda reads: reads.holds(USER, 50, None),
    "hold": lambda reads: reads.hold(USER, "hold-1"),
    "transfers": lambda reads: reads.transfers(USER, 50, None),
    "grants": lambda reads: reads.grants(USER, 50, None),
    "wallets": lambda reads: reads.wallets([USER], "", 1, None),
    "adjustments": lambda reads: reads.adjustments({}, 1, None),
    "transfer": lambda reads: reads.transfer(USER, "tr-1"),
    "statistics": lambda reads: reads.statistics(USER),
    "referrals": lambda reads: reads.referrals(USER),
    "gift": lambda reads: reads.gift(GIFT),
    "orders": lambda reads: reads.orders({"kind": "withdrawal"}, 1, None),
    "order": lambda reads: reads.order(USER, "wd-1"),
    "leaderboard": lambda reads: reads.leaderboard("staked_week", "INR", START_US, 50),
    "periods": lambda reads: reads.periods(_GAME, 2, None),
    "house": lambda reads: reads.house("INR", house.Hours(0, 2**31 - 1), None, "day"),
    "movers": lambda reads: reads.movers("INR", START_US, 50),
    "cohorts": lambda reads: reads.cohorts("INR", cohorts.Registered(_START_DAY_US, _START_DAY_US + _DAY_US)),
    "period": lambda reads: reads.period(_GAME, "20261123T130000Z"),
}
"""Name of the example → the read that gives it."""


def responses(played: Sequence[Example]) -> dict[str, Any]:
    """The body of each, as a client gets it once all events are visible."""
    with closing(sqlite3.connect(":memory:")) as connection:
        model = _Model(connection)
        head = _fold(connection, model.tables, [example.record.encode() for example in played])
        reads = Reads(model, _Ends(head), lambda: START_US + _DAY_US)
        return {name: msgspec.json.decode(body_of(at_once(ask(reads)))) for name, ask in _ASKED.items()}


def _fold(connection: sqlite3.Connection, tables: Tables, records: Sequence[bytes]) -> Head:
    """Write the rows of these records, the whole of ``PARTITION``, and the checkpoints. Returns the last head."""
    chained = continue_chain(PARTITION, EMPTY, records)
    book = RowBuffer(ROW_TYPES, {}, complete=True)
    for link in chained.links:
        assert link.event is not None, link.reason
        for fold in FOLDS:
            fold(link.event, link.place, book)
    for metadata in (COMMON, tables.metadata):
        for table in metadata.sorted_tables:
            connection.execute(create_table(table, _DIALECT))
    for kind, rows in book.changes():
        values = [(PARTITION, *msgspec.structs.astuple(row)) for row in rows]
        connection.executemany(str(insert(tables.of[kind]).compile(dialect=_DIALECT)), values)
    connection.execute(str(insert(GENERATION).compile(dialect=_DIALECT)), (_GENERATION, VERSION, "live", START_US))
    heads = [chained.head if partition == PARTITION else EMPTY for partition in range(PARTITIONS)]
    connection.executemany(
        str(insert(CHECKPOINT).compile(dialect=_DIALECT)),
        [(_GENERATION, partition, head.seq, head.sha256, "{}") for partition, head in enumerate(heads)],
    )
    return chained.head


class _Model:
    """``ReadModel`` over one connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.tables = Tables(_GENERATION, ROW_TYPES)

    async def fetch(self, asks: Sequence[Query], *, quick: bool = False) -> list[Rows]:  # noqa: ARG002 - all are
        found = []
        for ask in asks:
            statement = ready(ask.builder(self.tables, ask.conditions), _DIALECT)
            values = statement.values({"generation": _GENERATION, **ask.values})
            found.append(self._connection.execute(statement.text, values).fetchall())
        return found

    async def close(self) -> None:
        self._connection.close()


class _Ends:
    """``LogEnds`` of these events: all of them are folded."""

    partitions = PARTITIONS

    def __init__(self, head: Head) -> None:
        self._head = head

    def end(self, partition: int) -> int:
        return self._head.seq if partition == PARTITION else 0

    async def end_now(self, partition: int) -> int:
        return self.end(partition)

    async def time_us(self, partition: int, seq: int) -> int:
        raise AssertionError(f"the read model has every event, also {partition}:{seq}")
