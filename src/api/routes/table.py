"""The routes of the public contract, one row each.

A new route is one row here and one function: its handler. `CONTRIBUTING.md` has an example.
"""

from typing import Final

from api.http.routing import AnyRoute, Route
from api.routes.audit import get_event, get_events, get_partitions, get_seals
from api.routes.commands import get_command, post_batch, post_command
from api.routes.operation import get_health, get_metrics, get_readiness, get_schema
from api.routes.parameters import (
    BalanceQuery,
    BetsQuery,
    EventsQuery,
    HistoryQuery,
    LeaderboardQuery,
    OfBet,
    OfCommand,
    OfEvent,
    OfHold,
    OfLeaderboard,
    OfOrder,
    OfTransfer,
    OfWallet,
    OrdersQuery,
    PageQuery,
    PostQuery,
    ReadQuery,
    SealsQuery,
    WalletQuery,
)
from api.routes.wallets import (
    get_balance,
    get_bet,
    get_bets,
    get_history,
    get_hold,
    get_holds,
    get_leaderboard,
    get_order,
    get_orders,
    get_referrals,
    get_statistics,
    get_transfer,
    get_wallet,
)

ROUTES: Final[tuple[AnyRoute, ...]] = (
    Route(method="POST", path="/v1/commands", handler=post_command, query=PostQuery),
    Route(method="POST", path="/v1/commands/batch", handler=post_batch, query=PostQuery),
    Route(
        method="GET", path="/v1/commands/{user_id}/{command_id}", handler=get_command, parameters=OfCommand, rest=True
    ),
    Route(method="GET", path="/v1/wallets/{user_id}", handler=get_wallet, parameters=OfWallet, query=WalletQuery),
    Route(
        method="GET",
        path="/v1/wallets/{user_id}/balance",
        handler=get_balance,
        parameters=OfWallet,
        query=BalanceQuery,
    ),
    Route(
        method="GET",
        path="/v1/wallets/{user_id}/history",
        handler=get_history,
        parameters=OfWallet,
        query=HistoryQuery,
    ),
    Route(method="GET", path="/v1/wallets/{user_id}/bets", handler=get_bets, parameters=OfWallet, query=BetsQuery),
    Route(
        method="GET",
        path="/v1/wallets/{user_id}/bets/{bet_id}",
        handler=get_bet,
        parameters=OfBet,
        query=ReadQuery,
        rest=True,
    ),
    Route(method="GET", path="/v1/wallets/{user_id}/holds", handler=get_holds, parameters=OfWallet, query=PageQuery),
    Route(
        method="GET",
        path="/v1/wallets/{user_id}/holds/{hold_id}",
        handler=get_hold,
        parameters=OfHold,
        query=ReadQuery,
        rest=True,
    ),
    Route(
        method="GET",
        path="/v1/wallets/{user_id}/transfers/{transfer_id}",
        handler=get_transfer,
        parameters=OfTransfer,
        query=ReadQuery,
        rest=True,
    ),
    Route(
        method="GET", path="/v1/wallets/{user_id}/stats", handler=get_statistics, parameters=OfWallet, query=ReadQuery
    ),
    Route(
        method="GET",
        path="/v1/wallets/{user_id}/referrals",
        handler=get_referrals,
        parameters=OfWallet,
        query=ReadQuery,
    ),
    Route(method="GET", path="/v1/orders", handler=get_orders, query=OrdersQuery),
    Route(
        method="GET",
        path="/v1/orders/{user_id}/{order_id}",
        handler=get_order,
        parameters=OfOrder,
        query=ReadQuery,
        rest=True,
    ),
    Route(
        method="GET",
        path="/v1/leaderboards/{name}",
        handler=get_leaderboard,
        parameters=OfLeaderboard,
        query=LeaderboardQuery,
    ),
    Route(method="GET", path="/v1/partitions", handler=get_partitions),
    Route(method="GET", path="/v1/events", handler=get_events, query=EventsQuery),
    Route(method="GET", path="/v1/events/{position}", handler=get_event, parameters=OfEvent),
    Route(method="GET", path="/v1/seals", handler=get_seals, query=SealsQuery),
    Route(method="GET", path="/healthz", handler=get_health),
    Route(method="GET", path="/readyz", handler=get_readiness),
    Route(method="GET", path="/metrics", handler=get_metrics),
    Route(method="GET", path="/schema", handler=get_schema),
)
