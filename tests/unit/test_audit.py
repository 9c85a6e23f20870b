"""Each rule that ``audit verify`` checks, broken by hand: the fault is found and named with its position.

``damage`` changes one record and nothing else. ``forge`` is a good forger: it computes the request hash and the chain
behind the change again, so that only the rule in question can find it.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from hashlib import sha256
from typing import Any

import msgspec
import pytest

from ledger.core.commands import (
    Adjust,
    ApproveAdjustment,
    ApproveWithdrawal,
    CancelBet,
    CancelPeriod,
    CaptureHold,
    ClaimAttendance,
    ClaimGift,
    ClaimReferralCode,
    CloseGift,
    CloseWallet,
    Command,
    CreateGift,
    Deposit,
    FreezeWallet,
    GrantBonus,
    OpenWallet,
    PlaceBet,
    PlaceHold,
    ProposeAdjustment,
    RecordResult,
    RejectAdjustment,
    RejectWithdrawal,
    ReleaseHold,
    RequestWithdrawal,
    Reverse,
    SetAgentLevel,
    SetLimits,
    SettleBet,
    Transfer,
    UnfreezeWallet,
    canonical,
)
from ledger.core.events import COMMAND_OF, DATA_OF
from ledger.core.games.rules import BUILT_IN, book_of
from ledger.core.games.tables import canonical as table_form
from ledger.core.money_rules import Commission, MoneyRules
from ledger.core.money_rules import canonical as money_form
from ledger.core.position import partition_of
from ledger.core.record import EMPTY_SHA256, Head
from ledger.memory.log import MemoryEventLog
from ledger.memory.state_store import MemoryStateStore
from ledger.node.node import Node
from ledger.node.owns_all import node_of_whole_log
from ledger.operations.audit import Fault, verify
from ledger.operations.verifying.anchors import Anchor
from ledger.operations.verifying.records import read
from ledger.operations.verifying.unique_ids import UniqueIds, second_use
from ledger.ports import StoredRecord

PARTITIONS = 4
BUILT_IN_TABLES = {digest: table_form(table) for digest, table in BUILT_IN.tables.items()}
ADA, BOB, CAI, GUS = "ada", "bob", "cai", "gus"
P = partition_of(ADA, PARTITIONS)


class Lists:
    """Records in lists, as a folder or a service returns them."""

    def __init__(self, partitions: list[list[bytes]], page: int = 3) -> None:
        self.partitions = partitions
        self.page = page

    def ends(self) -> Sequence[int]:
        return [len(records) for records in self.partitions]

    def read(self, partition: int, to_seq: int, from_seq: int = 1) -> Iterator[Sequence[StoredRecord]]:
        records = self.partitions[partition][from_seq - 1 : to_seq]
        for start in range(0, len(records), self.page):
            yield [StoredRecord(record) for record in records[start : start + self.page]]


NOON = 1_795_438_800_000_000
HOUR_US = 3_600_000_000


class Clock:
    now_us = NOON

    def __call__(self) -> int:
        return self.now_us


def bet(command_id: str, bet_id: str, stake: int, **fields: Any) -> Command:
    about: dict[str, Any] = {"game": "external", "period": "p", "selection": "s", "asset": "INR"}
    return PlaceBet(command_id=command_id, user_id=ADA, bet_id=bet_id, stake=stake, **about, **fields)


RULES = book_of(
    BUILT_IN.games,
    money={
        "INR": MoneyRules(
            attendance=(7,),
            valid_referral=1_000,
            invitation=((1, 9),),
            commission=Commission("per_bet", 0, (6_000_000, 1_800_000), {"3": (5_000_000, 2_000_000)}),
        )
    },
)
MONEY_FORMS = {RULES.money_digest: money_form(RULES.money)}


async def a_day(private: str | None = None) -> list[list[bytes]]:
    """One event of each type at least, most of them on one wallet. ``private``: of every command."""
    log = MemoryEventLog(PARTITIONS)
    clock = Clock()
    node = node_of_whole_log(log, MemoryStateStore(), clock, {"INR": 2}, rules=RULES)
    await node.start()

    async def post(command: Command, actor: str = "local") -> Any:
        command = msgspec.structs.replace(command, private=private)
        return await node.post(command, sha256(canonical(command)).hexdigest(), actor)

    a: dict[str, Any] = {"user_id": ADA}
    money: dict[str, Any] = {"asset": "INR"}
    commands: list[Command] = [
        OpenWallet(command_id="c1", user_id=ADA),
        OpenWallet(command_id="c1", user_id=BOB, referrer_id=ADA),
        Deposit(command_id="c2", order_id="o1", amount=10_000, **a, **money),
        GrantBonus(command_id="c3", grant_id="g1", amount=500, **a, **money),
        bet("c4", "b1", 700),
        SettleBet(command_id="c5", bet_id="b1", payout=900, **a),
        PlaceHold(command_id="c6", hold_id="h1", amount=100, **a, **money),
        Transfer(command_id="c7", transfer_id="t1", to_user_id=BOB, amount=40, **a, **money),
        Transfer(command_id="c8", transfer_id="t2", to_user_id="never-opened", amount=41, **a, **money),
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
        SetAgentLevel(command_id="c30", level=3, **a),
        OpenWallet(command_id="c1", user_id="eve", referrer_id="never-opened"),
        CloseWallet(command_id="c2", user_id="eve", reason="r"),
        ClaimAttendance(command_id="c31", **a, **money),
    ]
    for command in commands:
        accepted = await post(command)
        if command.command_id == "c26":
            deposit = str(accepted.position)
    await post(ApproveAdjustment(command_id="d1", adjustment_id="a1", **a), "op")
    await post(RejectAdjustment(command_id="d2", adjustment_id="a2", **a), "op")
    await post(Reverse(command_id="d3", position=deposit, reason="r", **a))
    clock.now_us += 2 * HOUR_US
    await post(bet("d4", "b4", 10_700))
    await play_a_game(post, clock)
    await earn_a_commission(post)
    await give_gifts(node, post)
    await node.stop()  # all follow-ups arrive first
    return log.appended.records


async def give_gifts(node: Node, post: Callable[..., Awaitable[Any]]) -> None:
    """A gift of two shares for Ada and Bob, and none for Cai; one code, which Ada gets, and signups with it."""
    gift: dict[str, Any] = {"user_id": "gift:diwali"}
    await post(CreateGift(command_id="c1", asset="INR", amount=101, claims=2, **gift))
    for user_id in (ADA, BOB, CAI):
        await post(ClaimGift(command_id="f1", user_id=user_id, code="diwali"))
        await post(ClaimReferralCode(command_id="f2", user_id=user_id, code="ADA"))
        await quiet(node)
    await post(CloseGift(command_id="c2", reason="r", **gift))
    await post(OpenWallet(command_id="c1", user_id="dan", referral_code="ADA"))
    await post(OpenWallet(command_id="c1", user_id="fay", referral_code="unknown"))


async def quiet(node: Node) -> None:
    """Wait until no follow-up is under way."""
    async with asyncio.timeout(60):
        for _ in range(3):
            await asyncio.sleep(0)
            while not all(writer.idle for writer in node.writers.values()):  # noqa: ASYNC110
                await asyncio.sleep(0.001)


WINGO = "wingo_30s"


async def play_a_game(post: Callable[..., Awaitable[Any]], clock: Clock) -> None:
    """Cai bets on two periods of Wingo: the first gets a result, the second is cancelled."""
    stream, periods = f"game:{WINGO}", ("20261123T150000Z", "20261123T150030Z")
    about: dict[str, Any] = {"user_id": CAI, "game": WINGO, "asset": "INR"}
    await post(OpenWallet(command_id="c1", user_id=CAI))
    await post(Deposit(command_id="e1", user_id=CAI, order_id="o1", asset="INR", amount=1_000, bonus=50))
    for period, at in zip(periods, "ab", strict=True):
        for bet_id, selection in ((f"g1{at}", "red+number:7"), (f"g2{at}", "small"), (f"g3{at}", "big")):
            more: dict[str, Any] = {"spend": "bonus_first"} if bet_id == "g1a" else {}
            fields: dict[str, Any] = {
                "bet_id": bet_id,
                "selection": selection,
                "period": period,
                "stake": 101,
                **more,
            }
            await post(PlaceBet(command_id=bet_id, **fields, **about))
        await post(CancelBet(command_id=f"{at}3", user_id=CAI, bet_id=f"g3{at}"))
        clock.now_us += 32_000_000
        if at == "a":
            await post(RecordResult(command_id="r1", user_id=stream, period=period, result="7"))
        else:
            await post(CancelPeriod(command_id="r2", user_id=stream, period=period, reason="void"))


async def earn_a_commission(post: Callable[..., Awaitable[Any]]) -> None:
    """Bob has referred Gus, who bets twice: Bob and Ada are paid."""
    about: dict[str, Any] = {"user_id": GUS}
    await post(OpenWallet(command_id="c1", referrer_id=BOB, **about))
    await post(Deposit(command_id="e1", order_id="o1", asset="INR", amount=1_000, **about))
    for bet_id in ("b1", "b2"):
        fields: dict[str, Any] = {"game": "external", "period": "p", "selection": "s", "asset": "INR", "stake": 499}
        await post(PlaceBet(command_id=f"{bet_id}-placed", bet_id=bet_id, **fields, **about))
        await post(SettleBet(command_id=f"{bet_id}-lost", bet_id=bet_id, payout=0, **about))


@pytest.fixture(scope="module")
def whole_day() -> list[list[bytes]]:
    return asyncio.run(a_day())


@pytest.fixture
def day(whole_day: list[list[bytes]]) -> list[list[bytes]]:
    return [list(records) for records in whole_day]


def parsed(record: bytes) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(record)
    return event


ADDED = {
    *("first_deposit", "from", "before_bet", "fee", "rules", "wagering", "day", "streak"),
    *("commission_at_us", "commission_rules", "referral_rules"),
}
"""What a decision adds to a command's members in ``data``."""


