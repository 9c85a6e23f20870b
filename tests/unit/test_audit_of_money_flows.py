"""The auditor and money flows: what led to the bonuses of the ledger's own, their ids, the days of attendance, and
the amounts, expiry and wagering by the rules that the log keeps."""

import asyncio
import json
import sqlite3
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from api.cli.main import stakelog
from ledger.core.commands import (
    ClaimAttendance,
    ClaimGift,
    Command,
    CreateGift,
    Deposit,
    GrantBonus,
    OpenWallet,
    PlaceBet,
    Reverse,
    canonical,
)
from ledger.core.commissions import levels_of, rate_of, terms_of
from ledger.core.consequences import expiry_of, reached
from ledger.core.games.rules import BUILT_IN, book_of, read_rules
from ledger.core.money import AMOUNT_MAX
from ledger.core.money_rules import Commission, Money, MoneyRules, digest_of
from ledger.core.money_rules import canonical as money_form
from ledger.core.wallet import DAY_US, Wallet
from ledger.memory.log import MemoryEventLog
from ledger.memory.state_store import MemoryStateStore
from ledger.node.owns_all import node_of_whole_log
from ledger.operations.audit import Fault, verify
from ledger.operations.verifying.money_rules import MoneyRules as AuditedRules
from ledger.operations.verifying.money_rules import WrongRules
from ledger.operations.verifying.postings import HANDLERS, Book
from ledger.operations.verifying.records import Record
from ledger.operations.verifying.shapes import TransferDelivered, TransferReceived, TransferSent
from ledger.sqlite.folder import EVENTS
from unit.folders import write_log
from unit.test_audit import (
    ADA,
    BOB,
    Change,
    Clock,
    Lists,
    as_record,
    both,
    parsed,
    quiet,
    rechained,
    setting,
    with_request,
)

FILE = json.dumps(
    {
        "money": {
            "INR": {
                "registration": 25,
                "first_deposit": [[50, 10], [100, 20], [1_000, 200]],
                "attendance": [7, 8],
                "bonus_expires_after_s": 604_800,
                "wagering": {"deposit": 3, "bonus": 2},
                "valid_referral": 300,
                "invitation": [[1, 55], [3, 155]],
            }
        }
    }
)
MONEY = read_rules(FILE, {"INR": 2}).money
FORMS = {digest_of(MONEY): money_form(MONEY)}


async def records_of(commands: Sequence[Command | int], money: Money = MONEY) -> list[bytes]:
    """The records of these commands, in one partition. A number sets the clock forward by so many days."""
    log, clock = MemoryEventLog(1), Clock()
    book = book_of(BUILT_IN.games, money=money)
    node = node_of_whole_log(log, MemoryStateStore(), clock, {"INR": 2}, rules=book)
    await node.start()
    for command in commands:
        if isinstance(command, int):
            clock.now_us += command * DAY_US
        else:
            await node.post(command, sha256(canonical(command)).hexdigest(), "local")
            await quiet(node)
    await node.stop()
    return log.appended.records[0]


async def a_week_of_money_flows() -> list[bytes]:
    a: dict[str, Any] = {"user_id": ADA}
    b: dict[str, Any] = {"user_id": BOB}
    return await records_of(
        [
            OpenWallet(command_id="c1", **a),
            Deposit(command_id="c2", order_id="o1", amount=100, asset="INR", **a),
            Deposit(command_id="c3", order_id="o2", amount=100, asset="INR", **a),
            ClaimAttendance(command_id="c4", asset="INR", **a),
            GrantBonus(command_id="c5", grant_id="g1", asset="INR", amount=3, **a),
            CreateGift(command_id="c1", user_id="gift:diwali", asset="INR", amount=9, claims=1),
            ClaimGift(command_id="c6", code="diwali", **a),
            OpenWallet(command_id="c1", referrer_id=ADA, **b),
            Deposit(command_id="c2", order_id="o1", amount=200, bonus=4, asset="INR", **b),
            Reverse(command_id="c3", position="0:15", reason="r", **b),
            Deposit(command_id="c4", order_id="o2", amount=300, asset="INR", **b),
            1,
            ClaimAttendance(command_id="c7", asset="INR", **a),
            1,
            ClaimAttendance(command_id="c8", asset="INR", **a),
        ]
    )


