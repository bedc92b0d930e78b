"""The process in which one model is measured: requests and answers as lines of JSON.

A process of its own has its own memory peak, its own threads, and its own way to crash or hang.
"""

from __future__ import annotations

import itertools
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from regraft.errors import InternalError, RegraftError, Unsupported
from regraft.package.package import Package, open_package
from regraft.package.reference import ModelRef
from regraft.package.sources.interface import SourceOptions
from regraft.record.environment import capture_environment
from regraft.record.permit import Permit
from regraft.record.store import open_store
from regraft.runtime.measure import Sample, WarmUp, batch_of, sample, warm_up

if TYPE_CHECKING:
    from regraft.runtime.interface import Feeds, Model, Signature
    from regraft.runtime.text import TextEncoder

DEFAULT_TEXTS = (
    "It works.",
    "The parcel arrived two days late, but the shop apologised and refunded the postage.",
    "Would you recommend the smaller model to somebody who only travels at the weekend?",
    "I had expected a comedy; what I got was a slow, careful film about two brothers and a farm that neither wants.",
    "Not worth the money.",
    "Please close the window when it rains, and leave the key with the neighbour on the second floor.",
    "The committee postponed its decision because three of its seven members had not received the report in time.",
    "After an hour of reading we found that the switch had been in the wrong position all along.",
    (
        "Long lists, as of spare parts (bolts M4 and M6, two washers, a seal, the left bracket, four clips, one hinge, "
        "the spring with its pin, and a tube of grease), were read aloud twice, by the buyer and by the seller."
    ),
)
"""Texts of several lengths, for when the user gives none."""
_MADE_UP = 64
"""Size of a symbolic dimension that is not the batch, when the user gives no data."""
_MAX_TEXTS = 2000
WARM_UP_S = 5.0
"""Time after which a model that has not settled is measured as it is."""


class Start(msgspec.Struct, frozen=True, tag=True):
    """Load a model.

    Attributes:
        ref: pinned reference; `py:` for the user's own network.
        path: the file of the model within the package.
        permit: leave from a scan, where the format needs one.
        feeds_file: arrays for one pass; None for texts or made-up values.
        texts: what text packages are fed; empty for `DEFAULT_TEXTS`.
        store: folder of the store that the package was fetched to.
    """

    ref: ModelRef
    path: str | None = None
    permit: Permit | None = None
    runtime: str | None = None
    threads: int | None = None
    precision: str | None = None
    feeds_file: str | None = None
    texts: tuple[str, ...] = ()
    store: str | None = None
    offline: bool = False
    seed: int = 0


class Warm(msgspec.Struct, frozen=True, tag=True):
    """Run passes of `batch` rows until their time settles."""

    batch: int


class Turn(msgspec.Struct, frozen=True, tag=True):
    """Time passes of `batch` rows: `count` of them, or as many as fit into `time_limit_s`, at least one."""

    batch: int
    count: int
    time_limit_s: float


class Started(msgspec.Struct, frozen=True, tag=True):
    """The model is loaded.

    Attributes:
        load_ms: wall time, with the import of the runtime's libraries.
        pid: of the worker.
        own_batch: rows of a pass when the user's arrays fix it.
        inputs: what it is fed with, for a human.
        is_made_up: the inputs are not the user's.
        packages: library → version.
    """

    load_ms: float
    pid: int
    runtime: str
    precision: str
    inputs: str
    is_made_up: bool
    own_batch: int | None
    packages: dict[str, str]


class Warmed(msgspec.Struct, frozen=True, tag=True):
    """The time of a pass has settled, or was given up on."""

    warm_up: WarmUp


