"""The parameters of the routes: a Struct for each path and each query, checked before the handler runs."""

from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct

from api.http.identity_bodies import ClientId
from api.http.requests import TIMEOUT_MS
from api.http.webhook_bodies import WebhookId
from api.identity.clients import GRACE_S_MAX
from ledger.core.events import DATA_OF
from ledger.core.fields import EVENT_POSITION_PATTERN, TEXT_PATTERN, TIME_US_MAX, CodeText, Id, UserId
from ledger.core.position import PARTITIONS_MAX
from projections.models.adjustments import AdjustmentStatus
from projections.models.bets import BetStatus
from projections.models.house import By
from projections.models.leaderboards import LEADERBOARDS
from projections.models.orders import OrderKind, OrderStatus

LIMIT_MAX: Final = 200
LIMIT: Final = 50
USERS_MAX: Final = 100
GAMES_MAX: Final = 20
FEED_ID_MAX: Final = 8_192
"""More than an id of so many users and games has."""
TIMEOUT_MS_MAX: Final = 10_000
RECORDS_MAX: Final = 10_000
RECORDS: Final = 1_000
SEQ_MAX: Final = 2**53 - 1
_POSITION: Final = "(0|[1-9][0-9]{0,3}):(0|[1-9][0-9]{0,15})"
_START_US: Final = 1_795_438_800_000_000
_TIME_US_MIN: Final = 978_307_200_000_000
"""The start of 2001. Times of our century in seconds or milliseconds are smaller numbers."""


def _text(description: str, example: str) -> Any:
    """A text that an event can have."""
    return Meta(
        max_length=128,
        pattern=TEXT_PATTERN,
        description=description,
        examples=[example],
        extra={"must": "at most 128 characters, none of them a control character"},
    )


AnyCommandId = Annotated[
    str,
    Meta(
        pattern=r"^[!-~]{1,128}\Z",
        description="The command's id; also one of the ledger's own, which begin with `~`",
        examples=["c-2"],
        extra={"must": "1–128 printable ASCII characters without spaces"},
    ),
]
EventPosition = Annotated[
    str,
    Meta(
        pattern=EVENT_POSITION_PATTERN,
        description="Position of the event: `<partition>:<seq>`",
        examples=["3:2"],
        extra={"must": "the position of an event, <partition>:<seq>"},
    ),
]
TimeUs = Annotated[
    int,
    Meta(
        ge=_TIME_US_MIN,
        le=TIME_US_MAX,
        examples=[_START_US],
        extra={
            "must": (
                f"a time in Unix microseconds from {_TIME_US_MIN} (the year 2001) to {TIME_US_MAX}. A smaller number "
                "is probably in seconds or milliseconds: multiply it by 1000000 or 1000"
            )
        },
    ),
]
EventType = Annotated[
    str,
    Meta(
        pattern=rf"^({'|'.join(DATA_OF)})\Z",
        extra_json_schema={"enum": list(DATA_OF)},
        extra={"must": f"a type of event: {', '.join(DATA_OF)}"},
    ),
]


SummedAsset = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}\Z",
        description="The asset whose amounts are summed up",
        examples=["INR"],
        extra={"must": "an asset's code, such as INR"},
    ),
]

Cursor = Annotated[str, Meta(description="The `next_cursor` of the page before, with the same filters; opaque")]


# --- paths ---------------------------------------------------------------------------------------------------------


class OfWallet(Struct, frozen=True):
    user_id: UserId


class OfCommand(Struct, frozen=True):
    user_id: UserId
    command_id: AnyCommandId


class OfBet(Struct, frozen=True):
    user_id: UserId
    bet_id: Id


class OfHold(Struct, frozen=True):
    user_id: UserId
    hold_id: Id


class OfTransfer(Struct, frozen=True):
    user_id: UserId
    transfer_id: Id


class OfOrder(Struct, frozen=True):
    user_id: UserId
    order_id: Id


class OfCode(Struct, frozen=True):
    code: CodeText


class OfLeaderboard(Struct, frozen=True):
    name: Annotated[
        str,
        Meta(
            description="What is summed up, and over how long",
            examples=["staked_week"],
            extra_json_schema={"enum": list(LEADERBOARDS)},
        ),
    ]


class OfGame(Struct, frozen=True):
    game: Annotated[str, _text("The name of a game, as `GET /v1/games` has it", "wingo_30s")]


class OfPeriod(Struct, frozen=True):
    game: Annotated[str, _text("The name of a game, as `GET /v1/games` has it", "wingo_30s")]
    period: Annotated[str, _text("The period: its start in UTC, as `YYYYMMDDTHHMMSSZ`", "20261123T130000Z")]


class OfClient(Struct, frozen=True):
    client_id: ClientId


class OfWebhook(Struct, frozen=True):
    webhook_id: WebhookId


