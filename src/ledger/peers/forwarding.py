"""Questions for partitions that are not open here: asked of whoever has them, until there is an answer to give.

::

    submit ─► lane of the owner's address ─► call ─► answered ──► closed
                 ▲                             │
                 │                             ├─► not_owner, unreachable ─┐
                 └── owners heard anew ◄───────┴─► silent: in doubt ───────┘ until the request's time is over

Truths:
(1) a wallet's commands are decided in the order of their request: what one request asks of one owner goes in one
    call, and where several of a wallet are in doubt they are only asked for again by dry runs, which tell whether
    they were taken: one that was refused then, and would be taken now, would come after those that followed it;
(2) a call that was not answered leaves its commands *in doubt* until its deadline and the clocks' skew are over:
    until then it may still be decided. They may be asked again, for that is harmless, and that a command *is* in the
    log is the last word. But a refusal, or that nothing was written, is none: the call before may still be taken.
    Then the answer is ``outcome_unknown``, and it leaves only when nothing is in doubt any more. So whoever asks
    again is never overtaken by what was asked before;
(3) whatever changes nothing (look-ups, strong reads, dry runs) is never in doubt;
(4) a question is forwarded once: where it arrives it is decided or answered ``not_owner`` (``answering.py``);
(5) memory is bounded: what cannot wait is ``overloaded``.
"""

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal

from ledger.core.commands import AnyFollowUp
from ledger.core.position import partition_of
from ledger.errors import LogUnavailable
from ledger.node.ports import Here, Owners, Peers, PeerSilent, PeerUnreachable
from ledger.peers.delivery import Deliveries
from ledger.peers.handler import PeerHandler, copies_of
from ledger.ports import Clock
from ledger.writer.requests import Accepted, Answer, CommandRequest, Failed, IdReused, Parcel, Request

WAIT_S: Final = 2.0
"""How long a request looks for its owner. Chosen: twice what a hand-over between two that live takes."""

CALL_S: Final = 2.0
"""How long a call may be decided. Chosen: longer than a full mailbox takes; all of it may be spent in doubt."""

SKEW_S: Final = 2.0
"""By how much two nodes' clocks may differ: a node whose clock is more than 1 s from the broker's is not ready
(``node.CLOCK_OFF_MAX_US``), so that two of them are 2 s apart at most."""

CALL_TICKETS: Final = 1_024
"""In one call, but that a request is never split. Chosen: as the largest batch of a client."""

CALLS_MAX: Final = 4
"""Under way to one address. Chosen: one that is decided, two on their way, one being put together."""

LANE_MAX: Final = 16_384
"""Tickets that may wait for one address; chosen: as in a writer's mailbox."""

HELD_MAX: Final = 65_536
"""Tickets held for all addresses, and for none; chosen: some 100 MB of large commands."""

_LOOK_AGAIN_S: Final = 0.02
_LOOK_AGAIN_S_MAX: Final = 0.1
_REFRESH_S: Final = 1.0
_COMPLAIN_EVERY_S: Final = 10.0
_ANSWER_TRAVELS_S: Final = 0.5

_AGAIN: Final = ("not_owner", "shutting_down")
"""Nothing was written, and the next owner may take it."""

_log = logging.getLogger(__name__)


class _Errand:
    """A request to be closed. ``doubt_us``: the latest deadline of a call that may still decide it; 0 where none."""

    __slots__ = ("doubt_us", "partition", "request")

    def __init__(self, request: Request, partition: int) -> None:
        self.request, self.partition = request, partition
        self.doubt_us = 0

    @property
    def changes_nothing(self) -> bool:
        return type(self.request) is not CommandRequest or self.request.dry_run


