"""What there is today: the first tensor beyond a fixed tolerance, by our own loop and by Polygraphy."""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from benchmarks.mutations.interface import Feeds, Reference
from benchmarks.mutations.peers import program
from benchmarks.mutations.running import Stopped, trace

_LOADER = """
import numpy
def load_data():
    yield dict(numpy.load({path!r}))
"""
_ALL_LOADER = """
import numpy, onnx
def load_data():
    known = numpy.load({path!r})
    yield {{one.name: known[one.name] for one in onnx.load("polygraphy_debug.onnx").graph.input}}
"""
REDUCE_LIMIT_S = 300
_MISMATCHED = re.compile(r"Mismatched outputs: \[(.*)\]")


def first_beyond(of: Reference, candidate: onnx.ModelProto, feeds: Feeds, tolerance: float) -> str | None:
    """The reference node that makes the first tensor which differs by more than a tolerance.

    Tensors are paired by name; in a renamed graph with as many nodes, by the order of the nodes.

    Returns:
        the node's name; `""` where only an output tells, or where the candidate stops; None where nothing differs.
    """
    try:
        mine = trace(candidate, feeds)
    except Stopped:
        return ""
    right = trace(of.proto, feeds)
    returned = {output.name for output in of.proto.graph.output}
    pairs = {name: name for node in of.proto.graph.node for name in node.output if name in mine}
    if set(pairs) <= returned and len(candidate.graph.node) == len(of.proto.graph.node):
        both = zip(of.proto.graph.node, candidate.graph.node, strict=True)
        pairs = dict(pair for old, new in both for pair in zip(old.output, new.output, strict=False))
    for node in of.proto.graph.node:
        for name in node.output:
            other = mine.get(pairs.get(name, ""))
            if other is not None and _differs(right[name], other, tolerance):
                return node.name if len(pairs) > len(returned) else ""
    return None


def _differs(right: np.ndarray, mine: np.ndarray, tolerance: float) -> bool:
    if right.shape != mine.shape:
        return True
    if right.dtype.kind != "f":
        return bool((right != mine).any())
    return not np.allclose(right, mine, rtol=0, atol=tolerance, equal_nan=True)


def polygraphy(of: Reference, candidate: onnx.ModelProto, feeds: Feeds, tolerance: float) -> tuple[str | None, float]:
    """`polygraphy run` with all outputs marked: the node of the first mismatch, as `first_beyond` has it, and seconds.

    It pairs tensors by name alone.
    """
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        _save_reference(of, feeds, place)
        onnx.save(candidate, str(place / "candidate.onnx"))
        common = ["--onnxrt", "--onnx-outputs", "mark", "all", "--data-loader-script", place / "loader.py"]
        second = [program("polygraphy"), "run", place / "candidate.onnx", *common]
        second += ["--load-outputs", place / "saved.json", "--atol", str(tolerance), "--rtol", "0"]
        done = subprocess.run(second, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    return _first_named(of, done.stdout + done.stderr, failed=done.returncode != 0), seconds


def polygraphy_reduce(
    of: Reference, candidate: onnx.ModelProto, feeds: Feeds, tolerance: float
) -> tuple[tuple[str, ...], float]:
    """`polygraphy debug reduce --mode=bisect`: nodes of the smallest part of a candidate that fails, and seconds.

    Each part is run on the reference's tensors, where it wants more than the feeds, and its outputs are compared with
    the reference's of the same names. It has `REDUCE_LIMIT_S`; no nodes where it finds nothing in that time.
    """
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        _save_reference(of, feeds, place)
        onnx.save(candidate, str(place / "candidate.onnx"))
        np.savez(place / "known.npz", **trace(of.proto, feeds))
        (place / "known.py").write_text(_ALL_LOADER.format(path=str(place / "known.npz")))
        shapes = [f"{name}:[{','.join(map(str, value.shape))}]" for name, value in feeds.items()]
        check = [program("polygraphy"), "run", "polygraphy_debug.onnx", "--onnxrt", "--data-loader-script"]
        check += [place / "known.py", "--load-outputs", place / "saved.json", "--atol", str(tolerance), "--rtol", "0"]
        reduce = [program("polygraphy"), "debug", "reduce", place / "candidate.onnx", "--mode=bisect"]
        reduce += ["--fail-regex", "Mismatched outputs", "-o", place / "reduced.onnx"]
        reduce += ["--model-input-shapes", *shapes, "--check", *check]
        try:
            subprocess.run(reduce, cwd=place, capture_output=True, check=False, timeout=REDUCE_LIMIT_S)
        except subprocess.TimeoutExpired:
            return (), time.perf_counter() - began
        path = place / "reduced.onnx"
        nodes = tuple(node.name for node in onnx.load(str(path)).graph.node) if path.exists() else ()
    return nodes, time.perf_counter() - began


def _save_reference(of: Reference, feeds: Feeds, place: Path) -> None:
    """The reference, the feeds, a script that loads them, and all of the reference's tensors as Polygraphy has them."""
    onnx.save(of.proto, str(place / "reference.onnx"))
    np.savez(place / "feeds.npz", **feeds)
    (place / "loader.py").write_text(_LOADER.format(path=str(place / "feeds.npz")))
    run = [program("polygraphy"), "run", place / "reference.onnx", "--onnxrt", "--onnx-outputs", "mark", "all"]
    run += ["--data-loader-script", place / "loader.py", "--save-outputs", place / "saved.json"]
    subprocess.run(run, check=True, capture_output=True)


def _first_named(of: Reference, text: str, *, failed: bool) -> str | None:
    if not failed:
        return None
    found = _MISMATCHED.search(text)
    names = {name.strip(" '\"") for name in found[1].split(",")} if found else set()
    return next((node.name for node in of.proto.graph.node if names & set(node.output)), "")
