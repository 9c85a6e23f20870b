"""What the rules of a game are: which legs can be bet on, which results can be drawn, and which odds a leg wins.

A *leg* is one bet of a selection, as the client spells it: ``big``, ``number:7``. A *leg kind* names one number of a
table of odds. A leg can win at the odds of several kinds: Wingo's ``green`` wins at ``green`` or, on 5, at
``green_5``.

To add rules: write a module with a ``KIND``, add it to ``catalog``, and test every result of every leg of it.
``CONTRIBUTING.md`` has an example.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Final, NamedTuple

from ledger.core.fields import TIME_US_MAX, Proof

_HASH: Final = re.compile(r"[0-9a-fA-F]{64}")


def malformed_proof(proof: Proof) -> str | None:
    """Why it is not a block's hash, height and time; None if it is."""
    if _HASH.fullmatch(proof.hash) is None:
        return "the hash of a block is 64 hexadecimal digits"
    if not 0 <= proof.height <= TIME_US_MAX or not 0 <= proof.time_us <= TIME_US_MAX:
        return "the height and the time of a block are integers from 0 to 2^53−1"
    return None


def needs_no_proof(_result: str, proof: Proof | None, _ends_at_us: int) -> str | None:
    """``KindOfGame.unproven`` of a game whose results need no proof."""
    return None if proof is None else malformed_proof(proof)


class KindOfGame(NamedTuple):
    """The rules of a game, without their data."""

    number: int
    """The first digit of the game's code in an issue number. It never changes."""
    odds: Mapping[str, int]
    """Leg kind → odds in hundredths of the stake after the fee. They include the stake."""
    legs: frozenset[str]
    """Every leg. Each has one spelling."""
    is_result: Callable[[str], bool]
    """Whether the text is a result. Each result has one spelling."""
    wins: Callable[[str, str], str | None]
    """(leg, result) → the leg kind whose odds the leg wins; None if it loses."""
    results: int
    """How many results there are; each is as likely as any other."""
    wins_on: Callable[[str], Mapping[str, int]]
    """Leg → the leg kinds that it can win, each with the number of results on which it does."""
    example: tuple[str, str]
    """A selection and a result, for the game's page in the documents."""
    unproven: Callable[[str, Proof | None, int], str | None] = needs_no_proof
    """(result, proof, end of the period in Unix microseconds) → why the proof does not show the result, for a person;
    None if it does."""


def counted(wins: Callable[[str, str], str | None], results: Iterable[str]) -> Callable[[str], Mapping[str, int]]:
    """``KindOfGame.wins_on`` of a game with few results: it tries every result, once for each leg."""
    every = tuple(results)

    @cache
    def wins_on(leg: str) -> Mapping[str, int]:
        return Counter(won for result in every if (won := wins(leg, result)) is not None)

    return wins_on
