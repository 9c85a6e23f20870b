"""Games over three real nodes: nodes that die within a settlement, a clock that is wrong or set back, and another
rules file at a restart. The records of the topic decide, read by a client of its own."""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from deploy.local.servers import Kafka
from kafka_judge import judged
from ledger.core.position import partition_of
from ledger.kafka.log import TOPIC
from naive_games import paid_legs
from real_servers import running
from system.cluster import Cluster, Crowd, assert_borne_out
from system.service import Service

pytestmark = pytest.mark.system

PARTITIONS: Final = 6
LENGTHS_S: Final = {"wingo_4s": 4, "wingo_5s": 5, "wingo_6s": 6}
GAME: Final = {"close_ms": 500, "bets_per_period": 10_000}
SELECTION: Final = "big+number:7"
STAKE: Final = 1_001
PAYOUT: Final = sum(paid for _, _, paid in paid_legs("wingo", SELECTION, STAKE, "7"))
CASH: Final = 10**9
WITHIN_S: Final = 60.0


@pytest.fixture(scope="module")
def rules_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rules") / "rules.json"
    path.write_text(json.dumps({"games": dict.fromkeys(LENGTHS_S, GAME)}))
    return path


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, rules_file: Path) -> Iterator[Cluster]:
    with running(Kafka(settings="group.min.session.timeout.ms=1000")) as kafka:
        cluster = Cluster(kafka, tmp_path_factory.mktemp("nodes"), session_timeout_ms=2_000, RULES=str(rules_file))
        for node in cluster.nodes:
            node.program = ("-c", DIES.replace("ORDER", repr(str(order_of(node)))))
        with cluster:
            yield cluster


