"""A node takes any request and forwards the requests for other nodes' partitions. No response contradicts the log.

Node ``a`` has partition 0 and node ``b`` partition 1; most requests go to ``b`` for a wallet of ``a``.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from ledger.core.commands import Command
from ledger.core.follow_up_commands import AnyFollowUp, CountReferral
from ledger.core.rejections import Code
from ledger.errors import LedgerError
from ledger.node import follow_up_queue as queue_module
from ledger.peers import delivery as delivery_module
from ledger.peers.delivery import FollowUpDelivery
from ledger.peers.forwarding import CALL_S, SKEW_S, WAIT_S
from ledger.tracing import Span
from ledger.writer.requests import (
    Accepted,
    CommandRequest,
    DryRunAccepted,
    Failed,
    IdReused,
    OtherGame,
    Refused,
    WalletRead,
)
from properties.jumping_loop import in_skipped_time
from unit.cluster_in_memory import ClusterInMemory, Trouble
from unit.given import cancel_bet, deposit, open_wallet, place_bet, set_limits, settle_bet, transfer
from unit.node_in_memory import request_sha256


@asynccontextmanager
async def cluster_with(user_cash: int = 500, **options: Any) -> AsyncIterator[ClusterInMemory]:
    """Two nodes, and a wallet in ``a``'s partition with so much cash."""
    async with ClusterInMemory(**options) as cluster:
        user_id = cluster.user(0)
        await cluster["a"].accepted(open_wallet(user_id=user_id))
        await cluster["a"].accepted(deposit(user_cash, "o-first", user_id=user_id))
        yield cluster


def now_s() -> float:
    return asyncio.get_running_loop().time()


# --- the owner decides ---------------------------------------------------------------------------------------------


@in_skipped_time
async def test_a_command_is_decided_by_its_owner_whichever_node_receives_it() -> None:
    async with cluster_with() as cluster:
        user_id, b = cluster.user(0), cluster["b"]
        response = await b.accepted(place_bet(400, "b1", user_id=user_id))
        assert response.position.partition == 0
        assert response.event == cluster.events(user_id)[-1]
        assert response.head == cluster.appended.heads[0].sha256
        refused = await b.post(place_bet(400, "b2", user_id=user_id))
        assert isinstance(refused, Refused)
        assert refused.rejection.code is Code.INSUFFICIENT_FUNDS
        assert refused.rejection.fields["available"] == 100
        assert await b.cash(user_id) == 100


@in_skipped_time
async def test_every_kind_of_response_arrives_unchanged() -> None:
    async with cluster_with() as cluster:
        user_id, a, b = cluster.user(0), cluster["a"], cluster["b"]
        bet = place_bet(100, "b1", user_id=user_id, metadata={"ß": "\u2028"}, private="c2VhbGVk")
        first = await b.accepted(bet)
        again = await b.accepted(bet)
        assert again.hit
        assert b'"private":"c2VhbGVk"' in again.record
        assert (again.event, again.position, again.head) == (first.event, first.position, first.head)
        assert await b.node.first_response(user_id, bet.command_id) == again
        assert await b.node.first_response(user_id, "never") is None
        other = place_bet(101, "b1", user_id=user_id, command_id=bet.command_id)
        assert await b.post(other) == await a.post(other)
        assert isinstance(await b.post(other), IdReused)
        dry_run = await b.post(place_bet(7, "b7", user_id=user_id), dry_run=True)
        assert isinstance(dry_run, DryRunAccepted)
        assert await b.node.wallet(user_id) == await a.node.wallet(user_id)
        enormous = deposit(10**28, "o9", user_id=user_id)
        assert await b.post(enormous) == await a.post(enormous)
        unset = set_limits(user_id=user_id, balance_max=None)
        assert (await b.accepted(unset)).event.request_sha256 == request_sha256(unset)


