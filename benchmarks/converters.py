"""What `regraft convert` reaches on seven architectures, beside exporters and converters that are used alone.

A peer's product is judged twice: by the rule that exporters come with (one random input of the size of the example,
`numpy.allclose` at a fixed limit) and by `regraft verify`, at several sizes and against the noise floor. The second
table plants bugs into a converter and asks who notices.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from benchmarks.peers import OURS, olive, onnx2tf

ROOT = Path(__file__).parent.parent
PEERS = Path(__file__).with_name("converters_peers.py")
NETWORKS = ("resnet", "bert", "decoder", "mobilenet", "lstm", "gru", "branching")
TARGETS = ("onnx", "openvino", "litert")
LIMITS = (1e-3, 1e-4, 1e-5)
"""Absolute limits; optimum's exporter validates with 1e-5 unless an architecture asks for another."""
LIMIT_S = 600


def main() -> str:
    from regraft.runtime.environments import make_environment

    os.environ["PYTHONPATH"] = str(ROOT)
    mobile = str(make_environment("mobile"))
    columns = [*(f"regraft → {form}" for form in TARGETS), "torch exporter", "Olive", "litert-torch", "onnx2tf"]
    lines = ["| network | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    with tempfile.TemporaryDirectory() as name:
        for network in NETWORKS:
            folder = Path(name) / network
            folder.mkdir()
            cells = [ours(network, form, folder) for form in TARGETS]
            onnx = folder / "exporter.onnx"
            cells += [peer([sys.executable, str(PEERS), "exporter", network, str(onnx)], network, onnx)]
            made = folder / "olive.onnx"
            cells += [peer([olive(), str(PEERS), "olive", network, str(made)], network, made)]
            made = folder / "litert.tflite"
            cells += [peer([mobile, str(PEERS), "litert", network, str(made)], network, made)]
            cells += [by_onnx2tf(network, onnx, folder)]
            lines.append(f"| {network} | " + " | ".join(cells) + " |")
            sys.stderr.write(lines[-1] + "\n")
    return "\n".join([*lines, "", *bugs()])


def ours(network: str, form: str, folder: Path) -> str:
    """What `regraft convert` comes to, and by which way."""
    told = _regraft("convert", f"py:benchmarks.seven:{network}", "--to", form, "-o", str(folder / form))
    if "error" in told:
        return f"refuses: {_short(told['error']['what'])}"
    ratios = [one["value"] for one in told["measurements"] if one["name"] == "rms_ratio" and one["value"]]
    hops = len(told["parameters"].get("route", ()))
    ratio = f" {max(ratios):.1f} floors, {hops} hop{'s'[: hops > 1]}" if ratios else f": {_short(told['summary'])}"
    return told["verdict"] + ratio


def peer(command: list[str], network: str, made: Path) -> str:
    """Whether the peer makes something, and what verify says of it."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        return f"not done after {LIMIT_S} s"
    if done.returncode or not made.exists():
        return f"refuses: {_short((done.stderr.strip() or 'no file').splitlines()[-1])}"
    return judged(network, made)


def by_onnx2tf(network: str, onnx: Path, folder: Path) -> str:
    """On a copy: this peer is known to write to its input."""
    if not onnx.exists():
        return "no ONNX to begin with"
    from benchmarks import seven

    copy, out = folder / "copy.onnx", folder / "onnx2tf"
    copy.write_bytes(onnx.read_bytes())
    _, feeds = getattr(seven, network)()
    inputs = [f"{name}:{','.join(map(str, value.shape))}" for name, value in feeds.items()]
    found = peer([onnx2tf(), str(PEERS), "onnx2tf", str(copy), str(out), *inputs], network, out / "copy_float32.tflite")
    changed = _digest(copy) != _digest(onnx)
    return found + (", rewrote its input" if changed else "")


def judged(network: str, made: Path) -> str:
    """The verdict of verify on a peer's product."""
    told = _regraft("verify", f"py:benchmarks.seven:{network}", str(made))
    if "error" in told:
        return f"made, not judged: {_short(told['error']['what'])}"
    ratios = [one["value"] for one in told["measurements"] if one["name"] == "rms_ratio" and one["value"]]
    return told["verdict"] + (f" {max(ratios):.1f} floors" if ratios else f": {_short(told['summary'])}")


def bugs() -> list[str]:
    """Planted bugs of a converter that answers: which rule notices. (Those that crash or refuse, everybody notices.)"""
    from tests.deployment.convert import test_search as planted

    lines = ["| planted bug | regraft convert | " + " | ".join(f"fixed {limit:g}" for limit in LIMITS) + " |",
             "|---|---|" + "---|" * len(LIMITS)]  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        model: Path = planted.model.__wrapped__(Path(name))
        for bug in (*planted.DIVERGING, *planted.UNPROVEN):
            is_noticed, made = _converted(model, planted.Buggy(bug), Path(name) / bug.__name__)
            rules = [_by_rule(model, made, limit) for limit in LIMITS]
            lines.append(f"| {bug.__name__} | " + " | ".join(map(_yes, (is_noticed, *rules))) + " |")
    return lines


def _converted(model: Path, member: Any, folder: Path) -> tuple[bool, Path]:
    """Whether a search in which this is the only converter says that something is wrong, and the file that it makes."""
    from tests.deployment.convert import test_search as planted

    from regraft.deployment.convert import convert, members
    from regraft.record.evidence import Verdict

    class Kept(type(member)):  # type: ignore[misc]
        def convert(self, source: Any) -> Any:
            made = member.convert(source)
            (folder / "kept.onnx").write_bytes(made.files["model.onnx"])
            return made

    folder.mkdir()
    only = (planted.Plugged(Kept(member._bug)),)
    with (
        mock.patch.object(members, "_MEMBERS", ()),
        mock.patch.object(members, "_third_parties", return_value=only),
    ):
        members.converters.cache_clear()
        members.own_converters.cache_clear()
        found = convert(model, to=planted.TARGET, out=folder / "made")
    members.converters.cache_clear()
    members.own_converters.cache_clear()
    told = any(one.rule == "convert.narrower" for one in found.evidence.findings)
    return told or found.evidence.verdict is not Verdict.PASS, folder / "kept.onnx"


def _by_rule(reference: Path, candidate: Path, limit: float) -> bool:
    """One random input, outputs of equal names, `allclose`."""
    import onnxruntime

    try:
        ours, theirs = (onnxruntime.InferenceSession(str(path)) for path in (reference, candidate))
        feeds = {"x": np.random.default_rng(0).normal(size=(2, 3, 9)).astype(np.float32)}
        said, other = (
            dict(zip([port.name for port in one.get_outputs()], one.run(None, feeds), strict=True))
            for one in (ours, theirs)
        )
    except Exception:  # noqa: BLE001  whatever the runtime raises: the file is refused
        return True
    return any(name not in other or not np.allclose(said[name], other[name], rtol=0, atol=limit) for name in said)


def _regraft(*arguments: str) -> Mapping[str, Any]:
    with tempfile.TemporaryDirectory() as store:
        command = [OURS, *arguments, "--json", "--no-progress", "--store", store]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=2 * LIMIT_S)
    try:
        found: Mapping[str, Any] = json.loads(done.stdout)
    except ValueError:
        return {"error": {"what": done.stderr.strip() or "nothing was said"}}
    return found


def _yes(noticed: bool) -> str:
    return "noticed" if noticed else "**passes**"


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _short(text: str) -> str:
    one = " ".join(text.split()).replace("|", "\\|")
    return one if len(one) <= 120 else f"{one[:120]}…"


if __name__ == "__main__":
    print(main())
