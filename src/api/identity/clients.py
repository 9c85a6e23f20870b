"""Clients: programs and people that log in with a secret.

Invariants:
(1) a secret leaves this module once, when it is made; the store has its argon2id hash;
(2) the id of a client is never given to another one: events name it as their actor;
(3) after a rotation the secret before it is valid for ``grace_s``, and no longer; so are logins with it. Without a
    grace all tokens of the client and of its players are revoked.
"""

import re
from collections.abc import Collection
from typing import Final, NamedTuple

from api.identity.hashing import SecretHasher, make_secret
from api.identity.identity import ADMIN, PLAYER, PUBLIC_KEY_PATTERN, ROLES
from api.identity.ports import SERVICE, ChangedBy, Client, ClientChange, Grace, IdentityStore, secret_id_of
from api.identity.roles import MAY_POST
from api.identity.tokens import REFRESH_US, REVOKED_FOR_US
from api.identity.waiting import Waiting
from ledger.core.events import LEDGER
from ledger.core.fields import USER_ID_PATTERN
from ledger.core.games.rules import EXTERNAL_GAME
from ledger.ports import Clock

FIRST: Final = "admin"
"""The client that the first start creates."""
ROLES_OF_CLIENTS: Final = tuple(role for role in ROLES if role != PLAYER)
GRACE_S_MAX: Final = 30 * 86_400
GAMES_MAX: Final = 64
"""Games of a narrowed client. Chosen: they are in each of its tokens, which are headers of requests."""

is_public_key: Final = re.compile(PUBLIC_KEY_PATTERN).search
_is_id: Final = re.compile(USER_ID_PATTERN).search


class ClientRefused(Exception):
    """A client cannot be added like this; the text is for the caller."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(detail)
        self.field, self.detail = field, detail


class ClientExists(ClientRefused):
    """The id is taken."""


class WithSecret(NamedTuple):
    """A client, and its new secret, which is shown once."""

    client: Client
    secret: str


class Authenticated(NamedTuple):
    """A client that has shown its secret, and which secret that was."""

    client: Client
    secret_id: str


class Clients:
    """The clients of a store."""

    def __init__(
        self, store: IdentityStore, clock: Clock, hasher: SecretHasher, games: Collection[str] | None = None
    ) -> None:
        """``games``: the known ones besides ``external``; None: names of games are not checked."""
        self._store, self._clock, self._hasher = store, clock, hasher
        self._games = None if games is None else {EXTERNAL_GAME, *games}
        self._waiting = Waiting()

    async def authenticate(self, client_id: str, secret: str) -> Authenticated | None:
        """The client with this secret. Raises IdentityUnavailable, TooManyLogins."""
        with self._waiting.one_more():
            client = await self._store.client(client_id) if is_client_id(client_id) else None
        if client is not None and client.disabled_at_us is not None:
            client = None
        if await self._hasher.verify(secret, None if client is None else client.secret_hash):
            assert client is not None, "the secret of no client is never right"
            return Authenticated(client, secret_id_of(client.secret_hash))
        if client is None or client.old_secret_hash is None or not client.old_secret_is_valid(self._clock()):
            return None
        if not await self._hasher.verify(secret, client.old_secret_hash):
            return None
        return Authenticated(client, secret_id_of(client.old_secret_hash))

    async def listed(self) -> list[Client]:
        """All, disabled ones too, by id. Raises IdentityUnavailable."""
        return await self._store.clients()

    async def add(
        self,
        client_id: str,
        role: str,
        games: tuple[str, ...] | None = None,
        types: tuple[str, ...] | None = None,
        secret: str | None = None,
        public_key: str | None = None,
        by: ChangedBy = SERVICE,
    ) -> WithSecret:
        """``secret``: None makes one. ``public_key``: the client must sign what it posts. Raises ClientRefused,
        ClientExists, IdentityUnavailable, TooManyLogins."""
        _refuse(client_id, role, games, types)
        if games is not None and self._games is not None and (unknown := sorted(set(games) - self._games)):
            known = ", ".join(sorted(self._games))
            raise ClientRefused("games", f"games names {unknown[0]}, which is not known; the known games are {known}")
        if public_key is not None and not is_public_key(public_key):
            raise ClientRefused(
                "public_key",
                "public_key must be the base64 line between BEGIN and END of an Ed25519 public key in PEM",
            )
        secret = make_secret() if secret is None else secret
        now_us = self._clock()
        secret_hash = await self._hasher.hash(secret)
        client = Client(
            client_id, role, secret_hash, now_us, games, types, secret_since_us=now_us, public_key=public_key
        )
        if not await self._store.add_client(client, by):
            raise ClientExists("client_id", f"the client_id {client_id} is taken; a disabled client keeps its id")
        return WithSecret(client, secret)

    async def changes(self) -> list[ClientChange]:
        """Who did what to which client and when, the first change first. Raises IdentityUnavailable."""
        return await self._store.changes(0)

    async def rotate(self, client_id: str, grace_s: int, by: ChangedBy = SERVICE) -> str | None:
        """The new secret. ``grace_s``: how long the present one and the logins with it stay valid; 0: all tokens of
        the client and of its players are revoked. None: there is no such client, or it is disabled. Raises
        IdentityUnavailable, TooManyLogins."""
        secret = make_secret()
        secret_hash = await self._hasher.hash(secret)
        now_us = self._clock()
        grace = Grace(now_us + grace_s * 1_000_000, now_us + REVOKED_FOR_US, now_us + REFRESH_US - REVOKED_FOR_US)
        done = await self._store.rotate(client_id, secret_hash, now_us, grace, by)
        return secret if done else None

    async def disable(self, client_id: str, by: ChangedBy = SERVICE) -> bool:
        """Disable it and revoke its tokens, and those of players that it asked for. False: there is no such client.
        Raises LastAdmin, IdentityUnavailable."""
        now_us = self._clock()
        return await self._store.disable(client_id, now_us, now_us + REVOKED_FOR_US, by)

    async def create_first(self, secret: str | None) -> str | None:
        """Create the client ``admin`` unless there is one. ``secret``: None makes one. Returns its secret if it was
        created now. Raises IdentityUnavailable."""
        if await self._store.client(FIRST) is not None:
            return None
        try:
            return (await self.add(FIRST, ADMIN, secret=secret)).secret
        except ClientExists:
            return None  # another node was first


def is_client_id(text: str) -> bool:
    """Whether it is spelled as the id of a client: as an actor."""
    return _is_id(text) is not None and text != LEDGER


def _refuse(client_id: str, role: str, games: tuple[str, ...] | None, types: tuple[str, ...] | None) -> None:
    """Raises ClientRefused."""
    if not is_client_id(client_id):
        raise ClientRefused("client_id", f"client_id must be spelled like a user_id, and not be `{LEDGER}`")
    if role not in ROLES_OF_CLIENTS:
        raise ClientRefused("role", f"role must be one of {', '.join(ROLES_OF_CLIENTS)}")
    if games is not None and not 1 <= len(games) <= GAMES_MAX:
        raise ClientRefused("games", f"games must name 1–{GAMES_MAX} games; leave it out to allow all")
    may = [kind for kind, roles in MAY_POST.items() if role in roles]
    if games is not None and not may:
        raise ClientRefused("games", f"games must be left out: the role {role} posts no commands")
    if types is not None and (not types or not set(types) <= set(may)):
        some = ", ".join(may) if may else "none: it posts no commands"
        raise ClientRefused("types", f"types must name types that the role {role} may post: {some}")
