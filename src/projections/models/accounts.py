"""Accounts: house and transit totals of a partition, and all its wallets' buckets: the money supply.

An asset's supply is what stands in wallets and in transit; its sources and sinks are the house accounts. All of them
together sum to zero, because every event does.
"""

from ledger.core.events import Event
from ledger.core.position import Position
from projections.models.rows import plus
from projections.storage.row_buffer import RowBuffer


def needs(event: Event, book: RowBuffer) -> None:
    for account, asset, _ in event.postings:
        book.accounts.want((_pooled(account), asset))


def fold(event: Event, _place: Position, book: RowBuffer) -> None:
    for account, asset, amount in event.postings:
        row = book.accounts.edit_or_add((_pooled(account), asset))
        if amount > 0:
            row.credited = plus(row.credited, amount)
        else:
            row.debited = plus(row.debited, -amount)


def _pooled(account: str) -> str:
    """One account for the same bucket of all wallets: ``wallet/<user_id>/cash`` → ``wallet/cash``."""
    return f"wallet/{account.rpartition('/')[2]}" if account.startswith("wallet/") else account
