"""Events of the event stream, and the check that none is missing or changed.

`head = sha256(record)`; the next event of the partition has it as `prev`.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Final

import msgspec
from msgspec import Struct

from stakelog_client.errors import ChainBroken

EVENTS_A_PAGE: Final = 5_000
"""Chosen: some 3 MB; the contract's largest page is 10,000."""

EMPTY_HEAD: Final = "0" * 64
"""The head of a partition without events."""


class Event(Struct, frozen=True, kw_only=True):
    """One event. `record`: its exact bytes. `head`: their SHA-256.

    `postings`: account, asset, amount; they sum to zero. `balances`: the wallet after it, by asset.
    """

    partition: int
    seq: int
    prev: str
    time_us: int
    user_id: str
    command_id: str
    request_sha256: str
    actor: str
    type: str
    data: dict[str, Any]
    postings: list[tuple[str, str, int]]
    balances: dict[str, dict[str, int]]
    record: bytes = b""
    head: str = ""


def continued(record: bytes, partition: int, seq: int, prev: str | None) -> Event:
    """The event of `record`; checks that it has the number `seq` and continues the head `prev` (None: not known).

    Raises ChainBroken.
    """
    try:
        event = msgspec.json.decode(record, type=Event)
    except msgspec.MsgspecError as error:
        raise ChainBroken(f"partition {partition}, seq {seq}: the record cannot be read: {error}") from error
    if (event.partition, event.seq) != (partition, seq):
        raise ChainBroken(f"partition {partition}, seq {seq}: the record says {event.partition}:{event.seq}")
    expected = EMPTY_HEAD if seq == 1 else prev
    if expected is not None and event.prev != expected:
        raise ChainBroken(f"partition {partition}, seq {seq}: the record does not continue the one before it")
    return msgspec.structs.replace(event, record=record, head=sha256(record).hexdigest())
