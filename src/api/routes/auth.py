"""``/v1/auth/…`` and ``/.well-known/…``: tokens of clients and of players, and the keys that verify them.

The token route takes JSON, and the form of OAuth 2.0 (RFC 6749). A form gets its errors in that RFC's shape.
"""

import base64
import binascii
import logging
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any, Final, NamedTuple, NoReturn
from urllib.parse import parse_qsl, unquote_plus

from api.http.bodies import encode
from api.http.identity_bodies import (
    Jwk,
    Jwks,
    LoginBody,
    OAuthError,
    OAuthMetadata,
    PlayerBody,
    RefreshBody,
    TokenResult,
)
from api.http.json_bodies import SMALL_MAX, read_json
from api.http.problems import Problem
from api.http.requests import NO_STORE, Headers, Request, Response, headers_of, read_body
from api.http.service import Service
from api.identity.clients import Authenticated, is_client_id
from api.identity.login import Login
from api.identity.tokens import ACCESS_S, TokenPair
from ledger.pacing import WARN_EVERY_S, RareWarnings

TOKENS_NOT_KEPT: Final[Headers] = (*NO_STORE, (b"pragma", b"no-cache"))
_KEEP_5_MIN: Final[Headers] = ((b"cache-control", b"max-age=300"),)
"""Chosen: half the time for which a new key is published before it is used."""
_FORM: Final = b"application/x-www-form-urlencoded"
_BASIC: Final = b"basic"
_BASIC_CHALLENGE: Final = (b"www-authenticate", b'Basic realm="stakelog"')
WRONG: Final = "the client is unknown or disabled, or its secret is wrong"
_SPENT: Final = "the refresh token is unknown, spent, revoked or expired"
_failures: Final = RareWarnings(logging.getLogger(__name__))


