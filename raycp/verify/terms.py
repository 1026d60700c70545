"""What follows from the recorded configuration before any sample is drawn: slack, reach, radii, looks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from raycp.config import CertifyProtocol
from raycp.config.certify import DEFAULT_RADII
from raycp.sampling.discrete_gaussian import discrete_gaussian
from raycp.statistics import certified_radius, largest_certifiable_radius
from raycp.statistics.e_process import e_process_lower
from raycp.statistics.sequential import ROUNDING, geometric_looks
from raycp.verify.checks import Check
from raycp.verify.record import Record


@dataclass(frozen=True)
class Terms:
    """Fixed before the first sample.

    Attributes:
        protocol: as recorded.
        slack: per sigma, the total variation distance of the drawn noise from the Gaussian.
        reach: per sigma, the radius of N equal votes, pixel units; -inf if they certify nothing.
        radii: of the run's table.
        looks: sample sizes at which votes are looked at; empty under the fixed rule.
        num_classes: K.
        composed: whether selector and classifier of a composition have half of alpha each.
    """

    protocol: CertifyProtocol
    slack: dict[float, float]
    reach: dict[float, float]
    radii: tuple[float, ...]
    looks: tuple[int, ...]
    num_classes: int
    composed: bool = False

    @property
    def has_boundaries(self) -> bool:
        """Whether the rule decides by stored tables."""
        return self.protocol.rule in ("decide", "anytime")


def terms_of(record: Record) -> tuple[Terms, Check]:
    """Derive the terms, and compare with those in config.json."""
    protocol, manifest = record.protocol, record.manifest
    caps = manifest.get("caps", [])
    slack = dict.fromkeys(protocol.sigmas, 0.0)
    if protocol.noise == "sound":
        values = math.prod(manifest["data"]["shape"])
        slack = {sigma: discrete_gaussian(sigma).slack(values) for sigma in protocol.sigmas}
    composed = record.config.composition is not None
    alpha = protocol.alpha / 2 if composed else protocol.alpha
    reach = {sigma: _reach(protocol, sigma, slack[sigma], alpha) for sigma in protocol.sigmas}
    wanted = DEFAULT_RADII if protocol.radii is None else protocol.radii
    radii = tuple(radius for radius in wanted if radius <= max(reach.values()))
    looks = _looks(protocol, caps)
    terms = Terms(protocol, slack, reach, radii, looks, manifest["num_classes"], composed)

    check = Check(
        "terms", f"radii {', '.join(f'{radius:g}' for radius in radii)}; slack and reach of each sigma"
    )
    derived = {
        "radii": list(radii),
        "slack": {str(sigma): value for sigma, value in slack.items()},
        "reach": {str(sigma): value for sigma, value in reach.items()},
    }
    for name, value in derived.items():
        if manifest[name] != value:
            check.failures.append(f"{name}: recorded {manifest[name]}, derived {value}")
    if terms.looks and terms.looks[-1] != protocol.num_estimation:
        check.failures.append(f"the last look is {terms.looks[-1]}, not num_estimation")
    if any(a >= b for a, b in pairwise(terms.looks)):
        check.failures.append(f"the looks do not increase: {list(terms.looks)}")
    if caps and (
        protocol.rule != "e_process" or any(a >= b for a, b in pairwise([0, *caps, terms.looks[-1]]))
    ):
        check.failures.append(
            f"caps: {caps} are not what extensions up to N = {protocol.num_estimation} leave behind"
        )
    if terms.looks:
        check.verdict += f"; {len(terms.looks)} looks"
    return terms, check


def _reach(protocol: CertifyProtocol, sigma: float, slack: float, alpha: float) -> float:
    n = protocol.num_estimation
    if protocol.rule == "e_process":
        return certified_radius(sigma, max(0.0, e_process_lower(n, n, alpha) - slack))
    if protocol.rule == "fixed":
        return largest_certifiable_radius(sigma, n, alpha, protocol.bound, slack)
    return largest_certifiable_radius(sigma, n, alpha - ROUNDING, protocol.bound, slack)


def _looks(protocol: CertifyProtocol, caps: list[int]) -> tuple[int, ...]:
    plan, n = protocol.sequential, protocol.num_estimation
    if protocol.rule == "fixed":
        return ()
    if plan.looks is not None:
        return plan.looks
    if protocol.rule != "e_process":
        return geometric_looks(n, plan.first_look, plan.growth)
    # A sequence twice as long as needed: only its last step depends on where it ends.
    beyond = 2 * max([n, plan.first_look, *caps])
    steps = geometric_looks(beyond, plan.first_look, plan.growth)
    return tuple(sorted({*[look for look in steps if look < n], *caps, n}))
