"""One `raycp bench`: the parts that were asked for, one after the other."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Collection
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from raycp import __version__
from raycp.bench.bare_processes import BareProcesses
from raycp.bench.dispatch_ceiling import call_costs, measure_dispatch
from raycp.bench.driver_memory import measure_memory
from raycp.bench.engine_window import measure_engine
from raycp.bench.measurements import Measurements, Setup
from raycp.bench.training import measure_training
from raycp.bench.virtual_cluster import drive
from raycp.bench.workload import cifar_size_config, prepare_endless_job
from raycp.config import RunConfig, resolved
from raycp.distributed.job import Job

_PACKAGES = ("torch", "ray", "numpy", "pyarrow", "diffusers", "timm")
_VIRTUAL_REPLICAS = 1_000
_VIRTUAL_TASK_SECONDS = 5.0
_VIRTUAL_PER_REAL = 30.0
"""Seconds on the virtual clock for each second asked for."""


def measure(
    config: RunConfig | None,
    parts: Collection[str],
    seconds: float,
    rounds: int,
    replicas: int | None,
    images: int,
    note: Callable[[str], None],
) -> Measurements:
    """Measure this machine.

    Args:
        config: models, images and numerics; None for a CIFAR-size pair with random weights.
        parts: `forward` (bare forward pass, kernel and engine in turn), `noise`, `dispatch`, `memory`,
            `train`.
        seconds: of each single measurement.
        rounds: how often the sides of `forward`, and those of `train`, take turns.
        replicas: None for as many as fit.
        images: of the run whose driver's memory is measured.
        note: told what begins.

    Raises:
        RaycpError: what the configuration, the models or Ray have to object.
    """
    found = Measurements(_machine())
    if {"forward", "noise"} & set(parts):
        with TemporaryDirectory() as folder:
            note("reading models and images")
            job = prepare_endless_job(config or cifar_size_config(Path(folder)), replicas)
        _measure_models(found, job, parts, seconds, rounds, note)
    if "dispatch" in parts:
        note("dispatch: null model through Ray")
        found.dispatched, found.looked = measure_dispatch(min(seconds, 5.0))
        note(f"dispatch: {_VIRTUAL_REPLICAS:,} replicas on a virtual clock")
        calls = call_costs(found.dispatched, found.looked)
        found.driven = drive(
            _VIRTUAL_REPLICAS, _VIRTUAL_TASK_SECONDS, _VIRTUAL_PER_REAL * seconds, calls=calls
        )
    if "memory" in parts:
        note(f"driver memory: {images:,} images on a virtual clock")
        found.memory = measure_memory(images)
    if "train" in parts:
        found.training = measure_training(seconds, rounds, note)
    return found


def _measure_models(
    found: Measurements,
    job: Job,
    parts: Collection[str],
    seconds: float,
    rounds: int,
    note: Callable[[str], None],
) -> None:
    engine = job.config.engine
    assert engine.replicas is not None
    note(f"starting {engine.replicas} plain processes")
    with BareProcesses(job.spec, engine.replicas, engine.gpus_per_replica) as bare:
        if job.config.numerics.batch_size == "auto":
            job = job.with_batch_size(bare.choose_batch_size())
        batch_size = job.config.numerics.batch_size
        assert batch_size != "auto"
        found.setup = _setup(job, bare.prepare(batch_size))
        found.config = resolved(job.config)
        if "noise" in parts:
            note("noise")
            found.noise = bare.noise()
        if "forward" not in parts:
            return
        for number in range(1, rounds + 1):
            note(f"round {number} of {rounds}: bare forward, kernel, engine")
            found.windows += [bare.forward(seconds), bare.kernel(seconds)]
            found.windows.append(measure_engine(job, seconds, without=bare.pids))
        note("bare forward and kernel once more")
        found.windows += [bare.forward(seconds), bare.kernel(seconds)]


def _setup(job: Job, numerics: str) -> Setup:
    purifier: str = job.config.purifier.kind
    if job.purifier is not None:
        purifier += f" ({job.purifier.parameters:,} parameters)"
    return Setup(
        purifier=purifier,
        classifier=f"{job.config.classifier.kind} ({job.classifier.parameters:,} parameters)",
        image_shape=job.images.images.shape[1:],
        sigma=job.config.certify.sigmas[0],
        numerics=numerics,
        replicas=job.config.engine.replicas or 1,
    )


def _machine() -> dict[str, Any]:
    return {
        "system": platform.platform(),
        "cpus": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "versions": {"raycp": __version__, "python": platform.python_version()}
        | {package: version(package) for package in _PACKAGES},
    }
