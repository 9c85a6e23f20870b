"""The arithmetic behind `stakelog bench`, and the bytes that it sends."""

from collections import Counter

import msgspec
import pytest
from rich.console import Console

from bench.command import NAMES
from bench.figures import BenchError, Bound, Row, Slice, Target, percentile, ratio_of, slice_of, summary_of
from bench.lab.one_node import QUICK
from bench.load import bodies
from bench.measures.commands import MEASURES, steps
from bench.report import load_text, table_of, three_figures
from ledger.core.commands import AnyCommand


def test_a_percentile_is_one_of_the_values_by_nearest_rank() -> None:
    ordered = [float(value) for value in range(1, 101)]
    assert percentile(ordered, 0.50) == 50
    assert percentile(ordered, 0.95) == 95
    assert percentile(ordered, 0.99) == 99
    assert percentile(ordered, 1) == 100
    assert percentile([7.0], 0.99) == 7
    assert percentile([1.0, 2.0], 0.51) == 2


def test_a_slice_gives_its_rate_and_its_latencies_in_milliseconds() -> None:
    one = slice_of(done=300, took_s=1.5, latencies_s=[0.003, 0.001, 0.002])
    assert one.rate == 200
    assert (one.p50_ms, one.p95_ms, one.p99_ms) == (2, 3, 3)


def test_a_slice_has_its_median_p95_and_p99() -> None:
    one = slice_of(done=200, took_s=1.0, latencies_s=[value / 1000 for value in range(200, 0, -1)])
    assert (one.p50_ms, one.p95_ms, one.p99_ms) == (100, 190, 198)


def test_a_slice_without_responses_is_an_error_and_not_a_rate() -> None:
    with pytest.raises(BenchError):
        slice_of(done=0, took_s=1.0, latencies_s=[])


def test_a_summary_takes_each_median_by_itself() -> None:
    taken = [Slice(100, 1.0, 1.0, 5.0, 9.0), Slice(300, 1.0, 3.0, 4.0, 8.0), Slice(200, 1.0, 2.0, 6.0, 7.0)]
    summary = summary_of(taken)
    assert (summary.rate, summary.p50_ms, summary.p95_ms, summary.p99_ms) == (200, 2, 5, 8)


def test_a_ratio_is_made_pair_by_pair_so_that_weather_that_hits_both_sides_of_a_pair_does_not_count() -> None:
    ratio = ratio_of([100, 10, 50], [200, 20, 100])
    assert (ratio.min, ratio.median, ratio.max) == (0.5, 0.5, 0.5)


def test_sides_of_different_length_are_not_pairs() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ratio_of([1.0, 2.0], [1.0])


@pytest.mark.parametrize(
    ("target", "figure", "met"),
    [
        (Target(Bound.AT_LEAST, 0.65), 0.65, True),
        (Target(Bound.AT_LEAST, 0.65), 0.649, False),
        (Target(Bound.AT_MOST, 3), 3, True),
        (Target(Bound.AT_MOST, 3), 3.01, False),
    ],
)
def test_a_target_is_met_when_it_is_just_reached(target: Target, figure: float, *, met: bool) -> None:
    assert target.met_by(figure) is met
    assert Row("m", "n", "o", target=target, judged=figure).met is met


def test_a_row_without_a_target_has_no_verdict() -> None:
    assert Row("m", "n", "o", judged=1.0).met is None


def test_numbers_are_shown_with_three_figures() -> None:
    shown = [three_figures(number) for number in (0.2134, 12.345, 999.4, 4_567, 43_217, 123_456)]
    assert shown == ["0.213", "12.3", "999", "4,570", "43,200", "123,000"]
    assert load_text(Slice(20_412, 1.0, 2.834, 9.0, 15.61)) == "20,400/s (2.83 · 15.6 ms)"


def test_the_table_says_the_verdict_in_words() -> None:
    target = Target(Bound.AT_LEAST, 0.65, "×")
    rows = [
        Row("a", "first", "1/s", ratio=ratio_of([0.7], [1.0]), target=target, judged=0.7),
        Row("b", "second", "2/s", target=Target(Bound.AT_LEAST, 40_000, "/s"), judged=9.0),
    ]
    console = Console(width=160, no_color=True)
    with console.capture() as shown:
        console.print(table_of(rows, "title", "caption"))
    text = shown.get()
    assert "0.70 · 0.70 · 0.70" in text
    assert "≥ 0.65×" in text
    assert "met" in text
    assert "≥ 40,000/s" in text
    assert "missed" in text


def test_every_request_holds_commands_that_the_ledger_can_read_under_ids_of_their_own() -> None:
    bets = list(bodies.bets("s1", bodies.picks("zipf", 500, seed=1)))
    opened = [command for wallet in bodies.openings(0, 3, with_bet=True) for command in wallet]
    commands = [msgspec.json.decode(body, type=AnyCommand) for body in bets + opened]
    assert len({(command.user_id, command.command_id) for command in commands}) == 509


def test_a_request_states_the_length_of_its_body() -> None:
    (batch,) = bodies.batches(bodies.bets("s1", [1, 2, 3]), 3)
    head, _, body = batch.partition(b"\r\n\r\n")
    assert f"content-length: {len(body)}".encode() in head
    assert head.startswith(b"POST /v1/commands/batch HTTP/1.1\r\n")
    assert len(msgspec.json.decode(body)) == 3


def test_zipf_prefers_the_first_wallet_hot_knows_no_other_and_uniform_prefers_none() -> None:
    zipf, hot, uniform = (Counter(bodies.picks(which, 20_000, seed=7)) for which in ("zipf", "hot", "uniform"))
    assert zipf.most_common(1)[0][0] == 0
    assert 0.12 < zipf[0] / 20_000 < 0.18
    assert set(hot) == {0}
    assert max(uniform.values()) < 20


def test_the_command_offers_every_measure_and_each_has_its_steps() -> None:
    assert tuple(MEASURES) == NAMES
    assert all(steps(QUICK, [name]) > 0 for name in NAMES)
