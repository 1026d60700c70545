"""Orders of methods that a suite claims, and whether its methods can be held against them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from raycp.config.base import Float, Frozen, differences, resolved
from raycp.config.certify import DEFAULT_RADII, RunConfig, Sigma

Radii = tuple[Annotated[Float, Field(ge=0)], ...]
Metric = Literal["fid", "lpips", "transport", "squared_l2", "optimal_transport"]
"""Of `raycp evaluate`: distances of the purified images from the clean ones, of which less is better."""


class Claim(Frozen):
    """An order that somebody states.

    Without `metric`: at every radius one method certifies more of the images than another. With it: the purified images
    of one method are nearer to the clean ones, by that metric, than those of another.
    """

    better: str
    """The method, or published log, that is said to be ahead."""
    worse: str
    """The method, or published log, that is said to be behind."""
    says: str = Field(min_length=1)
    """The statement and whose it is, for people."""
    sigmas: tuple[Sigma, ...] | None = Field(None, min_length=1)
    """Noise levels to check it at, pixel units; null: all that both methods have."""
    radii: Radii | None = Field(None, min_length=1)
    """L2 radii to check it at, pixel units; null: all that the tables of both methods have."""
    metric: Metric | None = None
    """Distance of the purified images from the clean ones that is compared; null: certified accuracy."""


def table_radii(config: RunConfig) -> tuple[float, ...]:
    """The radii that a run is asked for, L2, pixel units; N may not reach all of them."""
    return DEFAULT_RADII if config.certify.radii is None else config.certify.radii


def all_radii(methods: Mapping[str, RunConfig]) -> tuple[float, ...]:
    """The radii of several methods together, increasing."""
    return tuple(sorted({radius for config in methods.values() for radius in table_radii(config)}))


def same_data(one: RunConfig, other: RunConfig) -> bool:
    """Whether two runs take their images from one data set; they may take others of them."""
    changed = differences(resolved(one.data), resolved(other.data))
    return all(line.startswith("select.") for line in changed)


def same_noise(one: RunConfig, other: RunConfig) -> bool:
    """Whether an image that both have gets the same noise, sample by sample, at a sigma that both have."""
    keys = [(config.certify.seed, config.certify.noise) for config in (one, other)]
    return same_data(one, other) and keys[0] == keys[1]


def wrong_claims(
    claims: Sequence[Claim],
    methods: Mapping[str, RunConfig],
    evaluated: Collection[str],
    logs: Mapping[str, Collection[float]],
    envelopes: Collection[str] = (),
) -> list[str]:
    """What is wrong with claims, a line for each mistake.

    Args:
        claims: of the suite.
        methods: by name.
        evaluated: the methods whose purified images are measured.
        logs: noise levels of each published log, by the name of its row.
        envelopes: rows that are none of these.
    """
    sigmas = {name: set(config.certify.sigmas) for name, config in methods.items()}
    sigmas |= {name: set(of_log) for name, of_log in logs.items()}
    radii = {name: set(table_radii(config)) for name, config in methods.items()}
    radii |= {name: set(all_radii(methods)) for name in logs}
    known = f"methods {', '.join(methods)}" + (f" or the logs {', '.join(logs)}" if logs else "")
    lines = []
    for number, claim in enumerate(claims):
        where, pair = f"claims.{number}", (claim.better, claim.worse)
        unknown = [key for key in ("better", "worse") if getattr(claim, key) not in sigmas]
        for key in unknown:
            name = getattr(claim, key)
            hint = ", an envelope: claims are of single sigmas" if name in envelopes else ""
            lines.append(f"{where}.{key} must be one of the {known}, got {name!r}{hint}.")
        if unknown:
            continue
        if claim.better == claim.worse:
            lines.append(f"{where}: better and worse must be two methods, got {claim.better!r} for both.")
            continue
        both = f"{claim.better} and {claim.worse}"
        if claim.metric is not None:
            lines += _wrong_metric(where, claim, methods, evaluated)
        elif all(name in methods for name in pair) and not same_data(*(methods[name] for name in pair)):
            lines.append(
                f"{where}: {both} must have the same data (but for data.select): a claim is checked image by image."
            )
        restrictions = [("sigmas", claim.sigmas, sigmas)]
        if claim.metric is None:
            restrictions.append(("radii", claim.radii, radii))
        for key, given, of in restrictions:
            common = of[claim.better] & of[claim.worse]
            if not common:
                lines.append(f"{where}: {both} must have one of certify.{key} in common.")
            elif beyond := sorted(set(given or ()) - common):
                allowed, got = (", ".join(f"{v:g}" for v in values) for values in (sorted(common), beyond))
                lines.append(f"{where}.{key} must be among those of {both}, {allowed}, got {got}.")
    return lines


def _wrong_metric(
    where: str, claim: Claim, methods: Mapping[str, RunConfig], evaluated: Collection[str]
) -> list[str]:
    pair = (claim.better, claim.worse)
    if claim.radii is not None:
        return [f"{where}.radii: a metric of purified images has no radius; leave radii out, or metric."]
    without = [name for name in pair if name not in evaluated]
    if without:
        return [
            f"{where}.metric: the purified images of {' and '.join(without)} are not measured. A section evaluate in "
            "the suite measures those of every method but compositions and those with evaluate: null."
        ]
    wanted = methods[claim.better].evaluate
    lines = [
        f"{where}.metric: {claim.metric} is not measured; it needs evaluate.{key}."
        for metric, key, value in (
            ("fid", "features", wanted.features),
            ("lpips", "perceptual", wanted.perceptual),
            ("optimal_transport", "transport_images", wanted.transport_images),
        )
        if claim.metric == metric and not value
    ]
    one, other = (methods[name].of_evaluation for name in pair)
    if resolved(one.data) != resolved(other.data) or not same_noise(one, other):
        lines.append(
            f"{where}: {claim.better} and {claim.worse} must have the same data (or evaluate.select), certify.seed and "
            "certify.noise: a claim about purified images is checked on the same noisy ones."
        )
    return lines
