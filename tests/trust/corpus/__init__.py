"""A corpus for the scanner: inert malicious samples and what real libraries write, one module a family.

Payloads are bytes. Nothing here, nor anything that uses it, ever loads a sample: streams are assembled opcode by
opcode, code is text. A sample is *held out* by the digest of its name: rules are developed on the others, and the
held-out ones are only counted (`benchmarks/scanning.py`).
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

WRITTEN = (
    "pickle_gadgets",
    "pickle_tricks",
    "pickle_containers",
    "torch_files",
    "array_files",
    "keras_files",
    "graph_files",
    "data_files",
    "archives",
    "configurations",
    "python_code",
    "chat_templates",
    "installers",
    "weight_payloads",
    "graph_triggers",
    "loader_files",
    "unclear",
)
"""Families whose samples are assembled by hand, nearly all of them malicious."""
MADE = ("benign_pickles", "benign_estimators", "benign_torch", "benign_files", "benign_repositories")
"""Families that the libraries installed here write."""
HELD_OUT_SHARE = 0.4


@dataclass(frozen=True)
class Sample:
    """A package.

    Attributes:
        name: `category/what`, unique.
        files: path → content.
        kind: `malicious`: loading, installing or using it as its usual loader does would do harm. `benign`: what a
            library writes or people publish, and nothing of it runs. `unclear`: it needs code that is not part of it,
            or brings code that only a person can judge, so that neither pass nor fail would be right.
        source: where the technique was published; empty for variations of our own.
        links: path → target of symbolic links.
    """

    name: str
    files: Mapping[str, bytes]
    kind: Literal["malicious", "benign", "unclear"] = "malicious"
    source: str = ""
    links: Mapping[str, str] = field(default_factory=dict)

    @property
    def category(self) -> str:
        """The part of the name before the slash."""
        return self.name.partition("/")[0]

    @property
    def is_held_out(self) -> bool:
        """Belongs to the part that is only scored."""
        digest = hashlib.sha256(self.name.encode()).digest()
        return int.from_bytes(digest[:4], "big") < HELD_OUT_SHARE * 2**32

    def write(self, folder: Path) -> Path:
        """Write the files below a folder, which is returned."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        for name, target in self.links.items():
            (folder / name).symlink_to(target)
        return folder


def samples(*families: str) -> Iterator[Sample]:
    """The samples of some families, all of them by default."""
    for family in families or (*WRITTEN, *MADE):
        yield from importlib.import_module(f"{__name__}.{family}").samples()
