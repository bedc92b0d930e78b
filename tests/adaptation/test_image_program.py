from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from torch import nn

from regraft.adaptation.image_program import image_program
from regraft.errors import Unsupported
from regraft.package.formats import Port
from regraft.runtime.image import ImageEncoder, preprocessing_for
from regraft.runtime.torch_export import TorchExportModel
from regraft.runtime.torch_module import TorchModel

PICTURES = list(np.random.default_rng(0).integers(0, 256, (5, 20, 20, 3), dtype=np.uint8))


class Net(nn.Module):
    """A block that is called twice, maps, and scores of its own; the scores come first."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.block = nn.Conv2d(4, 4, 3, padding=1)
        self.unused = nn.Linear(7, 7)
        self.scores = nn.Linear(4, 9)

    def forward(self, picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        maps = self.block(torch.relu(self.block(torch.relu(self.stem(picture)))))
        return self.scores(maps.mean((2, 3))), maps


def model(module: nn.Module | None = None, *inputs: Port) -> TorchModel:
    ports = inputs or (Port("picture", "float32", ("batch", 3, 12, 16)),)
    return TorchModel(module or Net(), inputs=ports, where="mine")


def program(content: bytes) -> TorchExportModel:
    return TorchExportModel.from_program(torch.export.load(io.BytesIO(content)))


@pytest.mark.parametrize(
    ("tap", "kept"),
    [
        (None, {"stem", "block", "scores"}),
        ("block", {"stem", "block"}),
        ("block:1", {"stem", "block"}),
        ("stem", {"stem"}),
    ],
)
def test_the_program_makes_the_features_that_are_compared(tap: str | None, kept: set[str]) -> None:
    eager = model()
    preprocessing = preprocessing_for(eager)
    found = program(image_program(eager, preprocessing, tap=tap))
    assert [(port.name, port.shape[1:]) for port in found.signature.inputs] == [("pixels", (3, 12, 16))]  # type: ignore[index]
    expected = ImageEncoder(eager, preprocessing, tap=tap).encode(PICTURES)
    (ours,) = found({"pixels": preprocessing(PICTURES)}).values()
    assert np.array_equal(ours, expected)
    assert {name.split(".")[-2] for name, _ in found.graph.named_parameters()} == kept


def test_what_is_no_module_of_a_torch_network_is_refused() -> None:
    eager = model()
    with pytest.raises(Unsupported, match="names no module"):
        image_program(eager, preprocessing_for(eager), tap="nowhere")
    two = model(None, Port("a", "float32", ("batch", 3, 8, 8)), Port("b", "float32", ("batch", 3, 8, 8)))
    with pytest.raises(Unsupported, match="2 inputs"):
        image_program(two, preprocessing_for(two), tap=None)

    class Branching(nn.Module):
        def forward(self, picture: torch.Tensor) -> torch.Tensor:
            return picture if picture.sum() > 0 else -picture

    branching = model(Branching())
    with pytest.raises(Unsupported, match=r"torch\.export cannot follow"):
        image_program(branching, preprocessing_for(branching), tap=None)
