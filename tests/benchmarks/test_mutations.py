from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.localise import is_healed
from benchmarks.mutations import architectures, corpus, variants
from benchmarks.mutations.baselines import first_beyond
from benchmarks.mutations.effects import FAINT, difference
from benchmarks.mutations.faults import KINDS
from benchmarks.mutations.interface import Effect, Fault
from benchmarks.mutations.renaming import graphs
from benchmarks.mutations.rewrites import REWRITES
from benchmarks.mutations.running import Stopped, run, trace
from benchmarks.mutations.scoring import original_names, score, upper_bound

HANDWRITTEN = ("encoder", "lstm", "control_flow", "detection", "integers", "quantised")
EVERY = ("resnet", "gru", *HANDWRITTEN)
"""Networks that need neither torch nor downloaded packages; those that every test looks at."""

ROUNDING = 5e-6
"""RMS of what another order of float32 operations does to these networks, relative to the output: at most 1.3e-6 was
seen (residual network after batch norms are folded); a fault smaller than this would not be told from it here."""


@cache
def _planted(name):
    """One mutant of each kind that the network has a place for, and pairs."""
    return corpus.planted_in(name, places=1)


@pytest.fixture(params=HANDWRITTEN)
def network(request):
    return architectures.reference(request.param)


def test_there_are_as_many_kinds_and_architectures_as_promised():
    assert len(KINDS) >= 40
    assert len({kind.cause for kind in KINDS.values()}) >= 40
    assert len(architectures.MEMBERS) >= 7
    assert len({architectures.reference(name).architecture for name in EVERY}) >= 6  # without the exported ones


def test_every_kind_says_what_it_is():
    assert [name for name, kind in KINDS.items() if not kind.plant.__doc__] == []


def test_references_run_on_feeds_of_several_sizes_and_stay_alive(network):
    sizes = set()
    for feeds in network.feeds:
        values = trace(network.proto, feeds)
        sizes.add(tuple(value.shape for value in feeds.values()))
        for name, value in values.items():
            if value.dtype.kind == "f" and value.size > 8:
                assert np.isfinite(value).all(), name
                assert value.std() > 1e-6, f"{name} is dead"
    assert len(sizes) > 1


def test_every_mutant_runs_and_does_what_its_label_says(network):
    right = [run(network.proto, feeds) for feeds in network.feeds]
    names = {node.name for graph in graphs(network.proto.graph) for node in graph.node}
    planted = _planted(network.name)
    assert len({entry.steps[0][0] for entry in planted}) >= 20
    for entry in planted:
        mutant = corpus.mutant(entry)
        onnx.checker.check_model(mutant.proto)
        mine = run(mutant.proto, network.feeds[0])
        assert {name: value.shape for name, value in mine.items()} == {k: v.shape for k, v in right[0].items()}
        assert _is_visible(network, mutant.proto, right) == (entry.effect.label in ("visible", "faint")), entry.name
        left = {node.name for graph in graphs(mutant.proto.graph) for node in graph.node}
        for fault in mutant.faults:
            assert set(fault.origin) <= names, entry.name
            assert set(fault.candidate) <= left, entry.name
            assert fault.equivalent or entry.effect.label != "equivalent"


def test_almost_every_kind_changes_an_answer_of_some_network():
    visible = _visible_kinds(entry for name in EVERY for entry in _planted(name))
    rare = tuple(KINDS.keys() - visible)  # in one place they did nothing; there are others
    visible |= _visible_kinds(entry for name in EVERY for entry in corpus.planted_in(name, kinds=rare))
    # rotary positions, grouped heads and LayerNormalization nodes are in the exported networks; a mask of -1e9 is as
    # good as one of -1e4 wherever something may be looked at
    assert KINDS.keys() - visible <= {"rotation_sign", "tile_for_repeat", "norm_axis", "mask_value_finite"}


def _visible_kinds(entries):
    return {entry.steps[0][0] for entry in entries if len(entry.steps) == 1 and entry.effect.label == "visible"}


