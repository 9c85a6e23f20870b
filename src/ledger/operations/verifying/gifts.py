"""Checks which shares a gift grants, which owner a referral code has, and what a wallet receives from a gift.

Invariants:
(1) nothing of ``ledger`` is imported here, as in ``postings``;
(2) memory grows with the gifts and the codes, not with the claims: ``follow_ups`` checks that each claim is concluded
    once, by its outcome, and ``unique_ids`` that a wallet gets at most one share of a gift.
"""

from typing import Any, Final

from msgspec import UNSET

from ledger.operations.verifying.postings import Book, Handler, LookUp, Mismatch, Move, amount_of, into_wallet
from ledger.operations.verifying.records import Record

GIFT: Final = "gift:"
CODE: Final = "code:"
NO_ROOM: Final = frozenset({"amount_out_of_range", "balance_max_exceeded"})
"""The reasons for which a wallet refuses a share that its gift has granted."""


class Gift:
    """A gift, and how many of its shares are granted."""

    __slots__ = ("amount", "asset", "claims", "closed", "expires_at_us", "granted")

    def __init__(self, data: Any) -> None:
        self.asset, self.amount, self.claims = data.asset, amount_of(data.amount), amount_of(data.claims)
        self.expires_at_us = data.expires_at_us
        self.granted, self.closed = 0, False

    def refusal(self, time_us: int) -> str | None:
        """The reason why a claim at this time gets no share; None if it gets one."""
        if self.closed:
            return "closed"
        if self.granted == self.claims:
            return "used_up"
        return "expired" if self.expires_at_us is not UNSET and time_us >= self.expires_at_us else None


def code_of(event: Record, stream: str) -> str:
    """The code of the stream. Raises Mismatch if the event is on another one."""
    if not event.user_id.startswith(stream):
        raise Mismatch(f"{event.user_id} has no {event.type}")
    return event.user_id.removeprefix(stream)


def _gift_created(book: Book, event: Record, data: Any, _: LookUp) -> None:
    gift = book.gifts[code_of(event, GIFT)] = Gift(data)
    if gift.claims > gift.amount:
        raise Mismatch(f"it divides {gift.amount} into {gift.claims} shares")


def _gift_closed(book: Book, event: Record, _: Any, __: LookUp) -> None:
    gift = book.gifts.get(code_of(event, GIFT))
    if gift is None or gift.closed:
        raise Mismatch(f"{event.user_id} is not an open gift")
    gift.closed = True


def _gift_share_granted(book: Book, event: Record, data: Any, _: LookUp) -> None:
    code = code_of(event, GIFT)
    gift = book.gifts.get(code)
    reason = "not_found" if gift is None else gift.refusal(event.time_us)
    if gift is None or reason is not None:
        raise Mismatch(f"the gift {code} is {reason}, but it grants a share")
    gift.granted += 1
    part, rest = divmod(gift.amount, gift.claims)
    share = (gift.granted, gift.asset, part + (gift.granted <= rest))
    if (data.share, data.asset, data.amount) != share:
        raise Mismatch(f"the share {share[0]} of the gift {code} is {share[2]} {share[1]}")


def _gift_share_refused(book: Book, event: Record, data: Any, _: LookUp) -> None:
    code = code_of(event, GIFT)
    gift = book.gifts.get(code)
    reason = "not_found" if gift is None else gift.refusal(event.time_us)
    if data.reason != reason:
        raise Mismatch(f"the gift {code} is {reason or 'open'}, not {data.reason}")


def _gift_received(book: Book, event: Record, data: Any, _: LookUp) -> Move:
    if (wrong := book.flows.received(event)) is not None:
        raise Mismatch(wrong)
    book.add_to_grant(event, data.grant_id, data.asset, amount_of(data.amount))
    return into_wallet(event, "house/gifts", data.asset, 0, data.amount)


def _gift_refused(_: Book, __: Record, data: Any, ___: LookUp) -> None:
    if (data.asset is UNSET) != (data.amount is UNSET) or (data.asset is UNSET) != (data.reason not in NO_ROOM):
        raise Mismatch(
            f"a gift that is refused as {data.reason} has {'an' if data.reason in NO_ROOM else 'no'} amount"
        )


def _referral_code_granted(book: Book, event: Record, data: Any, _: LookUp) -> None:
    if event.user_id == data.claimed_by:
        return
    if code_of(event, CODE) != data.code:
        raise Mismatch(f"{event.user_id} is not the stream of {data.code}")
    if data.code in book.code_owners:
        raise Mismatch(f"the code {data.code} belongs to {book.code_owners[data.code]}")
    book.code_owners[data.code] = data.claimed_by


def _referral_code_refused(book: Book, event: Record, data: Any, _: LookUp) -> None:
    if event.user_id == data.claimed_by:
        return
    if code_of(event, CODE) != data.code:
        raise Mismatch(f"{event.user_id} is not the stream of {data.code}")
    if data.code not in book.code_owners:
        raise Mismatch(f"the code {data.code} has no owner, but it is refused")


def _referral_resolved(book: Book, event: Record, data: Any, _: LookUp) -> None:
    code = code_of(event, CODE)
    owner = book.code_owners.get(code)
    if owner != data.referrer_id or owner == data.member:
        raise Mismatch(f"the owner of the code {code} is {owner}")


def _referral_unknown(book: Book, event: Record, data: Any, _: LookUp) -> None:
    code = code_of(event, CODE)
    owner = book.code_owners.get(code)
    if owner not in (None, data.member):
        raise Mismatch(f"the owner of the code {code} is {owner}")


HANDLERS: Final[dict[str, Handler]] = {
    "gift_created": _gift_created,
    "gift_closed": _gift_closed,
    "gift_share_granted": _gift_share_granted,
    "gift_share_refused": _gift_share_refused,
    "gift_received": _gift_received,
    "gift_refused": _gift_refused,
    "referral_code_granted": _referral_code_granted,
    "referral_code_refused": _referral_code_refused,
    "referral_resolved": _referral_resolved,
    "referral_unknown": _referral_unknown,
}

STREAM_OF: Final = {
    **dict.fromkeys(("gift_created", "gift_closed", "gift_share_granted", "gift_share_refused"), GIFT),
    **dict.fromkeys(
        ("referral_code_granted", "referral_code_refused", "referral_resolved", "referral_unknown"), CODE
    ),
}
"""Event type → the prefix of its stream's name. The events that grant or refuse a code are also on the claimant's
wallet."""
