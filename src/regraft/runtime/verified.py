"""The bytes that are loaded are the bytes that were scanned: files of a package, hashed as they are handed out."""

from __future__ import annotations

import hashlib
import posixpath
from pathlib import Path

from regraft.errors import Damaged, DigestMismatch, LimitExceeded, NotFound, PermitRefused
from regraft.package.formats import Loading
from regraft.package.manifest import Manifest
from regraft.package.package import Package
from regraft.record.digest import Digest, digest_bytes
from regraft.record.permit import Permit, Scope
from regraft.runtime.launch import is_confined

MAX_MODEL_BYTES = 32 << 30
"""A file that a runtime reads into memory."""


class VerifiedFiles:
    """Hands out whole files of a package. What may execute code is refused without a permit for this very package.

    Args:
        package: open package.
        permit: leave from scan evidence; None allows inert formats only.
    Raises:
        PermitRefused: the permit is for other bytes.
    """

    def __init__(self, package: Package, permit: Permit | None = None) -> None:
        self.package = package
        self.permit = permit
        self.digests: dict[str, Digest] = {}
        self._sizes = {entry.path: entry.size_bytes for entry in package.entries if entry.obstacle is None}
        self._declared = {entry.path: entry.sha256 for entry in package.entries}
        if permit is not None:
            self._declared |= _permitted(package.manifest(), permit, str(package.ref))

    @property
    def where(self) -> str:
        """How errors name the package."""
        return str(self.package.ref)

    @property
    def is_values_only(self) -> bool:
        """May what executes code be opened by the restricted unpickler alone?"""
        return self.permit is not None and self.permit.scope is Scope.VALUES

    def paths(self) -> list[str]:
        """Every readable file."""
        return list(self._sizes)

    def size_bytes(self, path: str) -> int:
        """Of one readable file."""
        self._require(path)
        return self._sizes[path]

    def format_of(self, path: str) -> str:
        """Short name of the format, recognised by content; empty for an unknown one."""
        _, recognised = self.package.probe(path)
        return recognised.name if recognised else ""

    def beside(self, path: str, name: str) -> str | None:
        """The path of the file `name` in the folder of `path`, None when there is none."""
        wanted = posixpath.normpath(posixpath.join(posixpath.dirname(path), name))
        return wanted if wanted in self._sizes else None

    def read(self, path: str, *, limit: int = MAX_MODEL_BYTES) -> bytes:
        """All bytes of one file, after its digest was compared with the permitted or declared one.

        Raises:
            NotFound: the package has no such readable file.
            PermitRefused: loading it may execute code and no permit covers the package.
            DigestMismatch: the bytes changed since they were scanned or published.
            LimitExceeded: it is larger than `limit` bytes.
        """
        self._require(path)
        if not is_inert(self.package, path) and (refusal := self._refusal(path)) is not None:
            raise refusal
        return self.read_opaque(path, limit=limit)

    def read_opaque(self, path: str, *, limit: int = MAX_MODEL_BYTES) -> bytes:
        """As `read`, for bytes that the caller takes as plain numbers, whatever their format could do elsewhere."""
        self._require(path)
        content = self._content(path, limit)
        self._compare(path, digest_bytes(content))
        return content

    def _refusal(self, path: str) -> PermitRefused | None:
        """Why this process may not open what can execute code; None where it may."""
        if self.permit is None:
            return PermitRefused(
                f"loading {self.format_of(path) or 'this file'} can execute code, and no scan permits it",
                where=path,
                hint="load it through regraft.load, which scans it first",
            )
        if self.permit.scope is Scope.VALUES:
            return PermitRefused(
                "its pickles name what nobody has reviewed: only their tensors and values may be taken out",
                where=path,
                hint="build the network yourself and fill it: --factory my_module:build (in Python: factory=…)",
            )
        if self.permit.scope is Scope.CODE and not is_confined():
            return PermitRefused("what a user vouches for is opened in the sandbox only", where=path)
        return None

    def _compare(self, path: str, computed: Digest) -> None:
        self.digests[path] = computed
        declared = self._declared.get(path)
        if declared is not None and declared != computed:
            raise DigestMismatch(
                f"the bytes hash to {computed[:12]}…, those that were scanned or published to {declared[:12]}…",
                where=path,
                hint="the file changed in between: scan and load it again",
            )

    def copy(self, path: str, place: Path) -> None:
        """Write one file elsewhere in pieces, for readers that want a path; its digest is compared as in `read_opaque`.

        Raises:
            NotFound, DigestMismatch: as `read`.
        """
        self._require(path)
        content = hashlib.sha256()
        reader = self.package.open(path)
        try:
            with place.open("wb") as handle:
                for chunk in reader.chunks():
                    content.update(chunk)
                    handle.write(chunk)
        finally:
            reader.close()
        self._compare(path, Digest(content.hexdigest()))

    def text(self, path: str, *, limit: int) -> str:
        """A file as UTF-8 text.

        Raises:
            Damaged: it is none.
        """
        try:
            return self.read(path, limit=limit).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise Damaged(f"not UTF-8: {error.reason} at byte {error.start}", where=path) from None

    def _require(self, path: str) -> None:
        if path not in self._sizes:
            raise NotFound("the package has no such readable file", where=path)

    def _content(self, path: str, limit: int) -> bytes:
        if self._sizes[path] > limit:
            raise LimitExceeded(f"{self._sizes[path]} bytes, more than the {limit} that are loaded", where=path)
        reader = self.package.open(path)
        try:
            return reader.read_all(limit=limit)
        finally:
            reader.close()


def is_inert(package: Package, path: str) -> bool:
    """Can the usual loader of this file only parse data?"""
    return loading_of(package, path) is Loading.INERT


def loading_of(package: Package, path: str) -> Loading | None:
    """What the usual loader of this file may do, from its header where that says more than its format; None where the
    format is not known.
    """
    probe, recognised = package.probe(path)
    if recognised is None:
        return None
    try:
        stated = recognised.describe(probe).loading
    except Damaged:
        stated = None
    return stated or recognised.loading


def _permitted(manifest: Manifest, permit: Permit, where: str) -> dict[str, Digest]:
    if manifest.digest != permit.package:
        raise PermitRefused(
            f"the permit is for {permit.package[:12]}…, the package is {manifest.digest[:12]}…",
            where=where,
            hint="the package changed since it was scanned: scan it again",
        )
    return {entry.path: entry.sha256 for entry in manifest.entries}
