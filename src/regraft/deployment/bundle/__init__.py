"""bundle: a package in the layout of the server or registry that it is handed to, with its evidence."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import posixpath
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from regraft.deployment.bench.inputs import data_subject
from regraft.deployment.bundle.contents import all_files, graph_files, graph_of, name_of, runs_when_loaded, texts_files
from regraft.deployment.bundle.interface import MANIFEST, Carried, Contents, Layout
from regraft.deployment.bundle.papers import Papers, kinds_with_folders, licence_of, manifest_json, papers_of, readme
from regraft.deployment.bundle.readback import read_back
from regraft.deployment.convert.forms import form_named, form_of
from regraft.deployment.loading import LoadRequest, Opened, opened
from regraft.errors import NotFound, Unsupported, UsageError
from regraft.package.package import Package, open_package
from regraft.package.product import new_package, require_free
from regraft.package.reference import ModelRef
from regraft.package.sources.interface import SourceOptions
from regraft.record.evidence import Draft, Evidence, Finding, Severity, Subject, Verdict
from regraft.record.passport import read_passport
from regraft.runtime import model_path
from regraft.runtime.pipeline import description_path

if TYPE_CHECKING:
    from regraft.record.store import Store
    from regraft.runtime.permission import PermitSource

_MEMBERS = ("plain:Plain", "triton:Triton", "ovms:Ovms", "mlflow:MlFlow", "oci:Oci")
"""`module:Class` of every layout."""
_WANTED = {"scan": "regraft scan", "verify": "regraft verify SOURCE"}
"""Kinds of evidence that a receiver asks for first, and what makes them."""


def bundle(
    ref: str | os.PathLike[str] | ModelRef | Package,
    *,
    layout: str,
    out: Path,
    name: str | None = None,
    runtime: str | None = None,
    feeds: Path | None = None,
    store: Store | None = None,
    offline: bool = False,
    permit: PermitSource | None = None,
) -> Evidence:
    """Hand a package over: in the layout of a model server, a tracking server, a registry, or as a plain folder.

    With the model go what it needs, what is known about it (the newest evidence of each kind), its licence, a manifest
    with the digest of every file, and a README with the command that starts an existing server on it. The bundle
    appears whole or not at all. A package that a scan found dangerous is not bundled.

    Args:
        ref: a reference, or an open package, with one model.
        layout: `plain`, `triton`, `ovms`, `mlflow`, or `oci`.
        out: folder to make; its parent must exist.
        name: of the model there; None for the package's own, with other characters than letters and digits as `-`.
        runtime: that the network is run in, `onnxruntime` or `openvino`; None for the first that can.
        feeds: file of arrays that the network takes (.safetensors, .npz, .csv): the sample that it is run on, which a
            plain bundle carries; None to make some up.
        store: where the package and the evidence about it are looked up.
        offline: no network.
        permit: leave for sources whose loading can execute code.
    Returns:
        evidence of kind `bundle`: its first subject is the bundle, its materials the package.
    Raises:
        UsageError: no such layout, a runtime that it does not hold, `feeds` that no network takes, or `out` is taken.
        AmbiguousReference: several models could be meant; name one after `#`.
        Unsupported: the layout does not hold this package; the hint is the command that makes one that it holds.
        NotFound and what opening a package raises.
    """
    member, out = _member(layout), Path(out)
    _require_fitting(member, runtime, feeds)
    require_free(out)
    draft = Draft("bundle", parameters={"layout": layout, "runtime": runtime})
    options = SourceOptions(offline=offline, store=store)
    package = open_package(ref, options=options)
    try:
        request = LoadRequest(runtime=runtime, store=store, offline=offline, permit=permit)
        contents, subjects, request = _contents(package, member, name, request, feeds)
        draft.subject += subjects[:1]
        draft.materials += [data_subject(feeds, ())] if feeds is not None else []
        draft.materials += subjects
        draft.parameters |= {"reference": contents.reference, "name": contents.name}
        papers = papers_of(read_passport(store, contents.digest).records if store is not None else (), store)
        if papers.verdicts.get("scan") is Verdict.FAIL:
            return _refused(draft, contents)
        contents = _with_papers(contents, member, papers)
        with new_package(out) as folder:
            member.write(contents, folder)
            if contents.graph is not None:
                read_back(folder, member, contents, request)
            (folder / MANIFEST).write_bytes(manifest_json(folder, contents, member, papers))
        _warn(draft, package, contents, papers)
    finally:
        if package is not ref:
            package.close()
    return _finished(draft, out, contents, papers)


@functools.cache
def layouts() -> tuple[Layout, ...]:
    """One instance of every member."""
    found = []
    for spec in _MEMBERS:
        module, name = spec.split(":")
        found.append(getattr(importlib.import_module(f"{__name__}.{module}"), name)())
    return tuple(found)


def _member(layout: str) -> Layout:
    found = next((member for member in layouts() if member.name == layout), None)
    if found is None:
        names = ", ".join(member.name for member in layouts())
        raise UsageError(f"there is no layout {layout!r}", hint=f"--as one of: {names}")
    return found


def _require_fitting(member: Layout, runtime: str | None, feeds: Path | None) -> None:
    """Options that this layout has no use for are the user's slip."""
    if not member.takes and (runtime or feeds):
        raise UsageError(f"the layout {member.name} runs no network", hint="leave out --runtime and --feeds")
    if runtime is not None and runtime not in member.takes:
        hint = f"leave out --runtime, or name one of: {', '.join(member.takes)}"
        raise UsageError(f"the layout {member.name} holds no networks of {runtime}", hint=hint)
    if feeds is not None and not feeds.is_file():
        raise NotFound("there is no such file of feeds", where=str(feeds))


