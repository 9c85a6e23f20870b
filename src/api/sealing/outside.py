"""Copies of the seals outside of the data folder, where who rewrites the log cannot rewrite them.

Invariants:
(1) copies are made in order, each at least once: a copy that fails is made again until it succeeds;
(2) after a restart the copies continue behind the last one that is known to have arrived. For a folder that is the
    last line of its file, for a URL the hash in ``seals.posted`` in the data folder.
"""

import asyncio
import os
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urlsplit

from ledger.core.record import EMPTY_SHA256
from ledger.operations.seals import SEALS, SealFile

if TYPE_CHECKING:
    from http_client.client import AsyncClient

POSTED: Final = "seals.posted"
_POST_WITHIN_S: Final = 30.0


class CopyFailed(Exception):
    """The copy was not made; it is made again later. The text says where and why."""


class Outside(Protocol):
    async def last(self) -> str:
        """The hash of the last seal that arrived; 64 zeros where none has. Raises CopyFailed."""
        ...

    async def copy(self, line: bytes) -> None:
        """Raises CopyFailed."""
        ...

    async def close(self) -> None: ...


def outside_of(target: str, data: Path, name: str = SEALS) -> Outside:
    """``target``: a folder, or an ``http(s)`` URL. ``name``: the file's in that folder."""
    if urlsplit(target).scheme in ("http", "https"):
        return UrlOutside(target, data / POSTED)
    return FolderOutside(Path(target) / name)


class FolderOutside:
    """A file in a folder, of the same form as that in the data folder."""

    def __init__(self, path: Path) -> None:
        self._file = SealFile(path)

    async def last(self) -> str:
        try:
            await asyncio.to_thread(self._file.open)
        except OSError as error:
            raise CopyFailed(f"{self._file.path}: {error.strerror}") from error
        return self._file.last_sha256

    async def copy(self, line: bytes) -> None:
        try:
            await asyncio.to_thread(self._file.append, line)
        except OSError as error:
            raise CopyFailed(f"{self._file.path}: {error.strerror}") from error

    async def close(self) -> None:
        """Nothing is open between two copies."""


class UrlOutside:
    """Each seal is the body of a POST. Any status from 200 to 299 means that it is kept."""

    def __init__(self, url: str, posted: Path) -> None:
        parts = urlsplit(url)
        self._address = f"{parts.scheme}://{parts.netloc}"
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._posted = posted
        self._client: AsyncClient | None = None

    async def last(self) -> str:
        try:
            return (await asyncio.to_thread(self._posted.read_text)).strip() or EMPTY_SHA256
        except FileNotFoundError:
            return EMPTY_SHA256
        except OSError as error:
            raise CopyFailed(f"{self._posted}: {error.strerror}") from error

    async def copy(self, line: bytes) -> None:
        from http_client.client import AsyncClient
        from http_client.responses import ClientError
        from http_client.retry import Policy

        try:
            if self._client is None:
                policy = Policy(within_s=0.0, statuses=frozenset(), timeout_s=_POST_WITHIN_S, connections=1)
                self._client = AsyncClient(self._address, policy)
            headers = {"content-type": "application/json"}
            response = await self._client.once("POST", self._path, body=line, headers=headers)
        except ClientError as error:
            raise CopyFailed(str(error)) from error
        if not 200 <= response.status < 300:
            raise CopyFailed(f"{self._address} returned status {response.status}")
        try:
            await asyncio.to_thread(_replace, self._posted, sha256(line).hexdigest())
        except OSError as error:
            raise CopyFailed(f"{self._posted}: {error.strerror}") from error

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()


def _replace(path: Path, text: str) -> None:
    """Write the file as a whole: a crash leaves the old text or the new one."""
    new = path.with_suffix(".new")
    with new.open("w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
