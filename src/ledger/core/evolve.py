"""``evolve``: the only way a wallet and its items change.

Invariants:
(1) ``evolve`` returns a new wallet and leaves the given one unchanged.
(2) ``evolve`` takes the balances from the event. ``balances_follow`` says whether they are the wallet's balances
    before the event plus its postings. The round asserts it before it appends (``soundness``); the replay checks each
    stored event.
(3) No ``bonus``, ``held``, ``outstanding`` or ``open_items`` ever falls below zero.
"""

from bisect import insort
from collections.abc import Callable
from typing import Any, Literal

from msgspec import UNSET
from msgspec.structs import replace

from ledger.core import wagering
from ledger.core.bet_changes import bet_cancelled, bet_placed, bet_settled
from ledger.core.bet_events import (
    BetCancelled,
    BetPlaced,
    BetSettled,
    PeriodCancelled,
    ResultRecorded,
)
from ledger.core.bonus_events import AttendanceClaimed, BonusExpired, BonusGranted
from ledger.core.bonuses import ATTENDANCE
from ledger.core.changes import Step, add_outstanding, add_to_grant, count_day, existing, take_from_grants
from ledger.core.commission_events import CommissionDue, CommissionPaid, ReferralValid
from ledger.core.events import (
    Adjusted,
    AdjustmentApproved,
    AdjustmentProposed,
    AdjustmentRejected,
    AgentLevelSet,
    Deposited,
    Event,
    LimitsSet,
    ReferralCounted,
    ReferralVoid,
    Reversed,
    TransferDelivered,
    TransferReceived,
    TransferRefused,
    TransferReturned,
    TransferSent,
    WalletClosed,
    WalletFrozen,
    WalletOpened,
    WalletUnfrozen,
    WithdrawalApproved,
    WithdrawalRejected,
    WithdrawalRequested,
    WriterOpened,
)
from ledger.core.gift_events import (
    GiftClaimed,
    GiftClosed,
    GiftCreated,
    GiftReceived,
    GiftRefused,
    GiftShareGranted,
    GiftShareRefused,
    ReferralCodeClaimed,
    ReferralCodeGranted,
    ReferralCodeRefused,
    ReferralResolved,
    ReferralUnknown,
    ReferrerSet,
)
from ledger.core.gifts import (
    gift_claimed,
    gift_closed,
    gift_created,
    gift_received,
    gift_refused,
    gift_share_granted,
)
from ledger.core.hold_events import (
    HoldCaptured,
    HoldExpired,
    HoldPlaced,
    HoldReleased,
)
from ledger.core.items import (
    GIFT_KEY,
    GrantTaken,
    Hold,
    Item,
    Items,
    Order,
    Outcome,
    Proposal,
    Reversible,
    SentTransfer,
    adjustment_key,
    bet_key,
    grant_key,
    hold_key,
    order_key,
    period_key,
    reversible_key,
    transfer_key,
)
from ledger.core.position import Position
from ledger.core.referral_codes import (
    referral_code_claimed,
    referral_code_granted,
    referral_code_refused,
    referrer_set,
)
from ledger.core.wallet import (
    DAY_US,
    NO_BALANCE,
    Attendance,
    ExpiringHold,
    FirstDeposit,
    Grant,
    Limits,
    Wallet,
    limits_of,
)

Evolved = tuple[Wallet, dict[str, Item]]


def evolve(wallet: Wallet, items: Items, event: Event, position: Position) -> Evolved:
    """The wallet after ``event``, and the items that it changed.

    ``items`` has at least the keys that the event's command needed (``decide.needs``), or, for an event read from
    the log, those of ``items_read_by``. Never refuses: an event is a fact. Asserts what ``decide`` guarantees.
    """
    after: Wallet = wallet.__copy__()  # type: ignore[attr-defined]  # every Struct has it, in C
    if event.balances:
        after.balances = {**wallet.balances, **event.balances}
        for balance in event.balances.values():
            assert balance.bonus >= 0, (event, wallet)
            assert balance.held >= 0, (event, wallet)
    changed = _EVOLVE[type(event.data)](after, event.data, Step(items, event, position))
    assert after.open_items >= 0, (event, wallet)
    return after, changed


def balances_follow(before: Wallet, event: Event) -> bool:
    """Whether the event's balances are those of ``before``, the wallet before it, plus the event's postings.

    An event moves one asset, or none.
    """
    postings, balances = event.postings, event.balances
    if not postings:
        return not balances
    asset = postings[0][1]
    was, after = before.balances.get(asset, NO_BALANCE), balances.get(asset)
    cash, bonus, held = was.cash, was.bonus, was.held
    for account, posted_asset, amount in postings:
        if posted_asset != asset:
            return False
        if account[0] == "w":  # wallet/<user_id>/<bucket>; the others are house/… and transit/…
            _, user_id, bucket = account.split("/")
            if user_id != event.user_id:
                return False
            if bucket == "cash":
                cash += amount
            elif bucket == "held":
                held += amount
            else:
                bonus += amount
    if after is None or len(balances) != 1:
        return False
    return after.cash == cash and after.bonus == bonus and after.held == held


