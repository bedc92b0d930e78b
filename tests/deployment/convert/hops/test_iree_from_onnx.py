"""One compilation for all: the compiler of IREE takes some seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import helper, numpy_helper

from regraft.deployment.convert import Conversion, convert
from regraft.deployment.convert.hops.iree_from_onnx import IreeFromOnnx
from regraft.deployment.convert.interface import Source
from regraft.errors import Damaged, PermitRefused, Unsupported
from regraft.package.package import open_package
from regraft.record.evidence import Verdict
from regraft.record.permit import Permit, Scope
from regraft.runtime import load
from regraft.runtime.iree_model import isolated_iree
from regraft.runtime.verified import VerifiedFiles
from regraft.trust.scan import scan

obstacle = IreeFromOnnx().obstacle()
pytestmark = pytest.mark.skipif(bool(obstacle), reason=obstacle or "IREE is installed")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, saved_graph: Callable[..., Path]) -> Path:
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["h"]),
        helper.make_node("ReduceMax", ["h", "axis"], ["most"], keepdims=0),
        helper.make_node("Gemm", ["most", "w", "b"], ["a"]),
        helper.make_node("Tanh", ["a"], ["the.scores"]),
    ]
    axis = helper.make_node("Constant", [], ["axis"], value=numpy_helper.from_array(np.array([1])))
    return saved_graph(tmp_path_factory.mktemp("small") / "model.onnx", [axis, *nodes])


@pytest.fixture(scope="module")
def compiled(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Conversion:
    return convert(small, to="iree", out=tmp_path_factory.mktemp("compiled") / "made")


def test_it_is_the_same_network_at_every_size_under_its_names(small: Path, compiled: Conversion) -> None:
    assert compiled.evidence.verdict is Verdict.PASS, compiled.evidence.summary
    assert compiled.evidence.parameters["route"] == ["iree_from_onnx"]
    assert compiled.path is not None
    product = isolated_iree((compiled.path / "model.vmfb").read_bytes(), threads=1, where="compiled")
    assert (product.runtime, product.effective_precision) == ("iree", "float32")
    assert [(p.name, p.dtype, p.shape) for p in product.signature.inputs] == [("ids", "int64", ("batch", "tokens"))]
    assert product.signature.ranges == {"ids": (0, 8)}
    reference = load(open_package(small))
    for rows, tokens in ((1, 1), (3, 5), (2, 9)):
        feeds = {"ids": np.random.default_rng(rows).integers(0, 9, (rows, tokens))}
        # six products of numbers near one, and another tanh
        np.testing.assert_allclose(product(feeds)["the.scores"], reference(feeds)["the.scores"], rtol=0, atol=1e-6)
    with pytest.raises(Unsupported, match="no operators"):
        list(product.trace(feeds))
    product.close()


def test_native_code_is_never_taken_for_data(compiled: Conversion) -> None:
    assert compiled.path is not None
    evidence = scan(compiled.path)
    assert evidence.verdict is Verdict.INCONCLUSIVE
    assert {finding.rule for finding in evidence.findings} == {"RGS-COD-005"}
    with open_package(compiled.path) as package:
        _, recognised = package.probe("model.vmfb")
        assert recognised is not None
        assert recognised.name == "iree"
        with pytest.raises(PermitRefused):
            load(package)
        permit = Permit(package.manifest().digest, Scope.DATA, "0" * 64)
        model = load(package, permit)
        assert model.runtime == "iree"
        model.close()
        with pytest.raises(Unsupported, match="on one thread or on all"):
            load(package, permit, threads=3)
        with pytest.raises(Unsupported, match="cannot be told float16"):
            load(package, permit, precision="float16")


def test_a_damaged_module_is_one_sentence(compiled: Conversion) -> None:
    assert compiled.path is not None
    content = bytearray((compiled.path / "model.vmfb").read_bytes())
    content[64:300] = bytes(236)
    with pytest.raises(Damaged, match="IREE cannot open"):
        isolated_iree(bytes(content), where="damaged")


def test_an_operator_that_the_compiler_lacks_is_named(tmp_path: Path, saved_graph: Callable[..., Path]) -> None:
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["h"]),
        helper.make_node("MaxRoiPool", ["h", "h"], ["the.scores"], pooled_shape=[2, 2]),
    ]
    path = saved_graph(tmp_path / "odd.onnx", nodes)
    with open_package(path) as package:
        source = Source(load(open_package(saved_graph(tmp_path / "plain.onnx", [nodes[0]], "h"))),
                        (), VerifiedFiles(package), "odd.onnx", "odd.onnx")  # fmt: skip
        with pytest.raises(Unsupported, match="MaxRoiPool"):
            IreeFromOnnx().convert(source)
