"""Secrets of clients: how they are made, hashed and checked.

argon2id, off the event loop, on few threads: a flood of logins takes no more memory and no more of the processor than
these. The event loop never waits for a hash.
"""

import asyncio
import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from api.identity.identity import SECRET_MAX
from api.identity.waiting import TooManyLogins

THREADS: Final = 2
"""Chosen: as many as a small machine has cores, so that commands still get one."""
WAITING_MAX: Final = 64
"""Logins that wait for a thread. Chosen: the last of them waits a second or two."""
_HASHER: Final = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
"""The parameters that OWASP recommends: 19 MiB, two passes. 20 ms on one core."""


def make_secret() -> str:
    """256 random bits."""
    return secrets.token_urlsafe(32)


class SecretHasher:
    """Hashes and checks secrets on a bounded pool of threads."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, "stakelog-argon2")
        self._waiting = 0
        # Its secret is not kept. The check of an unknown client takes as long as that of a known one.
        self._of_no_client = _HASHER.hash(make_secret())

    async def hash(self, secret: str) -> str:
        """Raises TooManyLogins."""
        return await self._run(secret, None)

    async def verify(self, secret: str, secret_hash: str | None) -> bool:
        """Whether the secret is the one that was hashed. ``secret_hash`` is None where there is no such client: it
        takes as long. Raises TooManyLogins."""
        checked = await self._run(secret[:SECRET_MAX], secret_hash or self._of_no_client)
        return bool(checked) and secret_hash is not None and len(secret) <= SECRET_MAX

    async def _run(self, secret: str, secret_hash: str | None) -> str:
        if self._waiting >= WAITING_MAX:
            raise TooManyLogins
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, _work, secret, secret_hash)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        self._threads.shutdown()


def _work(secret: str, secret_hash: str | None) -> str:
    """The hash of the secret; or whether it has this hash: the hash, or an empty text."""
    if secret_hash is None:
        return _HASHER.hash(secret)
    try:
        _HASHER.verify(secret_hash, secret)
    except (VerificationError, InvalidHashError):
        return ""
    return secret_hash
