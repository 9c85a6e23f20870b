"""Who sends a request, and whether they may: before its handler runs.

Invariants:
(1) a route with ``roles`` runs only for an access token that is valid now, and only for one of these roles; the two
    routes that post commands check each command instead (``refuse_command``);
(2) a player reads what is theirs, and nothing of another user: the user_id in the path and in the query are compared
    as the handler reads them, decoded, byte for byte;
(3) the order is the contract's: 401, then 400, then 403;
(4) no text of a token is in a problem or in the log.
"""

from collections.abc import Mapping
from typing import Any, Final

from litestar.types import HTTPScope

from api.http.problems import Problem
from api.http.requests import Request
from api.identity.identity import PLAYER, STRANGER, WITHOUT_LOGIN, Identity
from api.identity.revocations import Revocations
from api.identity.roles import refusal_of
from api.identity.tokens import TokenRefused, Tokens
from ledger.core.commands import Command

_BEARER: Final = b"bearer"


class Gate:
    """The check of tokens and roles, while ``STAKELOG_AUTH=on``."""

    def __init__(self, tokens: Tokens, revocations: Revocations, adjust_max: Mapping[str, int]) -> None:
        """``adjust_max``: asset → what an operator may adjust alone."""
        self._tokens, self._revocations, self._adjust_max = tokens, revocations, adjust_max

    def identify(self, roles: tuple[str, ...], scope: HTTPScope) -> Identity:
        """The sender of a request to a route of these roles. Raises Problem: ``unauthenticated``; ``log_unavailable``
        while this process does not know which tokens are revoked; ``malformed_request``."""
        if not roles:
            return STRANGER
        credentials: bytes | None = None
        names_actor = False
        for name, value in scope["headers"]:
            if name == b"authorization":
                if credentials is not None:
                    raise Problem("unauthenticated", "the header Authorization is given twice")
                credentials = value
            elif name == b"stakelog-actor":
                names_actor = True
        if credentials is None:
            raise Problem("unauthenticated", "send an access token: Authorization: Bearer <token>")
        scheme, _, token = credentials.partition(b" ")
        if scheme.lower() != _BEARER:
            raise Problem("unauthenticated", "the header Authorization must be: Bearer <token>")
        if not self._revocations.known:
            raise Problem("log_unavailable", "logins cannot be checked now")
        try:
            identity = self._tokens.identity_of(token.strip())
        except TokenRefused as refused:
            raise Problem("unauthenticated", str(refused)) from None
        if names_actor:
            detail = "with login the actor is the client of the token: leave out Stakelog-Actor"
            raise Problem("malformed_request", detail, field="Stakelog-Actor")
        return identity

    def refuse_role(self, roles: tuple[str, ...], request: Request[Any, Any]) -> None:
        """Raises Problem ``forbidden`` if the sender's role may not use the route, or not for this user."""
        role = request.identity.role
        if not roles:
            return
        if role not in roles:
            raise forbidden(f"the role {role} may not use this route", roles)
        if role == PLAYER and not _is_own(request):
            others = tuple(other for other in roles if other != PLAYER)
            raise forbidden("a player may read their own only", others)

    def refuse_command(self, identity: Identity, command: Command) -> Problem | None:
        """The problem if ``identity`` may not post the command."""
        refusal = refusal_of(identity, command, self._adjust_max)
        return None if refusal is None else forbidden(refusal.detail, refusal.needs, **refusal.fields)


class OpenGate:
    """The gate while ``STAKELOG_AUTH=off``: all requests pass."""

    def identify(self, _roles: tuple[str, ...], _scope: HTTPScope) -> Identity:
        return WITHOUT_LOGIN

    def refuse_role(self, _roles: tuple[str, ...], _request: Request[Any, Any]) -> None:
        return

    def refuse_command(self, _identity: Identity, _command: Command) -> Problem | None:
        return None


AnyGate = Gate | OpenGate


def forbidden(detail: str, needs: tuple[str, ...], **fields: Any) -> Problem:
    """``needs``: the roles that may."""
    return Problem("forbidden", detail, needs=list(needs), **fields)


def _is_own(request: Request[Any, Any]) -> bool:
    """Whether every user that the request names is the player. A list of users must name one."""
    own = request.identity.user_id
    for parameters in (request.path, request.query):
        if "user_id" in parameters.__struct_fields__:
            named = parameters.user_id
            if (named if isinstance(named, list) else [named]) != [own]:
                return False
    return True
