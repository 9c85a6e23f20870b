"""``KeyStore`` in SQLite, PostgreSQL or MySQL.

Invariants:
(1) a user has one key at most: of two processes that make it at the same time, both then read the same one;
(2) a deleted key is overwritten in SQLite's file. PostgreSQL and MySQL keep its bytes, wrapped, until they clean up:
    after that, and once the master key is another, it cannot be unwrapped;
(3) a key is wrapped again only if it is still what was read: a newer one is never replaced by an older one.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import BigInteger, Column, Row, Table, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from api.identity.database import IdentityDatabase
from api.identity.key_store import AnyStoredKey, StoredSigningKey, StoredUserKey, StoredWebhookSecret
from api.identity.master_key import Wrapped
from api.identity.tables import METADATA, ascii_text

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

_AT_ONCE: Final = 500
"""Rows of one statement. Chosen: below the bounds on parameters of every database."""

# A wrapped key is base64 of at most 80 bytes. Databases that exist call its column ``sealed``.
SIGNING_KEYS: Final = Table(
    "identity_signing_key",
    METADATA,
    Column("purpose", ascii_text(16), primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("kid", ascii_text(43), nullable=False),
    Column("public", ascii_text(43), nullable=False),  # as in a JWK's x
    Column("sealed", ascii_text(120), key="wrapped_key", nullable=False),
    Column("master_id", ascii_text(16), nullable=False),
    Column("used_from_us", BigInteger, nullable=False),
)
USER_KEYS: Final = Table(
    "identity_user_key",
    METADATA,
    Column("user_id", ascii_text(64), primary_key=True),
    Column("key_id", ascii_text(32), nullable=False),
    Column("sealed", ascii_text(120), key="wrapped_key", nullable=False),
    Column("master_id", ascii_text(16), nullable=False),
)
WEBHOOK_SECRETS: Final = Table(
    "identity_webhook_secret",
    METADATA,
    Column("endpoint_id", ascii_text(32), primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("wrapped_key", ascii_text(120), nullable=False),
    Column("master_id", ascii_text(16), nullable=False),
    Column("until_us", BigInteger),  # it signs until then; null: it is the newest
)
_TABLES: Final = {StoredSigningKey: SIGNING_KEYS, StoredUserKey: USER_KEYS, StoredWebhookSecret: WEBHOOK_SECRETS}


class DatabaseKeyStore:
    """The keys in the tables of ``database``."""

    def __init__(self, database: IdentityDatabase) -> None:
        self._database = database

    async def signing_keys(self) -> list[StoredSigningKey]:
        wanted = select(SIGNING_KEYS).order_by(SIGNING_KEYS.c.purpose, SIGNING_KEYS.c.number)
        async with self._database.transaction() as connection:
            return [_signing_key(row) for row in await connection.execute(wanted)]

    async def add_signing_key(self, key: StoredSigningKey) -> bool:
        try:
            async with self._database.transaction() as connection:
                await connection.execute(insert(SIGNING_KEYS).values(key_row(key)))
        except IntegrityError:
            return False
        return True

    async def delete_signing_key(self, key: StoredSigningKey) -> None:
        async with self._database.transaction() as connection:
            await overwrite_deleted_rows(connection)
            await connection.execute(delete(SIGNING_KEYS).where(_is_signing_key(key)))

    async def user_keys(self, user_ids: Collection[str]) -> dict[str, StoredUserKey]:
        async with self._database.transaction() as connection:
            return await _user_keys(connection, user_ids)

    async def add_user_keys(self, keys: Sequence[StoredUserKey]) -> None:
        missing = sorted(keys)  # one order, so that two processes do not wait for each other
        while missing:
            try:
                async with self._database.transaction() as connection:
                    await connection.execute(insert(USER_KEYS), [key_row(key) for key in missing])
                return
            except IntegrityError:  # another process has added some of them
                known = await self.user_keys([key.user_id for key in missing])
                missing = [key for key in missing if key.user_id not in known]

    async def delete_user_key(self, user_id: str) -> bool:
        async with self._database.transaction() as connection:
            await overwrite_deleted_rows(connection)
            done = await connection.execute(delete(USER_KEYS).where(USER_KEYS.c.user_id == user_id))
            return done.rowcount == 1

    async def webhook_secrets(self) -> list[StoredWebhookSecret]:
        async with self._database.transaction() as connection:
            return await webhook_secrets(connection)

    async def master_ids(self) -> set[str]:
        async with self._database.transaction() as connection:
            return {
                str(master_id)
                for table in _TABLES.values()
                for (master_id,) in await connection.execute(select(table.c.master_id).distinct())
            }

    async def user_keys_wrapped_by_others(self, master_id: str, after: str) -> list[StoredUserKey]:
        by_others = (USER_KEYS.c.master_id != master_id) & (USER_KEYS.c.user_id > after)
        wanted = select(USER_KEYS).where(by_others).order_by(USER_KEYS.c.user_id).limit(_AT_ONCE)
        async with self._database.transaction() as connection:
            return [_user_key(row) for row in await connection.execute(wanted)]

    async def rewrap(self, keys: Sequence[tuple[AnyStoredKey, Wrapped]]) -> None:
        async with self._database.transaction() as connection:
            await overwrite_deleted_rows(connection)
            for key, wrapped in keys:
                table = _TABLES[type(key)]
                await connection.execute(
                    update(table)
                    .where(_is_key(key), table.c.wrapped_key == _text(key.wrapped))
                    .values(wrapped_key=_text(wrapped), master_id=wrapped.master_id)
                )


async def _user_keys(connection: AsyncConnection, user_ids: Collection[str]) -> dict[str, StoredUserKey]:
    found: dict[str, StoredUserKey] = {}
    wanted = list(user_ids)
    for begin in range(0, len(wanted), _AT_ONCE):
        some = select(USER_KEYS).where(USER_KEYS.c.user_id.in_(wanted[begin : begin + _AT_ONCE]))
        found |= {row.user_id: _user_key(row) for row in await connection.execute(some)}
    return found


async def overwrite_deleted_rows(connection: AsyncConnection) -> None:
    """SQLite writes zeros over deleted and changed rows. Otherwise they stay in the file until it needs the space."""
    if connection.dialect.name == "sqlite":
        await connection.exec_driver_sql("PRAGMA secure_delete = ON")


def _is_signing_key(key: StoredSigningKey) -> Any:
    return (SIGNING_KEYS.c.purpose == key.purpose) & (SIGNING_KEYS.c.number == key.number)


def _is_key(key: AnyStoredKey) -> Any:
    match key:
        case StoredSigningKey():
            return _is_signing_key(key)
        case StoredUserKey():
            return USER_KEYS.c.user_id == key.user_id
        case StoredWebhookSecret():
            found = WEBHOOK_SECRETS.c
            return (found.endpoint_id == key.endpoint_id) & (found.number == key.number)


async def webhook_secrets(connection: AsyncConnection) -> list[StoredWebhookSecret]:
    """All, by endpoint and number."""
    wanted = select(WEBHOOK_SECRETS).order_by(WEBHOOK_SECRETS.c.endpoint_id, WEBHOOK_SECRETS.c.number)
    return [
        StoredWebhookSecret(row.endpoint_id, row.number, _wrapped(row), row.until_us)
        for row in await connection.execute(wanted)
    ]


def _wrapped(row: Row[Any]) -> Wrapped:
    """A damaged text is no ciphertext: it does not open, whatever the master key."""
    try:
        return Wrapped(b64decode(row.wrapped_key, validate=True), row.master_id)
    except ValueError:
        return Wrapped(b"", row.master_id)


def _text(wrapped: Wrapped) -> str:
    return b64encode(wrapped.ciphertext).decode()


def key_row(key: AnyStoredKey) -> dict[str, Any]:
    """The row of the key in its table."""
    row = key._asdict()
    wrapped = row.pop("wrapped")
    return {**row, "wrapped_key": _text(wrapped), "master_id": wrapped.master_id}


def _signing_key(row: Row[Any]) -> StoredSigningKey:
    return StoredSigningKey(row.purpose, row.number, row.kid, row.public, _wrapped(row), row.used_from_us)


def _user_key(row: Row[Any]) -> StoredUserKey:
    return StoredUserKey(row.user_id, row.key_id, _wrapped(row))
