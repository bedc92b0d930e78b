"""A trace on either side of a verification: what another process recorded is judged as a model would be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from regraft.cli.app import run
from regraft.deployment.verify import verify
from regraft.record.evidence import Verdict
from regraft.runtime.feeds import generated_feeds
from regraft.runtime.onnxruntime_model import OnnxRuntimeModel
from regraft.runtime.trace_files import write_trace


@pytest.fixture
def candidate(attention, attention_onnx, tmp_path: Path) -> Path:
    """What onnxruntime answered on eight sets of feeds."""
    model = OnnxRuntimeModel(attention_onnx.read_bytes())
    return write_trace(tmp_path / "candidate", model, list(generated_feeds(attention.signature))[:8])


def test_a_recorded_candidate_is_judged_on_its_own_feeds(attention, candidate):
    evidence = verify(attention, f"trace:{candidate}")
    assert (evidence.verdict, evidence.outcome) == (Verdict.PASS, "equivalent"), evidence.summary
    assert len(evidence.parameters["feeds"]) == 8
    assert evidence.subject[0].digest == "computed"


def test_a_recorded_fault_is_found(attention, faulty, candidate):
    broken = faulty(lambda net: setattr(net.norm, "eps", 1e-3))
    evidence = verify(broken, f"trace:{candidate}")
    assert evidence.verdict is Verdict.FAIL


def test_a_recorded_reference_needs_its_float64_passes(attention, attention_onnx, tmp_path):
    cases = list(generated_feeds(attention.signature))[:5]
    exact = write_trace(tmp_path / "exact", attention, cases, is_exact_too=True)
    evidence = verify(f"trace:{exact}", attention_onnx)
    assert evidence.verdict is Verdict.PASS, evidence.summary
    assert evidence.parameters["floor"] == "float64"
    alone = write_trace(tmp_path / "alone", attention, cases)
    assert verify(f"trace:{alone}", attention_onnx).verdict is Verdict.INCONCLUSIVE


def test_two_records_are_compared(attention, candidate, tmp_path):
    cases = list(generated_feeds(attention.signature))[:8]
    reference = write_trace(tmp_path / "reference", attention, cases, is_exact_too=True)
    assert verify(f"trace:{reference}", f"trace:{candidate}").verdict is Verdict.PASS


def test_feeds_that_were_not_recorded_decide_nothing(attention, attention_onnx, tmp_path):
    model = OnnxRuntimeModel(attention_onnx.read_bytes())
    cases = list(generated_feeds(attention.signature))[:1]
    secret = write_trace(tmp_path / "run", model, cases, keep_inputs=False)
    other = {"x": np.zeros((1, 5, 3), "float32")}
    evidence = verify(attention, f"trace:{secret}", feeds=other)
    assert evidence.verdict is Verdict.INCONCLUSIVE
    assert "none of the 1 that were recorded" in evidence.findings[0].message
    assert verify(attention, f"trace:{secret}", feeds=cases[0].feeds).verdict is Verdict.PASS


def test_the_command_takes_a_trace(attention_onnx, candidate, capsys):
    status = run(["verify", f"trace:{candidate}", str(attention_onnx), "--json"])
    shown = json.loads(capsys.readouterr().out)
    assert (status, shown["verdict"]) == (3, "inconclusive")  # a reference without float64 has no floor
    assert run(["verify", str(attention_onnx), f"trace:{candidate}", "--json"]) == 0
    (candidate / "trace.json").unlink()
    assert run(["verify", str(attention_onnx), f"trace:{candidate}"]) == 2
