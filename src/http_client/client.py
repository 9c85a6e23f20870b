"""`Client` and `AsyncClient`: the same calls, blocking or on asyncio."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from typing import Any, Final, Self, TypeVar

import httpx
from tenacity import AsyncRetrying, Retrying

from http_client.login import Credentials, Login
from http_client.paths import events_path, records_of
from http_client.responses import BadAddress, NoUsableResponse, Response
from http_client.retry import Policy, options
from http_client.transport import AiohttpTransport

EVENTS_A_PAGE: Final = 5_000
"""Chosen: some 3 MB; the contract's largest page is 10,000."""

T = TypeVar("T")


class _Rules:
    """What both clients share: the options of httpx, and which failures are retried."""

    def __init__(
        self,
        url: str,
        policy: Policy,
        on_retry: Callable[[], None] | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        """`url`: `http://host:port`, with a path in front of `/v1` if a proxy needs one. Raises BadAddress.

        `on_retry` is called before each retry. `credentials`: whose requests these are; None: without login.
        """
        self.url = url.rstrip("/")
        self._policy = policy
        self._has_responded = False
        try:
            parts = httpx.URL(self.url)
            usable = parts.scheme in ("http", "https") and bool(parts.host)
        except (httpx.InvalidURL, TypeError):
            usable = False
        if not usable:
            raise BadAddress(f"{url} is not an address: write http://host:port")
        self._httpx_options: dict[str, Any] = {
            "base_url": self.url,
            "timeout": httpx.Timeout(policy.timeout_s, pool=None),
            "limits": httpx.Limits(max_connections=policy.connections, max_keepalive_connections=policy.connections),
            # The machine's own certificates, as other programs here use them; none are read for plain HTTP.
            "verify": ssl.create_default_context() if parts.scheme == "https" else False,
            "trust_env": False,
        }
        self._login = None if credentials is None else Login(self.url, credentials)
        self._retry_options = options(policy, self._may_retry, on_retry)

    def _may_retry(self, error: BaseException) -> bool:
        if self._policy.first_connection or self._has_responded:
            return True
        return isinstance(error, NoUsableResponse) and error.response is not None

    def _usable(self, method: str, path: str, got: httpx.Response) -> Response:
        self._has_responded = True
        headers = {name.lower(): value for name, value in got.headers.items()}
        response = Response(method, path, got.status_code, headers, got.content)
        if response.status in self._policy.statuses:
            raise NoUsableResponse(f"{method} {path} returned status {response.status}: {response.shown}", response)
        return response

    def _failed(self, method: str, path: str, error: Exception) -> NoUsableResponse:
        return NoUsableResponse(f"{method} {path} of {self.url} failed: {type(error).__name__} {error}".rstrip())


class Client(_Rules):
    """Blocking. Threads may share one client; each request uses an idle connection, or a new one."""

    def __init__(
        self,
        url: str,
        policy: Policy,
        on_retry: Callable[[], None] | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        """As `_Rules`. Raises BadAddress."""
        super().__init__(url, policy, on_retry, credentials)
        self._client = httpx.Client(**self._httpx_options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._client.close()

    def get(self, path: str) -> Response:
        """Any status but those that are retried. Raises NoUsableResponse."""
        return Retrying(**self._retry_options)(self._once, path)

    def events(self, partition: int, from_seq: int, to_seq: int) -> Iterator[list[bytes]]:
        """The partition's records of these seqs, in order, in pages; fewer if the log ends before `to_seq`.

        Raises NoUsableResponse, UnexpectedResponse.
        """
        while from_seq <= to_seq:
            limit = min(EVENTS_A_PAGE, to_seq - from_seq + 1)
            page = records_of(self.get(events_path(partition, from_seq, limit)).expect(200).body)
            if not page:
                return
            from_seq += len(page)
            yield page

    def _once(self, path: str) -> Response:
        headers = {} if self._login is None else {"Authorization": self._login.header()}
        try:
            got = self._client.get(path, headers=headers)
        except httpx.HTTPError as error:
            raise self._failed("GET", path, error) from error
        return self._usable("GET", path, got)


class AsyncClient(_Rules):
    """On asyncio. A request ends within `timeout_s`, however slowly its response arrives."""

    def __init__(
        self,
        url: str,
        policy: Policy,
        on_retry: Callable[[], None] | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        """As `_Rules`. Raises BadAddress."""
        super().__init__(url, policy, on_retry, credentials)
        transport = AiohttpTransport(policy.connections, self._httpx_options["verify"])
        self._client = httpx.AsyncClient(**self._httpx_options, transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._client.aclose()

    async def get(self, path: str) -> Response:
        """Any status but those that are retried. Raises NoUsableResponse."""

        async def once() -> Response:
            return await self.once("GET", path)

        return await self.until_usable(once)

    async def events(self, partition: int, from_seq: int, to_seq: int) -> AsyncIterator[list[bytes]]:
        """The partition's records of these seqs, in order, in pages; fewer if the log ends before `to_seq`.

        Raises NoUsableResponse, UnexpectedResponse.
        """
        while from_seq <= to_seq:
            limit = min(EVENTS_A_PAGE, to_seq - from_seq + 1)
            page = records_of((await self.get(events_path(partition, from_seq, limit))).expect(200).body)
            if not page:
                return
            from_seq += len(page)
            yield page

    async def until_usable(self, attempt: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The result of the first attempt that does not raise NoUsableResponse. Raises the last one.

        `attempt` is an `async def`: tenacity does not await the result of a plain function.
        """
        return await AsyncRetrying(**self._retry_options)(attempt)

    async def once(
        self, method: str, path: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Response:
        """One request, without a retry. Raises NoUsableResponse, UnexpectedResponse."""
        login = self._login
        if login is not None:
            header = login.header() if login.is_current else await asyncio.to_thread(login.header)
            headers = {"Authorization": header, **(headers or {})}
        try:
            async with asyncio.timeout(self._policy.timeout_s):
                got = await self._client.request(method, path, content=body, headers=headers)
        except (httpx.HTTPError, TimeoutError) as error:
            raise self._failed(method, path, error) from error
        return self._usable(method, path, got)
