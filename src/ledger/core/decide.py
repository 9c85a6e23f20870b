"""``decide``: the event that a command makes, or the first rule that it breaks.

Pure: no clock, no I/O, no randomness. Time and identity are arguments. Each decider below is one flat ladder of
checks in the order of ``rejections.Code``, and then the event. A decider reads the wallet and the items that
``needs`` names, and nothing else.

Invariants, asserted for every event:
(1) its postings sum to zero in each asset (here);
(2) its balances are the wallet's before the event plus its postings (``soundness``, by the caller, who has the
    wallet before and after the event).
"""

from collections.abc import Callable
from typing import Any, Final

from msgspec import UNSET

from ledger.core.adjustments import (
    adjust,
    approve_adjustment,
    propose_adjustment,
    reject_adjustment,
    reverse,
)
from ledger.core.bets import cancel_bet, cancel_period, place_bet, record_result, settle_bet
from ledger.core.bonus_events import BonusExpired
from ledger.core.bonuses import claim_attendance, grant_bonus
from ledger.core.case import (
    Case,
    Decision,
    already_resolved,
    balance_max_exceeded,
    event_of,
    out_of_range,
    reused,
    total_out_of_range,
    unknown_asset,
)
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
)
from ledger.core.commissions import close_turnover, rules_that_make_valid, set_agent_level
from ledger.core.consequences import bonus_position
from ledger.core.events import (
    HOUSE_BONUSES,
    HOUSE_DEPOSITS,
    Balance,
    Deposited,
    Event,
    LimitsSet,
    Posting,
    WalletClosed,
    WalletFrozen,
    WalletOpened,
    WalletUnfrozen,
)
from ledger.core.follow_up_commands import FollowUp
from ledger.core.gifts import claim_gift, close_gift, create_gift
from ledger.core.hold_events import HoldExpired
from ledger.core.holds import capture_hold, place_hold, release_hold, transfer
from ledger.core.items import (
    CODE_KEY,
    GIFT_KEY,
    adjustment_key,
    bet_key,
    gift_claim_key,
    grant_key,
    hold_key,
    order_key,
    period_key,
    reversible_key,
    transfer_key,
)
from ledger.core.money import AMOUNT_MAX, in_bounds, is_amount
from ledger.core.money_rules import NO_MONEY_RULES
from ledger.core.postings import (
    ledger_event,
    move,
    owned_or_due,
)
from ledger.core.referral_codes import claim_referral_code
from ledger.core.rejections import Code, Rejection
from ledger.core.wagering import addition
from ledger.core.wallet import Wallet, balance_of, next_due_us
from ledger.core.withdrawals import approve_withdrawal, reject_withdrawal, request_withdrawal

EXPIRY: Final = "~expiry:"


# --- the items that a command needs ---------------------------------------------------------------------------


def needs(command: Command | FollowUp) -> tuple[str, ...]:
    """The keys of the items that ``decide`` and ``evolve`` read for this command."""
    needed = _NEEDS.get(type(command))
    return needed(command) if needed is not None else ()


_NEEDS: Final[dict[type[Any], Callable[[Any], tuple[str, ...]]]] = {
    Deposit: lambda c: (order_key(c.order_id), grant_key(c.order_id)),
    RequestWithdrawal: lambda c: (order_key(c.order_id),),
    ApproveWithdrawal: lambda c: (order_key(c.order_id),),
    RejectWithdrawal: lambda c: (order_key(c.order_id),),
    PlaceBet: lambda c: (bet_key(c.bet_id),),
    SettleBet: lambda c: (bet_key(c.bet_id),),
    CancelBet: lambda c: (bet_key(c.bet_id),),
    PlaceHold: lambda c: (hold_key(c.hold_id),),
    CaptureHold: lambda c: (hold_key(c.hold_id),),
    ReleaseHold: lambda c: (hold_key(c.hold_id),),
    Transfer: lambda c: (transfer_key(c.transfer_id),),
    GrantBonus: lambda c: (grant_key(c.grant_id),),
    ProposeAdjustment: lambda c: (adjustment_key(c.adjustment_id),),
    ApproveAdjustment: lambda c: (adjustment_key(c.adjustment_id),),
    RejectAdjustment: lambda c: (adjustment_key(c.adjustment_id),),
    Reverse: lambda c: (reversible_key(c.position), reversible_key(bonus_position(c.position))),
    RecordResult: lambda c: (period_key(c.period),),
    CancelPeriod: lambda c: (period_key(c.period),),
    CreateGift: lambda _: (GIFT_KEY,),
    CloseGift: lambda _: (GIFT_KEY,),
    ClaimGift: lambda c: (gift_claim_key(c.code),),
    ClaimReferralCode: lambda _: (CODE_KEY,),
}


