"""The document's part on problems: one schema, one response for each status, an example of every code."""

from typing import Annotated, Any, Final

from msgspec import UNSET, Meta, Struct, UnsetType

from api.http.consistency import DETAILS
from api.http.problems import EVERYWHERE, KINDS, LOGIN, MEDIA_TYPE, NOT_THERE, NotThere, Problem
from api.http.routing import AnyRoute
from api.openapi.schemas import ref

_RESPONSES: Final = {
    400: ("BadRequest", "The request is malformed; `field` names what is wrong"),
    401: ("Unauthenticated", "The access token is missing, expired, revoked or forged"),
    403: ("Forbidden", "The role may not do this"),
    404: ("NotFound", "What the request names does not exist"),
    405: ("MethodNotAllowed", "The method is not allowed at this path"),
    408: ("RequestTimeout", "The body did not arrive in time"),
    409: ("Conflict", "An id is used already, or the thing it names has ended"),
    413: ("RequestTooLarge", "The body is too large"),
    415: ("UnsupportedMediaType", "The body is not `application/json`"),
    422: ("Refused", "A rule of the ledger refuses the command; nothing was written"),
    429: ("RateLimited", "Too many requests; retry after `Retry-After`"),
    500: ("InternalError", "A fault of the service; quote the request id"),
    503: ("Unavailable", "The service cannot do this now; retry after `Retry-After`"),
    504: ("NotYetVisible", "The read model did not reach `min_position` in time"),
}
"""Status → name and description of its response."""

