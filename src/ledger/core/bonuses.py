"""Bonuses that a command asks for: ``grant_bonus`` and ``claim_attendance``."""

from typing import Final

from ledger.core.bonus_events import AttendanceClaimed, BonusGranted
from ledger.core.case import (
    Case,
    Decision,
    balance_max_exceeded,
    event_of,
    formatted,
    out_of_range,
    reused,
    total_out_of_range,
    unknown_asset,
)
from ledger.core.commands import ClaimAttendance, GrantBonus
from ledger.core.consequences import expiry_of, own_grant_id
from ledger.core.events import HOUSE_BONUSES
from ledger.core.games.periods import name_of
from ledger.core.items import grant_key
from ledger.core.money import in_bounds, is_amount
from ledger.core.money_rules import NO_MONEY_RULES
from ledger.core.postings import balances_with, owned_or_due, pay
from ledger.core.rejections import Code, Rejection
from ledger.core.wagering import addition
from ledger.core.wallet import DAY_US, Attendance, day_count

ATTENDANCE: Final = "attendance"
_NEVER: Final = Attendance(day=-2, streak=0)


def grant_bonus(case: Case, command: GrantBonus) -> Decision:
    wallet, asset, amount = case.wallet, command.asset, command.amount
    if case.items[grant_key(command.grant_id)] is not None:
        return reused(Code.GRANT_ID_REUSED, "grant_id", command.grant_id)
    if asset not in case.assets:
        return unknown_asset(case, asset)
    if not is_amount(amount):
        return out_of_range(case, "amount", asset, amount)
    if not in_bounds(owned_or_due(wallet, asset) + amount):
        return total_out_of_range(case, asset)
    if refusal := balance_max_exceeded(case, asset, amount):
        return refusal
    wagering = addition(wallet, asset, case.rules.money.get(asset, NO_MONEY_RULES), bonus=amount)
    return event_of(
        case,
        BonusGranted(
            amount=amount,
            asset=asset,
            expires_at_us=command.expires_at_us,
            grant_id=command.grant_id,
            metadata=command.metadata,
            rules=None if wagering is None else case.rules.money_digest,
            wagering=wagering,
        ),
        pay(wallet.user_id, HOUSE_BONUSES, asset, 0, amount),
        balances_with(wallet, asset, 0, amount),
    )


def claim_attendance(case: Case, command: ClaimAttendance) -> Decision:
    """Grant the bonus of the UTC day, which grows with the days in a row. The range of the amount is checked last:
    without a bonus there is no amount."""
    wallet, asset = case.wallet, command.asset
    if asset not in case.assets:
        return unknown_asset(case, asset)
    rules = case.rules.money.get(asset, NO_MONEY_RULES)
    if not rules.attendance:
        return Rejection(Code.NOT_ELIGIBLE, f"there is no attendance bonus of {asset}", {"asset": asset})
    day, last = case.time_us // DAY_US, wallet.attendance.get(asset, _NEVER)
    needed, deposited = rules.attendance_needs_deposit, day_count(wallet, asset, day).deposited
    if deposited < needed:
        detail = f"{formatted(case, asset, deposited)} of {formatted(case, asset, needed)} were deposited today"
        return Rejection(Code.NOT_ELIGIBLE, detail, {"needs_deposit": needed, "deposited": deposited})
    if last.day == day:
        detail = f"the attendance bonus of {iso_day(day)} was claimed already"
        return Rejection(Code.ALREADY_CLAIMED, detail, {"day": iso_day(day)})
    streak = last.streak + 1 if last.day == day - 1 and last.streak < len(rules.attendance) else 1
    amount = rules.attendance[streak - 1]
    if not in_bounds(owned_or_due(wallet, asset) + amount):
        return total_out_of_range(case, asset)
    if refusal := balance_max_exceeded(case, asset, amount):
        return refusal
    return event_of(
        case,
        AttendanceClaimed(
            amount=amount,
            asset=asset,
            day=iso_day(day),
            expires_at_us=expiry_of(rules, case.time_us),
            grant_id=own_grant_id(wallet, ATTENDANCE),
            metadata=command.metadata,
            rules=case.rules.money_digest,
            streak=streak,
            wagering=addition(wallet, asset, rules, bonus=amount),
        ),
        pay(wallet.user_id, HOUSE_BONUSES, asset, 0, amount),
        balances_with(wallet, asset, 0, amount),
    )


def iso_day(day: int) -> str:
    """The UTC day as ISO 8601 writes it; ``day`` is its number since 1970."""
    name = name_of(day * DAY_US)
    return f"{name[:4]}-{name[4:6]}-{name[6:8]}"
