"""The documents name files and tests that exist."""

import re
import subprocess
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]

_EXAMPLE: Final = {"src/ledger/core/games/coin.py", "tests/unit/test_game_coin.py"}
"""The files of CONTRIBUTING's example of a new game, which `test_new_game.py` adds."""

_CODE: Final = re.compile(r"`([^`\s]+)`")
_FILE: Final = re.compile(r"(?:[\w-]+/)*[\w-]+\.py")
# Four words or more, or the beginning or the end of a name, with an ellipsis: shorter words are codes and functions.
_TEST: Final = re.compile(r"…?[a-z0-9]+(?:_[a-z0-9]+){3,}…?|…[a-z0-9_]+|[a-z0-9_]+…")


def listed(*patterns: str) -> list[str]:
    arguments = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns]
    output = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in output.splitlines() if (ROOT / name).is_file()]


def missing_files(text: str, files: list[str]) -> list[str]:
    named = [word for word in _CODE.findall(text) if _FILE.fullmatch(word)]
    return [name for name in named if not any(f"/{file}".endswith(f"/{name}") for file in files)]


def missing_tests(text: str, tests: str) -> list[str]:
    """``tests``: a line for each test, without ``test_``. An ellipsis stands for any words."""
    named = [word for word in _CODE.findall(text) if _TEST.fullmatch(word)]
    return [
        name for name in named if not re.search(rf"^{name.replace('…', '[a-z0-9_]*')}$", tests, flags=re.MULTILINE)
    ]


def test_every_file_that_a_document_names_exists() -> None:
    files = [*listed("*.py"), *_EXAMPLE]
    missing = [(name, missing_files((ROOT / name).read_text(encoding="utf-8"), files)) for name in listed("*.md")]
    assert [found for found in missing if found[1]] == []


def test_every_test_that_the_page_on_testing_names_exists() -> None:
    sources = [(ROOT / name).read_text(encoding="utf-8") for name in listed("tests/*.py")]
    tests = "\n".join(re.findall(r"^ *(?:async )?def test_(\w+)", "\n".join(sources), flags=re.MULTILINE))
    assert missing_tests((ROOT / "docs/testing.md").read_text(encoding="utf-8"), tests) == []


def test_a_name_without_its_file_or_test_is_found() -> None:
    assert missing_files("`unit/test_a.py`, `b.py`, `c.py` and `src`", ["tests/unit/test_a.py", "src/bb.py"]) == [
        "b.py",
        "c.py",
    ]
    tests = "a_log_is_closed_twice\na_hold_ends"
    assert missing_tests("`a_log_is_closed_twice` `…closed_twice` `a_log_is…` `outcome_unknown`", tests) == []
    assert missing_tests("`a_log_is_closed_once` `…hold`", tests) == ["a_log_is_closed_once", "…hold"]
