"""Installs the servers: Debian packages, and Kafka's jars by Maven. Installed programs are left as they are.

The installation starts no service. Debian starts a service as soon as its package is unpacked, on its usual port
and data folder, unless ``/usr/sbin/policy-rc.d`` forbids it. If that file does not exist, it is created during
the installation.
"""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from deploy.local.trouble import Trouble

ROOT: Final = Path(__file__).parents[2]
CACHE: Final = ROOT / "build" / "servers"
_POM: Final = Path(__file__).with_name("pom.xml")
_POLICY: Final = Path("/usr/sbin/policy-rc.d")
_MAVEN_TIMEOUT_S: Final = 900
_APT_TIMEOUT_S: Final = 900


class _Needs(NamedTuple):
    """A program, the folders other than PATH where Debian installs it, and its package."""

    program: str
    places: tuple[str, ...]
    package: str


_NEEDS: Final[dict[str, tuple[_Needs, ...]]] = {
    "kafka": (_Needs("java", (), "default-jre-headless"), _Needs("mvn", (), "maven")),
    "postgresql": (_Needs("postgres", ("/usr/lib/postgresql/*/bin",), "postgresql"),),
    "mariadb": (_Needs("mariadbd", ("/usr/sbin",), "mariadb-server"),),
    "pgbouncer": (_Needs("pgbouncer", ("/usr/sbin",), "pgbouncer"),),
    "redis": (_Needs("redis-server", (), "redis-server"),),
    "haproxy": (_Needs("haproxy", ("/usr/sbin",), "haproxy"),),
    "prometheus": (_Needs("prometheus", (), "prometheus"), _Needs("promtool", (), "prometheus")),
    "generators": (
        _Needs("node", (), "nodejs"),
        _Needs("npm", (), "npm"),
        _Needs("go", ("/usr/local/go/bin",), "golang-go"),
    ),
    "browser": (_Needs("chromium", (), "chromium"),),
    "image": (_Needs("buildah", (), "buildah"), _Needs("debootstrap", ("/usr/sbin",), "debootstrap")),
}

NAMES: Final = tuple(_NEEDS)
"""The servers, the balancer, PgBouncer, Prometheus, runtimes of the client generators, a browser for the
operator's page, and the image's builders."""


def say(text: str) -> None:
    """Write progress to stderr: stdout is for addresses."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def find(program: str, *places: str) -> Path | None:
    """The program in one of ``places`` (globs; the newest version wins), else on PATH."""
    for place in places:
        folders = Path("/").glob(place.lstrip("/"))
        for folder in sorted(folders, key=lambda path: [int(n) for n in re.findall(r"\d+", str(path))], reverse=True):
            if os.access(folder / program, os.X_OK):
                return folder / program
    found = shutil.which(program)
    return None if found is None else Path(found)


def program(name: str) -> Path:
    """The installed program of that name. Raises Trouble if it is missing."""
    for needs in (need for all_needs in _NEEDS.values() for need in all_needs):
        if needs.program == name:
            if (found := find(name, *needs.places)) is not None:
                return found
            raise Trouble(
                f"{name} is not installed: run `python3 -m deploy.local install`, or install {needs.package}"
            )
    raise AssertionError(f"{name} is not a program of these servers")


def install(names: Iterable[str]) -> None:
    """Install the missing programs of these servers. Raises Trouble."""
    wanted = list(names)
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / ".lock").open("w") as lock:
        if not _locked_at_once(lock.fileno()):
            say("Another installation is under way; waiting for it …")
            fcntl.flock(lock, fcntl.LOCK_EX)
        missing = sorted(
            {needs.package for name in wanted for needs in _NEEDS[name] if find(needs.program, *needs.places) is None}
        )
        if missing:
            _apt(missing)
        if "kafka" in wanted:
            _kafka_jars()


def _locked_at_once(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _apt(packages: list[str]) -> None:
    listed = " ".join(packages)
    if shutil.which("apt-get") is None:
        raise Trouble(
            f"this system has no apt-get: install the counterparts of the Debian packages {listed}, then try again"
        )
    if os.geteuid() != 0:
        raise Trouble(f"only root may install packages: run `sudo apt-get install {listed}`, then try again")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with _no_service_starts():
        for step, arguments in (
            ("Reading the package lists", ["apt-get", "-qq", "update"]),
            (f"Installing {listed}", ["apt-get", "-qq", "-y", "--no-install-recommends", "install", *packages]),
        ):
            _step(step, arguments, environment, _APT_TIMEOUT_S)


@contextmanager
def _no_service_starts() -> Iterator[None]:
    ours = not _POLICY.exists()
    if ours:
        _POLICY.write_text("#!/bin/sh\nexit 101\n")
        _POLICY.chmod(0o755)
    try:
        yield
    finally:
        if ours:
            _POLICY.unlink(missing_ok=True)


def kafka_version() -> str:
    """The version in the pom."""
    found = re.search(r"<kafka\.version>([\d.]+)</kafka\.version>", _POM.read_text())
    assert found is not None, "the pom names the version"
    return found[1]


def kafka_jars() -> Path:
    """The folder of Kafka's jars. Raises Trouble if they are missing."""
    folder = CACHE / f"kafka-{kafka_version()}"
    if not folder.is_dir():
        raise Trouble("Kafka's jars are missing: run `python3 -m deploy.local install kafka`")
    return folder


def _kafka_jars() -> None:
    folder = CACHE / f"kafka-{kafka_version()}"
    if folder.is_dir():
        return
    part = folder.with_suffix(".part")  # a folder gets its final name only when it is complete
    shutil.rmtree(part, ignore_errors=True)
    _step(
        f"Fetching Kafka {kafka_version()} (some 55 MB)",
        ["mvn", "-B", "-q", "-f", str(_POM), "dependency:copy-dependencies", f"-DoutputDirectory={part}"],
        dict(os.environ),
        _MAVEN_TIMEOUT_S,
    )
    part.rename(folder)


def _step(what: str, arguments: list[str], environment: dict[str, str], timeout_s: int) -> None:
    say(f"{what} …")
    began = time.monotonic()
    try:
        done = subprocess.run(
            arguments,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Trouble(f"{what} took longer than {timeout_s} s: look at the network, then try again") from None
    if done.returncode != 0:
        said = "\n".join(done.stdout.strip().splitlines()[-15:])
        raise Trouble(f"{what} failed:\n{said}\nTried: {' '.join(arguments)}")
    say(f"  done in {time.monotonic() - began:.0f} s")
