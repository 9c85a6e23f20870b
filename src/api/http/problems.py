"""Every problem that an answer can be: one table from code to status, and the body as RFC 9457 has it.

``application/problem+json`` with ``type`` (``urn:stakelog:problem:<code>``), ``title``, ``status``, ``detail``,
``code``, and fields that help the caller. A test holds the table complete: every rejection of the core and every
``Failed`` of a writer has its row.
"""

from typing import Any, Final, NamedTuple

import msgspec

from ledger.writer.requests import Failed, IdReused, Refused

MEDIA_TYPE: Final = "application/problem+json"


class Kind(NamedTuple):
    """A problem's status and title; ``retry_after_s`` where the same request may succeed later."""

    status: int
    title: str
    retry_after_s: int | None = None


KINDS: Final[dict[str, Kind]] = {
    "malformed_request": Kind(400, "The request is malformed"),
    "unauthenticated": Kind(401, "Who asks is not known"),
    "forbidden": Kind(403, "The caller may not do this"),
    "wallet_not_found": Kind(404, "There is no such wallet"),
    "transfer_not_found": Kind(404, "The wallet has sent no such transfer"),
    "event_not_found": Kind(404, "There is no event at this position"),
    "not_found": Kind(404, "There is nothing here"),
    "method_not_allowed": Kind(405, "The method is not allowed here"),
    "request_too_large": Kind(413, "The body is larger than 8 MiB"),
    "unsupported_media_type": Kind(415, "The body must be application/json"),
    "command_id_reused": Kind(409, "The command_id was used for another command"),
    "order_id_reused": Kind(409, "The order_id is used already"),
    "bet_id_reused": Kind(409, "The bet_id is used already"),
    "hold_id_reused": Kind(409, "The hold_id is used already"),
    "transfer_id_reused": Kind(409, "The transfer_id is used already"),
    "grant_id_reused": Kind(409, "The grant_id is used already"),
    "adjustment_id_reused": Kind(409, "The adjustment_id is used already"),
    "already_resolved": Kind(409, "It is resolved already"),
    "wallet_not_open": Kind(422, "The wallet was never opened"),
    "wallet_already_open": Kind(422, "The wallet is open already"),
    "wallet_frozen": Kind(422, "The wallet is frozen"),
    "wallet_closed": Kind(422, "The wallet is closed"),
    "wallet_not_empty": Kind(422, "The wallet is not empty"),
    "unknown_asset": Kind(422, "The asset is not declared"),
    "amount_out_of_range": Kind(422, "The amount is out of range"),
    "insufficient_funds": Kind(422, "The wallet has too little"),
    "credit_limit_exceeded": Kind(422, "The credit limit does not reach that far"),
    "balance_max_exceeded": Kind(422, "The balance would exceed its limit"),
    "stake_max_exceeded": Kind(422, "The day's stakes would exceed their limit"),
    "withdrawal_max_exceeded": Kind(422, "The day's withdrawals would exceed their limit"),
    "bet_not_found": Kind(422, "The wallet has no such bet"),
    "hold_not_found": Kind(422, "The wallet has no such hold"),
    "order_not_found": Kind(422, "The wallet has no such order"),
    "adjustment_not_found": Kind(422, "The wallet has no such adjustment"),
    "hold_expired": Kind(422, "The hold has expired"),
    "capture_exceeds_hold": Kind(422, "The hold is smaller than that"),
    "unknown_game": Kind(422, "There is no such game"),
    "bet_cancelled_before": Kind(422, "The bet was cancelled before it came"),
    "same_wallet": Kind(422, "Both wallets are the same"),
    "same_actor": Kind(422, "Another actor must approve"),
    "cannot_reverse": Kind(422, "The event cannot be reversed"),
    "internal_error": Kind(500, "Something is broken on our side"),
    "outcome_unknown": Kind(503, "It is not known whether the command was taken; retry the same command_id", 1),
    "not_owner": Kind(503, "Another node owns the partition", 1),
    "overloaded": Kind(503, "Too many commands are waiting", 1),
    "log_unavailable": Kind(503, "The log or its read model cannot be used now; nothing was written", 1),
    "shutting_down": Kind(503, "The service is shutting down", 2),
    "not_yet_visible": Kind(504, "The events asked for did not become visible in time"),
}

NOT_THERE: Final = frozenset(
    {"wallet_not_found", "order_not_found", "bet_not_found", "hold_not_found", "transfer_not_found"}
)
"""What a read may miss: 404, also where the same code refuses a command with 422."""


class Problem(Exception):
    """A request that ends with a problem; raised at the rim only."""

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
    """What a read asked for is not there; its code is one of ``NOT_THERE``."""

    def __init__(self, code: str, detail: str) -> None:
        assert code in NOT_THERE, code
        super().__init__(code, detail)

    @property
    def kind(self) -> Kind:
        return KINDS[self.code]._replace(status=404)


def problem_of(answer: Refused | IdReused | Failed) -> Problem:
    """The problem that a writer's answer is."""
    match answer:
        case Refused(rejection):
            return Problem(rejection.code.value, rejection.detail, **rejection.fields)
        case IdReused(fields, position):
            return Problem(
                "command_id_reused",
                f"the command_id was accepted at {position} with other fields: {', '.join(fields)}",
                fields=list(fields),
                position=position,
            )
        case Failed(reason, detail):
            return Problem(reason, detail)
