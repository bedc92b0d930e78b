"""Faults planted in small graphs, reduced, and run again as a stranger would: the script alone, in its own process."""

from __future__ import annotations

import shutil
import subprocess
import sys

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from regraft.compare.localise import Origin, Sample, localise
from regraft.compare.reduce import reduce_origin
from regraft.errors import Unsupported, UsageError
from regraft.runtime.onnx_graph import OnnxGraph

WIDTH = 12


def graph_of(nodes, weights, outputs=("y",), shape=("batch", "tokens", WIDTH)):
    return OnnxGraph(
        helper.make_model(
            helper.make_graph(
                nodes,
                "network",
                [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
                [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
                [numpy_helper.from_array(value, name) for name, value in weights.items()],
            ),
            opset_imports=[helper.make_opsetid("", 17)],
            ir_version=8,
        ),
        threads=1,
        where="/home/somebody/network.onnx",
    )


def weights():
    rng = np.random.default_rng(0)
    return {
        "w1": rng.normal(0, 0.3, (WIDTH, WIDTH)).astype(np.float32),
        "w2": rng.normal(0, 0.3, (WIDTH, 5)).astype(np.float32),
        "scale": rng.normal(1, 0.1, WIDTH).astype(np.float32),
        "bias": rng.normal(0, 0.1, WIDTH).astype(np.float32),
    }


def network(*, epsilon=1e-5, axis=-1, inserted=(), **replaced):
    nodes = [
        helper.make_node("LayerNormalization", ["x", "scale", "bias"], ["a"], name="norm", epsilon=epsilon),
        helper.make_node("MatMul", ["a", "w1"], ["b"], name="first"),
        helper.make_node("Relu", ["b"], ["c"], name="act"),
        *inserted,
        helper.make_node("MatMul", ["d" if inserted else "c", "w2"], ["e"], name="last"),
        helper.make_node("Softmax", ["e"], ["y"], name="softmax", axis=axis),
    ]
    return graph_of(nodes, {**weights(), **replaced})


@pytest.fixture
def feeds():
    return {"x": np.random.default_rng(1).normal(size=(3, 7, WIDTH)).astype(np.float32)}


def script(folder):
    done = subprocess.run([sys.executable, "-I", "run.py"], cwd=folder, capture_output=True, text=True, check=False)
    assert not done.stderr
    return done.returncode, done.stdout


def arrays(path):
    with np.load(path) as kept:
        return dict(kept)


def reduced(reference, candidate, feeds, folder, **options):
    found = localise(reference, candidate, feeds)
    (origin,) = found.origins
    return origin, reduce_origin(origin, reference, candidate, folder, pairs=found.pairs, **options)


FAULTS = {
    "epsilon": ({"epsilon": 1e-2}, "LayerNormalization"),
    "axis": ({"axis": 1}, "Softmax"),
    "weight": ({"w1": np.ascontiguousarray(weights()["w1"].T)}, "MatMul"),
    "inserted": ({"inserted": (helper.make_node("Tanh", ["c"], ["d"], name="more"),)}, "Tanh"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_folder_shows_the_fault_and_runs_by_itself(fault, feeds, tmp_path):
    changed, operator = FAULTS[fault]
    origin, found = reduced(network(), network(**changed), feeds, tmp_path / "case")
    assert found.files == ("ISSUE.md", "candidate.onnx", "expected.npz", "inputs.npz", "reference.onnx", "run.py")
    model = onnx.load(tmp_path / "case/candidate.onnx")
    assert [node.op_type for node in model.graph.node] == [operator]
    assert found.operators == 1
    assert found.elements < 0.1 * feeds["x"].size
    status, printed = script(tmp_path / "case")
    assert status == 1
    assert f"candidate.onnx: max difference {found.max_abs_error:.6g}" in printed
    assert [line.split()[-1] for line in printed.splitlines()[1:]] == ["agrees", "differs"]
    assert len((tmp_path / "case/run.py").read_text().splitlines()) <= 20
    text = (tmp_path / "case/ISSUE.md").read_text()
    assert origin.detail in text
    assert f"{found.max_abs_error:.4g}" in text
    assert "onnxruntime==" in text
    assert "/home/somebody" not in text


@pytest.mark.parametrize("fault", FAULTS)
def test_the_script_is_content_once_the_candidate_is_mended(fault, feeds, tmp_path):
    reduced(network(), network(**FAULTS[fault][0]), feeds, tmp_path / "case")
    mended = onnx.load(tmp_path / "case/reference.onnx")
    onnx.save(mended, tmp_path / "case/candidate.onnx")
    status, printed = script(tmp_path / "case")
    assert status == 0
    assert "differs" not in printed


def test_expected_is_what_the_reference_makes_of_the_smaller_input(feeds, tmp_path):
    reduced(network(), network(w1=FAULTS["weight"][0]["w1"]), feeds, tmp_path / "case")
    (given,) = arrays(tmp_path / "case/inputs.npz").values()
    assert given.shape == (1, 1, WIDTH)
    expected = arrays(tmp_path / "case/expected.npz")["expected"]
    # float64 in another order of summation: a few units in the last place of sums of twelve numbers
    np.testing.assert_allclose(expected, given.astype(float) @ weights()["w1"].astype(float), rtol=1e-12, atol=1e-15)


def test_an_input_has_no_more_numbers_than_the_fault_needs(feeds, tmp_path):
    _, found = reduced(network(), network(w1=FAULTS["weight"][0]["w1"]), feeds, tmp_path / "case")
    assert found.nonzero == 1  # one row of the weight is enough to tell it from its transpose
    _, found = reduced(network(), network(w1=FAULTS["weight"][0]["w1"]), feeds, tmp_path / "none", time_s=0)
    assert found.elements == feeds["x"].size  # no time, nothing tried


def _origin(reference, candidate, feeds, *, ends, guilty, by="proven"):
    """An origin that is larger than it has to be, as fused graphs have them."""
    values, wrong = dict(feeds), dict(feeds)
    for graph, kept in ((reference, values), (candidate, wrong)):
        for node in graph.nodes:
            kept.update(graph.run(node, kept))
    sample = Sample(dict(feeds), wrong[ends], values[ends])
    return Origin(("norm",), guilty, ends, ends, "cause", "said", None, None, by, before=("x",), sample=sample)


def test_operators_behind_the_fault_are_dropped(feeds, tmp_path):
    reference, candidate = network(), network(epsilon=1e-2)
    origin = _origin(reference, candidate, feeds, ends="e", guilty=("norm", "first", "act", "last"))
    found = reduce_origin(origin, reference, candidate, tmp_path / "case")
    assert found.operators == 1
    assert onnx.load(tmp_path / "case/candidate.onnx").graph.node[0].name == "norm"
    assert script(tmp_path / "case")[0] == 1


def test_operators_before_what_is_proven_to_be_at_fault_are_dropped(feeds, tmp_path):
    reference, candidate = network(), network(w2=weights()["w2"][::-1].copy())
    whole = _origin(reference, candidate, feeds, ends="e", guilty=("last",), by="confirmed")
    assert reduce_origin(whole, reference, candidate, tmp_path / "whole").operators == 4
    origin = _origin(reference, candidate, feeds, ends="e", guilty=("last",))
    assert reduce_origin(origin, reference, candidate, tmp_path / "case").operators == 1
    assert set(arrays(tmp_path / "case/inputs.npz")) == {"c", "x"}  # the candidate's, and the reference's
    assert script(tmp_path / "case")[0] == 1


def test_a_fault_in_one_of_several_results_is_cut_out(tmp_path):
    def split(order):
        nodes = [
            helper.make_node("Split", ["x"], ["l", "r"], name="split", axis=-1),
            helper.make_node("Relu", [order[0]], ["p"], name="p"),
            helper.make_node("Sub", ["p", order[1]], ["y"], name="sub"),
        ]
        return graph_of(nodes, {})

    feeds = {"x": np.random.default_rng(2).normal(size=(2, 3, WIDTH)).astype(np.float32)}
    found = localise(split("lr"), split("rl"), feeds)
    assert found.origins
    for i, origin in enumerate(found.origins):
        reduce_origin(origin, split("lr"), split("rl"), tmp_path / str(i), pairs=found.pairs)
        assert script(tmp_path / str(i))[0] == 1


def test_integers_are_compared_exactly(tmp_path):
    def largest(keepdims_last):
        node = helper.make_node(
            "ArgMax", ["x"], ["i"], name="arg", axis=-1, keepdims=0, select_last_index=keepdims_last
        )
        cast = helper.make_node("Cast", ["i"], ["y"], name="cast", to=TensorProto.FLOAT)
        return graph_of([node, cast], {})

    feeds = {"x": np.zeros((2, 5, WIDTH), np.float32)}
    feeds["x"][..., [3, 8]] = 1
    _, found = reduced(largest(0), largest(1), feeds, tmp_path / "case")
    assert script(tmp_path / "case")[0] == 1
    assert found.elements < feeds["x"].size


def test_what_is_there_is_never_overwritten_and_a_refusal_leaves_nothing(feeds, tmp_path):
    reference, candidate = network(), network(axis=1)
    found = localise(reference, candidate, feeds)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/mine").write_text("mine")
    with pytest.raises(UsageError, match="something is there already"):
        reduce_origin(found.origins[0], reference, candidate, tmp_path / "taken", pairs=found.pairs)
    same = msgspec.structs.replace(found.origins[0], sample=None)
    with pytest.raises(Unsupported, match="no numbers"):
        reduce_origin(same, reference, candidate, tmp_path / "new", pairs=found.pairs)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_what_agrees_by_itself_is_not_called_a_divergence(feeds, tmp_path):
    reference = network()
    origin = _origin(reference, network(axis=1), feeds, ends="y", guilty=("softmax",))
    with pytest.raises(Unsupported, match="stay within rounding"):
        reduce_origin(
            msgspec.structs.replace(
                origin, sample=msgspec.structs.replace(origin.sample, computed=origin.sample.expected)
            ),
            reference,
            network(),
            tmp_path / "case",
        )


def test_a_candidate_in_torch_cannot_be_written(feeds, tmp_path):
    import torch

    from regraft.package.formats import Port
    from regraft.runtime.graphs import operator_graph
    from regraft.runtime.torch_module import TorchModel

    class Net(torch.nn.Module):
        def forward(self, x):
            return torch.softmax(x, dim=1)

    model = TorchModel(Net(), inputs=[Port("x", "float32", ("batch", "tokens", WIDTH))])
    reference = graph_of([helper.make_node("Softmax", ["x"], ["y"], name="softmax", axis=-1)], {})
    candidate = operator_graph(model, feeds)
    found = localise(reference, candidate, feeds, inputs={"x": candidate.inputs[0]})
    with pytest.raises(Unsupported, match="only ONNX graphs"):
        reduce_origin(found.origins[0], reference, candidate, tmp_path / "case", pairs=found.pairs)


def test_a_reference_in_torch_gives_the_expected_values_of_every_smaller_input(feeds, tmp_path):
    import torch

    from regraft.package.formats import Port
    from regraft.runtime.graphs import operator_graph
    from regraft.runtime.torch_module import TorchModel

    class Net(torch.nn.Module):
        def forward(self, x):
            return torch.softmax(x, dim=-1)

    model = TorchModel(Net(), inputs=[Port("x", "float32", ("batch", "tokens", WIDTH))])
    reference = operator_graph(model, feeds)
    candidate = graph_of([helper.make_node("Softmax", ["x"], ["y"], name="softmax", axis=1)], {})
    found = localise(reference, candidate, feeds, inputs={reference.inputs[0]: "x"})
    case = reduce_origin(found.origins[0], reference, candidate, tmp_path / "case", pairs=found.pairs)
    assert "reference.onnx" not in case.files
    assert case.elements < feeds["x"].size
    assert script(tmp_path / "case")[0] == 1


def test_a_transposed_weight_in_a_real_network(asset, tmp_path):
    path = asset("pypi", "magika", "0.5.1") / "magika/models/standard_v1/model.onnx"
    right, wrong = onnx.load(path), onnx.load(path)
    weight = next(one for one in wrong.graph.initializer if list(one.dims) == [256, 256])
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight).T.copy(), weight.name))
    (takes,) = [node.name for node in right.graph.node if weight.name in node.input]
    feeds = {"bytes": np.random.default_rng(0).integers(0, 257, (2, 1536)).astype(np.float32)}
    reference, candidate = OnnxGraph(right, threads=1), OnnxGraph(wrong, threads=1)
    origin, found = reduced(reference, candidate, feeds, tmp_path / "case")
    assert (origin.candidate, origin.cause) == ((takes,), "weight_transposed")
    assert (found.operators, found.elements, found.nonzero) == (1, 256, 1)  # one row, in which one number is not zero
    assert script(tmp_path / "case")[0] == 1
    shutil.copy(tmp_path / "case/reference.onnx", tmp_path / "case/candidate.onnx")
    assert script(tmp_path / "case")[0] == 0
