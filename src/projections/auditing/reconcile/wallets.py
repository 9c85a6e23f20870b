"""Compares the documents of each wallet with the oracle, as of the position that each response names."""

import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct

from projections.auditing.oracle import Document, WalletOracle, history_key
from projections.auditing.reconcile.port import Difference, Reads, Unreadable, shown, unequal_fields
from projections.auditing.reconcile.records import PartitionRecords

_ATTEMPTS: Final = 4
_PAUSE_S: Final = 0.25
_TIMES_SAMPLED: Final = 3
_IDS_SAMPLED: Final = 2


def seq_of(response: Document | None, log: PartitionRecords) -> int:
    """The seq at which the response is true: 0 for a 404 (None), which names none; -1 if a document names no seq of
    this partition."""
    if response is None:
        return 0
    try:
        partition, _, seq = response["as_of"]["position"].partition(":")
        return int(seq) if int(partition) == log.partition else -1
    except (KeyError, TypeError, AttributeError, ValueError):
        return -1


class WalletResult(NamedTuple):
    """``events``: the number of the wallet's events; ``seq``: the oldest position that a response named."""

    user_id: str
    events: int
    seq: int
    responses: int
    retried: bool
    differences: list[Difference]


def compare_wallets(
    reads: Reads, log: PartitionRecords, wallets: Sequence[str], concurrency: int, target: int
) -> Iterator[WalletResult]:
    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="reconcile")
    try:
        yield from pool.map(lambda user_id: _compare_wallet(reads, log, user_id, target), wallets)
    finally:
        pool.shutdown(cancel_futures=True)


def _compare_wallet(reads: Reads, log: PartitionRecords, user_id: str, target: int) -> WalletResult:
    responses = attempt = 0
    while True:
        attempt += 1
        comparison = _Comparison(reads, log, user_id, target)
        comparison.compare()
        responses += comparison.responses
        behind = comparison.seq < target
        if attempt == _ATTEMPTS or not (comparison.differences or behind):
            break
        time.sleep(_PAUSE_S)
    events = len(log.of_wallet(user_id)[0])
    return WalletResult(user_id, events, comparison.seq, responses, attempt > 1, comparison.differences)


