"""The pay tables that the folds price bets with: the built-in ones, and those that the log keeps.

The event of a bet names its pay table by digest, and a pay table never changes, so the result of a fold depends on
the log alone. A node declares a pay table before it takes a bet under it. If the log lacks one, it has been lost: the
rows say how many bets have no price.
"""

from collections.abc import Callable, Collection, Mapping

from ledger.core.games.rules import BUILT_IN
from ledger.core.games.tables import PayTable


def _no_more() -> Mapping[str, PayTable]:
    return {}


class PayTables:
    """The known pay tables; all partitions that a process folds share them."""

    def __init__(self, read: Callable[[], Mapping[str, PayTable]] = _no_more) -> None:
        """``read`` returns the pay tables that the log keeps now."""
        self.known: dict[str, PayTable] = dict(BUILT_IN.tables)
        self._read = read
        self._has_read = False
        self._lost: set[str] = set()

    def learn(self, digests: Collection[str]) -> None:
        """Read the log's tables, the first time and whenever one of ``digests`` is new. Raises LogUnavailable,
        LogUnreadable."""
        unknown = set(digests) - self.known.keys() - self._lost
        if unknown or not self._has_read:
            self.known.update(self._read())
            self._has_read = True
            self._lost |= unknown - self.known.keys()
