"""A plan (`reuse.yaml`): what a user wants of which candidates, on which data, within which budget."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import msgspec

from regraft.deployment.budget import DeviceBudget
from regraft.package.reference import ModelRef
from regraft.record.digest import Digest
from regraft.record.policy import Policy


class PlanTask(StrEnum):
    """What the model is to do."""

    TEXT_CLASSIFICATION = "text-classification"
    IMAGE_CLASSIFICATION = "image-classification"


class Target(StrEnum):
    """What executes the result."""

    ONNXRUNTIME = "onnxruntime"
    OPENVINO = "openvino"


class Adaptation(StrEnum):
    """How the chosen candidate becomes the user's own."""

    PROBE = "probe"
    """A linear head on features that are computed once; the backbone stays as it is."""


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A package that might be reused.

    Attributes:
        name: how tables call it; unique in the plan.
        ref: a relative path is resolved against the plan's folder.
        runtime: what executes it; None for the first that can.
        factory: `module:function`, the user's own code that builds the network for bare weights.
        tap: of an image network, which intermediate tensor is the feature; None for the first output.
        line: in the plan.
    """

    name: str
    ref: ModelRef
    runtime: str | None = None
    factory: str | None = None
    tap: str | None = None
    line: int | None = None


class PlannedData(msgspec.Struct, frozen=True, kw_only=True):
    """Labelled data.

    Attributes:
        ref: package or path; `#file` picks one of several tables.
        text: column of the texts; None for the usual names, or for a table of pixels.
        label: column of the labels; None for the usual names.
        where: only rows whose column has this value.
        labels: raw label → name.
        learn: labelled rows to learn from.
        held_out: rows kept for judging.
    """

    ref: ModelRef
    text: str | None = None
    label: str | None = None
    where: dict[str, str] = {}
    labels: dict[str, str] = {}
    learn: int = 1000
    held_out: int = 2000
    line: int | None = None


class StepLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What one step may use before it is ended; None: no bound."""

    time_s: float | None = None
    memory_bytes: int | None = None


class PolicySource(msgspec.Struct, frozen=True, kw_only=True):
    """The policy, and where it stands: a file of its own, or None when it is a part of the plan."""

    policy: Policy
    path: Path | None = None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a user wants.

    Attributes:
        name: how reports call it.
        path: of the file; None when it came as bytes.
        digest: of the bytes that it was read from.
        task: None when there is nothing but claims to reproduce.
        data: None likewise.
        device: what the device allows.
        threads: that the device has for the model; None: as many as here.
        claims: files with published numbers to reproduce.
        attended_minutes: time that people spent on this, as they declare it.
    """

    name: str
    digest: Digest
    path: Path | None = None
    task: PlanTask | None = None
    data: PlannedData | None = None
    candidates: tuple[Candidate, ...] = ()
    claims: tuple[Path, ...] = ()
    device: DeviceBudget | None = None
    threads: int | None = None
    targets: tuple[Target, ...] = (Target.ONNXRUNTIME,)
    policy: PolicySource | None = None
    adaptation: Adaptation = Adaptation.PROBE
    seed: int = 0
    limits: StepLimits = StepLimits()
    attended_minutes: float | None = None

    @property
    def folder(self) -> Path:
        """Where relative paths and the user's own modules are looked up."""
        return self.path.parent if self.path is not None else Path()