@in_skipped_time
async def test_the_owner_knows_which_games_a_narrowed_sender_may_touch() -> None:
    async with cluster_with() as cluster:
        user_id, b = cluster.user(0), cluster["b"]
        await b.accepted(place_bet(10, "b1", user_id=user_id))
        cancel, settle = cancel_bet("b1", user_id=user_id), settle_bet(5, "b1", user_id=user_id)
        before = cluster.types(user_id)
        wingo, both = frozenset({"wingo_1m"}), frozenset({"wingo_1m", "external"})
        for dry_run in (True, False):
            assert await b.post(cancel, dry_run=dry_run, games=wingo) == OtherGame("external")
        assert await b.post_many(settle, cancel, games=wingo) == [OtherGame("external")] * 2
        assert cluster.types(user_id) == before
        assert isinstance(await b.post(settle, games=both), Accepted)


@in_skipped_time
async def test_a_narrowed_sender_stays_narrowed_when_its_commands_are_sent_again() -> None:
    async with cluster_with() as cluster:
        user_id, b = cluster.user(0), cluster["b"]
        await b.accepted(place_bet(10, "b1", user_id=user_id))
        wingo = frozenset({"wingo_1m"})
        commands = [settle_bet(5, "b1", user_id=user_id), cancel_bet("b1", user_id=user_id)]
        for sent in (commands[:1], commands):  # alone it is sent again, two are looked for by dry runs
            b.peers.troubles.append(Trouble.LOST)
            responses = await b.post_many(*sent, games=wingo)
            assert all(isinstance(one, Failed) and one.reason == "outcome_unknown" for one in responses), responses
        again = [request for _, requests in b.peers.calls[1:] for request in requests]
        assert [request.games for request in again if isinstance(request, CommandRequest)] == [wingo] * 6
        assert cluster.types(user_id)[-1] == "bet_placed"


@in_skipped_time
async def test_a_node_that_finds_the_partition_its_own_keeps_the_sender_narrowed() -> None:
    async with cluster_with() as cluster:
        user_id, a, b = cluster.user(0), cluster["a"], cluster["b"]
        await b.accepted(place_bet(10, "b1", user_id=user_id))
        await cluster.give([0], None)
        posted = asyncio.create_task(a.post(cancel_bet("b1", user_id=user_id), games=frozenset({"wingo_1m"})))
        await asyncio.sleep(0.05)
        await cluster.give([0], "a")
        assert await posted == OtherGame("external")


@in_skipped_time
async def test_a_batch_goes_to_each_owner_in_one_call_and_keeps_its_order() -> None:
    async with cluster_with(partitions=6, nodes=3) as cluster:
        users = [cluster.user(partition) for partition in range(6)]
        commands: list[Command] = [open_wallet(user_id=user_id) for user_id in users[1:]]
        commands += [deposit(5, f"o-{user_id}", user_id=user_id) for user_id in users]
        responses = await cluster["c"].post_many(*commands)
        assert all(isinstance(response, Accepted) for response in responses)
        assert [response.event.command_id for response in responses if isinstance(response, Accepted)] == [
            command.command_id for command in commands
        ]
        assert sorted(address for address, _ in cluster["c"].peers.calls) == ["a", "b"]


@in_skipped_time
async def test_simultaneous_requests_go_in_one_call() -> None:
    async with cluster_with() as cluster:
        user_id, b = cluster.user(0), cluster["b"]
        responses = await asyncio.gather(*(b.post(deposit(1, f"o{n}", user_id=user_id)) for n in range(200)))
        assert all(isinstance(response, Accepted) for response in responses)
        assert len(b.peers.calls) == 1
        b.peers.troubles.append(Trouble.SLOW)
        more = [asyncio.create_task(b.post(deposit(1, f"p{n}", user_id=user_id))) for n in range(50)]
        for _ in range(5):
            await asyncio.sleep(0.002)
            more.append(asyncio.create_task(b.post(deposit(1, f"q{len(more)}", user_id=user_id))))
        await asyncio.gather(*more)
        assert await b.cash(user_id) == 500 + 200 + 55


