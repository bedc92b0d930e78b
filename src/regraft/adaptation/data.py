"""Labelled data for a task: columns, label map, missing values, duplicates removed before anything is split."""

from __future__ import annotations

import difflib
import os
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from regraft.adaptation.tables import Matrices, Table, read_rows
from regraft.errors import Damaged, MissingExtra, UsageError
from regraft.package.package import open_package
from regraft.package.sources.interface import SourceOptions
from regraft.record.digest import Digest, digest_chunks
from regraft.record.evidence import JSON, Finding, Severity, Subject, Where

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from regraft.package.package import Package
    from regraft.record.store import Store

DUPLICATES, MISSING, MISSHAPEN, CONFLICTING, BALANCE, ONE_CLASS, TOO_FEW, UNMAPPED = (
    f"RGA-DATA-{number:03}" for number in range(1, 9)
)
MIN_ROWS_PER_CLASS = 10
"""Fewer than this and five folds leave less than two of a class to judge by."""
_TEXT_NAMES = ("text", "sentence", "review", "content", "document", "message", "comment", "question", "utterance")
_LABEL_NAMES = ("label", "labels", "target", "class", "category", "sentiment", "y")
_LISTED = 5


class DataSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Where labelled data is and how it is meant.

    Attributes:
        ref: a package reference or path; `#file` picks one of several tables.
        text: column of the texts; None for the usual names, or for a table of pixels.
        label: column of the labels; None for the usual names, the last column of a table without header.
        where: keep only rows whose column has this value.
        labels: raw label → name; rows with other labels are left out and reported.
        learn: rows to learn from.
        held_out: rows that are kept for judging.
    """

    ref: str
    text: str | None = None
    label: str | None = None
    where: dict[str, str] = {}
    labels: dict[str, str] = {}
    learn: int = 1000
    held_out: int = 2000

    def parameters(self) -> dict[str, JSON]:
        """As evidence records it."""
        fields: dict[str, JSON] = msgspec.to_builtins(self)
        return fields


class LabelledData:
    """Clean rows: no missing value, no duplicate.

    Attributes:
        name: how tables call it.
        texts: the inputs, when they are texts; else empty.
        images: (N, H, W) float32 in 0…1, when they are images; else None.
        labels: (N,) class numbers.
        label_names: class number → name.
        materials: the data package and its files.
        findings: what was removed, and why.
        spec: what was asked for.
    """

    def __init__(
        self,
        name: str,
        inputs: Sequence[str] | NDArray[np.float32],
        labels: Sequence[str],
        *,
        materials: Sequence[Subject] = (),
        findings: Sequence[Finding] = (),
        spec: DataSpec | None = None,
    ) -> None:
        import numpy as np

        self.name = name
        self.texts: tuple[str, ...] = () if isinstance(inputs, np.ndarray) else tuple(inputs)
        self.images: NDArray[np.float32] | None = inputs if isinstance(inputs, np.ndarray) else None
        self.label_names = tuple(sorted(set(labels)))
        numbers = {label: number for number, label in enumerate(self.label_names)}
        self.labels: NDArray[np.int64] = np.array([numbers[label] for label in labels], dtype=np.int64)
        self.materials = tuple(materials)
        self.findings = (*findings, *_judged(self.label_names, Counter(labels)))
        self.spec = spec or DataSpec(ref=name)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def task(self) -> str:
        """`text-classification` or `image-classification`."""
        return "text-classification" if self.images is None else "image-classification"

    @property
    def is_enough(self) -> bool:
        """Whether there are two classes and rows enough of each to compare anything."""
        return not any(finding.rule in (ONE_CLASS, TOO_FEW) for finding in self.findings)

    def digest(self, rows: NDArray[np.int64]) -> Digest:
        """Digest of the inputs in some rows, in that order; what features depend on."""
        if self.images is not None:
            return digest_chunks([str(self.images.shape[1:]).encode(), self.images[rows].tobytes()])
        return digest_chunks(len(text).to_bytes(8, "little") + text for text in (self.texts[i].encode() for i in rows))


def load_data(
    spec: DataSpec | str | os.PathLike[str], *, store: Store | None = None, offline: bool = False
) -> LabelledData:
    """Read labelled rows, and remove what would spoil a comparison: missing, misshapen and duplicate rows.

    Args:
        spec: where the data is; a bare reference takes the usual column names.
        store: where fetched packages are looked up.
        offline: no network.
    Raises:
        UsageError: a column that is not there; the hint names the nearest.
        NotFound, AmbiguousReference, Damaged, LimitExceeded, Unsupported: about the files.
        MissingExtra: numpy is not installed.
    """
    _require_numpy()
    wanted = spec if isinstance(spec, DataSpec) else DataSpec(ref=os.fspath(spec))
    with open_package(wanted.ref, options=SourceOptions(offline=offline, store=store)) as package:
        rows = read_rows(package)
        materials = _materials(package)
        name = package.name
    if isinstance(rows, Matrices):
        return _from_matrices(rows, wanted, name, materials)
    return _from_table(rows, wanted, name, materials)


def _require_numpy() -> None:
    try:
        import numpy  # noqa: F401
    except ImportError as error:
        raise MissingExtra("numpy", extra="adapt") from error


def _materials(package: Package) -> list[Subject]:
    manifest = package.manifest()
    return package.subjects(manifest)[:_LISTED]


def _from_matrices(matrices: Matrices, spec: DataSpec, name: str, materials: Sequence[Subject]) -> LabelledData:
    import numpy as np

    findings: list[Finding] = []
    if matrices.misshapen:
        count = sum(matrices.misshapen.values())
        message = f"{count} rows of another length than the others were left out"
        findings.append(Finding(MISSHAPEN, Severity.LOW, message, data={"by_class": dict(matrices.misshapen)}))
    names, pieces = [], []
    for label, rows in matrices.rows.items():
        if not rows or (spec.labels and label not in spec.labels):
            continue
        names += [spec.labels.get(label, label)] * len(rows)
        pieces.append(np.array(rows, dtype=np.float32))
    images = _as_images(np.concatenate(pieces) if pieces else np.empty((0, 1), np.float32), spec.ref)
    return _deduplicated(name, images, names, materials, findings, spec)


def _from_table(table: Table, spec: DataSpec, name: str, materials: Sequence[Subject]) -> LabelledData:
    findings: list[Finding] = []
    if table.ragged:
        message = f"{table.ragged} rows have another number of cells than the header and were left out"
        findings.append(Finding(MISSHAPEN, Severity.LOW, message, Where(file=table.where), {"rows": table.ragged}))
    label = _label_column(table, spec)
    rows = [i for i in range(len(table.rows)) if _is_wanted(table, i, spec.where)]
    if spec.where and not rows and table.rows:
        raise UsageError(f"no row has {spec.where}", where=table.where, hint=_values_hint(table, spec.where))
    text = _text_column(table, spec, label)
    inputs = [label] if text is None else [text, label]
    columns = range(len(table.columns)) if text is None else inputs
    whole = [i for i in rows if all((table.rows[i][column] or "").strip() for column in columns)]
    if len(whole) < len(rows):
        lacking = sorted(set(rows) - set(whole))
        message = f"{len(lacking)} rows with a missing value were left out"
        data: dict[str, JSON] = {"rows": len(lacking), "first": [int(i) for i in lacking[:_LISTED]]}
        findings.append(Finding(MISSING, Severity.LOW, message, Where(file=table.where), data))
    raw = [(table.rows[i][label] or "").strip() for i in whole]
    kept, names, unmapped = _mapped(raw, spec.labels)
    findings += unmapped
    whole = [whole[i] for i in kept]
    if text is not None:
        return _deduplicated(name, [table.rows[i][text] or "" for i in whole], names, materials, findings, spec)
    return _deduplicated(name, _pixels(table, whole, label), names, materials, findings, spec)


def _is_wanted(table: Table, row: int, where: Mapping[str, str]) -> bool:
    return all(table.rows[row][_column(table, column)] == value for column, value in where.items())


def _values_hint(table: Table, where: Mapping[str, str]) -> str:
    column = next(iter(where))
    values = Counter(row[_column(table, column)] or "" for row in table.rows).most_common(_LISTED)
    return f"{column} has: " + ", ".join(value[:40] for value, _ in values)


def _column(table: Table, name: str) -> int:
    """Position of a column.

    Raises:
        UsageError: there is none of that name.
    """
    if name in table.columns:
        return table.columns.index(name)
    near = difflib.get_close_matches(name, table.columns, n=1, cutoff=0.3)
    listed = ", ".join(table.columns[:20])
    nearest = f"did you mean {near[0]!r}? " if near else ""
    raise UsageError(f"there is no column {name!r}", where=table.where, hint=f"{nearest}the columns are: {listed}")


def _label_column(table: Table, spec: DataSpec) -> int:
    if spec.label is not None:
        return _column(table, spec.label)
    if table.columns and not table.has_header:
        return len(table.columns) - 1
    named = [name for name in _LABEL_NAMES for column in table.columns if column.lower() == name]
    if not named:
        raise UsageError(
            "which column has the labels?", where=table.where, hint=f"one of: {', '.join(table.columns[:20])}"
        )
    return next(i for i, column in enumerate(table.columns) if column.lower() == named[0])


def _text_column(table: Table, spec: DataSpec, label: int) -> int | None:
    """The column of texts; None for a table of numbers."""
    if spec.text is not None:
        return _column(table, spec.text)
    named = [i for name in _TEXT_NAMES for i, column in enumerate(table.columns) if column.lower() == name]
    if named:
        return named[0]
    others = [i for i in range(len(table.columns)) if i != label]
    if len(others) > 2 and all(_is_numeric(row[others[0]]) for row in table.rows[:20]):
        return None
    if len(others) == 1:
        return others[0]
    raise UsageError("which column has the texts?", where=table.where, hint=f"one of: {', '.join(table.columns[:20])}")


def _is_numeric(cell: str | None) -> bool:
    try:
        float(cell or "x")
    except ValueError:
        return False
    return True


def _mapped(raw: Sequence[str], names: Mapping[str, str]) -> tuple[list[int], list[str], list[Finding]]:
    if not names:
        return list(range(len(raw))), list(raw), []
    kept = [i for i, label in enumerate(raw) if label in names]
    strange = Counter(label for label in raw if label not in names)
    findings = []
    if strange:
        message = f"{sum(strange.values())} rows have a label that the map does not name and were left out"
        findings.append(Finding(UNMAPPED, Severity.LOW, message, data={"labels": dict(strange.most_common(_LISTED))}))
    return kept, [names[raw[i]] for i in kept], findings


def _pixels(table: Table, rows: Sequence[int], label: int) -> NDArray[np.float32]:
    import numpy as np

    columns = [i for i in range(len(table.columns)) if i != label]
    try:
        values = np.array([[table.rows[i][c] for c in columns] for i in rows], dtype=np.float32)
    except ValueError as error:
        raise Damaged(f"a table of pixels with something else in it: {error}", where=table.where) from None
    return _as_images(values.reshape(len(rows), len(columns)), table.where)


def _as_images(values: NDArray[np.float32], where: str) -> NDArray[np.float32]:
    import numpy as np

    side = round(values.shape[1] ** 0.5)
    if side * side != values.shape[1]:
        raise Damaged(f"rows of {values.shape[1]} numbers are no square images", where=where)
    if values.size and not np.isfinite(values).all():
        raise Damaged("a pixel is not a finite number", where=where)
    peak = float(values.max(initial=0))
    scale = np.float32(255 if peak > 1 else 1)
    images: NDArray[np.float32] = (values / scale).astype(np.float32, copy=False)
    return images.reshape(-1, side, side)


def normalised(text: str) -> str:
    """A text as duplicates are found by: compatibility forms folded, no case, letters and digits alone."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join("".join(c if c.isalnum() else " " for c in folded).split()) or text.strip()


