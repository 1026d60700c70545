"""Writes dashboards/raycp.json: python cluster/monitoring/grafana/make_dashboard.py

Panels are listed here, because the file that Grafana wants repeats itself. They answer in this order: how far, how
fast, how healthy, how expensive.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
HEIGHT = 7

Curve = tuple[str, str]
"""Query and legend."""
Panel = tuple[str, str, str, int, list[Curve]]
"""Title, kind, unit, width of 24, curves."""


def of(metric: str) -> str:
    """The series of the chosen runs."""
    return f'ray_raycp_{metric}{{run=~"$run"}}'


def newest(metric: str, *tags: str, says: str = "", factor: str = "") -> Curve:
    """A figure that a driver sets; a driver that resumed a run has a series of its own, so the highest counts."""
    names = ("run", *tags)
    legend = " ".join(["{{run}}", *(f"{tag} {{{{{tag}}}}}" for tag in tags), *([says] if says else [])])
    return f"max by ({', '.join(names)}) ({of(metric)}){factor}", legend


def share(part: str, whole: str, *tags: str) -> Curve:
    """One figure of a driver over another."""
    query, legend = newest(part, *tags)
    return f"{query} / {newest(whole, *tags)[0]}", legend


def per_replica(metric: str) -> Curve:
    """Rate over a minute of what each replica counts."""
    return (
        f"sum by (run, replica, device) (rate({of(metric)}[1m]))",
        "{{run}} replica {{replica}}, {{device}}",
    )


def quantile(q: float) -> Curve:
    """Of the durations of tasks."""
    return (
        f"histogram_quantile({q}, sum by (le) (rate({of('task_seconds_bucket')}[2m])))",
        f"{q:.0%} are shorter",
    )


ROWS: dict[str, list[Panel]] = {
    "How far": [
        ("Decided", "gauge", "percentunit", 4, [share("units_decided", "units")]),
        ("Time left", "stat", "s", 4, [newest("eta_seconds")]),
        ("Samples to come, at most", "stat", "short", 4, [newest("samples_remaining")]),
        ("Certified accuracy so far", "timeseries", "percentunit", 12,
         [newest("certified_accuracy_ratio", "sigma", "eps")]),
        ("Images decided", "timeseries", "short", 12, [newest("images_decided", "sigma")]),
        ("Training: loss", "timeseries", "none", 6, [newest("train_loss", "stage")]),
        ("Training: share of the stage", "timeseries", "percentunit", 6,
         [share("train_step", "train_steps", "stage")]),
    ],
    "How fast": [
        ("Samples per second", "timeseries", "short", 8, [newest("samples_per_second")]),
        ("Samples per second of each replica", "timeseries", "short", 8, [per_replica("replica_samples_total")]),
        ("Training: images per second", "timeseries", "short", 8, [newest("train_images_per_second", "stage")]),
        ("Duration of tasks", "timeseries", "s", 8, [quantile(0.5), quantile(0.95)]),
        ("Replicas' time on their device", "timeseries", "percentunit", 8, [newest("busy_ratio")]),
        ("From a result to the next task", "timeseries", "s", 8, [newest("dispatch_latency_seconds")]),
    ],
    "How healthy": [
        ("Replicas", "timeseries", "short", 8,
         [newest("replicas_ready", says="at work"), newest("replicas_waiting", says="waiting for room")]),
        ("Lost and repeated", "timeseries", "short", 8,
         [newest("replicas_lost_total", says="replicas lost"), newest("tasks_repeated_total", says="tasks repeated"),
          newest("train_restarts_total", "stage", says="restarts")]),
        ("Failed (sigma, image) pairs", "stat", "short", 4, [newest("units_failed")]),
        ("Tasks in flight", "stat", "short", 4, [newest("tasks_in_flight")]),
        ("Replicas' time between tasks", "timeseries", "percentunit", 8,
         [per_replica("replica_waiting_seconds_total")]),
        ("Processors", "timeseries", "percent", 8, [("ray_node_cpu_utilization", "{{ip}}")]),
        ("Memory of nodes", "timeseries", "percentunit", 8, [("ray_node_mem_used / ray_node_mem_total", "{{ip}}")]),
    ],
    "How expensive": [
        ("Replica hours", "timeseries", "h", 6, [newest("replica_seconds_total", factor=" / 3600")]),
        ("Cost at $price an hour and replica", "stat", "currencyUSD", 6,
         [newest("replica_seconds_total", factor=" / 3600 * $price")]),
        ("Samples drawn ahead in vain", "timeseries", "percentunit", 6, [newest("dropped_ratio")]),
        ("GPUs", "timeseries", "percent", 6, [("ray_node_gpus_utilization", "{{ip}} {{GpuIndex}}")]),
    ],
}  # fmt: skip


def panel(number: int, x: int, y: int, content: Panel) -> dict[str, Any]:
    """One panel in Grafana's form."""
    title, kind, unit, width, curves = content
    limits = {"min": 0, "max": 1} if unit == "percentunit" else {}
    options: dict[str, Any] = {"reduceOptions": {"calcs": ["lastNotNull"]}}
    if kind == "timeseries":
        options = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}
    return {
        "id": number,
        "title": title,
        "type": kind,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "gridPos": {"x": x, "y": y, "w": width, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": unit, **limits}, "overrides": []},
        "options": options,
        "targets": [
            {"refId": chr(ord("A") + index), "expr": query, "legendFormat": legend}
            for index, (query, legend) in enumerate(curves)
        ],
    }


def dashboard() -> dict[str, Any]:
    """The whole of it."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, contents in ROWS.items():
        panels.append(
            {"id": len(panels) + 1, "title": title, "type": "row", "gridPos": {"x": 0, "y": y, "w": 24, "h": 1},
             "collapsed": False, "panels": []}
        )  # fmt: skip
        x, y = 0, y + 1
        for content in contents:
            if x + content[3] > 24:
                x, y = 0, y + HEIGHT
            panels.append(panel(len(panels) + 1, x, y, content))
            x += content[3]
        y += HEIGHT
    variables = [
        {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"},
        {
            "name": "run", "type": "query", "label": "Run", "multi": True, "includeAll": True, "refresh": 2,
            "datasource": {"type": "prometheus", "uid": "${datasource}"},
            "query": 'label_values({__name__=~"ray_raycp_(units|train_step)"}, run)',
            "current": {"text": "All", "value": "$__all"},
        },
        {"name": "price", "type": "textbox", "label": "Price of a replica hour", "query": "1",
         "current": {"text": "1", "value": "1"}},
    ]  # fmt: skip
    return {
        "uid": "raycp",
        "title": "raycp",
        "tags": ["ray", "raycp"],
        "schemaVersion": 39,
        "timezone": "browser",
        "time": {"from": "now-30m", "to": "now"},
        "refresh": "10s",
        "templating": {"list": variables},
        "panels": panels,
    }


if __name__ == "__main__":
    (HERE / "dashboards" / "raycp.json").write_text(json.dumps(dashboard(), indent=1) + "\n")
