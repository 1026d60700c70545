"""A user's own purifier: what it may be, what is refused, what of it is in the fingerprint."""

from __future__ import annotations

import importlib
import json
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from user_purifiers import Descent, Shrink

from raycp.config import RunConfig, parse_config
from raycp.config.models import PythonPurifier
from raycp.distributed.cost import sample_costs
from raycp.distributed.job import Job, prepare_job
from raycp.errors import ConfigError, ModelError
from raycp.models import Bundle, build_python_purifier, read_purifier
from raycp.models.user_code import source_sha256
from raycp.purifiers.python import OwnPurifier, OwnRandomPurifier, hold_to_contract, network_of
from raycp.runs.manifest import manifest_differences
from raycp.sampling.base_classifier import BaseClassifier
from raycp.sampling.blocks import Block, Phase
from raycp.sampling.kernel import Kernel
from raycp.sampling.noise import make_noise
from raycp.sampling.purifier_check import check_purifier

CPU = torch.device("cpu")
DIGIT = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(1))
IMAGES = np.random.default_rng(2).integers(0, 256, (2, 1, 8, 8), dtype=np.uint8)
NOISE = make_noise("sound", IMAGES, np.arange(2), 3, CPU)
K = 2


def config(factory: str, **keys: Any) -> PythonPurifier:
    return PythonPurifier(kind="python", factory=f"user_purifiers:{factory}", **keys)


def built(chosen: PythonPurifier) -> OwnPurifier | OwnRandomPurifier:
    """As a replica builds it, from the bundle alone."""
    bundle = read_purifier(chosen)
    assert bundle is not None
    travelled: Bundle = pickle.loads(pickle.dumps(bundle))
    json.dumps(travelled.recipe)
    return hold_to_contract(chosen, build_python_purifier(travelled))


def base_of(chosen: PythonPurifier, classify: Callable[[Tensor], Tensor] | None = None) -> BaseClassifier:
    def bright_or_dark(x: Tensor) -> Tensor:
        mean_B = x.flatten(1).mean(dim=1)
        return torch.stack([0.5 - mean_B, mean_B - 0.5], dim=1)

    return BaseClassifier(built(chosen), classify or bright_or_dark, CPU, torch.float32, False)


def check(factory: str, **keys: Any) -> None:
    chosen = config(factory, **keys)
    check_purifier(base_of(chosen), base_of(chosen), DIGIT, (0.25, 0.5), chosen.factory)


@pytest.mark.parametrize("factory", ["blur", "exact", "Shrink", "Descent", "seeded_when_built", "Jitter"])
def test_honest_purifiers_pass(factory: str) -> None:
    check(factory)


FAULTY = {
    "batch_norm_in_training_mode": "makes something else of an image when others are beside it in the batch",
    "less_the_mean_of_the_batch": "makes something else of an image when others are beside it in the batch",
    "by_the_faintest_of_the_batch": r"makes something else of an image .* \(by up to inf\)",
    "noise_by_place": "makes something else of an image .* random numbers by place",
    "drawing": "returns other images the second time: it draws random numbers .* images\\(x, sigma, noise\\)",
    "counting": "returns other images the second time: .* keeps a state",
    "random_when_built": "returns other images when it is built anew, as on every replica",
    "in_place": "changes the images that it is given; let it work on a copy",
    "not_finite": "returns NaN or infinite pixels for the checked image",
    "smaller": r"must keep the shape \[2, 1, 8, 8\], got \[2, 1, 8, 7\]",
    "pair": "must return a tensor of images, got a tuple",
    "integers": r"must return floats in \[0,1\], got torch.uint8",
    "failing": r"fails on 2x1x8x8 images at sigma = 0.25 \(user_purifiers.py, line \d+\): RuntimeError: Given groups=1",
}


