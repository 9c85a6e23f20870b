"""Client apps over real HTTP: during the day they read what their users look at, and each response is checked.

Invariants:

1. The users of a game server read between two of its waves, when none of their commands is under way. They read with
   the ``min_position`` of their last command: the response must include all that they did (`expected_reads`,
   invariant 1).
2. An app that already has a wallet or statistics sends its ETag. After a 304 the kept document must still be true.
3. Lists are read page by page, as far as a user scrolls.
4. What the ledger does by itself for the users of a wave, and what the next commands depend on, is read until it is
   there: a claimed referral code, a referrer by a code, and the shares of a gift (`demo.books.flows`, invariant 4).
5. Approvers read the queue, and all users the leaderboards, while the servers play. Their ``min_position`` is the
   last position of each partition.
6. At the end `every_wallet` reads each wallet whole, with no command under way.

Each response that does not fit adds a sentence to `Apps.findings`. Only `ClientError` is raised.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from random import Random
from typing import Any

from demo.books import expected_flows, expected_reads
from demo.books.books import Books
from demo.play import READS_AT_ONCE, RETRY_FOR_S, CountingClient, Read, run_all
from demo.traffic.plan import Wave
from demo.traffic.server import GameServer
from http_client.paths import page_path, path_of, with_query

PHONE_PAGE = 30
"""Items of a page on a phone. Chosen."""
LARGEST_PAGE = 200
"""The contract's largest page."""
BOARD = 100
FOLLOW_UP_PAUSE_S = 0.02
STATUSES = (None, None, "open", "won", "lost", "cancelled")
BOARDS = tuple(f"{measure}_{span}" for measure in ("staked", "won", "net") for span in ("day", "week", "month"))

# Chosen: about one read for every eight commands, so that a day takes only a few seconds longer.
SESSIONS = (0, 0, 1, 1)
READ_SHARES = {"history": 0.3, "bets": 0.25, "statistics": 0.25, "order": 0.2}
QUEUE_EVERY, BOARD_EVERY = 40, 60
"""Of a server's waves."""

Filters = Mapping[str, str | int | None]
Positions = Mapping[int, int]
"""Partition → seq."""


