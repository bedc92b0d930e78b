from __future__ import annotations

import numpy as np
import pytest

from regraft.errors import BadFeeds, PermitRefused, Unsupported
from regraft.package.package import open_package
from regraft.runtime import load as load_permitted
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
