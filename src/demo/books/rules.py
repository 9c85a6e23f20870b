"""The money rules of a rules file (`STAKELOG_RULES`), read from its JSON by the contract alone. No I/O.

Amounts are in minor units. An asset without rules has no money flows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Steps = tuple[tuple[int, int], ...]
LEVELS = 6
"""The contract: referrers are paid and members counted over at most six levels."""


@dataclass(frozen=True, slots=True)
class Commission:
    """When referrers are paid (`mode`: daily or per_bet), and the rates by level, in billionths of the stake."""

    mode: str
    delay_s: int
    rates_e9: tuple[int, ...]
    agents: dict[int, tuple[int, ...]]

    def rate_e9(self, agent_level: int, level: int) -> int:
        """The rate at ``level`` above the member for a referrer with this agent level."""
        rates = self.agents.get(agent_level, self.rates_e9)
        return rates[level - 1] if level <= len(rates) else 0


@dataclass(frozen=True, slots=True)
class MoneyRules:
    """The rules of one asset."""

    registration: int = 0
    first_deposit: Steps = ()
    attendance: tuple[int, ...] = ()
    attendance_needs_deposit: int = 0
    wagering: dict[str, int] = field(default_factory=dict)
    withdrawal: dict[str, int] = field(default_factory=dict)
    valid_referral: int | None = None
    invitation: Steps = ()
    commission: Commission | None = None

    def wagered(self, *, deposit: int = 0, bonus: int = 0) -> int:
        """What must be staked for a deposit and a bonus before a withdrawal."""
        return deposit * self.wagering.get("deposit", 0) + bonus * self.wagering.get("bonus", 0)


NO_RULES = MoneyRules()
Rules = Mapping[str, MoneyRules]
"""Asset → its rules."""


def money_rules(document: Mapping[str, Any]) -> dict[str, MoneyRules]:
    """The rules in a rules file. Raises ValueError for rules that the books cannot follow."""
    return {asset: _of_asset(asset, given) for asset, given in (document.get("money") or {}).items()}


def _of_asset(asset: str, given: Mapping[str, Any]) -> MoneyRules:
    if given.get("bonus_expires_after_s") is not None:
        raise ValueError(f"money.{asset}.bonus_expires_after_s: the demo plays only by bonuses that never expire")
    commission = given.get("commission")
    return MoneyRules(
        registration=given.get("registration") or 0,
        first_deposit=_steps(given.get("first_deposit")),
        attendance=tuple(given.get("attendance") or ()),
        attendance_needs_deposit=given.get("attendance_needs_deposit") or 0,
        wagering=dict(given.get("wagering") or {}),
        withdrawal={name: bound for name, bound in (given.get("withdrawal") or {}).items() if bound is not None},
        valid_referral=given.get("valid_referral"),
        invitation=_steps(given.get("invitation")),
        commission=None if commission is None else _commission(commission),
    )


def _commission(given: Mapping[str, Any]) -> Commission:
    agents = {int(level): tuple(rates) for level, rates in (given.get("agents") or {}).items()}
    return Commission(given.get("mode", "daily"), given.get("delay_s", 0), tuple(given.get("rates_e9") or ()), agents)


def _steps(given: Any) -> Steps:
    return tuple((least, bonus) for least, bonus in given or ())


def reached(steps: Steps, value: int) -> int:
    """The bonus of the largest step that ``value`` reaches; 0 if it reaches none."""
    return max((step for step in steps if step[0] <= value), default=(0, 0))[1]
