"""Which files hold the same network: one model a group, whatever formats it comes in."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from regraft.workflow.facts.interface import InspectedFile

_SHARD = re.compile(r"[-_.]0*\d+[-_]of[-_]0*\d+|[-_.]?shard0*\d+of0*\d+|\.part\d+$", re.IGNORECASE)
_VARIANT = re.compile(
    r"^(?:half|fp16|fp32|f16|f32|bf16|int8|uint8|int4|quant|quantized|quantised|dynamic|static|float16|float32|dq|qdq|"
    r"i?q\d(?:[_k]\w*)?|k|m|s|xs|xxs|op\d+|opset\d+|ifless|sequence|openvino|ov|onnx|torch|pytorch|tf|tflite|flax|keras|"
    r"rust|jit|jax|weights|weight|wts|optimized|optimised|simplified|sim|slim|fused|inference|consolidated|state|dict)$"
)
_PLAIN_NAMES = frozenset({"", "model", "saved_model", "variables", "graph", "network", "net", "checkpoint", "best"})
_OLD_TFJS = frozenset({"tensorflowjs_model.pb", "weights_manifest.json"})
"""What the converter of TensorFlow.js wrote before `model.json`: one model in two files."""
_ACCESSORIES = frozenset({"scheduler", "optimizer", "training_args", "rng_state", "trainer_state", "scaler"})
"""What training leaves beside the weights: files of the same formats that hold no network."""


class Model(msgspec.Struct, frozen=True):
    """One network of a package.

    Attributes:
        name: path-like label, unique within the package.
        folder: where its files lie; configuration beside them speaks of it.
        files: its weights and graphs, largest first.
        is_sharded: its files are parts of one set of weights, not the same weights several times.
    """

    name: str
    folder: str
    files: tuple[InspectedFile, ...]
    is_sharded: bool = False

    @property
    def counts(self) -> dict[str, int]:
        """File → parameters that its header counts."""
        return {file.path: file.parameters for file in self.files if file.parameters is not None}

    @property
    def parameters(self) -> int | None:
        """Parameters of the network: the sum over shards; else the count of its fullest file, never a sum of copies."""
        counts = self.counts
        if not counts:
            return None
        return sum(counts.values()) if self.is_sharded else max(counts.values())


def group_models(files: Sequence[InspectedFile]) -> list[Model]:
    """Group the weight and graph files of a package into networks.

    Shards of one set belong together; so do files in one folder whose names differ only in format,
    precision, opset or build words (`silero_vad.onnx`, `silero_vad_half.onnx`, `silero_vad.jit`).
    """
    groups: dict[tuple[str, str], list[InspectedFile]] = {}
    for file in files:
        if file.is_model and file.basename.rpartition(".")[0] not in _ACCESSORIES:
            groups.setdefault(_place(file), []).append(file)
    labels = _labels(list(groups))
    models = []
    for ((folder, _), members), label in zip(groups.items(), labels, strict=True):
        ordered = tuple(sorted(members, key=lambda f: (-f.size_bytes, f.path)))
        is_sharded = len(ordered) > 1 and all(_SHARD.search(_without_suffix(f.basename)) for f in ordered)
        models.append(Model(label, folder, ordered, is_sharded))
    return models


def _labels(groups: Sequence[tuple[str, str]]) -> list[str]:
    """The shortest name of each (folder, stem) that tells it from the others."""
    levels: list[list[str]] = [[], [], [], []]
    for folder, stem in groups:
        last = folder.rsplit("/", 1)[-1].rsplit("!", 1)[-1]
        plain = stem or "model"
        levels[0].append(last if plain in _PLAIN_NAMES and last else plain)
        levels[1].append(plain)
        levels[2].append(f"{last}/{plain}")
        levels[3].append(f"{folder}/{plain}" if folder else plain)
    return [
        next((level[i] for level in levels[:3] if level.count(level[i]) == 1), levels[3][i]) for i in range(len(groups))
    ]


def _without_suffix(basename: str) -> str:
    return basename.rpartition(".")[0] or basename


def _place(file: InspectedFile) -> tuple[str, str]:
    """(folder, stem) that stand for the model. A format that is a folder is named by that folder."""
    parts = file.folder.split("/") if file.folder else []
    package = next((i for i, part in enumerate(parts) if part.endswith((".mlpackage", ".mlmodelc"))), None)
    if package is not None:
        return "/".join(parts[:package]), _stem(parts[package])
    if parts and parts[-1] == "variables":
        parts.pop()
    elif file.basename not in ("saved_model.pb", "saved_model.pbtxt"):
        while parts and parts[-1] == "onnx":
            parts.pop()
        return "/".join(parts), _stem(file.basename)
    return ("/".join(parts[:-1]), _stem(parts[-1])) if parts else ("", _stem(file.basename))


def _stem(basename: str) -> str:
    if basename in _OLD_TFJS:
        return ""
    name = basename
    while True:
        head, dot, suffix = name.rpartition(".")
        if not dot or not re.fullmatch(r"[A-Za-z][\w-]{0,11}", suffix):
            break
        name = head
    name = _SHARD.sub("", name)
    words = [word for word in re.split(r"[-_.\s]+", name.lower()) if word and not _VARIANT.match(word)]
    return "_".join(words)
