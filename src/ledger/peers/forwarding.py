"""Requests for partitions that are not open on this node: forwarded to the owner until a response is known.

::

    submit ─► queue of the owner's address ─► call ─► decided ───► closed
                 ▲                             │
                 │                             ├─► not_owner, unreachable ──┐
                 └── owners read again ◄───────┴─► no response: undecided ──┘ until the request's time is over

Invariants:
(1) a wallet's commands are decided in the order of their HTTP request. The commands of one HTTP request for one owner
    are sent in one call. Where several commands of one wallet are undecided, only dry runs are sent again, which
    find out whether the commands were accepted. The commands themselves are not sent again: one that the first call
    refused might be accepted now, after the commands that follow it;
(2) a call without a response leaves its commands *undecided* until its deadline and the clocks' skew are over: until
    then the owner may still decide them. They may be sent again, which is harmless. If the second response says
    that the command *is* in the log, that is final. A refusal, or "nothing was written", is not final: the owner may
    still decide the first call. Then the client gets ``outcome_unknown``, but only once nothing is undecided any
    more. So a client's retry is never overtaken by its first attempt;
(3) requests that change nothing (look-ups, strong reads, dry runs) are never undecided;
(4) a request is forwarded once: its receiver decides it or closes it as ``not_owner`` (``handler.py``);
(5) memory is bounded: a request above the bounds is closed as ``overloaded``.
"""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Literal

from ledger import background
from ledger.cluster_ports import Owners
from ledger.core.follow_up_commands import AnyFollowUp
from ledger.core.position import partition_of
from ledger.errors import LedgerError, LogUnavailable
from ledger.node.ports import End, LocalWriters, OpenFollowUps, Peers, PeerSilent, PeerUnreachable
from ledger.pacing import RareWarnings
from ledger.peers.delivery import FollowUpDelivery
from ledger.peers.handler import PeerHandler, copies_of
from ledger.peers.owner_queries import OwnerQueries
from ledger.ports import Clock
from ledger.tracing import Span
from ledger.writer.requests import Accepted, AnyResponse, CommandRequest, Failed, IdReused, Request, RequestGroup

WAIT_S: Final = 2.0
"""How long a request waits for an owner. Chosen: twice as long as a hand-over between two live nodes takes."""

CALL_S: Final = 2.0
"""The receiver decides a call within this time, or not at all. Chosen: longer than a full mailbox takes; a request
may be undecided for all of this time."""

SKEW_S: Final = 2.0
"""How far apart the clocks of two nodes may be. A node whose clock is more than 1 s from the broker's is not ready
(``node.CLOCK_OFF_MAX_US``), so that two of them are 2 s apart at most."""

CALL_REQUESTS: Final = 1_024
"""Requests in one call, except that one HTTP request is never split. Chosen: the size of a client's largest batch."""

CALLS_MAX: Final = 4
"""Calls to one address at a time. Chosen: one that is being decided, two on the network, one being put together."""

QUEUE_MAX: Final = 16_384
"""Requests that may wait for one address. Chosen: as many as in a writer's mailbox."""

OPEN_MAX: Final = 65_536
"""Open requests, with a known address or without. Chosen: some 100 MB of large commands."""

_LOOK_AGAIN_S: Final = 0.02
_LOOK_AGAIN_S_MAX: Final = 0.1
_REFRESH_S: Final = 1.0
_RESPONSE_TRAVELS_S: Final = 0.5

_TRY_NEXT_OWNER: Final = ("not_owner", "shutting_down")
"""Reasons that mean that nothing was written; the next owner may accept the command."""

_log = logging.getLogger(__name__)


class _Forwarded:
    """A request to be closed. ``undecided_to_us``: the latest deadline of the calls without a response, which may
    still decide it; 0 if there is no such call."""

    __slots__ = ("partition", "request", "undecided_to_us")

    def __init__(self, request: Request, partition: int) -> None:
        self.request, self.partition = request, partition
        self.undecided_to_us = 0

    @property
    def changes_nothing(self) -> bool:
        return type(self.request) is not CommandRequest or self.request.dry_run


