"""Two nodes that both believe that they own one partition, over a log whose appends may land late, or twice.

One run is one seed: clients send deposits, bets and strong reads of one wallet to either node, and retry under the
same id until they have a final response. The owner changes, each time with a higher generation; nodes learn of it
late or not at all, appends are delayed, and responses are lost. At the end all delayed appends land, and
`contradictions` compares the log with every final response. It tests the product; `fence_model.py` tests the design.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from ledger.core.commands import Command
from ledger.core.record import Head, decode
from ledger.errors import OutcomeUnknown, StaleHead
from ledger.memory.log import Appended, MemoryEventLog
from ledger.memory.state_store import MemoryStateStore
from ledger.node.node import Node
from ledger.node.owns_all import node_of_whole_log
from ledger.ports import NewRecord
from ledger.writer.requests import Accepted, AnyResponse, Refused, WalletRead
from unit.given import ASSETS, NOON, deposit, open_wallet, place_bet
from unit.node_in_memory import request_sha256

CLIENTS: Final = 14
STEPS: Final = 140


class HeldUpLog(MemoryEventLog):
    """Delays appends. A cancelled append may still land later, if it continues the chain then."""

    def __init__(self, appended: Appended, chance: random.Random) -> None:
        super().__init__(1, appended, shared=True)
        self._chance = chance
        self.late: list[tuple[Head, Sequence[NewRecord]]] = []
        self.landed_late = 0

    async def append(self, partition: int, after: Head, records: Sequence[NewRecord]) -> None:
        await self._delay()
        if self._chance.random() < 0.15:
            self.late.append((after, records))
            await self._delay()
            raise OutcomeUnknown("held up")
        self._land(partition, after, records)
        if self._chance.random() < 0.05:
            raise OutcomeUnknown("the response was lost")

    async def confirm(self, partition: int, head: Head) -> None:
        await self._delay()
        await super().confirm(partition, head)

    async def _delay(self) -> None:
        for _ in range(self._chance.choice((1, 1, 2, 5, 30))):
            await asyncio.sleep(0)

    def let_one_land(self) -> None:
        if not self.late:
            return
        after, records = self.late.pop(self._chance.randrange(len(self.late)))
        try:
            self._land(0, after, records)
            self.landed_late += 1
        except StaleHead:
            pass  # on a broker the record is in the topic, but is not an event


class Client:
    """Posts one command until it has a final response."""

    def __init__(self, command: Command | None) -> None:
        self.command = command
        self.response: AnyResponse = None
        self.called_at = 0
        """The number of events in the log when the call with the final response began."""
        self.responded_at = 0


class Run:
    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.appended = Appended(1)
        self.nodes: list[Node] = []
        self.logs: list[HeldUpLog] = []
        self.generation = 0
        self.spread = self.chance.choice((2, 10, 60))  # simultaneous requests are decided, and appended, together
        self.clients: list[Client] = []
        self.outcomes: Counter[str] = Counter()

    @property
    def events(self) -> int:
        return len(self.appended.records[0])

    async def play(self) -> None:
        starting = [self._new_owner()]
        clients = [asyncio.create_task(self._client(number)) for number in range(CLIENTS)]
        for _ in range(STEPS):
            await asyncio.sleep(0)
            happens = self.chance.random()
            if happens < 0.03 and len(self.nodes) < 5:
                starting.append(self._new_owner())
            elif happens < 0.15:
                self.chance.choice(self.logs).let_one_land()
        while not all(client.done() for client in clients):
            await asyncio.sleep(0)
            self.chance.choice(self.logs).let_one_land()
        for log in self.logs:
            while log.late:
                log.let_one_land()
        for task in (*clients, *starting):
            task.cancel()
        await asyncio.wait([*clients, *starting])
        for node in self.nodes:
            for writer in node.writers.values():
                if writer._task is not None:
                    writer._task.cancel()
            if node._checkpoints._task is not None:
                node._checkpoints._task.cancel()
        await asyncio.sleep(0.001)

    def _new_owner(self) -> "asyncio.Task[Any]":
        self.generation += 1
        log = HeldUpLog(self.appended, self.chance)
        node = node_of_whole_log(log, MemoryStateStore(), lambda: NOON, ASSETS, generation=self.generation)
        self.logs.append(log)
        self.nodes.append(node)
        return asyncio.get_running_loop().create_task(self._start(node))

    async def _start(self, node: Node) -> None:
        try:
            await node.start()
        except Exception as error:  # noqa: BLE001 - superseded during its start
            self.outcomes[type(error).__name__] += 1

    async def _client(self, number: int) -> None:
        chance = random.Random(self.chance.random())
        kind = chance.random()
        if number == 0:
            command: Command | None = open_wallet()
        elif kind < 0.35:
            command = deposit(chance.randint(1, 5), f"o{number}")
        elif kind < 0.85:
            command = place_bet(chance.randint(1, 8), f"b{number}")
        else:
            command = None
        client = Client(command)
        self.clients.append(client)
        for _ in range(chance.randrange(self.spread)):
            await asyncio.sleep(0)
        while True:
            node = self.nodes[-1] if chance.random() < 0.6 else chance.choice(self.nodes)
            client.called_at = self.events
            if 0 not in node.writers:
                await asyncio.sleep(0)
                continue
            posting = asyncio.ensure_future(
                node.wallet("u1") if command is None else node.post(command, request_sha256(command), "local")
            )
            steps = chance.choice((5, 20, 10_000))
            while not posting.done() and steps:
                steps -= 1
                await asyncio.sleep(0)
            if not posting.done():
                self.outcomes["given up"] += 1  # it may still be decided; the client does not read the response
                posting.add_done_callback(asyncio.Future.exception)
                continue
            response = posting.result()
            self.outcomes[getattr(response, "reason", type(response).__name__)] += 1
            if isinstance(response, Accepted | Refused | WalletRead):
                client.response, client.responded_at = response, self.events
                return
            for _ in range(chance.randrange(20)):
                await asyncio.sleep(0)

    def contradictions(self) -> set[str]:
        """The contradictions between the log and the final responses."""
        found: set[str] = set()
        events = [decode(record) for record in self.appended.records[0]]
        cash = [0]
        for decoded in events:
            change = sum(amount for account, _, amount in decoded.event.postings if account == "wallet/u1/cash")
            cash.append(cash[-1] + change)
        commands = Counter((event.user_id, event.command_id) for _, _, event in events)
        if max(commands.values(), default=1) > 1:
            found.add("doubled")
        if min(cash) < 0:
            found.add("overdrawn")
        for client in self.clients:
            response, moments = client.response, range(client.called_at, client.responded_at + 1)
            if isinstance(response, Accepted):
                seq = response.position.seq
                if seq > len(events) or events[seq - 1].event != response.event:
                    found.add("success without its event")
            elif isinstance(response, Refused):
                assert client.command is not None
                if commands["u1", client.command.command_id]:
                    found.add("refused, but in the log")
                amount = getattr(client.command, "stake", None)
                enough = amount is not None and all(cash[n] >= amount for n in moments if n < len(cash))
                if enough and response.rejection.code == "insufficient_funds":
                    found.add("a wrong refusal")
            elif isinstance(response, WalletRead):
                balance = response.wallet.balances.get("INR")
                if all(cash[n] != (balance.cash if balance else 0) for n in moments if n < len(cash)):
                    found.add("a stale read")
        return found
