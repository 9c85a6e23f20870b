"""``stakelog upgrade``: turns the log of a data folder into the present format.

Exit status: 0 the log has the present format and was compared; 1 it failed (a damaged record: partition, seq and
reason on stdout); 2 wrong use, or the folder is in use. After a failure the old log is unchanged; a second run
continues.
"""

from pathlib import Path
from time import monotonic

import click

from api.cli.audit.sources import CannotAudit, data_folder, failures_reported
from api.cli.progress import progress_of_steps


@click.command()
@click.option("--data", type=click.Path(path_type=Path), help="The data folder; default STAKELOG_DATA or ./data.")
def upgrade(data: Path | None) -> None:
    """Turn the log of a data folder that is not in use into the format of this version.

    The new log is written next to the old one and compared with it record by record. Then it replaces the old one.
    Every record keeps its bytes, its seq and its hash, so state, read model, heads and seals stay valid. It needs
    free space of the size of events.sqlite3. After a kill, run it again to continue.
    """
    from ledger.errors import FolderInUse, FolderUnusable, LogDamaged
    from ledger.operations.audit import Fault

    with failures_reported("stakelog upgrade"):
        try:
            _upgrade(data_folder(data))
        except (FolderInUse, FolderUnusable) as error:
            raise CannotAudit(str(error)) from error
        except LogDamaged as damage:
            raise Fault(damage.partition, damage.seq, f"{damage.reason}; nothing was changed") from damage


def _upgrade(folder: Path) -> None:
    """Raises CannotAudit, LedgerError."""
    from ledger.operations.upgrade import upgrade as upgrade_log
    from ledger.sqlite.folder import EVENTS, FolderLock

    try:
        found = (folder / EVENTS).exists()
    except OSError as error:
        raise CannotAudit(f"the folder {folder} cannot be read: {error.strerror}") from error
    if not found:
        raise CannotAudit(f"there is no event log in {folder}: name its folder with --data")
    began_s = monotonic()
    lock = FolderLock(folder)
    try:
        with progress_of_steps("events") as report:
            done = upgrade_log(folder, report)
    finally:
        lock.release()
    if done is None:
        click.echo(f"well: the log in {folder} has the format of this version already")
        return
    for partition, head in enumerate(done.heads):
        click.echo(f"partition {partition}: seq {head.seq} {head.sha256}")
    events = sum(head.seq for head in done.heads)
    click.echo(
        f"well: {events} events in {len(done.heads)} partitions have the format of this version, byte for byte and "
        f"with the same heads, {monotonic() - began_s:.1f} s in all. The log as it was is kept in {done.old}: "
        "delete it when you have a backup of the new one"
    )
