"""Inspect: what is this? Formats, tensors, licence and claims, read from headers; contradictions named."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from regraft.package.formats import Role
from regraft.package.package import Package, open_package
from regraft.package.reference import ModelRef
from regraft.package.sources.interface import SourceOptions
from regraft.record.evidence import JSON, Artifact, Draft, Evidence, Finding, Severity, Verdict, Where
from regraft.report.quantity import bytes_text, count_text
from regraft.report.sections import FACT_KNOWN, FACT_UNKNOWN, FILE, FILE_GROUP, MODEL
from regraft.workflow.facts.collect import Collection, collect
from regraft.workflow.facts.examine import examine
from regraft.workflow.facts.interface import Claim, InspectedFile
from regraft.workflow.facts.models import Model
from regraft.workflow.facts.plain import clean, plain
from regraft.workflow.facts.settle import Contradiction, Fact

if TYPE_CHECKING:
    from regraft.record.store import Store

DAMAGED, UNKNOWN_FORMAT, NOTHING_HERE, ANOMALY = "RGI-FILE-003", "RGI-FILE-004", "RGI-FILE-005", "RGI-FILE-006"
SOURCES_DISAGREE, NAME_AND_CONTENT, COUNTS_DIFFER = "RGI-CON-001", "RGI-CON-002", "RGI-MODEL-002"
_WEIGHT_SUFFIXES = frozenset(
    (
        ".bin", ".pt", ".pth", ".ckpt", ".h5", ".hdf5", ".keras", ".onnx", ".ort", ".tflite", ".lite", ".gguf", ".ggml",
        ".safetensors", ".pkl", ".pickle", ".joblib", ".npz", ".npy", ".pb", ".pdmodel", ".pdiparams", ".params",
        ".weights", ".wparam", ".msgpack", ".mlmodel", ".caffemodel", ".model", ".dat", ".pte", ".nemo", ".ot", ".wts",
    )
)  # fmt: skip
_LISTED_ROLES = frozenset(
    {Role.WEIGHTS, Role.GRAPH, Role.CONFIG, Role.TOKENIZER, Role.CARD, Role.LICENCE, Role.ARCHIVE}
)
_CONTAINERS = frozenset({"Model", "Sequential", "Functional"})
"""Names of Keras classes that say nothing about the network."""
_FIX = "Rely on the header, not on what is said about it, and ask the publisher."
_FIXES = {
    "licence": "Keep to the stricter one until the publisher says which it is.",
    "suffix": "Load it as what it is; a wrong suffix may also be meant to mislead a scanner.",
}
_MAX_ANOMALIES = 50
_SPLIT_FORMATS = ("tfjs", "tf-", "openvino", "ncnn")
"""Formats whose raw numbers lie in files of their own that have no format."""
_MAX_LISTED = 2_000
_MAX_ALIKE = 8
"""More files of one kind than this are counted, not listed, unless they hold a model."""


class Inspection(msgspec.Struct, frozen=True):
    """What `inspect` found out.

    Attributes:
        evidence: the record.
        files: every file as its header describes it.
        models: the networks that the files hold.
        facts: one row a field, known or not, with who says it.
        contradictions: claims that cannot all be true.
    """

    evidence: Evidence
    files: tuple[InspectedFile, ...]
    models: tuple[Model, ...]
    facts: tuple[Fact, ...]
    contradictions: tuple[Contradiction, ...]

    def _repr_html_(self) -> str:
        from regraft.report.html import evidence_fragment

        return evidence_fragment(self.evidence)


def inspect(
    ref: str | os.PathLike[str] | ModelRef | Package,
    *,
    store: Store | None = None,
    offline: bool = False,
    compute_digest: bool = False,
    all_files: bool = False,
) -> Inspection:
    """Say what a package is, from headers alone: the cost follows the metadata, not the gigabytes.

    Args:
        ref: a reference as a user writes it, a parsed one, or an open package.
        store: where fetched archives are looked up, and where the table of all tensors is kept.
        offline: no network.
        compute_digest: hash every byte; otherwise digests are declared or partial.
        all_files: list every file in the evidence; otherwise code and data files are counted by format.
    Returns:
        evidence of kind `inspect` with the files and facts behind it. It passes when every file that may hold
        the model could be described; outcome `described`, `partly_described` or `empty`.
    Raises:
        RegraftError: the package as a whole cannot be opened.
    """
    parameters: dict[str, JSON] = {
        "reference": clean(str(ref)) if not isinstance(ref, Package) else clean(str(ref.ref))
    }
    if compute_digest:
        parameters["compute_digest"] = True
    draft = Draft("inspect", parameters=parameters)
    package = open_package(ref, options=SourceOptions(offline=offline, store=store))
    try:
        files = tuple(examine(package))
        header_bytes = package.meter.bytes_read
        manifest = package.manifest(compute=compute_digest)
        draft.subject.extend(package.subjects(manifest))
        bytes_read = package.meter.bytes_read
    finally:
        if package is not ref:
            package.close()
    collected = collect(files)
    _record_facts(draft, collected)
    _record_models(draft, collected)
    _record_files(draft, files, all_files=all_files)
    _record_damage(draft, files, has_model=bool(collected.models))
    _measure(draft, files, collected.models, header_bytes=header_bytes, bytes_read=bytes_read)
    if store is not None and any(file.description is not None and file.description.tensors for file in files):
        draft.artifacts.append(Artifact("tensors", store.put_blob([_tensor_table(files)]), "application/json"))
    verdict = draft.verdict
    outcome = "empty" if not files else "described" if verdict is Verdict.PASS else "partly_described"
    evidence = draft.finish(outcome=outcome, summary=_summary(files, collected), verdict=verdict)
    return Inspection(evidence, files, tuple(collected.models), tuple(collected.facts), tuple(collected.contradictions))


def _record_facts(draft: Draft, collected: Collection) -> None:
    for fact in collected.facts:
        if fact.is_known:
            first = fact.provenance[0]
            data: dict[str, JSON] = {
                "field": fact.field,
                "value": fact.value,
                "text": fact.text,
                "provenance": [_claim_data(claim) for claim in fact.provenance[:20]],
            }
            where = Where(file=first.file, field=first.key)
            draft.find(Finding(FACT_KNOWN, Severity.INFO, f"{fact.field}: {fact.text}", where, data))
        else:
            data = {"field": fact.field, "value": None, "could_say": fact.could_say}
            draft.find(Finding(FACT_UNKNOWN, Severity.INFO, f"{fact.field} is unknown", Where(field=fact.field), data))
    for contradiction in collected.contradictions:
        rule = NAME_AND_CONTENT if contradiction.kind == "suffix" else SOURCES_DISAGREE
        draft.find(
            Finding(
                rule,
                Severity.MEDIUM,
                contradiction.message,
                Where(file=contradiction.claims[0].file, field=contradiction.kind),
                {"claims": [_claim_data(c) for c in contradiction.claims[:20]], "of": contradiction.of},
                fix=_FIXES.get(contradiction.kind, _FIX),
            )
        )


def _claim_data(claim: Claim) -> dict[str, JSON]:
    return {
        "source": claim.origin.value,
        "file": claim.file,
        "field": clean(claim.key) if claim.key else None,
        "value": plain(claim.value),
    }


def _record_models(draft: Draft, collected: Collection) -> None:
    for model, facts in zip(collected.models, collected.per_model, strict=True):
        counts = model.counts
        data: dict[str, JSON] = {
            "name": model.name,
            "files": plain([file.path for file in model.files]),
            "formats": plain(list(dict.fromkeys(file.title or "" for file in model.files))),
            "dtypes": plain(list(dict.fromkeys(dtype for file in model.files for dtype in [*file.dtypes][:1]))),
            "parameters": plain(model.parameters),
            "parameters_text": _parameters_text(model),
            "buffers": plain(max(file.buffers for file in model.files)),
            "is_sharded": model.is_sharded,
            "per_file": plain(
                [
                    {"path": f.path, "format": f.title, "parameters": f.parameters, "dtypes": [*f.dtypes][:4]}
                    for f in model.files
                ]
            ),
            "architecture": facts["architecture"].text if "architecture" in facts else None,
        }
        where = Where(file=model.files[0].path)
        message = f"{model.name}: {data['parameters_text']} in {len(model.files)} {_plural('file', len(model.files))}"
        draft.find(Finding(MODEL, Severity.INFO, message, where, data))
        if not model.is_sharded and len(set(counts.values())) > 1:
            said = ", ".join(f"{path.rsplit('/', 1)[-1]} {count:,}" for path, count in list(counts.items())[:6])
            message = f"the files of {model.name} count differently ({said}): the largest is given, nothing is added up"
            draft.find(Finding(COUNTS_DIFFER, Severity.INFO, message, where, {"counts": dict(counts)}))


def _parameters_text(model: Model) -> str:
    if model.parameters is None:
        return "parameters unknown"
    return f"{model.parameters:,}" + (f" in {len(model.files)} shards" if model.is_sharded else "")


def _record_files(draft: Draft, files: Sequence[InspectedFile], *, all_files: bool) -> None:
    grouped: dict[tuple[str, str], list[InspectedFile]] = {}
    alike = Counter(file.title for file in files if not file.is_model)
    listed = 0
    for file in files:
        is_notable = file.is_model or (file.role in _LISTED_ROLES and alike[file.title] <= _MAX_ALIKE)
        if listed < _MAX_LISTED and (all_files or is_notable or file.format is None or file.damage):
            listed += 1
            data: dict[str, JSON] = {
                "path": file.path,
                "size_bytes": file.size_bytes,
                "format": file.title,
                "role": file.role.value,
                "parameters": plain(file.parameters) if file.is_model else None,
                "dtypes": plain([*file.dtypes][:4]),
            }
            if file.description is not None and file.description.version:
                data["format_version"] = clean(file.description.version)
            message = f"{file.title or 'unknown format'}, {bytes_text(file.size_bytes)}"
            draft.find(Finding(FILE, Severity.INFO, message, Where(file=file.path), data))
        else:
            grouped.setdefault((file.title or "unknown", file.role.value), []).append(file)
    for (title, role), members in sorted(grouped.items()):
        size = sum(file.size_bytes for file in members)
        data = {"format": title, "role": role, "count": len(members), "size_bytes": size}
        message = f"{len(members)} × {title}, {bytes_text(size)}"
        draft.find(Finding(FILE_GROUP, Severity.INFO, message, Where(), data))


def _record_damage(draft: Draft, files: Sequence[InspectedFile], *, has_model: bool) -> None:
    if not files:
        fix = "Check the reference."
        draft.find(Finding(NOTHING_HERE, Severity.UNKNOWN, "the package has no files", Where(), fix=fix))
    anomalies = 0
    described = {file.folder for file in files if file.is_model and (file.format or "").startswith(_SPLIT_FORMATS)}
    for file in files:
        is_main = file.is_model or file.suffix in _WEIGHT_SUFFIXES or (file.role is Role.ARCHIVE and not has_model)
        if file.damage:
            severity = Severity.UNKNOWN if is_main or not has_model else Severity.LOW
            draft.find(
                Finding(
                    DAMAGED,
                    severity,
                    f"cannot be described: {clean(file.damage)}",
                    Where(file=file.path),
                    fix="Get a sound copy; regraft fetch checks it against what its index declares.",
                )
            )
        elif file.format is None and file.folder not in described and (is_main or (not has_model and file.size_bytes)):
            fix = "If you know what it is, say so in an issue: a format is one file of code."
            message = f"{bytes_text(file.size_bytes)} of no format that is known here"
            draft.find(Finding(UNKNOWN_FORMAT, Severity.UNKNOWN, message, Where(file=file.path), fix=fix))
        for problem in (file.description.problems if file.description else ())[: _MAX_ANOMALIES - anomalies]:
            anomalies += 1
            where = Where(
                file=file.path, member=clean(problem.member) if problem.member else None, offset=problem.offset
            )
            data: dict[str, JSON] = {"kind": problem.kind} if problem.kind else {}
            severity = Severity.UNKNOWN if file.is_model else Severity.LOW
            draft.find(Finding(ANOMALY, severity, clean(problem.what), where, data))


def _measure(
    draft: Draft, files: Sequence[InspectedFile], models: Sequence[Model], *, header_bytes: int, bytes_read: int
) -> None:
    top = [file for file in files if "!" not in file.path]
    draft.measure("files", len(top), "files")
    draft.measure("size_bytes", sum(file.size_bytes for file in top), "bytes")
    draft.measure("header_bytes_read", header_bytes, "bytes")
    draft.measure("bytes_read", bytes_read, "bytes")
    draft.measure("models", len(models), "1")
    for model in models:
        if model.parameters is not None and model.parameters < 1 << 63:
            draft.measure("parameters", model.parameters, "parameters", of={"model": model.name})


def _tensor_table(files: Sequence[InspectedFile]) -> bytes:
    table = {
        file.path: [
            {"name": clean(t.name), "dtype": t.dtype, "shape": [plain(n) for n in t.shape]}
            for t in file.description.tensors
        ]
        for file in files
        if file.description is not None and file.description.tensors
    }
    return msgspec.json.encode(table)


def _summary(files: Sequence[InspectedFile], collected: Collection) -> str:
    if not files:
        return "there is nothing in it"
    models = collected.models
    parts = []
    if not models:
        parts.append(f"no model among {len(files)} {_plural('file', len(files))}")
    elif len(models) == 1:
        model = models[0]
        count = f"{count_text(model.parameters)} parameters" if model.parameters is not None else "parameters unknown"
        formats = " + ".join(dict.fromkeys(file.title or "?" for file in model.files))
        dtype = next((d for file in model.files for d in file.dtypes), "")
        said = collected.per_model[0].get("architecture")
        architecture = said.text if said is not None and said.text not in _CONTAINERS else ""
        parts.append(", ".join(filter(None, (architecture, count, dtype, formats))))
    else:
        counts = sorted(model.parameters for model in models if model.parameters is not None)
        span = (
            ""
            if not counts
            else f" of {count_text(counts[0])}" + (f" to {count_text(counts[-1])}" if counts[-1] != counts[0] else "")
        )
        formats = " + ".join(dict.fromkeys(file.title or "?" for model in models for file in model.files))
        parts.append(f"{len(models)} models{span}{' parameters' if counts else ''}, {formats}")
    if collected.contradictions:
        parts.append(f"{len(collected.contradictions)} {_plural('contradiction', len(collected.contradictions))}")
    return clean("; ".join(parts))


def _plural(noun: str, count: int) -> str:
    return noun if count == 1 else noun + "s"
