"""The document's part on reads: wallets and what they have, orders, leaderboards.

The Structs of ``projections.models`` say which members there are; what each means is said here, by its name.
A member that this module does not know fails the generation, so that a new one cannot go out undescribed.
"""

from collections.abc import Sequence
from typing import Any, Final, get_args

import msgspec
from msgspec import Struct

from api.openapi import json_schemas
from api.openapi.examples import PARTITION, START_US, USER, Example
from api.openapi.json_schemas import Schema
from api.openapi.parts import (
    EVERYWHERE,
    LOGIN,
    WRITER,
    by_asset,
    example_ref,
    header_ref,
    in_path,
    in_query,
    json_answer,
    object_of,
    or_null,
    parameter_ref,
    problems,
    ref,
    typed_data,
)
from api.openapi.played_reads import answers
from api.routes.parameters import LIMIT, LIMIT_MAX, TIMEOUT_MS, TIMEOUT_MS_MAX
from ledger.core.commands import ID_PATTERN, POSITION_PATTERN, TIME_US_MAX, USER_ID_PATTERN
from ledger.core.events import DATA_OF
from projections.models.bets import Bet, BetStatus
from projections.models.history import BalanceAt, Change, HistoryItem
from projections.models.holds import Hold
from projections.models.leaderboards import LEADERBOARDS, Leader, Leaderboard
from projections.models.orders import Order, OrderKind, OrderStatus
from projections.models.referrals import REFERRAL_LEVELS, Level, Referrals
from projections.models.statistics import CountAndAmount, GameStatistics, Statistics, Totals
from projections.models.transfers import SentTransfer
from projections.models.wallets import Available, FirstDeposit, Limits, Wallet
from projections.tables.fields import Buckets

_WALLET: Final = "/v1/wallets/{user_id}"


# --- paths ---------------------------------------------------------------------------------------------------------


def paths() -> dict[str, Any]:
    return {
        _WALLET: _read(
            "getWallet",
            "A wallet: status, balances, limits, first deposit",
            "Wallet",
            parameters=("consistency",),
            etag=True,
            codes=WRITER,
        ),
        f"{_WALLET}/balance": _read(
            "getBalance", "The buckets, now or at a time", "BalanceAt", parameters=("at_us",)
        ),
        f"{_WALLET}/history": _page(
            "getHistory",
            "What moved the wallet's money: one item for each event and asset, the newest first",
            "History",
            ("type", "asset", "game", "from_us", "to_us"),
        ),
        f"{_WALLET}/bets": _page("getBets", "The bets, the newest first", "Bets", ("game", "period", "bet_status")),
        f"{_WALLET}/bets/{{bet_id}}": _item("getBet", "One bet", "Bet", "bet_id", "bet_not_found"),
        f"{_WALLET}/holds": _page("getHolds", "The holds, the newest first", "Holds", ()),
        f"{_WALLET}/holds/{{hold_id}}": _item("getHold", "One hold", "Hold", "hold_id", "hold_not_found"),
        f"{_WALLET}/transfers/{{transfer_id}}": _item(
            "getTransfer", "One transfer that the wallet sent", "SentTransfer", "transfer_id", "transfer_not_found"
        ),
        f"{_WALLET}/stats": _read("getStatistics", "Sums by asset and game, and by asset", "Statistics", etag=True),
        f"{_WALLET}/referrals": _read("getReferrals", "Who stands below the wallet, level by level", "Referrals"),
        "/v1/orders": _page(
            "getOrders",
            "Everybody's orders, the newest first; ?kind=withdrawal&status=pending is the approval queue",
            "Orders",
            ("order_kind", "order_status"),
            everybody=True,
        ),
        "/v1/orders/{user_id}/{order_id}": _item(
            "getOrder", "One deposit or withdrawal", "Order", "order_id", "order_not_found", tag="orders"
        ),
        "/v1/leaderboards/{name}": _read(
            "getLeaderboard",
            "Who staked, won or netted the most on a UTC day, in an ISO week or in a month",
            "Leaderboard",
            parameters=("leaderboard", "board_asset", "at_us", "limit"),
            codes=("not_found",),
            missing=(),
            everybody=True,
            tag="leaderboards",
        ),
    }


