"""Each fault that a review found, as the example that showed it."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.http.commands import HashedCommand, read_batch, read_command
from api.http.problems import Problem
from ledger.core.commands import Deposit, PlaceHold, Transfer
from ledger.core.money import AMOUNT_MAX
from ledger.core.state_values import decode_value, encode_value
from ledger.core.wallet import DayCount, Wallet
from ledger.errors import LogUnavailable
from ledger.memory.log import Failure
from ledger.memory.state_store import MemoryStateStore
from ledger.operations.audit import Fault, verify
from ledger.ports import StoredRecord
from ledger.sqlite.log import SqliteEventLog
from ledger.writer.key_filter import KeyFilter
from ledger.writer.requests import Accepted, Failed, WalletRead
from ledger.writer.state import PartitionState
from unit.given import NOON, open_wallet
from unit.node_in_memory import BrittleStore, World


def test_a_day_in_which_more_was_staked_than_64_bits_count_can_be_saved() -> None:
    wallet = Wallet("u1", "open", days={"INR": DayCount(20_000, 3_000 * AMOUNT_MAX, 2**70)})
    assert decode_value(encode_value(wallet)) == wallet


def deposit(command_id: str) -> Deposit:
    return Deposit(command_id=command_id, user_id="u1", order_id=command_id, asset="INR", amount=100)


async def test_reads_get_a_response_while_timers_are_due_and_the_log_is_unavailable() -> None:
    world = World()
    await world.start()
    await world.given(open_wallet(), deposit("d1"), open_wallet("u2"))
    await world.given(Deposit(command_id="d", user_id="u2", order_id="d", asset="INR", amount=100))
    await world.given(
        PlaceHold(command_id="h", user_id="u2", hold_id="h", asset="INR", amount=5, expires_at_us=NOON + 10**9)
    )
    world.log.fail_next.extend([Failure(LogUnavailable("full"), False)] * 50)
    world.clock.now_us = NOON + 2 * 10**9
    first, read = await asyncio.gather(world.post(deposit("d1")), world.node.wallet("u1"))
    assert isinstance(first, Accepted)
    assert first.hit
    assert isinstance(read, WalletRead)
    refused = await world.post(deposit("d2"))
    assert isinstance(refused, Failed)
    world.log.fail_next.clear()
    await world.stop()


async def test_failed_appends_leave_no_timers_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.writer.writer._RETRY_S", 0.01)
    world = World()
    await world.start()
    await world.given(open_wallet(), deposit("d1"))
    for number in range(20):
        world.log.fail_next.append(Failure(LogUnavailable("full"), False))
        hold = PlaceHold(
            command_id=f"h{number}",
            user_id="u1",
            hold_id=f"h{number}",
            asset="INR",
            amount=1,
            expires_at_us=NOON + 10**12,
        )
        assert isinstance(await world.post(hold), Failed)
    assert world.writer.state.next_due_us() is None
    await world.given(deposit("d2"))
    assert world.writer.state.next_due_us() is None, "the next commit sets no timer of a failed append"
    await world.stop()


def test_many_timers_of_one_instant_are_set_with_few_sorts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.writer.state._TIMERS_MAX", 64)
    state = PartitionState(0, MemoryStateStore(), 16, KeyFilter(1))
    sorts = 0
    nearest = state._keep_nearest_timers

    def counted() -> None:
        nonlocal sorts
        sorts += 1
        nearest()

    monkeypatch.setattr(state, "_keep_nearest_timers", counted)
    for number in range(1_000):
        state.set_timer(5, f"u{number}")
    assert sorts <= 5, "only when they have doubled"
    taken = [user for _ in range(1_000) for _, user in state.take_due(5, 1)]
    assert sorted(taken) == sorted(f"u{number}" for number in range(1_000))


async def test_a_start_without_a_state_reopens_no_follow_up_that_has_arrived() -> None:
    world = World(2)
    await world.start()
    await world.given(open_wallet(), open_wallet("u2"), deposit("d1"))
    for number in range(5):
        transfer = Transfer(
            command_id=f"t{number}", user_id="u1", transfer_id=f"t{number}", to_user_id="u2", asset="INR", amount=1
        )
        await world.given(transfer)
    await world.quiet()
    await world.crash()
    world.store = BrittleStore()
    await world.start()
    assert all(writer.state.open_follow_ups() == [] for writer in world.node.writers.values())
    await world.stop()


def test_a_lone_surrogate_in_one_element_of_a_batch_stops_no_other() -> None:
    good = b'{"type":"open_wallet","command_id":"x","user_id":"zv"}'
    bad = b'{"type":"open_wallet","command_id":"x","user_id":"zw","metadata":{"a":"\\ud800"}}'
    body = b" [ " + bad + b" ,\n" + good + b", [1, 2] , 5 ] "
    first, second, third, fourth = read_batch(body)
    assert isinstance(first, Problem)
    assert first.fields == {"field": "metadata"}
    assert isinstance(second, HashedCommand)
    assert second == read_command(good)
    assert isinstance(third, Problem)
    assert isinstance(fourth, Problem)


@pytest.mark.parametrize("value", [b"[" * 5_000 + b"]" * 5_000, b'{"a":' * 5_000 + b'"]},{"' + b"}" * 5_000])
def test_an_element_of_a_batch_that_is_nested_too_deeply_stops_no_other(value: bytes) -> None:
    good = b'{"type":"open_wallet","command_id":"x","user_id":"zv"}'
    deep = b'{"type":"open_wallet","command_id":"x","user_id":"zw","metadata":' + value + b"}"
    first, second, third = read_batch(b" [" + good + b", " + deep + b" ,\n" + good + b"] ")
    assert first == third == read_command(good)
    assert isinstance(second, Problem)
    assert second.code == "malformed_request"


@pytest.mark.parametrize(
    "body", [b"[%b", b"[%b]]", b"[%b,]", b"[%b,x]", b'{"a":%b}', b"%b", b"[" + b"1," * 200_000 + b"%b]"]
)
def test_a_body_that_is_no_array_is_refused_whole_however_deep_its_elements_are(body: bytes) -> None:
    with pytest.raises(Problem):
        read_batch(body % (b'{"a":' * 5_000 + b"1" + b"}" * 5_000))


def test_a_misspelled_id_is_explained_in_words() -> None:
    with pytest.raises(Problem) as caught:
        read_command(b'{"type":"open_wallet","command_id":"x","user_id":"game:x"}')
    assert "regex" not in caught.value.detail
    assert "reserved" in caught.value.detail
    with pytest.raises(Problem, match="unknown command type; the known ones are open_wallet, deposit"):
        read_command(b'{"type":"zap","command_id":"x","user_id":"u"}')


def test_a_wallet_in_a_partition_that_is_not_its_own_is_a_fault() -> None:
    record = (
        b'{"v":1,"partition":1,"seq":1,"prev":"' + b"0" * 64 + b'","time_us":1,"user_id":"u1","command_id":"c",'
        b'"request_sha256":"' + b"0" * 64 + b'","actor":"local","type":"wallet_opened","data":{},'
        b'"postings":[],"balances":{}}'
    )

    class One:
        def ends(self) -> list[int]:
            return [0, 1]

        def read(self, partition: int, to_seq: int, from_seq: int = 1) -> Iterator[list[StoredRecord]]:
            assert (partition, to_seq) in ((0, 0), (1, 1))
            yield [StoredRecord(record)] * partition

    with pytest.raises(Fault, match="belongs to another partition"):
        verify(One())


async def test_the_wal_of_a_killed_process_is_synced_before_any_response_depends_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "events.sqlite3"
    left_open = SqliteEventLog(path, 1)
    synced: list[int] = []
    monkeypatch.setattr("os.fsync", synced.append)
    again = SqliteEventLog(path, 1)
    assert len(synced) == 1
    await again.close()
    await left_open.close()
