from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from regraft.cli.app import run
from regraft.errors import NotFound, UsageError
from regraft.record.evidence import Verdict
from regraft.record.store import open_store
from regraft.workflow.isolation import verify_apart
from regraft.workflow.verify import verify

SOUND, CRASHING, HANGING = (f"py:crashing_factories:{name}" for name in ("sound", "crashing", "hanging"))


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "doubles"))


def test_what_ends_well_is_the_same_evidence(tmp_path):
    np.savez(tmp_path / "mine.npz", x=np.ones((2, 4), "float32"))
    feeds = tmp_path / "mine.npz"
    apart = verify(SOUND, SOUND, isolate=True, feeds=feeds, seed=3, store=open_store(tmp_path / "store"))
    here = verify(SOUND, SOUND, feeds=feeds, seed=3, store=open_store(tmp_path / "store"))
    assert apart.verdict is Verdict.PASS
    assert (apart.findings, apart.subject, apart.parameters) == (here.findings, here.subject, here.parameters)


def test_a_crash_is_inconclusive_evidence_with_the_signal():
    evidence = verify(SOUND, CRASHING, isolate=True)
    assert (evidence.verdict, evidence.outcome) == (Verdict.INCONCLUSIVE, "undecided")
    (finding,) = evidence.findings
    assert finding.rule == "verify.crashed"
    assert "SIGSEGV" in finding.message
    assert "torch_module.py" in finding.message  # the runtime that it died in
    assert "Fatal Python error: Segmentation fault" in finding.data["log"]


def test_a_hang_is_ended():
    began = time.monotonic()
    evidence = verify_apart(HANGING, SOUND, time_limit_s=15)
    assert time.monotonic() - began < 120  # of the 600 s that it sleeps; the worker's imports come first
    (finding,) = evidence.findings
    assert (finding.rule, finding.data["ending"]) == ("verify.crashed", "timed_out")
    assert finding.fix == "If it only needs longer, allow more: --time-limit 60"


def test_greed_for_memory_is_ended():
    evidence = verify_apart(SOUND, SOUND, memory_limit_bytes=50 << 20)  # torch alone takes more
    (finding,) = evidence.findings
    assert (finding.rule, finding.data["ending"]) == ("verify.crashed", "out_of_memory")


def test_packages_are_named_even_then(tmp_path):
    node = helper.make_node("MatMul", ["x", "w"], ["output_0"])
    ports = [helper.make_tensor_value_info(n, 1, ["batch", size]) for n, size in (("x", 4), ("output_0", 3))]
    weight = numpy_helper.from_array(np.ones((4, 3), "float32"), "w")
    graph = helper.make_graph([node], "g", ports[:1], ports[1:], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "model.onnx")
    evidence = verify_apart(tmp_path / "model.onnx", CRASHING)
    assert evidence.findings[0].rule == "verify.crashed"
    assert evidence.materials[0].digest == "computed"
    assert [subject.name for subject in evidence.materials[1:]] == ["model.onnx"]


def test_errors_pass_through():
    with pytest.raises(NotFound, match="nothing at this path"):
        verify(SOUND, "/nowhere/at/all", isolate=True)


def test_what_cannot_be_sent_is_refused():
    with pytest.raises(UsageError, match="cannot be sent to another one"):
        verify(object(), SOUND, isolate=True)
    with pytest.raises(UsageError, match="cannot be sent"):
        verify(SOUND, SOUND, isolate=True, feeds={"x": np.zeros((1, 4), "float32")})


def test_the_command_goes_on(capsys):
    status = run(["verify", SOUND, CRASHING, "--isolate", "--json"])
    shown = json.loads(capsys.readouterr().out)
    assert (status, shown["findings"][0]["rule"]) == (3, "verify.crashed")
