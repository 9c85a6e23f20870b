"""Every statement of the reads uses an index: its query plan on 100,000 rows of one wallet and more of others shows
it.

The planner has seen the rows (ANALYZE), so it chooses as it will in a service that has run for a while.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import chain, combinations
from pathlib import Path
from random import Random
from typing import Any, Final

import msgspec
import pytest
from sqlalchemy.dialects import sqlite

from projections.models import ROW_TYPES, adjustments, orders
from projections.models.adjustments import AdjustmentRow
from projections.models.bets import (
    BetRow,
    bet_statement,
    bets_statement,
    placed_after_statement,
    settled_after_statement,
)
from projections.models.cohorts import days_statement, sizes_statement
from projections.models.gifts import gifts_statement
from projections.models.grants import GrantRow, grants_statement
from projections.models.history import HistoryRow, balances_at_statement, balances_statement, history_statement
from projections.models.holds import HoldRow, hold_statement, holds_statement
from projections.models.house import HouseRow, house_statement
from projections.models.leaderboards import EndedRow, StandingRow, has_begun_statement, leaders_statement
from projections.models.movers import movers_statement
from projections.models.orders import OrderRow, order_statement
from projections.models.periods import (
    PeriodRow,
    SelectionRow,
    distribution_statement,
    outcomes_statement,
    period_statement,
    periods_statement,
)
from projections.models.referrals import referrals_statement
from projections.models.statistics import StatisticsRow, statistics_statement
from projections.models.transfers import TransferRow, transfer_statement, transfers_statement
from projections.models.wallet_list import OpenedRow, quarantined_statement, wallets_statement
from projections.models.wallets import AssetRow, WalletRow, assets_statement
from projections.reads import statements
from projections.storage.common import create_index, create_table, ready
from projections.tables.queries import Builder
from projections.tables.rows import Row
from projections.tables.tables import CHECKPOINT, COMMON, Tables

pytestmark = pytest.mark.system

BIG: Final = "big"
LINES: Final = 100_000
KEY_OF_HISTORY: Final = "USING INDEX sqlite_autoindex_history"
PARTITIONS: Final = 4
TYPES: Final = ("bet_placed", "bet_settled", "deposited", "hold_placed")
GAMES: Final = ("external", "roulette", None)
TABLES: Final = Tables(1, ROW_TYPES)


def some(names: tuple[str, ...]) -> list[frozenset[str]]:
    """Every subset."""
    return [frozenset(chosen) for number in range(len(names) + 1) for chosen in combinations(names, number)]


HISTORY: Final = some(("type", "asset", "game", "from_us", "to_us", "after"))
BETS: Final = [
    *some(("game", "period", "status", "after")),
    *(conditions | {"after", "kept", "status"} for conditions in some(("game", "period"))),
    *(conditions | {"after", "left"} for conditions in some(("game", "period"))),
]
ADJUSTMENTS: Final = [
    *some(("status", "after")),
    *(frozenset({"status", "after", changed, "known=2"}) for changed in ("kept", "left")),
]
QUEUE: Final = [*ADJUSTMENTS, *(frozenset({"kind", *after}) for after in ((), ("after",)))]
ORDERS: Final = [*QUEUE, *(conditions | {"partition", "user_id"} for conditions in QUEUE)]
WALLETS: Final = [
    frozenset({*first, *then}) for first in ((), ("prefix",), ("users=3",)) for then in ((), ("after",))
]
NONE: Final = frozenset[str]()
ASKED: Final[list[tuple[Builder, frozenset[str]]]] = [
    *((history_statement, conditions) for conditions in HISTORY),
    *((bets_statement, conditions) for conditions in BETS),
    *((orders.LIST.statement, conditions) for conditions in ORDERS),
    *((adjustments.LIST.statement, conditions) for conditions in ADJUSTMENTS),
    *((wallets_statement, conditions) for conditions in WALLETS),
    (quarantined_statement, frozenset({"users=3"})),
    *((gifts_statement, conditions) for conditions in some(("after",))),
    *(
        (builder, conditions)
        for builder in (transfers_statement, grants_statement)
        for conditions in some(("after",))
    ),
    *((leaders_statement, frozenset({measure, "day"})) for measure in ("staked", "won", "net")),
    (has_begun_statement, frozenset({"day"})),
    *((movers_statement, frozenset({of})) for of in ("gained", "lost")),
    *((builder, frozenset({"summed"})) for builder in (sizes_statement, days_statement)),
    *((periods_statement, conditions | {"summed"}) for conditions in some(("after",))),
    *((house_statement, frozenset({by, "summed", *only})) for by in ("hour", "day") for only in ((), ("game",))),
    *((builder, frozenset({"summed"})) for builder in (period_statement, distribution_statement)),
    (settled_after_statement, frozenset({"few"})),
    *((holds_statement, conditions) for conditions in some(("after",))),
    *(
        (builder, NONE)
        for builder in (
            statements.user_status,
            statements.oldest_quarantine,
            statements.quarantined_users,
            orders.LIST.changes_statement,
            adjustments.LIST.changes_statement,
            assets_statement,
            balances_at_statement,
            balances_statement,
            bet_statement,
            placed_after_statement,
            outcomes_statement,
            hold_statement,
            transfer_statement,
            order_statement,
            statistics_statement,
            referrals_statement,
        )
    ),
]
SORTED: Final = frozenset({"summed", "few", "left", "staked", "won", "net", "gained", "lost", "prefix", "users=3"})
"""Conditions whose rows may be sorted in memory: few rows change while a client pages, or is away; a leaderboard
sorts all its users; the few rows of periods are added up; the wallets of a prefix are found by their names and
sorted by their times."""
OF_ALL_USERS: Final = (leaders_statement, has_begun_statement, movers_statement)
"""These read the standings of all users."""


def rows(chance: Random, lines: int = LINES) -> Iterator[tuple[int, Row]]:
    """``lines`` of one wallet, and as many of a thousand others."""
    users = [f"player-{number}" for number in range(1_000)]
    for number, user_id in enumerate(chain([BIG] * lines, (users[number % 1_000] for number in range(lines)))):
        partition = 1 if user_id == BIG else int(user_id[7:]) % PARTITIONS
        seq, time_us = number + 1, 1_700_000_000_000_000 + number * 1_000
        game, asset = chance.choice(GAMES), chance.choice(("INR", "GOLD"))
        yield (
            partition,
            HistoryRow(
                user_id,
                time_us,
                seq,
                asset,
                chance.choice(TYPES),
                game or "",
                f"c-{seq}",
                -5,
                0,
                0,
                95,
                0,
                0,
                '{"a":1}',
            ),
        )
        settled = chance.random() < 0.99
        status = chance.choice(("won", "lost", "cancelled")) if settled else "open"
        yield (
            partition,
            BetRow(
                user_id,
                f"bet-{seq}",
                game or "external",
                f"round-{seq // 100}",
                "red",
                asset,
                5,
                status,
                None,
                seq,
                time_us,
                seq + 9 if settled else None,
                time_us + 9 if settled else None,
            ),
        )
        if number % 4 == 0:
            pending = chance.random() < 0.01
            yield (
                partition,
                OrderRow(
                    user_id,
                    f"o-{seq}",
                    "withdrawal",
                    asset,
                    5,
                    0,
                    "pending" if pending else "approved",
                    None,
                    seq,
                    time_us,
                    None if pending else seq + 9,
                    None if pending else time_us + 9,
                ),
            )
            yield (
                partition,
                AdjustmentRow(
                    user_id,
                    f"a-{seq}",
                    asset,
                    5,
                    "why",
                    "proposed" if pending else "approved",
                    "local",
                    None if pending else "op",
                    seq,
                    time_us,
                    None if pending else seq + 9,
                    None if pending else time_us + 9,
                ),
            )
            yield partition, GrantRow(user_id, f"g-{seq}", "grant", asset, 5, 5, None, seq, time_us)
            yield (
                partition,
                HoldRow(user_id, f"h-{seq}", asset, 5, "released", None, None, seq, time_us, seq + 1, time_us),
            )
            yield (
                partition,
                TransferRow(user_id, f"t-{seq}", "player-1", asset, 5, "delivered", None, seq, time_us, time_us),
            )
    for number in range(lines // 4):
        of = ("external", f"round-{number // PARTITIONS:06}")  # the names of games and periods of the plans' values
        yield number % PARTITIONS, PeriodRow(*of, "INR", 0, 3, 0, 9, 0, 5)
        yield number % PARTITIONS, HouseRow("INR", number // PARTITIONS, "external", number // PARTITIONS // 24, 3, 3)
        yield number % PARTITIONS, SelectionRow(*of, "red", "INR", 3, 0, 9)
    for user_id in (BIG, *users):
        partition = 1 if user_id == BIG else int(user_id[7:]) % PARTITIONS
        yield partition, WalletRow(user_id, "open", 1)
        yield partition, OpenedRow(user_id, 1, 1)
        for asset in ("INR", "GOLD"):
            yield partition, AssetRow(user_id, asset, 1)
            yield partition, StatisticsRow(user_id, asset, "external")
            yield partition, StandingRow(user_id, asset, 20, 18, 0, 0, 5, 0, 0, -1, 5)
            for day in range(20):
                yield partition, EndedRow(user_id, asset, "day", day, 0, 5, 0, 0, -1, 5)


@pytest.fixture
def empty_database() -> Iterator[sqlite3.Connection]:
    """Without rows, so without statistics."""
    dialect = sqlite.dialect()
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for table in (*COMMON.sorted_tables, *TABLES.metadata.sorted_tables):
            connection.execute(create_table(table, dialect))
        for index in TABLES.indexes:
            connection.execute(create_index(index, dialect))
        yield connection


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    dialect = sqlite.dialect()
    connection = sqlite3.connect(tmp_path_factory.mktemp("plans") / Path("read-model.sqlite3"), isolation_level=None)
    connection.execute("PRAGMA synchronous=OFF")
    for table in (*COMMON.sorted_tables, *TABLES.metadata.sorted_tables):
        connection.execute(create_table(table, dialect))
    connection.execute("BEGIN")
    put = {
        kind: f"INSERT INTO {table.name} VALUES ({','.join('?' * len(table.c))})" for kind, table in TABLES.of.items()
    }
    for partition, row in rows(Random(1)):
        connection.execute(put[type(row)], (partition, *msgspec.structs.astuple(row)))
    for partition in range(PARTITIONS):
        connection.execute(f"INSERT INTO {CHECKPOINT.name} VALUES (1, {partition}, 1, '', '')")
    connection.execute("COMMIT")
    for index in TABLES.indexes:
        connection.execute(create_index(index, dialect))
    connection.execute("ANALYZE")
    yield connection
    connection.close()


def plan(database: sqlite3.Connection, builder: Builder, conditions: frozenset[str]) -> list[str]:
    statement = ready(builder(TABLES, conditions), sqlite.dialect())
    values: list[Any] = [statement.constants.get(name, 1) for name in statement.names]
    return [row[3] for row in database.execute("EXPLAIN QUERY PLAN " + statement.text, values)]


@pytest.mark.parametrize(
    ("builder", "conditions"),
    ASKED,
    ids=lambda value: value.__name__ if callable(value) else "+".join(sorted(value)) or "plain",
)
def test_a_statement_uses_an_index_and_does_not_sort(
    database: sqlite3.Connection, builder: Builder, conditions: frozenset[str]
) -> None:
    steps = plan(database, builder, conditions)
    ordered_by_index = (
        builder in (orders.LIST.statement, adjustments.LIST.statement, wallets_statement) and not conditions
    )
    for step in steps:
        if step.startswith("SCAN anon"):
            continue  # the page that a subquery has found
        if step == "SCAN standing_g1":
            assert builder in OF_ALL_USERS
            continue
        if step == "SCAN gift_g1" and builder is gifts_statement and not conditions:
            continue  # the first page of all gifts, in the order of their key
        if step.startswith("SCAN"):  # the whole queue, page by page: the index gives its order, nothing narrows it
            assert ordered_by_index, steps
            assert "INDEX" in step, steps
        if step.startswith("SEARCH"):
            assert "INDEX" in step or "PRIMARY KEY" in step, steps
        if "TEMP B-TREE" in step:
            assert SORTED & conditions, steps


@pytest.mark.parametrize("conditions", [NONE, {"asset"}, {"type"}, {"game"}, {"after"}])
def test_a_page_of_history_is_read_in_the_order_of_the_key(
    database: sqlite3.Connection, conditions: frozenset[str]
) -> None:
    (step,) = plan(database, history_statement, frozenset(conditions))
    assert KEY_OF_HISTORY in step, step


def test_each_filter_of_the_history_is_a_column_of_its_key() -> None:
    """So that a filter which matches nothing reads the keys of the wallet and none of its lines."""
    assert {"type", "asset", "game", "time_us"} <= {*HistoryRow.__struct_fields__[: HistoryRow.key_length]}


@pytest.mark.parametrize("conditions", [NONE, {"game"}, {"period"}, {"status"}, {"after"}])
def test_a_page_of_bets_is_found_by_its_one_index(database: sqlite3.Connection, conditions: frozenset[str]) -> None:
    (step,) = plan(database, bets_statement, frozenset(conditions))
    assert "bet_by_time" in step, step


def test_a_balance_at_a_time_looks_once_for_the_last_line_of_each_asset(database: sqlite3.Connection) -> None:
    (step,) = [step for step in plan(database, balances_at_statement, NONE) if "history" in step]
    assert KEY_OF_HISTORY in step, step
    assert "time_us<?" in step, step


@pytest.mark.parametrize("has_statistics", [True, False])
@pytest.mark.parametrize("builder", [sizes_statement, days_statement])
def test_cohorts_are_found_by_their_days_and_their_sums_by_user(
    database: sqlite3.Connection, empty_database: sqlite3.Connection, builder: Builder, has_statistics: bool
) -> None:
    """SQLite has no statistics of the rows in a service."""
    steps = plan(database if has_statistics else empty_database, builder, NONE)
    searches = [step for step in steps if step.startswith("SEARCH")]
    for first, then in zip(searches[::2], searches[1::2], strict=True):
        assert "opened_by_time_g1 (opened_at_us>? AND opened_at_us<?)" in first, steps
        assert "PRIMARY KEY (partition=? AND user_id=?" in then, steps


@pytest.mark.parametrize("builder", [placed_after_statement, settled_after_statement])
def test_what_a_live_feed_lacks_is_found_by_the_index_of_bets(database: sqlite3.Connection, builder: Builder) -> None:
    assert "bet_by_time" in plan(database, builder, NONE)[0]
