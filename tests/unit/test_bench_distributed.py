"""The arithmetic of `stakelog bench --distributed`, its steps, and what it refuses before anything is started."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from bench import run
from bench.command import DISTRIBUTED_NAMES, bench, chosen
from bench.figures import BenchError, Row
from bench.lab.distributed import QUICK, is_shared
from bench.lab.one_node import Processes
from bench.lab.servers import servers_of
from bench.load.retrying import Finished, longest_s, wallets_in
from bench.measures.distributed import MEASURES, steps
from bench.measures.soak import growth_per_s
from ledger.core.position import partition_of

ENVIRONMENT = {
    "KAFKA_URL": "kafka://127.0.0.1:9092?replication_factor=1",
    "POSTGRESQL_URL": "postgresql://postgres@127.0.0.1:5432/stakelog",
    "MARIADB_URL": "mysql://stakelog@127.0.0.1:3306/stakelog",
    "REDIS_URL": "redis://127.0.0.1:6379/0",
}


def word(partition: int, ended_at_s: float, took_s: float) -> Finished:
    return Finished(partition, ended_at_s, took_s, 1, failed=False)


def test_an_interruption_is_the_longest_command_that_ended_after_the_node_left() -> None:
    finished = [word(0, 9.0, 5.0), word(0, 11.0, 0.2), word(0, 12.0, 0.9), word(1, 11.0, 3.0), word(2, 11.0, 0.1)]
    assert longest_s(finished, [], 10.0, {0, 2}) == {0: 0.9, 2: 0.1}


def test_a_command_without_a_response_counts_for_as_long_as_it_waits() -> None:
    assert longest_s([word(0, 11.0, 0.2)], [(0, 4.0), (1, 9.0)], 10.0, {0}) == {0: 4.0}


def test_a_partition_without_an_ended_command_counts_as_not_interrupted() -> None:
    assert longest_s([], [], 10.0, {3}) == {3: 0.0}


def test_each_partition_has_a_client_whose_wallet_is_in_it() -> None:
    wallets = wallets_in(16)
    assert [partition_of(f"w-{wallet:07d}", 16) for wallet in wallets] == list(range(16))


@pytest.mark.parametrize(
    ("owners", "shared"),
    [
        ({0: "a", 1: "b", 2: "a"}, True),
        ({0: "a", 1: "a", 2: "a"}, False),
        ({0: "a", 1: "b", 2: "gone"}, False),
        ({0: "a", 1: "a", 2: "b", 3: "a"}, False),
    ],
)
def test_partitions_are_shared_when_nodes_that_run_have_as_many_each(owners: dict[int, str], shared: bool) -> None:
    assert is_shared(owners, ["a", "b"]) is shared


def test_the_command_offers_every_measure_and_each_has_its_steps() -> None:
    assert tuple(MEASURES) == DISTRIBUTED_NAMES
    assert all(steps(QUICK, [name]) > 0 for name in DISTRIBUTED_NAMES)


def test_growth_is_the_slope_of_the_last_readings_only() -> None:
    filling_caches = [(float(at_s), 1_000 * at_s) for at_s in range(0, 60, 10)]
    steady = [(60.0, 60_100), (70.0, 59_900), (80.0, 60_100), (90.0, 59_900)]
    assert abs(growth_per_s([*filling_caches, *steady], 30.0)) < 10
    assert growth_per_s([(at_s, size + 5 * int(at_s)) for at_s, size in steady], 30.0) == pytest.approx(
        5 + growth_per_s(steady, 30.0)
    )
    assert growth_per_s(filling_caches, 30.0) == pytest.approx(1_000)
    with pytest.raises(BenchError, match="too short"):
        growth_per_s(steady, 5.0)


@pytest.mark.parametrize(
    ("only", "measured"),
    [((), set(DISTRIBUTED_NAMES) - {"soak"}), (("soak",), {"soak"}), (("send", "leaving"), {"send", "leaving"})],
)
def test_the_soak_is_measured_only_if_it_is_named(only: tuple[str, ...], measured: set[str]) -> None:
    assert set(chosen(DISTRIBUTED_NAMES, only)) == measured


@pytest.mark.parametrize("missing", list(ENVIRONMENT))
def test_a_server_that_is_not_named_is_named_with_what_to_do(missing: str) -> None:
    with pytest.raises(BenchError, match=f"{missing} is not set: `make bench-distributed`"):
        servers_of({name: url for name, url in ENVIRONMENT.items() if name != missing})


def test_an_address_that_is_none_is_refused_without_showing_it() -> None:
    with pytest.raises(BenchError, match="names no known database") as refused:
        servers_of(ENVIRONMENT | {"MARIADB_URL": "oracle://me:secret@host/x"})
    assert "secret" not in str(refused.value)


def test_nodes_get_the_servers_and_nothing_of_a_developers_environment(tmp_path: Path) -> None:
    servers = servers_of(ENVIRONMENT | {"STAKELOG_LOG": "kafka://production:9092"})
    settings = servers.settings(tmp_path, read_model=servers.mariadb, cached=True)
    assert settings["STAKELOG_LOG"] == ENVIRONMENT["KAFKA_URL"]
    assert settings["STAKELOG_READ_MODEL"] == ENVIRONMENT["MARIADB_URL"]
    assert settings["STAKELOG_CACHE"] == ENVIRONMENT["REDIS_URL"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--distributed", "--only", "verify"], "verify is measured without --distributed only"),
        (["--only", "leaving"], "leaving is measured with --distributed only"),
        (["--distributed", "--wallets", "20000"], "--wallets is for measures without --distributed"),
    ],
)
def test_a_measure_of_the_other_mode_is_wrong_use(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(bench, arguments)
    assert done.exit_code == 2
    assert said in done.output


def test_a_measure_that_fails_leaves_the_others_of_the_run(tmp_path: Path) -> None:
    def fails(_: Processes) -> list[Row]:
        raise BenchError("no connection")

    def works(lab: Processes) -> list[Row]:
        lab.step()
        return [Row("works", "one", "1/s")]

    kind: run.Kind[Processes] = run.Kind("a run", QUICK, {"fails": fails, "works": works}, 2, Processes)
    with pytest.raises(click.ClickException, match="fails: no connection"):
        run.run(kind, out=tmp_path)
    (kept,) = tmp_path.iterdir()
    assert b'"works"' in kept.read_bytes()
    assert b"fails: no connection" in kept.read_bytes()
