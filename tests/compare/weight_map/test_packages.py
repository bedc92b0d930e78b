"""Maps between published networks: MTCNN of two frameworks, and a TorchScript program written anew."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from regraft.compare.weight_map import WeightMap, map_weights
from regraft.runtime.graphs import operator_graph
from regraft.runtime.interface import Model
from regraft.runtime.named_weights import weight_values
from regraft.runtime.torch_factory import model_from_factory

sys.path.insert(0, str(Path(__file__).parents[3]))

from benchmarks.ports import mtcnn, silero
from benchmarks.ports.interface import Arrays

RNG = np.random.default_rng(0)


def _proven(reference: Model, candidate: Model, feeds: Arrays) -> WeightMap:
    found = map_weights(
        reference, candidate, feeds, inputs={port.name: port.name for port in candidate.signature.inputs}
    )
    assert {found.status_of(name) for name in found.shapes} == {"proven"}
    assert [*found.missing, *found.contradictions] == []
    return found


@pytest.mark.parametrize(("package", "is_flattened_otherwise"), [("keras", False), ("fdet", True)])
def test_refine_nets_of_three_packages_are_one(package: str, is_flattened_otherwise: bool) -> None:
    """From facenet-pytorch to Keras, and to what flattens (channels, width, height): the published numbers come out."""
    ours, theirs = mtcnn.published("facenet", "rnet"), mtcnn.published(package, "rnet")
    feeds = {"x": RNG.normal(size=(3, 3, 24, 24)).astype(np.float32)}
    found = _proven(ours, theirs, feeds)
    assert any(pair.inputs for pair in found.pairs) == is_flattened_otherwise
    made = found.to_candidate(weight_values(ours, operator_graph(ours, feeds)))
    published = weight_values(theirs, operator_graph(theirs, feeds))
    for name, value in made.items():
        np.testing.assert_array_equal(value, published[name], err_msg=name)


def test_a_program_with_its_state_is_mapped_both_ways() -> None:
    program, detector = (model_from_factory(f"benchmarks.ports.silero:{name}") for name in ("program", "detector"))
    feeds = {
        "x": RNG.normal(0, 0.1, (3, silero.CONTEXT + silero.CHUNK)).astype(np.float32),
        "state": RNG.normal(0, 0.3, (2, 3, silero.WIDTH)).astype(np.float32),
    }
    assert len(_proven(program, detector, feeds).pairs) == len(_proven(detector, program, feeds).pairs) == 15


def test_weights_that_meet_a_state_of_zeros_are_not_called_proven() -> None:
    from regraft.runtime.torch_script import TorchScriptModel

    program = TorchScriptModel(torch.jit.load(str(silero.PROGRAM), map_location="cpu"))
    candidate = model_from_factory("benchmarks.ports.silero:first_chunk")
    feeds = {"x": RNG.normal(0, 0.1, (3, silero.CHUNK)).astype(np.float32), "sr": np.array(16000)}
    found = map_weights(program, candidate, feeds, inputs={"x": "x"})
    statuses = {name: found.status_of(name) for name in found.shapes}
    assert {name for name, status in statuses.items() if status != "proven"} == {"lstm_cell.weight_hh"}
    assert statuses["lstm_cell.weight_hh"] == "consistent"
