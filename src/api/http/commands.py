"""What goes over the wire: bytes → commands, answers → bytes. No rule of the ledger is here.

A body is a command if and only if (1) it is UTF-8 JSON of one object, (2) of a known ``type``, whose members are all
known, have their declared shape, and stand once, (3) whose texts hold no control character. JSON libraries take a
member that stands twice in silence; here it is an error, for the two readers of such a body may see two amounts.
"""

import json
import re
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct

from api.http.problems import Problem, problem_of
from ledger.core.commands import COMMAND_TYPES, ID_PATTERN, USER_ID_PATTERN, AnyCommand, Command, canonical
from ledger.core.events import LEDGER, AnyData, Balance
from ledger.core.record import Head
from ledger.core.wallet import NO_BALANCE, NO_LIMITS, Wallet
from ledger.writer.requests import Accepted, AnyResponse, DryRunAccepted, Failed, IdReused, Refused, WalletRead
from projections.models import wallets

BODY_MAX: Final = 8 * 1024 * 1024
BATCH_MAX: Final = 1_000
DEFAULT_ACTOR: Final = "local"


class Asked(NamedTuple):
    """A command, and the SHA-256 of its canonical form."""

    command: Command
    request_sha256: str


# --- reading -------------------------------------------------------------------------------------------------------

_decode: Final = msgspec.json.Decoder(AnyCommand).decode
_decode_elements: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_USER_ID: Final = re.compile(USER_ID_PATTERN)
_ID: Final = re.compile(ID_PATTERN)
_ANY_COMMAND_ID: Final = re.compile(r"[!-~]{1,128}")
_PATH: Final = re.compile(r" - at `(?:key in )?\$\.?(.*?)`$")
_UNKNOWN_FIELD: Final = re.compile(r"Object contains unknown field `(.*)`")
_MISSING_FIELD: Final = re.compile(r"Object missing required field `(.*?)`")

_SPACE: Final = re.compile(r"[ \t\r\n]*")
_SEPARATOR: Final = re.compile(r"[ \t\r\n]*,?[ \t\r\n]*")
_PATTERN: Final = "matching regex"
_UNKNOWN_TYPE: Final = "Invalid value"
_A_USER_ID: Final = (
    "1–64 of A–Z a–z 0–9 _ - . : @, beginning with a letter or digit, and not with game: or partition:, "
    "which are reserved"
)
_SPELLINGS: Final = {
    "user_id": _A_USER_ID,
    "referrer_id": _A_USER_ID,
    "to_user_id": _A_USER_ID,
    "id": "1–128 printable ASCII characters without spaces, not beginning with ~, which is the ledger's own",
    "position": 'the position of an event, "<partition>:<seq>"',
    "spend": "cash_first or bonus_first",
    "": "spelled otherwise",
}

# Decimal digits that are kept of a number in a slow reading: far beyond any amount, short enough to convert.
_DIGITS_MAX: Final = 30


def read_command(body: bytes) -> Asked:
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
    form = canonical(command)
    escaped = b"\\" in body
    # Without escapes each text has two quotes. As many as in the canonical form, which has every known member once:
    # then nothing stands twice, and nothing is null. Else look closely; that costs ten times as much.
    if escaped or body.count(b'"') != form.count(b'"'):
        _refuse_duplicates(body)
    if escaped or not body.isascii() or b"\x7f" in body:
        _refuse_control_characters(command)
    return Asked(command, sha256(form).hexdigest())


def read_batch(body: bytes) -> list[Asked | Problem]:
    """The commands of a batch, each read for itself. Raises Problem where the body is not an array of 1–1,000."""
    try:
        elements = _decode_elements(body)
    except msgspec.ValidationError:
        raise Problem("malformed_request", "the body must be a JSON array of 1–1,000 commands") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        elements = _split_elements(body, error)
    if not 1 <= len(elements) <= BATCH_MAX:
        raise Problem("malformed_request", f"a batch has 1–{BATCH_MAX:,} commands, this one has {len(elements)}")
    asked: list[Asked | Problem] = []
    for element in elements:
        try:
            asked.append(read_command(bytes(element)))
        except Problem as problem:
            asked.append(problem)
    return asked


def read_actor(header: bytes | None) -> str:
    """Who posts, from the header ``Stakelog-Actor``. Raises Problem ``malformed_request``."""
    if header is None:
        return DEFAULT_ACTOR
    actor = header.decode("latin-1")
    if not _USER_ID.search(actor):
        raise Problem("malformed_request", "Stakelog-Actor must be spelled as a user_id is", field="Stakelog-Actor")
    if actor == LEDGER:
        raise Problem("malformed_request", "the actor ledger is the ledger itself", field="Stakelog-Actor")
    return actor


