"""What the servers of games with rules send: openings, bets, results, and mistakes. No I/O.

Invariant: the players of a game play only this game, and do nothing else. So their bets are accepted in the order in
which the books get the responses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from hashlib import sha256
from random import Random
from typing import Any

from demo.books.payouts import legs_of, results_of
from demo.books.wallets import ACCEPTED, Command
from demo.traffic.plan import SURE, Planned, Post

DEPOSIT = 500_000
"""INR 5,000: more than a player loses in a short day."""
STAKE_MIN, STAKE_MAX = 100, 5_000
MEMBERS_EACH = 3
"""How many members each referrer has."""
MADE_UP = {"block": "made up by stakelog demo; this is no block of TRON"}
SECOND_US = 1_000_000


@dataclass(frozen=True, slots=True)
class Game:
    """A game that the service plays: its name, and the length of its periods."""

    name: str
    length_s: int

    @property
    def rules(self) -> str:
        """The rules that its name begins with."""
        return self.name.rpartition("_")[0]


@dataclass(frozen=True, slots=True)
class Period:
    """A period of a game, by its name; its end in seconds since 1970."""

    name: str
    ends_s: float


class GameTraffic:
    """One game's traffic: the same seed and the same cash give the same bets."""

    def __init__(self, game: Game, users: int, seed: int, tag: str) -> None:
        """`tag` separates the users and commands of two days on one service."""
        self.game, self.tag = game, tag
        self.rng = Random(f"{seed}/{game.name}")  # noqa: S311 - a repeatable day, no secret
        self.players = [f"{tag}{game.name}-{number:03d}" for number in range(users)]
        self.numbers = 0
        self._legs = legs_of(game.rules)

    def openings(self) -> list[Post]:
        """Each player opens a wallet and deposits. They are one tree of referrals, in which a wallet is opened after
        its referrer's."""
        posts: list[Post] = []
        first, end = 0, 1
        while first < len(self.players):
            opened = [
                self._plan("open_wallet", self.players[at], **self._referrer(at))
                for at in range(first, min(end, len(self.players)))
            ]
            posts.append(Post(tuple(opened), batch=True))
            first, end = end, end * MEMBERS_EACH + 1
        deposits = [
            self._plan("deposit", user_id, order_id=self._id("o"), asset="INR", amount=DEPOSIT)
            for user_id in self.players
        ]
        return [*posts, Post(tuple(deposits), batch=True)]

    def _referrer(self, at: int) -> dict[str, Any]:
        return {"referrer_id": self.players[(at - 1) // MEMBERS_EACH]} if at else {}

    def bets(self, period: Period, count: int, cash: dict[str, int]) -> Post:
        """A batch of bets on the period, each by another player. `cash`: what each player has at least."""
        bettors = self.rng.sample(self.players, min(count, len(self.players)))
        able = [user_id for user_id in bettors if cash[user_id] >= STAKE_MAX]
        return Post(tuple(self._bet(user_id, period) for user_id in able), batch=True)

    def _bet(self, user_id: str, period: Period) -> Planned:
        chosen = self.rng.sample(self._legs, self.rng.choices((1, 2, 3), (75, 15, 10))[0])
        stake = round(math.exp(self.rng.uniform(math.log(STAKE_MIN), math.log(STAKE_MAX))))
        return self._plan(
            "place_bet",
            user_id,
            frozenset({ACCEPTED, "period_closed"}),
            bet_id=self._id("b"),
            game=self.game.name,
            period=period.name,
            selection="+".join(chosen),
            asset="INR",
            stake=stake,
        )

    def mistakes(self, period: Period) -> list[Planned]:
        """Commands that are refused while the period runs, each with its only possible code."""
        user_id = self.players[0]
        bet = {"game": self.game.name, "period": period.name, "selection": "big", "asset": "INR", "stake": 100}
        wrong = "number:10" if self.game.rules != "5d" else "F:1"
        return [
            self._wrong("invalid_selection", "place_bet", user_id, **{**bet, "selection": wrong}, bet_id="x1"),
            self._wrong("malformed_request", "place_bet", user_id, **{**bet, "period": "today"}, bet_id="x2"),
            self._wrong("period_not_closed", "record_result", self.stream, period=period.name, **self._drawn(period)),
        ]

    def outcome(self, period: Period, *, cancelled: bool) -> Planned:
        """The end of a period: a result, or its cancellation."""
        may = frozenset({ACCEPTED, "period_not_closed"})
        if cancelled:
            return self._plan("cancel_period", self.stream, may, period=period.name, reason="the draw failed")
        return self._plan("record_result", self.stream, may, period=period.name, **self._drawn(period))

    def second_outcome(self, period: Period, *, cancelled: bool) -> Planned:
        """Another outcome of the same period: refused."""
        code = "already_resolved" if cancelled else "result_already_recorded"
        return self._wrong(code, "record_result", self.stream, period=period.name, **self._drawn(period))

    @property
    def stream(self) -> str:
        """The user_id of the game's own commands."""
        return f"game:{self.game.name}"

    def _drawn(self, period: Period) -> dict[str, Any]:
        """A result, and for TrxWix the made-up block that it is drawn from."""
        if self.game.rules == "5d":
            return {"result": f"{self.rng.randrange(100_000):05d}"}
        if self.game.rules != "trx_wix":
            return {"result": self.rng.choice(results_of(self.game.rules))}
        height = int(period.ends_s) // 3
        block_hash = sha256(f"made-up block {height} of {self.tag}{self.rng.random()}".encode()).hexdigest()
        digit = next(symbol for symbol in reversed(block_hash) if symbol.isdigit())
        proof = {"height": height, "hash": block_hash, "time_us": round(period.ends_s) * SECOND_US + SECOND_US}
        return {"result": digit, "proof": proof, "metadata": MADE_UP}

    def _id(self, kind: str) -> str:
        self.numbers += 1
        return f"{kind}-{self.tag}{self.game.name}-{self.numbers}"

    def _plan(self, kind: str, user_id: str, may: frozenset[str] = SURE, **fields: Any) -> Planned:
        command: Command = {"type": kind, "command_id": self._id("c"), "user_id": user_id, **fields}
        return Planned(command, may)

    def _wrong(self, code: str, kind: str, user_id: str, **fields: Any) -> Planned:
        return self._plan(kind, user_id, frozenset({code}), **fields)
