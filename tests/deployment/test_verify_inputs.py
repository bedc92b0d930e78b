"""What a user gives by mistake is one message; what cannot be compared is no pass, and a model equals itself."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from regraft.deployment.verify import verify
from regraft.errors import BadFeeds, UsageError
from regraft.record.evidence import Severity, Verdict

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 8)).astype(np.float32)


def saved(path: Path, *nodes: onnx.NodeProto, columns: int | str = 8, **weights: np.ndarray) -> str:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", columns])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    graph = helper.make_graph(list(nodes), "g", [x], [y], stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return str(path)


@pytest.fixture
def plain(tmp_path: Path) -> str:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    return saved(tmp_path / "plain.onnx", node, w=RNG.normal(size=(8, 5)).astype(np.float32))


@pytest.mark.parametrize(
    "feeds",
    [
        {"x": X[:, :5]},
        {"x": X, "more": X},
        {"x": np.full_like(X, np.nan)},
        {"x": X.astype(np.int64)},
        [{"x": X[:, :5]}, {"x": X[0]}],
    ],
)
def test_own_inputs_that_do_not_fit_are_an_error_and_no_pass(plain: str, feeds: object) -> None:
    with pytest.raises(BadFeeds, match="does not take data"):
        verify(plain, plain, feeds=feeds, localise=False)


@pytest.mark.parametrize("feeds", [{}, [], [3], [{"x": X}, "text"], {"x": [[1.0] * 8]}, "x"])
def test_what_is_no_set_of_inputs_is_an_error(plain: str, feeds: object) -> None:
    with pytest.raises(UsageError, match="arrays by name"):
        verify(plain, plain, feeds=feeds, localise=False)


@pytest.mark.parametrize("limit", [-1.0, math.inf, math.nan])
def test_limits_are_finite_and_not_negative(plain: str, limit: float) -> None:
    with pytest.raises(UsageError, match="finite number"):
        verify(plain, plain, atol=limit)


def test_a_folder_that_holds_something_is_refused_before_anything_is_compared(plain: str, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "plain.onnx", tmp_path / "not" / "there"):
        with pytest.raises(UsageError, match="empty or new"):
            verify(plain, plain, reduce=folder)


def test_a_variance_that_cancels_below_zero_is_itself(tmp_path: Path) -> None:
    """√(E[x²] − E[x]²) of equal numbers: float64 has zero, float32 the root of something just below."""
    path = saved(
        tmp_path / "deviation.onnx",
        helper.make_node("Mul", ["x", "x"], ["squares"]),
        helper.make_node("ReduceMean", ["squares"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("ReduceMean", ["x"], ["centre"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["centre", "centre"], ["square"]),
        helper.make_node("Sub", ["mean", "square"], ["variance"]),
        helper.make_node("Sqrt", ["variance"], ["y"]),
        columns=7,
    )
    same = np.repeat(RNG.uniform(0.5, 9, size=(60, 1)), 7, axis=1).astype(np.float32)
    evidence = verify(path, path, feeds={"x": same}, localise=False)
    assert evidence.verdict is Verdict.PASS, evidence.summary
    assert any(finding.rule == "feeds.lost_by_reference" for finding in evidence.findings)
    limits = verify(path, path, feeds={"x": X[:, :7]}, atol=1e-9, localise=False)
    assert limits.verdict is Verdict.PASS, "limits are about the reference's own answers, not about float64's"


def test_random_numbers_inside_are_no_noise_floor(tmp_path: Path) -> None:
    noise = helper.make_node("RandomNormalLike", ["x"], ["noise"])
    path = saved(tmp_path / "noise.onnx", noise, helper.make_node("Add", ["x", "noise"], ["y"]))
    other = saved(tmp_path / "other.onnx", noise, helper.make_node("Sub", ["noise", "x"], ["y"]))
    for candidate in (path, other):
        evidence = verify(path, candidate, localise=False)
        assert evidence.verdict is not Verdict.PASS
        assert {"verify.not_deterministic"} <= {finding.rule for finding in evidence.findings}


def test_a_network_that_returns_its_own_changing_state_does_not_repeat_itself() -> None:
    import torch

    from regraft.package.formats import Port
    from regraft.runtime.torch_module import TorchModel

    class Sum(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("total", torch.zeros(2, 3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.total.add_(x)
            return self.total

    sides = [TorchModel(Sum().eval(), inputs=[Port("x", "float32", (2, 3))]) for _ in range(2)]
    evidence = verify(*sides, feeds={"x": np.ones((2, 3), np.float32)}, localise=False)
    assert evidence.verdict is Verdict.INCONCLUSIVE, evidence.summary
    assert {"verify.not_deterministic"} <= {finding.rule for finding in evidence.findings}


def test_a_size_that_the_candidate_alone_refuses_is_a_note_once_own_inputs_agree(plain: str, tmp_path: Path) -> None:
    """The candidate was converted for three rows."""
    fixed = numpy_helper.from_array(np.array([3, 8]), "shape")
    narrow = saved(
        tmp_path / "narrow.onnx",
        helper.make_node("Reshape", ["x", "shape"], ["r"]),
        helper.make_node("MatMul", ["r", "w"], ["y"]),
        w=numpy_helper.to_array(onnx.load(plain).graph.initializer[0]),
        shape=numpy_helper.to_array(fixed),
    )
    without, with_own = verify(plain, narrow, localise=False), verify(plain, narrow, feeds={"x": X}, localise=False)
    assert (without.verdict, with_own.verdict) == (Verdict.INCONCLUSIVE, Verdict.PASS)
    (found,) = [finding for finding in with_own.findings if finding.rule == "feeds.refused_by_candidate"]
    assert found.severity is Severity.INFO


def test_what_code_builds_runs_in_its_own_runtime_and_in_no_other(
    plain: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "linear_of_mine.py").write_text(
        "import torch\n\n\ndef build():\n    return torch.nn.Linear(8, 5), {'input': torch.ones(2, 8)}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UsageError, match="there is no runtime 'nonsense'"):
        verify(plain, "py:linear_of_mine:build", runtime="nonsense")
    evidence = verify(plain, "py:linear_of_mine:build", runtime="onnxruntime")
    assert evidence.verdict is Verdict.INCONCLUSIVE
    assert any("runs in torch, and not in onnxruntime" in finding.message for finding in evidence.findings)
