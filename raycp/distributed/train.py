"""`raycp train` on Ray Train: start, watch, resume."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from raycp.config import Engine, differences, resolved, without_locations
from raycp.config.data import DataConfig
from raycp.config.missing import require_files
from raycp.config.stages import backbone_of
from raycp.config.train import TrainConfig
from raycp.data import ImageSet, load_images, require_grid
from raycp.data.stored import StoredImages, open_images
from raycp.distributed.cluster import connected
from raycp.distributed.hardware import bfloat16_note
from raycp.distributed.journal import Journal, emptied, start_mailbox
from raycp.distributed.preflight import read_parents, require_fit
from raycp.distributed.trained_models import has_model
from raycp.distributed.training_room import free_room, room_taken, wait_for_room
from raycp.errors import RaycpError, RunMismatchError, StorageError, TrainingError
from raycp.models import Bundle
from raycp.models.bundle import sha256_of
from raycp.models.weights import read_tensors
from raycp.runs.status import StatusFile
from raycp.storage import Storage
from raycp.training.perceptual import lpips_distance
from raycp.training.run_files import CONFIG, VALIDATION


def train_models(
    config: TrainConfig,
    out: str,
    report: Callable[[dict[str, Any]], None],
    worker: Callable[[dict[str, Any]], None] | None = None,
) -> bool:
    """Train the stages that `out` does not hold yet.

    Args:
        config: what to train.
        out: run directory, seen by all nodes under the same path.
        report: called with each line of the log: a stage's step and loss, or its end and metrics.
        worker: what each worker runs, `train_worker` if None; one that watches it may stand in its place.

    Returns:
        Whether anything was trained.

    Raises:
        MissingFilesError: files that the configuration names are not there.
        RunMismatchError: `out` holds a training with another configuration.
        TrainingError: a stage cannot go on; what was trained is kept.
        ClusterError: fewer CPUs or GPUs than the workers want.
    """
    storage = Storage(out)
    require_files(config)
    images: ImageSet | StoredImages
    if config.streaming is None:
        images = require_grid(load_images(config.data))
        data = {"training": images.sha256, "set": _named(config.data)}
    else:
        images = open_images(config.data)
        data = {"training_files": images.sha256, "set": _named(config.data)}
    held_out = None if config.validation is None else require_grid(load_images(config.validation))
    if held_out is not None:
        data["validation"] = held_out.sha256
    parents = read_parents(config)
    require_fit(config, parents, images, held_out)
    data |= {f"models.{name}": bundle.sha256 for name, bundle in parents.items()}
    backbones = _backbones(config)
    for name, state in backbones.items():
        if state is not None:
            data[f"backbone.{name}"] = sha256_of({}, state)
    with storage.locked():
        _claim(storage, config, data)
        if all(has_model(storage, stage.name) for stage in config.stages):
            return False
        # Ray Train looks after its workers every so often; a short training should not wait for it.
        os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
        os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "120")
        errors: list[str] = []
        with tempfile.TemporaryDirectory() as scratch, StatusFile(storage, "train") as status:
            place = Engine(address=config.engine.address, dashboard=config.engine.dashboard)
            held = images.nbytes + (0 if held_out is None else held_out.nbytes)
            held += sum(array.nbytes for bundle in parents.values() for array in bundle.state.values())
            journal = Journal(storage, Path(scratch))
            with connected(place, f"raycp train {storage.name}", held) as dashboard, closing(journal):
                from raycp.distributed.metrics import TrainMetrics  # imports Ray, which reads its token then

                metrics = TrainMetrics(storage.name)

                def take(line: dict[str, Any]) -> None:
                    if "error" in line:
                        errors.append(line["error"])
                        return
                    metrics.take(line)
                    if "progress" in line:
                        status.update(line)
                    else:
                        journal.add(line)
                    if "again" not in line:
                        report(line)

                if dashboard is not None:
                    report({"note": f"connected to Ray, dashboard at {dashboard}"})
                for number, stage in enumerate(config.stages):
                    emulated = stage.dtype == "bfloat16" and config.engine.gpus_per_worker == 0
                    if emulated and (slow := bfloat16_note(f"stages.{number}.dtype")):
                        report({"note": slow})
                mailbox = start_mailbox()
                with emptied(mailbox, take):
                    _fit(config, storage, mailbox, data, images, held_out, parents, backbones, worker, report)
            if errors:
                raise TrainingError(errors[0])
    return True


def _named(data: DataConfig) -> str:
    """A data set in words that may travel with a model: no path of this machine."""
    split = getattr(data, "split", None)
    return data.name if split is None else f"{data.name}, {split} split"


def _fit(
    config: TrainConfig,
    storage: Storage,
    mailbox: Any,
    data: dict[str, str],
    images: ImageSet | StoredImages,
    held_out: ImageSet | None,
    parents: dict[str, Bundle],
    backbones: dict[str, dict[str, np.ndarray] | None],
    worker: Callable[[dict[str, Any]], None] | None,
    report: Callable[[dict[str, Any]], None],
) -> None:
    import ray
    from ray.train import CheckpointConfig, FailureConfig, LoggingConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from raycp.distributed.train_worker import train_worker

    engine, fewest = config.engine, config.engine.min_workers
    wait_for_room(engine, lambda text: report({"note": text}))
    filesystem, path = storage.for_arrow()
    job = {
        "config": resolved(config),
        "out": storage.path(),
        "mailbox": mailbox,
        "data": data,
        "images": ray.put(images if isinstance(images, StoredImages) else _arrays(images)),
        "held_out": None if held_out is None else ray.put(_arrays(held_out)),
        "parents": ray.put(parents),
        "backbones": ray.put(backbones),
    }
    for restarts_left in reversed(range(engine.max_failures + 1)):
        trainer = TorchTrainer(
            worker or train_worker,
            train_loop_config=job,
            scaling_config=ScalingConfig(
                num_workers=engine.workers if fewest is None else (fewest, engine.workers),
                use_gpu=engine.gpus_per_worker > 0,
                resources_per_worker={"CPU": engine.cpus_per_worker, "GPU": engine.gpus_per_worker},
            ),
            run_config=RunConfig(
                name="ray",  # the same name again goes on from the last checkpoint
                storage_path=path,
                storage_filesystem=filesystem,
                failure_config=FailureConfig(
                    max_failures=engine.max_failures, controller_failure_limit=engine.max_failures
                ),
                checkpoint_config=CheckpointConfig(num_to_keep=1),
                logging_config=LoggingConfig(log_level="ERROR"),
            ),
        )
        before = room_taken()
        try:
            trainer.fit()
        except ray.train.TrainingFailedError as err:
            free_room(before)
            # Ray Train goes on after the loss of a worker at work, but not of one that is starting.
            lost = isinstance(getattr(err, "controller_failure", None), ray.exceptions.RayActorError)
            if not (lost and restarts_left):
                raise _reason(err) from err
            report({"note": "a worker was lost while the workers were starting; starting them again"})
        else:
            return


def _backbones(config: TrainConfig) -> dict[str, dict[str, np.ndarray] | None]:
    """The weights of the ImageNet backbones in use, by stage, checked; None where torchvision's cache has them."""
    named = [
        (stage.name, backbone_of(stage), f"stages.{position}.perceptual.weights")
        for position, stage in enumerate(config.stages)
    ]
    if config.validation is not None:
        named.append((VALIDATION, config.validation_perceptual, "validation_perceptual.weights"))
    found: dict[str, dict[str, np.ndarray] | None] = {}
    for user, backbone, key in named:
        if backbone is None:
            continue
        state = None
        if backbone.weights is not None:
            tensors = read_tensors(backbone.weights, key=key)
            key = f"{key}: {backbone.weights}"
            state = {name: tensor for name, tensor in tensors.items() if name.startswith("features.")}
        lpips_distance(backbone.net, state, backbone.resize, key)
        found[user] = None if state is None else {name: tensor.numpy() for name, tensor in state.items()}
    return found


