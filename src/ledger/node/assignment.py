"""Who gets which partition: a pure function of what the nodes say of themselves.

To take a partition over from nothing takes seconds; from a state that is nearly there, milliseconds. So each
partition has, beside its owner, an *heir*: a node that keeps the partition's state ready. Truths:
(1) while there is a node, every partition has one owner; while there are two, every partition has an heir besides;
(2) an owner that is still there keeps its partition, unless it has two more than another node and that one is ready
    for it: a node that has just come is made an heir first, and becomes the owner once it has caught up;
(3) what nobody has goes to the node that is furthest with it, of those that have no more than their share;
(4) the partitions of one owner have heirs that are spread over all the others, so that nobody inherits alone.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from msgspec import Struct

READY_BEHIND_MAX: Final = 5_000
"""Events by which an heir may be behind and still be ready. Chosen: a fifth of a second of replay."""

_May = Callable[[int, str], bool]


class Member(Struct, frozen=True):
    """What a node says of itself. ``owned``: partition → the seq that its writer has reached; ``ready``: partition of
    others → the seq up to which its state is true."""

    address: str
    owned: dict[int, int] = {}
    ready: dict[int, int] = {}


class Shares(Struct, frozen=True):
    """Partition → the id of a member."""

    owners: dict[int, str]
    heirs: dict[int, str]


def share(partitions: int, members: Mapping[str, Member]) -> Shares:
    """Divide ``partitions`` among ``members``, by their ids. The same answer for the same arguments."""
    assert members, "somebody must take them"
    sharing = _Sharing(partitions, members)
    sharing.keep()
    sharing.give_away()
    sharing.even_out()
    heirs = sharing.heirs()
    return Shares(sharing.owners, heirs)


class _Sharing:
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

    def keep(self) -> None:
        """Whoever says to have a partition keeps it; of two who say so, the one that is further."""
        claims: dict[int, tuple[int, str]] = {}
        for name in self._ids:
            for partition, seq in self._members[name].owned.items():
                if partition < self._partitions and (seq, name) > claims.get(partition, (-1, "")):
                    claims[partition] = seq, name
        for partition, (seq, name) in sorted(claims.items()):
            self._give(partition, name)
            self._reached[partition] = seq

    def give_away(self) -> None:
        """What nobody has. The best prepared node for any of them chooses first."""
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
        """One more than its share is less harm than seconds without an owner."""
        return self._loads[name] <= self._share

    def even_out(self) -> None:
        """Move partitions to nodes that have at least two fewer and are ready."""
        while (move := next(self._moves(self._is_ready), None)) is not None:
            self._give(*move)

    def _moves(self, may: _May) -> Iterator[tuple[int, str]]:
        """The moves that make loads more even, the best first."""
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
        """Whether ``name`` is as far with it as its owner, nearly."""
        reached = self._members[name].ready.get(partition)
        return reached is not None and reached >= self._reached.get(partition, 0) - READY_BEHIND_MAX

    def heirs(self) -> dict[int, str]:
        """First of those that a node should have and is not ready for; then of all, evenly."""
        if len(self._ids) < 2:
            return {}
        heirs = self._promised()
        pairs: Counter[tuple[str, str]] = Counter((self.owners[one], heir) for one, heir in heirs.items())
        loads: Counter[str] = Counter(heirs.values())
        for settled in (True, False):  # first whoever has begun already, where that is no more than its part
            for partition, owner in sorted(self.owners.items()):
                if partition in heirs:
                    continue
                others = [name for name in self._ids if name != owner]
                if settled:
                    most = -(-self._loads[owner] // len(others))
                    others = [
                        name
                        for name in others
                        if partition in self._members[name].ready and pairs[owner, name] < most
                    ]
                if not others:
                    continue
                ready = {name: self._members[name].ready.get(partition, -1) for name in others}
                if settled:
                    heir = max(others, key=lambda name: (ready[name], name))
                else:
                    heir = min(others, key=lambda name: (pairs[owner, name], loads[name], -ready[name], name))
                heirs[partition] = heir
                pairs[owner, heir] += 1
                loads[heir] += 1
        return heirs

    def _promised(self) -> dict[int, str]:
        """Partition → the node that should have it once it is ready."""
        promised: dict[int, str] = {}
        owners, loads = dict(self.owners), Counter(self._loads)
        while (move := next(self._moves(lambda partition, _: partition not in promised), None)) is not None:
            promised[move[0]] = move[1]
            self._give(*move)
        self.owners, self._loads = owners, loads
        return promised
