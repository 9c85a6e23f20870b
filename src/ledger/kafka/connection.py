"""Makes every aiokafka client of this program, so that a dead connection is a ``KafkaError`` for all of them.

Invariant: a request on a connection that has just died raises ``KafkaConnectionError``, on every event loop.
uvloop raises RuntimeError ("the handler is closed") where asyncio's own loop raises nothing. aiokafka expects OSError
only: the RuntimeError would end its heartbeats, its refresh of metadata and its sender without any report.

aiokafka loses two kinds of connections, which then stay open: the first one of a client whose start is cancelled, and
one that is being opened while its client closes. Here they are closed.

A connection is closed within ``CLOSED_WITHIN_S`` of its ``close``. Without this limit a TLS connection waits up to 30
s for the broker's close_notify: a broker does not read a connection while it delays the response to its last request.

aiokafka takes no factory for its connections. Its client looks up ``create_conn`` in its module, and its producer and
its admin client make their clients themselves: that function is the one place through which all of them connect.
"""

import asyncio
from typing import Any, Final

import aiokafka.client
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError


def new_client(**options: Any) -> Any:
    """An ``AIOKafkaClient``."""
    _replace_create_conn()
    return AIOKafkaClient(**options)


def new_producer(**options: Any) -> Any:
    """An ``AIOKafkaProducer``."""
    _replace_create_conn()
    return AIOKafkaProducer(**options)


def new_admin_client(**options: Any) -> Any:
    """An ``AIOKafkaAdminClient``."""
    _replace_create_conn()
    return AIOKafkaAdminClient(**options)


CLOSED_WITHIN_S: Final = 1.0
"""Chosen: a broker that reads the connection closes it within milliseconds."""


class _Connection(AIOKafkaConnection):  # type: ignore[misc]
    def close(self, reason: Any = None, exc: Any = None) -> Any:
        writer = self._writer
        closed = super().close(reason=reason, exc=exc)
        if writer is not None:
            closed.get_loop().call_later(CLOSED_WITHIN_S, writer.transport.abort)
        return closed

    def send(self, request: Any, expect_response: bool = True) -> Any:
        try:
            response = super().send(request, expect_response)
        except RuntimeError as error:
            raise self._broken(error) from error
        return response if self._client is not None else self._closed_if_cancelled(response)

    async def _closed_if_cancelled(self, response: Any) -> Any:
        try:
            return await response
        except asyncio.CancelledError:
            self.close()
            raise

    @property
    def _client(self) -> Any:
        """The client that keeps the connection; None for the one that a client starts with."""
        return getattr(self._on_close_cb, "__self__", None)

    def refuse_closed_client(self) -> None:
        """Close the connection if its client was closed meanwhile. Raises KafkaConnectionError."""
        client = self._client
        if client is not None and client._sync_task is None:
            self.close()
            raise KafkaConnectionError("the client is closed")

    def _send_sasl_token(self, payload: bytes, expect_response: bool = True) -> Any:
        try:
            return super()._send_sasl_token(payload, expect_response)
        except RuntimeError as error:
            raise self._broken(error) from error

    def _broken(self, error: RuntimeError) -> KafkaConnectionError:
        """Close the connection, as aiokafka does after an OSError: pending requests fail, the next one reconnects."""
        self.close(reason=CloseReason.CONNECTION_BROKEN, exc=error)
        return KafkaConnectionError(f"Connection at {self.host}:{self.port} broken: {error}")


async def _create_conn(host: str, port: int, **options: Any) -> _Connection:
    connection = _Connection(host, port, **options)
    await connection.connect()
    connection.refuse_closed_client()
    return connection


def _replace_create_conn() -> None:
    aiokafka.client.create_conn = _create_conn
