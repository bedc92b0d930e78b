"""Converters to ncnn, by PNNX: one table, as they differ in what is read alone.

PNNX is a program of its own, which runs as a script over a copy of the file.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from regraft.compare.recall import recalled
from regraft.deployment.convert.foreign import Made, run_by
from regraft.deployment.convert.hops.mobile_family import one_sample
from regraft.deployment.convert.hops.ncnn_masks import spread_masks
from regraft.deployment.convert.interface import Hop, Source
from regraft.deployment.convert.obstacles import missing
from regraft.deployment.convert.proving import prove
from regraft.errors import BadFeeds, Crashed, Unsupported
from regraft.package.formats import Port
from regraft.package.formats.ncnn import text_layers
from regraft.package.formats.ncnn_layers import LAYERS
from regraft.runtime.interface import Signature
from regraft.runtime.stated import stated_signature

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from regraft.runtime.interface import Feeds, Model
    from regraft.runtime.ncnn_model import Ends

_SCRIPT = Path(__file__).parents[1] / "scripts" / "ncnn_by_pnnx.py"
_TYPES = {"float32": "f32", "int64": "i64", "int32": "i32"}
"""Dtype → PNNX's word for it, of what ncnn takes at all."""
_COARSE = 1e-3
"""Share of the peak that a batch may be off before it counts as mixed up; what is less is for `verify` to judge."""


class NcnnByPnnx:
    """A converter to ncnn.

    Args:
        source: form.
        does: a sentence for the reference, as other converters have it as the docstring of their class.
    """

    target = "ncnn"
    cost = 4

    def __init__(self, source: str, does: str) -> None:
        self.source = source
        self.name = f"ncnn_from_{source}"
        self.__doc__ = does

    def obstacle(self) -> str:
        """PNNX and ncnn must be installed."""
        return missing("pnnx", "ncnn", extra="ncnn")

    def convert(self, source: Source) -> Hop:
        """Convert a copy of the file at the sizes of one sample, and run the graph there.

        The batch stays free where batches of the examples come out right; other sizes are fixed.

        Raises:
            Unsupported: an input is of a dtype that ncnn does not have, or an operator has no layer there.
            Crashed: PNNX died, hung, or took too much memory.
        """
        from regraft.runtime.ncnn_model import Ends, isolated_ncnn, stated_ends

        model = source.loaded()
        ports = model.signature.inputs
        feeds = one_sample(source.feeds, ports, given=source.given)
        made = run_by(Path(sys.executable), _SCRIPT, source, {"sizes": _sizes(ports, feeds, source.where)})
        graph, weights = made.files["model.param"].decode(), made.files["model.bin"]
        _require_layers(graph, made, source.where)
        ends = msgspec.json.decode(made.files["model.json"], type=Ends)
        fixed = _fixed(model, feeds, ends, source.where)
        if "SDPA" in graph:
            stated = stated_ends(stated_signature(fixed, "float32"), ends)
            product = isolated_ncnn(graph, weights, stated=stated, precision="float32", where=source.where)
            graph = spread_masks(graph, _shapes(product, feeds, has_batch=set(ends.batch_axes[0]) == {0}))
        for signature in (_with_free_batch(fixed, model.signature, ends), fixed):
            stated = stated_ends(stated_signature(signature, "float32"), ends)
            product = isolated_ncnn(graph, weights, stated=stated, precision="float32", where=source.where)
            try:
                if signature is not fixed and not _agrees(product, model, source.feeds):
                    continue
                prove(product, model, [feeds], {port.name: port.name for port in ports})
            finally:
                product.close()
            break
        lost = _lost_sizes(signature, model.signature)
        notes = (*((f"fixed sizes: {lost}",) if lost else ()), *_untyped(signature, ends, graph), *made.notes)
        files = {"model.param": graph.encode(), "model.bin": weights, "model.json": stated.encode()}
        return Hop(files, "ncnn", notes, made.versions, is_one_size=bool(lost))


def _sizes(ports: Sequence[Port], feeds: Feeds, where: str) -> str:
    """`[1,3,8,8]f32,…`, as PNNX wants them."""
    for port in ports:
        if port.dtype not in _TYPES:
            raise Unsupported(f"input {port.name!r} is {port.dtype}, which ncnn does not take", where=where)
    return ",".join(f"[{','.join(map(str, feeds[port.name].shape))}]{_TYPES[port.dtype]}" for port in ports)


