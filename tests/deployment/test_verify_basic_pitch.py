"""basic-pitch as ONNX and as TFLite: one network, also where near silence makes it answer by rounding alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from regraft.deployment.verify import verify
from regraft.package.package import open_package
from regraft.record.evidence import Verdict
from regraft.runtime import load
from regraft.runtime.feeds import FeedCase
from regraft.runtime.trace_files import write_trace

SAMPLES, RATE = 43844, 22050


@pytest.fixture(scope="module")
def folder(asset) -> Path:
    return asset("pypi", "basic-pitch", "0.4.0") / "basic_pitch/saved_models/icassp_2022"


@pytest.fixture(scope="module")
def recorded(folder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the TFLite file answers to a tone, to silence, and to noise of −160 dB."""
    sounds = {
        "tone": 0.3 * np.sin(2 * np.pi * 440 * np.arange(SAMPLES) / RATE),
        "silence": np.zeros(SAMPLES),
        "near silence": 1e-8 * np.random.default_rng(0).normal(size=SAMPLES),
    }
    with open_package(str(folder / "nmp.tflite")) as package:
        model = load(package)
        name = model.signature.inputs[0].name
        cases = [FeedCase(label, {name: x.astype(np.float32)[None, :, None]}, "data") for label, x in sounds.items()]
        trace = write_trace(tmp_path_factory.mktemp("traces") / "tflite", model, cases)
        model.close()
    return trace


def test_onnx_and_tflite_are_one_network(folder, recorded):
    evidence = verify(folder / "nmp.onnx", f"trace:{recorded}", localise=False)
    assert evidence.verdict is Verdict.PASS, evidence.summary
    assert evidence.parameters["feeds"] == ["tone", "silence", "near silence"]
    largest = max(one.value for one in evidence.measurements if one.name == "max_abs_error")
    assert largest > 1e-3, "a logarithm of next to nothing, stretched to 0 … 1: the reference itself is off by as much"


def test_a_fixed_tolerance_would_call_that_a_fault(folder, recorded):
    with open_package(str(folder / "nmp.onnx")) as one, open_package(f"trace:{recorded}") as other:
        ours, theirs = load(one), load(other)
        apart = {}
        for case in theirs.recorded_feeds():
            answers = theirs(case.feeds)
            apart[case.name] = max(
                float(np.abs(value - answers[name]).max()) for name, value in ours(case.feeds).items()
            )
    assert apart["tone"] < 1e-5
    assert apart["silence"] < 1e-6
    assert apart["near silence"] > 1e-3
