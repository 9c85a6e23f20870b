"""Which adapters login, keys and rate limits use; a part of the container."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing
from time import time
from typing import NamedTuple

from dishka import Provider, Scope, from_context, provide

from api.composition.first_client import create_first
from api.composition.keys import make_keys, master_keys_of
from api.composition.settings import MEMORY, SQLITE, Settings
from api.http.limiter import Limiter
from api.identity.clients import Clients
from api.identity.database import FILE as IDENTITY
from api.identity.database import IdentityDatabase
from api.identity.database_keys import DatabaseKeyStore
from api.identity.hashing import SecretHasher
from api.identity.keys import Keys
from api.identity.login import Access, Login
from api.identity.master_key import MasterKeys
from api.identity.revocations import Revocations
from api.identity.store import DatabaseIdentityStore
from api.identity.tables import METADATA as IDENTITY_TABLES
from api.identity.tokens import Tokens
from api.limits.limits import Limits
from api.limits.memory import NoncesInMemory
from api.limits.signatures import SignedRequests
from api.webhooks.guard import Guard
from api.webhooks.ports import WebhookStore
from api.webhooks.sender import Log
from api.webhooks.store import DatabaseWebhookStore
from api.webhooks.webhooks import POLL_S, Webhooks
from ledger import background
from ledger.node.node import Node
from ledger.peers.log_view import LogView
from ledger.ports import Clock
from ledger.sqlite.folder import FolderLock


class AvailableKeys(NamedTuple):
    """The keys of the service, and what wraps them; None: it has no master key."""

    keys: Keys | None
    masters: MasterKeys | None = None


class IdentityDatabases(NamedTuple):
    """Two pools of connections to one database, so that logins, which need no token, delay nothing else."""

    logins: IdentityDatabase
    keys: IdentityDatabase
    """Also of revocations: if these cannot be read, no token is accepted."""


class AvailableWebhooks(NamedTuple):
    """The webhooks of the service; None: it has no master key."""

    webhooks: Webhooks | None


class Limiting(NamedTuple):
    """Rate limits and the check of signatures."""

    limiter: Limiter | None
    """None: ``STAKELOG_AUTH=off``."""


class AccessParts(Provider):
    """Login, keys and limits, of every service."""

    scope = Scope.APP
    settings = from_context(Settings)

    @provide
    async def identity(self, settings: Settings, _: FolderLock) -> AsyncIterator[IdentityDatabases]:
        """Not opened before their first use."""
        databases = IdentityDatabases(identity_database(settings), identity_database(settings))
        yield databases
        for database in databases:
            await database.close()

    @provide
    async def limiter(self, settings: Settings, _: FolderLock) -> AsyncIterator[Limiting]:
        """Started. Without a Redis each process has limits and nonces of its own."""
        if not settings.auth:
            yield Limiting(None)
            return
        if settings.cache == MEMORY:
            limits, nonces = Limits(settings.rates), NoncesInMemory()
            signed = SignedRequests(nonces, since_s=time())
            yield Limiting(Limiter(limits, signed, settings.trusted_proxies))
            return
        from api.limits.redis import RedisBuckets, RedisNonces
        from projections.caching.redis_client import RedisClient

        client = RedisClient(settings.cache, connections=2)
        limits = Limits(settings.rates, RedisBuckets(client))
        adding = background.keep(limits.keep_adding_up, "rate-limits")
        yield Limiting(Limiter(limits, SignedRequests(RedisNonces(client)), settings.trusted_proxies))
        adding.cancel()
        await asyncio.wait({adding})
        await client.close()

    @provide
    async def keys(
        self, settings: Settings, databases: IdentityDatabases, clock: Clock
    ) -> AsyncIterator[AvailableKeys]:
        """Started."""
        store = DatabaseKeyStore(databases.keys)
        masters = await master_keys_of(settings, store)
        if masters is None:
            yield AvailableKeys(None)
            return
        keys = make_keys(store, masters, clock)
        await keys.ring.start()
        yield AvailableKeys(keys, masters)
        await keys.ring.stop()

    @provide
    async def access(
        self, settings: Settings, databases: IdentityDatabases, available: AvailableKeys, clock: Clock
    ) -> AsyncIterator[Access]:
        """Started. Without its database no token is accepted; it is tried again."""
        if not settings.auth:
            yield Access(None)
            return
        assert available.keys is not None, "with login there is a master key"
        keys = available.keys.ring
        store = DatabaseIdentityStore(databases.logins)
        with closing(SecretHasher()) as hasher:
            clients = Clients(store, clock, hasher, settings.games)
            revocations = Revocations(
                DatabaseIdentityStore(databases.keys),
                clock,
                before=lambda: create_first(clients, settings.admin_secret),
            )
            tokens = Tokens(
                store, keys, revocations, clock, issuer=settings.address, any_issuer=settings.issuer is None
            )
            await revocations.start()
            yield Access(Login(clients, tokens, revocations, keys, settings.address, settings.secure_cookies))
            await revocations.stop()

    @provide
    async def webhooks(
        self, settings: Settings, available: AvailableKeys, node: Node, log_view: LogView, clock: Clock
    ) -> AsyncIterator[AvailableWebhooks]:
        """Started. They have a pool of connections of their own: their saves delay no login."""
        if available.masters is None:
            yield AvailableWebhooks(None)
            return

        def ends() -> dict[int, int]:
            if node.absent_for >= 1:
                return {}  # other nodes may own its partitions now
            return {partition: end.seq for partition, end in log_view.local_ends().items()}

        store: WebhookStore = DatabaseWebhookStore(identity_database(settings))
        webhooks = Webhooks(
            store,
            available.masters,
            clock,
            Guard(settings.webhook_networks),
            Log(ends, log_view.records),
            log_view.heads,
            poll_s=None if settings.log == SQLITE else POLL_S,
        )
        webhooks.start()
        yield AvailableWebhooks(webhooks)
        await webhooks.stop()


def identity_database(settings: Settings) -> IdentityDatabase:
    """The database of clients, tokens and keys."""
    where = settings.data / IDENTITY if settings.identity == SQLITE else settings.identity
    return IdentityDatabase(where, IDENTITY_TABLES)
