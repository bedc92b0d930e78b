"""Calibrate the thresholds of verify: benign conversions of real networks on one side, planted faults on the other.

    python tools/calibrate_thresholds.py --assets .cache/assets/x

writes src/regraft/compare/thresholds.json and the tables of docs/explanation/noise-floors.md. An hour on two cores;
what is measured is kept, so that it can be interrupted.
"""

# ruff: noqa: E402
from __future__ import annotations

import argparse
import contextlib
import functools
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tools")]

import onnx
import onnxruntime
import torch

from calibration_faults import faulty_copies
from calibration_models import Network, networks
from calibration_tables import summarised, written_tables
from regraft.compare.exact import feeds_for
from regraft.compare.measure import EXACT, JITTER, Answer, Yardstick, measured
from regraft.compare.noise import least_floor, ratios, unit_roundoff
from regraft.deployment.convert.hops.onnx_from_torch import OnnxFromTorch
from regraft.deployment.convert.interface import Source
from regraft.deployment.trial import values_for
from regraft.errors import Unsupported
from regraft.runtime.feeds import FLOAT_VALUES, INTEGER_VALUES, generated_feeds
from regraft.runtime.onnxruntime_model import OnnxRuntimeModel
from regraft.runtime.openvino_model import OpenVinoModel, graph_from_bytes

