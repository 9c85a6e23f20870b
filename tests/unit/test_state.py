"""A partition's state: what a batch changes is undone as a whole, and nothing else sees it before it is committed."""

import asyncio
import random
from typing import Any

import pytest

from ledger.core.bet_events import BetPlaced, StakeSource
from ledger.core.events import Balance, Event
from ledger.core.follow_up_commands import CountReferral
from ledger.core.items import Bet
from ledger.core.money import AMOUNT_MAX
from ledger.core.position import Position
from ledger.core.record import Head
from ledger.core.state_values import Value, decode_value, encode_value
from ledger.core.wallet import DayCount, ExpiringHold, Wallet
from ledger.memory.state_store import MemoryStateStore
from ledger.writer.key_filter import KeyFilter
from ledger.writer.open_seqs import OpenSeqs
from ledger.writer.state import PartitionState

KEYS = (
    *("stored", "changed", "new", "stored b:1", "changed b:1", "new b:1", "deleted b:1", "new b:2"),
    *("stored c:1", "new c:1", "new c:2"),
)
BET = Event(
    *(60, "new", "2", "0" * 64, "local"),
    BetPlaced(
        asset="INR", bet_id="2", source=StakeSource(0, 0, ()), game="external", period="p", selection="s", stake=0
    ),
    (),
    {},
)


def holding(user_id: str, due_us: int) -> Wallet:
    return Wallet(user_id, "open", expiring_holds=(ExpiringHold(due_us, "h", "INR", 1, "0:1"),))


def referral(seq: int) -> CountReferral:
    return CountReferral(command_id=f"~{seq}", user_id="r", cause=f"0:{seq}", cause_time_us=1, member="m", level=1)


@pytest.fixture
def state() -> PartitionState:
    """A state with values in the store, and with values that wait for the next checkpoint."""
    store = MemoryStateStore()
    stored: dict[str, Value] = {
        "stored": Wallet("stored", "open"),
        "stored b:1": Bet("open", "INR", 1),
        "stored c:1": 1,
    }
    store.save(0, {**stored, "deleted b:1": Bet("open", "INR", 1)}, Head(1, "1" * 64))
    state = PartitionState(0, store, 16, KeyFilter(1))
    state.put_wallet(Wallet("changed"), holding("changed", 50))
    state.put("changed b:1", Bet("open", "INR", 5))
    state.put("deleted b:1", None)
    state.open_follow_up(2, referral(2))
    state.note_generation(3)
    state.commit()
    return state


def seen(state: PartitionState) -> dict[str, Any]:
    return {
        **{key: state.get(key) for key in KEYS},
        "timers": (state.next_due_us(), sorted(state._timers)),
        "generation": state.highest_generation,
        "follow-ups": asyncio.run(state.open_follow_ups()),
        "unsaved": dict(state._changed),
    }


def change_everything(state: PartitionState) -> None:
    """Change, more than once, each kind of value: wallets, items, ids, timers, follow-ups, the generation."""
    assert state.take_due(60, 10) == [(50, "changed")]
    state.prefetch(KEYS)
    state.put_wallet(state.wallet("changed"), Wallet("changed", "closed"))
    for due_us in (40, 30):
        state.put_wallet(state.wallet("new"), holding("new", due_us))
    state.put_wallet(state.wallet("stored"), Wallet("stored", "open", balances={"INR": Balance(5)}))
    for key in ("stored b:1", "changed b:1", "new b:1", "deleted b:1"):
        state.put(key, None)
        state.put(key, Bet("settled"))
    state.put("stored c:1", None)
    state.put("new c:1", 9)
    state.apply(state.wallet("new"), {}, BET, Position(0, 9))
    assert (state.get("new b:2"), state.get("new c:2")) == (Bet("open", "INR"), 9)
    state.open_follow_up(3, referral(3))
    state.note_generation(7)


def test_a_batch_that_is_rolled_back_leaves_no_trace(state: PartitionState) -> None:
    before = seen(state)
    change_everything(state)
    state.roll_back()
    assert seen(state) == before
    state.commit()
    assert seen(state) == before, "nothing waits for the next commit"


