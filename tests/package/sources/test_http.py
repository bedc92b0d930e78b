from __future__ import annotations

import time

import pytest

from regraft.errors import AccessDenied, LimitExceeded, NetworkFailure, NotFound, Offline
from regraft.package.reader import Meter
from regraft.package.sources import http
from regraft.package.sources.http import HttpClient, client_of


@pytest.fixture
def client():
    return HttpClient(Meter())


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, AccessDenied),
        (403, AccessDenied),
        (404, NotFound),
        (410, NotFound),
        (400, NetworkFailure),
        (500, NetworkFailure),
    ],
)
def test_a_status_becomes_an_error(server, new_page, client, status, error):
    server.pages["/x"] = new_page(b"", status=status)
    with pytest.raises(error) as caught:
        client.get(f"{server.url}/x?signature=secret")
    assert "/x" in caught.value.where
    assert "secret" not in caught.value.where


def test_a_busy_server_is_asked_again_and_a_plain_no_is_not(server, new_page, client):
    server.pages["/x"] = new_page(b"data", failures=3)
    assert client.document(f"{server.url}/x")[0] == b"data"
    assert len(server.requests) == 4
    with pytest.raises(NotFound):
        client.get(f"{server.url}/gone")
    assert len(server.requests) == 5


def test_nobody_listens(client, server):
    with pytest.raises(NetworkFailure) as caught:
        client.get("http://127.0.0.1:9/x")
    assert "refuses" in caught.value.what
    assert caught.value.hint


def test_a_server_that_does_not_answer(server, client, monkeypatch):
    import socket

    monkeypatch.setattr(http, "_READ_SECONDS", 0.1)
    monkeypatch.setattr(http, "_ATTEMPTS", 1)
    http._shared_pool.cache_clear()
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(NetworkFailure, match="in time"):
        client.get(f"http://127.0.0.1:{silent.getsockname()[1]}/")
    http._shared_pool.cache_clear()


def test_redirects_are_followed_and_bounded(server, new_page, client):
    server.pages["/a"] = new_page(status=302, headers={"Location": "/b"})
    server.pages["/b"] = new_page(status=307, headers={"Location": "c"})
    server.pages["/c"] = new_page(b"there")
    answer = client.get(f"{server.url}/a")
    assert (answer.body(10), answer.url) == (b"there", f"{server.url}/c")
    server.pages["/c"] = new_page(status=301, headers={"Location": "/a"})
    with pytest.raises(NetworkFailure, match="redirects"):
        client.get(f"{server.url}/a")


@pytest.mark.parametrize(
    "location", ["https://[::1", "ftp://127.0.0.1/x", "http://a.example/", "http://127.0.0.1:99999/"]
)
def test_redirects_to_nowhere(server, new_page, client, location):
    server.pages["/a"] = new_page(status=302, headers={"Location": location})
    with pytest.raises(NetworkFailure):
        client.get(f"{server.url}/a")


def test_credentials_stay_with_their_host(server, other_server, new_page, client):
    server.pages["/a"] = new_page(status=302, headers={"Location": "/b"})
    server.pages["/b"] = new_page(status=302, headers={"Location": f"{other_server.url}/c"})
    other_server.pages["/c"] = new_page(b"there")
    client.get(f"{server.url}/a", headers={"Authorization": "Bearer s3cret", "X-Other": "1"}).body(10)
    assert [headers.get("authorization") for _, _, headers in server.requests] == ["Bearer s3cret"] * 2
    assert "authorization" not in other_server.requests[0][2]
    assert other_server.requests[0][2]["x-other"] == "1"


def test_credentials_of_an_address_become_a_header(server, new_page, client):
    server.pages["/a"] = new_page(b"", status=500)
    with pytest.raises(NetworkFailure) as caught:
        client.get(server.url.replace("http://", "http://user:pa%20ss@") + "/a")
    assert server.requests[0][2]["authorization"] == "Basic dXNlcjpwYSBzcw=="
    assert "user" not in caught.value.where


