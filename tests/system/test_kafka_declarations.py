"""Assets on Kafka: the first declaration fixes an exponent, and nodes with another one are refused."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import NewTopic

from deploy.local.servers import Kafka
from kafka_judge import administered, new_topic, raw_values
from ledger.core.games.rules import BUILT_IN, book_of, read_rules
from ledger.core.record import EMPTY
from ledger.errors import LogMisconfigured, LogUnavailable, WrongAssets
from ledger.kafka.address import parse_address
from ledger.kafka.log import KafkaEventLog, open_log
from ledger.kafka.topic import settings_of
from ledger.ports import NewRecord

pytestmark = pytest.mark.system


class Declared:
    """Logs of one topic with one topic of declarations."""

    def __init__(self, kafka: Kafka) -> None:
        self.kafka = kafka
        self.topic, self.declarations = new_topic(), new_topic()
        self.opened: list[KafkaEventLog] = []

    async def open(self) -> KafkaEventLog:
        address = parse_address(f"{self.kafka.url}?replication_factor=1")
        log = await open_log(address, 2, topic=self.topic, declarations=self.declarations)
        self.opened.append(log)
        return log


@pytest.fixture
async def logs(kafka: Kafka) -> AsyncIterator[Declared]:
    declared = Declared(kafka)
    yield declared
    for log in declared.opened:
        await log.close()


async def test_the_same_assets_are_declared_once_however_often(logs: Declared) -> None:
    for _ in range(3):
        await (await logs.open()).declare({"INR": 2, "GOLD": 0})
    assert len(await raw_values(logs.kafka, logs.declarations, 0)) == 2


async def test_every_pay_table_that_any_node_declared_is_kept_once(logs: Declared) -> None:
    old, new = BUILT_IN.tables, book_of(read_rules('{"games": {"k3_1m": {"fee_bp": 0}}}', {"INR": 2}).games).tables
    for tables in (old, new, old):
        await (await logs.open()).declare({"INR": 2}, tables)
    assert await (await logs.open()).tables() == {**old, **new}
    assert len(await raw_values(logs.kafka, logs.declarations, 0)) == 1 + len({**old, **new})


async def test_the_name_of_every_game_that_any_node_declared_is_kept_once(logs: Declared) -> None:
    for games in ({"wingo_2s", "k3_90s"}, {"wingo_7200s"}, {"k3_90s"}):
        await (await logs.open()).declare({"INR": 2}, games=games)
    log = await logs.open()
    await log.keep_games({"5d_2s", "k3_90s"})
    assert await log.games() == {"wingo_2s", "k3_90s", "wingo_7200s", "5d_2s"}
    assert len(await raw_values(logs.kafka, logs.declarations, 0)) == 1 + 4


async def test_all_rules_of_money_flows_that_any_node_declared_are_kept_once(logs: Declared) -> None:
    old, new = (
        book_of({}, money=read_rules(text, {"INR": 2}).money).money_kept
        for text in (
            '{"money": {"INR": {"registration": 1}}}',
            '{"money": {"INR": {"commission": {"rates_e9": [6000000], "agents": {"10": [1], "2": [3, 4]}}}}}',
        )
    )
    for money in (old, new, old):
        await (await logs.open()).declare({"INR": 2}, None, money)
    assert await (await logs.open()).money_rules() == {**old, **new}
    assert len(await raw_values(logs.kafka, logs.declarations, 0)) == 1 + len({**old, **new}) == 3


async def test_another_exponent_is_refused_and_nothing_is_written(logs: Declared) -> None:
    await (await logs.open()).declare({"INR": 2})
    for again in ({"INR": 3}, {"USDT": 6, "INR": 0}):
        with pytest.raises(WrongAssets, match=r"INR:2.*STAKELOG_ASSETS"):
            await (await logs.open()).declare(again)
    await (await logs.open()).declare({"INR": 2})
    assert len(await raw_values(logs.kafka, logs.declarations, 0)) == 1


async def test_an_asset_may_be_added_but_neither_changed_nor_left_out(logs: Declared) -> None:
    await (await logs.open()).declare({"INR": 2})
    await (await logs.open()).declare({"INR": 2, "GOLD": 0})
    with pytest.raises(WrongAssets, match=r"has the asset INR, which STAKELOG_ASSETS lacks"):
        await (await logs.open()).declare({"GOLD": 0})
    with pytest.raises(WrongAssets, match="GOLD:0"):
        await (await logs.open()).declare({"INR": 2, "GOLD": 1})


async def test_of_nodes_that_declare_at_once_those_with_one_exponent_go_on(logs: Declared) -> None:
    agreed: dict[str, int] = {}
    for turn in range(5):
        nodes = [await logs.open() for _ in range(6)]
        results = await asyncio.gather(
            *(node.declare({**agreed, f"A{turn}": number % 3}) for number, node in enumerate(nodes)),
            return_exceptions=True,
        )
        well = {number % 3 for number, result in enumerate(results) if result is None}
        assert len(well) == 1, results
        assert all(result is None or isinstance(result, WrongAssets) for result in results)
        agreed[f"A{turn}"] = well.pop()
        with pytest.raises(WrongAssets):
            await nodes[0].declare({**agreed, f"A{turn}": (agreed[f"A{turn}"] + 1) % 3})


async def test_what_is_no_declaration_is_skipped(logs: Declared) -> None:
    await (await logs.open()).declare({"INR": 2})
    producer = AIOKafkaProducer(bootstrap_servers=logs.kafka.address)
    await producer.start()
    for value in (b"", None, b"{}", b'{"asset":"GOLD"}', b'{"asset":"GOLD","exponent":"2"}', b"\xff"):
        await producer.send_and_wait(logs.declarations, value, key=b"GOLD")
    await producer.stop()
    await (await logs.open()).declare({"INR": 2, "GOLD": 0})
    with pytest.raises(WrongAssets):
        await (await logs.open()).declare({"GOLD": 2})


async def test_a_topic_that_forgets_is_refused(logs: Declared) -> None:
    right = settings_of(parse_address("kafka://x?replication_factor=1"))
    async with administered(logs.kafka) as admin:
        await admin.create_topics([NewTopic(logs.declarations, 1, 1, topic_configs=right | {"retention.ms": "1000"})])
    with pytest.raises(LogMisconfigured, match=r"retention\.ms=1000"):
        await (await logs.open()).declare({"INR": 2})


async def test_a_topic_of_several_partitions_is_refused(logs: Declared) -> None:
    right = settings_of(parse_address("kafka://x?replication_factor=1"))
    async with administered(logs.kafka) as admin:
        await admin.create_topics([NewTopic(logs.declarations, 2, 1, topic_configs=right)])
    with pytest.raises(LogMisconfigured, match="one partition"):
        await (await logs.open()).declare({"INR": 2})


async def test_declarations_that_were_lost_are_not_replaced_and_the_message_says_what_to_do(logs: Declared) -> None:
    """Otherwise a node with ``INR:3`` would take the amounts of all events for tenths of what they are."""
    log = await logs.open()
    await log.declare({"INR": 2})
    await log.append(1, EMPTY, [NewRecord(1, "u1", "c1", b"a record")])
    async with administered(logs.kafka) as admin:
        await admin.delete_topics([logs.declarations])
        async with asyncio.timeout(60):
            while logs.declarations in await admin.list_topics():  # noqa: ASYNC110 - the broker sends no event
                await asyncio.sleep(0.05)
    with pytest.raises(LogUnavailable, match=f"the topic {logs.declarations} is missing at .*Restore it"):
        await (await logs.open()).tables()
    lost = f"the topic {logs.declarations} at .* declares no asset, but {logs.topic} has records"
    for exponent in (2, 3):
        with pytest.raises(LogMisconfigured, match=lost) as refused:
            await (await logs.open()).declare({"INR": exponent})
    assert await raw_values(logs.kafka, logs.declarations, 0) == []
    # As the message says:
    key, value = str(refused.value).partition("'")[2].partition("'")[0].split("<tab>")
    producer = AIOKafkaProducer(bootstrap_servers=logs.kafka.address)
    await producer.start()
    await producer.send_and_wait(logs.declarations, value.encode(), key=key.encode())
    await producer.stop()
    with pytest.raises(WrongAssets):
        await (await logs.open()).declare({"INR": 3})
    await (await logs.open()).declare({"INR": 2}, BUILT_IN.tables)
