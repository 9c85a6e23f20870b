"""How many calls of unidentified senders may wait for the database at once."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

WAITING_MAX: Final = 64
"""Chosen: with the connections of ``database`` the last of them waits a fraction of a second."""


class TooManyLogins(Exception):
    """More logins wait than may wait: nothing was checked."""


class Waiting:
    """The calls of one kind that are under way."""

    def __init__(self) -> None:
        self._count = 0

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """Raises TooManyLogins."""
        if self._count >= WAITING_MAX:
            raise TooManyLogins
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1
