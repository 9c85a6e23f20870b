"""The reads that are reconciled, and how a document differs from the expected one."""

import json
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from projections.auditing.oracle import Document

LEADERS: Final = 200
"""The largest ``limit`` of a leaderboard."""
_ABSENT: Final = "(nothing)"
_to_json: Final = msgspec.json.Encoder(order="deterministic").encode


class Unreadable(Exception):
    """The response to a read is not a document; the text says why. Other reads may still return documents."""


class Accounts(NamedTuple):
    """A partition's totals at ``seq``: (account, asset) → (credited, debited), all wallets' buckets together as
    ``wallet/cash``, ``wallet/bonus`` and ``wallet/held``."""

    seq: int
    totals: dict[tuple[str, str], tuple[int, int]]


class Reads(Protocol):
    """The contract's documents, each with its ``as_of``. Several threads call it at once.

    None stands for the contract's 404 (``wallet_not_found``, ``bet_not_found`` …). Lists are read page by page with
    the largest limit: ``{"items", "next_cursor", "as_of"}``; the first page has no cursor. Each method raises
    Unreadable if the response is no document. Any other error means that the read is impossible; it ends reconcile.

    ``has_private``: whether a history has the private texts encrypted, as the record has them, so that they can be
    compared. A service decrypts them for some clients; these reads then leave them out.
    """

    has_private: bool

    def wallet(self, user_id: str) -> Document | None: ...
    def balance_at(self, user_id: str, at_us: int) -> Document | None: ...
    def history(self, user_id: str, cursor: str | None) -> Document | None: ...
    def bets(self, user_id: str, cursor: str | None) -> Document | None: ...
    def bet(self, user_id: str, bet_id: str) -> Document | None: ...
    def holds(self, user_id: str, cursor: str | None) -> Document | None: ...
    def hold(self, user_id: str, hold_id: str) -> Document | None: ...
    def transfers(self, user_id: str, cursor: str | None) -> Document | None: ...
    def grants(self, user_id: str, cursor: str | None) -> Document | None: ...
    def transfer(self, user_id: str, transfer_id: str) -> Document | None: ...
    def order(self, user_id: str, order_id: str) -> Document | None: ...
    def stats(self, user_id: str) -> Document | None: ...
    def referrals(self, user_id: str) -> Document | None: ...
    def gift(self, code: str) -> Document | None: ...
    def referral_code(self, code: str) -> Document | None: ...

    def orders(self, cursor: str | None) -> Document | None:
        """The approval queue of all users."""
        ...

    def adjustments(self, cursor: str | None) -> Document | None:
        """The proposed adjustments of all users."""
        ...

    def leaderboard(self, name: str, asset: str, at_us: int) -> Document | None:
        """Its first ``LEADERS`` items."""
        ...

    def games(self) -> set[str] | None:
        """The games whose periods can be read; None: of all games."""
        ...

    def periods(self, game: str, cursor: str | None) -> Document | None: ...
    def period(self, game: str, period: str) -> Document | None: ...

    def house(self, asset: str, from_us: int, to_us: int) -> Document | None:
        """By the hour, of all games; at most 31 days."""
        ...

    def accounts(self, partition: int) -> Accounts | None:
        """The totals; None if these reads have none, or none over all events of the partition."""
        ...

    def users(self, partition: int) -> tuple[int, set[str]] | None:
        """The seq at which the partition's rows are true, and the users that have rows; None if these reads cannot
        say."""
        ...


class Difference(NamedTuple):
    """``read``: the read's path; ``field``: a path into the document; both values as JSON."""

    user_id: str
    read: str
    field: str
    position: str
    expected: str
    found: str


def unequal_fields(path: str, expected: Any, found: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield path and both values where two documents differ, except in ``as_of`` and in commissions of 0."""
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
                yield from unequal_fields(inner, expected[name], found[name])
    elif isinstance(expected, list) and isinstance(found, list):
        for number, (wanted, got) in enumerate(zip(expected, found, strict=False)):
            yield from unequal_fields(f"{path}[{number}]", wanted, got)
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
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can escape and UTF-8 cannot encode
        return json.dumps(value)
