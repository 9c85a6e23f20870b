"""Databases of real servers, one for each test: empty at first, dropped at the end."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from urllib.parse import urlsplit

from deploy.local.install import program
from projections.storage.database import Database
from projections.storage.mysql import MySqlDatabase
from projections.storage.postgresql import PostgreSqlDatabase

_numbers = count()


def open_database(url: str, connections: int = 4) -> Database:
    """Opened as the service does, but with few connections: a test opens several."""
    if urlsplit(url).scheme == "postgresql":
        return PostgreSqlDatabase(url, connections=connections)
    return MySqlDatabase(url, connections=connections)


class EmptyDatabases:
    """Makes databases on one server. ``url``: that of the server's default database."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.kind = "postgresql" if urlsplit(url).scheme == "postgresql" else "mariadb"

    @property
    def port(self) -> int:
        port = urlsplit(self._url).port
        assert port is not None
        return port

    @contextmanager
    def one(self) -> Iterator[str]:
        """The URL of a new database."""
        name = f"stakelog_{next(_numbers)}"
        self.ask(f"CREATE DATABASE {name}")
        if self.kind == "mariadb":
            self.ask(f"GRANT ALL ON {name}.* TO stakelog@'127.0.0.1'")
        try:
            yield self._url.rpartition("/")[0] + f"/{name}"
        finally:
            self.ask(f"DROP DATABASE {name}" + (" WITH (FORCE)" if self.kind == "postgresql" else ""))

    def ask(self, statement: str, database: str = "stakelog") -> list[list[str]]:
        """Rows as the server's own client program prints them: it uses none of our drivers."""
        parts = urlsplit(self._url)
        if self.kind == "postgresql":
            psql = program("postgres").with_name("psql")
            to = ["-h", str(parts.hostname), "-p", str(parts.port), "-U", str(parts.username), "-d", database]
            command = [str(psql), "-qAtX", "-F", "\t", *to, "-v", "ON_ERROR_STOP=1", "-c", statement]
        else:
            to = ["-h", str(parts.hostname), "-P", str(parts.port), "-u", "root"]
            command = [
                "mariadb",
                "--no-defaults",
                "--default-character-set=utf8mb4",
                *to,
                "-BN",
                "-e",
                statement,
                database,
            ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return [line.split("\t") for line in done.stdout.splitlines()]
