"""The process in which a candidate computes features: a task as JSON on stdin, progress and outcome on stdout."""

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
from regraft.runtime import load, model_path
from regraft.runtime.interface import Model

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from regraft.runtime.image import ImagePreprocessing
    from regraft.runtime.text import TextEncoder

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_DEFAULT_SIDE = 128
_REASON_CHARS = 500


class ExtractionTask(msgspec.Struct, frozen=True):
    """What the process does; everything passes as JSON and safetensors.

    Attributes:
        ref: package, or `py:module:factory` of the user's own.
        inputs: JSON list of texts, or safetensors with `images` (N, H, W) float32 in 0…1.
        output: safetensors file to write, `features` (N, D) float32.
        permit: leave from a scan, where the format needs one.
        tap: of an image network; None for its first output.
        search_path: folders in which the user's own code is looked up.
        store: folder of the store that the package was fetched to.
    """

    ref: str
    inputs: str
    output: str
    runtime: str | None = None
    factory: str | None = None
    tap: str | None = None
    permit: Permit | None = None
    threads: int | None = None
    search_path: tuple[str, ...] = ()
    store: str | None = None
    offline: bool = True


class Extracted(msgspec.Struct, frozen=True):
    """The outcome: what was done, or why not.

    Attributes:
        preprocessing: in words, for evidence.
        seconds: wall time of encoding alone, without loading.
        error: code of the error; empty when the features were written.
    """

    preprocessing: str = ""
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
    if Path(task.inputs).suffix == ".json":
        return _text_features(task, msgspec.json.decode(Path(task.inputs).read_bytes(), type=list[str]))
    from safetensors.numpy import load_file

    return _image_features(task, load_file(task.inputs)["images"])


def _text_features(task: ExtractionTask, texts: list[str]) -> Extracted:
    if task.factory is not None or task.ref.startswith("py:"):
        raise Unsupported("a network of the user's own code has no tokenizer: texts cannot be given to it")
    began = time.perf_counter()
    with _package(task) as package:
        encoder = text_encoder(package, task.permit, task.runtime, threads=task.threads)
    loaded = time.perf_counter()
    features = encoder.encode(texts)
    done = time.perf_counter()
    pooling = encoder.pooling
    words = f"{'+'.join(pooling.modes)} pooling ({pooling.origin}), at most {encoder.max_tokens} tokens"
    words += ", unit length" if pooling.normalise else ""
    return _written(task, features, encoder.model, words, load_seconds=loaded - began, seconds=done - loaded)


def text_encoder(
    package: Package, permit: Permit | None, runtime: str | None, *, threads: int | None = None
) -> TextEncoder:
    """The text encoder of a candidate, the same for features and for the package that is made of it."""
    from regraft.runtime.text import load_text_encoder

    return load_text_encoder(package, permit, runtime=runtime, threads=threads)


def _image_features(task: ExtractionTask, images: NDArray[np.float32]) -> Extracted:
    import numpy as np

    from regraft.runtime.image import ImageEncoder

    began = time.perf_counter()
    model, preprocessing = _image_model(task)
    loaded = time.perf_counter()
    pictures = [np.rint(image * 255).astype(np.uint8) for image in images]
    features = ImageEncoder(model, preprocessing, tap=task.tap).encode(pictures)
    done = time.perf_counter()
    words = f"{preprocessing.height} × {preprocessing.width} {preprocessing.channels}, {task.tap or 'first output'}"
    return _written(task, features, model, words, load_seconds=loaded - began, seconds=done - loaded)


def _image_model(task: ExtractionTask) -> tuple[Model, ImagePreprocessing]:
    from regraft.runtime.image import preprocessing_of
    from regraft.runtime.verified import VerifiedFiles

    if task.ref.startswith("py:"):
        from regraft.runtime.torch_factory import model_from_factory

        model: Model = model_from_factory(task.ref.removeprefix("py:"), threads=task.threads)
        return model, _usual_preprocessing(model)
    with _package(task) as package:
        path = model_path(package, runtime=task.runtime, factory=task.factory)
        options: dict[str, Any] = {"runtime": task.runtime, "threads": task.threads, "factory": task.factory}
        model = load(package, task.permit, path=path, head=False, **options)
        stated = preprocessing_of(VerifiedFiles(package, task.permit), path)
    return model, stated or _usual_preprocessing(model)


def _usual_preprocessing(model: Model) -> ImagePreprocessing:
    """As torchvision's ImageNet networks are fed, at the size that the signature fixes."""
    from regraft.runtime.image import ImagePreprocessing

    shape = model.signature.inputs[0].shape or ()
    sides = [extent if isinstance(extent, int) else _DEFAULT_SIDE for extent in shape[2:4]]
    height, width = sides if len(sides) == 2 else (_DEFAULT_SIDE, _DEFAULT_SIDE)
    channels = shape[1] if len(shape) == 4 and isinstance(shape[1], int) else 3
    if channels == 1:
        return ImagePreprocessing(height, width, channels="L")
    return ImagePreprocessing(height, width, mean=_IMAGENET_MEAN, std=_IMAGENET_STD)


def _written(
    task: ExtractionTask,
    features: NDArray[np.float32],
    model: Model,
    words: str,
    *,
    load_seconds: float,
    seconds: float,
) -> Extracted:
    import numpy as np
    from safetensors.numpy import save_file

    if not np.isfinite(features).all():
        bad = int((~np.isfinite(features).all(axis=1)).sum())
        raise Unsupported(f"{bad} of {len(features)} rows have features that are not finite")
    save_file({"features": np.ascontiguousarray(features, dtype=np.float32)}, task.output)
    return Extracted(words, model.runtime, model.effective_precision, seconds, load_seconds)


@contextmanager
def _package(task: ExtractionTask) -> Iterator[Package]:
    store = open_store(Path(task.store)) if task.store else None
    with open_package(task.ref, options=SourceOptions(offline=task.offline, store=store)) as package:
        yield package


if __name__ == "__main__":
    raise SystemExit(main())
