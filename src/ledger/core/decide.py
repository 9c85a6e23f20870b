"""``decide``: the event that a command makes, or the first rule that it breaks.

Pure: no clock, no I/O, no randomness. Time and identity are arguments. Each decider below is one flat ladder of
checks in the order of ``rejections.Code``, and then the event. A decider reads the wallet and the items that
``needs`` names, and nothing else.

Invariants, asserted for every event:
(1) its postings sum to zero in each asset (here);
(2) its balances are the wallet's before the event plus its postings (``evolve.balances_follow``, by the caller, who
    holds the wallet before the event).
"""

from collections.abc import Callable
from typing import Any, Final

from msgspec import UNSET, Struct
from msgspec.structs import replace

from ledger.core.commands import (
    Adjust,
    ApproveAdjustment,
    ApproveWithdrawal,
    CancelBet,
    CaptureHold,
    CloseWallet,
    Command,
    Deposit,
    FollowUp,
    FreezeWallet,
    GrantBonus,
    OpenWallet,
    PlaceBet,
    PlaceHold,
    ProposeAdjustment,
    RejectAdjustment,
    RejectWithdrawal,
    ReleaseHold,
    RequestWithdrawal,
    Reverse,
    SetLimits,
    SettleBet,
    Transfer,
    UnfreezeWallet,
)
from ledger.core.events import (
    HOUSE_BONUSES,
    HOUSE_CAPTURES,
    HOUSE_DEPOSITS,
    HOUSE_PAYOUTS,
    HOUSE_STAKES,
    HOUSE_WITHDRAWALS,
    TRANSIT_TRANSFERS,
    Adjusted,
    AdjustmentApproved,
    AdjustmentProposed,
    AdjustmentRejected,
    AnyData,
    Balance,
    BetCancelled,
    BetPlaced,
    BetSettled,
    BonusExpired,
    BonusGranted,
    Deposited,
    Event,
    HoldCaptured,
    HoldExpired,
    HoldPlaced,
    HoldReleased,
    LimitsSet,
    Posting,
    Reversed,
    StakeSource,
    TransferSent,
    WalletClosed,
    WalletFrozen,
    WalletOpened,
    WalletUnfrozen,
    WithdrawalApproved,
    WithdrawalRejected,
    WithdrawalRequested,
    sums_to_zero,
)
from ledger.core.items import (
    Bet,
    Hold,
    Items,
    Order,
    Proposal,
    Reversible,
    adjustment_key,
    bet_key,
    grant_key,
    hold_key,
    order_key,
    reversible_key,
    split_payout,
    transfer_key,
)
from ledger.core.money import AMOUNT_MAX, Assets, format_amount, in_bounds, is_amount
from ledger.core.postings import (
    adjustment,
    balances_with,
    balances_with_held,
    draw_on_grants,
    ledger_event,
    move,
    owned_or_due,
    pay,
)
from ledger.core.rejections import Code, Rejection
from ledger.core.wallet import DAY_US, Wallet, balance_of, day_count, limits_of, next_due_us, running_grant

EXTERNAL_GAME: Final = "external"
EXPIRY: Final = "~expiry:"
_SHOWN_MAX: Final = 64
_LISTED_MAX: Final = 20


class Case(Struct, gc=False):
    """Everything that a decider reads: the command, its actor, the time, the wallet and the items."""

    command: Any
    request_sha256: str
    actor: str
    wallet: Wallet
    items: Items
    assets: Assets
    time_us: int


Decision = Event | Rejection


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
    Reverse: lambda c: (reversible_key(c.position),),
}


# --- expiries: the ledger's own events, decided before the command -------------------------------------------------


