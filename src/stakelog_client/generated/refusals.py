"""One exception for each code that a request can be refused with.

Written by `make schemas` from openapi.json: do not edit.
"""

from typing import Final

from stakelog_client.errors import Refused


class MalformedRequest(Refused):
    """Malformed request (status 400)."""


class Unauthenticated(Refused):
    """Not authenticated (status 401)."""


class Forbidden(Refused):
    """Forbidden (status 403)."""


class WalletNotFound(Refused):
    """Wallet not found (status 404)."""


class TransferNotFound(Refused):
    """Transfer not found (status 404)."""


class EventNotFound(Refused):
    """Event not found (status 404)."""


class GameNotFound(Refused):
    """Game not found (status 404)."""


class PeriodNotFound(Refused):
    """Period not found (status 404)."""


class NotFound(Refused):
    """Not found (status 404)."""


class MethodNotAllowed(Refused):
    """Method not allowed (status 405)."""


class RequestTooLarge(Refused):
    """Request too large (status 413)."""


class UnsupportedMediaType(Refused):
    """Unsupported media type (status 415)."""


class ClientExists(Refused):
    """Client exists (status 409)."""


class LastAdmin(Refused):
    """Last enabled admin (status 409)."""


class TooManyWebhooks(Refused):
    """Too many webhooks (status 409)."""


class CommandIdReused(Refused):
    """command_id reused for another command (status 409)."""


class OrderIdReused(Refused):
    """order_id already used (status 409)."""


class BetIdReused(Refused):
    """bet_id already used (status 409)."""


class HoldIdReused(Refused):
    """hold_id already used (status 409)."""


class TransferIdReused(Refused):
    """transfer_id already used (status 409)."""


class GrantIdReused(Refused):
    """grant_id already used (status 409)."""


class AdjustmentIdReused(Refused):
    """adjustment_id already used (status 409)."""


class AlreadyResolved(Refused):
    """Already resolved (status 409)."""


class AlreadyClaimed(Refused):
    """Already claimed (status 409)."""


class ResultAlreadyRecorded(Refused):
    """Result already recorded (status 409)."""


class WalletNotOpen(Refused):
    """Wallet not open (status 422)."""


class WalletAlreadyOpen(Refused):
    """Wallet already open (status 422)."""


class WalletFrozen(Refused):
    """Wallet frozen (status 422)."""


class WalletClosed(Refused):
    """Wallet closed (status 422)."""


class WalletNotEmpty(Refused):
    """Wallet not empty (status 422)."""


class UnknownAsset(Refused):
    """Unknown asset (status 422)."""


class AmountOutOfRange(Refused):
    """Amount out of range (status 422)."""


class InsufficientFunds(Refused):
    """Insufficient funds (status 422)."""


class CreditLimitExceeded(Refused):
    """Credit limit exceeded (status 422)."""


class BalanceMaxExceeded(Refused):
    """Balance limit exceeded (status 422)."""


class StakeMaxExceeded(Refused):
    """Stake limit exceeded (status 422)."""


class WithdrawalMaxExceeded(Refused):
    """Daily withdrawal limit exceeded (status 422)."""


class BetNotFound(Refused):
    """Bet not found (status 422)."""


class HoldNotFound(Refused):
    """Hold not found (status 422)."""


class OrderNotFound(Refused):
    """Order not found (status 422)."""


class AdjustmentNotFound(Refused):
    """Adjustment not found (status 422)."""


class HoldExpired(Refused):
    """Hold expired (status 422)."""


class CaptureExceedsHold(Refused):
    """Capture exceeds the hold (status 422)."""


class UnknownGame(Refused):
    """Unknown game (status 422)."""


class PeriodClosed(Refused):
    """Period takes no bets (status 422)."""


class PeriodNotClosed(Refused):
    """Period not over yet (status 422)."""


class InvalidSelection(Refused):
    """Invalid selection (status 422)."""


class InvalidResult(Refused):
    """Invalid result (status 422)."""


class SettledByResult(Refused):
    """Settled by the result of its period (status 422)."""


class BetCancelledBefore(Refused):
    """Bet cancelled before it arrived (status 422)."""


class SameWallet(Refused):
    """Same wallet (status 422)."""


class SameActor(Refused):
    """Another actor must approve (status 422)."""


class CannotReverse(Refused):
    """Event cannot be reversed (status 422)."""


class NotEligible(Refused):
    """Not eligible (status 422)."""


class WithdrawalOutOfBounds(Refused):
    """Withdrawal out of bounds (status 422)."""


class WithdrawalsPerDayExceeded(Refused):
    """Too many withdrawals today (status 422)."""


class WageringIncomplete(Refused):
    """Wagering incomplete (status 422)."""


BY_CODE: Final[dict[str, type[Refused]]] = {
    "malformed_request": MalformedRequest,
    "unauthenticated": Unauthenticated,
    "forbidden": Forbidden,
    "wallet_not_found": WalletNotFound,
    "transfer_not_found": TransferNotFound,
    "event_not_found": EventNotFound,
    "game_not_found": GameNotFound,
    "period_not_found": PeriodNotFound,
    "not_found": NotFound,
    "method_not_allowed": MethodNotAllowed,
    "request_too_large": RequestTooLarge,
    "unsupported_media_type": UnsupportedMediaType,
    "client_exists": ClientExists,
    "last_admin": LastAdmin,
    "too_many_webhooks": TooManyWebhooks,
    "command_id_reused": CommandIdReused,
    "order_id_reused": OrderIdReused,
    "bet_id_reused": BetIdReused,
    "hold_id_reused": HoldIdReused,
    "transfer_id_reused": TransferIdReused,
    "grant_id_reused": GrantIdReused,
    "adjustment_id_reused": AdjustmentIdReused,
    "already_resolved": AlreadyResolved,
    "already_claimed": AlreadyClaimed,
    "result_already_recorded": ResultAlreadyRecorded,
    "wallet_not_open": WalletNotOpen,
    "wallet_already_open": WalletAlreadyOpen,
    "wallet_frozen": WalletFrozen,
    "wallet_closed": WalletClosed,
    "wallet_not_empty": WalletNotEmpty,
    "unknown_asset": UnknownAsset,
    "amount_out_of_range": AmountOutOfRange,
    "insufficient_funds": InsufficientFunds,
    "credit_limit_exceeded": CreditLimitExceeded,
    "balance_max_exceeded": BalanceMaxExceeded,
    "stake_max_exceeded": StakeMaxExceeded,
    "withdrawal_max_exceeded": WithdrawalMaxExceeded,
    "bet_not_found": BetNotFound,
    "hold_not_found": HoldNotFound,
    "order_not_found": OrderNotFound,
    "adjustment_not_found": AdjustmentNotFound,
    "hold_expired": HoldExpired,
    "capture_exceeds_hold": CaptureExceedsHold,
    "unknown_game": UnknownGame,
    "period_closed": PeriodClosed,
    "period_not_closed": PeriodNotClosed,
    "invalid_selection": InvalidSelection,
    "invalid_result": InvalidResult,
    "settled_by_result": SettledByResult,
    "bet_cancelled_before": BetCancelledBefore,
    "same_wallet": SameWallet,
    "same_actor": SameActor,
    "cannot_reverse": CannotReverse,
    "not_eligible": NotEligible,
    "withdrawal_out_of_bounds": WithdrawalOutOfBounds,
    "withdrawals_per_day_exceeded": WithdrawalsPerDayExceeded,
    "wagering_incomplete": WageringIncomplete,
}
