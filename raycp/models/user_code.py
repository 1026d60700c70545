"""A user's own code: what a function of their package makes, and the hash over the source behind it."""

from __future__ import annotations

import ast
import difflib
import hashlib
import importlib
import inspect
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from raycp.errors import ModelError

# Where installed packages and the standard library are: of these, only the user's own package counts as source.
_INSTALLATION = {
    Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib", "stdlib", "platstdlib")
}


def call_factory(section: str, arguments: Mapping[str, Any]) -> Any:
    """Call `package.module:function` with its keyword arguments, on a seeded CPU generator.

    The seed makes a function that draws from torch's generator return the same object in every process.

    Args:
        section: of the configuration, for messages: `classifier` or `purifier`.
        arguments: `factory` and `kwargs`, plain JSON values; `source`, the hash that the driver found, if it is to be
            the same here.

    Raises:
        ModelError: the function cannot be imported, does not take these arguments, or is of another source. Errors
            inside the function keep their traceback.
    """
    name, kwargs = arguments["factory"], arguments["kwargs"]
    function = _imported(name, section)
    try:
        inspect.signature(function).bind(**kwargs)
    except (TypeError, ValueError) as err:
        raise ModelError(
            f"{section}.kwargs {kwargs} do not fit {name}{_signature(function)}: {err}. The function is called with "
            f"kwargs alone and returns the {section}."
        ) from err
    expected = arguments.get("source")
    if expected is not None and (found := source_sha256(name, section)) != expected:
        raise ModelError(
            f"{section}.factory: the source of {name} is not the same in all processes of the run: its SHA-256 is "
            f"{found[:12]} here and {expected[:12]} on the driver. Bring all nodes to one version, and leave the files "
            "alone while a run is under way."
        )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return function(**kwargs)


def source_sha256(factory: str, section: str) -> str:
    """Hash over the source of the factory's module and of the modules beside it that it imports, at any depth.

    Beside it are the modules of its package and those in the folder that its package or module lies in, unless this
    is where packages are installed. All import statements count, those within functions too.

    Raises:
        ModelError: the module cannot be imported, or has no readable source.
    """
    module_name = factory.partition(":")[0]
    file = getattr(_module(module_name, section), "__file__", None)
    try:
        if file is None:
            raise OSError("it is not a file")
        sources = _sources(module_name, Path(file))
    except (OSError, SyntaxError, ValueError) as err:
        raise ModelError(
            f"{section}.factory: the source of {module_name} cannot be read ({err}); it is part of what a run is, so "
            "the module must be a Python file."
        ) from err
    digest = hashlib.sha256()
    for name, content in sorted(sources.items()):
        digest.update(f"{name} {hashlib.sha256(content).hexdigest()}\n".encode())
    return digest.hexdigest()


def _sources(module_name: str, file: Path) -> dict[str, bytes]:
    depth = module_name.count(".") + (file.name == "__init__.py")
    root = file.resolve().parents[depth]
    own = module_name.partition(".")[0] if root in _INSTALLATION else None
    found: dict[str, bytes] = {}
    todo = [module_name]
    while todo:
        name = todo.pop()
        path = _file(root, name)
        if name in found or path is None or (own is not None and name.partition(".")[0] != own):
            continue
        found[name] = path.read_bytes()
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        todo += [name.rpartition(".")[0], *_imports(found[name], package)]
    return found


def _file(root: Path, name: str) -> Path | None:
    base = root.joinpath(*name.split(".")) if name else root
    for path in (base / "__init__.py", base.parent / f"{base.name}.py"):
        if name and path.is_file():
            return path
    return None


def _imports(source: bytes, package: str) -> Iterator[str]:
    """Absolute names of what may be modules among the imports of a source; names of their members too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _module(module_name: str, section: str) -> Any:
    try:
        return importlib.import_module(module_name)
    except ImportError as err:
        raise ModelError(
            f"{section}.factory: cannot import {module_name}: {err}. It must be importable on the driver and on every "
            "node: install the package, or put its folder on PYTHONPATH or into the job's working directory."
        ) from err


def _imported(factory: str, section: str) -> Any:
    module_name, _, function_name = factory.partition(":")
    module = _module(module_name, section)
    function = getattr(module, function_name, None)
    if function is None:
        close = difflib.get_close_matches(function_name, dir(module), n=1)
        hint = f"; did you mean {close[0]}?" if close else "."
        raise ModelError(f"{section}.factory: {module_name} has no {function_name}{hint}")
    if not callable(function):
        raise ModelError(
            f"{section}.factory: {factory} is a {type(function).__name__}, which cannot be called."
        )
    return function


def _signature(function: Any) -> str:
    try:
        return str(inspect.signature(function))
    except ValueError:
        return "(...)"
