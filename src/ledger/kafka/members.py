"""The members of a consumer group, as its coordinator describes them; no need to join the group."""

from typing import Any, Final, NamedTuple

from aiokafka.client import CoordinationType
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.admin import DescribeGroupsRequest

from ledger.errors import LogUnavailable
from ledger.kafka.address import KafkaAddress
from ledger.kafka.connection import new_client
from ledger.kafka.retry import retry_until

NODES_GROUP: Final = "stakelog-nodes"
"""The group of the nodes, which assigns the partitions: its members may write."""

STABLE: Final = "Stable"
WITHOUT_MEMBERS: Final = ("Empty", "Dead")


class Member(NamedTuple):
    """One member: the name it chose, its host, and its partitions of each topic."""

    member_id: str
    client_id: str
    host: str
    partitions: frozenset[tuple[str, int]]

    def __str__(self) -> str:
        return f"{self.client_id} at {self.host.lstrip('/')}"


class Group(NamedTuple):
    """Kafka's name for the group's state, and the members; none where there is no such group."""

    state: str
    members: list[Member]


async def members_of(address: KafkaAddress, group: str, *, timeout_s: float) -> list[Member]:
    """Return the group's members; [] if there is no such group. Raises LogUnavailable."""
    client = new_client(**address.client_options(), request_timeout_ms=int(timeout_s * 1_000))
    try:
        await client.bootstrap()
        return (await describe(client, address, group, timeout_s=timeout_s)).members
    except (KafkaError, OSError) as error:
        raise LogUnavailable(address.unreachable(error)) from error
    finally:
        await client.close()


async def describe(client: Any, address: KafkaAddress, group: str, *, timeout_s: float) -> Group:
    """Return the group's state and members. Raises LogUnavailable."""

    async def described() -> Group:
        # The first request to a new cluster makes it create the topic of its coordinators, and fails.
        coordinator = await client.coordinator_lookup(CoordinationType.GROUP, group)
        response = await client.send(coordinator, DescribeGroupsRequest([group]))
        code, _, state, _, _, members, *_ = response.groups[0]
        error = for_code(code)
        if error.errno != 0:
            raise error(group)
        return Group(str(state), [_member(*member) for member in members])

    return await retry_until(
        timeout_s, described, client=client, failure=f"{address} does not describe the group {group}"
    )


def _member(member_id: str, client_id: str, host: str, _metadata: bytes, assignment: bytes) -> Member:
    places = ConsumerProtocolMemberAssignment.decode(assignment).partitions() if assignment else []
    return Member(member_id, client_id, host, frozenset((place.topic, place.partition) for place in places))