class _Bundle:
    """What one request asks of one owner, in its order. ``said``: why it has no answer yet; ``tries``: how often."""

    __slots__ = ("errands", "said", "tries", "until_s")

    def __init__(self, errands: list[_Errand], until_s: float) -> None:
        self.errands, self.until_s = errands, until_s
        self.tries = 0
        self.said = Failed("not_owner", "no node is known to have the wallet's partition")

    def questions(self) -> list[Request]:
        """What to ask for each errand: its own request, or, where several of one wallet are open and in doubt,
        whether it was taken."""
        if not any(errand.doubt_us for errand in self.errands):
            return [errand.request for errand in self.errands]
        wallets = Counter(errand.request.user_id for errand in self.errands)
        doubtful = {errand.request.user_id for errand in self.errands if errand.doubt_us}
        return [
            errand.request
            if wallets[errand.request.user_id] == 1 or errand.request.user_id not in doubtful
            else _whether_taken(errand.request)
            for errand in self.errands
        ]


def _whether_taken(request: Request) -> Request:
    """A dry run: it finds the command's event where there is one, and writes nothing where there is none."""
    assert isinstance(request, CommandRequest)
    return CommandRequest(request.command, request.request_sha256, request.actor, Parcel(1), dry_run=True)


class _Lane:
    """The way to one address."""

    __slots__ = ("address", "bundles", "calls", "requests", "woken")

    def __init__(self, address: str) -> None:
        self.address = address
        self.bundles: deque[_Bundle] = deque()
        self.requests = self.calls = 0
        self.woken = False


