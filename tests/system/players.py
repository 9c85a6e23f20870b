"""Clients that bet under load, retry commands without a response, and remember every response.

Each client plays for wallets of its own, sends money and referrals to those of the others, and lets holds expire.
A command is retried under the same id until its final response: accepted or refused. `Books` checks a log from its
bytes and the clients' memory alone, without the product's code.
"""

import asyncio
import hashlib
import itertools
import json
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import msgspec

from system.service import Service

WALLETS_PER_CLIENT: Final = 8
HOLD_MAX_S: Final = 1.5
BATCH_MAX: Final = 40
_RETRY_S: Final = 0.05
_TIMEOUT: Final = aiohttp.ClientTimeout(total=20)
_CLOSED: Final = (aiohttp.ClientError, ConnectionError, TimeoutError)


class Acceptance(msgspec.Struct, frozen=True):
    """The body of an acceptance, its parts as they came over the wire."""

    position: str
    partition: int
    seq: int
    time_us: int
    type: str
    data: msgspec.Raw
    balances: msgspec.Raw
    head: str


@dataclass(eq=False)
class SentCommand:
    """A command, and what its client knows of it."""

    command: dict[str, Any]
    attempts: int = 0
    hits: int = 0
    acceptances: list[Acceptance] = field(default_factory=list)
    refusal: str | None = None
    failures: list[str] = field(default_factory=list)

    @property
    def identity(self) -> tuple[str, str]:
        return self.command["user_id"], self.command["command_id"]

    @property
    def is_final(self) -> bool:
        return bool(self.acceptances) or self.refusal is not None

    def hear(self, status: int, body: bytes, *, hit: bool) -> None:
        if status in (200, 201):
            self.acceptances.append(msgspec.json.decode(body, type=Acceptance))
            self.hits += hit
            return
        code = json.loads(body)["code"]
        if status < 500:
            self.refusal = code
        else:
            self.failures.append(code)


class _Item(msgspec.Struct):
    """One element of a batch's answer."""

    status: int
    idempotency_hit: bool = False
    result: msgspec.Raw = msgspec.Raw(b"")
    problem: msgspec.Raw = msgspec.Raw(b"")


_decode_items = msgspec.json.Decoder(list[_Item]).decode


class Crowd:
    """All clients of one service, wherever it listens at the moment."""

    def __init__(self, service: Service, seed: int, clients: int, *, patient: bool) -> None:
        """``patient`` clients retry until the final response; the others send each command once."""
        self.service = service
        self.patient = patient
        self.sent: list[SentCommand] = []
        self.opened: list[str] = []
        self.referrer_of: dict[str, str | None] = {}
        self.stop = False
        self._clients = [_Client(self, number, random.Random(f"{seed}/{number}")) for number in range(clients)]

    async def play(self) -> None:
        """Play until ``stop`` is set and all commands have a final response (unless ``patient``: were sent once)."""
        async with aiohttp.ClientSession(timeout=_TIMEOUT, connector=aiohttp.TCPConnector(limit=0)) as session:
            await asyncio.gather(*(client.play(session) for client in self._clients))

    async def post(self, session: aiohttp.ClientSession, sent: Sequence[SentCommand]) -> None:
        left = list(sent)
        while left:
            for one in left:
                one.attempts += 1
            try:
                if len(left) == 1:
                    await self._post_one(session, left[0])
                else:
                    await self._post_batch(session, left)
            except _CLOSED as error:
                for one in left:
                    one.failures.append(type(error).__name__)
            left = [one for one in left if not one.is_final] if self.patient else []
            if left:
                await asyncio.sleep(_RETRY_S)

    async def _post_one(self, session: aiohttp.ClientSession, sent: SentCommand) -> None:
        async with session.post(f"{self.service.url}/v1/commands", json=sent.command) as response:
            hit = response.headers.get("Idempotency-Hit") == "true"
            sent.hear(response.status, await response.read(), hit=hit)

    async def _post_batch(self, session: aiohttp.ClientSession, sent: Sequence[SentCommand]) -> None:
        commands = [one.command for one in sent]
        async with session.post(f"{self.service.url}/v1/commands/batch", json=commands) as response:
            body = await response.read()
        if response.status == 503:  # of the whole batch: it came too late
            for one in sent:
                one.hear(response.status, body, hit=False)
            return
        assert response.status == 200, body
        for one, item in zip(sent, _decode_items(body), strict=True):
            one.hear(item.status, bytes(item.result or item.problem), hit=item.idempotency_hit)


