"""Game servers over real HTTP: they post the day's traffic, and read the wallets back at the end, from their writers.

Numbered truths:

1. A post's commands go out in order; the posts of one wave are under way together (`traffic`, truth 2).
2. A command without a definite answer (no connection, no answer in time, 429, 5xx) is posted again under the same
   `command_id`, after `Retry-After` if the service names one, for at most `PATIENCE_S`; then `UnreachableError`.
3. In a batch only the elements without a definite answer are posted again, in their order.
4. The books hear every answer, also those of deliberate copies.
"""

from __future__ import annotations

import asyncio
import random
import time
from array import array
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_delay
from tenacity.wait import wait_base, wait_random_exponential

from demo.books.books import Books
from demo.books.wallets import ACCEPTED, Answer
from demo.traffic.plan import Fault, Planned, Post, Wave
from demo.traffic.server import GameServer

PATIENCE_S = 60.0
"""Chosen: longer than a restart of the service, shorter than a visitor's patience with the demo."""

REQUEST_TIMEOUT_S = 30.0
QUIET_TIMEOUT_S = 20.0
"""How long transfers and expiries may take to arrive after the last command. Chosen, far above any hand-over."""

READS_AT_ONCE = 32
POSTS_AT_ONCE = 128

T = TypeVar("T")
Progress = Callable[[str, int], None]
"""Called with the players' time ("18:30") and the number of commands just answered."""


Look = Callable[[GameServer, Wave], Awaitable[None]]
"""Called when a server's wave is answered; the server waits for it."""


class UnreachableError(Exception):
    """The service gave no definite answer for `PATIENCE_S`, or answered what no such service answers."""


class _AgainError(Exception):
    """No definite answer yet; `retry_after_s` if the service named a wait."""

    def __init__(self, why: str, retry_after_s: float | None = None) -> None:
        super().__init__(why)
        self.retry_after_s = retry_after_s


@dataclass(slots=True)
class Tally:
    """What happened on the wire. Latencies are in milliseconds, of single commands, of whole batches, and of each
    kind of read; a read with `min_position` waits until its answer may be given."""

    commands: int = 0
    accepted: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    batches: int = 0
    copies_sent: int = 0
    copies_hit: int = 0
    answers_lost: int = 0
    retries: int = 0
    single_ms: array[float] = field(default_factory=lambda: array("d"))
    batch_ms: array[float] = field(default_factory=lambda: array("d"))
    reads_ms: dict[str, array[float]] = field(default_factory=dict)
    not_modified: int = 0

    @property
    def reads(self) -> int:
        """Reads of all kinds that were answered."""
        return sum(len(of_kind) for of_kind in self.reads_ms.values())


@dataclass(slots=True)
class Comparison:
    """The service's wallets beside the books: how many were read, and each difference as a sentence."""

    wallets: int = 0
    differences: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Read:
    """A client app's read. `document` is empty where the status is not 200."""

    status: int
    document: dict[str, Any]
    etag: str | None


class _Wait(wait_base):
    """`Retry-After` if given, else a short random wait that grows."""

    def __init__(self) -> None:
        self._otherwise = wait_random_exponential(multiplier=0.05, max=2)

    def __call__(self, retry_state: RetryCallState) -> float:
        error = retry_state.outcome.exception() if retry_state.outcome else None
        if isinstance(error, _AgainError) and error.retry_after_s is not None:
            return error.retry_after_s
        return self._otherwise(retry_state)


