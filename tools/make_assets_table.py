"""Compare what `inspect` and `scan` say of the real packages with what is stated of them.

usage: make_assets_table.py [--check] [ASSETS]    ASSETS: the unpacked packages, default $REGRAFT_TEST_ASSETS

Writes tests/e2e/assets_expected.json (what is held to be true; the tests compare with it) and
docs/reference/assets.md. With --check it writes nothing and exits 1 where the two are not what it finds.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from glob import iglob
from pathlib import Path
from typing import Any

from regraft.package.licence import normalise_licence
from regraft.record.digest import digest_bytes
from regraft.record.evidence import Evidence, Verdict
from regraft.trust.scan import scan
from regraft.workflow.facts.interface import InspectedFile
from regraft.workflow.inspect import Inspection, inspect

ROOT = Path(__file__).parent.parent
STATED = ROOT / "tests/assets.json"
EXPECTED = ROOT / "tests/e2e/assets_expected.json"
REFEREED = ROOT / "tests/e2e/assets_refereed.json"
PAGE = ROOT / "docs/reference/assets.md"

FORMATS: dict[str, frozenset[str]] = {
    key: frozenset(value.split())
    for key, value in {
        "torchscript": "torchscript",
        "onnx": "onnx",
        "onnx fp16": "onnx",
        "onnx (quantised)": "onnx",
        "chunked onnx": "onnx",
        "safetensors": "safetensors",
        "safetensors fp16": "safetensors",
        "ggml": "ggml",
        "SavedModel+onnx+tflite+mlpackage": "tf-saved-model tf-checkpoint onnx tflite coreml",
        "tfjs": "tfjs",
        "tfjs graph": "tfjs",
        "tfjs base/fp16/int8": "tfjs",
        "torch legacy pickle (0x80028a0a)": "torch-legacy",
        "torch legacy pickle": "torch-legacy",
        "torch legacy": "torch-legacy",
        "torch legacy, CUDA tensors": "torch-legacy",
        "torch legacy named .pkl": "torch-legacy",
        "torch zip": "torch-zip",
        "torch whole-module + state_dict pairs": "torch-zip",
        "lightning": "torch-zip",
        "lightning pickle": "torch-zip",
        "torch.package zip": "torch-package",
        "joblib lz4": "joblib",
        "joblib + xgb json": "joblib xgboost-json",
        "joblib (old sklearn)": "joblib pickle",
        "keras h5 + quantised tflite": "keras-h5",
        "keras h5": "keras-h5",
        "keras 2.1.5 h5 weights only": "keras-h5",
        "dlib dat": "dlib",
        "paddle pdmodel/pdiparams": "paddle-program paddle-parameters",
        "tflite": "tflite",
        "spaCy/thinc msgpack": "msgpack",
        "tar of numpy": "tar",
        "gguf Q4_1": "gguf",
        "JAX pickle + ERA5 netCDF": "pickle binary-data",
        "TF1 checkpoint": "tf-checkpoint tf-meta-graph",
        "IDX": "idx",
        "JSON": "json",
        "csv": "table",
        "wav+rttm": "audio text",
        "text + old pickles": "text pickle",
        "png/npy": "image numpy",
        "sdf": "text",
        "ts/arff": "text",
        "code": "python-source",
        "text rows": "table",
        "torch": "torch-legacy|torch-zip",
        "raw float binary": "?",
        "tfjs in base64 JS": "source-code",
    }.items()
}
"""Stated format → ids that must be recognised among the files; `a|b` is either, `?` is none that is known."""

_EXACT = re.compile(r"\d+(?:/\d+)*(?: each)?")
_ROUND = re.compile(r"(\d+(?:\.\d+)?)M")
_MAX_LISTED = 12


def entries() -> list[dict[str, Any]]:
    """Every entry of tests/assets.json."""
    found: list[dict[str, Any]] = json.loads(STATED.read_text(encoding="utf-8"))
    return found


def entry_key(entry: dict[str, Any]) -> str:
    """How an entry is called: package, version and files."""
    return f"{entry['registry']}://{entry['package']}@{entry['version']}#{entry['path']}"


def asset_folder(assets: Path, entry: dict[str, Any]) -> Path:
    """Where the package of an entry is unpacked."""
    name = f"{entry['registry']}-{entry['package']}-{entry['version']}"
    return assets / name.replace("/", "_").replace("@", "_")


def compare(entry: dict[str, Any], assets: Path) -> dict[str, Any]:
    """What `inspect` and `scan` say of the files of one entry, and whether it is what is stated."""
    folder = asset_folder(assets, entry)
    looked, judged = _examined(folder)
    paths = _paths(folder, entry["path"])
    files = [file for file in looked.files if file.path in paths]
    found = {
        "files": len(files),
        "formats": _formats(files),
        "inside": _formats([file for file in looked.files if file.path.split("!")[0] in paths and "!" in file.path]),
        "parameters": {file.path: file.parameters for file in files if file.is_model},
        "stored": {file.path: file.stored for file in files if file.is_model and file.stored != file.parameters},
        "licence": _licences(looked),
        "sha256": sorted(digest_bytes((folder / path).read_bytes()) for path in paths) if entry["sha256"] else None,
        "inspect": str(looked.evidence.verdict),
        "inspect_because": _reasons(looked.evidence, paths),
        "scan": str(judged.verdict),
        "scan_because": _reasons(judged, paths),
        "unknown": sorted({fact.field for fact in looked.facts if not fact.is_known}),
    }
    return found | {"agrees": agreement(entry, found)}


def agreement(entry: dict[str, Any], found: dict[str, Any]) -> dict[str, str]:
    """For each thing that is stated of an entry: `yes`, `no`, or why it cannot be told."""
    return {
        "format": _agrees_in_format(entry, found),
        "parameters": _agrees_in_parameters(entry, found),
        "licence": _agrees_in_licence(entry, found),
        "sha256": "nothing stated" if not entry["sha256"] else "yes" if entry["sha256"] in found["sha256"] else "no",
    }


@lru_cache(maxsize=4)
def _examined(folder: Path) -> tuple[Inspection, Evidence]:
    return inspect(folder, offline=True, all_files=True), scan(folder, offline=True)


def _paths(folder: Path, pattern: str) -> frozenset[str]:
    """Files that a pattern of the list means; a lone `*` is the whole package."""
    pattern = "**" if pattern == "*" else pattern
    found = (folder / path for path in iglob(pattern, root_dir=folder, recursive=True, include_hidden=True))  # noqa: PTH207  hidden ones
    return frozenset(str(path.relative_to(folder)) for path in found if path.is_file() and path.name != ".ok")


def _formats(files: list[InspectedFile]) -> dict[str, int]:
    return dict(sorted(Counter(file.format or "?" for file in files).items()))


def _licences(looked: Inspection) -> list[str]:
    """Each licence that is claimed for the package, with who says so."""
    claims = (claim for fact in looked.facts if fact.field == "licence" for claim in fact.provenance)
    return sorted({f"{str(claim.value).strip()[:60]} ({claim.origin.value})" for claim in claims})


def _reasons(evidence: Evidence, paths: frozenset[str]) -> dict[str, int]:
    """Rule → number of findings that keep it from passing; those about other files of the package are marked."""
    counted = Counter(
        finding.rule if finding.where.file is None or finding.where.file.split("!")[0] in paths else f"{finding.rule}*"
        for finding in evidence.findings
        if finding.severity.verdict is not Verdict.PASS
    )
    return dict(sorted(counted.items()))


def _agrees_in_format(entry: dict[str, Any], found: dict[str, Any]) -> str:
    recognised = found["formats"].keys() | found["inside"].keys()
    missing = [name for name in FORMATS[entry["format"]] if not recognised & set(name.split("|"))]
    return f"no: {', '.join(sorted(missing))} is missing" if missing else "yes"


def _agrees_in_parameters(entry: dict[str, Any], found: dict[str, Any]) -> str:
    stated = str(entry["parameters"] or "")
    counts = [count for count in found["parameters"].values() if count is not None]
    if match := _ROUND.fullmatch(stated):
        digits = len(match[1].partition(".")[2])
        return "yes" if {f"{count / 1e6:.{digits}f}" for count in counts} == {match[1]} else "no"
    if not _EXACT.fullmatch(stated):
        return "nothing exact stated"
    wanted = {int(number) for number in stated.removesuffix(" each").split("/")}
    return "yes" if wanted == set(counts) else "no"


def _agrees_in_licence(entry: dict[str, Any], found: dict[str, Any]) -> str:
    stated = re.sub(r"\s*\([^)]*\)", "", entry["licence_package_metadata"] or "").strip()
    known = normalise_licence(stated) if stated else None
    if known is None:
        return "nothing stated"
    said = {text.rpartition(" (")[0] for text in found["licence"]}
    said_known = {normalise_licence(text) or text for text in said}
    if known in said_known or any(one.startswith(f"{stated}-") for one in said_known):
        return "yes" if len(said_known) == 1 else "yes, and more is claimed"
    return "no"


# the page


def page(found: dict[str, dict[str, Any]], refereed: dict[str, dict[str, str]]) -> str:
    """docs/reference/assets.md."""
    rows = [(entry, found[entry_key(entry)]) for entry in entries()]
    verdicts = Counter(result["scan"] for _, result in rows)
    unknown = Counter(field for _, result in rows for field in result["unknown"])
    lines = [
        "# What `inspect` and `scan` say of real packages",
        "",
        "Generated by `tools/make_assets_table.py` from the packages that `make assets` fetches; the tests hold each",
        "line. *Stated* is what somebody wrote down after loading the files with the library they belong to, or what",
        "the registry says.",
        "",
        f"{len(rows)} entries: scan says "
        + ", ".join(f"{name} {count}" for name, count in verdicts.most_common())
        + ".",
        "",
        "| package | files | recognised | parameters | licence | sha256 | scan |",
        "|---|---|---|---|---|---|---|",
        *(_row(entry, result) for entry, result in rows),
        "",
        "Parameters are trained scalars: running statistics, position ids and other buffers are not counted. A range",
        "stands for the smallest and the largest of several files. Nothing is added up.",
        "",
        "## Where the stated and the found differ",
        "",
        *_differences(rows, refereed),
        "",
        "## What does not pass, and why",
        "",
        "A rule with `*` was met in another file of the same package than those listed.",
        "",
        "| package | verb | because |",
        "|---|---|---|",
        *_not_passed(rows),
        "",
        "## What stays unknown",
        "",
        "| field | packages in which nobody says it |",
        "|---|---|",
        *(f"| {field} | {count} |" for field, count in unknown.most_common()),
        "",
        *_no_format(rows),
        "",
        "And, of what is recognised:",
        "",
        *(f"- {entry['package']} {entry['version']}: {limit}" for entry, limit in _limits(rows, refereed)),
        "",
    ]
    return "\n".join(lines)


def _row(entry: dict[str, Any], result: dict[str, Any]) -> str:
    formats = _counted(result["formats"])
    if result["inside"]:
        formats += f"; inside: {_counted(result['inside'])}"
    agrees = result["agrees"]
    cells = [
        f"{entry['package']} {entry['version']}<br>`{entry['path']}`",
        str(result["files"]),
        _mark(agrees["format"], formats),
        _mark(agrees["parameters"], _span(result["parameters"])),
        _mark(agrees["licence"], "<br>".join(result["licence"]) or "unknown"),
        {"yes": "✓ equal", "nothing stated": "not stated"}.get(agrees["sha256"], "✗ differs"),
        {"pass": "✓ pass", "fail": "✗ fail", "inconclusive": "? inconclusive"}[result["scan"]],
    ]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _counted(formats: dict[str, int]) -> str:
    return ", ".join(name if count == 1 else f"{name} × {count}" for name, count in formats.items())


def _mark(agrees: str, text: str) -> str:
    sign = "✓ " if agrees.startswith("yes") else "≠ " if agrees.startswith("no:") or agrees == "no" else ""
    return sign + text


def _span(parameters: dict[str, int | None]) -> str:
    if not parameters:
        return "no weights"
    counts = sorted({count for count in parameters.values() if count is not None})
    if not counts:
        return "unknown"
    return f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} … {counts[-1]:,}"


def _differences(rows: list[tuple[dict[str, Any], dict[str, Any]]], refereed: dict[str, dict[str, str]]) -> list[str]:
    lines = ["| package | of | stated | found | who is right |", "|---|---|---|---|---|"]
    stated_in = {"parameters": "parameters", "licence": "licence_package_metadata", "format": "format"}
    for entry, result in rows:
        for field, said in result["agrees"].items():
            if said in {"yes", "nothing stated", "nothing exact stated"}:
                continue
            value = {"parameters": _span(result["parameters"]), "licence": ", ".join(result["licence"])}
            right = refereed.get(entry_key(entry), {}).get(field, "")
            stated = entry[stated_in.get(field, field)]
            lines.append(f"| {entry['package']} | {field} | {stated} | {value.get(field, said)} | {right} |")
    return lines


def _not_passed(rows: list[tuple[dict[str, Any], dict[str, Any]]]) -> list[str]:
    lines = []
    for entry, result in rows:
        for verb in ("scan", "inspect"):
            if result[verb] != "pass":
                because = ", ".join(f"{rule} × {count}" for rule, count in result[f"{verb}_because"].items())
                lines.append(f"| {entry['package']} {entry['version']} | {verb} | {because} |")
    return list(dict.fromkeys(lines))


def _no_format(rows: list[tuple[dict[str, Any], dict[str, Any]]]) -> list[str]:
    lines = ["Files of no format that is known here (the raw numbers of tfjs and TensorFlow lie in such):", ""]
    for entry, result in rows:
        if count := result["formats"].get("?"):
            lines.append(f"- {entry['package']} {entry['version']}: {count} of {result['files']}")
    return lines


def _limits(
    rows: list[tuple[dict[str, Any], dict[str, Any]]], refereed: dict[str, dict[str, str]]
) -> Iterator[tuple[dict[str, Any], str]]:
    for entry, _ in rows:
        if limit := refereed.get(entry_key(entry), {}).get("limit"):
            yield entry, limit


def find_all(assets: Path) -> dict[str, dict[str, Any]]:
    """`compare` over every entry, in two processes."""
    listed = entries()
    with ProcessPoolExecutor(2) as pool:
        return dict(
            zip(map(entry_key, listed), pool.map(compare, listed, [assets] * len(listed), chunksize=4), strict=True)
        )


def rendered(found: dict[str, dict[str, Any]]) -> dict[Path, str]:
    """The generated files and what should stand in them."""
    refereed = json.loads(REFEREED.read_text(encoding="utf-8"))
    return {
        EXPECTED: json.dumps(found, indent=1, ensure_ascii=False, sort_keys=True) + "\n",
        PAGE: page(found, refereed),
    }


def main(arguments: list[str]) -> int:
    """Write what is stale, or only name it."""
    named = [argument for argument in arguments if not argument.startswith("-")]
    assets = Path(named[0] if named else os.environ.get("REGRAFT_TEST_ASSETS", ROOT / ".cache/assets/x"))
    stale = [
        (path, text)
        for path, text in rendered(find_all(assets)).items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]
    for path, text in stale:
        if "--check" not in arguments:
            path.write_text(text, encoding="utf-8")
        print(f"{'stale' if '--check' in arguments else 'wrote'}: {path.relative_to(ROOT)}")
    return bool(stale) if "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
