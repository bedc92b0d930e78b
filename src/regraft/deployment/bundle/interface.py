"""What a layout is: a package in the folders and files that other people's servers and registries expect."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from regraft.deployment.bundle.escaping import shell_word
from regraft.errors import DigestMismatch, UsageError
from regraft.package.formats import Port
from regraft.record.digest import Digest, digest_bytes

if TYPE_CHECKING:
    import hashlib

    from regraft.package.package import Package
    from regraft.runtime.interface import Array


class Carried(msgspec.Struct, frozen=True):
    """A file that goes into the bundle.

    Attributes:
        name: relative to the model, with `/`.
        path: of the package's file; empty where `content` is the file.
        kind: `model` (graph and weights), `config` (tokenizer, labels, settings), `doc` (card, licence, evidence),
            or `code`.
        content: of what was made for the bundle.
    """

    name: str
    path: str
    size_bytes: int
    sha256: Digest
    kind: str
    content: bytes | None = None

    @classmethod
    def made(cls, name: str, content: bytes, kind: str) -> Carried:
        """A file that no package has."""
        return cls(name, "", len(content), digest_bytes(content), kind, content)


class Texts(msgspec.Struct, frozen=True):
    """What stands between strings and the network, as `texts.py` of a plain bundle wants it."""

    tokenizer: str
    max_tokens: int
    lowercase: bool
    special_tokens: bool
    pad_id: int
    feeds: dict[str, str]
    hidden: str
    pooling: tuple[str, ...]
    normalise: bool
    labels: tuple[str, ...]


class Graph(msgspec.Struct, frozen=True):
    """The network of a bundle, as its runtime sees it.

    Attributes:
        runtime: `onnxruntime` or `openvino`.
        precision: that it computes in here.
        file: name of the graph among the carried files.
        inputs, outputs: every rank and dtype known; -1 would be a symbolic extent, which is None here.
        is_batched: the first axis of every input and output is the batch: it was run with 1 row and with 3.
        feeds, answers: a sample of what it answers.
        is_particular: the sample is the user's own: perhaps nothing can be made up for it.
        texts: of a text package.
    """

    runtime: str
    precision: str
    file: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    is_batched: bool
    feeds: Mapping[str, Array]
    answers: Mapping[str, Array]
    texts: Texts | None = None
    is_particular: bool = False


class Contents(msgspec.Struct, frozen=True):
    """What is handed over.

    Attributes:
        name: of the model, as servers allow it: letters, digits, `_` and `-`.
        reference: pinned.
        digest: of the package.
        package: open.
        files: of the package, the graph first.
        extra: evidence, manifest, README: what was made for the bundle.
        licence: SPDX expression; empty where nobody says.
        graph: None where the layout holds any package.
    """

    name: str
    reference: str
    digest: Digest
    package: Any
    files: tuple[Carried, ...]
    extra: tuple[Carried, ...] = ()
    licence: str = ""
    graph: Graph | None = None

    @property
    def source(self) -> str:
        """The reference for a stranger's eyes: of what lies on this machine, the base name."""
        ref = self.package.ref
        if ref.scheme not in ("path", "file"):
            return self.reference
        name = Path(ref.location).resolve().name
        return f"{name}#{ref.inside}" if ref.inside else name

    @property
    def network(self) -> Graph:
        """The graph of a layout that has one."""
        assert self.graph is not None
        return self.graph


class Layout(Protocol):
    """A family member. One module a layout, listed in `bundle/__init__.py`."""

    name: str
    """What a user calls it after `--as`."""
    takes: Sequence[str]
    """Runtimes whose graphs it holds; empty for any package."""

    def readme(self, contents: Contents) -> str:
        """How the receiver starts it, in Markdown: for the README of the bundle."""

    def graph(self, contents: Contents) -> str:
        """Where the graph lies in the bundle, with `/`; only asked where there is one."""

    def write(self, contents: Contents, folder: Path) -> None:
        """Write everything into a new folder.

        Raises:
            Unsupported: the layout cannot hold this network; the hint says what to do.
            UsageError: two files would have one place.
        """


def comparison(contents: Contents, graph: str, server: str, *, feeds: str = "FILE") -> str:
    """The line of a README that compares a server with the graph in the bundle.

    Args:
        graph: its place in the bundle.
        server: host, port and name of the model.
        feeds: file with the sample, where nothing can be made up for the network.
    """
    told = f" --feeds {feeds}" if contents.network.is_particular else ""
    return f"    regraft verify {shell_word(graph)} oip+http://{server}{told}\n"


MANIFEST = "bundle.json"
"""What the bundle itself writes last, so that no other file may be called so."""


def place(contents: Contents, folder: Path, placed: Iterable[tuple[str, Carried]]) -> None:
    """Write files, and see that their bytes are those that were judged.

    Args:
        folder: new.
        placed: place in the folder, with `/`, and what lies there.
    Raises:
        UsageError: two files would have one place, or one would be the folder of another; nothing is written then.
        DigestMismatch: the package changed meanwhile.
    """
    pairs = [(PurePosixPath(name), carried) for name, carried in placed]
    require_distinct([(PurePosixPath(MANIFEST), Carried.made(MANIFEST, b"", "doc")), *pairs], contents.reference)
    for name, carried in pairs:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        _write(contents, carried, target)


def require_distinct(placed: Sequence[tuple[PurePosixPath, Carried]], where: str) -> None:
    """No file in the place of another, and none where another needs a folder.

    Raises:
        UsageError: it names both.
    """
    owners: dict[PurePosixPath, Carried] = {}
    for name, carried in placed:
        if name in owners:
            raise _collision(name, owners[name], carried, where)
        owners[name] = carried
    for name, carried in owners.items():
        above = next((parent for parent in name.parents if parent in owners), None)
        if above is not None:
            raise _collision(above, owners[above], carried, where)


def _collision(name: PurePosixPath, one: Carried, other: Carried, where: str) -> UsageError:
    first, second = (f"{it.path!r} of the package" if it.path else f"the bundle's own {it.name}" for it in (one, other))
    return UsageError(
        f"two files would lie at {name.as_posix()} in this layout: {first}, and {second}",
        where=where,
        hint="rename the package's file, in the graph that names it, too; --as plain keeps all names apart",
    )


def _write(contents: Contents, carried: Carried, target: Path) -> None:
    import hashlib

    if carried.content is not None:
        target.write_bytes(carried.content)
        return
    hasher = hashlib.sha256()
    _copy(contents.package, carried.path, target, hasher)
    if hasher.hexdigest() != carried.sha256:
        raise DigestMismatch("the file changed while it was bundled", where=carried.path, hint="run it again")


def _copy(package: Package, path: str, target: Path, hasher: hashlib._Hash) -> None:
    reader = package.open(path)
    try:
        with target.open("wb") as file:
            for piece in reader.chunks():
                hasher.update(piece)
                file.write(piece)
    finally:
        reader.close()


__all__ = ["MANIFEST", "Carried", "Contents", "Graph", "Layout", "Texts", "comparison", "place", "require_distinct"]
