"""Requests to the service: login, deadlines, and which responses are retried.

A request is tried until it gets a definite response or its deadline is over, with random pauses that grow and are
never shorter than `Retry-After`, up to 2 s. Every request may be sent twice: reads change nothing, and the service
detects a repeated command by its id.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from typing import Any, Final, NoReturn

import httpx
import msgspec
from msgspec import Struct

from stakelog_client.errors import NotYetVisible, Refused, Unavailable, UnexpectedResponse
from stakelog_client.generated.refusals import BY_CODE

_PAUSE_S: Final = 0.05
_PAUSE_S_MAX: Final = 2.0
_RENEW_S: Final = 60.0
"""An access token is renewed this long before it ends."""
_SILENT_S: Final = 45.0
"""A stream without a byte for this long has lost its connection: the service sends a heartbeat every 15 s."""
_RETRIED_STATUSES: Final = frozenset({408, 429, 500, 502, 503, 504})

NOT_SENT: Final = "not_sent"
_NOTHING_WRITTEN: Final = frozenset(
    {NOT_SENT, "not_owner", "overloaded", "log_unavailable", "shutting_down", "rate_limited", "request_timeout"}
)
"""With these codes the request was certainly not carried out."""


class Ambiguous(Exception):
    """No definite response: the request may have been carried out. Callers of the library never get it.

    `retry_after_s`: the pause that the service asked for. `code`: the code of its problem, or `NOT_SENT`, or "".
    """

    def __init__(self, why: str, retry_after_s: float | None = None, code: str = "") -> None:
        super().__init__(why)
        self.retry_after_s, self.code = retry_after_s, code

    @property
    def nothing_written(self) -> bool:
        """Whether the request was certainly not carried out."""
        return self.code in _NOTHING_WRITTEN


class ProblemBody(Struct):
    """`application/problem+json`: the members that the client uses."""

    code: str = ""
    status: int = 0
    detail: str = ""


class _Token(Struct):
    access_token: str
    refresh_token: str
    expires_in: float


def refusal_of(body: bytes, status: int) -> Refused:
    """The exception of a refusal. Raises UnexpectedResponse if the body is no problem of this service."""
    try:
        fields: dict[str, Any] = msgspec.json.decode(body, type=dict[str, Any])
        code, detail = str(fields["code"]), str(fields["detail"])
    except (msgspec.MsgspecError, KeyError):
        shown = body[:200].decode(errors="replace")
        raise UnexpectedResponse(f"status {status} with a body that is no problem: {shown!r}") from None
    others = {name: fields[name] for name in fields.keys() - {"type", "title", "status", "detail", "code"}}
    return BY_CODE.get(code, Refused)(code, status, detail, others)


def pause_s(attempt: int, asked_s: float | None) -> float:
    """How long to wait before the next attempt: random, longer with each attempt, at least what the service asked
    for."""
    most = min(_PAUSE_S * 2**attempt, _PAUSE_S_MAX)
    return max(random.uniform(most / 2, most), min(asked_s or 0.0, _PAUSE_S_MAX))  # noqa: S311  # no secret


class Session:
    """One connection pool and one login. Used from one event loop."""

    def __init__(
        self,
        url: str,
        client_id: str | None,
        client_secret: str | None,
        connections: int,
        transport: httpx.AsyncBaseTransport | None,
    ) -> None:
        self._client_id, self._client_secret = client_id, client_secret
        self._token: _Token | None = None
        self._token_until_s = 0.0
        self._renewing = asyncio.Lock()
        self._url, self._transport = url, transport
        self._streams: httpx.AsyncClient | None = None
        self._closed = False
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        self._connections = transport or httpx.AsyncHTTPTransport(limits=limits, trust_env=False)
        # For logins. Each request has a deadline of its own: see `_once`.
        self._http = httpx.AsyncClient(
            base_url=url,
            timeout=None,  # noqa: S113
            trust_env=False,
            transport=self._connections,
        )

    async def close(self) -> None:
        self._closed = True
        await self._http.aclose()
        if self._streams is not None:
            await self._streams.aclose()

    async def send(self, method: str, path: str, body: bytes | None, deadline_s: float) -> httpx.Response:
        """One attempt, until `deadline_s` (monotonic seconds). Returns a response whose status is below 400.

        Raises Refused, UnexpectedResponse, and Ambiguous where a later attempt may succeed.
        """
        token = await self._access_token(deadline_s, None)
        response = await self._once(method, path, body, deadline_s, token)
        if response.status_code == 401 and token is not None:
            # The token was revoked, or the service's keys have changed: log in once more.
            token = await self._access_token(deadline_s, token)
            response = await self._once(method, path, body, deadline_s, token)
        if response.status_code >= 400:
            self._raise_for(response)
        return response

    async def open_stream(self, path: str, headers: Mapping[str, str], deadline_s: float) -> httpx.Response:
        """A response whose body arrives as long as the caller reads, and has not begun to. The caller closes it.

        Raises as `send`, and Unavailable once the client is closed. Reading raises httpx.HTTPError.
        """
        if self._closed:
            raise Unavailable("the client was closed")
        if self._streams is None:
            # A pool of its own: streams must not take the connections that commands need.
            self._streams = httpx.AsyncClient(
                base_url=self._url,
                limits=httpx.Limits(max_connections=None),
                timeout=httpx.Timeout(None, read=_SILENT_S),
                trust_env=False,
                transport=self._transport,
            )
        token = await self._access_token(deadline_s, None)
        response = await self._opened(self._streams, path, headers, deadline_s, token)
        if response.status_code == 401 and token is not None:
            await response.aclose()
            token = await self._access_token(deadline_s, token)
            response = await self._opened(self._streams, path, headers, deadline_s, token)
        if response.status_code >= 400:
            try:
                await response.aread()
            except httpx.HTTPError as error:
                raise Ambiguous(f"the connection broke: {type(error).__name__} {error}") from error
            finally:
                await response.aclose()
            self._raise_for(response)
        return response

    async def _opened(
        self, http: httpx.AsyncClient, path: str, headers: Mapping[str, str], deadline_s: float, token: str | None
    ) -> httpx.Response:
        login = {} if token is None else {"Authorization": f"Bearer {token}"}
        request = http.build_request("GET", path, headers={**headers, **login})
        try:
            async with asyncio.timeout(_left_s(deadline_s)):
                return await http.send(request, stream=True)
        except TimeoutError:
            raise Ambiguous("no response within the deadline") from None
        except httpx.HTTPError as error:
            raise Ambiguous(f"no connection: {type(error).__name__} {error}") from error

    def _raise_for(self, response: httpx.Response) -> NoReturn:
        if response.status_code in _RETRIED_STATUSES:
            self._raise_ambiguous(response)
        raise refusal_of(response.content, response.status_code)

    def _raise_ambiguous(self, response: httpx.Response) -> NoReturn:
        try:
            problem = msgspec.json.decode(response.content, type=ProblemBody)
        except msgspec.MsgspecError:
            problem = ProblemBody()
        asked = response.headers.get("Retry-After", "")
        why = f"status {response.status_code} {problem.code or 'without a code'}"
        raise Ambiguous(why, float(asked) if asked.isdecimal() else None, problem.code)

    async def _once(
        self, method: str, path: str, body: bytes | None, deadline_s: float, token: str | None
    ) -> httpx.Response:
        headers = {"Accept-Encoding": "gzip"} if body is None else {"Content-Type": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        try:
            async with asyncio.timeout(_left_s(deadline_s)):
                return await self._exchanged(httpx.Request(method, self._url + path, content=body, headers=headers))
        except TimeoutError:
            raise Ambiguous("no response within the deadline") from None
        except httpx.ConnectError as error:
            raise Ambiguous(f"no connection: {error}", code=NOT_SENT) from error
        except httpx.HTTPError as error:
            raise Ambiguous(f"the connection broke: {type(error).__name__} {error}") from error

    async def _exchanged(self, request: httpx.Request) -> httpx.Response:
        """Directly on the connections: what `httpx.AsyncClient` adds, such as cookies and redirects, costs a quarter
        of a request's processor time."""
        response = await self._connections.handle_async_request(request)
        try:
            await response.aread()
        except BaseException:
            await response.aclose()
            raise
        return response

    async def _access_token(self, deadline_s: float, refused: str | None) -> str | None:
        """The current token; None without login. One task renews it, the others wait. `refused`: a token that the
        service no longer accepts."""
        if self._client_id is None:
            return None
        try:
            async with asyncio.timeout(_left_s(deadline_s)), self._renewing:
                ended = time.monotonic() >= self._token_until_s
                if self._token is None or ended or self._token.access_token == refused:
                    self._token = await self._new_token()
                    self._token_until_s = time.monotonic() + max(self._token.expires_in - _RENEW_S, 1.0)
                return self._token.access_token
        # Whatever the login came to, the request itself was not sent.
        except Ambiguous as error:
            raise Ambiguous(f"the login failed: {error}", error.retry_after_s, NOT_SENT) from error
        except (TimeoutError, httpx.HTTPError) as error:
            raise Ambiguous(f"the login failed: {type(error).__name__} {error}", code=NOT_SENT) from error

    async def _new_token(self) -> _Token:
        if self._token is not None:
            refreshed = await self._http.post("/v1/auth/refresh", json={"refresh_token": self._token.refresh_token})
            if refreshed.status_code == 200:
                return msgspec.json.decode(refreshed.content, type=_Token)
        body = {"client_id": self._client_id, "client_secret": self._client_secret}
        response = await self._http.post("/v1/auth/token", json=body)
        if response.status_code != 200:
            self._raise_for(response)
        return msgspec.json.decode(response.content, type=_Token)


def _left_s(deadline_s: float) -> float:
    """Raises Ambiguous if the deadline is over."""
    left_s = deadline_s - time.monotonic()
    if left_s <= 0:
        raise Ambiguous("the deadline is over", code=NOT_SENT)
    return left_s


async def until_definite(
    session: Session, method: str, path: str, deadline_s: float, body: bytes | None = None
) -> httpx.Response:
    """A request that may be sent twice, tried until the deadline. Raises Refused, UnexpectedResponse, Unavailable."""
    attempt = 0
    while True:
        try:
            return await session.send(method, path, body, deadline_s)
        except Ambiguous as error:
            wait_s = pause_s(attempt, error.retry_after_s)
            if time.monotonic() + wait_s >= deadline_s:
                kind = NotYetVisible if error.code == "not_yet_visible" else Unavailable
                raise kind(f"{method} {path}: {error}") from error
            attempt += 1
        await asyncio.sleep(wait_s)
