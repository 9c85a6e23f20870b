"""A ledger that is too simple to be wrong: the contract's commands in memory, every result found by scanning.

It follows the public contract alone, shares no code with the product, and a state machine compares the two.
Nothing is cached: a balance is the sum of the postings, a hold is open if no later fact resolves it, and so on.
It is quadratic on purpose.

Left out: every game but `external` and `wingo_30s` (the others are `unknown_game`), rules that change, and every
400, 401, 403: this model gets only commands of a valid shape. `naive_money`, `naive_gifts` and `naive_commissions`
have the rest of the money flows, and how they read the contract.

Where the contract can be read in two ways, this model reads it as follows:

Time and expiry
 1. A fact's time_us is max(now_us, last fact of the wallet, its cause). The contract says "partition"; this
    model has no partitions and says "wallet". With a clock that never goes back the two agree.
 2. Something is due when expires_at_us <= that time_us (not <), for holds and grants alike.
 3. Due expiries of the wallet fire before a command is decided, even if it is then a duplicate or refused
    ("due expiries may be written before it"), and also before a follow-up is applied.
 4. "Expires at once" is literal: the expiry is the very next fact, with the same time_us. The response to the
    command has the command's fact, with the balances before that expiry.
 5. Several due at once fire by expires_at_us. The contract does not order expiries of the same time: this
    model takes holds by their ids, then grants by age, as the product does, so all facts can be compared. A grant
    that is spent before its expiry leaves no fact of expiry.

Shape of a fact
 6. Postings are in the table's order, one for each account, none of zero.
 7. `first_deposit` and `before_bet` are booleans and always there; `from` always has all of its three
    members. A fact has no other member than the command's own and these: `adjustment_approved` does not
    repeat the amount.
 8. `private` reaches this model as any text: it is kept, and is no part of what a command asks for.
    Nulls are dropped everywhere but for the four limits of `set_limits`, where null is a value; a null
    `metadata` there is as good as absent.
 9. The ledger's own facts have, without `cause`: hold_expired {hold_id asset amount}, bonus_expired
    {grant_id asset amount}, transfer_* {transfer_id asset amount} and `reason` when refused or returned,
    referral_* {member level}, void ones too. No user ids of transfers: the cause has them.
10. `command_id_reused` names the top-level fields whose value differs, `type` among them, sorted; an
    explicit default (`spend: cash_first`, `bonus: 0`) differs from an absent one, for it hashes differently.

Precedence
11. `open_wallet` of a closed wallet is `wallet_closed`, of a frozen one `wallet_already_open`.
12. Both meanings of `amount_out_of_range` have its precedence, so before limits and funds. The bound is checked
    on the result of the command, even if funds would then be short: a great negative adjustment of a
    wallet in debt is out of range, not short of funds.
13. `order_id_reused` is before `grant_id_reused` for a deposit with a bonus.

Ids
14. A deposit's bonus takes its order's name among the grants: a grant of that name, or the other way round,
    is `grant_id_reused`. A deposit without bonus, or with 0, takes no grant's name.
15. A transfer's id belongs to its sender only; receivers may see one id twice.

Money
16. A payout's bonus part and a returned bonus go to their grant whatever remains of it; if it is past its expiry,
    all that remains expires (rule 4). The age of a grant is that of its granting, also for bonus that came
    back.
17. "With a bonus partly spent": a bet that is not cancelled took from it, whether or not a payout was paid
    under it since. "Expired": a `bonus_expired` of it was written. A bonus that came back whole may be
    reversed.
18. Only `deposited`, `bonus_granted` and `adjusted` can be reversed; an `adjustment_approved` can't.
19. A reversed deposit stays the wallet's first deposit: what happened first does not change.
20. A day's counters count what happened that day, also before the limit was set; approving a withdrawal
    gives nothing back.
21. `balance_max` is the sum of the three buckets only: open stakes and transfers under way don't count.
22. A credit limit below the debt leaves no credit, never a negative one that would eat into bonus.

Games
28. An outcome ends nothing by itself: the test calls `end_bet` for each bet, in the order in which the bets were
    placed. The digest `rules` is unknown to this model, and no fact has it; `referral_rules` and `commission_rules`,
    which are digests too, are True.

Others
23. The proposer may reject the adjustment; `same_actor` is for approval only. Its asset and amount are
    checked when proposed; what the wallet would become, its limits and its funds, when approved.
24. A transfer arrives at a frozen wallet, and is refused with `wallet_not_open`, `wallet_closed`,
    `amount_out_of_range` or `balance_max_exceeded`, in this order.
25. A referral counts at a frozen referrer. The walk ends at six levels, at the member, at a wallet without a
    referrer or at a void one, and nowhere else: in a ring of referrers that the member isn't part of, one
    may count twice.
26. `set_limits` that sets nothing is accepted and makes its asset appear. An asset "moved or limited"
    appears in both `balances` and `limits`.
27. Closing needs no open bet, hold, pending withdrawal, proposal, gift claimed and not yet received or refused, or
    transfer sent and not yet delivered or returned. Referrals, codes and commissions under way don't matter, nor does
    a frozen wallet; debt is not empty.
"""

from __future__ import annotations

import calendar
import copy
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from naive_games import RESULTS, fee_of, legs, paid_legs
from properties import naive_commissions, naive_gifts, naive_money

AMOUNT_MAX: Final = 2**53 - 1
DAY_US: Final = 86_400_000_000
REFERRAL_LEVELS: Final = 6
BUCKETS: Final = ("cash", "bonus", "held")
LIMITS: Final[Mapping[str, int | None]] = {
    "credit_limit": 0,
    "balance_max": None,
    "stake_max_per_day": None,
    "withdrawal_max_per_day": None,
}
REFUSED_WHILE_FROZEN: Final = (
    "place_bet",
    "hold",
    "capture_hold",
    "request_withdrawal",
    "approve_withdrawal",
    "transfer",
    "freeze_wallet",
)

GAME: Final = "wingo_30s"
LENGTH_US: Final = 30_000_000
CLOSE_US: Final = 5_000_000
ALLOWANCE_US: Final = 2_000_000

Posting = tuple[str, str, int]
Command = dict[str, Any]


@dataclass(frozen=True)
class Fact:
    """One event without the fields that only the chain has: v, partition, seq, prev, request_sha256."""

    user_id: str
    command_id: str
    actor: str
    type: str
    time_us: int
    data: dict[str, Any]
    postings: list[Posting]
    balances: dict[str, dict[str, int]]


@dataclass(frozen=True)
class Accepted:
    fact: Fact


@dataclass(frozen=True)
class Duplicate:
    fact: Fact


@dataclass(frozen=True)
class Refused:
    """`available` comes with the funds codes only, `differs` with `command_id_reused` only."""

    code: str
    available: int | None = None
    differs: tuple[str, ...] = ()


@dataclass(frozen=True)
class FollowUp:
    """A follow-up of `cause` (user_id, index in its facts) that the wallet `user_id` has not applied yet.

    `kind` says what it asks for (`_take_in`). `command_id` is that of the fact that it leaves, so one that is put
    into `pending` again takes no effect.
    """

    kind: str
    user_id: str
    command_id: str
    cause: tuple[str, int]
    cause_time_us: int
    data: dict[str, Any]


