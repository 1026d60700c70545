"""The configuration of `raycp compare`: methods that share most of their sections, published logs, orders to check."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError

from raycp.config.base import (
    Frozen,
    Location,
    differences,
    listed,
    load_config,
    parse_config,
    problems,
    resolved,
    without_locations,
)
from raycp.config.certify import OF_EVERY_SAMPLE, Probability, RunConfig, Sigma
from raycp.config.claims import Claim, Radii, all_radii, same_data, same_noise, wrong_claims
from raycp.config.envelopes import wrong_envelopes
from raycp.config.evaluate import ClassifierFeatures, EvaluateProtocol
from raycp.errors import ConfigError

COMPARISON = "comparison"
"""Folder beside the runs for what is made of them."""
EVALUATIONS = "evaluations"
"""Folder beside the runs with the evaluations of their purified images, each under the name of its method."""

_TAGS = {"data": "name", "purifier": "kind", "classifier": "kind"}
"""The key of a section that decides which other keys it has."""
_OF_THE_CLUSTER = ("address", "local_cpus", "dashboard")
"""Keys of `engine` that one Ray cluster has one value of."""

Section = dict[str, Any] | None


def _fit_for_a_folder(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name) or name in (COMPARISON, EVALUATIONS):
        raise ValueError(
            f"must be letters, digits, dashes and underscores, and neither {COMPARISON} nor {EVALUATIONS}: it names a "
            "run directory."
        )
    return name


def _plain(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise ValueError("must be letters, digits, dashes and underscores.")
    return name


class LogFiles(Frozen):
    """Certification logs that others published of one method: rows of the table for which nothing is drawn.

    The keys are the options of `raycp logs import`.
    """

    files: dict[Sigma, Location] = Field(min_length=1)
    """Noise level, pixel units -> log of it, in any variant that `raycp logs import` reads."""
    num_selection: int | None = Field(None, ge=1)
    """Selection samples N0, as claimed; null: not said."""
    num_estimation: int | None = Field(None, ge=1)
    """Estimation samples N, as claimed; null: not said."""
    alpha: Probability | None = None
    """Failure probability of a certificate, as claimed; null: not said."""
    data: str | None = None
    """Data set and split, in words; null: not said."""
    columns: tuple[str, ...] = ()
    """Columns of files without a header; those of 5 or 6 columns are known."""
    skip_damaged: bool = False
    """Leave out lines that cannot be read, and say so."""


class SuiteFile(Frozen):
    """A suite as it is written. The sections of a run may be shared, and each method says what it has of its own."""

    data: Section = None
    purifier: Section = None
    classifier: Section = None
    composition: Section = None
    certify: Section = None
    numerics: Section = None
    engine: Section = None
    evaluate: Section = None
    """What to measure of the purified images of every method but compositions; null: nothing. A method may have null,
    or a `select` of its own."""
    methods: dict[Annotated[str, AfterValidator(_fit_for_a_folder)], Section] = Field(min_length=1)
    """Name of the method and of its run directory -> its own sections, laid over the shared ones key by key; one that
    is of another kind (data: of another name) takes the place of the shared one."""
    logs: dict[Annotated[str, AfterValidator(_plain)], LogFiles] = {}
    """Name of the row -> published logs that stand beside the methods, of the same images."""
    envelopes: dict[
        Annotated[str, AfterValidator(_plain)], Annotated[tuple[str, ...], Field(min_length=2)]
    ] = {}
    """Name of the row -> methods or logs, each of other noise levels, of which it has the best for each radius."""
    mixed_images: bool = False
    """Rows may be of other images or another data set than the first one's, which is said below the table."""
    claims: tuple[Claim, ...] = ()
    """Orders to check."""
    pareto_radii: Radii | None = Field(None, min_length=1)
    """L2 radii of the picture of accuracy against cost, pixel units; null: those of the tables above 0."""


