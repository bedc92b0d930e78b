"""One run of a benchmark: processes are started, warmed up, and take turns."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Sequence

import msgspec

from regraft.deployment.bench.messages import (
    WARM_UP_S,
    Agree,
    Agreed,
    Describe,
    Described,
    Request,
    Size,
    Start,
    Started,
    Timed,
    Turn,
    Warm,
    Warmed,
)
from regraft.deployment.bench.process import BenchProcess
from regraft.deployment.bench.subject import Refused, Variant
from regraft.deployment.budget import Machine
from regraft.errors import Unsupported
from regraft.progress import progress
from regraft.record.environment import capture_environment
from regraft.record.evidence import JSON
from regraft.runtime.measure import Sample, WarmUp

TURN = 10
"""Passes that one row makes before it is another's turn."""


class Settings(msgspec.Struct, frozen=True):
    """How a run is made; see `bench`.

    Attributes:
        request: what every worker is started with; its ref, path, permit, runtime, threads and precision are each
            variant's own.
        has_reference: the others are compared with the first.
        describes: measure this processor, too, to predict another from it.
    """

    request: Start
    sizes: tuple[Size, ...]
    runs: int
    starts: int
    time_limit_s: float
    load_limit_s: float
    pass_limit_s: float
    has_reference: bool = True
    describes: bool = False


class Live:
    """One package in one runtime, at one setting of threads and precision, with what its processes said.

    Attributes:
        started: one a process that loaded the model.
        peaks_mib: largest resident memory of each process that ran the network, where it is told.
        inputs: what it was fed with, as it said last; empty while it never said anything.
        failure: why it could not be measured to the end.
        agreed: how far it is from the first; None for that one, and where it could not be compared.
        disagreement: why it could not be compared.
        told: settings that differ within the run, so that they belong to its name: `threads`, `precision`.
    """

    def __init__(self, variant: Variant) -> None:
        self.told: frozenset[str] = frozenset()
        self.variant = variant
        self.agreed: Agreed | None = None
        self.disagreement: Unsupported | None = None
        self.started: list[Started] = []
        self.peaks_mib: dict[int, float] = {}
        self.inputs = ""
        self.failure: Unsupported | None = None


