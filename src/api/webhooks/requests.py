"""Sends the requests of one endpoint. Imported only where there is one: aiohttp would slow each start.

Invariants:
(1) an attempt ends within ``WITHIN_S``, whatever the receiver does. The status decides; of the response's body at
    most ``BODY_MAX`` bytes are read, for ``_BODY_WITHIN_S``, so that the connection can be used again;
(2) no redirect is followed, no proxy of the environment is used, and cookies are not kept;
(3) each connection goes to an address that ``Guard`` allows. The name is looked up for each new connection, all its
    addresses are checked, and the address is checked once more where its socket is made;
(4) names are looked up in a thread of this endpoint alone: a slow name server delays no other endpoint, and none of
    the threads in which the ledger reads its log.
"""

import asyncio
import errno
import socket
import ssl
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from ipaddress import ip_address
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from api.webhooks.guard import AddressRefused, Guard
from api.webhooks.signing import Headers

WITHIN_S: Final = 15.0
"""From the look-up of the name to the response's status. The specification recommends 15 to 30 s."""
BODY_MAX: Final = 16 * 1024
_BODY_WITHIN_S: Final = 1.0
ERROR_MAX: Final = 200
_KEEP_ALIVE_S: Final = 30.0
"""How long an idle connection is kept: a changed address of a name is noticed after it. Chosen."""
_USER_AGENT: Final = "stakelog-webhooks"


class Sending:
    """The connections to one endpoint. Made in the running loop."""

    def __init__(self, url: str, guard: Guard, connections: int, *, within_s: float = WITHIN_S) -> None:
        self._url, self._within_s = url, within_s
        scheme = urlsplit(url).scheme
        self._resolver = _Resolver(guard, scheme)

        def checked_socket(info: Any) -> socket.socket:
            family, kind, protocol, _, to = info
            _check(guard, [to[0]], scheme)
            return socket.socket(family, kind, protocol)

        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=connections,
                resolver=self._resolver,
                use_dns_cache=False,
                keepalive_timeout=_KEEP_ALIVE_S,
                ssl=ssl.create_default_context(),
                socket_factory=checked_socket,
            ),
            timeout=aiohttp.ClientTimeout(total=None),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            headers={"user-agent": _USER_AGENT},
        )

    async def post(self, headers: Headers, body: bytes) -> str:
        """One attempt. Returns why it failed; empty: the receiver took the event, by a status from 200 to 299."""
        headers = {**headers, "content-type": "application/json"}
        try:
            async with asyncio.timeout(self._within_s):
                got = await self._session.post(self._url, data=body, headers=headers, allow_redirects=False)
        except TimeoutError:
            return f"no response within {self._within_s:g} s"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return _short(f"{type(error).__name__}: {error}")
        with suppress(TimeoutError, aiohttp.ClientError, OSError):
            async with asyncio.timeout(_BODY_WITHIN_S), got:
                left = BODY_MAX
                while left > 0 and (part := await got.content.read(left)):
                    left -= len(part)
        return _error_of(got.status)

    async def close(self) -> None:
        await self._session.close()
        self._resolver.shut()


def _error_of(status: int) -> str:
    if 200 <= status < 300:
        return ""
    return f"status {status}" + (": redirects are not followed" if 300 <= status < 400 else "")


def _short(text: str) -> str:
    """ASCII of one line: it is stored and shown."""
    return text.encode("ascii", "replace").decode().replace("\n", " ")[:ERROR_MAX]


def _check(guard: Guard, addresses: Sequence[str], scheme: str) -> None:
    """Raises OSError, which aiohttp takes for a connection that failed."""
    try:
        guard.check([ip_address(address) for address in addresses], scheme)
    except AddressRefused as refused:
        raise OSError(errno.EACCES, str(refused)) from refused


_Addresses = list[tuple[Any, ...]]
"""As ``socket.getaddrinfo`` returns them."""


class _Names:
    """A thread that looks names up, one after the other.

    It is a daemon: a process that ends does not wait for it. It would wait for a thread of a ThreadPoolExecutor, and
    a look-up cannot be ended: it may take half a minute.
    """

    def __init__(self) -> None:
        self._asked: SimpleQueue[tuple[Future[_Addresses], tuple[Any, ...]] | None] = SimpleQueue()
        self._thread: Thread | None = None

    async def look_up(self, *wanted: Any) -> _Addresses:
        """``wanted``: the parameters of ``socket.getaddrinfo``. Raises OSError."""
        if self._thread is None:
            self._thread = Thread(target=self._run, name="webhook-names", daemon=True)
            self._thread.start()
        found: Future[_Addresses] = Future()
        self._asked.put((found, wanted))
        return await asyncio.wrap_future(found)

    def _run(self) -> None:
        while (asked := self._asked.get()) is not None:
            found, wanted = asked
            if not found.set_running_or_notify_cancel():
                continue  # the request that asked has ended
            try:
                addresses = socket.getaddrinfo(*wanted)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is raised where it is awaited
                found.set_exception(error)
            else:
                found.set_result(addresses)

    def end(self) -> None:
        """The thread ends after the look-up that it is in. Who still waits was cancelled."""
        self._asked.put(None)


class _Resolver(AbstractResolver):
    """Looks names up in a thread of its own, and checks every address."""

    def __init__(self, guard: Guard, scheme: str) -> None:
        self._guard, self._scheme = guard, scheme
        self._names = _Names()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._names.look_up(host, port, family, socket.SOCK_STREAM)
        _check(self._guard, [str(address[0]) for *_, address in found], self._scheme)
        return [
            {
                "hostname": host,
                "host": str(address[0]),
                "port": port,
                "family": kind,
                "proto": protocol,
                "flags": socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            }
            for kind, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        """The connector calls it; ``shut`` ends the thread."""

    def shut(self) -> None:
        self._names.end()
