"""Pay tables and rules of money flows in the form in which ``audit.verify`` takes them: JSON by digest."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ledger.core.games.tables import PayTable
    from ledger.core.money_rules import Money


def forms_of_tables(tables: "Mapping[str, PayTable]") -> dict[str, bytes]:
    """``tables``: pay tables by digest."""
    from ledger.core.games.tables import canonical

    return {digest: canonical(table) for digest, table in tables.items()}


def forms_of_money(kept: "Mapping[str, Money]") -> dict[str, bytes]:
    """``kept``: sets of rules of money flows by digest."""
    from ledger.core.money_rules import canonical

    return {digest: canonical(money) for digest, money in kept.items()}
