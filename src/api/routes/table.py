"""The routes of the public contract, one row each.

A new route is one row here and one function: its handler. ``CONTRIBUTING.md`` has an example.
"""

from typing import Final

from api.http.bodies import (
    AsOf,
    AsOfSeveral,
    BatchAccepted,
    BatchDryRun,
    BatchHit,
    BatchRefused,
    DryRunResult,
    Healthy,
    NotReady,
    Partitions,
    Ready,
    Result,
    Seals,
)
from api.http.commands import BATCH_MAX, BODY_MAX
from api.http.problems import BODY, REJECTIONS, WRITER
from api.http.routing import AnyRoute, Body, Named, Route
from api.identity.identity import ADMIN, AUDITOR, GAME_SERVER, OPERATOR, PLAYER
from api.identity.receipts import Receipt
from api.routes.audit import get_event, get_events, get_partitions, get_receipt, get_seals
from api.routes.codes_table import CODE_ROUTES
from api.routes.commands import get_command, post_batch, post_command
from api.routes.games_table import GAME_ROUTES
from api.routes.identity_table import IDENTITY_ROUTES
from api.routes.live import LIVE_ROUTES
from api.routes.operation import get_health, get_metrics, get_readiness, get_root, get_schema, get_script
from api.routes.page_table import PAGE_ROUTES
from api.routes.parameters import (
    AdjustmentsQuery,
    BalanceQuery,
    BetsQuery,
    EventsQuery,
    HistoryQuery,
    OfBet,
    OfCommand,
    OfEvent,
    OfHold,
    OfOrder,
    OfTransfer,
    OfWallet,
    OrdersQuery,
    PageQuery,
    PostQuery,
    ReadQuery,
    SealsQuery,
    WalletQuery,
    WalletsQuery,
)
from api.routes.private import delete_private
from api.routes.wallets import (
    get_adjustments,
    get_balance,
    get_bet,
    get_bets,
    get_grants,
    get_history,
    get_hold,
    get_holds,
    get_order,
    get_orders,
    get_referrals,
    get_statistics,
    get_transfer,
    get_transfers,
    get_wallet,
    get_wallets,
)
from api.routes.webhooks_table import WEBHOOK_ROUTES
from ledger.core.commands import COMMAND_TYPES
from projections.models.adjustments import Adjustments
from projections.models.bets import Bet, Bets
from projections.models.grants import BonusGrants
from projections.models.history import BalanceAt, History
from projections.models.holds import Hold, Holds
from projections.models.orders import Order, Orders
from projections.models.referrals import Referrals
from projections.models.statistics import Statistics
from projections.models.transfers import SentTransfer, Transfers
from projections.models.wallet_list import Wallets
from projections.models.wallets import Wallet

_POSTS: Final = (GAME_SERVER, OPERATOR)
_READS_COMMANDS: Final = (GAME_SERVER, OPERATOR, AUDITOR, ADMIN)
_READS_WALLETS: Final = (GAME_SERVER, PLAYER, OPERATOR, AUDITOR, ADMIN)
_READS_MANY_WALLETS: Final = (GAME_SERVER, OPERATOR, AUDITOR, ADMIN)
_READS_ORDERS: Final = (PLAYER, OPERATOR, AUDITOR, ADMIN)
"""A player: their own, of which ``user_id`` is the player."""
_READS_ADJUSTMENTS: Final = (OPERATOR, AUDITOR, ADMIN)
_DESTROYS_KEYS: Final = (OPERATOR, ADMIN)
_READS_EVENTS: Final = (AUDITOR, ADMIN)

_READ: Final = ("log_unavailable", "not_yet_visible")
_NO_WALLET: Final = ("wallet_not_found",)
_COMMANDS: Final = tuple(f"command.{command.__struct_config__.tag}" for command in COMMAND_TYPES)
_RESULTS: Final = tuple(f"result.{command.__struct_config__.tag}" for command in COMMAND_TYPES)
_TRUE_AT: Final = "It, and in `as_of` the position at which it is true"
_ETAG: Final = ("ETag",)
_PAGE: Final = "A page, newest first; `next_cursor` leads to the next one"
_NOT_MODIFIED: Final = Body(None, "The client has the current version", 304, None, headers=_ETAG)