def items_read_by(event: Event) -> tuple[str, ...]:
    """The keys of the items that ``evolve`` reads for this event."""
    match event.data:
        case BetSettled() | BetCancelled():
            return (bet_key(event.data.bet_id),)
        case WithdrawalApproved() | WithdrawalRejected():
            return (order_key(event.data.order_id),)
        case HoldCaptured() | HoldReleased():
            return (hold_key(event.data.hold_id),)
        case AdjustmentApproved() | AdjustmentRejected():
            return (adjustment_key(event.data.adjustment_id),)
        case Reversed():
            return (reversible_key(event.data.position),)
        case TransferDelivered() | TransferReturned():
            return (transfer_key(event.data.transfer_id),)
        case GiftClosed() | GiftShareGranted():
            return (GIFT_KEY,)
        case _:
            return ()


def _drop_expiring_hold(after: Wallet, hold_id: str) -> None:
    holds = after.expiring_holds
    at = next((at for at, hold in enumerate(holds) if hold.hold_id == hold_id), len(holds))
    after.expiring_holds = holds[:at] + holds[at + 1 :] if at else holds[1:]


def _opened(after: Wallet, data: WalletOpened, step: Step) -> dict[str, Item]:
    after.status = "open"
    after.opened_at_us = step.event.time_us
    after.referrer_id = data.referrer_id
    return {}


def _deposited(after: Wallet, data: Deposited, step: Step) -> dict[str, Item]:
    position = str(step.position)
    day = step.event.time_us // DAY_US
    after.deposited = {**after.deposited, data.asset: after.deposited.get(data.asset, 0) + data.amount}
    count_day(after, data.asset, day, deposited=data.amount)
    window = wagering.add(after, data.asset, data.wagering)
    if data.first_deposit:
        after.first_deposit = FirstDeposit(data.order_id, data.asset, data.amount, position, step.event.time_us)
    items: dict[str, Item] = {
        order_key(data.order_id): Order("deposit", "completed", data.asset, data.amount, day),
        reversible_key(position): Reversible(
            data.asset,
            data.amount,
            data.bonus or 0,
            tuple((account, amount) for account, _, amount in step.event.postings if account.startswith("house/")),
            data.order_id if data.bonus else None,
            data.order_id,
            wagering=data.wagering or 0,
            window=window,
            day=day,
        ),
    }
    if data.bonus:
        items[grant_key(data.order_id)] = GrantTaken()
        add_to_grant(
            after,
            Grant(data.order_id, data.asset, data.bonus, None, step.position.seq, data.bonus, False, position),
        )
    if data.referral_rules is not None:
        after.valid_in = (*after.valid_in, data.asset)
    return items


def _withdrawal_requested(after: Wallet, data: WithdrawalRequested, step: Step) -> dict[str, Item]:
    day = step.event.time_us // DAY_US
    after.open_items += 1
    count_day(after, data.asset, day, withdrawn=data.amount)
    return {order_key(data.order_id): Order("withdrawal", "pending", data.asset, data.amount, day)}


def _withdrawal_approved(after: Wallet, data: WithdrawalApproved, step: Step) -> dict[str, Item]:
    order = existing(step.items, order_key(data.order_id), Order)
    after.open_items -= 1
    return {order_key(data.order_id): replace(order, status="approved")}


def _withdrawal_rejected(after: Wallet, data: WithdrawalRejected, step: Step) -> dict[str, Item]:
    order = existing(step.items, order_key(data.order_id), Order)
    after.open_items -= 1
    count_day(after, order.asset, order.day, withdrawn=-order.amount)
    return {order_key(data.order_id): replace(order, status="rejected")}


def _referral_valid(after: Wallet, data: ReferralValid, _step: Step) -> dict[str, Item]:
    if data.reason is None:
        after.valid_referrals = {**after.valid_referrals, data.asset: after.valid_referrals.get(data.asset, 0) + 1}
    return {}


def _commission_due(after: Wallet, data: CommissionDue, _step: Step) -> dict[str, Item]:
    first = after.turnover[0]
    assert (first.asset, first.rules, first.stake) == (data.asset, data.rules, data.stake), (after, data)
    after.turnover = after.turnover[1:]
    return {}


def _commission_paid(after: Wallet, data: CommissionPaid, _step: Step) -> dict[str, Item]:
    after.commission_carried = {**after.commission_carried, data.asset: data.carried_e9}
    return {}