@pytest.fixture(scope="module")
def whole_week() -> list[bytes]:
    return asyncio.run(a_week_of_money_flows())


@pytest.fixture
def week(whole_week: list[bytes]) -> list[bytes]:
    return list(whole_week)


def fault_in(records: list[bytes], forms: dict[str, bytes] = FORMS) -> Fault:
    with pytest.raises(Fault) as caught:
        verify(Lists([records]), money=forms)
    return caught.value


def forged(records: list[bytes], seq: int, change: Change) -> list[bytes]:
    """The event changed, with the hash of its command and all hashes after it."""
    event = parsed(records[seq - 1])
    change(event)
    event["data"] = dict(sorted(event["data"].items()))
    return rechained([*records[: seq - 1], as_record(with_request(event)), *records[seq:]])


def data(**members: Any) -> Change:
    return lambda event: event["data"].update(members)


def more(by: int) -> Change:
    """A bonus, with its postings, balance and wagering, that is ``by`` units more."""

    def change(event: dict[str, Any]) -> None:
        event["data"]["amount"] += by
        if "wagering" in event["data"]:
            event["data"]["wagering"] += 2 * by
        event["postings"][0][2] -= by
        event["postings"][1][2] += by
        event["balances"]["INR"]["bonus"] += by

    return change


def test_the_week_is_correct_and_has_every_flow(week: list[bytes]) -> None:
    verified = verify(Lists([week]), money=FORMS)
    assert (verified.events, verified.missing_rules) == (len(week), ())
    bonuses = [parsed(record)["data"] for record in week if parsed(record)["type"] == "bonus_granted"]
    amounts = {(bonus["grant_id"], bonus["amount"]) for bonus in bonuses}
    assert amounts >= {("~registration:1", 25), ("~first_deposit:1", 20), ("g1", 3), ("~invitation:1", 55)}
    streaks = [parsed(record)["data"]["streak"] for record in week if parsed(record)["type"] == "attendance_claimed"]
    assert streaks == [1, 2, 1]


@pytest.mark.parametrize(
    ("seq", "change", "says"),
    [
        (2, {"cause": "0:3"}, "does not follow directly"),
        (2, {"kind": "first_deposit"}, "does not follow directly"),
        (2, {"kind": "gratitude"}, "known kind"),
        (2, {"grant_id": "~registration:2"}, "not ~registration:1"),
        (4, {"cause": "0:1"}, "does not follow directly"),
        (4, {"wagering": 0}, "adds 0 to the wagering"),
        (3, {"first_deposit": False}, "it is the first deposit"),
        (5, {"first_deposit": True}, "it is not the first deposit"),
        (6, {"day": "2026-11-24"}, "not the UTC day"),
        (6, {"streak": 2}, "streak is 2, after a streak of 0"),
        (6, {"grant_id": "~attendance:2"}, "not ~attendance:1"),
    ],
)
def test_a_bonus_of_the_ledgers_own_that_nothing_led_to_is_a_fault(
    week: list[bytes], seq: int, change: dict[str, Any], says: str
) -> None:
    fault = fault_in(forged(week, seq, data(**change)))
    assert (fault.seq, says in fault.reason) == (seq, True), fault


@pytest.mark.parametrize(("seq", "kind"), [(2, "registration"), (4, "first_deposit")])
def test_a_cause_that_leads_to_the_same_bonus_twice_is_a_fault(week: list[bytes], seq: int, kind: str) -> None:
    records = week[:seq]
    again = parsed(records[-1])
    again["command_id"] = f"~own:{seq + 1}"
    again["data"]["grant_id"] = f"~{kind}:2"
    again["balances"]["INR"]["bonus"] += again["data"]["amount"]
    verify(Lists([rechained(records)]))
    fault = fault_in(rechained([*records, as_record(again)]))
    assert (fault.seq, "the wallet has it already" in fault.reason) == (seq + 1, True), fault


def test_a_bonus_in_another_asset_than_its_deposit_is_a_fault(week: list[bytes]) -> None:
    records = week[:4]
    bonus = parsed(records[-1])
    amount = bonus["data"]["amount"]
    bonus["data"]["asset"] = "GOLD"
    bonus["postings"] = [[account, "GOLD", moved] for account, _, moved in bonus["postings"]]
    bonus["balances"] = {"GOLD": {"cash": 0, "bonus": amount, "held": 0}}
    fault = fault_in(rechained([*records[:-1], as_record(bonus)]))
    assert (fault.seq, "leads to no such bonus of GOLD" in fault.reason) == (4, True), fault