def _read(
    operation_id: str,
    summary: str,
    schema: str,
    *,
    parameters: Sequence[str] = (),
    etag: bool = False,
    codes: Sequence[str] = (),
    missing: tuple[str, ...] = ("wallet_not_found",),
    everybody: bool = False,
    tag: str = "wallets",
) -> dict[str, Any]:
    """A route: of one user, unless it is ``everybody``'s; ``codes`` are problems beyond those of every read."""
    named = [] if everybody else ["user_id"]
    named += [*parameters, "min_positions" if everybody else "min_position", "timeout_ms"]
    example = _EXAMPLE_OF[schema]
    found = json_answer("it, and the position at which it is true", ref(schema), {example: example_ref(example)})
    responses: dict[str, Any] = {"200": found}
    if etag:
        named.append("If-None-Match")
        found["headers"] = {"ETag": header_ref("ETag")}
        responses["304"] = {
            "description": "what If-None-Match names is still so",
            "headers": {"ETag": header_ref("ETag")},
        }
    refusals = problems(*EVERYWHERE, *LOGIN, "log_unavailable", "not_yet_visible", *codes, missing=missing)
    return {
        "get": {
            "tags": [tag],
            "operationId": operation_id,
            "summary": summary,
            "parameters": [parameter_ref(name) for name in named],
            "responses": responses | refusals,
        }
    }


def _page(
    operation_id: str, summary: str, schema: str, filters: Sequence[str], *, everybody: bool = False
) -> dict[str, Any]:
    return _read(
        operation_id,
        summary,
        schema,
        parameters=(*filters, "limit", "cursor"),
        missing=() if everybody else ("wallet_not_found",),
        everybody=everybody,
        tag="orders" if everybody else "wallets",
    )


def _item(
    operation_id: str, summary: str, schema: str, name: str, missing: str, *, tag: str = "wallets"
) -> dict[str, Any]:
    return _read(operation_id, summary, schema, parameters=(name,), missing=("wallet_not_found", missing), tag=tag)


# --- schemas -------------------------------------------------------------------------------------------------------


def _said(schema: Schema, description: str) -> Schema:
    return {**schema, "description": description}


_MINOR: Final = "in the asset's minor unit"
_ID: Final[Schema] = {"type": "string", "pattern": ID_PATTERN}
_TEXT: Final[Schema] = {"type": "string", "maxLength": 128, "pattern": json_schemas.TEXT_PATTERN}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_SUM: Final = _said({"type": "integer", "minimum": 0}, f"{_MINOR}; a sum without bound")
_AMOUNT: Final = _said(json_schemas.AMOUNT, _MINOR)
_TIME: Final = json_schemas.TIME_US
_BEGUN_AT: Final = _said(json_schemas.POSITION, "of the first event")
_LIMIT: Final = or_null(json_schemas.AMOUNT_OR_ZERO)
_REASON: Final = or_null({"type": "string", "maxLength": 500})
_CHANGE: Final = _said(json_schemas.TOTAL, f"what the event added, {_MINOR}")