# --- expiries: the ledger's own events, decided before the command -------------------------------------------------


def expire(wallet: Wallet, time_us: int, seq: int) -> Event | None:
    """The event of ``seq`` for what is due in the wallet at ``time_us``: a hold, a grant or a commission; or None.

    A wallet can have several due: call it with each new wallet until it returns None. If they are due at the same
    time, a hold is before a grant, and a grant before a commission.
    """
    due_us = next_due_us(wallet)
    if due_us is None or due_us > time_us:
        return None
    user_id = wallet.user_id
    if wallet.expiring_holds and wallet.expiring_holds[0].expires_at_us == due_us:
        hold = wallet.expiring_holds[0]
        before = balance_of(wallet, hold.asset)
        return ledger_event(
            wallet,
            f"{EXPIRY}{seq}",
            time_us,
            HoldExpired(amount=hold.amount, asset=hold.asset, cause=hold.cause, hold_id=hold.hold_id),
            move(user_id, "held", "cash", hold.asset, hold.amount),
            {hold.asset: Balance(before.cash + hold.amount, before.bonus, before.held - hold.amount)},
        )
    if not wallet.grants or wallet.grants[0].expires_at_us != due_us:
        return close_turnover(wallet, time_us, seq)
    grant = wallet.grants[0]
    before = balance_of(wallet, grant.asset)
    return ledger_event(
        wallet,
        f"{EXPIRY}{seq}",
        time_us,
        BonusExpired(amount=grant.remaining, asset=grant.asset, cause=grant.cause, grant_id=grant.grant_id),
        (
            (f"wallet/{user_id}/bonus", grant.asset, -grant.remaining),
            (HOUSE_BONUSES, grant.asset, grant.remaining),
        ),
        {grant.asset: Balance(before.cash, before.bonus - grant.remaining, before.held)},
    )


# --- commands -----------------------------------------------------------------------------------------------------


def decide(case: Case) -> Decision:
    """The event that the command makes, or the first rule it breaks.

    ``case.wallet`` has no due expiry left (``expire`` returned None), and ``case.items`` has the keys of
    ``needs(command)``.
    """
    command, wallet = case.command, case.wallet
    assert command.user_id == wallet.user_id, (command, wallet)
    due_us = next_due_us(wallet)
    assert due_us is None or due_us > case.time_us, (command, wallet)
    status = wallet.status
    if status != "open":
        if status == "none":
            if not isinstance(command, OpenWallet) and not command.on_stream:
                return Rejection(Code.WALLET_NOT_OPEN, f"the wallet {wallet.user_id} was never opened")
        elif status == "closed":
            return Rejection(Code.WALLET_CLOSED, f"the wallet {wallet.user_id} is closed")
        elif command.refused_when_frozen:
            return Rejection(Code.WALLET_FROZEN, f"the wallet {wallet.user_id} is frozen")
    return _DECIDE[type(command)](case, command)


def _open_wallet(case: Case, command: OpenWallet) -> Decision:
    if case.wallet.status != "none":
        return Rejection(Code.WALLET_ALREADY_OPEN, f"the wallet {command.user_id} is open already")
    if command.referrer_id == command.user_id:
        return Rejection(Code.SAME_WALLET, "a wallet cannot refer itself", {"field": "referrer_id"})
    opened = WalletOpened(
        metadata=command.metadata, referral_code=command.referral_code, referrer_id=command.referrer_id
    )
    return event_of(case, opened)


