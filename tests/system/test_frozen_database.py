"""A proxy in front of the database forwards nothing more on the open connections, and closes none of them: the real
program with its real time limits.

Only reads: they come back after 20 s. Folding takes 60 s, too long for a test; `conformance/test_dead_connections.py`
shows both with shorter limits.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from databases import EmptyDatabases
from system.resetting_proxy import ResettingProxy
from system.service import Service

pytestmark = pytest.mark.system

POOL_MAX = 8
WITHIN_S = 120.0
"""Six times the limit, for a busy machine. Without the limit it is the kernel's: hours, or never."""


def test_reads_come_back_without_a_restart_and_commands_never_stop(
    postgresql: EmptyDatabases, tmp_path: Path
) -> None:
    with postgresql.one() as url, ResettingProxy() as proxy:
        port = urlsplit(url).port
        assert port is not None
        proxy.to(port)
        read_model = url.replace(f":{port}", f":{proxy.port}")
        with (
            Service(tmp_path / "data", PARTITIONS="1", READ_MODEL=read_model) as service,
            httpx.Client(base_url=service.url, timeout=60) as client,
        ):
            assert post(client, {"type": "open_wallet", "command_id": "open"}) == 201
            eventually_read(client, "0:1")
            open_all_connections(client)
            assert proxy.freeze() >= POOL_MAX
            assert read(client, "0:1") == 503
            assert post(client, deposit()) == 201
            eventually_read(client, "0:1")
        assert "Traceback" not in service.log_text()


def open_all_connections(client: httpx.Client) -> None:
    """Until the pool is full, so that a new connection cannot help the service out."""
    with ThreadPoolExecutor(4 * POOL_MAX) as threads:
        assert set(threads.map(lambda _: read(client, "0:1"), range(50 * POOL_MAX))) == {200}


def post(client: httpx.Client, command: dict[str, object]) -> int:
    return client.post("/v1/commands", json={"user_id": "u1", **command}).status_code


def deposit() -> dict[str, object]:
    return {"type": "deposit", "command_id": "deposit", "order_id": "o", "asset": "INR", "amount": 100}


def read(client: httpx.Client, min_position: str) -> int:
    return client.get("/v1/wallets/u1", params={"min_position": min_position}).status_code


def eventually_read(client: httpx.Client, min_position: str) -> None:
    until_s = time.monotonic() + WITHIN_S
    while read(client, min_position) != 200:
        assert time.monotonic() < until_s, "the reads did not come back"
