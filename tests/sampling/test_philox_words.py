"""Philox words: published known answers, the definition in plain integers, and two implementations bit for bit."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from philox_oracle import philox4x64_10, words_of_sample

from raycp.sampling.blocks import Phase, stream_word
from raycp.sampling.philox import numpy_words, signed, torch_words

ONES = 2**64 - 1
PI = (0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89)
# Random123, kat_vectors, philox4x64 with 10 rounds: counter, key, answer.
PUBLISHED = [
    ((0, 0, 0, 0), (0, 0), "16554d9eca36314c db20fe9d672d0fdc d7e772cee186176b 7e68b68aec7ba23b"),
    ((ONES,) * 4, (ONES,) * 2, "87b092c3013fe90b 438c3c67be8d0224 9cc7d7c69cd777b6 a09caebf594f0ba0"),
    (
        PI,
        (0x452821E638D01377, 0xBE5466CF34E90C6C),
        "a528f45403e61d95 38c72dbd566e9788 a5a1610e72fd18b5 57bd43b5e52b7fe6",
    ),
]
COMMITTED = [
    "0c7d71e3fe2b884f 8cd533774d674253 59bffc500c648b7d f4781a5b0fca87aa eac1708dfca8da43 3bb0be270dc3111b",
    "88f918e89d54cd24 9b063cbd673a66e9 3497ebf5630adf62 ffa399beeabd85ce 9500d0513201e296 85f3a7f815aa96bd",
]
COUNTER_WORDS = st.one_of(
    st.integers(0, 2**63 - 1), st.sampled_from([0, 1, 2**32 - 1, 2**32, 2**32 + 1, 2**53 + 1, 2**63 - 1])
)
SEEDS = st.one_of(
    st.integers(0, 2**64 - 1), st.sampled_from([0, 1, 16, 2**32, 2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1])
)
STREAMS = st.builds(stream_word, st.sampled_from([0.12, 0.25, 0.5, 1.0, 0.1 + 0.2]), st.sampled_from(Phase))


@pytest.mark.parametrize(("counter", "key", "answer"), PUBLISHED)
def test_published_known_answers(
    counter: tuple[int, int, int, int], key: tuple[int, int], answer: str
) -> None:
    expected = [int(word, 16) for word in answer.split()]
    assert list(philox4x64_10(counter, key)) == expected
    # NumPy increments the 256-bit counter before it draws.
    before = (sum(word << 64 * place for place, word in enumerate(counter)) - 1) % 2**256
    words = [(before >> 64 * place) % 2**64 for place in range(4)]
    generator = np.random.Philox(key=np.array(key, dtype=np.uint64), counter=np.array(words, dtype=np.uint64))
    assert generator.random_raw(4).tolist() == expected


def test_committed_words() -> None:
    """These numbers are part of every run: a change of one of them is a change of all results."""
    stream = stream_word(0.5, Phase.ESTIMATION)
    words = numpy_words(0x0123456789ABCDEF, 49_999, stream, 2**32 + 3, 2, 6)
    assert [" ".join(f"{word:016x}" for word in row) for row in words] == COMMITTED


@settings(max_examples=150, deadline=None)
@given(SEEDS, COUNTER_WORDS, STREAMS, COUNTER_WORDS, st.integers(1, 4), st.integers(1, 23))
def test_numpy_and_torch_draw_the_words_of_the_definition(
    seed: int, image_index: int, stream: int, first: int, num_samples: int, num_words: int
) -> None:
    first = min(first, 2**63 - num_samples)
    samples = range(first, first + num_samples)
    expected = [words_of_sample(seed, image_index, stream, sample, num_words) for sample in samples]
    by_numpy = numpy_words(seed, image_index, stream, first, num_samples, num_words)
    assert by_numpy.dtype == np.uint64
    assert by_numpy.tolist() == expected
    by_torch = torch_words(
        seed,
        torch.full((num_samples,), image_index),
        torch.full((num_samples,), signed(stream)),
        torch.tensor(list(samples)),
        num_words,
    )
    assert by_torch.dtype == torch.int64
    assert by_torch.numpy().view(np.uint64).tolist() == expected


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_cutting_of_a_range_gives_the_same_rows(data: st.DataObject) -> None:
    num_samples, num_words = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 13))
    first = data.draw(st.sampled_from([0, 1, 2**32 - 7, 2**40]))
    stream = stream_word(0.25, Phase.SELECTION)
    whole = numpy_words(5, 3, stream, first, num_samples, num_words)
    cuts = sorted(data.draw(st.sets(st.integers(1, num_samples - 1)))) if num_samples > 1 else []
    edges = [0, *cuts, num_samples]
    parts = [
        numpy_words(5, 3, stream, first + start, stop - start, num_words) for start, stop in pairwise(edges)
    ]
    assert (np.concatenate(parts) == whole).all()


def test_fewer_words_are_a_prefix_of_more() -> None:
    """A sample's word depends on its place in the image, not on how many there are."""
    stream = stream_word(1.0, Phase.PREDICTION)
    whole = numpy_words(9, 1, stream, 4, 3, 50)
    for num_words in range(1, 50):
        assert (numpy_words(9, 1, stream, 4, 3, num_words) == whole[:, :num_words]).all()


def test_every_part_of_the_key_changes_every_word() -> None:
    """256 words of one key share none with those of another: by chance a collision has odds below 1e-13."""

    def words(
        seed: int = 1, image: int = 2, sigma: float = 0.25, phase: Phase = Phase.SELECTION, first: int = 3
    ) -> set[int]:
        return set(numpy_words(seed, image, stream_word(sigma, phase), first, 1, 256).reshape(-1).tolist())

    others = [
        words(seed=2), words(image=3), words(image=2 + 2**32), words(sigma=0.5), words(phase=Phase.ESTIMATION),
        words(phase=Phase.PREDICTION), words(first=4), words(first=3 + 2**32), words(seed=1 + 2**63),
    ]  # fmt: skip
    drawn = [words(), *others]
    assert len(set().union(*drawn)) == 256 * len(drawn)


def test_stream_words() -> None:
    assert stream_word(0.5, Phase.SELECTION) == 0x3FE0000000000000
    assert stream_word(0.5, Phase.ESTIMATION) == 0x3FE0000000000001
    assert stream_word(0.25, Phase.PREDICTION) == 0x3FD0000000000002
    assert stream_word(0.1, Phase.ESTIMATION) == 0x3FB9999999999901  # 0.1 is ...999a


@settings(max_examples=200, deadline=None)
@given(st.floats(1e-4, 100), st.floats(1e-4, 100), st.sampled_from(Phase), st.sampled_from(Phase))
def test_stream_words_keep_sigmas_and_phases_apart(a: float, b: float, p: Phase, q: Phase) -> None:
    same = stream_word(a, p) == stream_word(b, q)
    assert not same or (p == q and abs(a - b) <= 2**-44 * max(a, b))
    assert same or a != b or p != q


@given(st.integers(0, 2**64 - 1))
def test_signed_keeps_the_bits(word: int) -> None:
    assert -(2**63) <= signed(word) < 2**63
    assert signed(word) % 2**64 == word
