"""The process in which a candidate is at work: a task as JSON on stdin, progress and outcome on stdout."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.errors import RegraftError, Unsupported
from regraft.package.package import Package, open_package
from regraft.package.sources.interface import SourceOptions
from regraft.progress import listening
from regraft.record.permit import Permit
from regraft.record.store import open_store
from regraft.runtime import model_path
from regraft.runtime.image import ImagePreprocessing, preprocessing_for, preprocessing_of
from regraft.runtime.interface import Model
from regraft.runtime.vouched import load_text_vouched, load_vouched

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from regraft.runtime.text import TextEncoder

_REASON_CHARS = 500


class ExtractionTask(msgspec.Struct, frozen=True):
    """What the process does; everything passes as JSON, safetensors and `.pt2`.

    Attributes:
        ref: package, or `py:module:factory` of the user's own.
        inputs: JSON list of texts, or safetensors with `images` (N, H, W) float32 in 0…1; None to write the image
            network itself.
        output: file to write: safetensors with `features` (N, D) float32, or the network, from pixels to features,
            as an exported program.
        permit: leave from a scan, where the format needs one.
        code_loader: what loads under leave to run code of the package, as `module:function`.
        tap: of an image network; None for its first output.
        search_path: folders in which the user's own code is looked up.
        store: folder of the store that the package was fetched to.
    """

    ref: str
    inputs: str | None
    output: str
    runtime: str | None = None
    factory: str | None = None
    tap: str | None = None
    permit: Permit | None = None
    code_loader: str = ""
    threads: int | None = None
    search_path: tuple[str, ...] = ()
    store: str | None = None
    offline: bool = True


class Extracted(msgspec.Struct, frozen=True):
    """The outcome: what was done, or why not.

    Attributes:
        preprocessing: in words, for evidence.
        pictures: how pictures are prepared; None for texts.
        seconds: wall time of encoding alone, without loading.
        error: code of the error; empty when the features were written.
    """

    preprocessing: str = ""
    pictures: ImagePreprocessing | None = None
    runtime: str = ""
    precision: str = ""
    seconds: float = 0.0
    load_seconds: float = 0.0
    error: str = ""
    what: str = ""
    hint: str = ""


class Advanced(msgspec.Struct, frozen=True):
    """So many rows more are done."""

    advance: int


def main() -> int:
    """Do the task. The outcome is the last line of stdout; what libraries print goes to stderr."""
    task = msgspec.json.decode(sys.stdin.buffer.read(), type=ExtractionTask)
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    sys.path[:0] = task.search_path
    with listening(_Lines(out)):
        outcome = _outcome(task)
    out.write(msgspec.json.encode(outcome) + b"\n")
    return 0


class _Lines:
    """Tells progress as lines of JSON. See `progress.Listener`."""

    def __init__(self, out: Any) -> None:
        self._out = out
        self._rows: set[int] = set()
        self._next = 0

    def start(self, what: str, total: int | None, unit: str) -> int:
        self._next += 1
        if unit in ("texts", "pictures"):
            self._rows.add(self._next)
        return self._next

    def advance(self, task: int, amount: int) -> None:
        if task in self._rows:
            self._out.write(msgspec.json.encode(Advanced(amount)) + b"\n")

    def finish(self, task: int) -> None:
        self._rows.discard(task)


def _outcome(task: ExtractionTask) -> Extracted:
    try:
        return _extracted(task)
    except RegraftError as error:
        return Extracted(error=error.code, what=str(error)[:_REASON_CHARS], hint=error.hint)
    except MemoryError:
        return Extracted(error="limit", what="out of memory")
    except Exception as error:  # noqa: BLE001  a library's fault is this candidate's, and is recorded
        return Extracted(error="crash", what=f"{type(error).__name__}: {str(error)[:_REASON_CHARS]}")


def _extracted(task: ExtractionTask) -> Extracted:
    if task.inputs is None:
        return _exported(task)
    if Path(task.inputs).suffix == ".json":
        return _text_features(task, msgspec.json.decode(Path(task.inputs).read_bytes(), type=list[str]))
    from safetensors.numpy import load_file

    return _image_features(task, load_file(task.inputs)["images"])


def _text_features(task: ExtractionTask, texts: list[str]) -> Extracted:
    if task.factory is not None or task.ref.startswith("py:"):
        raise Unsupported("a network of the user's own code has no tokenizer: texts cannot be given to it")
    began = time.perf_counter()
    with _package(task) as package:
        encoder = text_encoder(package, task.permit, task.runtime, threads=task.threads, code_loader=task.code_loader)
    loaded = time.perf_counter()
    features = encoder.encode(texts)
    done = time.perf_counter()
    pooling = encoder.pooling
    words = f"{'+'.join(pooling.modes)} pooling ({pooling.origin}), at most {encoder.max_tokens} tokens"
    words += ", unit length" if pooling.normalise else ""
    return _written(task, features, encoder.model, words, load_seconds=loaded - began, seconds=done - loaded)


def text_encoder(
    package: Package, permit: Permit | None, runtime: str | None, *, threads: int | None = None, code_loader: str = ""
) -> TextEncoder:
    """The text encoder of a candidate, the same for features and for the package that is made of it."""
    path = model_path(package, runtime=runtime)
    return load_text_vouched(package, permit, code_loader=code_loader, path=path, runtime=runtime, threads=threads)


def _image_features(task: ExtractionTask, images: NDArray[np.float32]) -> Extracted:
    from regraft.runtime.image import ImageEncoder

    began = time.perf_counter()
    model, preprocessing = _image_model(task)
    loaded = time.perf_counter()
    pictures = pictures_of(images)
    features = ImageEncoder(model, preprocessing, tap=task.tap).encode(pictures)
    done = time.perf_counter()
    times = {"load_seconds": loaded - began, "seconds": done - loaded}
    return _written(task, features, model, _words(task, preprocessing), pictures=preprocessing, **times)


def pictures_of(images: NDArray[np.float32]) -> list[NDArray[np.uint8]]:
    """Images (N, H, W) of 0…1 as pictures of 0 to 255."""
    import numpy as np

    return [np.rint(image * 255).astype(np.uint8) for image in images]


def _words(task: ExtractionTask, preprocessing: ImagePreprocessing) -> str:
    return f"{preprocessing.height} × {preprocessing.width} {preprocessing.channels}, {task.tap or 'first output'}"


def _image_model(task: ExtractionTask) -> tuple[Model, ImagePreprocessing]:
    """The network, and how its pictures are prepared: the user's own code knows it best, then the package."""
    if task.ref.startswith("py:"):
        from regraft.runtime.torch_factory import model_from_factory

        own: Model = model_from_factory(task.ref.removeprefix("py:"), threads=task.threads)
        return own, preprocessing_for(own)
    from regraft.runtime.verified import VerifiedFiles

    with _package(task) as package:
        path = model_path(package, runtime=task.runtime, factory=task.factory)
        options: dict[str, Any] = {"runtime": task.runtime, "threads": task.threads, "factory": task.factory}
        model = load_vouched(package, task.permit, code_loader=task.code_loader, path=path, head=False, **options)
        beside = preprocessing_of(VerifiedFiles(package, task.permit), path)
    return model, preprocessing_for(model, beside)


