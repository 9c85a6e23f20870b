"""The real service with a Redis before its read model: what it says, and what becomes of it when Redis does not.

Each answer is held against the reference model of the reads at the position that it names; each client remembers
where it was told that a partition is, and is never told less.
"""

import contextlib
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from deploy.local.servers import Redis
from properties.naive_reads import Cut, Doc, NotFound, target_of
from real_servers import empty
from system import test_reads as over_http
from system.read_side import follower_of, program
from system.service import Service
from system.test_reads import (
    PARTITIONS,
    Client,
    Writing,
    betting,
    cut_of,
    ends_of,
    fresh,
    inr,
    positions,
    tell,
    until,
)

pytestmark = pytest.mark.system

BOARDS: Final = ("staked_day", "won_week", "net_month")


@pytest.fixture(scope="module")
def service(redis: Redis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    empty(redis.url)
    data = tmp_path_factory.mktemp("cached") / "data"
    with Service(data, PARTITIONS=str(PARTITIONS), CACHE=redis.url) as service:
        with Client(service) as client:
            tell(client)
            until(lambda: over_http.follow_ups(client) == over_http.FOLLOW_UPS)
            client.read("/v1/orders", min_position=positions(ends_of(client.reads())), timeout_ms=10_000)
        yield service
        assert hits_of(service) > 100, "the tests below were to be answered by the cache"
    assert "Traceback" not in service.log_text()
    assert "internal_error" not in service.log_text()


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    with Client(service) as client:
        yield client


@pytest.fixture
def wallet(client: Client) -> str:
    return fresh(client)


# Collected here once more, with the service above.
test_every_read_of_a_wallet_says_what_its_events_say = over_http.test_every_read_of_a_wallet_says_what_its_events_say
test_a_response_names_the_positions_at_which_it_is_true_while_events_arrive = (
    over_http.test_a_response_names_the_positions_at_which_it_is_true_while_events_arrive
)
test_a_read_at_the_position_of_a_command_includes_it = over_http.test_a_read_at_the_position_of_a_command_includes_it
test_a_wallet_is_found_as_soon_as_its_opening_is_reached = (
    over_http.test_a_wallet_is_found_as_soon_as_its_opening_is_reached
)
test_a_strong_read_and_a_plain_one_say_the_same = over_http.test_a_strong_read_and_a_plain_one_say_the_same
test_a_read_returns_as_soon_as_its_position_is_reached = (
    over_http.test_a_read_returns_as_soon_as_its_position_is_reached
)
test_a_wallet_that_was_never_opened_is_not_found_whatever_else_it_has = (
    over_http.test_a_wallet_that_was_never_opened_is_not_found_whatever_else_it_has
)
test_a_wallet_with_earlier_events_is_found_once_it_was_opened = (
    over_http.test_a_wallet_with_earlier_events_is_found_once_it_was_opened
)
test_what_has_not_changed_is_not_sent_again = over_http.test_what_has_not_changed_is_not_sent_again
test_the_tag_changes_only_with_what_is_said = over_http.test_the_tag_changes_only_with_what_is_said
test_a_tag_that_is_old_once_the_position_is_reached_gets_the_new_document = (
    over_http.test_a_tag_that_is_old_once_the_position_is_reached_gets_the_new_document
)
test_a_leaderboard_is_what_the_bets_of_its_days_say = over_http.test_a_leaderboard_is_what_the_bets_of_its_days_say


def counted(service: Service) -> dict[tuple[str, str], float]:
    """(aggregate, outcome) → reads."""
    with Client(service) as client:
        metrics = client.ask("/metrics").body.decode()
    found = re.findall(r'stakelog_cache_reads_total\{aggregate="(\w+)",outcome="(\w+)"\} (\S+)', metrics)
    return {(aggregate, outcome): float(number) for aggregate, outcome, number in found}


def hits_of(service: Service) -> float:
    return sum(number for (_, outcome), number in counted(service).items() if outcome == "hit")


def test_what_is_read_again_comes_from_the_cache(service: Service, client: Client, wallet: str) -> None:
    before = counted(service)
    for _ in range(10):
        client.read(f"/v1/wallets/{wallet}")
        client.read(f"/v1/wallets/{wallet}/stats")
        client.read("/v1/leaderboards/net_month", asset="INR")
    after = counted(service)
    for aggregate in ("wallet", "statistics", "leaderboard"):
        assert after[aggregate, "hit"] - before[aggregate, "hit"] >= 8, aggregate


def test_what_a_client_wrote_is_changed_where_it_is_kept(service: Service, client: Client, wallet: str) -> None:
    """So a wallet at play stays in the cache, event after event."""
    for path in ("", "/stats"):
        client.read(f"/v1/wallets/{wallet}{path}")
        client.read(f"/v1/wallets/{wallet}{path}")
    before = counted(service)
    for number in range(20):
        client.post(wallet, "place_bet", **over_http.bet(f"again-{number}", 7))
        last = client.post(wallet, "settle_bet", bet_id=f"again-{number}", payout=3)
        client.read("/v1/orders", limit=1, min_position=last["position"])
        time.sleep(0.02)  # the mark follows the commit
        found = client.read(f"/v1/wallets/{wallet}")
        assert found["balances"]["INR"]["cash"] == last["balances"]["INR"]["cash"]
        assert client.read(f"/v1/wallets/{wallet}/stats")["totals"][0]["bets"] == number + 1
    after = counted(service)
    assert after["wallet", "hit"] - before["wallet", "hit"] >= 15
    assert after["statistics", "hit"] - before["statistics", "hit"] >= 15


# --- mishaps -------------------------------------------------------------------------------------------------------


class Reading:
    """A client app that reads, and remembers what it was told."""

    def __init__(self, users: list[str], seed: int) -> None:
        self._users, self._chance = users, random.Random(seed)
        self._at: dict[int, int] = {}
        self.heard: list[tuple[str, str, Doc]] = []
        self.places: set[str] = set()

    def __call__(self, client: Client) -> None:
        name = self._chance.choice(("wallet", "wallet", "wallet", "stats", "board", "referrals"))
        user_id = self._chance.choice(self._users)
        if name == "board":
            name = self._chance.choice(BOARDS)
            document = client.read(f"/v1/leaderboards/{name}", asset="INR", limit=200)
        else:
            document = client.read(target_of(name, user_id, {}))
        for partition, seq in cut_of(document).items():
            assert seq >= self._at.get(partition, 0), f"{name}: partition {partition} went back"
            self._at[partition] = seq
        self.heard.append((name, user_id, document))
        self.places.add(str(document["as_of"]))


def judge(client: Client, heard: list[tuple[str, str, Doc]], most: int = 250) -> None:
    reads = client.reads()
    for name, user_id, document in random.Random(1).sample(heard, min(most, len(heard))):
        then = reads.at(cut_of(document))
        if name in BOARDS:
            expected: Doc | NotFound = then.leaderboard(name, "INR", document["from_us"], 200)
        else:
            expected = getattr(then, name)(user_id)
        assert not isinstance(expected, NotFound)
        del document["as_of"]
        assert document == expected, name


def with_reads_and_bets(service: Service, happens: Callable[[Service], None]) -> None:
    """Two clients read and two bet while it happens; all that was read is judged; the cache answers in the end."""
    with Client(service) as client:
        users = [fresh(client) for _ in range(8)]
    readers = [Reading(users, seed) for seed in range(2)]
    with ExitStack() as load:
        for reader in readers:
            load.enter_context(Writing(service, reader))
        for _ in range(2):
            load.enter_context(Writing(service, lambda writer: betting(writer, users)))
        until(lambda: all(reader.places for reader in readers), within_s=60)
        happens(service)
        until(lambda: all(len(reader.places) > 20 for reader in readers), within_s=60)
    with Client(service) as client:  # a new connection: one that was idle for so long may be closed
        for reader in readers:
            judge(client, reader.heard)

        def answers() -> bool:
            before = hits_of(service)
            client.read(f"/v1/wallets/{users[0]}")
            return hits_of(service) > before

        until(answers)
        compared = client.read(f"/v1/wallets/{users[0]}", min_position=positions(own_end(client, users[0])))
        del compared["as_of"]
        assert compared == client.reads().wallet(users[0])


def own_end(client: Client, user_id: str) -> Cut:
    return cut_of(client.read(f"/v1/wallets/{user_id}", consistency="strong"))


@contextlib.contextmanager
def cached_service(tmp_path: Path, redis: Redis) -> Iterator[Service]:
    with Service(tmp_path / "data", PARTITIONS=str(PARTITIONS), CACHE=redis.url) as service:
        yield service
    assert "Traceback" not in service.log_text()
    assert "internal_error" not in service.log_text()


def test_reads_are_right_while_redis_is_killed_and_comes_back(tmp_path: Path, own_redis: Redis) -> None:
    def happens(service: Service) -> None:
        for _ in range(2):
            own_redis.kill()
            time.sleep(0.7)
            own_redis.start()
            time.sleep(1.5)

    with cached_service(tmp_path, own_redis) as service:
        with_reads_and_bets(service, happens)
        found = counted(service)
        assert sum(number for (_, outcome), number in found.items() if outcome == "error") >= 2
        assert sum(number for (_, outcome), number in found.items() if outcome == "away") > 0
    assert service.log_text().count("cache of aggregates unavailable") >= 2, "the service and its follower say so"
    assert "cache of aggregates available again" in service.log_text()


def test_reads_are_right_while_redis_hangs(tmp_path: Path, own_redis: Redis) -> None:
    def happens(service: Service) -> None:
        for pause_s in (0.1, 0.6, 1.2):
            own_redis.pause()
            time.sleep(pause_s)
            own_redis.resume()
            time.sleep(0.8)

    with cached_service(tmp_path, own_redis) as service:
        with_reads_and_bets(service, happens)


def test_reads_are_right_while_redis_loses_all(tmp_path: Path, own_redis: Redis) -> None:
    def happens(service: Service) -> None:
        for _ in range(10):
            empty(own_redis.url)
            time.sleep(0.15)

    with cached_service(tmp_path, own_redis) as service:
        with_reads_and_bets(service, happens)


def test_reads_are_right_while_followers_are_killed(tmp_path: Path, own_redis: Redis) -> None:
    """Between a commit and the word to the cache, too."""

    def happens(service: Service) -> None:
        for _ in range(3):
            follower_of(service).kill()
            time.sleep(0.7)

    with cached_service(tmp_path, own_redis) as service:
        with_reads_and_bets(service, happens)


def test_reads_are_right_while_a_rebuild_goes_live(tmp_path: Path, own_redis: Redis) -> None:
    def happens(service: Service) -> None:
        done = program(service.data, "project", "rebuild", "--workers", "1", timeout_s=180)
        assert done.returncode == 0, done.stdout + done.stderr

    with cached_service(tmp_path, own_redis) as service:
        with_reads_and_bets(service, happens)


def test_a_service_without_its_redis_serves_and_uses_it_once_it_is_there(tmp_path: Path, own_redis: Redis) -> None:
    own_redis.kill()
    with cached_service(tmp_path, own_redis) as service, Client(service) as client:
        wallet = fresh(client)
        assert client.read(f"/v1/wallets/{wallet}")["balances"]["INR"]["cash"] == 1_000_000
        assert "stakelog_cache_up 0.0" in client.ask("/metrics").body.decode()
        own_redis.start()

        def answers() -> bool:
            client.read(f"/v1/wallets/{wallet}")
            return hits_of(service) > 0

        until(answers)
        assert "stakelog_cache_up 1.0" in client.ask("/metrics").body.decode()


def test_two_ledgers_that_share_a_redis_by_mistake_never_tell_of_each_other(tmp_path: Path, own_redis: Redis) -> None:
    with ExitStack() as both:
        services = [both.enter_context(cached_service(tmp_path / name, own_redis)) for name in ("one", "two")]
        clients = [both.enter_context(Client(service)) for service in services]
        for client, amount in zip(clients, (1_000, 2_000), strict=True):
            client.post("anna", "open_wallet")
            deposited = client.post("anna", "deposit", order_id="o1", **inr(amount))
            client.read("/v1/wallets/anna", min_position=deposited["position"])
        for _ in range(100):
            for client, amount in zip(clients, (1_000, 2_000), strict=True):
                assert client.read("/v1/wallets/anna")["balances"]["INR"]["cash"] == amount
