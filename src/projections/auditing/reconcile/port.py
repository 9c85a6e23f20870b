"""What a reconciliation asks, and how what it is told differs from what it expects."""

import json
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from projections.auditing.oracle import Document

LEADERS: Final = 200
"""Of a leaderboard: as many as are given at once."""
_ABSENT: Final = "(nothing)"
_to_json: Final = msgspec.json.Encoder(order="deterministic").encode


class Unreadable(Exception):
    """A read that answers, and whose answer is no document: why. What is asked next may well be one."""


class Accounts(NamedTuple):
    """A partition's totals at ``seq``: (account, asset) → (credited, debited), all wallets' buckets together as
    ``wallet/cash``, ``wallet/bonus`` and ``wallet/held``."""

    seq: int
    totals: dict[tuple[str, str], tuple[int, int]]


class Reads(Protocol):
    """What is said of wallets: the contract's documents, each with its ``as_of``. Called by several threads at once.

    None stands for the contract's 404 (``wallet_not_found``, ``bet_not_found`` …). A list is asked for page by page,
    as large as may be: ``{"items", "next_cursor", "as_of"}``, the first one without a cursor. Each raises Unreadable
    where there is an answer, and no document. What cannot be asked is raised otherwise, and ends the reconciliation.
    """

    def wallet(self, user_id: str) -> Document | None: ...
    def balance_at(self, user_id: str, at_us: int) -> Document | None: ...
    def history(self, user_id: str, cursor: str | None) -> Document | None: ...
    def bets(self, user_id: str, cursor: str | None) -> Document | None: ...
    def bet(self, user_id: str, bet_id: str) -> Document | None: ...
    def holds(self, user_id: str, cursor: str | None) -> Document | None: ...
    def hold(self, user_id: str, hold_id: str) -> Document | None: ...
    def transfer(self, user_id: str, transfer_id: str) -> Document | None: ...
    def order(self, user_id: str, order_id: str) -> Document | None: ...
    def stats(self, user_id: str) -> Document | None: ...
    def referrals(self, user_id: str) -> Document | None: ...

    def orders(self, cursor: str | None) -> Document | None:
        """The approval queue: everybody's."""
        ...

    def leaderboard(self, name: str, asset: str, at_us: int) -> Document | None:
        """The first ``LEADERS`` of it."""
        ...

    def accounts(self, partition: int) -> Accounts | None:
        """None where they are not told, or not of all its events."""
        ...

    def users(self, partition: int) -> tuple[int, set[str]] | None:
        """The seq that the partition's rows are true at, and whoever has one of them; None where it is not told."""
        ...


class Difference(NamedTuple):
    """``read`` as a client would name it; ``field`` a path into the answer; both values as JSON."""

    user_id: str
    read: str
    field: str
    position: str
    expected: str
    found: str


def unequal(path: str, expected: Any, found: Any) -> Iterator[tuple[str, Any, Any]]:
    """Where two documents differ; their ``as_of`` aside, and commissions of nothing."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for name in [*expected, *(name for name in found if name not in expected)]:
            if name == "as_of" and not path:
                continue
            inner = f"{path}.{name}" if path else name
            if path == "commissions" and not expected.get(name) and not found.get(name):
                continue
            if name not in expected:
                yield inner, _ABSENT, found[name]
            elif name not in found:
                yield inner, expected[name], _ABSENT
            else:
                yield from unequal(inner, expected[name], found[name])
    elif isinstance(expected, list) and isinstance(found, list):
        for number, (wanted, got) in enumerate(zip(expected, found, strict=False)):
            yield from unequal(f"{path}[{number}]", wanted, got)
        if len(expected) != len(found):
            yield f"{path}, length", len(expected), len(found)
    elif type(expected) is not type(found) or expected != found:
        yield path, expected, found


def shown(value: Any) -> str:
    """As JSON."""
    if value == _ABSENT:
        return _ABSENT
    try:
        return _to_json(value).decode()
    except UnicodeEncodeError:  # half a character, which JSON can name and UTF-8 cannot
        return json.dumps(value)