class Forwarding:
    """``Remote`` over other nodes. ``address`` is this node's own, as the owners' agreement has it."""

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
        lane_max: int = LANE_MAX,
        held_max: int = HELD_MAX,
    ) -> None:
        self._owners, self._peers, self._clock = owners, peers, clock
        self._partitions, self._address = partitions, address
        self._wait_s, self._call_us, self._skew_us = wait_s, round(call_s * 1e6), round(skew_s * 1e6)
        self._lane_max, self._held_max = lane_max, held_max
        self._lanes: dict[str, _Lane] = {}
        self._astray: list[_Bundle] = []
        self._looking: asyncio.Task[None] | None = None
        self._calls: set[asyncio.Task[None]] = set()
        self._held = 0
        self._none_held = asyncio.Event()
        self._stopping = False
        self._complained_s = -_COMPLAIN_EVERY_S
        self._answering: PeerHandler
        self._deliveries: Deliveries
        self.forwarded = self.silent = 0
        """Tickets that were asked elsewhere, and those of them whose call was not answered."""

    # --- Remote --------------------------------------------------------------------------------------------------

    def begin(self, here: Here) -> None:
        self._answering = PeerHandler(here)
        self._deliveries = Deliveries(self._owners, self._peers, self._answering, self._partitions, self._address)

    def submit(self, requests: Sequence[Request]) -> None:
        """See ``Remote``. Each is closed after ``wait_s + call_s + skew_s`` at the latest."""
        if self._stopping:
            self._refuse(requests, "shutting_down", "the service is shutting down")
            return
        if self._held + len(requests) > self._held_max:
            self._refuse(requests, "overloaded", f"{self._held_max} commands wait for other nodes")
            return
        until_s = asyncio.get_running_loop().time() + self._wait_s
        errands = [_Errand(request, partition_of(request.user_id, self._partitions)) for request in requests]
        for address, of_address in self._by_address(errands).items():
            lane = None if address is None else self._lane(address)
            if lane is not None and lane.requests + len(of_address) > self._lane_max:
                detail = f"{self._lane_max} commands wait for the node at {address}"
                self._refuse([errand.request for errand in of_address], "overloaded", detail)
                continue
            self._held += len(of_address)
            self._put(lane, _Bundle(of_address, until_s))

    def deliver(self, origin: int, seq: int, follow_up: AnyFollowUp, arrived: Callable[[], None]) -> None:
        self._deliveries.deliver(origin, seq, follow_up, arrived)

    async def close(self) -> None:
        """Answer what waits, within the time that each may wait, and release everything. What is in doubt waits out
        its doubt: an answer before it could be overtaken."""
        self._stopping = True
        await self._deliveries.close()
        while self._held:
            self._none_held.clear()
            await self._none_held.wait()
        if self._looking is not None:
            self._looking.cancel()
        tasks = [*self._calls, *([self._looking] if self._looking is not None else [])]
        if tasks:
            await asyncio.wait(tasks)
        await self._peers.close()

    # --- where to ------------------------------------------------------------------------------------------------

    def _by_address(self, errands: Iterable[_Errand]) -> dict[str | None, list[_Errand]]:
        found: dict[str | None, list[_Errand]] = {}
        for errand in errands:
            found.setdefault(self._owners.address_of(errand.partition), []).append(errand)
        return found

    def _lane(self, address: str) -> _Lane:
        lane = self._lanes.get(address)
        if lane is None:
            lane = self._lanes[address] = _Lane(address)
        return lane

    def _put(self, lane: _Lane | None, bundle: _Bundle) -> None:
        if lane is None:
            self._look_again(bundle)
            return
        lane.bundles.append(bundle)
        lane.requests += len(bundle.errands)
        self._wake(lane)

    def _wake(self, lane: _Lane) -> None:
        """Ask a moment later: what many requests bring in one turn of the loop goes together."""
        if not lane.woken and lane.bundles and lane.calls < CALLS_MAX:
            lane.woken = True
            asyncio.get_running_loop().call_soon(self._begin_calls, lane)

    def _begin_calls(self, lane: _Lane) -> None:
        lane.woken = False
        while lane.bundles and lane.calls < CALLS_MAX:
            bundles = [lane.bundles.popleft()]
            requests = len(bundles[0].errands)
            while lane.bundles and requests + len(lane.bundles[0].errands) <= CALL_TICKETS:
                bundles.append(lane.bundles.popleft())
                requests += len(bundles[-1].errands)
            lane.calls += 1
            call = asyncio.get_running_loop().create_task(self._call(lane, bundles), name="forwarding")
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)

    def _look_again(self, bundle: _Bundle) -> None:
        bundle.tries += 1
        self._astray.append(bundle)
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look(), name="forwarding")

    async def _look(self) -> None:
        """Hear anew who has what, and ask again, while there is anything to ask for."""
        while self._astray:
            tries = min(bundle.tries for bundle in self._astray)
            await asyncio.sleep(min(tries * _LOOK_AGAIN_S, _LOOK_AGAIN_S_MAX))
            await self._hear_owners()
            now_s = asyncio.get_running_loop().time()
            bundles, self._astray = self._astray, []
            for bundle in bundles:
                if self._stopping or now_s >= bundle.until_s:
                    self._give_up(bundle)
                    continue
                for address, errands in self._by_address(bundle.errands).items():
                    part = _Bundle(errands, bundle.until_s)
                    part.said, part.tries = bundle.said, bundle.tries
                    self._put(None if address is None else self._lane(address), part)
        self._looking = None

    async def _hear_owners(self) -> None:
        try:
            async with asyncio.timeout(_REFRESH_S):
                await self._owners.refresh()
        except (LogUnavailable, TimeoutError) as error:
            self._complain("who has which partition cannot be heard: %s", str(error) or "nobody answers")
        except Exception:  # noqa: BLE001 - whatever it is: who waits here would wait for ever
            _log.exception("who has which partition cannot be heard")

    # --- a call --------------------------------------------------------------------------------------------------

    async def _call(self, lane: _Lane, bundles: Sequence[_Bundle]) -> None:
        requests = [request for bundle in bundles for request in bundle.questions()]
        deadline_us = self._clock() + self._call_us
        answers: Sequence[Answer] | None = None
        unanswered = True
        why = f"the node at {lane.address} did not answer"
        try:
            answers = await self._ask(lane.address, requests, deadline_us)
            assert len(answers) == len(requests), "each request has an answer"
        except PeerUnreachable as error:
            unanswered, why = False, str(error)
        except (PeerSilent, TimeoutError) as error:
            why = str(error) or why
        except Exception:  # noqa: BLE001 - it may have been taken there; who asked must get a word all the same
            answers = None
            _log.exception("asking the node at %s", lane.address)
        finally:
            lane.calls -= 1
            lane.requests -= sum(len(bundle.errands) for bundle in bundles)
            self._wake(lane)
        if answers is not None:
            rest = iter(answers)
            for bundle in bundles:
                self._settle(bundle, [(errand, next(rest)) for errand in bundle.errands])
            return
        self._complain("the node at %s: %s", lane.address, why)
        for bundle in bundles:
            bundle.said = Failed("not_owner", why)
            if unanswered:
                self._doubt(bundle.errands, deadline_us)
            self._look_again(bundle)

    async def _ask(self, address: str, requests: Sequence[Request], deadline_us: int) -> Sequence[Answer]:
        if address == self._address:
            copies = copies_of(requests)
            await self._answering.decide(copies, deadline_us)
            return [copy.answer for copy in copies]
        self.forwarded += len(requests)
        async with asyncio.timeout(self._call_us / 1e6 + _ANSWER_TRAVELS_S):
            return await self._peers.ask(address, requests, deadline_us)

    def _doubt(self, errands: Sequence[_Errand], deadline_us: int) -> None:
        self.silent += len(errands)
        for errand in errands:
            if not errand.changes_nothing:
                errand.doubt_us = max(errand.doubt_us, deadline_us)

    def _settle(self, bundle: _Bundle, answered: Sequence[tuple[_Errand, Answer]]) -> None:
        """Close what is answered; ask again for what the node there does not have."""
        ended: set[str] = set()
        for errand, answer in answered:
            user_id = errand.request.user_id
            if type(answer) is Failed and answer.reason in _AGAIN:
                bundle.said = answer
            elif user_id in ended:
                pass  # after a failure of one of a wallet's commands its later ones fail the same way
            elif errand.doubt_us and not isinstance(answer, Accepted | IdReused):
                ended.add(user_id)  # the call before may still be taken, whatever this one said
            else:
                self._close(errand, answer)
        left = [errand for errand in bundle.errands if not errand.request.closed]
        self._end([errand for errand in left if errand.request.user_id in ended], bundle.said)
        bundle.errands = [errand for errand in left if errand.request.user_id not in ended]
        if bundle.errands:
            self._look_again(bundle)

    # --- the last word -------------------------------------------------------------------------------------------

    def _give_up(self, bundle: _Bundle) -> None:
        said = bundle.said
        if self._stopping:
            said = Failed("shutting_down", "the service is shutting down")
        self._end(bundle.errands, said)

    def _end(self, errands: Sequence[_Errand], said: Failed) -> None:
        """No more is asked. ``said``: what is told to those that are not in doubt."""
        wallets: dict[str, list[_Errand]] = {}
        for errand in errands:
            wallets.setdefault(errand.request.user_id, []).append(errand)
        for of_wallet in wallets.values():
            doubt_us = max(errand.doubt_us for errand in of_wallet)
            if doubt_us:
                self._close_after(doubt_us + self._skew_us, of_wallet)
                continue
            for errand in of_wallet:
                self._close(errand, said)

    def _close_after(self, time_us: int, errands: Sequence[_Errand]) -> None:
        left_us = time_us - self._clock()
        if left_us >= 0:  # looked at again then: a clock may be set back
            asyncio.get_running_loop().call_later(left_us / 1e6 + 0.001, self._close_after, time_us, errands)
            return
        unknown = Failed("outcome_unknown", "a node that was asked did not answer")
        for errand in errands:
            self._close(errand, unknown)

    def _close(self, errand: _Errand, answer: Answer) -> None:
        failed = errand.request.parcel.failed
        if type(answer) is Failed and failed is not None:
            answer = failed.get(errand.request.user_id, answer)
        errand.request.close(answer)
        self._held -= 1
        if self._held == 0:
            self._none_held.set()

    def _refuse(
        self, requests: Sequence[Request], reason: Literal["overloaded", "shutting_down"], detail: str
    ) -> None:
        for request in requests:
            request.close(Failed(reason, detail))

    def _complain(self, *message: object) -> None:
        """Tell the operator, now and then."""
        now_s = time.monotonic()
        if now_s - self._complained_s >= _COMPLAIN_EVERY_S:
            self._complained_s = now_s
            _log.warning(*message)
