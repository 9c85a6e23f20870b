"""The requests to a partition's writer, and the responses to them.

A *group* is the requests of one HTTP request, which get their responses together. A response is final, except
``Failed``: after it nothing is decided, and the client may repeat the request.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Literal

import msgspec
from msgspec import UNSET, Struct

from ledger.core.commands import COMMAND_TYPES, Command
from ledger.core.decide import needs
from ledger.core.events import COMMAND_OF, Event
from ledger.core.follow_up_commands import AnyFollowUp
from ledger.core.position import Position
from ledger.core.record import Decoded, MalformedRecord, decode, sha256_hex
from ledger.core.rejections import Rejection
from ledger.core.wallet import Wallet
from ledger.errors import LedgerError, LogDamaged, Superseded
from ledger.tracing import Span
from ledger.writer.state import command_key

# --- responses ----------------------------------------------------------------------------------------------------


class Accepted(Struct, frozen=True, gc=False):
    """The command's event, which is durable: its record, and the record's hash. ``hit``: it was durable before this
    request.

    A response repeats bytes of the record. The event's own values are gone by then: thousands of them, kept until
    their append has landed, would push the wallets out of the processor's cache.
    """

    record: bytes
    position: Position
    head: str
    hit: bool = False

    @property
    def event(self) -> Event:
        return decode(self.record).event


class DryRunAccepted(Struct, frozen=True, gc=False):
    """The event that a dry run would make. Nothing was written."""

    event: Event
    position: Position


class Refused(Struct, frozen=True, gc=False):
    """The command breaks a rule. Nothing was written."""

    rejection: Rejection


class OtherGame(Struct, frozen=True, gc=False):
    """The command is about a bet of ``game``, and its sender is narrowed to other games. Nothing was written."""

    game: str


class IdReused(Struct, frozen=True, gc=False):
    """The command_id belongs to another command; ``fields`` are the names of the fields that differ."""

    fields: tuple[str, ...]
    position: str


class Failed(Struct, frozen=True, gc=False):
    """Not decided. With ``outcome_unknown`` the command may have been written; with the other reasons it was not."""

    reason: Literal["outcome_unknown", "log_unavailable", "overloaded", "shutting_down", "not_owner"]
    detail: str


class WalletRead(Struct, frozen=True, gc=False):
    """A wallet as it was at ``position``, the partition's last event at that moment."""

    wallet: Wallet
    position: Position


AnyResponse = Accepted | DryRunAccepted | Refused | OtherGame | IdReused | Failed | WalletRead | None
"""None: the command or the outcome that was looked up does not exist."""


# --- requests -----------------------------------------------------------------------------------------------------


class RequestGroup:
    """The requests of one HTTP request. ``done`` resolves when the last of them has its response.

    If one of a wallet's commands fails, the wallet's later commands in the group fail the same way: to skip one and
    decide the next would change their order.

    ``span``: of the HTTP request; None: it is not traced.
    """

    __slots__ = ("done", "failed", "open", "span")

    def __init__(self, requests: int, span: Span | None = None) -> None:
        self.open = requests
        self.span = span
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.failed: dict[str, Failed] | None = None

    def close_one(self) -> None:
        self.open -= 1
        if self.open == 0 and not self.done.done():
            self.done.set_result(None)


class Request:
    """A request to a partition's writer, and, once it is closed, its response.

    ``deadline_us`` (Unix microseconds; None: no deadline): the request is not decided after it. Its response is then
    ``not_owner``, and nothing is written. A node that forwarded it knows by its own clock when that is certain.
    """

    __slots__ = ("closed", "deadline_us", "group", "response", "user_id")

    def __init__(self, user_id: str, group: RequestGroup) -> None:
        self.user_id = user_id
        self.group = group
        self.response: AnyResponse = None
        self.closed = False
        self.deadline_us: int | None = None

    def close(self, response: AnyResponse) -> None:
        assert not self.closed, "a request has one response"
        self.closed = True
        self.response = response
        if type(response) is Failed:
            if self.group.failed is None:
                self.group.failed = {}
            self.group.failed.setdefault(self.user_id, response)
        self.group.close_one()


