"""To which addresses webhooks go: a table of addresses, and requests on real sockets."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
import pytest_asyncio

from api.webhooks.guard import AddressRefused, Guard
from api.webhooks.requests import Sending
from unit.webhooks_in_memory import LOOPBACK
from webhook_receiver import Receiver

_REFUSED = """
    0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 127.0.0.1 127.1.2.3 169.254.1.1 169.254.169.254 172.16.0.1
    172.31.255.255 192.0.0.1 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1
    239.255.255.250 240.0.0.1 255.255.255.255 168.63.129.16
    :: ::1 ::7f00:1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe
    64:ff9b:1::a00:1 100::1 2001::1 2001:db8::1 2002:7f00:1:: 2002:a9fe:a9fe:: 3fff::1 fc00::1 fd00:ec2::254 fe80::1
    fe80::1%eth0 fec0::1 ff02::1 ff0e::1
"""
_ALLOWED = """
    1.1.1.1 8.8.8.8 172.15.255.255 172.32.0.1 192.167.255.255 100.63.255.255 100.128.0.1 223.255.255.255
    2606:4700:4700::1111 2a00:1450:4001::1 ::ffff:8.8.8.8 64:ff9b::808:808 2002:808:808::1
"""


REFUSED, ALLOWED = _REFUSED.split(), _ALLOWED.split()


@pytest.mark.parametrize("address", REFUSED)
def test_an_address_that_is_not_public_is_refused_alone_and_among_others(address: str) -> None:
    for addresses in ([address], ["8.8.8.8", address], [address, "8.8.8.8"]):
        with pytest.raises(AddressRefused, match="not a public address"):
            Guard().check([ip_address(one) for one in addresses], "https")
    host = f"[{address.replace('%', '%25')}]" if ":" in address else address
    with pytest.raises(AddressRefused):
        Guard().check_url(f"https://{host}:8443/hooks")


@pytest.mark.parametrize("address", ALLOWED)
def test_a_public_address_is_allowed_by_https_only(address: str) -> None:
    Guard().check([ip_address(address)], "https")
    with pytest.raises(AddressRefused, match="http://"):
        Guard().check([ip_address(address)], "http")


@pytest.mark.parametrize(
    ("network", "address"),
    [
        *(("10.0.0.0/8", "10.1.2.3"), ("10.0.0.0/8", "::ffff:10.1.2.3"), ("10.0.0.0/8", "64:ff9b::a01:203")),
        *(("127.0.0.1/32", "127.0.0.1"), ("::1/128", "::1"), ("fd00::/8", "fd00::1")),
    ],
)
def test_a_listed_network_is_allowed_by_both_schemes_and_others_are_not(network: str, address: str) -> None:
    guard = Guard([ip_network(network)])
    for scheme in ("http", "https"):
        guard.check([ip_address(address)], scheme)
    for other in ("192.168.0.1", "169.254.169.254", "fe80::1"):
        with pytest.raises(AddressRefused):
            guard.check([ip_address(address), ip_address(other)], "https")
    with pytest.raises(AddressRefused):
        guard.check([ip_address("::ffff:192.168.0.1")], "https")


@pytest.mark.parametrize(
    "url",
    [
        *("", "shop.example/hooks", "ftp://shop.example/", "file:///etc/passwd", "https://", "https:///hooks"),
        *("https://user@shop.example/", "https://user:secret@shop.example/", "https://shop.example/#part"),
        *("https://shop.example:0/", "https://shop.example:99999/", "https://shop.example/a b", "https://[::1"),
        *("https://shop.example\\@10.0.0.1/", "https://shop.example/\r\nx: y", "https://höst.example/"),
        "https://shop.example/" + "a" * 1_100,
    ],
)
def test_what_is_no_url_of_a_webhook_is_refused(url: str) -> None:
    with pytest.raises(AddressRefused):
        Guard().check_url(url)


def test_a_name_is_looked_up_by_the_attempts_only() -> None:
    Guard().check_url("https://shop.example:8443/hooks?token=1")


class Names:
    """In place of the machine's name server: each look-up takes the next list of addresses, the last one again and
    again."""

    def __init__(self, *lists: list[str]) -> None:
        self.lists, self.asked = list(lists), 0

    def __call__(self, host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        self.asked += 1
        found = self.lists.pop(0) if len(self.lists) > 1 else self.lists[0]
        return [
            (socket.AF_INET6, 1, 6, "", (one, port, 0, 0)) if ":" in one else (socket.AF_INET, 1, 6, "", (one, port))
            for one in found
        ]


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


async def post(url: str, *networks: Any, within_s: float = 30.0) -> str:
    sending = Sending(url, Guard(networks), 1, within_s=within_s)
    try:
        return await sending.post({"webhook-id": "0:1"}, b"{}")
    finally:
        await sending.close()


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "0177.0.0.1", "127.1"]
)
async def test_no_spelling_of_loopback_reaches_a_server_there(host: str, receiver: Receiver) -> None:
    for scheme in ("http", "https"):
        assert await post(f"{scheme}://{host}:{receiver.port}/")
    assert receiver.got == []


async def test_a_name_with_a_private_address_among_others_is_not_connected_to(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", Names(["127.0.0.1", "10.0.0.1"]))
    assert "10.0.0.1 is not a public address" in await post(f"http://shop.example:{receiver.port}/", LOOPBACK)
    assert receiver.got == []


async def test_a_name_is_looked_up_once_so_that_a_second_answer_cannot_differ(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = Names(["127.0.0.1"], ["10.0.0.1"])
    monkeypatch.setattr(socket, "getaddrinfo", names)
    assert await post(f"http://shop.example:{receiver.port}/a", LOOPBACK) == ""
    assert names.asked == 1
    assert receiver.got[0].headers["host"] == f"shop.example:{receiver.port}"
    assert "10.0.0.1 is not a public" in await post(f"http://shop.example:{receiver.port}/b", LOOPBACK)
    assert len(receiver.got) == 1


async def test_a_name_server_that_does_not_respond_delays_neither_an_attempt_nor_the_end_of_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    responds = threading.Event()

    def hangs(*_: Any, **__: Any) -> list[Any]:
        responds.wait()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hangs)
    before = {*threading.enumerate()}
    sending = Sending("https://shop.example/", Guard(), 2, within_s=0.05)
    try:
        both = (sending.post({"webhook-id": f"0:{number}"}, b"{}") for number in range(2))
        assert await asyncio.gather(*both) == ["no response within 0.05 s"] * 2
        await sending.close()
        (thread,) = {*threading.enumerate()} - before
        assert thread.is_alive()
        assert thread.daemon, "the interpreter waits for other threads when it ends"
    finally:
        responds.set()
    await asyncio.to_thread(thread.join)


async def test_a_redirect_is_a_failure_and_not_followed(receiver: Receiver) -> None:
    receiver.decide = lambda _: 307
    assert await post(receiver.url, LOOPBACK) == "status 307: redirects are not followed"
    assert len(receiver.got) == 1


async def test_a_receiver_that_never_responds_ends_the_attempt(receiver: Receiver) -> None:
    receiver.decide = lambda _: 0
    assert await post(receiver.url, LOOPBACK, within_s=0.05) == "no response within 0.05 s"


async def test_an_endless_response_is_cut_off_and_its_status_counts() -> None:
    cut = asyncio.Event()

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        try:
            while True:
                writer.write(b"1000\r\n" + b"x" * 4_096 + b"\r\n")
                await writer.drain()
        except ConnectionError:
            cut.set()
        finally:
            writer.close()

    server = await asyncio.start_server(endless, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert await post(f"http://127.0.0.1:{port}/", LOOPBACK) == ""
        async with asyncio.timeout(60):
            await cut.wait()


async def test_a_proxy_of_the_environment_is_not_used(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert await post(receiver.url, LOOPBACK) == ""
