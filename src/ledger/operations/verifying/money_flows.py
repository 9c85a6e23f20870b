"""What the auditor checks of money flows: which event led to a bonus of the ledger's own, and the days of attendance.

Invariants:
(1) nothing of ``ledger`` is imported here, as in ``postings``;
(2) a consequence follows its cause directly, or another consequence of it, so only the last cause of each partition
    is remembered;
(3) a cause leads to one bonus, in its own asset. Only a new wallet gets several, of different assets, in their order.
"""

from datetime import UTC, datetime
from typing import Any, Final

from msgspec import UNSET

from ledger.operations.verifying.records import Record

_LED_TO_BY: Final = {
    "registration": "wallet_opened",
    "first_deposit": "deposited",
    "invitation": "referral_valid",
}
"""Kind of a bonus → the type of the event that leads to it."""
_DAY_US: Final = 86_400_000_000


class MoneyFlows:
    """Each function returns what is wrong with the event, or None."""

    def __init__(self) -> None:
        self._causes: dict[int, tuple[int, str, str, str | None]] = {}
        self._last: dict[int, tuple[int, str]] = {}
        """The seq of the last cause or consequence in a partition, and the asset of the bonus that it is."""
        self._depositors: set[str] = set()
        self._granted: dict[tuple[str, str], int] = {}
        self._attendance: dict[tuple[str, str], tuple[int, int]] = {}

    def may_cause(self, event: Record, asset: str | None) -> None:
        """Consequences of the event may follow it: a bonus of the asset, or, if it is None, of each asset."""
        self._causes[event.partition] = (event.seq, event.user_id, event.type, asset)
        self._last[event.partition] = (event.seq, "")

    def deposited(self, event: Record) -> str | None:
        first = event.user_id not in self._depositors
        if event.data.first_deposit != first:
            return f"it {'is' if first else 'is not'} the first deposit of the wallet"
        if first:
            self._depositors.add(event.user_id)
            self.may_cause(event, event.data.asset)
        return wrong_wagering(event.data)

    def granted(self, event: Record) -> str | None:
        """``bonus_granted``, by a command or as a consequence."""
        data = event.data
        own = event.command_id[:1] == "~"
        if own != (data.kind is not UNSET) or own != (data.cause is not UNSET):
            return "only a bonus that the ledger itself granted has a kind and a cause"
        if not own:
            return wrong_wagering(data)
        if data.rules is UNSET or data.kind not in _LED_TO_BY:
            return "a bonus that the ledger itself granted has a known kind and names its rules"
        seq, user_id, cause, asset = self._causes.get(event.partition, (0, "", "", None))
        led = (user_id, cause) == (event.user_id, _LED_TO_BY[data.kind])
        last, granted = self._last.get(event.partition, (0, ""))
        if not led or data.cause != f"{event.partition}:{seq}" or event.seq != last + 1:
            return f"it does not follow directly the {_LED_TO_BY[data.kind]} that it names as its cause"
        if (granted or asset != data.asset) if asset is not None else data.asset <= granted:
            return f"{data.cause} leads to no such bonus of {data.asset}, or the wallet has it already"
        self._last[event.partition] = (event.seq, data.asset)
        return self._wrong_grant_id(event, data.kind) or wrong_wagering(data)

    def attended(self, event: Record) -> str | None:
        """``attendance_claimed``."""
        data = event.data
        day = event.time_us // _DAY_US
        if data.day != datetime.fromtimestamp(event.time_us / 1e6, UTC).date().isoformat():
            return f"its day is {data.day}, which is not the UTC day of its time"
        key = (event.user_id, data.asset)
        last, streak = self._attendance.get(key, (-2, 0))
        if last == day:
            return f"the attendance bonus of {data.day} is claimed twice"
        if data.streak != 1 and (last != day - 1 or data.streak != streak + 1):
            return f"its streak is {data.streak}, after a streak of {streak}"
        self._attendance[key] = (day, data.streak)
        return self._wrong_grant_id(event, "attendance") or wrong_wagering(data)

    def received(self, event: Record) -> str | None:
        """``gift_received``."""
        return self._wrong_grant_id(event, "gift") or wrong_wagering(event.data)

    def _wrong_grant_id(self, event: Record, kind: str) -> str | None:
        key = (event.user_id, kind)
        number = self._granted[key] = self._granted.get(key, 0) + 1
        if event.data.grant_id != f"~{kind}:{number}":
            return f"its grant is {event.data.grant_id}, not ~{kind}:{number}"
        return None


def wrong_wagering(data: Any) -> str | None:
    """What is wrong with the wagering that the event adds; None if nothing is."""
    if data.wagering is not UNSET and (data.rules is UNSET or not 0 < data.wagering < 2**53):
        return f"it adds {data.wagering} to the wagering, by no rules or out of the range of an amount"
    return None
