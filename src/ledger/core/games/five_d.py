"""5D: five digits, at the places A to E, and their sum. A big sum is 23–45, a small one 0–22."""

from collections import Counter
from collections.abc import Mapping
from functools import cache
from itertools import product
from typing import Final

from ledger.core.games.kinds import KindOfGame
from ledger.core.games.wingo import DIGITS

_PLACES: Final = "ABCDE"


def _named(numbers: range, big_from: int) -> dict[str, list[int]]:
    return {
        "big": [number for number in numbers if number >= big_from],
        "small": [number for number in numbers if number < big_from],
        "odd": [number for number in numbers if number % 2 == 1],
        "even": [number for number in numbers if number % 2 == 0],
    }


_OF_DIGIT: Final = {
    **{digit: {digit: "digit"} for digit in DIGITS},
    **{bet: dict.fromkeys(map(str, numbers), bet) for bet, numbers in _named(range(10), 5).items()},
}
_OF_SUM: Final = {
    f"sum:{bet}": dict.fromkeys(numbers, f"sum_{bet}") for bet, numbers in _named(range(46), 23).items()
}
_OF_PLACE: Final = {
    f"{place}:{bet}": (at, wins) for at, place in enumerate(_PLACES) for bet, wins in _OF_DIGIT.items()
}


def is_result(text: str) -> bool:
    return len(text) == 5 and all(digit in DIGITS for digit in text)


def wins(leg: str, result: str) -> str | None:
    if leg in _OF_SUM:
        return _OF_SUM[leg].get(sum(map(int, result)))
    at, won = _OF_PLACE[leg]
    return won.get(result[at])


@cache
def wins_on(leg: str) -> Mapping[str, int]:
    """For a leg on one place it tries the ten digits of that place, for a leg on the sum every sum."""
    if leg in _OF_SUM:
        wins = Counter[str]()
        for total, kind in _OF_SUM[leg].items():
            wins[kind] += _results_by_sum()[total]
        return wins
    _, won = _OF_PLACE[leg]
    return {kind: number * 10 ** (len(_PLACES) - 1) for kind, number in Counter(won.values()).items()}


@cache
def _results_by_sum() -> Mapping[int, int]:
    """Sum of the digits → number of results with it. It tries all results, which takes 10 ms."""
    return Counter(map(sum, product(range(10), repeat=len(_PLACES))))


KIND: Final = KindOfGame(
    number=4,
    odds={
        "digit": 900,
        "big": 200,
        "small": 200,
        "odd": 200,
        "even": 200,
        "sum_big": 200,
        "sum_small": 200,
        "sum_odd": 200,
        "sum_even": 200,
    },
    legs=frozenset((*_OF_PLACE, *_OF_SUM)),
    is_result=is_result,
    wins=wins,
    results=10 ** len(_PLACES),
    wins_on=wins_on,
    example=("B:1+sum:small", "01234"),
)
