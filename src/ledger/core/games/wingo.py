"""Wingo: one digit from 0 to 9.

Green wins on 1 3 7 9 and, at other odds, on 5; red on 2 4 6 8 and, at other odds, on 0; violet on 0 and 5. Big is
5–9.
"""

from typing import Final

from ledger.core.games.kinds import KindOfGame, counted

DIGITS: Final = "0123456789"

_WINS: Final = {
    "green": dict.fromkeys("1379", "green") | {"5": "green_5"},
    "red": dict.fromkeys("2468", "red") | {"0": "red_0"},
    "violet": dict.fromkeys("05", "violet"),
    "big": dict.fromkeys("56789", "big"),
    "small": dict.fromkeys("01234", "small"),
    "odd": dict.fromkeys("13579", "odd"),
    "even": dict.fromkeys("02468", "even"),
    **{f"number:{digit}": {digit: "number"} for digit in DIGITS},
}


def is_result(text: str) -> bool:
    return len(text) == 1 and text in DIGITS


def wins(leg: str, result: str) -> str | None:
    return _WINS[leg].get(result)


KIND: Final = KindOfGame(
    number=1,
    odds={
        "number": 900,
        "green": 200,
        "green_5": 150,
        "red": 200,
        "red_0": 150,
        "violet": 450,
        "big": 200,
        "small": 200,
        "odd": 200,
        "even": 200,
    },
    legs=frozenset(_WINS),
    is_result=is_result,
    wins=wins,
    results=len(DIGITS),
    wins_on=counted(wins, DIGITS),
    example=("big+number:7+green", "7"),
)
