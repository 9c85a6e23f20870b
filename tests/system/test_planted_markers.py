"""Secrets, tokens, keys and private texts are in no problem, no log line and no file; paths and hosts in no problem.

Each is planted as a marker: then everything that the service says and keeps is searched for it.
"""

import base64
from collections.abc import Iterator
from typing import Any, Final

import pytest

from system.byte_fuzz import request, send
from system.logins import ADMIN_SECRET, Answer, LoggedIn
from system.logins import send as ask

pytestmark = pytest.mark.system

MASTER_KEY: Final = base64.b64encode(b"planted-master-key-of-32-bytes!!").decode()
PASSWORD: Final = "planted-password"  # noqa: S105
HOST: Final = "planted-host.invalid"
PRIVATE: Final = "planted-private-text"
WRONG: Final = "planted-wrong-secret"
FOLDER: Final = "planted-folder"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoggedIn]:
    """Its database and its Redis cannot be reached, so that it has something to complain about."""
    broken = {
        "READ_MODEL": f"postgresql://user:{PASSWORD}@{HOST}/stakelog",
        "CACHE": f"redis://user:{PASSWORD}@{HOST}:6379/0",
        "MASTER_KEY": MASTER_KEY,
        "PARTITIONS": "1",
        "RATE_LOGIN_PER_MIN": "3",
    }
    with LoggedIn(tmp_path_factory.mktemp(FOLDER) / "data", **broken) as service:
        yield service


def opening(command_id: str, **fields: Any) -> dict[str, Any]:
    return {"type": "open_wallet", "command_id": command_id, "user_id": "u1", **fields}


def failures_of(service: LoggedIn, secret: str, token: str, refresh_token: str) -> list[Answer]:
    """What goes wrong, with a secret in each request."""
    private = {"account": PRIVATE}
    bodies: list[tuple[str, Any]] = [
        ("/v1/auth/token", {"client_id": "games", "client_secret": secret, "x": 1}),
        ("/v1/auth/token", {"client_id": "games", "client_secret": [secret]}),
        ("/v1/auth/token", f'{{"client_id":"a","client_secret":"{secret}","client_secret":"{secret}"}}'.encode()),
        ("/v1/auth/token", f'{{"client_id":"a","client_secret":"{secret}'.encode()),
        *([("/v1/auth/token", {"client_id": "games", "client_secret": WRONG})] * 5),
        ("/v1/auth/token", {"client_id": secret, "client_secret": WRONG}),
        ("/v1/auth/refresh", {"refresh_token": refresh_token, "x": refresh_token}),
        ("/v1/auth/refresh", {"refresh_token": refresh_token + "x"}),
        ("/v1/auth/refresh", {"refresh_token": [refresh_token]}),
        ("/v1/commands", opening("c-1", private={"account": PRIVATE + "\x07"})),
        ("/v1/commands", opening("c-1", private={PRIVATE: 5})),
        ("/v1/commands", opening("c-1", private=[PRIVATE])),
        ("/v1/commands", opening("c-1", private={"account": PRIVATE * 400})),
        ("/v1/commands", opening("open", private=private, referrer_id="u9")),
        ("/v1/commands", opening("again", private=private)),
        ("/v1/clients", {"client_id": "new", "role": "admin", "secret": secret}),
    ]
    found = [ask(service.url, "POST", path, body, token) for path, body in bodies]
    tokens = (token + "x", token[:-9] + "AAAAAAAAA", token[10:], f"{token} {token}", token.upper(), refresh_token)
    found += [ask(service.url, "GET", "/v1/wallets/u1", token=wrong) for wrong in tokens]
    forms = (f"grant_type=password&client_id=games&client_secret={secret}", f"client_secret={secret}&client_secret=1")
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    found += [ask(service.url, "POST", "/v1/auth/token", text.encode(), headers=form) for text in forms]
    basic = {"Authorization": "Basic " + base64.b64encode(f"games:{WRONG}".encode()).decode(), **form}
    found.append(ask(service.url, "POST", "/v1/auth/token", b"grant_type=client_credentials", headers=basic))
    found += [ask(service.url, "GET", path, token=token) for path in ("/v1/wallets/u1", "/v1/wallets/u1/history")]
    assert all(answer.status >= 400 for answer in found), [answer for answer in found if answer.status < 400]
    return found


def test_no_marker_is_in_a_problem_a_log_line_or_a_file(service: LoggedIn) -> None:
    client = service.add("games", "game_server")
    players = client.post("/v1/auth/players", {"user_id": "u1"}).json()
    assert client.post("/v1/commands", opening("open", private={"account": PRIVATE})).status == 201
    secrets = [ADMIN_SECRET, MASTER_KEY, PASSWORD, WRONG, client.secret, client.token, *players.values()]
    markers = [marker for marker in [*secrets, PRIVATE] if isinstance(marker, str) and len(marker) > 10]
    assert len(markers) == 9
    assert FOLDER in str(service.data)

    failures = failures_of(service, client.secret, client.token, players["refresh_token"])
    assert {answer.status for answer in failures} >= {400, 401, 409, 422, 429, 503}
    broken = request("POST", "/v1/commands", [("Authorization", f"Bearer {client.token}")], PRIVATE.encode())
    said = b"\n".join([send(service.port, broken[:-5]), *(repr(answer).encode() for answer in failures)])
    for marker in (*markers, HOST, FOLDER, str(service.data)):
        assert marker.encode() not in said, marker

    service.stop()
    log = service.log_text()
    assert HOST in log, "the operator is told which server does not respond"
    files = {path: path.read_bytes() for path in service.data.rglob("*") if path.is_file()}
    assert len(files) > 3
    service.start()
    for marker in markers:
        assert marker not in log, marker
        for path, content in files.items():
            assert marker.encode() not in content, f"{marker} is in {path.name}"
    assert_private_text_is_readable(service)


def assert_private_text_is_readable(service: LoggedIn) -> None:
    """Otherwise the search above would prove nothing."""
    reader = service.add("reader", "auditor")
    found = reader.get("/v1/commands/u1/open")
    assert found.json()["data"]["private"] == {"account": PRIVATE}
