"""Faults planted in the stages of a training: which stage, which place, which cause? Correct ports beside them.

usage: stages.py [--verbose] [--only seen|unseen|ports]
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("KERAS_BACKEND", "jax")
sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import torch
from benchmarks.training.bases import BASES
from benchmarks.training.faults import FAULTS, Fault
from benchmarks.training.ports import PORTS, Port
from benchmarks.training.unseen import UNSEEN

from regraft.conceptual.stages import STAGES, compare_stages
from regraft.conceptual.stages.interface import Side, StageResult, Status
from regraft.conceptual.stages.sides import side_from_function

ATOL = 1e-4
"""PaDiff's rule: the first tensor that differs by more than this, absolutely, is where the fault is."""


class Result(NamedTuple):
    """How right the answer about one fault is.

    Attributes:
        fault: what was planted.
        detected: some stage diverges.
        stage: the stage that diverges first is the fault's, and no other diverges but those that follow from it.
        place: its first place is the fault's.
        cause: its first cause is the fault's.
        by_rule: the first stage whose numbers differ by more than 1e-4; empty for none.
    """

    fault: Fault
    detected: bool
    stage: bool
    place: bool
    cause: bool
    by_rule: str
    seconds: float
    said: str


def results(faults: Iterable[Fault]) -> Iterator[Result]:
    """Every fault against its base."""
    references = {name: side_from_function(base, where=name) for name, base in BASES.items()}
    for fault in faults:
        began = time.perf_counter()
        candidate = side_from_function(fault.side, where="candidate")
        found = list(compare_stages(references[fault.base], candidate))
        seconds = time.perf_counter() - began
        yield judged(fault, found, first_beyond(references[fault.base], candidate), seconds)


def judged(fault: Fault, found: Sequence[StageResult], by_rule: str, seconds: float) -> Result:
    """Compare the answer with what was planted."""
    own = [one for one in found if one.divergences and not one.follows]
    first = own[0] if own else None
    is_stage = first is not None and first.stage == fault.stage and len(own) == 1
    places = [one.place for one in first.divergences] if first else []
    causes = [one.cause for one in first.divergences] if first else []
    is_place = is_stage and (not fault.places or _is_at(places[0], fault.places))
    said = "; ".join(f"{one.stage} {[(d.place, d.cause, d.detail[:90]) for d in one.divergences]}" for one in own)
    return Result(fault, bool(own), is_stage, is_place, is_stage and causes[0] in fault.causes, by_rule, seconds, said)


def _is_at(place: str, places: Sequence[str]) -> bool:
    return place in places or place.removeprefix("network.") in places


def first_beyond(reference: Side, candidate: Side) -> str:
    """The rule of a fixed tolerance, given all that our stages are: samples, outputs, loss, gradients, weights."""
    for ours, theirs in zip(_pipeline(reference), _pipeline(candidate), strict=False):
        if _differ(ours, theirs):
            return "pipeline"
    weights, batch = reference.weights(), reference.batches[0]
    outputs = reference.outputs(weights, batch, dtype="float32")
    if _differ(outputs, candidate.outputs(weights, batch, dtype="float32")):
        return "forward"
    mine, their = (side.slope(outputs, batch, dtype="float32") for side in (reference, candidate))
    if _differ({"": mine.value}, {"": their.value}):
        return "loss"
    mine_g, their_g = (
        side.gradients(weights, batch, side.slope(outputs, batch, dtype="float32").gradients, dtype="float32")
        for side in (reference, candidate)
    )
    if _differ(mine_g, their_g):
        return "backward"
    steps = [side.updates(weights, [mine_g], dtype="float32")[0] for side in (reference, candidate)]
    if _differ(*steps):
        return "optimiser"
    runs = [side.train(weights, list(reference.batches), dtype="float32") for side in (reference, candidate)]
    if any(_differ(one.weights, other.weights) for one, other in zip(*runs, strict=True)):
        return "training"
    return ""


def _pipeline(side: Side) -> Iterator[dict[str, np.ndarray]]:
    from regraft.conceptual.stages.pipeline import as_arrays

    for sample in side.samples:
        made = sample
        for one in side.pipeline:
            made = one.run(made)
        yield as_arrays(made)


def _differ(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> bool:
    if set(ours) != set(theirs):
        return True
    return any(
        one.shape != theirs[name].shape or bool(np.abs(one.astype(float) - theirs[name]).max(initial=0) > ATOL)
        for name, one in ours.items()
    )


def table(name: str, rows: Sequence[Result]) -> str:
    """Counts by stage, as Markdown."""
    lines = [
        f"| {name}: stage | n | detected | stage | place | cause | beyond 1e-4: detected, right stage | median s |",
        f"|{'---|' * 8}",
    ]
    groups = [[row for row in rows if row.fault.stage == stage] for stage in STAGES]
    for group in [*(one for one in groups if one), list(rows)]:
        label = group[0].fault.stage if group is not rows and len(group) < len(rows) else "all"
        counts = [f"{sum(getattr(row, one) for row in group)}" for one in ("detected", "stage", "place", "cause")]
        ruled = f"{sum(bool(row.by_rule) for row in group)}, {sum(row.by_rule == row.fault.stage for row in group)}"
        median = f"{sorted(row.seconds for row in group)[len(group) // 2]:.2f}"
        lines.append(f"| {' | '.join([label, str(len(group)), *counts, ruled, median])} |")
    return "\n".join(lines)


def accused(port: Port) -> list[str]:
    """What is said against a correct port."""
    reference = side_from_function(BASES[port.base], where=port.base)
    candidate = side_from_function(port.side, where=port.name)
    found = compare_stages(reference, candidate, weights=port.weights)
    return [
        f"{one.stage} {one.status.value} {one.reason} {[(d.place, d.cause, d.detail) for d in one.divergences]}"
        for one in found
        if one.status in (Status.DIVERGES, Status.UNDECIDED)
        or (one.status is Status.NOT_RUN and one.stage in port.stages)
    ]


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", choices=["seen", "unseen", "ports"])
    parser.add_argument("--verbose", action="store_true", help="print every answer that is not right")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for name, faults in (("seen", FAULTS), ("unseen", UNSEEN)):
        if options.only in (None, name):
            rows = list(results(faults))
            for row in rows:
                if options.verbose and not (row.stage and row.place and row.cause):
                    print(
                        f"{row.fault.base}: {row.fault.name} ({row.fault.stage}): {row.said or 'nothing'}",
                        file=sys.stderr,
                    )
            print(f"{table(name, rows)}\n")
    if options.only in (None, "ports"):
        said = {port.name: accused(port) for port in PORTS}
        for name, against in said.items():
            if against:
                print(f"{name}: {against}", file=sys.stderr)
        print(f"correct ports and rewrites: {len(PORTS)}, accused: {sum(map(bool, said.values()))}")


if __name__ == "__main__":
    main()
