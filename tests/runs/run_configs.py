"""Run configurations with every field given, for walking through them."""

from __future__ import annotations

from typing import Any

from raycp.config import RunConfig, parse_config

MODEL = {
    "path": "/models/unet", "parametrisation": "edm", "sigma_data": 0.5, "sigma_min": 0.002, "sigma_max": 80.0,
    "rho": 7.0, "class_label": 3,
}  # fmt: skip
PURIFIERS: dict[str, dict[str, Any]] = {
    "none": {"kind": "none"},
    "ddpm": {"kind": "ddpm", "model": MODEL},
    "edm": {"kind": "edm", "model": MODEL},
    "pf_ode": {"kind": "pf_ode", "model": MODEL},
    "consistency": {"kind": "consistency", "model": MODEL, "num_steps": 18},
}
SHARED = {
    "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2],
    "resize": {"size": 64, "interpolation": "bilinear", "antialias": True},
}  # fmt: skip
CLASSIFIERS: dict[str, dict[str, Any]] = {
    "timm": {"kind": "timm", "name": "resnet18", "num_classes": 10, "weights": "/w/a.safetensors",
             "kwargs": {"drop_rate": 0.1}, **SHARED},
    "directory": {"kind": "directory", "path": "/models/classifier", **SHARED},
    "python": {"kind": "python", "factory": "mine:make", "num_classes": 10, "kwargs": {"width": 8},
               "weights": "/w/b.pt", "state_key": "model", "strip_prefix": "module.", **SHARED},
}  # fmt: skip
ENCODED = {"convert": "rgb", "resize": 40, "crop": 32}
DATA: dict[str, dict[str, Any]] = {
    "digits": {"name": "digits"},
    "cifar10": {"name": "cifar10", "path": "/data/cifar"},
    "parquet": {"name": "parquet", "path": "/data/p", "split": "test", "image_column": "img", **ENCODED},
    "folder": {"name": "folder", "path": "/data/f", **ENCODED},
    "npz": {"name": "npz", "path": "/data/a.npz", "layout": "HWC"},
}


def run_config(
    purifier: str = "consistency",
    classifier: str = "timm",
    data: str = "parquet",
    sections: dict[str, Any] | None = None,
) -> RunConfig:
    raw = {
        "data": {**DATA[data], "select": {"start": 5, "skip": 20, "count": 500}},
        "purifier": PURIFIERS[purifier],
        "classifier": CLASSIFIERS[classifier],
        "certify": {"radii": [0.0, 0.5]},
        "numerics": {"device": "cpu", "batch_size": 64},
        "engine": {"address": "auto", "replicas": 2, "local_cpus": 2},
    }
    return parse_config(RunConfig, raw | (sections or {}))


# Tried in turn until one is valid at a place and differs from what is there.
CANDIDATES: list[Any] = [
    True, False, 7, 2, 41, 0.3, 0.15, [0.1, 0.2], [0.1, 0.2, 0.3], [1, 2], {"other": 1}, "rgb", "grey", "HWC", "CHW",
    "certain_name", "other.module:name", "float", "sound", "one_sided", "two_class", "bfloat16", "float32", "cuda",
    "cpu", "nearest", "bicubic", "snapped", "exact", "search", "closed_form", "ddpm", "edm", "train", "test", 200, 0.7,
    None,
]  # fmt: skip


def leaves(resolved: dict[str, Any], prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Paths of all values of a resolved configuration; `kwargs` count as one value."""
    found = []
    for key, value in resolved.items():
        path = (*prefix, key)
        found += leaves(value, path) if isinstance(value, dict) and key != "kwargs" else [path]
    return found
