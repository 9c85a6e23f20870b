"""``stakelog audit reconcile``: compares the reads with the log."""

import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from api.cli.audit.sources import (
    CannotAudit,
    CheckFailed,
    credentials_of,
    data_folder,
    failures_reported,
    login_option,
    opened,
    rules_of,
    rules_option,
)
from api.cli.progress import progress

if TYPE_CHECKING:
    from api.cli.audit.folder_reads import FolderReads
    from api.cli.audit.http_reads import HttpReads
    from http_client.login import Credentials
    from projections.auditing.oracle import Supply
    from projections.auditing.reconcile.games import GameReads
    from projections.auditing.reconcile.run import Difference, Reconciled
    from projections.auditing.reconcile.totals import CrossUserReads

_AT_ONCE: Final = 4  # chosen: keeps a service of a few cores busy, and leaves it time for its clients
_WAIT_S: Final = 60.0
_NAMED_MOST: Final = 20


@click.command()
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="The data folder; default STAKELOG_DATA or ./data. With --url only its log is read.",
)
@click.option("--url", help="Compare the reads of this service, such as http://127.0.0.1:8080.")
@login_option
@click.option("--user", "users", multiple=True, help="Compare this wallet only; may be repeated.")
@click.option(
    "--wait",
    "patience_s",
    type=click.FloatRange(0),
    default=_WAIT_S,
    show_default=True,
    help="Seconds to wait for reads that are behind the log.",
)
@click.option(
    "--at-once", type=click.IntRange(1, 64), default=_AT_ONCE, show_default=True, help="Requests at a time."
)
@rules_option
def reconcile(
    data: Path | None,
    url: str | None,
    login: Path | None,
    users: tuple[str, ...],
    patience_s: float,
    at_once: int,
    rules_files: tuple[Path, ...],
) -> None:
    """Recompute every wallet from the log, and compare the reads with it.

    Each difference is named: wallet, read, field, expected and found. Folder and service may be in use: a response
    is compared with the log at the position of its `as_of`. Without --user the queue of orders, the leaderboards, the
    periods of games and the house view are compared too. In a folder the account totals, the users with rows and the
    checkpoints are compared as well.
    """
    from ledger.operations.verifying.pay_tables import WrongTable
    from projections.auditing.oracle import UnknownRecord
    from projections.auditing.reconcile.run import reconcile as reconcile_reads

    with failures_reported("stakelog audit reconcile"):
        with (
            opened(data, None if data is not None else url, None if data is not None else login) as records,
            closing(_reads(data, url, credentials_of(login, url), records.partitions)) as reads,
            progress("reconciling", "events") as report,
        ):
            try:
                result = reconcile_reads(
                    records,
                    reads,
                    only=users,
                    concurrency=at_once,
                    wait_s=patience_s,
                    on_difference=_print_difference,
                    on_message=lambda text: click.echo(text, err=True),
                    on_progress=report,
                    tables=rules_of(records, rules_files)[0],
                )
            except WrongTable as error:
                raise CheckFailed(str(error)) from error
            except UnknownRecord as error:
                raise CheckFailed(f"{error}; `stakelog audit verify` verifies the log itself") from error
        unknown = len(set(users)) - result.wallets - result.unknown_users
        if unknown > 0:
            raise CannotAudit(f"the log has no event of {unknown} of the wallets named")
    _print_supply(result.supply)
    _print_summary(result)
    sys.exit(0 if result.ok else 1)


def _reads(
    data: Path | None, url: str | None, credentials: "Credentials | None", partitions: int
) -> "FolderReads | HttpReads":
    """Raises CannotAudit if there are none, or they belong to another log."""
    if url is None:
        from api.cli.audit.folder_reads import FolderReads

        return FolderReads(data_folder(data), partitions)
    from api.cli.audit.http_reads import HttpReads
    from api.cli.audit.http_records import HttpRecords

    with closing(HttpRecords(url, credentials)) as service:
        if service.partitions != partitions:
            raise CannotAudit(
                f"{url} has {service.partitions} partitions, the log in {data} {partitions}: "
                "they do not belong together"
            )
    return HttpReads(url, credentials)


def _print_difference(difference: "Difference") -> None:
    user_id, read, field, position, expected, found = difference
    click.echo(f"DIFFERS {user_id} {read} {field or '(all)'} as of {position}: expected {expected}, found {found}")


def _print_supply(supply: "Supply") -> None:
    """Every account's total, in minor units: wallets by bucket, transit, sources and sinks."""
    for asset, accounts in sorted(supply.accounts.items()):
        click.echo(f"money supply of {asset}, in minor units:")
        for account, amount in sorted(accounts.items(), key=_rank):
            click.echo(f"  {account:<24} {amount:>24}")
        click.echo(f"  {'sum':<24} {sum(accounts.values()):>24}")


def _rank(item: tuple[str, int]) -> tuple[int, str]:
    account, _ = item
    return (0 if account.startswith("wallets/") else 1 if account.startswith("transit/") else 2), account


def _print_summary(result: "Reconciled") -> None:
    for late in result.late:
        click.echo(
            f"BEHIND the reads of partition {late.partition} are at seq {late.seq}, the log at {late.end}: "
            "they are compared at that position only"
        )
    for behind in result.behind[:_NAMED_MOST]:
        click.echo(
            f"behind: the responses for {behind.user_id} are as of {behind.partition}:{behind.seq}, older than those "
            "of its partition (quarantined?); they are compared at that position"
        )
    if len(result.behind) > _NAMED_MOST:
        click.echo(f"behind: {len(result.behind) - _NAMED_MOST} more wallets")
    for asset, remainder in result.supply.remainders().items():
        click.echo(f"FAULT the postings of {asset} sum to {remainder}, not to zero")
    click.echo(
        f"{'well' if result.ok else 'NOT well'}: {result.differences} differences in {result.responses} responses "
        f"about {result.wallets} wallets, compared with {result.events} events in {result.partitions} partitions"
        + (f"; {result.retried} wallets were read again" if result.retried else "")
        + (f"; {len(result.behind)} wallets are behind" if result.behind else "")
        + ("" if result.cross_user is None else _of_cross_user_reads(result.cross_user))
        + ("" if result.games is None else _of_games(result.games))
    )


def _of_cross_user_reads(cross_user: "CrossUserReads") -> str:
    if cross_user.not_compared:
        return f"; queue and leaderboards could not be compared: {cross_user.not_compared}"
    days = cross_user.days_left_out
    return (
        f"; {cross_user.orders} orders in the queue and {cross_user.leaderboards} leaderboards compared"
        + (f", but not {days} days with bets, by asset, before the latest 40" if days else "")
        + (f"; {cross_user.retried} of these were read again" if cross_user.retried else "")
    )


def _of_games(games: "GameReads") -> str:
    if games.not_compared:
        return f"; periods and the house could not be compared: {games.not_compared}"
    edges = len(games.edges_unknown)
    return (
        f"; {games.periods} periods and {len(games.hours)} items of the house compared"
        + (
            f", but not the periods of {', '.join(games.games_unknown)}: not played now"
            if games.games_unknown
            else ""
        )
        + (f", but not {edges} expected edges: give the rules files of their pay tables by --rules" if edges else "")
        + (f"; {games.retried} of these were read again" if games.retried else "")
    )
