"""``/v1/games``: the games that take bets."""

from typing import Any

from api.http.bodies import encode, games_of
from api.http.compression import json_response
from api.http.requests import Request, Response
from api.http.service import Service


async def get_games(service: Service, request: Request[Any, Any]) -> Response:
    return json_response(request, encode(games_of(service.node.rules.games.values())))
