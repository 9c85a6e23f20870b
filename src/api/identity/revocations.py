"""Revoked tokens that have not expired yet, in the memory of each process; and the log of changes made elsewhere.

Each process reads new revocations from the store every second, so a revocation reaches all of them within 5 s. A
process that could not read them for 30 s accepts no token at all: a stolen token that is revoked must not be valid
again because the database is away. With them it reads what ``stakelog clients`` has done on a machine, and logs it:
the service has no other part in that.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final

from api.identity.ports import IdentityStore, IdentityUnavailable
from ledger import background
from ledger.pacing import RareWarnings
from ledger.ports import Clock

POLL_S: Final = 1.0
"""Chosen: with a slow database and a busy process still less than the contract's 5 s."""
STALE_S: Final = 30.0
"""Chosen: a database that restarts costs no request; one that is away longer ends all access by tokens."""
_CLEAN_EVERY_S: Final = 600.0

_log = logging.getLogger(__name__)


class Revocations:
    """What the store says is revoked."""

    def __init__(
        self,
        store: IdentityStore,
        clock: Clock,
        *,
        before: Callable[[], Awaitable[None]] | None = None,
        poll_s: float = POLL_S,
        stale_s: float = STALE_S,
    ) -> None:
        """``before``: what must succeed once before the first read."""
        self._store, self._clock, self._before = store, clock, before
        self._poll_s, self._stale_s = poll_s, stale_s
        self._until_us: dict[tuple[str | None, str | None], int] = {}
        """(client_id, None) or (None, family) → when its last access token has expired."""
        self._after = 0
        self._changes_after: int | None = None
        """None: nothing was read yet. Changes before the start are not logged."""
        self._read_s = self._cleaned_s = float("-inf")
        self._task: asyncio.Task[None] | None = None
        self._warnings = RareWarnings(_log)

    async def start(self) -> None:
        """Read them once, and then every ``POLL_S``. A database that is away is tried again."""
        await self._try()
        self._task = background.keep(self._forever, "revocations")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    @property
    def known(self) -> bool:
        """Whether they were read within ``stale_s``."""
        return monotonic() - self._read_s < self._stale_s

    def has(self, client_id: str, family: str) -> bool:
        """Whether tokens of this client or family are revoked."""
        until_us = self._until_us
        return bool(until_us) and ((client_id, None) in until_us or (None, family) in until_us)

    async def read(self) -> None:
        """Read the new ones. Raises IdentityUnavailable."""
        began_s = monotonic()
        if self._before is not None:
            await self._before()
            self._before = None
        for one in await self._store.revocations(self._after):
            self._until_us[one.client_id, one.family] = one.expires_at_us
            self._after = max(self._after, one.number)
        self._read_s = began_s
        changes = await self._store.changes(self._changes_after or 0)
        for change in changes if self._changes_after is not None else ():
            if change.origin == "machine":
                _log.info("%s, on the machine, %s the client %s", change.by, change.what, change.client_id)
        self._changes_after = max((change.number for change in changes), default=self._changes_after or 0)
        if began_s - self._cleaned_s > _CLEAN_EVERY_S:
            self._cleaned_s = began_s
            now_us = self._clock()
            await self._store.delete_expired(now_us)
            self._until_us = {key: until_us for key, until_us in self._until_us.items() if until_us > now_us}

    async def _try(self) -> None:
        try:
            await self.read()
        except IdentityUnavailable as error:
            left = "" if self.known else "; no token is accepted until it can be read"
            self._warnings.warn("%s%s", error, left)

    async def _forever(self) -> None:
        while True:
            await asyncio.sleep(self._poll_s)
            await self._try()
