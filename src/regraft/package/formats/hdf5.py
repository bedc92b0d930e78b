"""HDF5 files: the tree of groups, datasets and attributes from their metadata, no array data read."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import msgspec

from regraft.errors import Damaged, LimitExceeded
from regraft.package.formats.cursor import Cursor
from regraft.package.formats.hdf5_groups import read_dense_attributes, read_links
from regraft.package.formats.hdf5_objects import Medium, Message, MessageType, find_signature, read_messages
from regraft.package.formats.hdf5_values import (
    Datatype,
    Value,
    parse_attribute,
    parse_dataspace,
    parse_datatype,
    resolve,
)
from regraft.package.formats.interface import Description, Loading, Probe, Problem, Role, Tensor
from regraft.package.limits import MAX_NESTING, MAX_TENSORS
from regraft.package.reader import Reader

_MAX_METADATA_CHARS = 2000
_MAX_PROBLEMS = 1000


class Node(msgspec.Struct, frozen=True):
    """A group or a dataset.

    Attributes:
        path: from the root, without a leading slash; empty for the root group.
        attributes: name → value.
        dtype: of a dataset's elements; None for a group.
        shape: of a dataset; None for a group or an empty dataset.
        size_bytes: of a dataset's elements before compression.
        data_offset: where in the file its elements lie, in one piece and not compressed; None for all others.
    """

    path: str
    attributes: dict[str, Value]
    dtype: str | None = None
    shape: tuple[int, ...] | None = None
    size_bytes: int | None = None
    data_offset: int | None = None


class Hdf5Tree(msgspec.Struct, frozen=True):
    """Everything that is reachable from the root group.

    Attributes:
        version: version of the superblock.
        nodes: by path, in the order of a walk that visits every object once.
        links: path → target of soft and external links, which are not followed.
        external: names of other files that the content points into.
        problems: damage, and structures that are not read.
    """

    version: int
    nodes: dict[str, Node]
    links: dict[str, str]
    external: tuple[str, ...]
    problems: tuple[Problem, ...]

    @property
    def datasets(self) -> list[Node]:
        """The datasets, in the order of the walk."""
        return [node for node in self.nodes.values() if node.dtype is not None]

    def attribute(self, name: str, path: str = "") -> Value:
        """An attribute's value, None when the object or the attribute is missing."""
        node = self.nodes.get(path)
        return None if node is None else node.attributes.get(name)


class Hdf5:
    """Format `hdf5`: an HDF5 file that is not known to be anything more specific."""

    name = "hdf5"
    title = "HDF5 data"
    role = Role.WEIGHTS
    loading = Loading.INERT
    suffixes = (".h5", ".hdf5", ".hdf", ".nc", ".mat")

    def matches(self, probe: Probe) -> bool:
        """An HDF5 signature at 0, 512, 1024, …"""
        return find_signature(probe.reader) is not None

    def describe(self, probe: Probe) -> Description:
        """Datasets as tensors, attributes of the root group as metadata."""
        tree = tree_or_none(probe) or read_hdf5(probe.reader)
        root = tree.nodes[""].attributes
        metadata = {name: value_text(value) for name, value in root.items() if value is not None}
        return Description(
            version=str(tree.version),
            tensors=tensors_of(tree),
            metadata=metadata | external_metadata(tree),
            problems=tree.problems,
        )


def read_hdf5(reader: Reader) -> Hdf5Tree:
    """Walk the metadata of an HDF5 file.

    Raises:
        Damaged: the superblock or the root group cannot be read. Damage further down is a problem of the tree.
            Beyond a bound of `package.limits` the walk ends, with a problem of kind `limit`.
    """
    return _Walk(Medium(reader)).tree()


_TREES: WeakKeyDictionary[Probe, Hdf5Tree | None] = WeakKeyDictionary()


def tree_or_none(probe: Probe) -> Hdf5Tree | None:
    """The tree of a probe's content, walked once; None when it is not HDF5 or its root cannot be read."""
    if probe not in _TREES:
        try:
            _TREES[probe] = read_hdf5(probe.reader) if find_signature(probe.reader) is not None else None
        except Damaged:
            _TREES[probe] = None
    return _TREES[probe]


def tensors_of(tree: Hdf5Tree) -> tuple[Tensor, ...]:
    """The datasets as tensors."""
    return tuple(
        Tensor(node.path, node.dtype or "unknown", node.shape, node.size_bytes)
        for node in tree.datasets
        if node.shape is not None
    )


def external_metadata(tree: Hdf5Tree) -> dict[str, str]:
    """The names of other files that the content points into, as metadata; empty when there are none."""
    return {"external_files": ", ".join(tree.external)[:_MAX_METADATA_CHARS]} if tree.external else {}


def value_text(value: Value) -> str:
    """An attribute's value as bounded text."""
    if isinstance(value, tuple):
        return ", ".join(str(item) for item in value[:100])[:_MAX_METADATA_CHARS]
    return str(value)[:_MAX_METADATA_CHARS]


