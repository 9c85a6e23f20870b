"""Seals: where every partition ended at a time, chained, in a file of one JSON line each.

A line is ``{"sealed_at_us":…,"partitions":[{"partition":0,"seq":42,"head":"…"},…],"prev":"…","kid":"…",
"signature":"…"}``. A copy of a seal outside of the data folder can later show that the log was cut, or rewritten
before that seal.

What is signed, with Ed25519: ``stakelog-seal:`` and the line with ``"kid":null,"signature":null``. Both are null in a
seal that was made without keys. The signature is base64url without padding.

Invariants:
(1) ``prev`` is the SHA-256 of the line before, without its line feed; 64 zeros in the first line;
(2) ``sealed_at_us`` and the seqs never decrease from line to line;
(3) a line counts once its line feed is on the disk. A crash leaves at most one line without it: ``SealFile.open``
    completes that line if it is a whole seal, and removes it if it is not;
(4) every signature is that of its key, as far as the keys are known;
(5) an ``append`` that fails leaves the file unchanged, or with one incomplete line.
"""

import logging
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Final, Protocol

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from ledger.core.record import EMPTY_SHA256, Head
from ledger.files import sync
from ledger.operations.audit import Fault
from ledger.operations.verifying.anchors import Anchor

SEALS: Final = "seals.ndjson"
"""The file's name in the data folder."""

_CHUNK: Final = 2**20

_log = logging.getLogger(__name__)


class SealedHead(Struct, frozen=True, forbid_unknown_fields=True):
    """Where a partition ended when the seal was made."""

    partition: Annotated[int, Meta(description="The partition", examples=[3])]
    seq: Annotated[int, Meta(description="Seq of its last record; 0: none", examples=[42])]
    head: Annotated[str, Meta(description="SHA-256 of its last record; 64 zeros: none", examples=[EMPTY_SHA256])]


