"""Stopping under load: what was taken is answered and kept, and the next start has nothing to replay."""

import asyncio
import os
import re
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import pytest

from sqlite_log import records_by_partition
from system.players import Books, Crowd
from system.service import Service

pytestmark = pytest.mark.system

PARTITIONS: Final = 4
CLIENTS: Final = 6
STOPPED_WITHIN_S: Final = 30.0
"""It takes half a second. Less than the service waits for a request that never becomes whole."""

REFUSED_BY_A_STOP: Final = {"shutting_down", "ClientConnectorError", "ServerDisconnectedError", "ClientOSError"}
"""Said so, or the connection was refused, or it had been closed when the next request came."""


def to_process(*signals: signal.Signals) -> Callable[[Service], None]:
    def send(service: Service) -> None:
        for number in signals:
            os.kill(service.pid, number)
            time.sleep(0.02)

    return send


def to_group(number: signal.Signals) -> Callable[[Service], None]:
    return lambda service: os.killpg(service.pid, number)


@pytest.mark.parametrize(
    "stop",
    [
        pytest.param(to_process(signal.SIGTERM), id="SIGTERM"),
        pytest.param(to_group(signal.SIGTERM), id="SIGTERM to the group"),
        pytest.param(to_process(signal.SIGTERM, signal.SIGTERM), id="SIGTERM twice"),
        pytest.param(to_process(signal.SIGINT), id="SIGINT"),
        pytest.param(to_group(signal.SIGINT), id="SIGINT to the group, as Ctrl-C does"),
    ],
)
async def test_a_stop_under_load_finishes_what_was_taken(tmp_path: Path, stop: Callable[[Service], None]) -> None:
    service = Service(tmp_path / "data", PARTITIONS=str(PARTITIONS))
    crowd = Crowd(service, 1, CLIENTS, patient=False)
    await asyncio.to_thread(service.start)
    playing = asyncio.create_task(crowd.play())
    try:
        async with asyncio.timeout(60):
            while sum(one.is_final for one in crowd.sent) < 500:  # noqa: ASYNC110 - that it is busy
                await asyncio.sleep(0.05)
        await asyncio.to_thread(stop, service)
        status = await asyncio.to_thread(_status_of, service)
        crowd.stop = True
        await playing
    finally:
        crowd.stop = True
        playing.cancel()
        if service.process is not None:
            service.kill()
    assert status == 0, service.log_text()
    assert service.log_text().endswith("INFO stopped\n"), service.log_text()
    books = _books(service.data)
    books.check_acknowledged(crowd.sent)
    for one in crowd.sent:
        assert one.acceptances or books.written[one.identity] == 0, f"taken, and its client never heard of it: {one}"
        assert set(one.failures) <= REFUSED_BY_A_STOP, one
    await asyncio.to_thread(service.start)
    await asyncio.to_thread(service.stop)
    assert _replayed(service.log_text())[-1] == 0, service.log_text()
    assert "Traceback" not in service.log_text()


def _status_of(service: Service) -> int:
    process = service.process
    assert process is not None
    status = process.wait(STOPPED_WITHIN_S)
    service.process = None
    return status


def _replayed(log_text: str) -> Sequence[int]:
    return [int(records) for records in re.findall(r"recovered .* (\d+) records replayed", log_text)]


def _books(data: Path) -> Books:
    return Books(records_by_partition(data / "events.sqlite3", PARTITIONS))
