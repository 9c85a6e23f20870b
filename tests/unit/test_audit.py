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
from ledger.node.node import Node
from ledger.operations.audit import Fault, Stored, verify

PARTITIONS = 4
ADA, BOB = "ada", "bob"
P = partition_of(ADA, PARTITIONS)


class Lists:
    """Records in lists: what a folder or a service would show."""

    def __init__(self, partitions: list[list[bytes]], page: int = 3) -> None:
        self.partitions = partitions
        self.page = page

    def ends(self) -> Sequence[int]:
        return [len(records) for records in self.partitions]

    def read(self, partition: int, to_seq: int, from_seq: int = 1) -> Iterator[Sequence[Stored]]:
        records = self.partitions[partition][from_seq - 1 : to_seq]
        for start in range(0, len(records), self.page):
            yield [Stored(record) for record in records[start : start + self.page]]


NOON = 1_795_438_800_000_000
HOUR_US = 3_600_000_000


class Clock:
    now_us = NOON

    def __call__(self) -> int:
        return self.now_us


def bet(command_id: str, bet_id: str, stake: int, **fields: Any) -> Command:
    about = {"game": "external", "period": "p", "selection": "s", "asset": "INR"}
    return PlaceBet(command_id=command_id, user_id=ADA, bet_id=bet_id, stake=stake, **about, **fields)


async def a_day() -> list[list[bytes]]:
    """One event of each type at least, most of them on one wallet."""
    log = MemoryEventLog(PARTITIONS)
    clock = Clock()
    node = Node(log, MemoryStateStore(), clock, {"INR": 2})
    await node.start()

    async def post(command: Command, actor: str = "local") -> Any:
        return await node.post(command, sha256(canonical(command)).hexdigest(), actor)

    a = {"user_id": ADA}
    money = {"asset": "INR"}
    commands: list[Command] = [
        OpenWallet(command_id="c1", user_id=ADA),
        OpenWallet(command_id="c1", user_id=BOB, referrer_id=ADA),
        Deposit(command_id="c2", order_id="o1", amount=10_000, **a, **money),
        GrantBonus(command_id="c3", grant_id="g1", amount=500, **a, **money),
        bet("c4", "b1", 700),
        SettleBet(command_id="c5", bet_id="b1", payout=900, **a),
        PlaceHold(command_id="c6", hold_id="h1", amount=100, **a, **money),
        Transfer(command_id="c7", transfer_id="t1", to_user_id=BOB, amount=40, **a, **money),
        Transfer(command_id="c8", transfer_id="t2", to_user_id="nobody", amount=41, **a, **money),
        bet("c9", "b2", 300, spend="bonus_first"),
        SettleBet(command_id="c10", bet_id="b2", payout=333, **a),
        bet("c11", "b3", 600, spend="bonus_first"),
        CancelBet(command_id="c12", bet_id="b3", **a),
        CancelBet(command_id="c13", bet_id="b9", reason="never", **a),
        CaptureHold(command_id="c14", hold_id="h1", amount=60, **a),
        PlaceHold(command_id="c15", hold_id="h2", amount=70, **a, **money),
        ReleaseHold(command_id="c16", hold_id="h2", **a),
        PlaceHold(command_id="c17", hold_id="h3", amount=80, expires_at_us=NOON + HOUR_US, **a, **money),
        GrantBonus(command_id="c18", grant_id="g2", amount=90, expires_at_us=NOON + HOUR_US, **a, **money),
        RequestWithdrawal(command_id="c19", order_id="w1", amount=110, **a, **money),
        ApproveWithdrawal(command_id="c20", order_id="w1", **a),
        RequestWithdrawal(command_id="c21", order_id="w2", amount=120, **a, **money),
        RejectWithdrawal(command_id="c22", order_id="w2", **a),
        ProposeAdjustment(command_id="c23", adjustment_id="a1", amount=-130, reason="r", **a, **money),
        ProposeAdjustment(command_id="c24", adjustment_id="a2", amount=140, reason="r", **a, **money),
        Adjust(command_id="c25", amount=150, reason="r", **a, **money),
        Deposit(command_id="c26", order_id="o2", amount=160, bonus=17, **a, **money),
        SetLimits(command_id="c27", credit_limit=1_000, balance_max=None, **a, **money),
        FreezeWallet(command_id="c28", reason="r", **a),
        UnfreezeWallet(command_id="c29", reason="r", **a),
        OpenWallet(command_id="c1", user_id="eve"),
        CloseWallet(command_id="c2", user_id="eve", reason="r"),
    ]
    for command in commands:
        accepted = await post(command)
        if command.command_id == "c26":
            deposit = str(accepted.place)
    await post(ApproveAdjustment(command_id="d1", adjustment_id="a1", **a), "op")
    await post(RejectAdjustment(command_id="d2", adjustment_id="a2", **a), "op")
    await post(Reverse(command_id="d3", position=deposit, reason="r", **a))
    clock.now_us += 2 * HOUR_US
    await post(bet("d4", "b4", 10_000))
    await node.stop()  # lets the follow-ups arrive first
    return log.appended.records


@pytest.fixture(scope="module")
def whole_day() -> list[list[bytes]]:
    return asyncio.run(a_day())


@pytest.fixture
def day(whole_day: list[list[bytes]]) -> list[list[bytes]]:
    return [list(records) for records in whole_day]


def parsed(record: bytes) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(record)
    return event


ADDED = {"first_deposit", "from", "before_bet"}
"""What a decision adds to a command's members in ``data``."""


def as_record(event: dict[str, Any]) -> bytes:
    return json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode()


def with_request(event: dict[str, Any]) -> dict[str, Any]:
    """The event with the hash of the command that its data contains now."""
    if event["command_id"].startswith("~") or event["type"] not in COMMAND_OF:
        return event
    command = {name: value for name, value in event["data"].items() if name not in ADDED}
    command |= {"type": COMMAND_OF[event["type"]], "command_id": event["command_id"], "user_id": event["user_id"]}
    text = json.dumps(command, separators=(",", ":"), ensure_ascii=False, sort_keys=True)
    return {**event, "request_sha256": sha256(text.encode()).hexdigest()}


def rechained(records: list[bytes]) -> list[bytes]:
    """The same records, with every seq and prev made to fit."""
    prev, done = EMPTY_SHA256, []
    for seq, record in enumerate(records, 1):
        done.append(as_record({**parsed(record), "seq": seq, "prev": prev}))
        prev = sha256(done[-1]).hexdigest()
    return done


def index_of(records: list[bytes], event_type: str) -> int:
    return next(index for index, record in enumerate(records) if parsed(record)["type"] == event_type)


Change = Callable[[dict[str, Any]], object]


def forge(day: list[list[bytes]], partition: int, event_type: str, change: Change, *, request: bool = True) -> int:
    """Change the first event of that type and hide it behind a new request hash and a new chain. Returns its seq."""
    records = day[partition]
    index = index_of(records, event_type)
    event = parsed(records[index])
    change(event)
    records[index] = as_record(with_request(event) if request else event)
    day[partition] = rechained(records)
    return index + 1


def damage(day: list[list[bytes]], partition: int, event_type: str, change: Change) -> int:
    """Change the first event of that type and nothing else. Returns its seq."""
    index = index_of(day[partition], event_type)
    event = parsed(day[partition][index])
    change(event)
    day[partition][index] = as_record(event)
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
        def read(self, partition: int, to_seq: int) -> Iterator[Sequence[Stored]]:
            for page in super().read(partition, to_seq):
                yield [Stored(stored.record, None, "eve", "c1") for stored in page]

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
