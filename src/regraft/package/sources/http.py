"""The one HTTP client: verified TLS, proxies of the environment, bounded bodies, retries, careful redirects."""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urljoin, urlsplit

import msgspec

from regraft.errors import AccessDenied, LimitExceeded, NetworkFailure, NotFound, Offline
from regraft.package.reader import Meter
from regraft.package.sources.address import check_address, is_loopback, origin_of, printable, split_credentials
from regraft.version import __version__

if TYPE_CHECKING:
    import ssl

    import urllib3

MAX_DOCUMENT_BYTES = 64 << 20
"""An answer that is parsed: an index page, a packument."""
MAX_DOWNLOAD_BYTES = 64 << 30
"""A file that is fetched whole."""

_ATTEMPTS = 4
_BACKOFF_SECONDS = 0.2
_MAX_WAIT_SECONDS = 10.0
_CONNECT_SECONDS = 10.0
_READ_SECONDS = 60.0
_MAX_REDIRECTS = 10
_PIECE_BYTES = 256 << 10
_PROGRESS_BYTES = 16 << 20
"""Received since the last break, so that the attempts are counted anew."""
_AGAIN = frozenset({429, 500, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SECRET = frozenset({"authorization", "cookie", "proxy-authorization"})


class StatusFailure(NetworkFailure):
    """The server answered with a status that is neither success nor a plain no."""

    def __init__(self, status: int, url: str) -> None:
        super().__init__(f"the server answers {status}", where=printable(url), hint="try again later")
        self.status = status


class TransientFailure(NetworkFailure):
    """A failure that another attempt may not see."""


class Answer:
    """A response whose body has not been read yet.

    Attributes:
        url: where it finally came from, behind all redirects.
        status: 200 or 206.
        headers: names in lower case.
    """

    def __init__(self, response: urllib3.BaseHTTPResponse, url: str, traffic: Meter) -> None:
        self._response = response
        self._traffic = traffic
        self._counted = 0
        self.url = url
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.headers.items()}

    def pieces(self) -> Iterator[bytes]:
        """The body as it arrives.

        Raises:
            NetworkFailure: the connection broke.
        """
        with _told(self.url):
            while piece := self._response.read(_PIECE_BYTES, decode_content=True):
                self._traffic.bytes_read += self._response.tell() - self._counted
                self._counted = self._response.tell()
                yield piece

    def body(self, limit: int) -> bytes:
        """The whole body.

        Raises:
            LimitExceeded: more than `limit` bytes. NetworkFailure: the connection broke.
        """
        data = bytearray()
        for piece in self.pieces():
            data += piece
            if len(data) > limit:
                self.discard()
                raise LimitExceeded(f"the answer has more than {limit} bytes", where=printable(self.url))
        self._response.release_conn()
        return bytes(data)

    def discard(self) -> None:
        """Drop what was not read, and the connection with it."""
        self._response.close()


class HttpClient:
    """Requests that may be repeated: GET, and POST where the caller says that it changes nothing.

    Args:
        traffic: counts the bytes of bodies that were received.
    """

    def __init__(self, traffic: Meter) -> None:
        self.traffic = traffic

    def get(self, url: str, *, headers: Mapping[str, str] | None = None) -> Answer:
        """Ask for a document or a part of one. The caller reads or discards the answer.

        Redirects are followed up to 10 times, never from https to http; credentials in `headers` go to the
        host they were meant for alone. A server that is busy or breaks off is asked four times.

        Raises:
            AccessDenied: 401, 403 or 407. NotFound: 404 or 410.
            NetworkFailure: refused, timed out, no valid certificate, any other status, too many redirects.
        """
        return self._ask("GET", url, dict(headers or {}), None)

    def post(self, url: str, data: bytes, *, headers: Mapping[str, str] | None = None) -> Answer:
        """Ask a question that has a body. As `get`."""
        return self._ask("POST", url, dict(headers or {}), data)

    def document(self, url: str, *, headers: Mapping[str, str] | None = None) -> tuple[bytes, str]:
        """The body of a document, bounded and complete, and its media type.

        Raises:
            As `get`; LimitExceeded: more than 64 MiB.
        """
        for attempt in range(_ATTEMPTS):
            answer = self.get(url, headers={"Accept-Encoding": "gzip", **(headers or {})})
            try:
                body = answer.body(MAX_DOCUMENT_BYTES)
            except TransientFailure:
                if attempt == _ATTEMPTS - 1:
                    raise
                _pause(attempt, None)
                continue
            return body, answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        raise AssertionError("unreachable")

    def stream(
        self, url: str, *, headers: Mapping[str, str] | None = None, limit: int = MAX_DOWNLOAD_BYTES
    ) -> Iterator[bytes]:
        """A whole file, in order. A connection that breaks off is resumed where the server can do that.

        Raises:
            As `get`; LimitExceeded: more than `limit` bytes.
        """
        received = start = 0
        mark: str | None = None
        failures = 0
        while True:
            resume = {"Range": f"bytes={received}-", "If-Range": mark} if received and mark else {}
            answer = self.get(url, headers={"Accept-Encoding": "identity", **(headers or {}), **resume})
            if received and (mark is None or mark != validator(answer.headers)):
                answer.discard()
                raise NetworkFailure("the file broke off and cannot be resumed", where=printable(url), hint="try again")
            mark = validator(answer.headers)
            skip = 0 if answer.status == 206 else received
            try:
                for piece in answer.pieces():
                    fresh = piece[skip:]
                    skip = max(0, skip - len(piece))
                    received += len(fresh)
                    if received > limit:
                        answer.discard()
                        raise LimitExceeded(f"the file has more than {limit} bytes", where=printable(url))
                    if fresh:
                        yield fresh
            except TransientFailure:
                failures = 1 if received - start >= _PROGRESS_BYTES else failures + 1
                start = received
                if failures == _ATTEMPTS:
                    raise
                _pause(failures, None)
                continue
            return

    def _ask(self, method: str, url: str, headers: dict[str, str], data: bytes | None) -> Answer:
        url, credentials = split_credentials(url)
        headers = {"User-Agent": f"regraft/{__version__}", **credentials, **headers}
        for _ in range(_MAX_REDIRECTS + 1):
            response = self._send(method, url, headers, data)
            location = response.headers.get("location")
            if response.status not in _REDIRECTS or not location:
                return self._accept(response, url)
            response.close()
            onward = _onward(url, location)
            if origin_of(url) != origin_of(onward):
                headers = {name: value for name, value in headers.items() if name.lower() not in _SECRET}
            url = onward
        raise NetworkFailure(
            f"more than {_MAX_REDIRECTS} redirects", where=printable(url), hint="the server goes in circles"
        )

    def _send(self, method: str, url: str, headers: Mapping[str, str], data: bytes | None) -> urllib3.BaseHTTPResponse:
        check_address(url)
        for attempt in range(_ATTEMPTS):
            is_last = attempt == _ATTEMPTS - 1
            try:
                with _told(url):
                    response = _pool(url).request(
                        method, url, headers=headers, body=data, redirect=False, retries=False, preload_content=False
                    )
            except TransientFailure:
                if is_last:
                    raise
                _pause(attempt, None)
                continue
            if response.status not in _AGAIN or is_last:
                return response
            response.close()
            _pause(attempt, response.headers.get("retry-after"))
        raise AssertionError("unreachable")

    def _accept(self, response: urllib3.BaseHTTPResponse, url: str) -> Answer:
        status, where = response.status, printable(url)
        if status in (200, 206):
            return Answer(response, url, self.traffic)
        response.close()
        if status in (401, 403, 407):
            raise AccessDenied(f"the server answers {status}: no access", where=where, hint="it may need credentials")
        if status in (404, 410):
            raise NotFound(f"the server answers {status}: there is nothing", where=where)
        raise StatusFailure(status, url)


def client_of(traffic: Meter, *, offline: bool, where: str) -> HttpClient:
    """A client, unless the network is forbidden.

    Raises:
        Offline: `offline` is set.
    """
    if offline:
        raise Offline("this needs the network, which --offline forbids", where=where, hint=f"regraft fetch {where}")
    return HttpClient(traffic)


def validator(headers: Mapping[str, str]) -> str | None:
    """What If-Range may name: a strong ETag, else a date. Source: RFC 9110, 13.1.5."""
    etag = headers.get("etag", "")
    return etag if etag and not etag.startswith("W/") else headers.get("last-modified")


def parse_document(body: bytes, shape: type[msgspec.Struct], *, where: str) -> Any:
    """JSON from a server as the struct that it should be.

    Raises:
        NetworkFailure: it is something else.
    """
    try:
        return msgspec.json.decode(body, type=shape)
    except (ValueError, RecursionError) as error:
        raise NetworkFailure(f"the server's answer cannot be understood: {error}", where=printable(where)) from error


def _onward(url: str, location: str) -> str:
    """Where a redirect leads, if one may go there."""
    try:
        onward = urljoin(url, location)
    except ValueError as error:
        raise NetworkFailure("the server redirects to something that is no address", where=printable(url)) from error
    check_address(onward)
    _check_redirect(url, onward)
    return onward


def _check_redirect(url: str, onward: str) -> None:
    if urlsplit(url).scheme == "https" and urlsplit(onward).scheme != "https":
        raise NetworkFailure("the server redirects from https to plain http", where=printable(url))
    if is_loopback(urlsplit(onward).hostname or "") and not is_loopback(urlsplit(url).hostname or ""):
        raise NetworkFailure("a server elsewhere redirects to this machine", where=printable(url))


def _pause(attempt: int, retry_after: str | None) -> None:
    asked = float(retry_after) if retry_after and retry_after.isdecimal() else 0.0
    time.sleep(min(max(asked, _BACKOFF_SECONDS * 2**attempt), _MAX_WAIT_SECONDS))


@contextlib.contextmanager
def _told(url: str) -> Iterator[None]:
    """Turn what urllib3 raises into a NetworkFailure that says what to do."""
    import urllib3.exceptions as failures

    try:
        yield
    except failures.SSLError as error:
        raise NetworkFailure(
            f"no trusted connection: {error}",
            where=printable(url),
            hint="behind a proxy that re-signs, export SSL_CERT_FILE with its certificate",
        ) from error
    except failures.NameResolutionError as error:
        raise _transient("the host name cannot be resolved", url, "check the name, and that you are online") from error
    except failures.NewConnectionError as error:
        raise _transient(
            "the server refuses the connection", url, "check the address, and that you are online"
        ) from error
    except (failures.ConnectTimeoutError, failures.ReadTimeoutError) as error:
        raise _transient("the server does not answer in time", url, "try again, or check the proxy settings") from error
    except (failures.ProtocolError, failures.ProxyError) as error:
        raise _transient(f"the connection broke: {error}", url, "try again, or check the proxy settings") from error
    except (failures.HTTPError, ValueError, OSError) as error:
        raise NetworkFailure(f"the request failed: {error}", where=printable(url)) from error


def _transient(what: str, url: str, hint: str) -> TransientFailure:
    return TransientFailure(what, where=printable(url), hint=hint)


def _pool(url: str) -> urllib3.PoolManager:
    """Connections for an address: direct ones, or through the proxy that the environment names for it."""
    import urllib.request

    parts = urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy and urllib.request.proxy_bypass(parts.hostname or ""):
        proxy = None
    certificates = (os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
    is_tls = parts.scheme == "https" or (proxy or "").startswith("https:")
    return _shared_pool(proxy, certificates if is_tls else None)


@functools.cache
def _shared_pool(proxy: str | None, certificates: tuple[str | None, str | None] | None) -> urllib3.PoolManager:
    import urllib3

    options: dict[str, Any] = {"timeout": urllib3.Timeout(connect=_CONNECT_SECONDS, read=_READ_SECONDS)}
    if certificates is not None:
        options["ssl_context"] = _trust(certificates)
    if proxy is None:
        return urllib3.PoolManager(**options)
    secret = unquote(urlsplit(proxy).netloc.rpartition("@")[0])
    headers = urllib3.make_headers(proxy_basic_auth=secret) if secret else None
    return urllib3.ProxyManager(proxy, proxy_headers=headers, **options)


def _trust(certificates: tuple[str | None, str | None]) -> ssl.SSLContext:
    """The system's certificates, or those that SSL_CERT_FILE and SSL_CERT_DIR name instead."""
    import ssl

    context = ssl.create_default_context()
    if not any(certificates) and not context.cert_store_stats()["x509_ca"]:
        with contextlib.suppress(ImportError):  # an interpreter that came without any
            import certifi

            context.load_verify_locations(certifi.where())
    return context
