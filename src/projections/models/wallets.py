"""Wallets: status, referrer and first deposit; and per asset the balances and limits."""

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType
from sqlalchemy import Select, select

from ledger.core.bet_events import BetCancelled, BetPlaced
from ledger.core.bonus_events import AttendanceClaimed, BonusGranted
from ledger.core.events import (
    Deposited,
    Event,
    LimitsSet,
    Reversed,
    WalletClosed,
    WalletFrozen,
    WalletOpened,
    WalletUnfrozen,
)
from ledger.core.gift_events import GiftReceived, ReferrerSet
from ledger.core.money import AMOUNT_MAX
from ledger.core.position import Position
from projections.models.bets import BetRow
from projections.models.deposits import DepositRow, reversed_seq
from projections.models.grants import GrantEventRow
from projections.tables import columns
from projections.tables.fields import (
    Amount,
    AmountOrZero,
    Asset,
    AssetText,
    Buckets,
    EventPosition,
    Id,
    Sum,
    TimeUs,
    UserId,
)
from projections.tables.model import Model
from projections.tables.queries import Conditions, Query, Rows, UserRead, fields_of, of_one_user
from projections.tables.row_buffer import RowBuffer
from projections.tables.rows import Row, plus
from projections.tables.tables import Tables

# --- rows and fold --------------------


class WalletRow(Row):
    """``status`` is ``none`` until the wallet is opened, whatever came before."""

    table = "wallet"
    key_length = 1

    user_id: columns.UserId
    status: columns.Status = "none"
    opened_at_us: int | None = None
    referrer_id: columns.UserId | None = None
    first_order_id: columns.Id | None = None
    first_asset: columns.AssetCode | None = None
    first_amount: int | None = None
    first_position: columns.PositionText | None = None
    first_time_us: int | None = None


class AssetRow(Row):
    """A wallet's buckets, limits and wagering of one asset, in minor units. It exists from the first event on that
    moved or limited the asset, at ``since_us``. A limit of None is no limit. What is staked has no bound: it is a
    decimal text."""

    table = "asset"
    key_length = 2

    user_id: columns.UserId
    asset: columns.AssetCode
    since_us: int
    cash: int = 0
    bonus: int = 0
    held: int = 0
    credit_limit: int = 0
    balance_max: int | None = None
    stake_max_per_day: int | None = None
    withdrawal_max_per_day: int | None = None
    wagering_first: int | None = None
    """The seq of the event that began the first window of wagering; None: nothing was ever required."""
    wagering_since: int | None = None
    """The seq of the event that began the current window."""
    wagering_required: int = 0
    wagering_done: columns.Sum = "0"
    wagering_surplus: columns.Sum = "0"
    """What was staked in the earlier windows beyond what they required."""


def needs(event: Event, buffer: RowBuffer) -> None:
    user_id, data = event.user_id, event.data
    for asset in event.balances:
        buffer[AssetRow].want((user_id, asset))
    match data:
        case LimitsSet():
            buffer[AssetRow].want((user_id, data.asset))
        case WalletOpened() | WalletFrozen() | WalletUnfrozen() | WalletClosed() | ReferrerSet():
            buffer[WalletRow].want((user_id,))
        case Deposited(first_deposit=True):
            buffer[WalletRow].want((user_id,))
        case BetCancelled():
            buffer[BetRow].want((user_id, data.bet_id))
        case Reversed():
            seq = reversed_seq(data)
            buffer[DepositRow].want((seq,))
            buffer[GrantEventRow].want((user_id, seq))


