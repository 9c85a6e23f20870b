"""The JSON bodies of webhooks."""

from typing import Annotated, Any, Final

from msgspec import Meta, Struct

from api.webhooks.guard import URL_MAX
from api.webhooks.sender import TYPES
from api.webhooks.webhooks import GIVE_UP_S, GIVE_UP_S_MAX, GRACE_S
from ledger.core.fields import EVENT_POSITION_PATTERN, TIME_US_MAX
from ledger.core.position import PARTITIONS_MAX

GRACE_S_MAX: Final = 30 * 86_400
POSITIONS_MAX: Final = PARTITIONS_MAX
"""Positions of one request: one of each partition."""
_NOW_US: Final = 1_795_438_800_000_000

WebhookId = Annotated[
    str,
    Meta(
        pattern=r"^wh_[0-9a-f]{16}\Z",
        description="The webhook's id",
        examples=["wh_5f0c1b2a39d8e764"],
        extra={"must": "wh_ and 16 hexadecimal digits"},
    ),
]
_Url = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=URL_MAX,
        description=(
            "Where events are posted: `https://…`, to a public address. `STAKELOG_WEBHOOK_NETWORKS` allows private "
            "networks, and there `http://…` too"
        ),
        examples=["https://shop.example/hooks/stakelog"],
    ),
]
_Type = Annotated[
    str,
    Meta(
        pattern=rf"^({'|'.join(TYPES)})\Z",
        description="Type of the event",
        examples=["deposited"],
        extra_json_schema={"enum": list(TYPES)},
    ),
]
_Types = Annotated[
    tuple[_Type, ...],
    Meta(
        min_length=1,
        max_length=len(TYPES),
        description="The types of the events that it gets; null: all",
        examples=[["deposited", "withdrawal_approved"]],
    ),
]
_GiveUp = Annotated[
    int,
    Meta(
        ge=0,
        le=GIVE_UP_S_MAX,
        description=(
            "An event that was not delivered so many seconds after its first attempt becomes a dead letter; 0: after "
            "one attempt"
        ),
        examples=[GIVE_UP_S],
    ),
]
_Enabled = Annotated[
    bool, Meta(description="False: nothing is sent; what comes meanwhile is sent later", examples=[True])
]
_Secret = Annotated[
    str,
    Meta(
        description="Signs what it gets, by the Standard Webhooks specification; it is shown once",
        examples=["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDGB1j+5AGgzs="],
    ),
]
_EventPosition = Annotated[
    str,
    Meta(
        pattern=EVENT_POSITION_PATTERN,
        description="Position of the event: `<partition>:<seq>`; it is the `webhook-id`",
        examples=["3:42"],
        extra={"must": "the position of an event, <partition>:<seq>"},
    ),
]
_Count: Any = Meta(ge=0, examples=[2])
_TimeUs = Annotated[int, Meta(ge=0, le=TIME_US_MAX, description="Unix microseconds, UTC", examples=[_NOW_US])]


class WebhookBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A webhook as it is to be: what is left out gets its default."""

    url: _Url
    types: _Types | None = None
    give_up_s: _GiveUp = GIVE_UP_S
    enabled: _Enabled = True


class NewWebhookBody(WebhookBody, frozen=True, forbid_unknown_fields=True):
    """A webhook to add."""

    from_start: Annotated[
        bool, Meta(description="It gets all events of the log, not only those from now on", examples=[False])
    ] = False


class WebhookRotateBody(Struct, frozen=True, forbid_unknown_fields=True):
    """How long the present secret signs beside the new one."""

    grace_s: Annotated[
        int, Meta(ge=0, le=GRACE_S_MAX, description="Seconds for which both secrets sign", examples=[GRACE_S])
    ] = GRACE_S


class RevivedBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Which dead letters to send again."""

    positions: (
        Annotated[
            tuple[_EventPosition, ...],
            Meta(
                min_length=1, max_length=POSITIONS_MAX, description="Their positions; null: all", examples=[["3:42"]]
            ),
        ]
        | None
    ) = None


class ReplayBody(Struct, frozen=True, forbid_unknown_fields=True):
    """From where to send again."""

    positions: Annotated[
        tuple[_EventPosition, ...],
        Meta(
            min_length=1,
            max_length=POSITIONS_MAX,
            description="The first event to send again, of each partition that is to be repeated; one a partition",
            examples=[["0:1", "3:42"]],
        ),
    ]


class Webhook(Struct, frozen=True):
    """A webhook."""

    webhook_id: WebhookId
    url: _Url
    types: _Types | None
    give_up_s: _GiveUp
    enabled: _Enabled
    created_at_us: _TimeUs


class ListedWebhook(Webhook, frozen=True):
    """A webhook, and how far it got."""

    waiting: Annotated[int, _Count, Meta(description="Events that failed and are tried again, and those behind them")]
    dead_letters: Annotated[int, _Count, Meta(description="Events that were given up")]
    cursors: Annotated[
        list[str],
        Meta(
            description="For each partition: every event up to here was delivered, is of another type, waits, or is "
            "a dead letter",
            examples=[["0:17", "1:0", "2:5", "3:41"]],
        ),
    ]


class AddedWebhook(Webhook, frozen=True):
    """A webhook with its secret, which is shown once."""

    secret: _Secret


class RotatedWebhook(Struct, frozen=True):
    """A webhook's new secret, which is shown once."""

    webhook_id: WebhookId
    secret: _Secret


class Webhooks(Struct, frozen=True):
    """All webhooks, by time of creation."""

    items: list[ListedWebhook]


class DeadLetter(Struct, frozen=True):
    """An event that was given up. `GET /v1/events/{position}` returns it."""

    position: _EventPosition
    user_id: Annotated[
        str, Meta(description="The event's user, or a stream such as `game:wingo_1m`", examples=["player-15"])
    ]
    type: _Type
    time_us: _TimeUs
    attempts: Annotated[int, Meta(ge=1, description="How often it was sent", examples=[53])]
    first_attempt_at_us: Annotated[
        int,
        Meta(
            ge=0,
            le=TIME_US_MAX,
            description=(
                "Unix microseconds, UTC. If an event before it of the same user was given up: of that one, or the "
                "time of this event, whichever is later"
            ),
            examples=[_NOW_US],
        ),
    ]
    given_up_at_us: _TimeUs
    error: Annotated[str, Meta(description="Why the last attempt failed", examples=["status 500"])]


class DeadLetters(Struct, frozen=True):
    """A page of dead letters, by position."""

    items: list[DeadLetter]
    next_cursor: Annotated[
        str | None, Meta(description="Leads to the next page; null: there is none", examples=[None])
    ]


class Revived(Struct, frozen=True):
    """How many dead letters are sent again."""

    revived: Annotated[int, Meta(ge=0, description="How many there were", examples=[2])]