@pytest.mark.parametrize("factory", FAULTY)
def test_faulty_purifiers_are_refused(factory: str) -> None:
    with torch.random.fork_rng(devices=[]), pytest.raises(ModelError, match=FAULTY[factory]) as error:
        check(factory)
    assert str(error.value).startswith("purifier.factory: ")
    assert f"the purifier of user_purifiers:{factory} " in str(error.value)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"keyed": False}, "returns other images the second time"),
        ({"copies": -1}, r"makes something else of an image .* \(by up to inf\)"),
        ({"copies": 0}, r"must yield one image or more from images\(x, sigma, noise\), got none"),
    ],
)
def test_faulty_purifiers_that_draw_are_refused(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        check("Jitter", kwargs=kwargs)


def test_combined_logits_have_the_shape_of_logits() -> None:
    base = base_of(config("Jitter", kwargs={"combined": "all"}))
    with pytest.raises(ModelError, match=r"must combine logits to \[4, 2\], got \[2, 4, 2\]"):
        Kernel(base, NOISE, K, 4).run(0.25, [Block(0, Phase.SELECTION, 0, 4)])


@pytest.mark.parametrize(
    ("factory", "keys", "message"),
    [
        ("blurr", {}, r"^purifier\.factory: user_purifiers has no blurr; did you mean blur\?"),
        ("np", {}, r"^purifier\.factory: user_purifiers:np is a module, which cannot be called"),
        (
            "blur",
            {"kwargs": {"width": 3}},
            r"^purifier\.kwargs \{'width': 3\} do not fit user_purifiers:blur\(size",
        ),
        ("itself", {}, r"^purifier\.kwargs \{\} do not fit .*with kwargs alone and returns the purifier"),
        ("text", {}, r"must return a purifier, a function of \(x, sigma\) .*, got a str"),
        ("without_sigma", {}, r"what user_purifiers:without_sigma returns must take \(x, sigma\), got \(x\)"),
        ("forward_without_sigma", {}, r"must take \(x, sigma\), got \(input: "),
        (
            "blur",
            {"weights": "w.safetensors"},
            r"purifier\.weights go into a torch\.nn\.Module, but .* a function",
        ),
    ],
)
def test_code_that_is_no_purifier_is_refused(factory: str, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read_purifier(config(factory, **keys))


def test_modules_that_cannot_be_imported_are_named() -> None:
    chosen = PythonPurifier(kind="python", factory="no_such_package.filters:make")
    with pytest.raises(
        ModelError, match=r"purifier\.factory: cannot import no_such_package\.filters: .*PYTHONPATH"
    ):
        read_purifier(chosen)
    with pytest.raises(ConfigError, match=r"purifier\.factory"):
        parse_config(RunConfig, run("no_such_package.filters"))


def test_values_outside_of_the_pixels_are_clipped_only_if_asked() -> None:
    x = DIGIT[None]
    assert torch.equal(built(config("exact"))(x, 0.25), 2 * x)
    clipped = built(config("exact", clip=True))(x, 0.25)
    assert torch.equal(clipped, (2 * x).clamp(0, 1)) and clipped.dtype == torch.float32


@torch.inference_mode()
def test_a_purifier_may_use_gradients_of_its_own() -> None:
    x = DIGIT[None]
    purified = built(config("Descent"))(x, 0.5)
    assert not purified.requires_grad and not torch.equal(purified, x)
    assert torch.equal(purified, Descent()(x.clone(), 0.5).detach())


@torch.inference_mode()
def test_weights_go_into_a_module(tmp_path: Path) -> None:
    state = Shrink().state_dict() | {"strength": torch.tensor([3.0])}
    save_file(state, tmp_path / "w.safetensors")
    chosen = config("Shrink", weights=str(tmp_path / "w.safetensors"))
    x = DIGIT[None]
    torch.testing.assert_close(built(chosen)(x, 0.5), x / (1 + 3.0 * 0.25), rtol=1e-4, atol=0)
    other = read_purifier(config("Shrink"))
    found = read_purifier(chosen)
    assert other is not None and found is not None and other.sha256 != found.sha256


@pytest.mark.parametrize("batch_size", [5, 8])
def test_what_it_draws_goes_with_the_sample(batch_size: int) -> None:
    """Packed in any way the samples are the same ones, and their two copies count."""
    base = base_of(config("Jitter"))
    assert base.draws
    kernel = Kernel(base, NOISE, K, batch_size)
    kernel.self_test(0.5)
    whole = kernel.run(0.5, [Block(0, Phase.ESTIMATION, 0, 100)])[0]
    parts = kernel.run(
        0.5,
        [
            Block(1, Phase.ESTIMATION, 0, 3),
            *(Block(0, Phase.ESTIMATION, 20 * i, 20) for i in (3, 0, 4, 1, 2)),
        ],
    )
    assert np.array_equal(parts[1:].sum(axis=0), whole)
    assert whole[:K].min() > 0 and whole[K] == 0


@pytest.mark.parametrize(
    "chosen",
    [config("not_finite", kwargs={"above": 0.5}), config("Jitter", kwargs={"combined": "overlooks"})],
)
def test_what_is_not_finite_is_no_vote_even_if_it_is_overlooked(chosen: PythonPurifier) -> None:
    """By the classifier, whose logits are finite for every image; or by `combine`."""

    def one_pixel(x: Tensor) -> Tensor:
        logits = torch.stack([x[:, 0, 7, 7], -x[:, 0, 7, 7]], dim=1)
        if chosen.factory.endswith("Jitter"):
            logits[x.mean(dim=(1, 2, 3)) > 0.5, 0] = torch.inf
        return logits

    images = np.stack([np.full((1, 8, 8), 255, np.uint8), np.zeros((1, 8, 8), np.uint8)])
    noise = make_noise("sound", images, np.arange(2), 3, CPU)
    counts = Kernel(base_of(chosen, one_pixel), noise, K, 8).run(
        0.1, [Block(image, Phase.SELECTION, 0, 20) for image in (0, 1)]
    )
    assert counts[0].tolist() == [0, 0, 20]
    assert counts[1, K] == 0


def test_evaluations_are_calls_of_its_network() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = nn.Identity()

    twice = Twice()
    assert network_of(twice) is twice.network
    shrink = Shrink()
    assert network_of(shrink) is shrink
    assert network_of(lambda x, sigma: x) is None
    for factory, number in (("Shrink", 1), ("blur", 0)):
        costs = sample_costs(prepare_job("certify", parse_config(RunConfig, run("user_purifiers", factory))))
        assert [cost.evaluations for cost in costs.values()] == [number]


def run(module: str, factory: str = "", **keys: Any) -> dict[str, Any]:
    return {
        "data": {"name": "digits", "select": {"count": 2}},
        "purifier": {"kind": "python", "factory": f"{module}:{factory}", **keys},
        "classifier": {"kind": "python", "factory": "user_purifiers:flat", "num_classes": 10},
        "certify": {"sigmas": [0.25], "num_estimation": 100},
        "numerics": {"batch_size": 8},
    }


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's folder: a module beside a package of several, as they lie on the path."""
    files = {
        "own_filters.py": "def make():\n    import own_numbers\n    return lambda x, sigma: own_numbers.HALF * x\n",
        "own_numbers.py": "import json\nHALF = 0.5\n",
        "unused.py": "",
        "own_package/__init__.py": "",
        "own_package/filters.py": "from .parts import half\nfrom . import more\nmake = half\n",
        "own_package/parts/__init__.py": "from own_package.parts.inner import half\n",
        "own_package/parts/inner.py": "def half():\n    return lambda x, sigma: x / 2\n",
        "own_package/more.py": "",
        "own_package/other.py": "",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("own_")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("module", "part_of_it", "not_part_of_it"),
    [
        ("own_filters", ["own_filters.py", "own_numbers.py"], ["unused.py", "own_package/more.py"]),
        (
            "own_package.filters",
            ["__init__.py", "filters.py", "parts/__init__.py", "parts/inner.py", "more.py"],
            ["other.py", "../unused.py", "../own_filters.py"],
        ),
    ],
)
def test_the_hash_is_over_the_source_and_what_it_imports(
    package: Path, module: str, part_of_it: list[str], not_part_of_it: list[str]
) -> None:
    folder = package / "own_package" if "." in module else package
    before = source_sha256(f"{module}:make", "purifier")
    for name in not_part_of_it:
        (folder / name).write_text("A = 1\n")
        assert source_sha256(f"{module}:make", "purifier") == before, name
    for name in part_of_it:
        content = (folder / name).read_text()
        (folder / name).write_text(content + "# changed\n")
        assert source_sha256(f"{module}:make", "purifier") != before, name
        (folder / name).write_text(content)
    assert source_sha256(f"{module}:make", "purifier") == before


def test_of_an_installed_package_only_its_own_source_counts(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raycp.models.user_code._INSTALLATION", {package.resolve()})
    before = source_sha256("own_filters:make", "purifier")
    (package / "own_numbers.py").write_text("HALF = 0.25\n")
    assert source_sha256("own_filters:make", "purifier") == before
    with pytest.raises(ModelError, match=r"the source of time cannot be read .* must be a Python file"):
        source_sha256("time:time", "purifier")


def test_a_changed_purifier_is_another_run_and_no_replica_may_have_another(package: Path) -> None:
    def job() -> Job:
        return prepare_job("certify", parse_config(RunConfig, run("own_filters", "make")))

    first, again = job(), job()
    assert first.manifest() == again.manifest()
    (package / "own_filters.py").write_text(
        (package / "own_filters.py").read_text().replace("HALF *", "HALF**2 *")
    )
    lines = manifest_differences(first.manifest(), job().manifest())
    assert [line.partition(":")[0] for line in lines] == ["weights.purifier", "weights.purifier_source"]
    assert first.manifest()["fingerprint"] != job().manifest()["fingerprint"]
    with pytest.raises(
        ModelError, match=r"purifier\.factory: the source of own_filters:make is not the same in all"
    ):
        first.on_cpu()
