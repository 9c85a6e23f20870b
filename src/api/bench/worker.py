"""A child process that makes load, or is a yardstick, when asked: one JSON job a line in, one JSON answer a line out.

The clock of every slice runs here, not in the process that draws the progress bar. Ends when its input ends, so no
worker outlives the bench. Run as ``python -m api.bench.worker``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
from msgspec import Struct

from api.bench.bodies import Spread
from api.bench.figures import BenchError, Slice


class Bets(Struct, frozen=True, kw_only=True, tag=True):
    """See `load.post_bets`."""

    port: int
    connections: int
    per_request: int = 1
    limit_s: float
    spread: Spread = "uniform"
    tag: str
    seed: int = 0


class OpenWallets(Struct, frozen=True, kw_only=True, tag=True):
    """See `load.open_wallets`."""

    port: int
    first: int
    end: int
    with_bet: bool


class Commits(Struct, frozen=True, kw_only=True, tag=True):
    """See `yardsticks.bare_commits`."""

    folder: str
    limit_s: float


class BareLoop(Struct, frozen=True, kw_only=True, tag=True):
    """See `yardsticks.bare_loop`."""

    data: str


class Verification(Struct, frozen=True, kw_only=True, tag=True):
    """See `yardsticks.verification`."""

    data: str


class Done(Struct, frozen=True, tag=True):
    """The job as figures."""

    figures: Slice


class Failed(Struct, frozen=True, tag=True):
    """Why there are none: one line."""

    why: str


Job = Bets | OpenWallets | Commits | BareLoop | Verification
Reply = Done | Failed


def run(job: Job) -> Slice:
    """Do ``job`` in this process. Raises BenchError."""
    match job:
        case Bets():
            from api.bench import load

            return load.post_bets(
                job.port,
                connections=job.connections,
                per_request=job.per_request,
                limit_s=job.limit_s,
                spread=job.spread,
                tag=job.tag,
                seed=job.seed,
            )
        case OpenWallets():
            from api.bench import load

            return load.open_wallets(job.port, first=job.first, end=job.end, with_bet=job.with_bet)
        case Commits():
            from api.bench import yardsticks

            return yardsticks.bare_commits(Path(job.folder), job.limit_s)
        case BareLoop():
            from api.bench import yardsticks

            return yardsticks.bare_loop(Path(job.data))
        case Verification():
            from api.bench import yardsticks

            return yardsticks.verification(Path(job.data))


def main() -> None:
    """Answer jobs until the input ends."""
    encode = msgspec.json.Encoder().encode
    decoder: msgspec.json.Decoder[Job] = msgspec.json.Decoder(Job)
    for line in sys.stdin.buffer:
        reply: Reply
        try:
            reply = Done(run(decoder.decode(line)))
        except BenchError as error:
            reply = Failed(str(error))
        sys.stdout.buffer.write(encode(reply) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
