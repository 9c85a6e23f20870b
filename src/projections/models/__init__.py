"""The read models. Each file has one: its rows, its fold, its documents and its reads. This list names them all.

To add a column, change the file of its read model only. To add a read model, write its file and name it in
``MODELS``. Raise ``VERSION`` in both cases.
"""

from typing import Final

from projections.models import (
    accounts,
    adjustments,
    bets,
    deposits,
    gifts,
    grants,
    history,
    holds,
    house,
    leaderboards,
    orders,
    periods,
    referral_codes,
    referrals,
    statistics,
    transfers,
    wallet_list,
    wallets,
)
from projections.tables.model import Models

VERSION: Final = 11
"""Version of the meaning of the rows. Raise it with every change that makes other rows from the same events: only
generations of this version are folded further, and a rebuild lists the differences. A test detects a change that did
not raise it."""

MODELS: Final = Models(
    (
        wallets.MODEL,
        wallet_list.MODEL,
        history.MODEL,
        orders.MODEL,
        holds.MODEL,
        transfers.MODEL,
        grants.MODEL,
        adjustments.MODEL,
        statistics.MODEL,
        leaderboards.MODEL,
        referrals.MODEL,
        deposits.MODEL,
        accounts.MODEL,
        gifts.MODEL,
        referral_codes.MODEL,
        periods.MODEL,
        house.MODEL,
        bets.MODEL,  # last: other folds read a bet as it was before the event
    )
)

ROW_TYPES: Final = MODELS.row_types
NEEDS: Final = MODELS.needs
THEN_NEEDS: Final = MODELS.then_needs
FOLDS: Final = MODELS.folds
TYPES_OF: Final = MODELS.types_of
BY_USER: Final = MODELS.by_user
BY_PARTITION: Final = MODELS.by_partition
