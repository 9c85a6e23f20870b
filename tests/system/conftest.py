"""What the tests of the program as a process share."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of three megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        assert "CI" not in os.environ, "the tests must be able to mount a small disk here"
        pytest.skip("only root may mount a disk small enough to fill")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
