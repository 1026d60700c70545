"""Small honest runs without Ray: the real dispatcher, sink and replica on a virtual clock. And ways to spoil them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import save_file

from raycp.config import RunConfig, parse_config
from raycp.config.data import DigitsData, Selection
from raycp.data import load_images
from raycp.distributed.dispatch import Dispatcher
from raycp.distributed.job import prepare_job
from raycp.distributed.progress import UNLIMITED, Budget
from raycp.distributed.replica import Replica
from raycp.distributed.session import Results
from raycp.distributed.simulation import SimulatedReplica, SimulatedTransport
from raycp.runs import make_manifest, open_run
from raycp.storage import Storage
from raycp.verify import verify_run

BATCH = 64
_FEW = {"step": 0.05, "growth": 1.4}
"""Radii and looks of the tables: few, to be fast."""
RULES: dict[str, dict[str, Any]] = {
    "fixed": {"num_estimation": 600},
    "two_class": {"num_estimation": 600, "bound": "two_class"},
    "skip_wrong": {"num_estimation": 600, "skip_wrong": True},
    "float": {"num_estimation": 300, "noise": "float"},
    "decide": {"rule": "decide", "num_estimation": 1200, "radii": [0, 0.1, 0.25], "sequential": _FEW},
    "anytime": {"rule": "anytime", "num_estimation": 1200, "sequential": {**_FEW, "tolerance": 0.1}},
    "e_process": {"rule": "e_process", "num_estimation": 400, "sequential": {"tolerance": 0.2}},
}


def save_weights(path: Path, scale: float = 30.0) -> None:
    """A nearest-centroid classifier of the digits as a linear layer."""
    images = load_images(DigitsData(name="digits", split="train"))
    x = torch.from_numpy(images.images).float().flatten(1) / 255
    labels = torch.from_numpy(images.labels)
    centroids = torch.stack([x[labels == k].mean(dim=0) for k in range(10)])
    save_file({"weight": scale * centroids, "bias": -scale * centroids.square().sum(dim=1) / 2}, path)


def save_images(path: Path) -> None:
    """Sixteen digits, every second of which is used."""
    images = load_images(DigitsData(name="digits", select=Selection(skip=23, count=16)))
    np.savez(path, images=images.images[:, 0], labels=images.labels)


def config_of(weights: Path, certify: dict[str, Any], **numerics: Any) -> RunConfig:
    """The images beside the weights, two sigmas."""
    return parse_config(
        RunConfig,
        {
            "data": {"name": "npz", "path": str(weights.with_name("digits.npz")), "select": {"skip": 2}},
            "purifier": {"kind": "none"},
            "classifier": {
                "kind": "python", "factory": "linear_network:linear", "num_classes": 10, "weights": str(weights),
            },
            "certify": {"sigmas": [0.25, 0.5], "num_selection": 40, "seed": 3, **certify},
            "numerics": {"batch_size": BATCH, **numerics},
            "engine": {"replicas": 3, "task_seconds": 0.2, "flush_seconds": 0.5},
        },
    )  # fmt: skip


def make_run(
    out: Path,
    config: RunConfig,
    budget: Budget = UNLIMITED,
    numerics: str | None = None,
    polls: float = float("inf"),
) -> Path:
    """Run or resume a configuration, as `run_job` does.

    Args:
        out: the run directory.
        config: what to run.
        budget: of the session.
        numerics: another name for the replicas' numerics class.
        polls: turns of the dispatch loop after which the session is interrupted, with tasks under way.
    """
    job = prepare_job("certify", config)
    run = open_run(Storage(str(out)), job.manifest(), job.tables)
    job = job.of_run(run)
    ledger = run.ledger(job.images.indices, job.rule.cuts)
    planner = job.planner(nearest_first=budget.limited)
    sink = Results(job, run, ledger, [o for unit in ledger.read() for o in planner.restore(unit)])
    replica = Replica(job.spec)
    name = replica.prepare(BATCH)
    transport = SimulatedTransport(
        lambda number: SimulatedReplica(0.1, 3_000.0 * (1 + number % 2), numerics=numerics or name),
        lambda task: replica.run(task.sigma, task.blocks)[0],
    )
    turns = count()
    dispatcher = Dispatcher(planner, transport, config.engine, BATCH, sink, lambda _: None, budget)
    dispatcher.run(stopped=lambda: next(turns) >= polls)
    sink.finish(planner.undecided())
    return out


def copy_of(run: Path, to: Path) -> Path:
    """A run to spoil."""
    return Path(shutil.copytree(run, to))


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a table."""
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def rewrite(path: Path, rows: list[dict[str, Any]], metadata: dict[bytes, bytes] | None = None) -> None:
    """Put other rows into a table; schema, metadata and valid checksums as raycp writes them."""
    schema = pq.read_schema(path)
    schema = schema.with_metadata({**(schema.metadata or {}), **(metadata or {})})
    pq.write_table(
        pa.Table.from_pylist(rows, schema=schema), path, compression="zstd", write_page_checksum=True
    )


def change(path: Path, spoil: Callable[[list[dict[str, Any]]], object]) -> None:
    """Change the rows of a table in place."""
    rows = rows_of(path)
    spoil(rows)
    rewrite(path, rows)


def only_file(run: Path) -> Path:
    """The one ledger file of a compacted run."""
    (path,) = (run / "counts").glob("*.parquet")
    return path


def split_ledger(run: Path, parts: int = 3) -> list[Path]:
    """Spread the ledger over several files, as it is while a run goes on."""
    path = only_file(run)
    rows = rows_of(path)
    paths = []
    for part in range(parts):
        paths.append(path.with_name(f"part-{part:06d}-abcd.parquet"))
        shutil.copy(path, paths[-1])
        rewrite(paths[-1], rows[part::parts])
    path.unlink()
    return paths


def change_config(run: Path, section: str, key: str, value: Any, forge: bool = False) -> None:
    """Change a value in config.json; `forge` gives every file the fingerprint of the changed content."""
    path = run / "config.json"
    manifest = json.loads(path.read_text())
    manifest["config"][section][key] = value
    if forge:
        config = parse_config(RunConfig, manifest["config"])
        new = make_manifest("certify", config, manifest["weights"], manifest["data"], manifest["num_classes"])
        manifest["fingerprint"] = new["fingerprint"]
        for file in [*(run / "counts").glob("*.parquet"), run / "certificates.parquet"]:
            metadata = {b"fingerprint": new["fingerprint"].encode()}
            if file.name == "certificates.parquet":
                metadata[b"raycp"] = json.dumps(manifest).encode()
            rewrite(file, rows_of(file), metadata)
    path.write_text(json.dumps(manifest, indent=2))


def move_votes(row: dict[str, Any], number: int = 1) -> None:
    """Move votes of a ledger row from its largest class to another one; the total is kept."""
    counts = np.array(row["counts"])
    most = int(counts.argmax())
    counts[most] -= number
    counts[(most + 1) % len(counts)] += number
    row["counts"] = counts.tolist()


def failures(run: Path, num_blocks: int | None = None) -> dict[str, list[str]]:
    """Of the checks that failed."""
    return {c.name: c.failures for c in verify_run(str(run), num_blocks=num_blocks) if c.failures}
