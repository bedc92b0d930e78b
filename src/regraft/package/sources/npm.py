"""Packages of an npm registry: the tarball is fetched whole, checked, and read as an archive; no script is run."""

from __future__ import annotations

import base64
import binascii
import difflib
import os
import re
from collections.abc import Mapping
from urllib.parse import quote

import msgspec

from regraft.errors import NetworkFailure, NotFound
from regraft.package.reference import ModelRef
from regraft.package.sources.address import origin_of, printable, split_credentials
from regraft.package.sources.archive_tree import open_archive_tree
from regraft.package.sources.download import download
from regraft.package.sources.http import client_of, parse_document
from regraft.package.sources.interface import SourceOptions, Tree

_DEFAULT_REGISTRY = "https://registry.npmjs.org"
_ACCEPT = "application/vnd.npm.install-v1+json, application/json;q=0.5"
_EXACT = re.compile(r"\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?")
_STRENGTHS = ("sha512", "sha384", "sha256")
_SHOWN = 8


class _Dist(msgspec.Struct):
    tarball: str
    integrity: str = ""
    shasum: str = ""


class _Version(msgspec.Struct):
    dist: _Dist


class _Packument(msgspec.Struct):
    versions: dict[str, _Version]
    tags: dict[str, str] = msgspec.field(name="dist-tags", default_factory=dict)


class NpmSource:
    """`npm://@scope/name@version`, from the registry that npm_config_registry names."""

    def origin(self, ref: ModelRef) -> str:
        """See `RemoteSource.origin`."""
        return printable(_registry_url())

    def is_exact(self, ref: ModelRef) -> bool:
        """A full version never gets other content; a tag such as `latest` does."""
        return ref.revision is not None and _EXACT.fullmatch(ref.revision) is not None

    def open_tree(self, ref: ModelRef, options: SourceOptions) -> Tree:
        """Choose the version, fetch its tarball and list it.

        Raises:
            NotFound: no such package, version or tag; the hint names near ones.
            DigestMismatch: the tarball does not have the declared integrity.
        """
        client = client_of(options.traffic, offline=options.offline, where=str(ref))
        registry, headers = split_credentials(_registry_url())
        url = f"{registry.rstrip('/')}/{quote(ref.location, safe='@')}"
        try:
            body, _ = client.document(url, headers={"Accept": _ACCEPT, **headers})
        except NotFound:
            raise NotFound(
                f"the registry has no package {ref.location!r}", where=str(ref), hint=f"look at {printable(url)}"
            ) from None
        packument: _Packument = parse_document(body, _Packument, where=url)
        version = _choose(packument, ref)
        dist = packument.versions[version].dist
        reader, sha256 = download(
            client,
            dist.tarball,
            options=options,
            headers=headers if origin_of(dist.tarball) == origin_of(registry) else {},
            declared=_declared(dist, str(ref)),
            where=str(ref),
        )
        archive = dist.tarball.partition("?")[0].rsplit("/", 1)[-1]
        return open_archive_tree(msgspec.structs.replace(ref, revision=version, archive=archive, sha256=sha256), reader)


def _registry_url() -> str:
    named = os.environ.get("npm_config_registry") or os.environ.get("NPM_CONFIG_REGISTRY")  # noqa: SIM112 - npm's name
    return named or _DEFAULT_REGISTRY


def _choose(packument: _Packument, ref: ModelRef) -> str:
    wanted = ref.revision or "latest"
    version = packument.tags.get(wanted, wanted)
    if version in packument.versions:
        return version
    newest = sorted(packument.versions, key=_order, reverse=True)
    close = difflib.get_close_matches(wanted, newest, n=3, cutoff=0.6)
    nearest = f"nearest: {', '.join(close)}; " if close else ""
    raise NotFound(
        f"there is no version {wanted}", where=str(ref), hint=f"{nearest}newest: {', '.join(newest[:_SHOWN])}"
    )


def _order(version: str) -> tuple[bool, list[int]]:
    """Enough of semantic versioning to list the newest first: finals over pre-releases, then by number."""
    numbers = re.findall(r"\d{1,9}", version.partition("-")[0])
    return "-" not in version, [int(number) for number in numbers]


def _declared(dist: _Dist, where: str) -> Mapping[str, str]:
    """The strongest digest that is declared, as hexadecimal. Source: W3C Subresource Integrity, 3.5."""
    found = dict(reversed([item.partition("-")[::2] for item in dist.integrity.split()]))
    for algorithm in _STRENGTHS:
        if algorithm in found:
            try:
                return {algorithm: base64.b64decode(found[algorithm].partition("?")[0], validate=True).hex()}
            except binascii.Error as error:
                raise NetworkFailure("the registry declares an integrity that is no base64", where=where) from error
    if re.fullmatch(r"[0-9a-fA-F]{40}", dist.shasum):
        return {"sha1": dist.shasum}
    raise NetworkFailure("the registry declares no integrity for the tarball", where=where)
