"""Whole nodes against the reference model: real writers, logs and state stores, and everything that goes wrong.

A machine's rules are what clients, clocks, disks and operators do: commands one by one, in batches and all at once;
repeated commands, also changed, late and in another order; a clock that jumps and steps back; appends that fail, that
land without an acknowledgement, that find another writer's records; crashes, with and without a checkpoint; stops.
After each, ``Witness`` compares every response and record with the model, and the machine checks its invariants.

The loop does not wait: if no task is ready, its time jumps to the next timer, so a day of retries costs no time.
"""

import asyncio
import contextlib
import random
import shutil
import tempfile
from abc import abstractmethod
from collections import deque
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from cases import first
from ledger.core.record import Head
from ledger.core.state_values import Value
from ledger.errors import LedgerError, LogUnavailable, OutcomeUnknown, StaleHead
from ledger.memory.log import Failure, MemoryEventLog
from ledger.memory.state_store import MemoryStateStore
from ledger.node.node import Node
from ledger.node.owns_all import node_of_whole_log
from ledger.ports import EventLog, StateStore
from ledger.sqlite.log import SqliteEventLog
from ledger.sqlite.state_store import SqliteStateStore
from ledger.writer.requests import Accepted, Failed, WalletRead
from ledger.writer.writer import Writer
from properties.busy_days import Wait, busy_day
from properties.jumping_loop import JumpingLoop
from properties.naive_ledger import DAY_US
from properties.scenarios import (
    MONEY,
    MONEY_PER_BET,
    USERS,
    Post,
    beginnings,
    book_of_money,
    game_commands,
    mostly,
    seen,
    stream_of,
)
from properties.scenarios import commands as wallet_commands
from properties.witness import Asked, Witness, Written
from unit.given import ASSETS, NOON, SECOND_US

PARTITIONS: Final = 3
"""u1 and u3 share one, u2 has another; the third has no wallet, but a gift."""

ReturnedT = TypeVar("ReturnedT")


class Clock:
    """Unix microseconds, as a rule sets them."""

    def __init__(self) -> None:
        self.now_us = NOON

    def __call__(self) -> int:
        return self.now_us


class FaultyStore(MemoryStateStore):
    """A state store whose next saves can be made to fail."""

    def __init__(self) -> None:
        super().__init__()
        self.failing_saves = 0

    def save(self, partition: int, changes: Mapping[str, Value | None], at: Head, place: bytes | None = None) -> None:
        if self.failing_saves:
            self.failing_saves -= 1
            raise LedgerError("the disk is full")
        super().save(partition, changes, at, place)


commands = mostly((5, wallet_commands), (2, game_commands))
several = st.lists(commands, min_size=2, max_size=6)
few = st.lists(commands, min_size=1, max_size=3)
which = st.integers(0, 40)
"""The index of an earlier request, the latest first."""


