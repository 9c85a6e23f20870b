"""httpx's transport on asyncio, over aiohttp.

httpx's own transport looks at the socket of every idle connection before each request. Measured with 40 requests
under way on 128 connections: 3.5 ms of processor time a request, with aiohttp's pool 0.3 ms; the demo took twice the
time. Bodies are whole byte strings: nothing is streamed.
"""

from __future__ import annotations

import ssl

import aiohttp
import httpx
import yarl


class AiohttpTransport(httpx.AsyncBaseTransport):
    """Raises httpx.TransportError for every failure below HTTP. The caller bounds the time."""

    def __init__(self, connections: int, verify: ssl.SSLContext | bool) -> None:
        self._connections, self._verify = connections, verify
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._session is None:  # a session is made inside the running loop
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections, ssl=self._verify),
                timeout=aiohttp.ClientTimeout(total=None),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        url = yarl.URL(str(request.url), encoded=True)
        try:
            async with self._session.request(
                request.method, url, data=request.content or None, headers=request.headers.multi_items(),
                allow_redirects=False,
            ) as got:  # fmt: skip
                body = await got.read()
        except (aiohttp.ClientError, OSError) as error:
            raise httpx.TransportError(f"{type(error).__name__} {error}".rstrip()) from error
        return httpx.Response(got.status, headers=list(got.raw_headers), content=body)

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()
