"""From records to rows: the chain rule, runs of any size, and events on which a fold fails."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Final

import msgspec
import pytest
from msgspec.structs import replace

from ledger.core.bet_events import BetPlaced
from ledger.core.events import Event
from ledger.core.money import AMOUNT_MAX
from ledger.core.position import Position
from ledger.core.record import EMPTY, Head, decode, encode, sha256_hex
from ledger.core.wallet import DAY_US
from ledger.errors import LogDamaged
from projections import models as folds
from projections.models import ROW_TYPES
from projections.models.statistics import StatisticsRow
from projections.projecting.partition import continue_chain
from projections.storage.port import Overtaken, Quarantined
from projections.tables.model import ByType, Fold
from projections.tables.row_buffer import RowBuffer
from projections.tables.rows import add_digests, digest_function
from properties.reads_scenario import make_scenario
from unit.given import Scene, deposit, open_wallet, place_bet, settle_bet
from unit.read_model import ReadModel, Tables

_FOLDS: Final = "projections.projecting.partition.FOLDS"


def chained(events: Iterable[Event], partition: int = 0, prev: str = EMPTY.sha256, seq: int = 0) -> list[bytes]:
    """The events' records as a chain."""
    records = []
    for event in events:
        seq += 1
        records.append(encode(event, Position(partition, seq), prev))
        prev = sha256_hex(records[-1])
    return records


def deposits(*users: str, first: int = 1) -> list[Event]:
    """A deposit of 1 INR for each name. The events that open the wallets are left out."""
    scene = Scene()
    opened = dict.fromkeys(users)
    scene.given(*(open_wallet(user_id) for user_id in opened))
    for number, user_id in enumerate(users, first):
        scene.given(deposit(1, f"o{number}", user_id=user_id))
    return scene.events[len(opened) :]


def unreadable(record: bytes) -> bytes:
    """The same envelope with an unknown event type."""
    return record.replace(b'"type":"deposited"', b'"type":"conjured"')


def rechained(records: Iterable[bytes]) -> list[bytes]:
    """The records with every ``prev`` corrected."""
    prev, made = EMPTY.sha256, []
    for record in records:
        fields = msgspec.json.decode(record)
        made.append(msgspec.json.encode({**fields, "prev": prev}))
        prev = sha256_hex(made[-1])
    return made


def refusing(*refused: str) -> tuple[Callable[..., None], ...]:
    """All folds, and one more that fails on deposits of these orders."""

    def fold(event: Event, place: Position, book: RowBuffer) -> None:
        if getattr(event.data, "order_id", None) in refused:
            raise ValueError(f"{event.data.type} cannot be folded")  # after the other folds have changed rows

    return (*folds.FOLDS, fold)


def cash(tables: Tables) -> dict[str, int]:
    return {row.user_id: row.cash for row in tables["asset"]}  # type: ignore[attr-defined]


# --- the chain rule -------------------------------------------------------------------------------------------------


def test_a_record_that_continues_the_last_event_is_an_event() -> None:
    records = chained(deposits("a", "b", "a"))
    found = continue_chain(0, EMPTY, records)
    assert [link.record for link in found.links] == records
    assert found.head == Head(3, sha256_hex(records[-1]))
    assert found.forks == 0


def test_a_fork_is_skipped_and_the_record_that_continues_the_event_before_it_is_folded() -> None:
    """In log order: 6, another 6, a 7 that continues the other 6, and the 7 that continues the first."""
    first = chained(deposits("a", "a", "a", "a", "a"))
    at = Head(5, sha256_hex(first[-1]))
    six, seven = chained(deposits("b", "b", first=6), prev=at.sha256, seq=5)
    other_six, other_seven = chained(deposits("c", "c", first=6), prev=at.sha256, seq=5)
    found = continue_chain(0, at, [six, other_six, other_seven, seven])
    assert [link.record for link in found.links] == [six, seven]
    assert found.forks == 2
    assert found.head == Head(7, sha256_hex(seven))


