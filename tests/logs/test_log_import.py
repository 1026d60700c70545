"""An imported log beside runs: what is written, how it is shown, and where it is refused."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from made_logs import HEADER, rows, write

from raycp.errors import ConfigError, DataError, RunMismatchError, StorageError
from raycp.logs.imported import Claims, imported_run, write_import
from raycp.logs.published_log import read_log
from raycp.report.formats import records
from raycp.report.paired import compare
from raycp.report.results import read_sigmas
from raycp.report.table import certified_table
from raycp.report.write import write_report
from raycp.runs import RunResults, read_run, refuse_imported
from raycp.simulate.source import Source
from raycp.storage import Storage
from raycp.verify import verify_run

CLAIMS = Claims(num_selection=100, num_estimation=100_000, alpha=0.001, data="the test split of Somewhere")


def imported(
    folder: Path, files: dict[Path, float | None], claims: Claims = CLAIMS, name: str = "imp"
) -> RunResults:
    """Written and read again."""
    logs = [read_log(path) for path in files]
    run = imported_run(logs, list(files.values()), claims, name, str(folder / name))
    write_import(run, Storage(str(folder / name)))
    found = read_run(str(folder / name))
    assert (found.config, found.complete, found.num_images) == (run.config, run.complete, run.num_images)
    assert found.certificates.drop(["sigma"]).equals(run.certificates.drop(["sigma"]))
    np.testing.assert_array_equal(
        found.certificates["sigma"], run.certificates["sigma"]
    )  # NaN where not said
    return found


def test_what_is_written(tmp_path: Path) -> None:
    path = write(tmp_path / "a", HEADER, *rows(6))
    run = imported(tmp_path, {path: 0.5})
    assert run.config["kind"] == "imported"
    assert run.config["config"]["certify"] == {
        "sigmas": [0.5], "num_selection": 100, "num_estimation": 100_000, "alpha": 0.001,
    }  # fmt: skip
    (file,) = run.config["files"]
    assert (file["name"], file["sha256"]) == ("a", read_log(path).sha256)
    (results,) = read_sigmas(run)
    assert results.radius_M.tolist() == [0.5, 0.25, 0.5, 0.25, 0.5, 0.0]
    assert results.half_unit_M is not None and results.half_unit_M.tolist() == [0.005] * 5 + [0.0]
    assert (results.samples, results.seconds) == (None, 7.5)


def test_the_table_and_its_honest_range(tmp_path: Path) -> None:
    path = write(tmp_path / "a", HEADER, *rows(6))
    table = certified_table([imported(tmp_path, {path: 0.5})])
    at = {cell.eps: cell for cell in table.rows[0].cells}
    assert [at[eps].count for eps in (0.0, 0.25, 0.5, 0.75)] == [5, 5, 3, 0]
    assert (at[0.25].printed, at[0.5].printed, at[0.75].printed) == ((3, 5), (0, 3), (0, 0))
    # 5 of 6 are printed at 0.25 or more; that is certain of 3, and with probability 0.999 at most one of 6 is false.
    assert at[0.25].lower_bound == 2 and at[0.5].lower_bound == 0
    assert (
        "read half a printed unit lower and higher they certify 3 to 5 of 6 at ε = 0.25; 0 to 3 of 6"
        in table.notes[-1]
    )
    assert "made by other code; N0 = 100, N = 100,000, α = 0.001 as claimed." in table.notes[0]
    record = records(table)[0]
    assert record["certified_images_read_lower_at_0.25"] == 3
    assert record["certified_images_read_higher_at_0.25"] == 5


def test_what_is_not_said_stays_unknown(tmp_path: Path) -> None:
    path = write(tmp_path / "a", HEADER, *rows(6))
    table = certified_table([imported(tmp_path, {path: None}, Claims())])
    (row,) = table.rows
    assert row.sigma is not None and np.isnan(row.sigma)
    assert row.largest_radius is None
    assert [cell.count for cell in row.cells] == [5, 5, 3, 0, 0]
    assert all(cell.lower_bound is None for cell in row.cells)
    assert "N0, N, α not said" in table.notes[0]
    record = records(table)[0]
    assert record["sigma"] is None
    json.dumps(record, allow_nan=False)


def test_several_sigmas_and_a_partial_one(tmp_path: Path) -> None:
    whole, part = write(tmp_path / "a", HEADER, *rows(6)), write(tmp_path / "b", HEADER, *rows(4))
    run = imported(tmp_path, {whole: 1.0, part: 0.5})
    assert not run.complete and run.num_images == 6
    table = certified_table([run])
    assert [(row.sigma, row.decided, row.num_images) for row in table.rows] == [(0.5, 4, 6), (1.0, 6, 6)]


def test_beside_a_run_of_another_log(tmp_path: Path) -> None:
    first = imported(tmp_path, {write(tmp_path / "a", HEADER, *rows(6)): 0.5})
    other = imported(tmp_path, {write(tmp_path / "b", HEADER, *rows(6, ("0.25", "0.5"))): 0.5}, name="other")
    at_half = [c for c in compare([first, other]) if c.eps == 0.5]
    assert [(c.only_base, c.only_run, c.images) for c in at_half] == [(3, 2, 6)]


def test_without_idx_nothing_is_paired_and_there_is_no_envelope(tmp_path: Path) -> None:
    lines = [row.partition(" ")[2] for row in rows(6)]
    run = imported(tmp_path, {write(tmp_path / "a", *lines): 0.5, write(tmp_path / "b", *lines): 1.0})
    with pytest.raises(ConfigError, match="without idx: which image a line is of is not known"):
        compare([run, run_named(tmp_path, "c")])
    table = certified_table([run])
    assert [row.sigma for row in table.rows] == [0.5, 1.0]
    assert any("no envelope, because the logs do not say which images" in note for note in table.notes)


def run_named(folder: Path, name: str) -> RunResults:
    return imported(folder, {write(folder / f"{name}.tsv", HEADER, *rows(6)): None}, name=name)


def test_without_sigma_nothing_is_paired(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="imported without its sigma; import it again with --sigma"):
        compare([run_named(tmp_path, "a"), run_named(tmp_path, "b")])


def test_claims_that_the_radii_contradict_are_refused(tmp_path: Path) -> None:
    log = read_log(write(tmp_path / "a", HEADER, "0 1 1 0.978 1 1.0", "1 1 1 0.953 1 1.0"))
    with pytest.raises(
        DataError, match=r"1 radii are larger than the claims allow, for example 0.978 of image 0: .*0.95286"
    ):
        imported_run([log], [0.25], CLAIMS, "a", "a")
    imported_run([log], [0.25], Claims(num_estimation=100_000, alpha=0.01), "a", "a")
    # rounding alone is no contradiction: 0.953 stands for 0.95287
    printed = read_log(write(tmp_path / "b", HEADER, "1 1 1 0.953 1 1.0"))
    imported_run([printed], [0.25], CLAIMS, "b", "b")


def test_logs_that_make_no_run(tmp_path: Path) -> None:
    one, two = (read_log(write(tmp_path / name, HEADER, *rows(6))) for name in "ab")
    with pytest.raises(ConfigError, match=r"are both of sigma 0\.5: a run has each sigma once"):
        imported_run([one, two], [0.5, 0.5], CLAIMS, "a", "a")
    with pytest.raises(ConfigError, match="give --sigma once for each file"):
        imported_run([one, two], [0.5, None], CLAIMS, "a", "a")
    other = read_log(write(tmp_path / "c", HEADER, "0 9 9 0.5 1 1.0"))
    with pytest.raises(
        DataError, match="not of the same data: they disagree on the label of 1 images, for example 0"
    ):
        imported_run([one, other], [0.5, 1.0], CLAIMS, "a", "a")
    bare = read_log(write(tmp_path / "d", "1 1 0.5 1 0:00:01"))
    with pytest.raises(ConfigError, match="has no idx: they cannot be one run"):
        imported_run([one, bare], [0.5, 1.0], CLAIMS, "a", "a")


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    imported(tmp_path, {write(tmp_path / "a", HEADER, *rows(6)): 0.5})
    imported(tmp_path, {tmp_path / "a": 0.5})
    with pytest.raises(RunMismatchError, match="holds another import already"):
        imported(tmp_path, {tmp_path / "a": 1.0})


def test_commands_that_need_counts_refuse_it(tmp_path: Path) -> None:
    run = imported(tmp_path, {write(tmp_path / "a", HEADER, *rows(6)): 0.5})
    with pytest.raises(StorageError, match="holds an imported log: it has no counts"):
        verify_run(run.path, [], None, 0, note=print)
    with pytest.raises(ConfigError, match=r"is an imported log: it has no votes\. Give the log file itself"):
        Source(run.path)
    with pytest.raises(RunMismatchError, match="holds an imported log, which nothing can be added to"):
        refuse_imported(run.config, Storage(run.path))


def test_the_report_says_what_it_is(tmp_path: Path) -> None:
    run = imported(tmp_path, {write(tmp_path / "a", HEADER, *rows(6)): 0.5})
    unknown = run_named(tmp_path, "unknown")
    write_report([run, unknown], tmp_path / "report", datetime.now(UTC), str(tmp_path / "report"))
    page = (tmp_path / "report" / "report.html").read_text()
    assert "Imported from a (SHA-256 " in page and "6 images of the test split of Somewhere" in page
    assert "N0 = 100, N = 100,000, α = 0.001 as claimed. There are no counts" in page
    assert "<dt>files.1.sha256</dt>" in page
    assert "σ = not said" in page
    assert "raycp certify run.yaml" not in page and "raycp logs import" in page
    table = list(csv.DictReader((tmp_path / "report" / "table.csv").open()))
    assert [row["sigma"] for row in table] == ["0.5", ""]


@pytest.mark.parametrize("sigma", ["0.25", "0.50", "1.00"])
def test_published_logs_give_their_authors_own_curves(shared_data: Path, sigma: str) -> None:
    """The curves were made from radii that were not rounded."""
    stem = shared_data / "published-logs" / f"consistency-resnet110-sigma{sigma}"
    log = read_log(stem.with_name(stem.name + ".tsv"))
    run = imported_run([log], [float(sigma)], CLAIMS, "log", "log")
    curve = {
        round(radius, 6): accuracy for radius, accuracy in np.loadtxt(stem.with_name(stem.name + ".acc"))
    }
    assert len(curve) > 700
    table = certified_table([run])
    within = 0
    for cell in table.rows[0].cells:
        if cell.accuracy is not None:
            assert abs(cell.accuracy - curve[cell.eps]) <= 5e-4
            within += 1
    assert within == (4 if sigma == "0.25" else 5)
    (results,) = read_sigmas(run)
    assert results.half_unit_M is not None
    correct, radius, half = results.correct_M, results.radius_M, results.half_unit_M
    strictly = 0
    for eps, accuracy in curve.items():
        least, most = (np.mean(correct & (radius + sign * half >= eps)) for sign in (-1 - 1e-9, 1 + 1e-9))
        assert least - 1e-9 <= accuracy <= most + 1e-9
        strictly += least < most
    assert strictly > 50  # the two do differ, and the curve lies between them
