"""Adjustments and reversals: an operator's corrections of a wallet, and the events that they make.

Invariants:
(1) a correction never takes cash below 0;
(2) a proposal is approved or rejected once; the actor who proposed it may not approve it;
(3) an event is reversed at most once, and only while nothing of the bonus that it gave is spent, staked or expired;
(4) a first deposit that led to a bonus by the rules is reversed only after this bonus was.
"""

from ledger.core.case import (
    Case,
    Decision,
    already_resolved,
    balance_max_exceeded,
    event_of,
    lacks_cash,
    not_found,
    out_of_range,
    reused,
    total_out_of_range,
    unknown_asset,
)
from ledger.core.commands import (
    Adjust,
    ApproveAdjustment,
    ProposeAdjustment,
    RejectAdjustment,
    Reverse,
)
from ledger.core.consequences import FIRST_DEPOSIT_GRANT, bonus_position
from ledger.core.events import (
    Adjusted,
    AdjustmentApproved,
    AdjustmentProposed,
    AdjustmentRejected,
    Posting,
    Reversed,
)
from ledger.core.items import (
    Proposal,
    Reversible,
    adjustment_key,
    reversible_key,
)
from ledger.core.money import in_bounds, is_amount
from ledger.core.postings import (
    adjustment,
    balances_with,
    owned_or_due,
)
from ledger.core.rejections import Code, Rejection
from ledger.core.wallet import Wallet, running_grant


def adjust(case: Case, command: Adjust) -> Decision:
    asset, amount = command.asset, command.amount
    if asset not in case.assets:
        return unknown_asset(case, asset)
    if not is_amount(abs(amount)):
        return out_of_range(case, "amount", asset, amount)
    if refusal := _cannot_adjust(case, asset, amount):
        return refusal
    return event_of(
        case,
        Adjusted(amount=amount, asset=asset, metadata=command.metadata, reason=command.reason),
        adjustment(case.wallet.user_id, asset, amount),
        balances_with(case.wallet, asset, amount, 0),
    )


def propose_adjustment(case: Case, command: ProposeAdjustment) -> Decision:
    asset, amount = command.asset, command.amount
    if case.items[adjustment_key(command.adjustment_id)] is not None:
        return reused(Code.ADJUSTMENT_ID_REUSED, "adjustment_id", command.adjustment_id)
    if asset not in case.assets:
        return unknown_asset(case, asset)
    if not is_amount(abs(amount)):
        return out_of_range(case, "amount", asset, amount)
    return event_of(
        case,
        AdjustmentProposed(
            adjustment_id=command.adjustment_id,
            amount=amount,
            asset=asset,
            metadata=command.metadata,
            reason=command.reason,
        ),
    )


def approve_adjustment(case: Case, command: ApproveAdjustment) -> Decision:
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
    return event_of(
        case,
        AdjustmentApproved(adjustment_id=command.adjustment_id, metadata=command.metadata, reason=command.reason),
        adjustment(wallet.user_id, proposal.asset, proposal.amount),
        balances_with(wallet, proposal.asset, proposal.amount, 0),
    )


def reject_adjustment(case: Case, command: RejectAdjustment) -> Decision:
    proposal = _open_proposal(case, command.adjustment_id)
    if isinstance(proposal, Rejection):
        return proposal
    return event_of(
        case,
        AdjustmentRejected(adjustment_id=command.adjustment_id, metadata=command.metadata, reason=command.reason),
    )


def reverse(case: Case, command: Reverse) -> Decision:
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
        return already_resolved("event", command.position, "reversed")
    if original.grant_id is not None and not _is_whole(wallet, original.grant_id, original.bonus):
        return Rejection(
            Code.CANNOT_REVERSE,
            f"the bonus of {command.position} is spent, staked or expired, wholly or in part",
            {"position": command.position},
        )
    if refusal := _bonus_not_reversed(case, command.position):
        return refusal
    asset = original.asset
    if not in_bounds(owned_or_due(wallet, asset) - original.cash - original.bonus):
        return total_out_of_range(case, asset)
    if original.cash > 0 and (refusal := lacks_cash(case, asset, original.cash)):
        return refusal
    postings: tuple[Posting, ...] = ()
    if original.cash:
        postings += ((f"wallet/{wallet.user_id}/cash", asset, -original.cash),)
    if original.bonus:
        postings += ((f"wallet/{wallet.user_id}/bonus", asset, -original.bonus),)
    postings += tuple((account, asset, -amount) for account, amount in original.house)
    return event_of(
        case,
        Reversed(metadata=command.metadata, position=command.position, reason=command.reason),
        postings,
        balances_with(wallet, asset, -original.cash, -original.bonus),
    )


def _bonus_not_reversed(case: Case, position: str) -> Rejection | None:
    """Why the deposit at ``position`` cannot be reversed: the bonus that the rules gave for it was not reversed.

    Otherwise a bonus that is staked now would come back after its deposit is gone, when the bet is cancelled."""
    at = bonus_position(position)
    bonus = case.items[reversible_key(at)]
    if not isinstance(bonus, Reversible) or bonus.grant_id != FIRST_DEPOSIT_GRANT or bonus.reversed:
        return None
    if _is_whole(case.wallet, FIRST_DEPOSIT_GRANT, bonus.bonus):
        detail = f"the deposit has led to a bonus: reverse its bonus at {at} first"
    else:
        detail = (
            f"its bonus at {at} was spent or staked, or has expired, wholly or in part, so the deposit cannot be "
            "reversed: take the amount back with adjust"
        )
    return Rejection(Code.CANNOT_REVERSE, detail, {"position": at})


def _is_whole(wallet: Wallet, grant_id: str, amount: int) -> bool:
    """Whether nothing of the grant's ``amount`` is spent, staked or expired."""
    grant = running_grant(wallet, grant_id)
    return grant is not None and not grant.won and grant.remaining == amount


def _open_proposal(case: Case, adjustment_id: str) -> Proposal | Rejection:
    proposal = case.items[adjustment_key(adjustment_id)]
    if proposal is None:
        return not_found(Code.ADJUSTMENT_NOT_FOUND, "adjustment_id", adjustment_id)
    assert isinstance(proposal, Proposal), proposal
    if proposal.status != "open":
        return already_resolved("adjustment", adjustment_id, proposal.status)
    return proposal


def _cannot_adjust(case: Case, asset: str, amount: int) -> Rejection | None:
    if not in_bounds(owned_or_due(case.wallet, asset) + amount):
        return total_out_of_range(case, asset)
    if amount > 0:
        return balance_max_exceeded(case, asset, amount)
    return lacks_cash(case, asset, -amount)
