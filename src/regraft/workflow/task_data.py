"""Labelled rows as `select` and `adapt` read them, made ready for the networks that `verify` compares."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.adaptation.data import DataSpec, LabelledData, load_data
from regraft.adaptation.extraction import pictures_of
from regraft.adaptation.splits import split
from regraft.deployment.task import TaskData
from regraft.errors import UsageError
from regraft.package.package import Package, open_package
from regraft.package.sources.interface import SourceOptions
from regraft.runtime import model_path
from regraft.runtime.feed_files import ARRAY_FILES, arrays_from_file
from regraft.runtime.image import preprocessing_of
from regraft.runtime.pipeline import PIXELS, description_of
from regraft.runtime.tokenizing import json_beside
from regraft.runtime.verified import VerifiedFiles

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from regraft.deployment.loading import AnyModel
    from regraft.record.store import Store

LABELS = "labels"
"""Name of the array of true classes in a file of arrays."""


def task_data(
    reference: AnyModel,
    data: DataSpec,
    *,
    margin: float,
    seed: int = 0,
    store: Store | None = None,
    offline: bool = False,
) -> TaskData:
    """Held-out rows with the columns of their classes.

    Args:
        reference: says which column is which class, and how texts and pictures are prepared.
        data: a table of texts or pictures, as `load_data` reads it; or a file of arrays (.npz, .safetensors) by the
            reference's names beside one that is called `labels`: numbers of columns.
        margin: accuracy that may be lost, as a share.
        seed: of the split; the one of `select` and `adapt` gives rows that nothing was learnt from.
        store, offline: as for opening packages.
    Raises:
        UsageError: labels that the reference does not know or that are no numbers of columns, NaN, no rows, or
            pictures that the reference does not say how to prepare.
        As `load_data`, and as opening the package.
    """
    if Path(data.ref).suffix in ARRAY_FILES:
        return _from_arrays(Path(data.ref), margin)
    labelled = load_data(data, store=store, offline=offline)
    rows = split(labelled, seed=seed).held_out[: data.held_out]
    if not isinstance(reference, str | os.PathLike | Package):
        raise UsageError("labelled tables need a reference with a package", hint="give arrays: .npz with labels in it")
    options = SourceOptions(offline=offline, store=store)
    package = reference if isinstance(reference, Package) else open_package(os.fspath(reference), options=options)
    try:
        files, path = VerifiedFiles(package), model_path(package)
        columns, note = _columns(labelled, _class_names(files, path))
        prepared = _prepared(labelled, rows, files, path)
    finally:
        if package is not reference:
            package.close()
    return TaskData(rows=prepared, labels=columns[rows], margin=margin, materials=labelled.materials, note=note)


def _from_arrays(path: Path, margin: float) -> TaskData:
    import numpy as np

    arrays = arrays_from_file(path)
    labels = arrays.pop(LABELS, None)
    if labels is None:
        held = ", ".join(arrays) or "nothing"
        raise UsageError(f"there is no array of numbers of classes called {LABELS!r}; it holds {held}", where=str(path))
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise UsageError(
            f"{LABELS!r} is {labels.dtype} of shape {labels.shape}; it has to be one whole number a row, the column of "
            "the true class",
            where=str(path),
            hint="labels.astype('int64') for classes; labels.argmax(axis=1) for one column a class",
        )
    if not labels.size:
        raise UsageError(f"{LABELS!r} is empty: there are no rows to compare on", where=str(path))
    wrong = [name for name, value in arrays.items() if value.ndim and len(value) != len(labels)]
    if wrong:
        raise UsageError(f"{len(labels)} labels for {len(arrays[wrong[0]])} rows of {wrong[0]}", where=str(path))
    unknown = [name for name, value in arrays.items() if value.dtype.kind == "f" and np.isnan(value).any()]
    if unknown:
        raise UsageError(
            f"{unknown[0]!r} holds NaN", where=str(path), hint="leave such rows out, or put a number in its place"
        )
    return TaskData(rows=arrays, labels=labels.astype(np.int64), margin=margin)


def _prepared(labelled: LabelledData, rows: NDArray[np.int64], files: VerifiedFiles, path: str) -> Any:
    if labelled.images is None:
        return [labelled.texts[row] for row in rows]
    preprocessing = preprocessing_of(files, path)
    if preprocessing is None:
        raise UsageError(
            "the package does not say how pictures are prepared for it",
            where=path,
            hint=f"give prepared arrays: .npz with {LABELS!r} in it",
        )
    return {PIXELS: preprocessing(pictures_of(labelled.images[rows]))}


def _class_names(files: VerifiedFiles, path: str) -> tuple[str, ...]:
    """Classes in the order of the columns: of our own description, else of a config; empty where nobody says."""
    description = description_of(files.package)
    if description is not None:
        return description.labels
    names = json_beside(files, path, "config.json").get("id2label")
    if not isinstance(names, dict):
        return ()
    return tuple(str(names[key]) for key in sorted(names, key=lambda key: int(key) if str(key).isdigit() else 0))


def _columns(labelled: LabelledData, known: tuple[str, ...]) -> tuple[NDArray[np.int64], str]:
    """(N,) column of each row's class, and how that was found where it was not plain."""
    import numpy as np

    names = labelled.label_names
    places = {name.casefold(): column for column, name in enumerate(known)}
    if all(name.casefold() in places for name in names):
        chosen, note = [places[name.casefold()] for name in names], ""
    elif all(name.isdigit() for name in names):
        chosen, note = [int(name) for name in names], "labels were taken for numbers of columns"
    elif known:
        strange = next(name for name in names if name.casefold() not in places)
        raise UsageError(
            f"the model has no class {strange!r}; it has {', '.join(known)}", hint="--name-label LABEL=CLASS maps them"
        )
    else:
        chosen, note = list(range(len(names))), f"columns were taken for {', '.join(names[:10])}, in this order"
    return np.array(chosen, dtype=np.int64)[labelled.labels], note
