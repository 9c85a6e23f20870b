"""``/v1/live``: live feeds, as server-sent events and over WebSockets. ``docs/live.md`` describes both."""

from typing import Any, Final

from api.http.live import HEADERS, MEDIA_TYPE, EventStream
from api.http.problems import Problem
from api.http.requests import Request, Response, headers_of
from api.http.routing import AnyRoute, Body, Route
from api.http.service import Service
from api.identity.identity import ADMIN, AUDITOR, GAME_SERVER, OPERATOR, PLAYER, Identity
from api.routes.games import game_of
from api.routes.parameters import LiveQuery
from projections.live.feed import Feed
from projections.live.hub import HubClosed, TooManyFeeds, UnknownId

_ROLES: Final = (GAME_SERVER, PLAYER, OPERATOR, AUDITOR, ADMIN)
_LAST_EVENT_ID: Final = b"last-event-id"
_TRY_AGAIN_S: Final = 5


async def open_feed(service: Service, request: Request[Any, LiveQuery]) -> Feed:
    """Open the feed that the request asks for, and wait until its first messages are there, or it continues from an
    id. The caller must remove the feed from the hub. Raises Problem."""
    identity = request.identity
    user_ids = request.query.user_id or _own(identity, request.query)
    names = dict.fromkeys(request.query.game)
    games = [game for name in names if (game := await game_of(service, name)) is not None]
    if not user_ids and not names:
        raise Problem("malformed_request", "name a user_id or a game", field="user_id")
    # A browser that connects again repeats the first query, and adds the header: the header is newer.
    header = headers_of(request.scope).get(_LAST_EVENT_ID)
    last_id = request.query.last_event_id if header is None else header.decode("latin-1")
    try:
        feed = service.hub.open(
            user_ids, games, last_id or None, _payers(identity, user_ids), service.gate.watch(request.scope)
        )
    except TooManyFeeds as error:
        limit = error.limit
        if error.of_all:
            raise Problem("overloaded", f"this node has {limit} live feeds, its limit") from None
        detail = f"there are {limit} live feeds of this user, the limit"
        raise Problem("rate_limited", detail, retry_after_s=_TRY_AGAIN_S) from None
    except UnknownId:
        detail = "the Last-Event-ID is not one of a feed with these user_ids and games"
        raise Problem("malformed_request", detail, field="Last-Event-ID") from None
    except HubClosed:
        raise Problem("shutting_down", "the service is stopping") from None
    try:
        await feed.started
    except BaseException:
        service.hub.remove(feed)
        raise
    return feed


async def get_live(service: Service, request: Request[Any, LiveQuery]) -> Response:
    if request.scope["method"] == "HEAD":
        return Response(b"", headers=HEADERS, media_type=MEDIA_TYPE)
    feed = await open_feed(service, request)
    stream = EventStream(service.hub, feed, request.receive)
    return Response(b"", headers=HEADERS, media_type=MEDIA_TYPE, stream=stream)


async def get_socket(_service: Service, _request: Request[Any, LiveQuery]) -> Response:
    raise Problem("not_found", "connect with a WebSocket; GET /v1/live has the same as server-sent events")


def _own(identity: Identity, query: LiveQuery) -> list[str]:
    """The users of a feed whose request names none: for a player who names no game either, their own user."""
    return [identity.user_id] if identity.user_id is not None and not query.game else []


def _payers(identity: Identity, user_ids: list[str]) -> list[str]:
    """The keys under whose limits the feed counts: for a player the player, for another client each pair of client
    and user. So the feeds of a player do not use up the limit of a game server."""
    if identity.role == PLAYER:
        return [f"{PLAYER} {identity.user_id}"]
    return [f"client {identity.client_id} {user_id}" for user_id in dict.fromkeys(user_ids)]


LIVE_ROUTES: Final[tuple[AnyRoute, ...]] = (
    Route(
        method="GET",
        path="/v1/live",
        handler=get_live,
        query=LiveQuery,
        roles=_ROLES,
        headers=("Last-Event-ID",),
        returns=(Body(None, "Server-sent events", media_type="text/event-stream", examples=("live",)),),
        problems=("log_unavailable",),
        missing=("game_not_found",),
        tag="live",
        operation="getLive",
        summary="Follow wallets, bets, results and distributions as they change",
        description=(
            "Server-sent events, without an end. `balance`: the wallet, as `GET /v1/wallets/{user_id}` returns it. "
            "`bet`: a bet when it is placed, and when it is settled or cancelled, with its `user_id`. `result`: how "
            "a period ended. `distribution`: the game's present period with what was bet on it, at most twice a "
            "second. `dropped`: the last event, with the `reason`. After a break send the last `id` as "
            "`Last-Event-ID`, to any node: nothing is missing and nothing comes twice. A player reads their own "
            "feed. `/v1/live/ws` sends the same over a WebSocket, each event as an object of `id`, `event`, `data`."
        ),
    ),
    # A WebSocket is no part of an OpenAPI document.
    Route(method="GET", path="/v1/live/ws", handler=get_socket, opens=open_feed, query=LiveQuery, roles=_ROLES),
)
