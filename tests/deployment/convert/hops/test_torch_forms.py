"""Forms that a network of torch takes without leaving torch, and on to OpenVINO and ONNX from there."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel

import regraft as rg
from regraft.deployment.convert.hops.onnx_from_torchscript import OnnxFromTorchScript
from regraft.deployment.convert.hops.openvino_from_torch import OpenVinoFromTorch
from regraft.deployment.convert.hops.torch_export_from_torch import TorchExportFromTorch
from regraft.deployment.convert.hops.torch_export_from_torchscript import TorchExportFromTorchScript
from regraft.deployment.convert.hops.torchscript_from_torch import TorchScriptFromTorch
from regraft.deployment.convert.interface import Converter, Source
from regraft.deployment.verify import verify
from regraft.errors import Unsupported
from regraft.package.formats import Port
from regraft.record.evidence import Verdict
from regraft.runtime.feeds import generated_feeds
from regraft.runtime.interface import Model
from regraft.runtime.onnxruntime_model import OnnxRuntimeModel
from regraft.runtime.openvino_model import OpenVinoModel, graph_from_bytes
from regraft.runtime.torch_export import TorchExportModel
from regraft.runtime.torch_module import TorchModel
from regraft.runtime.torch_script import TorchScriptModel
from regraft.trust.scan import scan


def converted(converter: Converter, model: TorchModel | TorchScriptModel) -> dict[str, bytes]:
    signature = model.signature
    feeds = [case.feeds for case in generated_feeds(signature)][:3]
    return converter.convert(Source(model, feeds)).files


def program(files: dict[str, bytes]) -> Model:
    return TorchExportModel.from_program(torch.export.load(io.BytesIO(files["model.pt2"])), where="program")


def script(files: dict[str, bytes]) -> TorchScriptModel:
    return TorchScriptModel(torch.jit.load(io.BytesIO(files["model.pt"])), where="script")


def ir(files: dict[str, bytes]) -> Model:
    return OpenVinoModel(graph_from_bytes(files["model.xml"], files["model.bin"]), precision="float32")


@pytest.mark.parametrize(
    ("converter", "load"),
    [(TorchExportFromTorch(), program), (TorchScriptFromTorch(), script), (OpenVinoFromTorch(), ir)],
    ids=["torch-export", "torchscript", "openvino"],
)
def test_each_form_is_the_same_network_at_every_size(attention: TorchModel, converter, load) -> None:
    product = load(converted(converter, attention))
    assert verify(attention, product, localise=False).verdict is Verdict.PASS


def test_a_network_of_token_ids_is_the_same_as_torchscript(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = BertConfig(vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24)
    BertModel(config).save_pretrained(tmp_path / "bert")
    made = rg.convert(tmp_path / "bert", to="torchscript", out=tmp_path / "script")
    assert made.evidence.verdict is Verdict.PASS, made.evidence.findings


class Steps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LSTM(3, 4, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)[0]


@pytest.mark.parametrize(
    ("converter", "load"),
    [(TorchExportFromTorch(), program), (TorchScriptFromTorch(), script)],
    ids=["torch-export", "torchscript"],
)
def test_the_steps_of_a_recurrent_layer_stay_free(converter: Converter, load) -> None:
    torch.manual_seed(0)
    model = TorchModel(Steps(), inputs=[Port("x", "float32", ("batch", "steps", 3))], where="steps")
    product = load(converted(converter, model))
    for batch, steps in ((1, 1), (3, 7), (2, 40)):
        x = np.random.default_rng(0).normal(size=(batch, steps, 3)).astype(np.float32)
        np.testing.assert_array_equal(product({"x": x})["output_0"], model({"x": x})["output_0"])  # the same kernel


class Halving(nn.Module):
    """A loop and a branch that data decides: neither torch.export nor a trace can follow it, scripting can."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        while float(x.abs().max()) > 1.0:
            x = x / 2
        return x + 1 if float(x.sum()) > 0 else x - 1


def test_a_script_keeps_its_loops_and_branches_in_onnx() -> None:
    model = TorchScriptModel(torch.jit.script(Halving()), where="halving")
    feeds = [{"x": np.full((rows, 3), value, np.float32)} for rows, value in ((2, 0.5), (3, 7.0), (4, -3.0))]
    files = OnnxFromTorchScript().convert(Source(model, feeds)).files
    product = OnnxRuntimeModel(files["model.onnx"])
    for values in ([9.0, -1.0, 0.5], [-9.0, -1.0, 0.5], [0.1, 0.1, 0.1]):
        x = np.array([values], np.float32)
        np.testing.assert_array_equal(next(iter(product({"x": x}).values())), next(iter(model({"x": x}).values())))


class Rated(nn.Module):
    """A setting decides how a wave is weighed; the older exporter lacks one of the operators."""

    def __init__(self) -> None:
        super().__init__()
        self.slow, self.fast = nn.Linear(8, 4), nn.Linear(8, 4)

    def forward(self, wave: torch.Tensor, rate: int) -> torch.Tensor:
        if rate == 8000:
            return self.slow(wave)
        if rate != 16000:
            raise ValueError("rate")
        odd = torch.bitwise_not(torch.arange(wave.shape[1])) % 2
        return torch.tanh(self.fast(wave * odd))


