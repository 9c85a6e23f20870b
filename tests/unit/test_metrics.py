"""The metrics of a node's work in ``/metrics``, and whether their names follow Prometheus' conventions."""

import asyncio
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from api.http.loop_delay import LoopDelay
from ledger.errors import LogUnavailable
from ledger.histogram import Histogram
from ledger.memory.log import Failure
from ledger.process_metrics import memory_limit_bytes, register_process
from unit.api_in_memory import InMemoryApi
from unit.given import deposit, hold, open_wallet

BASE_UNITS = ("seconds", "bytes", "events", "values", "minor")
NOT_BASE = re.compile(r"_(ms|us|milliseconds|microseconds|minutes|hours|kb|mb|kilobytes|percent)(_|$)")


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[InMemoryApi]:
    async with InMemoryApi(tmp_path, partitions=1) as client:
        yield client


async def metrics(client: InMemoryApi) -> dict[str, Metric]:
    text = (await client.get("/metrics")).body.decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def value(found: dict[str, Metric], family: str, sample: str, **labels: str) -> float:
    (one,) = (s.value for s in found[family].samples if s.name == sample and s.labels.items() >= labels.items())
    return float(one)


async def test_every_family_is_named_and_described_as_prometheus_wants_it(client: InMemoryApi) -> None:
    await client.world.given(open_wallet(), deposit(500))
    await client.fold()
    await client.get("/v1/games")
    found = await metrics(client)
    assert len(found) > 20
    for name, family in found.items():
        assert re.fullmatch(r"(stakelog|process)_[a-z0-9]+(_[a-z0-9]+)*", name), name
        assert family.documentation, f"{name} says nothing"
        assert not NOT_BASE.search(name), f"{name} is not in a base unit"
        assert family.type != "unknown", name
        if family.type == "histogram":
            assert name.endswith(BASE_UNITS), name
            buckets = [s.value for s in family.samples if s.name == f"{name}_bucket"]
            assert buckets, name
        if family.type == "gauge":
            assert not name.endswith("_total"), name


async def test_rounds_appends_and_events_are_counted_once(client: InMemoryApi) -> None:
    before = await metrics(client)
    await client.world.given(open_wallet(), deposit(500))
    client.world.log.fail_next.append(Failure(LogUnavailable("no disk"), lands=False))
    await client.world.failed(deposit(1, order_id="o2"))
    after = await metrics(client)

    def grown(family: str, sample: str) -> float:
        return value(after, family, sample) - value(before, family, sample)

    assert grown("stakelog_round_events", "stakelog_round_events_sum") == 2, "the append that failed wrote none"
    rounds = grown("stakelog_round_events", "stakelog_round_events_count")
    assert 1 <= rounds <= 2
    assert grown("stakelog_append_duration_seconds", "stakelog_append_duration_seconds_count") == rounds


async def test_due_timers_say_how_late_they_were(client: InMemoryApi) -> None:
    world = client.world
    await world.given(open_wallet(), deposit(500), hold(10, expires_at_us=world.clock() + 1_000_000))
    world.clock.now_us += 3_000_000
    await world.given(deposit(1, order_id="o2"))
    found = await metrics(client)
    name = "stakelog_timer_delay_seconds"
    assert value(found, name, f"{name}_count") == 1
    assert 1.9 < value(found, name, f"{name}_sum") < 2.1


@pytest.mark.system
async def test_a_busy_loop_is_measured() -> None:
    delay = LoopDelay()
    delay.start()
    try:
        async with asyncio.timeout(60):
            while not delay.delay_s.sum > 0.05:
                pass_s = asyncio.get_running_loop().time() + 0.2
                while asyncio.get_running_loop().time() < pass_s:
                    pass
                await asyncio.sleep(0)
    finally:
        await delay.stop()


def test_a_histogram_counts_each_value_in_its_bucket_and_in_all_larger_ones() -> None:
    histogram = Histogram((1, 2.5, 10))
    for number in (0, 1, 2, 2.5, 3, 11):
        histogram.count(number)
    assert list(histogram.buckets()) == [("1.0", 2), ("2.5", 4), ("10.0", 5), ("+Inf", 6)]
    assert histogram.sum == 19.5


async def test_reads_of_the_read_model_are_timed(client: InMemoryApi) -> None:
    await client.world.given(open_wallet())
    await client.fold()
    name = "stakelog_read_model_query_duration_seconds"
    before = value(await metrics(client), name, f"{name}_count")
    await client.get("/v1/wallets/u1")
    assert value(await metrics(client), name, f"{name}_count") > before


async def test_a_scrape_tells_what_the_process_uses_and_may_use(client: InMemoryApi) -> None:
    found = await metrics(client)
    used = value(found, "process_resident_memory_bytes", "process_resident_memory_bytes")
    limit = value(found, "stakelog_memory_limit_bytes", "stakelog_memory_limit_bytes")
    assert 1_000_000 < used < limit
    assert value(found, "process_cpu_seconds", "process_cpu_seconds_total") > 0


def test_children_are_told_apart_and_one_that_does_not_run_has_no_series() -> None:
    registry = CollectorRegistry()
    register_process(registry, {"follower": os.getpid, "check": os.getppid, "gone": lambda: None})
    text = generate_latest(registry).decode()
    found = {family.name: family for family in text_string_to_metric_families(text)}
    for name, sample in (("cpu_seconds", "cpu_seconds_total"), ("resident_memory_bytes", "resident_memory_bytes")):
        samples = found[f"stakelog_child_process_{name}"].samples
        assert [one.name for one in samples] == [f"stakelog_child_process_{sample}"] * 2
        assert [one.labels for one in samples] == [{"process": "follower"}, {"process": "check"}]
    assert text.count("# TYPE stakelog_child_process_cpu_seconds_total ") == 1


@pytest.mark.parametrize(
    ("membership", "files", "limit"),
    [
        ("0::/a/b", {"a/memory.max": "3000", "a/b/memory.max": "max"}, 3_000),
        ("0::/a/b", {"a/memory.max": "3000", "a/b/memory.max": "2000"}, 2_000),
        ("0::/unseen", {"memory.max": "4000"}, 4_000),
        ("1:cpu:/a\n4:memory:/a", {"memory/a/memory.limit_in_bytes": "5000", "cpu/a/memory.max": "1"}, 5_000),
    ],
)
def test_the_memory_limit_is_the_smallest_of_the_control_groups(
    tmp_path: Path, membership: str, files: dict[str, str], limit: int
) -> None:
    for name, text in {
        "proc/self/cgroup": membership,
        **{f"groups/{path}": of for path, of in files.items()},
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")
    assert memory_limit_bytes(tmp_path / "proc", tmp_path / "groups") == limit


def test_without_a_limit_the_machine_is_the_limit(tmp_path: Path) -> None:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert memory_limit_bytes(tmp_path, tmp_path) == pages
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "cgroup").write_text("0::/\n")
    (tmp_path / "memory.max").write_text(f"{2 * pages}\n")
    assert memory_limit_bytes(tmp_path, tmp_path) == pages
