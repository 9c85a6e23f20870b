"""Compares the documents of gifts and referral codes with the oracle, as of the position that each response names.

Whether a gift is open or expired depends on the clock of the service, so these two are compared as one.
"""

import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Final

from projections.auditing.oracle import CODE_STREAM, GIFT_STREAM, Document, gift_of, owned_code_of
from projections.auditing.reconcile.port import Difference, Reads, Unreadable, shown, unequal_fields
from projections.auditing.reconcile.records import PartitionRecords
from projections.auditing.reconcile.wallets import seq_of

_ATTEMPTS: Final = 4
_PAUSE_S: Final = 0.25


def compare_streams(reads: Reads, log: PartitionRecords) -> Iterator[Difference]:
    """One difference for each field that differs in each attempt."""
    for user_id in log.streams(GIFT_STREAM):
        yield from _compared(log, user_id, GIFT_STREAM, "gift", reads.gift, gift_of)
    for user_id in log.streams(CODE_STREAM):
        yield from _compared(log, user_id, CODE_STREAM, "referral code", reads.referral_code, owned_code_of)


def _compared(
    log: PartitionRecords,
    user_id: str,
    stream: str,
    read: str,
    read_one: Callable[[str], Document | None],
    expected: Callable[[str, list[bytes]], Document | None],
) -> list[Difference]:
    code, differences = user_id.removeprefix(stream), list[Difference]()
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(_PAUSE_S)
        position = f"{log.partition}:{log.first_end}"
        try:
            found = read_one(code)
        except Unreadable as error:
            differences = [Difference(user_id, read, "", position, "a document", shown(f"unreadable: {error}"))]
            continue
        seq = log.first_end if found is None else seq_of(found, log)
        if seq < 0 or not log.reaches(seq):
            differences = [Difference(user_id, read, "as_of", position, shown(log.end), shown(seq))]
            continue
        seqs, records = log.of_wallet(user_id)
        wanted = expected(code, records[: bisect_right(seqs, seq)])
        if found is not None and found.get("status") == "expired" and wanted is not None and wanted["expires_at_us"]:
            found = {**found, "status": "open"}
        differences = [
            Difference(user_id, read, field, f"{log.partition}:{seq}", shown(one), shown(other))
            for field, one, other in unequal_fields("", wanted, found)
        ]
        if not differences:
            return []
    return differences
