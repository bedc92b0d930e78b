"""Networks that are, and are not, what their name says: the discrepancies that were found between model zoos."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from regraft.compare.layer_table import LayerTable, layer_table
from regraft.conceptual.architectures import architecture, architecture_from_file, architectures, row
from regraft.conceptual.fidelity import differences, judge_fidelity, written
from regraft.errors import Damaged
from regraft.package.formats import Port
from regraft.record.evidence import Draft, Evidence, Verdict
from regraft.runtime.torch_module import TorchModel


class Fire(nn.Module):
    def __init__(self, wide: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(wide, squeeze, 1)
        self.one, self.three = nn.Conv2d(squeeze, expand, 1), nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.squeeze(x))
        return torch.relu(torch.cat([self.three(x), self.one(x)], 1))  # the branches in the other order


def squeezenet(version: str, *, stride: int = 2, skipped: int = -1, kernel: int = 0, classes: int = 1000) -> nn.Module:
    wide, size = (96, 7) if version == "1.0" else (64, 3)
    layers: list[nn.Module] = [nn.Conv2d(3, wide, kernel or size, stride), nn.ReLU(), nn.MaxPool2d(3, 2)]
    for number, (squeeze, expand) in enumerate(((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192),
                                                (64, 256), (64, 256))):  # fmt: skip
        if number != skipped:
            layers.append(Fire(wide, squeeze, expand))
            wide = 2 * expand
    layers += [nn.Conv2d(wide, classes, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers).eval()


def table_of(network: nn.Module) -> LayerTable:
    model = TorchModel(network, inputs=[Port("input", "float32", ("batch", 3, 64, 64))])
    return layer_table(model, {"input": np.zeros((1, 3, 64, 64), np.float32)})


def judged(network: nn.Module, name: str, side: tuple[int, ...] = ()) -> Evidence:
    spec = architecture(name)
    assert spec is not None
    return judge_fidelity(Draft("fidelity"), table_of(network), spec, side)


def told(evidence: Evidence) -> list[str]:
    return [one.message for one in evidence.findings if one.rule != "fidelity.table"]


def test_the_right_one_passes_whatever_the_order_of_its_branches() -> None:
    for version in ("1.0", "1.1"):
        evidence = judged(squeezenet(version), f"SqueezeNet {version}")
        assert (evidence.verdict, evidence.outcome) == (Verdict.PASS, "faithful")
        counts = {entry.name: entry.value for entry in evidence.measurements}
        assert counts["parameters"] == counts["parameters_published"]


def test_one_version_sold_as_the_other_is_named() -> None:
    evidence = judged(squeezenet("1.1"), "squeezenet_1_0")
    assert (evidence.verdict, evidence.outcome) == (Verdict.FAIL, "unfaithful")
    assert "those of SqueezeNet 1.1" in evidence.summary
    assert any("kernel 3 × 3 for 7 × 7" in message for message in told(evidence))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"stride": 1}, "layer 0 is another one: stride 1 × 1 for 2 × 2"),
        ({"kernel": 5}, "layer 0 is another one: kernel 5 × 5 for 7 × 7"),
        ({"skipped": 1}, "a layer is missing: conv 128 16 k1x1"),
    ],
)
def test_what_was_changed_is_named(changes: dict[str, int], said: str) -> None:
    evidence = judged(squeezenet("1.0", **changes), "SqueezeNet 1.0")
    assert evidence.verdict is Verdict.FAIL
    assert any(message.startswith(said) for message in told(evidence)), told(evidence)


def test_other_classes_are_no_infidelity_and_another_size_is() -> None:
    evidence = judged(squeezenet("1.0", classes=10), "SqueezeNet 1.0")
    assert evidence.verdict is Verdict.PASS
    assert "its head is another one" in evidence.summary
    evidence = judged(squeezenet("1.0"), "SqueezeNet 1.0", side=(299, 299))
    assert evidence.verdict is Verdict.FAIL
    assert told(evidence) == ["the package prepares pictures of 299 × 299, SqueezeNet 1.0 was published for 224 × 224"]


def test_multiply_adds_are_those_that_are_published() -> None:
    from benchmarks.resnet import resnet18

    network, _ = resnet18()
    model = TorchModel(network, inputs=[Port("input", "float32", ("batch", 3, 224, 224))])
    table = layer_table(model, {"input": np.zeros((2, 3, 224, 224), np.float32)})
    spec = architecture("resnet18")
    assert spec is not None
    assert (table.parameters, table.multiply_adds) == (
        spec.parameters,
        spec.multiply_adds,
    )  # a batch of two counts once


def test_layers_of_all_kinds_are_counted() -> None:
    network = nn.ModuleDict({"table": nn.Embedding(7, 4), "cell": nn.LSTM(4, 6, batch_first=True)})
    network["turn"] = nn.ConvTranspose1d(6, 3, 4, stride=2, groups=3)

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = network

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            states, _ = self.parts["cell"](self.parts["table"](ids))  # (B, 5, 6)
            return self.parts["turn"](states.transpose(1, 2))  # (B, 3, 12)

    model = TorchModel(Whole().eval(), inputs=[Port("ids", "int64", ("batch", 5))])
    table = layer_table(model, {"ids": np.zeros((1, 5), np.int64)})
    assert [layer.kind for layer in table.layers] == ["embedding", "recurrent", "convolution"]
    _, cell, turn = table.layers
    assert (cell.channels_in, cell.channels_out, cell.multiply_adds) == (4, 6, 5 * 4 * 6 * (4 + 6))
    assert (turn.channels_in, turn.channels_out, turn.kernel, turn.stride, turn.groups) == (6, 3, (4,), (2,), 3)
    assert turn.multiply_adds == 5 * 6 * 1 * 4
    assert table.parameters == sum(parameter.numel() for parameter in network.parameters())


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
