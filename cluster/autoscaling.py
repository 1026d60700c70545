"""A Ray cluster on this machine that grows from zero worker nodes with the work, and shrinks again.

    python cluster/autoscaling.py

prints what another terminal needs, and the number of nodes whenever it changes. It ends with Ctrl-C. The nodes are
described in autoscaling.yaml; nothing listens beyond this machine but what Ray opens itself, which asks for a token.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Self

import yaml
from local import ENVIRONMENT, descendants, token_file

HOST = "127.0.0.31"
CONFIG = Path(__file__).with_name("autoscaling.yaml")
START_SECONDS = 180.0


class AutoscalingCluster:
    """A head without work and Ray's autoscaler, as one process group that ends with the block.

    Args:
        config: the autoscaler's, without the address of the head.
    """

    def __init__(self, config: Path = CONFIG) -> None:
        # Not deep in other folders: the sockets below it must have paths of at most 107 characters.
        self._folder = Path(tempfile.mkdtemp(prefix="ras"))
        with socket.socket() as free:
            free.bind((HOST, 0))
            self.address = f"{HOST}:{free.getsockname()[1]}"
        raw = yaml.safe_load(config.read_text())
        raw["provider"]["gcs_address"] = self.address
        written = self._folder / "autoscaling.yaml"
        written.write_text(yaml.safe_dump(raw))
        command = [
            "ray", "start", "--head", "--block", f"--node-ip-address={HOST}", f"--port={self.address.split(':')[1]}",
            "--num-cpus=0", f"--object-store-memory={100 * 2**20}", f"--autoscaling-config={written}",
            f"--temp-dir={self._folder / 'ray'}", "--include-dashboard=false", "--disable-usage-stats",
        ]  # fmt: skip
        environment = os.environ | {
            # Ray's second autoscaler cannot start this provider.
            "RAY_FAKE_CLUSTER": "1", "RAY_enable_autoscaler_v2": "0", "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        }  # fmt: skip
        self._log = self._folder / "head.log"
        with self._log.open("w") as log:
            self._head = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def __enter__(self) -> Self:
        last = time.monotonic() + START_SECONDS
        while "Ray runtime started" not in self._log.read_text():
            if self._head.poll() is not None or time.monotonic() > last:
                log = self._log.read_text()
                self.__exit__()
                raise RuntimeError(f"Ray did not start:\n{log[-3000:]}")
            time.sleep(0.2)
        return self

    def __exit__(self, *_: object) -> None:
        below = descendants(self._head.pid)
        self._head.send_signal(signal.SIGTERM)
        try:
            self._head.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._head.kill()
            self._head.wait()
        for pid in below:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        shutil.rmtree(self._folder, ignore_errors=True)

    def num_nodes(self) -> int:
        """Worker nodes that run now."""
        titles = descendants(self._head.pid).values()
        return sum(title.split()[0].endswith("raylet/raylet") for title in titles) - 1


def main() -> None:
    """The command."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # Nodes find a user's `python:` factory in the folder that the cluster was started in.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path.cwd()), os.environ.get("PYTHONPATH")]))
    with token_file() as path, AutoscalingCluster() as cluster:
        print(
            "No nodes yet. In another terminal:\n"
            f"  export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH={path}\n"
            f"  raycp certify CONFIG --out RUN --address {cluster.address} --replicas 3\n"
            "Ctrl-C ends the cluster.",
            flush=True,
        )
        begin, before = time.monotonic(), 0
        while True:
            if (now := cluster.num_nodes()) != before:
                before = now
                print(f"{time.monotonic() - begin:6.1f} s: {now} nodes", flush=True)
            time.sleep(0.5)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(0)