class Seal(Struct, frozen=True, forbid_unknown_fields=True):
    """Where every partition ended at a time, chained to the seal before."""

    sealed_at_us: Annotated[int, Meta(description="Unix time in microseconds, UTC", examples=[1_795_438_800_000_000])]
    partitions: Annotated[list[SealedHead], Meta(description="All partitions, in their order")]
    prev: Annotated[str, Meta(description="SHA-256 of the seal before; 64 zeros: none", examples=[EMPTY_SHA256])]
    kid: Annotated[
        str | None,
        Meta(
            description="The key at `/.well-known/jwks.json`; null: the seal is not signed",
            examples=["kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"],
        ),
    ] = None
    signature: Annotated[
        str | None,
        Meta(
            description=(
                'Ed25519 over the UTF-8 text `stakelog-seal:` and the seal as in the file, with `"kid":null,'
                '"signature":null`; base64url without padding. null: the seal is not signed'
            ),
            examples=["A" * 86],
        ),
    ] = None

    def anchors(self) -> Iterator[Anchor]:
        """The heads that a log must go through."""
        source = f"the seal of {utc(self.sealed_at_us)}"
        return (Anchor(sealed.partition, sealed.seq, sealed.head, source) for sealed in self.partitions)


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Seal).decode
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def utc(time_us: int) -> str:
    """The time to the second, as in ``2026-11-30T08:00:00Z``."""
    return datetime.fromtimestamp(time_us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


Sign = Callable[[bytes], tuple[str, str]]
"""A text → (kid, signature). It may raise LedgerError: then there is no key now."""


class Keys(Protocol):
    """The public keys of seals."""

    def __contains__(self, kid: str, /) -> bool: ...

    def fault(self, kid: str, text: bytes, signature: str) -> str | None:
        """Why the signature is not the key's over ``text``; None: it is."""
        ...


def seal_line(sealed_at_us: int, heads: Sequence[Head], prev: str, sign: Sign | None = None) -> bytes:
    """The seal of these heads, one of each partition, without a line feed. Raises what ``sign`` raises."""
    sealed = [SealedHead(partition, head.seq, head.sha256) for partition, head in enumerate(heads)]
    seal = Seal(sealed_at_us, sealed, prev)
    if sign is None:
        return _encode(seal)
    kid, signature = sign(_signed_text(seal))
    return _encode(replace(seal, kid=kid, signature=signature))


def _signed_text(seal: Seal) -> bytes:
    return b"stakelog-seal:" + _encode(replace(seal, kid=None, signature=None))


def checked(lines: Iterable[bytes], keys: Keys | None = None) -> Iterator[Seal]:
    """The seals of these lines, each checked against the one before, and its signature if ``keys`` are given. Raises
    Fault, with the seal's number as seq."""
    prev, sealed_at_us, seqs = EMPTY_SHA256, 0, dict[int, int]()
    for number, line in enumerate(lines, 1):
        try:
            seal = _decode(line)
        except _UNREADABLE as error:
            raise Fault(-1, number, f"the seal cannot be read: {error}") from None
        if seal.prev != prev:
            raise Fault(-1, number, "its prev is not the hash of the seal before it: one of the two was changed")
        if _encode(seal) != line:
            raise Fault(-1, number, "its bytes are not the canonical form of what it says")
        if seal.sealed_at_us < sealed_at_us:
            raise Fault(-1, number, "its time is before that of the seal before it")
        for sealed in seal.partitions:
            if sealed.seq < seqs.get(sealed.partition, 0):
                raise Fault(
                    -1, number, f"its seq of partition {sealed.partition} is lower than in the seal before it"
                )
            seqs[sealed.partition] = sealed.seq
        if (seal.kid is None) != (seal.signature is None):
            raise Fault(-1, number, "it has a kid without a signature, or a signature without a kid")
        if keys is not None and seal.kid is not None and seal.signature is not None:
            fault = keys.fault(seal.kid, _signed_text(seal), seal.signature)
            if fault is not None:
                raise Fault(-1, number, fault)
        prev, sealed_at_us = sha256(line).hexdigest(), seal.sealed_at_us
        yield seal


class SealCounts(Struct):
    """How many seals were read, how many of them are signed, and by how many of these the key is known."""

    seals: int = 0
    signed: int = 0
    checked: int = 0


def anchors_of(lines: Iterable[bytes], keys: Keys | None = None, counts: SealCounts | None = None) -> list[Anchor]:
    """The heads of all seals, without those that repeat the head of the seal before. Raises Fault."""
    last: dict[int, tuple[int, str]] = {}
    anchors = []
    for seal in checked(lines, keys):
        if counts is not None:
            counts.seals += 1
            counts.signed += seal.kid is not None
            counts.checked += keys is not None and seal.kid is not None and seal.kid in keys
        for anchor in seal.anchors():
            head = (anchor.seq, anchor.sha256)
            if last.get(anchor.partition) != head:
                last[anchor.partition] = head
                anchors.append(anchor)
    return anchors


def read_lines(path: Path) -> Iterator[bytes]:
    """The complete lines of the file. Raises OSError."""
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                _log.warning("%s ends in a line that is not complete: it is being written, or a crash cut it", path)
                return
            yield line[:-1]


class SealFile:
    """The file, to append to and to read from. One process appends; threads may read while one appends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_open = False
        self.last_sha256 = EMPTY_SHA256
        self.last_sealed_at_us = 0
        self.last_seqs: dict[int, int] = {}
        """Partition → its seq in the last seal."""
        self._ends: array[int] = array("q")
        """Where each line ends, after its line feed."""

    def __len__(self) -> int:
        return len(self._ends)

    @property
    def _size(self) -> int:
        return self._ends[-1] if self._ends else 0

    def open(self) -> None:
        """Repair the end of the file and read where its lines are. Raises OSError."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self._read_ends(descriptor)
            self._repair(descriptor)
        finally:
            os.close(descriptor)
        if self._ends:
            line = self.line(len(self))
            self.last_sha256 = sha256(line).hexdigest()
            try:
                self._note_last(_decode(line))
            except _UNREADABLE as error:
                _log.error(
                    "the last line of %s is not a seal: %s; `stakelog audit verify` says more", self.path, error
                )
        self.is_open = True

    def _read_ends(self, descriptor: int) -> None:
        self._ends = array("q")
        offset = 0
        while chunk := os.pread(descriptor, _CHUNK, offset):
            at = chunk.find(b"\n")
            while at >= 0:
                self._ends.append(offset + at + 1)
                at = chunk.find(b"\n", at + 1)
            offset += len(chunk)

    def _repair(self, descriptor: int) -> None:
        size = self._size
        tail = os.fstat(descriptor).st_size - size
        if not tail:
            return
        rest = os.pread(descriptor, tail, size)
        prev = sha256(self.line(len(self))).hexdigest() if self._ends else EMPTY_SHA256
        try:
            whole = _decode(rest).prev == prev
        except _UNREADABLE:
            whole = False
        if whole:
            os.pwrite(descriptor, b"\n", size + tail)
            self._ends.append(size + tail + 1)
        else:
            os.ftruncate(descriptor, size)
            _log.warning("%s ended in half a seal, which a crash left: it is removed", self.path)
        os.fsync(descriptor)

    def append(self, line: bytes) -> None:
        """Append the seal durably. Raises OSError, and leaves the file as it was."""
        seal = _decode(line)
        size, created = self._size, not self.path.exists()
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            try:
                data = line + b"\n"
                done = 0
                while done < len(data):
                    done += os.pwrite(descriptor, data[done:], size + done)
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)
        if created:
            sync(self.path.parent)
        self.last_sha256 = sha256(line).hexdigest()
        self._note_last(seal)
        self._ends.append(size + len(data))

    def _note_last(self, seal: Seal) -> None:
        self.last_sealed_at_us = seal.sealed_at_us
        self.last_seqs = {sealed.partition: sealed.seq for sealed in seal.partitions}

    def line(self, number: int) -> bytes:
        """The line of this number, without its line feed; the first is 1. Raises OSError."""
        begin = self._ends[number - 2] if number > 1 else 0
        with self.path.open("rb") as file:
            return os.pread(file.fileno(), self._ends[number - 1] - 1 - begin, begin)

    def newest(self, before: int | None, limit: int) -> list[tuple[int, bytes]]:
        """At most ``limit`` (number, line), the newest first, of the numbers below ``before``. Raises OSError."""
        end = len(self) + 1 if before is None else min(before, len(self) + 1)
        return [(number, self.line(number)) for number in range(end - 1, max(0, end - 1 - limit), -1)]

    def number_of(self, line_sha256: str) -> int | None:
        """The number of the line with this hash, 0 for 64 zeros; None where there is none. Raises OSError."""
        if line_sha256 == EMPTY_SHA256:
            return 0
        for number in range(len(self), 0, -1):
            if sha256(self.line(number)).hexdigest() == line_sha256:
                return number
        return None
