"""The routes of games, their periods, leaderboards and the house, one row each; ``table`` has the others."""

from typing import Final

from api.http.bodies import AsOfSeveral, Games
from api.http.routing import AnyRoute, Body, Route
from api.identity.identity import ADMIN, AUDITOR, GAME_SERVER, OPERATOR, PLAYER
from api.routes.games import get_cohorts, get_games, get_house, get_movers, get_period, get_periods
from api.routes.parameters import (
    CohortsQuery,
    HouseQuery,
    LeaderboardQuery,
    MoversQuery,
    OfGame,
    OfLeaderboard,
    OfPeriod,
    PageQuery,
    ReadQuery,
)
from api.routes.wallets import get_leaderboard
from projections.models.cohorts import Cohorts
from projections.models.house import House
from projections.models.leaderboards import Leaderboard
from projections.models.movers import Movers
from projections.models.periods import Period, Periods

_EVERY_ROLE: Final = (GAME_SERVER, PLAYER, OPERATOR, AUDITOR, ADMIN)
_READ: Final = ("log_unavailable", "not_yet_visible")
_TRUE_AT: Final = "It, and in `as_of` the positions at which it is true"

GAME_ROUTES: Final[tuple[AnyRoute, ...]] = (
    Route(
        method="GET",
        path="/v1/leaderboards/{name}",
        handler=get_leaderboard,
        parameters=OfLeaderboard,
        query=LeaderboardQuery,
        roles=_EVERY_ROLE,
        returns=(Body(Leaderboard, _TRUE_AT, examples=("leaderboard",), as_of=AsOfSeveral),),
        problems=("not_found", *_READ),
        tag="leaderboards",
        operation="getLeaderboard",
        summary="Read who staked, won or netted the most",
        description="On a UTC day, in an ISO week, or in a month. Ties are ordered by `user_id`.",
    ),
    Route(
        method="GET",
        path="/v1/games",
        handler=get_games,
        roles=_EVERY_ROLE,
        returns=(Body(Games, "All games", examples=("games",)),),
        tag="games",
        operation="getGames",
        summary="Read which games take bets",
        description="The other rules of a game, its odds and limits, are the operator's; their digest names them.",
    ),
    Route(
        method="GET",
        path="/v1/games/{game}/periods",
        handler=get_periods,
        parameters=OfGame,
        query=PageQuery,
        roles=_EVERY_ROLE,
        returns=(
            Body(
                Periods,
                "A page; `next_cursor` is the cursor of the next page",
                examples=("periods",),
                as_of=AsOfSeveral,
            ),
        ),
        problems=_READ,
        missing=("game_not_found",),
        tag="games",
        operation="getPeriods",
        summary="List the periods of a game",
        description=(
            "The latest first: the periods with a bet, a result or a cancellation. `external` has none: its game "
            "server keeps them."
        ),
    ),
    Route(
        method="GET",
        path="/v1/games/{game}/periods/{period}",
        handler=get_period,
        parameters=OfPeriod,
        query=ReadQuery,
        roles=_EVERY_ROLE,
        returns=(Body(Period, _TRUE_AT, examples=("period",), as_of=AsOfSeveral),),
        problems=_READ,
        missing=("game_not_found", "period_not_found"),
        tag="games",
        operation="getPeriod",
        summary="Read one period of a game, and what was bet on each selection",
        description=(
            "A period that has begun is found even without a bet; a period that has not begun is `period_not_found`. "
            "The sums of its bets are stored, so reading them while bets arrive costs little."
        ),
    ),
    Route(
        method="GET",
        path="/v1/house",
        handler=get_house,
        query=HouseQuery,
        roles=(OPERATOR, AUDITOR, ADMIN),
        returns=(Body(House, _TRUE_AT, examples=("house",), as_of=AsOfSeveral),),
        problems=_READ,
        tag="games",
        operation="getHouse",
        summary="Read what the games took in and gave out, by the hour or by the day",
        description=(
            "And what their pay tables predict. A bet and its payout count in the hour in which the bet was placed, "
            "so both edges are about the same bets."
        ),
    ),
    Route(
        method="GET",
        path="/v1/house/movers",
        handler=get_movers,
        query=MoversQuery,
        roles=(OPERATOR, AUDITOR, ADMIN),
        returns=(Body(Movers, _TRUE_AT, examples=("movers",), as_of=AsOfSeveral),),
        problems=_READ,
        tag="games",
        operation="getMovers",
        summary="Read who won and who lost the most on a day",
        description=(
            "The net of a UTC day, as in the leaderboard `net_day`: payouts less their stakes, on the day of the "
            "settlement."
        ),
    ),
    Route(
        method="GET",
        path="/v1/house/cohorts",
        handler=get_cohorts,
        query=CohortsQuery,
        roles=(OPERATOR, AUDITOR, ADMIN),
        returns=(Body(Cohorts, _TRUE_AT, examples=("cohorts",), as_of=AsOfSeveral),),
        problems=_READ,
        tag="games",
        operation="getCohorts",
        summary="Read what the wallets of each day of registration bet on each day since",
        description=(
            "The sums of a UTC day, as in the leaderboards of a day: a stake counts on the day of its bet, and a net "
            "on the day of the settlement; a cancelled bet counts nowhere."
        ),
    ),
)
