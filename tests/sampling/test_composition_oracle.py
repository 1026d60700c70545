"""Certificates of a composition, from noise to row, on half-spaces whose exact radius is known.

Images of two pixels. The base classifier's logits are peaked where the first pixel is above a threshold, and flat
elsewhere; its class is whether the second one is. Rounding to the grid of 1/255 does not matter: the thresholds lie
half-way between two of its values. So smoothed selector and classifier are the same half-spaces, and the exact radius
of the composition is a distance in the plane. Each image is certified many times, by copies with noise of their own.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from base_classifiers import CPU, of
from scipy.stats import binom, binomtest, norm

from raycp.certify.composition import CompositeRow, CompositionRule
from raycp.certify.planner import Planner
from raycp.config import CertifyProtocol
from raycp.sampling.composition import Composition
from raycp.sampling.discrete_gaussian import discrete_gaussian
from raycp.sampling.kernel import Kernel
from raycp.sampling.noise import make_noise
from raycp.statistics import ABSTAIN, clopper_pearson_lower

K, COPIES, BATCH = 3, 1_500, 8_192
SIGMA, ALPHA, N0, N = 0.5, 0.1, 20, 150
EDGE = 127.5
FALSE_ALARM = 1e-4
"""Of each check; the seeds are fixed."""

# (pixels, class of the core): distances u and w from the thresholds are (pixel - 127.5) / 255.
POINTS = [
    ((153, 250), 0),  # the selector's radius, 0.1, is the smaller one
    ((250, 153), 0),  # the smoothed classifier's is
    ((180, 170), 2),
    ((120, 200), 2),  # the core is chosen, just so
    ((128, 160), 1),  # the selector abstains, and they agree
]


def peaked(x_BCHW: torch.Tensor) -> torch.Tensor:
    """Entropy 0.004 log K right of the edge, 0.99 log K left of it."""
    u_B, w_B = (255 * x_BCHW.double()).round().flatten(1).unbind(1)
    class_B = (w_B > EDGE).long()
    scale_B = torch.where(u_B > EDGE, 8.0, 0.2)
    return (torch.nn.functional.one_hot(class_B, K) * scale_B[:, None]).float()


def rows_of(pixels: tuple[int, int], core_class: int, seed: int) -> list[CompositeRow]:
    images = np.tile(np.array(pixels, dtype=np.uint8).reshape(1, 1, 1, 2), (COPIES, 1, 1, 1))
    noise = make_noise("sound", images, np.arange(COPIES), seed, CPU)
    core = torch.nn.functional.one_hot(torch.tensor([core_class]), K).float()
    kernel = Kernel(of(peaked), noise, K, BATCH, Composition(0.5, lambda _: core, images, CPU))
    protocol = CertifyProtocol(sigmas=(SIGMA,), num_selection=N0, num_estimation=N, alpha=ALPHA)
    rule = CompositionRule(protocol, {SIGMA: discrete_gaussian(SIGMA).slack(2)})
    planner = Planner([SIGMA], np.zeros(COPIES, np.int64), np.arange(COPIES), rule, 2 * K)
    rows = []
    while (task := planner.next_task(50_000, "here", {"here"})) is not None:
        rows += [outcome.row for outcome in planner.record(task, kernel.run(SIGMA, task.blocks), 1.0)[1]]
    assert planner.finished and planner.account.dropped == 0
    assert planner.account.used == COPIES * (N0 + N + 1)
    return [row for row in rows if isinstance(row, CompositeRow)]


def exact_radius(pixels: tuple[int, int], core_class: int, predicted: int) -> float:
    """Distance to the nearest point where the composition says another class; -inf if this is the point itself.

    The core says `core_class` at the point and is taken to say something else anywhere beyond.
    """
    u, w = ((pixel - EDGE) / 255 for pixel in pixels)
    if u <= 0:
        return 0.0 if core_class == predicted else -np.inf
    return min(u, abs(w)) if int(w > 0) == predicted else -np.inf


@pytest.fixture(scope="module")
def certified() -> dict[tuple[int, int], list[CompositeRow]]:
    return {pixels: rows_of(pixels, core, seed) for seed, (pixels, core) in enumerate(POINTS)}


@pytest.mark.parametrize(("pixels", "core_class"), POINTS)
def test_false_certificates_are_no_more_than_alpha(
    certified: dict[tuple[int, int], list[CompositeRow]], pixels: tuple[int, int], core_class: int
) -> None:
    rows = certified[pixels]
    assert len(rows) == COPIES
    false = sum(
        row.predicted != ABSTAIN and row.radius > exact_radius(pixels, core_class, row.predicted)
        for row in rows
    )
    assert binomtest(false, COPIES, ALPHA, alternative="greater").pvalue > FALSE_ALARM
    assert any(row.predicted != ABSTAIN for row in rows)


def test_half_of_alpha_is_used(certified: dict[tuple[int, int], list[CompositeRow]]) -> None:
    """Where the selector decides, certificates err as often as Clopper-Pearson at alpha/2 does."""
    u = (153 - EDGE) / 255
    p = norm.cdf(u / SIGMA)
    slack = discrete_gaussian(SIGMA).slack(2)
    k = next(k for k in range(N + 1) if clopper_pearson_lower(k, N, ALPHA / 2) - slack > p)
    expected = binom.sf(N0 // 2, N0, p) * binom.sf(k - 1, N, p)
    assert expected > 0.02
    false = sum(row.radius > u for row in certified[153, 250])
    assert binomtest(false, COPIES, expected).pvalue > FALSE_ALARM


def test_every_case_occurs(certified: dict[tuple[int, int], list[CompositeRow]]) -> None:
    assert {row.case for rows in certified.values() for row in rows} == {
        "certified",
        "core",
        "agreement",
        "none",
    }
    assert max(row.radius for rows in certified.values() for row in rows if row.case != "certified") == 0


def test_votes_are_those_of_the_half_spaces(certified: dict[tuple[int, int], list[CompositeRow]]) -> None:
    """Sums over all copies are binomial with the probabilities of the half-spaces."""
    for pixels, _ in POINTS:
        for pixel, name, n in (
            (pixels[0], "choice", "n_S"),
            (pixels[1], "certified_class", "n_A"),
        ):
            p = norm.cdf((pixel - EDGE) / 255 / SIGMA)
            votes = sum(
                getattr(row, n) if getattr(row, name) in ("certified", 1) else N - getattr(row, n)
                for row in certified[pixels]
            )
            assert binomtest(votes, COPIES * N, p).pvalue > FALSE_ALARM
