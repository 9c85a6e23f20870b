"""A cache among folders and readers that die, come late and meet, over tables that are known exactly.

``play`` lets chance decide what happens next: a commit; what is told of it arriving, late, twice, in another order or
never; a confirmation, also one of long ago; a reader looking, reading the tables (or a standby that is behind) and
keeping, with anything in between; a user who stands still, and is taken again; a rebuild that goes live; tables that
are deleted; a cache that loses a key, its latest writes, or all. Whatever the cache answers must be what the tables
said at the seq that it names: of each state that there ever was, the world keeps all rows.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, Protocol

from projections.caching.port import AggregateCache, Board, BoardTicket, Day, Fields, Kind, Position, Step, Ticket

PARTITIONS: Final = 2
USERS: Final = {"u1": 0, "u2": 0, "u3": 1}
"""User → partition."""
DAYS: Final = (20_000, 20_001)
BOARDS: Final = (Board("a", "INR", 20_000, 20_001), Board("b", "INR", 20_000, 20_002))
KIND: Final[Kind] = "wallet"


class Loss(Protocol):
    """How a cache loses things."""

    def save(self) -> None:
        """Remember all that it holds now."""

    def restore(self) -> None:
        """It is as it was when it was remembered last."""

    def lose(self, chance: Random) -> None:
        """One key."""

    def lose_all(self) -> None: ...


@dataclass
class State:
    """A partition's tables after a commit. Users of ``still`` stand still."""

    place: Position
    rows: dict[str, dict[str, int]]
    days: dict[int, int]
    still: frozenset[str] = frozenset()

    def fields_of(self, user_id: str) -> Fields:
        return {name: b"%d" % value for name, value in self.rows[user_id].items()}


@dataclass
class Tables:
    """One generation: for each partition all states that it was ever in."""

    name: str
    states: list[list[State]]

    def now(self, partition: int) -> State:
        return self.states[partition][-1]


@dataclass
class Reader:
    """Somewhere between its look and its keep."""

    user_id: str
    ticket: Ticket
    found: tuple[str, State] | None = None


@dataclass
class BoardReader:
    board: Board
    ticket: BoardTicket
    found: tuple[str, list[State]] | None = None


@dataclass
class Judged:
    """What came of it: how often the cache answered, and out of which mishaps."""

    users: int = 0
    boards: int = 0
    asked: int = 0


