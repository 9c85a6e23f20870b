"""One command of every type with its result, for the document: decided by the core, so every hash is true.

A small stand-in for a writer: one partition, a clock that ticks a second a command, no follow-ups, nothing expires.
"""

from hashlib import sha256
from typing import Any, Final, NamedTuple

import msgspec

from api.http.bodies import encode_result
from api.http.commands import read_command
from ledger.core.case import Case
from ledger.core.decide import decide, needs
from ledger.core.events import Event
from ledger.core.evolve import evolve
from ledger.core.games.rules import BUILT_IN, book_of, read_rules
from ledger.core.items import Item
from ledger.core.money import parse_assets
from ledger.core.position import Position
from ledger.core.record import EMPTY, Head, encode
from ledger.core.wallet import Wallet
from ledger.writer.requests import Accepted

PARTITION: Final = 3
START_US: Final = 1_795_438_800_000_000
ASSETS: Final = parse_assets("INR:2,USDT:6,GOLD:0")

USER: Final = "player-15"
GIFT: Final = "diwali-1"
"""Its stream is in partition 3 of 4, and of 16."""
_ACTORS: Final = dict.fromkeys(("approve_adjustment", "create_gift", "close_gift"), "back-office:meera")
_RULES: Final = book_of(
    BUILT_IN.games, money=read_rules('{"money": {"INR": {"attendance": [700, 2000, 10000]}}}', ASSETS).money
)

_COMMANDS: Final[tuple[dict[str, Any], ...]] = (
    {"type": "open_wallet", "referrer_id": "agent-1"},
    {"type": "deposit", "order_id": "dep-1", "asset": "INR", "amount": 1_000_000, "bonus": 50_000},
    {"type": "set_limits", "asset": "INR", "credit_limit": 20_000, "stake_max_per_day": 500_000, "balance_max": None},
    {
        "type": "place_bet",
        "bet_id": "bet-1",
        "game": "external",
        "period": "2026-11-23/0042",
        "selection": "red",
        "asset": "INR",
        "stake": 50_000,
        "spend": "bonus_first",
        "metadata": {"table": "roulette-3", "device": "android"},
    },
    {"type": "settle_bet", "bet_id": "bet-1", "payout": 95_000},
    {"type": "cancel_bet", "bet_id": "bet-2", "reason": "the round was void"},
    {"type": "request_withdrawal", "order_id": "wd-1", "asset": "INR", "amount": 300_000},
    {"type": "approve_withdrawal", "order_id": "wd-1"},
    {"type": "request_withdrawal", "order_id": "wd-2", "asset": "INR", "amount": 100_000},
    {"type": "reject_withdrawal", "order_id": "wd-2", "reason": "the account's name differs"},
    {
        "type": "hold",
        "hold_id": "hold-1",
        "asset": "INR",
        "amount": 40_000,
        "expires_at_us": START_US + 3_600_000_000,
    },
    {"type": "capture_hold", "hold_id": "hold-1", "amount": 25_000},
    {"type": "hold", "hold_id": "hold-2", "asset": "INR", "amount": 10_000},
    {"type": "release_hold", "hold_id": "hold-2"},
    {"type": "transfer", "transfer_id": "tr-1", "to_user_id": "player-18", "asset": "INR", "amount": 20_000},
    {
        "type": "grant_bonus",
        "grant_id": "welcome-1",
        "asset": "INR",
        "amount": 2_500,
        "expires_at_us": START_US + 7 * 86_400_000_000,
    },
    {"type": "reverse", "position": f"{PARTITION}:16", "reason": "granted to the wrong player"},
    {"type": "adjust", "asset": "INR", "amount": -1_500, "reason": "a payout was entered twice"},
    {
        "type": "propose_adjustment",
        "adjustment_id": "adj-1",
        "asset": "INR",
        "amount": 5_000,
        "reason": "goodwill after an outage",
    },
    {"type": "approve_adjustment", "adjustment_id": "adj-1", "reason": "agreed"},
    {
        "type": "propose_adjustment",
        "adjustment_id": "adj-2",
        "asset": "INR",
        "amount": 900_000,
        "reason": "goodwill after an outage",
    },
    {"type": "reject_adjustment", "adjustment_id": "adj-2", "reason": "too much"},
    {"type": "claim_attendance", "asset": "INR"},
    {"type": "freeze_wallet", "reason": "a chargeback is examined"},
    {"type": "unfreeze_wallet", "reason": "the chargeback was withdrawn"},
    {"type": "set_agent_level", "level": 1},
    {"type": "claim_gift", "code": GIFT},
    {"type": "claim_referral_code", "code": "AGENT-17"},
)


