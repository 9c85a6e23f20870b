"""The records of a running service, for an audit over HTTP: ``/v1/partitions`` and ``/v1/events``.

If the service responded before, or says that it cannot respond yet, a failed request is repeated for
``_RETRY_FOR_S``. Repeating a read changes nothing, and the audit verifies what it reads.
"""

from collections.abc import Iterator
from http import HTTPStatus
from typing import Final

import msgspec
from msgspec import Struct

from api.cli.audit.sources import CannotAudit
from http_client.client import Client
from http_client.login import Credentials
from http_client.paths import page_path
from http_client.responses import ClientError, UnexpectedResponse
from http_client.retry import Policy
from ledger.core.position import partition_of
from ledger.core.record import records_of_user
from ledger.ports import StoredRecord

_RETRY_FOR_S: Final = 30.0
"""Chosen: a partition that changes its owner, or a node that restarts behind a balancer, takes some seconds."""
RECORDS: Final = Policy(within_s=_RETRY_FOR_S, pause_s=0.2, pause_s_max=5.0, first_connection=False, timeout_s=60.0)


class _SealsPage(Struct):
    items: list[msgspec.Raw]
    """The seals as raw bytes: a seal's hash is over its bytes."""
    next_cursor: str | None


_decode_seals: Final = msgspec.json.Decoder(_SealsPage).decode


class HttpRecords:
    """All methods raise CannotAudit."""

    def __init__(self, url: str, credentials: Credentials | None = None) -> None:
        self._url, self._logs_in = url, credentials is not None
        self._client = client_of(url, RECORDS, credentials)
        self._partitions: int | None = None

    @property
    def partitions(self) -> int:
        if self._partitions is None:
            self.ends()
        assert self._partitions is not None
        return self._partitions

    def ends(self) -> list[int]:
        """The last seq of each partition."""
        try:
            items = self._client.get("/v1/partitions").expect(200).json()["items"]
            ends = [int(item["seq"]) for item in sorted(items, key=lambda item: int(item["partition"]))]
        except (ClientError, ValueError, KeyError, TypeError) as error:
            raise self._unreadable(error) from error
        self._partitions = len(ends)
        return ends

    def read(self, partition: int, to_seq: int, from_seq: int = 1) -> Iterator[list[StoredRecord]]:
        """The partition's records of these seqs, in order, in pages; fewer if the log ends before ``to_seq``."""
        try:
            for page in self._client.events(partition, from_seq, to_seq):
                yield [StoredRecord(record) for record in page]
        except ClientError as error:
            raise self._unreadable(error) from error

    def seals(self) -> list[bytes]:
        """The lines of the service's seals, the oldest first."""
        lines: list[bytes] = []
        cursor: str | None = None
        try:
            while True:
                page = _decode_seals(
                    self._client.get(page_path("/v1/seals", {}, limit=200, cursor=cursor)).expect(200).body
                )
                lines += [bytes(item) for item in page.items]
                cursor = page.next_cursor
                if cursor is None:
                    return lines[::-1]
        except (ClientError, msgspec.MsgspecError) as error:
            raise self._unreadable(error) from error

    def keys(self) -> bytes | None:
        """The service's JWK Set; None: it has none."""
        try:
            response = self._client.get("/.well-known/jwks.json")
            return None if response.status == 404 else response.expect(200).body
        except ClientError as error:
            raise self._unreadable(error) from error

    def of_user(self, user_id: str) -> Iterator[list[bytes]]:
        """The wallet's records in order, in pages. A service has no index of them: this reads the whole partition."""
        ends = self.ends()
        partition = partition_of(user_id, len(ends))
        if partition >= len(ends):
            return
        for page in self.read(partition, ends[partition]):
            if found := records_of_user((stored[0] for stored in page), user_id):
                yield found

    def close(self) -> None:
        self._client.close()

    def _unreadable(self, error: Exception) -> CannotAudit:
        if isinstance(error, UnexpectedResponse):
            asks = error.response.status == HTTPStatus.UNAUTHORIZED and not self._logs_in
            return CannotAudit(f"{error}; give --login FILE" if asks else str(error))
        return CannotAudit(f"{self._url} cannot be read as a stakelog service: {error}")


def client_of(url: str, policy: Policy, credentials: Credentials | None) -> Client:
    """Raises CannotAudit."""
    try:
        return Client(url, policy, credentials=credentials)
    except ClientError as error:
        raise CannotAudit(str(error)) from error
