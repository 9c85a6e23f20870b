"""`make up` and `make down`: parts start, are restarted, and are stopped by process id; and the balancer."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from deploy.local.install import install
from deploy.local.programs import Balancer
from deploy.local.server import free_port
from system.service import Service
from system.test_audit_program import some_commands

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
PARTS = ("kafka", "postgresql", "redis", "balancer")


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that the database's own user may enter. Whatever runs in it is stopped."""
    made = Path(tempfile.mkdtemp(prefix="stakelog-up-"))
    made.chmod(0o755)
    yield made
    local("down", "--folder", str(made))
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def port() -> int:
    """The first port of thirty free ones."""
    for first in range(21_000, 31_000, 100):
        if all(_is_free(first + number) for number in range(30)):
            return first
    raise AssertionError("no thirty ports in a row are free")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return probe.connect_ex(("127.0.0.1", port)) != 0


def local(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploy.local", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def servers(folder: Path, port: int, what: str = "up", *more: str) -> subprocess.CompletedProcess[str]:
    """The set without programs of its own."""
    where = ("--folder", str(folder), "--port", str(port))
    return local(what, *where, "--nodes", "0", "--workers", "0", *more)


def processes(said: str) -> dict[str, int]:
    """Name → process id, as `up` prints them."""
    lines = [line.split() for line in said.splitlines() if "(process " in line]
    return {line[0]: int(line[-1].rstrip(")")) for line in lines}


def all_ended(pids: dict[str, int]) -> bool:
    return not any(psutil.pid_exists(pid) for pid in pids.values())


def within(seconds: float, condition: Callable[[], bool], what: str) -> None:
    until_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until_s, what
        time.sleep(0.05)


def test_up_is_idempotent_and_down_stops_what_up_started_and_keeps_the_data(
    folder: Path, port: int, tmp_path: Path
) -> None:
    rules = tmp_path / "rules.json"
    rules.write_text("{}")
    with_rules = ("up", "--rules", str(rules))
    first = servers(folder, port, *with_rules)
    assert first.returncode == 0, first
    started = processes(first.stdout)
    assert tuple(started) == PARTS
    again = servers(folder, port, *with_rules)
    assert (again.returncode, again.stdout) == (0, first.stdout)

    def is_refused(says: str, *arguments: str) -> None:
        other = servers(folder, port, *arguments)
        assert other.returncode == 1
        assert says in other.stderr
        assert "`make down` first" in other.stderr

    is_refused("runs with postgresql already", *with_rules, "--database", "mysql")
    is_refused(f"runs with the rules of {rules} already, not with the built-in games", "up")
    is_refused(f"not with the rules of {tmp_path / 'b.json'}", "up", "--rules", str(tmp_path / "b.json"))
    rules.write_text('{"games": {"wingo_2s": {}}}')
    is_refused(f"{rules} has changed since the set was started with it", *with_rules)

    down = local("down", "--folder", str(folder))
    assert down.returncode == 0, down
    assert all_ended(started)
    assert (folder / "kafka" / "data").is_dir()
    assert "Nothing runs" in local("down", "--folder", str(folder)).stderr

    once_more = servers(folder, port)
    assert once_more.returncode == 0, "it starts again on its own data"
    assert local("down", "--folder", str(folder), "--clean").returncode == 0
    assert not folder.exists()


def test_a_part_that_ends_is_restarted_and_all_end_with_their_keeper(folder: Path, port: int) -> None:
    started = processes(servers(folder, port).stdout)
    os.kill(started["redis"], signal.SIGKILL)
    within(20, lambda: redis_of(folder, port) not in {None, started["redis"]}, "redis did not come back")
    parts = processes(servers(folder, port).stdout)
    assert parts["kafka"] == started["kafka"]
    os.kill(psutil.Process(parts["kafka"]).ppid(), signal.SIGKILL)
    within(30, lambda: all_ended(parts), "a part outlived its keeper")
    assert "Nothing runs" in local("down", "--folder", str(folder)).stderr


def redis_of(folder: Path, port: int) -> int | None:
    return processes(servers(folder, port).stdout).get("redis")


def test_a_port_that_is_taken_is_named_before_anything_is_started(folder: Path, port: int) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", port + 24))
        other.listen()
        done = servers(folder, port)
    assert done.returncode == 1
    assert f"port {port + 24} " in done.stderr
    assert "Traceback" not in done.stderr
    assert list(folder.iterdir()) == []


def test_if_a_part_cannot_start_it_is_named_and_the_others_stop(folder: Path, port: int) -> None:
    (folder / "kafka").mkdir()
    (folder / "kafka" / "data").write_text("no folder")
    done = servers(folder, port)
    assert done.returncode == 1
    assert "kafka" in done.stderr
    assert "the set did not start" in done.stderr
    assert "Traceback" not in done.stderr
    within(10, lambda: _is_free(port), "the balancer still listens")


# --- the balancer --------------------------------------------------------------------------------------------------


def test_a_node_that_is_killed_does_not_show_through_the_balancer(tmp_path: Path) -> None:
    """Two services of one process each stand for nodes here: what is looked at is the balancer."""
    install(["haproxy"])
    one, two = Service(tmp_path / "one"), Service(tmp_path / "two")
    balancer: Balancer | None = None
    try:
        one.start()
        two.start()
        balancer = Balancer(tmp_path / "balancer", free_port(), [one.port, two.port, free_port()])
        balancer.start()
        ready = balancer
        within(20, lambda: status(ready, "GET", "/readyz") == 200, "no node was found")
        for number in range(600):
            if number == 200:
                one.kill()
            assert status(balancer, "GET", "/healthz") == 200, number
            assert post(balancer, number) in (200, 201), number
    finally:
        if balancer is not None:
            balancer.stop()
        for service in (one, two):
            if service.process is not None:
                service.kill()


def status(balancer: Balancer, method: str, path: str, body: str | None = None) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", balancer.port, timeout=10)
    try:
        connection.request(method, path, body, {"content-type": "application/json"} if body else {})
        return connection.getresponse().status
    finally:
        connection.close()


def post(balancer: Balancer, number: int) -> int:
    return status(balancer, "POST", "/v1/commands", json.dumps(some_commands(number, 1)[0]))


@pytest.fixture
def hurried_balancer(tmp_path: Path) -> Iterator[Balancer]:
    """It allows four connections from one address, and four seconds for a request."""
    install(["haproxy"])
    with Service(tmp_path / "one", PARTITIONS="1") as service:
        limits = {"BALANCER_PER_ADDRESS": "4", "BALANCER_REQUEST_WITHIN": "4s"}
        balancer = Balancer(tmp_path / "balancer", free_port(), [service.port] * 3, limits)
        balancer.start()
        try:
            within(60, lambda: status(balancer, "GET", "/readyz") == 200, "no node was found")
            yield balancer
        finally:
            balancer.stop()


def connected(balancer: Balancer, address: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", balancer.port), 60, source_address=(address, 0))


def response_at(connection: socket.socket) -> bytes:
    """The beginning of it; empty if the balancer closes the connection."""
    try:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")
        return connection.recv(1_000).partition(b"\r\n")[0]
    except ConnectionError:
        return b""


def test_the_balancer_bounds_the_connections_of_one_address_and_the_time_for_a_request(
    hurried_balancer: Balancer,
) -> None:
    balancer = hurried_balancer
    with contextlib.ExitStack() as stack:

        def keep(address: str) -> socket.socket:
            return stack.enter_context(connected(balancer, address))

        for _ in range(4):
            assert response_at(keep("127.0.0.2")) == b"HTTP/1.1 200 OK"
        with contextlib.suppress(ConnectionResetError):  # the balancer may be quicker than the last step of `connect`
            assert response_at(keep("127.0.0.2")) == b""
        assert response_at(keep("127.0.0.3")) == b"HTTP/1.1 200 OK", "another address is served"

        slow, body = keep("127.0.0.4"), keep("127.0.0.4")
        slow.sendall(b"GET /healthz HTTP/1.1\r\nhost: a\r\nx: ")
        body.sendall(b"POST /v1/commands HTTP/1.1\r\nhost: a\r\ncontent-length: 9999\r\n\r\n{")
        assert everything(slow).startswith(b"HTTP/1.1 408 ")
        assert b'"code":"request_timeout"' in everything(body)

        long = keep("127.0.0.5")
        long.sendall(b"GET /healthz HTTP/1.1\r\nhost: a\r\nx: " + b"x" * 20_000 + b"\r\n\r\n")
        assert everything(long).startswith(b"HTTP/1.1 400 ")


OPEN_WALLET = b'{"type":"open_wallet","command_id":"c","user_id":"half-closed"}'


@pytest.mark.parametrize(
    ("request_bytes", "response"),
    [
        (b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n", b"HTTP/1.1 200 "),
        # The node waits for this one: the client's half-close comes first, whatever the machine does.
        (b"GET /v1/wallets/a?min_position=0:999&timeout_ms=500 HTTP/1.1\r\nhost: a\r\n\r\n", b"HTTP/1.1 504 "),
        (
            b"POST /v1/commands HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%b" % (len(OPEN_WALLET), OPEN_WALLET),
            b"HTTP/1.1 201 ",
        ),
    ],
    ids=["a read", "a read that waits", "a command"],
)
def test_a_client_that_closes_its_sending_side_gets_its_response_through_the_balancer(
    hurried_balancer: Balancer, request_bytes: bytes, response: bytes
) -> None:
    with connected(hurried_balancer) as connection:
        connection.sendall(request_bytes)
        connection.shutdown(socket.SHUT_WR)
        assert everything(connection).startswith(response)


def everything(connection: socket.socket) -> bytes:
    found = b""
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(10_000):
            found += part
    return found
