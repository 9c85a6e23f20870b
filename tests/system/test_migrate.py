"""`stakelog migrate` on a real broker: moves a log unchanged, continues after kills, refuses wrong targets."""

import asyncio
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient

from api.composition.clock import system_clock
from api.composition.keys import make_keys
from api.identity.master_key import make_master_key
from databases import EmptyDatabases
from deploy.local.servers import Kafka
from kafka_judge import Judged, administered, judged
from ledger.core.record import EMPTY
from ledger.files import MASTER_KEY
from ledger.kafka.address import parse_address
from ledger.kafka.declarations import DECLARATIONS
from ledger.kafka.log import TOPIC, open_log
from ledger.kafka.members import NODES_GROUP
from ledger.kafka.snapshots import SNAPSHOTS
from ledger.ports import NewRecord
from ledger.sqlite.folder import EVENTS, MIGRATED, FolderLock
from sqlite_log import damage, records_by_partition
from system import test_games as games
from system.cluster import NO_READ_MODEL
from system.service import Service
from system.test_audit_program import audit, post, some_commands
from unit.folders import write_log
from unit.identity import key_store

pytestmark = pytest.mark.system

PARTITIONS = 4
USERS = 2_000


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that a real service wrote, and left in order."""
    data = tmp_path_factory.mktemp("played") / "data"
    with Service(data, PARTITIONS=str(PARTITIONS), ASSETS="INR:2,USDT:6") as service:
        play(service, 0)
    return data


def play(service: Service, first: int) -> None:
    """``USERS`` wallets, each opened and paid into."""
    for user in range(first, first + USERS, 500):
        post(service, some_commands(user, 500))


@pytest.fixture
def data(played: Path, tmp_path: Path) -> Path:
    """A copy of it for one test."""
    return Path(shutil.copytree(played, tmp_path / "data"))


@pytest.fixture
async def cluster(kafka: Kafka) -> AsyncIterator[Kafka]:
    """The broker without the topics of a log, before and after: the program knows one name of each only."""
    await _without_topics(kafka)
    yield kafka
    await _without_topics(kafka)


async def _without_topics(kafka: Kafka) -> None:
    async with administered(kafka) as admin:
        if found := await _topics_of_a_log(admin):
            await admin.delete_topics(found)
        async with asyncio.timeout(60):
            while await _topics_of_a_log(admin):  # noqa: ASYNC110 - the broker sends no event
                await asyncio.sleep(0.05)


async def _topics_of_a_log(admin: AIOKafkaAdminClient) -> list[str]:
    return [topic for topic in await admin.list_topics() if topic in (TOPIC, DECLARATIONS, SNAPSHOTS)]


def address(kafka: Kafka) -> str:
    return f"{kafka.url}?replication_factor=1"


def command(data: Path, kafka: Kafka, program: Sequence[str] = ("-m", "api")) -> list[str]:
    return [sys.executable, *program, "migrate", "--data", str(data), "--to", address(kafka)]


def environment(settings: dict[str, str]) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("STAKELOG_")}
    return ours | settings


async def migrate(data: Path, kafka: Kafka, **settings: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        subprocess.run,
        command(data, kafka),
        env=environment(settings),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def start(
    data: Path, kafka: Kafka, settings: dict[str, str], program: Sequence[str] = ("-m", "api")
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(data, kafka, program), env=settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def stored(data: Path) -> list[list[bytes]]:
    """The folder's records, read by SQLite alone."""
    return records_by_partition(data / EVENTS, PARTITIONS)


async def in_topic(kafka: Kafka) -> list[Judged]:
    return [await judged(kafka, TOPIC, partition) for partition in range(PARTITIONS)]


def heads_said(text: str) -> list[str]:
    return [line.split()[-1] for line in text.splitlines() if line.startswith("partition ")]


def refused(done: subprocess.CompletedProcess[str], status: int, *says: str) -> None:
    assert done.returncode == status, done
    assert "Traceback" not in done.stderr
    for text in says:
        assert text in done.stdout + done.stderr, done


# --- moved ---------------------------------------------------------------------------------------------------------


async def test_the_topic_holds_the_folders_records_byte_for_byte_and_the_folder_is_marked(
    data: Path, cluster: Kafka, tmp_path: Path
) -> None:
    done = await migrate(data, cluster)
    assert done.returncode == 0, done
    before, after = stored(data), await in_topic(cluster)
    assert [one.values for one in after] == before
    assert [one.forks for one in after] == [0] * PARTITIONS
    assert heads_said(done.stdout) == [hashlib.sha256(records[-1]).hexdigest() for records in before]
    back = await asyncio.to_thread(write_log, tmp_path / "back", [one.events for one in after])
    assert audit("--data", str(back)).returncode == 0

    served = Service(data, PARTITIONS=str(PARTITIONS))
    served.launch()
    assert served.process is not None
    try:
        assert await asyncio.to_thread(served.process.wait, 60) == 2
    finally:
        served.kill()
    assert cluster.address in served.log_text()
    assert "Traceback" not in served.log_text()