_MEMBERS: Final[dict[str, Schema]] = {
    "amount": _AMOUNT,
    "asset": json_schemas.ASSET,
    "at_us": _said({"type": "integer"}, "Unix microseconds, UTC: every event up to then is in it"),
    "available": _said({"type": "integer"}, f"cash + credit_limit, {_MINOR}"),
    "balance_max": _said(_LIMIT, f"of cash + bonus + held, {_MINOR}; null: none"),
    "bet_id": _ID,
    "bets": _said(_COUNT, "the bets that were not cancelled, the open ones too"),
    "biggest_win": _said(json_schemas.AMOUNT_OR_ZERO, f"the largest payout, {_MINOR}"),
    "bonus": _said(json_schemas.AMOUNT_OR_ZERO, _MINOR),
    "captured": _said(or_null(json_schemas.AMOUNT), f"what was captured, {_MINOR}; null unless it was"),
    "cash": _said(json_schemas.TOTAL, f"{_MINOR}; below 0 where credit was bet"),
    "change": ref("Change"),
    "command_id": {"type": "string", "pattern": json_schemas.ANY_COMMAND_ID_PATTERN},
    "count": _COUNT,
    "created_at_us": _TIME,
    "credit_limit": _said(json_schemas.AMOUNT_OR_ZERO, f"how far bets may take cash below 0, {_MINOR}"),
    "data": _said({"type": "object"}, "the event's, as in its record"),
    "direct_count": _said(_COUNT, "members of level 1"),
    "from_us": _said({"type": "integer"}, "Unix microseconds, UTC: from then on"),
    "expires_at_us": _said(or_null({"type": "integer"}), "Unix microseconds, UTC; null: never"),
    "first_deposit": or_null(ref("FirstDeposit")),
    "game": _TEXT,
    "held": _said(json_schemas.AMOUNT_OR_ZERO, f"{_MINOR}: holds, and withdrawals that are not approved yet"),
    "hold_id": _ID,
    "kind": {"enum": list(get_args(OrderKind))},
    "rank": {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX},
    "level": {"type": "integer", "minimum": 1, "maximum": REFERRAL_LEVELS},
    "members": _COUNT,
    "net": _said({"type": "integer"}, f"paid_out less the stakes of the settled bets, {_MINOR}"),
    "opened_at_us": _TIME,
    "order_id": _ID,
    "paid_out": _SUM,
    "payout": _said(or_null(json_schemas.AMOUNT_OR_ZERO), f"{_MINOR}; null until it is settled"),
    "period": _TEXT,
    "placed_at_us": _TIME,
    "position": json_schemas.POSITION,
    "reason": _REASON,
    "referrer_id": _said(or_null(json_schemas.USER_ID), "as named when the wallet was opened"),
    "resolved_at_us": or_null(_TIME),
    "selection": _TEXT,
    "settled_at_us": _said(or_null(_TIME), "when it was settled or cancelled"),
    "settled_position": _said(or_null(json_schemas.POSITION), "of the settlement or the cancelling"),
    "stake": _said(json_schemas.AMOUNT, _MINOR),
    "stake_max_per_day": _said(_LIMIT, f"by the UTC day, {_MINOR}; null: none"),
    "staked": _SUM,
    "time_us": _TIME,
    "to_us": _said({"type": "integer"}, "Unix microseconds, UTC: before then"),
    "to_user_id": json_schemas.USER_ID,
    "transfer_id": _ID,
    "type": {"enum": list(DATA_OF)},
    "user_id": json_schemas.USER_ID,
    "value": _said({"type": "integer"}, f"{_MINOR}; never 0"),
    "wins": _said(_COUNT, "the bets with a payout above 0"),
    "withdrawal_max_per_day": _said(_LIMIT, f"by the UTC day, {_MINOR}; null: none"),
}

_MEMBERS_OF: Final[dict[tuple[type[Struct], str], Schema]] = {
    (Wallet, "status"): {"enum": ["open", "frozen", "closed"]},
    (Wallet, "balances"): by_asset(ref("Available")),
    (Wallet, "limits"): by_asset(ref("Limits")),
    (BalanceAt, "balances"): by_asset(ref("Buckets")),
    (HistoryItem, "balances"): ref("Buckets"),
    **{(Change, bucket): _CHANGE for bucket in ("cash", "bonus", "held")},
    (HistoryItem, "game"): _said(or_null(_TEXT), "the bet's, also where it is settled or cancelled"),
    (Bet, "status"): {"enum": list(get_args(BetStatus))},
    (Bet, "position"): _BEGUN_AT,
    (Hold, "status"): {"enum": ["open", "captured", "released", "expired"]},
    (Hold, "position"): _BEGUN_AT,
    (SentTransfer, "status"): {"enum": ["sent", "delivered", "returned"]},
    (SentTransfer, "reason"): _said(_REASON, "the code for which it came back"),
    (SentTransfer, "position"): _BEGUN_AT,
    (Statistics, "games"): {"type": "array", "items": ref("GameStatistics")},
    (Statistics, "totals"): {"type": "array", "items": ref("Totals")},
    (CountAndAmount, "amount"): _SUM,
    (Totals, "deposits"): _said(ref("CountAndAmount"), "without their bonuses"),
    (Totals, "withdrawals"): _said(ref("CountAndAmount"), "the approved ones"),
    (Totals, "bonuses"): _said(ref("CountAndAmount"), "the deposits' bonuses, and grants"),
    (Totals, "commissions"): ref("CountAndAmount"),
    (Referrals, "levels"): {
        "type": "array",
        "minItems": REFERRAL_LEVELS,
        "maxItems": REFERRAL_LEVELS,
        "items": ref("Level"),
    },
    (Referrals, "commissions"): by_asset(_SUM),
    (Leaderboard, "name"): {"enum": list(LEADERBOARDS)},
    (Leaderboard, "items"): {"type": "array", "maxItems": LIMIT_MAX, "items": ref("Leader")},
    (Order, "status"): {"enum": list(get_args(OrderStatus))},
    (Order, "bonus"): _said(json_schemas.AMOUNT_OR_ZERO, f"the deposit's, {_MINOR}; 0 for withdrawals"),
    (Order, "position"): _BEGUN_AT,
}
"""(document, member): where a name means something else than elsewhere."""

