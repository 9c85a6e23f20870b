"""The laboratory: the processes, logs and folders of one run, made when they are first needed."""

from __future__ import annotations

import http.client
import json
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any, Final, Self

from msgspec import Struct

from bench.figures import BenchError, Slice
from bench.lab import programs
from bench.lab.jobs import Bets, CatchUp, Distribution, FillLong, FillPlayers, Grow, Job, OpenWallets, WalletReads
from bench.lab.programs import JobProcess, Program
from bench.load import bodies
from bench.load.bodies import Spread, Within

WALLETS_PER_STEP = 10_000
HOUSE_RULES: Final = {
    "games": {"wingo_10m": {"stake_max": {"INR": 10_000_000}, "bets_per_period": 1_000_000}},
    "money": {
        "INR": {
            "registration": 2_500,
            "first_deposit": [[10_000, 2_000], [30_000, 6_000]],
            "attendance": [700, 2_000, 10_000],
            "wagering": {"deposit": 1, "bonus": 1},
            "withdrawal": {"min": 11_000, "per_day": 3},
            "valid_referral": 30_000,
            "invitation": [[1, 5_500]],
            "commission": {"rates_e9": [6_000_000, 1_800_000, 540_000, 162_000, 48_600, 14_580]},
        }
    },
}
"""The rules file of `house`: every money flow, and a game with limits. What must be staked is more than a run
stakes, so each bet counts for it."""
OF_GAMES_PER_S: Final = 1_000
"""Bets on a game, each second, before `house` is measured. Chosen."""
_SECRET: Final = secrets.token_urlsafe(32)
"""Of the client admin, for this run."""
REPLAYED_PER_S_MIN: Final = 5_000
"""A service that starts on a log without its state replays more records a second than this. Chosen."""
SAVED_S_MAX: Final = 60.0
"""How long `grown` waits until the service has saved the replayed state. Chosen."""
AFTERWORK_S_MAX = 3.0
"""How long a yardstick waits for the service's afterwork. Chosen; `Lab.unsettled` counts when it was too short."""


class Plan(Struct, frozen=True, kw_only=True):
    """How much of everything. ``pairs`` ≥ 5 for figures worth keeping."""

    pairs: int
    restarts: int
    slice_s: float
    short_slice_s: float
    warm_up_s: float
    wallets: int
    lines: int
    pages: int
    paced_s: float
    few_pairs: int
    fold_events: int
    members: int
    open_bets: int
    grown_events: int
    sustained_s: float


FULL = Plan(
    pairs=5,
    restarts=3,
    slice_s=1.0,
    short_slice_s=1.0,
    warm_up_s=2.0,
    wallets=100_000,
    lines=100_000,
    pages=300,
    paced_s=4.0,
    few_pairs=3,
    fold_events=60_000,
    members=100_000,
    open_bets=100_000,
    grown_events=1_000_000,
    sustained_s=60.0,
)
"""``lines`` of the long history, ``pages`` of it read with each filter, ``few_pairs`` of what takes ``paced_s`` or
longer, ``fold_events`` folded at a time, ``grown_events`` already in the log of `grown`, ``members``
who earn commissions, ``open_bets`` of the period that is settled."""
QUICK = Plan(
    pairs=2,
    restarts=1,
    slice_s=0.4,
    short_slice_s=0.4,
    warm_up_s=0.5,
    wallets=10_000,
    lines=10_000,
    pages=50,
    paced_s=1.0,
    few_pairs=1,
    fold_events=10_000,
    members=2_000,
    open_bets=5_000,
    grown_events=20_000,
    sustained_s=1.0,
)


