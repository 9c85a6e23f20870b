"""``stakelog what-if``: a past window under other rules. It reads the log and writes nothing to it.

Exit status: 0 well; 1 the log cannot be read to its end; 2 wrong use or a wrong rules file.
"""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from api.cli.audit.sources import CannotAudit, CheckFailed, failures_reported, opened, until_reader_leaves
from api.cli.progress import progress

if TYPE_CHECKING:
    from ledger.core.games.rules import RuleBook
    from ledger.core.money import Assets
    from ledger.kafka.records import KafkaRecords
    from ledger.operations.what_if.figures import Comparison, Pair
    from ledger.sqlite.readers import SqliteRecords

_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_WIDTH_IN_A_FILE: Final = 160
_SHOWN: Final = {
    "bets": "bets",
    "staked": "staked",
    "fees": "of it fees",
    "paid_out": "paid out",
    "bonuses": "bonuses",
    "commissions": "commissions",
    "house": "house keeps",
    "deposits": "deposits",
    "withdrawals": "withdrawals",
    "other": "other",
    "balance": "balances at the end",
}


class _Time(click.ParamType):
    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from ledger.operations.replay import parse_time

        try:
            return parse_time(f"{value}T00:00:00Z" if _DAY.fullmatch(str(value)) else value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


_TIME: Final = _Time()


@click.command("what-if")
@click.option(
    "--rules",
    "rules_file",
    required=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The other rules: a whole rules file, as STAKELOG_RULES names it.",
)
@click.option("--from", "from_us", required=True, type=_TIME, help="Start of the window: a day, or a time.")
@click.option("--to", "to_us", required=True, type=_TIME, help="Its end, which is not part of it.")
@click.option("--data", type=click.Path(path_type=Path), help="The data folder; default STAKELOG_DATA or ./data.")
@click.option("--log", "log", help="A log in Kafka instead: kafka://host:port,…, as STAKELOG_LOG.")
@click.option(
    "--parquet",
    "parquet",
    type=click.Path(path_type=Path, file_okay=False),
    help="A new or empty folder that gets totals, games, users and refused as Parquet files.",
)
@click.option("--users", "shown", type=click.IntRange(0), default=20, show_default=True, help="Users in the table.")
@click.option("--json", "as_json", is_flag=True, help="Everything as one JSON object instead of tables.")
def what_if(
    rules_file: Path,
    from_us: int,
    to_us: int,
    data: Path | None,
    log: str | None,
    parquet: Path | None,
    shown: int,
    as_json: bool,
) -> None:
    """Decide the commands of a past window again, under other rules, and show the difference.

    Times are a day (its start, UTC), RFC 3339, or Unix microseconds. The folder may be in use, and so may the Kafka
    log: nothing is written to either. What users would have done otherwise is not guessed.

    \b
    stakelog what-if --rules cheaper.json --from 2026-11-01 --to 2026-12-01
    """
    if from_us >= to_us:
        raise click.UsageError("--from must be before --to")
    if data is not None and log is not None:
        raise click.UsageError("--data or --log, not both")
    with failures_reported("stakelog what-if"):
        _check_parquet(parquet)
        try:
            with _source(data, log) as (records, assets, kept):
                book = _book(rules_file, assets, kept)
                comparison = _compared(records, book, assets, from_us, to_us)
            if parquet is not None:
                _write_parquet(comparison, parquet)
        except KeyboardInterrupt:
            raise CheckFailed("interrupted; the log is unchanged, and no result was made") from None
        with until_reader_leaves():
            if as_json:
                _print_json(comparison, rules_file)
            else:
                _print_tables(comparison, assets, shown)


@contextmanager
def _source(data: Path | None, log: str | None) -> "Iterator[tuple[SqliteRecords | KafkaRecords, Assets, RuleBook]]":
    """The records, the assets, and the rules that the log keeps. Raises CannotAudit, LedgerError."""
    from api.composition.settings import DEFAULT_ASSETS
    from ledger.core.games.rules import BUILT_IN, book_of
    from ledger.core.money import parse_assets
    from ledger.errors import LogMisconfigured

    address = log or ("" if data is not None else os.environ.get("STAKELOG_LOG", ""))
    if log is not None or address.startswith("kafka://"):
        from ledger.kafka.address import parse_address
        from ledger.kafka.records import KafkaRecords

        try:
            cluster = parse_address(address)
        except LogMisconfigured as error:
            raise CannotAudit(str(error)) from error
        with closing(KafkaRecords(cluster)) as in_topic:
            declared = in_topic.declared()
            yield (
                in_topic,
                declared.assets,
                book_of(BUILT_IN.games, declared.tables, {}, declared.money, declared.games),
            )
        return
    with opened(data, None, None) as records:
        from ledger.sqlite.readers import SqliteRecords

        assert isinstance(records, SqliteRecords)
        kept = book_of(BUILT_IN.games, records.tables(), {}, records.money_rules(), records.games())
        yield records, records.assets() or parse_assets(DEFAULT_ASSETS), kept


def _book(rules_file: Path, assets: "Assets", kept: "RuleBook") -> "RuleBook":
    """The other rules, with those that the log keeps. Raises CannotAudit."""
    from ledger.core.games.rules import book_of, read_rules
    from ledger.core.rules_file import WrongRules

    try:
        rules = read_rules(rules_file.read_text("utf-8"), assets)
    except (WrongRules, OSError, ValueError) as error:
        raise CannotAudit(f"{rules_file} is not a rules file for this log: {error}") from error
    return book_of(rules.games, kept.tables, rules.money, kept.money_kept, kept.names)


def _compared(
    records: "SqliteRecords | KafkaRecords", book: "RuleBook", assets: "Assets", from_us: int, to_us: int
) -> "Comparison":
    from ledger.operations.what_if.replay import what_if as compare

    with progress("replaying", "events") as report:
        comparison = compare(records, book, assets, from_us, to_us, report)
    if not comparison.events:
        raise CannotAudit("no event of the log is in this window: check --from and --to")
    return comparison


def _check_parquet(folder: Path | None) -> None:
    """Before the work, not after it. Raises CannotAudit."""
    if folder is None:
        return
    try:
        if folder.exists() and any(folder.iterdir()):
            raise CannotAudit(f"{folder} is not empty: name a new folder for --parquet")
    except OSError as error:
        raise CannotAudit(f"{folder} cannot be read: {error.strerror}") from error
    try:
        import ledger.operations.what_if.tables  # noqa: F401 - only whether it can be imported
    except ImportError as error:
        raise CannotAudit("Parquet needs pyarrow, which is not installed: pip install 'stakelog[parquet]'") from error


def _write_parquet(comparison: "Comparison", folder: Path) -> None:
    from ledger.operations.what_if.tables import TooLarge, write_parquet

    try:
        write_parquet(comparison, folder)
    except TooLarge as error:
        raise CheckFailed(str(error)) from error
    except OSError as error:
        raise CheckFailed(f"{folder} cannot be written: {error.strerror or error}") from error


# --- what is shown ------------------------------------------------------------------------------------------------


def _print_json(comparison: "Comparison", rules_file: Path) -> None:
    import msgspec

    document = {
        "rules": str(rules_file),
        "from_us": comparison.from_us,
        "to_us": comparison.to_us,
        "events": comparison.events,
        "totals": [_document(pair, None) for pair in comparison.totals],
        "games": [_document(pair, "game") for pair in comparison.games],
        "users": [{**_document(pair, "user_id"), "refused": pair.refused} for pair in comparison.users],
        "refused": [
            {"command": command, "code": code, "count": count} for command, code, count in comparison.refused
        ],
    }
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n")


def _document(pair: "Pair", name: str | None) -> dict[str, Any]:
    from ledger.operations.what_if.figures import NAMES

    figures = ("bets", "staked", "fees", "paid_out", "house") if name == "game" else (*NAMES, "house")
    return {
        **({} if name is None else {name: pair.name}),
        "asset": pair.asset,
        "actual": {figure: getattr(pair.actual, figure) for figure in figures},
        "what_if": {figure: getattr(pair.what_if, figure) for figure in figures},
        "difference": {figure: pair.difference(figure) for figure in figures},
    }


def _print_tables(comparison: "Comparison", assets: "Assets", shown: int) -> None:
    from rich.console import Console

    from ledger.operations.replay import utc

    on_terminal = sys.stdout.isatty()
    console = Console(
        file=sys.stdout,
        width=None if on_terminal else _WIDTH_IN_A_FILE,
        highlight=False,
        markup=False,
        force_terminal=on_terminal,
    )
    window = f"{utc(comparison.from_us)} to {utc(comparison.to_us)}"
    console.print(f"{comparison.events} events from {window}, decided again", soft_wrap=True)
    for pair in comparison.totals:
        rows = [
            (title, *_amounts(pair, figure, assets))
            for figure, title in _SHOWN.items()
            if getattr(pair.actual, figure) or getattr(pair.what_if, figure)
        ]
        console.print(_table(f"In all, {pair.asset}", ("", "actual", "what if", "difference"), rows))
    games = [(pair.name, *_cells(pair, ("bets", "staked", "paid_out", "house"), assets)) for pair in comparison.games]
    heads = ("bets", "staked", "paid out")
    console.print(_table("Differences by game (what if − actual)", ("game", *heads, "house keeps"), games))
    users = sorted(
        (pair for pair in comparison.users if pair.differs),
        key=lambda pair: (-abs(pair.difference("balance")), pair.name, pair.asset),
    )
    if not users:
        console.print("No user's figures differ.")
    elif shown:
        figures = ("bets", "staked", "paid_out", "bonuses", "commissions", "balance")
        of_users = [(pair.name, *_cells(pair, figures, assets), str(pair.refused)) for pair in users[:shown]]
        heads_of_users = ("user", *heads, "bonuses", "commissions", "balance", "refused")
        console.print(_table("Differences by user, the largest first", heads_of_users, of_users))
    if len(users) > shown:
        console.print(f"… and {len(users) - shown} more rows of users: --parquet or --json has all", soft_wrap=True)
    if comparison.refused:
        refused = [(command, code, str(count)) for command, code, count in comparison.refused]
        console.print(_table("Refused under these rules", ("command", "code", "count"), refused, texts=2))


def _amounts(pair: "Pair", figure: str, assets: "Assets") -> tuple[str, str, str]:
    values = getattr(pair.actual, figure), getattr(pair.what_if, figure)
    actual, what_if = (_shown(value, figure, pair.asset, assets) for value in values)
    return actual, what_if, _shown(pair.difference(figure), figure, pair.asset, assets, signed=True)


def _cells(pair: "Pair", figures: tuple[str, ...], assets: "Assets") -> list[str]:
    return [_shown(pair.difference(figure), figure, pair.asset, assets, signed=True) for figure in figures]


def _shown(value: int, figure: str, asset: str, assets: "Assets", *, signed: bool = False) -> str:
    from ledger.core.money import format_amount

    sign = "+" if signed and value > 0 else ""
    if figure == "bets":
        return f"{sign}{value}"
    return sign + format_amount(value, asset, assets)


def _table(title: str, heads: tuple[str, ...], rows: list[Any], texts: int = 1) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for at, head in enumerate(heads):
        table.add_column(head, justify="left" if at < texts else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table