def read_user_id(text: str) -> str:
    """A user_id of a path or query. Raises Problem ``malformed_request``."""
    if not _USER_ID.search(text):
        raise Problem("malformed_request", "the user_id is malformed or reserved", field="user_id")
    return text


def read_command_id(text: str) -> str:
    """A command_id of a path, the ledger's own too. Raises Problem ``malformed_request``."""
    if not _ANY_COMMAND_ID.fullmatch(text):
        raise Problem("malformed_request", "the command_id is malformed", field="command_id")
    return text


def read_asked_id(text: str, name: str) -> str:
    """The id of a bet, order … in a path: never one of the ledger's own. Raises Problem ``malformed_request``."""
    if not _ID.search(text):
        raise Problem("malformed_request", f"the {name} is malformed", field=name)
    return text


def malformed(message: str) -> Problem:
    """A ``malformed_request`` from a decoder's message, which ends in the path of the field."""
    if _PATTERN in message or _UNKNOWN_TYPE in message:
        return _misspelled(message)
    for pattern in (_UNKNOWN_FIELD, _MISSING_FIELD):
        if match := pattern.search(message):
            path = _PATH.search(message)
            parent = f"{path[1]}." if path and path[1] else ""
            return Problem("malformed_request", message, field=parent + match[1])
    if match := _PATH.search(message):
        return Problem("malformed_request", message, **({"field": match[1]} if match[1] else {}))
    return Problem("malformed_request", message)


def _misspelled(message: str) -> Problem:
    """The same in words: nobody should have to read a regular expression to mend a request."""
    path = _PATH.search(message)
    field = path[1] if path else ""
    if _UNKNOWN_TYPE in message and field == "type":
        there_are = ", ".join(str(command.__struct_config__.tag) for command in COMMAND_TYPES)
        return Problem("malformed_request", f"there is no such command type; there are {there_are}", field=field)
    words = _SPELLINGS.get(field) or _SPELLINGS["id" if field.endswith("_id") else ""]
    return Problem("malformed_request", f"{field} must be {words}", field=field)


def _refuse_surrogates(body: bytes) -> None:
    """Name the text where a lone surrogate is what keeps the body from being read; it is JSON all the same."""
    try:
        members = json.loads(body, parse_int=lambda _: 0)
    except (ValueError, RecursionError):
        return
    for name, value in members.items() if isinstance(members, dict) else ():
        if has_control_character(value):
            raise Problem("malformed_request", f"{name} has a control character or a lone surrogate", field=name)


def _split_elements(body: bytes, error: Exception) -> list[msgspec.Raw]:
    """The elements of an array in which a text cannot be read, each as it was sent, so that one does not stop all."""
    scan = json.JSONDecoder(parse_int=lambda _: 0).raw_decode
    elements = []
    try:
        text = body.decode("utf-8", "surrogateescape").strip(" \t\r\n")
        if not isinstance(json.loads(text, parse_int=lambda _: 0), list):
            raise Problem("malformed_request", "the body must be a JSON array of 1–1,000 commands")
        at = _SPACE.match(text, 1).end()  # type: ignore[union-attr]  # it matches anywhere
        while text[at] != "]":
            _, end = scan(text, at)
            elements.append(msgspec.Raw(text[at:end].encode("utf-8", "surrogateescape")))
            at = _SEPARATOR.match(text, end).end()  # type: ignore[union-attr]
    except (ValueError, RecursionError):
        raise _not_json(error) from None
    return elements


def _not_json(error: Exception) -> Problem:
    reason = {
        UnicodeDecodeError: "it is not UTF-8",
        UnicodeEncodeError: "it has a lone surrogate",
        RecursionError: "it is nested too deeply",
    }.get(type(error), str(error))
    return Problem("malformed_request", f"the body is not the JSON that is asked for: {reason}")


def _read_enormous(body: bytes) -> Command:
    """A command with an integer of thousands of digits: a refusal of the ledger's (422), not a malformed body."""
    try:
        # From bytes this reader would take UTF-16 and lone surrogates too, which the quick one refuses.
        values = json.loads(body.decode(), parse_int=lambda digits: int(digits[:_DIGITS_MAX]))
        json.dumps(values, ensure_ascii=False).encode()
        command: Command = msgspec.convert(values, AnyCommand)
        return command
    except msgspec.ValidationError as error:
        raise malformed(str(error)) from None
    except (ValueError, RecursionError) as error:
        raise _not_json(error) from None


