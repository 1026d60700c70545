"""A server of files on this machine that can be told to misbehave."""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BLOCK = 2**14


@dataclass
class Fault:
    """How one answer goes wrong.

    Attributes:
        status: answered instead of the file.
        cut: bytes of the body after which the connection is closed.
        hang: seconds without a byte, after `cut` of them.
    """

    status: int | None = None
    cut: int | None = None
    hang: float = 0.0


@dataclass
class Served:
    """A file, and how it is served.

    Attributes:
        body: its bytes.
        etag: as sent; None: not sent.
        ranges: whether parts can be asked for.
        if_range: whether If-Range is obeyed.
        length: how the length is told: `plain`, `chunked`, or not at all (`close`).
        headers: further ones.
        redirect: where to go instead.
        content_range: sent in place of the true one.
        pause: seconds between blocks.
        faults: for the next answers, in turn.
    """

    body: bytes = b""
    etag: str | None = '"1"'
    ranges: bool = True
    if_range: bool = True
    length: str = "plain"
    headers: dict[str, str] = field(default_factory=dict)
    redirect: str | None = None
    content_range: str | None = None
    pause: float = 0.0
    faults: deque[Fault] = field(default_factory=deque)


class FileServer:
    """The server: `files` by path, `asked` with the headers of each request."""

    def __init__(self) -> None:
        self.files: dict[str, Served] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        handler = type("Handler", (_Handler,), {"file_server": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}{path}"

    def serve(self, path: str, served: Served) -> str:
        """Serve a file; returns its URL."""
        self.files[path] = served
        return self.url(path)

    @property
    def ranges(self) -> list[str | None]:
        """The Range header of each request."""
        return [headers.get("Range") for _, headers in self.asked]

    @contextmanager
    def running(self) -> Iterator[FileServer]:
        self._thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    file_server: FileServer

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.file_server.asked.append((self.path, dict(self.headers.items())))
        self.close_connection = True
        served = self.file_server.files.get(self.path)
        if served is None:
            self._answer(404, {"Content-Length": "0"})
            return
        fault = served.faults.popleft() if served.faults else Fault()
        if fault.status is not None:
            self._answer(fault.status, {"Content-Length": "0"})
            return
        headers = dict(served.headers)
        if served.redirect is not None:
            self._answer(302, headers | {"Location": served.redirect, "Content-Length": "0"})
            return
        if served.etag is not None:
            headers["ETag"] = served.etag
        with suppress(ConnectionError):  # a client that has seen enough
            self._send(served, fault, headers)

    def _send(self, served: Served, fault: Fault, headers: dict[str, str]) -> None:
        body, status = served.body, 200
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        same = not served.if_range or self.headers.get("If-Range", served.etag) == served.etag
        if wanted and served.ranges and same:
            first, last = int(wanted[1]), min(int(wanted[2] or 10**12), len(body) - 1)
            if first > last:
                self._answer(416, headers | {"Content-Range": f"bytes */{len(body)}", "Content-Length": "0"})
                return
            true = f"bytes {first}-{last}/{len(body)}"
            headers["Content-Range"] = served.content_range or true
            body, status = body[first : last + 1], 206
        if served.length == "plain":
            headers.setdefault("Content-Length", str(len(body)))
        elif served.length == "chunked":
            headers["Transfer-Encoding"] = "chunked"
        self._answer(status, headers)
        end = len(body) if fault.cut is None else fault.cut
        for start in range(0, end, BLOCK):
            block = body[start : min(end, start + BLOCK)]
            if served.length == "chunked":
                block = b"%x\r\n%s\r\n" % (len(block), block)
            self.wfile.write(block)
            time.sleep(served.pause)
        if fault.hang:
            self.wfile.flush()
            time.sleep(fault.hang)
        if served.length == "chunked" and fault.cut is None:
            self.wfile.write(b"0\r\n\r\n")

    def _answer(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
