"""Rate limits: how much a key may spend, which bucket a request counts in, and what several nodes allow together."""

import random
from collections.abc import Mapping
from typing import Any

import pytest

from api.identity.identity import WITHOUT_LOGIN, Identity
from api.limits.addresses import address_of, read_networks
from api.limits.buckets import KEYS_MAX, Buckets, Limited, Policy
from api.limits.limits import ADD_UP_S, LOGINS_OF_ADDRESS, Limits, Rates
from api.limits.ports import SharedUnavailable

SERVER = Identity("server-1", "game_server")
PLAYER = Identity("server-1", "player", user_id="u1")


class SteppedClock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


class SumsInMemory:
    """What the nodes share, as the script in Redis computes it. ``tests/conformance`` compares both."""

    def __init__(self, clock_s: SteppedClock) -> None:
        self._clock_s = clock_s
        self._full_at_s: dict[str, float] = {}
        self.available = True

    async def add(self, spent_s: Mapping[str, float]) -> dict[str, float]:
        if not self.available:
            raise SharedUnavailable("away")
        now_s = self._clock_s()
        for key, seconds in spent_s.items():
            self._full_at_s[key] = max(self._full_at_s.get(key, 0.0), now_s) + seconds
        return {key: max(0.0, self._full_at_s[key] - now_s) for key in spent_s}

    async def close(self) -> None:
        pass


@pytest.fixture
def clock_s() -> SteppedClock:
    return SteppedClock()


def spent(buckets: Buckets, key: str, tries: int) -> int:
    return sum(buckets.spend(key) is None for _ in range(tries))


def test_a_key_spends_its_burst_and_then_its_rate(clock_s: SteppedClock) -> None:
    buckets = Buckets(Policy("client", 2, 10), clock_s)
    assert spent(buckets, "a", 20) == 10
    limited = buckets.spend("a")
    assert isinstance(limited, Limited)
    assert limited.wait_s == pytest.approx(0.5)
    clock_s.now_s += 3
    assert spent(buckets, "a", 20) == 6
    assert spent(buckets, "b", 20) == 10, "another key has a bucket of its own"


def test_a_refused_request_spends_nothing(clock_s: SteppedClock) -> None:
    buckets = Buckets(Policy("client", 2, 10), clock_s)
    assert buckets.spend("a", 8) is None
    assert buckets.spend("a", 3) is not None
    assert buckets.spend("a", 2) is None


def test_a_request_larger_than_the_bucket_passes_when_it_is_full_and_is_paid_off(clock_s: SteppedClock) -> None:
    buckets = Buckets(Policy("user", 2, 10), clock_s)
    assert buckets.spend("a", 30) is None
    for _ in range(10):
        clock_s.now_s += 1
        assert buckets.spend("a") is None if clock_s.now_s > 1_010.4 else buckets.spend("a") is not None
    clock_s.now_s += 1
    assert buckets.spend("a") is None


def test_the_rate_0_is_without_limit(clock_s: SteppedClock) -> None:
    assert spent(Buckets(Policy("client", 0, 0), clock_s), "a", 1_000) == 1_000


def test_what_is_given_back_can_be_spent(clock_s: SteppedClock) -> None:
    buckets = Buckets(Policy("login", 1, 3), clock_s)
    assert spent(buckets, "a", 5) == 3
    buckets.give_back("a")
    assert spent(buckets, "a", 5) == 1


def test_no_schedule_of_requests_spends_more_than_the_bound(clock_s: SteppedClock) -> None:
    policy = Policy("client", 5, 20)
    for seed in range(30):
        rng = random.Random(seed)
        buckets, passed = Buckets(policy, clock_s), list[tuple[float, int]]()
        for _ in range(400):
            clock_s.now_s += rng.choice((0, 0, 0.01, 0.3, 2, 30))
            tokens = rng.randint(1, 20)
            if buckets.spend("a", tokens) is None:
                passed.append((clock_s.now_s, tokens))
        for begin, (began_s, _) in enumerate(passed):
            total = 0
            for at_s, tokens in passed[begin:]:
                total += tokens
                assert total <= policy.burst + policy.per_s * (at_s - began_s) + 0.01, seed


