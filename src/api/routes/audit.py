"""``/v1/partitions``, ``/v1/events`` and ``/v1/seals``: what an auditor reads, byte for byte."""

import asyncio
from typing import Any, Final

from api.http.bodies import encode, partitions_of
from api.http.compression import json_response
from api.http.problems import Problem, unavailable
from api.http.requests import Request, Response
from api.http.service import Service
from api.routes.parameters import EventsQuery, OfEvent, SealsQuery
from ledger.errors import LogUnavailable
from ledger.peers.log_view import LogView
from projections.reads.cursors import List, MalformedCursor, read_cursor, write_cursor
from projections.tables.queries import Cursor

_SEALS: Final[List] = ("seals", "", {})


async def get_partitions(service: Service, request: Request[Any, Any]) -> Response:
    log = service.log
    try:
        heads = await log.heads()
    except LogUnavailable as error:
        raise unavailable(error) from error
    return json_response(request, encode(partitions_of(heads, await log.owners(service.address))))


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


async def get_seals(service: Service, request: Request[Any, SealsQuery]) -> Response:
    """Seals, the newest first. They are spliced into the response as they are in the file: a seal's hash is over its
    bytes."""
    query, seals = request.query, service.seals
    if not seals.is_open:
        raise Problem("log_unavailable", "the file of the seals is not open yet")
    before = None
    if query.cursor is not None:
        try:
            before = int(read_cursor(query.cursor, _SEALS, "i", 0).after[0])
        except MalformedCursor as error:
            raise Problem("malformed_request", f"cursor: {error}", field="cursor") from None
    try:
        found = await asyncio.to_thread(seals.newest, before, query.limit)
    except OSError as error:
        raise Problem("log_unavailable", "the file of the seals cannot be read") from error
    last = found[-1][0] if found else 1
    cursor = write_cursor(_SEALS, Cursor((last,), ())) if last > 1 else None
    body = b'{"items":[' + b",".join(line for _, line in found) + b'],"next_cursor":' + encode(cursor) + b"}"
    return json_response(request, body)


async def _records(log: LogView, partition: int, from_seq: int, limit: int) -> list[bytes]:
    try:
        return await log.records(partition, from_seq, limit)
    except LogUnavailable as error:
        raise unavailable(error) from error
