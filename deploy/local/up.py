"""``up`` and ``down``: the whole set on this machine: broker, database, Redis, nodes, workers, balancer.

Invariants:
(1) one process, the *keeper*, starts every part and keeps ``build/up/lock`` locked while it lives; other
    processes try the lock to see whether the set is up, and the kernel releases it however the keeper ends;
(2) the keeper is the parent of all parts, and they end with it; ``down`` sends SIGTERM to the keeper only;
(3) a part that ends by itself is started again on its own folder and port, after a pause that grows (`restarts`);
(4) data is kept until ``down --clean`` removes it.
"""

import fcntl
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from deploy.local.install import ROOT, install, say
from deploy.local.login import how_to_log_in, settings_of_nodes
from deploy.local.programs import Balancer, Node, Worker, responds
from deploy.local.restarts import Restarts
from deploy.local.server import Server
from deploy.local.servers import Kafka, MariaDb, PostgreSql, Redis
from deploy.local.trouble import Trouble

FOLDER: Final = ROOT / "build" / "up"
SECRETS: Final = "secrets"
"""In the folder of a set."""
PORT: Final = 8_080
"""The balancer's port; the other ports follow it."""

DATABASES: Final = {"postgresql": PostgreSql, "mysql": MariaDb}
_NODES, _WORKERS = 3, 2
# Added to the balancer's port. The nodes come right after it.
_NODE_PORTS, _INTERNAL_PORTS, _WORKER_PORTS, _KAFKA_PORT, _DATABASE_PORT, _REDIS_PORT = 1, 5, 11, 20, 23, 24

_UP_WITHIN_S: Final = 300.0
_DOWN_WITHIN_S: Final = 240.0
_READ_WITHIN_S: Final = 60.0
_LOCK_WITHIN_S: Final = 2.0
_LOOK_S: Final = 0.1


class Plan(NamedTuple):
    """What to run. Tests run fewer than three nodes and two workers."""

    folder: Path = FOLDER
    port: int = PORT
    database: str = "postgresql"
    nodes: int = _NODES
    workers: int = _WORKERS
    auth: str = "on"
    rules: str = ""
    """The path of a file of games and money flows for every program (STAKELOG_RULES); "": the built-in games."""

    @property
    def node_ports(self) -> list[int]:
        return [self.port + _NODE_PORTS + number for number in range(_NODES)]

    @property
    def internal_ports(self) -> list[int]:
        return [self.port + _INTERNAL_PORTS + number for number in range(_NODES)]

    @property
    def ports(self) -> list[int]:
        workers = [self.port + _WORKER_PORTS + number for number in range(self.workers)]
        kafka = [self.port + _KAFKA_PORT + number for number in range(3)]
        return [
            self.port,
            *self.node_ports[: self.nodes],
            *self.internal_ports[: self.nodes],
            *workers,
            *kafka,
            self.port + _DATABASE_PORT,
            self.port + _REDIS_PORT,
        ]


class Running(NamedTuple):
    """The keeper's report on the set, in ``running.json``."""

    pid: int
    database: str
    auth: str
    ready: bool
    parts: dict[str, list[str | int]]
    """Name → address, process id."""
    rules: str = ""
    rules_sha256: str = ""
    """The rules file, and what it contained when the set was started."""


# --- commands of the user ------------------------------------------------------------------------------------------


def up(plan: Plan) -> None:
    """Start the set unless it runs, and print its addresses. Raises Trouble."""
    found = _running(plan.folder)
    if found is None:
        for port in plan.ports:
            _refuse_taken(port)
        install(["kafka", "mariadb" if plan.database == "mysql" else plan.database, "redis", "haproxy"])
        plan.folder.mkdir(parents=True, exist_ok=True)
        _start_keeper(plan)
    elif found.database != plan.database:
        raise Trouble(f"the set runs with {found.database} already: `make down` first")
    elif found.auth != plan.auth:
        raise Trouble(f"the set runs with AUTH={found.auth} already: `make down` first")
    elif found.rules != plan.rules:
        raise Trouble(
            f"the set runs with {_named(found.rules)} already, not with {_named(plan.rules)}: `make down` first"
        )
    elif found.rules_sha256 != _sha256_of(plan.rules):
        raise Trouble(f"{plan.rules} has changed since the set was started with it: `make down` first")
    _print(_until_ready(plan.folder), plan.folder)


def _named(rules: str) -> str:
    return f"the rules of {rules}" if rules else "the built-in games"


