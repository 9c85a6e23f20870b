"""``stakelog audit replay``: the events of a wallet or of a partition, one by one."""

import re
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from api.cli.audit.sources import CannotAudit, failures_reported, opened, source_options, until_reader_leaves

if TYPE_CHECKING:
    from ledger.operations.audit import RecordsFrom
    from ledger.operations.replay import Line

# A table is laid out block by block, so that long output begins at once; the columns keep their widths.
_BLOCK: Final = 100
_WIDTH_IN_A_FILE: Final = 200


_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")


class _Time(click.ParamType):
    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from ledger.operations.replay import parse_time

        # A day includes all of it: `--until 2026-11-30` shows the events of that day too.
        text = f"{value}T23:59:59.999999Z" if _DAY.fullmatch(str(value)) else value
        try:
            return parse_time(text)
        except ValueError as error:
            self.fail(str(error), param, ctx)


UNTIL_TIME: Final = _Time()


@click.command()
@source_options
@click.option("--user", "user_id", help="The events of this wallet.")
@click.option("--partition", type=click.IntRange(0), help="The events of this partition.")
@click.option(
    "--until",
    "until_us",
    type=UNTIL_TIME,
    help="Events up to this time: a day (UTC, included), RFC 3339, or Unix microseconds.",
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["table", "ndjson"]),
    default="table",
    show_default=True,
    help="A table; or the records byte for byte, one record a line.",
)
def replay(
    data: Path | None,
    url: str | None,
    login: Path | None,
    user_id: str | None,
    partition: int | None,
    until_us: int | None,
    kind: str,
) -> None:
    """Show the events of a wallet (--user) or of a partition (--partition), one by one.

    Amounts are in the asset's minor unit. The events of a wallet are found by a read of its whole partition.
    """
    if (user_id is None) == (partition is None):
        raise click.UsageError("give either --user or --partition")
    with failures_reported("stakelog audit replay"), opened(data, url, login) as records, until_reader_leaves():
        if user_id is not None:
            pages = _known(records.of_user(user_id), f"no event of {user_id} is in the log: there is no such wallet")
        else:
            assert partition is not None
            pages = _of_partition(records, partition)
        found = chain.from_iterable(pages) if until_us is None else _until(chain.from_iterable(pages), until_us)
        if kind == "ndjson":
            for record in found:
                sys.stdout.buffer.write(record + b"\n")
        else:
            _print_table(_lines(found), with_user=partition is not None)


def _known(pages: Iterator[list[bytes]], otherwise: str) -> Iterator[list[bytes]]:
    """The same pages, if there is a first one. Raises CannotAudit."""
    first = next(pages, None)
    if first is None:
        raise CannotAudit(otherwise)
    return chain([first], pages)


def _of_partition(records: "RecordsFrom", partition: int) -> Iterator[list[bytes]]:
    ends = records.ends()
    if partition >= len(ends):
        raise CannotAudit(f"there is no partition {partition}: the log has {len(ends)}, from 0 on")
    for page in records.read(partition, ends[partition]):
        yield [stored[0] for stored in page]


def _until(records: Iterator[bytes], until_us: int) -> Iterator[bytes]:
    """The records up to that time. It stops at the first later one: in a partition time never goes back."""
    from ledger.core.record import MalformedRecord, time_us_of

    for number, record in enumerate(records, 1):
        try:
            later = time_us_of(record) > until_us
        except MalformedRecord as error:
            raise _cannot_be_read(number, error) from None
        if later:
            return
        yield record


def _lines(records: Iterator[bytes]) -> "Iterator[Line]":
    from ledger.operations.replay import Unreadable, line_of

    for number, record in enumerate(records, 1):
        try:
            yield line_of(record)
        except Unreadable as error:
            raise _cannot_be_read(number, error) from None


def _cannot_be_read(number: int, error: Exception) -> Exception:
    from ledger.errors import LogUnreadable

    return LogUnreadable(
        f"record number {number} of this output cannot be read: {error}; `stakelog audit verify` names its position"
    )


def _print_table(lines: "Iterator[Line]", *, with_user: bool) -> None:
    from itertools import islice

    from rich.console import Console

    width = None if sys.stdout.isatty() else _WIDTH_IN_A_FILE
    console = Console(width=width, highlight=False, force_terminal=sys.stdout.isatty())
    found = 0
    while block := list(islice(lines, _BLOCK)):
        with console.capture() as capture:
            console.print(_table(block, with_header=found == 0, with_user=with_user))
        sys.stdout.write(capture.get())
        sys.stdout.flush()
        found += len(block)
    sys.stdout.write(f"{found} events\n")


def _table(block: "list[Line]", *, with_header: bool, with_user: bool) -> Any:
    from rich.table import Table
    from rich.text import Text

    from ledger.operations.replay import utc

    table = Table(box=None, show_header=with_header, pad_edge=False, padding=(0, 2, 0, 0), expand=True)
    table.add_column("position", width=12, no_wrap=True, overflow="fold")
    table.add_column("time (UTC)", width=27, no_wrap=True)
    if with_user:
        table.add_column("user", width=16, overflow="fold")
    table.add_column("type", width=20, overflow="fold")
    table.add_column("about", ratio=3, overflow="fold")
    table.add_column("change", width=26, overflow="fold")
    table.add_column("balances after", ratio=2, overflow="fold")
    for line in block:
        change = "\n".join(
            f"{asset} {bucket} {amount:+d}"
            for asset, buckets in line.change.items()
            for bucket, amount in buckets.items()
        )
        after = "\n".join(
            f"{asset} " + ", ".join(f"{bucket} {amount}" for bucket, amount in buckets.items())
            for asset, buckets in line.balances.items()
        )
        cells = [line.position, utc(line.time_us), *([line.user_id] if with_user else []), line.type, line.about]
        table.add_row(*(Text(cell) for cell in (*cells, change, after)))
    return table
