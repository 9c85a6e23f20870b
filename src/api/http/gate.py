"""Who sends a request, and whether they may: before its handler runs.

Invariants:
(1) a route with ``roles`` runs only for an access token that is valid now, and only for one of these roles; the two
    routes that post commands check each command instead (``refuse_command``), and refuse a long body of a role that
    posts none before it has arrived;
(2) a player reads what is theirs, and nothing of another user: the user_id in the path and in the query are compared
    as the handler reads them, decoded, byte for byte;
(3) the order is the contract's: 401, then 400, then 403;
(4) no text of a token is in a problem or in the log.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from api.http.asgi import HTTPScope
from api.http.limiter import Element, Limiter
from api.http.problems import Problem
from api.http.requests import Request
from api.identity.identity import PLAYER, UNIDENTIFIED, WITHOUT_LOGIN, Identity
from api.identity.revocations import Revocations
from api.identity.roles import refusal_of
from api.identity.tokens import TokenRefused, Tokens
from ledger.core.commands import Command

_BEARER: Final = b"bearer"
_PROBES: Final = frozenset({b"/healthz", b"/readyz"})
"""Not counted: a probe that is refused would take the service out of its balancer."""


class Gate:
    """The check of tokens and roles, while ``STAKELOG_AUTH=on``."""

    def __init__(
        self, tokens: Tokens, revocations: Revocations, limiter: Limiter, adjust_max: Mapping[str, int]
    ) -> None:
        """``adjust_max``: asset → what an operator may adjust or grant alone by one command."""
        self._tokens, self._revocations, self._adjust_max = tokens, revocations, adjust_max
        self.limiter = limiter

    def identify(self, roles: tuple[str, ...], scope: HTTPScope) -> Identity:
        """The sender of a request to a route of these roles; the request is counted. Raises Problem:
        ``unauthenticated``; ``rate_limited``; ``log_unavailable`` while this process does not know which tokens are
        revoked; ``malformed_request``."""
        if not roles:
            if scope["raw_path"] not in _PROBES:
                self.limiter.count_unidentified(scope)
            return UNIDENTIFIED
        credentials: list[bytes] = []
        names_actor = False
        for name, value in scope["headers"]:
            if name == b"authorization":
                credentials.append(value)
            elif name == b"stakelog-actor":
                names_actor = True
        token = _token_of(credentials)
        # A token that was verified before costs nothing to check; whatever else comes counts for its address first.
        verified = isinstance(token, bytes) and self._tokens.has_verified(token)
        address = None if verified else self.limiter.count_unidentified(scope)
        if isinstance(token, Problem):
            raise token
        if not self._revocations.known:
            raise Problem("log_unavailable", "access tokens cannot be checked now: revocations could not be read")
        try:
            identity = self._tokens.identity_of(token)
        except TokenRefused as refused:
            if address is None:
                self.limiter.count_unidentified(scope)
            raise Problem("unauthenticated", str(refused)) from None
        if address is not None:
            self.limiter.give_back(address)
        self.limiter.count(identity)
        if names_actor:
            detail = "with login the actor is the client of the token: leave out Stakelog-Actor"
            raise Problem("malformed_request", detail, field="Stakelog-Actor")
        return identity

    def watch(self, scope: HTTPScope) -> Callable[[], str | None]:
        """For a response that lasts: returns why its client, identified by ``scope``, may read no more, or None."""
        (token,) = (value.partition(b" ")[2].strip() for name, value in scope["headers"] if name == b"authorization")

        def why_ended() -> str | None:
            if not self._revocations.known:
                return "tokens_cannot_be_checked"
            try:
                self._tokens.identity_of(token)
            except TokenRefused as refused:
                return refused.reason
            return None

        return why_ended

    def count_unidentified(self, scope: HTTPScope) -> None:
        """Count a request for its address: it is for no route, so its token is not read. Raises Problem
        ``rate_limited``."""
        self.limiter.count_unidentified(scope)

    def count_user(self, request: Request[Any, Any]) -> None:
        """Count the request for the user in its path. Raises Problem ``rate_limited``."""
        self.limiter.count_user(request)

    def count_command(self, identity: Identity, command: Command) -> None:
        """Count it for its user. Raises Problem ``rate_limited``."""
        self.limiter.count_command(identity, command.user_id)

    def count_commands(self, identity: Identity, elements: Sequence[Element]) -> list[Element]:
        """Count a batch: see ``Limiter.count_commands``."""
        return self.limiter.count_commands(identity, elements)

    async def check_signature(self, request: Request[Any, Any]) -> None:
        """Check the signature of a request, if its sender must sign: see ``Limiter.check_signature``."""
        await self.limiter.check_signature(request)

    def refuse_role(self, roles: tuple[str, ...], request: Request[Any, Any]) -> None:
        """Raises Problem ``forbidden`` if the sender's role may not use the route, or not for this user."""
        role = request.identity.role
        if not roles:
            return
        if refusal := self.refusal_of_role(roles, request.identity):
            raise refusal
        if role == PLAYER and not _is_own(request):
            others = tuple(other for other in roles if other != PLAYER)
            raise forbidden("a player may read only their own data", others)

    def refusal_of_role(self, roles: tuple[str, ...], identity: Identity) -> Problem | None:
        """The problem if none of ``roles`` is that of ``identity``."""
        if identity.role in roles:
            return None
        return forbidden(f"the role {identity.role} may not use this route", roles)

    def refuse_command(self, identity: Identity, command: Command) -> Problem | None:
        """The problem if ``identity`` may not post the command."""
        refusal = refusal_of(identity, command, self._adjust_max)
        return None if refusal is None else forbidden(refusal.detail, refusal.needs, **refusal.fields)


