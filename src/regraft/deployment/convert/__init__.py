"""convert: the same network in another form, verified hop by hop, as a whole package with its lineage."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from regraft.compare.recall import recalling
from regraft.deployment.convert.chain import ARROW, Dropped, Judging, Link, Search, why_not
from regraft.deployment.convert.forms import FORMS, form_named, form_of
from regraft.deployment.convert.members import broken, converters
from regraft.deployment.convert.routes import blocked_ways, require_route, routes
from regraft.deployment.loading import AnyModel, LoadRequest, Opened, opened
from regraft.deployment.trial import accepted_feeds
from regraft.errors import (
    AccessDenied,
    BadFeeds,
    Damaged,
    DigestMismatch,
    LimitExceeded,
    NotFound,
    RegraftError,
    Unsupported,
    UsageError,
)
from regraft.package.package import open_package
from regraft.package.product import move_package, require_free
from regraft.record.evidence import JSON, Draft, Evidence, Finding, Severity, Verdict

if TYPE_CHECKING:
    from regraft.deployment.task import TaskData
    from regraft.record.store import Store
    from regraft.runtime.feeds import FeedCase
    from regraft.runtime.interface import Feeds, Model
    from regraft.runtime.permission import PermitSource

_OUTCOMES = {Verdict.PASS: "converted", Verdict.FAIL: "diverges", Verdict.INCONCLUSIVE: "unproven"}
_EXAMPLES = 4
_WAYS = 8
"""Ways that are tried before giving up."""
_SHOWN = ("rms_ratio", "peak_ratio", "decision_flips")


class Conversion(msgspec.Struct, frozen=True):
    """What `convert` made.

    Attributes:
        evidence: of kind `convert`; its first subject is the new package.
        path: the new package; None when no way led to the target and nothing was made.
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
    task: TaskData | None = None,
    avoid: Collection[str] = (),
    store: Store | None = None,
    seed: int = 0,
    localise: bool = True,
    runtime: str | None = None,
    factory: str | None = None,
    threads: int | None = None,
    offline: bool = False,
    permit: PermitSource | None = None,
    on_hop: Callable[[Sequence[str]], None] | None = None,
    dead: Mapping[str, str] | None = None,
) -> Conversion:
    """Convert a package to another form, and verify the result of every hop against the source.

    The cheapest way over the converters is tried first. One that fails, dies or makes another network is recorded,
    and the next is tried. The new package holds the converted graph, the tokenizer, configuration and label map of
    the source, and `regraft.json`, so that it is loaded as the source was. It appears whole or not at all.

    Args:
        ref: the source: a reference, or an open package.
        to: a form, as `onnx` (`forms.FORMS`), or one that another distribution's converter names.
        out: folder to make; its parent must exist.
        feeds: inputs to verify with, before made-up ones; as for `verify`.
        task: labelled rows, on which a form of lower precision is judged; as for `verify`.
        avoid: names of converters to leave out.
        store: where packages and scans are looked up, and where the evidence of the verifications is kept.
        seed: of made-up feeds.
        localise: look at the operators of the product, too, also where its outputs agree: a fault may be one that these
            inputs do not show.
        runtime: that loads the source; None for the first that can.
        factory: `module:factory` that builds the source's network for weights without an architecture.
        threads: intra-op threads while verifying.
        offline: no network.
        permit: leave for sources whose loading can execute code; None takes their newest scan in the store.
        on_hop: told the names of the converters of a way before the last of them is tried.
        dead: way, its names joined by an arrow → why it is not to be tried again; what a watcher found.
    Returns:
        the new package and the evidence: outcome converted (verified), unproven, diverges, or failed.
    Raises:
        UsageError: no converter makes that, the source is that already, or `out` is taken.
        NotFound and what opening a package raises. A hop that fails is evidence, not an error.
    """
    out = Path(out)
    require_target(out, to, avoid)
    request = LoadRequest(
        runtime=runtime, threads=threads, factory=factory, store=store, offline=offline, permit=permit
    )
    draft = Draft(
        "convert",
        parameters={
            "to": to,
            "seed": seed,
            "localise": localise,
            "runtime": runtime,
            "factory": factory,
            "threads": threads,
            "avoid": [*sorted(avoid)],
            "feeds": feeds is not None,
        },
    )
    if form_named(to).is_weights:
        return _weights(ref, to, out, request, draft)
    with recalling(), opened(ref, request) as source:
        draft.materials += (*source.subjects, *(task.materials if task is not None else ()))
        draft.subject += source.subjects[:1]
        if source.model is None or source.error is not None:
            return _failed(draft, source.error or Unsupported("it cannot be loaded"), "load")
        form = form_of(source)
        if form == to:
            raise UsageError(f"the source is {to} already", where=source.path)
        draft.parameters["from"] = form
        judging = Judging(
            feeds=feeds, task=task, seed=seed, threads=threads, store=store, permit=permit, localise=localise
        )
        try:
            require_route(form, to, avoid=avoid)
            examples, given = _examples(source, source.model, judging)
        except (UsageError, BadFeeds, NotFound, AccessDenied):
            raise  # a mistake in what the user gave, and nothing about the package
        except RegraftError as error:
            if isinstance(feeds, Path) and error.where == str(feeds):
                raise
            return _failed(draft, error, "route")
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as place:
            search = Search(
                source, examples, judging, work=Path(place), name=out.name, given=given, on_hop=on_hop, dead=dead
            )
            chain = _best(search, form, to, avoid)
            _require_unchanged(source)
            if not chain:
                return _unreached(draft, search, form, to, avoid)
            _tell_dropped(draft, search.dropped, "convert.fell_back")
            move_package(chain[-1].folder, out)
        return _finished(draft, source, out, chain, to)


