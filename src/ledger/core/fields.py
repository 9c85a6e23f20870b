"""Types of the fields of commands and events: what a value means, its bounds, and an example.

Invariants:
(1) the types of commands are checked when a command is read: a client sends them;
(2) the types of events describe only: an event's data was decided here, and checking it again on each read of the log
    would cost more than decoding it. Their bounds go into the schemas of ``schemas/events``;
(3) a pattern ends in ``\\Z``: Python's ``$`` also matches before a final newline. The published schemas have ``$``
    instead, which ends the text in every other language, and no look-around, which many languages lack.
"""

from typing import Annotated

from msgspec import Meta, Struct

from ledger.core.money import AMOUNT_MAX

TIME_US_MAX = 2**53 - 1

REFERRAL_LEVELS = 6
"""How many levels of referrers count a new wallet; from the contract."""

AGENT_LEVEL_MAX = 10
"""From the contract."""

RESERVED = ("game:", "gift:", "code:", "partition:")
"""Beginnings of names that no user may have."""

_NOT_RESERVED = f"(?!{'|'.join(RESERVED)})"

USER_ID_PATTERN = rf"^{_NOT_RESERVED}[A-Za-z0-9][A-Za-z0-9_.:@-]{{0,63}}\Z"
ID_PATTERN = r"^[!-}][!-~]{0,127}\Z"
POSITION_PATTERN = r"^(0|[1-9][0-9]{0,3}):(0|[1-9][0-9]{0,15})\Z"
EVENT_POSITION_PATTERN = r"^(0|[1-9][0-9]{0,3}):[1-9][0-9]{0,15}\Z"
CODE_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}\Z"
GIFT_STREAM = "gift:"
GIFT_STREAM_PATTERN = r"^gift:[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}\Z"
CODE_STREAM = "code:"
CODE_STREAM_PATTERN = r"^code:[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}\Z"
GAME_STREAM = "game:"
GAME_STREAM_PATTERN = r"^game:[A-Za-z0-9_.-]{1,59}\Z"
ASSET_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}\Z"
TEXT_PATTERN = r"^[^\x00-\x1f\x7f-\x9f]*\Z"


def published(pattern: str) -> str:
    """The pattern as the schemas have it: see invariant (3). ``NOT_RESERVED_SCHEMA`` replaces the look-ahead."""
    return pattern.replace(_NOT_RESERVED, "").replace(r"\Z", "$")


NOT_RESERVED_SCHEMA = {"not": {"pattern": f"^({'|'.join(RESERVED)})"}}

_MINOR = "in the asset's minor unit"
_TIME_EXAMPLE = 1_795_438_800_000_000

# --- of commands: checked --------------------------------------------------------------------------------------

