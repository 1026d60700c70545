"""What is measured when nothing is said, and what the user's configuration is turned into."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from raycp.bench.null_model import null_classifier
from raycp.bench.workload import cifar_size_config, null_config, prepare_endless_job
from raycp.config import Engine, RunConfig
from raycp.distributed.replica import Replica
from raycp.errors import ConfigError
from raycp.sampling.blocks import Block, Phase


def test_the_cifar_size_pair_is_the_same_every_time(tmp_path: Path) -> None:
    jobs = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        jobs.append(prepare_endless_job(cifar_size_config(tmp_path / name), replicas=1))
    first, second = jobs
    assert first.purifier is not None
    assert second.purifier is not None
    assert first.purifier.sha256 == second.purifier.sha256
    assert first.classifier.sha256 == second.classifier.sha256
    assert first.images.sha256 == second.images.sha256
    assert first.images.images.shape[1:] == (3, 32, 32)
    assert 1e6 < first.purifier.parameters < 5e6


def test_a_job_without_an_end_on_this_machine_alone(tmp_path: Path) -> None:
    config = null_config(tmp_path)
    engine = Engine(address="auto", dashboard=True, local_cpus=3, task_seconds=0.7)
    certify = config.certify.model_copy(
        update={"sigmas": (0.5, 1.0), "skip_wrong": True, "radii": (0.0, 3.0)}
    )
    job = prepare_endless_job(config.model_copy(update={"engine": engine, "certify": certify}), None)
    assert job.config.engine == Engine(replicas=3, local_cpus=3, task_seconds=0.7)
    assert job.config.certify.sigmas == (0.5,)
    assert job.rule.largest_demand() > 10**8
    # Nothing ends after the first samples, whatever they say.
    planner = job.planner()
    task = planner.next_task(1_000, "cpu", ["cpu"])
    assert task is not None
    counts = np.zeros((len(task.blocks), 11), dtype=np.int64)
    counts[:, 9] = [block.num_samples for block in task.blocks]
    assert planner.record(task, counts, 1.0)[1] == []
    assert planner.next_task(1_000_000, "cpu", ["cpu"]) is not None


def with_engine(config: RunConfig, engine: Engine) -> RunConfig:
    return config.model_copy(update={"engine": engine})


def test_more_replicas_than_fit_are_refused(tmp_path: Path) -> None:
    config = null_config(tmp_path)
    with pytest.raises(
        ConfigError, match=r"^5 replicas of 2 CPU and 0 GPU .* this machine's 8 CPU .* hold 4;"
    ):
        prepare_endless_job(with_engine(config, Engine(local_cpus=8, cpus_per_replica=2)), 5)
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match=r"^1 replicas of 1 CPU and 1 GPU .* 0 GPU, which hold 0;"):
            prepare_endless_job(with_engine(config, Engine(gpus_per_replica=1)), None)
    job = prepare_endless_job(with_engine(config, Engine(local_cpus=8, cpus_per_replica=2, replicas=3)), 4)
    assert job.config.engine.replicas == 4


def test_the_null_model_votes_for_class_0(tmp_path: Path) -> None:
    assert null_classifier(3)(torch.zeros(2, 1, 1, 1)).tolist() == [[2, 1, 0], [2, 1, 0]]
    job = prepare_endless_job(null_config(tmp_path), 1)
    replica = Replica(job.spec)
    replica.prepare(1)
    counts, seconds = replica.run(0.25, [Block(0, Phase.ESTIMATION, 0, 5), Block(1, Phase.SELECTION, 0, 2)])
    assert counts[:, 0].tolist() == [5, 2]
    assert counts.sum() == 7
    assert seconds > 0
