"""Live feeds of the running service: over HTTP and WebSockets, over its ends, and with connections that break."""

import asyncio
import re
import socket
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, Final

import aiohttp
import httpx
import pytest

from system.feeds import WITHIN_S, Event, EventSource, FeedEnded, Poster, SocketSource
from system.logins import LoggedIn
from system.service import Service

pytestmark = pytest.mark.system

USERS: Final = [f"u{number}" for number in range(4)]
CASH: Final = 1_000_000
BETS: Final = 25
"""Of each user, in the test of random drops."""

Source = type[EventSource] | type[SocketSource]
BOTH: Final = pytest.mark.parametrize("source", [EventSource, SocketSource])


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Service(tmp_path_factory.mktemp("live") / "data", PARTITIONS="4") as service:
        yield service
    assert "Traceback" not in service.log_text()


@pytest.fixture
def poster(service: Service) -> Poster:
    return Poster(service.url)


async def opened(poster: Poster, user_id: str) -> None:
    await poster.post("open_wallet", user_id)
    await poster.post("deposit", user_id, order_id="o1", asset="INR", amount=CASH)


async def bet(poster: Poster, user_id: str, bet_id: str, stake: int = 10) -> Any:
    fields = {"game": "external", "period": "p", "selection": "s", "asset": "INR", "stake": stake}
    return await poster.post("place_bet", user_id, bet_id=bet_id, **fields)


async def feeds_open(service: Service) -> int:
    async with httpx.AsyncClient(base_url=service.url) as client:
        text = (await client.get("/metrics")).text
    found = re.search(r"^stakelog_live_feeds ([0-9.]+)$", text, re.MULTILINE)
    assert found is not None
    return int(float(found[1]))


async def until_open(service: Service, number: int) -> None:
    async with asyncio.timeout(WITHIN_S):
        while await feeds_open(service) != number:  # noqa: ASYNC110 - another process's
            await asyncio.sleep(0.05)


@BOTH
async def test_a_feed_has_what_changes_as_it_changes(service: Service, poster: Poster, source: Source) -> None:
    user_id = f"alone-{source.__name__}"
    await opened(poster, user_id)
    async with source(service.url, f"user_id={user_id}") as feed:
        event = await feed.next()
        # It may have begun before wallet and deposit were folded.
        while event.name != "balance" or event.data["balances"].get("INR", {}).get("cash") != CASH:
            event = await feed.next()
        placed = await bet(poster, user_id, "b1")
        events = [await feed.next(), await feed.next()]
        assert [one.name for one in events] == ["bet", "balance"]
        assert events[0].data["position"] == placed["position"]
        assert events[1].data["balances"]["INR"]["cash"] == CASH - 10
        assert events[1].data["as_of"]["position"] == placed["position"]
    await until_open(service, 0)


async def test_the_headers_of_a_feed_keep_proxies_and_caches_from_holding_it(service: Service) -> None:
    async with EventSource(service.url, "game=wingo_30s") as feed:
        headers = feed.response.headers
        assert headers["content-type"] == "text/event-stream"
        assert (headers["cache-control"], headers["x-accel-buffering"]) == ("no-store", "no")
        assert "content-length" not in headers
        assert (await feed.next()).name == "distribution"


@BOTH
async def test_a_client_that_is_gone_is_noticed(service: Service, source: Source) -> None:
    async with source(service.url, "user_id=alone") as feed:
        await feed.next()
        await until_open(service, 1)
    await until_open(service, 0)


@BOTH
async def test_a_stop_ends_every_feed_and_says_so(tmp_path: Path, source: Source) -> None:
    service = Service(tmp_path / "data", PARTITIONS="1")
    await asyncio.to_thread(service.start)
    unread = socket.create_connection(("127.0.0.1", service.port))
    try:
        unread.sendall(b"GET /v1/live?user_id=u1 HTTP/1.1\r\nhost: x\r\n\r\n")
        async with source(service.url, "user_id=u1") as feed:
            await feed.next()
            await until_open(service, 2)
            stopping = asyncio.create_task(asyncio.to_thread(service.stop))
            assert await feed.next() == Event("", "dropped", {"reason": "shutting_down"})
            with pytest.raises(FeedEnded, match=r"CLOSE|Stop"):
                await feed.next()
            await stopping
    finally:
        unread.close()
        if service.process is not None:
            service.kill()
    assert "Traceback" not in service.log_text()