class Example(NamedTuple):
    """A command as it is posted, its actor, its result, and its record."""

    command: dict[str, Any]
    actor: str
    answer: dict[str, Any]
    record: str


def play() -> list[Example]:
    """All examples in order; every command type is among them."""
    played = _Play()
    found = [
        played.post({**command, "command_id": f"c-{number}", "user_id": USER})
        for number, command in enumerate(_COMMANDS, 1)
    ]
    closed = {
        "type": "close_wallet",
        "command_id": "c-2",
        "user_id": "player-30",
        "reason": "asked for by the player",
    }
    found.append(played.post({"type": "open_wallet", "command_id": "c-1", "user_id": "player-30"}))
    found.append(played.post(closed))
    for seconds, outcome in (
        (0, {"type": "record_result", "period": "20261123T130000Z", "result": "7"}),
        (30, {"type": "cancel_period", "period": "20261123T130030Z", "reason": "the wheel was blocked"}),
    ):
        played.wait_until(START_US + (seconds + 32) * 1_000_000)
        found.append(played.post({**outcome, "command_id": f"c-{seconds}", "user_id": "game:wingo_30s"}))
    for command_id, of_gift in (
        (
            "c-1",
            {
                "type": "create_gift",
                "asset": "INR",
                "amount": 100_000,
                "claims": 100,
                "expires_at_us": START_US + 7 * 86_400_000_000,
            },
        ),
        ("c-2", {"type": "close_gift", "reason": "the campaign is over"}),
    ):
        found.append(played.post({**of_gift, "command_id": command_id, "user_id": f"gift:{GIFT}"}))
    return found


def first_of_each_type(found: list[Example]) -> dict[str, Example]:
    """Command type → its first example."""
    first: dict[str, Example] = {}
    for example in found:
        first.setdefault(example.command["type"], example)
    return first


class _Play:
    def __init__(self) -> None:
        self._wallets: dict[str, Wallet] = {}
        self._items: dict[tuple[str, str], Item] = {}
        self._head: Head = EMPTY
        self._time_us = START_US

    def wait_until(self, time_us: int) -> None:
        self._time_us = max(self._time_us, time_us)

    def post(self, values: dict[str, Any]) -> Example:
        command, request_sha256 = read_command(msgspec.json.encode(values))
        actor = _ACTORS.get(values["type"], "game-server-1")
        user_id = command.user_id
        wallet = self._wallets.get(user_id) or Wallet(user_id)
        items = {key: self._items.get((user_id, key)) for key in needs(command)}
        event = decide(Case(command, request_sha256, actor, wallet, items, ASSETS, _RULES, self._time_us))
        assert isinstance(event, Event), event
        place = Position(PARTITION, self._head.seq + 1)
        record = encode(event, place, self._head.sha256)
        after, changed = evolve(wallet, items, event, place)
        self._wallets[user_id] = after
        self._items |= {(user_id, key): item for key, item in changed.items()}
        self._head = Head(place.seq, sha256(record).hexdigest())
        self._time_us += 1_000_000
        answer = msgspec.json.decode(encode_result(Accepted(record, place, self._head.sha256)))
        return Example(values, actor, answer, record.decode())
