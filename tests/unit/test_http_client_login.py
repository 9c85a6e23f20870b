"""The login of the HTTP client: one token for all threads, renewed before it ends; and who sends what in the demo."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from demo.login import OF_OPERATORS, Senders
from demo.traffic.actions import OPERATORS
from demo.traffic.plan import Planned
from http_client.client import AsyncClient, Client
from http_client.login import Credentials, Login, read_credentials
from http_client.responses import BadLogin, NoUsableResponse, UnexpectedResponse
from http_client.retry import Policy

RIGHT = Credentials("audit", "right")
WRONG = Credentials("audit", "wrong")


class Served:
    """What a small service was asked."""

    def __init__(self) -> None:
        self.logins = 0
        self.expires_in = 900
        self.busy = False
        self.tokens: list[str | None] = []
        """The ``Authorization`` of each read."""


@pytest.fixture
def served() -> Served:
    return Served()


@pytest.fixture
def url(served: Served) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            served.logins += 1
            if served.busy:
                self._respond(503, {"code": "overloaded"})
            elif body != {"client_id": "audit", "client_secret": "right"}:
                self._respond(401, {"code": "unauthenticated"})
            else:
                token = {"access_token": f"t{served.logins}", "expires_in": served.expires_in, "token_type": "Bearer"}
                self._respond(200, token)

        def do_GET(self) -> None:
            served.tokens.append(self.headers.get("authorization"))
            self._respond(200, {})

        def _respond(self, status: int, document: object) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_many_threads_log_in_once(url: str, served: Served) -> None:
    one = Login(url, RIGHT)
    with ThreadPoolExecutor(8) as threads:
        headers = set(threads.map(lambda _: one.header(), range(50)))
    assert headers == {"Bearer t1"}
    assert served.logins == 1


def test_a_token_is_renewed_before_it_ends(url: str, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 0.0
    monkeypatch.setattr("http_client.login.time.monotonic", lambda: now_s)
    one = Login(url, RIGHT)
    assert one.header() == "Bearer t1"
    now_s = 839.0
    assert one.header() == "Bearer t1"
    now_s = 841.0
    assert not one.is_current
    assert one.header() == "Bearer t2"


def test_a_wrong_secret_is_unexpected_and_a_busy_service_may_be_asked_again(url: str, served: Served) -> None:
    with pytest.raises(UnexpectedResponse, match="status 401") as refused:
        Login(url, WRONG).header()
    assert "wrong" not in str(refused.value)
    served.busy = True
    with pytest.raises(NoUsableResponse, match="status 503"):
        Login(url, RIGHT).header()


async def test_both_clients_send_the_token_with_each_request(url: str, served: Served) -> None:
    policy = Policy(within_s=20)
    blocking = Client(url, policy, credentials=RIGHT)
    for _ in range(2):
        assert blocking.get("/v1/partitions").status == 200
    blocking.close()
    async with AsyncClient(url, policy, credentials=RIGHT) as client:
        for _ in range(2):
            assert (await client.get("/v1/partitions")).status == 200
        await client.once("GET", "/v1/partitions", headers={"Authorization": "Bearer another"})
    async with AsyncClient(url, policy) as client:
        await client.get("/v1/partitions")
    assert served.tokens == ["Bearer t1", "Bearer t1", "Bearer t2", "Bearer t2", "Bearer another", None]


def test_credentials_are_read_from_the_response_that_made_them(tmp_path: Path) -> None:
    file = tmp_path / "audit.json"
    file.write_text('{"client_id":"audit","role":"auditor","games":null,"types":null,"client_secret":"right"}')
    assert read_credentials(file) == RIGHT


@pytest.mark.parametrize("text", [None, "", "[]", '{"client_id":"audit"}', '{"client_id":1,"client_secret":"right"}'])
def test_a_file_without_credentials_is_refused_and_not_shown(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "audit.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(BadLogin, match=r"audit\.json") as refused:
        read_credentials(file)
    assert "right" not in str(refused.value)


# --- the demo ------------------------------------------------------------------------------------------------------


def planned(*types: str) -> list[Planned]:
    return [Planned({"type": kind}) for kind in types]


def test_without_login_the_actor_sends_all() -> None:
    day = planned("freeze_wallet", "place_bet")
    assert list(Senders("http://a").parts(day, "ops-ben")) == [("ops-ben", day)]
    assert list(Senders("http://a").parts(day, None)) == [(None, day)]


def test_with_login_each_command_is_sent_by_a_client_that_may_in_the_same_order() -> None:
    senders = Senders("http://a", dict.fromkeys(("demo-game", "demo-auditor", *OPERATORS), RIGHT))
    day = planned("freeze_wallet", "place_bet", "deposit", "freeze_wallet")
    assert list(senders.parts(day, "ops-ben")) == [
        ("ops-ben", day[:1]),
        ("demo-game", day[1:3]),
        ("ops-ben", day[3:]),
    ]
    assert [sender for sender, _ in senders.parts(planned("reverse"), None)] == [OPERATORS[0]]


def test_the_demo_knows_what_only_operators_may_post() -> None:
    from api.identity.identity import OPERATOR
    from api.identity.roles import MAY_POST

    assert {kind for kind, roles in MAY_POST.items() if roles == (OPERATOR,)} >= OF_OPERATORS
