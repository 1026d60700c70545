"""The Grafana dashboard asks for figures that raycp exports, and is what its list of panels makes."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any

from ray.util.metrics import Histogram, Metric

from raycp.distributed.metrics import CertifyMetrics, ReplicaMetrics, TrainMetrics

GRAFANA = Path(__file__).resolve().parents[2] / "cluster" / "monitoring" / "grafana"
DASHBOARD = json.loads((GRAFANA / "dashboards" / "raycp.json").read_text())


def exported() -> dict[str, set[str]]:
    """Names of all series that raycp's processes export, with their tags."""
    found: dict[str, set[str]] = {}
    objects = [CertifyMetrics("run"), ReplicaMetrics("run", "0", "cpu"), TrainMetrics("run")]
    values: list[Any] = [value for item in objects for value in vars(item).values()]
    for value in values:
        for metric in value.values() if isinstance(value, dict) else [value]:
            if isinstance(metric, Metric):
                suffix = "_bucket" if isinstance(metric, Histogram) else ""
                found[f"ray_{metric.info['name']}{suffix}"] = set(metric.info["tag_keys"])
    return found


def test_the_file_is_what_the_list_of_panels_makes() -> None:
    made = runpy.run_path(str(GRAFANA / "make_dashboard.py"))
    assert json.loads(json.dumps(made["dashboard"]())) == DASHBOARD


def test_every_query_asks_for_what_is_exported() -> None:
    series, asked = exported(), set()
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            names = re.findall(r"ray_raycp_\w+", target["expr"])
            asked |= set(names)
            for name in names:
                assert name in series, (panel["title"], name)
                (group,) = re.findall(r"(?:max|sum) by \(([^)]*)\)", target["expr"])[:1]
                assert {tag.strip() for tag in group.split(",")} <= series[name] | {"le"}, target["expr"]
    for figure in (
        "units_decided",
        "eta_seconds",
        "replicas_ready",
        "replicas_lost_total",
        "replica_seconds_total",
    ):
        assert f"ray_raycp_{figure}" in asked


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24 and not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
