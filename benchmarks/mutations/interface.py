"""What the corpus is made of: a reference network, a fault planted in it, a pair that is benign."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx

Feeds = dict[str, np.ndarray]
"""Input name → array; what one pass of a network is fed."""


@dataclass(frozen=True)
class Reference:
    """A network whose answers count as right.

    Attributes:
        name: unique in the corpus.
        architecture: networks of one architecture are left out together when thresholds are fitted.
        proto: every node has a name of its own; the batch is symbolic.
        feeds: the first is the example that a converter would be given; the others differ in values and in sizes.
    """

    name: str
    architecture: str
    proto: onnx.ModelProto
    feeds: Sequence[Feeds]


@dataclass(frozen=True)
class Fault:
    """One fault as it was planted.

    Attributes:
        kind: which mistake, as `faults.KINDS` lists it.
        cause: the word for what is wrong; several kinds share one.
        also: other words that describe it as well.
        origin: names of reference nodes, each of which alone is an exact answer: mostly one; for a node that was
            inserted, what makes and what takes the tensor that it sits on; for one that depends on weights alone, so
            that it may be folded, what reads its result too.
        enclosing: the If, Loop or Scan nodes that the origin is inside of, outermost first.
        candidate: names of the nodes of the mutated graph that carry the fault; empty when a node is missing.
        equivalent: why no input can tell the mutated network from the reference; empty when inputs can.
    """

    kind: str
    cause: str
    origin: tuple[str, ...]
    also: tuple[str, ...] = ()
    enclosing: tuple[str, ...] = ()
    candidate: tuple[str, ...] = ()
    equivalent: str = ""


@dataclass(frozen=True)
class Effect:
    """What a fault does on the feeds of its reference.

    Attributes:
        label: `visible` when an output of the graph differs on some feed, `invisible` when only tensors inside do,
            `unreached` when no tensor does on these feeds, `equivalent` when that is proven for all inputs; `faint`
            when outputs differ, but by no more than rounding to float32 could.
        feeds: indices of the feeds on which an output differs, or on which the mutant stops.
        max_abs: largest absolute difference of a floating-point output, 0 when none differs; None where it is not
            finite.
        rms_ratio: RMS of the difference over RMS of the reference, the largest over outputs and feeds; None where it
            is not finite, where an output of integers differs, or where the mutant stops.
    """

    label: str
    feeds: tuple[int, ...] = ()
    max_abs: float | None = 0.0
    rms_ratio: float | None = 0.0


@dataclass(frozen=True)
class Mutant:
    """A reference with one fault in it, or with two that are independent.

    Attributes:
        name: `<reference>/<kind>/<node>`, unique.
        reference: name of the reference.
        proto: the mutated network; untouched nodes and tensors keep their names.
        faults: what was planted.
        effect: what it does.
    """

    name: str
    reference: str
    proto: onnx.ModelProto
    faults: tuple[Fault, ...]
    effect: Effect


@dataclass(frozen=True)
class BenignPair:
    """A reference and another writing of the same network, whose differences are rounding alone.

    Attributes:
        name: `<reference>/<rewrite>/<feeds>/<threads>`, unique.
        reference: name of the reference.
        architecture: of the reference.
        rewrite: how the candidate was written.
        candidate: the other writing.
        feeds: what both are fed.
        threads: intra-op threads of the candidate's session.
    """

    name: str
    reference: str
    architecture: str
    rewrite: str
    candidate: onnx.ModelProto
    feeds: Feeds
    threads: int
