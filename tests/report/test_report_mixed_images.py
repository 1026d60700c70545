"""What a table says where its runs are of different images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from raycp.report.mixed_images import images_in_words, mixed_images
from raycp.report.table import certified_table

Make = Callable[..., Any]


def of(make_run: Make, name: str, images: range, label: int = 1, **data: Any) -> Any:
    """A run of these images, all of one label; `data` is what it recorded of them beside the index."""
    run = make_run([(0.5, i, label, label, 0.3) for i in images], name=name)
    recorded = {"image_index": list(images), "sha256": f"{name} {images}", "source": "the digits"}
    return run.but(config=run.config | {"data": recorded | data})


def imported(make_run: Make, name: str, images: range, label: int = 1, indexed: bool = True) -> Any:
    run = of(make_run, name, images, label, sha256=None, source=None)
    files = [{"name": "a", "sha256": "0" * 64, "sigma": 0.5, "notes": []}]
    return run.but(config=run.config | {"kind": "imported", "files": files, "indexed": indexed})


def test_runs_of_the_same_images_have_no_note(make_run: Make) -> None:
    """The hash decides, wherever the files lie; of a log that has none, its indices and labels."""
    one = of(make_run, "one", range(12), sha256="aa")
    moved = of(make_run, "moved", range(12), sha256="aa", source="the digits, elsewhere")
    log = imported(make_run, "log", range(12))
    assert mixed_images([one, moved, log]) == mixed_images([log, one]) == mixed_images([one]) == []
    assert not any("different" in note for note in certified_table([one, moved]).notes)


def test_a_part_of_the_images_is_said(make_run: Make) -> None:
    one, two = (of(make_run, name, range(12), sha256="aa") for name in ("one", "two"))
    fewer = of(make_run, "fewer", range(0, 12, 2))
    assert mixed_images([one, fewer, two]) == [
        "rows are of different images: one, two: 12 images [0–11]; fewer: 6 images [0, 2, …, 10 (every 2nd)]. Their "
        "figures are no match for each other."
    ]
    assert (
        certified_table([one, fewer, two]).notes[0].startswith("rows are of different images: one, two: 12")
    )


def test_another_data_set_is_said_and_proved_by_its_labels(make_run: Make) -> None:
    one = of(make_run, "one", range(12))
    other = of(make_run, "other", range(6, 18), label=2, source="the letters")
    assert mixed_images([one, other]) == [
        "rows are of different images: one: 12 images [0–11] of the digits; other: 12 images [6–17] of the letters. "
        "Their figures are no match for each other.",
        "one and other are of different data sets, or of one in another order: their labels differ at 6 of 6 images, "
        "for example image 6.",
    ]
    same_index = of(make_run, "same", range(12), source="the letters")
    assert len(mixed_images([one, same_index])) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"label": 2}, "their labels differ at 12 of 12 images"),
        ({"images": range(0, 12, 3)}, "one: 12 images [0–11]; log: 4 images [0, 3, …, 9 (every 3rd)]."),
        ({"indexed": False}, "log: 12 images, not said which."),
    ],
)
def test_a_log_of_other_images_is_said(make_run: Make, options: dict[str, Any], words: str) -> None:
    log = imported(make_run, "log", **{"images": range(12), **options})
    assert words in " ".join(mixed_images([of(make_run, "one", range(12)), log]))


def test_images_in_words() -> None:
    assert images_in_words(range(0, 10_000, 20)) == "500 images [0, 20, …, 9980 (every 20th)]"
    assert images_in_words([7]) == "1 image [7]"
    assert images_in_words([i * i for i in range(40)]) == "40 images [0 to 1521, not evenly spaced]"