class _Comparison:
    """Reads each document of one wallet once and compares it with the oracle."""

    def __init__(self, reads: Reads, log: PartitionRecords, user_id: str, target: int) -> None:
        """``target``: the seq that the reads of the partition had reached before the comparison began."""
        self._reads, self._log, self._user_id, self._target = reads, log, user_id, target
        self._oracle = WalletOracle(user_id)
        self._applied = 0
        self.seq = log.first_end
        """The oldest position that a response named."""
        self.responses = 0
        self.differences: list[Difference] = []

    def compare(self) -> None:
        reads = self._reads
        with self._unreadable_is_a_difference("wallet"):
            if not self._wallet():
                return
        if not self._at(self._log.first_end).is_open:
            return  # the wallet read was no document, and there should be no wallet
        self._one("stats", reads.stats, WalletOracle.stats)
        self._one("referrals", reads.referrals, WalletOracle.referrals)
        for at_us in self._times():
            with self._unreadable_is_a_difference(f"balance?at_us={at_us}"):
                self._balance_at(at_us)
        self._list("history", reads.history, self._history, history_key)
        self._list("bets", reads.bets, lambda oracle: oracle.bets, lambda item: str(item["bet_id"]))
        self._list("holds", reads.holds, lambda oracle: oracle.holds, lambda item: str(item["hold_id"]))
        self._list(
            "transfers", reads.transfers, lambda oracle: oracle.transfers, lambda item: str(item["transfer_id"])
        )
        self._list("grants", reads.grants, lambda oracle: oracle.grants, lambda item: str(item["grant_id"]))
        self._each("bets", reads.bet, lambda oracle: oracle.bets, _IDS_SAMPLED)
        self._each("holds", reads.hold, lambda oracle: oracle.holds, _IDS_SAMPLED)
        self._each("transfers", reads.transfer, lambda oracle: oracle.transfers, None)
        self._each("orders", reads.order, lambda oracle: oracle.orders, None)

    def _history(self, oracle: WalletOracle) -> dict[str, Document]:
        return oracle.history if self._reads.has_private else oracle.history_without_private

    @contextmanager
    def _unreadable_is_a_difference(self, read: str) -> Iterator[None]:
        """Turns Unreadable into a difference, so that the next read can be compared."""
        try:
            yield
        except Unreadable as error:
            self.responses += 1
            self._difference(read, "", "a document", f"unreadable: {error}")

    def _wallet(self) -> bool:
        """Compare the wallet itself. Returns whether it exists, so that its other documents can be compared."""
        wallet = self._reads.wallet(self._user_id)
        oracle = self._oracle_at("wallet", wallet)
        if oracle is None:
            return False
        if wallet is None:
            # A 404 names no position: it may be as old as the reads were before the comparison. A wallet that is
            # opened later is no difference; that the partition is late is reported.
            oracle = self._at(self._target)
            if oracle.is_open:
                self._difference("wallet", "", oracle.wallet(), None)
            return False
        if not oracle.is_open:
            self._difference("wallet", "", None, wallet)
            return False
        self._compare("wallet", oracle.wallet(), wallet)
        return True

    # --- the kinds of documents ------------------------------------------------------------------------------------

    def _one(
        self, read: str, read_one: Callable[[str], Document | None], expected: Callable[[WalletOracle], Document]
    ) -> None:
        with self._unreadable_is_a_difference(read):
            response = read_one(self._user_id)
            oracle = self._oracle_at(read, response)
            if oracle is not None:
                self._compare(read, expected(oracle), response)

    def _balance_at(self, at_us: int) -> None:
        read = f"balance?at_us={at_us}"
        response = self._reads.balance_at(self._user_id, at_us)
        oracle = self._oracle_at(read, response)
        if oracle is None:
            return
        at_time = WalletOracle(self._user_id)
        for record in self._records()[: self._applied]:
            if _time_us(record) > at_us:
                break
            at_time.apply(record)
        self._compare(read, {"user_id": self._user_id, "at_us": at_us, "balances": at_time.balances()}, response)

    def _each(
        self,
        read: str,
        read_one: Callable[[str, str], Document | None],
        items: Callable[[WalletOracle], dict[str, Document]],
        sample: int | None,
    ) -> None:
        ids = list(items(self._at(self._log.first_end)))
        for name in ids if sample is None else {*ids[:1], *ids[1:][-(sample - 1) :]}:
            with self._unreadable_is_a_difference(f"{read}/{name}"):
                response = read_one(self._user_id, name)
                oracle = self._oracle_at(f"{read}/{name}", response)
                if oracle is not None:
                    # A 404 names no position: it may be as old as the oldest response.
                    known = items(oracle if response is not None else self._at(self.seq)).get(name)
                    self._compare(f"{read}/{name}", known, response)

    def _list(
        self,
        read: str,
        read_one: Callable[[str, str | None], Document | None],
        items: Callable[[WalletOracle], dict[str, Document]],
        key: Callable[[Document], str],
    ) -> None:
        cursor, keys, compared = None, None, 0
        while True:
            try:
                page = read_one(self._user_id, cursor)
            except Unreadable as error:
                self.responses += 1
                self._difference(
                    read, "" if cursor is None else f"items[{compared}]…", "a page", f"unreadable: {error}"
                )
                return
            oracle = self._oracle_at(read, page)
            if oracle is None:
                return
            if page is None:
                self._difference(read, "", "a list", None)
                return
            now = items(oracle)
            if keys is None:
                keys = list(reversed(now))
            try:
                found, cursor = list(page["items"]), page["next_cursor"]
                found_keys = [key(item) for item in found]
            except (KeyError, TypeError) as error:
                self._difference(read, "", "items and next_cursor", f"a page without {error}")
                return
            for number, (item, name) in enumerate(zip(found, found_keys, strict=True), compared):
                if number >= len(keys) or name != keys[number]:
                    self._difference(read, f"items[{number}]", keys[number] if number < len(keys) else None, name)
                    return
                self._compare(read, now.get(name), item, f"items[{name}]")
            compared += len(found)
            if cursor is None or not found:
                break
        if compared != len(keys):
            self._difference(read, f"items[{compared}]", keys[compared], None)

    def _times(self) -> list[int]:
        """Times at which to compare the balance: one before the first event, and those of some events."""
        times = [_time_us(record) for record in self._at_records(self._log.first_end)]
        inner = times[:: max(1, len(times) // (_TIMES_SAMPLED - 1))][: _TIMES_SAMPLED - 1]
        return [times[0] - 1, *inner] if times else []

    # --- the oracle, as of a response -------------------------------------------------------------------------------

    def _oracle_at(self, read: str, response: Document | None) -> WalletOracle | None:
        """The oracle as of the response; None, with a difference, if the response names no position of the log."""
        self.responses += 1
        if response is None:
            return self._oracle
        seq = seq_of(response, self._log)
        if seq < 0:
            self._difference(read, "as_of.position", f"a position in {self._log.partition}", response.get("as_of"))
            return None
        if not self._log.reaches(seq):
            self._difference(read, "as_of.position", f"at most seq {self._log.end}, where the log ends", seq)
            return None
        self.seq = min(self.seq, seq)
        return self._at(seq)

    def _at(self, seq: int) -> WalletOracle:
        count = len(self._at_records(seq))
        if count < self._applied:
            self._oracle, self._applied = WalletOracle(self._user_id), 0
        for record in self._records()[self._applied : count]:
            self._oracle.apply(record)
        self._applied = count
        return self._oracle

    def _at_records(self, seq: int) -> list[bytes]:
        seqs, records = self._log.of_wallet(self._user_id)
        return records[: bisect_right(seqs, seq)]

    def _records(self) -> list[bytes]:
        return self._log.of_wallet(self._user_id)[1]

    # --- differences -----------------------------------------------------------------------------------------------

    def _compare(self, read: str, expected: Any, found: Any, path: str = "") -> None:
        for field, wanted, got in unequal_fields(path, expected, found):
            self._difference(read, field, wanted, got)

    def _difference(self, read: str, field: str, expected: Any, found: Any) -> None:
        applied = self._log.of_wallet(self._user_id)[0][: self._applied]
        position = f"{self._log.partition}:{applied[-1] if applied else 0}"
        self.differences.append(
            Difference(self._user_id, read, field, position, shown(expected), shown(found)),
        )


class _Time(Struct, gc=False):
    time_us: int


_decode_time: Final = msgspec.json.Decoder(_Time).decode


def _time_us(record: bytes) -> int:
    return _decode_time(record).time_us
