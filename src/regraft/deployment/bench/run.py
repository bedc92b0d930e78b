"""One run of a benchmark: processes are started, warmed up, and take turns."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Sequence

import msgspec

from regraft.deployment.bench.messages import WARM_UP_S, Request, Start, Started, Timed, Turn, Warm, Warmed
from regraft.deployment.bench.process import BenchProcess
from regraft.deployment.bench.subject import Refused, Variant
from regraft.errors import Unsupported
from regraft.progress import progress
from regraft.record.evidence import JSON
from regraft.runtime.measure import Sample, WarmUp

TURN = 10
"""Passes that one row makes before it is another's turn."""


class Settings(msgspec.Struct, frozen=True):
    """How a run is made; see `bench`.

    Attributes:
        request: what every worker is started with; its ref, path, permit and runtime are each variant's own.
    """

    request: Start
    batch_sizes: tuple[int, ...]
    runs: int
    starts: int
    time_limit_s: float
    load_limit_s: float
    pass_limit_s: float


class Live:
    """One package in one runtime, with what its processes said.

    Attributes:
        started: one a process that loaded the model.
        peaks_mib: largest resident memory of each process.
        failure: why it could not be measured to the end.
    """

    def __init__(self, variant: Variant) -> None:
        self.variant = variant
        self.started: list[Started] = []
        self.peaks_mib: dict[int, float] = {}
        self.failure: Unsupported | None = None


class Row:
    """One package in one runtime at one batch size.

    Attributes:
        turns: which passes were made in which process, when, on the monotonic clock of the machine.
        failure: why this batch size could not be measured, while others perhaps could.
    """

    def __init__(self, live: Live, batch: int) -> None:
        self.live = live
        self.batch = batch
        self.samples: list[Sample] = []
        self.turns: list[JSON] = []
        self.warm_ups: list[WarmUp] = []
        self.failure: Unsupported | None = None
        self._process: BenchProcess | None = None

    def warm(self, process: BenchProcess, settings: Settings) -> None:
        """Let the time of a pass settle in a new process."""
        self._process = process
        answer = self._ask(Warm(self.batch), WARM_UP_S + settings.pass_limit_s)
        if isinstance(answer, Warmed):
            self.warm_ups.append(answer.warm_up)

    def turn(self, start: int, count: int, time_limit_s: float, settings: Settings) -> None:
        """Time a few passes."""
        answer = self._ask(Turn(self.batch, count, time_limit_s), time_limit_s + 2 * settings.pass_limit_s)
        if not isinstance(answer, Timed):
            return
        self.samples += answer.samples
        self.live.peaks_mib[start] = answer.peak_mib
        walls: list[JSON] = [one.wall_ms for one in answer.samples]
        cpus: list[JSON] = [one.cpu_ms for one in answer.samples]
        self.turns.append({"start": start, "began_s": answer.began_s, "wall_ms": walls, "cpu_ms": cpus})

    def seconds(self, start: int) -> float:
        """Time that the timed passes of one process took so far."""
        walls = (turn for turn in self.turns if isinstance(turn, dict) and turn["start"] == start)
        return sum(sum(turn["wall_ms"]) for turn in walls) / 1e3  # type: ignore[misc, arg-type]

    def _ask(self, request: Request, timeout_s: float) -> object:
        assert self._process is not None
        try:
            return self._process.ask(request, timeout_s=timeout_s)
        except Unsupported as error:
            self.failure = error
            if not self._process.is_usable and self.live.failure is None:
                self.live.failure = error
            return None


class Run:
    """What a run measured.

    Attributes:
        refused: references that could not be opened or that a runtime does not load.
        rows: what was measured, in the order in which it was first met.
    """

    def __init__(self, lives: Sequence[Live], refused: Sequence[Refused], settings: Settings) -> None:
        self.lives = list(lives)
        self.refused = list(refused)
        self.settings = settings
        self.rows: list[Row] = []


def measure(variants: Sequence[Variant], refused: Sequence[Refused], settings: Settings) -> Run:
    """Measure all variants, several times from a fresh process, with their turns in a random order.

    Failures become part of the run; nothing is raised for a model that crashes.
    """
    run = Run([Live(variant) for variant in variants], refused, settings)
    total = len(variants) * len(settings.batch_sizes) * settings.runs
    with progress("measuring", total=total, unit="passes") as advance:
        for start in range(settings.starts):
            _session(run, start, advance)
    return run


def _session(run: Run, start: int, advance: Callable[[int], None]) -> None:
    """All models in fresh processes: loaded and warmed up one after the other, then in turns."""
    settings = run.settings
    with contextlib.ExitStack() as processes:
        rows: list[Row] = []
        for live in run.lives:
            if live.failure is None:
                process = processes.enter_context(BenchProcess())
                rows += _warmed_rows(run, live, process)
        goal = -(-settings.runs * (start + 1) // settings.starts)
        limit_s = settings.time_limit_s / settings.starts
        order = random.Random(settings.request.seed + start)  # noqa: S311
        while rows:
            order.shuffle(rows)
            for row in rows:
                count = min(TURN, goal - len(row.samples))
                row.turn(start, count, limit_s - row.seconds(start), settings)
                advance(count)
            rows = [row for row in rows if _wants_more(row, start, goal, limit_s)]


def _wants_more(row: Row, start: int, goal: int, limit_s: float) -> bool:
    is_sound = row.failure is None and row.live.failure is None
    return is_sound and len(row.samples) < goal and row.seconds(start) < limit_s


def _warmed_rows(run: Run, live: Live, process: BenchProcess) -> list[Row]:
    settings, variant = run.settings, live.variant
    request = msgspec.structs.replace(
        settings.request, ref=variant.ref, path=variant.path, permit=variant.permit, runtime=variant.runtime
    )
    try:
        answer = process.ask(request, timeout_s=settings.load_limit_s)
    except Unsupported as error:
        live.failure = error
        return []
    assert isinstance(answer, Started)
    live.started.append(answer)
    batches = settings.batch_sizes if answer.own_batch is None else (answer.own_batch,)
    rows = [_row(run, live, batch) for batch in batches]
    for row in rows:
        if row.failure is None and process.is_usable:
            row.warm(process, settings)
    return [row for row in rows if row.failure is None and live.failure is None]


def _row(run: Run, live: Live, batch: int) -> Row:
    found = next((row for row in run.rows if row.live is live and row.batch == batch), None)
    if found is None:
        found = Row(live, batch)
        run.rows.append(found)
    return found
