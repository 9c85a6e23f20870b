"""``stakelog backup``: copies the data folder, also while the service runs."""

from contextlib import ExitStack, closing
from pathlib import Path

import click

from api.cli.audit.sources import CannotAudit, data_folder, failures_reported
from api.cli.forms_of_rules import forms_of_money, forms_of_tables
from api.cli.progress import progress


@click.command()
@click.argument("dest", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), help="The data folder; default STAKELOG_DATA or ./data.")
@click.option("--no-verify", is_flag=True, help="Do not verify the copied log; faster.")
def backup(dest: Path, data: Path | None, no_verify: bool) -> None:
    """Copy the data folder to DEST, also while it is in use. DEST must be missing or empty.

    DEST appears once the copy is complete, durable and verified. To restore it, set STAKELOG_DATA to it, or to a copy
    of it, and start the service.
    """
    from ledger.errors import FolderInUse, FolderUnusable
    from ledger.operations.backup import back_up

    with failures_reported("stakelog backup"):
        try:
            with ExitStack() as bar:
                report = bar.enter_context(progress("copying", "bytes"))

                def prove(folder: Path) -> None:
                    bar.close()
                    if not no_verify:
                        _prove(folder)

                copied = back_up(data_folder(data), dest, prove=prove, progress=report)
        except (FolderUnusable, FolderInUse) as error:
            raise CannotAudit(str(error)) from error
    click.echo(
        f"{dest} holds {', '.join(copied.files)}, {copied.bytes} bytes"
        + ("" if no_verify else "; the log in it is verified")
        + "".join(f"; {name} was left out, unreadable: the next start rebuilds it" for name in copied.left_out)
    )


def _prove(folder: Path) -> None:
    """Raises Fault, LogUnreadable."""
    from ledger.operations.audit import verify
    from ledger.sqlite.folder import EVENTS
    from ledger.sqlite.readers import SqliteRecords

    with closing(SqliteRecords(folder / EVENTS)) as records, progress("verifying", "events") as report:
        verify(
            records,
            tables=forms_of_tables(records.tables()),
            money=forms_of_money(records.money_rules()),
            progress=report,
        )
