"""What a live feed follows: users and games, its topics. They are read from the tables; nothing is kept in memory.

Each topic has *events*, which are exact, and a *state*, of which only the last value counts:

user   events: ``bet``, when it is placed and when it is settled or cancelled. State: ``balance``, the wallet
game   events: ``result``, when a period gets its result or is cancelled. State: ``distribution``, the present period

Invariants:
(1) an event has the seq of the log's event that caused it; a topic has at most one event at a seq;
(2) events and state of one read are of one snapshot of the tables, true at ``Reading.seq``;
(3) ``Cursor`` says what a subscriber has: every event up to ``seq``, and the state whose digest it names. So a
    subscriber continues from its cursor on any node, also after a restart.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import msgspec

from ledger.core.fields import GAME_STREAM
from ledger.core.games.periods import SECOND_US, name_of
from ledger.core.games.rules import Game, span_of
from projections.models import bets, periods, wallets
from projections.reads import statements
from projections.reads.queries import ALL_STATUS, Found, Reads, status_of
from projections.tables.queries import Query, Rows, UserStatus

EVENTS_MAX: Final = 500
"""Events of each kind in one reading; the next reading continues. Chosen: some 100 KB."""
FROM_NOW: Final = 2**53
"""A seq after which there is no event. A subscriber that begins now asks for the events after it."""

_DIGEST_BYTES: Final = 4
_is_cursor: Final = re.compile(r"(0|[1-9][0-9]{0,15})\.([0-9a-f]{8})?").fullmatch
_encode: Final = msgspec.json.encode


class Cursor(NamedTuple):
    """What a subscriber has of one topic: the events up to ``seq``, and the state with this ``digest`` ("": none)."""

    seq: int
    digest: str


class Event(NamedTuple):
    """``data`` is JSON."""

    seq: int
    name: str
    data: bytes


class State(NamedTuple):
    """``data`` is JSON; ``digest`` is of the document without its ``as_of``."""

    name: str
    data: bytes
    digest: str


class Reading(NamedTuple):
    """What the tables say about a topic.

    ``events``: those after the requested seq, in order. They are complete up to ``seq``. ``is_whole``: the tables
    have no further events. ``folded``: the seq up to which the rows of the topic are folded. ``state``: None if there
    is none, if it was not requested, or if not ``is_whole``. ``quarantined``: the rows of the user are behind those
    of the partition. ``refused``: rows of the topic differ from the log, and the settings refuse such reads.
    """

    seq: int
    events: Sequence[Event]
    is_whole: bool
    folded: int
    state: State | None
    quarantined: bool
    refused: bool = False


BodyOf = Callable[[Found], bytes]
"""Encodes the document of a read with its ``as_of``."""


class UserTopic:
    """The wallet and the bets of one user. ``key``: the user_id."""

    def __init__(self, user_id: str, reads: Reads, body_of: BodyOf) -> None:
        self.key = user_id
        self.partition = reads.partition_of(user_id)
        self._reads, self._body_of = reads, body_of

    def queries(self, after_seq: int, *, with_state: bool) -> list[Query]:  # noqa: ARG002 - it is read anyway
        own = {"of_partition": self.partition, "user": self.key}
        found = [Query(statements.user_status, own), Query(wallets.assets_statement, own)]
        if after_seq < FROM_NOW:
            values = {**own, "after_seq": after_seq, "most": EVENTS_MAX}
            found += [Query(bets.placed_after_statement, values), Query(bets.settled_after_statement, values)]
        return found

    async def reading(self, rows: Sequence[Rows]) -> Reading:
        """``rows``: the result of each of the ``queries``, in order."""
        status_rows, assets, *changed = rows
        user = status_of(self.key, self.partition, status_rows)
        found = await self._reads.found_of_user(user, None)
        events, seq, is_whole = self._events(changed, user) if changed else ([], user.seq, True)
        state = None
        if is_whole and user.is_open:
            document = wallets.document(user.wallet, assets)
            found.document = document
            state = State("balance", self._body_of(found), _digest_of(document))
        return Reading(
            seq,
            events,
            is_whole,
            user.seq,
            state,
            user.quarantined_at_us is not None,
            found.suspect and self._reads.suspects.refuse,
        )

    def _events(self, changed: Sequence[Rows], user: UserStatus) -> tuple[list[Event], int, bool]:
        placed, settled = changed
        found = [bets.as_placed(self.key, self.partition, row) for row in placed]
        found += [bets.as_settled(self.key, self.partition, row) for row in settled]
        # Where there may be more rows of a kind, events are complete up to the last one of that kind only.
        ends = [found[len(placed) - 1][0]] if len(placed) == EVENTS_MAX else []
        ends += [found[-1][0]] if len(settled) == EVENTS_MAX else []
        seq = min([user.seq, *ends])
        events = sorted((Event(at, "bet", _encode(bet)) for at, bet in found if at <= seq), key=_seq_of)
        return events, seq, not ends


class GameTopic:
    """The results of one game, and the bets on its present period. ``key``: ``game:<game>``."""

    def __init__(self, game: Game, reads: Reads, body_of: BodyOf) -> None:
        self.key = GAME_STREAM + game.name
        self.game = game
        self.partition = reads.partition_of(self.key)
        self._reads, self._body_of = reads, body_of
        self._period = ""

    def queries(self, after_seq: int, *, with_state: bool) -> list[Query]:
        own = {"of_partition": self.partition, "user": self.key}
        values = {**own, "of_game": self.game.name, "after_seq": after_seq, "most": EVENTS_MAX}
        found = [Query(statements.user_status, own), Query(periods.outcomes_statement, values)]
        if with_state:
            self._period = self.period_at(self._reads.now_us())
            found += [*ALL_STATUS, *periods.period_queries(self.game.name, self._period)]
        return found

    def period_at(self, now_us: int) -> str:
        """The name of the period that runs at this time."""
        return name_of(now_us - now_us % (self.game.length_s * SECOND_US))

    def changes_at_us(self, now_us: int) -> int:
        """When the state changes next without an event: the period stops taking bets, or the next one begins. In Unix
        microseconds."""
        span = span_of(self.game, self.period_at(now_us))
        assert span is not None, self.game.name
        return span.closes_at_us if now_us < span.closes_at_us else span.ends_at_us

    async def reading(self, rows: Sequence[Rows]) -> Reading:
        """``rows``: the result of each of the ``queries``, in order."""
        status_rows, outcomes, *of_state = rows
        user = status_of(self.key, self.partition, status_rows)
        events = [
            Event(row[-1], "result", _encode(periods.outcome(self.game.name, self.partition, row)))
            for row in outcomes
            if row[-1] <= user.seq
        ]
        is_whole = len(outcomes) < EVENTS_MAX
        state = await self._state(of_state) if of_state and is_whole else None
        seq = user.seq if is_whole else min(user.seq, outcomes[-1][-1])
        refused = self._reads.suspects.refuse and self._reads.are_periods_suspect()
        return Reading(seq, events, is_whole, user.seq, state, user.quarantined_at_us is not None, refused)

    async def _state(self, rows: Sequence[Rows]) -> State | None:
        found = await self._reads.found_of_period(self.game, self._period, rows)
        if found.document is None:
            return None  # the clock of this process was set back, so the period has not begun
        return State("distribution", self._body_of(found), _digest_of(found.document))


Topic = UserTopic | GameTopic


def cursors_text(cursors: Mapping[str, Cursor]) -> str:
    """The cursors as the part of an id behind ``~``: ``<seq>.<digest>`` of each, joined by commas, in their order."""
    return ",".join(f"{seq}.{digest}" for seq, digest in cursors.values())


def parse_cursors(text: str, keys: Sequence[str]) -> dict[str, Cursor] | None:
    """The reverse of ``cursors_text``, for topics with these keys. None if the text is no such text."""
    found = [_is_cursor(part) for part in (text.split(",") if text else ())]
    if len(found) != len(keys):
        return None
    cursors = {key: Cursor(int(match[1]), match[2] or "") for key, match in zip(keys, found, strict=True) if match}
    return cursors if len(cursors) == len(keys) else None


def _digest_of(document: Any) -> str:
    return blake2b(_encode(document), digest_size=_DIGEST_BYTES).hexdigest()


def _seq_of(event: Event) -> int:
    return event.seq