class Processes:
    """Base of the laboratories: load generators, and the end of all started processes. Use as a context manager.

    ``say`` is called with the current work, ``step`` after each of `steps`.
    """

    def __init__(self, folder: Path, say: Callable[[str], None], step: Callable[[], None]) -> None:
        self.folder = folder
        self.say = say
        self.step = step
        self.unsettled = 0
        self._stack = ExitStack()
        self._numbers = count()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @cached_property
    def generator(self) -> JobProcess:
        """The load generator, kept warm."""
        return self._stack.enter_context(JobProcess())

    @cached_property
    def yardstick(self) -> JobProcess:
        """A second process, for bare commits and sends: it must not share the generator's."""
        return self._stack.enter_context(JobProcess())

    def number(self) -> int:
        """A new number for each slice, to make its ids unique."""
        return next(self._numbers)

    def bets(
        self,
        program: Program,
        connections: int,
        per_request: int,
        limit_s: float,
        spread: Spread,
        within: Within | None = None,
        token: str | None = None,
        per_s_max: int | None = None,
    ) -> Slice:
        """One slice of load, with ids of its own."""
        number = self.number()
        return self.generator.ask(
            Bets(
                port=program.port,
                connections=connections,
                per_request=per_request,
                limit_s=limit_s,
                spread=spread,
                within=within,
                tag=f"s{number}",
                seed=number,
                token=token,
                per_s_max=per_s_max,
            )
        )

    def settle(self, service: Program) -> None:
        """Let the service finish its afterwork."""
        self.unsettled += not service.settle(AFTERWORK_S_MAX)

    def catch_up(self, service: Program) -> Slice:
        """Let the tables get all that the service's log has."""
        self.say("waiting until the tables have caught up")
        return self.generator.ask(CatchUp(port=service.metrics_port))

    def once(self, job: Job) -> Slice:
        """``job`` in a new process of its own."""
        with JobProcess() as worker:
            return worker.ask(job)


