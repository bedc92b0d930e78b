"""What a side of a comparison is, and what a stage of training says about two of them; arrays are numpy's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import msgspec

from regraft.compare.judge import Judgement
from regraft.record.evidence import JSON

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from regraft.conceptual.stages.gradient_sites import GradientSite
    from regraft.runtime.interface import Model

    Array: TypeAlias = NDArray[Any]
    """Numbers of any kind, to calculate with."""
    Arrays: TypeAlias = Mapping[str, Array]

STAGES = ("pipeline", "forward", "loss", "backward", "optimiser", "schedule", "training", "curves")
"""In the order of a training run; each is fed by the reference, so that none inherits the divergence of another."""


HABITS = {
    "accumulated gradients": "gradients of the steps before are not taken away (zero_grad is missing)",
    "optimiser reset": "the optimiser forgets its state after every step",
    "schedule before the step": "the schedule is stepped before the optimiser, not after it",
    "no schedule": "the schedule is never stepped",
    "repeated batch": "every step sees the first batch",
    "batches reversed": "batches come in the opposite order",
    "step every second batch": "the optimiser steps at every second batch, with gradients of both",
}
"""What training loops do wrong → in words; each is tried on the reference."""


class Step(msgspec.Struct, frozen=True):
    """One step of a data pipeline: a sample in, a sample out; the last one may return what the network is fed.

    Attributes:
        name: `decode`, `resize`, `normalise`.
        run: called with what the step before returned.
    """

    name: str
    run: Callable[[Any], Any]


class Slope(msgspec.Struct, frozen=True):
    """A loss and its derivative.

    Attributes:
        value: as the loss function returned it; any shape.
        gradients: output of the network → derivative of the summed value by it; same shape.
    """

    value: Array
    gradients: dict[str, Array]


class Trained(msgspec.Struct, frozen=True):
    """What one training step left.

    Attributes:
        loss: before the step.
        weights: after it: parameters, and what else the network remembers (running statistics).
    """

    loss: float
    weights: dict[str, Array]


class Settings(msgspec.Struct, frozen=True):
    """How an optimiser says that it is set.

    Attributes:
        rule: its class, as the framework names it: `AdamW`; empty for functions.
        values: parameter → setting → number or truth.
    """

    rule: str
    values: dict[str, dict[str, float]] = {}


class Side(Protocol):
    """One of two implementations of the same training. One module a framework, listed in `sides.py`.

    Every method starts from a side that the user's factory built anew, so that none sees what another left. `dtype` is
    `float32` (as the code is written) or `float64` (the exact run).
    """

    framework: str
    """`torch`, `jax` or `keras`."""
    where: str
    """How errors and evidence name it."""
    parts: frozenset[str]
    """Which keys the factory returned: `pipeline`, `samples`, `batches`, `model`, `loss`, `optimiser`, `schedule`, …"""
    pipeline: tuple[Step, ...]
    samples: Sequence[Any]
    batches: Sequence[Arrays]
    steps: int
    """Optimiser steps of the whole training."""
    margin: float | None
    """Declared difference of scores that does not matter."""
    weight_map: dict[str, tuple[str, tuple[int, ...] | None]]
    """Weight of the reference → its name here, and the order of axes; empty where names are equal."""

    def weights(self) -> dict[str, Array]:
        """Parameters and running statistics as the factory built them, by the framework's names."""

    def trainable(self) -> frozenset[str]:
        """Names of the weights that have gradients."""

    def outputs(self, weights: Arrays, batch: Arrays, *, dtype: str) -> dict[str, Array]:
        """One pass of the network in training mode: output name → array."""

    def evaluated(self, weights: Arrays, batch: Arrays, *, dtype: str) -> dict[str, Array]:
        """As `outputs`, in evaluation mode."""

    def model(self, weights: Arrays, batch: Arrays) -> tuple[Model, dict[str, Array]]:
        """The network in evaluation mode as a model whose operators can be compared, and its feeds.

        Raises:
            Unsupported: it cannot be made one.
        """

    def is_random(self) -> bool:
        """Whether two passes with different seeds differ, as dropout makes them."""

    def slope(self, outputs: Arrays, batch: Arrays, *, dtype: str) -> Slope:
        """The loss function alone, on given outputs of the network."""

    def gradients(self, weights: Arrays, batch: Arrays, cotangents: Arrays, *, dtype: str) -> dict[str, Array]:
        """Derivatives by the weights when the derivatives by the outputs are given, as the user's backward leaves them.

        A weight that gets none is missing.
        """

    def gradient_sites(self, weights: Arrays, batch: Arrays) -> Sequence[GradientSite]:
        """Where a pass can be made to hold gradients back, to try why they differ; none where a framework cannot."""

    def gradients_through(
        self, weights: Arrays, batch: Arrays, cotangents: Arrays, *, dtype: str, site: GradientSite, factor: float
    ) -> dict[str, Array]:
        """As `gradients`, when a site passes gradients on times a factor: 0 cuts them off."""

    def updates(self, weights: Arrays, gradients: Sequence[Arrays], *, dtype: str) -> list[dict[str, Array]]:
        """The optimiser alone: weights after each step, when the gradients of each step are given."""

    def settings(self) -> Settings:
        """What the optimiser says about itself; empty where it says nothing."""

    def rates(self, steps: int) -> list[float]:
        """Learning rate in force at each of the first optimiser steps."""

    def train(self, weights: Arrays, batches: Sequence[Arrays], *, dtype: str, habit: str = "") -> list[Trained]:
        """The whole training loop, one step a batch.

        Args:
            habit: one of `HABITS`, to try why two loops differ; empty for the loop as it is.
        Raises:
            Unsupported: the loop is the user's own and cannot be changed, or knows no such habit.
        """

    def curve(self, seed: int) -> Array:
        """(T,) what one whole training with a seed is judged by, over its course: losses or scores."""


