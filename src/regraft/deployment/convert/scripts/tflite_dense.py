"""TFLite files with all weights dense: tf2onnx reads sparse ones as if they were, and knows no DENSIFY.

Source: TFLite's schema, `SparsityParameters`: how the elements of a tensor are walked, level by level, and which of
them are stored.
"""

import numpy as np

_DTYPES = {0: np.float32, 1: np.float16, 9: np.int8}
"""TFLite's number of a type → dtype, of those that weights are sparse in."""
_DENSE = 0


def with_dense_weights(content):
    """The same flatbuffer, or one in which sparse weights are written out and the operators that did so are gone.

    Raises:
        ValueError: sparse weights of another type.
    """
    import flatbuffers
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(bytearray(content), 0)
    sparse = [(tensor, graph) for graph in model.subgraphs for tensor in graph.tensors if tensor.sparsity is not None]
    if not sparse:
        return content
    for tensor, _ in sparse:
        if tensor.type not in _DTYPES:
            raise ValueError(f"sparse weights of type {tensor.type}")
        stored = np.asarray(model.buffers[tensor.buffer].data, dtype=np.uint8).view(_DTYPES[tensor.type])
        values = _dense(stored, tensor.sparsity, tuple(tensor.shape))
        model.buffers.append(schema.BufferT())
        model.buffers[-1].data = np.frombuffer(values.tobytes(), dtype=np.uint8)
        tensor.buffer, tensor.sparsity = len(model.buffers) - 1, None
    for graph in model.subgraphs:
        _without_densify(graph, model.operatorCodes, schema.BuiltinOperator.DENSIFY)
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _dense(stored, sparsity, shape):
    """Walk the levels: which elements there are at each, and where in the next level each of them goes on."""
    slots, places = np.zeros(1, dtype=np.int64), np.zeros((1, 0), dtype=np.int64)
    for level in sparsity.dimMetadata:
        if level.format == _DENSE:
            counts = np.full(len(slots), level.denseSize)
            inner = np.tile(np.arange(level.denseSize), len(slots))
            slots = slots.repeat(level.denseSize) * level.denseSize + inner
        else:
            segments, indices = (
                np.asarray(one.values, dtype=np.int64) for one in (level.arraySegments, level.arrayIndices)
            )
            counts = segments[slots + 1] - segments[slots]
            before = (np.cumsum(counts) - counts).repeat(counts)
            slots = segments[slots].repeat(counts) + np.arange(counts.sum()) - before
            inner = indices[slots]
        places = np.column_stack([places.repeat(counts, axis=0), inner])
    return _placed(stored[slots], places, sparsity, shape)


def _placed(values, places, sparsity, shape):
    """(n,) values at (n, levels) places, whose order is that of the walk; axes in blocks have two levels."""
    order = list(sparsity.traversalOrder)
    blocked = list(sparsity.blockMap) if sparsity.blockMap is not None else []
    where = [places[:, order.index(axis)] for axis in range(len(shape))]
    for number, axis in enumerate(blocked):
        level = order.index(len(shape) + number)
        where[axis] = where[axis] * sparsity.dimMetadata[level].denseSize + places[:, level]
    result = np.zeros(shape, dtype=values.dtype)
    result[tuple(where)] = values
    return result


def _without_densify(graph, codes, densify):
    """Who read the result of the operator reads the weights, which are dense now."""
    instead, kept = {}, []
    for operator in graph.operators:
        if codes[operator.opcodeIndex].builtinCode == densify:
            instead[operator.outputs[0]] = operator.inputs[0]
        else:
            kept.append(operator)
    for operator in kept:
        operator.inputs = [instead.get(one, one) for one in operator.inputs]
    graph.operators = kept
