"""Figures for Prometheus, through Ray: exported by each node under `ray_raycp_...`.

What concerns the whole run is set by its driver, what concerns one replica by that replica, so that nothing is counted
twice. The names of images never become tags: each would be a time series.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ray.util.metrics import Counter, Gauge, Histogram

if TYPE_CHECKING:
    from raycp.distributed.progress import Progress
    from raycp.distributed.session import SigmaAccuracy

_EVERY_SECONDS = 2.0
_TASK_SECONDS = [0.1, 0.3, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0]


class CertifyMetrics:
    """Of a certification or prediction, in its driver.

    Args:
        run: name of the run, the tag of all its figures.
    """

    def __init__(self, run: str) -> None:
        self._tags = {"run": run}
        self._last = -float("inf")
        self._counted: dict[str, float] = {}
        self._gauges = {
            name: Gauge(f"raycp_{name}", text, ("run",))
            for name, text in {
                "units": "(sigma, image) pairs of the run",
                "units_decided": "(sigma, image) pairs whose result is on disk",
                "units_failed": "(sigma, image) pairs that were set aside",
                "samples_remaining": "Monte Carlo samples still to come, at most",
                "samples_per_second": "Monte Carlo samples per second of all replicas",
                "eta_seconds": "remaining samples at the present speed; absent while nothing is drawn",
                "replicas_ready": "replicas at work",
                "replicas_waiting": "replicas asked for that start or have no room yet",
                "tasks_in_flight": "tasks that replicas hold",
                "busy_ratio": "share of the replicas' time on their device",
                "dispatch_latency_seconds": "from a result to the next task for that replica, mean",
                "dropped_ratio": "share of samples drawn ahead of a decision that did not need them",
            }.items()
        }
        self._counters = {
            name: Counter(f"raycp_{name}", text, ("run",))
            for name, text in {
                "samples_drawn_total": "Monte Carlo samples drawn",
                "replicas_lost_total": "replicas that died or left with their node",
                "tasks_repeated_total": "tasks that were given to another replica",
                "replica_seconds_total": "time that replicas were ready, all together: what the run costs",
            }.items()
        }
        tags = ("run", "sigma")
        self._decided = Gauge("raycp_images_decided", "images decided at a noise level", tags)
        self._accuracy = Gauge(
            "raycp_certified_accuracy_ratio",
            "share of decided images certified correct at eps",
            (*tags, "eps"),
        )

    def update(self, progress: Progress, accuracies: Sequence[SigmaAccuracy], last: bool = False) -> None:
        """Set all figures; calls within two seconds of the last one are passed over, unless it is the last."""
        now = time.monotonic()
        if now - self._last < _EVERY_SECONDS and not last:
            return
        self._last = now
        values: dict[str, float] = {
            "units": progress.total,
            "units_decided": progress.decided,
            "units_failed": progress.set_aside,
            "samples_remaining": progress.remaining_samples,
            "samples_per_second": progress.samples_per_second,
            "replicas_ready": progress.replicas,
            "replicas_waiting": progress.pending,
            "tasks_in_flight": progress.in_flight,
            "busy_ratio": progress.busy,
            "dispatch_latency_seconds": progress.dispatch_seconds,
            "dropped_ratio": progress.share_dropped,
        }
        if progress.samples_per_second:
            values["eta_seconds"] = progress.remaining_samples / progress.samples_per_second
        for name, value in values.items():
            self._gauges[name].set(value, self._tags)
        totals: dict[str, float] = {
            "samples_drawn_total": progress.samples,
            "replicas_lost_total": progress.lost,
            "tasks_repeated_total": progress.requeued,
            "replica_seconds_total": progress.replica_seconds,
        }
        for name, total in totals.items():
            if total > self._counted.get(name, 0):
                self._counters[name].inc(total - self._counted.get(name, 0), self._tags)
                self._counted[name] = total
        for item in accuracies:
            tags = self._tags | {"sigma": f"{item.sigma:g}"}
            self._decided.set(item.decided, tags)
            if item.decided:
                for eps, share in item.certified:
                    self._accuracy.set(share, tags | {"eps": f"{eps:g}"})


class ReplicaMetrics:
    """Of one replica, in its own process.

    Args:
        run: name of the run.
        replica: number of the replica within it.
        device: it draws on.
    """

    def __init__(self, run: str, replica: str, device: str) -> None:
        self._tags = {"run": run, "replica": replica, "device": device}
        tags = tuple(self._tags)
        self._samples = Counter("raycp_replica_samples_total", "Monte Carlo samples drawn by a replica", tags)
        self._busy = Counter("raycp_replica_busy_seconds_total", "time of a replica inside tasks", tags)
        self._waiting = Counter(
            "raycp_replica_waiting_seconds_total", "time of a replica between tasks", tags
        )
        self._tasks = Histogram(
            "raycp_task_seconds", "duration of a task on its replica", _TASK_SECONDS, tags
        )
        self._since = time.monotonic()

    def drew(self, samples: int, seconds: float) -> None:
        """A task has ended that took this long."""
        now = time.monotonic()
        waiting, self._since = now - self._since - seconds, now
        if samples:
            self._samples.inc(samples, self._tags)
        for counter, value in ((self._busy, seconds), (self._waiting, waiting)):
            if value > 0:
                counter.inc(value, self._tags)
        self._tasks.observe(seconds, self._tags)


class TrainMetrics:
    """Of a training, in its driver.

    Args:
        run: name of the run.
    """

    def __init__(self, run: str) -> None:
        self._run = run
        tags = ("run", "stage")
        self._gauges = {
            key: Gauge(f"raycp_train_{name}", text, tags)
            for key, (name, text) in {
                "loss": ("loss", "loss, mean over the last steps"),
                "step": ("step", "optimiser steps done"),
                "progress": ("steps", "optimiser steps of the stage"),
                "images_per_second": ("images_per_second", "training images per second of all workers"),
                "seconds_left": ("eta_seconds", "remaining steps at the present speed"),
            }.items()
        }
        self._restarts = Counter(
            "raycp_train_restarts_total", "times a stage went on from a checkpoint", tags
        )
        self._validation = Gauge(
            "raycp_train_validation", "last validation on held-out images", (*tags, "metric")
        )

    def take(self, line: dict[str, Any]) -> None:
        """One line of the training's log."""
        if "stage" not in line:
            return
        tags = {"run": self._run, "stage": line["stage"]}
        for key, gauge in self._gauges.items():
            if key in line:
                gauge.set(line[key], tags)
        if line.get("restored"):
            self._restarts.inc(1, tags)
        for metric, value in line.get("metrics", {}).items():
            self._validation.set(value, tags | {"metric": metric})
