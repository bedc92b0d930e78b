"""regraft bundle: verdict line, JSON after the schema, exit codes, broken input."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from regraft.record.schema import evidence_schema


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "regraft", "bundle", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_evidence_after_the_schema_and_a_folder(asset: Callable[..., Path], tmp_path: Path) -> None:
    path = asset("pypi", "silero-vad", "6.2.3") / "silero_vad/data/silero_vad_16k_op15.onnx"
    done = run(path, "--as", "triton", "-o", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    jsonschema.validate(record, json.loads(evidence_schema()))
    assert (record["kind"], record["outcome"]) == ("bundle", "bundled")
    assert record["subject"][0]["name"] == "out"
    assert record["materials"][0]["name"] == path.name
    assert (tmp_path / "out/models/silero_vad_16k_op15/config.pbtxt").is_file()
    assert run(path, "--as", "triton", "-o", tmp_path / "out").returncode == 2, "it is never written over"


@pytest.mark.parametrize(
    ("arguments", "code", "hint"),
    [
        (("no/such/model", "--as", "plain"), "not-found", ""),
        ((".", "--as", "zip"), "usage", "plain, triton"),
        ((".",), "usage", "--help"),
        ((".", "--as", "plain", "-o", "no/such/folder/out"), "usage", "mkdir"),
    ],
)
def test_what_cannot_be_used_ends_in_2(
    arguments: tuple[str, ...], code: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*arguments, "--json")
    assert done.returncode == 2
    error = json.loads(done.stdout)["error"]
    assert error["code"] == code
    assert hint in error["hint"]
