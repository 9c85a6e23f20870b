"""How much a wallet must stake before a withdrawal, from the events of one asset in the order of the log. No I/O.

A deposit or a bonus adds to what is required. Once enough was staked, the next addition begins a new window, in which
nothing is staked yet. A bet or an addition counts no longer when it is cancelled or reversed. If it is of an earlier
window, it changes the surplus: what was staked in earlier windows beyond what was required. The part of a cancelled
stake that is larger than the surplus must be staked again in the current window.
"""

from __future__ import annotations

from dataclasses import dataclass, field

AMOUNT_MAX = 2**53 - 1
NO_SEQ = 2**63
"""The place of an event of which only the effect is known: after all others."""


@dataclass(frozen=True, slots=True)
class Window:
    """The current window."""

    required: int
    done: int

    @property
    def remaining(self) -> int:
        """What must still be staked."""
        return max(self.required - self.done, 0)


@dataclass(slots=True)
class Wagering:
    """The events of one wallet and asset that count for its wagering. They may be noted in any order of seq."""

    _facts: list[tuple[int, str, object, int]] = field(default_factory=list)
    _now: Window | None = None
    _is_current: bool = True

    def add(self, seq: int, amount: int) -> None:
        """The deposit or the bonus at ``seq`` requires ``amount`` more."""
        if amount:
            self._note(seq, "add", seq, amount)

    def stake(self, seq: int, bet_id: str, amount: int) -> None:
        """A bet was placed at ``seq``."""
        self._note(seq, "stake", bet_id, amount)

    def cancel(self, seq: int, bet_id: str) -> None:
        """The bet was cancelled at ``seq``."""
        self._note(seq, "cancel", bet_id, 0)

    def reverse(self, seq: int, reversed_seq: int) -> None:
        """The event at ``reversed_seq`` was reversed at ``seq``."""
        self._note(seq, "reverse", reversed_seq, 0)

    def now(self) -> Window | None:
        """The current window; None if nothing was ever required."""
        if not self._is_current:
            self._now, self._is_current = self._replayed(), True
        return self._now

    def _note(self, seq: int, kind: str, of: object, amount: int) -> None:
        self._facts.append((seq, kind, of, amount))
        self._is_current = False

    def _replayed(self) -> Window | None:
        since: int | None = None
        required = done = surplus = 0
        staked: dict[object, tuple[int, int]] = {}
        added: dict[object, int] = {}
        for seq, kind, of, amount in sorted(self._facts, key=lambda fact: fact[0]):
            if kind == "add":
                if done >= required:
                    surplus += done - required
                    since, required, done = seq, 0, 0
                required += amount
                added[of] = amount
            elif since is None:
                continue
            elif kind == "stake":
                done += amount
                staked[of] = (seq, amount)
            elif kind == "cancel":
                placed_seq, stake = staked.get(of, (0, 0))
                if placed_seq > since:
                    done -= stake
                else:
                    required = min(required + max(stake - surplus, 0), AMOUNT_MAX)
                    surplus = max(surplus - stake, 0)
            elif isinstance(of, int) and of >= since:
                required -= added.get(of, 0)
            elif isinstance(of, int):
                surplus += added.get(of, 0)
        return None if since is None else Window(required, done)
