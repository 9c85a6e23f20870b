"""What players do for bonuses, and what the house does to win players: attendance, gifts, referral codes. No I/O.

Invariant: the claims of a gift are one wave, and a wallet claims one gift at a time. So the shares can be read before
the wallets do anything else (`demo.books.flows`, invariant 4).
"""

from __future__ import annotations

from collections.abc import Iterator

from demo.books.wallets import ACCEPTED, Command
from demo.traffic.actions import OPERATORS
from demo.traffic.plan import Planned, Player, Post, Role
from demo.traffic.withdrawals import Withdrawals

PLAYERS = (Role.REGULAR, Role.CREDIT, Role.CAREFUL)
"""Who takes part."""
CLAIMS_AT_ONCE = 8


class Campaigns(Withdrawals):
    """The campaigns of one game server."""

    opened: list[Player]

    def attend(self, player: Player) -> Post | None:
        """Claim the bonus of the day; sometimes a second time, or in an asset that has none."""
        wallet = self._wallet(player)
        if player.role not in PLAYERS or wallet.status != "open":
            return None
        may = self.books.money.may_attend(wallet, player.asset, self.books.clock_us)
        if ACCEPTED not in may and self.rng.random() < 0.6:
            return None
        return self._one(self._plan(player, "claim_attendance", may=may, asset=player.asset))

    def claim_code(self, player: Player) -> Post | None:
        """A referral code of the player's own; or one that another user has, which is refused later."""
        wallet, codes = self._wallet(player), self.books.money.codes
        if not self.day.campaigns or player.role not in PLAYERS or wallet.status != "open":
            return None
        own = f"{player.user_id}-code"
        if wallet.code is None:
            taken = self.rng.choice(list(codes)) if codes and self.rng.random() < 0.1 else None
            return self._one(self._plan(player, "claim_referral_code", code=taken or own))
        if wallet.code not in codes or codes[wallet.code] != player.user_id or self.rng.random() < 0.8:
            return None
        return self._one(self._wrong("already_claimed", player, "claim_referral_code", code=f"{own}-2"))

    def gift(self) -> Iterator[list[Post]]:
        """A gift: its creation, claims at once of which some may find no share left, and often its end."""
        asset = self.rng.choices(("INR", "USDT", "GOLD"), (80, 12, 8))[0]
        claimers = [player for player in self.opened if self._may_claim(player)]
        claimers = self.rng.sample(claimers, min(self.rng.randint(1, CLAIMS_AT_ONCE), len(claimers)))
        if not claimers:
            return
        code = f"{self.day.tag}gift-{self.number}-{self.now.numbers}"
        stream = Player(f"gift:{code}", Role.REGULAR, asset)
        claims = max(len(claimers) + self.rng.choice((-1, 0, 0, 2)), 1)
        fields: Command = {"asset": asset, "amount": self._money(asset, 20, 400), "claims": claims}
        create = [self._plan(stream, "create_gift", **fields)]
        if self.rng.random() < 0.3:
            create.insert(0, self._wrong("not_eligible", stream, "close_gift", reason="mistaken"))
            create.append(self._wrong("already_resolved", stream, "create_gift", **fields))
        yield [Post(tuple(create), actor=self.rng.choice(OPERATORS))]
        yield [self._claim(player, code, enough=claims >= len(claimers)) for player in claimers]
        gift = self.books.money.gifts.get(code)
        if gift is None or gift.under_way() or self.rng.random() < 0.4:
            return
        close = (
            self._plan(stream, "close_gift", reason="the campaign is over"),
            self._wrong("already_resolved", stream, "close_gift", reason="again"),
        )
        yield [Post(close, actor=self.rng.choice(OPERATORS))]
        late = next((player for player in self.opened if player not in claimers and self._may_claim(player)), None)
        if late is not None and self.rng.random() < 0.5:
            yield [Post((self._plan(late, "claim_gift", code=code),))]

    def _claim(self, player: Player, code: str, *, enough: bool) -> Post:
        planned: list[Planned] = [self._plan(player, "claim_gift", code=code)]
        if enough and self.rng.random() < 0.2:
            planned.append(self._wrong("already_claimed", player, "claim_gift", code=code))
        return self._faulty(Post(tuple(planned)))

    def _may_claim(self, player: Player) -> bool:
        wallet = self._wallet(player)
        return player.role in PLAYERS and wallet.status == "open" and "claimed" not in wallet.gifts.values()
