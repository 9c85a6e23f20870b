"""Keys in memory: complete, except that they end with the process. For tests."""

from collections.abc import Collection, Sequence

from api.identity.key_store import AnyStoredKey, StoredSigningKey, StoredUserKey, StoredWebhookSecret
from api.identity.master_key import Wrapped


class MemoryKeyStore:
    """``KeyStore`` over dicts. A ledger in memory has no webhooks."""

    def __init__(self) -> None:
        self._signing: dict[tuple[str, int], StoredSigningKey] = {}
        self._users: dict[str, StoredUserKey] = {}

    async def signing_keys(self) -> list[StoredSigningKey]:
        return [self._signing[name] for name in sorted(self._signing)]

    async def add_signing_key(self, key: StoredSigningKey) -> bool:
        return self._signing.setdefault((key.purpose, key.number), key) == key

    async def delete_signing_key(self, key: StoredSigningKey) -> None:
        self._signing.pop((key.purpose, key.number), None)

    async def user_keys(self, user_ids: Collection[str]) -> dict[str, StoredUserKey]:
        return {user_id: self._users[user_id] for user_id in user_ids if user_id in self._users}

    async def add_user_keys(self, keys: Sequence[StoredUserKey]) -> None:
        for key in keys:
            self._users.setdefault(key.user_id, key)

    async def delete_user_key(self, user_id: str) -> bool:
        return self._users.pop(user_id, None) is not None

    async def webhook_secrets(self) -> list[StoredWebhookSecret]:
        return []

    async def master_ids(self) -> set[str]:
        stored: list[AnyStoredKey] = [*self._signing.values(), *self._users.values()]
        return {key.wrapped.master_id for key in stored}

    async def user_keys_wrapped_by_others(self, master_id: str, after: str) -> list[StoredUserKey]:
        return [
            key
            for user_id, key in sorted(self._users.items())
            if user_id > after and key.wrapped.master_id != master_id
        ]

    async def rewrap(self, keys: Sequence[tuple[AnyStoredKey, Wrapped]]) -> None:
        for key, wrapped in keys:
            if isinstance(key, StoredUserKey):
                if self._users.get(key.user_id) == key:
                    self._users[key.user_id] = key._replace(wrapped=wrapped)
            elif isinstance(key, StoredSigningKey) and self._signing.get((key.purpose, key.number)) == key:
                self._signing[key.purpose, key.number] = key._replace(wrapped=wrapped)