class Timed(msgspec.Struct, frozen=True, tag=True):
    """Timed passes. `began_s` is on the machine's monotonic clock, which all processes share.

    The pass before the first of them was made and dropped: the caches belonged to another model until then.
    """

    began_s: float
    samples: list[Sample]
    peak_mib: float


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The request could not be met."""

    code: str
    what: str
    hint: str = ""


Request = Start | Warm | Turn
Answer = Started | Warmed | Timed | Failed


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
        self._passes: Callable[[int], Callable[[], object]] | None = None
        self._ready: dict[int, Callable[[], object]] = {}

    def answer(self, request: Request) -> Answer:
        if isinstance(request, Start):
            return self._start(request)
        if isinstance(request, Warm):
            assert self._passes is not None
            warmed = warm_up(self._passes(request.batch), max_s=WARM_UP_S)
            self._ready[request.batch] = self._passes(request.batch)
            return Warmed(warmed)
        run = self._ready[request.batch]
        samples: list[Sample] = []
        run()
        began = time.monotonic()
        while len(samples) < request.count and (not samples or time.monotonic() - began < request.time_limit_s):
            samples.append(sample(run))
        return Timed(began, samples, _peak_mib())

    def _start(self, start: Start) -> Started:
        began = time.perf_counter()
        model, encoder = load_subject(start)
        load_ms = (time.perf_counter() - began) * 1e3
        own_batch = None
        if encoder is not None:
            texts = list(start.texts or DEFAULT_TEXTS)
            random.Random(start.seed).shuffle(texts)  # noqa: S311
            texts = texts[:_MAX_TEXTS]
            self._passes = lambda batch: _text_passes(encoder, texts, batch)
            inputs, is_made_up = _lengths(encoder, texts), not start.texts
        elif start.feeds_file is not None:
            feeds = _own_feeds(Path(start.feeds_file), model.signature)
            own_batch = batch_of(feeds)
            self._passes = lambda batch: lambda: model(feeds)
            inputs, is_made_up = _shapes(feeds), False
        else:
            self._passes = lambda batch: _made_up_passes(model, batch, start.seed)
            sizes = sorted(
                {str(s) for p in model.signature.inputs for s in (p.shape or ())[1:] if not isinstance(s, int)}
            )
            inputs = "made up from the signature" + (f"; {', '.join(sizes)} = {_MADE_UP}" if sizes else "")
            is_made_up = True
        precision = model.effective_precision
        packages = capture_environment().packages
        return Started(load_ms, os.getpid(), model.runtime, precision, inputs, is_made_up, own_batch, packages)


def load_subject(start: Start) -> tuple[Model, TextEncoder | None]:
    """The model, and the encoder around it when it takes texts.

    Raises:
        RegraftError: it cannot be loaded.
    """
    from regraft.runtime import load

    if start.ref.scheme == "py":
        from regraft.runtime.torch_factory import model_from_factory

        return model_from_factory(start.ref.location, threads=start.threads, precision=start.precision), None
    store = open_store(Path(start.store)) if start.store else None
    with open_package(start.ref, options=SourceOptions(offline=start.offline, store=store)) as package:
        if start.feeds_file is None and start.path is not None and _has_tokenizer(package, start.path):
            from regraft.runtime.text import load_text_encoder

            encoder = load_text_encoder(
                package,
                start.permit,
                runtime=start.runtime,
                path=start.path,
                threads=start.threads,
                precision=start.precision,
            )
            return encoder.model, encoder
        model = load(
            package,
            start.permit,
            runtime=start.runtime,
            path=start.path,
            threads=start.threads,
            precision=start.precision,
        )
    return model, None


def _has_tokenizer(package: Package, path: str) -> bool:
    from regraft.runtime.tokenizing import tokenizer_path

    folder = path.rpartition("/")[0]
    vocabulary = f"{folder}/vocab.txt" if folder else "vocab.txt"
    return tokenizer_path(package, path) is not None or any(entry.path == vocabulary for entry in package.entries)


def _text_passes(encoder: TextEncoder, texts: Sequence[str], batch: int) -> Callable[[], object]:
    """From strings to vectors; where the outputs are no token vectors (a classifier), to the outputs."""
    rounds = itertools.cycle(texts)

    def whole() -> object:
        return encoder.encode_batch(encoder.tokenize(_next(rounds, batch)))

    def outputs() -> object:
        return encoder.model(encoder.feeds(encoder.tokenize(_next(rounds, batch))))

    try:
        encoder.encode_batch(encoder.tokenize(texts[:1]))
    except Unsupported:
        return outputs
    return whole


def _next(rounds: Iterator[str], count: int) -> list[str]:
    return list(itertools.islice(rounds, count))


def _lengths(encoder: TextEncoder, texts: Sequence[str]) -> str:
    counts = sorted(len(encoding.ids) for encoding in encoder.tokenize(texts))
    return f"{len(texts)} texts of {counts[0]}–{counts[-1]} tokens, median {counts[len(counts) // 2]}"


def _own_feeds(file: Path, signature: Signature) -> Feeds:
    from regraft.runtime.feed_files import feeds_from_file

    return feeds_from_file(file, signature).feeds


def _shapes(feeds: Feeds) -> str:
    return ", ".join(f"{name} {'×'.join(map(str, value.shape)) or 'scalar'}" for name, value in feeds.items())


def _made_up_passes(model: Model, batch: int, seed: int) -> Callable[[], object]:
    from regraft.runtime.feeds import generated_feeds

    sizes: dict[str, Sequence[int]] = {}
    for port in model.signature.inputs:
        for axis, extent in enumerate(port.shape or ()):
            name = f"{port.name}.{axis}" if extent is None else extent
            if isinstance(name, str) and (axis == 0 or name not in sizes):
                sizes[name] = (batch if axis == 0 else _MADE_UP,)
    feeds = next(generated_feeds(model.signature, seed=seed, sizes=sizes)).feeds
    if batch_of(feeds) != batch:
        raise Unsupported(f"the model fixes its batch at {batch_of(feeds)}", where=model.where)
    return lambda: model(feeds)


def _peak_mib() -> float:
    """Largest resident memory of this process so far. On Linux `getrusage` would inherit the parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20) if sys.platform == "darwin" else peak / 1024
