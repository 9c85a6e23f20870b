"""Logs for readers: what a real node writes in busy weeks of a dozen wallets over some partitions.

    scenario = make_scenario(seed)   # the same seed always makes the same log
    scenario.partitions[1]           # the records of partition 1, in log order
    scenario.records                 # those of all, each partition's in order

`busy_days` asks whether the ledger decides rightly, so most of its commands are refused; here nearly all are taken,
and what they are about is what readers may get wrong: bets, orders, holds and transfers in each state, and changing
it late; ids that are the same in other wallets and of other kinds, and full of what paths and SQL may stumble over;
wallets of one name but for the case; many events at one time; sums beyond what a double keeps.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Any, Final

import msgspec

from ledger.core.commands import AnyCommand, Command
from ledger.core.events import Event
from ledger.core.games.periods import name_of
from ledger.core.money import AMOUNT_MAX
from ledger.core.position import partition_of
from ledger.core.wallet import DAY_US
from ledger.writer.requests import Accepted, Refused
from properties.scenarios import book_of_money
from unit.given import SECOND_US
from unit.node_in_memory import World, request_sha256

PLAYERS: Final = ("anna", "Anna", "anna1", "bob-2", "C:3", "d@x.io", "e_5.", "0", "partition", "x" * 64)
WHALE: Final = "whale"
"""Bets all that a wallet can have, again and again."""
MAYFLY: Final = "mayfly"
"""Opened, and closed soon: what is sent to it comes back."""
NEVER_OPENED: Final = "nobody"
"""Never opened, but money is sent to it, and it is named as a referrer."""
USERS: Final = (*PLAYERS, WHALE, MAYFLY, NEVER_OPENED)

WEIGHTS: Final = {
    "open_wallet": 3,
    "deposit": 8,
    "request_withdrawal": 6,
    "approve_withdrawal": 4,
    "reject_withdrawal": 2,
    "place_bet": 24,
    "settle_bet": 16,
    "cancel_bet": 5,
    "cancel_before_bet": 1,
    "hold": 7,
    "capture_hold": 3,
    "release_hold": 2,
    "transfer": 14,
    "grant_bonus": 4,
    "claim_attendance": 4,
    "adjust": 2,
    "propose_adjustment": 3,
    "approve_adjustment": 2,
    "reject_adjustment": 1,
    "reverse": 3,
    "set_limits": 3,
    "freeze_wallet": 1,
    "unfreeze_wallet": 3,
    "close_wallet": 2,
    "set_agent_level": 1,
    "create_gift": 2,
    "close_gift": 1,
    "claim_gift": 6,
    "claim_referral_code": 3,
    "whale": 6,
}
STEPS_US: Final = (0, 0, 1, 1_000, SECOND_US, 3_600 * SECOND_US, 3_600 * SECOND_US, DAY_US)
EXPIRIES_US: Final = (None, None, None, -1, SECOND_US, 3_600 * SECOND_US, DAY_US)
SPELLINGS: Final = ("{}", "{}", "{}", "a/{}", "{}%2F?x=1", '"{}\\', "#{}&+=;", "'{}'--", "_{}_%", "{}.", "A{}", "a{}")
GIFTS: Final = ("diwali", "Diwali", "g.1", "x" * 59)
CODES: Final = ("ANNA", "anna", "c-2", "x" * 59)
PERIODS: Final = ("p1", "p2", "P2", "round 7/ü", "")
SELECTIONS: Final = ("red", "", "größer", 'a "b" \\', "🪔")
PERIOD_US: Final = 30 * SECOND_US
MONEY: Final = {
    "INR": {
        "first_deposit": [[100, 30], [1_000, 200]],
        "attendance": [7, 20],
        "attendance_needs_deposit": 50,
        "bonus_expires_after_s": 40_000,
        "valid_referral": 300,
        "invitation": [[1, 9]],
        "commission": {"delay_s": 3_600, "rates_e9": [60_000_000, 18_000_000, 540_000]},
    },
    "GOLD": {"first_deposit": [[10, 5]], "attendance": [3], "wagering": {"deposit": 1, "bonus": 2}},
}
"""The rules of money flows. No registration: the mayfly could not be closed."""
GRANTERS: Final = "op:2"
"""Approves what others propose."""


@dataclass(frozen=True)
class Scenario:
    """The records that a node wrote, partition by partition."""

    partitions: list[list[bytes]]

    @property
    def records(self) -> list[bytes]:
        """All of them, in the order of their times; of one time, partition by partition."""
        placed = [
            (msgspec.json.decode(record, type=_Timed).time_us, partition, seq, record)
            for partition, records in enumerate(self.partitions)
            for seq, record in enumerate(records)
        ]
        return [record for *_, record in sorted(placed)]


class _Timed(msgspec.Struct):
    time_us: int


def make_scenario(seed: int, *, commands: int = 400, partitions: int = 3) -> Scenario:
    """The scenario of this seed, with about so many commands. Where a loop is running: ``await play_scenario(…)``."""
    return asyncio.run(play_scenario(seed, commands=commands, partitions=partitions))


async def play_scenario(seed: int, *, commands: int = 400, partitions: int = 3) -> Scenario:
    driver = _Driver(Random(seed), await World(partitions=partitions, rules=book_of_money(MONEY)).start())
    await driver.begin()
    while driver.posted < commands:
        await driver.live_on()
    await driver.play_wingo()
    await driver.world.stop()
    return Scenario(driver.world.appended.records)


@dataclass
class _Wallet:
    """What can be done to a wallet next: the ids of what is open in it."""

    user_id: str
    status: str = "none"
    bets: list[tuple[str, int]] = field(default_factory=list)
    holds: list[tuple[str, int]] = field(default_factory=list)
    withdrawals: list[str] = field(default_factory=list)
    proposals: list[str] = field(default_factory=list)
    reversible: list[str] = field(default_factory=list)
    ids: dict[str, Iterator[int]] = field(default_factory=dict)

    def learn(self, event: Event, position: str) -> None:
        data: Any = event.data
        match event.data.type:
            case "wallet_opened" | "wallet_unfrozen":
                self.status = "open"
            case "wallet_frozen":
                self.status = "frozen"
            case "wallet_closed":
                self.status = "closed"
            case "bet_placed":
                self.bets.append((data.bet_id, data.stake))
            case "hold_placed":
                self.holds.append((data.hold_id, data.amount))
            case "withdrawal_requested":
                self.withdrawals.append(data.order_id)
            case "adjustment_proposed":
                self.proposals.append(data.adjustment_id)
            case "deposited" | "bonus_granted" | "adjusted":
                self.reversible.append(position)
            case _:
                pass

    def new_id(self, kind: str) -> str:
        """Never twice in this wallet and kind; the same in other wallets and of other kinds."""
        number = next(self.ids.setdefault(kind, count(1)))
        return SPELLINGS[number % len(SPELLINGS)].format(number)


class _Driver:
    """Makes random commands, lets a node decide them, and remembers the results."""

    def __init__(self, chance: Random, world: World) -> None:
        self.chance = chance
        self.world = world
        self.posted = 0
        self.wallets = {user_id: _Wallet(user_id) for user_id in USERS}
        self.opened: list[str] = []
        """The players, in the order of their opening. Not the mayfly: a wallet that is paid is not closed."""
        self.loyalty = chance.choice((2, 8, 40))
        """How many times likelier the latest player is the referrer than another user is."""
        self.with_code = chance.choice((0, 0.1, 0.5))
        """What part of the wallets is opened with a referral code."""
        self.moods = {kind: weight * chance.choice((0, 1, 1, 1, 3)) for kind, weight in WEIGHTS.items()}
        partitions = world.log.partitions
        self.wakers = {partition_of(user_id, partitions): user_id for user_id in USERS}

    async def begin(self) -> None:
        """Most players are there from the start, each with some money, most of them referred."""
        for user_id in self.chance.sample(PLAYERS, len(PLAYERS) - 2):
            await self.post([self.opening(self.wallets[user_id])])
            await self.post([self.command("deposit", self.wallets[user_id])])
            await self.post([self.command("claim_referral_code", self.wallets[user_id])])

    async def live_on(self) -> None:
        """Some time goes by, then many things happen at once."""
        self.world.clock.now_us += self.chance.choice(STEPS_US)
        for user_id in self.wakers.values():  # its writer looks what is due
            await self.world.wallet(user_id)
        await self.world.quiet()
        kinds = self.chance.choices(list(self.moods), list(self.moods.values()), k=self.chance.choice((1, 5, 20, 40)))
        await self.post([command for kind in kinds if (command := self.thought(kind)) is not None])

    async def play_wingo(self) -> None:
        """All users bet on three periods of a game with rules: one gets a result, one is cancelled, one stays
        open."""
        clock = self.world.clock
        first_us = clock.now_us = (clock.now_us // PERIOD_US + 1) * PERIOD_US
        players = [self.wallets[user_id] for user_id in PLAYERS if self.wallets[user_id].status == "open"]
        for number in range(3):
            clock.now_us = first_us + number * PERIOD_US
            where = {"game": "wingo_30s", "period": name_of(clock.now_us)}
            for wallet in players:
                await self.post([self.command("deposit", wallet)])
                for selection in ("red", "big+number:7"):
                    bet = {"bet_id": wallet.new_id("bet"), "selection": selection, "asset": "INR", "stake": 3}
                    await self.post([self.of("place_bet", wallet, **where, **bet)])
            for wallet in [wallet for wallet in players if wallet.bets][:1]:
                await self.post([self.of("cancel_bet", wallet, bet_id=wallet.bets[-1][0])])
        for number, outcome in ((0, {"type": "record_result", "result": "7"}), (1, {"type": "cancel_period"})):
            clock.now_us = first_us + (number + 1) * PERIOD_US + 2 * SECOND_US
            period = name_of(first_us + number * PERIOD_US)
            reason = {"reason": "void"} if number == 1 else {}
            await self.post([{**outcome, **reason, "user_id": "game:wingo_30s", "period": period}])

    async def post(self, fields: list[dict[str, Any]]) -> None:
        for actor in ("local", GRANTERS):
            mine = [one for one in fields if (one["type"] == "approve_adjustment") == (actor == GRANTERS)]
            commands: list[Command] = [msgspec.convert(self.named(one), AnyCommand) for one in mine]
            asked = [(command, request_sha256(command)) for command in commands]
            for command, answer in zip(commands, await self.world.node.post_many(asked, actor), strict=True):
                assert isinstance(answer, Accepted | Refused), answer
                if isinstance(answer, Accepted) and command.user_id in self.wallets:
                    self.wallets[command.user_id].learn(answer.event, str(answer.position))
                    if answer.event.data.type == "wallet_opened" and command.user_id in PLAYERS:
                        self.opened.append(command.user_id)
        await self.world.quiet()

    def named(self, fields: dict[str, Any]) -> dict[str, Any]:
        self.posted += 1
        metadata = self.chance.choice((None, None, None, {}, {"key": "välue", "a": '"'}))
        return {**fields, "command_id": f"c{self.posted}", "metadata": metadata}

    # --- what happens ----------------------------------------------------------------------------------------------

    def thought(self, kind: str) -> dict[str, Any] | None:
        """A command of that kind, about something that can be done; None where nothing can."""
        if kind == "open_wallet":
            new = [self.wallets[user_id] for user_id in (*PLAYERS, MAYFLY) if self.wallets[user_id].status == "none"]
            return self.opening(self.chance.choice(new)) if new else None
        if kind == "whale":
            return self.whale()
        if kind in ("create_gift", "close_gift"):
            return self.gift(kind)
        if kind == "close_wallet":
            return self.of("close_wallet", self.wallets[MAYFLY], reason="asked for")
        may = [wallet for wallet in self.wallets.values() if self.may(kind, wallet)]
        return self.command(kind, self.chance.choice(may)) if may else None

    def may(self, kind: str, wallet: _Wallet) -> bool:
        match kind:
            case "settle_bet" | "cancel_bet":
                has = bool(wallet.bets)
            case "capture_hold" | "release_hold":
                has = bool(wallet.holds)
            case "approve_withdrawal" | "reject_withdrawal":
                has = bool(wallet.withdrawals)
            case "approve_adjustment" | "reject_adjustment":
                has = bool(wallet.proposals)
            case "reverse":
                has = bool(wallet.reversible)
            case "unfreeze_wallet":
                return wallet.status == "frozen"
            case _:
                has = True
        return has and wallet.status == "open" and wallet.user_id in PLAYERS

    def opening(self, wallet: _Wallet) -> dict[str, Any]:
        """Mostly referred by the user who came last: lines of referrers become long. Some have a code."""
        if self.chance.random() < self.with_code:
            return self.of("open_wallet", wallet, referral_code=self.chance.choice(CODES))
        latest = self.opened[-1:] or [NEVER_OPENED]
        others = [user_id for user_id in USERS if user_id != wallet.user_id]
        referrer_id = self.chance.choice((*latest * self.loyalty, self.chance.choice(others), None))
        return self.of("open_wallet", wallet, referrer_id=None if referrer_id == wallet.user_id else referrer_id)

    def gift(self, kind: str) -> dict[str, Any]:
        gift = {"type": kind, "user_id": f"gift:{self.chance.choice(GIFTS)}"}
        if kind == "close_gift":
            return {**gift, "reason": "over"}
        claims = self.chance.choice((1, 2, 3, 7))
        some = {"asset": self.chance.choice(("INR", "GOLD")), "amount": claims + self.chance.randint(0, 300)}
        return {**gift, **some, "claims": claims, **self.expiry()}

    def whale(self) -> dict[str, Any]:
        """Bets everything at once: sums over its bets and orders are too large for a double, and so for
        JavaScript."""
        wallet = self.wallets[WHALE]
        if wallet.status == "none":
            return self.of("open_wallet", wallet)
        if wallet.withdrawals:
            return self.of("approve_withdrawal", wallet, order_id=wallet.withdrawals.pop())
        if wallet.bets:
            return self.of("settle_bet", wallet, bet_id=wallet.bets.pop()[0], payout=AMOUNT_MAX)
        all_of_it = {"asset": "USDT", "amount": AMOUNT_MAX}
        match self.chance.choice(("deposit", "bet", "bet", "withdraw")):
            case "deposit":
                return self.of("deposit", wallet, order_id=wallet.new_id("order"), **all_of_it)
            case "withdraw":
                return self.of("request_withdrawal", wallet, order_id=wallet.new_id("order"), **all_of_it)
            case _:
                return self.bet(wallet, "USDT", AMOUNT_MAX)

    def command(self, kind: str, wallet: _Wallet) -> dict[str, Any]:
        chance = self.chance
        asset = chance.choice(("INR", "INR", "INR", "GOLD"))
        amount = chance.choice((1, 2, chance.randint(1, 300), chance.randint(1, 300)))
        some: dict[str, Any] = {"asset": asset, "amount": amount}
        maybe_reason = {"reason": chance.choice((None, "because"))}
        match kind:
            case "deposit":
                bonus = chance.choice((None, None, 0, chance.randint(1, 200)))
                more = {"asset": asset, "amount": chance.randint(1, 3_000), "bonus": bonus}
                return self.of(kind, wallet, order_id=wallet.new_id("order"), **more)
            case "request_withdrawal":
                return self.of(kind, wallet, order_id=wallet.new_id("order"), **some)
            case "approve_withdrawal" | "reject_withdrawal":
                return self.of(kind, wallet, order_id=self.some_of(wallet.withdrawals), **maybe_reason)
            case "place_bet":
                return self.bet(wallet, asset, amount)
            case "settle_bet":
                bet_id, stake = self.some_of(wallet.bets)
                return self.of(kind, wallet, bet_id=bet_id, payout=chance.choice((0, 0, 1, stake, 2 * stake)))
            case "cancel_bet":
                return self.of(kind, wallet, bet_id=self.some_of(wallet.bets)[0], **maybe_reason)
            case "cancel_before_bet":
                return self.of("cancel_bet", wallet, bet_id=wallet.new_id("bet"), **maybe_reason)
            case "hold":
                return self.of(kind, wallet, hold_id=wallet.new_id("hold"), **some, **self.expiry())
            case "capture_hold":
                hold_id, held = self.some_of(wallet.holds)
                captured = chance.choice((None, held, chance.randint(1, held)))
                return self.of(kind, wallet, hold_id=hold_id, amount=captured)
            case "release_hold":
                return self.of(kind, wallet, hold_id=self.some_of(wallet.holds)[0])
            case "transfer":
                to_user_id = chance.choice([user_id for user_id in USERS if user_id != wallet.user_id])
                names = {"transfer_id": wallet.new_id("transfer"), "to_user_id": to_user_id}
                return self.of(kind, wallet, **names, **some)
            case "grant_bonus":
                return self.of(kind, wallet, grant_id=f"g{wallet.new_id('grant')}", **some, **self.expiry())
            case "claim_attendance":
                return self.of(kind, wallet, asset=asset)
            case "claim_gift":
                return self.of(kind, wallet, code=self.chance.choice(GIFTS))
            case "claim_referral_code":
                return self.of(kind, wallet, code=self.chance.choice(CODES))
            case "adjust":
                some["amount"] *= chance.choice((1, 1, -1))
                return self.of(kind, wallet, **some, reason="put right")
            case "propose_adjustment":
                some["amount"] *= chance.choice((1, 1, -1))
                return self.of(kind, wallet, adjustment_id=wallet.new_id("adjustment"), **some, reason="goodwill")
            case "approve_adjustment" | "reject_adjustment":
                return self.of(kind, wallet, adjustment_id=self.some_of(wallet.proposals), **maybe_reason)
            case "reverse":
                return self.of(kind, wallet, position=self.some_of(wallet.reversible), reason="charged back")
            case "set_limits":
                return self.of(kind, wallet, asset=chance.choice((asset, "USDT")), **self.limits())
            case "set_agent_level":
                return self.of(kind, wallet, level=chance.randint(0, 2))
            case _:
                return self.of(kind, wallet, reason="under review")

    def bet(self, wallet: _Wallet, asset: str, stake: int) -> dict[str, Any]:
        where = {"period": self.chance.choice(PERIODS), "selection": self.chance.choice(SELECTIONS)}
        spend = self.chance.choice((None, "cash_first", "bonus_first"))
        names = {"bet_id": wallet.new_id("bet"), "game": "external", **where}
        return self.of("place_bet", wallet, **names, asset=asset, stake=stake, spend=spend)

    def expiry(self) -> dict[str, Any]:
        after_us = self.chance.choice(EXPIRIES_US)
        return {"expires_at_us": None if after_us is None else self.world.clock.now_us + after_us}

    def limits(self) -> dict[str, int | None]:
        """Some limits, seldom so tight that nothing goes any more."""
        some = {
            "credit_limit": (None, 0, 50, 500),
            "balance_max": (None, 0, 0, 5_000, 20_000),
            "stake_max_per_day": (None, None, 0, 2_000),
            "withdrawal_max_per_day": (None, 500, 2_000),
        }
        names = self.chance.sample(list(some), self.chance.choice((0, 1, 1, 2, 4)))
        return {name: self.chance.choice(some[name]) for name in names}

    def some_of(self, ids: list[Any]) -> Any:
        """One of them, which is then done with, mostly a late one."""
        return ids.pop(max(self.chance.randrange(len(ids)), self.chance.randrange(len(ids))))

    @staticmethod
    def of(kind: str, wallet: _Wallet, **fields: Any) -> dict[str, Any]:
        return {"type": kind, "user_id": wallet.user_id, **fields}
