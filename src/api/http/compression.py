"""Long JSON responses are compressed for clients that accept it; such a route names the header in ``Vary``, also on a
response that is not compressed, so that a cache keeps both variants apart (RFC 9110, 12.5.3 and 12.5.5).

A client may refuse it (``gzip;q=0``), so looking for the letters "gzip" is not enough.
"""

import gzip
import re
from typing import Any, Final

from api.http.requests import Headers, Request, Response, list_header

# Chosen: a page of history shrinks to a fifth at the cheapest level; a single wallet would not get smaller.
_WORTH_IT_BYTES: Final = 2_048
_LEVEL: Final = 1
_REFUSED: Final = re.compile(r"\s*q\s*=\s*0(\.0*)?\s*")
VARY: Final = ((b"vary", b"Accept-Encoding"),)


def json_response(
    request: Request[Any, Any], body: bytes, headers: Headers = (), *, vary: Headers = VARY
) -> Response:
    """The encoded JSON ``body``, compressed where that saves enough and the client accepts it."""
    headers = vary + headers
    if len(body) >= _WORTH_IT_BYTES and accepts_gzip(list_header(request.scope, b"accept-encoding")):
        body = gzip.compress(body, _LEVEL, mtime=0)
        headers += ((b"content-encoding", b"gzip"),)
    return Response(body, headers=headers)


def prefers_html(accept: str | None) -> bool:
    """Whether a header ``Accept`` names HTML, as browsers' do. ``*/*``, which programs send, does not."""
    weights: dict[str, str] = {}
    for item in (accept or "").lower().split(","):
        media_type, _, parameters = item.partition(";")
        weights[media_type.strip()] = parameters
    return "text/html" in weights and not _REFUSED.fullmatch(weights["text/html"])


def accepts_gzip(accept_encoding: str | None) -> bool:
    """Whether a header ``Accept-Encoding`` allows gzip."""
    weights: dict[str, str] = {}
    for item in (accept_encoding or "").lower().split(","):
        coding, _, weight = item.partition(";")
        weights[coding.strip()] = weight
    named = next((coding for coding in ("gzip", "x-gzip", "*") if coding in weights), None)
    return named is not None and not _REFUSED.fullmatch(weights[named])
