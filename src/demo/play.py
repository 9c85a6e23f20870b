"""Game servers over real HTTP: they post the day's traffic, and read each wallet from its writer at the end.

Invariants:

1. The commands of a post go out in order. The posts of one wave are under way together (`traffic.server`,
   invariant 2).
2. A command without a definite response (no connection, no response in time, 429, 5xx) is posted again under the
   same `command_id` for at most `RETRY_FOR_S`, after `Retry-After` if the service names one.
3. In a batch only the elements without a definite response are posted again, in their order.
4. The books get each response, also the responses to deliberate copies.
"""

from __future__ import annotations

import asyncio
import random
import time
from array import array
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

import msgspec

from demo.books.books import Books
from demo.books.wallets import ACCEPTED, CommandResponse
from demo.login import Senders
from demo.traffic.plan import Fault, Planned, Post, Wave
from demo.traffic.server import GameServer
from http_client.client import AsyncClient
from http_client.login import Credentials
from http_client.paths import page_path, path_of, with_query
from http_client.responses import NoUsableResponse, Response, UnexpectedResponse
from http_client.retry import NOT_DEFINITE, Policy

RETRY_FOR_S = 60.0
"""Chosen: longer than a restart of the service, and about as long as a visitor waits for the demo."""

REQUEST_TIMEOUT_S = 30.0
QUIET_TIMEOUT_S = 20.0
"""How long transfers and expiries may take to arrive after the last command. Chosen, far above any hand-over."""

READS_AT_ONCE = 32
POSTS_AT_ONCE = 128

POLICY = Policy(
    within_s=RETRY_FOR_S,
    statuses=NOT_DEFINITE,
    pause_s_max=2.0,
    timeout_s=REQUEST_TIMEOUT_S,
    connections=POSTS_AT_ONCE,
)

T = TypeVar("T")
Progress = Callable[[str, int], None]
"""Called with the players' time ("18:30") and the number of commands that just got their response."""

AfterWave = Callable[[GameServer, Wave], Awaitable[None]]
"""Called when all commands of a server's wave have their response. The server waits for its end."""


@dataclass(slots=True)
class Tally:
    """Counts and latencies of the requests. Latencies are in milliseconds: of single commands, of whole batches, and
    of each kind of read. A read with `min_position` includes the wait for that position."""

    commands: int = 0
    accepted: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    batches: int = 0
    copies_sent: int = 0
    copies_hit: int = 0
    responses_lost: int = 0
    retries: int = 0
    single_ms: array[float] = field(default_factory=lambda: array("d"))
    batch_ms: array[float] = field(default_factory=lambda: array("d"))
    reads_ms: dict[str, array[float]] = field(default_factory=dict)
    not_modified: int = 0

    @property
    def reads(self) -> int:
        """The number of reads of all kinds that got a response."""
        return sum(len(of_kind) for of_kind in self.reads_ms.values())


@dataclass(slots=True)
class Comparison:
    """The service's wallets compared with the books: how many were read, and each difference as a sentence."""

    wallets: int = 0
    differences: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Read:
    """A client app's read. `document` is empty if the status is not 200."""

    status: int
    document: dict[str, Any]
    etag: str | None


