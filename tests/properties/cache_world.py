"""A cache with projectors and readers that die, come late and overlap, on tables whose every state is known.

``play`` chooses at random what happens next: a commit; its update, which arrives late, twice, out of order or never;
a confirmation, possibly an old one; the steps of a reader (get, read the tables or a replica that is behind, put),
with any other steps between them; a user who is quarantined and later folded again; a rebuild that goes live; deleted
tables; a cache that loses a key, its latest writes, or everything. All rows that the cache returns must be the rows
of the tables at the seq that it names. For this the world keeps every state that the tables ever had.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, Protocol

from projections.caching.port import (
    AggregateCache,
    BoardPutToken,
    CacheUpdate,
    Day,
    Fields,
    Kind,
    PutToken,
    RowsVersion,
)
from projections.models.leaderboards import Board

PARTITIONS: Final = 2
USERS: Final = {"u1": 0, "u2": 0, "u3": 1}
"""User → partition."""
DAYS: Final = (20_000, 20_001)
BOARDS: Final = (Board("a", "INR", 20_000, 20_001), Board("b", "INR", 20_000, 20_002))
KIND: Final[Kind] = "wallet"


class Loss(Protocol):
    """How a cache loses data."""

    def save(self) -> None:
        """Save its content."""

    def restore(self) -> None:
        """Restore the saved content."""

    def lose(self, chance: Random) -> None:
        """Lose one key."""

    def lose_all(self) -> None: ...


@dataclass
class State:
    """A partition's tables after a commit."""

    version: RowsVersion
    rows: dict[str, dict[str, int]]
    days: dict[int, int]
    quarantined: frozenset[str] = frozenset()

    def fields_of(self, user_id: str) -> Fields:
        return {name: b"%d" % value for name, value in self.rows[user_id].items()}


@dataclass
class Tables:
    """One generation: every state that each partition ever had."""

    name: str
    states: list[list[State]]

    def now(self, partition: int) -> State:
        return self.states[partition][-1]


@dataclass
class Reader:
    """A reader between its get and its put."""

    user_id: str
    token: PutToken
    found: tuple[str, State] | None = None


@dataclass
class BoardReader:
    board: Board
    token: BoardPutToken
    found: tuple[str, list[State]] | None = None


@dataclass
class Counts:
    """How often the cache was read, and how often it had the rows or the board."""

    users: int = 0
    boards: int = 0
    reads: int = 0


