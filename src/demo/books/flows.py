"""The money flows of the books: bonuses, wagering, gifts, referrals and commissions, by the contract's rules.

Invariants:

1. A bonus that a command causes on its own wallet is the next event of the log, in the same append. The books add it
   with the command's response; only a read at exactly the position of the response may lack it
   (`Wallet.just_granted`).
2. Commissions and the bonuses for invitations go to wallets of other users. The books expect them from just before
   the command that leads to them is posted; that command must be accepted. Until `settle` a commission is coming, and
   a bonus is awaited: its amount is known, its place in the log is read later (`grants_read`).
3. What a wallet must stake before a withdrawal depends on the order of its events. So it is unknown while a bonus is
   awaited.
4. A wallet that was opened with a referral code does nothing until its referrer is read (`referrer_read`). The claims
   of one gift are posted together, by wallets that do nothing else until all shares are read. So the order in which
   these follow-ups arrive changes only which wallets get the larger shares.
5. With commissions by the day, a stake belongs to the UTC day of the response that settled it, or, if an outcome
   settled it, to the day of the books' clock. The commission is coming from `DUE_WITHIN_US` before it is due.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from demo.books.rules import LEVELS, NO_RULES, MoneyRules, Rules, reached
from demo.books.wallets import ACCEPTED, DAY_US, Awaited, Command, Grant, Reversible, Wallet

DUE_WITHIN_US = 300_000_000
"""Commissions by the day that are due within this time are waited for at the end. Chosen: far longer than the reads
at the end take."""
MIDNIGHT_US = 60_000_000
"""A command that is planned so shortly before midnight UTC may be decided on the next day."""


@dataclass(slots=True)
class Gift:
    """A gift, and the outcome of each claim: the share, 0 if it was refused, None while it is under way."""

    code: str
    asset: str
    amount: int
    claims: int
    shares: dict[str, int | None] = field(default_factory=dict)
    closed: bool = False

    def under_way(self) -> list[str]:
        """The users whose share has not been read."""
        return [user_id for user_id, share in self.shares.items() if share is None]

    def granted(self) -> int:
        """How many shares were read."""
        return sum(bool(share) for share in self.shares.values())


class Flows:
    """The money flows of all wallets.

    ``sums``: the books' sums by flow and asset. ``codes``: the owner of each referral code that a read has shown.
    """

    def __init__(
        self,
        rules: Rules,
        wallets: Mapping[str, Wallet],
        sums: Counter[tuple[str, str]],
        surprise: Callable[[Command, str], None],
    ) -> None:
        self.rules = rules
        self.gifts: dict[str, Gift] = {}
        self.codes: dict[str, str] = {}
        self._wallets, self._sums, self._surprise = wallets, sums, surprise
        self._announced: set[tuple[str, str]] = set()
        self._due: list[tuple[int, Wallet, str, int]] = []

    def of(self, asset: str) -> MoneyRules:
        """The rules of an asset."""
        return self.rules.get(asset, NO_RULES)

    # -- before a command is posted that must be accepted ------------------------------------------------------------

    def sending(self, command: Command) -> None:
        """Expect what the command leads to on wallets of other users."""
        key = (command["user_id"], command["command_id"])
        wallet = self._wallets.get(command["user_id"])
        if wallet is None or key in self._announced:
            return
        self._announced.add(key)
        if command["type"] == "deposit":
            self._count_deposit(wallet, command["asset"], command["amount"])
        if command["type"] == "settle_bet" and (bet := wallet.bets.get(command["bet_id"])) is not None:
            commission = self.of(bet.asset).commission
            if bet.status == "open" and commission is not None and commission.mode == "per_bet":
                self._earn(wallet, bet.asset, bet.stake)

    def settled(self, wallet: Wallet, asset: str, stake: int, now_us: int, *, by_response: bool) -> None:
        """A stake that earns a commission was settled: by a response, or else by the outcome of a period."""
        commission = self.of(asset).commission
        if commission is None or wallet.referrer_id is None:
            return
        if commission.mode == "daily":
            due_us = (now_us // DAY_US + 1) * DAY_US + commission.delay_s * 1_000_000
            self._due.append((due_us, wallet, asset, stake))
        elif not by_response:
            self._earn(wallet, asset, stake)

    def latest_due_us(self, clock_us: int) -> int:
        """When the last of the commissions that are due within `DUE_WITHIN_US` is due, in Unix microseconds; 0 if
        there is none."""
        return max((due[0] for due in self._due if due[0] <= clock_us + DUE_WITHIN_US), default=0)

    def fall_due(self, until_us: int) -> None:
        """Expect the commissions that are due by then."""
        if not self._due or min(self._due, key=lambda due: due[0])[0] > until_us:
            return
        for due_us, wallet, asset, stake in self._due:
            if due_us <= until_us:
                self._earn(wallet, asset, stake)
        self._due = [due for due in self._due if due[0] > until_us]

    # -- what a command's own event adds -----------------------------------------------------------------------------

    def require(
        self, wallet: Wallet, command: Command, body: dict[str, Any], *, deposit: int = 0, bonus: int = 0
    ) -> None:
        """Add what the deposit or bonus of a response requires to be staked before a withdrawal."""
        amount = self.of(command["asset"]).wagered(deposit=deposit, bonus=bonus)
        wallet.wagering_of(command["asset"]).add(body["seq"], amount)
        given = (body.get("data") or {}).get("wagering") or 0
        if given != amount:
            self._surprise(command, f"requires {given} to be staked, by the rules {amount}")

    def attended(self, wallet: Wallet, command: Command, body: dict[str, Any], now_us: int) -> Grant | None:
        """The grant of `claim_attendance`; None if the rules give none."""
        asset, day = command["asset"], now_us // DAY_US
        steps = self.of(asset).attendance
        if self._attendance(wallet, asset, day) != ACCEPTED:
            self._surprise(command, "was accepted, by the rules it is not due")
            return None
        last_day, streak = wallet.attendance.get(asset, (-2, 0))
        streak = streak + 1 if last_day == day - 1 and streak < len(steps) else 1
        wallet.attendance[asset] = (day, streak)
        data = body.get("data") or {}
        grant_id = self._own_id(wallet, "attendance")
        ours = {"amount": steps[streak - 1], "streak": streak, "grant_id": grant_id}
        theirs = {name: data.get(name) for name in ours}
        if theirs != ours:
            self._surprise(command, f"granted {theirs}, by the rules {ours}")
        return Grant(grant_id, asset, steps[streak - 1], body["seq"], None, steps[streak - 1], kind="attendance")

    def caused(self, wallet: Wallet, command: Command, body: dict[str, Any]) -> None:
        """Add the bonuses that the response causes on its own wallet, and note what it begins on other wallets."""
        kind = command["type"]
        if kind == "open_wallet":
            owed = [("registration", asset, rules.registration) for asset, rules in sorted(self.rules.items())]
            self._grant_own(wallet, body, owed)
            if (code := command.get("referral_code")) is not None:
                wallet.referrer_coming = self.codes.get(code)
            self._count_member(wallet)
        elif kind == "deposit" and command.get("bonus") is None:
            order_id = wallet.first_deposit and wallet.first_deposit[0]
            bonus = reached(self.of(command["asset"]).first_deposit, command["amount"])
            if order_id == command["order_id"]:
                self._grant_own(wallet, body, [("first_deposit", command["asset"], bonus)])
        elif kind == "claim_referral_code":
            wallet.code = command["code"]
        elif kind == "set_agent_level":
            wallet.agent_level = command["level"]
        elif kind == "claim_gift":
            wallet.gifts[command["code"]] = "claimed"
            gift = self.gifts.get(command["code"])
            if gift is None or gift.closed:
                wallet.gifts[command["code"]] = "refused"
            else:
                gift.shares[wallet.user_id] = None

    def gift_changed(self, command: Command) -> None:
        """Take an accepted command on the stream of a gift."""
        code = command["user_id"].removeprefix("gift:")
        if command["type"] == "create_gift":
            self.gifts[code] = Gift(code, command["asset"], command["amount"], command["claims"])
        elif code in self.gifts:
            self.gifts[code].closed = True

    # -- what a read has shown ---------------------------------------------------------------------------------------

    def referrer_read(self, wallet: Wallet, referrer_id: str | None) -> None:
        """The referrer that the ledger has set for a wallet which was opened with a code."""
        if referrer_id is not None and referrer_id == wallet.referrer_coming:
            wallet.referrer_id, wallet.referrer_coming = referrer_id, None
            self._count_member(wallet)

    def grants_read(self, wallet: Wallet, items: Sequence[dict[str, Any]]) -> list[str]:
        """Take the places of awaited bonuses, and the shares of gifts, from a read of the wallet's grants."""
        found: list[str] = []
        known = {awaited.grant_id: awaited for awaited in wallet.awaited}
        for item in reversed(items):
            seq = int(item["position"].partition(":")[2])
            if (awaited := known.get(item["grant_id"])) is not None:
                self._place(wallet, awaited, seq, item["position"])
            elif item["kind"] == "gift" and item["grant_id"] not in wallet.grants:
                found += self._share_read(wallet, item["grant_id"], item["asset"], item["amount"], seq)
        return found

    def shares_read(self, code: str) -> list[str]:
        """Call this after the grants of all claimants were read. Once as many shares are known as the gift can give,
        all other claims count as refused."""
        gift = self.gifts[code]
        expected = min(gift.claims, len(gift.shares))
        if gift.granted() < expected:
            return []
        for user_id in gift.under_way():
            gift.shares[user_id] = 0
            self._wallets[user_id].gifts[code] = "refused"
        part, rest = divmod(gift.amount, gift.claims)
        theirs = sorted(share for share in gift.shares.values() if share)
        ours = sorted(part + (number < rest) for number in range(expected))
        return [] if theirs == ours else [f"gift {code}: its shares are {theirs}, in the books {ours}"]

    # -- what a command may lead to, for the traffic -----------------------------------------------------------------

    def may_withdraw(self, wallet: Wallet, asset: str, amount: int, clock_us: int) -> frozenset[str]:
        """The possible outcomes of a withdrawal by the rules alone; the ledger checks funds and limits after them."""
        return frozenset().union(*(self._withdrawal(wallet, asset, amount, day) for day in _days(clock_us)))

    def may_attend(self, wallet: Wallet, asset: str, clock_us: int) -> frozenset[str]:
        """The possible outcomes of `claim_attendance`."""
        return frozenset(self._attendance(wallet, asset, day) for day in _days(clock_us))

    # -- small leaves ------------------------------------------------------------------------------------------------

    def _withdrawal(self, wallet: Wallet, asset: str, amount: int, day: int) -> frozenset[str]:
        rules = self.of(asset)
        bounds = rules.withdrawal
        if amount < bounds.get("min", amount) or amount > bounds.get("max", amount):
            return frozenset({"withdrawal_out_of_bounds"})
        if "per_day" in bounds and wallet.requests[asset, day] >= bounds["per_day"]:
            return frozenset({"withdrawals_per_day_exceeded"})
        if not any(rules.wagering.values()):
            return frozenset({ACCEPTED})
        if wallet.awaits(asset):
            return frozenset({ACCEPTED, "wagering_incomplete"})
        window = wallet.wagering_of(asset).now()
        return frozenset({"wagering_incomplete" if window is not None and window.remaining else ACCEPTED})

    def _attendance(self, wallet: Wallet, asset: str, day: int) -> str:
        rules = self.of(asset)
        if not rules.attendance or wallet.deposited(asset, day) < rules.attendance_needs_deposit:
            return "not_eligible"
        return "already_claimed" if wallet.attendance.get(asset, (-1, 0))[0] == day else ACCEPTED

    def _grant_own(self, wallet: Wallet, body: dict[str, Any], owed: Sequence[tuple[str, str, int]]) -> None:
        seq = body["seq"]
        for kind, asset, amount in owed:
            if amount:
                seq += 1
                grant_id = self._own_id(wallet, kind)
                self._granted(wallet, Grant(grant_id, asset, amount, seq, None, amount, kind=kind))
                wallet.just_granted[asset] += amount
                self._reversible(wallet, asset, f"{body['partition']}:{seq}", seq, grant_id)
                self._sums[kind, asset] += amount

    def _granted(self, wallet: Wallet, grant: Grant) -> None:
        wallet.grants[grant.grant_id] = grant
        wallet.wagering_of(grant.asset).add(grant.seq, self.of(grant.asset).wagered(bonus=grant.amount))

    @staticmethod
    def _reversible(wallet: Wallet, asset: str, position: str, seq: int, grant_id: str) -> None:
        wallet.reversibles[position] = Reversible(asset, 0, grant_id, None, seq=seq)

    @staticmethod
    def _own_id(wallet: Wallet, kind: str) -> str:
        wallet.own_grants[kind] += 1
        return f"~{kind}:{wallet.own_grants[kind]}"

    def _place(self, wallet: Wallet, awaited: Awaited, seq: int, position: str) -> None:
        wallet.awaited.remove(awaited)
        if awaited.arrived:
            grant = wallet.grants[awaited.grant_id]
            grant.seq = seq
        else:
            grant = Grant(
                awaited.grant_id, awaited.asset, awaited.amount, seq, None, awaited.amount, kind=awaited.kind
            )
        self._granted(wallet, grant)
        self._reversible(wallet, awaited.asset, position, seq, awaited.grant_id)

    def _share_read(self, wallet: Wallet, grant_id: str, asset: str, amount: int, seq: int) -> list[str]:
        gift = next((g for g in self.gifts.values() if g.shares.get(wallet.user_id, 0) is None), None)
        part, rest = divmod(gift.amount, gift.claims) if gift is not None else (0, 0)
        if gift is None or asset != gift.asset or amount not in ({part, part + 1} if rest else {part}):
            return [f"{wallet.user_id}: has the gift {grant_id} of {amount} {asset}, which no claim explains"]
        gift.shares[wallet.user_id] = amount
        wallet.gifts[gift.code] = "received"
        self._granted(wallet, Grant(self._own_id(wallet, "gift"), asset, amount, seq, None, amount, kind="gift"))
        self._sums["gift", asset] += amount
        return []

    def _ancestors(self, member: Wallet) -> Iterator[tuple[int, Wallet]]:
        """The opened referrers above, with their level: at most six, and never the member itself."""
        up = member.referrer_id
        for level in range(1, LEVELS + 1):
            ancestor = self._wallets.get(up) if up is not None and up != member.user_id else None
            if ancestor is None or ancestor.status is None:
                return
            yield level, ancestor
            up = ancestor.referrer_id

    def _count_member(self, member: Wallet) -> None:
        for level, ancestor in self._ancestors(member):
            if ancestor.status == "closed":
                return
            ancestor.members[level] += 1

    def _count_deposit(self, member: Wallet, asset: str, amount: int) -> None:
        """Count a deposit. If it makes the member a valid referral, expect the bonus of the referrer."""
        rules = self.of(asset)
        if rules.valid_referral is None or member.referrer_id is None or asset in member.valid_in:
            return
        if member.deposited(asset) + amount < rules.valid_referral:
            return
        member.valid_in.add(asset)
        referrer = self._wallets.get(member.referrer_id)
        if referrer is None or referrer.status in (None, "closed"):
            return
        referrer.valid_members[asset] += 1
        if bonus := dict(rules.invitation).get(referrer.valid_members[asset], 0):
            grant_id = self._own_id(referrer, "invitation")
            referrer.awaited.append(Awaited(grant_id, "invitation", asset, bonus))
            self._sums["invitation", asset] += bonus

    def _earn(self, member: Wallet, asset: str, stake: int) -> None:
        """The commissions of all levels on a stake. The fraction of a unit is added to the wallet's next commission,
        so their sum does not depend on their order."""
        commission = self.of(asset).commission
        assert commission is not None, asset
        for level, ancestor in self._ancestors(member):
            if ancestor.status == "closed" or not (rate_e9 := commission.rate_e9(ancestor.agent_level, level)):
                continue
            before = ancestor.commission(asset)
            ancestor.commission_e9[asset] += stake * rate_e9
            ancestor.commission_parts[asset] += 1
            ancestor.coming[asset] += ancestor.commission(asset) - before
            self._sums["commission", asset] += ancestor.commission(asset) - before


def arrive(wallet: Wallet, grant_id: str, seq: int) -> None:
    """A bet took from an awaited bonus: it has arrived, at a place before ``seq`` that is not known yet."""
    for awaited in wallet.awaited:
        if awaited.grant_id == grant_id and not awaited.arrived:
            awaited.arrived = True
            wallet.grants[grant_id] = Grant(
                grant_id, awaited.asset, awaited.amount, seq, None, awaited.amount, kind=awaited.kind
            )


def settle_commissions(wallet: Wallet) -> None:
    """Count all commissions of the wallet as arrived."""
    for asset in wallet.commission_e9:
        arrived = wallet.commission(asset) - wallet.commission_in_cash[asset]
        wallet.cash[asset] += arrived
        wallet.coming[asset] -= arrived
        wallet.commission_in_cash[asset] += arrived


def _days(clock_us: int) -> set[int]:
    return {clock_us // DAY_US, (clock_us + MIDNIGHT_US) // DAY_US}
