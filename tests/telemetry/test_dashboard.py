"""The Grafana dashboard: it asks for what there is, and is as Grafana wants it."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from trio_gw.telemetry.families import FAMILIES

FILE = Path(__file__).parents[2] / "docs" / "grafana" / "trio-gw.json"
DASHBOARD = json.loads(FILE.read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS = 24  # of Grafana's grid
UNITS = ("Bps", "bytes", "dtdurations", "eps", "none", "percentunit", "reqps", "s", "short")
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
KNOWN = {family.name + suffix: family for family in FAMILIES for suffix in SUFFIXES[family.kind]}

titles = pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])


def _variables() -> dict[str, dict[str, Any]]:
    return {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}


def test_all_metrics_are_asked_for() -> None:
    asked = {KNOWN[name] for query in QUERIES for name in re.findall(r"\btrio_gw_\w+", query)}
    assert set(FAMILIES) == asked


@pytest.mark.parametrize(
    "query", [*QUERIES, *(mark["expr"] for mark in DASHBOARD["annotations"]["list"])]
)
def test_a_question_is_for_metrics_labels_and_variables_that_exist(query: str) -> None:
    selectors = re.findall(r"\b(trio_gw_\w+)(?:{(.*?)})?", query)
    assert selectors
    labels = {"le", "instance"}
    for name, chosen in selectors:
        family = KNOWN[name]
        labels.update(family.labels)
        matched = dict(re.findall(r'(\w+)=~?"(.*?)"', chosen))
        assert matched.keys() <= {"instance", *family.labels}
        # What is chosen above the panels holds for every one of them.
        assert matched["instance"] == "$instance"
        assert matched.get("api") == ("$api" if "api" in family.labels else None)
        assert ("[$__rate_interval]" in query) == (family.kind != "gauge")
    for grouped in re.findall(r"by \((.*?)\)", query):
        assert set(grouped.split(", ")) <= labels
    assert set(re.findall(r"\$(\w+)", query)) <= {*_variables(), "__rate_interval"}


@titles
def test_a_legend_names_labels_that_are_left(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        outermost = re.match(
            r"(?:topk\(10, |histogram_quantile\([\d.]+, )?\w+ by \((.*?)\)", target["expr"]
        )
        left = set(outermost[1].split(", ")) - {"le"} if outermost else set()
        named = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
        if panel["type"] == "timeseries" or named:
            assert named == left
            assert target["legendFormat"]


@titles
def test_a_panel_is_as_grafana_wants_it(panel: dict[str, Any]) -> None:
    assert panel["datasource"] == SOURCE
    assert [target["datasource"] for target in panel["targets"]] == [SOURCE] * len(panel["targets"])
    refs = [target["refId"] for target in panel["targets"]]
    assert len(set(refs)) == len(refs) > 0
    assert panel["description"].endswith(".")
    unit = panel["fieldConfig"]["defaults"]["unit"]
    assert unit in UNITS or unit.startswith("count:")
    for rule in panel["fieldConfig"]["overrides"]:
        # Without slashes Grafana would compare the whole name.
        assert rule["matcher"]["id"] == "byRegexp"
        assert re.fullmatch("/.+/", rule["matcher"]["options"])


@titles
def test_thresholds_rise_from_a_base(panel: dict[str, Any]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    steps = defaults.get("thresholds", {"steps": [{"value": None}]})["steps"]
    values = [step["value"] for step in steps[1:]]
    assert steps[0]["value"] is None
    assert values == sorted(set(values))
    coloured = "thresholdsStyle" in defaults.get("custom", {}) or panel["type"] == "stat"
    assert coloured == ("thresholds" in defaults)


def test_variables_are_asked_of_prometheus() -> None:
    variables = _variables()
    source = variables.pop("datasource")
    assert (source["type"], source["query"]) == ("datasource", "prometheus")
    assert set(variables) == {"instance", "api"}
    for name, variable in variables.items():
        assert variable["datasource"] == SOURCE
        assert (variable["includeAll"], variable["allValue"]) == (True, ".*")
        assert variable["query"]["query"] == variable["definition"]
        asked = re.fullmatch(r"label_values\((\w+)(?:{.*})?, (\w+)\)", variable["definition"])
        assert asked
        assert asked[2] == name
        assert name in ("instance", *KNOWN[asked[1]].labels)


def test_panels_lie_on_the_grid_and_not_on_each_other() -> None:
    taken = {}
    for panel in DASHBOARD["panels"]:
        x, y, w, h = (panel["gridPos"][key] for key in "xywh")
        assert 0 <= x < x + w <= COLUMNS
        taken[panel["id"]] = {
            (column, row) for column in range(x, x + w) for row in range(y, y + h)
        }
    assert len(taken) == len(DASHBOARD["panels"])
    assert all(one.isdisjoint(other) for one, other in combinations(taken.values(), 2))
    cells = set.union(*taken.values())
    assert len(cells) == COLUMNS * (1 + max(row for _, row in cells)), "there is a hole"


def test_the_dashboard_can_be_imported() -> None:
    assert re.fullmatch(r"[\w-]{1,40}", DASHBOARD["uid"])
    assert DASHBOARD["schemaVersion"] == 39  # Grafana 11, and what came after
    assert DASHBOARD.get("id") is None
    assert "__inputs" not in DASHBOARD
    assert all(mark["datasource"] == SOURCE for mark in DASHBOARD["annotations"]["list"])
    rows = [panel for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert all(row["panels"] == [] and not row["collapsed"] for row in rows)
    assert json.dumps(DASHBOARD, indent=2) + "\n" == FILE.read_text()
