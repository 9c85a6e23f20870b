"""Given, when, then for the pure core: wallets of one partition in memory, decided as a writer would.

A `Scene` decides a command in the order of the contract: first the due expiries, then the command, then the expiries
that the command made due. It writes to lists only; the clock moves only when a test moves it.

    scene = Scene.with_cash(1000)                 # given
    event = scene.when(hold(400))                 # when: it must be accepted
    assert event.data == HoldPlaced(...)          # then
    assert scene.refused(hold(700, hold_id="h2")).code is Code.INSUFFICIENT_FUNDS

Each event passes `_assert_sound`, so every test also tests the core's invariants.
"""

import re
from collections.abc import Mapping
from copy import deepcopy
from hashlib import sha256
from itertools import count
from typing import Any, Final, TypeVar

from ledger.core.case import Case, Decision
from ledger.core.commands import (
    Adjust,
    ApproveAdjustment,
    ApproveWithdrawal,
    CancelBet,
    CancelPeriod,
    CaptureHold,
    ClaimAttendance,
    ClaimGift,
    ClaimReferralCode,
    CloseGift,
    CloseWallet,
    Command,
    CreateGift,
    Deposit,
    FreezeWallet,
    GrantBonus,
    OpenWallet,
    PlaceBet,
    PlaceHold,
    ProposeAdjustment,
    RecordResult,
    RejectAdjustment,
    RejectWithdrawal,
    ReleaseHold,
    RequestWithdrawal,
    Reverse,
    SetAgentLevel,
    SetLimits,
    SettleBet,
    Transfer,
    UnfreezeWallet,
    canonical,
)
from ledger.core.consequences import consequences_of, decide_own_grant
from ledger.core.decide import decide, expire, needs
from ledger.core.event_base import Data
from ledger.core.events import Balance, Event, sums_to_zero
from ledger.core.evolve import balances_follow, evolve, items_read_by
from ledger.core.fields import Proof
from ledger.core.follow_up_commands import WalletFollowUp
from ledger.core.follow_ups import decide_follow_up, fits, follow_up_of, item_needed_by
from ledger.core.games.rules import BUILT_IN
from ledger.core.items import Bet, GiftClaim, Hold, Item, OpenBet, Order, Proposal, SentTransfer
from ledger.core.position import Position
from ledger.core.rejections import Rejection
from ledger.core.settlement import resolution_of, resolve_bet
from ledger.core.wallet import DAY_US, Wallet, balance_of, spending_order

NOON: Final = 20_000 * DAY_US + DAY_US // 2
SECOND_US: Final = 1_000_000
ASSETS: Final = {"INR": 2, "USDT": 6, "GOLD": 0}
PARTITION: Final = 3
BUCKETS: Final = ("cash", "bonus", "held")

DataT = TypeVar("DataT", bound=Data)


