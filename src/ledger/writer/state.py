"""A partition's state, in memory over the state store.

``get`` reads these layers, newest first. None in a layer means "deleted"; if the key is absent, the next layer
decides::

    changed    changed since the last checkpoint began
    fetched    read from the store for the current batch; None: the store has no such key
    saving     changed before the last checkpoint began, being saved
    recent     wallets read or saved lately, bounded
    store      the disk

A batch writes into ``changed``. Its undo log has what each change replaced.

Invariants:
(1) ``roll_back`` leaves the state as it was when the batch began: each change goes through ``put``, which notes what
    it replaces, and the timers that the batch took are set again;
(2) memory is bounded by ``recent`` and by the time between checkpoints, not by the number of users;
(3) ``get`` never reads the disk for a key that was prefetched: a batch reads the store once;
(4) between batches the undo log is empty, so ``changed`` has nothing that is not durable.

Keys: a wallet under its user_id; ``<user_id> <item key>``; ``<user_id> c:<command_id>`` → its seq;
``!b<seq>`` → an open bet of a game with rules; ``!f<seq>`` → an open follow-up; ``!t<due_us> <user_id>`` → the mark
of a timer; ``!w`` → the highest generation that opened the partition. No user_id begins with ``!``.
"""

import asyncio
import heapq
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from ledger.core.bet_events import BetCancelled, BetPlaced, BetSettled
from ledger.core.events import Event
from ledger.core.evolve import evolve
from ledger.core.follow_up_commands import AnyFollowUp
from ledger.core.items import Bet, Item, Items, OpenBet, bet_key
from ledger.core.position import Position
from ledger.core.record import Head
from ledger.core.state_values import Value
from ledger.core.wallet import Wallet, next_due_us
from ledger.ports import StateStore
from ledger.writer.key_filter import KeyFilter
from ledger.writer.open_bets import OpenBets
from ledger.writer.open_seqs import OpenSeqs

_GENERATION_KEY: Final = "!w"

_OPEN_BETS: Final = ("!b", "!c")
_FOLLOW_UPS: Final = ("!f", "!g")
_TIMERS: Final = ("!t", "!u")
_SCAN_PAGE: Final = 10_000
_KEYS_PAGE: Final = 5_000
_READ_INLINE_MAX: Final = 4
"""Chosen, as in the log: with this few keys a thread costs more than the look-up in the page cache."""

# The most timers of a partition in memory. Later ones stay in the layers below until these are used up.
# Chosen: 65,536 are about 10 MB.
_TIMERS_MAX: Final = 65_536
_TIMERS_PAGE: Final = 8_192
"""Timers that are loaded at once, in a thread. Chosen: a page takes it some ten milliseconds."""


class _Unknown:
    """A layer does not have the key. In the undo log: ``changed`` did not have it before."""


_UNKNOWN: Final = _Unknown()


def command_key(user_id: str, command_id: str) -> str:
    return f"{user_id} c:{command_id}"


def _follow_up_key(seq: int) -> str:
    return f"!f{seq:016d}"


def open_bet_key(seq: int) -> str:
    return f"!b{seq:016d}"


def _timer_key(due_us: int, user_id: str) -> str:
    # Expiries before 1970 are due as well; the clamp keeps the keys in the order of time. User ids are ASCII, so that
    # keys and pairs have one order.
    return f"!t{max(due_us, 0):016d} {user_id}"


def _timer_of(key: str) -> tuple[int, str]:
    due_us, user_id = key[2:].split(" ")
    return int(due_us), user_id


def _nearest(
    timers: list[tuple[int, str]], until: tuple[int, str] | None
) -> tuple[list[tuple[int, str]], tuple[int, str] | None]:
    """The nearer half of ``timers`` and the key where that half ends; all of them if they fit. ``timers`` are sorted
    and end before ``until``."""
    half = _TIMERS_MAX // 2
    return (timers, until) if len(timers) <= _TIMERS_MAX else (timers[:half], timers[half])


