"""The core and the reference model get the same days of commands, and must make the same events.

A day is a list of steps over three wallets with few ids and small amounts, so that steps meet: ids repeat,
holds and grants expire, limits are reached, days change, and sometimes an amount is as large as possible.
Follow-ups arrive in any order, late, and more than once. After every step the new events, the result, and every
wallet must be equal; only what the model does not know (`cause`, the ids of the ledger's own events) is ignored.
"""

from collections import Counter
from functools import partial
from typing import Any, Final

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.core.bet_events import BetCancelled, BetSettled
from ledger.core.commands import AnyCommand, Command
from ledger.core.events import Event
from ledger.core.follow_up_commands import AnyFollowUp
from ledger.core.items import Item
from ledger.core.rejections import Rejection
from ledger.core.wallet import Wallet
from properties.busy_days import Deliver, Redeliver, Step, Wait, busy_day, shortest
from properties.naive_ledger import DAY_US, Accepted, Fact, FollowUp, NaiveLedger, Refused
from properties.scenarios import (
    MONEY,
    MONEY_PER_BET,
    USERS,
    Post,
    assert_same_event,
    beginnings,
    book_of_money,
    commands,
    game_commands,
    mostly,
    seen,
)
from unit.given import ASSETS, PARTITION, SECOND_US, Scene

steps: Final[st.SearchStrategy[Step]] = mostly(
    (75, commands),
    (20, game_commands),
    (5, st.sampled_from([0, SECOND_US, 5 * SECOND_US, 20 * SECOND_US, DAY_US // 2, DAY_US]).map(Wait)),
    (5, st.just(Wait(33 * SECOND_US))),  # the result of the running period may come then
    (9, st.integers(0, 9).map(Deliver)),
    (1, st.integers(0, 9).map(Redeliver)),
)


# --- core and model together ----------------------------------------------------------------------------------------


class Both:
    """The core and the model, in step."""

    def __init__(self, money: dict[str, Any]) -> None:
        """``money``: rules of money flows, {} for none."""
        self.scene = Scene()
        self.scene.rules = book_of_money(money)
        self.naive = NaiveLedger(ASSETS, money)
        self.commands = 0
        self.delivered: list[tuple[AnyFollowUp, FollowUp]] = []
        self.known = 0

    def take(self, step: Step) -> None:
        match step:
            case Post():
                self._post(step)
            case Wait():
                self.scene.now_us += step.us
                self.naive.fire_due(self.scene.now_us)
                for user_id in list(self.naive.facts):
                    self.scene.tick(user_id)
            case Deliver():
                if self.naive.pending:
                    index = step.which % len(self.naive.pending)
                    pair = self.scene.under_way[index], self.naive.pending[index]
                    assert pair[0].command_id not in {core.command_id for core, _ in self.delivered}
                    self.delivered.append(pair)
                    self.scene.deliver(index)
                    assert self.naive.deliver(index, now_us=self.scene.now_us) is not None
            case Redeliver():
                if self.delivered:
                    core, naive = self.delivered[step.which % len(self.delivered)]
                    # The writer finds the id in its state; the model shows that nothing else is to be done.
                    assert core.command_id in {event.command_id for event in self.scene.events_of(core.user_id)}
                    self.naive.pending.append(naive)
                    self.naive.deliver(len(self.naive.pending) - 1, now_us=self.scene.now_us)
        self._compare()

    def _post(self, step: Post) -> None:
        positioned = [(self.scene.position(event), event) for event in self.scene.events]
        fields = step.command(f"c-{self.commands}", self.scene.now_us, positioned)
        self.commands += 1
        command: Command = msgspec.convert(fields, AnyCommand)
        answer = self.scene.decided(command, step.actor)
        expected = self.naive.post(fields, now_us=self.scene.now_us, actor=step.actor)
        if isinstance(answer, Rejection):
            available = answer.fields.get("available")
            assert available is None or isinstance(available, int)
            assert expected == Refused(answer.code, available), answer
        else:
            assert isinstance(expected, Accepted), (answer, expected)
            assert_same_event(answer, expected.fact)
            if expected.fact.type in ("result_recorded", "period_cancelled"):
                self._end_period(answer, expected.fact)

    def _end_period(self, outcome: Event, fact: Fact) -> None:
        """Every open bet of the period ends, the oldest first."""
        for event in self.scene.settle(outcome):
            assert isinstance(event.data, BetSettled | BetCancelled)
            self.naive.end_bet(event.user_id, event.data.bet_id, fact, now_us=self.scene.now_us)
        assert self.naive.open_bets_of(fact) == []

    def _compare(self) -> None:
        counts = Counter(dict.fromkeys((*USERS, *self.naive.facts), 0))
        for seq, event in enumerate(self.scene.events, start=1):
            index = counts[event.user_id]
            counts[event.user_id] += 1
            if seq > self.known:
                facts = self.naive.facts.get(event.user_id, [])
                assert index < len(facts), event
                assert_same_event(event, facts[index])
                self.naive.position_of[f"{PARTITION}:{seq}"] = (event.user_id, index)
        self.known = len(self.scene.events)
        assert counts == {user_id: len(self.naive.facts.get(user_id, [])) for user_id in counts}
        for user_id in USERS:
            assert seen(self.scene.wallet(user_id)) == self.naive.wallet(user_id)
        assert [(f.user_id, f.cause_time_us) for f in self.scene.under_way] == [
            (f.user_id, f.cause_time_us) for f in self.naive.pending
        ]


def live_through(day: list[Step], money: dict[str, Any]) -> None:
    """Run the whole day, and then deliver all follow-ups under way."""
    both = Both(money)
    for step in day:
        both.take(step)
    while both.naive.pending:
        both.take(Deliver(0))
    assert not both.scene.under_way
    assert all(both.scene.total("transit/transfers", asset) == 0 for asset in ASSETS)
    for (account, asset), total in both.naive.totals().items():
        assert both.scene.total(account, asset) == total
    keep_their_shape(both.scene)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    money=st.sampled_from([{}, MONEY, MONEY, MONEY_PER_BET]),
    beginning=beginnings,
    day=st.lists(steps, max_size=10) | st.lists(steps, min_size=25, max_size=60),
)
def test_the_core_and_the_reference_model_make_the_same_events(
    money: dict[str, Any], beginning: list[Step], day: list[Step]
) -> None:
    live_through([*beginning, *day], money)


@pytest.mark.parametrize(
    "first", [0, *(pytest.param(first, marks=pytest.mark.system) for first in range(50, 400, 50))]
)
def test_the_core_and_the_reference_model_agree_on_busier_days(first: int) -> None:
    for seed in range(first, first + 50):
        day, money = busy_day(seed, games=True), ({}, MONEY, MONEY_PER_BET, MONEY)[seed % 4]
        if fails(day, money):
            live_through(shortest(day, partial(fails, money=money)), money)


def fails(day: list[Step], money: dict[str, Any]) -> bool:
    try:
        live_through(day, money)
    except Exception:  # noqa: BLE001 - whatever fails, a shorter day that fails is searched
        return True
    return False


def keep_their_shape(scene: Scene) -> None:
    """Wallets and items survive encoding: the state store keeps bytes."""
    for wallet in scene.wallets.values():
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(wallet), type=Wallet) == wallet
    for items in scene.items.values():
        for entry in items.values():
            assert msgspec.msgpack.decode(msgspec.msgpack.encode(entry), type=Item) == entry
