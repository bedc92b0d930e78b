"""The family of sources: where packages come from. One module a member."""

from __future__ import annotations

import functools
import importlib

from regraft.errors import Offline
from regraft.package.reference import ModelRef
from regraft.package.sources.interface import RemoteSource, Source, SourceOptions, Tree

_MEMBERS: dict[str, str] = {
    "git+http": "git:GitSource",
    "git+https": "git:GitSource",
    "hf": "hf:HubSource",
    "http": "https:HttpsSource",
    "https": "https:HttpsSource",
    "npm": "npm:NpmSource",
    "path": "path:PathSource",
    "py": "code:CodeSource",
    "pypi": "pypi:PypiSource",
    "trace": "trace:TraceSource",
}
"""Scheme → `module:Class`."""

_OTHERS = "fsspec_source:FsspecSource"
"""Who is asked about a scheme that is not listed."""


def open_tree(ref: ModelRef, options: SourceOptions) -> Tree:
    """Pin a reference and list its files, through the source of its scheme, or as the store has it.

    The network is not asked when `options.offline` is set, nor about an exact reference (a version, a
    commit) that the store has.

    Raises:
        As `Source.open_tree`; Offline: the store does not have it.
    """
    source = source_of(ref)
    if not isinstance(source, RemoteSource):
        return source.open_tree(ref, options)
    if options.store is not None and (options.offline or source.is_exact(ref)):
        from regraft.package.sources.kept import open_kept_tree

        kept = open_kept_tree(ref, source.origin(ref), options.store)
        if kept is not None:
            return kept
    if options.offline:
        raise Offline(
            "--offline forbids the network, and the store does not have it",
            where=str(ref),
            hint=f"regraft fetch '{ref}'",
        )
    return source.open_tree(ref, options)


def source_of(ref: ModelRef) -> Source:
    """The source that handles a reference's scheme."""
    return _source(_MEMBERS.get(ref.scheme, _OTHERS))


@functools.cache
def _source(place: str) -> Source:
    module, name = place.split(":")
    member: Source = getattr(importlib.import_module(f"{__name__}.{module}"), name)()
    return member
