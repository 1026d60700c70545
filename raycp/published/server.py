"""Asking a server for a file: redirects, what its answer means, and which failures may pass."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urljoin, urlsplit

import requests

from raycp import __version__
from raycp.errors import FetchError

_MOST_REDIRECTS = 10
_HEX64 = re.compile(r"[0-9a-f]{64}")


class NotThereError(FetchError):
    """The server has no such file (404, 410)."""


class InterruptedDownload(Exception):
    """An attempt that failed for a reason that may pass; its text says which."""


@dataclass(frozen=True)
class Patience:
    """How long to wait for a server.

    Attributes:
        waits: seconds before each further attempt; counted anew when bytes arrive.
        connect: seconds for a connection.
        read: seconds without a byte.
    """

    waits: tuple[float, ...] = (1.0, 2.0, 4.0)
    connect: float = 15.0
    read: float = 60.0


@contextmanager
def answer_of(
    session: requests.Session, first: str, headers: dict[str, str], patience: Patience
) -> Iterator[tuple[requests.Response, str | None]]:
    """The answer at the end of all redirects: a whole file (200), a part (206), or the refusal of a part (416).

    Yields:
        The answer, its body not read yet, and the SHA-256 of the whole file if Hugging Face states it on the way.

    Raises:
        NotThereError: there is no such file.
        InterruptedDownload: no connection, a time-out, a server that is busy or broken; also while the body is read.
        FetchError: any other answer.
    """
    headers = {"Accept-Encoding": "identity", "User-Agent": f"raycp/{__version__}", **headers}
    try:
        url, sha256 = first, None
        check_url(url, first)
        for _ in range(_MOST_REDIRECTS):
            response = session.get(
                url,
                headers=headers,
                stream=True,
                allow_redirects=False,
                timeout=(patience.connect, patience.read),
            )
            with response:
                # Of a file in large-file storage. The ETag after the redirect need not be that: Hugging Face's newer
                # storage has hashes of its own.
                linked = response.headers.get("X-Linked-Etag", "").strip('"').lower()
                sha256 = linked if _HEX64.fullmatch(linked) else sha256
                if response.is_redirect:
                    url = urljoin(url, response.headers["Location"])
                    check_url(url, first)
                    continue
                _check_status(response, first)
                yield response, sha256
                return
    except requests.exceptions.SSLError as err:
        raise FetchError(f"{first}: the server's certificate is not accepted: {err}.") from err
    except (
        requests.ConnectionError,
        requests.Timeout,
        requests.exceptions.ChunkedEncodingError,
    ) as err:
        raise InterruptedDownload(_reason(url, err)) from err
    except requests.RequestException as err:
        raise FetchError(f"{first}: {err}.") from err
    raise FetchError(f"{first} was redirected more than {_MOST_REDIRECTS} times.")


def check_url(url: str, first: str) -> None:
    """Refuse to go where others could change what is sent: https, or http from this machine to itself.

    Raises:
        FetchError: the URL is of another kind.
    """
    if urlsplit(url).scheme == "https":
        return
    if urlsplit(url).scheme == "http" and _is_loopback(url) and _is_loopback(first):
        return
    how = "is not an https URL" if url == first else f"was redirected to {url}"
    raise FetchError(f"{first} {how}; only https is allowed, and http on this machine itself.")


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_status(response: requests.Response, url: str) -> None:
    status = response.status_code
    if status in (200, 206, 416):
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise FetchError(f"{url}: the server sends it compressed, which was not asked for.")
        return
    said = f"{url}: the server answers {status} {response.reason}"
    if status in (404, 410):
        raise NotThereError(f"{said}: it has no such file.")
    if status in (401, 403):
        raise FetchError(f"{said}: it does not give the file to everybody; look at its page in a browser.")
    if status in (408, 429) or status >= 500:
        raise InterruptedDownload(said)
    raise FetchError(f"{said}.")


def _reason(url: str, err: requests.RequestException) -> str:
    host = urlsplit(url).netloc
    if isinstance(err, requests.exceptions.ProxyError):
        return f"no connection to {host} through the proxy that the environment names"
    # A time-out while the body is read comes as a ConnectionError.
    if isinstance(err, requests.Timeout) or "timed out" in str(err):
        return f"{host} does not answer in time"
    if isinstance(err, requests.exceptions.ChunkedEncodingError):
        return f"the connection to {host} broke off"
    return f"no connection to {host}"