def test_a_deposit_with_a_bonus_of_its_own_leads_to_no_bonus(week: list[bytes]) -> None:
    def of_its_own(event: dict[str, Any]) -> None:
        event["data"]["bonus"] = 0

    fault = fault_in(forged(week[:4], 3, of_its_own))
    assert (fault.seq, "does not follow directly the deposited" in fault.reason) == (4, True), fault


# --- what the rules give --------------------------------------------------------------------------------------------


def seq_of(records: list[bytes], event_type: str, /, **members: Any) -> int:
    """The first event of this type with these members of data."""
    for seq, record in enumerate(records, 1):
        event = parsed(record)
        if event["type"] == event_type and members.items() <= event["data"].items():
            return seq
    raise AssertionError(f"no {event_type} with {members}")


EXPIRY = 1_795_438_800_000_000 + 604_800_000_000
BY_RULES: dict[str, tuple[str, dict[str, Any], Change, str]] = {
    "a registration bonus that is one more": (
        "bonus_granted",
        {"kind": "registration"},
        more(1),
        "its amount is 26, the registration bonus by its rules is 25",
    ),
    "a registration bonus that is one less": ("bonus_granted", {"kind": "registration"}, more(-1), "is 25"),
    "a first deposit's bonus of another step": ("bonus_granted", {"kind": "first_deposit"}, more(180), "is 20"),
    "an invitation bonus of another step": ("bonus_granted", {"kind": "invitation"}, more(100), "is 55"),
    "an attendance bonus that is one more": (
        "attendance_claimed",
        {"streak": 1},
        more(1),
        "its amount is 8, the bonus of day 1 by its rules is 7",
    ),
    "an attendance bonus of another day": (
        "attendance_claimed",
        {"streak": 2},
        more(-1),
        "of day 2 by its rules is 8",
    ),
    "a streak that begins again too early": (
        "attendance_claimed",
        {"streak": 2},
        both(data(streak=1), more(-1)),
        "its streak is 1, by its rules of 2 days it is 2",
    ),
    "wagering of a deposit": (
        "deposited",
        {"amount": 100},
        data(wagering=99),
        "adds 99 to the wagering, by its rules 300",
    ),
    "wagering of a deposit and its bonus": ("deposited", {"bonus": 4}, data(wagering=200), "by its rules 608"),
    "no wagering, though the rules are named": (
        "deposited",
        {"amount": 100},
        setting("data", "wagering", to=1),
        "adds 1",
    ),
    "wagering of a registration bonus": ("bonus_granted", {"kind": "registration"}, data(wagering=51), "rules 50"),
    "wagering of a granted bonus": ("bonus_granted", {"grant_id": "g1"}, data(wagering=3), "by its rules 6"),
    "wagering of attendance": ("attendance_claimed", {"streak": 1}, data(wagering=15), "by its rules 14"),
    "wagering of a gift": ("gift_received", {}, data(wagering=17), "by its rules 18"),
    "a bonus that expires later": (
        "bonus_granted",
        {"kind": "registration"},
        data(expires_at_us=EXPIRY + 1),
        f"it expires at {EXPIRY + 1}, by its rules at {EXPIRY}",
    ),
    "attendance that expires later": ("attendance_claimed", {}, data(expires_at_us=EXPIRY + 1), f"at {EXPIRY}"),
    "a gift that expires later": ("gift_received", {}, data(expires_at_us=EXPIRY + 1), f"at {EXPIRY}"),
    "a bonus that never expires": (
        "bonus_granted",
        {"kind": "registration"},
        lambda event: event["data"].pop("expires_at_us"),
        "it expires never, by its rules at",
    ),
    "a valid referral before the sum is reached": (
        "deposited",
        {"bonus": 4},
        data(referral_rules=digest_of(MONEY)),
        "deposits of 200 make no valid referral",
    ),
}


@pytest.mark.parametrize("name", BY_RULES)
def test_an_amount_that_the_rules_do_not_give_is_a_fault(week: list[bytes], name: str) -> None:
    """The postings, balances and hashes are those of the forged amount. Without the rules the log is correct."""
    kind, members, change, says = BY_RULES[name]
    seq = seq_of(week, kind, **members)
    records = forged(week, seq, change)[:seq]
    fault = fault_in(records)
    assert (fault.seq, says in fault.reason) == (seq, True), fault
    verified = verify(Lists([records]))
    assert verified.missing_rules == tuple(FORMS)


