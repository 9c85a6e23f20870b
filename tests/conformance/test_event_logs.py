"""The event logs in memory and on SQLite pass the one contract; the one on disk survives a crash at any byte."""

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conformance.event_log import PARTITIONS, EventLogContract, OpenLog, append, whole
from ledger.core.record import EMPTY, Head, decode, sha256_hex
from ledger.memory.log import Appended, MemoryEventLog
from ledger.ports import EventLog
from ledger.sqlite.log import SqliteEventLog


class TestMemoryEventLog(EventLogContract):
    @pytest.fixture
    def open_log(self) -> OpenLog:
        appended = Appended(PARTITIONS)

        async def opened() -> EventLog:
            return MemoryEventLog(PARTITIONS, appended)

        return opened


class TestSqliteEventLog(EventLogContract):
    @pytest.fixture
    def open_log(self, tmp_path: Path) -> OpenLog:
        async def opened() -> EventLog:
            return SqliteEventLog(tmp_path / "events.sqlite3", PARTITIONS)

        return opened


# --- torn writes -------------------------------------------------------------------------------------------------


async def test_a_wal_cut_at_any_byte_leaves_whole_appends(tmp_path: Path) -> None:
    """A power cut may keep any part of what was not yet synced: it never keeps a part of an append."""
    living, dead = tmp_path / "living", tmp_path / "dead"
    living.mkdir()
    log = SqliteEventLog(living / "events.sqlite3", PARTITIONS)
    wal = living / "events.sqlite3-wal"
    stored: list[bytes] = []
    ends = [0]  # how many records there are after each append
    sizes = [wal.stat().st_size]  # how long the WAL is then
    head = EMPTY
    for number in range(6):
        run = await append(log, 0, head, *(f"c{number}-{part}" for part in range(number * 40 + 1)))
        head = run.head
        stored += run.stored
        ends.append(len(stored))
        sizes.append(wal.stat().st_size)
    shutil.copytree(living, dead)
    await log.close()
    chance = random.Random(7)
    around = [size + step for size in sizes for step in (-4_096, -25, -24, -1, 0, 1, 24, 25)]
    cuts = sorted(
        {cut for cut in around if sizes[0] <= cut <= sizes[-1]} | set(chance.choices(range(sizes[-1]), k=30))
    )
    for cut in (cut for cut in cuts if cut >= sizes[0]):
        torn = tmp_path / f"torn-{cut}"
        torn.mkdir()
        shutil.copy(dead / "events.sqlite3", torn)
        (torn / "events.sqlite3-wal").write_bytes((dead / "events.sqlite3-wal").read_bytes()[:cut])
        again = SqliteEventLog(torn / "events.sqlite3", PARTITIONS)
        landed = await whole(again, 0)
        synced = max(end for end, size in zip(ends, sizes, strict=True) if size <= cut)
        assert landed == stored[:synced], f"cut at byte {cut} of {sizes[-1]}"
        following = await append(again, 0, await again.head(0), "after the crash")
        assert await whole(again, 0) == stored[:synced] + following.stored
        await again.close()


@pytest.mark.parametrize("damage", ["zeros", "noise", "an older page"])
async def test_a_wal_whose_last_bytes_are_not_what_was_written_leaves_whole_appends(
    tmp_path: Path, damage: str
) -> None:
    living, dead = tmp_path / "living", tmp_path / "dead"
    living.mkdir()
    log = SqliteEventLog(living / "events.sqlite3", PARTITIONS)
    first = await append(log, 0, EMPTY, *(f"a{number}" for number in range(100)))
    size = (living / "events.sqlite3-wal").stat().st_size
    second = await append(log, 0, first.head, *(f"b{number}" for number in range(100)))
    shutil.copytree(living, dead)
    await log.close()
    wal = bytearray((dead / "events.sqlite3-wal").read_bytes())
    middle = size + (len(wal) - size) // 2
    length = 4_096
    wal[middle : middle + length] = {
        "zeros": bytes(length),
        "noise": random.Random(3).randbytes(length),
        "an older page": wal[size - length : size],
    }[damage]
    (dead / "events.sqlite3-wal").write_bytes(wal)
    (dead / "events.sqlite3-shm").unlink()
    again = SqliteEventLog(dead / "events.sqlite3", PARTITIONS)
    assert await whole(again, 0) == first.stored
    assert await again.head(0) == first.head != second.head
    await again.close()


_APPENDER = """
import asyncio, sys
from pathlib import Path
from conformance.event_log import PARTITIONS, append
from ledger.sqlite.log import SqliteEventLog

async def main():
    log = SqliteEventLog(Path(sys.argv[1]), PARTITIONS)

    async def fill(partition):
        head = await log.head(partition)
        while True:
            ids = [f"{partition}:{head.seq}+{part}/3" for part in range(3)]
            head = (await append(log, partition, head, *ids)).head
            sys.stdout.write(f"{partition} {head.seq} {head.sha256}\\n")
            sys.stdout.flush()

    await asyncio.gather(*(fill(partition) for partition in range(PARTITIONS)))

asyncio.run(main())
"""


@pytest.mark.system
async def test_a_process_killed_in_mid_append_leaves_whole_appends_and_all_that_it_confirmed(tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite3"
    chance = random.Random(11)
    for _ in range(5):
        confirmed = _append_until_killed(path, for_s=chance.uniform(0.01, 0.12))
        log = SqliteEventLog(path, PARTITIONS)
        for partition in range(PARTITIONS):
            records = await whole(log, partition)
            assert len(records) % 3 == 0, "an append of three landed in part"
            _assert_chained(records)
            assert await log.head(partition) == (Head(len(records), sha256_hex(records[-1])) if records else EMPTY)
            if (known := confirmed.get(partition)) is not None:
                assert len(records) >= known.seq
                assert sha256_hex(records[known.seq - 1]) == known.sha256
        await log.close()
    assert len(records) > 0


def _append_until_killed(path: Path, for_s: float) -> dict[int, Head]:
    """Kill an appending process ``for_s`` after its first confirmed append. Returns the heads that it confirmed."""
    tests, src = Path(__file__).parents[1], Path(__file__).parents[2] / "src"
    with subprocess.Popen(
        [sys.executable, "-c", _APPENDER, str(path)],
        env={"PYTHONPATH": f"{src}:{tests}"},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        time.sleep(for_s)
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.read().split("\n")[:-1]  # the last one may be torn
    heads: dict[int, Head] = {}
    for line in lines:
        partition, seq, sha256 = line.split()
        heads[int(partition)] = Head(int(seq), sha256)
    return heads


def _assert_chained(records: list[bytes]) -> None:
    prev = EMPTY.sha256
    for seq, record in enumerate(records, start=1):
        decoded = decode(record)
        assert (decoded.position.seq, decoded.prev) == (seq, prev)
        prev = sha256_hex(record)
