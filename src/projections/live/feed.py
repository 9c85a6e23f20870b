"""One live feed: what its client asked for, how far the client has got, and the messages that wait for it.

Invariants:
(1) the ``id`` of a message says, for every topic of the feed, what the client has after this message;
(2) a feed in which ``QUEUE_MAX`` messages wait is *full*: no more are added, and its cursors do not move. After its
    client has taken the messages, the feed continues from the tables. So a slow client costs a bounded amount of
    memory and misses no event.
"""

import asyncio
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

import msgspec

from projections.live.topics import Cursor, Event, Reading, State, Topic, cursors_text, parse_cursors

QUEUE_MAX: Final = 100
"""Messages that may wait for a client. Chosen: more than a client gets in a second, and about 60 KB."""

HEARTBEAT: Final = "heartbeat"
DROPPED: Final = "dropped"


class Message(NamedTuple):
    """``name`` is the event's name, or "" if the message has only an id. ``id`` is "" if the message changes nothing
    of what the client has (``heartbeat``, ``dropped``). ``data`` is JSON."""

    name: str
    id: str
    data: bytes = b""


class Feed:
    """The connection of its client calls ``waiting`` and ``leave``; the hub calls everything else."""

    __slots__ = (
        "_ready",
        "_scope",
        "continues",
        "cursors",
        "cut",
        "dropped",
        "full_since_s",
        "payers",
        "queue",
        "sent_s",
        "started",
        "topics",
        "why_ended",
    )

    def __init__(self, topics: Sequence[Topic], payers: Sequence[str], why_ended: Callable[[], str | None]) -> None:
        """``payers``: keys under whose limits the feed counts. ``why_ended`` returns the reason why the client may no
        longer read the feed, or None."""
        self.topics, self.payers, self.why_ended = topics, payers, why_ended
        self.cursors: dict[str, Cursor] = {}
        """By the key of the topic. {}: the feed is new, and nothing was read for it yet."""
        self._scope = _scope_of(topics)
        self.queue: list[Message] = []
        self._ready = asyncio.Event()
        self.started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done as soon as the first messages of a new feed wait, or the feed continues from an id, or it is
        dropped."""
        self.full_since_s: float | None = None
        self.sent_s = 0.0
        """When the last message was added."""
        self.dropped = False
        self.continues: Callable[[Feed], None] | None = None
        """Called when a full feed has room again."""
        self.cut: Callable[[], object] | None = None
        """Ends the client's connection. Needed because a client may not read what is sent to it."""

    # --- for its client --------------------------------------------------------------------------------------------

    async def waiting(self) -> Sequence[Message]:
        """Wait for at least one message, and return all that wait. Empty: the feed has ended."""
        while not self.queue:
            if self.dropped:
                return ()
            self._ready.clear()
            await self._ready.wait()
        messages = tuple(self.queue)
        self.queue.clear()
        if self.full_since_s is not None:
            self.full_since_s = None
            if self.continues is not None and not self.dropped:
                self.continues(self)
        return messages

    def leave(self) -> None:
        """End the feed, because its client is gone."""
        self.queue.clear()
        self.dropped = True
        self._ready.set()

    # --- for the hub -----------------------------------------------------------------------------------------------

    def continue_from(self, last_id: str) -> bool:
        """Set the cursors from an id that a feed of the same topics has sent. Returns False if it is no such id."""
        scope, _, text = last_id.partition("~")
        cursors = parse_cursors(text, [topic.key for topic in self.topics])
        if scope != self._scope or cursors is None:
            return False
        self.cursors = cursors
        self.started.set_result(None)
        return True

    def begin(self, readings: Sequence[Reading], now_s: float) -> None:
        """Start a new feed: send the present state of each topic. ``readings``: one for each topic, in their order;
        the feed gets every event after them."""
        self.cursors = {
            topic.key: Cursor(reading.folded, "") for topic, reading in zip(self.topics, readings, strict=True)
        }
        for topic, reading in zip(self.topics, readings, strict=True):
            if reading.state is not None:
                self._add_state(topic.key, reading.state, now_s)
        if not self.queue:
            self._add("", b"", now_s)  # so that the client can continue from here
        if not self.started.done():
            self.started.set_result(None)

    def take(self, key: str, after_seq: int, reading: Reading, *, with_state: bool, now_s: float) -> bool:
        """Add what the client lacks of the topic ``key``. ``after_seq``: the reading has the events after this seq.
        ``with_state``: also add the state, if it differs from the one that the client has. Returns False if the
        state must be read again for this feed, because it cannot follow the events that the client has."""
        cursor = self.cursors[key]
        if cursor.seq < after_seq:
            # The reading began before this feed was opened, or while it was full: the next one is for it.
            return False
        if reading.seq < cursor.seq:
            return False  # the client got this already, from a node whose tables are ahead of these
        for event in reading.events:
            if event.seq > cursor.seq:
                if self._is_full(now_s):
                    return True  # when there is room, all its topics are read
                cursor = self._add_event(key, event, now_s)
        self.cursors[key] = cursor._replace(seq=reading.seq)
        if with_state and reading.state is not None and reading.state.digest != cursor.digest:
            if self._is_full(now_s):
                return True
            self._add_state(key, reading.state, now_s)
        return reading.is_whole

    def drop(self, reason: str) -> None:
        """End the feed. The client gets the reason; the waiting messages are discarded, because the client can
        continue from its last id."""
        self.queue.clear()
        self.queue.append(Message(DROPPED, "", msgspec.json.encode({"reason": reason})))
        self.dropped = True
        self._ready.set()
        if not self.started.done():
            self.started.set_result(None)

    def add_heartbeat(self, now_s: float) -> None:
        """Add a heartbeat, unless a message waits already."""
        if not self.queue:
            self.queue.append(Message(HEARTBEAT, ""))
            self.sent_s = now_s
            self._ready.set()

    def _is_full(self, now_s: float) -> bool:
        if self.full_since_s is None and len(self.queue) >= QUEUE_MAX:
            self.full_since_s = now_s
        return self.full_since_s is not None

    def _add_event(self, key: str, event: Event, now_s: float) -> Cursor:
        cursor = self.cursors[key] = Cursor(event.seq, self.cursors[key].digest)
        self._add(event.name, event.data, now_s)
        return cursor

    def _add_state(self, key: str, state: State, now_s: float) -> None:
        self.cursors[key] = self.cursors[key]._replace(digest=state.digest)
        self._add(state.name, state.data, now_s)

    def _add(self, name: str, data: bytes, now_s: float) -> None:
        self.queue.append(Message(name, f"{self._scope}~{cursors_text(self.cursors)}", data))
        self.sent_s = now_s
        self._ready.set()


def _scope_of(topics: Sequence[Topic]) -> str:
    """Names the topics, so that an id of another feed is refused."""
    return blake2b(" ".join(topic.key for topic in topics).encode(), digest_size=4).hexdigest()
