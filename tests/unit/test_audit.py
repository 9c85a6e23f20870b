"""Each truth that ``audit verify`` proves, broken by hand: the fault is found, and named with its place.

A forger here is a good one: after a change the chain behind it is computed anew, so that only the rule in question
can tell.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from typing import Any

import pytest

from ledger.core.commands import (
    Command,
    Deposit,
    GrantBonus,
    OpenWallet,
    PlaceBet,
    PlaceHold,
    SettleBet,
    Transfer,
    canonical,
)
from ledger.core.position import partition_of
from ledger.core.record import EMPTY_SHA256, Head
from ledger.memory.log import MemoryEventLog
from ledger.memory.state_store import MemoryStateStore
from ledger.node.owns_all import node_of_whole_log
from ledger.operations.audit import Fault, verify
from ledger.ports import StoredRecord

PARTITIONS = 4
ADA, BOB = "ada", "bob"
P = partition_of(ADA, PARTITIONS)


class Lists:
    """Records in lists: what a folder or a service would show."""

    def __init__(self, partitions: list[list[bytes]]) -> None:
        self.partitions = partitions

    def ends(self) -> Sequence[int]:
        return [len(records) for records in self.partitions]

    def read(self, partition: int, to_seq: int) -> Iterator[Sequence[StoredRecord]]:
        records = self.partitions[partition][:to_seq]
        for start in range(0, len(records), 3):
            yield [StoredRecord(record) for record in records[start : start + 3]]


async def a_day() -> list[list[bytes]]:
    log = MemoryEventLog(PARTITIONS)
    now_us = 1_795_438_800_000_000
    node = node_of_whole_log(log, MemoryStateStore(), lambda: now_us, {"INR": 2})
    await node.start()
    commands: list[Command] = [
        OpenWallet(command_id="c1", user_id=ADA),
        OpenWallet(command_id="c1", user_id=BOB),
        Deposit(command_id="c2", user_id=ADA, order_id="o1", asset="INR", amount=10_000),
        GrantBonus(command_id="c3", user_id=ADA, grant_id="g1", asset="INR", amount=500),
        PlaceBet(
            command_id="c4",
            user_id=ADA,
            bet_id="b1",
            game="external",
            period="p",
            selection="s",
            asset="INR",
            stake=700,
        ),
        SettleBet(command_id="c5", user_id=ADA, bet_id="b1", payout=900),
        PlaceHold(command_id="c6", user_id=ADA, hold_id="h1", asset="INR", amount=100),
        Transfer(command_id="c7", user_id=ADA, transfer_id="t1", to_user_id=BOB, asset="INR", amount=40),
    ]
    for command in commands:
        await node.post(command, sha256(canonical(command)).hexdigest(), "local")
    await node.stop()  # lets the follow-ups arrive first
    return log.appended.records


@pytest.fixture
async def day() -> list[list[bytes]]:
    return await a_day()


def parsed(record: bytes) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(record)
    return event


def rechained(records: list[bytes]) -> list[bytes]:
    """The same records, with every seq and prev made to fit."""
    prev, done = EMPTY_SHA256, []
    for seq, record in enumerate(records, 1):
        event = {**parsed(record), "seq": seq, "prev": prev}
        done.append(json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode())
        prev = sha256(done[-1]).hexdigest()
    return done


def index_of(records: list[bytes], event_type: str) -> int:
    return next(index for index, record in enumerate(records) if parsed(record)["type"] == event_type)


def forge(day: list[list[bytes]], partition: int, event_type: str, change: Callable[[dict[str, Any]], None]) -> int:
    """Change the first event of that type and hide it behind a new chain; answers its seq."""
    records = day[partition]
    index = index_of(records, event_type)
    event = parsed(records[index])
    change(event)
    records[index] = json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode()
    day[partition] = rechained(records)
    return index + 1


def fault_of(day: list[list[bytes]], published: dict[int, Head] | None = None) -> Fault:
    with pytest.raises(Fault) as caught:
        verify(Lists(day), published=published)
    return caught.value


def test_a_whole_day_is_well(day: list[list[bytes]]) -> None:
    seen: list[tuple[int, int]] = []
    verified = verify(Lists(day), progress=lambda done, total: seen.append((done, total)))
    assert verified.events == sum(map(len, day))
    assert verified.open_transfers == 0
    assert verified.in_transit == {}
    assert verified.heads[P] == Head(len(day[P]), sha256(day[P][-1]).hexdigest())
    assert seen[-1] == (verified.events, verified.events)


def test_an_empty_log_is_well() -> None:
    assert verify(Lists([[], []])).events == 0


def test_one_changed_byte_breaks_the_chain_at_the_next_record(day: list[list[bytes]]) -> None:
    seq = index_of(day[P], "deposited") + 1
    day[P][seq - 1] = day[P][seq - 1].replace(b'"actor":"local"', b'"actor":"loca1"')
    fault = fault_of(day)
    assert (fault.partition, fault.seq) == (P, seq + 1)
    assert "prev" in fault.reason


def test_a_changed_last_record_is_found_by_a_published_head(day: list[list[bytes]]) -> None:
    published = {P: Head(len(day[P]), sha256(day[P][-1]).hexdigest())}
    assert verify(Lists(day), published=published).events
    day[P][-1] = day[P][-1].replace(b'"actor":"ledger"', b'"actor": "ledger"')
    fault = fault_of(day, published)
    assert (fault.partition, fault.seq) == (P, len(day[P]))
    assert "rewritten" in fault.reason


def test_a_log_that_got_shorter_is_found_by_a_published_head(day: list[list[bytes]]) -> None:
    published = {P: Head(len(day[P]), sha256(day[P][-1]).hexdigest())}
    ends_at = len(day[P]) - 1
    del day[P][-1]
    fault = fault_of(day, published)
    assert (fault.partition, fault.seq) == (P, ends_at + 1)
    assert f"ends at seq {ends_at}" in fault.reason


def test_a_published_head_of_a_partition_that_is_not_there_is_a_fault(day: list[list[bytes]]) -> None:
    assert fault_of(day, {9: Head(1, EMPTY_SHA256)}).partition == 9


def test_a_lost_record_is_named(day: list[list[bytes]]) -> None:
    del day[P][2]
    fault = fault_of(day)
    assert (fault.partition, fault.seq) == (P, 3)


def test_an_inserted_record_is_named(day: list[list[bytes]]) -> None:
    day[P].insert(2, day[P][1])
    fault = fault_of(day)
    assert (fault.partition, fault.seq) == (P, 3)


def test_a_record_that_is_no_json_is_named(day: list[list[bytes]]) -> None:
    day[P][1] = day[P][1][:-1]
    fault = fault_of(day)
    assert (fault.partition, fault.seq) == (P, 2)
    assert "cannot be read" in fault.reason


def test_a_record_of_another_partition_is_a_fault(day: list[list[bytes]]) -> None:
    seq = forge(day, P, "deposited", lambda event: event.update(partition=(P + 1) % PARTITIONS))
    assert fault_of(day).seq == seq


def test_time_that_goes_back_is_a_fault(day: list[list[bytes]]) -> None:
    seq = forge(day, P, "deposited", lambda event: event.update(time_us=1))
    fault = fault_of(day)
    assert fault.seq == seq
    assert "time" in fault.reason


def test_postings_that_do_not_sum_to_zero_are_a_fault(day: list[list[bytes]]) -> None:
    def more(event: dict[str, Any]) -> None:
        event["postings"][1][2] += 1
        event["balances"]["INR"]["cash"] += 1

    seq = forge(day, P, "deposited", more)
    fault = fault_of(day)
    assert fault.seq == seq
    assert "not to zero" in fault.reason


def test_a_balance_that_its_postings_do_not_give_is_a_fault(day: list[list[bytes]]) -> None:
    seq = forge(day, P, "bet_settled", lambda event: event["balances"]["INR"].update(cash=1_000_000))
    fault = fault_of(day)
    assert fault.seq == seq
    assert "1000000" in fault.reason


def test_money_taken_from_an_earlier_event_is_found_at_the_next_balance(day: list[list[bytes]]) -> None:
    def less(event: dict[str, Any]) -> None:
        event["postings"][0][2], event["postings"][1][2] = -9_000, 9_000
        event["balances"]["INR"]["cash"] = 9_000

    seq = forge(day, P, "deposited", less)
    assert fault_of(day).seq == seq + 1


def test_postings_to_another_wallet_are_a_fault(day: list[list[bytes]]) -> None:
    def stray(event: dict[str, Any]) -> None:
        event["postings"][1][0] = f"wallet/{BOB}/cash"

    seq = forge(day, P, "deposited", stray)
    fault = fault_of(day)
    assert fault.seq == seq
    assert "another wallet" in fault.reason


def test_an_account_that_does_not_exist_is_a_fault(day: list[list[bytes]]) -> None:
    def vault(event: dict[str, Any]) -> None:
        event["postings"][1][0] = f"wallet/{ADA}/vault"

    assert "no account" in (forge(day, P, "deposited", vault), fault_of(day))[1].reason


def test_a_bucket_below_zero_is_a_fault(day: list[list[bytes]]) -> None:
    def overdraw(event: dict[str, Any]) -> None:
        event["postings"] = [[f"wallet/{ADA}/held", "INR", -5], ["house/captures", "INR", 5]]
        event["balances"] = {"INR": {"cash": 10_000, "bonus": 0, "held": -5}}

    seq = forge(day, P, "bonus_granted", overdraw)
    fault = fault_of(day)
    assert fault.seq == seq
    assert "below zero" in fault.reason


def test_a_command_that_stands_twice_is_a_fault(day: list[list[bytes]]) -> None:
    seq = forge(day, P, "bet_settled", lambda event: event.update(command_id="c2"))
    fault = fault_of(day)
    assert fault.seq == seq
    assert "twice" in fault.reason


def test_an_event_that_claims_to_be_the_ledgers_own_is_a_fault(day: list[list[bytes]]) -> None:
    seq = forge(day, P, "deposited", lambda event: event.update(command_id="~mine"))
    assert fault_of(day).seq == seq


def test_a_record_stored_under_another_name_is_a_fault(day: list[list[bytes]]) -> None:
    class Renamed(Lists):
        def read(self, partition: int, to_seq: int) -> Iterator[Sequence[StoredRecord]]:
            for page in super().read(partition, to_seq):
                yield [StoredRecord(stored.record, None, "eve", "c1") for stored in page]

    with pytest.raises(Fault, match="stored as eve"):
        verify(Renamed(day))


def test_a_transfer_that_was_never_sent_is_a_fault(day: list[list[bytes]]) -> None:
    forge(day, P, "transfer_sent", lambda event: event["data"].update(transfer_id="t9"))
    fault = fault_of(day)
    assert "t1" in fault.reason
    assert fault.partition == partition_of(BOB, PARTITIONS)


def test_a_transfer_received_with_another_amount_is_a_fault(day: list[list[bytes]]) -> None:
    forge(day, partition_of(BOB, PARTITIONS), "transfer_received", lambda event: event["data"].update(amount=41))
    assert "another amount" in fault_of(day).reason


def test_transit_that_no_open_transfer_explains_is_a_fault(day: list[list[bytes]]) -> None:
    def to_transit(event: dict[str, Any]) -> None:
        event["postings"][0][0] = "transit/transfers"

    forge(day, P, "deposited", to_transit)
    fault = fault_of(day)
    assert fault.partition == -1
    assert "transit/transfers holds -10000 INR" in fault.reason


def test_a_transfer_that_is_under_way_is_counted_and_no_fault(day: list[list[bytes]]) -> None:
    bob = partition_of(BOB, PARTITIONS)
    del day[bob][index_of(day[bob], "transfer_received") :]
    del day[P][index_of(day[P], "transfer_delivered") :]
    verified = verify(Lists(day))
    assert verified.open_transfers == 1
    assert verified.in_transit == {"INR": 40}
