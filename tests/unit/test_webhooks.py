"""Webhooks of a node in memory to a receiver on a real socket. Only the test moves the clock."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
import pytest_asyncio
from sqlalchemy import update
from standardwebhooks.webhooks import Webhook

from api.identity.database import IdentityDatabase
from api.identity.database_keys import WEBHOOK_SECRETS
from api.identity.ports import IdentityUnavailable
from api.identity.tables import METADATA
from api.webhooks.sender import CONNECTIONS, FIRST_RETRY_S, RETRY_S_MAX
from api.webhooks.store import DatabaseWebhookStore
from api.webhooks.stream import PAGE, USERS_MAX
from api.webhooks.webhooks import GIVE_UP_S
from unit.given import deposit, open_wallet
from unit.node_in_memory import World
from unit.webhooks_in_memory import Sending
from webhook_receiver import Got, Receiver

USERS = [f"u{n}" for n in range(12)]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Senders look and save more often, so that ``looked`` takes less time."""
    monkeypatch.setattr("api.webhooks.sender._LOOK_S", 0.005)
    monkeypatch.setattr("api.webhooks.sender._SAVE_S", 0.02)


@pytest_asyncio.fixture
async def world() -> AsyncIterator[World]:
    world = World(partitions=2)
    await world.start()
    yield world
    await world.stop()


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


async def play(world: World, rounds: int, users: list[str] = USERS) -> None:
    """Each user opens a wallet, and gets a deposit in each round."""
    await world.post_many(*(open_wallet(user) for user in users))
    for number in range(rounds):
        commands = [deposit(1, order_id=f"o{number}", command_id=f"d{number}", user_id=user) for user in users]
        await world.post_many(*commands)


def positions(world: World, *types: str) -> set[str]:
    """Of the events in the log."""
    return {
        f"{partition}:{seq}"
        for partition, records in enumerate(world.appended.records)
        for seq, record in enumerate(records, 1)
        if any(b'"type":"%b"' % name.encode() in record for name in types)
    }


def seq(got: Got) -> int:
    return int(got.position.partition(":")[2])


async def test_each_event_of_its_types_arrives_signed_and_byte_for_byte_as_in_the_log(
    world: World, receiver: Receiver, tmp_path: Path
) -> None:
    await play(world, 1, ["u1", "u2"])
    async with Sending(tmp_path, receiver, world) as sending:
        _, secret = await sending.add(types=("deposited",))
        _, other = await sending.add(f"{receiver.url}/new", from_start=False)
        await play(world, 2, ["u3"])
        await receiver.until(lambda: len(receiver.got) == 4 + 3)
        await sending.looked()
    first = [one for one in receiver.got if one.path == "/hooks"]
    later = [one for one in receiver.got if one.path == "/hooks/new"]
    assert {one.position for one in first} == positions(world, "deposited")
    assert [one.event["user_id"] for one in later] == ["u3"] * 3, "only what came after it was added"
    for one in receiver.got:
        partition, number = map(int, one.position.split(":"))
        assert one.body == world.appended.records[partition][number - 1]
        assert one.headers["content-type"] == "application/json"
        assert [one.is_signed_by(secret), one.is_signed_by(other)] == [one in first, one in later]


async def test_the_reference_verifier_accepts_a_request_and_refuses_a_changed_one(
    world: World, receiver: Receiver, tmp_path: Path
) -> None:
    async with Sending(tmp_path, receiver, world) as sending:
        world.clock.now_us = time.time_ns() // 1_000  # it refuses times that are not its own
        _, secret = await sending.add()
        await play(world, 0, ["u1"])
        await receiver.until(lambda: len(receiver.got) == 1)
    (one,) = receiver.got
    assert Webhook(secret).verify(one.body, one.headers)["type"] == "wallet_opened"
    with pytest.raises(Exception, match="No matching signature"):
        Webhook(secret).verify(one.body.replace(b"u1", b"u2"), one.headers)
    with pytest.raises(Exception, match="No matching signature"):
        Webhook(secret).verify(one.body, one.headers | {"webhook-id": "0:2"})


