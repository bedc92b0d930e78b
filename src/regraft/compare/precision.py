"""Effective precision: what a model computes in, whatever its file or its runtime's options say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.compare.noise import UNIT_ROUNDOFF
from regraft.runtime.rounding import round_to

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from regraft.runtime.interface import Model
    from regraft.runtime.operator_graph import OperatorGraph

_MIN_ELEMENTS = 256
"""Fewer weights than this can be representable by chance: zeros, ones, powers of two."""
_MIN_CHANGED = 2
_SAMPLED = 64
_LOW = ("bfloat16", "float16")


class Lowering(msgspec.Struct, frozen=True):
    """Weights of a candidate that were rounded.

    Attributes:
        precision: to which.
        kept: weights of the reference that the candidate has as they are.
    """

    precision: str
    kept: frozenset[str]


def recognised_precision(model: Model) -> str:
    """The precision that a model works in: its runtime's word, or that of its weights where these are coarser.

    Weights that are stored in float32 and are all numbers of bfloat16 (or float16) were rounded on the way.

    Args:
        model: loaded model.
    """
    stated = model.effective_precision
    if stated != "float32":
        return stated
    candidates = set(_LOW)
    seen = 0
    for weight in float_weights(model):
        seen += weight.size
        candidates = {name for name in candidates if _representable(weight, name)}
        if not candidates:
            return stated
    return next(name for name in _LOW if name in candidates) if seen >= _MIN_ELEMENTS else stated


def lowered_weights(reference: OperatorGraph, candidate: OperatorGraph) -> Lowering | None:
    """Were a candidate's weights rounded to a lower precision while the reference's were not?

    Weights are compared as multisets of numbers, so that other names and layouts do not matter. A tensor counts as
    rounded when the candidate has exactly the numbers to which the reference's would round, and rounding changes at
    least two of them. A number of float32 is one of bfloat16 by chance once in 2^16 (float16: 2^13), and two of them
    are the two that rounding gives once in 2^32 (2^26): no network has so many tensors. More numbers must have been
    rounded than were left as they are; weights without any counterpart (folded, joined, or with a fault in them) are
    taken to be rounded as the others. Where none has a counterpart, all weights of the candidate must be numbers of
    that precision, and many.

    Args:
        reference: what counts as right.
        candidate: what is in question.
    Returns:
        None where weights were not rounded, or only a few of them: that is a divergence of its own.
    """
    theirs = list(_stored_weights(candidate))
    for precision in _LOW:
        low = {_multiset(weight) for _, weight in theirs if _representable(weight, precision)}
        if not low:
            continue
        every = {_multiset(weight) for _, weight in theirs}
        rounded, kept, is_coarse = 0, {}, True
        for name, weight in _stored_weights(reference):
            nearest = round_to(weight, precision).astype(weight.dtype)
            changed = int((nearest != weight).sum())
            is_coarse &= not changed
            if changed >= _MIN_CHANGED and _multiset(nearest) in low:
                rounded += changed
            elif changed and _multiset(weight) in every:
                kept[name] = changed
        if rounded > sum(kept.values()) or (not is_coarse and not kept and _is_all_low(theirs, precision)):
            return Lowering(precision, frozenset(kept))
    return None


def _stored_weights(graph: OperatorGraph) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Weights in float32 that the model holds, not those that it computes from others; lone numbers are settings."""
    maker: Any = getattr(graph, "maker", lambda name: None)
    for name in graph.constant_names:
        value: Any = graph.constant(name) if maker(name) is None else None
        if value is not None and value.dtype == "float32" and value.size > 1:
            yield name, value


def _multiset(weight: NDArray[np.float32]) -> tuple[int, int, int]:
    """The same for arrays of the same numbers in any order: their count, and sums of their bits and the squares."""
    import numpy as np

    bits = np.ascontiguousarray(weight).view(np.uint32).ravel().astype(np.uint64)
    return weight.size, int(bits.sum()), int((bits * bits).sum())  # both modulo 2^64


def _is_all_low(weights: list[tuple[str, NDArray[np.float32]]], precision: str) -> bool:
    seen = sum(weight.size for _, weight in weights)
    return seen >= _MIN_ELEMENTS and all(_representable(weight, precision) for _, weight in weights)


def is_lower(precision: str, than: str) -> bool:
    """Does one precision round more coarsely than the other? False where one of them has no unit roundoff."""
    ours, theirs = UNIT_ROUNDOFF.get(precision), UNIT_ROUNDOFF.get(than)
    return ours is not None and theirs is not None and ours > theirs


def float_weights(model: Any) -> Iterator[NDArray[np.float32]]:
    """Weights with at least one axis, in float32; nothing for a runtime that does not show them."""
    kind = type(model).__name__
    if kind in ("TorchModel", "TorchCudaModel", "TorchScriptModel", "TorchExportModel"):
        holder = model.graph if hasattr(model, "graph") else model.module
        for parameter in holder.parameters():
            if parameter.is_floating_point() and parameter.ndim:
                yield parameter.detach().float().cpu().numpy()
    elif kind in ("OnnxRuntimeModel", "OnnxDecoderModel", "IsolatedModel"):
        yield from model.float_weights()
    elif kind == "OpenVinoModel":
        for node in model.graph.get_ordered_ops():
            is_float = node.get_type_name() == "Constant" and node.get_element_type().get_type_name() in ("f32", "f16")
            if is_float and node.data.ndim:  # compressed weights are widened by an operator behind them
                yield node.data.astype("float32", copy=False)
    elif kind == "StaticEmbeddingModel":
        yield model.matrix.astype("float32")


def _representable(weight: NDArray[np.float32], precision: str) -> bool:
    import numpy as np

    flat = weight.reshape(-1)
    if weight.size > 2 * _SAMPLED:  # most weights need not be read, and elements far apart may cost a page each
        if not _representable(flat[:_SAMPLED], precision):
            return False
        if not _representable(flat[:: weight.size // _SAMPLED | 1], precision):
            return False
    if precision == "float16":
        with np.errstate(over="ignore"):
            return bool(np.array_equal(weight.astype(np.float16).astype(np.float32), weight))
    bits = np.ascontiguousarray(weight, dtype=np.float32).view(np.uint32)
    return not bool(np.any(bits & np.uint32(0xFFFF)))
