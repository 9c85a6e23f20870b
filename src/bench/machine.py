"""What the numbers were measured on: without it they cannot be compared with other machines."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sqlite3
import subprocess
from pathlib import Path

_PACKAGES = ("stakelog", "granian", "litestar", "msgspec", "uvloop")


def facts(folder: Path) -> dict[str, object]:
    """Processor, memory, disk under ``folder``, versions, and how busy the machine is already."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "file_system": _file_system(folder),
        "system": platform.platform(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        **{name: importlib.metadata.version(name) for name in _PACKAGES},
        "commit": _commit(),
        "load_average_before": list(os.getloadavg()),
    }


def summary(known: dict[str, object]) -> str:
    """The facts that a reader of the table needs."""
    memory_gib = int(str(known["memory_bytes"])) / 2**30
    return (
        f"{known['processor']}, {known['cores']} cores, {memory_gib:.0f} GiB, {known['file_system']}; "
        f"Python {known['python']}, granian {known['granian']}, Litestar {known['litestar']}, "
        f"SQLite {known['sqlite']}"
    )


def written_bytes(folder: Path) -> int | None:
    """All bytes that were written to the disk of ``folder`` since the machine started, after a sync of all disks.

    None where Linux's ``/proc`` does not count them.
    """
    os.sync()
    device = folder.stat().st_dev
    numbers = [str(os.major(device)), str(os.minor(device))]
    try:
        lines = [line.split() for line in Path("/proc/diskstats").read_text().splitlines()]
    except OSError:
        return None
    return next((int(fields[9]) * 512 for fields in lines if fields[:2] == numbers), None)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )


def _file_system(folder: Path) -> str:
    """The type of the mount that ``folder`` is on, by the longest mount point above it."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return "unknown file system"
    above = [mount for mount in mounts if folder.resolve().is_relative_to(mount[1])]
    return max(above, key=lambda mount: len(mount[1]))[2] if above else "unknown file system"


def _commit() -> str | None:
    """The checkout's commit, with ``+`` if files differ from it; None outside a checkout."""
    git = shutil.which("git")
    if git is None:
        return None
    done = subprocess.run(  # noqa: S603 - constant arguments
        [git, "describe", "--always", "--dirty=+", "--abbrev=12", "--match="],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
    )
    return done.stdout.strip() or None
