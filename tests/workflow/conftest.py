"""Small packages made of inert bytes."""

from __future__ import annotations

import json
import math
import struct
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "I64": 8}


def safetensors_bytes(tensors: Mapping[str, tuple[str, list[int]]]) -> bytes:
    """A safetensors file of zeros: name → (dtype, shape)."""
    header, offset = {}, 0
    for name, (dtype, shape) in tensors.items():
        end = offset + _BYTES[dtype] * math.prod(shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(offset)


BERT = {
    "embeddings.word_embeddings.weight": ("F32", [10, 4]),
    "embeddings.position_ids": ("I64", [1, 6]),
    "encoder.layer.0.attention.weight": ("F32", [4, 4]),
    "encoder.layer.1.attention.weight": ("F32", [4, 4]),
}
CONFIG = {
    "model_type": "bert",
    "architectures": ["BertModel"],
    "vocab_size": 10,
    "hidden_size": 4,
    "num_hidden_layers": 2,
    "max_position_embeddings": 6,
}


@pytest.fixture
def make_package(tmp_path) -> Callable[..., Path]:
    """Write files into a fresh folder: name=content; dict becomes JSON."""

    def make(files: Mapping[str, object]) -> Path:
        root = tmp_path / "package"
        for name, content in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                path.write_bytes(content)
            else:
                path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return root

    return make


@pytest.fixture
def bert(make_package) -> Callable[..., Path]:
    """A consistent tiny BERT; keyword arguments change its config, `tensors` its tensors, `extra` adds files."""

    def make(*, tensors=None, extra=None, name="model.safetensors", **config) -> Path:
        changed = {key: value for key, value in (CONFIG | config).items() if value is not None}
        files = {name: safetensors_bytes(BERT if tensors is None else tensors), "config.json": changed}
        return make_package(files | (extra or {}))

    return make


DOUBLES = str(Path(__file__).parent / "doubles")
sys.path.append(DOUBLES)  # verb_doubles, here and in the workers


@pytest.fixture
def journal(tmp_path, monkeypatch) -> Callable[[], list[str]]:
    """The calls of verb doubles since the last question, sorted."""
    path = tmp_path / "journal"
    path.touch()
    monkeypatch.setenv("REGRAFT_TEST_JOURNAL", str(path))

    def take() -> list[str]:
        lines = sorted(path.read_text().splitlines())
        path.write_text("")
        return lines

    return take


@pytest.fixture
def doubled(monkeypatch, journal) -> None:
    """Steps of plans call doubles in place of the verbs that load models."""
    for verb in ("select", "adapt", "convert", "verify", "bench"):
        monkeypatch.setattr(f"regraft.workflow.derive.{verb.upper()}", f"verb_doubles:{verb}")
