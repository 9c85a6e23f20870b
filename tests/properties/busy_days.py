"""Random days of steps, in addition to the days that Hypothesis generates from `scenarios`.

Why both: Hypothesis shrinks a failure and tries odd values, but it prefers small and repeated choices, so its
days seldom get far. Measured with nine defects planted in the core: 400 days of Hypothesis found two, 400 of these
six. `shortest` shortens a day that fails: it leaves out every step that the failure does not need.

Each day has a mood: some commands are frequent in it and some absent, so that any few of them meet often on some day.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Any, Final

from ledger.core.money import AMOUNT_MAX
from ledger.core.wallet import DAY_US
from properties.naive_ledger import GAME
from properties.scenarios import CODES, GIFTS, USERS, Post, opening, played
from unit.given import SECOND_US


@dataclass(frozen=True)
class Wait:
    us: int


@dataclass(frozen=True)
class Deliver:
    """Some follow-up that is under way."""

    which: int


@dataclass(frozen=True)
class Redeliver:
    """Some follow-up that has taken effect already."""

    which: int


Step = Post | Wait | Deliver | Redeliver

WEIGHTS: Final = {
    "open_wallet": 1,
    "deposit": 8,
    "request_withdrawal": 4,
    "approve_withdrawal": 3,
    "reject_withdrawal": 2,
    "place_bet": 14,
    "settle_bet": 10,
    "cancel_bet": 4,
    "hold": 6,
    "capture_hold": 3,
    "release_hold": 2,
    "transfer": 5,
    "grant_bonus": 8,
    "claim_attendance": 4,
    "adjust": 2,
    "propose_adjustment": 2,
    "approve_adjustment": 3,
    "reject_adjustment": 1,
    "reverse": 6,
    "set_limits": 3,
    "freeze_wallet": 1,
    "unfreeze_wallet": 2,
    "close_wallet": 1,
    "set_agent_level": 1,
    "create_gift": 2,
    "close_gift": 0.4,
    "claim_gift": 5,
    "claim_referral_code": 1,
    "wait": 5,
    "deliver": 9,
    "redeliver": 1,
}
GAMES: Final = {"place_game_bet": 14, "record_result": 7, "cancel_period": 2, "wait_for_result": 5}
"""What a day with games has besides."""
WAITS: Final = (0, SECOND_US, 5 * SECOND_US, 20 * SECOND_US, DAY_US // 2, DAY_US)
EXPIRIES: Final = (None, None, 5 * SECOND_US, 5 * SECOND_US, 20 * SECOND_US, DAY_US, 0, -1)
LIMITS: Final = {
    "credit_limit": 0.4,
    "balance_max": 0.1,
    "stake_max_per_day": 0.2,
    "withdrawal_max_per_day": 0.2,
}
"""Each limit, and how probable it is that a wallet begins its day with it."""


def busy_day(seed: int, *, games: bool = False) -> list[Step]:
    """The day of this number. Equal numbers give equal days. ``games``: also with bets of a game with rules."""
    chance = Random(seed)
    fresh_ids = count()
    moods = {
        kind: weight * chance.choice((0, 1, 1, 1, 4)) for kind, weight in (WEIGHTS | (GAMES if games else {})).items()
    }
    moods["deposit"] = moods["deposit"] or 1
    day: list[Step] = [*opening("u1", chance.choice((None, "u2"))), *opening("u2", chance.choice((None, "u1")))]
    if chance.random() < 0.3:
        claim = Post("local", {"type": "claim_referral_code", "user_id": chance.choice(USERS), "code": "k1"})
        u3 = opening("u3", None, "k1")
        day += [*u3, claim] if claim.fields["user_id"] == "u3" else [claim, *u3]
    elif chance.random() < 0.6:
        day += opening("u3", "u1")
    for user_id in ("u1", "u2"):
        for name, probability in LIMITS.items():
            if chance.random() < probability:
                fields = {"type": "set_limits", "user_id": user_id, "asset": "INR", name: chance.randint(10, 80)}
                day.append(Post("local", fields))
        if chance.random() < 0.15:  # and begins close to the bound
            nearly = {"amount": AMOUNT_MAX - 100, "reason": "r"}
            day.append(Post("local", {"type": "adjust", "user_id": user_id, "asset": "INR", **nearly}))
    if chance.random() < 0.6:
        day += played("u1") + played("u3")
    if chance.random() < 0.6:
        for code in chance.sample(GIFTS, 2):
            shares = {"amount": chance.randint(3, 12), "claims": chance.randint(1, 3)}
            day.append(Post("local", {"type": "create_gift", "user_id": f"gift:{code}", "asset": "INR", **shares}))
    kinds = chance.choices(list(moods), list(moods.values()), k=chance.choice((20, 40, 80)))
    night = [Wait(DAY_US)] if chance.random() < 0.7 else []  # the commissions of the day are paid
    return [*day, *(_step(kind, chance, fresh_ids) for kind in kinds), *night]


def _step(kind: str, chance: Random, fresh_ids: Iterator[int]) -> Step:
    match kind:
        case "wait":
            return Wait(chance.choice(WAITS))
        case "wait_for_result":
            return Wait(33 * SECOND_US)
        case "place_game_bet":
            user_id = chance.choices(USERS, (4, 2, 1))[0]
            fields = _fields("place_bet", chance, fresh_ids) | {"game": GAME, "period": 0}
            selection = chance.choice(("red", "big", "green+violet", "big+small+odd", "number:7", "x"))
            return Post("local", {"type": "place_bet", "user_id": user_id, **fields, "selection": selection})
        case "record_result":
            about = {"period_of": chance.choice((0, 0, 0, 1, 2)), "result": chance.choice("0577")}
            return Post("local", {"type": kind, "user_id": f"game:{GAME}", **about})
        case "cancel_period":
            about = {"period_of": chance.choice((0, 1)), "reason": "void"}
            return Post("local", {"type": kind, "user_id": f"game:{GAME}", **about})
        case "create_gift" | "close_gift":
            fields = _fields(kind, chance, fresh_ids)
            return Post("local", {"type": kind, "user_id": f"gift:{chance.choice(GIFTS)}", **fields})
        case "deliver":
            return Deliver(chance.randrange(10))
        case "redeliver":
            return Redeliver(chance.randrange(10))
        case _:
            user_id = chance.choices(USERS, (4, 2, 1))[0]
            metadata = chance.choice((None, None, {}, {"k": "v"}))
            fields = _fields(kind, chance, fresh_ids)
            return Post(
                chance.choice(("local", "op-2")), {"type": kind, "user_id": user_id, "metadata": metadata, **fields}
            )


def _fields(kind: str, chance: Random, fresh_ids: Iterator[int]) -> dict[str, Any]:
    asset = chance.choices(("INR", "GOLD", "XXX"), (28, 6, 1))[0]
    new_id = chance.choice("abcdefgh") if chance.random() < 0.3 else f"n{next(fresh_ids)}"
    earlier = chance.choice((0, 0, 0, 1, 1, 2, 3, 4, 5, -1))  # as `Post.command` reads it
    amount = _amount(chance)
    maybe_reason = {"reason": chance.choice((None, "r"))}
    match kind:
        case "open_wallet":
            by_code = chance.random() < 0.3
            return (
                {"referral_code": chance.choice(CODES)} if by_code else {"referrer_id": chance.choice((None, *USERS))}
            )
        case "deposit":
            bonus = chance.choice((None, None, 0, _amount(chance)))
            return {"order_id": new_id, "asset": asset, "amount": amount, "bonus": bonus}
        case "request_withdrawal":
            return {"order_id": new_id, "asset": asset, "amount": amount}
        case "approve_withdrawal" | "reject_withdrawal":
            return {"order_id": earlier, **maybe_reason}
        case "place_bet":
            return {
                "bet_id": new_id,
                "game": "chess" if chance.random() < 0.03 else "external",
                "period": "p",
                "selection": "s",
                "asset": asset,
                "stake": amount,
                "spend": chance.choice((None, "cash_first", "bonus_first", "bonus_first")),
            }
        case "settle_bet":
            return {"bet_id": earlier, "payout": chance.choice((0, amount, amount, amount))}
        case "cancel_bet":
            return {"bet_id": earlier if chance.random() < 0.8 else new_id, **maybe_reason}
        case "hold":
            return {"hold_id": new_id, "asset": asset, "amount": amount, "expires_in_us": chance.choice(EXPIRIES)}
        case "capture_hold":
            return {"hold_id": earlier, "amount": chance.choice((None, amount))}
        case "release_hold":
            return {"hold_id": earlier}
        case "transfer":
            return {"transfer_id": new_id, "to_user_id": chance.choice(USERS), "asset": asset, "amount": amount}
        case "grant_bonus":
            return {"grant_id": new_id, "asset": asset, "amount": amount, "expires_in_us": chance.choice(EXPIRIES)}
        case "claim_attendance":
            return {"asset": asset}
        case "adjust":
            return {"asset": asset, "amount": amount * chance.choice((1, -1)), "reason": "r"}
        case "propose_adjustment":
            signed = amount * chance.choice((1, -1))
            return {"adjustment_id": new_id, "asset": asset, "amount": signed, "reason": "r"}
        case "approve_adjustment" | "reject_adjustment":
            return {"adjustment_id": earlier, **maybe_reason}
        case "reverse":
            return {"position": chance.choice((earlier, earlier, earlier, -2)), "reason": "r"}
        case "set_limits":
            names = chance.sample(list(LIMITS), chance.choice((0, 1, 1, 2)))
            return {"asset": asset, **{name: chance.choice((None, amount, chance.randint(0, 200))) for name in names}}
        case "set_agent_level":
            return {"level": chance.randint(0, 2)}
        case "create_gift":
            claims = chance.choice((1, 2, 3, 3, 5, amount + 1))
            return {"asset": asset, "amount": amount, "claims": claims, "expires_in_us": chance.choice(EXPIRIES)}
        case "claim_gift":
            return {"code": chance.choice(GIFTS)}
        case "claim_referral_code":
            return {"code": chance.choice(CODES)}
        case _:
            return {"reason": "r"}


def _amount(chance: Random) -> int:
    """Mostly small, so that amounts meet; sometimes as large as possible, or no valid amount."""
    kind = chance.random()
    if kind < 0.86:
        return chance.randint(1, 12)
    if kind < 0.94:
        return chance.randint(10, 60)
    if kind < 0.97:
        return chance.choice((0, -1, AMOUNT_MAX + 1, 10**30))
    return chance.choice((AMOUNT_MAX - 60, AMOUNT_MAX - 20, AMOUNT_MAX))


def shortest(day: list[Step], fails: Callable[[list[Step]], bool]) -> list[Step]:
    """The day without the steps that its failure does not need."""
    while True:
        shorter = day
        for index in reversed(range(len(day))):
            without = shorter[:index] + shorter[index + 1 :]
            if fails(without):
                shorter = without
        if shorter == day:
            return day
        day = shorter
