"""Reads of rows that the background check knows to be wrong: how they say so, and how they are refused."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from api.composition.settings import SettingsError, read_settings
from conformance.memory_cache import MemoryCache
from ledger.core.position import partition_of
from projections.caching.cached_reads import CachedReads
from projections.live.memory import MemoryLiveFeed
from projections.projecting.post_commit import PostCommit
from projections.storage.port import EVERY_USER, Difference
from unit.api_in_memory import InMemoryApi
from unit.given import deposit, open_wallet, place_bet

PARTITION = partition_of("u1", 4)
OTHER = "u2"
WRONG = Difference(PARTITION, "u1", "bet", '["u1","b1"]', "stake", "10", "11")
OF_U1 = ("", "/balance", "/history", "/bets", "/bets/b1", "/holds", "/stats", "/referrals")


@pytest.fixture
async def api_client(tmp_path: Path) -> AsyncIterator[InMemoryApi]:
    async with InMemoryApi(tmp_path) as api_client:
        await api_client.world.given(open_wallet(), open_wallet(OTHER), deposit(1_000), place_bet(10, bet_id="b1"))
        await api_client.fold()
        yield api_client


@pytest.mark.parametrize("rest", OF_U1)
async def test_every_read_of_a_user_with_a_wrong_row_says_so_until_it_is_repaired(
    api_client: InMemoryApi, rest: str
) -> None:
    path = f"/v1/wallets/u1{rest}"
    before = await api_client.get(path)
    assert "suspect" not in before.json()["as_of"]
    await api_client.differ(PARTITION, WRONG)
    suspect = await api_client.get(path, ("if-none-match", before.headers.get("etag", "*")))
    assert suspect.status == 200, "a client must not keep what it has"
    assert suspect.json() == {**before.json(), "as_of": {**before.json()["as_of"], "suspect": True}}
    assert "etag" not in suspect.headers
    assert "suspect" not in (await api_client.get(f"/v1/wallets/{OTHER}")).json()["as_of"]
    await api_client.differ(PARTITION)
    assert await api_client.get(path) == before


async def test_what_a_suspect_user_lacks_is_not_found_with_the_same_mark(api_client: InMemoryApi) -> None:
    await api_client.differ(PARTITION, WRONG)
    missing = await api_client.get("/v1/wallets/u1/bets/b2")
    assert (missing.status, missing.json()["code"], missing.json()["suspect"]) == (404, "bet_not_found", True)


async def test_the_writer_itself_is_never_suspect(api_client: InMemoryApi) -> None:
    await api_client.differ(PARTITION, WRONG)
    assert "suspect" not in (await api_client.get("/v1/wallets/u1?consistency=strong")).json()["as_of"]


async def test_a_read_of_all_users_is_suspect_if_a_row_of_its_own_table_is(api_client: InMemoryApi) -> None:
    board, queue = "/v1/leaderboards/staked_day?asset=INR", "/v1/orders"
    for table, suspect in (("bet", set()), ("standing", {board}), ("orders", {queue})):
        await api_client.differ(PARTITION, Difference(PARTITION, "u1", table, "k", "f", "1", "2"))
        assert {
            path for path in (board, queue) if (await api_client.get(path)).json()["as_of"].get("suspect")
        } == suspect


async def test_a_difference_of_every_user_makes_all_of_its_partition_suspect(api_client: InMemoryApi) -> None:
    await api_client.differ(PARTITION, Difference(PARTITION, EVERY_USER, "checkpoint", "", "head", "1", "2"))
    for path in ("/v1/wallets/u1", "/v1/orders", "/v1/leaderboards/staked_day?asset=INR"):
        assert (await api_client.get(path)).json()["as_of"]["suspect"] is True
    assert partition_of("u3", 4) != PARTITION
    assert not api_client.reads.suspects.has_user("u3", partition_of("u3", 4))
    assert api_client.reads.suspects.warning.startswith("rows of all users of 1 partitions differ from the log, and")


async def test_the_warning_counts_users_and_whole_partitions(api_client: InMemoryApi) -> None:
    await api_client.differ(PARTITION, WRONG)
    assert api_client.reads.suspects.warning.startswith("rows of 1 users or accounts differ from the log, and")
    await api_client.differ(PARTITION, WRONG, Difference(PARTITION, EVERY_USER, "checkpoint", "", "head", "1", "2"))
    both = "rows of 1 users or accounts and of all users of 1 partitions differ from the log, and"
    assert api_client.reads.suspects.warning.startswith(both)


async def test_the_orders_of_one_user_are_suspect_as_the_other_reads_of_that_user_are(
    api_client: InMemoryApi,
) -> None:
    await api_client.differ(PARTITION, WRONG)
    assert (await api_client.get("/v1/orders?user_id=u1")).json()["as_of"]["suspect"] is True
    assert "suspect" not in (await api_client.get(f"/v1/orders?user_id={OTHER}")).json()["as_of"]


async def test_a_row_that_no_read_shows_makes_none_suspect(api_client: InMemoryApi) -> None:
    await api_client.differ(PARTITION, Difference(PARTITION, "", "deposit", "[3]", "order_id", "1", "2"))
    for path in ("/v1/wallets/u1", "/v1/orders"):
        assert "suspect" not in (await api_client.get(path)).json()["as_of"]
    assert "warnings" not in (await api_client.get("/readyz")).json()


async def test_the_service_stays_ready_and_warns_with_the_cure(
    api_client: InMemoryApi, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    assert (await api_client.get("/readyz")).json() == {"status": "ready"}
    await api_client.differ(PARTITION, WRONG)
    ready = await api_client.get("/readyz")
    assert ready.status == 200
    (warning,) = ready.json()["warnings"]
    assert "stakelog project rebuild --accept" in warning
    assert warning in caplog.text
    await api_client.differ(PARTITION)
    assert "agrees with the log again" in caplog.text
    assert (await api_client.get("/readyz")).json() == {"status": "ready"}


async def test_suspect_reads_are_refused_by_setting(api_client: InMemoryApi) -> None:
    api_client.reads.suspects.refuse = True
    await api_client.differ(PARTITION, WRONG)
    for rest in (*OF_U1, "/bets/b2"):
        refused = await api_client.get(f"/v1/wallets/u1{rest}")
        assert (refused.status, refused.json()["code"]) == (503, "log_unavailable")
        assert "differ from the log" in refused.json()["detail"]
    assert (await api_client.get("/v1/wallets/u1?consistency=strong")).status == 200
    assert (await api_client.get(f"/v1/wallets/{OTHER}")).status == 200


async def test_reads_from_the_cache_are_marked_too(api_client: InMemoryApi) -> None:
    cache = MemoryCache(trust_s=3_600.0)
    post_commit = PostCommit(cache, MemoryLiveFeed())
    (live,) = await api_client.store.generations()
    await post_commit.started(live, dict(enumerate(await api_client.store.checkpoints(live.number))))
    reads = CachedReads(api_client.model, api_client.world.node, api_client.world.clock, cache)
    for hits in (0, 1):
        found = await reads.wallet("u1")
        assert (reads.counts["wallet", "hit"], found.suspect) == (hits, False)
    await api_client.differ(PARTITION, WRONG, replace(WRONG, table="standing"))
    await reads.suspects.look()
    assert (await reads.wallet("u1")).suspect
    assert (await reads.statistics("u1")).suspect
    assert not (await reads.wallet(OTHER)).suspect
    for hits in (0, 1):
        assert (await reads.leaderboard("staked_day", "INR", None, 10)).suspect
        assert reads.counts["leaderboard", "hit"] == hits


def test_the_setting_is_mark_or_refuse() -> None:
    assert not read_settings({}).refuse_suspect
    assert read_settings({"STAKELOG_SUSPECT_READS": "refuse"}).refuse_suspect
    with pytest.raises(SettingsError, match="STAKELOG_SUSPECT_READS=no: mark or refuse"):
        read_settings({"STAKELOG_SUSPECT_READS": "no"})
