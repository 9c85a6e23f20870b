"""The live feeds of one process: the hub reads each changed user or game once, for all feeds that follow it.

The hub gets messages about which users and games changed (``Change``). It reads those that a feed follows from the
tables, a batch of topics in one snapshot, and gives each feed what its cursors say that it lacks. The messages are
hints only: everything that a feed gets comes from the tables.

Invariants:
(1) a feed gets each event of its topics once, in order, and the last value of each state, also if messages to the hub
    are lost: every ``TEND_S`` the hub compares the checkpoints, and reads each partition that has changed without a
    message;
(2) a feed has only the topics that its client asked for. If the token of the client expires, or this process learns
    that it was revoked, the feed is dropped within ``TEND_S``;
(3) the state of a game is sent at most once every ``STATE_EVERY_S``;
(4) a slow client delays no other feed: see ``feed``;
(5) after ``close`` every feed ends within ``CUT_AFTER_S``.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from time import monotonic
from typing import Any, Final

from ledger import background
from ledger.core.fields import GAME_STREAM
from ledger.core.games.rules import Game
from ledger.errors import LedgerError
from ledger.pacing import RareWarnings
from projections.live.feed import Feed
from projections.live.port import ANY_GAME, Change, Gap, Tell
from projections.live.topics import FROM_NOW, BodyOf, GameTopic, Reading, Topic, UserTopic
from projections.reads import statements
from projections.reads.queries import Reads
from projections.storage.port import ReadModel
from projections.tables.queries import Query

STATE_EVERY_S: Final = 0.5
"""The contract's: twice a second."""
TEND_S: Final = 0.5
"""How often tokens, slow clients, heartbeats and checkpoints are checked. Chosen."""
HEARTBEAT_S: Final = 15.0
"""Chosen: proxies close connections that are silent for 30 to 60 s."""
SLOW_S: Final = 10.0
"""A client that does not read its waiting messages for so long is dropped. Chosen."""
CUT_AFTER_S: Final = 0.5
"""How long a dropped client has to read the reason; then its connection is cut. Chosen: so a stop of the service ends
all feeds within a second."""
_BATCH: Final = 50
"""Topics in one read of the tables. Chosen: some 5 ms in another thread."""
_AGAIN_S: Final = 0.02
"""When to read a topic again whose rows are older than the message about it: the database is a replica."""
_RETRY_S: Final = 0.5
"""The pause after the tables could not be read."""
_IDLE_S: Final = 10.0
"""How long the tasks of the hub run without a feed."""
_CHECKPOINTS: Final = (Query(statements.checkpoints),)

SLOW: Final = "slow_consumer"
CLOSING: Final = "shutting_down"
REFUSED: Final = "rows_differ_from_log"

_warnings: Final = RareWarnings(logging.getLogger(__name__))

Listen = Callable[[Tell], Coroutine[Any, Any, None]]
"""A source of changes: calls its argument with each message until cancelled. The first message is a ``Gap``, and so
is the first one after a loss."""


class TooManyFeeds(Exception):
    """``limit`` feeds are open: of the process if ``of_all``, otherwise of one of the payers."""

    def __init__(self, limit: int, *, of_all: bool) -> None:
        super().__init__(f"at most {limit} live feeds at once {'on this node' if of_all else 'for one user'}")
        self.limit, self.of_all = limit, of_all


class HubClosed(Exception):
    """The service is stopping: no feed is opened any more."""


class UnknownId(Exception):
    """The id to continue from is not one of a feed with these topics."""


class _Subject:
    """A topic, the feeds that follow it, and when it must be read."""

    __slots__ = ("feeds", "quarantined", "state_due_s", "state_s", "topic", "wanted_seq")

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self.feeds: set[Feed] = set()
        self.wanted_seq = 0
        """The seq that a reading must have reached; otherwise it is read again."""
        self.state_s = float("-inf")
        """When the state was last read, by the hub's clock. Games only."""
        self.state_due_s: float | None = None
        """When the state must be read next, by the hub's clock; None while it is being read and nothing has changed
        since. Games only."""
        self.quarantined = False


