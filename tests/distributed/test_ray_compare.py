"""Suites on Ray: interrupted between and within methods, with a method that fails, they end with the same tables."""

from __future__ import annotations

import csv
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from small_runs import Recorder, certificates, small_config

from raycp.cli.main import main
from raycp.config import RunConfig, resolved
from raycp.config.evaluate import ClassifierFeatures
from raycp.config.suite import load_suite
from raycp.distributed.evaluation import is_measured, run_evaluation
from raycp.distributed.evaluation_job import prepare_evaluation
from raycp.distributed.job import prepare_job
from raycp.distributed.session import is_finished
from raycp.distributed.suite import SuiteOutcome, run_suite
from raycp.errors import RunMismatchError, WorkFailedError
from raycp.report.comparison_files import report_comparison
from raycp.runs import read_run
from raycp.storage import Storage

pytestmark = pytest.mark.ray

TIMED = ("seconds", "seconds_per_sample", "seconds_per_image", "unbeaten_by_seconds")


def session(
    chosen: dict[str, RunConfig], out: Path, evaluated: tuple[str, ...] = ()
) -> tuple[SuiteOutcome, list[str], list[Recorder]]:
    said: list[str] = []
    watchers: list[Recorder] = []

    def display() -> Any:
        watchers.append(Recorder())
        return nullcontext(watchers[-1])

    return run_suite(chosen, str(out), display, said.append, evaluated), said, watchers


def everything(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file below a folder, but the lock."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def test_each_method_is_an_ordinary_run_and_a_finished_one_is_not_touched(
    expected_run: Path, tmp_path: Path
) -> None:
    methods = {"short": small_config(num_estimation=300), "long": small_config()}
    outcome, said, watchers = session(methods, tmp_path)
    assert outcome.complete and all(watcher.states for watcher in watchers)
    assert said == ["method 1 of 2, short", "method 2 of 2, long"]
    assert certificates(tmp_path / "long").equals(certificates(expected_run))
    assert not certificates(tmp_path / "short").equals(certificates(expected_run))
    for name in methods:
        cost = read_run(str(tmp_path / name)).config["sample_cost"]
        assert cost == {str(sigma): {"operations": 2 * 64 * 10, "evaluations": 0} for sigma in (0.25, 0.5)}

    before = everything(tmp_path)
    outcome, said, watchers = session(methods, tmp_path)
    assert outcome.complete and not watchers
    assert said == ["method 1 of 2, short: finished before", "method 2 of 2, long: finished before"]
    assert everything(tmp_path) == before


def test_a_run_is_finished_only_if_it_is_this_one_and_whole(expected_run: Path, tmp_path: Path) -> None:
    job = prepare_job("certify", small_config(engine={"replicas": 1}))
    run = tmp_path / "run"
    assert not is_finished(job, str(run))
    shutil.copytree(expected_run, run)
    assert is_finished(job, str(run))
    assert is_finished(prepare_job("certify", small_config(numerics={"batch_size": "auto"})), str(run))
    assert not is_finished(prepare_job("certify", small_config(certify={"seed": 4})), str(run))
    (run / "examples.npz").unlink()
    assert not is_finished(job, str(run))
    (run / "certificates.parquet").unlink()
    assert not is_finished(job, str(run))


def test_a_method_that_fails_keeps_no_other_from_its_turn(expected_run: Path, tmp_path: Path) -> None:
    """One whose network raises on the noisy copies of one image, and one whose directory holds another run."""
    bright = {"factory": "slow_network:failing", "kwargs": {"threshold": 0.31}}
    shutil.copytree(expected_run, tmp_path / "changed")
    before = everything(tmp_path)
    chosen = {
        "raises": small_config(
            data={"select": {"indices": [317, 123]}},
            classifier={"kind": "python", "num_classes": 10, **bright},
            certify={"sigmas": [0.1]},
            num_estimation=300,
            engine={"max_attempts": 1},
        ),
        "changed": small_config(num_estimation=301),
        "good": small_config(num_estimation=300),
    }
    outcome, said, _ = session(chosen, tmp_path)
    assert not outcome.complete and not outcome.interrupted
    assert list(outcome.failed) == ["raises", "changed"]
    assert isinstance(outcome.failed["raises"], WorkFailedError)
    assert "cannot stand bright images" in str(outcome.failed["raises"])
    assert isinstance(outcome.failed["changed"], RunMismatchError)
    assert any(
        line.startswith("method 2 of 3, changed, failed: ") and "certify.num_estimation: 3000 -> 301" in line
        for line in said
    )
    assert read_run(str(tmp_path / "good")).complete
    after = everything(tmp_path)
    assert {name: after[name] for name in before} == before


