"""A service with login, and requests of its clients.

with LoggedIn(tmp_path / "data") as service:
    server = service.add("game-1", "game_server")          # a client, logged in
    assert server.post("/v1/commands", command).status == 201
"""

import http.client
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from system.service import Service

ADMIN_SECRET: Final = "a-secret-of-the-tests"  # noqa: S105


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def send(
    url: str,
    method: str,
    path: str,
    body: Any = None,
    token: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """One request on a connection of its own. ``body``: what becomes JSON, or bytes that are JSON already."""
    sent = dict(headers or {})
    if token is not None:
        sent["Authorization"] = f"Bearer {token}"
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    if data is not None:
        sent.setdefault("Content-Type", "application/json")
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    try:
        connection.request(method, path, data, sent)
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, response.read())
    finally:
        connection.close()


class LoggedInClient(NamedTuple):
    """A client of a service, with its access token."""

    url: str
    client_id: str
    secret: str
    token: str

    def get(self, path: str) -> Answer:
        return send(self.url, "GET", path, token=self.token)

    def post(self, path: str, body: Any, headers: Mapping[str, str] | None = None) -> Answer:
        return send(self.url, "POST", path, body, self.token, headers)


class LoggedIn(Service):
    """A service with ``STAKELOG_AUTH=on``."""

    def __init__(self, data: Path, **settings: str) -> None:
        super().__init__(data, **{"AUTH": "on", "ADMIN_SECRET": ADMIN_SECRET, **settings})

    def try_login(self, client_id: str, secret: str) -> Answer:
        return send(self.url, "POST", "/v1/auth/token", {"client_id": client_id, "client_secret": secret})

    def login(self, client_id: str, secret: str) -> LoggedInClient:
        answer = self.try_login(client_id, secret)
        assert answer.status == 200, answer
        return LoggedInClient(self.url, client_id, secret, answer.json()["access_token"])

    def admin(self) -> LoggedInClient:
        return self.login("admin", ADMIN_SECRET)

    def add(self, client_id: str, role: str, **fields: Any) -> LoggedInClient:
        """A new client, logged in."""
        added = self.admin().post("/v1/clients", {"client_id": client_id, "role": role, **fields})
        assert added.status == 201, added
        return self.login(client_id, added.json()["client_secret"])
