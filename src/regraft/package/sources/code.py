"""`py:module:factory`: the user's own code. It has no files, so nothing here opens it."""

from __future__ import annotations

from regraft.errors import UsageError
from regraft.package.reference import ModelRef
from regraft.package.sources.interface import SourceOptions, Tree


class CodeSource:
    """Says that a factory is no package."""

    def open_tree(self, ref: ModelRef, options: SourceOptions) -> Tree:
        """Nothing to list.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            "a py: reference is code that builds a model: it has no files to look at",
            where=str(ref),
            hint="name the folder or package that holds its weights",
        )
