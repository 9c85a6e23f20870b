"""Whether memory is bounded: three nodes and a worker at a steady rate for 22 minutes.

1. The load is low, so that the processes are not busy: growth comes from events or from time.
2. Each slice posts to one node and reads at another node, and makes its own connections. The nodes take turns.
3. The log has `plan.soak_events` before the first reading, so that all wallets are in the caches and each partition
   has merged its ids a few times: an allocator keeps the largest amount that a merge ever needed.
4. Memory is read between slices, when no request is in it. The result is the slope of the least-squares line through
   the readings of the last `JUDGED_S`.
"""

from __future__ import annotations

from pathlib import Path
from statistics import linear_regression
from time import perf_counter

import msgspec
from msgspec import Struct

from bench.figures import BenchError, Row
from bench.lab.distributed import DistributedLab
from bench.lab.jobs import Visible
from bench.report import mib_text

PER_S = 60.0
"""Commands a second, each with a read. Chosen: far below what two cores that also hold all servers can do."""
JUDGED_S = 600.0
SAMPLES = "soak.ndjson"
"""Next to the report: one line per reading, written at once, so that a run can be watched."""


class Look(Struct, frozen=True):
    """Resident memory of each process, and the bytes of each node's state, ``at_s`` seconds after the first look."""

    at_s: float
    commands: int
    resident_bytes: dict[str, int]
    state_bytes: dict[str, int]


def soak(lab: DistributedLab) -> list[Row]:
    """Post and read at a steady rate for ``plan.soak_s``, and look at the memory after each slice.

    A slice that fails (a machine too busy for it) is counted, and the next one goes on.
    """
    nodes = [*lab.nodes]
    lab.filled(lab.plan.soak_events)
    programs = [*nodes, lab.read_side]
    looks: list[Look] = []
    failed: list[str] = []
    commands = 0
    began_s = perf_counter()
    with (lab.folder.parent / SAMPLES).open("wb") as samples:
        while (at_s := perf_counter() - began_s) < lab.plan.soak_s:
            lab.say(f"{PER_S:g} commands/s, {at_s:,.0f} of {lab.plan.soak_s:,.0f} s")
            number = lab.number()
            job = Visible(
                port=nodes[number % len(nodes)].port,
                read_port=nodes[(number + 1) % len(nodes)].port,
                per_s=PER_S,
                limit_s=lab.plan.soak_slice_s,
                waits=False,
                tag=f"s{number}",
                seed=number,
            )
            try:
                commands += lab.generator.ask(job).done
            except BenchError as error:
                failed.append(str(error))
            look = Look(
                perf_counter() - began_s,
                commands,
                {program.name: sum(program.resident_bytes().values()) for program in programs},
                {node.name: _bytes_of(lab.folder / node.name) for node in nodes},
            )
            looks.append(look)
            samples.write(msgspec.json.encode(look) + b"\n")
            samples.flush()
    lab.step()
    return [_row(program.name, looks, failed) for program in programs]


def _row(name: str, looks: list[Look], failed: list[str]) -> Row:
    sizes = [(look.at_s, look.resident_bytes[name]) for look in looks]
    slope = growth_per_s(sizes, JUDGED_S)
    return Row(
        "soak",
        f"memory of {name}, {looks[-1].commands:,} commands in {looks[-1].at_s / 60:.0f} min",
        f"{mib_text(sizes[0][1])} → {mib_text(sizes[-1][1])}",
        f"{slope * 60 / 2**10:+,.0f} KiB a minute over the last {JUDGED_S / 60:.0f} min",
        figures={"looks": looks, "bytes_per_s": slope, "failed_slices": failed},
    )


def growth_per_s(sizes: list[tuple[float, int]], last_s: float) -> float:
    """Bytes a second: the slope of the line of least squares through the looks of the last ``last_s`` seconds."""
    until_s = sizes[-1][0]
    last = [(at_s, size) for at_s, size in sizes if at_s >= until_s - last_s]
    if len(last) < 2:
        raise BenchError("the soak was too short for a line through its last looks")
    return linear_regression([at_s for at_s, _ in last], [size for _, size in last]).slope


def _bytes_of(folder: Path) -> int:
    """Bytes of the state file and its WAL."""
    return sum(path.stat().st_size for path in folder.glob("state.sqlite3*"))
