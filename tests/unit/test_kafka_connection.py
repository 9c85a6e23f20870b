"""A connection to a broker that is closed is gone soon, whatever the broker does."""

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest

import certificates
from ledger.kafka import connection as connections


async def test_a_broker_that_reads_nothing_does_not_delay_the_end_of_a_connection_with_tls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By itself asyncio waits for its close_notify for 30 s, and a node's stop with it."""
    files = certificates.write(tmp_path)
    serves = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serves.load_cert_chain(files.certificate, files.key)
    accepted: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()

    async def busy(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # a broker does so while it delays a response
        accepted.put_nowait(writer)
        await asyncio.Event().wait()

    async def nothing(_: Any) -> None:
        """No broker is there to say its versions."""

    monkeypatch.setattr(connections._Connection, "_do_version_lookup", nothing)
    server = await asyncio.start_server(busy, "127.0.0.1", 0, ssl=serves)
    port = server.sockets[0].getsockname()[1]
    trusts = ssl.create_default_context(cafile=str(files.certificate))
    connection = connections._Connection("127.0.0.1", port, security_protocol="SSL", ssl_context=trusts)
    await connection.connect()
    writer = await accepted.get()
    try:
        async with asyncio.timeout(15):
            await connection.close()
    finally:
        writer.transport.abort()
        server.close()
