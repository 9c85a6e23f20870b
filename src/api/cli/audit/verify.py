"""``stakelog audit verify``: the log proves itself."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from api.cli.audit.sources import CannotAudit, opened, said_plainly, source_options
from api.cli.progress import progress

if TYPE_CHECKING:
    from ledger.core.record import Head
    from ledger.operations.audit import Verified
    from ledger.operations.verifying.anchors import Anchor

_SHA256: Final = re.compile("[0-9a-f]{64}")


@click.command()
@source_options
@click.option(
    "--heads",
    "heads_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Heads published earlier (the JSON of GET /v1/partitions) that the log must go through.",
)
def verify(data: Path | None, url: str | None, heads_file: Path | None) -> None:
    """Prove the log: chain, postings, balances from zero, requests, unique ids, follow-ups, heads kept elsewhere.

    Works on a folder, in use or not, and over HTTP. Nothing is changed.
    """
    from ledger.operations.audit import verify as verify_log

    with said_plainly("stakelog audit verify"):
        published = _published(heads_file) if heads_file else {}
        with opened(data, url) as records, progress("verifying", "events") as tell:
            verified = verify_log(records, published=published, progress=tell)
    transit = ", ".join(f"{amount} {asset}" for asset, amount in verified.in_transit.items())
    click.echo(
        f"well: {verified.events} events in {len(verified.heads)} partitions; chain, postings, balances, requests, "
        f"ids and follow-ups agree ({verified.open_transfers} transfers under way{': ' + transit if transit else ''})"
        + (f"; {len(published)} published heads are in it" if published else "")
    )
    click.echo(_anchored(verified))


def _anchored(verified: "Verified") -> str:
    """What the end of the log is held against, and how much is behind that."""
    if not verified.anchored:
        return (
            "anchored: to nothing. WARNING: a log without its last records, or with its last records rewritten, "
            "looks the same; name heads published earlier with --heads, or keep seals"
        )
    trusted = {anchor.partition: anchor.seq for anchor in verified.anchored}
    behind = sum(head.seq - trusted.get(partition, 0) for partition, head in enumerate(verified.heads))
    return f"anchored: {_sources(verified.anchored)}; {behind} records behind them are not anchored"


def _sources(anchors: "Sequence[Anchor]") -> str:
    counts = Counter(anchor.source for anchor in anchors)
    return ", ".join(f"{source} ({count} partitions)" for source, count in counts.most_common())


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