def _contents(
    package: Package, member: Layout, name: str | None, request: LoadRequest, feeds: Path | None
) -> tuple[Contents, tuple[Subject, ...], LoadRequest]:
    """What is carried, its subjects, and how its network was loaded."""
    reference = str(package.ref)
    if not member.takes:
        manifest = package.manifest()
        files = tuple(all_files(package, manifest))
        called = name_of(name or package.name)
        subjects = tuple(package.subjects(manifest))
        return Contents(called, reference, manifest.digest, package, files), subjects, request
    runtime = _runtime(package, member, request.runtime)
    # OpenVINO lowers the precision by itself; what is handed over says that it may, or is run in float32
    precision = "float32" if runtime == "openvino" and description_path(package) is None else None
    request = msgspec.structs.replace(request, runtime=runtime, precision=precision)
    with opened(package, request) as found:
        if found.model is None:
            raise _not_run(member, reference, found)
        if found.model.runtime not in member.takes:
            raise _not_held(member, reference, f"its model runs in {found.model.runtime}")
        manifest = package.manifest()
        files = tuple(graph_files(found, manifest))
        graph = graph_of(found, feeds)
        if graph.texts is not None:
            files += texts_files(found, graph.texts, files)
        called = name_of(name or package.name.removesuffix(posixpath.splitext(found.path)[1]))
        loaded = msgspec.structs.replace(request, runtime=graph.runtime)
        return Contents(called, reference, manifest.digest, package, files, graph=graph), found.subjects, loaded


def _runtime(package: Package, member: Layout, wanted: str | None) -> str | None:
    """The first runtime of the layout that has a model here; None where none has: then the error says what is there."""
    for runtime in (wanted,) if wanted else member.takes:
        with contextlib.suppress(Unsupported):
            model_path(package, runtime=runtime)
            return runtime
    return wanted


def _not_run(member: Layout, reference: str, found: Opened) -> Unsupported:
    """Converting it helps only where it is in another form than the layout holds."""
    assert found.error is not None
    if not found.path or form_named(form_of(found)).runtime not in member.takes:
        return _not_held(member, reference, f"it cannot be run here: {found.error}")
    hint = found.error.hint or f"regraft inspect {reference} says what is there; fetch or export it again"
    return Unsupported(f"the model cannot be run here, so it is not bundled: {found.error}", where=reference, hint=hint)


