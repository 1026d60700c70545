"""What every worker of a training does: all stages one after the other, in one Ray Train job."""

from __future__ import annotations

import copy
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from raycp.config import parse_config, resolved
from raycp.config.perceptual import Backbone
from raycp.config.stages import (
    CalibrateStage,
    ClassifierStage,
    ConsistencyStage,
    DDPMStage,
    DenoiserStage,
    FinetuneStage,
    StageConfig,
    backbone_of,
)
from raycp.config.train import TrainConfig
from raycp.distributed.hardware import keep_freed_memory
from raycp.distributed.trained_models import build_trained, functions_of, has_model, make_unet, save_model
from raycp.distributed.training_set import TrainingSet
from raycp.errors import TrainingError
from raycp.models import Bundle, ResidualClassifier, read_model
from raycp.storage import Storage
from raycp.training.batches import Batches
from raycp.training.distances import Distance, lpips_on
from raycp.training.loop import StageTraining
from raycp.training.networks import features_of, inherit, trainable
from raycp.training.perceptual import lpips_distance
from raycp.training.run_files import MODELS, VALIDATION
from raycp.training.stages import (
    Trained,
    diffusion_of,
    fitted_to_times,
    purifier_in,
    purifier_of,
    stage_loss,
)
from raycp.training.validation import HeldOut

_PROGRESS_SECONDS = 5.0
_EXAMPLES = 8
# A line that was told less than this before a checkpoint may have died with the driver: the checkpoint keeps it.
_RETOLD_SECONDS = 60.0


def train_worker(job: dict[str, Any]) -> None:
    """The training loop of one worker.

    Args:
        job: `config` (resolved TrainConfig), `out` (path or URI of the run), `data` (hashes, for the cards), `images`:
            see TrainingSet; `held_out`: object reference of (images uint8 [M,C,H,W], labels [M], class names), None
            without validation; `parents`: reference of the models of other trainings (Bundle) by name, since no file of
            the driver's need exist here; `backbones`: reference of the weights of ImageNet backbones by stage;
            `mailbox`: the actor that takes what the first worker has to tell.

    A `TrainingError` is told and not raised: Ray Train would try again what fails the same way each time.
    """
    import ray
    import ray.train

    config = parse_config(TrainConfig, job["config"])
    keep_freed_memory()
    torch.set_num_threads(max(1, int(config.engine.cpus_per_worker)))
    torch.use_deterministic_algorithms(True, warn_only=True)
    held_out = None if job["held_out"] is None else ray.get(job["held_out"])
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    images = TrainingSet(job["images"], config, rank, world)
    worker = _Worker(
        config, Storage(job["out"]), job["data"], images, held_out, rank, world, ray.get(job["parents"]),
        ray.get(job["backbones"]), job["mailbox"],
    )  # fmt: skip
    try:
        worker.run()
    except TrainingError as err:
        worker.tell({"error": str(err)}, wait=True)


