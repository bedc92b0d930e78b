"""One container of weights into another: named, widened where it must be, written, read back."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from regraft.deployment.convert.weights.bits import carrier, converted, digest, target_dtype
from regraft.deployment.convert.weights.containers import container_for, container_of
from regraft.deployment.convert.weights.interface import Container, LeftOut, Stored, Weights, Written
from regraft.deployment.convert.weights.shards import Part, parts_of
from regraft.errors import LimitExceeded, Unsupported
from regraft.package.reader import FileReader
from regraft.record.evidence import JSON, Finding, Measurement, Severity, Verdict, combine

if TYPE_CHECKING:
    from regraft.deployment.convert.weights.interface import Bits
    from regraft.runtime.verified import VerifiedFiles

_MAX_GROWTH = 64
_MAX_BYTES_ANYHOW = 1 << 30
_LISTED = 50
Table = Mapping[str, str]


class WeightsMade(msgspec.Struct, frozen=True):
    """What `convert_weights` made, and whether it holds.

    Attributes:
        file: name of the container in the folder.
        form: of it.
        verdict: pass, fail (`weights.differs`), or inconclusive (`weights.left_out`).
        summary: one line.
        content: SHA-256 over names and values, the same for the same weights in whatever container.
        findings, measurements: for the evidence.
        versions: library → version that read or wrote.
        digests: tensor of the new file → SHA-256 over its dtype, shape and bits.
    """

    file: str
    form: str
    verdict: Verdict
    summary: str
    content: str
    findings: tuple[Finding, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    versions: dict[str, str] = {}
    digests: dict[str, str] = {}


class _Step(msgspec.Struct, frozen=True):
    """One tensor on its way."""

    source: Stored
    target: Stored


def convert_weights(files: VerifiedFiles, path: str, *, to: str, folder: Path) -> WeightsMade:
    """Write the weights of a file into another container, and prove that they are the same.

    Args:
        files: of the package; nothing in it is executed. A permit lets torch's own loader confirm a pickle.
        path: the weights file, or an index of shards.
        to: form of the new container: `safetensors`, `npz`, `hdf5`, `gguf`, `torch-weights`.
        folder: to write to; a caller that wants all or nothing hands a folder of `package.product.new_package`.
    Returns:
        what was made; the file is there whatever the verdict.
    Raises:
        UsageError: no such container.
        Unsupported: the file is no container of weights, holds none, or one that the new container cannot hold.
        Damaged, LimitExceeded, DigestMismatch: the file is not what it says, or not what was scanned.
        MissingExtra: a library that reads or writes is not installed.
    """
    container = container_for(to)
    with ExitStack() as stack:
        copies = stack.enter_context(parts_of(files, path))
        parts = [stack.enter_context(_opened(part)) for part in copies]
        weights = _merged([ours for ours, _ in parts], path)
        steps = _planned(weights, container, path)
        _require_proportion(steps, copies, path)
        metadata = {"converted_from": files.digests.get(path, ""), **_renamed(steps)}
        source: dict[str, str] = {}
        written = [Written(step.target, functools.partial(_had, weights, step, source)) for step in _ordered(steps)]
        target = folder / container.file
        versions = container.write(target, written, {key: value for key, value in metadata.items() if value})
        for step in steps:  # a tensor that shares its elements with another may not have been asked for
            if step.target.name not in source:
                _had(weights, step, source)
        tables = {"source": source, **_by_libraries(parts, steps), **_read_back(container, target)}
        for ours, library in parts:
            versions |= dict(ours.versions) | (dict(library.versions) if library else {})
    return _judged(container, steps, tables, weights.left_out, versions, target)


@contextmanager
def _opened(part: Part) -> Iterator[tuple[Weights, Weights | None]]:
    """A file, read by the project and, where it can be, by the library of the format."""
    container = container_of(part.kind, part.name)
    reader = FileReader(part.path, where=part.name)
    try:
        ours = container.read(reader, part.path, part.kind)
        try:
            library = container.read_by_library(part.path, part.kind) if part.is_for_libraries else None
            yield ours, library
            if library is not None:
                library.close()
        finally:
            ours.close()
    finally:
        reader.close()


def _merged(parts: Sequence[Weights], path: str) -> Weights:
    """The shards of one model as one."""
    if len(parts) == 1:
        return parts[0]
    holders = {stored.name: part for part in parts for stored in part.tensors}
    if len(holders) < sum(len(part.tensors) for part in parts):
        raise Unsupported("two shards hold a tensor of the same name", where=path)
    tensors = tuple(msgspec.structs.replace(stored, identity=None) for part in parts for stored in part.tensors)
    left_out = tuple(entry for part in parts for entry in part.left_out)
    return Weights(tensors, lambda name: holders[name].read(name), lambda: None, left_out=left_out)


def _planned(weights: Weights, container: Container, path: str) -> list[_Step]:
    """Under which name and in which dtype each tensor is written.

    Raises:
        Unsupported: there is none, or one that the container cannot hold.
        LimitExceeded: what is declared is out of all proportion to the file.
    """
    if not weights.tensors:
        first = next((f": {entry.name[:80]}, {entry.why}" for entry in weights.left_out), "")
        raise Unsupported(f"no tensors are in it{first}", where=path)
    names = frozenset(stored.name for stored in weights.tensors)
    steps, taken = [], set()
    for stored in weights.tensors:
        dtype = target_dtype(stored.dtype, container.dtypes)
        if dtype is None:
            raise Unsupported(
                f"{container.form} cannot hold {stored.name[:200]!r}, which is {stored.dtype}", where=path
            )
        name = container.legal_name(stored.name, names)
        while name in taken or (name != stored.name and name in names):
            name = container.legal_name(f"{name}_", names)
        taken.add(name)
        steps.append(_Step(stored, msgspec.structs.replace(stored, name=name, dtype=dtype, encoded="")))
    return steps


def _ordered(steps: Sequence[_Step]) -> list[_Step]:
    return sorted(steps, key=lambda step: step.target.name)


def _renamed(steps: Sequence[_Step]) -> dict[str, str]:
    renamed = {step.target.name: step.source.name for step in steps if step.target.name != step.source.name}
    return {"names": json.dumps(renamed, sort_keys=True)} if renamed else {}


def _had(weights: Weights, step: _Step, table: dict[str, str]) -> Bits:
    """The values of a tensor as they are written, and their digest in the table."""
    values = converted(weights.read(step.source.name), step.source.dtype, step.target.dtype)
    table[step.target.name] = digest(values, step.target.dtype, step.target.shape)
    return values


def _by_libraries(parts: Sequence[tuple[Weights, Weights | None]], steps: Sequence[_Step]) -> dict[str, Table]:
    """What the libraries see in the source; empty where one of its files has no such reader."""
    seen: dict[str, str] = {}
    wanted = {step.source.name: step for step in steps}
    for _, library in parts:
        if library is None:
            return {}
        for stored in library.tensors:
            step = wanted.get(stored.name)
            if step is not None and stored.dtype == step.source.dtype:
                values = converted(library.read(stored.name), stored.dtype, step.target.dtype)
                seen[step.target.name] = digest(values, step.target.dtype, stored.shape)
    return {"source by library": seen}


def _read_back(container: Container, path: Path) -> dict[str, Table]:
    """What the two readers see in the new file."""
    reader = FileReader(path)
    found: dict[str, Table] = {}
    kind = container.formats[0]
    try:
        readers: dict[str, Callable[[], Weights | None]] = {
            "target": lambda: container.read(reader, path, kind),
            "target by library": lambda: container.read_by_library(path, kind),
        }
        for name, opened in readers.items():
            weights = opened()
            if weights is not None:
                found[name] = {
                    stored.name: digest(weights.read(stored.name), stored.dtype, stored.shape)
                    for stored in weights.tensors
                }
                weights.close()
    finally:
        reader.close()
    return found


def _require_proportion(steps: Sequence[_Step], parts: Sequence[Part], path: str) -> None:
    """Views of one element and blocks that were never written can declare any size: a bound before the disk is full."""
    stored = sum(part.path.stat().st_size for part in parts)
    declared = sum(math.prod(step.target.shape) * carrier(step.target.dtype).itemsize for step in steps)
    if declared > max(_MAX_BYTES_ANYHOW, _MAX_GROWTH * stored):
        raise LimitExceeded(f"{declared} bytes of tensors are declared in {stored} bytes", where=path)


def _judged(
    container: Container,
    steps: Sequence[_Step],
    tables: Mapping[str, Table],
    left_out: Sequence[LeftOut],
    versions: dict[str, str],
    path: Path,
) -> WeightsMade:
    differing = _differing(tables)
    findings = [
        *_differences(differing, len(steps)),
        *_left_out(left_out),
        *_told(container, steps),
        *_unconfirmed(tables),
    ]
    verdict = combine([Verdict.PASS, *(finding.severity.verdict for finding in findings)])
    equal = len(steps) - len(differing)
    elements = sum(math.prod(step.target.shape) for step in steps)
    measured = (
        Measurement("tensors", len(steps), "1"),
        Measurement("tensors_equal", equal, "1"),
        Measurement("elements", elements, "1"),
        Measurement("size_bytes", path.stat().st_size, "B"),
    )
    summary = f"{equal} of {len(steps)} tensors, {elements:,} elements, are the same bits in {container.form}"
    source = tables["source"]
    content = hashlib.sha256("".join(f"{name}\0{source[name]}\n" for name in sorted(source)).encode()).hexdigest()
    return WeightsMade(
        path.name, container.form, verdict, summary, content, tuple(findings), measured, versions, dict(source)
    )


def _differing(tables: Mapping[str, Table]) -> dict[str, list[str]]:
    """Tensor → the readers that see it otherwise than the source's own, or not at all, or where it should not be."""
    source = tables["source"]
    differing: dict[str, list[str]] = {}
    for reader, table in tables.items():
        expected = source.keys() | table.keys() if reader.startswith("target") else source.keys() & table.keys()
        for name in expected:
            if source.get(name) != table.get(name):
                differing.setdefault(name, []).append(reader)
    return differing


