"""The real service with its read model in PostgreSQL and in MariaDB: what it says, and what kills do to it."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import psutil
import pytest

from databases import EmptyDatabases
from deploy.local.install import program
from deploy.local.server import Server
from deploy.local.servers import MariaDb, PostgreSql
from properties.naive_reads import NotFound, target_of
from real_servers import running
from system import test_reads as over_http
from system.service import Service, ServiceFailed
from system.test_reads import (
    Client,
    Writing,
    betting,
    ends_of,
    fresh,
    new_id,
    positions,
    tell,
    until,
)

pytestmark = pytest.mark.system

PARTITIONS: Final = 4
POOL_MAX: Final = 8
SERVERS: Final = ("postgresql", "mariadb")


# --- the same questions, the same answers --------------------------------------------------------------------


@pytest.fixture(scope="module", params=SERVERS)
def databases(request: pytest.FixtureRequest) -> EmptyDatabases:
    found: EmptyDatabases = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
def service(databases: EmptyDatabases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    data = tmp_path_factory.mktemp(databases.kind) / "data"
    with databases.one() as url, Service(data, PARTITIONS=str(PARTITIONS), READ_MODEL=url) as service:
        with Client(service) as client:
            tell(client)
            until(lambda: over_http.follow_ups(client) == over_http.FOLLOW_UPS)
            client.read("/v1/orders", min_position=positions(ends_of(client.reads())), timeout_ms=10_000)
        yield service
        assert not (data / "read-model.sqlite3").exists(), "the rows are in the database alone"
        assert "Traceback" not in service.log_text()
        assert "internal_error" not in service.log_text()


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    with Client(service) as client:
        yield client


@pytest.fixture
def wallet(client: Client) -> str:
    return fresh(client)


# Collected here once more, with the service above.
test_every_read_of_a_wallet_says_what_its_events_say = over_http.test_every_read_of_a_wallet_says_what_its_events_say
test_the_queue_says_what_the_events_of_all_wallets_say = (
    over_http.test_the_queue_says_what_the_events_of_all_wallets_say
)
test_a_response_names_the_positions_at_which_it_is_true_while_events_arrive = (
    over_http.test_a_response_names_the_positions_at_which_it_is_true_while_events_arrive
)
test_a_read_at_the_position_of_a_command_includes_it = over_http.test_a_read_at_the_position_of_a_command_includes_it
test_the_queue_of_pending_withdrawals_is_walked_while_they_are_approved = (
    over_http.test_the_queue_of_pending_withdrawals_is_walked_while_they_are_approved
)


def test_every_process_has_one_bounded_pool(databases: EmptyDatabases, service: Service, client: Client) -> None:
    """The connections that the server counts are those of our processes, none of which has more than one pool."""
    users = [fresh(client) for _ in range(4)]
    with ExitStack() as load:
        for _ in range(12):
            load.enter_context(Writing(service, lambda reader: read_all(reader, users)))
        load.enter_context(Writing(service, lambda writer: betting(writer, users)))
        time.sleep(1.5)
        held = connections_of(databases, service)
        counted = counted_at(databases, service)
        metrics = client.ask("/metrics").body.decode()
    assert len(held) == 3, "the service, its follower and its check"
    assert all(1 <= number <= POOL_MAX for number in held.values()), held
    assert abs(counted - sum(held.values())) <= 1, "the server knows of others"
    assert f'stakelog_database_connections{{state="max"}} {POOL_MAX}.0' in metrics
    assert retries_in(metrics) == 0


def read_all(client: Client, users: list[str]) -> None:
    for user_id in users:
        client.read(f"/v1/wallets/{user_id}")
        client.read(f"/v1/wallets/{user_id}/history")


def connections_of(databases: EmptyDatabases, service: Service) -> dict[int, int]:
    """Process → connections to the database's server."""
    port = databases.port
    processes = [psutil.Process(service.pid), *psutil.Process(service.pid).children(recursive=True)]
    found = {}
    for process in processes:
        open_now = [one for one in process.net_connections("tcp") if one.status == psutil.CONN_ESTABLISHED]
        if number := sum(1 for one in open_now if one.raddr and one.raddr.port == port):
            found[process.pid] = number
    return found


