"""A package of weights without a network, in another container: chosen, written, proven, with what belongs to it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from regraft.deployment.convert.companions import write_companions
from regraft.deployment.convert.interface import Hop
from regraft.deployment.convert.weights import WeightsMade, convert_weights
from regraft.deployment.convert.weights.containers import readable_formats
from regraft.deployment.loading import AnyModel, LoadRequest, Opened
from regraft.errors import AmbiguousReference, NotFound, PermitRefused, UsageError
from regraft.package.package import Package, open_package
from regraft.package.product import new_package
from regraft.package.reference import ModelRef, parse_reference
from regraft.package.sources.interface import SourceOptions
from regraft.record.evidence import Draft
from regraft.runtime import needs_permit
from regraft.runtime.verified import VerifiedFiles

if TYPE_CHECKING:
    from regraft.record.permit import Permit

_LISTED = 12


def convert_weights_package(ref: AnyModel, to: str, out: Path, request: LoadRequest, draft: Draft) -> WeightsMade:
    """Write a package's weights into another container, and prove that they are the same.

    Args:
        ref: reference or open package; no model is loaded, and nothing of it is executed.
        to: form of the container.
        out: folder to make.
        request: where packages and scans are looked up.
        draft: gets subjects, materials, measurements and findings.
    Raises:
        UsageError: a loaded model, or more than one file could be meant.
        NotFound: the package holds no weights that can be read.
        And what `convert_weights` raises.
    """
    if not isinstance(ref, str | os.PathLike | ModelRef | Package):
        raise UsageError("weights are converted from a file, and this is a loaded model", hint="give a reference")
    options = SourceOptions(offline=request.offline, store=request.store)
    parsed = ref if isinstance(ref, ModelRef | Package) else parse_reference(ref)
    with open_package(parsed, options=options) as package:
        manifest = package.manifest()
        subjects = tuple(package.subjects(manifest))
        draft.materials += subjects
        draft.subject += subjects[:1]
        path = _weights_path(package)
        permit = _permit(package, path, request)
        with new_package(out) as folder:
            made = convert_weights(VerifiedFiles(package, permit), path, to=to, folder=folder)
            write_companions(folder, Opened(subjects, package=package, path=path), Hop({made.file: b""}, ""), to)
    draft.findings += made.findings
    draft.measurements += made.measurements
    draft.parameters["content"] = made.content
    draft.parameters["from"] = path
    return made


def _weights_path(package: Package) -> str:
    """The one file of weights, or index of shards."""
    formats = readable_formats()
    found = []
    for entry in package.entries:
        if entry.obstacle is None:
            _, recognised = package.probe(entry.path)
            if recognised is not None and recognised.name in formats:
                found.append((recognised.name, entry.path))
    indices = [path for kind, path in found if kind == "weight-index"]
    paths = indices or [path for _, path in found]
    if not paths:
        raise NotFound("no file of weights is in it", where=str(package.ref), hint=f"regraft inspect {package.ref}")
    if len(paths) > 1:
        listed = ", ".join(paths[:_LISTED]) + (" …" if len(paths) > _LISTED else "")
        raise AmbiguousReference(
            f"{len(paths)} files of weights could be meant: {listed}",
            where=str(package.ref),
            hint=f"name one: {package.ref}#{paths[0]}",
        )
    return paths[0]


def _permit(package: Package, path: str, request: LoadRequest) -> Permit | None:
    """Leave for torch's own loader to confirm what is read; without one it is read all the same, and unconfirmed."""
    if request.permit is None or not needs_permit(package, path):
        return None
    try:
        permit: Permit | None = request.permit(package, None)
    except PermitRefused:
        return None
    return permit
