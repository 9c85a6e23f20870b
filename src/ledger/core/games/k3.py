"""K3: three dice.

Big is a sum of 11–18, small 3–10. A pair is exactly two equal dice: a triple is none. Sets are compared without
order.
"""

from collections.abc import Iterator
from itertools import combinations, product
from typing import Final

from ledger.core.games.kinds import KindOfGame, counted

_FACES: Final = "123456"
_RESULTS: Final = ["".join(dice) for dice in product(_FACES, repeat=3)]
_CONSECUTIVE: Final = frozenset({"123", "234", "345", "456"})
_NAMED: Final = frozenset({"big", "small", "odd", "even", "triple", "consecutive"})


def _legs() -> Iterator[str]:
    yield from _NAMED
    for total in range(3, 19):
        yield f"sum:{total}"
    for face in _FACES:
        yield f"pair:{face * 2}"
        yield f"triple:{face * 3}"
        for other in _FACES:
            if other != face:
                yield f"pair:{face * 2},{other}"
    for faces in combinations(_FACES, 3):
        yield f"set:{''.join(faces)}"
    for two in combinations(_FACES, 2):
        yield f"two:{''.join(two)}"


_LEGS: Final = frozenset(_legs())


def is_result(text: str) -> bool:
    return len(text) == 3 and all(face in _FACES for face in text)


def wins(leg: str, result: str) -> str | None:
    kind, _, bet = leg.partition(":")
    dice = "".join(sorted(result))
    total = sum(map(int, dice))
    different = len(set(dice))
    match kind:
        case "sum":
            return f"sum_{total}" if bet == str(total) else None
        case "big":
            return kind if total >= 11 else None
        case "small":
            return kind if total <= 10 else None
        case "odd":
            return kind if total % 2 == 1 else None
        case "even":
            return kind if total % 2 == 0 else None
        case "pair":
            pair, _, other = bet.partition(",")
            if different != 2 or dice.count(pair[0]) != 2:
                return None
            if not other:
                return "pair"
            return "pair_single" if other in dice else None
        case "triple":
            if different != 1:
                return None
            if not bet:
                return "triple_any"
            return "triple" if bet == dice else None
        case "set":
            return "set" if bet == dice else None
        case "consecutive":
            return kind if dice in _CONSECUTIVE else None
        case "two":
            return "two" if bet[0] in dice and bet[1] in dice else None
        case _:
            raise AssertionError(leg)


_SUMS: Final = (20_736, 6_912, 3_456, 2_074, 1_383, 988, 830, 768)
"""The odds of the sums 3–10; those of 18–11 are the same."""

KIND: Final = KindOfGame(
    number=3,
    odds={
        **{f"sum_{total}": odds for total, odds in enumerate((*_SUMS, *reversed(_SUMS)), 3)},
        "big": 192,
        "small": 192,
        "odd": 192,
        "even": 192,
        "pair": 1_383,
        "pair_single": 6_912,
        "triple": 20_736,
        "triple_any": 3_456,
        "set": 3_456,
        "consecutive": 864,
        "two": 691,
    },
    legs=_LEGS,
    is_result=is_result,
    wins=wins,
    results=len(_RESULTS),
    wins_on=counted(wins, _RESULTS),
    example=("sum:9+odd+two:15", "135"),
)
