"""convert: the same network in another form, verified hop by hop, as a whole package with its lineage."""

from __future__ import annotations

import functools
import importlib
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from regraft.deployment.convert.companions import write_companions
from regraft.deployment.convert.interface import Converter, Hop, Source
from regraft.deployment.loading import AnyModel, LoadRequest, Opened, opened
from regraft.deployment.trial import accepted_feeds
from regraft.deployment.verify import verify
from regraft.errors import DigestMismatch, RegraftError, Unsupported, UsageError
from regraft.package.package import open_package
from regraft.package.product import new_package
from regraft.plugins import Plugin, load_plugins
from regraft.record.evidence import JSON, Draft, Evidence, Finding, Severity, Verdict
from regraft.runtime import load
from regraft.runtime.interface import Model

if TYPE_CHECKING:
    from regraft.deployment.bench.subject import PermitSource
    from regraft.record.store import Store
    from regraft.runtime.interface import Feeds

_MEMBERS = ("onnx_from_torch:OnnxFromTorch", "openvino_from_onnx:OpenVinoFromOnnx")
"""`module:Class` of every converter."""

ENTRY_POINTS = "regraft.converters"
"""Group of entry points by which other distributions add converters."""

_OUTCOMES = {Verdict.PASS: "converted", Verdict.FAIL: "diverges", Verdict.INCONCLUSIVE: "unproven"}
_EXAMPLES = 4
_RUNTIMES = {"onnx": "onnxruntime", "openvino": "openvino"}
"""Target → runtime of what it makes; others are called alike."""


class Conversion(msgspec.Struct, frozen=True):
    """What `convert` made.

    Attributes:
        evidence: of kind `convert`; its first subject is the new package.
        path: the new package; None when a hop failed and nothing was made.
        verification: evidence of kind `verify` about the new package, None when it was not reached.
    """

    evidence: Evidence
    path: Path | None = None
    verification: Evidence | None = None


def convert(
    ref: AnyModel,
    *,
    to: str,
    out: Path,
    feeds: Feeds | Sequence[Feeds] | Sequence[str] | Path | None = None,
    store: Store | None = None,
    seed: int = 0,
    runtime: str | None = None,
    factory: str | None = None,
    threads: int | None = None,
    offline: bool = False,
    permit: PermitSource | None = None,
) -> Conversion:
    """Convert a package for another runtime, and verify the result against the source.

    The new package holds the converted graph, the tokenizer, configuration and label map of the source, and
    `regraft.json`, so that it is loaded as the source was. It appears whole or not at all.

    Args:
        ref: the source: a reference, or an open package.
        to: `onnx`, `openvino`, or a target that another distribution's converter names.
        out: folder to make; its parent must exist.
        feeds: inputs to verify with, before made-up ones; as for `verify`.
        store: where packages and scans are looked up, and where the evidence of the verification is kept.
        seed: of made-up feeds.
        runtime: that loads the source; None for the first that can.
        factory: `module:factory` that builds the source's network for weights without an architecture.
        threads: intra-op threads while verifying.
        offline: no network.
        permit: leave for sources whose loading can execute code; None takes their newest scan in the store.
    Returns:
        the new package and the evidence: outcome converted (verified), unproven, or diverges.
    Raises:
        UsageError: no converter makes that, the source is that already, or `out` is taken.
        NotFound and what opening a package raises. A hop that fails is evidence, not an error.
    """
    out = Path(out)
    _require_free(out, to)
    request = LoadRequest(
        runtime=runtime, threads=threads, factory=factory, store=store, offline=offline, permit=permit
    )
    draft = Draft("convert", parameters={"to": to, "seed": seed, "runtime": runtime, "factory": factory})
    with opened(ref, request) as source:
        draft.materials += source.subjects
        draft.subject += source.subjects[:1]
        if source.model is None or source.error is not None:
            return _failed(draft, source.error or Unsupported("it cannot be loaded"), "load")
        try:
            hops = _hops(source, to, seed, draft)
        except _HopFailedError as failure:
            return _failed(draft, failure.error, failure.hop)
        with new_package(out) as folder:
            _write(folder, hops[-1])
            write_companions(folder, source, hops, to)
        _require_unchanged(source)
        return _finished(draft, source, out, hops, feeds, seed, threads, store, to)


