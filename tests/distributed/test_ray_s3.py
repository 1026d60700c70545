"""A training that is interrupted and a certification, both in a bucket of a local S3 server (moto, where installed)."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from pyarrow import fs

pytest.importorskip("moto.server", reason="moto is not installed (pip install 'moto[server]')")

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SECONDS = 300
TRAIN = {
    "data": {"name": "digits", "split": "train", "select": {"count": 64}},
    "stages": [
        {"stage": "classifier", "steps": 8, "batch_size": 16, "widths": [8], "blocks": 1},
        {"stage": "denoiser", "steps": 400, "batch_size": 16, "block_out_channels": [8, 8], "norm_num_groups": 4},
    ],
    "engine": {"workers": 1, "checkpoint_steps": 20, "log_steps": 20},
}  # fmt: skip
CERTIFY = {
    "data": {"name": "digits", "split": "test", "select": {"count": 4}},
    "purifier": {"kind": "edm", "model": {"path": "s3://runs/train/models/denoiser"}},
    "classifier": {"kind": "directory", "path": "s3://runs/train/models/classifier"},
    "certify": {"sigmas": [0.25], "num_selection": 20, "num_estimation": 100},
    "numerics": {"batch_size": 32},
    "engine": {"replicas": 1},
}


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """A server with an empty bucket, and the environment in which raycp finds it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    environment = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_MODE"} | {
        "AWS_ENDPOINT_URL": url, "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing",
    }  # fmt: skip
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            for _ in range(SECONDS):
                try:
                    urllib.request.urlopen(urllib.request.Request(f"{url}/runs", method="PUT")).close()
                    break
                except OSError:
                    time.sleep(0.5)
            yield environment
        finally:
            server.kill()


def raycp(
    environment: dict[str, str], tmp_path: Path, command: str, config: object, out: str
) -> subprocess.Popen[str]:
    file = tmp_path / f"{command}.yaml"
    file.write_text(yaml.safe_dump(config))
    return subprocess.Popen(
        [sys.executable, "-m", "raycp.cli.main", command, str(file), "--out", out],
        env=environment, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_runs_in_a_bucket(environment: dict[str, str], tmp_path: Path) -> None:
    bucket = fs.S3FileSystem(
        access_key="nobody", secret_key="nothing", endpoint_override=environment["AWS_ENDPOINT_URL"]
    )

    def checkpoints() -> list[str]:
        found = bucket.get_file_info(fs.FileSelector("runs/train/ray", allow_not_found=True))
        return [info.base_name for info in found if info.base_name.startswith("checkpoint_2")]

    with raycp(environment, tmp_path, "train", TRAIN, "s3://runs/train") as first:
        for _ in range(SECONDS * 2):
            if len(checkpoints()) > 0 or first.poll() is not None:
                break
            time.sleep(0.5)
        first.send_signal(signal.SIGINT)
        _, said = first.communicate(timeout=SECONDS)
    assert first.returncode != 0, said
    assert bucket.get_file_info("runs/train/models/denoiser/card.json").type == fs.FileType.NotFound
    with raycp(environment, tmp_path, "train", TRAIN, "s3://runs/train") as again:
        _, said = again.communicate(timeout=SECONDS)
    assert again.returncode == 0, said
    with bucket.open_input_stream("runs/train/log.jsonl") as log:
        assert b'"restored": true' in log.read()
    with raycp(environment, tmp_path, "certify", CERTIFY, "s3://runs/certify") as run:
        _, said = run.communicate(timeout=SECONDS)
    assert run.returncode == 0, said
    table = pq.read_table("runs/certify/certificates.parquet", filesystem=bucket)
    assert table.num_rows == 4
