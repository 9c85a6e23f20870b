"""Requests and follow-ups from other nodes. Also this node's own ones, if a partition opened on this node while its
owner was being looked up.

Invariants:
(1) a request is decided on this node or not at all. If its partition is not open it is closed as ``not_owner`` and
    never forwarded again, so that no request is forwarded in a circle;
(2) a request is not decided after its deadline, however long it waited in a socket or a mailbox;
(3) a follow-up counts as arrived only once its event is durable.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Final

from ledger.core.follow_up_commands import AnyFollowUp
from ledger.node.ports import LocalWriters
from ledger.tracing import Span
from ledger.writer.requests import CommandRequest, LookupRequest, OutcomeRequest, Request, RequestGroup, WalletRequest

ARRIVED_WITHIN_S: Final = 2.0
"""How long a delivery waits for its events. Chosen: as long as a command waits; the sender delivers again."""


class PeerHandler:
    """The receiving end of ``Peers.decide`` and ``Peers.deliver``."""

    def __init__(self, local: LocalWriters) -> None:
        self._local = local

    async def decide(self, requests: Sequence[Request], deadline_us: int) -> None:
        """Close every request. No request was submitted before, and none is decided after ``deadline_us``."""
        for request in requests:
            request.deadline_us = deadline_us
        await self._local.prepare_local(requests)
        self._local.submit_local(requests)
        for group in {id(request.group): request.group for request in requests}.values():
            await group.done

    async def receive(self, follow_ups: Sequence[AnyFollowUp], spans: Sequence[Span | None]) -> list[bool]:
        """Returns, after ``ARRIVED_WITHIN_S`` at the latest, whether the event of each follow-up is durable.
        ``spans``: of the rounds that sent them."""
        arrived = [asyncio.Event() for _ in follow_ups]
        taken = [
            self._local.receive_local(follow_up, event.set, span)
            for follow_up, event, span in zip(follow_ups, arrived, spans, strict=True)
        ]
        waited = [event for event, is_taken in zip(arrived, taken, strict=True) if is_taken]
        try:
            async with asyncio.timeout(ARRIVED_WITHIN_S):
                for event in waited:
                    await event.wait()
        except TimeoutError:
            pass  # an event that is not set yet is False in the response
        return [event.is_set() for event in arrived]


def copies_of(requests: Sequence[Request]) -> list[Request]:
    """Copies of the requests, in groups of the same sizes. A copy is closed independently of its original."""
    sizes = Counter(id(request.group) for request in requests)
    spans = {id(request.group): request.group.span for request in requests}
    groups = {group: RequestGroup(size, spans[group]) for group, size in sizes.items()}
    return [_copy_of(request, groups[id(request.group)]) for request in requests]


def _copy_of(request: Request, group: RequestGroup) -> Request:
    match request:
        case CommandRequest():
            return CommandRequest(
                request.command,
                request.request_sha256,
                request.actor,
                group,
                dry_run=request.dry_run,
                games=request.games,
            )
        case LookupRequest():
            return LookupRequest(request.user_id, request.command_id, group)
        case OutcomeRequest():
            return OutcomeRequest(request.user_id, request.period, group)
        case WalletRequest():
            return WalletRequest(request.user_id, group)
        case _:
            raise AssertionError(request)