class LedgerMachine(RuleBasedStateMachine):
    """What a node must do on every log and state store. A subclass opens them."""

    thread_wait_s = 0.0
    money: Mapping[str, Any] = MONEY

    def __init__(self) -> None:
        super().__init__()
        self.saves_by_itself = True
        self.loop = JumpingLoop(self.thread_wait_s)
        self.clock = Clock()
        self.witness = Witness(PARTITIONS, tuple(ASSETS), dict(self.money))
        self.asked: list[Asked] = []
        self.to_retry: list[Asked] = []
        self.begin()

    @abstractmethod
    def open_log(self) -> EventLog:
        """Open the log, as a process that starts now."""

    @abstractmethod
    def open_store(self) -> StateStore:
        """Open the state store, as a process that starts now."""

    # --- a process's life ----------------------------------------------------------------------------------------

    def begin(self) -> int:
        # Every second process makes its checkpoints itself; the others make those of the rules.
        self.saves_by_itself = not self.saves_by_itself
        self.threads = ThreadPoolExecutor(2)
        self.loop.set_default_executor(self.threads)
        self.log, self.store = self.open_log(), self.open_store()
        self.node, replayed = self.run(self.started(self.log, self.store))
        return replayed

    async def started(self, log: EventLog, store: StateStore) -> tuple[Node, int]:
        limit = 60 if self.saves_by_itself else 1_000_000
        options: dict[str, Any] = {
            "changes_per_checkpoint": limit,
            "checked_at_start": 30,
            "rules": book_of_money(dict(self.money)),
        }
        node = node_of_whole_log(log, store, self.clock, ASSETS, **options)
        return node, await node.start()

    async def save(self) -> None:
        if self.saves_by_itself:
            await asyncio.sleep(0.3)  # it looks every 0.25 s
        else:
            for writer in self.node.writers.values():
                await writer.store_writes.save()

    def end(self) -> None:
        """Stop cleanly: every request has its response, and the state is saved."""
        self.run(self.node.stop())
        self.threads.shutdown()

    def lose_the_process(self) -> None:
        """Kill the process: no response, append or save comes later. A write that a thread began may still land."""
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        self.run(_gathered(tasks))
        self.run(self.log.close())
        self.threads.shutdown()
        self.store.close()

    def run(self, work: Coroutine[Any, Any, ReturnedT]) -> ReturnedT:
        return self.loop.run_until_complete(work)

    # --- requests ------------------------------------------------------------------------------------------------

    def new(self, posts: Sequence[Post], *, dry_run: bool = False) -> list[Asked]:
        fresh = []
        for post in posts:
            fields = post.command(f"c-{len(self.asked)}", self.clock.now_us, self.witness.events)
            fresh.append(Asked(fields, post.actor, dry_run))
            self.asked.append(fresh[-1])
        return fresh

    def earlier(self, number: int, *, dry_run: bool = False) -> list[Asked]:
        if not self.asked:
            return []
        before = self.asked[-1 - number % len(self.asked)]
        return [Asked(before.fields, before.actor, dry_run)]

    async def post(self, asked: Asked, node: Node | None = None) -> None:
        node = node or self.node
        asked.response = await node.post(asked.command, asked.request_sha256, asked.actor, dry_run=asked.dry_run)

    async def post_all(self, asked: Sequence[Asked]) -> None:
        await asyncio.gather(*(self.post(one) for one in asked))

    async def post_batch(self, asked: Sequence[Asked]) -> None:
        for one in asked:
            one.actor = "local"
        answers = await self.node.post_many([(one.command, one.request_sha256) for one in asked], "local")
        failed: set[str] = set()
        for one, response in zip(asked, answers, strict=True):
            one.response = response
            assert isinstance(response, Failed) or one.user_id not in failed, "a wallet continued after a failure"
            if isinstance(response, Failed):
                failed.add(one.user_id)

    def settle(self, *asked: Asked) -> None:
        """Wait until nothing is under way, then give the witness the requests and the new records."""
        self.run(self.quiet())
        self.to_retry += [one for one in asked if one.needs_a_retry and not one.dry_run]
        records = [
            self.run(self.log.read(partition, self.witness.seqs[partition] + 1, 10_000))
            for partition in range(PARTITIONS)
        ]
        self.witness.hear(asked, records, self.clock.now_us)

    async def quiet(self) -> None:
        await asyncio.sleep(0.11)  # a writer looks at the clock at least every 0.1 s
        await self.node._unsettled.ask_once()
        while not all(writer.idle for writer in self.node.writers.values()):  # noqa: ASYNC110 - a state of many writers
            await asyncio.sleep(0.01)
        assert not self.node.halted.done(), self.node.halted

    # --- what may happen -----------------------------------------------------------------------------------------

    @initialize(beginning=beginnings)
    def wallets_are_opened(self, beginning: list[Post]) -> None:
        for post in beginning:
            self.posts_a_command(post)

    @rule(post=commands)
    def posts_a_command(self, post: Post) -> None:
        asked = self.new([post])
        self.run(self.post_all(asked))
        self.settle(*asked)

    @rule(posts=several)
    def posts_a_batch(self, posts: list[Post]) -> None:
        asked = self.new(posts)
        self.run(self.post_batch(asked))
        self.settle(*asked)

    @rule(posts=several, again=which)
    def many_post_at_once(self, posts: list[Post], again: int) -> None:
        asked = [*self.new(posts), *self.earlier(again)]
        self.run(self.post_all(asked))
        self.settle(*asked)

    @rule(again=which)
    def repeats_a_command(self, again: int) -> None:
        asked = self.earlier(again)
        self.run(self.post_all(asked))
        self.settle(*asked)

    @rule(again=which, post=commands)
    def uses_a_command_id_for_another_command(self, again: int, post: Post) -> None:
        for before in self.earlier(again):
            if stream_of(before.user_id) != stream_of(post.fields["user_id"]):
                continue  # such a command is malformed
            [asked] = self.new([post])
            asked.fields |= {name: before.fields[name] for name in ("command_id", "user_id")}
            self.run(self.post(asked))
            self.settle(asked)

    @rule(again=which, change=which)
    def repeats_a_command_with_a_field_changed(self, again: int, change: int) -> None:
        for before in self.earlier(again):
            asked = Asked(_changed(before.fields, change), before.actor)
            self.asked.append(asked)
            self.run(self.post(asked))
            self.settle(asked)

    @rule(posts=few, again=which)
    def tries_without_writing(self, posts: list[Post], again: int) -> None:
        asked = [*self.new(posts, dry_run=True), *self.earlier(again, dry_run=True)]
        self.run(self.post_all(asked))
        self.settle(*asked)

    @rule(order=st.integers(0, 1000), together=st.booleans())
    def retries_commands_without_a_final_response(self, order: int, together: bool) -> None:
        asked = [Asked(one.fields, one.actor) for one in self.to_retry]
        random.Random(order).shuffle(asked)
        self.to_retry.clear()
        if together and asked:
            self.run(self.post_batch(asked))
        else:
            self.run(self.post_all(asked))
        self.settle(*asked)

    @rule(us=st.sampled_from([SECOND_US, 5 * SECOND_US, 20 * SECOND_US, 33 * SECOND_US, DAY_US // 2, DAY_US]))
    def the_clock_advances(self, us: int) -> None:
        self.clock.now_us += us
        self.settle()

    @rule(us=st.sampled_from([1, SECOND_US, 10 * SECOND_US, DAY_US]), posts=few)
    def the_clock_steps_back(self, us: int, posts: list[Post]) -> None:
        self.clock.now_us -= us
        self.posts_a_batch(posts)

    @rule(posts=few)
    def a_checkpoint_is_made_under_load(self, posts: list[Post]) -> None:
        asked = self.new(posts)
        self.run(self.save_and_post(asked))
        self.settle(*asked)

    async def save_and_post(self, asked: Sequence[Asked]) -> None:
        posting = asyncio.ensure_future(self.post_all(asked))
        await self.save()
        await posting

    @rule(posts=few, steps=st.integers(0, 15), saved=st.booleans())
    def crashes(self, posts: list[Post], steps: int, saved: bool) -> None:
        asked = self.new(posts)
        self.run(self.post_in_part(asked, steps, saved))
        self.lose_the_process()
        self.begin()
        self.settle(*asked)

    async def post_in_part(self, asked: Sequence[Asked], steps: int, saved: bool) -> None:
        if saved:
            await self.save()
        self.posting = [asyncio.ensure_future(self.post(one)) for one in asked]
        for _ in range(steps):
            await asyncio.sleep(0)

    @rule(posts=few, steps=st.integers(0, 15))
    def stops_and_starts(self, posts: list[Post], steps: int) -> None:
        asked = self.new(posts)
        self.run(self.post_in_part(asked, steps, saved=False))
        self.end()
        assert all(one.response is not None for one in asked), "a stop gives every request its response"
        assert self.begin() == 0, "a stop leaves nothing to replay"
        self.settle(*asked)

    # --- what must be true after each ------------------------------------------------------------------------------

    @invariant()
    def nothing_is_under_way_and_every_asset_adds_up(self) -> None:
        assert all(not writer.state.open_seqs for writer in self.node.writers.values())
        self.witness.assert_quiet(self.clock.now_us)

    @invariant()
    def the_wallets_are_those_of_the_model(self) -> None:
        for user_id in USERS:
            read = self.run(self.node.wallet(user_id))
            assert isinstance(read, WalletRead)
            assert seen(read.wallet) == self.witness.naive.wallet(user_id)
            for asset, balance in read.wallet.balances.items():
                for bucket in ("cash", "bonus", "held"):
                    posted = self.witness.sums[f"wallet/{user_id}/{bucket}", asset]
                    assert getattr(balance, bucket) == posted, (user_id, asset, bucket)

    @invariant()
    def the_log_alone_gives_the_same_state(self) -> None:
        for live in self.node.writers.values():
            replayed = Writer(
                live.partition,
                self.log,
                MemoryStateStore(),
                self.clock,
                ASSETS,
                deliver=lambda *_: None,
                announce=lambda *_: None,
                halted=lambda *_: None,
            )
            self.run(replayed.recover(save_every=40))
            assert replayed.head == live.head
            assert _values(replayed) == _values(live)

    def teardown(self) -> None:
        try:
            self.retries_commands_without_a_final_response(0, together=True)
            assert self.to_retry == []
            self.every_accepted_command_gets_its_first_response_again()
        finally:
            self.lose_the_process()
            self.loop.close()

    def every_accepted_command_gets_its_first_response_again(self) -> None:
        for one in self.asked:
            if one.dry_run:
                continue
            user_id, command_id = one.user_id, one.fields["command_id"]
            written = self.witness.written.get((user_id, command_id))
            response = self.run(self.node.first_response(user_id, command_id))
            if written is None:
                assert response is None
            else:
                assert isinstance(response, Accepted)
                assert response.hit
                assert Written(response.position, response.head, response.event) == written


async def _gathered(tasks: set[asyncio.Task[Any]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)


def _values(writer: Writer) -> dict[str, Value]:
    """All values of the writer's state except follow-ups: a replay does not know yet that they arrived."""
    state = writer.state
    found: dict[str, Value | None] = dict(state._store.scan(writer.partition, "", "\U0010ffff", 1_000_000))
    assert not state._undo, "no batch is under way"
    found.update({**state._saving, **state._changed})
    return {key: value for key, value in found.items() if value is not None and not key.startswith("!f")}


def _changed(fields: Mapping[str, Any], change: int) -> dict[str, Any]:
    """The command with one member changed, chosen by ``change``, or with new metadata or private texts."""
    others = [
        (name, value)
        for name, value in sorted(fields.items())
        if value is not None and name not in ("type", "command_id", "user_id", "metadata", "private")
    ]
    name, value = [("metadata", fields.get("metadata")), ("private", None), *others][change % (len(others) + 2)]
    match name, value:
        case "metadata", _:
            return {**fields, name: {"k": "changed"}}
        case "private", _:  # the same command nevertheless
            return {**fields, name: "Y2hhbmdlZA=="}
        case "spend", _:
            return {**fields, name: "bonus_first" if value == "cash_first" else "cash_first"}
        case "position", _:
            return {**fields, name: "0:1" if value != "0:1" else "1:1"}
        case _, int():
            return {**fields, name: value + 1}
        case _:
            return {**fields, name: f"{value}x"}


# --- in memory: everything that a log can do to a writer ------------------------------------------------------------


SENDING: Final = ("open_wallet", "transfer", "claim_gift", "claim_referral_code")
"""Commands with a follow-up that is concluded in their own wallet."""

FAILURES: Final = (
    Failure(LogUnavailable("injected"), lands=False),
    Failure(OutcomeUnknown("injected, not landed"), lands=False),
    Failure(OutcomeUnknown("injected, landed"), lands=True),
    Failure(StaleHead("injected"), lands=False),
    None,
)
"""Failures of an append; None is a successful append."""

failures = st.lists(st.sampled_from(FAILURES), min_size=1, max_size=4)
staying = commands.filter(lambda post: post.fields["type"] not in SENDING)
"""Commands for another writer; without follow-ups, which could reach a writer that has not read their cause yet."""


class MemoryMachine(LedgerMachine):
    """Over the log and the state store in memory, which can be made to fail."""

    def open_log(self) -> MemoryEventLog:
        if not hasattr(self, "log"):
            return MemoryEventLog(PARTITIONS)
        assert isinstance(self.log, MemoryEventLog)
        return MemoryEventLog(PARTITIONS, self.log.appended)

    def open_store(self) -> StateStore:
        return self.store if hasattr(self, "store") else FaultyStore()

    @rule(posts=several, again=which, failing=failures, together=st.booleans())
    def appends_fail(self, posts: list[Post], again: int, failing: list[Failure | None], together: bool) -> None:
        assert isinstance(self.log, MemoryEventLog)
        asked = [*self.new(posts), *self.earlier(again)]
        self.log.fail_next.extend(failing)
        self.run(self.post_batch(asked) if together else self.post_all(asked))
        self.settle(*asked)
        self.log.fail_next.clear()

    @rule(post=commands, failing=failures)
    def appends_fail_and_the_client_retries(self, post: Post, failing: list[Failure | None]) -> None:
        assert isinstance(self.log, MemoryEventLog)
        [asked] = self.new([post])
        self.log.fail_next.extend(failing)
        self.run(self.post(asked))
        while isinstance(asked.response, Failed):
            self.settle(asked)
            asked = Asked(asked.fields, asked.actor)
            self.run(self.post(asked))
        self.settle(asked)
        self.log.fail_next.clear()

    @rule(us=st.sampled_from([5 * SECOND_US, 20 * SECOND_US, DAY_US]), failing=failures)
    def the_clock_advances_while_appends_fail(self, us: int, failing: list[Failure | None]) -> None:
        assert isinstance(self.log, MemoryEventLog)
        self.log.fail_next.extend(failing)
        self.the_clock_advances(us)
        self.log.fail_next.clear()

    @rule(posts=few, landing=st.integers(0, 4), steps=st.integers(0, 15))
    def crashes_while_the_log_takes_nothing(self, posts: list[Post], landing: int, steps: int) -> None:
        """The appends under way and the checkpoint must fit together after the crash."""
        assert isinstance(self.log, MemoryEventLog)
        asked = self.new(posts)
        self.log.fail_next.extend([*[None] * landing, *[Failure(LogUnavailable("injected"), lands=False)] * 100])
        self.run(self.post_in_part(asked, steps, saved=False))
        self.run(self.save())
        self.lose_the_process()
        self.begin()
        self.settle(*asked)

    @rule(posts=st.lists(staying, min_size=1, max_size=3), us=st.sampled_from([0, SECOND_US, 5 * SECOND_US]))
    def another_writer_appends(self, posts: list[Post], us: int) -> None:
        """It must not happen, and must do no harm: the first writer reads it from the log, a partition at a time."""
        assert isinstance(self.log, MemoryEventLog)
        asked = self.new(posts)
        self.clock.now_us += us
        self.run(self.post_to_another(MemoryEventLog(PARTITIONS, self.log.appended), asked))
        self.settle(*asked)

    async def post_to_another(self, view: MemoryEventLog, asked: Sequence[Asked]) -> None:
        other, _ = await self.started(view, MemoryStateStore())
        for one in asked:
            await self.post(one, other)
        await other.stop()
        for user_id in (*USERS, "gift:g2"):  # a read at the first writer now makes it read what the other wrote
            await self.node.wallet(user_id)

    @rule(posts=few, failing=st.integers(1, 3))
    def checkpoints_fail(self, posts: list[Post], failing: int) -> None:
        assert isinstance(self.store, FaultyStore)
        asked = self.new(posts)
        self.store.failing_saves = failing
        with contextlib.suppress(LedgerError):
            self.run(self.save())
        self.store.failing_saves = 0
        self.run(self.post_batch(asked))
        self.settle(*asked)


class PerBetMachine(MemoryMachine):
    """The same with other rules of money flows."""

    money = MONEY_PER_BET


# --- random days ----------------------------------------------------------------------------------------------------


def live_through(seed: int) -> None:
    """A busy day in which everything may fail. Equal seeds give equal days."""
    chance = random.Random(seed)
    machine = PerBetMachine() if seed % 3 == 2 else MemoryMachine()
    day: deque[Post | Wait] = deque(step for step in busy_day(seed, games=True) if isinstance(step, Post | Wait))
    ways = [way for way in WAYS for _ in range(chance.choice((0, 1, 1, 4)))]
    try:
        while day:
            step = day.popleft()
            if isinstance(step, Wait):
                _let_time_pass(machine, step.us, chance)
            else:
                posts = [step]
                while day and isinstance(after := day[0], Post) and chance.random() < 0.6:
                    posts.append(after)
                    day.popleft()
                _do(machine, chance.choice(ways), posts, chance)
            machine.nothing_is_under_way_and_every_asset_adds_up()
            machine.the_wallets_are_those_of_the_model()
            machine.the_log_alone_gives_the_same_state()
    finally:
        machine.teardown()


def _let_time_pass(machine: MemoryMachine, us: int, chance: random.Random) -> None:
    match chance.randrange(4):
        case 0:
            machine.the_clock_advances_while_appends_fail(us, _failures(chance))
        case 1:
            machine.the_clock_steps_back(us, [])
        case _:
            machine.the_clock_advances(us)


def _failures(chance: random.Random) -> list[Failure | None]:
    return chance.choices(FAILURES, k=chance.randint(1, 4))


WAYS: Final = (
    "batch",
    "at once",
    "dry run",
    "checkpoint",
    "crash",
    "stop",
    "appends fail",
    "ask again",
    "log down",
    "another writes",
    "checkpoint fails",
    "id reused",
    "field changed",
    "retry",
)


def _do(machine: MemoryMachine, way: str, posts: list[Post], chance: random.Random) -> None:
    steps, earlier, maybe = chance.randrange(16), chance.randrange(40), chance.random() < 0.5
    match way:
        case "batch":
            machine.posts_a_batch(posts)
        case "at once":
            machine.many_post_at_once(posts, earlier)
        case "dry run":
            machine.tries_without_writing(posts, earlier)
        case "checkpoint":
            machine.a_checkpoint_is_made_under_load(posts)
        case "crash":
            machine.crashes(posts, steps, saved=maybe)
        case "stop":
            machine.stops_and_starts(posts, steps)
        case "appends fail":
            machine.appends_fail(posts, earlier, _failures(chance), together=maybe)
        case "ask again":
            for post in posts:
                machine.appends_fail_and_the_client_retries(post, _failures(chance))
        case "log down":
            machine.crashes_while_the_log_takes_nothing(posts, chance.randrange(5), steps)
        case "another writes":
            staying = [post for post in posts if post.fields["type"] not in SENDING]
            machine.another_writer_appends(staying, chance.choice((0, 5 * SECOND_US)))
        case "checkpoint fails":
            machine.checkpoints_fail(posts, chance.randint(1, 3))
        case "id reused":
            for post in posts:
                machine.uses_a_command_id_for_another_command(earlier, post)
        case "field changed":
            machine.posts_a_batch(posts)
            machine.repeats_a_command_with_a_field_changed(earlier, steps)
        case "retry":
            machine.posts_a_batch(posts)
            machine.retries_commands_without_a_final_response(steps, together=maybe)


@pytest.mark.parametrize("tenth", first(3, range(10)))
def test_days_by_plain_chance_over_memory(tenth: int) -> None:
    """Hypothesis shrinks a failure, but prefers small and repeated choices; random days get further."""
    days = max(settings().max_examples // 16, 1)
    for seed in range(tenth * days, (tenth + 1) * days):
        try:
            live_through(seed)
        except Exception as error:
            error.add_note(f"day {seed}")
            raise


# --- on disk --------------------------------------------------------------------------------------------------------


class SqliteMachine(LedgerMachine):
    """Over the embedded mode's own files."""

    thread_wait_s = 0.001

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="stakelog-machine-"))
        super().__init__()

    def open_log(self) -> SqliteEventLog:
        return SqliteEventLog(self.folder / "events.sqlite3", PARTITIONS)

    def open_store(self) -> SqliteStateStore:
        return SqliteStateStore(self.folder / "state.sqlite3")

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            shutil.rmtree(self.folder)


# --- how much of it -------------------------------------------------------------------------------------------------


def _bounded(examples_per_hundred: int, steps: int) -> settings:
    """A part of the profile's examples, each of which is a whole day."""
    return settings(
        max_examples=max(settings().max_examples * examples_per_hundred // 100, 1),
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


TestOverMemory = MemoryMachine.TestCase
TestOverMemory.settings = _bounded(30, 40)
TestOverSqlite = pytest.mark.system(SqliteMachine.TestCase)
TestOverSqlite.settings = _bounded(10, 25)