class _Group:
    """The requests of one HTTP request for one owner, in its order. ``failure``: why they have no response yet;
    ``tries``: how often they were sent."""

    __slots__ = ("failure", "requests", "tries", "until_s")

    def __init__(self, requests: list[_Forwarded], until_s: float) -> None:
        self.requests, self.until_s = requests, until_s
        self.tries = 0
        self.failure = Failed("not_owner", "no node is known to own the wallet's partition")

    def to_send(self) -> list[Request]:
        """One request to send for each: the request itself; or, where several requests of an undecided wallet are
        open, a dry run that finds out whether the command was accepted."""
        if not any(forwarded.undecided_to_us for forwarded in self.requests):
            return [forwarded.request for forwarded in self.requests]
        of_wallet = Counter(forwarded.request.user_id for forwarded in self.requests)
        undecided = {forwarded.request.user_id for forwarded in self.requests if forwarded.undecided_to_us}
        return [
            forwarded.request
            if of_wallet[forwarded.request.user_id] == 1 or forwarded.request.user_id not in undecided
            else _dry_run_of(forwarded.request)
            for forwarded in self.requests
        ]


def _dry_run_of(request: Request) -> Request:
    """A dry run finds the command's event if there is one, and never writes one."""
    assert isinstance(request, CommandRequest)
    return CommandRequest(
        request.command,
        request.request_sha256,
        request.actor,
        RequestGroup(1),
        dry_run=True,
        games=request.games,
    )


class _Queue:
    """The groups that wait for one address. ``waiting`` counts their requests and those of running calls;
    ``calls`` counts the running calls."""

    __slots__ = ("address", "calls", "groups", "waiting", "woken")

    def __init__(self, address: str) -> None:
        self.address = address
        self.groups: deque[_Group] = deque()
        self.waiting = self.calls = 0
        self.woken = False


