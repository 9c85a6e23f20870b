"""Commissions as the auditor recomputes them: each stake earns one commission, each rate is that of the rules that
the event names, and each amount follows from the rate and from the carried fraction.

Invariants:
(1) nothing of ``ledger`` is imported here, as in ``postings``;
(2) memory grows with the days whose commission is not yet due, and with the wallets that have a carried amount, an
    agent level or a referrer;
(3) a wallet is paid less than the rate gives only if it has no room for more. The rest is carried to its next
    commission, so nothing is lost.
"""

from typing import Any, Final

from msgspec import UNSET

from ledger.operations.verifying.postings import Book, Handler, LookUp, Mismatch, Move, caused_by, into_wallet
from ledger.operations.verifying.records import Record

_COMMISSIONS: Final = "house/commissions"
_E9: Final = 1_000_000_000
_AMOUNT_MAX: Final = 2**53 - 1


def _agent_level_set(book: Book, event: Record, data: Any, _: LookUp) -> None:
    book.agent_levels[event.user_id] = data.level


def _referral_valid(book: Book, event: Record, data: Any, _: LookUp) -> None:
    if data.reason is UNSET:
        book.flows.referred(event)


def _commission_due(book: Book, event: Record, data: Any, _: LookUp) -> None:
    due = book.turnover.pop((event.user_id, data.asset, data.day, data.rules), None)
    if due is None:
        raise Mismatch(f"no settled stake of {data.asset} on {data.day} waits for a commission by these rules")
    stake, due_at_us, seq = due
    if data.stake != stake:
        raise Mismatch(f"the stakes of {data.day} are {stake}, it says {data.stake}")
    if event.time_us < due_at_us:
        raise Mismatch(f"the commission on {data.day} is due at {due_at_us}, after this event")
    caused_by(event, data.cause, seq)


def _commission_paid(book: Book, event: Record, data: Any, _: LookUp) -> Move | None:
    key = (event.user_id, data.asset)
    carried_e9, amount = book.carried_e9.pop(key, 0), data.amount
    if data.carried_e9:
        book.carried_e9[key] = data.carried_e9
    if data.reason is not UNSET:
        if amount or data.carried_e9 != carried_e9:
            raise Mismatch(f"it pays nothing for the reason {data.reason}, so it carries {carried_e9} as before")
        _check_rules(book, event, data)
        return None
    if not 0 <= data.rate_e9 <= _E9 or data.stake <= 0:
        raise Mismatch(f"{data.stake} at a rate of {data.rate_e9} billionths is no commission")
    total_e9 = carried_e9 + data.stake * data.rate_e9
    due = total_e9 // _E9
    if not 0 <= amount <= min(due, _AMOUNT_MAX) or data.carried_e9 != total_e9 - amount * _E9:
        raise Mismatch(
            f"{carried_e9} carried and {data.stake} at {data.rate_e9} billionths give {total_e9} billionths, it pays "
            f"{amount} and carries {data.carried_e9}"
        )
    if amount < due and amount != max(min(book.room(event.user_id, data.asset), _AMOUNT_MAX), 0):
        raise Mismatch(f"it pays {amount} of {due}, but the wallet has room for more")
    _check_rules(book, event, data)
    return into_wallet(event, _COMMISSIONS, data.asset, amount, 0) if amount else None


def _check_rules(book: Book, event: Record, data: Any) -> None:
    """Check that the rate is that of the wallet's agent level, and that the commission is passed on to the next level
    that has a rate. Raises Mismatch."""
    rules = book.flows.rules.of(data.rules, data.asset)
    if rules is None:
        return
    commission = rules.commission
    if commission is None:
        raise Mismatch(f"its rules have no commission of {data.asset}")
    rate_e9 = commission.rate_e9(book.agent_levels.get(event.user_id, 0), data.level)
    if data.rate_e9 != rate_e9:
        raise Mismatch(f"its rate is {data.rate_e9} billionths, by its rules {rate_e9}")
    following = book.referrers.get(event.user_id) if data.level < commission.levels else None
    if following == data.member:
        following = None
    stated = None if data.referrer_id is UNSET else data.referrer_id
    if stated != following:
        raise Mismatch(f"it goes on to {stated or 'no wallet'}, by its rules to {following or 'no wallet'}")


COMMISSIONS: Final[dict[str, Handler]] = {
    "agent_level_set": _agent_level_set,
    "referral_valid": _referral_valid,
    "commission_due": _commission_due,
    "commission_paid": _commission_paid,
}
