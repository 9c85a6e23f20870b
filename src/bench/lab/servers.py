"""The servers of a distributed run: their addresses, and the check that they contain no data.

A run makes topics and empties databases, so it refuses servers with any data: `make bench-distributed` starts servers
for one run.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, unquote_to_bytes, urlsplit

import msgspec
from msgspec import Struct

from api.composition.settings import Settings, SettingsError, read_settings
from bench.figures import BenchError

TIMEOUT_S = 10.0
_NAME = re.compile(r"[A-Za-z0-9_]+")


class Servers(Struct, frozen=True):
    """Their addresses, as the settings take them."""

    kafka: str
    postgresql: str
    mariadb: str
    redis: str

    def settings(self, data: Path, *, read_model: str, cached: bool) -> dict[str, str]:
        """``STAKELOG_…`` of a node or a worker with its own folder."""
        cache = {"STAKELOG_CACHE": self.redis} if cached else {}
        return {
            "STAKELOG_DATA": str(data),
            "STAKELOG_LOG": self.kafka,
            "STAKELOG_READ_MODEL": read_model,
            "STAKELOG_AUTH": "off",
            **cache,
        }

    def read(self, data: Path, *, read_model: str) -> Settings:
        """The same, checked, without a cache."""
        return read_settings(self.settings(data, read_model=read_model, cached=False))


def servers_of(environment: Mapping[str, str]) -> Servers:
    """The servers of ``KAFKA_URL`` and so on. Raises BenchError with the first missing one, and what to do."""
    found: dict[str, str] = {}
    for name in Servers.__struct_fields__:
        url = environment.get(f"{name.upper()}_URL")
        if not url:
            raise BenchError(
                f"{name.upper()}_URL is not set: `make bench-distributed` starts the servers and sets it, and so "
                "does `python3 -m deploy.local with kafka postgresql mariadb redis -- …`"
            )
        found[name] = url
    servers = msgspec.convert(found, Servers)
    try:
        for read_model in (servers.postgresql, servers.mariadb):
            read_settings(servers.settings(Path(), read_model=read_model, cached=True))
    except SettingsError as error:
        raise BenchError(f"the servers' addresses cannot be used: {error}") from error
    return servers


def refuse_used(servers: Servers) -> None:
    """Raises BenchError if a server has data, or cannot be reached."""
    used = asyncio.run(_within(_used(servers)))
    if used:
        raise BenchError(
            f"{used[0]}, and the bench would destroy it: it takes empty servers only, as `make bench-distributed` "
            "starts them"
        )


def empty(url: str) -> None:
    """Take everything out of a database that this run has filled. Raises BenchError."""
    if urlsplit(url).scheme == "postgresql":
        asyncio.run(_within(_ask_postgresql(url, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")))
    else:
        name = _database_name(url)
        make = f"CREATE DATABASE {name} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
        asyncio.run(_within(_ask_mysql(url, f"DROP DATABASE {name}", make)))


async def _used(servers: Servers) -> list[str]:
    found = []
    topics = [topic for topic in await _topics(servers.kafka) if topic.startswith("stakelog")]
    if topics:
        found.append(f"Kafka has the topic {topics[0]}")
    count = "SELECT count(*) FROM information_schema.tables WHERE table_schema = "
    if await _ask_postgresql(servers.postgresql, f"{count}'public'"):
        found.append("the database of POSTGRESQL_URL has tables")
    if await _ask_mysql(servers.mariadb, f"{count}database()"):
        found.append("the database of MARIADB_URL has tables")
    return found


async def _topics(url: str) -> list[str]:
    from aiokafka.admin import AIOKafkaAdminClient

    from ledger.kafka.address import parse_address

    admin = AIOKafkaAdminClient(**parse_address(url).client_options(), request_timeout_ms=int(TIMEOUT_S * 1_000))
    try:
        await admin.start()
        return sorted(await admin.list_topics())
    finally:
        await admin.close()


async def _ask_postgresql(url: str, *statements: str) -> int:
    """The number that the last statement returns; 0 if it returns none."""
    from psycopg import AsyncConnection

    connection = await AsyncConnection.connect(url, autocommit=True)
    try:
        for statement in statements:
            cursor = await connection.execute(statement.encode())
        row: Any = await cursor.fetchone() if cursor.description else None
        return int(row[0]) if row else 0
    finally:
        await connection.close()


async def _ask_mysql(url: str, *statements: str) -> int:
    from asyncmy import connect

    parts = urlsplit(url)
    connection: Any = await connect(
        host=parts.hostname or "",
        port=parts.port or 3306,
        user=unquote(parts.username or ""),
        password=unquote_to_bytes(parts.password or ""),  # bytes: asyncmy would encode a str as Latin-1
        db=_database_name(url),
        autocommit=True,
    )
    try:
        async with connection.cursor() as cursor:
            for statement in statements:
                await cursor.execute(statement)
            row: Any = await cursor.fetchone() if cursor.description else None
            return int(row[0]) if row else 0
    finally:
        await connection.ensure_closed()


def _database_name(url: str) -> str:
    name = urlsplit(url).path.strip("/")
    if _NAME.fullmatch(name) is None:
        raise BenchError(f"the database {name!r} of MARIADB_URL: letters, digits and _ only")
    return name


async def _within(asked: Any) -> Any:
    """The result of ``asked``, in time. The drivers' errors become BenchError with one line."""
    from aiokafka.errors import KafkaError
    from asyncmy.errors import MySQLError
    from psycopg import Error

    from ledger.errors import LedgerError

    try:
        async with asyncio.timeout(TIMEOUT_S):
            return await asked
    except TimeoutError as error:
        raise BenchError(f"a server did not respond within {TIMEOUT_S:g} s") from error
    except (KafkaError, MySQLError, Error, LedgerError, OSError) as error:
        raise BenchError(f"a server cannot be used: {error}") from error
