"""However ownership moves and appends are held up: nothing lost, doubled, wrongly refused, or read from yesterday."""

from collections import Counter

import pytest

from properties.two_owners import Run


async def played(seed: int) -> Run:
    run = Run(seed)
    await run.play()
    return run


async def assert_borne_out(first: int, seeds: int) -> None:
    happened: Counter[str] = Counter()
    for seed in range(first, first + seeds):
        run = await played(seed)
        assert run.wrongs() == set(), f"seed {seed}"
        happened += run.words
        happened["late"] += sum(log.landed_late for log in run.logs)
    for what in ("Accepted", "Refused", "WalletRead", "not_owner", "outcome_unknown", "given up", "late"):
        assert happened[what], f"{what} never happened"


@pytest.mark.parametrize("first", range(0, 200, 50))
async def test_two_owners_answer_nothing_that_the_log_does_not_bear_out(first: int) -> None:
    await assert_borne_out(first, 50)


@pytest.mark.system
@pytest.mark.parametrize("first", range(200, 2_200, 500))
async def test_nor_in_many_more_runs(first: int) -> None:
    """So many, because some rules are missed in one run of two hundred only."""
    await assert_borne_out(first, 500)
