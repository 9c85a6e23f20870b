"""The pay tables and the rules of money flows of a folder's log, in the form in which ``audit.verify`` takes them."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ledger.sqlite.readers import SqliteRecords


def kept_tables(records: "SqliteRecords") -> dict[str, bytes]:
    """The pay tables that the log keeps, as JSON by digest. Raises LogUnreadable."""
    from ledger.core.games.tables import canonical

    return {digest: canonical(table) for digest, table in records.tables().items()}


def kept_money(records: "SqliteRecords") -> dict[str, bytes]:
    """The sets of rules of money flows that the log keeps, as JSON by digest. Raises LogUnreadable."""
    from ledger.core.money_rules import canonical

    return {digest: canonical(money) for digest, money in records.money_rules().items()}
