"""The family of sources: where packages come from. One module a member."""

from __future__ import annotations

import functools
import importlib

from regraft.errors import ReferenceSyntaxError
from regraft.package.reference import ModelRef
from regraft.package.sources.interface import Source, SourceOptions, Tree

_MEMBERS: dict[str, str] = {
    "path": "path:PathSource",
}
"""Scheme → `module:Class`. A scheme that is not here is tried as an fsspec URI."""


def open_tree(ref: ModelRef, options: SourceOptions) -> Tree:
    """Pin a reference and list its files, through the source of its scheme."""
    return _source(ref.scheme).open_tree(ref, options)


@functools.cache
def _source(scheme: str) -> Source:
    if scheme not in _MEMBERS:
        raise ReferenceSyntaxError(f"no source handles {scheme}://", hint="known: " + ", ".join(sorted(_MEMBERS)))
    module, name = _MEMBERS[scheme].split(":")
    member: Source = getattr(importlib.import_module(f"{__name__}.{module}"), name)()
    return member
