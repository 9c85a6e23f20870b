"""The rate limits: of a client, of a user, of an address before login, and of failed logins.

Invariants:
(1) a game server's requests for a user and the player's own requests count in different buckets, so that a player
    cannot use up what the game server needs to settle that player's bets; nor can another client: each counts its own
    requests for a user;
(2) a failed login counts before its secret is checked, so that many at once do not pass together; one that succeeds
    is given back;
(3) a login is slowed for one client from one address. There is no limit for a client over all addresses: with it,
    strangers could keep a client from its login. A secret that the service made cannot be guessed;
(4) each process decides alone, without waiting. Processes that share a Redis add up what they have spent each
    ``ADD_UP_S``: in any T seconds N nodes together allow at most
    ``burst + per_s × T + (N − 1) × (burst + per_s × ADD_UP_S)``, and ``per_s`` a second in the long run. Without
    Redis, or while it does not respond, each node allows the whole limit.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Final

from msgspec import Struct

from api.identity.identity import PLAYER, Identity
from api.limits.buckets import Buckets, Limited, Policy
from api.limits.ports import SharedBuckets, SharedUnavailable
from ledger.pacing import RareWarnings

BURST_S: Final = 10
"""A bucket has room for so many seconds of its rate. Chosen: a game server that reconnects sends what waited."""
ADD_UP_S: Final = 0.1
"""Chosen: one round trip for all commands of this time, and no node is much behind the others."""
LOGINS_OF_ADDRESS: Final = 10
"""An address may fail so many times as often as one client from it. Chosen: several clients behind one proxy."""

_warnings: Final = RareWarnings(logging.getLogger(__name__), every_s=30.0)


class Rates(Struct, frozen=True):
    """The rates of the settings. 0: without limit."""

    client: int = 50_000
    """Requests and commands of a client a second. Chosen: more than one node accepts, in batches too."""
    user: int = 200
    """The same of a client for one user, and of a player."""
    address: int = 200
    """Requests without a valid token a second, from one address."""
    login_per_min: int = 10
    """Failed logins of one client from one address."""


class Limits:
    """The buckets of one process."""

    def __init__(
        self, rates: Rates, shared: SharedBuckets | None = None, *, clock_s: Callable[[], float] = monotonic
    ) -> None:
        """``shared``: where several nodes add up what they spend; the caller runs ``keep_adding_up``."""

        def each_second(name: str, rate: int) -> Buckets:
            return Buckets(Policy(name, rate, BURST_S * rate), clock_s, shared=shared is not None)

        def each_minute(name: str, rate: int) -> Buckets:
            return Buckets(Policy(name, rate / 60, rate), clock_s, shared=shared is not None)

        self.client = each_second("client", rates.client)
        self.user = each_second("user", rates.user)
        self.player = each_second("player", rates.user)
        self.address = each_second("address", rates.address)
        self.login = each_minute("login", rates.login_per_min)
        self.logins_of_address = each_minute("logins_of_address", LOGINS_OF_ADDRESS * rates.login_per_min)
        self._shared = shared
        self.is_shared: bool | None = None if shared is None else True
        """Whether the nodes' sums are known; None: this process is alone."""

    @property
    def all(self) -> Iterator[Buckets]:
        yield from (self.client, self.user, self.player, self.address, self.login, self.logins_of_address)

    def spend_address(self, address: str) -> Limited | None:
        """Count a request whose sender is not known. Limited, here and below: refuse it."""
        return self.address.spend(address)

    def give_back_address(self, address: str) -> None:
        """The sender of a request is known now: do not count it for its address."""
        self.address.give_back(address)

    def spend(self, identity: Identity, count: int = 1) -> Limited | None:
        """Count a request, or so many commands, for its client, or for the player who sent it."""
        if identity.role is None:
            return None  # login is off: this is loopback
        if identity.role == PLAYER:
            assert identity.user_id is not None, "a player has a user_id"
            return self.player.spend(identity.user_id, count)
        return self.client.spend(identity.client_id, count)

    def spend_user(self, identity: Identity, user_id: str, count: int = 1) -> Limited | None:
        """Count it for the client and the wallet in the path, or so many commands for the wallet that they name."""
        if identity.role is None or identity.role == PLAYER:
            return None
        return self.user.spend(f"{identity.client_id} {user_id}", count)

    def try_login(self, address: str, client_id: str) -> Limited | None:
        """Count a failed login. Limited: do not check the secret."""
        pair = f"{client_id} {address}"
        limited = self.login.spend(pair)
        if limited is None and (limited := self.logins_of_address.spend(address)) is not None:
            self.login.give_back(pair)
        return limited

    def give_back_login(self, address: str, client_id: str) -> None:
        """The login did not fail, or the secret was not checked."""
        self.login.give_back(f"{client_id} {address}")
        self.logins_of_address.give_back(address)

    async def keep_adding_up(self) -> None:
        """Add up what the nodes spend, until cancelled."""
        assert self._shared is not None, "this process is alone"
        while True:
            await asyncio.sleep(ADD_UP_S)
            await self.add_up(self._shared)

    async def add_up(self, shared: SharedBuckets) -> None:
        """Do it once. What is spent while ``shared`` is unavailable counts in this process only: later it would
        refuse a client for what it did long ago."""
        spent = {buckets.policy.name: (buckets, buckets.take_spent()) for buckets in self.all}
        keys = {f"{name}:{key}": seconds for name, (_, spent_s) in spent.items() for key, seconds in spent_s.items()}
        if not keys:
            return
        try:
            full_in_s = await shared.add(keys)
        except SharedUnavailable as error:
            self.is_shared = False
            _warnings.warn(
                "rate limits are not shared: each node allows the whole limit until Redis responds: %s", error
            )
            return
        self.is_shared = True
        for name, (buckets, spent_s) in spent.items():
            buckets.apply_shared_sums({key: full_in_s[f"{name}:{key}"] for key in spent_s})
