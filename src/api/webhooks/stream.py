"""What one endpoint has still to get of one partition.

A *lane* has the events of one user, oldest first, that are not delivered. Only the first event of a lane is sent, so
a user's events arrive in order.

An event is *fresh* until the first attempt of its lane fails. From then on all events of the lane are letters: they
are in the store, or will be with the next save. So the cursor can pass them, and one user whose events are refused
does not hold up the others.

Invariants:
(1) the cursor to save is the last seq before the oldest fresh event;
(2) reading pauses while ``USERS_MAX`` users have letters, or ``LETTERS_MAX`` letters wait, or half a page of fresh
    events: so there are at most ``LETTERS_MAX`` and one and a half pages of both together;
(3) an event is in its lane once. A letter may be after the cursor, because an older event of another user is still
    being sent: what is read again after a claim is skipped if it is a letter already, waiting or dead.
"""

from collections import deque
from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import Struct

from api.webhooks.ports import Claimed, Letter, Saved

USERS_MAX: Final = 100
"""Of one endpoint and partition. Chosen: up to so many refused users delay no others. While a receiver is away, only
the first events of these users are retried; the others wait."""

LETTERS_MAX: Final = 1_000
"""Of one endpoint and partition. Chosen: the events behind a refused one may be many, and take half a megabyte."""

PAGE: Final = 100
"""Records that are read at once. Chosen: one read for many requests."""


class _Record(Struct, gc=False):
    seq: int
    user_id: str
    type: str
    time_us: int


_decode: Final = msgspec.json.Decoder(_Record).decode


class Waiting:
    """An event that is not delivered. ``record``: None for a letter, which is read again when it is due."""

    __slots__ = ("attempts", "error", "first_at_us", "is_letter", "next_at_us", "record", "seq", "time_us", "type")

    def __init__(self, seq: int, event_type: str, time_us: int, record: bytes | None) -> None:
        self.seq, self.type, self.time_us, self.record = seq, event_type, time_us, record
        self.attempts = self.first_at_us = self.next_at_us = 0
        self.is_letter = False
        self.error = ""


class Lane:
    """The events of one user. ``busy``: the first one is being sent."""

    __slots__ = ("busy", "events", "stream", "user_id")

    def __init__(self, stream: "Stream", user_id: str) -> None:
        self.stream, self.user_id = stream, user_id
        self.events: deque[Waiting] = deque()
        self.busy = False


