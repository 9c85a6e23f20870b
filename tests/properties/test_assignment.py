"""The assignment of partitions: for any reports of the nodes, and while nodes join, leave and catch up."""

import random
from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ledger.core.assignment import READY_BEHIND_MAX, Assignment, Member, assign

SEQ = 1_000_000


def settled(partitions: int, names: list[str], before: Assignment | None = None, *, rounds: int = 12) -> Assignment:
    """The last of ``rounds`` assignments; all standbys catch up after each one."""
    assigned = before or Assignment({}, {})
    for _ in range(rounds):
        assigned = assign(partitions, members_of(assigned, names))
    return assigned


def members_of(assigned: Assignment, names: list[str], *, caught_up: bool = True) -> dict[str, Member]:
    return {
        name: Member(
            f"http://{name}",
            {partition: SEQ for partition, owner in assigned.owners.items() if owner == name},
            {partition: SEQ for partition, standby in assigned.standbys.items() if standby == name and caught_up},
        )
        for name in names
    }


def names(count: int) -> list[str]:
    return [f"node-{number}" for number in range(count)]


def loads(assigned: Assignment, among: list[str]) -> list[int]:
    counts = Counter(assigned.owners.values())
    return sorted(counts[name] for name in among)


@st.composite
def any_cluster(draw: st.DrawFn) -> tuple[int, dict[str, Member]]:
    partitions = draw(st.integers(1, 40))
    places = st.dictionaries(
        st.integers(0, partitions + 1), st.integers(0, 2 * READY_BEHIND_MAX), max_size=partitions
    )
    some = draw(st.dictionaries(st.sampled_from(names(6)), st.tuples(places, places), min_size=1))
    return partitions, {name: Member(f"http://{name}", *of) for name, of in some.items()}


@given(any_cluster())
def test_every_partition_has_an_owner_and_another_node_as_standby(cluster: tuple[int, dict[str, Member]]) -> None:
    partitions, members = cluster
    assigned = assign(partitions, members)
    assert assigned == assign(partitions, dict(reversed(members.items())))
    assert sorted(assigned.owners) == list(range(partitions))
    assert set(assigned.owners.values()) <= set(members)
    assert sorted(assigned.standbys) == (list(range(partitions)) if len(members) > 1 else [])
    assert all(
        standby in members and standby != assigned.owners[partition]
        for partition, standby in assigned.standbys.items()
    )


@given(any_cluster())
@example(  # partition 0 moves twice, and the node in the middle does not report its state
    (
        5,
        {
            "node-0": Member("http://node-0", {}, {0: 1}),
            "node-1": Member("http://node-1", {}, {0: 0}),
            "node-2": Member("http://node-2", {0: READY_BEHIND_MAX + 1, 1: 0, 2: 0, 3: 0}),
        },
    )
)
def test_a_partition_leaves_a_present_owner_only_for_a_ready_node(
    cluster: tuple[int, dict[str, Member]],
) -> None:
    partitions, members = cluster
    assigned = assign(partitions, members)
    for partition in range(partitions):
        claims = {name: one.owned[partition] for name, one in members.items() if partition in one.owned}
        if not claims or assigned.owners[partition] in claims:
            continue
        reached = members[assigned.owners[partition]].ready.get(partition)
        assert reached is not None
        assert reached >= max(claims.values()) - READY_BEHIND_MAX


@given(st.integers(1, 70), st.integers(1, 7))
def test_the_assignment_is_even_once_all_nodes_have_caught_up(partitions: int, nodes: int) -> None:
    assigned = settled(partitions, names(nodes))
    found = loads(assigned, names(nodes))
    assert found[-1] - found[0] <= 1
    assert assign(partitions, members_of(assigned, names(nodes))) == assigned, "nothing moves any more"


@pytest.mark.parametrize(("partitions", "nodes"), [(16, 3), (16, 2), (12, 4), (64, 5), (7, 3), (1, 3)])
def test_the_partitions_of_a_node_that_leaves_go_to_their_standbys(partitions: int, nodes: int) -> None:
    before = settled(partitions, names(nodes))
    for gone in names(nodes):
        left = [name for name in names(nodes) if name != gone]
        after = assign(partitions, members_of(before, left))
        of_gone = [partition for partition, owner in before.owners.items() if owner == gone]
        assert all(after.owners[partition] == before.standbys[partition] for partition in of_gone)
        moved = [one for one, owner in before.owners.items() if owner not in (gone, after.owners[one])]
        assert all(after.owners[one] == before.standbys[one] for one in moved), (
            "only to even the load, and only to a ready node"
        )
        found = loads(after, left)
        assert found[-1] - found[0] <= 2


def test_a_new_node_is_first_a_standby_and_owns_its_share_once_it_has_caught_up() -> None:
    before = settled(16, names(3))
    with_new = [*names(3), "node-9"]
    first = assign(16, members_of(before, with_new))
    assert first.owners == before.owners, "nothing moves to a node that is not ready"
    planned = [partition for partition, standby in first.standbys.items() if standby == "node-9"]
    assert len(planned) >= 4
    second = assign(16, members_of(first, with_new))
    assert loads(second, with_new) == [4, 4, 4, 4]
    assert {partition for partition, owner in second.owners.items() if owner == "node-9"} <= set(planned)


def test_after_random_joins_and_leaves_the_assignment_is_even() -> None:
    chance = random.Random(5)
    for _ in range(60):
        partitions, present = chance.randint(1, 40), names(chance.randint(1, 5))
        assigned = settled(partitions, present)
        for _ in range(6):
            if len(present) > 1 and chance.random() < 0.5:
                present.remove(chance.choice(present))
            else:
                present.append(f"new-{chance.random():.6f}")
            assigned = assign(partitions, members_of(assigned, present, caught_up=chance.random() < 0.7))
            assert set(assigned.owners.values()) <= set(present)
        found = loads(settled(partitions, present, assigned), present)
        assert found[-1] - found[0] <= 1