def test_a_program_that_settings_decide_is_followed_and_goes_on(tmp_path: Path) -> None:
    """It does not say its shapes: the user's inputs do, and other values are made up at those."""
    torch.manual_seed(0)
    jit: Any = torch.jit
    jit.save(jit.script(Rated().eval()), tmp_path / "rated.pt")
    feeds = {"wave": np.ones((1, 8), np.float32), "rate": np.array(16000)}
    made = rg.convert(tmp_path / "rated.pt", to="onnx", feeds=feeds, out=tmp_path / "onnx")
    assert made.evidence.verdict is Verdict.PASS, made.evidence.findings
    assert made.evidence.parameters["route"] == ["torch_export_from_torchscript", "onnx_from_torch"]
    assert "rate = 16000" in " ".join(finding.message for finding in made.evidence.findings)
    assert made.verification is not None
    tried = {one.name: one.value for one in made.verification.measurements}["feeds_tried"]
    assert tried is not None
    assert tried > 1


def test_a_program_that_values_decide_is_not_followed() -> None:
    model = TorchScriptModel(torch.jit.script(Halving()), where="halving")
    with pytest.raises(Unsupported, match="cannot follow the program"):
        TorchExportFromTorchScript().convert(Source(model, [{"x": np.ones((2, 3), np.float32)}]))


def test_an_operator_that_the_exporter_lacks_is_named() -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.special.bessel_j0(x)

    model = TorchScriptModel(torch.jit.script(Odd()), where="odd")
    with pytest.raises(Unsupported, match="special_bessel_j0"):
        OnnxFromTorchScript().convert(Source(model, [{"x": np.ones((2, 3), np.float32)}]))


def test_what_torch_cannot_follow_is_refused() -> None:
    model = TorchModel(Halving(), inputs=[Port("x", "float32", ("batch", 3))], where="halving")
    for converter in (TorchExportFromTorch(), OpenVinoFromTorch()):
        with pytest.raises(Unsupported, match=r"torch\.export cannot follow"):
            converted(converter, model)


def test_loops_and_branches_of_values_are_compiled_where_a_trace_would_lose_them() -> None:
    model = TorchModel(Halving(), inputs=[Port("x", "float32", ("batch", 3))], where="halving")
    product = script(converted(TorchScriptFromTorch(), model))
    for values in ([9.0, -1.0, 0.5], [-9.0, -1.0, 0.5], [0.1, 0.1, 0.1]):
        x = np.array([values], np.float32)
        np.testing.assert_array_equal(product({"x": x})["output_0"], model({"x": x})["output_0"])


class Looking(nn.Module):
    """Adds one where something is true of the input, and takes one away where it is not."""

    def __init__(self, is_so: Callable[[torch.Tensor], object]) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.is_so = is_so

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layer(x)
        return x + 1 if self.is_so(x) else x - 1


class Choosing(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cond(x.sum() > 0, lambda x: x + 1, lambda x: x - 1, (x,))


LOOKS: dict[str, Callable[[torch.Tensor], object]] = {
    "a sum": lambda x: x.sum() > 0,
    "an element of Python's": lambda x: max(x[0].tolist()) > 0,
    "numpy": lambda x: x.detach().numpy().sum() > 0,
    "an element that it holds": lambda x: 1.0 in x,
    "equality": lambda x: torch.equal(x, x.abs()),
    "a registered operator": lambda x: torch.ops.aten.item.default(x.sum()) > 0,
    "how many are not zero": lambda x: len(x.relu().nonzero()) > 3,
    "how many a mask has": lambda x: x[x > 0].shape[0] > 3,
}


@pytest.mark.parametrize("name", LOOKS)
def test_a_branch_that_values_decide_is_never_traced(name: str) -> None:
    """A function of Python's in a module is nothing that TorchScript compiles, so that both ways are closed."""
    model = TorchModel(Looking(LOOKS[name]), inputs=[Port("x", "float32", ("batch", 3))], where="looking")
    with pytest.raises(Unsupported, match=r"depends on values: test_torch_forms\.py, line \d+: .*cannot compile"):
        converted(TorchScriptFromTorch(), model)


def test_a_branch_that_sizes_decide_is_traced() -> None:
    model = TorchModel(
        Looking(lambda x: int(x.shape[1] * 0.5) == 1 and len(x) and list(x)),
        inputs=[Port("x", "float32", ("batch", 3))],
        where="looking",
    )
    product = script(converted(TorchScriptFromTorch(), model))
    assert verify(model, product, localise=False).verdict is Verdict.PASS


@pytest.mark.parametrize("is_program", [False, True], ids=["as it is written", "as an exported program"])
def test_a_branch_of_torch_is_refused_with_its_place(is_program: bool) -> None:
    module: nn.Module = Choosing()
    if is_program:
        batch = {"x": {0: torch.export.Dim.AUTO}}
        module = torch.export.export(module, (torch.ones(3, 3),), dynamic_shapes=batch).module(check_guards=False)
        module.eval = lambda: module  # type: ignore[method-assign]  what torch returns there refuses it
    model = TorchModel(module, inputs=[Port("x", "float32", ("batch", 3))], where="choosing")
    with pytest.raises(Unsupported, match="cannot trace") as caught:
        converted(TorchScriptFromTorch(), model)
    assert is_program or "test_torch_forms.py, line" in caught.value.what
    assert "torch.cond" in caught.value.hint


def test_a_program_needs_no_trust(tmp_path: Path) -> None:
    model = TorchModel(Steps(), inputs=[Port("x", "float32", ("batch", "steps", 3))], where="steps")
    for name, content in converted(TorchExportFromTorch(), model).items():
        (tmp_path / name).write_bytes(content)
    evidence = scan(tmp_path)
    assert evidence.verdict is Verdict.PASS, evidence.summary
    assert str(Path(torch.__file__).parent).encode() not in (tmp_path / "model.pt2").read_bytes()
