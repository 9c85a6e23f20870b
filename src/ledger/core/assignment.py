"""Which node owns which partition: a pure function of what the nodes report of themselves.

Opening a partition without a state takes seconds; with a state that is nearly up to date, milliseconds. So each
partition has, besides its owner, a *standby*: a node that keeps the partition's state ready.

The module is in ``core`` because it is pure, and the adapter of the nodes' group calls it.

Invariants:
(1) every partition has one owner, and, where there are at least two nodes, one standby that is not its owner;
(2) members keep the partitions that they claim, unless a member owns two more than another one that is ready for the
    partition. A node that has just joined first becomes a standby, and becomes the owner once it has caught up;
(3) a partition without an owner goes to the node with the newest state of it, among those that do not exceed their
    share;
(4) the partitions of one owner have standbys on all other nodes evenly, so no single node takes over all of them.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from msgspec import Struct

READY_BEHIND_MAX: Final = 5_000
"""How many events a standby may be behind and still be ready. Chosen: a fifth of a second of replay."""

_May = Callable[[int, str], bool]


class Member(Struct, frozen=True):
    """What a node reports of itself. ``owned``: partition → the last seq of its writer; ``ready``: partition of
    which it is the standby → the last seq in its state."""

    address: str
    owned: dict[int, int] = {}
    ready: dict[int, int] = {}


class Assignment(Struct, frozen=True):
    """Partition → the id of a member."""

    owners: dict[int, str]
    standbys: dict[int, str]


def assign(partitions: int, members: Mapping[str, Member]) -> Assignment:
    """Assign ``partitions`` to ``members``, by their ids. Equal arguments give equal results."""
    assert members, "there is at least one node"
    assigning = _Assigning(partitions, members)
    assigning.keep_claims()
    assigning.assign_rest()
    assigning.even_out()
    standbys = assigning.standbys()
    return Assignment(assigning.owners, standbys)


class _Assigning:
    def __init__(self, partitions: int, members: Mapping[str, Member]) -> None:
        self._partitions, self._members = partitions, members
        self._ids = sorted(members)
        self._share = -(-partitions // len(members))
        self.owners: dict[int, str] = {}
        self._reached: dict[int, int] = {}
        self._loads: Counter[str] = Counter(dict.fromkeys(self._ids, 0))

    def _give(self, partition: int, to: str) -> None:
        before = self.owners.get(partition)
        if before is not None:
            self._loads[before] -= 1
        self.owners[partition] = to
        self._loads[to] += 1

    def keep_claims(self) -> None:
        """Members keep the partitions that they claim; of two that claim one, the higher seq wins."""
        claims: dict[int, tuple[int, str]] = {}
        for name in self._ids:
            for partition, seq in self._members[name].owned.items():
                if partition < self._partitions and (seq, name) > claims.get(partition, (-1, "")):
                    claims[partition] = seq, name
        for partition, (seq, name) in sorted(claims.items()):
            self._give(partition, name)
            self._reached[partition] = seq

    def assign_rest(self) -> None:
        """Assign the partitions that no member claims, those with the newest state first."""
        wanted = [
            (-self._members[name].ready.get(partition, -1), partition, name)
            for partition in range(self._partitions)
            if partition not in self.owners
            for name in self._ids
        ]
        for unready, partition, name in sorted(wanted):
            if unready < 1 and partition not in self.owners and self._has_room(name):
                self._give(partition, name)
        for partition in range(self._partitions):
            if partition not in self.owners:
                self._give(partition, min((name for name in self._ids), key=lambda name: (self._loads[name], name)))

    def _has_room(self, name: str) -> bool:
        """One more than its share does less harm than seconds without an owner."""
        return self._loads[name] <= self._share

    def even_out(self) -> None:
        """Move partitions to nodes that own at least two fewer and are ready."""
        while (move := next(self._moves(self._is_ready), None)) is not None:
            self._give(*move)

    def _moves(self, may: _May) -> Iterator[tuple[int, str]]:
        """The moves (partition, new owner) that make the loads more even, the best first."""
        by_load = sorted(self._ids, key=lambda name: (self._loads[name], name))
        for to in by_load:
            for giver in reversed(by_load):
                if self._loads[giver] - self._loads[to] < 2:
                    break
                own = [partition for partition, owner in self.owners.items() if owner == giver and may(partition, to)]
                if own:
                    ready = self._members[to].ready
                    yield max(own, key=lambda partition: (ready.get(partition, -1), -partition)), to

    def _is_ready(self, partition: int, name: str) -> bool:
        """Whether the state of ``name`` is nearly as new as the owner's."""
        reached = self._members[name].ready.get(partition)
        return reached is not None and reached >= self._reached.get(partition, 0) - READY_BEHIND_MAX

    def standbys(self) -> dict[int, str]:
        """First for the partitions that a node should own and is not ready for; then for all, evenly."""
        if len(self._ids) < 2:
            return {}
        standbys = self._planned()
        pairs: Counter[tuple[str, str]] = Counter((self.owners[one], standby) for one, standby in standbys.items())
        loads: Counter[str] = Counter(standbys.values())
        for begun in (True, False):  # first the standbys that have begun already, up to an even part
            for partition, owner in sorted(self.owners.items()):
                if partition in standbys:
                    continue
                others = [name for name in self._ids if name != owner]
                if begun:
                    most = -(-self._loads[owner] // len(others))
                    others = [
                        name
                        for name in others
                        if partition in self._members[name].ready and pairs[owner, name] < most
                    ]
                if not others:
                    continue
                ready = {name: self._members[name].ready.get(partition, -1) for name in others}
                if begun:
                    standby = max(others, key=lambda name: (ready[name], name))
                else:
                    standby = min(others, key=lambda name: (pairs[owner, name], loads[name], -ready[name], name))
                standbys[partition] = standby
                pairs[owner, standby] += 1
                loads[standby] += 1
        return standbys

    def _planned(self) -> dict[int, str]:
        """Partition → the node that should own it once it is ready."""
        planned: dict[int, str] = {}
        owners, loads = dict(self.owners), Counter(self._loads)
        while (move := next(self._moves(lambda partition, _: partition not in planned), None)) is not None:
            planned[move[0]] = move[1]
            self._give(*move)
        self.owners, self._loads = owners, loads
        return planned
