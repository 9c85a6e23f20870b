"""Where an auditor's records come from, a folder or a service; and how a command reports a failure.

Exit status: 1 a check failed (partition, seq and reason of the first fault on stdout), 2 wrong use, or nothing could
be examined (one line on stderr).
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from api.cli.forms_of_rules import forms_of_money, forms_of_tables

if TYPE_CHECKING:
    from api.cli.audit.http_records import HttpRecords
    from http_client.login import Credentials
    from ledger.sqlite.readers import SqliteRecords

_Command = TypeVar("_Command", bound=Callable[..., Any])


class CannotAudit(Exception):
    """Why nothing could be examined: one sentence for the operator."""


class CheckFailed(Exception):
    """Something was examined, or written, and failed: one sentence for the operator."""


def login_option(command: _Command) -> _Command:
    """``--login``."""
    return click.option(
        "--login",
        type=click.Path(dir_okay=False, path_type=Path),
        help='With --url: the file with the {"client_id":…,"client_secret":…} of an auditor.',
    )(command)


def credentials_of(login: Path | None, url: str | None) -> "Credentials | None":
    """Raises UsageError, CannotAudit."""
    if login is None:
        return None
    if url is None:
        raise click.UsageError("--login is for --url")
    from http_client.login import read_credentials
    from http_client.responses import BadLogin

    try:
        return read_credentials(login)
    except BadLogin as error:
        raise CannotAudit(f"--login: {error}") from error


def source_options(command: _Command) -> _Command:
    """``--data``, ``--url`` and ``--login``."""
    command = login_option(command)
    command = click.option("--url", help="A running service instead, such as http://127.0.0.1:8080.")(command)
    return click.option(
        "--data", type=click.Path(path_type=Path), help="The data folder; default STAKELOG_DATA or ./data."
    )(command)


def rules_option(command: _Command) -> _Command:
    """``--rules``."""
    return click.option(
        "--rules",
        "rules_files",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        multiple=True,
        help="With --url: a rules file (STAKELOG_RULES) that a node had, with the pay tables of bets and the rules "
        "of money flows; may be repeated. Not needed for the built-in pay tables, nor in a folder, whose log keeps "
        "both.",
    )(command)


def rules_of(
    records: "SqliteRecords | HttpRecords", rules_files: tuple[Path, ...]
) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """The pay tables, and the rules of money flows, as JSON by digest: built in, kept with the log, and of the rules
    files. Raises CannotAudit, LogUnreadable."""
    from api.cli.audit.http_records import HttpRecords
    from api.composition.settings import DEFAULT_ASSETS
    from ledger.core.games.rules import BUILT_IN, read_rules
    from ledger.core.money import parse_assets
    from ledger.core.money_rules import digest_of
    from ledger.core.rules_file import WrongRules

    of_games, of_money = forms_of_tables(BUILT_IN.tables), forms_of_money({})
    if not isinstance(records, HttpRecords):
        of_games |= forms_of_tables(records.tables())
        of_money |= forms_of_money(records.money_rules())
    for file in rules_files:
        try:
            assets = parse_assets(os.environ.get("STAKELOG_ASSETS", DEFAULT_ASSETS))
            found = read_rules(file.read_text("utf-8"), assets)
        except (WrongRules, OSError, ValueError) as error:
            raise CannotAudit(f"{file} is not a rules file: {error}") from error
        of_games |= forms_of_tables({game.digest: game.table for game in found.games.values()})
        if found.money:
            of_money |= forms_of_money({digest_of(found.money): found.money})
    return of_games, of_money


@contextmanager
def opened(data: Path | None, url: str | None, login: Path | None) -> "Iterator[SqliteRecords | HttpRecords]":
    """The records of the folder or of the service. Raises UsageError, CannotAudit, LedgerError."""
    if data is not None and url is not None:
        raise click.UsageError("--data or --url, not both")
    if url is not None:
        from api.cli.audit.http_records import HttpRecords

        with closing(HttpRecords(url, credentials_of(login, url))) as from_service:
            yield from_service
        return
    credentials_of(login, url)
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
def failures_reported(command: str) -> Iterator[None]:
    """Reports every failure of a command as one line, and ends it with an exit status. ``command``: its full name."""
    from ledger.errors import LedgerError, LogOutdated
    from ledger.operations.audit import Fault

    try:
        yield
    except Fault as fault:
        click.echo(f"FAULT {fault}")
        sys.exit(1)
    except (CannotAudit, CheckFailed, LedgerError) as error:
        click.echo(f"{command}: {error}", err=True)
        sys.exit(2 if isinstance(error, CannotAudit | LogOutdated) else 1)


@contextmanager
def until_reader_leaves() -> Iterator[None]:
    """The reader of stdout may close it early (``| head``): that is not a failure and prints no message."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes stdout once more when it ends, which must not fail either.
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
