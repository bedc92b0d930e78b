"""Interleaved timing of whole processes: CPU seconds and peak memory as the operating system accounts them."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Timing:
    """Samples of one command: CPU and wall seconds, peak resident memory in MiB."""

    cpu_s: list[float] = field(default_factory=list)
    wall_s: list[float] = field(default_factory=list)
    peak_mib: list[float] = field(default_factory=list)

    @property
    def cpu(self) -> float:
        return statistics.median(self.cpu_s)

    @property
    def wall(self) -> float:
        return statistics.median(self.wall_s)


def interleaved(commands: Mapping[str, Sequence[str]], *, rounds: int = 9) -> dict[str, Timing]:
    """Run the commands A B C A B C …, one warm-up round first, so that drift of the machine hits all alike."""
    timings = {name: Timing() for name in commands}
    for turn in range(rounds + 1):
        for name, command in commands.items():
            cpu, wall, peak = _once(command)
            if turn:
                timings[name].cpu_s.append(cpu)
                timings[name].wall_s.append(wall)
                timings[name].peak_mib.append(peak)
    return timings


def _once(command: Sequence[str]) -> tuple[float, float, float]:
    began = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, _, usage = os.wait4(child.pid, 0)
    child.returncode = 0
    return usage.ru_utime + usage.ru_stime, time.perf_counter() - began, usage.ru_maxrss / 1024


def table(timings: Mapping[str, Timing], *, ours: str, unit_ms: bool = True) -> str:
    """A Markdown table: median CPU (range), median wall, peak memory, CPU relative to ours."""
    scale, unit = (1000, "ms") if unit_ms else (1, "s")
    lines = [f"| command | CPU {unit} (min–max) | wall {unit} | peak MiB | CPU / ours |", "|---|---|---|---|---|"]
    digits = 0 if unit_ms else 2
    for name, t in timings.items():
        low, mid, high = (f"{value * scale:.{digits}f}" for value in (min(t.cpu_s), t.cpu, max(t.cpu_s)))
        peak, relative = statistics.median(t.peak_mib), t.cpu / timings[ours].cpu
        lines.append(f"| {name} | {mid} ({low}–{high}) | {t.wall * scale:.{digits}f} | {peak:.0f} | {relative:.2f} |")
    return "\n".join(lines)


def machine() -> str:
    """One line about where the figures come from."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    return (
        f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()} {platform.release()}"
    )