@in_skipped_time
async def test_commands_of_a_wallet_keep_the_order_of_their_request() -> None:
    async with cluster_with(user_cash=1) as cluster:
        user_id, b = cluster.user(0), cluster["b"]
        commands = [deposit(n, f"o{n}", user_id=user_id) for n in range(1, 60)]
        await b.post_many(*commands)
        assert cluster.commands(user_id)[2:] == [command.command_id for command in commands]


# --- a hand-over ---------------------------------------------------------------------------------------------------


@in_skipped_time
async def test_a_command_waits_for_the_next_owner() -> None:
    async with cluster_with() as cluster:
        user_id, b = cluster.user(0), cluster["b"]
        await cluster.give([0], None)
        await cluster.refresh_owners()
        posting = asyncio.create_task(b.post(place_bet(10, "b1", user_id=user_id)))
        await asyncio.sleep(WAIT_S / 2)
        assert not posting.done()
        await cluster.give([0], "a")
        assert isinstance(await posting, Accepted)


@in_skipped_time
async def test_a_waiting_command_is_decided_locally_once_its_partition_is_gained() -> None:
    async with cluster_with() as cluster:
        user_id, b = cluster.user(0), cluster["b"]
        await cluster.give([0], None)
        posting = asyncio.create_task(b.post(place_bet(10, "b1", user_id=user_id)))
        await asyncio.sleep(0.2)
        await cluster.give([0], "b")
        assert isinstance(await posting, Accepted)


@in_skipped_time
async def test_without_an_owner_in_time_the_response_is_not_owner_and_nothing_is_written() -> None:
    async with cluster_with() as cluster:
        user_id, b = cluster.user(0), cluster["b"]
        await cluster.give([0], None)
        began_s = now_s()
        failed = await b.failed(place_bet(10, "b1", user_id=user_id))
        assert failed.reason == "not_owner"
        assert WAIT_S <= now_s() - began_s < WAIT_S + 0.5
        assert cluster.types(user_id) == ["wallet_opened", "deposited"]


@in_skipped_time
async def test_a_request_sent_to_a_former_owner_finds_the_new_one() -> None:
    async with cluster_with(nodes=3, partitions=3) as cluster:
        user_id, c = cluster.user(0), cluster["c"]
        await cluster.give([0], "b")
        await cluster.settled()
        assert c.owners.address_of(0) == "a"
        assert isinstance(await c.post(place_bet(10, "b1", user_id=user_id)), Accepted)
        assert [address for address, _ in c.peers.calls] == ["a", "b"]


@in_skipped_time
async def test_an_unreachable_node_is_called_again() -> None:
    async with cluster_with() as cluster:
        b = cluster["b"]
        b.peers.troubles.extend([Trouble.UNREACHABLE] * 5)
        assert not (await b.accepted(place_bet(10, "b1", user_id=cluster.user(0)))).hit


