"""Holds and transfers: money set aside or sent to another wallet, and the events that they make.

Invariants:
(1) a hold or a transfer never takes cash below 0;
(2) a hold is captured or released once, or expires; what is not captured goes back to cash.
"""

from ledger.core.case import (
    Case,
    Decision,
    already_resolved,
    event_of,
    formatted,
    lacks_cash,
    not_found,
    out_of_range,
    reused,
    unknown_asset,
)
from ledger.core.commands import (
    CaptureHold,
    PlaceHold,
    ReleaseHold,
    Transfer,
)
from ledger.core.events import (
    HOUSE_CAPTURES,
    TRANSIT_TRANSFERS,
    Balance,
    Posting,
    TransferSent,
)
from ledger.core.hold_events import HoldCaptured, HoldPlaced, HoldReleased
from ledger.core.items import (
    Hold,
    hold_key,
    transfer_key,
)
from ledger.core.money import is_amount
from ledger.core.postings import (
    balances_with_held,
    move,
)
from ledger.core.rejections import Code, Rejection
from ledger.core.wallet import balance_of


def place_hold(case: Case, command: PlaceHold) -> Decision:
    wallet, asset, amount = case.wallet, command.asset, command.amount
    if case.items[hold_key(command.hold_id)] is not None:
        return reused(Code.HOLD_ID_REUSED, "hold_id", command.hold_id)
    if asset not in case.assets:
        return unknown_asset(case, asset)
    if not is_amount(amount):
        return out_of_range(case, "amount", asset, amount)
    if refusal := lacks_cash(case, asset, amount):
        return refusal
    return event_of(
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


def capture_hold(case: Case, command: CaptureHold) -> Decision:
    wallet = case.wallet
    hold = _open_hold(case, command.hold_id)
    if isinstance(hold, Rejection):
        return hold
    amount = hold.amount if command.amount is None else command.amount
    if not is_amount(amount):
        return out_of_range(case, "amount", hold.asset, amount)
    if amount > hold.amount:
        return Rejection(
            Code.CAPTURE_EXCEEDS_HOLD,
            f"the hold {command.hold_id} has {formatted(case, hold.asset, hold.amount)}",
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
    return event_of(
        case,
        HoldCaptured(amount=command.amount, hold_id=command.hold_id, metadata=command.metadata),
        postings,
        {asset: Balance(before.cash + rest, before.bonus, before.held - hold.amount)},
    )


def release_hold(case: Case, command: ReleaseHold) -> Decision:
    hold = _open_hold(case, command.hold_id)
    if isinstance(hold, Rejection):
        return hold
    return event_of(
        case,
        HoldReleased(hold_id=command.hold_id, metadata=command.metadata),
        move(case.wallet.user_id, "held", "cash", hold.asset, hold.amount),
        balances_with_held(case.wallet, hold.asset, -hold.amount),
    )


def transfer(case: Case, command: Transfer) -> Decision:
    wallet, asset, amount = case.wallet, command.asset, command.amount
    if command.to_user_id == command.user_id:
        return Rejection(Code.SAME_WALLET, "a wallet cannot transfer to itself", {"field": "to_user_id"})
    if case.items[transfer_key(command.transfer_id)] is not None:
        return reused(Code.TRANSFER_ID_REUSED, "transfer_id", command.transfer_id)
    if asset not in case.assets:
        return unknown_asset(case, asset)
    if not is_amount(amount):
        return out_of_range(case, "amount", asset, amount)
    if refusal := lacks_cash(case, asset, amount):
        return refusal
    before = balance_of(wallet, asset)
    return event_of(
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


def _open_hold(case: Case, hold_id: str) -> Hold | Rejection:
    hold = case.items[hold_key(hold_id)]
    if hold is None:
        return not_found(Code.HOLD_NOT_FOUND, "hold_id", hold_id)
    assert isinstance(hold, Hold), hold
    if hold.status == "expired":
        return Rejection(Code.HOLD_EXPIRED, f"the hold {hold_id} has expired", {"hold_id": hold_id})
    if hold.status != "open":
        return already_resolved("hold", hold_id, hold.status)
    return hold
