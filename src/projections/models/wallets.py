"""Wallets: status, referrer, first deposit; and per asset the balances and limits."""

from msgspec import UNSET

from ledger.core.events import Deposited, Event, LimitsSet, WalletClosed, WalletFrozen, WalletOpened, WalletUnfrozen
from ledger.core.position import Position
from projections.storage.row_buffer import RowBuffer

_STATUS_AFTER: dict[type, str] = {WalletFrozen: "frozen", WalletUnfrozen: "open", WalletClosed: "closed"}


def needs(event: Event, book: RowBuffer) -> None:
    user_id, data = event.user_id, event.data
    for asset in event.balances:
        book.assets.want((user_id, asset))
    match data:
        case LimitsSet():
            book.assets.want((user_id, data.asset))
        case WalletOpened() | WalletFrozen() | WalletUnfrozen() | WalletClosed():
            book.wallets.want((user_id,))
        case Deposited(first_deposit=True):
            book.wallets.want((user_id,))


def fold(event: Event, place: Position, book: RowBuffer) -> None:
    user_id, data = event.user_id, event.data
    for asset, balance in event.balances.items():
        row = book.assets.edit_or_add((user_id, asset), event.time_us)
        row.cash, row.bonus, row.held = balance.cash, balance.bonus, balance.held
    match data:
        case LimitsSet():
            _limit(event, data, book)
        case WalletOpened():
            wallet = book.wallets.edit_or_add((user_id,))
            wallet.status = "open"
            wallet.opened_at_us = event.time_us
            wallet.referrer_id = data.referrer_id
        case Deposited(first_deposit=True):
            wallet = book.wallets.edit_or_add((user_id,))
            wallet.first_order_id = data.order_id
            wallet.first_asset = data.asset
            wallet.first_amount = data.amount
            wallet.first_position = str(place)
            wallet.first_time_us = event.time_us
        case WalletFrozen() | WalletUnfrozen() | WalletClosed():
            book.wallets.edit((user_id,)).status = _STATUS_AFTER[type(data)]


def _limit(event: Event, data: LimitsSet, book: RowBuffer) -> None:
    row = book.assets.edit_or_add((event.user_id, data.asset), event.time_us)
    if data.credit_limit is not UNSET:
        row.credit_limit = data.credit_limit or 0
    if data.balance_max is not UNSET:
        row.balance_max = data.balance_max
    if data.stake_max_per_day is not UNSET:
        row.stake_max_per_day = data.stake_max_per_day
    if data.withdrawal_max_per_day is not UNSET:
        row.withdrawal_max_per_day = data.withdrawal_max_per_day
