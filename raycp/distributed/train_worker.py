"""What every worker of a training does: all stages one after the other, in one Ray Train job."""

from __future__ import annotations

import copy
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from raycp.config import parse_config, resolved
from raycp.config.stages import (
    ClassifierStage,
    ConsistencyStage,
    DenoiserStage,
    FinetuneStage,
    StageConfig,
    backbone_of,
)
from raycp.config.train import TrainConfig
from raycp.data import count_classes
from raycp.distributed.training_run import LOG, MODELS
from raycp.errors import TrainingError
from raycp.models import (
    Bundle,
    ResidualClassifier,
    build_classifier,
    build_denoiser,
    read_model,
    save_classifier,
    save_denoiser,
)
from raycp.training.batches import Batches
from raycp.training.loop import StageTraining
from raycp.training.networks import inherit
from raycp.training.perceptual import lpips_distance
from raycp.training.stages import Diffusion, Trained, diffusion_of, purifier_of, stage_loss

_LOG_SECONDS = 5.0
_VALIDATION_DRAWS = 4


def train_worker(job: dict[str, Any]) -> None:
    """The training loop of one worker.

    Args:
        job: `config` (resolved TrainConfig), `out` (absolute path of the run), `data` (hashes, for the cards),
            `images` and `held_out`: object references of (images uint8 [M,C,H,W], labels [M], class names), the
            latter None without validation; `backbones`: reference of the weights of ImageNet backbones by stage.

    A `TrainingError` goes into the log and not up: Ray Train would try again what fails the same way each time.
    """
    import ray
    import ray.train

    config = parse_config(TrainConfig, job["config"])
    torch.set_num_threads(max(1, int(config.engine.cpus_per_worker)))
    torch.use_deterministic_algorithms(True, warn_only=True)
    out = Path(job["out"])
    training_set = ray.get(job["images"])
    held_out = None if job["held_out"] is None else ray.get(job["held_out"])
    context = ray.train.get_context()
    worker = _Worker(
        config, out, job["data"], training_set, held_out, context.get_world_rank(), context.get_world_size(),
        ray.get(job["backbones"]),
    )  # fmt: skip
    try:
        worker.run()
    except TrainingError as err:
        worker.log({"error": str(err)})


