"""How far each step of a run is."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import msgspec

from regraft.record.digest import Digest
from regraft.record.evidence import Record, Verdict
from regraft.workflow.engine.interface import Ending
from regraft.workflow.steps import Step


class Status(StrEnum):
    """Where a step stands."""

    WAITING = "waiting"
    RUNNING = "running"
    KEPT = "kept"
    """Nothing that it depends on has changed: its evidence from an earlier run stands."""
    DONE = "done"
    FAILED = "failed"
    """It ended without evidence of its own: refused, crashed, too slow, too large."""
    SKIPPED = "skipped"
    """It makes no sense after what happened before it."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen to the step."""
        return self not in (Status.WAITING, Status.RUNNING)


class StepState(msgspec.Struct):
    """A step of a run, as it stands now.

    Attributes:
        record: its evidence; of a step that died, what is known about its end.
        product: the package that it made, in the store.
        reason: why it failed or was skipped.
        is_consequence: it was skipped because of steps that were skipped themselves.
        ending: how its process ended, when it ran.
        verdict: of its evidence; of a skipped step, what those that it wanted amount to.
        seconds: wall time in this run; 0 when it was kept.
        progress: share that is done, 0 to 1, of what it says it is doing; None when it does not say.
    """

    step: Step
    status: Status = Status.WAITING
    key: Digest | None = None
    record: Record | None = None
    product: Path | None = None
    reason: str = ""
    is_consequence: bool = False
    ending: Ending | None = None
    verdict: Verdict | None = None
    seconds: float = 0.0
    activity: str = ""
    progress: float | None = None

    @property
    def is_good(self) -> bool:
        """It ended in evidence that does not say fail."""
        return self.status in (Status.KEPT, Status.DONE) and self.verdict is not Verdict.FAIL

    def skip(self, reason: str, *, verdict: Verdict, is_consequence: bool) -> None:
        """Note that the step makes no sense any more."""
        self.status, self.reason, self.verdict = Status.SKIPPED, reason, verdict
        self.is_consequence = is_consequence
