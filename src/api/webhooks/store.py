"""``WebhookStore`` in the database of clients and keys.

Invariants:
(1) a save names its claim, and changes nothing of a partition that was claimed again;
(2) each transaction locks in one order: endpoint, secrets, cursors by partition, letters. So none of them deadlock.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from msgspec import json
from msgspec.structs import asdict
from sqlalchemy import BigInteger, Column, Row, Table, delete, func, insert, select, tuple_, update

from api.identity.database import IdentityDatabase
from api.identity.database_keys import WEBHOOK_SECRETS, key_row, overwrite_deleted_rows, webhook_secrets
from api.identity.key_store import StoredWebhookSecret
from api.identity.tables import METADATA, ascii_text, long_text
from api.webhooks.ports import ENDPOINTS_MAX, Claimed, Endpoint, Letter, Saved, StoredEndpoint, Totals

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

ENDPOINTS: Final = Table(
    "identity_webhook",
    METADATA,
    Column("endpoint_id", ascii_text(32), primary_key=True),
    Column("url", long_text(), nullable=False),
    Column("types", long_text()),  # a JSON array; null: all
    Column("give_up_s", BigInteger, nullable=False),
    Column("enabled", BigInteger, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
)
CURSORS: Final = Table(
    "identity_webhook_cursor",
    METADATA,
    Column("endpoint_id", ascii_text(32), primary_key=True),
    Column("partition_number", BigInteger, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
    Column("claim", BigInteger, nullable=False),
)
LETTERS: Final = Table(
    "identity_webhook_letter",
    METADATA,
    Column("endpoint_id", ascii_text(32), primary_key=True),
    Column("partition_number", BigInteger, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("dead", BigInteger, nullable=False),  # 0: it waits
    Column("user_id", ascii_text(64), nullable=False),
    Column("type", ascii_text(64), nullable=False),
    Column("time_us", BigInteger, nullable=False),
    Column("attempts", BigInteger, nullable=False),
    Column("first_at_us", BigInteger, nullable=False),
    Column("next_at_us", BigInteger, nullable=False),
    Column("error", ascii_text(255), nullable=False),
)
_AT_ONCE: Final = 200
"""Rows of one statement. Chosen: below the bounds on parameters of every database."""


class DatabaseWebhookStore:
    """Endpoints, cursors and letters in the tables of ``database``."""

    def __init__(self, database: IdentityDatabase) -> None:
        self._database = database

    async def endpoints(self) -> list[StoredEndpoint]:
        async with self._database.transaction() as connection:
            wanted = select(ENDPOINTS).order_by(ENDPOINTS.c.created_at_us, ENDPOINTS.c.endpoint_id)
            found = [_endpoint(row) for row in await connection.execute(wanted)]
            secrets = await webhook_secrets(connection) if found else []
        return [
            StoredEndpoint(one, [secret for secret in secrets if secret.endpoint_id == one.endpoint_id])
            for one in found
        ]

    async def totals(self) -> Mapping[str, Totals]:
        cursors = select(CURSORS).order_by(CURSORS.c.endpoint_id, CURSORS.c.partition_number)
        letters = select(LETTERS.c.endpoint_id, LETTERS.c.dead, func.count()).group_by(
            LETTERS.c.endpoint_id, LETTERS.c.dead
        )
        found: dict[str, list[int]] = {}
        async with self._database.transaction() as connection:
            for row in await connection.execute(cursors):
                found.setdefault(row.endpoint_id, []).append(row.seq)
            counts = {(endpoint_id, dead): many for endpoint_id, dead, many in await connection.execute(letters)}
        return {
            endpoint_id: Totals(counts.get((endpoint_id, 0), 0), counts.get((endpoint_id, 1), 0), seqs)
            for endpoint_id, seqs in found.items()
        }

    async def add(self, endpoint: Endpoint, secret: StoredWebhookSecret, cursors: Sequence[int]) -> bool:
        async with self._database.transaction() as connection:
            if await _count(connection) >= ENDPOINTS_MAX:
                return False
            await connection.execute(insert(ENDPOINTS).values(_row(endpoint)))
            await connection.execute(insert(WEBHOOK_SECRETS).values(key_row(secret)))
            rows = [
                {"endpoint_id": endpoint.endpoint_id, "partition_number": partition, "seq": seq, "claim": 0}
                for partition, seq in enumerate(cursors)
            ]
            for begin in range(0, len(rows), _AT_ONCE):
                await connection.execute(insert(CURSORS), rows[begin : begin + _AT_ONCE])
        return True

    async def change(self, changed: Endpoint) -> bool:
        row = _row(changed)
        values = {name: row[name] for name in ("url", "types", "give_up_s", "enabled")}
        async with self._database.transaction() as connection:
            return await _revise(connection, changed.endpoint_id, **values)

    async def rotate(self, secret: StoredWebhookSecret, after: int, old_until_us: int) -> bool:
        found = WEBHOOK_SECRETS.c
        async with self._database.transaction() as connection:
            await overwrite_deleted_rows(connection)
            if not await _revise(connection, secret.endpoint_id):
                return False
            is_of_endpoint = found.endpoint_id == secret.endpoint_id
            wanted = select(func.max(found.number)).where(is_of_endpoint)
            if (await connection.execute(wanted)).scalar_one() != after:
                return False
            await connection.execute(delete(WEBHOOK_SECRETS).where(is_of_endpoint, found.number < after))
            await connection.execute(update(WEBHOOK_SECRETS).where(is_of_endpoint).values(until_us=old_until_us))
            await connection.execute(insert(WEBHOOK_SECRETS).values(key_row(secret)))
        return True

    async def delete(self, endpoint_id: str) -> bool:
        async with self._database.transaction() as connection:
            await overwrite_deleted_rows(connection)
            done = await connection.execute(delete(ENDPOINTS).where(ENDPOINTS.c.endpoint_id == endpoint_id))
            for table in (WEBHOOK_SECRETS, CURSORS, LETTERS):
                await connection.execute(delete(table).where(table.c.endpoint_id == endpoint_id))
            return done.rowcount == 1

    async def claim(self, endpoint_id: str, partition: int, letters_max: int) -> Claimed | None:
        is_cursor = _is_cursor(endpoint_id, partition)
        wanted = (
            select(LETTERS)
            .where(LETTERS.c.endpoint_id == endpoint_id, LETTERS.c.partition_number == partition, LETTERS.c.dead == 0)
            .order_by(LETTERS.c.seq)
            .limit(letters_max + 1)
        )
        async with self._database.transaction() as connection:
            await connection.execute(update(CURSORS).where(is_cursor).values(claim=CURSORS.c.claim + 1))
            row = (await connection.execute(select(CURSORS).where(is_cursor))).one_or_none()
            if row is None:
                return None
            letters = [_letter(letter) for letter in await connection.execute(wanted)]
            after = select(LETTERS.c.seq).where(
                LETTERS.c.endpoint_id == endpoint_id,
                LETTERS.c.partition_number == partition,
                LETTERS.c.seq > row.seq,
            )
            seqs = sorted((await connection.execute(after)).scalars())
        return Claimed(row.claim, row.seq, letters[:letters_max], len(letters) > letters_max, seqs)

    async def save(self, endpoint_id: str, saved: Sequence[Saved]) -> set[int]:
        superseded: set[int] = set()
        async with self._database.transaction() as connection:
            for one in sorted(saved, key=lambda one: one.partition):
                done = await connection.execute(
                    update(CURSORS)
                    .where(_is_cursor(endpoint_id, one.partition), CURSORS.c.claim == one.claim)
                    .values(seq=one.seq)
                )
                if done.rowcount:
                    await _save_letters(connection, endpoint_id, one)
                else:
                    superseded.add(one.partition)
        return superseded

    async def dead_letters(self, endpoint_id: str, after: tuple[int, int] | None, limit: int) -> list[Letter]:
        found = LETTERS.c
        wanted = select(LETTERS).where(found.endpoint_id == endpoint_id, found.dead == 1)
        if after is not None:
            partition, seq = after
            wanted = wanted.where(
                (found.partition_number > partition) | ((found.partition_number == partition) & (found.seq > seq))
            )
        async with self._database.transaction() as connection:
            rows = await connection.execute(wanted.order_by(found.partition_number, found.seq).limit(limit))
            return [_letter(row) for row in rows]

    async def revive(self, endpoint_id: str, positions: Collection[tuple[int, int]] | None, now_us: int) -> int:
        found = LETTERS.c
        alive = {"dead": 0, "attempts": 0, "first_at_us": 0, "next_at_us": now_us, "error": ""}
        is_dead = (found.endpoint_id == endpoint_id) & (found.dead == 1)
        async with self._database.transaction() as connection:
            await _revise(connection, endpoint_id)
            await _claim_all(connection, endpoint_id)
            if positions is None:
                return (await connection.execute(update(LETTERS).where(is_dead).values(alive))).rowcount
            revived, wanted = 0, sorted(positions)
            for begin in range(0, len(wanted), _AT_ONCE):
                some = tuple_(found.partition_number, found.seq).in_(wanted[begin : begin + _AT_ONCE])
                revived += (await connection.execute(update(LETTERS).where(is_dead, some).values(alive))).rowcount
            return revived

    async def rewind(self, endpoint_id: str, from_seqs: Mapping[int, int]) -> bool:
        async with self._database.transaction() as connection:
            if not await _revise(connection, endpoint_id):
                return False
            await _claim_all(connection, endpoint_id)
            for partition, seq in sorted(from_seqs.items()):
                is_later = _is_cursor(endpoint_id, partition) & (CURSORS.c.seq >= seq)
                await connection.execute(update(CURSORS).where(is_later).values(seq=seq - 1))
                await connection.execute(
                    delete(LETTERS).where(
                        LETTERS.c.endpoint_id == endpoint_id,
                        LETTERS.c.partition_number == partition,
                        LETTERS.c.seq >= seq,
                    )
                )
        return True

    async def close(self) -> None:
        await self._database.close()


async def _count(connection: "AsyncConnection") -> int:
    return int((await connection.execute(select(func.count()).select_from(ENDPOINTS))).scalar_one())


async def _revise(connection: "AsyncConnection", endpoint_id: str, **values: Any) -> bool:
    """Change the endpoint, which raises its revision and locks its row. False: there is none."""
    done = await connection.execute(
        update(ENDPOINTS)
        .where(ENDPOINTS.c.endpoint_id == endpoint_id)
        .values(revision=ENDPOINTS.c.revision + 1, **values)
    )
    return done.rowcount == 1


async def _claim_all(connection: "AsyncConnection", endpoint_id: str) -> None:
    await connection.execute(
        update(CURSORS).where(CURSORS.c.endpoint_id == endpoint_id).values(claim=CURSORS.c.claim + 1)
    )


async def _save_letters(connection: "AsyncConnection", endpoint_id: str, saved: Saved) -> None:
    seqs = [*(letter.seq for letter in (*saved.waiting, *saved.dead)), *saved.delivered]
    for begin in range(0, len(seqs), _AT_ONCE):
        await connection.execute(
            delete(LETTERS).where(
                LETTERS.c.endpoint_id == endpoint_id,
                LETTERS.c.partition_number == saved.partition,
                LETTERS.c.seq.in_(seqs[begin : begin + _AT_ONCE]),
            )
        )
    rows = [
        {"endpoint_id": endpoint_id, "dead": dead} | _letter_row(letter)
        for dead, letters in ((0, saved.waiting), (1, saved.dead))
        for letter in letters
    ]
    for begin in range(0, len(rows), _AT_ONCE):
        await connection.execute(insert(LETTERS), rows[begin : begin + _AT_ONCE])


def _is_cursor(endpoint_id: str, partition: int) -> Any:
    return (CURSORS.c.endpoint_id == endpoint_id) & (CURSORS.c.partition_number == partition)


def _row(endpoint: Endpoint) -> dict[str, Any]:
    types = None if endpoint.types is None else json.encode(endpoint.types).decode()
    return asdict(endpoint) | {"types": types, "enabled": int(endpoint.enabled)}


def _endpoint(row: Row[Any]) -> Endpoint:
    types = None if row.types is None else json.decode(row.types, type=tuple[str, ...])
    return Endpoint(
        row.endpoint_id, row.url, types, row.give_up_s, bool(row.enabled), row.created_at_us, row.revision
    )


def _letter_row(letter: Letter) -> dict[str, Any]:
    row = asdict(letter)
    return {"partition_number": row.pop("partition"), **row}


def _letter(row: Row[Any]) -> Letter:
    names = [name for name in Letter.__struct_fields__ if name != "partition"]
    return Letter(partition=row.partition_number, **{name: row._mapping[name] for name in names})