_ABOUT: Final[dict[type[Struct], str]] = {
    Buckets: "what a wallet has of an asset, in its minor unit",
    Available: "the same, and what bets can take with credit",
    Limits: "a wallet's limits for an asset, in its minor unit",
    FirstDeposit: "the wallet's first deposit",
    Wallet: "a wallet; an asset is in it once it was moved or limited",
    Change: "what an event added to each bucket of an asset, in its minor unit",
    BalanceAt: "the buckets at a time; no asset before its first event",
    HistoryItem: "one event's effect on one asset",
    Bet: "a bet; won is a payout above 0, lost one of 0",
    Hold: "money that was put aside",
    SentTransfer: "a transfer, as its sender's wallet has it",
    GameStatistics: "an asset's sums in one game; cancelled bets count nowhere",
    CountAndAmount: "how many, and how much in the asset's minor unit",
    Totals: "an asset's sums over all games",
    Statistics: "sums of what was bet, paid in, paid out and granted; what was reversed counts nowhere",
    Level: "how many members stand so many levels below",
    Referrals: "the wallet's referrer, members and commissions",
    Order: "a deposit or a withdrawal; only withdrawals are ever pending",
    Leader: "a user on a leaderboard",
    Leaderboard: "the largest sums of a day, an ISO week or a month (UTC); ties by user_id",
}

_ANSWERED: Final = {
    Wallet,
    BalanceAt,
    Bet,
    Hold,
    SentTransfer,
    Statistics,
    Referrals,
    Order,
    Leaderboard,
}
"""What is answered by itself, and so has ``as_of``."""

_PAGES: Final[dict[str, tuple[type[Struct], str]]] = {
    "History": (HistoryItem, "AsOf"),
    "Bets": (Bet, "AsOf"),
    "Holds": (Hold, "AsOf"),
    "Orders": (Order, "AsOfSeveral"),
}
"""Name of a page's schema → what is on it, and the shape of its ``as_of``."""

_EXAMPLE_OF: Final = {
    "Wallet": "wallet",
    "BalanceAt": "balance",
    "History": "history",
    "Bets": "bets",
    "Bet": "bet",
    "Holds": "holds",
    "Hold": "hold",
    "SentTransfer": "transfer",
    "Statistics": "statistics",
    "Referrals": "referrals",
    "Orders": "orders",
    "Order": "order",
    "Leaderboard": "leaderboard",
}


def schemas() -> dict[str, Schema]:
    lag_ms = _said(_COUNT, "the age of the oldest event that is known and not in the answer, in milliseconds")
    position = {"type": "string", "pattern": POSITION_PATTERN}
    return {
        "AsOf": _said(
            object_of({"position": position, "lag_ms": lag_ms}),
            "where an answer about one wallet is true: it knows this event of its partition, and all before it",
        ),
        "AsOfSeveral": _said(
            object_of({"positions": {"type": "array", "minItems": 1, "items": position}, "lag_ms": lag_ms}),
            "where an answer about many wallets is true, partition by partition",
        ),
        **{_named(kind): _document(kind, as_of=kind in _ANSWERED) for kind in _ABOUT},
        **{_listed(kind): _document(kind, as_of=False) for kind, _ in _PAGES.values()},
        **{
            name: _said(
                object_of(
                    {
                        "items": {"type": "array", "maxItems": LIMIT_MAX, "items": ref(_listed(kind))},
                        "next_cursor": _said(or_null({"type": "string"}), "where the list goes on; null at its end"),
                        "as_of": ref(as_of),
                    }
                ),
                "one page, the newest first",
            )
            for name, (kind, as_of) in _PAGES.items()
        },
    }


def _named(kind: type[Struct]) -> str:
    return kind.__name__


def _listed(kind: type[Struct]) -> str:
    """The name of its schema as the item of a page, where only the page has an ``as_of``."""
    return f"Listed{kind.__name__}" if kind in _ANSWERED else kind.__name__


