"""Published classifiers under training: what train mode means for them, and what is averaged."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_classifiers import CLASSES, KINDS, SIDE, section
from torch import Tensor, nn
from training_setups import train_config

from raycp.config.models import CifarResNetClassifier, DirectoryClassifier
from raycp.config.stages import ClassifierStage
from raycp.distributed.trained_models import build_trained, save_model
from raycp.models import build_classifier, read_classifier
from raycp.storage import Storage
from raycp.training.batches import Batches, LoadedImages
from raycp.training.loop import StageTraining, running_statistics
from raycp.training.networks import trainable
from raycp.training.stages import Diffusion, Trained, stage_loss

STEPS = 4


class Purifier(nn.Module):
    """A U-Net that predicts nothing."""

    def forward(self, x_BCHW: Tensor, conditioning_B: Tensor, return_dict: bool) -> tuple[Tensor]:
        return (torch.zeros_like(x_BCHW),)


def coloured() -> LoadedImages:
    """Noise on one of four greys, which is the class."""
    labels = np.arange(64) % CLASSES
    noise = np.random.default_rng(0).integers(-20, 21, (64, 3, SIDE, SIDE))
    return LoadedImages((40 + 50 * labels[:, None, None, None] + noise).astype(np.uint8), labels)


def training(
    start: Trained,
    rank: int = 0,
    workers: int = 1,
    over_workers: Any = lambda value: value,
    images: LoadedImages | None = None,
    **changes: Any,
) -> StageTraining:
    raw = {
        "stage": "classifier", "start": "net", "steps": STEPS, "batch_size": 16, "learning_rate": 2e-3,
        "warmup_steps": 0, "noise_sigma": 0.1, **changes,
    }  # fmt: skip
    models = {"net": {"path": "n"}, "purifier": {"path": "p"}}
    (stage,) = train_config(raw, models=models, engine={"workers": workers}).stages
    assert isinstance(stage, ClassifierStage)
    images = images or coloured()
    network = trainable(copy.deepcopy(start.network), images.shape)
    batches = Batches(images, 16, 0, (0, 0), rank, workers, copies=stage.copies, parts=stage.accumulate)
    earlier = {"net": start, "purifier": Trained(Purifier(), Diffusion(0.5))}
    loss = stage_loss(stage, network, None, earlier, batches)
    return StageTraining(stage, network, network, loss, over_workers=over_workers)


def tiny(kind: str, folder: Path) -> Trained:
    config = train_config({"stage": "denoiser", "steps": 1}, models={"net": section(kind, folder)})
    return build_trained(read_classifier(config.models["net"]))  # type: ignore[arg-type]


def weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        *((kind, {}) for kind in KINDS),
        ("transformers", {"purifier": "purifier"}),
        ("cifar_resnet", {"purifier": "purifier"}),
        ("cifar_resnet", {"copies": 2, "consistency_weight": 5}),
    ],
)
def test_the_loss_falls_and_an_interruption_leaves_no_trace(
    tmp_path: Path, kind: str, how: dict[str, Any]
) -> None:
    start = tiny(kind, tmp_path)
    before = weights(start.network)
    whole = training(start, steps=12, accumulate=2, **how)
    losses = list(whole.run())
    assert sum(losses[-4:]) < sum(losses[:4])
    assert all(torch.equal(before[name], tensor) for name, tensor in start.network.state_dict().items())
    first = training(start, steps=12, accumulate=2, **how)
    steps = first.run()
    for _ in range(5):
        next(steps)
    torch.manual_seed(99)  # of another process
    second = training(start, steps=12, accumulate=2, **how)
    second.load(first.state())
    assert list(second.run()) == losses[5:]
    again = weights(second.average)
    for name, tensor in whole.average.state_dict().items():
        assert torch.equal(again[name], tensor), name
    moved = {name for name, tensor in before.items() if not torch.equal(tensor, again[name])}
    kept = {name.rpartition(".")[2] for name in set(before) - moved}
    assert kept <= {"unused", "num_batches_tracked"}


def test_what_the_output_does_not_depend_on_stays(tmp_path: Path) -> None:
    started = training(tiny("python", tmp_path), weight_decay=0.1)
    frozen = [name for name, p in started._plain.named_parameters() if not p.requires_grad]
    assert frozen == ["classifier.network.unused"]
    list(started.run())
    assert torch.equal(started.average.state_dict()[frozen[0]], torch.ones(3))


def test_statistics_are_those_of_noisy_batches_and_averaged_like_the_weights(tmp_path: Path) -> None:
    started = training(tiny("cifar_resnet", tmp_path), ema_decay=0.5, learning_rate=1e-12)
    seen: list[Tensor] = []
    first: Any = started._plain.classifier.network.conv1
    first.register_forward_hook(lambda *args: seen.append(args[2].detach()))
    list(started.run())
    assert len(seen) == STEPS
    running, averaged = torch.zeros(8), torch.zeros(8)
    for step, h_BCHW in enumerate(
        seen
    ):  # momentum 0.1; the average begins with a decay of (1 + step) / (10 + step)
        running = 0.9 * running + 0.1 * h_BCHW.mean(dim=(0, 2, 3))
        decay = min(0.5, (1 + step) / (10 + step))
        averaged = decay * averaged + (1 - decay) * running
    mean: Any = started._plain.classifier.network.bn1.running_mean
    kept: Any = started.average.classifier.network.bn1.running_mean
    torch.testing.assert_close(mean, running)
    torch.testing.assert_close(kept, averaged)
    # Noise of 0.1 is in them: without it the variances are smaller.
    clean = training(tiny("cifar_resnet", tmp_path), ema_decay=0.5, learning_rate=1e-12, noise_sigma=0)
    list(clean.run())
    variance: Any = clean.average.classifier.network.bn1.running_var
    assert bool((variance < started.average.classifier.network.bn1.running_var).all())  # type: ignore[union-attr, operator]


def test_workers_share_their_statistics(tmp_path: Path) -> None:
    """Two workers in turn, of which each is told the mean: equal at the end, and both halves of a batch are in them."""
    start = tiny("smoothing_resnet", tmp_path)
    apart = [training(start, rank, 2, steps=1, learning_rate=1e-12) for rank in range(2)]
    for worker in apart:
        list(worker.run())
    of_one, of_other = (torch.cat(running_statistics(worker._plain)) for worker in apart)
    assert not torch.equal(of_one, of_other)
    mean = (of_one + of_other) / 2
    together = training(
        start, 0, 2, lambda value: mean if value.numel() == len(mean) else value, steps=1, learning_rate=1e-12
    )
    list(together.run())
    assert torch.equal(torch.cat(running_statistics(together._plain)), mean)


def test_dropout_differs_between_workers_parts_and_steps() -> None:
    batches = [Batches(coloured(), 16, 0, (3, 1), rank, 2, parts=2) for rank in range(2)]
    seeds = {worker.seed(step, part) for worker in batches for step in range(3) for part in range(2)}
    assert len(seeds) == 12
    assert Batches(coloured(), 16, 0, (3, 1), 1, 2, parts=2).seed(2, 1) == batches[1].seed(2, 1)


def test_the_published_resnet56_learns_to_see_through_noise(shared_data: Path, tmp_path: Path) -> None:
    """Its weights, real images: the loss under noise falls far within a few steps, and it is written and read back."""
    fixture = shared_data / "parity" / "cifar-resnet-th"
    stored = load_file(fixture / "io.safetensors")
    images, labels = stored["images_uint8"].numpy(), stored["labels"].numpy()
    config = CifarResNetClassifier(kind="cifar_resnet", weights=str(fixture / "resnet56-4bfd9763.th"))
    bundle = read_classifier(config)
    start = build_trained(bundle)
    changes = {"steps": 20, "noise_sigma": 0.25, "ema_decay": 0.8, "learning_rate": 1e-3}
    tuned = training(start, images=LoadedImages(images, labels), **changes)
    losses = list(tuned.run())
    assert losses[0] > 2 and sum(losses[-3:]) < sum(losses[:3]) / 2
    network = tuned.average.eval()
    save_model(Storage(str(tmp_path / "run")), "tuned", network, None, start.recipe, (32, 32), None, {})
    folder = tmp_path / "run" / "models" / "tuned"
    x_BCHW = torch.from_numpy(images) / 255
    for section_of in (
        DirectoryClassifier(kind="directory", path=str(folder)),
        CifarResNetClassifier(kind="cifar_resnet", weights=str(folder / "model.safetensors")),
    ):
        again = read_classifier(section_of)
        assert again.recipe == bundle.recipe
        with torch.no_grad():
            assert torch.equal(build_classifier(again)(x_BCHW), network.classifier(x_BCHW))  # type: ignore[operator]
