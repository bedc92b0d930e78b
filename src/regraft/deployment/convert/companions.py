"""What travels with a converted graph: tokenizer, configuration, label map, pooling, licence, and `regraft.json`."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from regraft.package.limits import MAX_TEXT_BYTES
from regraft.runtime.pipeline import DESCRIPTION, SCHEMA, description_path
from regraft.runtime.tokenizing import tokenizer_path

if TYPE_CHECKING:
    from regraft.deployment.convert.interface import Hop
    from regraft.deployment.loading import Opened
    from regraft.package.package import Package

_CARRIED = frozenset(
    (
        "config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
        "vocab.txt", "vocab.json", "merges.txt", "modules.json", "sentence_bert_config.json",
        "config_sentence_transformers.json", "preprocessor_config.json", "generation_config.json", "labels.txt",
        "label_map.json", "README.md", "chat_template.jinja",
    )
)  # fmt: skip
_LICENCES = ("license", "licence", "copying", "notice")
_MAX_CARRIED_BYTES = 64 << 20


def write_companions(folder: Path, source: Opened, hop: Hop, to: str) -> None:
    """Copy the files that the model cannot be used without, and say in `regraft.json` what the package is.

    Files keep their place relative to the weights. Nothing that a loader would run is copied.

    Args:
        folder: of the new package.
        source: what was converted.
        hop: that made the graph.
        to: target.
    """
    model = next(iter(hop.files))
    declared: dict[str, object] = {}
    if source.package is not None:
        for path, name in _carried(source.package, source.path):
            content = _content(source.package, path)
            if content is None or name in hop.files:  # what the converter wrote is what its graph needs
                continue
            if name == DESCRIPTION:
                fields = _fields(content)
                declared = fields if fields.get("schema") == SCHEMA else {}
                continue
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
    source_digest = source.subjects[0].sha256
    described = {
        **declared,
        "schema": SCHEMA,
        "model": model,
        "runtime": hop.runtime or None,
        "precision": hop.precision if hop.runtime else None,
        "converted_from": {"sha256": source_digest, "to": to},
    }
    described = {name: value for name, value in described.items() if value is not None}
    text = json.dumps(described, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    (folder / DESCRIPTION).write_text(text, encoding="utf-8")


def _carried(package: Package, weights: str) -> Iterator[tuple[str, str]]:
    """(path in the source, name in the product)."""
    root = posixpath.dirname(weights)
    description = description_path(package)
    top = root if description is None else posixpath.dirname(description)
    taken: set[str] = set()
    for entry in sorted(package.entries, key=lambda entry: posixpath.dirname(entry.path) != root):
        if entry.obstacle is not None:
            continue
        base = posixpath.basename(entry.path)
        if (base in _CARRIED and posixpath.dirname(entry.path) in (root, top)) or entry.path == description:
            name = base
        elif posixpath.dirname(entry.path) == posixpath.join(root, "1_Pooling") and base == "config.json":
            name = "1_Pooling/config.json"
        elif base.lower().startswith(_LICENCES) and "." not in base.replace(".txt", "").replace(".md", ""):
            name = base
        else:
            continue
        if name not in taken:
            taken.add(name)
            yield entry.path, name
    tokenizer = tokenizer_path(package, weights)
    if tokenizer is not None and "tokenizer.json" not in taken:
        yield tokenizer, "tokenizer.json"


def _content(package: Package, path: str) -> bytes | None:
    reader = package.open(path)
    try:
        return reader.read_all(limit=_MAX_CARRIED_BYTES) if reader.size <= _MAX_CARRIED_BYTES else None
    finally:
        reader.close()


def _fields(content: bytes) -> dict[str, object]:
    try:
        found = json.loads(content) if len(content) <= MAX_TEXT_BYTES else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