def _is_visible(network, proto, right):
    """Whether any output differs on any feeds; a difference that may be rounding is left to the label."""
    worst = 0.0
    for feeds, value in zip(network.feeds, right, strict=True):
        try:
            mine = run(proto, feeds)
        except Stopped:
            return True
        worst = max(worst, *(difference(value[name], mine[name])[0] for name in value))
    return worst >= FAINT / 2


def test_the_same_seed_plants_the_same_faults():
    first, second = _planted("gru"), corpus.planted_in("gru", places=1)
    assert first == second
    assert corpus.mutant(first[0]).proto == corpus.mutant(second[0]).proto


def test_pairs_have_two_faults_at_different_places():
    doubles = [entry for entry in corpus.planted_in("gru") if len(entry.steps) == 2]
    assert doubles
    for entry in doubles:
        first, second = corpus.mutant(entry).faults
        assert first.kind != second.kind
        assert entry.steps[0][1] != entry.steps[1][1]


def test_a_swapped_bias_of_an_lstm_is_equivalent_and_one_of_a_gru_that_resets_late_is_not():
    labels = {
        (name, node): entry.effect.label
        for name in ("lstm", "gru")
        for entry in corpus.planted_in(name, kinds=("bias_halves_swapped",))
        for _, node in entry.steps
    }
    assert labels[("lstm", "layer0/LSTM")] == "equivalent"
    assert labels[("gru", "layer0/GRU")] == "visible"


def test_a_baked_size_shows_at_other_sizes_only():
    (entry,) = (one for one in corpus.planted_in("encoder", kinds=("baked_size",)) if "Shape" in one.steps[0][1])
    assert 0 not in entry.effect.feeds
    assert entry.effect.label == "visible"


def test_renamed_networks_keep_no_name_but_those_of_inputs_and_outputs(network):
    renamed = variants.renamed(network.proto)
    kept = {value.name for value in (*network.proto.graph.input, *network.proto.graph.output)}
    assert _names(network.proto) & _names(renamed) == kept
    after = run(renamed, network.feeds[0])
    for name, value in run(network.proto, network.feeds[0]).items():
        assert np.array_equal(value, after[name])  # the same operators in the same order


def _names(proto):
    found = set()
    for graph in graphs(proto.graph):
        for node in graph.node:
            found |= {node.name, *node.input, *node.output}
        found |= {value.name for value in (*graph.initializer, *graph.input, *graph.output, *graph.value_info)}
    return found - {""}


def test_bfloat16_networks_hold_bfloat16_weights_and_their_scalars(network):
    rounded = variants.bf16(network.proto)
    before = [one for graph in graphs(network.proto.graph) for one in graph.initializer]
    after = [one for graph in graphs(rounded.graph) for one in graph.initializer]
    for old, new in zip(before, after, strict=True):
        values, mine = numpy_helper.to_array(old), numpy_helper.to_array(new)
        if values.dtype == np.float32 and values.size > 1:
            assert not (mine.view(np.uint32) & 0xFFFF).any()
            # half a unit in the last of 8 bits
            assert np.allclose(mine, values, rtol=2**-8, atol=0)
        else:
            assert np.array_equal(mine, values)


def test_bfloat16_rounds_ties_to_even():
    values = np.array([1 + 2**-8, 1 + 3 * 2**-8, -(1 + 2**-8), np.inf, 0.0], np.float32)
    assert variants.to_bfloat16(values).tolist() == [1.0, 1 + 2**-6, -1.0, np.inf, 0.0]


def test_fused_networks_have_other_nodes_and_the_same_answers(network):
    fused = variants.fused(network.proto)
    assert [node.op_type for node in fused.graph.node] != [node.op_type for node in network.proto.graph.node]
    after = run(fused, network.feeds[0])
    for name, value in run(network.proto, network.feeds[0]).items():
        assert difference(value, after[name])[0] < ROUNDING, name


def test_rewrites_are_benign(network):
    values = trace(network.proto, network.feeds[0])
    seen = 0
    for name, rewrite in REWRITES.items():
        candidate = None if name == "onnxslim" else rewrite(network.proto, values)  # that one needs an environment
        if candidate is None:
            continue
        seen += 1
        onnx.checker.check_model(candidate)
        for feeds in network.feeds:
            mine = run(candidate, feeds)
            for output, value in run(network.proto, feeds).items():
                assert difference(value, mine[output])[0] < ROUNDING, (name, output)
    assert seen >= 10


