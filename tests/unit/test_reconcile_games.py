"""``audit reconcile`` of the periods and of the house view: rows that are right, and rows changed by hand."""

import asyncio
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Final

import pytest

from api.cli.audit.folder_reads import FolderReads
from cases import first
from ledger.core.games.rules import BUILT_IN
from ledger.core.games.tables import canonical
from ledger.operations.verifying.pay_tables import PayTables, average_payout
from naive_games import RESULTS, legs, paid_legs
from projections.auditing.oracle import Document, UnknownRecord
from projections.auditing.reconcile import as_of as reconcile_as_of
from projections.auditing.reconcile.games import GameReads
from projections.auditing.reconcile.port import Difference, Reads, Unreadable
from projections.auditing.reconcile.records import records_after
from properties.games_scenario import play_games
from unit.fake_reads import FakeReads, Records
from unit.folders import scenario_records
from unit.read_model import ReadModel
from unit.test_reconcile import bets_of_days

TABLES = {digest: canonical(table) for digest, table in BUILT_IN.tables.items()}


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile_as_of, "_PAUSE_S", 0.001)


def compared(
    partitions: Sequence[Sequence[bytes]], reads: Reads, tables: dict[str, bytes] = TABLES
) -> tuple[GameReads, list[Difference]]:
    records = Records([list(part) for part in partitions])
    games = GameReads(records, len(partitions), tables)
    for partition, part in enumerate(partitions):
        for _, event in records_after(records, partition, 0, len(part)):
            games.collector(partition)(event)
    return games, list(games.compare(reads))


