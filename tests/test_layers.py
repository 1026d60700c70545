"""The architecture, held by walking the source: who imports whom, what is loaded when, and how long a file gets."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "raycp"
# Imports point down: a module may import its own layer and those that stand after it.
LAYERS = (
    "cli", "bench", "verify", "distributed", "simulate", "logs", "runs", "certify", "sampling", "parity", "purifiers",
    "models", "report", "training", "quality", "data", "maths", "statistics", "config", "published", "storage",
    "errors",
)  # fmt: skip
# Packages beyond the standard library that these layers may import, anywhere in their code.
THIRD_PARTY = {
    "errors": set(),
    "storage": {"pyarrow"},
    "config": {"pydantic", "yaml"},
    "published": {"requests"},
    "statistics": {"numpy", "scipy"},
    "maths": {"torch", "numpy"},
    "quality": {"numpy", "scipy", "ot"},
    "certify": {"numpy"},
    "sampling": {"numpy", "torch", "triton", "mpmath"},
    "parity": {"torch"},
    "purifiers": {"torch", "numpy"},
    "runs": {"numpy", "pyarrow"},
    "verify": {"numpy", "scipy", "pyarrow", "torch"},
    "simulate": {"numpy", "scipy", "pyarrow", "matplotlib"},
    "logs": {"numpy", "scipy", "pyarrow"},
}
HEAVY = ("torch", "torchvision", "ray", "numpy", "scipy", "pyarrow", "pandas", "matplotlib", "sklearn", "diffusers",
         "timm", "transformers", "lpips", "triton", "mpmath", "PIL")  # fmt: skip
LONGEST_FILE = 400

MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer_of(module: str) -> str:
    """`raycp.certify.tally` -> `certify`; `raycp` itself has none."""
    return module.split(".")[1] if "." in module else ""


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Absolute names of all modules that a file imports, with the line: at the top, in functions, for type checks."""
    package = name_of(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:  # `from raycp import statistics` imports a layer, not a name of raycp
                yield (
                    f"raycp.{alias.name}" if module == "raycp" and alias.name in LAYERS else module,
                    node.lineno,
                )
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func).endswith(("import_module", "__import__"))
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            yield str(node.args[0].value), node.lineno


def third_party(path: Path) -> set[str]:
    roots = {name.partition(".")[0] for name, _ in imports(path)}
    return {root for root in roots if root != "raycp" and root not in sys.stdlib_module_names}


def test_the_walk_sees_every_kind_of_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "raycp"
    (package / "certify").mkdir(parents=True)
    file = package / "certify" / "sly.py"
    file.write_text(
        "import raycp.runs.ledger as l, ray\n"
        "from raycp import statistics\n"
        "from raycp.data import load\n"
        "from . import tally\n"
        "from ..cli import main\n"
        "if TYPE_CHECKING:\n    from raycp.report import page\n"
        "def f():\n    import torch.nn\n    from ray.util import queue\n"
        "    importlib.import_module('raycp.bench')\n"
    )
    monkeypatch.setitem(globals(), "PACKAGE", package)
    found = {name for name, _ in imports(file)}
    assert found == {
        "raycp.runs.ledger", "ray", "raycp.statistics", "raycp.data", "raycp.certify", "raycp.cli", "raycp.report",
        "torch.nn", "ray.util", "raycp.bench",
    }  # fmt: skip
    assert third_party(file) == {"ray", "torch"}


def test_there_is_something_to_walk() -> None:
    assert len(MODULES) > 60
    assert {layer_of(name_of(path)) for path in MODULES} - {""} <= set(LAYERS), "a package without a layer"
    assert {"certify", "sampling", "runs", "config", "statistics", "errors"} <= {
        layer_of(name_of(p)) for p in MODULES
    }


def test_imports_point_down() -> None:
    upward = []
    for path in MODULES:
        layer = layer_of(name_of(path))
        for target, line in imports(path):
            if target.partition(".")[0] != "raycp" or layer_of(target) in ("", layer):
                continue
            assert layer, f"{path}:{line}: raycp/__init__.py imports {target}"
            if LAYERS.index(layer_of(target)) < LAYERS.index(layer):
                upward.append(f"{path.relative_to(PACKAGE.parent)}:{line} imports {target}")
    assert not upward, "\n" + "\n".join(upward)


def test_only_the_distributed_layer_imports_ray() -> None:
    users = {layer_of(name_of(path)) for path in MODULES if "ray" in third_party(path)}
    assert users == {"distributed"}


@pytest.mark.parametrize("layer", THIRD_PARTY)
def test_layers_with_few_dependencies_keep_to_them(layer: str) -> None:
    others = {
        str(path.relative_to(PACKAGE.parent)): foreign
        for path in MODULES
        if layer_of(name_of(path)) == layer and (foreign := third_party(path) - THIRD_PARTY[layer])
    }
    assert not others


def loaded_by(modules: list[str]) -> dict[str, list[str]]:
    """Which of the heavy packages are loaded after importing each module in turn, in a fresh process."""
    script = (
        "import importlib, json, sys\n"
        f"names, heavy = {modules!r}, {HEAVY!r}\n"
        "found = {}\n"
        "for name in names:\n"
        "    importlib.import_module(name)\n"
        "    found[name] = [package for package in heavy if package in sys.modules]\n"
        "print(json.dumps(found))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, list[str]] = json.loads(done.stdout)
    return result


def modules_in(layer: str) -> list[str]:
    return [name_of(path) for path in MODULES if layer_of(name_of(path)) == layer]


def test_the_command_line_loads_nothing_heavy() -> None:
    """`raycp --help` answers at once."""
    found = loaded_by(modules_in("cli"))
    assert "raycp.cli.main" in found
    assert {name: heavy for name, heavy in found.items() if heavy} == {}


def test_planning_loads_neither_torch_nor_ray() -> None:
    found = loaded_by(
        [*modules_in("errors"), *modules_in("config"), *modules_in("statistics"), *modules_in("certify")]
    )
    assert "raycp.certify.planner" in found
    for name, heavy in found.items():
        assert set(heavy) <= {"numpy", "scipy"}, name
        if layer_of(name) in ("errors", "config"):
            assert not heavy, name


def test_no_layer_below_distributed_loads_ray() -> None:
    below = LAYERS[LAYERS.index("distributed") + 1 :]
    modules = [name for layer in below for name in modules_in(layer)]
    modules.remove("raycp.sampling.triton_noise")  # triton need not be there
    found = loaded_by(modules)
    assert [name for name, heavy in found.items() if "ray" in heavy] == []


def test_no_file_is_long() -> None:
    lengths = {str(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {path: length for path, length in lengths.items() if length > LONGEST_FILE} == {}


def test_no_file_is_named_after_nothing() -> None:
    names = {path.stem for path in MODULES} | {path.name for path in PACKAGE.rglob("*") if path.is_dir()}
    assert names.isdisjoint({"utils", "util", "helpers", "helper", "common", "misc"})
