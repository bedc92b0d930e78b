"""A model of MNN from ONNX, by MNN's own converter, a process of its own: it prints, returns no errors, and may die."""

import importlib.metadata
import itertools
import re
import subprocess
import sys
import tempfile
from pathlib import Path

_SAID = 600
_MAX_BYTES = 1 << 30
_OUTPUTS = {"LSTM": 3, "GRU": 2, "RNN": 2}
_PROGRAM = "import sys, _tools; _tools.mnnconvert(['mnnconvert', *sys.argv[1:]])"
_TELLING = re.compile(r"not support|error|fail|can't|don't", re.IGNORECASE)
_STAMP = re.compile(r"^\[\d\d:\d\d:\d\d\] \S*:\d+: ")


def convert(model, out, options):
    """Convert with weights as they are; what the model says of itself stands in the text that MNN keeps for its user.

    `MNN.tools`, which the command line uses, installs a package and reports every conversion to its makers when it is
    imported: it is left alone.

    Raises:
        ValueError: MNN made nothing; its lines that say why, with the operators that it lacks.
    """
    path = Path(out) / "model.mnn"
    prepared, kept = _prepared(Path(model))
    asked = ["-f", "ONNX", "--modelFile", str(prepared), "--MNNModel", str(path), "--bizCode", options["signature"]]
    command = [sys.executable, "-I", "-c", _PROGRAM, *asked]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if done.returncode or not path.exists():
        said = [_STAMP.sub("", line).strip() for line in done.stdout.decode("utf-8", "replace").splitlines()] or [""]
        telling = " ".join(line for line in said if _TELLING.search(line)) or said[-1]
        code = done.returncode
        how = f"died of signal {-code}" if code < 0 else f"ended with {code}" if code else "made nothing"
        raise ValueError(f"MNN's converter {how}: {telling[-_SAID:]}")
    notes = [f"{kept} times Erf is kept from MNN's GELU, which is an approximation off by up to 5e-4"] if kept else []
    return {"model": "model.mnn", "notes": notes, "versions": {"mnn": importlib.metadata.version("mnn")}}


def _prepared(path):
    """The same graph in words that MNN 3.6.1 gets right, and how often Erf stands in it.

    MNN takes both a `Gelu` and the operators that make one for its own, which is computed by tanh: `Gelu` is written
    out, and `Erf(x)` becomes `-Erf(-x)`, which is the same number. It dies of recurrent layers that leave out outputs:
    all of them get names. `IsNaN`, which exporters of attention write and MNN lacks, is written as comparisons. Where
    nothing is to be done, or the graph is too large for one file, it stays as it is.
    """
    import onnx

    proto = onnx.load(path)
    graph = proto.graph
    nodes, names = [], (f"regraft_{number}" for number in itertools.count())
    for node in graph.node:
        nodes += _written_out(node, graph, names) if node.domain in ("", "ai.onnx") else [node]
    is_changed = len(nodes) != len(graph.node)
    for node in nodes:
        lacks = _OUTPUTS.get(node.op_type, 0) - len(node.output)
        node.output.extend(next(names) for _ in range(lacks))
        is_changed |= lacks > 0
    if not is_changed or proto.ByteSize() > _MAX_BYTES:
        return path, 0
    del graph.node[:]
    graph.node.extend(nodes)
    place = Path(tempfile.mkdtemp()) / "prepared.onnx"
    onnx.save(proto, place)
    return place, sum(node.op_type == "Erf" for node in nodes)


def _written_out(node, graph, names):
    """Nodes in place of one."""
    from onnx import helper

    settings = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    if node.op_type == "Erf":
        return list(_erf(node.input[0], node.output[0], names))
    if node.op_type == "IsNaN":
        return list(_is_nan(node.input[0], node.output[0], graph, names))
    if node.op_type == "Gelu" and settings.get("approximate", b"none") == b"none":
        return list(_gelu(node.input[0], node.output[0], graph, names))
    return [node]


def _gelu(x, y, graph, names):
    """x/2 + x/2·erf(x/√2), in the precision of the graph's weights, which is float32."""
    from onnx import helper

    scaled, erf, halved, part = (next(names) for _ in range(4))
    half = _number(0.5, graph, names)
    yield helper.make_node("Mul", [x, _number(0.5**0.5, graph, names)], [scaled])
    yield from _erf(scaled, erf, names)
    yield helper.make_node("Mul", [x, half], [halved])
    yield helper.make_node("Mul", [halved, erf], [part])
    yield helper.make_node("Add", [halved, part], [y])


def _is_nan(x, y, graph, names):
    """Neither below zero nor anything else; MNN finds every number equal to itself, NaN too."""
    from onnx import helper

    zero, (above, below, either) = _number(0.0, graph, names), (next(names) for _ in range(3))
    yield helper.make_node("GreaterOrEqual", [x, zero], [above])
    yield helper.make_node("Less", [x, zero], [below])
    yield helper.make_node("Or", [above, below], [either])
    yield helper.make_node("Not", [either], [y])


def _number(value, graph, names):
    from onnx import TensorProto, helper

    name = next(names)
    graph.initializer.append(helper.make_tensor(name, TensorProto.FLOAT, [], [value]))
    return name


def _erf(x, y, names):
    from onnx import helper

    negative, mirrored = next(names), next(names)
    yield helper.make_node("Neg", [x], [negative])
    yield helper.make_node("Erf", [negative], [mirrored])
    yield helper.make_node("Neg", [mirrored], [y])