def _refuse_duplicates(body: bytes) -> None:
    def once(members: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in members]
        for name in names:
            if names.count(name) > 1:
                raise Problem("malformed_request", f"the member {name} stands twice", field=name)
        return dict(members)

    json.loads(body, object_pairs_hook=once, parse_int=lambda _: 0)


def _refuse_control_characters(command: Command) -> None:
    for name, value in msgspec.to_builtins(command).items():
        if has_control_character(value):
            raise Problem("malformed_request", f"{name} has a control character or a lone surrogate", field=name)


def has_control_character(value: Any) -> bool:
    """Whether a text, or one of a map's, has one, or a lone surrogate."""
    texts = [text for item in value.items() for text in item] if isinstance(value, dict) else [value]
    return any(isinstance(text, str) and _CONTROL.search(text) for text in texts)


# --- writing -------------------------------------------------------------------------------------------------------


class Result(Struct, gc=False):
    """The answer to an accepted command. ``head`` is the hash of this event's record."""

    position: str
    partition: int
    seq: int
    time_us: int
    type: str
    data: AnyData
    balances: dict[str, Balance]
    head: str


class DryRunResult(Struct, gc=False):
    """The event as it would be. Nothing was written."""

    partition: int
    seq: int
    time_us: int
    type: str
    data: AnyData
    balances: dict[str, Balance]
    dry_run: bool = True


class Created(Struct, gc=False):
    """One element of a batch's answer: taken now."""

    status: int
    result: Result | DryRunResult


class Hit(Struct, gc=False):
    """One element of a batch's answer: taken before."""

    status: int
    idempotency_hit: bool
    result: Result


class NotTaken(Struct, gc=False):
    """One element of a batch's answer: a problem."""

    status: int
    problem: msgspec.Raw


encode: Final = msgspec.json.encode
"""For bodies that are no events: their members in the order in which the contract names them."""

encode_results: Final = msgspec.json.Encoder(order="deterministic").encode
"""For answers that hold an event's data, whose maps are sorted as they are in the record."""


def result_of(accepted: Accepted) -> Result:
    event, place = accepted.event, accepted.position
    return Result(
        f"{place.partition}:{place.seq}",
        place.partition,
        place.seq,
        event.time_us,
        event.data.type,
        event.data,
        event.balances,
        accepted.head,
    )


def dry_run_result_of(would_be: DryRunAccepted) -> DryRunResult:
    event = would_be.event
    return DryRunResult(
        would_be.position.partition, would_be.position.seq, event.time_us, event.data.type, event.data, event.balances
    )


def batch_item(answer: AnyResponse | Problem) -> Created | Hit | NotTaken:
    """One element of a batch's answer."""
    match answer:
        case Accepted(hit=False):
            return Created(201, result_of(answer))
        case Accepted():
            return Hit(200, True, result_of(answer))
        case DryRunAccepted():
            return Created(200, dry_run_result_of(answer))
        case Refused() | IdReused() | Failed():
            problem = problem_of(answer)
            return NotTaken(problem.status, msgspec.Raw(problem.encoded()))
        case Problem():
            return NotTaken(answer.status, msgspec.Raw(answer.encoded()))
        case _:
            raise AssertionError(answer)


def wallet_document(read: WalletRead) -> wallets.Wallet:
    """``GET /v1/wallets/{user_id}?consistency=strong``, from the writer's own state."""
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
    )


def _available(wallet: Wallet, asset: str) -> wallets.Available:
    balance = wallet.balances.get(asset, NO_BALANCE)
    credit = wallet.limits.get(asset, NO_LIMITS).credit_limit
    return wallets.Available(balance.cash, balance.bonus, balance.held, balance.cash + credit)


def _limits(wallet: Wallet, asset: str) -> wallets.Limits:
    limits = wallet.limits.get(asset, NO_LIMITS)
    return wallets.Limits(
        limits.credit_limit, limits.balance_max, limits.stake_max_per_day, limits.withdrawal_max_per_day
    )


def partitions_body(heads: Sequence[Head], owners: Sequence[str | None]) -> dict[str, Any]:
    """``GET /v1/partitions``; an owner is None where nobody has the partition."""
    return {
        "items": [
            {"partition": partition, "seq": head.seq, "head": head.sha256, "owner": owner}
            for partition, (head, owner) in enumerate(zip(heads, owners, strict=True))
        ]
    }
