"""The format of a snapshot in its store: records under keys, and a closing marker last.

::

    <partition>/<id>/<number>   a chunk: a page of the state (``ledger.ports.Page``), deflated; numbers from 0
    <partition>/<id>/end        the marker, JSON

The id begins with the snapshot's seq in 16 digits and ends with random digits, so no two snapshots have the same id,
whichever nodes wrote them.

Invariants:
(1) a snapshot is complete if and only if its marker exists, the store has as many chunks as the marker says, and the
    marker's digest is right: over all chunks in order, and over the log's head and place in the marker;
(2) so a chunk that is missing, deleted, doubled or changed, or a marker that belongs to other chunks, is found before
    any part of the snapshot is used.
"""

import secrets
import zlib
from collections.abc import Iterable
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
from msgspec import Struct

from ledger.core.record import Head
from ledger.errors import LedgerError
from ledger.ports import Page

if TYPE_CHECKING:
    from hashlib import _Hash

VERSION: Final = 1

_END: Final = "end"
_LEVEL: Final = 1  # measured: half of the time of level 6, for a tenth more bytes
_SEQ_DIGITS: Final = 16


class SnapshotBroken(LedgerError):
    """A snapshot differs from its marker, or has another format. The snapshot before it, or the log, replaces it."""


class Marker(Struct, frozen=True, kw_only=True):
    """The last record of a snapshot."""

    v: int
    values_format: int
    partition: int
    partitions: int
    seq: int
    sha256: str
    place: bytes | None
    chunks: int
    values: int = msgspec.field(name="entries")
    """How many."""
    digest: str

    @property
    def head(self) -> Head:
        return Head(self.seq, self.sha256)


class Name(NamedTuple):
    """The parts of a record's key; ``number`` is None for the marker."""

    snapshot: str
    number: int | None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Marker).decode


def new_snapshot(seq: int) -> str:
    """A unique id."""
    return f"{seq:0{_SEQ_DIGITS}d}-{secrets.token_hex(8)}"


def seq_of(snapshot: str) -> int:
    return int(snapshot[:_SEQ_DIGITS])


def chunk_key(partition: int, snapshot: str, number: int) -> str:
    return f"{partition}/{snapshot}/{number}"


def marker_key(partition: int, snapshot: str) -> str:
    return f"{partition}/{snapshot}/{_END}"


def name_of(key: str, partition: int) -> Name | None:
    """None where ``key`` does not belong to a snapshot of the partition."""
    parts = key.split("/")
    if len(parts) != 3 or parts[0] != str(partition):
        return None
    digits, _, random_part = parts[1].partition("-")
    if len(digits) != _SEQ_DIGITS or not _is_number(digits) or not random_part:
        return None
    if parts[2] == _END:
        return Name(parts[1], None)
    return Name(parts[1], int(parts[2])) if _is_number(parts[2]) and len(parts[2]) <= _SEQ_DIGITS else None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def pack(page: Page) -> bytes:
    return zlib.compress(page, _LEVEL)


def unpack(chunk: bytes) -> Page:
    """Raises SnapshotBroken."""
    try:
        return zlib.decompress(chunk)
    except zlib.error as error:
        raise SnapshotBroken(f"a chunk cannot be inflated: {error}") from None


def count_values(page: Page) -> int:
    return (page.count(b"\n") + 1) // 2


class Digest:
    """The digest of a snapshot, over its chunks in order."""

    def __init__(self) -> None:
        self._hash: _Hash = sha256()

    def add(self, chunk: bytes) -> None:
        # The length is part of the digest: the same bytes, split into other chunks, have another digest.
        self._hash.update(len(chunk).to_bytes(8))
        self._hash.update(chunk)

    def closed(self, partition: int, head: Head, place: bytes | None) -> str:
        """The digest over all added chunks, and over the log's head and place in the marker."""
        whole = self._hash.copy()
        whole.update(_encode((partition, head, place)))
        return whole.hexdigest()


def encode_marker(marker: Marker) -> bytes:
    return _encode(marker)


def decode_marker(value: bytes, snapshot: str) -> Marker:
    """Raises SnapshotBroken where ``value`` is not a marker of this version and of this snapshot."""
    try:
        marker = _decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SnapshotBroken(f"its marker cannot be read: {error}") from None
    if marker.v != VERSION:
        raise SnapshotBroken(f"it has version {marker.v}; this program reads version {VERSION}")
    if marker.seq != seq_of(snapshot):
        raise SnapshotBroken(f"its marker is of seq {marker.seq}")
    return marker


def pages_of(chunks: Iterable[bytes], values: int) -> Iterable[Page]:
    """The pages of chunks whose digest is right. Raises SnapshotBroken unless they have ``values`` values."""
    found = 0
    for chunk in chunks:
        page = unpack(chunk)
        if page.count(b"\n") % 2 == 0:
            raise SnapshotBroken("a chunk is not a page of pairs")
        found += count_values(page)
        yield page
    if found != values:
        raise SnapshotBroken(f"it has {found} values, its marker says {values}")
