"""Random and mutated requests, byte by byte: no 500, no hang, and the service lives.

``make fuzz SECONDS=300`` goes on for that long, with other bytes each time: it prints the seed of each round.
"""

import json
import os
import time
from collections.abc import Iterator
from typing import Any, Final

import pytest

from system.byte_fuzz import fuzz, request
from system.logins import LoggedIn

pytestmark = pytest.mark.system

SEED: Final = 12
REQUESTS: Final = 1_600
"""Of one round. Chosen: some seconds."""
FOR_S: Final = float(os.environ.get("FUZZ_SECONDS", "0"))
"""How long further rounds follow the first one."""

_JSON: Final = ("Content-Type", "application/json")
_BET: Final[dict[str, Any]] = {"bet_id": "b", "game": "external", "period": "p", "selection": "red", "stake": 5}
COMMANDS: Final[list[dict[str, Any]]] = [
    {"type": "open_wallet", "command_id": "c-0", "user_id": "u1"},
    {"type": "deposit", "command_id": "c-1", "user_id": "u1", "order_id": "o", "asset": "INR", "amount": 1_000},
    {"type": "place_bet", "command_id": "c-2", "user_id": "u1", "asset": "INR", **_BET},
    {"type": "hold", "command_id": "c-3", "user_id": "u1", "hold_id": "h", "asset": "INR", "amount": 5},
]
PATHS: Final = (
    *("/v1/wallets/u1", "/v1/wallets/u1?consistency=strong", "/v1/wallets?user_id=u1&user_id=u2"),
    *("/v1/wallets/u1/history?type=deposited&limit=3", "/v1/wallets/u1/bets/b", "/v1/wallets/u1/balance"),
    *("/v1/orders?kind=withdrawal&status=pending", "/v1/orders/u1/o", "/v1/commands/u1/c-1"),
    *("/v1/wallets/u1/private", "/v1/clients", "/v1/events/0:1/receipt", "/v1/adjustments"),
    *("/v1/events?partition=0&from_seq=1&limit=10", "/v1/events/0:1", "/v1/partitions", "/v1/seals"),
    *("/healthz", "/readyz", "/metrics", "/schema", "/"),
)


def samples(service: LoggedIn) -> list[bytes]:
    """Right requests, to be mutated, of every role, and of strangers that log in."""
    admin = service.admin()
    for client_id, role in (("games", "game_server"), ("audits", "auditor"), ("victim", "operator")):
        if client_id not in secrets:
            secrets[client_id] = service.add(client_id, role).secret
    games, audits = service.login("games", secrets["games"]), service.login("audits", secrets["audits"])
    pair = games.post("/v1/auth/players", {"user_id": "u1"}).json()
    spent = {"refresh_token": pair["refresh_token"]}
    login = {"client_id": "games", "client_secret": secrets["games"]}
    form = f"grant_type=client_credentials&client_id=games&client_secret={secrets['games']}".encode()

    def of(token: str) -> list[tuple[str, str]]:
        return [("Authorization", f"Bearer {token}"), _JSON]

    found = [request("GET", path, of(audits.token)) for path in PATHS]
    found += [request("GET", path, of(pair["access_token"])) for path in PATHS[:6]]
    found += [request("POST", "/v1/commands", of(games.token), json.dumps(command).encode()) for command in COMMANDS]
    found.append(request("POST", "/v1/commands/batch", of(games.token), json.dumps(COMMANDS).encode()))
    found.append(request("POST", "/v1/auth/players", of(games.token), b'{"user_id":"u1"}'))
    found += [
        request("POST", f"/v1/auth/{name}", [_JSON], json.dumps(body).encode())
        for name, body in (("token", login), ("refresh", spent), ("logout", spent))
    ]
    found.append(request("POST", "/v1/auth/token", [("Content-Type", "application/x-www-form-urlencoded")], form))
    found += [request("GET", path) for path in ("/.well-known/jwks.json", "/.well-known/oauth-authorization-server")]
    new = {"client_id": "new", "role": "game_server", "games": ["external"], "types": ["deposit"]}
    found.append(request("POST", "/v1/clients", of(admin.token), json.dumps(new).encode()))
    found.append(request("POST", "/v1/clients/victim/rotate", of(admin.token), b'{"grace_s":1}'))
    found += [request(method, "/v1/clients/victim", of(admin.token)) for method in ("GET", "DELETE")]
    found.append(request("DELETE", "/v1/wallets/u1/private", of(admin.token)))
    return found


secrets: Final[dict[str, str]] = {}
"""The secrets of the clients that ``samples`` has added."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoggedIn]:
    # Without limits: a request that is refused reaches nothing.
    free = {f"RATE_{name}": "0" for name in ("CLIENT", "USER", "ADDRESS", "LOGIN_PER_MIN")}
    with LoggedIn(tmp_path_factory.mktemp("fuzz") / "data", PARTITIONS="2", **free) as service:
        yield service


def test_no_bytes_are_an_internal_error_or_a_hang(service: LoggedIn) -> None:
    seed, until_s = SEED if not FOR_S else time.time_ns() // 1_000, time.monotonic() + FOR_S
    while True:
        responses = fuzz(service.port, samples(service), seed, REQUESTS)
        assert responses > REQUESTS / 2, "most requests are still HTTP"
        counts = counts_of(service)
        assert any('status="201"' in line for line in counts), "some bodies were still commands"
        print(f"seed {seed}: {responses} responses to {REQUESTS} requests")  # noqa: T201 - `make fuzz` shows it
        assert not [line for line in counts if 'status="500"' in line], seed
        assert "Traceback" not in service.log_text(), seed
        if time.monotonic() >= until_s:
            return
        seed += 1


def counts_of(service: LoggedIn) -> list[str]:
    """The lines of the metrics that count requests."""
    text = service.admin().get("/metrics").body.decode()
    return [line for line in text.splitlines() if "request_duration_seconds_count" in line]
