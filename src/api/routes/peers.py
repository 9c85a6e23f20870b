"""``/internal/v1/…``: what other nodes ask of this one. No part of the contract, nor of the OpenAPI document.

Plain ASGI applications, called by path as the command routes are: a node that forwards sends what hundreds of clients
asked in one body.

While ``STAKELOG_AUTH=off`` a node serves on loopback only, these routes too. Login must close them to everybody but
nodes: who can call them can post as any actor. A secret that all nodes share, in a header that is compared in
constant time before the body is read, is what they need; a token of a client must never do.
"""

from collections.abc import Mapping
from typing import Final

from litestar.types import ASGIApp, Receive, Scope, Send

from api.http.problems import Problem
from api.http.query import Query
from api.http.requests import http_scope, read_body, respond
from api.nodes.client import DECIDE, ENDS, FOLLOW_UPS, OPEN_FOLLOW_UPS, RECORDS
from api.nodes.messages import (
    MalformedMessage,
    read_asking,
    read_follow_ups,
    write_answers,
    write_arrived,
    write_ends,
    write_open_follow_ups,
)
from ledger.errors import LedgerError
from ledger.peers.handler import PeerHandler
from ledger.peers.log_view import LogView

PEER_BODY_MAX: Final = 64 * 1024 * 1024
"""Chosen: one request of the largest size, and as many others of the largest single commands as go into a call."""

_SEQ_MAX: Final = 2**53 - 1


def peer_routes(answering: PeerHandler, whole: LogView) -> Mapping[str, ASGIApp]:
    """The applications by their paths, bound to what answers."""

    async def post_decide(scope: Scope, receive: Receive, send: Send) -> None:
        _require(scope, "POST")
        try:
            tickets, deadline_us = read_asking(await read_body(receive, PEER_BODY_MAX))
        except MalformedMessage as error:
            raise Problem("malformed_request", str(error)) from None
        await answering.decide(tickets, deadline_us)
        await respond(send, 200, write_answers([ticket.response for ticket in tickets]))

    async def post_follow_ups(scope: Scope, receive: Receive, send: Send) -> None:
        _require(scope, "POST")
        try:
            follow_ups = read_follow_ups(await read_body(receive, PEER_BODY_MAX))
        except MalformedMessage as error:
            raise Problem("malformed_request", str(error)) from None
        await respond(send, 200, write_arrived(await answering.receive(follow_ups)))

    async def get_ends(scope: Scope, _: Receive, send: Send) -> None:
        _require(scope, "GET")
        Query(scope["query_string"], ())
        await respond(send, 200, write_ends(whole.local_ends()))

    async def get_records(scope: Scope, _: Receive, send: Send) -> None:
        _require(scope, "GET")
        query = Query(scope["query_string"], ("partition", "from_seq", "limit"))
        partition = query.integer("partition", None, 0, whole.partitions - 1)
        from_seq = query.integer("from_seq", None, 1, _SEQ_MAX)
        limit = query.integer("limit", None, 1, 10_000)
        try:
            records = await whole.local_records(partition, from_seq, limit)
        except LedgerError as error:
            raise Problem("log_unavailable", str(error)) from error
        if records is None:
            raise Problem("not_owner", f"partition {partition} is not open here")
        await respond(send, 200, b"\n".join(records), media_type=b"application/x-ndjson")

    async def get_open_follow_ups(scope: Scope, _: Receive, send: Send) -> None:
        _require(scope, "GET")
        asked = (Query(scope["query_string"], ("partitions",)).text("partitions") or "").split(",")
        if not all(one.isascii() and one.isdigit() for one in asked):
            raise Problem("malformed_request", "partitions are numbers with commas between them", field="partitions")
        await respond(send, 200, write_open_follow_ups(whole.local_open_follow_ups(map(int, asked))))

    return {
        DECIDE: post_decide,
        FOLLOW_UPS: post_follow_ups,
        ENDS: get_ends,
        RECORDS: get_records,
        OPEN_FOLLOW_UPS: get_open_follow_ups,
    }


def _require(scope: Scope, method: str) -> None:
    if http_scope(scope)["method"] != method:
        raise Problem("method_not_allowed", f"only {method} is allowed here", allow=[method])