@in_skipped_time
async def test_the_address_of_an_unreachable_node_is_in_the_log_and_not_in_the_response(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with cluster_with() as cluster:
        b = cluster["b"]
        b.peers.troubles.extend([Trouble.UNREACHABLE] * 100)
        failed = await b.failed(place_bet(10, "b1", user_id=cluster.user(0)))
        assert failed == Failed("not_owner", "the node that owns the wallet's partition cannot be reached")
        assert "no response from a" in caplog.text


@in_skipped_time
async def test_an_unavailable_group_stops_no_request_whose_owner_is_known() -> None:
    async with cluster_with() as cluster:
        b = cluster["b"]
        cluster.agreement.away = True
        b.peers.troubles.append(Trouble.UNREACHABLE)
        assert isinstance(await b.post(place_bet(10, "b1", user_id=cluster.user(0))), Accepted)


@in_skipped_time
async def test_a_request_is_forwarded_once() -> None:
    """Each node believes that the other one is the owner: neither forwards a forwarded request."""
    async with cluster_with() as cluster:
        user_id, a, b = cluster.user(0), cluster["a"], cluster["b"]
        await cluster.give([0], None)
        cluster.agreement.away = True
        a.owners.known[0], b.owners.known[0] = "b", "a"
        assert (await b.failed(place_bet(10, "b1", user_id=user_id))).reason == "not_owner"
        assert a.peers.calls == []
        assert len(b.peers.calls) < 40


# --- silence -------------------------------------------------------------------------------------------------------


@in_skipped_time
async def test_after_a_lost_response_the_command_is_sent_again_and_takes_effect_once() -> None:
    async with cluster_with() as cluster:
        user_id, b = cluster.user(0), cluster["b"]
        b.peers.troubles.append(Trouble.RESPONSE_LOST)
        response = await b.accepted(place_bet(400, "b1", user_id=user_id))
        assert response.hit
        assert cluster.types(user_id) == ["wallet_opened", "deposited", "bet_placed"]


@in_skipped_time
async def test_a_call_that_never_arrived_is_sent_again() -> None:
    async with cluster_with() as cluster:
        b = cluster["b"]
        b.peers.troubles.extend([Trouble.LOST] * 3)
        assert not (await b.accepted(place_bet(400, "b1", user_id=cluster.user(0)))).hit


@pytest.mark.parametrize("trouble", [Trouble.LOST, Trouble.RESPONSE_LOST])
@in_skipped_time
async def test_a_refusal_after_silence_is_final_only_once_nothing_is_undecided(trouble: Trouble) -> None:
    async with cluster_with() as cluster:
        user_id, b = cluster.user(0), cluster["b"]
        b.peers.troubles.append(trouble)
        began_s = now_s()
        failed = await b.failed(place_bet(501, "b1", user_id=user_id))
        assert failed.reason == "outcome_unknown"
        assert CALL_S + SKEW_S < now_s() - began_s < CALL_S + SKEW_S + 0.5
        assert isinstance(await b.post(place_bet(501, "b2", user_id=user_id)), Refused), "nothing is undecided"


@in_skipped_time
async def test_a_late_call_after_a_refusal_may_be_accepted_and_a_retry_finds_it() -> None:
    async with cluster_with() as cluster:
        user_id, a, b = cluster.user(0), cluster["a"], cluster["b"]
        cluster.late_s = CALL_S - 0.5
        b.peers.troubles.append(Trouble.LATE)
        bet = place_bet(501, "b1", user_id=user_id)
        posting = asyncio.create_task(b.failed(bet))
        await asyncio.sleep(0.5)
        await a.accepted(deposit(1, "o2", user_id=user_id))
        assert (await posting).reason == "outcome_unknown"
        assert (await b.accepted(bet)).hit
        assert cluster.types(user_id).count("bet_placed") == 1


@in_skipped_time
async def test_a_call_that_arrives_after_its_deadline_is_never_decided() -> None:
    async with cluster_with() as cluster:
        user_id, a, b = cluster.user(0), cluster["a"], cluster["b"]
        cluster.late_s = CALL_S + SKEW_S + 1
        b.peers.troubles.append(Trouble.LATE)
        bet = place_bet(501, "b1", user_id=user_id)
        assert (await b.failed(bet)).reason == "outcome_unknown"
        assert isinstance(await b.post(bet), Refused)
        await a.accepted(deposit(1, "o2", user_id=user_id))
        await asyncio.gather(*b.peers.late)
        await asyncio.sleep(1)
        assert "bet_placed" not in cluster.types(user_id)


@in_skipped_time
async def test_after_silence_not_owner_is_not_final() -> None:
    async with cluster_with() as cluster:
        user_id, b = cluster.user(0), cluster["b"]
        b.peers.troubles.append(Trouble.RESPONSE_LOST)
        posting = asyncio.create_task(b.failed(place_bet(10, "b1", user_id=user_id)))
        while b.peers.troubles:  # noqa: ASYNC110 - until the call is sent
            await asyncio.sleep(0.005)
        await cluster.crash("a")
        assert (await posting).reason == "outcome_unknown"


@in_skipped_time
async def test_a_hanging_node_counts_as_silent_after_the_time_limit() -> None:
    async with cluster_with() as cluster:
        user_id, b = cluster.user(0), cluster["b"]
        b.peers.troubles.append(Trouble.HANGS)
        began_s = now_s()
        failed = await b.failed(place_bet(10, "b1", user_id=user_id))
        assert failed.reason == "outcome_unknown"
        assert now_s() - began_s < WAIT_S + CALL_S + SKEW_S + 0.5


@in_skipped_time
async def test_a_reused_id_is_a_final_response_even_after_silence() -> None:
    async with cluster_with() as cluster:
        user_id, b = cluster.user(0), cluster["b"]
        bet = place_bet(10, "b1", user_id=user_id)
        await b.accepted(bet)
        b.peers.troubles.append(Trouble.LOST)
        assert isinstance(await b.post(place_bet(11, "b1", user_id=user_id, command_id=bet.command_id)), IdReused)


@in_skipped_time
async def test_a_request_that_changes_nothing_is_never_undecided() -> None:
    async with cluster_with() as cluster:
        user_id, b = cluster.user(0), cluster["b"]
        began_s = now_s()
        for _ in range(4):
            b.peers.troubles.append(Trouble.LOST)
            assert await b.node.first_response(user_id, "never") is None
            b.peers.troubles.append(Trouble.RESPONSE_LOST)
            assert isinstance(await b.node.wallet(user_id), WalletRead)
            b.peers.troubles.append(Trouble.LOST)
            assert isinstance(await b.post(place_bet(501, "b9", user_id=user_id), dry_run=True), Refused)
        assert now_s() - began_s < 1


@in_skipped_time
async def test_several_undecided_commands_of_a_wallet_are_not_posted_again() -> None:
    """The first call may still be decided. A deposit that is accepted now could come before the earlier bet."""
    async with cluster_with(user_cash=10) as cluster:
        user_id, other, b = cluster.user(0), cluster.user(0, 1), cluster["b"]
        await b.accepted(open_wallet(user_id=other))
        b.peers.troubles.append(Trouble.LOST)
        bet, later = place_bet(11, "b1", user_id=user_id), deposit(5, "o2", user_id=user_id)
        mine, after, others = await b.post_many(bet, later, deposit(1, "o1", user_id=other))
        assert isinstance(mine, Failed)
        assert mine.reason == "outcome_unknown"
        assert after == mine
        assert isinstance(others, Accepted), "the other wallet does not wait"
        assert cluster.types(user_id) == ["wallet_opened", "deposited"]


@in_skipped_time
async def test_undecided_commands_that_were_accepted_get_their_first_responses() -> None:
    async with cluster_with() as cluster:
        user_id, b = cluster.user(0), cluster["b"]
        b.peers.troubles.append(Trouble.RESPONSE_LOST)
        commands = [deposit(n, f"o{n}", user_id=user_id) for n in range(1, 9)]
        responses = await b.post_many(*commands)
        assert [response.hit for response in responses if isinstance(response, Accepted)] == [True] * 8
        assert cluster.commands(user_id)[2:] == [command.command_id for command in commands]


@in_skipped_time
async def test_an_undecided_refusal_before_an_accepted_command_is_unknown() -> None:
    """If the bet were posted again it would be accepted now, after the deposit that follows it."""
    async with cluster_with(user_cash=10) as cluster:
        user_id, b = cluster.user(0), cluster["b"]
        b.peers.troubles.append(Trouble.RESPONSE_LOST)
        first, bet = deposit(1, "o2", user_id=user_id), place_bet(12, "b1", user_id=user_id)
        later = deposit(5, "o3", user_id=user_id)
        responses = await b.post_many(first, bet, later)
        assert isinstance(responses[0], Accepted)
        assert [getattr(response, "reason", None) for response in responses[1:]] == ["outcome_unknown"] * 2
        assert cluster.commands(user_id)[2:] == [first.command_id, later.command_id]
        again = await b.post_many(bet, later)
        assert [getattr(response, "hit", None) for response in again] == [False, True]


# --- bounds and ends -----------------------------------------------------------------------------------------------


@in_skipped_time
async def test_requests_above_a_node_s_bound_are_overloaded() -> None:
    async with cluster_with(queue_max=50, open_max=60) as cluster:
        user_id, b = cluster.user(0), cluster["b"]
        b.peers.troubles.extend([Trouble.SLOW] * 10)
        posts = [asyncio.create_task(b.post(deposit(1, f"o{n}", user_id=user_id))) for n in range(100)]
        responses = await asyncio.gather(*posts)
        reasons = [response.reason for response in responses if isinstance(response, Failed)]
        assert reasons == ["overloaded"] * 50
        assert isinstance(await b.post(deposit(1, "o-later", user_id=user_id)), Accepted)
        await cluster.give([0], None)
        await cluster.refresh_owners()
        posts = [asyncio.create_task(b.post(deposit(1, f"p{n}", user_id=user_id))) for n in range(70)]
        responses = await asyncio.gather(*posts)
        assert sorted(response.reason for response in responses if isinstance(response, Failed)) == (
            ["not_owner"] * 60 + ["overloaded"] * 10
        )


@in_skipped_time
async def test_close_responds_to_waiting_requests_and_waits_for_undecided_ones() -> None:
    async with cluster_with() as cluster:
        user_id, other, b = cluster.user(0), cluster.user(0, 1), cluster["b"]
        b.peers.troubles.append(Trouble.LOST)
        undecided = asyncio.create_task(b.failed(place_bet(501, "b1", user_id=user_id)))
        await asyncio.sleep(0.1)
        await cluster.give([0], None)
        await cluster.refresh_owners()
        waiting = asyncio.create_task(b.failed(deposit(5, "o5", user_id=other)))
        await asyncio.sleep(0.1)
        began_s = now_s()
        closing = asyncio.create_task(b.forwarding.close())
        assert (await waiting).reason == "shutting_down"
        assert now_s() - began_s < 0.2
        assert (await undecided).reason == "outcome_unknown"
        await closing
        assert now_s() - began_s > CALL_S + SKEW_S - 0.5
        assert (await b.failed(deposit(6, "o6", user_id=other))).reason == "shutting_down"


# --- follow-ups ----------------------------------------------------------------------------------------------------


async def until(done: Any) -> None:
    async with asyncio.timeout(60):
        while not done():  # noqa: ASYNC110 - the log announces nothing
            await asyncio.sleep(0.01)


def open_follow_ups(cluster: ClusterInMemory) -> int:
    return sum(
        len(writer.state.open_seqs) for site in cluster.sites.values() for writer in site.node.writers.values()
    )


@pytest.mark.parametrize(
    "troubles",
    [
        [],
        [Trouble.UNREACHABLE] * 4,
        [Trouble.LOST] * 4,
        [Trouble.RESPONSE_LOST] * 4,
        [Trouble.LATE] * 4,
        [Trouble.SLOW, Trouble.RESPONSE_LOST, Trouble.UNREACHABLE, Trouble.LATE],
        [Trouble.HANGS],
    ],
)
@in_skipped_time
async def test_a_transfer_between_nodes_arrives_once_whichever_of_its_calls_fail(troubles: list[Trouble]) -> None:
    async with cluster_with() as cluster:
        mine, theirs = cluster.user(0), cluster.user(1)
        await cluster["b"].accepted(open_wallet(user_id=theirs))
        for name in ("a", "b"):
            cluster[name].peers.troubles.extend(troubles)
        await cluster["a"].accepted(transfer(200, to_user_id=theirs, user_id=mine))
        await until(lambda: "transfer_delivered" in cluster.types(mine) and not open_follow_ups(cluster))
        assert cluster.types(theirs) == ["wallet_opened", "transfer_received"]
        assert cluster.types(mine).count("transfer_delivered") == 1
        assert cluster.total("transit/") == 0
        assert cluster["a"].forwarding._delivery.waiting == 0


@in_skipped_time
async def test_many_transfers_go_in_one_call() -> None:
    async with cluster_with(user_cash=1_000) as cluster:
        mine, theirs = cluster.user(0), cluster.user(1)
        await cluster["b"].accepted(open_wallet(user_id=theirs))
        sent = [transfer(1, theirs, f"t{n}", user_id=mine) for n in range(300)]
        await cluster["a"].post_many(*sent)
        await until(lambda: not open_follow_ups(cluster))
        assert cluster.types(theirs).count("transfer_received") == 300
        assert len(cluster["a"].peers.delivered) < 10


@in_skipped_time
async def test_follow_ups_for_a_stopped_node_wait_in_the_state_and_all_arrive_once_it_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(queue_module, "QUEUE_MAX", 8)
    monkeypatch.setattr(queue_module, "PAGE", 4)
    monkeypatch.setattr(delivery_module, "CALL_FOLLOW_UPS", 4)
    async with cluster_with(partitions=3, nodes=3, user_cash=1_000) as cluster:
        mine, stopped, running = (cluster.user(partition) for partition in range(3))
        for node, user_id in (("b", stopped), ("c", running)):
            await cluster[node].accepted(open_wallet(user_id=user_id))
        await cluster.crash("b")
        to = [running if number % 3 == 0 else stopped for number in range(90)]
        for number, user_id in enumerate(to):
            await cluster["a"].accepted(transfer(1, user_id, f"t{number}", user_id=mine))
            assert cluster["a"].forwarding._delivery.waiting <= 2 * 8, "8 for each partition"
        await until(lambda: cluster.types(running).count("transfer_received") == 30)
        await until(lambda: open_follow_ups(cluster) == 60)
        await cluster.give([1], "c")
        await cluster.settled()
        await until(lambda: not open_follow_ups(cluster))
        assert cluster.types(stopped).count("transfer_received") == 60
        assert cluster.types(mine).count("transfer_delivered") == 90
        assert cluster["a"].forwarding._delivery.waiting == 0


@pytest.mark.parametrize("dies", ["a", "b"])
@pytest.mark.parametrize("after_ms", [0, 1, 2, 3, 5, 8, 20])
@in_skipped_time
async def test_a_transfer_survives_the_crash_of_either_end_at_any_moment(dies: str, after_ms: int) -> None:
    async with cluster_with(nodes=2) as cluster:
        mine, theirs = cluster.user(0), cluster.user(1)
        await cluster["b"].accepted(open_wallet(user_id=theirs))
        await cluster["a"].accepted(transfer(200, to_user_id=theirs, user_id=mine))
        await asyncio.sleep(after_ms / 1_000)
        lives = "b" if dies == "a" else "a"
        await cluster.crash(dies)
        await asyncio.sleep(0.1)
        await cluster.give([0, 1], lives)
        await cluster.settled()
        await until(lambda: "transfer_delivered" in cluster.types(mine) and not open_follow_ups(cluster))
        assert cluster.types(theirs) == ["wallet_opened", "transfer_received"]
        assert cluster.types(mine).count("transfer_delivered") == 1
        assert cluster.total("transit/") == 0


# --- the whole log -------------------------------------------------------------------------------------------------


@in_skipped_time
async def test_every_node_knows_the_end_of_every_partition() -> None:
    async with cluster_with() as cluster:
        b, seq = cluster["b"].log_view, cluster.appended.heads[0].seq
        assert await b.end_now(0) == seq
        b.end(0)
        await asyncio.sleep(0.3)
        assert b.end(0) == seq
        assert await b.time_us(0, seq) == cluster.events(cluster.user(0))[-1].time_us
        await cluster["a"].accepted(deposit(1, "o2", user_id=cluster.user(0)))
        assert b.end(0) == seq, "the last known end"
        assert await b.end_now(0) == seq + 1, "as it is now"
        assert await b.records(0, 1, 10) == cluster.appended.records[0]
        await asyncio.sleep(3)
        calls = len(cluster["b"].peers.calls)
        await asyncio.sleep(3)
        assert b._polling is None, "without readers the other nodes are not polled"
        assert len(cluster["b"].peers.calls) == calls


@in_skipped_time
async def test_while_an_owner_hangs_its_heads_and_records_come_from_the_log_within_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def hang(*_: Any) -> Any:
        await asyncio.Event().wait()

    async with cluster_with(partitions=3, nodes=3) as cluster:
        b = cluster["b"]
        for call in ("ends", "records"):
            monkeypatch.setattr(b.peers, call, hang)
        began_s = now_s()
        assert await b.log_view.heads() == cluster.appended.heads
        assert now_s() - began_s == pytest.approx(0.5, abs=0.1), "both other nodes are asked at once"
        assert await b.log_view.records(0, 1, 10) == cluster.appended.records[0]
        assert now_s() - began_s == pytest.approx(1.5, abs=0.1)


@in_skipped_time
async def test_without_an_owner_the_current_end_of_a_partition_is_unknown() -> None:
    async with cluster_with() as cluster:
        await cluster.give([0], None)
        await cluster.refresh_owners()
        end = await cluster["b"].log_view.end_now(0)
        assert isinstance(end, Failed)
        assert end.reason == "not_owner"
        assert await cluster["b"].log_view.records(0, 1, 10) == cluster.appended.records[0], (
            "the log itself has the records"
        )


@in_skipped_time
async def test_any_error_of_the_owners_port_leaves_no_request_open() -> None:
    async with cluster_with() as cluster:
        user_id, b = cluster.user(0), cluster["b"]
        await cluster.give([0], None)
        owners = b.node._owners
        assert owners is not None
        refresh = owners.refresh

        async def broken() -> None:
            raise AssertionError("Did we not perform bootstrap?")

        owners.refresh = broken  # type: ignore[method-assign]
        began_s = now_s()
        assert (await b.failed(deposit(1, "o1", user_id=user_id))).reason == "not_owner"
        assert now_s() - began_s < WAIT_S + 1
        owners.refresh = refresh  # type: ignore[method-assign]
        await cluster.give([0], "a")
        await b.accepted(deposit(1, "o2", user_id=user_id))


class _Sender:
    """``LocalWriters``, ``Owners`` and ``Peers`` of one sender. During each read of its state it sends one more
    follow-up, and the first read fails."""

    def __init__(self, sends: int) -> None:
        self.sends, self.reads, self.sent = sends, 0, 0
        self.open: dict[int, AnyFollowUp] = {}
        self.delivery = FollowUpDelivery(self, self, self, 1, "here")  # type: ignore[arg-type]  # what it needs of them

    def send(self) -> None:
        if self.sent < self.sends:
            self.sent += 1
            self.open[self.sent] = CountReferral(
                command_id=f"~x:{self.sent}",
                user_id="u",
                cause=f"0:{self.sent}",
                cause_time_us=0,
                member="m",
                level=1,
            )
            self.delivery.deliver(0, self.sent, self.open[self.sent], self.arrived(self.sent))

    def arrived(self, seq: int) -> Callable[[], None]:
        return partial(self.open.__delitem__, seq)

    async def open_follow_ups_after(
        self, _: int, seq: int, limit: int
    ) -> Sequence[tuple[int, AnyFollowUp, Callable[[], Any]]]:
        page = [(sent, self.open[sent], self.arrived(sent)) for sent in self.open if sent > seq][:limit]
        await asyncio.sleep(0)
        self.send()
        self.reads += 1
        if self.reads == 1:
            raise LedgerError("the disk is slow")
        return page

    def address_of(self, _: int) -> str:
        return "there"

    async def refresh(self) -> None:
        """The owner stays."""

    async def deliver(self, _: str, follow_ups: Sequence[AnyFollowUp], __: Sequence[Span | None]) -> list[bool]:
        return [True] * len(follow_ups)


@in_skipped_time
async def test_a_follow_up_that_is_sent_while_the_state_is_read_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_module, "QUEUE_MAX", 2)
    monkeypatch.setattr(queue_module, "PAGE", 3)
    monkeypatch.setattr(delivery_module, "CALL_FOLLOW_UPS", 3)
    origin = _Sender(sends=20)
    for _ in range(9):
        origin.send()
    await until(lambda: not origin.delivery._tasks)
    while origin.sent < origin.sends:
        origin.send()
    await until(lambda: not origin.delivery._tasks)
    assert origin.open == {}
    assert origin.delivery.waiting == 0
