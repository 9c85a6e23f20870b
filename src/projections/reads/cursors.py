"""Cursors: where a list continues. Opaque to clients, and valid only for the same list and filters.

base64url of msgpack ``[digest of list and filters, place of the last item, positions of the first page]``, at most
``CURSOR_MAX`` characters.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Final

import msgspec
from msgspec import Struct

from projections.tables.queries import Cursor

List = tuple[str, str, Mapping[str, str | int]]
"""A list: its name, its user, its filters."""

CURSOR_MAX: Final = 512
"""From the contract."""


class MalformedCursor(ValueError):
    """A cursor that was not made for this list with these filters."""


class _Written(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    of: bytes
    after: tuple[int | str, ...]
    snapshot: tuple[int, ...]


_decode: Final = msgspec.msgpack.Decoder(_Written).decode
_encode: Final = msgspec.msgpack.encode


def write_cursor(of: List, cursor: Cursor) -> str:
    written = _Written(_digest(of), cursor.after, cursor.snapshot)
    text = base64.urlsafe_b64encode(_encode(written)).rstrip(b"=").decode()
    assert len(text) <= CURSOR_MAX, cursor
    return text


def read_cursor(text: str, of: List, after: str, snapshot: int | None) -> Cursor:
    """Return the cursor in ``text``. ``after``: the kinds of its place's values (``i`` integer, ``t`` text);
    ``snapshot``: how many numbers its snapshot has, None: any number. Raises MalformedCursor if ``text`` is no
    cursor, or is a cursor of another list or of other filters."""
    if len(text) > CURSOR_MAX or not text.isascii():
        raise MalformedCursor("it is not a cursor that was given out")
    try:
        written = _decode(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, msgspec.MsgspecError, UnicodeDecodeError):
        raise MalformedCursor("it is not a cursor that was given out") from None
    if written.of != _digest(of):
        raise MalformedCursor("it belongs to another list, or to other filters")
    place = list(zip(written.after, after, strict=False))
    is_whole = len(written.after) == len(after) and snapshot in (None, len(written.snapshot))
    if not is_whole or not _fits(place, written.snapshot):
        raise MalformedCursor("it is not a cursor that was given out")
    return Cursor(written.after, written.snapshot)


def _fits(place: Sequence[tuple[int | str, str]], snapshot: Sequence[int]) -> bool:
    """Whether the values are of their kinds, and the numbers fit into a database's integer."""
    if any(isinstance(value, int) is not (kind == "i") for value, kind in place):
        return False
    numbers = [value for value, _ in place if isinstance(value, int)]
    return all(abs(number) < 2**62 for number in (*numbers, *snapshot))


def _digest(of: List) -> bytes:
    name, user_id, filters = of
    return blake2b(_encode([name, user_id, sorted(filters.items())]), digest_size=8).digest()