def counted_at(databases: EmptyDatabases, service: Service) -> int:
    name = urlsplit(service.setting("READ_MODEL")).path.strip("/")
    asked = {
        "postgresql": f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}'",
        "mariadb": f"SELECT count(*) FROM information_schema.processlist WHERE db = '{name}'",
    }
    return int(databases.ask(asked[databases.kind])[0][0])


def retries_in(metrics: str) -> float:
    lines = [line for line in metrics.splitlines() if line.startswith("stakelog_database_retries_total{")]
    assert lines, "the counter is there before it counts"
    return sum(float(line.rpartition(" ")[2]) for line in lines)


# --- kills ---------------------------------------------------------------------------------------------------


def test_followers_that_are_killed_and_meet_leave_the_rows_as_the_log_says(
    databases: EmptyDatabases, tmp_path: Path
) -> None:
    """Two followers fold into one database all the time, and one or the other is killed under load."""
    with databases.one() as url:
        service = Service(tmp_path / "data", PARTITIONS=str(PARTITIONS), READ_MODEL=url)
        with service, Client(service) as client, other_follower(service) as other:
            users = [fresh(client) for _ in range(8)]
            killed = 0
            with ExitStack() as load:
                for _ in range(3):
                    load.enter_context(Writing(service, lambda writer: betting(writer, users)))
                load.enter_context(Writing(service, lambda reader: read_all(reader, users)))
                deadline_s = time.monotonic() + 120
                while killed < 4:
                    assert time.monotonic() < deadline_s, "the service does not start its follower again"
                    time.sleep(0.6)
                    killed += kill_follower_of(service)
                    if killed % 3 == 0:
                        other.kill_and_start()
            compare_all(client, users)
            metrics = client.ask("/metrics").body.decode()
            assert retries_in(metrics) == 0
            assert "stakelog_quarantined_users 0.0" in metrics
            checked = project(service, "check", "--once")
            assert checked.returncode == 0, checked.stdout + checked.stderr
            # A rebuild with two processes makes the same rows.
            rebuilt = project(service, "rebuild", "--workers", "2")
            assert rebuilt.returncode == 0, rebuilt.stdout + rebuilt.stderr
            with Client(service) as again:  # the first one's connection was idle for too long
                compare_all(again, users)
        for text in (service.log_text(), other.said()):
            assert "Traceback" not in text
            assert "tried again" not in text


def compare_all(client: Client, users: list[str]) -> None:
    reads = client.reads()
    ends = ends_of(reads)
    for user_id in users:
        partition = next(event["partition"] for event in reads.events if event["user_id"] == user_id)
        at = positions({partition: ends[partition]})
        for name in ("wallet", "stats", "referrals"):
            document = client.read(target_of(name, user_id, {}), min_position=at)
            del document["as_of"]
            assert document == getattr(reads, name)(user_id)
        for name in ("history", "bets", "holds"):
            items = [
                item for page in client.walk(target_of(name, user_id, {}), min_position=at) for item in page.items
            ]
            assert items == getattr(reads, name)(user_id)["items"], (name, user_id)
    queue = [item for page in client.walk("/v1/orders", min_position=positions(ends)) for item in page.items]
    expected = reads.orders()
    assert not isinstance(expected, NotFound)
    assert queue == expected["items"]


def followers_of(service: Service) -> list[psutil.Process]:
    found = []
    for process in psutil.Process(service.pid).children():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if "follow" in process.cmdline():
                found.append(process)
    return found


def kill_follower_of(service: Service) -> int:
    """How many there were to kill: one, or none while the next one is started."""
    found = followers_of(service)
    for process in found:
        process.kill()
    return len(found)