class Players:
    """Wallets of every partition. Commands go to any node, and are sent again until their response is final."""

    def __init__(self, cluster: Cluster, name: str, each: int) -> None:
        self.cluster = cluster
        self.users: dict[str, int] = {}
        for partition in range(PARTITIONS):
            named = (f"{name}-{number}" for number in range(10_000))
            found = [user_id for user_id in named if partition_of(user_id, PARTITIONS) == partition][:each]
            self.users |= dict.fromkeys(found, partition)

    async def open(self) -> None:
        deposit = {"type": "deposit", "command_id": "pay", "order_id": "o", "asset": "INR", "amount": CASH}
        for command in ({"type": "open_wallet", "command_id": "open"}, deposit):
            responses = await self.batch([{**command, "user_id": user_id} for user_id in self.users])
            assert {response["status"] for response in responses} <= {200, 201}, responses

    async def batch(self, commands: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The final responses, each with its ``status``."""
        final: dict[int, dict[str, Any]] = {}
        async with asyncio.timeout(WITHIN_S), aiohttp.ClientSession() as session:
            while left := [number for number in range(len(commands)) if number not in final]:
                url = random.choice(self.cluster.urls)
                try:
                    async with session.post(
                        f"{url}/v1/commands/batch", json=[commands[number] for number in left]
                    ) as response:
                        items = await response.json() if response.status == 200 else []
                except (aiohttp.ClientError, OSError):
                    items = []
                final |= {number: item for number, item in zip(left, items, strict=False) if item["status"] < 500}
                if not items:
                    await asyncio.sleep(0.02)
        return [final[number] for number in range(len(commands))]

    async def post(self, **command: Any) -> tuple[int, str]:
        """Status, and the code of the problem."""
        (item,) = await self.batch([command])
        return item["status"], item.get("problem", {}).get("code", "")

    async def bets(self, number: int, game: str = "wingo_4s") -> str:
        """So many bets of each user on one period. Returns the period, which may still take bets."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                await asyncio.sleep(LENGTHS_S[game] - time.time() % LENGTHS_S[game])
                period = period_of(game, time.time())
                bets = [bet(user, game, period, f"{period}-{n}") for user in self.users for n in range(number)]
                items = await self.batch(bets)
                if {item["status"] for item in items} <= {200, 201}:
                    return period
                assert {item["problem"]["code"] for item in items if "problem" in item} == {"period_closed"}
                await self.result(period, game)  # those that were taken end with it

    async def result(self, period: str, game: str = "wingo_4s") -> None:
        """The result 7, as soon as it may come."""
        about = {"type": "record_result", "user_id": f"game:{game}", "command_id": f"r-{period}"}
        async with asyncio.timeout(WITHIN_S):
            while (response := await self.post(**about, period=period, result="7"))[0] not in (200, 201):
                assert response[1] == "period_not_closed", response
                await asyncio.sleep(0.05)

    async def records(self) -> list[dict[str, Any]]:
        """Of these users and of the games' streams, partition by partition."""
        chains = [await judged(self.cluster.kafka, TOPIC, partition) for partition in range(PARTITIONS)]
        records = [json.loads(event) for chain in chains for event in chain.events]
        return [one for one in records if one["user_id"] in self.users or one["user_id"].startswith("game:")]

    async def all_settled(self, payout: int = PAYOUT) -> None:
        """Wait until every bet is settled; then each once, for this payout, and every wallet has what the records add
        up to."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                records = [one for one in await self.records() if one["user_id"] in self.users]
                types = Counter(one["type"] for one in records)
                if types["bet_settled"] >= types["bet_placed"]:
                    break
                await asyncio.sleep(0.2)
        placed = [(one["user_id"], one["data"]["bet_id"]) for one in records if one["type"] == "bet_placed"]
        settled = Counter(
            (one["user_id"], one["data"]["bet_id"], one["data"]["payout"])
            for one in records
            if one["type"] == "bet_settled"
        )
        assert settled == {(user_id, bet_id, payout): 1 for user_id, bet_id in placed}
        for user_id in self.users:
            of_user = [one for one in records if one["user_id"] == user_id]
            bets = sum(one["type"] == "bet_placed" for one in of_user)
            posted = sum(
                amount
                for one in of_user
                for account, _, amount in one["postings"]
                if account == f"wallet/{user_id}/cash"
            )
            assert posted == CASH + bets * (payout - STAKE), user_id
            assert await self.cash(user_id) == posted

    async def cash(self, user_id: str) -> int:
        async with asyncio.timeout(WITHIN_S), aiohttp.ClientSession() as session:
            while True:
                for url in self.cluster.urls:
                    async with session.get(f"{url}/v1/wallets/{user_id}?consistency=strong") as response:
                        if response.status == 200:
                            return int((await response.json())["balances"]["INR"]["cash"])
                await asyncio.sleep(0.05)


def bet(user_id: str, game: str, period: str, name: str) -> dict[str, Any]:
    about = {"type": "place_bet", "game": game, "period": period, "asset": "INR", "selection": SELECTION}
    return {**about, "user_id": user_id, "command_id": name, "bet_id": name, "stake": STAKE}


def period_of(game: str, time_s: float) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(int(time_s) // LENGTHS_S[game] * LENGTHS_S[game]))


DIES = """
import os, signal
from pathlib import Path
from api.cli.main import main
from ledger.kafka.log import KafkaEventLog
from ledger.writer import round

round.SETTLEMENTS_PER_ROUND = 16
append, left, order = KafkaEventLog._append, 2, Path(ORDER)

async def dies_at_its_second_settlement(self, partition, after, records):
    global left
    if order.exists() and any(b'"type":"bet_settled"' in record.record for record in records):
        left -= 1
    if left == 0:
        if order.read_text() == "after it has landed":
            await append(self, partition, after, records)
        os.kill(os.getpid(), signal.SIGKILL)
    await append(self, partition, after, records)

KafkaEventLog._append = dies_at_its_second_settlement
main()
"""
"""The program, settling few bets at a time. Where a file orders it, it is killed at its second append with settled
bets, after the append has landed or before."""


def order_of(node: Service) -> Path:
    return node.data.parent / f"{node.data.name}-dies"


async def test_nodes_that_are_killed_within_a_settlement_under_load_settle_every_bet_once(cluster: Cluster) -> None:
    """Two of three, one before an append and one after it. The node of the game's stream lives: the others hear of
    the result at once."""
    owners = await cluster.settled()
    stream = owners[partition_of("game:wingo_4s", PARTITIONS)]
    dying = [node for node in cluster.nodes if node.url != stream]
    for node, when in zip(dying, ("before it is sent", "after it has landed"), strict=True):
        order_of(node).write_text(when)
    players, crowd = Players(cluster, "settled", 2), Crowd(cluster, "load", clients_each=1)
    await players.open()
    async with crowd.playing():
        period = await players.bets(20)
        await players.result(period)
        async with asyncio.timeout(WITHIN_S):
            for node in dying:
                while node.process is not None and node.process.poll() is None:  # noqa: ASYNC110 - a process
                    await asyncio.sleep(0.05)
                node.process = None
        for node in dying:
            order_of(node).unlink()
        await asyncio.to_thread(cluster.start)
        await cluster.settled()
    await players.all_settled()
    await assert_borne_out(cluster, crowd)


WANDERS = """
import time
from pathlib import Path

offset, time_ns, time_s = Path(OFFSET), time.time_ns, time.time
time.time_ns = lambda: time_ns() + int(float(offset.read_text()) * 1e9)
time.time = lambda: time_s() + float(offset.read_text())

from api.cli.main import main

main()
"""
"""The program on a machine whose clock is off by the seconds in a file."""


async def test_a_clock_that_is_behind_ahead_or_set_back_takes_no_bet_after_the_result(
    cluster: Cluster, tmp_path: Path
) -> None:
    """One node's clock. The game's stream is on another node, so the result comes at the right time. Each bet that
    was taken is settled once, and the time of the node's events never goes back."""

    def clock_is_off(seconds: float) -> None:
        (tmp_path / "new").write_text(str(seconds))
        (tmp_path / "new").rename(tmp_path / "offset")

    clock_is_off(0)
    wanders = cluster.nodes[2]
    await asyncio.to_thread(wanders.stop)
    wanders.program = ("-c", WANDERS.replace("OFFSET", repr(str(tmp_path / "offset"))))
    await asyncio.to_thread(cluster.start)
    wanders.program = ("-m", "api")  # from its next start
    owners = await cluster.settled()
    game = next(name for name in LENGTHS_S if owners[partition_of(f"game:{name}", PARTITIONS)] != wanders.url)
    players = Players(cluster, "clock", 1)
    user_id = next(user_id for user_id, partition in players.users.items() if owners[partition] == wanders.url)
    await players.open()
    length_s = LENGTHS_S[game]

    async def taken(off_s: float) -> str:
        """A bet on the period that the wrong clock shows. Returns the period."""
        clock_is_off(off_s)
        while True:
            await asyncio.sleep(length_s - (time.time() + off_s) % length_s + 0.1)
            period = period_of(game, time.time() + off_s)
            status, code = await players.post(**bet(user_id, game, period, f"{period}-{off_s:g}"))
            if status == 201:
                return period
            assert code == "period_closed"

    async with asyncio.timeout(2 * WITHIN_S):
        over = await taken(-length_s - 1)  # its end was a second ago
        assert "the clock is" in await not_ready(wanders)
        await players.result(over, game)
        await players.all_settled()
        again = await players.post(**bet(user_id, game, over, "too-late"))
        assert again == (422, "period_closed"), again

        to_come = await taken(length_s + 1)
        assert "the clock is" in await not_ready(wanders)
        clock_is_off(0)
        deposit = {"type": "deposit", "order_id": "back", "asset": "INR", "amount": 1, "user_id": user_id}
        assert await players.post(**deposit, command_id="back") == (201, "")
        withdrawal = {"type": "request_withdrawal", "order_id": "w", "asset": "INR", "amount": 1, "user_id": user_id}
        assert await players.post(**withdrawal, command_id="w") == (201, "")
        await players.result(to_come, game)
        await players.all_settled()
        await cluster.settled()
    times = [one["time_us"] for one in await players.records() if one["partition"] == players.users[user_id]]
    assert times == sorted(times)


async def not_ready(node: Service) -> str:
    """Wait until the node is not ready, and return why."""
    async with aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"{node.internal}/readyz") as response:
                if response.status != 200:
                    return await response.text()
            await asyncio.sleep(0.02)


