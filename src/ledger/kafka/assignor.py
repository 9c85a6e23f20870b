"""How the group of the nodes divides the partitions: ``ledger.core.assignment`` behind aiokafka's assignor.

A node that joins sends what it has and what it is ready for; the member that Kafka made the group's leader divides,
and sends each node, with its own part, who has everything and who is whose heir. So after a rebalance every node
knows every owner without having to ask.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from msgspec import Struct

from ledger.core.assignment import Member, assign

_VERSION: Final = 0

_log = logging.getLogger(__name__)


class Division(Struct, frozen=True):
    """Partition → address: of its owner, and of its heir."""

    owners: dict[int, str]
    heirs: dict[int, str]


class SharingAssignor:
    """One consumer's assignor: aiokafka's ``AbstractPartitionAssignor``, whose methods it calls on an object, too."""

    name = "stakelog"

    def __init__(self, topic: str, describe: Callable[[], Member], told: Callable[[Division], None]) -> None:
        """``describe`` says what this node has, each time it joins; ``told`` hears each division."""
        self._topic, self._describe, self._told = topic, describe, told

    def metadata(self, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        return ConsumerProtocolMemberMetadata(_VERSION, sorted(topics), msgspec.json.encode(self._describe()))

    def assign(
        self, cluster: Any, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        said = {member: _member(member, metadata.user_data) for member, metadata in members.items()}
        for address, number in Counter(member.address for member in said.values()).items():
            if number > 1:
                _log.warning(
                    "%d members of the group are at %s: one of them was killed and will be forgotten, or "
                    "STAKELOG_ADVERTISE of two nodes is the same, and nobody reaches the one of them",
                    number,
                    address,
                )
        assigned = assign(len(cluster.partitions_for_topic(self._topic) or ()), said)
        division = msgspec.json.encode(
            Division(
                {partition: said[owner].address for partition, owner in assigned.owners.items()},
                {partition: said[standby].address for partition, standby in assigned.standbys.items()},
            )
        )
        own: dict[str, list[int]] = {member: [] for member in members}
        for partition, owner in sorted(assigned.owners.items()):
            own[owner].append(partition)
        return {
            member: ConsumerProtocolMemberAssignment(_VERSION, [(self._topic, partitions)], division)
            for member, partitions in own.items()
        }

    def on_assignment(self, assignment: ConsumerProtocolMemberAssignment) -> None:
        self._told(msgspec.json.decode(assignment.user_data, type=Division))


def _member(name: str, said: bytes) -> Member:
    """A node of a version that says something else still gets its part."""
    try:
        return msgspec.json.decode(said, type=Member)
    except msgspec.MsgspecError as error:
        _log.warning("the node %s says nothing that is understood of what it has: %s", name, error)
        return Member(name)