def test_where_no_redirect_may_lead(client):
    with pytest.raises(NetworkFailure, match="plain http"):
        http._check_redirect("https://a.example/x", "http://a.example/x")
    with pytest.raises(NetworkFailure, match="this machine"):
        http._check_redirect("https://a.example/x", "https://localhost/x")


def test_a_body_is_bounded(server, new_page, client):
    server.pages["/x"] = new_page(b"x" * 300_000)
    with pytest.raises(LimitExceeded):
        client.get(f"{server.url}/x").body(100_000)


def test_a_gzip_bomb_is_bounded(server, new_page, client, monkeypatch):
    import gzip

    monkeypatch.setattr(http, "MAX_DOCUMENT_BYTES", 1 << 20)
    server.pages["/x"] = new_page(gzip.compress(bytes(64 << 20)), headers={"Content-Encoding": "gzip"})
    with pytest.raises(LimitExceeded):
        client.document(f"{server.url}/x")


def test_a_stream_that_breaks_off_is_resumed(server, new_page, client):
    body = bytes(range(256)) * 4000
    server.pages["/x"] = new_page(body, etag='"1"', cut_after=300_000, cuts=2)
    assert b"".join(client.stream(f"{server.url}/x")) == body
    # whole pieces of 256 KiB were taken in before the break
    assert server.requests[1][2]["range"] == "bytes=262144-"
    assert server.requests[1][2]["if-range"] == '"1"'


def test_a_stream_is_resumed_without_ranges_too(server, new_page, client):
    body = bytes(range(256)) * 4000
    server.pages["/x"] = new_page(body, etag='"1"', ranges=False, cut_after=300_000, cuts=1)
    assert b"".join(client.stream(f"{server.url}/x")) == body


def test_a_stream_that_changed_is_not_resumed(server, new_page, client):
    server.pages["/x"] = new_page(b"a" * 500_000, etag='"1"', cut_after=300_000, cuts=1)
    pieces = client.stream(f"{server.url}/x")
    next(pieces)
    server.pages["/x"] = new_page(b"b" * 500_000, etag='"2"')
    with pytest.raises(NetworkFailure, match="broke off"):
        list(pieces)


def test_a_stream_is_bounded(server, new_page, client):
    server.pages["/x"] = new_page(b"x" * 600_000)
    with pytest.raises(LimitExceeded):
        list(client.stream(f"{server.url}/x", limit=500_000))


def test_offline_gives_no_client():
    with pytest.raises(Offline) as caught:
        client_of(Meter(), offline=True, where="pypi://x")
    assert caught.value.hint == "regraft fetch pypi://x"


def test_waiting_between_attempts_is_bounded(monkeypatch):
    waited = []
    monkeypatch.setattr(time, "sleep", waited.append)
    http._pause(0, "99999999")
    http._pause(0, "Wed, 21 Oct 2015 07:28:00 GMT")
    assert waited[0] == 10
    assert waited[1] < 1


def test_a_proxy_of_the_environment_is_used(server, new_page, client, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv("PIP_TRUSTED_HOST", "a.example")
    monkeypatch.setenv("no_proxy", "b.example")
    server.pages["/x"] = new_page(b"by proxy")
    assert client.document("http://a.example/x")[0] == b"by proxy"


def test_a_certificate_that_nobody_vouches_for(client, tmp_path, monkeypatch):
    """A TLS server with a certificate of its own is refused; with SSL_CERT_FILE it is trusted."""
    import ssl
    import subprocess
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "cert")],
        check=True, capture_output=True,
    )  # fmt: skip

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    tls = HTTPServer(("127.0.0.1", 0), Handler)
    tls.socket = context.wrap_socket(tls.socket, server_side=True)
    threading.Thread(target=tls.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    url = f"https://localhost:{tls.server_port}/x"
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    try:
        with pytest.raises(NetworkFailure) as caught:
            client.get(url)
        assert "SSL_CERT_FILE" in caught.value.hint
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert"))
        assert client.get(url).body(9) == b"ok"
    finally:
        tls.shutdown()
        tls.server_close()
