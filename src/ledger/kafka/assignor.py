"""How the group of the nodes assigns the partitions: ``ledger.core.assignment`` behind aiokafka's assignor.

A node that joins sends the partitions it owns and those it is ready for. The member that Kafka chose as the group's
leader assigns, and sends each node its part together with all owners and standbys. So after a rebalance every node
knows every owner without a request.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from msgspec import Struct, field

from ledger.core.assignment import Member, assign

_VERSION: Final = 0

_log = logging.getLogger(__name__)


class Division(Struct, frozen=True):
    """Partition → address: of its owner, and of its standby."""

    owners: dict[int, str]
    standbys: dict[int, str] = field(name="heirs")  # the name that nodes of earlier versions know


class StakelogAssignor:
    """One member's assignor, for aiokafka's ``AbstractPartitionAssignor``: its methods may be an object's, too."""

    name = "stakelog"

    def __init__(self, topic: str, describe: Callable[[], Member], on_division: Callable[[Division], None]) -> None:
        """``describe`` returns this node's progress, each time it joins; ``on_division`` receives each division."""
        self._topic, self._describe, self._on_division = topic, describe, on_division

    def metadata(self, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        return ConsumerProtocolMemberMetadata(_VERSION, sorted(topics), msgspec.json.encode(self._describe()))

    def assign(
        self, cluster: Any, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        described = {member: _member(member, metadata.user_data) for member, metadata in members.items()}
        for address, number in Counter(member.address for member in described.values()).items():
            if number > 1:
                _log.warning(
                    "%d members of the group have the address %s: either one was killed, and is removed after its "
                    "session time-out, or two nodes have the same STAKELOG_ADVERTISE, so one is unreachable",
                    number,
                    address,
                )
        assigned = assign(len(cluster.partitions_for_topic(self._topic) or ()), described)
        division = msgspec.json.encode(
            Division(
                {partition: described[owner].address for partition, owner in assigned.owners.items()},
                {partition: described[standby].address for partition, standby in assigned.standbys.items()},
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
        self._on_division(msgspec.json.decode(assignment.user_data, type=Division))


def _member(name: str, described: bytes) -> Member:
    """A node of a version that sends another description still gets its part."""
    try:
        return msgspec.json.decode(described, type=Member)
    except msgspec.MsgspecError as error:
        _log.warning("the description that the node %s sent of itself cannot be read: %s", name, error)
        return Member(name)