def as_record(event: dict[str, Any]) -> bytes:
    return json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode()


def with_request(event: dict[str, Any]) -> dict[str, Any]:
    """The event with the hash of the command that its data contains now."""
    if event["command_id"].startswith("~") or event["type"] not in COMMAND_OF:
        return event
    added = ADDED | {"amount", "grant_id", "expires_at_us"} if event["type"] == "attendance_claimed" else ADDED
    command = {name: value for name, value in event["data"].items() if name not in added}
    command |= {"type": COMMAND_OF[event["type"]], "command_id": event["command_id"], "user_id": event["user_id"]}
    text = json.dumps(command, separators=(",", ":"), ensure_ascii=False, sort_keys=True)
    return {**event, "request_sha256": sha256(text.encode()).hexdigest()}


def rechained(records: list[bytes]) -> list[bytes]:
    """The same records, with every seq and prev corrected."""
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
    event["data"] = dict(sorted(event["data"].items()))
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


def fault_of(
    day: list[list[bytes]], published: dict[int, Head] | None = None, anchors: Sequence[Anchor] = ()
) -> Fault:
    with pytest.raises(Fault) as caught:
        verify(Lists(day), published=published, anchors=anchors, tables=BUILT_IN_TABLES, money=MONEY_FORMS)
    return caught.value


