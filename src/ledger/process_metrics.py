"""CPU and memory of a process and of the processes that it starts, for Prometheus.

The names ``process_…`` are those of every Prometheus client. They need ``/proc``: on other systems than Linux only
the memory limit is exported.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_CHILD: Final = "stakelog_child"


def register_process(registry: CollectorRegistry, children: Mapping[str, Callable[[], int | None]]) -> None:
    """Register the metrics of this process, of the memory limit, and of the processes that this one starts.
    ``children``: name → a function that returns the process id, or None while the process does not run."""
    ProcessCollector(registry=registry)
    registry.register(_MemoryLimit())
    if children:
        registry.register(_Children(children))


class _MemoryLimit(Collector):
    def collect(self) -> Iterator[Metric]:
        gauge = GaugeMetricFamily(
            "stakelog_memory_limit_bytes",
            "Memory that this process and its children may use together: the limit of their control group, "
            "or the memory of the machine",
        )
        gauge.add_metric([], memory_limit_bytes())
        yield gauge


class _Children(Collector):
    """The metrics of ``ProcessCollector`` for each child, with the label ``process``."""

    def __init__(self, children: Mapping[str, Callable[[], int | None]]) -> None:
        self._children = children

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for process, find_pid in self._children.items():
            if (pid := find_pid()) is None:
                continue
            for family in ProcessCollector(_CHILD, pid=lambda pid=pid: pid, registry=None).collect():  # type: ignore[misc]
                merged = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                for sample in family.samples:
                    merged.add_sample(sample.name, {"process": process}, sample.value)
        yield from families.values()


def memory_limit_bytes(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """The smallest limit of the control group of this process and of the groups around it, and never more than the
    machine has."""
    return min(_limits(proc, cgroups))


def _machine_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _limits(proc: Path, cgroups: Path) -> Iterator[int]:
    yield _machine_bytes()
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:  # no Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":  # version 2
            root, file = cgroups, "memory.max"
        elif "memory" in controllers.split(","):
            root, file = cgroups / "memory", "memory.limit_in_bytes"
        else:
            continue
        group = root / path.lstrip("/")
        # A container may see its own group as the root, and a path that does not exist for it: the root counts, too.
        for folder in (group, *group.parents):
            if folder.is_relative_to(root):
                yield from _limit_in(folder / file)


def _limit_in(file: Path) -> Iterator[int]:
    try:
        text = file.read_text().strip()
    except OSError:  # the root of the machine has no such file
        return
    if text != "max":
        yield int(text)
