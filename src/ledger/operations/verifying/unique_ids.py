"""Finds ids that are used twice in one wallet, in bounded memory.

Each id is kept as a 64-bit hash. When ``_IN_MEMORY`` hashes are kept, they move to a temporary file, divided by their
last bits into parts, so that one part at a time is searched at the end. Two equal hashes are only a suspicion: then
the log is read once more, and the ids themselves are compared. At a hundred million events the chance of a
false suspicion is about 1 in 2,000.

Invariants:
(1) every id that is used twice is found: equal ids have equal hashes;
(2) memory is bounded: ``_IN_MEMORY`` hashes, then one part of ``_PARTS`` while it is searched. The file takes 8 bytes
    an id.
"""

from array import array
from collections.abc import Callable, Iterable
from tempfile import TemporaryFile
from typing import Any, Final

from ledger.operations.verifying.records import Record

_IN_MEMORY: Final = 2**18
"""Chosen: 2 MB, and some 20 MB while they are searched."""
_PARTS: Final = 256
_WORD: Final = 8

Key = tuple[str, ...]
"""Wallet, kind of id, id. A command's id has no kind."""


KeyOf = Callable[[str, Any], Key]

KEYS: Final[dict[str, KeyOf]] = {
    "wallet_opened": lambda user_id, _: (user_id, "user_id", user_id),
    "deposited": lambda user_id, data: (user_id, "order_id", data.order_id),
    "withdrawal_requested": lambda user_id, data: (user_id, "order_id", data.order_id),
    "bet_placed": lambda user_id, data: (user_id, "bet_id", data.bet_id),
    "hold_placed": lambda user_id, data: (user_id, "hold_id", data.hold_id),
    "transfer_sent": lambda user_id, data: (user_id, "transfer_id", data.transfer_id),
    "bonus_granted": lambda user_id, data: (user_id, "grant_id", data.grant_id),
    "attendance_claimed": lambda user_id, data: (user_id, "grant_id", data.grant_id),
    "adjustment_proposed": lambda user_id, data: (user_id, "adjustment_id", data.adjustment_id),
    "result_recorded": lambda user_id, data: (user_id, "period", data.period),
    "period_cancelled": lambda user_id, data: (user_id, "period", data.period),
    "gift_created": lambda user_id, _: (user_id, "gift", user_id),
    "gift_received": lambda user_id, data: (user_id, "share of the gift", data.code),
    "referral_code_granted": lambda user_id, _: (user_id, "referral code of", user_id),
    "referrer_set": lambda user_id, _: (user_id, "referrer of", user_id),
    "reversed": lambda user_id, data: (user_id, "reversed position", data.position),
}
"""Event type → the id, besides the command's, that an event of this type uses for the first and only time."""


def second_key_of(event: Record) -> Key | None:
    """The second id that some events use, or None: a deposit with a bonus also uses its order id as the id of a
    grant, the share of a gift uses the id of its grant, and a cancellation before the bet uses the bet's id."""
    if event.type == "gift_received":
        return (event.user_id, "grant_id", event.data.grant_id)
    if event.type == "deposited" and event.data.bonus:
        return (event.user_id, "grant_id", event.data.order_id)
    if event.type == "bet_cancelled" and event.data.before_bet:
        return (event.user_id, "bet_id", event.data.bet_id)
    return None


def _keys_of(event: Record) -> list[Key]:
    keys: list[Key] = [(event.user_id, event.command_id)]
    if (key_of := KEYS.get(event.type)) is not None:
        keys.append(key_of(event.user_id, event.data))
    if (second := second_key_of(event)) is not None:
        keys.append(second)
    return keys


SECOND_KEY: Final = frozenset({"deposited", "bet_cancelled", "gift_received"})
"""The types of which ``second_key_of`` may return one."""


class UniqueIds:
    """``add`` is ``kept.append``: the caller adds ``hash(key)`` of each id, and calls ``spill`` after each page."""

    def __init__(self, in_memory: int = _IN_MEMORY) -> None:
        self.kept: array[int] = array("q")
        self._in_memory = in_memory
        self._file: Any = None
        self._offsets: list[list[tuple[int, int]]] = [[] for _ in range(_PARTS)]

    def spill(self) -> None:
        """Move the kept hashes to the file if there are ``_IN_MEMORY`` of them. Raises OSError, for example if the
        disk is full."""
        if len(self.kept) < self._in_memory:
            return
        if self._file is None:
            self._file = TemporaryFile()  # noqa: SIM115 - it lives as long as the search, and closes itself
        parts: list[list[int]] = [[] for _ in range(_PARTS)]
        for value in self.kept:
            parts[value & (_PARTS - 1)].append(value)
        for offsets, part in zip(self._offsets, parts, strict=True):
            offsets.append((self._file.tell(), len(part)))
            array("q", part).tofile(self._file)
        del self.kept[:]

    def suspects(self) -> set[int]:
        """The hashes that were added more than once."""
        found = _repeated(self.kept) if self._file is None else set()
        if self._file is not None:
            self._in_memory = 0
            self.spill()
            for offsets in self._offsets:
                part: array[int] = array("q")
                for offset, count in offsets:
                    self._file.seek(offset)
                    part.frombytes(self._file.read(count * _WORD))
                found |= _repeated(part)
            self._file.close()
        return found


def _repeated(values: "array[int]") -> set[int]:
    if len(set(values)) == len(values):
        return set()
    seen: set[int] = set()
    return {value for value in values if value in seen or seen.add(value)}  # type: ignore[func-returns-value]


def second_use(events: Iterable[Record], suspects: set[int]) -> tuple[int, int, str] | None:
    """Partition, seq and reason of the first event that uses an id again, if the suspicion is right."""
    seen: set[Key] = set()
    for event in events:
        for key in _keys_of(event):
            if hash(key) not in suspects:
                continue
            if key in seen:
                name = f"the command {key[1]}" if len(key) == 2 else f"the {key[1]} {key[2]}"
                return event.partition, event.seq, f"{name} of {event.user_id} is used twice"
            seen.add(key)
    return None
