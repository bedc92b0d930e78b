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
_TOP_NAMES = frozenset({"", "model", "saved_model", "variables", "pytorch_model", "graph"})


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
        if file.is_model:
            groups.setdefault((_home(file), _stem(file.basename)), []).append(file)
    models = []
    for (folder, stem), members in groups.items():
        ordered = tuple(sorted(members, key=lambda f: (-f.size_bytes, f.path)))
        is_sharded = len(ordered) > 1 and all(
            _SHARD.search(f.basename.rpartition(".")[0] or f.basename) for f in ordered
        )
        models.append((folder, stem, ordered, is_sharded))
    return [
        Model(_label(folder, stem, ordered, models), folder, ordered, is_sharded)
        for folder, stem, ordered, is_sharded in models
    ]


def _home(file: InspectedFile) -> str:
    """The folder that stands for the model: folders that a format brings along do not count."""
    parts = file.folder.split("/") if file.folder else []
    while parts and (
        parts[-1] in ("variables", "onnx", "Data", "com.apple.CoreML", "weights") or parts[-1].endswith(".mlpackage")
    ):
        parts.pop()
    return "/".join(parts)


def _stem(basename: str) -> str:
    name = basename
    while True:
        head, dot, suffix = name.rpartition(".")
        if not dot or not head or not re.fullmatch(r"[A-Za-z][\w-]{0,11}", suffix):
            break
        name = head
    name = _SHARD.sub("", name)
    words = [word for word in re.split(r"[-_.\s]+", name.lower()) if word and not _VARIANT.match(word)]
    return "_".join(words)


def _label(
    folder: str,
    stem: str,
    files: Sequence[InspectedFile],
    models: Sequence[tuple[str, str, Sequence[InspectedFile], bool]],
) -> str:
    """The shortest name that tells this group from the others."""
    plain = stem or "model"
    if sum((s or "model") == plain for _, s, _, _ in models) == 1 and plain not in _TOP_NAMES:
        return plain
    last = folder.rsplit("/", 1)[-1]
    if plain in _TOP_NAMES and last and sum(f.rsplit("/", 1)[-1] == last for f, _, _, _ in models) == 1:
        return last
    return f"{folder}/{plain}" if folder else plain if len(models) > 1 or plain not in _TOP_NAMES else files[0].basename
