"""What the tests of the program as a process share."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def disk_of(megabytes: int, folder: Path) -> Iterator[Path]:
    """A file system of that size, mounted at ``folder``."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        assert "CI" not in os.environ, "the tests must be able to mount a small disk here"
        pytest.skip("only root may mount a disk small enough to fill")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Too small for what a test writes to it."""
    with disk_of(3, tmp_path / "disk") as folder:
        yield folder


@pytest.fixture
def service_disk(tmp_path: Path) -> Iterator[Path]:
    """Large enough for a service to start on, small enough to be filled."""
    with disk_of(32, tmp_path / "disk") as folder:
        yield folder
