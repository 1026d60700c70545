"""Ray Jobs through the command, on a real head with a token: submit, follow, list, die, stop, resume.

The head is a process of its own, on a loopback address of its own, and is ended by its process group.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
import yaml

from raycp.models import ResidualClassifier, save_classifier

pytestmark = [pytest.mark.ray, pytest.mark.timeout(1500)]

ROOT = Path(__file__).resolve().parents[2]
HOST = "127.0.0.21"
SECONDS = 400
Said = subprocess.CompletedProcess[str]


def free_port() -> int:
    with socket.socket() as free:
        free.bind((HOST, 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    """A head of two CPUs; the environment in which `raycp` finds it."""
    # Not pytest's folder: the sockets below it must have paths of at most 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="rj"))
    url = f"http://{HOST}:{free_port()}"
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("RAY_") and name != "PYTHONPATH"
    } | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_memory_monitor_refresh_ms": "0",
        "RAY_worker_niceness": "0",
        "RAY_API_SERVER_ADDRESS": url,
        # On a busy machine the dashboard's processes take longer than Ray allows them.
        "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "300",
        "RAY_DASHBOARD_SUBPROCESS_MODULE_WAIT_READY_TIMEOUT": "300",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "HOME": str(folder),
    }
    command = [
        "ray", "start", "--head", "--block", f"--node-ip-address={HOST}", f"--port={free_port()}",
        "--include-dashboard=true", f"--dashboard-host={HOST}", f"--dashboard-port={url.rpartition(':')[2]}",
        f"--temp-dir={folder / 'ray'}", "--num-cpus=2", f"--object-store-memory={100 * 2**20}",
        # Jobs are started by the agent, whose port is a fixed one that another Ray of this machine may have.
        f"--dashboard-agent-listen-port={free_port()}", "--disable-usage-stats",
    ]  # fmt: skip
    with (folder / "head.log").open("w") as log:
        head = subprocess.Popen(
            command, env=environment, cwd=folder, stdout=log, stderr=log, start_new_session=True
        )
    try:
        wait_for_dashboard(head, url, environment["RAY_AUTH_TOKEN"], folder / "head.log")
        yield environment
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(head.pid, number)
                head.wait(timeout=10)
            except (subprocess.TimeoutExpired, ProcessLookupError):
                continue
        shutil.rmtree(folder, ignore_errors=True)


def wait_for_dashboard(head: subprocess.Popen[bytes], url: str, token: str, log: Path) -> None:
    request = urllib.request.Request(f"{url}/api/jobs/", headers={"Authorization": f"Bearer {token}"})
    last = time.monotonic() + SECONDS
    while True:
        try:
            urllib.request.urlopen(request, timeout=10).close()
            return
        except OSError:
            assert head.poll() is None and time.monotonic() < last, log.read_text()[-2000:]
            time.sleep(0.5)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder, which travels: configuration, job files, a module of theirs, a script that fails."""
    project = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "configs" / "digits", project / "configs" / "digits")
    shutil.copytree(ROOT / "jobs", project / "jobs")
    shutil.copy(Path(__file__).with_name("slow_network.py"), project)
    (project / "paced.py").write_text(
        "import os\nfrom slow_network import slow\n\n\ndef paced():\n    return slow(float(os.environ['PACE']))\n"
    )
    (project / "dies.py").write_text("import sys\nprint('first line')\nsys.exit('error: a reason.')\n")
    return project


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained weights, outside of what travels."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "classifier"
    network = ResidualClassifier(10, in_channels=1, widths=(8,), blocks=1, groups=2)
    save_classifier(folder, network, image_size=(8, 8))
    return folder


