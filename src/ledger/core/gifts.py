"""Gifts: an amount that users claim in shares by a code. Has the commands, the events, and what the events change.

The stream ``gift:<code>`` has the gift and grants the shares, in the order in which the claims arrive. So a gift has
one writer, and no share is granted twice. ``gift_claimed`` on a wallet sends a claim to the stream; the outcome is an
event on the stream, and then an event on the wallet.

Invariants:
(1) the shares of a gift add up to its amount: the first ``amount % claims`` shares have one unit more;
(2) a gift grants at most ``claims`` shares, and a wallet gets at most one share of it;
(3) a claim under way is an open item of its wallet, so the wallet cannot be closed before the share arrives;
(4) a gift refuses with the first reason that applies: closed, used up, expired. Closed and used up are permanent.
"""

from msgspec.structs import replace

from ledger.core import wagering
from ledger.core.case import Case, Decision, already_resolved, event_of, out_of_range, unknown_asset
from ledger.core.changes import Step, add_to_grant, existing
from ledger.core.commands import ClaimGift, CloseGift, CreateGift
from ledger.core.consequences import expiry_of, own_grant_id
from ledger.core.events import HOUSE_GIFTS, Event
from ledger.core.fields import GIFT_STREAM
from ledger.core.follow_up_commands import ConcludeGiftClaim, GrantGiftShare
from ledger.core.games.rules import RuleBook
from ledger.core.gift_events import (
    CLOSED,
    EXPIRED,
    NOT_FOUND,
    USED_UP,
    GiftClaimed,
    GiftClosed,
    GiftCreated,
    GiftReceived,
    GiftRefused,
    GiftShareGranted,
    GiftShareRefused,
)
from ledger.core.items import GIFT_KEY, Gift, GiftClaim, GrantTaken, Item, gift_claim_key, grant_key
from ledger.core.money import in_bounds, is_amount
from ledger.core.money_rules import NO_MONEY_RULES
from ledger.core.postings import balances_with, ledger_event, owned_or_due, pay
from ledger.core.rejections import Code, Rejection
from ledger.core.wallet import Grant, Wallet, balance_sum, limits_of

KIND = "gift"
"""The kind of the grant that a share becomes; its id is ``~gift:<n>``."""


def share_of(amount: int, claims: int, number: int) -> int:
    """The amount of the share ``number``, 1 … claims."""
    assert 1 <= number <= claims, (number, claims)
    part, rest = divmod(amount, claims)
    return part + (number <= rest)


# --- commands -----------------------------------------------------------------------------------------------------


def create_gift(case: Case, command: CreateGift) -> Decision:
    asset, amount, claims = command.asset, command.amount, command.claims
    if (gift := _gift(case.items[GIFT_KEY])) is not None:
        return already_resolved("gift", _code_of(case.wallet), _refusal(gift, case.time_us) or "open")
    if asset not in case.assets:
        return unknown_asset(case, asset)
    if not is_amount(amount):
        return out_of_range(case, "amount", asset, amount)
    if not 1 <= claims <= amount:
        detail = f"a gift of {amount} units has 1 to {amount} shares"
        return Rejection(Code.AMOUNT_OUT_OF_RANGE, detail, {"field": "claims"})
    return event_of(
        case,
        GiftCreated(
            amount=amount,
            asset=asset,
            claims=claims,
            expires_at_us=command.expires_at_us,
            metadata=command.metadata,
        ),
    )


def close_gift(case: Case, command: CloseGift) -> Decision:
    gift = _gift(case.items[GIFT_KEY])
    if gift is not None and gift.closed:
        return already_resolved("gift", _code_of(case.wallet), CLOSED)
    if gift is None:
        return Rejection(Code.NOT_ELIGIBLE, f"there is no gift {_code_of(case.wallet)}", {"field": "user_id"})
    return event_of(case, GiftClosed(metadata=command.metadata, reason=command.reason))


def claim_gift(case: Case, command: ClaimGift) -> Decision:
    claim = case.items[gift_claim_key(command.code)]
    if claim is not None:
        assert isinstance(claim, GiftClaim), claim
        if claim.status != "no_share":
            detail = f"this wallet has claimed the gift {command.code} already"
            return Rejection(Code.ALREADY_CLAIMED, detail, {"gift": command.code})
    return event_of(case, GiftClaimed(code=command.code, metadata=command.metadata))


# --- follow-ups ---------------------------------------------------------------------------------------------------