class Hub:
    """Call all methods in the event loop. None of them blocks it."""

    def __init__(
        self,
        model: ReadModel,
        reads: Reads,
        body_of: BodyOf,
        listen: Listen | None,
        *,
        feeds_max: int,
        feeds_of_user_max: int,
        clock_s: Callable[[], float] = monotonic,
    ) -> None:
        """``listen``: the source of changes. None: there is none, and the hub finds changes only by the checkpoints,
        within ``TEND_S``. ``feeds_max``: of the process; ``feeds_of_user_max``: of each payer."""
        self._model, self._reads, self._body_of, self._listen = model, reads, body_of, listen
        self._feeds_max, self._feeds_of_user_max = feeds_max, feeds_of_user_max
        self._clock_s = clock_s
        self.feeds: set[Feed] = set()
        self.dropped: Counter[str] = Counter()
        """Dropped feeds by reason, for the metrics."""
        self._payers: Counter[str] = Counter()
        self._subjects: dict[str, _Subject] = {}
        self._dirty: dict[str, None] = {}
        """The keys of the topics to read, in the order in which they changed."""
        self._later: dict[str, float] = {}
        """Key of a topic → when it must be read, by the hub's clock."""
        self._beginning: list[Feed] = []
        self._wake = asyncio.Event()
        self._announced: dict[int, int] = {}
        self._polled: dict[int, int] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False
        self._idle_since_s = 0.0

    def bound(self, feeds_max: int) -> None:
        """Lower the limit of the process to ``feeds_max``, if that is less than the present one."""
        self._feeds_max = min(self._feeds_max, feeds_max)

    # --- feeds -----------------------------------------------------------------------------------------------------

    def open(
        self,
        user_ids: Sequence[str],
        games: Sequence[Game],
        last_id: str | None,
        payers: Sequence[str],
        why_ended: Callable[[], str | None],
    ) -> Feed:
        """Open a feed of these users and games. It continues after ``last_id``; None: it begins now. ``payers``: the
        feed counts under the limit of each. The caller must call ``remove`` when its client is gone. Raises
        TooManyFeeds, UnknownId and HubClosed."""
        if self._closed:
            raise HubClosed
        if len(self.feeds) >= self._feeds_max:
            raise TooManyFeeds(self._feeds_max, of_all=True)
        if any(self._payers[payer] >= self._feeds_of_user_max for payer in payers):
            raise TooManyFeeds(self._feeds_of_user_max, of_all=False)
        topics: list[Topic] = [self._user(user_id) for user_id in dict.fromkeys(user_ids)]
        topics += [self._game(game) for game in {game.name: game for game in games}.values()]
        feed = Feed(topics, payers, why_ended)
        feed.continues = self._read_all
        feed.sent_s = self._clock_s()
        if last_id is not None and not feed.continue_from(last_id):
            raise UnknownId
        self.feeds.add(feed)
        self._payers.update(payers)
        for topic in topics:
            self._subjects.setdefault(topic.key, _Subject(topic)).feeds.add(feed)
        if last_id is None:
            self._beginning.append(feed)
        self._read_all(feed)
        self._start()
        return feed

    def _user(self, user_id: str) -> Topic:
        known = self._subjects.get(user_id)
        return UserTopic(user_id, self._reads, self._body_of) if known is None else known.topic

    def _game(self, game: Game) -> Topic:
        known = self._subjects.get(GAME_STREAM + game.name)
        return GameTopic(game, self._reads, self._body_of) if known is None else known.topic

    def remove(self, feed: Feed) -> None:
        """Forget the feed, because its client is gone. Calling it again is harmless."""
        if feed not in self.feeds:
            return
        self.feeds.remove(feed)
        self._payers.subtract(feed.payers)
        for payer in feed.payers:
            if not self._payers[payer]:
                del self._payers[payer]
        for topic in feed.topics:
            subject = self._subjects[topic.key]
            subject.feeds.discard(feed)
            if not subject.feeds:
                del self._subjects[topic.key]
                self._dirty.pop(topic.key, None)
                self._later.pop(topic.key, None)
        self._idle_since_s = self._clock_s()

    def _drop(self, feed: Feed, reason: str) -> None:
        if feed.dropped:
            return
        self.dropped[reason] += 1
        feed.drop(reason)
        asyncio.get_running_loop().call_later(CUT_AFTER_S, _cut, feed)

    def close(self) -> None:
        """Drop all feeds with the reason ``shutting_down``, and open no more."""
        self._closed = True
        for feed in self.feeds:
            self._drop(feed, CLOSING)

    async def stop(self) -> None:
        """End the tasks. Call ``close`` before."""
        self._closed = True
        await self._end_tasks()

    # --- tasks -----------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        if self._tasks:
            return
        self._announced, self._polled = {}, {}
        self._tasks = [background.keep(self._work, "live-feeds"), background.keep(self._tend, "live-feeds-tend")]
        listen = self._listen
        if listen is not None:
            self._tasks.append(background.keep(lambda: listen(self.tell), "live-feeds-changes"))

    async def _end_tasks(self) -> None:
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    # --- what changed ----------------------------------------------------------------------------------------------

    def tell(self, change: Change | Gap) -> None:
        """Take one message of the source of changes."""
        if isinstance(change, Gap):
            self._read_partition(change.partition)
            return
        self._announced[change.partition] = max(change.seq, self._announced.get(change.partition, 0))
        if change.all_users:
            self._read_partition(change.partition)
            self._games_changed((ANY_GAME,))
            return
        for key in change.users.keys() & self._subjects.keys():
            subject = self._subjects[key]
            subject.wanted_seq = max(subject.wanted_seq, change.seq)
            self._mark(key)
        self._games_changed(change.games)

    def _games_changed(self, games: Sequence[str]) -> None:
        if not games:
            return
        now_s = self._clock_s()
        for subject in self._of_games():
            assert isinstance(subject.topic, GameTopic)
            if subject.topic.game.name in games or ANY_GAME in games:
                self._want_state(subject, now_s)

    def _of_games(self) -> Iterator[_Subject]:
        return (subject for subject in self._subjects.values() if isinstance(subject.topic, GameTopic))

    def _want_state(self, subject: _Subject, now_s: float) -> None:
        due_s = max(now_s, subject.state_s + STATE_EVERY_S)
        if subject.state_due_s is None or due_s < subject.state_due_s:
            subject.state_due_s = due_s
        self._mark_later(subject.topic.key, subject.state_due_s)

    def _read_partition(self, partition: int | None) -> None:
        """Read every topic of the partition; None: of all."""
        now_s = self._clock_s()
        for key, subject in self._subjects.items():
            if partition is None or subject.topic.partition == partition:
                self._mark(key)
                if isinstance(subject.topic, GameTopic):
                    self._want_state(subject, now_s)

    def _read_all(self, feed: Feed) -> None:
        """Read every topic of the feed."""
        now_s = self._clock_s()
        for topic in feed.topics:
            subject = self._subjects.get(topic.key)
            if subject is not None:
                self._mark(topic.key)
                if isinstance(topic, GameTopic):
                    self._want_state(subject, now_s)

    def _mark(self, key: str) -> None:
        self._dirty[key] = None
        self._wake.set()

    def _mark_later(self, key: str, at_s: float) -> None:
        self._later[key] = min(at_s, self._later.get(key, at_s))
        self._wake.set()

    # --- reading ---------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        while True:
            now_s = self._clock_s()
            for key in [key for key, at_s in self._later.items() if at_s <= now_s]:
                del self._later[key]
                self._dirty[key] = None
            if not self._dirty and not self._beginning:
                await self._wait(now_s)
                continue
            try:
                await self._read_batch(now_s)
            except LedgerError as error:
                _warnings.warn("live feeds wait until the read model can be read: %s", error)
                await asyncio.sleep(_RETRY_S)

    async def _wait(self, now_s: float) -> None:
        self._wake.clear()
        left_s = min(self._later.values(), default=float("inf")) - now_s
        try:
            async with asyncio.timeout(None if left_s == float("inf") else max(left_s, 0.001)):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _read_batch(self, now_s: float) -> None:
        beginning = self._some_beginning()
        keys = dict.fromkeys(topic.key for feed in beginning for topic in feed.topics)
        for key in self._dirty:
            if len(keys) >= _BATCH:
                break
            keys[key] = None
        subjects = [self._subjects[key] for key in keys if key in self._subjects]
        asked = []
        for subject in subjects:
            after = min((self._seq_of(subject, feed) for feed in subject.feeds), default=FROM_NOW)
            due = subject.state_due_s is not None and subject.state_due_s <= now_s
            asked.append((subject, after, due))
        for key in keys:
            self._dirty.pop(key, None)
        if not subjects:
            return
        for subject, _, due in asked:
            if due:
                subject.state_due_s = None
        try:
            readings = await self._fetch([(subject.topic, after, due) for subject, after, due in asked])
        except BaseException:
            for key in keys:
                self._dirty[key] = None
            for subject, _, due in asked:
                if due:
                    subject.state_due_s = now_s
            self._beginning += beginning
            raise
        self._deliver(asked, readings, beginning)

    def _some_beginning(self) -> list[Feed]:
        taken: list[Feed] = []
        count = 0
        while self._beginning and (not taken or count + len(self._beginning[0].topics) <= _BATCH):
            feed = self._beginning.pop(0)
            if feed in self.feeds:
                taken.append(feed)
                count += len(feed.topics)
        return taken

    @staticmethod
    def _seq_of(subject: _Subject, feed: Feed) -> int:
        """The seq after which the feed needs events; ``FROM_NOW`` if it needs none now."""
        if feed.dropped or feed.full_since_s is not None or not feed.cursors:
            return FROM_NOW
        return feed.cursors[subject.topic.key].seq

    async def _fetch(self, topics: Sequence[tuple[Topic, int, bool]]) -> list[Reading]:
        """Read all topics in one snapshot. ``topics``: each with the seq after which events are wanted, and whether
        the state is wanted. Returns one reading for each, in order. Raises LedgerError."""
        queries = [topic.queries(after, with_state=state) for topic, after, state in topics]
        rows = await self._model.fetch([query for of_topic in queries for query in of_topic])
        readings = []
        at = 0
        for (topic, _, _), of_topic in zip(topics, queries, strict=True):
            readings.append(await topic.reading(rows[at : at + len(of_topic)]))
            at += len(of_topic)
        return readings

    def _deliver(
        self,
        asked: Sequence[tuple[_Subject, int, bool]],
        readings: Sequence[Reading],
        beginning: Sequence[Feed],
    ) -> None:
        now_s = self._clock_s()
        found: dict[str, Reading] = {}
        for (subject, after, due), reading in zip(asked, readings, strict=True):
            key = subject.topic.key
            found[key] = reading
            if self._subjects.get(key) is not subject:
                continue  # its last feed was removed meanwhile
            is_game = isinstance(subject.topic, GameTopic)
            all_took = True
            for feed in list(subject.feeds):
                if reading.refused:
                    self._drop(feed, REFUSED)
                elif feed.cursors and not feed.dropped and feed.full_since_s is None:
                    all_took &= feed.take(key, after, reading, with_state=due or not is_game, now_s=now_s)
            if due:
                self._state_was_read(subject, now_s, again=not all_took)
            if subject.state_due_s is not None:
                self._mark_later(key, subject.state_due_s)
            subject.quarantined = reading.quarantined
            if not reading.is_whole:
                self._mark(key)
            elif reading.folded < subject.wanted_seq and not reading.quarantined:
                self._mark_later(key, now_s + _AGAIN_S)
        for feed in beginning:
            if feed in self.feeds and not feed.dropped:
                feed.begin([found[topic.key] for topic in feed.topics], now_s)

    def _state_was_read(self, subject: _Subject, now_s: float, *, again: bool) -> None:
        """Set when the state must be read next. ``again``: a feed could not take it. ``state_due_s`` is not None if
        the state has changed while it was read."""
        assert isinstance(subject.topic, GameTopic)
        subject.state_s = now_s
        now_us = self._reads.now_us()
        due_s = now_s + (subject.topic.changes_at_us(now_us) - now_us) / 1_000_000
        if again:
            due_s = now_s
        elif subject.state_due_s is not None:
            due_s = min(due_s, subject.state_due_s)
        subject.state_due_s = max(due_s, now_s + STATE_EVERY_S)

    # --- tending ---------------------------------------------------------------------------------------------------

    async def _tend(self) -> None:
        while True:
            await asyncio.sleep(TEND_S)
            now_s = self._clock_s()
            for number, feed in enumerate(list(self.feeds)):
                if number % 100 == 99:
                    await asyncio.sleep(0)  # thousands of feeds in one go would delay commands
                self._tend_one(feed, now_s)
            if not self.feeds and now_s - self._idle_since_s > _IDLE_S:
                for task in self._tasks:  # includes the task that runs this
                    task.cancel()
                self._tasks = []
                return
            try:
                await self._compare_checkpoints()
            except LedgerError as error:
                _warnings.warn("live feeds wait until the read model can be read: %s", error)

    def _tend_one(self, feed: Feed, now_s: float) -> None:
        if feed.dropped:
            return
        if reason := feed.why_ended():
            self._drop(feed, reason)
        elif feed.full_since_s is not None and now_s - feed.full_since_s > SLOW_S:
            self._drop(feed, SLOW)
        elif now_s - feed.sent_s >= HEARTBEAT_S:
            feed.add_heartbeat(now_s)

    async def _compare_checkpoints(self) -> None:
        """Read the partitions whose checkpoint has moved without a message, and the quarantined users, whose rows may
        change without an event."""
        (rows,) = await self._model.fetch(_CHECKPOINTS, quick=True)
        folded: Mapping[int, int] = dict(rows)
        for partition, seq in folded.items():
            known = self._polled.get(partition, 0)
            if known > self._announced.get(partition, 0):
                self._announced[partition] = known
                self._read_partition(partition)
            self._polled[partition] = seq
        for key, subject in self._subjects.items():
            if subject.quarantined:
                self._mark(key)


def _cut(feed: Feed) -> None:
    if feed.cut is not None:
        feed.cut()
