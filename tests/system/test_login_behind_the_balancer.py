"""Login behind haproxy: no client writes its own address, and none hides a request in another one."""

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from deploy.local.install import install
from deploy.local.programs import Balancer
from deploy.local.server import free_port
from system.cluster import SETTLED_WITHIN_S
from system.logins import LoggedIn, send
from system.test_local_set import status, within

pytestmark = pytest.mark.system

HIDDEN = b"GET /v1/clients HTTP/1.1\r\nHost: a\r\n\r\n"
FRAMINGS = {
    "length and chunks": b"Content-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a space before the colon": b"Content-Length: 3\r\nTransfer-Encoding : chunked\r\n\r\n{}\n",
    "an unknown coding": b"Transfer-Encoding: xchunked\r\nContent-Length: 3\r\n\r\n{}\n",
    "a vertical tab": b"Content-Length: 3\r\nTransfer-Encoding: \x0bchunked\r\n\r\n{}\n",
    "two codings": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
    "a folded header": b"X: y\r\n Content-Length: 3\r\nContent-Length: 0\r\n\r\n",
    "a signed length": b"Content-Length: +3\r\n\r\n{}\n",
    "two lengths": b"Content-Length: 3\r\nContent-Length: 3\r\n\r\n{}\n",
    "a list of lengths": b"Content-Length: 3, 3\r\n\r\n{}\n",
    "a chunk's extension": b'Transfer-Encoding: chunked\r\n\r\n3;a="\r\n{}\n\r\n0\r\n\r\n',
    "a bare line feed": b"Transfer-Encoding: chunked\r\n\r\n3\n{}\n\r\n0\r\n\r\n",
    "a bare carriage return": b"X: a\rContent-Length: 3\r\nContent-Length: 0\r\n\r\n",
}


class Behind(NamedTuple):
    service: LoggedIn
    balancer: Balancer


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    install(["haproxy"])
    folder: Path = tmp_path_factory.mktemp("behind")
    trusted = {"TRUSTED_PROXIES": "127.0.0.1", "RATE_LOGIN_PER_MIN": "4", "RATE_ADDRESS": "0"}
    with LoggedIn(folder / "data", PARTITIONS="1", **trusted) as service:
        balancer = Balancer(folder / "balancer", free_port(), [service.port] * 3)
        balancer.start()
        try:
            within(SETTLED_WITHIN_S, lambda: status(balancer, "GET", "/readyz") == 200, "no node was found")
            yield Behind(service, balancer)
        finally:
            balancer.stop()


def test_a_client_that_invents_an_address_is_limited_by_its_real_one(behind: Behind) -> None:
    url = f"http://127.0.0.1:{behind.balancer.port}"
    wrong = {"client_id": "games", "client_secret": "wrong"}
    statuses = []
    for number in range(12):
        own = {"X-Forwarded-For": f"9.9.9.{number}", "Forwarded": f"for=9.9.9.{number}"}
        own["Connection"] = "close, X-Forwarded-For" if number % 2 else "close"
        statuses.append(send(url, "POST", "/v1/auth/token", wrong, headers=own).status)
    assert statuses[:4] == [401] * 4
    assert statuses.count(429) >= 6, "a minute gives four more"


@pytest.mark.parametrize("framing", FRAMINGS.values(), ids=FRAMINGS)
def test_each_request_that_reaches_the_service_gets_one_response(behind: Behind, framing: bytes) -> None:
    before = reached(behind.service)
    head = b"POST /v1/auth/refresh HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", behind.balancer.port), 60) as connection:
        connection.sendall(head + framing + HIDDEN)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while part := connection.recv(65_536):
            received += part
    responses = len(re.findall(rb"HTTP/1\.1 [1-5][0-9]{2} ", received))
    assert responses >= 1
    assert reached(behind.service) - before <= responses


def reached(service: LoggedIn) -> int:
    """Requests so far, to the two routes of the test."""
    text = service.admin().get("/metrics").body.decode()
    counts = re.findall(
        r'request_duration_seconds_count\{method="\w+",route="/v1/(?:clients|auth/refresh)",[^}]*\} (\d+)', text
    )
    return sum(map(int, counts))