class Scene:
    """Wallets in one partition, their items and their events, and the follow-ups that are under way."""

    def __init__(self) -> None:
        self.now_us = NOON
        self.rules = BUILT_IN
        self.wallets: dict[str, Wallet] = {}
        self.items: dict[str, dict[str, Item]] = {}
        self.events: list[Event] = []
        """All events of the partition, the one of seq 1 first."""
        self.under_way: list[WalletFollowUp] = []

    @classmethod
    def with_cash(cls, amount: int = 1000, *users: str) -> "Scene":
        """Open wallets (default: `u1`), each with `amount` INR from the order `o1`."""
        scene = cls()
        for user_id in users or ("u1",):
            scene.given(open_wallet(user_id=user_id), deposit(amount, user_id=user_id))
        return scene

    # --- given, when ---------------------------------------------------------------------------------------------

    def given(self, *commands: Command) -> "Scene":
        """Post commands that must all be accepted: the events before the test's own."""
        for command in commands:
            self.when(command)
        return self

    def when(self, command: Command, actor: str = "local") -> Event:
        """Return the event of a command that must be accepted. Expiries that it makes due come after it."""
        decision = self.decided(command, actor)
        assert isinstance(decision, Event), (command, decision)
        return decision

    def refused(self, command: Command, actor: str = "local") -> Rejection:
        """Return the rejection of a command that must be refused. Only due expiries may have been written."""
        before = len(self.events)
        decision = self.decided(command, actor)
        assert isinstance(decision, Rejection), (command, decision)
        for number, asset in re.findall(r"(-?[0-9.]+) (INR|USDT|GOLD)\b", decision.detail):
            assert len(number.partition(".")[2]) == ASSETS[asset], f"not in the asset's own unit: {decision.detail}"
        assert all(event.actor == "ledger" for event in self.events[before:]), self.events[before:]
        return decision

    def decided(self, command: Command, actor: str = "local") -> Decision:
        """Write the due expiries, decide, and write the expiries that became due."""
        user_id = command.user_id
        time_us = self._time_us()
        self._fire(user_id, time_us)
        case = Case(
            command=command,
            request_sha256=sha256(canonical(command)).hexdigest(),
            actor=actor,
            wallet=self.wallet(user_id),
            items=self._known(user_id, needs(command)),
            assets=ASSETS,
            rules=self.rules,
            time_us=time_us,
        )
        decision = decide(case)
        if isinstance(decision, Event):
            assert set(items_read_by(decision)) <= set(needs(command)), (
                "an event read back may need no more than its command"
            )
            self._append(decision)
            self._cause(decision)
            self._fire(user_id, time_us)
        return decision

    def tick(self, user_id: str = "u1") -> list[Event]:
        """Write the due expiries of a wallet without a command."""
        return self._fire(user_id, self._time_us())

    def deliver(self, index: int = 0) -> Event:
        """Deliver one follow-up that is under way to its wallet."""
        follow_up = self.under_way.pop(index)
        user_id = follow_up.user_id
        time_us = max(self._time_us(), follow_up.cause_time_us)
        self._fire(user_id, time_us)
        key = item_needed_by(follow_up)
        item = None if key is None else self._known(user_id, (key,))[key]
        assert fits(follow_up, self.wallet(user_id), item)
        event = decide_follow_up(follow_up, self.wallet(user_id), item, time_us, self.rules)
        self._append(event)
        self._cause(event)
        self._fire(user_id, time_us)
        return event

    def deliver_all(self) -> list[Event]:
        """Deliver until nothing is under way."""
        delivered = []
        while self.under_way:
            delivered.append(self.deliver())
        return delivered

    def settle(self, outcome: Event) -> list[Event]:
        """End every open bet of the period by its outcome, the oldest first."""
        head = sha256(self.position(outcome).encode()).hexdigest()
        resolution = resolution_of(outcome, Position.parse(self.position(outcome)), head, PARTITION)
        waiting = [
            (bet.of_game.seq, user_id, key.removeprefix("b:"), bet)
            for user_id, items in self.items.items()
            for key, bet in items.items()
            if isinstance(bet, Bet)
            and bet.of_game is not None
            and (bet.of_game.game, bet.of_game.period) == (resolution.game, resolution.period)
        ]
        settled = []
        for _, user_id, bet_id, bet in sorted(waiting):
            time_us = self._time_us()
            self._fire(user_id, time_us)
            open_bet = OpenBet(user_id, bet_id, bet)
            settled.append(resolve_bet(resolution, open_bet, self.wallet(user_id), self.rules, time_us))
            self._append(settled[-1])
            self._fire(user_id, time_us)
        return settled

    # --- then ------------------------------------------------------------------------------------------------------

    def wallet(self, user_id: str = "u1") -> Wallet:
        return self.wallets.get(user_id) or Wallet(user_id)

    def balance(self, user_id: str = "u1", asset: str = "INR") -> Balance:
        return balance_of(self.wallet(user_id), asset)

    def events_of(self, user_id: str = "u1") -> list[Event]:
        return [event for event in self.events if event.user_id == user_id]

    def types_of(self, user_id: str = "u1") -> list[str]:
        return [event.data.type for event in self.events_of(user_id)]

    def last(self, data_type: type[DataT]) -> DataT:
        """Return the data of the last event, which must be of this type."""
        data = self.events[-1].data
        assert isinstance(data, data_type), data
        return data

    def position(self, event: Event) -> str:
        """The event's position, as `reverse` and `cause` name it."""
        return f"{PARTITION}:{self.events.index(event) + 1}"

    def total(self, account: str, asset: str = "INR") -> int:
        """The sum of all postings to an account."""
        return sum(
            amount
            for event in self.events
            for posted_account, posted_asset, amount in event.postings
            if (posted_account, posted_asset) == (account, asset)
        )

    # --- how -------------------------------------------------------------------------------------------------------

    def _time_us(self) -> int:
        return max(self.now_us, self.events[-1].time_us if self.events else 0)

    def _known(self, user_id: str, keys: tuple[str, ...]) -> dict[str, Item | None]:
        """These items only, so that a key missing from `needs` raises KeyError."""
        items = self.items.get(user_id, {})
        return {key: items.get(key) for key in keys}

    def _fire(self, user_id: str, time_us: int) -> list[Event]:
        fired: list[Event] = []
        while event := expire(self.wallet(user_id), time_us, len(self.events) + 1):
            self._append(event)
            fired.append(event)
        return fired

    def _cause(self, event: Event) -> None:
        """Write the consequences of the last event."""
        cause = Position(PARTITION, len(self.events))
        for own in consequences_of(event, self.wallet(event.user_id), self.rules):
            seq = len(self.events) + 1
            granted = decide_own_grant(own, self.wallet(event.user_id), self.rules, cause, event.time_us, seq)
            if granted is not None:
                self._append(granted)

    def _append(self, event: Event) -> None:
        user_id = event.user_id
        before = self.wallet(user_id)
        as_it_was = deepcopy(before)
        self.events.append(event)
        position = Position(PARTITION, len(self.events))
        after, changed = evolve(before, self._known(user_id, items_read_by(event)), event, position)
        assert before == as_it_was, "evolve changed the wallet that it was given"
        self.wallets[user_id] = after
        self.items.setdefault(user_id, {}).update(changed)
        _assert_sound(before, after, event, self.items[user_id])
        head = sha256(str(position).encode()).hexdigest()
        if follow_up := follow_up_of(event, after, position, head):
            self.under_way.append(follow_up)


