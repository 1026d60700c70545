"""One session of an evaluation: open or resume its directory, measure what is missing, leave the table behind."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

import numpy as np

from raycp.distributed.dispatch import Dispatcher
from raycp.distributed.evaluation_job import EvaluationJob
from raycp.distributed.evaluation_plan import EvaluationPlan, MeasuredUnit
from raycp.distributed.progress import Progress
from raycp.distributed.session import Observer, interruptible, measured_batch_size, session_on_ray
from raycp.errors import WorkFailedError
from raycp.quality.optimal_transport import TransportNotSolvedError
from raycp.quality.terms import frechet_terms, mean_over_draws, transport_terms
from raycp.report.evaluation import csv_text, metric_rows
from raycp.runs import RunDirectory, open_run, recorded_manifest
from raycp.runs.evaluation import CSV, NAME, read_evaluation, write_evaluation
from raycp.runs.manifest import recorded_batch_size
from raycp.runs.measurements import Columns, Measurements
from raycp.runs.status import StatusFile
from raycp.sampling.measure import CLEAN
from raycp.storage import Storage


def run_evaluation(job: EvaluationJob, out: str, observer: Observer) -> bool:
    """Run or resume an evaluation in the directory `out`.

    Returns:
        Whether it is complete; false if the user interrupted.

    Raises:
        RunMismatchError: `out` holds another run, or is in use.
        RaycpError: whatever stopped the work; what was measured before is durable.
    """
    storage = Storage(out)
    with ExitStack() as stack:
        stack.enter_context(storage.locked())
        recorded = recorded_manifest(storage)
        if job.job.config.numerics.batch_size == "auto":
            if recorded is not None:
                batch_size = recorded_batch_size(recorded)
            else:
                stack.enter_context(session_on_ray(job.job, storage, observer))
                batch_size = measured_batch_size(job.job, observer)
            job = job.with_batch_size(batch_size)
        run = open_run(storage, job.manifest())
        protocol = job.job.config.evaluate
        measurements = Measurements(storage, run.manifest["fingerprint"])
        plan = EvaluationPlan(
            job.job.config.certify.sigmas,
            job.job.images.indices.tolist(),
            protocol.draws,
            measurements.done(protocol.draws),
        )
        if recorded is not None:
            observer.note(
                f"resuming: {plan.num_decided} of {plan.num_units} (sigma, image) pairs are measured"
            )
        status = stack.enter_context(StatusFile(storage, "evaluate"))
        if not plan.finished:
            stack.enter_context(session_on_ray(job.job, storage, observer))
            _measure(job, plan, _Sink(measurements, job.keep), observer, status, storage.name)
        if not plan.finished:
            status.incomplete = "interrupted"
            return False
        if storage.read(NAME) is None:
            observer.note("comparing the sets of purified and clean images")
            write_evaluation(storage, run.manifest, _table(job, run, measurements))
        if storage.read(CSV) is None:
            storage.write(CSV, csv_text(metric_rows(read_evaluation(out))).encode())
        return True


def is_measured(job: EvaluationJob, out: str) -> bool:
    """Whether the directory `out` holds all that `job` would leave there; nothing in it is changed.

    Raises:
        StorageError: `out` holds something else, or a file is damaged.
    """
    storage = Storage(out)
    recorded = recorded_manifest(storage)
    if recorded is None or storage.read(NAME) is None or storage.read(CSV) is None:
        return False
    read_evaluation(out)
    if job.job.config.numerics.batch_size == "auto":
        job = job.with_batch_size(recorded_batch_size(recorded))
    return bool(recorded["fingerprint"] == job.manifest()["fingerprint"])


def _measure(
    job: EvaluationJob, plan: EvaluationPlan, sink: _Sink, observer: Observer, status: StatusFile, name: str
) -> None:
    from raycp.distributed.ray_transport import RayTransport, require_room

    engine, batch_size = job.job.config.engine, job.job.config.numerics.batch_size
    assert batch_size != "auto"
    require_room(engine)

    def report(progress: Progress) -> None:
        observer.progress(progress, [])
        status.update(asdict(progress) | {"accuracies": []})

    transport = RayTransport(job.spec, engine, batch_size, name)
    dispatcher = Dispatcher(plan, transport, engine, batch_size, sink, report)
    with interruptible() as stop:
        dispatcher.run(stopped=lambda: stop.requested)


class _Sink:
    """Makes measured units durable, one row per sample."""

    def __init__(self, measurements: Measurements, keep: int) -> None:
        self._measurements = measurements
        self._keep = keep

    def write(self, units: Sequence[MeasuredUnit], outcomes: Sequence[object]) -> None:
        """See `Sink`."""
        if units:
            self._measurements.append([row for unit in units for row in self._rows(unit)])

    def _rows(self, unit: MeasuredUnit) -> list[dict[str, Any]]:
        measured = unit.measured
        kept = measured.purified if unit.image < self._keep else None
        return [
            {
                "sigma": unit.sigma,
                "image": unit.image,
                "draw": draw,
                "predicted": int(measured.predicted[draw]),
                "squared_l2": float(measured.squared_l2[draw]),
                "lpips": None if measured.lpips is None else float(measured.lpips[draw]),
                "features": None if measured.features is None else measured.features[draw],
                "purified": None if kept is None else kept[draw],
                "numerics": unit.numerics,
            }
            for draw in range(len(measured.predicted))
        ]


def _table(job: EvaluationJob, run: RunDirectory, measurements: Measurements) -> dict[str, Any]:
    """The columns of evaluation.parquet, sigma by sigma; only one sigma's features are in memory at a time."""
    images = job.job.images
    M, draws = len(images), job.job.config.evaluate.draws
    clean = measurements.read(CLEAN, M, 1)
    features = clean.rows("features") if job.features is not None else None
    nothing = np.full(M, np.nan)
    parts = [
        {
            "sigma": np.full(M, CLEAN),
            "correct": mean_over_draws(clean.predicted == images.labels, 1),
            **dict.fromkeys(("l2", "squared_l2", "lpips", "fid_term", "optimal_transport_term"), nothing),
            "numerics": clean.numerics,
        }
    ]
    for sigma in job.job.config.certify.sigmas:
        samples = measurements.read(sigma, M, draws)
        parts.append(
            {
                "sigma": np.full(M, sigma),
                "correct": mean_over_draws(samples.predicted == images.labels.repeat(draws), draws),
                "l2": mean_over_draws(np.sqrt(samples.squared_l2), draws),
                "squared_l2": mean_over_draws(samples.squared_l2, draws),
                "lpips": nothing if samples.lpips is None else mean_over_draws(samples.lpips, draws),
                "fid_term": nothing
                if features is None
                else frechet_terms(features, samples.rows("features")),
                "optimal_transport_term": _transported(job, samples, sigma),
                "numerics": samples.numerics[::draws],
            }
        )
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return columns | {
        "image_index": np.tile(images.indices, len(parts)),
        "label": np.tile(images.labels, len(parts)),
    }


def _transported(job: EvaluationJob, samples: Columns, sigma: float) -> np.ndarray:
    terms = np.full(len(job.job.images), np.nan)
    if job.keep:
        stored = job.job.images.images[: job.keep].reshape(job.keep, -1)
        clean = stored.astype(np.float32) / (255 if stored.dtype == np.uint8 else 1)
        try:
            terms[: job.keep] = transport_terms(clean, samples.rows("purified"))
        except TransportNotSolvedError as err:
            raise WorkFailedError(
                f"the optimal transport of {job.keep} images at sigma {sigma:g} was not found: {err}. Set "
                "evaluate.transport_images to fewer, or to 0; the measurements are kept, but belong to this value."
            ) from err
    return terms
