"""``stakelog audit``: the auditor's commands, on a folder or over HTTP.

Exit status 0 well, 1 a check failed (partition, seq and reason of the first fault on stdout), 2 wrong use.
"""

import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import click

if TYPE_CHECKING:
    from ledger.audit import Records, Stored, Verified
    from ledger.record import Head

_PAGE: Final = 5_000
_TIMEOUT_S: Final = 60
_SHA256: Final = re.compile("[0-9a-f]{64}")


class CannotAudit(Exception):
    """Why nothing could be examined: one sentence for the operator."""


@click.group()
def audit() -> None:
    """Examine the log: verify."""


@audit.command()
@click.option("--data", type=click.Path(path_type=Path), help="The data folder; default STAKELOG_DATA or ./data.")
@click.option("--url", help="A running service instead, such as http://127.0.0.1:8080.")
@click.option(
    "--heads",
    "heads_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Heads published earlier (the JSON of GET /v1/partitions) that the log must go through.",
)
def verify(data: Path | None, url: str | None, heads_file: Path | None) -> None:
    """Prove the log: chain, postings, balances from zero, unique ids, transfers.

    Works on a folder, in use or not, and over HTTP. Nothing is changed.
    """
    from ledger.audit import Fault
    from ledger.ports import LedgerError

    if data is not None and url is not None:
        raise click.UsageError("--data or --url, not both")
    folder = data or Path(os.environ.get("STAKELOG_DATA", "./data"))
    try:
        published = _published(heads_file) if heads_file else {}
        verified = _verify_url(url, published) if url else _verify_folder(folder, published)
    except Fault as fault:
        click.echo(f"FAULT {fault}")
        sys.exit(1)
    except (CannotAudit, LedgerError) as error:
        click.echo(f"stakelog audit verify: {error}", err=True)
        sys.exit(1 if isinstance(error, LedgerError) and (folder / "events.sqlite3").exists() else 2)
    transit = ", ".join(f"{amount} {asset}" for asset, amount in verified.in_transit.items())
    click.echo(
        f"well: {verified.events} events in {len(verified.heads)} partitions; chain, postings, balances, ids and "
        f"transfers agree ({verified.open_transfers} transfers under way{': ' + transit if transit else ''})"
        + (f"; {len(published)} published heads are in it" if published else "")
    )


def _verify_folder(folder: Path, published: "dict[int, Head]") -> "Verified":
    from ledger.folder import EVENTS
    from ledger.logs.sqlite import SqliteRecords

    if not (folder / EVENTS).exists():
        raise CannotAudit(f"there is no event log in {folder}: name its folder with --data")
    with closing(SqliteRecords(folder / EVENTS)) as records:
        return _verify(records, published)


def _verify_url(url: str, published: "dict[int, Head]") -> "Verified":
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise CannotAudit(f"{url} is not an address: write http://host:port")
    try:
        with closing(HttpRecords(url)) as records:
            return _verify(records, published)
    except (OSError, HTTPException, ValueError, KeyError) as error:
        raise CannotAudit(f"{url} cannot be read as a stakelog service: {error}") from error


def _verify(records: "Records", published: "dict[int, Head]") -> "Verified":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from ledger.audit import verify as verify_log

    columns = (
        TextColumn("verifying"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("events"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("verifying", total=None)
        return verify_log(
            records,
            published=published,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )


def _published(file: Path) -> "dict[int, Head]":
    from ledger.record import Head

    try:
        items = json.loads(file.read_bytes())["items"]
        heads = {int(item["partition"]): Head(int(item["seq"]), str(item["head"])) for item in items}
        if not all(_SHA256.fullmatch(head.sha256) and head.seq >= 0 for head in heads.values()):
            raise ValueError("a head is 64 hexadecimal digits")
    except (ValueError, KeyError, TypeError) as error:
        raise CannotAudit(
            f'{file} is not the JSON of GET /v1/partitions: {{"items": [{{"partition", "seq", "head", …}}]}}'
        ) from error
    return {partition: head for partition, head in heads.items() if head.seq}


class HttpRecords:
    """The records of a running service, by ``/v1/partitions`` and ``/v1/events``."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        connection = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._connection = connection(parts.hostname or "", parts.port, timeout=_TIMEOUT_S)
        self._prefix = parts.path.rstrip("/")

    def ends(self) -> Sequence[int]:
        items = json.loads(self._get("/v1/partitions"))["items"]
        return [item["seq"] for item in sorted(items, key=lambda item: int(item["partition"]))]

    def read(self, partition: int, to_seq: int) -> "Iterator[Sequence[Stored]]":
        from ledger.audit import Stored

        seq = 0
        while seq < to_seq:
            limit = min(_PAGE, to_seq - seq)
            body = self._get(f"/v1/events?partition={partition}&from_seq={seq + 1}&limit={limit}")
            page = [Stored(record) for record in body.split(b"\n") if record]
            if not page:
                return
            seq += len(page)
            yield page

    def close(self) -> None:
        self._connection.close()

    def _get(self, path: str) -> bytes:
        self._connection.request("GET", self._prefix + path)
        response = self._connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise CannotAudit(f"GET {path} answered {response.status}: {body[:200].decode(errors='replace')}")
        return body
