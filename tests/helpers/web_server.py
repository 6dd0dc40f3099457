"""A server on this machine that gives files as the web does, and misbehaves where a test asks for it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Web:
    """What a server gives, and what it was asked.

    Attributes:
        files: content by path.
        broken: bytes after which the connection ends, by path; used up by one answer.
        halves: bytes after which every connection ends, by path.
        stalled: bytes after which nothing more comes, by path.
        statuses: what a path answers instead of its content, one after another.
        retry_after: seconds that a busy answer asks for.
        ranges: whether it can go on in the middle of a file.
        asked: (path, Range header) of every request for content.
        logins: Authorization header of every request for content.
        cut: paths whose connection ends before what is sent to them was read.
        routes: answers by method and path that a test adds: (status, headers, body).
    """

    files: dict[str, bytes] = field(default_factory=dict)
    broken: dict[str, int] = field(default_factory=dict)
    halves: dict[str, int] = field(default_factory=dict)
    stalled: dict[str, int] = field(default_factory=dict)
    statuses: dict[str, list[int]] = field(default_factory=dict)
    retry_after: str = "0"
    ranges: bool = True
    asked: list[tuple[str, str]] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    cut: set[str] = field(default_factory=set)
    routes: dict[tuple[str, str], Callable[[bytes], tuple[int, dict[str, str], bytes]]] = field(
        default_factory=dict
    )
    address: str = ""

    def url(self, path: str) -> str:
        return f"{self.address}{path}"


@contextmanager
def serving() -> Iterator[Web]:
    """A running server; its address is in `address`."""
    web = Web()

    class Handler(_Handler):
        served = web

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    web.address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield web
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: Web

    def log_message(self, *_: Any) -> None:
        """Tests look at `asked` instead."""

    def do_GET(self) -> None:
        self._give(body=True)

    def do_HEAD(self) -> None:
        self._give(body=False)

    def do_POST(self) -> None:
        self._route("POST")

    def do_PUT(self) -> None:
        self._route("PUT")

    def _route(self, method: str) -> None:
        if self.path in self.served.cut:
            self.close_connection = True
            return
        given = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        route = self.served.routes.get((method, self.path.partition("?")[0]))
        status, headers, body = route(given) if route else (404, {}, b"")
        self._send(status, headers, body)

    def _give(self, *, body: bool) -> None:
        web, path = self.served, self.path.partition("?")[0]
        if body:
            web.logins.append(self.headers.get("Authorization", ""))
        route = web.routes.get(("GET" if body else "HEAD", path))
        if route is not None:
            status, headers, content = route(b"")
            self._send(status, headers, content)
            return
        if body:
            web.asked.append((path, self.headers.get("Range", "")))
        if body and web.statuses.get(path):
            status = web.statuses[path].pop(0)
            self._send(status, {"Retry-After": web.retry_after}, b"")
            return
        content = web.files.get(path)
        if content is None:
            self._send(404, {}, b"")
            return
        tag = f'"{hashlib.md5(content).hexdigest()}"'
        begun = self._begin(len(content), tag)
        if begun > len(content):
            self._send(416, {"Content-Range": f"bytes */{len(content)}"}, b"")
            return
        headers = {"ETag": tag, "Content-Type": "application/octet-stream"}
        if begun:
            headers["Content-Range"] = f"bytes {begun}-{len(content) - 1}/{len(content)}"
        self._send(206 if begun else 200, headers, content[begun:], body=body, path=path)

    def _begin(self, length: int, tag: str) -> int:
        asked = self.headers.get("Range", "")
        same = self.headers.get("If-Range", tag) == tag
        if not (self.served.ranges and same and asked.startswith("bytes=")):
            return 0
        begun = int(asked.removeprefix("bytes=").partition("-")[0])
        return begun if begun < length else length + 1

    def _send(
        self,
        status: int,
        headers: dict[str, str],
        content: bytes,
        *,
        body: bool = True,
        path: str = "",
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if not body or self.command == "HEAD":
            return
        cut = self.served.broken.pop(path, None) or self.served.halves.get(path)
        if path in self.served.stalled:
            self._stall(content[: self.served.stalled[path]])
            return
        self.wfile.write(content if cut is None else content[:cut])
        if cut is not None:
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(1)

    def _stall(self, content: bytes) -> None:
        """Give the beginning and wait until whoever asked is gone."""
        self.wfile.write(content)
        self.wfile.flush()
        self.close_connection = True
        self.connection.settimeout(60)
        with suppress(OSError):
            self.connection.recv(1)