def test_buckets_are_remembered_while_they_fill_and_forgotten_when_they_are_full(clock_s: SteppedClock) -> None:
    buckets = Buckets(Policy("user", 100, 1_000), clock_s)
    buckets.spend("slow", 1_000)
    for second in range(1, 8):
        clock_s.now_s += 1
        for number in range(100):
            buckets.spend(f"{second}-{number}")
    limited = buckets.spend("slow", 1_000)
    assert limited is not None
    assert limited.wait_s == pytest.approx(3)
    for _ in range(3):
        clock_s.now_s += 11
        buckets.spend("other")
    assert len(buckets) == 2, "the key `other`, twice"


@pytest.mark.system
def test_the_number_of_keys_in_memory_is_bounded(clock_s: SteppedClock) -> None:
    buckets = Buckets(Policy("address", 1, 10), clock_s)
    for number in range(2 * KEYS_MAX + 10):
        buckets.spend(str(number))
    assert len(buckets) <= 2 * KEYS_MAX + 2


def test_before_login_the_address_counts(clock_s: SteppedClock) -> None:
    limits = Limits(Rates(address=1), clock_s=clock_s)
    assert sum(limits.spend_address("192.0.2.1") is None for _ in range(20)) == 10
    assert limits.spend_address("192.0.2.2") is None
    limits.give_back_address("192.0.2.1")
    assert limits.spend_address("192.0.2.1") is None, "a request with a valid token is given back"


def test_a_batch_counts_its_commands(clock_s: SteppedClock) -> None:
    limits = Limits(Rates(client=100), clock_s=clock_s)
    assert limits.spend(SERVER, 999) is None
    assert limits.spend(SERVER, 2) is not None
    assert limits.spend(SERVER) is None


def test_a_player_cannot_use_up_what_the_game_server_needs_for_that_player(clock_s: SteppedClock) -> None:
    limits = Limits(Rates(client=1_000, user=1), clock_s=clock_s)
    while limits.spend(PLAYER) is None:
        assert limits.spend_user(PLAYER, "u1") is None
    assert sum(limits.spend_user(SERVER, "u1") is None for _ in range(20)) == 10
    limited = limits.spend_user(SERVER, "u1")
    assert limited is not None
    assert limited.policy.name == "user"
    assert limits.spend_user(SERVER, "u2") is None


def test_without_login_there_are_no_limits(clock_s: SteppedClock) -> None:
    limits = Limits(Rates(client=1, user=1), clock_s=clock_s)
    assert all(limits.spend(WITHOUT_LOGIN) is None for _ in range(1_000))
    assert all(limits.spend_user(WITHOUT_LOGIN, "u1") is None for _ in range(1_000))


def test_failed_logins_are_slowed_for_one_client_from_one_address(clock_s: SteppedClock) -> None:
    limits = Limits(Rates(login_per_min=10), clock_s=clock_s)
    tried = sum(limits.try_login("192.0.2.1", "server-1") is None for _ in range(1_000))
    assert tried == 10
    assert limits.try_login("192.0.2.1", "server-2") is None, "another client at the same address"
    assert limits.try_login("192.0.2.2", "server-1") is None, "the same client from another address"
    clock_s.now_s += 60
    assert sum(limits.try_login("192.0.2.1", "server-1") is None for _ in range(1_000)) == 10


def test_an_address_cannot_go_through_the_names_of_clients(clock_s: SteppedClock) -> None:
    limits = Limits(Rates(login_per_min=10), clock_s=clock_s)
    tried = sum(limits.try_login("192.0.2.1", f"guess-{number}") is None for number in range(1_000))
    assert tried == 10 * LOGINS_OF_ADDRESS


