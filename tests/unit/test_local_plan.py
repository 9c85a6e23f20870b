"""The settings that `make up` gives to its nodes and workers; nothing is started."""

from pathlib import Path

import pytest

from deploy.local.__main__ import _plan_of
from deploy.local.programs import Node, Worker
from deploy.local.up import _parts


def test_every_node_and_worker_of_a_set_gets_the_rules_file_that_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plan = _plan_of(["--folder", "set", "--auth", "off", "--rules", "rules.json"])
    programs = [part for part in _parts(plan) if isinstance(part, Node | Worker)]
    assert len(programs) == plan.nodes + plan.workers
    for program in programs:
        assert program.environment()["STAKELOG_RULES"] == str(tmp_path / "rules.json"), program.name


@pytest.mark.parametrize("none", [[], ["--rules", ""], ["--rules="]])
def test_without_a_rules_file_the_built_in_games_are_played(tmp_path: Path, none: list[str]) -> None:
    plan = _plan_of(["--folder", str(tmp_path), "--auth", "off", *none])
    programs = [part for part in _parts(plan) if isinstance(part, Node | Worker)]
    assert not [part for part in programs if "STAKELOG_RULES" in part.environment()]
