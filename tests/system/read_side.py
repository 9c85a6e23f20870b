"""The read side of a service's folder, looked at from outside: its processes, its tables, what a fold makes of it."""

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import psutil

from ledger.sqlite.folder import EVENTS, READ_MODEL
from sqlite_log import records_by_partition
from system.service import Service
from unit.folded import from_scratch, live_tables

WITHIN_S: Final = 60.0
OTHER_FOLDS: Final = Path(__file__).parent / "other_folds.py"


def children(service: Service, word: str = "follow") -> list[psutil.Process]:
    """The processes that the service started for this."""
    found = []
    for process in psutil.Process(service.pid).children():
        try:
            if word in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def follower_of(service: Service) -> psutil.Process:
    """Its follower, as soon as there is one."""
    until(lambda: len(children(service)) == 1)
    return children(service)[0]


def until(condition: Callable[[], bool], within_s: float = WITHIN_S) -> None:
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, "it takes too long"
        time.sleep(0.01)


def gone(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def program(
    data: Path, *arguments: str, other_folds: str | None = None, timeout_s: float = 90
) -> "subprocess.CompletedProcess[str]":
    """`stakelog <arguments>` on this folder."""
    return subprocess.run(
        [*command(other_folds), *arguments],
        env=environment(data),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def command(other_folds: str | None = None) -> list[str]:
    changed = [str(OTHER_FOLDS), other_folds] if other_folds else ["-m", "api"]
    return [sys.executable, *changed]


def environment(data: Path) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("STAKELOG_")}
    paths = os.pathsep.join(filter(None, (str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH"))))
    return inherited | {"STAKELOG_DATA": str(data), "PYTHONPATH": paths}


def log_of(data: Path) -> list[list[bytes]]:
    """Every record, partition by partition."""
    connection = sqlite3.connect(f"file:{data / EVENTS}?mode=ro", uri=True)
    partitions = int(connection.execute("SELECT value FROM meta WHERE key = 'partitions'").fetchone()[0])
    connection.close()
    return records_by_partition(data / EVENTS, partitions)


def live(data: Path) -> tuple[int, list[int]]:
    """The live generation, and where each of its partitions is."""
    connection = sqlite3.connect(f"file:{data / READ_MODEL}?mode=ro", uri=True, timeout=10)
    try:
        connection.execute("BEGIN")
        rows = connection.execute(
            """SELECT generation, seq FROM checkpoint JOIN generation USING (generation)
               WHERE status = 'live' ORDER BY partition"""
        ).fetchall()
    finally:
        connection.close()
    return (rows[0][0], [row[1] for row in rows]) if rows else (0, [])


def ends(data: Path) -> list[int]:
    return [len(records) for records in log_of(data)]


def folded(data: Path) -> bool:
    """Whether the live generation is level with the log."""
    return live(data)[1] == ends(data)


def move_read_model(source: Path, target: Path) -> None:
    """With its WAL, which stays where the last to close it only read."""
    for suffix in ("", "-wal", "-shm"):
        if (source / f"{READ_MODEL}{suffix}").exists():
            shutil.move(source / f"{READ_MODEL}{suffix}", target / f"{READ_MODEL}{suffix}")


def assert_true_of_the_log(data: Path, scratch: Path) -> None:
    """Every row is what a fold of the log, as far as it is folded, makes: nothing twice, nothing left out."""
    heads = live(data)[1]
    partitions: Sequence[Sequence[bytes]] = [records[:seq] for records, seq in zip(log_of(data), heads, strict=True)]
    expected = asyncio.run(from_scratch(scratch, partitions))
    assert asyncio.run(live_tables(data, len(partitions))) == expected
