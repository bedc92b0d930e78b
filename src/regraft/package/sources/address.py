"""Addresses: which may be asked, whom credentials are meant for, and what of them may be printed."""

from __future__ import annotations

import contextlib
import ipaddress
import os
from urllib.parse import unquote, urlsplit, urlunsplit

from regraft.errors import NetworkFailure


def check_address(url: str) -> None:
    """Refuse an address that nobody should be asked at.

    Raises:
        NetworkFailure: neither https, nor http on this machine or on a host of PIP_TRUSTED_HOST.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise NetworkFailure(f"the address makes no sense: {error}", where=printable(url)) from error
    if parts.scheme == "https" and host:
        return
    if parts.scheme != "http" or not host:
        raise NetworkFailure(f"{parts.scheme or 'this'} is no address for a request", where=printable(url))
    if not (is_loopback(host) or host in os.environ.get("PIP_TRUSTED_HOST", "").split()):
        raise NetworkFailure(
            "plain http lets anybody on the way change the bytes",
            where=printable(url),
            hint="use https; or, for a host of your own, export PIP_TRUSTED_HOST=" + host,
        )


def is_loopback(host: str) -> bool:
    """Whether a host name is this machine by its very name, without asking a resolver."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost" or host.endswith(".localhost")


def origin_of(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port: whom credentials are meant for."""
    parts = urlsplit(url)
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    return parts.scheme, parts.hostname or "", port


def printable(url: str) -> str:
    """An address without credentials and without the query that may hold a signature."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return repr(url[:80])
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def split_credentials(url: str) -> tuple[str, dict[str, str]]:
    """`user:password@` of an address as a header, so that it never reaches a message or another host."""
    parts = urlsplit(url)
    name, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, {}
    import urllib3

    secret = urllib3.make_headers(basic_auth=unquote(name))["authorization"]
    return urlunsplit(parts._replace(netloc=host)), {"Authorization": secret}
