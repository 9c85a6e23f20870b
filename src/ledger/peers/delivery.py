"""Follow-ups for partitions that are not open here: delivered to whoever has them, until their events are durable.

Truths:
(1) a follow-up is let go only when its event is durable where it belongs, or when this node stops; until then it is
    delivered again, however long that takes, which is harmless: its id makes a second delivery find the first event;
(2) only then ``arrived`` is called, once, and the origin closes it;
(3) memory is that of the origin's state, which keeps every open follow-up anyway; one that is offered again takes the
    place of itself.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final, NamedTuple

from ledger.core.commands import AnyFollowUp
from ledger.core.position import partition_of
from ledger.errors import LedgerError
from ledger.node.ports import Owners, Peers
from ledger.peers.handler import PeerHandler

CALL_FOLLOW_UPS: Final = 512
"""In one call. Chosen: half of what a call may bring of commands."""

CALL_S: Final = 5.0
"""How long a call may take. Chosen: more than the other end waits for the events, ``answering.ARRIVED_WITHIN_S``."""

_PAUSE_S_MIN: Final = 0.02
_PAUSE_S_MAX: Final = 1.0
_REFRESH_S: Final = 1.0
_COMPLAIN_EVERY_S: Final = 10.0

_log = logging.getLogger(__name__)


class _Delivery(NamedTuple):
    follow_up: AnyFollowUp
    arrived: Callable[[], None]


class Deliveries:
    """One queue a partition, and a task while there is anything in it."""

    def __init__(self, owners: Owners, peers: Peers, answering: PeerHandler, partitions: int, address: str) -> None:
        self._owners, self._peers, self._answering = owners, peers, answering
        self._partitions, self._address = partitions, address
        self._queues: dict[int, dict[tuple[int, int], _Delivery]] = {}
        self._carriers: dict[int, asyncio.Task[None]] = {}
        self._stopping = False
        self._complained_s = -_COMPLAIN_EVERY_S

    @property
    def waiting(self) -> int:
        """Follow-ups that are not known to have arrived."""
        return sum(map(len, self._queues.values()))

    def deliver(self, origin: int, seq: int, follow_up: AnyFollowUp, arrived: Callable[[], None]) -> None:
        """See ``Remote.deliver``."""
        if self._stopping:
            return
        partition = partition_of(follow_up.user_id, self._partitions)
        self._queues.setdefault(partition, {})[origin, seq] = _Delivery(follow_up, arrived)
        if partition not in self._carriers:
            self._carriers[partition] = asyncio.get_running_loop().create_task(
                self._carry(partition), name="follow-ups"
            )

    async def close(self) -> None:
        """Give up what has not arrived: its origin offers it again."""
        self._stopping = True
        carriers = list(self._carriers.values())
        for carrier in carriers:
            carrier.cancel()
        if carriers:
            await asyncio.wait(carriers)
        self._queues.clear()

    async def _carry(self, partition: int) -> None:
        queue = self._queues[partition]
        pause_s = 0.0
        try:
            while queue:
                batch = list(islice(queue.items(), CALL_FOLLOW_UPS))
                arrived = await self._give(partition, [delivery.follow_up for _, delivery in batch])
                some = False
                for (key, delivery), is_durable in zip(batch, arrived, strict=True):
                    if is_durable:
                        some = True
                        if queue.get(key) is delivery:
                            del queue[key]
                        delivery.arrived()
                if all(arrived):
                    pause_s = 0.0
                    continue
                pause_s = _PAUSE_S_MIN if some else min(max(pause_s * 2, _PAUSE_S_MIN), _PAUSE_S_MAX)
                await asyncio.sleep(pause_s)
                await self._hear_owners()
        finally:
            del self._carriers[partition]

    async def _give(self, partition: int, follow_ups: Sequence[AnyFollowUp]) -> Sequence[bool]:
        """For each follow-up whether its event is known to be durable."""
        address = self._owners.address_of(partition)
        nothing = [False] * len(follow_ups)
        if address is None:
            return nothing
        if address == self._address:
            return await self._answering.take(follow_ups)
        try:
            async with asyncio.timeout(CALL_S):
                arrived = await self._peers.deliver(address, follow_ups)
            assert len(arrived) == len(follow_ups), "each follow-up has its word"
            return arrived
        except (LedgerError, TimeoutError) as error:
            self._complain("follow-ups wait for the node at %s: %s", address, str(error) or "it does not answer")
        except Exception:  # noqa: BLE001 - money is under way: whatever it was, deliver again
            _log.exception("delivering follow-ups to the node at %s", address)
        return nothing

    async def _hear_owners(self) -> None:
        try:
            async with asyncio.timeout(_REFRESH_S):
                await self._owners.refresh()
        except (LedgerError, TimeoutError) as error:
            self._complain("who has which partition cannot be heard: %s", str(error) or "nobody answers")
        except Exception:  # noqa: BLE001 - money is under way: whatever it was, deliver again
            _log.exception("who has which partition cannot be heard")

    def _complain(self, *message: object) -> None:
        """Tell the operator, now and then."""
        now_s = time.monotonic()
        if now_s - self._complained_s >= _COMPLAIN_EVERY_S:
            self._complained_s = now_s
            _log.warning(*message)
