"""Owners change and appends are delayed: no command is lost, doubled or wrongly refused, and no read is stale."""

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
        assert run.contradictions() == set(), f"seed {seed}"
        outcomes += run.outcomes
        outcomes["late"] += sum(log.landed_late for log in run.logs)
    for what in ("Accepted", "Refused", "WalletRead", "not_owner", "outcome_unknown", "given up", "late"):
        assert outcomes[what], f"{what} never happened"


@pytest.mark.parametrize(
    "first", [0, *(pytest.param(first, marks=pytest.mark.system) for first in range(50, 200, 50))]
)
async def test_no_response_of_two_owners_contradicts_the_log(first: int) -> None:
    await assert_no_contradiction(first, 50)


@pytest.mark.system
@pytest.mark.parametrize("first", range(200, 1_200, 500))
async def test_many_more_runs(first: int) -> None:
    """Many runs, because without some rules only one run in two hundred fails."""
    await assert_no_contradiction(first, 500)
