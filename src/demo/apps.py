"""Client apps over real HTTP: during the day they read what their users look at, and each answer is checked.

Numbered truths:

1. A game server's users read between two of its waves, when none of their commands is under way, with
   ``min_position`` of their own last answer: what they are told must hold all that they did (`views`, truth 1).
2. An app that has a wallet or statistics already asks with its ETag; after a 304 what it has must still be true.
3. Lists are read page by page, as far as a user scrolls.
4. Approvers read the queue, everybody the leaderboards, while all servers go on: ``min_position`` there is the last
   answer of each partition.
5. In the end `every_wallet` is read whole, with nothing under way at all.

What does not fit is one more of `Apps.findings`; nothing here raises but `play.UnreachableError`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from random import Random
from typing import Any
from urllib.parse import quote, urlencode

from demo.books import views
from demo.books.books import Books
from demo.play import READS_AT_ONCE, Client, Read, together
from demo.traffic.plan import Wave
from demo.traffic.server import GameServer

SCROLLED = 30
"""Items of a page on a phone. Chosen."""
WHOLE = 200
"""The contract's largest page."""
BOARD = 100
STATUSES = (None, None, "open", "won", "lost", "cancelled")
BOARDS = tuple(f"{measure}_{span}" for measure in ("staked", "won", "net") for span in ("day", "week", "month"))

# Chosen: about a read for every eight commands, so that a day takes but a few seconds longer.
SESSIONS = (0, 0, 1, 1)
MOODS = {"history": 0.3, "bets": 0.25, "statistics": 0.25, "order": 0.2}
QUEUE_EVERY, BOARD_EVERY = 40, 60
"""Of a server's waves."""


