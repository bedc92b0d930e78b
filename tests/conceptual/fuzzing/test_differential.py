"""Planted faults that ordinary inputs do not show are found and made small; what is right is not accused."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import pytest
import torch
from benchmarks.fuzzed import FAULTS
from benchmarks.fuzzed.pairs import fault_sides, pair_of
from onnx import helper
from torch import nn

from regraft.compare.weight_map import WeightMap, pieces
from regraft.compare.weight_map.pieces import Piece, Source
from regraft.conceptual.fuzzing import Fuzzed, Pair, fuzz
from regraft.conceptual.fuzzing.checkpoints import OWN
from regraft.conceptual.fuzzing.domain import domain_of
from regraft.conceptual.fuzzing.findings import report_fuzzed
from regraft.conceptual.fuzzing.minimise import minimised
from regraft.conceptual.fuzzing.oracle import Answer, Outcome
from regraft.errors import Unsupported
from regraft.record.evidence import Draft, Severity
from regraft.runtime.keras_model import KerasModel, import_keras
from regraft.runtime.onnxruntime_model import OnnxRuntimeModel
from regraft.runtime.torch_factory import torch_model

NO_MAP = WeightMap((), {}, {})


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def searched(name: str, inputs: int, seed: int = 0) -> Fuzzed:
    """The search ends by the number of inputs: 3,600 s are never reached."""
    pair, _ = pair_of(*fault_sides(FAULTS[name]))
    return fuzz(pair, seconds=3600, inputs=inputs, seed=seed)


def own(reference: nn.Module, candidate: nn.Module, x: torch.Tensor, seed: int = 0) -> Pair:
    models = [torch_model(network, {"x": x}, threads=1) for network in (reference, candidate)]
    return Pair(*models, {"x": x.numpy()}, inputs={"x": "x"}, weight_map=NO_MAP, values={}, seed=seed)


def test_the_last_token_is_found_and_stands_alone_in_the_smallest_inputs() -> None:
    found = searched("LastToken", 50).counterexample
    assert found is not None
    assert found.checkpoint.name == "own"
    assert found.feeds["ids"].tolist() == [[36]]  # the size of the vocabulary was found by asking: 37
    assert found.found["ids"].size > 1


def test_a_branch_that_is_not_used_yet_shows_with_other_weights_alone() -> None:
    found = searched("UnusedBranch", 60).counterexample
    assert found is not None
    assert found.checkpoint.name != "own"


def test_a_size_that_the_signature_fixes_by_example_is_tried() -> None:
    found = searched("SameAtOddSizes", 120).counterexample
    assert found is not None
    assert any(size % 2 for size in found.feeds["x"].shape[2:])


class Norm(nn.Module):
    """Of a hundred times the input, written out: by two passes, or by one, which cancels where the mean is large."""

    def __init__(self, *, eps: float = 1e-5, is_fast: bool = False) -> None:
        super().__init__()
        self.eps, self.is_fast = eps, is_fast

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = 100 * x
        mean = x.mean(-1, keepdim=True)
        spread = ((x - mean) ** 2).mean(-1, keepdim=True)
        if self.is_fast:
            spread = ((x * x).mean(-1, keepdim=True) - mean * mean).clamp(min=0)
        return (x - mean) * torch.rsqrt(spread + self.eps)


def test_a_search_is_the_same_again_with_the_same_seed() -> None:
    pairs = [own(Norm(), Norm(eps=1e-3), torch.ones(2, 16), seed=3) for _ in range(2)]
    once, again = (fuzz(pair, seconds=3600, inputs=100, seed=3).counterexample for pair in pairs)
    assert once is not None
    assert again is not None
    assert (once.inputs, once.outcome) == (again.inputs, again.outcome)
    np.testing.assert_array_equal(once.feeds["x"], again.feeds["x"])


def test_an_order_of_sums_that_loses_digits_is_noted_and_not_accused() -> None:
    found = fuzz(own(Norm(), Norm(is_fast=True), torch.ones(2, 16)), seconds=3600, inputs=150)
    assert found.counterexample is None
    assert found.rounding is not None


class Tanh(nn.Module):
    """By its own operator, or by exponentials; for rows of any length, or of eight numbers alone."""

    def __init__(self, *, by_hand: bool = False, is_fixed: bool = False) -> None:
        super().__init__()
        self.by_hand, self.is_fixed = by_hand, is_fixed

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.view(x.shape[0], 8) if self.is_fixed else x
        return 1 - 2 / ((2 * x).exp() + 1) if self.by_hand else x.tanh()


def test_nothing_found_is_told_with_its_bound() -> None:
    found = fuzz(own(Tanh(), Tanh(by_hand=True), torch.ones(2, 8)), seconds=3600, inputs=250)
    assert found.counterexample is None
    assert found.bound == pytest.approx(3 / found.independent, rel=0.05)  # the rule of three


class Words(nn.Module):
    def __init__(self, rows: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(rows, 4)
        self.words.weight.data = torch.arange(4.0 * rows).reshape(rows, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.words(x)


def test_a_candidate_that_stops_at_the_usual_sizes_is_a_counterexample() -> None:
    pair = own(Words(9), Words(8), torch.tensor([[1, 2, 3], [4, 5, 6]]))
    found = fuzz(pair, seconds=3600, inputs=60)
    assert found.counterexample is not None
    assert found.counterexample.outcome.message.startswith("the candidate stops: ")
    ids = found.counterexample.feeds["x"]
    assert ids.shape == (2, 3)  # the usual sizes: at others it may stop for another reason
    assert (np.count_nonzero(ids), ids.max()) == (1, 8)
    draft = Draft("replicate")
    report_fuzzed(draft, found, seed=0)
    assert [(one.rule, one.severity) for one in draft.findings][-1] == ("replicate.counterexample", Severity.HIGH)


class Tagger(nn.Module):
    """One of five tags for each token: the highest score, of equal ones the first or the last; or the lowest."""

    def __init__(self, chosen: str, *, is_silent: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.head, self.chosen = nn.Embedding(9, 4), nn.Linear(4, 5), chosen
        if is_silent:
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        scores = self.head(self.words(ids))
        if self.chosen == "last":
            return 4 - scores.flip(-1).argmax(-1)
        return scores.argmax(-1) if self.chosen == "first" else scores.argmin(-1)


@pytest.mark.parametrize(
    ("chosen", "is_silent", "answer"), [("last", True, Answer.SAME), ("lowest", False, Answer.DIFFERS)]
)
def test_another_tag_is_a_difference_only_where_it_is_no_tie(chosen: str, is_silent: bool, answer: Answer) -> None:
    feeds = {"ids": np.array([[1, 2, 3], [4, 5, 6]])}
    examples = {"ids": torch.from_numpy(feeds["ids"])}
    sides = [torch_model(Tagger(one, is_silent=is_silent), examples, threads=1) for one in ("first", chosen)]
    first, other = (next(iter(side(feeds).values())) for side in sides)
    assert (first != other).any()  # on tokens alone, which have no neighbours: the weights are moved
    pair, _ = pair_of(*sides, feeds)
    assert pair.oracle(OWN).judged(feeds).answer is answer


def test_the_bound_counts_inputs_that_both_answered_alone() -> None:
    found = fuzz(own(Tanh(), Tanh(is_fixed=True), torch.ones(2, 8)), seconds=3600, inputs=120)
    assert found.refused > 0
    assert 0 < found.independent <= found.inputs - found.refused
    drawn = fuzz(own(Tanh(), Tanh(), torch.ones(2, 8)), seconds=3600, inputs=120).independent
    assert found.independent < drawn  # the same inputs, on some of which this candidate stopped
    draft = Draft("replicate")
    report_fuzzed(draft, found, seed=0)
    (told,) = [one.message for one in draft.findings if one.rule == "replicate.fuzz"]
    assert f"no disagreement in {found.inputs - found.refused} inputs" in told
    assert f"the candidate stopped on {found.refused} more" in told


def test_no_input_is_copied_once_the_time_to_make_it_smaller_is_over() -> None:
    pair = own(Tanh(), Tanh(), torch.ones(2, 8))
    feeds = {"x": np.ones((2, 8), np.float32).view(Uncopied)}
    outcome = Outcome(Answer.DIFFERS, 2.0)
    small = minimised(pair.domain, [OWN], OWN, feeds, outcome, pair.oracle, seconds=-1)
    assert small.feeds["x"] is feeds["x"]


class Uncopied(np.ndarray):
    def copy(self, *_: object) -> np.ndarray:
        raise AssertionError("the time is over")


def test_a_length_that_only_the_reference_takes_is_told() -> None:
    found = fuzz(own(Tanh(), Tanh(is_fixed=True), torch.ones(2, 8)), seconds=3600, inputs=60)
    (refusal,) = [one for one in found.refusals if set(one.setting) == {"x.1"}]
    assert not refusal.is_declared
    assert found.counterexample is None


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x).tanh()


def test_inputs_of_every_kind_show_faults_that_are_planted_in_the_reference() -> None:
    pair = own(Layer(), Layer(), torch.ones(2, 8))
    found = pair.coverage([{"x": np.random.default_rng(0).normal(size=(2, 8)).astype(np.float32)}], seconds=60)
    assert found.share is not None
    assert found.share.value == 1.0


def test_integers_of_few_bits_are_probed_as_far_as_their_type_goes() -> None:
    class Table(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.arange(200.0)[x.long()]

    models = [torch_model(Table(), {"x": torch.ones(2, 3, dtype=torch.uint8)}, threads=1) for _ in range(2)]
    domain, _, _ = domain_of(*models, {"x": np.ones((2, 3), np.uint8)}, inputs={"x": "x"})
    assert domain.ranges == {"x": (0, 199)}


def test_a_network_of_keras_has_its_own_weights_back_after_a_search() -> None:
    keras = import_keras()
    keras.utils.set_random_seed(0)
    networks = [keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="dense")]) for _ in range(2)]
    networks[1].set_weights(networks[0].get_weights())
    before = [[value.copy() for value in network.get_weights()] for network in networks]
    reference, candidate = (KerasModel(network) for network in networks)
    feeds = {reference.signature.inputs[0].name: np.ones((2, 4), np.float32)}
    inputs = dict(zip(feeds, (candidate.signature.inputs[0].name,), strict=True))
    values = {name: np.asarray(value) for name, value in reference.weights.items()}
    pairs = []
    for (name, value), other in zip(values.items(), candidate.weights, strict=True):
        axes = "ab"[: value.ndim]
        pairs.append(pieces.Pair(Piece(other, value.shape, axes), (Source(Piece(name, value.shape, axes)),)))
    shapes = {other: tuple(value.shape) for other, value in candidate.weights.items()}
    weight_map = WeightMap(tuple(pairs), shapes, {name: value.shape for name, value in values.items()})
    pair = Pair(reference, candidate, feeds, inputs=inputs, weight_map=weight_map, values=values)
    found = fuzz(pair, seconds=3600, inputs=12)
    assert len(found.checkpoints) > 1
    for network, weights in zip(networks, before, strict=True):
        for value, was in zip(network.get_weights(), weights, strict=True):
            np.testing.assert_array_equal(value, was)


def test_texts_are_not_made_up() -> None:
    x, y = (helper.make_tensor_value_info(name, onnx.TensorProto.STRING, ["rows"]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "texts", [x], [y])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model = OnnxRuntimeModel(made.SerializeToString())
    with pytest.raises(Unsupported, match=r"values of input x \(string\) cannot be made up"):
        domain_of(model, model, {"x": np.array(["a"])}, inputs={"x": "x"})


def test_free_axes_and_ranges_are_found_by_asking() -> None:
    reference, candidate, feeds = fault_sides(FAULTS["LastToken"])
    domain, _, _ = domain_of(reference, candidate, feeds, inputs={name: name for name in feeds})
    assert domain.ranges == {"ids": (0, 36), "mask": (0, 1)}
    assert {port.name: port.shape for port in domain.ports} == {"ids": ("batch", "ids.1"), "mask": ("batch", "ids.1")}
    assert max(domain.sizes["ids.1"]) <= 64  # positions