ROUTES: Final[tuple[AnyRoute, ...]] = (
    Route(
        method="POST",
        path="/v1/commands",
        handler=post_command,
        query=PostQuery,
        roles=_POSTS,
        checks_commands=True,
        headers=("Stakelog-Actor",),
        body=Body(Named("Command"), f"One command; at most {BODY_MAX} bytes of UTF-8", examples=_COMMANDS),
        returns=(
            Body(Result, "Accepted: the event is durable", 201, examples=_RESULTS),
            Body(
                Named("ResultOrDryRun", (Result, DryRunResult), "The first result of the command, or of a dry run"),
                "The command was accepted before, and this is its first result; or it is a dry run",
                examples=("result.deposit", "dry_run"),
                headers=("Idempotency-Hit",),
            ),
        ),
        problems=(*BODY, *REJECTIONS, *WRITER),
        tag="commands",
        operation="postCommand",
        summary="Post one command",
        description=(
            "Responds only after the event is durable. To a caller 200 and 201 mean the same: the command is "
            "accepted. After `outcome_unknown`, or without a response, post the same command again: it takes "
            "effect once."
        ),
    ),
    Route(
        method="POST",
        path="/v1/commands/batch",
        handler=post_batch,
        query=PostQuery,
        roles=_POSTS,
        checks_commands=True,
        headers=("Stakelog-Actor",),
        body=Body(
            Named("Command", items_max=BATCH_MAX), f"1–{BATCH_MAX:,} commands of any wallets", examples=("batch",)
        ),
        returns=(
            Body(
                Named(
                    "BatchItem",
                    (BatchAccepted, BatchHit, BatchDryRun, BatchRefused),
                    "The outcome of one command of a batch",
                    BATCH_MAX,
                ),
                "An item for each command, in the same order",
                examples=("result.batch",),
            ),
        ),
        problems=(*BODY, "outcome_unknown"),
        tag="commands",
        operation="postCommands",
        summary=f"Post 1–{BATCH_MAX:,} commands of any wallets",
        description=(
            "The commands of one wallet are decided in the given order. A refused or malformed command does not stop "
            "the others. After a 5xx, the later commands of that wallet get the same 5xx."
        ),
    ),
    Route(
        method="GET",
        path="/v1/commands/{user_id}/{command_id}",
        handler=get_command,
        parameters=OfCommand,
        rest=True,
        roles=_READS_COMMANDS,
        returns=(Body(Result, "The command was accepted", examples=_RESULTS),),
        problems=("not_found", "outcome_unknown"),
        tag="commands",
        operation="getCommand",
        summary="Read the first result of a command",
        description=(
            "Settles an `outcome_unknown` without posting: 404 means that the command was not accepted, "
            "503 `outcome_unknown` that this cannot be determined now: ask again. "
            "Percent-encode both ids."
        ),
    ),
    Route(
        method="GET",
        path="/v1/wallets",
        handler=get_wallets,
        query=WalletsQuery,
        roles=_READS_MANY_WALLETS,
        returns=(Body(Wallets, _PAGE, examples=("wallets",), as_of=AsOfSeveral),),
        problems=_READ,
        tag="wallets",
        operation="getWallets",
        summary="Read the wallets of named users, or of all users whose id begins with a prefix",
        description=(
            "Give either `user_id` or `prefix`. Newest first. Users without a wallet are left out. With `user_id`, "
            "`as_of` names the partitions of these users."
        ),
    ),
    Route(
        method="GET",
        path="/v1/wallets/{user_id}",
        handler=get_wallet,
        parameters=OfWallet,
        query=WalletQuery,
        roles=_READS_WALLETS,
        headers=("If-None-Match",),
        returns=(Body(Wallet, _TRUE_AT, examples=("wallet",), headers=_ETAG, as_of=AsOf), _NOT_MODIFIED),
        problems=(*_READ, *WRITER),
        missing=_NO_WALLET,
        tag="wallets",
        operation="getWallet",
        summary="Read a wallet: status, balances, limits, first deposit",
        description=(
            "`available` is what a bet can take now; `withdrawable` is what a withdrawal, hold or transfer can take. "
            "An asset is in `balances` and `limits` once it was moved or limited. With `consistency=strong` the "
            "wallet's writer responds itself: the response includes every "
            "event that was durable when the request arrived."
        ),
    ),
    Route(
        method="GET",
        path="/v1/wallets/{user_id}/balance",
        handler=get_balance,
        parameters=OfWallet,
        query=BalanceQuery,
        roles=_READS_WALLETS,
        returns=(Body(BalanceAt, _TRUE_AT, examples=("balance",), as_of=AsOf),),
        problems=_READ,
        missing=_NO_WALLET,
        tag="wallets",
        operation="getBalance",
        summary="Read the balances, now or at a time",
        description="Before the first event of an asset, the asset is left out.",
    ),
    Route(
        method="GET",
        path="/v1/wallets/{user_id}/history",
        handler=get_history,
        parameters=OfWallet,
        query=HistoryQuery,
        roles=_READS_WALLETS,
        returns=(Body(History, _PAGE, examples=("history",), as_of=AsOf),),
        problems=_READ,
        missing=_NO_WALLET,
        tag="wallets",
        operation="getHistory",
        summary="Read what moved the wallet's money",
        description="One item for each event and asset that the event moved, newest first.",
    ),
    Route(
        method="DELETE",
        path="/v1/wallets/{user_id}/private",
        handler=delete_private,
        parameters=OfWallet,
        roles=_DESTROYS_KEYS,
        returns=(Body(None, "The key is destroyed, or there was none", 204, None),),
        problems=("log_unavailable",),
        tag="wallets",
        operation="deletePrivate",
        summary="Destroy the key of the user's private texts",
        description=(
            "Permanently: all `private` texts of the user's commands are `null` from then on. The events and their "
            "hashes stay as they are. The next command with `private` begins a new key."
        ),
    ),
    Route(
        method="GET",
        path="/v1/wallets/{user_id}/bets",
        handler=get_bets,
        parameters=OfWallet,
        query=BetsQuery,
        roles=_READS_WALLETS,
        returns=(Body(Bets, _PAGE, examples=("bets",), as_of=AsOf),),
        problems=_READ,
        missing=_NO_WALLET,
        tag="wallets",
        operation="getBets",
        summary="Read the bets",
        description="Newest first. A bet that was cancelled before it arrived is not in the list.",
    ),
    Route(
        method="GET",
        path="/v1/wallets/{user_id}/bets/{bet_id}",
        handler=get_bet,
        parameters=OfBet,
        query=ReadQuery,
        rest=True,
        roles=_READS_WALLETS,
        returns=(Body(Bet, _TRUE_AT, examples=("bet",), as_of=AsOf),),
        problems=_READ,
        missing=(*_NO_WALLET, "bet_not_found"),
        tag="wallets",
        operation="getBet",
        summary="Read one bet",
        description="Percent-encode the `bet_id`.",
    ),
    Route(
        method="GET",
        path="/v1/wallets/{user_id}/holds",
        handler=get_holds,
        parameters=OfWallet,
        query=PageQuery,
        roles=_READS_WALLETS,
        returns=(Body(Holds, _PAGE, examples=("holds",), as_of=AsOf),),
        problems=_READ,
        missing=_NO_WALLET,
        tag="wallets",
        operation="getHolds",
        summary="Read the holds",
        description="Newest first.",
    ),
    Route(
        method="GET",
        path="/v1/wallets/{user_id}/holds/{hold_id}",
        handler=get_hold,
        parameters=OfHold,
        query=ReadQuery,
        rest=True,
        roles=_READS_WALLETS,
        returns=(Body(Hold, _TRUE_AT, examples=("hold",), as_of=AsOf),),
        problems=_READ,
        missing=(*_NO_WALLET, "hold_not_found"),
        tag="wallets",
        operation="getHold",
        summary="Read one hold",
        description="Percent-encode the `hold_id`.",
    ),
    Route(
        method="GET",
        path="/v1/wallets/{user_id}/grants",
        handler=get_grants,
        parameters=OfWallet,
        query=PageQuery,
        roles=_READS_WALLETS,
        returns=(Body(BonusGrants, _PAGE, examples=("grants",), as_of=AsOf),),
        problems=_READ,
        missing=_NO_WALLET,
        tag="wallets",
        operation="getGrants",
        summary="Read the grants of bonus money, and what remains of each",
        description="Newest first. A deposit's bonus is a grant; its `grant_id` is the deposit's `order_id`.",
    ),
    Route(
        method="GET",
        path="/v1/wallets/{user_id}/transfers",
        handler=get_transfers,
        parameters=OfWallet,
        query=PageQuery,
        roles=_READS_WALLETS,
        returns=(Body(Transfers, _PAGE, examples=("transfers",), as_of=AsOf),),
        problems=_READ,
        missing=_NO_WALLET,
        tag="wallets",
        operation="getTransfers",
        summary="Read the transfers that the wallet sent",
        description="Newest first. What the wallet received is in its history.",
    ),
    Route(
        method="GET",
        path="/v1/wallets/{user_id}/transfers/{transfer_id}",
        handler=get_transfer,
        parameters=OfTransfer,
        query=ReadQuery,
        rest=True,
        roles=_READS_WALLETS,
        returns=(Body(SentTransfer, _TRUE_AT, examples=("transfer",), as_of=AsOf),),
        problems=_READ,
        missing=(*_NO_WALLET, "transfer_not_found"),
        tag="wallets",
        operation="getTransfer",
        summary="Read one transfer that the wallet sent",
        description="The receiver's wallet does not have it. Percent-encode the `transfer_id`.",
    ),
    Route(
        method="GET",
        path="/v1/wallets/{user_id}/stats",
        handler=get_statistics,
        parameters=OfWallet,
        query=ReadQuery,
        roles=_READS_WALLETS,
        headers=("If-None-Match",),
        returns=(Body(Statistics, _TRUE_AT, examples=("statistics",), headers=_ETAG, as_of=AsOf), _NOT_MODIFIED),
        problems=_READ,
        missing=_NO_WALLET,
        tag="wallets",
        operation="getStatistics",
        summary="Read the sums of bets, deposits, withdrawals and bonuses",
        description="By asset and game, and by asset. Cancelled bets are not counted.",
    ),
    Route(
        method="GET",
        path="/v1/wallets/{user_id}/referrals",
        handler=get_referrals,
        parameters=OfWallet,
        query=ReadQuery,
        roles=_READS_WALLETS,
        returns=(Body(Referrals, _TRUE_AT, examples=("referrals",), as_of=AsOf),),
        problems=_READ,
        missing=_NO_WALLET,
        tag="wallets",
        operation="getReferrals",
        summary="Read the referrer and the number of members, level by level",
        description="A member of level 1 named this user when opening a wallet; level 2 are the members' members.",
    ),
    Route(
        method="GET",
        path="/v1/orders",
        handler=get_orders,
        query=OrdersQuery,
        roles=_READS_ORDERS,
        returns=(Body(Orders, _PAGE, examples=("orders",), as_of=AsOfSeveral),),
        problems=_READ,
        tag="orders",
        operation="getOrders",
        summary="Read the orders of all users, or of one",
        description=(
            "Newest first. `kind=withdrawal&status=pending` is the queue of withdrawals to approve; `user_id` reads "
            "the orders of one user. A kind with a status that it cannot have is malformed."
        ),
    ),
    Route(
        method="GET",
        path="/v1/orders/{user_id}/{order_id}",
        handler=get_order,
        parameters=OfOrder,
        query=ReadQuery,
        rest=True,
        roles=_READS_ORDERS,
        returns=(Body(Order, _TRUE_AT, examples=("order",), as_of=AsOf),),
        problems=_READ,
        missing=(*_NO_WALLET, "order_not_found"),
        tag="orders",
        operation="getOrder",
        summary="Read one deposit or withdrawal",
        description="Percent-encode the `order_id`.",
    ),
    Route(
        method="GET",
        path="/v1/adjustments",
        handler=get_adjustments,
        query=AdjustmentsQuery,
        roles=_READS_ADJUSTMENTS,
        returns=(Body(Adjustments, _PAGE, examples=("adjustments",), as_of=AsOfSeveral),),
        problems=_READ,
        tag="adjustments",
        operation="getAdjustments",
        summary="Read the proposed adjustments of all users",
        description="Newest first. `status=proposed` is the queue of adjustments to approve or reject.",
    ),
    *CODE_ROUTES,
    *GAME_ROUTES,
    *LIVE_ROUTES,
    Route(
        method="GET",
        path="/v1/partitions",
        handler=get_partitions,
        roles=(OPERATOR, AUDITOR, ADMIN),
        returns=(Body(Partitions, "All partitions", examples=("partitions",)),),
        problems=("log_unavailable",),
        tag="audit",
        operation="getPartitions",
        summary="Read where every partition ends, and which node owns it",
        description="A head that is kept elsewhere proves later that the log still has everything before it.",
    ),
    Route(
        method="GET",
        path="/v1/events",
        handler=get_events,
        query=EventsQuery,
        roles=_READS_EVENTS,
        returns=(
            Body(
                None,
                "The records, each followed by a line feed",
                media_type="application/x-ndjson",
                examples=("records",),
            ),
        ),
        problems=("log_unavailable",),
        tag="audit",
        operation="getEvents",
        summary="Read records of a partition, byte for byte",
        description=(
            "The SHA-256 of a line is the `prev` of the next one. A page may end early at 4 MiB: continue at the "
            "last `seq` + 1, until a page is empty."
        ),
    ),
    Route(
        method="GET",
        path="/v1/events/{position}",
        handler=get_event,
        parameters=OfEvent,
        roles=_READS_EVENTS,
        returns=(Body(Named("Record"), "The record", examples=("record",)),),
        problems=("event_not_found", "log_unavailable"),
        tag="audit",
        operation="getEvent",
        summary="Read one record, byte for byte",
        description="The SHA-256 of the body is the `head` of the command's result.",
    ),
    Route(
        method="GET",
        path="/v1/events/{position}/receipt",
        handler=get_receipt,
        parameters=OfEvent,
        roles=_READS_EVENTS,
        returns=(Body(Receipt, "The record, signed", examples=("receipt",)),),
        problems=("event_not_found", "not_found", "log_unavailable"),
        tag="audit",
        operation="getReceipt",
        summary="Get a receipt of one event",
        description=(
            "A signed proof that the ledger has this record at this place. The keys are at `/.well-known/jwks.json`; "
            "`stakelog audit verify --receipt FILE --keys JWKS` checks it without a service."
        ),
    ),
    Route(
        method="GET",
        path="/v1/seals",
        handler=get_seals,
        query=SealsQuery,
        roles=(OPERATOR, AUDITOR, ADMIN),
        returns=(Body(Seals, _PAGE, examples=("seals",)),),
        problems=("log_unavailable",),
        tag="audit",
        operation="getSeals",
        summary="Read the seals of the log",
        description=(
            "Newest first. A seal says where every partition ended at a time; its `prev` is the SHA-256 of the seal "
            "before. Seals that are kept elsewhere prove later that the log still has everything before them."
        ),
    ),
    *IDENTITY_ROUTES,
    *WEBHOOK_ROUTES,
    Route(
        method="GET",
        path="/healthz",
        handler=get_health,
        returns=(
            Body(Healthy, "No restart is needed", examples=("healthy",)),
            Body(NotReady, "A restart is needed, and why", 503, examples=("not_ready",)),
        ),
        tag="operation",
        operation="getHealth",
        summary="Whether the process need not be restarted",
        description="For an orchestrator that restarts it.",
    ),
    Route(
        method="GET",
        path="/readyz",
        handler=get_readiness,
        returns=(
            Body(Ready, "It does", examples=("ready",)),
            Body(NotReady, "Not now, and why", 503, examples=("not_ready",)),
        ),
        tag="operation",
        operation="getReadiness",
        summary="Whether the node accepts commands",
        description="For a balancer that sends requests.",
    ),
    Route(
        method="GET",
        path="/metrics",
        handler=get_metrics,
        roles=(AUDITOR, ADMIN),
        returns=(
            Body(
                None,
                "Counters of this process, and gauges of its partitions",
                media_type="text/plain",
                examples=("metrics",),
            ),
        ),
        tag="operation",
        operation="getMetrics",
        summary="Read the metrics, in Prometheus' text format",
        description="Of this node only. A node with an internal listener has them there instead, without login.",
    ),
    Route(
        method="GET",
        path="/schema",
        handler=get_schema,
        returns=(Body(None, "The OpenAPI document; a browser gets a page that shows it", examples=("schema",)),),
        tag="operation",
        operation="getSchema",
        summary="Read this document",
        description="A browser, which accepts `text/html`, gets a page; every other client gets the JSON.",
    ),
    # For browsers: no part of the document.
    *PAGE_ROUTES,
    Route(method="GET", path="/", handler=get_root),
    Route(method="GET", path="/schema/", handler=get_schema),
    Route(method="GET", path="/schema/scalar.js", handler=get_script),
)
