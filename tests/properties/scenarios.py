"""Commands for tests that compare the product with the reference model, and the comparison of their events.

Three wallets, few ids and small amounts, so that ids repeat, holds and grants expire, limits are reached, and
sometimes an amount is as large as possible.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from hypothesis import strategies as st

from ledger.core.bet_events import BetPlaced
from ledger.core.events import Event
from ledger.core.games.rules import BUILT_IN, RuleBook, book_of, read_rules
from ledger.core.wallet import Wallet, limits_of
from properties.naive_ledger import AMOUNT_MAX, DAY_US, GAME, LENGTH_US, Fact
from unit.given import ASSETS, SECOND_US

USERS: Final = ("u1", "u2", "u3")
GIFTS: Final = ("g1", "g2", "ga")
CODES: Final = ("k1", "k3")
"""Of three partitions, each has the stream of a gift: it is with u2, alone, with u1 and u3. Those of the codes are
with u1 and u3, and with u2."""
CREATED_BY: Final = {
    "order_id": ("withdrawal_requested",),
    "bet_id": ("bet_placed",),
    "hold_id": ("hold_placed",),
    "adjustment_id": ("adjustment_proposed",),
    "position": ("deposited", "bonus_granted", "adjusted"),
}
"""Field of a command that names an earlier event → the types of the events that it may name."""


@dataclass(frozen=True)
class Post:
    """A command in its JSON shape, without the parts that are known only when it is posted.

    `expires_in_us` becomes `expires_at_us`, and a number instead of an id or a position becomes that of an
    earlier event, and the command is for that event's wallet.
    """

    actor: str
    fields: dict[str, Any]

    def command(self, command_id: str, now_us: int, events: Sequence[tuple[str, Event]]) -> dict[str, Any]:
        """The command as it is posted at ``now_us``, after these events and their positions."""
        fields = {**self.fields, "command_id": command_id}
        if "period_of" in fields:
            fields["period"] = _period_of(fields.pop("period_of"), events)
        if isinstance(fields.get("period"), int):  # counted from the running period
            start_us = now_us - now_us % LENGTH_US + fields["period"] * LENGTH_US
            fields["period"] = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(start_us // 1_000_000))
        if "expires_in_us" in fields:
            expires_in_us = fields.pop("expires_in_us")
            fields["expires_at_us"] = None if expires_in_us is None else now_us + expires_in_us
        for name in CREATED_BY:
            if isinstance(fields.get(name), int):
                fields.update(_earlier(name, fields[name], events))
        return fields


def _period_of(which: int, events: Sequence[tuple[str, Event]]) -> str | int:
    """The period of an earlier bet of the game, the latest first; the period before the running one if there is
    none."""
    periods = [
        event.data.period for _, event in events if isinstance(event.data, BetPlaced) and event.data.game == GAME
    ]
    return periods[-1 - which % len(periods)] if periods else -1


def _earlier(name: str, which: int, events: Sequence[tuple[str, Event]]) -> dict[str, str]:
    """The id or position of that earlier event, and its wallet; −2 is an event of any type."""
    of_wallets = [at for at in events if stream_of(at[1].user_id) is None]
    eligible = [at for at in of_wallets if which == -2 or at[1].data.type in CREATED_BY[name]]
    if which == -1 or not eligible:
        return {name: "0:9999" if name == "position" else "none"}
    position, event = eligible[-1 - which % len(eligible)]
    return {name: position if name == "position" else getattr(event.data, name), "user_id": event.user_id}


def stream_of(user_id: str) -> str | None:
    """``game``, ``gift`` or ``code``; None for a wallet, whose id has no colon here."""
    kind, colon, _ = user_id.partition(":")
    return kind if colon else None


def mostly(*weighted: tuple[int, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    """One of these, by weight: `st.one_of` merges equal strategies."""
    choices = [strategy for weight, strategy in weighted for _ in range(weight)]
    return st.integers(0, len(choices) - 1).flatmap(lambda choice: choices[choice])


# --- what may happen ------------------------------------------------------------------------------------------------

small = st.integers(1, 12)
huge = st.sampled_from([0, -1, AMOUNT_MAX - 40, AMOUNT_MAX, AMOUNT_MAX + 1, 10**30])
amounts = mostly((12, small), (1, st.integers(10, 60)), (1, huge))
signed_amounts = mostly((4, small), (4, small.map(lambda n: -n)), (1, huge), (1, huge.map(lambda n: -n)))
users = mostly((4, st.just("u1")), (2, st.just("u2")), (1, st.just("u3")))
ids = st.sampled_from("abcdefgh")
assets = mostly((15, st.just("INR")), (2, st.just("GOLD")), (1, st.just("XXX")))
expiries = st.sampled_from([None, None, 5 * SECOND_US, 5 * SECOND_US, 20 * SECOND_US, DAY_US, 0, -1])
limits = mostly((1, st.none()), (3, st.integers(0, 60)), (1, huge))
reasons = st.sampled_from([None, "r"])
metadata = st.sampled_from([None, None, None, {}, {"k": "v"}])
private = st.sampled_from([None, None, None, "c2VhbGVk", "YW5vdGhlcg=="])
"""As a node gets it: encrypted, in base64."""
earlier = st.sampled_from([0, 0, 0, 0, 1, 1, 2, 3, 4, -1])
"""Which earlier event a command is about, the latest first; −1 is none of them."""


def post(type_: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Post]:
    return st.builds(
        Post,
        actor=st.sampled_from(["local", "op-2"]),
        fields=st.fixed_dictionaries(
            {"type": st.just(type_), "user_id": users, "metadata": metadata, "private": private, **fields}
        ),
    )


def a_limit(name: str) -> st.SearchStrategy[Post]:
    return post("set_limits", asset=assets, **{name: limits})


bets = post(
    "place_bet",
    bet_id=ids,
    game=mostly((15, st.just("external")), (1, st.just("chess"))),
    period=st.just("p"),
    selection=st.just("s"),
    asset=assets,
    stake=amounts,
    spend=st.sampled_from([None, "cash_first", "bonus_first", "bonus_first"]),
)
gift_streams = st.sampled_from([f"gift:{code}" for code in GIFTS])
created_gifts = post(
    "create_gift",
    user_id=gift_streams,
    asset=assets,
    amount=amounts,
    claims=mostly((8, st.integers(1, 3)), (1, huge)),
    expires_in_us=expiries,
)
game_commands: Final[st.SearchStrategy[Post]] = mostly(
    (
        12,
        post(
            "place_bet",
            bet_id=ids,
            game=mostly((9, st.just(GAME)), (1, st.just("chess_1m"))),
            period=mostly((12, st.just(0)), (1, st.just(-1)), (1, st.just(1))),
            selection=st.sampled_from(["red", "big", "green+violet", "big+small+odd", "number:7", "red+red", "x"]),
            asset=assets,
            stake=amounts,
            spend=st.sampled_from([None, "bonus_first"]),
        ),
    ),
    (
        4,
        post(
            "record_result",
            user_id=mostly((9, st.just(f"game:{GAME}")), (1, st.just("game:chess_1m"))),
            period_of=st.sampled_from([0, 0, 0, 0, 1, 2, 5]),
            result=st.sampled_from(["0", "5", "7", "7", "8", "10"]),
        ),
    ),
    (
        1,
        post(
            "cancel_period",
            user_id=st.just(f"game:{GAME}"),
            period_of=st.sampled_from([0, 1, 2]),
            reason=st.just("void"),
        ),
    ),
)
commands: Final[st.SearchStrategy[Post]] = mostly(
    (2, post("open_wallet", referrer_id=st.sampled_from([None, *USERS]))),
    (1, post("open_wallet", referral_code=st.sampled_from(CODES))),
    (1, post("claim_referral_code", code=st.sampled_from(CODES))),
    (2, created_gifts),
    (4, post("claim_gift", code=st.sampled_from(GIFTS))),
    (1, post("close_gift", user_id=gift_streams, reason=st.just("r"))),
    (8, post("deposit", order_id=ids, asset=assets, amount=amounts, bonus=mostly((2, st.none()), (1, amounts)))),
    (5, post("request_withdrawal", order_id=ids, asset=assets, amount=amounts)),
    (3, post("approve_withdrawal", order_id=earlier, reason=reasons)),
    (2, post("reject_withdrawal", order_id=earlier, reason=reasons)),
    (12, bets),
    (6, post("settle_bet", bet_id=earlier, payout=mostly((1, st.just(0)), (4, amounts)))),
    (5, post("cancel_bet", bet_id=earlier, reason=reasons)),
    (1, post("cancel_bet", bet_id=ids, reason=reasons)),
    (6, post("hold", hold_id=ids, asset=assets, amount=amounts, expires_in_us=expiries)),
    (3, post("capture_hold", hold_id=earlier, amount=mostly((1, st.none()), (2, amounts)))),
    (2, post("release_hold", hold_id=earlier)),
    (6, post("transfer", transfer_id=ids, to_user_id=st.sampled_from(USERS), asset=assets, amount=amounts)),
    (8, post("grant_bonus", grant_id=ids, asset=assets, amount=amounts, expires_in_us=expiries)),
    (4, post("claim_attendance", asset=assets)),
    (3, post("adjust", asset=assets, amount=signed_amounts, reason=st.just("r"))),
    (3, post("propose_adjustment", adjustment_id=ids, asset=assets, amount=signed_amounts, reason=st.just("r"))),
    (4, post("approve_adjustment", adjustment_id=earlier, reason=reasons)),
    (1, post("reject_adjustment", adjustment_id=earlier, reason=reasons)),
    (5, post("reverse", position=mostly((6, earlier), (1, st.just(-2))), reason=st.just("r"))),
    (1, a_limit("balance_max")),
    (3, a_limit("credit_limit")),
    (1, a_limit("stake_max_per_day")),
    (1, a_limit("withdrawal_max_per_day")),
    (1, post("freeze_wallet", reason=st.just("r"))),
    (2, post("unfreeze_wallet", reason=st.just("r"))),
    (1, post("close_wallet", reason=st.just("r"))),
    (1, post("set_agent_level", level=st.integers(0, 2))),
)


E9: Final = 10**9

MONEY: Final[dict[str, Any]] = {
    "INR": {
        "registration": 3,
        "first_deposit": [[5, 2], [40, 9]],
        "attendance": [2, 5, 1],
        "attendance_needs_deposit": 41,
        "bonus_expires_after_s": 20,
        "wagering": {"deposit": 1, "bonus": 2},
        "withdrawal": {"min": 2, "max": 30, "per_day": 2},
        "valid_referral": 60,
        "invitation": [[1, 4], [2, 6]],
        "commission": {
            "mode": "daily",
            "delay_s": 5,
            "rates_e9": [E9 // 3, E9 // 7, E9 // 11],
            "agents": {"1": [E9 // 2], "2": [0, E9, 0, 0, 0, 1]},
        },
    },
    "GOLD": {
        "first_deposit": [[3, 7]],
        "attendance": [1, 2],
        "withdrawal": {"per_day": 1},
        "valid_referral": 9,
        "commission": {"mode": "per_bet", "rates_e9": [2 * E9 // 3, 1, E9]},
    },
}
"""Rules of money flows, so small that the amounts of a day meet their steps and bounds."""

MONEY_PER_BET: Final[dict[str, Any]] = {
    "INR": {
        "bonus_expires_after_s": 5,
        "invitation": [[1, 4]],
        "valid_referral": 45,
        "commission": {"mode": "per_bet", "rates_e9": [E9 // 2, 0, E9], "agents": {"1": []}},
    },
    "GOLD": {"commission": {"mode": "daily", "rates_e9": [E9]}},
}
"""Other rules, with few flows: commissions per bet in the asset that is moved most."""


def book_of_money(money: dict[str, Any]) -> RuleBook:
    return book_of(BUILT_IN.games, money=read_rules(json.dumps({"money": money}), ASSETS).money)


def opening(user_id: str, referrer_id: str | None = None, referral_code: str | None = None) -> list[Post]:
    """Most wallets are open and have some money; otherwise the rest of the day would be refusals."""
    referrer = {"referrer_id": referrer_id, "referral_code": referral_code}
    return [
        Post("local", {"type": "open_wallet", "user_id": user_id, **referrer}),
        Post("local", {"type": "deposit", "user_id": user_id, "order_id": "first", "asset": "INR", "amount": 40}),
    ]


def played(user_id: str) -> list[Post]:
    """A bet that is settled, on which the user's referrers earn a commission."""
    bet = {"bet_id": "first", "game": "external", "period": "p", "selection": "s", "asset": "INR", "stake": 20}
    return [
        Post("local", {"type": "place_bet", "user_id": user_id, **bet}),
        Post("local", {"type": "settle_bet", "user_id": user_id, "bet_id": "first", "payout": 25}),
    ]


