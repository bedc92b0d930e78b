"""regraft reproduce: exit codes, JSON after the schema, broken input."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from regraft.record.schema import evidence_schema

REGRAFT = [sys.executable, "-m", "regraft"]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [*REGRAFT, "reproduce", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture
def claim(asset: Callable[..., Path], tmp_path: Path) -> Path:
    path = tmp_path / "vad.yaml"
    model = asset("pypi", "silero-vad", "6.2.3") / "silero_vad/data/silero_vad.onnx"
    data = asset("pypi", "pyannote-audio", "4.0.7") / "pyannote/audio/sample"
    path.write_text(
        f"schema: regraft.claim/1\nmodel: {model}\ndata: {data}\nevaluation: voice-activity\n"
        'metric: roc_auc\nvalue: "0.9958"\nscoring: {label: last}\n'
    )
    return path


def test_a_true_claim_passes_and_a_wrong_one_fails(claim: Path) -> None:
    done = run(claim, "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    jsonschema.validate(record, json.loads(evidence_schema()))
    assert (record["kind"], record["outcome"]) == ("reproduce", "reproduced")
    claim.write_text(claim.read_text().replace("0.9958", "0.9990"))
    done = run(claim, "-q", "--repeats", 1, "--threads", 1)
    assert done.returncode == 1
    assert done.stdout.startswith("✗ fail · not_reproduced: roc_auc 0.9990 does not hold")


def test_what_cannot_be_decided_ends_in_3(claim: Path) -> None:
    text = claim.read_text().replace('"0.9958"', '"0.996"')
    claim.write_text(text + "sample: other\n")
    done = run(claim, "-q", "--repeats", 1, "--threads", 1)
    assert done.returncode == 3, done.stderr
    assert done.stdout.startswith("? inconclusive · undecided")


def test_what_cannot_be_used_ends_in_2(claim: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text(claim.read_text().replace('"0.9958"', "0.9958"))
    for path, code in ((broken, "usage"), (tmp_path / "none.yaml", "not-found")):
        done = run(path, "--json")
        assert done.returncode == 2
        error = json.loads(done.stdout)["error"]
        assert error["code"] == code
        assert str(path) in error["where"]
        assert "Traceback" not in done.stderr