@dataclass(frozen=True)
class Suite:
    """A suite that has been read.

    Attributes:
        methods: an ordinary configuration of `raycp certify` for each name, in the order of the file.
        claims: each of two of the methods, at noise levels and radii that both have.
        pareto_radii: of the picture of accuracy against cost; None: those of the tables above 0.
        logs: published logs, by the name of their row.
        mixed_images: whether rows may be of other images than the first one's.
        evaluated: the methods whose purified images are measured, too.
        envelopes: methods and logs, each of other noise levels, by the name of the row that is their envelope.
    """

    methods: dict[str, RunConfig]
    claims: tuple[Claim, ...] = ()
    pareto_radii: tuple[float, ...] | None = None
    logs: dict[str, LogFiles] = field(default_factory=dict)
    mixed_images: bool = False
    evaluated: tuple[str, ...] = ()
    envelopes: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def radii(self) -> tuple[float, ...]:
        """The radii of the table, L2, pixel units: those of all methods together."""
        return all_radii(self.methods)

    def notes(self) -> list[str]:
        """In what, beside purifier and classifier, the methods differ from the first one: a line for each that does."""
        names = list(self.methods)
        first = self.methods[names[0]]
        lines = []
        for name in names[1:]:
            other = self.methods[name]
            changed = [
                line
                for section in ("data", "certify", "numerics")
                for line in differences(
                    resolved(getattr(first, section)), resolved(getattr(other, section)), f"{section}."
                )
                if not line.startswith("certify.sigmas:")
            ]
            if changed:
                noise = "" if same_noise(first, other) else "; its images or their noise are others"
                lines.append(f"{name} differs from {names[0]} in {', '.join(changed)}{noise}")
        return lines

    def only(self, names: Sequence[str]) -> dict[str, RunConfig]:
        """The methods of these names, in the order of the file; all, if none are given.

        Raises:
            ConfigError: one of them is not in the suite.
        """
        for name in names:
            if name in self.logs:
                raise ConfigError(
                    f"--only {name}: it is a published log, for which nothing is run; it is in every table. The "
                    f"methods are {', '.join(self.methods)}."
                )
            if name in self.envelopes:
                raise ConfigError(
                    f"--only {name}: it is an envelope, for which nothing is run; run its members, "
                    f"{', '.join(self.envelopes[name])}."
                )
            if name not in self.methods:
                raise ConfigError(
                    f"--only {name}: this suite has the methods {', '.join(self.methods)}, and no other."
                )
        return {name: config for name, config in self.methods.items() if not names or name in names}


def load_suite(path: str | Path, overrides: Sequence[str] = ()) -> Suite:
    """Read a suite, with `dotted.key=value` overrides of what is written in it.

    Raises:
        ConfigError: see `load_config`; the paths of what a method has of its own begin with `methods.NAME`.
    """
    return resolve_suite(load_config(SuiteFile, path, overrides), str(path))


def resolve_suite(file: SuiteFile, source: str = "the suite") -> Suite:
    """Lay each method's sections over the shared ones; see `load_suite` for the errors."""
    shared = {name: getattr(file, name) for name in RunConfig.model_fields if getattr(file, name, None)}
    methods: dict[str, RunConfig] = {}
    evaluated: list[str] = []
    lines: list[str] = []
    for name, own in file.methods.items():
        raw = {**shared, "evaluate": file.evaluate}
        for key, section in (own or {}).items():
            raw[key] = _laid_over(raw.get(key), section, _TAGS.get(key))
        wanted = raw["evaluate"] is not None
        if not wanted:
            raw["evaluate"] = file.evaluate or {}  # its mistakes are mistakes whoever is measured
        try:
            method = RunConfig.model_validate(raw)
            if wanted and method.composition is None:
                evaluated.append(name)
            else:
                method = method.model_copy(update={"evaluate": EvaluateProtocol()})
            methods[name] = method
        except ValidationError as err:
            lines += [
                text if _written_deeper(shared, own or {}, path) else f"methods.{name}.{text}"
                for path, text in problems(RunConfig, raw, err)
            ]
    of_logs = {name: log.files.keys() for name, log in file.logs.items()}
    lines = lines or [
        *_of_one_cluster(methods),
        *(f"logs.{name} must not have the name of a method." for name in file.logs if name in methods),
        *([] if file.mixed_images else _of_other_images(methods)),
        *_not_measured_alike({name: methods[name] for name in evaluated}),
        *wrong_envelopes(file.envelopes, methods, of_logs),
        *wrong_claims(file.claims, methods, evaluated, of_logs, file.envelopes),
    ]
    if lines:
        raise ConfigError(listed(source, lines))
    return Suite(
        methods,
        claims=file.claims,
        pareto_radii=file.pareto_radii,
        logs=file.logs,
        mixed_images=file.mixed_images,
        evaluated=tuple(evaluated),
        envelopes=file.envelopes,
    )


