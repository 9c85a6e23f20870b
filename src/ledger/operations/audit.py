"""``verify``: proves a log from its records alone.

``verify`` reads every record once and shares no rule with the writer: it decodes the records with its own shapes and
recomputes postings and balances from zero. A log is correct if and only if

(1) in each partition seq runs 1, 2, 3 … and each ``prev`` is the SHA-256 of the record before;
(2) each record is canonical: its bytes are the only way to write its members;
(3) time never decreases inside a partition, and no event is before its cause;
(4) the postings of each event are those that its type, its data and the earlier events give;
(5) each event's ``balances`` are the sums of the postings so far, and only a bet within the credit limit takes cash
    below zero;
(6) a user's events are in the user's partition and begin with ``wallet_opened``; no id is used twice in a wallet; a
    record is stored under its own seq;
(7) ``request_sha256`` is the hash of the command that ``data`` contains, or zeros for the ledger's own events, and
    only these have the actor ``ledger`` and a ``command_id`` that begins with ``~``;
(8) each follow-up is recorded at most once, as its cause sent it, under an id that names the hash of its cause;
(9) the log goes through every anchor: heads that were published or sealed earlier;
(10) each leg of a bet pays what the pay table says that the bet names, on the result of its period;
(11) each bonus of the ledger's own, its expiry, each rate of a commission, and what an event adds to the wagering are
    those of the rules of money flows that the event names.

Memory grows with wallets, open items and anchors, not with events: the partitions are read side by side in the order
of time, and ids are compared as hashes in a temporary file. A log that is being written is examined up to the heads
that it had when the examination began.
"""

import gc
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from heapq import heapify, heappop, heapreplace
from typing import Final, NamedTuple, Protocol

import msgspec
from msgspec import UNSET, Struct

from ledger.core.position import partition_of
from ledger.core.record import EMPTY_SHA256, Head
from ledger.errors import LogDamaged
from ledger.operations.verifying import gifts
from ledger.operations.verifying.anchors import Anchor, Anchors, Contradiction
from ledger.operations.verifying.commissions import COMMISSIONS
from ledger.operations.verifying.damage import damaged, link_of
from ledger.operations.verifying.follow_ups import FollowUps
from ledger.operations.verifying.money_rules import MoneyRules
from ledger.operations.verifying.pay_tables import PayTables
from ledger.operations.verifying.postings import HANDLERS, Book, Handler, Mismatch, difference, moves_nothing
from ledger.operations.verifying.records import (
    KINDS,
    Kind,
    Record,
    Unreadable,
    read,
    type_of,
    why_unreadable,
    written,
)
from ledger.operations.verifying.settlements import Settlements
from ledger.operations.verifying.shapes import ALSO_OWN_TYPES, OWN_TYPES
from ledger.operations.verifying.unique_ids import KEYS, SECOND_KEY, KeyOf, UniqueIds, second_key_of, second_use
from ledger.ports import StoredRecord


class Fault(Exception):
    """The first thing that is wrong: where, and why. ``partition`` is −1 if the fault is in a seal."""

    def __init__(self, partition: int, seq: int, reason: str) -> None:
        where = f"partition {partition}, seq {seq}" if partition >= 0 else f"seal {seq}"
        super().__init__(f"{where}: {reason}")
        self.partition, self.seq, self.reason = partition, seq, reason


class Records(Protocol):
    """Where the records come from: a folder, or a service."""

    def ends(self) -> Sequence[int]:
        """The last seq of each partition, all at one moment."""
        ...

    def read(self, partition: int, to_seq: int) -> Iterator[Sequence[StoredRecord]]:
        """The partition's records from the first to ``to_seq``, in order, in pages."""
        ...


class RecordsFrom(Records, Protocol):
    """Records that can also be read from the middle on."""

    def read(self, partition: int, to_seq: int, from_seq: int = 1) -> Iterator[Sequence[StoredRecord]]:
        """The partition's records from ``from_seq`` to ``to_seq``, in order, in pages."""
        ...