_EXAMPLES: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "malformed_request": ("Expected `int`, got `float` - at `$.amount`", {"field": "amount"}),
    "unauthenticated": ("the access token is missing or has expired", {}),
    "forbidden": ("the role auditor may not post deposit", {"needs": ["game_server"]}),
    "client_exists": (
        "the client_id game-server-1 is taken; a disabled client keeps its id",
        {"client_id": "game-server-1"},
    ),
    "last_admin": (
        "admin is the last enabled admin: add another admin before you disable it",
        {"client_id": "admin"},
    ),
    "too_many_webhooks": ("there are 20 webhooks already", {}),
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
    "result_already_recorded": (
        "the period 20261123T130000Z has a result already",
        {"period": "20261123T130000Z"},
    ),
    "wallet_not_open": ("the wallet player-99 was never opened", {}),
    "wallet_already_open": ("the wallet player-15 is open already", {}),
    "wallet_frozen": ("the wallet player-15 is frozen", {}),
    "wallet_closed": ("the wallet player-30 is closed", {}),
    "wallet_not_empty": ("the wallet still has INR", {}),
    "unknown_asset": ("the asset XYZ is not declared; the assets are GOLD, INR, USDT", {"asset": "XYZ"}),
    "amount_out_of_range": ("amount is 0.00 INR, outside of its range", {"field": "amount"}),
    "insufficient_funds": ("9000.00 INR is more than the 6585.00 INR that can be taken", {"available": 658_500}),
    "credit_limit_exceeded": ("the stake is 9000.00 INR, 6785.00 INR can be taken", {"available": 678_500}),
    "balance_max_exceeded": (
        "the balance would be 11000.00 INR, at most 10000.00 INR is allowed",
        {"balance_max": 1_000_000, "balance_after": 1_100_000},
    ),
    "stake_max_exceeded": (
        "4900.00 INR of 5000.00 INR were staked today",
        {"stake_max_per_day": 500_000, "staked_today": 490_000},
    ),
    "withdrawal_max_exceeded": (
        "3000.00 INR of 3000.00 INR were requested for withdrawal today",
        {"withdrawal_max_per_day": 300_000, "requested_today": 300_000},
    ),
    "bet_not_found": ("this wallet has no bet_id bet-99", {"bet_id": "bet-99"}),
    "hold_not_found": ("this wallet has no hold_id hold-99", {"hold_id": "hold-99"}),
    "order_not_found": ("this wallet has no order_id wd-99", {"order_id": "wd-99"}),
    "adjustment_not_found": ("this wallet has no adjustment_id adj-99", {"adjustment_id": "adj-99"}),
    "hold_expired": ("the hold hold-1 has expired", {"hold_id": "hold-1"}),
    "capture_exceeds_hold": ("the hold hold-1 has 400.00 INR", {"held": 40_000}),
    "unknown_game": ("there is no game roulette; known games: external, wingo_30s", {"game": "roulette"}),
    "period_closed": (
        "the period 20261123T130000Z of wingo_30s takes no bets now",
        {"starts_at_us": 1_795_438_800_000_000, "closes_at_us": 1_795_438_825_000_000},
    ),
    "period_not_closed": (
        "the period 20261123T130000Z of wingo_30s has not been over for 2 s",
        {"ends_at_us": 1_795_438_830_000_000},
    ),
    "invalid_selection": ("'number:10' is not a selection of wingo", {"field": "selection"}),
    "invalid_result": ("'10' is not a result of wingo", {"field": "result"}),
    "settled_by_result": (
        "the bet bet-3 is settled by the result of its period",
        {"game": "wingo_30s", "period": "20261123T130000Z"},
    ),
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
    "not_eligible": (
        "50.00 INR of 100.00 INR were deposited today",
        {"needs_deposit": 10_000, "deposited": 5_000},
    ),
    "already_claimed": ("the attendance bonus of 2026-11-23 was claimed already", {"day": "2026-11-23"}),
    "withdrawal_out_of_bounds": ("50.00 INR is less than 110.00 INR, the least", {"min": 11_000, "max": 5_000_000}),
    "withdrawals_per_day_exceeded": (
        "3 withdrawals of INR were requested today; 3 a day are allowed",
        {"per_day": 3, "requests_today": 3},
    ),
    "wagering_incomplete": ("400.00 INR must be staked before a withdrawal", {"remaining": 40_000}),
    "rate_limited": (
        "too many requests: the limit `user` allows 2000 in 10 s",
        {"limit": "user", "quota": 2_000, "window_s": 10, "retry_after_s": 3},
    ),
    "internal_error": (
        "quote the request id 0f8fad5bd9cb469fa16570867728950e when you report this",
        {"request_id": "0f8fad5bd9cb469fa16570867728950e"},
    ),
    "outcome_unknown": ("it is unknown whether the command was written", {}),
    "not_owner": ("others keep writing to partition 3", {}),
    "overloaded": ("16384 commands wait for partition 3 already", {}),
    "log_unavailable": ("the log is unavailable", {}),
    "request_timeout": ("the body was not complete after 25 s", {}),
    "shutting_down": ("the service is shutting down", {}),
    "not_yet_visible": ("partition 3 is at seq 42, 99 was asked for", {"position": "3:42"}),
}
"""Code → an example's detail, and its fields. The codes that only reads have are in ``consistency.DETAILS``."""