def place_of(fault: Fault) -> tuple[int, int]:
    return fault.partition, fault.seq


B = partition_of(BOB, PARTITIONS)


# --- a correct log --------------------------------------------------------------------------------------------------


def test_the_day_has_an_event_of_each_type(day: list[list[bytes]]) -> None:
    found = {parsed(record)["type"] for records in day for record in records}
    assert found == DATA_OF.keys() - {"writer_opened"}


@pytest.mark.parametrize("page", [1, 3, 1_000])
def test_a_whole_day_is_correct(day: list[list[bytes]], page: int) -> None:
    seen: list[tuple[int, int]] = []
    verified = verify(Lists(day, page), progress=lambda done, total: seen.append((done, total)))
    assert verified.events == sum(map(len, day))
    assert verified.open_transfers == 0
    assert verified.in_transit == {}
    assert verified.heads[P] == Head(len(day[P]), sha256(day[P][-1]).hexdigest())
    assert verified.anchored == ()
    assert seen[-1] == (verified.events, verified.events)


def test_an_empty_log_is_correct() -> None:
    assert verify(Lists([[], []])).events == 0


def test_postings_may_have_another_order(day: list[list[bytes]]) -> None:
    forge(day, P, "bet_settled", lambda event: event["postings"].reverse())
    with pytest.raises(Fault) as caught:
        verify(Lists(day))
    assert "was rewritten" in str(caught.value), "only the follow-ups notice it, by the hash of their cause"


def test_a_transfer_that_is_under_way_is_counted_and_no_fault(day: list[list[bytes]]) -> None:
    del day[P][index_of(day[P], "transfer_sent") + 1 :]
    del day[B][index_of(day[B], "transfer_received") :]
    verified = verify(Lists(day))
    assert verified.open_transfers == 1
    assert verified.in_transit == {"INR": 40}


def test_a_returned_transfer_is_under_way_until_it_is_back(day: list[list[bytes]]) -> None:
    del day[P][index_of(day[P], "transfer_returned") :]
    verified = verify(Lists(day))
    assert (verified.open_transfers, verified.in_transit) == (1, {"INR": 41})


# --- one damaged record, and nothing else changed -------------------------------------------------------------------


@pytest.mark.parametrize("event_type", sorted(DATA_OF.keys() - {"writer_opened"}))
def test_a_changed_metadata_names_the_changed_record(day: list[list[bytes]], event_type: str) -> None:
    partition = next(p for p in range(PARTITIONS) if any(parsed(r)["type"] == event_type for r in day[p]))
    seq = damage(day, partition, event_type, lambda event: event["data"].update(metadata={"k": "v"}))
    assert place_of(fault_of(day)) == (partition, seq)


def test_private_texts_of_every_command_are_in_its_event_only_and_verify() -> None:
    day = asyncio.run(a_day(private="c2VhbGVk"))
    verify(Lists(day))
    for event in [parsed(record) for records in day for record in records]:
        assert event["data"].get("private") == (None if event["actor"] == "ledger" else "c2VhbGVk"), event
    seq = damage(day, P, "bet_settled", lambda event: event["data"].update(private="b3RoZXI="))
    assert place_of(fault_of(day)) == (P, seq)


