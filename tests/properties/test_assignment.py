"""Partitions among nodes: whatever the nodes say, and as nodes come, go and catch up."""

import random
from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ledger.core.assignment import READY_BEHIND_MAX, Assignment, Member, assign

SEQ = 1_000_000


def settled(partitions: int, names: list[str], before: Assignment | None = None, *, rounds: int = 12) -> Assignment:
    """What it comes to when heirs catch up between one sharing and the next."""
    shares = before or Assignment({}, {})
    for _ in range(rounds):
        shares = assign(partitions, members_of(shares, names))
    return shares


def members_of(shares: Assignment, names: list[str], *, caught_up: bool = True) -> dict[str, Member]:
    return {
        name: Member(
            f"http://{name}",
            {partition: SEQ for partition, owner in shares.owners.items() if owner == name},
            {partition: SEQ for partition, heir in shares.standbys.items() if heir == name and caught_up},
        )
        for name in names
    }


def names(count: int) -> list[str]:
    return [f"node-{number}" for number in range(count)]


def loads(shares: Assignment, among: list[str]) -> list[int]:
    counts = Counter(shares.owners.values())
    return sorted(counts[name] for name in among)


@st.composite
def anything(draw: st.DrawFn) -> tuple[int, dict[str, Member]]:
    partitions = draw(st.integers(1, 40))
    places = st.dictionaries(
        st.integers(0, partitions + 1), st.integers(0, 2 * READY_BEHIND_MAX), max_size=partitions
    )
    some = draw(st.dictionaries(st.sampled_from(names(6)), st.tuples(places, places), min_size=1))
    return partitions, {name: Member(f"http://{name}", *of) for name, of in some.items()}


@given(anything())
def test_every_partition_has_an_owner_and_an_heir_who_is_another(asked: tuple[int, dict[str, Member]]) -> None:
    partitions, members = asked
    shares = assign(partitions, members)
    assert shares == assign(partitions, dict(reversed(members.items())))
    assert sorted(shares.owners) == list(range(partitions))
    assert set(shares.owners.values()) <= set(members)
    assert sorted(shares.standbys) == (list(range(partitions)) if len(members) > 1 else [])
    assert all(heir in members and heir != shares.owners[partition] for partition, heir in shares.standbys.items())


@given(anything())
@example(  # it is moved twice, and the one in the middle says nothing of where it was
    (
        5,
        {
            "node-0": Member("http://node-0", {}, {0: 1}),
            "node-1": Member("http://node-1", {}, {0: 0}),
            "node-2": Member("http://node-2", {0: READY_BEHIND_MAX + 1, 1: 0, 2: 0, 3: 0}),
        },
    )
)
def test_a_partition_leaves_an_owner_who_is_there_only_for_one_that_is_ready(
    asked: tuple[int, dict[str, Member]],
) -> None:
    partitions, members = asked
    shares = assign(partitions, members)
    for partition in range(partitions):
        said = {name: one.owned[partition] for name, one in members.items() if partition in one.owned}
        if not said or shares.owners[partition] in said:
            continue
        reached = members[shares.owners[partition]].ready.get(partition)
        assert reached is not None
        assert reached >= max(said.values()) - READY_BEHIND_MAX


@given(st.integers(1, 70), st.integers(1, 7))
def test_shares_are_even_once_all_have_caught_up(partitions: int, nodes: int) -> None:
    shares = settled(partitions, names(nodes))
    found = loads(shares, names(nodes))
    assert found[-1] - found[0] <= 1
    assert assign(partitions, members_of(shares, names(nodes))) == shares, "and nothing moves any more"


@pytest.mark.parametrize(("partitions", "nodes"), [(16, 3), (16, 2), (12, 4), (64, 5), (7, 3), (1, 3)])
def test_who_leaves_is_inherited_by_the_heirs(partitions: int, nodes: int) -> None:
    before = settled(partitions, names(nodes))
    for gone in names(nodes):
        left = [name for name in names(nodes) if name != gone]
        after = assign(partitions, members_of(before, left))
        inherited = [partition for partition, owner in before.owners.items() if owner == gone]
        assert all(after.owners[partition] == before.standbys[partition] for partition in inherited)
        moved = [one for one, owner in before.owners.items() if owner not in (gone, after.owners[one])]
        assert all(after.owners[one] == before.standbys[one] for one in moved), (
            "to even out, and only to a ready node"
        )
        found = loads(after, left)
        assert found[-1] - found[0] <= 2


def test_who_comes_is_an_heir_first_and_gets_its_share_when_it_has_caught_up() -> None:
    before = settled(16, names(3))
    came = [*names(3), "node-9"]
    first = assign(16, members_of(before, came))
    assert first.owners == before.owners, "nothing moves to a node that is not ready"
    promised = [partition for partition, heir in first.standbys.items() if heir == "node-9"]
    assert len(promised) >= 4
    second = assign(16, members_of(first, came))
    assert loads(second, came) == [4, 4, 4, 4]
    assert {partition for partition, owner in second.owners.items() if owner == "node-9"} <= set(promised)


def test_nodes_that_come_and_go_at_random_end_even() -> None:
    chance = random.Random(5)
    for _ in range(60):
        partitions, there = chance.randint(1, 40), names(chance.randint(1, 5))
        shares = settled(partitions, there)
        for _ in range(6):
            if len(there) > 1 and chance.random() < 0.5:
                there.remove(chance.choice(there))
            else:
                there.append(f"came-{chance.random():.6f}")
            shares = assign(partitions, members_of(shares, there, caught_up=chance.random() < 0.7))
            assert set(shares.owners.values()) <= set(there)
        found = loads(settled(partitions, there, shares), there)
        assert found[-1] - found[0] <= 1
