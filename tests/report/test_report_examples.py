"""Example samples: triplets, verdicts, and the picture of them."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageColor
from scipy.ndimage import find_objects, label

from raycp.errors import StorageError
from raycp.report.examples import Examples, png, read_examples
from raycp.report.grid import BORDER, draw_grid
from raycp.report.theme import DARK, LIGHT, Theme

HAND = [(0.25, 0, 0, 0, 0.3), (0.5, 0, 0, 0, 0.6)]


def _read(
    make_run: Callable, arrays: dict[str, np.ndarray] | None, names: list[str] | None = None
) -> Examples:
    return read_examples(make_run(HAND, examples=arrays), names)


def _frames(examples: Examples, theme: Theme, colour: str) -> list[tuple[slice, slice]]:
    """The rectangles of exactly this colour in the picture, in reading order; the images are grey, the frames not."""
    picture = np.asarray(Image.open(io.BytesIO(draw_grid(examples, theme))))
    regions = find_objects(label((picture == ImageColor.getrgb(colour)).all(axis=2))[0])
    return sorted(regions, key=lambda region: (region[0].start, region[1].start))


@pytest.mark.parametrize("theme", [LIGHT, DARK])
@pytest.mark.parametrize(("side", "channels", "scale"), [(8, 1, 16), (32, 3, 4), (200, 3, 1)])
def test_frames_have_the_right_colour_at_the_right_place(
    make_run: Callable, make_examples: Callable, theme: Theme, side: int, channels: int, scale: int
) -> None:
    examples = _read(make_run, make_examples(side=side, channels=channels))
    picture = np.asarray(Image.open(io.BytesIO(draw_grid(examples, theme))))
    right, wrong = (_frames(examples, theme, colour) for colour in (theme.right, theme.wrong))
    found = sorted(
        [(region, True) for region in right] + [(region, False) for region in wrong],
        key=lambda entry: (entry[0][0].start, entry[0][1].start),
    )
    assert [verdict for _, verdict in found] == [triplet.right for triplet in examples.triplets]
    # images with an even index are classified rightly
    assert [verdict for _, verdict in found] == [t.image_index % 2 == 0 for t in examples.triplets]
    assert len(found) >= 4
    for (rows, columns), triplet in zip((region for region, _ in found), examples.triplets):
        assert rows.stop - rows.start == columns.stop - columns.start == scale * side + 2 * BORDER
        inside = picture[rows, columns][BORDER:-BORDER, BORDER:-BORDER]
        purified = triplet.images[2].repeat(scale, 0).repeat(scale, 1)
        assert np.array_equal(inside, purified if purified.ndim == 3 else np.stack([purified] * 3, -1))


def test_clean_and_noisy_images_carry_no_verdict(make_run: Callable, make_examples: Callable) -> None:
    examples = _read(make_run, make_examples())
    assert len(_frames(examples, LIGHT, LIGHT.muted)) == 2 * len(examples.triplets)


def test_rows_are_grouped_by_sigma(make_run: Callable, make_examples: Callable) -> None:
    arrays = make_examples(sigmas=(0.5, 0.25))
    assert list(_read(make_run, arrays).by_sigma()) == [0.25, 0.5]


def test_class_names_or_numbers(make_run: Callable, make_examples: Callable) -> None:
    arrays = make_examples(num_images=2)
    named = _read(make_run, arrays, ["cat", "dog", "fox"]).triplets
    assert [(t.label, t.predicted, t.right) for t in named[:2]] == [
        ("cat", "cat", True),
        ("dog", "fox", False),
    ]
    numbered = _read(make_run, arrays).triplets
    assert [(t.label, t.predicted) for t in numbered[:2]] == [("0", "0"), ("1", "2")]
    # fewer names than classes
    assert _read(make_run, arrays, ["cat"]).triplets[1].label == "1"


def test_captions_do_not_overflow(make_run: Callable, make_examples: Callable) -> None:
    short = _read(make_run, make_examples())
    long = _read(
        make_run, make_examples(), [f"a very long class name\nwith a line break {i}" * 9 for i in range(10)]
    )
    sizes = [Image.open(io.BytesIO(draw_grid(examples))).size for examples in (short, long)]
    assert sizes[0] == sizes[1]


def test_images_survive_the_png(make_run: Callable, make_examples: Callable) -> None:
    for channels in (1, 3):
        image = _read(make_run, make_examples(channels=channels)).triplets[0].images[1]
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(png(image)))), image)


def test_no_examples_say_why(make_run: Callable, make_examples: Callable) -> None:
    assert _read(make_run, None).note == "This run has no examples.npz: no sample images were kept."
    assert (
        _read(make_run, make_examples(channels=4)).note
        == "The images have 4 channels; only 1 or 3 can be shown."
    )
    assert _read(make_run, make_examples(num_images=0)).note == "examples.npz holds no samples."


def test_large_images_are_few_and_subsampled(make_run: Callable, make_examples: Callable) -> None:
    arrays = make_examples(side=400, channels=3, num_images=9)
    examples = _read(make_run, arrays)
    assert examples.note == (
        "6 of 18 kept samples are shown, to keep the report small. "
        "They are shown at 1/2 of their width and height, leaving pixels out."
    )
    assert {len(triplets) for triplets in examples.by_sigma().values()} == {3}
    assert np.array_equal(examples.triplets[0].images[1], np.moveaxis(arrays["noisy"][0], 0, -1)[::2, ::2])


def test_damaged_examples_are_named(make_run: Callable, make_examples: Callable) -> None:
    arrays = make_examples()
    with pytest.raises(StorageError, match=r"examples\.npz lacks the arrays label, noisy"):
        _read(make_run, {key: value for key, value in arrays.items() if key not in ("noisy", "label")})
    with pytest.raises(StorageError, match=r"has 8 sigma but 7 predicted"):
        _read(make_run, arrays | {"predicted": arrays["predicted"][:-1]})
    with pytest.raises(StorageError, match=r"noisy .* must be uint8 \[E,C,H,W\] like clean, got float64"):
        _read(make_run, arrays | {"noisy": arrays["noisy"].astype(np.float64)})
    with pytest.raises(StorageError, match=r"purified .* got uint8 \(8, 1, 8, 4\)"):
        _read(make_run, arrays | {"purified": arrays["purified"][..., :4]})