def test_a_changed_time_names_the_changed_record_and_not_the_next_one(day: list[list[bytes]]) -> None:
    seq = damage(day, P, "deposited", lambda event: event.update(time_us=event["time_us"] + 0))
    assert verify(Lists(day)).events
    damage(day, P, "deposited", lambda event: event.update(actor="loca1"))
    fault = fault_of(day)
    assert place_of(fault) == (P, seq)
    assert "changed" in fault.reason


def test_a_changed_prev_names_the_record_that_has_it(day: list[list[bytes]]) -> None:
    seq = damage(day, P, "bet_settled", lambda event: event.update(prev="f" * 64))
    fault = fault_of(day)
    assert place_of(fault) == (P, seq)
    assert "changed" in fault.reason


def test_a_changed_seq_names_the_record_that_has_it(day: list[list[bytes]]) -> None:
    seq = damage(day, P, "bet_settled", lambda event: event.update(seq=400))
    fault = fault_of(day)
    assert place_of(fault) == (P, seq)
    assert "says that it is" in fault.reason


def test_a_changed_payout_without_its_postings_is_named(day: list[list[bytes]]) -> None:
    seq = damage(day, P, "bet_settled", lambda event: event["data"].update(payout=901))
    assert place_of(fault_of(day)) == (P, seq)


def test_a_record_changed_consistently_in_itself_is_named(day: list[list[bytes]]) -> None:
    def more(event: dict[str, Any]) -> None:
        event["data"]["amount"] += 1
        event["postings"][0][2] -= 1
        event["postings"][1][2] += 1
        event["balances"]["INR"]["cash"] += 1
        event |= with_request(event)

    seq = damage(day, P, "deposited", more)
    fault = fault_of(day)
    assert place_of(fault) == (P, seq)
    assert "its hash is not the prev of the record after it" in fault.reason


def test_a_lost_record_is_named(day: list[list[bytes]]) -> None:
    del day[P][2]
    fault = fault_of(day)
    assert place_of(fault) == (P, 3)
    assert "missing" in fault.reason


def test_several_lost_records_are_counted(day: list[list[bytes]]) -> None:
    del day[P][2:6]
    fault = fault_of(day)
    assert place_of(fault) == (P, 3)
    assert "4 records are missing" in fault.reason


def test_a_lost_first_record_is_named(day: list[list[bytes]]) -> None:
    del day[P][0]
    assert place_of(fault_of(day)) == (P, 1)


def test_an_inserted_record_is_named(day: list[list[bytes]]) -> None:
    day[P].insert(2, day[P][1])
    fault = fault_of(day)
    assert place_of(fault) == (P, 3)
    assert "inserted" in fault.reason


def test_a_record_inserted_with_the_right_prev_is_named(day: list[list[bytes]]) -> None:
    stranger = as_record(
        with_request(
            {
                **parsed(day[P][2]),
                "command_id": "x",
                "type": "wallet_frozen",
                "data": {"reason": "r"},
                "postings": [],
                "balances": {},
            }
        )
    )
    day[P].insert(2, stranger)
    fault = fault_of(day)
    assert place_of(fault) == (P, 3)
    assert "inserted" in fault.reason


def test_swapped_records_are_named(day: list[list[bytes]]) -> None:
    day[P][2], day[P][3] = day[P][3], day[P][2]
    fault = fault_of(day)
    assert place_of(fault) == (P, 3)
    assert "swapped" in fault.reason


def test_a_record_that_is_no_json_is_named(day: list[list[bytes]]) -> None:
    day[P][1] = day[P][1][:-1]
    fault = fault_of(day)
    assert place_of(fault) == (P, 2)
    assert "cannot be read" in fault.reason


@pytest.mark.parametrize(
    "record", [b"", b"null", b"[]", b'{"type":"deposited"}', b"\xff", b'{"v":1,"type":"unheard_of"}', b"[" * 100_000]
)
def test_bytes_that_are_no_record_are_named(day: list[list[bytes]], record: bytes) -> None:
    day[P][3] = record
    assert place_of(fault_of(day)) == (P, 4)


def test_a_wallet_in_a_partition_that_is_not_its_own_is_a_fault() -> None:
    user_id = next(user_id for user_id in ("u1", "u2", "u3", "u4") if partition_of(user_id, 2) == 0)
    opened = {
        "v": 1,
        "partition": 1,
        "seq": 1,
        "prev": EMPTY_SHA256,
        "time_us": NOON,
        "user_id": user_id,
        "command_id": "c",
        "request_sha256": "0" * 64,
        "actor": "local",
        "type": "wallet_opened",
        "data": {},
        "postings": [],
        "balances": {},
    }
    assert "belongs to another partition" in fault_of([[], [as_record(opened)]]).reason


# --- what a log cannot show by itself, and anchors do ---------------------------------------------------------------


