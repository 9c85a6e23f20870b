"""5D: five digits, at the places A to E, and their sum. A big sum is 23–45, a small one 0–22."""

from typing import Final

from ledger.core.games.kinds import KindOfGame
from ledger.core.games.wingo import DIGITS

_PLACES: Final = "ABCDE"
_NAMED: Final = ("big", "small", "odd", "even")

_LEGS: Final = frozenset(
    {f"{place}:{bet}" for place in _PLACES for bet in (*DIGITS, *_NAMED)} | {f"sum:{bet}" for bet in _NAMED}
)


def is_result(text: str) -> bool:
    return len(text) == 5 and all(digit in DIGITS for digit in text)


def wins(leg: str, result: str) -> str | None:
    place, _, bet = leg.partition(":")
    if place == "sum":
        return f"sum_{bet}" if _is(bet, sum(map(int, result)), big=23) else None
    digit = result[_PLACES.index(place)]
    if bet in DIGITS:
        return "digit" if bet == digit else None
    return bet if _is(bet, int(digit), big=5) else None


def _is(bet: str, number: int, *, big: int) -> bool:
    """Whether the number is what the bet says. Big numbers begin with ``big``."""
    match bet:
        case "big":
            return number >= big
        case "small":
            return number < big
        case "odd":
            return number % 2 == 1
        case _:
            return number % 2 == 0


KIND: Final = KindOfGame(
    number=4,
    odds={"digit": 900} | dict.fromkeys((*_NAMED, *(f"sum_{bet}" for bet in _NAMED)), 200),
    is_leg=_LEGS.__contains__,
    is_result=is_result,
    wins=wins,
)
