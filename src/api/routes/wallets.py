"""``/v1/wallets/…``, ``/v1/orders``, ``/v1/leaderboards``: what client apps read. The wallet itself is a plain ASGI
application, called by path like the command routes: it is what every client asks for all the time."""

import asyncio
import time
from typing import Any, Final

from litestar import Request, Response, get
from litestar.types import ASGIApp, Receive, Scope, Send

from api.http.commands import encode, read_asked_id, read_user_id, wallet_document
from api.http.compression import json_response, not_modified
from api.http.consistency import (
    SHARED_PARAMETERS,
    Asked,
    answer,
    body_of,
    etag_of,
    is_known,
    limit_of,
    min_positions,
    with_as_of,
)
from api.http.problems import NotThere, Problem, problem_of
from api.http.query import Query
from api.http.requests import http_scope, list_header, respond, respond_not_modified, segments_of
from ledger.core.commands import TIME_US_MAX
from ledger.core.events import DATA_OF
from ledger.core.money import is_asset_code
from ledger.core.position import partition_of
from ledger.node.node import Node
from ledger.writer.requests import Failed
from projections.models.leaderboards import LEADERBOARDS
from projections.reads.queries import Found, Reads

_PAGED: Final = ("limit", "cursor", *SHARED_PARAMETERS)
BET_STATUSES: Final = ("open", "won", "lost", "cancelled")
ORDER_KINDS: Final = ("deposit", "withdrawal")
ORDER_STATUSES: Final = ("completed", "pending", "approved", "rejected", "reversed")
_LOOK_AGAIN_S: Final = 0.005


