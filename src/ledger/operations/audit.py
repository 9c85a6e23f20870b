"""The log alone, examined: does it prove that not a minor unit is missing?

``verify`` reads every record once and shares no rule with the writer: it has its own reading of the records, knows
nothing of commands, decisions or state, and recomputes every balance from zero. A log is well if and only if

(1) in each partition seq runs 1, 2, 3 … and each ``prev`` is the SHA-256 of the record before;
(2) time never goes back inside a partition;
(3) the postings of each event sum to zero in each asset, and touch no wallet but the event's own;
(4) each event's ``balances`` are exactly what the postings so far add up to, for the assets that it moves, and no
    bonus or held bucket is below zero;
(5) a user's events are in the user's partition, no (user_id, command_id) stands twice, and a record is stored
    under its own names;
(6) each transfer is received or returned at most once, as it was sent, and what stands in ``transit/transfers`` is
    what the transfers that are neither received nor returned add up to;
(7) where heads were published earlier, the log still goes through them.

A log that is being written is examined up to the heads that it had when the examination began.
"""

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Final, Protocol

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from ledger.core.position import partition_of
from ledger.core.record import EMPTY_SHA256, Head
from ledger.ports import StoredRecord

TRANSIT: Final = "transit/transfers"


class Fault(Exception):
    """The first thing that is wrong: where, and why. ``partition`` −1 where it is a sum over all of them."""

    def __init__(self, partition: int, seq: int, reason: str) -> None:
        where = f"partition {partition}, seq {seq}" if partition >= 0 else "over all partitions"
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
    """What was examined, and found well."""

    events: int
    heads: tuple[Head, ...]
    open_transfers: int
    in_transit: dict[str, int]


class _Buckets(Struct, gc=False):
    cash: int
    bonus: int
    held: int


class _Record(Struct, gc=False):
    """A record as the auditor reads it; ``data`` is looked into only where money crosses wallets."""

    v: int
    partition: int
    seq: int
    prev: str
    time_us: int
    user_id: str
    command_id: str
    actor: str
    type: str
    data: msgspec.Raw
    postings: list[tuple[str, str, int]]
    balances: dict[str, _Buckets]


class _TransferData(Struct, gc=False):
    transfer_id: str
    asset: str
    amount: int
    from_user_id: str | None = None


_decode: Final = msgspec.json.Decoder(_Record).decode
_decode_transfer: Final = msgspec.json.Decoder(_TransferData).decode
_TRANSFER_TYPES: Final = frozenset({"transfer_sent", "transfer_received", "transfer_returned"})
_BUCKETS: Final = {"cash": 0, "bonus": 1, "held": 2}


