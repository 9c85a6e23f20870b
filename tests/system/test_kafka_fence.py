"""The chain is the fence, on a real broker: whatever writes, and whatever is killed or paused, there is one chain.

Each test ends with the judge, who reads the topic with a client of its own.
"""

import asyncio
import random
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from conformance.event_log import append, run_of, whole
from deploy.local.servers import Kafka
from kafka_judge import Logs, in_a_process
from ledger.core.record import EMPTY, Head
from ledger.errors import LedgerError, LogUnavailable, OutcomeUnknown, StaleHead
from ledger.kafka.client import NO_OFFSET
from ledger.kafka.log import KafkaEventLog

pytestmark = pytest.mark.system


@pytest.fixture
async def own_logs(own_kafka: Kafka) -> AsyncIterator[Logs]:
    """On a broker that only this test has."""
    logs = Logs(own_kafka)
    yield logs
    await logs.close()


class Told:
    """What the callers of ``append`` were told, by command id."""

    def __init__(self) -> None:
        self.landed: list[str] = []
        self.refused: list[str] = []
        self.unknown: list[str] = []


async def keep_appending(
    log: KafkaEventLog, partition: int, name: str, told: Told, until: Callable[[], bool]
) -> None:
    """One append after the other, each of 1 to 3 records; after a failure from the head that the log then says."""
    chance = random.Random(name)
    head = EMPTY
    number = 0
    while not until():
        number += 1
        commands = [f"{name}-{number}-{part}" for part in range(chance.randint(1, 3))]
        try:
            head = (await append(log, partition, head, *commands)).head
        except OutcomeUnknown:
            told.unknown += commands
        except (StaleHead, LogUnavailable):
            told.refused += commands
        else:
            told.landed += commands
            continue
        head = await persistently(lambda: log.head(partition)) or head


async def persistently(ask: Callable[[], Awaitable[Head]]) -> Head | None:
    for _ in range(100):
        try:
            return await ask()
        except LogUnavailable:
            await asyncio.sleep(0.1)
    return None


async def assert_one_chain(logs: Logs, partition: int, told: Told, *readers: KafkaEventLog) -> int:
    """Every reader sees the judge's chain; answers how many forks there are."""
    chain = await logs.judged(partition)
    for reader in readers:
        assert await whole(reader, partition) == chain.events
        assert reader.forks(partition) == chain.forks
    assert len(set(chain.commands)) == len(chain.commands), "a command is twice in the chain"
    assert set(told.landed) <= set(chain.commands), "an append returned, and is no event"
    assert not set(told.refused) & set(chain.commands), "what was said to be not written is an event"
    assert set(chain.commands) <= set(told.landed) | set(told.unknown)
    return chain.forks


async def test_two_writers_on_one_partition_fork_and_every_reader_agrees_on_one_chain(logs: Logs) -> None:
    ours, theirs = await logs.open(), await logs.open()
    told = Told()
    end = time.monotonic() + 3
    await asyncio.gather(
        keep_appending(ours, 0, "ours", told, lambda: time.monotonic() > end),
        keep_appending(theirs, 0, "theirs", told, lambda: time.monotonic() > end),
    )
    late = await logs.open()
    forks = await assert_one_chain(logs, 0, told, ours, theirs, late)
    assert forks > 0, "the two never met"
    assert not told.unknown
    in_pages = await logs.open()
    paged: list[bytes] = []
    while page := await in_pages.read(0, len(paged) + 1, 7):
        paged += page
    assert paged == await whole(late, 0)


async def test_in_a_fork_the_chain_decides_and_not_the_order(logs: Logs) -> None:
    """``6, 6', 7'(prev 6'), 7``: the events are 6 and 7."""
    ours, theirs = await logs.open(), await logs.open()
    base = await append(ours, 0, EMPTY, "1")
    assert await theirs.head(0) == base.head
    six = await append(ours, 0, base.head, "6")
    other_six = run_of(0, base.head, ["6'"])
    for run in (other_six, run_of(0, other_six.head, ["7'"])):
        await theirs._client.append(0, run.records)  # as one who does not look at the answer
    with pytest.raises(StaleHead):  # where 7 was expected stands 6'
        await append(theirs, 0, base.head, "x")
    seven = await append(ours, 0, six.head, "7")
    for log in (ours, theirs):
        assert await whole(log, 0) == base.stored + six.stored + seven.stored
        assert log.forks(0) == 3