def test_a_log_without_its_last_records_is_correct_by_itself(day: list[list[bytes]]) -> None:
    del day[P][-1]
    assert verify(Lists(day)).anchored == ()


def test_a_changed_last_record_is_found_by_a_published_head(day: list[list[bytes]]) -> None:
    published = {P: Head(len(day[P]), sha256(day[P][-1]).hexdigest())}
    assert verify(Lists(day), published=published).events
    last = parsed(day[P][-1])
    day[P][-1] = as_record(with_request({**last, "time_us": last["time_us"] + 1}))
    assert verify(Lists(day)).events, "the log alone does not show it"
    fault = fault_of(day, published)
    assert place_of(fault) == (P, len(day[P]))
    assert "rewritten" in fault.reason


def test_a_log_that_got_shorter_is_found_by_a_published_head(day: list[list[bytes]]) -> None:
    published = {P: Head(len(day[P]), sha256(day[P][-1]).hexdigest())}
    ends_at = len(day[P]) - 2
    del day[P][-2:]
    fault = fault_of(day, published)
    assert place_of(fault) == (P, ends_at + 1)
    assert f"ends at seq {ends_at}" in fault.reason


def test_a_published_head_of_a_missing_partition_is_a_fault(day: list[list[bytes]]) -> None:
    assert fault_of(day, {9: Head(1, EMPTY_SHA256)}).partition == 9


def test_the_anchors_around_rewritten_records_narrow_them_down(day: list[list[bytes]]) -> None:
    anchors = [Anchor(P, seq, sha256(day[P][seq - 1]).hexdigest(), f"seal {seq}") for seq in (3, 9)]
    seq = forge(day, P, "bet_settled", lambda event: event["postings"].reverse())
    assert 3 < seq < 9
    fault = fault_of(day, anchors=anchors)
    assert place_of(fault) == (P, 9)
    assert "from seq 4 on" in fault.reason
    assert "seal 9" in fault.reason


def test_verify_returns_the_last_anchor_of_each_partition(day: list[list[bytes]]) -> None:
    anchors = [Anchor(P, seq, sha256(day[P][seq - 1]).hexdigest(), f"seal {seq}") for seq in (9, 3)]
    assert verify(Lists(day), anchors=anchors).anchored == (anchors[0],)


def test_two_anchors_that_contradict_each_other_are_a_fault(day: list[list[bytes]]) -> None:
    head = sha256(day[P][2]).hexdigest()
    fault = fault_of(day, anchors=[Anchor(P, 3, head, "seal 1"), Anchor(P, 3, "0" * 64, "seal 2")])
    assert place_of(fault) == (P, 3)
    assert "different hashes" in fault.reason


# --- a forged record behind which the chain is right ----------------------------------------------------------------


Case = tuple[str, str, Change, str]


def setting(*path: Any, to: Any) -> Change:
    """A change of one member, found by its names and indexes."""

    def change(event: dict[str, Any]) -> None:
        at: Any = event
        for step in path[:-1]:
            at = at[step]
        at[path[-1]] = to

    return change


def both(*changes: Change) -> Change:
    def change(event: dict[str, Any]) -> None:
        for one in changes:
            one(event)

    return change


def cash(delta: int) -> Change:
    def change(event: dict[str, Any]) -> None:
        event["balances"]["INR"]["cash"] += delta

    return change


