"""Who has which partition: one consumer group on the topic of the events, in which each node is a member.

``client_id`` is the node's advertised address, so whoever describes the group knows where each owner can be reached.
Nothing is fetched by the group; only its coordinator's part of aiokafka is used.

Truths:
(1) a change of the group stops nobody: what a member has it goes on with until it is told what it has now, for that
    nobody else's append counts is the chain's work. So a dead member, for which its coordinator waits for up to its
    session's length, closes no partition but its own;
(2) what a member had, and has again in the very next generation, as the same member, nobody had in between. After
    anything else it is lost first, and gained anew;
(3) ``gain`` and ``lose`` are called by one task, in the order of the generations: while they take their time the
    member goes on to tell its coordinator that it lives;
(4) who gets what is ``ledger.core.assignment``: partitions stay where they are, and move, to even out or when their
    owner has gone, to who has their state ready. A member that is ready for more than it has asks for another
    division.
"""

import asyncio
import logging
import time
from collections import Counter
from typing import Any, Final, NamedTuple

from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import InvalidSessionTimeoutError, KafkaError, for_code
from aiokafka.protocol.admin import DescribeGroupsRequest

from ledger.cluster_ports import Assignee
from ledger.core.assignment import Member
from ledger.errors import LedgerError, LogMisconfigured, LogUnavailable
from ledger.kafka.address import KafkaAddress
from ledger.kafka.assignor import Division, SharingAssignor
from ledger.kafka.members import NODES_GROUP

HEARTBEAT_MS: Final = 150
"""How often a member asks whether the group changes. Chosen: most of what a clean hand-over takes is the wait for the
slowest member's next question; a question costs the coordinator microseconds."""

TIMEOUT_S: Final = 10.0
_RETRY_MS: Final = 50
_REFRESH_S: Final = 5.0
_LOOK_AGAIN_S: Final = 0.5
_TRY_AGAIN_S: Final = 0.05
_LEAVE_WITHIN_S: Final = 3.0
_ASK_AGAIN_S_MIN: Final = 2.0
_ASK_AGAIN_S_MAX: Final = 60.0
"""How often, at most, a member asks for another division. Chosen: it stops nobody, but who has more may keep it."""
_NEVER_MS: Final = 2**53
"""aiokafka would leave a group in whose name nothing is fetched for so long."""

_STABLE: Final = "Stable"
_NOBODY: Final = ("Empty", "Dead")

_log = logging.getLogger(__name__)


class _News(NamedTuple):
    """What the group has given to this member."""

    partitions: frozenset[int]
    generation: int
    member_id: str
    inherits: frozenset[int] = frozenset()


class _Member(NamedTuple):
    member_id: str
    address: str
    partitions: frozenset[int]