def _sha256_of(rules: str) -> str:
    """The hash of a rules file; "" without one. Raises Trouble."""
    try:
        return hashlib.sha256(Path(rules).read_bytes()).hexdigest() if rules else ""
    except OSError as error:
        raise Trouble(f"the rules file {rules} cannot be read: {error.strerror}") from error


def down(folder: Path, *, clean: bool) -> None:
    """Stop the set if it runs; ``clean``: remove its data too. Raises Trouble."""
    pid = _keeper(folder)
    if pid is None:
        say("Nothing runs.")
    else:
        os.kill(pid, signal.SIGTERM)
        with _printing(folder / "log.txt") as print_new:
            until_s = time.monotonic() + _DOWN_WITHIN_S
            while _keeper(folder) == pid:
                print_new()
                if time.monotonic() > until_s:
                    raise Trouble(
                        f"process {pid} did not stop within {_DOWN_WITHIN_S:.0f} s: see {folder / 'log.txt'}"
                    )
                time.sleep(_LOOK_S)
            print_new()
    if clean and (folder / "lock").exists():  # only a set's folder: another folder named by mistake stays
        shutil.rmtree(folder, ignore_errors=True)
        say(f"{folder} is removed.")
    elif folder.exists():
        say(f"The data stays in {folder}; `make down CLEAN=1` removes it.")


def _refuse_taken(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise Trouble(
                f"port {port} of 127.0.0.1 is not free: {error.strerror}. Stop the process that uses it, or choose "
                "another port: `make up PORT=9080` uses 9080 and some ports after it"
            ) from None


def _start_keeper(plan: Plan) -> None:
    log = plan.folder / "log.txt"
    log.unlink(missing_ok=True)
    (plan.folder / "running.json").unlink(missing_ok=True)
    arguments = [f"--{name}={value}" for name, value in plan._asdict().items()]
    with log.open("wb") as output:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "deploy.local", "keep", *arguments],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # a Ctrl-C at the terminal must not reach it
        )
    until_s = time.monotonic() + _UP_WITHIN_S
    while _keeper(plan.folder) != keeper.pid:
        if keeper.poll() is not None or time.monotonic() > until_s:
            raise Trouble(f"the keeper did not start: {log.read_text(errors='replace').strip()}")
        time.sleep(_LOOK_S)


def _until_ready(folder: Path) -> Running:
    until_s = time.monotonic() + _UP_WITHIN_S
    with _printing(folder / "log.txt") as print_new:
        while True:
            print_new()
            found = _running(folder)
            if found is not None and found.ready:
                return found
            if _keeper(folder) is None:
                print_new()
                raise Trouble("the set did not start; its parts are stopped again")
            if time.monotonic() > until_s:
                raise Trouble(f"the set was not up within {_UP_WITHIN_S:.0f} s; `make down` stops its parts")
            time.sleep(_LOOK_S)


@contextmanager
def _printing(log: Path) -> Iterator[Callable[[], None]]:
    """Yields a function that prints the new lines of the keeper's log."""
    with log.open() as lines:
        lines.seek(0, os.SEEK_END if _running(log.parent) is not None else os.SEEK_SET)

        def print_new() -> None:
            for line in lines:
                say(line.rstrip("\n"))

        yield print_new


def _keeper(folder: Path) -> int | None:
    """The process id of the keeper, which has the lock; None without one."""
    try:
        with (folder / "lock").open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                text = lock.read()
                return int(text) if text else None
    except FileNotFoundError:
        return None
    return None


def _running(folder: Path) -> Running | None:
    """The report of the live keeper; None without one."""
    pid = _keeper(folder)
    try:
        said = Running(**json.loads((folder / "running.json").read_text()))
    except FileNotFoundError:
        return None
    return said if said.pid == pid else None


def _print(found: Running, folder: Path) -> None:
    for name, (address, pid) in found.parts.items():
        sys.stdout.write(f"{name:<12}{address}  (process {pid})\n")
    url = found.parts["balancer"][0]
    sys.stdout.write(f"The set is up: {url}\n")
    if found.auth == "on":
        sys.stdout.write(f"{how_to_log_in(folder / SECRETS, str(url))}\n")
    sys.stdout.flush()


# --- the keeper ----------------------------------------------------------------------------------------------------