FORGED: list[Case] = [
    ("another partition", "deposited", setting("partition", to=(P + 1) % PARTITIONS), "says it is"),
    ("another version", "deposited", setting("v", to=2), "version"),
    ("time that goes back", "deposited", setting("time_us", to=1), "time"),
    ("money from nothing", "deposited", both(setting("postings", 1, 2, to=10_001), cash(1)), "not to zero"),
    ("a false balance", "bet_settled", setting("balances", "INR", "cash", to=1_000_000), "1000000"),
    ("no balances", "bet_settled", setting("balances", to={}), "not of the assets"),
    (
        "balances of another asset",
        "bet_settled",
        setting("balances", "USDT", to={"cash": 0, "bonus": 0, "held": 0}),
        "not of the assets",
    ),
    (
        "balances of nothing",
        "wallet_frozen",
        setting("balances", "INR", to={"cash": 1, "bonus": 0, "held": 0}),
        "not of the assets",
    ),
    ("another wallet", "deposited", setting("postings", 1, 0, to=f"wallet/{BOB}/cash"), "another wallet"),
    ("an account that is not there", "deposited", setting("postings", 1, 0, to=f"wallet/{ADA}/vault"), "no account"),
    ("another house account", "deposited", setting("postings", 0, 0, to="house/bonuses"), "its type and data give"),
    ("money to transit", "deposited", setting("postings", 0, 0, to="transit/transfers"), "its type and data give"),
    (
        "postings where none belong",
        "wallet_frozen",
        setting("postings", to=[["house/a", "INR", 1], ["house/b", "INR", -1]]),
        "its type and data give none",
    ),
    ("a payout that is not posted", "bet_settled", setting("data", "payout", to=901), "its type and data give"),
    (
        "a stake that is not posted",
        "bet_placed",
        both(setting("data", "stake", to=701), setting("data", "from", "cash", to=701)),
        "its type and data give",
    ),
    ("a stake that its parts do not give", "bet_placed", setting("data", "stake", to=701), "its stake is 701"),
    ("a bet that was never placed", "bet_settled", setting("data", "bet_id", to="b7"), "no open bet"),
    ("a cancelled bet that was never placed", "bet_cancelled", setting("data", "bet_id", to="b7"), "no open bet"),
    (
        "a withdrawal that was never requested",
        "withdrawal_approved",
        setting("data", "order_id", to="w7"),
        "no open withdrawal",
    ),
    (
        "a rejection of what was approved",
        "withdrawal_rejected",
        setting("data", "order_id", to="w1"),
        "no open withdrawal",
    ),
    ("a hold that was never placed", "hold_captured", setting("data", "hold_id", to="h7"), "no open hold"),
    (
        "a captured amount that is not posted",
        "hold_captured",
        setting("data", "amount", to=61),
        "its type and data give",
    ),
    ("more captured than held", "hold_captured", setting("data", "amount", to=101), "it captures 101"),
    ("a hold that expires with another amount", "hold_expired", setting("data", "amount", to=81), "is of 80"),
    ("a hold that expires too early", "hold_expired", setting("time_us", to=NOON + 1), "after this event"),
    ("a hold that expires for another cause", "hold_expired", setting("data", "cause", to=f"{P}:1"), "as its cause"),
    ("a grant that expires with another amount", "bonus_expired", setting("data", "amount", to=1), "takes 1 INR"),
    (
        "a grant that expires for another cause",
        "bonus_expired",
        setting("data", "cause", to=f"{P}:1"),
        "as its cause",
    ),
    (
        "an adjustment that was never proposed",
        "adjustment_approved",
        setting("data", "adjustment_id", to="a7"),
        "no open proposed",
    ),
    ("an adjustment approved by its proposer", "adjustment_approved", setting("actor", to="local"), "approves it"),
    (
        "an adjustment of another amount",
        "adjustment_proposed",
        setting("data", "amount", to=-131),
        "its type and data give",
    ),
    (
        "a rejection of no proposal",
        "adjustment_rejected",
        setting("data", "adjustment_id", to="a7"),
        "no open proposed",
    ),
    ("a reversal of another event", "reversed", setting("data", "position", to=f"{P}:1"), "is not a deposit"),
    ("a reversal of a later event", "reversed", setting("data", "position", to=f"{P}:9999"), "is not a deposit"),
    ("a reversal of another partition", "reversed", setting("data", "position", to=f"{B}:1"), "is not a deposit"),
    ("an amount beyond its range", "deposited", setting("data", "amount", to=2**53), "out of the range"),
    ("an id used twice", "bet_settled", setting("command_id", to="c2"), "is used twice"),
    ("an order used twice", "withdrawal_requested", setting("data", "order_id", to="o1"), "no open withdrawal"),
    ("an id of the ledger's own", "deposited", setting("command_id", to="~mine"), "begin with ~"),
    ("an id that no client may use", "deposited", setting("command_id", to="a b"), "is not the id of a command"),
    ("an event of the ledger's own by a client", "bonus_expired", setting("actor", to="local"), "begin with ~"),
    (
        "an event of the ledger's own with a client's id",
        "bonus_expired",
        both(setting("actor", to="local"), setting("command_id", to="x")),
        "is not the id of a command",
    ),
    ("an expiry under another seq", "bonus_expired", setting("command_id", to="~expiry:1"), "command_id is not"),
    ("a client that is the ledger", "deposited", setting("actor", to="ledger"), "begin with ~"),
    ("an actor without a name", "deposited", setting("actor", to=""), "name of an actor"),
    ("a wallet of another partition", "wallet_opened", setting("user_id", to=BOB), "another partition"),
    ("a wallet with a bad name", "wallet_opened", setting("user_id", to="a b"), "not the name of a wallet"),
    ("a request hash of the ledger's own", "bonus_expired", setting("request_sha256", to="1" * 64), "64 zeros"),
    ("a follow-up of another id", "transfer_delivered", setting("command_id", to="~x"), "does not name the hash"),
    ("a follow-up of another cause", "transfer_delivered", setting("data", "cause", to=f"{B}:1"), "as its cause"),
    ("a follow-up with another amount", "transfer_delivered", setting("data", "amount", to=41), "another amount"),
    (
        "a follow-up to another wallet",
        "transfer_delivered",
        setting("data", "to_user_id", to="eve"),
        "its cause, sent",
    ),
    (
        "a return for another reason",
        "transfer_returned",
        setting("data", "reason", to="wallet_closed"),
        "another amount",
    ),
]


