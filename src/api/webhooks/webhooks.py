"""All webhooks of this process: the endpoints as clients change them, and a ``Sender`` for each enabled one.

Invariants:
(1) without an endpoint nothing runs. A process that shares its log with others checks every ``POLL_S`` whether
    another one has changed an endpoint. A process with a log of its own makes all changes itself, so it does not
    poll;
(2) a secret leaves this module once, when it is made; the store has it only wrapped by the master key.
"""

import asyncio
import logging
import random
import secrets
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from msgspec.structs import replace

from api.identity.key_store import StoredWebhookSecret, webhook_secret_name
from api.identity.master_key import MasterKeys
from api.webhooks.guard import Guard
from api.webhooks.ports import ENDPOINTS_MAX, Endpoint, Letter, StoredEndpoint, Totals, WebhookStore
from api.webhooks.sender import Counts, Log, Secret, Sender
from api.webhooks.signing import new_secret, shown
from ledger import background
from ledger.core.record import Head
from ledger.errors import LedgerError
from ledger.pacing import RareWarnings
from ledger.ports import Clock

POLL_S: Final = 2.0
"""Chosen: a change reaches all nodes within some seconds; it is two small queries."""
GIVE_UP_S: Final = 86_400
GIVE_UP_S_MAX: Final = 7 * 86_400
GRACE_S: Final = 86_400
"""How long the secret before a rotation still signs, unless the rotation says otherwise. Chosen."""
_AFTER_ERROR_S: Final = 1.0
_WARN_EVERY_S: Final = 60.0
_STOP_WITHIN_S: Final = 5.0
"""Chosen: enough to save, where the database responds. What is not saved is sent again."""

_log: Final = logging.getLogger(__name__)


class TooManyEndpoints(Exception):
    """There are ``ENDPOINTS_MAX`` already."""


class WithSecret(NamedTuple):
    endpoint: Endpoint
    secret: str
    """It is shown once."""


class Listed(NamedTuple):
    endpoint: Endpoint
    totals: Totals


