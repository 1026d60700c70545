"""Certificates are a pure function of configuration, weights and data: whatever happens to replicas and drivers."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from small_runs import Recorder, certificates, small_config

from raycp.config import RunConfig, resolved
from raycp.distributed.job import prepare_job
from raycp.distributed.ray_transport import RayTransport
from raycp.distributed.session import run_job
from raycp.distributed.transport import Lost
from raycp.errors import ClusterError, LedgerError, RunMismatchError, StorageError, WorkFailedError

pytestmark = pytest.mark.ray

DARK, BRIGHT = [317, 328], 123


def run(config: RunConfig, out: Path) -> Recorder:
    recorder = Recorder()
    assert run_job(prepare_job("certify", config), str(out), recorder)
    return recorder


def test_rows_are_complete_and_plausible(expected_run: Path) -> None:
    table = pq.read_table(expected_run / "certificates.parquet").to_pylist()
    assert len(table) == 12
    assert [row["image_index"] for row in table] == [0, 7, 14, 21, 28, 35] * 2
    for row in table:
        assert (row["n"], row["n0"], row["samples"]) == (3_000, 50, 3_050)
        assert row["correct"] == (row["predicted"] == row["label"])
        assert row["seconds"] > 0
    assert any(row["radius"] > 0 for row in table)


@pytest.mark.parametrize(
    "engine",
    [
        {"replicas": 2},
        {"task_seconds": 0.05, "tasks_in_flight": 4},
        {"task_seconds": 20.0, "flush_seconds": 60.0},
    ],
    ids=["two replicas", "small tasks", "large tasks"],
)
def test_replicas_and_packing_leave_no_trace(
    expected_run: Path, tmp_path: Path, engine: dict[str, float]
) -> None:
    run(small_config(engine=engine), tmp_path)
    assert certificates(tmp_path).equals(certificates(expected_run))


def test_a_killed_replica_costs_only_time(expected_run: Path, tmp_path: Path) -> None:
    config = small_config(seconds_per_batch=0.02, engine={"task_seconds": 0.2})

    def kill_replicas() -> None:
        for _ in range(3):
            time.sleep(2.5)
            os.kill(a_replica_process(), signal.SIGKILL)

    killer = threading.Thread(target=kill_replicas)
    killer.start()
    recorder = run(config, tmp_path)
    killer.join()
    assert recorder.states[-1].lost >= 2
    assert certificates(tmp_path).equals(certificates(expected_run))


def a_replica_process() -> int:
    """Process id of a live replica of this process's own cluster: Ray names its workers after what they do."""
    for _ in range(100):
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and is_ours(int(entry.name)):
                name = read_or_empty(entry / "cmdline")
                if name.startswith(("ray::ReplicaActor", "ray::certify.draw")):
                    return int(entry.name)
        time.sleep(0.1)
    raise AssertionError("no replica process found")


def is_ours(process: int) -> bool:
    """Whether a process descends from this one."""
    while process > 1:
        if process == os.getpid():
            return True
        fields = read_or_empty(Path(f"/proc/{process}/stat")).rpartition(")")[2].split()
        process = int(fields[1]) if fields else 0
    return False


def read_or_empty(path: Path) -> str:
    """The content of a file that may vanish with its process."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def command(config: RunConfig, folder: Path) -> list[str]:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(resolved(config)))
    return [sys.executable, "-m", "raycp.cli.main", "certify", str(path), "--out", str(folder / "run")]


def start(arguments: list[str]) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    environment.pop("RAY_AUTH_MODE", None)  # as a user's, so that Ray gets a token
    return subprocess.Popen(arguments, env=environment, stderr=subprocess.PIPE, text=True)


def wait_for_ledger(process: subprocess.Popen[str], run_folder: Path, files: int) -> None:
    for _ in range(600):
        assert process.poll() is None, process.stderr and process.stderr.read()
        if len(list((run_folder / "counts").glob("*.parquet"))) >= files:
            return
        time.sleep(0.1)
    raise AssertionError("the run wrote no ledger files")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "Ctrl-C"])
def test_a_stopped_driver_resumes(expected_run: Path, tmp_path: Path, how: signal.Signals) -> None:
    """Also with the configuration's engine changed in between, which is no other run."""
    config = small_config(seconds_per_batch=0.02, engine={"local_cpus": 2})
    arguments = command(config, tmp_path)
    first = start(arguments)
    wait_for_ledger(first, tmp_path / "run", files=2)
    first.send_signal(how)
    _, text = first.communicate(timeout=60)
    if how == signal.SIGINT:
        assert first.returncode == 1
        assert f"Resume with: raycp certify {arguments[4]} --out {arguments[6]}" in text
    assert (tmp_path / "run" / "counts").exists()

    second = start([*arguments, "--set", "engine.task_seconds=0.1", "--replicas", "1"])
    _, text = second.communicate(timeout=200)
    assert second.returncode == 0, text
    assert "resuming" in text
    assert certificates(tmp_path / "run").equals(certificates(expected_run))
    drawn = pq.read_table(tmp_path / "run" / "counts").to_pylist()
    assert sum(row["num_samples"] for row in drawn) == 12 * 3_050


def test_a_finished_run_is_left_alone(expected_run: Path, ray_cluster: None) -> None:
    before = certificates(expected_run)
    recorder = run(small_config(engine={"replicas": 1}), expected_run)
    assert not recorder.states  # nothing was drawn
    assert certificates(expected_run).equals(before)


