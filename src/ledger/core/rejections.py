"""Every reason to refuse a command, declared in the order of precedence: the first that applies is returned.

A rejection is a value, not an exception, because it is normal: nothing is written and the ``command_id`` stays free.
The checks that come before these (401, 400, 403, a repeated command) are done before the core is called.
"""

from enum import StrEnum

from msgspec import Struct


class Code(StrEnum):
    """The broken rule, named as the contract's problem code."""

    WALLET_NOT_OPEN = "wallet_not_open"
    WALLET_CLOSED = "wallet_closed"
    WALLET_ALREADY_OPEN = "wallet_already_open"
    WALLET_FROZEN = "wallet_frozen"
    SAME_WALLET = "same_wallet"
    UNKNOWN_GAME = "unknown_game"
    PERIOD_CLOSED = "period_closed"
    PERIOD_NOT_CLOSED = "period_not_closed"
    INVALID_SELECTION = "invalid_selection"
    INVALID_RESULT = "invalid_result"
    BET_CANCELLED_BEFORE = "bet_cancelled_before"
    ORDER_ID_REUSED = "order_id_reused"
    BET_ID_REUSED = "bet_id_reused"
    HOLD_ID_REUSED = "hold_id_reused"
    TRANSFER_ID_REUSED = "transfer_id_reused"
    GRANT_ID_REUSED = "grant_id_reused"
    ADJUSTMENT_ID_REUSED = "adjustment_id_reused"
    ORDER_NOT_FOUND = "order_not_found"
    BET_NOT_FOUND = "bet_not_found"
    HOLD_NOT_FOUND = "hold_not_found"
    ADJUSTMENT_NOT_FOUND = "adjustment_not_found"
    HOLD_EXPIRED = "hold_expired"
    ALREADY_RESOLVED = "already_resolved"
    RESULT_ALREADY_RECORDED = "result_already_recorded"
    SETTLED_BY_RESULT = "settled_by_result"
    SAME_ACTOR = "same_actor"
    CANNOT_REVERSE = "cannot_reverse"
    UNKNOWN_ASSET = "unknown_asset"
    AMOUNT_OUT_OF_RANGE = "amount_out_of_range"
    CAPTURE_EXCEEDS_HOLD = "capture_exceeds_hold"
    NOT_ELIGIBLE = "not_eligible"
    ALREADY_CLAIMED = "already_claimed"
    WITHDRAWAL_OUT_OF_BOUNDS = "withdrawal_out_of_bounds"
    WITHDRAWALS_PER_DAY_EXCEEDED = "withdrawals_per_day_exceeded"
    WAGERING_INCOMPLETE = "wagering_incomplete"
    BALANCE_MAX_EXCEEDED = "balance_max_exceeded"
    STAKE_MAX_EXCEEDED = "stake_max_exceeded"
    WITHDRAWAL_MAX_EXCEEDED = "withdrawal_max_exceeded"
    INSUFFICIENT_FUNDS = "insufficient_funds"
    CREDIT_LIMIT_EXCEEDED = "credit_limit_exceeded"
    WALLET_NOT_EMPTY = "wallet_not_empty"


class Rejection(Struct, frozen=True, gc=False):
    """A refusal: the rule, one sentence for a person, and fields with which the client can act."""

    code: Code
    detail: str
    fields: dict[str, int | str] = {}
