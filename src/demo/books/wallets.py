"""One user's wallet as the books keep it: plain records, and the sums that the rules need. No I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from demo.books.wagering import Wagering

ACCEPTED = "accepted"
"""The outcome of an accepted command; every other outcome is the code of a problem."""

DAY_US = 86_400_000_000
E9 = 1_000_000_000
HORIZON_US = 3_600_000_000
"""Timers due later than this after the last event are not waited for. Chosen: the day uses seconds or tomorrow."""

Command = dict[str, Any]


@dataclass(frozen=True, slots=True)
class CommandResponse:
    """The response to one command: the HTTP status, `Idempotency-Hit`, and the result or problem as JSON."""

    status: int
    hit: bool
    body: dict[str, Any]

    @property
    def accepted(self) -> bool:
        """Whether it was accepted, now (201) or before (200): a caller need not know which."""
        return self.status in (200, 201)

    @property
    def outcome(self) -> str:
        """`ACCEPTED`, or the problem's code."""
        return ACCEPTED if self.accepted else str(self.body.get("code", f"status {self.status}"))


@dataclass(slots=True)
class Grant:
    """A bonus grant: its rest (`left`), and its expiry (None: never)."""

    grant_id: str
    asset: str
    amount: int
    seq: int
    expires_at_us: int | None
    left: int
    untouched: bool = True
    reversed: bool = False
    kind: str = "grant"


@dataclass(slots=True)
class Awaited:
    """A grant that the ledger gives by itself at a moment that no response names: its place is read later.

    ``arrived``: a bet took from it, so it is among the wallet's grants already, at an unknown place."""

    grant_id: str
    kind: str
    asset: str
    amount: int
    arrived: bool = False


@dataclass(slots=True)
class Bet:
    """A bet and the buckets of its stake. `status`: open, settled, cancelled, or never (cancelled before placed)."""

    asset: str
    stake: int
    cash: int
    bonus: int
    grants: list[tuple[str, int]]
    placed_at_us: int
    game: str = ""
    period: str = ""
    selection: str = ""
    seq: int = 0
    status: str = "open"
    payout: int | None = None
    settled_at_us: int | None = None

    def shown(self) -> str:
        """The status as reads show it: a settled bet is won or lost."""
        if self.status != "settled":
            return self.status
        return "won" if self.payout else "lost"


@dataclass(slots=True)
class Hold:
    """A hold. `status`: open, captured, released or expired."""

    asset: str
    amount: int
    expires_at_us: int | None
    status: str = "open"


@dataclass(slots=True)
class Order:
    """A deposit or a withdrawal. `status`: completed, pending, approved, rejected or reversed."""

    kind: str
    asset: str
    amount: int
    at_us: int
    status: str
    bonus: int = 0


@dataclass(frozen=True, slots=True)
class Line:
    """A response that moved money: the wallet's history must show it at that seq."""

    type: str
    command_id: str
    balances: dict[str, dict[str, int]]


@dataclass(slots=True)
class Adjustment:
    """A proposed adjustment. `status`: proposed, approved or rejected."""

    asset: str
    amount: int
    status: str = "proposed"


@dataclass(slots=True)
class Reversible:
    """An event that can be reversed while `reversed` is False."""

    asset: str
    cash: int
    grant_id: str | None
    order_id: str | None
    reversed: bool = False
    seq: int = 0


@dataclass(slots=True)
class Limits:
    """The limits of one asset; the contract's defaults."""

    credit_limit: int = 0
    balance_max: int | None = None
    stake_max_per_day: int | None = None
    withdrawal_max_per_day: int | None = None


LIMITS = tuple(item.name for item in fields(Limits))