class Client:
    """One service over HTTP. Use as `async with Client(url) as client`."""

    def __init__(self, url: str, tally: Tally) -> None:
        """`url` without a path, as `http://127.0.0.1:8080`."""
        self._url = url.rstrip("/")
        self._tally = tally
        self._moods = random.Random()  # noqa: S311 - when a connection breaks need not be repeatable

    async def __aenter__(self) -> Client:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=POSTS_AT_ONCE),
            timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def is_ready(self) -> bool:
        """Whether `GET /readyz` answers 200 now."""
        try:
            async with self._session.get(f"{self._url}/readyz") as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def read(self, path: str) -> tuple[int, bytes]:
        """GET a path: status and body. Raises UnreachableError as `post` does."""

        async def once() -> tuple[int, bytes]:
            try:
                async with self._session.get(f"{self._url}{path}") as response:
                    body = await response.read()
                    _check_definite(response.status, response.headers.get("Retry-After"), body)
                    return response.status, body
            except (aiohttp.ClientError, TimeoutError) as error:
                raise _AgainError(_name(error)) from error

        return await self._patiently(once)

    async def get(self, kind: str, path: str, etag: str | None = None) -> Read:
        """GET as client apps do, counted under `kind`; with an ETag the answer may be 304.

        Raises UnreachableError as `post` does.
        """
        headers = {} if etag is None else {"If-None-Match": etag}

        async def once() -> Read:
            began = time.perf_counter()
            try:
                async with self._session.get(f"{self._url}{path}", headers=headers) as response:
                    body = await response.read()
                    _check_definite(response.status, response.headers.get("Retry-After"), body)
                    self._tally.reads_ms.setdefault(kind, array("d")).append((time.perf_counter() - began) * 1e3)
                    self._tally.not_modified += response.status == 304
                    document = _decoded(body) if response.status == 200 else {}
                    return Read(response.status, document, response.headers.get("ETag"))
            except (aiohttp.ClientError, TimeoutError) as error:
                raise _AgainError(_name(error)) from error

        return await self._patiently(once)

    async def wallet(self, user_id: str) -> dict[str, Any] | None:
        """The wallet as its writer knows it, or None if it was never opened."""
        status, body = await self.read(f"/v1/wallets/{quote(user_id, safe='')}?consistency=strong")
        if status not in (200, 404):
            raise UnreachableError(f"GET /v1/wallets/{user_id} answered {status}: {_shown(body)}")
        found: dict[str, Any] | None = _decoded(body) if status == 200 else None
        return found

    async def play(self, post: Post) -> list[tuple[Planned, Answer]]:
        """Post with the post's fault; every answer that came, copies included, in the order to be heard.

        Raises UnreachableError.
        """
        if post.batch:
            return await self._with_fault(post.planned, post.actor, post.fault, batch=True)
        heard: list[tuple[Planned, Answer]] = []
        for planned in post.planned:
            heard += await self._with_fault((planned,), post.actor, post.fault, batch=False)
        return heard

    async def _with_fault(
        self, planned: tuple[Planned, ...], actor: str | None, fault: Fault, *, batch: bool
    ) -> list[tuple[Planned, Answer]]:
        self._tally.commands += len(planned)
        if fault is Fault.ANSWER_LOST:
            await self._lose_answer(planned, actor, batch=batch)
        if fault is not Fault.TWICE:
            answers = await self._post(planned, actor, batch=batch)
            again = sum(item.again for item in planned)
            self._tally.copies_sent += again
            self._tally.copies_hit += sum(a.hit for p, a in zip(planned, answers, strict=True) if p.again)
            return list(zip(planned, answers, strict=True))
        both = await together(self._post(planned, actor, batch=batch) for _ in range(2))
        heard: list[tuple[Planned, Answer]] = []
        for item, one, two in zip(planned, *both, strict=True):
            self._tally.copies_sent += 1
            self._tally.copies_hit += one.hit or two.hit
            heard += [(item, one), (item, two)]
        return heard

    async def _lose_answer(self, planned: tuple[Planned, ...], actor: str | None, *, batch: bool) -> None:
        """Post and break the connection before, or just as, the answer comes."""
        self._tally.answers_lost += 1
        try:
            async with asyncio.timeout(self._moods.uniform(0, 0.01)):
                await self._request(planned, actor, batch=batch)
        except (TimeoutError, _AgainError):
            pass

    async def _post(self, planned: tuple[Planned, ...], actor: str | None, *, batch: bool) -> list[Answer]:
        """One definite answer for each command."""
        answers: dict[int, Answer] = {}

        async def once() -> list[Answer]:
            missing = [at for at in range(len(planned)) if at not in answers]
            began = time.perf_counter()
            got = await self._request([planned[at] for at in missing], actor, batch=batch)
            (self._tally.batch_ms if batch else self._tally.single_ms).append((time.perf_counter() - began) * 1e3)
            answers.update((at, one) for at, one in zip(missing, got, strict=True) if not _indefinite(one.status))
            if len(answers) < len(planned):
                vague = next(answer for answer in got if _indefinite(answer.status))
                raise _AgainError(vague.outcome)
            return [answers[at] for at in range(len(planned))]

        return await self._patiently(once)

    async def _request(self, planned: Sequence[Planned], actor: str | None, *, batch: bool) -> list[Answer]:
        """One HTTP request; raises _AgainError if it has no definite answer as a whole."""
        self._tally.requests += 1
        headers = {"Content-Type": "application/json"} | ({"Stakelog-Actor": actor} if actor else {})
        commands = [item.command for item in planned]
        path = "/v1/commands/batch" if batch else "/v1/commands"
        body = msgspec.json.encode(commands if batch else commands[0])
        self._tally.batches += batch
        try:
            async with self._session.post(f"{self._url}{path}", data=body, headers=headers) as response:
                answer = await response.read()
                _check_definite(response.status, response.headers.get("Retry-After"), answer)
                if not batch:
                    hit = response.headers.get("Idempotency-Hit") == "true"
                    return [Answer(response.status, hit, _decoded(answer))]
                if response.status != 200:
                    raise UnreachableError(f"POST {path} answered {response.status}: {_shown(answer)}")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _AgainError(_name(error)) from error
        items: list[dict[str, Any]] = _decoded(answer)
        if len(items) != len(commands):
            raise UnreachableError(f"POST {path} answered {len(items)} of {len(commands)} commands")
        return [
            Answer(item["status"], bool(item.get("idempotency_hit")), item.get("result") or item.get("problem") or {})
            for item in items
        ]

    async def _patiently(self, once: Callable[[], Awaitable[T]]) -> T:
        """Try until the answer is definite (truth 2)."""
        attempts = AsyncRetrying(
            stop=stop_after_delay(PATIENCE_S),
            wait=_Wait(),
            retry=retry_if_exception_type(_AgainError),
            before_sleep=self._count_retry,
            reraise=True,
        )
        try:
            return await attempts(once)
        except _AgainError as last:
            raise UnreachableError(f"no definite answer from {self._url} for {PATIENCE_S:.0f} s: {last}") from last

    def _count_retry(self, _: RetryCallState) -> None:
        self._tally.retries += 1