def test_logins_that_succeed_are_not_slowed(clock_s: SteppedClock) -> None:
    limits = Limits(Rates(login_per_min=10), clock_s=clock_s)
    for _ in range(1_000):
        assert limits.try_login("192.0.2.1", "server-1") is None
        limits.give_back_login("192.0.2.1", "server-1")


async def test_nodes_that_add_up_allow_no_more_than_the_stated_bound(clock_s: SteppedClock) -> None:
    per_s, nodes = 100, 3
    shared = SumsInMemory(clock_s)
    limits = [Limits(Rates(client=per_s), shared, clock_s=clock_s) for _ in range(nodes)]
    burst, passed, began_s = limits[0].client.policy.burst, 0, clock_s.now_s
    for step in range(2_000):
        clock_s.now_s += 0.01
        for node in limits:
            passed += sum(node.spend(SERVER) is None for _ in range(5))
            if step % round(ADD_UP_S / 0.01) == 0:
                await node.add_up(shared)
        took_s = clock_s.now_s - began_s
        assert passed <= burst + per_s * took_s + (nodes - 1) * (burst + per_s * ADD_UP_S) + nodes
    assert passed <= burst + per_s * took_s * 1.05, "in the long run all nodes together have one rate"


async def test_while_redis_is_away_each_node_allows_the_whole_limit_and_the_metric_says_so(
    clock_s: SteppedClock,
) -> None:
    shared = SumsInMemory(clock_s)
    limits = [Limits(Rates(client=10), shared, clock_s=clock_s) for _ in range(2)]
    shared.available = False
    for node in limits:
        assert sum(node.spend(SERVER) is None for _ in range(200)) == 100
        await node.add_up(shared)
        assert node.is_shared is False
    shared.available = True
    clock_s.now_s += 5
    for node in limits:
        assert sum(node.spend(SERVER) is None for _ in range(200)) == 50
        await node.add_up(shared)
        assert node.is_shared is True
    clock_s.now_s += 9
    assert [node.spend(SERVER) is None for node in limits] == [True, True], "nothing of the outage is charged"


def scope(peer: str, *forwarded: str) -> Any:
    return {
        "client": (peer, 1),
        "headers": [(b"host", b"x"), *((b"x-forwarded-for", text.encode()) for text in forwarded)],
    }


@pytest.mark.parametrize(
    ("trusted", "peer", "forwarded", "address"),
    [
        ("", "192.0.2.9", ("198.51.100.1",), "192.0.2.9"),
        ("10.0.0.0/8", "192.0.2.9", ("198.51.100.1",), "192.0.2.9"),
        ("10.0.0.0/8", "10.0.0.1", ("198.51.100.1",), "198.51.100.1"),
        ("10.0.0.0/8", "10.0.0.1", ("203.0.113.5, 198.51.100.1",), "198.51.100.1"),
        ("10.0.0.0/8", "10.0.0.1", ("203.0.113.5", "198.51.100.1, 10.0.0.2"), "198.51.100.1"),
        ("10.0.0.0/8", "10.0.0.1", (), "10.0.0.1"),
        ("10.0.0.0/8", "10.0.0.1", ("unknown",), "10.0.0.1"),
        ("10.0.0.0/8", "10.0.0.1", ("1" * 5_000,), "10.0.0.1"),
        ("10.0.0.0/8", "10.0.0.1", ("10.0.0.3",), "10.0.0.3"),
        ("::1, 10.0.0.1", "::1", ("2001:db8:1:2:3::4",), "2001:db8:1:2::/64"),
        ("", "2001:db8:1:2:ffff::1", (), "2001:db8:1:2::/64"),
        ("10.0.0.0/8", "::ffff:10.0.0.1", ("198.51.100.1",), "198.51.100.1"),
    ],
)
def test_the_address_is_the_last_one_that_no_trusted_proxy_has(
    trusted: str, peer: str, forwarded: tuple[str, ...], address: str
) -> None:
    assert address_of(scope(peer, *forwarded), read_networks(trusted)) == address


def test_a_network_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="does not appear"):
        read_networks("10.0.0.0/8,proxy.local")
