"""One conversion for all, of a network with the exact GELU, for which MNN has an approximation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from regraft.deployment.convert.hops.mnn_from_onnx import MnnFromOnnx
from regraft.deployment.convert.interface import Hop, Source
from regraft.deployment.convert.routes import routes
from regraft.errors import BadFeeds, Crashed, Damaged, Unsupported
from regraft.package.package import open_package
from regraft.record.evidence import Verdict
from regraft.runtime import load
from regraft.runtime.mnn_model import MnnModel, isolated_mnn
from regraft.runtime.verified import VerifiedFiles
from regraft.trust.scan import scan

obstacle = MnnFromOnnx().obstacle()
pytestmark = pytest.mark.skipif(bool(obstacle), reason=obstacle or "MNN is installed")


def _saved(path: Path, nodes: list[onnx.NodeProto], opset: int = 20) -> Path:
    rng = np.random.default_rng(0)
    weights = {"table": rng.normal(size=(9, 6)), "w": rng.normal(size=(6, 4)), "b": rng.normal(size=4)}
    stored = [numpy_helper.from_array(value.astype("float32"), name) for name, value in weights.items()]
    ids = helper.make_tensor_value_info("the.ids", TensorProto.INT64, ["batch", "tokens"])
    y = helper.make_tensor_value_info("the.scores", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [ids], [y], stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9), path)
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    axis = helper.make_node("Constant", [], ["axis"], value=numpy_helper.from_array(np.array([1])))
    nodes = [
        axis,
        helper.make_node("Gather", ["table", "the.ids"], ["h"]),
        helper.make_node("Gelu", ["h"], ["active"]),
        helper.make_node("ReduceMax", ["active", "axis"], ["most"], keepdims=0),
        helper.make_node("Gemm", ["most", "w", "b"], ["the.scores"]),
    ]
    return _saved(tmp_path_factory.mktemp("small") / "model.onnx", nodes)


@pytest.fixture(scope="module")
def made(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the converter made, as a package."""
    hop = _converted(small, small)
    assert (hop.runtime, hop.precision, hop.is_one_size) == ("mnn", "float32", False)
    folder = tmp_path_factory.mktemp("converted")
    (folder / "model.mnn").write_bytes(hop.files["model.mnn"])
    return folder


@pytest.fixture(scope="module")
def content(made: Path) -> bytes:
    return (made / "model.mnn").read_bytes()


def _converted(path: Path, loaded: Path) -> Hop:
    """`loaded` stands in for `path` where ONNX Runtime would refuse that."""
    cases = [{"the.ids": np.array([[1, 2, 8]])}, {"the.ids": np.array([[0], [3]])}]
    with open_package(path) as package:
        source = Source(load(open_package(loaded)), cases, VerifiedFiles(package), path.name, path.name)
        return MnnFromOnnx().convert(source)


def test_the_cheapest_way_leads_over_onnx() -> None:
    assert [member.name for member in next(routes("torch", "mnn"))] == ["onnx_from_torch", "mnn_from_onnx"]


def test_it_is_the_same_network_at_every_size_under_its_names(small: Path, made: Path) -> None:
    product, reference = load(open_package(made)), load(open_package(small))
    assert (product.runtime, product.effective_precision) == ("mnn", "float32")
    assert [(p.name, p.dtype, p.shape) for p in product.signature.inputs] == [("the.ids", "int64", ("batch", "tokens"))]
    assert product.signature.ranges == {"the.ids": (0, 8)}
    for rows, tokens in ((1, 1), (3, 5), (2, 9)):
        feeds = {"the.ids": np.random.default_rng(rows).integers(0, 9, (rows, tokens))}
        # six products of numbers near one; a GELU by tanh is off by up to 5e-4
        np.testing.assert_allclose(product(feeds)["the.scores"], reference(feeds)["the.scores"], rtol=0, atol=3e-6)
    with pytest.raises(BadFeeds, match="more than 32 bits"):
        product({"the.ids": np.array([[1 << 40]])})
    with pytest.raises(Unsupported, match="shows no operators"):
        list(product.trace(feeds))
    product.close()


def test_it_is_numbers_to_a_scan_and_its_precision_is_no_wish(made: Path, content: bytes) -> None:
    assert scan(made).verdict is Verdict.PASS
    with pytest.raises(Unsupported, match="computes in float32; MNN cannot be told float16"):
        MnnModel(content, precision="float16")


def test_what_is_wrong_ends_in_a_sentence_or_in_its_own_process(content: bytes) -> None:
    for damaged in (b"", content[:200], bytes(len(content))):
        with pytest.raises(Damaged):
            MnnModel(damaged, where="damaged")
    broken = bytearray(content)
    broken[len(content) // 2 :] = b"\xff" * (len(content) - len(content) // 2)
    with pytest.raises((Crashed, Damaged, Unsupported)):
        isolated_mnn(bytes(broken), where="broken")({"the.ids": np.array([[1]])})


def test_an_operator_that_mnn_lacks_is_named(small: Path, tmp_path: Path) -> None:
    path = _saved(tmp_path / "odd.onnx", [helper.make_node("Foo", ["the.ids"], ["the.scores"])])
    with pytest.raises(Unsupported, match="Not Support: ONNX::Foo"):
        _converted(path, small)