@dataclass(frozen=True)
class _Decision:
    type: str
    postings: list[Posting] = field(default_factory=list)
    added: dict[str, Any] = field(default_factory=dict)


@dataclass
class _Grant:
    grant_id: str
    asset: str
    expires_at_us: int | None
    age: int  # index of the granting fact
    left: int
    taken: int = 0  # by bets that are not cancelled
    expired: bool = False


class NaiveLedger:
    """Wallets of all users, in memory. Time is an argument; nothing happens by itself.

    `position_of` is filled in by the test: position string -> (user_id, index in `facts[user_id]`).
    """

    def __init__(self, assets: Iterable[str], money: dict[str, Any] | None = None) -> None:
        """``money``: that member of a rules file."""
        self._money = money or {}
        self.facts: dict[str, list[Fact]] = {}
        self.pending: list[FollowUp] = []
        self.position_of: dict[str, tuple[str, int]] = {}
        self._assets = frozenset(assets)
        self._seen: dict[tuple[str, str], tuple[Command, Fact]] = {}

    # ---- what a test calls

    def post(self, command: dict[str, Any], *, now_us: int, actor: str = "local") -> Accepted | Duplicate | Refused:
        """Decide one command of valid shape. Its wallet's due expiries come first, whatever the result."""
        command = _without_nulls(command)
        user_id, command_id = command["user_id"], command["command_id"]
        time_us = self._time(user_id, now_us)
        self._fire(user_id, time_us)
        if (user_id, command_id) in self._seen:
            first, fact = self._seen[user_id, command_id]
            differs = _differing(first, command)
            return Refused("command_id_reused", differs=differs) if differs else Duplicate(fact)
        decision = self._wallet_state_forbids(command) or self._decide(command, actor, time_us)
        if isinstance(decision, Refused):
            return decision
        data = {name: value for name, value in command.items() if name not in ("type", "command_id", "user_id")}
        fact = self._append(user_id, command_id, actor, time_us, decision, data)
        self._seen[user_id, command_id] = command, fact
        self._grant_own(fact)
        self._fire(user_id, time_us)
        return Accepted(fact)

    def end_bet(self, user_id: str, bet_id: str, outcome: Fact, *, now_us: int) -> Fact:
        """End an open bet by the outcome of its period."""
        time_us = max(self._time(user_id, now_us), outcome.time_us)
        self._fire(user_id, time_us)
        (placed,) = [fact for fact in self._open_bets(user_id) if fact.data["bet_id"] == bet_id]
        assert placed.data["game"] == outcome.user_id.removeprefix("game:"), (placed, outcome)
        assert placed.data["period"] == outcome.data["period"], (placed, outcome)
        asset, stake, bonus = placed.data["asset"], placed.data["stake"], placed.data["from"]["bonus"]
        data = {"bet_id": bet_id, "asset": asset}
        if outcome.type == "period_cancelled":
            added = {"before_bet": False, "amount": stake, "reason": outcome.data["reason"]}
            decision = _Decision("bet_cancelled", self._returned(placed), added)
        else:
            legs = paid_legs("wingo", placed.data["selection"], stake, outcome.data["result"])
            due = sum(payout for _, _, payout in legs)
            payout = min(due, AMOUNT_MAX - self._owned_or_due(user_id, asset) + stake)
            rest = {"unpaid": due - payout} if due > payout else {}
            to_bonus = payout * bonus // stake
            postings = [
                ("house/payouts", asset, -payout),
                _to(user_id, "cash", asset, payout - to_bonus),
                _to(user_id, "bonus", asset, to_bonus),
            ]
            added = {
                "payout": payout,
                "legs": list(map(list, legs)),
                **rest,
                **self._commission(user_id, asset, time_us),
            }
            decision = _Decision("bet_settled", postings, added)
        fact = self._append(user_id, f"~{bet_id}", "ledger", time_us, decision, data)
        self._fire(user_id, time_us)
        return fact

    def open_bets_of(self, outcome: Fact) -> list[tuple[str, str]]:
        """The (user_id, bet_id) of each open bet that the outcome ends."""
        return [
            (user_id, bet.data["bet_id"])
            for user_id in self.facts
            for bet in self._open_bets(user_id)
            if (f"game:{bet.data['game']}", bet.data["period"]) == (outcome.user_id, outcome.data["period"])
        ]

    def fire_due(self, now_us: int) -> list[Fact]:
        """Expire what is due, in every wallet; wallets in order of their first fact."""
        return [fact for user_id in list(self.facts) for fact in self._fire(user_id, self._time(user_id, now_us))]

    def deliver(self, index: int, *, now_us: int) -> Fact | None:
        """Apply `pending[index]` to its wallet. Returns its fact; None if it was applied before."""
        follow_up = self.pending.pop(index)
        user_id = follow_up.user_id
        time_us = max(self._time(user_id, now_us), follow_up.cause_time_us)
        self._fire(user_id, time_us)
        if any(fact.command_id == follow_up.command_id for fact in self._of(user_id)):
            return None
        decision = self._take_in(follow_up, time_us)
        fact = self._append(user_id, follow_up.command_id, "ledger", time_us, decision, follow_up.data)
        self._grant_own(fact)
        self._fire(user_id, time_us)
        return fact

    def wallet(self, user_id: str) -> dict[str, Any] | None:
        """The body of `GET /v1/wallets/{user_id}`, without `as_of`. None: wallet_not_found.

        `first_deposit.position` is None unless the test put it into `position_of`.
        """
        opened = self._find(user_id, "wallet_opened")
        if opened is None:
            return None
        assets = sorted(
            {asset for fact in self._of(user_id) for _, asset, _ in fact.postings}
            | {fact.data["asset"] for fact in self._of(user_id) if fact.type == "limits_set"}
        )
        return {
            "user_id": user_id,
            "status": self._status(user_id),
            "opened_at_us": opened.time_us,
            "referrer_id": naive_gifts.referrer_of(self._of(user_id)),
            "balances": {
                asset: {
                    **self._balances(user_id, asset),
                    "available": self._balance(user_id, asset, "bonus")
                    + max(0, self._balance(user_id, asset, "cash") + self._credit_limit(user_id, asset)),
                    "withdrawable": self._cash_above_0(user_id, asset),
                }
                for asset in assets
            },
            "limits": {asset: self._limits(user_id, asset) for asset in assets},
            "first_deposit": self._first_deposit(user_id),
            **({"wagering": wagering} if (wagering := self._all_wagering(user_id, assets)) else {}),
        }

    def totals(self) -> dict[tuple[str, str], int]:
        """(account, asset) -> the sum of all postings to it, house and transit over all wallets."""
        totals: dict[tuple[str, str], int] = {}
        for facts in self.facts.values():
            for fact in facts:
                for account, asset, amount in fact.postings:
                    totals[account, asset] = totals.get((account, asset), 0) + amount
        return totals

    # ---- writing

    def _append(
        self,
        user_id: str,
        command_id: str,
        actor: str,
        time_us: int,
        decision: _Decision,
        data: dict[str, Any],
    ) -> Fact:
        fact = Fact(
            user_id=user_id,
            command_id=command_id,
            actor=actor,
            type=decision.type,
            time_us=time_us,
            data=copy.deepcopy({**data, **decision.added}),
            postings=[posting for posting in decision.postings if posting[2] != 0],
            balances={},
        )
        facts = self.facts.setdefault(user_id, [])
        facts.append(fact)
        for asset in {asset for _, asset, _ in fact.postings}:
            assert sum(amount for _, a, amount in fact.postings if a == asset) == 0, fact
            fact.balances[asset] = self._balances(user_id, asset)
            self._assert_sound(user_id, asset)
        self._lead_on(fact, index=len(facts) - 1)
        return fact

    def _assert_sound(self, user_id: str, asset: str) -> None:
        grants = [grant for grant in self._grants(user_id) if grant.asset == asset]
        held = [
            fact.data["amount"]
            for fact in self._open_holds(user_id) + self._pending_withdrawals(user_id)
            if fact.data["asset"] == asset
        ]
        assert all(grant.left >= 0 for grant in grants)
        assert self._balance(user_id, asset, "bonus") == sum(grant.left for grant in grants)
        assert self._balance(user_id, asset, "held") == sum(held)
        assert not self._leaves_range(user_id, asset, 0)

    def _grant_own(self, cause: Fact) -> None:
        """The bonuses that follow from a fact, right after it."""
        user_id, time_us = cause.user_id, cause.time_us
        for kind, asset, wanted in naive_money.due_grants(self._money, cause, self._of(user_id)):
            amount = min(wanted, AMOUNT_MAX - self._owned_or_due(user_id, asset))
            if amount > 0:
                grant_id = naive_money.own_id(self._of(user_id), kind)
                added = {"grant_id": grant_id, "kind": kind, "asset": asset, "amount": amount}
                added |= naive_money.expiry(self._money[asset], time_us) | self._added(user_id, asset, bonus=amount)
                postings = [("house/bonuses", asset, -amount), _to(user_id, "bonus", asset, amount)]
                decision = _Decision("bonus_granted", postings, added)
                self._append(user_id, f"~{len(self._of(user_id))}", "ledger", time_us, decision, {})

    def _added(self, user_id: str, asset: str, *, deposit: int = 0, bonus: int = 0) -> dict[str, int]:
        now = self._wagering(user_id, asset)
        return naive_money.added(self._money.get(asset, {}), now, deposit=deposit, bonus=bonus)

    def _wagering(self, user_id: str, asset: str) -> dict[str, int] | None:
        return naive_money.wagering(self._of(user_id), asset, self._index_of(user_id))

    def _index_of(self, user_id: str) -> dict[str, int]:
        return {position: index for position, (owner, index) in self.position_of.items() if owner == user_id}

    def _all_wagering(self, user_id: str, assets: Iterable[str]) -> dict[str, dict[str, int]]:
        found = {asset: self._wagering(user_id, asset) for asset in assets}
        return {asset: wagering for asset, wagering in found.items() if wagering is not None}

    def _lead_on(self, fact: Fact, index: int) -> None:
        """Put the follow-ups of a fact into `pending`."""

        def follow(kind: str, user_id: str, data: dict[str, Any]) -> None:
            command_id = f"~{fact.user_id}/{index}"
            self.pending.append(FollowUp(kind, user_id, command_id, (fact.user_id, index), fact.time_us, dict(data)))

        transfer = {name: fact.data.get(name) for name in ("transfer_id", "asset", "amount")}
        match fact.type:
            case "wallet_opened":
                if "referrer_id" in fact.data:
                    follow("referral", fact.data["referrer_id"], {"member": fact.user_id, "level": 1})
                if "referral_code" in fact.data:
                    follow("code_use", f"code:{fact.data['referral_code']}", {"member": fact.user_id})
            case "referral_counted":
                member, level = fact.data["member"], fact.data["level"]
                next_up = naive_gifts.referrer_of(self._of(fact.user_id))
                if next_up is not None and next_up != member and level < REFERRAL_LEVELS:
                    follow("referral", next_up, {"member": member, "level": level + 1})
            case "transfer_sent":
                follow("transfer_arrival", fact.data["to_user_id"], transfer)
            case "transfer_received":
                follow("transfer_delivery", self._sender(fact), transfer)
            case "transfer_refused":
                follow("transfer_return", self._sender(fact), {**transfer, "reason": fact.data["reason"]})
            case "gift_claimed":
                follow("gift_claim", f"gift:{fact.data['code']}", {"claimed_by": fact.user_id})
            case "gift_share_granted" | "gift_share_refused":
                outcome = {"code": fact.user_id.removeprefix("gift:")}
                outcome |= {name: fact.data[name] for name in ("asset", "amount", "reason") if name in fact.data}
                follow("gift_share", fact.data["claimed_by"], outcome)
            case "referral_code_claimed":
                claim = {"claimed_by": fact.user_id, "code": fact.data["code"]}
                follow("code_claim", f"code:{fact.data['code']}", claim)
            case "referral_code_granted" | "referral_code_refused" if fact.user_id.startswith("code:"):
                follow(fact.type, fact.data["claimed_by"], fact.data)
            case "referral_resolved":
                about = {"code": fact.user_id.removeprefix("code:"), "referrer_id": fact.data["referrer_id"]}
                follow("referrer", fact.data["member"], about)
            case "referrer_set":
                follow("referral", fact.data["referrer_id"], {"member": fact.user_id, "level": 1})
            case "deposited":
                referrer_id = naive_gifts.referrer_of(self._of(fact.user_id))
                if "referral_rules" in fact.data and referrer_id is not None:
                    follow("valid_referral", referrer_id, {"member": fact.user_id, "asset": fact.data["asset"]})
            case "commission_due":
                referrer_id = naive_gifts.referrer_of(self._of(fact.user_id))
                assert referrer_id is not None, fact
                follow("commission", referrer_id, {**fact.data, "member": fact.user_id, "level": 1})
            case "commission_paid":
                if "referrer_id" in fact.data:
                    earned = {name: fact.data[name] for name in ("asset", "day", "stake", "member")}
                    follow("commission", fact.data["referrer_id"], {**earned, "level": fact.data["level"] + 1})

    def _sender(self, arrived: Fact) -> str:
        # A follow-up's command_id names the cause, as the product's does by its hash; user ids have no "/".
        return arrived.command_id.removeprefix("~").rpartition("/")[0]

    def _take_in(self, follow_up: FollowUp, time_us: int) -> _Decision:
        """Decide a follow-up: always a fact, never a refusal that writes nothing."""
        user_id, data = follow_up.user_id, follow_up.data
        match follow_up.kind:
            case "referral":
                alive = self._status(user_id) in ("open", "frozen")
                return _Decision("referral_counted" if alive else "referral_void")
            case "valid_referral":
                return _Decision("referral_valid", added=self._not_payable(user_id))
            case "commission":
                return self._pay_commission(user_id, data)
            case "gift_claim":
                share = naive_gifts.next_share(self._of(user_id), time_us)
                return _Decision("gift_share_refused" if "reason" in share else "gift_share_granted", added=share)
            case "gift_share":
                return self._receive_share(user_id, data, time_us)
            case "code_claim":
                free = naive_gifts.owner_of(self._of(user_id)) is None
                return _Decision("referral_code_granted" if free else "referral_code_refused")
            case "referral_code_granted" | "referral_code_refused":
                return _Decision(follow_up.kind)
            case "code_use":
                owner = naive_gifts.owner_of(self._of(user_id))
                known = owner not in (None, data["member"])
                return (
                    _Decision("referral_resolved", [], {"referrer_id": owner})
                    if known
                    else _Decision("referral_unknown")
                )
            case "referrer":
                return _Decision("referrer_set")
            case "transfer_delivery":
                return _Decision("transfer_delivered")
        asset, amount = data["asset"], data["amount"]
        arrival = [("transit/transfers", asset, -amount), _to(user_id, "cash", asset, amount)]
        if follow_up.kind == "transfer_return":
            return _Decision("transfer_returned", arrival)
        assert follow_up.kind == "transfer_arrival", follow_up
        refused = self._not_payable(user_id) or self._no_room(user_id, asset, amount)
        return _Decision("transfer_refused", added=refused) if refused else _Decision("transfer_received", arrival)

    def _not_payable(self, user_id: str) -> dict[str, str]:
        """The ``reason`` why the wallet gets nothing; {} if it can get something."""
        status = self._status(user_id)
        return (
            {"reason": "wallet_not_open" if status is None else "wallet_closed"} if status in (None, "closed") else {}
        )

    def _no_room(self, user_id: str, asset: str, amount: int) -> dict[str, str]:
        if self._leaves_range(user_id, asset, amount):
            return {"reason": "amount_out_of_range"}
        return {"reason": "balance_max_exceeded"} if self._exceeds_balance_max(user_id, asset, amount) else {}

    def _receive_share(self, user_id: str, data: dict[str, Any], time_us: int) -> _Decision:
        if "reason" in data:
            return _Decision("gift_refused")
        asset, amount = data["asset"], data["amount"]
        if no_room := self._no_room(user_id, asset, amount):
            return _Decision("gift_refused", added=no_room)
        added: dict[str, Any] = {"grant_id": naive_money.own_id(self._of(user_id), "gift")}
        added |= naive_money.expiry(self._money.get(asset, {}), time_us) | self._added(user_id, asset, bonus=amount)
        return _Decision(
            "gift_received", [("house/gifts", asset, -amount), _to(user_id, "bonus", asset, amount)], added
        )

    def _pay_commission(self, user_id: str, data: dict[str, Any]) -> _Decision:
        asset, level, facts = data["asset"], data["level"], self._of(user_id)
        rules = self._money[asset]
        added: dict[str, Any] = {**self._not_payable(user_id)}
        if added:
            added |= {"amount": 0, "carried_e9": naive_commissions.carried(facts, asset)}
            added |= {"rate_e9": naive_commissions.rate_of(rules, facts, level)}
        else:
            room = AMOUNT_MAX - self._owned_or_due(user_id, asset)
            added |= naive_commissions.paid(rules, facts, asset, data["stake"], level, room)
        referrer_id = naive_gifts.referrer_of(facts)
        if referrer_id not in (None, data["member"]) and level < naive_commissions.levels(rules):
            added["referrer_id"] = referrer_id
        amount = added["amount"]
        return _Decision(
            "commission_paid", [("house/commissions", asset, -amount), _to(user_id, "cash", asset, amount)], added
        )

    def _commission(self, user_id: str, asset: str, time_us: int) -> dict[str, Any]:
        """What the fact that settles a bet says of the commission on its stake; {} if there is none."""
        due_us = naive_commissions.due_at(self._money.get(asset, {}), time_us)
        if due_us is None or naive_gifts.referrer_of(self._of(user_id)) is None:
            return {}
        return {"commission_at_us": due_us, "commission_rules": True}

    def _fire(self, user_id: str, time_us: int) -> list[Fact]:
        fired: list[Fact] = []
        while True:
            due: list[tuple[tuple[Any, ...], _Decision]] = []  # when, holds before grants before commissions, which
            for hold in self._open_holds(user_id):
                expires_at_us = hold.data.get("expires_at_us")
                if expires_at_us is not None and expires_at_us <= time_us:
                    due.append(((expires_at_us, 1, hold.data["hold_id"]), self._hold_expiry(hold)))
            for grant in self._grants(user_id):
                expires_at_us = grant.expires_at_us
                if grant.left > 0 and expires_at_us is not None and expires_at_us <= time_us:
                    due.append(((expires_at_us, 2, grant.age), self._grant_expiry(user_id, grant)))
            for due_us, asset, day, stake in naive_commissions.not_closed(self._of(user_id)):
                closed = _Decision("commission_due", added={"asset": asset, "day": day, "stake": stake})
                if due_us <= time_us:
                    due.append(((due_us, 3, asset, day), closed))
            if not due:
                return fired
            _, expiry = min(due, key=lambda one: one[0])
            command_id = f"~{len(self._of(user_id))}"
            fired.append(self._append(user_id, command_id, "ledger", time_us, expiry, {}))

    def _hold_expiry(self, hold: Fact) -> _Decision:
        hold_id, asset, amount = hold.data["hold_id"], hold.data["asset"], hold.data["amount"]
        return _Decision(
            "hold_expired",
            _within(hold.user_id, asset, amount, "held", "cash"),
            {"hold_id": hold_id, "asset": asset, "amount": amount},
        )

    def _grant_expiry(self, user_id: str, grant: _Grant) -> _Decision:
        return _Decision(
            "bonus_expired",
            [_to(user_id, "bonus", grant.asset, -grant.left), ("house/bonuses", grant.asset, grant.left)],
            {"grant_id": grant.grant_id, "asset": grant.asset, "amount": grant.left},
        )

    # ---- deciding: each command a flat ladder in the contract's order of precedence

    def _wallet_state_forbids(self, command: Command) -> Refused | None:
        status, type_ = self._status(command["user_id"]), command["type"]
        if type_ in ("record_result", "cancel_period", "create_gift", "close_gift"):
            return None
        if status is None and type_ != "open_wallet":
            return Refused("wallet_not_open")
        if status == "closed":
            return Refused("wallet_closed")
        if status is not None and type_ == "open_wallet":
            return Refused("wallet_already_open")
        if status == "frozen" and type_ in REFUSED_WHILE_FROZEN:
            return Refused("wallet_frozen")
        return None

    def _decide(self, command: Command, actor: str, time_us: int) -> _Decision | Refused:
        user_id = command["user_id"]
        match command["type"]:
            case "open_wallet":
                return self._open_wallet(user_id, command)
            case "deposit":
                return self._deposit(user_id, command)
            case "request_withdrawal":
                return self._request_withdrawal(user_id, command, time_us)
            case "approve_withdrawal" | "reject_withdrawal":
                return self._resolve_withdrawal(user_id, command)
            case "place_bet":
                return self._place_bet(user_id, command, time_us)
            case "settle_bet":
                return self._settle_bet(user_id, command, time_us)
            case "cancel_bet":
                return self._cancel_bet(user_id, command, time_us)
            case "hold":
                return self._hold(user_id, command)
            case "capture_hold" | "release_hold":
                return self._resolve_hold(user_id, command)
            case "transfer":
                return self._transfer(user_id, command)
            case "grant_bonus":
                return self._grant_bonus(user_id, command)
            case "claim_attendance":
                return self._claim_attendance(user_id, command, time_us)
            case "adjust":
                return self._adjust(user_id, command)
            case "propose_adjustment":
                return self._propose_adjustment(user_id, command)
            case "approve_adjustment":
                return self._approve_adjustment(user_id, command, actor)
            case "reject_adjustment":
                return self._reject_adjustment(user_id, command)
            case "reverse":
                return self._reverse(user_id, command)
            case "set_limits":
                return self._set_limits(command)
            case "freeze_wallet":
                return _Decision("wallet_frozen")
            case "unfreeze_wallet":
                return self._unfreeze_wallet(user_id)
            case "close_wallet":
                return self._close_wallet(user_id)
            case "set_agent_level":
                return _Decision("agent_level_set")
            case "record_result" | "cancel_period":
                return self._end_period(user_id, command, time_us)
            case "create_gift":
                code = naive_gifts.create_refused(self._of(user_id), command, self._assets)
                return Refused(code) if code else _Decision("gift_created")
            case "close_gift":
                code = naive_gifts.close_refused(self._of(user_id))
                return Refused(code) if code else _Decision("gift_closed")
            case "claim_gift":
                free = naive_gifts.may_claim(self._of(user_id), command["code"])
                return _Decision("gift_claimed") if free else Refused("already_claimed")
            case "claim_referral_code":
                has = naive_gifts.has_code(self._of(user_id))
                return Refused("already_claimed") if has else _Decision("referral_code_claimed")
        raise ValueError(f"not a command of this model: {command['type']}")

    def _open_wallet(self, user_id: str, command: Command) -> _Decision | Refused:
        if command.get("referrer_id") == user_id:
            return Refused("same_wallet")
        return _Decision("wallet_opened")

    def _deposit(self, user_id: str, command: Command) -> _Decision | Refused:
        order_id, asset = command["order_id"], command["asset"]
        amount, bonus = command["amount"], command.get("bonus", 0)
        if self._order_known(user_id, order_id):
            return Refused("order_id_reused")
        if bonus != 0 and self._grant(user_id, order_id) is not None:
            return Refused("grant_id_reused")
        if asset not in self._assets:
            return Refused("unknown_asset")
        if not 1 <= amount <= AMOUNT_MAX or not 0 <= bonus <= AMOUNT_MAX:
            return Refused("amount_out_of_range")
        if self._leaves_range(user_id, asset, amount + bonus):
            return Refused("amount_out_of_range")
        if self._exceeds_balance_max(user_id, asset, amount + bonus):
            return Refused("balance_max_exceeded")
        postings = [
            ("house/deposits", asset, -amount),
            _to(user_id, "cash", asset, amount),
            ("house/bonuses", asset, -bonus),
            _to(user_id, "bonus", asset, bonus),
        ]
        added: dict[str, Any] = {"first_deposit": self._find(user_id, "deposited") is None}
        added |= self._added(user_id, asset, deposit=amount, bonus=bonus)
        rules, facts = self._money.get(asset, {}), self._of(user_id)
        if naive_gifts.referrer_of(facts) is not None and naive_commissions.becomes_valid(
            rules, facts, asset, amount, self._index_of(user_id)
        ):
            added["referral_rules"] = True
        return _Decision("deposited", postings, added)

    def _request_withdrawal(self, user_id: str, command: Command, time_us: int) -> _Decision | Refused:
        asset, amount = command["asset"], command["amount"]
        if self._order_known(user_id, command["order_id"]):
            return Refused("order_id_reused")
        if asset not in self._assets:
            return Refused("unknown_asset")
        if not 1 <= amount <= AMOUNT_MAX:
            return Refused("amount_out_of_range")
        if asset in self._money:
            requests = len(self._requests_that_day(user_id, asset, time_us))
            wagering = self._wagering(user_id, asset)
            code = naive_money.refused_withdrawal(self._money[asset], wagering, amount, requests)
            if code is not None:
                return Refused(code)
        limit = self._limits(user_id, asset)["withdrawal_max_per_day"]
        if limit is not None and self._requested_that_day(user_id, asset, time_us) + amount > limit:
            return Refused("withdrawal_max_exceeded")
        if amount > self._cash_above_0(user_id, asset):
            return self._insufficient(user_id, asset)
        return _Decision("withdrawal_requested", _within(user_id, asset, amount, "cash", "held"))

    def _resolve_withdrawal(self, user_id: str, command: Command) -> _Decision | Refused:
        requested = self._find(user_id, "withdrawal_requested", order_id=command["order_id"])
        if requested is None:
            return Refused("order_not_found")
        if requested not in self._pending_withdrawals(user_id):
            return Refused("already_resolved")
        asset, amount = requested.data["asset"], requested.data["amount"]
        if command["type"] == "reject_withdrawal":
            return _Decision("withdrawal_rejected", _within(user_id, asset, amount, "held", "cash"))
        postings = [_to(user_id, "held", asset, -amount), ("house/withdrawals", asset, amount)]
        return _Decision("withdrawal_approved", postings)

    def _place_bet(self, user_id: str, command: Command, time_us: int) -> _Decision | Refused:
        bet_id, asset, stake = command["bet_id"], command["asset"], command["stake"]
        with_rules = command["game"] == GAME
        if command["game"] not in ("external", GAME):
            return Refused("unknown_game")
        if with_rules:
            start_us = _start_us(command["period"])
            if not start_us <= time_us < start_us + LENGTH_US - CLOSE_US:
                return Refused("period_closed")
            bets = command["selection"].split("+")
            if not set(bets) <= set(legs("wingo")) or len(set(bets)) < len(bets):
                return Refused("invalid_selection")
        if self._find(user_id, "bet_cancelled", bet_id=bet_id, before_bet=True) is not None:
            return Refused("bet_cancelled_before")
        if self._find(user_id, "bet_placed", bet_id=bet_id) is not None:
            return Refused("bet_id_reused")
        if asset not in self._assets:
            return Refused("unknown_asset")
        if not 1 <= stake <= AMOUNT_MAX:
            return Refused("amount_out_of_range")
        limit = self._limits(user_id, asset)["stake_max_per_day"]
        if limit is not None and self._staked_that_day(user_id, asset, time_us) + stake > limit:
            return Refused("stake_max_exceeded")
        cash, bonus = self._cash_above_0(user_id, asset), self._balance(user_id, asset, "bonus")
        credit_limit = self._credit_limit(user_id, asset)
        debt = max(0, -self._balance(user_id, asset, "cash"))
        credit = max(0, credit_limit - debt)
        if stake > cash + bonus + credit:
            code = "credit_limit_exceeded" if credit_limit > 0 else "insufficient_funds"
            return Refused(code, available=cash + bonus + credit)

        if command.get("spend", "cash_first") == "cash_first":
            from_cash = min(stake, cash)
            from_bonus = min(stake - from_cash, bonus)
        else:
            from_bonus = min(stake, bonus)
            from_cash = min(stake - from_bonus, cash)
        from_credit = stake - from_cash - from_bonus
        source = {
            "cash": from_cash + from_credit,
            "bonus": from_bonus,
            "grants": self._take_from_grants(user_id, asset, from_bonus),
        }
        fee = fee_of(stake, len(command["selection"].split("+"))) if with_rules else 0
        postings = [
            _to(user_id, "cash", asset, -(from_cash + from_credit)),
            _to(user_id, "bonus", asset, -from_bonus),
            ("house/stakes", asset, stake - fee),
            ("house/fees", asset, fee),
        ]
        return _Decision("bet_placed", postings, {"from": source, **({"fee": fee} if with_rules else {})})

    def _take_from_grants(self, user_id: str, asset: str, amount: int) -> list[list[Any]]:
        """The soonest expiry first, those without one last; then the oldest."""
        grants = [grant for grant in self._grants(user_id) if grant.asset == asset and grant.left > 0]
        grants.sort(key=lambda grant: (grant.expires_at_us is None, grant.expires_at_us or 0, grant.age))
        taken: list[list[Any]] = []
        for grant in grants:
            part = min(grant.left, amount)
            if part > 0:
                taken.append([grant.grant_id, part])
            amount -= part
        assert amount == 0
        return taken

    def _settle_bet(self, user_id: str, command: Command, time_us: int) -> _Decision | Refused:
        bet_id, payout = command["bet_id"], command["payout"]
        placed = self._find(user_id, "bet_placed", bet_id=bet_id)
        cancelled = self._find(user_id, "bet_cancelled", bet_id=bet_id)
        if placed is None and cancelled is None:
            return Refused("bet_not_found")
        if placed is None or placed not in self._open_bets(user_id):
            return Refused("already_resolved")
        if placed.data["game"] == GAME:
            return Refused("settled_by_result")
        asset, stake, bonus_stake = placed.data["asset"], placed.data["stake"], placed.data["from"]["bonus"]
        if not 0 <= payout <= AMOUNT_MAX:
            return Refused("amount_out_of_range")
        if self._leaves_range(user_id, asset, payout - stake):
            return Refused("amount_out_of_range")
        to_bonus = payout * bonus_stake // stake
        postings = [
            ("house/payouts", asset, -payout),
            _to(user_id, "cash", asset, payout - to_bonus),
            _to(user_id, "bonus", asset, to_bonus),
        ]
        return _Decision("bet_settled", postings, self._commission(user_id, asset, time_us))

    def _cancel_bet(self, user_id: str, command: Command, time_us: int) -> _Decision | Refused:
        bet_id = command["bet_id"]
        placed = self._find(user_id, "bet_placed", bet_id=bet_id)
        cancelled = self._find(user_id, "bet_cancelled", bet_id=bet_id)
        if cancelled is not None or (placed is not None and placed not in self._open_bets(user_id)):
            return Refused("already_resolved")
        if placed is None:
            return _Decision("bet_cancelled", added={"before_bet": True})
        if placed.data["game"] == GAME and time_us >= _start_us(placed.data["period"]) + LENGTH_US - CLOSE_US:
            return Refused("settled_by_result")
        return _Decision("bet_cancelled", self._returned(placed), {"before_bet": False})

    def _returned(self, placed: Fact) -> list[Posting]:
        asset, source, fee = placed.data["asset"], placed.data["from"], placed.data.get("fee", 0)
        return [
            ("house/stakes", asset, fee - placed.data["stake"]),
            ("house/fees", asset, -fee),
            _to(placed.user_id, "cash", asset, source["cash"]),
            _to(placed.user_id, "bonus", asset, source["bonus"]),
        ]

    def _end_period(self, user_id: str, command: Command, time_us: int) -> _Decision | Refused:
        period = command["period"]
        if user_id != f"game:{GAME}":
            return Refused("unknown_game")
        if time_us < _start_us(period) + LENGTH_US + ALLOWANCE_US:
            return Refused("period_not_closed")
        if command["type"] == "record_result" and command["result"] not in RESULTS["wingo"]:
            return Refused("invalid_result")
        if self._find(user_id, "period_cancelled", period=period) is not None:
            return Refused("already_resolved")
        if self._find(user_id, "result_recorded", period=period) is not None:
            return Refused("result_already_recorded")
        return _Decision("result_recorded" if command["type"] == "record_result" else "period_cancelled")

    def _hold(self, user_id: str, command: Command) -> _Decision | Refused:
        asset, amount = command["asset"], command["amount"]
        if self._find(user_id, "hold_placed", hold_id=command["hold_id"]) is not None:
            return Refused("hold_id_reused")
        if asset not in self._assets:
            return Refused("unknown_asset")
        if not 1 <= amount <= AMOUNT_MAX:
            return Refused("amount_out_of_range")
        if amount > self._cash_above_0(user_id, asset):
            return self._insufficient(user_id, asset)
        return _Decision("hold_placed", _within(user_id, asset, amount, "cash", "held"))

    def _resolve_hold(self, user_id: str, command: Command) -> _Decision | Refused:
        hold_id = command["hold_id"]
        placed = self._find(user_id, "hold_placed", hold_id=hold_id)
        if placed is None:
            return Refused("hold_not_found")
        if self._find(user_id, "hold_expired", hold_id=hold_id) is not None:
            return Refused("hold_expired")
        if self._hold_resolved(user_id, hold_id):
            return Refused("already_resolved")
        asset, held = placed.data["asset"], placed.data["amount"]
        if command["type"] == "release_hold":
            return _Decision("hold_released", _within(user_id, asset, held, "held", "cash"))
        captured = command.get("amount", held)
        if not 1 <= captured <= AMOUNT_MAX:
            return Refused("amount_out_of_range")
        if captured > held:
            return Refused("capture_exceeds_hold")
        postings = [
            _to(user_id, "held", asset, -held),
            ("house/captures", asset, captured),
            _to(user_id, "cash", asset, held - captured),
        ]
        return _Decision("hold_captured", postings)

    def _transfer(self, user_id: str, command: Command) -> _Decision | Refused:
        asset, amount = command["asset"], command["amount"]
        if command["to_user_id"] == user_id:
            return Refused("same_wallet")
        if self._find(user_id, "transfer_sent", transfer_id=command["transfer_id"]) is not None:
            return Refused("transfer_id_reused")
        if asset not in self._assets:
            return Refused("unknown_asset")
        if not 1 <= amount <= AMOUNT_MAX:
            return Refused("amount_out_of_range")
        if amount > self._cash_above_0(user_id, asset):
            return self._insufficient(user_id, asset)
        postings = [_to(user_id, "cash", asset, -amount), ("transit/transfers", asset, amount)]
        return _Decision("transfer_sent", postings)

    def _grant_bonus(self, user_id: str, command: Command) -> _Decision | Refused:
        asset, amount = command["asset"], command["amount"]
        if self._grant(user_id, command["grant_id"]) is not None:
            return Refused("grant_id_reused")
        if asset not in self._assets:
            return Refused("unknown_asset")
        if not 1 <= amount <= AMOUNT_MAX:
            return Refused("amount_out_of_range")
        if self._leaves_range(user_id, asset, amount):
            return Refused("amount_out_of_range")
        if self._exceeds_balance_max(user_id, asset, amount):
            return Refused("balance_max_exceeded")
        postings = [("house/bonuses", asset, -amount), _to(user_id, "bonus", asset, amount)]
        return _Decision("bonus_granted", postings, self._added(user_id, asset, bonus=amount))

    def _claim_attendance(self, user_id: str, command: Command, time_us: int) -> _Decision | Refused:
        asset = command["asset"]
        if asset not in self._assets:
            return Refused("unknown_asset")
        rules, facts = self._money.get(asset, {}), self._of(user_id)
        needs = rules.get("attendance_needs_deposit", 0)
        deposited = naive_money.deposited(facts, asset, self._index_of(user_id), time_us)
        if not rules.get("attendance") or deposited < needs:
            return Refused("not_eligible")
        streak = naive_money.streak(facts, asset, rules, time_us)
        if streak is None:
            return Refused("already_claimed")
        amount = rules["attendance"][streak - 1]
        if self._leaves_range(user_id, asset, amount):
            return Refused("amount_out_of_range")
        if self._exceeds_balance_max(user_id, asset, amount):
            return Refused("balance_max_exceeded")
        added = {"amount": amount, "day": naive_money.day_of(time_us), "streak": streak}
        added |= {"grant_id": naive_money.own_id(facts, "attendance")}
        added |= naive_money.expiry(rules, time_us) | self._added(user_id, asset, bonus=amount)
        postings = [("house/bonuses", asset, -amount), _to(user_id, "bonus", asset, amount)]
        return _Decision("attendance_claimed", postings, added)

    def _adjust(self, user_id: str, command: Command) -> _Decision | Refused:
        asset, amount = command["asset"], command["amount"]
        if asset not in self._assets:
            return Refused("unknown_asset")
        if not 1 <= abs(amount) <= AMOUNT_MAX:
            return Refused("amount_out_of_range")
        return self._adjusted("adjusted", user_id, asset, amount)

    def _propose_adjustment(self, user_id: str, command: Command) -> _Decision | Refused:
        proposed = self._find(user_id, "adjustment_proposed", adjustment_id=command["adjustment_id"])
        if proposed is not None:
            return Refused("adjustment_id_reused")
        if command["asset"] not in self._assets:
            return Refused("unknown_asset")
        if not 1 <= abs(command["amount"]) <= AMOUNT_MAX:
            return Refused("amount_out_of_range")
        return _Decision("adjustment_proposed")

    def _approve_adjustment(self, user_id: str, command: Command, actor: str) -> _Decision | Refused:
        proposed = self._find(user_id, "adjustment_proposed", adjustment_id=command["adjustment_id"])
        if proposed is None:
            return Refused("adjustment_not_found")
        if proposed not in self._open_proposals(user_id):
            return Refused("already_resolved")
        if proposed.actor == actor:
            return Refused("same_actor")
        return self._adjusted("adjustment_approved", user_id, proposed.data["asset"], proposed.data["amount"])

    def _reject_adjustment(self, user_id: str, command: Command) -> _Decision | Refused:
        proposed = self._find(user_id, "adjustment_proposed", adjustment_id=command["adjustment_id"])
        if proposed is None:
            return Refused("adjustment_not_found")
        if proposed not in self._open_proposals(user_id):
            return Refused("already_resolved")
        return _Decision("adjustment_rejected")

    def _adjusted(self, type_: str, user_id: str, asset: str, amount: int) -> _Decision | Refused:
        """The last checks of an adjustment, also of an approved one."""
        if self._leaves_range(user_id, asset, amount):
            return Refused("amount_out_of_range")
        if amount > 0 and self._exceeds_balance_max(user_id, asset, amount):
            return Refused("balance_max_exceeded")
        if -amount > self._cash_above_0(user_id, asset):
            return self._insufficient(user_id, asset)
        return _Decision(type_, [("house/adjustments", asset, -amount), _to(user_id, "cash", asset, amount)])

    def _reverse(self, user_id: str, command: Command) -> _Decision | Refused:
        if self._find(user_id, "reversed", position=command["position"]) is not None:
            return Refused("already_resolved")
        owner, index = self.position_of.get(command["position"], (None, -1))
        if owner != user_id:
            return Refused("cannot_reverse")
        target = self._of(user_id)[index]
        if target.type not in ("deposited", "bonus_granted", "adjusted"):
            return Refused("cannot_reverse")
        for grant in self._grants(user_id):
            if grant.age == index and (grant.taken > 0 or grant.expired):
                return Refused("cannot_reverse")
        first_bonus = self._grant(user_id, "~first_deposit:1")
        is_first = target.type == "deposited" and target.data["first_deposit"]
        if is_first and first_bonus is not None and first_bonus.age not in self._reversed(user_id):
            return Refused("cannot_reverse")
        asset = target.data["asset"]
        change = {bucket: -_change(target, bucket) for bucket in BUCKETS}
        if self._leaves_range(user_id, asset, sum(change.values())):
            return Refused("amount_out_of_range")
        if -change["cash"] > self._cash_above_0(user_id, asset):
            return self._insufficient(user_id, asset)
        return _Decision("reversed", [(account, a, -amount) for account, a, amount in target.postings])

    def _reversed(self, user_id: str) -> set[int]:
        """The indices of the facts that were reversed."""
        return {self.position_of[fact.data["position"]][1] for fact in self._of(user_id) if fact.type == "reversed"}

    def _set_limits(self, command: Command) -> _Decision | Refused:
        if command["asset"] not in self._assets:
            return Refused("unknown_asset")
        for name in LIMITS:
            limit = command.get(name)
            if limit is not None and not 0 <= limit <= AMOUNT_MAX:
                return Refused("amount_out_of_range")
        return _Decision("limits_set")

    def _unfreeze_wallet(self, user_id: str) -> _Decision | Refused:
        if self._status(user_id) != "frozen":
            return Refused("already_resolved")
        return _Decision("wallet_unfrozen")

    def _close_wallet(self, user_id: str) -> _Decision | Refused:
        assets = {asset for fact in self._of(user_id) for _, asset, _ in fact.postings}
        if any(self._balance(user_id, asset, bucket) != 0 for asset in assets for bucket in BUCKETS):
            return Refused("wallet_not_empty")
        if (
            self._open_bets(user_id)
            or self._open_holds(user_id)
            or self._pending_withdrawals(user_id)
            or self._transfers_under_way(user_id)
            or self._open_proposals(user_id)
            or naive_gifts.claims_under_way(self._of(user_id))
        ):
            return Refused("wallet_not_empty")
        return _Decision("wallet_closed")

    # ---- scanning the facts of one wallet

    def _of(self, user_id: str) -> list[Fact]:
        return self.facts.get(user_id, [])

    def _time(self, user_id: str, now_us: int) -> int:
        return max([now_us] + [fact.time_us for fact in self._of(user_id)])

    def _find(self, user_id: str, type_: str, **members: Any) -> Fact | None:
        for fact in self._of(user_id):
            if fact.type == type_ and all(fact.data.get(name) == value for name, value in members.items()):
                return fact
        return None

    def _unresolved(self, user_id: str, type_: str, id_name: str, *resolved_by: str) -> list[Fact]:
        """Facts of a type whose id is in no later fact of the types that resolve it."""
        return [
            fact
            for fact in self._of(user_id)
            if fact.type == type_
            and all(self._find(user_id, by, **{id_name: fact.data[id_name]}) is None for by in resolved_by)
        ]

    def _open_bets(self, user_id: str) -> list[Fact]:
        return self._unresolved(user_id, "bet_placed", "bet_id", "bet_settled", "bet_cancelled")

    def _open_holds(self, user_id: str) -> list[Fact]:
        return self._unresolved(user_id, "hold_placed", "hold_id", "hold_captured", "hold_released", "hold_expired")

    def _hold_resolved(self, user_id: str, hold_id: str) -> bool:
        return all(fact.data["hold_id"] != hold_id for fact in self._open_holds(user_id))

    def _pending_withdrawals(self, user_id: str) -> list[Fact]:
        return self._unresolved(
            user_id, "withdrawal_requested", "order_id", "withdrawal_approved", "withdrawal_rejected"
        )

    def _transfers_under_way(self, user_id: str) -> list[Fact]:
        return self._unresolved(user_id, "transfer_sent", "transfer_id", "transfer_delivered", "transfer_returned")

    def _open_proposals(self, user_id: str) -> list[Fact]:
        return self._unresolved(
            user_id, "adjustment_proposed", "adjustment_id", "adjustment_approved", "adjustment_rejected"
        )

    def _status(self, user_id: str) -> str | None:
        status = None
        for fact in self._of(user_id):
            match fact.type:
                case "wallet_opened" | "wallet_unfrozen":
                    status = "open"
                case "wallet_frozen":
                    status = "frozen"
                case "wallet_closed":
                    status = "closed"
        return status

    def _order_known(self, user_id: str, order_id: str) -> bool:
        return any(self._find(user_id, by, order_id=order_id) for by in ("deposited", "withdrawal_requested"))

    def _first_deposit(self, user_id: str) -> dict[str, Any] | None:
        for index, fact in enumerate(self._of(user_id)):
            if fact.type == "deposited":
                positions = [at for at, place in self.position_of.items() if place == (user_id, index)]
                return {
                    "order_id": fact.data["order_id"],
                    "asset": fact.data["asset"],
                    "amount": fact.data["amount"],
                    "position": positions[0] if positions else None,
                    "time_us": fact.time_us,
                }
        return None

    def _balance(self, user_id: str, asset: str, bucket: str) -> int:
        return sum(_change(fact, bucket, asset) for fact in self._of(user_id))

    def _balances(self, user_id: str, asset: str) -> dict[str, int]:
        return {bucket: self._balance(user_id, asset, bucket) for bucket in BUCKETS}

    def _cash_above_0(self, user_id: str, asset: str) -> int:
        return max(0, self._balance(user_id, asset, "cash"))

    def _insufficient(self, user_id: str, asset: str) -> Refused:
        return Refused("insufficient_funds", available=self._cash_above_0(user_id, asset))

    def _limits(self, user_id: str, asset: str) -> dict[str, int | None]:
        limits = dict(LIMITS)
        for fact in self._of(user_id):
            if fact.type == "limits_set" and fact.data["asset"] == asset:
                for name, default in LIMITS.items():
                    if name in fact.data:
                        limits[name] = default if fact.data[name] is None else fact.data[name]
        return limits

    def _credit_limit(self, user_id: str, asset: str) -> int:
        return self._limits(user_id, asset)["credit_limit"] or 0

    def _exceeds_balance_max(self, user_id: str, asset: str, more: int) -> bool:
        balance_max: int | None = self._limits(user_id, asset)["balance_max"]
        return balance_max is not None and sum(self._balances(user_id, asset).values()) + more > balance_max

    def _leaves_range(self, user_id: str, asset: str, change: int) -> bool:
        """Whether the buckets and all money that may still come back would exceed the bound."""
        return abs(self._owned_or_due(user_id, asset) + change) > AMOUNT_MAX

    def _owned_or_due(self, user_id: str, asset: str) -> int:
        stakes = sum(f.data["stake"] for f in self._open_bets(user_id) if f.data["asset"] == asset)
        sent = sum(f.data["amount"] for f in self._transfers_under_way(user_id) if f.data["asset"] == asset)
        return sum(self._balances(user_id, asset).values()) + int(stakes) + int(sent)

    def _staked_that_day(self, user_id: str, asset: str, time_us: int) -> int:
        return sum(
            fact.data["stake"]
            for fact in self._unresolved(user_id, "bet_placed", "bet_id", "bet_cancelled")
            if fact.data["asset"] == asset and fact.time_us // DAY_US == time_us // DAY_US
        )

    def _requested_that_day(self, user_id: str, asset: str, time_us: int) -> int:
        return sum(fact.data["amount"] for fact in self._requests_that_day(user_id, asset, time_us))

    def _requests_that_day(self, user_id: str, asset: str, time_us: int) -> list[Fact]:
        return [
            fact
            for fact in self._unresolved(user_id, "withdrawal_requested", "order_id", "withdrawal_rejected")
            if fact.data["asset"] == asset and fact.time_us // DAY_US == time_us // DAY_US
        ]

    def _grant(self, user_id: str, grant_id: str) -> _Grant | None:
        for grant in self._grants(user_id):
            if grant.grant_id == grant_id:
                return grant
        return None

    def _grants(self, user_id: str) -> list[_Grant]:
        """All grants ever made, oldest first, with what remains of each."""
        grants: dict[str, _Grant] = {}
        sources: dict[str, list[list[Any]]] = {}  # by bet
        for index, fact in enumerate(self._of(user_id)):
            data = fact.data
            match fact.type:
                case "deposited":
                    bonus = data.get("bonus", 0)
                    if bonus > 0:
                        grants[data["order_id"]] = _Grant(data["order_id"], data["asset"], None, index, bonus)
                case "bonus_granted" | "attendance_claimed" | "gift_received":
                    expires_at_us = data.get("expires_at_us")
                    grants[data["grant_id"]] = _Grant(
                        data["grant_id"], data["asset"], expires_at_us, index, data["amount"]
                    )
                case "bet_placed":
                    sources[data["bet_id"]] = data["from"]["grants"]
                    for grant_id, amount in data["from"]["grants"]:
                        grants[grant_id].left -= amount
                        grants[grant_id].taken += amount
                case "bet_cancelled":
                    for grant_id, amount in sources.get(data["bet_id"], []):
                        grants[grant_id].left += amount
                        grants[grant_id].taken -= amount
                case "bet_settled":
                    if _change(fact, "bonus") > 0:
                        last_grant_id, _ = sources[data["bet_id"]][-1]
                        grants[last_grant_id].left += _change(fact, "bonus")
                case "bonus_expired":
                    grants[data["grant_id"]].left -= data["amount"]
                    grants[data["grant_id"]].expired = True
                case "reversed":
                    _, target = self.position_of[data["position"]]
                    for grant in grants.values():
                        if grant.age == target:
                            grant.left += _change(fact, "bonus")
        return list(grants.values())


def _start_us(period: str) -> int:
    """Of a name that is no period, which the API refuses, a time that never comes."""
    try:
        return calendar.timegm(time.strptime(period, "%Y%m%dT%H%M%SZ")) * 1_000_000
    except ValueError:
        return 2**62


def _to(user_id: str, bucket: str, asset: str, amount: int) -> Posting:
    return (f"wallet/{user_id}/{bucket}", asset, amount)


def _within(user_id: str, asset: str, amount: int, source: str, target: str) -> list[Posting]:
    return [_to(user_id, source, asset, -amount), _to(user_id, target, asset, amount)]


def _change(fact: Fact, bucket: str, asset: str | None = None) -> int:
    account = f"wallet/{fact.user_id}/{bucket}"
    return sum(n for at, in_asset, n in fact.postings if at == account and asset in (None, in_asset))


def _without_nulls(command: Command) -> Command:
    keep = LIMITS if command["type"] == "set_limits" else {}
    return copy.deepcopy({name: value for name, value in command.items() if value is not None or name in keep})


def _differing(first: Command, again: Command) -> tuple[str, ...]:
    absent = object()
    names = sorted((first.keys() | again.keys()) - {"private"})
    return tuple(name for name in names if first.get(name, absent) != again.get(name, absent))