def test_records_after_a_gap_of_another_partition_or_with_another_prev_are_no_events() -> None:
    one, two, three = chained(deposits("a", "a", "a"))
    assert continue_chain(0, EMPTY, [three, two]).links == []
    assert continue_chain(1, EMPTY, [one]).links == []
    (elsewhere,) = chained(deposits("a"), partition=1)
    assert continue_chain(0, EMPTY, [elsewhere]).forks == 1
    (other_start,) = chained(deposits("a"), prev="1" * 64)
    assert continue_chain(0, EMPTY, [other_start]).forks == 1


def test_an_event_that_cannot_be_decoded_is_still_an_event() -> None:
    one, two = chained(deposits("a", "a"))
    one, two = rechained([unreadable(one), two])
    found = continue_chain(0, EMPTY, [one, two])
    assert [link.event is None for link in found.links] == [True, False]
    assert (found.links[0].user_id, found.links[0].place) == ("a", (0, 1))
    assert "'conjured' is no event type" in found.links[0].reason


@pytest.mark.parametrize("record", [b"", b"{}", b"\xff\xfe", b"[1,2]", b'{"seq":1}', b"[" * 100_000], ids=repr)
def test_bytes_that_are_no_record_are_damage(record: bytes) -> None:
    good = chained(deposits("a"))
    with pytest.raises(LogDamaged) as damage:
        continue_chain(0, EMPTY, [*good, record])
    assert (damage.value.partition, damage.value.seq) == (0, 2)


# --- runs -----------------------------------------------------------------------------------------------------------


async def test_forks_are_counted_once_however_often_their_run_is_tried(tmp_path: Path) -> None:
    one, two = chained(deposits("a", "a"))
    (fork,) = chained(deposits("b"))
    model = await ReadModel.empty(tmp_path, [[]])
    folder = await model.folder()
    for _ in range(3):
        assert await folder.fold([one, fork, two]) is not None
        folder.discard()
    assert folder.forks == 0
    await model.fold(folder, [one, fork, two])
    assert folder.forks == 1
    assert await model.fold(folder, [fork]) is None
    assert folder.forks == 2
    await model.store.close()


async def test_records_delivered_again_change_nothing(tmp_path: Path) -> None:
    records = chained(deposits("a", "b", "a"))
    model = await ReadModel.empty(tmp_path, [records])
    folder = await model.folder()
    await model.fold(folder, records[:2])
    assert await folder.fold(records[:2]) is None
    await model.fold(folder, records)
    expected = await model.rows(), await model.checkpoint()
    assert cash(expected[0]) == {"a": 2, "b": 1}
    assert await folder.fold(records) is None
    assert await (await model.folder()).fold(records) is None
    assert (await model.rows(), await model.checkpoint()) == expected
    await model.store.close()


async def test_two_projectors_of_one_partition_fold_nothing_twice(tmp_path: Path) -> None:
    records = chained(deposits("a", "b", "a"))
    model = await ReadModel.empty(tmp_path, [records])
    one, other = await model.folder(), await model.folder()
    run = await other.fold(records)
    assert run is not None
    await model.fold(one, records[:2])
    with pytest.raises(Overtaken):
        await model.store.commit(model.generation, [run])
    other.discard()
    await model.fold(await model.folder(), records)
    assert cash(await model.rows()) == {"a": 2, "b": 1}
    await model.store.close()


async def test_a_discarded_run_leaves_no_trace(tmp_path: Path) -> None:
    records = chained(deposits("a", "b", "a"))
    model = await ReadModel.empty(tmp_path, [records])
    folder = await model.folder()
    await model.fold(folder, records[:1])
    assert await folder.fold(records[1:]) is not None
    folder.discard()
    await model.fold(folder, records[1:])
    assert cash(await model.rows()) == {"a": 2, "b": 1}
    await assert_digests_are_of_the_rows(model)
    await model.store.close()


async def assert_digests_are_of_the_rows(model: ReadModel, partition: int = 0) -> None:
    sums = {
        table: add_digests(0, sum(digest_function(table)(row) for row in rows))
        for table, rows in (await model.rows(partition)).items()
        if rows
    }
    assert (await model.checkpoint(partition)).digests == sums


