"""Checks the money flows: the cause of each bonus of the ledger's own, the days of attendance, and that each bonus,
its expiry and the wagering that an event adds are those of the rules that the event names.

Invariants:
(1) nothing of ``ledger`` is imported here, as in ``postings``;
(2) a consequence comes directly after its cause, or after another consequence of this cause. So only the last cause
of each partition is remembered;
(3) a cause leads to one bonus, in its own asset. Only a new wallet gets several, one for each asset, ordered by
    asset;
(4) a bonus is less than its rule gives only if the wallet has no room for more; wagering only if more would have to
    be staked than the largest amount.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, NamedTuple

from msgspec import UNSET

from ledger.operations.verifying.money_rules import MoneyRules, OfAsset
from ledger.operations.verifying.records import Record

_LED_TO_BY: Final = {
    "registration": "wallet_opened",
    "first_deposit": "deposited",
    "invitation": "referral_valid",
}
"""Kind of a bonus → the type of the event that leads to it."""
_DAY_US: Final = 86_400_000_000
_AMOUNT_MAX: Final = 2**53 - 1


class _Cause(NamedTuple):
    """The last event of a partition that may lead to bonuses: of ``asset``, or of each asset if it is None.

    ``reached`` is what a bonus depends on: the amount of a first deposit, or the number of valid referrals.
    """

    seq: int
    user_id: str
    type: str
    asset: str | None
    reached: int


class MoneyFlows:
    """A method for each event type. It returns what is wrong with the event as a sentence, or None, and remembers
    what later events need."""

    def __init__(self, rules: MoneyRules) -> None:
        self.rules = rules
        self._causes: dict[int, _Cause] = {}
        self._last: dict[int, tuple[int, str]] = {}
        """The seq of the last cause or consequence in a partition, and the asset of the bonus that it is."""
        self._depositors: set[str] = set()
        self._deposited: dict[tuple[str, str], int] = {}
        """(wallet, asset) → the sum of its deposits, without reversed ones."""
        self._granted: dict[tuple[str, str], int] = {}
        self._attendance: dict[tuple[str, str], tuple[int, int]] = {}
        self._valid_referrals: dict[tuple[str, str], int] = {}
        self._wagering: dict[tuple[str, str], int] = {}
        """(wallet, asset) → all that its events ever added to the wagering: at least what is required now."""

    def opened(self, event: Record) -> None:
        self._may_cause(event, None, 0)

    def referred(self, event: Record) -> None:
        """``referral_valid`` without a ``reason``: the referrer gets a valid referral."""
        key = (event.user_id, event.data.asset)
        number = self._valid_referrals[key] = self._valid_referrals.get(key, 0) + 1
        self._may_cause(event, event.data.asset, number)

    def _may_cause(self, event: Record, asset: str | None, reached: int) -> None:
        self._causes[event.partition] = _Cause(event.seq, event.user_id, event.type, asset, reached)
        self._last[event.partition] = (event.seq, "")

    def deposited(self, event: Record) -> str | None:
        data = event.data
        first = event.user_id not in self._depositors
        if data.first_deposit != first:
            return f"it {'is' if first else 'is not'} the first deposit of the wallet"
        if first:
            self._depositors.add(event.user_id)
            if data.bonus is UNSET:
                self._may_cause(event, data.asset, data.amount)
        key = (event.user_id, data.asset)
        self._deposited[key] = self._deposited.get(key, 0) + data.amount
        if data.referral_rules is not UNSET:
            rules = self.rules.of(data.referral_rules, data.asset)
            if rules is not None and (rules.valid_referral is None or self._deposited[key] < rules.valid_referral):
                return f"deposits of {self._deposited[key]} make no valid referral by its rules"
        return self._wrong_wagering(event, data.amount, 0 if data.bonus is UNSET else data.bonus)

    def reversed(self, deposit: Record) -> None:
        """``deposit`` was reversed: the event of this deposit."""
        self._deposited[deposit.user_id, deposit.data.asset] -= deposit.data.amount

    def settled(self, event: Record, asset: str, *, referred: bool) -> str | None:
        """``bet_settled`` of a bet that earns a commission. ``referred``: the wallet has a referrer."""
        data = event.data
        if type(data.commission_at_us) is not int or type(data.commission_rules) is not str:
            return "a commission has a time and rules"
        if data.commission_at_us < event.time_us:
            return f"the commission is due at {data.commission_at_us}, before this event"
        if not referred:
            return "the wallet has no referrer, but its stake earns a commission"
        rules = self.rules.of(data.commission_rules, asset)
        if rules is None:
            return None
        if rules.commission is None or not rules.commission.levels:
            return f"its rules have no commission of {asset}"
        due_at_us = rules.commission.due_at_us(event.time_us)
        if data.commission_at_us != due_at_us:
            return f"the commission is due at {data.commission_at_us}, by its rules at {due_at_us}"
        return None

    def granted(self, event: Record, room: Callable[[], int]) -> str | None:
        """``bonus_granted``, by a command or as a consequence. ``room`` returns how much more of the asset the wallet
        can take."""
        data = event.data
        own = event.command_id[:1] == "~"
        if own != (data.kind is not UNSET) or own != (data.cause is not UNSET):
            return "only a bonus that the ledger itself granted has a kind and a cause"
        if not own:
            return self._wrong_wagering(event, 0, data.amount)
        if data.rules is UNSET or data.kind not in _LED_TO_BY:
            return "a bonus that the ledger itself granted has a known kind and names its rules"
        cause = self._causes.get(event.partition, _Cause(0, "", "", None, 0))
        led = (cause.user_id, cause.type) == (event.user_id, _LED_TO_BY[data.kind])
        last, granted = self._last.get(event.partition, (0, ""))
        if not led or data.cause != f"{event.partition}:{cause.seq}" or event.seq != last + 1:
            return f"it does not follow directly the {_LED_TO_BY[data.kind]} that it names as its cause"
        if (granted or cause.asset != data.asset) if cause.asset is not None else data.asset <= granted:
            return f"{data.cause} leads to no such bonus of {data.asset}, or the wallet has it already"
        self._last[event.partition] = (event.seq, data.asset)
        return (
            self._wrong_grant_id(event, data.kind)
            or self._wrong_bonus(event, cause.reached, room)
            or self._wrong_wagering(event, 0, data.amount)
        )

    def _wrong_bonus(self, event: Record, reached: int, room: Callable[[], int]) -> str | None:
        """What is wrong with a bonus of the ledger's own by its rules, or None. ``reached``: as in ``_Cause``."""
        data = event.data
        rules = self.rules.of(data.rules, data.asset)
        if rules is None:
            return None
        match data.kind:
            case "registration":
                due = rules.registration
            case "first_deposit":
                due = rules.for_first_deposit(reached)
            case _:
                due = rules.invitation.get(reached, 0)
        if data.amount != due and (data.amount > due or data.amount != room()):
            return f"its amount is {data.amount}, the {data.kind} bonus by its rules is {due}"
        return _wrong_expiry(event, rules)

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
        return (
            self._wrong_grant_id(event, "attendance")
            or self._wrong_attendance(event, streak if last == day - 1 else 0)
            or self._wrong_wagering(event, 0, data.amount)
        )

    def _wrong_attendance(self, event: Record, yesterday: int) -> str | None:
        """What is wrong with the bonus of a day by its rules, or None. ``yesterday``: the length of the streak until
        the day before; 0 if there was none."""
        data = event.data
        rules = self.rules.of(data.rules, data.asset)
        if rules is None:
            return None
        days = rules.attendance
        if not days:
            return f"its rules have no attendance bonus of {data.asset}"
        streak = yesterday + 1 if yesterday < len(days) else 1
        if data.streak != streak:
            return f"its streak is {data.streak}, by its rules of {len(days)} days it is {streak}"
        if data.amount != days[streak - 1]:
            return f"its amount is {data.amount}, the bonus of day {streak} by its rules is {days[streak - 1]}"
        return _wrong_expiry(event, rules)

    def received(self, event: Record) -> str | None:
        """``gift_received``."""
        data = event.data
        return (
            self._wrong_grant_id(event, "gift")
            or self._wrong_share(event)
            or self._wrong_wagering(event, 0, data.amount)
        )

    def _wrong_share(self, event: Record) -> str | None:
        data = event.data
        if data.rules is UNSET:
            return None if data.expires_at_us is UNSET else "it expires, by no rules"
        rules = self.rules.of(data.rules, data.asset)
        return None if rules is None else _wrong_expiry(event, rules)

    def _wrong_grant_id(self, event: Record, kind: str) -> str | None:
        key = (event.user_id, kind)
        number = self._granted[key] = self._granted.get(key, 0) + 1
        if event.data.grant_id != f"~{kind}:{number}":
            return f"its grant is {event.data.grant_id}, not ~{kind}:{number}"
        return None

    def _wrong_wagering(self, event: Record, deposit: int, bonus: int) -> str | None:
        """What is wrong with the wagering that the event adds, by its rules for this deposit and this bonus, or
        None."""
        data = event.data
        if data.wagering is not UNSET and (data.rules is UNSET or not 0 < data.wagering <= _AMOUNT_MAX):
            return f"it adds {data.wagering} to the wagering, by no rules or out of the range of an amount"
        if data.rules is UNSET:
            return None
        added = 0 if data.wagering is UNSET else data.wagering
        key = (event.user_id, data.asset)
        before = self._wagering.get(key, 0)
        if added:
            self._wagering[key] = before + added
        rules = self.rules.of(data.rules, data.asset)
        if rules is None:
            return None
        due = deposit * rules.staked_per_deposit + bonus * rules.staked_per_bonus
        if added != due and (added > due or before + added < _AMOUNT_MAX):
            return f"it adds {added} to the wagering, by its rules {due}"
        return None


def _wrong_expiry(event: Record, rules: OfAsset) -> str | None:
    """What is wrong with the expiry of the bonus by its rules, or None."""
    stated = event.data.expires_at_us
    due = rules.expires_at_us(event.time_us)
    if (None if stated is UNSET else stated) != due:
        return f"it expires {_moment(None if stated is UNSET else stated)}, by its rules {_moment(due)}"
    return None


def _moment(time_us: int | None) -> str:
    return "never" if time_us is None else f"at {time_us}"
