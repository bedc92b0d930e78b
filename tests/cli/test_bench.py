"""regraft bench: one line of verdict, JSON after the schema, exit codes, broken input."""

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
    return subprocess.run([*REGRAFT, *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture
def quick(asset: Callable[..., Path], tmp_path: Path) -> list[object]:
    """Arguments that measure the smallest text package in a few passes."""
    texts = tmp_path / "texts.txt"
    texts.write_text("one text\n\nand another one\n")
    folder = asset("pypi", "wordllama", "0.4.0.post1")
    return [folder, "--texts", texts, "--runs", 8, "--starts", 1, "--batch", 1, "--row-limit", 2]


def test_evidence_after_the_schema_and_a_budget_that_cannot_be_met(quick: list[object], tmp_path: Path) -> None:
    device = tmp_path / "watch.yaml"
    device.write_text("schema: regraft.device/1\nsize: 1 MB\npeak_memory: 10 GB\n")
    done = run("bench", *quick, "--device", device, "--json")
    assert done.returncode == 1, done.stderr
    record = json.loads(done.stdout)
    jsonschema.validate(record, json.loads(evidence_schema()))
    assert (record["kind"], record["outcome"]) == ("bench", "over budget")
    assert "watch" in [one["name"] for one in record["materials"]]
    assert record["summary"].startswith("pypi-wordllama-0.4.0.post1 in numpy, against watch: size ≤ 1 MB")


def test_a_pass_begins_with_the_verdict(quick: list[object]) -> None:
    done = run("bench", *quick)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("✓ pass · measured: pypi-wordllama-0.4.0.post1 in numpy: p95")
    assert "8 runs" in done.stdout.replace("\n", " ")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("no/such/model",), "not-found"),
        ((".", "--texts", "no/such/texts"), "not-found"),
        ((".", "--feeds", "no/such.npz"), "not-found"),
        ((".", "--device", "no/such.yaml"), "not-found"),
        ((".", "--batch", "0"), "usage"),
        ((".", "--texts", "x", "--feeds", "y"), "usage"),
        ((), "usage"),
        (("model.onnx", "--precision", "float32", "--precision", "float7"), "usage"),
        (("model.onnx", "--runtime", "onnxruntime", "--runtime", "nope"), "usage"),
    ],
)
def test_what_cannot_be_used_ends_in_2(arguments: tuple[str, ...], code: str) -> None:
    done = run("bench", *arguments, "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == code
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("option", "named"), [("--precision", "bfloat16"), ("--runtime", "openvino")])
def test_a_name_that_nothing_has_is_answered_with_those_that_there_are(option: str, named: str, tmp_path: Path) -> None:
    done = run("bench", tmp_path, option, "nope", "--json")
    assert done.returncode == 2
    assert named in json.loads(done.stdout)["error"]["hint"]
