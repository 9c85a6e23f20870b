"""Who owns which partition: one consumer group on the topic of the events, in which each node is a member.

``client_id`` is the node's advertised address, so a description of the group says where each owner can be reached.
Nothing is fetched by the group; only the coordinator's part of aiokafka is used.

Invariants:
(1) a change of the group stops no member: it keeps writing to its partitions until it receives a new assignment. The
    chain ensures that no other node's append counts during the change. So a dead member, for which the coordinator
    waits up to a session time-out, closes only its own partitions;
(2) a partition that a member keeps in the very next generation, under the same member id, had no other owner. After
    any other change it is lost first, and gained again;
(3) ``gain`` and ``lose`` are called by one task, in the order of the generations: while they run, the heartbeats
    continue;
(4) ``ledger.core.assignment`` assigns: partitions stay where they are, and move, to balance the load or when their
    owner has left, to a node that has their state ready. A member that is ready for more requests a rebalance;
(5) a member that lost its group joins it again or reports ``failed``: no background task ends unnoticed, and
    ``absent_for`` grows while the coordinator does not confirm the membership, whatever the reason.
"""

import asyncio
import logging
import time
from collections import Counter
from typing import Any, Final, NamedTuple

from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.errors import InvalidSessionTimeoutError, KafkaError

from ledger import background
from ledger.cluster_ports import Assignee
from ledger.core.assignment import Member
from ledger.errors import LedgerError, LogMisconfigured, LogUnavailable
from ledger.kafka.address import KafkaAddress
from ledger.kafka.assignor import Division, StakelogAssignor
from ledger.kafka.connection import new_client
from ledger.kafka.members import NODES_GROUP, STABLE, WITHOUT_MEMBERS, Group, describe

HEARTBEAT_MS: Final = 150
"""How often a member sends a heartbeat. Chosen: most of the time of a clean hand-over is the wait for the slowest
member's next heartbeat; one costs the coordinator microseconds."""

TIMEOUT_S: Final = 10.0
_RETRY_MS: Final = 50
_REFRESH_S: Final = 5.0
_LOOK_AGAIN_S: Final = 0.5
_LEAVE_WITHIN_S: Final = 3.0
_REBALANCE_S_MIN: Final = 2.0
_REBALANCE_S_MAX: Final = 60.0
"""How often, at most, a member requests a rebalance. Chosen: it stops no member, but may change nothing."""
_NEVER_MS: Final = 2**53
"""aiokafka leaves the group if nothing is fetched for this time."""

_log = logging.getLogger(__name__)


class _Assigned(NamedTuple):
    """What the group has assigned to this member."""

    partitions: frozenset[int]
    generation: int
    member_id: str
    standby: frozenset[int] = frozenset()


class _Coordinator(GroupCoordinator):  # type: ignore[misc]
    """aiokafka's part of a member, which remembers when the group last confirmed the membership."""

    def __init__(self, client: Any, subscription: SubscriptionState, **options: Any) -> None:
        super().__init__(client, subscription, **options)
        self.confirmed_at_s = time.monotonic()

    async def _do_heartbeat(self) -> bool:
        return self._note(await super()._do_heartbeat())

    async def _do_rejoin_group(self, subscription: Any) -> bool:
        return self._note(await super()._do_rejoin_group(subscription))

    def _note(self, confirmed: bool) -> bool:
        if confirmed:
            self.confirmed_at_s = time.monotonic()
        return confirmed


