"""Memory of a driver that certifies 50,000 images at three noise levels, in a process of its own."""

from __future__ import annotations

import multiprocessing
import time
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from raycp.bench.processes import Memory, MemoryPeak, memory_now
from raycp.bench.virtual_cluster import BATCH_SIZE, VirtualCluster
from raycp.bench.workload import cifar_size_config
from raycp.config import CertifyProtocol, Engine
from raycp.data import ImageSet
from raycp.distributed.cluster import connected
from raycp.distributed.dispatch import Dispatcher
from raycp.distributed.job import Job, prepare_job
from raycp.distributed.progress import Progress
from raycp.distributed.session import Results
from raycp.errors import ClusterError
from raycp.runs import open_run
from raycp.storage import Storage

FULL = 50_000
"""Images of the full size."""
_REPLICAS = 1_000
"""At the full size; fewer in proportion below it, so that all of the driver's memory scales."""
_SAMPLES_PER_SECOND = 20_000.0
"""Of each replica: a task of five seconds is then one image."""
_TASK_SECONDS = 5.0
_IMAGE_BYTES = 3 * 32 * 32
_WARM_UP_PART = 10
"""The first run, of one tenth of the images, loads what every run loads; only the second one is measured."""


@dataclass(frozen=True)
class DriverMemory:
    """What the driver of a run needed."""

    images: int
    sigmas: int
    num_estimation: int
    replicas: int
    tasks: int
    before: Memory | None
    """With models and images read, Ray connected, and a copy of images and weights in its object store."""
    peak: Memory | None
    """From the first task to the table of results; None where the system does not tell."""
    cpu_seconds: float
    """Of all that happened between the two."""
    run_bytes: int
    """What the run left on disk."""

    def scaled(self, images: int) -> Memory:
        """The peak with more images and replicas: pixels in both copies, and growth in proportion to the images."""
        assert self.before is not None
        assert self.peak is not None
        factor, pixels = images / self.images, (images - self.images) * _IMAGE_BYTES
        return Memory(
            round(self.before.private + factor * (self.peak.private - self.before.private)) + pixels,
            round(self.before.libraries + (self.peak.libraries - self.before.libraries)),
            round(self.before.shared + factor * (self.peak.shared - self.before.shared)) + pixels,
        )


def measure_memory(images: int) -> DriverMemory:
    """Certify `images` random 3x32x32 images at N = 100,000 on a virtual cluster: 1,000 replicas for 50,000 images.

    The process holds what a real driver holds: the images, a connection to Ray, the weights and images in its object
    store, the planner, the dispatcher, the ledger with its compactions, and all rows up to the final table.

    Raises:
        ClusterError: the process died.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(
        target=_serve, args=(theirs, images)
    )  # no daemon: it has children of its own, Ray's
    process.start()
    theirs.close()
    try:
        result: DriverMemory = ours.recv()
    except EOFError as err:
        process.join()
        raise ClusterError(
            f"the process that measures the driver's memory ended with exit status {process.exitcode}; what it said "
            "is above."
        ) from err
    process.join()
    return result


def _serve(connection: Connection, images: int) -> None:
    with TemporaryDirectory() as folder:
        job = _job(Path(folder), images)
        with connected(job.config.engine):
            from raycp.distributed.ray_transport import RayTransport

            in_store = RayTransport(job.spec, job.config.engine, BATCH_SIZE, "bench")
            _measure(_first(job, images // _WARM_UP_PART), Path(folder) / "warm-up")
            connection.send(_measure(job, Path(folder) / "run"))
            del in_store


def _job(folder: Path, num_images: int) -> Job:
    config = cifar_size_config(folder).model_copy(
        update={
            "certify": CertifyProtocol(),
            "engine": Engine(
                replicas=max(1, _REPLICAS * num_images // FULL), task_seconds=_TASK_SECONDS, local_cpus=1
            ),
        }
    )
    job = prepare_job("certify", config).with_batch_size(BATCH_SIZE)
    generator = np.random.default_rng(0)
    images = ImageSet(
        indices=np.arange(num_images),
        images=np.frombuffer(generator.bytes(num_images * _IMAGE_BYTES), np.uint8).reshape(-1, 3, 32, 32),
        labels=np.zeros(num_images, dtype=np.int64),
        class_names=None,
        source="random images",
    )
    return replace(job, images=images)


def _first(job: Job, num_images: int) -> Job:
    images = job.images
    return replace(
        job,
        images=replace(
            images,
            indices=images.indices[:num_images],
            images=images.images[:num_images],
            labels=images.labels[:num_images],
        ),
    )


def _measure(job: Job, folder: Path) -> DriverMemory:
    run = open_run(Storage(str(folder)), job.manifest())
    before, start = memory_now(), time.process_time()
    with MemoryPeak() as peak:
        planner, cluster = job.planner(), VirtualCluster(_SAMPLES_PER_SECOND)
        sink = Results(job, run, run.ledger(job.images.indices), [])

        def report(_: Progress) -> None:
            sink.accuracies()

        Dispatcher(planner, cluster, job.config.engine, BATCH_SIZE, sink, report).run()
        sink.finish([])
    return DriverMemory(
        images=len(job.images),
        sigmas=len(job.config.certify.sigmas),
        num_estimation=job.config.certify.num_estimation,
        replicas=job.config.engine.replicas or 1,
        tasks=cluster.num_tasks,
        before=before,
        peak=peak.memory,
        cpu_seconds=time.process_time() - start,
        run_bytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
    )
