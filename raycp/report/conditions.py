"""Under which conditions the figures of a run hold: protocol, noise, data and models, read from its config.json."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raycp.config.certify import DEFAULT_RADII
from raycp.report.numerals import exact
from raycp.report.results import RunLike
from raycp.statistics import Bound, largest_certifiable_radius

NOT_RECORDED = "not recorded"

_BOUNDS = {
    "one_sided": "one-sided Clopper-Pearson bound of p_A, p_B ≤ 1 − p_A",
    "two_class": "Clopper-Pearson bounds of p_A and of every other class at α/2 each",
}
_SEQUENTIAL = {
    "decide": "exact group-sequential test of each radius, α spent over fixed looks, until every radius is decided",
    "anytime": "exact group-sequential bound of p_A, α spent over fixed looks, until it is known to the tolerance",
    "e_process": "e-process bound of p_A, valid at every look, until it is known to the tolerance",
}
_NOISES = {
    "sound": "integer Gaussian noise on the 1/255 grid (exact in floating point)",
    "float": "x + σ·n in float32 (unsound in theory: floating-point rounding can leak x)",
}
_PURIFIERS = {
    "none": "no purification",
    "ddpm": "one-step DDPM denoising",
    "edm": "one-step EDM denoising",
    "pf_ode": "EDM probability-flow ODE",
    "consistency": "one-step consistency purification",
}
_DATA_KEYS = ("name", "split", "path")
_CLASSIFIER_KEYS = {
    "timm": ("kind", "name"),
    "directory": ("path",),
    "cifar_resnet": ("kind", "weights"),
    "python": ("factory",),
}


@dataclass(frozen=True)
class ImportedFile:
    """A log that was imported: its name, its SHA-256 and what was found in it, one sentence each."""

    name: str
    sha256: str
    sigma: float | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Conditions:
    """The conditions every figure of a run is printed with; None where the run did not record one."""

    num_selection: int | None
    num_estimation: int | None
    alpha: float | None
    bound: str | None
    rule: str | None
    noise: str | None
    skip_wrong: bool
    seed: int | None
    radii: tuple[float, ...]
    """L2 radii of the table, pixel units."""
    data: str
    purifier: str
    classifier: str
    device: str
    class_names: tuple[str, ...] | None
    image_index: tuple[int, ...] | None
    """The images the run is to decide, by their index in the data set."""
    imported: tuple[ImportedFile, ...]
    """The files that an import was made from; none for a run of raycp."""
    reach: Mapping[float, float]
    """Per sigma, the largest radius that its rule can certify, pixel units, as the run recorded it."""
    composition: str | None = None
    """What is certified in place of the smoothed classifier, as a sentence; None: that one."""
    core: str | None = None
    """The core classifier of a composition."""

    @property
    def bound_in_words(self) -> str:
        """The confidence bound, as a noun phrase."""
        if self.composition is not None:
            return f"{_in_words(self.bound, _BOUNDS)}, at α/2; likewise of the choice, on the same samples"
        return _SEQUENTIAL[self.rule] if self.rule in _SEQUENTIAL else _in_words(self.bound, _BOUNDS)

    @property
    def samples_in_words(self) -> str:
        """How many samples bound the probability, as a phrase with `fresh ones`."""
        number = NOT_RECORDED if self.num_estimation is None else f"{self.num_estimation:,}"
        return f"at most N = {number}" if self.rule in _SEQUENTIAL else f"N = {number}"

    @property
    def claims_in_words(self) -> str:
        """What is claimed of an imported log: `N = 100,000, α = 0.001 as claimed; N0 not said`."""
        claims = {
            "N0": None if self.num_selection is None else f"{self.num_selection:,}",
            "N": None if self.num_estimation is None else f"{self.num_estimation:,}",
            "α": None if self.alpha is None else exact(self.alpha),
        }
        said = ", ".join(f"{name} = {value}" for name, value in claims.items() if value is not None)
        unsaid = ", ".join(name for name, value in claims.items() if value is None)
        return "; ".join(
            [*([f"{said} as claimed"] if said else []), *([f"{unsaid} not said"] if unsaid else [])]
        )

    @property
    def noise_in_words(self) -> str:
        """How the noise is drawn, as a noun phrase."""
        return _in_words(self.noise, _NOISES)

    def largest_radius(self, sigma: float) -> float | None:
        """The largest radius that N samples can certify at `sigma`, pixel units.

        None where N, alpha or sigma is not recorded, `-inf` where N is too small to certify anything.
        """
        if sigma in self.reach:
            return self.reach[sigma]
        if self.num_estimation is None or self.alpha is None or math.isnan(sigma):
            return None
        bound: Bound = "two_class" if self.bound == "two_class" else "one_sided"
        return largest_certifiable_radius(sigma, self.num_estimation, self.alpha, bound)


def conditions(run: RunLike) -> Conditions:
    """Read the conditions of a run; keys that an imported or older run lacks become None."""
    config = run.config.get("config") or {}
    certify = config.get("certify", {})
    data = run.config.get("data") or {}
    names, image_index = data.get("class_names"), data.get("image_index")
    return Conditions(
        num_selection=certify.get("num_selection"),
        num_estimation=certify.get("num_estimation"),
        alpha=certify.get("alpha"),
        bound=certify.get("bound"),
        rule=certify.get("rule"),
        noise=certify.get("noise"),
        skip_wrong=bool(certify.get("skip_wrong", False)),
        seed=certify.get("seed"),
        radii=tuple(float(eps) for eps in _radii(certify.get("radii"))),
        data=str(data.get("source") or _joined(config.get("data"), _DATA_KEYS)),
        purifier=_purifier(config.get("purifier")),
        classifier=_classifier(config.get("classifier")),
        device=_joined(config.get("numerics"), ("device", "dtype")),
        class_names=tuple(str(name) for name in names) if names else None,
        imported=tuple(
            ImportedFile(file["name"], file["sha256"], file["sigma"], tuple(file["notes"]))
            for file in run.config.get("files") or ()
        ),
        image_index=None if image_index is None else tuple(int(index) for index in image_index),
        reach={float(sigma): float(radius) for sigma, radius in (run.config.get("reach") or {}).items()},
        composition=_composition(config.get("composition")),
        core=_classifier(config["composition"]["core"]) if config.get("composition") else None,
    )


def _radii(configured: Sequence[float] | None) -> Sequence[float]:
    return DEFAULT_RADII if configured is None else configured


def _in_words(value: str | None, words: Mapping[str, str]) -> str:
    return NOT_RECORDED if value is None else words.get(value, str(value))


def _purifier(section: Mapping[str, Any] | None) -> str:
    kind = (section or {}).get("kind")
    if section and kind == "python":
        return f"purification by {section['factory']}"
    return _in_words(kind, _PURIFIERS)


def _composition(section: Mapping[str, Any] | None) -> str | None:
    if section is None:
        return None
    return (
        "Certified is a composition (ACES): the smoothed classifier answers where the entropy of the base classifier's "
        f"softmax is at most {exact(section['threshold'])} log K with probability above 1/2; elsewhere "
        f"{_classifier(section['core'])} does, on the image itself, and the radius is 0."
    )


def _classifier(section: Mapping[str, Any] | None) -> str:
    kind = (section or {}).get("kind")
    return _joined(section, _CLASSIFIER_KEYS.get(str(kind), ("kind",)))


def _joined(section: Mapping[str, Any] | None, keys: Sequence[str]) -> str:
    values = [str(section[key]) for key in keys if section.get(key)] if section else []
    return " ".join(values) or NOT_RECORDED