def keep(plan: Plan) -> None:
    """Start every part, keep it running, and stop all of them on SIGTERM. Raises Trouble."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    plan.folder.mkdir(parents=True, exist_ok=True)
    with (plan.folder / "lock").open("a+") as lock:
        _take(lock.fileno())
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        started: list[Server] = []
        rules_sha256 = _sha256_of(plan.rules)
        try:
            for part in _parts(plan):
                _start(part, started)
                _say_running(plan, rules_sha256, started, ready=False)
            if plan.nodes:
                _wait_for_reads(plan)
            _say_running(plan, rules_sha256, started, ready=True)
            _watch(plan, rules_sha256, started)
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # already stopping
            for part in reversed(started):
                say(f"Stopping {part.name} …")
                part.stop()
            say("Stopped.")


def _take(descriptor: int) -> None:
    """Take the lock. Raises Trouble. A process that tries the lock has it for a moment, so this retries."""
    until_s = time.monotonic() + _LOCK_WITHIN_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > until_s:
                raise Trouble("another set is kept in this folder") from None
        time.sleep(_LOOK_S / 10)


def _parts(plan: Plan) -> Iterator[Server]:
    """The parts in the order of their start; later parts know the addresses of earlier ones."""
    folder = plan.folder
    kafka = Kafka(folder / "kafka", plan.port + _KAFKA_PORT)
    database = DATABASES[plan.database](folder / plan.database, plan.port + _DATABASE_PORT)
    redis = Redis(folder / "redis", plan.port + _REDIS_PORT)
    yield from (kafka, database, redis)
    settings = {
        "STAKELOG_LOG": f"{kafka.url}?replication_factor=1",
        "STAKELOG_READ_MODEL": database.url,
        "STAKELOG_CACHE": redis.url,
        **({"STAKELOG_RULES": plan.rules} if plan.rules else {}),
    }
    login = settings_of_nodes(folder / SECRETS, plan.auth)
    for number, ports in enumerate(zip(plan.node_ports, plan.internal_ports, strict=True), 1):
        if number <= plan.nodes:
            yield Node(f"node-{number}", folder / f"node-{number}", *ports, {**settings, **login})
    for number in range(1, plan.workers + 1):
        port = plan.port + _WORKER_PORTS + number - 1
        yield Worker(f"worker-{number}", folder / f"worker-{number}", port, settings, checks=number == 1)
    yield Balancer(folder / "balancer", plan.port, plan.node_ports)


def _start(part: Server, started: list[Server]) -> None:
    began_s = time.monotonic()
    say(f"Starting {part.name} …")
    started.append(part)
    part.start()
    say(f"  ready in {time.monotonic() - began_s:.1f} s, {part.url}, log in {part.log}")


def _wait_for_reads(plan: Plan) -> None:
    """Wait until the balancer has found a ready node. Raises Trouble."""
    until_s = time.monotonic() + _READ_WITHIN_S
    while not responds(plan.port, "/readyz"):
        if time.monotonic() > until_s:
            raise Trouble(f"no node responds through the balancer on port {plan.port}")
        time.sleep(_LOOK_S)


def _say_running(plan: Plan, rules_sha256: str, started: Sequence[Server], *, ready: bool) -> None:
    parts: dict[str, list[str | int]] = {part.name: [part.url, part.pid] for part in started}
    said = Running(os.getpid(), plan.database, plan.auth, ready, parts, plan.rules, rules_sha256)
    new = plan.folder / "running.json.new"
    new.write_text(json.dumps(said._asdict()))
    new.rename(plan.folder / "running.json")


def _watch(plan: Plan, rules_sha256: str, started: Sequence[Server]) -> None:
    """Restart each part that ends, until the keeper itself is stopped."""
    restarts = {part.name: Restarts(time.monotonic()) for part in started}
    due_s: dict[str, float] = {}
    while True:
        time.sleep(_LOOK_S)
        for part in started:
            if part.running:
                continue
            if part.name not in due_s:
                pause_s = restarts[part.name].died(time.monotonic())
                say(f"{part.name} has ended and starts again in {pause_s:.0f} s. Its last output:\n{part.said()}")
                due_s[part.name] = time.monotonic() + pause_s
                part.kill()  # its remaining processes, so that it can start again
            elif time.monotonic() >= due_s[part.name]:
                del due_s[part.name]
                restarts[part.name].started(time.monotonic())
                try:
                    part.start()
                except Trouble as trouble:
                    say(f"error: {trouble}")
                    continue
                say(f"{part.name} runs again, process {part.pid}")
                _say_running(plan, rules_sha256, [one for one in started if one.running], ready=True)
