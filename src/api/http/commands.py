"""Reads the commands in request bodies. No rule of the ledger is in this module.

Invariants: a body is a command if and only if
(1) it is one JSON object in UTF-8;
(2) its ``type`` is known, and its members are all known, have their declared shape, and occur once;
(3) its texts have no control character and no lone surrogate.

JSON libraries silently accept a member that occurs twice. Two readers of such a body could see two amounts, so it is
refused.
"""

import json
import re
from collections import Counter
from hashlib import sha256
from typing import Any, Final, NamedTuple

import msgspec

from api.http.problems import Problem
from ledger.core.commands import (
    COMMAND_TYPES,
    AnyCommand,
    CancelPeriod,
    Command,
    PlaceBet,
    RecordResult,
    canonical,
    whole,
)
from ledger.core.events import LEDGER
from ledger.core.fields import GAME_STREAM, USER_ID_PATTERN
from ledger.core.games.rules import Games, span_of

BODY_MAX: Final = 8 * 1024 * 1024
BATCH_MAX: Final = 1_000
DEFAULT_ACTOR: Final = "local"


class HashedCommand(NamedTuple):
    """A command, and the SHA-256 of its canonical form."""

    command: Command
    request_sha256: str


class _Repeating(NamedTuple):
    """An object in which a member occurs twice."""

    name: str


_decode: Final = msgspec.json.Decoder(AnyCommand).decode
_decode_batch: Final = msgspec.json.Decoder(list[AnyCommand]).decode
_ABSENT: Final = msgspec.Raw()
_Elements = msgspec.defstruct(
    "_Elements",
    [(f"element_{number}", msgspec.Raw, _ABSENT) for number in range(BATCH_MAX)],
    array_like=True,
    forbid_unknown_fields=True,
)
"""An array of so many elements at most. Decoding a list would first make objects of millions of elements: measured,
300 MB for 8 MB of ``[1,1,1,…]``."""
_decode_elements: Final = msgspec.json.Decoder(_Elements).decode
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_USER_ID: Final = re.compile(USER_ID_PATTERN)
_PATH: Final = re.compile(r" - at `(?:key in )?\$\.?(.*?)`$")
_UNKNOWN_FIELD: Final = re.compile(r"Object contains unknown field `(.*?)`(?: - at `.*)?$")
_MISSING_FIELD: Final = re.compile(r"Object missing required field `(.*?)`")

# Possessive quantifiers: without them a long text takes memory for each of its bytes, and seconds.
_STRUCTURE: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}]+|,', re.DOTALL)
# Chosen: twice as many as a batch of the largest commands has; they are found in 0.3 s.
_STRUCTURE_MAX: Final = 200_000
_PATTERN: Final = "matching regex"
_UNKNOWN_TYPE: Final = "Invalid value"
_UNKNOWN_ROLE: Final = re.compile(r"^Invalid enum value .* - at `\$\.role`$")
_A_USER_ID: Final = (
    "1–64 of A–Z a–z 0–9 _ - . : @, beginning with a letter or digit, and not with game:, gift:, code: "
    "or partition:, which are reserved. The results of games take game: and the name of a game"
)
_SPELLINGS: Final = {
    "user_id": _A_USER_ID,
    "referrer_id": _A_USER_ID,
    "client_id": _A_USER_ID,
    "games": f"the name of a game: {_A_USER_ID}",
    "types": "the type of a command, such as place_bet",
    "public_key": "the base64 line between BEGIN and END of an Ed25519 public key in PEM",
    "role": "game_server, operator, auditor or admin",
    "to_user_id": _A_USER_ID,
    "code": "1–64 of A–Z a–z 0–9 _ - . @, beginning with a letter or digit",
    "referral_code": "1–64 of A–Z a–z 0–9 _ - . @, beginning with a letter or digit",
    "id": "1–128 printable ASCII characters without spaces, not beginning with ~, which is the ledger's own",
    "position": 'the position of an event, "<partition>:<seq>"',
    "spend": "cash_first or bonus_first",
    "": "spelled otherwise",
}

_MEMBER: Final = re.compile(rb'"([^"\\]*+)"[ \t\r\n]*+:')
_MARKS: Final = (b'"', b",", b"[", b"{")
_MARKS_MAX: Final = 30_000
"""A command has fewer of these in all, even if its texts have nothing else. Chosen: with so many, a general parser,
which finds out what is wrong, takes milliseconds; of 8 MB it can make 200 MB of objects."""

# Chosen: digits to keep of an enormous number; far beyond any amount, and quick to convert.
_DIGITS_MAX: Final = 30