def write_job(project: Path, name: str, out: Path, **config: object) -> str:
    """A job file that certifies five digits with few samples, and these values of the configuration."""
    values: dict[str, object] = {"data.select.count": 5, "certify.num_estimation": 200} | config
    overrides = [word for key, value in values.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    command = ["certify", "configs/digits/none.yaml", "--out", str(out), *overrides]
    (project / f"{name}.yaml").write_text(yaml.safe_dump({"name": name, "command": command}))
    return f"{name}.yaml"


def raycp(project: Path, environment: dict[str, str], *arguments: str) -> Said:
    """`raycp`, in the user's folder."""
    return subprocess.run(
        [sys.executable, "-m", "raycp.cli.main", *arguments],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def test_jobs_from_submission_to_resumption(
    environment: dict[str, str], project: Path, classifier: Path, tmp_path: Path
) -> None:
    def call(*arguments: str) -> Said:
        return raycp(project, environment, *arguments)

    # One that runs to its end: the log is followed, the id is the only thing on stdout.
    out = tmp_path / "run"
    job = write_job(project, "digits", out, **{"classifier.path": str(classifier)})
    done = call("submit", job, "--follow")
    assert (done.returncode, done.stdout) == (0, "raycp-digits-1\n"), done.stderr
    assert f"done: results in {out}" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("raycp-digits-1 SUCCEEDED")
    table = pq.read_table(out / "certificates.parquet").to_pylist()
    assert len(table) == 15 and all(row["n"] == 200 for row in table)

    # The same again is another job in the same run directory.
    again = call("submit", job, "--follow")
    assert (again.returncode, again.stdout) == (0, "raycp-digits-2\n"), again.stderr
    assert "resuming: 15 of 15 (sigma, image) pairs are decided" in again.stderr

    # One that dies at once: the end of its log, although it is not followed.
    (project / "dies.yaml").write_text(yaml.safe_dump({"name": "dies", "entrypoint": ["dies.py"]}))
    dead = call("submit", "dies.yaml")
    assert (dead.returncode, dead.stdout) == (1, "raycp-dies-1\n"), dead.stderr
    assert "  first line\n  error: a reason.\nraycp-dies-1 FAILED" in dead.stderr

    # A long one, with a module of the user's that travels, at the pace of a variable: stopped once it has written.
    slow = tmp_path / "slow"
    job = write_job(
        project, "slow", slow,
        **{"classifier": {"kind": "python", "factory": "paced:paced", "num_classes": 10},
           "certify.sigmas": [0.25], "certify.num_estimation": 15_000,
           "engine.task_seconds": 0.5, "engine.flush_seconds": 0.5},
    )  # fmt: skip
    pace = ("--set", "env_vars.PACE=0.5")  # two minutes and a half
    started = call("submit", job, *pace)
    assert (started.returncode, started.stdout) == (0, "raycp-slow-1\n"), started.stderr
    last = time.monotonic() + SECONDS
    while not list(slow.glob("counts/*.parquet")):
        assert time.monotonic() < last, call("jobs").stdout
        time.sleep(0.2)
    refused = call("submit", job, *pace)
    assert refused.returncode == 1
    assert f"the job raycp-slow-1 (RUNNING) makes {slow} already" in refused.stderr
    stopped = call("stop", "raycp-slow-1")
    assert stopped.returncode == 0, stopped.stderr
    assert stopped.stderr.splitlines() == [
        "raycp-slow-1 STOPPED",
        f"what it computed is kept in {slow}",
        "resume with: raycp submit slow.yaml --set env_vars.PACE=0.5",
    ]
    log = subprocess.run(
        ["ray", "job", "logs", "raycp-slow-1"], env=environment, capture_output=True, text=True, check=True
    )
    assert f"interrupted; what was drawn is kept in {slow}" in log.stdout

    resumed = call("submit", job, "--follow", "--set", "env_vars.PACE=0")
    assert (resumed.returncode, resumed.stdout) == (0, "raycp-slow-2\n"), resumed.stderr
    assert "resuming: " in resumed.stderr
    assert [row["n"] for row in pq.read_table(slow / "certificates.parquet").to_pylist()] == [15_000] * 5

    # What there was, newest first.
    listed = json.loads(call("jobs", "--format", "json").stdout)
    assert [(job["id"], job["status"]) for job in listed] == [
        ("raycp-slow-2", "SUCCEEDED"),
        ("raycp-slow-1", "STOPPED"),
        ("raycp-dies-1", "FAILED"),
        ("raycp-digits-2", "SUCCEEDED"),
        ("raycp-digits-1", "SUCCEEDED"),
    ]
    assert listed[2]["message"] == "error: a reason."
    assert listed[0]["metadata"]["run"] == listed[0]["run"] == str(slow)
    assert {"raycp", "kind", "config", "resume"} <= set(listed[0]["metadata"])
    unknown = call("stop", "raycp-slow-3")
    assert unknown.returncode == 1
    assert "knows no job 'raycp-slow-3'; jobs of raycp there: raycp-slow-2 (SUCCEEDED), " in unknown.stderr


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"RAY_AUTH_TOKEN": "0" * 64}, "does not take the token that is given here (403)"),
        ({"RAY_AUTH_TOKEN": ""}, "wants a token, and none is sent (401)"),
        ({"RAY_AUTH_MODE": "disabled"}, "none is sent (401): RAY_AUTH_MODE is disabled here."),
    ],
    ids=["wrong", "missing", "disabled"],
)
def test_tokens(environment: dict[str, str], project: Path, changes: dict[str, str], message: str) -> None:
    changed = {name: value for name, value in (environment | changes).items() if value}
    said = raycp(project, changed, "jobs")
    assert (said.returncode, said.stdout) == (1, "")
    assert message in said.stderr
    assert (
        "Set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to the cluster's token or RAY_AUTH_TOKEN_PATH"
        in said.stderr
    )


def test_a_token_is_used_without_a_mode(environment: dict[str, str], project: Path) -> None:
    unset = {name: value for name, value in environment.items() if name != "RAY_AUTH_MODE"}
    assert raycp(project, unset, "jobs").returncode == 0
