"""MNN models (`.mnn`): operators, signature, constants and what the converter noted, from the FlatBuffer.

Source: MNN 3.6.1, schema/default/MNN.fbs, CaffeOp.fbs and Tensor.fbs; field numbers are positions in their tables. The
format has no identifier: it is recognised by a root table whose fields are what MNN requires of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from regraft.errors import Damaged, LimitExceeded
from regraft.package.formats.flatbuffer import Buffer, Table
from regraft.package.formats.interface import Description, Loading, Port, Probe, Problem, Role, Tensor
from regraft.package.formats.mnn_operators import OPERATORS

_DTYPES = (
    "invalid", "float32", "float64", "int32", "uint8", "int16", "int8", "string", "complex64", "int64", "bool", "qint8",
    "quint8", "qint32", "bfloat16", "qint16", "quint16", "uint16", "complex128", "float16", "resource", "variant",
)  # fmt: skip
_LAYOUTS = ("NCHW", "NHWC", "NC4HW4")
_SOURCES = ("Caffe", "TensorFlow", "TFLite", "ONNX", "TorchScript")
_OPERATORS, _OUTPUTS, _SOURCE, _TENSOR_NAMES, _SUBGRAPHS, _NOTE, _EXTRA = 3, 4, 6, 7, 10, 0, 12
_INPUT, _CONST, _PLUGIN, _OTHER = 34, 11, 256, 512
_BLOB, _CONVOLUTION = 7, 9
_PLUGIN_TYPE = 0
_ROOT_TABLE_BYTES = 4096
_LOOKED_AT = 4
_MAX_FACT_CHARS = 500
_MAX_NOTE_BYTES = 1 << 20
_MAX_ELEMENTS = (1 << 58) - 1


class Mnn:
    """Format `mnn`."""

    name = "mnn"
    title = "MNN model"
    role = Role.WEIGHTS
    loading = Loading.INERT
    suffixes = (".mnn",)

    def matches(self, probe: Probe) -> bool:
        """A table with a list of operators whose types there are, and with names of tensors."""
        if len(probe.head) < 16 or not 8 <= int.from_bytes(probe.head[:4], "little") <= _ROOT_TABLE_BYTES:
            return False
        try:
            root = Buffer(probe.reader).root()
            if not root.length(_OPERATORS) or not root.length(_TENSOR_NAMES):
                return False
            first = zip(root.tables(_OPERATORS), range(_LOOKED_AT), strict=False)
            return all(_is_operator(table) for table, _ in first) and root.uint(_SOURCE, 1) <= len(_SOURCES)
        except (Damaged, LimitExceeded):
            return False

    def describe(self, probe: Probe) -> Description:
        """Everything but the weights' values.

        Raises:
            Damaged, LimitExceeded: the tables cannot be read.
        """
        root = Buffer(probe.reader).root()
        names = [name[:_MAX_FACT_CHARS] for name in root.texts(_TENSOR_NAMES)]
        nodes = list(_all_operators(root))
        problems: list[Problem] = []
        tensors = [tensor for node in nodes for tensor in _weights(node, problems)]
        return Description(
            version=_version(root),
            tensors=tuple(tensors),
            parameters=sum(tensor.elements for tensor in tensors if tensor.dtype not in ("int32", "int64")),
            operators=dict(Counter(_name(node) for node in nodes)),
            inputs=tuple(_inputs(root, names, problems)),
            outputs=tuple(Port(name[:_MAX_FACT_CHARS], "unknown") for name in root.texts(_OUTPUTS)),
            metadata=_metadata(root, nodes),
            problems=tuple(problems),
        )


def note_of(probe: Probe) -> str:
    """The text that its converter was given to note (`bizCode`).

    Raises:
        Damaged, LimitExceeded: the tables cannot be read.
    """
    return (Buffer(probe.reader).root().text(_NOTE) or "")[:_MAX_NOTE_BYTES]


def layouts_of(probe: Probe) -> dict[str, str]:
    """Input → `NCHW`, `NHWC` or `NC4HW4`, the layout that it is taken in.

    Raises:
        Damaged, LimitExceeded: the tables cannot be read.
    """
    root = Buffer(probe.reader).root()
    names = list(root.texts(_TENSOR_NAMES))
    found = {}
    for node in root.tables(_OPERATORS):
        indices, parameters = node.sints(4, 4), node.table(2)
        if node.sint(5, 4) == _INPUT and parameters is not None and indices and 0 <= indices[0] < len(names):
            layout = parameters.uint(2, 1, 2)
            found[names[indices[0]]] = _LAYOUTS[layout] if layout < len(_LAYOUTS) else _LAYOUTS[0]
    return found


def _is_operator(table: Table) -> bool:
    return table.sint(5, 4) in OPERATORS and table.length(4) > 0


def _all_operators(root: Table) -> Iterator[Table]:
    yield from root.tables(_OPERATORS)
    for graph in root.tables(_SUBGRAPHS):
        yield from graph.tables(4)


def _name(node: Table) -> str:
    """Its operator; with what a library has to bring for it, where MNN has none of its own."""
    kind = node.sint(5, 4)
    name = OPERATORS.get(kind, f"operator {kind}")
    if kind in (_PLUGIN, _OTHER) and (parameters := node.table(2)) is not None:
        return f"{name}:{(parameters.text(_PLUGIN_TYPE) or '')[:_MAX_FACT_CHARS]}"
    return name


def _inputs(root: Table, names: list[str], problems: list[Problem]) -> Iterator[Port]:
    for node in root.tables(_OPERATORS):
        if node.sint(5, 4) != _INPUT:
            continue
        indices = node.sints(4, 4)
        if not indices or not 0 <= indices[0] < len(names):
            problems.append(Problem("an input is none of the tensors", node.offset))
            continue
        parameters = node.table(2)
        if parameters is None:
            yield Port(names[indices[0]], "unknown")
            continue
        shape = tuple(None if extent < 0 else extent for extent in parameters.sints(0, 4))
        yield Port(names[indices[0]], _dtype(parameters.sint(1, 4, 1)), shape)


def _weights(node: Table, problems: list[Problem]) -> Iterator[Tensor]:
    """Constants, and weights of convolutions (MNN has matrix products with constants as such)."""
    kind, parameters = node.uint(1, 1), node.table(2)
    if parameters is None:
        return
    name = (node.text(3) or "")[:_MAX_FACT_CHARS]
    if kind == _BLOB and node.sint(5, 4) == _CONST:
        shape = parameters.sints(0, 4)
        tensor = Tensor(name, _dtype(parameters.sint(2, 4, 1)), shape)
        if any(extent < 0 for extent in shape) or tensor.elements > _MAX_ELEMENTS:
            problems.append(Problem(f"constant {name!r} has the shape {str(shape)[:100]}"))
        else:
            yield tensor
    elif kind == _CONVOLUTION:
        for part, field in (("weight", 1), ("bias", 2)):
            if count := parameters.length(field):
                yield Tensor(f"{name}.{part}", "float32", (count,), 4 * count)
        packed = parameters.table(3)
        if packed is not None and (stored := packed.length(0)):
            yield Tensor(f"{name}.weight", "float16" if packed.sint(2, 4) == 3 else "int8", (stored,), stored)


def _dtype(number: int) -> str:
    return _DTYPES[number] if 0 <= number < len(_DTYPES) else f"type_{number}"


def _version(root: Table) -> str | None:
    extra = root.table(_EXTRA)
    return None if extra is None else (extra.text(2) or "")[:_MAX_FACT_CHARS] or None


def _metadata(root: Table, nodes: list[Table]) -> dict[str, str]:
    number = root.uint(_SOURCE, 1)
    facts = {"converted_from": _SOURCES[number] if number < len(_SOURCES) else str(number)}
    if note := root.text(_NOTE):
        facts["note"] = note[:_MAX_FACT_CHARS]
    if graphs := root.length(_SUBGRAPHS):
        facts["subgraphs"] = str(graphs)
    if custom := sorted({_name(node) for node in nodes if node.sint(5, 4) in (_PLUGIN, _OTHER)}):
        facts["custom_operators"] = ", ".join(custom)[:_MAX_FACT_CHARS]
    return facts