@pytest.mark.parametrize(
    ("event_type", "change", "reason"), [case[1:] for case in FORGED], ids=[case[0] for case in FORGED]
)
def test_a_forged_record_is_named(day: list[list[bytes]], event_type: str, change: Change, reason: str) -> None:
    seq = forge(day, P, event_type, change)
    fault = fault_of(day)
    assert reason in fault.reason
    if event_type not in LATER:
        assert place_of(fault) == (P, seq)


LATER = {"adjustment_proposed", "withdrawal_requested"}
"""The forged part shows only when the item is resolved; until then the record is correct."""


def test_a_request_hash_that_is_not_the_commands_is_a_fault(day: list[list[bytes]]) -> None:
    seq = forge(day, P, "bet_placed", lambda event: event["data"].update(selection="other"), request=False)
    fault = fault_of(day)
    assert place_of(fault) == (P, seq)
    assert "request_sha256" in fault.reason


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"payout":900', b'"payout": 900'),
        (b'"payout":900', b'"payout":900.0'),
        (b'"payout":900', b'"payout":9e2'),
        (b'"payout":900}', b'"payout":900,"metadata":null}'),
        (b'{"bet_id":"b1","payout":900}', b'{"payout":900,"bet_id":"b1"}'),
        (b'"bet_id":"b1"', b'"bet_id":"\\u00621"'),
        (b'"payout":900}', b'"payout":900,"payout":900}'),
        (b'"payout":900}', b'"payout":900,"tip":1}'),
        (b'{"v":1,', b'{"tip":1,"v":1,'),
        (b'"cash":', b'"gold":0,"cash":'),
    ],
)
def test_bytes_that_are_not_canonical_are_a_fault(day: list[list[bytes]], old: bytes, new: bytes) -> None:
    index = index_of(day[P], "bet_settled")
    record = day[P][index]
    assert old in record
    del day[P][index + 1 :]  # no record after it: only the bytes can show the fault
    del day[B][index_of(day[B], "transfer_received") :]
    assert verify(Lists(day)).events
    day[P][index] = record.replace(old, new, 1)
    assert place_of(fault_of(day)) == (P, index + 1)


def test_money_taken_from_an_earlier_event_is_found_at_the_next_balance(day: list[list[bytes]]) -> None:
    def less(event: dict[str, Any]) -> None:
        event["data"]["amount"] = 9_000
        event["postings"][0][2], event["postings"][1][2] = -9_000, 9_000
        event["balances"]["INR"]["cash"] = 9_000

    seq = forge(day, P, "deposited", less)
    fault = fault_of(day)
    assert fault.seq == seq + 1
    assert "or an earlier one of the wallet" in fault.reason


def test_a_bucket_below_zero_is_a_fault(day: list[list[bytes]]) -> None:
    def overdraw(event: dict[str, Any]) -> None:
        event["postings"] = [[f"wallet/{ADA}/held", "INR", -5], ["house/captures", "INR", 5]]
        event["balances"] = {"INR": {"cash": 10_000, "bonus": 0, "held": -5}}

    seq = forge(day, P, "bonus_granted", overdraw)
    fault = fault_of(day)
    assert fault.seq == seq
    assert "below zero" in fault.reason


def test_cash_below_zero_without_credit_is_a_fault(day: list[list[bytes]]) -> None:
    """The last bet needs credit: without the limit it takes what is not there."""
    forge(day, P, "limits_set", lambda event: event["data"].update(credit_limit=0))
    fault = fault_of(day)
    assert parsed(day[P][fault.seq - 1])["data"].get("bet_id") == "b4"
    assert "more INR than the wallet has" in fault.reason


def test_a_bonus_that_no_grant_has_is_a_fault(day: list[list[bytes]]) -> None:
    index = next(at for at, record in enumerate(day[P]) if parsed(record)["data"].get("bet_id") == "b2")
    event = parsed(day[P][index])
    event["data"]["from"]["grants"] = [["g9", 300]]
    day[P][index] = as_record(event)
    day[P] = rechained(day[P])
    fault = fault_of(day)
    assert place_of(fault) == (P, index + 1)
    assert "grant g9" in fault.reason


def test_a_wallet_that_was_never_opened_is_a_fault(day: list[list[bytes]]) -> None:
    del day[P][0]
    day[P] = rechained(day[P])
    fault = fault_of(day)
    assert place_of(fault) == (P, 1)


def test_a_wallet_that_is_opened_twice_is_a_fault(day: list[list[bytes]]) -> None:
    opened = next(parsed(record) for record in day[P] if parsed(record)["type"] == "wallet_opened")
    day[P].append(as_record(with_request({**opened, "command_id": "again", "time_us": NOON + 9 * HOUR_US})))
    day[P] = rechained(day[P])
    fault = fault_of(day)
    assert place_of(fault) == (P, len(day[P]))
    assert "is used twice" in fault.reason