class WeightMap(Protocol):
    """How weights of the reference correspond to those of the candidate; gradients are re-laid in the same way."""

    def to_candidate(self, reference: Arrays) -> dict[str, Array]:
        """Re-name and re-lay out; names that the map does not know are left out."""

    def to_reference(self, candidate: Arrays) -> dict[str, Array]:
        """The way back."""


class SameNames:
    """The map of two implementations with equal names and layouts."""

    def to_candidate(self, reference: Arrays) -> dict[str, Array]:
        """As they are."""
        return dict(reference)

    def to_reference(self, candidate: Arrays) -> dict[str, Array]:
        """As they are."""
        return dict(candidate)


class Renamed:
    """The map of weights that have other names, and axes in another order.

    Args:
        names: weight of the reference → (name in the candidate, its order of axes or None).
    """

    def __init__(self, names: Mapping[str, tuple[str, tuple[int, ...] | None]]) -> None:
        self._names = dict(names)

    def to_candidate(self, reference: Arrays) -> dict[str, Array]:
        """As `WeightMap.to_candidate`."""
        return {
            theirs: reference[ours] if order is None else reference[ours].transpose(order)
            for ours, (theirs, order) in self._names.items()
            if ours in reference
        }

    def to_reference(self, candidate: Arrays) -> dict[str, Array]:
        """As `WeightMap.to_reference`."""
        return {
            ours: candidate[theirs] if order is None else candidate[theirs].transpose(_inverse(order))
            for ours, (theirs, order) in self._names.items()
            if theirs in candidate
        }


def _inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(range(len(order)), key=order.__getitem__))


class Status(StrEnum):
    """What became of a stage."""

    AGREES = "agrees"
    DIVERGES = "diverges"
    UNDECIDED = "undecided"
    NOT_RUN = "not_run"
    ABSENT = "absent"
    """Neither side has it: nothing was asked."""


class Divergence(msgspec.Struct, frozen=True):
    """One place of a stage where two sides differ by more than rounding explains.

    Attributes:
        place: step of the pipeline, term of the loss, weights, or step of training.
        cause: the word for it; empty where no hypothesis holds.
        detail: the cause with both values, or what was seen where there is no cause.
        judgement: beyond, or between the thresholds.
        ratio: in noise floors; None where numbers cannot be compared (shapes, texts).
        floor: RMS of the floor, in the unit of what was compared.
        first: sample, batch or step at which it is first seen, from 0.
        names: all weights, outputs or samples that are touched.
        evidence: numbers of both sides at the place.
        fix: what to change.
    """

    place: str
    cause: str
    detail: str
    judgement: Judgement = Judgement.BEYOND
    ratio: float | None = None
    floor: float | None = None
    first: int | None = None
    names: tuple[str, ...] = ()
    evidence: dict[str, JSON] = {}
    fix: str = ""


class StageResult(msgspec.Struct, frozen=True):
    """What a stage says.

    Attributes:
        stage: one of `STAGES`.
        status: its verdict.
        divergences: the first is where it starts.
        reason: why it could not run or decide, and what is missing; or, in words, what agreement rests on.
        notes: what a user should know and no verdict depends on.
        measured: quantity → number, for the evidence (`ratio`, `compared`, `evaluations`).
        follows: stages that diverge already and of which this one is made, so that it may say nothing of its own.
    """

    stage: str
    status: Status
    divergences: tuple[Divergence, ...] = ()
    reason: str = ""
    notes: tuple[str, ...] = ()
    measured: dict[str, float] = {}
    follows: tuple[str, ...] = ()


class Stage(Protocol):
    """A family member: compares one stage. One module a stage, listed in `stages/__init__.py`."""

    name: str
    needs: frozenset[str]
    """Parts that both sides must have."""

    def compare(self, reference: Side, candidate: Side, weights: WeightMap, *, seed: int) -> StageResult:
        """Compare two sides, fed alike.

        Raises:
            RegraftError: a side cannot be run; the caller records the stage as not run.
        """
