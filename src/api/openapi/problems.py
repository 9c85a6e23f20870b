"""The document's part on problems: their schema, and an example of every code."""

from typing import Any, Final

from api.http.consistency import DETAILS
from api.http.problems import KINDS, NOT_THERE, NotThere, Problem
from api.openapi.json_schemas import Schema

PROBLEMS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "malformed_request": ("Expected `int`, got `float` - at `$.amount`", {"field": "amount"}),
    "unauthenticated": ("the access token is missing or has expired", {}),
    "forbidden": ("the role player may not deposit", {}),
    "event_not_found": ("there is no event at 3:999", {}),
    "not_found": ("the wallet player-15 has accepted no command c-99", {}),
    "method_not_allowed": ("PUT is not allowed at /v1/partitions", {"allow": ["GET"]}),
    "request_too_large": ("the body may have 8388608 bytes, it has more", {}),
    "unsupported_media_type": ("Content-Type must be application/json, it is text/plain", {}),
    "command_id_reused": (
        "the command_id was accepted at 3:2 with other fields: amount",
        {"fields": ["amount"], "position": "3:2"},
    ),
    "order_id_reused": (
        "order_id dep-1 is used already by another command of this wallet",
        {"order_id": "dep-1"},
    ),
    "bet_id_reused": ("bet_id bet-1 is used already by another command of this wallet", {"bet_id": "bet-1"}),
    "hold_id_reused": ("hold_id hold-1 is used already by another command of this wallet", {"hold_id": "hold-1"}),
    "transfer_id_reused": (
        "transfer_id tr-1 is used already by another command of this wallet",
        {"transfer_id": "tr-1"},
    ),
    "grant_id_reused": (
        "grant_id welcome-1 is used already by another command of this wallet",
        {"grant_id": "welcome-1"},
    ),
    "adjustment_id_reused": (
        "adjustment_id adj-1 is used already by another command of this wallet",
        {"adjustment_id": "adj-1"},
    ),
    "already_resolved": ("the bet bet-1 is settled", {"status_now": "settled"}),
    "wallet_not_open": ("the wallet player-99 was never opened", {}),
    "wallet_already_open": ("the wallet player-15 is open already", {}),
    "wallet_frozen": ("the wallet player-15 is frozen", {}),
    "wallet_closed": ("the wallet player-30 is closed", {}),
    "wallet_not_empty": ("the wallet still has INR", {}),
    "unknown_asset": ("the asset XYZ is not declared", {"asset": "XYZ"}),
    "amount_out_of_range": ("amount is 0, outside of its range", {"field": "amount"}),
    "insufficient_funds": ("900000 INR are asked for, 658500 can be taken", {"available": 658_500}),
    "credit_limit_exceeded": ("the stake is 900000 INR, 678500 can be taken", {"available": 678_500}),
    "balance_max_exceeded": (
        "the balance would be 1100000 INR, at most 1000000 is allowed",
        {"balance_max": 1_000_000, "balance_after": 1_100_000},
    ),
    "stake_max_exceeded": (
        "490000 of 500000 INR were staked today",
        {"stake_max_per_day": 500_000, "staked_today": 490_000},
    ),
    "withdrawal_max_exceeded": (
        "300000 of 300000 INR were requested for withdrawal today",
        {"withdrawal_max_per_day": 300_000, "requested_today": 300_000},
    ),
    "bet_not_found": ("this wallet has no bet_id bet-99", {"bet_id": "bet-99"}),
    "hold_not_found": ("this wallet has no hold_id hold-99", {"hold_id": "hold-99"}),
    "order_not_found": ("this wallet has no order_id wd-99", {"order_id": "wd-99"}),
    "adjustment_not_found": ("this wallet has no adjustment_id adj-99", {"adjustment_id": "adj-99"}),
    "hold_expired": ("the hold hold-1 has expired", {"hold_id": "hold-1"}),
    "capture_exceeds_hold": ("the hold hold-1 is of 40000 INR", {"held": 40_000}),
    "unknown_game": ("there is no game roulette", {"game": "roulette"}),
    "bet_cancelled_before": ("the bet bet-2 was cancelled before it came", {"bet_id": "bet-2"}),
    "same_wallet": ("a wallet cannot transfer to itself", {"field": "to_user_id"}),
    "same_actor": (
        "game-server-1 proposed the adjustment adj-1; another actor must approve it",
        {"proposer": "game-server-1"},
    ),
    "cannot_reverse": (
        "3:4 is no deposit, grant or adjustment of this wallet",
        {"position": "3:4"},
    ),
    "internal_error": (
        "quote the request id 0f8fad5bd9cb469fa16570867728950e when you report this",
        {"request_id": "0f8fad5bd9cb469fa16570867728950e"},
    ),
    "outcome_unknown": ("the commit failed in a way that does not tell whether it landed", {}),
    "not_owner": ("others keep writing to partition 3", {}),
    "overloaded": ("16384 commands wait for partition 3 already", {}),
    "log_unavailable": ("the log cannot be written: the disk is full", {}),
    "shutting_down": ("the service is shutting down", {}),
    "not_yet_visible": ("partition 3 is at seq 42, 99 was asked for", {"position": "3:42"}),
}
"""Code → an example's detail, and the fields that help; those that only reads have are ``reading.DETAILS``."""


def schemas() -> dict[str, Schema]:
    return {
        "Problem": {
            "description": "RFC 9457, with a code, and fields that help",
            "type": "object",
            "properties": {
                "type": {"type": "string", "pattern": "^urn:stakelog:problem:[a-z_]+$"},
                "title": {"type": "string"},
                "status": {"type": "integer"},
                "detail": {"type": "string"},
                "code": {"enum": list(KINDS)},
                "field": {"type": "string", "description": "the member or parameter that is wrong"},
                "fields": {
                    "type": "array",
                    "items": {"type": "string"},
                    "description": "command_id_reused: the members that differ",
                },
                "position": {"type": "string", "description": "the event that stands in the way"},
                "available": {
                    "type": "integer",
                    "description": "what this command could have taken, in minor units",
                },
                "allow": {"type": "array", "items": {"type": "string"}},
                "request_id": {"type": "string", "description": "internal_error: to quote in a report"},
            },
            "required": ["type", "title", "status", "detail", "code"],
            "additionalProperties": True,
        },
    }


def examples() -> dict[str, Any]:
    """``problem.<code>`` as a command gets it, ``missing.<code>`` as a read does: the same code, another status."""
    asked = {
        f"problem.{code}": {"value": Problem(code, detail, **fields).body()}
        for code, (detail, fields) in PROBLEMS.items()
    }
    missed = {f"missing.{code}": {"value": NotThere(code, DETAILS[code]).body()} for code in sorted(NOT_THERE)}
    return asked | missed


def headers() -> dict[str, Any]:
    return {
        "Retry-After": {
            "description": "seconds after which the same request may succeed",
            "required": False,
            "schema": {"type": "integer", "minimum": 1},
            "example": 1,
        },
        "Allow": {
            "description": "the methods that are allowed here",
            "required": True,
            "schema": {"type": "string"},
            "example": "GET",
        },
    }
