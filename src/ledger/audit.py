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

from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Final, NamedTuple, Protocol

import msgspec
from msgspec import Struct

from ledger.partitioning import partition_of
from ledger.record import EMPTY_SHA256, Head

TRANSIT: Final = "transit/transfers"


class Fault(Exception):
    """The first thing that is wrong: where, and why. ``partition`` −1 where it is a sum over all of them."""

    def __init__(self, partition: int, seq: int, reason: str) -> None:
        where = f"partition {partition}, seq {seq}" if partition >= 0 else "over all partitions"
        super().__init__(f"{where}: {reason}")
        self.partition, self.seq, self.reason = partition, seq, reason


class Stored(NamedTuple):
    """A record, and the names it is stored under; None where the source has only the record."""

    record: bytes
    seq: int | None = None
    user_id: str | None = None
    command_id: str | None = None


class Records(Protocol):
    """Where the records come from: a folder, or a service."""

    def ends(self) -> Sequence[int]:
        """The last seq of each partition, all at one moment."""
        ...

    def read(self, partition: int, to_seq: int) -> Iterator[Sequence[Stored]]:
        """The partition's records from the first to ``to_seq``, in order, in pages."""
        ...


class Verified(Struct, frozen=True):
    """What was examined, and found well."""

    events: int
    heads: tuple[Head, ...]
    open_transfers: int
    in_transit: dict[str, int]


class _Buckets(Struct):
    cash: int
    bonus: int
    held: int


class _Record(Struct):
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


class _TransferData(Struct):
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
    ends = records.ends()
    published = published or {}
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
        self._ids: set[tuple[str, str]] = set()
        self._wallets: dict[tuple[str, str], list[int]] = {}

    def take(self, page: Sequence[Stored]) -> None:
        partition, head, seq, ids = self.partition, self.head, self.seq, self._ids
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
            if event.time_us < self._time_us:
                raise Fault(partition, seq, "its time is before that of the event before it")
            self._time_us = event.time_us
            name = (event.user_id, event.command_id)
            if stored_user is not None and name != (stored_user, stored_command):
                raise Fault(partition, seq, f"it is stored as {stored_user} {stored_command}, but says otherwise")
            if partition_of(event.user_id, self._partitions) != partition:
                raise Fault(partition, seq, f"{event.user_id} belongs into another partition")
            if name in ids:
                raise Fault(partition, seq, f"the command {event.command_id} of {event.user_id} stands twice")
            ids.add(name)
            if (event.actor == "ledger") != (event.command_id[:1] == "~"):
                raise Fault(partition, seq, "only the ledger's own events begin with ~ in their command_id")
            if event.postings or event.balances:
                self._post(event)
            if event.type in _TRANSFER_TYPES:
                self._transfers.take(event)
            if self._published is not None and seq == self._published.seq and head != self._published.sha256:
                raise Fault(partition, seq, "another head was published here: the log was rewritten")
        self.seq, self.head = seq, head

    def _post(self, event: _Record) -> None:
        sums: dict[str, int] = {}
        own = f"wallet/{event.user_id}/"
        moved: dict[str, list[int]] = {}
        for account, asset, amount in event.postings:
            sums[asset] = sums.get(asset, 0) + amount
            if account.startswith(own):
                balance = self._wallets.get((event.user_id, asset))
                if balance is None:
                    balance = self._wallets[event.user_id, asset] = [0, 0, 0]
                bucket = _BUCKETS.get(account[len(own) :])
                if bucket is None:
                    raise Fault(self.partition, event.seq, f"there is no account {account}")
                balance[bucket] += amount
                moved[asset] = balance
            elif account.startswith("wallet/"):
                raise Fault(self.partition, event.seq, f"it posts to {account}, another wallet")
            elif account == TRANSIT:
                self._transfers.posted(asset, amount)
        for asset, amount in sums.items():
            if amount:
                raise Fault(self.partition, event.seq, f"its postings of {asset} sum to {amount}, not to zero")
        if moved.keys() != event.balances.keys():
            raise Fault(self.partition, event.seq, "its balances are not of the assets that it moves")
        for asset, (cash, bonus, held) in moved.items():
            stated = event.balances[asset]
            if stated.cash != cash or stated.bonus != bonus or stated.held != held:
                raise Fault(
                    self.partition,
                    event.seq,
                    f"the postings so far give {event.user_id} {cash}, {bonus}, {held} {asset} (cash, bonus, held), "
                    f"the event says {stated.cash}, {stated.bonus}, {stated.held}",
                )
            if bonus < 0 or held < 0:
                raise Fault(self.partition, event.seq, f"a bucket of {event.user_id} is below zero")


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
