"""The clock of a game: which period a name means, when it takes bets, and when its result may come.

A period is named by its start in UTC, ``YYYYMMDDTHHMMSSZ``, a multiple of the game's length since midnight. A length
divides a day, so no period crosses midnight. All times are Unix microseconds.
"""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

DAY_S: Final = 86_400
SECOND_US: Final = 1_000_000
RESULT_AFTER_US: Final = 2 * SECOND_US
"""How long after a period's end its result may come: the allowance for the clocks of two nodes."""

_NAME: Final = re.compile(r"[0-9]{8}T[0-9]{6}Z")
_LENGTH: Final = re.compile(r"([1-9][0-9]{0,4})([smh])")
_UNIT_S: Final = {"s": 1, "m": 60, "h": 3_600}
_LENGTHS: Final = [length for length in range(1, DAY_S + 1) if DAY_S % length == 0]
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def length_of(text: str) -> int | None:
    """The seconds of a length such as ``30s``, ``5m``, ``1h``; None if it is none, or does not divide a day."""
    match = _LENGTH.fullmatch(text)
    if match is None:
        return None
    length_s = int(match[1]) * _UNIT_S[match[2]]
    return length_s if DAY_S % length_s == 0 else None


@lru_cache(maxsize=4_096)
def start_of(period: str) -> int | None:
    """When the period begins; None if the text is not the name of a time."""
    if _NAME.fullmatch(period) is None:
        return None
    try:
        start = datetime.strptime(period, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None
    return (start - _EPOCH) // timedelta(microseconds=1)


@lru_cache(maxsize=1_024)
def length_s_of_game(game: str) -> int | None:
    """The length of the periods of a game, which is the last part of its name; None if its name has none."""
    return length_of(game.rpartition("_")[2])


def ends_at_us(game: str, period: str) -> int:
    """When the period of a game ends. Both are from an event, so the names are those of a game and its period."""
    start_us, length_s = start_of(period), length_s_of_game(game)
    assert start_us is not None, period
    assert length_s is not None, game
    return start_us + length_s * SECOND_US


def is_on_grid(start_us: int, length_s: int) -> bool:
    return start_us % (length_s * SECOND_US) == 0


def name_of(start_us: int) -> str:
    return (_EPOCH + timedelta(microseconds=start_us)).strftime("%Y%m%dT%H%M%SZ")


def issue_of(number: int, length_s: int, start_us: int) -> str:
    """The issue number shown to players: the day, the game's code of five digits, the index of the day from 0001.

    The code is ``number``, then four digits: the index of ``length_s`` in the list of lengths that divide a day.
    """
    index = start_us % (DAY_S * SECOND_US) // (length_s * SECOND_US) + 1
    return f"{name_of(start_us)[:8]}{number}{_LENGTHS.index(length_s):04d}{index:04d}"