def test_a_batch_that_is_rolled_back_is_not_saved(state: PartitionState) -> None:
    change_everything(state)
    state.roll_back()
    saved = state.begin_checkpoint()
    assert set(saved) == {
        "changed",
        "changed b:1",
        "deleted b:1",
        "!t0000000000000050 changed",
        "!f0000000000000002",
        "!w",
    }
    assert saved["changed b:1"] == Bet("open", "INR", 5)


def test_a_follow_up_of_a_batch_is_not_open_before_the_commit(state: PartitionState) -> None:
    state.open_follow_up(3, referral(3))
    assert [seq for seq, _ in asyncio.run(state.open_follow_ups())] == [2], "the batch may still be rolled back"
    state.commit()
    state.close_follow_up(2)
    assert [seq for seq, _ in asyncio.run(state.open_follow_ups())] == [3]


def test_open_follow_ups_are_read_page_by_page_from_whatever_layer_has_them(state: PartitionState) -> None:
    assert state.partition == 0
    state.save(state.begin_checkpoint(), Head(2, "2" * 64), None)
    state.end_checkpoint(saved=True)
    for seq in (3, 4):
        state.open_follow_up(seq, referral(seq))
    state.commit()
    changes = state.begin_checkpoint()
    state.open_follow_up(5, referral(5))
    state.commit()
    state.close_follow_up(3)
    opened = [(seq, referral(seq)) for seq in (2, 4, 5)]
    assert asyncio.run(state.open_follow_ups()) == opened
    assert asyncio.run(state.open_follow_ups(0, 2)) == opened[:2]
    assert asyncio.run(state.open_follow_ups(4, 2)) == opened[2:]
    state.save(changes, Head(4, "4" * 64), None)
    state.end_checkpoint(saved=True)
    state.save(state.begin_checkpoint(), Head(5, "5" * 64), None)
    state.end_checkpoint(saved=True)
    again = PartitionState(0, state._store, 16, KeyFilter(1))
    assert asyncio.run(again.open_follow_ups()) == opened
    assert list(again.open_seqs) == [2, 4, 5]


def test_the_open_seqs_are_a_sorted_set_whatever_is_closed() -> None:
    rng = random.Random(5)
    seqs, model = OpenSeqs(), set[int]()
    for seq in range(1, 6_000):
        if rng.random() < 0.8:
            seqs.add(seq)
            model.add(seq)
        closed = rng.randrange(1, seq + 2)
        assert seqs.discard(closed) == (closed in model)
        model.discard(closed)
    assert list(seqs) == sorted(model)
    assert len(seqs) == len(model)
    assert seqs.after(3_000, 10) == sorted(seq for seq in model if seq > 3_000)[:10]
    assert seqs.between(1_000, 3_000) == sorted(seq for seq in model if 1_000 < seq <= 3_000)
    assert all((seq in seqs) == (seq in model) for seq in range(6_000))


def test_no_checkpoint_is_taken_within_a_batch(state: PartitionState) -> None:
    state.put("new c:1", 9)
    with pytest.raises(AssertionError, match="between batches"):
        state.begin_checkpoint()


def test_a_day_in_which_more_was_staked_than_64_bits_count_can_be_saved() -> None:
    wallet = Wallet("u1", "open", days={"INR": DayCount(20_000, 3_000 * AMOUNT_MAX, 2**70)})
    assert decode_value(encode_value(wallet)) == wallet


@pytest.fixture
def few_timers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.writer.state._TIMERS_MAX", 64)
    monkeypatch.setattr("ledger.writer.state._TIMERS_PAGE", 16)


async def timers_in_order(state: PartitionState) -> list[tuple[int, str]]:
    """Take all timers, as a writer does."""
    taken = []
    while state.next_due_us() is not None:
        await state.load_timers()
        assert len(state._timers) <= 64
        for due_us, user_id in state.take_due(10**15, 7):
            taken.append((due_us, user_id))
            state.put_wallet(holding(user_id, due_us), Wallet(user_id, "open"))
        state.commit()
    return taken


