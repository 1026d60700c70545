"""One session of a run: open or resume its directory, draw what is missing, leave results behind."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np

from raycp.certify.planner import Planner
from raycp.certify.rules import CertificateRow
from raycp.certify.units import Counted, Outcome
from raycp.config import RunConfig, parse_config
from raycp.distributed.cluster import connected
from raycp.distributed.cost import recorded_costs
from raycp.distributed.dispatch import Dispatcher
from raycp.distributed.hardware import bfloat16_note
from raycp.distributed.job import Job
from raycp.distributed.progress import UNLIMITED, Budget, Progress
from raycp.runs import RunDirectory, open_run, read_run, recorded_manifest, refuse_imported
from raycp.runs.ledger import Ledger
from raycp.runs.manifest import recorded_batch_size
from raycp.runs.run_directory import RESULTS
from raycp.runs.status import StatusFile
from raycp.runs.tables import result_table
from raycp.storage import Storage


class Observer(Protocol):
    """Who watches a session."""

    def note(self, text: str) -> None:
        """One thing that happened."""
        ...

    def progress(self, progress: Progress, accuracies: Sequence[SigmaAccuracy]) -> None:
        """How far the run is."""
        ...


@dataclass(frozen=True)
class SigmaAccuracy:
    """Accuracy so far at one noise level, over the images that are durable."""

    sigma: float
    decided: int
    certified: tuple[tuple[float, float], ...]
    """(eps, share of the decided images that are certified correct at eps); for predictions one entry at eps 0."""


def run_job(job: Job, out: str, observer: Observer, budget: Budget = UNLIMITED) -> bool:
    """Run or resume `job` in the directory `out`, within a budget for this session.

    Returns:
        Whether every image is decided; false if the user interrupted or the budget is spent.

    Raises:
        RunMismatchError: `out` holds another run, or is in use.
        RaycpError: whatever stopped the work; what came back before is durable.
    """
    storage = Storage(out)
    with ExitStack() as stack:
        stack.enter_context(storage.locked())
        recorded = recorded_manifest(storage)
        refuse_imported(recorded, storage)
        if job.config.numerics.batch_size == "auto":
            if recorded is not None:
                batch_size = recorded_batch_size(recorded)
            else:
                stack.enter_context(session_on_ray(job, storage, observer))
                batch_size = measured_batch_size(job, observer)
            job = job.with_batch_size(batch_size)
        manifest = job.manifest()
        if recorded is None:
            manifest["sample_cost"] = recorded_costs(job)
        run = open_run(storage, manifest, job.tables)
        job = job.of_run(run)
        ledger = run.ledger(job.images.indices, job.rule.cuts)
        planner = job.planner(nearest_first=budget.limited)
        sink = Results(job, run, ledger, [o for unit in ledger.read() for o in planner.restore(unit)])
        if recorded is not None:
            observer.note(
                f"resuming: {planner.num_decided} of {planner.num_units} (sigma, image) pairs are decided, at most "
                f"{planner.remaining_samples():,} samples are left"
            )
        status = stack.enter_context(StatusFile(storage, job.kind))
        try:
            if not planner.finished:
                stack.enter_context(session_on_ray(job, storage, observer))
                _draw(job, planner, sink, observer, budget, status, storage.name)
        finally:
            sink.finish(planner.undecided())
        if planner.finished and not run.has_examples():
            run.write_examples(job.examples())
        if not planner.finished:
            status.incomplete = "the budget is spent" if budget.limited else "interrupted"
        return planner.finished


def is_finished(job: Job, out: str) -> bool:
    """Whether the directory `out` holds all that `job` would leave there; nothing in it is changed.

    Raises:
        StorageError: `out` holds something else, or a file is damaged.
    """
    storage = Storage(out)
    recorded = recorded_manifest(storage)
    if recorded is None or storage.read(RESULTS[job.kind]) is None:
        return False
    before = parse_config(RunConfig, recorded["config"], source="the recorded configuration")
    if job.config.numerics.batch_size == "auto":
        job = job.with_batch_size(recorded_batch_size(recorded))
    same_n = before.certify.num_estimation == job.config.certify.num_estimation
    if not same_n or recorded["fingerprint"] != job.manifest()["fingerprint"]:
        return False
    results = read_run(out)
    return results.complete and results.examples is not None


def _draw(
    job: Job,
    planner: Planner,
    sink: Results,
    observer: Observer,
    budget: Budget,
    status: StatusFile,
    name: str,
) -> None:
    from raycp.distributed.metrics import CertifyMetrics
    from raycp.distributed.ray_transport import RayTransport, require_room

    require_room(job.config.engine)
    batch_size = job.config.numerics.batch_size
    assert batch_size != "auto"
    transport = RayTransport(job.spec, job.config.engine, batch_size, name)
    metrics = CertifyMetrics(name)

    def report(progress: Progress) -> None:
        accuracies = sink.accuracies()
        observer.progress(progress, accuracies)
        metrics.update(progress, accuracies)
        status.update(asdict(progress) | {"accuracies": [asdict(item) for item in accuracies]})

    dispatcher = Dispatcher(
        planner, transport, job.config.engine, batch_size, sink, report=report, budget=budget
    )
    with interruptible() as stop:
        dispatcher.run(stopped=lambda: stop.requested)
    metrics.update(dispatcher.progress(), sink.accuracies(), last=True)


def measured_batch_size(job: Job, observer: Observer) -> int:
    """The fastest batch size on one replica of the cluster."""
    from raycp.distributed.ray_transport import on_one_replica, require_room

    require_room(job.config.engine)
    batch_size = on_one_replica(job.spec, job.config.engine, "batch size", "choose_batch_size")
    observer.note(f"measured: a batch of {batch_size} is fastest here; it is part of the run from now on")
    return int(batch_size)


@contextmanager
def session_on_ray(job: Job, storage: Storage, observer: Observer) -> Iterator[None]:
    """The cluster that a job's engine names, with what is to be said of it."""
    with connected(job.config.engine, f"raycp {job.kind} {storage.name}") as url:
        observer.note(f"connected to Ray{f', dashboard at {url}' if url else ''}")
        numerics = job.config.numerics
        if (
            numerics.device == "cpu"
            and numerics.dtype == "bfloat16"
            and (slow := bfloat16_note("numerics.dtype"))
        ):
            observer.note(slow)
        yield