class CountingClient:
    """One service over HTTP, with a tally of the requests. Use as `async with CountingClient(url, tally) as client`.

    All methods raise NoUsableResponse after `RETRY_FOR_S` without a definite response, and UnexpectedResponse for a
    response that the contract does not have.
    """

    def __init__(self, url: str, tally: Tally, senders: Senders) -> None:
        """`url` without a path, as `http://127.0.0.1:8080`. Raises BadAddress."""
        self._tally, self._senders = tally, senders
        self._breaks = random.Random()  # noqa: S311 - the moment of a broken connection need not be repeatable
        self.http = AsyncClient(url, POLICY, self._count_retry, senders.reader)

    @property
    def reader(self) -> Credentials | None:
        """Who reads, where the service has a login."""
        return self._senders.reader

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.close()

    async def is_ready(self) -> bool:
        """Whether the response to `GET /readyz` is 200 now."""
        try:
            return (await self.http.once("GET", "/readyz")).status == 200
        except NoUsableResponse:
            return False

    async def get(self, kind: str, path: str, etag: str | None = None) -> Read:
        """GET as client apps do, counted under `kind`; with an ETag the response may be 304."""
        headers = {} if etag is None else {"If-None-Match": etag}

        async def once() -> Read:
            began = time.perf_counter()
            response = await self.http.once("GET", path, headers=headers)
            self._tally.reads_ms.setdefault(kind, array("d")).append((time.perf_counter() - began) * 1e3)
            self._tally.not_modified += response.status == 304
            document = response.json() if response.status == 200 else {}
            return Read(response.status, document, response.headers.get("etag"))

        return await self.http.until_usable(once)

    async def wallet(self, user_id: str) -> dict[str, Any] | None:
        """The wallet as its writer knows it, or None if it was never opened."""
        response = await self.http.get(with_query(path_of("wallets", user_id), {"consistency": "strong"}))
        found: dict[str, Any] | None = response.json() if response.expect(200, 404).status == 200 else None
        return found

    async def grants(self, user_id: str) -> list[dict[str, Any]]:
        """All grants of the wallet, newest first."""
        path, items = path_of("wallets", user_id, "grants"), list[dict[str, Any]]()
        cursor: str | None = None
        while True:
            page = (await self.http.get(page_path(path, {}, limit=200, cursor=cursor))).expect(200).json()
            items += page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return items

    async def play(self, post: Post) -> list[tuple[Planned, CommandResponse]]:
        """Send the post with its fault. Returns each response, copies included, in the order for the books."""
        if post.batch:
            return await self._with_fault(post.planned, post.actor, post.fault, batch=True)
        responses: list[tuple[Planned, CommandResponse]] = []
        for planned in post.planned:
            responses += await self._with_fault((planned,), post.actor, post.fault, batch=False)
        return responses

    async def _with_fault(
        self, planned: tuple[Planned, ...], actor: str | None, fault: Fault, *, batch: bool
    ) -> list[tuple[Planned, CommandResponse]]:
        self._tally.commands += len(planned)
        if fault is Fault.RESPONSE_LOST:
            await self._lose_response(planned, actor, batch=batch)
        if fault is not Fault.TWICE:
            responses = await self._post(planned, actor, batch=batch)
            self._tally.copies_sent += sum(item.again for item in planned)
            self._tally.copies_hit += sum(r.hit for p, r in zip(planned, responses, strict=True) if p.again)
            return list(zip(planned, responses, strict=True))
        both = await run_all(self._post(planned, actor, batch=batch) for _ in range(2))
        paired: list[tuple[Planned, CommandResponse]] = []
        for item, one, two in zip(planned, *both, strict=True):
            self._tally.copies_sent += 1
            self._tally.copies_hit += one.hit or two.hit
            paired += [(item, one), (item, two)]
        return paired

    async def _lose_response(self, planned: tuple[Planned, ...], actor: str | None, *, batch: bool) -> None:
        """Post, and break the connection before the response comes, or just as it comes."""
        self._tally.responses_lost += 1
        try:
            async with asyncio.timeout(self._breaks.uniform(0, 0.01)):
                await self._request(planned, actor, batch=batch)
        except (TimeoutError, NoUsableResponse):
            pass

    async def _post(self, planned: tuple[Planned, ...], actor: str | None, *, batch: bool) -> list[CommandResponse]:
        """One definite response for each command."""
        definite: dict[int, CommandResponse] = {}

        async def once() -> list[CommandResponse]:
            missing = [at for at in range(len(planned)) if at not in definite]
            began = time.perf_counter()
            got = await self._request([planned[at] for at in missing], actor, batch=batch)
            (self._tally.batch_ms if batch else self._tally.single_ms).append((time.perf_counter() - began) * 1e3)
            definite.update((at, one) for at, one in zip(missing, got, strict=True) if one.status not in NOT_DEFINITE)
            if len(definite) < len(planned):
                indefinite = next(response for response in got if response.status in NOT_DEFINITE)
                raise NoUsableResponse(f"the outcome of an element of a batch was {indefinite.outcome}")
            return [definite[at] for at in range(len(planned))]

        return await self.http.until_usable(once)

    async def _request(self, planned: Sequence[Planned], actor: str | None, *, batch: bool) -> list[CommandResponse]:
        """One HTTP request by each sender, without a retry. After a failure the later senders wait for the next
        attempt, as the later commands of one batch do: otherwise they would overtake what failed."""
        responses: list[CommandResponse] = []
        for sender, part in self._senders.parts(planned, actor):
            failed = next((response for response in responses if response.status in NOT_DEFINITE), None)
            if failed is None:
                responses += await self._request_of(sender, part, batch=batch)
            else:
                responses += [failed] * len(part)
        return responses

    async def _request_of(
        self, sender: str | None, planned: Sequence[Planned], *, batch: bool
    ) -> list[CommandResponse]:
        self._tally.requests += 1
        self._tally.batches += batch
        headers = {"Content-Type": "application/json", **await self._senders.headers(sender)}
        commands = [item.command for item in planned]
        path = path_of("commands", "batch") if batch else path_of("commands")
        body = msgspec.json.encode(commands if batch else commands[0])
        response = await self.http.once("POST", path, body=body, headers=headers)
        if batch:
            return _elements(response.expect(200), len(commands))
        return [CommandResponse(response.status, response.headers.get("idempotency-hit") == "true", response.json())]

    def _count_retry(self) -> None:
        self._tally.retries += 1


