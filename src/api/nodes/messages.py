"""What two nodes say to each other: requests → bytes → requests, answers → bytes → answers.

Truths:
(1) what was asked arrives as it was: same commands, same hashes, same requests, in the same order;
(2) an event travels as its record does, with the version of its shape, so that nodes of two releases understand each
    other where their logs would; the hash before it is not part of an answer and stays empty;
(3) JSON, because its integers have no bound, and a refused amount has none either.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from ledger.core.commands import AnyCommand, AnyFollowUp
from ledger.core.position import Position
from ledger.core.record import MalformedRecord, decode, encode
from ledger.core.rejections import Rejection
from ledger.core.wallet import Wallet
from ledger.node.ports import End, OpenFollowUps
from ledger.writer.requests import (
    Accepted,
    AnyResponse,
    CommandRequest,
    DryRunAccepted,
    Failed,
    IdReused,
    LookupRequest,
    Refused,
    Request,
    RequestGroup,
    WalletRead,
    WalletRequest,
)


class MalformedMessage(ValueError):
    """Bytes that are no message of this release; the text says why."""


class CommandAsked(Struct, array_like=True, tag="command", gc=False):
    command: AnyCommand
    request_sha256: str
    actor: str
    dry_run: bool


class LookupAsked(Struct, array_like=True, tag="lookup", gc=False):
    user_id: str
    command_id: str


class WalletAsked(Struct, array_like=True, tag="wallet", gc=False):
    user_id: str


class Asking(Struct, gc=False):
    """``requests``: what each client asked, in its order."""

    deadline_us: int
    requests: list[list[CommandAsked | LookupAsked | WalletAsked]]


class AcceptedSaid(Struct, array_like=True, tag="accepted", gc=False):
    record: msgspec.Raw
    head: str
    hit: bool


class WouldBeSaid(Struct, array_like=True, tag="would_be", gc=False):
    record: msgspec.Raw


class RefusedSaid(Struct, array_like=True, tag="refused", gc=False):
    rejection: Rejection


class IdReusedSaid(Struct, array_like=True, tag="id_reused", gc=False):
    answer: IdReused


class FailedSaid(Struct, array_like=True, tag="failed", gc=False):
    answer: Failed


class WalletSaid(Struct, array_like=True, tag="wallet", gc=False):
    wallet: Wallet
    place: Position


class NothingSaid(Struct, array_like=True, tag="nothing", gc=False):
    """There is no such command."""


Said = AcceptedSaid | WouldBeSaid | RefusedSaid | IdReusedSaid | FailedSaid | WalletSaid | NothingSaid

_encode: Final = msgspec.json.Encoder(order="deterministic").encode
_decode_asking: Final = msgspec.json.Decoder(Asking)
_decode_said: Final = msgspec.json.Decoder(list[Said])
_decode_follow_ups: Final = msgspec.json.Decoder(list[AnyFollowUp])
_decode_arrived: Final = msgspec.json.Decoder(list[bool])
_decode_ends: Final = msgspec.json.Decoder(list[tuple[int, End]])
_decode_open_follow_ups: Final = msgspec.json.Decoder(list[tuple[int, OpenFollowUps]])


def _decoded(decoder: "msgspec.json.Decoder[Any]", body: bytes) -> Any:
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedMessage(str(error)) from None


# --- questions -----------------------------------------------------------------------------------------------------


def write_asking(requests: Sequence[Request], deadline_us: int) -> tuple[bytes, list[int]]:
    """The message, and for each request its place among the answers, which come request by request."""
    by_group: dict[int, list[int]] = {}
    for number, request in enumerate(requests):
        by_group.setdefault(id(request.group), []).append(number)
    places = [0] * len(requests)
    for place, number in enumerate(number for numbers in by_group.values() for number in numbers):
        places[number] = place
    asked = [[_asked(requests[number]) for number in numbers] for numbers in by_group.values()]
    return _encode(Asking(deadline_us, asked)), places


def _asked(request: Request) -> CommandAsked | LookupAsked | WalletAsked:
    match request:
        case CommandRequest():
            command: Any = request.command
            return CommandAsked(command, request.request_sha256, request.actor, request.dry_run)
        case LookupRequest():
            return LookupAsked(request.user_id, request.command_id)
        case WalletRequest():
            return WalletAsked(request.user_id)
        case _:
            raise AssertionError(request)


def read_asking(body: bytes) -> tuple[list[Request], int]:
    """Fresh requests, request by request, and their deadline. Raises MalformedMessage."""
    asking: Asking = _decoded(_decode_asking, body)
    requests: list[Request] = []
    for request in asking.requests:
        group = RequestGroup(len(request))
        requests.extend(_ticket(asked, group) for asked in request)
    return requests, asking.deadline_us


def _ticket(asked: CommandAsked | LookupAsked | WalletAsked, group: RequestGroup) -> Request:
    match asked:
        case CommandAsked(command, request_sha256, actor, dry_run):
            return CommandRequest(command, request_sha256, actor, group, dry_run=dry_run)
        case LookupAsked(user_id, command_id):
            return LookupRequest(user_id, command_id, group)
        case WalletAsked(user_id):
            return WalletRequest(user_id, group)


# --- answers -------------------------------------------------------------------------------------------------------


def write_answers(answers: Sequence[AnyResponse]) -> bytes:
    return _encode([_said(answer) for answer in answers])


def _said(answer: AnyResponse) -> Said:
    match answer:
        case Accepted(event, place, head, hit):
            return AcceptedSaid(msgspec.Raw(encode(event, place, "")), head, hit)
        case DryRunAccepted(event, place):
            return WouldBeSaid(msgspec.Raw(encode(event, place, "")))
        case Refused(rejection):
            return RefusedSaid(rejection)
        case IdReused():
            return IdReusedSaid(answer)
        case Failed():
            return FailedSaid(answer)
        case WalletRead(wallet, place):
            return WalletSaid(wallet, place)
        case None:
            return NothingSaid()


def read_answers(body: bytes) -> list[AnyResponse]:
    """Raises MalformedMessage."""
    try:
        return [_answer(said) for said in _decoded(_decode_said, body)]
    except MalformedRecord as error:
        raise MalformedMessage(str(error)) from None


def _answer(said: Said) -> AnyResponse:
    match said:
        case AcceptedSaid(record, head, hit):
            place, _, event = decode(bytes(record))
            return Accepted(event, place, head, hit)
        case WouldBeSaid(record):
            place, _, event = decode(bytes(record))
            return DryRunAccepted(event, place)
        case RefusedSaid(rejection):
            return Refused(rejection)
        case IdReusedSaid(answer):
            return answer
        case FailedSaid(failed):
            return failed
        case WalletSaid(wallet, place):
            return WalletRead(wallet, place)
        case NothingSaid():
            return None


# --- follow-ups and ends -------------------------------------------------------------------------------------------


def write_follow_ups(follow_ups: Sequence[AnyFollowUp]) -> bytes:
    return _encode(follow_ups)


def read_follow_ups(body: bytes) -> list[AnyFollowUp]:
    """Raises MalformedMessage."""
    follow_ups: list[AnyFollowUp] = _decoded(_decode_follow_ups, body)
    return follow_ups


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
