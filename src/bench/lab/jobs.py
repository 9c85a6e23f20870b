"""A child process that makes load, or runs a yardstick: one JSON job a line in, one JSON reply a line out.

The clock of each slice runs in this process, not in the one that draws the progress bar. It ends when its input ends,
so none outlives the bench. Run as ``python -m bench.lab.jobs``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
from msgspec import Struct

from bench.figures import BenchError, Slice
from bench.load.bodies import Spread, What, Within
from bench.load.freshness import Following


class Bets(Struct, frozen=True, kw_only=True, tag=True):
    """See `generator.post_bets`."""

    port: int
    connections: int
    per_request: int = 1
    limit_s: float
    spread: Spread = "uniform"
    within: Within | None = None
    tag: str
    seed: int = 0
    token: str | None = None
    per_s_max: int | None = None


class LibraryBets(Struct, frozen=True, kw_only=True, tag=True):
    """See `library.post_bets`."""

    port: int
    tasks: int
    limit_s: float
    tag: str
    seed: int = 0
    plain: bool = False


class OpenWallets(Struct, frozen=True, kw_only=True, tag=True):
    """See `generator.open_wallets`."""

    port: int
    first: int
    end: int
    with_bet: bool
    token: str | None = None


class FillPlayers(Struct, frozen=True, kw_only=True, tag=True):
    """See `generator.fill_players`."""

    port: int
    players: int


class FillLong(Struct, frozen=True, kw_only=True, tag=True):
    """See `generator.fill_long`."""

    port: int
    blocks: int


class WalletReads(Struct, frozen=True, kw_only=True, tag=True):
    """See `generator.read_wallets`."""

    port: int
    connections: int
    what: What
    wallets: int
    limit_s: float
    seed: int = 0


class Feeds(Struct, frozen=True, kw_only=True, tag=True):
    """See `feeds.feeds`."""

    port: int
    connections: int
    per_s: float
    limit_s: float
    tag: str


class ReadEach(Struct, frozen=True, kw_only=True, tag=True):
    """See `generator.read_each`."""

    port: int
    connections: int
    what: What


class MixedReads(Struct, frozen=True, kw_only=True, tag=True):
    """See `generator.read_mix`."""

    port: int
    connections: int
    limit_s: float
    now_us: int
    seed: int = 0


class LeaderboardReads(Struct, frozen=True, kw_only=True, tag=True):
    """See `generator.read_leaderboards`."""

    port: int
    connections: int
    limit_s: float


class HistoryPages(Struct, frozen=True, kw_only=True, tag=True):
    """See `paging.history_pages`; ``middle``: with times as filters, the middle fifth of the history's."""

    port: int
    filters: dict[str, str] = {}
    middle: bool = False
    pages: int
    first_only: bool = False


class Visible(Struct, frozen=True, kw_only=True, tag=True):
    """See `freshness.visible`."""

    port: int
    read_port: int | None = None
    per_s: float
    limit_s: float
    waits: bool
    tag: str
    seed: int = 0


class Distribution(Struct, frozen=True, kw_only=True, tag=True):
    """See `freshness.distribution`."""

    port: int
    per_s: float
    limit_s: float
    waits: bool
    tag: str
    seed: int = 0


class Arrivals(Struct, frozen=True, kw_only=True, tag=True):
    """See `freshness.arrivals`; answered with ``following``, too."""

    port: int
    metrics_port: int | None = None
    """None: the same."""
    per_s: float
    limit_s: float
    tag: str
    seed: int = 0


class CatchUp(Struct, frozen=True, kw_only=True, tag=True):
    """See `freshness.catch_up`. ``port``: of the metrics."""

    port: int


class Commits(Struct, frozen=True, kw_only=True, tag=True):
    """See `yardsticks.sqlite.bare_commits`."""

    folder: str
    limit_s: float


class CommandLoop(Struct, frozen=True, kw_only=True, tag=True):
    """See `yardsticks.processor.command_loop`."""

    limit_s: float


class BareSends(Struct, frozen=True, kw_only=True, tag=True):
    """See `yardsticks.kafka.bare_sends`."""

    url: str
    limit_s: float


class Grow(Struct, frozen=True, kw_only=True, tag=True):
    """See `grown_log.grow`."""

    data: str
    events: int


class BareLoop(Struct, frozen=True, kw_only=True, tag=True):
    """See `yardsticks.sqlite.bare_loop`."""

    data: str


class Verification(Struct, frozen=True, kw_only=True, tag=True):
    """See `yardsticks.sqlite.verification`."""

    data: str


class Folding(Struct, frozen=True, kw_only=True, tag=True):
    """See `yardsticks.sqlite.folding`."""

    data: str
    into: str
    events: int


class Done(Struct, frozen=True, tag=True):
    """The job as figures."""

    figures: Slice
    following: Following | None = None


class Failed(Struct, frozen=True, tag=True):
    """Why there are no figures: one line."""

    why: str


