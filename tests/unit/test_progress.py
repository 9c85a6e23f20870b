"""What a long command says on a stderr that is no terminal."""

from api.cli.progress import Lines


class Clock:
    def __init__(self) -> None:
        self.s = 100.0

    def __call__(self) -> float:
        return self.s


def told(*steps: tuple[float, str, int, int | None], unit: str = "events") -> list[str]:
    """What is written where this is told, so many seconds after the beginning."""
    clock, written = Clock(), list[str]()
    lines = Lines(unit, write=written.append, now_s=clock)
    for at_s, doing, done, total in steps:
        clock.s = 100.0 + at_s
        lines(doing, done, total)
    return written


def test_a_line_has_the_share_that_is_done_and_the_time_left() -> None:
    assert told((0, "folding", 0, 800), (6, "folding", 200, 800)) == [
        "folding: 200 of 800 events (25 %), about 18 s left"
    ]


def test_a_short_run_is_silent_and_a_long_one_says_a_line_every_few_seconds() -> None:
    assert told(*((n / 10, "folding", n, 49) for n in range(49))) == []
    assert len(told(*((n / 10, "folding", n, 600) for n in range(600)))) in range(10, 13)


def test_what_was_done_before_does_not_count_for_the_time_left() -> None:
    assert told((1, "folding", 700, 1_000), (7, "folding", 800, 1_000)) == [
        "folding: 800 of 1000 events (80 %), about 12 s left"
    ]


def test_each_step_estimates_its_own_time() -> None:
    steps = ((0, "folding", 0, 100), (50, "folding", 100, 100), (51, "comparing", 0, 4), (56, "comparing", 1, 4))
    assert told(*steps, unit="") == [
        "folding: 100 of 100 (100 %), about 0 s left",
        "comparing: 1 of 4 (25 %), about 15 s left",
    ]


def test_what_grows_while_it_is_counted_is_never_more_than_all() -> None:
    assert told((0, "reconciling", 0, 100), (6, "reconciling", 105, 100)) == [
        "reconciling: 105 of 105 events (100 %), about 0 s left"
    ]


def test_nothing_is_reckoned_from_nothing() -> None:
    assert told((1, "folding", 0, 100), (7, "folding", 0, 100)) == ["folding: 0 of 100 events (0 %)"]
    assert told((7, "dropping the old tables", 0, None)) == ["dropping the old tables"]
