"""``/schema`` is a page for a browser and JSON for everything else, and the page needs no other host."""

import gzip
import re
from collections.abc import AsyncIterator
from importlib.resources import files
from typing import Final

import pytest
import pytest_asyncio

from api.openapi import page
from unit.asked import Asked

BROWSER: Final = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def asked(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Asked]:
    async with Asked(tmp_path_factory.mktemp("page")) as asked:
        yield asked


@pytest.mark.parametrize("path", ["/schema", "/schema/"])
async def test_a_browser_gets_the_page(asked: Asked, path: str) -> None:
    answer = await asked.get(path, ("accept", BROWSER))
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer.headers["vary"] == "Accept"
    assert b'data-url="/schema"' in answer.body
    assert b'src="/schema/scalar.js"' in answer.body


@pytest.mark.parametrize("path", ["/schema", "/schema/"])
@pytest.mark.parametrize("accept", [None, "*/*", "application/json", "application/json, text/html;q=0", ""])
async def test_every_other_client_gets_the_document(asked: Asked, path: str, accept: str | None) -> None:
    answer = await asked.get(path, *(() if accept is None else (("accept", accept),)))
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.headers["vary"] == "Accept, Accept-Encoding"
    assert answer.json()["openapi"] == "3.1.0"
    assert answer.body == page.document()


async def test_the_page_names_no_other_host(asked: Asked) -> None:
    answer = await asked.get("/schema", ("accept", BROWSER))
    assert not re.search(rb"https?://|//cdn|src=\"//", answer.body)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy


async def test_the_pages_script_is_served_compressed_and_plain(asked: Asked) -> None:
    packed = await asked.get("/schema/scalar.js", ("accept-encoding", "gzip"))
    plain = await asked.get("/schema/scalar.js")
    assert packed.headers["content-type"] == plain.headers["content-type"] == "text/javascript; charset=utf-8"
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert gzip.decompress(packed.body) == plain.body
    assert b"createApiReference" in plain.body


async def test_the_root_leads_a_browser_to_the_page_and_others_to_the_links(asked: Asked) -> None:
    browser = await asked.get("/", ("accept", BROWSER))
    assert (browser.status, browser.headers["location"]) == (302, "/schema")
    for path in (await asked.get("/")).json().values():
        if path.startswith("/"):
            assert (await asked.get(path)).status in (200, 503), path


async def test_the_script_has_its_licence_beside_it() -> None:
    licence = (files("api.openapi") / "LICENSE-scalar").read_text()
    assert "MIT" in licence
    assert "Scalar" in licence
