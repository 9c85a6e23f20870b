"""What browsers are told: headers of every response, and which web pages may read responses (CORS).

A page authenticates with a token in ``Authorization``, which no browser adds by itself. So
``Access-Control-Allow-Credentials`` is never sent, and any page may be allowed by ``*``. The one cookie is that of
the operator's page (``api.routes.page``); pages of other origins can neither send nor get it.
"""

from collections.abc import Sequence
from typing import Final

from api.http.asgi import HTTPScope
from api.http.requests import Headers, Response, headers_of

SECURITY: Final[Headers] = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    # Without this one the server names itself.
    (b"server", b"stakelog"),
)
"""Of every response. One that is HTML also has a Content-Security-Policy of its own."""
WITH_TLS: Final[Headers] = (*SECURITY, (b"strict-transport-security", b"max-age=31536000"))
"""Of every response of a listener with TLS: for a year browsers do not use the host without it."""

ANY_ORIGIN: Final = "*"

_ORIGIN: Final = b"origin"
_ALLOW_ORIGIN: Final = b"access-control-allow-origin"
_VARY: Final = (b"vary", b"Origin")
_EXPOSE: Final = (
    b"access-control-expose-headers",
    b"ETag, Idempotency-Hit, RateLimit, RateLimit-Policy, Retry-After, WWW-Authenticate, X-Request-Id",
)
_REQUEST_METHOD: Final = b"access-control-request-method"
_PREFLIGHT: Final[Headers] = (
    (b"access-control-allow-headers", b"Authorization, Content-Type, If-None-Match, Last-Event-ID, X-Request-Id"),
    (b"access-control-max-age", b"600"),
)


class Cors:
    """Which web pages may read responses, by their origins."""

    def __init__(self, origins: frozenset[str]) -> None:
        """``origins``: as browsers send them; or ``*`` alone, for all of them."""
        self._any = ANY_ORIGIN in origins
        self._origins = frozenset(origin.encode() for origin in origins)

    def headers(self, scope: HTTPScope) -> Headers:
        """What a response to this request has in addition."""
        if self._any:
            return ((_ALLOW_ORIGIN, b"*"), _EXPOSE)
        origin = headers_of(scope).get(_ORIGIN)
        if origin not in self._origins:
            return (_VARY,)
        return ((_ALLOW_ORIGIN, origin), _EXPOSE, _VARY)

    def preflight(self, scope: HTTPScope, methods: Sequence[str]) -> Response | None:
        """The response to a browser that asks before it sends a request with one of these methods; None: it does not
        ask, or its page is not allowed."""
        asked = headers_of(scope)
        if scope["method"] != "OPTIONS" or _REQUEST_METHOD not in asked:
            return None
        if not self._any and asked.get(_ORIGIN) not in self._origins:
            return None
        allowed = (b"access-control-allow-methods", ", ".join(methods).encode())
        return Response(b"", 204, (allowed, *_PREFLIGHT), None)