def test_another_configuration_is_refused_with_the_difference(expected_run: Path) -> None:
    other = small_config(certify={"alpha": 0.01, "seed": 4})
    with pytest.raises(RunMismatchError) as caught:
        run_job(prepare_job("certify", other), str(expected_run), Recorder())
    assert "certify.alpha: 0.001 -> 0.01" in str(caught.value)
    assert "certify.seed: 3 -> 4" in str(caught.value)


def with_one_bad_image(nan: bool) -> RunConfig:
    """The network fails on noisy copies of the last image only: its threshold is 6 deviations from any mean."""
    return small_config(
        data={"select": {"indices": [*DARK, BRIGHT]}},
        classifier={
            "kind": "python",
            "factory": "slow_network:failing",
            "kwargs": {"nan": nan, "threshold": 0.31},
            "num_classes": 10,
        },
        certify={"sigmas": [0.1], "num_selection": 50, "num_estimation": 500},
    )


def test_nan_logits_are_an_error_that_names_image_and_block(ray_cluster: None, tmp_path: Path) -> None:
    with pytest.raises(WorkFailedError) as caught:
        run_job(prepare_job("certify", with_one_bad_image(nan=True)), str(tmp_path), Recorder())
    assert re.search(
        rf"samples have NaN or infinite logits: image {BRIGHT}, sigma 0.1, (selection|estimation) samples \d+ to \d+",
        str(caught.value),
    )
    rows = pq.read_table(tmp_path / "certificates.parquet").to_pylist()
    reasons = {row["image_index"]: row["stop_reason"] for row in rows}
    assert reasons == {
        **dict.fromkeys(DARK, "complete"),
        BRIGHT: "undecided",
    }  # the other images were finished


def test_a_failing_network_is_tried_elsewhere_then_reported(ray_cluster: None, tmp_path: Path) -> None:
    with pytest.raises(WorkFailedError, match=r"failed 3 times: .*cannot stand bright images"):
        run_job(prepare_job("certify", with_one_bad_image(nan=False)), str(tmp_path), Recorder())


def test_a_damaged_ledger_file_is_named_and_the_rest_is_kept(expected_run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(expected_run, copy)
    ledger = copy / "counts"
    kept = sorted(ledger.iterdir())
    (ledger / "part-999999-deadbeef.parquet").write_bytes(kept[0].read_bytes()[:-50])
    with pytest.raises(
        LedgerError, match=r"part-999999-deadbeef.parquet is damaged .* Move it away and resume"
    ):
        run(small_config(engine={"replicas": 1}), copy)
    assert sorted(ledger.iterdir())[: len(kept)] == kept
    (ledger / "part-999999-deadbeef.parquet").unlink()
    assert not run(small_config(engine={"replicas": 1}), copy).states  # nothing was drawn again


def test_a_full_disk_loses_nothing(
    expected_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third ledger file does not fit; with room again, the run goes on from the first two."""
    real, calls = os.fsync, []

    def fsync(descriptor: int) -> None:
        calls.append(descriptor)
        if len(list((tmp_path / "counts").glob("part-*"))) >= 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    config = small_config(seconds_per_batch=0.01)
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StorageError, match=r"cannot write .*: No space left on device; make room"):
        run(config, tmp_path)
    monkeypatch.undo()
    assert len(list((tmp_path / "counts").iterdir())) == 2
    recorder = run(config, tmp_path)
    assert any("resuming" in note for note in recorder.notes)
    assert certificates(tmp_path).equals(certificates(expected_run))


def test_a_gpu_that_is_not_there(ray_cluster: None, tmp_path: Path) -> None:
    config = small_config(engine={"gpus_per_replica": 1})
    with pytest.raises(
        ClusterError, match=r"a replica wants 1 CPU and 1 GPU .* this machine has 2 CPU and 0 GPU"
    ):
        run(config, tmp_path)


def test_a_gpu_that_torch_does_not_see(ray_cluster: None, tmp_path: Path) -> None:
    config = small_config(numerics={"device": "cuda"})
    with pytest.raises(ClusterError, match=r"asked to run on a GPU, but torch sees none"):
        run(config, tmp_path)


def test_lost_replicas_may_be_stopped(ray_cluster: None) -> None:
    """As the dispatcher does with those whose end it had not looked at when the end of another one stopped the run."""
    config = small_config(numerics={"device": "cuda"})
    transport = RayTransport(prepare_job("certify", config).spec, config.engine, 64, "lost")
    for replica in (0, 1):
        transport.start(replica)
    lost: list[object] = []
    deadline = time.monotonic() + 60
    while len(lost) < 2 and time.monotonic() < deadline:
        lost += transport.wait(timeout=0.25)
    assert [type(event) for event in lost] == [Lost, Lost]
    for replica in (0, 1):
        transport.stop(replica)
    assert transport.wait(timeout=0) == []


def test_predict_runs_on_the_same_engine(ray_cluster: None, tmp_path: Path) -> None:
    config = small_config(predict={"num_samples": 500})
    assert run_job(prepare_job("predict", config), str(tmp_path), Recorder())
    rows = pq.read_table(tmp_path / "predictions.parquet").to_pylist()
    assert len(rows) == 12
    assert all(row["n"] == 500 and row["n_A"] >= row["n_B"] for row in rows)


def test_the_batch_size_is_measured_once_and_kept(ray_cluster: None, tmp_path: Path) -> None:
    config = small_config(numerics={"batch_size": "auto"}, num_estimation=200)
    recorder = run(config, tmp_path)
    assert any("measured: a batch of" in note for note in recorder.notes)
    again = run(config, tmp_path)
    assert not any("measured" in note for note in again.notes)