class OfEvent(Struct, frozen=True):
    position: EventPosition


# --- queries -------------------------------------------------------------------------------------------------------


class PostQuery(Struct, frozen=True):
    dry_run: Annotated[bool, Meta(description="Decide, and write nothing", examples=[True])] = False


class ReadQuery(Struct, frozen=True, kw_only=True):
    """What every read takes."""

    min_position: (
        Annotated[
            str,
            Meta(
                description=(
                    "Wait until the response includes the events up to this position, or to several, separated by "
                    "commas. A response about one wallet takes positions of its own partition only"
                ),
                examples=["3:2"],
                extra_json_schema={"pattern": f"^{_POSITION}(,{_POSITION})*$"},
            ),
        ]
        | None
    ) = None
    timeout_ms: Annotated[
        int,
        Meta(ge=0, le=TIMEOUT_MS_MAX, description="How long to wait at most, in milliseconds", examples=[TIMEOUT_MS]),
    ] = TIMEOUT_MS


class WalletQuery(ReadQuery, frozen=True, kw_only=True):
    consistency: (
        Annotated[
            Literal["strong"],
            Meta(
                description="`strong` reads the wallet from its writer, not from the read model", examples=["strong"]
            ),
        ]
        | None
    ) = None


class BalanceQuery(ReadQuery, frozen=True, kw_only=True):
    at_us: (
        Annotated[
            TimeUs,
            Meta(description="The balances after all events up to this time, in Unix microseconds; absent: now"),
        ]
        | None
    ) = None


class PageQuery(ReadQuery, frozen=True, kw_only=True):
    """What every list takes."""

    limit: Annotated[int, Meta(ge=1, le=LIMIT_MAX, description="Items of a page at most", examples=[LIMIT])] = LIMIT
    cursor: Cursor | None = None


class LiveQuery(Struct, frozen=True, kw_only=True):
    user_id: Annotated[
        list[UserId],
        Meta(
            max_length=USERS_MAX,
            description=(
                f"The wallets and bets of these users: the parameter may be given up to {USERS_MAX} times. A player "
                "who names neither a user nor a game gets their own"
            ),
            examples=[["player-15"]],
            extra={"must": f"given at most {USERS_MAX} times, each time the id of a user"},
        ),
    ] = []
    game: Annotated[
        list[Annotated[str, _text("The name of a game, as `GET /v1/games` has it", "wingo_30s")]],
        Meta(
            max_length=GAMES_MAX,
            description=(
                "The results of these games, and what is bet on their present periods: the parameter may be given up "
                f"to {GAMES_MAX} times"
            ),
            examples=[["wingo_30s"]],
            extra={"must": f"given at most {GAMES_MAX} times, each time the name of a game"},
        ),
    ] = []
    last_event_id: (
        Annotated[
            str,
            Meta(
                max_length=FEED_ID_MAX,
                description="As the header `Last-Event-ID`, for clients that cannot send headers; the header counts",
                examples=["f12f3c4a~42.9c0b11d2"],
                extra={"must": f"an id of this feed, at most {FEED_ID_MAX} characters"},
            ),
        ]
        | None
    ) = None


class WalletsQuery(ReadQuery, frozen=True, kw_only=True):
    user_id: (
        Annotated[
            list[UserId],
            Meta(
                min_length=1,
                max_length=USERS_MAX,
                description=f"The wallets of these users: the parameter may be given up to {USERS_MAX} times",
                examples=[["player-15", "player-18"]],
                extra={"must": f"given at most {USERS_MAX} times, each time the id of a user"},
            ),
        ]
        | None
    ) = None
    prefix: (
        Annotated[
            str,
            Meta(
                pattern=r"^([A-Za-z0-9][A-Za-z0-9_.:@-]{0,63})?\Z",
                description="The wallets of all users whose id begins with this text; empty: of all users",
                examples=["player-"],
                extra={"must": "the beginning of a user_id"},
            ),
        ]
        | None
    ) = None
    limit: (
        Annotated[
            int,
            Meta(
                ge=1,
                le=LIMIT_MAX,
                description=f"Items of a page at most; absent: {LIMIT}, or all users that `user_id` names",
                examples=[LIMIT],
            ),
        ]
        | None
    ) = None
    cursor: Cursor | None = None


class HistoryQuery(PageQuery, frozen=True, kw_only=True):
    type: Annotated[EventType, Meta(description="Only events of this type", examples=["bet_settled"])] | None = None
    asset: Annotated[str, _text("Only this asset", "INR")] | None = None
    game: Annotated[str, _text("Only bets of this game", "external")] | None = None
    from_us: Annotated[TimeUs, Meta(description="Only from this time on, in Unix microseconds")] | None = None
    to_us: Annotated[TimeUs, Meta(description="Only before this time, in Unix microseconds")] | None = None


