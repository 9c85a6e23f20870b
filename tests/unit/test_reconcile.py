"""``audit reconcile``: documents that agree, that differ, that are behind, and that are newer."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from ledger.core.games.rules import BUILT_IN
from ledger.core.games.tables import canonical
from projections.auditing.oracle import Document, UnknownRecord
from projections.auditing.reconcile import as_of as reconcile_as_of
from projections.auditing.reconcile import run as reconcile_module
from projections.auditing.reconcile import totals as reconcile_totals
from projections.auditing.reconcile import wallets as reconcile_wallets
from projections.auditing.reconcile.run import (
    BehindWallet,
    Difference,
    LatePartition,
    Reconciled,
    Unreadable,
    reconcile,
)
from unit.fake_reads import FakeReads, Records
from unit.folders import scenario_records

WALLETS = 10


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (reconcile_module, reconcile_wallets, reconcile_as_of):
        monkeypatch.setattr(module, "_PAUSE_S", 0.001)


def run(reads: FakeReads, **options: Any) -> tuple[Reconciled, list[Difference]]:
    differences: list[Difference] = []
    records = options.pop("records", Records(scenario_records()))
    tables = {digest: canonical(table) for digest, table in BUILT_IN.tables.items()}
    options = {"wait_s": 0, "tables": tables, **options}
    result = reconcile(records, reads, on_difference=differences.append, **options)
    assert result.differences == len(differences)
    return result, differences


def fake_reads() -> FakeReads:
    return FakeReads(scenario_records())


def test_reads_that_agree_with_the_log_have_no_difference() -> None:
    reads = fake_reads()
    result, differences = run(reads)
    assert differences == []
    assert result.ok
    assert (result.wallets, result.partitions) == (WALLETS + 1, 4), (
        "the wallet `nobody` was never opened and is read too"
    )
    assert result.events == sum(map(len, scenario_records()))
    assert (result.retried, result.behind, result.late) == (0, [], [])
    assert {read for read, user_id in reads.calls if user_id == "alice"} == {
        *("wallet", "stats", "referrals", "balance", "history", "bets", "holds", "transfers", "grants"),
        *("bet", "transfer", "order"),
    }
    assert ("hold", "bob") in reads.calls
    assert result.responses == len(reads.calls) - WALLETS, "the reads that wait for each partition are not counted"


def test_the_money_supply_of_a_whole_log_sums_to_zero() -> None:
    supply = run(fake_reads())[0].supply
    assert set(supply.accounts) == {"INR", "USDT", "GOLD"}
    assert supply.remainders() == {}
    postings = [posting for records in scenario_records() for record in records for posting in _postings_of(record)]
    deposits = [amount for account, asset, amount in postings if (account, asset) == ("house/deposits", "USDT")]
    assert supply.accounts["USDT"]["house/deposits"] == sum(deposits) < 0


def _postings_of(record: bytes) -> list[tuple[str, str, int]]:
    return [(account, asset, amount) for account, asset, amount in json.loads(record)["postings"]]


def test_postings_that_do_not_sum_to_zero_are_reported() -> None:
    records = scenario_records()
    at = max(at for at, record in enumerate(records[0]) if json.loads(record)["postings"])
    forged = json.loads(records[0][at])
    forged["postings"][0][2] += 1
    records[0][at] = json.dumps(forged).encode()
    result = reconcile(Records(records), FakeReads(records), wait_s=0)
    assert not result.ok
    assert list(result.supply.remainders().values()) == [1]


Alter = Callable[[Document], None]


def _set(*path: Any) -> Alter:
    *way, name, value = path

    def alter(answer: Document) -> None:
        inner: Any = answer
        for step in way:
            inner = inner[step]
        inner[name] = value

    return alter


def _drop_item(answer: Document) -> None:
    if answer["items"]:
        answer["items"].pop(0)


def _drop_last(answer: Document) -> None:
    answer["items"].pop()


def _float_amount(answer: Document) -> None:
    """Equal in Python, but not an integer in JSON."""
    answer["amount"] = float(answer["amount"])


def _twice(answer: Document) -> None:
    answer["items"].insert(0, answer["items"][0])


@pytest.mark.parametrize(
    ("read", "alter", "field"),
    [
        ("wallet", _set("status", "frozen"), "status"),
        ("wallet", _set("balances", "INR", "cash", 1), "balances.INR.cash"),
        ("wallet", _set("balances", "INR", "available", 1), "balances.INR.available"),
        ("wallet", _set("balances", "INR", "withdrawable", 1), "balances.INR.withdrawable"),
        ("wallet", _set("balances", "BTC", {}), "balances.BTC"),
        ("wallet", _set("limits", "INR", "balance_max", 0), "limits.INR.balance_max"),
        ("wallet", _set("opened_at_us", 1), "opened_at_us"),
        ("wallet", _set("first_deposit", None), "first_deposit"),
        ("wallet", _set("more", 1), "more"),
        ("wallet", lambda answer: answer.pop("referrer_id"), "referrer_id"),
        ("balance", _set("balances", {}), "balances.INR"),
        ("balance", _set("at_us", 1), "at_us"),
        ("stats", _set("games", 0, "biggest_win", 1), "games[0].biggest_win"),
        ("stats", _set("totals", 0, "withdrawals", "amount", 1), "totals[0].withdrawals.amount"),
        ("stats", lambda answer: answer["totals"].pop(), "totals, length"),
        ("referrals", _set("direct_count", 7), "direct_count"),
        ("referrals", _set("levels", 5, "members", 1), "levels[5].members"),
        ("referrals", _set("commissions", "INR", 1), "commissions.INR"),
        ("history", _set("items", 0, "change", "cash", 7), "].change.cash"),
        ("history", _set("items", 0, "data", {}), "].data."),
        ("history", _drop_item, "items["),
        ("history", _twice, "items["),
        ("history", lambda answer: answer.pop("next_cursor"), ""),
        ("bets", _set("items", 0, "payout", 7), "].payout"),
        ("bets", _drop_item, "items["),
        ("bet", _set("status", "open"), "status"),
        ("transfer", _set("reason", "no"), "reason"),
        ("order", _set("resolved_at_us", 1), "resolved_at_us"),
        ("order", _float_amount, "amount"),
        ("history", _set("next_cursor", None), "items[4]"),
        ("bets", _drop_last, "items[3]"),
        ("wallet", _set("as_of", {"position": "3:1"}), "as_of.position"),
        ("wallet", _set("as_of", {"position": "1:99999"}), "as_of.position"),
        ("stats", _set("as_of", None), "as_of.position"),
    ],
)
def test_a_differing_document_is_reported_with_wallet_read_and_member(read: str, alter: Alter, field: str) -> None:
    reads = fake_reads()

    def altered(read_name: str, user_id: str, answer: Document | None) -> Document | None:
        if read_name == read and user_id == "alice":
            assert answer is not None
            answer = json.loads(json.dumps(answer))
            assert answer is not None
            alter(answer)
        return answer

    reads.altered = altered
    result, differences = run(reads, only=["alice"])
    assert not result.ok
    assert differences
    assert {difference.user_id for difference in differences} == {"alice"}
    assert any(
        difference.read.split("?")[0].split("/")[0].startswith(read) and field in difference.field
        for difference in differences
    ), differences


def test_a_difference_has_the_expected_and_the_found_value() -> None:
    reads = fake_reads()

    def altered(read_name: str, _user_id: str, answer: Document | None) -> Document | None:
        return answer if read_name != "wallet" or answer is None else {**answer, "status": "odd"}

    reads.altered = altered
    _, differences = run(reads, only=["frank"])
    (difference,) = differences
    assert (difference.expected, difference.found, difference.read) == ('"frozen"', '"odd"', "wallet")
    assert difference.position == _last_position_of("frank")


def _last_position_of(user_id: str) -> str:
    events = [json.loads(record) for records in scenario_records() for record in records]
    last = [event for event in events if event["user_id"] == user_id][-1]
    return f"{last['partition']}:{last['seq']}"


@pytest.mark.parametrize("read", ["wallet", "stats", "history", "bet", "order", "transfer", "balance"])
def test_a_missing_document_is_a_difference(read: str) -> None:
    reads = fake_reads()
    reads.altered = lambda read_name, user_id, answer: None if (read_name, user_id) == (read, "alice") else answer
    _, differences = run(reads)
    assert {difference.user_id for difference in differences} == {"alice"}
    assert all(difference.found == "null" for difference in differences)


def test_a_wallet_that_was_never_opened_must_not_be_found() -> None:
    reads = fake_reads()
    reads.altered = lambda read_name, user_id, answer: (
        {"user_id": user_id, "as_of": {"position": "1:5"}} if (read_name, user_id) == ("wallet", "nobody") else answer
    )
    _, differences = run(reads)
    assert [difference.user_id for difference in differences] == ["nobody"]


def test_a_document_that_agrees_in_a_later_attempt_is_no_difference_and_is_counted() -> None:
    reads = fake_reads()
    wrong = iter([True, True])

    def altered(read_name: str, user_id: str, answer: Document | None) -> Document | None:
        if (read_name, user_id) == ("stats", "alice") and answer is not None and next(wrong, False):
            return {**answer, "games": []}
        return answer

    reads.altered = altered
    result, differences = run(reads)
    assert differences == []
    assert result.ok
    assert result.retried == 1


def test_a_response_newer_than_the_records_read_is_compared_with_the_newer_records() -> None:
    whole = scenario_records()
    growing = Records([records[: len(records) * 2 // 3] for records in whole])
    first_ends = growing.ends()

    class Ends(Records):
        """The log grows right after its ends were read."""

        def ends(self) -> list[int]:
            self.partitions = whole
            return list(first_ends)

    reads = FakeReads(whole)
    result, differences = run(reads, records=Ends(growing.partitions))
    assert differences == []
    assert result.ok
    assert result.retried == 0
    assert result.events == sum(first_ends)


def test_a_list_that_grows_while_it_is_paged_has_the_items_of_its_first_page() -> None:
    whole = scenario_records()
    reads = FakeReads(whole, page=2)
    reads.ends = {partition: len(records) // 2 for partition, records in enumerate(whole)}

    class Ends(Records):
        def ends(self) -> list[int]:
            return [len(records) // 2 for records in whole]

    def altered(read_name: str, user_id: str, answer: Document | None) -> Document | None:
        if read_name in ("history", "bets", "holds"):  # something happens after every page
            partition, _ = reads.seq(user_id)
            reads.ends[partition] = min(reads.ends[partition] + 1, len(whole[partition]))
        return answer

    reads.altered = altered
    result, differences = run(reads, records=Ends(whole), concurrency=1)
    assert differences == []
    assert result.ok
    assert result.retried == 0
    assert sum(reads.ends.values()) > sum(len(records) // 2 for records in whole) + 10


def test_a_wallet_that_stays_behind_and_is_true_at_its_position_is_reported_as_behind() -> None:
    reads = fake_reads()
    reads.behind["bob"] = 12
    result, differences = run(reads)
    assert differences == []
    assert result.behind == [BehindWallet("bob", 2, 12)]
    assert result.ok


def test_a_wallet_that_is_behind_and_wrong_at_its_position_is_a_difference() -> None:
    reads = fake_reads()
    reads.behind["bob"] = 12
    reads.altered = lambda read_name, user_id, answer: (
        {**answer, "direct_count": 9} if (read_name, user_id) == ("referrals", "bob") and answer else answer
    )
    result, differences = run(reads)
    assert [difference.field for difference in differences] == ["direct_count"]
    assert not result.ok


def test_reconcile_waits_for_reads_that_are_behind() -> None:
    reads = fake_reads()
    reads.ends = {1: 5}
    waits: list[str] = []

    def on_message(text: str) -> None:
        waits.append(text)
        reads.ends = {}

    result, differences = run(reads, on_message=on_message, wait_s=5)
    assert differences == []
    assert result.ok
    assert len(waits) == 1
    assert waits[0].startswith("the reads of partition 1 are at seq 5, the log at ")


def test_reads_that_stay_behind_are_reported_but_are_no_difference() -> None:
    reads = fake_reads()
    reads.ends = {1: 30}
    result, differences = run(reads, wait_s=0.01)
    assert differences == []
    assert result.late == [LatePartition(1, 30, len(scenario_records()[1]))]
    assert not result.ok


def test_an_unknown_record_ends_reconcile() -> None:
    records = scenario_records()
    records[1][3] = records[1][3].replace(b'"referral_counted"', b'"of_tomorrow"')
    with pytest.raises(UnknownRecord, match="1:4 is of type of_tomorrow"):
        run(fake_reads(), records=Records(records))


def test_progress_ends_with_the_total() -> None:
    seen: list[tuple[int, int]] = []
    run(fake_reads(), on_progress=lambda done, total: seen.append((done, total)))
    total = sum(map(len, scenario_records()))
    assert seen[-1] == (total, total)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


# --- responses that are no documents -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "read", ["wallet", "stats", "referrals", "balance", "history", "bets", "holds", "bet", "transfer", "order"]
)
def test_an_unreadable_response_is_a_difference_and_the_other_reads_follow(read: str) -> None:
    reads = fake_reads()

    def altered(read_name: str, user_id: str, answer: Document | None) -> Document | None:
        if (read_name, user_id) == (read, "alice"):
            raise Unreadable("this is why")
        return answer

    reads.altered = altered
    result, differences = run(reads)
    assert {difference.user_id for difference in differences} == {"alice"}
    assert all(difference.read.startswith(read) for difference in differences)
    assert all("this is why" in difference.found for difference in differences)
    assert result.wallets == WALLETS + 1
    assert not result.ok
    assert {"history", "bets", "order"} <= {read_name for read_name, user_id in reads.calls if user_id == "alice"}


def test_a_response_that_is_unreadable_once_is_no_difference() -> None:
    reads = fake_reads()
    broken = iter([True])

    def altered(read_name: str, user_id: str, answer: Document | None) -> Document | None:
        if (read_name, user_id) == ("stats", "alice") and next(broken, False):
            raise Unreadable("once")
        return answer

    reads.altered = altered
    result, differences = run(reads)
    assert (differences, result.retried) == ([], 1)


def test_reconcile_does_not_wait_if_no_wallet_can_be_read() -> None:
    reads = fake_reads()

    def altered(read_name: str, _user_id: str, answer: Document | None) -> Document | None:
        if read_name == "wallet":
            raise Unreadable("all of them")
        return answer

    reads.altered = altered
    result, differences = run(reads, wait_s=600)
    assert len(differences) == WALLETS + 1
    assert result.late == []


def test_half_a_surrogate_pair_in_a_response_is_shown() -> None:
    reads = fake_reads()
    reads.altered = lambda read_name, user_id, answer: (
        {**answer, "status": "\ud800"} if (read_name, user_id) == ("wallet", "alice") and answer else answer
    )
    _, (difference,) = run(reads)
    assert difference.found == '"\\ud800"'


# --- users with rows ----------------------------------------------------------------------------------------


def users_of(partition: int) -> set[str]:
    return {json.loads(record)["user_id"] for record in scenario_records()[partition]}


def test_rows_of_a_user_without_events_are_a_difference() -> None:
    reads = fake_reads()
    reads.users_with_rows = {1: (len(scenario_records()[1]), users_of(1) | {"mallory"})}
    result, differences = run(reads)
    assert [(one.user_id, one.read, one.found) for one in differences] == [("mallory", "rows", '"some"')]
    assert not result.ok
    assert run(reads, only=["bob"])[1] == []
    assert run(reads, only=["mallory"])[0].unknown_users == 1


def test_rows_are_compared_with_the_log_as_of_their_checkpoint() -> None:
    first = json.loads(scenario_records()[2][0])["user_id"]
    later = sorted(users_of(2) - {first})
    reads = fake_reads()
    reads.users_with_rows = {2: (1, users_of(2))}
    assert [one.user_id for one in run(reads)[1]] == later
    reads.users_with_rows = {2: (1, {first})}
    assert run(reads)[1] == []


@pytest.mark.parametrize("partition", [0, 1])
def test_a_log_with_fewer_events_than_the_rows_is_a_difference_also_without_a_wallet(partition: int) -> None:
    shorter = scenario_records()
    shorter[partition] = shorter[partition][: 0 if partition == 0 else -1]
    end = len(shorter[partition])
    reads = FakeReads(shorter)
    reads.users_with_rows = {partition: (end + 1, set())}
    result, differences = run(reads, records=Records(shorter))
    (difference,) = differences
    assert (difference.user_id, difference.read, difference.field) == (f"partition:{partition}", "checkpoint", "seq")
    assert difference.position == f"{partition}:{end + 1}"
    assert difference.expected == f'"at most {end}, where the log ends"'
    assert not result.ok


# --- the queue, and the leaderboards -----------------------------------------------------------------------------


def leaderboards_of_scenario() -> int:
    """All bets of the scenario are of one day: three measures of a day, a week and a month for each asset."""
    events = [json.loads(record) for records in scenario_records() for record in records]
    bets = [event for event in events if event["type"] in ("bet_placed", "bet_settled")]
    assert len({event["time_us"] // DAY_US for event in bets}) == 1
    return 9 * len({event["data"]["asset"] for event in bets if event["type"] == "bet_placed"})


def cross_user_of(result: Reconciled) -> reconcile_totals.CrossUserReads:
    assert result.cross_user is not None
    return result.cross_user


def test_the_queue_and_every_leaderboard_are_compared() -> None:
    reads = fake_reads()
    cross_user = cross_user_of(run(reads)[0])
    orders = sum(len(oracle.orders) for oracle in reads._oracles())
    assert cross_user.orders == orders > 8
    assert cross_user.leaderboards == leaderboards_of_scenario()
    assert (cross_user.not_compared, cross_user.days_left_out) == ("", 0)
    assert [read for read, user_id in reads.calls if user_id == ""].count("orders") == -(-orders // reads.page)
    assert run(reads, only=["alice"])[0].cross_user is None


def _insert_order(answer: Document) -> None:
    answer["items"].insert(1, {**answer["items"][1], "user_id": "mallory"})


def _swap_orders(answer: Document) -> None:
    answer["items"][0], answer["items"][1] = answer["items"][1], answer["items"][0]


@pytest.mark.parametrize(
    ("alter", "field"),
    [
        (lambda answer: answer["items"].pop(0), "items[0]"),
        (lambda answer: answer["items"].pop(), "items["),
        (_insert_order, "items[1]"),
        (_swap_orders, "items[0]"),
        (_set("next_cursor", None), "items["),
        (_set("items", 0, "order_id", "other"), "items[0]"),
        (_set("items", 7), ""),
        (_set("as_of", {"positions": ["0:1"]}), "as_of.positions"),
        (_set("as_of", {"positions": ["0:1", "1:1", "2:1", "3:99999"]}), "as_of.positions"),
    ],
)
def test_a_missing_extra_or_misplaced_order_in_the_queue_is_a_difference(alter: Alter, field: str) -> None:
    reads = fake_reads()

    def altered(read_name: str, _user_id: str, answer: Document | None) -> Document | None:
        if read_name == "orders":
            assert answer is not None
            alter(answer)
        return answer

    reads.altered = altered
    if field == "as_of.positions":
        reads.ends = dict.fromkeys(range(4), 1)
    result, differences = run(reads, records=_at_one() if field == "as_of.positions" else Records(scenario_records()))
    assert [one.read for one in differences if one.read == "orders"] == ["orders"], differences
    assert any(field in one.field for one in differences), differences
    assert not result.ok


@pytest.mark.parametrize("name", ["adjustment_id", "amount", "proposed_by", "reason"])
def test_an_altered_adjustment_in_its_queue_is_a_difference(name: str) -> None:
    reads = fake_reads()

    def altered(read_name: str, _user_id: str, answer: Document | None) -> Document | None:
        if read_name == "adjustments":
            assert answer is not None
            answer["items"][1][name] = "other"
        return answer

    reads.altered = altered
    result, differences = run(reads)
    assert [(one.read, one.field) for one in differences] == [("adjustments", "items[1]")]
    assert not result.ok


class _AtOne(Records):
    """A log whose partitions seem to have one event each."""

    def ends(self) -> list[int]:
        return [1 for _ in self.partitions]


def _at_one() -> Records:
    return _AtOne(scenario_records())


def test_an_unknown_user_in_the_queue_is_named() -> None:
    reads = fake_reads()

    def altered(read_name: str, _user_id: str, answer: Document | None) -> Document | None:
        if read_name == "orders" and answer is not None:
            _insert_order(answer)
        return answer

    reads.altered = altered
    _, (difference,) = run(reads)
    assert difference.user_id == "mallory"
    assert difference.found.startswith('["mallory",')


def _first_leader_more(answer: Document) -> None:
    answer["items"][0]["value"] += 1


def _differing_board(board: str, alter: Alter, field: str) -> None:
    reads = fake_reads()

    def altered(read_name: str, _user_id: str, answer: Document | None) -> Document | None:
        if read_name == "leaderboard" and answer is not None and (answer["name"], answer["asset"]) == (board, "INR"):
            alter(answer)
        return answer

    reads.altered = altered
    result, (difference,) = run(reads)
    assert difference.read.startswith(f"leaderboards/{board}?asset=INR&at_us=")
    assert difference.field == field
    assert (difference.user_id != "all users") is (field == "value")
    assert not result.ok


@pytest.mark.parametrize("measure", ["staked", "won", "net"])
@pytest.mark.parametrize("span", ["day", "week", "month"])
def test_each_differing_leaderboard_is_reported(measure: str, span: str) -> None:
    _differing_board(f"{measure}_{span}", _first_leader_more, "value")


@pytest.mark.parametrize(
    ("alter", "field"),
    [
        (lambda answer: answer["items"].pop(0), "value"),
        (lambda answer: answer["items"].append({"rank": 9, "user_id": "mallory", "value": -9_000}), "value"),
        (_set("items", 0, "rank", 2), "items[0].rank"),
        (_set("from_us", 1), "from_us"),
        (_set("to_us", 1), "to_us"),
        (_set("items", 7), "items"),
        (_set("as_of", {}), "as_of.positions"),
    ],
)
def test_a_differing_leaderboard_is_reported_with_member_and_user(alter: Alter, field: str) -> None:
    _differing_board("net_week", alter, field)


def test_an_unreadable_queue_and_leaderboards_are_differences() -> None:
    reads = fake_reads()

    def altered(read_name: str, _user_id: str, answer: Document | None) -> Document | None:
        if read_name in ("orders", "leaderboard"):
            raise Unreadable("broken")
        return answer

    reads.altered = altered
    result, differences = run(reads)
    assert len(differences) == 1 + leaderboards_of_scenario()
    assert all("broken" in difference.found for difference in differences)
    assert not result.ok


def test_while_a_user_is_quarantined_queue_and_leaderboards_are_reported_as_not_compared() -> None:
    reads = fake_reads()
    reads.behind["bob"] = 12
    result, differences = run(reads)
    assert differences == []
    assert "as of seq 12 of partition 2" in cross_user_of(result).not_compared


def test_leaderboards_that_grow_are_compared_with_the_log_as_of_each_response() -> None:
    whole = scenario_records()
    reads = FakeReads(whole)
    reads.ends = dict.fromkeys(range(4), 1)

    def altered(read_name: str, _user_id: str, answer: Document | None) -> Document | None:
        if read_name in ("orders", "leaderboard"):
            reads.ends = {partition: min(end + 1, len(whole[partition])) for partition, end in reads.ends.items()}
        return answer

    reads.altered = altered
    bets_by_seq_9 = Records(whole)
    bets_by_seq_9.ends = lambda: [3, 9, 1, 1]  # type: ignore[method-assign]
    reads.ends = {0: 3, 1: 9, 2: 1, 3: 1}
    result, differences = run(reads, records=bets_by_seq_9)
    assert differences == []
    assert cross_user_of(result).leaderboards == 9
    assert cross_user_of(result).not_compared == ""
    assert reads.ends[1] > 15, "bets were settled and cancelled during the comparison"


DAY_US = 86_400_000_000


def bets_of_days(days: int) -> list[list[bytes]]:
    """For each day one bet that is settled on the next day, and one that is cancelled on the next day."""
    events: list[tuple[int, str, dict[str, Any]]] = [(0, "wallet_opened", {})]
    for day in range(days):
        source = {"bonus": 0, "cash": 1, "grants": []}
        placed = {"game": "g", "period": "p", "selection": "s", "asset": "INR", "from": source}
        events += [
            (day, "bet_placed", {"bet_id": f"b{day}", "stake": 10 + day, **placed}),
            (day, "bet_placed", {"bet_id": f"c{day}", "stake": 5, **placed}),
            (day + 1, "bet_settled", {"bet_id": f"b{day}", "payout": 3 * day}),
            (day + 1, "bet_cancelled", {"bet_id": f"c{day}", "before_bet": False}),
        ]
    start_us = 19_722 * DAY_US + 5  # 2023-12-31, a Sunday: the next day begins a week, a month and a year
    return [
        [
            json.dumps(
                {
                    "v": 1,
                    "partition": 0,
                    "seq": seq,
                    "time_us": start_us + day * DAY_US,
                    "user_id": "alice",
                    "command_id": f"c{seq}",
                    "actor": "local",
                    "type": kind,
                    "postings": [],
                    "data": data,
                },
                separators=(",", ":"),
            ).encode()
            for seq, (day, kind, data) in enumerate(sorted(events, key=lambda event: event[0]), start=1)
        ]
    ]


def test_days_weeks_and_months_each_have_their_leaderboards() -> None:
    records = bets_of_days(3)
    reads = FakeReads(records)
    result, differences = run(reads, records=Records(records))
    assert differences == []
    # four days, two weeks (Sunday is of the old one), two months
    assert cross_user_of(result).leaderboards == 3 * (4 + 2 + 2)


def test_of_many_days_the_latest_are_compared_and_the_others_are_counted() -> None:
    records = bets_of_days(reconcile_totals.DAYS_MOST + 6)
    reads = FakeReads(records)
    result, differences = run(reads, records=Records(records))
    assert differences == []
    assert cross_user_of(result).days_left_out == 7
    assert [read for read, _ in reads.calls].count("leaderboard") == cross_user_of(result).leaderboards
