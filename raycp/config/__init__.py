"""Configuration: frozen pydantic models, YAML in, resolved JSON out."""

from raycp.config.base import (
    Frozen,
    differences,
    load_config,
    locations,
    parse_config,
    resolved,
    without_locations,
)
from raycp.config.certify import (
    CertifyProtocol,
    Composition,
    Engine,
    Numerics,
    PredictProtocol,
    RunConfig,
    Sequential,
)
from raycp.config.evaluate import EvaluateProtocol

__all__ = [
    "CertifyProtocol",
    "Composition",
    "Engine",
    "EvaluateProtocol",
    "Frozen",
    "Numerics",
    "PredictProtocol",
    "RunConfig",
    "Sequential",
    "differences",
    "load_config",
    "locations",
    "parse_config",
    "resolved",
    "without_locations",
]
