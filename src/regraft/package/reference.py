"""References: how a user names a package (docs/how-to/fetch.md). Parsed once here, pinned once by a source."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from regraft.errors import ReferenceSyntaxError, UntrustedReference
from regraft.record.digest import Digest

_SCHEME = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)(?P<separator>://|:)(?P<rest>.*)", re.DOTALL)
_PYPI_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_NPM_NAME = re.compile(r"(?:@[a-z0-9~-][a-z0-9._~-]*/)?[a-zA-Z0-9~-][a-zA-Z0-9._~-]*")
_HF_NAME = re.compile(r"(?:(?:datasets|spaces)/)?[\w.-]+(?:/[\w.-]+)?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

CODE_SCHEMES = frozenset({"py"})
"""Schemes that run the user's own code: never accepted from a card, claim, package or web form."""


class ModelRef(msgspec.Struct, frozen=True):
    """A parsed reference.

    Attributes:
        scheme: `path`, `pypi`, `npm`, `hf`, `https`, `http`, `git+https`, `py`, `trace`, or an fsspec scheme.
        location: path, package name, URL without fragment, or `module:factory`.
        revision: version, commit or branch after `==` or `@`; None when the user named none.
        inside: file or folder within the package, after `#`; None for the whole package.
        archive: file name of the archive that was chosen, once pinned.
        sha256: digest of that archive or file, once pinned.
    """

    scheme: str
    location: str
    revision: str | None = None
    inside: str | None = None
    archive: str | None = None
    sha256: Digest | None = None

    def __str__(self) -> str:
        inside = f"#{self.inside}" if self.inside else ""
        if self.scheme == "path":
            return self.location + inside
        if self.scheme in ("py", "trace"):
            return f"{self.scheme}:{self.location}{inside}"
        if self.scheme in ("pypi", "npm", "hf") or self.scheme.startswith("git+"):
            separator = "==" if self.scheme == "pypi" else "@"
            revision = f"{separator}{self.revision}" if self.revision else ""
            return f"{self.scheme}://{self.location}{revision}{inside}"
        return f"{self.scheme}://{self.location}{inside}"

    @property
    def name(self) -> str:
        """The last part of the location: what a person would call the package."""
        tail = self.location.rstrip("/").replace("\\", "/").rsplit("/", 1)[-1]
        return tail or self.location


def parse_reference(text: str | os.PathLike[str], *, from_user: bool = True) -> ModelRef:
    """Parse what a user wrote.

    Args:
        text: a path or one of the schemes of docs/how-to/fetch.md.
        from_user: False for text that came out of a card, claim, package or web form; such text
            may not name code (`py:`).
    Raises:
        ReferenceSyntaxError: empty, malformed, or an unknown scheme without `://`.
        UntrustedReference: `py:` where `from_user` is False.
    """
    if isinstance(text, Path):
        return ModelRef("path", str(text))
    raw = os.fspath(text)
    if not raw.strip():
        raise ReferenceSyntaxError("the reference is empty", hint="regraft inspect --help lists the forms it may take")
    if _CONTROL.search(raw):
        raise ReferenceSyntaxError("the reference contains a control character", where=repr(raw))
    match = _SCHEME.fullmatch(raw)
    if match is None or _is_existing_path(raw):
        return _parse_path(raw)
    scheme, separator, rest = match["scheme"], match["separator"], match["rest"]
    if scheme in ("py", "trace") and separator == ":":
        return _parse_colon(scheme, rest, raw, from_user=from_user)
    if separator != "://":
        return _parse_path(raw)
    location, _, inside = rest.partition("#")
    if not location:
        raise ReferenceSyntaxError(f"{scheme}:// names nothing", where=raw)
    named = inside or None
    if scheme == "pypi":
        return _parse_registry(scheme, location, "==", _PYPI_NAME, named, raw)
    if scheme == "npm":
        return _parse_registry(scheme, location, "@", _NPM_NAME, named, raw)
    if scheme == "hf":
        return _parse_registry(scheme, location, "@", _HF_NAME, named, raw)
    if scheme == "file":
        return ModelRef("path", location, inside=named)
    if scheme.startswith("git+"):
        return _parse_git(scheme, location, named, raw)
    if scheme in ("http", "https") and not urlsplit(raw).hostname:
        raise ReferenceSyntaxError("the address has no host", where=raw)
    return ModelRef(scheme, location, inside=named)


def _is_existing_path(raw: str) -> bool:
    try:
        return os.path.lexists(raw)
    except ValueError:
        return False


def _parse_path(raw: str) -> ModelRef:
    if _is_existing_path(raw) or "#" not in raw:
        return ModelRef("path", raw)
    location, _, inside = raw.partition("#")
    if not location:
        raise ReferenceSyntaxError(
            "the reference names nothing before its #", where=raw, hint=f"regraft inspect .{raw}"
        )
    return ModelRef("path", location, inside=inside or None)


def _parse_colon(scheme: str, rest: str, raw: str, *, from_user: bool) -> ModelRef:
    if scheme in CODE_SCHEMES and not from_user:
        raise UntrustedReference(
            "a py: reference runs code and is accepted only from the command line or your own plan",
            where=raw,
            hint="pass it yourself: regraft VERB " + raw,
        )
    if scheme == "py" and not re.fullmatch(r"[\w.]+:[\w.]+", rest):
        raise ReferenceSyntaxError("py: wants module:factory", where=raw, hint="for example py:my_package.models:build")
    if not rest:
        raise ReferenceSyntaxError(f"{scheme}: names nothing", where=raw)
    return ModelRef(scheme, rest)


def _parse_registry(
    scheme: str, location: str, separator: str, pattern: re.Pattern[str], inside: str | None, raw: str
) -> ModelRef:
    start = 1 if separator == "@" else 0  # an npm scope begins with @
    cut = location.find(separator, start)
    name, revision = (location, None) if cut < 0 else (location[:cut], location[cut + len(separator) :])
    if not pattern.fullmatch(name):
        raise ReferenceSyntaxError(f"{name!r} is not a name on {scheme}", where=raw)
    if revision is not None and not re.fullmatch(r"[\w.+!/-]+", revision):
        raise ReferenceSyntaxError(
            f"{revision!r} is not a version", where=raw, hint=f"write {scheme}://{name}{separator}VERSION"
        )
    return ModelRef(scheme, name, revision=revision, inside=inside)


def _parse_git(scheme: str, location: str, inside: str | None, raw: str) -> ModelRef:
    path, at, revision = location.rpartition("@")
    if at and "/" in path:
        return ModelRef(scheme, path, revision=revision or None, inside=inside)
    if not urlsplit(raw).hostname and scheme != "git+file":
        raise ReferenceSyntaxError("the address has no host", where=raw)
    return ModelRef(scheme, location, inside=inside)
