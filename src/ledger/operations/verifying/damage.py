"""Where the chain breaks, finds which record is damaged, and how: changed, missing, inserted or swapped.

A record has the hash of the record before it. So a change of a record shows in the next one, and only the record
after that one shows which of the two was changed.
"""

from hashlib import sha256

import msgspec
from msgspec import Struct


class Link(Struct, gc=False):
    """The members of a record that link it to the record before it."""

    partition: int
    seq: int
    prev: str


_decode = msgspec.json.Decoder(Link).decode


def link_of(record: bytes) -> Link | None:
    """The record's link of the chain; None if it cannot be read."""
    try:
        return _decode(record)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def damaged(seq: int, head: str, record: bytes, after: bytes | None) -> tuple[int, str]:
    """The seq of the damaged record, and what happened to it.

    ``record`` is stored as ``seq``, can be read, and does not continue ``head``, the hash of the record before.
    ``after`` is the record after it, None at the end.
    """
    here, own = link_of(record), sha256(record).hexdigest()
    behind = None if after is None else link_of(after)
    assert here is not None, record
    if here.seq == seq:
        if seq == 1:
            return 1, "the record was changed, or records before it are missing: its prev is not 64 zeros"
        if behind is not None and behind.seq == seq + 1 and behind.prev != own:
            return seq, (
                "the record was changed: its prev is not the hash of the record before it, and the record after it "
                "names another hash than its own"
            )
        return seq - 1, "the record was changed: its hash is not the prev of the record after it"
    if here.prev == head:
        return seq, f"the record was changed: it says that it is {here.partition}:{here.seq}"
    if here.seq > seq:
        if behind is not None and behind.seq == seq:
            return seq, f"the record is swapped with {here.partition}:{here.seq}"
        missing = "the record is missing" if here.seq == seq + 1 else f"{here.seq - seq} records are missing"
        return seq, f"{missing}: the next one is {here.partition}:{here.seq}"
    if own == head:
        return seq, "the record was inserted: it is a copy of the record before it"
    if here.seq == seq - 1 and behind is not None and behind.prev == own:
        return seq - 1, "the record was inserted: the chain continues from the record after it, which has its seq"
    return seq, f"the record was inserted: it says that it is {here.partition}:{here.seq}"
