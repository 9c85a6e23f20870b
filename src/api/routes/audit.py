"""``/v1/partitions``, ``/v1/events`` and ``/v1/seals``: what an auditor reads, byte for byte."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

from api.http.bodies import encode, partitions_of
from api.http.compression import json_response
from api.http.problems import Problem, unavailable
from api.http.requests import Request, Response
from api.http.service import Service
from api.identity.receipts import Receipt, receipt_text
from api.routes.parameters import EventsQuery, OfEvent, SealsQuery
from ledger.core.position import Position
from ledger.core.record import sha256_hex
from ledger.errors import LedgerError, LogDamaged, LogUnavailable
from ledger.peers.log_view import LogView
from projections.reads.cursors import List, MalformedCursor, read_cursor, write_cursor
from projections.tables.queries import Cursor

PAGE_BYTES: Final = 4 * 1024 * 1024
"""Bound of a page of events. A page has at least one record."""
_FIRST_RECORDS: Final = 50
_RECORDS_MAX: Final = 500
_PART_BYTES: Final = 128 * 1024
"""A page is read in parts of about this size: 50 records at first, and then as many as their size suggests. Chosen: a
client that reads slowly keeps one part in memory, and a thread is started for each."""
_PART_WITHIN_S: Final = 2.0
"""Chosen: the default ``timeout_ms`` of reads."""
_NDJSON: Final = b"application/x-ndjson"
_SEALS: Final[List] = ("seals", "", {})


async def get_partitions(service: Service, request: Request[Any, Any]) -> Response:
    log = service.log
    try:
        heads = await log.heads()
    except (LogUnavailable, LogDamaged) as error:
        raise unavailable(error) from error
    return json_response(request, encode(partitions_of(heads, await log.owners(service.address))))


async def get_events(service: Service, request: Request[Any, EventsQuery]) -> Response:
    query, partitions = request.query, service.node.partitions
    if query.partition >= partitions:
        detail = f"partition must be an integer from 0 to {partitions - 1}"
        raise Problem("malformed_request", detail, field="partition")
    page = _Page(service.log, query.partition, query.from_seq, query.limit)
    part = await page.next_part()
    if page.is_whole:
        return Response(part, media_type=_NDJSON)
    return Response(b"", media_type=_NDJSON, more=page.parts(part))


class _Page:
    """A page of records, read in parts while it is sent."""

    def __init__(self, log: LogView, partition: int, from_seq: int, limit: int) -> None:
        self._log, self._partition, self._next_seq, self._left = log, partition, from_seq, limit
        self._records = self._bytes = 0

    @property
    def is_whole(self) -> bool:
        return self._left == 0

    async def next_part(self) -> bytes:
        """Lines of records. Raises Problem ``log_unavailable``."""
        fitting = self._records * _PART_BYTES // self._bytes if self._bytes else _FIRST_RECORDS
        at_once = min(self._left, max(fitting, 1), _RECORDS_MAX)
        lines: list[bytes] = []
        for record in await _records(self._log, self._partition, self._next_seq, at_once):
            size = len(record) + 1
            if self._bytes and self._bytes + size > PAGE_BYTES:
                break
            self._bytes += size
            lines.append(record + b"\n")
        self._records += len(lines)
        self._next_seq += len(lines)
        self._left = self._left - at_once if len(lines) == at_once else 0
        return b"".join(lines)

    async def parts(self, part: bytes) -> AsyncIterator[bytes]:
        """``part``, and all after it."""
        yield part
        while not self.is_whole:
            try:
                async with asyncio.timeout(_PART_WITHIN_S):
                    part = await self.next_part()
            except (Problem, TimeoutError):
                return  # the page ends early, and the client's next request gets the problem
            yield part


async def get_event(service: Service, request: Request[OfEvent, Any]) -> Response:
    position = request.path.position
    partition, seq = Position.parse(position)
    records = await _records(service.log, partition, seq, 1) if partition < service.node.partitions else []
    if not records:
        raise Problem("event_not_found", f"there is no event at {position}")
    return Response(records[0])


async def get_receipt(service: Service, request: Request[OfEvent, Any]) -> Response:
    if service.keys is None:
        raise Problem("not_found", "the service has no master key, so it signs nothing")
    record = (await get_event(service, request)).body
    partition, seq = Position.parse(request.path.position)
    head, signed_at_us = sha256_hex(record), service.keys.ring.clock()
    try:
        kid, signature = service.keys.ring.sign(receipt_text(partition, seq, head, signed_at_us))
    except LedgerError as error:
        raise unavailable(error) from error
    receipt = Receipt(record.decode(), head, partition, seq, signed_at_us, kid, signature)
    return Response(encode(receipt))


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
    except (LogUnavailable, LogDamaged) as error:
        raise unavailable(error) from error
