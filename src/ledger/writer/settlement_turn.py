"""Which partition of a node may settle bets or pay commissions now: one at a time.

Every partition settles after a result, and pays commissions after a day. If all of them decided a round of these in
turn, a command would wait for all of those rounds. With one at a time the rounds can be larger, so that each event
costs less, and a command waits for one of them.

Invariants:
(1) at most one partition has the turn, and it keeps it while it decides a round, not while the round is appended;
(2) a partition that was refused the turn is woken each time the turn becomes free. All are: the first one may be busy
    with an append that takes long.
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
        """The partition neither has the turn nor waits for it any more. Harmless if that is so already."""
        self._waiting.pop(partition, None)
        if self._partition == partition:
            self._partition = None
        if self._partition is None:
            for wake in self._waiting.values():
                wake()