async def test_a_folder_that_was_moved_already_says_so_and_one_that_is_taken_back_serves_again(
    data: Path, cluster: Kafka
) -> None:
    assert (await migrate(data, cluster)).returncode == 0
    again = await migrate(data, cluster)
    assert again.returncode == 0
    assert "already" in again.stdout
    (data / MIGRATED).unlink()
    with Service(data, PARTITIONS=str(PARTITIONS), ASSETS="INR:2,USDT:6") as service:
        post(service, some_commands(90_000, 10))


async def test_a_node_plays_on_with_the_games_and_rules_of_a_moved_folder(cluster: Kafka, tmp_path: Path) -> None:
    """The node's own rules pay otherwise, and have no money flows."""
    data, money = tmp_path / "data", {"INR": {"registration": 25}}
    ours = tmp_path / "ours.json"
    ours.write_text(json.dumps({"games": {"wingo_2s": games.GAME}, "money": money}))
    with Service(data, PARTITIONS=str(PARTITIONS), RULES=str(ours)) as service:
        for user_id in games.USERS:
            games.open_with_cash(service, user_id)
        settled = await asyncio.to_thread(games.placed_bets, service)
        await asyncio.to_thread(games.recorded, service, settled)
        await asyncio.to_thread(games.settled_bets, service, settled)
        left_open = await asyncio.to_thread(games.placed_bets, service)
    done = await migrate(data, cluster)
    assert done.returncode == 0, done

    theirs = games.rules(tmp_path / "theirs.json", fee_bp=0, odds={"big": 100})
    log = {"LOG": address(cluster), "READ_MODEL": NO_READ_MODEL}
    with Service(tmp_path / "node", PARTITIONS=str(PARTITIONS), RULES=theirs, **log) as node:
        await asyncio.to_thread(games.recorded, node, left_open)
        new = await asyncio.to_thread(games.placed_bets, node)
        await asyncio.to_thread(games.recorded, node, new)
        chains = await until_all_bets_are_settled(cluster)
        totals = {user_id: games.strong_total(node, user_id) for user_id in games.USERS}
    records = [json.loads(event) for chain in chains for event in chain.events]
    bets = [record["data"] | {"of": record["user_id"]} for record in records if record["type"] == "bet_placed"]
    old, newer = ({bet["rules"] for bet in bets if bet["period"] == period} for period in (left_open, new))
    assert old != newer
    payout_by = dict.fromkeys(old, games.PAYOUT) | dict.fromkeys(newer, 501 + 500 * 9)
    assert Counter(
        (record["user_id"], record["data"]["bet_id"], record["data"]["payout"])
        for record in records
        if record["type"] == "bet_settled"
    ) == {(bet["of"], bet["bet_id"], payout_by[bet["rules"]]): 1 for bet in bets}
    for user_id, total in totals.items():
        won = sum(payout_by[bet["rules"]] - games.STAKE for bet in bets if bet["of"] == user_id)
        assert total == 25 + 100_000 + won, user_id


async def until_all_bets_are_settled(kafka: Kafka) -> list[Judged]:
    async with asyncio.timeout(60):
        while True:
            chains = await in_topic(kafka)
            types = Counter(json.loads(event)["type"] for chain in chains for event in chain.events)
            if types["bet_placed"] == types["bet_settled"]:
                return chains
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("databases", ["postgresql", "mariadb"], indirect=True)
async def test_the_reads_move_into_a_database_and_are_what_the_log_says(
    data: Path, cluster: Kafka, databases: EmptyDatabases
) -> None:
    async with key_store(data) as store:
        await make_keys(store, make_master_key(data / MASTER_KEY), system_clock).ring.reload()
    with databases.one() as url:
        done = await migrate(data, cluster, STAKELOG_READ_MODEL=url)
        assert done.returncode == 0, done
        assert "2 rows of clients, tokens and keys are in the database" in done.stdout
        assert databases.ask("SELECT count(*) FROM identity_signing_key", url.rpartition("/")[2])[0][0] == "2"
        checked = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "api", "project", "check", "--once"],
            env=environment({"STAKELOG_DATA": str(data), "STAKELOG_READ_MODEL": url}),
            capture_output=True,
            text=True,
            check=False,
        )
        assert checked.returncode == 0, checked
        rows = databases.ask("SELECT sum(seq) FROM checkpoint", url.rpartition("/")[2])
        assert int(rows[0][0]) == sum(map(len, stored(data)))