def test_a_bet_that_is_placed_twice_is_a_fault_though_the_first_is_settled(day: list[list[bytes]]) -> None:
    index = next(at for at, record in enumerate(day[P]) if parsed(record)["data"].get("bet_id") == "b4")
    event = parsed(day[P][index])
    event["data"]["bet_id"] = "b1"
    day[P][index] = as_record(with_request(event))
    day[P] = rechained(day[P])
    fault = fault_of(day)
    assert place_of(fault) == (P, index + 1)
    assert "the bet_id b1" in fault.reason


def test_ids_are_compared_in_a_file_where_they_are_many(
    day: list[list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(UniqueIds.__init__, "__defaults__", (10,))
    assert verify(Lists(day)).events
    seq = forge(day, P, "bet_settled", lambda event: event.update(command_id="c2"))
    assert place_of(fault_of(day)) == (P, seq)


def test_equal_hashes_of_different_ids_are_no_fault(day: list[list[bytes]]) -> None:
    events = [read(record) for records in day for record in records]
    every = {hash((event.user_id, event.command_id)) for event in events}
    assert second_use(events, every) is None
    assert second_use([*events, events[3]], every) is not None


def test_a_record_stored_under_another_seq_is_a_fault(day: list[list[bytes]]) -> None:
    class Renumbered(Lists):
        def read(self, partition: int, to_seq: int, from_seq: int = 1) -> Iterator[Sequence[StoredRecord]]:
            for page in super().read(partition, to_seq, from_seq):
                yield [StoredRecord(stored.record, 7) for stored in page]

    with pytest.raises(Fault, match="missing"):
        verify(Renumbered(day))


def test_a_transfer_that_was_never_sent_is_a_fault(day: list[list[bytes]]) -> None:
    forge(day, P, "transfer_sent", lambda event: event["data"].update(transfer_id="t9"))
    fault = fault_of(day)
    assert "t1" in fault.reason
    assert fault.partition == B
    assert parsed(day[B][fault.seq - 1])["type"] == "transfer_received"


def test_a_transfer_received_with_another_amount_is_a_fault(day: list[list[bytes]]) -> None:
    def more(event: dict[str, Any]) -> None:
        event["data"]["amount"] = 41
        event["postings"][0][2], event["postings"][1][2] = -41, 41
        event["balances"]["INR"]["cash"] = 41

    seq = forge(day, B, "transfer_received", more)
    fault = fault_of(day)
    assert place_of(fault) == (B, seq)
    assert "another amount" in fault.reason


def test_a_follow_up_that_is_dated_before_its_cause_is_a_fault(day: list[list[bytes]]) -> None:
    def earlier(event: dict[str, Any]) -> None:
        event["time_us"] -= 1

    for records in (day[B],):
        for index in range(index_of(records, "transfer_received")):
            records[index] = as_record({**parsed(records[index]), "time_us": NOON - 1})
    del day[P][index_of(day[P], "transfer_delivered") :]
    day[P] = [record for record in day[P] if parsed(record)["type"] != "referral_counted"]
    day[P] = rechained(day[P])
    sent = day[P][index_of(day[P], "transfer_sent")]
    index = index_of(day[B], "transfer_received")
    event = parsed(day[B][index])
    event |= {"command_id": f"~{sha256(sent).hexdigest()}:0", "time_us": NOON - 1}
    event["data"]["cause"] = f"{P}:{index_of(day[P], 'transfer_sent') + 1}"
    day[B][index] = as_record(event)
    day[B] = rechained(day[B][: index + 1])
    fault = fault_of(day)
    assert place_of(fault) == (B, index + 1)
    assert "before that of" in fault.reason


def test_a_follow_up_whose_cause_is_behind_the_examined_end_is_no_fault(day: list[list[bytes]]) -> None:
    class Growing(Lists):
        """Its ends are read while the log grows: that of one partition is older than the other's."""

        def ends(self) -> Sequence[int]:
            ends = list(super().ends())
            ends[P] = index_of(self.partitions[P], "transfer_sent")
            return ends

    assert verify(Growing(day)).events


def test_the_writers_generations_never_go_back() -> None:
    def opened(seq: int, prev: str, generation: int) -> bytes:
        return as_record(
            {
                "v": 1,
                "partition": 0,
                "seq": seq,
                "prev": prev,
                "time_us": NOON,
                "user_id": "partition:0",
                "command_id": f"~open:{seq}",
                "request_sha256": "0" * 64,
                "actor": "ledger",
                "type": "writer_opened",
                "data": {"generation": generation},
                "postings": [],
                "balances": {},
            }
        )

    first = opened(1, EMPTY_SHA256, 5)
    head = sha256(first).hexdigest()
    assert verify(Lists([[first, opened(2, head, 5)]])).events == 2
    assert "generation" in fault_of([[first, opened(2, head, 4)]]).reason
