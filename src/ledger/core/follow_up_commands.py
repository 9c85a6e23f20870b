"""Follow-ups: the commands that events send to other wallets and streams. ``follow_ups`` decides them.

They repeat the data of the event that sends them. Each always leaves an event. Their ids begin with "~".
"""

from msgspec import Struct


class FollowUp(Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True, gc=False):
    """A command that an event sends to another wallet, delivered at least once under one id.

    ``command_id`` is ``~<head of the cause>:<n>``, ``cause`` the position of the event that sent it, and
    ``cause_time_us`` its time: the event of the follow-up is never dated before it.
    """

    command_id: str
    user_id: str
    cause: str
    cause_time_us: int


class ReceiveTransfer(FollowUp, frozen=True, kw_only=True, tag="receive_transfer"):
    transfer_id: str
    from_user_id: str
    asset: str
    amount: int


class ConcludeTransfer(FollowUp, frozen=True, kw_only=True, tag="conclude_transfer"):
    """Ends a transfer in the sender's wallet: delivered if ``refusal`` is None, else returned for that reason."""

    transfer_id: str
    to_user_id: str
    asset: str
    amount: int
    refusal: str | None = None


class CountReferral(FollowUp, frozen=True, kw_only=True, tag="count_referral"):
    member: str
    level: int


class GrantGiftShare(FollowUp, frozen=True, kw_only=True, tag="grant_gift_share"):
    """Asks a gift for a share."""

    claimed_by: str


class ConcludeGiftClaim(FollowUp, frozen=True, kw_only=True, tag="conclude_gift_claim"):
    """Ends a claim in the wallet: with ``amount`` of ``asset`` if ``refusal`` is None, else without a share."""

    code: str
    asset: str | None = None
    amount: int | None = None
    refusal: str | None = None


class GrantReferralCode(FollowUp, frozen=True, kw_only=True, tag="grant_referral_code"):
    """Asks the stream of a code to grant the code to ``claimed_by``."""

    claimed_by: str


class ConcludeCodeClaim(FollowUp, frozen=True, kw_only=True, tag="conclude_code_claim"):
    """Ends the claim of a code in the wallet."""

    code: str
    granted: bool


class ResolveReferral(FollowUp, frozen=True, kw_only=True, tag="resolve_referral"):
    """Asks a code for its owner, because ``member`` was opened with it."""

    member: str


class SetReferrer(FollowUp, frozen=True, kw_only=True, tag="set_referrer"):
    code: str
    referrer_id: str


class PayCommission(FollowUp, frozen=True, kw_only=True, tag="pay_commission"):
    """Pays the referrer ``level`` steps above ``member`` a commission on the stakes of ``day``, an ISO date, by the
    rules of a digest."""

    member: str
    level: int
    asset: str
    day: str
    stake: int
    rules: str


class CountValidReferral(FollowUp, frozen=True, kw_only=True, tag="count_valid_referral"):
    """Counts ``member`` as a valid referral in the asset, by the rules of a digest."""

    member: str
    asset: str
    rules: str


class ResolvePeriod(FollowUp, frozen=True, kw_only=True, tag="resolve_period"):
    """Settles the open bets of a period in one partition by ``result``, or returns them where it is None.

    It is for a partition, so ``user_id`` is ``partition:<n>``. Its events are those that end the bets. The open bets
    record what is left to do, so it is not kept as an open follow-up and has no event of its own: a partition with an
    open bet asks for it again (``node/unsettled``).
    """

    game: str
    period: str
    result: str | None = None
    reason: str | None = None


WalletFollowUp = (
    ReceiveTransfer
    | ConcludeTransfer
    | CountReferral
    | CountValidReferral
    | PayCommission
    | GrantGiftShare
    | ConcludeGiftClaim
    | GrantReferralCode
    | ConcludeCodeClaim
    | ResolveReferral
    | SetReferrer
)
AnyFollowUp = WalletFollowUp | ResolvePeriod
