"""Any node is called and any call fails: no command is lost, doubled, reordered or wrongly refused."""

import asyncio
from collections import Counter
from typing import Final

import pytest

from properties.forwarded import Run
from properties.jumping_loop import JumpingLoop

OFTEN: Final = ("Accepted", "Refused", "outcome_unknown")
SELDOM: Final = (*OFTEN, "WalletRead", "not_owner", "connection lost")


def played(seed: int) -> Run:
    run = Run(seed)
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        runner.run(run.play())
    return run


def assert_no_contradiction(first: int, seeds: int, happens: tuple[str, ...]) -> None:
    outcomes: Counter[str] = Counter()
    for seed in range(first, first + seeds):
        run = played(seed)
        assert run.contradictions() == set(), f"seed {seed}"
        outcomes += run.outcomes
    for what in happens:
        assert outcomes[what], f"{what} never happened"


@pytest.mark.parametrize("first", range(0, 20, 10))
@pytest.mark.system
def test_no_response_of_any_node_contradicts_the_log(first: int) -> None:
    assert_no_contradiction(first, 10, OFTEN)


@pytest.mark.system
@pytest.mark.parametrize("first", range(100, 200, 50))
def test_many_more_runs(first: int) -> None:
    assert_no_contradiction(first, 50, SELDOM)
