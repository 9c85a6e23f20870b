"""The client's own books: what each wallet must contain, by the contract's rules alone.

Invariants:

1. An accepted command counts once, whatever the number of its responses. A refused command changes nothing.
2. Amounts come from the command. From a response the books take its type, position, time and, for a bet, the split
   `data.from`, which the rules must allow. Its `balances` are compared, never copied.
3. Timers fire by the `time_us` of a response: everything due by then happened before it.
4. Money under way between wallets may arrive at any moment. The books count it as *coming*, from just before the
   transfer is posted until `settle`. Meanwhile cash is between the sure amount and the sure amount plus what is
   coming. Held is always exact, because no other wallet can move it. What the outcome of a period pays is also
   coming, from just before the outcome is posted; the bets of games use cash only. For bonuses and commissions see
   `flows`.
5. The books decide whether a transfer arrives or returns when it is posted, from its receiver. That is right only if
   the receiver's status and `balance_max` do not change while the transfer is under way; `traffic.actions` ensures
   this.

The books import nothing of the service and do no I/O. They never raise on a wrong response: each response that does
not fit adds a sentence to `surprises`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from demo.books import comparison
from demo.books.flows import DUE_WITHIN_US, Flows, arrive, settle_commissions
from demo.books.payouts import fee_of, payout_of
from demo.books.rules import Rules
from demo.books.wagering import NO_SEQ
from demo.books.wallets import (
    ACCEPTED,
    DAY_US,
    HORIZON_US,
    LIMITS,
    Adjustment,
    Bet,
    Command,
    CommandResponse,
    Grant,
    Hold,
    Limits,
    Line,
    Order,
    Reversible,
    Transfer,
    Wallet,
    bonus_of_stake,
    keeps_bonus,
    take_bonus,
    timers_due_us,
)

EVENT_OF = {
    "open_wallet": "wallet_opened",
    "deposit": "deposited",
    "request_withdrawal": "withdrawal_requested",
    "approve_withdrawal": "withdrawal_approved",
    "reject_withdrawal": "withdrawal_rejected",
    "place_bet": "bet_placed",
    "settle_bet": "bet_settled",
    "cancel_bet": "bet_cancelled",
    "hold": "hold_placed",
    "capture_hold": "hold_captured",
    "release_hold": "hold_released",
    "transfer": "transfer_sent",
    "grant_bonus": "bonus_granted",
    "adjust": "adjusted",
    "propose_adjustment": "adjustment_proposed",
    "approve_adjustment": "adjustment_approved",
    "reject_adjustment": "adjustment_rejected",
    "reverse": "reversed",
    "set_limits": "limits_set",
    "freeze_wallet": "wallet_frozen",
    "unfreeze_wallet": "wallet_unfrozen",
    "close_wallet": "wallet_closed",
    "record_result": "result_recorded",
    "cancel_period": "period_cancelled",
    "claim_attendance": "attendance_claimed",
    "create_gift": "gift_created",
    "close_gift": "gift_closed",
    "claim_gift": "gift_claimed",
    "claim_referral_code": "referral_code_claimed",
    "set_agent_level": "agent_level_set",
}
"""The event of each accepted command, from the contract's table."""

REFUSED_WHILE_FROZEN = {
    "place_bet",
    "hold",
    "capture_hold",
    "request_withdrawal",
    "approve_withdrawal",
    "transfer",
}
OUTCOMES = {"record_result", "cancel_period"}
GIFTS = {"create_gift", "close_gift"}
SHORT_OF_FUNDS = {"insufficient_funds", "credit_limit_exceeded"}


