"""Gifts and referral codes in the reference model: everything is found by scanning the facts of a stream or a wallet.

Where the contract can be read in two ways:

1. The stream of a gift hands out its shares in the order in which the claims arrive there.
2. A gift is expired when its ``expires_at_us`` is not after the time of the fact on its stream. Of several reasons to
   refuse a share the first of these counts: ``not_found``, ``closed``, ``used_up``, ``expired``.
3. A second ``create_gift`` of a code is ``already_resolved``, also with other fields; ``close_gift`` of a gift that
   was never created is ``not_eligible``. A gift has at least one unit for each share, else ``amount_out_of_range``.
4. A wallet whose claim the gift refused may claim it again. A share for which the wallet had no room counts as
   claimed.
5. A wallet has a code from its claim on, unless the claim is refused. A referral code and the code of a gift may be
   the same text.
6. A wallet that was opened with its own code gets no referrer by it.
"""

from collections.abc import Sequence
from typing import Any, Final

AMOUNT_MAX: Final = 2**53 - 1
Fact = Any


def _of_type(facts: Sequence[Fact], *types: str) -> list[Fact]:
    return [fact for fact in facts if fact.type in types]


# ---- gifts: facts of the stream ``gift:<code>``


def create_refused(stream: Sequence[Fact], command: dict[str, Any], assets: frozenset[str]) -> str | None:
    if _of_type(stream, "gift_created"):
        return "already_resolved"
    if command["asset"] not in assets:
        return "unknown_asset"
    if not 1 <= command["amount"] <= AMOUNT_MAX or not 1 <= command["claims"] <= command["amount"]:
        return "amount_out_of_range"
    return None


def close_refused(stream: Sequence[Fact]) -> str | None:
    if not _of_type(stream, "gift_created"):
        return "not_eligible"
    return "already_resolved" if _of_type(stream, "gift_closed") else None


def next_share(stream: Sequence[Fact], time_us: int) -> dict[str, Any]:
    """``asset``, ``amount`` and ``share`` of the share that the next claim gets; if it gets none, the ``reason``."""
    created = _of_type(stream, "gift_created")
    if not created:
        return {"reason": "not_found"}
    gift, granted = created[0].data, len(_of_type(stream, "gift_share_granted"))
    if _of_type(stream, "gift_closed"):
        return {"reason": "closed"}
    if granted == gift["claims"]:
        return {"reason": "used_up"}
    if "expires_at_us" in gift and gift["expires_at_us"] <= time_us:
        return {"reason": "expired"}
    return {"asset": gift["asset"], "amount": shares(gift["amount"], gift["claims"])[granted], "share": granted + 1}


def shares(amount: int, claims: int) -> list[int]:
    """The amounts of the shares, in order: equal parts, and a unit more for each of the first ones until nothing is
    left."""
    parts = [amount // claims] * claims
    for number in range(amount - sum(parts)):
        parts[number] += 1
    return parts


# ---- gifts: facts of the wallet


def may_claim(wallet: Sequence[Fact], code: str) -> bool:
    claims = [fact for fact in _of_type(wallet, "gift_claimed") if fact.data["code"] == code]
    without_share = [
        fact for fact in _of_type(wallet, "gift_refused") if fact.data["code"] == code and "amount" not in fact.data
    ]
    return len(claims) == len(without_share)


def claims_under_way(wallet: Sequence[Fact]) -> int:
    return len(_of_type(wallet, "gift_claimed")) - len(_of_type(wallet, "gift_received", "gift_refused"))


# ---- referral codes


def owner_of(stream: Sequence[Fact]) -> str | None:
    """The owner of the code of the stream ``code:<code>``."""
    granted = _of_type(stream, "referral_code_granted")
    return granted[0].data["claimed_by"] if granted else None


def has_code(wallet: Sequence[Fact]) -> bool:
    return len(_of_type(wallet, "referral_code_claimed")) > len(_of_type(wallet, "referral_code_refused"))


def referrer_of(wallet: Sequence[Fact]) -> str | None:
    for fact in _of_type(wallet, "wallet_opened", "referrer_set"):
        if "referrer_id" in fact.data:
            referrer_id: str = fact.data["referrer_id"]
            return referrer_id
    return None
