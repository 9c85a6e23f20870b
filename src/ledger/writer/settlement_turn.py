"""Which partition of a node may settle bets or pay commissions now: one at a time.

After a result every partition settles bets, and after midnight every partition pays commissions. If every partition
decided such a round, a command would wait for all of those rounds. With one partition at a time a command waits for
one round, and rounds can be larger, so each event costs less.

Invariants:
(1) at most one partition has the turn, and it keeps it while it decides a round, not while the round is appended;
(2) every partition that was refused the turn is woken when the turn becomes free. Waking only the first one would not
    do: it may be busy with a slow append.
"""

from collections.abc import Callable


class SettlementTurn:
    """Shared by the writers of a node."""

    def __init__(self) -> None:
        self._partition: int | None = None
        self._waiting: dict[int, Callable[[], None]] = {}

    def take(self, partition: int, wake: Callable[[], None]) -> bool:
        """Whether the partition has the turn now. If not, ``wake`` is called when it should try again."""
        if self._partition is None:
            self._partition = partition
            self._waiting.pop(partition, None)
        elif self._partition != partition:
            self._waiting[partition] = wake
        return self._partition == partition

    def give_back(self, partition: int) -> None:
        """Give up the turn, or the wait for it. Does nothing if the partition has neither."""
        self._waiting.pop(partition, None)
        if self._partition == partition:
            self._partition = None
        if self._partition is None:
            for wake in self._waiting.values():
                wake()
