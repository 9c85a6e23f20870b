"""Private texts on their way in and out: encrypted before a node gets the command, shown to those who may read them.

Operators, auditors and the client that wrote them may. For others the member ``private`` is left out, of every
response that has the data of an event. The member is null, for those who may read it, once the
user's key is destroyed.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from api.http.commands import HashedCommand
from api.http.problems import Problem, unavailable
from api.identity.identity import AUDITOR, OPERATOR, Identity
from api.identity.keys import Keys
from api.identity.private import Encrypted, PlainTexts, Texts
from ledger.core.commands import Command
from ledger.errors import LedgerError
from ledger.writer.requests import Accepted, AnyResponse, DryRunAccepted, Failed

_DATA: Final = b',"data":'
_MEMBER: Final = b'"private":"'
"""In the bytes of data where it has private texts; also in those of some other data."""

NO_TEXTS: Final[Mapping[str, Texts]] = MappingProxyType({})
_members_of: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_text_of: Final = msgspec.json.Decoder(str).decode
_encode: Final = msgspec.json.encode


class EventData(Struct):
    """The data of an event, as JSON, and whose it is."""

    user_id: str
    command_id: str
    data: Raw


event_data_of: Final = msgspec.json.Decoder(EventData).decode
"""Of a record."""


def has_private(octets: bytes) -> bool:
    """Whether a record, or the data of an event, may have private texts."""
    return _MEMBER in octets


def refuse_without_keys(keys: Keys | None, hashed: HashedCommand) -> Problem | None:
    if hashed.command.private is None or keys is not None:
        return None
    return Problem("malformed_request", "private is not available: the service has no master key", field="private")


class Sent(NamedTuple):
    """Commands as a node gets them, and what only their client and this request know."""

    commands: Sequence[HashedCommand] = ()
    texts_by_ciphertext: Mapping[str, Texts] = NO_TEXTS
    """Private texts: encrypted → as the client sent them."""
    of_dry_run: Sequence[Texts | None] = ()
    """The private texts of each command, which the node does not get."""


NOTHING_SENT: Final = Sent()


async def encrypt(keys: Keys | None, commands: Sequence[HashedCommand], writer: str, *, dry_run: bool) -> Sent:
    """The same commands, their private texts encrypted; for a dry run, which makes no key, left out. ``writer``: the
    client that posts them. Raises Problem ``outcome_unknown``: nothing is written now, but a command that is repeated
    may have been accepted before."""
    if dry_run:
        texts = [None if one.command.private is None else _texts_of(one.command) for one in commands]
        return Sent([_with_private(one, None) for one in commands], of_dry_run=texts)
    plain = [
        PlainTexts(one.command.user_id, one.command.command_id, _texts_of(one.command))
        for one in commands
        if one.command.private is not None
    ]
    if not plain:
        return Sent(commands)
    assert keys is not None, "such commands were refused"
    try:
        encrypted = await keys.private.encrypt(plain, writer)
    except LedgerError as error:
        raise Problem("outcome_unknown", unavailable(error).detail) from error
    left = iter(encrypted)
    return Sent(
        [one if one.command.private is None else _with_private(one, next(left)) for one in commands],
        {text: one.texts for text, one in zip(encrypted, plain, strict=True)},
    )


def withhold(elements: Sequence[HashedCommand | Problem], problem: Problem) -> list[HashedCommand | Problem]:
    """A batch whose private texts cannot be encrypted: ``problem`` in place of each command that has some, and of the
    later commands of its wallet. The others can be decided."""
    wallets: set[str] = set()
    found: list[HashedCommand | Problem] = []
    for element in elements:
        if isinstance(element, Problem):
            found.append(element)
            continue
        if element.command.private is not None:
            wallets.add(element.command.user_id)
        found.append(problem if element.command.user_id in wallets else element)
    return found


def _with_private(hashed: HashedCommand, private: str | None) -> HashedCommand:
    if hashed.command.private is None:
        return hashed
    return hashed._replace(command=replace(hashed.command, private=private))


def _texts_of(command: Command) -> Texts:
    assert isinstance(command.private, dict), "a client's command has them as it sent them"
    return command.private


class _Found(NamedTuple):
    at: int
    members: dict[str, Raw]
    encrypted: Encrypted


async def visible_data(
    keys: Keys | None,
    reader: Identity,
    events: Sequence[EventData],
    texts_by_ciphertext: Mapping[str, Texts] = NO_TEXTS,
) -> list[bytes]:
    """The data of each event as ``reader`` may see it. All keys are read at once.
    ``texts_by_ciphertext``: what the reader has just sent. Raises LedgerError."""
    data = [bytes(event.data) for event in events]
    readable: list[_Found] = []
    for index, event in enumerate(events):
        if not has_private(data[index]):
            continue
        members = _members_of(data[index])
        if "private" not in members:
            continue
        encrypted = Encrypted(event.user_id, event.command_id, _text_of(members["private"]))
        if encrypted.text in texts_by_ciphertext:
            members["private"] = Raw(_encode(texts_by_ciphertext[encrypted.text]))
            data[index] = _encode(members)
        elif keys is not None and _may_read(reader, encrypted):
            readable.append(_Found(index, members, encrypted))
        else:
            del members["private"]
            data[index] = _encode(members)
    if not readable:
        return data
    assert keys is not None, "without keys nothing is readable"
    opened = await keys.private.decrypt([found.encrypted for found in readable])
    for found, texts in zip(readable, opened, strict=True):
        found.members["private"] = Raw(_encode(texts))
        data[found.at] = _encode(found.members)
    return data


def _may_read(reader: Identity, encrypted: Encrypted) -> bool:
    """A player's token names the client that asked for it, which is not the player."""
    if reader.role in (None, OPERATOR, AUDITOR):
        return True
    return reader.user_id is None and reader.client_id == encrypted.writer


async def visible_responses(
    keys: Keys | None, reader: Identity, responses: Sequence[AnyResponse], sent: Sent = NOTHING_SENT
) -> list[AnyResponse]:
    """The responses to ``sent`` as ``reader`` may see them. The record of an accepted command then has other data,
    for the response alone. Where a key cannot be read the client gets ``outcome_unknown`` and repeats the command."""
    events = {
        index: event_data_of(response.record)
        for index, response in enumerate(responses)
        if isinstance(response, Accepted) and has_private(response.record)
    }
    found = list(responses)
    for index, texts in enumerate(sent.of_dry_run):
        found[index] = _with_texts(found[index], texts)
    if not events:
        return found
    try:
        data = await visible_data(keys, reader, list(events.values()), sent.texts_by_ciphertext)
    except LedgerError as error:
        detail = unavailable(error).detail
        return [Failed("outcome_unknown", detail) if index in events else one for index, one in enumerate(found)]
    for (index, event), of_response in zip(events.items(), data, strict=True):
        response = found[index]
        assert isinstance(response, Accepted), response
        found[index] = replace(response, record=_with_data(response.record, event.data, of_response))
    return found


def _with_data(record: bytes, data: Raw, other: bytes) -> bytes:
    begin = record.index(_DATA) + len(_DATA)  # no member before it can contain this
    return record[:begin] + other + record[begin + len(bytes(data)) :]


def _with_texts(response: AnyResponse, texts: Texts | None) -> AnyResponse:
    """The response to a dry run, with the texts of its command."""
    if texts is None or not isinstance(response, DryRunAccepted):
        return response
    data: Any = response.event.data
    return DryRunAccepted(replace(response.event, data=replace(data, private=texts)), response.position)