def fold(event: Event, position: Position, buffer: RowBuffer) -> None:
    user_id, data = event.user_id, event.data
    for asset, balance in event.balances.items():
        row = buffer[AssetRow].edit_or_add((user_id, asset), event.time_us)
        row.cash, row.bonus, row.held = balance.cash, balance.bonus, balance.held
        _wager(event, position, buffer, row)
    match data:
        case LimitsSet():
            _limit(event, data, buffer)
        case WalletOpened():
            wallet = buffer[WalletRow].edit_or_add((user_id,))
            wallet.status = "open"
            wallet.opened_at_us = event.time_us
            wallet.referrer_id = data.referrer_id
        case ReferrerSet():
            buffer[WalletRow].edit((user_id,)).referrer_id = data.referrer_id
        case Deposited(first_deposit=True):
            wallet = buffer[WalletRow].edit_or_add((user_id,))
            wallet.first_order_id = data.order_id
            wallet.first_asset = data.asset
            wallet.first_amount = data.amount
            wallet.first_position = str(position)
            wallet.first_time_us = event.time_us
        case WalletFrozen() | WalletUnfrozen() | WalletClosed():
            buffer[WalletRow].edit((user_id,)).status = _STATUS_AFTER[type(data)]


def _wager(event: Event, position: Position, buffer: RowBuffer, row: AssetRow) -> None:
    """Change the wagering as the writer does (``ledger.core.wagering``). A bet or an addition whose seq is below
    ``wagering_since`` is of an earlier window; a bet from before the first window has never counted."""
    data = event.data
    match data:
        case BetPlaced() if row.wagering_since is not None:
            row.wagering_done = plus(row.wagering_done, data.stake)
        case BetCancelled() if row.wagering_since is not None:
            bet = buffer[BetRow].get((event.user_id, data.bet_id))
            assert bet is not None, event
            _cancel_stake(row, bet)
        case Deposited() | BonusGranted() | AttendanceClaimed() | GiftReceived() if data.wagering is not None:
            if int(row.wagering_done) >= row.wagering_required:
                row.wagering_surplus = plus(row.wagering_surplus, int(row.wagering_done) - row.wagering_required)
                row.wagering_since, row.wagering_required, row.wagering_done = position.seq, 0, "0"
                row.wagering_first = row.wagering_first or position.seq
            row.wagering_required += data.wagering
        case Reversed() if row.wagering_since is not None:
            added = _added_by(event.user_id, reversed_seq(data), buffer)
            if reversed_seq(data) >= row.wagering_since:
                row.wagering_required -= added
            else:
                row.wagering_surplus = plus(row.wagering_surplus, added)


def _cancel_stake(row: AssetRow, bet: BetRow) -> None:
    assert row.wagering_first is not None, row
    assert row.wagering_since is not None, row
    if bet.seq < row.wagering_first:
        return
    if bet.seq > row.wagering_since:
        row.wagering_done = plus(row.wagering_done, -bet.stake)
        return
    spare = min(bet.stake, int(row.wagering_surplus))
    row.wagering_surplus = plus(row.wagering_surplus, -spare)
    row.wagering_required = min(row.wagering_required + bet.stake - spare, AMOUNT_MAX)


def _added_by(user_id: str, seq: int, buffer: RowBuffer) -> int:
    """What the deposit or the grant at ``seq`` added to the wagering."""
    deposit = buffer[DepositRow].get((seq,))
    if deposit is not None:
        return deposit.wagering
    granted = buffer[GrantEventRow].get((user_id, seq))
    return 0 if granted is None else granted.wagering


def _limit(event: Event, data: LimitsSet, buffer: RowBuffer) -> None:
    row = buffer[AssetRow].edit_or_add((event.user_id, data.asset), event.time_us)
    if data.credit_limit is not UNSET:
        row.credit_limit = data.credit_limit or 0
    if data.balance_max is not UNSET:
        row.balance_max = data.balance_max
    if data.stake_max_per_day is not UNSET:
        row.stake_max_per_day = data.stake_max_per_day
    if data.withdrawal_max_per_day is not UNSET:
        row.withdrawal_max_per_day = data.withdrawal_max_per_day


MODEL: Final = Model((WalletRow, AssetRow), fold, needs)


# --- document


