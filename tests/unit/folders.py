"""Data folders whose logs hold given records, without a service that wrote them."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ledger.core.record import EMPTY, Head, sha256_hex
from ledger.ports import NewRecord
from ledger.sqlite.folder import EVENTS
from ledger.sqlite.log import SqliteEventLog

_SCENARIO = Path(__file__).parents[2] / "schemas" / "vectors" / "scenario.json"


class Counts(NamedTuple):
    """`wallets`: users that an event is about, opened or not; `orders`: deposits and withdrawals."""

    events: int
    wallets: int
    orders: int


_STREAMS = ("game:", "gift:", "code:", "partition:")


def scenario_counts() -> Counts:
    events = [json.loads(record) for records in scenario_records() for record in records]
    users = {event["user_id"] for event in events if not event["user_id"].startswith(_STREAMS)}
    orders = sum(event["type"] in ("deposited", "withdrawal_requested") for event in events)
    return Counts(len(events), len(users), orders)


def scenario_records() -> list[list[bytes]]:
    """The published scenario: every event type, over four partitions."""
    scenario: dict[str, Any] = json.loads(_SCENARIO.read_text())
    return [[record.encode() for record in partition["records"]] for partition in scenario["partitions"]]


def write_log(folder: Path, partitions: Sequence[Sequence[bytes]]) -> Path:
    """A folder with a log of these records, or the log that is there with those of them that are new."""
    folder.mkdir(parents=True, exist_ok=True)
    asyncio.run(_write(folder / EVENTS, partitions))
    return folder


async def _write(path: Path, partitions: Sequence[Sequence[bytes]]) -> None:
    log = SqliteEventLog(path, len(partitions))
    for partition, records in enumerate(partitions):
        head = await log.head(partition)
        new = [_new(record) for record in records[head.seq :]]
        if new:
            before = records[head.seq - 1] if head.seq else None
            await log.append(partition, EMPTY if before is None else Head(head.seq, sha256_hex(before)), new)
    await log.close()


def _new(record: bytes) -> NewRecord:
    event = json.loads(record)
    return NewRecord(event["seq"], event["user_id"], event["command_id"], record)
