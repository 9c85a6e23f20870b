"""``stakelog audit export``: the log as files, to keep, verify and analyse elsewhere."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from api.cli.audit.sources import CannotAudit, CheckFailed, failures_reported, opened, source_options
from api.cli.progress import progress

if TYPE_CHECKING:
    from ledger.operations.export import Format

_FILE_EVENTS: Final = 100_000  # chosen: some 60 MB of NDJSON; a kill loses at most one file


@click.command()
@click.argument("dest", type=click.Path(path_type=Path, file_okay=False))
@source_options
@click.option(
    "--format",
    "kind",
    type=click.Choice(["ndjson", "parquet"]),
    default="ndjson",
    show_default=True,
    help="ndjson: one record a line; parquet: typed columns, one of them the record.",
)
@click.option(
    "--file-events",
    type=click.IntRange(1),
    default=_FILE_EVENTS,
    show_default=True,
    help="The most events in one file.",
)
def export(dest: Path, data: Path | None, url: str | None, login: Path | None, kind: str, file_events: int) -> None:
    """Export the log into the folder DEST, or update the export in DEST.

    One sub-folder per partition, files named by their seqs. Run it again after a kill, or later: it verifies that the
    exported files are part of this log's chain, and continues after the last complete file.
    """
    from ledger.operations.export import DamagedExport, UnfitRecord, WrongFolder
    from ledger.operations.export import export as export_log

    with failures_reported("stakelog audit export"):
        form = _format(kind)
        try:
            with opened(data, url, login) as records, progress("exporting", "events") as report:
                exported = export_log(records, dest, form, file_events_max=file_events, progress=report)
        except WrongFolder as error:
            raise CannotAudit(str(error)) from error
        except (DamagedExport, UnfitRecord) as error:
            raise CheckFailed(str(error)) from error
        except OSError as error:
            raise CheckFailed(
                f"{dest} cannot be written: {error.strerror or error}; complete files stay, run it again to continue"
            ) from error
    click.echo(
        f"exported {exported.new} events into {dest}, which now has {exported.events} events of "
        f"{len(exported.heads)} partitions; their chain was verified"
    )


def _format(kind: str) -> "Format":
    if kind == "ndjson":
        from ledger.operations.export import Ndjson

        return Ndjson()
    try:
        from ledger.operations.parquet import Parquet
    except ImportError as error:
        raise CannotAudit(
            "Parquet needs pyarrow, which is not installed: pip install 'stakelog[parquet]', or use --format ndjson"
        ) from error
    return Parquet()
