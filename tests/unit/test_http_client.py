"""The HTTP client of the demo and the audits, against a small server that does what a test tells it."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from deploy.local.server import free_port
from http_client.client import EVENTS_A_PAGE, AsyncClient, Client
from http_client.paths import page_path, path_of, with_query
from http_client.responses import BadAddress, NoUsableResponse, Problem, Response, UnexpectedResponse
from http_client.retry import NOT_DEFINITE, Policy

QUICK = Policy(within_s=20, pause_s=0.001, pause_s_max=0.01)


class Script:
    """The next statuses, then 200; None hangs up. `records` are the events of partition 0."""

    def __init__(self) -> None:
        self.statuses: list[int | None] = []
        self.paths: list[str] = []
        self.records: list[bytes] = []
        self.page_limit = 10_000
        self.hang = threading.Event()
        self.hangs = False

    def body(self, path: str) -> bytes:
        parts = urlsplit(path)
        if parts.path != "/v1/events":
            return b'{"code":"overloaded","status":503,"detail":"busy"}'
        query = {name: int(values[0]) for name, values in parse_qs(parts.query).items()}
        first = query["from_seq"] - 1
        page = self.records[first : first + min(query["limit"], self.page_limit)]
        return b"".join(record + b"\n" for record in page)


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def url(script: Script) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            script.paths.append(self.path)
            if script.hangs:
                script.hang.wait(60)
            status = script.statuses.pop(0) if script.statuses else 200
            if status is None:
                self.close_connection = True
                return
            body = script.body(self.path)
            self.send_response(status)
            self.send_header("Retry-After", "0")
            self.send_header("Content-Type", "application/problem+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the server's name for it
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        script.hang.set()
        server.shutdown()
        thread.join()


def get(url: str, path: str, policy: Policy, *, on_asyncio: bool) -> Response:
    async def run() -> Response:
        async with AsyncClient(url, policy) as client:
            return await client.get(path)

    if on_asyncio:
        return asyncio.run(run())
    with Client(url, policy) as client:
        return client.get(path)


both = pytest.mark.parametrize("on_asyncio", [False, True], ids=["blocking", "asyncio"])


@both
def test_a_busy_service_gets_the_request_again(url: str, script: Script, *, on_asyncio: bool) -> None:
    script.statuses = [503, 429, None]
    assert get(url, "/v1/partitions", QUICK, on_asyncio=on_asyncio).status == 200
    assert script.paths == ["/v1/partitions"] * 4


@both
def test_any_other_status_is_returned_at_once(url: str, script: Script, *, on_asyncio: bool) -> None:
    script.statuses = [500]
    assert get(url, "/v1/partitions", QUICK, on_asyncio=on_asyncio).status == 500
    assert len(script.paths) == 1


@both
def test_a_500_is_retried_if_the_policy_says_so(url: str, script: Script, *, on_asyncio: bool) -> None:
    script.statuses = [500, 500]
    policy = Policy(within_s=20, statuses=NOT_DEFINITE, pause_s=0.001)
    assert get(url, "/readyz", policy, on_asyncio=on_asyncio).status == 200


@both
def test_retries_end_and_the_last_response_is_in_the_error(url: str, script: Script, *, on_asyncio: bool) -> None:
    script.statuses = [503] * 10_000
    with pytest.raises(NoUsableResponse, match="returned status 503") as raised:
        get(url, "/v1/partitions", Policy(within_s=0.05, pause_s=0.001), on_asyncio=on_asyncio)
    assert raised.value.response is not None
    assert raised.value.response.problem == Problem("overloaded", 503, "", "busy")


@both
def test_a_first_connection_that_fails_is_not_retried_for_a_person_who_waits(*, on_asyncio: bool) -> None:
    policy = Policy(within_s=3_600, first_connection=False)
    with pytest.raises(NoUsableResponse, match="failed"):
        get(f"http://127.0.0.1:{free_port()}", "/readyz", policy, on_asyncio=on_asyncio)


@both
def test_a_request_ends_at_its_time_limit(url: str, script: Script, *, on_asyncio: bool) -> None:
    script.hangs = True
    with pytest.raises(NoUsableResponse):
        get(url, "/readyz", Policy(within_s=0, timeout_s=0.2), on_asyncio=on_asyncio)


@pytest.mark.parametrize("wrong", ["nonsense", "ftp://host", "http://", "http://host:port", ""])
def test_a_url_that_is_no_address_is_named(wrong: str) -> None:
    with pytest.raises(BadAddress, match="is not an address"):
        Client(wrong, QUICK)


def test_events_are_read_page_by_page_also_where_pages_end_early(url: str, script: Script) -> None:
    script.records, script.page_limit = [b'{"seq":%d}' % seq for seq in range(1, 26)], 10
    with Client(url, QUICK) as client:
        pages = list(client.events(0, 3, 24))
    assert [len(page) for page in pages] == [10, 10, 2]
    assert [record for page in pages for record in page] == script.records[2:24]
    assert script.paths[0] == "/v1/events?partition=0&from_seq=3&limit=22"
    assert EVENTS_A_PAGE <= 10_000  # the contract's largest page


def test_events_on_asyncio_are_the_same_and_end_where_the_log_ends(url: str, script: Script) -> None:
    script.records = [b'{"seq":%d}' % seq for seq in range(1, 6)]

    async def run() -> list[list[bytes]]:
        async with AsyncClient(url, QUICK) as client:
            return [page async for page in client.events(0, 1, 100)]

    assert asyncio.run(run()) == [script.records]


@pytest.mark.parametrize("user_id", ["ada", "a/b", "..", ".", "%41+#?", "a b"])
def test_any_id_reaches_the_service_unchanged(url: str, script: Script, user_id: str) -> None:
    with closing(Client(url, QUICK)) as client:
        client.get(with_query(path_of("wallets", user_id), {"at_us": None}))
    assert [unquote(part) for part in script.paths[0].split("/")] == ["", "v1", "wallets", user_id]


def test_a_page_has_its_filters_its_limit_and_the_cursor_of_the_page_before() -> None:
    filters = {"status": "open", "game": None}
    assert page_path("/v1/orders", filters, limit=50, cursor=None) == "/v1/orders?status=open&limit=50"
    assert page_path("/v1/orders", filters, limit=50, cursor="a=") == "/v1/orders?status=open&limit=50&cursor=a%3D"


def test_a_path_in_front_of_the_api_is_kept(url: str, script: Script) -> None:
    with Client(f"{url}/ledger/", QUICK) as client:
        client.get("/v1/partitions")
    assert script.paths == ["/ledger/v1/partitions"]


def test_a_body_that_is_no_json_or_a_status_that_does_not_fit_is_named() -> None:
    response = Response("GET", "/v1/x", 200, {}, b"<html>")
    with pytest.raises(UnexpectedResponse, match="did not return JSON: <html>"):
        response.json()
    with pytest.raises(UnexpectedResponse, match="GET /v1/x returned status 200"):
        response.expect(404)
    assert response.problem is None
    assert Response("GET", "/v1/x", 200, {}, json.dumps({"a": 1}).encode()).json() == {"a": 1}
