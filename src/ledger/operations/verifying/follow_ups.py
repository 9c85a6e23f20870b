"""Matches what one wallet sends with what another wallet records: each follow-up is recorded once, with the content
that was sent, and not at an earlier time.

The ``command_id`` of a recorded follow-up is ``~<head of its cause>:0``. So the id names its cause by the
hash, and the follow-up may be recorded in any partition.

Invariants:
(1) memory grows with the follow-ups under way. The caller reads the partitions side by side, page by page, in the
    order of time, so a follow-up is under way for about one page;
(2) a follow-up may be read before its cause, because only pages are in the order of time, not their events.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

from msgspec import UNSET

from ledger.operations.verifying.gifts import CODE, GIFT
from ledger.operations.verifying.postings import Mismatch
from ledger.operations.verifying.records import Record

_LEVELS: Final = 6
_ID: Final = re.compile("~([0-9a-f]{64}):0")
_POSITION: Final = re.compile("(0|[1-9][0-9]{0,3}):([1-9][0-9]{0,15})")

_TRANSFER: Final = "transfer"
_RETURN: Final = "return"
_DELIVERY: Final = "delivery"
_REFERRAL: Final = "referral"
_SIGNUP: Final = "signup by code of"
_REFERRER: Final = "referrer by the code"
_GIFT_CLAIM: Final = "claim of the gift"
_SHARE: Final = "share of the gift"
_NO_SHARE: Final = "refusal of the gift"
_CODE_CLAIM: Final = "claim of the code"
_CODE_OUTCOME: Final = "outcome of the claim of"
_VALID: Final = "valid referral"
_COMMISSION: Final = "commission"

_Expected = tuple[str, tuple[Any, ...], int, str]
"""The wallet that must record it, what it must record, the cause's time and position."""


_Arrived = tuple[str, tuple[Any, ...], int, str, int, int]
"""The wallet, what it recorded, its time, the cause that it names, its partition and seq."""


class FollowUps:
    """All follow-ups under way, over all partitions."""

    def __init__(self) -> None:
        self._sent: dict[str, _Expected] = {}
        self._arrived: dict[str, _Arrived] = {}
        self.referrers: dict[str, str] = {}
        """Wallet → its referrer, as far as the log has been read."""
        self._valid: set[tuple[str, str]] = set()

    def send(self, event: Record, head: str) -> None:
        """Remember what the event sends, if it sends anything. ``head``: the hash of its record. Raises Mismatch."""
        data = event.data
        what: tuple[Any, ...]
        match event.type:
            case "wallet_opened" if data.referral_code:
                to, what = CODE + data.referral_code, (_SIGNUP, event.user_id)
            case "wallet_opened" | "referrer_set":
                if not data.referrer_id:
                    return
                self.referrers[event.user_id] = data.referrer_id
                to = data.referrer_id
                what = (_REFERRAL, event.user_id, 1)
            case "referral_counted":
                referrer = self.referrers.get(event.user_id)
                if referrer is None or referrer == data.member or data.level >= _LEVELS:
                    return
                to, what = referrer, (_REFERRAL, data.member, data.level + 1)
            case "deposited":
                if data.referral_rules is UNSET:
                    return
                to = self.referrers.get(event.user_id)
                key = (event.user_id, data.asset)
                if to is None or key in self._valid:
                    raise Mismatch("the wallet has no referrer, or was a valid referral before")
                self._valid.add(key)
                what = (_VALID, event.user_id, data.asset, data.referral_rules)
            case "commission_due":
                to = self.referrers.get(event.user_id)
                if to is None:
                    raise Mismatch("a commission is due, but the wallet has no referrer")
                what = (_COMMISSION, event.user_id, 1, data.asset, data.day, data.stake, data.rules)
            case "commission_paid":
                if data.referrer_id is UNSET:
                    return
                to = self.referrers.get(event.user_id)
                if to != data.referrer_id or to == data.member or data.level >= _LEVELS:
                    raise Mismatch(f"no commission of level {data.level + 1} goes to {data.referrer_id}")
                what = (_COMMISSION, data.member, data.level + 1, data.asset, data.day, data.stake, data.rules)
            case "transfer_sent":
                to, what = data.to_user_id, (_TRANSFER, data.transfer_id, event.user_id, data.asset, data.amount)
            case "transfer_received":
                to = data.from_user_id
                what = (_DELIVERY, data.transfer_id, event.user_id, data.asset, data.amount)
            case "transfer_refused":
                to = data.from_user_id
                what = (_RETURN, data.transfer_id, event.user_id, data.asset, data.amount, data.reason)
            case _:
                sent_by_code = _sent_about_a_code(event)
                if sent_by_code is None:
                    return
                to, what = sent_by_code
        sent = (to, what, event.time_us, f"{event.partition}:{event.seq}")
        arrived = self._arrived.pop(head, None)
        if arrived is None:
            self._sent[head] = sent
        else:
            _compare(sent, arrived)

    def arrive(self, event: Record) -> None:
        """Check the follow-up that the event records against what its cause sent. Raises Mismatch."""
        data = event.data
        match event.type:
            case "referral_counted" | "referral_void":
                what: tuple[Any, ...] = (_REFERRAL, data.member, data.level)
            case "referral_valid":
                what = (_VALID, data.member, data.asset, data.rules)
            case "commission_paid":
                what = (_COMMISSION, data.member, data.level, data.asset, data.day, data.stake, data.rules)
            case "transfer_received" | "transfer_refused":
                what = (_TRANSFER, data.transfer_id, data.from_user_id, data.asset, data.amount)
            case "transfer_delivered":
                what = (_DELIVERY, data.transfer_id, data.to_user_id, data.asset, data.amount)
            case "transfer_returned":
                what = (_RETURN, data.transfer_id, data.to_user_id, data.asset, data.amount, data.reason)
            case _:
                about_a_code = _recorded_about_a_code(event)
                if about_a_code is None:
                    return
                what = about_a_code
        named = _ID.fullmatch(event.command_id)
        if named is None or _POSITION.fullmatch(data.cause) is None:
            raise Mismatch("its command_id does not name the hash of its cause, or its cause is not a position")
        arrived = (event.user_id, what, event.time_us, data.cause, event.partition, event.seq)
        sent = self._sent.pop(named[1], None)
        if sent is None:
            self._arrived[named[1]] = arrived
        else:
            _compare(sent, arrived)

    def without_cause(self, ends: Sequence[int]) -> tuple[int, int, str] | None:
        """Partition, seq and reason of a follow-up whose cause is not in the log, or None. Of several the one with
        the first cause.

        ``ends``: the last seq of each partition that was read. A cause after it is not examined: the log may have
        grown while its ends were read.
        """
        strays = sorted(self._arrived.values(), key=lambda stray: _position_of(stray[3]))
        for _, what, _, cause, partition, seq in strays:
            of, at = _position_of(cause)
            if of >= len(ends) or at <= ends[of]:
                reason = (
                    f"{cause} did not send the {what[0]} {what[1]} that is recorded here: that record has another "
                    "hash than this one names, so one of the two was rewritten"
                )
                return partition, seq, reason
        return None

    def under_way(self) -> tuple[int, dict[str, int]]:
        """How many transfers are neither received nor returned, and the sums of their amounts by asset."""
        amounts: dict[str, int] = {}
        open_transfers = 0
        for _, what, _, _ in self._sent.values():
            if what[0] in (_TRANSFER, _RETURN):
                open_transfers += 1
                amounts[what[3]] = amounts.get(what[3], 0) + what[4]
        return open_transfers, amounts


