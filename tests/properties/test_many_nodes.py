"""Partitions that move between nodes: no command is lost, doubled or wrongly refused, and all money arrives."""

from collections import Counter

import pytest

from cases import first
from ledger.node import owned as owned_module
from ledger.node import standby as standby_module
from ledger.writer import writer as writer_module
from properties.many_nodes import Run


@pytest.mark.parametrize("seed", first(6, range(24)))
async def test_every_command_takes_effect_once_although_partitions_move_and_nodes_die(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "_RETRY_S", 0.002)
    monkeypatch.setattr(owned_module, "_PAUSE_S_MIN", 0.001)
    monkeypatch.setattr(owned_module, "_PAUSE_S_MAX", 0.01)
    monkeypatch.setattr(standby_module, "LOOK_EVERY_S", 0.002)
    run = Run(seed)
    await run.play()
    assert await run.contradictions() == set()
    await run.cluster.crash()


@pytest.mark.system
async def test_the_runs_cover_the_intended_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "_RETRY_S", 0.002)
    monkeypatch.setattr(owned_module, "_PAUSE_S_MIN", 0.001)
    monkeypatch.setattr(owned_module, "_PAUSE_S_MAX", 0.01)
    monkeypatch.setattr(standby_module, "LOOK_EVERY_S", 0.002)
    outcomes: Counter[str] = Counter()
    for seed in range(100, 106):
        run = Run(seed)
        await run.play()
        outcomes += run.outcomes
        await run.cluster.crash()
    assert {"Accepted", "Refused", "not_owner", "outcome_unknown"} <= outcomes.keys(), outcomes