def test_a_reversed_deposit_does_not_count_for_a_valid_referral(week: list[bytes]) -> None:
    """Bob deposits 200, which is reversed, and then 300. With 100 instead of 300 the sum would be reached only with
    the reversed deposit."""

    def less(event: dict[str, Any]) -> None:
        event["data"].update(amount=100, wagering=100)
        event["postings"][0][2], event["postings"][1][2] = -100, 100
        event["balances"]["INR"]["cash"] -= 200

    seq = seq_of(week, "deposited", amount=300)
    fault = fault_in(forged(week, seq, less)[:seq])
    assert (fault.seq, "deposits of 100 make no valid referral" in fault.reason) == (seq, True), fault


# --- a wallet without room ------------------------------------------------------------------------------------------


def almost_full() -> list[bytes]:
    """25 of bonus, 10 of it in an open bet; then a deposit that leaves room for 5 of the first deposit's 20."""
    a: dict[str, Any] = {"user_id": ADA}
    about: dict[str, Any] = {"game": "external", "period": "p", "selection": "s", "asset": "INR"}
    return asyncio.run(
        records_of(
            [
                OpenWallet(command_id="c1", **a),
                PlaceBet(command_id="c2", bet_id="b1", stake=10, **about, **a),
                Deposit(command_id="c3", order_id="o1", amount=AMOUNT_MAX - 30, asset="INR", **a),
            ]
        )
    )


def test_a_bonus_is_less_where_the_wallet_has_no_room_for_more() -> None:
    records = almost_full()
    assert parsed(records[-1])["data"]["amount"] == 5
    verify(Lists([records]), money=FORMS)
    fault = fault_in(forged(records, len(records), more(-1)))
    assert (fault.seq, "its amount is 4, the first_deposit bonus by its rules is 20" in fault.reason) == (5, True)


def test_wagering_is_less_where_no_more_can_be_required() -> None:
    """50 are required for the registration, so a deposit can add at most the largest amount less 50."""
    a: dict[str, Any] = {"user_id": ADA}
    deposit = Deposit(command_id="c2", order_id="o1", amount=AMOUNT_MAX - 30, bonus=0, asset="INR", **a)
    records = asyncio.run(records_of([OpenWallet(command_id="c1", **a), deposit]))
    assert parsed(records[-1])["data"]["wagering"] == AMOUNT_MAX - 50
    verify(Lists([records]), money=FORMS)
    fault = fault_in(forged(records, 3, data(wagering=AMOUNT_MAX - 51)))
    assert (fault.seq, "to the wagering, by its rules" in fault.reason) == (3, True), fault


def test_the_room_of_a_wallet_counts_transfers_under_way_and_not_those_that_have_ended() -> None:
    book = Book(AuditedRules({}), {})
    cause: dict[str, Any] = {"cause": "0:1"}
    received = TransferReceived(amount=50, asset="INR", from_user_id=BOB, transfer_id="t1", **cause)
    sent = TransferSent(amount=20, asset="INR", to_user_id=BOB, transfer_id="t2")
    delivered = TransferDelivered(amount=20, asset="INR", to_user_id=BOB, transfer_id="t2", **cause)
    rooms = []
    for seq, (kind, of) in enumerate(
        (("transfer_received", received), ("transfer_sent", sent), ("transfer_delivered", delivered)), 1
    ):
        event = Record(1, 0, seq, "", seq, ADA, f"c{seq}", "", "local", kind, of, [], {})
        book.recompute(event, HANDLERS[kind], lambda _: None)
        rooms.append(AMOUNT_MAX - book.room(ADA, "INR"))
    assert rooms == [50, 50, 30]


# --- the rules themselves -------------------------------------------------------------------------------------------


def test_rules_under_the_digest_of_others_are_refused(week: list[bytes]) -> None:
    (digest, form), *_ = FORMS.items()
    with pytest.raises(WrongRules, match="have another digest"):
        verify(Lists([week]), money={digest: form.replace(b'"registration":25', b'"registration":26')})
    for unreadable in (b"{", b'{"INR":{"registration":"many"}}', b"[]", b'{"INR":[]}'):
        with pytest.raises(WrongRules, match="cannot be read"):
            verify(Lists([week]), money={sha256(unreadable).hexdigest(): unreadable})


