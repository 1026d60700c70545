"""The cost that a dry run tells, against sums done by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from small_runs import small_config

from raycp.cli.session import plan
from raycp.distributed.cost import recorded_costs, sample_costs
from raycp.distributed.job import prepare_job
from raycp.models import save_denoiser

SLEEP = 0.2


def test_operations_and_time_of_a_linear_classifier() -> None:
    job = prepare_job("certify", small_config(seconds_per_batch=SLEEP))
    costs = sample_costs(job)
    assert list(costs) == [0.25, 0.5]
    for cost in costs.values():
        assert cost.operations == 2 * 64 * 10
        assert cost.evaluations == 0
        assert cost.seconds is not None and SLEEP / 4 <= cost.seconds < 2 * SLEEP
    line = next(line for line in plan(job, costs).splitlines() if line.startswith("cost"))
    # 6 images, 2 sigmas, 50 + 3,000 samples of 1,280 operations
    assert "1.28e-06 GFLOP per sample, 4.7e+07 FLOP in all: about 0.5" in line


def test_a_purifier_of_several_steps_and_a_run_on_gpus(tmp_path: Path) -> None:
    """13 evaluations from the grid level nearest to 2 sigma = 0.5, 15 from that nearest to 1."""
    from diffusers import UNet2DModel

    network_class: Any = UNet2DModel
    network = network_class(
        sample_size=8, in_channels=1, out_channels=1, block_out_channels=(8,), layers_per_block=1, norm_num_groups=4,
        down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",), add_attention=False,
    )  # fmt: skip
    save_denoiser(tmp_path, network, "edm")
    purifier = {"kind": "edm", "model": {"path": str(tmp_path)}}
    one = sample_costs(prepare_job("certify", small_config(purifier=purifier)))
    ode = purifier | {"kind": "pf_ode", "num_steps": 18}
    job = prepare_job("certify", small_config(purifier=ode, engine={"gpus_per_replica": 1}))
    many = sample_costs(job)
    network_alone = one[0.25].operations - 1280
    assert network_alone > 10_000 and one[0.5].operations == one[0.25].operations
    assert [many[sigma].operations for sigma in (0.25, 0.5)] == [
        13 * network_alone + 1280,
        15 * network_alone + 1280,
    ]
    assert [cost.evaluations for cost in one.values()] == [1, 1]
    assert [cost.evaluations for cost in many.values()] == [13, 15]
    assert many[0.25].seconds is None
    recorded = recorded_costs(job)
    assert recorded["0.5"] == {"operations": many[0.5].operations, "evaluations": 15}
    line = next(line for line in plan(job, many).splitlines() if line.startswith("cost"))
    assert " to " in line and "hours of a device that does 10 TFLOP/s" in line


def test_a_purifier_that_draws(tmp_path: Path) -> None:
    """DensePure: the first step once, the others and the classifier for each vote. DiffSmooth: m classifications."""
    from diffusers import UNet2DModel

    network_class: Any = UNet2DModel
    network = network_class(
        sample_size=8, in_channels=1, out_channels=2, block_out_channels=(8,), layers_per_block=1, norm_num_groups=4,
        down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",), add_attention=False,
    )  # fmt: skip
    save_denoiser(tmp_path, network, "ddpm", num_train_timesteps=1000)

    def operations(**purifier: Any) -> float:
        config = small_config(purifier={"model": {"path": str(tmp_path)}, **purifier})
        costs = sample_costs(prepare_job("certify", config))
        assert costs[0.25].operations == costs[0.5].operations
        return costs[0.25].operations

    network_alone = operations(kind="ddpm") - 1280
    assert network_alone > 10_000
    votes = operations(kind="densepure", timestep="search", num_votes=4, num_steps=3)
    assert votes == (1 + 4 * 2) * network_alone + 4 * 1280
    assert operations(kind="diffsmooth") == network_alone + 5 * 1280
