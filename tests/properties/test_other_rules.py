"""`what-if` on logs of every flow of money: equal rules change nothing, other rules what the reference model says.

The model gets the commands of the log under the other rules. It shares no code with the product, and nothing of the
log but its commands and their times.
"""

from collections import Counter
from random import Random
from typing import Any, Final

import msgspec
import pytest

from ledger.core.consequences import OWN
from ledger.core.events import DATA_OF
from ledger.core.games.rules import book_of
from ledger.core.record import decode
from ledger.memory.log import MemoryEventLog
from ledger.operations.what_if.figures import Comparison
from ledger.operations.what_if.replay import _merged, command_of, what_if
from properties.naive_ledger import NaiveLedger, Refused
from properties.scenarios import MONEY, book_of_money
from properties.test_a_month_of_every_flow import KINDS, PLAYERS, Month
from unit.given import ASSETS, SECOND_US
from unit.test_audit import Lists

NEVER_US: Final = 2**60


def log_of(month: Month) -> Lists:
    assert isinstance(month.machine.log, MemoryEventLog)
    return Lists([list(records) for records in month.machine.log.appended.records], page=50)


def compared(log: Lists, money: Any, from_us: int = 0, to_us: int = NEVER_US) -> Comparison:
    rules, kept = book_of_money(money), book_of_money(dict(MONEY))
    return what_if(log, book_of(rules.games, kept.tables, rules.money, kept.money_kept), ASSETS, from_us, to_us)


@pytest.mark.system
def test_equal_rules_make_no_difference_to_any_user_in_any_window() -> None:
    """Also where nodes crashed, appends failed and clocks went back."""
    month = Month(1)
    try:
        month.live()
        log = log_of(month)
    finally:
        month.machine.teardown()
    events = [decode(record).event for records in log.partitions for record in records]
    assert {event.data.type for event in events} == set(DATA_OF) - {"writer_opened"}
    chance = Random(1)
    windows = [(0, NEVER_US)] + [sorted(event.time_us for event in chance.sample(events, 2)) for _ in range(6)]
    for from_us, to_us in windows:
        comparison = compared(log, dict(MONEY), from_us, to_us)
        assert comparison.events == sum(from_us <= event.time_us < to_us for event in events)
        assert comparison.refused == ()
        for pair in (*comparison.totals, *comparison.games, *comparison.users):
            assert pair.actual == pair.what_if, pair


OTHER: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"INR": {"registration": 9, "first_deposit": [[20, 30]], "bonus_expires_after_s": 86_400 * 3}},
    {"INR": {**MONEY["INR"], "wagering": {"deposit": 3, "bonus": 9}, "withdrawal": {"min": 9, "per_day": 1}}},
    {"INR": {"commission": {"mode": "per_bet", "rates_e9": [400_000_000, 300_000_000]}, "attendance": [4, 1]}},
    {
        "GOLD": {
            "commission": {"mode": "daily", "rates_e9": [900_000_000] * 6},
            "valid_referral": 5,
            "invitation": [[1, 8]],
        }
    },
)


def test_other_rules_give_what_the_reference_model_gives() -> None:
    """Each command has ended, with all that follows from it, before the next one: so the order of follow-ups, which
    a log may have in different ways, cannot differ."""
    month = Month(7)
    try:
        month.everyone_joins()
        for _ in range(260):
            month.machine.the_clock_advances(month.chance.choice((SECOND_US, 40 * SECOND_US, 9_000 * SECOND_US)))
            month.machine.posts_a_command(month.some(month.chance.choices(list(KINDS), list(KINDS.values()))[0]))
        log = log_of(month)
    finally:
        month.machine.teardown()
    differing = 0
    for money in (dict(MONEY), *OTHER):
        comparison = compared(log, money)
        naive, refused = modelled(log, money)
        found = {(pair.name, pair.asset): pair.what_if.balance for pair in comparison.users}
        assert found == {key: sum(naive._balances(*key).values()) for key in found}
        assert {user_id for user_id, _ in found} <= {*PLAYERS, "p11", "stranger"}
        assert {(command, code): count for command, code, count in comparison.refused} == dict(refused)
        differing += sum(pair.differs for pair in comparison.users)
    assert differing > 20


def modelled(log: Lists, money: dict[str, Any]) -> tuple[NaiveLedger, Counter[tuple[str, str]]]:
    """The model after the commands of the log, and what it refused: (type, code) → how many."""
    naive, refused = NaiveLedger(ASSETS, money), Counter[tuple[str, str]]()
    at_of: dict[str, tuple[str, int]] = {}

    def deliver_all(now_us: int) -> None:
        while naive.pending:
            naive.deliver(0, now_us=now_us)

    for event, at in _merged(log, log.ends(), NEVER_US):
        naive.fire_due(event.time_us)
        deliver_all(event.time_us)
        facts = naive.facts.get(event.user_id, [])
        if event.command_id.startswith(OWN):  # a later `reverse` may name its position
            kind, asset = event.data.kind, event.data.asset  # type: ignore[union-attr]
            user_id, cause = at_of.get(event.data.cause, (event.user_id, len(facts)))  # type: ignore[union-attr, arg-type]
            own = [
                index
                for index, fact in enumerate(facts)
                if index > cause and (fact.data.get("kind"), fact.data.get("asset")) == (kind, asset)
            ]
            naive.position_of.update({str(at): (user_id, own[0])} if own else {})
        if event.command_id[0] == "~":
            continue
        command = msgspec.to_builtins(command_of(event))
        response = naive.post(command, now_us=event.time_us, actor=event.actor)
        if isinstance(response, Refused):
            refused[command["type"], response.code] += 1
            continue
        fact = response.fact
        facts = naive.facts[event.user_id]
        index = next(index for index, one in enumerate(facts) if one is fact)
        at_of[str(at)] = naive.position_of[str(at)] = event.user_id, index
        if fact.type in ("result_recorded", "period_cancelled"):
            for user_id, bet_id in naive.open_bets_of(fact):
                naive.end_bet(user_id, bet_id, fact, now_us=event.time_us)
        deliver_all(event.time_us)
    naive.fire_due(event.time_us)
    deliver_all(event.time_us)
    return naive, refused
