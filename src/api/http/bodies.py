"""The JSON bodies of responses that are no documents of the read model: their Structs, and how each is made."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from api.http.problems import Problem, problem_of
from ledger.core.events import Balance
from ledger.core.fields import EVENT_POSITION_PATTERN, POSITION_PATTERN, EventAsset, published
from ledger.core.games.rules import EXTERNAL_GAME, Game
from ledger.core.position import PARTITIONS_MAX
from ledger.core.record import Head, members_of
from ledger.core.wallet import NO_BALANCE, NO_LIMITS, Wallet
from ledger.operations.seals import Seal
from ledger.writer.requests import (
    Accepted,
    AnyResponse,
    DryRunAccepted,
    Failed,
    IdReused,
    OtherGame,
    Refused,
    WalletRead,
)
from projections.models import wallets
from projections.tables.fields import NextCursor

_SEQ_MAX: Final = 2**53 - 1

# Bounds and patterns go into the API's document only: these Structs are encoded, never decoded. The result of an
# accepted command is not even encoded: ``encode_result`` copies its bytes from the record.
Position = Annotated[
    str,
    Meta(
        pattern=published(EVENT_POSITION_PATTERN),
        description="Position of the event: `<partition>:<seq>`",
        examples=["3:2"],
    ),
]
Partition = Annotated[
    int, Meta(ge=0, le=PARTITIONS_MAX - 1, description="The partition of the wallet's user", examples=[3])
]
Seq = Annotated[
    int,
    Meta(ge=1, le=_SEQ_MAX, description="Place of the event in its partition: 1, 2, 3 … without gaps", examples=[2]),
]
TimeUs = Annotated[
    int,
    Meta(
        ge=0, le=_SEQ_MAX, description="Unix time of the event in microseconds, UTC", examples=[1_795_438_801_000_000]
    ),
]
EventType = Annotated[str, Meta(description="Type of the event", examples=["deposited"])]
EventData = Annotated[
    Any,
    Meta(
        description="Data of the event: the fields of the command, and what the decision added",
        extra_json_schema={"$ref": "#/components/schemas/EventData"},
    ),
]
Balances = Annotated[
    dict[EventAsset, Balance], Meta(description="The wallet after the event, for each asset that the event moved")
]
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", examples=["0" * 64])]
LagMs = Annotated[
    int,
    Meta(
        ge=0,
        description="Age of the oldest known event that the response does not include, in milliseconds; 0: none",
        examples=[0],
    ),
]
Suspect = Annotated[
    bool,
    Meta(
        description=(
            "True if the background check found rows behind this response that differ from the log: the response may "
            "be wrong. Otherwise absent"
        ),
        examples=[True],
    ),
]


class AsOf(Struct, gc=False, omit_defaults=True):
    """The position at which a response about one wallet is true.

    It includes this event of the wallet's partition, and all events before it.
    """

    position: Annotated[
        str, Meta(pattern=published(POSITION_PATTERN), description="`<partition>:<seq>`", examples=["3:42"])
    ]
    lag_ms: LagMs
    suspect: Suspect = False


class AsOfSeveral(Struct, gc=False, omit_defaults=True):
    """The positions at which a response about many wallets is true, one for each partition."""

    positions: Annotated[
        list[Annotated[str, Meta(pattern=published(POSITION_PATTERN))]],
        Meta(min_length=1, description="`<partition>:<seq>` of each partition", examples=[["0:7", "1:12"]]),
    ]
    lag_ms: LagMs
    suspect: Suspect = False


class AsOfSettings(Struct, gc=False):
    """A response that comes from the settings: it draws on no partition."""

    positions: Annotated[list[str], Meta(max_length=0, description="Always empty", examples=[[]])] = []
    lag_ms: Annotated[int, Meta(ge=0, le=0, description="Always 0", examples=[0])] = 0


class ListedGame(Struct, gc=False):
    """A game that takes bets."""

    game: Annotated[str, Meta(description="The name of the game", examples=["wingo_30s"])]
    rules: Annotated[
        str | None,
        Meta(
            description=(
                "SHA-256, in hex, of the rules that its bets are taken under now, as in `bet_placed`; null for "
                "`external`, whose rules the game server keeps"
            ),
            examples=["72deee5d80faa62e2dd42c4310b45c30c3d0c01e08a5e07d1c40c24576f9eb8f"],
        ),
    ]
    length_s: Annotated[int | None, Meta(description="The length of its periods; null for `external`", examples=[30])]


class Games(Struct, gc=False):
    """All games that take bets, by name; `external` is the first."""

    items: list[ListedGame]
    as_of: AsOfSettings


def games_of(games: Iterable[Game]) -> Games:
    listed = sorted(games, key=lambda game: game.name)
    items = [ListedGame(game.name, game.digest, game.length_s) for game in listed]
    return Games([ListedGame(EXTERNAL_GAME, None, None), *items], AsOfSettings())


class Result(Struct, gc=False):
    """The event that an accepted command became."""

    position: Position
    partition: Partition
    seq: Seq
    time_us: TimeUs
    type: EventType
    data: EventData
    balances: Balances
    head: Annotated[Sha256, Meta(description="SHA-256 of the event's record")]


class DryRunResult(Struct, gc=False):
    """The event as it would be; nothing was written."""

    partition: Partition
    seq: Seq
    time_us: TimeUs
    type: EventType
    data: EventData
    balances: Balances
    dry_run: Annotated[bool, Meta(description="Always true", extra_json_schema={"enum": [True]})] = True


class BatchAccepted(Struct, gc=False):
    """The result of a command of a batch that was accepted now."""

    status: Annotated[int, Meta(description="As of a single command", extra_json_schema={"enum": [201]})]
    result: Result


class BatchHit(Struct, gc=False):
    """The first result of a command of a batch that was accepted before."""

    status: Annotated[int, Meta(description="As of a single command", extra_json_schema={"enum": [200]})]
    idempotency_hit: Annotated[bool, Meta(description="Always true", extra_json_schema={"enum": [True]})]
    result: Result


class BatchDryRun(Struct, gc=False):
    """The result of a command of a batch that was a dry run."""

    status: Annotated[int, Meta(description="As of a single command", extra_json_schema={"enum": [200]})]
    result: DryRunResult


class BatchRefused(Struct, gc=False):
    """The problem of a command of a batch that was not accepted."""

    status: Annotated[int, Meta(ge=400, le=599, description="As of a single command", examples=[422])]
    problem: Annotated[
        msgspec.Raw, Meta(description="The problem", extra_json_schema={"$ref": "#/components/schemas/Problem"})
    ]


class PartitionEnd(Struct, gc=False):
    """Where a partition ends, and which node owns it."""

    partition: Partition
    seq: Annotated[int, Meta(ge=0, le=_SEQ_MAX, description="Seq of the last record; 0: none", examples=[42])]
    head: Annotated[Sha256, Meta(description="SHA-256 of the last record; 64 zeros: none")]
    owner: Annotated[
        str | None,
        Meta(
            description="The node that owns the partition, by the address it advertises; null: no node",
            examples=["http://127.0.0.1:8080"],
        ),
    ]


class Partitions(Struct, gc=False):
    """All partitions of the log."""

    items: Annotated[list[PartitionEnd], Meta(description="In their order")]


class Seals(Struct, gc=False):
    """A page of the seals of the log."""

    items: Annotated[list[Seal], Meta(description="The newest first")]
    next_cursor: NextCursor


class Healthy(Struct, gc=False):
    """The process lives."""

    status: Annotated[Literal["ok"], Meta(description="Always ok")] = "ok"


class Ready(Struct, gc=False):
    """The node accepts commands."""

    status: Annotated[Literal["ready"], Meta(description="Always ready")] = "ready"
    warnings: (
        Annotated[
            list[str],
            Meta(
                description="What an operator should repair. Absent if there is nothing",
                examples=[["rows of 1 users or accounts differ from the log"]],
            ),
        ]
        | UnsetType
    ) = UNSET


class NotReady(Struct, gc=False):
    """The node does not accept commands now."""

    status: Annotated[Literal["not_ready"], Meta(description="Always not_ready")]
    reasons: Annotated[
        list[str],
        Meta(
            description="Why not, for the operator",
            examples=[["the clock is more than 1 s behind the log's last event"]],
        ),
    ]


encode: Final = msgspec.json.encode
"""For bodies without the data of an event: their members in the order of the contract."""

encode_results: Final = msgspec.json.Encoder(order="deterministic").encode
"""For bodies with the data of an event, whose maps are sorted as in its record."""


def encode_result(accepted: Accepted) -> bytes:
    """A ``Result``, made of bytes of the record."""
    position, time, data, balances = members_of(accepted.record)
    text, head = b"%d:%d" % accepted.position, accepted.head.encode()
    return b"".join((b'{"position":"', text, b'",', position, time, data, balances, b',"head":"', head, b'"}'))


def dry_run_result_of(would_be: DryRunAccepted) -> DryRunResult:
    event = would_be.event
    return DryRunResult(
        would_be.position.partition, would_be.position.seq, event.time_us, event.data.type, event.data, event.balances
    )


def encode_batch(answers: Sequence[AnyResponse | Problem]) -> bytes:
    """The response to a batch: a list of ``BatchAccepted``, ``BatchHit``, ``BatchDryRun``, ``BatchRefused``."""
    return b"[" + b",".join([_batch_element(answer) for answer in answers]) + b"]"


def _batch_element(answer: AnyResponse | Problem) -> bytes:
    match answer:
        case Accepted(hit=False):
            return b'{"status":201,"result":' + encode_result(answer) + b"}"
        case Accepted():
            return b'{"status":200,"idempotency_hit":true,"result":' + encode_result(answer) + b"}"
        case DryRunAccepted():
            return encode_results(BatchDryRun(200, dry_run_result_of(answer)))
        case Refused() | OtherGame() | IdReused() | Failed():
            problem = problem_of(answer)
            return encode(BatchRefused(problem.status, msgspec.Raw(problem.encoded())))
        case Problem():
            return encode(BatchRefused(answer.status, msgspec.Raw(answer.encoded())))
        case _:
            raise AssertionError(answer)


def wallet_document(read: WalletRead) -> wallets.Wallet:
    """``GET /v1/wallets/{user_id}?consistency=strong``, from the state of its writer."""
    wallet = read.wallet
    assets = sorted(wallet.balances.keys() | wallet.limits.keys())
    first = wallet.first_deposit
    assert wallet.opened_at_us is not None, "the wallet was opened"
    assert wallet.status != "none", "the wallet was opened"
    return wallets.Wallet(
        wallet.user_id,
        wallet.status,
        wallet.opened_at_us,
        wallet.referrer_id,
        {asset: _available(wallet, asset) for asset in assets},
        {asset: _limits(wallet, asset) for asset in assets},
        None
        if first is None
        else wallets.FirstDeposit(first.order_id, first.asset, first.amount, first.position, first.time_us),
        {asset: wallets.wagering(one.required, one.done) for asset, one in sorted(wallet.wagering.items())} or UNSET,
    )


def _available(wallet: Wallet, asset: str) -> wallets.Available:
    balance = wallet.balances.get(asset, NO_BALANCE)
    credit = wallet.limits.get(asset, NO_LIMITS).credit_limit
    return wallets.available(balance.cash, balance.bonus, balance.held, credit)


def _limits(wallet: Wallet, asset: str) -> wallets.Limits:
    limits = wallet.limits.get(asset, NO_LIMITS)
    return wallets.Limits(
        limits.credit_limit, limits.balance_max, limits.stake_max_per_day, limits.withdrawal_max_per_day
    )


def partitions_of(heads: Sequence[Head], owners: Sequence[str | None]) -> Partitions:
    """``GET /v1/partitions``; an owner is None where no node has the partition."""
    ends = enumerate(zip(heads, owners, strict=True))
    return Partitions([PartitionEnd(partition, head.seq, head.sha256, owner) for partition, (head, owner) in ends])
