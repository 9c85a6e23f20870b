"""The messages between two nodes: requests → bytes → requests, responses → bytes → responses.

Invariants:
(1) the receiver gets the requests as they were sent: the same commands, the same hashes, the same groups, in the same
    order;
(2) an event is encoded as its record, with the version of its shape. So nodes of two releases understand each other's
    messages if they understand each other's logs. The previous record's hash is not part of a response: it is empty;
(3) the encoding is JSON, because its integers have no bound, and a refused amount has none either;
(4) a message about untraced requests is the same as one of a release without traces.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from ledger.core.commands import AnyCommand
from ledger.core.follow_up_commands import AnyFollowUp
from ledger.core.position import Position
from ledger.core.record import MalformedRecord, decode, encode
from ledger.core.rejections import Rejection
from ledger.core.wallet import Wallet
from ledger.node.ports import End, OpenFollowUps
from ledger.tracing import Span, SpanContext
from ledger.writer.requests import (
    Accepted,
    AnyResponse,
    CommandRequest,
    DryRunAccepted,
    Failed,
    IdReused,
    LookupRequest,
    OtherGame,
    OutcomeRequest,
    Refused,
    Request,
    RequestGroup,
    WalletRead,
    WalletRequest,
)

INTERNAL: Final = "/internal/"
DECIDE: Final = "/internal/v1/decide"
FOLLOW_UPS: Final = "/internal/v1/follow-ups"
ENDS: Final = "/internal/v1/ends"
RECORDS: Final = "/internal/v1/records"
OPEN_FOLLOW_UPS: Final = "/internal/v1/open-follow-ups"
NOW: Final = "/internal/v1/now"

Follow = Callable[[SpanContext], Span]
"""The span of another process with this context; children of it belong to its trace."""


class MalformedMessage(ValueError):
    """The bytes are not a message of this release; the text says why."""


class CommandMessage(Struct, array_like=True, tag="command", gc=False):
    command: AnyCommand
    request_sha256: str
    actor: str
    dry_run: bool
    games: frozenset[str] | None = None


class LookupMessage(Struct, array_like=True, tag="lookup", gc=False):
    user_id: str
    command_id: str


class OutcomeMessage(Struct, array_like=True, tag="outcome", gc=False):
    user_id: str
    period: str


class WalletMessage(Struct, array_like=True, tag="wallet", gc=False):
    user_id: str


RequestMessage = CommandMessage | LookupMessage | OutcomeMessage | WalletMessage


class Decide(Struct, gc=False, omit_defaults=True):
    """``requests``: one list for each client's request, in its order."""

    deadline_us: int
    requests: list[list[RequestMessage]]
    traces: list[tuple[int, SpanContext]] = []
    """The index of each traced client's request, and its trace."""


class TracedFollowUps(Struct, gc=False):
    """Follow-ups of which some are traced; without them the message is only the list."""

    follow_ups: list[AnyFollowUp]
    traces: list[tuple[int, SpanContext]]
    """The index of each traced follow-up, and its trace."""


class AcceptedMessage(Struct, array_like=True, tag="accepted", gc=False):
    record: msgspec.Raw
    head: str
    hit: bool


class DryRunAcceptedMessage(Struct, array_like=True, tag="would_be", gc=False):
    record: msgspec.Raw


class RefusedMessage(Struct, array_like=True, tag="refused", gc=False):
    rejection: Rejection


class OtherGameMessage(Struct, array_like=True, tag="other_game", gc=False):
    response: OtherGame


class IdReusedMessage(Struct, array_like=True, tag="id_reused", gc=False):
    response: IdReused


class FailedMessage(Struct, array_like=True, tag="failed", gc=False):
    response: Failed


class WalletReadMessage(Struct, array_like=True, tag="wallet", gc=False):
    wallet: Wallet
    position: Position


class NoneMessage(Struct, array_like=True, tag="nothing", gc=False):
    """The command or the outcome does not exist."""


ResponseMessage = (
    AcceptedMessage
    | DryRunAcceptedMessage
    | RefusedMessage
    | OtherGameMessage
    | IdReusedMessage
    | FailedMessage
    | WalletReadMessage
    | NoneMessage
)

_encode: Final = msgspec.json.Encoder(order="deterministic").encode
_decode_decide: Final = msgspec.json.Decoder(Decide)
_decode_responses: Final = msgspec.json.Decoder(list[ResponseMessage])
_decode_follow_ups: Final = msgspec.json.Decoder(list[AnyFollowUp] | TracedFollowUps)
_decode_arrived: Final = msgspec.json.Decoder(list[bool])
_decode_ends: Final = msgspec.json.Decoder(list[tuple[int, End]])
_decode_open_follow_ups: Final = msgspec.json.Decoder(list[tuple[int, OpenFollowUps]])


def _decoded(decoder: "msgspec.json.Decoder[Any]", body: bytes) -> Any:
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedMessage(str(error)) from None


# --- requests ------------------------------------------------------------------------------------------------------


def write_requests(requests: Sequence[Request], deadline_us: int) -> tuple[bytes, list[int]]:
    """Returns the message, and for each request the index of its response, because responses are ordered by group."""
    by_group: dict[int, list[int]] = {}
    for number, request in enumerate(requests):
        by_group.setdefault(id(request.group), []).append(number)
    indexes = [0] * len(requests)
    for index, number in enumerate(number for numbers in by_group.values() for number in numbers):
        indexes[number] = index
    groups = [[_request_message(requests[number]) for number in numbers] for numbers in by_group.values()]
    traces = _contexts_of(requests[numbers[0]].group.span for numbers in by_group.values())
    return _encode(Decide(deadline_us, groups, traces)), indexes


