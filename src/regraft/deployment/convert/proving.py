"""A first look at what a converter made: does it run, and return what the source returns in shape?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from regraft.compare.recall import recalled
from regraft.errors import BadFeeds, Unsupported

if TYPE_CHECKING:
    from regraft.runtime.interface import Feeds, Model


def prove_graph(content: bytes, model: Model, cases: Sequence[Feeds]) -> None:
    """As `prove`, for the bytes of an ONNX graph whose inputs are called as the source's."""
    from regraft.runtime.onnxruntime_model import OnnxRuntimeModel

    graph = OnnxRuntimeModel(content, where=model.where)
    try:
        prove(graph, model, cases, {port.name: port.name for port in model.signature.inputs})
    finally:
        graph.close()


def prove(product: Model, model: Model, cases: Sequence[Feeds], inputs: Mapping[str, str]) -> None:
    """Run what was made at the sizes of the examples; shapes must come out as the source's.

    A size that it refuses is no error here, as long as it takes another: `completeness.shortfall` weighs that.

    Args:
        product: what was made.
        model: what it was made from.
        cases: examples.
        inputs: input of the source → of the product; one that the product does not have is left out.
    Raises:
        Unsupported: it runs at none of the sizes, or returns other shapes.
    """
    taken = {port.name for port in product.signature.inputs}
    refused: Exception | None = None
    ran = 0
    for feeds in cases:
        shapes = ", ".join(f"{name} {value.shape}" for name, value in feeds.items())
        try:
            ours = product({inputs[name]: value for name, value in feeds.items() if inputs[name] in taken})
        except (Unsupported, BadFeeds) as error:
            refused = refused or Unsupported(f"what was made does not run at {shapes}: {error.what}", where=model.where)
            continue
        ran += 1
        if wrong := _misshapen(ours, recalled(model, feeds)):
            raise Unsupported(f"at {shapes} what was made returns {wrong}", where=model.where)
    if refused is not None and not ran:
        raise refused


def _misshapen(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    for (name, mine), value in zip(ours.items(), theirs.values(), strict=False):
        if mine.shape != value.shape:
            return f"{name} {mine.shape} in place of {value.shape}"
    return "" if len(ours) == len(theirs) else f"{len(ours)} outputs in place of {len(theirs)}"