async def test_a_move_killed_repeatedly_continues_and_ends_with_the_same_log_and_complete_tables(
    data: Path, cluster: Kafka, postgresql: EmptyDatabases
) -> None:
    with postgresql.one() as url:
        await _killed_until_done(data, cluster, environment({"STAKELOG_READ_MODEL": url}))
        rows = postgresql.ask("SELECT sum(seq) FROM checkpoint", url.rpartition("/")[2])
    before, after = stored(data), await in_topic(cluster)
    assert [one.events for one in after] == before
    assert int(rows[0][0]) == sum(map(len, before))


async def _killed_until_done(data: Path, cluster: Kafka, settings: dict[str, str]) -> None:
    """Each time a little later, so that every step is met."""
    killed = 0
    delay_s = 0.5
    while True:
        running = start(data, cluster, settings)
        try:
            said, errors = await asyncio.to_thread(running.communicate, timeout=delay_s)
            break
        except subprocess.TimeoutExpired:
            running.send_signal(signal.SIGKILL)
            await asyncio.to_thread(running.communicate)
            killed += 1
            delay_s *= 1.4
    assert running.returncode == 0, said + errors
    assert killed >= 4


# --- refused -------------------------------------------------------------------------------------------------------


async def test_a_topic_with_another_logs_events_is_refused_and_named(
    data: Path, cluster: Kafka, tmp_path: Path
) -> None:
    other = stored(data)
    other[2][0] = other[2][0].replace(b'"actor":"local"', b'"actor":"lucal"')
    log = await open_log(parse_address(address(cluster)), PARTITIONS)
    await log.declare({"INR": 2, "USDT": 6})
    names = json.loads(other[2][0])
    await log.append(2, EMPTY, [NewRecord(1, names["user_id"], names["command_id"], other[2][0])])
    await log.close()
    done = await migrate(data, cluster)
    refused(done, 1, "DIFFERS partition 2, seq 1: the target has another record at this seq")
    assert [len(one.values) for one in await in_topic(cluster)] == [0, 0, 1, 0], "nothing was written"
    assert not (data / MIGRATED).exists()


async def test_a_topic_that_a_node_has_opened_is_refused(data: Path, cluster: Kafka) -> None:
    assert (await migrate(data, cluster)).returncode == 0
    (data / MIGRATED).unlink()
    log = await open_log(parse_address(address(cluster)), PARTITIONS)
    head = await log.head(1)
    await log.append(1, head, [opened(1, head.seq + 1, head.sha256)])
    await log.close()
    refused(await migrate(data, cluster), 1, f"DIFFERS partition 1, seq {head.seq + 1}: ", "nodes have written")


def opened(partition: int, seq: int, prev: str) -> NewRecord:
    """What a node appends first; that it names its place and the hash before it is all that matters here."""
    record = {"v": 1, "partition": partition, "seq": seq, "prev": prev, "type": "writer_opened"}
    return NewRecord(seq, f"partition:{partition}", f"~open:{seq}", json.dumps(record).encode())


async def test_it_is_refused_while_a_node_is_in_the_group_and_not_after(data: Path, cluster: Kafka) -> None:
    log = await open_log(parse_address(address(cluster)), PARTITIONS)
    await log.close()
    async with member_of_the_nodes(cluster):
        refused(await migrate(data, cluster), 2, "nodes are running", "http://node-1:8080", NODES_GROUP)
        assert [one.values for one in await in_topic(cluster)] == [[]] * PARTITIONS
    assert (await migrate(data, cluster)).returncode == 0


async def test_a_node_that_starts_while_it_is_moved_is_noticed_before_it_says_done(
    data: Path, cluster: Kafka
) -> None:
    """It comes when the first records have arrived: the first question to the group was answered by then."""
    running = start(data, cluster, environment({}), ("-c", STOPS_ITSELF))
    async with asyncio.timeout(60):
        while psutil.Process(running.pid).status() != psutil.STATUS_STOPPED:
            assert running.poll() is None, running.communicate()
            await asyncio.sleep(0.02)
        async with member_of_the_nodes(cluster):
            running.send_signal(signal.SIGCONT)
            said, errors = await asyncio.to_thread(running.communicate)
    refused(subprocess.CompletedProcess([], running.returncode, said, errors), 2, "nodes are running")
    assert not (data / MIGRATED).exists()