def _answer(reference=(), candidate=(), cause=None, tensor=""):
    return SimpleNamespace(reference=reference, candidate=candidate, cause=cause, tensor=tensor)


def test_a_score_counts_place_region_and_cause():
    of = architectures.reference("gru")
    fault = Fault("gate_order", "gate_order", ("layer0/GRU",), also=("weight_permuted",))
    right = score([_answer(("layer0/GRU",), cause="weight_permuted")], [fault], of)
    assert (right.exact, right.small, right.cause, right.extra) == (True, True, True, 0)
    wide = score([_answer(("a", "layer0/GRU", "b"), cause="epsilon")], [fault], of)
    assert (wide.exact, wide.small, wide.cause, wide.region) == (False, True, False, 3)
    wrong = score([_answer(("head/MatMul",), cause="gate_order")], [fault], of)
    assert (wrong.detected, wrong.contained, wrong.cause, wrong.extra) == (True, False, False, 1)
    assert not score([], [fault], of).detected


def test_an_inserted_node_is_found_by_its_own_name_or_by_its_tensor():
    of = architectures.reference("gru")
    entry = corpus.planted_in("gru", kinds=("node_inserted_scale",), places=1)[0]
    mutant = corpus.mutant(entry)
    renamed = variants.renamed(mutant.proto)
    names = original_names(mutant.proto, renamed)
    (inserted,) = (new for new, old in names.items() if old in mutant.faults[0].candidate and "_Mul_" in old)
    assert score([_answer(candidate=(inserted,))], mutant.faults, of, original=names).exact
    other = next(new for new in names if new != inserted and names[new] not in mutant.faults[0].candidate)
    assert not score([_answer(candidate=(other,))], mutant.faults, of, original=names).contained
    made = next(node for node in of.proto.graph.node if node.name == mutant.faults[0].origin[0])
    assert score([_answer(tensor=made.output[0])], mutant.faults, of).exact


def test_both_of_two_faults_must_be_found():
    of = architectures.reference("gru")
    faults = [Fault("a", "a", ("layer0/GRU",)), Fault("b", "b", ("layer1/GRU",))]
    assert not score([_answer(("layer0/GRU",), cause="a")], faults, of).exact
    assert score([_answer(("layer0/GRU",), cause="a"), _answer(("layer1/GRU",), cause="b")], faults, of).cause


def test_a_fixed_tolerance_finds_the_node_while_names_or_order_are_kept():
    of = architectures.reference("resnet")
    step = ("relu_leaky", "block1/Relu")
    proto, _ = corpus.plant(of, step)
    for variant in ("named", "renamed"):
        assert first_beyond(of, variants.VARIANTS[variant](proto), of.feeds[0], 1e-4) == step[1]
    assert first_beyond(of, variants.bf16(proto), of.feeds[0], 1e-4) == "stem/Conv"  # rounding is taken for the fault
    assert first_beyond(of, of.proto, of.feeds[0], 1e-4) is None


def test_the_bound_of_a_share_is_wilsons():
    assert upper_bound(0, 300) == pytest.approx(3.841459 / 303.841459, rel=1e-6)  # z² / (n + z²) at 0 events
    assert upper_bound(5, 10) == pytest.approx(0.763401, abs=1e-5)  # Brown, Cai, DasGupta 2001 give [.237, .763]
    assert upper_bound(0, 0) == 1.0


def test_effects_survive_the_disk():
    import msgspec

    entry = corpus.Entry("gru", (("a", "b"),), Effect("visible", (0, 1), None, None))
    assert msgspec.json.decode(msgspec.json.encode(entry), type=corpus.Entry) == entry


def test_a_fused_network_counts_as_healed_and_a_visible_fault_does_not():
    of = architectures.reference("gru")
    assert is_healed(of, variants.VARIANTS["fused"](of.proto))
    shown = next(entry for entry in _planted("gru") if entry.effect.label == "visible")
    mutated, _ = corpus.plant(of, *shown.steps)
    assert not is_healed(of, variants.VARIANTS["renamed"](mutated))
