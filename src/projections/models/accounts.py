"""Accounts: totals of a partition's house and transit accounts, and of all its wallets' buckets: the money supply.

An asset's supply is in wallets and in transit; its sources and sinks are the house accounts. The balances of all
accounts of an asset sum to zero, because the postings of every event do.
"""

from typing import Any, Final

from msgspec import Struct
from sqlalchemy import Select, select

from ledger.core.events import Event
from ledger.core.position import Position
from projections.tables import columns
from projections.tables.model import Model
from projections.tables.queries import Conditions, Rows
from projections.tables.row_buffer import RowBuffer
from projections.tables.rows import Row, plus
from projections.tables.tables import Tables

# --- rows and fold --------------------


class AccountRow(Row):
    """What one account of a partition took in and gave out, in minor units.

    Accounts are ``house/…``, ``transit/…``, and ``wallet/cash|bonus|held`` for all wallets of the partition together.
    Sums are decimal texts, as in statistics: house accounts have no bound.
    """

    table = "account"
    key_length = 2

    account: columns.UserId
    asset: columns.AssetCode
    credited: columns.Sum = "0"
    debited: columns.Sum = "0"


def needs(event: Event, buffer: RowBuffer) -> None:
    for account, asset, _ in event.postings:
        buffer[AccountRow].want((_pooled(account), asset))


def fold(event: Event, _position: Position, buffer: RowBuffer) -> None:
    for account, asset, amount in event.postings:
        row = buffer[AccountRow].edit_or_add((_pooled(account), asset))
        if amount > 0:
            row.credited = plus(row.credited, amount)
        else:
            row.debited = plus(row.debited, -amount)


def _pooled(account: str) -> str:
    """One account for the same bucket of all wallets: ``wallet/<user_id>/cash`` → ``wallet/cash``."""
    return _OF_ALL_WALLETS[account.rpartition("/")[2]] if account.startswith("wallet/") else account


_OF_ALL_WALLETS: Final = {bucket: f"wallet/{bucket}" for bucket in ("cash", "bonus", "held")}


MODEL: Final = Model((AccountRow,), fold, needs)


# --- reads

_ROOTS: Final = ("wallet", "transit", "house")


class AccountTotal(Struct, frozen=True):
    """Of all partitions together, in minor units. ``wallet/cash`` is that bucket of all wallets together."""

    account: str
    asset: str
    credited: int
    debited: int

    @property
    def balance(self) -> int:
        return self.credited - self.debited


def accounts_statement(tables: Tables, _: Conditions) -> Select[Any]:
    """(partition, account, asset, credited, debited) of all partitions."""
    return select(*tables[AccountRow].c)


def totals_of(rows: Rows) -> list[AccountTotal]:
    """Of the rows of ``accounts_statement``: sorted by asset, wallets first, then transit, then house."""
    sums: dict[tuple[str, str], list[int]] = {}
    for _, account, asset, credited, debited in rows:
        total = sums.setdefault((asset, account), [0, 0])
        total[0] += int(credited)
        total[1] += int(debited)
    ordered = sorted(sums, key=lambda key: (key[0], _ROOTS.index(key[1].partition("/")[0]), key[1]))
    return [AccountTotal(account, asset, *sums[asset, account]) for asset, account in ordered]
