"""Connecting to Ray: an embedded local cluster by default, an existing one by address."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from raycp.config import Engine
from raycp.errors import ClusterError

# Ray reads these when it is imported or started; what the user has set stays.
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_SCHEDULER_EVENTS": "0",
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "1",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
_OBJECT_STORE_BYTES = 512 * 2**20
_CONNECT_SECONDS = 5.0


@contextmanager
def connected(engine: Engine, name: str = "raycp", object_bytes: int = 0) -> Iterator[str | None]:
    """Be connected to Ray within the block; a cluster that was started here is ended here.

    A local cluster gets a token of its own, so that nobody else on the machine or network can use it. It is kept in
    memory, and with a dashboard, which asks for it, in a file that only this user can read and that goes with the
    cluster; where Ray looks for tokens nothing is left that would change how later clusters start. Nothing may have
    imported Ray before: it reads its token when it is imported.

    Args:
        engine: where it runs.
        name: on the dashboard, if this is not a submitted job, which has a name of its own.
        object_bytes: that a local cluster's object store has to hold, beside what passes through it.

    Yields:
        Where the dashboard listens and where its token is, for people; None if there is no dashboard, or if the process
        was connected before.

    Raises:
        ClusterError: the address does not answer, Ray could not start, or it was imported too early.
    """
    for variable, value in _ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    if engine.address is None:
        if "RAY_AUTH_MODE" not in os.environ:
            if "ray" in sys.modules:
                raise ClusterError(
                    "Ray was imported before a local cluster could be given its token, which Ray reads then. Import "
                    "raycp alone, or set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (32 hexadecimal digits or more) before."
                )
            os.environ["RAY_AUTH_MODE"] = "token"
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        # Workers find a user's `python:` factory where the driver does, in the folder the command is given in.
        paths = [os.getcwd(), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]  # noqa: PTH109
        os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(filter(None, paths)))
    else:
        _require_listener(engine.address)
    import ray

    if ray.is_initialized():  # a caller's own cluster, or Ray's local mode in a test
        yield None
        return
    job = ray.job_config.JobConfig(metadata={"job_name": name})
    try:
        if engine.address is None:
            context = ray.init(
                address="local",
                num_cpus=engine.local_cpus or os.cpu_count(),
                include_dashboard=engine.dashboard,
                dashboard_host="127.0.0.1",
                object_store_memory=_OBJECT_STORE_BYTES + object_bytes,
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=True,
                job_config=job,
            )
        else:
            context = ray.init(
                address=engine.address, log_to_driver=False, logging_level=logging.ERROR, job_config=job
            )
    except Exception as err:  # a node that starts too slowly is a bare Exception of Ray's
        reason = str(err) or type(err).__name__
        raise ClusterError(
            _not_started(reason) if engine.address is None else _unreachable(engine.address, reason)
        ) from err
    try:
        if not context.dashboard_url:
            yield None
        elif (
            engine.address is None
            and os.environ["RAY_AUTH_MODE"] == "token"
            and "RAY_AUTH_TOKEN" in os.environ
        ):
            with _token_file(os.environ["RAY_AUTH_TOKEN"]) as path:
                yield f"http://{context.dashboard_url} (it asks for the token in {path})"
        else:
            yield f"http://{context.dashboard_url}"
    finally:
        ray.shutdown()


@contextmanager
def _token_file(token: str) -> Iterator[str]:
    """A file that only this user can read, for the block."""
    handle, path = tempfile.mkstemp(prefix="raycp-token-")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(token)
        yield path
    finally:
        Path(path).unlink(missing_ok=True)


def _require_listener(address: str) -> None:
    """Fail within seconds where nobody listens: Ray itself would try for minutes."""
    host, colon, port = address.rpartition("://")[2].partition(":")
    if not colon:  # `auto`, or a name that Ray resolves
        return
    if not port.isdigit():
        raise ClusterError(f"engine.address must be auto or host:port, got {address!r}.")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
    except OSError as err:
        raise ClusterError(_unreachable(address, err.strerror or str(err))) from err


def _unreachable(address: str, reason: str) -> str:
    return (
        f"cannot reach the Ray cluster at {address!r} (engine.address): {reason.splitlines()[0]}. Check that it runs "
        "(`ray status`), that its Ray version is the same as here, and that RAY_AUTH_TOKEN holds its token; leave the "
        "address out to start a local one."
    )


def _not_started(reason: str) -> str:
    return (
        f"cannot start a local Ray cluster: {reason.splitlines()[0].removesuffix('.')}. If this machine is very busy "
        "or short of memory, try again when it is not: Ray gives a node 30 seconds. Ray's own logs are in "
        "/tmp/ray/session_latest/logs; --address takes a cluster that runs already."
    )
