"""The money supply, from the folded account totals: where an asset's money came from, where it is, where it went.

The supply is in wallets and in transit. A house account that paid more than it took in is a source, the others are
sinks. The balances of all accounts of an asset sum to zero, because the postings of every event do.
"""

from projections.models.accounts import AccountTotal, accounts_statement, totals_of
from projections.storage.port import ReadModel
from projections.tables.queries import Query


async def account_totals(model: ReadModel) -> list[AccountTotal]:
    """Sorted by asset, wallets first, then transit, then house. Raises ReadModelUnavailable."""
    (rows,) = await model.fetch([Query(accounts_statement)])
    return totals_of(rows)
