"""Both listeners of a real service: TLS, a certificate that changes, and what is served where."""

import asyncio
import http.client
import json
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import httpx
import psutil
import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

import certificates
from certificates import Files
from system.service import Service

pytestmark = pytest.mark.system

WITHIN_S: Final = 60.0
RELOADED: Final = "SIGHUP: new connections get the certificate as it is now"
COMMAND: Final = b'{"type":"open_wallet","command_id":"c1","user_id":"u1"}'


def eventually(condition: Callable[[], bool], what: str) -> None:
    until_s = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < until_s, what
        time.sleep(0.02)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return certificates.write(tmp_path_factory.mktemp("tls"), "first")


@pytest.fixture(scope="module")
def service(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """With TLS for clients, and without on its internal listener."""
    data = tmp_path_factory.mktemp("service") / "data"
    tls = {"TLS_CERT": str(files.certificate), "TLS_KEY": str(files.key)}
    with Service(data, True, PARTITIONS="1", **tls) as service:
        yield service


def trusting(files: Files) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(files.certificate))


def tls_connection(service: Service) -> ssl.SSLSocket:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = context.wrap_socket(socket.create_connection(("127.0.0.1", service.port), WITHIN_S))
    connection.settimeout(WITHIN_S)
    return connection


def name_of(connection: ssl.SSLSocket) -> str:
    """Of the certificate that the server has shown."""
    shown = x509.load_der_x509_certificate(connection.getpeercert(binary_form=True) or b"")
    return str(shown.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def served_names(service: Service) -> set[str]:
    """By new connections: several, because two servers on one port would take turns."""
    names = set()
    for _ in range(12):
        with tls_connection(service) as connection:
            names.add(name_of(connection))
    return names


def hang_up(service: Service, says: str) -> None:
    """Send SIGHUP, and wait until the log says this once more."""
    before = service.log_text().count(says)
    service.process.send_signal(signal.SIGHUP)  # type: ignore[union-attr]
    eventually(lambda: service.log_text().count(says) > before, f"it did not say: {says}")


def test_clients_are_served_with_tls_only(service: Service, files: Files) -> None:
    with httpx.Client(verify=trusting(files), timeout=WITHIN_S) as client:
        answer = client.get(f"{service.url}/healthz")
        assert answer.status_code == 200
        assert answer.headers["strict-transport-security"] == "max-age=31536000"
        assert answer.headers["server"] == "stakelog"
        posted = client.post(
            f"{service.url}/v1/commands", content=COMMAND, headers={"content-type": "application/json"}
        )
        assert posted.status_code in (200, 201)
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"{service.url}/healthz", timeout=WITHIN_S)
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{service.port}/healthz", timeout=WITHIN_S)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_1_2_and_1_3_are_spoken(service: Service, files: Files, version: ssl.TLSVersion) -> None:
    context = trusting(files)
    context.minimum_version = context.maximum_version = version
    assert httpx.get(f"{service.url}/healthz", verify=context, timeout=WITHIN_S).status_code == 200


def test_metrics_are_on_the_internal_listener_without_tls(service: Service, files: Files) -> None:
    assert "stakelog_ready 1.0" in httpx.get(f"{service.internal}/metrics", timeout=WITHIN_S).text
    public = httpx.get(f"{service.url}/metrics", verify=trusting(files), timeout=WITHIN_S)
    assert public.json()["code"] == "not_found"
    assert httpx.get(f"{service.internal}/v1/partitions", timeout=WITHIN_S).status_code == 404


def test_sighup_changes_the_certificate_and_cuts_off_no_request(service: Service, files: Files) -> None:
    (before,) = served_names(service)
    with tls_connection(service) as connection:
        lines = ("POST /v1/commands HTTP/1.1", "host: stakelog", "content-type: application/json")
        head = "\r\n".join([*lines, f"content-length: {len(COMMAND)}", "", ""])
        connection.sendall(head.encode() + COMMAND[:10])
        certificates.write(files.certificate.parent, "renewed")
        hang_up(service, RELOADED)
        assert served_names(service) == {"renewed"}
        assert name_of(connection) == before
        connection.sendall(COMMAND[10:])
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert json.load(response)["type"] == "wallet_opened"


def test_sighup_with_files_that_cannot_be_used_changes_nothing_and_says_why(service: Service, files: Files) -> None:
    before = served_names(service)
    files.key.write_text("no key")
    hang_up(service, "SIGHUP: the certificate stays as it was: STAKELOG_TLS_CERT=")
    assert served_names(service) == before
    certificates.write(files.certificate.parent, "mended")
    hang_up(service, RELOADED)
    assert served_names(service) == {"mended"}


# --- many connections ----------------------------------------------------------------------------------------------

IDLE, SLOW = 1_000, 200
KEPT_BYTES: Final = 100_000_000
"""They were measured to need 9 MB."""


async def connect(service: Service, sent: bytes) -> asyncio.StreamWriter:
    _, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(sent)
    return writer


async def test_others_are_served_while_a_thousand_are_idle_and_two_hundred_are_slow(tmp_path: Path) -> None:
    headers = b"GET /healthz HTTP/1.1\r\nhost: stakelog\r\nx: "
    lines = (b"POST /v1/commands HTTP/1.1", b"host: stakelog", b"content-type: application/json")
    body = b"\r\n".join([*lines, b"content-length: 9999", b"", b""])
    service = Service(tmp_path / "data", PARTITIONS="1")
    await asyncio.to_thread(service.start)
    try:
        before = psutil.Process(service.pid).memory_info().rss
        connections = [await connect(service, b"") for _ in range(IDLE)]
        slow = [await connect(service, headers if number % 2 else body) for number in range(SLOW)]
        async with httpx.AsyncClient(base_url=service.url, timeout=WITHIN_S) as client:
            for number in range(50):
                for writer in slow:
                    writer.write(b"x")
                command = {"type": "open_wallet", "command_id": "c1", "user_id": f"u{number}"}
                assert (await client.post("/v1/commands", json=command)).status_code == 201
                assert (await client.get(f"/v1/wallets/u{number}?consistency=strong")).status_code == 200
        assert psutil.Process(service.pid).memory_info().rss - before < KEPT_BYTES
        for writer in (*connections, *slow):
            writer.transport.abort()
    finally:
        await asyncio.to_thread(service.stop)