_CODE_OF_U2: Final = Post("local", {"type": "claim_referral_code", "user_id": "u2", "code": "k1"})
_GIFT: Final = {"asset": "INR", "amount": 11, "claims": 3}

beginnings: Final = st.sampled_from(
    [
        opening("u1"),
        opening("u1", "u2") + opening("u2", "u1"),
        opening("u2") + opening("u1", "u2") + opening("u3", "u1") + played("u3"),
        [*opening("u2"), _CODE_OF_U2, *opening("u1", None, "k1"), *opening("u3", "u1"), *played("u3"), *played("u1")],
        [*opening("u1"), Post("local", {"type": "create_gift", "user_id": "gift:g1", **_GIFT}), *opening("u2")],
    ]
)


# --- when two events are the same ------------------------------------------------------------------------------


def assert_same_event(event: Event, fact: Fact) -> None:
    data = msgspec.json.decode(msgspec.json.encode(event.data))
    data.pop("rules", None)  # a digest: the model does not know it
    data |= {name: True for name in ("commission_rules", "referral_rules") if name in data}  # digests, too
    if event.actor == "ledger":  # the model's own facts lack the fields that their cause has
        data = {name: value for name, value in data.items() if name not in ("cause", "from_user_id", "to_user_id")}
        assert event.command_id.startswith("~")
    else:
        assert event.command_id == fact.command_id
    assert (event.data.type, data) == (fact.type, fact.data)
    assert (event.user_id, event.actor, event.time_us) == (fact.user_id, fact.actor, fact.time_us)
    assert sorted(event.postings) == sorted(fact.postings)
    assert msgspec.to_builtins(event.balances) == fact.balances


