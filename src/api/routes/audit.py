"""``/v1/partitions`` and ``/v1/events``: what an auditor needs, byte for byte."""

import re
from typing import Any, Final

from litestar import Request, Response, get

from api.http.commands import encode, partitions_body
from api.http.compression import json_response
from api.http.problems import Problem
from api.http.query import Query
from api.http.requests import segments_of
from ledger.errors import LogUnavailable
from ledger.node.node import Node
from ledger.peers.log_view import LogView

_POSITION: Final = re.compile(r"(0|[1-9][0-9]{0,3}):([1-9][0-9]{0,15})")
_SEQ_MAX: Final = 2**53 - 1


def audit_routes(node: Node, whole: LogView, owner: str) -> list[Any]:
    """The handlers, bound to the node they ask; ``owner`` is where it can be reached."""

    @get("/v1/partitions")
    async def get_partitions(request: Request[Any, Any, Any]) -> Response[bytes]:
        Query(request.scope["query_string"], ())
        try:
            heads = await whole.heads()
        except LogUnavailable as error:
            raise Problem("log_unavailable", str(error)) from error
        return json_response(request, encode(partitions_body(heads, await whole.owners(owner))))

    @get("/v1/events")
    async def get_events(request: Request[Any, Any, Any]) -> Response[bytes]:
        query = Query(request.scope["query_string"], ("partition", "from_seq", "limit"))
        partition = query.integer("partition", None, 0, node.partitions - 1)
        from_seq = query.integer("from_seq", 1, 1, _SEQ_MAX)
        limit = query.integer("limit", 1_000, 1, 10_000)
        records = await _records(whole, partition, from_seq, limit)
        body = b"".join(part for record in records for part in (record, b"\n"))
        return Response(body, media_type="application/x-ndjson")

    @get("/v1/events/{position:str}")
    async def get_event(request: Request[Any, Any, Any]) -> Response[bytes]:
        Query(request.scope["query_string"], ())
        position = segments_of(request.scope, 3)[2]
        match = _POSITION.fullmatch(position)
        if match is None:
            raise Problem("malformed_request", f"{position!r} is not a position", field="position")
        partition, seq = int(match[1]), int(match[2])
        records = await _records(whole, partition, seq, 1) if partition < node.partitions else []
        if not records:
            raise Problem("event_not_found", f"there is no event at {position}")
        return Response(records[0], media_type="application/json")

    return [get_partitions, get_events, get_event]


async def _records(whole: LogView, partition: int, from_seq: int, limit: int) -> list[bytes]:
    try:
        return await whole.records(partition, from_seq, limit)
    except LogUnavailable as error:
        raise Problem("log_unavailable", str(error)) from error