def _contexts_of(spans: Iterable[Span | None]) -> list[tuple[int, SpanContext]]:
    return [(index, span.context) for index, span in enumerate(spans) if span is not None]


def _request_message(request: Request) -> RequestMessage:
    match request:
        case CommandRequest():
            command: Any = request.command
            return CommandMessage(command, request.request_sha256, request.actor, request.dry_run, request.games)
        case LookupRequest():
            return LookupMessage(request.user_id, request.command_id)
        case OutcomeRequest():
            return OutcomeMessage(request.user_id, request.period)
        case WalletRequest():
            return WalletMessage(request.user_id)
        case _:
            raise AssertionError(request)


def read_requests(body: bytes, follow: Follow | None = None) -> tuple[list[Request], int]:
    """New requests, group by group, and their deadline. ``follow``: None where this node makes no traces. Raises
    MalformedMessage."""
    message: Decide = _decoded(_decode_decide, body)
    requests: list[Request] = []
    spans = _spans_of(message.traces, follow)
    for index, one_client in enumerate(message.requests):
        group = RequestGroup(len(one_client), spans.get(index))
        requests.extend(_request_of(request, group) for request in one_client)
    return requests, message.deadline_us


def _spans_of(traces: Sequence[tuple[int, SpanContext]], follow: Follow | None) -> dict[int, Span]:
    """The same span for the same context: what one round sent is decided as one."""
    if follow is None:
        return {}
    spans = {context: follow(context) for context in {context for _, context in traces}}
    return {index: spans[context] for index, context in traces}


def _request_of(message: RequestMessage, group: RequestGroup) -> Request:
    match message:
        case CommandMessage(command, request_sha256, actor, dry_run, games):
            return CommandRequest(command, request_sha256, actor, group, dry_run=dry_run, games=games)
        case LookupMessage(user_id, command_id):
            return LookupRequest(user_id, command_id, group)
        case OutcomeMessage(user_id, period):
            return OutcomeRequest(user_id, period, group)
        case WalletMessage(user_id):
            return WalletRequest(user_id, group)


# --- responses -----------------------------------------------------------------------------------------------------


def write_responses(responses: Sequence[AnyResponse]) -> bytes:
    return _encode([_message_of(response) for response in responses])


def _message_of(response: AnyResponse) -> ResponseMessage:
    match response:
        case Accepted(record, _, head, hit):
            return AcceptedMessage(msgspec.Raw(record), head, hit)
        case DryRunAccepted(event, position):
            return DryRunAcceptedMessage(msgspec.Raw(encode(event, position, "")))
        case Refused(rejection):
            return RefusedMessage(rejection)
        case OtherGame():
            return OtherGameMessage(response)
        case IdReused():
            return IdReusedMessage(response)
        case Failed():
            return FailedMessage(response)
        case WalletRead(wallet, position):
            return WalletReadMessage(wallet, position)
        case None:
            return NoneMessage()


def read_responses(body: bytes) -> list[AnyResponse]:
    """Raises MalformedMessage."""
    try:
        return [_response_of(message) for message in _decoded(_decode_responses, body)]
    except MalformedRecord as error:
        raise MalformedMessage(str(error)) from None


def _response_of(message: ResponseMessage) -> AnyResponse:
    match message:
        case AcceptedMessage(raw, head, hit):
            record = bytes(raw)
            return Accepted(record, decode(record).position, head, hit)
        case DryRunAcceptedMessage(raw):
            position, _, event = decode(bytes(raw))
            return DryRunAccepted(event, position)
        case RefusedMessage(rejection):
            return Refused(rejection)
        case OtherGameMessage(other):
            return other
        case IdReusedMessage(response):
            return response
        case FailedMessage(failed):
            return failed
        case WalletReadMessage(wallet, position):
            return WalletRead(wallet, position)
        case NoneMessage():
            return None


# --- follow-ups and ends -------------------------------------------------------------------------------------------


def write_follow_ups(follow_ups: Sequence[AnyFollowUp], spans: Sequence[Span | None]) -> bytes:
    traces = _contexts_of(spans)
    return _encode(TracedFollowUps(list(follow_ups), traces) if traces else follow_ups)


def read_follow_ups(body: bytes, follow: Follow | None = None) -> tuple[list[AnyFollowUp], list[Span | None]]:
    """The follow-ups, and the spans of the rounds that sent them. ``follow``: see ``read_requests``. Raises
    MalformedMessage."""
    message: list[AnyFollowUp] | TracedFollowUps = _decoded(_decode_follow_ups, body)
    if isinstance(message, list):
        return message, [None] * len(message)
    spans = _spans_of(message.traces, follow)
    return message.follow_ups, [spans.get(index) for index in range(len(message.follow_ups))]


def write_arrived(arrived: Sequence[bool]) -> bytes:
    return _encode(arrived)


def read_arrived(body: bytes) -> list[bool]:
    """Raises MalformedMessage."""
    arrived: list[bool] = _decoded(_decode_arrived, body)
    return arrived


def write_ends(ends: dict[int, End]) -> bytes:
    return _encode(list(ends.items()))


def read_ends(body: bytes) -> dict[int, End]:
    """Raises MalformedMessage."""
    return dict(_decoded(_decode_ends, body))


def write_open_follow_ups(open_seqs: dict[int, OpenFollowUps]) -> bytes:
    return _encode(list(open_seqs.items()))


def read_open_follow_ups(body: bytes) -> dict[int, OpenFollowUps]:
    """Raises MalformedMessage."""
    return dict(_decoded(_decode_open_follow_ups, body))
