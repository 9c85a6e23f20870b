"""What the writers of a node count of their rounds, for its metrics."""

from ledger.histogram import SECONDS, Histogram

_EVENTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000)


class RoundCounts:
    """One for all writers of a node."""

    def __init__(self) -> None:
        self.events = Histogram(_EVENTS)
        """Events of each round that wrote."""
        self.append_s = Histogram(SECONDS)
        """How long each append took until it was durable, in seconds."""
        self.timer_late_s = Histogram(SECONDS)
        """For each round with due timers: how late the first of them was, in seconds."""
        self.settled = 0
        """Bets that outcomes of periods ended."""
        self.unpaid = 0
        """Of these bets, those whose payout did not fit into the wallet."""
        self.stale = 0
        """Appends that the log refused because another process had written to the partition."""
