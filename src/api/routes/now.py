"""``/admin/now``: the last hour, the nodes, and what an operator should look at now.

``/admin/verification``: verify the log now.
"""

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from time import time_ns
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from api.http.bodies import encode
from api.http.compression import json_response
from api.http.problems import Problem
from api.http.requests import NO_STORE, Request, Response
from api.http.samples import HOUSE_EVERY_S, LATE_MS, HouseSample, Sample
from api.http.service import AskNode, Service
from api.routes.operation import reasons_of, warnings_of
from ledger.core.fields import TIME_US_MAX
from ledger.histogram import SECONDS
from ledger.node.ports import PeerSilent, PeerUnreachable

_TRANSIT: Final = "transit/"
_STUCK_SAMPLES: Final = 6
"""Five minutes."""
_GAP_US: Final = int(1.5 * HOUSE_EVERY_S * 1_000_000)
"""More than this between two samples of the house: at least one is missing."""


class NowQuery(Struct, frozen=True):
    since_us: Annotated[int, Meta(ge=0, le=TIME_US_MAX)] = 0
    """Only samples after it: what a page that is open already needs."""


class Alarm(Struct, frozen=True):
    """What an operator should look at."""

    severity: str
    """``critical``: the node does not work, or money is in question; ``warning``: look at it today."""
    text: str


class NodeNow(Struct, frozen=True):
    """One node, and its last hour."""

    address: str
    ready: bool
    partitions: list[int]
    """Those that it owns."""
    standby: list[int]
    """Those of other nodes that it is ready to take over."""
    stopped: list[int]
    feeds: int
    """Open live feeds."""
    alarms: list[Alarm]
    samples: Sequence[Sample]


class Now(Struct, frozen=True):
    """What the tab "Now" shows."""

    time_us: int
    bounds_s: Sequence[float]
    """Of the buckets of ``Sample.durations``."""
    nodes: list[NodeNow]
    house: Sequence[HouseSample]


async def get_now(service: Service, request: Request[Any, NowQuery]) -> Response:
    since_us = request.query.since_us
    house = [sample for sample in service.samples.house if sample.time_us > since_us]
    others: list[NodeNow] = []
    if service.ask_node is not None:
        owners = {owner for owner in await service.log.owners(service.address) if owner is not None}
        addresses = sorted(owners - {service.address})
        others = await asyncio.gather(*(_ask(service.ask_node, address, since_us) for address in addresses))
    now = Now(time_ns() // 1_000, SECONDS, [node_now(service, since_us), *others], house)
    return json_response(request, encode(now), NO_STORE)


async def _ask(ask_node: AskNode, address: str, since_us: int) -> NodeNow:
    """Another node. One that does not respond is in the answer too, with an alarm."""
    try:
        found = msgspec.json.decode(await ask_node(address, since_us), type=NodeNow)
    except (PeerUnreachable, PeerSilent, msgspec.MsgspecError) as error:
        return NodeNow(address, False, [], [], [], 0, [Alarm("critical", f"the node does not respond: {error}")], [])
    return msgspec.structs.replace(found, address=address)


async def get_verification(service: Service, _request: Request[Any, Any]) -> Response:
    return Response(encode(service.verification.state), headers=NO_STORE)


async def post_verification(service: Service, request: Request[Any, Any]) -> Response:
    """Begin a verification, unless one is running."""
    if not service.verification.start(request.identity.client_id):
        raise Problem("not_found", "the log is not in a folder of this node: stakelog audit verify --url verifies it")
    return Response(encode(service.verification.state), 202, NO_STORE)


def node_now(service: Service, since_us: int) -> NodeNow:
    """This node."""
    node = service.node
    return NodeNow(
        service.address,
        node.ready,
        sorted(node.writers),
        node.standby,
        list(node.stopped),
        len(service.hub.feeds),
        alarms_of(service),
        [sample for sample in service.samples.last_hour if sample.time_us > since_us],
    )


def alarms_of(service: Service) -> list[Alarm]:
    """The worst first."""
    alarms = [Alarm("critical", reason) for reason in reasons_of(service)]
    model = service.metrics.read_model
    forks = {partition: service.node.forks(partition) for partition in sorted(service.node.writers)}
    status = model.status
    lag_ms = service.samples.last_hour[-1].lag_ms if service.samples.last_hour else None
    if status is None or lag_ms is None:
        alarms.append(Alarm("critical", "the read model cannot be read: reads fail, commands are accepted"))
    elif status.differences:
        text = f"{status.differences} fields or rows of the read model differ from the log"
        alarms.append(Alarm("critical", text))
    if lag_ms is not None and lag_ms > LATE_MS:
        alarms.append(Alarm("critical", f"reads are {lag_ms // 1_000} s behind the log: they show old balances"))
    alarms += [Alarm("critical", f"{name} does not run") for name in model.down]
    if service.node.counts.unpaid:
        text = f"since the start {service.node.counts.unpaid} payouts were not paid in full: the wallet had no room"
        alarms.append(Alarm("warning", text))
    alarms += [Alarm("warning", warning) for warning in warnings_of(service)]
    if status is not None and status.quarantined:
        alarms.append(Alarm("warning", f"{status.quarantined} users are in quarantine: their reads do not change"))
    if any(forks.values()):
        named = ", ".join(f"{partition}: {number}" for partition, number in forks.items() if number)
        alarms.append(Alarm("warning", f"records that are no events, by partition: {named}"))
    alarms += [Alarm("warning", f"money waits in {account}") for account in _stuck(service.samples.house)]
    return alarms


def _stuck(house: Sequence[HouseSample]) -> list[str]:
    """Transit accounts that had the same balance, not zero, for the last five minutes. If a sample is missing, there
    is none: the balance may have changed in the gap."""
    last = list(house)[-_STUCK_SAMPLES:]
    times_us = [*(sample.time_us for sample in last), time_ns() // 1_000]
    if len(last) < _STUCK_SAMPLES or any(after - before > _GAP_US for before, after in pairwise(times_us)):
        return []
    return [
        account
        for account, balance in last[-1].accounts.items()
        if account.startswith(_TRANSIT) and balance and all(s.accounts.get(account) == balance for s in last)
    ]
