"""All that login needs, in one place for the routes and the gate."""

from typing import NamedTuple

from api.identity.clients import Clients
from api.identity.ports import TokenKeys
from api.identity.revocations import Revocations
from api.identity.tokens import Tokens


class Login(NamedTuple):
    """The clients, their tokens, and the keys that sign these."""

    clients: Clients
    tokens: Tokens
    revocations: Revocations
    keys: TokenKeys
    issuer: str
    """The address of the service for its clients, in its OAuth metadata."""
    secure_cookies: bool
    """Whether browsers send cookies over TLS only."""


class Access(NamedTuple):
    """How requests are let in."""

    login: Login | None
    """None: ``STAKELOG_AUTH=off``."""
