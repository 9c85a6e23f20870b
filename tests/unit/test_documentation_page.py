"""``/schema`` is a page for a browser and JSON for everything else, and the page needs no other host."""

import gzip
import re
from collections.abc import AsyncIterator
from importlib.resources import files
from typing import Final

import pytest
import pytest_asyncio

from api.openapi import page
from unit.api_in_memory import InMemoryApi

BROWSER: Final = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api_client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[InMemoryApi]:
    async with InMemoryApi(tmp_path_factory.mktemp("page")) as api_client:
        yield api_client


@pytest.mark.parametrize("path", ["/schema", "/schema/"])
async def test_a_browser_gets_the_page(api_client: InMemoryApi, path: str) -> None:
    answer = await api_client.get(path, ("accept", BROWSER))
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer.headers["vary"] == "Accept"
    assert b'data-url="/schema"' in answer.body
    assert b'src="/schema/scalar.js"' in answer.body


@pytest.mark.parametrize("path", ["/schema", "/schema/"])
@pytest.mark.parametrize("accept", [None, "*/*", "application/json", "application/json, text/html;q=0", ""])
async def test_every_other_client_gets_the_document(api_client: InMemoryApi, path: str, accept: str | None) -> None:
    answer = await api_client.get(path, *(() if accept is None else (("accept", accept),)))
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.headers["vary"] == "Accept, Accept-Encoding"
    assert answer.json()["openapi"] == "3.1.0"
    assert answer.body == page.document()


async def test_the_page_names_no_other_host(api_client: InMemoryApi) -> None:
    answer = await api_client.get("/schema", ("accept", BROWSER))
    assert not re.search(rb"https?://|//cdn|src=\"//", answer.body)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy


async def test_the_pages_script_is_served_compressed_and_plain(api_client: InMemoryApi) -> None:
    packed = await api_client.get("/schema/scalar.js", ("accept-encoding", "gzip"))
    plain = await api_client.get("/schema/scalar.js")
    assert packed.headers["content-type"] == plain.headers["content-type"] == "text/javascript; charset=utf-8"
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert gzip.decompress(packed.body) == plain.body
    assert b"createApiReference" in plain.body


async def test_the_root_leads_a_browser_to_the_page_and_others_to_the_links(api_client: InMemoryApi) -> None:
    browser = await api_client.get("/", ("accept", BROWSER))
    assert (browser.status, browser.headers["location"]) == (302, "/schema")
    for path in (await api_client.get("/")).json().values():
        if path.startswith("/"):
            assert (await api_client.get(path)).status in (200, 503), path


async def test_the_script_has_its_licence_beside_it() -> None:
    licence = (files("api.openapi") / "LICENSE-scalar").read_text()
    assert "MIT" in licence
    assert "Scalar" in licence
