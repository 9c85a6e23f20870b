"""However owners change and appends are delayed: nothing lost, doubled, wrongly refused, and no stale read."""

from collections import Counter

import pytest

from properties.two_owners import Run


async def played(seed: int) -> Run:
    run = Run(seed)
    await run.play()
    return run


async def assert_no_contradiction(first: int, seeds: int) -> None:
    outcomes: Counter[str] = Counter()
    for seed in range(first, first + seeds):
        run = await played(seed)
        assert run.wrongs() == set(), f"seed {seed}"
        outcomes += run.outcomes
        outcomes["late"] += sum(log.landed_late for log in run.logs)
    for what in ("Accepted", "Refused", "WalletRead", "not_owner", "outcome_unknown", "given up", "late"):
        assert outcomes[what], f"{what} never happened"


@pytest.mark.parametrize("first", range(0, 200, 50))
async def test_no_response_of_two_owners_contradicts_the_log(first: int) -> None:
    await assert_no_contradiction(first, 50)


@pytest.mark.system
@pytest.mark.parametrize("first", range(200, 2_200, 500))
async def test_many_more_runs(first: int) -> None:
    """So many runs, because the lack of some rules shows in one run of two hundred only."""
    await assert_no_contradiction(first, 500)