class _Worker:
    def __init__(
        self,
        config: TrainConfig,
        storage: Storage,
        data: dict[str, str],
        images: TrainingSet,
        held_out: Any,
        rank: int,
        world: int,
        parents: dict[str, Bundle],
        backbones: dict[str, dict[str, np.ndarray] | None],
        mailbox: Any,
    ) -> None:
        import ray.train.torch

        self._config = config
        self._storage = storage
        self._mailbox = mailbox
        self._data = data
        self._images = images
        self._rank = rank
        self._world = world
        self._parents = parents
        self._backbones = backbones
        self._device = ray.train.torch.get_device()
        self._held_out = None
        if held_out is not None:
            self._held_out = HeldOut(
                held_out[0], held_out[1], config.validation_sigmas, config.validation_draws, config.seed,
                rank, world, self._device, self._sum_over_workers,
            )  # fmt: skip
        self._done: dict[str, Trained] = {}
        self._sha256: dict[str, str] = {}
        self._recent: list[tuple[float, dict[str, Any]]] = []

    def run(self) -> None:
        """All stages that are not on disk yet."""
        for name, bundle in self._parents.items():
            self._take(name, bundle)
        for number, stage in enumerate(self._config.stages):
            if not has_model(self._storage, stage.name):
                self._train(number, stage.name, stage)
            path = self._storage.path(f"{MODELS}/{stage.name}")
            self._take(stage.name, read_model(path, functions_of(self._config)))

    def _take(self, name: str, bundle: Bundle) -> None:
        self._sha256[name] = bundle.sha256
        trained = build_trained(bundle)
        trained.network.to(self._device)
        self._done[name] = trained

    def tell(self, line: dict[str, Any], wait: bool = False) -> None:
        """Hand a line to the driver, from the first worker; `wait` until it has arrived."""
        import ray

        if self._rank == 0:
            if "progress" not in line and "restored" not in line:  # a restart tells these again
                plain = {key: value for key, value in line.items() if key != "examples"}
                self._recent.append((time.monotonic(), plain))
            sent = self._mailbox.put.remote(line)
            if wait:
                ray.get(sent)

    def _train(self, number: int, name: str, stage: StageConfig) -> None:
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
        # Moves it to the device. Buffers are shared by StageTraining: copied from the first worker, they would change
        # between two forward passes of one step.
        network = ray.train.torch.prepare_model(plain, parallel_strategy_kwargs={"broadcast_buffers": False})
        batches = Batches(
            self._images.of_stage(number, stage), stage.batch_size, stage.max_shift,
            (self._config.seed, number), self._rank, self._world, self._device, stage.flip,
            stage.copies if isinstance(stage, ClassifierStage | CalibrateStage) else 1, stage.accumulate,
        )  # fmt: skip
        loss = stage_loss(stage, network, target, self._done, batches, self._lpips(name, backbone_of(stage)))
        decay = stage.target_decay if isinstance(stage, ConsistencyStage) else 0.0
        training = StageTraining(stage, network, plain, loss, target, decay, self._over_workers)
        window = self._restore(name, training)
        engine, begun, first = self._config.engine, time.monotonic(), training.step
        told = begun
        metrics: dict[str, float] = {}
        for value in training.run():
            window.append(value)
            step, now, last = training.step, time.monotonic(), training.step == stage.steps
            rate = (step - first) / (now - begun)
            line = {"stage": name, "step": step, "images_per_second": rate * stage.batch_size}
            if step % engine.log_steps == 0 or last:
                self.tell(line | {"loss": sum(window) / len(window)})
                window.clear()
            if now - told >= _PROGRESS_SECONDS or last:
                told = now
                left = (stage.steps - step) / rate
                self.tell(line | {"progress": stage.steps, "loss": value, "seconds_left": left})
            if last or (engine.validation_steps and step % engine.validation_steps == 0):
                metrics = self._validate(name, stage, step, training.average)
            if step % engine.checkpoint_steps == 0 and not last:
                self._checkpoint(name, training, window)
        trained = training.average.eval().requires_grad_(False)
        if self._rank == 0:
            self._save(name, stage, trained, metrics)
        seconds = time.monotonic() - begun
        self.tell(
            {"stage": name, "step": training.step, "done": True, "seconds": seconds, "metrics": metrics},
            wait=True,
        )
        ray.train.report({"stage": name, "step": stage.steps})  # also a barrier: the model is there for all

    def _lpips(self, user: str, backbone: Backbone | None) -> nn.Module | None:
        if backbone is None:
            return None
        state = self._backbones[user]
        tensors = None if state is None else {name: torch.tensor(array) for name, array in state.items()}
        return lpips_distance(backbone.net, tensors, backbone.resize).to(self._device)

    def _sum_over_workers(self, value: Tensor) -> Tensor:
        if self._world > 1:
            torch.distributed.all_reduce(value)
        return value

    def _over_workers(self, value: Tensor) -> Tensor:
        return self._sum_over_workers(value) / self._world

    def _make(self, stage: StageConfig) -> nn.Module:
        channels, height, width = self._images.shape
        if isinstance(stage, ClassifierStage):
            if stage.start is not None:
                return trainable(copy.deepcopy(self._done[stage.start].network), self._images.shape)
            return ResidualClassifier(self._images.num_classes, channels, **stage.architecture)
        if isinstance(stage, FinetuneStage | CalibrateStage) or (
            isinstance(stage, ConsistencyStage) and stage.start
        ):
            assert stage.start is not None
            start: nn.Module = copy.deepcopy(self._done[stage.start].network)
            return start.train().requires_grad_(True)
        if isinstance(stage, DenoiserStage | DDPMStage) or stage.teacher is None:
            fresh: nn.Module = make_unet(stage, channels, height, width)
            return fresh
        diffusion = diffusion_of(stage, self._done)
        assert diffusion is not None
        teacher = copy.deepcopy(self._done[stage.teacher].network).cpu()
        unet: nn.Module = copy.deepcopy(teacher).train().requires_grad_(True)
        if fitted_to_times(self._done[stage.teacher]):
            inherit(unet, teacher, diffusion.grid_N)
        return unet

    def _validate(self, name: str, stage: StageConfig, step: int, network: nn.Module) -> dict[str, float]:
        """Metrics on held-out images, the same on all workers; the first one tells them, with a few examples."""
        import ray.train

        if self._held_out is None:
            return {}
        pixels = None
        average = copy.deepcopy(network).eval().requires_grad_(False)
        half = torch.autocast(self._device.type, torch.bfloat16, enabled=stage.dtype == "bfloat16")
        with torch.no_grad(), half:
            if isinstance(stage, ClassifierStage):
                purifier = None if stage.purifier is None else purifier_in(self._done[stage.purifier])
                metrics = self._held_out.of_classifier(average, stage.noise_sigma, purifier)
            else:
                diffusion = diffusion_of(stage, self._done)
                assert diffusion is not None
                purify = purifier_of(stage, average, diffusion)
                judge = self._done.get(self._config.validation_classifier)
                metrics = self._held_out.of_purifier(
                    purify, None if judge is None else judge.network, self._perceptual(judge)
                )
                if self._rank == 0:
                    pixels = self._held_out.examples(purify, _EXAMPLES)
        line: dict[str, Any] = {"stage": name, "step": step, "metrics": metrics}
        if pixels is not None:
            line["examples"] = {"sigmas": list(self._config.validation_sigmas), "pixels": pixels}
        self.tell(line)
        if step < stage.steps:
            ray.train.report({"stage": name, "step": step, **metrics})
        return metrics

    def _perceptual(self, judge: Trained | None) -> Distance | None:
        """The LPIPS of validation: on the backbone that the configuration names, or on the judge's features."""
        if self._config.validation_perceptual is not None:
            return self._lpips(VALIDATION, self._config.validation_perceptual)
        if judge is None or judge.recipe is not None:  # only raycp's own networks have features to compare
            return None
        classifier = judge.network
        return lpips_on(lambda x_BCHW: features_of(classifier, x_BCHW))

    def _save(self, name: str, stage: StageConfig, network: Any, metrics: dict[str, float]) -> None:
        card = {
            "stage": resolved(stage),
            "seed": self._config.seed,
            "data": self._data,
            "parents": dict(self._sha256),
            "metrics": metrics,
        }
        _, height, width = self._images.shape
        diffusion = diffusion_of(stage, self._done)
        classes = self._images.class_names
        start = self._done.get(stage.start) if isinstance(stage, ClassifierStage) and stage.start else None
        recipe = None if start is None else start.recipe
        save_model(self._storage, name, network.cpu(), diffusion, recipe, (height, width), classes, card)

    def _checkpoint(self, name: str, training: StageTraining, window: list[float]) -> None:
        import ray.train

        with tempfile.TemporaryDirectory() as folder:
            checkpoint = None
            if self._rank == 0:
                since = time.monotonic() - _RETOLD_SECONDS
                self._recent = [told for told in self._recent if told[0] >= since]
                lines = [line for _, line in self._recent if line.get("stage") == name]
                state = {"stage": name, "training": training.state(), "window": window, "told": lines}
                torch.save(state, Path(folder) / "state.pt")
                checkpoint = ray.train.Checkpoint.from_directory(folder)
            ray.train.report({"stage": name, "step": training.step}, checkpoint=checkpoint)

    def _restore(self, name: str, training: StageTraining) -> list[float]:
        """Go on from the last checkpoint; returns the losses since the last point of the curve."""
        import ray.train

        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            return []
        with checkpoint.as_directory() as folder:
            state = torch.load(Path(folder) / "state.pt", map_location=self._device, weights_only=True)
        if state["stage"] != name:
            return []
        training.load(state["training"])
        for line in state["told"]:
            self.tell(line | {"again": True})
        self.tell({"stage": name, "step": training.step, "restored": True, "workers": self._world})
        window: list[float] = state["window"]
        return window
