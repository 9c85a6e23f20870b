"""Plays games with rules during the day: real periods of the shortest game of each kind that the service has.

In each period a few bets come early, and most bets in a burst before it closes. Two seconds after its end the game
server posts the result, or cancels the period, and the ledger ends every bet of it. The books compute what each pays.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Final

from demo.books.books import Books
from demo.books.wallets import ACCEPTED
from demo.play import CountingClient, Tally, run_all
from demo.traffic.games import Game, GameTraffic, Period
from demo.traffic.plan import Post
from http_client.paths import path_of

KINDS: Final = ("wingo", "trx_wix", "k3", "5d")
LENGTH_S_MAX: Final = 10
"""Games with longer periods are not played: the demo does not wait for them."""
RESULT_AFTER_S: Final = 2.0
CLOSES_BEFORE_S: Final = 0.5
"""As `close_ms` of the short games in `deploy/rules/betting-house.json`."""
BURST_S: Final = 0.6
_AGAIN_S: Final = 0.1
_RESULT_WITHIN_S: Final = 60.0
_CANCELLED_PERIOD: Final = 2
"""The number of the period that each game cancels. A shorter day cancels its last period, but never the first."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is played: the players of each game, its periods, and the bets of a period."""

    players: int
    periods: int
    bets: int


@dataclass(slots=True)
class Played:
    """What was played, and a sentence for each thing that went wrong."""

    games: list[Game] = field(default_factory=list)
    periods: int = 0
    findings: list[str] = field(default_factory=list)


async def short_games(client: CountingClient) -> list[Game]:
    """The shortest game of each kind that the service plays, if it is short. Raises ClientError."""
    items = (await client.http.get(path_of("games"))).expect(200).json()["items"]
    games = [Game(item["game"], item["length_s"]) for item in items if item["length_s"] is not None]
    short = []
    for kind in KINDS:
        of_kind = [game for game in games if game.rules == kind and game.length_s <= LENGTH_S_MAX]
        short += sorted(of_kind, key=lambda game: game.length_s)[:1]
    return short


async def play_games(client: CountingClient, books: Books, tally: Tally, plan: Plan, seed: int, tag: str) -> Played:
    """Play all games at once. Raises ClientError."""
    played = Played(await short_games(client))
    servers = [_Server(client, books, tally, played, GameTraffic(g, plan.players, seed, tag)) for g in played.games]
    await run_all(server.play(plan) for server in servers)
    return played


class _Server:
    """The server of one game."""

    def __init__(
        self, client: CountingClient, books: Books, tally: Tally, played: Played, traffic: GameTraffic
    ) -> None:
        self._client, self._books, self._tally, self._played = client, books, tally, played
        self._traffic = traffic

    async def play(self, plan: Plan) -> None:
        for post in self._traffic.openings():
            await self._send(post)
        length_s = self._traffic.game.length_s
        cancelled = min(_CANCELLED_PERIOD, plan.periods - 1)
        first_s = (int(time.time()) // length_s + 1) * length_s
        async with asyncio.TaskGroup() as endings:
            for number in range(plan.periods):
                starts_s = first_s + number * length_s
                name = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(starts_s))
                period = Period(name, starts_s + length_s)
                await self._bets(period, plan.bets)
                endings.create_task(self._end(period, cancelled=number == cancelled > 0))

    async def _bets(self, period: Period, count: int) -> None:
        """A third of the bets early, the others in a burst before the period closes."""
        starts_s = period.ends_s - self._traffic.game.length_s
        burst_s = period.ends_s - CLOSES_BEFORE_S - BURST_S
        for begin_s, end_s, bets in (
            (starts_s, burst_s, count // 3),
            (burst_s, burst_s + BURST_S, count - count // 3),
        ):
            batches = max(bets // 20, 1)
            for batch in range(batches):
                await _until(begin_s + (end_s - begin_s) * batch / batches + 0.05)
                cash = {user_id: self._books.wallet(user_id).cash["INR"] for user_id in self._traffic.players}
                await self._send(self._traffic.bets(period, bets // batches, cash))
            if begin_s == starts_s and time.time() < period.ends_s:
                for planned in self._traffic.mistakes(period):
                    await self._send(Post((planned,)))

    async def _end(self, period: Period, *, cancelled: bool) -> None:
        await _until(period.ends_s + RESULT_AFTER_S)
        outcome = self._traffic.outcome(period, cancelled=cancelled)
        deadline_s = time.monotonic() + _RESULT_WITHIN_S
        while await self._send(Post((outcome,))) != ACCEPTED:  # the service's clock may be behind
            if time.monotonic() > deadline_s:
                self._played.findings.append(f"{self._traffic.game.name}: {period.name} could not be ended")
                return
            await asyncio.sleep(_AGAIN_S)
        self._played.periods += 1
        await self._send(Post((self._traffic.second_outcome(period, cancelled=cancelled),)))

    async def _send(self, post: Post) -> str:
        """Send a post; the books get each response. Returns the outcome of its last command."""
        for planned in post.planned:
            if ACCEPTED in planned.may:
                self._books.sending(planned.command)
        outcome = ""
        for planned, response in await self._client.play(post):
            self._books.responded(planned.command, response, planned.may)
            outcome = response.outcome
            if response.accepted:
                self._tally.accepted += 1
            else:
                self._tally.refused[outcome] += 1
        return outcome


async def _until(at_s: float) -> None:
    await asyncio.sleep(max(at_s - time.time(), 0))