async def test_a_users_events_arrive_in_order_whatever_fails(
    world: World, receiver: Receiver, tmp_path: Path
) -> None:
    random = Random(7)
    receiver.decide = lambda _: 200 if random.random() < 0.6 else random.choice((500, 429, 302, 404, -1))
    await play(world, 4)
    async with Sending(tmp_path, receiver, world, jitter=random.random) as sending:
        await sending.add()
        await sending.until(lambda: len(receiver.taken) == 60)
        assert (sending.webhooks.counts.delivered, sending.webhooks.counts.dead) == (60, 0)
        assert sending.webhooks.counts.failed == len(receiver.got) - 60
    assert {one.position for one in receiver.taken} == positions(world, "wallet_opened", "deposited")
    by_user: dict[str, list[Got]] = defaultdict(list)
    for one in receiver.got:
        by_user[one.event["user_id"]].append(one)
    for requests in by_user.values():
        for one, following in pairwise(requests):
            assert (seq(following) > seq(one)) is (one.status == 200), "a later event waits for the one before"
    assert Counter(one.path for one in receiver.got) == {"/hooks": len(receiver.got)}, "no redirect is followed"
    assert receiver.busy_max <= CONNECTIONS


async def test_pauses_double_up_to_half_an_hour_until_the_event_is_a_dead_letter_and_is_replayed(
    world: World, receiver: Receiver, tmp_path: Path
) -> None:
    receiver.decide = lambda one: 500 if one.event["type"] == "wallet_opened" else 200
    await play(world, 1, ["u1"])
    opened, deposited = sorted(positions(world, "wallet_opened", "deposited"))
    began_us = world.clock.now_us
    async with Sending(tmp_path, receiver, world) as sending:
        endpoint, _ = await sending.add(give_up_s=7_200)
        pauses = [min(FIRST_RETRY_S * 2**n, RETRY_S_MAX) for n in range(12)]
        await sending.attempted(1)
        for number, pause_s in enumerate(pauses, 2):
            pause_us = min(pause_s * 1_000_000, began_us + 7_200_000_000 - world.clock.now_us)
            world.clock.now_us += pause_us - 1
            await sending.looked()
            assert len(receiver.got) == number - 1, "not before its time"
            world.clock.now_us += 1
            await sending.attempted(number)
            assert len(receiver.got) >= number
        assert world.clock.now_us == began_us + 7_200_000_000
        await receiver.until(lambda: len(receiver.taken) == 1)
        assert [one.position for one in receiver.taken] == [deposited], "its next event is sent after it was given up"
        await sending.attempted(14)
    async with Sending(tmp_path, receiver, world) as sending:  # everything is in the store
        webhook_id = endpoint.endpoint_id
        (dead,) = await sending.webhooks.dead_letters(webhook_id, None, 10) or []
        assert (f"{dead.partition}:{dead.seq}", dead.error, dead.user_id) == (opened, "status 500", "u1")
        assert (dead.first_at_us, dead.next_at_us) == (began_us, began_us + 7_200_000_000)
        attempts = len(receiver.got) - 1
        assert dead.attempts == attempts == 13
        receiver.decide = lambda _: 200
        assert await sending.webhooks.revive(webhook_id, None) == 1
        await sending.attempted(1)
        assert receiver.got[-1].position == opened, "under the same id"
    async with Sending(tmp_path, receiver, world) as sending:
        assert await sending.webhooks.dead_letters(webhook_id, None, 10) == []
        await sending.looked()
    assert len(receiver.got) == attempts + 2


async def test_a_user_whose_events_are_refused_and_a_receiver_that_hangs_delay_no_other(
    world: World, receiver: Receiver, tmp_path: Path
) -> None:
    receiver.decide = lambda one: (
        0 if one.path == "/hooks/hangs" else 500 if one.event["user_id"] in ("u1", "u2") else 200
    )
    async with Sending(tmp_path, receiver, world) as sending:
        await sending.add(f"{receiver.url}/hangs")
        await sending.add()
        await play(world, 40)
        await receiver.until(lambda: len(receiver.taken) == 10 * 41)
        assert {one.event["user_id"] for one in receiver.taken} == {*USERS} - {"u1", "u2"}
        listed = {one.endpoint.url: one for one in await sending.webhooks.listed()}
        hanging = [one for one in receiver.got if one.path == "/hooks/hangs"]
        assert len(hanging) <= CONNECTIONS
        assert listed[f"{receiver.url}/hangs"].totals.cursors == [0, 0], "nothing of it is lost"


