"""The folds: pure functions from events to rows, one file per read model.

Each module has three functions, called for each event of a partition, in order:

``needs(event, book)``    ask the book for the rows that ``fold`` will read
``then_needs(event, book)``  … and for those whose keys only the first ones tell (modules that have any)
``fold(event, place, book)``  change the rows

A fold never refuses: an event is a fact. One that it cannot digest is an exception, and stops that user's rows.
"""

from typing import Final

from projections.models import (
    accounts,
    bets,
    deposits,
    history,
    holds,
    leaderboards,
    orders,
    referrals,
    statistics,
    transfers,
    wallets,
)

VERSION: Final = 1
"""Of what the rows mean. Raise it with every change that makes other rows of the same events: generations of other
versions are not folded on, and a rebuild lists what differs. A test notices a change that did not raise it."""

# bets comes last: the others look at a bet as it was before its event.
NEEDS: Final = (
    wallets.needs,
    deposits.needs,
    orders.needs,
    holds.needs,
    transfers.needs,
    statistics.needs,
    leaderboards.needs,
    referrals.needs,
    accounts.needs,
    bets.needs,
)
THEN_NEEDS: Final = (orders.then_needs, statistics.then_needs, leaderboards.then_needs)
FOLDS: Final = (
    wallets.fold,
    history.fold,
    orders.fold,
    holds.fold,
    transfers.fold,
    statistics.fold,
    leaderboards.fold,
    referrals.fold,
    deposits.fold,
    accounts.fold,
    bets.fold,
)
WHOLE_FOLDS: Final = (deposits.fold, accounts.fold)
"""Those of the tables whose rows are not of one user each; they read no rows of the others."""
