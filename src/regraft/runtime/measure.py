"""Time and memory of a model: single passes with warm-up found, and a load in a process of its own."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from regraft.errors import MissingExtra, Unsupported
from regraft.record.permit import Permit
from regraft.runtime.quantiles import Quantile, quantile

if TYPE_CHECKING:
    from regraft.runtime.interface import Array, Feeds, Model

WINDOW = 5
"""Passes whose median is compared with that of the passes before them."""
_SETTLED = 0.05
_MAX_WARM_UP = 200


class WarmUp(msgspec.Struct, frozen=True):
    """How a model came to its speed.

    Attributes:
        passes: made before it was settled, or given up on.
        first_ms: wall time of the first one.
        is_settled: the medians of two consecutive windows differed by less than 5 %.
    """

    passes: int
    first_ms: float
    is_settled: bool


class Sample(msgspec.Struct, frozen=True):
    """One pass: wall time, and the CPU time of all threads of this process meanwhile."""

    wall_ms: float
    cpu_ms: float


class Latency(msgspec.Struct, frozen=True):
    """What samples of one model at one batch size say.

    Attributes:
        p50_ms, p95_ms, p99_ms: quantiles of wall time, with intervals from order statistics.
        cpu_ms: median CPU time of all threads.
        items_per_s: rows of the batch over the median wall time, with the interval of the median.
        batch: rows of one pass.
        n: samples.
    """

    p50_ms: Quantile
    p95_ms: Quantile
    p99_ms: Quantile
    cpu_ms: float
    items_per_s: Quantile
    batch: int
    n: int


class ProcessCost(msgspec.Struct, frozen=True):
    """A load and a few passes in a fresh process.

    Attributes:
        import_s: to import the runtime's libraries.
        load_s: to load the model.
        first_ms: wall time of the first pass.
        peak_mib: largest resident memory of the process.
        baseline_mib: resident memory after the imports, before the model.
        effective_precision: as the model says there.
    """

    import_s: float
    load_s: float
    first_ms: float
    peak_mib: float
    baseline_mib: float
    effective_precision: str


class ProcessTask(msgspec.Struct, frozen=True):
    """What the process does; everything passes as JSON and safetensors.

    Attributes:
        ref: package, or `py:module:factory` of the user's own.
        path: the file of the model.
        permit: leave from a scan, where the format needs one.
        feeds: safetensors file with the inputs.
        passes: after the first.
        search_path: folders in which the user's own code is looked up.
        store: folder of the store that the package was fetched to; None for the default one.
    """

    ref: str
    feeds: str
    path: str | None = None
    permit: Permit | None = None
    runtime: str | None = None
    threads: int | None = None
    precision: str | None = None
    factory: str | None = None
    head: bool = True
    passes: int = 3
    search_path: tuple[str, ...] = ()
    store: str | None = None


def warm_up(run: Callable[[], object], *, max_passes: int = _MAX_WARM_UP, max_s: float = 10.0) -> WarmUp:
    """Call until the time of a pass has settled.

    Args:
        run: one pass.
        max_passes: give up after so many.
        max_s: or after so many seconds.
    Source: the median of the last five passes against that of the five before; a median, because one
        interrupted pass must not count as unsettled.
    """
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < max_passes and (time.perf_counter() - began < max_s or len(times) < 2):
        times.append(sample(run).wall_ms)
        if len(times) >= 2 * WINDOW:
            late, early = statistics.median(times[-WINDOW:]), statistics.median(times[-2 * WINDOW : -WINDOW])
            if abs(late - early) <= _SETTLED * early:
                return WarmUp(len(times), times[0], True)
    return WarmUp(len(times), times[0], False)


def sample(run: Callable[[], object]) -> Sample:
    """One timed call."""
    cpu, wall = time.process_time(), time.perf_counter()
    run()
    return Sample((time.perf_counter() - wall) * 1e3, (time.process_time() - cpu) * 1e3)


def latency_from_samples(samples: Sequence[Sample], *, batch: int) -> Latency:
    """Quantiles of passes that were timed, one by one or interleaved with those of other models.

    Args:
        samples: at least one.
        batch: rows of one pass.
    """
    walls = [one.wall_ms for one in samples]
    median = quantile(walls, 0.5)
    rate = Quantile(
        batch / median.value * 1e3,
        None if median.high is None else batch / median.high * 1e3,
        None if median.low is None else batch / median.low * 1e3,
        median.n,
    )
    return Latency(
        median,
        quantile(walls, 0.95),
        quantile(walls, 0.99),
        statistics.median(one.cpu_ms for one in samples),
        rate,
        batch,
        len(samples),
    )


def latency(model: Model, feeds: Feeds, *, passes: int = 100, max_s: float = 30.0) -> tuple[Latency, WarmUp]:
    """Warm a model up and time it alone.

    Args:
        model: any runtime's.
        feeds: the first axis of the first input is the batch.
        passes: to time.
        max_s: stop after so many seconds; at least one pass is timed.
    """

    def run() -> object:
        return model(feeds)

    warm = warm_up(run)
    samples: list[Sample] = []
    began = time.perf_counter()
    while len(samples) < passes and (not samples or time.perf_counter() - began < max_s):
        samples.append(sample(run))
    return latency_from_samples(samples, batch=batch_of(feeds)), warm


def batch_of(feeds: Feeds) -> int:
    """Rows of a pass: the first axis of the first input that has one."""
    return next((value.shape[0] for value in feeds.values() if value.ndim), 1)


def process_cost(task: ProcessTask, feeds: Feeds, *, timeout_s: float = 300.0) -> ProcessCost:
    """Load a model and run it in a fresh process, whose memory is then its own.

    Args:
        task: what to load; its `feeds` are replaced by a file with these.
        feeds: inputs of the passes.
        timeout_s: the process is killed after so many seconds.
    Raises:
        Unsupported: the process crashed, hung or could not load the model; with what it said.
    """
    with tempfile.TemporaryDirectory(prefix="regraft-measure-") as folder:
        file = Path(folder) / "feeds.safetensors"
        _save(feeds, file)
        request = msgspec.json.encode(msgspec.structs.replace(task, feeds=str(file)))
        command = [sys.executable, "-m", "regraft.runtime.measured_process"]
        try:
            done = subprocess.run(command, input=request, capture_output=True, timeout=timeout_s, check=False)
        except subprocess.TimeoutExpired:
            raise Unsupported(f"the process did not finish within {timeout_s:g} s", where=task.ref) from None
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        ended = f"signal {-done.returncode}" if done.returncode < 0 else f"status {done.returncode}"
        raise Unsupported(
            f"the process ended with {ended}: {said[-1][:500] if said else 'it said nothing'}", where=task.ref
        )
    try:
        return msgspec.json.decode(done.stdout, type=ProcessCost)
    except msgspec.MsgspecError as error:
        raise Unsupported(f"the process answered nonsense: {error}", where=task.ref) from error


def _save(feeds: Feeds, file: Path) -> None:
    try:
        from safetensors.numpy import save_file
    except ImportError as error:
        raise MissingExtra("safetensors", extra="text") from error
    import numpy as np

    plain: dict[str, Array] = {name: np.ascontiguousarray(value) for name, value in feeds.items()}
    save_file({name: value.reshape(feeds[name].shape) for name, value in plain.items()}, file)