_STATUS_AFTER: dict[type, str] = {WalletFrozen: "frozen", WalletUnfrozen: "open", WalletClosed: "closed"}


class Available(Buckets, gc=False):
    """What a wallet has of one asset, and what commands can take of it, in the asset's minor unit."""

    available: Annotated[
        int,
        Meta(ge=0, description="What a bet can take: cash + credit_limit if above 0, and bonus", examples=[678_500]),
    ]
    withdrawable: Annotated[
        int, Meta(ge=0, description="What a withdrawal, hold or transfer can take: cash above 0", examples=[658_500])
    ]


def available(cash: int, bonus: int, held: int, credit_limit: int) -> Available:
    """A debt beyond the credit limit (the limit was lowered) takes nothing from the bonus that a bet can spend."""
    return Available(cash, bonus, held, bonus + max(cash + credit_limit, 0), max(cash, 0))


Limit = Annotated[AmountOrZero | None, Meta(examples=[500_000])]


class Limits(Struct, gc=False):
    """A wallet's limits for one asset, in the asset's minor unit."""

    credit_limit: Annotated[AmountOrZero, Meta(description="How far bets may take cash below 0", examples=[20_000])]
    balance_max: Annotated[Limit, Meta(description="Upper bound of cash + bonus + held; null: no limit")]
    stake_max_per_day: Annotated[Limit, Meta(description="Upper bound of the stakes of one UTC day; null: no limit")]
    withdrawal_max_per_day: Annotated[
        Limit, Meta(description="Upper bound of the withdrawals of one UTC day; null: no limit")
    ]


class Wagering(Struct, gc=False):
    """What must be staked of an asset before a withdrawal, in the asset's minor unit."""

    required: Annotated[AmountOrZero, Meta(description="What must be staked in this window", examples=[50_000])]
    done: Annotated[
        Sum, Meta(description="What was staked in this window; it may exceed what is required", examples=[10_000])
    ]
    remaining: Annotated[AmountOrZero, Meta(description="What is still to be staked", examples=[40_000])]


def wagering(required: int, done: int) -> Wagering:
    return Wagering(required, done, max(required - done, 0))


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
        UserId | None,
        Meta(
            description="The referrer: as named when the wallet was opened, or the owner of the code that was given",
            examples=["agent-1"],
        ),
    ]
    balances: Annotated[dict[AssetText, Available], Meta(description="Asset to balance")]
    limits: Annotated[dict[AssetText, Limits], Meta(description="Asset to limits")]
    first_deposit: Annotated[FirstDeposit | None, Meta(description="null before the first deposit")]
    wagering: Annotated[
        dict[AssetText, Wagering] | UnsetType,
        Meta(description="Asset to wagering; absent unless a deposit or a bonus had to be staked by the rules"),
    ] = UNSET


# --- reads


def assets_statement(tables: Tables, _: Conditions) -> Select[Any]:
    table = tables[AssetRow]
    return select(*fields_of(table)).where(of_one_user(table)).order_by(table.c.asset)


def document(row: Sequence[Any], assets: Rows) -> Wallet:
    """Of the fields of a ``WalletRow``, and the rows of ``assets_statement``."""
    user_id, status, opened_at_us, referrer_id, order_id, asset, amount, position, time_us = row
    balances, limits, wagered = {}, {}, {}
    for name, _, cash, bonus, held, credit_limit, *maxima, _first, since, required, staked, _surplus in assets:
        balances[name] = available(cash, bonus, held, credit_limit)
        limits[name] = Limits(credit_limit, *maxima)
        if since is not None:
            wagered[name] = wagering(required, int(staked))
    first = None if order_id is None else FirstDeposit(order_id, asset, amount, position, time_us)
    return Wallet(user_id, status, opened_at_us, referrer_id, balances, limits, first, wagered or UNSET)


WALLET: Final = UserRead(Query(assets_statement), lambda user, rows: document(user.wallet, rows))
