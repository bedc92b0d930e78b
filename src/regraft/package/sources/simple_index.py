"""The page of one project in a Python package index: JSON (PEP 691, 700), or HTML (PEP 503) where that is all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html.parser import HTMLParser
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import msgspec

from regraft.errors import NetworkFailure
from regraft.package.sources.address import printable
from regraft.package.sources.http import HttpClient, parse_document

_ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
_SHA256 = re.compile(r"[0-9a-f]{64}")


class IndexFile(msgspec.Struct, frozen=True):
    """One file of a project.

    Attributes:
        name: file name.
        url: absolute address.
        sha256: declared digest, None when the index declares none.
        size_bytes: declared size, None when it declares none.
        is_yanked: withdrawn by its author.
    """

    name: str
    url: str
    sha256: str | None = None
    size_bytes: int | None = None
    is_yanked: bool = False


class _JsonFile(msgspec.Struct):
    filename: str
    url: str
    hashes: dict[str, str] = {}
    size: int | None = None
    yanked: bool | str = False


class _JsonPage(msgspec.Struct):
    files: list[_JsonFile]


def read_index_page(client: HttpClient, url: str, *, headers: dict[str, str]) -> Sequence[IndexFile]:
    """The files of a project.

    Raises:
        NotFound: the index has no such project. AccessDenied, NetworkFailure, LimitExceeded: see `HttpClient`.
    """
    body, media_type = client.document(url, headers={"Accept": _ACCEPT, **headers})
    if media_type.endswith("json"):
        page: _JsonPage = parse_document(body, _JsonPage, where=url)
        return [
            IndexFile(
                file.filename,
                urljoin(url, file.url),
                _sha256(file.hashes.get("sha256")),
                file.size,
                file.yanked is not False,
            )
            for file in page.files
        ]
    if media_type.endswith("html"):
        parser = _Anchors()
        parser.feed(body.decode("utf-8", "replace"))
        return [_from_anchor(url, attributes) for attributes in parser.found if attributes.get("href")]
    raise NetworkFailure(
        f"the index answers with {media_type or 'something unnamed'}, neither JSON nor HTML", where=printable(url)
    )


class _Anchors(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[dict[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found.append({name: value or "" for name, value in attrs})


def _from_anchor(page: str, attributes: dict[str, str]) -> IndexFile:
    url, fragment = urldefrag(urljoin(page, attributes["href"]))
    algorithm, _, value = fragment.partition("=")
    name = unquote(urlsplit(url).path.rsplit("/", 1)[-1])
    return IndexFile(name, url, _sha256(value if algorithm == "sha256" else None), None, "data-yanked" in attributes)


def _sha256(text: str | None) -> str | None:
    return text.lower() if text and _SHA256.fullmatch(text.lower()) else None
