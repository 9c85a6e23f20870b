"""What a day consists of: its players, commands, posts and waves, and which outcomes are allowed. Plain values, no
I/O.

Invariants:

1. Each command lists its allowed outcomes (`Planned.may`). A deliberate mistake has exactly one: the code of its
   problem, by the contract's order of precedence. A command that the wallet's sure money covers has only `accepted`.
2. Faults (sent twice at once, response lost) are planned only for commands that must be accepted. A refusal leaves no
   trace, so the service could accept a late copy of a refused command.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from random import Random

from demo.books.wallets import ACCEPTED, Command

UNIT = {"INR": 100, "USDT": 1_000_000, "GOLD": 1}
"""Minor units in one unit, for the assets of a service with default settings (contract: `STAKELOG_ASSETS`)."""

SURE = frozenset({ACCEPTED})
ANY_SHORTAGE = frozenset({ACCEPTED, "insufficient_funds", "credit_limit_exceeded"})


class Fault(Enum):
    """A deliberate fault between client and service."""

    NONE = "none"
    TWICE = "sent twice at once"
    RESPONSE_LOST = "response lost, sent again"


class Role(Enum):
    """The special behaviour of a player, for the whole day."""

    REGULAR = "regular"
    VISITOR = "visitor"  # asks for no bonus, no transfers; leaves for good when the wallet is empty
    CAPPED = "capped"  # balance_max in INR, none at all in GOLD, may not withdraw
    CREDIT = "credit"  # bets below zero
    CAREFUL = "careful"  # stake_max_per_day


@dataclass(frozen=True, slots=True)
class Day:
    """What to play: about this many commands. `tag` separates the users of two days on one service. `campaigns`:
    with gifts, referral codes and agent levels."""

    users: int
    commands: int
    seed: int
    servers: int = 4
    periods: int = 48
    tag: str = ""
    campaigns: bool = True


@dataclass(frozen=True, slots=True)
class Player:
    """One user, as the game server knows them."""

    user_id: str
    role: Role
    asset: str


@dataclass(frozen=True, slots=True)
class Planned:
    """One command and its fitting outcomes. `again`: a copy of an accepted command, so it must be a hit."""

    command: Command
    may: frozenset[str] = SURE
    again: bool = False


@dataclass(frozen=True, slots=True)
class Post:
    """Commands to send in this order, as one batch or one by one, by one actor (None: the default)."""

    planned: tuple[Planned, ...]
    batch: bool = False
    actor: str | None = None
    fault: Fault = Fault.NONE

    def user_ids(self) -> set[str]:
        """The wallets that this post names."""
        return {str(planned.command.get("user_id")) for planned in self.planned}


@dataclass(frozen=True, slots=True)
class Wave:
    """Posts that may be under way together, and the time on the players' clocks ("18:30")."""

    clock: str
    posts: tuple[Post, ...]

    def size(self) -> int:
        """How many commands the wave plans."""
        return sum(len(post.planned) for post in self.posts)


@dataclass(slots=True)
class Later:
    """A task for this wallet in this period or later. `post` decides then what to send (None: nothing)."""

    period: int
    user_id: str
    post: Callable[[], Post | None]


@dataclass(frozen=True, slots=True)
class Wager:
    """A bet that was sent, to be settled at the end of this period."""

    period: int
    player: Player
    bet_id: str


def players(day: Day) -> list[Player]:
    """All players of the day, of all servers."""
    rng = seeded(day, "players")
    roles = {7: Role.VISITOR, 13: Role.CAPPED, 21: Role.CREDIT, 33: Role.CAREFUL}
    return [
        Player(
            f"{day.tag}u{number:05d}",
            roles.get(number % 40, Role.REGULAR),
            "INR" if number % 40 in roles else rng.choices(("INR", "USDT", "GOLD"), (80, 12, 8))[0],
        )
        for number in range(day.users)
    ]


def share_of_period(day: Day, period: int) -> float:
    """The share of the day's commands in this period: lowest at night, highest about 21:00."""
    weights = [1.2 + math.cos((at / day.periods - 21 / 24) * 2 * math.pi) for at in range(day.periods)]
    return weights[period] / sum(weights)


def seeded(day: Day, name: str) -> Random:
    """The random numbers of one part of the day: the same in each run with this seed."""
    return Random(f"{day.seed}/{name}")  # noqa: S311 - a repeatable day, no secret
