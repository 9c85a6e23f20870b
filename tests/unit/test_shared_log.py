"""A writer on a log that other processes may write to: it opens before it decides, and stops if it is not the owner.

Two worlds on one log are two nodes that both believe that they own it.
"""

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import pytest

from ledger.core.events import LEDGER, NO_REQUEST, WriterOpened
from ledger.core.follow_up_commands import ConcludeTransfer, CountValidReferral
from ledger.core.record import decode
from ledger.core.rejections import Code
from ledger.errors import LogUnavailable, OutcomeUnknown, StaleHead, Superseded
from ledger.memory.log import Failure
from ledger.writer import writer as writer_module
from ledger.writer.requests import Accepted, Failed, Refused
from unit.given import deposit, open_wallet, place_bet, transfer
from unit.node_in_memory import WatchedLog, World

UNKNOWN = OutcomeUnknown("no response")
AWAY = LogUnavailable("no broker responds")


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = await World(shared=True, generation=5).start()
    yield world
    await world.crash()


def beside(world: World, generation: int) -> World:
    """Another node, with another generation, on the same log."""
    other = World(shared=True, generation=generation)
    other.appended = world.appended
    return other


async def settled() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


# --- opening -------------------------------------------------------------------------------------------------------


async def test_a_writer_opens_its_partition_alone_before_it_decides_anything(world: World) -> None:
    await world.given(open_wallet(), deposit(500))
    assert world.types() == ["writer_opened", "wallet_opened", "deposited"]
    assert world.log.sizes[0] == 1
    opened = world.events()[0]
    assert opened.data == WriterOpened(generation=5)
    assert (opened.user_id, opened.command_id) == ("partition:0", "~open:1")
    assert (opened.actor, opened.request_sha256) == (LEDGER, NO_REQUEST)
    assert (opened.postings, opened.balances) == ((), {})
    await world.assert_true_of_the_log()


async def test_every_partition_is_opened_by_its_writer() -> None:
    world = await World(partitions=4, shared=True, generation=1).start()
    assert [event.user_id for event in world.events()] == [f"partition:{number}" for number in range(4)]
    await world.crash()


async def test_a_log_of_one_process_is_not_opened() -> None:
    world = await World().start()
    await world.given(open_wallet())
    assert world.types() == ["wallet_opened"]
    await world.crash()


async def test_each_start_opens_again_with_the_seq_that_it_has_then(world: World) -> None:
    await world.given(open_wallet())
    world.options["generation"] = 6
    await world.restart()
    opened = world.events("partition:0")
    assert [(event.command_id, event.data) for event in opened] == [
        ("~open:1", WriterOpened(generation=5)),
        ("~open:3", WriterOpened(generation=6)),
    ]
    await world.given(deposit(5))


async def test_requests_before_the_opening_are_refused() -> None:
    """If they waited, one could be accepted after the previous owner has refused the client's retry."""
    world = World(shared=True, generation=1)
    log = WatchedLog(1, world.appended, shared=True)
    log.gate.clear()
    world.new_log = lambda: log  # type: ignore[method-assign]
    starting = asyncio.create_task(world.start())
    await settled()
    assert not starting.done()
    assert not world.node.ready
    assert (await world.failed(open_wallet())).reason == "not_owner"
    log.gate.set()
    await starting
    assert world.types() == ["writer_opened"]
    await world.given(open_wallet())
    await world.crash()


@pytest.mark.parametrize("lands", [False, True])
async def test_an_open_of_unknown_outcome_is_followed_by_another(lands: bool) -> None:
    world = World(shared=True, generation=1)
    log = WatchedLog(1, world.appended, shared=True)
    log.fail_next.append(Failure(UNKNOWN, lands))
    world.new_log = lambda: log  # type: ignore[method-assign]
    await world.start()
    assert world.types() == ["writer_opened"] * (2 if lands else 1)
    await world.given(open_wallet())
    await world.crash()


async def test_the_opening_waits_for_an_unavailable_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "_RETRY_S", 0.001)
    world = World(shared=True, generation=1)
    log = WatchedLog(1, world.appended, shared=True)
    log.fail_next.extend([Failure(AWAY, lands=False)] * 3)
    world.new_log = lambda: log  # type: ignore[method-assign]
    await world.start()
    assert log.sizes == [1] * 4
    await world.crash()


# --- stale heads and unknown outcomes -------------------------------------------------------------------------------