def _deduplicated(
    name: str,
    inputs: Sequence[str] | NDArray[np.float32],
    labels: list[str],
    materials: Sequence[Subject],
    findings: list[Finding],
    spec: DataSpec,
) -> LabelledData:
    """Of equal inputs keep the first; where their labels contradict keep none."""
    import numpy as np

    is_text = not isinstance(inputs, np.ndarray)
    keys: list[str | bytes]
    keys = [i.tobytes() for i in inputs] if isinstance(inputs, np.ndarray) else [normalised(text) for text in inputs]
    exact = len(labels) - len({*(list(inputs) if is_text else keys)})
    groups: dict[str | bytes, list[int]] = {}
    for i, key in enumerate(keys):
        groups.setdefault(key, []).append(i)
    contradictory = [rows for rows in groups.values() if len({labels[i] for i in rows}) > 1]
    dropped = sum(len(rows) - 1 for rows in groups.values() if len({labels[i] for i in rows}) == 1)
    kept = sorted(rows[0] for rows in groups.values() if len({labels[i] for i in rows}) == 1)
    if dropped or contradictory:
        what = "texts that are equal but for case, spacing and punctuation" if is_text else "equal images"
        message = f"{dropped} duplicates ({what}; {exact} equal byte for byte) were removed before splitting"
        data: dict[str, JSON] = {
            "removed": dropped,
            "exact": exact,
            "examples": [inputs[r[0]][:120] for r in groups.values() if len(r) > 1][:3] if is_text else [],
        }
        findings.append(Finding(DUPLICATES, Severity.LOW, message, data=data))
    if contradictory:
        count = sum(map(len, contradictory))
        message = f"{count} rows are duplicates whose labels contradict; all of them were removed"
        findings.append(Finding(CONFLICTING, Severity.LOW, message, data={"rows": count, "inputs": len(contradictory)}))
    cleaned = inputs[kept] if isinstance(inputs, np.ndarray) else [inputs[i] for i in kept]
    kept_labels = [labels[i] for i in kept]
    return LabelledData(name, cleaned, kept_labels, materials=materials, findings=findings, spec=spec)


def _judged(names: Sequence[str], counts: Counter[str]) -> list[Finding]:
    """The balance of the classes, and whether they are enough."""
    total = sum(counts.values())
    shares: dict[str, JSON] = {name: counts[name] for name in names[:50]}
    largest = max(counts.values(), default=0)
    message = f"{total} rows, {len(names)} classes; the largest holds {largest / total:.1%}" if total else "no rows"
    found = [Finding(BALANCE, Severity.INFO, message, data={"rows": total, "classes": shares})]
    if len(names) == 1:
        message = f"all rows have the label {names[0]!r}: there is nothing to tell apart"
        found.append(Finding(ONE_CLASS, Severity.UNKNOWN, message, fix="Add rows of another class."))
    scarce = {name: counts[name] for name in names if counts[name] < 2 * MIN_ROWS_PER_CLASS}
    if not total or scarce:
        said = ", ".join(f"{name}: {count}" for name, count in list(scarce.items())[:_LISTED]) or "no rows"
        need = 2 * MIN_ROWS_PER_CLASS
        message = f"too few rows to learn from and to judge by: {said}; each class needs {need}"
        found.append(Finding(TOO_FEW, Severity.UNKNOWN, message, fix="Label more rows, or merge rare classes."))
    return found
