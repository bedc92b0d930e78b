"""What the scripts that make ONNX share: refuse what is not ONNX, and name the axis that is the batch."""


def refuse_foreign(proto):
    """tf2onnx leaves what it cannot translate in the graph as it was.

    Raises:
        ValueError: names the operators.
    """
    from onnx import defs

    opset = next(entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx"))
    foreign = set()
    for node in nodes_of(proto.graph):
        if node.domain in ("", "ai.onnx") and not defs.has(node.op_type, opset, ""):
            foreign.add(node.op_type)
    if foreign:
        raise ValueError(f"tf2onnx has no ONNX for {', '.join(sorted(foreign))}")


def nodes_of(graph):
    """Every node, those of branches and loops included."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from nodes_of(attribute.g)


def name_batch(proto, dynamic):
    """Call the first axis of these inputs `batch`: tf2onnx gives every free axis a name of its own."""
    for value in proto.graph.input:
        extents = value.type.tensor_type.shape.dim
        if value.name in dynamic and extents and not extents[0].HasField("dim_value"):
            extents[0].dim_param = "batch"
