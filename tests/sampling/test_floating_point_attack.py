"""A false certificate by floating point: shown on literal float noise, impossible on sound noise.

The base classifier looks at the last bits: class 1 iff some pixel is not a multiple of a small power of two. Around
a black image the float sum x + sigma n keeps the fine bits of small n; around an image raised by a few grey levels it
is rounded to the bits of x, and they are gone. The theorem, applied to what was sampled, certifies a ball that holds
the raised image. Source of the phenomenon: Voracek, Hein 2022 (arXiv 2207.07209).
"""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
import torch
from scipy.stats import norm

from raycp.sampling.base_classifier import BaseClassifier
from raycp.sampling.blocks import Block, Phase
from raycp.sampling.kernel import Kernel
from raycp.sampling.noise import make_noise
from raycp.statistics import ABSTAIN, certify

CPU = torch.device("cpu")
NUM_SELECTION, NUM_ESTIMATION, ALPHA = 32, 400, 1e-3
# sigma, grey levels between the two images, exponent of the power of two
ATTACKS = [(0.25, 2, -32), (0.5, 4, -31), (1.0, 8, -30)]


def last_bits_classifier(exponent: int) -> BaseClassifier:
    def classify(z_BCHW: torch.Tensor) -> torch.Tensor:
        scaled = z_BCHW.double() * 2.0**-exponent
        class_B = (scaled != scaled.round()).flatten(1).any(1).long()
        return torch.nn.functional.one_hot(class_B, 2).float()

    return BaseClassifier(lambda x, _: x, classify, CPU, torch.float32, channels_last=False)


def class_counts(
    kind: str, images: np.ndarray, sigma: float, exponent: int, phase: Phase, n: int, seed: int
) -> np.ndarray:
    """Class counts [2, 2] of the two images."""
    noise = make_noise(kind, images, np.arange(2), seed, CPU)  # type: ignore[arg-type]
    kernel = Kernel(last_bits_classifier(exponent), noise, num_classes=2, batch_size=48)
    counts = kernel.run(sigma, [Block(0, phase, 0, n), Block(1, phase, 0, n)])
    assert (counts[:, 2] == 0).all()
    return counts[:, :2]


def black_and_raised(shape: tuple[int, ...], grey_levels: int) -> tuple[np.ndarray, float]:
    """Two images and the L2 distance between them, pixel units."""
    images = np.zeros((2, *shape), dtype=np.uint8)
    images[1] = grey_levels
    return images, grey_levels / 255 * sqrt(np.prod(shape))


@pytest.mark.parametrize(("sigma", "grey_levels", "exponent"), ATTACKS)
def test_float_noise_gives_a_false_certificate(sigma: float, grey_levels: int, exponent: int) -> None:
    images, distance = black_and_raised((3, 32, 32), grey_levels)
    selection = class_counts("float", images, sigma, exponent, Phase.SELECTION, NUM_SELECTION, seed=1)
    estimation = class_counts("float", images, sigma, exponent, Phase.ESTIMATION, NUM_ESTIMATION, seed=1)
    assert estimation.tolist() == [[0, NUM_ESTIMATION], [NUM_ESTIMATION, 0]]
    certificates = [certify(selection[i], estimation[i], sigma, ALPHA) for i in range(2)]
    assert [c.predicted for c in certificates] == [1, 0]
    # Each ball holds the other image, whose class is another one: both certificates are false.
    assert certificates[0].radius > 1.2 * distance
    assert certificates[1].radius > 1.2 * distance


@pytest.mark.parametrize(("sigma", "grey_levels", "exponent"), ATTACKS)
def test_sound_noise_gives_none(sigma: float, grey_levels: int, exponent: int) -> None:
    images, _ = black_and_raised((3, 32, 32), grey_levels)
    for coarser in range(4):
        at = exponent + coarser
        selection = class_counts("sound", images, sigma, at, Phase.SELECTION, NUM_SELECTION, seed=1)
        estimation = class_counts("sound", images, sigma, at, Phase.ESTIMATION, NUM_ESTIMATION, seed=1)
        certificates = [certify(selection[i], estimation[i], sigma, ALPHA) for i in range(2)]
        assert certificates[0].predicted == certificates[1].predicted != ABSTAIN


@pytest.mark.parametrize(("kind", "obeys"), [("sound", True), ("float", False)])
def test_frequencies_move_no_more_than_the_theorem_allows(kind: str, obeys: bool) -> None:
    """Twelve pixels, sigma 0.05: within distance delta, Phi^-1(p) may move by delta / sigma = 0.27.

    The margin is five standard errors of each frequency: false alarm below 1e-5 over the seed.
    """
    sigma, n = 0.05, 4_000
    images, distance = black_and_raised((1, 3, 4), 1)
    excess = []
    for exponent in range(-33, -27):
        counts = class_counts(kind, images, sigma, exponent, Phase.ESTIMATION, n, seed=2)
        p_0, p_1 = counts[:, 1] / n
        low, high = (norm.cdf(norm.ppf(p_0) + step) for step in (-distance / sigma, distance / sigma))
        excess.append(max(low - p_1, p_1 - high))
    margin = 2 * 5 * 0.5 / sqrt(n)
    assert (max(excess) < margin) == obeys
    assert obeys or max(excess) > 1.5 * margin
