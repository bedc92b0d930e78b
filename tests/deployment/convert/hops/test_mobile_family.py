"""Exported programs to TFLite, ExecuTorch and Core ML, in the environment `mobile` where it was made."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from regraft.deployment.convert.forms import FORMS
from regraft.deployment.convert.hops.mobile_family import FAMILY, one_sample
from regraft.deployment.convert.hops.torch_export_from_torch import TorchExportFromTorch
from regraft.deployment.convert.interface import Source
from regraft.deployment.convert.members import converters
from regraft.deployment.convert.routes import blocked_ways
from regraft.errors import Unsupported
from regraft.package.formats import Port
from regraft.package.package import open_package
from regraft.record.evidence import Verdict
from regraft.record.store import open_store
from regraft.runtime.feeds import generated_feeds
from regraft.runtime.torch_export import TorchExportModel
from regraft.runtime.torch_module import TorchModel
from regraft.workflow.convert import convert

pytestmark = pytest.mark.timeout(900)  # each library takes seconds of CPU to import, and machines are busy

LITERT = FAMILY[0]
FACTORY = """
import torch
from torch import nn


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(20, 8), nn.Linear(8, 3)

    def forward(self, ids, weights):
        hidden = (self.embed(ids) * weights[..., None]).sum(1)
        scores = self.head(torch.tanh(hidden))
        return {"scores": scores, "best": scores.argmax(-1)}


def tagger():
    torch.manual_seed(0)
    return Tagger().eval(), {"ids": torch.ones(2, 5, dtype=torch.int64), "weights": torch.randn(2, 5)}
"""


@pytest.fixture
def tagger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Integers and floats go in, two outputs with names of their own come out; the batch is free."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "mobile_tagger.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    return "py:mobile_tagger:tagger"


def program(network: nn.Module, width: int) -> Source:
    """An exported program with a free batch, as the hop before hands it over."""
    model = TorchModel(network.eval(), inputs=[Port("x", "float32", ("batch", width))], where="network")
    feeds = [case.feeds for case in generated_feeds(model.signature)][:3]
    content = TorchExportFromTorch().convert(Source(model, feeds)).files["model.pt2"]
    return Source(TorchExportModel.from_program(torch.export.load(io.BytesIO(content)), where="program"), feeds)


def test_phones_are_reached_from_torch_and_from_onnx_where_the_environment_was_made() -> None:
    for form in ("torch", "onnx"):
        for member in FAMILY:
            said = f"{member.name}: the environment mobile was not made: regraft doctor --environment mobile"
            assert said in blocked_ways(form, member.target)
    assert {form.name for form in FORMS.values() if form.unrun} == {"coreml", "tensorrt"}
    assert {"litert_from_torch_export", "tensorrt_from_onnx"} <= {member.name for member in converters()}


def test_the_size_that_is_kept_is_that_of_one_sample() -> None:
    sizes = ((3, 7), (1, 2), (1, 5), (2, 9))
    cases = [{"x": np.zeros(size), "scale": np.zeros(())} for size in sizes]
    assert one_sample(cases)["x"].shape == (1, 5)
    assert one_sample(cases[:1])["x"].shape == (3, 7)
    ports = [Port("x", "float32", ("batch", "n")), Port("scale", "float32", ())]
    assert one_sample(cases, ports)["x"].shape == (1, 5)
    assert one_sample(cases, ports, given=1)["x"].shape == (1, 7), "a row of the user's own batch"
    assert one_sample(cases, ports, given=2)["x"].shape == (1, 7)
    assert one_sample(cases[1:], ports, given=1)["x"].shape == (1, 2), "the user's own, however small"
    fixed = [Port("x", "float32", (3, "n")), *ports[1:]]
    assert one_sample(cases, fixed, given=1)["x"].shape == (1, 5), "three rows that are no batch"
    batches = [cases[0], cases[3]]
    assert one_sample(batches, ports)["x"].shape == (1, 9), "a row of the largest, where all are batches"
    assert one_sample(batches, fixed)["x"].shape == (3, 7)


@pytest.mark.parametrize("form", ["litert", "executorch"])
def test_what_is_lowered_is_the_same_network_with_its_names(form, tagger, large_environment, tmp_path: Path) -> None:
    large_environment("mobile")
    made = convert(tagger, to=form, out=tmp_path / "out", store=open_store(tmp_path / "store"))
    assert made.evidence.verdict is Verdict.PASS, made.evidence.summary
    assert made.evidence.parameters["route"] == ["torch_export_from_torch", f"{form}_from_torch_export"]
    rules = {finding.rule for finding in made.evidence.findings}
    assert "convert.narrower" in rules
    assert "convert.fell_back" not in rules, "no other way would keep the batch free"
    with open_package(tmp_path / "out") as package:
        from regraft.runtime import load

        model = load(package)
    ids = {"litert": np.int32, "executorch": np.int64}[form]
    told = model({"ids": np.array([[1, 2, 3, 4, 5]], ids), "weights": np.ones((1, 5), np.float32)})
    model.close()
    assert sorted(told) == ["best", "scores"]
    assert told["best"].tolist() == told["scores"].argmax(-1).tolist()


def test_core_ml_is_made_and_said_to_be_unproven(tagger, large_environment, tmp_path: Path) -> None:
    large_environment("mobile")
    made = convert(tagger, to="coreml", out=tmp_path / "out", store=open_store(tmp_path / "store"))
    assert (made.evidence.verdict, made.evidence.outcome) == (Verdict.INCONCLUSIVE, "unproven")
    assert "Core ML computes on Apple's systems alone" in made.evidence.summary
    with open_package(tmp_path / "out") as package:
        probe, recognised = package.probe("model.mlpackage/Data/com.apple.CoreML/model.mlmodel")
        assert recognised is not None
        description = recognised.describe(probe)
    assert [port.name for port in description.inputs or ()] == ["ids", "weights"]
    assert sorted(port.name for port in description.outputs or ()) == ["best", "scores"]


class Odd(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.special.bessel_j0(x)


@pytest.mark.parametrize("member", FAMILY, ids=lambda member: member.target)
def test_an_operator_that_a_library_lacks_is_named(member, large_environment) -> None:
    large_environment("mobile")
    with pytest.raises(Unsupported, match="bessel_j0"):
        member.convert(program(Odd(), 3))


def test_only_programs_are_lowered() -> None:
    model = TorchModel(Odd(), inputs=[Port("x", "float32", ("batch", 3))], where="odd")
    with pytest.raises(Unsupported, match="no exported program"):
        LITERT.convert(Source(model, [{"x": np.ones((2, 3), np.float32)}]))