class _HopFailedError(Exception):
    """One hop could not be made."""

    def __init__(self, hop: str, error: RegraftError) -> None:
        super().__init__(error.what)
        self.hop = hop
        self.error = error


@functools.cache
def converters() -> tuple[Converter, ...]:
    """One instance of every member, the project's own first; a broken third party's is left out (see `broken`)."""
    return (*_own(), *(plugin.member for plugin in _third_parties() if not plugin.reason))


def broken() -> dict[str, str]:
    """Entry point of a third party → why it could not be used."""
    return {plugin.name: plugin.reason for plugin in _third_parties() if plugin.reason}


@functools.cache
def _own() -> tuple[Converter, ...]:
    found = []
    for spec in _MEMBERS:
        module, name = spec.split(":")
        found.append(getattr(importlib.import_module(f"{__name__}.{module}"), name)())
    return tuple(found)


@functools.cache
def _third_parties() -> tuple[Plugin, ...]:
    return load_plugins(ENTRY_POINTS)


def route(source: str, to: str) -> list[Converter]:
    """The converters that lead from a runtime to a target, shortest first.

    Those of other distributions are used where the project's own lead nowhere: what is installed beside it does not
    change how a conversion is made.

    Args:
        source: runtime of the loaded model, as `torch`.
        to: target, as `openvino`.
    Raises:
        Unsupported: there is no way; the targets that can be reached are listed.
    """
    own = _reached(source, _own())
    if to in own:
        return own[to]
    reached = _reached(source, converters())
    if to not in reached:
        ways = f"it can become: {', '.join(reached)}" if reached else "no converter starts there"
        raise Unsupported(f"there is no way from {source} to {to}; {ways}")
    return reached[to]


def _reached(source: str, members: Sequence[Converter]) -> dict[str, list[Converter]]:
    """Target → the shortest way to it."""
    waiting: list[tuple[str, list[Converter]]] = [(source, [])]
    reached: dict[str, list[Converter]] = {}
    while waiting:
        at, path = waiting.pop(0)
        for member in members:
            if member.source == at and member.target not in reached:
                reached[member.target] = [*path, member]
                waiting.append((_RUNTIMES.get(member.target, member.target), reached[member.target]))
    return reached


def _require_free(out: Path, to: str) -> None:
    targets = sorted({member.target for member in converters()})
    if to not in targets:
        raise UsageError(f"nothing converts to {to!r}", hint=f"--to one of: {', '.join(targets)}")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UsageError("something is there already", where=str(out), hint="choose another place with -o PATH")
    if not out.parent.is_dir():
        raise UsageError("the folder to write to does not exist", where=str(out), hint=f"mkdir -p {out.parent}")


def _hops(source: Opened, to: str, seed: int, draft: Draft) -> list[Hop]:
    """Run the converters one after the other; each result is loaded as the next one's source."""
    model = source.model
    assert model is not None
    if _RUNTIMES.get(to, to) == model.runtime:
        raise UsageError(f"the source is {to} already", where=source.path)
    hops: list[Hop] = []
    with ExitStack() as stack:
        try:
            ways = route(model.runtime, to)
            cases, _ = accepted_feeds(source, model, None, inputs=_same(model), seed=seed)
        except RegraftError as error:
            raise _HopFailedError("route", error) from error
        examples = [case.feeds for case in cases[:_EXAMPLES]]
        for member in ways:
            started = time.perf_counter()
            hop = _hop(member, Source(model, examples))
            seconds = time.perf_counter() - started
            hops.append(hop)
            draft.measure("hop_seconds", round(seconds, 3), "s", of={"converter": member.name, **hop.versions})
            for note in hop.notes:
                draft.find(Finding("convert.note", Severity.INFO, f"{member.name}: {note}"))
            if member is not ways[-1]:
                try:
                    model = stack.enter_context(_intermediate(hop))
                except RegraftError as error:
                    raise _HopFailedError(member.name, error) from error
    draft.parameters["route"] = [member.name for member in ways]
    return hops


