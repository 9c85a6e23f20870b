"""Every problem that a response can be: one table from code to status, and the body by RFC 9457.

``application/problem+json`` with ``type`` (``urn:stakelog:problem:<code>``), ``title``, ``status``, ``detail``,
``code``, and fields that help the caller.

Invariants:
(1) every rejection of the core and every ``Failed`` of a writer has its row; a test checks it;
(2) the ``detail`` of a failure outside of the ledger is a sentence of ours: no path, no host, no text of a driver.
"""

import logging
from collections import defaultdict
from math import ceil
from typing import Any, Final, NamedTuple

import msgspec

from api.identity.roles import MAY_POST
from api.limits.buckets import Limited
from ledger.core.rejections import Code
from ledger.errors import LedgerError
from ledger.pacing import RareWarnings
from ledger.writer.requests import Failed, IdReused, OtherGame, Refused
from projections.storage.port import message_for_log

MEDIA_TYPE: Final = "application/problem+json"

_warnings: Final[defaultdict[type[LedgerError], RareWarnings]] = defaultdict(
    lambda: RareWarnings(logging.getLogger(__name__))
)


class Kind(NamedTuple):
    """A problem's status and title; ``retry_after_s`` where the same request may succeed later."""

    status: int
    title: str
    retry_after_s: int | None = None


KINDS: Final[dict[str, Kind]] = {
    "malformed_request": Kind(400, "Malformed request"),
    "unauthenticated": Kind(401, "Not authenticated"),
    "forbidden": Kind(403, "Forbidden"),
    "wallet_not_found": Kind(404, "Wallet not found"),
    "transfer_not_found": Kind(404, "Transfer not found"),
    "event_not_found": Kind(404, "Event not found"),
    "game_not_found": Kind(404, "Game not found"),
    "period_not_found": Kind(404, "Period not found"),
    "not_found": Kind(404, "Not found"),
    "method_not_allowed": Kind(405, "Method not allowed"),
    "request_timeout": Kind(408, "The body did not arrive in time"),
    "request_too_large": Kind(413, "Request too large"),
    "unsupported_media_type": Kind(415, "Unsupported media type"),
    "client_exists": Kind(409, "Client exists"),
    "last_admin": Kind(409, "Last enabled admin"),
    "too_many_webhooks": Kind(409, "Too many webhooks"),
    "command_id_reused": Kind(409, "command_id reused for another command"),
    "order_id_reused": Kind(409, "order_id already used"),
    "bet_id_reused": Kind(409, "bet_id already used"),
    "hold_id_reused": Kind(409, "hold_id already used"),
    "transfer_id_reused": Kind(409, "transfer_id already used"),
    "grant_id_reused": Kind(409, "grant_id already used"),
    "adjustment_id_reused": Kind(409, "adjustment_id already used"),
    "already_resolved": Kind(409, "Already resolved"),
    "already_claimed": Kind(409, "Already claimed"),
    "result_already_recorded": Kind(409, "Result already recorded"),
    "wallet_not_open": Kind(422, "Wallet not open"),
    "wallet_already_open": Kind(422, "Wallet already open"),
    "wallet_frozen": Kind(422, "Wallet frozen"),
    "wallet_closed": Kind(422, "Wallet closed"),
    "wallet_not_empty": Kind(422, "Wallet not empty"),
    "unknown_asset": Kind(422, "Unknown asset"),
    "amount_out_of_range": Kind(422, "Amount out of range"),
    "insufficient_funds": Kind(422, "Insufficient funds"),
    "credit_limit_exceeded": Kind(422, "Credit limit exceeded"),
    "balance_max_exceeded": Kind(422, "Balance limit exceeded"),
    "stake_max_exceeded": Kind(422, "Stake limit exceeded"),
    "withdrawal_max_exceeded": Kind(422, "Daily withdrawal limit exceeded"),
    "bet_not_found": Kind(422, "Bet not found"),
    "hold_not_found": Kind(422, "Hold not found"),
    "order_not_found": Kind(422, "Order not found"),
    "adjustment_not_found": Kind(422, "Adjustment not found"),
    "hold_expired": Kind(422, "Hold expired"),
    "capture_exceeds_hold": Kind(422, "Capture exceeds the hold"),
    "unknown_game": Kind(422, "Unknown game"),
    "period_closed": Kind(422, "Period takes no bets"),
    "period_not_closed": Kind(422, "Period not over yet"),
    "invalid_selection": Kind(422, "Invalid selection"),
    "invalid_result": Kind(422, "Invalid result"),
    "settled_by_result": Kind(422, "Settled by the result of its period"),
    "bet_cancelled_before": Kind(422, "Bet cancelled before it arrived"),
    "same_wallet": Kind(422, "Same wallet"),
    "same_actor": Kind(422, "Another actor must approve"),
    "cannot_reverse": Kind(422, "Event cannot be reversed"),
    "not_eligible": Kind(422, "Not eligible"),
    "withdrawal_out_of_bounds": Kind(422, "Withdrawal out of bounds"),
    "withdrawals_per_day_exceeded": Kind(422, "Too many withdrawals today"),
    "wagering_incomplete": Kind(422, "Wagering incomplete"),
    "rate_limited": Kind(429, "Too many requests", 1),
    "internal_error": Kind(500, "Internal error"),
    "outcome_unknown": Kind(503, "Outcome unknown: retry the same command_id", 1),
    "not_owner": Kind(503, "Not the owner of the partition", 1),
    "overloaded": Kind(503, "Overloaded", 1),
    "log_unavailable": Kind(503, "Log or read model unavailable; nothing was written", 1),
    "shutting_down": Kind(503, "Shutting down", 2),
    "not_yet_visible": Kind(504, "Not visible in time"),
}

