from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from regraft.cli.app import run


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    """Short reviews of made-up films that word vectors can tell apart."""
    good, bad = ("wonderful", "moving", "brilliant"), ("dull", "awful", "tedious")
    things = ("film", "plot", "cast", "music", "ending", "story", "pace", "script", "scene", "joke")
    rows = [
        f"the {thing} is {word} and {other},{label}"
        for words, label in ((good, "good"), (bad, "bad"))
        for thing in things
        for word in words
        for other in words
    ]
    path = tmp_path / "reviews.csv"
    path.write_text("\n".join(["text,label", *rows]) + "\n")
    return path


def test_select_then_adapt(
    asset: Callable[[str, str, str], Path], reviews: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ref = str(asset("pypi", "wordllama", "0.4.0.post1"))
    common = ["--data", str(reviews), "--learn", "80", "--held-out", "80", "--no-progress"]
    assert run(["select", f"words={ref}", *common, "--no-curve", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["kind"] == "select"
    assert record["parameters"]["candidates"] == [f"words={ref}"]
    assert record["parameters"]["data"]["learn"] == 80
    out = tmp_path / "mine"
    assert run(["adapt", ref, *common, "-o", str(out)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("✓")
    assert "held-out rows" in shown
    assert (out / "regraft.json").is_file()
    assert run(["adapt", ref, *common, "-o", str(out)]) == 2
    assert str(out) in capsys.readouterr().err


def test_bad_input_has_its_exit_status(
    asset: Callable[[str, str, str], Path], reviews: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ref = str(asset("pypi", "wordllama", "0.4.0.post1"))
    assert run(["select", ref, "--data", str(reviews), "--text", "texts"]) == 2
    assert "did you mean" in capsys.readouterr().err
    assert run(["select", ref, "--data", str(reviews), "--where", "label"]) == 2
    assert "is no pair" in capsys.readouterr().err
    assert run(["select", ref, "--data", str(reviews), "--where", "label=good", "--no-progress"]) == 3
    assert "nothing to tell apart" in capsys.readouterr().out
    budget = tmp_path / "tiny.yaml"
    budget.write_text("schema: regraft.device/1\nsize: 1 MB\n")
    assert run(["select", ref, "--data", str(reviews), "--device", str(budget), "--no-progress"]) == 1
    assert "no candidate fits" in capsys.readouterr().out
    assert run(["adapt", ref, "--data", str(reviews), "--where", "label=good", "-o", str(tmp_path / "x")]) == 3
    assert not (tmp_path / "x").exists()


NETWORK = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.filters = torch.nn.Conv2d(1, 4, 3, padding=1)
        self.pool = torch.nn.AvgPool2d(4)

    def forward(self, pixels):
        return self.pool(torch.relu(self.filters(pixels))).sum()

def build(): return Net(), {"pixels": torch.zeros(1, 1, 8, 8)}
"""


def test_code_of_ones_own_builds_the_network_for_bare_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import numpy as np
    from safetensors.numpy import save_file
    from sklearn.datasets import load_digits

    (tmp_path / "own_code.py").write_text(NETWORK)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    rng = np.random.default_rng(0)
    weights = {"filters.weight": rng.normal(size=(4, 1, 3, 3)), "filters.bias": np.zeros(4)}
    save_file({name: value.astype(np.float32) for name, value in weights.items()}, tmp_path / "bare.safetensors")
    found = load_digits()
    rows = [i for i in range(600) if found.target[i] in (0, 1)]
    lines = [",".join(map(str, [*found.data[i].astype(int), found.target[i]])) for i in rows]
    (tmp_path / "digits.csv").write_text("\n".join(lines) + "\n")
    common = ["--data", str(tmp_path / "digits.csv"), "--learn", "60", "--held-out", "50", "--no-progress"]
    ref, code = str(tmp_path / "bare.safetensors"), "own_code:build"
    chosen = ["--factory", f"mine={code}", "--tap", "mine=pool"]
    assert run(["select", f"mine={ref}", *chosen, *common, "--no-curve", "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)["measurements"]
    (accuracy,) = [
        one["value"]
        for one in measured
        if one["name"] == "accuracy" and one["of"]["candidate"] == "mine" and one["of"]["split"] == "held-out"
    ]
    assert accuracy > 0.9  # noughts and ones
    out = tmp_path / "made"
    assert run(["adapt", ref, "--factory", code, "--tap", "pool", *common, "-o", str(out)]) == 0
    assert (out / "encoder/model.pt2").is_file()
    assert run(["select", ref, "--factory", f"other={code}", *common]) == 2
    assert "no candidate is called 'other'" in capsys.readouterr().err
