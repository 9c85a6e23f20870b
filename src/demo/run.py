"""One run of the demo, from the service's start to the last line of the report.

The order matters. While the service runs, the day is played, every wallet is compared, the records are checked, and
`audit reconcile` compares the reads with the log. Then the service stops, and `audit verify` proves the log in its
folder: so a stop that loses records is found.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from demo import house_rules, log_check, service
from demo.apps import Apps
from demo.books import house as house_accounts
from demo.books.books import Books
from demo.books.edges import edges_of
from demo.games import Plan, play_games
from demo.games import Played as PlayedGames
from demo.house_rules import HouseRules
from demo.login import Senders, senders_at
from demo.play import Comparison, CountingClient, Tally, compare, play_day, run_all
from demo.report import Check, Summary, show
from demo.traffic.plan import Day
from demo.traffic.server import GameServer
from http_client.login import read_credentials
from http_client.responses import BadAddress, BadLogin, ClientError

INTERRUPTED = 130
URL_TIMEOUT_S = 10.0


class CannotStartError(Exception):
    """There is no service to play against, or no folder to start one in."""


@dataclass(frozen=True, slots=True)
class Options:
    """What to play, and where. Without `url` a service is started on `data`, or on a temporary folder."""

    users: int
    commands: int
    periods: int
    games: Plan
    seed: int
    rules: Path | None
    url: str | None
    login: Path | None
    data: Path | None
    keep: bool


@dataclass(slots=True)
class Played:
    """The results of a day."""

    seconds: float
    rules: str
    tally: Tally
    books: Books
    games: PlayedGames
    comparison: Comparison
    records: log_check.LogCheck
    day_reads: int
    day_findings: list[str]
    end_reads: int
    end_findings: list[str]
    reconciled: list[str]


def main(options: Options) -> int:
    """Run the demo and print to the console. Returns the exit status; does not raise for a user's mistakes."""
    console, errors = Console(), Console(stderr=True)

    def failed(why: object, status: int) -> int:
        errors.print(f"[red]stakelog demo:[/] {escape(str(why))}", soft_wrap=True, highlight=False)
        return status

    try:
        return asyncio.run(_run(options, console))
    except (CannotStartError, BadLogin, house_rules.BadRulesError) as error:
        return failed(error, 2)
    except (ClientError, service.ServiceFailedError) as error:
        return failed(error, 1)
    except (KeyboardInterrupt, asyncio.CancelledError):
        return failed("interrupted.", INTERRUPTED)


async def _run(options: Options, console: Console) -> int:
    _cancel_on_sigterm()
    if options.url is not None:
        played = await _play_at(options.url, options, console)
        log_checks: list[Check] = []
    else:
        with _folders(options, console) as (data, log):
            played = await _play_on(data, log, options, console)
            with console.status("Verifying the log …"):
                fault = await service.verify(data)
        log_checks = [Check("audit verify", "the stopped service's log", [fault] if fault else [])]
    summary = Summary(
        options.users,
        len(played.games.games) * options.games.players,
        played.seconds,
        played.rules,
        played.tally,
        played.books,
        edges_of(played.books),
        played.comparison,
        _checks(played) + log_checks,
    )
    show(console, summary)
    return 0 if summary.is_well() else 1


async def _play_at(url: str, options: Options, console: Console) -> Played:
    senders = Senders(url) if options.login is None else await senders_at(url, read_credentials(options.login))
    async with _client(url, tally := Tally(), senders) as client:
        deadline_s = time.monotonic() + URL_TIMEOUT_S
        while not await client.is_ready():
            if time.monotonic() > deadline_s:
                raise CannotStartError(f"no service is ready at {url}")
            await asyncio.sleep(0.2)
        tag = _tag()
        house = house_rules.of_file(options.rules or house_rules.HOUSE)
        if options.rules is None and not await house_rules.are_played(client.http, senders, house, f"{tag}probe"):
            house = house_rules.NONE
        return await _play(client, url, tally, options, console, tag, house)


async def _play_on(data: Path, log: Path, options: Options, console: Console) -> Played:
    # A folder with a log has users of an earlier day, whose command ids are used.
    tag = _tag() if _has_files(data) else ""
    house = house_rules.of_file(options.rules) if options.rules is not None else house_rules.per_bet(log.parent)
    assert house.path is not None
    async with service.running(data, log, house.path) as child:
        watching = asyncio.create_task(child.ended())
        playing = asyncio.create_task(_play_when_ready(child, options, console, tag, house))
        try:
            await asyncio.wait((watching, playing), return_when=asyncio.FIRST_COMPLETED)
            if not playing.done():
                raise watching.result()
            return playing.result()
        finally:
            for task in (watching, playing):
                task.cancel()
            await asyncio.gather(watching, playing, return_exceptions=True)