def expire(wallet: Wallet, time_us: int, seq: int) -> Event | None:
    """The expiry of the wallet's next hold or grant that is due at ``time_us``, as the event of ``seq``; or None.

    A wallet can have several due: call it with each new wallet until it returns None. If a hold and a grant are due
    at the same time, the hold expires first.
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
    status = wallet.status
    if status != "open":
        if status == "none":
            if not isinstance(command, OpenWallet):
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
    return _event(case, WalletOpened(metadata=command.metadata, referrer_id=command.referrer_id))


def _deposit(case: Case, command: Deposit) -> Decision:
    wallet, asset, amount, bonus = case.wallet, command.asset, command.amount, command.bonus or 0
    if case.items[order_key(command.order_id)] is not None:
        return _reused(Code.ORDER_ID_REUSED, "order_id", command.order_id)
    if bonus and case.items[grant_key(command.order_id)] is not None:
        return _reused(Code.GRANT_ID_REUSED, "order_id", command.order_id)
    if asset not in case.assets:
        return _unknown_asset(case, asset)
    if not is_amount(amount):
        return _out_of_range(case, "amount", asset, amount)
    if not 0 <= bonus <= AMOUNT_MAX:
        return _out_of_range(case, "bonus", asset, bonus)
    if not in_bounds(owned_or_due(wallet, asset) + amount + bonus):
        return _total_out_of_range(case, asset)
    if refusal := _balance_max(case, asset, amount + bonus):
        return refusal
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
    return _event(
        case,
        Deposited(
            amount=amount,
            asset=asset,
            bonus=command.bonus,
            first_deposit=wallet.first_deposit is None,
            metadata=command.metadata,
            order_id=command.order_id,
        ),
        postings,
        {asset: Balance(before.cash + amount, before.bonus + bonus, before.held)},
    )


def _request_withdrawal(case: Case, command: RequestWithdrawal) -> Decision:
    wallet, asset, amount = case.wallet, command.asset, command.amount
    if case.items[order_key(command.order_id)] is not None:
        return _reused(Code.ORDER_ID_REUSED, "order_id", command.order_id)
    if asset not in case.assets:
        return _unknown_asset(case, asset)
    if not is_amount(amount):
        return _out_of_range(case, "amount", asset, amount)
    maximum = limits_of(wallet, asset).withdrawal_max_per_day
    if maximum is not None:
        requested = day_count(wallet, asset, case.time_us // DAY_US).withdrawn
        if requested + amount > maximum:
            return Rejection(
                Code.WITHDRAWAL_MAX_EXCEEDED,
                f"{_formatted(case, asset, requested)} of {_formatted(case, asset, maximum)} were requested for "
                "withdrawal today",
                {"withdrawal_max_per_day": maximum, "requested_today": requested},
            )
    if refusal := _lacks_cash(case, asset, amount):
        return refusal
    return _event(
        case,
        WithdrawalRequested(amount=amount, asset=asset, metadata=command.metadata, order_id=command.order_id),
        move(wallet.user_id, "cash", "held", asset, amount),
        balances_with_held(wallet, asset, amount),
    )


def _approve_withdrawal(case: Case, command: ApproveWithdrawal) -> Decision:
    order = _pending_withdrawal(case, command.order_id)
    if isinstance(order, Rejection):
        return order
    wallet, asset, amount = case.wallet, order.asset, order.amount
    before = balance_of(wallet, asset)
    return _event(
        case,
        WithdrawalApproved(metadata=command.metadata, order_id=command.order_id, reason=command.reason),
        ((f"wallet/{wallet.user_id}/held", asset, -amount), (HOUSE_WITHDRAWALS, asset, amount)),
        {asset: Balance(before.cash, before.bonus, before.held - amount)},
    )


def _reject_withdrawal(case: Case, command: RejectWithdrawal) -> Decision:
    order = _pending_withdrawal(case, command.order_id)
    if isinstance(order, Rejection):
        return order
    return _event(
        case,
        WithdrawalRejected(metadata=command.metadata, order_id=command.order_id, reason=command.reason),
        move(case.wallet.user_id, "held", "cash", order.asset, order.amount),
        balances_with_held(case.wallet, order.asset, -order.amount),
    )


def _place_bet(case: Case, command: PlaceBet) -> Decision:
    wallet, asset, stake = case.wallet, command.asset, command.stake
    if command.game != EXTERNAL_GAME:
        detail = f"there is no game {command.game}; known games: {EXTERNAL_GAME}"
        return Rejection(Code.UNKNOWN_GAME, detail, {"game": command.game})
    bet = case.items[bet_key(command.bet_id)]
    if bet is not None:
        assert isinstance(bet, Bet), bet
        if bet.status == "cancelled_before":
            return Rejection(
                Code.BET_CANCELLED_BEFORE,
                f"the bet {command.bet_id} was cancelled before it came",
                {"bet_id": command.bet_id},
            )
        return _reused(Code.BET_ID_REUSED, "bet_id", command.bet_id)
    if asset not in case.assets:
        return _unknown_asset(case, asset)
    if not is_amount(stake):
        return _out_of_range(case, "stake", asset, stake)
    limits = limits_of(wallet, asset)
    if limits.stake_max_per_day is not None:
        staked = day_count(wallet, asset, case.time_us // DAY_US).staked
        if staked + stake > limits.stake_max_per_day:
            return Rejection(
                Code.STAKE_MAX_EXCEEDED,
                f"{_formatted(case, asset, staked)} of {_formatted(case, asset, limits.stake_max_per_day)} "
                "were staked today",
                {"stake_max_per_day": limits.stake_max_per_day, "staked_today": staked},
            )
    before = balance_of(wallet, asset)
    cash = max(before.cash, 0)
    credit = max(limits.credit_limit + min(before.cash, 0), 0)
    available = cash + before.bonus + credit
    if stake > available:
        code = Code.CREDIT_LIMIT_EXCEEDED if limits.credit_limit > 0 else Code.INSUFFICIENT_FUNDS
        detail = f"the stake is {_formatted(case, asset, stake)}, {_formatted(case, asset, available)} can be taken"
        return Rejection(code, detail, {"available": available})
    if command.spend == "bonus_first":
        from_bonus = min(before.bonus, stake)
    else:
        from_bonus = min(before.bonus, stake - min(cash, stake))
    from_cash = stake - from_bonus
    postings: tuple[Posting, ...] = ((HOUSE_STAKES, asset, stake),)
    if from_bonus:
        postings = ((f"wallet/{wallet.user_id}/bonus", asset, -from_bonus), *postings)
    if from_cash:
        postings = ((f"wallet/{wallet.user_id}/cash", asset, -from_cash), *postings)
    return _event(
        case,
        BetPlaced(
            asset=asset,
            bet_id=command.bet_id,
            source=StakeSource(from_bonus, from_cash, draw_on_grants(wallet, asset, from_bonus)),
            game=command.game,
            metadata=command.metadata,
            period=command.period,
            selection=command.selection,
            spend=command.spend,
            stake=stake,
        ),
        postings,
        {asset: Balance(before.cash - from_cash, before.bonus - from_bonus, before.held)},
    )


def _settle_bet(case: Case, command: SettleBet) -> Decision:
    wallet, payout = case.wallet, command.payout
    bet = case.items[bet_key(command.bet_id)]
    if bet is None:
        return _not_found(Code.BET_NOT_FOUND, "bet_id", command.bet_id)
    assert isinstance(bet, Bet), bet
    if bet.status != "open":
        return _already_resolved("bet", command.bet_id, bet.status)
    asset = bet.asset
    if not 0 <= payout <= AMOUNT_MAX:
        return _out_of_range(case, "payout", asset, payout)
    if not in_bounds(owned_or_due(wallet, asset) - bet.stake + payout):
        return _total_out_of_range(case, asset)
    data = BetSettled(bet_id=command.bet_id, metadata=command.metadata, payout=payout)
    if payout == 0:
        return _event(case, data)
    to_cash, to_bonus = split_payout(bet, payout)
    return _event(
        case,
        data,
        pay(wallet.user_id, HOUSE_PAYOUTS, asset, to_cash, to_bonus),
        balances_with(wallet, asset, to_cash, to_bonus),
    )


def _cancel_bet(case: Case, command: CancelBet) -> Decision:
    wallet = case.wallet
    bet = case.items[bet_key(command.bet_id)]
    before_bet = bet is None
    data = BetCancelled(
        before_bet=before_bet, bet_id=command.bet_id, metadata=command.metadata, reason=command.reason
    )
    if bet is None:
        return _event(case, data)
    assert isinstance(bet, Bet), bet
    if bet.status != "open":
        return _already_resolved("bet", command.bet_id, bet.status)
    return _event(
        case,
        data,
        pay(wallet.user_id, HOUSE_STAKES, bet.asset, bet.cash, bet.bonus),
        balances_with(wallet, bet.asset, bet.cash, bet.bonus),
    )


def _hold(case: Case, command: PlaceHold) -> Decision:
    wallet, asset, amount = case.wallet, command.asset, command.amount
    if case.items[hold_key(command.hold_id)] is not None:
        return _reused(Code.HOLD_ID_REUSED, "hold_id", command.hold_id)
    if asset not in case.assets:
        return _unknown_asset(case, asset)
    if not is_amount(amount):
        return _out_of_range(case, "amount", asset, amount)
    if refusal := _lacks_cash(case, asset, amount):
        return refusal
    return _event(
        case,
        HoldPlaced(
            amount=amount,
            asset=asset,
            expires_at_us=command.expires_at_us,
            hold_id=command.hold_id,
            metadata=command.metadata,
        ),
        move(wallet.user_id, "cash", "held", asset, amount),
        balances_with_held(wallet, asset, amount),
    )


def _capture_hold(case: Case, command: CaptureHold) -> Decision:
    wallet = case.wallet
    hold = _open_hold(case, command.hold_id)
    if isinstance(hold, Rejection):
        return hold
    amount = hold.amount if command.amount is None else command.amount
    if not is_amount(amount):
        return _out_of_range(case, "amount", hold.asset, amount)
    if amount > hold.amount:
        return Rejection(
            Code.CAPTURE_EXCEEDS_HOLD,
            f"the hold {command.hold_id} has {_formatted(case, hold.asset, hold.amount)}",
            {"held": hold.amount},
        )
    asset, rest = hold.asset, hold.amount - amount
    before = balance_of(wallet, asset)
    postings: tuple[Posting, ...] = (
        (f"wallet/{wallet.user_id}/held", asset, -hold.amount),
        (HOUSE_CAPTURES, asset, amount),
    )
    if rest:
        postings += ((f"wallet/{wallet.user_id}/cash", asset, rest),)
    return _event(
        case,
        HoldCaptured(amount=command.amount, hold_id=command.hold_id, metadata=command.metadata),
        postings,
        {asset: Balance(before.cash + rest, before.bonus, before.held - hold.amount)},
    )


def _release_hold(case: Case, command: ReleaseHold) -> Decision:
    hold = _open_hold(case, command.hold_id)
    if isinstance(hold, Rejection):
        return hold
    return _event(
        case,
        HoldReleased(hold_id=command.hold_id, metadata=command.metadata),
        move(case.wallet.user_id, "held", "cash", hold.asset, hold.amount),
        balances_with_held(case.wallet, hold.asset, -hold.amount),
    )


def _transfer(case: Case, command: Transfer) -> Decision:
    wallet, asset, amount = case.wallet, command.asset, command.amount
    if command.to_user_id == command.user_id:
        return Rejection(Code.SAME_WALLET, "a wallet cannot transfer to itself", {"field": "to_user_id"})
    if case.items[transfer_key(command.transfer_id)] is not None:
        return _reused(Code.TRANSFER_ID_REUSED, "transfer_id", command.transfer_id)
    if asset not in case.assets:
        return _unknown_asset(case, asset)
    if not is_amount(amount):
        return _out_of_range(case, "amount", asset, amount)
    if refusal := _lacks_cash(case, asset, amount):
        return refusal
    before = balance_of(wallet, asset)
    return _event(
        case,
        TransferSent(
            amount=amount,
            asset=asset,
            metadata=command.metadata,
            to_user_id=command.to_user_id,
            transfer_id=command.transfer_id,
        ),
        ((f"wallet/{wallet.user_id}/cash", asset, -amount), (TRANSIT_TRANSFERS, asset, amount)),
        {asset: Balance(before.cash - amount, before.bonus, before.held)},
    )


def _grant_bonus(case: Case, command: GrantBonus) -> Decision:
    wallet, asset, amount = case.wallet, command.asset, command.amount
    if case.items[grant_key(command.grant_id)] is not None:
        return _reused(Code.GRANT_ID_REUSED, "grant_id", command.grant_id)
    if asset not in case.assets:
        return _unknown_asset(case, asset)
    if not is_amount(amount):
        return _out_of_range(case, "amount", asset, amount)
    if not in_bounds(owned_or_due(wallet, asset) + amount):
        return _total_out_of_range(case, asset)
    if refusal := _balance_max(case, asset, amount):
        return refusal
    return _event(
        case,
        BonusGranted(
            amount=amount,
            asset=asset,
            expires_at_us=command.expires_at_us,
            grant_id=command.grant_id,
            metadata=command.metadata,
        ),
        pay(wallet.user_id, HOUSE_BONUSES, asset, 0, amount),
        balances_with(wallet, asset, 0, amount),
    )


def _adjust(case: Case, command: Adjust) -> Decision:
    asset, amount = command.asset, command.amount
    if asset not in case.assets:
        return _unknown_asset(case, asset)
    if not is_amount(abs(amount)):
        return _out_of_range(case, "amount", asset, amount)
    if refusal := _cannot_adjust(case, asset, amount):
        return refusal
    return _event(
        case,
        Adjusted(amount=amount, asset=asset, metadata=command.metadata, reason=command.reason),
        adjustment(case.wallet.user_id, asset, amount),
        balances_with(case.wallet, asset, amount, 0),
    )


def _propose_adjustment(case: Case, command: ProposeAdjustment) -> Decision:
    asset, amount = command.asset, command.amount
    if case.items[adjustment_key(command.adjustment_id)] is not None:
        return _reused(Code.ADJUSTMENT_ID_REUSED, "adjustment_id", command.adjustment_id)
    if asset not in case.assets:
        return _unknown_asset(case, asset)
    if not is_amount(abs(amount)):
        return _out_of_range(case, "amount", asset, amount)
    return _event(
        case,
        AdjustmentProposed(
            adjustment_id=command.adjustment_id,
            amount=amount,
            asset=asset,
            metadata=command.metadata,
            reason=command.reason,
        ),
    )


def _approve_adjustment(case: Case, command: ApproveAdjustment) -> Decision:
    wallet = case.wallet
    proposal = _open_proposal(case, command.adjustment_id)
    if isinstance(proposal, Rejection):
        return proposal
    if proposal.proposer == case.actor:
        return Rejection(
            Code.SAME_ACTOR,
            f"{case.actor} proposed the adjustment {command.adjustment_id}; another actor must approve it",
            {"proposer": proposal.proposer},
        )
    if refusal := _cannot_adjust(case, proposal.asset, proposal.amount):
        return refusal
    return _event(
        case,
        AdjustmentApproved(adjustment_id=command.adjustment_id, metadata=command.metadata, reason=command.reason),
        adjustment(wallet.user_id, proposal.asset, proposal.amount),
        balances_with(wallet, proposal.asset, proposal.amount, 0),
    )


def _reject_adjustment(case: Case, command: RejectAdjustment) -> Decision:
    proposal = _open_proposal(case, command.adjustment_id)
    if isinstance(proposal, Rejection):
        return proposal
    return _event(
        case,
        AdjustmentRejected(adjustment_id=command.adjustment_id, metadata=command.metadata, reason=command.reason),
    )


def _reverse(case: Case, command: Reverse) -> Decision:
    wallet = case.wallet
    original = case.items[reversible_key(command.position)]
    if original is None:
        return Rejection(
            Code.CANNOT_REVERSE,
            f"{command.position} is no deposit, grant or adjustment of this wallet",
            {"position": command.position},
        )
    assert isinstance(original, Reversible), original
    if original.reversed:
        return _already_resolved("event", command.position, "reversed")
    if original.grant_id is not None:
        grant = running_grant(wallet, original.grant_id)
        if grant is None or grant.won or grant.remaining != original.bonus:
            return Rejection(
                Code.CANNOT_REVERSE,
                f"the bonus of {command.position} is spent or expired, wholly or in part",
                {"position": command.position},
            )
    asset = original.asset
    if not in_bounds(owned_or_due(wallet, asset) - original.cash - original.bonus):
        return _total_out_of_range(case, asset)
    if original.cash > 0 and (refusal := _lacks_cash(case, asset, original.cash)):
        return refusal
    postings: tuple[Posting, ...] = ()
    if original.cash:
        postings += ((f"wallet/{wallet.user_id}/cash", asset, -original.cash),)
    if original.bonus:
        postings += ((f"wallet/{wallet.user_id}/bonus", asset, -original.bonus),)
    postings += tuple((account, asset, -amount) for account, amount in original.house)
    return _event(
        case,
        Reversed(metadata=command.metadata, position=command.position, reason=command.reason),
        postings,
        balances_with(wallet, asset, -original.cash, -original.bonus),
    )


def _set_limits(case: Case, command: SetLimits) -> Decision:
    if command.asset not in case.assets:
        return _unknown_asset(case, command.asset)
    for name in ("credit_limit", "balance_max", "stake_max_per_day", "withdrawal_max_per_day"):
        value = getattr(command, name)
        if isinstance(value, int) and not 0 <= value <= AMOUNT_MAX:
            return _out_of_range(case, name, command.asset, value)
    return _event(
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
    return _event(case, WalletFrozen(metadata=command.metadata, reason=command.reason))


def _unfreeze_wallet(case: Case, command: UnfreezeWallet) -> Decision:
    if case.wallet.status != "frozen":
        return _already_resolved("wallet", command.user_id, case.wallet.status)
    return _event(case, WalletUnfrozen(metadata=command.metadata, reason=command.reason))


def _close_wallet(case: Case, command: CloseWallet) -> Decision:
    wallet = case.wallet
    full = [asset for asset, balance in wallet.balances.items() if balance.cash or balance.bonus or balance.held]
    if full:
        return Rejection(Code.WALLET_NOT_EMPTY, f"the wallet still has {', '.join(sorted(full))}")
    if wallet.open_items:
        return Rejection(
            Code.WALLET_NOT_EMPTY,
            f"{wallet.open_items} of the wallet's bets, holds, withdrawals, transfers or proposals are open",
            {"open_items": wallet.open_items},
        )
    return _event(case, WalletClosed(metadata=command.metadata, reason=command.reason))


_DECIDE: Final[dict[type[Any], Callable[[Case, Any], Decision]]] = {
    OpenWallet: _open_wallet,
    Deposit: _deposit,
    RequestWithdrawal: _request_withdrawal,
    ApproveWithdrawal: _approve_withdrawal,
    RejectWithdrawal: _reject_withdrawal,
    PlaceBet: _place_bet,
    SettleBet: _settle_bet,
    CancelBet: _cancel_bet,
    PlaceHold: _hold,
    CaptureHold: _capture_hold,
    ReleaseHold: _release_hold,
    Transfer: _transfer,
    GrantBonus: _grant_bonus,
    Adjust: _adjust,
    ProposeAdjustment: _propose_adjustment,
    ApproveAdjustment: _approve_adjustment,
    RejectAdjustment: _reject_adjustment,
    Reverse: _reverse,
    SetLimits: _set_limits,
    FreezeWallet: _freeze_wallet,
    UnfreezeWallet: _unfreeze_wallet,
    CloseWallet: _close_wallet,
}


# --- checks that several ladders share -----------------------------------------------------------------------------


def _pending_withdrawal(case: Case, order_id: str) -> Order | Rejection:
    order = case.items[order_key(order_id)]
    if order is None or (isinstance(order, Order) and order.kind == "deposit"):
        return _not_found(Code.ORDER_NOT_FOUND, "order_id", order_id)
    assert isinstance(order, Order), order
    if order.status != "pending":
        return _already_resolved("order", order_id, order.status)
    return order


def _open_hold(case: Case, hold_id: str) -> Hold | Rejection:
    hold = case.items[hold_key(hold_id)]
    if hold is None:
        return _not_found(Code.HOLD_NOT_FOUND, "hold_id", hold_id)
    assert isinstance(hold, Hold), hold
    if hold.status == "expired":
        return Rejection(Code.HOLD_EXPIRED, f"the hold {hold_id} has expired", {"hold_id": hold_id})
    if hold.status != "open":
        return _already_resolved("hold", hold_id, hold.status)
    return hold


def _open_proposal(case: Case, adjustment_id: str) -> Proposal | Rejection:
    proposal = case.items[adjustment_key(adjustment_id)]
    if proposal is None:
        return _not_found(Code.ADJUSTMENT_NOT_FOUND, "adjustment_id", adjustment_id)
    assert isinstance(proposal, Proposal), proposal
    if proposal.status != "open":
        return _already_resolved("adjustment", adjustment_id, proposal.status)
    return proposal


def _cannot_adjust(case: Case, asset: str, amount: int) -> Rejection | None:
    if not in_bounds(owned_or_due(case.wallet, asset) + amount):
        return _total_out_of_range(case, asset)
    if amount > 0:
        return _balance_max(case, asset, amount)
    return _lacks_cash(case, asset, -amount)


def _balance_max(case: Case, asset: str, added: int) -> Rejection | None:
    maximum = limits_of(case.wallet, asset).balance_max
    if maximum is None:
        return None
    before = balance_of(case.wallet, asset)
    after = before.cash + before.bonus + before.held + added
    if after <= maximum:
        return None
    return Rejection(
        Code.BALANCE_MAX_EXCEEDED,
        f"the balance would be {_formatted(case, asset, after)}, "
        f"at most {_formatted(case, asset, maximum)} is allowed",
        {"balance_max": maximum, "balance_after": after},
    )


def _lacks_cash(case: Case, asset: str, amount: int) -> Rejection | None:
    available = max(balance_of(case.wallet, asset).cash, 0)
    if amount <= available:
        return None
    return Rejection(
        Code.INSUFFICIENT_FUNDS,
        f"{_formatted(case, asset, amount)} is more than the {_formatted(case, asset, available)} that can be taken",
        {"available": available},
    )


def _reused(code: Code, field: str, value: str) -> Rejection:
    return Rejection(code, f"{field} {value} is used already by another command of this wallet", {field: value})


def _not_found(code: Code, field: str, value: str) -> Rejection:
    return Rejection(code, f"this wallet has no {field} {value}", {field: value})


def _already_resolved(what: str, name: str, status: str) -> Rejection:
    return Rejection(Code.ALREADY_RESOLVED, f"the {what} {name} is {status}", {"status_now": status})


def _unknown_asset(case: Case, asset: str) -> Rejection:
    # A client may send a name of megabytes: the response repeats only its beginning.
    shown = asset if len(asset) <= _SHOWN_MAX else asset[:_SHOWN_MAX] + "…"
    known = ", ".join(sorted(case.assets)[:_LISTED_MAX])
    return Rejection(
        Code.UNKNOWN_ASSET, f"the asset {shown} is not declared; the assets are {known}", {"asset": shown}
    )


def _out_of_range(case: Case, field: str, asset: str, value: int) -> Rejection:
    shown = _formatted(case, asset, value) if abs(value) < 10**24 else "a number of more than 24 digits"
    return Rejection(Code.AMOUNT_OUT_OF_RANGE, f"{field} is {shown}, outside of its range", {"field": field})


def _total_out_of_range(case: Case, asset: str) -> Rejection:
    bound = _formatted(case, asset, AMOUNT_MAX)
    return Rejection(Code.AMOUNT_OUT_OF_RANGE, f"what the wallet has and may get back would exceed ±{bound}")


def _formatted(case: Case, asset: str, amount: int) -> str:
    return format_amount(amount, asset, case.assets)


# --- the event ----------------------------------------------------------------------------------------------------


def _event(
    case: Case,
    data: AnyData,
    postings: tuple[Posting, ...] = (),
    balances: dict[str, Balance] | None = None,
) -> Event:
    assert sums_to_zero(postings), (data, postings)
    command = case.command
    if command.private is not None:  # no decider reads it
        assert type(command.private) is str, "private texts are encrypted before a node gets the command"
        data = replace(data, private=command.private)
    return Event(
        case.time_us,
        command.user_id,
        command.command_id,
        case.request_sha256,
        case.actor,
        data,
        postings,
        balances or {},
    )