class Played:
    """The log of ``play_games``, and its tables, which each test gets a copy of."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.partitions = asyncio.run(play_games(3, rounds=12)).partitions
        asyncio.run(ReadModel.folded(folder, self.partitions))

    def copy(self, to: Path) -> ReadModel:
        return ReadModel(Path(shutil.copytree(self.folder, to / "copy")), self.partitions)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    return Played(tmp_path_factory.mktemp("played"))


def found_in(played: Played, folder: Path, tables: dict[str, bytes] = TABLES) -> tuple[GameReads, list[Difference]]:
    with closing(FolderReads(folder, len(played.partitions))) as reads:
        return compared(played.partitions, reads, tables)


def test_rows_that_follow_from_the_log_have_no_difference(played: Played) -> None:
    games, differences = found_in(played, played.folder)
    assert differences == []
    events = [json.loads(record) for part in played.partitions for record in part]
    placed = [event for event in events if event["type"] == "bet_placed"]
    named = {(event["data"]["game"], event["data"]["period"]) for event in placed if "rules" in event["data"]}
    outcomes = [event for event in events if event["user_id"].startswith("game:")]
    named |= {(event["user_id"][5:], event["data"]["period"]) for event in outcomes}
    assert games.periods == len(named) > 40
    assert len(games.hours) > 40
    assert (games.not_compared, games.games_unknown, games.edges_unknown, games.retried) == ("", [], set(), 0)


CHANGES = [
    *(
        (f"UPDATE {{period}} SET {column} = {column} + 1 WHERE asset = 'INR' AND game = 'k3_1m'", named)
        for column, named in (
            ("open_bets", "open_bets"),
            ("settled_bets", "settled_bets"),
            ("staked_low", "staked.INR"),
            ("paid_out_high", "paid_out.INR"),
        )
    ),
    ("UPDATE {period} SET result = '9' WHERE game = 'wingo_30s' AND result IS NOT NULL", "result"),
    ("UPDATE {period} SET proof = replace(proof, 'ab', 'cd') WHERE proof IS NOT NULL", "proof"),
    ("UPDATE {period} SET outcome = 'cancelled' WHERE outcome = 'result' AND game = 'k3_1m'", "status"),
    ("DELETE FROM {period} WHERE asset = 'GOLD' AND game = '5d_30s'", "games/5d_30s/periods"),
    (
        "UPDATE {period} SET period = replace(period, '2024', '2032') WHERE asset = 'INR' AND game = 'k3_1m'",
        "items[0]",
    ),
    *(
        (f"UPDATE {{selection}} SET {column} = {column} + 1 WHERE asset = 'INR' AND game = 'wingo_30s'", named)
        for column, named in (("bets", "distribution[0].bets"), ("staked_low", "distribution[0].staked"))
    ),
    ("DELETE FROM {selection} WHERE game = 'trx_wix_1m'", "distribution, length"),
    *(
        (f"UPDATE {{house}} SET {column} = {column} + 1 WHERE asset = 'INR' AND game = '{game}' AND {where}", named)
        for where in ("(bets > 0 OR game = '')",)
        for game, column, named in (
            ("wingo_30s", "bets", "wingo_30s at"),
            ("k3_1m", "staked_low", "staked"),
            ("external", "paid_out_low", "paid_out"),
            ("wingo_30s", "fees_low", "fees"),
            ("trx_wix_1m", "unpriced", "expected_edge_ppm"),
            ("k3_1m", "expected_high", "expected_edge_ppm"),
            ("", "bonuses_low", "no game at"),
            ("", "commissions_low", "commissions"),
        )
    ),
    ("DELETE FROM {house} WHERE game = 'wingo_30s' AND asset = 'GOLD'", "house?asset=GOLD"),
    ("UPDATE {house} SET hour = hour + 1000 WHERE game = 'external'", "house?asset=INR"),
]


@pytest.mark.parametrize(("change", "named"), CHANGES)
def test_a_row_that_was_changed_by_hand_is_named(played: Played, tmp_path: Path, change: str, named: str) -> None:
    model = played.copy(tmp_path)
    assert model.sql(change) > 0
    _, differences = found_in(played, model.path.parent)
    assert differences
    assert any(named in f"{one.read} {one.field}" for one in differences), differences


def test_rows_behind_the_log_are_not_compared_with_its_end(played: Played) -> None:
    ended = json.loads(played.partitions[0][-1])
    later = ended | {"seq": ended["seq"] + 1, "type": "wallet_frozen", "postings": [], "data": {"reason": "r"}}
    longer = [[*played.partitions[0], json.dumps(later).encode()], *played.partitions[1:]]
    with closing(FolderReads(played.folder, len(played.partitions))) as reads:
        games, differences = compared(longer, reads)
    assert differences == []
    assert games.hours == set()
    assert "behind, or a user is quarantined" in games.not_compared


def test_an_edge_of_an_unknown_pay_table_is_counted_and_the_rest_is_compared(played: Played, tmp_path: Path) -> None:
    k3 = BUILT_IN.games["k3_1m"].digest
    known = {digest: form for digest, form in TABLES.items() if digest != k3}
    games, differences = found_in(played, played.folder, known)
    assert differences == []
    assert {game for _, _, game in games.edges_unknown} == {"k3_1m"}
    model = played.copy(tmp_path)
    model.sql("UPDATE {house} SET paid_out_low = paid_out_low + 1, expected_low = 0 WHERE game = 'k3_1m'")
    _, differences = found_in(played, model.path.parent, known)
    assert {one.field.rsplit(": ")[-1] for one in differences} == {"paid_out", "edge_ppm"}


NOT_5D: Final = sum(len(legs(rules)) for rules in ("wingo", "trx_wix", "k3"))
"""5D has 100,000 results."""


def some_legs() -> Iterator[tuple[str, str]]:
    for rules in ("wingo", "trx_wix", "k3"):
        yield from ((rules, leg) for leg in legs(rules))
    for leg in ("A:7", "C:big", "E:odd", "sum:big", "sum:small", "sum:odd", "sum:even"):
        yield "5d", leg


@pytest.mark.parametrize(("rules", "leg"), first(NOT_5D, some_legs()))
def test_the_auditors_average_is_the_sum_over_every_result(rules: str, leg: str) -> None:
    table = PayTables(TABLES).table_of(BUILT_IN.games[f"{rules}_1m"].digest)
    assert table is not None
    total, results = average_payout(table, leg, 9_999)
    paid = sum(paid for result in RESULTS[rules] for _, _, paid in paid_legs(rules, leg, 9_999, result))
    assert Fraction(total, results) == Fraction(paid, len(RESULTS[rules]))


# --- responses that a folder does not give -------------------------------------------------------------------------


def altered(read: str, alter: Callable[[Document], None]) -> list[Difference]:
    reads = FakeReads(scenario_records())

    def altered(name: str, _user_id: str, answer: Document | None) -> Document | None:
        if name == read:
            assert answer is not None
            alter(answer)
        return answer

    reads.altered = altered
    return compared(scenario_records(), reads)[1]


def test_the_reads_of_the_scenario_agree_page_by_page() -> None:
    reads = FakeReads(scenario_records(), page=1)
    games, differences = compared(scenario_records(), reads)
    assert differences == []
    assert games.periods == len([read for read, _ in reads.calls if read == "period"]) > 0
    assert [read for read, _ in reads.calls].count("periods") == games.periods


def test_a_payout_counts_in_the_hour_of_its_bet() -> None:
    records = bets_of_days(3)
    games, differences = compared(records, FakeReads(records))
    assert differences == []
    assert len(games.hours) == 3


def _unreadable(_answer: Document) -> None:
    raise Unreadable("broken")


def _from_before(answer: Document) -> None:
    answer["as_of"]["positions"] = ["0:1"]


@pytest.mark.parametrize("read", ["periods", "period", "house"])
def test_a_response_that_is_no_document_or_names_no_positions_is_a_difference(read: str) -> None:
    assert all("broken" in one.found for one in altered(read, _unreadable))
    for alter, field in ((_unreadable, ""), (_from_before, "as_of.positions")):
        differences = altered(read, alter)
        assert differences
        assert {one.field for one in differences} == {field}


@pytest.mark.parametrize("read", ["periods", "house"])
def test_a_repeated_a_missing_and_a_strange_item_are_differences(read: str) -> None:
    def repeat(answer: Document) -> None:
        answer["items"].append(answer["items"][-1])

    def drop(answer: Document) -> None:
        answer["items"].pop()

    def strange(answer: Document) -> None:
        answer["items"] = [7]

    for alter in (repeat, drop, strange):
        assert {one.field.partition("[")[0] for one in altered(read, alter)} <= {"items", ""}
        assert altered(read, alter)


def test_a_page_that_ends_too_early_or_never_is_a_difference() -> None:
    def never(answer: Document) -> None:
        answer["items"], answer["next_cursor"] = [], "20200101T000000Z"

    assert {one.read.rpartition("/")[2] for one in altered("periods", never)} == {"periods"}


def test_a_game_that_is_no_longer_played_is_named_and_the_others_are_compared() -> None:
    reads = FakeReads(scenario_records())
    reads.games = lambda: {"external"}  # type: ignore[method-assign]
    games, differences = compared(scenario_records(), reads)
    assert differences == []
    assert games.games_unknown
    assert games.periods == 0
    assert games.hours


def test_a_settlement_of_an_unknown_bet_ends_reconcile() -> None:
    (event,) = [
        json.loads(record)
        for part in scenario_records()
        for record in part
        if '"type":"bet_settled"' in record.decode()
    ][:1]
    forged = json.dumps({**event, "partition": 0, "seq": 1}, separators=(",", ":")).encode()
    with pytest.raises(UnknownRecord, match="0:1 refers to something that does not exist"):
        compared([[forged]], FakeReads([[forged]]))
