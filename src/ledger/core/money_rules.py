"""The operator's rules of money flows by asset: bonuses, wagering, bounds of withdrawals, commissions.

``{"money": {"INR": {"registration": 2500, "wagering": {"deposit": 1}}}}`` in the rules file. An asset without rules
has none of the flows.

Invariants:
(1) two sets of rules have the same digest if and only if they are equal; no rules have the digest "";
(2) a set of rules is never changed: the log keeps each set that a node has started with, under its digest, and an
    event that used the set names the digest.
"""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from ledger.core.fields import AGENT_LEVEL_MAX, REFERRAL_LEVELS
from ledger.core.money import AMOUNT_MAX, Assets
from ledger.core.rules_file import (
    WrongRules,
    array_at,
    declared_asset,
    integer_at,
    integer_or_none,
    known_keys,
    object_at,
)

E9: Final = 1_000_000_000
"""A rate of 100 %."""

_DELAY_S_MAX: Final = 86_399
_STEPS_MAX: Final = 366
"""Chosen: enough for an attendance of a year; a list of steps needs far fewer."""
_EXPIRES_S_MAX: Final = 10 * 366 * 86_400
WAGERING_MAX: Final = 1_000
_PER_DAY_MAX: Final = 1_000_000

Steps = tuple[tuple[int, int], ...]
"""(what must be reached, the bonus for it), ascending by what must be reached."""


class Commission(Struct, frozen=True, forbid_unknown_fields=True):
    """The commission on the stakes of referred members.

    ``rates_e9`` has the rate of each level above the member, in billionths of the stake; ``agents`` has the rates of
    each agent level with rates of its own. ``delay_s``: how long after midnight UTC the day is closed ("daily").
    """

    mode: Literal["daily", "per_bet"] = "daily"
    delay_s: int = 0
    rates_e9: tuple[int, ...] = ()
    agents: dict[str, tuple[int, ...]] = {}

    def rates_of(self, agent_level: int) -> tuple[int, ...]:
        """The rates by which an agent of this level is paid."""
        return self.agents.get(str(agent_level), self.rates_e9)


class MoneyRules(Struct, frozen=True, forbid_unknown_fields=True):
    """The rules of one asset. Amounts are in its minor unit; 0, () and None mean that there is no such rule.

    ``attendance`` has the bonus of each day of a streak; ``wagering_deposit`` and ``wagering_bonus`` say how many
    times a deposit or a bonus must be staked before a withdrawal; ``valid_referral`` is the sum of deposits that
    makes a referral valid, ``invitation`` the bonuses of its referrer by the number of valid referrals.
    """

    registration: int = 0
    first_deposit: Steps = ()
    attendance: tuple[int, ...] = ()
    attendance_needs_deposit: int = 0
    bonus_expires_after_s: int | None = None
    wagering_deposit: int = 0
    wagering_bonus: int = 0
    withdrawal_min: int | None = None
    withdrawal_max: int | None = None
    withdrawal_per_day: int | None = None
    valid_referral: int | None = None
    invitation: Steps = ()
    commission: Commission | None = None


Money = Mapping[str, MoneyRules]
"""Asset → its rules, where it has any."""

NO_MONEY_RULES: Final = MoneyRules()
NO_MONEY: Final[Money] = {}
"""A plain dictionary, because the settings are pickled for the processes of a rebuild."""

_canonical: Final = msgspec.json.Encoder(order="sorted").encode
_decode: Final = msgspec.json.Decoder(dict[str, MoneyRules]).decode
_decode_all: Final = msgspec.json.Decoder(dict[str, dict[str, MoneyRules]]).decode


def canonical(money: Money) -> bytes:
    """The rules as JSON with sorted keys and no spaces: the log keeps this text, and the digest is its hash."""
    return _canonical(_plain(money))


def _plain(money: Money) -> dict[str, Any]:
    return {asset: _given(rules) for asset, rules in money.items()}


def _given(rules: MoneyRules | Commission) -> dict[str, Any]:
    """The members that differ from their defaults, so that a new member changes no digest. msgspec's
    ``omit_defaults`` does not work here: it compares texts by identity, so equal rules would have two digests."""
    default = type(rules)()
    members = {name: getattr(rules, name) for name in rules.__struct_fields__}
    return {
        name: _given(value) if isinstance(value, Commission) else value
        for name, value in members.items()
        if value != getattr(default, name)
    }


def digest_of(money: Money) -> str:
    """SHA-256 of the canonical form, in hex; "" if there are no rules."""
    return sha256(canonical(money)).hexdigest() if money else ""


def read_kept(digest: str, form: bytes) -> Money:
    """The rules of a canonical form. Raises ValueError if they have another digest."""
    try:
        return _checked(digest, _decode(form))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from None


def write_all(kept: Mapping[str, Money]) -> str:
    """Sets of rules by their digests, as one JSON object."""
    return _canonical({digest: _plain(money) for digest, money in kept.items()}).decode()


def read_all(text: str) -> dict[str, Money]:
    """What ``write_all`` wrote. Raises ValueError."""
    try:
        return {digest: _checked(digest, money) for digest, money in _decode_all(text).items()}
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from None