def _same(model: Model) -> dict[str, str]:
    return {port.name: port.name for port in model.signature.inputs}


def _hop(member: Converter, source: Source) -> Hop:
    """One conversion. Whatever goes wrong in another distribution's code is that hop's failure, not ours."""
    try:
        hop = member.convert(source)
    except RegraftError as error:
        raise _HopFailedError(member.name, error) from error
    except Exception as error:
        if member in _own():
            raise
        told = Unsupported(f"{type(error).__name__}: {str(error)[:500]}", where=source.model.where)
        raise _HopFailedError(member.name, told) from error
    if not isinstance(hop, Hop) or not hop.files:
        raise _HopFailedError(member.name, Unsupported("the converter returned no files", where=source.model.where))
    return hop


@contextmanager
def _intermediate(hop: Hop) -> Iterator[Model]:
    """The result of a hop, loaded as the source of the next one."""
    with tempfile.TemporaryDirectory(prefix="regraft-") as folder:
        _write(Path(folder), hop)
        with open_package(folder) as package:
            model = load(package, runtime=hop.runtime, path=next(iter(hop.files)))
    try:
        yield model
    finally:
        model.close()


def _write(folder: Path, hop: Hop) -> None:
    for name, content in hop.files.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)


def _require_unchanged(source: Opened) -> None:
    """Foreign converters have been seen to rewrite their input."""
    if source.package is None:
        return
    with open_package(source.package.ref) as again:
        now = again.manifest().digest
    if now != source.subjects[0].sha256:
        raise DigestMismatch(
            f"the source changed while it was converted: it hashes to {now[:12]}…",
            where=str(source.package.ref),
            hint="restore it and convert again; do not use what was made",
        )


def _failed(draft: Draft, error: RegraftError, hop: str) -> Conversion:
    draft.find(_failure(error, hop))
    return Conversion(draft.finish(outcome="failed", summary=f"{hop} failed: {error.what}"))


def _failure(error: RegraftError, hop: str) -> Finding:
    data: dict[str, JSON] = {"hop": hop, "code": error.code}
    return Finding("convert.failed", Severity.UNKNOWN, f"{hop}: {error.what}", data=data, fix=error.hint or None)


def _finished(
    draft: Draft,
    source: Opened,
    out: Path,
    hops: Sequence[Hop],
    feeds: Feeds | Sequence[Feeds] | Sequence[str] | Path | None,
    seed: int,
    threads: int | None,
    store: Store | None,
    to: str,
) -> Conversion:
    with open_package(out) as package:
        draft.subject[:] = package.subjects(package.manifest())
        size = sum(entry.size_bytes for entry in package.entries)
    draft.measure("size_bytes", size, "B")
    try:
        verification = _verified(source, out, hops[-1].runtime, feeds, seed, threads, store)
    except RegraftError as error:
        draft.find(_failure(error, "verify"))
        return Conversion(draft.finish(outcome="unproven", summary=f"not verified: {error.what}"), out)
    draft.parameters["verified_by"] = verification.digest
    draft.measurements += [
        found for found in verification.measurements if found.name in ("rms_ratio", "peak_ratio", "decision_flips")
    ]
    draft.findings += [found for found in verification.findings if found.severity is not Severity.INFO]
    verdict = verification.verdict
    summary = f"{source.subjects[0].name} is {to} now; {verification.summary}"
    return Conversion(draft.finish(outcome=_OUTCOMES[verdict], summary=summary, verdict=verdict), out, verification)


def _verified(
    source: Opened,
    out: Path,
    runtime: str,
    feeds: Feeds | Sequence[Feeds] | Sequence[str] | Path | None,
    seed: int,
    threads: int | None,
    store: Store | None,
) -> Evidence:
    """Verify the product in the runtime that it was made for, against the source as it is loaded already."""
    verification = verify(
        source, out, feeds=feeds, seed=seed, runtime=runtime, threads=threads, store=store, localise=True
    )
    if store is not None:
        store.put_evidence(verification)
    return verification
