"""A wallet's state: balances, limits, day counts, running grants and expiring holds.

Invariants:
(1) A ``Wallet`` is a value. Only ``evolve`` makes a changed one, from a copy, so a failed batch is rolled back by
    dropping the new values.
(2) What can be numerous (bets, orders, holds, …) is an *item* outside the wallet, under a key of its kind and id.
    What every decision needs (balances, limits, running grants, expiring holds) is inside.
(3) ``bonus`` of an asset is the sum of the remaining grants of that asset.
(4) ``outstanding`` of an asset is money that can still come back: open stakes and transfers under way.
"""

from typing import Final, Literal

from msgspec import Struct

from ledger.core.events import Balance

DAY_US: Final = 86_400_000_000

Status = Literal["none", "open", "frozen", "closed"]


class Limits(Struct, frozen=True, array_like=True, gc=False):
    """The limits of one asset, in minor units; None is no limit."""

    credit_limit: int = 0
    balance_max: int | None = None
    stake_max_per_day: int | None = None
    withdrawal_max_per_day: int | None = None


class DayCount(Struct, frozen=True, array_like=True, gc=False):
    """The sums staked, requested for withdrawal and deposited on the UTC day number ``day`` (days since 1970), and
    how many withdrawals were requested."""

    day: int
    staked: int = 0
    withdrawn: int = 0
    requests: int = 0
    deposited: int = 0


class PeriodCount(Struct, frozen=True, array_like=True, gc=False):
    """How many bets the wallet has placed in a period of a game; the period ends at ``ends_at_us``."""

    ends_at_us: int
    bets: int


class Grant(Struct, frozen=True, array_like=True, gc=False):
    """A running grant: the bonus that remains of it, and when it expires (None: never).

    ``granted_seq`` orders grants by age; ``granted`` is the original amount; ``won`` is true once a payout was added
    to it; ``cause`` is the position of the last event that added money (the cause of its expiry).
    """

    grant_id: str
    asset: str
    remaining: int
    expires_at_us: int | None
    granted_seq: int
    granted: int
    won: bool
    cause: str


class ExpiringHold(Struct, frozen=True, array_like=True, order=True, gc=False):
    """An open hold that expires; ordered by the time of expiry."""

    expires_at_us: int
    hold_id: str
    asset: str
    amount: int
    cause: str


class Turnover(Struct, frozen=True, array_like=True, order=True, gc=False):
    """The stakes of one UTC day number. The commission on them is due at ``due_at_us``, by the rules of a digest.

    Ordered by that time. ``cause`` is the position of the last event that settled one of the bets."""

    due_at_us: int
    asset: str
    day: int
    rules: str
    stake: int
    cause: str


class FirstDeposit(Struct, frozen=True, array_like=True, gc=False):
    order_id: str
    asset: str
    amount: int
    position: str
    time_us: int


class Wagering(Struct, frozen=True, array_like=True, gc=False):
    """What must be staked before a withdrawal, and what was staked, in the current window. Windows count from 1."""

    window: int = 0
    required: int = 0
    done: int = 0
    surplus: int = 0
    """What was staked in the earlier windows beyond what they required."""


class Attendance(Struct, frozen=True, array_like=True, gc=False):
    """The last attendance bonus: its UTC day number (days since 1970), and how many days in a row there were then."""

    day: int
    streak: int


class Wallet(Struct, array_like=True, tag="w", gc=False):
    """One user's accounts, treated as a value: only ``evolve`` assigns to its members, in its own copy.

    ``open_items`` counts the unresolved items: open bets, holds, withdrawals, proposals, transfers under
    way and claims of gifts.
    """

    user_id: str
    status: Status = "none"
    opened_at_us: int | None = None
    referrer_id: str | None = None
    balances: dict[str, Balance] = {}
    outstanding: dict[str, int] = {}
    limits: dict[str, Limits] = {}
    days: dict[str, DayCount] = {}
    grants: tuple[Grant, ...] = ()
    expiring_holds: tuple[ExpiringHold, ...] = ()
    open_items: int = 0
    first_deposit: FirstDeposit | None = None
    played: dict[str, PeriodCount] = {}
    """Game → the count of its period that ends last, until the period is over."""
    deposited: dict[str, int] = {}
    """Asset → the sum of its deposits that are not reversed."""
    wagering: dict[str, Wagering] = {}
    own_grants: dict[str, int] = {}
    """Kind → how many bonuses the ledger granted by its rules."""
    attendance: dict[str, Attendance] = {}
    agent_level: int = 0
    turnover: tuple[Turnover, ...] = ()
    """The stakes whose commission is not due yet, the soonest first: for each asset the current day, and the previous
    day until its delay is over."""
    valid_in: tuple[str, ...] = ()
    """The assets in which the user's deposits have made the user a valid referral."""
    valid_referrals: dict[str, int] = {}
    """Asset → how many valid referrals the user has."""
    commission_carried: dict[str, int] = {}
    """Asset → what is carried to the next commission, in billionths of the minor unit."""


NO_BALANCE: Final = Balance()
NO_LIMITS: Final = Limits()


def balance_of(wallet: Wallet, asset: str) -> Balance:
    return wallet.balances.get(asset, NO_BALANCE)


def balance_sum(wallet: Wallet, asset: str) -> int:
    """What the wallet owns of the asset: cash, bonus and held."""
    balance = balance_of(wallet, asset)
    return balance.cash + balance.bonus + balance.held


def limits_of(wallet: Wallet, asset: str) -> Limits:
    return wallet.limits.get(asset, NO_LIMITS)


def day_count(wallet: Wallet, asset: str, day: int) -> DayCount:
    """The counts of ``day``. Time never goes back in a partition, so the wallet keeps its latest day only."""
    count = wallet.days.get(asset)
    return count if count is not None and count.day == day else DayCount(day)


def next_due_us(wallet: Wallet) -> int | None:
    """When the wallet's next hold or grant expires or its next commission is due, in Unix microseconds; None if there
    is none."""
    due = wallet.expiring_holds[0].expires_at_us if wallet.expiring_holds else None
    if wallet.grants:
        grant_due = wallet.grants[0].expires_at_us
        if grant_due is not None and (due is None or grant_due < due):
            due = grant_due
    if wallet.turnover and (due is None or wallet.turnover[0].due_at_us < due):
        return wallet.turnover[0].due_at_us
    return due


def has_timers(wallet: Wallet) -> bool:
    """Whether the wallet has a hold, grant or commission that becomes due."""
    return bool(wallet.grants or wallet.expiring_holds or wallet.turnover)


def spending_order(grant: Grant) -> tuple[bool, int, int]:
    """Sort key: the soonest expiry first, grants without expiry last; then the oldest."""
    expires = grant.expires_at_us
    return (expires is None, 0 if expires is None else expires, grant.granted_seq)


def running_grant(wallet: Wallet, grant_id: str) -> Grant | None:
    return next((grant for grant in wallet.grants if grant.grant_id == grant_id), None)
