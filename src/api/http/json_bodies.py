"""Reads JSON bodies other than commands into Structs, as strictly: no unknown member, and none twice."""

from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

from api.http.commands import malformed, refuse_duplicates
from api.http.problems import Problem
from api.http.requests import Request, headers_of, read_body, require_json

SMALL_MAX: Final = 64 * 1024
"""Bytes of such a body. Chosen: ten times the largest."""

S = TypeVar("S", bound=Struct)


async def read_json(request: Request[Any, Any], kind: type[S], other: str = "") -> S:
    """The body. ``other``: as for ``require_json``. An absent one is the same as ``{}``. Raises Problem."""
    body = await read_body(request.receive, SMALL_MAX)
    if not body:
        body = b"{}"
    else:
        require_json(headers_of(request.scope), other)
    return decode_json(body, kind)


def decode_json(body: bytes, kind: type[S]) -> S:
    """Raises Problem ``malformed_request``, which names the member."""
    try:
        found = msgspec.json.decode(body, type=kind)
        refuse_duplicates(body)
    except msgspec.ValidationError as error:
        raise malformed(str(error)) from None
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise Problem("malformed_request", f"the body is not JSON: {error}") from None
    return found
