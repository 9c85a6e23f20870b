"""What players and operators do. Each action returns a post, or None if the wallet cannot do it now. No I/O.

Time is the books' clock: the last `time_us` that the service returned. Invariant: no transfer goes to a wallet whose
acceptance may change while the transfer is under way (`demo.books.books`, invariant 5). A wallet that may close, or
that has a `balance_max`, gets no transfer, unless it refuses every transfer.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from demo.books.books import Books
from demo.books.wallets import ACCEPTED, DAY_US, HORIZON_US, Command, Wallet, keeps_bonus
from demo.traffic.plan import ANY_SHORTAGE, SURE, UNIT, Day, Fault, Later, Planned, Player, Post, Role, Wager, seeded

FAR_TOO_MUCH = 10**13
MORE_THAN_A_WALLET = {asset: 10_000 * unit for asset, unit in UNIT.items()}
"""No regular player gets so much, and one operator may adjust it alone."""
PLAYS_THROUGH = 0.3
"""How often a player stakes all that the wagering still asks for. Chosen, so that withdrawals are possible."""
FIRST_DEPOSIT_BONUS = ((100, 20), (300, 60), (1_000, 150), (3_000, 300), (10_000, 600))
PICKS = ("big", "small", "red", "green", "violet", "7", "home win", "over 2½", "सात")
OPERATORS = ("ops-asha", "ops-ben", "ops-chidi")
SECOND_US = 1_000_000


@dataclass(slots=True)
class _Progress:
    """The progress of a server through its day."""

    period: int = 0
    used: int = 0
    numbers: int = 0
    late: list[Later] = field(default_factory=list)
    wagers: list[Wager] = field(default_factory=list)
    sent: deque[Planned] = field(default_factory=lambda: deque(maxlen=2_000))


class Actions:
    """The actions on one game server. `books` is shared by all servers and only read."""

    def __init__(self, day: Day, number: int, books: Books, role_of: dict[str, Role]) -> None:
        """`role_of`: the role of each user of the day."""
        self.day = day
        self.number = number
        self.books = books
        self.rng = seeded(day, f"server {number}")
        self.role_of = role_of
        self.now = _Progress()

    def open(self, player: Player) -> Post:
        """A new wallet: with a referrer, a referral code or neither, and the limits of its role."""
        planned: list[Planned] = []
        luck = self.rng.random()
        referrer: str | None = None
        code: str | None = None
        if self.day.campaigns and self.books.money.codes and luck < 0.15:
            code = self.rng.choice(list(self.books.money.codes))
        elif self.day.campaigns and luck < 0.17:
            code = f"{self._unknown_user()}-code"
        elif self.books.opened and luck < 0.6:
            referrer = self._referrer()
        elif luck < 0.63:
            referrer = self._unknown_user()
        elif luck < 0.64:
            planned.append(self._wrong("same_wallet", player, "open_wallet", referrer_id=player.user_id))
        elif luck < 0.66:
            planned.append(self._wrong("wallet_not_open", player, "deposit", **self._order("INR", 100)))
        planned.append(self._plan(player, "open_wallet", referrer_id=referrer, referral_code=code))
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
            case _ if self.day.campaigns and self.rng.random() < 0.06:
                planned.append(self._plan(player, "set_agent_level", level=self.rng.randint(1, 7)))
            case _:
                pass
        return self._faulty(Post(tuple(planned), batch=self.rng.random() < 0.5))

    def first_deposit(self, player: Player) -> Post | None:
        """Most users deposit when they have opened their wallet; its bonus comes by the rules, or with the order."""
        if self.rng.random() >= 0.85 or player.role is Role.CAPPED or self._wallet(player).status is None:
            return None
        return self._one(self._plan(player, "deposit", **self._order_with_bonus(player, first=True)))

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
        """A bet on this period; larger than the player's money now and then, or all that the wagering asks for."""
        wallet, asset = self._wallet(player), player.asset
        if wallet.status != "open":
            return None
        limit, window = wallet.limit(asset), wallet.wagering_of(asset).now()
        wanted = self._money(asset, 5, 300)
        if window is not None and window.remaining and self.rng.random() < PLAYS_THROUGH:
            wanted = window.remaining
        stake = min(wanted, max(wallet.cash[asset] + wallet.bonus(asset), 10))
        if self.rng.random() < 0.03:
            stake *= 3
        may = SURE if stake <= wallet.cash[asset] + limit.credit_limit else ANY_SHORTAGE
        if limit.stake_max_per_day is not None:
            day = self.books.clock_us // DAY_US
            if wallet.staked[asset, day] + stake > limit.stake_max_per_day:
                may = frozenset({"stake_max_exceeded"})
            if DAY_US - self.books.clock_us % DAY_US < 60 * SECOND_US:
                may |= ANY_SHORTAGE | {"stake_max_exceeded"}
        return self._one(self._bet(player, stake, may))

    def _bet(self, player: Player, stake: int, may: frozenset[str] = SURE) -> Planned:
        """The bet, and when its result is due: nearly always at the end of this period."""
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
            asset=player.asset,
            stake=stake,
            spend=spend,
        )
        settled_after = self.rng.choices((0, 1, self.day.periods), (94, 5, 1))[0]
        self.now.wagers.append(Wager(self.now.period + settled_after, player, bet_id))
        return planned

    def hold(self, player: Player) -> Post | None:
        """A hold: without an expiry, or expiring in a moment, tomorrow, or in the past."""
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

    def transfer(self, player: Player) -> Post | None:
        """Money for another user. Some are unknown, closed or at their cap: then the money returns."""
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
        """A bonus, with or without an expiry."""
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
        """A larger correction, which a second operator must approve; sometimes the first one tries it too."""
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
        """Reverse a deposit, grant or adjustment that is still whole; sometimes try it a second time. The bonus of a
        first deposit must be reversed before the deposit."""
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
        if keeps_bonus(wallet, wallet.reversibles[position]):
            return Post(
                (self._wrong("cannot_reverse", player, "reverse", position=position, reason="before its bonus"),)
            )
        planned = [self._plan(player, "reverse", position=position, reason="posted by mistake")]
        if self.rng.random() < 0.3:
            planned.append(self._wrong("already_resolved", player, "reverse", position=position, reason="again"))
        return Post(tuple(planned), actor=self.rng.choice(OPERATORS))

    def freeze(self, player: Player) -> Post | None:
        """A wallet under review: it takes deposits and pays nothing, until the back office unfreezes it."""
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
        """New limits: for a careful player for today, for a regular player for a moment."""
        wallet = self._wallet(player)
        if wallet.status != "open":
            return None
        if player.role is Role.CAREFUL:
            stake_max = self.rng.choice((0, 50_000, 200_000, None))
            return self._one(self._plan(player, "set_limits", asset="INR", stake_max_per_day=stake_max))
        if player.role is Role.REGULAR:
            asset = player.asset
            amount = self.books.money.of(asset).withdrawal.get("min", 100)
            by_rules = self.books.money.may_withdraw(wallet, asset, amount, self.books.clock_us)
            may = frozenset("withdrawal_max_exceeded" if outcome == ACCEPTED else outcome for outcome in by_rules)
            return Post(
                (
                    self._plan(player, "set_limits", asset=asset, stake_max_per_day=0, withdrawal_max_per_day=0),
                    self._wrong("stake_max_exceeded", player, "place_bet", **self._bet_fields(asset, 100)),
                    self._plan(player, "request_withdrawal", may=may, **self._order(asset, amount)),
                    self._plan(
                        player, "set_limits", asset=asset, stake_max_per_day=None, withdrawal_max_per_day=None
                    ),
                ),
                batch=self.rng.random() < 0.5,
            )
        return None

    def cancel_first(self, player: Player) -> Post | None:
        """The cancel overtakes its bet: after it the bet is always refused."""
        if self._wallet(player).status != "open":
            return None
        fields = self._bet_fields(player.asset, 100)
        planned = (
            self._plan(player, "cancel_bet", bet_id=fields["bet_id"], reason="client timed out"),
            self._wrong("bet_cancelled_before", player, "place_bet", **fields),
            self._wrong("already_resolved", player, "cancel_bet", bet_id=fields["bet_id"]),
        )
        return Post(planned, batch=self.rng.random() < 0.5)

    def send_again(self, player: Player) -> Post | None:
        """A copy of an old accepted command must be a hit; its id with other fields is refused."""
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
        """One of the errors that real clients make, with the one code that it must get."""
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
            ("insufficient_funds", "hold", {"hold_id": self._id("h"), "asset": asset, "amount": FAR_TOO_MUCH}),
            (
                "insufficient_funds",
                "adjust",
                {"asset": asset, "amount": -MORE_THAN_A_WALLET[asset], "reason": "typo"},
            ),
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
        if len(may := self._may_withdraw(player, FAR_TOO_MUCH)) == 1:
            choices.append((next(iter(may)), "request_withdrawal", self._order(asset, FAR_TOO_MUCH)))
        if wallet.bets:
            bet_id, bet = self.rng.choice(list(wallet.bets.items()))
            code = "bet_cancelled_before" if bet.status == "never" else "bet_id_reused"
            choices += [(code, "place_bet", {**self._bet_fields(asset, 100), "bet_id": bet_id})] * 4
        if wallet.orders:
            order_id, order = self.rng.choice(list(wallet.orders.items()))
            choices += [("order_id_reused", "deposit", {**self._order(asset, 100), "order_id": order_id})] * 4
            if order.kind == "deposit":
                choices.append(("order_not_found", "approve_withdrawal", {"order_id": order_id}))
        if own := [grant_id for grant_id in wallet.grants if not grant_id.startswith("~")]:
            grant = {"grant_id": self.rng.choice(own), "asset": asset, "amount": 100}
            choices += [("grant_id_reused", "grant_bonus", grant)] * 2
        if wallet.holds:
            taken = {"hold_id": self.rng.choice(list(wallet.holds)), "asset": asset, "amount": 1}
            choices += [("hold_id_reused", "hold", taken)] * 2
        code, kind, fields = self.rng.choice(choices)
        return Post((self._wrong(code, player, kind, **fields),), batch=self.rng.random() < 0.3)

    # -- small leaves --------------------------------------------------------------------------------------------

    def _wallet(self, player: Player) -> Wallet:
        return self.books.wallet(player.user_id)

    def _may_withdraw(self, player: Player, amount: int) -> frozenset[str]:
        """The outcomes of a withdrawal: the rules come before limits and funds."""
        wallet, asset = self._wallet(player), player.asset
        may = self.books.money.may_withdraw(wallet, asset, amount, self.books.clock_us)
        refused = None
        if wallet.limit(asset).withdrawal_max_per_day == 0:
            refused = "withdrawal_max_exceeded"
        elif amount > wallet.cash[asset] + wallet.coming[asset]:
            refused = "insufficient_funds"
        elif amount > wallet.cash[asset]:
            may |= {"insufficient_funds"} if ACCEPTED in may else set()
        return (may - SURE) | {refused} if refused is not None and ACCEPTED in may else may

    def _unknown_user(self) -> str:
        return f"{self.day.tag}unknown{self.rng.randint(1, 50)}"

    def _referrer(self) -> str | None:
        """One of the users; the first ones more often. Not one whose wallet may close or is capped, because a
        commission may arrive at any moment; a closed wallet may be named."""
        for _ in range(4):
            user_id = self.books.opened[int(len(self.books.opened) * self.rng.random() ** 2)]
            role, status = self.role_of[user_id], self.books.wallet(user_id).status
            if role is not Role.CAPPED and (role is not Role.VISITOR or status == "closed"):
                return user_id
        return None

    def _receiver(self, player: Player) -> str | None:
        luck = self.rng.random()
        if luck < 0.08:
            return self._unknown_user()
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
        """An amount that the wallet's sure cash covers; None if the wallet is not open, or has too little."""
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
        """An amount between `low` and `high` whole units, small ones more often, in odd minor units."""
        units = math.exp(self.rng.uniform(math.log(low), math.log(high)))
        return max(round(units * UNIT[asset]), 1)

    def _order(self, asset: str, amount: int) -> Command:
        return {"order_id": self._id("o"), "asset": asset, "amount": amount}

    def _order_with_bonus(self, player: Player, *, first: bool) -> Command:
        order = self._order(player.asset, self._money(player.asset, 100, 3_000 if first else 800))
        if player.role in (Role.VISITOR, Role.CAPPED):
            return order
        if first and not self.books.money.of(player.asset).first_deposit:
            units = order["amount"] // UNIT[player.asset]
            steps = [bonus for least, bonus in FIRST_DEPOSIT_BONUS if units >= least]
            if steps:
                order["bonus"] = steps[-1] * UNIT[player.asset]
        elif self.rng.random() < (0.1 if first else 0.15):
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
        odd = "/?%41+#" if self.now.numbers % 50 == 0 else ""  # an id is any ASCII: no part may decode or cut it
        return f"{kind}-{self.number}-{self.now.numbers}{odd}"

    def _plan(self, player: Player, kind: str, may: frozenset[str] = SURE, **fields: object) -> Planned:
        command: Command = {"type": kind, "command_id": self._id("c"), "user_id": player.user_id}
        # In `set_limits` null resets the limit; in other commands null is the same as absent.
        command |= fields if kind == "set_limits" else {k: v for k, v in fields.items() if v is not None}
        if self.rng.random() < 0.1:
            command["metadata"] = {"server": f"gs-{self.number}", "note": self.rng.choice(PICKS)}
        planned = Planned(command, may)
        if may == SURE:
            self.now.sent.append(planned)
        return planned

    def _wrong(self, refused: str, player: Player, kind: str, /, **fields: object) -> Planned:
        return self._plan(player, kind, frozenset({refused}), **fields)

    def _one(self, planned: Planned) -> Post:
        return self._faulty(Post((planned,)))

    def _faulty(self, post: Post) -> Post:
        """A few posts get a fault (`traffic.plan`, invariant 2)."""
        if any(planned.may != SURE for planned in post.planned):
            return post
        fault = self.rng.choices((Fault.NONE, Fault.TWICE, Fault.RESPONSE_LOST), (96, 2, 2))[0]
        return Post(post.planned, post.batch, post.actor, fault)

    def _later(self, player: Player, post: Callable[[], Post | None], periods: tuple[int, int]) -> None:
        self.now.late.append(Later(self.now.period + self.rng.randint(*periods), player.user_id, post))


def _lasts(wallet: Wallet, grant_id: str, clock_us: int) -> bool:
    """Whether nothing of the grant was spent, and it expires later than the horizon."""
    grant = wallet.grants[grant_id]
    ends_at_us = grant.expires_at_us
    return grant.untouched and (ends_at_us is None or ends_at_us > clock_us + HORIZON_US)
