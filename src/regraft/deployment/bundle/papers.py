"""What a bundle says of itself: the evidence about its package, a manifest with digests, and a README."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from regraft.deployment.bundle.escaping import markdown, markdown_code, without_folders
from regraft.deployment.bundle.interface import Carried, Contents, Layout
from regraft.deployment.bundle.versions import installed
from regraft.record.digest import Digest, digest_chunks
from regraft.record.evidence import Record, Verdict
from regraft.record.statement import statement_from_evidence
from regraft.version import __version__

if TYPE_CHECKING:
    from regraft.package.reference import ModelRef
    from regraft.record.store import Store

SCHEMA = "regraft.bundle/1"
_CHUNK_BYTES = 1 << 20
_FACT, _LICENCE = "RGI-FACT-001", "licence"


class Papers(msgspec.Struct, frozen=True):
    """The newest evidence of each kind.

    Attributes:
        files: the stored statements, byte for byte: a signature over one still holds.
        verdicts: kind → verdict.
    """

    records: tuple[Record, ...]
    files: tuple[Carried, ...]
    verdicts: dict[str, Verdict]


def papers_of(records: Sequence[Record], store: Store | None) -> Papers:
    """Of records, newest first, the first of each kind."""
    newest: dict[str, Record] = {}
    for record in records:
        newest.setdefault(record.evidence.kind, record)
    files = []
    for kind, record in newest.items():
        stored = store.statement(record.digest) if store is not None else statement_from_evidence(record.evidence)
        files.append(Carried.made(f"evidence/{kind}.json", stored, "doc"))
    verdicts = {kind: record.evidence.verdict for kind, record in newest.items()}
    return Papers(tuple(newest.values()), tuple(files), verdicts)


def kinds_with_folders(papers: Papers, ref: ModelRef) -> list[str]:
    """Kinds of evidence whose stored bytes name the user's home, or the folder of a package of this machine."""
    folders = {str(Path.home())}
    if ref.scheme in ("path", "file"):
        folders |= {str(Path(ref.location).resolve().parent), posixpath.dirname(ref.location)}
    written = [json.dumps(folder, ensure_ascii=False)[1:-1].encode() + b"/" for folder in folders if folder.strip("./")]
    return [
        record.evidence.kind
        for record, file in zip(papers.records, papers.files, strict=True)
        if any(folder in (file.content or b"") for folder in written)
    ]


def licence_of(records: Sequence[Record]) -> str:
    """What `inspect` found; empty when nobody says, or nothing was inspected."""
    for record in records:
        for finding in record.evidence.findings if record.evidence.kind == "inspect" else ():
            if finding.rule == _FACT and finding.data.get("field") == _LICENCE:
                return str(finding.data.get("value") or "")
    return ""


def manifest_json(folder: Path, contents: Contents, member: Layout, papers: Papers) -> bytes:
    """`bundle.json`: the package, its licence, what runs it, the evidence, and the digest of every file.

    Args:
        folder: everything else is written there already.
    """
    components: list[dict[str, str | None]] = [{"name": "regraft", "version": __version__}]
    if contents.graph is not None:
        name, version = installed(contents.graph.runtime)
        components.append({"name": name, "version": version})
    described = {
        "schema": SCHEMA,
        "layout": member.name,
        "name": contents.name,
        "package": {"reference": contents.source, "sha256": contents.digest, "licence": contents.licence or None},
        "files": [
            {"name": path.relative_to(folder).as_posix(), "sha256": _digest(path), "size_bytes": path.stat().st_size}
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        ],
        "components": components,
        "evidence": [
            {
                "kind": record.evidence.kind,
                "verdict": record.evidence.verdict.value,
                "outcome": record.evidence.outcome,
                "sha256": record.digest,
                "file": f"evidence/{record.evidence.kind}.json",
            }
            for record in papers.records
        ],
    }
    return json.dumps(described, indent=2, ensure_ascii=False).encode() + b"\n"


def readme(contents: Contents, member: Layout, papers: Papers) -> str:
    """What it is, how it is started, and what is known about it."""
    lines = [
        f"# {contents.name}",
        "",
        f"Package `{contents.digest}`, from {markdown_code(contents.source)}.",
        f"Licence: {markdown(contents.licence) or 'nobody says; ask before you use it'}.",
        "",
        "## Start it",
        "",
        member.readme(contents),
    ]
    if contents.graph is not None:
        graph = contents.graph
        lines += [
            "",
            "## Inputs and outputs",
            "",
            f"Run in {graph.runtime}, {graph.precision}"
            + ("; the first axis of everything is the batch." if graph.is_batched else "; no batch axis."),
            "",
            *(
                f"- {kind} {markdown_code(port.name)}: {port.dtype} {_shape(port.shape)}"
                for kind, ports in (("input", graph.inputs), ("output", graph.outputs))
                for port in ports
            ),
        ]
    lines += ["", "## Evidence", ""]
    lines += [
        f"- {one.kind}: {one.verdict.value}, {markdown(f'{one.outcome}: {without_folders(one.summary)}')}"
        for one in (record.evidence for record in papers.records)
    ] or ["None: the sender's store knew nothing about this package."]
    lines += ["", "`bundle.json` lists every file with its SHA-256. Recompute what you rely on."]
    return "\n".join(lines) + "\n"


def _digest(path: Path) -> Digest:
    with path.open("rb") as file:
        return digest_chunks(iter(lambda: file.read(_CHUNK_BYTES), b""))


def _shape(shape: tuple[int | str | None, ...] | None) -> str:
    return "(" + ", ".join(str(extent) if isinstance(extent, int) else "?" for extent in shape or ()) + ")"