class _Refused(Exception):
    """A form gets this error."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(description)
        self.error, self.description = error, description


class Credentials(NamedTuple):
    client_id: str
    secrets: tuple[str, ...]
    """The secret, in each spelling that the client may have meant."""


def login_of(service: Service) -> Login:
    """Raises Problem ``not_found`` while there is no login."""
    if service.login is None:
        raise Problem("not_found", "login is off (STAKELOG_AUTH=off)")
    return service.login


async def post_token(service: Service, request: Request[Any, Any]) -> Response:
    login = login_of(service)
    if headers_of(request.scope).get(b"content-type", b"").split(b";")[0].strip().lower() == _FORM:
        return await _form_response(service, request)
    body = await read_json(request, LoginBody, _FORM.decode())
    found = await client_of(service, request, Credentials(body.client_id, (body.client_secret,)))
    pair = None if found is None else await login.tokens.begin(*found)
    if pair is None:
        raise Problem("unauthenticated", WRONG)
    return _tokens(pair)


async def post_refresh(service: Service, request: Request[Any, Any]) -> Response:
    login = login_of(service)
    pair = await login.tokens.refresh((await read_json(request, RefreshBody)).refresh_token)
    if pair is None:
        raise Problem("unauthenticated", _SPENT)
    return _tokens(pair)


async def post_logout(service: Service, request: Request[Any, Any]) -> Response:
    """204 for an unknown token too: it is not valid, which is what the caller wants."""
    login = login_of(service)
    await login.tokens.revoke((await read_json(request, RefreshBody)).refresh_token)
    return Response(b"", 204, TOKENS_NOT_KEPT, None)


async def post_player(service: Service, request: Request[Any, Any]) -> Response:
    body: PlayerBody = request.body
    sender = request.identity
    pair = await login_of(service).tokens.begin_player(sender.client_id, body.user_id, sender.family)
    if pair is None:
        raise Problem("unauthenticated", "the access token is revoked")
    return _tokens(pair)


async def get_jwks(service: Service, _request: Request[Any, Any]) -> Response:
    if service.keys is None:
        raise Problem("not_found", "the service has no master key, so it signs nothing")
    keys = [Jwk(**key) for key in service.keys.ring.jwks()]
    return Response(encode(Jwks(keys)), headers=_KEEP_5_MIN)


async def get_oauth_metadata(service: Service, _request: Request[Any, Any]) -> Response:
    issuer = login_of(service).issuer
    return Response(
        encode(
            OAuthMetadata(
                issuer,
                f"{issuer}/v1/auth/token",
                f"{issuer}/.well-known/jwks.json",
                ["client_credentials", "refresh_token"],
                ["client_secret_basic", "client_secret_post", "none"],
                [],
            )
        ),
        headers=_KEEP_5_MIN,
    )


async def client_of(service: Service, request: Request[Any, Any], credentials: Credentials) -> Authenticated | None:
    """The client that logs in; None: the secret is wrong. The credentials can be decoded to several secrets, and each
    one counts as an attempt. Raises Problem ``rate_limited``."""
    login, limiter = login_of(service), service.limiter
    assert limiter is not None, "with login there are limits"
    wrong: list[Callable[[], None]] = []
    with ExitStack() as attempts:
        for secret in credentials.secrets:
            try:
                failed = attempts.enter_context(limiter.login(request.scope, credentials.client_id))
            except Problem:
                _count(wrong)
                raise
            found = await login.clients.authenticate(credentials.client_id, secret)
            if found is not None:
                return found  # the secrets tried before it were not attempts to guess
            wrong.append(failed)
        _count(wrong)
    service.metrics.failed_logins.inc()
    name = credentials.client_id if is_client_id(credentials.client_id) else "a client whose id is malformed"
    _failures.warn("a login of %s failed; others within %d s are only counted", name, WARN_EVERY_S)
    return None


def _count(failures: Iterable[Callable[[], None]]) -> None:
    for failed in failures:
        failed()


def _tokens(pair: TokenPair) -> Response:
    return Response(encode(TokenResult(pair.access_token, ACCESS_S, pair.refresh_token)), headers=TOKENS_NOT_KEPT)


# --- OAuth 2.0 -----------------------------------------------------------------------------------------------------


async def _form_response(service: Service, request: Request[Any, Any]) -> Response:
    try:
        return _tokens(await _of_form(service, request))
    except _Refused as refused:
        body = encode(OAuthError(refused.error, refused.description))
        if refused.error == "invalid_client":
            return Response(body, 401, (*TOKENS_NOT_KEPT, _BASIC_CHALLENGE))
        return Response(body, 400, TOKENS_NOT_KEPT)


async def _of_form(service: Service, request: Request[Any, Any]) -> TokenPair:
    """Raises _Refused."""
    login = login_of(service)
    form = _read_form(await read_body(request.receive, SMALL_MAX))
    credentials = _credentials(headers_of(request.scope).get(b"authorization"), form)
    match form.get("grant_type"):
        case "client_credentials":
            if credentials is None:
                raise _Refused("invalid_client", "the client must log in, by HTTP Basic or in the form")
            began = await login.tokens.begin(*await _authenticated(service, request, credentials))
            if began is None:
                raise _Refused("invalid_client", WRONG)
            return began
        case "refresh_token":
            if not form.get("refresh_token"):
                raise _Refused("invalid_request", "refresh_token is missing")
            # Also without credentials ("none" in the metadata): the token is as secret, and is spent by its use.
            client_id = form.get("client_id")
            if credentials is not None:
                client_id = (await _authenticated(service, request, credentials)).client.client_id
            pair = await login.tokens.refresh(form["refresh_token"], client_id or None)
            if pair is None:
                raise _Refused("invalid_grant", _SPENT)
            return pair
        case None | "":
            raise _Refused("invalid_request", "grant_type is missing")
        case _:
            raise _Refused("unsupported_grant_type", "grant_type must be client_credentials or refresh_token")


async def _authenticated(service: Service, request: Request[Any, Any], credentials: Credentials) -> Authenticated:
    """Raises _Refused."""
    found = await client_of(service, request, credentials)
    if found is None:
        raise _Refused("invalid_client", WRONG)
    return found


def _read_form(body: bytes) -> dict[str, str]:
    """Unknown members are ignored, as the RFC says. Raises _Refused."""
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict")
    except ValueError:
        raise _Refused("invalid_request", "the body is not a form in UTF-8") from None
    form = dict(pairs)
    if len(form) < len(pairs):
        raise _Refused("invalid_request", "a member of the form is given twice")
    return form


def _credentials(header: bytes | None, form: dict[str, str]) -> Credentials | None:
    """The client's, by HTTP Basic or in the form; None: neither. Raises _Refused."""
    client_id, secret = form.get("client_id"), form.get("client_secret")
    if header is None:
        if secret is None:
            return None
        return Credentials(client_id or "", (secret,))
    scheme, _, encoded = header.partition(b" ")
    if scheme.lower() != _BASIC:
        raise _Refused("invalid_client", "the header Authorization must be HTTP Basic")
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        _refuse_basic()
    name, colon, password = text.partition(":")
    if not colon:
        _refuse_basic()
    name = unquote_plus(name)
    if secret is not None or client_id not in (None, name):
        raise _Refused("invalid_request", "the client logs in twice: by HTTP Basic and in the form")
    # The RFC says that both are form-encoded first. Most clients do not do it, which matters for few secrets.
    decoded = unquote_plus(password)
    return Credentials(name, (password,) if decoded == password else (password, decoded))


def _refuse_basic() -> NoReturn:
    raise _Refused("invalid_client", "the header Authorization is not HTTP Basic")
