"""raycp's networks and arithmetic against outputs that the original authors' code recorded, format by format."""

from raycp.parity.check import check_case, inputs_of
from raycp.parity.comparison import Comparison
from raycp.parity.fixture import Case, read_fixture

__all__ = ["Case", "Comparison", "check_case", "inputs_of", "read_fixture"]
