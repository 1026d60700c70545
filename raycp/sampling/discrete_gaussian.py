"""The integer Gaussian of sound smoothing: exact thresholds, a fast lookup, and the distance to the real one.

An 8-bit image is a point k / 255. Rounding x + eps, eps ~ N(0, sigma^2), to the grid Z / 255 gives (k + v) / 255 with
v an integer that does not depend on x, P(v) = Phi((2v + 1) / (510 sigma)) - Phi((2v - 1) / (510 sigma)). The rounded
classifier is a function of the real vector x + eps, so the theorem applies to it word for word, and floating point
enters only after v. Literal x + sigma n in floats leaks x and is unsound.

Source: Voracek, Hein, "Sound Randomized Smoothing in Floating-Point Arithmetic", 2022 (arXiv 2207.07209). Deviations:
64-bit instead of 60-bit uniforms, tails ended at 9 sigma, and a table lookup instead of a loop over thresholds.
"""

from __future__ import annotations

from functools import lru_cache

import mpmath
import numpy as np
import numpy.typing as npt

from raycp.errors import ConfigError
from raycp.statistics import round_down

TAIL_SIGMAS = 9
_LARGEST_VALUE = 2**15 - 1 - 255  # v plus a pixel must fit int16
_AMBIGUOUS = np.int16(-(2**15))
_GUIDE_BITS = 16


class DiscreteGaussian:
    """Maps uniform 64-bit words to integers v in -K..K, K = floor(9 * 255 sigma).

    `thresholds` holds T_j = round(2^64 Phi((j - K + 1/2) / (255 sigma))), j = 0..2K-1, uint64; v = #{T_j <= word} - K.
    They are computed with 50 digits, hence equal on every machine.

    Args:
        sigma: standard deviation of the noise, pixel units.

    Raises:
        ConfigError: sigma is so large that v plus a pixel does not fit 16 bits, or so small that v is always 0.
    """

    def __init__(self, sigma: float) -> None:
        with mpmath.workdps(50):
            scale = 255 * mpmath.mpf(sigma)
            self.largest = int(mpmath.floor(TAIL_SIGMAS * scale))
            if not 1 <= self.largest <= _LARGEST_VALUE:
                raise ConfigError(
                    f"certify.sigmas: sound noise needs a sigma between {1 / (TAIL_SIGMAS * 255):.2g} and "
                    f"{round_down(_LARGEST_VALUE / (TAIL_SIGMAS * 255), 1)}, got {sigma}."
                )
            lower = [
                int(mpmath.nint(mpmath.ldexp(mpmath.ncdf((v + mpmath.mpf(0.5)) / scale), 64)))
                for v in range(-self.largest, 0)
            ]
            tail = 2 * mpmath.ncdf(-(self.largest + mpmath.mpf(0.5)) / scale)
            self._distance = float(mpmath.ldexp(2 * self.largest + 1, -64) + tail)
        self.sigma = sigma
        self.thresholds = np.array(lower + [2**64 - t for t in reversed(lower)], dtype=np.uint64)
        self._guide = self._make_guide()

    def slack(self, num_values: int) -> float:
        """Total variation distance, at most, between a draw of `num_values` integers and the exact law.

        Per value: each of 2K+1 probabilities is off by less than 2^-64, and the mass beyond K sits on K.
        """
        return num_values * self._distance

    def __call__(self, words: npt.NDArray[np.uint64]) -> npt.NDArray[np.int16]:
        """Integers v for uniform words, int16 of the same shape."""
        values = self._guide.take((words >> np.uint64(64 - _GUIDE_BITS)).astype(np.uint16))
        open_cases = np.flatnonzero(values == _AMBIGUOUS)
        found = np.searchsorted(self.thresholds, words.reshape(-1)[open_cases], side="right")
        values.reshape(-1)[open_cases] = found - self.largest
        return values

    def _make_guide(self) -> npt.NDArray[np.int16]:
        """For each value of a word's top bits the one v they allow, or a mark where a threshold falls among them."""
        first = np.arange(2**_GUIDE_BITS, dtype=np.uint64) << np.uint64(64 - _GUIDE_BITS)
        last = first + np.uint64(2 ** (64 - _GUIDE_BITS) - 1)
        low = np.searchsorted(self.thresholds, first, side="right")
        high = np.searchsorted(self.thresholds, last, side="right")
        return np.where(low == high, low - self.largest, _AMBIGUOUS).astype(np.int16)


@lru_cache(maxsize=16)
def discrete_gaussian(sigma: float) -> DiscreteGaussian:
    """The table of one noise level; making it takes a fraction of a second, so it is kept."""
    return DiscreteGaussian(sigma)
