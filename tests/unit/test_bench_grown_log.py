"""The log that `stakelog bench` writes without a service."""

import asyncio
from hashlib import sha256
from pathlib import Path

import pytest

from bench.figures import BenchError
from bench.load import bodies
from bench.load.grown_log import RECORDS_PER_ROW, grow
from ledger.core.bet_events import BetPlaced
from ledger.core.commands import PlaceBet, canonical
from ledger.core.events import Event
from ledger.core.position import partition_of
from ledger.core.record import EMPTY, encode
from ledger.sqlite.folder import EVENTS
from ledger.sqlite.log import SqliteEventLog
from ledger.sqlite.readers import SqliteLogReader
from projections.projecting.partition import Link, continue_chain

PARTITIONS = 3
EVENTS_WRITTEN = 2 * PARTITIONS * RECORDS_PER_ROW + 5


@pytest.fixture
def links(tmp_path: Path) -> list[Link]:
    asyncio.run(SqliteEventLog(tmp_path / EVENTS, PARTITIONS).close())
    assert grow(tmp_path, EVENTS_WRITTEN).done == EVENTS_WRITTEN
    log = SqliteLogReader(tmp_path / EVENTS)
    found: list[Link] = []
    for partition in range(PARTITIONS):
        chained = continue_chain(partition, EMPTY, log.read(partition, 1, EVENTS_WRITTEN))
        assert not chained.forks
        found += chained.links
    log.close()
    return found


def placed_by(link: Link) -> tuple[Event, BetPlaced]:
    assert link.event is not None
    assert isinstance(link.event.data, BetPlaced)
    return link.event, link.event.data


def test_each_record_continues_its_partition(links: list[Link]) -> None:
    assert len(links) == EVENTS_WRITTEN
    assert all(partition_of(link.user_id, PARTITIONS) == link.place.partition for link in links)


def test_the_records_have_the_bytes_that_the_service_writes(links: list[Link]) -> None:
    prev = dict.fromkeys(range(PARTITIONS), EMPTY.sha256)
    for link in links:
        event, _ = placed_by(link)
        assert encode(event, link.place, prev[link.place.partition]) == link.record
        prev[link.place.partition] = sha256(link.record).hexdigest()


def test_each_bet_has_the_hash_of_its_command_and_the_balance_after_it(links: list[Link]) -> None:
    cash: dict[str, int] = {}
    for link in links:
        event, bet = placed_by(link)
        command = PlaceBet(
            command_id=event.command_id,
            user_id=event.user_id,
            bet_id=bet.bet_id,
            game=bet.game,
            period=bet.period,
            selection=bet.selection,
            asset=bet.asset,
            stake=bet.stake,
        )
        assert event.request_sha256 == sha256(canonical(command)).hexdigest()
        cash[event.user_id] = cash.get(event.user_id, bodies.FUNDS_MINOR) - bet.stake
        assert event.balances["INR"].cash == cash[event.user_id]


def test_a_folder_without_a_log_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="cannot be filled"):
        grow(tmp_path / "missing", 1)
