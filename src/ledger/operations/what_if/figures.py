"""What was played and paid in a window, for each user, for each game and in all. Amounts are in minor units.

Invariants, asserted:
(1) the figures of a user are those of the postings: deposits + paid out + bonuses + commissions + other − staked −
    withdrawals is the change of the balance (cash, bonus and held);
(2) the figures of an asset are the sums of its users'.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from msgspec import Struct

from ledger.core.bet_events import BetCancelled, BetPlaced
from ledger.core.events import (
    HOUSE_BONUSES,
    HOUSE_COMMISSIONS,
    HOUSE_DEPOSITS,
    HOUSE_FEES,
    HOUSE_GIFTS,
    HOUSE_PAYOUTS,
    HOUSE_STAKES,
    HOUSE_WITHDRAWALS,
    Event,
)


class Amounts(Struct):
    """Of one user, of one game, or of all users, in one asset. ``staked`` contains ``fees``. ``bonuses`` are granted
    less expired and reversed ones. ``other`` is what holds, transfers and adjustments moved. ``balance`` is at the
    end of the window; a game has none of the figures from ``bonuses`` on."""

    bets: int = 0
    staked: int = 0
    fees: int = 0
    paid_out: int = 0
    bonuses: int = 0
    commissions: int = 0
    deposits: int = 0
    withdrawals: int = 0
    other: int = 0
    change: int = 0
    balance: int = 0

    @property
    def house(self) -> int:
        """What the house keeps: stakes less payouts, bonuses and commissions."""
        return self.staked - self.paid_out - self.bonuses - self.commissions


NAMES: Final = Amounts.__struct_fields__

_COLUMNS: Final = {
    HOUSE_STAKES: ("staked", 1),
    HOUSE_PAYOUTS: ("paid_out", -1),
    HOUSE_BONUSES: ("bonuses", -1),
    HOUSE_GIFTS: ("bonuses", -1),
    HOUSE_COMMISSIONS: ("commissions", -1),
    HOUSE_DEPOSITS: ("deposits", -1),
    HOUSE_WITHDRAWALS: ("withdrawals", 1),
}
"""House account → the figure that it is counted in, and the sign of a posting to it."""

Key = tuple[str, str]
"""(user or game, asset)."""


class Figures:
    """Of one world, over the events of a window."""

    def __init__(self) -> None:
        self.users: dict[Key, Amounts] = {}
        self.games: dict[Key, Amounts] = {}
        self.refused: Counter[tuple[str, str]] = Counter()
        """(type of the command, code of the refusal) → how many."""
        self.refused_of: Counter[str] = Counter()
        """User → how many commands were refused."""

    def add(self, event: Event, game: str | None) -> None:
        """Count an event. ``game``: of the bet that it is about."""
        own = f"wallet/{event.user_id}/"
        for account, asset, amount in event.postings:
            of_user = _of(self.users, event.user_id, asset)
            if account.startswith(own):
                of_user.change += amount
                continue
            counted = (of_user,) if game is None else (of_user, _of(self.games, game, asset))
            for amounts in counted:
                _count(amounts, account, amount)
        data = event.data
        if isinstance(data, BetPlaced):
            assert game is not None, event
            _of(self.users, event.user_id, data.asset).bets += 1
            _of(self.games, game, data.asset).bets += 1
        elif isinstance(data, BetCancelled) and game is not None:
            asset = event.postings[0][1]
            _of(self.users, event.user_id, asset).bets -= 1
            _of(self.games, game, asset).bets -= 1

    def refuse(self, user_id: str, command: str, code: str) -> None:
        self.refused[command, code] += 1
        self.refused_of[user_id] += 1

    def close(self, balance_of: Mapping[Key, int]) -> None:
        """Note the balances at the end of the window, of the users that anything was counted for."""
        for key, amounts in self.users.items():
            amounts.balance = balance_of[key]
            came_in = amounts.deposits + amounts.paid_out + amounts.bonuses + amounts.commissions + amounts.other
            assert amounts.change == came_in - amounts.staked - amounts.withdrawals, (key, amounts)

    def totals(self) -> dict[str, Amounts]:
        """Of all users, by asset."""
        sums: dict[str, Amounts] = {}
        for (_, asset), amounts in self.users.items():
            total = sums.setdefault(asset, Amounts())
            for name in NAMES:
                setattr(total, name, getattr(total, name) + getattr(amounts, name))
        return sums


def _of(group: dict[Key, Amounts], name: str, asset: str) -> Amounts:
    amounts = group.get((name, asset))
    if amounts is None:
        amounts = group[name, asset] = Amounts()
    return amounts


def _count(amounts: Amounts, account: str, amount: int) -> None:
    if account == HOUSE_FEES:
        amounts.fees += amount
        amounts.staked += amount
        return
    name, sign = _COLUMNS.get(account, ("other", -1))
    setattr(amounts, name, getattr(amounts, name) + sign * amount)


class Pair(Struct, frozen=True):
    """The figures of one user, game or asset, by the log and under the other rules. ``refused`` counts the commands
    of a user that the other rules refuse."""

    name: str
    asset: str
    actual: Amounts
    what_if: Amounts
    refused: int = 0

    def difference(self, name: str) -> int:
        """What-if less actual; ``name`` is a figure, or ``house``."""
        difference: int = getattr(self.what_if, name) - getattr(self.actual, name)
        return difference

    @property
    def differs(self) -> bool:
        return self.actual != self.what_if or self.refused > 0


class Comparison(Struct, frozen=True):
    """The result: ``users`` and ``games`` are sorted by name and asset, ``totals`` by asset."""

    from_us: int
    to_us: int
    events: int
    """Events of the log in the window."""
    totals: tuple[Pair, ...]
    games: tuple[Pair, ...]
    users: tuple[Pair, ...]
    refused: tuple[tuple[str, str, int], ...]
    """(type of the command, code, how many), the most first."""


def compare(actual: Figures, what_if: Figures, window: tuple[int, int], events: int) -> Comparison:
    """``close`` was called on both."""
    totals_of, totals_if = actual.totals(), what_if.totals()
    refused = sorted(what_if.refused.items(), key=lambda one: (-one[1], one[0]))
    return Comparison(
        *window,
        events,
        tuple(
            Pair("", asset, totals_of.get(asset, Amounts()), totals_if.get(asset, Amounts()))
            for asset in sorted(totals_of.keys() | totals_if.keys())
        ),
        tuple(_pairs(actual.games, what_if.games, Counter())),
        tuple(_pairs(actual.users, what_if.users, what_if.refused_of)),
        tuple((command, code, count) for (command, code), count in refused),
    )


def _pairs(actual: dict[Key, Amounts], what_if: dict[Key, Amounts], refused: Counter[str]) -> Iterator[Pair]:
    for name, asset in sorted(actual.keys() | what_if.keys()):
        pair = actual.get((name, asset), Amounts()), what_if.get((name, asset), Amounts())
        yield Pair(name, asset, *pair, refused[name])
