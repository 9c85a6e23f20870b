"""``/v1/wallets/…``, ``/v1/orders``, ``/v1/leaderboards``: what client apps read."""

import asyncio
from typing import Any, Final

from msgspec import Raw
from msgspec.structs import asdict, replace

from api.http.bodies import encode, wallet_document
from api.http.compression import VARY, json_response
from api.http.consistency import Read, body_of, etag_of, is_known, min_positions, read_until_visible, with_as_of
from api.http.private import EventData, has_private, visible_data
from api.http.problems import NotThere, Problem, problem_of, unavailable
from api.http.requests import NO_STORE, Headers, Request, Response, list_header, not_modified
from api.http.service import Service
from api.routes.parameters import (
    LIMIT,
    AdjustmentsQuery,
    BalanceQuery,
    BetsQuery,
    HistoryQuery,
    LeaderboardQuery,
    OfBet,
    OfHold,
    OfLeaderboard,
    OfOrder,
    OfTransfer,
    OfWallet,
    OrdersQuery,
    PageQuery,
    ReadQuery,
    WalletQuery,
    WalletsQuery,
)
from ledger.core.position import partition_of
from ledger.errors import LedgerError
from ledger.node.node import Node
from ledger.writer.requests import Failed
from projections.models.history import History
from projections.models.leaderboards import LEADERBOARDS
from projections.models.orders import KIND_OF
from projections.reads.queries import Found

_LOOK_AGAIN_S: Final = 0.005


async def get_wallet(service: Service, request: Request[OfWallet, WalletQuery]) -> Response:
    user_id, query, reads = request.path.user_id, request.query, service.reads
    if query.consistency == "strong":
        document, body = await _strong(service.node, request)
        suspect = False
    else:
        found = await read_until_visible(
            request,
            reads,
            (reads.partition_of(user_id),),
            lambda: reads.wallet(user_id),
            lambda: reads.wallet(user_id, fresh=True),
        )
        document = encode(found.document)
        body, suspect = with_as_of(document, found), found.suspect
    if suspect:
        return Response(body)
    etag = etag_of(document)
    if is_known(etag, list_header(request.scope, b"if-none-match")):
        return not_modified(etag)
    return Response(body, headers=_etag(etag))


async def get_wallets(service: Service, request: Request[Any, WalletsQuery]) -> Response:
    query, reads = request.query, service.reads
    user_ids, prefix = query.user_id or [], query.prefix or ""
    if (query.user_id is None) == (query.prefix is None):
        raise Problem("malformed_request", "give either user_id, which may be given up to 100 times, or prefix")
    limit = query.limit or (len(user_ids) if user_ids else LIMIT)
    partitions = {reads.partition_of(user_id) for user_id in user_ids} if user_ids else None
    found = await read_until_visible(
        request, reads, partitions, lambda: reads.wallets(user_ids, prefix, limit, query.cursor)
    )
    return json_response(request, body_of(found))


async def get_balance(service: Service, request: Request[OfWallet, BalanceQuery]) -> Response:
    user_id, at_us = request.path.user_id, request.query.at_us
    return await _of_one(service, request, lambda: service.reads.balance(user_id, at_us))


async def get_history(service: Service, request: Request[OfWallet, HistoryQuery]) -> Response:
    user_id, query = request.path.user_id, request.query
    filters = _filters(query, "asset", "game", "type", "from_us", "to_us")
    reads = service.reads
    found = await read_until_visible(
        request,
        reads,
        (reads.partition_of(user_id),),
        lambda: reads.history(user_id, filters, query.limit, query.cursor),
    )
    return json_response(request, body_of(await _with_private(service, request, found)), NO_STORE)


async def _with_private(service: Service, request: Request[OfWallet, HistoryQuery], found: Found) -> Found:
    """The history as its reader may see it. The one that was read may be shared with other readers."""
    history = found.document
    assert isinstance(history, History), history
    if not any(has_private(bytes(item.data)) for item in history.items):
        return found
    events = [EventData(request.path.user_id, item.command_id, item.data) for item in history.items]
    try:
        data = await visible_data(service.keys, request.identity, events)
    except LedgerError as error:
        raise unavailable(error) from error
    items = [replace(item, data=Raw(one)) for item, one in zip(history.items, data, strict=True)]
    return replace(found, document=History(items, history.next_cursor))


async def get_bets(service: Service, request: Request[OfWallet, BetsQuery]) -> Response:
    user_id, query = request.path.user_id, request.query
    filters = _filters(query, "game", "period", "status")
    return await _of_one(service, request, lambda: service.reads.bets(user_id, filters, query.limit, query.cursor))


async def get_bet(service: Service, request: Request[OfBet, ReadQuery]) -> Response:
    path = request.path
    return await _of_one(service, request, lambda: service.reads.bet(path.user_id, path.bet_id))


async def get_holds(service: Service, request: Request[OfWallet, PageQuery]) -> Response:
    user_id, query = request.path.user_id, request.query
    return await _of_one(service, request, lambda: service.reads.holds(user_id, query.limit, query.cursor))


