"""`trace:DIR`: passes that another framework, process or environment has recorded."""

from __future__ import annotations

from regraft.errors import NotFound
from regraft.package.reference import ModelRef
from regraft.package.sources.interface import SourceOptions, Tree
from regraft.package.sources.path import PathSource

INDEX = "trace.json"
"""The file that is written last: a folder without it is no finished trace."""


class TraceSource:
    """A folder with a `trace.json`."""

    def open_tree(self, ref: ModelRef, options: SourceOptions) -> Tree:
        """List the folder.

        Raises:
            NotFound: it is not there, is a file, or has no index.
            AccessDenied, LimitExceeded: as for any folder.
        """
        tree = PathSource().open_tree(ref, options)
        if all(entry.path != INDEX for entry in tree.entries):
            tree.close()
            raise NotFound(
                f"there is no {INDEX} in it, so this is no finished trace",
                where=str(ref),
                hint="docs/how-to/trace.md shows how one is recorded; close() writes the index",
            )
        return tree