EVERYWHERE: Final = (
    *("malformed_request", "method_not_allowed", "rate_limited", "internal_error", "overloaded", "shutting_down"),
)
"""The codes of every route; a route that is not open to all has those of ``LOGIN`` too."""
LOGIN: Final = ("unauthenticated", "forbidden")
BODY: Final = ("request_timeout", "request_too_large", "unsupported_media_type")
WRITER: Final = ("outcome_unknown", "not_owner", "overloaded", "log_unavailable")
REJECTIONS: Final = ("command_id_reused", *(code.value for code in Code))

NOT_THERE: Final = frozenset(
    {
        *("wallet_not_found", "order_not_found", "bet_not_found", "hold_not_found", "transfer_not_found"),
        *("game_not_found", "period_not_found", "not_found"),
    }
)
"""The codes of a read that finds nothing: 404, although some of them refuse a command with 422."""


class Problem(Exception):
    """A request that ends with a problem; raised in ``api`` only."""

    def __init__(self, code: str, detail: str, **fields: Any) -> None:
        super().__init__(detail)
        self.code, self.detail, self.fields = code, detail, fields

    @property
    def kind(self) -> Kind:
        return KINDS[self.code]

    @property
    def status(self) -> int:
        return self.kind.status

    def body(self) -> dict[str, Any]:
        return {
            "type": f"urn:stakelog:problem:{self.code}",
            "title": self.kind.title,
            "status": self.kind.status,
            "detail": self.detail,
            "code": self.code,
            **self.fields,
        }

    def encoded(self) -> bytes:
        return msgspec.json.encode(self.body())


class NotThere(Problem):
    """A read found nothing; its code is one of ``NOT_THERE``."""

    def __init__(self, code: str, detail: str, **fields: Any) -> None:
        assert code in NOT_THERE, code
        super().__init__(code, detail, **fields)

    @property
    def kind(self) -> Kind:
        return KINDS[self.code]._replace(status=404)


def rate_limited(limited: Limited) -> Problem:
    """The problem of a request that a rate limit refuses."""
    policy, wait_s = limited.policy, max(1, ceil(limited.wait_s))
    return Problem(
        "rate_limited",
        f"too many requests: the limit `{policy.name}` allows {policy.burst} in {policy.window_s} s",
        limit=policy.name,
        quota=policy.burst,
        window_s=policy.window_s,
        retry_after_s=wait_s,
    )


def unavailable(error: LedgerError) -> Problem:
    """The problem of a log or a read model that cannot be used now. The error's text is for the operator: it goes to
    the service log, but not for every request."""
    _warnings[type(error)].warn("a request failed: %s", message_for_log(error))
    return Problem("log_unavailable", error.for_clients)


def problem_of(answer: Refused | OtherGame | IdReused | Failed) -> Problem:
    """The problem for a response of a writer."""
    match answer:
        case Refused(rejection):
            return Problem(rejection.code.value, rejection.detail, **rejection.fields)
        case OtherGame(game):
            detail = f"this client is narrowed to games, and the bet is of another one, {game}"
            return Problem("forbidden", detail, needs=list(MAY_POST["cancel_bet"]), game=game)
        case IdReused(fields, position):
            return Problem(
                "command_id_reused",
                f"the command_id was accepted at {position} with other fields: {', '.join(fields)}",
                fields=list(fields),
                position=position,
            )
        case Failed(reason, detail):
            return Problem(reason, detail)