class Webhooks:
    """Runs from ``start`` to ``stop``. Methods raise IdentityUnavailable."""

    def __init__(
        self,
        store: WebhookStore,
        masters: MasterKeys,
        clock: Clock,
        guard: Guard,
        log: Log,
        heads: Callable[[], Awaitable[Sequence[Head]]],
        *,
        poll_s: float | None,
        jitter: Callable[[], float] = random.random,  # noqa: S311 - it only spreads retries
    ) -> None:
        """``heads``: the present heads of all partitions, also of other nodes'. ``poll_s``: how often other processes
        may have changed an endpoint; None: there are none."""
        self._store, self._masters, self._clock, self.guard, self._log = store, masters, clock, guard, log
        self._heads, self._poll_s, self._jitter = heads, poll_s, jitter
        self.counts = Counts()
        self._senders: dict[str, Sender] = {}
        self._changed = asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None
        self._warnings = RareWarnings(_log)
        self._not_opened = RareWarnings(_log, every_s=_WARN_EVERY_S)
        self._unread_us: int | None = None
        """Since when the endpoints cannot be read for the first time; None: they were read."""
        self._unopened_us: dict[str, int] = {}
        """Endpoint whose secrets cannot be opened → since when."""

    def start(self) -> None:
        self._task = background.keep(self._watch, "webhooks")

    async def stop(self) -> None:
        """Save what is done, if that takes no longer than ``_STOP_WITHIN_S`` in all. Stopping again is harmless."""
        self._stopping = True
        self._changed.set()
        task, self._task = self._task, None
        if task is not None:
            # Not cancelled at once: it may be stopping a sender, whose last save would be lost.
            await asyncio.wait({task}, timeout=_STOP_WITHIN_S / 2)
            task.cancel()
            await asyncio.wait({task})
        try:
            async with asyncio.timeout(_STOP_WITHIN_S / 2):
                await self._stop_senders(list(self._senders))
        except TimeoutError:
            _log.warning("the webhooks could not save their last deliveries in time: these will be repeated")
        await self._store.close()

    @property
    def running(self) -> list[Endpoint]:
        """The endpoints that this process sends to, as it knows them."""
        return [sender.endpoint for sender in self._senders.values()]

    @property
    def lag_s(self) -> float:
        """The age of the oldest event of this process's partitions that an enabled endpoint has not got. Where none
        are known because nothing can be sent: for how long that has been so."""
        times = [sender.oldest_us for sender in self._senders.values()]
        times += [self._unread_us, *self._unopened_us.values()]
        oldest_us = min((time for time in times if time is not None), default=None)
        return 0.0 if oldest_us is None else max(0, self._clock() - oldest_us) / 1e6

    # --- the senders -----------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        was_read = False
        while not self._stopping:
            self._changed.clear()
            pause_s = self._poll_s
            try:
                stored = await self._store.endpoints()
                self._unread_us, was_read = None, True
                await self._follow(stored)
                if self._unopened_us:
                    pause_s = _AFTER_ERROR_S if pause_s is None else max(pause_s, _AFTER_ERROR_S)
            except LedgerError as error:
                if not was_read and self._unread_us is None:
                    self._unread_us = self._clock()
                self._warnings.warn("the webhooks cannot be read: %s", error)
                pause_s = _AFTER_ERROR_S
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._changed.wait()

    async def _follow(self, stored: Sequence[StoredEndpoint]) -> None:
        """Run a sender for each enabled endpoint as it is now, except for those whose secrets cannot be opened."""
        wanted = {one.endpoint.endpoint_id: one for one in stored if one.endpoint.enabled}
        await self._stop_senders(
            [
                endpoint_id
                for endpoint_id, sender in self._senders.items()
                if endpoint_id not in wanted or wanted[endpoint_id].endpoint != sender.endpoint
            ]
        )
        self._unopened_us = {one: since_us for one, since_us in self._unopened_us.items() if one in wanted}
        for endpoint_id, (endpoint, wrapped) in wanted.items():
            if endpoint_id in self._senders:
                continue
            now_us = self._clock()
            valid = [one for one in wrapped if one.until_us is None or now_us < one.until_us]
            try:
                keys = [Secret(self._masters.unwrap(one.wrapped, one.name), one.until_us) for one in valid]
            except LedgerError as error:
                self._unopened_us.setdefault(endpoint_id, now_us)
                self._not_opened.warn("nothing is sent to the webhook %s: %s", endpoint_id, error)
                continue
            self._unopened_us.pop(endpoint_id, None)
            sender = self._senders[endpoint_id] = Sender(
                endpoint, keys, self._store, self._log, self._clock, self.guard, self.counts, self._jitter
            )
            sender.start()

    async def _stop_senders(self, endpoint_ids: Sequence[str]) -> None:
        await asyncio.gather(*(self._senders.pop(endpoint_id).stop() for endpoint_id in endpoint_ids))

    # --- changes ---------------------------------------------------------------------------------------------------

    async def listed(self) -> list[Listed]:
        """All, by time of creation."""
        stored, totals = await self._store.endpoints(), await self._store.totals()
        nothing = Totals(0, 0, [])
        return [Listed(one.endpoint, totals.get(one.endpoint.endpoint_id, nothing)) for one in stored]

    async def add(
        self, url: str, types: tuple[str, ...] | None, give_up_s: int, enabled: bool, *, from_start: bool
    ) -> WithSecret:
        """``from_start``: it gets all events of the log; otherwise those from now on. Raises AddressRefused,
        TooManyEndpoints, LogUnavailable."""
        self.guard.check_url(url)
        heads = await self._heads()
        endpoint = Endpoint(f"wh_{secrets.token_hex(8)}", url, types, give_up_s, enabled, self._clock())
        stored, secret = self._new_secret(endpoint.endpoint_id, 1)
        cursors = [0 if from_start else head.seq for head in heads]
        if not await self._store.add(endpoint, stored, cursors):
            raise TooManyEndpoints(f"there are {ENDPOINTS_MAX} webhooks already")
        self._changed.set()
        return WithSecret(endpoint, secret)

    async def change(
        self, endpoint_id: str, url: str, types: tuple[str, ...] | None, give_up_s: int, enabled: bool
    ) -> Endpoint | None:
        """None: there is no such endpoint. Raises AddressRefused."""
        self.guard.check_url(url)
        stored = await self._stored(endpoint_id)
        if stored is None:
            return None
        changed = replace(stored.endpoint, url=url, types=types, give_up_s=give_up_s, enabled=enabled)
        found = await self._store.change(changed)
        self._changed.set()
        return changed if found else None

    async def rotate(self, endpoint_id: str, grace_s: int) -> str | None:
        """The new secret, which is shown once; the one before signs too for ``grace_s``. None: there is no such
        endpoint."""
        while (stored := await self._stored(endpoint_id)) is not None:
            last = stored.secrets[-1].number
            new, secret = self._new_secret(endpoint_id, last + 1)
            if await self._store.rotate(new, last, self._clock() + grace_s * 1_000_000):
                self._changed.set()
                return secret
            # Another rotation was faster: this one follows it.
        return None

    async def delete(self, endpoint_id: str) -> bool:
        """False: there is none."""
        found = await self._store.delete(endpoint_id)
        self._changed.set()
        return found

    # --- dead letters and replays ----------------------------------------------------------------------------------

    async def dead_letters(self, endpoint_id: str, after: tuple[int, int] | None, limit: int) -> list[Letter] | None:
        """By position, those after ``after``. None: there is no such endpoint."""
        if await self._stored(endpoint_id) is None:
            return None
        return await self._store.dead_letters(endpoint_id, after, limit)

    async def revive(self, endpoint_id: str, positions: Collection[tuple[int, int]] | None) -> int | None:
        """Send these dead letters again; None: all. Returns how many, None: there is no such endpoint."""
        if await self._stored(endpoint_id) is None:
            return None
        revived = await self._store.revive(endpoint_id, positions, self._clock())
        self._changed.set()
        return revived

    async def rewind(self, endpoint_id: str, from_seqs: Mapping[int, int]) -> bool:
        """Send again what is in these partitions from these seqs on. False: there is no such endpoint."""
        found = await self._store.rewind(endpoint_id, from_seqs)
        self._changed.set()
        return found

    async def _stored(self, endpoint_id: str) -> StoredEndpoint | None:
        stored = await self._store.endpoints()
        return next((one for one in stored if one.endpoint.endpoint_id == endpoint_id), None)

    def _new_secret(self, endpoint_id: str, number: int) -> tuple[StoredWebhookSecret, str]:
        secret = new_secret()
        wrapped = self._masters.wrap(secret, webhook_secret_name(endpoint_id, number))
        return StoredWebhookSecret(endpoint_id, number, wrapped), shown(secret)
