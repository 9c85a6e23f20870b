"""Long JSON answers are compressed for clients that take it; each such route says so to caches, also when it is not.

The framework's own compression looks for the letters "gzip" in the header, so that it compresses for a client that
refuses it (``gzip;q=0``) too, and tells caches of a variant only where it made one (RFC 9110, 12.5.3 and 12.5.5).
"""

import gzip
import re
from typing import Any, Final

from litestar import Request, Response

from api.http.requests import list_header

# Chosen: a page of history shrinks to a fifth at the cheapest level; a single wallet would not get smaller.
_WORTH_IT_BYTES: Final = 2_048
_LEVEL: Final = 1
_REFUSED: Final = re.compile(r"\s*q\s*=\s*0(\.0*)?\s*")
_VARY: Final = {"vary": "Accept-Encoding"}


def json_response(
    request: Request[Any, Any, Any], body: bytes, headers: dict[str, str] | None = None, status: int = 200
) -> Response[bytes]:
    """The encoded JSON ``body``, compressed where that is worth it and wanted."""
    said = {**_VARY, **(headers or {})}
    if len(body) >= _WORTH_IT_BYTES and accepts_gzip(list_header(request.scope, b"accept-encoding")):
        body = gzip.compress(body, _LEVEL, mtime=0)
        said["content-encoding"] = "gzip"
    return Response(body, status_code=status, media_type="application/json", headers=said)


def not_modified(etag: str) -> Response[bytes]:
    """304: what the client has is still so."""
    return Response(b"", status_code=304, headers={**_VARY, "etag": etag})


def accepts_gzip(accept_encoding: str | None) -> bool:
    weights: dict[str, str] = {}
    for item in (accept_encoding or "").lower().split(","):
        coding, _, weight = item.partition(";")
        weights[coding.strip()] = weight
    named = next((coding for coding in ("gzip", "x-gzip", "*") if coding in weights), None)
    return named is not None and not _REFUSED.fullmatch(weights[named])
