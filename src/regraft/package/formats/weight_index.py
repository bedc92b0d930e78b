"""Shard indices: `model.safetensors.index.json`, `pytorch_model.bin.index.json` and their like."""

from __future__ import annotations

from typing import Any

from regraft.errors import Damaged
from regraft.package.formats.interface import Description, Loading, Probe, Problem, Role

_MAX_FACT_CHARS = 500


class WeightIndex:
    """Format `weight-index`."""

    name = "weight-index"
    title = "shard index"
    role = Role.CONFIG
    loading = Loading.INERT
    suffixes = (".json",)

    def matches(self, probe: Probe) -> bool:
        """A JSON object with a `weight_map`."""
        return shard_map(probe) is not None

    def describe(self, probe: Probe) -> Description:
        """Number of tensors, names of the shards, total size; a shard name that leads elsewhere is a problem."""
        shards = shard_map(probe)
        if shards is None:
            raise Damaged("not a shard index", where=probe.reader.where)
        files = list(dict.fromkeys(shards.values()))
        metadata = {"tensors": str(len(shards)), "shards": ", ".join(files)[:_MAX_FACT_CHARS]}
        outer = probe.json.get("metadata")
        if isinstance(outer, dict) and isinstance(outer.get("total_size"), int | float):
            metadata["total_size"] = str(outer["total_size"])
        problems = [
            Problem(f"a shard is named {name[:200]!r}, which leads out of the folder", kind="traversal")
            for name in files
            if _leads_out(name)
        ]
        if len(shards) < len(probe.json["weight_map"]):
            problems.append(Problem("some shard names are not text"))
        return Description(metadata=metadata, problems=tuple(problems[:100]))


def shard_map(probe: Probe) -> dict[str, str] | None:
    """Tensor name → shard file name, as written; None when the content is no shard index."""
    fields: Any = probe.json
    mapping = fields.get("weight_map") if isinstance(fields, dict) else None
    if not isinstance(mapping, dict):
        return None
    return {name: shard for name, shard in mapping.items() if isinstance(shard, str)}


def _leads_out(name: str) -> bool:
    parts = name.replace("\\", "/").split("/")
    return ".." in parts or name.startswith(("/", "\\", "~")) or ":" in parts[0] or "\x00" in name
