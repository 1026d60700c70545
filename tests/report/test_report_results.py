"""Certificates on the way into a report: what is refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from raycp.errors import ConfigError, StorageError
from raycp.report.results import labels_of, read_sigmas


def _with(table: pa.Table, name: str, values: list[object]) -> pa.Table:
    place = table.column_names.index(name)
    return table.set_column(place, name, pa.array(values, table.schema.field(name).type))


def test_sigmas_are_in_order_and_images_sorted(make_run: Callable) -> None:
    run = make_run([(1.0, 4, 0, 0, 0.5), (0.25, 9, 0, 0, 0.1), (0.25, 4, 0, 0, 0.2), (1.0, 9, 0, 1, 0.3)])
    sigmas = read_sigmas(run)
    assert [results.sigma for results in sigmas] == [0.25, 1.0]
    assert sigmas[0].image_index_M.tolist() == [4, 9]
    assert sigmas[0].radius_M.tolist() == [0.2, 0.1]
    assert sigmas[1].correct_M.tolist() == [True, False]


def test_a_sigma_without_rows_is_there_and_empty(make_run: Callable) -> None:
    empty = read_sigmas(make_run([(0.5, 0, 0, 0, 0.5)], sigmas=[0.25, 0.5]))[0]
    assert (empty.sigma, empty.decided, empty.num_images) == (0.25, 0, 1)


def test_skipped_images_are_not_abstentions(make_run: Callable) -> None:
    rows = [(0.5, 0, 1, -1, 0.0), (0.5, 1, 1, -1, 0.0), (0.5, 2, 1, 1, 0.4)]
    results = read_sigmas(make_run(rows, skipped=[0]))[0]
    assert results.abstained_M.tolist() == [False, True, False]
    assert results.skipped_M.tolist() == [True, False, False]


def test_an_abstention_is_wrong_even_where_the_label_is_minus_one(make_run: Callable) -> None:
    run = make_run([(0.5, 0, -1, -1, 0.0)])
    assert not read_sigmas(run)[0].correct_M[0]
    claimed = run.but(certificates=_with(run.certificates, "correct", [True]))
    with pytest.raises(
        StorageError, match="`correct` of image 0 is not what its label and predicted class say"
    ):
        read_sigmas(claimed)


def test_correct_must_agree_with_the_label(hand_run) -> None:
    # the running total of a published script, for example
    run = hand_run.but(certificates=_with(hand_run.certificates, "correct", [True] * 5))
    with pytest.raises(StorageError, match=r"image 11 .* \(2 such rows\)"):
        read_sigmas(run)


@pytest.mark.parametrize("radius", [-1.0, np.nan, np.inf])
def test_a_radius_must_be_finite_and_not_negative(hand_run, radius: float) -> None:
    radii = [0.93159, 1.5, radius, 0.0, 0.4]
    run = hand_run.but(certificates=_with(hand_run.certificates, "radius", radii))
    with pytest.raises(StorageError, match="the radius of image 12 is negative or not finite"):
        read_sigmas(run)


def test_an_image_is_decided_once(make_run: Callable) -> None:
    run = make_run([(0.5, 3, 0, 0, 0.1), (0.5, 3, 0, 0, 0.1)], num_images=2)
    with pytest.raises(StorageError, match=r"runs/tiny, sigma 0\.5: image 3 has more than one certificate"):
        read_sigmas(run)


def test_no_more_certificates_than_images(make_run: Callable) -> None:
    run = make_run([(0.5, 3, 0, 0, 0.1), (0.5, 4, 0, 0, 0.1)], num_images=1)
    with pytest.raises(StorageError, match="2 certificates for 1 images"):
        read_sigmas(run)


def test_missing_columns_are_named(hand_run) -> None:
    run = hand_run.but(certificates=hand_run.certificates.drop_columns(["radius", "label"]))
    with pytest.raises(StorageError, match="lack the columns label, radius"):
        read_sigmas(run)


def test_predict_runs_are_refused(hand_run) -> None:
    run = hand_run.but(config=hand_run.config | {"kind": "predict"})
    with pytest.raises(StorageError, match="is a run of `raycp predict`: it has no radii"):
        read_sigmas(run)


def test_labels_are_names_unless_they_repeat(make_run: Callable) -> None:
    one, other, third = (make_run([(0.5, 0, 0, 0, 0.1)], name=name) for name in "aab")
    other = other.but(path="elsewhere/a")
    assert labels_of([one, other, third]) == ("runs/a", "elsewhere/a", "b")
    with pytest.raises(ConfigError, match="runs/a is given twice"):
        labels_of([one, one])