def _weights(ref: AnyModel, to: str, out: Path, request: LoadRequest, draft: Draft) -> Conversion:
    """Tensors alone, from container to container: there is no network to run, and the bits are compared."""
    from regraft.deployment.convert.weights_package import convert_weights_package

    try:
        made = convert_weights_package(ref, to, out, request, draft)
    except (Unsupported, Damaged, LimitExceeded) as error:
        return _failed(draft, error, f"weights to {to}")
    with open_package(out) as package:
        draft.subject[:] = package.subjects(package.manifest())
    return Conversion(draft.finish(outcome=_OUTCOMES[made.verdict], summary=made.summary, verdict=made.verdict), out)


def _best(search: Search, form: str, to: str, avoid: Collection[str]) -> tuple[Link, ...]:
    """The first way whose result passes; else the one with the best verdict; empty when none led there."""
    best: tuple[Link, ...] = ()
    given_up: list[Dropped] = []
    tried = 0
    for way in routes(form, to, avoid=avoid):
        if search.is_dead(way):
            continue
        if tried == _WAYS:
            search.is_exhausted = False
            break
        tried += 1
        chain = search.follow(way)
        if not chain:
            continue
        if chain[-1].is_whole or _is_as_good_as_it_gets(chain[-1]):
            best = chain
            break
        names = tuple(link.converter for link in chain)
        given_up.append(Dropped(names, why_not(chain[-1]), is_divergence=chain[-1].verdict is Verdict.FAIL))
        if not best or chain[-1].rank > best[-1].rank:
            best = chain
    taken = tuple(link.converter for link in best)
    search.dropped += [one for one in given_up if one.way != taken]
    return best


def _is_as_good_as_it_gets(link: Link) -> bool:
    """Would another way be judged no better: by labelled rows alone, at one size on purpose, or where nothing runs?"""
    if form_named(link.form).unrun:
        return True
    if link.hop.is_one_size and link.verdict is Verdict.PASS:
        return True
    found = link.verification.findings if link.verification is not None else ()
    undecided = {one.rule for one in found if one.severity is Severity.UNKNOWN}
    return not undecided.isdisjoint(("precision.needs_task_data", "decisions.compared"))


def _examples(source: Opened, model: Model, judging: Judging) -> tuple[list[Feeds], int]:
    """Inputs that the source takes, of as many sizes as there are; the user's own come first, and their number."""
    same = {port.name: port.name for port in model.signature.inputs}
    cases, _ = accepted_feeds(source, model, judging.feeds, inputs=same, seed=judging.seed)
    by_size: dict[tuple[object, ...], FeedCase] = {}
    for case in cases:
        by_size.setdefault(tuple((name, value.shape) for name, value in case.feeds.items()), case)
    kept = list(by_size.values())[:_EXAMPLES]
    return [case.feeds for case in kept], sum(case.values == "data" for case in kept)


