"""One library for all: a process that has TVM's compiler takes more than a second to come up."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import helper, numpy_helper

import regraft as rg
from regraft.deployment.convert import Conversion, convert
from regraft.deployment.convert.foreign import __file__ as foreign
from regraft.deployment.convert.hops.tvm_family import FAMILY
from regraft.deployment.convert.interface import Source
from regraft.errors import BadFeeds, Damaged, PermitRefused, Unsupported
from regraft.package.formats import Port
from regraft.package.formats.tvm import SECTION, stated_in
from regraft.package.package import open_package
from regraft.package.reader import BytesReader
from regraft.record.evidence import Verdict
from regraft.record.permit import Permit, Scope
from regraft.runtime import load
from regraft.runtime.interface import Signature
from regraft.runtime.stated import stated_signature
from regraft.runtime.tvm_model import isolated_tvm
from regraft.runtime.verified import VerifiedFiles
from regraft.trust.scan import scan

SCRIPTS = Path(foreign).parent / "scripts"
FROM_ONNX, FROM_PROGRAM = FAMILY
obstacle = FROM_ONNX.obstacle() or FROM_PROGRAM.obstacle()
pytestmark = pytest.mark.skipif(bool(obstacle), reason=obstacle or "TVM is installed")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, saved_graph: Callable[..., Path]) -> Path:
    nodes = [
        helper.make_node("Constant", [], ["axis"], value=numpy_helper.from_array(np.array([1]))),
        helper.make_node("Constant", [], ["four"], value=numpy_helper.from_array(np.array([4]))),
        helper.make_node("Gather", ["table", "ids"], ["h"]),
        helper.make_node("ReduceMax", ["h", "axis"], ["most"], keepdims=0),
        helper.make_node("Gemm", ["most", "w", "b"], ["a"]),
        helper.make_node("Tanh", ["a"], ["unsorted"]),
        helper.make_node("TopK", ["unsorted", "four"], ["the.scores", "order"]),  # TVM calls a library of its own
    ]
    return saved_graph(tmp_path_factory.mktemp("small") / "model.onnx", nodes)


@pytest.fixture(scope="module")
def compiled(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Conversion:
    return convert(small, to="tvm", out=tmp_path_factory.mktemp("compiled") / "made")


def test_it_is_the_same_network_at_every_size_under_its_names(small: Path, compiled: Conversion) -> None:
    assert compiled.evidence.verdict is Verdict.PASS, compiled.evidence.summary
    assert compiled.evidence.parameters["route"] == ["tvm_from_onnx"]
    assert compiled.path is not None
    product = isolated_tvm((compiled.path / "model.so").read_bytes(), threads=1, where="compiled")
    assert (product.runtime, product.effective_precision) == ("tvm", "float32")
    assert [(p.name, p.dtype, p.shape) for p in product.signature.inputs] == [("ids", "int64", ("batch", "tokens"))]
    reference = load(open_package(small))
    for rows, tokens in ((1, 1), (3, 5), (2, 9)):
        feeds = {"ids": np.random.default_rng(rows).integers(0, 9, (rows, tokens))}
        # six products of numbers near one, and another tanh
        np.testing.assert_allclose(product(feeds)["the.scores"], reference(feeds)["the.scores"], rtol=0, atol=1e-6)
    with pytest.raises(BadFeeds, match="outside of 0 … 8"):
        product({"ids": np.array([[0, 9]])})
    with pytest.raises(Unsupported, match="shows no operators"):
        list(product.trace(feeds))
    product.close()


def test_native_code_is_never_taken_for_data(compiled: Conversion) -> None:
    assert compiled.path is not None
    evidence = scan(compiled.path)
    assert evidence.verdict is Verdict.INCONCLUSIVE
    assert {finding.rule for finding in evidence.findings} == {"RGS-COD-005"}
    with open_package(compiled.path) as package:
        with pytest.raises(PermitRefused):
            load(package)
        permit = Permit(package.manifest().digest, Scope.DATA, "0" * 64)
        with pytest.raises(Unsupported, match="cannot be told float16"):
            load(package, permit, precision="float16")


def test_who_vouches_for_it_runs_it_in_the_sandbox(small: Path, compiled: Conversion) -> None:
    assert compiled.path is not None
    model = rg.load(compiled.path, trust_code=True)
    feeds = {"ids": np.array([[0, 8, 3]])}
    found = model(feeds)["the.scores"]
    assert (model.runtime, model.is_sandboxed) == ("tvm", True)
    model.close()
    # as above
    np.testing.assert_allclose(found, load(open_package(small))(feeds)["the.scores"], rtol=0, atol=1e-6)


def test_a_library_for_another_processor_is_refused_before_it_is_opened(compiled: Conversion) -> None:
    assert compiled.path is not None
    content = (compiled.path / "model.so").read_bytes()
    text = stated_in(BytesReader(content, where="x"))
    target = json.loads(text)["target"]
    assert target["cpu"]
    for there in ("avx2", "asimd"):
        elsewhere = text.replace(f'"{there}"'.encode(), b'"' + b"z" * len(there) + b'"')
        if elsewhere != text:
            with pytest.raises(Unsupported, match=f"it was compiled for {target['cpu']} .* lacks z+"):
                isolated_tvm(content.replace(text, elsewhere), where="elsewhere")
            break
    else:
        pytest.fail(f"the library names no instruction set of this processor: {target}")


def test_what_is_no_library_of_ours_is_one_sentence(compiled: Conversion) -> None:
    assert compiled.path is not None
    content = (compiled.path / "model.so").read_bytes()
    with pytest.raises(Unsupported, match="nothing in it says"):
        isolated_tvm(content.replace(SECTION.encode(), b".strange"), where="a stranger's")
    text = stated_in(BytesReader(content, where="x"))
    with pytest.raises(Damaged, match="cannot be read"):
        isolated_tvm(content.replace(text, b"[" * len(text)), where="damaged")


def test_a_compiler_is_one_that_the_script_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CXX", "/bin/sh")  # a script gets nothing of the user's but the search path
    assert "apt-get install g++" in FROM_ONNX.obstacle()
    (tmp_path / "clang").symlink_to("/bin/sh")
    assert FROM_ONNX.obstacle() == ""


def test_an_operator_that_the_frontend_lacks_is_named(
    small: Path, tmp_path: Path, saved_graph: Callable[..., Path]
) -> None:
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["h"]),
        helper.make_node("GRU", ["h", "w", "w"], ["the.scores"], hidden_size=4),
    ]
    with open_package(saved_graph(tmp_path / "odd.onnx", nodes)) as package:
        feeds = ({"ids": np.zeros((2, 3), "int64")},)
        source = Source(load(open_package(small)), feeds, VerifiedFiles(package), "odd.onnx", "odd.onnx")
        with pytest.raises(Unsupported, match="not supported for frontend ONNX: GRU"):
            FROM_ONNX.convert(source)


def test_a_program_keeps_its_free_batch_and_all_that_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its script in this process: starting torch and TVM once more takes four seconds."""

    class Two(torch.nn.Module):
        places = torch.randn(8, 4)

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"scores": torch.softmax(x @ y + self.places[: x.shape[0]], dim=-1), "most": x.amax((1,)) - x.amin()}

    feeds = {name: torch.randn(shape) for name, shape in (("x", (2, 3)), ("y", (3, 4)))}
    free = {"x": {0: torch.export.Dim("batch", max=8)}, "y": None}
    torch.export.save(torch.export.export(Two(), (), feeds, dynamic_shapes=free), tmp_path / "model.pt2")
    inputs = (Port("x", "float32", ("batch", 3)), Port("y", "float32", (3, 4)))
    outputs = (Port("scores", "float32", (None, 4)), Port("most", "float32", (None,)))
    monkeypatch.syspath_prepend(SCRIPTS)
    script = importlib.import_module("tvm_from_program")
    (tmp_path / "made").mkdir()
    stated = stated_signature(Signature(inputs, outputs), "float32")
    made = script.convert(str(tmp_path / "model.pt2"), str(tmp_path / "made"), {"signature": stated})
    product = isolated_tvm((tmp_path / "made" / made["model"]).read_bytes(), threads=1, where="compiled")
    for rows in (1, 5):
        given = {"x": torch.randn(rows, 3), "y": torch.randn(3, 4)}
        found = product({name: value.numpy() for name, value in given.items()})
        theirs = Two()(**given)
        np.testing.assert_array_equal(found["most"], theirs["most"].numpy())  # no sum, one rounding
        # three products, and another exponential
        np.testing.assert_allclose(found["scores"], theirs["scores"].numpy(), rtol=0, atol=1e-6)
    product.close()
