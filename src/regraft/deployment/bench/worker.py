"""The process in which one model is measured: requests and answers as lines of JSON.

A process of its own has its own memory peak, its own threads, and its own way to crash or hang.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

import msgspec

from regraft.deployment.bench.messages import (
    WARM_UP_S,
    Agree,
    Answer,
    Describe,
    Described,
    Failed,
    Request,
    Size,
    Start,
    Started,
    Timed,
    Turn,
    Warm,
    Warmed,
)
from regraft.deployment.bench.passes import Passes, load_passes
from regraft.errors import InternalError, RegraftError, Unsupported
from regraft.record.environment import capture_environment
from regraft.runtime.energy import EnergyCounters
from regraft.runtime.measure import Sample, sample, warm_up
from regraft.runtime.process_usage import peak_mib


def main() -> None:
    """Answer requests until stdin ends. What libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    worker = _Worker()
    decoder = msgspec.json.Decoder(Request)
    for line in sys.stdin.buffer:
        answers.write(msgspec.json.encode(_answer(worker, decoder.decode(line))) + b"\n")
        answers.flush()


def _answer(worker: _Worker, request: Request) -> Answer:
    try:
        return worker.answer(request)
    except RegraftError as error:
        return Failed(error.code, str(error), error.hint)
    except MemoryError:
        return Failed("limit", "out of memory")
    except Exception as error:  # noqa: BLE001  libraries raise what they like; the parent records it as inconclusive
        return Failed(InternalError.code, f"{type(error).__name__}: {str(error)[:500]}")


class _Worker:
    def __init__(self) -> None:
        self._passes: Passes | None = None
        self._ready: dict[Size, Callable[[], object]] = {}
        self._energy, self._no_energy = _energy_counters()
        self._yardsticks: Any = None

    def answer(self, request: Request) -> Answer:
        match request:
            case Start():
                return self._start(request)
            case Warm():
                return self._warm(request)
            case Turn():
                return self._turn(request)
            case Agree():
                return self._agree(request)
            case Describe():
                return _described(request)

    def _start(self, start: Start) -> Started:
        began = time.perf_counter()
        passes = self._passes = load_passes(start)
        load_ms = (time.perf_counter() - began) * 1e3
        return Started(
            load_ms,
            os.getpid(),
            passes.model.runtime,
            passes.model.effective_precision,
            passes.inputs(),
            passes.is_made_up,
            passes.own_batch,
            capture_environment().packages,
            self._no_energy,
        )

    def _warm(self, warm: Warm) -> Warmed:
        assert self._passes is not None
        batch, length = warm.size.batch, warm.size.length
        warmed = warm_up(self._passes.of(batch, length), max_s=WARM_UP_S)
        self._ready[warm.size] = self._passes.of(batch, length)
        return Warmed(warmed, self._passes.inputs())

    def _turn(self, turn: Turn) -> Timed:
        assert self._passes is not None
        run = self._ready[turn.size]
        samples: list[Sample] = []
        run()
        network: int | None = getattr(self._passes.model, "pid", None)  # asked anew: it may have been started again
        before = self._energy.read() if self._energy is not None else []
        began = time.monotonic()
        while len(samples) < turn.count and (not samples or time.monotonic() - began < turn.time_limit_s):
            samples.append(sample(run, network))
        used = self._energy.joules(before, self._energy.read()) if self._energy is not None else None
        return Timed(began, samples, peak_mib(network), used)

    def _agree(self, agree: Agree) -> Answer:
        from regraft.deployment.bench.agreement import Agreement

        if self._yardsticks is None:
            self._yardsticks = Agreement(agree.reference)
        agreed: Answer = self._yardsticks.of(agree.candidate)
        return agreed


def _described(describe: Describe) -> Described:
    from regraft.deployment.bench.machine import measured_machine

    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
        os.environ[name] = str(describe.threads)  # read once, when numpy is imported: it is not yet
    return Described(measured_machine(describe.threads))


def _energy_counters() -> tuple[EnergyCounters | None, str]:
    try:
        return EnergyCounters(), ""
    except Unsupported as error:
        return None, error.what