UserId = Annotated[
    str,
    Meta(
        pattern=USER_ID_PATTERN,
        description=(
            "The user who owns the wallet: 1–64 of `A–Z a–z 0–9 _ - . : @`, beginning with a letter or digit. Names "
            "that begin with `game:`, `gift:`, `code:` or `partition:` are reserved"
        ),
        examples=["player-15"],
        extra={
            "must": "1–64 of A–Z a–z 0–9 _ - . : @, beginning with a letter or digit, and not with game:, gift:, "
            "code: or partition:, which are reserved"
        },
        extra_json_schema=NOT_RESERVED_SCHEMA,
    ),
]
Id = Annotated[
    str,
    Meta(
        pattern=ID_PATTERN,
        description="1–128 printable ASCII characters without spaces, not beginning with `~`",
        examples=["c-1"],
        extra={
            "must": "1–128 printable ASCII characters without spaces, not beginning with ~, which is the ledger's own"
        },
    ),
]
PositionText = Annotated[
    str,
    Meta(
        pattern=POSITION_PATTERN,
        description="Position of an event: `<partition>:<seq>`",
        examples=["3:42"],
        extra={"must": "the position of an event, <partition>:<seq>"},
    ),
]
Asset = Annotated[str, Meta(description="Code of a declared asset; another gets `unknown_asset`", examples=["INR"])]
Amount = Annotated[
    int,
    Meta(description=f"Amount {_MINOR}, 1 … 2^53−1; another gets `amount_out_of_range`", examples=[50_000]),
]
AmountOrZero = Annotated[
    int,
    Meta(description=f"Amount {_MINOR}, 0 … 2^53−1; another gets `amount_out_of_range`", examples=[0]),
]
SignedAmount = Annotated[
    int,
    Meta(
        description=(
            f"Amount {_MINOR}, ±(1 … 2^53−1); another gets `amount_out_of_range`. Above 0 it is added to cash, "
            "below 0 taken from it"
        ),
        examples=[-1_500],
    ),
]
TimeUs = Annotated[
    int,
    Meta(
        ge=-TIME_US_MAX,
        le=TIME_US_MAX,
        description="Unix time in microseconds, UTC; the past is accepted",
        examples=[_TIME_EXAMPLE],
    ),
]
AgentLevel = Annotated[
    int,
    Meta(
        ge=0,
        le=AGENT_LEVEL_MAX,
        description=f"The level of an agent, 0 … {AGENT_LEVEL_MAX}; the rules may pay commissions by it",
        examples=[1],
    ),
]
Reason = Annotated[str, Meta(max_length=500, description="Why, as free text", examples=["the round was void"])]
Text = Annotated[str, Meta(max_length=128)]
GameName = Annotated[
    Text,
    Meta(
        description=(
            "The game. `external` is a game whose rules the game server keeps: `period` and `selection` are free "
            "text, and the game server pays with `settle_bet`. The others are named by their rules and the length of "
            "their periods, as `wingo_30s`: their bets are settled by `record_result`"
        ),
        examples=["external"],
    ),
]
Period = Annotated[
    Text,
    Meta(
        description=(
            "The round of the game that the bet is on; of `external` any text, for reports and filters. Of the other "
            "games it is the start of the period in UTC, `YYYYMMDDTHHMMSSZ`, a multiple of the game's length since "
            "midnight"
        ),
        examples=["2026-11-23/0042"],
    ),
]
Selection = Annotated[
    Text,
    Meta(
        description=(
            "What the bet is on; of `external` any text, never interpreted. Of the other games legs joined by `+`, "
            "over which the stake is split"
        ),
        examples=["red"],
    ),
]
GameStream = Annotated[
    str,
    Meta(
        pattern=GAME_STREAM_PATTERN,
        description="The stream of the game: `game:` and the name of the game",
        examples=["game:wingo_30s"],
        extra={"must": "game: and the name of a game, as game:wingo_30s"},
    ),
]
GiftStream = Annotated[
    str,
    Meta(
        pattern=GIFT_STREAM_PATTERN,
        description="The stream of the gift: `gift:` and the code of the gift",
        examples=["gift:welcome-2026"],
        extra={"must": "gift: and a code of 1–64 of A–Z a–z 0–9 _ - . @, beginning with a letter or digit"},
    ),
]
CodeText = Annotated[
    str,
    Meta(
        pattern=CODE_PATTERN,
        description="1–64 of `A–Z a–z 0–9 _ - . @`, beginning with a letter or digit",
        examples=["welcome-2026"],
        extra={"must": "1–64 of A–Z a–z 0–9 _ - . @, beginning with a letter or digit"},
    ),
]
GamePeriod = Annotated[
    Text,
    Meta(
        description=(
            "The period: its start in UTC, `YYYYMMDDTHHMMSSZ`, a multiple of the game's length since midnight"
        ),
        examples=["20261123T130000Z"],
    ),
]
Result = Annotated[
    Text,
    Meta(
        description="The result: Wingo, TrxWix `7`; K3 `135`, the dice as rolled; 5D `01234`",
        examples=["7"],
    ),
]
Spend = Annotated[
    str,
    Meta(
        pattern=r"^(cash_first|bonus_first)\Z",
        description=(
            "Which money the stake takes first: `cash_first` (the default) takes cash, bonus, credit; `bonus_first` "
            "bonus, cash, credit"
        ),
        examples=["bonus_first"],
        extra_json_schema={"enum": ["cash_first", "bonus_first"]},
        extra={"must": "cash_first or bonus_first"},
    ),
]
Metadata = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]],
    Meta(
        max_length=16,
        description="Texts of the client's own: kept with the event, never interpreted",
        examples=[{"table": "roulette-3", "device": "android"}],
    ),
]