def _assert_sound(before: Wallet, after: Wallet, event: Event, items: Mapping[str, Item]) -> None:
    """What must be true of every event, and of every wallet after it."""
    assert balances_follow(before, event), event
    assert sums_to_zero(event.postings), event
    assert all(amount for _, _, amount in event.postings), event
    assert len({posting[:2] for posting in event.postings}) == len(event.postings), event
    assert set(event.balances) == {asset for _, asset, _ in event.postings}, event
    for asset, balance in event.balances.items():
        for bucket in BUCKETS:
            account = (f"wallet/{event.user_id}/{bucket}", asset)
            posted = sum(posting[2] for posting in event.postings if posting[:2] == account)
            assert getattr(balance, bucket) == getattr(balance_of(before, asset), bucket) + posted, event
    holds = [item for item in items.values() if isinstance(item, Hold) and item.status == "open"]
    orders = [item for item in items.values() if isinstance(item, Order) and item.status == "pending"]
    bets = [item for item in items.values() if isinstance(item, Bet) and item.status == "open"]
    sent = [item for item in items.values() if isinstance(item, SentTransfer) and item.status == "sent"]
    proposals = [item for item in items.values() if isinstance(item, Proposal) and item.status == "open"]
    claims = [item for item in items.values() if isinstance(item, GiftClaim) and item.status == "open"]
    opened = [*holds, *orders, *bets, *sent, *proposals, *claims]
    assert after.open_items == len(opened), after
    assert list(after.expiring_holds) == sorted(after.expiring_holds), after
    assert len(after.expiring_holds) == sum(hold.expires_at_us is not None for hold in holds), after
    assert list(after.grants) == sorted(after.grants, key=spending_order), after
    assert len({grant.grant_id for grant in after.grants}) == len(after.grants), after
    for asset, balance in after.balances.items():
        assert balance.bonus == sum(grant.remaining for grant in after.grants if grant.asset == asset), after
        assert balance.held == (
            sum(hold.amount for hold in holds if hold.asset == asset)
            + sum(order.amount for order in orders if order.asset == asset)
        ), after
        assert after.outstanding.get(asset, 0) >= sum(bet.stake for bet in bets if bet.asset == asset), after