class Apps:
    """The apps of all users. ``findings``: one sentence for each answer that does not fit."""

    def __init__(self, client: Client, books: Books, seed: int) -> None:
        self.findings: list[str] = []
        self._client, self._books = client, books
        self._rng = Random(f"{seed}/apps")  # noqa: S311 - which screens are looked at, no secret
        self._kept: dict[str, Read] = {}

    async def look(self, server: GameServer, wave: Wave) -> None:
        """What the users of a server's last wave look at, and now and then an approver, or everybody. The wave is
        answered and the next one has not begun. Raises UnreachableError."""
        users = sorted({user_id for post in wave.posts for user_id in post.user_ids()})
        users = [user_id for user_id in users if self._books.wallet(user_id).status is not None]
        looking = self._rng.sample(users, min(self._rng.choice(SESSIONS), len(users)))
        sessions = [self._session(user_id) for user_id in looking]
        if self._rng.random() < 1 / QUEUE_EVERY:
            sessions.append(self._queue())
        if self._rng.random() < 1 / BOARD_EVERY:
            sessions.append(self._leaderboard(server))
        await together(sessions)

    async def every_wallet(self, least: Mapping[int, int], progress: Callable[[int], None]) -> None:
        """Read every wallet of the books whole, true at ``least`` or later; the books are settled.

        ``progress`` is told how many were read. Raises UnreachableError.
        """
        at_once = asyncio.Semaphore(READS_AT_ONCE)
        done = 0

        async def one(user_id: str) -> None:
            nonlocal done
            async with at_once:
                await self._all_of(user_id, least)
            done += 1
            progress(done)

        await together(one(user_id) for user_id in sorted(self._books.wallets))

    # -- one user ---------------------------------------------------------------------------------------------------

    async def _session(self, user_id: str) -> None:
        least = self._least(user_id)
        await self._wallet(user_id, least, settled=False)
        wallet = self._books.wallet(user_id)
        if self._rng.random() < MOODS["history"]:
            await self._history(user_id, least, pages=self._rng.choice((1, 1, 2, 3)), limit=SCROLLED)
        if self._rng.random() < MOODS["bets"]:
            status = self._rng.choice(STATUSES)
            await self._bets(user_id, least, status, pages=self._rng.choice((1, 2)), limit=SCROLLED)
        if self._rng.random() < MOODS["statistics"]:
            await self._statistics(user_id, least)
        if wallet.orders and self._rng.random() < MOODS["order"]:
            await self._order(user_id, least, self._rng.choice(list(wallet.orders)))

    async def _all_of(self, user_id: str, least: Mapping[int, int]) -> None:
        wallet = self._books.wallet(user_id)
        if wallet.status is None:
            read = await self._client.get("wallet", f"/v1/wallets/{_path(user_id)}")
            if read.status != 404:
                self._find([f"{user_id}: is found, in the books never opened"])
            return
        own = {wallet.partition: least[wallet.partition]}
        await self._wallet(user_id, own, settled=True)
        await self._statistics(user_id, own)
        await self._history(user_id, own, pages=None, limit=WHOLE)
        await self._bets(user_id, own, None, pages=None, limit=WHOLE)

    async def _wallet(self, user_id: str, least: Mapping[int, int], *, settled: bool) -> None:
        path = f"/v1/wallets/{_path(user_id)}"
        seen = await self._known("wallet", path, least)
        if seen is not None:
            self._find(views.shaped(path, lambda: self._books.differences(user_id, seen, settled=settled)))

    async def _statistics(self, user_id: str, least: Mapping[int, int]) -> None:
        path = f"/v1/wallets/{_path(user_id)}/stats"
        seen = await self._known("statistics", path, least)
        if seen is not None:
            self._find(views.shaped(path, lambda: views.statistics(self._books.wallet(user_id), seen)))

    async def _known(self, kind: str, path: str, least: Mapping[int, int]) -> dict[str, Any] | None:
        """What an app knows after asking with the ETag of what it has, if any; None if there was no such answer."""
        kept = self._kept.get(path)
        read = await self._client.get(kind, f"{path}?{_asked(least)}", etag=None if kept is None else kept.etag)
        if read.status == 304 and kept is not None:
            return kept.document
        if read.status != 200:
            self._find([f"GET {path} answered {read.status}"])
            return None
        if read.etag is None:
            self._find([f"GET {path} answered without an ETag"])
        self._find(views.shaped(path, lambda: views.as_of(path, read.document, least)))
        self._kept[path] = read
        return read.document

    async def _history(self, user_id: str, least: Mapping[int, int], *, pages: int | None, limit: int) -> None:
        path = f"/v1/wallets/{_path(user_id)}/history"
        items, whole = await self._pages(f"history page of {limit}", path, {}, least, pages=pages, limit=limit)
        wallet = self._books.wallet(user_id)
        self._find(views.shaped(path, lambda: views.history(wallet, items, whole=whole)))

    async def _bets(
        self, user_id: str, least: Mapping[int, int], status: str | None, *, pages: int | None, limit: int
    ) -> None:
        path = f"/v1/wallets/{_path(user_id)}/bets"
        filters = {} if status is None else {"status": status}
        items, whole = await self._pages(f"bets page of {limit}", path, filters, least, pages=pages, limit=limit)
        wallet = self._books.wallet(user_id)
        self._find(views.shaped(path, lambda: views.bets(wallet, items, status, whole=whole)))

    async def _order(self, user_id: str, least: Mapping[int, int], order_id: str) -> None:
        path = f"/v1/orders/{_path(user_id)}/{_path(order_id)}"
        seen = await self._found("order", path, {}, least)
        if seen is not None:
            self._find(views.shaped(path, lambda: views.order(self._books.wallet(user_id), order_id, seen)))

    # -- everybody --------------------------------------------------------------------------------------------------

    async def _queue(self) -> None:
        queue = views.Queue(self._books)
        filters = {"kind": "withdrawal", "status": "pending"}
        items, _ = await self._pages(
            "queue page of 50",
            "/v1/orders",
            filters,
            dict(self._books.ends),
            pages=None,
            limit=50,
            several=True,
            begun=queue.begun,
        )
        self._find(views.shaped("/v1/orders", lambda: queue.check(items)))

    async def _leaderboard(self, server: GameServer) -> None:
        name, asset = self._rng.choice(BOARDS), self._rng.choice(("INR", "INR", "USDT", "GOLD"))
        path = f"/v1/leaderboards/{name}"
        asked = {"asset": asset, "limit": str(BOARD)}
        seen = await self._found("leaderboard", path, asked, dict(self._books.ends), several=True)
        if seen is not None:
            mine = [player.user_id for player in server.here]
            self._find(views.shaped(path, lambda: views.leaderboard(self._books, mine, name, asset, seen, BOARD)))

    # -- small leaves -----------------------------------------------------------------------------------------------

    async def _pages(
        self,
        kind: str,
        path: str,
        filters: Mapping[str, str],
        least: Mapping[int, int],
        *,
        pages: int | None,
        limit: int,
        several: bool = False,
        begun: Callable[[], None] = lambda: None,
    ) -> tuple[list[dict[str, Any]], bool]:
        """The items of at most so many pages (None: all), and whether those are all; ``begun`` after the first."""
        items: list[dict[str, Any]] = []
        cursor: str | None = None
        while pages is None or pages > 0:
            pages = None if pages is None else pages - 1
            asked = {**filters, "limit": str(limit), **({} if cursor is None else {"cursor": cursor})}
            seen = await self._found(kind, path, asked, least, several=several)
            if seen is None:
                break
            if cursor is None:
                begun()
            items += seen.get("items", [])
            cursor = seen.get("next_cursor")
            if cursor is None:
                return items, True
        return items, False

    async def _found(
        self, kind: str, path: str, asked: Mapping[str, str], least: Mapping[int, int], *, several: bool = False
    ) -> dict[str, Any] | None:
        query = "&".join(part for part in (urlencode(asked), _asked(least)) if part)
        read = await self._client.get(kind, f"{path}?{query}")
        if read.status != 200:
            self._find([f"GET {path} answered {read.status}"])
            return None
        self._find(views.shaped(path, lambda: views.as_of(path, read.document, least, several=several)))
        return read.document

    def _least(self, user_id: str) -> dict[int, int]:
        wallet = self._books.wallet(user_id)
        return {wallet.partition: wallet.seq}

    def _find(self, findings: list[str]) -> None:
        self.findings += findings


def _asked(least: Mapping[int, int]) -> str:
    if not least:
        return ""
    return "min_position=" + ",".join(f"{partition}:{seq}" for partition, seq in sorted(least.items()))


def _path(part: str) -> str:
    return quote(part, safe="")
