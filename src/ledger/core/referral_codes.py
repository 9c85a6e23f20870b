"""Referral codes: a code belongs to the first wallet that claims it, permanently. A wallet can be opened with one.

The stream ``code:<code>`` has the owner. ``referral_code_claimed`` and ``wallet_opened`` with a code send a follow-up
to the stream, so no signup waits for a read model. The outcome is an event on the stream, and then an event on the
wallet.

Invariants:
(1) a code has at most one owner, and the owner never changes;
(2) a wallet has at most one code: while a claim is under way or granted, another claim is refused;
(3) a wallet is never its own referrer.
"""

from ledger.core.case import Case, Decision, event_of
from ledger.core.changes import Step
from ledger.core.commands import ClaimReferralCode
from ledger.core.events import Event
from ledger.core.fields import CODE_STREAM
from ledger.core.follow_up_commands import ConcludeCodeClaim, GrantReferralCode, ResolveReferral, SetReferrer
from ledger.core.gift_events import (
    ReferralCodeClaimed,
    ReferralCodeGranted,
    ReferralCodeRefused,
    ReferralResolved,
    ReferralUnknown,
    ReferrerSet,
)
from ledger.core.items import CODE_KEY, Item, ReferralCode
from ledger.core.postings import ledger_event
from ledger.core.rejections import Code, Rejection
from ledger.core.wallet import Wallet


def claim_referral_code(case: Case, command: ClaimReferralCode) -> Decision:
    own = _code(case.items[CODE_KEY])
    if own is not None and own.status != "refused":
        detail = f"this wallet has the code {own.code}" if own.status == "granted" else f"it is claiming {own.code}"
        return Rejection(Code.ALREADY_CLAIMED, detail, {"referral_code": own.code})
    return event_of(case, ReferralCodeClaimed(code=command.code, metadata=command.metadata))


# --- follow-ups ---------------------------------------------------------------------------------------------------


def grant_code(follow_up: GrantReferralCode, stream: Wallet, item: Item | None, time_us: int) -> Event:
    """On the stream of the code."""
    data = ReferralCodeGranted if _code(item) is None else ReferralCodeRefused
    code = stream.user_id.removeprefix(CODE_STREAM)
    outcome = data(cause=follow_up.cause, claimed_by=follow_up.claimed_by, code=code)
    return ledger_event(stream, follow_up.command_id, time_us, outcome)


def conclude_claim(follow_up: ConcludeCodeClaim, wallet: Wallet, time_us: int) -> Event:
    """On the wallet that claimed."""
    data = ReferralCodeGranted if follow_up.granted else ReferralCodeRefused
    outcome = data(cause=follow_up.cause, claimed_by=wallet.user_id, code=follow_up.code)
    return ledger_event(wallet, follow_up.command_id, time_us, outcome)


def resolve_referral(follow_up: ResolveReferral, stream: Wallet, item: Item | None, time_us: int) -> Event:
    """On the stream of the code. If the opened wallet itself has claimed the code meanwhile, it has no referrer."""
    code, member = _code(item), follow_up.member
    if code is None or code.owner == member:
        unknown = ReferralUnknown(cause=follow_up.cause, member=member)
        return ledger_event(stream, follow_up.command_id, time_us, unknown)
    resolved = ReferralResolved(cause=follow_up.cause, member=member, referrer_id=code.owner)
    return ledger_event(stream, follow_up.command_id, time_us, resolved)


def set_referrer(follow_up: SetReferrer, wallet: Wallet, time_us: int) -> Event:
    """On the wallet that was opened with the code."""
    assert wallet.referrer_id is None, wallet
    data = ReferrerSet(cause=follow_up.cause, code=follow_up.code, referrer_id=follow_up.referrer_id)
    return ledger_event(wallet, follow_up.command_id, time_us, data)


def _code(item: Item | None) -> ReferralCode | None:
    assert item is None or isinstance(item, ReferralCode), item
    return item


# --- what the events change ---------------------------------------------------------------------------------------


def referral_code_claimed(after: Wallet, data: ReferralCodeClaimed, _step: Step) -> dict[str, Item]:
    return {CODE_KEY: ReferralCode("open", data.code, after.user_id)}


def referral_code_granted(_after: Wallet, data: ReferralCodeGranted, _step: Step) -> dict[str, Item]:
    return {CODE_KEY: ReferralCode("granted", data.code, data.claimed_by)}


def referral_code_refused(after: Wallet, data: ReferralCodeRefused, _step: Step) -> dict[str, Item]:
    if after.user_id != data.claimed_by:
        return {}  # on the stream: the owner stays
    return {CODE_KEY: ReferralCode("refused", data.code, data.claimed_by)}


def referrer_set(after: Wallet, data: ReferrerSet, _step: Step) -> dict[str, Item]:
    after.referrer_id = data.referrer_id
    return {}