def _exported(task: ExtractionTask) -> Extracted:
    """Write the network, up to the features that are compared, as a program that needs none of its code."""
    from regraft.adaptation.image_program import image_program

    model, preprocessing = _image_model(task)
    Path(task.output).write_bytes(image_program(model, preprocessing, tap=task.tap))
    return Extracted(_words(task, preprocessing), preprocessing, model.runtime, model.effective_precision)


def _written(
    task: ExtractionTask,
    features: NDArray[np.float32],
    model: Model,
    words: str,
    *,
    load_seconds: float,
    seconds: float,
    pictures: ImagePreprocessing | None = None,
) -> Extracted:
    import numpy as np
    from safetensors.numpy import save_file

    if not np.isfinite(features).all():
        bad = int((~np.isfinite(features).all(axis=1)).sum())
        raise Unsupported(f"{bad} of {len(features)} rows have features that are not finite")
    save_file({"features": np.ascontiguousarray(features, dtype=np.float32)}, task.output)
    return Extracted(words, pictures, model.runtime, model.effective_precision, seconds, load_seconds)


@contextmanager
def _package(task: ExtractionTask) -> Iterator[Package]:
    store = open_store(Path(task.store)) if task.store else None
    with open_package(task.ref, options=SourceOptions(offline=task.offline, store=store)) as package:
        yield package


if __name__ == "__main__":
    raise SystemExit(main())