@pytest.mark.parametrize("lands", [False, True])
async def test_after_an_unknown_outcome_it_opens_before_it_decides(world: World, lands: bool) -> None:
    await world.given(open_wallet(), deposit(500))
    world.log.fail_next.append(Failure(UNKNOWN, lands))
    bet = place_bet(400, "b1")
    assert (await world.failed(bet)).reason == "outcome_unknown"
    other = await world.post(place_bet(400, "b2"))
    assert isinstance(other, Refused) == lands
    opens = [number for number, kind in enumerate(world.types()) if kind == "writer_opened"]
    assert opens == ([0, 4] if lands else [0, 3])
    answer = await world.post(bet)
    assert isinstance(answer, Accepted) == lands
    await world.assert_true_of_the_log()


async def test_after_a_stale_head_it_opens_and_decides_again_in_order(world: World) -> None:
    await world.given(open_wallet(), deposit(500))
    other = await beside(world, 5).start()  # opens, so the head is another
    answers = await world.post_many(place_bet(300, "b1"), place_bet(300, "b2"), place_bet(200, "b3"))
    assert [type(answer) for answer in answers] == [Accepted, Refused, Accepted]
    assert world.types()[3:] == ["writer_opened", "writer_opened", "bet_placed", "bet_placed"]
    await other.crash()


async def test_a_refusal_on_a_stale_head_is_decided_again(world: World) -> None:
    await world.given(open_wallet())
    other = await beside(world, 5).start()
    await other.given(deposit(500))
    await world.accepted(place_bet(300))
    assert world.types()[-2:] == ["writer_opened", "bet_placed"]
    await other.crash()


async def test_requests_that_wait_during_an_opening_are_decided_after_it(world: World) -> None:
    await world.given(open_wallet())
    world.log.fail_next.append(Failure(UNKNOWN, lands=False))
    assert (await world.failed(deposit(5, "o1"))).reason == "outcome_unknown"
    world.log.gate.clear()
    posting = asyncio.create_task(world.post(deposit(5, "o2")))
    await settled()
    assert not posting.done()
    world.log.gate.set()
    assert isinstance(await posting, Accepted)
    assert world.types()[-2:] == ["writer_opened", "deposited"]


async def test_while_the_log_is_unavailable_waiting_requests_fail(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "_RETRY_S", 0.01)
    await world.given(open_wallet())
    world.log.fail_next.extend([Failure(UNKNOWN, lands=False), *[Failure(AWAY, lands=False)] * 4])
    in_doubt = deposit(5, "o1")
    assert (await world.failed(in_doubt)).reason == "outcome_unknown"
    assert (await world.failed(deposit(5, "o2"))).reason == "log_unavailable"
    again = await world.failed(in_doubt)
    assert again.reason == "outcome_unknown", "the writer has not read yet whether the first attempt was written"
    async with asyncio.timeout(60):
        while not isinstance(await world.post(deposit(5, "o3")), Accepted):  # noqa: ASYNC110 - as a client would
            await asyncio.sleep(0.01)
    assert world.types("u1") == ["wallet_opened", "deposited"]


async def test_a_stop_does_not_wait_for_an_unavailable_log(world: World) -> None:
    await world.given(open_wallet())
    world.log.fail_next.extend([Failure(UNKNOWN, lands=False), *[Failure(AWAY, lands=False)] * 1_000])
    assert (await world.failed(deposit(5, "o1"))).reason == "outcome_unknown"
    await settled()
    async with asyncio.timeout(60):
        await world.node.stop(quiet_within_s=0.1)


async def test_a_writer_that_always_finds_a_stale_head_refuses_with_not_owner(world: World) -> None:
    await world.given(open_wallet())
    overtaken = Failure(StaleHead("another writer was faster"), lands=False)
    world.log.fail_next.extend(
        [overtaken, None] * 7 + [overtaken]
    )  # each time it opens, and then its append is stale
    assert (await world.failed(deposit(5, "o1"))).reason == "not_owner"
    await world.given(deposit(5, "o2"))
    assert world.types("u1") == ["wallet_opened", "deposited"]


# --- generations --------------------------------------------------------------------------------------------------


async def test_a_writer_that_reads_a_higher_generation_stops_and_decides_nothing(world: World) -> None:
    await world.given(open_wallet(), deposit(500))
    newer = await beside(world, 6).start()
    failed = await world.failed(place_bet(100))
    assert failed.reason == "not_owner"
    assert isinstance(world.node.halted.result(), Superseded)
    assert (await world.failed(deposit(5, "o2"))).reason == "not_owner"
    await newer.given(place_bet(500))
    assert newer.types()[3:] == ["writer_opened", "bet_placed"]
    await newer.crash()