def _hold_placed(after: Wallet, data: HoldPlaced, step: Step) -> dict[str, Item]:
    after.open_items += 1
    if data.expires_at_us is not None:
        holds = list(after.expiring_holds)
        insort(holds, ExpiringHold(data.expires_at_us, data.hold_id, data.asset, data.amount, str(step.position)))
        after.expiring_holds = tuple(holds)
    return {hold_key(data.hold_id): Hold("open", data.asset, data.amount, data.expires_at_us)}


def _hold_captured(after: Wallet, data: HoldCaptured, step: Step) -> dict[str, Item]:
    return _resolve_hold(after, step.items, data.hold_id, "captured")


def _hold_released(after: Wallet, data: HoldReleased, step: Step) -> dict[str, Item]:
    return _resolve_hold(after, step.items, data.hold_id, "released")


def _resolve_hold(
    after: Wallet, items: Items, hold_id: str, status: Literal["captured", "released"]
) -> dict[str, Item]:
    hold = existing(items, hold_key(hold_id), Hold)
    after.open_items -= 1
    if hold.expires_at_us is not None:
        _drop_expiring_hold(after, hold_id)
    return {hold_key(hold_id): replace(hold, status=status)}


def _hold_expired(after: Wallet, data: HoldExpired, _step: Step) -> dict[str, Item]:
    after.open_items -= 1
    _drop_expiring_hold(after, data.hold_id)
    return {hold_key(data.hold_id): Hold("expired", data.asset, data.amount, None)}


def _transfer_sent(after: Wallet, data: TransferSent, _step: Step) -> dict[str, Item]:
    after.open_items += 1
    add_outstanding(after, data.asset, data.amount)
    return {transfer_key(data.transfer_id): SentTransfer("sent", data.to_user_id, data.asset, data.amount)}


def _transfer_concluded(after: Wallet, data: TransferDelivered | TransferReturned, step: Step) -> dict[str, Item]:
    sent = existing(step.items, transfer_key(data.transfer_id), SentTransfer)
    assert sent == SentTransfer("sent", data.to_user_id, data.asset, data.amount), (sent, data)
    after.open_items -= 1
    add_outstanding(after, data.asset, -data.amount)
    status: Literal["delivered", "returned"] = "delivered" if isinstance(data, TransferDelivered) else "returned"
    return {transfer_key(data.transfer_id): SentTransfer(status)}


def _bonus_granted(after: Wallet, data: BonusGranted, step: Step) -> dict[str, Item]:
    window = _granted(after, data, step)
    if data.kind is not None:
        _count_own_grant(after, data.kind)
    return {
        grant_key(data.grant_id): GrantTaken(),
        reversible_key(str(step.position)): Reversible(
            data.asset,
            0,
            data.amount,
            (("house/bonuses", -data.amount),),
            data.grant_id,
            None,
            wagering=data.wagering or 0,
            window=window,
        ),
    }


