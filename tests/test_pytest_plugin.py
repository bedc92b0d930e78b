"""The plugin as users have it: pytest in a process of its own, a test that fails there, and what it prints."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

pytest_plugins = ["pytester"]

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture
def suite(pytester, monkeypatch, tmp_path):
    """A folder of tests, two networks beside them, and the plugin as an installed distribution declares it."""
    installed = tmp_path / "site/regraft_plugin-0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: regraft-plugin\nVersion: 0\n")
    (entry,) = PROJECT["entry-points"]["pytest11"].items()
    (installed / "entry_points.txt").write_text(f"[pytest11]\n{entry[0]} = {entry[1]}\n")
    monkeypatch.setenv("PYTHONPATH", str(installed.parent))
    onnx.save(network(), pytester.path / "right.onnx")
    onnx.save(network(transposed=True), pytester.path / "wrong.onnx")
    return pytester


def network(*, transposed=False):
    rng = np.random.default_rng(0)
    weights = {
        name: rng.normal(0, 0.2, shape).astype(np.float32) for name, shape in (("w1", (16, 16)), ("w2", (16, 4)))
    }
    if transposed:
        weights["w1"] = np.ascontiguousarray(weights["w1"].T)
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"], name="encoder/dense"),
        helper.make_node("Relu", ["a"], ["b"], name="encoder/act"),
        helper.make_node("MatMul", ["b", "w2"], ["y"], name="head"),
    ]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", k]) for n, k in (("x", 16), ("y", 4)))
    stored = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "net", [x], [y], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(suite, source):
    suite.makepyfile(source)
    return suite.runpytest_subprocess("-q")


def test_a_transposed_weight_fails_and_the_message_leads_to_it(suite):
    result = run(
        suite,
        """
        def test_shipped(assert_equivalent):
            assert_equivalent("right.onnx", "wrong.onnx", seed=7)
        """,
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*AssertionError: wrong.onnx is not shown to be the network that right.onnx is: fail, diverges",
            "*output y: *on *(its seed: *",
            "*rms_ratio * noise floors at output y on *",
            "*layer: encoder/dense in the candidate, encoder/dense in the reference",
            "*cause: weight_transposed",
            "*ratio: * noise floors at that layer",
            "*look further: regraft verify right.onnx wrong.onnx --seed 7",
        ]
    )
    result.stdout.no_fnmatch_line("*regraft/testing.py*")  # the failure is shown at the line of the test


def test_the_same_network_passes_and_its_evidence_comes_back(suite):
    result = run(
        suite,
        """
        from regraft.testing import assert_equivalent

        def test_shipped():
            evidence = assert_equivalent("right.onnx", "right.onnx")
            assert evidence.outcome == "equivalent"
        """,
    )
    result.assert_outcomes(passed=1)


def test_a_torch_module_is_compared_on_feeds_and_left_in_its_mode(suite):
    result = run(
        suite,
        """
        import numpy as np, onnx, pytest, torch
        from onnx import numpy_helper

        class Net(torch.nn.Module):
            def __init__(self):
                super().__init__()
                weights = {w.name: numpy_helper.to_array(w).copy() for w in onnx.load("right.onnx").graph.initializer}
                self.w1, self.w2 = (torch.nn.Parameter(torch.tensor(weights[n])) for n in ("w1", "w2"))
                self.drop = torch.nn.Dropout(0.5)

            def forward(self, x):
                return self.drop(torch.relu(x @ self.w1) @ self.w2)

        @pytest.fixture
        def feeds():
            return {"x": torch.randn(3, 16, generator=torch.Generator().manual_seed(0))}

        @pytest.mark.parametrize("file", ["right.onnx", "wrong.onnx"])
        def test_shipped(assert_equivalent, feeds, file):
            net = Net()
            assert net.training
            try:
                assert_equivalent(net, file, feeds)
            finally:
                assert net.training and net.drop.training
        """,
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*wrong.onnx is not shown to be the network that Net is: fail, diverges",
            "*layer: encoder/dense in the candidate, *",
            "*look further: evidence = regraft.verify(reference, candidate, feeds=feeds, seed=0)",
        ]
    )


def test_what_cannot_be_decided_fails_unless_it_is_allowed(suite):
    result = run(
        suite,
        """
        import onnx, pytest
        from onnx import helper

        @pytest.fixture(scope="module", autouse=True)
        def constant():
            model = onnx.load("right.onnx")
            model.graph.node[1].CopyFrom(helper.make_node("Sub", ["a", "a"], ["b"], name="nothing"))
            onnx.save(model, "constant.onnx")

        def test_strict(assert_equivalent):
            assert_equivalent("constant.onnx", "constant.onnx")

        def test_lenient(assert_equivalent):
            evidence = assert_equivalent("constant.onnx", "constant.onnx", allow_inconclusive=True)
            assert evidence.verdict == "inconclusive"

        def test_a_divergence_is_never_allowed(assert_equivalent):
            with pytest.raises(AssertionError, match="diverges"):
                assert_equivalent("right.onnx", "wrong.onnx", allow_inconclusive=True)
        """,
    )
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*inconclusive, undecided"])


def test_fixed_limits_take_the_place_of_floors(suite):
    result = run(
        suite,
        """
        def test_loose(assert_equivalent):
            assert_equivalent("right.onnx", "wrong.onnx", atol=1e9)

        def test_tight(assert_equivalent):
            assert_equivalent("right.onnx", "wrong.onnx", atol=1e-3, rtol=0.0)
        """,
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        ["*elements differ by more than 0.001*", "*look further: *--seed 0 --atol 0.001 --rtol 0.0"]
    )


def test_the_plugin_costs_nothing_to_import():
    script = (
        "import sys, pytest; before = set(sys.modules); import regraft.pytest_plugin; "
        "new = {name.split('.')[0] for name in set(sys.modules) - before}; "
        "print(sorted(new & {'numpy', 'torch', 'onnx', 'msgspec', 'click', 'rich'})); "
        "print(len([name for name in sys.modules if name.startswith('regraft')]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    heavy, count = done.stdout.split("\n")[:2]
    assert heavy == "[]"
    assert int(count) <= 4  # regraft, its version, testing and the plugin
