"""A client that reads a long history page by page, one request after another.

Each page is looked at: it has items, at most `limit`, and does not start where the previous page started.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from time import perf_counter
from urllib.parse import urlencode

import msgspec
import uvloop
from msgspec import Struct

from bench.figures import BenchError, Slice, slice_of
from bench.load import bodies
from bench.load.client import pool


class _Place(Struct):
    position: str
    time_us: int


class _Page(Struct):
    items: list[_Place]
    next_cursor: str | None


_page: msgspec.json.Decoder[_Page] = msgspec.json.Decoder(_Page)


def history_pages(port: int, *, filters: Mapping[str, str], pages: int, first_only: bool) -> Slice:
    """Pages of the long wallet's history; ``done`` is pages, each latency one page's.

    Follows the cursors from the first page to the last, and again, until ``pages`` were read. ``first_only``: reads
    the first page that many times. Raises BenchError.
    """

    async def run() -> Slice:
        took_s = array("d")
        cursor: str | None = None
        before = ""
        began = perf_counter()
        async with pool(port) as connections, connections.client() as client:
            while len(took_s) < pages:
                query = {**filters, "limit": str(bodies.PAGE), **({} if cursor is None else {"cursor": cursor})}
                page = _page.decode(
                    await client.ask(bodies.get(f"/v1/wallets/{bodies.LONG}/history?{urlencode(query)}"))
                )
                took_s.append(client.took_s)
                _check(page, before, last=page.next_cursor is None)
                cursor = None if first_only else page.next_cursor
                before = "" if cursor is None else page.items[0].position
        return slice_of(len(took_s), perf_counter() - began, took_s)

    return uvloop.run(run())


def times_of(port: int) -> tuple[int, int]:
    """The times of the long history's first and last line. Raises BenchError."""

    async def run() -> tuple[int, int]:
        async with pool(port) as connections, connections.client() as client:
            newest = _page.decode(await client.ask(bodies.get(f"/v1/wallets/{bodies.LONG}/history?limit=1")))
            opened = _page.decode(
                await client.ask(bodies.get(f"/v1/wallets/{bodies.LONG}/history?limit=1&asset=GOLD&type=deposited"))
            )
            return opened.items[0].time_us, newest.items[0].time_us

    return uvloop.run(run())


def _check(page: _Page, before: str, *, last: bool) -> None:
    lines = len(page.items)
    if not lines or lines > bodies.PAGE or (lines < bodies.PAGE and not last):
        raise BenchError(f"a history page has {lines} lines")
    if page.items[0].position == before:
        raise BenchError(f"two history pages in a row begin at {before}")
