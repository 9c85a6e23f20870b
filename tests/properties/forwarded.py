"""Clients call any node, nodes forward to each other, and every kind of failure happens between them, on one log.

One run is one seed: partitions change hands, nodes crash and come back, calls are lost, late, slow or lose their
responses, appends have unknown outcomes, nodes learn of owners late, and their clocks differ by up to the allowed
skew. Clients post commands and batches to any node, and retry under the same ids, until they have a final response.
At the end `contradictions` reads the log and every final response. `Rules` says which rules of the
product hold in the run.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

from ledger.core.commands import Command, Deposit, OpenWallet
from ledger.core.record import decode
from ledger.errors import OutcomeUnknown
from ledger.memory.log import Failure
from ledger.peers.forwarding import CALL_S, SKEW_S, Forwarding, _Group
from ledger.peers.handler import PeerHandler
from ledger.writer.requests import Accepted, AnyResponse, Failed, Refused, WalletRead
from unit.cluster_in_memory import ClusterInMemory, MemoryPeers, Site, Trouble
from unit.given import deposit, open_wallet, place_bet

CLIENTS: Final = 12
STEPS: Final = 40
PARTITIONS: Final = 2
NODES: Final = ("a", "b", "c")
_AHEAD_US_MAX: Final = 450_000


class Rules(Struct, frozen=True):
    """Each is a rule of the product. Without any one of them some runs must fail."""

    undecided: bool = True
    """A refusal is not final while an earlier call has no response."""
    wait: bool = True
    """`outcome_unknown` is given only once nothing is undecided any more."""
    deadline: bool = True
    """An owner decides nothing after its deadline."""
    dry_run_only: bool = True
    """Several undecided commands of a wallet are not posted again: dry runs look for their events."""


class Removed:
    """A context manager: inside its block the product lacks some rules."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._kept: list[tuple[Any, str, Any]] = []

    def __enter__(self) -> None:
        if not self._rules.undecided:
            self._put(Forwarding, "_mark_undecided", lambda *_: None)
        if not self._rules.wait:
            close_after: Any = Forwarding._close_after
            self._put(Forwarding, "_close_after", lambda ours, _, requests: close_after(ours, 0, requests))
        if not self._rules.deadline:
            decide: Any = PeerHandler.decide
            self._put(PeerHandler, "decide", lambda ours, requests, _: decide(ours, requests, 2**60))
        if not self._rules.dry_run_only:
            self._put(_Group, "to_send", lambda group: [forwarded.request for forwarded in group.requests])

    def _put(self, owner: Any, name: str, value: Any) -> None:
        self._kept.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)

    def __exit__(self, *_: object) -> None:
        for owner, name, value in reversed(self._kept):
            setattr(owner, name, value)


class FinalResponse(Struct):
    """A final response, and the number of events in the wallet's partition at the call and at the response."""

    command: Command | None
    response: AnyResponse
    called_at: int
    responded_at: int