@BOTH
async def test_a_token_that_is_revoked_ends_its_feed(tmp_path: Path, source: Source) -> None:
    service = LoggedIn(tmp_path / "data", PARTITIONS="1")
    await asyncio.to_thread(service.start)
    try:
        server = await asyncio.to_thread(service.add, "game-1", "game_server")
        pair = (await asyncio.to_thread(server.post, "/v1/auth/players", {"user_id": "u1"})).json()
        async with source(service.url, "user_id=u1", token=pair["access_token"]) as feed:
            await feed.next()
            answer = await asyncio.to_thread(server.post, "/v1/auth/logout", {"refresh_token": pair["refresh_token"]})
            assert answer.status == 204
            assert await feed.next() == Event("", "dropped", {"reason": "token_revoked"})
            with pytest.raises(FeedEnded, match=r"CLOSE|Stop"):
                await feed.next()
    finally:
        await asyncio.to_thread(service.stop)


# --- WebSockets ----------------------------------------------------------------------------------------------------


async def refusal(url: str, **options: Any) -> int:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with aiohttp.ClientSession() as session, session.ws_connect(url, **options):
            pass
    return refused.value.status


async def test_a_socket_is_refused_as_a_request_is(service: Service) -> None:
    assert await refusal(f"{service.url}/v1/live/ws") == 400
    assert await refusal(f"{service.url}/v1/live/ws?game=unknown") == 404
    assert await refusal(f"{service.url}/v1/live/other?user_id=u1") == 404
    assert await refusal(f"{service.url}/v1/wallets/u1") == 404
    assert await refusal(f"{service.url}/v1/live/ws?user_id=u1", origin="https://evil.example") == 403
    async with SocketSource(service.url, "user_id=u1", origin=service.url) as feed:
        await feed.next()
    async with EventSource(service.url, "user_id=u1") as after:
        await after.next()


async def test_a_socket_takes_the_token_as_a_subprotocol_and_refuses_without(tmp_path: Path) -> None:
    service = LoggedIn(tmp_path / "data", PARTITIONS="1")
    await asyncio.to_thread(service.start)
    try:
        server = await asyncio.to_thread(service.add, "game-1", "game_server")
        pair = (await asyncio.to_thread(server.post, "/v1/auth/players", {"user_id": "u1"})).json()
        url, token = f"{service.url}/v1/live/ws", pair["access_token"]
        assert await refusal(f"{url}?user_id=u1") == 401
        assert await refusal(f"{url}?user_id=u1", protocols=["stakelog", "bearer.x"]) == 401
        assert await refusal(f"{url}?user_id=u2", protocols=["stakelog", f"bearer.{token}"]) == 403
        async with SocketSource(service.url, "", token=token) as feed:
            assert feed.socket.protocol == "stakelog"
            await feed.next()
        assert token not in service.log_text()
    finally:
        await asyncio.to_thread(service.stop)


# --- connections that break ----------------------------------------------------------------------------------------


class Expected:
    """The changes of bets as the responses to the commands say, and the last wallets."""

    def __init__(self) -> None:
        self.bets: dict[str, list[tuple[str, str, str]]] = {user_id: [] for user_id in USERS}
        """User → (position of the change, bet_id, status), in order."""
        self.balances: dict[str, Any] = {}
        """User → the balances at the end; empty before."""

    def add(self, user_id: str, position: str, bet_id: str, status: str) -> None:
        self.bets[user_id].append((position, bet_id, status))

    def are_in(self, events: list[Event], user_ids: list[str]) -> bool:
        """Whether the end was reached, and as many events have come."""
        last = {event.data["user_id"]: event.data["balances"] for event in events if event.name == "balance"}
        bets = sum(event.name == "bet" for event in events)
        return all(
            user_id in self.balances and last.get(user_id) == self.balances[user_id] for user_id in user_ids
        ) and (bets >= sum(len(self.bets[user_id]) for user_id in user_ids))

    def check(self, events: list[Event], user_ids: list[str]) -> None:
        assert {event.data["user_id"] for event in events} == set(user_ids)
        for user_id in user_ids:
            own = [event for event in events if event.data["user_id"] == user_id]
            bets = [event.data for event in own if event.name == "bet"]
            assert [
                (one["settled_position"] or one["position"], one["bet_id"], one["status"]) for one in bets
            ] == self.bets[user_id]
            wallets = [event.data for event in own if event.name == "balance"]
            seqs = [int(wallet["as_of"]["position"].partition(":")[2]) for wallet in wallets]
            assert seqs == sorted(set(seqs)), "a wallet came twice, or an older one after a newer one"
            assert all(one["balances"] != other["balances"] for one, other in pairwise(wallets)), "nothing changed"


