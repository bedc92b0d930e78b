"""Scan: is it safe to load? Every file and member is examined by every rule family; nothing is loaded."""

from __future__ import annotations

import functools
import importlib
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from regraft.errors import RegraftError
from regraft.package.formats import Format, Loading
from regraft.package.manifest import Manifest
from regraft.package.package import Package, open_package
from regraft.package.reference import ModelRef
from regraft.package.sources.interface import SourceOptions
from regraft.progress import progress
from regraft.record.evidence import Draft, Evidence, Finding, Severity, Verdict, Where
from regraft.trust.scan.allow_file import CHANGED_SINCE, EXPIRED, UNUSED, apply_allowances, read_allow_file
from regraft.trust.scan.interface import Rule, RuleFamily, Site
from regraft.trust.scan.walk import FAULTS, Walk
from regraft.trust.scan.walk import RULES as WALK_RULES

if TYPE_CHECKING:
    from regraft.record.store import Store

_FAMILIES: tuple[str, ...] = (
    "pickle:PickleFamily",
    "archive:ArchiveFamily",
    "content:ContentFamily",
    "code:CodeFamily",
    "repository:RepositoryFamily",
    "yaml_tags:YamlTagsFamily",
    "install:InstallFamily",
    "chat_template:ChatTemplateFamily",
    "keras:KerasFamily",
    "onnx:OnnxFamily",
    "tensorflow:TensorflowFamily",
    "torchscript:TorchscriptFamily",
    "skops:SkopsFamily",
    "xml_entities:XmlEntitiesFamily",
    "notebook:NotebookFamily",
    "foreign_operators:ForeignOperatorsFamily",
    "r_data:RDataFamily",
    "weights:WeightsFamily",
    "graph_triggers:GraphTriggersFamily",
    "data_pickles:DataPicklesFamily",
)
"""`module:Class` of every rule family."""

EMPTY = Rule(
    "RGS-PKG-001",
    Severity.UNKNOWN,
    "Nothing to judge",
    "There is no file that could be examined, so nothing can be said about its safety.",
    "Check the reference.",
)
CHANGED = Rule(
    "RGS-PKG-002",
    Severity.HIGH,
    "Bytes are not those that were declared",
    "The index that came with the package declares another digest: the file was changed after publication.",
    "Do not use it; fetch it again from the source.",
    cwe=345,
)
FAMILY_FAILED = Rule(
    "RGS-PKG-003",
    Severity.UNKNOWN,
    "A check could not be completed",
    "A rule family met content that it could not handle, so it may have missed something.",
    "Report the file to the project; until then treat it as not judged.",
)
UNREADABLE = Rule(
    "RGS-PKG-004",
    Severity.UNKNOWN,
    "A file cannot be read whole",
    "Its container is damaged or uses a method that is not supported, so its bytes could not be judged.",
    "Get a sound copy.",
)
UNJUDGED = Rule(
    "RGS-PKG-005",
    Severity.UNKNOWN,
    "A format that may run code and that no rule judges",
    "Its usual loader can execute what the file holds, and no rule family looks into it.",
    "Open it in a sandbox only, or ask the publisher for an inert format.",
)
_OWN_RULES = (EMPTY, CHANGED, FAMILY_FAILED, UNREADABLE, UNJUDGED, EXPIRED, UNUSED, CHANGED_SINCE, *WALK_RULES)

_ORDER = {severity: i for i, severity in enumerate(Severity)}
_OUTCOMES = {Verdict.PASS: "clean", Verdict.INCONCLUSIVE: "unknown", Verdict.FAIL: "dangerous"}


def scan(
    ref: str | os.PathLike[str] | ModelRef | Package,
    *,
    store: Store | None = None,
    offline: bool = False,
    allow: Collection[str] = (),
    allow_file: str | os.PathLike[str] | None = None,
    compute: bool = True,
    weights: bool = False,
) -> Evidence:
    """Judge whether loading a package could run code or harm the machine; nothing of it is loaded.

    Args:
        ref: a reference as a user writes it, a parsed one, or an open package.
        store: where fetched archives are looked up and kept.
        offline: no network.
        allow: what a person has reviewed: a global (`module.name`), a rule (`RGS-COD-004`), or a rule in
            one file (`RGS-COD-004:modeling_x.py`). Only inconclusive findings can be allowed.
        allow_file: the same with reasons and days on which they run out (`trust.scan.allow_file`).
        compute: hash every byte; otherwise digests are declared or partial.
        weights: read the numbers of tensors too, and look for programs and for traces of content in their low bytes.
    Returns:
        evidence of kind `scan`; outcome `clean`, `unknown` or `dangerous`.
    Raises:
        UsageError, NotFound: the allow file is none.
        RegraftError: the package as a whole cannot be opened.
    """
    cpu = time.process_time()
    allowances = () if allow_file is None else read_allow_file(Path(allow_file))
    draft = Draft("scan", parameters={"allow": [*sorted(allow)]} if allow else {})
    if weights:
        draft.parameters["weights"] = True
    if allowances:
        draft.parameters["allow_file"] = [msgspec.to_builtins(allowance) for allowance in allowances]
    package = open_package(ref, options=SourceOptions(offline=offline, store=store))
    draft.parameters["reference"] = str(package.ref)
    try:
        manifest = _manifest(package, draft, compute=compute)
        draft.subject.extend(package.subjects(manifest))
        digests = {subject.name: str(subject.sha256) for subject in draft.subject}
        walk = Walk(package, weights=weights)
        findings = [*_examine(package, walk), *walk.findings]
        if not walk.files:
            findings.append(EMPTY.finding("the package has no files", Where()))
        for finding in _in_order(apply_allowances(findings, allow, allowances, digests=digests)):
            draft.find(finding)
        _measure(draft, package, walk, manifest, cpu)
    finally:
        if package is not ref:
            package.close()
    verdict = draft.verdict
    return draft.finish(outcome=_OUTCOMES[verdict], summary=_summary(draft.findings, verdict, walk))


