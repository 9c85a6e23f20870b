"""Wallets: status, referrer, first deposit; and per asset the balances and limits."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct

from ledger.core.events import Deposited, Event, LimitsSet, WalletClosed, WalletFrozen, WalletOpened, WalletUnfrozen
from ledger.core.position import Position
from projections.storage.row_buffer import RowBuffer
from projections.tables.fields import (
    Amount,
    AmountOrZero,
    Asset,
    AssetText,
    Buckets,
    EventPosition,
    Id,
    TimeUs,
    UserId,
)

_STATUS_AFTER: dict[type, str] = {WalletFrozen: "frozen", WalletUnfrozen: "open", WalletClosed: "closed"}


class Available(Buckets, gc=False):
    """What a wallet has of one asset, and what bets can take of it, in the asset's minor unit."""

    available: Annotated[int, Meta(description="What a bet can take: cash + credit_limit", examples=[678_500])]


Limit = Annotated[AmountOrZero | None, Meta(examples=[500_000])]


class Limits(Struct, gc=False):
    """A wallet's limits for one asset, in the asset's minor unit."""

    credit_limit: Annotated[AmountOrZero, Meta(description="How far bets may take cash below 0", examples=[20_000])]
    balance_max: Annotated[Limit, Meta(description="Upper bound of cash + bonus + held; null: no limit")]
    stake_max_per_day: Annotated[Limit, Meta(description="Upper bound of the stakes of one UTC day; null: no limit")]
    withdrawal_max_per_day: Annotated[
        Limit, Meta(description="Upper bound of the withdrawals of one UTC day; null: no limit")
    ]


class FirstDeposit(Struct, gc=False):
    """The wallet's first deposit."""

    order_id: Annotated[Id, Meta(description="The deposit's order", examples=["dep-1"])]
    asset: Asset
    amount: Amount
    position: EventPosition
    time_us: TimeUs


class Wallet(Struct, gc=False):
    """A wallet. An asset appears once it was moved or limited."""

    user_id: UserId
    status: Annotated[
        Literal["open", "frozen", "closed"],
        Meta(description="Frozen: no bets and no withdrawals; closed: no commands at all", examples=["open"]),
    ]
    opened_at_us: TimeUs
    referrer_id: Annotated[
        UserId | None, Meta(description="The referrer, as named when the wallet was opened", examples=["agent-1"])
    ]
    balances: Annotated[dict[AssetText, Available], Meta(description="Asset to balance")]
    limits: Annotated[dict[AssetText, Limits], Meta(description="Asset to limits")]
    first_deposit: Annotated[FirstDeposit | None, Meta(description="null before the first deposit")]


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