class Stream:
    """Made from what was claimed."""

    def __init__(self, partition: int, claimed: Claimed) -> None:
        self.partition, self.claim = partition, claimed.claim
        self.read_to = claimed.seq
        """The last seq that was read."""
        self.more = claimed.more
        """Whether the store has letters that are not in memory. Nothing is read until they are."""
        self.is_dropped = False
        """Whether the partition is not this node's any more, or was claimed again."""
        self.lanes: dict[str, Lane] = {}
        self.letters = 0
        self.refused = 0
        """Lanes of letters."""
        self.fresh_bytes = 0
        self._fresh: dict[int, Waiting] = {}
        self._saved_seq = claimed.seq
        self._known = set(claimed.after)
        self._changed: dict[int, tuple[str, Waiting]] = {}
        """Letters to save, with their users."""
        self._dead: list[Letter] = []
        self._delivered: list[int] = []
        for letter in claimed.letters:
            event = Waiting(letter.seq, letter.type, letter.time_us, None)
            event.attempts, event.error, event.is_letter = letter.attempts, letter.error, True
            event.first_at_us, event.next_at_us = letter.first_at_us, letter.next_at_us
            self.letters += 1
            lane = self._lane(letter.user_id)
            lane.events.append(event)
            self.refused += len(lane.events) == 1

    def _lane(self, user_id: str) -> Lane:
        lane = self.lanes.get(user_id)
        if lane is None:
            lane = self.lanes[user_id] = Lane(self, user_id)
        return lane

    @property
    def fresh(self) -> int:
        return len(self._fresh)

    @property
    def may_read(self) -> bool:
        has_room = self.refused < USERS_MAX and self.letters < LETTERS_MAX
        return not self.more and has_room and self.fresh <= PAGE // 2

    @property
    def oldest_us(self) -> int | None:
        """The time of the oldest event in memory; None: there is none."""
        return min((lane.events[0].time_us for lane in self.lanes.values()), default=None)

    def add(self, records: Sequence[bytes], wanted: frozenset[str]) -> list[Lane]:
        """Add the records after ``read_to`` whose type is wanted. Returns the lanes that were empty."""
        lanes = []
        for record in records:
            found = _decode(record)
            assert found.seq == self.read_to + 1, (found.seq, self.read_to)
            self.read_to = found.seq
            if found.seq in self._known:
                self._known.remove(found.seq)
                continue
            if found.type not in wanted:
                continue
            event = Waiting(found.seq, found.type, found.time_us, record)
            lane = self._lane(found.user_id)
            lane.events.append(event)
            if lane.events[0].is_letter:
                self._become_letter(lane, event)
            else:
                self._fresh[event.seq] = event
                self.fresh_bytes += len(record)
            if len(lane.events) == 1:
                lanes.append(lane)
        return lanes

    def delivered(self, lane: Lane) -> None:
        """The first event of the lane was delivered."""
        event = self._remove_first(lane)
        if event.is_letter:
            self._delivered.append(event.seq)

    def failed(self, lane: Lane, first_at_us: int, next_at_us: int, error: str) -> None:
        """The first event of the lane was tried and not delivered."""
        event = lane.events[0]
        event.attempts += 1
        event.first_at_us, event.next_at_us, event.error = first_at_us, next_at_us, error
        for one in lane.events:
            self._become_letter(lane, one)

    def give_up(self, lane: Lane, now_us: int) -> None:
        """The first event of the lane becomes a dead letter. The others of the lane go on waiting as letters.

        The next one counts its time from the same first attempt, or from its own time if that is later. So old events
        get one attempt each, because a user whose every event is refused must not wait for each of them. A recent one
        is retried for as long as the webhook says.
        """
        event = self._remove_first(lane)
        event.next_at_us = now_us
        self._dead.append(self._letter(lane.user_id, event))
        if lane.events:
            lane.events[0].first_at_us = max(event.first_at_us, lane.events[0].time_us)
            self._become_letter(lane, lane.events[0])

    def _remove_first(self, lane: Lane) -> Waiting:
        event = lane.events.popleft()
        if event.is_letter:
            self.letters -= 1
            self._changed.pop(event.seq, None)
        else:
            self._forget_fresh(event)
        if not lane.events:
            del self.lanes[lane.user_id]
            self.refused -= event.is_letter
        return event

    def _become_letter(self, lane: Lane, event: Waiting) -> None:
        if not event.is_letter:
            if event.seq in self._fresh:
                self._forget_fresh(event)
            event.is_letter = True
            event.record = None
            self.letters += 1
            self.refused += event is lane.events[0]
        elif event is not lane.events[0]:
            return  # it is saved, and has not changed
        self._changed[event.seq] = (lane.user_id, event)

    def _forget_fresh(self, event: Waiting) -> None:
        del self._fresh[event.seq]
        assert event.record is not None, "a fresh event has its record"
        self.fresh_bytes -= len(event.record)

    def _letter(self, user_id: str, event: Waiting) -> Letter:
        return Letter(
            self.partition,
            event.seq,
            user_id,
            event.type,
            event.time_us,
            event.attempts,
            event.first_at_us,
            event.next_at_us,
            event.error,
        )

    @property
    def cursor(self) -> int:
        """Every event up to here was delivered, is not wanted, or is a letter."""
        return next(iter(self._fresh)) - 1 if self._fresh else self.read_to

    def to_save(self) -> Saved | None:
        """What is not in the store yet; None: nothing has changed."""
        if self.cursor == self._saved_seq and not (self._changed or self._dead or self._delivered):
            return None
        letters = [self._letter(user_id, event) for user_id, event in self._changed.values()]
        return Saved(self.partition, self.claim, self.cursor, letters, list(self._dead), list(self._delivered))

    def saved(self, saved: Saved) -> None:
        """``saved`` is in the store. What has changed since then is saved next time."""
        self._saved_seq = saved.seq
        for letter in saved.waiting:
            changed = self._changed.get(letter.seq)
            if changed is not None and self._letter(*changed) == letter:
                del self._changed[letter.seq]
        self._dead = self._dead[len(saved.dead) :]
        self._delivered = self._delivered[len(saved.delivered) :]
