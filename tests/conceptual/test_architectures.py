"""Published architectures against their published numbers, and specifications as users write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regraft.compare.layer_table import Layer
from regraft.conceptual.architectures import architecture_from_file, architectures, row
from regraft.conceptual.fidelity import differences, written
from regraft.errors import Damaged


def test_the_known_ones_have_the_published_number_of_weights() -> None:
    """Norms and biases come to the weights of the layers: never fewer, and never a tenth more."""
    for known in architectures():
        weights = sum(_weights(layer) for layer in known.layers)
        assert known.parameters is not None
        assert weights <= known.parameters <= 1.1 * weights, known.name


def _weights(layer) -> int:
    spatial = int(np.prod(layer.kernel)) if layer.kernel else 1
    return layer.channels_in // layer.groups * layer.channels_out * spatial


def test_rows_are_read_as_they_are_written(tmp_path) -> None:
    for known in architectures():
        assert [row(written(layer)) for layer in known.layers] == list(known.layers)
    assert not differences(architectures()[0].layers, architectures()[0].layers)
    file = tmp_path / "mine.toml"
    file.write_text('name = "mine"\nlayers = ["conv 3 8 k3 s2", "linear 8 2"]\ninput = [3, 32, 32]\n')
    spec = architecture_from_file(file)
    assert (spec.layers[0].stride, spec.layers[1].kind, spec.input) == ((2, 2), "linear", (3, 32, 32))
    for text in ('name = "x"', 'name = "x"\nlayers = ["conv"]', "layers = 1", 'name="x"\nlayers=[]\nmore=1', "\xff["):
        file.write_text(text, encoding="latin-1")
        with pytest.raises(Damaged):
            architecture_from_file(file)


@st.composite
def layers(draw: st.DrawFn) -> Layer:
    sizes = st.integers(1, 99_999)
    kind = draw(st.sampled_from(["convolution", "linear", "embedding", "recurrent"]))
    if kind != "convolution":
        return Layer(kind, draw(sizes), draw(sizes))
    axes = draw(st.integers(1, 3))
    kernel, stride, dilation = (tuple(draw(st.lists(st.integers(1, 9), min_size=axes, max_size=axes))) for _ in "ksd")
    return Layer(kind, draw(sizes), draw(sizes), kernel, stride, dilation, draw(st.integers(1, 64)))


@given(layers())
def test_every_layer_is_read_as_it_is_written(layer: Layer) -> None:
    assert row(written(layer)) == layer


@pytest.mark.parametrize(
    "text",
    ["conv1d 3 8 k3x3", "conv 3 8 k3x3x3", "conv 3 8 k0", "conv 3 8 g2x2", "linear 3 8 k3", "conv 3 8 k" + "9" * 5000],
)
def test_what_is_no_layer_is_refused(text: str) -> None:
    with pytest.raises(Damaged):
        row(text)


@pytest.mark.parametrize(
    "line",
    ["layers = []", "input = [-3, 32, 32]", "input = [3, 0, 32]", "input = [3, 65537, 1]", "input = [true, 32, 32]",
     "input = [3, 65536, 65536]", "input = [1e400]", "input = [1, 1, 1, 1, 1, 1, 1, 1, 1]", f"input = [{'9' * 400}]",
     "parameters = -1", "multiply_adds = 0"],
)  # fmt: skip
def test_hostile_numbers_are_refused(line: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    rows = "" if line.startswith("layers") else 'layers = ["linear 8 2"]'
    file.write_text(f'name = "mine"\n{rows}\n{line}\n')
    with pytest.raises(Damaged):
        architecture_from_file(file)


def test_a_large_file_is_not_read_to_its_end(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    with file.open("wb") as made:
        made.truncate(1 << 40)  # sparse: a terabyte that takes no room
    with pytest.raises(Damaged, match="more than"):
        architecture_from_file(file)
