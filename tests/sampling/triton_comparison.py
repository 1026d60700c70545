"""Run by `test_triton_noise` in a process of its own, where Triton interprets its kernels on the CPU."""

from __future__ import annotations

import numpy as np
import torch

from raycp.sampling.blocks import Block, Phase, stream_word
from raycp.sampling.noise import NumpySoundNoise, TorchSoundNoise, TritonSoundNoise
from raycp.sampling.philox import numpy_words
from raycp.sampling.triton_noise import noisy_pixels

CPU = torch.device("cpu")
# 147 and 4,100 values: not a multiple of 4, and more than one program of the kernel.
SHAPES = [(3, 7, 7), (1, 41, 100)]
CASES = [
    (0, 0.25, 0),
    (1, 12.0, 0),
    (16, 0.0005, 0),
    (2**63, 0.5, 0),
    (2**64 - 1, 0.1, 0),
    (2**64 - 2, 0.25, 1),
]
BLOCKS = [
    Block(2, Phase.ESTIMATION, 2**32 - 1, 2),
    Block(0, Phase.SELECTION, 0, 2),
    Block(1, Phase.PREDICTION, 2**62, 1),
    Block(0, Phase.ESTIMATION, 0, 1),
]

torch.set_num_threads(1)
rng = np.random.default_rng(0)
for seed, sigma, shape in CASES:
    images = rng.integers(0, 256, (3, *SHAPES[shape]), dtype=np.uint8)
    images[0], images[2, 0, 0] = 255, 0
    index = np.array([2**40 + 1, 0, 2**63 - 1])
    by_numpy = NumpySoundNoise(images, index, seed)(sigma, BLOCKS)
    by_torch = TorchSoundNoise(images, index, seed, CPU)(sigma, BLOCKS)
    by_triton = TritonSoundNoise(images, index, seed, CPU)(sigma, BLOCKS)
    assert torch.equal(by_torch, by_numpy), (seed, sigma, shape, "torch")
    assert torch.equal(by_triton, by_numpy), (seed, sigma, shape, "triton")

# Words that are thresholds themselves: the case that the noise of real runs does not meet.
words = numpy_words(3, 9, stream_word(0.25, Phase.SELECTION), 5, 1, 64)[0]
thresholds = np.sort(words)
position_B = (
    torch.zeros(1, dtype=torch.int64),
    torch.tensor([9]),
    torch.tensor([stream_word(0.25, Phase.SELECTION)]),
)
found = noisy_pixels(
    torch.zeros(1, 64, dtype=torch.uint8),
    *position_B,
    torch.tensor([5]),
    torch.from_numpy(thresholds.view(np.int64)),
    3,
)
assert found[0].tolist() == (np.searchsorted(thresholds, words, side="right") - 32).tolist()
print(f"{len(CASES)} cases agree")
