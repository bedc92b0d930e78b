"""Which input and output of one model is which of the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from regraft.errors import Unsupported

if TYPE_CHECKING:
    from regraft.package.formats import Port
    from regraft.runtime.interface import Array


class Pairing(msgspec.Struct, frozen=True):
    """Name in the reference → name in the candidate, and how they were matched: `name` or `position`."""

    names: dict[str, str]
    by: str

    def renamed(self, values: Mapping[str, Array]) -> dict[str, Array]:
        """What the reference takes, by the candidate's names; what the candidate does not have is left out."""
        return {self.names[name]: value for name, value in values.items() if name in self.names}


def pair_inputs(reference: Sequence[Port], candidate: Sequence[Port], where: str) -> Pairing:
    """Match the inputs of two models.

    A candidate may have fewer inputs: an exporter drops those that the network does not use.

    Raises:
        Unsupported: they have neither the names nor the number and ranks in common; both are listed.
    """
    ours, theirs = [port.name for port in reference], [port.name for port in candidate]
    if set(theirs) <= set(ours):
        return Pairing({name: name for name in theirs}, "name")
    if len(ours) == len(theirs) and all(_fits(a, b) for a, b in zip(reference, candidate, strict=True)):
        return Pairing(dict(zip(ours, theirs, strict=True)), "position")
    raise Unsupported(
        f"the inputs do not correspond: {', '.join(ours) or 'none'} against {', '.join(theirs) or 'none'}",
        where=where,
        hint="wrap one of them so that both take the same inputs: py:module:function",
    )


def pair_outputs(reference: Mapping[str, Array], candidate: Mapping[str, Array], where: str) -> Pairing:
    """Match the outputs of two models on the same feeds.

    Raises:
        Unsupported: they have neither the names nor the number and shapes in common; both are listed.
    """
    shared = [name for name in reference if name in candidate]
    if shared and len(shared) == min(len(reference), len(candidate)):
        return Pairing({name: name for name in shared}, "name")
    renamed = {name: name.replace(".", "_") for name in reference}
    if len(reference) == len(candidate) and all(other in candidate for other in renamed.values()):
        return Pairing(renamed, "name")
    pairs = list(zip(reference, candidate, strict=False))
    if len(reference) == len(candidate) and all(reference[a].shape == candidate[b].shape for a, b in pairs):
        return Pairing(dict(pairs), "position")
    raise Unsupported(
        f"the outputs do not correspond: {_shapes(reference)} against {_shapes(candidate)}",
        where=where,
        hint="wrap one of them so that both return the same outputs: py:module:function",
    )


def _fits(a: Port, b: Port) -> bool:
    if ("float" in a.dtype) != ("float" in b.dtype):
        return False
    if a.shape is None or b.shape is None:
        return True
    fixed = zip(a.shape, b.shape, strict=False)
    return len(a.shape) == len(b.shape) and all(x == y for x, y in fixed if isinstance(x, int) and isinstance(y, int))


def _shapes(outputs: Mapping[str, Array]) -> str:
    return ", ".join(f"{name} {value.shape}" for name, value in outputs.items()) or "none"