def verify(
    records: Records,
    *,
    published: Mapping[int, Head] | None = None,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Verified:
    """Examine the whole log. ``progress`` is told (events examined, events in all) now and then.

    ``published`` are heads that the log must go through. Raises Fault for the first thing that is wrong.
    """
    # What is kept forms no cycles, and there is much of it: the collector would walk it again and again for nothing.
    collecting = gc.isenabled()
    gc.disable()
    try:
        return _verify(records, published or {}, progress)
    finally:
        if collecting:
            gc.enable()


def _verify(records: Records, published: Mapping[int, Head], progress: Callable[[int, int], None]) -> Verified:
    ends = records.ends()
    for partition, head in published.items():
        if partition >= len(ends):
            raise Fault(partition, head.seq, f"the log has {len(ends)} partitions only")
        if head.seq > ends[partition]:
            raise Fault(partition, head.seq, f"a head was published here, but the log ends at seq {ends[partition]}")
    total, done = sum(ends), 0
    transfers = _Transfers()
    heads = []
    for partition, end in enumerate(ends):
        examined = _Partition(partition, len(ends), transfers, published.get(partition))
        for page in records.read(partition, end):
            examined.take(page)
            done += len(page)
            progress(done, total)
        if examined.seq != end:
            raise Fault(partition, examined.seq + 1, "the record is missing")
        heads.append(Head(examined.seq, examined.head))
    progress(total, total)
    return Verified(total, tuple(heads), *transfers.balance())


class _Partition:
    """What is known of one partition while its records go by."""

    def __init__(self, partition: int, partitions: int, transfers: "_Transfers", published: Head | None) -> None:
        self._partitions = partitions
        self.partition, self.seq, self.head = partition, 0, EMPTY_SHA256
        self._transfers = transfers
        self._published = published
        self._time_us = 0
        self._users: set[str] = set()
        self._ids: set[str] = set()
        self._wallets: dict[tuple[str, str], list[int]] = {}

    def take(self, page: Sequence[StoredRecord]) -> None:
        partition, head, seq, time_us = self.partition, self.head, self.seq, self._time_us
        ids, users, published = self._ids, self._users, self._published
        for record, stored_seq, stored_user, stored_command in page:
            seq += 1
            if stored_seq is not None and stored_seq != seq:
                raise Fault(partition, seq, "the record is missing")
            if not isinstance(record, bytes):
                raise Fault(partition, seq, "the record is stored as something else than its bytes")
            try:
                event = _decode(record)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                raise Fault(partition, seq, f"the record cannot be read: {error}") from None
            if event.seq != seq or event.partition != partition:
                raise Fault(partition, seq, f"the record says it is {event.partition}:{event.seq}")
            if event.prev != head:
                raise Fault(partition, seq, "its prev is not the hash of the record before it")
            head = sha256(record).hexdigest()
            if event.time_us < time_us:
                raise Fault(partition, seq, "its time is before that of the event before it")
            time_us = event.time_us
            user_id, command_id = event.user_id, event.command_id
            if stored_user is not None and (user_id != stored_user or command_id != stored_command):
                raise Fault(partition, seq, f"it is stored as {stored_user} {stored_command}, but says otherwise")
            if user_id not in users:
                if partition_of(user_id, self._partitions) != partition:
                    raise Fault(partition, seq, f"{user_id} belongs into another partition")
                users.add(user_id)
            ids.add(f"{user_id} {command_id}")  # neither has a space
            if len(ids) != seq:
                raise Fault(partition, seq, f"the command {command_id} of {user_id} stands twice")
            if (event.actor == "ledger") != (command_id[:1] == "~"):
                raise Fault(partition, seq, "only the ledger's own events begin with ~ in their command_id")
            if event.postings or event.balances:
                self._post(event)
            if event.type in _TRANSFER_TYPES:
                self._transfers.take(event)
            if published is not None and seq == published.seq and head != published.sha256:
                raise Fault(partition, seq, "another head was published here: the log was rewritten")
        self.seq, self.head, self._time_us = seq, head, time_us

    def _post(self, event: _Record) -> None:
        """Add the postings up. Nearly every event moves one asset, which is looked at in one go."""
        postings, own = event.postings, f"wallet/{event.user_id}/"
        asset = postings[0][1] if postings else ""
        total, moved = 0, False
        buckets = None
        for account, posted_asset, amount in postings:
            if posted_asset != asset:
                asset_by_asset = sorted({posting[1] for posting in postings})
                for asset in asset_by_asset:
                    self._post(_only(event, asset))
                return
            total += amount
            if account.startswith(own):
                if buckets is None:
                    buckets = self._wallets.get((event.user_id, asset))
                    if buckets is None:
                        buckets = self._wallets[event.user_id, asset] = [0, 0, 0]
                bucket = _BUCKETS.get(account[len(own) :])
                if bucket is None:
                    raise Fault(self.partition, event.seq, f"there is no account {account}")
                buckets[bucket] += amount
                moved = True
            elif account.startswith("wallet/"):
                raise Fault(self.partition, event.seq, f"it posts to {account}, another wallet")
            elif account == TRANSIT:
                self._transfers.posted(asset, amount)
        if total:
            raise Fault(self.partition, event.seq, f"its postings of {asset} sum to {total}, not to zero")
        stated = event.balances.get(asset)
        if len(event.balances) != moved or (stated is not None) != moved:
            raise Fault(self.partition, event.seq, "its balances are not of the assets that it moves")
        if buckets is None or stated is None:
            return
        cash, bonus, held = buckets
        if stated.cash != cash or stated.bonus != bonus or stated.held != held:
            raise Fault(
                self.partition,
                event.seq,
                f"the postings so far give {event.user_id} {cash}, {bonus}, {held} {asset} (cash, bonus, held), "
                f"the event says {stated.cash}, {stated.bonus}, {stated.held}",
            )
        if bonus < 0 or held < 0:
            raise Fault(self.partition, event.seq, f"a bucket of {event.user_id} is below zero")


def _only(event: _Record, asset: str) -> _Record:
    """The part of an event that moves one asset; balances of assets that it does not move go with the first."""
    moved = {posting[1] for posting in event.postings}
    strays = {name: stated for name, stated in event.balances.items() if name not in moved and asset == min(moved)}
    own = {asset: event.balances[asset]} if asset in event.balances else {}
    return replace(
        event, postings=[posting for posting in event.postings if posting[1] == asset], balances=own | strays
    )


class _Transfers:
    """Money between wallets, over all partitions: what was sent, and what came of it."""

    def __init__(self) -> None:
        # +1 a sending, −1 its arrival or return; arrivals may be read before their sendings, in another partition.
        self._open: dict[tuple[str, str], tuple[str, int, int, int, int]] = {}
        self._transit: dict[str, int] = {}

    def posted(self, asset: str, amount: int) -> None:
        self._transit[asset] = self._transit.get(asset, 0) + amount

    def take(self, event: _Record) -> None:
        data = _decode_transfer(event.data)
        sender = data.from_user_id if event.type == "transfer_received" else event.user_id
        if sender is None:
            raise Fault(event.partition, event.seq, "the transfer that it received names no sender")
        step = 1 if event.type == "transfer_sent" else -1
        key = (sender, data.transfer_id)
        asset, amount, balance, _, _ = self._open.pop(key, (data.asset, data.amount, 0, 0, 0))
        if (asset, amount) != (data.asset, data.amount):
            raise Fault(event.partition, event.seq, f"the transfer {data.transfer_id} was sent with another amount")
        balance += step
        if balance not in (-1, 0, 1):
            raise Fault(
                event.partition, event.seq, f"the transfer {data.transfer_id} of {sender} stands more than once"
            )
        if balance:
            self._open[key] = (asset, amount, balance, event.partition, event.seq)

    def balance(self) -> tuple[int, dict[str, int]]:
        """How many transfers are open, and what stands in transit. Raises Fault where the two differ."""
        under_way: dict[str, int] = {}
        for (sender, transfer_id), (asset, amount, balance, partition, seq) in self._open.items():
            if balance < 0:
                raise Fault(partition, seq, f"the transfer {transfer_id} of {sender} was never sent")
            under_way[asset] = under_way.get(asset, 0) + amount
        for asset in self._transit.keys() | under_way.keys():
            transit, open_amount = self._transit.get(asset, 0), under_way.get(asset, 0)
            if transit != open_amount:
                raise Fault(
                    -1, 0, f"{TRANSIT} holds {transit} {asset}, but the open transfers add up to {open_amount}"
                )
        return len(self._open), {asset: amount for asset, amount in under_way.items() if amount}
