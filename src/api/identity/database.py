"""The database of clients, tokens and keys: SQLite, PostgreSQL or MySQL, by SQLAlchemy.

Invariants:
(1) nothing is opened before the first use; the first use creates the missing tables;
(2) a transaction is committed whole, or not at all: any exception rolls it back;
(3) every failure of the database is an IdentityUnavailable, but a duplicate key: it is an IntegrityError;
(4) only the owner of the process can read the SQLite file: a file that others can read is made so when it is opened.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sqlite3
import ssl
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

from sqlalchemy import URL, make_url
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.schema import MetaData

from api.identity.ports import IdentityUnavailable
from ledger.files import IDENTITY

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

FILE: Final = IDENTITY
"""In the data folder."""
CONNECTIONS: Final = 4
"""Connections of one pool; a service has two, see ``api.composition.access``. Chosen: logins are few, and argon2
limits them first."""
_WITHIN_S: Final = 10.0
"""Time limit for a transaction, with the wait for a connection."""
SILENT_S: Final = 5.0
"""How long a server may send nothing in response to a statement. Chosen: a dead connection is replaced in time for
the transaction that finds it."""
_CONNECT_S: Final = 3
_log: Final = logging.getLogger(__name__)
_CREATE_TRIES: Final = 5
_MYSQL_SETTINGS: Final = "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'"


def _psycopg_connect() -> Any:
    """Opens connections that end when the server is silent for too long. The time limit of a transaction would not
    do: a cancelled statement of psycopg waits for its server."""
    from psycopg import AsyncConnection, Error  # imported only if used

    class Connection(AsyncConnection[Any]):
        async def wait(self, *args: Any, **options: Any) -> Any:
            cut = asyncio.get_running_loop().call_later(SILENT_S, self._cut)
            try:
                return await super().wait(*args, **options)
            finally:
                cut.cancel()

        def _cut(self) -> None:
            with suppress(OSError, Error), socket.socket(fileno=os.dup(self.fileno())) as end:
                end.shutdown(socket.SHUT_RDWR)  # for libpq the server has closed the connection

    return Connection.connect


class IdentityDatabase:
    """One bounded pool of connections."""

    def __init__(self, where: Path | str, metadata: MetaData) -> None:
        """``where``: the file of SQLite, or the URL of a server, as in the settings. ``metadata``: the tables."""
        self._where, self._metadata = where, metadata
        self._shown = f" ({where})" if isinstance(where, Path) else f" ({_shown(where)})"
        self._engine: AsyncEngine | None = None
        self._opening = asyncio.Lock()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """READ COMMITTED on the servers. On SQLite a write locks the file, so the first statement of a transaction
        that reads and writes should write. Raises IdentityUnavailable, IntegrityError."""
        try:
            async with asyncio.timeout(_WITHIN_S):
                engine = await self._opened()
                async with engine.begin() as connection:
                    yield connection
        except IntegrityError:
            raise
        except TimeoutError:
            raise IdentityUnavailable(
                f"the database of clients and tokens did not respond within {_WITHIN_S:.0f} s{self._shown}"
            ) from None
        except (SQLAlchemyError, OSError) as error:
            # The text of a server's driver may quote a statement's values: only its kind is named.
            cause = getattr(error, "orig", None) or error
            reason = str(cause) if isinstance(cause, sqlite3.OperationalError) else type(cause).__name__
            raise IdentityUnavailable(f"the database of clients and tokens failed: {reason}{self._shown}") from error

    async def close(self) -> None:
        """A second call is harmless."""
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.dispose()

    async def _opened(self) -> AsyncEngine:
        async with self._opening:
            if self._engine is None:
                engine = _engine_of(self._where)
                try:
                    await self._create_tables(engine)
                except BaseException:
                    await engine.dispose()
                    raise
                self._engine = engine
            return self._engine

    async def _create_tables(self, engine: AsyncEngine) -> None:
        """Another process may create the same table between the check and the CREATE: then look again."""
        for tries_left in reversed(range(_CREATE_TRIES)):
            try:
                async with engine.begin() as connection:
                    await connection.run_sync(self._metadata.create_all)
                return
            except SQLAlchemyError:
                if not tries_left:
                    raise


def _shown(url: str) -> str:
    """The server for a message: no user and no password."""
    found = make_url(url)
    port = found.port or {"postgresql": 5432, "mysql": 3306}[found.drivername]
    return f"{found.drivername} at {found.host}:{port}, database {found.database}; set by STAKELOG_IDENTITY"


def _engine_of(where: Path | str) -> AsyncEngine:
    if isinstance(where, Path):
        if not where.exists():
            os.close(os.open(where, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        _tighten(where)
        return _made(
            URL.create("sqlite+aiosqlite", database=str(where)),
            # IMMEDIATE: a transaction that writes waits for its turn at its first write, and never has to upgrade.
            {"isolation_level": "IMMEDIATE", "timeout": _WITHIN_S},
        )
    url = make_url(where)
    if url.drivername == "postgresql":
        kept = url.difference_update_query(["pgbouncer"])
        return _made(
            kept.set(drivername="postgresql+psycopg"),
            # No prepared statements: a PgBouncer in transaction mode does not keep them.
            {"connect_timeout": _CONNECT_S, "prepare_threshold": None, "application_name": "stakelog"}
            | {"async_creator_fn": _psycopg_connect()},
            pool_pre_ping=True,
        )
    options: dict[str, Any] = {
        "connect_timeout": _CONNECT_S,
        "read_timeout": SILENT_S,
        "init_command": _MYSQL_SETTINGS,
    }
    for authority in parse_qs(urlsplit(where).query).get("ssl_ca", ()):
        options["ssl"] = ssl.create_default_context(cafile=authority)
    return _made(
        url.set(drivername="mysql+asyncmy", query={}), options, isolation_level="READ COMMITTED", pool_pre_ping=True
    )


def _tighten(path: Path) -> None:
    """By its name: to close a descriptor of the file would drop SQLite's locks."""
    for file in (path, *(path.with_name(f"{path.name}-{part}") for part in ("wal", "shm", "journal"))):
        if file.exists() and (mode := stat.S_IMODE(file.stat().st_mode)) & 0o077:
            file.chmod(mode & 0o700)
            _log.warning("others could use %s, which has secrets: only its owner can now", file)


def _made(url: URL, connect: dict[str, Any], **options: Any) -> AsyncEngine:
    from sqlalchemy.ext.asyncio import create_async_engine  # it imports the ORM, which takes long

    return create_async_engine(
        url, connect_args=connect, pool_size=CONNECTIONS, max_overflow=0, hide_parameters=True, **options
    )
