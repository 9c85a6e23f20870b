"""``/internal/v1/…``: the routes for other nodes. They are not part of the contract, nor of the OpenAPI document.

A node that forwards requests sends those of hundreds of clients in one body.

They are on the internal listener only (``STAKELOG_INTERNAL``), because their caller can post as any client. Beyond
loopback, and wherever it is set, each call carries a proof that its sender knows the secret of the cluster, which
``api.http.application`` checks before it reads anything else. A client's token is never enough.
"""

import re
from typing import Annotated, Any, Final

from msgspec import Meta, Struct

from api.http.bodies import encode
from api.http.problems import Problem, unavailable
from api.http.requests import Request, Response, read_body
from api.http.routing import AnyRoute, Route
from api.http.service import Service
from api.nodes.messages import (
    DECIDE,
    ENDS,
    FOLLOW_UPS,
    NOW,
    OPEN_FOLLOW_UPS,
    RECORDS,
    MalformedMessage,
    read_follow_ups,
    read_requests,
    write_arrived,
    write_ends,
    write_open_follow_ups,
    write_responses,
)
from api.routes.now import NowQuery, node_now
from api.routes.parameters import RECORDS_MAX, SEQ_MAX
from ledger.core.position import PARTITIONS_MAX
from ledger.errors import LedgerError

PEER_BODY_MAX: Final = 64 * 1024 * 1024
"""Chosen: one HTTP request of the largest size, and as many of the largest single commands as a call may have."""

_POSITION: Final = r"[0-9]{1,4}:[0-9]{1,16}"
_POSITIONS: Final = re.compile(f"{_POSITION}(,{_POSITION})*")


class RecordsQuery(Struct, frozen=True):
    partition: Annotated[int, Meta(ge=0, le=PARTITIONS_MAX - 1)]
    from_seq: Annotated[int, Meta(ge=1, le=SEQ_MAX)]
    limit: Annotated[int, Meta(ge=1, le=RECORDS_MAX)]


class OpenFollowUpsQuery(Struct, frozen=True):
    after: str
    """Positions, separated by commas."""


async def post_decide(service: Service, request: Request[Any, Any]) -> Response:
    try:
        body = await read_body(request.receive, PEER_BODY_MAX)
        requests, deadline_us = read_requests(body, None if service.tracer is None else service.tracer.follow)
    except MalformedMessage as error:
        raise Problem("malformed_request", str(error)) from None
    await service.peers.decide(requests, deadline_us)
    return Response(write_responses([one.response for one in requests]))


async def post_follow_ups(service: Service, request: Request[Any, Any]) -> Response:
    try:
        body = await read_body(request.receive, PEER_BODY_MAX)
        follow_ups, spans = read_follow_ups(body, None if service.tracer is None else service.tracer.follow)
    except MalformedMessage as error:
        raise Problem("malformed_request", str(error)) from None
    return Response(write_arrived(await service.peers.receive(follow_ups, spans)))


async def get_ends(service: Service, _request: Request[Any, Any]) -> Response:
    return Response(write_ends(service.log.local_ends()))


async def get_records(service: Service, request: Request[Any, RecordsQuery]) -> Response:
    query, partitions = request.query, service.log.partitions
    if query.partition >= partitions:
        detail = f"partition must be an integer from 0 to {partitions - 1}"
        raise Problem("malformed_request", detail, field="partition")
    try:
        records = await service.log.local_records(query.partition, query.from_seq, query.limit)
    except LedgerError as error:
        raise unavailable(error) from error
    if records is None:
        raise Problem("not_owner", f"partition {query.partition} is not open at this node")
    return Response(b"\n".join(records), media_type=b"application/x-ndjson")


async def get_open_follow_ups(service: Service, request: Request[Any, OpenFollowUpsQuery]) -> Response:
    text = request.query.after
    if not _POSITIONS.fullmatch(text):
        raise Problem("malformed_request", "after is positions, separated by commas", field="after")
    positions = (position.split(":") for position in text.split(","))
    after = {int(partition): int(seq) for partition, seq in positions}
    return Response(write_open_follow_ups(service.log.local_open_follow_ups(after)))


async def get_now(service: Service, request: Request[Any, NowQuery]) -> Response:
    return Response(encode(node_now(service, request.query.since_us)))


PEER_ROUTES: Final[tuple[AnyRoute, ...]] = (
    Route(method="POST", path=DECIDE, handler=post_decide),
    Route(method="POST", path=FOLLOW_UPS, handler=post_follow_ups),
    Route(method="GET", path=ENDS, handler=get_ends),
    Route(method="GET", path=RECORDS, handler=get_records, query=RecordsQuery),
    Route(method="GET", path=OPEN_FOLLOW_UPS, handler=get_open_follow_ups, query=OpenFollowUpsQuery),
    Route(method="GET", path=NOW, handler=get_now, query=NowQuery),
)