class Results:
    """A run's sink: makes blocks durable, then counts their outcomes as done.

    Args:
        job: what is computed.
        run: its directory.
        ledger: of that directory.
        outcomes: units that the ledger decided before.
    """

    def __init__(self, job: Job, run: RunDirectory, ledger: Ledger, outcomes: list[Outcome]) -> None:
        self._job = job
        self._run = run
        self._ledger = ledger
        self._outcomes: list[Outcome] = []
        self._radii = np.array(job.radii or [0.0])
        shape = len(self._radii)
        self._hits = {sigma: np.zeros(shape, dtype=np.int64) for sigma in job.config.certify.sigmas}
        self._decided = dict.fromkeys(job.config.certify.sigmas, 0)
        self._note(outcomes)

    def write(self, counted: Sequence[Counted], outcomes: Sequence[Outcome]) -> None:
        """See `Sink`."""
        if counted:
            self._ledger.append(counted)
        self._note(outcomes)

    def accuracies(self) -> list[SigmaAccuracy]:
        """Of the units that are durable."""
        return [
            SigmaAccuracy(
                sigma,
                decided,
                tuple(zip(self._radii.tolist(), (self._hits[sigma] / max(1, decided)).tolist(), strict=True)),
            )
            for sigma, decided in self._decided.items()
        ]

    def finish(self, undecided: Sequence[Outcome]) -> None:
        """Compact the ledger and write the table: the decided units, and what holds of the others."""
        self._ledger.compact()
        images = self._job.images
        outcomes = [*self._outcomes, *undecided]
        table = result_table(self._job.kind, outcomes, images.labels, images.indices, self._run.manifest)
        self._run.write_results(table)

    def _note(self, outcomes: Sequence[Outcome]) -> None:
        self._outcomes += outcomes
        for outcome in outcomes:
            row = outcome.row
            radius = row.radius if isinstance(row, CertificateRow) else 0.0
            self._hits[outcome.sigma] += row.correct & (radius >= self._radii)
            self._decided[outcome.sigma] += 1


@dataclass
class Stop:
    """Whether the user asked for the end of the session."""

    requested: bool = False


@contextmanager
def interruptible() -> Iterator[Stop]:
    """Turn the first SIGINT or SIGTERM into a request to stop; a second one interrupts for good.

    To be entered after Ray is started, which installs handlers of its own.
    """
    stop = Stop()

    def request(signum: int, _: object) -> None:
        if stop.requested:
            raise KeyboardInterrupt
        stop.requested = True

    previous = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
