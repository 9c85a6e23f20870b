"""Bets written straight into the log of a service that is stopped: a log of ten million events within minutes.

1. The log is valid: each record continues its partition, and `audit verify` finds nothing. The records are those of
   the service, byte for byte, for the bets of `bodies`.
2. The wallets are those of `generator.open_wallets` and had no bet before.
3. State and tables are not written: the service catches up when it starts.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from time import perf_counter, time_ns
from typing import Final

from bench.figures import BenchError, Slice, slice_of
from bench.load.bodies import FUNDS_MINOR, WALLETS
from ledger.core.position import partition_of
from ledger.errors import LedgerError
from ledger.sqlite.folder import EVENTS
from ledger.sqlite.log_file import INSERT_APPEND, connect, last_head, stored_partitions

RECORDS_PER_ROW: Final = 62
"""Records of one append: as many as a batch of 1,000 has in each of 16 partitions."""
_ROWS_PER_COMMIT: Final = 2_000
_TAG: Final = "grown"

_COMMAND: Final = (
    '{"asset":"INR","bet_id":"b-%(id)s","command_id":"c-%(id)s","game":"external","period":"20261101-0042",'
    '"selection":"red","stake":1,"type":"place_bet","user_id":"%(user)s"}'
)
"""As `commands.canonical` writes it."""


def grow(data: Path, events: int) -> Slice:
    """Append ``events`` bets to the log in ``data``, evenly over the wallets. ``done`` is bets; raises BenchError."""
    began = perf_counter()
    try:
        with closing(connect(data / EVENTS)) as connection:
            connection.execute("PRAGMA synchronous=OFF")
            partitions = stored_partitions(connection, data / EVENTS)
            heads = [last_head(connection, partition) for partition in range(partitions)]
            for rows in _commits(events, heads):
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(INSERT_APPEND, rows)
                connection.execute("COMMIT")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except (LedgerError, sqlite3.Error) as error:
        raise BenchError(f"the log in {data} cannot be filled: {error}") from error
    took_s = perf_counter() - began
    return slice_of(events, took_s, [took_s])


def _commits(events: int, heads: Sequence[tuple[int, str]]) -> Iterator[list[tuple[int, int, int, bytes]]]:
    """The rows of the log, some at a time: partition, first and last seq, records."""
    wallets: list[list[int]] = [[] for _ in heads]
    for wallet in range(WALLETS):
        wallets[partition_of(f"w-{wallet:07d}", len(heads))].append(wallet)
    ends = [(seq, prev) for seq, prev in heads]
    cash = [FUNDS_MINOR] * WALLETS
    chooser = random.Random(0)  # noqa: S311 - repeatable load, no secret
    first_us, written = time_ns() // 1_000, 0
    rows: list[tuple[int, int, int, bytes]] = []
    while written < events:
        for partition, (seq, prev) in enumerate(ends):
            count = min(RECORDS_PER_ROW, events - written)
            if not count:
                break
            picked = chooser.choices(wallets[partition], k=count)
            records, last = _row(partition, seq, prev, first_us + seq // 8, written, picked, cash)
            rows.append((partition, seq + 1, seq + count, records))
            ends[partition] = (seq + count, last)
            written += count
        if len(rows) >= _ROWS_PER_COMMIT:
            yield rows
            rows = []
    yield rows


def _row(
    partition: int, seq: int, prev: str, time_us: int, number: int, picked: list[int], cash: list[int]
) -> tuple[bytes, str]:
    """The records of one row, and the hash of the last; ``number`` of the first bet; changes ``cash``."""
    records = []
    for wallet in picked:
        seq += 1
        left = cash[wallet] = cash[wallet] - 1
        user, bet = f"w-{wallet:07d}", f"{_TAG}-{number:08d}"
        number += 1
        request = sha256((_COMMAND % {"id": bet, "user": user}).encode()).hexdigest()
        record = (
            f'{{"v":1,"partition":{partition},"seq":{seq},"prev":"{prev}","time_us":{time_us},"user_id":"{user}",'
            f'"command_id":"c-{bet}","request_sha256":"{request}","actor":"local","type":"bet_placed","data":'
            f'{{"asset":"INR","bet_id":"b-{bet}","from":{{"bonus":0,"cash":1,"grants":[]}},"game":"external",'
            f'"period":"20261101-0042","selection":"red","stake":1}},"postings":[["wallet/{user}/cash","INR",-1],'
            f'["house/stakes","INR",1]],"balances":{{"INR":{{"cash":{left},"bonus":0,"held":0}}}}}}'
        ).encode()
        prev = sha256(record).hexdigest()
        records.append(record)
    return b"\n".join([*records, b""]), prev
