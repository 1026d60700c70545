"""`raycp evaluate`: a pure function of configuration, weights and data, whatever happens to replicas and drivers."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from small_runs import Recorder, small_config
from torchvision.models import squeezenet1_1

from raycp.config import RunConfig, resolved
from raycp.config.data import Selection
from raycp.data import load_images
from raycp.distributed.evaluation import is_measured, run_evaluation
from raycp.distributed.evaluation_job import prepare_evaluation
from raycp.errors import ConfigError, LedgerError, RunMismatchError
from raycp.quality.optimal_transport import optimal_transport
from raycp.report.evaluation import paired_rows, plain_text
from raycp.runs.evaluation import read_evaluation
from raycp.sampling.blocks import Block, Phase
from raycp.sampling.noise import make_noise

pytestmark = pytest.mark.ray
M, DRAWS = 80, 2


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Random weights of SqueezeNet 1.1."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("backbone") / "squeeze.pth"
    torch.save(squeezenet1_1(weights=None).state_dict(), path)
    return str(path)


def config_of(backbone: str, seconds_per_batch: float = 0.0, **sections: Any) -> RunConfig:
    evaluate = {
        "draws": DRAWS,
        "features": {"kind": "classifier"},
        "perceptual": {"net": "squeeze", "weights": backbone, "resize": 32},
        "transport_images": 50,
        "bootstrap": 200,
    }
    return small_config(
        seconds_per_batch,
        data={"select": {"skip": 3, "count": M}},
        evaluate=evaluate | sections.pop("evaluate", {}),
        numerics={"batch_size": 16},
        **sections,
    )


def evaluate(config: RunConfig, out: Path) -> Recorder:
    recorder = Recorder()
    assert run_evaluation(prepare_evaluation(config), str(out), recorder)
    return recorder


@pytest.fixture(scope="module")
def expected(ray_cluster: None, backbone: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("expected-evaluation")
    evaluate(config_of(backbone, engine={"replicas": 1}), out)
    return out


def figures(out: Path) -> list[list[str]]:
    """The lines of evaluation.csv, less the names of the directories."""
    return [line[1:] for line in csv.reader((out / "evaluation.csv").open())]


def test_figures_are_those_of_the_noisy_samples(expected: Path, backbone: str) -> None:
    """Nothing is purified here: distances are those of the noise itself, drawn once more."""
    config = config_of(backbone)
    images = load_images(config.data)
    noise = make_noise("sound", images.images, images.indices, seed=3, device=torch.device("cpu"))
    clean = torch.from_numpy(np.array(images.images)).double().flatten(1) / 255
    table = pq.read_table(expected / "evaluation.parquet").to_pandas()
    assert len(table) == 3 * M
    rows = list(csv.DictReader((expected / "evaluation.csv").open()))
    by_key = {(float(row["sigma"]), row["metric"]): row for row in rows}
    for sigma in (0.25, 0.5):
        blocks = [Block(image, Phase.EVALUATION, 0, DRAWS) for image in range(M)]
        noisy = noise(sigma, blocks).double().flatten(1).view(M, DRAWS, -1)
        l2 = (noisy - clean[:, None]).norm(dim=2)
        found = table[table.sigma == sigma]
        assert found.image_index.tolist() == images.indices.tolist()
        np.testing.assert_allclose(found.l2, l2.mean(dim=1), rtol=1e-6)
        np.testing.assert_allclose(found.squared_l2, l2.square().mean(dim=1), rtol=1e-6)
        row = by_key[sigma, "transport"]
        assert float(row["value"]) == pytest.approx(float(l2.mean()), rel=1e-6)
        assert float(row["low"]) < float(row["value"]) < float(row["high"])
        assert (row["images"], row["draws"], row["unit"]) == (str(M), str(DRAWS), "pixel units")
        assert float(by_key[sigma, "transport_model"]["value"]) == pytest.approx(2 * float(row["value"]))
        coupled = [
            optimal_transport(clean[:50].numpy(), noisy[:50, draw].numpy()).distance for draw in range(DRAWS)
        ]
        assert float(by_key[sigma, "optimal_transport"]["value"]) == pytest.approx(np.mean(coupled), rel=1e-5)
        assert by_key[sigma, "optimal_transport"]["images"] == "50"
        assert by_key[sigma, "fid"]["network"].startswith("python classifier, 64 features, ")
        assert by_key[sigma, "lpips"]["network"] == "squeeze, resized to 32"
    assert float(by_key[0.25, "fid"]["value"]) < float(by_key[0.5, "fid"]["value"])
    assert float(by_key[0.25, "lpips"]["value"]) < float(by_key[0.5, "lpips"]["value"])
    assert [metric for sigma, metric in by_key if sigma == 0] == ["accuracy"]


def test_replicas_and_packing_leave_no_trace(expected: Path, backbone: str, tmp_path: Path) -> None:
    evaluate(
        config_of(backbone, engine={"replicas": 2, "task_seconds": 0.05, "tasks_in_flight": 4}), tmp_path
    )
    assert figures(tmp_path) == figures(expected)
    assert pq.read_table(tmp_path / "evaluation.parquet").equals(
        pq.read_table(expected / "evaluation.parquet")
    )


@pytest.mark.slow
def test_a_killed_driver_resumes(expected: Path, backbone: str, tmp_path: Path) -> None:
    """Slow enough to be killed in the middle; what was measured before is not measured again."""
    config = config_of(backbone, seconds_per_batch=0.3, engine={"local_cpus": 2, "task_seconds": 0.4})
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(resolved(config)))
    out = tmp_path / "run"
    arguments = [sys.executable, "-m", "raycp.cli.main", "evaluate", str(path), "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    environment.pop("RAY_AUTH_MODE", None)
    first = subprocess.Popen(arguments, env=environment, stderr=subprocess.PIPE, text=True)
    for _ in range(900):
        assert first.poll() is None, first.stderr and first.stderr.read()
        if len(list((out / "measurements").glob("*.parquet"))) >= 2:
            break
        time.sleep(0.1)
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=60)
    assert not (out / "evaluation.parquet").exists()
    before = sum(pq.read_metadata(part).num_rows for part in (out / "measurements").glob("*.parquet"))
    assert 0 < before < M * (1 + 2 * DRAWS)
    second = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
    assert second.returncode == 0, second.stderr
    assert "resuming: " in second.stderr
    assert sum(pq.read_metadata(p).num_rows for p in (out / "measurements").glob("*.parquet")) == M * (
        1 + 2 * DRAWS
    )
    # Another network by its arguments (it sleeps), so another fingerprint in the metadata; the figures are the same.
    # So are the bits of the networks' names, but for the hash of the classifier's recipe.
    ours, theirs = (
        pq.read_table(p / "evaluation.parquet").replace_schema_metadata(None) for p in (out, expected)
    )
    assert ours.equals(theirs)
    assert second.stdout.splitlines()[0].split()[:4] == ["evaluation", "sigma", "accuracy", "fid"]


def test_a_finished_evaluation_is_read_not_made_again(expected: Path, backbone: str) -> None:
    before = (expected / "evaluation.parquet").stat().st_mtime_ns
    recorder = evaluate(config_of(backbone), expected)
    assert recorder.notes == ["resuming: 240 of 240 (sigma, image) pairs are measured"]
    assert (expected / "evaluation.parquet").stat().st_mtime_ns == before


def test_images_of_its_own_are_those_of_another_selection(expected: Path, backbone: str) -> None:
    """`evaluate.select` over whatever is certified is the same evaluation as `data.select`."""
    chosen = config_of(backbone, evaluate={"select": {"skip": 3, "count": M}})
    other = chosen.model_copy(
        update={"data": chosen.data.model_copy(update={"select": Selection(indices=(1, 2))})}
    )
    assert is_measured(prepare_evaluation(other), str(expected))
    plain = other.model_copy(update={"evaluate": config_of(backbone).evaluate})
    with pytest.raises(ConfigError, match="needs more images than features, got 2"):
        prepare_evaluation(plain)


def test_another_evaluation_is_refused(expected: Path, backbone: str) -> None:
    with pytest.raises(RunMismatchError, match=r"evaluate.draws: 2 -> 3"):
        run_evaluation(
            prepare_evaluation(config_of(backbone, evaluate={"draws": 3})), str(expected), Recorder()
        )


def test_a_damaged_file_is_named(backbone: str, expected: Path, tmp_path: Path) -> None:
    for source in expected.rglob("*"):
        if source.is_file():
            target = tmp_path / source.relative_to(expected)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(source.read_bytes())
    part = next((tmp_path / "measurements").glob("*.parquet"))
    part.write_bytes(part.read_bytes()[:-100])
    with pytest.raises(
        LedgerError, match=rf"{part.name} is damaged .*only the samples in it are measured again"
    ):
        run_evaluation(prepare_evaluation(config_of(backbone)), str(tmp_path), Recorder())
    part.unlink()
    (tmp_path / "evaluation.parquet").unlink()
    (tmp_path / "evaluation.csv").unlink()
    evaluate(config_of(backbone), tmp_path)
    assert pq.read_table(tmp_path / "evaluation.parquet").equals(
        pq.read_table(expected / "evaluation.parquet")
    )


def test_a_paired_difference_of_one_method_and_itself(expected: Path) -> None:
    one = read_evaluation(str(expected))
    rows = paired_rows([one, one])
    assert len(rows) == 1 + 2 * 7
    assert {(row.value, row.low, row.high) for row in rows} == {(0.0, 0.0, 0.0)}
    assert "+0 [+0, +0]" in plain_text(rows, difference=True)