class _Worker:
    def __init__(
        self,
        config: TrainConfig,
        out: Path,
        data: dict[str, str],
        images: Any,
        held_out: Any,
        rank: int,
        world: int,
        backbones: dict[str, dict[str, np.ndarray] | None],
    ) -> None:
        import ray.train.torch

        self._config = config
        self._out = out
        self._data = data
        self._images, self._labels, self._class_names = images
        self._held_out = held_out
        self._rank = rank
        self._world = world
        self._backbones = backbones
        self._device = ray.train.torch.get_device()
        self._done: dict[str, Trained] = {}
        self._sha256: dict[str, str] = {}

    def run(self) -> None:
        """All stages that are not on disk yet."""
        for name, model in self._config.models.items():
            self._take(name, Path(model.path))
        for number, stage in enumerate(self._config.stages):
            folder = self._out / MODELS / stage.name
            if not folder.is_dir():
                self._train(number, stage.name, stage, folder)
            self._take(stage.name, folder)

    def _take(self, name: str, folder: Path) -> None:
        bundle = read_model(str(folder))
        self._sha256[name] = bundle.sha256
        trained = _build(bundle)
        trained.network.to(self._device)
        self._done[name] = trained

    def log(self, line: dict[str, Any]) -> None:
        """Append a line to the run's log, from the first worker."""
        if self._rank == 0:
            with (self._out / LOG).open("a") as log:
                log.write(json.dumps(line) + "\n")

    def _train(self, number: int, name: str, stage: StageConfig, folder: Path) -> None:
        import ray.train
        import ray.train.torch

        torch.manual_seed(int(np.random.SeedSequence([self._config.seed, number]).generate_state(1)[0]))
        plain = self._make(stage)
        if stage.channels_last:
            plain.to(memory_format=torch.channels_last)
        target = None
        if isinstance(stage, ConsistencyStage):
            target = copy.deepcopy(plain).requires_grad_(False)
            target.to(self._device)
        network = ray.train.torch.prepare_model(plain)  # moves it to the device
        batches = Batches(
            self._images, self._labels, stage.batch_size, stage.max_shift,
            (self._config.seed, number), self._rank, self._world, self._device, stage.flip,
            stage.copies if isinstance(stage, ClassifierStage) else 1, stage.accumulate,
        )  # fmt: skip
        loss = stage_loss(stage, network, target, self._done, batches, self._lpips(stage))
        decay = stage.target_decay if isinstance(stage, ConsistencyStage) else 0.0
        training = StageTraining(stage, network, plain, loss, target, decay, self._over_workers)
        self._restore(name, training)
        start, first, last_line = time.monotonic(), training.step, 0.0
        for value in training.run():
            now = time.monotonic()
            if now - last_line >= _LOG_SECONDS or training.step == stage.steps:
                last_line = now
                rate = (training.step - first) / (now - start)
                self.log(
                    {
                        "stage": name,
                        "step": training.step,
                        "steps": stage.steps,
                        "loss": value,
                        "images_per_second": rate * stage.batch_size,
                        "seconds_left": (stage.steps - training.step) / rate,
                    }
                )
            if training.step % self._config.engine.checkpoint_steps == 0 and training.step < stage.steps:
                self._checkpoint(name, training)
        trained = training.average.eval().requires_grad_(False)
        if self._rank == 0:
            metrics = self._measure(stage, trained)
            self.log({"stage": name, "done": True, "seconds": time.monotonic() - start, **metrics})
            self._save(name, stage, trained, folder, metrics)
        ray.train.report({"stage": name, "step": stage.steps})  # also a barrier: the model is on disk

    def _lpips(self, stage: StageConfig) -> nn.Module | None:
        backbone = backbone_of(stage)
        if backbone is None:
            return None
        state = self._backbones[stage.name]
        tensors = None if state is None else {name: torch.tensor(array) for name, array in state.items()}
        return lpips_distance(backbone.net, tensors, backbone.resize).to(self._device)

    def _over_workers(self, value: Tensor) -> Tensor:
        if self._world > 1:
            torch.distributed.all_reduce(value)
        return value / self._world

    def _make(self, stage: StageConfig) -> nn.Module:
        channels, height, width = self._images.shape[1:]
        if isinstance(stage, ClassifierStage):
            if stage.start is not None:
                before: nn.Module = copy.deepcopy(self._done[stage.start].network)
                return before.train().requires_grad_(True)
            classes = count_classes(self._labels, self._class_names)
            return ResidualClassifier(classes, channels, stage.widths, stage.blocks, stage.groups)
        if isinstance(stage, FinetuneStage):
            start: nn.Module = copy.deepcopy(self._done[stage.start].network)
            return start.train().requires_grad_(True)
        if isinstance(stage, DenoiserStage) or stage.teacher is None:
            size = height if height == width else (height, width)
            fresh: nn.Module = _make_unet(stage, channels, size)
            return fresh
        diffusion = diffusion_of(stage, self._done)
        assert diffusion is not None
        teacher = copy.deepcopy(self._done[stage.teacher].network).cpu()
        unet: nn.Module = copy.deepcopy(teacher).train().requires_grad_(True)
        inherit(unet, teacher, diffusion.grid_N)
        return unet

    def _measure(self, stage: StageConfig, network: nn.Module) -> dict[str, float]:
        """Accuracy on held-out images: clean for a classifier, after purification at each noise level otherwise."""
        if self._held_out is None:
            return {}
        images, labels, _ = self._held_out
        x = (torch.from_numpy(np.array(images)).float() / 127.5 - 1).to(self._device)
        y = torch.from_numpy(np.array(labels)).to(self._device)
        if isinstance(stage, ClassifierStage):
            return {"accuracy": _accuracy(network, x, y)}
        judge, diffusion = self._done.get(self._config.validation_classifier), diffusion_of(stage, self._done)
        if judge is None:
            return {}
        assert diffusion is not None
        purify = purifier_of(stage, network, diffusion)
        generator = torch.Generator().manual_seed(self._config.seed)
        metrics = {}
        for sigma in self._config.validation_sigmas:
            shares = []
            for _ in range(_VALIDATION_DRAWS):
                noisy = x + 2 * sigma * torch.randn(x.shape, generator=generator).to(self._device)
                with torch.no_grad():
                    shares.append(_accuracy(judge.network, purify(noisy, 2 * sigma), y))
            metrics[f"purified_accuracy@{sigma:g}"] = sum(shares) / len(shares)
        return metrics

    def _save(
        self, name: str, stage: StageConfig, network: Any, folder: Path, metrics: dict[str, float]
    ) -> None:
        """Write the model directory; it appears whole, under its name, when it is complete."""
        aside = folder.with_name(f".{name}.tmp")
        shutil.rmtree(aside, ignore_errors=True)
        card = {
            "stage": resolved(stage),
            "seed": self._config.seed,
            "data": self._data,
            "parents": dict(self._sha256),
            "metrics": metrics,
        }
        network = network.cpu()
        size = tuple(self._images.shape[2:])
        if isinstance(stage, ClassifierStage):
            half = [0.5] * self._images.shape[1]
            save_classifier(
                aside, network, image_size=size, class_names=self._class_names, mean=half, std=half, card=card
            )
        else:
            diffusion = diffusion_of(stage, self._done)
            assert diffusion is not None
            scheduler: dict[str, Any] = {"sigma_data": diffusion.sigma_data}
            if diffusion.num_steps is not None:
                scheduler |= {key: getattr(diffusion, key) for key in ("sigma_min", "sigma_max", "rho")}
                scheduler["num_train_timesteps"] = diffusion.num_steps
            save_denoiser(
                aside, network, "edm" if diffusion.num_steps is None else "consistency", **scheduler
            )
            (aside / "card.json").write_text(json.dumps(card, indent=2))
        aside.rename(folder)

    def _checkpoint(self, name: str, training: StageTraining) -> None:
        import ray.train

        with tempfile.TemporaryDirectory() as folder:
            checkpoint = None
            if self._rank == 0:
                torch.save({"stage": name, "training": training.state()}, Path(folder) / "state.pt")
                checkpoint = ray.train.Checkpoint.from_directory(folder)
            ray.train.report({"stage": name, "step": training.step}, checkpoint=checkpoint)

    def _restore(self, name: str, training: StageTraining) -> None:
        import ray.train

        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            return
        with checkpoint.as_directory() as folder:
            state = torch.load(Path(folder) / "state.pt", map_location=self._device, weights_only=True)
        if state["stage"] == name:
            training.load(state["training"])