class Verified(Struct, frozen=True):
    """What was examined and found correct.

    ``anchored`` has the last anchor of each partition that has one. Records after it may be missing or rewritten.
    ``missing_tables`` are the digests of the pay tables that bets name and that were not given: which legs of these
    bets won was not examined. ``missing_rules`` are those of the rules of money flows: whether bonuses, commissions
    and wagering are those of these rules was not examined.
    """

    events: int
    heads: tuple[Head, ...]
    open_transfers: int
    in_transit: dict[str, int]
    anchored: tuple[Anchor, ...] = ()
    missing_tables: tuple[str, ...] = ()
    missing_rules: tuple[str, ...] = ()


_VERSION: Final = 1
_NO_REQUEST: Final = "0" * 64
_LEDGER: Final = "ledger"
_PUBLISHED: Final = "a published head"
_GAME_STREAM: Final = re.compile("game:[A-Za-z0-9_.-]{1,59}").fullmatch
_CODE_STREAM: Final = re.compile("(?:gift|code):[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}").fullmatch
_USER_ID: Final = re.compile("[A-Za-z0-9][A-Za-z0-9_.:@-]{0,63}").fullmatch
_COMMAND_ID: Final = re.compile("[!-}][!-~]{0,127}").fullmatch
_RESERVED: Final = ("game:", "gift:", "code:", "partition:")
_ACTORS_MAX: Final = 10_000
_UNREADABLE: Final = (KeyError, TypeError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

_WITHOUT_WALLET: Final = frozenset({"referral_void", "transfer_refused", "writer_opened"})
"""Types that the ledger also records on a wallet that was never opened; those of ``_WITH_REASON`` then have a
reason."""
_WITH_REASON: Final = frozenset({"commission_paid", "referral_valid"})
_OUTCOMES: Final = frozenset({"result_recorded", "period_cancelled"})
"""The types of the stream of a game, which is no wallet."""
_BETS: Final = frozenset({"bet_placed", "bet_settled", "bet_cancelled"})
_FOLLOW_UPS: Final = frozenset(
    {
        *("wallet_opened", "referral_counted", "referral_void", "transfer_sent"),
        *("transfer_received", "transfer_refused", "transfer_delivered", "transfer_returned"),
        *("deposited", "referral_valid", "commission_due", "commission_paid"),
        *("gift_claimed", "gift_share_granted", "gift_share_refused", "gift_received", "gift_refused"),
        *("referral_code_claimed", "referral_code_granted", "referral_code_refused"),
        *("referral_resolved", "referral_unknown", "referrer_set"),
    }
)
"""The types that send a follow-up or record one."""
_OWN_ID: Final = {
    "hold_expired": "~expiry:",
    "bonus_expired": "~expiry:",
    "commission_due": "~commission:",
    "bonus_granted": "~own:",
    "writer_opened": "~open:",
}
"""Events whose ``command_id`` is this and their own seq."""


class _Type(NamedTuple):
    """How an event of one type is examined."""

    kind: Kind
    handle: Handler
    key_of: KeyOf | None
    rare: bool
    """Whether it has a second id, sends or records a follow-up, or can belong to a period."""


_TYPES: Final = {
    of: _Type(
        kind,
        (HANDLERS | gifts.HANDLERS | COMMISSIONS).get(kind.name, moves_nothing),
        KEYS.get(kind.name),
        kind.name in _FOLLOW_UPS | _OUTCOMES | _BETS or kind.name in SECOND_KEY,
    )
    for of, kind in KINDS.items()
}


def verify(
    records: RecordsFrom,
    *,
    published: Mapping[int, Head] | None = None,
    anchors: Sequence[Anchor] = (),
    tables: Mapping[str, bytes] | None = None,
    money: Mapping[str, bytes] | None = None,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Verified:
    """Examine the whole log. ``progress`` is called now and then with (events examined, events in all).

    ``published`` and ``anchors`` are heads that the log must go through. ``tables`` are the pay tables that bets may
    name, ``money`` the sets of rules of money flows that events may name, as JSON by digest. Raises Fault for the
    first thing that is wrong, WrongTable or WrongRules for one that is not that of its digest, OSError where the
    temporary file cannot be written.
    """
    heads = [Anchor(partition, *head, _PUBLISHED) for partition, head in (published or {}).items()]
    try:
        through = Anchors((*heads, *anchors))
    except Contradiction as error:
        raise Fault(error.anchor.partition, error.anchor.seq, str(error)) from None
    # The kept objects are many and form no cycles: the collector would walk them again and again for nothing.
    collecting = gc.isenabled()
    gc.disable()
    try:
        return _verify(records, through, PayTables(tables or {}), MoneyRules(money or {}), progress)
    finally:
        if collecting:
            gc.enable()


def _verify(
    records: RecordsFrom,
    anchors: Anchors,
    tables: PayTables,
    rules: MoneyRules,
    progress: Callable[[int, int], None],
) -> Verified:
    ends = records.ends()
    for anchor in anchors.last():
        if anchor.partition >= len(ends):
            raise Fault(anchor.partition, anchor.seq, f"the log has {len(ends)} partitions only")
        if anchor.seq > ends[anchor.partition]:
            end = ends[anchor.partition]
            raise Fault(
                anchor.partition,
                end + 1,
                f"the record is missing: the log ends at seq {end}, but {anchor.source} names seq {anchor.seq}",
            )
    total, done = sum(ends), 0
    whole = _Whole(records, tables, rules)
    partitions = [_Partition(partition, end, whole, anchors) for partition, end in enumerate(ends)]
    # Page by page, always from the partition with the earliest time: then a follow-up is read soon after its cause,
    # and few are remembered at a time. One page is in memory at a time, for any number of partitions.
    line = [(0, partition.number) for partition in partitions if partition.end]
    heapify(line)
    while line:
        partition = partitions[line[0][1]]
        whole.settlements.forget(partition.time_us)
        done += partition.take_page()
        progress(done, total)
        if partition.ended:
            heappop(line)
        else:
            heapreplace(line, (partition.time_us, partition.number))
    whole.conclude(ends)
    progress(total, total)
    heads = tuple(Head(partition.seq, partition.head) for partition in partitions)
    under_way = whole.follow_ups.under_way()
    missing = tuple(sorted(tables.missing)), tuple(sorted(rules.missing))
    return Verified(total, heads, *under_way, tuple(anchors.last()), *missing)


class _Whole:
    """What is known of the log as a whole while its partitions are read."""

    def __init__(self, records: RecordsFrom, tables: PayTables, rules: MoneyRules) -> None:
        self.records = records
        self.partitions = len(records.ends())
        self.follow_ups = FollowUps()
        self.book = Book(rules, self.follow_ups.referrers)
        self.settlements = Settlements(tables)
        self.ids = UniqueIds()
        self.opened: set[str] = set()
        self.actors: set[str] = set()

    def conclude(self, ends: Sequence[int]) -> None:
        """Check what is known only at the end. Raises Fault."""
        suspects = self.ids.suspects()
        if suspects and (twice := second_use(self._again(ends), suspects)) is not None:
            raise Fault(*twice)
        if (stray := self.follow_ups.without_cause(ends) or self.settlements.without_cause(ends)) is not None:
            raise Fault(*stray)

    def _again(self, ends: Sequence[int]) -> Iterator[Record]:
        for partition, end in enumerate(ends):
            for page in self.records.read(partition, end):
                for stored in page:
                    yield read(stored[0])


class _Partition:
    """What is known of one partition while it is read."""

    def __init__(self, number: int, end: int, whole: _Whole, anchors: Anchors) -> None:
        self.number, self.end = number, end
        self.seq, self.head, self.time_us = 0, EMPTY_SHA256, 0
        self._whole = whole
        self._pages = whole.records.read(number, end)
        self._anchors = anchors.of(number)
        self._trusted = 0
        self._generation = 0

    @property
    def ended(self) -> bool:
        return self.seq >= self.end

    def take_page(self) -> int:
        """Examine the next page. Returns how many records it had. Raises Fault."""
        try:
            page = next(self._pages, ())
        except LogDamaged as damage:
            raise Fault(self.number, damage.seq, damage.reason) from None
        if not page:
            raise Fault(self.number, self.seq + 1, "the record is missing")
        self._take(page)
        self._whole.ids.spill()
        return len(page)

    def _take(self, page: Sequence[StoredRecord]) -> None:
        """Write each record as it must be, and compare the bytes. If they differ, ``_examine`` finds the reason."""
        number, whole, anchors = self.number, self._whole, self._anchors
        opened, actors, add_id, recompute = whole.opened, whole.actors, whole.ids.kept.append, whole.book.recompute
        head, seq, time_us, look_up = self.head, self.seq, self.time_us, self._look_up
        for at, (record, stored_seq) in enumerate(page):
            seq += 1
            try:
                (name, read_given, _, members, command), handle, key_of, rare = _TYPES[type_of(record)]
                given = read_given(record)
            except _UNREADABLE:
                self._check_chain(page, at, seq, head)
                raise Fault(number, seq, f"the record cannot be read: {why_unreadable(record)}") from None
            user_id, command_id, actor = given.user_id, given.command_id, given.actor
            if members is None or command_id[:1] == "~":
                request = _NO_REQUEST
            else:
                request = sha256(written(command(*members(given)))).hexdigest()
            event = Record(
                _VERSION,
                number,
                seq,
                head,
                given.time_us,
                user_id,
                command_id,
                request,
                actor,
                name,
                given.data,
                [],
                {},
            )
            try:
                if user_id not in opened:
                    self._first_of(event)
                recompute(event, handle, look_up)
                if (
                    written(event) != record
                    or given.time_us < time_us
                    or members is None
                    or actor not in actors
                    or _COMMAND_ID(command_id) is None
                    or (stored_seq is not None and stored_seq != seq)
                ):
                    self._check_chain(page, at, seq, head)
                    self._examine(event, time_us, record)
                time_us, head = given.time_us, sha256(record).hexdigest()
                add_id(hash((user_id, command_id)))
                if key_of is not None:
                    add_id(hash(key_of(user_id, given.data)))
                if rare:
                    self._rare(event, head)
            except Mismatch as mismatch:
                # It may be the fault of the record before, or of a missing one, which the chain shows.
                self._check_chain(page, at, seq, event.prev)
                where = (number, seq) if mismatch.partition is None else (mismatch.partition, mismatch.seq or 0)
                raise Fault(*where, str(mismatch)) from None
            if seq in anchors:
                self._pass_anchor(anchors[seq], head)
        self.seq, self.head, self.time_us = seq, head, time_us

    def _check_chain(self, page: Sequence[StoredRecord], at: int, seq: int, head: str) -> None:
        """Raise Fault unless the record is the one of this seq and continues ``head``."""
        record, stored_seq = page[at]
        if stored_seq is not None and stored_seq != seq:
            raise Fault(self.number, seq, "the record is missing")
        link = link_of(record)
        if link is None:
            return
        if link.partition != self.number:
            raise Fault(self.number, seq, f"the record says it is {link.partition}:{link.seq}")
        if link.seq != seq or link.prev != head:
            behind = self._behind(page[at + 1 :])
            raise Fault(self.number, *damaged(seq, head, record, behind))

    def _behind(self, rest: Sequence[StoredRecord]) -> bytes | None:
        """The first record of ``rest`` or else of the next page; None if it is missing."""
        try:
            rest = rest or next(self._pages, ())
        except LogDamaged:
            rest = ()
        return rest[0][0] if rest else None

    def _examine(self, expected: Record, time_us: int, record: bytes) -> None:
        """Raise Mismatch if something is wrong with the record.

        Called for most of the ledger's own events, each new actor, and postings in another order.
        """
        command_id = expected.command_id
        if expected.time_us < time_us:
            raise Mismatch("its time is before that of the event before it")
        if command_id[:1] == "~":
            self._own(expected)
        else:
            self._new_actor(expected)
            if expected.type in OWN_TYPES or _COMMAND_ID(command_id) is None:
                raise Mismatch(f"{command_id} is not the id of a command that makes {expected.type}")
        if written(expected) == record:
            return
        try:
            stated = read(record)
        except Unreadable as error:
            raise Mismatch(f"the record cannot be read: {error}") from None
        if stated.v != _VERSION:
            raise Mismatch(f"its version is {stated.v}, which is not known")
        if stated.request_sha256 != expected.request_sha256:
            if expected.request_sha256 == _NO_REQUEST:
                raise Mismatch("its request_sha256 is not 64 zeros, but no command made it")
            raise Mismatch("its request_sha256 is not the hash of the command that its data contains")
        if (reason := difference(stated, expected)) is not None:
            raise Mismatch(reason)
        if written(stated) != record:
            raise Mismatch("its bytes are not the canonical form of what they say")

    def _rare(self, event: Record, head: str) -> None:
        if (key := second_key_of(event)) is not None:
            self._whole.ids.kept.append(hash(key))
        if event.type in _BETS:
            self._of_period(event)
        elif event.type in _OUTCOMES:
            self._whole.settlements.outcome(event, head)
        if event.type in _FOLLOW_UPS:
            self._whole.follow_ups.arrive(event)
            self._whole.follow_ups.send(event, head)

    def _of_period(self, event: Record) -> None:
        """A bet was placed or has ended: of a game with rules it belongs to a period. Raises Mismatch."""
        whole = self._whole
        if event.type == "bet_placed":
            if event.data.rules is not UNSET:
                whole.settlements.place(event)
            return
        ended, whole.book.ended = whole.book.ended, None
        if ended is None:
            return
        if event.command_id[:1] == "~":
            whole.settlements.settle(event, ended)
        else:
            whole.settlements.cancel(ended)

    def _look_up(self, seq: int) -> Record | None:
        for page in self._whole.records.read(self.number, seq, seq):
            for stored in page:
                return read(stored[0])
        return None

    def _first_of(self, event: Record) -> None:
        """The wallet is not open yet: only few events may be recorded on it. Raises Mismatch."""
        user_id = event.user_id
        if user_id == f"partition:{self.number}" and event.type == "writer_opened":
            return
        if event.type in _OUTCOMES:
            if _GAME_STREAM(user_id) is None:
                raise Mismatch(f"{user_id} is not the stream of a game")
            if partition_of(user_id, self._whole.partitions) != self.number:
                raise Mismatch(f"{user_id} belongs to another partition")
            return
        if event.type in gifts.STREAM_OF and _CODE_STREAM(user_id) is not None:
            if not user_id.startswith(gifts.STREAM_OF[event.type]):
                raise Mismatch(f"{user_id} has no {event.type}")
            if partition_of(user_id, self._whole.partitions) != self.number:
                raise Mismatch(f"{user_id} belongs to another partition")
            return
        if _USER_ID(user_id) is None or user_id.startswith(_RESERVED):
            raise Mismatch(f"{user_id} is not the name of a wallet")
        if partition_of(user_id, self._whole.partitions) != self.number:
            raise Mismatch(f"{user_id} belongs to another partition")
        if event.type == "wallet_opened":
            self._whole.opened.add(user_id)
        elif event.type not in _WITHOUT_WALLET and not (
            event.type in _WITH_REASON and event.data.reason == "wallet_not_open"
        ):
            raise Mismatch(f"the wallet {user_id} was not opened before")

    def _new_actor(self, event: Record) -> None:
        if event.actor == _LEDGER:
            raise Mismatch("only the ledger's own events begin with ~ in their command_id")
        if _USER_ID(event.actor) is None:
            raise Mismatch(f"{event.actor!r} is not the name of an actor")
        if len(self._whole.actors) < _ACTORS_MAX:
            self._whole.actors.add(event.actor)

    def _own(self, event: Record) -> None:
        """One of the ledger's own events."""
        if event.actor != _LEDGER or event.type not in OWN_TYPES | ALSO_OWN_TYPES:
            raise Mismatch("only the ledger's own events begin with ~ in their command_id")
        prefix = _OWN_ID.get(event.type)
        if prefix is not None and event.command_id != f"{prefix}{event.seq}":
            raise Mismatch(f"its command_id is not {prefix}{event.seq}")
        if event.type == "writer_opened":
            if event.data.generation < self._generation:
                raise Mismatch(f"its generation is lower than {self._generation}")
            self._generation = event.data.generation

    def _pass_anchor(self, anchor: Anchor, head: str) -> None:
        if head != anchor.sha256:
            since = f"it or a record from seq {self._trusted + 1} on" if self._trusted + 1 < anchor.seq else "it"
            raise Fault(
                anchor.partition,
                anchor.seq,
                f"the log was rewritten: {since} was changed after {anchor.source} named another hash",
            )
        self._trusted = anchor.seq