async def play_day(
    client: Client, servers: Sequence[GameServer], books: Books, tally: Tally, progress: Progress, look: Look
) -> None:
    """Play all servers at once, to the end of the day; after each wave the apps of its users `look`.

    Raises UnreachableError; then the other servers stop too.
    """

    async def one(server: GameServer) -> None:
        for wave in server.waves():
            for post in wave.posts:
                for planned in post.planned:
                    books.sending(planned.command)
            await together(heard(post) for post in wave.posts)
            await look(server, wave)
            progress(wave.clock, wave.size())

    async def heard(post: Post) -> None:
        outcomes: dict[tuple[object, object], str] = {}
        for planned, answer in await client.play(post):
            books.heard(planned.command, answer, planned.may)
            outcomes[planned.command.get("user_id"), planned.command["command_id"]] = answer.outcome
            if planned.again and answer.accepted and not answer.hit:
                books.surprises.append(f"{planned.command['user_id']}: {planned.command['command_id']} taken twice")
        for outcome in outcomes.values():
            if outcome == ACCEPTED:
                tally.accepted += 1
            else:
                tally.refused[outcome] += 1

    await together(one(server) for server in servers)


async def compare(client: Client, books: Books, progress: Callable[[int], None]) -> Comparison:
    """Settle the books and read every wallet until it agrees, or until `QUIET_TIMEOUT_S` have passed.

    `progress` is told how many wallets agree so far. Raises UnreachableError.
    """
    due_us = books.latest_due_us()
    await asyncio.sleep(max(due_us - books.clock_us, 0) / 1e6)
    books.settle(due_us)
    result = Comparison(wallets=len(books.wallets))
    at_once = asyncio.Semaphore(READS_AT_ONCE)

    async def look(user_id: str) -> tuple[str, list[str]]:
        async with at_once:
            return user_id, books.differences(user_id, await client.wallet(user_id))

    unsettled = sorted(books.wallets)
    deadline_s = time.monotonic() + QUIET_TIMEOUT_S
    while True:
        looked = await together(look(user_id) for user_id in unsettled)
        differing = {user_id: found for user_id, found in looked if found}
        progress(result.wallets - len(differing))
        if not differing or time.monotonic() > deadline_s:
            result.differences = [line for found in differing.values() for line in found]
            return result
        unsettled = sorted(differing)
        await asyncio.sleep(0.3)


async def together(parts: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run all at once; the results in order. After a failure the others are stopped, and the first is raised.

    Not `asyncio.gather`, which lets the others run on after the first failure.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(part) for part in parts]
    except BaseExceptionGroup as several:
        raise several.exceptions[0] from several
    return [task.result() for task in tasks]


def _check_definite(status: int, retry_after: str | None, body: bytes) -> None:
    if _indefinite(status):
        wait_s = float(retry_after) if retry_after and retry_after.isdigit() else None
        raise _AgainError(f"{status} {_shown(body)}", wait_s)


def _indefinite(status: int) -> bool:
    """Whether the same request may yet be taken: the service was busy, away, or unsure."""
    return status == 429 or status >= 500


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        raise UnreachableError(f"the service answered with something that is no JSON: {_shown(body)}") from error


def _shown(body: bytes) -> str:
    return body[:200].decode(errors="replace")


def _name(error: BaseException) -> str:
    return f"{type(error).__name__} {error}".strip()
