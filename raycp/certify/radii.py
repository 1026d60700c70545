"""The radii of a run's table, checked against what its number of samples can certify at all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import count

from raycp.config import CertifyProtocol
from raycp.config.certify import DEFAULT_RADII
from raycp.errors import ConfigError
from raycp.statistics import certified_radius, largest_certifiable_radius, round_down
from raycp.statistics.e_process import e_process_lower
from raycp.statistics.sequential import ROUNDING


def largest_radii(
    protocol: CertifyProtocol, slack: Mapping[float, float], composed: bool = False
) -> dict[float, float]:
    """Per sigma, the radius of an image whose N samples are all of one class, pixel units.

    Args:
        protocol: N, alpha, rule, bound.
        slack: per sigma, the total variation distance of the drawn noise from the Gaussian.
        composed: whether the run is of a composition, where selector and classifier have half of alpha each.
    """
    n, alpha = protocol.num_estimation, protocol.alpha / (2 if composed else 1)
    if protocol.rule == "e_process":
        lower = e_process_lower(n, n, alpha)
        return {sigma: certified_radius(sigma, max(0.0, lower - slack[sigma])) for sigma in protocol.sigmas}
    if protocol.rule != "fixed":
        alpha -= ROUNDING
    return {
        sigma: largest_certifiable_radius(sigma, n, alpha, protocol.bound, slack[sigma])
        for sigma in protocol.sigmas
    }


def table_radii(
    protocol: CertifyProtocol, slack: Mapping[float, float], composed: bool = False
) -> tuple[list[float], list[float]]:
    """The radii to report, and the default ones that were dropped because no sigma can reach them with this N.

    Args: see `largest_radii`.

    Raises:
        ConfigError: N certifies nothing at all, or a radius that was asked for is beyond every sigma's reach.
    """
    reach = max(largest_radii(protocol, slack, composed).values())
    halves = " (half of it for selector and classifier each)" if composed else ""
    if reach < 0:
        level = protocol.alpha if protocol.bound == "one_sided" and not composed else protocol.alpha / 2
        least = math.floor(math.log(level) / math.log(0.5)) + 1
        if protocol.rule == "e_process":
            least = next(n for n in count(least) if e_process_lower(n, n, level) >= 0.5)
        raise ConfigError(
            f"certify.num_estimation = {protocol.num_estimation} cannot certify any image at certify.alpha = "
            f"{protocol.alpha:g}{halves}: even {protocol.num_estimation} equal votes leave p_A below 1/2. It must be "
            f"at least {least}."
        )
    if protocol.radii is None:
        return [r for r in DEFAULT_RADII if r <= reach], [r for r in DEFAULT_RADII if r > reach]
    beyond = [radius for radius in protocol.radii if radius > reach]
    if beyond:
        raise ConfigError(
            f"certify.radii contains {beyond[0]:g}, but certify.num_estimation = {protocol.num_estimation} at "
            f"certify.alpha = {protocol.alpha:g}{halves} certifies at most {round_down(reach, 3)} (sigma "
            f"{max(protocol.sigmas):g}). Raise N, or leave the radius out."
        )
    return list(protocol.radii), []
