"""The rules that are replayed, as a run would build them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from raycp.certify.boundaries import looks_of
from raycp.certify.radii import table_radii
from raycp.certify.sequential import SequentialRule, sequential_rule
from raycp.config import CertifyProtocol
from raycp.config.base import Frozen
from raycp.errors import ConfigError


class ReplayConfig(Frozen):
    """The part of a run's configuration that a replay reads."""

    certify: CertifyProtocol


def replayed_rule(
    protocol: CertifyProtocol, slack: Mapping[float, float]
) -> tuple[SequentialRule, Sequence[int]]:
    """The rule of a protocol other than `fixed`, and the sample sizes at which it looks.

    Raises:
        ConfigError: looks or radii that its N does not allow.
    """
    radii, _ = table_radii(protocol, slack)
    return sequential_rule(protocol, slack, radii), looks_of(protocol)


def require_one_sided(protocol: CertifyProtocol) -> None:
    """Refuse the bound whose counts of other classes no replay has."""
    if protocol.bound != "one_sided":
        raise ConfigError(
            f"certify.bound = {protocol.bound} cannot be replayed: it needs the votes of the other classes. Set "
            "certify.bound=one_sided."
        )
