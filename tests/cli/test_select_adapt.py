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
