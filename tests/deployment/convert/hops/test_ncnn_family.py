"""One conversion for all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from regraft.deployment.convert.hops.ncnn_family import NcnnByPnnx, _agrees
from regraft.deployment.convert.interface import Hop, Source
from regraft.errors import BadFeeds, Unsupported
from regraft.package.package import open_package
from regraft.record.evidence import Verdict
from regraft.runtime import load
from regraft.runtime.ncnn_model import isolated_ncnn
from regraft.runtime.verified import VerifiedFiles
from regraft.trust.scan import scan

obstacle = NcnnByPnnx("onnx", "").obstacle()
pytestmark = pytest.mark.skipif(bool(obstacle), reason=obstacle or "PNNX and ncnn are installed")


def _saved(path: Path, nodes: list[onnx.NodeProto], sizes: list[str | int], dtype: int = TensorProto.FLOAT) -> Path:
    rng = np.random.default_rng(0)
    weights = {"w": rng.normal(0, 0.3, (8, 3, 3, 3)), "b": rng.normal(size=8), "f": rng.normal(0, 0.3, (8, 5))}
    stored = [numpy_helper.from_array(value.astype("float32"), name) for name, value in weights.items()]
    x = helper.make_tensor_value_info("the.image", dtype, sizes)
    y = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.INT64 if dtype > 1 else dtype, None)
    graph = helper.make_graph(nodes, "g", [x], [y], stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


NODES = [
    helper.make_node("Conv", ["the.image", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
    helper.make_node("Sigmoid", ["c"], ["s"]),
    helper.make_node("Mul", ["c", "s"], ["m"]),
    helper.make_node("GlobalAveragePool", ["m"], ["g"]),
    helper.make_node("Flatten", ["g"], ["flat"]),
    helper.make_node("MatMul", ["flat", "f"], ["the.scores"]),
]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _saved(tmp_path_factory.mktemp("small") / "model.onnx", NODES, ["batch", 3, "height", 12])


@pytest.fixture(scope="module")
def made(small: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Hop, Path]:
    """What the converter made, and where it lies."""
    hop = _converted(small, small, [(1, 3, 9, 12), (3, 3, 9, 12), (1, 3, 7, 12)])
    folder = tmp_path_factory.mktemp("converted")
    for name, content in hop.files.items():
        (folder / name).write_bytes(content)
    return hop, folder


def _converted(path: Path, loaded: Path, shapes: list[tuple[int, ...]]) -> Hop:
    """`loaded` stands in for `path` where ONNX Runtime would refuse that."""
    with open_package(path) as package:
        model = load(open_package(loaded))
        dtype = model.signature.inputs[0].dtype
        cases = [{"the.image": np.random.default_rng(0).normal(size=shape).astype(dtype)} for shape in shapes]
        return NcnnByPnnx("onnx", "").convert(Source(model, cases, VerifiedFiles(package), path.name, path.name))


def test_it_says_for_which_sizes_it_is(made: tuple[Hop, Path]) -> None:
    hop, _ = made
    stated = json.loads(hop.files["model.json"])
    assert stated["inputs"] == [["the.image", "float32", ["batch", 3, 9, 12]]]
    assert (hop.runtime, hop.precision, hop.is_one_size) == ("ncnn", "float32", True)
    assert "fixed sizes: the.image (batch, 3, 9, 12)" in hop.notes


def test_batches_come_out_and_other_heights_are_refused(small: Path, made: tuple[Hop, Path]) -> None:
    product, reference = load(open_package(made[1]), precision="float32"), load(open_package(small))
    assert (product.runtime, product.effective_precision) == ("ncnn", "float32")
    x = np.random.default_rng(1).normal(size=(4, 3, 9, 12)).astype("float32")
    theirs = reference({"the.image": x})["the.scores"]
    # means of 27 products of numbers near one, 8 of which are summed
    np.testing.assert_allclose(product({"the.image": x})["the.scores"], theirs, rtol=0, atol=1e-5)
    with pytest.raises(BadFeeds, match="axis 2 is fixed"):
        product({"the.image": x[:, :, 1:]})
    product.close()


def test_a_batch_is_not_free_where_one_size_of_it_stops_the_graph(small: Path, made: tuple[Hop, Path]) -> None:
    head, counts, *rows = made[0].files["model.param"].decode().strip().split("\n")
    last = next(place for place, row in enumerate(rows) if row.startswith("InnerProduct"))
    words = rows[last].split()
    reshape = f'Reshape kept 1 1 {words[4]} kept 12=0 13=0 6="1,1,//(16,0n),0n"'  # as PNNX writes it: 8 channels for 2
    rows[last : last + 1] = [reshape, " ".join([*words[:4], "kept", *words[5:]])]
    graph = "\n".join([head, " ".join(str(int(count) + 1) for count in counts.split()), *rows]) + "\n"
    stated = made[0].files["model.json"].decode()
    product = isolated_ncnn(graph, made[0].files["model.bin"], stated=stated, precision="float32")
    two, three = ({"the.image": np.ones((count, 3, 9, 12), np.float32)} for count in (2, 3))
    reference = load(open_package(small))
    assert _agrees(product, reference, [two])
    assert not _agrees(product, reference, [two, three])
    product.close()


def test_a_scan_passes_numbers_and_doubts_layers_that_ncnn_lacks(made: tuple[Hop, Path], tmp_path: Path) -> None:
    assert scan(made[1]).verdict is Verdict.PASS
    graph = (made[1] / "model.param").read_text()
    (tmp_path / "model.param").write_text(graph.replace("Sigmoid ", "MyLayer ").replace("Swish ", "MyLayer "))
    evidence = scan(tmp_path)
    assert evidence.verdict is Verdict.INCONCLUSIVE
    assert [(finding.rule, finding.data["name"]) for finding in evidence.findings] == [("RGS-OPR-007", "MyLayer")]


def test_what_ncnn_lacks_is_named(small: Path, tmp_path: Path) -> None:
    cubed = helper.make_node("Det", ["the.image"], ["the.scores"])
    with pytest.raises(Unsupported, match="no layer for Det"):
        _converted(_saved(tmp_path / "odd.onnx", [cubed], ["batch", 3, 12, 12]), small, [(1, 3, 12, 12)])
    doubles = _saved(
        tmp_path / "doubles.onnx", [helper.make_node("Size", ["the.image"], ["n"])], [2], TensorProto.DOUBLE
    )
    with pytest.raises(Unsupported, match="float64, which ncnn does not take"):
        _converted(doubles, doubles, [(2,)])