def _elements(response: Response, commands: int) -> list[CommandResponse]:
    """Raises UnexpectedResponse."""
    items: list[dict[str, Any]] = response.json()
    if len(items) != commands:
        raise UnexpectedResponse(f"{response.path} returned {len(items)} responses to {commands} commands", response)
    return [
        CommandResponse(
            item["status"], bool(item.get("idempotency_hit")), item.get("result") or item.get("problem") or {}
        )
        for item in items
    ]


async def play_day(
    client: CountingClient,
    servers: Sequence[GameServer],
    books: Books,
    tally: Tally,
    progress: Progress,
    after_wave: AfterWave,
) -> None:
    """Play all servers at once, to the end of the day.

    Raises ClientError; then the other servers stop too.
    """

    async def one(server: GameServer) -> None:
        for wave in server.waves():
            for post in wave.posts:
                for planned in post.planned:
                    if ACCEPTED in planned.may:
                        books.sending(planned.command)
            await run_all(send(post) for post in wave.posts)
            await after_wave(server, wave)
            progress(wave.clock, wave.size())

    async def send(post: Post) -> None:
        outcomes: dict[tuple[object, object], str] = {}
        for planned, response in await client.play(post):
            books.responded(planned.command, response, planned.may)
            outcomes[planned.command.get("user_id"), planned.command["command_id"]] = response.outcome
            if planned.again and response.accepted and not response.hit:
                books.surprises.append(
                    f"{planned.command['user_id']}: {planned.command['command_id']} took effect twice"
                )
        for outcome in outcomes.values():
            if outcome == ACCEPTED:
                tally.accepted += 1
            else:
                tally.refused[outcome] += 1

    await run_all(one(server) for server in servers)


async def compare(client: CountingClient, books: Books, progress: Callable[[int], None]) -> Comparison:
    """Settle the books and read every wallet until it agrees, or until `QUIET_TIMEOUT_S` have passed.

    `progress` gets the number of wallets that agree so far. Raises ClientError.
    """
    due_us = books.latest_due_us()
    await asyncio.sleep(max(due_us - books.clock_us, 0) / 1e6)
    books.settle(due_us)
    result = Comparison(wallets=len(books.wallets))
    at_once = asyncio.Semaphore(READS_AT_ONCE)

    async def differences_of(user_id: str) -> tuple[str, list[str]]:
        async with at_once:
            wallet = books.wallet(user_id)
            if wallet.awaited:
                books.surprises += books.money.grants_read(wallet, await client.grants(user_id))
            return user_id, books.differences(user_id, await client.wallet(user_id))

    unsettled = sorted(books.wallets)
    deadline_s = time.monotonic() + QUIET_TIMEOUT_S
    while True:
        read = await run_all(differences_of(user_id) for user_id in unsettled)
        differing = {user_id: found for user_id, found in read if found}
        progress(result.wallets - len(differing))
        if not differing or time.monotonic() > deadline_s:
            result.differences = [line for found in differing.values() for line in found]
            return result
        unsettled = sorted(differing)
        await asyncio.sleep(0.3)


async def run_all(parts: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run all at once; returns the results in order. After a failure the others are stopped, and the first is raised.

    Not `asyncio.gather`: it lets the others run on after the first failure.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(part) for part in parts]
    except BaseExceptionGroup as several:
        raise several.exceptions[0] from several
    return [task.result() for task in tasks]