class BetsQuery(PageQuery, frozen=True, kw_only=True):
    game: Annotated[str, _text("Only bets of this game", "external")] | None = None
    period: Annotated[str, _text("Only bets of this period", "2026-11-23/0042")] | None = None
    status: (
        Annotated[
            BetStatus,
            Meta(description="Only bets that had this status when the first page was read", examples=["open"]),
        ]
        | None
    ) = None


class OrdersQuery(PageQuery, frozen=True, kw_only=True):
    user_id: Annotated[UserId, Meta(description="Only orders of this user")] | None = None
    kind: (
        Annotated[
            OrderKind,
            Meta(description="Only orders of this kind", examples=["withdrawal"]),
        ]
        | None
    ) = None
    status: (
        Annotated[
            OrderStatus,
            Meta(description="Only orders that had this status when the first page was read", examples=["pending"]),
        ]
        | None
    ) = None


class AdjustmentsQuery(PageQuery, frozen=True, kw_only=True):
    status: (
        Annotated[
            AdjustmentStatus,
            Meta(
                description="Only adjustments that had this status when the first page was read",
                examples=["proposed"],
            ),
        ]
        | None
    ) = None


class LeaderboardQuery(ReadQuery, frozen=True, kw_only=True):
    asset: SummedAsset
    at_us: (
        Annotated[
            TimeUs, Meta(description="The day, week or month of this time, in Unix microseconds; absent: of now")
        ]
        | None
    ) = None
    limit: Annotated[int, Meta(ge=1, le=LIMIT_MAX, description="Users at most", examples=[LIMIT])] = LIMIT


class MoversQuery(ReadQuery, frozen=True, kw_only=True):
    asset: SummedAsset
    at_us: (
        Annotated[TimeUs, Meta(description="The UTC day of this time, in Unix microseconds; absent: today")] | None
    ) = None
    limit: Annotated[int, Meta(ge=1, le=LIMIT_MAX, description="Users of each list at most", examples=[LIMIT])] = (
        LIMIT
    )


class CohortsQuery(ReadQuery, frozen=True, kw_only=True):
    asset: SummedAsset
    from_us: (
        Annotated[
            TimeUs,
            Meta(
                description=(
                    "Wallets opened from the UTC day of this time on, in Unix microseconds; absent: 31 days. At most "
                    "31 days"
                )
            ),
        ]
        | None
    ) = None
    to_us: (
        Annotated[
            TimeUs,
            Meta(
                description=(
                    "Only days of registration that begin before this time, in Unix microseconds; absent: until today"
                )
            ),
        ]
        | None
    ) = None


class HouseQuery(ReadQuery, frozen=True, kw_only=True):
    asset: SummedAsset
    from_us: (
        Annotated[
            TimeUs,
            Meta(
                description=(
                    "From the hour or day of this time on, in Unix microseconds; absent: 31 days. At most 31 days by "
                    "the hour, 366 by the day"
                )
            ),
        ]
        | None
    ) = None
    to_us: (
        Annotated[TimeUs, Meta(description="Only hours or days that begin before this time, in Unix microseconds")]
        | None
    ) = None
    game: Annotated[str, _text("Only this game, without bonuses and commissions", "wingo_30s")] | None = None
    by: Annotated[By, Meta(description="What one item is", examples=["day"])] = "hour"


class RotateQuery(Struct, frozen=True):
    grace_s: (
        Annotated[
            int,
            Meta(
                ge=0,
                le=GRACE_S_MAX,
                description="As in the body: seconds for which the present secret stays valid. This one counts",
                examples=[3_600],
            ),
        ]
        | None
    ) = None


class EventsQuery(Struct, frozen=True):
    partition: Annotated[
        int,
        Meta(
            ge=0,
            le=PARTITIONS_MAX - 1,
            description="The partition; less than the log's number of partitions",
            examples=[3],
        ),
    ]
    from_seq: Annotated[int, Meta(ge=1, le=SEQ_MAX, description="Seq of the first record", examples=[1])] = 1
    limit: Annotated[int, Meta(ge=1, le=RECORDS_MAX, description="Records at most", examples=[RECORDS])] = RECORDS


class SealsQuery(Struct, frozen=True):
    limit: Annotated[int, Meta(ge=1, le=LIMIT_MAX, description="Seals at most", examples=[LIMIT])] = LIMIT
    cursor: Annotated[str, Meta(description="`next_cursor` of the page before")] | None = None


class DeadLettersQuery(Struct, frozen=True):
    limit: Annotated[int, Meta(ge=1, le=LIMIT_MAX, description="Dead letters at most", examples=[LIMIT])] = LIMIT
    cursor: Annotated[str, Meta(description="`next_cursor` of the page before")] | None = None
