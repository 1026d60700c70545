"""The dashboard of a running Ray cluster, where jobs are handed in: found, and checked before anything is sent."""

from __future__ import annotations

import json
import logging
import os
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from raycp.errors import ClusterError, ConfigError

if TYPE_CHECKING:
    from raycp.distributed.jobs import JobClient

_VARIABLE = "RAY_API_SERVER_ADDRESS"
_PORT = 8265
_CONNECT_SECONDS = 5.0
_TOKEN = (
    "Set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to the cluster's token or RAY_AUTH_TOKEN_PATH to a file that holds it "
    "(on the head: `ray get-auth-token`)."
)


def connect(address: str | None) -> JobClient:
    """A client for the jobs of the cluster.

    Args:
        address: `http://HOST:8265` or `HOST:8265`; None takes it from RAY_API_SERVER_ADDRESS.

    Raises:
        ConfigError: no address, or one of another kind.
        ClusterError: nobody listens there, something else does, it wants another token, or it runs another Ray.
    """
    url = dashboard_url(address)
    asked = wants_token(url)
    # Ray's client lets the environment override what it is given, RAY_ADDRESS too.
    os.environ[_VARIABLE] = url
    if asked:  # whoever has one here means to use it
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    import ray
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    # It reports the end of every log that was followed.
    logging.getLogger("ray.dashboard.modules.job.sdk").setLevel(logging.WARNING)
    try:
        client = JobSubmissionClient(url)
    except AuthenticationError as err:
        raise ClusterError(_refused(url, asked, str(err))) from err
    except (RuntimeError, OSError) as err:
        raise ClusterError(_unreachable(url, str(err).splitlines()[0])) from err
    # The answer of /api/version; with a token there is no public way to it.
    theirs = str(client._server_ray_version)
    if _release(theirs) != _release(ray.__version__):
        raise ClusterError(
            f"the cluster at {url} runs Ray {theirs}, and here is Ray {ray.__version__}: raycp is made for one of "
            "them. Install the same release here and there."
        )
    jobs: JobClient = client
    return jobs


def dashboard_url(address: str | None) -> str:
    """The URL of the dashboard, from an option or the environment."""
    given = address or os.environ.get(_VARIABLE)
    if not given:
        raise ConfigError(
            f"no cluster is named: give --address http://HOST:{_PORT}, the address of its dashboard, or set "
            f"{_VARIABLE}."
        )
    scheme, mark, place = given.rpartition("://")
    parts = urlsplit(f"{scheme or 'http'}://{place}")
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in ("http", "https") or not parts.hostname or place == "auto" or port == -1:
        raise ConfigError(
            f"--address must be that of the cluster's dashboard, http://HOST:{_PORT}, got {given!r}. Jobs are handed "
            "in there, not at the port that `raycp certify --address` and `ray start --address` take."
        )
    whole = port is not None or mark  # https://HOST alone may be a proxy
    return f"{parts.scheme}://{parts.netloc}{'' if whole else f':{_PORT}'}{parts.path.rstrip('/')}"


def wants_token(url: str) -> bool:
    """Whether the dashboard asks for a token; fails within seconds where there is none: Ray's client has no limit."""
    try:
        with urllib.request.urlopen(f"{url}/api/version", timeout=_CONNECT_SECONDS) as answer:
            json.load(answer)["ray_version"]
    except urllib.error.HTTPError as err:
        if err.code in (401, 403):
            return True
        raise ClusterError(_unreachable(url, f"what listens there answers {err.code} {err.reason}")) from err
    except (ValueError, KeyError, TypeError, HTTPException) as err:
        raise ClusterError(_unreachable(url, "what listens there is not Ray's dashboard")) from err
    except OSError as err:
        reason = err.reason if isinstance(err, urllib.error.URLError) else err
        raise ClusterError(_unreachable(url, getattr(reason, "strerror", None) or str(reason))) from err
    return False


def _unreachable(url: str, reason: str) -> str:
    return (
        f"cannot reach the dashboard of a Ray cluster at {url}: {reason}. Check that the cluster runs, that the port "
        f"is the dashboard's ({_PORT} unless `ray start` was told another, and open only on the head itself unless "
        "--dashboard-host says more), and the way to it: `ssh -L`, `ray dashboard` or `kubectl port-forward`."
    )


def _refused(url: str, wants_token: bool, reason: str) -> str:
    """Ray says which of the two it is at the start of its own, longer, text."""
    if reason.startswith("Authentication failed"):
        return f"the cluster at {url} does not take the token that is given here (403): it is another one's. {_TOKEN}"
    if not wants_token:
        return f"{reason.partition('.')[0]}; the cluster at {url} asks for none. Set RAY_AUTH_MODE=disabled."
    mode = os.environ.get("RAY_AUTH_MODE")
    given = f"RAY_AUTH_MODE is {mode} here" if mode != "token" else reason.partition(".")[0]
    return f"the cluster at {url} wants a token, and none is sent (401): {given}. {_TOKEN}"


def _release(version: str) -> list[str]:
    """`2.60.0` -> `[2, 60]`: patches of one release understand each other."""
    return version.split(".")[:2]
