"""The money supply: account totals of all partitions together."""

from pathlib import Path

import msgspec

from projections.models import VERSION
from projections.models.accounts import AccountTotal
from projections.projecting.partition import PartitionProjector
from projections.reads.supply import account_totals
from projections.storage.sqlite import SqliteReadModelStore
from projections.storage.sqlite_reader import SqliteReadModel
from properties.reads_scenario import play_scenario


async def test_the_supply_is_every_posting_of_every_partition_and_sums_to_zero(tmp_path: Path) -> None:
    scenario = await play_scenario(3)
    path = tmp_path / "read-model.sqlite3"
    store = SqliteReadModelStore(path)
    generation = await store.make_generation(VERSION, len(scenario.partitions), live=True)
    for partition, checkpoint in enumerate(await store.checkpoints(generation.number)):
        folder = PartitionProjector(store, generation.number, partition, checkpoint, [])
        run = await folder.fold(scenario.partitions[partition])
        assert run is not None
        await store.commit(generation.number, [run])
    await store.close()
    model = SqliteReadModel(path)
    totals = await account_totals(model)
    await model.close()

    posted: dict[tuple[str, str], list[int]] = {}
    for event in map(msgspec.json.decode, scenario.records):
        for account, asset, amount in event["postings"]:
            name = f"wallet/{account.rpartition('/')[2]}" if account.startswith("wallet/") else account
            posted.setdefault((asset, name), [0, 0])[amount < 0] += abs(amount)
    assert {(one.asset, one.account): [one.credited, one.debited] for one in totals} == posted
    assert {one.asset for one in totals} == {"INR", "USDT", "GOLD"}
    for asset in ("INR", "USDT", "GOLD"):
        own = [one for one in totals if one.asset == asset]
        assert sum(one.balance for one in own) == 0
        roots = [one.account.partition("/")[0] for one in own]
        assert roots == sorted(roots, key=["wallet", "transit", "house"].index)


def test_a_balance_is_credits_less_debits() -> None:
    assert AccountTotal("house/stakes", "INR", 7, 9).balance == -2
