"""Rules, dashboard and runbook: of metrics that there are, and of each other. They run in `test_monitoring.py`."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, ProcessCollector

from deploy.monitoring import dashboard
from unit.alert_cases import CASES
from unit.api_in_memory import InMemoryApi
from unit.given import deposit
from unit.monitoring import DASHBOARD, alerts, names_in

ROOT = Path(__file__).parents[2]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
UNITS = {"short", "none", "s", "ops", "reqps", "percentunit", "bytes", "bool_yes_no"}


@cache
def declared() -> frozenset[str]:
    """Every name that may stand in an expression."""
    source = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    names = set(re.findall(r'"(stakelog_\w+)"', source)) | {"up"}
    names |= {f"stakelog_{child}_{what}" for child in ("follower", "check") for what in ("up", "restarts")}
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    of_processes = {family.name for family in registry.collect()}
    return frozenset(names | of_processes | {f"stakelog_child_{name}" for name in of_processes})


def unknown(expression: str) -> set[str]:
    known = declared()
    return {name for name in names_in(expression) if re.sub(r"_(total|bucket|count)$", "", name) not in known}


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_an_alert_is_of_metrics_that_there_are_and_says_what_to_do(alert: dict[str, Any]) -> None:
    assert set(alert) <= {"alert", "expr", "for", "labels", "annotations"}
    assert alert["labels"]["severity"] in {"page", "ticket"}
    name = alert["alert"]
    assert alert["annotations"].keys() == {"summary", "description", "runbook"}
    assert alert["annotations"]["runbook"] == f"docs/runbook.md#{name.lower()}"
    assert re.fullmatch(r"\d+[smh]", alert.get("for", "1m"))
    assert names_in(alert["expr"])
    assert not unknown(alert["expr"])


def test_each_alert_has_a_case_in_which_it_fires() -> None:
    assert CASES.keys() == {alert["alert"] for alert in alerts()}


def test_each_alert_has_its_section_of_the_runbook_with_the_three_answers() -> None:
    sections = re.split(r"^### ", RUNBOOK, flags=re.MULTILINE)[1:]
    named = {section.split("\n", 1)[0]: section.split("\n## ")[0] for section in sections}
    assert list(named) == [alert["alert"] for alert in alerts()], "in the order of the rules"
    severities = {alert["alert"]: alert["labels"]["severity"] for alert in alerts()}
    for name, text in named.items():
        assert f"\n*{severities[name]}.* **Means:** " in text, name
        assert text.index("**Means:**") < text.index("\n**Look at:** ") < text.index("\n**Do:** "), name


def test_what_the_runbook_and_the_alerts_name_is_there() -> None:
    text = RUNBOOK + "".join(str(alert["annotations"]) for alert in alerts())
    known = {name for name in declared() if name.startswith("stakelog_")}
    for name in re.findall(r"stakelog_\w+", text):
        assert re.sub(r"_(total|bucket|count)$", "", name) in known, name
    for name in re.findall(r"\*(Stakelog\w+)\*", RUNBOOK):
        assert name in CASES, name


async def test_rows_for_every_service_are_of_what_one_process_on_its_own_tables_exports(tmp_path: Path) -> None:
    async with InMemoryApi(tmp_path, partitions=1) as client:
        opening = b'{"type":"open_wallet","command_id":"open","user_id":"u1"}'
        json_body = ("content-type", "application/json")
        assert (await client.ask("POST", "/v1/commands", json_body, body=opening)).status == 201
        await client.world.given(deposit(500))
        await client.fold()
        await client.get("/v1/games")
        page = (await client.get("/metrics")).body.decode()
    exported = set(re.findall(r"^\w+", page, re.MULTILINE))
    everywhere = [row for row in dashboard.ROWS if not row.only]
    assert len(everywhere) >= 5
    for row in everywhere:
        for panel in row.panels:
            for expression, _ in panel.lines:
                # This service in memory starts no child processes.
                names = {name for name in names_in(expression) if not name.startswith("stakelog_child_")}
                assert names <= exported, panel.title


def test_the_dashboard_is_what_its_table_makes() -> None:
    assert dashboard.FILE.read_text() == dashboard.text(), "run python3 -m deploy.monitoring.dashboard"


def test_the_dashboard_is_as_grafana_reads_it() -> None:
    assert DASHBOARD["schemaVersion"] >= 36, "since then a datasource is named by type and uid"
    (variable,) = DASHBOARD["templating"]["list"]
    assert (variable["name"], variable["type"], variable["query"]) == ("datasource", "datasource", "prometheus")
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    titles = [panel["title"] for panel in panels]
    assert len(set(titles)) == len(titles)
    taken = set[tuple[int, int]]()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, f"{panel['title']} lies on another panel"
        assert all(0 <= x < 24 for x, _ in cells), panel["title"]
        taken |= cells


@pytest.mark.parametrize(
    "panel", [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"], ids=lambda panel: panel["title"]
)
def test_a_panel_has_title_unit_description_and_expressions_of_metrics_that_there_are(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    assert panel["targets"]
    for target in panel["targets"]:
        assert target["datasource"] == panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert target["legendFormat"]
        assert names_in(target["expr"])
        assert not unknown(target["expr"])
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def test_the_dashboard_that_grafana_reads_has_these_panels() -> None:
    panels = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
    assert [panel["title"] for panel in panels] == [panel.title for row in dashboard.ROWS for panel in row.panels]
