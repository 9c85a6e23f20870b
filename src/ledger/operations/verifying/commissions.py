"""Commissions as the auditor recomputes them: each stake is due once, and each amount follows from what was carried.

Invariants:
(1) nothing of ``ledger`` is imported here, as in ``postings``;
(2) memory grows with the days whose commission is not due yet, and with the wallets that carry something.

The rates are in the operator's rules, which are in no record, so a commission is recomputed from the rate on its
event. A full wallet is paid less than the rate gives; the rest is carried, so nothing is lost.
"""

from typing import Any, Final

from msgspec import UNSET

from ledger.operations.verifying.postings import Book, Handler, LookUp, Mismatch, Move, caused_by, into_wallet
from ledger.operations.verifying.records import Record

_COMMISSIONS: Final = "house/commissions"
_E9: Final = 1_000_000_000
_AMOUNT_MAX: Final = 2**53 - 1


def _referral_valid(book: Book, event: Record, data: Any, _: LookUp) -> None:
    if data.reason is UNSET:
        book.flows.may_cause(event, data.asset)


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
        return None
    if not 0 <= data.rate_e9 <= _E9 or data.stake <= 0:
        raise Mismatch(f"{data.stake} at a rate of {data.rate_e9} billionths is no commission")
    total_e9 = carried_e9 + data.stake * data.rate_e9
    if not 0 <= amount <= min(total_e9 // _E9, _AMOUNT_MAX) or data.carried_e9 != total_e9 - amount * _E9:
        raise Mismatch(
            f"{carried_e9} carried and {data.stake} at {data.rate_e9} billionths give {total_e9} billionths, it pays "
            f"{amount} and carries {data.carried_e9}"
        )
    return into_wallet(event, _COMMISSIONS, data.asset, amount, 0) if amount else None


COMMISSIONS: Final[dict[str, Handler]] = {
    "referral_valid": _referral_valid,
    "commission_due": _commission_due,
    "commission_paid": _commission_paid,
}
