"""Headers of every response, and which web pages may read responses."""

from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from api.composition.settings import SettingsError, read_settings
from api.http.application import Rim
from api.routes.table import ROUTES
from unit.api_in_memory import ApiResponse, InMemoryApi

SHOP = "https://shop.example"
OTHER = "https://other.example"
PREFLIGHT = ("access-control-request-method", "POST")
SECURITY = {"x-content-type-options": "nosniff", "x-frame-options": "DENY", "referrer-policy": "no-referrer"}
CORS = {"access-control-allow-origin", "access-control-allow-methods", "access-control-allow-headers", "vary"}


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[InMemoryApi]:
    async with InMemoryApi(tmp_path, 1, internal=True, tls=True) as http:
        yield http


async def asked(folder: Path, origins: set[str], method: str, target: str, *headers: tuple[str, str]) -> ApiResponse:
    with TemporaryDirectory(dir=folder) as own:
        async with InMemoryApi(Path(own), 1, origins=frozenset(origins)) as http:
            return await http.ask(method, target, *headers)


# --- security ------------------------------------------------------------------------------------------------------


async def test_every_response_has_the_security_headers_and_does_not_name_its_server(http: InMemoryApi) -> None:
    found = [await http.ask(route.method, route.path.replace("{", "").replace("}", "")) for route in ROUTES]
    found += [
        await http.get("/nowhere"),
        await http.ask("DELETE", "/v1/commands"),
        await http.ask("HEAD", "/healthz"),
    ]
    found.append(await http.ask("GET", "/healthz", app=http.inside))
    statuses = {answer.status for answer in found}
    assert statuses >= {200, 400, 404, 405, 415}
    for answer in found:
        assert answer.headers.items() >= SECURITY.items()
        assert answer.headers["server"] == "stakelog"
        assert not answer.headers.keys() & {"access-control-allow-origin", "access-control-allow-credentials"}


async def test_a_redirect_and_a_not_modified_have_the_security_headers(http: InMemoryApi) -> None:
    redirect = await http.get("/", ("accept", "text/html"))
    assert redirect.status == 302
    assert redirect.headers.items() >= SECURITY.items()


async def test_only_a_listener_with_tls_says_that_it_is_to_be_used_with_tls(
    http: InMemoryApi, tmp_path: Path
) -> None:
    name = "strict-transport-security"
    assert name not in (await asked(tmp_path, set(), "GET", "/healthz")).headers
    assert (await http.get("/healthz")).headers[name] == "max-age=31536000"
    assert name not in (await http.ask("GET", "/healthz", app=http.inside)).headers


async def test_every_page_of_html_has_a_content_security_policy(http: InMemoryApi) -> None:
    pages = 0
    for route in ROUTES:
        if route.method == "GET" and "{" not in route.path:
            answer = await http.get(route.path, ("accept", "text/html"))
            if answer.headers.get("content-type", "").startswith("text/html"):
                assert "default-src" in answer.headers["content-security-policy"], route.path
                assert "frame-ancestors 'none'" in answer.headers["content-security-policy"], route.path
                pages += 1
    assert pages >= 2


# --- CORS ----------------------------------------------------------------------------------------------------------


async def test_without_the_setting_no_page_may_read_anything(tmp_path: Path) -> None:
    answer = await asked(tmp_path, set(), "GET", "/healthz", ("origin", SHOP))
    assert not answer.headers.keys() & CORS
    answer = await asked(tmp_path, set(), "OPTIONS", "/v1/commands", ("origin", SHOP), PREFLIGHT)
    assert answer.status == 405
    assert not answer.headers.keys() & CORS


async def test_a_page_of_an_allowed_origin_may_read_responses_and_problems(tmp_path: Path) -> None:
    for target, status in (("/healthz", 200), ("/v1/wallets/u1", 404), ("/nowhere", 404)):
        answer = await asked(tmp_path, {SHOP, OTHER}, "GET", target, ("origin", SHOP))
        assert answer.status == status
        assert answer.headers["access-control-allow-origin"] == SHOP
        assert "Idempotency-Hit" in answer.headers["access-control-expose-headers"]
        assert answer.headers["vary"] == "Origin"


@pytest.mark.parametrize(
    "origin", [None, OTHER, "null", SHOP.upper(), f"{SHOP}:443", f"{SHOP}.evil.example", "http://shop.example", "*"]
)
async def test_a_page_of_another_origin_may_not(tmp_path: Path, origin: str | None) -> None:
    headers = [] if origin is None else [("origin", origin)]
    for method, more in (("GET", ()), ("OPTIONS", (PREFLIGHT,))):
        answer = await asked(tmp_path, {SHOP}, method, "/healthz", *headers, *more)
        assert answer.status == (200 if method == "GET" else 405)
        assert not answer.headers.keys() & (CORS - {"vary"})
        assert answer.headers["vary"] == "Origin", "a cache must not give it to an allowed page"


async def test_a_preflight_is_answered_with_the_methods_of_the_path(tmp_path: Path) -> None:
    answer = await asked(tmp_path, {SHOP}, "OPTIONS", "/v1/wallets/u1", ("origin", SHOP), PREFLIGHT)
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == SHOP
    assert answer.headers["access-control-allow-methods"] == "GET, HEAD"
    assert {"Authorization", "Content-Type"} <= {*answer.headers["access-control-allow-headers"].split(", ")}
    assert answer.headers.items() >= SECURITY.items()
    nowhere = await asked(tmp_path, {SHOP}, "OPTIONS", "/nowhere", ("origin", SHOP), PREFLIGHT)
    assert nowhere.status == 404


async def test_options_without_a_question_is_not_allowed(tmp_path: Path) -> None:
    answer = await asked(tmp_path, {SHOP}, "OPTIONS", "/v1/commands", ("origin", SHOP))
    assert (answer.status, answer.headers["allow"]) == (405, "POST")


async def test_all_origins_are_allowed_by_a_star_and_never_with_credentials(tmp_path: Path) -> None:
    for method in ("GET", "OPTIONS"):
        answer = await asked(tmp_path, {"*"}, method, "/healthz", ("origin", SHOP), PREFLIGHT)
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in answer.headers
        assert "vary" not in answer.headers


async def test_the_internal_listener_answers_no_page(tmp_path: Path) -> None:
    async with InMemoryApi(tmp_path, 1, origins=frozenset({"*"}), internal=True) as http:
        inside: Any = http.inside
        assert isinstance(inside, Rim)
        answer = await http.ask("GET", "/metrics", ("origin", SHOP), app=inside)
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("text", [SHOP, f"{SHOP}, http://127.0.0.1:3000", "*"])
def test_origins_are_read_with_commas_between(text: str) -> None:
    assert read_settings({"STAKELOG_CORS": text}).origins == {origin.strip() for origin in text.split(",")}


@pytest.mark.parametrize(
    "text",
    [
        *("shop.example", f"{SHOP}/", f"{SHOP}/page", "ftp://shop.example", f"{SHOP},*", "https://*.example/x", ","),
        *("https://Shop.example", "https://u@shop.example", "null", "https://"),
    ],
)
def test_what_no_browser_sends_as_an_origin_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="STAKELOG_CORS: "):
        read_settings({"STAKELOG_CORS": text})
