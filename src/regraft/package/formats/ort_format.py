"""ONNX Runtime's own format (`.ort`): operators, opsets, signature and initialisers from the FlatBuffer.

Source: onnxruntime/core/flatbuffers/schema/ort.fbs (identifier ORTM); field numbers are positions in its tables.
"""

from __future__ import annotations

from collections import Counter

from regraft.package.formats.flatbuffer import Buffer, Table, has_identifier
from regraft.package.formats.interface import Description, Loading, Port, Probe, Problem, Role, Tensor

_DTYPES = (
    "undefined", "float32", "uint8", "int8", "uint16", "int16", "int32", "int64", "string", "bool", "float16",
    "float64", "uint32", "uint64", "complex64", "complex128", "bfloat16", "float8_e4m3fn", "float8_e4m3fnuz",
    "float8_e5m2", "float8_e5m2fnuz",
)  # fmt: skip
_TENSOR_TYPE = 1
_DIM_VALUE, _DIM_PARAM = 1, 2
_MAX_FACT_CHARS = 500


class OrtFormat:
    """Format `ort`."""

    name = "ort"
    title = "ONNX Runtime model"
    role = Role.WEIGHTS
    loading = Loading.INERT
    suffixes = (".ort",)

    def matches(self, probe: Probe) -> bool:
        """The file identifier `ORTM`."""
        return has_identifier(probe.head, b"ORTM")

    def describe(self, probe: Probe) -> Description:
        """The main graph; sub-graphs inside attributes are not counted.

        Raises:
            Damaged, LimitExceeded: the tables cannot be read.
        """
        session = Buffer(probe.reader).root()
        model = session.table(1)
        version = (session.text(0) or "")[:_MAX_FACT_CHARS] or None
        if model is None or (graph := model.table(7)) is None:
            return Description(version=version, problems=(Problem("the session holds no graph"),))
        ports = {table.text(0) or "": table for table in graph.tables(1)}
        metadata = {"ir_version": str(model.sint(0, 8))}
        for key, field in (("producer_name", 2), ("producer_version", 3), ("domain", 4)):
            if text := model.text(field):
                metadata[key] = text[:_MAX_FACT_CHARS]
        return Description(
            version=version,
            tensors=tuple(_tensor(table) for table in graph.tables(0)),
            operators=dict(Counter((node.text(5) or "")[:_MAX_FACT_CHARS] for node in graph.tables(2))),
            opsets={(table.text(0) or "ai.onnx")[:_MAX_FACT_CHARS]: table.sint(1, 8) for table in model.tables(1)},
            inputs=tuple(_port(name, ports.get(name)) for name in graph.texts(5)),
            outputs=tuple(_port(name, ports.get(name)) for name in graph.texts(6)),
            metadata=metadata,
        )


def _tensor(table: Table) -> Tensor:
    shape = tuple(max(0, extent) for extent in table.sints(2, 8))
    return Tensor(table.text(0) or "", _dtype(table.sint(3, 4)), shape, table.length(4) or None)


def _dtype(number: int) -> str:
    return _DTYPES[number] if 0 <= number < len(_DTYPES) else f"type_{number}"


def _port(name: str, value: Table | None) -> Port:
    info = None if value is None else value.table(2)
    kind = info.table(2) if info is not None and info.uint(1, 1) == _TENSOR_TYPE else None
    if kind is None:
        return Port(name, "unknown")
    shape = kind.table(1)
    if shape is None:
        return Port(name, _dtype(kind.sint(0, 4)))
    return Port(name, _dtype(kind.sint(0, 4)), tuple(_extent(dimension) for dimension in shape.tables(0)))


def _extent(dimension: Table) -> int | str | None:
    value = dimension.table(0)
    if value is None:
        return None
    kind = value.sint(0, 1)
    if kind == _DIM_VALUE:
        return value.sint(1, 8)
    return value.text(2) if kind == _DIM_PARAM else None