def read_command(body: bytes) -> HashedCommand:
    """The command in ``body``. Raises Problem ``malformed_request``, naming the field."""
    try:
        command = _decode(body)
    except msgspec.ValidationError as error:
        if "out of range" not in str(error):
            raise malformed(str(error)) from None
        command = _read_enormous(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        _refuse_surrogates(body)
        raise _not_json(error) from None
    if type(command.private) is str:
        raise _not_texts()
    form = canonical(command)
    escaped = b"\\" in body
    # Without escapes each text has two quotes. The canonical form has every known member once: with as many
    # quotes, no member occurs twice. Otherwise parse again to find out, at ten times the cost.
    if escaped or body.count(b'"') != _quotes(command, form):
        refuse_duplicates(body)
    if escaped or not body.isascii() or b"\x7f" in body:
        _refuse_control_characters(command)
    return HashedCommand(command, sha256(form).hexdigest())


def refuse_malformed_period(command: Command, games: Games) -> None:
    """Raise Problem ``malformed_request`` if the period is none of the game's. A game that is not known has no
    periods: its rules refuse the command."""
    match command:
        case PlaceBet():
            name, period = command.game, command.period
        case RecordResult() | CancelPeriod():
            name, period = command.user_id.removeprefix(GAME_STREAM), command.period
        case _:
            return
    game = games.get(name)
    if game is not None and span_of(game, period) is None:
        raise Problem(
            "malformed_request",
            f"period must be the start of a period of {name} in UTC, YYYYMMDDTHHMMSSZ: a multiple of "
            f"{game.length_s} s since midnight",
            field="period",
        )


def read_batch(body: bytes) -> list[HashedCommand | Problem]:
    """The commands of a batch; a malformed one is a Problem in its place. Raises Problem where the body is not an
    array of 1–1,000."""
    plain = _read_plain_batch(body)
    if plain is not None:
        return plain
    try:
        read = msgspec.structs.astuple(_decode_elements(body))
        elements = [element for element in read if element is not _ABSENT]
    except msgspec.ValidationError:
        raise _no_batch() from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        elements = _split(body, error)
    if not elements:
        raise _no_batch()
    commands: list[HashedCommand | Problem] = []
    for element in elements:
        try:
            commands.append(read_command(bytes(element)))
        except Problem as problem:
            commands.append(problem)
    return commands


def _no_batch() -> Problem:
    return Problem("malformed_request", f"the body must be a JSON array of 1–{BATCH_MAX:,} commands")


def _read_plain_batch(body: bytes) -> list[HashedCommand | Problem] | None:
    """The commands, decoded in one call; None if the elements must be read one by one."""
    if b"\\" in body or b"\x7f" in body or not body.isascii() or body.count(b'"command_id"') > BATCH_MAX:
        return None
    try:
        commands = _decode_batch(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    forms = [canonical(command) for command in commands]
    # See ``read_command``. No element has fewer quotes than its canonical form, so the sums are equal only if no
    # element has more.
    if not commands or body.count(b'"') != sum(map(_quotes, commands, forms)):
        return None
    if any(type(command.private) is str for command in commands):
        return None
    return [HashedCommand(command, sha256(form).hexdigest()) for command, form in zip(commands, forms, strict=True)]


def _quotes(command: Command, form: bytes) -> int:
    """How many quotes the command has, of which ``form`` is the canonical form."""
    return (form if command.private is None else whole(command)).count(b'"')


def _not_texts() -> Problem:
    return Problem("malformed_request", "private must be an object of at most 16 texts", field="private")


def read_actor(header: bytes | None) -> str:
    """Who posts, from the header ``Stakelog-Actor``. Raises Problem ``malformed_request``."""
    if header is None:
        return DEFAULT_ACTOR
    actor = header.decode("latin-1")
    if not _USER_ID.search(actor):
        raise Problem("malformed_request", "Stakelog-Actor must be spelled like a user_id", field="Stakelog-Actor")
    if actor == LEDGER:
        raise Problem(
            "malformed_request", "the actor `ledger` is reserved for the ledger itself", field="Stakelog-Actor"
        )
    return actor


def malformed(message: str) -> Problem:
    """A ``malformed_request`` from a decoder's message, which ends in the path of the field."""
    if _PATTERN in message or _UNKNOWN_TYPE in message or _UNKNOWN_ROLE.search(message):
        return _misspelled(message)
    for pattern in (_UNKNOWN_FIELD, _MISSING_FIELD):
        if match := pattern.search(message):
            path = _PATH.search(message)
            parent = f"{path[1]}." if path and path[1] else ""
            return Problem("malformed_request", message, field=parent + match[1])
    if match := _PATH.search(message):
        if match[1] == "private":
            return _not_texts()
        return Problem("malformed_request", message, **({"field": match[1]} if match[1] else {}))
    return Problem("malformed_request", message)


def _misspelled(message: str) -> Problem:
    """The same in words: a client should not have to read a regular expression to correct a request."""
    path = _PATH.search(message)
    field = path[1] if path else ""
    if _UNKNOWN_TYPE in message and field == "type":
        there_are = ", ".join(str(command.__struct_config__.tag) for command in COMMAND_TYPES)
        return Problem("malformed_request", f"unknown command type; the known ones are {there_are}", field=field)
    words = _SPELLINGS.get(field.partition("[")[0]) or _SPELLINGS["id" if field.endswith("_id") else ""]
    return Problem("malformed_request", f"{field} must be {words}", field=field)


def _is_small(body: bytes) -> bool:
    """Whether a general parser may read the body."""
    return sum(body.count(mark) for mark in _MARKS) <= _MARKS_MAX


def _refuse_surrogates(body: bytes) -> None:
    """Raise the Problem that names the text with a lone surrogate, if there is one: the body is JSON nevertheless."""
    if not _is_small(body):
        return
    try:
        members = json.loads(body, parse_int=lambda _: 0)
    except (ValueError, RecursionError):
        return
    for name, value in members.items() if isinstance(members, dict) else ():
        if has_control_character(value):
            raise Problem("malformed_request", f"{name} has a control character or a lone surrogate", field=name)


def _split(body: bytes, error: Exception) -> list[msgspec.Raw]:
    """The elements of an array of which no parser reads all: one has a lone surrogate, or is nested too deeply. Each
    is as it was sent, so that its own reader refuses it alone."""
    text, elements, depth, begin, end = body.strip(b" \t\r\n"), [], 0, 1, 0
    for number, found in enumerate(_STRUCTURE.finditer(text)):
        token, end = found[0], found.end()
        if token == b",":
            if depth == 1:
                elements.append(text[begin : found.start()])
                begin = end
                if len(elements) == BATCH_MAX:
                    raise _no_batch()
        elif not token.startswith(b'"'):
            depth += token.count(b"[") + token.count(b"{") - token.count(b"]") - token.count(b"}")
        if depth <= 0 or number == _STRUCTURE_MAX:
            break
    if depth != 0 or end != len(text) or not text.startswith(b"["):
        raise _not_json(error)
    elements.append(text[begin:-1])
    for element in elements:
        try:
            json.loads(element.decode("utf-8", "surrogateescape"), parse_int=lambda _: 0)
        except RecursionError:
            continue
        except ValueError:
            raise _not_json(error) from None
    return [msgspec.Raw(element) for element in elements]


def _not_json(error: Exception) -> Problem:
    reason = {
        UnicodeDecodeError: "it is not UTF-8",
        UnicodeEncodeError: "it has a lone surrogate",
        RecursionError: "it is nested too deeply",
    }.get(type(error), str(error))
    return Problem("malformed_request", f"the body is not a command in JSON: {reason}")


def _read_enormous(body: bytes) -> Command:
    """A command with an integer of thousands of digits: the ledger refuses it (422), so it is not malformed."""
    if not _is_small(body):
        raise Problem("malformed_request", "the body has more members than a command")
    try:
        # From bytes this parser would accept UTF-16 and lone surrogates too, which the quick one refuses.
        values = json.loads(body.decode(), parse_int=lambda digits: int(digits[:_DIGITS_MAX]))
        json.dumps(values, ensure_ascii=False).encode()
        command: Command = msgspec.convert(values, AnyCommand)
        return command
    except msgspec.ValidationError as error:
        raise malformed(str(error)) from None
    except (ValueError, RecursionError) as error:
        raise _not_json(error) from None


def refuse_duplicates(body: bytes) -> None:
    """Raise the Problem that names a member of an object that occurs twice."""
    if not _is_small(body):  # one of its few names occurs thousands of times
        times = Counter(found[1] for found in _MEMBER.finditer(body, 0, 1_000_000)).most_common(1)
        if not times or times[0][1] < _MARKS_MAX // 100:
            raise Problem("malformed_request", "a member occurs twice")
        name = times[0][0].decode()
        raise Problem("malformed_request", f"the member {name} occurs twice", field=name)

    def once(members: list[tuple[str, Any]]) -> dict[str, Any] | _Repeating:
        names = [name for name, _ in members]
        if len(set(names)) < len(names):
            return _Repeating(next(name for name in names if names.count(name) > 1))
        return dict(members)

    read = json.loads(body, object_pairs_hook=once, parse_int=lambda _: 0)
    if isinstance(read, _Repeating):
        raise Problem("malformed_request", f"the member {read.name} occurs twice", field=read.name)
    for name, value in read.items():
        if isinstance(value, _Repeating):  # its own names are the client's, and may be private
            raise Problem("malformed_request", f"a member of {name} occurs twice", field=name)


def _refuse_control_characters(command: Command) -> None:
    for name, value in msgspec.to_builtins(command).items():
        if has_control_character(value):
            raise Problem("malformed_request", f"{name} has a control character or a lone surrogate", field=name)


def has_control_character(value: Any) -> bool:
    """Whether a text, or a text of a map, has a control character or a lone surrogate."""
    texts = [text for item in value.items() for text in item] if isinstance(value, dict) else [value]
    return any(isinstance(text, str) and _CONTROL.search(text) for text in texts)