class Forwarding:
    """``OtherNodes`` of a node in a group. ``address`` is this node's own, as the group knows it."""

    may_exist = True

    def __init__(
        self,
        owners: Owners,
        peers: Peers,
        clock: Clock,
        partitions: int,
        address: str,
        *,
        wait_s: float = WAIT_S,
        call_s: float = CALL_S,
        skew_s: float = SKEW_S,
        queue_max: int = QUEUE_MAX,
        open_max: int = OPEN_MAX,
    ) -> None:
        self._owners, self._peers, self._clock = owners, peers, clock
        self._partitions, self._address = partitions, address
        self._wait_s, self._call_us, self._skew_us = wait_s, round(call_s * 1e6), round(skew_s * 1e6)
        self._queue_max, self._open_max = queue_max, open_max
        self._queues: dict[str, _Queue] = {}
        self._to_retry: deque[_Group] = deque()
        self._retrying: asyncio.Task[None] | None = None
        self._calls: set[asyncio.Task[None]] = set()
        self._open = 0
        self._none_open = asyncio.Event()
        self._stopping = False
        self._warnings = RareWarnings(_log)
        self._queries = OwnerQueries(owners, peers)
        self._handler: PeerHandler
        self._delivery: FollowUpDelivery
        self.forwarded = self.silent = 0
        """Requests that were sent to other nodes; and how many of them got no response to their call."""

    # --- OtherNodes ----------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        return self._delivery.waiting

    def bind(self, local: LocalWriters) -> None:
        self._handler = PeerHandler(local)
        self._delivery = FollowUpDelivery(self._owners, self._peers, local, self._partitions, self._address)

    def submit(self, requests: Sequence[Request]) -> None:
        """See ``OtherNodes``. Each request is closed after ``wait_s + call_s + skew_s`` at the latest."""
        if self._stopping:
            self._refuse(requests, "shutting_down", "the service is shutting down")
            return
        if self._open + len(requests) > self._open_max:
            self._refuse(requests, "overloaded", f"{self._open_max} commands wait for other nodes")
            return
        until_s = asyncio.get_running_loop().time() + self._wait_s
        forwarded = [_Forwarded(request, partition_of(request.user_id, self._partitions)) for request in requests]
        for address, of_address in self._by_address(forwarded).items():
            queue = None if address is None else self._queue(address)
            if queue is not None and queue.waiting + len(of_address) > self._queue_max:
                detail = f"{self._queue_max} commands wait for the node at {address}"
                self._refuse([one.request for one in of_address], "overloaded", detail)
                continue
            self._open += len(of_address)
            self._put(queue, _Group(of_address, until_s))

    def deliver(
        self,
        origin: int,
        seq: int,
        follow_up: AnyFollowUp,
        arrived: Callable[[], None],
        span: Span | None = None,
    ) -> None:
        self._delivery.deliver(origin, seq, follow_up, arrived, span)

    async def ends(self, partitions: Iterable[int]) -> dict[int, End]:
        return await self._queries.ends(partitions)

    async def open_follow_ups(self, after: Mapping[int, int]) -> dict[int, OpenFollowUps]:
        return await self._queries.open_follow_ups(after)

    async def records(self, partition: int, from_seq: int, limit: int) -> list[bytes] | None:
        return await self._queries.records(partition, from_seq, limit)

    async def close(self) -> None:
        """Close the waiting requests, each within its time, and release everything. An undecided request stays open
        until it is decided or its time is over: the first call could overtake an earlier response."""
        self._stopping = True
        await self._delivery.close()
        while self._open:
            self._none_open.clear()
            await self._none_open.wait()
        if self._retrying is not None:
            self._retrying.cancel()
        tasks = [*self._calls, *([self._retrying] if self._retrying is not None else [])]
        if tasks:
            await asyncio.wait(tasks)
        await self._peers.close()

    # --- queues --------------------------------------------------------------------------------------------------

    def _by_address(self, forwarded: Iterable[_Forwarded]) -> dict[str | None, list[_Forwarded]]:
        found: dict[str | None, list[_Forwarded]] = {}
        for one in forwarded:
            found.setdefault(self._owners.address_of(one.partition), []).append(one)
        return found

    def _queue(self, address: str) -> _Queue:
        queue = self._queues.get(address)
        if queue is None:
            queue = self._queues[address] = _Queue(address)
        return queue

    def _put(self, queue: _Queue | None, group: _Group) -> None:
        if queue is None:
            self._retry(group)
            return
        queue.groups.append(group)
        queue.waiting += len(group.requests)
        self._wake(queue)

    def _wake(self, queue: _Queue) -> None:
        """Call at the end of this turn of the event loop, so that one call has the requests of many HTTP requests."""
        if not queue.woken and queue.groups and queue.calls < CALLS_MAX:
            queue.woken = True
            asyncio.get_running_loop().call_soon(self._begin_calls, queue)

    def _begin_calls(self, queue: _Queue) -> None:
        queue.woken = False
        while queue.groups and queue.calls < CALLS_MAX:
            groups = [queue.groups.popleft()]
            requests = len(groups[0].requests)
            while queue.groups and requests + len(queue.groups[0].requests) <= CALL_REQUESTS:
                groups.append(queue.groups.popleft())
                requests += len(groups[-1].requests)
            queue.calls += 1
            call = background.start(self._call(queue, groups), "forwarding")
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)

    def _retry(self, group: _Group) -> None:
        group.tries += 1
        self._to_retry.append(group)
        if self._retrying is None:
            self._retrying = background.keep(self._retry_all, "forwarding-retry")

    async def _retry_all(self) -> None:
        """Read the owners and send the groups again, while there are groups to retry."""
        while self._to_retry:
            tries = min(group.tries for group in self._to_retry)
            await asyncio.sleep(min(tries * _LOOK_AGAIN_S, _LOOK_AGAIN_S_MAX))
            await self._refresh_owners()
            now_s = asyncio.get_running_loop().time()
            for _ in range(len(self._to_retry)):  # one by one: an error leaves the others to the next run
                group = self._to_retry.popleft()
                if self._stopping or now_s >= group.until_s:
                    self._give_up(group)
                    continue
                for address, requests in self._by_address(group.requests).items():
                    part = _Group(requests, group.until_s)
                    part.failure, part.tries = group.failure, group.tries
                    self._put(None if address is None else self._queue(address), part)
        self._retrying = None

    async def _refresh_owners(self) -> None:
        try:
            async with asyncio.timeout(_REFRESH_S):
                await self._owners.refresh()
        except (LogUnavailable, TimeoutError) as error:
            reason = str(error) or f"no response within {_REFRESH_S:g} s"
            self._warnings.warn("the owners of the partitions cannot be read: %s", reason)
        except Exception:  # noqa: BLE001 - without another try the waiting requests would never be closed
            _log.exception("the owners of the partitions cannot be read")

    # --- a call --------------------------------------------------------------------------------------------------

    async def _call(self, queue: _Queue, groups: Sequence[_Group]) -> None:
        requests = [request for group in groups for request in group.to_send()]
        deadline_us = self._clock() + self._call_us
        responses: Sequence[AnyResponse] | None = None
        may_be_decided = True
        failed: LedgerError = PeerSilent("it did not respond")
        try:
            responses = await self._decide(queue.address, requests, deadline_us)
            assert len(responses) == len(requests), "each request has a response"
        except PeerUnreachable as error:
            may_be_decided, failed = False, error
        except PeerSilent as error:
            failed = error
        except TimeoutError:
            pass
        except Exception:  # noqa: BLE001 - the owner may have decided; the clients must get a response
            responses = None
            _log.exception("calling the node at %s", queue.address)
        finally:
            queue.calls -= 1
            queue.waiting -= sum(len(group.requests) for group in groups)
            self._wake(queue)
        if responses is not None:
            rest = iter(responses)
            for group in groups:
                self._settle(group, [(forwarded, next(rest)) for forwarded in group.requests])
            return
        self._warnings.warn("the node at %s: %s", queue.address, failed)
        for group in groups:
            group.failure = Failed("not_owner", failed.for_clients)
            if may_be_decided:
                self._mark_undecided(group.requests, deadline_us)
            self._retry(group)

    async def _decide(self, address: str, requests: Sequence[Request], deadline_us: int) -> Sequence[AnyResponse]:
        if address == self._address:
            copies = copies_of(requests)
            await self._handler.decide(copies, deadline_us)
            return [copy.response for copy in copies]
        self.forwarded += len(requests)
        async with asyncio.timeout(self._call_us / 1e6 + _RESPONSE_TRAVELS_S):
            return await self._peers.decide(address, requests, deadline_us)

    def _mark_undecided(self, requests: Sequence[_Forwarded], deadline_us: int) -> None:
        self.silent += len(requests)
        for forwarded in requests:
            if not forwarded.changes_nothing:
                forwarded.undecided_to_us = max(forwarded.undecided_to_us, deadline_us)

    def _settle(self, group: _Group, decided: Sequence[tuple[_Forwarded, AnyResponse]]) -> None:
        """Close the requests that have a final response; retry those whose partition the node does not own."""
        ended: set[str] = set()
        for forwarded, response in decided:
            user_id = forwarded.request.user_id
            if type(response) is Failed and response.reason in _TRY_NEXT_OWNER:
                group.failure = response
            elif user_id in ended:
                pass  # after a failure of one of a wallet's commands its later commands fail the same way
            elif forwarded.undecided_to_us and not isinstance(response, Accepted | IdReused):
                ended.add(user_id)  # this response is not final: the call without a response may still be decided
            else:
                self._close(forwarded, response)
        left = [forwarded for forwarded in group.requests if not forwarded.request.closed]
        self._end([forwarded for forwarded in left if forwarded.request.user_id in ended], group.failure)
        group.requests = [forwarded for forwarded in left if forwarded.request.user_id not in ended]
        if group.requests:
            self._retry(group)

    # --- closing -------------------------------------------------------------------------------------------------

    def _give_up(self, group: _Group) -> None:
        failure = group.failure
        if self._stopping:
            failure = Failed("shutting_down", "the service is shutting down")
        self._end(group.requests, failure)

    def _end(self, requests: Sequence[_Forwarded], failure: Failed) -> None:
        """Send these requests no more. Those that are not undecided get ``failure``."""
        wallets: dict[str, list[_Forwarded]] = {}
        for forwarded in requests:
            wallets.setdefault(forwarded.request.user_id, []).append(forwarded)
        for of_wallet in wallets.values():
            undecided_to_us = max(forwarded.undecided_to_us for forwarded in of_wallet)
            if undecided_to_us:
                self._close_after(undecided_to_us + self._skew_us, of_wallet)
                continue
            for forwarded in of_wallet:
                self._close(forwarded, failure)

    def _close_after(self, time_us: int, requests: Sequence[_Forwarded]) -> None:
        left_us = time_us - self._clock()
        if left_us >= 0:  # read again after the wait: a clock may be set back
            asyncio.get_running_loop().call_later(left_us / 1e6 + 0.001, self._close_after, time_us, requests)
            return
        unknown = Failed("outcome_unknown", "the node that owns the wallet's partition did not respond")
        for forwarded in requests:
            self._close(forwarded, unknown)

    def _close(self, forwarded: _Forwarded, response: AnyResponse) -> None:
        failed = forwarded.request.group.failed
        if type(response) is Failed and failed is not None:
            response = failed.get(forwarded.request.user_id, response)
        forwarded.request.close(response)
        self._open -= 1
        if self._open == 0:
            self._none_open.set()

    def _refuse(
        self, requests: Sequence[Request], reason: Literal["overloaded", "shutting_down"], detail: str
    ) -> None:
        for request in requests:
            request.close(Failed(reason, detail))