steps = st.dictionaries(st.integers(1, 50), st.integers(1, 50), max_size=3).map(lambda of: tuple(sorted(of.items())))
rates = st.lists(st.integers(0, 10**9), max_size=6).map(tuple)
commissions = st.builds(
    Commission,
    mode=st.sampled_from(["daily", "per_bet"]),
    delay_s=st.integers(0, 86_399),
    rates_e9=rates,
    agents=st.dictionaries(st.integers(0, 10).map(str), rates, max_size=2),
)
money_rules = st.builds(
    MoneyRules,
    registration=st.integers(0, 50),
    first_deposit=steps,
    attendance=st.lists(st.integers(1, 50), max_size=3).map(tuple),
    bonus_expires_after_s=st.none() | st.integers(0, 1_000),
    wagering_deposit=st.integers(0, 3),
    wagering_bonus=st.integers(0, 3),
    valid_referral=st.none() | st.integers(1, 50),
    invitation=steps,
    commission=st.none() | commissions,
)


@given(money_rules, st.integers(0, 60), st.integers(0, 10), st.integers(1, 6))
def test_the_auditor_reads_the_rules_that_the_writer_keeps(
    rules: MoneyRules, value: int, agent: int, level: int
) -> None:
    money = {"INR": rules}
    known = AuditedRules({digest_of(money): money_form(money)}).of(digest_of(money), "INR")
    assert known is not None
    assert (known.registration, known.attendance) == (rules.registration, list(rules.attendance))
    assert known.for_first_deposit(value) == reached(rules.first_deposit, value)
    assert known.invitation.get(value, 0) == dict(rules.invitation).get(value, 0)
    assert known.expires_at_us(7) == expiry_of(rules, 7)
    assert (known.staked_per_deposit, known.staked_per_bonus) == (rules.wagering_deposit, rules.wagering_bonus)
    assert known.valid_referral == rules.valid_referral
    assert (known.commission is None) == (rules.commission is None)
    if known.commission is not None and rules.commission is not None:
        assert known.commission.rate_e9(agent, level) == rate_of(rules.commission, agent, level)
        assert known.commission.levels == levels_of(rules.commission)
        member = Wallet(ADA, referrer_id=BOB)
        terms = terms_of(member, "INR", book_of({}, money=money), DAY_US + value)
        assert known.commission.levels == 0 or terms is not None
        assert terms is None or known.commission.due_at_us(DAY_US + value) == terms.due_at_us


# --- the program ----------------------------------------------------------------------------------------------------


def verified_in(folder: Path, *arguments: str) -> str:
    done = CliRunner().invoke(stakelog, ["audit", "verify", "--data", str(folder), *arguments])
    assert done.exit_code in (0, 1), done.output
    return done.output


def keep(folder: Path, kept: str) -> None:
    """Let the log of the folder keep these sets of rules."""
    database = sqlite3.connect(folder / EVENTS)
    with database:
        database.execute("INSERT OR REPLACE INTO meta VALUES ('money_rules', ?)", (kept,))
    database.close()


def test_the_program_takes_the_rules_that_the_log_keeps_or_a_rules_file(week: list[bytes], tmp_path: Path) -> None:
    folder = write_log(tmp_path / "ledger", [week])
    assert f"1 unknown rules of money flows ({digest_of(MONEY)})" in verified_in(folder)
    rules = tmp_path / "rules.json"
    rules.write_text(FILE)
    assert "unknown rules" not in (output := verified_in(folder, "--rules", str(rules)))
    assert output.startswith("well")
    keep(folder, f'{{"{digest_of(MONEY)}": {money_form(MONEY).decode()}}}')
    assert "unknown rules" not in (output := verified_in(folder))
    assert output.startswith("well")


def test_the_program_names_an_amount_that_the_kept_rules_do_not_give(week: list[bytes], tmp_path: Path) -> None:
    folder = write_log(tmp_path, [forged(week, 2, more(1))[:2]])
    keep(folder, f'{{"{digest_of(MONEY)}": {money_form(MONEY).decode()}}}')
    assert "partition 0, seq 2: its amount is 26" in verified_in(folder)
