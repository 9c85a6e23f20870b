"""When a part of the local set starts again after it has ended."""

from deploy.local.restarts import LIVED_WELL_S, PAUSE_S_MAX, Restarts


def test_the_pause_doubles_with_each_early_death_up_to_its_bound() -> None:
    restarts = Restarts(0.0)
    assert [restarts.died(1.0) for _ in range(7)] == [1, 2, 4, 8, 16, PAUSE_S_MAX, PAUSE_S_MAX]


def test_a_part_that_lived_well_starts_with_the_shortest_pause_again() -> None:
    restarts = Restarts(0.0)
    for _ in range(4):
        restarts.died(1.0)
    restarts.started(10.0)
    assert restarts.died(10.0 + LIVED_WELL_S) == 1.0
    restarts.started(100.0)
    assert restarts.died(101.0) == 2.0