@pytest.mark.parametrize(
    ("seed", "rows_max"),
    [
        (19, 7),
        (0, None),
        *(pytest.param(seed, most, marks=pytest.mark.system) for seed in (10, 15, 18) for most in (None, 0, 1, 60)),
    ],
)
def test_however_a_log_is_cut_into_runs_the_rows_and_digests_are_the_same(
    seed: int, rows_max: int | None, tmp_path: Path
) -> None:
    scenario = make_scenario(seed, partitions=2).partitions
    asyncio.run(fold_in_any_runs(scenario, Random(f"{seed} {rows_max}"), rows_max, tmp_path))


async def fold_in_any_runs(scenario: list[list[bytes]], chance: Random, rows_max: int | None, path: Path) -> None:
    (path / "at once").mkdir()
    at_once = await ReadModel.folded(path / "at once", scenario)
    model = await ReadModel.empty(path, scenario)
    for partition, records in enumerate(scenario):
        folder = await model.folder(partition, rows_max)
        done = 0
        while done < len(records):
            size = chance.choice((1, 1, 2, 3, 10, 50))
            run = await folder.fold(records[max(0, done - chance.choice((0, 0, 2))) : done + size])
            assert run is not None
            match chance.randrange(10) if partition else None:  # partition 0 has a calm day: its book stays complete
                case 0:
                    folder.discard()
                    continue
                case 1:  # the process ends, before or after it has stored the run
                    if chance.random() < 0.5:
                        await model.store.commit(model.generation, [run])
                    folder = await model.folder(partition, rows_max)
                case _:
                    await model.keep(folder, run)
            done = folder.head.seq
        assert await model.rows(partition) == await at_once.rows(partition)
        assert await model.checkpoint(partition) == await at_once.checkpoint(partition)
        await assert_digests_are_of_the_rows(model, partition)
    await model.store.close()
    await at_once.store.close()


# --- quarantine ----------------------------------------------------------------------------------------


async def test_a_failed_fold_quarantines_its_user_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = chained(deposits("a", "b", "a", "a", "b"))
    model = await ReadModel.empty(tmp_path, [records])
    monkeypatch.setattr(_FOLDS, refusing("o3"))
    run = await model.fold(await model.folder(), records)
    assert run is not None
    assert cash(await model.rows()) == {"a": 1, "b": 2}, "the earlier event of the run is taken, the later one is not"
    assert await model.store.quarantine(1) == [
        Quarantined(0, "a", 3, run.quarantined[0].time_us, "ValueError: deposited cannot be folded")
    ]
    assert [event.seq for event in await model.store.quarantined_events(1, 0, "a", 10)] == [3, 4]
    assert (await model.checkpoint()).head == Head(5, sha256_hex(records[-1]))
    await assert_digests_are_of_the_rows(model)
    await model.store.close()


async def test_later_events_of_a_quarantined_user_are_quarantined_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = chained(deposits("a", "b", "a", "b", "a"))
    model = await ReadModel.empty(tmp_path, [records])
    folder = await model.folder()
    with monkeypatch.context() as broken:
        broken.setattr(_FOLDS, refusing("o3"))
        await model.fold(folder, records[:3])
    await model.fold(folder, records[3:4])
    await model.fold(await model.folder(), records[4:])
    assert cash(await model.rows()) == {"a": 1, "b": 2}
    assert [event.record for event in await model.store.quarantined_events(1, 0, "a", 10)] == [records[2], records[4]]
    assert [one.seq for one in await model.store.quarantine(1)] == [3]
    await model.store.close()