async def _play_when_ready(
    child: service.Service, options: Options, console: Console, tag: str, house: HouseRules
) -> Played:
    async with _client(child.url, tally := Tally(), Senders(child.url)) as client:
        deadline_s = time.monotonic() + service.START_TIMEOUT_S
        with console.status(f"Starting the service on {child.url} …"):
            while not await client.is_ready():
                if time.monotonic() > deadline_s:
                    raise service.ServiceFailedError(
                        f"the service was not ready after {service.START_TIMEOUT_S:.0f} s"
                    )
                await asyncio.sleep(0.1)
        return await _play(client, child.url, tally, options, console, tag, house)


def _client(url: str, tally: Tally, senders: Senders) -> CountingClient:
    """Raises CannotStartError."""
    try:
        return CountingClient(url, tally, senders)
    except BadAddress as error:
        raise CannotStartError(str(error)) from error


async def _play(
    client: CountingClient,
    url: str,
    tally: Tally,
    options: Options,
    console: Console,
    tag: str,
    house: HouseRules,
) -> Played:
    day = Day(options.users, options.commands, options.seed, periods=options.periods, tag=tag)
    books = Books(house.money)
    servers = [GameServer(day, number, books) for number in range(day.servers)]
    apps = Apps(client, books, options.seed)
    before = await log_check.ends_of(client.http)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bar:
        playing = bar.add_task("Playing the day  00:00", total=options.commands, note="")

        def wave_done(clock: str, commands: int) -> None:
            refused = sum(tally.refused.values())
            bar.update(
                playing,
                advance=commands,
                description=f"Playing the day  {clock}",
                note=f"{refused:,} refused, {tally.retries:,} retries, {tally.reads:,} reads",
            )

        began = time.perf_counter()
        _, games = await run_all(
            (
                play_day(client, servers, books, tally, wave_done, apps.after_wave),
                play_games(client, books, tally, options.games, options.seed, tag),
            )
        )
        assert isinstance(games, PlayedGames)
        seconds = time.perf_counter() - began
        bar.update(playing, total=tally.commands, completed=tally.commands)
        comparing = bar.add_task("Comparing wallets", total=len(books.wallets), note="")
        comparison = await compare(client, books, lambda agree: bar.update(comparing, completed=agree))
        day_reads, day_findings = tally.reads, apps.findings
        apps.findings = []
        least = {partition: end.seq for partition, end in (await log_check.ends_of(client.http)).items()}
        reading_all = bar.add_task("Reading every wallet", total=len(books.wallets), note="")
        await apps.every_wallet(least, lambda read: bar.update(reading_all, completed=read))
        checking = bar.add_task("Checking the records", total=None, note="")
        checked = await log_check.check_log(client.http, books, before)
        bar.update(checking, total=checked.records, completed=checked.records)
        reconciling = bar.add_task("Reconciling", total=None, note="")
        reconciled = await service.reconcile(url, client.reader)
        bar.update(reconciling, total=1, completed=1)
    end_reads = tally.reads - day_reads
    return Played(
        seconds,
        house.name,
        tally,
        books,
        games,
        comparison,
        checked,
        day_reads,
        day_findings,
        end_reads,
        apps.findings,
        reconciled,
    )


def _checks(played: Played) -> list[Check]:
    tally = played.tally
    no_hit = tally.copies_sent - tally.copies_hit
    copies = [f"{no_hit:,} of {tally.copies_sent:,} responses had no Idempotency-Hit"] if no_hit else []
    return [
        Check("responses", f"{tally.commands:,} commands", played.books.surprises),
        Check("periods of games", f"{played.games.periods:,} periods", played.games.findings),
        Check("copies", f"{tally.copies_sent:,} copies", copies),
        Check("wallets", f"{played.comparison.wallets:,} wallets", played.comparison.differences),
        Check("reads during the day", f"{played.day_reads:,} reads", played.day_findings),
        Check("reads of every wallet", f"{played.end_reads:,} reads", played.end_findings),
        Check("records", f"{played.records.records:,} records", played.records.faults),
        Check(
            "accounts of the house",
            f"{len(house_accounts.accounts(played.books))} accounts",
            house_accounts.differences(played.books, played.records.house),
        ),
        Check("audit reconcile", "every wallet's reads and the log", played.reconciled),
    ]


@contextlib.contextmanager
def _folders(options: Options, console: Console) -> Iterator[tuple[Path, Path]]:
    """The data folder, and the file for the service's output. Temporary folders are removed without `keep`."""
    scratch = Path(tempfile.mkdtemp(prefix="stakelog-demo-"))
    data = options.data or scratch / "data"
    try:
        data.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        shutil.rmtree(scratch, ignore_errors=True)
        raise CannotStartError(f"cannot use the folder {data}: {error.strerror}") from error
    try:
        yield data, scratch / "serve.log"
    finally:
        if options.keep:
            console.print(f"The data is in {data}, the service's output in {scratch / 'serve.log'}.", soft_wrap=True)
        else:
            shutil.rmtree(scratch, ignore_errors=True)


def _has_files(folder: Path) -> bool:
    return any(folder.iterdir())


def _tag() -> str:
    return f"d{time.time_ns() // 1_000_000:x}-"


def _cancel_on_sigterm() -> None:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