@dataclass
class World:
    cache: AggregateCache
    loss: Loss
    chance: Random
    counts: Counts = field(default_factory=Counts)
    generations: list[Tables] = field(default_factory=list)
    under_way: list[CacheUpdate] = field(default_factory=list)
    delivered: list[CacheUpdate] = field(default_factory=list)
    confirmations: list[tuple[str, dict[int, RowsVersion]]] = field(default_factory=list)
    readers: list[Reader] = field(default_factory=list)
    board_readers: list[BoardReader] = field(default_factory=list)
    counter: int = 0

    @property
    def live(self) -> Tables:
        return self.generations[-1]

    def number(self) -> int:
        self.counter += 1
        return self.counter

    # --- the tables ------------------------------------------------------------------------------------------------

    def new_generation(self, seq: int | None = None) -> None:
        """Made by a rebuild at the same seqs; or, with ``seq``, made after the tables were deleted."""
        states = []
        for partition in range(PARTITIONS):
            users = [user_id for user_id, of in USERS.items() if of == partition]
            if seq is None:
                old = self.live.now(partition)
                version = RowsVersion(old.version.seq, f"t{self.number()}")
                states.append([State(version, {user: dict(old.rows[user]) for user in users}, dict(old.days))])
            else:
                rows = {user_id: {"w": self.number()} for user_id in users}
                states.append([State(RowsVersion(seq, f"t{self.number()}"), rows, dict.fromkeys(DAYS, 0))])
        self.generations.append(Tables(f"{len(self.generations) + 1}.{self.number()}", states))

    def commit(self) -> None:
        partition = self.chance.randrange(PARTITIONS)
        old = self.live.now(partition)
        rows = {user_id: dict(row) for user_id, row in old.rows.items()}
        days = dict(old.days)
        changed: dict[str, dict[Kind, Fields]] = {}
        changed_days: set[Day] = set()
        for user_id in rows:
            if user_id not in old.quarantined and self.chance.random() < 0.4:
                name = self.chance.choice(("w", "a:INR", "a:GOLD"))
                rows[user_id][name] = self.number()
                changed[user_id] = {KIND: {name: b"%d" % rows[user_id][name]}}
                if self.chance.random() < 0.5:
                    day = self.chance.choice(DAYS)
                    days[day] = self.number()
                    changed_days.add(("INR", day))
        quarantined = old.quarantined
        if self.chance.random() < 0.015:
            quarantined |= {self.chance.choice([user_id for user_id, of in USERS.items() if of == partition])}
        reset = quarantined != old.quarantined
        version = RowsVersion(old.version.seq + self.chance.choice((1, 1, 2, 5)), f"t{self.number()}")
        self._committed(
            partition, State(version, rows, days, quarantined), {} if reset else changed, changed_days, reset=reset
        )

    def release_quarantined(self) -> None:
        """The quarantined users are folded again: rows change, and the seq stays."""
        for partition in range(PARTITIONS):
            old = self.live.now(partition)
            if old.quarantined:
                rows = {user_id: dict(row) for user_id, row in old.rows.items()}
                for user_id in old.quarantined:
                    rows[user_id]["w"] = self.number()
                version = RowsVersion(old.version.seq, f"t{self.number()}")
                days = {day: self.number() for day in old.days}
                self._committed(partition, State(version, rows, days), {}, set(), reset=True)

    def _committed(
        self,
        partition: int,
        state: State,
        changed: dict[str, dict[Kind, Fields]],
        changed_days: set[Day],
        *,
        reset: bool,
    ) -> None:
        before = self.live.now(partition).version
        self.live.states[partition].append(state)
        update = CacheUpdate(partition, self.live.name, before, state.version, changed, sorted(changed_days), reset)
        self.under_way.append(update)

    # --- the projector ---------------------------------------------------------------------------------------------

    async def deliver(self) -> None:
        """Deliver an update: mostly in order, and once."""
        if not self.under_way:
            return
        fate = self.chance.random()
        at = 0 if fate < 0.97 else self.chance.randrange(len(self.under_way))
        update = self.under_way.pop(at)
        if fate < 0.985:
            await self.cache.apply([update])
            self.delivered.append(update)

    async def deliver_again(self) -> None:
        if self.delivered:
            await self.cache.apply([self.chance.choice(self.delivered[-6:])])

    async def confirm(self) -> None:
        versions = {partition: self.live.now(partition).version for partition in range(PARTITIONS)}
        self.confirmations.append((self.live.name, versions))
        if not self.under_way or self.chance.random() < 0.2:  # like a projector that was restarted
            await self.cache.confirm(self.live.name, versions)

    async def confirm_late(self) -> None:
        if self.confirmations:
            await self.cache.confirm(*self.chance.choice(self.confirmations[-4:]))

    # --- readers ---------------------------------------------------------------------------------------------------

    def _seen(self, partition: int, behind: int) -> State:
        """The state of the tables, or of a replica that is behind by so many commits."""
        states = self.live.states[partition]
        return states[max(len(states) - 1 - behind, 0)]

    def _behind(self) -> int:
        return self.chance.choice((0, 0, 0, 0, 1, 3))

    async def get(self) -> None:
        user_id = self.chance.choice(list(USERS))
        cached = await self.cache.get(KIND, USERS[user_id], user_id)
        self.counts.reads += 1
        if cached.token is None:
            return
        if cached.fields is not None:
            self.counts.users += 1
            self._assert_rows_are_true(user_id, cached.token.generation, cached.seq, cached.fields)
        else:
            self.readers.append(Reader(user_id, cached.token))

    def read(self) -> None:
        if self.readers:
            reader = self.chance.choice(self.readers[-3:])
            reader.found = (self.live.name, self._seen(USERS[reader.user_id], self._behind()))

    async def put(self) -> None:
        ready = [reader for reader in self.readers if reader.found is not None]
        if not ready:
            return
        reader = self.chance.choice(ready[-3:])
        if self.chance.random() < 0.9:
            self.readers.remove(reader)
        assert reader.found is not None
        generation, state = reader.found
        if generation == reader.token.generation and reader.user_id not in state.quarantined:
            seq, fields = state.version.seq, state.fields_of(reader.user_id)
            await self.cache.put(KIND, USERS[reader.user_id], reader.user_id, reader.token, seq, fields)

    async def get_board(self) -> None:
        board = self.chance.choice(BOARDS)
        cached = await self.cache.get_board(board, PARTITIONS)
        if cached.token is None:
            return
        if cached.document is not None:
            self.counts.boards += 1
            self._assert_board_is_true(board, cached.token.generation, cached.seqs, cached.document)
        else:
            self.board_readers.append(BoardReader(board, cached.token))

    def read_board(self) -> None:
        if self.board_readers:
            behind = self._behind()
            states = [self._seen(partition, behind) for partition in range(PARTITIONS)]
            self.chance.choice(self.board_readers[-3:]).found = (self.live.name, states)

    async def put_board(self) -> None:
        ready = [reader for reader in self.board_readers if reader.found is not None]
        if not ready:
            return
        reader = self.chance.choice(ready[-3:])
        self.board_readers.remove(reader)
        assert reader.found is not None
        generation, states = reader.found
        if generation == reader.token.generation and not any(state.quarantined for state in states):
            seqs = [state.version.seq for state in states]
            await self.cache.put_board(reader.board, reader.token, seqs, document_of(reader.board, states))

    # --- the assertions ---------------------------------------------------------------------------------------------

    def _states_at(self, generation: str, partition: int, seq: int) -> list[State]:
        (tables,) = [one for one in self.generations if one.name == generation]
        return [state for state in tables.states[partition] if state.version.seq == seq]

    def _assert_rows_are_true(self, user_id: str, generation: str, seq: int, fields: Fields) -> None:
        states = [one for one in self._states_at(generation, USERS[user_id], seq) if user_id not in one.quarantined]
        assert any(dict(one.fields_of(user_id)) == dict(fields) for one in states), (user_id, generation, seq, fields)

    def _assert_board_is_true(self, board: Board, generation: str, seqs: tuple[int, ...], document: bytes) -> None:
        states = []
        for partition, seq in enumerate(seqs):
            unquarantined = [one for one in self._states_at(generation, partition, seq) if not one.quarantined]
            assert unquarantined, f"partition {partition} was never without a quarantine at {seq}"
            states.append(unquarantined[-1])
        assert document == document_of(board, states), (board, generation, seqs)

    # --- other generations ------------------------------------------------------------------------------------------

    def switch(self) -> None:
        self.release_quarantined()
        self.new_generation()

    def delete_tables(self) -> None:
        self.new_generation(seq=self.chance.choice((0, 3, 10)))


