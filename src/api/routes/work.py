"""What the tab "Work" of the operator's page lists, and no public route does: gifts, and quarantined users."""

from typing import Any

from api.http.compression import json_response
from api.http.consistency import body_of, read_until_visible
from api.http.requests import Request, Response
from api.http.service import Service
from api.routes.parameters import LIMIT_MAX, PageQuery, ReadQuery


async def get_gifts(service: Service, request: Request[Any, PageQuery]) -> Response:
    query, reads = request.query, service.reads
    found = await read_until_visible(request, reads, None, lambda: reads.gifts(query.limit, query.cursor))
    return json_response(request, body_of(found))


async def get_quarantined(service: Service, request: Request[Any, ReadQuery]) -> Response:
    """At most ``LIMIT_MAX`` users."""
    reads = service.reads
    return json_response(
        request, body_of(await read_until_visible(request, reads, None, lambda: reads.quarantined(LIMIT_MAX)))
    )
