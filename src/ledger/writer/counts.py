"""What the writers of a node count, for its metrics."""

from ledger.histogram import SECONDS, Histogram

_EVENTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000)


class RoundCounts:
    """Counts since the start of the process, of all writers of a node together."""

    def __init__(self) -> None:
        self.events = Histogram(_EVENTS)
        """How many events each round wrote; rounds that wrote none are left out."""
        self.append_s = Histogram(SECONDS)
        """How long each append took until its records were durable, in seconds."""
        self.timer_late_s = Histogram(SECONDS)
        """How late the earliest due timer of a round was, in seconds; rounds without one are left out."""
        self.settled = 0
        """Bets that were settled or returned by outcomes of periods."""
        self.unpaid = 0
        """Bets whose payout did not fit into the wallet, so that a part of it is unpaid."""
        self.stale = 0
        """Appends that the log refused because another process had written to the partition."""
