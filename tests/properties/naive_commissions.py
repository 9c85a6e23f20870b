"""Commissions and valid referrals in the reference model: everything is found by scanning the facts of a wallet.

Where the contract can be read in two ways:

1. A stake counts on the UTC day on which its bet is settled, and only if the player has a referrer by then.
2. A day's commission is due at the midnight that ends the day plus the delay; with ``per_bet`` each is due at the
   settlement. A fact on the player's wallet says that it is due; from there it goes up level by level.
3. Of several timers of a wallet that are due at the same time, commissions come last; among them by asset.
4. The rate of a level is that of the payee's agent level when it is paid: 0 beyond the last of its rates. The walk
   up ends at the last level that has a rate at any agent level, 0 included.
5. A payee whose wallet is closed counts as a level. What a payee has no room for is carried, in whole units. Cash
   below 0 gives room for more than the largest amount, but no commission is larger than that amount.
6. A member becomes a valid referral once in each asset, whatever is reversed later. The fact of the deposit that
   reaches the sum has a note of it; its own amount is in the sum.
"""

from collections.abc import Sequence
from typing import Any, Final

from properties.naive_money import AMOUNT_MAX, DAY_US, day_of

E9: Final = 10**9
Rules = dict[str, Any]
Fact = Any


def _lists_of_rates(rules: Rules) -> list[list[int]]:
    commission = rules.get("commission") or {}
    return [commission.get("rates_e9") or [], *(commission.get("agents") or {}).values()]


def due_at(rules: Rules, time_us: int) -> int | None:
    """When the commission on a bet that is settled at that time is due; None if it earns none."""
    if not any(_lists_of_rates(rules)):
        return None
    if rules["commission"].get("mode", "daily") == "per_bet":
        return time_us
    seconds_after_midnight: int = rules["commission"].get("delay_s", 0)
    return time_us - time_us % DAY_US + DAY_US + seconds_after_midnight * 1_000_000


def not_closed(facts: Sequence[Fact]) -> list[tuple[int, str, str, int]]:
    """(when it is due, asset, day, stakes) of each commission that no ``commission_due`` has closed, the earliest
    first."""
    placed: dict[str, dict[str, Any]] = {}
    earned: dict[tuple[str, str], tuple[int, int]] = {}
    for fact in facts:
        data = fact.data
        if fact.type == "bet_placed":
            placed[data["bet_id"]] = data
        elif fact.type == "bet_settled" and "commission_at_us" in data:
            bet = placed[data["bet_id"]]
            day = bet["asset"], day_of(fact.time_us)
            due_us, stakes = earned.get(day, (data["commission_at_us"], 0))
            earned[day] = due_us, stakes + bet["stake"]
        elif fact.type == "commission_due":
            del earned[data["asset"], data["day"]]
    return sorted((due_us, asset, day, stakes) for (asset, day), (due_us, stakes) in earned.items())


def paid(rules: Rules, facts: Sequence[Fact], asset: str, stake: int, level: int, room: int) -> dict[str, int]:
    """``amount``, ``carried_e9`` and ``rate_e9`` of a commission for the wallet of these facts. ``room`` is how much
    more the wallet can take."""
    rate_e9 = rate_of(rules, facts, level)
    earned_e9 = carried(facts, asset) + stake * rate_e9
    amount = min(earned_e9 // E9, max(room, 0), AMOUNT_MAX)
    return {"amount": amount, "carried_e9": earned_e9 - amount * E9, "rate_e9": rate_e9}


def rate_of(rules: Rules, facts: Sequence[Fact], level: int) -> int:
    agent_level = 0
    for fact in facts:
        if fact.type == "agent_level_set":
            agent_level = fact.data["level"]
    commission = rules["commission"]
    rates: list[int] = (commission.get("agents") or {}).get(str(agent_level), commission.get("rates_e9") or [])
    return dict(enumerate(rates, start=1)).get(level, 0)


def carried(facts: Sequence[Fact], asset: str) -> int:
    carried_e9 = 0
    for fact in facts:
        if fact.type == "commission_paid" and fact.data["asset"] == asset:
            carried_e9 = fact.data["carried_e9"]
    return carried_e9


def levels(rules: Rules) -> int:
    """How many levels are paid."""
    return max(len(rates) for rates in _lists_of_rates(rules))


def becomes_valid(rules: Rules, facts: Sequence[Fact], asset: str, amount: int, index_of: dict[str, int]) -> bool:
    """Whether a deposit of the amount makes the wallet a valid referral. ``index_of``: as in ``naive_money``."""
    if rules.get("valid_referral") is None:
        return False
    if any("referral_rules" in fact.data for fact in facts if fact.data.get("asset") == asset):
        return False
    undone = {index_of[fact.data["position"]] for fact in facts if fact.type == "reversed"}
    total = amount
    for index, fact in enumerate(facts):
        if fact.type == "deposited" and fact.data["asset"] == asset and index not in undone:
            total += fact.data["amount"]
    return total >= int(rules["valid_referral"])