class _Walk:
    """One walk from the root group: every object once, damage below the root survived."""

    def __init__(self, medium: Medium) -> None:
        self._medium = medium
        self._nodes: dict[str, Node] = {}
        self._links: dict[str, str] = {}
        self._external: list[str] = []
        self._problems: list[Problem] = []
        self._seen: set[int] = set()
        self._is_stopped = False

    def tree(self) -> Hdf5Tree:
        medium = self._medium
        end = medium.declared_end
        if not medium.is_undefined(end) and end > medium.reader.size:
            self._problems.append(Problem(f"the file is cut off: it has {medium.reader.size} of {end} bytes"))
        self._visit(medium.root, "", depth=0)
        external = tuple(dict.fromkeys(self._external))
        return Hdf5Tree(medium.version, self._nodes, self._links, external, tuple(self._problems))

    def _visit(self, address: int, path: str, *, depth: int) -> None:
        if address in self._seen:
            return
        if depth > MAX_NESTING:
            self._note(f"nested deeper than {MAX_NESTING}", path, kind="limit")
            return
        self._seen.add(address)
        if len(self._nodes) >= MAX_TENSORS:
            raise LimitExceeded(f"more than {MAX_TENSORS} objects", where=self._medium.reader.where)
        messages = read_messages(self._medium, address)
        kinds = {message.type for message in messages}
        if MessageType.DATATYPE in kinds and MessageType.DATASPACE in kinds:
            self._nodes[path] = self._dataset(messages, path)
            return
        self._nodes[path] = Node(path, self._attributes(messages, path))
        self._descend(messages, path, depth)

    def _descend(self, messages: Sequence[Message], path: str, depth: int) -> None:
        """Visit the children by name: an object with several hard links gets its first name."""
        links = []
        try:
            for link in read_links(messages, self._medium):
                links.append(link)  # noqa: PERF402  (what was read before the damage counts)
        except Damaged as damage:
            self._survive(damage, "the group cannot be listed", path)
        for link in sorted(links, key=lambda link: link.name):
            child = f"{path}/{link.name}" if path else link.name
            if link.address is not None:
                self._visit_child(link.address, child, depth + 1)
                continue
            self._links[child] = link.target or ""
            if link.is_external:
                self._external.append((link.target or "").split(":")[0])

    def _visit_child(self, address: int, path: str, depth: int) -> None:
        if self._is_stopped:
            return
        try:
            self._visit(address, path, depth=depth)
        except Damaged as damage:
            self._survive(damage, "the object cannot be read", path)

    def _survive(self, damage: Damaged, what: str, path: str) -> None:
        """Note damage and go on; beyond a limit the walk ends with what it has seen."""
        is_limit = isinstance(damage, LimitExceeded)
        self._is_stopped = self._is_stopped or is_limit
        self._note(f"{what}: {damage.what}", path, kind="limit" if is_limit else None)

    def _note(self, what: str, path: str, *, offset: int | None = None, kind: str | None = None) -> None:
        if len(self._problems) < _MAX_PROBLEMS:
            self._problems.append(Problem(what, offset, path or None, kind))

    def _attributes(self, messages: Sequence[Message], path: str) -> dict[str, Value]:
        attributes: dict[str, Value] = {}
        for message in messages:
            try:
                if message.type == MessageType.ATTRIBUTE:
                    name, value = parse_attribute(resolve(message, self._medium), self._medium)
                    attributes[name] = value
                elif message.type == MessageType.ATTRIBUTE_INFO:
                    for raw in read_dense_attributes(message, self._medium):
                        name, value = parse_attribute(raw, self._medium)
                        attributes[name] = value
            except Damaged as damage:
                kind = "limit" if isinstance(damage, LimitExceeded) else None
                self._note(f"an attribute is not read: {damage.what}", path, offset=message.start, kind=kind)
        return attributes

    def _dataset(self, messages: Sequence[Message], path: str) -> Node:
        datatype = Datatype("unknown", 0)
        shape: tuple[int, ...] | None = None
        for message in messages:
            if message.type == MessageType.DATATYPE:
                datatype = parse_datatype(resolve(message, self._medium))
            elif message.type == MessageType.DATASPACE:
                shape = parse_dataspace(resolve(message, self._medium), self._medium)
        size = datatype.size
        for extent in shape or ():
            size *= extent
        data_offset = None
        for message in messages:
            if message.type == MessageType.LAYOUT:
                data_offset = self._check_layout(message, path, size)
            elif message.type == MessageType.EXTERNAL_FILES:
                self._external += self._external_files(message)
        known_size = None if shape is None or not datatype.size else size
        return Node(path, self._attributes(messages, path), datatype.dtype, shape, known_size, data_offset)

    def _check_layout(self, message: Message, path: str, size: int) -> int | None:
        """Where contiguous data begin, which must lie inside the file; None for data in chunks, or nowhere."""
        raw = Cursor(message.body, start=message.start, where=self._medium.reader.where)
        version = raw.uint(1)
        if version in (3, 4):
            if raw.uint(1) != 1:
                return None
            address, size = self._medium.address(raw), self._medium.length(raw)
        else:
            raw.skip(1)
            if raw.uint(1) != 1:
                return None
            raw.skip(5)
            address = self._medium.address(raw)
        if self._medium.is_undefined(address):
            return None
        end = self._medium.base + address + size
        if end > self._medium.reader.size:
            what = f"the data end at {end}, beyond the file's {self._medium.reader.size} bytes"
            self._note(what, path, offset=message.start)
            return None
        return self._medium.base + address

    def _external_files(self, message: Message) -> list[str]:
        """Names of the raw data files that a dataset is kept in (spec IV.A.2.h)."""
        medium = self._medium
        raw = Cursor(message.body, start=message.start, where=medium.reader.where)
        raw.skip(6)
        used = raw.uint(2)
        prefix = medium.at(medium.address(raw), 8 + 2 * medium.length_bytes + medium.address_bytes)
        prefix.expect(b"HEAP")
        prefix.skip(4)
        size = medium.length(prefix)
        medium.length(prefix)
        names = medium.at(medium.address(prefix), size).take(size)
        files = []
        for _ in range(used):
            offset = medium.length(raw)
            raw.skip(2 * medium.length_bytes)
            files.append(names[offset:].split(b"\x00")[0].decode("utf-8", "replace"))
        return files
