"""``IdentityStore`` in a database.

Invariants:
(1) of all uses of one refresh token one replaces it in the row of its family; every other use finds its successor;
(2) revocations and changes of clients get their numbers under the lock of one row, which is held until the commit: a
    process that has read up to a number has read all below it;
(3) each transaction locks in one order, so none of them deadlock: client, family, count;
(4) one enabled admin stays: ``disable`` looks for another one under the lock of the count;
(5) a family begins under a lock of its client that a rotation waits for: none begins with a secret that is no longer
    valid, and a rotation without grace revokes all that have begun.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from msgspec import json
from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from api.identity.database import IdentityDatabase
from api.identity.identity import ADMIN
from api.identity.ports import (
    SERVICE,
    ChangedBy,
    Client,
    ClientChange,
    Family,
    Grace,
    LastAdmin,
    Refresh,
    Reused,
    Revocation,
)
from api.identity.tables import CHANGES, CLIENTS, FAMILIES, REVOCATION_COUNT, REVOCATIONS

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection


class _MayNotBegin(Exception):
    """Rolls back a family that may not begin."""


class DatabaseIdentityStore:
    """Clients, tokens and revocations in the tables of ``database``."""

    def __init__(self, database: IdentityDatabase) -> None:
        self._database = database
        self._count_is_made = False

    async def client(self, client_id: str) -> Client | None:
        async with self._database.transaction() as connection:
            return await _client(connection, client_id)

    async def clients(self) -> list[Client]:
        async with self._database.transaction() as connection:
            found = [_client_of(row) for row in await connection.execute(select(CLIENTS))]
        return sorted(found, key=lambda client: client.client_id)

    async def add_client(self, client: Client, by: ChangedBy = SERVICE) -> bool:
        row = {name: getattr(client, name) for name in client.__struct_fields__}
        row |= {name: None if row[name] is None else json.encode(row[name]).decode() for name in ("games", "types")}
        await self._make_count()
        try:
            async with self._database.transaction() as connection:
                await connection.execute(insert(CLIENTS).values(row))
                await _note(connection, "added", client.client_id, client.created_at_us, by)
        except IntegrityError:
            return False
        return True

    async def rotate(
        self, client_id: str, secret_hash: str, now_us: int, grace: Grace, by: ChangedBy = SERVICE
    ) -> bool:
        enabled = (CLIENTS.c.client_id == client_id) & CLIENTS.c.disabled_at_us.is_(None)
        await self._make_count()
        async with self._database.transaction() as connection:
            # Two statements: MySQL assigns from left to right, so one would copy the new secret to the old one.
            kept = await connection.execute(
                update(CLIENTS)
                .where(enabled)
                .values(old_secret_hash=CLIENTS.c.secret_hash, old_secret_until_us=grace.old_until_us)
            )
            if not kept.rowcount:
                return False
            await connection.execute(
                update(CLIENTS).where(enabled).values(secret_hash=secret_hash, secret_since_us=now_us)
            )
            if grace.old_until_us <= now_us:
                await _revoke_families_of(connection, client_id, now_us, grace)
            await _note(connection, "rotated", client_id, now_us, by)
            return True

    async def disable(self, client_id: str, now_us: int, revoked_until_us: int, by: ChangedBy = SERVICE) -> bool:
        await self._make_count()
        async with self._database.transaction() as connection:
            is_it = CLIENTS.c.client_id == client_id
            await connection.execute(select(CLIENTS.c.client_id).where(is_it).with_for_update())
            number = await _next_number(connection)
            client = await _client(connection, client_id)
            if client is None:
                return False
            if client.disabled_at_us is not None:
                return True
            found = CLIENTS.c
            admins = select(found.client_id).where(found.role == ADMIN, found.disabled_at_us.is_(None)).limit(2)
            if client.role == ADMIN and len((await connection.execute(admins)).all()) == 1:
                raise LastAdmin(client_id)
            await connection.execute(
                update(CLIENTS).where(found.client_id == client_id).values(disabled_at_us=now_us)
            )
            await connection.execute(
                insert(REVOCATIONS).values(number=number, expires_at_us=revoked_until_us, client_id=client_id)
            )
            await _note(connection, "disabled", client_id, now_us, by)
            return True

    async def changes(self, after: int) -> list[ClientChange]:
        found = CHANGES.c
        columns = (found.number, found.at_us, found.what, found.client_id, found.by_name, found.origin)
        wanted = select(*columns).where(found.number > after).order_by(found.number)
        async with self._database.transaction() as connection:
            return [ClientChange(*row) for row in await connection.execute(wanted)]

    async def begin(self, family: Family, refresh: Refresh, expires_at_us: int, parent: str | None = None) -> bool:
        row = {
            **family._asdict(),
            "handle_sha256": refresh.handle_sha256,
            "refresh_sha256": refresh.sha256,
            "expires_at_us": expires_at_us,
        }
        is_client = CLIENTS.c.client_id == family.client_id
        try:
            async with self._database.transaction() as connection:
                # A server locks the client here, and SQLite the file by the insert; the client is read after both.
                await connection.execute(select(CLIENTS.c.client_id).where(is_client).with_for_update(read=True))
                await connection.execute(insert(FAMILIES).values(row))
                client = await _client(connection, family.client_id)
                if client is None or client.disabled_at_us is not None:
                    raise _MayNotBegin
                if family.user_id is None and not client.has_secret(family.secret_id, family.created_at_us):
                    raise _MayNotBegin
                if parent is not None and not await _is_valid(connection, parent):
                    raise _MayNotBegin
        except _MayNotBegin:
            return False
        return True

    async def spend(
        self, spent: Refresh, successor: Refresh, now_us: int, expires_at_us: int, revoked_until_us: int
    ) -> tuple[Family, Client] | Reused | None:
        found = FAMILIES.c
        assert spent.handle_sha256 == successor.handle_sha256, "both are tokens of one family"
        await self._make_count()
        async with self._database.transaction() as connection:
            done = await connection.execute(
                update(FAMILIES)
                .where(
                    found.handle_sha256 == spent.handle_sha256,
                    found.refresh_sha256 == spent.sha256,
                    found.expires_at_us > now_us,
                    found.revoked_at_us.is_(None),
                )
                .values(refresh_sha256=successor.sha256, expires_at_us=expires_at_us)
            )
            row = await _family_of(connection, spent)
            if row is None:
                return None
            if not done.rowcount:
                if row.refresh_sha256 == spent.sha256:
                    return None  # expired or revoked
                await _revoke_family(connection, row, now_us, revoked_until_us)
                return Reused(row.family, row.client_id)
            client = await _client(connection, row.client_id)
            if client is None or client.disabled_at_us is not None:
                return None
            return Family(row.family, row.client_id, row.user_id, row.created_at_us, row.secret_id), client

    async def revoke(self, refresh: Refresh, now_us: int, revoked_until_us: int) -> str | None:
        await self._make_count()
        async with self._database.transaction() as connection:
            row = await _family_of(connection, refresh)
            if row is None:
                return None
            await _revoke_family(connection, row, now_us, revoked_until_us)
            return str(row.family)

    async def revocations(self, after: int) -> list[Revocation]:
        found = REVOCATIONS.c
        wanted = select(found.number, found.client_id, found.family, found.expires_at_us).where(found.number > after)
        async with self._database.transaction() as connection:
            rows = await connection.execute(wanted.order_by(found.number))
            return [Revocation(*row) for row in rows]

    async def delete_expired(self, now_us: int) -> None:
        async with self._database.transaction() as connection:
            await connection.execute(delete(FAMILIES).where(FAMILIES.c.expires_at_us <= now_us))
            await connection.execute(delete(REVOCATIONS).where(REVOCATIONS.c.expires_at_us <= now_us))

    async def _make_count(self) -> None:
        """Make the row that counts revocations, unless it exists.

        In a transaction of its own: on MySQL an INSERT of a row that exists keeps a lock until the end of its
        transaction, and two of these that go on to update the row deadlock.
        """
        if self._count_is_made:
            return
        with suppress(IntegrityError):
            async with self._database.transaction() as connection:
                if (await connection.execute(select(REVOCATION_COUNT))).one_or_none() is None:
                    await connection.execute(insert(REVOCATION_COUNT).values(only=0, value=0))
        self._count_is_made = True

    async def close(self) -> None:
        await self._database.close()


async def _note(connection: AsyncConnection, what: str, client_id: str, now_us: int, by: ChangedBy) -> None:
    """Record who did what to the client, in the transaction of the change: both are stored, or neither."""
    number = await _next_number(connection)
    row = {"number": number, "at_us": now_us, "what": what, "client_id": client_id}
    await connection.execute(insert(CHANGES).values(row | {"by_name": by.name, "origin": by.origin}))


async def _client(connection: AsyncConnection, client_id: str) -> Client | None:
    row = (await connection.execute(select(CLIENTS).where(CLIENTS.c.client_id == client_id))).one_or_none()
    return None if row is None else _client_of(row)


def _client_of(row: Row[Any]) -> Client:
    fields = dict(row._mapping)
    for name in ("games", "types"):
        if fields[name] is not None:
            fields[name] = json.decode(fields[name], type=tuple[str, ...])
    return Client(**fields)


async def _family_of(connection: AsyncConnection, refresh: Refresh) -> Row[Any] | None:
    wanted = select(FAMILIES).where(FAMILIES.c.handle_sha256 == refresh.handle_sha256)
    return (await connection.execute(wanted)).one_or_none()


async def _revoke_family(connection: AsyncConnection, row: Row[Any], now_us: int, revoked_until_us: int) -> None:
    done = await connection.execute(
        update(FAMILIES)
        .where(FAMILIES.c.handle_sha256 == row.handle_sha256, FAMILIES.c.revoked_at_us.is_(None))
        .values(revoked_at_us=now_us)
    )
    if done.rowcount:
        await _revoke(connection, revoked_until_us, [row.family])


async def _is_valid(connection: AsyncConnection, family: str) -> bool:
    is_it = (FAMILIES.c.family == family) & FAMILIES.c.revoked_at_us.is_(None)
    return (await connection.execute(select(FAMILIES.c.family).where(is_it))).first() is not None


async def _revoke_families_of(connection: AsyncConnection, client_id: str, now_us: int, grace: Grace) -> None:
    """Revoke all families of the client and of its players."""
    found = FAMILIES.c
    is_of_client = (found.client_id == client_id) & (found.expires_at_us > now_us)
    await connection.execute(
        update(FAMILIES).where(is_of_client, found.revoked_at_us.is_(None)).values(revoked_at_us=now_us)
    )
    wanted = select(found.family).where(
        found.client_id == client_id,
        found.revoked_at_us == now_us,
        found.expires_at_us > grace.access_if_after_us,
    )
    families = [str(row.family) for row in await connection.execute(wanted)]
    if families:
        await _revoke(connection, grace.revoked_until_us, families)


async def _revoke(connection: AsyncConnection, revoked_until_us: int, families: Sequence[str]) -> None:
    last = await _next_number(connection, len(families))
    rows = [
        {"number": number, "expires_at_us": revoked_until_us, "family": family}
        for number, family in enumerate(families, last - len(families) + 1)
    ]
    await connection.execute(insert(REVOCATIONS), rows)


async def _next_number(connection: AsyncConnection, many: int = 1) -> int:
    """The number of the next revocation, or the last of the next ``many``. The transaction holds the lock of the
    count from now on."""
    count = REVOCATION_COUNT.c.value
    await connection.execute(update(REVOCATION_COUNT).values(value=count + many))
    return int((await connection.execute(select(count))).scalar_one())
