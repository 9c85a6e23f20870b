"""A day's traffic of several game servers: which commands they send, in order, and which answers would fit.

Numbered truths:

1. Pure: the same `Day`, server number and answers give the same traffic. Time is the books' clock, the last
   `time_us` that the service told.
2. A server yields waves. The posts of one wave name different wallets and may be under way together; a wave follows
   only when the one before is answered. So one wallet's commands reach the service in order.
3. Each command says which outcomes fit (`Planned.may`). A deliberate mistake has exactly one: its problem's code, by
   the contract's order of precedence. A command that the wallet's sure money covers has exactly `accepted`.
4. Faults (sent twice at once, answer lost) are planned only where every command must be accepted: a refusal leaves no
   trace, so a late copy of a refused command could be taken after all.
5. What would make the end of a transfer depend on who is first does not happen: wallets that close or cap their
   balance receive none, except where that wallet refuses every one (see `books`, truth 5).

The model: users by Zipf; bets gather at the end of each period and are settled together; people open wallets through
most of the day; the back office decides on withdrawals and proposals some periods later, under other names.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import accumulate
from random import Random

from demo.books import ACCEPTED, DAY_US, HORIZON_US, Books, Command, Wallet

UNIT = {"INR": 100, "USDT": 1_000_000, "GOLD": 1}
"""Minor units in one, for the assets that a service has unless told otherwise (contract: `STAKELOG_ASSETS`)."""

ZIPF_EXPONENT = 1.05
"""Chosen: with 3,000 users the busiest tenth places about two thirds of the bets."""

FAR_TOO_MUCH = 10**13
FIRST_DEPOSIT_BONUS = ((100, 20), (300, 60), (1_000, 150), (3_000, 300), (10_000, 600))
PICKS = ("big", "small", "red", "green", "violet", "7", "home win", "over 2½", "सात")
OPERATORS = ("ops-asha", "ops-ben", "ops-chidi")
SECOND_US = 1_000_000

SURE = frozenset({ACCEPTED})
ANY_SHORTAGE = frozenset({ACCEPTED, "insufficient_funds", "credit_limit_exceeded"})


class Fault(Enum):
    """What goes wrong between client and service, on purpose."""

    NONE = "none"
    TWICE = "sent twice at once"
    ANSWER_LOST = "answer lost, sent again"


class Role(Enum):
    """What sets a player's wallet apart, for the whole day."""

    REGULAR = "regular"
    VISITOR = "visitor"  # no bonus, no transfers; leaves for good when the wallet is empty
    CAPPED = "capped"  # balance_max in INR, none at all in GOLD, may not withdraw
    CREDIT = "credit"  # bets below zero
    CAREFUL = "careful"  # stake_max_per_day


@dataclass(frozen=True, slots=True)
class Day:
    """What to play: about this many commands. `tag` keeps the users of two days on one service apart."""

    users: int
    commands: int
    seed: int
    servers: int = 4
    periods: int = 48
    tag: str = ""


@dataclass(frozen=True, slots=True)
class Player:
    """One user, as their game server knows them."""

    user_id: str
    role: Role
    asset: str


@dataclass(frozen=True, slots=True)
class Planned:
    """One command and the outcomes that fit; `again`: a copy of one that was accepted, so it must be a hit."""

    command: Command
    may: frozenset[str] = SURE
    again: bool = False


@dataclass(frozen=True, slots=True)
class Post:
    """Commands to send in this order, as one batch or one by one, by one actor (None: the default)."""

    planned: tuple[Planned, ...]
    batch: bool = False
    actor: str | None = None
    fault: Fault = Fault.NONE

    def user_ids(self) -> set[str]:
        """The wallets that this post names."""
        return {str(planned.command.get("user_id")) for planned in self.planned}


@dataclass(frozen=True, slots=True)
class Wave:
    """Posts that may be under way together, and the time on the players' clocks ("18:30")."""

    clock: str
    posts: tuple[Post, ...]

    def size(self) -> int:
        """How many commands the wave plans."""
        return sum(len(post.planned) for post in self.posts)


@dataclass(slots=True)
class Later:
    """Something to do with this wallet from this period on; what exactly is decided then (None: nothing any more)."""

    period: int
    user_id: str
    post: Callable[[], Post | None]


@dataclass(frozen=True, slots=True)
class Wager:
    """A bet that was sent, to be settled at the end of this period."""

    period: int
    player: Player
    bet_id: str