async def test_bets_of_a_length_that_the_next_rules_file_lacks_are_settled_after_the_restart(
    cluster: Cluster, rules_file: Path
) -> None:
    players = Players(cluster, "length", 1)
    await players.open()
    period = await players.bets(3, "wingo_4s")
    cluster.kill()
    rules_file.write_text(json.dumps({"games": {"wingo_6s": GAME}}))  # noqa: ASYNC240 - a few bytes
    await asyncio.to_thread(cluster.start)
    await cluster.settled()
    user_id = next(iter(players.users))
    gone = await players.post(**bet(user_id, "wingo_4s", period_of("wingo_4s", time.time()), "gone"))
    assert gone[1] == "unknown_game", gone
    new = await players.bets(1, "wingo_6s")
    await players.result(period, "wingo_4s")
    await players.result(new, "wingo_6s")
    await players.all_settled()
    # A game without an open bet, and one that no rules file ever had, on each node.
    over_s = time.time() - 60
    for number, url in enumerate(cluster.urls):
        over = period_of("wingo_5s", over_s - 5 * number)
        assert await outcome_at(url, "wingo_5s", over) == 201
        assert await outcome_at(url, "wingo_10s", "20261123T000000Z") == 422


async def outcome_at(url: str, game: str, period: str) -> int:
    """The status of a result that is posted to this node."""
    command = {"type": "record_result", "command_id": f"r-{period}", "user_id": f"game:{game}"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{url}/v1/commands", json={**command, "period": period, "result": "7"}) as response,
    ):
        return response.status