class Books:
    """The books of one day. Call `sending` before each post and `responded` with each response; then `settle`.

    `ends`: the last seq that a response named, by partition. `deciding`: (user, order) of each withdrawal for which a
    decision was sent, so that it may stop being pending at any moment.
    """

    def __init__(self, rules: Rules | None = None) -> None:
        """Start with empty books. `rules`: the money rules that the service plays by."""
        self.wallets: dict[str, Wallet] = {}
        self.opened: list[str] = []
        self.surprises: list[str] = []
        self.flows: Counter[tuple[str, str]] = Counter()
        self.clock_us = 0
        self.ends: dict[int, int] = {}
        self.deciding: set[tuple[str, str]] = set()
        self._first: dict[tuple[str, str], dict[str, Any]] = {}
        self._under_way: dict[tuple[str, str], Transfer] = {}
        self.periods: dict[tuple[str, str], list[tuple[Wallet, str]]] = {}
        """The bets on each period of a game with rules: the wallet, and the bet's id."""
        self.results: dict[tuple[str, str], str | None] = {}
        """How each period ended: the result, or None if it was cancelled."""
        self.money = Flows(rules or {}, self.wallets, self.flows, self._surprise)

    def wallet(self, user_id: str) -> Wallet:
        """The books' wallet of this user; an empty one before the first response."""
        if user_id not in self.wallets:
            self.wallets[user_id] = Wallet(user_id)
        return self.wallets[user_id]

    def accepted(self, command: Command) -> bool:
        """Whether this very command was accepted."""
        return (command["user_id"], command["command_id"]) in self._first

    def acknowledged(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Each accepted command: user, command id and the first response."""
        for (user_id, command_id), body in self._first.items():
            yield user_id, command_id, body

    def sending(self, command: Command) -> None:
        """Note a command that must be accepted and may take effect before its response arrives: a transfer, a
        decision on a withdrawal, the outcome of a period, or one that leads to bonuses and commissions of other
        users."""
        if command["type"] == "transfer" and not self.accepted(command):
            self._expect_arrival(command)
        if command["type"] in ("approve_withdrawal", "reject_withdrawal"):
            self.deciding.add((command["user_id"], command["order_id"]))
        if command["type"] in OUTCOMES:
            self._period_ended(command)
        self.money.sending(command)

    def responded(self, command: Command, response: CommandResponse, may: frozenset[str] = frozenset()) -> None:
        """Take one response into the books.

        `may`: the outcomes that fit (empty: any). These add to `surprises`: a response that does not fit, a second
        response that differs from the first, and a split or a balance that differs from the rules.
        """
        key = (str(command.get("user_id")), str(command.get("command_id")))
        if may and response.outcome not in may:
            self._surprise(
                command, f"got the outcome {response.outcome}, not {' or '.join(sorted(may))}{_detail(response)}"
            )
        if not response.accepted:
            if key not in self._first:
                self._refused(command, response)
            return
        first = self._first.get(key)
        if first is not None:
            if first != response.body:
                self._surprise(command, "got two responses that differ")
            return
        self._first[key] = response.body
        self._take(command, response.body)

    def latest_due_us(self) -> int:
        """The last time within the horizon at which a timer of any wallet fires; 0 if there is none."""
        horizon_us = self.clock_us + HORIZON_US
        dues = (due for wallet in self.wallets.values() for due in timers_due_us(wallet))
        expiry_us = max((due for due in dues if due <= horizon_us), default=0)
        return max(expiry_us, self.money.latest_due_us(self.clock_us))

    def settle(self, now_us: int) -> None:
        """Let all money that is under way arrive or return, and all timers due by `now_us` fire."""
        self.money.fall_due(now_us)
        for transfer in self._under_way.values():
            end = self.wallet(transfer.ends_at)
            end.cash[transfer.asset] += transfer.amount
            end.coming[transfer.asset] -= transfer.amount
        self._under_way.clear()
        for wallet in self.wallets.values():
            settle_commissions(wallet)
            for awaited in wallet.awaited:
                arrive(wallet, awaited.grant_id, NO_SEQ)
            wallet.just_granted.clear()
            self._fire(wallet, now_us)

    def welcome(self, user_ids: Iterable[str]) -> None:
        """From now on others may refer to these users and send them money."""
        self.opened.extend(user_id for user_id in user_ids if self.wallet(user_id).status)

    def differences(self, user_id: str, seen: dict[str, Any] | None, *, settled: bool = True) -> list[str]:
        """Each difference between the service's wallet (None: not found) and the books (`comparison`)."""
        wallet = self.wallet(user_id)
        return comparison.differences(wallet, seen, settled=settled, sure=settled or not self.may_fire(wallet))

    def may_fire(self, wallet: Wallet) -> bool:
        """Whether a timer of the wallet is due by now or within the horizon."""
        return any(due <= self.clock_us + HORIZON_US for due in timers_due_us(wallet))

    # -- the effect of a response --------------------------------------------------------------------------------

    def _refused(self, command: Command, response: CommandResponse) -> None:
        if command.get("type") == "transfer":
            self._forget_arrival(command)
        if response.outcome not in SHORT_OF_FUNDS or command.get("user_id") not in self.wallets:
            return
        wallet = self.wallets[command["user_id"]]
        wanted = abs(command.get("stake") or command.get("amount") or 0)
        credit = wallet.limit(command["asset"]).credit_limit if command["type"] == "place_bet" else 0
        if 0 < wanted <= wallet.cash[command.get("asset", "")] + credit:
            self._surprise(command, f"was refused {response.outcome}, though cash is {wallet.cash[command['asset']]}")

    def _take(self, command: Command, body: dict[str, Any]) -> None:
        kind: str = command["type"]
        now_us: int = body.get("time_us", self.clock_us)
        self.clock_us = max(self.clock_us, now_us)
        self.money.fall_due(self.clock_us + DUE_WITHIN_US)
        if body.get("type") != EVENT_OF.get(kind):
            self._surprise(command, f"led to the event {body.get('type')}")
        if kind in OUTCOMES | GIFTS:
            self._note_end(command, body)
            if kind in GIFTS:
                self.money.gift_changed(command)
            return
        wallet = self.wallet(command["user_id"])
        self._note_position(wallet, command, body)
        if wallet.status == "closed" or (wallet.status is None) != (kind == "open_wallet"):
            self._surprise(command, f"was accepted though the wallet is {wallet.status or 'not open'}")
        if wallet.status == "frozen" and kind in REFUSED_WHILE_FROZEN:
            self._surprise(command, "was accepted though the wallet is frozen")
        wallet.just_granted.clear()
        self._fire(wallet, now_us)
        try:
            self._apply(wallet, command, body, now_us)
        except KeyError as missing:
            self._surprise(command, f"was accepted though {missing} is not in the books")
        self._check_balances(wallet, command, body)
        self.money.caused(wallet, command, body)
        # What the command itself made due expires by the ledger's next event, which the response does not name: a
        # read at this position need not show it. It fires with the wallet's next response.

    def _note_position(self, wallet: Wallet, command: Command, body: dict[str, Any]) -> None:
        if (position := self._note_end(command, body)) is None:
            return
        partition, seq = position
        wallet.partition, wallet.seq = partition, max(wallet.seq, seq)
        if body.get("balances"):
            wallet.lines[seq] = Line(str(body.get("type")), command["command_id"], body["balances"])

    def _note_end(self, command: Command, body: dict[str, Any]) -> tuple[int, int] | None:
        """Note the position of a response in `ends`."""
        partition, seq = body.get("partition"), body.get("seq")
        if not isinstance(partition, int) or not isinstance(seq, int):
            self._surprise(command, "got a response without a position")
            return None
        self.ends[partition] = max(self.ends.get(partition, 0), seq)
        return partition, seq

    def _apply(self, wallet: Wallet, command: Command, body: dict[str, Any], now_us: int) -> None:
        match command["type"]:
            case "open_wallet":
                wallet.status = "open"
                wallet.referrer_id = command.get("referrer_id")
            case "deposit":
                self._deposited(wallet, command, body, now_us)
            case "request_withdrawal":
                asset, amount = command["asset"], command["amount"]
                if ACCEPTED not in self.money.may_withdraw(wallet, asset, amount, now_us):
                    self._surprise(command, "was accepted against the rules of withdrawals")
                self._take_cash(wallet, command, asset, amount)
                wallet.orders[command["order_id"]] = Order("withdrawal", asset, amount, now_us, "pending")
                wallet.requests[asset, now_us // DAY_US] += 1
                wallet.withdrawn[asset, now_us // DAY_US] += amount
            case "approve_withdrawal" | "reject_withdrawal":
                self._withdrawal_decided(wallet, command)
            case "place_bet":
                self._bet_placed(wallet, command, body, now_us)
            case "settle_bet":
                self._bet_settled(wallet, command, now_us)
            case "cancel_bet":
                self._bet_cancelled(wallet, command, body)
            case "hold":
                self._take_cash(wallet, command, command["asset"], command["amount"])
                wallet.holds[command["hold_id"]] = Hold(
                    command["asset"], command["amount"], command.get("expires_at_us")
                )
            case "capture_hold" | "release_hold":
                self._hold_resolved(wallet, command)
            case "transfer":
                self._expect_arrival(command)
                self._take_cash(wallet, command, command["asset"], command["amount"])
                self.flows["transferred", command["asset"]] += command["amount"]
            case "grant_bonus":
                self._granted(wallet, command, body, command["grant_id"], command["amount"])
                wallet.reversibles[body["position"]] = Reversible(
                    command["asset"], 0, command["grant_id"], None, seq=body["seq"]
                )
                self.money.require(wallet, command, body, bonus=command["amount"])
            case "claim_attendance":
                if (grant := self.money.attended(wallet, command, body, now_us)) is not None:
                    wallet.grants[grant.grant_id] = grant
                    self.flows["attendance", grant.asset] += grant.amount
                    self.money.require(wallet, command, body, bonus=grant.amount)
            case "adjust":
                self._adjusted(wallet, command, command["asset"], command["amount"])
                wallet.reversibles[body["position"]] = Reversible(command["asset"], command["amount"], None, None)
            case "propose_adjustment":
                wallet.adjustments[command["adjustment_id"]] = Adjustment(command["asset"], command["amount"])
            case "approve_adjustment" | "reject_adjustment":
                adjustment = wallet.adjustments[command["adjustment_id"]]
                approved = command["type"] == "approve_adjustment"
                adjustment.status = "approved" if approved else "rejected"
                if approved:
                    self._adjusted(wallet, command, adjustment.asset, adjustment.amount)
            case "reverse":
                self._reversed(wallet, command, body)
            case "set_limits":
                limit = wallet.limits.setdefault(command["asset"], Limits())
                for name in LIMITS:
                    if name in command:
                        given = command[name]
                        setattr(limit, name, getattr(Limits(), name) if given is None else given)
            case "freeze_wallet":
                wallet.status = "frozen"
            case "unfreeze_wallet":
                wallet.status = "open"
            case "close_wallet":
                if not wallet.nothing_open() or any(wallet.total(asset) for asset in wallet.assets()):
                    self._surprise(command, "was accepted though the wallet is not empty")
                wallet.status = "closed"

    def _deposited(self, wallet: Wallet, command: Command, body: dict[str, Any], now_us: int) -> None:
        asset, amount, bonus = command["asset"], command["amount"], command.get("bonus") or 0
        order_id = command["order_id"]
        wallet.cash[asset] += amount
        wallet.orders[order_id] = Order("deposit", asset, amount, now_us, "completed", bonus)
        wallet.first_deposit = wallet.first_deposit or (order_id, asset, amount)
        self.flows["deposited", asset] += amount
        if bonus:
            self._granted(wallet, command, body, order_id, bonus)
        else:
            self._check_balance_max(wallet, command, asset)
        wallet.reversibles[body["position"]] = Reversible(
            asset, amount, order_id if bonus else None, order_id, seq=body["seq"]
        )
        self.money.require(wallet, command, body, deposit=amount, bonus=bonus)

    def _withdrawal_decided(self, wallet: Wallet, command: Command) -> None:
        order = wallet.orders[command["order_id"]]
        if command["type"] == "approve_withdrawal":
            order.status = "approved"
            self.flows["withdrawn", order.asset] += order.amount
        else:
            order.status = "rejected"
            wallet.cash[order.asset] += order.amount
            wallet.withdrawn[order.asset, order.at_us // DAY_US] -= order.amount
            wallet.requests[order.asset, order.at_us // DAY_US] -= 1

    def _bet_placed(self, wallet: Wallet, command: Command, body: dict[str, Any], now_us: int) -> None:
        asset, stake = command["asset"], command["stake"]
        spend = command.get("spend") or "cash_first"
        given: dict[str, Any] = (body.get("data") or {}).get("from") or {}
        for grant_id, _ in given.get("grants") or []:
            arrive(wallet, grant_id, body["seq"])
        bonus_max = wallet.bonus(asset)
        sure = wallet.cash[asset]
        bonus_if_none = bonus_of_stake(stake, sure, bonus_max + wallet.bonus_coming(asset), spend)
        bonus_if_all = bonus_of_stake(stake, sure + wallet.coming[asset], bonus_max, spend)
        bonus = given.get("bonus", 0)
        if not bonus_if_all <= bonus <= bonus_if_none or given.get("cash", 0) + bonus != stake:
            self._surprise(command, f"took {given}, by the rules bonus {bonus_if_all} to {bonus_if_none} of {stake}")
            bonus = bonus_if_none
        grants = take_bonus(wallet, asset, bonus, given.get("grants") if wallet.awaits(asset) else None)
        if [tuple(part) for part in given.get("grants") or []] != grants:
            self._surprise(command, f"took bonus from {given.get('grants')}, by the rules from {grants}")
        wallet.cash[asset] -= stake - bonus
        if wallet.cash[asset] + wallet.coming[asset] < min(-wallet.limit(asset).credit_limit, sure):
            self._surprise(command, f"was accepted, and cash is {wallet.cash[asset]}")
        wallet.staked[asset, now_us // DAY_US] += stake
        stake_max = wallet.limit(asset).stake_max_per_day
        if stake_max is not None and wallet.staked[asset, now_us // DAY_US] > stake_max:
            self._surprise(command, f"was accepted above stake_max_per_day {stake_max}")
        wallet.bets[command["bet_id"]] = Bet(
            asset,
            stake,
            stake - bonus,
            bonus,
            grants,
            now_us,
            game=command["game"],
            period=command["period"],
            selection=command["selection"],
            seq=body.get("seq", 0),
        )
        self.flows["staked", asset] += stake
        wallet.wagering_of(asset).stake(body.get("seq", 0), command["bet_id"], stake)
        if command["game"] != "external":
            self.periods.setdefault((command["game"], command["period"]), []).append((wallet, command["bet_id"]))
            fee = (body.get("data") or {}).get("fee")
            if fee != fee_of(command["selection"], stake):
                self._surprise(command, f"took a fee of {fee}, by the rules {fee_of(command['selection'], stake)}")
            self.flows["fees", asset] += fee_of(command["selection"], stake)

    def _period_ended(self, command: Command) -> None:
        """Settle or return every open bet of the period. From now on its money counts as coming."""
        game = command["user_id"].removeprefix("game:")
        result = command.get("result")
        if (game, command["period"]) in self.results:
            return
        self.results[game, command["period"]] = result
        for wallet, bet_id in self.periods.get((game, command["period"]), ()):
            bet = wallet.bets[bet_id]
            if bet.status != "open":
                continue
            if result is None:
                bet.status, amount = "cancelled", bet.stake
                wallet.staked[bet.asset, bet.placed_at_us // DAY_US] -= bet.stake
                self.flows["staked", bet.asset] -= bet.stake
                self.flows["fees", bet.asset] -= fee_of(bet.selection, bet.stake)
                wallet.wagering_of(bet.asset).cancel(NO_SEQ, bet_id)
            else:
                amount = payout_of(game.rpartition("_")[0], bet.selection, bet.stake, result)
                bet.status, bet.payout = "settled", amount
                self.flows["paid out", bet.asset] += amount
                self.money.settled(wallet, bet.asset, bet.stake, self.clock_us, by_response=False)
            wallet.coming[bet.asset] += amount
            self._under_way[wallet.user_id, f"{bet_id} of {game}"] = Transfer(bet.asset, amount, wallet.user_id)

    def _bet_settled(self, wallet: Wallet, command: Command, now_us: int) -> None:
        bet, payout = wallet.bets[command["bet_id"]], command["payout"]
        bet.status, bet.payout, bet.settled_at_us = "settled", payout, now_us
        bonus = payout * bet.bonus // bet.stake
        wallet.cash[bet.asset] += payout - bonus
        if bonus:
            wallet.grants[bet.grants[-1][0]].left += bonus
        self.flows["paid out", bet.asset] += payout
        self.money.settled(wallet, bet.asset, bet.stake, now_us, by_response=True)

    def _bet_cancelled(self, wallet: Wallet, command: Command, body: dict[str, Any]) -> None:
        bet = wallet.bets.get(command["bet_id"])
        if bet is None:
            wallet.bets[command["bet_id"]] = Bet("", 0, 0, 0, [], 0, status="never")
            return
        bet.status = "cancelled"
        wallet.wagering_of(bet.asset).cancel(body["seq"], command["bet_id"])
        wallet.cash[bet.asset] += bet.cash
        for grant_id, amount in bet.grants:
            wallet.grants[grant_id].left += amount
        wallet.staked[bet.asset, bet.placed_at_us // DAY_US] -= bet.stake
        self.flows["staked", bet.asset] -= bet.stake

    def _hold_resolved(self, wallet: Wallet, command: Command) -> None:
        hold = wallet.holds[command["hold_id"]]
        if hold.status != "open":
            self._surprise(command, f"was accepted though the hold is {hold.status}")
            return
        captured = 0
        if command["type"] == "capture_hold":
            given = command.get("amount")
            captured = hold.amount if given is None else given
        hold.status = "captured" if command["type"] == "capture_hold" else "released"
        wallet.cash[hold.asset] += hold.amount - captured
        self.flows["captured", hold.asset] += captured

    def _granted(self, wallet: Wallet, command: Command, body: dict[str, Any], grant_id: str, amount: int) -> None:
        asset = command["asset"]
        kind = "deposit" if command["type"] == "deposit" else "grant"
        expires_at_us = command.get("expires_at_us")
        wallet.grants[grant_id] = Grant(grant_id, asset, amount, body["seq"], expires_at_us, amount, kind=kind)
        self.flows["bonus", asset] += amount
        self._check_balance_max(wallet, command, asset)

    def _adjusted(self, wallet: Wallet, command: Command, asset: str, amount: int) -> None:
        if amount < 0:
            self._take_cash(wallet, command, asset, -amount)
        else:
            wallet.cash[asset] += amount
            self._check_balance_max(wallet, command, asset)
        self.flows["adjusted", asset] += amount

    def _reversed(self, wallet: Wallet, command: Command, body: dict[str, Any]) -> None:
        item = wallet.reversibles.get(command["position"])
        if item is None or item.reversed:
            self._surprise(command, "was accepted though there is nothing to reverse")
            return
        if keeps_bonus(wallet, item):
            self._surprise(command, "was accepted though the deposit's bonus was not reversed")
        item.reversed = True
        wallet.wagering_of(item.asset).reverse(body["seq"], item.seq)
        self._take_cash(wallet, command, item.asset, item.cash)
        if item.grant_id is not None:
            grant = wallet.grants[item.grant_id]
            self.flows["bonus" if grant.kind in ("grant", "deposit") else grant.kind, item.asset] -= grant.left
            grant.left, grant.untouched, grant.reversed = 0, False, True
        if item.order_id is not None:
            wallet.orders[item.order_id].status = "reversed"
        if item.cash:
            self.flows["deposited" if item.order_id is not None else "adjusted", item.asset] -= item.cash

    # -- small leaves --------------------------------------------------------------------------------------------

    def _take_cash(self, wallet: Wallet, command: Command, asset: str, amount: int) -> None:
        """Subtract cash; only a bet may leave less than zero. A negative amount adds."""
        wallet.cash[asset] -= amount
        if amount > 0 and wallet.cash[asset] + wallet.coming[asset] < 0:
            self._surprise(command, f"was accepted though cash was {wallet.cash[asset] + amount}")

    def _check_balance_max(self, wallet: Wallet, command: Command, asset: str) -> None:
        balance_max = wallet.limit(asset).balance_max
        if balance_max is not None and wallet.total(asset) > balance_max:
            self._surprise(command, f"was accepted above balance_max {balance_max}")

    def _check_balances(self, wallet: Wallet, command: Command, body: dict[str, Any]) -> None:
        for asset, seen in (body.get("balances") or {}).items():
            sure, coming = wallet.cash[asset], wallet.coming[asset]
            bonus, held = wallet.possible_bonus(asset), wallet.held(asset)
            if seen["bonus"] not in bonus or seen["held"] != held or not sure <= seen["cash"] <= sure + coming:
                self._surprise(
                    command,
                    f"left {asset} {seen}, in the books cash {sure} (+ {coming} coming), "
                    f"bonus {' or '.join(map(str, sorted(bonus)))}, held {held}",
                )

    def _fire(self, wallet: Wallet, now_us: int) -> None:
        """Expire due timers: an expired hold returns its money to cash, an expired grant loses its rest."""
        for hold in wallet.holds.values():
            if hold.status == "open" and hold.expires_at_us is not None and hold.expires_at_us <= now_us:
                hold.status = "expired"
                wallet.cash[hold.asset] += hold.amount
        for grant in wallet.grants.values():
            if grant.left and grant.expires_at_us is not None and grant.expires_at_us <= now_us:
                self.flows["expired", grant.asset] += grant.left
                grant.left, grant.untouched = 0, False

    def _expect_arrival(self, command: Command) -> None:
        key = (command["user_id"], command["command_id"])
        if key in self._under_way:
            return
        receiver, asset = self.wallet(command["to_user_id"]), command["asset"]
        balance_max = receiver.limit(asset).balance_max
        lands = receiver.status in ("open", "frozen") and (
            balance_max is None or receiver.total(asset) + command["amount"] <= balance_max
        )
        ends_at = receiver.user_id if lands else command["user_id"]
        self._under_way[key] = Transfer(asset, command["amount"], ends_at)
        self.wallet(ends_at).coming[asset] += command["amount"]

    def _forget_arrival(self, command: Command) -> None:
        transfer = self._under_way.pop((command["user_id"], command["command_id"]), None)
        if transfer is not None:
            self.wallet(transfer.ends_at).coming[transfer.asset] -= transfer.amount

    def _surprise(self, command: Command, what: str) -> None:
        self.surprises.append(f"{command.get('user_id')}: {command.get('type')} {command.get('command_id')} {what}")


def _detail(response: CommandResponse) -> str:
    detail = response.body.get("detail")
    return f" ({detail})" if detail and not response.accepted else ""
