"""What models are fed with while they are measured: texts, arrays, or a file of arrays."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from regraft.errors import AccessDenied, MissingExtra, NotFound, Unsupported, UsageError
from regraft.record.digest import digest_bytes, digest_chunks
from regraft.record.evidence import Subject

if TYPE_CHECKING:
    from regraft.runtime.interface import Array, Feeds, Model, Signature

MADE_UP = 64
"""Size of a symbolic dimension that is not the batch, when the user gives no data."""
_CHUNK_BYTES = 1 << 20
_MAX_TEXT_BYTES = 16 << 20


def read_texts(path: Path) -> tuple[str, ...]:
    """The texts of a file, one a line; blank lines are left out, and what lies behind 16 MiB.

    Raises:
        NotFound, AccessDenied: it cannot be read.
        UsageError: it holds none, or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_TEXT_BYTES)
            is_cut = bool(file.read(1))
    except FileNotFoundError as error:
        raise NotFound("there is no such file of texts", where=str(path)) from error
    except OSError as error:
        raise AccessDenied(f"the texts cannot be read: {error.strerror}", where=str(path)) from error
    whole = data[: data.rfind(b"\n") + 1] if is_cut else data
    try:
        texts = tuple(line for line in whole.decode("utf-8-sig").splitlines() if line.strip())
    except UnicodeDecodeError as error:
        raise UsageError(f"not UTF-8 at byte {error.start}", where=str(path)) from error
    if not texts:
        raise UsageError("the file holds no texts", where=str(path), hint="one text a line")
    return texts


def split_feeds(
    feeds: Feeds | Sequence[str] | Path | None,
) -> tuple[tuple[str, ...], Feeds | None, Path | None]:
    """Texts, arrays, or a file of arrays: at most one of them is there.

    Raises:
        UsageError: it is something else, or there is no such file.
    """
    if feeds is None:
        return (), None, None
    if isinstance(feeds, Path):
        if not feeds.is_file():
            raise NotFound("there is no such file of feeds", where=str(feeds))
        return (), None, feeds.absolute()
    if isinstance(feeds, Mapping):
        return (), feeds, None
    if isinstance(feeds, str) or not feeds or not all(isinstance(text, str) for text in feeds):
        raise UsageError("feeds are arrays by name, a list of texts, or the path of a file")
    return tuple(feeds), None, None


@contextmanager
def feeds_file(arrays: Feeds | None, file: Path | None) -> Iterator[Path | None]:
    """The file from which workers read arrays, None when there are none."""
    if arrays is None:
        yield file
        return
    try:
        from safetensors.numpy import save_file
    except ImportError as error:
        raise MissingExtra("safetensors", extra="text") from error
    import numpy as np

    with tempfile.TemporaryDirectory(prefix="regraft-bench-") as folder:
        path = Path(folder) / "feeds.safetensors"
        save_file({name: np.array(value, order="C") for name, value in arrays.items()}, path)
        yield path


def data_subject(file: Path | None, texts: Sequence[str]) -> Subject:
    """The data as evidence names it: by the file, else by the texts."""
    if file is None:
        return Subject(f"{len(texts)} texts", digest_bytes("\n".join(texts).encode("utf-8", "surrogatepass")))
    with file.open("rb") as source:
        return Subject(file.name, digest_chunks(iter(lambda: source.read(_CHUNK_BYTES), b"")))


def own_feeds(file: Path, signature: Signature) -> Feeds:
    """The user's arrays for one pass.

    Raises:
        UsageError: they do not fit, or hold no rows.
        Damaged: the file cannot be read.
    """
    from regraft.runtime.feed_files import feeds_from_file
    from regraft.runtime.measure import batch_of

    feeds = feeds_from_file(file, signature).feeds
    if batch_of(feeds) < 1:
        raise UsageError("the arrays hold no rows", where=file.name)
    return feeds


def made_up_feeds(model: Model, *, batch: int, length: int = MADE_UP, seed: int = 0) -> dict[str, Array]:
    """Values made up from the signature, with `batch` rows.

    Args:
        model: its symbolic first axes are the batch.
        length: of every other symbolic dimension.
        seed: of the values.
    Raises:
        Unsupported: the model fixes another batch, or does not say enough.
    """
    from regraft.runtime.feeds import generated_feeds
    from regraft.runtime.measure import batch_of

    sizes: dict[str, Sequence[int]] = {}
    for port in model.signature.inputs:
        for axis, extent in enumerate(port.shape or ()):
            name = f"{port.name}.{axis}" if extent is None else extent
            if isinstance(name, str) and (axis == 0 or name not in sizes):
                sizes[name] = (batch if axis == 0 else length,)
    feeds = next(generated_feeds(model.signature, seed=seed, sizes=sizes)).feeds
    if batch_of(feeds) != batch:
        raise Unsupported(f"the model fixes its batch at {batch_of(feeds)}", where=model.where)
    return feeds
