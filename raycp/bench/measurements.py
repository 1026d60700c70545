"""Everything that one `raycp bench` found."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from raycp.bench.dispatch_ceiling import Dispatched, Looked
from raycp.bench.driver_memory import DriverMemory
from raycp.bench.training import TrainingMeasured
from raycp.bench.virtual_cluster import Driven
from raycp.bench.windows import Spread, Window, ratios, samples_per_cpu_second, spread, throughput


@dataclass(frozen=True)
class Setup:
    """What was measured against what."""

    purifier: str
    classifier: str
    image_shape: tuple[int, ...]
    sigma: float
    numerics: str
    """Device, dtype, batch shape, threads per replica or process, and versions: the numerics class."""
    replicas: int


@dataclass
class Measurements:
    """Filled part by part; what was not asked for stays empty."""

    machine: dict[str, Any]
    setup: Setup | None = None
    config: dict[str, Any] | None = None
    """The resolved configuration that was measured."""
    windows: list[Window] = field(default_factory=list)
    """In order of time."""
    noise: dict[str, float] = field(default_factory=dict)
    """Seconds per sample, by kind."""
    dispatched: list[Dispatched] = field(default_factory=list)
    looked: list[Looked] = field(default_factory=list)
    driven: Driven | None = None
    memory: DriverMemory | None = None
    training: TrainingMeasured | None = None

    def comparisons(self) -> dict[str, Spread]:
        """Ratios of throughput between the sides, from windows next to each other."""
        values = throughput(self.windows)
        result = {
            "kernel / bare forward": spread(ratios(values, "kernel", "bare forward")),
            "engine / kernel": spread(ratios(values, "engine", "kernel")),
            "engine / bare forward": spread(ratios(values, "engine", "bare forward")),
        }
        watched = all("ray" in window.cpu_ms for window in self.windows if window.side == "engine")
        if watched and self.setup is not None and self.setup.numerics.startswith("cpu"):
            by_cpu = ratios(samples_per_cpu_second(self.windows), "engine", "bare forward")
            result["engine / bare forward, by CPU time"] = spread(by_cpu)
        return result

    def record(self) -> dict[str, Any]:
        """All of it as plain JSON values."""
        ratios_ = {name: asdict(value) for name, value in self.comparisons().items()} if self.windows else {}
        training = None if self.training is None else self.training.record()
        return asdict(self) | {"ratios": ratios_, "training": training}
