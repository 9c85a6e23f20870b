"""Partitions that wander between nodes: no command is lost, doubled or wrongly refused, and all money arrives."""

from collections import Counter

import pytest

from ledger.node import owned as owned_module
from ledger.node import standby as standby_module
from ledger.writer import writer as writer_module
from properties.many_nodes import Run


@pytest.mark.parametrize("seed", range(24))
async def test_whatever_wanders_fails_or_dies_every_command_takes_effect_once(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "_RETRY_S", 0.002)
    monkeypatch.setattr(owned_module, "_PAUSE_S_MIN", 0.001)
    monkeypatch.setattr(owned_module, "_PAUSE_S_MAX", 0.01)
    monkeypatch.setattr(standby_module, "LOOK_EVERY_S", 0.002)
    run = Run(seed)
    await run.play()
    assert await run.wrongs() == set()
    await run.cluster.crash()


async def test_the_runs_meet_what_they_are_about(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "_RETRY_S", 0.002)
    monkeypatch.setattr(owned_module, "_PAUSE_S_MIN", 0.001)
    monkeypatch.setattr(owned_module, "_PAUSE_S_MAX", 0.01)
    monkeypatch.setattr(standby_module, "LOOK_EVERY_S", 0.002)
    words: Counter[str] = Counter()
    for seed in range(100, 106):
        run = Run(seed)
        await run.play()
        words += run.words
        await run.cluster.crash()
    assert {"Accepted", "Refused", "not_owner", "outcome_unknown"} <= words.keys(), words