Private = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]],
    Meta(
        max_length=16,
        description=(
            "Texts for the operator, the auditor and this client only. They are kept encrypted under a key of the "
            "user's own, which `DELETE /v1/wallets/{user_id}/private` destroys. They are no part of what a command "
            "asks for: the same command with other private texts is the same command"
        ),
        examples=[{"iban": "DE02120300000000202051"}],
    ),
]
SealedPrivate = str
"""``Private`` after encryption: base64. Nodes send it to each other; a client that sends it gets a 400."""


class Proof(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """The block that a result was drawn from: 64 hexadecimal digits, the height, the time. The rules of games check
    the values, so that what is wrong with them is an `invalid_result`."""

    hash: Annotated[
        str,
        Meta(
            description="The block's hash, in hex. Its last decimal digit is the result of TrxWix",
            examples=["0000000003f1c6b1a3a2b7c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f7fb"],
            extra_json_schema={"pattern": "^[0-9a-fA-F]{64}$"},
        ),
    ]
    height: Annotated[
        int,
        Meta(
            description="The block's height",
            examples=[66_176_689],
            extra_json_schema={"minimum": 0, "maximum": TIME_US_MAX},
        ),
    ]
    time_us: Annotated[
        int,
        Meta(
            description="The block's time, Unix microseconds, UTC; for TrxWix not before the period's end",
            examples=[_TIME_EXAMPLE],
            extra_json_schema={"minimum": 0, "maximum": TIME_US_MAX},
        ),
    ]


# --- of events: described ----------------------------------------------------------------------------------------

EventUserId = Annotated[
    str,
    Meta(
        description="A user",
        examples=["player-18"],
        extra_json_schema={"pattern": published(USER_ID_PATTERN), **NOT_RESERVED_SCHEMA},
    ),
]
EventId = Annotated[str, Meta(extra_json_schema={"pattern": published(ID_PATTERN)})]
EventGrantId = Annotated[str, Meta(extra_json_schema={"pattern": "^[!-~]{1,128}$"})]
"""A grant's id; that of the ledger's own begins with ``~``."""
EventAsset = Annotated[
    str,
    Meta(description="The asset's code", examples=["INR"], extra_json_schema={"pattern": published(ASSET_PATTERN)}),
]
EventCode = Annotated[
    str,
    Meta(
        description="The code",
        examples=["welcome-2026"],
        extra_json_schema={"pattern": published(CODE_PATTERN)},
    ),
]
EventGamePeriod = Annotated[
    str,
    Meta(
        description="The period: its start in UTC",
        examples=["20261123T130000Z"],
        extra_json_schema={"pattern": "^[0-9]{8}T[0-9]{6}Z$"},
    ),
]
EventResult = Annotated[
    str,
    Meta(
        description="The result, as the game's rules spell it",
        examples=["7"],
        extra_json_schema={"pattern": "^[0-9]{1,5}$"},
    ),
]
EventDigest = Annotated[
    str,
    Meta(
        description="SHA-256, in hex, of the rules that the bet was taken under, and is paid by",
        examples=["5d2f0c6fcd9a1f2c5c2e0d43f4a0d5a6a0b7be1e3f4f9d6c7b8a990011223344"],
        extra_json_schema={"pattern": "^[0-9a-f]{64}$"},
    ),
]
EventMoneyRules = Annotated[
    str,
    Meta(
        description="SHA-256, in hex, of the rules of money flows that the event followed",
        examples=["7c1e0c6fcd9a1f2c5c2e0d43f4a0d5a6a0b7be1e3f4f9d6c7b8a990011223344"],
        extra_json_schema={"pattern": "^[0-9a-f]{64}$"},
    ),
]
EventDay = Annotated[
    str,
    Meta(
        description="The UTC day",
        examples=["2026-11-23"],
        extra_json_schema={"pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"},
    ),
]
EventWagering = Annotated[
    int,
    Meta(
        description=f"What the event adds to the stakes that a withdrawal needs, {_MINOR}; absent: nothing",
        examples=[50_000],
        extra_json_schema={"minimum": 1, "maximum": AMOUNT_MAX},
    ),
]
EventAmount = Annotated[
    int,
    Meta(
        description=f"Amount {_MINOR}",
        examples=[50_000],
        extra_json_schema={"minimum": 1, "maximum": AMOUNT_MAX},
    ),
]
EventPayoutRest = Annotated[
    int,
    Meta(
        description=f"Amount {_MINOR}; it may be larger than any amount that a wallet can have",
        examples=[1],
        extra_json_schema={"minimum": 1},
    ),
]
EventUnboundedAmount = Annotated[
    int,
    Meta(
        description=f"Amount {_MINOR}; a sum, which may be larger than any amount",
        examples=[50_000],
        extra_json_schema={"minimum": 0},
    ),
]
EventAmountOrZero = Annotated[
    int,
    Meta(
        description=f"Amount {_MINOR}",
        examples=[0],
        extra_json_schema={"minimum": 0, "maximum": AMOUNT_MAX},
    ),
]
EventSignedAmount = Annotated[
    int,
    Meta(
        description=f"Amount {_MINOR}: above 0 added to cash, below 0 taken from it",
        examples=[-1_500],
        extra_json_schema={"minimum": -AMOUNT_MAX, "maximum": AMOUNT_MAX, "not": {"const": 0}},
    ),
]
EventTotal = Annotated[int, Meta(examples=[9_500], extra_json_schema={"minimum": -AMOUNT_MAX, "maximum": AMOUNT_MAX})]
EventLevel = Annotated[
    int,
    Meta(
        description="Steps from the member up to the referrer: 1 is the direct one",
        examples=[1],
        extra_json_schema={"minimum": 1, "maximum": REFERRAL_LEVELS},
    ),
]
EventAgentLevel = Annotated[
    int,
    Meta(
        description="The level of an agent; 0: none",
        examples=[1],
        extra_json_schema={"minimum": 0, "maximum": AGENT_LEVEL_MAX},
    ),
]
EventLimit = Annotated[int, Meta(examples=[500_000], extra_json_schema={"minimum": 0, "maximum": AMOUNT_MAX})]
EventTimeUs = Annotated[
    int,
    Meta(
        description="Unix time in microseconds, UTC",
        examples=[_TIME_EXAMPLE],
        extra_json_schema={"minimum": -TIME_US_MAX, "maximum": TIME_US_MAX},
    ),
]
Cause = Annotated[
    str,
    Meta(
        description="Position of the event that led to this one",
        examples=["3:42"],
        extra_json_schema={"pattern": published(EVENT_POSITION_PATTERN)},
    ),
]
EventPosition = Annotated[
    str,
    Meta(
        description="Position of an event: `<partition>:<seq>`",
        examples=["3:16"],
        extra_json_schema={"pattern": published(EVENT_POSITION_PATTERN)},
    ),
]
EventReason = Annotated[
    str,
    Meta(
        description="Why, as the command says",
        examples=["the round was void"],
        extra_json_schema={"maxLength": 500, "pattern": published(TEXT_PATTERN)},
    ),
]
EventText = Annotated[str, Meta(extra_json_schema={"maxLength": 128, "pattern": published(TEXT_PATTERN)})]
EventMetadata = Annotated[
    dict[
        Annotated[str, Meta(extra_json_schema={"maxLength": 64, "pattern": published(TEXT_PATTERN)})],
        Annotated[str, Meta(extra_json_schema={"maxLength": 512, "pattern": published(TEXT_PATTERN)})],
    ],
    Meta(
        description="As the command says",
        examples=[{"table": "roulette-3"}],
        extra_json_schema={"maxProperties": 16},
    ),
]
EventPrivate = Annotated[
    str,
    Meta(
        description=(
            "The command's private texts, encrypted: base64 of the version 1, the key's id (16 bytes), the nonce "
            "(12 bytes) and AES-256-GCM's output"
        ),
        extra_json_schema={"pattern": "^[A-Za-z0-9+/]+={0,2}$"},
    ),
]