class Lab(Processes):
    """The processes and folders of one run of the embedded service, made when first needed."""

    def __init__(self, plan: Plan, folder: Path, say: Callable[[str], None], step: Callable[[], None]) -> None:
        super().__init__(folder, say, step)
        self.plan = plan

    @cached_property
    def busy(self) -> Program:
        """The service on the busy log: 10,000 wallets funded, warmed up."""
        return self._funded("busy")

    @cached_property
    def plain(self) -> Program:
        """A service without a rules file, on a log of its own: 10,000 wallets funded, warmed up."""
        return self._funded("plain")

    @cached_property
    def house(self) -> Program:
        """A service with all money flows and with open bets of a game: 10,000 wallets funded, warmed up."""
        rules = self.folder / "rules.json"
        rules.write_text(json.dumps(HOUSE_RULES))
        service = self._funded("house", {"STAKELOG_RULES": str(rules)})
        number = self.number()
        self.say("placing bets on a period of a game")
        self.generator.ask(
            Distribution(
                port=service.port,
                per_s=OF_GAMES_PER_S,
                limit_s=self.plan.paced_s,
                waits=True,
                tag=f"s{number}",
                seed=number,
            )
        )
        return service

    @cached_property
    def logged(self) -> Logged:
        """A service with login on, with default limits: 10,000 wallets funded, warmed up."""
        self.say("opening and funding 10,000 wallets, with login on")
        service = self._service("logged", {"STAKELOG_AUTH": "on", "STAKELOG_ADMIN_SECRET": _SECRET})
        service.start()
        token = _token_of_game_server(service.port)
        self.generator.ask(OpenWallets(port=service.port, first=0, end=bodies.WALLETS, with_bet=False, token=token))
        for connections in (64, 1):
            self.bets(service, connections, 1, self.plan.warm_up_s / 2, "uniform", token=token)
        return Logged(service, token)

    @cached_property
    def grown(self) -> Program:
        """The service on a log with ``Plan.grown_events`` bets of 10,000 wallets, caught up and warmed up."""
        events = self.plan.grown_events
        service = self._service("grown")
        service.start()
        self.generator.ask(OpenWallets(port=service.port, first=0, end=bodies.WALLETS, with_bet=False))
        service.stop()
        self.say(f"writing {events:,} bets into a log")
        self.once(Grow(data=str(self.folder / "grown"), events=events))
        self.say(f"folding {events:,} bets into the tables")
        programs.run_command(["project", "rebuild"], self.folder / "grown", self.folder / "grown-rebuild.log")
        self.say(f"starting a service that has {events:,} bets to catch up with")
        service.start(programs.READY_TIMEOUT_S + events / REPLAYED_PER_S_MIN)
        self._warm_up(service)
        self.unsettled += not service.settle(SAVED_S_MAX)  # it saves the state that it has replayed
        return service

    @cached_property
    def bare(self) -> Program:
        """The bare route, warmed up."""
        route = programs.bare_route(self.folder / "bare-route.log")
        self._stack.callback(route.kill)
        route.start()
        self._warm_up(route)
        return route

    @cached_property
    def read(self) -> Program:
        """The service on the read log: 10,000 wallets, of them 200 players with a history, warmed up, caught up."""
        self.end("busy")
        self.say("opening 10,000 wallets to be read")
        service = self._service("read")
        service.start()
        self.generator.ask(OpenWallets(port=service.port, first=0, end=bodies.WALLETS, with_bet=False))
        self.generator.ask(FillPlayers(port=service.port, players=bodies.PLAYERS))
        self.catch_up(service)
        for program in (service, self.bare):
            self.generator.ask(
                WalletReads(
                    port=program.port,
                    connections=64,
                    what="wallet",
                    wallets=bodies.WALLETS,
                    limit_s=self.plan.warm_up_s / 2,
                )
            )
        return service

    @cached_property
    def long(self) -> Program:
        """The service on the read log, where one wallet has ``Plan.lines`` lines of history."""
        service = self.read
        self.say(f"filling one wallet with {self.plan.lines:,} lines of history")
        self.generator.ask(FillLong(port=service.port, blocks=self.plan.lines // bodies.LONG_PERIOD))
        self.catch_up(service)
        return service

    @cached_property
    def wide(self) -> Wide:
        """The wide log, just filled, with the service that filled it still running."""
        self.end("busy", "read")
        service = self._service("wide")
        first_start_s = service.start()
        time.sleep(0.5)
        self.settle(service)  # until its follower and check have started
        empty = service.resident_bytes()
        wallets = self.plan.wallets
        for first in range(0, wallets, WALLETS_PER_STEP):
            self.say(f"opening {wallets:,} wallets with one bet each: {first:,}")
            end = min(first + WALLETS_PER_STEP, wallets)
            self.generator.ask(OpenWallets(port=service.port, first=first, end=end, with_bet=True))
        self.catch_up(service)
        self.settle(service)
        return Wide(service, self.folder / "wide", first_start_s, empty, service.resident_bytes())

    def end(self, *names: str) -> None:
        """Stop the services on the logs ``names`` that were started, and give their disk space back."""
        for name in names:
            if name in self.__dict__:
                self.__dict__.pop(name).stop()
                self.__dict__.pop("long", None)
                for file in (self.folder / name).rglob("*.sqlite3*"):
                    file.unlink()

    def _funded(self, name: str, more: Mapping[str, str] | None = None) -> Program:
        self.say("opening and funding 10,000 wallets")
        service = self._service(name, more)
        service.start()
        self.generator.ask(OpenWallets(port=service.port, first=0, end=bodies.WALLETS, with_bet=False))
        self._warm_up(service)
        return service

    def _service(self, name: str, more: Mapping[str, str] | None = None) -> Program:
        service = programs.service(self.folder / name, self.folder / f"{name}.log", more)
        self._stack.callback(service.kill)
        return service

    def _warm_up(self, program: Program) -> None:
        self.say(f"warming up {program.name}")
        for connections in (64, 1):
            self.bets(program, connections, 1, self.plan.warm_up_s / 2, "uniform")


def _token_of_game_server(port: int) -> str:
    """The access token of a new client; the service is new, too."""
    admin = _post(port, "/v1/auth/token", {"client_id": "admin", "client_secret": _SECRET})["access_token"]
    client = _post(port, "/v1/clients", {"client_id": "bench", "role": "game_server"}, admin)
    login = {"client_id": "bench", "client_secret": client["client_secret"]}
    return str(_post(port, "/v1/auth/token", login)["access_token"])


def _post(port: int, path: str, body: dict[str, str], token: str | None = None) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"content-type": "application/json", **({"authorization": f"Bearer {token}"} if token else {})}
    try:
        connection.request("POST", path, json.dumps(body), headers)
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    if response.status not in (200, 201):
        raise BenchError(f"{path} returned {response.status}")
    return json.loads(content)


class Logged(Struct):
    """A service with login, and the access token of a game server."""

    service: Program
    token: str

    def stop(self) -> None:
        self.service.stop()


class Wide(Struct):
    """The wide log, and what was seen while it was made."""

    service: Program
    data: Path
    first_start_s: float
    empty_bytes: dict[str, int]
    full_bytes: dict[str, int]