def _deposit(case: Case, command: Deposit) -> Decision:
    wallet, asset, amount, bonus = case.wallet, command.asset, command.amount, command.bonus or 0
    if case.items[order_key(command.order_id)] is not None:
        return reused(Code.ORDER_ID_REUSED, "order_id", command.order_id)
    if bonus and case.items[grant_key(command.order_id)] is not None:
        return reused(Code.GRANT_ID_REUSED, "order_id", command.order_id)
    if asset not in case.assets:
        return unknown_asset(case, asset)
    if not is_amount(amount):
        return out_of_range(case, "amount", asset, amount)
    if not 0 <= bonus <= AMOUNT_MAX:
        return out_of_range(case, "bonus", asset, bonus)
    if not in_bounds(owned_or_due(wallet, asset) + amount + bonus):
        return total_out_of_range(case, asset)
    if refusal := balance_max_exceeded(case, asset, amount + bonus):
        return refusal
    wagering = addition(wallet, asset, case.rules.money.get(asset, NO_MONEY_RULES), deposit=amount, bonus=bonus)
    before = balance_of(wallet, asset)
    postings: tuple[Posting, ...] = (
        (HOUSE_DEPOSITS, asset, -amount),
        (f"wallet/{wallet.user_id}/cash", asset, amount),
    )
    if bonus:
        postings += (
            (HOUSE_BONUSES, asset, -bonus),
            (f"wallet/{wallet.user_id}/bonus", asset, bonus),
        )
    return event_of(
        case,
        Deposited(
            amount=amount,
            asset=asset,
            bonus=command.bonus,
            first_deposit=wallet.first_deposit is None,
            metadata=command.metadata,
            order_id=command.order_id,
            referral_rules=rules_that_make_valid(wallet, asset, amount, case.rules),
            rules=None if wagering is None else case.rules.money_digest,
            wagering=wagering,
        ),
        postings,
        {asset: Balance(before.cash + amount, before.bonus + bonus, before.held)},
    )


def _set_limits(case: Case, command: SetLimits) -> Decision:
    if command.asset not in case.assets:
        return unknown_asset(case, command.asset)
    for name in ("credit_limit", "balance_max", "stake_max_per_day", "withdrawal_max_per_day"):
        value = getattr(command, name)
        if isinstance(value, int) and not 0 <= value <= AMOUNT_MAX:
            return out_of_range(case, name, command.asset, value)
    return event_of(
        case,
        LimitsSet(
            asset=command.asset,
            balance_max=command.balance_max,
            credit_limit=command.credit_limit,
            metadata=UNSET if command.metadata is None else command.metadata,
            stake_max_per_day=command.stake_max_per_day,
            withdrawal_max_per_day=command.withdrawal_max_per_day,
        ),
    )


def _freeze_wallet(case: Case, command: FreezeWallet) -> Decision:
    if case.wallet.status == "frozen":
        return Rejection(Code.WALLET_FROZEN, f"the wallet {command.user_id} is frozen already")
    return event_of(case, WalletFrozen(metadata=command.metadata, reason=command.reason))


def _unfreeze_wallet(case: Case, command: UnfreezeWallet) -> Decision:
    if case.wallet.status != "frozen":
        return already_resolved("wallet", command.user_id, case.wallet.status)
    return event_of(case, WalletUnfrozen(metadata=command.metadata, reason=command.reason))


def _close_wallet(case: Case, command: CloseWallet) -> Decision:
    wallet = case.wallet
    full = [asset for asset, balance in wallet.balances.items() if balance.cash or balance.bonus or balance.held]
    if full:
        return Rejection(Code.WALLET_NOT_EMPTY, f"the wallet still has {', '.join(sorted(full))}")
    if wallet.open_items:
        return Rejection(
            Code.WALLET_NOT_EMPTY,
            f"{wallet.open_items} of the wallet's bets, holds, withdrawals, transfers, proposals or claims are open",
            {"open_items": wallet.open_items},
        )
    return event_of(case, WalletClosed(metadata=command.metadata, reason=command.reason))


_DECIDE: Final[dict[type[Any], Callable[[Case, Any], Decision]]] = {
    OpenWallet: _open_wallet,
    Deposit: _deposit,
    RequestWithdrawal: request_withdrawal,
    ApproveWithdrawal: approve_withdrawal,
    RejectWithdrawal: reject_withdrawal,
    PlaceBet: place_bet,
    SettleBet: settle_bet,
    CancelBet: cancel_bet,
    PlaceHold: place_hold,
    CaptureHold: capture_hold,
    ReleaseHold: release_hold,
    Transfer: transfer,
    GrantBonus: grant_bonus,
    ClaimAttendance: claim_attendance,
    Adjust: adjust,
    ProposeAdjustment: propose_adjustment,
    ApproveAdjustment: approve_adjustment,
    RejectAdjustment: reject_adjustment,
    Reverse: reverse,
    SetLimits: _set_limits,
    FreezeWallet: _freeze_wallet,
    UnfreezeWallet: _unfreeze_wallet,
    CloseWallet: _close_wallet,
    SetAgentLevel: set_agent_level,
    RecordResult: record_result,
    CancelPeriod: cancel_period,
    CreateGift: create_gift,
    CloseGift: close_gift,
    ClaimGift: claim_gift,
    ClaimReferralCode: claim_referral_code,
}
