"""Faults planted in torch modules: each is one, and it is found in the module where it was planted, with its cause."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.localise_modules import damaged, located, onnx_graph, score, table, torch_graph
from benchmarks.modules.faults import FAULTS
from benchmarks.modules.networks import NETWORKS, feeds, model, network

from regraft.compare.localise import localise

ONE_A_NETWORK = {fault.network: fault for fault in FAULTS}.values()
"""The last one of each."""


@cache
def reference(name):
    return torch_graph(network(name), name)


def test_there_are_as_many_kinds_and_networks_as_promised():
    assert len({fault.kind for fault in FAULTS}) >= 15
    assert {fault.network for fault in FAULTS} == set(NETWORKS)
    assert len(NETWORKS) >= 4


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.network}-{fault.kind}-{fault.scope}")
def test_every_fault_changes_an_answer(fault):
    fed = feeds(fault.network, is_other=fault.is_baked)
    ours = model(network(fault.network), fault.network)(fed)
    theirs = model(damaged(fault), fault.network)(fed)
    differs = [
        theirs[name].shape != value.shape or not np.allclose(theirs[name], value) for name, value in ours.items()
    ]
    assert any(differs) or fault.kind == "epsilon", "a small epsilon hides below allclose, and not below the floor"


@pytest.mark.parametrize("fault", ONE_A_NETWORK, ids=lambda fault: f"{fault.network}-{fault.kind}")
def test_torch_against_torch_names_module_and_cause(fault):
    right = reference(fault.network)
    found = located(right, torch_graph(damaged(fault), fault.network), fault)
    result = score(fault, "torch, torch", right, found, 0.0)
    assert (result.detected, result.small, result.cause, result.extra) == (True, True, True, 0), result.said


def test_across_frameworks_too_and_nothing_in_what_was_exported_rightly():
    fault = next(one for one in FAULTS if one.kind == "untied")
    right, name = reference(fault.network), fault.network
    fed = feeds(name, is_other=True)
    sound = onnx_graph(network(name), name)
    assert localise(right, sound, fed, inputs=dict(zip(fed, sound.inputs, strict=True))).origins == ()
    result = score(fault, "torch, ONNX", right, located(right, onnx_graph(damaged(fault), name), fault), 0.0)
    assert (result.small, result.cause, result.extra) == (True, True, 0), result.said
    assert "| torch, ONNX | 1 | 1 |" in table([result])
