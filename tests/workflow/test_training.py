"""replicate --training: two factories of the user's become evidence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from regraft.cli.app import run
from regraft.errors import UsageError
from regraft.record.evidence import Verdict
from regraft.workflow.training import replicate_training

SIDES = """
import numpy as np

SAMPLES = [np.arange(4.0) + i for i in range(3)]


def one():
    return {"samples": SAMPLES, "pipeline": [("scale", lambda x: x / 255)], "schedule": lambda step: 0.1, "steps": 9}


def other():
    return {**one(), "pipeline": [("scale", lambda x: x / 1)]}


def no_pipeline():
    return {"schedule": lambda step: 0.1, "steps": 9}


def nothing():
    return {}
"""


@pytest.fixture(autouse=True)
def sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sides_of_trainings.py").write_text(SIDES)
    monkeypatch.syspath_prepend(str(tmp_path))


def test_trainings_that_do_the_same_pass() -> None:
    found = replicate_training("py:sides_of_trainings:one", "py:sides_of_trainings:one")

    assert (found.verdict, found.outcome) == (Verdict.PASS, "replicated")
    assert found.summary == "rounding explains every difference in pipeline, schedule"


def test_a_stage_that_differs_fails_with_its_place_and_cause() -> None:
    found = replicate_training("py:sides_of_trainings:one", "py:sides_of_trainings:other")

    (finding,) = (one for one in found.findings if one.rule == "stage.diverges")
    assert found.verdict is Verdict.FAIL
    assert (finding.data["stage"], finding.data["place"], finding.data["cause"]) == ("pipeline", "scale", "value range")


def test_nothing_in_common_decides_nothing() -> None:
    found = replicate_training("py:sides_of_trainings:nothing", "py:sides_of_trainings:nothing")

    assert found.verdict is Verdict.INCONCLUSIVE


def test_a_package_is_no_training() -> None:
    with pytest.raises(UsageError, match="a training is code of your own"):
        replicate_training("model.pt", "py:sides_of_trainings:one")


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["replicate", "--training", "py:sides_of_trainings:one", "py:sides_of_trainings:other", "--json"]
    status = run([*arguments, "--store", str(tmp_path / "store")])

    assert status == 1
    assert json.loads(capsys.readouterr().out)["outcome"] == "differs"


def test_pipelines_are_timed_where_that_is_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["replicate", "--training", "--profile", "py:sides_of_trainings:one", "py:sides_of_trainings:one"]
    status = run([*arguments, "--json", "--store", str(tmp_path / "store")])

    found = json.loads(capsys.readouterr().out)
    assert status == 0
    assert "in scale" in next(one["message"] for one in found["findings"] if one["rule"] == "stage.timed")
    timed = [one["of"] for one in found["measurements"] if one["name"] == "step_wall"]
    assert timed == [{"side": side, "step": "scale", "share": 1.0} for side in ("reference", "candidate")]


def test_a_pipeline_that_cannot_be_timed_is_inconclusive() -> None:
    found = replicate_training(
        "py:sides_of_trainings:one", "py:sides_of_trainings:no_pipeline", stages=["schedule"], is_profiled=True
    )

    assert found.verdict is Verdict.INCONCLUSIVE
    assert "there are no steps" in next(one.message for one in found.findings if one.rule == "stage.not_timed")