class Row:
    """One package in one runtime at one size of a pass.

    Attributes:
        turns: which passes were made in which process, when, on the monotonic clock of the machine.
        failure: why this size could not be measured, while others perhaps could.
        energies_j: of a pass, one number a turn; empty where the processor has no counters.
    """

    def __init__(self, live: Live, size: Size) -> None:
        self.live = live
        self.size = size
        self.energies_j: list[float] = []
        self.samples: list[Sample] = []
        self.turns: list[JSON] = []
        self.warm_ups: list[WarmUp] = []
        self.failure: Unsupported | None = None
        self._process: BenchProcess | None = None

    def warm(self, process: BenchProcess, settings: Settings) -> None:
        """Let the time of a pass settle in a new process."""
        self._process = process
        answer = self._ask(Warm(self.size), WARM_UP_S + settings.pass_limit_s)
        if isinstance(answer, Warmed):
            self.warm_ups.append(answer.warm_up)
            self.live.inputs = answer.inputs

    def turn(self, start: int, count: int, time_limit_s: float, settings: Settings) -> None:
        """Time a few passes."""
        answer = self._ask(Turn(self.size, count, time_limit_s), time_limit_s + 2 * settings.pass_limit_s)
        if not isinstance(answer, Timed):
            return
        self.samples += answer.samples
        if answer.energy_j is not None and answer.samples:
            self.energies_j.append(answer.energy_j / len(answer.samples))
        if answer.peak_mib is not None:
            self.live.peaks_mib[start] = answer.peak_mib
        walls: list[JSON] = [one.wall_ms for one in answer.samples]
        cpus: list[JSON] = [one.cpu_ms for one in answer.samples]
        self.turns.append({"start": start, "began_s": answer.began_s, "wall_ms": walls, "cpu_ms": cpus})

    def seconds(self, start: int) -> float:
        """Time that the timed passes of one process took so far."""
        walls = (turn for turn in self.turns if isinstance(turn, dict) and turn["start"] == start)
        return sum(sum(turn["wall_ms"]) for turn in walls) / 1e3  # type: ignore[misc, arg-type]

    @property
    def batch(self) -> int:
        """Rows of a pass."""
        return self.size.batch

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
        machines: this processor on the threads of the passes; empty unless it was asked for.
    """

    def __init__(self, lives: Sequence[Live], refused: Sequence[Refused], settings: Settings) -> None:
        self.lives = list(lives)
        told = {name for name in ("threads", "precision") if len({getattr(one.variant, name) for one in lives}) > 1}
        for live in self.lives:
            live.told = frozenset(told)
        self.refused = list(refused)
        self.settings = settings
        self.rows: list[Row] = []
        self.machines: dict[int, Machine] = {}

    @staticmethod
    def threads_of(live: Live) -> int:
        """Threads of its passes; where none were asked for, those that this process may use."""
        return live.variant.threads or capture_environment().threads


def measure(variants: Sequence[Variant], refused: Sequence[Refused], settings: Settings) -> Run:
    """Measure all variants, several times from a fresh process, with their turns in a random order.

    Failures become part of the run; nothing is raised for a model that crashes.
    """
    run = Run([Live(variant) for variant in variants], refused, settings)
    total = len(variants) * len(settings.sizes) * settings.runs
    with progress("measuring", total=total, unit="passes") as advance:
        for start in range(settings.starts):
            _session(run, start, advance)
    if settings.describes:
        _describe(run)
    if settings.has_reference and len(run.lives) > 1:
        _compare(run)
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
    settings = run.settings
    try:
        answer = process.ask(_start(run, live), timeout_s=settings.load_limit_s)
    except Unsupported as error:
        live.failure = error
        return []
    assert isinstance(answer, Started)
    live.started.append(answer)
    live.inputs = live.inputs or answer.inputs
    sizes = settings.sizes if answer.own_batch is None else (Size(answer.own_batch),)
    rows = [_row(run, live, size) for size in sizes]
    for row in rows:
        if row.failure is None and process.is_usable:
            row.warm(process, settings)
    return [row for row in rows if row.failure is None and live.failure is None]


def _start(run: Run, live: Live) -> Start:
    variant = live.variant
    return msgspec.structs.replace(
        run.settings.request, ref=variant.ref, path=variant.path, permit=variant.permit, runtime=variant.runtime,
        threads=variant.threads, precision=variant.precision, code_loader=variant.code_loader,
    )  # fmt: skip


def _row(run: Run, live: Live, size: Size) -> Row:
    found = next((row for row in run.rows if row.live is live and row.size == size), None)
    if found is None:
        found = Row(live, size)
        run.rows.append(found)
    return found


def _describe(run: Run) -> None:
    """Measure this processor on each number of threads, in processes that have not imported numpy yet."""
    here = [live for live in run.lives if not live.variant.is_elsewhere]
    for threads in dict.fromkeys(run.threads_of(live) for live in here):
        with BenchProcess() as process:
            answer = process.ask(Describe(threads), timeout_s=run.settings.load_limit_s)
        assert isinstance(answer, Described)
        run.machines[threads] = answer.machine


def _compare(run: Run) -> None:
    """How far is each from the first? Asked after the measuring, in a process that may crash.

    Threads change the order of sums at most: one comparison stands for all their numbers.
    """
    first, *others = run.lives
    if first.failure is not None:
        return
    known: dict[tuple[object, ...], Live] = {_same(first): first}
    process = BenchProcess()
    try:
        with progress("comparing", total=len(others), unit="models") as advance:
            for live in others:
                twin = known.setdefault(_same(live), live)
                if twin is not live:
                    live.agreed, live.disagreement = twin.agreed, twin.disagreement
                elif live.failure is None:
                    process = process if process.is_usable else BenchProcess()
                    _compare_with(process, run, first, live)
                advance(1)
    finally:
        process.stop()


def _same(live: Live) -> tuple[object, ...]:
    variant = live.variant
    return variant.subjects[0].sha256, variant.path, variant.runtime, variant.precision


def _compare_with(process: BenchProcess, run: Run, first: Live, live: Live) -> None:
    limit_s = 2 * run.settings.load_limit_s + run.settings.time_limit_s
    try:
        answer = process.ask(Agree(_start(run, first), _start(run, live)), timeout_s=limit_s)
    except Unsupported as error:
        live.disagreement = error
    else:
        live.agreed = answer if isinstance(answer, Agreed) else None
