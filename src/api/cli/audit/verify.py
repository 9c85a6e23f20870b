"""``stakelog audit verify``: verifies the log."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from api.cli.audit.sources import CannotAudit, data_folder, failures_reported, opened, source_options
from api.cli.progress import progress

if TYPE_CHECKING:
    from ledger.core.record import Head
    from ledger.operations.audit import RecordsFrom, Verified
    from ledger.operations.verifying.anchors import Anchor

_SOURCES_SHOWN: Final = 3
_SHA256: Final = re.compile("[0-9a-f]{64}")


@click.command()
@source_options
@click.option(
    "--heads",
    "heads_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Heads published earlier (the JSON of GET /v1/partitions) that the log must contain.",
)
@click.option(
    "--seals",
    "copies",
    type=click.Path(path_type=Path, exists=True),
    help="Seals kept outside of the data folder (the file, or its folder) that the log must contain.",
)
def verify(
    data: Path | None, url: str | None, login: Path | None, heads_file: Path | None, copies: Path | None
) -> None:
    """Verify the log: chain, postings, balances from zero, requests, unique ids, follow-ups, seals and heads.

    Works on a folder, in use or not, and over HTTP. Nothing is changed.
    """
    from ledger.operations.audit import verify as verify_log

    with failures_reported("stakelog audit verify"), opened(data, url, login) as records:
        published = _published(heads_file) if heads_file else {}
        # Read the seals before the log's ends: a seal made during the read may name records after these ends.
        anchors = [*_own_seals(data, records), *(_seals_in(copies) if copies else ())]
        with progress("verifying", "events") as tell:
            verified = verify_log(records, published=published, anchors=anchors, progress=tell)
    transit = ", ".join(f"{amount} {asset}" for asset, amount in verified.in_transit.items())
    click.echo(
        f"well: {verified.events} events in {len(verified.heads)} partitions; chain, postings, balances, requests, "
        f"ids and follow-ups agree ({verified.open_transfers} transfers under way{': ' + transit if transit else ''})"
        + (f"; {len(published)} published heads are in it" if published else "")
    )
    click.echo(_anchored(verified))


def _own_seals(data: Path | None, records: "RecordsFrom") -> "list[Anchor]":
    """The seals of the data folder, or of the service."""
    from api.cli.audit.http_records import HttpRecords
    from ledger.operations.seals import SEALS, anchors_of

    if isinstance(records, HttpRecords):
        return anchors_of(records.seals())
    file = data_folder(data) / SEALS
    return _seals_in(file) if file.exists() else []


def _seals_in(path: Path) -> "list[Anchor]":
    """Raises CannotAudit, Fault."""
    from ledger.operations.seals import SEALS, anchors_of, read_lines

    file = path / SEALS if path.is_dir() else path
    try:
        return anchors_of(read_lines(file))
    except OSError as error:
        raise CannotAudit(f"the seals in {file} cannot be read: {error.strerror}") from error


def _anchored(verified: "Verified") -> str:
    """What the end of the log is compared with, and how many records follow that."""
    if not verified.anchored:
        return (
            "anchored: to nothing. WARNING: a log without its last records, or with its last records rewritten, "
            "looks the same; name seals kept outside with --seals, or heads published earlier with --heads"
        )
    trusted = {anchor.partition: anchor.seq for anchor in verified.anchored}
    behind = sum(head.seq - trusted.get(partition, 0) for partition, head in enumerate(verified.heads))
    counts = Counter(anchor.source for anchor in verified.anchored)
    sources = ", ".join(f"{source} ({count} partitions)" for source, count in counts.most_common(_SOURCES_SHOWN))
    more = len(counts) - _SOURCES_SHOWN
    note = " Seals are not signed yet: trust those that were kept where the log's writer cannot write."
    return (
        f"anchored: {sources}{f' and {more} others' if more > 0 else ''}; {behind} records after them are not "
        f"anchored.{note if any('seal' in source for source in counts) else ''}"
    )


def _published(file: Path) -> "dict[int, Head]":
    from ledger.core.record import Head

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