def all_rules() -> Iterator[Rule]:
    """Every rule that a scan can report, in the order of the families."""
    yield from _OWN_RULES
    for family in families():
        yield from family.rules


@functools.cache
def families() -> tuple[RuleFamily, ...]:
    """One instance of every rule family."""
    members = []
    for spec in _FAMILIES:
        module, name = spec.split(":")
        members.append(getattr(importlib.import_module(f"{__name__}.{module}"), name)())
    return tuple(members)


def _examine(package: Package, walk: Walk) -> Iterator[Finding]:
    seen: list[Site] = []
    with progress("scanning", total=len(package.entries), unit="files") as advance:
        done = 0
        for site in walk.sites():
            if site.format is not None and _is_unjudged(site, site.format):
                yield UNJUDGED.finding(f"{site.format.title} may run code when it is loaded", site.where())
            for family in families():
                yield from _guarded(family.name, functools.partial(family.examine, site), site.where())
            seen.append(msgspec.structs.replace(site, archive=None))
            advance(walk.files - done)
            done = walk.files
    for family in families():
        yield from _guarded(family.name, functools.partial(family.examine_package, package, seen), Where())
    for site in seen:
        site.probe.reader.close()


def _is_unjudged(site: Site, kind: Format) -> bool:
    """May loading run code that nobody looks into? The members of a container are sites of their own."""
    if site.is_container or kind.loading is Loading.INERT:
        return False
    return not any(kind.name in family.judges for family in families())


def _guarded(name: str, examine: Callable[[], Iterator[Finding]], where: Where) -> Iterator[Finding]:
    """Findings of one family; content that defeats it is a finding, never the end of the scan."""
    try:
        yield from examine()
    except (RegraftError, OSError) as error:
        what = error.what if isinstance(error, RegraftError) else str(error)
        yield FAMILY_FAILED.finding(f"the {name} rules stopped: {what}", where, family=name)
    except FAULTS as error:
        message = f"the {name} rules stopped: {type(error).__name__}: {str(error)[:200]}"
        yield FAMILY_FAILED.finding(message, where, family=name)


def _manifest(package: Package, draft: Draft, *, compute: bool) -> Manifest:
    """The manifest by what the bytes are; a flaw is a finding, not the end."""
    manifest = package.manifest(compute=compute)
    for flaw in manifest.flaws:
        where = Where(file=flaw.path)
        if flaw.declared is None:
            draft.find(UNREADABLE.finding(flaw.what, where))
        else:
            draft.find(CHANGED.finding(flaw.what, where, declared=flaw.declared, computed=flaw.computed))
    return manifest


def _in_order(findings: Iterable[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda f: (_ORDER[f.severity], f.where.file or "", f.where.member or "", f.rule))


def _measure(draft: Draft, package: Package, walk: Walk, manifest: Manifest, cpu_start: float) -> None:
    draft.measure("files", walk.files, "files")
    draft.measure("members", walk.members, "members")
    if walk.weights is not None:
        draft.measure("tensors_read", walk.weights.read, "tensors")
        draft.measure("tensors_not_read", walk.weights.unread, "tensors")
    draft.measure("bytes_total", sum(entry.size_bytes for entry in manifest.entries), "bytes")
    draft.measure("bytes_read", package.meter.bytes_read, "bytes")
    draft.measure("bytes_expanded", package.meter.bytes_expanded, "bytes")
    draft.measure("cpu_seconds", round(time.process_time() - cpu_start, 6), "s")


def _summary(findings: Iterable[Finding], verdict: Verdict, walk: Walk) -> str:
    if not walk.files:
        return "the package has no files"
    of_verdict = [finding for finding in findings if finding.severity.verdict is verdict]
    files = {finding.where.file for finding in of_verdict}
    if verdict is Verdict.PASS:
        inside = f" and {_count(walk.members, 'member')}" if walk.members else ""
        allowed = sum("allowed" in finding.data for finding in of_verdict)
        reviewed = f" but {_count(allowed, 'finding')} that you allowed" if allowed else ""
        return f"nothing that loading would run was found in {_count(walk.files, 'file')}{inside}{reviewed}"
    if verdict is Verdict.FAIL:
        return f"{_count(len(files), 'file')} would do harm: {of_verdict[0].message}"
    return f"{_count(len(files), 'file')} could not be cleared: {of_verdict[0].message}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