class ProblemDocument(Struct):
    """Why a request failed (RFC 9457). `code` is stable; the texts are for people."""

    type: Annotated[
        str,
        Meta(
            pattern="^urn:stakelog:problem:[a-z_]+$",
            description="The code as a URN",
            examples=["urn:stakelog:problem:insufficient_funds"],
        ),
    ]
    title: Annotated[str, Meta(description="What the code means", examples=["Insufficient funds"])]
    status: Annotated[int, Meta(description="HTTP status", examples=[422])]
    detail: Annotated[
        str,
        Meta(
            description="What happened; amounts are in the asset's own unit",
            examples=["9000.00 INR is more than the 6585.00 INR that can be taken"],
        ),
    ]
    code: Annotated[
        str,
        Meta(
            description="The kind of problem",
            examples=["insufficient_funds"],
            extra_json_schema={"enum": list(KINDS)},
        ),
    ]
    field: (
        Annotated[str, Meta(description="The field or parameter that is wrong", examples=["amount"])] | UnsetType
    ) = UNSET
    fields: (
        Annotated[list[str], Meta(description="`command_id_reused`: the fields that differ", examples=[["amount"]])]
        | UnsetType
    ) = UNSET
    needs: (
        Annotated[list[str], Meta(description="`forbidden`: the roles that may", examples=[["operator"]])] | UnsetType
    ) = UNSET
    position: (
        Annotated[str, Meta(description="Position of the event that the problem is about", examples=["3:2"])]
        | UnsetType
    ) = UNSET
    available: (
        Annotated[
            int,
            Meta(description="What the command could have taken, in the asset's minor unit", examples=[658_500]),
        ]
        | UnsetType
    ) = UNSET
    allow: Annotated[list[str], Meta(description="The allowed methods", examples=[["GET", "HEAD"]])] | UnsetType = (
        UNSET
    )
    suspect: (
        Annotated[
            bool,
            Meta(
                description="404: true if rows of this wallet differ from the log: what was not found may exist",
                examples=[True],
            ),
        ]
        | UnsetType
    ) = UNSET
    limit: (
        Annotated[str, Meta(description="`rate_limited`: the limit that was exceeded", examples=["user"])] | UnsetType
    ) = UNSET
    quota: (
        Annotated[int, Meta(description="Requests and commands that it allows in `window_s`", examples=[2_000])]
        | UnsetType
    ) = UNSET
    window_s: (
        Annotated[int, Meta(description="Seconds until all of it can be used again", examples=[10])] | UnsetType
    ) = UNSET
    retry_after_s: (
        Annotated[int, Meta(description="Seconds after which the same request is allowed", examples=[3])] | UnsetType
    ) = UNSET
    request_id: (
        Annotated[
            str,
            Meta(description="`internal_error`: quote it in a report", examples=["0f8fad5bd9cb469fa16570867728950e"]),
        ]
        | UnsetType
    ) = UNSET


def problem_codes(route: AnyRoute) -> list[str]:
    """Every code that the route can respond with, in the order of the table of problems."""
    codes = {*EVERYWHERE, *(LOGIN if route.roles else ()), *route.problems, *route.missing}
    return [code for code in KINDS if code in codes]


def problem_references(route: AnyRoute) -> dict[int, dict[str, str]]:
    """Status → the response, by reference."""
    statuses = {404 if code in route.missing else KINDS[code].status for code in problem_codes(route)}
    return {status: {"$ref": f"#/components/responses/{_RESPONSES[status][0]}"} for status in statuses}


def problem_content(status: int) -> dict[str, Any]:
    """What a response with this status has; its examples are of every code with this status."""
    names = {code: f"problem.{code}" for code in _EXAMPLES if KINDS[code].status == status}
    if status == 404:
        names |= {code: f"missing.{code}" for code in sorted(NOT_THERE)}
    examples = {code: {"$ref": f"#/components/examples/{name}"} for code, name in names.items()}
    return {MEDIA_TYPE: {"schema": ref("Problem"), "examples": examples}}


def problem_responses() -> dict[str, Any]:
    """Name → response, one for each status."""
    found = {}
    for status, (name, description) in _RESPONSES.items():
        response: dict[str, Any] = {"description": description, "content": problem_content(status)}
        if any(kind.retry_after_s for kind in KINDS.values() if kind.status == status):
            response["headers"] = {"Retry-After": {"$ref": "#/components/headers/Retry-After"}}
        if status == 405:
            response["headers"] = {"Allow": {"$ref": "#/components/headers/Allow"}}
        if status == 429:
            response["headers"] |= {
                name: {"$ref": f"#/components/headers/{name}"} for name in ("RateLimit", "RateLimit-Policy")
            }
        found[name] = response
    return found


def problem_examples() -> dict[str, Any]:
    """``problem.<code>`` as a command gets it, ``missing.<code>`` as a read does: the same code, another status."""
    refused = {
        f"problem.{code}": {"value": Problem(code, detail, **fields).body()}
        for code, (detail, fields) in _EXAMPLES.items()
    }
    missed = {f"missing.{code}": {"value": NotThere(code, DETAILS[code]).body()} for code in sorted(NOT_THERE)}
    return refused | missed