class Run:
    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.responses: list[FinalResponse] = []
        self.requests: list[tuple[Sequence[Command], int, int]] = []
        """The commands of one call, and the numbers of the wallet's events before and after it."""
        self.outcomes: Counter[str] = Counter()
        self.cluster: ClusterInMemory
        self.read_at_the_end: dict[str, int] = {}

    async def play(self) -> None:
        chance = self.chance
        self.cluster = ClusterInMemory(PARTITIONS, 3)
        self.cluster.ahead_us = {name: chance.randint(-_AHEAD_US_MAX, _AHEAD_US_MAX) for name in NODES}
        async with self.cluster as cluster:
            users = [cluster.user(partition) for partition in range(PARTITIONS)]
            for user_id in users:
                await self._final_responses([open_wallet(user_id=user_id)])
            clients = [asyncio.create_task(self._client(chance.choice(users))) for _ in range(CLIENTS)]
            for _ in range(STEPS):
                await asyncio.sleep(chance.choice((0.001, 0.01, 0.1, 0.4)))
                await self._happens()
            await self._mend()
            await asyncio.gather(*clients)
            await asyncio.sleep(2 * (CALL_S + SKEW_S))  # late calls have arrived
            for user_id in users:
                self.read_at_the_end[user_id] = await cluster.sites[chance.choice(list(cluster.sites))].cash(user_id)

    # --- what goes wrong -------------------------------------------------------------------------------------------

    async def _happens(self) -> None:
        cluster, chance = self.cluster, self.chance
        cluster.late_s = chance.choice((0.05, 0.5, 1.5, CALL_S - 0.1, CALL_S + 1.4, CALL_S + 2))
        cluster.slow_s = chance.choice((0.05, 0.5, 1.5))
        cluster.agreement.away = chance.random() < 0.1
        for site in cluster.sites.values():
            while len(site.peers.troubles) < 6:
                site.peers.troubles.append(chance.choice((*Trouble, Trouble.NONE, Trouble.NONE, Trouble.LATE)))
        happens = chance.random()
        partition = chance.randrange(PARTITIONS)
        if happens < 0.25:
            await cluster.give([partition], chance.choice(list(cluster.sites)))
        elif happens < 0.35:
            await cluster.give([partition], None)
        elif happens < 0.45 and len(cluster.sites) == len(NODES):
            name = chance.choice(NODES)
            self._keep_late(cluster[name].peers)
            await cluster.crash(name)
        elif happens < 0.6:
            await self._come_back()
        elif happens < 0.7:
            site = chance.choice(list(cluster.sites.values()))
            site.log.fail_next.append(Failure(OutcomeUnknown("no response"), lands=chance.random() < 0.5))

    def _keep_late(self, peers: MemoryPeers) -> None:
        """Calls in flight arrive, even if their sender dies."""
        for site in self.cluster.sites.values():
            site.peers.late |= peers.late

    async def _come_back(self) -> None:
        for name in NODES:
            if name not in self.cluster.sites:
                await self.cluster.start(name)
                gone = [number for number, owner in self.cluster.agreement.owners.items() if owner == name]
                await self.cluster.give(gone, self.chance.choice(list(self.cluster.sites)))

    async def _mend(self) -> None:
        await self._come_back()
        self.cluster.agreement.away = False
        for site in self.cluster.sites.values():
            site.peers.troubles.clear()
            site.log.fail_next.clear()
        for partition in range(PARTITIONS):
            await self.cluster.give([partition], self.chance.choice(NODES))

    # --- clients ---------------------------------------------------------------------------------------------------

    async def _client(self, user_id: str) -> None:
        chance = random.Random(self.chance.random())
        for _ in range(chance.randint(2, 6)):
            await asyncio.sleep(chance.choice((0, 0.01, 0.3, 1)))
            if chance.random() < 0.15:
                await self._read(user_id)
            else:
                await self._final_responses(
                    [self._command(user_id, chance) for _ in range(chance.choice((1, 1, 1, 3, 5)))]
                )

    def _command(self, user_id: str, chance: random.Random) -> Command:
        name = f"{user_id}-{chance.random()}"
        if chance.random() < 0.4:
            return deposit(chance.randint(1, 6), f"o{name}", user_id=user_id)
        return place_bet(chance.randint(1, 6), f"b{name}", user_id=user_id)

    async def _final_responses(self, commands: list[Command]) -> None:
        """Post the commands, in this order, until each has a final response. A next call leaves finished ones out."""
        user_id = commands[0].user_id
        while commands:
            called_at, site = self._events(user_id), self._any_site()
            responses: list[AnyResponse] | None = await self._unless_it_dies(site, site.post_many(*commands))
            if responses is None:
                # A client without a response waits as long as the command may still be decided.
                self.outcomes["connection lost"] += 1
                await asyncio.sleep(CALL_S + 2 * SKEW_S)
            self.requests.append((commands, called_at, self._events(user_id)))
            if responses is None:
                continue
            left = []
            for command, response in zip(commands, responses, strict=True):
                self.outcomes[getattr(response, "reason", type(response).__name__)] += 1
                if isinstance(response, Failed):
                    left.append(command)
                else:
                    self.responses.append(FinalResponse(command, response, called_at, self._events(user_id)))
            commands = left
            await asyncio.sleep(self.chance.choice((0, 0.01, 0.2)))

    async def _read(self, user_id: str) -> None:
        called_at, site = self._events(user_id), self._any_site()
        read = await self._unless_it_dies(site, site.node.wallet(user_id))
        if isinstance(read, WalletRead):
            self.outcomes["WalletRead"] += 1
            self.responses.append(FinalResponse(None, read, called_at, self._events(user_id)))

    def _any_site(self) -> Site:
        return self.chance.choice(list(self.cluster.sites.values()))

    async def _unless_it_dies(self, site: Site, response: Any) -> Any:
        """Returns the response; None if the node dies before it."""
        responding = asyncio.ensure_future(response)
        dying = asyncio.ensure_future(site.gone.wait())
        await asyncio.wait({responding, dying}, return_when=asyncio.FIRST_COMPLETED)
        dying.cancel()
        if responding.done():
            return responding.result()
        responding.cancel()
        return None

    def _events(self, user_id: str) -> int:
        return len(self.cluster.events(user_id))

    # --- checks ----------------------------------------------------------------------------------------------------

    def contradictions(self) -> set[str]:
        """The contradictions between the log and the final responses."""
        found: set[str] = set()
        events = [decode(record) for records in self.cluster.appended.records for record in records]
        names = [event.command_id for _, _, event in events]
        taken = Counter(names)
        if max(Counter((event.user_id, event.command_id) for _, _, event in events).values()) > 1:
            found.add("doubled")
        cash: dict[str, list[int]] = {user_id: [0] for user_id in self.read_at_the_end}
        for _, _, event in events:
            for user_id, balances in cash.items():
                if event.user_id == user_id:
                    account = f"wallet/{user_id}/cash"
                    balances.append(balances[-1] + sum(p[2] for p in event.postings if p[0] == account))
        for user_id, balances in cash.items():
            if min(balances) < 0:
                found.add("overdrawn")
            if balances[-1] != self.read_at_the_end[user_id]:
                found.add("a wallet that differs from the log")
        for final in self.responses:
            found |= self._contradiction(final, events, taken, cash)
        for commands, called_at, responded_at in self.requests:
            user_id = commands[0].user_id
            since = [e.command_id for _, _, e in events if e.user_id == user_id][called_at:responded_at]
            places = [since.index(command.command_id) for command in commands if command.command_id in since]
            if places != sorted(places):
                found.add("out of order")
        return found

    def _contradiction(
        self, final: FinalResponse, events: Sequence[Any], taken: Counter[str], cash: dict[str, list[int]]
    ) -> set[str]:
        response, moments = final.response, slice(final.called_at, final.responded_at + 1)
        if isinstance(response, Accepted):
            places = {place: event for place, _, event in events}
            return set() if places.get(response.position) == response.event else {"success without its event"}
        if isinstance(response, WalletRead):
            balance = response.wallet.balances.get("INR")
            known = cash[response.wallet.user_id][moments]
            return set() if (balance.cash if balance else 0) in known else {"a stale read"}
        assert isinstance(response, Refused), response
        assert final.command is not None
        assert not isinstance(final.command, OpenWallet | Deposit), response
        if taken[final.command.command_id]:
            return {"refused, but in the log"}
        stake = getattr(final.command, "stake", 0)
        enough = all(balance >= stake for balance in cash[final.command.user_id][moments])
        return {"a wrong refusal"} if enough else set()
