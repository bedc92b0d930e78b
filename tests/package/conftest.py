"""A stand-in server on loopback: documents with and without ranges, faults on demand, CGI for git."""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest


@dataclass
class Page:
    """What a path answers with."""

    body: bytes = b""
    media_type: str = "application/octet-stream"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    etag: str | None = None
    ranges: bool = True
    cut_after: int | None = None
    """Close the connection after so many bytes of a body, `cuts` times."""
    cuts: int = 0
    failures: int = 0
    """Answer 503 so many times first."""
    token: str | None = None
    """Answer 401 without this bearer token."""
    delay_s: float = 0.0
    """Wait so long after each 64 KiB."""


@dataclass
class StandIn:
    url: str
    pages: dict[str, Page] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    sent_bytes: int = 0
    posts: dict[str, Callable[[bytes], Page]] = field(default_factory=dict)
    git_root: Path | None = None

    def paths(self) -> list[str]:
        return [path for _, path, _ in self.requests]


def _handler(server: StandIn) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args):
            pass

        def do_HEAD(self):
            self.do_GET()

        def do_GET(self):
            path = urlsplit(self.path).path
            server.requests.append((self.command, path, {k.lower(): v for k, v in self.headers.items()}))
            if server.git_root is not None and path.startswith("/git/"):
                return self._cgi(b"")
            return self._answer(server.pages.get(path, Page(b"no", status=404)))

        def do_POST(self):
            path = urlsplit(self.path).path
            body = self._body()
            server.requests.append(("POST", path, {k.lower(): v for k, v in self.headers.items()}))
            if path in server.posts:
                return self._answer(server.posts[path](body))
            if server.git_root is not None and path.startswith("/git/"):
                return self._cgi(body)
            return self._answer(Page(b"no", status=404))

        def _body(self):
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = b""
                while size := int(self.rfile.readline().strip(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return body
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def _answer(self, page):
            if page.failures:
                page.failures -= 1
                page = Page(b"busy", status=503, headers={"Retry-After": "0"})
            if page.token and self.headers.get("Authorization") != f"Bearer {page.token}":
                page = Page(b"who are you", status=401)
            body, status, headers = page.body, page.status, dict(page.headers)
            if page.etag:
                headers["ETag"] = page.etag
            wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            condition = self.headers.get("If-Range")
            if wanted and page.ranges and status == 200 and (condition is None or condition == page.etag):
                first, last = int(wanted[1]), min(int(wanted[2] or len(body)), len(body) - 1)
                if first >= len(body):
                    status, body = 416, b""
                    headers["Content-Range"] = f"bytes */{len(page.body)}"
                else:
                    status, body = 206, body[first : last + 1]
                    headers["Content-Range"] = f"bytes {first}-{last}/{len(page.body)}"
            self.send_response(status)
            self.send_header("Content-Type", page.media_type)
            self.send_header("Content-Length", str(len(body)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "HEAD":
                return
            if page.cuts and page.cut_after is not None and len(body) > page.cut_after:
                page.cuts -= 1
                self.wfile.write(body[: page.cut_after])
                self.wfile.flush()
                server.sent_bytes += page.cut_after
                self.close_connection = True
                return
            for start in range(0, len(body), 65536 if page.delay_s else len(body) or 1):
                piece = body[start : start + 65536] if page.delay_s else body
                self.wfile.write(piece)
                server.sent_bytes += len(piece)
                time.sleep(page.delay_s)

        def _cgi(self, body):
            parts = urlsplit(self.path)
            environment = {
                "PATH": os.environ["PATH"],
                "GIT_PROJECT_ROOT": str(server.git_root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "PATH_INFO": parts.path.removeprefix("/git"),
                "QUERY_STRING": parts.query,
                "REQUEST_METHOD": self.command,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": str(len(body)),
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "REMOTE_ADDR": "127.0.0.1",
            }
            done = subprocess.run(
                ["git", "http-backend"], input=body, env=environment, capture_output=True, check=False
            )
            head, _, content = done.stdout.partition(b"\r\n\r\n")
            fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
            status = int(fields.pop("Status", "200").split(" ")[0])
            self._answer(Page(content, fields.pop("Content-Type", ""), status, fields, ranges=False))

    return Handler


class _Quiet(ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        """Clients that hang up are what is tested."""


def _started() -> tuple[ThreadingHTTPServer, StandIn]:
    stand_in = StandIn("")
    http = _Quiet(("127.0.0.1", 0), _handler(stand_in))
    http.daemon_threads = True
    stand_in.url = f"http://127.0.0.1:{http.server_port}"
    threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    return http, stand_in


@pytest.fixture
def new_page() -> type[Page]:
    return Page


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """A server of our own; nothing in the environment leads elsewhere, and nobody waits between attempts."""
    _calm(monkeypatch)
    http, stand_in = _started()
    yield stand_in
    http.shutdown()
    http.server_close()


@pytest.fixture
def other_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """Another origin than `server`."""
    _calm(monkeypatch)
    http, stand_in = _started()
    yield stand_in
    http.shutdown()
    http.server_close()


def _calm(monkeypatch: pytest.MonkeyPatch) -> None:
    from regraft.package.sources import http as client

    monkeypatch.setattr(client, "_BACKOFF_SECONDS", 0.0)
    for name in (
        "http_proxy",
        "https_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "all_proxy",
        "PIP_TRUSTED_HOST",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def make_wheel() -> Callable[..., bytes]:
    """A wheel with a RECORD: name → content."""
    import base64
    import hashlib
    import io
    import zipfile

    def build(files: dict[str, bytes], *, wrong: str | None = None, deflate: bool = True) -> bytes:
        record = "".join(
            f"{name},sha256="
            + base64.urlsafe_b64encode(hashlib.sha256(b"other" if name == wrong else data).digest())
            .rstrip(b"=")
            .decode()
            + f",{len(data)}\n"
            for name, data in files.items()
        )
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
            archive.writestr("demo-1.0.dist-info/RECORD", record + "demo-1.0.dist-info/RECORD,,\n")
        return out.getvalue()

    return build


@pytest.fixture
def make_tarball() -> Callable[[dict[str, bytes]], bytes]:
    import io
    import tarfile

    def build(files: dict[str, bytes]) -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:gz") as archive:
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        return out.getvalue()

    return build
