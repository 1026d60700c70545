"""Finding the dashboard: addresses, and what is said about one that is not there or not what it should be."""

from __future__ import annotations

import http.server
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from raycp.distributed import dashboard
from raycp.distributed.dashboard import connect, dashboard_url
from raycp.errors import ClusterError, ConfigError

VARIABLE = "RAY_API_SERVER_ADDRESS"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No address of somebody else's, and what `connect` sets is undone."""
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.setenv("RAY_AUTH_MODE", os.environ["RAY_AUTH_MODE"])


@contextmanager
def answering(status: int, body: str) -> Iterator[str]:
    """A web server that always says this; its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://head:8265", "http://head:8265"),
        ("http://head:8265/", "http://head:8265"),
        ("head:8000", "http://head:8000"),
        ("head", "http://head:8265"),
        ("10.0.0.1:8265", "http://10.0.0.1:8265"),
        ("[::1]:8265", "http://[::1]:8265"),
        ("https://ray.example.org", "https://ray.example.org"),
        ("https://example.org/ray/", "https://example.org/ray"),
    ],
)
def test_addresses(given: str, url: str) -> None:
    assert dashboard_url(given) == url


def test_the_address_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "head:8265")
    assert dashboard_url(None) == "http://head:8265"
    assert dashboard_url("other:8265") == "http://other:8265"


def test_no_address() -> None:
    with pytest.raises(ConfigError) as caught:
        dashboard_url(None)
    assert "--address http://HOST:8265" in str(caught.value)
    assert VARIABLE in str(caught.value)


@pytest.mark.parametrize(
    "given", ["auto", "ray://head:10001", "http://", "head:port", "head:99999", "ftp://head:21"]
)
def test_addresses_of_another_kind(given: str) -> None:
    with pytest.raises(ConfigError) as caught:
        dashboard_url(given)
    assert f"must be that of the cluster's dashboard, http://HOST:8265, got {given!r}" in str(caught.value)


def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = time.monotonic()
    with pytest.raises(ClusterError, match=f"at http://127.0.0.1:{port}: Connection refused"):
        connect(f"127.0.0.1:{port}")
    assert time.monotonic() - start < 30


def test_somebody_listens_and_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard, "_CONNECT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ClusterError, match=f"at http://{address}: timed out"):
            connect(address)


@pytest.mark.parametrize("body", ["<html>", "{}", "[]", '"text"'])
def test_something_else_listens(body: str) -> None:
    with answering(200, body) as address, pytest.raises(ClusterError, match="is not Ray's dashboard"):
        connect(address)


def test_something_that_knows_no_such_page() -> None:
    with answering(404, "") as address, pytest.raises(ClusterError, match="answers 404 Not Found"):
        connect(address)


def test_another_version_of_ray() -> None:
    import ray

    answer = json.dumps({"version": "4", "ray_version": "2.99.1"})
    with answering(200, answer) as address, pytest.raises(ClusterError) as caught:
        connect(address)
    assert f"at http://{address} runs Ray 2.99.1, and here is Ray {ray.__version__}" in str(caught.value)


def test_the_address_that_is_given_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's own client lets the environment override what it is given."""
    import ray

    monkeypatch.setenv(VARIABLE, "http://127.0.0.1:9")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    release = ".".join(ray.__version__.split(".")[:2])
    with answering(200, json.dumps({"version": "4", "ray_version": f"{release}.77"})) as address:
        client = connect(address)
        assert client.get_address() == f"http://{address}"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("mode", "wants_token", "reason", "message"),
    [
        ("token", True, "Authentication failed: Forbidden: Invalid",
         "does not take the token that is given here (403)"),
        ("disabled", True, "Authentication required: Unauthorized",
         "wants a token, and none is sent (401): RAY_AUTH_MODE is disabled here."),
        ("token", True, "RAY_AUTH_TOKEN_PATH is set but file cannot be opened: /no. Ensure that",
         "none is sent (401): RAY_AUTH_TOKEN_PATH is set but file cannot be opened: /no."),
    ],
)  # fmt: skip
def test_tokens(
    monkeypatch: pytest.MonkeyPatch, mode: str, wants_token: bool, reason: str, message: str
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", mode)
    text = dashboard._refused("http://head:8265", wants_token, reason)
    assert message in text
    for name in ("RAY_AUTH_MODE=token", "RAY_AUTH_TOKEN ", "RAY_AUTH_TOKEN_PATH", "http://head:8265"):
        assert name in text


def test_a_token_is_asked_for_here_alone() -> None:
    text = dashboard._refused(
        "http://head:8265", False, "Ray couldn't find an authentication token. Create one"
    )
    assert text == (
        "Ray couldn't find an authentication token; the cluster at http://head:8265 asks for none. Set "
        "RAY_AUTH_MODE=disabled."
    )