def _not_held(member: Layout, reference: str, why: str) -> Unsupported:
    target = "onnx" if "onnxruntime" in member.takes else "openvino"
    return Unsupported(
        f"the layout {member.name} holds networks of {' or '.join(member.takes)}; {why}",
        where=reference,
        hint=f"convert it first: regraft convert {reference} --to {target} -o ./{target}; "
        f"then regraft bundle ./{target} --as {member.name}",
    )


def _with_papers(contents: Contents, member: Layout, papers: Papers) -> Contents:
    licence = licence_of(papers.records)
    contents = msgspec.structs.replace(contents, licence=licence)
    told = Carried.made("README.md", readme(contents, member, papers).encode(), "doc")
    return msgspec.structs.replace(contents, extra=(told, *papers.files))


def _refused(draft: Draft, contents: Contents) -> Evidence:
    message = f"the newest scan of {contents.name} found danger: nothing was written"
    fix = f"regraft scan {contents.reference} says what; hand over a package that is clean"
    draft.find(Finding("RGH-SCN-001", Severity.HIGH, message, fix=fix))
    return draft.finish(outcome="refused", summary=message)


def _warn(draft: Draft, package: Package, contents: Contents, papers: Papers) -> None:
    """What a receiver's loader may run, what nobody could read to its end, and what tells of this machine."""
    code = runs_when_loaded(package, contents.files)
    if code:
        message = f"it carries {len(code)} file{'s' * (len(code) > 1)} that a loader may run, as {code[0]}"
        fix = "say so to who receives it; regraft convert makes a package without code"
        draft.find(Finding("RGH-COD-001", Severity.MEDIUM, message, data={"files": [*code]}, fix=fix))
    if papers.verdicts.get("scan") is Verdict.INCONCLUSIVE:
        message = "the newest scan did not come to an end: what it could not read may hold anything"
        fix = f"regraft scan {contents.reference} says what"
        draft.find(Finding("RGH-SCN-002", Severity.MEDIUM, message, fix=fix))
    kinds = kinds_with_folders(papers, package.ref)
    if kinds:
        message = f"evidence of kind {', '.join(kinds)} names folders of this machine; it is carried byte for byte"
        fix = "where nobody may see them: move into the package's folder, name it by its base name, --store a new one"
        draft.find(Finding("RGH-PTH-001", Severity.LOW, message, data={"kinds": [*kinds]}, fix=fix))


def _finished(draft: Draft, out: Path, contents: Contents, papers: Papers) -> Evidence:
    with open_package(out) as made:
        manifest = made.manifest()
        draft.subject[:] = made.subjects(manifest)
        size = sum(entry.size_bytes for entry in manifest.entries)
    draft.measure("size_bytes", size, "bytes")
    draft.parameters["evidence"] = {kind: verdict.value for kind, verdict in papers.verdicts.items()}
    for kind, command in _WANTED.items():
        if kind not in papers.verdicts:
            message = f"the bundle carries no evidence of kind {kind}: the store knows none about these bytes"
            where = f"{command} {contents.reference}"
            draft.find(Finding("RGH-EVD-001", Severity.LOW, message, data={"kind": kind}, fix=where))
    if not contents.licence:
        message = "nobody says which licence the package has"
        draft.find(Finding("RGH-LIC-001", Severity.LOW, message, fix=f"regraft inspect {contents.reference}"))
    known = ", ".join(f"{kind} {verdict.value}" for kind, verdict in papers.verdicts.items()) or "no evidence"
    layout = draft.parameters["layout"]
    summary = f"{contents.name} as {layout} in {out}: {len(manifest.entries)} files; it carries {known}"
    return draft.finish(outcome="bundled", summary=summary)


__all__ = ["bundle", "layouts"]
