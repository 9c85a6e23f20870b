"""``/v1/partitions`` and ``/v1/events``: what an auditor reads, byte for byte."""

from typing import Any

from api.http.commands import encode, partitions_body
from api.http.compression import json_response
from api.http.problems import Problem
from api.http.requests import Request, Response
from api.http.service import Service
from api.routes.parameters import EventsQuery, OfEvent
from ledger.errors import LogUnavailable
from ledger.peers.log_view import LogView


async def get_partitions(service: Service, request: Request[Any, Any]) -> Response:
    log = service.log
    try:
        heads = await log.heads()
    except LogUnavailable as error:
        raise Problem("log_unavailable", str(error)) from error
    return json_response(request, encode(partitions_body(heads, await log.owners(service.address))))


async def get_events(service: Service, request: Request[Any, EventsQuery]) -> Response:
    query, partitions = request.query, service.node.partitions
    if query.partition >= partitions:
        detail = f"partition must be an integer from 0 to {partitions - 1}"
        raise Problem("malformed_request", detail, field="partition")
    records = await _records(service.log, query.partition, query.from_seq, query.limit)
    body = b"".join(part for record in records for part in (record, b"\n"))
    return Response(body, media_type=b"application/x-ndjson")


async def get_event(service: Service, request: Request[OfEvent, Any]) -> Response:
    position = request.path.position
    partition, seq = map(int, position.split(":"))
    records = await _records(service.log, partition, seq, 1) if partition < service.node.partitions else []
    if not records:
        raise Problem("event_not_found", f"there is no event at {position}")
    return Response(records[0])


async def _records(log: LogView, partition: int, from_seq: int, limit: int) -> list[bytes]:
    try:
        return await log.records(partition, from_seq, limit)
    except LogUnavailable as error:
        raise Problem("log_unavailable", str(error)) from error
