"""A state store in memory: complete, except that it ends with the process.

It keeps encoded bytes, as a disk does, so that a value that does not survive encoding fails in every test.
"""

from collections.abc import Iterable, Mapping, Sequence

from ledger.core.record import Head
from ledger.core.state_values import VALUES_FORMAT, Value, decode_value, encode_value
from ledger.errors import LedgerError
from ledger.ports import Page, StateCopy


class MemoryStateStore:
    """``StateStore`` over dicts."""

    values_format = VALUES_FORMAT

    def __init__(self) -> None:
        self._values: dict[int, dict[str, bytes]] = {}
        self._checkpoints: dict[int, Head] = {}
        self._places: dict[int, bytes | None] = {}

    def checkpoint(self, partition: int) -> Head | None:
        return self._checkpoints.get(partition)

    def place(self, partition: int) -> bytes | None:
        return self._places.get(partition)

    def get(self, partition: int, keys: Sequence[str]) -> dict[str, Value]:
        values = self._values.get(partition, {})
        return {key: decode_value(values[key]) for key in keys if key in values}

    get_in_thread = get  # ``save`` replaces the whole dict: any thread may read it

    def scan(self, partition: int, first: str, last: str, limit: int) -> list[tuple[str, Value]]:
        values = self._values.get(partition, {})
        keys = sorted(key for key in values if first <= key < last)[:limit]
        return [(key, decode_value(values[key])) for key in keys]

    def keys(self, partition: int, after: str, limit: int) -> list[str]:
        return sorted(key for key in self._values.get(partition, {}) if key > after)[:limit]

    def save(self, partition: int, changes: Mapping[str, Value | None], at: Head, place: bytes | None = None) -> None:
        # A copy, replaced as a whole: `save` runs in another thread, and a reader must not see half of it.
        values = dict(self._values.get(partition, {}))
        for key, value in changes.items():
            if value is None:
                values.pop(key, None)
            else:
                values[key] = encode_value(value)
        self._values[partition] = values
        self._checkpoints[partition], self._places[partition] = at, place

    def merge(self, _: int) -> bool:
        return False

    def copy(self, partition: int) -> StateCopy | None:
        at = self._checkpoints.get(partition)
        if at is None:
            return None
        return MemoryStateCopy(at, self._places[partition], self._values[partition])  # it is never changed in place

    def replace(self, partition: int, pages: Iterable[Page], at: Head, place: bytes | None) -> None:
        for kept in (self._values, self._checkpoints, self._places):
            kept.pop(partition, None)
        values: dict[str, bytes] = {}
        for page in pages:
            lines = page.split(b"\n")
            if len(lines) % 2:
                raise LedgerError(
                    f"a page of the state of partition {partition} is damaged: it has {len(lines)} lines"
                )
            values.update(zip(map(bytes.decode, lines[::2]), lines[1::2], strict=True))
        self._values[partition] = values
        self._checkpoints[partition], self._places[partition] = at, place

    def close(self) -> None:
        """Nothing to release."""


class MemoryStateCopy:
    """``StateCopy`` of a dict that is never changed."""

    def __init__(self, at: Head, place: bytes | None, values: Mapping[str, bytes]) -> None:
        self.at, self.place = at, place
        self._items = sorted(values.items())

    def page(self, after: str, values_max: int, bytes_max: int) -> tuple[Page, int, str] | None:
        lines: list[bytes] = []
        size, last = 0, after
        for key, value in self._items:
            if key <= after:
                continue
            if len(lines) == 2 * values_max or (lines and size + len(key) + len(value) + 2 > bytes_max):
                break
            lines += (key.encode(), value)
            size, last = size + len(key) + len(value) + 2, key
        return (b"\n".join(lines), len(lines) // 2, last) if lines else None

    def close(self) -> None:
        """Nothing to release."""
