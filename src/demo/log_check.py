"""Checks the day's records over HTTP, as any auditor can, from the contract alone.

The day of a partition is proved if and only if

1. its records continue the head from before the day, seq by seq and hash by hash;
2. `time_us` never decreases;
3. the postings of each record sum to zero in each asset;
4. the last head is the one in `GET /v1/partitions`;
5. each accepted command is at the position of its response, with the hash of its response;
6. the postings of the day's users on each account of the house are those of the books.

Each fault is returned as a sentence. Only `http_client.responses.ClientError` is raised.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Container
from dataclasses import dataclass, field
from typing import Any

import msgspec

from demo.books.books import Books
from http_client.client import AsyncClient
from http_client.paths import path_of

EMPTY_HEAD = "0" * 64


@dataclass(frozen=True, slots=True)
class End:
    """The end of a partition's log: its last seq and the hash of that record."""

    seq: int
    head: str


@dataclass(slots=True)
class LogCheck:
    """The number of records checked, and each fault as a sentence."""

    records: int = 0
    faults: list[str] = field(default_factory=list)
    house: Counter[tuple[str, str]] = field(default_factory=Counter)
    """The postings of the day's users on the accounts of the house, by account and asset."""


class Chain:
    """One partition's records, checked in order from a known end."""

    def __init__(
        self,
        partition: int,
        start: End,
        acknowledged: dict[int, tuple[str, str, str]],
        users: Container[str] = frozenset(),
    ) -> None:
        """`acknowledged`: seq → (user_id, command_id, head) of the responses with this partition. `users`: whose
        postings on accounts of the house are added up."""
        self.partition = partition
        self.end = start
        self.time_us = 0
        self.faults: list[str] = []
        self.house: Counter[tuple[str, str]] = Counter()
        self._acknowledged, self._users = acknowledged, users

    def take(self, record: bytes) -> None:
        """Check the next record and make it the end of the chain, also if it does not fit."""
        event: dict[str, Any] = msgspec.json.decode(record)
        head = hashlib.sha256(record).hexdigest()
        seq: int = event["seq"]
        where = f"{self.partition}:{seq}"
        if event["partition"] != self.partition or seq != self.end.seq + 1:
            self.faults.append(f"{where}: does not follow {self.partition}:{self.end.seq}")
        if event["prev"] != self.end.head:
            self.faults.append(f"{where}: its prev is not the head before it")
        if event["time_us"] < self.time_us:
            self.faults.append(f"{where}: time_us goes back")
        sums: Counter[str] = Counter()
        is_of_the_day = event["user_id"] in self._users
        for account, asset, amount in event["postings"]:
            sums[asset] += amount
            if is_of_the_day and account.startswith("house/"):
                self.house[account, asset] += amount
        if any(sums.values()):
            self.faults.append(f"{where}: its postings do not sum to zero")
        expected = self._acknowledged.pop(seq, None)
        if expected is not None and expected != (event["user_id"], event["command_id"], head):
            self.faults.append(f"{where}: is not what was acknowledged to {expected[0]} for {expected[1]}")
        self.end, self.time_us = End(seq, head), event["time_us"]

    def finish(self, end: End) -> None:
        """Check that the records lead to `end`, and that no acknowledged command is missing."""
        if self.end != end:
            self.faults.append(f"{self.partition}:{self.end.seq}: the head is not the published one of seq {end.seq}")
        for seq, (user_id, command_id, _) in self._acknowledged.items():
            self.faults.append(f"{self.partition}:{seq}: {command_id} of {user_id} was acknowledged and is missing")


async def ends_of(client: AsyncClient) -> dict[int, End]:
    """The end of each partition now. Raises ClientError."""
    items = (await client.get(path_of("partitions"))).expect(200).json()["items"]
    return {item["partition"]: End(item["seq"], item["head"] or EMPTY_HEAD) for item in items}


async def check_log(client: AsyncClient, books: Books, before: dict[int, End]) -> LogCheck:
    """Check all records since `before`. Raises ClientError."""
    acknowledged: dict[int, dict[int, tuple[str, str, str]]] = {}
    for user_id, command_id, body in books.acknowledged():
        acknowledged.setdefault(body["partition"], {})[body["seq"]] = (user_id, command_id, body["head"])
    checked = LogCheck()
    for partition, end in (await ends_of(client)).items():
        start = before.get(partition, End(0, EMPTY_HEAD))
        chain = Chain(partition, start, acknowledged.get(partition, {}), books.wallets)
        async for page in client.events(partition, start.seq + 1, end.seq):
            for record in page:
                chain.take(record)
            checked.records += len(page)
        chain.finish(end)
        checked.faults += chain.faults
        checked.house.update(chain.house)
    return checked