def recorded_differences(
    config: RunConfig, recorded: Mapping[str, Any], kind: Literal["certify", "evaluate"] = "certify"
) -> list[str]:
    """In what a run was made with another configuration than a method has now: a line for each key.

    Args:
        config: of the method.
        recorded: what the run recorded; what it chose itself (device, batch size, memory format), where files lie and
            where it ran are no difference.
        kind: of the run; what only other commands use is no difference.
    """
    before = without_locations(parse_config(RunConfig, recorded, "the recorded configuration"))
    now = without_locations(config if kind == "certify" else config.of_evaluation)
    for content in (before, now):
        del content["engine"], content["predict"]
        if kind == "certify":
            del content["evaluate"]
        else:
            del content["composition"]
            content["certify"] = {key: content["certify"][key] for key in OF_EVERY_SAMPLE}
    for key, value in now["numerics"].items():
        if value in ("auto", None):
            before["numerics"][key] = value
    return differences(before, now)


def _laid_over(shared: Any, own: Any, tag: str | None = None) -> Any:
    if not isinstance(shared, Mapping) or not isinstance(own, Mapping):
        return own
    if tag is not None and own.get(tag, shared.get(tag)) != shared.get(tag):
        return own
    return {**shared, **{key: _laid_over(shared.get(key), value) for key, value in own.items()}}


def _written_deeper(shared: Mapping[str, Any], own: Mapping[str, Any], path: str) -> bool:
    """Whether it is the shared sections that a path leads into."""
    return _depth(shared, path) > _depth(own, path)


def _depth(raw: Any, path: str) -> int:
    first, _, rest = path.partition(".")
    if isinstance(raw, list) and first.isdigit() and int(first) < len(raw):
        return 1 + _depth(raw[int(first)], rest)
    return 1 + _depth(raw[first], rest) if isinstance(raw, Mapping) and first in raw else 0


def _of_one_cluster(methods: Mapping[str, RunConfig]) -> list[str]:
    (first, config), *others = methods.items()
    return [
        f"methods.{name}.engine.{key} must be as in {first}, {getattr(config.engine, key)!r}, got "
        f"{getattr(other.engine, key)!r}: one Ray cluster runs all methods."
        for name, other in others
        for key in _OF_THE_CLUSTER
        if getattr(other.engine, key) != getattr(config.engine, key)
    ]


def _not_measured_alike(evaluated: Mapping[str, RunConfig]) -> list[str]:
    """The figures of one table, and the intervals of one set of claims, are of the same metrics."""
    if not evaluated:
        return []
    (first, config), *others = evaluated.items()
    lines = []
    for name, other in others:
        changed = [
            line
            for line in differences(resolved(config.evaluate), resolved(other.evaluate), "evaluate.")
            if not line.startswith("evaluate.select")
        ]
        if changed:
            lines.append(
                f"methods.{name}.evaluate must be as in {first}, but for select, differs in {', '.join(changed)}: the "
                "purified images of a suite are measured alike."
            )
    features = config.evaluate.features
    if isinstance(features, ClassifierFeatures) and features.classifier is None:
        lines += [
            f"evaluate.features.classifier must name a classifier: {first} and {name} have different ones, and their "
            "FID would be in different features. evaluate: null leaves a method out."
            for name, other in others
            if resolved(other.classifier) != resolved(config.classifier)
        ]
    return lines


def _of_other_images(methods: Mapping[str, RunConfig]) -> list[str]:
    (first, config), *others = methods.items()
    lines = []
    for name, other in others:
        changed = differences(resolved(config.data), resolved(other.data), "data.")
        if not changed:
            continue
        shown = [line for line in changed if line.startswith("data.name:")] or changed
        what = "other images" if same_data(config, other) else "another data set"
        lines.append(
            f"methods.{name} is of {what} than {first}, {', '.join(shown)}. The rows of a table are of the same "
            "images; mixed_images: true in the suite allows others, and says so below the table."
        )
    return lines