def document_of(board: Board, states: list[State]) -> bytes:
    days = range(board.first_day, board.end_day)
    return json.dumps([[state.days[day] for day in days] for state in states]).encode()


def sometimes(chance: Random, share: float, call: Callable[[], None]) -> Callable[[], None]:
    def maybe() -> None:
        if chance.random() < share:
            call()

    return maybe


async def play(cache: AggregateCache, loss: Loss, seed: int, steps: int) -> Counts:
    """Run ``steps`` random actions. Raises AssertionError if the cache returns wrong rows."""
    chance = Random(seed)
    world = World(cache, loss, chance)
    world.new_generation(seq=10)
    await world.confirm()
    actions: list[tuple[int, Callable[[], Any]]] = [
        (10, world.commit),
        (16, world.deliver),
        (2, world.deliver_again),
        (4, world.confirm),
        (1, world.confirm_late),
        (24, world.get),
        (10, world.read),
        (10, world.put),
        (16, world.get_board),
        (6, world.read_board),
        (6, world.put_board),
        (2, world.release_quarantined),
        (1, loss.save),
    ]
    calm = chance.random() < 0.4  # runs without losses, in which much stays cached for long
    if not calm:
        actions += [
            (1, sometimes(chance, 0.4, world.switch)),
            (1, lambda: loss.lose(chance)),
            (1, sometimes(chance, 0.3, loss.lose_all)),
            (1, sometimes(chance, 0.3, loss.restore)),
            (1, sometimes(chance, 0.2, world.delete_tables)),
        ]
    weights, calls = zip(*actions, strict=True)
    for _ in range(steps):
        (call,) = chance.choices(calls, weights)
        action = call()
        if hasattr(action, "__await__"):
            await action
    return world.counts
