"""skops files: a zip with a JSON tree of objects and the arrays as `.npy` members.

Loading imports the types that the tree names and, for some nodes, calls them with what the file says; skops asks
the caller to trust them first. Source: skops 0.13, skops/io/_persist.py, _numpy.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from regraft.errors import Damaged, MissingExtra, Unsupported
from regraft.package.formats.interface import Description, Loading, Probe, Problem, Role, Tensor
from regraft.package.formats.numpy import read_header
from regraft.package.limits import MAX_HEADER_BYTES, MAX_NESTING

_SCHEMA = "schema.json"
_MAX_NODES = 1_000_000


class Skops:
    """What `skops.io.dump` writes."""

    name = "skops"
    title = "skops"
    role = Role.WEIGHTS
    loading = Loading.CODE
    suffixes = (".skops",)

    def matches(self, probe: Probe) -> bool:
        """See `Format.matches`: a zip whose schema.json is a tree of nodes with loaders."""
        if not probe.head.startswith(b"PK\x03\x04") or probe.zip is None or _SCHEMA not in probe.zip.by_name:
            return False
        try:
            head = probe.zip.open(probe.zip.by_name[_SCHEMA]).read_at(0, 64 << 10)
        except (Damaged, MissingExtra, Unsupported):
            return False
        return b"__loader__" in head or b"_skops_version" in head

    def describe(self, probe: Probe) -> Description:
        """See `Format.describe`."""
        archive = probe.zip
        if archive is None:
            raise Damaged("not a zip archive", where=probe.name)
        try:
            schema = json.loads(archive.read(_SCHEMA, limit=MAX_HEADER_BYTES))
        except (ValueError, RecursionError) as error:
            raise Damaged(f"the schema is not JSON: {error}", where=probe.name) from error
        problems: list[Problem] = list(archive.problems)
        tensors: list[Tensor] = []
        types: set[str] = set()
        for name, node in nodes(schema):
            types.add(f"{node.get('__module__')}.{node.get('__class__')}")
            file = node.get("file")
            if not isinstance(file, str) or not file.endswith(".npy"):
                continue
            try:
                header = read_header(archive.open(archive.by_name[file]))
            except KeyError:
                problems.append(Problem("no member for an array", None, file, "missing-storage"))
            except (Damaged, MissingExtra, Unsupported) as error:
                problems.append(Problem(error.what, None, file, "damaged"))
            else:
                tensors.append(Tensor(name, header.dtype, header.shape, header.size_bytes))
        root = schema if isinstance(schema, dict) else {}
        return Description(
            version=str(root.get("protocol"))[:20],
            tensors=tuple(tensors),
            metadata={
                "skops_version": str(root.get("_skops_version"))[:50],
                "object": f"{root.get('__module__')}.{root.get('__class__')}"[:200],
                "classes": ", ".join(sorted(types))[:2000],
            },
            problems=tuple(problems),
        )


def nodes(schema: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every node of a schema that has a loader, with its dotted name."""
    pending: list[tuple[str, Any, int]] = [("", schema, 0)]
    for _ in range(_MAX_NODES):
        if not pending:
            return
        name, value, depth = pending.pop()
        if isinstance(value, dict):
            if "__loader__" in value or "__class__" in value:
                yield name, value
            items = list(value.items())
        elif isinstance(value, list):
            items = [(str(index), item) for index, item in enumerate(value)]
        else:
            continue
        if depth < MAX_NESTING:
            below = [(_join(name, key), item, depth + 1) for key, item in items if isinstance(item, (dict, list))]
            pending.extend(reversed(below))


def _join(name: str, key: str) -> str:
    return name if key in ("content", "__reduce__", "attrs") else f"{name}.{key}" if name else key
