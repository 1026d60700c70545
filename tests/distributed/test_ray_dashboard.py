"""The dashboard of a local cluster asks for a token that its user can find, and nobody else."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.ray

SCRIPT = r"""
import json, re, stat, urllib.request
from pathlib import Path
from raycp.config import Engine
from raycp.distributed.cluster import connected

def jobs(url, **headers):
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url + "/api/jobs/", headers=headers))
        return [job["metadata"]["job_name"] for job in json.load(answer)]
    except urllib.error.HTTPError as err:
        return err.code

with connected(Engine(dashboard=True, local_cpus=1), "raycp certify digits") as text:
    url, path = re.fullmatch(r"(http://127\.0\.0\.1:\d+) \(it asks for the token in (.*)\)", text).groups()
    found = {
        "mode": stat.filemode(Path(path).stat().st_mode),
        "without": jobs(url),
        "with": jobs(url, Authorization=f"Bearer {Path(path).read_text()}"),
    }
print(json.dumps(found | {"left": Path(path).exists()}))
"""


def test_the_token_is_in_a_file_of_this_user_while_the_cluster_lives_and_the_run_has_a_name() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH_")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == {"mode": "-rw-------", "without": 401, "with": ["raycp certify digits"], "left": False}
