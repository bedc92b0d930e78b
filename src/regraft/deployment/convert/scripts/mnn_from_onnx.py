"""A model of MNN from ONNX, by MNN's own converter, which is a library in C++ that prints and returns no errors."""

import importlib.metadata
import itertools
import os
import re
import tempfile
from pathlib import Path

_SAID = 600
_MAX_BYTES = 1 << 30
_TELLING = re.compile(r"not support|error|fail|can't|don't", re.IGNORECASE)
_STAMP = re.compile(r"^\[\d\d:\d\d:\d\d\] \S*:\d+: ")


def convert(model, out, options):
    """Convert with weights as they are; what the model says of itself stands in the text that MNN keeps for its user.

    `MNN.tools`, which the command line uses, installs a package and reports every conversion to its makers when it is
    imported: it is left alone.

    Raises:
        ValueError: MNN made nothing; its lines that say why, with the operators that it lacks.
    """
    import _tools

    path = Path(out) / "model.mnn"
    exact, kept = _with_exact_gelu(Path(model))
    command = ["mnnconvert", "-f", "ONNX", "--modelFile", str(exact), "--MNNModel", str(path)]
    with tempfile.TemporaryFile() as log:
        streams = [os.dup(1), os.dup(2)]
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            _tools.mnnconvert([*command, "--bizCode", options["signature"]])
        finally:
            for number, stream in enumerate(streams, 1):
                os.dup2(stream, number)
                os.close(stream)
        log.seek(0)
        said = [_STAMP.sub("", line) for line in log.read().decode("utf-8", "replace").splitlines()]
    if not path.exists():
        telling = [line.strip() for line in said if _TELLING.search(line)]
        raise ValueError(
            " ".join(telling)[:_SAID] or " ".join(said)[-_SAID:] or "MNN made nothing, and does not say why"
        )
    notes = [f"{kept} times Erf is kept from MNN's GELU, which is an approximation off by up to 5e-4"] if kept else []
    return {"model": "model.mnn", "notes": notes, "versions": {"mnn": importlib.metadata.version("mnn")}}


def _with_exact_gelu(path):
    """The graph with `Gelu` written out and every `Erf(x)` as `-Erf(-x)`, which is the same number.

    MNN 3.6.1 takes both a `Gelu` and the operators that make one for its own, which is computed by tanh. Where nothing
    is to be done, and where the graph is too large for one file, it stays as it is.
    """
    import onnx

    proto = onnx.load(path)
    graph = proto.graph
    nodes, names = [], (f"regraft_{number}" for number in itertools.count())
    for node in graph.node:
        nodes += _written_out(node, graph, names) if node.domain in ("", "ai.onnx") else [node]
    erfs = sum(node.op_type == "Erf" for node in nodes)
    if not erfs or proto.ByteSize() > _MAX_BYTES:
        return path, 0
    del graph.node[:]
    graph.node.extend(nodes)
    place = Path(tempfile.mkdtemp()) / "exact.onnx"
    onnx.save(proto, place)
    return place, erfs


def _written_out(node, graph, names):
    """Nodes in place of one."""
    from onnx import TensorProto, helper

    if node.op_type == "Erf":
        return list(_erf(node.input[0], node.output[0], names))
    settings = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    if node.op_type != "Gelu" or settings.get("approximate", b"none") != b"none":
        return [node]
    root, half = next(names), next(names)
    graph.initializer.append(helper.make_tensor(root, TensorProto.FLOAT, [], [0.5**0.5]))
    graph.initializer.append(helper.make_tensor(half, TensorProto.FLOAT, [], [0.5]))
    scaled, erf, halved, part = (next(names) for _ in range(4))
    x = node.input[0]
    return [
        helper.make_node("Mul", [x, root], [scaled]),
        *_erf(scaled, erf, names),
        helper.make_node("Mul", [x, half], [halved]),
        helper.make_node("Mul", [halved, erf], [part]),
        helper.make_node("Add", [halved, part], [node.output[0]]),
    ]


def _erf(x, y, names):
    from onnx import helper

    negative, mirrored = next(names), next(names)
    yield helper.make_node("Neg", [x], [negative])
    yield helper.make_node("Erf", [negative], [mirrored])
    yield helper.make_node("Neg", [mirrored], [y])
