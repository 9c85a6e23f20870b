"""Copies from the developers' lock file the packages that the program itself needs, with their hashes.

``requirements.py LOCK PYPROJECT OUT [--only NAME]``. In the lock file ``# via`` names the packages that
require a package. The program needs the packages that its ``dependencies`` name, and the packages that these require.
"""

import re
import sys
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

_NAME: Final = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?\s*(?:==|>=|<|>|~=|!=|@|;|$)")


def blocks_of(lock: str) -> dict[str, str]:
    """Name → its lines in the lock file. Raises ValueError for a line that belongs to no package."""
    blocks: dict[str, list[str]] = {}
    lines: list[str] | None = None
    for line in lock.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if not line.startswith(" "):
            lines = blocks.setdefault(name_of(line), [])
        if lines is None:
            raise ValueError(f"the lock file begins with {line!r}, which belongs to no package")
        lines.append(line)
    return {name: "\n".join(own) + "\n" for name, own in blocks.items()}


def name_of(requirement: str) -> str:
    """The package's name, normalized as package indexes do. Raises ValueError."""
    match = _NAME.match(requirement)
    if match is None:
        raise ValueError(f"{requirement!r} names no package")
    return re.sub(r"[-_.]+", "-", match[1]).lower()


def required_by(block: str) -> set[str]:
    """The packages that require this one, from ``# via``."""
    _, _, via = block.partition("# via")
    return {line.strip(" #") for line in via.splitlines() if line.strip(" #")}


def needed(lock: str, dependencies: Iterable[str]) -> str:
    """The part of ``lock`` that ``dependencies`` need. Raises ValueError if one of them is missing."""
    blocks = blocks_of(lock)
    found = {name_of(dependency) for dependency in dependencies}
    missing = sorted(found - blocks.keys())
    if missing:
        raise ValueError(f"the lock file lacks {', '.join(missing)}: run `make lock`")
    while True:
        more = {name for name, block in blocks.items() if name not in found and required_by(block) & found}
        if not more:
            return "".join(block for name, block in blocks.items() if name in found)
        found |= more


def main(arguments: Sequence[str]) -> int:
    lock, pyproject, out, *rest = arguments
    dependencies = tomllib.loads(Path(pyproject).read_text())["project"]["dependencies"]
    if rest[:1] == ["--only"]:
        dependencies = rest[1:]
    Path(out).write_text(needed(Path(lock).read_text(), dependencies))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
