from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from torch import nn

from regraft.errors import BadFeeds, PermitRefused, Unsupported
from regraft.package.package import open_package
from regraft.runtime import load as load_permitted
from regraft.runtime.torch_script import TorchScriptModel
from regraft.workflow.load import load


@pytest.fixture
def feeds() -> dict[str, np.ndarray]:
    sound = np.random.default_rng(0).standard_normal((1, 512)).astype("float32")
    return {"x": 0.1 * sound, "sr": np.array(16000, dtype=np.int64)}


def test_a_program_with_state_starts_every_pass_anew(silero, feeds):
    model = load(silero + "silero_vad.jit")
    first, second = model(feeds), model(feeds)
    assert np.array_equal(first["output_0"], second["output_0"])
    assert [port.name for port in model.signature.inputs] == ["x", "sr"]


def test_a_program_needs_a_permit(silero):
    with open_package(silero + "silero_vad.jit") as package, pytest.raises(PermitRefused):
        load_permitted(package)


def test_what_it_cannot_do_it_says(silero, feeds):
    model = load(silero + "silero_vad.jit")
    with pytest.raises(Unsupported, match="no hooks"):
        model.trace(feeds)
    with pytest.raises(Unsupported, match="the program stopped"):
        model(feeds | {"x": feeds["x"][:, :100]})
    with pytest.raises(BadFeeds, match="sr"):
        model({"x": feeds["x"]})


def test_a_program_that_is_cut_short_is_damaged_or_refused(silero, tmp_path):
    from regraft.errors import RegraftError

    path, _, inside = silero.partition("#")
    content = (tmp_path.__class__(path) / inside / "silero_vad.jit").read_bytes()
    (tmp_path / "m.jit").write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(RegraftError):
        load(tmp_path / "m.jit")


class Tokens(nn.Module):
    """Ids through a view to a table; a mask that is cast to booleans; a wave that is cast; numbers that are scaled."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 4)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, wave: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        found = self.table(ids.view(-1).unsqueeze(0))
        return (found * mask.to(torch.bool).view(1, -1, 1)).sum(1) * scale + wave.float().mean()


@pytest.mark.parametrize("how", ["traced", "scripted", "frozen"])
def test_inputs_that_index_a_table_are_integers_and_masks_beside_them(how):
    network = Tokens().eval()
    ids = torch.ones(2, 3, dtype=torch.int64)
    program = (
        torch.jit.script(network)
        if how == "scripted"
        else torch.jit.trace(network, (ids, ids, *[torch.ones(2, 4)] * 2))
    )
    content = io.BytesIO()
    torch.jit.save(torch.jit.freeze(program) if how == "frozen" else program, content)
    model = TorchScriptModel(torch.jit.load(io.BytesIO(content.getvalue())))
    assert [(port.name, port.dtype) for port in model.signature.inputs] == [
        ("ids", "int64"), ("mask", "int64"), ("wave", "float32"), ("scale", "float32"),
    ]  # fmt: skip
    feeds = {"ids": np.ones((2, 3), np.int64), "mask": np.ones((2, 3), np.int64), "scale": np.ones((2, 4), np.float32)}
    wave = np.arange(8).reshape(2, 4)
    (ours,), (theirs,) = (model({**feeds, "wave": wave.astype(dtype)}).values() for dtype in ("float32", "int64"))
    np.testing.assert_array_equal(ours, theirs)  # the program casts them itself
    with pytest.raises(BadFeeds, match="'ids' is float32"):
        model({**feeds, "ids": np.ones((2, 3), np.float32), "wave": wave})


def test_a_picture_that_is_cast_stays_a_picture():
    class Pictures(nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return pixels.to(torch.float32).mean()

    model = TorchScriptModel(torch.jit.script(Pictures()))
    assert [port.dtype for port in model.signature.inputs] == ["float32"]