@dataclass
class World:
    cache: AggregateCache
    loss: Loss
    chance: Random
    judged: Judged = field(default_factory=Judged)
    generations: list[Tables] = field(default_factory=list)
    under_way: list[Step] = field(default_factory=list)
    told: list[Step] = field(default_factory=list)
    confirmations: list[tuple[str, dict[int, Position]]] = field(default_factory=list)
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
        """As a rebuild makes it, at the same places; or, with ``seq``, anew."""
        states = []
        for partition in range(PARTITIONS):
            users = [user_id for user_id, of in USERS.items() if of == partition]
            if seq is None:
                old = self.live.now(partition)
                place = Position(old.place.seq, f"t{self.number()}")
                states.append([State(place, {user: dict(old.rows[user]) for user in users}, dict(old.days))])
            else:
                rows = {user_id: {"w": self.number()} for user_id in users}
                states.append([State(Position(seq, f"t{self.number()}"), rows, dict.fromkeys(DAYS, 0))])
        self.generations.append(Tables(f"{len(self.generations) + 1}.{self.number()}", states))

    def commit(self) -> None:
        partition = self.chance.randrange(PARTITIONS)
        old = self.live.now(partition)
        rows = {user_id: dict(row) for user_id, row in old.rows.items()}
        days = dict(old.days)
        touched: dict[str, dict[Kind, Fields]] = {}
        moved: set[Day] = set()
        for user_id in rows:
            if user_id not in old.still and self.chance.random() < 0.4:
                name = self.chance.choice(("w", "a:INR", "a:GOLD"))
                rows[user_id][name] = self.number()
                touched[user_id] = {KIND: {name: b"%d" % rows[user_id][name]}}
                if self.chance.random() < 0.5:
                    day = self.chance.choice(DAYS)
                    days[day] = self.number()
                    moved.add(("INR", day))
        still = old.still
        if self.chance.random() < 0.015:
            still |= {self.chance.choice([user_id for user_id, of in USERS.items() if of == partition])}
        anew = still != old.still
        place = Position(old.place.seq + self.chance.choice((1, 1, 2, 5)), f"t{self.number()}")
        self._committed(partition, State(place, rows, days, still), {} if anew else touched, moved, anew=anew)

    def take_again(self) -> None:
        """Those who stand still stand still no more: rows move, and the seq stays."""
        for partition in range(PARTITIONS):
            old = self.live.now(partition)
            if old.still:
                rows = {user_id: dict(row) for user_id, row in old.rows.items()}
                for user_id in old.still:
                    rows[user_id]["w"] = self.number()
                place = Position(old.place.seq, f"t{self.number()}")
                days = {day: self.number() for day in old.days}
                self._committed(partition, State(place, rows, days), {}, set(), anew=True)

    def _committed(
        self, partition: int, state: State, touched: dict[str, dict[Kind, Fields]], moved: set[Day], *, anew: bool
    ) -> None:
        before = self.live.now(partition).place
        self.live.states[partition].append(state)
        step = Step(partition, self.live.name, before, state.place, touched, sorted(moved), anew)
        self.under_way.append(step)

    # --- whoever folds ---------------------------------------------------------------------------------------------

    async def tell(self) -> None:
        """What is under way arrives: mostly in order, and once."""
        if not self.under_way:
            return
        fate = self.chance.random()
        at = 0 if fate < 0.97 else self.chance.randrange(len(self.under_way))
        step = self.under_way.pop(at)
        if fate < 0.985:
            await self.cache.step([step])
            self.told.append(step)

    async def tell_again(self) -> None:
        if self.told:
            await self.cache.step([self.chance.choice(self.told[-6:])])

    async def confirm(self) -> None:
        places = {partition: self.live.now(partition).place for partition in range(PARTITIONS)}
        self.confirmations.append((self.live.name, places))
        if not self.under_way or self.chance.random() < 0.2:  # as one who died and took up again
            await self.cache.confirm(self.live.name, places)

    async def confirm_late(self) -> None:
        if self.confirmations:
            await self.cache.confirm(*self.chance.choice(self.confirmations[-4:]))

    # --- readers ---------------------------------------------------------------------------------------------------

    def _seen(self, partition: int, behind: int) -> State:
        """What the tables say, or a standby that is behind by so many commits."""
        states = self.live.states[partition]
        return states[max(len(states) - 1 - behind, 0)]

    def _behind(self) -> int:
        return self.chance.choice((0, 0, 0, 0, 1, 3))

    async def look(self) -> None:
        user_id = self.chance.choice(list(USERS))
        looked = await self.cache.look(KIND, USERS[user_id], user_id)
        self.judged.asked += 1
        if looked.ticket is None:
            return
        if looked.fields is not None:
            self.judged.users += 1
            self._judge(user_id, looked.ticket.generation, looked.seq, looked.fields)
        else:
            self.readers.append(Reader(user_id, looked.ticket))

    def read(self) -> None:
        if self.readers:
            reader = self.chance.choice(self.readers[-3:])
            reader.found = (self.live.name, self._seen(USERS[reader.user_id], self._behind()))

    async def keep(self) -> None:
        ready = [reader for reader in self.readers if reader.found is not None]
        if not ready:
            return
        reader = self.chance.choice(ready[-3:])
        if self.chance.random() < 0.9:
            self.readers.remove(reader)
        assert reader.found is not None
        generation, state = reader.found
        if generation == reader.ticket.generation and reader.user_id not in state.still:
            seq, fields = state.place.seq, state.fields_of(reader.user_id)
            await self.cache.keep(KIND, USERS[reader.user_id], reader.user_id, reader.ticket, seq, fields)

    async def look_board(self) -> None:
        board = self.chance.choice(BOARDS)
        looked = await self.cache.look_board(board, PARTITIONS)
        if looked.ticket is None:
            return
        if looked.document is not None:
            self.judged.boards += 1
            self._judge_board(board, looked.ticket.generation, looked.seqs, looked.document)
        else:
            self.board_readers.append(BoardReader(board, looked.ticket))

    def read_board(self) -> None:
        if self.board_readers:
            behind = self._behind()
            states = [self._seen(partition, behind) for partition in range(PARTITIONS)]
            self.chance.choice(self.board_readers[-3:]).found = (self.live.name, states)

    async def keep_board(self) -> None:
        ready = [reader for reader in self.board_readers if reader.found is not None]
        if not ready:
            return
        reader = self.chance.choice(ready[-3:])
        self.board_readers.remove(reader)
        assert reader.found is not None
        generation, states = reader.found
        if generation == reader.ticket.generation and not any(state.still for state in states):
            seqs = [state.place.seq for state in states]
            await self.cache.keep_board(reader.board, reader.ticket, seqs, document_of(reader.board, states))

    # --- the judge -------------------------------------------------------------------------------------------------

    def _states_at(self, generation: str, partition: int, seq: int) -> list[State]:
        (tables,) = [one for one in self.generations if one.name == generation]
        return [state for state in tables.states[partition] if state.place.seq == seq]

    def _judge(self, user_id: str, generation: str, seq: int, fields: Fields) -> None:
        states = [one for one in self._states_at(generation, USERS[user_id], seq) if user_id not in one.still]
        assert any(dict(one.fields_of(user_id)) == dict(fields) for one in states), (user_id, generation, seq, fields)

    def _judge_board(self, board: Board, generation: str, seqs: tuple[int, ...], document: bytes) -> None:
        states = []
        for partition, seq in enumerate(seqs):
            well = [one for one in self._states_at(generation, partition, seq) if not one.still]
            assert well, f"partition {partition} was never well at {seq}"
            states.append(well[-1])
        assert document == document_of(board, states), (board, generation, seqs)

    # --- losses ----------------------------------------------------------------------------------------------------

    def switch(self) -> None:
        self.take_again()
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


