"""The operator's rules of money flows as the auditor reads them, and what they give: bonuses, wagering, commissions.

The rules are written here a second time, from their description in ``docs/money-flows.md``. Nothing of ``ledger`` is
imported.

Invariants:
(1) a set of rules counts only under the SHA-256 of its canonical form: JSON with sorted keys and without spaces;
(2) the digest of a set of rules that is not known is remembered, so that a warning can name what was not checked.
"""

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final, NamedTuple

_DAY_US: Final = 86_400_000_000


class WrongRules(ValueError):
    """The SHA-256 of a set of rules is not its digest. The text names the digest."""


class Commission(NamedTuple):
    """The rates of each level in billionths of a stake; ``agents``: by agent level, where it has rates of its own."""

    per_bet: bool
    delay_us: int
    rates_e9: list[int]
    agents: dict[int, list[int]]

    def due_at_us(self, settled_at_us: int) -> int:
        """When the commission on a bet is due."""
        if self.per_bet:
            return settled_at_us
        return settled_at_us - settled_at_us % _DAY_US + _DAY_US + self.delay_us

    def rate_e9(self, agent_level: int, level: int) -> int:
        """The rate at ``level`` for a referrer with this agent level; 0 if there is none."""
        rates = self.agents.get(agent_level, self.rates_e9)
        return rates[level - 1] if 0 < level <= len(rates) else 0

    @property
    def levels(self) -> int:
        """The last level that has a rate, of any agent level."""
        return max(len(rates) for rates in (self.rates_e9, *self.agents.values()))


class OfAsset(NamedTuple):
    """The rules of one asset; 0, an empty list and None mean that there is no such rule."""

    registration: int
    first_deposit: list[tuple[int, int]]
    attendance: list[int]
    expires_after_us: int | None
    staked_per_deposit: int
    staked_per_bonus: int
    valid_referral: int | None
    invitation: dict[int, int]
    commission: Commission | None

    def for_first_deposit(self, amount: int) -> int:
        """The bonus of the largest step that a first deposit reaches."""
        reached = 0
        for least, bonus in self.first_deposit:
            if amount >= least:
                reached = bonus
        return reached

    def expires_at_us(self, granted_at_us: int) -> int | None:
        """When a bonus that was granted then expires; None: never."""
        return None if self.expires_after_us is None else granted_at_us + self.expires_after_us


class MoneyRules:
    """The known sets of rules by digest, and the digests that events name and that are not known."""

    def __init__(self, forms: Mapping[str, bytes]) -> None:
        """``forms``: the sets of rules as JSON, by digest. Raises WrongRules."""
        self._known = {digest: _read(digest, form) for digest, form in forms.items()}
        self.missing: set[str] = set()

    def of(self, digest: str, asset: str) -> OfAsset | None:
        """The rules of the asset in the set of this digest; None if the set is not known."""
        known = self._known.get(digest)
        if known is None:
            self.missing.add(digest)
            return None
        return known.get(asset, _NO_RULES)


def _read(digest: str, form: bytes) -> dict[str, OfAsset]:
    try:
        rules = json.loads(form)
        canonical = json.dumps(rules, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        if sha256(canonical.encode()).hexdigest() != digest:
            raise WrongRules(f"the rules of money flows that are kept under {digest} have another digest")
        return {asset: _of_asset(of_asset) for asset, of_asset in rules.items()}
    except WrongRules:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WrongRules(f"the rules of money flows that are kept under {digest} cannot be read: {error!r}") from None


def _of_asset(rules: Mapping[str, Any]) -> OfAsset:
    """The rules of one asset from their JSON. A member that is left out has its default."""
    expires_after_s, valid_referral = rules.get("bonus_expires_after_s"), rules.get("valid_referral")
    commission = rules.get("commission")
    return OfAsset(
        int(rules.get("registration", 0)),
        sorted((int(least), int(bonus)) for least, bonus in rules.get("first_deposit", ())),
        [int(bonus) for bonus in rules.get("attendance", ())],
        None if expires_after_s is None else int(expires_after_s) * 1_000_000,
        int(rules.get("wagering_deposit", 0)),
        int(rules.get("wagering_bonus", 0)),
        None if valid_referral is None else int(valid_referral),
        {int(count): int(bonus) for count, bonus in rules.get("invitation", ())},
        None if commission is None else _commission(commission),
    )


def _commission(rules: Mapping[str, Any]) -> Commission:
    return Commission(
        rules.get("mode") == "per_bet",
        int(rules.get("delay_s", 0)) * 1_000_000,
        [int(rate) for rate in rules.get("rates_e9", ())],
        {int(level): [int(rate) for rate in rates] for level, rates in rules.get("agents", {}).items()},
    )


_NO_RULES: Final = _of_asset({})
