"""TFLite (LiteRT) models: operators, signature, weights and quantisation from the FlatBuffer.

Source: tensorflow/compiler/mlir/lite/schema/schema.fbs, version 3c; field numbers are positions in its tables.
"""

from __future__ import annotations

from collections import Counter

from regraft.package.formats.flatbuffer import Buffer, Table, has_identifier
from regraft.package.formats.interface import Description, Loading, Port, Probe, Problem, Role, Tensor
from regraft.package.formats.tflite_operators import CUSTOM, operator_name

_DTYPES = (
    "float32", "float16", "int32", "uint8", "int64", "string", "bool", "int16", "complex64", "int8", "float64",
    "complex128", "uint64", "resource", "variant", "uint32", "uint16", "int4", "bfloat16", "int2", "uint4",
)  # fmt: skip
_MIN_RUNTIME = "min_runtime_version"
_MAX_FACT_CHARS = 500


class TFLite:
    """Format `tflite`."""

    name = "tflite"
    title = "TensorFlow Lite model"
    role = Role.WEIGHTS
    loading = Loading.INERT
    suffixes = (".tflite", ".lite")

    def matches(self, probe: Probe) -> bool:
        """The file identifier `TFL3`."""
        return has_identifier(probe.head, b"TFL3")

    def describe(self, probe: Probe) -> Description:
        """Everything but the weights' values.

        Raises:
            Damaged, LimitExceeded: the root table, or something it needs, cannot be read.
        """
        model = Buffer(probe.reader).root()
        codes = [_operator(code) for code in model.tables(1)]
        buffers = _Buffers(model, probe.reader.size)
        operators: Counter[str] = Counter()
        weights: list[Tensor] = []
        quantised: Counter[str] = Counter()
        inputs: list[Port] = []
        outputs: list[Port] = []
        problems: list[Problem] = []
        graphs = list(model.tables(2))
        for number, graph in enumerate(graphs):
            tensors = list(graph.tables(0))
            operators.update(_used(graph, codes, problems))
            weights += _weights(tensors, buffers, problems)
            quantised.update(_quantisation(tensors))
            if number == 0:
                inputs += _ports(graph.sints(1, 4), tensors, problems)
                outputs += _ports(graph.sints(2, 4), tensors, problems)
        return Description(
            version=str(model.uint(0, 4)),
            tensors=tuple(weights),
            operators=dict(operators),
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            metadata=_metadata(model, len(graphs), codes, quantised, buffers),
            problems=tuple(problems),
        )


class _Buffers:
    """The model's buffers by index: how many bytes each has. Offsets of 0 and 1 mean that it is in place."""

    def __init__(self, model: Table, size: int) -> None:
        self.tables = list(model.tables(4))
        self._size = size

    def size_bytes(self, index: int) -> int | None:
        """Bytes of a buffer; None when the index or its place does not exist."""
        if not 0 <= index < len(self.tables):
            return None
        table = self.tables[index]
        offset, size = table.uint(1, 8), table.uint(2, 8)
        if offset > 1:
            return size if offset + size <= self._size else None
        return table.length(0)


def operator_names(model: Table) -> list[str]:
    """The operators that nodes refer to by index."""
    return [_operator(code)[0] for code in model.tables(1)]


def _operator(code: Table) -> tuple[str, bool, int]:
    """Name, whether it is a custom operator, and version. Old files have only the 8 bit code."""
    number = max(code.sint(0, 1), code.sint(3, 4))
    if number == CUSTOM:
        return (code.text(1) or "CUSTOM")[:_MAX_FACT_CHARS], True, code.sint(2, 4, 1)
    return operator_name(number), False, code.sint(2, 4, 1)


def _used(graph: Table, codes: list[tuple[str, bool, int]], problems: list[Problem]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for node in graph.tables(3):
        index = node.uint(0, 4)
        if index < len(codes):
            counts[codes[index][0]] += 1
        else:
            problems.append(Problem(f"a node uses operator code {index} of {len(codes)}", node.offset))
    return counts


def _weights(tensors: list[Table], buffers: _Buffers, problems: list[Problem]) -> list[Tensor]:
    """The tensors that have data. An activation refers to buffer 0 or to an empty one."""
    found = []
    for tensor in tensors:
        index = tensor.uint(2, 4)
        size = buffers.size_bytes(index)
        name = tensor.text(3) or ""
        if size is None:
            problems.append(Problem(f"tensor {name[:_MAX_FACT_CHARS]!r} refers to buffer {index}, which is not there"))
        elif index and size:
            extents = tensor.sints(0, 4)
            if any(extent < 0 for extent in extents):
                problems.append(Problem(f"tensor {name[:_MAX_FACT_CHARS]!r} has a negative extent"))
                continue
            found.append(Tensor(name, element_type(tensor), extents, size))
    return found


def _ports(indices: tuple[int, ...], tensors: list[Table], problems: list[Problem]) -> list[Port]:
    ports = []
    for index in indices:
        if not 0 <= index < len(tensors):
            problems.append(Problem(f"the signature names tensor {index} of {len(tensors)}"))
            continue
        tensor = tensors[index]
        extents = tensor.sints(7, 4) or tensor.sints(0, 4)
        shape = tuple(None if extent < 0 else extent for extent in extents)
        ports.append(Port(tensor.text(3) or "", element_type(tensor), shape))
    return ports


def element_type(tensor: Table) -> str:
    """The element type of a tensor of the schema, as `Tensor.dtype` has it."""
    number = tensor.uint(1, 1)
    return _DTYPES[number] if number < len(_DTYPES) else f"type_{number}"


def _quantisation(tensors: list[Table]) -> Counter[str]:
    """How many tensors carry scales: per tensor, or per channel."""
    counts: Counter[str] = Counter()
    for tensor in tensors:
        parameters = tensor.table(4)
        scales = 0 if parameters is None else parameters.length(2)
        if scales:
            counts[f"{element_type(tensor)} per {'tensor' if scales == 1 else 'channel'}"] += 1
    return counts


def _metadata(
    model: Table, graphs: int, codes: list[tuple[str, bool, int]], quantised: Counter[str], buffers: _Buffers
) -> dict[str, str]:
    facts = {"subgraphs": str(graphs)}
    if description := model.text(3):
        facts["description"] = description[:_MAX_FACT_CHARS]
    if custom := sorted({name for name, is_custom, _ in codes if is_custom}):
        facts["custom_operators"] = ", ".join(custom)[:_MAX_FACT_CHARS]
    if quantised:
        facts["quantised_tensors"] = ", ".join(f"{count} {kind}" for kind, count in sorted(quantised.items()))
    names = []
    for entry in model.tables(6):
        name = (entry.text(0) or "")[:_MAX_FACT_CHARS]
        names.append(name)
        index = entry.uint(1, 4)
        if name == _MIN_RUNTIME and index < len(buffers.tables):
            value = buffers.tables[index].blob(0, limit=64).split(b"\x00")[0].decode("ascii", "replace")
            facts[_MIN_RUNTIME] = value
    if names:
        facts["metadata_entries"] = ", ".join(names)[:_MAX_FACT_CHARS]
    if keys := [(table.text(2) or "")[:_MAX_FACT_CHARS] for table in model.tables(7)]:
        facts["signatures"] = ", ".join(keys)[:_MAX_FACT_CHARS]
    return facts