def grant_share(follow_up: GrantGiftShare, stream: Wallet, item: Item | None, time_us: int) -> Event:
    """On the stream of the gift."""
    gift = _gift(item)
    reason = NOT_FOUND if gift is None else _refusal(gift, time_us)
    if gift is None or reason is not None:
        refused = GiftShareRefused(cause=follow_up.cause, claimed_by=follow_up.claimed_by, reason=reason or NOT_FOUND)
        return ledger_event(stream, follow_up.command_id, time_us, refused)
    number = gift.granted + 1
    granted = GiftShareGranted(
        amount=share_of(gift.amount, gift.claims, number),
        asset=gift.asset,
        cause=follow_up.cause,
        claimed_by=follow_up.claimed_by,
        share=number,
    )
    return ledger_event(stream, follow_up.command_id, time_us, granted)


def conclude_claim(follow_up: ConcludeGiftClaim, wallet: Wallet, time_us: int, book: RuleBook) -> Event:
    """On the wallet that claimed."""
    asset, amount, code = follow_up.asset, follow_up.amount, follow_up.code
    assert wallet.status in ("open", "frozen"), "a wallet with a claim under way cannot be closed"
    if asset is None or amount is None:
        assert follow_up.refusal is not None, follow_up
        refused = GiftRefused(cause=follow_up.cause, code=code, reason=follow_up.refusal)
        return ledger_event(wallet, follow_up.command_id, time_us, refused)
    if (no_room := _no_room(wallet, asset, amount)) is not None:
        refused = GiftRefused(amount=amount, asset=asset, cause=follow_up.cause, code=code, reason=no_room)
        return ledger_event(wallet, follow_up.command_id, time_us, refused)
    rules = book.money.get(asset, NO_MONEY_RULES)
    return ledger_event(
        wallet,
        follow_up.command_id,
        time_us,
        GiftReceived(
            amount=amount,
            asset=asset,
            cause=follow_up.cause,
            code=code,
            expires_at_us=expiry_of(rules, time_us),
            grant_id=own_grant_id(wallet, KIND),
            rules=book.money_digest if asset in book.money else None,
            wagering=wagering.addition(wallet, asset, rules, bonus=amount),
        ),
        pay(wallet.user_id, HOUSE_GIFTS, asset, 0, amount),
        balances_with(wallet, asset, 0, amount),
    )


def _no_room(wallet: Wallet, asset: str, amount: int) -> str | None:
    if not in_bounds(owned_or_due(wallet, asset) + amount):
        return Code.AMOUNT_OUT_OF_RANGE.value
    maximum = limits_of(wallet, asset).balance_max
    if maximum is not None and balance_sum(wallet, asset) + amount > maximum:
        return Code.BALANCE_MAX_EXCEEDED.value
    return None


def _refusal(gift: Gift, time_us: int) -> str | None:
    """Why the gift grants no share at ``time_us``; None if it grants one."""
    if gift.closed:
        return CLOSED
    if gift.granted == gift.claims:
        return USED_UP
    if gift.expires_at_us is not None and gift.expires_at_us <= time_us:
        return EXPIRED
    return None


def _gift(item: Item | None) -> Gift | None:
    assert item is None or isinstance(item, Gift), item
    return item


def _code_of(stream: Wallet) -> str:
    return stream.user_id.removeprefix(GIFT_STREAM)


# --- what the events change ---------------------------------------------------------------------------------------


def gift_created(_after: Wallet, data: GiftCreated, _step: Step) -> dict[str, Item]:
    return {GIFT_KEY: Gift(data.asset, data.amount, data.claims, data.expires_at_us)}


def gift_closed(_after: Wallet, _data: GiftClosed, step: Step) -> dict[str, Item]:
    return {GIFT_KEY: replace(existing(step.items, GIFT_KEY, Gift), closed=True)}


def gift_share_granted(_after: Wallet, data: GiftShareGranted, step: Step) -> dict[str, Item]:
    gift = existing(step.items, GIFT_KEY, Gift)
    assert gift.granted + 1 == data.share <= gift.claims, (gift, data)
    return {GIFT_KEY: replace(gift, granted=data.share)}


def gift_claimed(after: Wallet, data: GiftClaimed, _step: Step) -> dict[str, Item]:
    after.open_items += 1
    return {gift_claim_key(data.code): GiftClaim("open")}


def gift_received(after: Wallet, data: GiftReceived, step: Step) -> dict[str, Item]:
    after.open_items -= 1
    after.own_grants = {**after.own_grants, KIND: after.own_grants.get(KIND, 0) + 1}
    add_to_grant(
        after,
        Grant(
            data.grant_id,
            data.asset,
            data.amount,
            data.expires_at_us,
            step.position.seq,
            data.amount,
            False,
            str(step.position),
        ),
    )
    wagering.add(after, data.asset, data.wagering)
    return {gift_claim_key(data.code): GiftClaim("received"), grant_key(data.grant_id): GrantTaken()}


def gift_refused(after: Wallet, data: GiftRefused, _step: Step) -> dict[str, Item]:
    after.open_items -= 1
    return {gift_claim_key(data.code): GiftClaim("no_share" if data.asset is None else "no_room")}