async def play(cache: AggregateCache, loss: Loss, seed: int, steps: int) -> Judged:
    """``steps`` things that happen. Raises AssertionError where the cache says what is not so."""
    chance = Random(seed)
    world = World(cache, loss, chance)
    world.new_generation(seq=10)
    await world.confirm()
    happenings: list[tuple[int, Callable[[], Any]]] = [
        (10, world.commit),
        (16, world.tell),
        (2, world.tell_again),
        (4, world.confirm),
        (1, world.confirm_late),
        (24, world.look),
        (10, world.read),
        (10, world.keep),
        (16, world.look_board),
        (6, world.read_board),
        (6, world.keep_board),
        (2, world.take_again),
        (1, loss.save),
    ]
    calm = chance.random() < 0.4  # days without losses, in which much is kept for long
    if not calm:
        happenings += [
            (1, sometimes(chance, 0.4, world.switch)),
            (1, lambda: loss.lose(chance)),
            (1, sometimes(chance, 0.3, loss.lose_all)),
            (1, sometimes(chance, 0.3, loss.restore)),
            (1, sometimes(chance, 0.2, world.delete_tables)),
        ]
    weights, calls = zip(*happenings, strict=True)
    for _ in range(steps):
        (call,) = chance.choices(calls, weights)
        happening = call()
        if hasattr(happening, "__await__"):
            await happening
    return world.judged