_LEVELS = onnxruntime.GraphOptimizationLevel
_THREADS = 1
_Feeds: TypeAlias = list[dict[str, Any]]
_FEW = ("normal", "uniform", "zeros", "large")
_LOW = ("bfloat16", "float16")
_PRECISIONS = ("float32", *_LOW)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--assets", type=Path, default=ROOT / ".cache/assets/x")
    options.add_argument("--seeds", type=int, default=2)
    options.add_argument("--cases", type=Path, default=ROOT / "build/calibration.jsonl", help="where cases are kept")
    options.add_argument("--more", type=Path, nargs="*", default=(), help="cases of tools/calibrate_on_cuda.py")
    options.add_argument("--only", default="", help="networks whose name contains this; nothing is written")
    chosen = options.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(_THREADS)
    kept = chosen.cases if not chosen.only else None
    cases = _read([kept] if kept is not None and kept.exists() else [])
    known = {case["network"] for case in cases}
    for network in networks(chosen.assets):
        if chosen.only in network.name and network.name not in known:
            started = time.perf_counter()
            found = [c for seed in range(1 if network.is_heavy else chosen.seeds) for c in _cases(network, seed)]
            cases += found
            _keep(found, kept)
            print(f"{network.name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    if kept is not None:
        cases += _read(chosen.more)
        table = summarised(cases)
        target = ROOT / "src/regraft/compare/thresholds.json"
        target.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
        written_tables(ROOT / "docs/explanation/noise-floors.md", table, cases)


def _read(files: Iterable[Path]) -> list[dict[str, Any]]:
    return [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]


def _keep(cases: Iterable[dict[str, Any]], kept: Path | None) -> None:
    """Add the cases of a network to what is kept, so that an interrupted run goes on behind it; or print them."""
    lines = "".join(json.dumps(case) + "\n" for case in cases)
    if kept is None:
        print(lines, end="")
        return
    kept.parent.mkdir(parents=True, exist_ok=True)
    with kept.open("a", encoding="utf-8") as file:
        file.write(lines)


_BUILT: dict[str, tuple[Any, OnnxRuntimeModel]] = {}


def _built(network: Network, seed: int) -> tuple[Any, OnnxRuntimeModel]:
    """The torch model (None for a published ONNX file) and its ONNX graph; built once for all seeds."""
    if network.name not in _BUILT:
        _BUILT.clear()
        made = network.build()
        if isinstance(made, bytes):
            _BUILT[network.name] = (None, OnnxRuntimeModel(made, threads=_THREADS, where=network.name))
        else:
            hop = OnnxFromTorch().convert(Source(made, calibration_feeds(made, network, seed)[:3]))
            _BUILT[network.name] = (
                made,
                OnnxRuntimeModel(hop.files["model.onnx"], threads=_THREADS, where=network.name),
            )
    return _BUILT[network.name]


def _cases(network: Network, seed: int) -> Iterator[dict[str, Any]]:
    model, graph = _built(network, seed)
    labels = {"architecture": network.architecture, "network": network.name, "seed": seed}
    for reference in (model, graph) if model is not None else (graph,):
        for precision in _PRECISIONS:
            feeds = calibration_feeds(model or graph, network, seed, precision)
            yield from _exactly(labels, precision, reference, model, graph, feeds)
    yield from _jittered(labels, model, graph, calibration_feeds(model or graph, network, seed))


def _exactly(
    labels: dict[str, Any], precision: str, reference: Any, model: Any, graph: OnnxRuntimeModel, feeds: _Feeds
) -> Iterator[dict[str, Any]]:
    """Against float64; faults are planted in the torch model, where there is one."""
    answers = list(Yardstick(reference, feeds[0], precisions=(precision,), method=EXACT).answers(feeds))
    of = {"torch": "torch", "onnxruntime": "ONNX"}[reference.runtime]
    yield from _benign(labels | {"method": EXACT}, precision, answers, _conversions(reference, model, graph), feeds, of)
    if reference is model:
        for name, candidate in faulty_copies(model):
            yield row(labels | _case(EXACT, "fault", name), precision, answers, candidate, feeds)


def _jittered(labels: dict[str, Any], model: Any, graph: OnnxRuntimeModel, feeds: _Feeds) -> Iterator[dict[str, Any]]:
    answers = list(Yardstick(graph, feeds[0], method=JITTER).answers(feeds))
    conversions = _conversions(graph, model, graph)
    yield from _benign(labels | {"method": JITTER}, "float32", answers, conversions, feeds, "ONNX")
    for name, candidate in faulty_copies(model) if model is not None else ():
        yield row(labels | _case(JITTER, "fault", name), "float32", answers, candidate, feeds)


def _benign(
    labels: dict[str, Any],
    precision: str,
    answers: Sequence[Answer],
    conversions: Iterable[Conversion],
    feeds: _Feeds,
    of: str,
) -> Iterator[dict[str, Any]]:
    """One case a conversion in this precision; what the target refuses is no case."""
    for one in conversions:
        if one.precision != precision:
            continue
        case = labels | {"side": "benign", "change": f"{of} → {one.name}"}
        try:
            candidate = one.make()
            if candidate.effective_precision in (precision, "mixed"):
                yield row(case, precision, answers, candidate, feeds)
        except Unsupported as error:
            print(f"{labels['network']}: {one.name} in {precision} is left out: {error.what[:120]}", file=sys.stderr)


def calibration_feeds(model: Any, network: Network, seed: int, precision: str = "float32") -> _Feeds:
    values = values_for(precision, _FEW if network.is_heavy else (*FLOAT_VALUES, *INTEGER_VALUES))
    made = generated_feeds(model.signature, seed=seed, sizes=network.sizes, values=values)
    return [case.feeds for case in made]


class Conversion(NamedTuple):
    """A way to make a candidate that changes nothing but rounding."""

    name: str
    precision: str
    make: Callable[[], Any]


def _conversions(reference: Any, model: Any, graph: OnnxRuntimeModel) -> Iterator[Conversion]:
    """All of them, without the reference itself."""
    for name, other in (("torch", model), ("ONNX Runtime", graph)):
        if other is not None and other is not reference:
            yield Conversion(name, "float32", lambda other=other: other)
            for low in _LOW:
                yield Conversion(name, low, lambda other=other, low=low: other.cast(low))
    for name, level in (("basic", _LEVELS.ORT_ENABLE_BASIC), ("no", _LEVELS.ORT_DISABLE_ALL)):
        make = functools.partial(_optimised, graph.content, level)
        yield Conversion(f"ONNX Runtime, {name} optimisations", "float32", make)
    yield Conversion("ONNX Runtime, two threads", "float32", lambda: OnnxRuntimeModel(graph.content, threads=2))
    for name, threads in (("OpenVINO", 1), ("OpenVINO, two threads", 2)):
        make = functools.partial(OpenVinoModel, precision="float32", threads=threads)
        yield Conversion(name, "float32", lambda make=make: make(graph_from_bytes(graph.content)))
    yield Conversion("OpenVINO", "bfloat16", lambda: OpenVinoModel(graph_from_bytes(graph.content), threads=1))
    if not {node.op_type for node in graph.proto.graph.node} & {"LSTM", "GRU"}:  # onnxruntime 1.32 dies of these
        yield Conversion("ONNX Runtime, graph in float16", "float16", lambda: _in_float16(graph))
    if model is not None:
        yield Conversion("torch without oneDNN", "float32", lambda: _WithoutOneDnn(model))


def _in_float16(graph: OnnxRuntimeModel) -> OnnxRuntimeModel:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    copy = onnx.load_from_string(graph.content)  # it is changed in place
    converted = convert_float_to_float16(copy, keep_io_types=True, disable_shape_infer=True)
    return OnnxRuntimeModel(converted.SerializeToString(), threads=1)


class _WithoutOneDnn:
    """torch's own kernels in place of oneDNN's."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.where, self.runtime, self.signature = model.where, model.runtime, model.signature
        self.effective_precision = model.effective_precision

    def __call__(self, feeds: Any) -> Any:
        with torch.backends.mkldnn.flags(enabled=False):
            return self.model(feeds)


def _optimised(content: bytes, level: Any) -> OnnxRuntimeModel:
    import tempfile

    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(OSError):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = level
        options.log_severity_level = 4
        options.optimized_model_filepath = str(Path(folder) / "model.onnx")
        onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        return OnnxRuntimeModel((Path(folder) / "model.onnx").read_bytes(), threads=1, optimise=False)
    raise RuntimeError("onnxruntime wrote no optimised graph")


def _case(method: str, side: str, change: str) -> dict[str, Any]:
    return {"method": method, "side": side, "change": change}


def row(
    labels: dict[str, Any], precision: str, answers: Sequence[Answer], candidate: Any, feeds: _Feeds
) -> dict[str, Any]:
    """One case: the worst ratios over outputs and feeds."""
    wanted = {port.name for port in candidate.signature.inputs}
    inputs = {name: name for name in feeds[0] if name in wanted}
    found = list(candidate(feeds_for(candidate, {name: feeds[0][name] for name in inputs})))
    series = measured(answers, candidate, feeds, inputs=inputs, outputs=dict(zip(answers[0].truth, found, strict=True)))
    unit = unit_roundoff(precision)
    worst = []
    for one in series:
        own = one.own[precision]
        worst += ratios(one.candidate, own, unit=unit, smallest=least_floor(own, precision))
    return labels | {
        "precision": precision,
        "rms_ratio": float(f"{max(ratio.rms for ratio in worst):.4g}"),
        "peak_ratio": float(f"{max(ratio.peak for ratio in worst):.4g}"),
        "relative": float(f"{max(d.relative for one in series for d in one.candidate):.3g}"),
        "flips": sum(d.flips for one in series for d in one.decisions),
        "decisions": sum(d.n for one in series for d in one.decisions),
    }


if __name__ == "__main__":
    main()