async def test_many_events_behind_a_refused_one_delay_no_other_user_and_are_given_up_with_it(
    world: World, receiver: Receiver, tmp_path: Path
) -> None:
    receiver.decide = lambda one: 500 if one.event["user_id"] == "refused" else 200
    many = 2 * PAGE
    await play(world, many, ["refused"])
    await play(world, 0)
    async with Sending(tmp_path, receiver, world) as sending:
        endpoint, _ = await sending.add(give_up_s=600)
        await receiver.until(lambda: len(receiver.taken) == len(USERS))
        await sending.until(lambda: sending.webhooks.counts.dead > 0)
        tried = len(receiver.got)
        while sending.webhooks.counts.dead <= many:
            await sending.looked()  # no time passes any more
        assert len(receiver.got) <= tried + many + 1, "one attempt each"
        dead = await sending.webhooks.dead_letters(endpoint.endpoint_id, None, 1_000) or []
        assert {one.attempts for one in dead[1:]} == {1}
        receiver.decide = lambda _: 200
        await world.post_many(deposit(1, order_id="last", command_id="last", user_id="refused"))
        await receiver.until(lambda: len(receiver.taken) == len(USERS) + 1)


async def test_while_a_receiver_is_away_little_is_tried_and_everything_comes_at_once_when_it_is_back(
    world: World, receiver: Receiver, tmp_path: Path
) -> None:
    users = [f"u{n}" for n in range(600)]
    receiver.decide = lambda _: 503
    await play(world, 0, users)
    async with Sending(tmp_path, receiver, world) as sending:
        await sending.add()
        await receiver.until(lambda: len(receiver.got) >= 2 * USERS_MAX)
        tried = -1
        while len(receiver.got) > tried:  # no time passes, so each event is tried once
            tried = len(receiver.got)
            await sending.attempted(tried)
            await sending.looked()
        assert 2 * USERS_MAX <= tried <= 2 * (USERS_MAX + PAGE + PAGE // 2), "the others stay in the log"
        async with asyncio.timeout(60):
            while (await sending.webhooks.listed())[0].totals.waiting < tried:
                await sending.looked()  # they are saved
        ((_, totals),) = await sending.webhooks.listed()
        assert sum(totals.cursors) == totals.waiting == tried
        receiver.decide = lambda _: 200
        sending.pass_s(RETRY_S_MAX)
        await receiver.until(lambda: len(receiver.taken) == 600)
        assert {one.position for one in receiver.taken} == positions(world, "wallet_opened", "deposited")


async def test_what_waits_is_tried_at_once_when_the_receiver_is_back(
    world: World, receiver: Receiver, tmp_path: Path
) -> None:
    receiver.decide = lambda _: 503
    await play(world, 0)
    async with Sending(tmp_path, receiver, world, jitter=lambda: 0.0) as sending:
        await sending.add()
        await sending.attempted(len(USERS))
        for failures in range(2, 6):
            sending.pass_s(FIRST_RETRY_S * 2 ** (failures - 2))
            await sending.attempted(failures * len(USERS))
        receiver.decide = lambda _: 200
        await world.post_many(open_wallet("new"))  # the first success; the others would wait for 80 s more
        await receiver.until(lambda: len(receiver.taken) == len(USERS) + 1)


async def test_a_partition_that_moves_continues_from_the_stored_cursor(
    world: World, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.webhooks.sender._SAVE_S", 1e9)  # nothing is saved but at the loss of a partition
    await play(world, 3)
    async with Sending(tmp_path, receiver, world) as one:
        one.owned = {0}
        await one.add()
        expected = positions(world, "wallet_opened", "deposited")
        of_0 = {place for place in expected if place.startswith("0:")}
        await one.attempted(len(of_0))
        one.owned = set()
        await one.looked()
        async with Sending(tmp_path, receiver, world) as other:
            await receiver.until(lambda: len(receiver.taken) == len(expected))
            await other.looked()
            repeated = Counter(got.position for got in receiver.got)
            assert {place for place, many in repeated.items() if many > 1} == set(), "a move in peace repeats nothing"
            # Both own it: the one that claimed it last saves, and the other one claims it again.
            one.owned = {0, 1}
            await play(world, 2, ["new"])
            await receiver.until(lambda: len(receiver.taken) == len(expected) + 3)
    for user in [*USERS, "new"]:
        seqs = [seq(got) for got in receiver.taken if got.event["user_id"] == user]
        assert seqs == sorted(seqs)


async def test_a_partition_that_is_lost_after_another_node_claimed_it_disturbs_no_request(
    world: World, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.webhooks.sender._SAVE_S", 1e9)  # it learns of the claim when it loses the partition
    receiver.decide = lambda one: 0 if one.position.startswith("0:") else 200
    await play(world, 0)
    of_1 = {place for place in positions(world, "wallet_opened") if place.startswith("1:")}
    async with Sending(tmp_path, receiver, world) as sending:
        endpoint, _ = await sending.add(types=("wallet_opened",))
        await receiver.until(lambda: len(receiver.taken) == len(of_1))
        await sending.looked()
        waiting = Counter(one.position for one in receiver.got if one.status == 0)
        assert await sending.store.claim(endpoint.endpoint_id, 1, 10)
        sending.owned = {0}
        await sending.looked()
        assert Counter(one.position for one in receiver.got if one.status == 0) == waiting, "none is sent again"


@pytest.mark.parametrize("give_up_s", [GIVE_UP_S, 0], ids=["it waits", "it is dead"])
async def test_what_failed_while_an_older_event_was_being_sent_is_not_sent_twice_by_the_next_sender(
    world: World, receiver: Receiver, tmp_path: Path, give_up_s: int
) -> None:
    await play(world, 0)
    of_0 = sorted(place for place in positions(world, "wallet_opened") if place.startswith("0:"))
    oldest, *later = sorted(of_0, key=lambda place: int(place[2:]))
    receiver.decide = lambda one: 0 if one.position == oldest else 500
    async with Sending(tmp_path, receiver, world) as sending:
        sending.owned = {0}
        endpoint, _ = await sending.add(types=("wallet_opened",), give_up_s=give_up_s)
        async with asyncio.timeout(60):
            while sum((await sending.webhooks.listed())[0].totals[:2]) < len(later):
                await sending.looked()  # they are saved
        assert (await sending.webhooks.listed())[0].totals.cursors[0] < int(oldest[2:])
        receiver.decide = lambda _: 200
        assert await sending.webhooks.rotate(endpoint.endpoint_id, grace_s=0)
        await sending.applied()
        await receiver.until(lambda: oldest in {one.position for one in receiver.taken})
        sending.pass_s(FIRST_RETRY_S)
        expected = [500, 200] if give_up_s else [500]
        await sending.looked()
        await receiver.until(lambda: len(receiver.got) >= 2 + len(later) * len(expected))
        await sending.looked()
        for place in later:
            assert [one.status for one in receiver.got if one.position == place] == expected
        ((_, totals),) = await sending.webhooks.listed()
        assert totals.dead == (0 if give_up_s else len(later))


async def test_an_endpoint_whose_secret_is_damaged_stops_no_other_and_counts_as_late(
    world: World, receiver: Receiver, tmp_path: Path
) -> None:
    await play(world, 0, ["u1"])
    async with Sending(tmp_path, receiver, world) as sending:
        damaged, _ = await sending.add(f"{receiver.url}/damaged")
        sending.pass_s(1)  # so that it is the first of the two
        await sending.add()
        await sending.attempted(2)
        assert sending.webhooks.lag_s == 0
    database = IdentityDatabase(tmp_path / "identity.sqlite3", METADATA)
    async with database.transaction() as connection:
        is_damaged = WEBHOOK_SECRETS.c.endpoint_id == damaged.endpoint_id
        await connection.execute(update(WEBHOOK_SECRETS).where(is_damaged).values(wrapped_key="AAAA"))
    await database.close()
    async with Sending(tmp_path, receiver, world) as sending:
        await play(world, 0, ["u2"])
        await receiver.until(lambda: len(receiver.got) == 3)
        assert receiver.got[-1].path == "/hooks"
        await sending.looked()
        sending.pass_s(2_000)
        assert sending.webhooks.lag_s == 2_000
        assert [one.url for one in sending.webhooks.running] == [receiver.url]


async def test_it_is_late_while_partitions_cannot_be_claimed_or_endpoints_cannot_be_read(
    world: World, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object) -> None:
        raise IdentityUnavailable("it does not respond")

    async with Sending(tmp_path, receiver, world) as sending:
        await sending.add()
        await sending.applied()
    with monkeypatch.context() as broken:
        broken.setattr(DatabaseWebhookStore, "claim", fails)
        async with Sending(tmp_path, receiver, world) as sending:
            await sending.looked()
            sending.pass_s(2_000)
            assert sending.webhooks.lag_s == 2_000
            broken.undo()
            async with asyncio.timeout(60):
                while sending.webhooks.lag_s:
                    await sending.looked()
    monkeypatch.setattr(DatabaseWebhookStore, "endpoints", fails)
    async with Sending(tmp_path, receiver, world) as sending:
        async with asyncio.timeout(60):
            while not sending.webhooks.lag_s:
                sending.pass_s(1)
                await asyncio.sleep(0.005)


async def test_a_stop_does_not_wait_for_a_store_that_does_not_respond(
    world: World, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hangs(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("api.webhooks.webhooks._STOP_WITHIN_S", 0.2)
    receiver.decide = lambda one: 0 if one.event["user_id"] == "u1" else 200
    async with Sending(tmp_path, receiver, world) as sending:
        await sending.add()
        await play(world, 0)
        await receiver.until(lambda: len(receiver.got) == len(USERS))
        monkeypatch.setattr(DatabaseWebhookStore, "save", hangs)
        await world.post_many(open_wallet("new"))
    assert [task for task in asyncio.all_tasks() if task.get_name().startswith("webhook")] == []


async def test_a_replay_from_a_position_repeats_everything_from_there_on(
    world: World, receiver: Receiver, tmp_path: Path
) -> None:
    await play(world, 5, ["u1", "u2", "u3"])
    async with Sending(tmp_path, receiver, world) as sending:
        endpoint, _ = await sending.add()
        await receiver.until(lambda: len(receiver.got) == 18)
        await sending.looked()
        before = [len(records) for records in world.appended.records]
        partition = before.index(max(before))
        async with asyncio.timeout(60):  # until all is saved: what is not would come again as well
            while (await sending.webhooks.listed())[0].totals.cursors != before:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert await sending.webhooks.rewind(endpoint.endpoint_id, {partition: 4})
        again = before[partition] - 3
        await receiver.until(lambda: len(receiver.got) == 18 + again)
        await sending.looked()
        assert {one.position for one in receiver.got[18:]} == {f"{partition}:{4 + n}" for n in range(again)}
        assert not await sending.webhooks.rewind("wh_0", {0: 1})


async def test_after_a_rotation_both_secrets_sign_until_the_grace_is_over(
    world: World, receiver: Receiver, tmp_path: Path
) -> None:
    async with Sending(tmp_path, receiver, world) as sending:
        endpoint, old = await sending.add()
        new = await sending.webhooks.rotate(endpoint.endpoint_id, grace_s=60)
        assert new is not None
        await sending.applied()
        await play(world, 0, ["u1"])
        await receiver.until(lambda: len(receiver.got) == 1)
        sending.pass_s(60)
        await play(world, 0, ["u2"])
        await receiver.until(lambda: len(receiver.got) == 2)
        both, one = receiver.got
        assert [both.is_signed_by(old), both.is_signed_by(new)] == [True, True]
        assert [one.is_signed_by(old), one.is_signed_by(new)] == [False, True]


async def test_two_rotations_at_the_same_time_follow_each_other(
    world: World, receiver: Receiver, tmp_path: Path
) -> None:
    async with Sending(tmp_path, receiver, world) as sending:
        endpoint, _ = await sending.add()
        rotations = (sending.webhooks.rotate(endpoint.endpoint_id, grace_s=60) for _ in range(2))
        new = [secret for secret in await asyncio.gather(*rotations) if secret is not None]
        await sending.applied()
        await play(world, 0, ["u1"])
        await receiver.until(lambda: len(receiver.got) == 1)
        assert [receiver.got[0].is_signed_by(secret) for secret in new] == [True, True]
        assert await sending.webhooks.rotate("wh_0", grace_s=60) is None


async def test_a_partition_with_many_events_does_not_delay_another(
    world: World, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("sender.PAGE", "sender._FRESH_MAX", "stream.PAGE"):
        monkeypatch.setattr(f"api.webhooks.{name}", 1)  # one event at a time
    await play(world, 1)
    async with Sending(tmp_path, receiver, world) as sending:
        await sending.add()
        await receiver.until(lambda: len(receiver.taken) == 2 * len(USERS))
    partitions = [one.position[0] for one in receiver.taken]
    fewer = min(partitions.count("0"), partitions.count("1"))
    assert fewer > 2
    assert partitions[: 2 * fewer] == partitions[:2] * fewer, "one of each in turn"
    assert partitions[0] != partitions[1]


async def test_a_disabled_endpoint_gets_nothing_and_later_what_came_meanwhile(
    world: World, receiver: Receiver, tmp_path: Path
) -> None:
    async with Sending(tmp_path, receiver, world) as sending:
        endpoint, _ = await sending.add()
        endpoint_id, url = endpoint.endpoint_id, endpoint.url
        assert await sending.webhooks.change(endpoint_id, url, None, 60, enabled=False)
        await sending.applied()
        looks = sending.looks
        await play(world, 1, ["u1"])
        assert (sending.looks, receiver.got) == (looks, []), "without an endpoint nothing looks at the log"
        assert await sending.webhooks.change(endpoint_id, f"{url}/2", ("deposited",), 60, enabled=True)
        await receiver.until(lambda: len(receiver.got) == 1)
        assert (receiver.got[0].path, receiver.got[0].event["type"]) == ("/hooks/2", "deposited")
        assert await sending.webhooks.delete(endpoint_id)
        assert await sending.webhooks.listed() == []
