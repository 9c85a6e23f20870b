"""The documents: each page is in the site's navigation, and each code block is run or at least parsed."""

import json
import re
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
import yaml  # type: ignore[import-untyped]

from api.http.problems import KINDS, Kind
from deploy.local.install import find
from pages import NOT_RUN, ROOT, TESTED_BY, blocks, pages
from schemas.generate.errors_page import errors_page


def _of_shell(text: str) -> None:
    subprocess.run(["bash", "-n"], input=text, text=True, check=True, capture_output=True)


def _of_javascript(text: str) -> None:
    if node := find("node"):
        subprocess.run([node, "--check", "-"], input=text, text=True, check=True, capture_output=True)


def _of_html(text: str) -> None:
    _, begin, rest = text.partition("<script>\n")
    script, end, _ = rest.partition("</script>")
    assert begin, "the block has no script: name what else it shows"
    assert end
    _of_javascript(script)


PARSERS: Final[dict[str, Callable[[str], Any]]] = {
    "sh": _of_shell,
    "python": lambda text: compile(text, "block", "exec"),
    "json": json.loads,
    "toml": tomllib.loads,
    "yaml": yaml.safe_load,
    "js": _of_javascript,
    "html": _of_html,
}
ALL: Final = [block for page in pages() for block in blocks(page)]


@pytest.mark.parametrize("page", pages())
def test_each_code_block_can_be_parsed(page: str) -> None:
    for block in blocks(page):
        if block.language and page != "CONTRIBUTING.md":  # its blocks are parts of a file
            assert block.language in PARSERS, (
                f"{page}: write a parser for `{block.language}` in {Path(__file__).name}"
            )
            PARSERS[block.language](block.text)


def test_a_broken_block_is_found() -> None:
    for language, broken in (("sh", "for x in"), ("python", "def"), ("json", "{"), ("js", "let ="), ("html", "<b>")):
        with pytest.raises((subprocess.CalledProcessError, SyntaxError, ValueError, AssertionError)):
            PARSERS[language](broken)


def test_the_lists_of_blocks_that_run_elsewhere_name_what_exists() -> None:
    assert {page for page in TESTED_BY if page not in pages()} == set()
    assert {name for name in TESTED_BY.values() if not (ROOT / name).is_file()} == set()
    assert [entry for entry in NOT_RUN if not any(block.is_in_list(entry) for block in ALL)] == []


def test_each_fence_is_closed_and_has_a_known_form() -> None:
    for page in pages():
        fences = [line for line in (ROOT / page).read_text(encoding="utf-8").splitlines() if line.startswith("```")]
        assert len(fences) == 2 * len(blocks(page)), f"{page}: a fence begins with ```, a language in small letters"


def _listed(nav: list[Any]) -> list[str]:
    """The pages in a part of the navigation, with those of its sections."""
    found: list[str] = []
    for entry in nav:
        if isinstance(entry, str):
            found.append(entry)
        else:
            found += [page for section in entry.values() for page in _listed(section)]
    return found


def test_each_page_is_in_one_section_of_the_site() -> None:
    listed = _listed(tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"])
    existing = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert sorted(existing - set(listed)) == [], "name these pages in a section of `nav` in zensical.toml"
    assert sorted(set(listed) - existing) == [], "these pages of `nav` in zensical.toml do not exist"
    assert len(listed) == len(set(listed)), "a page is in two sections of `nav` in zensical.toml"


def test_the_error_catalogue_says_for_each_code_why_it_occurs_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    _, *sections = errors_page().split("\n### ")
    assert sorted(section.partition("\n")[0] for section in sections) == sorted(KINDS)
    for section in sections:
        assert re.search(
            r"\*\*Why:\*\* .+\.\n\n\*\*What to do:\*\* .+\.\n\n\*\*Where:\*\* .+\.\n\n```json", section
        ), section
    monkeypatch.setitem(KINDS, "a_code_without_a_text", Kind(418, "New"))
    with pytest.raises(AssertionError, match="a_code_without_a_text"):
        errors_page()
