"""A lower bound of p_A that holds at all sample sizes at once, with no last look: sampling may always go on.

For H0: p_A <= p0, mix the likelihood ratios of all q > p0 with the prior Beta(1/2, 1/2) cut to (p0, 1]:

    W_t(p0) = integral of (q/p0)^h ((1-q)/(1-p0))^(t-h) over the prior,   h of t samples of class A.

Each factor has mean at most 1 for p_A <= p0, so W is a nonnegative supermartingale and P(W ever reaches 1/alpha) <=
alpha (Ville). The bound is the largest p0 that is rejected; all of alpha is spent on this one side.

Source: Ville 1939; Robbins 1970 (mixtures); Voracek, NeurIPS 2024, uses the untruncated two-sided mixture.
"""

from __future__ import annotations

import math

from scipy.optimize import brentq
from scipy.special import betaincc, betaln

_PRIOR = 0.5
_PRECISION = 1e-11
_LEAST = 1e-12
_MARGIN = 1e-9
"""Taken off log W: bounds the rounding of betaln and betaincc up to a few hundred million samples."""


def log_e_process(h: float, t: int, p0: float) -> float:
    """Log W_t(p0), slightly low; `-inf` where h <= p0 t, which is no evidence against p_A <= p0.

    Args:
        h: samples of class A.
        t: samples.
        p0: probability under test, in (0, 1).
    """
    if h <= p0 * t:
        return -math.inf
    a, b = _PRIOR + h, _PRIOR + t - h
    mixed = betaln(a, b) + math.log(betaincc(a, b, p0))
    prior = betaln(_PRIOR, _PRIOR) + math.log(betaincc(_PRIOR, _PRIOR, p0))
    return float(mixed - prior - h * math.log(p0) - (t - h) * math.log1p(-p0) - _MARGIN * max(1.0, t / 1e5))


def e_process_lower(h: float, t: int, alpha: float) -> float:
    """The largest p0 that W rejects at level alpha after t samples, rounded down; 0 if none is.

    P(the largest of these bounds over all t exceeds p_A) <= alpha, so a running maximum stays valid.

    Args:
        h: samples of class A, 0 <= h <= t.
        t: samples, at least 1.
        alpha: failure probability, in (0, 1).
    """
    needed = -math.log(alpha)

    def excess(p0: float) -> float:
        return (
            max(log_e_process(h, t, p0), -1.0) - needed
        )  # where the process is below 1/e, how far does not matter

    low, high = _LEAST, min(h / t, 1.0 - _LEAST)
    if high <= low or excess(low) <= 0:
        return 0.0
    if excess(high) >= 0:
        return high
    root = float(brentq(excess, low, high, xtol=_PRECISION, rtol=4 * _PRECISION))
    while root >= low and excess(root) < 0:
        root -= _PRECISION
    return root if root >= low else 0.0
