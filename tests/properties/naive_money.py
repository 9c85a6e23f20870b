"""The money flows of the contract, as the reference model has them: found by scanning a wallet's facts.

The rules are the member ``money`` of a rules file. Where the contract can be read in two ways:

1. What an event adds to the wagering is in its data (``wagering``), cut so that what is required is an amount.
2. A wallet has one window of wagering for each asset at a time. A fact adds to it; if enough was staked, the fact
   begins a new window first. Stakes count when placed, and no more when cancelled, if they are of the window.
3. A withdrawal needs the wagering only if the rules of its asset ask for wagering now.
4. A bonus of the ledger's own that does not fit is cut to the room, or left out; ``balance_max`` does not refuse it.
5. Without a bonus to claim there is no amount, so ``amount_out_of_range`` of an attendance is asked last.
6. A first deposit that got a bonus by the rules is reversed only after this bonus was.
7. A step of invitations pays when the number of valid referrals in the asset is exactly the step's.
"""

import time
from collections.abc import Sequence
from typing import Any, Final

AMOUNT_MAX: Final = 2**53 - 1
DAY_US: Final = 86_400_000_000
Rules = dict[str, Any]
Fact = Any


def wagering(facts: Sequence[Fact], asset: str, index_of: dict[str, int]) -> dict[str, int] | None:
    """``required``, ``done`` and ``remaining`` of the asset; None if nothing was ever required.

    ``index_of``: position → the place of its fact among ``facts``."""
    first, since, required, done, surplus = None, None, 0, 0, 0
    placed: dict[str, int] = {}
    for index, fact in enumerate(facts):
        data = fact.data
        if data.get("wagering") and data["asset"] == asset:
            if done >= required:
                surplus += done - required
                since, required, done = index, 0, 0
                first = index if first is None else first
            required += data["wagering"]
        elif fact.type == "bet_placed":
            placed[data["bet_id"]] = index
            if since is not None and data["asset"] == asset:
                done += data["stake"]
        elif fact.type == "bet_cancelled" and data["bet_id"] in placed:
            bet = facts[placed[data["bet_id"]]].data
            if since is None or first is None or bet["asset"] != asset or placed[data["bet_id"]] < first:
                continue
            if placed[data["bet_id"]] > since:
                done -= bet["stake"]
            elif bet["stake"] <= surplus:
                surplus -= bet["stake"]
            else:
                required, surplus = min(required + bet["stake"] - surplus, AMOUNT_MAX), 0
        elif fact.type == "reversed":
            target = index_of[data["position"]]
            if since is None or facts[target].data["asset"] != asset:
                continue
            if target >= since:
                required -= facts[target].data.get("wagering", 0)
            else:
                surplus += facts[target].data.get("wagering", 0)
    if since is None:
        return None
    return {"required": required, "done": done, "remaining": max(required - done, 0)}


def added(rules: Rules, now: dict[str, int] | None, *, deposit: int = 0, bonus: int = 0) -> dict[str, int]:
    """``{"wagering": …}`` for the data of a fact; {} if it adds nothing."""
    times = rules.get("wagering") or {}
    wanted = deposit * times.get("deposit", 0) + bonus * times.get("bonus", 0)
    running = 0 if now is None or now["remaining"] == 0 else now["required"]
    amount = min(wanted, AMOUNT_MAX - running)
    return {"wagering": amount} if amount else {}


def refused_withdrawal(rules: Rules, now: dict[str, int] | None, amount: int, requests_today: int) -> str | None:
    bounds = rules.get("withdrawal") or {}
    if not bounds.get("min", 1) <= amount <= bounds.get("max", AMOUNT_MAX):
        return "withdrawal_out_of_bounds"
    if requests_today >= bounds.get("per_day", AMOUNT_MAX):
        return "withdrawals_per_day_exceeded"
    asks = any((rules.get("wagering") or {}).values())
    if asks and now is not None and now["remaining"]:
        return "wagering_incomplete"
    return None


def due_grants(money: dict[str, Rules], fact: Fact, facts: Sequence[Fact]) -> list[tuple[str, str, int]]:
    """(kind, asset, amount) of the bonuses that follow from the fact, the last of these facts of its wallet."""
    if fact.type == "wallet_opened":
        return [
            ("registration", asset, money[asset]["registration"])
            for asset in sorted(money)
            if money[asset].get("registration")
        ]
    if fact.type == "deposited" and fact.data["first_deposit"] and fact.data.get("bonus") is None:
        asset = fact.data["asset"]
        steps = money.get(asset, {}).get("first_deposit", [])
        reached = [bonus for threshold, bonus in steps if fact.data["amount"] >= threshold]
        return [("first_deposit", asset, reached[-1])] if reached else []
    if fact.type == "referral_valid" and "reason" not in fact.data:
        asset = fact.data["asset"]
        valid = [
            one for one in facts if one.type == fact.type and one.data["asset"] == asset and "reason" not in one.data
        ]
        return [
            ("invitation", asset, bonus) for step, bonus in money[asset].get("invitation", []) if step == len(valid)
        ]
    return []


def expiry(rules: Rules, time_us: int) -> dict[str, int]:
    after_s = rules.get("bonus_expires_after_s")
    return {} if after_s is None else {"expires_at_us": time_us + after_s * 1_000_000}


def own_id(facts: Sequence[Fact], kind: str) -> str:
    number = sum(fact.data.get("grant_id", "").startswith(f"~{kind}:") for fact in facts if _grants(fact))
    return f"~{kind}:{number + 1}"


def deposited(facts: Sequence[Fact], asset: str, index_of: dict[str, int], time_us: int) -> int:
    """The deposits of the UTC day of that time which are not reversed."""
    undone = {index_of[fact.data["position"]] for fact in facts if fact.type == "reversed"}
    return sum(
        fact.data["amount"]
        for index, fact in enumerate(facts)
        if fact.type == "deposited" and fact.data["asset"] == asset and index not in undone
        if day_of(fact.time_us) == day_of(time_us)
    )


def streak(facts: Sequence[Fact], asset: str, rules: Rules, time_us: int) -> int | None:
    """The streak of a claim at that time; None if the day is claimed already."""
    claims = [fact for fact in facts if fact.type == "attendance_claimed" and fact.data["asset"] == asset]
    if not claims:
        return 1
    last = claims[-1]
    days = time_us // DAY_US - last.time_us // DAY_US
    if days == 0:
        return None
    return last.data["streak"] + 1 if days == 1 and last.data["streak"] < len(rules["attendance"]) else 1


def day_of(time_us: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(time_us // 1_000_000))


def _grants(fact: Fact) -> bool:
    return fact.type in ("bonus_granted", "attendance_claimed", "gift_received")
