"""``/v1/games``: the games that take bets, and their periods; ``/v1/house``: what the house won by them, the top
movers, and the cohorts."""

from typing import Any

from api.http.bodies import encode, games_of
from api.http.compression import json_response
from api.http.consistency import body_of, read_until_visible
from api.http.problems import NotThere, Problem, unavailable
from api.http.requests import Request, Response
from api.http.service import Service
from api.routes.parameters import CohortsQuery, HouseQuery, MoversQuery, OfGame, OfPeriod, PageQuery, ReadQuery
from ledger.core.games.rules import EXTERNAL_GAME, Game, span_of
from ledger.errors import LedgerError
from projections.models.cohorts import DAYS_MAX, registered_of
from projections.models.house import DAY_HOURS, HOURS_MAX, hours_of


async def get_games(service: Service, request: Request[Any, Any]) -> Response:
    return json_response(request, encode(games_of(service.node.rules.games.values())))


async def get_periods(service: Service, request: Request[OfGame, PageQuery]) -> Response:
    query, reads = request.query, service.reads
    game = await game_of(service, request.path.game)
    found = await read_until_visible(request, reads, None, lambda: reads.periods(game, query.limit, query.cursor))
    return json_response(request, body_of(found))


async def get_period(service: Service, request: Request[OfPeriod, ReadQuery]) -> Response:
    path, reads = request.path, service.reads
    game = await game_of(service, path.game)
    if game is not None and span_of(game, path.period) is None:
        detail = (
            f"a period of {path.game} is named by its start in UTC, as YYYYMMDDTHHMMSSZ, and starts at a multiple of "
            f"{game.length_s} s since midnight"
        )
        raise Problem("malformed_request", detail, field="period")
    found = await read_until_visible(request, reads, None, lambda: reads.period(game, path.period))
    return json_response(request, body_of(found))


async def get_house(service: Service, request: Request[Any, HouseQuery]) -> Response:
    query, reads = request.query, service.reads
    hours = hours_of(query.by, query.from_us, query.to_us, reads.now_us())
    if hours is None:
        detail = f"from_us is more than {HOURS_MAX[query.by] // DAY_HOURS} days before to_us: read it in parts"
        raise Problem("malformed_request", detail, field="from_us")
    found = await read_until_visible(
        request, reads, None, lambda: reads.house(query.asset, hours, query.game, query.by, service.edges)
    )
    return json_response(request, body_of(found))


async def get_movers(service: Service, request: Request[Any, MoversQuery]) -> Response:
    query, reads = request.query, service.reads
    found = await read_until_visible(
        request, reads, None, lambda: reads.movers(query.asset, query.at_us, query.limit)
    )
    return json_response(request, body_of(found))


async def get_cohorts(service: Service, request: Request[Any, CohortsQuery]) -> Response:
    query, reads = request.query, service.reads
    registered = registered_of(query.from_us, query.to_us, reads.now_us())
    if registered is None:
        detail = f"from_us to to_us overlaps more than {DAYS_MAX} UTC days: read them in parts"
        raise Problem("malformed_request", detail, field="from_us")
    found = await read_until_visible(request, reads, None, lambda: reads.cohorts(query.asset, registered))
    return json_response(request, body_of(found))


async def game_of(service: Service, name: str) -> Game | None:
    """The game of that name, also if it takes no bets any more; None for ``external``, which has no periods here.
    Raises NotThere, Problem."""
    if name == EXTERNAL_GAME:
        return None
    try:
        game = await service.node.kept_games.game(name)
    except LedgerError as error:
        raise unavailable(error) from error
    if game is None:
        raise NotThere("game_not_found", f"there is no game {name}; GET /v1/games lists them")
    return game
