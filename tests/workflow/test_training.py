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
NETWORKS = """
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

RNG = np.random.default_rng(0)
BATCHES = [(RNG.standard_normal((8, 5)).astype("float32"), RNG.integers(0, 3, 8)) for _ in range(3)]


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.last(torch.tanh(self.first(x)))


class Port(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.randn(5, 5)), nn.Parameter(torch.randn(5))
        self.c, self.d = nn.Parameter(torch.randn(5, 3)), nn.Parameter(torch.randn(3))

    def forward(self, x):
        return torch.tanh(x @ self.a + self.b) @ self.c + self.d


def training(model):
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    loss = lambda outputs, batch: F.cross_entropy(outputs, batch["targets"])
    return {"model": model, "batches": BATCHES, "loss": loss, "optimiser": optimiser}


def ours():
    torch.manual_seed(0)
    return training(Network())


def theirs():
    return training(Port())


def network():
    return ours()["model"], {"x": torch.ones(3, 5)}


def port():
    return Port(), {"x": torch.ones(3, 5)}
"""


@pytest.fixture(autouse=True)
def sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sides_of_trainings.py").write_text(SIDES)
    (tmp_path / "networks_of_trainings.py").write_text(NETWORKS)
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


@pytest.mark.parametrize("given", [["--fuzz", "5"], ["--replay", "x"], ["--emit-tests", "x"], ["--own-weights"]])
def test_options_of_networks_are_not_passed_over(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["replicate", "--training", "py:sides_of_trainings:one", "py:sides_of_trainings:one", *given]) == 2
    assert f"{given[0]} is for networks" in capsys.readouterr().err


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


def test_renamed_weights_are_paired_by_a_map_that_replicate_wrote_and_a_user_edited(tmp_path: Path, capsys) -> None:
    map_file = tmp_path / "map.toml"
    networks = ["py:networks_of_trainings:network", "py:networks_of_trainings:port"]
    assert run(["replicate", *networks, "-o", str(map_file), "-q"]) == 0
    sides = ["py:networks_of_trainings:ours", "py:networks_of_trainings:theirs"]

    paired = replicate_training(*sides, map_file=map_file)
    assert paired.verdict is Verdict.PASS
    compared = {one.of["stage"] for one in paired.measurements if "stage" in one.of}
    assert {"forward", "backward", "optimiser", "training"} <= compared
    assert replicate_training(*sides).verdict is Verdict.INCONCLUSIVE

    map_file.write_text(map_file.read_text().replace('weight = "a"\naxes = "IO"', 'weight = "a"\naxes = "OI"'))
    assert replicate_training(*sides, map_file=map_file).verdict is Verdict.FAIL  # not transposed any more

    map_file.write_text(map_file.read_text().replace('weight = "first.bias"', 'weight = "first.base"'))
    capsys.readouterr()
    assert run(["replicate", "--training", *sides, "--map", str(map_file), "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["hint"], error["where"]) == ("did you mean first.bias?", str(map_file))