class CommandRequest(Request):
    """``games``: the sender may settle and cancel only bets of these games; None: bets of all games."""

    __slots__ = ("actor", "command", "command_key", "dry_run", "games", "item_keys", "request_sha256")

    def __init__(
        self,
        command: Command,
        request_sha256: str,
        actor: str,
        group: RequestGroup,
        *,
        dry_run: bool = False,
        games: frozenset[str] | None = None,
    ) -> None:
        user_id = self.user_id = command.user_id
        self.group = group
        self.response = None
        self.closed = False
        self.deadline_us = None
        self.command = command
        self.command_key = command_key(user_id, command.command_id)
        self.item_keys = [(key, f"{user_id} {key}") for key in needs(command)]
        self.request_sha256 = request_sha256
        self.actor = actor
        self.dry_run = dry_run
        self.games = games


class LookupRequest(Request):
    """Reads the first response to a command."""

    __slots__ = ("command_id",)

    def __init__(self, user_id: str, command_id: str, group: RequestGroup) -> None:
        super().__init__(user_id, group)
        self.command_id = command_id


class OutcomeRequest(Request):
    """Reads the event that ended a period: a result or a cancellation, on the stream of its game."""

    __slots__ = ("period",)

    def __init__(self, user_id: str, period: str, group: RequestGroup) -> None:
        super().__init__(user_id, group)
        self.period = period


class WalletRequest(Request):
    """Reads a wallet from the writer's state."""

    __slots__ = ()


def key_of_command(request: Request) -> str | None:
    """The state's key of the command that is to be written or looked up; None for a read that names no command, and
    for a dry run."""
    match request:
        case CommandRequest():
            return None if request.dry_run else request.command_key
        case LookupRequest():
            return command_key(request.user_id, request.command_id)
        case _:
            return None


def failure_after_stop(error: LedgerError, request: Request) -> Failed:
    """Why a writer that has stopped refuses the request. It cannot check whether the command is in the log already,
    so it must not say that nothing was written."""
    if isinstance(error, Superseded):
        return Failed("not_owner", error.for_clients)
    return Failed("log_unavailable" if key_of_command(request) is None else "outcome_unknown", error.for_clients)


class FollowUpRequest(Struct, frozen=True, gc=False):
    """A follow-up for a wallet of the partition, or for its open bets of a period. ``on_durable`` is called once its
    event, or the event of the last of the bets, is durable. ``span``: of the round that sent it, if that is traced;
    a follow-up that is read from the log or the state has none."""

    follow_up: AnyFollowUp
    on_durable: Callable[[], None]
    span: Span | None = None


# --- the response to a command that is in the log already ---------------------------------------------------------


def response_to_repeated(request: Request, record: bytes, position: Position) -> Accepted | IdReused:
    """The response to a look-up of either kind, or to a command whose id has its event already.

    ``record`` is the event's, at ``position``.

    Raises LogDamaged.
    """
    event = decode_stored(record, position).event
    if isinstance(request, CommandRequest) and request.request_sha256 != event.request_sha256:
        return IdReused(differing_fields(request.command, event), str(position))
    return Accepted(record, position, sha256_hex(record), hit=True)


_FIELDS_OF: Final = {command.__struct_config__.tag: command.__struct_encode_fields__ for command in COMMAND_TYPES}


def differing_fields(command: Command, event: Event) -> tuple[str, ...]:
    """The names of the fields in which the command differs from the one that made the event."""
    requested = msgspec.to_builtins(command)
    kind = COMMAND_OF.get(event.data.type, "")
    asked_for = _FIELDS_OF.get(kind, ())  # the other members of the data were added by the decision
    recorded = {name: value for name, value in msgspec.to_builtins(event.data).items() if name in asked_for}
    recorded["type"] = kind
    names = (requested.keys() | recorded.keys()) - {"command_id", "private", "user_id"}
    return tuple(sorted(name for name in names if requested.get(name, UNSET) != recorded.get(name, UNSET)))


def decode_stored(record: bytes, position: Position) -> Decoded:
    """Decode a record that the log has at ``position``. Raises LogDamaged."""
    try:
        return decode(record)
    except MalformedRecord as error:
        raise LogDamaged(position.partition, position.seq, str(error)) from error
