"""`make dist`: both projects as wheels and source archives, and a plain word where no image can be built."""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Final
from zipfile import ZipFile

import pytest

from deploy.dist import NotReleasable, version_of_all

pytestmark = pytest.mark.system
ROOT: Final = Path(__file__).parents[2]
CHANGES: Final = "# Changelog\n\n## Unreleased\n\n## 1.2.0 (2026-12-01)\n"


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    programs = folder / "programs"  # a PATH without a container engine
    programs.mkdir()
    git = shutil.which("git")
    assert git
    (programs / "git").symlink_to(git)
    done = subprocess.run(
        [sys.executable, "-m", "deploy.dist", str(folder / "out")],
        cwd=ROOT,
        env={**os.environ, "PATH": str(programs), "IMAGE": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no image was built: none of docker, podman, buildah works here" in done.stdout
    return folder / "out"


def test_the_checksums_are_those_of_the_four_archives(dist: Path) -> None:
    lines = (dist / "SHA256SUMS").read_text().splitlines()
    listed = {name: digest for digest, name in (line.split("  ") for line in lines)}
    assert listed == {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in dist.iterdir()
        if file.name != "SHA256SUMS"
    }
    kinds = sorted((name.split("-")[0], name.rpartition(".")[2]) for name in listed)
    assert kinds == [("stakelog", "gz"), ("stakelog", "whl"), ("stakelog_client", "gz"), ("stakelog_client", "whl")]


def test_the_wheel_has_every_module_and_data_file_of_the_service_and_its_licence(dist: Path) -> None:
    (wheel,) = dist.glob("stakelog-*.whl")
    known = subprocess.run(["git", "ls-files", "src"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    needed = {name.removeprefix("src/") for name in known.splitlines() if (ROOT / name).is_file()}
    needed = {name for name in needed if not name.startswith(("stakelog_client/", "api/page/source/"))}
    names = set(ZipFile(wheel).namelist())
    assert sorted(needed - names) == []
    assert sorted(name for name in names - needed if ".dist-info/" not in name) == []
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def test_the_source_archive_is_complete_and_the_wheel_runs(dist: Path) -> None:
    (archive,) = dist.glob("stakelog-*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "src/api/cli/main.py", "src/api/openapi/document.json"} <= names
    (wheel,) = dist.glob("stakelog-*.whl")
    ran = subprocess.run(
        [sys.executable, "-m", "api", "--version"],
        cwd=dist,
        env={**os.environ, "PYTHONPATH": str(wheel)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.strip().endswith(wheel.name.split("-")[1])


def test_a_release_has_one_version_everywhere() -> None:
    assert version_of_all(["1.2.0", "1.2.0"], ["v1.2.0", "other"], CHANGES) == "1.2.0"
    assert version_of_all(["1.3.0", "1.3.0"], [], CHANGES) == "1.3.0", "between releases"
    for versions, tags, reason in (
        (["1.2.0", "1.1.0"], [], "different versions: 1.2.0, 1.1.0"),
        (["1.2.0", "1.2.0"], ["v1.1.0"], "tagged v1.1.0"),
        (["1.3.0", "1.3.0"], ["v1.3.0"], "no section"),
    ):
        with pytest.raises(NotReleasable, match=reason):
            version_of_all(versions, tags, CHANGES)