class Apps:
    """The apps of all users. ``findings``: one sentence for each response that does not fit."""

    def __init__(self, client: CountingClient, books: Books, seed: int) -> None:
        self.findings: list[str] = []
        self._client, self._books = client, books
        self._rng = Random(f"{seed}/apps")  # noqa: S311 - which screens are opened, no secret
        self._kept: dict[str, Read] = {}

    async def after_wave(self, server: GameServer, wave: Wave) -> None:
        """Read what the users of the wave look at, and sometimes the queue or a leaderboard.

        The wave has its responses, and the next one has not started. Raises ClientError.
        """
        users = sorted({user_id for post in wave.posts for user_id in post.user_ids() if ":" not in user_id})
        users = [user_id for user_id in users if self._books.wallet(user_id).status is not None]
        await self._follow_ups(users)
        readers = self._rng.sample(users, min(self._rng.choice(SESSIONS), len(users)))
        sessions = [self._session(user_id) for user_id in readers]
        if self._rng.random() < 1 / QUEUE_EVERY:
            sessions.append(self._queue())
        if self._rng.random() < 1 / BOARD_EVERY:
            sessions.append(self._leaderboard(server))
        await run_all(sessions)

    async def every_wallet(self, least: Positions, progress: Callable[[int], None]) -> None:
        """Read every wallet of the books whole, at ``least`` or later. The books are settled.

        ``progress`` gets the number of wallets read so far. Raises ClientError.
        """
        at_once = asyncio.Semaphore(READS_AT_ONCE)
        done = 0

        async def one(user_id: str) -> None:
            nonlocal done
            async with at_once:
                await self._all_of(user_id, least)
            done += 1
            progress(done)

        await run_all(one(user_id) for user_id in sorted(self._books.wallets))

    # -- one user ---------------------------------------------------------------------------------------------------

    async def _session(self, user_id: str) -> None:
        least = self._least(user_id)
        await self._wallet(user_id, least, settled=False)
        wallet = self._books.wallet(user_id)
        if wallet.awaited:
            await self._take_grants(user_id)
        if self._rng.random() < READ_SHARES["history"]:
            await self._history(user_id, least, pages=self._rng.choice((1, 1, 2, 3)), limit=PHONE_PAGE)
        if self._rng.random() < READ_SHARES["bets"]:
            status = self._rng.choice(STATUSES)
            await self._bets(user_id, least, status, pages=self._rng.choice((1, 2)), limit=PHONE_PAGE)
        if self._rng.random() < READ_SHARES["statistics"]:
            await self._statistics(user_id, least, settled=False)
        if wallet.orders and self._rng.random() < READ_SHARES["order"]:
            await self._order(user_id, least, self._rng.choice(list(wallet.orders)))

    async def _all_of(self, user_id: str, least: Positions) -> None:
        wallet = self._books.wallet(user_id)
        if wallet.status is None:
            read = await self._client.get("wallet", path_of("wallets", user_id))
            if read.status != 404:
                self._find([f"{user_id}: is found, in the books never opened"])
            return
        own = {wallet.partition: least[wallet.partition]}
        await self._wallet(user_id, own, settled=True)
        await self._statistics(user_id, own, settled=True)
        await self._grants(user_id, own)
        await self._referrals(user_id, own)
        await self._history(user_id, own, pages=None, limit=LARGEST_PAGE)
        await self._bets(user_id, own, None, pages=None, limit=LARGEST_PAGE)

    async def _wallet(self, user_id: str, least: Positions, *, settled: bool) -> None:
        path = path_of("wallets", user_id)
        document = await self._with_etag("wallet", path, least)
        if document is not None:
            differences = lambda: self._books.differences(user_id, document, settled=settled)  # noqa: E731
            self._find(expected_reads.shaped(path, differences))

    async def _statistics(self, user_id: str, least: Positions, *, settled: bool) -> None:
        path = path_of("wallets", user_id, "stats")
        document = await self._with_etag("statistics", path, least)
        if document is not None:
            wallet = self._books.wallet(user_id)
            self._find(
                expected_reads.shaped(path, lambda: expected_reads.statistics(wallet, document, settled=settled))
            )

    async def _with_etag(self, kind: str, path: str, least: Positions) -> dict[str, Any] | None:
        """The document after a request with the ETag of the kept document, if any; None after a wrong status."""
        kept = self._kept.get(path)
        asked = with_query(path, {"min_position": _positions(least)})
        read = await self._client.get(kind, asked, etag=None if kept is None else kept.etag)
        if read.status == 304 and kept is not None:
            return kept.document
        if read.status != 200:
            self._find([f"GET {path} returned status {read.status}"])
            return None
        if read.etag is None:
            self._find([f"GET {path} returned no ETag"])
        self._find(expected_reads.shaped(path, lambda: expected_reads.as_of(path, read.document, least)))
        self._kept[path] = read
        return read.document

    async def _history(self, user_id: str, least: Positions, *, pages: int | None, limit: int) -> None:
        path = path_of("wallets", user_id, "history")
        items, whole = await self._pages(f"history page of {limit}", path, {}, least, pages=pages, limit=limit)
        wallet = self._books.wallet(user_id)
        self._find(expected_reads.shaped(path, lambda: expected_reads.history(wallet, items, whole=whole)))

    async def _bets(
        self, user_id: str, least: Positions, status: str | None, *, pages: int | None, limit: int
    ) -> None:
        path = path_of("wallets", user_id, "bets")
        filters = {"status": status}
        items, whole = await self._pages(f"bets page of {limit}", path, filters, least, pages=pages, limit=limit)
        wallet = self._books.wallet(user_id)
        self._find(expected_reads.shaped(path, lambda: expected_reads.bets(wallet, items, status, whole=whole)))

    async def _order(self, user_id: str, least: Positions, order_id: str) -> None:
        path = path_of("orders", user_id, order_id)
        document = await self._document("order", path, path, least)
        if document is not None:
            wallet = self._books.wallet(user_id)
            self._find(expected_reads.shaped(path, lambda: expected_reads.order(wallet, order_id, document)))

    async def _grants(self, user_id: str, least: Positions) -> None:
        path = path_of("wallets", user_id, "grants")
        items, _ = await self._pages("grants page", path, {}, least, pages=None, limit=LARGEST_PAGE)
        wallet = self._books.wallet(user_id)
        self._find(expected_reads.shaped(path, lambda: expected_flows.grants(wallet, items)))

    async def _referrals(self, user_id: str, least: Positions) -> None:
        path = path_of("wallets", user_id, "referrals")
        document = await self._document("referrals", path, path, least)
        if document is not None:
            wallet = self._books.wallet(user_id)
            self._find(expected_reads.shaped(path, lambda: expected_flows.referrals(wallet, document)))

    # -- what the ledger does by itself -----------------------------------------------------------------------------

    async def _follow_ups(self, users: Sequence[str]) -> None:
        """Read what the users wait for, until it is there."""
        money = self._books.money
        waits: list[Coroutine[Any, Any, None]] = []
        for user_id in users:
            wallet = self._books.wallet(user_id)
            if wallet.code is not None and wallet.code not in money.codes:
                waits.append(self._until(f"{user_id}: the code {wallet.code}", self._code_is_granted, user_id))
            if wallet.referrer_coming is not None:
                waits.append(self._until(f"{user_id}: the referrer by a code", self._referrer_is_set, user_id))
        claimed = {code for code, gift in money.gifts.items() if not set(gift.under_way()).isdisjoint(users)}
        waits += [self._until(f"the gift {code} as in the books", self._gift_is_shared, code) for code in claimed]
        await run_all(waits)

    async def _until(self, what: str, is_there: Callable[[str], Awaitable[bool]], name: str) -> None:
        deadline_s = time.monotonic() + RETRY_FOR_S
        while not await is_there(name):
            if time.monotonic() > deadline_s:
                self._find([f"{what} did not come within {RETRY_FOR_S:.0f} s"])
                return
            await asyncio.sleep(FOLLOW_UP_PAUSE_S)

    async def _code_is_granted(self, user_id: str) -> bool:
        code = self._books.wallet(user_id).code
        assert code is not None
        read = await self._client.get("referral code", path_of("referral-codes", code))
        if read.status != 200:
            return False
        if read.document.get("user_id") != user_id:
            self._find([f"{user_id}: the code {code} is of {read.document.get('user_id')}"])
        self._books.money.codes[code] = user_id
        return True

    async def _referrer_is_set(self, user_id: str) -> bool:
        read = await self._client.get("wallet", path_of("wallets", user_id))
        wallet = self._books.wallet(user_id)
        self._books.money.referrer_read(wallet, read.document.get("referrer_id"))
        return wallet.referrer_coming is None

    async def _gift_is_shared(self, code: str) -> bool:
        gift = self._books.money.gifts[code]
        await run_all(self._take_grants(user_id) for user_id in gift.under_way())
        self._find(self._books.money.shares_read(code))
        if gift.under_way():
            return False
        path = path_of("gifts", code)
        read = await self._client.get("gift", path)
        return read.status == 200 and not expected_flows.gift(gift, read.document)

    async def _take_grants(self, user_id: str) -> None:
        """Read the wallet's grants for the places of those that the ledger gave by itself."""
        path = path_of("wallets", user_id, "grants")
        least = self._least(user_id)
        items, _ = await self._pages("grants page", path, {}, least, pages=None, limit=LARGEST_PAGE)
        wallet = self._books.wallet(user_id)
        self._find(expected_reads.shaped(path, lambda: self._books.money.grants_read(wallet, items)))

    # -- lists of all users -----------------------------------------------------------------------------------------

    async def _queue(self) -> None:
        path = path_of("orders")
        queue = expected_reads.Queue(self._books)
        items, _ = await self._pages(
            "queue page of 50",
            path,
            {"kind": "withdrawal", "status": "pending"},
            dict(self._books.ends),
            pages=None,
            limit=50,
            several=True,
            after_first_page=queue.after_first_page,
        )
        self._find(expected_reads.shaped(path, lambda: queue.check(items)))

    async def _leaderboard(self, server: GameServer) -> None:
        name, asset = self._rng.choice(BOARDS), self._rng.choice(("INR", "INR", "USDT", "GOLD"))
        path = path_of("leaderboards", name)
        asked = with_query(path, {"asset": asset, "limit": BOARD})
        document = await self._document("leaderboard", path, asked, dict(self._books.ends), several=True)
        if document is not None:
            mine = [player.user_id for player in server.opened]
            check = lambda: expected_reads.leaderboard(self._books, mine, name, asset, document, BOARD)  # noqa: E731
            self._find(expected_reads.shaped(path, check))

    # -- small leaves -----------------------------------------------------------------------------------------------

    async def _pages(
        self,
        kind: str,
        path: str,
        filters: Filters,
        least: Positions,
        *,
        pages: int | None,
        limit: int,
        several: bool = False,
        after_first_page: Callable[[], None] = lambda: None,
    ) -> tuple[list[dict[str, Any]], bool]:
        """The items of at most ``pages`` pages (None: of all), and whether these are all items."""
        items: list[dict[str, Any]] = []
        cursor: str | None = None
        while pages is None or pages > 0:
            pages = None if pages is None else pages - 1
            asked = page_path(path, filters, limit=limit, cursor=cursor)
            document = await self._document(kind, path, asked, least, several=several)
            if document is None:
                break
            if cursor is None:
                after_first_page()
            items += document.get("items", [])
            cursor = document.get("next_cursor")
            if cursor is None:
                return items, True
        return items, False

    async def _document(
        self, kind: str, path: str, asked: str, least: Positions, *, several: bool = False
    ) -> dict[str, Any] | None:
        """``asked``: the path with its query. None after a wrong status, which is a finding."""
        min_position = _positions(least)
        if min_position is not None:
            asked += ("&" if "?" in asked else "?") + f"min_position={min_position}"
        read = await self._client.get(kind, asked)
        if read.status != 200:
            self._find([f"GET {path} returned status {read.status}"])
            return None
        self._find(
            expected_reads.shaped(path, lambda: expected_reads.as_of(path, read.document, least, several=several))
        )
        return read.document

    def _least(self, user_id: str) -> dict[int, int]:
        wallet = self._books.wallet(user_id)
        return {wallet.partition: wallet.seq}

    def _find(self, findings: list[str]) -> None:
        self.findings += findings


def _positions(least: Positions) -> str | None:
    return ",".join(f"{partition}:{seq}" for partition, seq in sorted(least.items())) or None
