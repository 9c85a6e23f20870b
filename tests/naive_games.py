"""The payout of a bet, written from the pay tables of the betting domain, without anything of the product.

Every bet is a set of winning results, with the odds as text: what the rules say in words is counted here, not
computed by the functions that the product uses.
"""

from collections import Counter
from decimal import Decimal
from fractions import Fraction
from functools import cache
from itertools import permutations, product

DIGITS = "0123456789"
FACES = "123456"

RESULTS: dict[str, list[str]] = {
    "wingo": list(DIGITS),
    "trx_wix": list(DIGITS),
    "k3": ["".join(dice) for dice in product(FACES, repeat=3)],
    "5d": [f"{number:05d}" for number in range(100_000)],
}

K3_SUMS = {
    3: "207.36",
    4: "69.12",
    5: "34.56",
    6: "20.74",
    7: "13.83",
    8: "9.88",
    9: "8.30",
    10: "7.68",
    18: "207.36",
    17: "69.12",
    16: "34.56",
    15: "20.74",
    14: "13.83",
    13: "9.88",
    12: "8.30",
    11: "7.68",
}

_SUMS_5D = {result: sum(DIGITS.index(digit) for digit in result) for result in RESULTS["5d"]}

Table = dict[str, str]
"""A winning result → its odds, as text."""


def _of_wingo(bet: str) -> Table:
    match bet:
        case "green":
            return {"1": "2", "3": "2", "7": "2", "9": "2", "5": "1.5"}
        case "red":
            return {"2": "2", "4": "2", "6": "2", "8": "2", "0": "1.5"}
        case "violet":
            return {"0": "4.5", "5": "4.5"}
        case "big":
            return dict.fromkeys(["5", "6", "7", "8", "9"], "2")
        case "small":
            return dict.fromkeys(["0", "1", "2", "3", "4"], "2")
        case "odd":
            return dict.fromkeys(["1", "3", "5", "7", "9"], "2")
        case "even":
            return dict.fromkeys(["0", "2", "4", "6", "8"], "2")
    return {bet.removeprefix("number:"): "9"}


def _orders(dice: str) -> set[str]:
    return {"".join(order) for order in permutations(dice)}


def _of_k3(bet: str) -> Table:
    name, _, value = bet.partition(":")
    rolls = RESULTS["k3"]
    totals = {roll: int(roll[0]) + int(roll[1]) + int(roll[2]) for roll in rolls}
    match name:
        case "sum":
            return {roll: K3_SUMS[int(value)] for roll in rolls if totals[roll] == int(value)}
        case "big":
            return {roll: "1.92" for roll in rolls if 11 <= totals[roll] <= 18}
        case "small":
            return {roll: "1.92" for roll in rolls if 3 <= totals[roll] <= 10}
        case "odd":
            return {roll: "1.92" for roll in rolls if totals[roll] in (3, 5, 7, 9, 11, 13, 15, 17)}
        case "even":
            return {roll: "1.92" for roll in rolls if totals[roll] in (4, 6, 8, 10, 12, 14, 16, 18)}
        case "pair" if "," in value:
            return dict.fromkeys(_orders(value.replace(",", "")), "69.12")
        case "pair":
            others = [face for face in FACES if face not in value]
            return dict.fromkeys({roll for other in others for roll in _orders(value + other)}, "13.83")
        case "triple" if value:
            return {value: "207.36"}
        case "triple":
            return {face * 3: "34.56" for face in FACES}
        case "set":
            return dict.fromkeys(_orders(value), "34.56")
        case "consecutive":
            return dict.fromkeys({roll for run in ("123", "234", "345", "456") for roll in _orders(run)}, "8.64")
    assert name == "two", bet
    return {roll: "6.91" for roll in rolls if set(value) <= set(roll)}


def _of_5d(bet: str, result: str) -> str | None:
    place, _, value = bet.partition(":")
    number = _SUMS_5D[result] if place == "sum" else int(result["ABCDE".find(place)])
    half = 23 if place == "sum" else 5
    if len(value) == 1:
        return "9" if number == int(value) else None
    won = {"big": number >= half, "small": number < half, "odd": number & 1 == 1, "even": number & 1 == 0}[value]
    return "2" if won else None


_tables: dict[tuple[str, str], Table] = {}


def odds_of(rules: str, leg: str, result: str) -> int:
    """The odds at which the leg wins, in hundredths; 0 if it loses."""
    if rules == "5d":
        return int(_of_5d(leg, result) or 0) * 100
    key = ("k3" if rules == "k3" else "wingo", leg)
    if key not in _tables:
        _tables[key] = _of_k3(leg) if rules == "k3" else _of_wingo(leg)
    return int(Decimal(_tables[key].get(result, "0")) * 100)


def legs(rules: str) -> list[str]:
    """Every leg of these rules."""
    named = ["big", "small", "odd", "even"]
    if rules == "k3":
        numbers = [f"sum:{total}" for total in K3_SUMS]
        pairs = [f"pair:{face * 2}" for face in FACES]
        single = [f"pair:{face * 2},{other}" for face in FACES for other in FACES if other != face]
        triples = [f"triple:{face * 3}" for face in FACES]
        sets = [f"set:{a}{b}{c}" for a, b, c in product(FACES, repeat=3) if a < b < c]
        twos = [f"two:{a}{b}" for a, b in product(FACES, repeat=2) if a < b]
        return [*named, *numbers, *pairs, *single, *triples, "triple", *sets, "consecutive", *twos]
    if rules == "5d":
        return [f"{place}:{bet}" for place in "ABCDE" for bet in (*DIGITS, *named)] + [f"sum:{bet}" for bet in named]
    return [*(f"number:{digit}" for digit in DIGITS), "green", "red", "violet", *named]


def stakes(stake: int, count: int) -> list[int]:
    """The stake, handed out one unit after the other."""
    parts = [stake // count] * count
    for at in range(stake - sum(parts)):
        parts[at] += 1
    return parts


def fee_of(stake: int, count: int) -> int:
    """2 % of each leg's stake, rounded down."""
    return sum(int(Fraction(part * 2, 100)) for part in stakes(stake, count))


def paid_legs(rules: str, selection: str, stake: int, result: str) -> list[tuple[str, int, int]]:
    """Each leg with its stake and its payout."""
    bets = selection.split("+")
    return [
        (bet, part, _paid(part, odds_of(rules, bet, result)))
        for bet, part in zip(bets, stakes(stake, len(bets)), strict=True)
    ]


def _paid(part: int, odds: int) -> int:
    """What a leg with that stake pays at these odds, in hundredths."""
    contract = part - int(Fraction(part * 2, 100))
    return int(contract * Fraction(odds, 100))


@cache
def _numbers_of_odds(rules: str, leg: str) -> Counter[int]:
    """At which odds the leg wins, 0 if it loses → on how many results."""
    return Counter(odds_of(rules, leg, result) for result in RESULTS[rules])


def paid_on_all_results(rules: str, selection: str, stake: int) -> int:
    """What the bet would be paid, added up over every result that there can be."""
    bets = selection.split("+")
    return sum(
        number * _paid(part, odds)
        for bet, part in zip(bets, stakes(stake, len(bets)), strict=True)
        for odds, number in _numbers_of_odds(rules, bet).items()
    )