# --- the commands, short --------------------------------------------------------------------------------------------
# The defaults are the wallet u1, the asset INR and a new command id. `more` may be metadata, or a command_id.

_numbers = count(1)


def _common(user_id: str, more: dict[str, Any]) -> dict[str, Any]:
    return {"user_id": user_id, "command_id": f"c-{next(_numbers)}", **more}


def create_gift(
    amount: int = 100,
    claims: int = 3,
    code: str = "g1",
    *,
    asset: str = "INR",
    expires_at_us: int | None = None,
    **more: Any,
) -> CreateGift:
    return CreateGift(
        asset=asset, amount=amount, claims=claims, expires_at_us=expires_at_us, **_common(f"gift:{code}", more)
    )


def close_gift(code: str = "g1", **more: Any) -> CloseGift:
    return CloseGift(reason="over", **_common(f"gift:{code}", more))


def claim_gift(code: str = "g1", user_id: str = "u1", **more: Any) -> ClaimGift:
    return ClaimGift(code=code, **_common(user_id, more))


def claim_code(code: str = "k1", user_id: str = "u1", **more: Any) -> ClaimReferralCode:
    return ClaimReferralCode(code=code, **_common(user_id, more))


def open_wallet(user_id: str = "u1", referrer_id: str | None = None, **more: Any) -> OpenWallet:
    return OpenWallet(referrer_id=referrer_id, **_common(user_id, more))


def deposit(
    amount: int = 1000,
    order_id: str = "o1",
    *,
    bonus: int | None = None,
    asset: str = "INR",
    user_id: str = "u1",
    **more: Any,
) -> Deposit:
    return Deposit(order_id=order_id, asset=asset, amount=amount, bonus=bonus, **_common(user_id, more))


def request_withdrawal(
    amount: int, order_id: str = "w1", *, asset: str = "INR", user_id: str = "u1", **more: Any
) -> RequestWithdrawal:
    return RequestWithdrawal(order_id=order_id, asset=asset, amount=amount, **_common(user_id, more))


def approve_withdrawal(
    order_id: str = "w1", *, reason: str | None = None, user_id: str = "u1", **more: Any
) -> ApproveWithdrawal:
    return ApproveWithdrawal(order_id=order_id, reason=reason, **_common(user_id, more))


def reject_withdrawal(
    order_id: str = "w1", *, reason: str | None = None, user_id: str = "u1", **more: Any
) -> RejectWithdrawal:
    return RejectWithdrawal(order_id=order_id, reason=reason, **_common(user_id, more))


def place_bet(
    stake: int,
    bet_id: str = "b1",
    *,
    spend: str | None = None,
    game: str = "external",
    period: str = "round 7",
    selection: str = "red",
    asset: str = "INR",
    user_id: str = "u1",
    **more: Any,
) -> PlaceBet:
    return PlaceBet(
        bet_id=bet_id,
        game=game,
        period=period,
        selection=selection,
        asset=asset,
        stake=stake,
        spend=spend,
        **_common(user_id, more),
    )


def record_result(
    result: str, period: str, *, game: str = "wingo_30s", proof: Proof | None = None, **more: Any
) -> RecordResult:
    return RecordResult(period=period, result=result, proof=proof, **_common(f"game:{game}", more))


def cancel_period(period: str, *, game: str = "wingo_30s", **more: Any) -> CancelPeriod:
    return CancelPeriod(period=period, reason="void", **_common(f"game:{game}", more))


def settle_bet(payout: int, bet_id: str = "b1", *, user_id: str = "u1", **more: Any) -> SettleBet:
    return SettleBet(bet_id=bet_id, payout=payout, **_common(user_id, more))


def cancel_bet(bet_id: str = "b1", *, reason: str | None = None, user_id: str = "u1", **more: Any) -> CancelBet:
    return CancelBet(bet_id=bet_id, reason=reason, **_common(user_id, more))


