"""What referrers get for their members: commissions on stakes, level by level, and valid referrals.

The event that settles a bet says when the commission on it is due, and by which rules: the day after ("daily"), or at
once ("per_bet"). The stakes of a day that is not closed yet are the member's *turnover*. When the turnover is due, a
``commission_due`` on the member's wallet closes it and sends it to the referrer. The ``commission_paid`` on the
referrer's wallet sends it to the referrer of the next level.

Invariants:
(1) a stake is counted once, by the event that settles its bet, for the UTC day of that event; the stake of a
    cancelled bet is never counted;
(2) nothing is lost by rounding: the fraction of a minor unit is added to the wallet's next commission;
(3) every level is paid by the rules of the settlement: each event has their digest;
(4) the commission ends at the last level with a rate, at the member (in a ring), at a wallet without a referrer, or
    at a wallet that was never opened. A closed wallet is paid nothing, and its referrer is next;
(5) a member is a valid referral once in each asset, also if the deposits are reversed later.
"""

from typing import Final

from msgspec import Struct

from ledger.core.bonuses import iso_day
from ledger.core.case import Case, Decision, event_of
from ledger.core.commands import SetAgentLevel
from ledger.core.commission_events import CommissionDue, CommissionPaid, ReferralValid
from ledger.core.events import HOUSE_COMMISSIONS, AgentLevelSet, Event
from ledger.core.follow_up_commands import CountValidReferral, PayCommission
from ledger.core.games.rules import RuleBook
from ledger.core.money import AMOUNT_MAX
from ledger.core.money_rules import E9, Commission
from ledger.core.postings import balances_with, ledger_event, owned_or_due, pay
from ledger.core.rejections import Code
from ledger.core.wallet import DAY_US, Wallet

COMMISSION: Final = "~commission:"
"""The ``command_id`` of a ``commission_due`` is this prefix and the event's own seq."""


class Terms(Struct, frozen=True, gc=False):
    """When the commission on a stake is due, in Unix microseconds, and the digest of the rules that it is paid by."""

    due_at_us: int
    rules: str


def set_agent_level(case: Case, command: SetAgentLevel) -> Decision:
    return event_of(case, AgentLevelSet(level=command.level, metadata=command.metadata))


def terms_of(wallet: Wallet, asset: str, rules: RuleBook, time_us: int) -> Terms | None:
    """The terms for a bet of the wallet that is settled at ``time_us``; None if it earns no commission."""
    if wallet.referrer_id is None:
        return None
    of_asset = rules.money.get(asset)
    if of_asset is None or of_asset.commission is None or not levels_of(of_asset.commission):
        return None
    if of_asset.commission.mode == "per_bet":
        return Terms(time_us, rules.money_digest)
    midnight_us = (time_us // DAY_US + 1) * DAY_US
    return Terms(midnight_us + of_asset.commission.delay_s * 1_000_000, rules.money_digest)


def rules_that_make_valid(wallet: Wallet, asset: str, amount: int, rules: RuleBook) -> str | None:
    """The digest of the rules by which a deposit of ``amount`` makes the user a valid referral; None if it does not.

    If the referrer becomes known only after the sum was reached, the user becomes valid with the next deposit."""
    if wallet.referrer_id is None or asset in wallet.valid_in:
        return None
    of_asset = rules.money.get(asset)
    if of_asset is None or of_asset.valid_referral is None:
        return None
    total = wallet.deposited.get(asset, 0) + amount
    return rules.money_digest if total >= of_asset.valid_referral else None


def count_valid_referral(follow_up: CountValidReferral, wallet: Wallet, time_us: int) -> Event:
    data = ReferralValid(
        asset=follow_up.asset,
        cause=follow_up.cause,
        member=follow_up.member,
        reason=_refusal(wallet),
        rules=follow_up.rules,
    )
    return ledger_event(wallet, follow_up.command_id, time_us, data)


def close_turnover(wallet: Wallet, time_us: int, seq: int) -> Event:
    """The event with the number ``seq`` that closes the wallet's first turnover, which is due."""
    turnover = wallet.turnover[0]
    return ledger_event(
        wallet,
        f"{COMMISSION}{seq}",
        time_us,
        CommissionDue(
            asset=turnover.asset,
            cause=turnover.cause,
            day=iso_day(turnover.day),
            rules=turnover.rules,
            stake=turnover.stake,
        ),
    )


def pay_commission(follow_up: PayCommission, wallet: Wallet, rules: RuleBook, time_us: int) -> Event:
    """The event that pays the commission of one level. ``rules`` contains the rules that the follow-up names."""
    asset = follow_up.asset
    commission = rules.money_kept[follow_up.rules][asset].commission
    assert commission is not None, follow_up
    rate_e9 = rate_of(commission, wallet.agent_level, follow_up.level)
    carried_e9 = wallet.commission_carried.get(asset, 0)
    reason, amount = _refusal(wallet), 0
    if reason is None:
        # A wallet below zero, on credit, has room for more than an amount.
        room = min(AMOUNT_MAX - owned_or_due(wallet, asset), AMOUNT_MAX)
        amount, carried_e9 = share(carried_e9, follow_up.stake, rate_e9, room)
    goes_on = (
        wallet.referrer_id is not None
        and wallet.referrer_id != follow_up.member
        and follow_up.level < levels_of(commission)
    )
    return ledger_event(
        wallet,
        follow_up.command_id,
        time_us,
        CommissionPaid(
            amount=amount,
            asset=asset,
            carried_e9=carried_e9,
            cause=follow_up.cause,
            day=follow_up.day,
            level=follow_up.level,
            member=follow_up.member,
            rate_e9=rate_e9,
            reason=reason,
            referrer_id=wallet.referrer_id if goes_on else None,
            rules=follow_up.rules,
            stake=follow_up.stake,
        ),
        pay(wallet.user_id, HOUSE_COMMISSIONS, asset, amount, 0) if amount else (),
        balances_with(wallet, asset, amount, 0) if amount else {},
    )


def share(carried_e9: int, stake: int, rate_e9: int, room: int) -> tuple[int, int]:
    """What a commission pays, in minor units, and what it carries, in billionths of a minor unit. ``room`` is how
    much the wallet can take, in minor units; the rest is carried too."""
    total_e9 = carried_e9 + stake * rate_e9
    amount = max(min(total_e9 // E9, room), 0)
    assert 0 <= amount * E9 <= total_e9, (carried_e9, stake, rate_e9, room)
    return amount, total_e9 - amount * E9


def rate_of(commission: Commission, agent_level: int, level: int) -> int:
    """The rate at ``level`` above the member, in billionths of the stake; 0 beyond the last rate."""
    rates = commission.rates_of(agent_level)
    return rates[level - 1] if level <= len(rates) else 0


def levels_of(commission: Commission) -> int:
    """How many levels above the member have a rate: a common rate, or a rate of an agent level."""
    return max(map(len, (commission.rates_e9, *commission.agents.values())))


def _refusal(wallet: Wallet) -> Code | None:
    if wallet.status == "none":
        return Code.WALLET_NOT_OPEN
    return Code.WALLET_CLOSED if wallet.status == "closed" else None
