"""The code blocks of the documents, and what tests each of them: the one list of blocks that are not run.

A block of `sh` or `python` runs in `tests/system/test_pages_run.py`, in the order of its page, against one service
without login for all pages. A Python block whose first line is a comment with a file's name is saved as this file.
`tests/unit/test_pages.py` checks that each block is run, or is in a list here, and that it can be parsed.
"""

import re
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[1]

TESTED_BY: Final = {
    "README.md": "tests/system/test_readme.py",
    "CONTRIBUTING.md": "tests/unit/test_new_route.py",  # test_toy_read_model.py and test_new_game.py
    "docs/money-flows.md": "tests/system/test_money_flows_page.py",
    "docs/production.md": "tests/system/test_production_page.py",
    "docs/import.md": "tests/system/test_import_program.py",
    "docs/what-if.md": "tests/unit/test_what_if.py",
    "docs/webhooks.md": "tests/system/test_webhooks_of_a_service.py",
    "docs/signed-requests.md": "tests/unit/test_signed_requests.py",
    "src/stakelog_client/README.md": "tests/system/test_client_library.py",
}
"""Pages whose blocks need settings of their own, and the test of each."""

NOT_RUN: Final = {
    ("docs/start.md", "make run"): "starts the service that the other blocks use: tests/system/test_readme.py",
    (
        "docs/tutorial.md",
        "pip install",
    ): "installs for the reader; tests/system/test_client_library.py builds that wheel",
    ("docs/operations.md", "make up"): "starts real servers: tests/system/test_local_set.py",
    ("docs/live.md", "curl -N"): "a feed does not end by itself: tests/system/test_live_service.py",
    ("docs/audit.md", 'curl -H "Authorization: Bearer $TOKEN"'): (
        "needs the reader's own address and token; tests/unit/test_receipts.py runs both verifiers"
    ),
}
"""(page, how the block begins) → why the block is only parsed."""

_FENCE: Final = re.compile(r"^```([a-z]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    """A fenced block. One without a language is a picture or an output, not code."""

    page: str
    language: str
    text: str

    def is_in_list(self, entry: tuple[str, str]) -> bool:
        return self.page == entry[0] and self.text.startswith(entry[1])


def pages() -> list[str]:
    """All documents, by their path from the project's root."""
    outside = ["README.md", "CONTRIBUTING.md", "src/stakelog_client/README.md"]
    return outside + sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))


def blocks(page: str) -> list[Block]:
    return [Block(page, *found) for found in _FENCE.findall((ROOT / page).read_text(encoding="utf-8"))]


def blocks_to_run(page: str) -> list[Block]:
    """The page's blocks that run against the common service."""
    if page in TESTED_BY:
        return []
    return [
        block
        for block in blocks(page)
        if block.language in {"sh", "python"} and not any(map(block.is_in_list, NOT_RUN))
    ]
