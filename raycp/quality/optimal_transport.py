"""The optimal transport between two sets of images, exact."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

_MOST_PIVOTS = 100_000_000


class TransportNotSolvedError(Exception):
    """The solver stopped before the optimum; the message says why."""


@dataclass(frozen=True)
class OptimalTransport:
    """Wasserstein-1 distance of two sets of n points, `min over pairings of mean |x_i - y_pairing(i)|`.

    Attributes:
        distance: in the unit of the points.
        terms_n: Kantorovich potentials `f(x_i) + g(y_i)`, float64 [n]: their mean is the distance, and their scatter
            what it owes to the draw of the pairs (x_i, y_i).
    """

    distance: float
    terms_n: npt.NDArray[np.float64]


def optimal_transport(x_nd: npt.NDArray[np.floating], y_nd: npt.NDArray[np.floating]) -> OptimalTransport:
    """Solve the linear program between two sets of n points, [n, d] each, with equal weights.

    Memory is 8 n^2 bytes, time about n^3. The distance between samples is above the distance between the
    distributions they are from, the more so the higher the dimension; only distances at equal n compare.

    Raises:
        TransportNotSolvedError: the solver gave up.

    Source: network simplex of POT (Flamary et al. 2021). That the scatter of the potentials is that of the cost: del
    Barrio & Loubes 2019, arXiv 1705.01299, for the squared distance, and del Barrio, Gonzalez-Sanz & Loubes 2021, arXiv
    2102.06379, for its powers above the first; at the first power, which is used here, it is taken over.
    """
    import ot

    n = len(x_nd)
    assert x_nd.shape == y_nd.shape and n
    costs = cdist(x_nd.astype(np.float64), y_nd.astype(np.float64))
    weights = np.full(n, 1 / n)
    distance, log = ot.emd2(weights, weights, costs, numItermax=_MOST_PIVOTS, log=True)
    if log["warning"] is not None:
        raise TransportNotSolvedError(str(log["warning"]))
    return OptimalTransport(float(distance), np.asarray(log["u"] + log["v"], dtype=np.float64))
