"""regraft bundle: verdict line, JSON after the schema, exit codes, broken input."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
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


def test_an_empty_folder_that_is_there_is_filled(asset: Callable[..., Path], tmp_path: Path) -> None:
    path = asset("pypi", "silero-vad", "6.2.3") / "silero_vad/data/silero_vad_16k_op15.onnx"
    (tmp_path / "out").mkdir()
    done = run(path, "--as", "oci", "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/bundle.json").is_file()


def test_a_scheduler_that_ends_it_leaves_no_half_folder(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with (source / "weights.bin").open("wb") as file:
        file.truncate(256 << 20)  # sparse; its copy takes long enough to be met
    command = [sys.executable, "-m", "regraft", "bundle", source, "--as", "oci", "-o", tmp_path / "out"]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.glob(".out.*")):
        assert child.poll() is None, "it ended before it wrote anything"
        time.sleep(0.002)
    child.send_signal(signal.SIGTERM)
    _, stderr = child.communicate(timeout=60)
    assert child.returncode == 130, stderr
    assert [path.name for path in tmp_path.iterdir() if path.name.lstrip(".").startswith("out")] == []


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
