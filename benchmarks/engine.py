"""Steps through the engine against the same work in one process. Promise: overhead < 5 % of the work."""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from regraft.record.digest import digest_bytes
from regraft.record.evidence import Draft, Evidence, Subject
from regraft.record.store import Store
from regraft.workflow.engine.interface import Resources
from regraft.workflow.engine.local import LocalEngine
from regraft.workflow.execute import execute
from regraft.workflow.steps import Found, Given, Step

STEPS, STEP_S, ROUNDS, EMPTY = 12, 1.0, 5, 60


def work(seconds: float, number: int, previous: Evidence | None = None) -> Evidence:
    """Busy for so many CPU seconds."""
    end = time.process_time() + seconds
    value = b"x" * 4096
    while time.process_time() < end:
        value = digest_bytes(value).encode() * 64
    draft = Draft("inspect", parameters={"number": number})
    draft.subject.append(Subject(f"step {number}", digest_bytes(str(number).encode())))
    return draft.finish(outcome="described", summary="")


def chain(count: int, seconds: float) -> list[Step]:
    """Steps that each want the evidence of the one before, so that nothing hides behind another core."""
    steps = []
    for number in range(count):
        arguments = {"seconds": Given(seconds), "number": Given(number)}
        if number:
            arguments["previous"] = Found(f"step {number - 1}")
        function = "benchmarks.engine:work"
        limits = Resources(memory_bytes=1 << 33, time_s=60)
        steps.append(
            Step(name=f"step {number}", verb="inspect", function=function, arguments=arguments, resources=limits)
        )
    return steps


def through_engine(count: int, seconds: float, store: Store) -> tuple[float, float, float]:
    """Of a run: wall seconds, of these outside the steps, and CPU seconds of all its processes."""
    wall, cpu = time.perf_counter(), _cpu_s()
    with LocalEngine(import_from=[str(Path(__file__).parent.parent)]) as engine:
        states = execute(chain(count, seconds), store=store, engine=engine)
    wall = time.perf_counter() - wall
    return wall, wall - sum(state.seconds for state in states.values()), _cpu_s() - cpu


def in_one_process(count: int, seconds: float) -> tuple[float, float]:
    """Wall and CPU seconds of the same work without engine and store."""
    wall, cpu = time.perf_counter(), _cpu_s()
    for number in range(count):
        work(seconds, number)
    return time.perf_counter() - wall, _cpu_s() - cpu


def _cpu_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main() -> str:
    plain, engine = [], []
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(ROUNDS):
            plain.append(in_one_process(STEPS, STEP_S))
            engine.append(through_engine(STEPS, STEP_S, Store(Path(folder) / f"store{turn}")))
        empty, _, _ = through_engine(EMPTY, 0.0, Store(Path(folder) / "empty"))
        kept, _, _ = through_engine(EMPTY, 0.0, Store(Path(folder) / "empty"))
    outside = [gap / (wall - gap) for wall, gap, _ in engine]
    cpu = [ours / other - 1 for (_, _, ours), (_, other) in zip(engine, plain, strict=True)]
    return (
        f"### {STEPS} steps of {STEP_S} CPU s, each waiting for the one before, evidence stored durably\n\n"
        "| | wall s, median (min–max) | CPU s of all processes |\n|---|---|---|\n"
        f"{_row('in one process', [one[0] for one in plain], [one[1] for one in plain])}\n"
        f"{_row('through the engine', [one[0] for one in engine], [one[2] for one in engine])}\n\n"
        f"Wall time outside the steps / inside them, start of the worker included: **{_spread(outside)}** "
        "(promise < 5 %).\n"
        f"CPU beyond that of one process: **{_spread(cpu)}** (promise < 5 %).\n\n"
        f"A step that does nothing costs {empty / EMPTY * 1000:.0f} ms; one that is kept {kept / EMPTY * 1000:.1f} ms."
    )


def _row(name: str, walls: list[float], cpus: list[float]) -> str:
    wall = f"{statistics.median(walls):.2f} ({min(walls):.2f}–{max(walls):.2f})"
    return f"| {name} | {wall} | {statistics.median(cpus):.2f} ({min(cpus):.2f}–{max(cpus):.2f}) |"


def _spread(shares: list[float]) -> str:
    return f"{statistics.median(shares):.1%} ({min(shares):.1%} to {max(shares):.1%}, n = {len(shares)})"


if __name__ == "__main__":
    sys.stdout.write(main() + "\n")
