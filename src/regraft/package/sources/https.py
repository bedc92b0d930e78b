"""One file behind an address: read by ranges; with `#inside`, the members of the archive that it is."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from regraft.package.reference import ModelRef
from regraft.package.sources.archive_tree import open_archive_tree
from regraft.package.sources.http import client_of
from regraft.package.sources.http_reader import HttpReader
from regraft.package.sources.interface import Entry, SourceOptions, Tree
from regraft.package.sources.listed_tree import ListedTree


class HttpsSource:
    """`https://host/path/file`; http only on this machine or on a host that the environment trusts."""

    def origin(self, ref: ModelRef) -> str:
        """See `RemoteSource.origin`: the address itself says whom."""
        return ""

    def is_exact(self, ref: ModelRef) -> bool:
        """What lies behind an address may change."""
        return False

    def open_tree(self, ref: ModelRef, options: SourceOptions) -> Tree:
        """Ask for the file's size and first bytes.

        Raises:
            NotFound, AccessDenied, NetworkFailure: the server does not give it.
            NotFound: something inside is named and the file is no archive.
        """
        client = client_of(options.traffic, offline=options.offline, where=str(ref))
        url = f"{ref.scheme}://{ref.location}"
        name = file_name(url)
        reader = HttpReader(client, url, where=name)
        if ref.inside is not None:
            return open_archive_tree(ref, reader)
        entry = Entry(name, reader.size)
        return ListedTree(ref, [entry], lambda _: reader.section(0, reader.size), on_close=reader.close)


def file_name(url: str) -> str:
    """The last part of an address as the name of a file."""
    name = unquote(urlsplit(url).path).rstrip("/").rsplit("/", 1)[-1]
    return "content" if name in ("", ".", "..") else name
