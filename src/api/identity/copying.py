"""Copies clients, tokens and keys from one database to another, when one process becomes many nodes.

Invariants:
(1) rows that are there already are left as they are; a copy that was interrupted is continued by the next one;
(2) if the target has a different row under the same key, the copy is refused.
"""

from typing import Any, Final

from sqlalchemy import Table, insert, select

from api.identity.database import IdentityDatabase
from api.identity.tables import METADATA
from ledger.errors import LedgerError

_AT_ONCE: Final = 1_000
"""Rows of one transaction. Chosen: a fraction of its time limit."""


class OtherRows(LedgerError):
    """The database has other clients or keys."""


async def copy_identity(source: IdentityDatabase, target: IdentityDatabase) -> int:
    """Returns how many rows are in the target now. Raises OtherRows, IdentityUnavailable."""
    count = 0
    for table in METADATA.sorted_tables:
        rows, known = await _rows(source, table), await _rows(target, table)
        for key, row in rows.items():
            if known.get(key, row) != row:
                raise OtherRows(
                    f"the target database already has different rows in {table.name}: it belongs to another ledger, "
                    "or nodes have used it. Set STAKELOG_IDENTITY to an empty database"
                )
        new = [row for key, row in rows.items() if key not in known]
        for begin in range(0, len(new), _AT_ONCE):
            async with target.transaction() as connection:
                await connection.execute(insert(table), new[begin : begin + _AT_ONCE])
        count += len(rows)
    return count


async def _rows(database: IdentityDatabase, table: Table) -> dict[tuple[Any, ...], dict[str, Any]]:
    """By primary key."""
    async with database.transaction() as connection:
        found = await connection.execute(select(table))
        rows = [{column.key: row._mapping[column] for column in table.columns} for row in found]
    return {tuple(row[column.key] for column in table.primary_key): row for row in rows}
