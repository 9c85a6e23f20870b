"""The code blocks of the documents, run as they are written: one service for all pages, one shell for each page.

If a page needs settings, a login or a real server, give it a test of its own, and name it in ``tests/pages.py``.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pages import ROOT, Block, blocks_to_run, pages
from system.service import Service

pytestmark = pytest.mark.system
RUN = [page for page in pages() if blocks_to_run(page)]
FIXTURE = {"PYTEST_PLUGINS": "stakelog_client.pytest_plugin"}
"""Where the client library is installed, its entry point does this."""
FILE_NAME = re.compile(r"# ([\w.-]+\.py)\n")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Service(tmp_path_factory.mktemp("pages") / "data") as running:
        yield running


def _line(block: Block) -> str:
    """The block as a part of a shell script."""
    if block.language == "sh":
        return block.text
    text = shlex.quote(block.text)
    if name := FILE_NAME.match(block.text):
        return f"printf %s {text} > {name[1]}"
    return f"python -c {text}"


def _output(page: str, service: Service) -> str:
    """Everything that the page's blocks print."""
    script = "\n".join(["set -eo pipefail", *map(_line, blocks_to_run(page))])
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("STAKELOG_")}
    done = subprocess.run(
        ["bash", "-c", script.replace("8080", str(service.port))],
        cwd=service.data.parent,
        env=inherited | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **FIXTURE},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, f"{page}\n{done.stdout}\n{done.stderr}\n{service.log_text()[-2000:]}\n{__doc__}"
    return done.stdout


@pytest.mark.parametrize("page", RUN)
def test_the_blocks_of_a_page_run_and_only_the_refusals_that_it_names_occur(page: str, service: Service) -> None:
    output = _output(page, service)
    refused = set(re.findall(r"urn:stakelog:problem:(\w+)", output))
    text = (ROOT / page).read_text(encoding="utf-8")
    assert {code for code in refused if f"`{code}`" not in text} == set(), output
    for expected in EXPECTED[page]:
        assert re.search(expected, output), f"{expected} is not in the output of {page}:\n{output}"
    assert "Traceback" not in service.log_text()


EXPECTED = {
    "docs/start.md": [
        r'"type":"wallet_opened"',
        r'(.*"type":"bet_settled".*)\n\1\n',  # the same response twice
        r'"cash":10480,.*"held":0',
        r"\b0 differences",
    ],
    "docs/concepts.md": [r"(?i)idempotency-hit: true"],
    "docs/tutorial.md": [
        r"(?s)(drawn: \w+\nwheel-ada \d+\nwheel-raj \d+\n)\1",  # played twice, paid once
        r"not enough money: you have \d+",
        r"crashed after one payment\nopen bets: \[\]\n",
        r"held: 2000\nwaiting: \['out-1'\]\nheld: 0\n",
        r"1 passed",
        r'event: balance\ndata: \{.*"cash":\d+',
        r"\b0 differences",
    ],
    "docs/games/trx_wix.md": [r"^7$"],
}
"""What the output of a page must contain: a page whose blocks run has a line here."""
