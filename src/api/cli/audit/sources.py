"""Where an auditor's records come from, a folder or a service, and how a command says that something is wrong.

Exit status: 1 a check failed (partition, seq and reason of the first fault on stdout), 2 wrong use, or nothing could
be examined (one line on stderr).
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

import click

if TYPE_CHECKING:
    from ledger.ports import StoredRecord
    from ledger.sqlite.readers import SqliteRecords

_PAGE: Final = 5_000
_TIMEOUT_S: Final = 60
_PATIENCE_S: Final = 30.0
"""How long a service may be unable to answer. Chosen: a partition that changes its owner, or a node that is started
again behind a balancer, takes some seconds."""
_PAUSE_S: Final = 0.2
_PAUSE_S_MAX: Final = 5.0
_LATER: Final = frozenset({429, 502, 503, 504})

_Command = TypeVar("_Command", bound=Callable[..., Any])


class CannotAudit(Exception):
    """Why nothing could be examined: one sentence for the operator."""


class CheckFailed(Exception):
    """Something was examined, or written, and went wrong: one sentence for the operator."""


def source_options(command: _Command) -> _Command:
    """``--data`` and ``--url``."""
    command = click.option("--url", help="A running service instead, such as http://127.0.0.1:8080.")(command)
    return click.option(
        "--data", type=click.Path(path_type=Path), help="The data folder; default STAKELOG_DATA or ./data."
    )(command)


@contextmanager
def opened(data: Path | None, url: str | None) -> "Iterator[SqliteRecords | HttpRecords]":
    """The records of the folder or of the service. Raises UsageError, CannotAudit, LedgerError."""
    if data is not None and url is not None:
        raise click.UsageError("--data or --url, not both")
    if url is not None:
        with closing(HttpRecords(url)) as from_service:
            yield from_service
        return
    from ledger.sqlite.folder import EVENTS
    from ledger.sqlite.readers import SqliteRecords

    folder = data_folder(data)
    try:
        found = (folder / EVENTS).exists()
    except OSError as error:
        raise CannotAudit(f"the folder {folder} cannot be read: {error.strerror}") from error
    if not found:
        raise CannotAudit(f"there is no event log in {folder}: name its folder with --data")
    with closing(SqliteRecords(folder / EVENTS)) as from_folder:
        yield from_folder


def data_folder(data: Path | None) -> Path:
    return data or Path(os.environ.get("STAKELOG_DATA", "./data"))


@contextmanager
def said_plainly(command: str) -> Iterator[None]:
    """Every way a command can fail, as one line and an exit status; ``command`` as it was typed."""
    from ledger.errors import LedgerError
    from ledger.operations.audit import Fault

    try:
        yield
    except Fault as fault:
        click.echo(f"FAULT {fault}")
        sys.exit(1)
    except (CannotAudit, CheckFailed, LedgerError) as error:
        click.echo(f"{command}: {error}", err=True)
        sys.exit(2 if isinstance(error, CannotAudit) else 1)


@contextmanager
def until_nobody_reads() -> Iterator[None]:
    """What is written to stdout may be cut off by its reader (``| head``): that is no failure, and nothing to say."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes stdout once more when it ends, which must not fail either.
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


class HttpRecords:
    """The records of a running service, by ``/v1/partitions`` and ``/v1/events``. All raise CannotAudit.

    A service that has answered before, or says that it cannot yet, is asked again for ``_PATIENCE_S``: a read changes
    nothing, and what comes of it is proved.
    """

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if host is None or parts.scheme not in ("http", "https"):
            raise CannotAudit(f"{url} is not an address: write http://host:port")
        connection = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._connection = connection(host, port, timeout=_TIMEOUT_S)
        self._prefix = parts.path.rstrip("/")
        self._url = url
        self._partitions: int | None = None
        self._has_answered = False

    @property
    def partitions(self) -> int:
        if self._partitions is None:
            self.ends()
        assert self._partitions is not None
        return self._partitions

    def ends(self) -> list[int]:
        try:
            items = json.loads(self._get("/v1/partitions"))["items"]
            ends = [int(item["seq"]) for item in sorted(items, key=lambda item: int(item["partition"]))]
        except (ValueError, KeyError, TypeError) as error:
            raise self._unreadable(error) from error
        self._partitions = len(ends)
        return ends

    def read(self, partition: int, to_seq: int, from_seq: int = 1) -> "Iterator[list[StoredRecord]]":
        """The partition's records of these seqs, in order, in pages; fewer where the log ends before."""
        from ledger.ports import StoredRecord

        while from_seq <= to_seq:
            limit = min(_PAGE, to_seq - from_seq + 1)
            body = self._get(f"/v1/events?partition={partition}&from_seq={from_seq}&limit={limit}")
            page = [StoredRecord(record) for record in body.split(b"\n") if record]
            if not page:
                return
            from_seq += len(page)
            yield page

    def story(self, user_id: str) -> Iterator[list[bytes]]:
        """The wallet's records in order, in pages. A service has no index of them: this reads the whole partition."""
        from ledger.core.position import partition_of

        ends = self.ends()
        partition = partition_of(user_id, len(ends))
        if partition >= len(ends):
            return
        owned = f'"user_id":{json.dumps(user_id)}'.encode()  # an id needs no escaping, and a record has no spaces
        for page in self.read(partition, ends[partition]):
            found = [stored[0] for stored in page if owned in stored[0] and _owner_of(stored[0]) == user_id]
            if found:
                yield found

    def close(self) -> None:
        self._connection.close()

    def _get(self, path: str) -> bytes:
        until_s = time.monotonic() + _PATIENCE_S
        pause_s = _PAUSE_S
        while True:
            try:
                status, body, after = self._ask(path)
            except (OSError, HTTPException, ValueError) as error:
                if not self._has_answered or time.monotonic() > until_s:
                    raise self._unreadable(error) from error
            else:
                self._has_answered = True
                if status == HTTPStatus.OK:
                    return body
                if status not in _LATER or time.monotonic() > until_s:
                    raise CannotAudit(f"GET {path} answered {status}: {body[:200].decode(errors='replace')}")
                pause_s = float(after) if after.isdigit() else pause_s
            time.sleep(min(pause_s, _PAUSE_S_MAX))
            pause_s *= 2

    def _ask(self, path: str) -> tuple[int, bytes, str]:
        """Status, body, and ``Retry-After``."""
        try:
            self._connection.request("GET", self._prefix + path)
            response = self._connection.getresponse()
            return response.status, response.read(), response.getheader("retry-after", "")
        except (OSError, HTTPException):
            self._connection.close()  # the next request opens it again
            raise

    def _unreadable(self, error: Exception) -> CannotAudit:
        return CannotAudit(f"{self._url} cannot be read as a stakelog service: {error}")


def _owner_of(record: bytes) -> str | None:
    try:
        owner = json.loads(record)["user_id"]
    except (ValueError, KeyError, TypeError):
        return None
    return owner if isinstance(owner, str) else None
