"""What reads answer, member for member as the contract has it, less ``as_of``: amounts in minor units, times in Unix
microseconds, positions as ``"<partition>:<seq>"``."""

from typing import Final

import msgspec
from msgspec import Struct


class Buckets(Struct, gc=False):
    cash: int
    bonus: int
    held: int


class Available(Struct, gc=False):
    """``available`` = cash + credit_limit."""

    cash: int
    bonus: int
    held: int
    available: int


class Limits(Struct, gc=False):
    credit_limit: int
    balance_max: int | None
    stake_max_per_day: int | None
    withdrawal_max_per_day: int | None


class FirstDeposit(Struct, gc=False):
    order_id: str
    asset: str
    amount: int
    position: str
    time_us: int


class Wallet(Struct, gc=False):
    user_id: str
    status: str
    opened_at_us: int
    referrer_id: str | None
    balances: dict[str, Available]
    limits: dict[str, Limits]
    first_deposit: FirstDeposit | None


class BalanceAt(Struct, gc=False):
    user_id: str
    at_us: int
    balances: dict[str, Buckets]


class HistoryItem(Struct, gc=False):
    position: str
    time_us: int
    type: str
    command_id: str
    asset: str
    game: str | None
    change: Buckets
    balances: Buckets
    data: msgspec.Raw


class Bet(Struct, gc=False):
    bet_id: str
    game: str
    period: str
    selection: str
    asset: str
    stake: int
    status: str
    payout: int | None
    position: str
    placed_at_us: int
    settled_position: str | None
    settled_at_us: int | None


class Hold(Struct, gc=False):
    hold_id: str
    asset: str
    amount: int
    status: str
    captured: int | None
    expires_at_us: int | None
    position: str
    created_at_us: int
    resolved_at_us: int | None


class Transfer(Struct, gc=False):
    transfer_id: str
    to_user_id: str
    asset: str
    amount: int
    status: str
    reason: str | None
    position: str
    created_at_us: int
    resolved_at_us: int | None


class GameStatistics(Struct, gc=False):
    asset: str
    game: str
    bets: int
    wins: int
    staked: int
    paid_out: int
    net: int
    biggest_win: int


class CountAndAmount(Struct, gc=False):
    count: int = 0
    amount: int = 0


class Totals(Struct, gc=False):
    asset: str
    bets: int
    wins: int
    staked: int
    paid_out: int
    net: int
    biggest_win: int
    deposits: CountAndAmount
    withdrawals: CountAndAmount
    bonuses: CountAndAmount
    commissions: CountAndAmount


class Statistics(Struct, gc=False):
    user_id: str
    games: list[GameStatistics]
    totals: list[Totals]


class Level(Struct, gc=False):
    level: int
    members: int


class Referrals(Struct, gc=False):
    user_id: str
    referrer_id: str | None
    direct_count: int
    levels: list[Level]
    commissions: dict[str, int]


class Order(Struct, gc=False):
    user_id: str
    order_id: str
    kind: str
    asset: str
    amount: int
    bonus: int
    status: str
    reason: str | None
    position: str
    created_at_us: int
    resolved_at_us: int | None


class Leader(Struct, gc=False):
    rank: int
    user_id: str
    value: int


class Leaderboard(Struct, gc=False):
    """The largest first, ties by user_id; who has 0 is left out. Of times ``from_us`` ≤ time < ``to_us``."""

    name: str
    asset: str
    from_us: int
    to_us: int
    items: list[Leader]


class Page(Struct, gc=False):
    """One page of a list, the newest first; ``next_cursor`` is null at the end."""

    items: list[HistoryItem] | list[Bet] | list[Hold] | list[Order]
    next_cursor: str | None


Document = Wallet | BalanceAt | Bet | Hold | Transfer | Statistics | Referrals | Order | Leaderboard | Page

REFERRAL_LEVELS: Final = 6
"""From the domain: commission is paid over six levels."""
