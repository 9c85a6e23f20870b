"""``/admin``: the operator's page, its files, and its login.

The page logs in by the same clients, tokens and limits as ``/v1/auth``. Its access token is in the page's memory, and
its refresh token in a cookie, which no script can read.

Invariants:
(1) the refresh token of a page leaves the service in the cookie only. The cookie is HttpOnly and SameSite=Strict, is
    sent to ``/admin/session`` only, and over TLS only (``Settings.secure_cookies`` says where this is not so);
(2) a request that uses or sets the cookie carries a header that a page of another origin cannot send: CORS never
    allows it.
"""

from http import HTTPStatus
from time import time_ns
from typing import Any, Final

from msgspec import Struct

from api.http.bodies import encode
from api.http.compression import VARY, accepts_gzip
from api.http.identity_bodies import LoginBody
from api.http.json_bodies import read_json
from api.http.problems import Problem
from api.http.requests import Headers, Request, Response, headers_of, list_header
from api.http.service import Service
from api.identity.identity import ADMIN, AUDITOR, OPERATOR, WITHOUT_LOGIN, Identity
from api.identity.roles import MAY_POST
from api.identity.tokens import ACCESS_S, REFRESH_S, TokenPair
from api.page.assets import CONTENT_SECURITY_POLICY, INDEX, assets
from api.routes.auth import TOKENS_NOT_KEPT, WRONG, Credentials, client_of, login_of

USERS_OF_THE_PAGE: Final = (OPERATOR, AUDITOR, ADMIN)
COOKIE: Final = "stakelog_page"
SESSION: Final = "/admin/session"
CSRF_HEADER: Final = b"stakelog-page"

_FETCH_SITE: Final = b"sec-fetch-site"
_OWN_SITES: Final = (b"same-origin", b"none")
_POLICY: Final = (b"content-security-policy", CONTENT_SECURITY_POLICY.encode())
_ASK_AGAIN: Final = (b"cache-control", b"no-cache")
_KEEP_A_YEAR: Final = (b"cache-control", b"public, max-age=31536000, immutable")


class OfAsset(Struct, frozen=True):
    """The path of a file of the page."""

    name: str


class Session(Struct, frozen=True):
    """Who uses the page, and what it must know of the service before it can show anything."""

    login: bool
    """False: ``STAKELOG_AUTH=off``."""
    access_token: str | None
    """None: log in first, or login is off."""
    expires_in: int | None
    client_id: str | None
    role: str | None
    may_post: list[str]
    """Types of commands."""
    assets: dict[str, int]
    """Their exponents."""
    time_us: int
    """The service's clock, for countdowns."""


async def get_page(_service: Service, request: Request[Any, Any]) -> Response:
    return _asset_response(request, INDEX, (_ASK_AGAIN, _POLICY))


async def get_asset(_service: Service, request: Request[OfAsset, Any]) -> Response:
    name = request.path.name
    if name == INDEX or name not in assets():
        raise Problem("not_found", f"the page has no file {name}")
    return _asset_response(request, name, (_KEEP_A_YEAR,))


def _asset_response(request: Request[Any, Any], name: str, headers: Headers) -> Response:
    asset = assets()[name]
    headers = (*VARY, *headers)
    if accepts_gzip(list_header(request.scope, b"accept-encoding")):
        return Response(asset.packed, headers=(*headers, (b"content-encoding", b"gzip")), media_type=asset.media_type)
    return Response(asset.body, headers=headers, media_type=asset.media_type)


async def post_session(service: Service, request: Request[Any, Any]) -> Response:
    """Log in with a client's secret."""
    _refuse_other_origins(request)
    login = login_of(service)
    body = await read_json(request, LoginBody)
    found = await client_of(service, request, Credentials(body.client_id, (body.client_secret,)))
    if found is not None and found.client.role not in USERS_OF_THE_PAGE:
        detail = f"the role {found.client.role} does not use this page"
        raise Problem("forbidden", detail, needs=list(USERS_OF_THE_PAGE))
    pair = None if found is None else await login.tokens.begin(*found)
    if pair is None:
        raise Problem("unauthenticated", WRONG)
    return _logged_in(service, pair)


async def post_session_refresh(service: Service, request: Request[Any, Any]) -> Response:
    """The next access token of the cookie's login. A page without one is told that it must log in: it asks at each
    start, so this is no error."""
    _refuse_other_origins(request)
    if service.login is None:
        return _response(service, WITHOUT_LOGIN, None, ())
    refresh_token = _cookie_of(request)
    pair = None if refresh_token is None else await service.login.tokens.refresh(refresh_token)
    if pair is None:
        ends = () if refresh_token is None else (_cookie(service, "", 0),)
        return _response(service, None, None, ends)
    return _logged_in(service, pair)


async def post_session_logout(service: Service, request: Request[Any, Any]) -> Response:
    """Log out: the tokens are revoked, and the cookie ends."""
    _refuse_other_origins(request)
    login = login_of(service)
    refresh_token = _cookie_of(request)
    if refresh_token is not None:
        await login.tokens.revoke(refresh_token)
    return Response(b"", HTTPStatus.NO_CONTENT, (*TOKENS_NOT_KEPT, _cookie(service, "", 0)), None)


def _logged_in(service: Service, pair: TokenPair) -> Response:
    identity = login_of(service).tokens.identity_of(pair.access_token.encode())
    cookie = _cookie(service, pair.refresh_token, REFRESH_S)
    return _response(service, identity, pair.access_token, (cookie,))


def _response(service: Service, identity: Identity | None, access_token: str | None, headers: Headers) -> Response:
    """``identity``: None: log in first."""
    session = Session(
        service.login is not None,
        access_token,
        None if access_token is None else ACCESS_S,
        None if identity is None else identity.client_id,
        None if identity is None else identity.role,
        [] if identity is None else _may_post(identity),
        dict(service.node.assets),
        time_ns() // 1_000,
    )
    return Response(encode(session), headers=(*TOKENS_NOT_KEPT, *headers))


def _may_post(identity: Identity) -> list[str]:
    return [
        kind
        for kind, roles in MAY_POST.items()
        if identity.role is None or (identity.role in roles and (identity.types is None or kind in identity.types))
    ]


def _refuse_other_origins(request: Request[Any, Any]) -> None:
    """Raises Problem ``forbidden`` for a request that a page of another origin may have made."""
    headers = headers_of(request.scope)
    if CSRF_HEADER not in headers or headers.get(_FETCH_SITE, b"none") not in _OWN_SITES:
        raise Problem("forbidden", "only the page at /admin of this service may send this request", needs=[])


def _cookie_of(request: Request[Any, Any]) -> str | None:
    for pair in (list_header(request.scope, b"cookie") or "").replace(",", ";").split(";"):
        name, _, value = pair.strip().partition("=")
        if name == COOKIE and value:
            return value
    return None


def _cookie(service: Service, value: str, lasts_s: int) -> tuple[bytes, bytes]:
    text = f"{COOKIE}={value}; Path={SESSION}; Max-Age={lasts_s}; HttpOnly; SameSite=Strict"
    return b"set-cookie", (text + "; Secure" if login_of(service).secure_cookies else text).encode()