class KafkaOwners(ConsumerRebalanceListener):  # type: ignore[misc]
    """``Owners`` of one topic, whose partitions a log has opened already."""

    def __init__(
        self,
        address: KafkaAddress,
        advertise: str,
        *,
        topic: str,
        group: str = NODES_GROUP,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """``advertise``: where the other nodes reach this one; ``timeout_s``: how long a broker may take."""
        self._address, self._topic, self._group, self._timeout_s = address, topic, group, timeout_s
        self._advertise = advertise
        self._options = address.client_options() | {
            "client_id": advertise,
            "request_timeout_ms": int(timeout_s * 1_000),
            "retry_backoff_ms": _RETRY_MS,
        }
        self._assignor = SharingAssignor(topic, self._describe_self, self._hear)
        self._assignee: Assignee | None = None
        self._division = Division({}, {})
        self._client: Any = None
        self._coordinator: Any = None
        self._tasks: list[asyncio.Task[None]] = []
        self._news: asyncio.Queue[_News] = asyncio.Queue()
        self._held: _News = _News(frozenset(), -1, "")
        self._addresses: dict[int, str] = {}
        self._left = False
        self.failed: asyncio.Future[LedgerError] = asyncio.get_running_loop().create_future()

    # --- taking part ---------------------------------------------------------------------------------------------

    async def begin(self, assignee: Assignee) -> None:
        self._assignee = assignee

    async def join(self) -> None:
        assignee = self._assignee
        assert assignee is not None, "begin comes first"
        self._client = AIOKafkaClient(**self._options)
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._client.bootstrap()
                await self._client.set_topics([self._topic])
        except (KafkaError, OSError, TimeoutError) as error:
            await self._client.close()
            self._client = None
            raise LogUnavailable(self._address.unreachable(error)) from error
        subscription = SubscriptionState()
        subscription.register_fetch_waiters(set())  # nobody fetches, but aiokafka looks for who waits for records
        subscription.subscribe({self._topic}, listener=self)
        session_ms = self._address.session_timeout_ms
        self._coordinator = GroupCoordinator(
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
        start = asyncio.get_running_loop().create_task
        self._tasks = [
            start(self._tell(assignee), name="owners-tell"),
            start(self._watch(), name="owners-watch"),
            start(self._ask_for_more(assignee), name="owners-even-out"),
            start(self._keep_addresses(), name="owners-addresses"),
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
            except (TimeoutError, KafkaError, OSError) as error:
                _log.warning("the group was not told that this node leaves; it will notice: %r", error)
        if self._client is not None:
            await self._client.close()

    def on_partitions_revoked(self, revoked: Any) -> None:
        """Nothing: see truth (1)."""

    def on_partitions_assigned(self, assigned: "set[TopicPartition]") -> None:
        partitions = frozenset(place.partition for place in assigned if place.topic == self._topic)
        heirs = self._division.heirs.items()
        inherits = frozenset(partition for partition, heir in heirs if heir == self._advertise)
        self._news.put_nowait(_News(partitions, self._coordinator.generation, self._coordinator.member_id, inherits))

    def _describe_self(self) -> Member:
        return Member(self._advertise, *(self._assignee.progress() if self._assignee is not None else ({}, {})))

    def _hear(self, division: Division) -> None:
        self._division = division
        self._addresses = dict(division.owners)

    async def _tell(self, assignee: Assignee) -> None:
        try:
            while True:
                news, before = await self._news.get(), self._held
                self._held = news
                kept = before.partitions & news.partitions if _follows(news, before) else frozenset()
                if gone := before.partitions - kept:
                    await assignee.lose(gone)
                await assignee.gain(news.partitions, news.generation)
                assignee.stand_by_for(news.inherits)
        except Exception as error:  # noqa: BLE001 - nobody would ever hear of it
            _log.exception("what the group says is no longer handed on")
            self._fail(LedgerError(f"what the group {self._group} says is no longer handed on: {error!r}"))

    async def _watch(self) -> None:
        """aiokafka waits with what it cannot mend by itself until somebody asks for it."""
        while True:
            await asyncio.sleep(_LOOK_AGAIN_S)
            try:
                self._coordinator.check_errors()
            except InvalidSessionTimeoutError:
                self._fail(
                    LogMisconfigured(
                        f"{self._address} takes no session_timeout_ms={self._address.session_timeout_ms}: its "
                        "group.min.session.timeout.ms and group.max.session.timeout.ms say what it takes"
                    )
                )
            except KafkaError as error:
                if self._coordinator._coordination_task.done():
                    self._fail(LedgerError(f"this node's part in the group {self._group} has ended: {error!r}"))
                else:
                    _log.error("the group %s cannot be joined: %r", self._group, error)

    async def _ask_for_more(self, assignee: Assignee) -> None:
        """Ask for another division where this member has too little and is ready for what it should have."""
        asked_s, pause_s = 0.0, _ASK_AGAIN_S_MIN
        while True:
            await asyncio.sleep(_LOOK_AGAIN_S)
            promised = self._promised()
            if not promised:
                pause_s = _ASK_AGAIN_S_MIN
            elif all(map(assignee.is_ready_for, promised)) and time.monotonic() - asked_s > pause_s:
                _log.info("ready for %s, which others have: asking for another division", promised)
                asked_s, pause_s = time.monotonic(), min(2 * pause_s, _ASK_AGAIN_S_MAX)
                self._coordinator.request_rejoin()

    def _promised(self) -> list[int]:
        """The partitions whose heir this member is, and whose owner has two more than it."""
        loads = Counter(self._division.owners.values())
        return [
            partition
            for partition, heir in self._division.heirs.items()
            if heir == self._advertise and loads[self._division.owners[partition]] - loads[self._advertise] >= 2
        ]

    def _fail(self, error: LedgerError) -> None:
        if not self.failed.done():
            self.failed.set_result(error)

    # --- who has what --------------------------------------------------------------------------------------------

    def address_of(self, partition: int) -> str | None:
        return self._addresses.get(partition)

    async def refresh(self) -> None:
        state, members = await self._described()
        if state == _STABLE or state in _NOBODY:
            self._addresses = {partition: member.address for member in members for partition in member.partitions}
            return
        # While the group changes nobody says who has what; who is still there goes on with what it had.
        there = {member.address for member in members}
        self._addresses = {partition: address for partition, address in self._addresses.items() if address in there}

    async def is_mine(self, partition: int) -> bool:
        state, members = await self._described()
        me = self._coordinator.member_id
        return state == _STABLE and any(
            member.member_id == me and partition in member.partitions for member in members
        )

    async def _keep_addresses(self) -> None:
        """Hear anew now and then, and whenever this node was given something."""
        held: _News | None = None
        pause_s = 0.0
        while True:
            await asyncio.sleep(_LOOK_AGAIN_S)
            pause_s -= _LOOK_AGAIN_S
            if self._held is held and pause_s > 0:
                continue
            held, pause_s = self._held, _REFRESH_S
            try:
                await self.refresh()
            except LogUnavailable:
                pass  # what was heard last stays
            except Exception:  # noqa: BLE001 - whatever it was, others must be heard again
                _log.exception("who is in the group %s cannot be heard", self._group)

    async def _described(self) -> tuple[str, list[_Member]]:
        """The group's state and its members. Raises LogUnavailable."""
        if self._client is None or self._left:
            raise LogUnavailable(f"the group {self._group} was not joined")
        last: BaseException | None = None
        try:
            async with asyncio.timeout(self._timeout_s):
                while True:
                    try:
                        return await self._describe()
                    except KafkaError as error:
                        last = error
                    await asyncio.sleep(_TRY_AGAIN_S)
                    await self._client.force_metadata_update()
        except TimeoutError:
            reason = "no answer" if last is None else repr(last)
            raise LogUnavailable(f"{self._address} does not say who is in {self._group}: {reason}") from last

    async def _describe(self) -> tuple[str, list[_Member]]:
        node = await self._client.coordinator_lookup(CoordinationType.GROUP, self._group)
        response = await self._client.send(node, DescribeGroupsRequest([self._group]))
        code, _, state, _, _, members, *_ = response.groups[0]
        error = for_code(code)
        if error.errno != 0:
            raise error(self._group)
        return str(state), [self._member(*member) for member in members]

    def _member(self, member_id: str, client_id: str, _host: str, _metadata: bytes, assignment: bytes) -> _Member:
        places = ConsumerProtocolMemberAssignment.decode(assignment).partitions() if assignment else []
        partitions = frozenset(place.partition for place in places if place.topic == self._topic)
        return _Member(member_id, client_id, partitions)


def _follows(news: _News, before: _News) -> bool:
    return news.member_id == before.member_id and news.generation == before.generation + 1