@dataclass(slots=True)
class Wallet:
    """One user's wallet in the books. `status` is None until the wallet is opened.

    `partition` and `seq` are of the last response; `lines` are the responses that moved money, by seq.
    """

    user_id: str
    status: str | None = None
    referrer_id: str | None = None
    cash: Counter[str] = field(default_factory=Counter)
    coming: Counter[str] = field(default_factory=Counter)
    grants: dict[str, Grant] = field(default_factory=dict)
    bets: dict[str, Bet] = field(default_factory=dict)
    holds: dict[str, Hold] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)
    adjustments: dict[str, Adjustment] = field(default_factory=dict)
    reversibles: dict[str, Reversible] = field(default_factory=dict)
    limits: dict[str, Limits] = field(default_factory=dict)
    staked: Counter[tuple[str, int]] = field(default_factory=Counter)
    withdrawn: Counter[tuple[str, int]] = field(default_factory=Counter)
    first_deposit: tuple[str, str, int] | None = None
    partition: int = -1
    seq: int = 0
    lines: dict[int, Line] = field(default_factory=dict)

    # Money flows by the rules
    wagering: dict[str, Wagering] = field(default_factory=dict)
    just_granted: Counter[str] = field(default_factory=Counter)
    """Bonuses that the last response caused: the ledger's next events, which a read at its position may lack."""
    awaited: list[Awaited] = field(default_factory=list)
    own_grants: Counter[str] = field(default_factory=Counter)
    requests: Counter[tuple[str, int]] = field(default_factory=Counter)
    """Withdrawals that were requested on a UTC day and not rejected."""
    attendance: dict[str, tuple[int, int]] = field(default_factory=dict)
    """The last UTC day that was claimed, and how many days in a row."""
    valid_in: set[str] = field(default_factory=set)
    valid_members: Counter[str] = field(default_factory=Counter)
    members: Counter[int] = field(default_factory=Counter)
    """How many members were counted at each level below."""
    agent_level: int = 0
    commission_e9: Counter[str] = field(default_factory=Counter)
    """All commissions, in billionths of a minor unit; only whole units are paid."""
    commission_parts: Counter[str] = field(default_factory=Counter)
    commission_in_cash: Counter[str] = field(default_factory=Counter)
    referrer_coming: str | None = None
    """The owner of the code that the wallet was opened with, until the ledger sets the referrer."""
    code: str | None = None
    """The referral code that the wallet claimed last."""
    gifts: dict[str, str] = field(default_factory=dict)
    """Code → claimed, received or refused."""

    def wagering_of(self, asset: str) -> Wagering:
        """The wagering of one asset."""
        return self.wagering.setdefault(asset, Wagering())

    def commission(self, asset: str) -> int:
        """The commissions that are paid or on their way, in whole minor units."""
        return self.commission_e9[asset] // E9

    def possible_bonus(self, asset: str) -> set[int]:
        """The amounts of bonus that a read after the last response may show."""
        sums = {self.bonus(asset), self.bonus(asset) - self.just_granted[asset]}
        for awaited in self.awaited:
            if awaited.asset == asset and not awaited.arrived:
                sums |= {amount + awaited.amount for amount in sums}
        return sums

    def bonus_coming(self, asset: str) -> int:
        """The awaited bonuses of the asset."""
        return sum(item.amount for item in self.awaited if item.asset == asset and not item.arrived)

    def awaits(self, asset: str) -> bool:
        """Whether the place of a bonus is unknown, and so what must still be staked."""
        return any(item.asset == asset for item in self.awaited)

    def deposited(self, asset: str, day: int | None = None) -> int:
        """The deposits of the asset that are not reversed: of one UTC day, or all."""
        return sum(
            order.amount
            for order in self.orders.values()
            if order.kind == "deposit" and order.status == "completed" and order.asset == asset
            if day is None or order.at_us // DAY_US == day
        )

    def bonus(self, asset: str) -> int:
        """The rest of all grants of the asset."""
        return sum(grant.left for grant in self.grants.values() if grant.asset == asset)

    def held(self, asset: str) -> int:
        """Open holds, and withdrawals without a decision."""
        holds = sum(hold.amount for hold in self.holds.values() if hold.status == "open" and hold.asset == asset)
        return holds + sum(
            order.amount for order in self.orders.values() if order.status == "pending" and order.asset == asset
        )

    def total(self, asset: str) -> int:
        """Cash, bonus and held together, as `balance_max` counts."""
        return self.cash[asset] + self.bonus(asset) + self.held(asset)

    def limit(self, asset: str) -> Limits:
        """The asset's limits, or the defaults."""
        return self.limits.get(asset) or Limits()

    def assets(self) -> set[str]:
        """Each asset that was moved or limited."""
        granted = {grant.asset for grant in self.grants.values()}
        return granted | set(self.cash) | set(self.limits)

    def nothing_open(self) -> bool:
        """Whether no bet, hold, withdrawal, proposal or transfer is under way."""
        return not (
            any(bet.status == "open" for bet in self.bets.values())
            or any(hold.status == "open" for hold in self.holds.values())
            or any(order.status == "pending" for order in self.orders.values())
            or any(adjustment.status == "proposed" for adjustment in self.adjustments.values())
            or any(self.coming.values())
            or self.awaited
        )


@dataclass(slots=True)
class Transfer:
    """A transfer under way: the wallet that has its money in the end."""

    asset: str
    amount: int
    ends_at: str


def bonus_of_stake(stake: int, cash: int, bonus: int, spend: str) -> int:
    """The bonus part of a stake: `cash_first` spends cash above 0 before bonus, `bonus_first` spends bonus first."""
    before = max(cash, 0) if spend == "cash_first" else 0
    return min(max(stake - before, 0), bonus)


def take_bonus(
    wallet: Wallet, asset: str, amount: int, given: Sequence[Sequence[Any]] | None = None
) -> list[tuple[str, int]]:
    """Take bonus by soonest expiry, then oldest; while the place of a grant is unknown, in the ``given`` order.
    Returns the amount of each grant used, in that order."""
    taken: list[tuple[str, int]] = []
    order = {grant_id: place for place, (grant_id, _) in enumerate(given or ())}
    grants = [grant for grant in wallet.grants.values() if grant.asset == asset and grant.left]
    for grant in sorted(
        grants,
        key=lambda g: (order.get(g.grant_id, len(order)), g.expires_at_us is None, g.expires_at_us or 0, g.seq),
    ):
        part = min(grant.left, amount)
        if part:
            grant.left -= part
            grant.untouched = False
            amount -= part
            taken.append((grant.grant_id, part))
    return taken


def keeps_bonus(wallet: Wallet, item: Reversible) -> bool:
    """Whether it is the first deposit, and the bonus that it got by the rules was not reversed."""
    grant, first = wallet.grants.get("~first_deposit:1"), wallet.first_deposit
    return grant is not None and not grant.reversed and first is not None and first[0] == item.order_id


def timers_due_us(wallet: Wallet) -> Iterator[int]:
    for hold in wallet.holds.values():
        if hold.status == "open" and hold.expires_at_us is not None:
            yield hold.expires_at_us
    for grant in wallet.grants.values():
        if grant.left and grant.expires_at_us is not None:
            yield grant.expires_at_us
