"""Clients that do not read, and uploads that stop, against the real server: it stays small, and ends."""

import http.client
import json
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import psutil
import pytest

from system.service import Service

pytestmark = pytest.mark.system

ENDS_WITHIN_S: Final = 15.0
"""Promised."""
READERS: Final = 100
UPLOADS: Final = 60
TEXTS: Final = {f"k{number}": "x" * 512 for number in range(8)}
OPEN: Final = b'[{"type":"open_wallet","command_id":"c","user_id":"u1"}]'
EVENTS: Final = 2_001
KEPT_BYTES: Final = 300_000_000
"""Twice what was measured. If it kept all it would be half a gigabyte of bodies, and nearly as much of pages."""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """Has eight megabytes of records."""
    service = Service(tmp_path / "data", PARTITIONS="1")
    service.start()
    try:
        assert post(service, OPEN) == 200
        for number in range(2):
            assert post(service, deposits(number)) == 200
        yield service
    finally:
        if service.process is not None:
            status = service.process.poll()
            service.kill()
            assert status is None, f"it ended by itself, with status {status}:\n{service.log_text()}"


def deposits(number: int) -> bytes:
    common = {"type": "deposit", "user_id": "u1", "asset": "INR", "amount": 1, "metadata": TEXTS}
    ids = [f"{number}-{one}" for one in range(1_000)]
    return json.dumps([common | {"command_id": one, "order_id": one} for one in ids]).encode()


def post(service: Service, body: bytes) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
    connection.request("POST", "/v1/commands/batch", body, {"content-type": "application/json"})
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status


def head_of(method: str, target: str, *headers: str) -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", "host: stakelog", *headers, "", ""]).encode()


@contextmanager
def sent(service: Service, request: bytes) -> Iterator[socket.socket]:
    """A connection that has sent this, and reads nothing."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        client.settimeout(60)
        client.connect(("127.0.0.1", service.port))
        client.sendall(request)
        yield client


def rss_bytes(service: Service) -> int:
    return int(psutil.Process(service.pid).memory_info().rss)


def test_slow_readers_and_uploads_that_stop_keep_little_memory_and_do_not_keep_the_service(service: Service) -> None:
    before = rss_bytes(service)
    page = head_of("GET", "/v1/events?partition=0&limit=10000")
    upload = head_of("POST", "/v1/commands", "content-type: application/json", "content-length: 8000000")
    with ExitStack() as clients:
        for reader in [clients.enter_context(sent(service, page)) for _ in range(READERS)]:
            assert reader.recv(1) == b"H"  # its response has begun
        for _ in range(UPLOADS):
            client = clients.enter_context(sent(service, upload))
            try:
                client.sendall(b" " * 7_900_000)
            except OSError:
                continue  # refused, and closed: all bodies together would be too much
        assert post(service, OPEN) == 200
        assert rss_bytes(service) - before < KEPT_BYTES
        began_s = time.monotonic()
        service.process.send_signal(signal.SIGTERM)  # type: ignore[union-attr]
        assert service.process.wait(60) == 0, service.log_text()  # type: ignore[union-attr]
        service.process = None
        assert time.monotonic() - began_s < ENDS_WITHIN_S
    assert "Traceback" not in service.log_text()


def test_a_second_signal_ends_it_at_once_and_nothing_is_lost(service: Service) -> None:
    body = deposits(3)
    lines = ("content-type: application/json", f"content-length: {len(body)}")
    with sent(service, head_of("POST", "/v1/commands/batch", *lines) + body) as client:
        assert client.recv(1) == b"H"
        process = service.process
        assert process is not None
        for _ in range(600):  # the service waits ten seconds for this client, unless a further signal ends it
            process.send_signal(signal.SIGTERM)
            time.sleep(0.1)
            if process.poll() is not None:
                break
        assert process.returncode == -signal.SIGTERM, service.log_text()
        service.process = None
    service.start()
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
    connection.request("GET", "/v1/partitions")
    assert json.load(connection.getresponse())["items"][0]["seq"] == EVENTS + 1_000
    connection.close()
    service.stop()
