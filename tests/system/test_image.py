"""The image: built from `deploy/Dockerfile` by buildah, and its program run as its user.

The Dockerfile's base comes from a registry of images. Here it is a Debian system made by debootstrap, with the same
version of Python, so the test needs the package mirrors only.
"""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path
from typing import Any, Final

import httpx
import psutil
import pytest

from deploy.local.install import CACHE, find
from deploy.local.server import free_port
from system.test_reads import until

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]  # chosen: packages are fetched over the network

ROOT: Final = Path(__file__).parents[2]
BASE: Final = CACHE / "image-base.tar"
PACKAGES: Final = "python3,python3-venv,python3-pip,python-is-python3,ca-certificates"
CERTIFICATES: Final = Path("/etc/ssl/certs")
PIP_SETTINGS: Final = {"PIP_INDEX_URL": "index-url", "PIP_EXTRA_INDEX_URL": "extra-index-url", "PIP_CERT": "cert"}


class Buildah:
    """buildah with a storage of its own, without a daemon and without namespaces."""

    def __init__(self, folder: Path) -> None:
        self._command = ["buildah", "--root", str(folder / "store"), "--runroot", str(folder / "run")]
        self._environment = {**os.environ, "BUILDAH_ISOLATION": "chroot", "STORAGE_DRIVER": "vfs"}

    def __call__(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self._command, *arguments], cwd=ROOT, env=self._environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{arguments}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done.stdout.strip()

    @contextlib.contextmanager
    def running(self, *arguments: str, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
        """``buildah run …`` in the background."""
        with log.open("wb") as output:
            command = [*self._command, "run", *arguments]
            process = subprocess.Popen(command, env=self._environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


def need(program: str) -> None:
    if find(program, "/usr/sbin") is None:
        message = f"{program} is not installed: `python3 -m deploy.local install image` installs it"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)


def debian() -> Path:
    """A small Debian with Python, as an archive; made once."""
    if not BASE.exists():
        part = BASE.with_suffix(".part")
        system = part.with_suffix(".root")
        command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(system)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        # Debian forbids pip to install into its own Python; in the image of the Dockerfile pip may.
        for file in system.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
            file.unlink()
        subprocess.run(["tar", "-C", str(system), "-cf", str(part), "."], check=True)
        subprocess.run(["rm", "-rf", "--one-file-system", str(system)], check=True)
        part.rename(BASE)
    return BASE


def pip_settings(folder: Path) -> list[str]:
    """Options that give pip in the image the settings that pip has on this machine."""
    settings = ConfigParser()
    settings.read("/etc/pip.conf")
    if not settings.has_section("global"):
        settings.add_section("global")
    for variable, name in PIP_SETTINGS.items():
        if variable in os.environ:
            settings["global"][name] = os.environ[variable]
    file = folder / "pip.conf"
    with file.open("w") as output:
        settings.write(output)
    return ["--volume", f"{CERTIFICATES}:{CERTIFICATES}:ro", "--volume", f"{file}:/etc/pip.conf:ro"]


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Buildah:
    for program in ("buildah", "debootstrap"):
        need(program)
    folder = tmp_path_factory.mktemp("image")
    buildah = Buildah(folder)
    base = buildah("from", "scratch")
    buildah("add", "--quiet", base, str(debian()), "/")
    buildah("commit", "--quiet", "--rm", base, "stakelog-base")
    buildah(
        *("build", "--quiet", "--layers=false", "--format", "docker", "--file", "deploy/Dockerfile"),
        *("--build-arg", "BASE=localhost/stakelog-base", *pip_settings(folder), "--tag", "stakelog", "."),
    )
    return buildah


def test_the_image_says_how_it_runs(buildah: Buildah) -> None:
    image: dict[str, Any] = json.loads(buildah("inspect", "--type", "image", "localhost/stakelog"))["Docker"][
        "config"
    ]
    assert image["User"] == "10001:10001"
    assert (image["Entrypoint"], image["Cmd"], image["StopSignal"]) == (["stakelog"], ["serve"], "SIGTERM")
    assert image["Volumes"] == {"/data": {}}
    assert image["Healthcheck"]["Test"][-1] == "/healthz"


def test_the_program_of_the_image_serves_as_its_user_and_stops(buildah: Buildah, tmp_path: Path) -> None:
    container = buildah("from", "localhost/stakelog")
    assert buildah("run", container, "--", "id", "-u") == "10001"
    port, log = str(free_port()), tmp_path / "service.log"
    settings = ("--env", "STAKELOG_AUTH=off", "--env", f"STAKELOG_PORT={port}")
    with (
        buildah.running(*settings, container, "--", "stakelog", "serve", log=log) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}") as client,
    ):

        def ready() -> bool:
            assert process.poll() is None, log.read_text()
            with contextlib.suppress(httpx.TransportError):
                return client.get("/readyz").status_code == 200
            return False

        until(ready, within_s=300)
        opened = client.post("/v1/commands", json={"type": "open_wallet", "command_id": "c1", "user_id": "u1"})
        assert opened.status_code == 201, opened.text
        health = (
            "--env",
            f"STAKELOG_PORT={port}",
            container,
            "--",
            "python",
            "/opt/stakelog/healthcheck.py",
            "/healthz",
        )
        buildah("run", *health)
        # buildah itself does not pass the signal on.
        (program,) = [one for one in psutil.Process(process.pid).children(recursive=True) if one.name() == "stakelog"]
        program.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0, log.read_text()
    assert "created a new ledger in /data" in log.read_text()