@pytest.mark.parametrize("size", [1, 2, 100])
async def test_after_a_fix_the_quarantined_events_are_folded_in_order_and_leave_no_trace(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = chained(deposits("a", "b", "a", "c", "b", "a", "c", "b"))
    (tmp_path / "other").mkdir()
    expected = await ReadModel.folded(tmp_path / "other", [records])
    model = await ReadModel.empty(tmp_path, [records])
    folder = await model.folder()
    with monkeypatch.context() as broken:
        broken.setattr(_FOLDS, refusing("o3", "o4", "o8"))
        for start in range(0, len(records), size):
            await model.fold(folder, records[start : start + size])
        stopped = await model.store.quarantine(1)
        assert sorted((one.user_id, one.seq) for one in stopped) == [("a", 3), ("b", 8), ("c", 4)]
        for one in stopped:
            assert await folder.retry_quarantined(one) is None, "the fold still fails"
    for one in stopped:
        run = await folder.retry_quarantined(one)
        assert run is not None
        await model.keep(folder, run)
    assert await model.store.quarantine(1) == []
    assert await model.store.quarantined_events(1, 0, "a", 10) == []
    assert await model.rows() == await expected.rows()
    assert await model.checkpoint() == await expected.checkpoint()
    assert folder.quarantined == set()
    await model.store.close()
    await expected.store.close()


async def test_a_retry_folds_up_to_the_next_failing_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = chained(deposits("a", "a", "a", "a"))
    model = await ReadModel.empty(tmp_path, [records])
    folder = await model.folder()
    with monkeypatch.context() as broken:
        broken.setattr(_FOLDS, refusing("o2", "o4"))
        await model.fold(folder, records)
    monkeypatch.setattr(_FOLDS, refusing("o4"))
    (stopped,) = await model.store.quarantine(1)
    run = await folder.retry_quarantined(stopped)
    assert run is not None
    await model.keep(folder, run)
    assert cash(await model.rows()) == {"a": 3}
    assert [(one.user_id, one.seq) for one in await model.store.quarantine(1)] == [("a", 4)]
    assert [event.seq for event in await model.store.quarantined_events(1, 0, "a", 10)] == [4]
    assert folder.quarantined == {"a"}
    await assert_digests_are_of_the_rows(model)
    await model.store.close()


async def test_many_quarantined_events_are_folded_in_several_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projections.projecting.partition._RETRY_EVENTS_MAX", 10)
    many = 23
    *records, late = chained(deposits(*["a"] * many, "b", "a"))
    model = await ReadModel.empty(tmp_path, [records])
    folder = await model.folder()
    with monkeypatch.context() as broken:
        broken.setattr(_FOLDS, refusing("o1"))
        await model.fold(folder, records)
    assert cash(await model.rows()) == {"b": 1}
    runs = 0
    while waiting := await model.store.quarantine(1):
        run = await folder.retry_quarantined(waiting[0])
        assert run is not None
        await model.keep(folder, run)
        runs += 1
        if runs == 1:
            await model.fold(folder, [late])
            many += 1
        assert cash(await model.rows())["a"] == min(many, runs * 10)
    assert runs == 3
    assert await model.store.quarantined_events(1, 0, "a", 10) == []
    await assert_digests_are_of_the_rows(model)
    await model.store.close()


async def test_an_unreadable_payload_quarantines_its_user(tmp_path: Path) -> None:
    records = rechained(
        [unreadable(record) if n == 1 else record for n, record in enumerate(chained(deposits("a", "a", "b")))]
    )
    model = await ReadModel.empty(tmp_path, [records])
    await model.fold(await model.folder(), records)
    (stopped,) = await model.store.quarantine(1)
    assert (stopped.user_id, stopped.seq, stopped.reason) == ("a", 2, "'conjured' is no event type")
    assert cash(await model.rows()) == {"a": 1, "b": 1}
    await model.store.close()


async def test_the_first_event_of_the_log_can_be_quarantined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = chained(deposits("a", "b"))
    model = await ReadModel.empty(tmp_path, [records])
    monkeypatch.setattr(_FOLDS, refusing("o1"))
    await model.fold(await model.folder(), records)
    assert cash(await model.rows()) == {"b": 1}
    await assert_digests_are_of_the_rows(model)
    await model.store.close()


async def test_an_event_about_a_missing_bet_quarantines_its_user(tmp_path: Path) -> None:
    """The settled bet was never placed. The fold must not guess, and must not make a row of zeros."""
    scene = Scene.with_cash(100).given(place_bet(5), settle_bet(9))
    (record,) = chained(scene.events[-1:])
    model = await ReadModel.empty(tmp_path, [[record]])
    await model.fold(await model.folder(), [record])
    assert [one.user_id for one in await model.store.quarantine(1)] == ["u1"]
    assert all(rows == [] for rows in (await model.rows()).values())
    await model.store.close()


async def test_sums_over_all_time_have_no_bound(tmp_path: Path) -> None:
    """2^53 − 1 again and again: no integer of a database holds what a user has staked in the end."""
    many = 1_100
    scene = Scene().given(open_wallet())
    stake = AMOUNT_MAX
    played = scene.given(deposit(stake), place_bet(stake), settle_bet(stake)).events
    again = [replace(event, data=replace(event.data, bet_id=f"{n}")) for n in range(many) for event in played[2:]]
    given = [replace(played[1], data=replace(played[1].data, order_id=f"{n}")) for n in range(many)]
    records = chained([played[0], *given, *again])
    model = await ReadModel.empty(tmp_path, [records])
    await model.fold(await model.folder(), records)
    assert await model.store.quarantine(1) == []
    by_game = {row.game: row for row in (await model.rows())["statistics"] if isinstance(row, StatisticsRow)}
    assert int(by_game["external"].staked) == int(by_game["external"].paid_out) == many * stake > 2**63
    assert int(by_game[""].deposits) == many * stake
    await model.store.close()


# --- what the rows mean ---------------------------------------------------------------------------------------------

MEANING: Final = {9: "8f0974b081c981c6", 10: "476189a50a9fb7cf", 11: "10705d78f734a725"}
"""Version of the folds → the digest of the rows that it makes of the published scenario of every event."""


def books_of_the_published_scenario(
    folds_of: Callable[[Event], Sequence[Fold]] = lambda _: folds.FOLDS,
) -> list[RowBuffer]:
    scenario_file = Path(__file__).parents[2] / "schemas" / "vectors" / "scenario.json"
    books = []
    for partition in msgspec.json.decode(scenario_file.read_bytes())["partitions"]:
        books.append(RowBuffer(ROW_TYPES, {}, complete=True))
        bet: Event | None = None
        for record in partition["records"]:
            place, _, event = decode(record.encode())
            for fold in folds_of(event):
                fold(event, place, books[-1])
            bet = event if isinstance(event.data, BetPlaced) else bet
        if bet is not None:  # another one in the next month, so that there are rows of days that have ended
            later = replace(bet, time_us=bet.time_us + 31 * DAY_US, data=replace(bet.data, bet_id="later"))
            for fold in folds_of(later):
                fold(later, Position(place.partition, place.seq + 1), books[-1])
    return books


def test_a_model_names_every_type_of_event_that_its_functions_handle() -> None:
    of_type = ByType(folds.FOLDS, folds.TYPES_OF)
    books = books_of_the_published_scenario(lambda event: of_type[type(event.data)])
    assert [book.digests() for book in books] == [book.digests() for book in books_of_the_published_scenario()]


def test_a_fold_that_makes_other_rows_has_another_version() -> None:
    digests = [sorted(book.digests().items()) for book in books_of_the_published_scenario()]
    meaning = sha256(repr(digests).encode()).hexdigest()[:16]
    assert MEANING.get(folds.VERSION) == meaning, (
        f"the folds make other rows of the same events than version {folds.VERSION} did: raise folds.VERSION, so "
        f"that existing read models are rebuilt and not folded further, and add its digest, {meaning!r}, to MEANING. "
        "Only where the published scenario itself is another one, put it in place of the old digest"
    )


def test_the_scenario_that_holds_the_version_has_rows_in_every_table() -> None:
    tables = {kind.table for book in books_of_the_published_scenario() for kind, _ in book.changes()}
    assert tables == {kind.table for kind in ROW_TYPES}