def require_target(out: Path, to: str, avoid: Collection[str] = ()) -> None:
    """Is there something that makes `to`, and room for the product?

    Raises:
        UsageError: says what is wrong, and what there is.
    """
    containers = {form.name for form in FORMS.values() if form.is_weights}
    targets = sorted(containers | {member.target for member in converters()})
    if to not in targets:
        raise UsageError(f"nothing converts to {to!r}", hint=f"--to one of: {', '.join(targets)}")
    names = sorted(member.name for member in converters())
    unknown = sorted(set(avoid) - set(names))
    if unknown:
        raise UsageError(f"there is no converter {unknown[0]!r} to avoid", hint=f"there are: {', '.join(names)}")
    require_free(out)


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
    data: dict[str, JSON] = {"hop": hop, "code": error.code}
    draft.find(Finding("convert.failed", Severity.UNKNOWN, f"{hop}: {error.what}", data=data, fix=error.hint or None))
    return Conversion(draft.finish(outcome="failed", summary=f"{hop} failed: {error.what}"))


def _tell_dropped(draft: Draft, dropped: Sequence[Dropped], rule: str) -> None:
    """What was tried and given up: a note beside a way that led there, the reason where none did."""
    for one in dropped:
        failed = Severity.HIGH if one.is_divergence else Severity.UNKNOWN
        severity = failed if rule == "convert.failed" else Severity.INFO
        data: dict[str, JSON] = {"way": list(one.way), "hop": one.way[-1], "code": one.error.code}
        message = f"{ARROW.join(one.way)}: {one.error.what}"
        draft.find(Finding(rule, severity, message, data=data, fix=one.error.hint or None))


def _unreached(draft: Draft, search: Search, form: str, to: str, avoid: Collection[str]) -> Conversion:
    """Nothing was made. Where every way makes another network, that is known; else it is open."""
    dropped = search.dropped
    for why in blocked_ways(form, to, avoid=avoid):
        draft.find(Finding("convert.not_here", Severity.INFO, f"a way that cannot be gone here: {why}"))
    _tell_dropped(draft, dropped, "convert.failed")
    diverges = search.is_exhausted and bool(dropped) and all(one.is_divergence for one in dropped)
    direct = min(dropped, key=lambda one: len(one.way), default=None)
    summary = f"{ARROW.join(direct.way)} failed: {direct.error.what}" if direct else f"no way from {form} to {to}"
    if len(dropped) > 1:
        summary = f"{len(dropped)} ways failed; the most direct, {summary}"
    verdict = Verdict.FAIL if diverges else Verdict.INCONCLUSIVE
    return Conversion(draft.finish(outcome="diverges" if diverges else "failed", summary=summary, verdict=verdict))


def _finished(draft: Draft, source: Opened, out: Path, chain: Sequence[Link], to: str) -> Conversion:
    with open_package(out) as package:
        draft.subject[:] = package.subjects(package.manifest())
        size = sum(entry.size_bytes for entry in package.entries)
    draft.measure("size_bytes", size, "B")
    draft.parameters["route"] = [link.converter for link in chain]
    draft.parameters["hops"] = [_told(link) for link in chain]
    for link in chain:
        of: dict[str, JSON] = {"converter": link.converter, **link.hop.versions}
        draft.measure("hop_seconds", round(link.seconds, 3), "s", of=of)
        for note in link.hop.notes:
            draft.find(Finding("convert.note", Severity.INFO, f"{link.converter}: {note}"))
    last = chain[-1]
    if last.verification is None:
        why = last.error or Unsupported("it cannot be loaded here")
        data: dict[str, JSON] = {"hop": "verify", "code": why.code}
        draft.find(Finding("convert.failed", Severity.UNKNOWN, f"verify: {why.what}", data=data, fix=why.hint or None))
        return Conversion(draft.finish(outcome="unproven", summary=f"not verified: {why.what}"), out)
    draft.parameters["verified_by"] = last.verification.digest
    draft.measurements += [found for found in last.verification.measurements if found.name in _SHOWN]
    draft.findings += [found for found in last.verification.findings if found.severity is not Severity.INFO]
    lacks = last.shortfall
    if lacks.message:
        rule = "convert.output_lost" if lacks.is_loss else "convert.narrower"
        severity = Severity.HIGH if lacks.is_loss else Severity.MEDIUM
        draft.find(Finding(rule, severity, lacks.message))
    said = f"but {lacks.message}; " if lacks.message else ""
    summary = f"{source.subjects[0].name} is {to} now; {said}{last.verification.summary}"
    evidence = draft.finish(outcome=_OUTCOMES[last.verdict], summary=summary, verdict=last.verdict)
    return Conversion(evidence, out, last.verification)


def _told(link: Link) -> dict[str, JSON]:
    verified_by = link.verification.digest if link.verification is not None else None
    return {
        "converter": link.converter, "to": link.form, "verdict": link.verdict.value, "verified_by": verified_by,
    }  # fmt: skip


__all__ = ["Conversion", "broken", "convert", "converters", "require_target"]
