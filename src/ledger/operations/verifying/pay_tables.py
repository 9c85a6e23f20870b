"""What a bet of a game pays on a result, by the pay table that its event names by digest.

The rules of the games are written here a second time, from their description. This code counts dice and digits, and
the ledger looks up winning results. Nothing of ``ledger.core`` is imported.

Invariants:
(1) a table counts only under the SHA-256 of its canonical form: JSON with sorted keys and without spaces;
(2) the digest of a pay table that is not known, or that is one of rules which are not written here, is remembered, so
    that a warning can name what was not checked.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from itertools import product
from typing import Any, Final, NamedTuple

from ledger.operations.verifying.postings import Mismatch

_DIGITS: Final = "0123456789"
_FACES: Final = "123456"
_HEX: Final = frozenset("0123456789abcdefABCDEF")
_RUNS: Final = ("123", "234", "345", "456")
_LENGTH_OF_RESULT: Final = {"wingo": 1, "trx_wix": 1, "k3": 3, "5d": 5}
_RESULTS: Final = {"wingo": 10, "trx_wix": 10, "k3": 6**3, "5d": 10**5}


class WrongTable(ValueError):
    """The SHA-256 of a pay table is not its digest. The text names the digest."""


class Table(NamedTuple):
    """The members of a pay table that decide how much money a bet moves, and when it is taken."""

    rules: str
    odds: dict[str, int]
    fee_bp: int
    close_us: int


class PayTables:
    """The known tables by digest, and the digests that bets name and that are not known."""

    def __init__(self, forms: Mapping[str, bytes]) -> None:
        """``forms``: the tables as JSON, by digest. Raises WrongTable."""
        tables = {digest: _read(digest, form) for digest, form in forms.items()}
        self._known = {digest: table for digest, table in tables.items() if table.rules in _RESULTS}
        self.missing: set[str] = set()

    def table_of(self, digest: str) -> Table | None:
        """The table of this digest; None if it is not known."""
        return self._known.get(digest)

    def place(self, rules: str, game: str, stake: int, legs: int, fee: int, before_end_us: int) -> None:
        """Check the fee and the closing time of a placed bet. Raises Mismatch."""
        table = self._known.get(rules)
        if table is None:
            self.missing.add(rules)
            return
        if table.rules != rules_of(game):
            raise Mismatch(f"its pay table is one of {table.rules}")
        due = sum(part * table.fee_bp // 10_000 for part in _parts(stake, legs))
        if fee != due:
            raise Mismatch(f"its fee is {fee}, by its pay table {due}")
        if before_end_us <= table.close_us:
            raise Mismatch("the bet was placed after its period had closed")

    def check(self, rules: str, legs: Sequence[tuple[str, int, int]], result: str) -> None:
        """Raise Mismatch unless each leg, (leg, stake, payout), pays what its table says on the result."""
        table = self._known.get(rules)
        if table is None:
            return
        for leg, stake, payout in legs:
            won = won_by(table.rules, leg, result)
            due = 0 if won is None else (stake - stake * table.fee_bp // 10_000) * table.odds[won] // 100
            if payout != due:
                raise Mismatch(f"the leg {leg} pays {payout} on the result {result}, by its pay table {due}")


def rules_of(game: str) -> str:
    """The rules that the name of a game begins with."""
    return game.rpartition("_")[0]


def wrong_result(game: str, result: str, proof: Any, ends_at_us: int) -> str | None:
    """Why the result is not one of this game; None if it is, or if the rules of the game are not written here.
    ``proof`` is None if the event has no proof."""
    rules = rules_of(game)
    if rules not in _RESULTS:
        return None
    symbols = _FACES if rules == "k3" else _DIGITS
    if len(result) != _LENGTH_OF_RESULT[rules] or any(symbol not in symbols for symbol in result):
        return f"{result} is not a result of {rules}"
    if rules != "trx_wix":
        return None
    if proof is None or len(proof.hash) != 64 or not _HEX.issuperset(proof.hash):
        return "the result has no proof with the hash of a block"
    digits = [symbol for symbol in proof.hash if symbol in _DIGITS]
    if digits[-1:] != [result]:
        return f"the last decimal digit of the hash in its proof is not {result}"
    if proof.time_us < ends_at_us:
        return "the block in its proof is from before the end of the period"
    return None


@lru_cache(maxsize=8_192)
def won_by(rules: str, leg: str, result: str) -> str | None:
    """The kind of odds that a leg wins on a result; None if it loses. Raises Mismatch if there is no such leg."""
    try:
        return {"wingo": _wingo, "trx_wix": _wingo, "k3": _k3, "5d": _five_d}[rules](leg, result)
    except (KeyError, ValueError):
        raise Mismatch(f"{leg} is not a leg of {rules}") from None


def _half(name: str, big: bool, odd: bool) -> bool:
    return {"big": big, "small": not big, "odd": odd, "even": not odd}[name]


def _wingo(leg: str, result: str) -> str | None:
    digit = int(result)
    name, _, number = leg.partition(":")
    if name == "number":
        return name if int(number) == digit else None
    if name == "violet":
        return name if digit in (0, 5) else None
    if name == "green" and digit % 2 == 1:
        return "green_5" if digit == 5 else "green"
    if name == "red" and digit % 2 == 0:
        return "red_0" if digit == 0 else "red"
    if name in ("green", "red"):
        return None
    return name if _half(name, digit >= 5, digit % 2 == 1) else None


def _k3(leg: str, result: str) -> str | None:
    name, _, value = leg.partition(":")
    dice, total = sorted(result), sum(map(int, result))
    wanted = sorted(value.replace(",", ""))
    if name == "sum":
        return f"sum_{total}" if int(value) == total else None
    if name == "pair":
        if "," in value:
            return "pair_single" if dice == wanted else None
        return "pair" if result.count(value[0]) == 2 else None
    if name == "triple" and not value:
        return "triple_any" if len(set(dice)) == 1 else None
    if name in ("triple", "set"):
        return name if dice == wanted else None
    if name == "consecutive":
        return name if "".join(dice) in _RUNS else None
    if name == "two":
        return name if set(wanted) <= set(dice) else None
    return name if _half(name, total >= 11, total % 2 == 1) else None


def _five_d(leg: str, result: str) -> str | None:
    place, _, value = leg.partition(":")
    if place == "sum":
        total = sum(map(int, result))
        return f"sum_{value}" if _half(value, total >= 23, total % 2 == 1) else None
    digit = int(result["ABCDE".index(place)])
    if len(value) == 1:
        return "digit" if int(value) == digit else None
    return value if _half(value, digit >= 5, digit % 2 == 1) else None


def average_payout(table: Table, selection: str, stake: int) -> tuple[int, int]:
    """What a bet pays on all results together, in minor units, and the number of results. Raises Mismatch if a leg of
    the selection does not exist."""
    legs = selection.split("+")
    total = 0
    for leg, part in zip(legs, _parts(stake, len(legs)), strict=True):
        contract = part - part * table.fee_bp // 10_000
        total += sum(contract * table.odds[won] // 100 * results for won, results in _wins_of(table.rules, leg))
    return total, _RESULTS[table.rules]


@lru_cache(maxsize=1_024)
def _wins_of(rules: str, leg: str) -> tuple[tuple[str, int], ...]:
    """The kinds of odds that a leg wins, each with the number of results on which it does. Raises Mismatch.

    A leg of 5D depends on one digit, or on the sum of all: one result stands for all that are alike in this."""
    if rules == "5d" and not leg.startswith("sum:"):
        alike = [(digit * 5, 10_000) for digit in _DIGITS]
    elif rules == "5d":
        alike = [(_with_sum(total), number) for total, number in enumerate(_numbers_by_sum(5))]
    else:
        symbols = _FACES if rules == "k3" else _DIGITS
        alike = [("".join(drawn), 1) for drawn in product(symbols, repeat=_LENGTH_OF_RESULT[rules])]
    wins = Counter[str]()
    for result, number in alike:
        if (won := won_by(rules, leg, result)) is not None:
            wins[won] += number
    return tuple(wins.items())


def _with_sum(total: int) -> str:
    """Five digits with this sum."""
    return "".join(str(min(9, max(0, total - 9 * place))) for place in range(5))


def _numbers_by_sum(digits: int) -> list[int]:
    """How many sequences of so many digits have the sum 0, 1, 2 …"""
    numbers = [1]
    for _ in range(digits):
        longer = [0] * (len(numbers) + 9)
        for total, number in enumerate(numbers):
            for digit in range(10):
                longer[total + digit] += number
        numbers = longer
    return numbers


def _parts(stake: int, legs: int) -> list[int]:
    return [(stake + legs - 1 - at) // legs for at in range(legs)]


def _read(digest: str, form: bytes) -> Table:
    try:
        table = json.loads(form)
        if sha256(json.dumps(table, sort_keys=True, separators=(",", ":")).encode()).hexdigest() != digest:
            raise WrongTable(f"the pay table that is kept under {digest} has another digest")
        return Table(table["rules"], dict(table["odds"]), int(table["fee_bp"]), int(table["close_ms"]) * 1_000)
    except WrongTable:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise WrongTable(f"the pay table that is kept under {digest} cannot be read: {error!r}") from None
