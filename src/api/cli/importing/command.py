"""The sub-commands of ``stakelog import``.

Exit status: 0 everything is imported and the totals agree, or the dry run found no problem; 1 it stopped, or a total
differs; 2 wrong use, or problems in the files: then nothing was posted.
"""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import click

from api.cli.progress import progress

if TYPE_CHECKING:
    from api.cli.importing.plan import Plan
    from api.cli.importing.posting import Access, Checked
    from ledger.core.money import Assets

_Command = TypeVar("_Command", bound=Callable[..., Any])
_SHOWN: Final = 20

_FILE: Final = click.Path(path_type=Path, exists=True, dir_okay=False)


def _options(command: _Command) -> _Command:
    """The file, and what all sources share."""
    for option in (
        click.option("--dry-run", is_flag=True, help="Only read the files and report; no service is needed."),
        click.option("--operator-login", type=_FILE, help="… and of an operator, who adjusts."),
        click.option("--login", type=_FILE, help='File with {"client_id":…,"client_secret":…} of a game server.'),
        click.option("--url", default="http://127.0.0.1:8080", show_default=True, help="The service."),
        click.option("--assets", help="Assets of the service, CODE:EXPONENT,…; default STAKELOG_ASSETS."),
        click.option(
            "--asset", "renamed", multiple=True, help="THEIRS=OURS: an asset's other name; may be repeated."
        ),
        click.argument("file", type=_FILE),
    ):
        command = option(command)
    return command


@click.group("import")
def import_() -> None:
    """Import balances and history of another ledger, as commands over HTTP.

    Each file is read and checked as a whole before anything is posted. An import that was interrupted goes on where
    it stopped when it is run again.
    """


@import_.command()
@_options
@click.option("--balances", type=_FILE, help="Columns id and wallet of the table users: gives opening balances.")
def nakama(file: Path, balances: Path | None, **options: Any) -> None:
    """Nakama: the table wallet_ledger as CSV or JSON."""
    from api.cli.importing.sources import from_nakama

    _import(lambda assets, renamed: from_nakama(file, balances, assets, renamed), **options)


@import_.command()
@_options
@click.option(
    "--wallets",
    default="users:([^:]+)",
    show_default=True,
    help="Pattern of the accounts that are wallets; its group is the user_id.",
)
def formance(file: Path, wallets: str, **options: Any) -> None:
    """Formance: the export of a ledger's logs."""
    import re

    from api.cli.importing.sources import from_formance

    try:
        re.compile(wallets)
    except re.error as error:
        raise click.UsageError(f"--wallets is not a pattern: {error}") from None
    _import(lambda assets, renamed: from_formance(file, wallets, assets, renamed), **options)


@import_.command()
@_options
@click.option("--balances", type=_FILE, required=True, help="The table balances, as CSV or JSON.")
def blnk(file: Path, balances: Path, **options: Any) -> None:
    """Blnk: the tables transactions and balances, as CSV or JSON."""
    from api.cli.importing.sources import from_blnk

    _import(lambda assets, renamed: from_blnk(file, balances, assets, renamed), **options)


@import_.command("csv")
@_options
@click.option("--mapping", type=_FILE, required=True, help="JSON file that names the columns.")
def csv_(file: Path, mapping: Path, **options: Any) -> None:
    """Any CSV file with a header, and a mapping file."""
    from api.cli.importing.sources import from_csv

    _import(lambda assets, renamed: from_csv(file, mapping, assets, renamed), **options)


def _import(
    plan_of: "Callable[[Assets, dict[str, str]], Plan]",
    renamed: tuple[str, ...],
    assets: str | None,
    url: str,
    login: Path | None,
    operator_login: Path | None,
    dry_run: bool,
) -> None:
    from api.cli.importing.files import BadFile
    from api.cli.importing.posting import Stopped
    from api.composition.settings import DEFAULT_ASSETS
    from ledger.core.money import parse_assets

    try:
        declared = parse_assets(assets or os.environ.get("STAKELOG_ASSETS", DEFAULT_ASSETS))
        plan = plan_of(declared, _renamed(renamed))
    except (BadFile, ValueError) as error:
        _fail(str(error), 2)
    _report(plan, declared)
    if plan.problems:
        _fail("the files have problems; nothing was posted", 2)
    if dry_run:
        click.echo("dry run: nothing was posted")
        return
    access = _access(url, login, operator_login)
    from api.cli.importing.posting import post

    try:
        with progress("importing", "commands and reads") as report:
            checked = asyncio.run(post(plan, access, report))
    except Stopped as error:
        _fail(str(error), 1)
    except KeyboardInterrupt:
        _fail("interrupted; run it again to go on: nothing is posted twice", 1)
    _report_check(checked, declared)


def _renamed(pairs: tuple[str, ...]) -> dict[str, str]:
    renamed = {}
    for pair in pairs:
        theirs, equals, ours = pair.rpartition("=")
        if not equals or not theirs or not ours:
            raise click.UsageError(f"--asset {pair}: write THEIRS=OURS")
        renamed[theirs] = ours
    return renamed


def _access(url: str, login: Path | None, operator_login: Path | None) -> "Access":
    from api.cli.importing.posting import Access
    from http_client.login import read_credentials
    from http_client.responses import BadLogin

    if (login is None) != (operator_login is None):
        raise click.UsageError("give --login and --operator-login, or neither for a service without login")
    if not url.startswith(("http://", "https://")):
        raise click.UsageError("--url: write http://host:port")
    if login is None or operator_login is None:
        return Access(url)
    try:
        found = [read_credentials(path) for path in (login, operator_login)]
    except BadLogin as error:
        _fail(str(error), 2)
    return Access(url, *((one.client_id, one.client_secret) for one in found))


def _report(plan: "Plan", assets: "Assets") -> None:
    from ledger.core.money import format_amount

    changes = sum(map(len, plan.wallets.values()))
    click.echo(f"{plan.rows} rows of {plan.source}: {len(plan.wallets)} wallets, {changes} changes of their cash")
    for asset, (came, went) in sorted(plan.totals.items()):
        amounts = (format_amount(amount, asset, assets) for amount in (came, went, came - went))
        click.echo("in {}, out {}, balance {}".format(*amounts))
    for why, count in sorted(plan.skipped.items()):
        click.echo(f"not imported: {count} × {why}")
    for problem in plan.problems[:_SHOWN]:
        click.echo(f"PROBLEM line {problem.line}: {problem.why}")
    if len(plan.problems) > _SHOWN:
        click.echo(f"PROBLEM … and {len(plan.problems) - _SHOWN} more")


def _report_check(checked: "Checked", assets: "Assets") -> None:
    from ledger.core.money import format_amount

    for asset, (planned, read) in sorted(checked.totals.items()):
        shown = (
            format_amount(amount, asset, assets) if asset in assets else f"{amount} {asset}"
            for amount in (planned, read)
        )
        click.echo("{} of the source, {} in the wallets' reads".format(*shown))
    for found in checked.differences[:_SHOWN]:
        click.echo(f"DIFFERS {found.user_id} {found.asset}: planned {found.planned}, read {found.read} minor units")
    if checked.differences:
        _fail(
            f"{len(checked.differences)} balances differ: the wallets had other money, or bonuses by the service's "
            "rules. Import into wallets that nothing else uses, by a service without rules of money flows",
            1,
        )
    click.echo("well: every balance is that of the source")


def _fail(why: str, status: int) -> NoReturn:
    click.echo(f"stakelog import: {why}", err=True)
    sys.exit(status)