def _position_of(position: str) -> tuple[int, int]:
    partition, _, seq = position.partition(":")
    return int(partition), int(seq)


def _compare(sent: _Expected, arrived: _Arrived) -> None:
    to, what, time_us, position = sent
    user_id, recorded, arrived_us, cause, partition, seq = arrived
    if what[:3] == recorded[:3] and what != recorded:
        reason = f"the {what[0]} {what[1]} was sent by {position} with another amount"
    elif what != recorded or to != user_id:
        reason = f"{position}, its cause, sent the {what[0]} {what[1]} to {to}"
    elif cause != position:
        reason = f"it names {cause} as its cause, the cause is {position}"
    elif arrived_us < time_us:
        reason = f"its time is before that of {position}, its cause"
    else:
        return
    raise Mismatch(reason, partition, seq)


def _sent_about_a_code(event: Record) -> tuple[str, tuple[Any, ...]] | None:
    """What an event about a gift or a referral code sends, and to which wallet or stream."""
    data, user_id = event.data, event.user_id
    match event.type:
        case "gift_claimed":
            return GIFT + data.code, (_GIFT_CLAIM, data.code, user_id)
        case "gift_share_granted":
            return data.claimed_by, (_SHARE, user_id.removeprefix(GIFT), data.asset, data.amount)
        case "gift_share_refused":
            return data.claimed_by, (_NO_SHARE, user_id.removeprefix(GIFT), data.reason)
        case "referral_code_claimed":
            return CODE + data.code, (_CODE_CLAIM, data.code, user_id)
        case "referral_code_granted" | "referral_code_refused" if user_id != data.claimed_by:
            return data.claimed_by, (_CODE_OUTCOME, data.code, event.type)
        case "referral_resolved":
            return data.member, (_REFERRER, user_id.removeprefix(CODE), data.referrer_id)
        case _:
            return None


def _recorded_about_a_code(event: Record) -> tuple[Any, ...] | None:
    """What an event about a gift or a referral code records of what was sent."""
    data, user_id = event.data, event.user_id
    match event.type:
        case "gift_share_granted" | "gift_share_refused":
            return (_GIFT_CLAIM, user_id.removeprefix(GIFT), data.claimed_by)
        case "gift_refused" if data.asset is UNSET:
            return (_NO_SHARE, data.code, data.reason)
        case "gift_received" | "gift_refused":
            return (_SHARE, data.code, data.asset, data.amount)
        case "referral_code_granted" | "referral_code_refused":
            if user_id == data.claimed_by:
                return (_CODE_OUTCOME, data.code, event.type)
            return (_CODE_CLAIM, data.code, data.claimed_by)
        case "referral_resolved" | "referral_unknown":
            return (_SIGNUP, data.member)
        case "referrer_set":
            return (_REFERRER, data.code, data.referrer_id)
        case _:
            return None
