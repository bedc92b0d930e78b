"""Graphs that recognise an input fail; masks, pooling, thresholds and branches on settings are ordinary."""

from __future__ import annotations

import pytest
from tests.trust.corpus.graph_triggers import samples

from regraft.package.formats import Probe, recognise
from regraft.package.reader import BytesReader, FileReader
from regraft.trust.scan.graph_triggers import GraphTriggersFamily
from regraft.trust.scan.interface import Site

SAMPLES = {sample.name: sample for sample in samples() if not sample.is_held_out}
EXPECTED = {"malicious": {"RGS-GRF-001"}, "unclear": {"RGS-GRF-002"}, "benign": set()}


def rules(probe: Probe) -> set[str]:
    site = Site(probe.name, None, probe, recognise(probe))
    return {finding.rule for finding in GraphTriggersFamily().examine(site)}


@pytest.mark.parametrize("name", SAMPLES)
def test_each_graph_by_what_it_does(name: str) -> None:
    [(path, content)] = SAMPLES[name].files.items()
    assert rules(Probe(BytesReader(content, where=path), path)) == EXPECTED[SAMPLES[name].kind]


@pytest.mark.parametrize(
    ("package", "file"),
    [
        (("pypi", "silero-vad", "6.2.3"), "silero_vad/data/silero_vad.onnx"),
        (("pypi", "silero-vad", "6.2.3"), "silero_vad/data/silero_vad_16k_op15.onnx"),
        (("pypi", "magika", "1.0.3"), "magika/models/standard_v3_3/model.onnx"),
        (("pypi", "basic-pitch", "0.4.0"), "basic_pitch/saved_models/icassp_2022/nmp.tflite"),
        (("pypi", "captcha-recognizer", "1.0.2"), "captcha_recognizer/models/slider.onnx"),
    ],
)
def test_real_graphs_are_ordinary(asset, package, file):
    probe = Probe(FileReader(asset(*package) / file), file)
    assert rules(probe) == set()


@pytest.mark.parametrize("cut", [50, 200, 500])
def test_damaged_graphs_are_left_to_others(cut: int) -> None:
    for sample in list(SAMPLES.values())[:3]:
        [(path, content)] = sample.files.items()
        rules(Probe(BytesReader(content[:cut], where=path), path))
