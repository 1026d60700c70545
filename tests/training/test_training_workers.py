"""Two data-parallel workers take the steps of one."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

sys.path.insert(0, str(Path(__file__).parent))  # for the spawned workers

from training_setups import classifier_stage, classifier_training

WORKERS, STEPS = 2, 6


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    store = dist.FileStore(f"{folder}/store", WORKERS)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=WORKERS)
    config = classifier_stage(steps=STEPS, max_shift=1, accumulate=2)
    training, plain = classifier_training(config, rank, WORKERS, DistributedDataParallel)
    losses = list(training.run())
    torch.save({"losses": losses, "weights": plain.state_dict()}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_parts_of_a_batch_make_the_same_step() -> None:
    """In four parts or in one; in bfloat16 nearly."""
    found = {}
    for name, changes in {"whole": {}, "parts": {"accumulate": 4}, "half": {"dtype": "bfloat16"}}.items():
        training, _ = classifier_training(classifier_stage(steps=STEPS, max_shift=1, **changes))
        found[name] = torch.tensor(list(training.run()))
    torch.testing.assert_close(found["parts"], found["whole"], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found["half"], found["whole"], rtol=0.1, atol=0.05)
    assert not torch.equal(found["half"], found["whole"])


def test_two_workers_take_the_steps_of_one(tmp_path: Path) -> None:
    mp.spawn(work, args=(str(tmp_path),), nprocs=WORKERS)
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(WORKERS)]
    training, network = classifier_training(classifier_stage(steps=STEPS, max_shift=1))
    losses = list(training.run())
    # Each worker sees its half of the batch only, so agreement of the means is no accident.
    assert parts[0]["losses"] != parts[1]["losses"]
    means = [(a + b) / 2 for a, b in zip(parts[0]["losses"], parts[1]["losses"], strict=True)]
    torch.testing.assert_close(torch.tensor(means), torch.tensor(losses), rtol=1e-3, atol=1e-4)
    for name, value in network.state_dict().items():
        assert torch.equal(parts[0]["weights"][name], parts[1]["weights"][name])
        # Adam divides by the gradient's size, so where that is near 0 sums in another order show.
        torch.testing.assert_close(parts[0]["weights"][name], value, rtol=1e-2, atol=1e-3)