def hold(
    amount: int,
    hold_id: str = "h1",
    *,
    expires_at_us: int | None = None,
    asset: str = "INR",
    user_id: str = "u1",
    **more: Any,
) -> PlaceHold:
    return PlaceHold(
        hold_id=hold_id, asset=asset, amount=amount, expires_at_us=expires_at_us, **_common(user_id, more)
    )


def capture_hold(hold_id: str = "h1", amount: int | None = None, *, user_id: str = "u1", **more: Any) -> CaptureHold:
    return CaptureHold(hold_id=hold_id, amount=amount, **_common(user_id, more))


def release_hold(hold_id: str = "h1", *, user_id: str = "u1", **more: Any) -> ReleaseHold:
    return ReleaseHold(hold_id=hold_id, **_common(user_id, more))


def transfer(
    amount: int,
    to_user_id: str = "u2",
    transfer_id: str = "t1",
    *,
    asset: str = "INR",
    user_id: str = "u1",
    **more: Any,
) -> Transfer:
    return Transfer(
        transfer_id=transfer_id, to_user_id=to_user_id, asset=asset, amount=amount, **_common(user_id, more)
    )


def grant_bonus(
    amount: int,
    grant_id: str = "g1",
    *,
    expires_at_us: int | None = None,
    asset: str = "INR",
    user_id: str = "u1",
    **more: Any,
) -> GrantBonus:
    return GrantBonus(
        grant_id=grant_id, asset=asset, amount=amount, expires_at_us=expires_at_us, **_common(user_id, more)
    )


def claim_attendance(asset: str = "INR", *, user_id: str = "u1", **more: Any) -> ClaimAttendance:
    return ClaimAttendance(asset=asset, **_common(user_id, more))


def adjust(amount: int, *, reason: str = "goodwill", asset: str = "INR", user_id: str = "u1", **more: Any) -> Adjust:
    return Adjust(asset=asset, amount=amount, reason=reason, **_common(user_id, more))


def propose_adjustment(
    amount: int, adjustment_id: str = "a1", *, asset: str = "INR", user_id: str = "u1", **more: Any
) -> ProposeAdjustment:
    return ProposeAdjustment(
        adjustment_id=adjustment_id, asset=asset, amount=amount, reason="goodwill", **_common(user_id, more)
    )


def approve_adjustment(
    adjustment_id: str = "a1", *, reason: str | None = None, user_id: str = "u1", **more: Any
) -> ApproveAdjustment:
    return ApproveAdjustment(adjustment_id=adjustment_id, reason=reason, **_common(user_id, more))


def reject_adjustment(
    adjustment_id: str = "a1", *, reason: str | None = None, user_id: str = "u1", **more: Any
) -> RejectAdjustment:
    return RejectAdjustment(adjustment_id=adjustment_id, reason=reason, **_common(user_id, more))


def reverse(position: str, *, reason: str = "a mistake", user_id: str = "u1", **more: Any) -> Reverse:
    return Reverse(position=position, reason=reason, **_common(user_id, more))


def set_limits(*, asset: str = "INR", user_id: str = "u1", **limits_and_more: Any) -> SetLimits:
    return SetLimits(asset=asset, **_common(user_id, limits_and_more))


def freeze_wallet(*, user_id: str = "u1", **more: Any) -> FreezeWallet:
    return FreezeWallet(reason="under review", **_common(user_id, more))


def unfreeze_wallet(*, user_id: str = "u1", **more: Any) -> UnfreezeWallet:
    return UnfreezeWallet(reason="reviewed", **_common(user_id, more))


def close_wallet(*, user_id: str = "u1", **more: Any) -> CloseWallet:
    return CloseWallet(reason="asked for", **_common(user_id, more))


def set_agent_level(level: int, *, user_id: str = "u1", **more: Any) -> SetAgentLevel:
    return SetAgentLevel(level=level, **_common(user_id, more))


def emptied(amount: int, order_id: str = "w-all") -> tuple[Command, ...]:
    """The commands that pay this much cash out of u1's wallet."""
    return request_withdrawal(amount, order_id), approve_withdrawal(order_id)
