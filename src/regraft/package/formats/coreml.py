"""Core ML: models (`.mlmodel`), the manifest of a `.mlpackage`, and its weight blobs.

Source: apple/coremltools, mlmodel/format (Model, FeatureTypes, MIL, NeuralNetwork) and MILBlob's StorageFormat.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from regraft.errors import Damaged
from regraft.package.formats.coreml_types import ARRAY_TYPES, BLOB_TYPES, LAYERS, MODEL_TYPES
from regraft.package.formats.interface import Description, Loading, Port, Probe, Problem, Role, Tensor
from regraft.package.formats.wire import Message, entry_of, integers_of, message_of, signed

_DESCRIPTION, _ML_PROGRAM = 2, 502
_NEURAL_NETWORKS = (303, 403, 500)
_METADATA_TEXTS = {1: "description", 2: "version", 3: "author", 4: "license"}
_BLOB_SENTINEL = 0xDEADBEEF
_BLOB_RECORD_BYTES = 64
_MAX_BLOBS = 100_000
_MAX_BLOCK_DEPTH = 40
_MAX_FACTS = 1000
_MAX_RANK = 64


class CoreMl:
    """Format `coreml`."""

    name = "coreml"
    title = "Core ML model"
    role = Role.WEIGHTS
    loading = Loading.INERT
    suffixes = (".mlmodel",)

    def matches(self, probe: Probe) -> bool:
        """A message with a specification version, a description and one of the model types, and nothing else."""
        if probe.head[:1] != b"\x08":
            return False
        seen = set()
        try:
            for number, _, value in message_of(probe).fields():
                if number not in MODEL_TYPES and number not in (1, 2, 10):
                    return False
                if (number in (1, 10)) != isinstance(value, int):
                    return False
                seen.add(number)
        except Damaged:
            return {1, _DESCRIPTION} <= seen and b"com.apple.CoreML" in probe.head
        return {1, _DESCRIPTION} <= seen and len(seen & MODEL_TYPES.keys()) == 1

    def describe(self, probe: Probe) -> Description:
        """Signature, the kind of model, its operators or layers, and what its author says.

        Raises:
            Damaged: the bytes are no such messages.
        """
        version = None
        operators: Counter[str] = Counter()
        ports: dict[int, list[Port]] = {1: [], 10: []}
        metadata: dict[str, str] = {}
        for number, _, value in message_of(probe).fields():
            if number == 1 and isinstance(value, int):
                version = str(signed(value))
            elif number == _DESCRIPTION and isinstance(value, Message):
                _add_description(value, ports, metadata)
            elif number in MODEL_TYPES and isinstance(value, Message):
                metadata["model_type"] = MODEL_TYPES[number]
                if number == _ML_PROGRAM:
                    _add_program(value, operators)
                elif number in _NEURAL_NETWORKS:
                    operators.update(_layer(layer) for layer in value.spans(1))
        return Description(
            version=version,
            operators=dict(operators),
            inputs=tuple(ports[1]),
            outputs=tuple(ports[10]),
            metadata=metadata,
        )


class CoreMlManifest:
    """Format `coreml-manifest`: `Manifest.json` of a model package."""

    name = "coreml-manifest"
    title = "Core ML package manifest"
    role = Role.CONFIG
    loading = Loading.INERT
    suffixes = (".json",)

    def matches(self, probe: Probe) -> bool:
        """A JSON object with `itemInfoEntries` and `rootModelIdentifier`."""
        if b'"itemInfoEntries"' not in probe.head or not isinstance(probe.json, dict):
            return False
        return "rootModelIdentifier" in probe.json and isinstance(probe.json.get("itemInfoEntries"), dict)

    def describe(self, probe: Probe) -> Description:
        """Format version and the path of the model.

        Raises:
            Damaged: it is not such an object.
        """
        whole = probe.json
        items = whole.get("itemInfoEntries") if isinstance(whole, dict) else None
        if not isinstance(items, dict):
            raise Damaged("not a Core ML manifest", where=probe.reader.where)
        root = whole.get("rootModelIdentifier")
        entry = items.get(root) if isinstance(root, str) else None
        path = entry.get("path") if isinstance(entry, dict) else None
        problems = []
        if not isinstance(path, str) or path.startswith(("/", "\\")) or ".." in path.split("/"):
            problems.append(Problem("the root model has no path inside of the package", kind="path-escape"))
        version = whole.get("fileFormatVersion")
        return Description(
            version=version[:40] if isinstance(version, str) else None,
            metadata={"root_model": path[:1000]} if isinstance(path, str) else {},
            problems=tuple(problems),
        )


class CoreMlWeights:
    """Format `coreml-weights`: `weight.bin` of a model package, blobs without names and shapes."""

    name = "coreml-weights"
    title = "Core ML weight blobs"
    role = Role.WEIGHTS
    loading = Loading.INERT
    suffixes = (".bin",)

    def matches(self, probe: Probe) -> bool:
        """A storage header of version 2, and the sentinel of the first blob behind it."""
        head = probe.head
        is_header = len(head) >= 2 * _BLOB_RECORD_BYTES and head[4:8] == b"\x02\0\0\0" and not any(head[8:64])
        return is_header and head[64:68] == _BLOB_SENTINEL.to_bytes(4, "little")

    def describe(self, probe: Probe) -> Description:
        """Each blob as a flat array, named by its offset, which is how models refer to it.

        Raises:
            Damaged: a blob's record is not where the one before ends.
        """
        reader = probe.reader
        count = int.from_bytes(reader.read_exactly(0, 4), "little")
        if count > min(_MAX_BLOBS, reader.size // _BLOB_RECORD_BYTES):
            raise Damaged(f"{count} blobs do not fit into {reader.size} bytes", where=reader.where)
        tensors = []
        problems = []
        at = _BLOB_RECORD_BYTES
        for _ in range(count):
            record = reader.read_exactly(at, 24)
            sentinel, number = (int.from_bytes(record[i : i + 4], "little") for i in (0, 4))
            size, offset = (int.from_bytes(record[i : i + 8], "little") for i in (8, 16))
            if sentinel != _BLOB_SENTINEL or offset < at + _BLOB_RECORD_BYTES:
                raise Damaged(f"no blob at offset {at}", where=reader.where)
            if offset + size > reader.size:
                problems.append(Problem("truncated: the data of a blob lie beyond the end", at, kind="truncated"))
                break
            dtype, bits = BLOB_TYPES.get(number, (f"type_{number}", 8))
            tensors.append(Tensor(f"@{at}", dtype, (size * 8 // bits,), size))
            at = -(-(offset + size) // _BLOB_RECORD_BYTES) * _BLOB_RECORD_BYTES
        return Description(version="2", tensors=tuple(tensors), problems=tuple(problems))


def _add_description(message: Message, ports: dict[int, list[Port]], metadata: dict[str, str]) -> None:
    for number, _, value in message.fields():
        if not isinstance(value, Message):
            continue
        if number in ports:
            ports[number].append(_port(value))
        elif number in (11, 12) and value.size:
            metadata["predicted_feature" if number == 11 else "predicted_probabilities"] = value.text()
        elif number == 100:
            for found, _, part in value.fields():
                if not isinstance(part, Message) or len(metadata) > _MAX_FACTS:
                    continue
                if found in _METADATA_TEXTS and part.size:
                    metadata[_METADATA_TEXTS[found]] = part.text()
                elif found == 100:
                    key, content = entry_of(part)
                    metadata.setdefault(key, content.text() if content is not None else "")


def _port(message: Message) -> Port:
    """A `FeatureDescription`."""
    name, dtype = "", "unknown"
    shape: tuple[int | None, ...] | None = None
    for number, _, value in message.fields():
        if number == 1 and isinstance(value, Message):
            name = value.text()
        elif number == 3 and isinstance(value, Message):
            for kind, _, content in value.fields():
                if isinstance(content, Message) and kind < 1000:
                    dtype, shape = _feature_type(kind, content)
    return Port(name, dtype, shape)


def _feature_type(kind: int, content: Message) -> tuple[str, tuple[int | None, ...] | None]:
    if kind in (5, 8):
        array = content if kind == 5 else next(content.spans(1), content)
        dims: list[int] = []
        dtype = "unknown"
        for number, wire, value in array.fields():
            if number == 1:
                dims += [extent for extent, _ in zip(integers_of(wire, value), range(_MAX_RANK), strict=False)]
            elif number == 2 and isinstance(value, int):
                dtype = ARRAY_TYPES.get(value, f"type_{value}")
        return dtype, tuple(None if extent < 0 else extent for extent in dims[:_MAX_RANK])
    if kind == 4:
        sides = {number: signed(value) for number, _, value in content.fields() if isinstance(value, int)}
        return "image", (sides.get(2), sides.get(1))
    return {1: "int64", 2: "float64", 3: "string", 6: "dictionary", 7: "sequence"}.get(kind, f"type_{kind}"), None


def _add_program(program: Message, operators: Counter[str]) -> None:
    for pair in program.spans(2):
        _, function = entry_of(pair)
        for block in _blocks(function) if function is not None else ():
            _add_block(block, operators, 0)


def _blocks(function: Message) -> Iterator[Message]:
    for pair in function.spans(3):
        _, block = entry_of(pair)
        if block is not None:
            yield block


def _add_block(block: Message, operators: Counter[str], depth: int) -> None:
    """Count the operations of a MIL block and of the blocks within them."""
    if depth > _MAX_BLOCK_DEPTH:
        raise Damaged(f"blocks nested more than {_MAX_BLOCK_DEPTH} deep", where=block.where)
    for operation in block.spans(3):
        for number, _, value in operation.fields():
            if number == 1 and isinstance(value, Message):
                operators[value.text(limit=200)] += 1
            elif number == 4 and isinstance(value, Message):
                _add_block(value, operators, depth + 1)


def _layer(layer: Message) -> str:
    """Type of a `NeuralNetworkLayer`, which is the number of the field that holds its parameters."""
    number = next((number for number, _, value in layer.fields() if number >= 100 and isinstance(value, Message)), 0)
    return LAYERS.get(number, f"layer_{number}")
