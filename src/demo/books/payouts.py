"""What a bet of a game with rules pays, from the contract's selections and the odds of the betting house. No I/O.

Amounts are integers in minor units, odds are hundredths. The odds are those that every game of
`deploy/rules/betting-house.json` has, with a fee of 2 % and half a second or more without bets before a period's end.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from random import Random

FEE_BP = 200
K3_SUMS = {
    3: 20736,
    4: 6912,
    5: 3456,
    6: 2074,
    7: 1383,
    8: 988,
    9: 830,
    10: 768,
    18: 20736,
    17: 6912,
    16: 3456,
    15: 2074,
    14: 1383,
    13: 988,
    12: 830,
    11: 768,
}
_HALVES = ("big", "small", "odd", "even")
_FACES = "123456"
_SAMPLED = 500
"""How many of the 100,000 results of 5D are used for the spread of a period's payouts. Chosen: at most 5 % off."""


def legs_of(rules: str) -> list[str]:
    """Every leg that players of these rules choose from."""
    if rules == "k3":
        single = [f"pair:{face * 2},{other}" for face in _FACES for other in _FACES if face != other]
        sets = [f"set:{a}{b}{c}" for a, b, c in product(_FACES, repeat=3) if a < b < c]
        twos = [f"two:{a}{b}" for a, b in product(_FACES, repeat=2) if a < b]
        same = [f"{name}:{face * times}" for name, times in (("pair", 2), ("triple", 3)) for face in _FACES]
        return [*_HALVES, *(f"sum:{n}" for n in K3_SUMS), *single, *sets, *twos, *same, "triple", "consecutive"]
    if rules == "5d":
        bets = [*map(str, range(10)), *_HALVES]
        return [*(f"{place}:{bet}" for place in "ABCDE" for bet in bets), *(f"sum:{half}" for half in _HALVES)]
    return [*(f"number:{digit}" for digit in range(10)), "green", "red", "violet", *_HALVES]


@lru_cache(maxsize=200_000)
def odds_of(rules: str, leg: str, result: str) -> int:
    """The odds at which the leg wins, in hundredths; 0 if it loses."""
    name, _, value = leg.partition(":")
    if rules == "k3":
        return _k3(name, value, result)
    if rules == "5d":
        number = sum(map(int, result)) if name == "sum" else int(result["ABCDE".index(name)])
        if value.isdigit():
            return 900 if number == int(value) else 0
        return 200 if _is(value, number, 23 if name == "sum" else 5) else 0
    digit = int(result)
    if name == "number":
        return 900 if digit == int(value) else 0
    if name in ("green", "red", "violet"):
        own, mixed, odds = {"green": ("1379", "5", 200), "red": ("2468", "0", 200), "violet": ("05", "", 450)}[name]
        return odds if result in own else 150 if result in mixed else 0
    return 200 if _is(name, digit, 5) else 0


def _is(half: str, number: int, big_from: int) -> bool:
    return {"big": number >= big_from, "small": number < big_from, "odd": number % 2 == 1, "even": number % 2 == 0}[
        half
    ]


def _k3(name: str, value: str, result: str) -> int:
    total, dice = sum(map(int, result)), "".join(sorted(result))
    match name:
        case "sum":
            return K3_SUMS[total] if total == int(value) else 0
        case "pair" if "," in value:
            return 6912 if dice == "".join(sorted(value.replace(",", ""))) else 0
        case "pair":
            return 1383 if result.count(value[0]) == 2 else 0
        case "triple":
            return (20736 if dice == value else 0) if value else (3456 if result == result[0] * 3 else 0)
        case "set":
            return 3456 if dice == value else 0
        case "consecutive":
            return 864 if dice in ["123", "234", "345", "456"] else 0
        case "two":
            return 691 if value[0] in dice and value[1] in dice else 0
    return 192 if _is(name, total, 11) else 0


def _parts(stake: int, legs: int) -> list[int]:
    return [stake // legs + (at < stake % legs) for at in range(legs)]


def fee_of(selection: str, stake: int) -> int:
    """The house's fee on a bet."""
    return sum(part * FEE_BP // 10_000 for part in _parts(stake, selection.count("+") + 1))


def payout_of(rules: str, selection: str, stake: int, result: str) -> int:
    """What a bet pays on the result."""
    legs = selection.split("+")
    return sum(
        (part - part * FEE_BP // 10_000) * odds_of(rules, leg, result) // 100
        for leg, part in zip(legs, _parts(stake, len(legs)), strict=True)
    )


@lru_cache
def results_of(rules: str) -> tuple[str, ...]:
    """Every result, all equally likely; for 5D a sample."""
    if rules == "k3":
        return tuple("".join(dice) for dice in product(_FACES, repeat=3))
    if rules == "5d":
        rng = Random("5d")  # noqa: S311 - a sample, no secret
        return tuple(f"{rng.randrange(100_000):05d}" for _ in range(_SAMPLED))
    return tuple("0123456789")
