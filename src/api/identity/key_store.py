"""What the keys need of their store: the wrapped keys that sign, one for each user with private texts, and the
secrets of webhooks.

A key is in the store only wrapped by the master key, see ``master_key``.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

from api.identity.master_key import Wrapped


class StoredSigningKey(NamedTuple):
    """``number`` counts the keys of one purpose: 1, 2, 3 …"""

    purpose: str
    number: int
    kid: str
    public: str
    wrapped: Wrapped
    used_from_us: int

    @property
    def name(self) -> str:
        """What it is wrapped under; see ``MasterKeys``."""
        return f"{self.purpose}:{self.number}:{self.kid}"


class StoredUserKey(NamedTuple):
    user_id: str
    key_id: str
    """Of this key: a later key of the same user has another."""
    wrapped: Wrapped

    @property
    def name(self) -> str:
        return user_key_name(self.user_id, self.key_id)


def user_key_name(user_id: str, key_id: str) -> str:
    """What a user's key is wrapped under; see ``MasterKeys``."""
    return f"user:{user_id}:{key_id}"


class StoredWebhookSecret(NamedTuple):
    """A secret that signs what an endpoint gets. ``number`` counts the secrets of one endpoint: 1, 2, 3 …"""

    endpoint_id: str
    number: int
    wrapped: Wrapped
    until_us: int | None = None
    """It signs until then; None: it is the newest."""

    @property
    def name(self) -> str:
        return webhook_secret_name(self.endpoint_id, self.number)


def webhook_secret_name(endpoint_id: str, number: int) -> str:
    """What a webhook's secret is wrapped under; see ``MasterKeys``."""
    return f"webhook:{endpoint_id}:{number}"


AnyStoredKey = StoredSigningKey | StoredUserKey | StoredWebhookSecret


class KeyStore(Protocol):
    """The wrapped keys. Every method raises IdentityUnavailable."""

    async def signing_keys(self) -> list[StoredSigningKey]:
        """By purpose and number."""
        ...

    async def add_signing_key(self, key: StoredSigningKey) -> bool:
        """False: another process has added the key of that number."""
        ...

    async def delete_signing_key(self, key: StoredSigningKey) -> None: ...

    async def user_keys(self, user_ids: Collection[str]) -> dict[str, StoredUserKey]:
        """Those that exist, by user."""
        ...

    async def add_user_keys(self, keys: Sequence[StoredUserKey]) -> None:
        """Add those of users that have none. ``user_keys`` then says which key each user has."""
        ...

    async def delete_user_key(self, user_id: str) -> bool:
        """False: the user has none."""
        ...

    async def webhook_secrets(self) -> list[StoredWebhookSecret]:
        """All, by endpoint and number. ``WebhookStore`` adds and deletes them with their endpoints."""
        ...

    async def master_ids(self) -> set[str]:
        """Which master keys have wrapped the keys."""
        ...

    async def user_keys_wrapped_by_others(self, master_id: str, after: str) -> list[StoredUserKey]:
        """The next keys, by user, that another master key has wrapped, of users after ``after``; empty if there are
        none."""
        ...

    async def rewrap(self, keys: Sequence[tuple[AnyStoredKey, Wrapped]]) -> None:
        """Replace each, unless it has changed or is gone."""
        ...