async def get_hold(service: Service, request: Request[OfHold, ReadQuery]) -> Response:
    path = request.path
    return await _of_one(service, request, lambda: service.reads.hold(path.user_id, path.hold_id))


async def get_transfer(service: Service, request: Request[OfTransfer, ReadQuery]) -> Response:
    path = request.path
    return await _of_one(service, request, lambda: service.reads.transfer(path.user_id, path.transfer_id))


async def get_transfers(service: Service, request: Request[OfWallet, PageQuery]) -> Response:
    user_id, query = request.path.user_id, request.query
    return await _of_one(service, request, lambda: service.reads.transfers(user_id, query.limit, query.cursor))


async def get_grants(service: Service, request: Request[OfWallet, PageQuery]) -> Response:
    user_id, query = request.path.user_id, request.query
    return await _of_one(service, request, lambda: service.reads.grants(user_id, query.limit, query.cursor))


async def get_statistics(service: Service, request: Request[OfWallet, ReadQuery]) -> Response:
    user_id, reads = request.path.user_id, service.reads
    found = await read_until_visible(
        request,
        reads,
        (reads.partition_of(user_id),),
        lambda: reads.statistics(user_id),
        lambda: reads.statistics(user_id, fresh=True),
    )
    document = encode(found.document)
    if found.suspect:
        return json_response(request, with_as_of(document, found))
    etag = etag_of(document)
    if is_known(etag, list_header(request.scope, b"if-none-match")):
        return not_modified(etag, VARY)
    return json_response(request, with_as_of(document, found), _etag(etag))


async def get_referrals(service: Service, request: Request[OfWallet, ReadQuery]) -> Response:
    user_id = request.path.user_id
    return await _of_one(service, request, lambda: service.reads.referrals(user_id))


async def get_orders(service: Service, request: Request[Any, OrdersQuery]) -> Response:
    query, reads = request.query, service.reads
    filters = _filters(query, "user_id", "kind", "status")
    if query.status is not None and query.kind not in (None, KIND_OF[query.status]):
        detail = f"a {query.kind} is never {query.status}; only a {KIND_OF[query.status]} is"
        raise Problem("malformed_request", detail, field="status")
    partitions = None if query.user_id is None else (reads.partition_of(query.user_id),)
    found = await read_until_visible(
        request, reads, partitions, lambda: reads.orders(filters, query.limit, query.cursor)
    )
    return json_response(request, body_of(found))


async def get_order(service: Service, request: Request[OfOrder, ReadQuery]) -> Response:
    path = request.path
    return await _of_one(service, request, lambda: service.reads.order(path.user_id, path.order_id))


async def get_adjustments(service: Service, request: Request[Any, AdjustmentsQuery]) -> Response:
    query, reads = request.query, service.reads
    filters = _filters(query, "status")
    found = await read_until_visible(
        request, reads, None, lambda: reads.adjustments(filters, query.limit, query.cursor)
    )
    return json_response(request, body_of(found))


async def get_leaderboard(service: Service, request: Request[OfLeaderboard, LeaderboardQuery]) -> Response:
    name, query, reads = request.path.name, request.query, service.reads
    if name not in LEADERBOARDS:
        raise Problem("not_found", f"there is no leaderboard {name}; the known ones are {', '.join(LEADERBOARDS)}")
    found = await read_until_visible(
        request,
        reads,
        None,
        lambda: reads.leaderboard(name, query.asset, query.at_us, query.limit),
        lambda: reads.leaderboard(name, query.asset, query.at_us, query.limit, fresh=True),
    )
    return json_response(request, body_of(found))


async def _of_one(service: Service, request: Request[Any, Any], read: Read) -> Response:
    """The response to a read of one wallet."""
    reads = service.reads
    found = await read_until_visible(request, reads, (reads.partition_of(request.path.user_id),), read)
    return json_response(request, body_of(found))


def _filters(query: PageQuery, *names: str) -> dict[str, Any]:
    """The filters that are given."""
    values = asdict(query)
    return {name: values[name] for name in names if values[name] is not None}


def _etag(etag: str) -> Headers:
    return ((b"etag", etag.encode()),)


async def _strong(node: Node, request: Request[OfWallet, WalletQuery]) -> tuple[bytes, bytes]:
    """The wallet in its writer's memory: the document, and the same with ``as_of``."""
    user_id = request.path.user_id
    partition = partition_of(user_id, node.partitions)
    least = min_positions(request.query.min_position, node.partitions, (partition,)).get(partition, 0)
    while True:
        read = await node.wallet(user_id)
        if isinstance(read, Failed):
            raise problem_of(read)
        if read.position.seq >= least:
            break
        if asyncio.get_running_loop().time() >= request.wait_until_s:
            detail = f"partition {partition} is at seq {read.position.seq}, the request waits for {least}"
            raise Problem("not_yet_visible", detail, position=f"{partition}:{read.position.seq}")
        await asyncio.sleep(_LOOK_AGAIN_S)
    if read.wallet.status == "none":
        raise NotThere("wallet_not_found", f"the wallet {user_id} was never opened")
    document = encode(wallet_document(read))
    found = Found(None, "", {read.position.partition: read.position.seq}, False, 0)
    return document, with_as_of(document, found)
