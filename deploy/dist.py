"""``python -m deploy.dist``: build what a release consists of into ``dist/``. `make dist` calls it.

- a wheel and a source archive of `stakelog`, and of `stakelog_client`, from the files that git knows: what an earlier
  build has left in ``build/`` never gets into a wheel;
- ``SHA256SUMS`` of them;
- the image ``stakelog:<version>``, if docker, podman or buildah works here. Without one the last line says that there
  is no image, and how to build it. ``BASE`` names the base image, ``IMAGE=no`` leaves the image out.

Exit status 1: the two projects have, or name, different versions, HEAD has the tag of another version, or the
changelog does not know the tagged version: then nothing is built. Or a build failed.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
PROJECTS: Final = (Path(), Path("src") / "stakelog_client")
"""The folders of the two `pyproject.toml`, from the root."""
ENGINES: Final = ("docker", "podman", "buildah")
_BUILD: Final = """\
import sys
from setuptools import build_meta

destination = sys.argv[1]  # setuptools replaces the arguments
build_meta.build_wheel(destination)
build_meta.build_sdist(destination)
"""


class NotReleasable(Exception):
    """The version is not the same everywhere, or a build failed; the text says where."""


def version_of_all(versions: list[str], tags: list[str], changelog: str) -> str:
    """The one version of the projects. Raises NotReleasable.

    ``tags``: those of HEAD. Without a tag ``v…`` this is a build between two releases, and the changelog is not read.
    """
    version = versions[0]
    if set(versions) != {version}:
        raise NotReleasable(f"the projects have, or name, different versions: {', '.join(versions)}")
    if releases := [tag for tag in tags if re.match(r"v\d", tag)]:
        if releases != [f"v{version}"]:
            raise NotReleasable(f"HEAD is tagged {', '.join(releases)}, and the projects have the version {version}")
        if not re.search(rf"^## {re.escape(version)}\b", changelog, re.MULTILINE):
            raise NotReleasable(f"CHANGELOG.md has no section `## {version}`")
    return version


def build(destination: Path) -> list[Path]:
    """Wheels and source archives of both projects, and their checksums. Returns the files."""
    destination.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        copy, out = Path(folder) / "tree", Path(folder) / "out"
        out.mkdir()
        for name in _git("ls-files").splitlines():
            if (ROOT / name).is_file():
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, copy / name)
        # The time inside the archives is that of the commit, not that of the build.
        environment = {**os.environ, "SOURCE_DATE_EPOCH": _git("log", "-1", "--format=%ct").strip()}
        for project in PROJECTS:
            command = [sys.executable, "-c", _BUILD, str(out)]
            done = subprocess.run(
                command, cwd=copy / project, env=environment, capture_output=True, text=True, check=False
            )
            if done.returncode != 0:
                raise NotReleasable(f"building {project / 'pyproject.toml'} failed:\n{done.stderr[-4000:]}")
        built = [Path(shutil.copy2(file, destination)) for file in sorted(out.iterdir())]
    sums = destination / "SHA256SUMS"
    sums.write_text("".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in built))
    return [*built, sums]


def build_image(version: str) -> str:
    """Builds the image with the first engine that works here. Returns a sentence on what was done. Raises
    NotReleasable, if there is an engine and it fails."""
    command = ["build", "--file", "deploy/Dockerfile", "--tag", f"stakelog:{version}"]
    if base := os.environ.get("BASE"):
        command += ["--build-arg", f"BASE={base}"]
    engine = next((name for name in ENGINES if _works(name)), None)
    if engine is None:
        return (
            f"no image was built: none of {', '.join(ENGINES)} works here. On a machine with one of them: "
            f"docker {' '.join(command)} ."
        )
    if subprocess.run([engine, *command, "."], cwd=ROOT, check=False).returncode != 0:
        raise NotReleasable(
            f"{engine} could not build the image; what it said is above. The archives are complete. BASE=… takes the "
            "base image from elsewhere, and IMAGE=no leaves the image out"
        )
    return f"built the image stakelog:{version} with {engine}"


def _works(engine: str) -> bool:
    """Whether the engine is installed, and its daemon, if it has one, responds."""
    if not shutil.which(engine):
        return False
    return subprocess.run([engine, "info"], capture_output=True, check=False).returncode == 0


def main(destination: Path) -> int:
    service, client = (
        tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"] for folder in PROJECTS
    )
    named = re.findall(r"stakelog==([^\s']+)", str(client["optional-dependencies"]))  # the core, for tests in memory
    versions = [service["version"], client["version"], *named]
    tags = _git("tag", "--points-at", "HEAD").split()
    try:
        version = version_of_all(versions, tags, (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
        sys.stdout.write("".join(f"{file}\n" for file in build(destination)))
        if _git("status", "--porcelain"):
            sys.stdout.write("some files are not committed: do not publish these archives\n")
        sys.stdout.flush()
        image = "the image was left out" if os.environ.get("IMAGE") == "no" else build_image(version)
        sys.stdout.write(f"{image}\n")
    except NotReleasable as reason:
        sys.stderr.write(f"make dist: {reason}\n")
        return 1
    return 0


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "dist")))
