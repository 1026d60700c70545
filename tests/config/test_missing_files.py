"""Files that are not there: all of them at once, with where they come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raycp.config import Frozen, RunConfig, load_config, locations, parse_config
from raycp.config.missing import require_files
from raycp.config.train import TrainConfig
from raycp.errors import MissingFilesError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
PUBLISHED = sorted(
    path
    for folder in ("cifar10", "imagenet64")
    for path in (CONFIGS / folder).glob("*.yaml")
    if not path.stem.startswith("compare")  # suites have tests of their own
)


def run_config(**sections: Any) -> RunConfig:
    raw = {
        "data": {"name": "cifar10", "path": "data/cifar"},
        "purifier": {"kind": "consistency", "model": {"path": "models/cd-lpips-cifar10"}},
        "classifier": {"kind": "directory", "path": "runs/mine/models/net"},
    }
    return parse_config(RunConfig, {**raw, **sections})


def message(config: Frozen) -> str:
    with pytest.raises(MissingFilesError) as error:
        require_files(config)
    return str(error.value)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without any file in it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_all_of_them_are_named_with_their_keys(elsewhere: Path) -> None:
    text = message(run_config())
    assert text.startswith("3 files or folders of this configuration not found here:\n")
    assert (
        "\n  data.path: data/cifar\n      CIFAR-10, binary version, from https://www.cs.toronto.edu" in text
    )
    assert "\n  purifier.model.path: models/cd-lpips-cifar10\n" in text
    assert "`raycp weights fetch cd-lpips-cifar10`, then `raycp weights convert models/published/" in text
    assert "  classifier.path: runs/mine/models/net\n      The model net of a training: `raycp train" in text
    (elsewhere / "data" / "cifar").mkdir(parents=True)
    (elsewhere / "runs" / "mine" / "models" / "net").mkdir(parents=True)
    text = message(run_config())
    assert text.startswith("One file or folder of this configuration not found here:\n  purifier.model.path")
    (elsewhere / "models" / "cd-lpips-cifar10").mkdir(parents=True)
    require_files(run_config())


def test_what_is_left_to_the_readers(elsewhere: Path) -> None:
    """A single file of which nothing is known, and what lies in a store."""
    (elsewhere / "here").mkdir()
    data = {"name": "folder", "path": "here"}
    mine = {"kind": "directory", "path": "my-net"}
    require_files(run_config(data=data, purifier={"kind": "none"}, classifier=mine))
    stored = {"kind": "edm", "model": {"path": "s3://bucket/models/edm"}}
    require_files(run_config(data=data, purifier=stored, classifier=mine))
    assert message(
        run_config(data={"name": "folder", "path": "gone"}, purifier={"kind": "none"}, classifier=mine)
    )


def test_a_training_names_its_parents_and_backbones() -> None:
    backbone = {"net": "vgg", "weights": "models/vgg16-397923af.pth"}
    stage = {"stage": "finetune", "start": "p", "steps": 1, "perceptual": backbone}
    config = parse_config(
        TrainConfig,
        {
            "data": {"name": "digits"},
            "models": {"p": {"path": "models/cd-lpips-imagenet64-unconditional"}},
            "stages": [stage],
        },
    )
    text = message(config)
    assert "\n  models.p.path: " in text and "cd_imagenet64_lpips.pt --as consistency --image-size 64" in text
    assert "--out models/cd-lpips-imagenet64-unconditional --unconditional`" in text
    assert "\n  stages.0.perceptual.weights: " in text and "m.vgg16(weights='IMAGENET1K_V1')" in text


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_file_of_the_published_experiments_has_an_origin(path: Path) -> None:
    config = load_config(TrainConfig if path.stem.startswith("train") else RunConfig, path)
    lines = message(config).splitlines()[1:]
    assert len(lines) == 2 * len(locations(config)) >= 4
    for key, place in locations(config).items():
        position = lines.index(f"  {key}: {place}")
        assert lines[position + 1].startswith("      ")
        # The file itself says what it needs, in words of its own.
        assert Path(place).parts[0] in ("data", "models", "runs")
        head = path.read_text().partition("\ndata:")[0]
        assert place in head or any(str(parent) in head for parent in Path(place).parents if parent.name), (
            place
        )
