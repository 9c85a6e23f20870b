"""Random and mutated requests, byte by byte: no 500, no hang, and the service lives."""

import json
import urllib.request
from collections.abc import Iterator
from typing import Any, Final

import pytest

from system.byte_fuzz import fuzz, request
from system.service import Service

pytestmark = pytest.mark.system

SEED: Final = 12
REQUESTS: Final = 1_600
"""Chosen: some seconds. By hand, with another seed: ``fuzz(port, samples, seed, 200_000)``."""

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
    *("/v1/events?partition=0&from_seq=1&limit=10", "/v1/events/0:1", "/v1/partitions", "/v1/seals"),
    *("/healthz", "/readyz", "/metrics", "/schema", "/"),
)


def samples() -> list[bytes]:
    """Right requests, to be mutated."""
    found = [request("GET", path) for path in PATHS]
    found += [request("POST", "/v1/commands", [_JSON], json.dumps(command).encode()) for command in COMMANDS]
    found.append(request("POST", "/v1/commands/batch", [_JSON], json.dumps(COMMANDS).encode()))
    return found


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Service(tmp_path_factory.mktemp("fuzz") / "data", PARTITIONS="2") as service:
        yield service


def test_no_bytes_are_an_internal_error_or_a_hang(service: Service) -> None:
    right = samples()
    responses = fuzz(service.port, lambda: right, SEED, REQUESTS)
    assert responses > REQUESTS / 2, "most requests are still HTTP"
    with urllib.request.urlopen(service.url + "/metrics") as answer:  # noqa: S310 - the service's own address
        counts = [line for line in answer.read().decode().splitlines() if "request_duration_seconds_count" in line]
    assert any('status="201"' in line for line in counts), "some bodies were still commands"
    assert not [line for line in counts if 'status="500"' in line]
    assert "Traceback" not in service.log_text()