def _make_unet(stage: Any, channels: int, size: int | tuple[int, int]) -> Any:
    from diffusers import UNet2DModel

    levels = len(stage.block_out_channels)
    return UNet2DModel(  # type: ignore[no-untyped-call]
        sample_size=size,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=stage.block_out_channels,
        layers_per_block=stage.layers_per_block,
        norm_num_groups=stage.norm_num_groups,
        down_block_types=("DownBlock2D",) * levels,
        up_block_types=("UpBlock2D",) * levels,
        add_attention=False,
    )


def _build(bundle: Bundle) -> Trained:
    """The plain network of a model, and the constants that the losses put around it."""
    if "schedule" not in bundle.recipe:
        return Trained(build_classifier(bundle).network)
    denoiser = build_denoiser(bundle)
    num_steps = denoiser.num_steps if denoiser.parametrisation == "consistency" else None
    constants = Diffusion(
        denoiser.sigma_data, num_steps, denoiser.sigma_min, denoiser.sigma_max, denoiser.rho
    )
    return Trained(denoiser.network, constants)


def _accuracy(classifier: nn.Module, x_BCHW: Tensor, label_B: Tensor) -> float:
    with torch.no_grad():
        return float((classifier(x_BCHW).argmax(dim=1) == label_B).float().mean())
