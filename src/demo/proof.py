"""The day's records checked over HTTP, as any auditor may, from the contract's page alone.

A partition's day is proved if and only if (1) its records continue the head from before the day, seq by seq and
hash by hash; (2) `time_us` never decreases; (3) the postings of each record sum to zero in each asset; (4) the last
head is the one that `GET /v1/partitions` names; (5) every command that was acknowledged stands where its answer said,
under the hash that its answer gave.

What is wrong is returned, one sentence each; nothing here raises but `play.UnreachableError`.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from demo.books.books import Books
from demo.play import Client, UnreachableError

PAGE = 10_000
"""Records in one answer: the contract's largest."""

EMPTY_HEAD = "0" * 64


@dataclass(frozen=True, slots=True)
class Position:
    """Where a partition's log ends."""

    seq: int
    head: str


@dataclass(slots=True)
class Proof:
    """How many records were checked, and what is wrong with them."""

    records: int = 0
    faults: list[str] = field(default_factory=list)


class Chain:
    """One partition's records, checked in order from a known place."""

    def __init__(self, partition: int, start: Position, acknowledged: dict[int, tuple[str, str, str]]) -> None:
        """`acknowledged`: seq → (user_id, command_id, head) of the answers that named this partition."""
        self.partition = partition
        self.place = start
        self.time_us = 0
        self.faults: list[str] = []
        self._acknowledged = acknowledged

    def take(self, record: bytes) -> None:
        """Check the next record and step on it, whether or not it fits."""
        event: dict[str, Any] = msgspec.json.decode(record)
        head = hashlib.sha256(record).hexdigest()
        seq: int = event["seq"]
        where = f"{self.partition}:{seq}"
        if event["partition"] != self.partition or seq != self.place.seq + 1:
            self.faults.append(f"{where}: does not follow {self.partition}:{self.place.seq}")
        if event["prev"] != self.place.head:
            self.faults.append(f"{where}: its prev is not the head before it")
        if event["time_us"] < self.time_us:
            self.faults.append(f"{where}: time_us goes back")
        sums: Counter[str] = Counter()
        for _, asset, amount in event["postings"]:
            sums[asset] += amount
        if any(sums.values()):
            self.faults.append(f"{where}: its postings do not sum to zero")
        told = self._acknowledged.pop(seq, None)
        if told is not None and told != (event["user_id"], event["command_id"], head):
            self.faults.append(f"{where}: is not what was acknowledged to {told[0]} for {told[1]}")
        self.place, self.time_us = Position(seq, head), event["time_us"]

    def end(self, place: Position) -> None:
        """Check that the records led to the named head, and that nothing acknowledged is missing."""
        if self.place != place:
            self.faults.append(f"{self.partition}:{self.place.seq}: the head there is not the one at {place.seq}")
        for seq, (user_id, command_id, _) in self._acknowledged.items():
            self.faults.append(
                f"{self.partition}:{seq}: {command_id} of {user_id} was acknowledged, and is not there"
            )


async def places(client: Client) -> dict[int, Position]:
    """Where each partition ends now. Raises UnreachableError."""
    items = msgspec.json.decode(await _found(client, "/v1/partitions"))["items"]
    return {item["partition"]: Position(item["seq"], item["head"] or EMPTY_HEAD) for item in items}


async def prove(client: Client, books: Books, before: dict[int, Position]) -> Proof:
    """Check all that was written since `before`. Raises UnreachableError."""
    acknowledged: dict[int, dict[int, tuple[str, str, str]]] = {}
    for user_id, command_id, body in books.acknowledged():
        acknowledged.setdefault(body["partition"], {})[body["seq"]] = (user_id, command_id, body["head"])
    proof = Proof()
    for partition, end in (await places(client)).items():
        start = before.get(partition, Position(0, EMPTY_HEAD))
        chain = Chain(partition, start, acknowledged.get(partition, {}))
        while chain.place.seq < end.seq:
            at = chain.place.seq
            limit = min(PAGE, end.seq - at)
            page = await _found(client, f"/v1/events?partition={partition}&from_seq={at + 1}&limit={limit}")
            proof.records += _take_all(chain, page.splitlines())
            if chain.place.seq <= at:
                break
        chain.end(end)
        proof.faults += chain.faults
    return proof


def _take_all(chain: Chain, records: Iterable[bytes]) -> int:
    taken = 0
    for record in records:
        chain.take(record)
        taken += 1
    return taken


async def _found(client: Client, path: str) -> bytes:
    status, body = await client.read(path)
    if status != 200:
        raise UnreachableError(f"GET {path} answered {status}")
    return body