STOPS_ITSELF = """
import os, signal
from api.cli.main import main
from ledger.operations import migrate

append = migrate._append

async def append_and_stop(*arguments):
    migrate._append = append
    head = await append(*arguments)
    os.kill(os.getpid(), signal.SIGSTOP)
    return head

migrate._append = append_and_stop
main()
"""
"""The program; it stops itself after the first append."""


@asynccontextmanager
async def member_of_the_nodes(kafka: Kafka) -> AsyncIterator[None]:
    """A member of the nodes' group that takes part in the assignment."""
    node: Any = AIOKafkaConsumer(
        TOPIC, bootstrap_servers=kafka.address, group_id=NODES_GROUP, client_id="http://node-1:8080"
    )
    await node.start()
    try:
        async with asyncio.timeout(60):
            while len(node.assignment()) < PARTITIONS:  # noqa: ASYNC110 - the client has no event for it
                await asyncio.sleep(0.02)
        yield
    finally:
        await node.stop()


async def test_a_folder_in_use_is_refused(data: Path, cluster: Kafka) -> None:
    lock = FolderLock(data)
    try:
        refused(await migrate(data, cluster), 2, "in use by another process")
    finally:
        lock.release()


async def test_a_topic_with_another_number_of_partitions_is_refused(data: Path, cluster: Kafka) -> None:
    log = await open_log(parse_address(address(cluster)), PARTITIONS + 1)
    await log.close()
    refused(await migrate(data, cluster), 2, f"{PARTITIONS + 1} partitions")


async def test_settings_that_are_not_the_folders_are_refused(data: Path, cluster: Kafka) -> None:
    refused(await migrate(data, cluster, STAKELOG_PARTITIONS="8"), 2, "has 4 partitions, not 8")
    refused(await migrate(data, cluster, STAKELOG_ASSETS="INR:3"), 2, "written with INR:2, not with INR:3")
    refused(await migrate(data.parent, cluster), 2, "no event log")
    assert not (data.parent / "stakelog.lock").exists(), "nothing is made in a folder that was named by mistake"


async def test_a_folder_whose_log_cannot_be_verified_is_not_moved(data: Path, cluster: Kafka) -> None:
    damage(
        data / EVENTS, "UPDATE event SET record = replace(record, 'local', 'lucal') WHERE partition = 1 AND seq = 5"
    )
    refused(await migrate(data, cluster), 1, "FAULT partition 1, seq 5")
    async with administered(cluster) as admin:
        assert TOPIC not in await admin.list_topics()


async def test_of_two_at_once_from_copies_of_one_folder_the_log_comes_out_once(
    data: Path, cluster: Kafka, tmp_path: Path
) -> None:
    """The loser reports it. If both saw the other's records in time, the target has the same log."""
    copy = Path(shutil.copytree(data, tmp_path / "copy"))
    done = await asyncio.gather(migrate(data, cluster), migrate(copy, cluster))
    for one in done:
        assert one.returncode == 0 or (one.returncode == 1 and "another process appends" in one.stderr), one
    assert 0 in {one.returncode for one in done}
    assert [one.events for one in await in_topic(cluster)] == stored(data)
    for folder in (data, copy):
        assert (await migrate(folder, cluster)).returncode == 0


async def test_of_two_simultaneous_moves_one_is_complete(data: Path, cluster: Kafka, tmp_path: Path) -> None:
    other = tmp_path / "other"
    with Service(other, PARTITIONS=str(PARTITIONS), ASSETS="INR:2,USDT:6") as service:
        await asyncio.to_thread(play, service, 500_000)
    done = await asyncio.gather(migrate(data, cluster), migrate(other, cluster))
    assert sorted(one.returncode for one in done) == [0, 1], done
    loser = next(one for one in done if one.returncode == 1)
    assert "another process appends" in loser.stderr or "DIFFERS" in loser.stdout
    winner = (data, other)[[one.returncode for one in done].index(0)]
    after = await in_topic(cluster)
    assert [one.events for one in after] == stored(winner)
    assert sum(one.forks for one in after) <= 1, "the loser appended no more than its first record"


async def test_a_cluster_that_is_not_there_is_named(data: Path, kafka: Kafka) -> None:
    began_s = time.monotonic()
    done = await asyncio.to_thread(
        subprocess.run,
        [*command(data, kafka)[:-1], "kafka://127.0.0.1:9"],
        env=environment({}),
        capture_output=True,
        text=True,
        check=False,
    )
    refused(done, 1, "127.0.0.1:9")
    assert time.monotonic() - began_s < 60