def wallet_routes(node: Node, reads: Reads) -> tuple[ASGIApp, list[Any]]:
    """The application of a single wallet's path, and the handlers that are routed."""

    async def get_wallet(scope: Scope, _: Receive, send: Send) -> None:
        if http_scope(scope)["method"] != "GET":
            raise Problem("method_not_allowed", "only GET is allowed here", allow=["GET"])
        user_id = read_user_id(segments_of(scope, 3)[2])
        query = Query(scope["query_string"], ("consistency", *SHARED_PARAMETERS))
        if query.given_choice("consistency", ("strong",)):
            document, body = await _strong(node, user_id, query)
        else:
            found = await answer(
                query,
                reads,
                reads.partition_of(user_id),
                lambda: reads.wallet(user_id),
                lambda: reads.wallet(user_id, fresh=True),
            )
            document = encode(found.document)
            body = with_as_of(document, found)
        etag = etag_of(document)
        if is_known(etag, list_header(scope, b"if-none-match")):
            await respond_not_modified(send, etag)
        else:
            await respond(send, 200, body, ((b"etag", etag.encode()),))

    @get("/v1/wallets/{user_id:str}/balance")
    async def get_balance(request: Request[Any, Any, Any]) -> Response[bytes]:
        user_id = _user_id(request)
        query = _query(request, "at_us", *SHARED_PARAMETERS)
        at_us = query.optional_integer("at_us", -TIME_US_MAX, TIME_US_MAX)
        return await _answered(request, query, user_id, lambda: reads.balance(user_id, at_us))

    @get("/v1/wallets/{user_id:str}/history")
    async def get_history(request: Request[Any, Any, Any]) -> Response[bytes]:
        user_id = _user_id(request)
        query = _query(request, "type", "asset", "game", "from_us", "to_us", *_PAGED)
        filters: dict[str, str | int] = {
            **query.given("asset", "game"),
            **query.given_choice("type", tuple(DATA_OF)),
        }
        for name in ("from_us", "to_us"):
            if (time_us := query.optional_integer(name, -TIME_US_MAX, TIME_US_MAX)) is not None:
                filters[name] = time_us
        limit, cursor = limit_of(query), query.text("cursor")
        return await _answered(request, query, user_id, lambda: reads.history(user_id, filters, limit, cursor))

    @get("/v1/wallets/{user_id:str}/bets")
    async def get_bets(request: Request[Any, Any, Any]) -> Response[bytes]:
        user_id = _user_id(request)
        query = _query(request, "game", "period", "status", *_PAGED)
        filters = {**query.given("game", "period"), **query.given_choice("status", BET_STATUSES)}
        limit, cursor = limit_of(query), query.text("cursor")
        return await _answered(request, query, user_id, lambda: reads.bets(user_id, filters, limit, cursor))

    @get("/v1/wallets/{user_id:str}/bets/{bet_id:path}")
    async def get_bet(request: Request[Any, Any, Any]) -> Response[bytes]:
        user_id, bet_id = _user_id(request), _item_id(request, "bet_id")
        query = _query(request, *SHARED_PARAMETERS)
        return await _answered(request, query, user_id, lambda: reads.bet(user_id, bet_id))

    @get("/v1/wallets/{user_id:str}/holds")
    async def get_holds(request: Request[Any, Any, Any]) -> Response[bytes]:
        user_id = _user_id(request)
        query = _query(request, *_PAGED)
        limit, cursor = limit_of(query), query.text("cursor")
        return await _answered(request, query, user_id, lambda: reads.holds(user_id, limit, cursor))

    @get("/v1/wallets/{user_id:str}/holds/{hold_id:path}")
    async def get_hold(request: Request[Any, Any, Any]) -> Response[bytes]:
        user_id, hold_id = _user_id(request), _item_id(request, "hold_id")
        query = _query(request, *SHARED_PARAMETERS)
        return await _answered(request, query, user_id, lambda: reads.hold(user_id, hold_id))

    @get("/v1/wallets/{user_id:str}/transfers/{transfer_id:path}")
    async def get_transfer(request: Request[Any, Any, Any]) -> Response[bytes]:
        user_id, transfer_id = _user_id(request), _item_id(request, "transfer_id")
        query = _query(request, *SHARED_PARAMETERS)
        return await _answered(request, query, user_id, lambda: reads.transfer(user_id, transfer_id))

    @get("/v1/wallets/{user_id:str}/stats")
    async def get_statistics(request: Request[Any, Any, Any]) -> Response[bytes]:
        user_id = _user_id(request)
        query = _query(request, *SHARED_PARAMETERS)
        found = await answer(
            query,
            reads,
            reads.partition_of(user_id),
            lambda: reads.statistics(user_id),
            lambda: reads.statistics(user_id, fresh=True),
        )
        document = encode(found.document)
        etag = etag_of(document)
        if is_known(etag, list_header(request.scope, b"if-none-match")):
            return not_modified(etag)
        return json_response(request, with_as_of(document, found), {"etag": etag})

    @get("/v1/wallets/{user_id:str}/referrals")
    async def get_referrals(request: Request[Any, Any, Any]) -> Response[bytes]:
        user_id = _user_id(request)
        query = _query(request, *SHARED_PARAMETERS)
        return await _answered(request, query, user_id, lambda: reads.referrals(user_id))

    @get("/v1/orders")
    async def get_orders(request: Request[Any, Any, Any]) -> Response[bytes]:
        query = _query(request, "kind", "status", *_PAGED)
        filters = {**query.given_choice("kind", ORDER_KINDS), **query.given_choice("status", ORDER_STATUSES)}
        limit, cursor = limit_of(query), query.text("cursor")
        found = await answer(query, reads, None, lambda: reads.orders(filters, limit, cursor))
        return json_response(request, body_of(found))

    @get("/v1/orders/{user_id:str}/{order_id:path}")
    async def get_order(request: Request[Any, Any, Any]) -> Response[bytes]:
        segments = segments_of(request.scope, 4)
        user_id, order_id = read_user_id(segments[2]), read_asked_id(segments[3], "order_id")
        query = _query(request, *SHARED_PARAMETERS)
        return await _answered(request, query, user_id, lambda: reads.order(user_id, order_id))

    @get("/v1/leaderboards/{name:str}")
    async def get_leaderboard(request: Request[Any, Any, Any]) -> Response[bytes]:
        name = segments_of(request.scope, 3)[2]
        query = _query(request, "asset", "at_us", "limit", *SHARED_PARAMETERS)
        if name not in LEADERBOARDS:
            raise Problem("not_found", f"there is no leaderboard {name}; there are {', '.join(LEADERBOARDS)}")
        asset = query.required("asset")
        if not is_asset_code(asset):
            raise Problem("malformed_request", "asset must be an asset's code, such as INR", field="asset")
        at_us = query.optional_integer("at_us", -TIME_US_MAX, TIME_US_MAX)
        limit = limit_of(query)
        found = await answer(
            query,
            reads,
            None,
            lambda: reads.leaderboard(name, asset, at_us, limit),
            lambda: reads.leaderboard(name, asset, at_us, limit, fresh=True),
        )
        return json_response(request, body_of(found))

    async def _answered(request: Request[Any, Any, Any], query: Query, user_id: str, ask: Asked) -> Response[bytes]:
        return json_response(request, body_of(await answer(query, reads, reads.partition_of(user_id), ask)))

    return get_wallet, [
        get_balance,
        get_history,
        get_bets,
        get_bet,
        get_holds,
        get_hold,
        get_transfer,
        get_statistics,
        get_referrals,
        get_orders,
        get_order,
        get_leaderboard,
    ]


def _query(request: Request[Any, Any, Any], *known: str) -> Query:
    return Query(request.scope["query_string"], known)


def _user_id(request: Request[Any, Any, Any]) -> str:
    return read_user_id(segments_of(request.scope, 4)[2])


def _item_id(request: Request[Any, Any, Any], name: str) -> str:
    return read_asked_id(segments_of(request.scope, 5)[4], name)


async def _strong(node: Node, user_id: str, query: Query) -> tuple[bytes, bytes]:
    """The wallet as its writer knows it: the document, and the same with ``as_of``."""
    partition = partition_of(user_id, node.partitions)
    timeout_ms = query.integer("timeout_ms", 2_000, 0, 10_000)
    least = min_positions(query.text("min_position"), node.partitions, partition).get(partition, 0)
    deadline = time.monotonic() + timeout_ms / 1000
    while True:
        read = await node.wallet(user_id)
        if isinstance(read, Failed):
            raise problem_of(read)
        if read.position.seq >= least:
            break
        if time.monotonic() >= deadline:
            detail = f"partition {partition} is at seq {read.position.seq}, {least} was asked for"
            raise Problem("not_yet_visible", detail, position=f"{partition}:{read.position.seq}")
        await asyncio.sleep(_LOOK_AGAIN_S)
    if read.wallet.status == "none":
        raise NotThere("wallet_not_found", f"the wallet {user_id} was never opened")
    document = encode(wallet_document(read))
    found = Found(None, "", {read.position.partition: read.position.seq}, False, 0)
    return document, with_as_of(document, found)