def _document(kind: type[Struct], *, as_of: bool) -> Schema:
    members = {
        field.encode_name: _MEMBERS_OF.get((kind, field.encode_name)) or _MEMBERS[field.encode_name]
        for field in msgspec.structs.fields(kind)
    }
    if as_of:
        members["as_of"] = ref("AsOfSeveral" if kind is Leaderboard else "AsOf")
    schema = _said(object_of(members), _ABOUT[kind])
    return {**schema, "oneOf": typed_data(list(DATA_OF))} if kind is HistoryItem else schema


# --- parameters ----------------------------------------------------------------------------------------------------


def parameters() -> dict[str, Any]:
    positions = POSITION_PATTERN.removeprefix("^").removesuffix(r"$(?!\n)")
    time_us = {"type": "integer", "minimum": -TIME_US_MAX, "maximum": TIME_US_MAX}
    waits = {"type": "string", "pattern": f"^{positions}(,{positions})*$(?!\\n)"}
    return {
        "user_id": in_path("user_id", USER_ID_PATTERN, USER),
        "bet_id": in_path("bet_id", ID_PATTERN, "bet-1"),
        "hold_id": in_path("hold_id", ID_PATTERN, "hold-1"),
        "transfer_id": in_path("transfer_id", ID_PATTERN, "tr-1"),
        "order_id": in_path("order_id", ID_PATTERN, "wd-1"),
        "leaderboard": {
            "name": "name",
            "in": "path",
            "required": True,
            "schema": {"enum": list(LEADERBOARDS)},
            "example": "staked_week",
        },
        "board_asset": {**in_query("asset", json_schemas.ASSET, "of this asset"), "required": True, "example": "INR"},
        "consistency": in_query(
            "consistency", {"enum": ["strong"]}, "strong asks the wallet's writer itself, not the read model"
        ),
        "min_position": {
            **in_query("min_position", waits, "wait until the answer knows it; of the wallet's own partition"),
            "example": f"{PARTITION}:2",
        },
        "min_positions": {
            **in_query("min_position", waits, "wait until the answer knows them; of any partitions"),
            "example": f"0:0,{PARTITION}:2",
        },
        "timeout_ms": in_query(
            "timeout_ms",
            {"type": "integer", "minimum": 0, "maximum": TIMEOUT_MS_MAX, "default": TIMEOUT_MS},
            "wait at most so long, in milliseconds",
        ),
        "limit": in_query(
            "limit", {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT}, "items at most"
        ),
        "cursor": in_query(
            "cursor", {"type": "string"}, "the next_cursor of the page before, with the same filters; opaque"
        ),
        "at_us": {
            **in_query("at_us", time_us, "Unix microseconds, UTC: events up to then, and at it; now unless told"),
            "example": START_US,
        },
        "from_us": {**in_query("from_us", time_us, "Unix microseconds, UTC: from then on"), "example": START_US},
        "to_us": {**in_query("to_us", time_us, "Unix microseconds, UTC: before then"), "example": TIME_US_MAX},
        "type": in_query("type", {"enum": list(DATA_OF)}, "events of this type only"),
        "asset": {**in_query("asset", _TEXT, "of this asset only"), "example": "INR"},
        "game": {**in_query("game", _TEXT, "of this game only"), "example": "external"},
        "period": {**in_query("period", _TEXT, "of this period only"), "example": "2026-11-23/0042"},
        "bet_status": in_query(
            "status", {"enum": list(get_args(BetStatus))}, "with this status when the first page was read"
        ),
        "order_kind": in_query("kind", {"enum": list(get_args(OrderKind))}, "of this kind only"),
        "order_status": in_query(
            "status", {"enum": list(get_args(OrderStatus))}, "with this status when the first page was read"
        ),
        "If-None-Match": {
            "name": "If-None-Match",
            "in": "header",
            "required": False,
            "description": "ETags of what the client has",
            "schema": {"type": "string"},
            "example": 'W/"0123456789abcdef01"',
        },
    }


def headers() -> dict[str, Any]:
    return {
        "ETag": {
            "description": "of all that is said but as_of; it changes only with the wallet",
            "required": True,
            "schema": {"type": "string", "pattern": '^W/"[0-9a-f]+"$'},
            "example": 'W/"0123456789abcdef01"',
        },
    }


def examples(played: Sequence[Example]) -> dict[str, Any]:
    return {name: {"value": body} for name, body in answers(played).items()}
