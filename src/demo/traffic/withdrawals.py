"""Withdrawals, the back office's decisions on them, and users who leave. No I/O."""

from __future__ import annotations

from demo.books.wallets import ACCEPTED, Wallet
from demo.traffic.actions import FAR_TOO_MUCH, OPERATORS, Actions
from demo.traffic.plan import SURE, Planned, Player, Post, Role


class Withdrawals(Actions):
    """The withdrawals on one game server."""

    def withdraw(self, player: Player) -> Post | None:
        """A withdrawal, on which the back office decides some periods later; or one that the rules refuse."""
        wallet, asset = self._wallet(player), player.asset
        amount = None if player.role is Role.VISITOR or wallet.status != "open" else self._withdrawal(wallet, asset)
        if amount is None:
            return None
        may = self._may_withdraw(player, amount)
        if ACCEPTED not in may and self.rng.random() < 0.5:
            return None
        order = self._order(asset, amount)
        if ACCEPTED in may and self.rng.random() < 0.95:
            self._later(player, lambda: self.decide_withdrawal(player, order["order_id"]), (1, 4))
        return self._one(self._plan(player, "request_withdrawal", may=may, **order))

    def _withdrawal(self, wallet: Wallet, asset: str) -> int | None:
        """An amount: by the bounds of the rules where the cash suffices, or just outside of them."""
        bounds, cash = self.books.money.of(asset).withdrawal, wallet.cash[asset]
        least, most = bounds.get("min", 1), bounds.get("max", FAR_TOO_MUCH)
        if bounds and self.rng.random() < 0.05:
            return self.rng.choice((max(least - 1, 1), most + 1))
        if cash < max(least, 10):
            return least if bounds and self.rng.random() < 0.1 else None
        return self.rng.randint(least, min(max(cash // 3, least), most))

    def decide_withdrawal(self, player: Player, order_id: str) -> Post | None:
        """The back office approves or rejects; a frozen wallet's request it can only reject."""
        if order_id not in self._wallet(player).orders:
            return None
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

    def sure_deposit(self, player: Player) -> Post:
        """A deposit that is enough for two withdrawals and for the stakes that are still required."""
        window = self._wallet(player).wagering_of(player.asset).now()
        remaining = 0 if window is None else window.remaining
        amount = max(10 * self._least(player), remaining)
        return Post((self._plan(player, "deposit", **self._order(player.asset, amount)),))

    def play_through(self, player: Player) -> Post | None:
        """A bet of the amount that must still be staked, settled with its stake as payout. None if no stake is
        required, or there is no cash."""
        wallet, asset = self._wallet(player), player.asset
        window = wallet.wagering_of(asset).now()
        if window is None or not window.remaining or wallet.cash[asset] < 1:
            return None
        stake = min(window.remaining, wallet.cash[asset])
        fields = self._bet_fields(asset, stake) | {"spend": "cash_first"}
        placed = self._plan(player, "place_bet", **fields)
        return Post((placed, self._plan(player, "settle_bet", bet_id=fields["bet_id"], payout=stake)))

    def least_withdrawal(self, player: Player) -> tuple[str, Post]:
        """The smallest withdrawal that the rules allow, and its id."""
        amount = self._least(player)
        order = self._order(player.asset, amount)
        may = self._may_withdraw(player, amount)
        return order["order_id"], Post((self._plan(player, "request_withdrawal", may=may, **order),))

    def decide(self, player: Player, order_id: str, *, approve: bool) -> Post:
        """The back office's decision on a withdrawal of a wallet that is not frozen."""
        kind, reason = ("approve_withdrawal", None) if approve else ("reject_withdrawal", "the account is unknown")
        return Post((self._plan(player, kind, order_id=order_id, reason=reason),), actor=self.rng.choice(OPERATORS))

    def _least(self, player: Player) -> int:
        return self.books.money.of(player.asset).withdrawal.get("min", 100)

    def leave(self, player: Player) -> Post | None:
        """A visitor withdraws everything, or loses it in a last bet, and closes the wallet; refused while money is
        left."""
        wallet = self._wallet(player)
        if player.role is not Role.VISITOR or wallet.status != "open":
            return None
        if not wallet.nothing_open():
            return self._one(self._wrong("wallet_not_empty", player, "close_wallet", reason="leaves"))
        planned: list[Planned] = []
        cash, bonus = wallet.cash["INR"], wallet.bonus("INR")
        if bonus or (cash and self._may_withdraw(player, cash) != SURE):
            planned.append(self._wrong("wallet_not_empty", player, "close_wallet", reason="leaves"))
            last = self._plan(player, "place_bet", **self._bet_fields("INR", cash + bonus))
            lost = self._plan(player, "settle_bet", bet_id=last.command["bet_id"], payout=0)
            self._later(player, lambda: Post((lost,)), (0, 1))
            return Post((*planned, last))
        if cash:
            order = self._order("INR", cash)
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