class Follower:
    """Follows users over connections that break off at random, and keeps what it got."""

    def __init__(self, service: Service, source: Source, user_ids: list[str], chance: Random) -> None:
        self.user_ids = user_ids
        self._service, self._source, self._chance = service, source, chance
        self._query = "&".join(f"user_id={user_id}" for user_id in user_ids)
        self._last_id = ""
        self.events: list[Event] = []
        self.drops = 0

    async def begin(self) -> None:
        async with self._source(self._service.url, self._query) as feed:
            self._keep(await feed.next())
        assert self._last_id

    async def follow(self, expected: Expected) -> None:
        async with asyncio.timeout(4 * WITHIN_S):
            while not expected.are_in(self.events, self.user_ids):
                try:
                    await self._connect(expected)
                except FeedEnded:
                    self.drops += 1
                except TimeoutError:
                    continue
                except (aiohttp.ClientError, httpx.TransportError, OSError):
                    await asyncio.sleep(0.05)  # the service starts again

    async def _connect(self, expected: Expected) -> None:
        limit = {"bytes_max": self._chance.randrange(1, 6_000)}
        if self._source is SocketSource:
            limit = {"messages_max": self._chance.randrange(1, 12)}
        async with self._source(self._service.url, self._query, self._last_id, **limit) as feed:  # type: ignore[arg-type]
            while not expected.are_in(self.events, self.user_ids):
                # Everything may have come before it was known to be everything.
                self._keep(await asyncio.wait_for(feed.next(), 0.5))

    def _keep(self, event: Event) -> None:
        self._last_id = event.id or self._last_id
        if event.name in ("bet", "balance"):
            self.events.append(event)


async def play(poster: Poster, expected: Expected, user_id: str, bet_id: str, chance: Random) -> None:
    """One bet, and how it ends."""
    placed = await bet(poster, user_id, bet_id, stake=chance.randrange(1, 500))
    expected.add(user_id, placed["position"], bet_id, "open")
    payout = chance.choice([None, 0, 7, 900])
    if payout is None:
        ended = await poster.post("cancel_bet", user_id, bet_id=bet_id)
        expected.add(user_id, ended["position"], bet_id, "cancelled")
    else:
        ended = await poster.post("settle_bet", user_id, bet_id=bet_id, payout=payout)
        expected.add(user_id, ended["position"], bet_id, "won" if payout else "lost")


async def test_connections_that_break_at_random_and_a_killed_service_lose_nothing_and_repeat_nothing(
    tmp_path: Path,
) -> None:
    chance = Random(20)
    service = Service(tmp_path / "data", PARTITIONS="2", FEEDS_PER_USER="100")
    await asyncio.to_thread(service.start)
    poster, expected = Poster(service.url), Expected()
    followers = [
        Follower(service, source, user_ids, chance)
        for source in (EventSource, SocketSource)
        for user_ids in (USERS, USERS[:1])
    ]
    try:
        for user_id in USERS:
            await opened(poster, user_id)
        for follower in followers:
            await follower.begin()
        following = [asyncio.create_task(follower.follow(expected)) for follower in followers]
        for number in range(BETS):
            await asyncio.gather(*(play(poster, expected, user_id, f"b{number}", chance) for user_id in USERS))
            if number == BETS // 2:
                await asyncio.to_thread(service.kill)
                await asyncio.to_thread(service.start)
                poster.url = service.url
        async with httpx.AsyncClient(base_url=service.url, timeout=WITHIN_S) as client:
            for user_id in USERS:
                position = expected.bets[user_id][-1][0]
                answer = await client.get(f"/v1/wallets/{user_id}?min_position={position}&timeout_ms=10000")
                expected.balances[user_id] = answer.json()["balances"]
        await asyncio.gather(*following)
    finally:
        await asyncio.to_thread(service.kill)
    for follower in followers:
        expected.check(follower.events, follower.user_ids)
    assert sum(follower.drops for follower in followers) > BETS, "the connections did not break"