class PartitionState:
    """The layers above, and the partition's timers."""

    def __init__(self, partition: int, store: StateStore, recent_max: int, key_filter: KeyFilter) -> None:
        """Reads the disk; any thread may call it. Raises LedgerError."""
        self.partition = partition
        self._store = store
        self._key_filter = key_filter
        self._recent_max = recent_max
        self._undo: list[tuple[str, Value | _Unknown | None]] = []
        self._batch_timers: list[tuple[int, str]] = []
        self._batch_due: list[tuple[int, str]] = []
        self._batch_sent: list[int] = []
        self._fetched: dict[str, Value | None] = {}
        self._changed: dict[str, Value | None] = {}
        self._saving: dict[str, Value | None] = {}
        self._recent: dict[str, Wallet] = {}
        self._timers: list[tuple[int, str]] = []
        # Timers from this one on are not in memory; None: all are.
        self._timers_until: tuple[int, str] | None = (0, "")
        generation = store.get_in_thread(partition, (_GENERATION_KEY,)).get(_GENERATION_KEY, 0)
        assert isinstance(generation, int), generation
        self.highest_generation = self._committed_generation = generation
        """The highest generation that opened the partition, 0 if none did, as far as the log has been read."""
        self._load_timers()
        self.open_seqs = OpenSeqs()
        """Of the committed events whose follow-ups are not known to have arrived."""
        self._load_open_seqs()
        self.open_bets = OpenBets()
        self._load_open_bets()

    # --- look-ups ------------------------------------------------------------------------------------------------

    def prefetch(self, keys: Iterable[str]) -> None:
        """Read the keys that are not in memory from the store, in one look-up. Raises LedgerError."""
        cold = self._cold(keys)
        if cold:
            self._keep_fetched(cold, self._store.get(self.partition, cold))

    async def prefetch_in_thread(self, keys: Iterable[str]) -> None:
        """As ``prefetch``, before a batch. The disk is read in a thread, so that other partitions go on; up to
        ``_READ_INLINE_MAX`` keys are read on the event loop. Raises LedgerError."""
        cold = self._cold(keys)
        if len(cold) > _READ_INLINE_MAX:
            self._keep_fetched(cold, await asyncio.to_thread(self._store.get_in_thread, self.partition, cold))
        elif cold:
            self._keep_fetched(cold, self._store.get(self.partition, cold))

    def _cold(self, keys: Iterable[str]) -> list[str]:
        """The keys that only the store can have. Those that it cannot have are noted as fetched."""
        changed, saving, recent, fetched = self._changed, self._saving, self._recent, self._fetched
        may_have = self._key_filter.may_have
        cold = []
        for key in keys:
            if key not in changed and key not in fetched and key not in saving and key not in recent:
                if may_have(key) or key[0] == "!":  # the filter has no keys with "!"
                    cold.append(key)
                else:
                    fetched[key] = None
        return cold

    def _keep_fetched(self, cold: Sequence[str], found: Mapping[str, Value]) -> None:
        for key in cold:
            value = self._fetched[key] = found.get(key)
            if isinstance(value, Wallet):
                self._remember(key, value)

    def get(self, key: str) -> Value | None:
        """The value under ``key``; None if there is none. Raises LedgerError if the store cannot be read."""
        value: Value | _Unknown | None = self._changed.get(key, _UNKNOWN)
        if value is _UNKNOWN:
            value = self._fetched.get(key, _UNKNOWN)
        if value is _UNKNOWN:
            value = self._saving.get(key, _UNKNOWN)
        if value is _UNKNOWN:
            value = self._recent.get(key, _UNKNOWN)
        if value is _UNKNOWN:
            self.prefetch((key,))
            value = self._fetched[key]
        assert not isinstance(value, _Unknown), key
        return value

    def wallet(self, user_id: str) -> Wallet:
        """The user's wallet; a new one of status "none" if the partition has no event of the user."""
        value = self.get(user_id)
        if value is None:
            return Wallet(user_id)
        assert isinstance(value, Wallet), (user_id, value)
        return value

    def item(self, user_id: str, key: str) -> Item | None:
        """The item of the user's wallet under ``key``."""
        return self.get(f"{user_id} {key}")  # type: ignore[return-value]  # an item key names an item

    # --- changes -------------------------------------------------------------------------------------------------

    def put(self, key: str, value: Value | None) -> None:
        """Change a value within the batch; None deletes."""
        changed = self._changed
        self._undo.append((key, changed.get(key, _UNKNOWN)))
        changed[key] = value

    def put_wallet(self, before: Wallet, after: Wallet) -> None:
        """Change a wallet within the batch, and its timer if its next expiry changes."""
        user_id = after.user_id
        assert before.user_id == user_id, (before, after)
        self.put(user_id, after)
        if (
            before.grants is after.grants
            and before.expiring_holds is after.expiring_holds
            and before.turnover is after.turnover
        ):
            return
        due_us, due_before_us = next_due_us(after), next_due_us(before)
        if due_us == due_before_us:
            return
        if due_before_us is not None:
            self.put(_timer_key(due_before_us, user_id), None)
        if due_us is not None:
            self.put(_timer_key(due_us, user_id), True)
            self._batch_timers.append((due_us, user_id))

    def apply(self, wallet: Wallet, items: Items, event: Event, position: Position) -> Wallet:
        """Apply an event to its wallet within the batch; return the wallet after it. ``items``: see ``evolve``."""
        user_id = event.user_id
        assert wallet.user_id == user_id, (wallet, event)
        after, changed = evolve(wallet, items, event, position)
        self.put_wallet(wallet, after)
        for key, item in changed.items():
            self.put(f"{user_id} {key}", item)
        self.put(command_key(user_id, event.command_id), position.seq)
        kind = type(event.data)
        if kind is BetPlaced or kind is BetSettled or kind is BetCancelled:
            self._track_bet(items, changed, event, position.seq)
        return after

    def _track_bet(self, items: Items, changed: Items, event: Event, seq: int) -> None:
        """Keep the list of the open bets of games with rules. ``items`` are those before the event, ``changed`` those
        that it changed."""
        data = event.data
        if isinstance(data, BetPlaced):
            if data.rules is not None:
                placed = changed[bet_key(data.bet_id)]
                assert isinstance(placed, Bet), event
                bet = OpenBet(event.user_id, data.bet_id, placed)
                self.put(open_bet_key(seq), bet)
                self.open_bets.place(seq, bet)
            return
        assert isinstance(data, BetSettled | BetCancelled), event
        ended = items[bet_key(data.bet_id)]
        if isinstance(ended, Bet) and (of_game := ended.of_game) is not None:
            self.put(open_bet_key(of_game.seq), None)
            self.open_bets.end(of_game.seq, (of_game.game, of_game.period))

    def note_generation(self, generation: int) -> None:
        """A writer of ``generation`` has opened the partition."""
        if generation > self.highest_generation:
            self.highest_generation = generation
            self.put(_GENERATION_KEY, generation)

    def commit(self) -> None:
        """Keep the batch: it is durable."""
        self._committed_generation = self.highest_generation
        for due_us, user_id in self._batch_timers:
            self.set_timer(due_us, user_id)
        for seq in self._batch_sent:
            self.open_seqs.add(seq)
        self.open_bets.commit()
        self._clear_batch()

    def roll_back(self) -> None:
        """Undo the batch's changes, the last one first."""
        changed = self._changed
        for key, before in reversed(self._undo):
            if isinstance(before, _Unknown):
                del changed[key]
            else:
                changed[key] = before
        self.highest_generation = self._committed_generation
        for due_us, user_id in self._batch_due:
            self.set_timer(due_us, user_id)
        self.open_bets.roll_back()
        self._clear_batch()

    def _clear_batch(self) -> None:
        self._undo.clear()
        self._batch_timers.clear()
        self._batch_due.clear()
        self._batch_sent.clear()
        self._fetched.clear()

    # --- follow-ups ----------------------------------------------------------------------------------------------

    def open_follow_up(self, seq: int, follow_up: AnyFollowUp) -> None:
        """The event ``seq`` of the batch sends the follow-up."""
        self.put(_follow_up_key(seq), follow_up)
        self._batch_sent.append(seq)

    def close_follow_up(self, seq: int) -> None:
        """The follow-up of the event ``seq`` has arrived. Not part of a batch: its arrival is durable elsewhere."""
        if self.open_seqs.discard(seq):
            self._changed[_follow_up_key(seq)] = None

    async def open_follow_ups(self, after: int = 0, limit: int = sys.maxsize) -> list[tuple[int, AnyFollowUp]]:
        """The first ``limit`` open follow-ups of events above ``after``, with their seqs, as they are when this ends.
        The disk is read in a thread. Raises LedgerError."""
        keys = {_follow_up_key(seq): seq for seq in self.open_seqs.after(after, limit)}
        found: dict[str, Value | None] = {}
        for layer in (self._saving, self._changed):
            found.update((key, layer[key]) for key in keys if key in layer)
        cold = [key for key in keys if key not in found]
        if cold:
            found.update(await asyncio.to_thread(self._store.get_in_thread, self.partition, cold))
        return [
            (seq, found[key])  # type: ignore[misc]  # they are follow-ups
            for key, seq in keys.items()
            if seq in self.open_seqs
        ]

    def _load_open_seqs(self) -> None:
        start = _FOLLOW_UPS[0]
        while page := self._store.scan(self.partition, start, _FOLLOW_UPS[1], _SCAN_PAGE):
            for key, _ in page:
                self.open_seqs.add(int(key[2:]))
            start = page[-1][0] + "\0"

    # --- open bets -----------------------------------------------------------------------------------------------

    def open_bet(self, seq: int) -> OpenBet | None:
        """The open bet of the event ``seq``; None once the batch has ended it."""
        bet = self.get(open_bet_key(seq))
        assert bet is None or isinstance(bet, OpenBet), (seq, bet)
        return bet

    def _load_open_bets(self) -> None:
        start = _OPEN_BETS[0]
        while page := self._store.scan(self.partition, start, _OPEN_BETS[1], _SCAN_PAGE):
            for key, bet in page:
                assert isinstance(bet, OpenBet), (key, bet)
                self.open_bets.load(int(key[2:]), bet)
            start = page[-1][0] + "\0"

    # --- timers --------------------------------------------------------------------------------------------------

    def next_due_us(self) -> int | None:
        """When the next timer is due, or the next ones must be loaded; None if there is none."""
        if self._timers:
            return self._timers[0][0]
        return None if self._timers_until is None else self._timers_until[0]

    def set_timer(self, due_us: int, user_id: str) -> None:
        """Wake the partition's writer at ``due_us`` to expire what is due in the wallet."""
        timer = (max(due_us, 0), user_id)  # as its key has it
        if self._timers_until is not None and timer >= self._timers_until:
            return
        heapq.heappush(self._timers, timer)
        if len(self._timers) > _TIMERS_MAX:
            self._timers, self._timers_until = _nearest(sorted(self._timers), self._timers_until)

    def take_due(self, now_us: int, limit: int) -> list[tuple[int, str]]:
        """Take at most ``limit`` timers that are due into the batch; a rollback sets them again. The next timers must
        be in memory, see ``load_timers``.

        A timer can be stale: the wallet itself says what is due.
        """
        assert not self._undo, "timers are taken before other changes"
        due: list[tuple[int, str]] = []
        while self._timers and self._timers[0][0] <= now_us and len(due) < limit:
            due.append(heapq.heappop(self._timers))
        self._batch_due += due
        return due

    async def load_timers(self) -> None:
        """Load the next timers, between batches, if all timers in memory were taken. A thread reads the disk and the
        unsaved changes. Raises LedgerError."""
        assert not self._undo, "a reload does not see the timers of a batch"
        while (first := self._first_not_loaded()) is not None:
            # Taken before the disk is read: a checkpoint that ends meanwhile moves them to the disk.
            layers = self._saving, self._changed.copy()
            self._timers, self._timers_until = await asyncio.to_thread(self._page_of_timers, first, layers)

    def _load_timers(self) -> None:
        """As ``load_timers``, at the start, in any thread."""
        while (first := self._first_not_loaded()) is not None:
            self._timers, self._timers_until = self._page_of_timers(first, ())

    def _first_not_loaded(self) -> str | None:
        """The key at which the next page of timers begins; None if no page is needed now.

        If every timer of a page was deleted since it was saved, the next page is loaded: without a timer in memory
        the writer would never wake up to load later ones."""
        return None if self._timers or self._timers_until is None else _timer_key(*self._timers_until)

    def _page_of_timers(
        self, first: str, layers: Sequence[Mapping[str, Value | None]]
    ) -> tuple[list[tuple[int, str]], tuple[int, str] | None]:
        """The timers from the key ``first`` on, and the first timer after them; None if there is none after them.
        ``layers``: the changes that may not be on the disk yet, the oldest first."""
        page = self._store.scan(self.partition, first, _TIMERS[1], _TIMERS_PAGE)
        saved = [_timer_of(key) for key, _ in page]
        until = saved[-1] if len(page) == _TIMERS_PAGE else None
        wanted = set(saved)
        for layer in layers:
            for key, value in layer.items():
                if key.startswith(_TIMERS[0]) and key >= first:
                    (wanted.discard if value is None else wanted.add)(_timer_of(key))
        return _nearest(sorted(timer for timer in wanted if until is None or timer < until), until)

    # --- checkpoints ---------------------------------------------------------------------------------------------

    @property
    def changes(self) -> int:
        """How many values are not saved yet."""
        return len(self._changed) + len(self._saving)

    def save(self, changes: Mapping[str, Value | None], at: Head, place: bytes | None) -> None:
        """Save what ``begin_checkpoint`` returned, and the log's place. Runs in a thread. Raises LedgerError."""
        # Keys with ``!`` are found by scanning, and deleted keys need not be found: neither belongs in the filter.
        self._key_filter.add(key for key, value in changes.items() if value is not None and key[0] != "!")
        self._store.save(self.partition, changes, at, place)

    def learn_keys(self, after: str) -> str | None:
        """Add some of the store's keys after ``after`` to the filter, in the thread that saves.

        Returns the last of them; None if there are no more, and the filter is complete. Raises LedgerError.
        """
        keys = self._store.keys(self.partition, after, _KEYS_PAGE)
        self._key_filter.add(key for key in keys if key[0] != "!")
        if len(keys) == _KEYS_PAGE:
            return keys[-1]
        self._key_filter.complete = True
        return None

    def begin_checkpoint(self) -> dict[str, Value | None]:
        """The changes that bring the store to the partition's head. Between batches only."""
        assert not self._saving, "one checkpoint at a time"
        assert not self._undo, "a checkpoint is taken between batches"
        self._saving, self._changed = self._changed, {}
        return self._saving

    def end_checkpoint(self, *, saved: bool) -> None:
        """The save is over. If it failed, its changes wait for the next checkpoint.

        A batch may wait for its append meanwhile. If it is rolled back, the values of ``saving`` count again, also
        those that the batch has replaced.
        """
        saving, self._saving = self._saving, {}
        if saved:
            for key, value in saving.items():
                if isinstance(value, Wallet):
                    self._remember(key, value)
            return
        self._changed = {**saving, **self._changed}
        self._undo = [
            (key, saving[key] if isinstance(before, _Unknown) and key in saving else before)
            for key, before in self._undo
        ]

    def _remember(self, user_id: str, wallet: Wallet) -> None:
        recent = self._recent
        recent.pop(user_id, None)
        recent[user_id] = wallet
        if len(recent) > self._recent_max:
            del recent[next(iter(recent))]