async def test_an_earlier_owner_refuses_nothing_from_its_old_state(world: World) -> None:
    await world.given(open_wallet())
    newer = await beside(world, 6).start()
    await newer.given(deposit(500))
    assert (await world.failed(place_bet(100))).reason == "not_owner"
    assert isinstance(await world.node.wallet("u1"), Failed)
    assert (await newer.refused(place_bet(501))).code is Code.INSUFFICIENT_FUNDS
    await newer.crash()


async def test_a_late_append_finds_the_partition_opened_by_another_writer(world: World) -> None:
    await world.given(open_wallet(), deposit(500))
    world.log.gate.clear()
    late = asyncio.create_task(world.post(place_bet(500, "late")))
    await settled()
    newer = await beside(world, 6).start()
    bet = place_bet(500, "b1")
    await newer.given(bet)
    world.log.gate.set()
    answer = await late
    assert isinstance(answer, Failed)
    assert answer.reason == "not_owner"
    assert [event.command_id for event in newer.events("u1")][2:] == [bet.command_id]
    await newer.crash()


async def test_a_lower_generation_does_not_open(world: World) -> None:
    with pytest.raises(Superseded):
        await beside(world, 4).start()
    assert world.types() == ["writer_opened"]


async def test_the_generation_is_known_after_a_checkpoint_too(world: World) -> None:
    await world.given(open_wallet())
    await world.save()
    await world.node._checkpoints._learn_keys()
    world.options["generation"] = 4
    with pytest.raises(Superseded, match="generation 5"):
        await world.restart()


async def test_follow_ups_that_were_open_at_a_hand_over_arrive_under_the_new_owner(world: World) -> None:
    await world.given(open_wallet("u1"), open_wallet("u2"), deposit(500))
    world.log.gate.clear()
    sending = asyncio.create_task(world.post(transfer(200, "u2")))
    await settled()
    world.log.gate.set()
    await sending
    newer = await beside(world, 6).start()
    await newer.quiet()
    assert await newer.cash("u2") == 200
    assert newer.types().count("transfer_received") == 1
    assert newer.total("transit/") == 0
    await newer.crash()


# --- rounds of a bounded size --------------------------------------------------------------------------------------


async def test_a_round_ends_where_an_append_is_full(world: World) -> None:
    world.writer._decider._append_bytes = 3 * len(world.appended.records[0][0])
    answers = await world.post_many(*(open_wallet(f"u{number}") for number in range(20)))
    assert all(isinstance(answer, Accepted) for answer in answers)
    assert max(world.log.sizes) <= 4
    assert sum(world.log.sizes) == 21
    assert [decode(record).event.user_id for record in world.appended.records[0][1:]] == [
        f"u{number}" for number in range(20)
    ]


async def test_a_round_of_follow_ups_ends_where_an_append_is_full(world: World) -> None:
    await world.given(open_wallet("u1"))
    world.log.sizes.clear()
    world.writer._decider._append_bytes = 3 * len(world.appended.records[0][1])
    arrived: list[int] = []
    for number in range(20):
        counted = CountValidReferral(
            command_id=f"~{number:064x}:0",
            user_id="u1",
            cause=f"0:{number + 101}",
            cause_time_us=world.clock.now_us,
            member=f"m{number}",
            asset="INR",
            rules="0" * 64,
        )
        assert world.node.receive_local(counted, partial(arrived.append, number))
    async with asyncio.timeout(60):
        while len(arrived) < 20:  # noqa: ASYNC110 - the writer's own doing
            await asyncio.sleep(0.001)
    assert max(world.log.sizes) <= 4
    assert arrived == list(range(20))
    assert (await world.wallet("u1")).valid_referrals == {"INR": 20}


# --- follow-ups of what is not in the log ------------------------------------------------------------------------


async def test_conclusions_of_transfers_that_the_log_lost_open_the_partition_once_and_stop_it(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """A partition was restored shorter: the transfers are lost, their conclusions arrive."""
    await world.given(open_wallet(), deposit(500))
    opened = world.types().count("writer_opened")
    for seq in (101, 102):
        stray = ConcludeTransfer(
            command_id=f"~conclude:0:{seq}",
            user_id="u1",
            cause=f"0:{seq}",
            cause_time_us=world.clock.now_us,
            transfer_id=f"t{seq}",
            to_user_id="u2",
            asset="INR",
            amount=5,
        )
        assert world.node.receive_local(stray, lambda: None)
    async with asyncio.timeout(60):
        while not world.node.stopped:  # noqa: ASYNC110 - no event announces it
            await asyncio.sleep(0.01)
    assert "0:101 concludes a transfer of u1" in caplog.text
    assert not world.node.halted.done()
    assert world.types().count("writer_opened") == opened + 1
    assert not [kind for kind in world.types() if kind.startswith("transfer")]
