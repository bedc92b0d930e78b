"""One compilation for all: it takes a compiler of C++ a quarter of a minute."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from regraft.deployment.convert.hops.aotinductor_from_torch_export import AotInductorFromTorchExport
from regraft.deployment.convert.hops.torch_export_from_torch import TorchExportFromTorch
from regraft.deployment.convert.interface import Source
from regraft.errors import PermitRefused, Unsupported
from regraft.package.formats import Port
from regraft.package.package import Package, open_package
from regraft.record.evidence import Verdict
from regraft.record.permit import Permit, Scope
from regraft.runtime import load
from regraft.runtime.feeds import generated_feeds
from regraft.runtime.torch_aot import AotInductorModel
from regraft.runtime.torch_module import TorchModel
from regraft.runtime.verified import VerifiedFiles
from regraft.trust.scan import scan
from regraft.workflow.convert import convert

obstacle = AotInductorFromTorchExport().obstacle()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(obstacle), reason=obstacle or "there is a compiler")]


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"scores": torch.tanh(self.layer(x))}


@pytest.fixture(scope="module")
def small() -> TorchModel:
    torch.manual_seed(0)
    return TorchModel(Small(), inputs=[Port("x", "float32", ("batch", 4))], where="small")


@pytest.fixture(scope="module")
def compiled(small: TorchModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("program")
    feeds = [case.feeds for case in generated_feeds(small.signature)][:3]
    (folder / "model.pt2").write_bytes(TorchExportFromTorch().convert(Source(small, feeds)).files["model.pt2"])
    made = tmp_path_factory.mktemp("compiled")
    with open_package(folder) as package:
        source = Source(load(package, _permit(package)), feeds, VerifiedFiles(package, _permit(package)), "model.pt2")
        (made / "model.pt2").write_bytes(AotInductorFromTorchExport().convert(source).files["model.pt2"])
    return made


def _permit(package: Package) -> Permit:
    """As a scan that passed gives it."""
    return Permit(package.manifest().digest, Scope.DATA, "0" * 64)


def test_the_library_computes_the_same_at_every_size(small: TorchModel, compiled: Path) -> None:
    product = AotInductorModel((compiled / "model.pt2").read_bytes(), where="compiled")
    assert product.effective_precision == "float32"
    for rows in (1, 2, 9):
        x = np.random.default_rng(rows).normal(size=(rows, 4)).astype(np.float32)
        # tanh is vectorised in another way: a few units in the last place
        np.testing.assert_allclose(product({"x": x})["scores"], small({"x": x})["scores"], atol=1e-6)


def test_native_code_is_never_taken_for_data(compiled: Path) -> None:
    evidence = scan(compiled)
    assert evidence.verdict is Verdict.INCONCLUSIVE
    assert "compiled model" in " ".join(finding.message for finding in evidence.findings)
    with open_package(compiled) as package:
        _, recognised = package.probe("model.pt2")
        assert recognised is not None
        assert recognised.name == "aotinductor"
        with pytest.raises(PermitRefused):
            load(package)


def test_compiled_code_shows_no_operators(compiled: Path) -> None:
    product = AotInductorModel((compiled / "model.pt2").read_bytes(), where="compiled")
    with pytest.raises(Unsupported, match="no operators"):
        product.trace({"x": np.zeros((1, 4), np.float32)})


def test_the_whole_way_from_torch_is_verified(small: TorchModel, tmp_path: Path) -> None:
    made = convert(small, to="aotinductor", out=tmp_path / "made")
    assert made.evidence.verdict is Verdict.PASS, made.evidence.summary
    assert made.evidence.parameters["route"] == ["torch_export_from_torch", "aotinductor_from_torch_export"]