class OtherFollower:
    """One more `stakelog project follow`, started by hand."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._log = service.data.parent / "other.log"
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "api", "project", "follow"],
                env=environment(self._service),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def kill_and_start(self) -> None:
        self._process.kill()
        self._process.wait()
        self._process = self._start()

    def stop(self) -> int:
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(60)

    def said(self) -> str:
        return self._log.read_text()


@contextmanager
def other_follower(service: Service) -> Iterator[OtherFollower]:
    other = OtherFollower(service)
    try:
        yield other
    finally:
        assert other.stop() == 0, other.said()


def environment(service: Service) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("STAKELOG_")}
    settings = {f"STAKELOG_{name}": service.setting(name) for name in ("PARTITIONS", "READ_MODEL")}
    return {**inherited, **settings, "STAKELOG_DATA": str(service.data)}


def project(service: Service, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "api", "project", *arguments]
    return subprocess.run(command, env=environment(service), capture_output=True, text=True, check=False, timeout=120)


# --- a database that is away ---------------------------------------------------------------------------------


@pytest.fixture(params=SERVERS)
def own_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    server: Server
    if request.param == "postgresql":
        server = PostgreSql(arguments=PostgreSql.careless)
    else:
        server = MariaDb(arguments=MariaDb.careless)
    with running(server):
        yield server


def test_commands_are_taken_while_the_database_is_away(own_server: Server, tmp_path: Path) -> None:
    service = Service(tmp_path / "data", PARTITIONS=str(PARTITIONS), READ_MODEL=own_server.url)
    with service, Client(service) as client:
        users = [fresh(client) for _ in range(2)]
        own_server.kill()
        for _ in range(20):
            betting(client, users)
        answer = client.ask(f"/v1/wallets/{users[0]}")
        over_http.assert_problem(answer, 503, "log_unavailable")
        assert client.ask("/metrics").status == 200
        service.stop()
        service.start()  # without it, too
        with Client(service) as again:
            betting(again, users)
            over_http.assert_problem(again.ask(f"/v1/wallets/{users[0]}"), 503, "log_unavailable")
            own_server.start()
            until(lambda: again.ask(f"/v1/wallets/{users[0]}").status == 200)
            compare_all(again, users)
    assert "Traceback" not in service.log_text()


def test_a_database_that_is_ahead_of_the_log_is_refused(databases: EmptyDatabases, tmp_path: Path) -> None:
    with databases.one() as url:
        with (
            Service(tmp_path / "first", PARTITIONS=str(PARTITIONS), READ_MODEL=url) as service,
            Client(service) as client,
        ):
            fresh(client)
        with pytest.raises(ServiceFailed, match="the read model is ahead of the log") as failed:
            Service(tmp_path / "second", PARTITIONS=str(PARTITIONS), READ_MODEL=url).start()
        assert "Traceback" not in str(failed.value)


# --- a copy to read from -------------------------------------------------------------------------------------


class StandBy(PostgreSql):
    """A streaming copy of another server."""

    def __init__(self, of: PostgreSql) -> None:
        super().__init__()
        self._of = of

    def prepare(self) -> None:
        data = self.folder / "data"
        self.own(data)
        copy = program("postgres").with_name("pg_basebackup")
        source = ["-h", "127.0.0.1", "-p", str(self._of.port), "-U", "postgres"]
        self.run([copy, *source, "-D", data, "-R", "-X", "stream", "--checkpoint=fast"])

    def ready(self) -> bool:
        psql = program("postgres").with_name("psql")
        to = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-d", "stakelog", "-c", "SELECT 1"]
        return self.listens() and self.succeeds([psql, *to])


def test_reads_come_from_the_copy_if_there_is_one(tmp_path: Path) -> None:
    primary = PostgreSql(arguments=PostgreSql.careless)
    with running(primary), running(StandBy(primary)) as copy:
        urls = {"READ_MODEL": primary.url, "READ_MODEL_REPLICA": copy.url}
        with Service(tmp_path / "data", PARTITIONS=str(PARTITIONS), **urls) as service, Client(service) as client:
            users = [fresh(client) for _ in range(2)]
            for _ in range(20):
                betting(client, users)
            compare_all(client, users)
            copy.kill()
            client.post(users[0], "deposit", order_id=new_id(), asset="INR", amount=1)
            assert client.ask(f"/v1/wallets/{users[0]}").status == 503, "it was read from elsewhere"
    assert "Traceback" not in service.log_text()