@pytest.mark.usefixtures("few_timers")
@pytest.mark.parametrize("instants", [1, 3, 1_000])
@pytest.mark.parametrize("saved", [True, False], ids=["saved", "not saved"])
async def test_timers_in_memory_are_bounded_whatever_share_one_instant(instants: int, saved: bool) -> None:
    store = MemoryStateStore()
    state = PartitionState(0, store, 16, KeyFilter(1))
    # One expires before 1970.
    timers = [(number % instants - 1, f"u{number}") for number in range(1_000)]
    for due_us, user_id in timers:
        state.put_wallet(Wallet(user_id, "open"), holding(user_id, due_us))
        state.commit()
        assert len(state._timers) <= 64
    if saved:
        state.save(state.begin_checkpoint(), Head(1, "1" * 64), None)
        state.end_checkpoint(saved=True)
    taken = await timers_in_order(state)
    assert sorted(taken) == sorted((max(due_us, 0), user_id) for due_us, user_id in timers)
    assert [due_us for due_us, _ in taken] == sorted(due_us for due_us, _ in taken)


@pytest.mark.usefixtures("few_timers")
@pytest.mark.parametrize("saved", [True, False], ids=["saved", "not saved"])
async def test_a_checkpoint_that_ends_while_timers_are_read_loses_none(saved: bool) -> None:
    class Slow(MemoryStateStore):
        """The checkpoint ends after the disk was read: what it saved is neither in the page nor in ``saving``."""

        def scan(self, partition: int, first: str, last: str, limit: int) -> list[tuple[str, Value]]:
            page = super().scan(partition, first, last, limit)
            if changes:
                if saved:
                    super().save(0, changes, Head(1, "1" * 64))
                changes.clear()
                state.end_checkpoint(saved=saved)
            return page

    changes: dict[str, Value | None] = {}
    state = PartitionState(0, Slow(), 16, KeyFilter(1))
    for number in range(200):
        state.put_wallet(Wallet(f"u{number}", "open"), holding(f"u{number}", number))
        state.commit()
    taken = [user_id for _ in range(32) for _, user_id in state.take_due(200, 1)]
    state.commit()
    changes = dict(state.begin_checkpoint())
    taken += [user_id for _, user_id in await timers_in_order(state)]
    assert taken == [f"u{number}" for number in range(200)]


@pytest.mark.parametrize("saved", [True, False], ids=["saved", "not saved"])
def test_a_checkpoint_that_ends_within_a_batch_changes_nothing_for_it(state: PartitionState, saved: bool) -> None:
    """The batch waits for its append. It is undone to the values of the checkpoint, whether that failed or not."""
    read_before = state.wallet("stored")  # from now on in ``recent``
    state.put_wallet(read_before, Wallet("stored", "open", balances={"INR": Balance(3)}))
    state.commit()
    before = visible(state)
    saving = state.begin_checkpoint()
    change_everything(state)
    if saved:
        state.save(saving, Head(2, "2" * 64), None)
    state.end_checkpoint(saved=saved)
    state.roll_back()
    assert visible(state) == before
    assert (state.begin_checkpoint() == saving) is not saved, "what was not saved waits for the next checkpoint"


@pytest.mark.parametrize("saved", [True, False], ids=["saved", "not saved"])
def test_a_batch_within_which_a_checkpoint_ends_is_committed_whole(state: PartitionState, saved: bool) -> None:
    saving = state.begin_checkpoint()
    change_everything(state)
    during = visible(state)
    if saved:
        state.save(saving, Head(2, "2" * 64), None)
    state.end_checkpoint(saved=saved)
    assert {key: state.get(key) for key in KEYS} == {key: during[key] for key in KEYS}
    state.commit()
    assert {key: state.get(key) for key in KEYS} == {key: during[key] for key in KEYS}


def visible(state: PartitionState) -> dict[str, Any]:
    """``seen``, without what waits for the next checkpoint."""
    return {name: value for name, value in seen(state).items() if name != "unsaved"}
