"""docs/bring-your-own.md: its files are those of the folder, its commands run, its snippets do what it says."""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from raycp.config import RunConfig, load_config
from raycp.config.data import NpzData, ParquetData
from raycp.config.models import PythonPurifier
from raycp.config.suite import load_suite
from raycp.data import load_images
from raycp.purifiers.python import hold_to_contract
from raycp.runs import read_run
from raycp.sampling.base_classifier import BaseClassifier
from raycp.sampling.purifier_check import check_purifier

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "bring-your-own.md").read_text()
FOLDER = DOCS / "bring-your-own"
FEWER = [
    "data.select.count=20",
    "certify.num_selection=20",
    "certify.num_estimation=200",
    "engine.replicas=1",
]


def blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)
    return [content for name, content in found if name == language]


def test_the_page_shows_the_files_as_they_are() -> None:
    files = sorted(path for path in FOLDER.iterdir() if path.is_file())
    assert [path.name for path in files] == ["compare.yaml", "digit_models.py", "make.py", "wiener.yaml"]
    for path in files:
        language = {".py": "python", ".yaml": "yaml"}[path.suffix]
        assert f"`{path.name}`:\n\n```{language}\n{path.read_text()}```\n" in PAGE, path.name


def test_its_run_is_the_method_of_its_comparison() -> None:
    run = load_config(RunConfig, FOLDER / "wiener.yaml")
    assert load_suite(FOLDER / "compare.yaml").methods["wiener"] == run


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_its_commands_run(
    raycp: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a copy of the folder, with fewer samples."""
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    change, make, *commands = [shlex.split(line) for line in blocks("")[0].splitlines()]
    assert change == ["cd", "docs/bring-your-own"] and make == ["python", "make.py"]
    assert [command[:2] for command in commands] == [
        ["raycp", "certify"], ["raycp", "evaluate"], ["raycp", "compare"], ["raycp", "verify"],
    ]  # fmt: skip
    monkeypatch.chdir(tmp_path)
    runpy.run_path("make.py")
    said = []
    for _, verb, *words in commands:
        fewer = [] if verb == "verify" else [word for value in FEWER for word in ("--set", value)]
        code, out, err = raycp(verb, *words, *fewer)
        assert code == 0, err
        said.append(out)
    plan, metrics, table, verified = said
    assert "purifier     python digit_models:WienerFilter, 0 parameters" in plan
    assert "20 of the arrays in" in plan
    assert "transport" in metrics
    costs = {
        name: read_run(f"runs/compare/{name}").config["sample_cost"]["0.5"] for name in ("none", "wiener")
    }
    assert [cost["evaluations"] for cost in costs.values()] == [0, 1]
    # Two products with the axes, 64 x 64 each, for an image.
    assert costs["wiener"]["operations"] - costs["none"]["operations"] == 2 * 2 * 64 * 64
    rows = {
        tuple(line.split()[:2]): line.split() for line in table.splitlines() if line[:4] in ("none", "wien")
    }
    # 19 or 20 against 6 or 7 of 20 where the whole example has 79 against 36 of 100: far from a coincidence.
    assert float(rows["wiener", "0.5"][3]) > float(rows["none", "0.5"][3]) + 20
    assert "all checks passed" in verified and "purifier_source" in verified


@pytest.fixture
def snippets() -> Iterator[dict[str, str]]:
    """The Python blocks of the page that are no files, by a word of theirs."""
    others = [
        block
        for block in blocks("python")
        if block not in {path.read_text() for path in FOLDER.iterdir() if path.is_file()}
    ]
    yield {word: block for block in others for word in ("Jitter", "savez", "write_table") if word in block}


@pytest.mark.parametrize("channels", [1, 3])
def test_its_data_snippets_make_files_that_are_read(
    snippets: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, channels: int
) -> None:
    monkeypatch.chdir(tmp_path)
    shape = (5, 9, 7) if channels == 1 else (5, 9, 7, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    pictures = [Image.fromarray(image) for image in pixels]
    paths = [tmp_path / f"{number}.png" for number in range(5)]
    for picture, path in zip(pictures, paths, strict=True):
        picture.save(path)
    classes = [2, 0, 1, 1, 0]
    expected = pixels[:, None] if channels == 1 else np.moveaxis(pixels, 3, 1)
    names: dict[str, Any] = {
        "np": np, "pyarrow": pyarrow, "pictures": pictures, "paths": paths, "classes": classes, "pq": pq,
    }  # fmt: skip
    for word, config in (
        ("savez", NpzData(name="npz", path="mine.npz")),
        ("write_table", ParquetData(name="parquet", path="mine.parquet")),
    ):
        assert f"data: {{name: {config.name}, path: {config.path}}}" in snippets[word]
        exec(snippets[word], names)
        images = load_images(config)
        assert np.array_equal(images.images, expected) and images.labels.tolist() == classes


def test_its_purifier_that_draws_is_one(snippets: dict[str, str]) -> None:
    names: dict[str, Any] = {}
    exec(snippets["Jitter"], names)
    config = PythonPurifier(kind="python", factory="page:Jitter")

    def base() -> BaseClassifier:
        own = hold_to_contract(config, names["Jitter"]())
        return BaseClassifier(own, lambda x: x.flatten(1)[:, :3], torch.device("cpu"), torch.float32, False)

    assert base().draws
    check_purifier(base(), base(), torch.rand(1, 8, 8), (0.25,), config.factory)