def _require_layers(graph: str, made: Made, where: str) -> None:
    """PNNX keeps what it cannot lower under its own name, and ends as if all were well."""
    layers, _ = text_layers(graph, where)
    foreign = sorted({layer.type for layer in layers} - set(LAYERS))
    if foreign:
        said = f" ({made.notes[0]})" if made.notes else ""
        raise Unsupported(f"ncnn has no layer for {', '.join(foreign)[:300]}{said}", where=where)


def _shapes(product: Model, feeds: Feeds, *, has_batch: bool) -> dict[str, tuple[int, ...]]:
    """Blob → its shape without the batch, of a pass that may compute nonsense; the product is closed."""
    try:
        found = {tap.name: tap.value.shape for tap in product.trace(feeds) if tap.value is not None}
    finally:
        product.close()
    return {name: shape[1:] if has_batch else shape for name, shape in found.items()}


def _fixed(model: Model, feeds: Feeds, ends: Ends, where: str) -> Signature:
    """The signature at these sizes alone.

    Raises:
        Unsupported: PNNX kept fewer ports than the model has.
    """
    outputs = model(feeds)
    sides = ("inputs", feeds, ends.blobs[0]), ("outputs", outputs, ends.blobs[1])
    for side, arrays, blobs in sides:
        if len(arrays) != len(blobs):
            raise Unsupported(f"{len(blobs)} {side} are left of {len(arrays)}", where=where)
    taken, returned = (
        tuple(Port(name, str(value.dtype), value.shape) for name, value in arrays.items())
        for arrays in (feeds, outputs)
    )
    return Signature(taken, returned, model.signature.ranges)


def _with_free_batch(fixed: Signature, source: Signature, ends: Ends) -> Signature:
    """The same with the batch as free as the source has it, if all of its inputs have it under one name."""
    axes, _ = ends.batch_axes
    names = {None if axis is None or not port.shape else port.shape[axis]
             for port, axis in zip(source.inputs, axes, strict=True)}  # fmt: skip
    name = names.pop() if len(names) == 1 else None
    if not isinstance(name, str) or None in ends.batch_axes[1]:
        return fixed
    inputs, outputs = (
        tuple(_freed(port, axis, name) for port, axis in zip(ports, sides, strict=True))
        for ports, sides in zip((fixed.inputs, fixed.outputs), ends.batch_axes, strict=True)
    )
    return Signature(inputs, outputs, fixed.ranges)


def _freed(port: Port, axis: int | None, name: str) -> Port:
    extents = enumerate(port.shape or ())
    return Port(port.name, port.dtype, tuple(name if place == axis else extent for place, extent in extents))


def _agrees(product: Model, model: Model, cases: Sequence[Feeds]) -> bool:
    """Are batches of several what the source makes of them? Coarsely: a layer that mixes samples up is far off.

    ncnn carries a batch beside its tensors, and some layers read the first sample alone.
    """
    import numpy as np

    several = [case for case in cases if any(value.shape[:1] > (1,) for value in case.values())]
    seen = 0
    for case in several:
        try:
            ours = product(case)
        except BadFeeds:  # of another size than the one that it is for
            continue
        except (Unsupported, Crashed):
            return False
        for mine, theirs in zip(ours.values(), recalled(model, case).values(), strict=True):
            limit = _COARSE * float(np.abs(theirs).max(initial=0))
            if mine.shape != theirs.shape or not np.allclose(mine, theirs, rtol=0, atol=limit):
                return False
        seen += 1
    return seen > 0


def _lost_sizes(signature: Signature, source: Signature) -> str:
    """`name (1, 3, 8, 8)` of every input that takes fewer sizes than the source's."""
    pairs = zip(signature.inputs, source.inputs, strict=True)
    lost = [mine for mine, theirs in pairs if _free(theirs) - _free(mine) or theirs.shape is None]
    return ", ".join(f"{port.name} ({', '.join(map(str, port.shape or ()))})" for port in lost)


def _untyped(signature: Signature, ends: Ends, graph: str) -> Iterator[str]:
    """What who runs the graph elsewhere has to know of integers."""
    from regraft.runtime.ncnn_model import takes_indices

    layers, _ = text_layers(graph, "")
    for port, blob in zip(signature.inputs, ends.blobs[0], strict=True):
        if port.dtype != "float32" and not takes_indices(layers, blob):
            yield f"{port.name} ({blob}) is taken as floating-point numbers, as PNNX leaves its cast out"


def _free(port: Port) -> set[int]:
    return {axis for axis, extent in enumerate(port.shape or ()) if not isinstance(extent, int)}


FAMILY = (
    NcnnByPnnx("onnx", "Converts ONNX graphs by PNNX, at the sizes of one sample."),
    NcnnByPnnx("torchscript", "Converts TorchScript by PNNX, at the sizes of one sample."),
)
"""Every one of them."""
