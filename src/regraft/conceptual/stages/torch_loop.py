"""The training loop that the parts of a torch side make, and the ways in which loops go wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from regraft.conceptual.stages.declaration import Declaration
    from regraft.conceptual.stages.interface import Arrays


class TorchLoop:
    """zero_grad, forward, loss, backward, optimiser step, schedule step.

    Args:
        made: parts of the side.
        forward: (parts, batch) to outputs.
        habit: one of `HABITS`, or empty.
    """

    def __init__(self, made: Declaration, forward: Callable[[Declaration, Mapping[str, Any]], Any], habit: str) -> None:
        self._made = made
        self._forward = forward
        self._habit = habit
        self._schedule = made.function_schedule()
        self._scheduler = None if self._schedule is not None else made.get("schedule")
        self._period = int(made.get("steps_per_epoch") or 1)
        self._count = 0

    def ordered(self, batches: Sequence[Arrays]) -> list[Arrays]:
        """The batches as this loop sees them."""
        from regraft.conceptual.stages.tree_side import ordered

        return ordered(batches, self._habit)

    def step(self, batch: Mapping[str, Any]) -> Any:
        """One step; its loss."""
        made, optimiser = self._made, self._made["optimiser"]
        self._set_rate()
        if self._habit == "schedule before the step":
            self._step_schedule()
        is_even = self._habit != "step every second batch" or self._count % 2 == 0
        if self._habit != "accumulated gradients" and is_even:
            optimiser.zero_grad()
        loss = made["loss"](self._forward(made, batch), batch)
        backward = made.get("backward")
        loss.backward() if backward is None else backward(loss, made["model"])
        if self._habit != "step every second batch" or self._count % 2 == 1:
            optimiser.step()
        if self._habit == "optimiser reset":
            optimiser.state.clear()
        self._count += 1
        if self._habit not in ("schedule before the step", "no schedule"):
            self._step_schedule()
        return loss.detach()

    def _set_rate(self) -> None:
        """The rate of a schedule that is a function of the step."""
        if self._schedule is None:
            return
        step = {"no schedule": 0, "schedule before the step": self._count + 1}.get(self._habit, self._count)
        for group in self._made["optimiser"].param_groups:
            group["lr"] = float(self._schedule(step))

    def _step_schedule(self) -> None:
        at = self._count + (self._habit == "schedule before the step")
        if self._scheduler is not None and at % self._period == 0:
            self._scheduler.step()