Load = (
    Bets | LibraryBets | OpenWallets | FillPlayers | FillLong | WalletReads | ReadEach | MixedReads | LeaderboardReads
)
Followed = HistoryPages | Visible | Distribution | Feeds | CatchUp
Alone = Commits | CommandLoop | BareSends | Grow | BareLoop | Verification | Folding
Job = Load | Followed | Arrivals | Alone
Reply = Done | Failed


def run(job: Job) -> Done:
    """Do ``job`` in this process. Raises BenchError."""
    match job:
        case (
            Bets()
            | LibraryBets()
            | OpenWallets()
            | FillPlayers()
            | FillLong()
            | WalletReads()
            | ReadEach()
            | MixedReads()
            | LeaderboardReads()
        ):
            return Done(_load(job))
        case HistoryPages() | Visible() | Distribution() | Feeds() | CatchUp():
            return Done(_followed(job))
        case Arrivals():
            from bench.load import freshness as following

            came = following.arrivals(
                job.port,
                metrics_port=job.metrics_port,
                per_s=job.per_s,
                limit_s=job.limit_s,
                tag=job.tag,
                seed=job.seed,
            )
            return Done(came.arrived, came)
        case Commits() | CommandLoop() | BareSends() | Grow() | BareLoop() | Verification() | Folding():
            return Done(_alone(job))


def _load(job: Load) -> Slice:
    from bench.load import generator as load

    match job:
        case Bets():
            return load.post_bets(
                job.port,
                connections=job.connections,
                per_request=job.per_request,
                limit_s=job.limit_s,
                spread=job.spread,
                within=job.within,
                tag=job.tag,
                seed=job.seed,
                token=job.token,
                per_s_max=job.per_s_max,
            )
        case LibraryBets():
            from bench.load import library

            return library.post_bets(
                job.port, tasks=job.tasks, limit_s=job.limit_s, tag=job.tag, seed=job.seed, plain=job.plain
            )
        case OpenWallets():
            return load.open_wallets(job.port, first=job.first, end=job.end, with_bet=job.with_bet, token=job.token)
        case FillPlayers():
            return load.fill_players(job.port, players=job.players)
        case FillLong():
            return load.fill_long(job.port, blocks=job.blocks)
        case WalletReads():
            return load.read_wallets(
                job.port,
                connections=job.connections,
                what=job.what,
                wallets=job.wallets,
                limit_s=job.limit_s,
                seed=job.seed,
            )
        case ReadEach():
            return load.read_each(job.port, connections=job.connections, what=job.what)
        case MixedReads():
            return load.read_mix(
                job.port, connections=job.connections, limit_s=job.limit_s, now_us=job.now_us, seed=job.seed
            )
        case LeaderboardReads():
            return load.read_leaderboards(job.port, connections=job.connections, limit_s=job.limit_s)


def _followed(job: Followed) -> Slice:
    from bench.load import freshness as following
    from bench.load import paging

    match job:
        case HistoryPages():
            filters = dict(job.filters)
            if job.middle:
                first_us, last_us = paging.times_of(job.port)
                fifth_us = (last_us - first_us) // 5
                filters |= {"from_us": str(first_us + 2 * fifth_us), "to_us": str(first_us + 3 * fifth_us)}
            return paging.history_pages(job.port, filters=filters, pages=job.pages, first_only=job.first_only)
        case Visible():
            return following.visible(
                job.port,
                per_s=job.per_s,
                limit_s=job.limit_s,
                waits=job.waits,
                tag=job.tag,
                seed=job.seed,
                read_port=job.read_port,
            )
        case Distribution():
            return following.distribution(
                job.port,
                per_s=job.per_s,
                limit_s=job.limit_s,
                waits=job.waits,
                tag=job.tag,
                seed=job.seed,
            )
        case Feeds():
            from bench.load import feeds

            return feeds.feeds(
                job.port,
                connections=job.connections,
                per_s=job.per_s,
                limit_s=job.limit_s,
                tag=job.tag,
            )
        case CatchUp():
            return following.catch_up(job.port)


def _alone(job: Alone) -> Slice:
    from bench.yardsticks import sqlite as yardsticks

    match job:
        case Commits():
            return yardsticks.bare_commits(Path(job.folder), job.limit_s)
        case CommandLoop():
            from bench.yardsticks import processor

            return processor.command_loop(job.limit_s)
        case BareSends():
            from bench.yardsticks import kafka as yardsticks_kafka

            return yardsticks_kafka.bare_sends(job.url, job.limit_s)
        case Grow():
            from bench.load import grown_log

            return grown_log.grow(Path(job.data), job.events)
        case BareLoop():
            return yardsticks.bare_loop(Path(job.data))
        case Verification():
            return yardsticks.verification(Path(job.data))
        case Folding():
            return yardsticks.folding(Path(job.data), Path(job.into), job.events)


def main() -> None:
    """Do jobs until the input ends."""
    encode = msgspec.json.Encoder().encode
    decoder: msgspec.json.Decoder[Job] = msgspec.json.Decoder(Job)
    for line in sys.stdin.buffer:
        reply: Reply
        try:
            reply = run(decoder.decode(line))
        except BenchError as error:
            reply = Failed(str(error))
        sys.stdout.buffer.write(encode(reply) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