def _checked(digest: str, money: Money) -> Money:
    if digest_of(money) != digest:
        raise ValueError(f"the rules of money flows under {digest} have another digest")
    return money


# --- the rules file ------------------------------------------------------------------------------------------------


_KEYS: Final = (
    *("registration", "first_deposit", "attendance", "attendance_needs_deposit", "bonus_expires_after_s", "wagering"),
    *("withdrawal", "valid_referral", "invitation", "commission"),
)


def money_of(value: Any, assets: Assets) -> dict[str, MoneyRules]:
    """The member ``money`` of a rules file. Raises WrongRules."""
    money = {}
    for asset, rules in object_at("money", value).items():
        declared_asset("money", asset, assets)
        money[asset] = _rules_of(f"money.{asset}", rules)
    return {asset: rules for asset, rules in money.items() if rules != NO_MONEY_RULES}


def _rules_of(at: str, value: Any) -> MoneyRules:
    known_keys(at, value, _KEYS)
    given = object_at(at, value)
    wagering, withdrawal = f"{at}.wagering", f"{at}.withdrawal"
    known_keys(wagering, given.get("wagering"), ("deposit", "bonus"))
    known_keys(withdrawal, given.get("withdrawal"), ("min", "max", "per_day"))
    of_wagering = object_at(wagering, given.get("wagering"))
    of_withdrawal = object_at(withdrawal, given.get("withdrawal"))
    least = integer_or_none(f"{withdrawal}.min", of_withdrawal.get("min"), 1, AMOUNT_MAX)
    most = integer_or_none(f"{withdrawal}.max", of_withdrawal.get("max"), 1, AMOUNT_MAX)
    if least is not None and most is not None and least > most:
        raise WrongRules(f"{withdrawal}.min: it is above max")
    return MoneyRules(
        registration=_amount(at, "registration", given),
        first_deposit=_steps(f"{at}.first_deposit", given.get("first_deposit")),
        attendance=_integers(f"{at}.attendance", given.get("attendance"), _STEPS_MAX, 1, AMOUNT_MAX),
        attendance_needs_deposit=_amount(at, "attendance_needs_deposit", given),
        bonus_expires_after_s=integer_or_none(
            f"{at}.bonus_expires_after_s", given.get("bonus_expires_after_s"), 1, _EXPIRES_S_MAX
        ),
        wagering_deposit=integer_or_none(f"{wagering}.deposit", of_wagering.get("deposit"), 0, WAGERING_MAX) or 0,
        wagering_bonus=integer_or_none(f"{wagering}.bonus", of_wagering.get("bonus"), 0, WAGERING_MAX) or 0,
        withdrawal_min=least,
        withdrawal_max=most,
        withdrawal_per_day=integer_or_none(f"{withdrawal}.per_day", of_withdrawal.get("per_day"), 0, _PER_DAY_MAX),
        valid_referral=integer_or_none(f"{at}.valid_referral", given.get("valid_referral"), 1, AMOUNT_MAX),
        invitation=_steps(f"{at}.invitation", given.get("invitation")),
        commission=_commission(f"{at}.commission", given.get("commission")),
    )


def _amount(at: str, key: str, given: Mapping[str, Any]) -> int:
    return integer_or_none(f"{at}.{key}", given.get(key), 0, AMOUNT_MAX) or 0


def _integers(at: str, value: Any, length: int, least: int, most: int) -> tuple[int, ...]:
    return tuple(
        integer_at(f"{at}[{n}]", element, least, most) for n, element in enumerate(array_at(at, value, length))
    )


def _steps(at: str, value: Any) -> Steps:
    steps: list[tuple[int, int]] = []
    for n, element in enumerate(array_at(at, value, _STEPS_MAX)):
        if not isinstance(element, list) or len(element) != 2:
            raise WrongRules(f"{at}[{n}]: it must be an array of two: what must be reached, and the bonus")
        reached, bonus = _integers(f"{at}[{n}]", element, 2, 1, AMOUNT_MAX)
        if steps and reached <= steps[-1][0]:
            raise WrongRules(f"{at}[{n}]: steps must ascend")
        steps.append((reached, bonus))
    return tuple(steps)


def _commission(at: str, value: Any) -> Commission | None:
    if value is None:
        return None
    known_keys(at, value, ("mode", "delay_s", "rates_e9", "agents"))
    mode = value.get("mode")
    if mode not in (None, "daily", "per_bet"):
        raise WrongRules(f"{at}.mode: it must be daily or per_bet")
    agents = {}
    for level, rates in object_at(f"{at}.agents", value.get("agents")).items():
        if level not in map(str, range(AGENT_LEVEL_MAX + 1)):
            raise WrongRules(f"{at}.agents.{level}: an agent level is 0 to {AGENT_LEVEL_MAX}")
        agents[level] = _integers(f"{at}.agents.{level}", rates, REFERRAL_LEVELS, 0, E9)
    return Commission(
        mode=mode or "daily",
        delay_s=integer_or_none(f"{at}.delay_s", value.get("delay_s"), 0, _DELAY_S_MAX) or 0,
        rates_e9=_integers(f"{at}.rates_e9", value.get("rates_e9"), REFERRAL_LEVELS, 0, E9),
        agents=agents,
    )
