"""`raycp verify`: a run checked against its own counts by code that shares nothing with what made it."""

from raycp.verify.checks import Check
from raycp.verify.verify import verify_run

__all__ = ["Check", "verify_run"]
