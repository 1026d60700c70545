"""Blocks of four images, drawn by hypothesis, and the noise of their samples."""

from __future__ import annotations

import numpy as np
from base_classifiers import CPU
from hypothesis import strategies as st

from raycp.sampling.blocks import Block, Phase
from raycp.sampling.noise import make_noise

IMAGES = np.random.default_rng(2).integers(0, 256, (4, 3, 8, 8), dtype=np.uint8)
INDEX = np.array([5, 50, 500, 5_000])
NOISE = make_noise("sound", IMAGES, INDEX, 3, CPU)
BLOCKS = st.lists(
    st.builds(
        Block,
        st.integers(0, len(IMAGES) - 1),
        st.sampled_from([phase for phase in Phase if phase != Phase.CORE]),
        st.sampled_from([0, 1, 17, 2**33]),
        st.integers(1, 20),
    ),
    min_size=1,
    max_size=8,
)
