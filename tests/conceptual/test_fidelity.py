"""Networks that are, and are not, what their name says: the discrepancies that were found between model zoos."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from regraft.compare.layer_table import LayerTable, layer_table
from regraft.conceptual.architectures import Architecture, architecture, row
from regraft.conceptual.fidelity import judge_fidelity
from regraft.package.formats import Port
from regraft.record.evidence import Draft, Evidence, Severity, Verdict
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


def convolutions(*strides: int, classes: int = 0, kernels: tuple[int, ...] = (3, 3, 3)) -> nn.Module:
    layers: list[nn.Module] = [
        nn.Conv2d(3, 3, kernel, stride, kernel // 2) for stride, kernel in zip(strides, kernels, strict=True)
    ]
    if classes:
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, classes)]
    return nn.Sequential(*layers).eval()


def rows(*texts: str, adds: int | None = None) -> Architecture:
    return Architecture("small", "by hand", tuple(map(row, texts)), (3, 64, 64), multiply_adds=adds)


def against(network: nn.Module, spec: Architecture) -> Evidence:
    return judge_fidelity(Draft("fidelity"), table_of(network), spec)


def implementation(network: nn.Module) -> Architecture:
    table = table_of(network)
    return Architecture("b", "another one", table.layers, multiply_adds=table.multiply_adds, fed=(3, 64, 64))


HALVED = ("conv 3 3 k3", "conv 3 3 k3 s2", "conv 3 3 k3")


@pytest.mark.parametrize("known", ["strides", "multiply-adds", "outputs"])
def test_a_layer_on_the_other_side_of_a_stride_was_moved(known: str) -> None:
    halved = implementation(convolutions(1, 2, 1))
    spec = {
        "strides": rows(*HALVED),
        "multiply-adds": rows(*HALVED, adds=halved.multiply_adds),
        "outputs": halved,
    }[known]
    evidence = against(convolutions(1, 1, 2), spec)
    assert (evidence.verdict, evidence.outcome) == (Verdict.FAIL, "unfaithful")
    assert [one.rule for one in evidence.findings if one.severity is Severity.HIGH] == ["fidelity.layer_moved"]
    assert "1 moved of its 3 layers" in evidence.summary
    assert against(convolutions(1, 2, 1), spec).verdict is Verdict.PASS


class Residual(nn.Module):
    """The shortcut is run first, or last."""

    def __init__(self, *, is_first: bool) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 1, 1)
        self.shortcut, self.head = nn.Conv2d(3, 8, 1, 2), nn.Linear(8, 10)
        self.is_first = is_first

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.is_first:
            x = self.shortcut(x) + self.second(self.first(x))
        else:
            x = self.second(self.first(x)) + self.shortcut(x)
        return self.head(x.mean((2, 3)))


RESIDUAL = ("conv 3 8 k3 s2", "conv 8 8 k3", "conv 3 8 k1 s2")


def test_a_branch_with_a_stride_may_be_run_first() -> None:
    ours, theirs = (nn.Sequential(Residual(is_first=is_first)).eval() for is_first in (True, False))
    assert against(ours, implementation(theirs)).verdict is Verdict.PASS
    adds = table_of(theirs).multiply_adds
    assert against(ours, rows(*RESIDUAL, "linear 8 10", adds=adds)).verdict is Verdict.PASS
    assert against(ours, rows(*RESIDUAL, "linear 8 100", adds=adds + 8 * 90)).verdict is Verdict.PASS
    assert adds == 835_664
    assert against(ours, rows(*RESIDUAL, "linear 8 10", adds=836_000)).verdict is Verdict.PASS, "rounded"
    assert against(ours, rows(*RESIDUAL, "linear 8 10", adds=837_000)).verdict is Verdict.FAIL
    ours[0].head = nn.Identity()
    assert against(ours, rows(*RESIDUAL, "linear 8 10", adds=adds)).verdict is Verdict.PASS, "the head is left off"


def test_only_the_classes_of_a_head_are_free() -> None:
    for network, last in (
        (convolutions(1, 2, 2), "conv 3 3 k3"),
        (convolutions(1, 2, 1, kernels=(3, 3, 1)), "conv 3 3 k3"),
        (convolutions(1, 2, 2, kernels=(3, 3, 1)), "conv 3 7 k1"),
        (convolutions(1, 2, 1), "conv 3 3 k3 g3"),
        (convolutions(1, 2, 1), "conv 3 3 k3 d2"),
    ):
        assert against(network, rows(*HALVED[:2], last)).verdict is Verdict.FAIL, last
    assert against(convolutions(1, 2, 1), rows(*HALVED[:2], "conv 3 7 k3")).verdict is Verdict.PASS
    assert against(convolutions(1, 2, 1), rows(*HALVED, "conv 3 7 k1")).verdict is Verdict.PASS
    assert against(convolutions(1, 2, 1), rows(*HALVED, "conv 3 7 k3")).verdict is Verdict.FAIL, "no head has a kernel"


def test_nothing_compared_is_nothing_said() -> None:
    for network, spec in (
        (nn.Sequential(nn.Flatten(), nn.ReLU()).eval(), rows("linear 8 2")),
        (nn.Sequential(nn.Flatten(), nn.Linear(12_288, 3)).eval(), rows("linear 12288 2")),
        (nn.Sequential(nn.Flatten(), nn.ReLU()).eval(), rows()),
    ):
        evidence = against(network, spec)
        assert (evidence.verdict, evidence.outcome) == (Verdict.INCONCLUSIVE, "undecided")
