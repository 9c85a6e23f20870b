"""What logins need from the outside: a store of clients and tokens, and keys that sign tokens.

A secret and a refresh token are in the store as hashes only. Times are Unix microseconds. Every method of the store
raises IdentityUnavailable.
"""

from hashlib import sha256
from typing import Final, NamedTuple, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Struct

from ledger.errors import LedgerError


class IdentityUnavailable(LedgerError):
    """The database of clients and tokens failed or did not respond; retry later."""

    for_clients = "the database of clients and keys is unavailable"


class LastAdmin(Exception):
    """The client is the last admin that is enabled, so it stays enabled: only an admin can add clients over HTTP."""

    def __init__(self, client_id: str) -> None:
        super().__init__(f"{client_id} is the last enabled admin: add another admin before you disable it")


class Client(Struct, frozen=True):
    """A program or a person with a secret."""

    client_id: str
    role: str
    secret_hash: str
    created_at_us: int
    games: tuple[str, ...] | None = None
    """None: all."""
    types: tuple[str, ...] | None = None
    secret_since_us: int = 0
    old_secret_hash: str | None = None
    old_secret_until_us: int | None = None
    """The secret before a rotation is valid until then."""
    disabled_at_us: int | None = None
    public_key: str | None = None
    """The key by which it must sign what it posts, spelled like ``PUBLIC_KEY_PATTERN``; None: it need not sign."""

    def old_secret_is_valid(self, now_us: int) -> bool:
        """Whether the secret before the last rotation is valid."""
        return self.old_secret_until_us is not None and now_us < self.old_secret_until_us

    def has_secret(self, secret_id: str | None, now_us: int) -> bool:
        """Whether the secret of this id is valid: the present one, or the one before it during the grace."""
        old = self.old_secret_hash if self.old_secret_is_valid(now_us) else None
        return secret_id in {secret_id_of(one) for one in (self.secret_hash, old) if one is not None}


def secret_id_of(secret_hash: str) -> str:
    """Names a secret without telling anything of it: each argon2id hash has its own salt."""
    return sha256(secret_hash.encode()).hexdigest()[:32]


class ChangedBy(NamedTuple):
    """Who changes a client. ``origin``: ``http``, the client of that name; ``machine``, a user of the machine by
    ``stakelog clients``; ``service``, the first start."""

    name: str
    origin: str


SERVICE: Final = ChangedBy("stakelog", "service")


class ClientChange(NamedTuple):
    """What was done to a client. ``what``: ``added``, ``rotated`` (a new secret) or ``disabled``."""

    number: int
    at_us: int
    what: str
    client_id: str
    by: str
    origin: str


class Family(NamedTuple):
    """The tokens that descend from one login."""

    family: str
    client_id: str
    user_id: str | None
    """A player's; None: they are the client's own."""
    created_at_us: int
    secret_id: str | None = None
    """The secret that the client logged in with; None: the family is a player's."""


class Refresh(NamedTuple):
    """Hashes of a refresh token: of the part that all tokens of its family share, and of the whole.

    The shared part is as secret as the whole: a token with it that is not the unspent one was spent, or made from a
    spent one.
    """

    handle_sha256: str
    sha256: str


class Reused(NamedTuple):
    """A spent refresh token came again: its family is revoked now."""

    family: str
    client_id: str


class Revocation(NamedTuple):
    """Access tokens that are refused although they have not expired: those of a family, or all of a client."""

    number: int
    client_id: str | None
    family: str | None
    expires_at_us: int
    """When the last of them has expired."""


class Grace(NamedTuple):
    """What a rotation leaves of the secret before it."""

    old_until_us: int
    """Until then it is valid. Not after the rotation: there is no grace."""
    revoked_until_us: int
    """When the last revoked access token has expired."""
    access_if_after_us: int
    """A family whose refresh token expires later may have an access token that has not expired."""


class IdentityStore(Protocol):
    """Clients, their tokens and the revocations."""

    async def client(self, client_id: str) -> Client | None: ...

    async def clients(self) -> list[Client]:
        """All, disabled ones too, by id."""
        ...

    async def add_client(self, client: Client, by: ChangedBy = SERVICE) -> bool:
        """False: the id is taken, by a disabled client too: its events name it as their actor."""
        ...

    async def rotate(
        self, client_id: str, secret_hash: str, now_us: int, grace: Grace, by: ChangedBy = SERVICE
    ) -> bool:
        """Replace the secret. Without a grace all families of the client and of its players are revoked. False:
        there is no such client, or it is disabled."""
        ...

    async def disable(self, client_id: str, now_us: int, revoked_until_us: int, by: ChangedBy = SERVICE) -> bool:
        """Revoke all tokens of the client, and of the players that it asked for. False: there is no such client.
        ``revoked_until_us``: when its last access token has expired. Raises LastAdmin: of several calls at the same
        time one is refused, if together they would disable all admins."""
        ...

    async def changes(self, after: int) -> list[ClientChange]:
        """What was done to clients, by number; those with higher numbers than ``after``. They become visible in
        the order of their numbers."""
        ...

    async def begin(self, family: Family, refresh: Refresh, expires_at_us: int, parent: str | None = None) -> bool:
        """A new family with its first refresh token. False: the client is unknown or disabled, or its secret is no
        longer valid; or ``parent``, the client's family that asks for a player's, is revoked."""
        ...

    async def spend(
        self, spent: Refresh, successor: Refresh, now_us: int, expires_at_us: int, revoked_until_us: int
    ) -> tuple[Family, Client] | Reused | None:
        """Replace a refresh token by the next one of its family: of calls at the same time one succeeds, the others
        are a reuse, which revokes the family. None: unknown, expired, revoked, or its client is disabled."""
        ...

    async def revoke(self, refresh: Refresh, now_us: int, revoked_until_us: int) -> str | None:
        """Revoke the family of a refresh token, spent or not. Returns it; None: there is none."""
        ...

    async def revocations(self, after: int) -> list[Revocation]:
        """Those with higher numbers than ``after``, in their order. None becomes visible behind a higher one."""
        ...

    async def delete_expired(self, now_us: int) -> None:
        """Delete families and revocations that no token needs any more."""
        ...

    async def close(self) -> None: ...


class SigningKey(NamedTuple):
    """The key that signs new access tokens. ``kid``: its thumbprint (RFC 7638)."""

    kid: str
    private: Ed25519PrivateKey


class TokenKeys(Protocol):
    """The keys of access tokens: one signs, and the others are accepted until their last token has expired."""

    def signing(self) -> SigningKey: ...

    def public(self, kid: str) -> Ed25519PublicKey | None:
        """None: tokens of this key are not accepted."""
        ...

    def accepts(self, kid: str) -> bool:
        """Whether tokens of this key are accepted now."""
        ...

    def jwks(self) -> list[dict[str, str]]:
        """All published keys, as JWKs (RFC 8037)."""
        ...