class KafkaOwners(ConsumerRebalanceListener):  # type: ignore[misc]
    """``Owners`` of one topic, which a log has created already."""

    def __init__(
        self,
        address: KafkaAddress,
        advertise: str,
        *,
        topic: str,
        group: str = NODES_GROUP,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """``advertise``: where other nodes reach this one. ``timeout_s``: the limit of one request to a broker."""
        self._address, self._topic, self._group, self._timeout_s = address, topic, group, timeout_s
        self._advertise = advertise
        self._options = address.client_options() | {
            "client_id": advertise,
            "request_timeout_ms": int(timeout_s * 1_000),
            "retry_backoff_ms": _RETRY_MS,
        }
        self._assignor = StakelogAssignor(topic, self._describe_self, self._on_division)
        self._assignee: Assignee | None = None
        self._division = Division({}, {})
        self._client: Any = None
        self._coordinator: _Coordinator | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._assignments: asyncio.Queue[_Assigned] = asyncio.Queue()
        self._current = _Assigned(frozenset(), -1, "")
        self._addresses: dict[int, str] = {}
        self._left = False
        self.failed: asyncio.Future[LedgerError] = asyncio.get_running_loop().create_future()

    # --- membership -----------------------------------------------------------------------------------------------

    async def begin(self, assignee: Assignee) -> None:
        self._assignee = assignee

    async def join(self) -> None:
        assignee = self._assignee
        assert assignee is not None, "begin comes first"
        self._client = new_client(**self._options)
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._client.bootstrap()
                await self._client.set_topics([self._topic])
        except (KafkaError, OSError, TimeoutError) as error:
            await self._client.close()
            self._client = None
            raise LogUnavailable(self._address.unreachable(error)) from error
        subscription = SubscriptionState()
        subscription.register_fetch_waiters(
            set()
        )  # nothing is fetched, but aiokafka wakes those that wait for records
        subscription.subscribe({self._topic}, listener=self)
        session_ms = self._address.session_timeout_ms
        self._coordinator = coordinator = _Coordinator(
            self._client,
            subscription,
            group_id=self._group,
            session_timeout_ms=session_ms,
            rebalance_timeout_ms=session_ms,
            heartbeat_interval_ms=HEARTBEAT_MS,
            retry_backoff_ms=_RETRY_MS,
            enable_auto_commit=False,
            assignors=(self._assignor,),
            max_poll_interval_ms=_NEVER_MS,
        )
        self._tasks = [
            background.start(self._pass_on(assignee), "owners-assignments", failed=self._on_failed),
            background.start(self._watch(coordinator), "owners-watch", failed=self._on_failed),
            background.start(self._request_more(coordinator, assignee), "owners-balance", failed=self._on_failed),
            background.start(self._keep_addresses(), "owners-addresses", failed=self._on_failed),
        ]

    async def leave(self) -> None:
        if self._left:
            return
        self._left = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._coordinator is not None:
            try:
                async with asyncio.timeout(_LEAVE_WITHIN_S):
                    await self._coordinator.close()
            except Exception as error:  # noqa: BLE001 - whatever it is, the client must be closed
                _log.warning("the group did not confirm that this node leaves; it notices by the time-out: %r", error)
        if self._client is not None:
            await self._client.close()

    def on_partitions_revoked(self, revoked: Any) -> None:
        """Does nothing: see invariant (1)."""

    def on_partitions_assigned(self, assigned: "set[TopicPartition]") -> None:
        partitions = frozenset(place.partition for place in assigned if place.topic == self._topic)
        standbys = self._division.standbys.items()
        standby = frozenset(partition for partition, address in standbys if address == self._advertise)
        coordinator = self._coordinator
        assert coordinator is not None, "the coordinator calls this"
        self._assignments.put_nowait(_Assigned(partitions, coordinator.generation, coordinator.member_id, standby))

    def _describe_self(self) -> Member:
        return Member(self._advertise, *(self._assignee.progress() if self._assignee is not None else ({}, {})))

    def _on_division(self, division: Division) -> None:
        self._division = division
        self._addresses = dict(division.owners)

    async def _pass_on(self, assignee: Assignee) -> None:
        while True:
            new, before = await self._assignments.get(), self._current
            self._current = new
            kept = before.partitions & new.partitions if _follows(new, before) else frozenset()
            if gone := before.partitions - kept:
                await assignee.lose(gone)
            await assignee.gain(new.partitions, new.generation)
            assignee.stand_by_for(new.standby)

    async def _watch(self, coordinator: _Coordinator) -> None:
        """Make aiokafka continue after an error: it waits until the error is consumed."""
        while not coordinator._coordination_task.done() and not self._client._sync_task.done():
            await asyncio.sleep(_LOOK_AGAIN_S)
            try:
                coordinator.check_errors()
            except InvalidSessionTimeoutError:
                self._fail(
                    LogMisconfigured(
                        f"{self._address} does not accept session_timeout_ms={self._address.session_timeout_ms}: set "
                        "it between the broker's group.min.session.timeout.ms and group.max.session.timeout.ms"
                    )
                )
            except Exception as error:  # noqa: BLE001 - whatever ended the heartbeats, they must begin again
                _log.error("this node joins the group %s again: %r", self._group, error)
                coordinator.request_rejoin()  # aiokafka starts no heartbeats again without it
        for task in (coordinator._coordination_task, self._client._sync_task):
            if task.done() and not task.cancelled():
                task.result()  # raises what ended it
        raise LedgerError("aiokafka's coordination has ended")

    def _on_failed(self, error: BaseException) -> None:
        """No task ends by itself: an error ends this node's membership, so the node must end, too."""
        self._fail(LedgerError(f"this node left the group {self._group}: {error!r}; start it again"))

    async def _request_more(self, coordinator: _Coordinator, assignee: Assignee) -> None:
        """Request a rebalance while this member has too little and is ready for what it should have."""
        requested_at_s, pause_s = 0.0, _REBALANCE_S_MIN
        while True:
            await asyncio.sleep(_LOOK_AGAIN_S)
            promised = self._promised()
            if not promised:
                pause_s = _REBALANCE_S_MIN
            elif all(map(assignee.is_ready_for, promised)) and time.monotonic() - requested_at_s > pause_s:
                _log.info("ready for the partitions %s of other nodes: requesting a rebalance", promised)
                requested_at_s, pause_s = time.monotonic(), min(2 * pause_s, _REBALANCE_S_MAX)
                coordinator.request_rejoin()

    def _promised(self) -> list[int]:
        """The partitions whose standby is this member, and whose owner has two more than it."""
        loads = Counter(self._division.owners.values())
        return [
            partition
            for partition, standby in self._division.standbys.items()
            if standby == self._advertise and loads[self._division.owners[partition]] - loads[self._advertise] >= 2
        ]

    def _fail(self, error: LedgerError) -> None:
        if not self.failed.done():
            self.failed.set_result(error)

    @property
    def absent_for(self) -> float:
        if self._coordinator is None or self._left:
            return 0.0
        return (time.monotonic() - self._coordinator.confirmed_at_s) * 1_000 / self._address.session_timeout_ms

    # --- owners --------------------------------------------------------------------------------------------------

    def address_of(self, partition: int) -> str | None:
        return self._addresses.get(partition)

    async def refresh(self) -> None:
        state, members = await self._describe()
        if state == STABLE or state in WITHOUT_MEMBERS:
            self._addresses = {
                partition: member.client_id
                for member in members
                for topic, partition in member.partitions
                if topic == self._topic
            }
            return
        # While the group changes its description has no assignments; the remaining members keep their partitions.
        remaining = {member.client_id for member in members}
        self._addresses = {
            partition: address for partition, address in self._addresses.items() if address in remaining
        }

    async def is_mine(self, partition: int) -> bool:
        state, members = await self._describe()
        member_id = None if self._coordinator is None else self._coordinator.member_id
        return state == STABLE and any(
            member.member_id == member_id and (self._topic, partition) in member.partitions for member in members
        )

    async def _keep_addresses(self) -> None:
        """Refresh the addresses now and then, and after each assignment."""
        refreshed_for: _Assigned | None = None
        pause_s = 0.0
        while True:
            await asyncio.sleep(_LOOK_AGAIN_S)
            pause_s -= _LOOK_AGAIN_S
            if self._current is refreshed_for and pause_s > 0:
                continue
            refreshed_for, pause_s = self._current, _REFRESH_S
            try:
                await self.refresh()
            except LogUnavailable:
                pass  # the last known addresses stay
            except Exception:  # noqa: BLE001 - one bad description must not end the node
                _log.exception("the members of the group %s cannot be read", self._group)

    async def _describe(self) -> Group:
        """Raises LogUnavailable."""
        if self._client is None or self._left:
            raise LogUnavailable(f"this node is not a member of the group {self._group}")
        return await describe(self._client, self._address, self._group, timeout_s=self._timeout_s)


def _follows(new: _Assigned, before: _Assigned) -> bool:
    return new.member_id == before.member_id and new.generation == before.generation + 1