class _Client:
    """One game server, with wallets of its own."""

    def __init__(self, crowd: Crowd, number: int, chance: random.Random) -> None:
        self.crowd = crowd
        self.number = number
        self.chance = chance
        self.wallets: list[str] = []
        self.bets: list[tuple[str, str]] = []
        self.holds: list[tuple[str, str]] = []
        self.orders: list[tuple[str, str]] = []
        self._ids = itertools.count()

    async def play(self, session: aiohttp.ClientSession) -> None:
        await self.open_a_wallet(session)
        while not self.crowd.stop:
            if len(self.wallets) < WALLETS_PER_CLIENT and self.chance.random() < 0.05:
                await self.open_a_wallet(session)
            many = self.chance.choice((1, 1, 1, self.chance.randint(2, BATCH_MAX)))
            sent = [SentCommand(self.command()) for _ in range(many)]
            self.crowd.sent += sent
            await self.crowd.post(session, sent)
            await asyncio.sleep(self.chance.uniform(0, 0.02))

    async def open_a_wallet(self, session: aiohttp.ClientSession) -> None:
        user_id = f"p{self.number}-{len(self.wallets)}"
        referrer_id = self.chance.choice(self.crowd.opened) if self.crowd.opened else None
        opening = SentCommand(self._of(user_id, "open_wallet", referrer_id=referrer_id))
        money = SentCommand(self._of(user_id, "deposit", order_id="first", asset="INR", amount=10_000, bonus=500))
        self.wallets.append(user_id)
        self.crowd.sent += [opening, money]
        self.crowd.referrer_of[user_id] = referrer_id
        await self.crowd.post(session, [opening, money])
        if opening.acceptances:
            self.crowd.opened.append(user_id)

    def command(self) -> dict[str, Any]:
        user_id = self.chance.choice(self.wallets)
        kind = self.chance.choices(
            ("deposit", "bet", "settle", "hold", "resolve", "transfer", "withdraw", "decide"),
            (4, 8, 6, 3, 2, 6, 2, 2),
        )[0]
        name, amount = f"i{next(self._ids)}", self.chance.randint(1, 60)
        if kind == "settle" and self.bets:
            user_id, bet_id = self.bets.pop(self.chance.randrange(len(self.bets)))
            if self.chance.random() < 0.2:
                return self._of(user_id, "cancel_bet", bet_id=bet_id)
            return self._of(user_id, "settle_bet", bet_id=bet_id, payout=self.chance.choice((0, 2 * amount)))
        if kind == "resolve" and self.holds:
            user_id, hold_id = self.holds.pop(self.chance.randrange(len(self.holds)))
            return self._of(user_id, self.chance.choice(("capture_hold", "release_hold")), hold_id=hold_id)
        if kind == "decide" and self.orders:
            user_id, order_id = self.orders.pop(self.chance.randrange(len(self.orders)))
            return self._of(
                user_id, self.chance.choice(("approve_withdrawal", "reject_withdrawal")), order_id=order_id
            )
        money = {"asset": "INR", "amount": amount}
        match kind:
            case "hold":
                self.holds.append((user_id, name))
                expires_at_us = int((time.time() + self.chance.uniform(-0.1, HOLD_MAX_S)) * 1e6)
                return self._of(user_id, "hold", hold_id=name, expires_at_us=expires_at_us, **money)
            case "transfer":
                others = [*self.crowd.opened, "stranger"]
                to_user_id = self.chance.choice([other for other in others if other != user_id])
                return self._of(user_id, "transfer", transfer_id=name, to_user_id=to_user_id, **money)
            case "withdraw":
                self.orders.append((user_id, name))
                return self._of(user_id, "request_withdrawal", order_id=name, **money)
            case "bet":
                self.bets.append((user_id, name))
                game = {"game": "external", "period": "p1", "selection": "röt", "asset": "INR", "stake": amount}
                return self._of(user_id, "place_bet", bet_id=name, **game)
            case _:
                return self._of(user_id, "deposit", order_id=name, **money)

    def _of(self, user_id: str, type_: str, **fields: Any) -> dict[str, Any]:
        return {"type": type_, "command_id": f"c{next(self._ids)}", "user_id": user_id, **fields}


# --- what the log says ----------------------------------------------------------------------------------------------