class OpenGate:
    """The gate while ``STAKELOG_AUTH=off``, and of the internal listener: all requests pass, and none is counted."""

    def identify(self, _roles: tuple[str, ...], _scope: HTTPScope) -> Identity:
        return WITHOUT_LOGIN

    def watch(self, _scope: HTTPScope) -> Callable[[], str | None]:
        return lambda: None

    def count_unidentified(self, _scope: HTTPScope) -> None:
        return

    def count_user(self, _request: Request[Any, Any]) -> None:
        return

    def count_command(self, _identity: Identity, _command: Command) -> None:
        return

    def count_commands(self, _identity: Identity, elements: Sequence[Element]) -> list[Element]:
        return list(elements)

    async def check_signature(self, _request: Request[Any, Any]) -> None:
        return

    def refuse_role(self, _roles: tuple[str, ...], _request: Request[Any, Any]) -> None:
        return

    def refusal_of_role(self, _roles: tuple[str, ...], _identity: Identity) -> Problem | None:
        return None

    def refuse_command(self, _identity: Identity, _command: Command) -> Problem | None:
        return None


AnyGate = Gate | OpenGate


def forbidden(detail: str, needs: tuple[str, ...], **fields: Any) -> Problem:
    """``needs``: the roles that may."""
    return Problem("forbidden", detail, needs=list(needs), **fields)


def _token_of(credentials: list[bytes]) -> bytes | Problem:
    """The access token in the headers Authorization, or what is wrong with them."""
    if not credentials:
        return Problem("unauthenticated", "send an access token: Authorization: Bearer <token>")
    if len(credentials) > 1:
        return Problem("unauthenticated", "the header Authorization is given twice")
    scheme, _, token = credentials[0].partition(b" ")
    if scheme.lower() != _BEARER:
        return Problem("unauthenticated", "the header Authorization must be: Bearer <token>")
    return token.strip()


def _is_own(request: Request[Any, Any]) -> bool:
    """Whether every user that the request names is the player. An empty list names no user."""
    own = request.identity.user_id
    for parameters in (request.path, request.query):
        if "user_id" in parameters.__struct_fields__:
            named = parameters.user_id
            if any(user_id != own for user_id in (named if isinstance(named, list) else [named])):
                return False
    return True