async def test_a_batch_that_landed_behind_forks_alone_is_an_event(logs: Logs) -> None:
    """It is not where it was expected, but the chain says that it counts: so its writer must hear that it landed."""
    ours, theirs = await logs.open(), await logs.open()
    base = await append(ours, 0, EMPTY, "a")
    with pytest.raises(StaleHead):
        await append(theirs, 0, EMPTY, "b")  # it looks first, so nothing lands
    await theirs._client.append(0, run_of(0, EMPTY, ["b"]).records)
    following = await append(ours, 0, base.head, "c")
    assert await whole(theirs, 0) == base.stored + following.stored
    assert (await logs.judged(0)).forks == 1


async def test_a_response_without_an_offset_is_settled_by_the_chain(logs: Logs) -> None:
    """What a broker answers to a batch that it had already, and has forgotten where: only reading can tell."""
    log = await logs.open()
    base = await append(log, 0, EMPTY, "a")
    ours, fork = run_of(0, base.head, ["b", "c"]), run_of(0, base.head, ["d"])
    await log._client.append(0, ours.records)
    await log._client.append(0, fork.records)
    await log._settle(0, ours.records, NO_OFFSET)
    with pytest.raises(StaleHead):
        await log._settle(0, fork.records, NO_OFFSET)
    assert await log.head(0) == ours.head


async def test_only_the_end_of_the_topic_confirms(logs: Logs) -> None:
    ours, theirs = await logs.open(), await logs.open()
    base = await append(ours, 0, EMPTY, "a")
    await ours.confirm(0, base.head)
    news = await append(theirs, 0, base.head, "b")
    with pytest.raises(StaleHead):  # it did not know of the news
        await ours.confirm(0, base.head)
    await ours.confirm(0, news.head)
    await theirs._client.append(0, run_of(0, EMPTY, ["fork"]).records)
    await ours.confirm(0, news.head)  # a fork does not move the head


async def test_without_a_broker_nothing_is_confirmed_read_or_written(own_kafka: Kafka, own_logs: Logs) -> None:
    log = await own_logs.open(timeout_s=3.0)
    base = await append(log, 0, EMPTY, "a")
    own_kafka.pause()
    try:
        with pytest.raises(LogUnavailable):
            await log.confirm(0, base.head)
        with pytest.raises(LogUnavailable):
            await log.head(0)
        with pytest.raises(OutcomeUnknown):
            await append(log, 0, base.head, "b")
    finally:
        own_kafka.resume()
    told = Told()
    told.landed, told.unknown = ["a"], ["b"]
    head = await persistently(lambda: log.head(0))
    assert head is not None
    try:
        await append(log, 0, head, "c")
        told.landed.append("c")
    except StaleHead:  # the previous batch landed first: OutcomeUnknown allows for that
        await append(log, 0, await log.head(0), "c")
        told.landed.append("c")
    await asyncio.sleep(1)
    await assert_one_chain(own_logs, 0, told, log)


async def test_a_broker_killed_during_appends_loses_and_doubles_nothing(own_kafka: Kafka, own_logs: Logs) -> None:
    partitions = 4
    log = await own_logs.open(partitions=partitions, timeout_s=2.0)
    tolds = [Told() for _ in range(partitions)]
    over = False
    writers = [
        asyncio.create_task(keep_appending(log, partition, f"p{partition}", tolds[partition], lambda: over))
        for partition in range(partitions)
    ]
    chance = random.Random(5)
    for _ in range(3):
        await asyncio.sleep(chance.uniform(0.3, 0.8))
        own_kafka.kill()
        await asyncio.sleep(chance.uniform(0.0, 2.5))  # within an append's time, or not
        own_kafka.start()
    await asyncio.sleep(1)
    over = True
    await asyncio.gather(*writers)
    late = await own_logs.open(partitions=partitions)
    for partition, told in enumerate(tolds):
        assert told.landed
        await assert_one_chain(own_logs, partition, told, log, late)
    assert any(told.unknown for told in tolds), "no append was under way when the broker was killed"