def _claim(storage: Storage, config: TrainConfig, data: dict[str, str]) -> None:
    """Write the configuration into an empty directory, or find the same one there."""
    content = {"config": resolved(config), "identity": without_locations(config) | {"data": data}}
    del content["identity"]["engine"]
    found = storage.read(CONFIG)
    if found is None:
        storage.write(CONFIG, json.dumps(content, indent=2).encode())
        return
    try:
        recorded = json.loads(found)["identity"]
    except (ValueError, KeyError, TypeError) as err:
        raise StorageError(f"{storage.path(CONFIG)} is not the record of a training: {err}.") from err
    changed = differences(recorded, json.loads(json.dumps(content["identity"])))
    if changed:
        lines = "\n".join(f"  {line}" for line in changed)
        raise RunMismatchError(
            f"{storage.path()} holds a training with another configuration:\n{lines}\n"
            "Take another --out, or go back to the recorded values."
        )


def _arrays(images: ImageSet) -> tuple[np.ndarray, np.ndarray, Any]:
    return images.images, images.labels, images.class_names


def _reason(err: Exception) -> RaycpError:
    """The error of a worker, if it was one of ours; otherwise what Ray says, in one line."""
    for failure in getattr(err, "worker_failures", {}).values():
        cause = getattr(failure, "cause", failure)
        if isinstance(cause, RaycpError):
            return cause
    lines = [line.strip() for line in str(err).splitlines() if line.strip()]
    return TrainingError(f"training failed: {lines[-1] if lines else type(err).__name__}")
