"""Compilers that do not take every free size: a network is compiled with free ones first, then with fixed ones."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from regraft.compare.recall import recalled
from regraft.deployment.convert.hops.mobile_family import one_sample
from regraft.deployment.convert.hops.onnx_rewriting import graph_model, optimised
from regraft.deployment.convert.interface import Hop, Source
from regraft.errors import BadFeeds, Crashed, RegraftError, Unsupported
from regraft.package.formats import Port
from regraft.package.package import open_package
from regraft.runtime.interface import Signature
from regraft.runtime.verified import VerifiedFiles

if TYPE_CHECKING:
    from regraft.runtime.interface import Array, Feeds, Model


def freely_or_fixed(source: Source, compiled: Callable[[Signature, Feeds], Hop], *, lacking: str | None = None) -> Hop:
    """What a compiler makes with the free sizes of a network, or, where it cannot, with those of one sample.

    Args:
        source: a loaded network.
        compiled: compiles for what the product is to state, and for the sizes of feeds; without feeds for free sizes.
        lacking: stands in a refusal that other sizes would not lift.
    Raises:
        Unsupported, Crashed: neither can be compiled; both reasons are given.
    """
    model = source.loaded()
    try:
        return compiled(stated_ports(model, source.feeds), {})
    except (Unsupported, Crashed) as error:
        is_hopeless = lacking is not None and lacking in error.what
        if is_hopeless or not source.feeds or not _has_free_size(model.signature.inputs):
            raise
        refused = error
    feeds = one_sample(source.feeds, model.signature.inputs, given=source.given)
    try:
        hop = compiled(stated_ports(model, [feeds], is_fixed=True), feeds)
    except RegraftError as error:
        raise Unsupported(f"{refused.what}; with fixed sizes: {error.what}", where=source.where) from error
    shapes = ", ".join(f"{name} {value.shape}" for name, value in feeds.items())
    note = f"the sizes are fixed: {shapes}; with free ones: {refused.what}"
    return msgspec.structs.replace(hop, notes=(note, *hop.notes))


def stated_ports(model: Model, cases: Sequence[Feeds], *, is_fixed: bool = False) -> Signature:
    """What a product is to state: the ports of the source, outputs from a run where it does not say them.

    Args:
        model: the source; programs do not say what they return.
        cases: examples of several sizes; an extent that differs between them has no number.
        is_fixed: it is for the sizes of the first of them.
    """
    inputs = model.signature.inputs
    if model.signature.outputs and not is_fixed:
        return model.signature
    if is_fixed:
        inputs = tuple(msgspec.structs.replace(port, shape=cases[0][port.name].shape) for port in inputs)
    returned = list(_returned(model, cases))
    if not returned:
        raise Unsupported("it takes none of the examples any more", where=model.where)
    outputs = []
    for name, value in returned[0].items():
        extents = zip(*(one[name].shape for one in returned), strict=False)
        shape = tuple(sizes[0] if len(set(sizes)) == 1 else None for sizes in extents)
        outputs.append(Port(name, str(value.dtype), shape if value.ndim else ()))
    return Signature(inputs, tuple(outputs), model.signature.ranges)


def fixed_graph(source: Source, feeds: Feeds) -> bytes:
    """The ONNX graph for the sizes of these feeds, and what is constant then as constants.

    Frontends of compilers cannot follow a reshape whose target is computed from a shape.
    """
    import onnx

    model = graph_model(source)
    proto = onnx.ModelProto.FromString(model.content)
    for value in proto.graph.input:
        if value.name in feeds:
            extents = value.type.tensor_type.shape.dim
            del extents[:]  # a graph may not even say how many there are
            for size in feeds[value.name].shape:
                extents.add().dim_value = size
    content: bytes = optimised(proto.SerializeToString(), "basic", source.where).SerializeToString()
    return content


@contextlib.contextmanager
def handed_over(content: bytes, name: str, source: Source) -> Iterator[Source]:
    """A file of our own in place of the source's, for a script to read."""
    with tempfile.TemporaryDirectory(prefix="regraft-") as folder:
        (Path(folder) / name).write_bytes(content)
        with open_package(folder) as package:
            yield Source(None, (), VerifiedFiles(package), name, source.where)


def _has_free_size(ports: Sequence[Port]) -> bool:
    return any(port.shape is None or not all(isinstance(extent, int) for extent in port.shape) for port in ports)


def _returned(model: Model, cases: Sequence[Feeds]) -> Iterator[Mapping[str, Array]]:
    """Outputs at the sizes that it takes: a hop before this one may have fixed some."""
    for feeds in cases:
        with contextlib.suppress(BadFeeds, Unsupported):
            yield recalled(model, feeds)