_LATE_WRITER = """
import asyncio, sys
from conformance.event_log import append
from ledger.kafka.log import open_log
from ledger.kafka.address import parse_address
from ledger.errors import LedgerError

async def main():
    url, topic = sys.argv[1:]
    log = await open_log(parse_address(url), 2, topic=topic)
    head = await log.head(0)
    number = 0
    while True:
        number += 1
        sys.stdout.write(f"tries late-{number}\\n"); sys.stdout.flush()
        try:
            head = (await append(log, 0, head, f"late-{number}")).head
            word = "landed"
        except LedgerError as error:
            word = type(error).__name__
        sys.stdout.write(f"{word} late-{number}\\n"); sys.stdout.flush()
        if word != "landed":
            break

asyncio.run(main())
"""


def late_writer(kafka: Kafka, topic: str) -> subprocess.Popen[str]:
    return in_a_process(_LATE_WRITER, kafka, topic)


@pytest.mark.parametrize("seed", range(6))
async def test_a_paused_writer_that_wakes_up_late_cannot_land(kafka: Kafka, logs: Logs, seed: int) -> None:
    ours = await logs.open()
    told = Told()
    with late_writer(kafka, logs.topic) as late:
        assert late.stdout is not None
        late.stdout.readline()
        await asyncio.sleep(random.Random(seed).uniform(0.0, 0.1))
        late.send_signal(signal.SIGSTOP)
        await asyncio.sleep(0.05)  # what had left before the pause has landed
        head = await ours.head(0)
        taken_over = head
        for number in range(5):
            head = (await append(ours, 0, head, f"ours-{number}")).head
            told.landed.append(f"ours-{number}")
        late.send_signal(signal.SIGCONT)
        said = [line.split() for line in (await asyncio.to_thread(late.stdout.read)).splitlines()]
    assert said[-1][0] in {"StaleHead", "OutcomeUnknown"}
    told.landed += [command for word, command in said if word == "landed"]
    told.refused += [command for word, command in said if word == "StaleHead"]
    told.landed += [
        f"late-{number}" for number in range(1, taken_over.seq + 1) if f"late-{number}" not in told.landed
    ]
    await assert_one_chain(logs, 0, told, ours)
    chain = await logs.judged(0)
    assert [name for name in chain.commands[taken_over.seq :] if name.startswith("late")] == []


async def test_after_an_unknown_outcome_there_is_a_new_producer_and_the_old_one_ends(
    own_kafka: Kafka, own_logs: Logs
) -> None:
    log = await own_logs.open(timeout_s=3.0)
    base = await append(log, 0, EMPTY, "a")
    before = log._client._producer
    assert before is not None
    own_kafka.pause()
    try:
        with pytest.raises(OutcomeUnknown):
            await append(log, 0, base.head, "b")
    finally:
        own_kafka.resume()
    await persistently(lambda: log.head(0))
    await append(log, 1, EMPTY, "c", user_id="u2")
    assert log._client._producer not in {None, before}
    for _ in range(100):
        if not log._client._abandoning:
            break
        await asyncio.sleep(0.1)
    assert not log._client._abandoning, "the old producer still runs"


async def test_a_batch_beyond_the_topics_limit_is_refused_and_the_log_goes_on(logs: Logs) -> None:
    log = await logs.open()
    base = await append(log, 0, EMPTY, "a")
    many = run_of(0, base.head, [f"c{number}" for number in range(30_000)])
    with pytest.raises(LogUnavailable, match="bytes of one batch"):
        await log.append(0, base.head, many.records)
    with pytest.raises(LedgerError):
        await append(log, 0, EMPTY, "b")
    following = await append(log, 0, base.head, "b")
    assert await whole(log, 0) == base.stored + following.stored
