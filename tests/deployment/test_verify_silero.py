"""silero in TorchScript against its ONNX file, on speech: as a user would type it, right and wrong."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import numpy as np
import pytest

from regraft.cli.app import run
from regraft.deployment.verify import verify
from regraft.record.evidence import Verdict

SPEECH = 7 * 16000
"""Somebody talks there, seven seconds into the sample."""


@pytest.fixture
def onnx_file(asset, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = asset("pypi", "silero-vad", "6.2.3") / "silero_vad/data"
    monkeypatch.setenv("SILERO", str(folder))
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return folder / "silero_vad.onnx"


@pytest.fixture
def speech(asset) -> np.ndarray:
    """(8, 576): eight windows, each with the 64 samples before it."""
    with wave.open(str(asset("pypi", "pyannote-audio", "4.0.7") / "pyannote/audio/sample/sample.wav")) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32768
    return np.stack([samples[at - 64 : at + 512] for at in range(SPEECH, SPEECH + 8 * 512, 512)])


def _feeds(windows: np.ndarray) -> dict[str, np.ndarray]:
    return {"samples": windows, "state": np.zeros((2, len(windows), 128), np.float32), "sr": np.array(16000)}


def test_with_its_context_it_is_the_same_network(onnx_file, speech):
    evidence = verify("py:silero_factories:padded", onnx_file, feeds=_feeds(speech), localise=False)
    assert evidence.verdict is Verdict.PASS, evidence.summary
    assert evidence.parameters["feeds"][0] == "data"
    error = max(
        one.value for one in evidence.measurements if one.name == "max_abs_error" and one.of["output"] == "output_0"
    )
    assert error < 2.03e-6  # what was measured on the whole sample


def test_without_its_context_it_is_another_one(onnx_file, speech):
    evidence = verify("py:silero_factories:window", onnx_file, feeds=_feeds(speech[:, 64:]), localise=False)
    assert evidence.verdict is Verdict.FAIL
    worst = max(one.value for one in evidence.measurements if one.name == "rms_ratio")
    assert worst > 1e4  # the signal is shifted by a quarter of a frame: nothing like rounding


def test_the_files_as_they_are_do_not_correspond(onnx_file, capsys):
    status = run(["verify", str(onnx_file.with_suffix(".jit")), str(onnx_file), "--json"])
    shown = json.loads(capsys.readouterr().out)
    assert status == 3
    (finding,) = shown["findings"]
    assert finding["message"] == "the inputs do not correspond: x, sr against input, state, sr"
    assert "py:module:function" in finding["fix"]
