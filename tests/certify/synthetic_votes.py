"""A world of votes for the planner: each numerics class is another function, so that mixing two of them shows."""

from __future__ import annotations

import numpy as np

from raycp.certify.rules import Row, Rule
from raycp.certify.tally import Tally
from raycp.certify.units import Outcome, Task
from raycp.sampling.blocks import Block, Phase

SIGMAS = (0.5, 0.25)
NUM_CLASSES = 4
MOST_SAMPLES = 400


class Votes:
    """votes[class of numerics][sigma, image, phase] is the vote of each sample; an invalid one is NUM_CLASSES."""

    def __init__(self, num_images: int, numerics: tuple[str, ...], seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.labels = rng.integers(0, NUM_CLASSES, num_images)
        self.image_index = rng.permutation(1000)[:num_images]
        self.votes = {}
        for name in numerics:
            for sigma in SIGMAS:
                for image in range(num_images):
                    # Some images are easy, some are wrong, some have no majority.
                    p = rng.dirichlet(np.full(NUM_CLASSES, 0.3))
                    for phase in Phase:
                        self.votes[name, sigma, image, phase] = rng.choice(NUM_CLASSES, MOST_SAMPLES, p=p)

    def poison(self, sigma: float, image: int, phase: Phase, sample: int) -> None:
        """Make the logits of one sample invalid, under every numerics class."""
        for key, votes in self.votes.items():
            if key[1:] == (sigma, image, phase):
                votes[sample] = NUM_CLASSES

    def counts(self, task: Task) -> np.ndarray:
        """int64 [R, K + 1], what a replica returns."""
        return np.array([self.block_counts(task.numerics, task.sigma, block) for block in task.blocks])

    def block_counts(self, numerics: str, sigma: float, block: Block) -> np.ndarray:
        votes = self.votes[numerics, sigma, block.image, block.phase]
        return np.bincount(votes[block.first : block.first + block.num_samples], minlength=NUM_CLASSES + 1)

    def direct(self, rule: Rule, outcome: Outcome) -> tuple[Row | None, int]:
        """The row of a unit by drawing all of what the rule wants at once, and the number of samples drawn."""
        tallies = {phase: Tally(NUM_CLASSES, rule.cuts[phase]) for phase in Phase}
        label = int(self.labels[outcome.image])
        while (row := rule.decide(label, outcome.sigma, tallies)) is None:
            for phase, wanted in rule.wanted(label, tallies).items():
                for first, stop in tallies[phase].missing(wanted):
                    assert not any(first < cut < stop for cut in rule.cuts[phase])
                    block = Block(outcome.image, phase, first, stop - first)
                    counts = self.block_counts(outcome.numerics, outcome.sigma, block)
                    assert tallies[phase].add(first, stop - first, counts[:-1])
        return row, sum(tally.num_samples for tally in tallies.values())
