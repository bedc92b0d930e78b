"""Whether an answer is right: the place, the size of the region, the cause."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec
import onnx
from benchmarks.mutations.interface import Fault, Reference
from benchmarks.mutations.renaming import graphs

SMALL = 3
"""A region of so many reference nodes still tells where to look."""


class Origin(Protocol):
    """What a localiser says about one fault."""

    reference: tuple[str, ...]
    candidate: tuple[str, ...]
    cause: str | None
    tensor: str


class Score(msgspec.Struct, frozen=True):
    """How right the answer about one candidate is.

    Attributes:
        detected: something was found.
        exact: for every planted fault, a region of one node that is its origin.
        small: for every planted fault, a region of at most three nodes that contains its origin.
        contained: for every planted fault, a region that contains its origin.
        region: size of the largest region that counts for a fault; 0 where the answer names inserted nodes alone.
        cause: for every planted fault, an origin at the right place with the right word.
        extra: origins that contain no planted fault.
    """

    detected: bool
    exact: bool
    small: bool
    contained: bool
    region: int
    cause: bool
    extra: int


def score(
    origins: Sequence[Origin], faults: Iterable[Fault], of: Reference, *, original: dict[str, str] | None = None
) -> Score:
    """Judge an answer.

    Args:
        origins: what the localiser says.
        faults: what was planted.
        of: the reference.
        original: node of the candidate → its name before it was renamed; None where nodes have no counterpart.
    """
    made = {node.name: set(node.output) for graph in graphs(of.proto.graph) for node in graph.node}
    exact = small = contained = cause = True
    region, used = 0, set()
    for fault in faults:
        right = [one for one in origins if _is_there(one, fault, made, original)]
        used |= {id(one) for one in right}
        sizes = [len(one.reference) for one in right]
        exact &= any(size <= 1 for size in sizes)
        small &= any(size <= SMALL for size in sizes)
        contained &= bool(right)
        region = max(region, min(sizes, default=0))
        cause &= any(one.cause in (fault.cause, *fault.also) for one in right)
    extra = sum(id(one) not in used for one in origins)
    return Score(bool(origins), exact, small, contained, region, cause, extra)


def _is_there(origin: Origin, fault: Fault, made: dict[str, set[str]], original: dict[str, str] | None) -> bool:
    """Whether a region contains the fault; for one without reference nodes, whether it sits on the right tensor."""
    places = {*fault.origin, *fault.enclosing[:1]}
    if origin.reference:
        return bool(places & set(origin.reference))
    if original is not None:
        return bool({original.get(name, name) for name in origin.candidate} & set(fault.candidate))
    return any(origin.tensor in made.get(place, set()) for place in places)


def original_names(before: onnx.ModelProto, after: onnx.ModelProto) -> dict[str, str] | None:
    """Node of a renamed network → its name before; None where it was rewritten as well."""
    old = [node for graph in graphs(before.graph) for node in graph.node]
    new = [node for graph in graphs(after.graph) for node in graph.node]
    if [node.op_type for node in old] != [node.op_type for node in new]:
        return None
    return {mine.name: node.name for node, mine in zip(old, new, strict=True)}


def upper_bound(events: int, trials: int) -> float:
    """Upper end of the two-sided 95 % Wilson interval of a share.

    Source: Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927).
    """
    if not trials:
        return 1.0
    z, share = 1.959964, events / trials
    centre = share + z * z / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return min(1.0, (centre + spread) / (1 + z * z / trials))
