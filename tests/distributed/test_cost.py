"""The cost that a dry run tells, against sums done by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import small_config
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from raycp.cli.session import plan
from raycp.distributed.cost import recorded_costs, sample_costs
from raycp.distributed.job import Job, prepare_job
from raycp.models import ResidualClassifier, save_classifier, save_denoiser
from raycp.sampling.inner_noise import inner_noise_by_place

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


PF_ODE = {"kind": "pf_ode", "num_steps": 18}
DENSEPURE = {"kind": "densepure", "timestep": "search", "num_votes": 4, "num_steps": 3, "variance": "small"}
PREDICTED = {"kind": "edm", "model": {"class_label": "predicted"}}


@pytest.mark.parametrize(
    ("purifier", "purifications", "classifications"),
    [
        ({"kind": "none"}, [0, 0], 1),
        ({"kind": "ddpm"}, [1, 1], 1),
        ({"kind": "edm"}, [1, 1], 1),
        ({"kind": "consistency"}, [1, 1], 1),
        (PF_ODE, [13, 15], 1),
        (DENSEPURE, [1 + 4 * 2] * 2, 4),
        ({"kind": "diffsmooth"}, [1, 1], 5),
        (PREDICTED, [2, 2], 2),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else "",
)
def test_counting_runs_each_network_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    purifier: dict[str, Any],
    purifications: list[int],
    classifications: int,
) -> None:
    """And counts what a sample costs that runs them as often as it does."""
    job = residual_job(tmp_path, purifier)
    expected = counted_in_full(job)
    runs = {"UNet2DModel": 0, "ResidualClassifier": 0}
    for network in (unet_class(), ResidualClassifier):
        monkeypatch.setattr(network, "forward", counting(network.forward, runs))
    costs = sample_costs(job, timed=False)
    assert {sigma: cost.operations for sigma, cost in costs.items()} == expected
    assert [cost.evaluations for cost in costs.values()] == purifications
    assert runs == {"UNet2DModel": int(purifier["kind"] != "none"), "ResidualClassifier": 1}
    runs.update(dict.fromkeys(runs, 0))
    assert counted_in_full(job) == expected and list(expected) == [0.25, 0.5]
    assert runs == {"UNet2DModel": sum(purifications), "ResidualClassifier": 2 * classifications}


class Brighter(nn.Module):
    """Adds sigma to the pixels."""

    def forward(self, x: Tensor, sigma: float) -> Tensor:
        return x + sigma


class Thorough(nn.Module):
    """Looks a second time at bright images."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.head = nn.Linear(64, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        logits = self.head(x.flatten(1))
        return logits + self.head(x.flatten(1).square()) if x.mean() > 0.6 else logits


def test_a_users_networks_may_do_more_for_some_images() -> None:
    """0.3 or so is the mean of the digit, which sigma is added to."""
    config = small_config(
        purifier={"kind": "python", "factory": "test_cost:Brighter"},
        classifier={"kind": "python", "factory": "test_cost:Thorough", "num_classes": 10},
    )
    costs = sample_costs(prepare_job("certify", config), timed=False)
    assert [cost.operations for cost in costs.values()] == [1280, 2 * 1280]
    assert [cost.evaluations for cost in costs.values()] == [1, 1]


def unet_class() -> Any:
    from diffusers import UNet2DModel

    return UNet2DModel


def residual_job(folder: Path, purifier: dict[str, Any]) -> Job:
    """One of raycp's own classifiers, behind a purifier with a small network that fits its kind."""
    classifier = ResidualClassifier(10, in_channels=1, widths=(8,), blocks=1, groups=2)
    save_classifier(folder / "classifier", classifier, image_size=(8, 8))
    if purifier["kind"] != "none":
        ddpm = purifier["kind"] in ("ddpm", "densepure", "diffsmooth")
        network = unet_class()(
            sample_size=8, in_channels=1, out_channels=1, block_out_channels=(8,), layers_per_block=1,
            norm_num_groups=4, down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",), add_attention=False,
            num_class_embeds=10 if purifier is PREDICTED else None,
        )  # fmt: skip
        parametrisation: Any = (
            "ddpm" if ddpm else "consistency" if purifier["kind"] == "consistency" else "edm"
        )
        save_denoiser(folder / "purifier", network, parametrisation, num_train_timesteps=1000 if ddpm else 18)
        purifier = purifier | {"model": {"path": str(folder / "purifier"), **purifier.get("model", {})}}
    config = small_config(
        purifier=purifier, classifier={"kind": "directory", "path": str(folder / "classifier")}
    )
    return prepare_job("certify", config)


def counted_in_full(job: Job) -> dict[float, float]:
    """Operations of a sample at each sigma, every evaluation run."""
    base, image, found = job.on_cpu().base_classifier, job.first_image()[None], {}
    for sigma in job.config.certify.sigmas:
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            base.forward(image, sigma, inner_noise_by_place(image))
        found[sigma] = float(counter.get_total_flops())
    return found


def counting(forward: Any, runs: dict[str, int]) -> Any:
    def counted(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        runs[type(self).__name__] += 1
        return forward(self, *args, **kwargs)

    return counted


class Attending(nn.Module):
    """A linear classifier of what the rows of an 8 x 8 image make of each other."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(nn.functional.scaled_dot_product_attention(images, images, images).flatten(1))


def test_fused_attention_counts() -> None:
    """Two products of 8 x 8 matrices, of which torch has no count on CPUs, and the linear map."""
    job = prepare_job(
        "certify",
        small_config(classifier={"kind": "python", "factory": "test_cost:Attending", "num_classes": 10}),
    )
    with FlopCounterMode(display=False) as plain, torch.no_grad():
        Attending()(torch.zeros(1, 1, 8, 8))
    assert plain.get_total_flops() == 1280, "torch counts it by now: raycp need not"
    assert sample_costs(job)[0.25].operations == 2 * 2 * 8 * 8 * 8 + 1280