def _differences(differing: Mapping[str, Sequence[str]], count: int) -> Iterator[Finding]:
    if not differing:
        return
    names = sorted(differing)
    shown = ", ".join(f"{name[:80]} ({', '.join(differing[name])})" for name in names[:5])
    listed: list[JSON] = [name[:200] for name in names[:_LISTED]]
    readers: list[JSON] = [*sorted({reader for name in names for reader in differing[name]})]
    yield Finding(
        "weights.differs",
        Severity.HIGH,
        f"{len(names)} of {count} tensors are read otherwise: {shown}",
        data={"tensors": listed, "readers": readers},
        fix="do not use the file that was made",
    )


def _left_out(left_out: Sequence[LeftOut]) -> Iterator[Finding]:
    for is_weight in (True, False):
        entries = [entry for entry in left_out if entry.is_weight is is_weight]
        if entries:
            severity = Severity.UNKNOWN if is_weight else Severity.INFO
            first = f"{entries[0].name[:80]!r}: {entries[0].why}"
            listed: list[JSON] = [entry.name[:200] for entry in entries[:_LISTED]]
            message = f"{_counted(len(entries), 'entry')} of the source not in the new file, the first: {first}"
            yield Finding("weights.left_out", severity, message, data={"entries": listed})


def _told(container: Container, steps: Sequence[_Step]) -> Iterator[Finding]:
    """What was changed in agreement with the container: dtypes, names, what was shared."""
    widened: dict[tuple[str, str], int] = {}
    for step in steps:
        stored = step.source.encoded or step.source.dtype
        if stored != step.target.dtype:
            widened[stored, step.target.dtype] = widened.get((stored, step.target.dtype), 0) + 1
    for (before, after), count in sorted(widened.items()):
        message = f"{before} is {after} now in {_counted(count, 'tensor')}, which loses nothing"
        yield Finding("weights.converted", Severity.INFO, message, data={"from": before, "to": after, "tensors": count})
    renamed: dict[str, JSON] = {
        step.source.name[:200]: step.target.name for step in steps if step.source.name != step.target.name
    }
    if renamed:
        message = f"{container.form} forbids {_counted(len(renamed), 'name')}, changed here"
        yield Finding("weights.renamed", Severity.INFO, message, data={"names": dict(list(renamed.items())[:_LISTED])})
    groups: dict[tuple[object, ...], list[str]] = {}
    for step in steps:
        if step.source.identity is not None and 0 not in step.source.shape:
            groups.setdefault(step.source.identity, []).append(step.target.name)
    shared = [names for names in groups.values() if len(names) > 1]
    if shared:
        how = "still share them" if container.keeps_sharing else "hold a copy each"
        message = f"{sum(map(len, shared))} names share their elements in {len(shared)} groups; they {how}"
        listed: list[JSON] = [", ".join(names)[:400] for names in shared[:_LISTED]]
        yield Finding("weights.shared", Severity.INFO, message, data={"groups": listed})


def _unconfirmed(tables: Mapping[str, Table]) -> Iterator[Finding]:
    missing = len(tables["source"].keys() - tables.get("source by library", {}).keys())
    if missing:
        message = (
            f"{missing} tensors of the source were read by Regraft alone: no library was there or allowed to confirm"
        )
        yield Finding("weights.unconfirmed", Severity.INFO, message, data={"tensors": missing})


def _counted(number: int, noun: str) -> str:
    many = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number} {noun if number == 1 else many}"
