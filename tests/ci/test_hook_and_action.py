"""The pre-commit hook and the GitHub Action: their files, and the script of the action, run as a runner would."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
HARM = b"cos\nsystem\n(S'echo harm'\ntR."


@pytest.fixture(scope="module")
def hook():
    return yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())[0]


@pytest.fixture(scope="module")
def script():
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    return next(step["run"] for step in action["runs"]["steps"] if step.get("id") == "scan")


@pytest.mark.parametrize(
    ("name", "wanted"), [("a/model.pt", True), ("w.safetensors", True), ("x.py", False), ("pt", False)]
)
def test_the_hook_takes_model_files(hook, name, wanted):
    assert bool(re.search(hook["files"], name)) is wanted


@pytest.mark.parametrize(("content", "status"), [(HARM, 1), (b"\x80\x02N.", 0)])
def test_the_hook_stops_a_commit_that_brings_harm(hook, tmp_path, content, status):
    path = tmp_path / "model.pkl"
    path.write_bytes(content)
    command = [str(BIN / "regraft"), *shlex.split(hook["entry"])[1:], str(path)]
    assert subprocess.run(command, capture_output=True).returncode == status


def act(script: str, folder: Path, **inputs: str) -> tuple[int, dict[str, str], str]:
    outputs, summary = folder / "outputs", folder / "summary"
    outputs.touch()
    defaults = {"ALLOW_FILE": "", "FAIL_ON": "inconclusive", "SARIF": str(folder / "scan.sarif")}
    environment = {
        **os.environ,
        **defaults,
        "GITHUB_OUTPUT": str(outputs),
        "GITHUB_STEP_SUMMARY": str(summary),
        "PATH": f"{BIN}:{os.environ['PATH']}",
        **inputs,
    }
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", script], env=environment, capture_output=True, cwd=folder
    )
    values = dict(line.split("=", 1) for line in outputs.read_text().splitlines())
    return done.returncode, values, summary.read_text() if summary.exists() else ""


def test_the_action_fails_on_harm_and_writes_what_it_found(script, tmp_path):
    (tmp_path / "model.pkl").write_bytes(HARM)
    (tmp_path / "weights.csv").write_text("a,b\n1,2\n")
    status, outputs, summary = act(script, tmp_path, REFS="model.pkl\n\n  \nweights.csv\n")
    assert (status, outputs) == (1, {"verdict": "fail"})
    assert "os.system" in summary
    assert [run["properties"]["verdict"] for run in json.loads((tmp_path / "scan.sarif").read_text())["runs"]] == [
        "fail",
        "pass",
    ]


@pytest.mark.parametrize(("fail_on", "status"), [("inconclusive", 3), ("dangerous", 0)])
def test_the_action_lets_the_user_decide_about_the_inconclusive(script, tmp_path, fail_on, status):
    (tmp_path / "x.bin").write_bytes(bytes(range(7, 250)) * 3)
    assert act(script, tmp_path, REFS="x.bin", FAIL_ON=fail_on)[:2] == (status, {"verdict": "inconclusive"})


def test_the_action_takes_reviews(script, tmp_path):
    (tmp_path / "x.bin").write_bytes(bytes(range(7, 250)) * 3)
    (tmp_path / "allow.yaml").write_text("allow:\n- {entry: 'RGS-FMT-001:x.bin', reason: a table of our own}\n")
    assert act(script, tmp_path, REFS="x.bin", ALLOW_FILE="allow.yaml")[:2] == (0, {"verdict": "pass"})


def test_the_action_says_when_there_is_nothing_to_scan(script, tmp_path):
    assert act(script, tmp_path, REFS="nowhere.bin")[0] == 2
