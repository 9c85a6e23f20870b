"""A state store in memory, real in everything but surviving the process. It keeps encoded bytes, as a disk would,
so that a value that does not survive encoding fails in the tests of every adapter."""

from collections.abc import Iterable, Mapping, Sequence

from ledger.ports import Value
from ledger.record import Head
from ledger.state_stores.encoding import decode_value, encode_value


class MemoryStateStore:
    """``StateStore`` over dicts."""

    def __init__(self) -> None:
        self._values: dict[int, dict[str, bytes]] = {}
        self._checkpoints: dict[int, Head] = {}

    def checkpoint(self, partition: int) -> Head | None:
        return self._checkpoints.get(partition)

    def get(self, partition: int, keys: Sequence[str]) -> dict[str, Value]:
        values = self._values.get(partition, {})
        return {key: decode_value(values[key]) for key in keys if key in values}

    def scan(self, partition: int, first: str, last: str, limit: int) -> list[tuple[str, Value]]:
        values = self._values.get(partition, {})
        keys = sorted(key for key in values if first <= key < last)[:limit]
        return [(key, decode_value(values[key])) for key in keys]

    def keys(self, partition: int, after: str, limit: int) -> list[str]:
        return sorted(key for key in self._values.get(partition, {}) if key > after)[:limit]

    def save(self, partition: int, changes: Mapping[str, Value | None], at: Head) -> None:
        # A copy, put in place whole: `save` runs in a thread of its own, and a reader must not see half of it.
        values = dict(self._values.get(partition, {}))
        for key, value in changes.items():
            if value is None:
                values.pop(key, None)
            else:
                values[key] = encode_value(value)
        self._values[partition] = values
        self._checkpoints[partition] = at

    def forget(self, partitions: Iterable[int]) -> None:
        for partition in partitions:
            self._values.pop(partition, None)
            self._checkpoints.pop(partition, None)

    def close(self) -> None:
        """Nothing to release."""