class _Record(msgspec.Struct):
    partition: int
    seq: int
    prev: str
    time_us: int
    user_id: str
    command_id: str
    actor: str
    type: str
    data: msgspec.Raw
    postings: list[tuple[str, str, int]]
    balances: msgspec.Raw


_decode_record = msgspec.json.Decoder(_Record).decode


class Books:
    """What the records of all partitions add up to. Built only from a chain that holds."""

    def __init__(self, partitions: Sequence[Sequence[bytes]]) -> None:
        self.records: dict[str, _Record] = {}
        self.heads: dict[str, str] = {}
        self.sums: Counter[tuple[str, str]] = Counter()
        self.written: Counter[tuple[str, str]] = Counter()
        for partition, records in enumerate(partitions):
            head, time_us = "0" * 64, 0
            for seq, record in enumerate(records, start=1):
                decoded = _decode_record(record)
                assert (decoded.partition, decoded.seq, decoded.prev) == (partition, seq, head)
                assert decoded.time_us >= time_us
                head, time_us = hashlib.sha256(record).hexdigest(), decoded.time_us
                self.records[f"{partition}:{seq}"], self.heads[f"{partition}:{seq}"] = decoded, head
                self.written[decoded.user_id, decoded.command_id] += 1
                for account, asset, amount in decoded.postings:
                    self.sums[account, asset] += amount

    def of_type(self, *types: str) -> Iterator[tuple[str, _Record, dict[str, Any]]]:
        """Position, record and data of those events."""
        for position, record in self.records.items():
            if record.type in types:
                yield position, record, json.loads(bytes(record.data))

    def transit(self) -> int:
        """The money under way."""
        return sum(abs(amount) for (account, _), amount in self.sums.items() if account.startswith("transit/"))

    # --- checks -----------------------------------------------------------------------------------------------------

    def check_acknowledged(self, sent: Sequence[SentCommand]) -> None:
        """Each acknowledged command is one record, the bytes of which are those that were acknowledged; a refused
        one is none; and the log has no other command."""
        assert all(count == 1 for count in self.written.values()), self.written.most_common(3)
        for one in sent:
            for acceptance in one.acceptances:
                record = self.records.get(acceptance.position)
                assert record is not None, f"lost: {one}"
                assert (acceptance.partition, acceptance.seq) == (record.partition, record.seq)
                assert (record.user_id, record.command_id) == one.identity
                assert acceptance.head == self.heads[acceptance.position], one
                assert (acceptance.time_us, acceptance.type) == (record.time_us, record.type), one
                assert (bytes(acceptance.data), bytes(acceptance.balances)) == (
                    bytes(record.data),
                    bytes(record.balances),
                ), one
            if one.refusal is not None and not one.acceptances:
                assert self.written[one.identity] == 0, f"refused and taken: {one}"
        mine = {one.identity for one in sent}
        for identity in self.written:
            assert identity in mine or identity[1].startswith("~"), f"no client sent {identity}"

    def check_follow_ups(self) -> None:
        """Each transfer arrived or was refused once, and was concluded once; each hold was resolved once."""
        self._check_caused_once(("transfer_sent",), ("transfer_received", "transfer_refused"))
        self._check_caused_once(("transfer_received",), ("transfer_delivered",))
        self._check_caused_once(("transfer_refused",), ("transfer_returned",))
        self._check_caused_once(("hold_placed",), ("hold_captured", "hold_released", "hold_expired"), "hold_id")
        assert self.transit() == 0

    def _check_caused_once(self, causes: tuple[str, ...], effects: tuple[str, ...], by: str | None = None) -> None:
        def names(at: tuple[str, _Record, dict[str, Any]], member: str | None) -> str:
            position, record, data = at
            return f"{record.user_id}/{data[by]}" if by else data[member] if member else position

        caused = Counter(names(at, "cause") for at in self.of_type(*effects))
        assert caused == Counter(names(at, None) for at in self.of_type(*causes)), (causes, effects)

    def check_referrals(self, referrer_of: dict[str, str | None]) -> None:
        """Each member counts once, and only once, with each of the six above."""
        expected: Counter[tuple[str, str, int]] = Counter()
        for member, referrer_id in referrer_of.items():
            above = referrer_id
            for level in range(1, 7):
                if above is None:
                    break
                expected[above, member, level] += 1
                above = referrer_of[above]
        counted = Counter(
            (record.user_id, data["member"], data["level"])
            for _, record, data in self.of_type("referral_counted", "referral_void")
        )
        assert counted == expected