def seen(wallet: Wallet) -> dict[str, Any] | None:
    """The wallet as `GET /v1/wallets/{user_id}` shows it."""
    if wallet.status == "none":
        return None
    assets = sorted({*wallet.balances, *wallet.limits})
    first = wallet.first_deposit
    no_balance = {"cash": 0, "bonus": 0, "held": 0}
    return {
        "user_id": wallet.user_id,
        "status": wallet.status,
        "opened_at_us": wallet.opened_at_us,
        "referrer_id": wallet.referrer_id,
        "balances": {
            asset: {
                **(balance := msgspec.to_builtins(wallet.balances).get(asset, no_balance)),
                "available": balance["bonus"] + max(balance["cash"] + limits_of(wallet, asset).credit_limit, 0),
                "withdrawable": max(balance["cash"], 0),
            }
            for asset in assets
        },
        "limits": {
            asset: {
                name: getattr(limits_of(wallet, asset), name)
                for name in ("credit_limit", "balance_max", "stake_max_per_day", "withdrawal_max_per_day")
            }
            for asset in assets
        },
        "first_deposit": None
        if first is None
        else {name: getattr(first, name) for name in ("order_id", "asset", "amount", "position", "time_us")},
        **({"wagering": wagering} if (wagering := _wagering_of(wallet)) else {}),
    }


def _wagering_of(wallet: Wallet) -> dict[str, dict[str, int]]:
    return {
        asset: {"required": one.required, "done": one.done, "remaining": max(one.required - one.done, 0)}
        for asset, one in sorted(wallet.wagering.items())
    }