@dataclass(slots=True)
class _Progress:
    """Where a server is in its day."""

    period: int = 0
    used: int = 0
    numbers: int = 0
    late: list[Later] = field(default_factory=list)
    wagers: list[Wager] = field(default_factory=list)
    sent: deque[Planned] = field(default_factory=lambda: deque(maxlen=2_000))


def players(day: Day) -> list[Player]:
    """Everybody of the day, whichever server they play on."""
    rng = _dice(day, "players")
    roles = {7: Role.VISITOR, 13: Role.CAPPED, 21: Role.CREDIT, 33: Role.CAREFUL}
    return [
        Player(
            f"{day.tag}u{number:05d}",
            roles.get(number % 40, Role.REGULAR),
            "INR" if number % 40 in roles else rng.choices(("INR", "USDT", "GOLD"), (80, 12, 8))[0],
        )
        for number in range(day.users)
    ]


def share_of_period(day: Day, period: int) -> float:
    """The part of the day's commands that falls into this period: quiet at night, busiest about 21:00."""
    weights = [1.2 + math.cos((at / day.periods - 21 / 24) * 2 * math.pi) for at in range(day.periods)]
    return weights[period] / sum(weights)


class GameServer:
    """One game server's day. `books` must have heard each wave's answers before the next is asked for."""

    def __init__(self, day: Day, number: int, books: Books) -> None:
        """Server `number` of `day.servers`; `books` is shared by all servers and only read here."""
        self.day = day
        self.number = number
        self.books = books
        self.rng = _dice(day, f"server {number}")
        everybody = players(day)
        self.role_of = {player.user_id: player.role for player in everybody}
        self.mine = everybody[number :: day.servers]
        ranks = list(range(len(self.mine)))
        self.rng.shuffle(ranks)
        self.weight_of = {
            player.user_id: 1 / (rank + 1) ** ZIPF_EXPONENT for player, rank in zip(self.mine, ranks, strict=True)
        }
        self.waiting: deque[Player] = deque(self.mine)
        self.here: list[Player] = []
        self.weights: list[float] = []
        self.now = _Progress()
        self.quiet: tuple[tuple[Callable[[Player], Post | None], int], ...] = (
            (self.deposit, 18),
            (self.bet, 28),
            (self.hold, 9),
            (self.resolve_hold, 9),
            (self.withdraw, 9),
            (self.transfer, 9),
            (self.grant, 6),
            (self.adjust, 3),
            (self.propose, 3),
            (self.reverse, 1),
            (self.freeze, 1),
            (self.relimit, 1),
            (self.cancel_first, 2),
            (self.leave, 3),
            (self.send_again, 6),
            (self.mistake, 12),
        )

    def waves(self) -> Iterator[Wave]:
        """The whole day, period by period."""
        for period in range(self.day.periods):
            self.now.period, self.now.used = period, 0
            quota = max(round(self.day.commands / self.day.servers * share_of_period(self.day, period)), 4)
            yield from self._openings(quota)
            yield from self._until(round(quota * 0.6), (2, 8), self.quiet)
            yield from self._until(quota, (16, 40), ((self.bet, 1),))
            yield from self._results()
        self.now.period = self.day.periods
        yield from self._evening()

    # -- the parts of a period -----------------------------------------------------------------------------------

    def _openings(self, quota: int) -> Iterator[Wave]:
        done = (self.now.period + 1) / (0.8 * self.day.periods)
        goal = min(len(self.mine), math.ceil(len(self.mine) * done))
        while self.waiting and len(self.mine) - len(self.waiting) < goal and self.now.used < quota * 0.4:
            coming = [self.waiting.popleft() for _ in range(min(12, len(self.waiting)))]
            yield self._wave([self.open(player) for player in coming])
            self._welcome(coming)

    def _welcome(self, coming: Sequence[Player]) -> None:
        self.here.extend(player for player in coming if self.books.wallet(player.user_id).status)
        self.weights = list(accumulate(self.weight_of[player.user_id] for player in self.here))

    def _until(
        self, quota: int, width: tuple[int, int], menu: Sequence[tuple[Callable[[Player], Post | None], int]]
    ) -> Iterator[Wave]:
        """Waves from the menu until the period's commands, with a result for each open bet, reach the quota."""
        due = sum(wager.period <= self.now.period for wager in self.now.wagers)
        idle = 0
        while self.now.used + due < quota and self.here and idle < 20:
            posts = self._due_posts()
            busy = {user_id for post in posts for user_id in post.user_ids()}
            left = max((quota - self.now.used - due) // 2, 1)  # a bet brings its result along
            for _ in range(min(self.rng.randint(*width), left)):
                player = self._somebody()
                act = self.rng.choices([item for item, _ in menu], [weight for _, weight in menu])[0]
                post = None if player.user_id in busy else act(player)
                if post is not None and not post.user_ids() & busy:
                    posts.append(post)
                    busy |= post.user_ids()
            idle = 0 if posts else idle + 1
            if posts:
                yield self._wave(self._gathered(posts))
            due = sum(wager.period <= self.now.period for wager in self.now.wagers)

    def _due_posts(self) -> list[Post]:
        """The back office's work that is due, at most one post for each wallet."""
        posts: list[Post] = []
        busy: set[str] = set()
        kept: list[Later] = []
        for later in self.now.late:
            if later.period > self.now.period or later.user_id in busy or len(posts) >= 8:
                kept.append(later)
            elif (post := later.post()) is not None:
                posts.append(post)
                busy.add(later.user_id)
        self.now.late = kept
        return posts

    def _gathered(self, posts: list[Post]) -> list[Post]:
        """Sometimes a server gathers its plain posts into one batch."""
        plain = [post for post in posts if post.actor is None and post.fault is Fault.NONE]
        if len(plain) < 2 or self.rng.random() < 0.6:
            return posts
        rest = [post for post in posts if post.actor is not None or post.fault is not Fault.NONE]
        return [*rest, Post(tuple(planned for post in plain for planned in post.planned), batch=True)]

    def _results(self) -> Iterator[Wave]:
        """Settle this period's bets, in batches; a few are cancelled, settled twice or settled wrongly."""
        due = [wager for wager in self.now.wagers if wager.period <= self.now.period]
        self.now.wagers = [wager for wager in self.now.wagers if wager.period > self.now.period]
        by_user: dict[str, list[Planned]] = {}
        for wager in due:
            by_user.setdefault(wager.player.user_id, []).extend(self._result(wager))
        groups = [group for group in by_user.values() if group]
        while groups:
            batch = self.rng.random() < 0.75
            taken, groups = (groups[:60], groups[60:]) if batch else (groups[:12], groups[12:])
            if batch:
                posts = [self._faulty(Post(tuple(planned for group in taken for planned in group), batch=True))]
            else:
                posts = [self._faulty(Post(tuple(group))) for group in taken]
            yield self._wave(posts)

    def _result(self, wager: Wager) -> list[Planned]:
        player, bet_id = wager.player, wager.bet_id
        bet = self.books.wallet(player.user_id).bets.get(bet_id)
        if bet is None or bet.status != "open":
            return []
        luck = self.rng.random()
        if luck < 0.03:
            return [self._plan(player, "cancel_bet", bet_id=bet_id, reason="match abandoned")]
        if luck < 0.43:  # with the two below, about 97% of the stakes come back
            payout = bet.stake * 196 // 100
        elif luck < 0.432:
            payout = bet.stake * self.rng.choice((450, 900, 6_912, 20_736)) // 100
        elif luck < 0.45:
            payout = bet.stake
        else:
            payout = 0
        planned = [self._plan(player, "settle_bet", bet_id=bet_id, payout=payout)]
        if self.rng.random() < 0.02:
            planned.append(self._wrong("already_resolved", player, "settle_bet", bet_id=bet_id, payout=payout + 1))
        return planned

    def _evening(self) -> Iterator[Wave]:
        """What is still on the desk; bets of tomorrow's periods stay open."""
        for later in self.now.late:
            later.period = min(later.period, self.now.period)
        while self.now.late:
            if posts := self._due_posts():
                yield self._wave(posts)

    def _wave(self, posts: list[Post]) -> Wave:
        minutes = min(self.now.period * 24 * 60 // self.day.periods, 24 * 60 - 1)
        wave = Wave(f"{minutes // 60:02d}:{minutes % 60:02d}", tuple(posts))
        self.now.used += wave.size()
        return wave

    # -- what players and operators do; each returns a post, or None if it does not suit the wallet ---------------

    def open(self, player: Player) -> Post:
        """A new wallet: with a referrer or not, the limits of its role, and often a first deposit."""
        planned: list[Planned] = []
        luck = self.rng.random()
        referrer: str | None = None
        if self.books.opened and luck < 0.6:
            referrer = self.books.opened[int(len(self.books.opened) * self.rng.random() ** 2)]
        elif luck < 0.63:
            referrer = self._nobody()
        elif luck < 0.64:
            planned.append(self._wrong("same_wallet", player, "open_wallet", referrer_id=player.user_id))
        elif luck < 0.66:
            planned.append(self._wrong("wallet_not_open", player, "deposit", **self._order("INR", 100)))
        planned.append(self._plan(player, "open_wallet", referrer_id=referrer))
        match player.role:
            case Role.CAPPED:
                planned.append(
                    self._plan(player, "set_limits", asset="INR", balance_max=100_000, withdrawal_max_per_day=0)
                )
                planned.append(self._plan(player, "set_limits", asset="GOLD", balance_max=0))
            case Role.CREDIT:
                planned.append(self._plan(player, "set_limits", asset="INR", credit_limit=50_000))
            case Role.CAREFUL:
                planned.append(self._plan(player, "set_limits", asset="INR", stake_max_per_day=100_000))
            case _:
                pass
        if self.rng.random() < 0.85 and player.role is not Role.CAPPED:
            planned.append(self._plan(player, "deposit", **self._order_with_bonus(player, first=True)))
        return self._faulty(Post(tuple(planned), batch=self.rng.random() < 0.5))

    def deposit(self, player: Player) -> Post | None:
        """A deposit, sometimes with a bonus; a capped wallet refuses what would pass its cap."""
        order = self._order_with_bonus(player, first=False)
        if self._wallet(player).status == "closed":
            return None
        may = SURE
        balance_max = self._wallet(player).limit(player.asset).balance_max
        if balance_max is not None:
            after = self._wallet(player).total(player.asset) + order["amount"] + order.get("bonus", 0)
            may = SURE if after <= balance_max else frozenset({"balance_max_exceeded"})
        return self._one(self._plan(player, "deposit", may=may, **order))

    def bet(self, player: Player) -> Post | None:
        """A bet on this period; larger than the player's money now and then."""
        wallet, asset = self._wallet(player), player.asset
        if wallet.status != "open":
            return None
        limit = wallet.limit(asset)
        stake = min(self._money(asset, 5, 300), max(wallet.cash[asset] + wallet.bonus(asset), 10))
        if self.rng.random() < 0.03:
            stake *= 3
        may = SURE if stake <= wallet.cash[asset] + limit.credit_limit else ANY_SHORTAGE
        if limit.stake_max_per_day is not None:
            day = self.books.clock_us // DAY_US
            if wallet.staked[asset, day] + stake > limit.stake_max_per_day:
                may = frozenset({"stake_max_exceeded"})
            if DAY_US - self.books.clock_us % DAY_US < 60 * SECOND_US:
                may |= ANY_SHORTAGE | {"stake_max_exceeded"}
        bet_id = self._id("b")
        spend = self.rng.choices((None, "cash_first", "bonus_first"), (70, 10, 20))[0]
        planned = self._plan(
            player,
            "place_bet",
            may=may,
            bet_id=bet_id,
            game="external",
            period=self._period(),
            selection=self.rng.choice(PICKS),
            asset=asset,
            stake=stake,
            spend=spend,
        )
        patience = self.rng.choices((0, 1, self.day.periods), (94, 5, 1))[0]
        self.now.wagers.append(Wager(self.now.period + patience, player, bet_id))
        return self._one(planned)

    def hold(self, player: Player) -> Post | None:
        """Money set aside for something else than a bet; for ever, for a moment, until tomorrow, or too late."""
        amount = self._part_of_cash(player)
        if amount is None:
            return None
        return self._one(
            self._plan(
                player,
                "hold",
                hold_id=self._id("h"),
                asset=player.asset,
                amount=amount,
                expires_at_us=self._expiry(),
            )
        )

    def resolve_hold(self, player: Player) -> Post | None:
        """Capture or release a hold, in time or not, once or twice."""
        wallet = self._wallet(player)
        if wallet.status != "open" or not wallet.holds:
            return None
        hold_id, hold = self.rng.choice(list(wallet.holds.items()))
        capture = self.rng.random() < 0.6
        kind = "capture_hold" if capture else "release_hold"
        fields: Command = {"hold_id": hold_id}
        if capture and self.rng.random() < 0.5:
            fields["amount"] = self.rng.randint(1, hold.amount)
        if hold.status in ("captured", "released"):
            return self._one(self._wrong("already_resolved", player, kind, **fields))
        due_us = hold.expires_at_us
        margin_us = 0 if due_us is None else due_us - self.books.clock_us
        if hold.status == "expired" or (due_us is not None and margin_us < -SECOND_US):
            return self._one(self._wrong("hold_expired", player, kind, **fields))
        may = SURE if due_us is None or margin_us > 3_600 * SECOND_US else SURE | {"hold_expired"}
        if capture and self.rng.random() < 0.1 and may == SURE:
            fields["amount"] = hold.amount + 1
            may = frozenset({"capture_exceeds_hold"})
        return self._one(self._plan(player, kind, may=may, **fields))

    def withdraw(self, player: Player) -> Post | None:
        """A withdrawal, on which the back office decides some periods later."""
        if player.role is Role.VISITOR:
            return None
        amount = self._part_of_cash(player)
        if amount is None:
            return None
        order = self._order(player.asset, amount)
        if player.role is Role.CAPPED:
            return self._one(self._wrong("withdrawal_max_exceeded", player, "request_withdrawal", **order))
        if self.rng.random() < 0.95:
            self._later(player, lambda: self.decide_withdrawal(player, order["order_id"]), (1, 4))
        return self._one(self._plan(player, "request_withdrawal", **order))

    def decide_withdrawal(self, player: Player, order_id: str) -> Post | None:
        """The back office approves or rejects; a frozen wallet's request it can only reject."""
        planned: list[Planned] = []
        approve = self.rng.random() < 0.75
        if self._wallet(player).status == "frozen":
            planned.append(self._wrong("wallet_frozen", player, "approve_withdrawal", order_id=order_id))
            approve = False
        kind = "approve_withdrawal" if approve else "reject_withdrawal"
        reason = None if approve else "name does not match the account"
        planned.append(self._plan(player, kind, order_id=order_id, reason=reason))
        if self.rng.random() < 0.05:
            planned.append(self._wrong("already_resolved", player, kind, order_id=order_id, reason="again"))
        return Post(tuple(planned), actor=self.rng.choice(OPERATORS))

    def transfer(self, player: Player) -> Post | None:
        """Money for somebody else; some of them unknown, gone, or not taking any: it comes back."""
        if player.role in (Role.VISITOR, Role.CAPPED, Role.CREDIT):
            return None
        amount = self._part_of_cash(player)
        if amount is None:
            return None
        to_user_id = self._receiver(player)
        if to_user_id is None:
            return None
        return self._one(
            self._plan(
                player,
                "transfer",
                transfer_id=self._id("t"),
                to_user_id=to_user_id,
                asset=player.asset,
                amount=amount,
            )
        )

    def grant(self, player: Player) -> Post | None:
        """A bonus, with or without an end."""
        if player.role in (Role.VISITOR, Role.CAPPED) or not self._wallet(player).status:
            return None
        return self._one(
            self._plan(
                player,
                "grant_bonus",
                grant_id=self._id("g"),
                asset=player.asset,
                amount=self._money(player.asset, 5, 100),
                expires_at_us=self._expiry(),
            )
        )

    def adjust(self, player: Player) -> Post | None:
        """A correction by one operator, up or down."""
        if player.role in (Role.VISITOR, Role.CAPPED):
            return None
        down = self._part_of_cash(player) if self.rng.random() < 0.4 else None
        amount = self._money(player.asset, 1, 50) if down is None else -down
        planned = self._plan(player, "adjust", asset=player.asset, amount=amount, reason="rounding of an old ledger")
        return Post((planned,), actor=self.rng.choice(OPERATORS))

    def propose(self, player: Player) -> Post | None:
        """A larger correction, which a second operator must approve; the first one tries as well."""
        if player.role in (Role.VISITOR, Role.CAPPED):
            return None
        adjustment_id = self._id("a")
        first, second = self.rng.sample(OPERATORS, 2)
        planned = self._plan(
            player,
            "propose_adjustment",
            adjustment_id=adjustment_id,
            asset=player.asset,
            amount=self._money(player.asset, 50, 500),
            reason="goodwill after an outage",
        )
        if self.rng.random() < 0.3:
            alone = self._wrong("same_actor", player, "approve_adjustment", adjustment_id=adjustment_id)
            self._later(player, lambda: Post((alone,), actor=first), (0, 0))
        kind = "approve_adjustment" if self.rng.random() < 0.75 else "reject_adjustment"
        decision = self._plan(player, kind, adjustment_id=adjustment_id)
        self._later(player, lambda: Post((decision,), actor=second), (1, 3))
        return Post((planned,), actor=first)

    def reverse(self, player: Player) -> Post | None:
        """Take back a deposit, grant or adjustment that is still whole; and try it a second time."""
        wallet = self._wallet(player)
        if wallet.status != "open" or player.role in (Role.CAPPED, Role.CREDIT):
            return None
        whole = [
            position
            for position, item in wallet.reversibles.items()
            if not item.reversed
            and (item.cash <= 0 or item.cash <= wallet.cash[item.asset])
            and (item.grant_id is None or _lasts(wallet, item.grant_id, self.books.clock_us))
        ]
        if not whole:
            return None
        position = self.rng.choice(whole)
        planned = [self._plan(player, "reverse", position=position, reason="posted by mistake")]
        if self.rng.random() < 0.3:
            planned.append(self._wrong("already_resolved", player, "reverse", position=position, reason="again"))
        return Post(tuple(planned), actor=self.rng.choice(OPERATORS))

    def freeze(self, player: Player) -> Post | None:
        """A wallet under review: it takes money and gives none, until the back office lets it go."""
        wallet, asset = self._wallet(player), player.asset
        if player.role is not Role.REGULAR or wallet.status != "open":
            return None
        unfreeze = Post(
            (
                self._plan(player, "unfreeze_wallet", reason="review done"),
                self._wrong("already_resolved", player, "unfreeze_wallet", reason="review done"),
            ),
            actor=self.rng.choice(OPERATORS),
        )
        self._later(player, lambda: unfreeze, (1, 2))
        planned = (
            self._plan(player, "freeze_wallet", reason="unusual pattern of bets"),
            self._wrong("wallet_frozen", player, "place_bet", **self._bet_fields(asset, 100)),
            self._plan(player, "deposit", **self._order(asset, self._money(asset, 100, 300))),
            self._wrong("wallet_frozen", player, "freeze_wallet", reason="twice"),
        )
        return Post(planned, batch=self.rng.random() < 0.5, actor=self.rng.choice(OPERATORS))

    def relimit(self, player: Player) -> Post | None:
        """New limits: a careful player's for today, a regular player's for a moment."""
        wallet = self._wallet(player)
        if wallet.status != "open":
            return None
        if player.role is Role.CAREFUL:
            stake_max = self.rng.choice((0, 50_000, 200_000, None))
            return self._one(self._plan(player, "set_limits", asset="INR", stake_max_per_day=stake_max))
        if player.role is Role.REGULAR:
            asset = player.asset
            return Post(
                (
                    self._plan(player, "set_limits", asset=asset, stake_max_per_day=0, withdrawal_max_per_day=0),
                    self._wrong("stake_max_exceeded", player, "place_bet", **self._bet_fields(asset, 100)),
                    self._wrong("withdrawal_max_exceeded", player, "request_withdrawal", **self._order(asset, 100)),
                    self._plan(
                        player, "set_limits", asset=asset, stake_max_per_day=None, withdrawal_max_per_day=None
                    ),
                ),
                batch=self.rng.random() < 0.5,
            )
        return None

    def cancel_first(self, player: Player) -> Post | None:
        """The cancel overtakes its bet: the bet is then refused for ever."""
        if self._wallet(player).status != "open":
            return None
        fields = self._bet_fields(player.asset, 100)
        planned = (
            self._plan(player, "cancel_bet", bet_id=fields["bet_id"], reason="client timed out"),
            self._wrong("bet_cancelled_before", player, "place_bet", **fields),
            self._wrong("already_resolved", player, "cancel_bet", bet_id=fields["bet_id"]),
        )
        return Post(planned, batch=self.rng.random() < 0.5)

    def leave(self, player: Player) -> Post | None:
        """A visitor takes everything out and closes the wallet; refused while something is left."""
        wallet = self._wallet(player)
        if player.role is not Role.VISITOR or wallet.status != "open":
            return None
        if not wallet.nothing_open():
            return self._one(self._wrong("wallet_not_empty", player, "close_wallet", reason="leaves"))
        planned: list[Planned] = []
        if wallet.cash["INR"]:
            order = self._order("INR", wallet.cash["INR"])
            planned += [
                self._wrong("wallet_not_empty", player, "close_wallet", reason="leaves"),
                self._plan(player, "request_withdrawal", **order),
                self._plan(player, "approve_withdrawal", order_id=order["order_id"]),
            ]
        planned += [
            self._plan(player, "close_wallet", reason="leaves"),
            self._wrong("wallet_closed", player, "place_bet", **self._bet_fields("INR", 100)),
        ]
        return Post(tuple(planned), batch=self.rng.random() < 0.5)

    def send_again(self, player: Player) -> Post | None:
        """A copy of something accepted long ago must be a hit; its id with other fields is refused."""
        if not self.now.sent:
            return None
        old = self.rng.choice(self.now.sent)
        if not self.books.accepted(old.command):
            return None
        if "amount" in old.command and self.rng.random() < 0.2:
            changed = {**old.command, "amount": old.command["amount"] + 1}
            return Post((Planned(changed, frozenset({"command_id_reused"})),))
        return Post((Planned(old.command, SURE, again=True),), batch=player.role is Role.CREDIT)

    def mistake(self, player: Player) -> Post | None:
        """One of the errors that real clients make, with the one code that must answer it."""
        wallet, asset = self._wallet(player), player.asset
        if player.role is not Role.REGULAR or wallet.status != "open":
            return None
        choices = [
            ("malformed_request", "deposit", {**self._order(asset, 100), "amount": "100"}),
            ("malformed_request", "deposit", {**self._order(asset, 100), "amount": 100.0}),
            ("malformed_request", "deposit", {**self._order(asset, 100), "amount": True}),
            ("malformed_request", "deposit", {**self._order(asset, 100), "colour": "red"}),
            ("malformed_request", "deposit", {"order_id": self._id("o"), "asset": asset}),
            ("malformed_request", "withdraw_everything", {}),
            ("wallet_already_open", "open_wallet", {}),
            ("amount_out_of_range", "deposit", self._order(asset, 2**53)),
            ("unknown_asset", "deposit", self._order("DOGE", 100)),
            ("unknown_game", "place_bet", {**self._bet_fields(asset, 100), "game": "roulette_30s"}),
            ("insufficient_funds", "place_bet", self._bet_fields(asset, FAR_TOO_MUCH)),
            ("insufficient_funds", "request_withdrawal", self._order(asset, FAR_TOO_MUCH)),
            ("insufficient_funds", "hold", {"hold_id": self._id("h"), "asset": asset, "amount": FAR_TOO_MUCH}),
            ("insufficient_funds", "adjust", {"asset": asset, "amount": -FAR_TOO_MUCH, "reason": "typo"}),
            ("bet_not_found", "settle_bet", {"bet_id": self._id("nothing"), "payout": 100}),
            ("hold_not_found", "release_hold", {"hold_id": self._id("nothing")}),
            ("order_not_found", "approve_withdrawal", {"order_id": self._id("nothing")}),
            ("adjustment_not_found", "approve_adjustment", {"adjustment_id": self._id("nothing")}),
            ("cannot_reverse", "reverse", {"position": "0:9007199254740991", "reason": "typo"}),
            ("already_resolved", "unfreeze_wallet", {"reason": "was never frozen"}),
            (
                "same_wallet",
                "transfer",
                {"transfer_id": self._id("t"), "to_user_id": player.user_id, "asset": asset, "amount": 100},
            ),
        ]
        if wallet.bets:
            bet_id, bet = self.rng.choice(list(wallet.bets.items()))
            code = "bet_cancelled_before" if bet.status == "never" else "bet_id_reused"
            choices += [(code, "place_bet", {**self._bet_fields(asset, 100), "bet_id": bet_id})] * 4
        if wallet.orders:
            order_id, order = self.rng.choice(list(wallet.orders.items()))
            choices += [("order_id_reused", "deposit", {**self._order(asset, 100), "order_id": order_id})] * 4
            if order.kind == "deposit":
                choices.append(("order_not_found", "approve_withdrawal", {"order_id": order_id}))
        if wallet.grants:
            grant = {"grant_id": self.rng.choice(list(wallet.grants)), "asset": asset, "amount": 100}
            choices += [("grant_id_reused", "grant_bonus", grant)] * 2
        if wallet.holds:
            taken = {"hold_id": self.rng.choice(list(wallet.holds)), "asset": asset, "amount": 1}
            choices += [("hold_id_reused", "hold", taken)] * 2
        code, kind, fields = self.rng.choice(choices)
        return Post((self._wrong(code, player, kind, **fields),), batch=self.rng.random() < 0.3)

    # -- small leaves --------------------------------------------------------------------------------------------

    def _wallet(self, player: Player) -> Wallet:
        return self.books.wallet(player.user_id)

    def _somebody(self) -> Player:
        return self.rng.choices(self.here, cum_weights=self.weights)[0]

    def _nobody(self) -> str:
        return f"{self.day.tag}nobody{self.rng.randint(1, 50)}"

    def _receiver(self, player: Player) -> str | None:
        luck = self.rng.random()
        if luck < 0.08:
            return self._nobody()
        others = [self.rng.choice(self.books.opened) for _ in range(6)]
        roles = {user_id: self.role_of[user_id] for user_id in others if user_id != player.user_id}
        if luck < 0.2:
            for user_id, role in roles.items():
                if role is Role.VISITOR and self.books.wallet(user_id).status == "closed":
                    return user_id
                if role is Role.CAPPED and player.asset == "GOLD" and "GOLD" in self.books.wallet(user_id).limits:
                    return user_id
        return next((user_id for user_id, role in roles.items() if role is Role.REGULAR), None)

    def _part_of_cash(self, player: Player) -> int | None:
        """An amount that the wallet's sure cash covers, or None if it is frozen, gone or poor."""
        wallet = self._wallet(player)
        cash = wallet.cash[player.asset]
        if wallet.status != "open" or cash < 10:
            return None
        return self.rng.randint(1, max(cash // 3, 1))

    def _expiry(self) -> int | None:
        luck = self.rng.random()
        if luck < 0.5:
            return None
        if luck < 0.85:
            return self.books.clock_us + self.rng.randint(SECOND_US // 5, 2 * SECOND_US)
        return self.books.clock_us + (DAY_US if luck < 0.95 else -SECOND_US)

    def _money(self, asset: str, low: int, high: int) -> int:
        """An amount between `low` and `high` whole units, small ones oftener, in odd minor units."""
        units = math.exp(self.rng.uniform(math.log(low), math.log(high)))
        return max(round(units * UNIT[asset]), 1)

    def _order(self, asset: str, amount: int) -> Command:
        return {"order_id": self._id("o"), "asset": asset, "amount": amount}

    def _order_with_bonus(self, player: Player, *, first: bool) -> Command:
        order = self._order(player.asset, self._money(player.asset, 100, 3_000 if first else 800))
        if player.role in (Role.VISITOR, Role.CAPPED):
            return order
        if first:
            units = order["amount"] // UNIT[player.asset]
            steps = [bonus for least, bonus in FIRST_DEPOSIT_BONUS if units >= least]
            if steps:
                order["bonus"] = steps[-1] * UNIT[player.asset]
        elif self.rng.random() < 0.15:
            order["bonus"] = max(order["amount"] // 10, 1)
        return order

    def _bet_fields(self, asset: str, stake: int) -> Command:
        return {
            "bet_id": self._id("b"),
            "game": "external",
            "period": self._period(),
            "selection": self.rng.choice(PICKS),
            "asset": asset,
            "stake": stake,
        }

    def _period(self) -> str:
        return f"round {self.number}-{self.now.period:03d}"

    def _id(self, kind: str) -> str:
        self.now.numbers += 1
        odd = "/?%41+#" if self.now.numbers % 50 == 0 else ""  # ids are any ASCII: nobody may decode or cut them
        return f"{kind}-{self.number}-{self.now.numbers}{odd}"

    def _plan(self, player: Player, kind: str, may: frozenset[str] = SURE, **fields: object) -> Planned:
        command: Command = {"type": kind, "command_id": self._id("c"), "user_id": player.user_id}
        # In `set_limits` null has a meaning of its own; elsewhere it is the same as absent.
        command |= fields if kind == "set_limits" else {k: v for k, v in fields.items() if v is not None}
        if self.rng.random() < 0.1:
            command["metadata"] = {"server": f"gs-{self.number}", "note": self.rng.choice(PICKS)}
        planned = Planned(command, may)
        if may == SURE:
            self.now.sent.append(planned)
        return planned

    def _wrong(self, code: str, player: Player, kind: str, **fields: object) -> Planned:
        return self._plan(player, kind, frozenset({code}), **fields)

    def _one(self, planned: Planned) -> Post:
        return self._faulty(Post((planned,)))

    def _faulty(self, post: Post) -> Post:
        """A few posts go wrong on the way (truth 4)."""
        if any(planned.may != SURE for planned in post.planned):
            return post
        fault = self.rng.choices((Fault.NONE, Fault.TWICE, Fault.ANSWER_LOST), (96, 2, 2))[0]
        return Post(post.planned, post.batch, post.actor, fault)

    def _later(self, player: Player, post: Callable[[], Post | None], periods: tuple[int, int]) -> None:
        self.now.late.append(Later(self.now.period + self.rng.randint(*periods), player.user_id, post))


def _dice(day: Day, name: str) -> Random:
    return Random(f"{day.seed}/{name}")  # noqa: S311 - a day that can be played again, no secret


def _lasts(wallet: Wallet, grant_id: str, clock_us: int) -> bool:
    """Whether nothing was spent of the grant and it ends later than the hour."""
    grant = wallet.grants[grant_id]
    ends_at_us = grant.expires_at_us
    return grant.untouched and (ends_at_us is None or ends_at_us > clock_us + HORIZON_US)