def _attendance_claimed(after: Wallet, data: AttendanceClaimed, step: Step) -> dict[str, Item]:
    _granted(after, data, step)
    _count_own_grant(after, ATTENDANCE)
    attendance = Attendance(step.event.time_us // DAY_US, data.streak)
    after.attendance = {**after.attendance, data.asset: attendance}
    return {}


def _granted(after: Wallet, data: BonusGranted | AttendanceClaimed, step: Step) -> int:
    """Add the grant, and its wagering. Returns the window of wagering."""
    asset, amount, seq = data.asset, data.amount, step.position.seq
    grant = Grant(data.grant_id, asset, amount, data.expires_at_us, seq, amount, False, str(step.position))
    add_to_grant(after, grant)
    return wagering.add(after, asset, data.wagering)


def _count_own_grant(after: Wallet, kind: str) -> None:
    after.own_grants = {**after.own_grants, kind: after.own_grants.get(kind, 0) + 1}


def _bonus_expired(after: Wallet, data: BonusExpired, _step: Step) -> dict[str, Item]:
    take_from_grants(after, {data.grant_id: data.amount})
    return {}


def _adjusted(_after: Wallet, data: Adjusted, step: Step) -> dict[str, Item]:
    return {
        reversible_key(str(step.position)): Reversible(
            data.asset, data.amount, 0, (("house/adjustments", -data.amount),), None, None
        )
    }


def _adjustment_proposed(after: Wallet, data: AdjustmentProposed, step: Step) -> dict[str, Item]:
    after.open_items += 1
    return {adjustment_key(data.adjustment_id): Proposal("open", step.event.actor, data.asset, data.amount)}


def _adjustment_resolved(after: Wallet, data: AdjustmentApproved | AdjustmentRejected, step: Step) -> dict[str, Item]:
    key = adjustment_key(data.adjustment_id)
    proposal = existing(step.items, key, Proposal)
    after.open_items -= 1
    status: Literal["approved", "rejected"] = "approved" if isinstance(data, AdjustmentApproved) else "rejected"
    return {key: replace(proposal, status=status)}


def _reversed(after: Wallet, data: Reversed, step: Step) -> dict[str, Item]:
    key = reversible_key(data.position)
    original = existing(step.items, key, Reversible)
    changed: dict[str, Item] = {key: replace(original, reversed=True)}
    if original.grant_id is not None:
        take_from_grants(after, {original.grant_id: original.bonus})
    wagering.take_back(after, original.asset, original.window, original.wagering)
    if original.order_id is not None:
        after.deposited = {
            **after.deposited,
            original.asset: after.deposited[original.asset] - original.cash,
        }
        count_day(after, original.asset, original.day, deposited=-original.cash)
        changed[order_key(original.order_id)] = Order("deposit", "reversed", original.asset, original.cash, 0)
    return changed


def _limits_set(after: Wallet, data: LimitsSet, _step: Step) -> dict[str, Item]:
    old = limits_of(after, data.asset)
    credit = data.credit_limit
    after.limits = {
        **after.limits,
        data.asset: Limits(
            old.credit_limit if credit is UNSET else credit or 0,
            old.balance_max if data.balance_max is UNSET else data.balance_max,
            old.stake_max_per_day if data.stake_max_per_day is UNSET else data.stake_max_per_day,
            old.withdrawal_max_per_day if data.withdrawal_max_per_day is UNSET else data.withdrawal_max_per_day,
        ),
    }
    return {}


def _frozen(after: Wallet, _data: WalletFrozen, _step: Step) -> dict[str, Item]:
    after.status = "frozen"
    return {}


def _unfrozen(after: Wallet, _data: WalletUnfrozen, _step: Step) -> dict[str, Item]:
    after.status = "open"
    return {}


def _closed(after: Wallet, _data: WalletClosed, _step: Step) -> dict[str, Item]:
    after.status = "closed"
    return {}


def _agent_level_set(after: Wallet, data: AgentLevelSet, _step: Step) -> dict[str, Item]:
    after.agent_level = data.level
    return {}


def _period_ended(_after: Wallet, data: ResultRecorded | PeriodCancelled, step: Step) -> dict[str, Item]:
    status: Literal["recorded", "cancelled"] = "recorded" if isinstance(data, ResultRecorded) else "cancelled"
    return {period_key(data.period): Outcome(status, step.position.seq)}


def _balances_only(_after: Wallet, _data: Any, _step: Step) -> dict[str, Item]:
    return {}


# A table, not a match: thirty isinstance checks in a row would cost more than the change itself.
_EVOLVE: dict[type[Any], Callable[[Wallet, Any, Step], dict[str, Item]]] = {
    WalletOpened: _opened,
    ReferralCounted: _balances_only,
    ReferralVoid: _balances_only,
    Deposited: _deposited,
    WithdrawalRequested: _withdrawal_requested,
    WithdrawalApproved: _withdrawal_approved,
    WithdrawalRejected: _withdrawal_rejected,
    BetPlaced: bet_placed,
    BetSettled: bet_settled,
    BetCancelled: bet_cancelled,
    HoldPlaced: _hold_placed,
    HoldExpired: _hold_expired,
    HoldCaptured: _hold_captured,
    HoldReleased: _hold_released,
    TransferSent: _transfer_sent,
    TransferReceived: _balances_only,
    TransferRefused: _balances_only,
    TransferDelivered: _transfer_concluded,
    TransferReturned: _transfer_concluded,
    BonusGranted: _bonus_granted,
    BonusExpired: _bonus_expired,
    AttendanceClaimed: _attendance_claimed,
    Adjusted: _adjusted,
    AdjustmentProposed: _adjustment_proposed,
    AdjustmentApproved: _adjustment_resolved,
    AdjustmentRejected: _adjustment_resolved,
    Reversed: _reversed,
    LimitsSet: _limits_set,
    WalletFrozen: _frozen,
    WalletUnfrozen: _unfrozen,
    WalletClosed: _closed,
    AgentLevelSet: _agent_level_set,
    ReferralValid: _referral_valid,
    CommissionDue: _commission_due,
    CommissionPaid: _commission_paid,
    ResultRecorded: _period_ended,
    PeriodCancelled: _period_ended,
    GiftCreated: gift_created,
    GiftClosed: gift_closed,
    GiftClaimed: gift_claimed,
    GiftShareGranted: gift_share_granted,
    GiftShareRefused: _balances_only,
    GiftReceived: gift_received,
    GiftRefused: gift_refused,
    ReferralCodeClaimed: referral_code_claimed,
    ReferralCodeGranted: referral_code_granted,
    ReferralCodeRefused: referral_code_refused,
    ReferralResolved: _balances_only,
    ReferralUnknown: _balances_only,
    ReferrerSet: referrer_set,
    WriterOpened: _balances_only,  # of the partition's own stream, which has no wallet
}