def test_a_run_of_another_configuration_is_not_in_the_table(
    expected_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor is it where the session did not come to it."""
    for name in ("same", "other"):
        shutil.copytree(expected_run, tmp_path / "out" / name)
    raw = resolved(small_config())
    del raw["predict"], raw["evaluate"]
    written = raw | {"methods": {"same": None, "other": {"certify": {"seed": 4}}, "later": None}}
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(written))
    monkeypatch.chdir(tmp_path)
    for only, code in ((["--only", "same", "--only", "other"], 1), (["--only", "same"], 0)):
        monkeypatch.setattr(sys, "argv", ["raycp", "compare", "suite.yaml", "--out", "out", *only])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert (ended.value.code or 0) == code, said.err
        assert [line.split()[0] for line in said.out.splitlines()] == ["method", "same", "same", "same"]
        assert (
            "other is left out, its directory holds a run of another configuration: certify.seed: 3 -> 4\n"
            in said.err
        )
        assert "without a table yet: later\n" in said.err
        assert ("failed, as said above: other\nresume with: raycp compare" in said.err) == bool(code)


def test_purified_images_are_measured_after_the_certificates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a directory like that of `raycp evaluate`, once, and left out of the report where it is of another one."""
    small = small_config(num_estimation=300)
    methods = dict.fromkeys(("one", "two"), small)
    fid = {"evaluate": small.evaluate.model_copy(update={"features": ClassifierFeatures(kind="classifier")})}
    methods["two"] = small.model_copy(update=fid)  # six images have no FID in a classifier's features
    evaluated = ("one", "two")
    outcome, said, watchers = session(methods, tmp_path / "out", evaluated)
    assert said[:3] == ["method 1 of 2, one", "method 2 of 2, two", "evaluation 1 of 2, one"]
    assert said[3].startswith("evaluation 2 of 2, two, failed: ")
    assert list(outcome.failed) == ["evaluations/two"] and not outcome.complete
    assert len(watchers) == 3
    alone = tmp_path / "alone"
    assert run_evaluation(prepare_evaluation(small), str(alone), Recorder())
    measured = tmp_path / "out" / "evaluations" / "one"
    assert pq.read_table(measured / "evaluation.parquet").equals(pq.read_table(alone / "evaluation.parquet"))
    before = everything(tmp_path / "out")
    _, said, watchers = session({"one": small}, tmp_path / "out", evaluated)
    assert said == ["method 1 of 1, one: finished before", "evaluation 1 of 1, one: finished before"]
    assert not watchers and everything(tmp_path / "out") == before
    assert is_measured(prepare_evaluation(small_config(numerics={"batch_size": "auto"})), str(measured))
    assert not is_measured(prepare_evaluation(small_config(certify={"seed": 4})), str(measured))

    raw = resolved(small)
    del raw["predict"], raw["evaluate"]
    for draws, known, damage in ((1, True, False), (2, False, False), (1, False, True)):
        written = raw | {"evaluate": {"draws": draws}, "methods": {"one": None}}
        (tmp_path / "suite.yaml").write_text(yaml.safe_dump(written))
        if damage:
            (measured / "evaluation.parquet").write_bytes(b"PAR1")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["raycp", "compare", "suite.yaml", "--out", "out"])
        with pytest.raises(SystemExit) as ended:
            main()
        found = capsys.readouterr()
        assert (ended.value.code or 0) == (not known), found.err
        assert found.out.split()[:3] == ["method", "sigma", "images"], "certificates have their table always"
        assert ("Purified images\nmethod" in found.out) == known
        assert ("failed, as said above: evaluations/one\n" in found.err) != known
        assert ("evaluate.draws: 1 -> 2" in found.err) == (draws == 2)
        assert ("evaluation.parquet is damaged" in found.err) == damage
    written = raw | {"evaluate": {"draws": 1}, "methods": {"two": {"evaluate": None}, "one": None}}
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(written))
    command = ["raycp", "compare", "suite.yaml", "--out", "out", "--only"]
    monkeypatch.setattr(sys, "argv", [*command, "two"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1, (
        "what cannot be read is no success, though this session had nothing to do with it"
    )
    assert "evaluations/one is left out: " in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", [*command, "one"])
    (measured / "evaluation.parquet").unlink()
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code, "what was deleted is made again of what was measured"
    assert pq.read_table(measured / "evaluation.parquet").equals(pq.read_table(alone / "evaluation.parquet"))


def test_a_second_process_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    chosen = {"first": small_config()}
    with (
        Storage(str(tmp_path)).locked(),
        pytest.raises(RunMismatchError, match="is in use by another raycp process"),
    ):
        session(chosen, tmp_path)


class Interrupting(Recorder):
    """Presses Ctrl-C once, when something is decided."""

    pressed = False

    def progress(self, progress: Any, accuracies: Any) -> None:
        super().progress(progress, accuracies)
        if progress.decided and not self.pressed:
            self.pressed = True
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.slow
def test_an_interrupted_method_is_the_last_one_of_its_session(expected_run: Path, tmp_path: Path) -> None:
    """Ctrl-C within a method, and between two; the same call goes on and ends with the same certificates."""
    slow = small_config(seconds_per_batch=0.02, engine={"task_seconds": 0.1})
    methods = {"first": slow, "second": small_config(num_estimation=300)}
    outcome = run_suite(methods, str(tmp_path), lambda: nullcontext(Interrupting()), lambda _: None)
    assert outcome.interrupted and not outcome.complete and not outcome.failed
    assert not read_run(str(tmp_path / "first")).complete
    assert not (tmp_path / "second").exists()

    def between(line: str) -> None:
        if line.startswith("method 2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_suite(methods, str(tmp_path), lambda: nullcontext(Recorder()), between)
    assert certificates(tmp_path / "first").equals(certificates(expected_run))

    outcome, said, _ = session(methods, tmp_path)
    assert outcome.complete
    assert said == ["method 1 of 2, first: finished before", "method 2 of 2, second"]


def suite_file(folder: Path) -> Path:
    """Two methods whose runs take some seconds."""
    raw = resolved(small_config(0.02, num_estimation=300, engine={"local_cpus": 2}))
    del raw["predict"], raw["evaluate"]
    written = raw | {
        "methods": {"first": None, "second": {"certify": {"num_estimation": 900}}},
        "claims": [{"better": "second", "worse": "first", "says": "more samples help"}],
    }
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump(written, sort_keys=False))
    return path


@contextmanager
def started(path: Path, out: Path) -> Iterator[subprocess.Popen[str]]:
    """A comparison in a process of its own, which does not outlive a test that fails."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    environment.pop("RAY_AUTH_MODE", None)  # as a user's, so that Ray gets a token
    arguments = [sys.executable, "-m", "raycp.cli.main", "compare", str(path), "--out", str(out)]
    process = subprocess.Popen(
        arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=60)


def untimed(content: bytes) -> list[dict[str, str]]:
    rows = csv.DictReader(io.StringIO(content.decode()))
    return [{key: value for key, value in row.items() if key not in TIMED} for row in rows]


@pytest.mark.slow
def test_a_killed_comparison_goes_on_to_the_same_tables(ray_cluster: None, tmp_path: Path) -> None:
    """Killed within the second method; undisturbed it is the same to the last bit."""
    path, killed, whole = suite_file(tmp_path), tmp_path / "killed", tmp_path / "whole"
    with started(path, killed) as first:
        deadline = time.monotonic() + 300  # it starts Ray and ends a method before, beside other work
        while not list((killed / "second" / "counts").glob("part-*")):
            assert first.poll() is None, first.stderr and first.stderr.read()
            assert time.monotonic() < deadline, "the second method has drawn nothing within five minutes"
            time.sleep(0.1)
        first.kill()
    assert first.returncode == -signal.SIGKILL
    assert read_run(str(killed / "first")).complete and not (killed / "comparison").exists()

    suite = load_suite(path)
    with started(path, killed) as second:
        assert session(suite.methods, whole)[0].complete
        expected = report_comparison(suite, [read_run(str(whole / name)) for name in suite.methods])
        out, text = second.communicate(timeout=120)
    assert second.returncode == 0, text
    assert "method 1 of 2, first: finished before\nmethod 2 of 2, second\nresuming: " in text

    for name, each in (("first", 350), ("second", 950)):
        assert certificates(killed / name).equals(certificates(whole / name))
        drawn = pq.read_table(killed / name / "counts").to_pylist()
        assert sum(row["num_samples"] for row in drawn) == 12 * each
    for name, content in expected.files.items():
        written = (killed / "comparison" / name).read_bytes()
        if name.endswith(".csv"):
            assert untimed(written) == untimed(content)
    page = killed / "comparison" / "comparison.html"
    assert f"page: {page}\n" in text and "more samples help" in page.read_text()
    assert out.partition("Claims: ")[2] == expected.text.partition("Claims: ")[2] != ""
    assert "more samples help [second > first]: " in out
    assert "second differs from first in certify.num_estimation: 300 -> 900." in text
