"""Maps between frameworks, against what was written by hand; the weights, the script and the way back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from regraft.compare.weight_map import WeightMap, map_weights
from regraft.compare.weight_map.document import map_from_toml, script_from_map, toml_from_map
from regraft.compare.weight_map.pieces import Norm, Pair, Piece, Source
from regraft.compare.weight_map.standalone import write_into
from regraft.errors import Damaged, UsageError
from regraft.runtime.graphs import operator_graph
from regraft.runtime.named_weights import weight_values

sys.path.insert(0, str(Path(__file__).parents[3]))

from benchmarks.porting import by_path, models
from benchmarks.ports import PORTS


@pytest.fixture(scope="module")
def mapped() -> tuple[WeightMap, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The recurrent port: gates in another order, biases added up; its map, the weights, and the truth."""
    return _mapped("lstm")


def _mapped(name: str) -> tuple[WeightMap, dict[str, np.ndarray], dict[str, np.ndarray]]:
    port = PORTS[name]
    reference, candidate = models(port)
    found = map_weights(reference, candidate, port.feeds, inputs={name: name for name in port.feeds})
    values = weight_values(reference, operator_graph(reference, port.feeds))
    return found, values, by_path(port.truth(values), list(found.shapes))


def _assert_equal(made: dict[str, np.ndarray], truth: dict[str, np.ndarray]) -> None:
    assert set(made) == set(truth)
    for name, value in truth.items():
        np.testing.assert_array_equal(made[name], value, err_msg=name)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n == "decoder" else pytest.mark.slow) for n in PORTS])
def test_all_weights_of_a_port_are_mapped_and_proven(name: str) -> None:
    found, values, truth = _mapped(name)
    _assert_equal(found.to_candidate(values), truth)
    assert {found.status_of(weight) for weight in found.shapes} == {"proven"}
    assert [*found.missing, *found.left_over, *found.conflicts, *found.contradictions] == []


def test_gates_are_put_in_order_and_biases_added(mapped) -> None:
    found, values, truth = mapped
    _assert_equal(found.to_candidate(values), truth)
    pairs = {pair.candidate.weight: pair for pair in found.pairs}
    assert pairs["lower_x"].blocks == (3, 0, 1, 2)
    assert pairs["lower_b"].is_sum


def test_the_way_back_gives_each_term_of_a_sum_what_the_sum_has(mapped) -> None:
    found, values, _ = mapped
    back = found.to_reference(found.to_candidate(values))
    np.testing.assert_array_equal(back["lstm.weight_hh_l1"], values["lstm.weight_hh_l1"])
    total = values["lstm.bias_ih_l0"] + values["lstm.bias_hh_l0"]
    np.testing.assert_array_equal(back["lstm.bias_ih_l0"], total)


def test_the_script_converts_without_regraft(mapped, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    found, values, truth = mapped
    save_file({name: np.ascontiguousarray(value) for name, value in values.items()}, tmp_path / "theirs.safetensors")
    script = tmp_path / "convert.py"
    script.write_text(script_from_map(found))
    assert "regraft" not in script.read_text().replace("regraft.weight-map", "")
    subprocess.run([sys.executable, script, "theirs.safetensors", "mine.safetensors"], cwd=tmp_path, check=True)
    _assert_equal(load_file(tmp_path / "mine.safetensors"), truth)


def test_the_script_keeps_float16_in_what_a_graph_computes_of_its_weights(tmp_path: Path) -> None:
    wide = numpy_helper.from_array(np.ones((3, 4), np.float16), "w")
    x, y = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT16, None) for name in "xy")
    nodes = [helper.make_node("Transpose", ["w"], ["turned"]), helper.make_node("MatMul", ["x", "turned"], ["y"])]
    graph = helper.make_graph(nodes, "graph", [x], [y], [wide])
    onnx.save(helper.make_model(graph), tmp_path / "model.onnx")
    write_into(str(tmp_path / "model.onnx"), str(tmp_path / "made.onnx"), {"turned": np.ones((4, 3), np.float32)})
    made = onnx.load(tmp_path / "made.onnx").graph
    assert {one.name: numpy_helper.to_array(one).dtype for one in made.initializer}["turned"] == np.float16


def test_a_norm_of_another_size_is_told() -> None:
    values = {name: np.ones(size, np.float32) for name, size in {"w": (3, 2), "centre": 4, "variance": 4}.items()}
    norm = Norm("", "", "centre", "variance", 1e-5)
    pair = Pair(Piece("v", (3, 2), "OI"), (Source(Piece("w", (3, 2), "OI")),), norm=norm)
    with pytest.raises(UsageError, match="w does not fit v"):
        pair.place(values, np.zeros((3, 2), np.float32))


def test_terms_of_a_norm_that_cancel_are_as_large_as_their_parts() -> None:
    values = {name: np.array([one], np.float32) for name, one in {"s": 2, "b": 40, "m": 10, "v": 0.25}.items()}
    assert Norm("s", "b", "m", "v", 0.0, is_added=True).largest_term(values) == 80.0


def test_a_map_is_read_back_as_it_was_written(mapped, tmp_path: Path) -> None:
    found, values, truth = mapped
    path = tmp_path / "map.toml"
    path.write_text(toml_from_map(found))
    again = map_from_toml(path, shapes=found.shapes, reference_shapes=found.reference_shapes)
    _assert_equal(again.to_candidate(values), truth)
    assert again.status_of("lower_x") == "given"


@pytest.mark.parametrize(
    ("old", "new", "error", "said"),
    [
        ('weight = "lookup"', 'weight = "lookups"', UsageError, "did you mean lookup?"),
        ('axes = "IO"', 'axes = "IOO"', UsageError, "names 3"),
        ("schema =", "scheme =", Damaged, "no weight map"),
        ("regraft.weight-map/1", "regraft.weight-map/9", Damaged, "schema"),
        ("schema =", f"deep = {'[' * 2000}\nschema =", Damaged, "no weight map"),
        ('axes = "IO"', 'axes = "IX"', UsageError, "letters are"),
        ('axes = "IO"', 'axes = "IO"\npart = [7, 0, 1]', UsageError, "not within"),
        ('axes = "IO"', 'axes = "IO"\npart = [0, 0, 1]', UsageError, "not all of its"),
        ('axes = "IO"', 'axes = "OI"', UsageError, "counts"),
        ('axes = "OI" }', 'axes = "OI", rows = [0, 9999] }', UsageError, "go beyond"),
        ('axes = "OI" }', 'axes = "OI", heads = 1, parts = 9999 }', UsageError, "9999 parts"),
        ("blocks = [", "blocks = [7, ", UsageError, "no order of 5"),
        ('axes = "IO"', 'axes = "IO"\nfill = nan', UsageError, "finite"),
        ("[[pair]]", '[[pair]]\nweight = "lookup"\naxes = "OI"\nreference = []\n[[pair]]', UsageError, "twice"),
    ],
)
def test_a_map_that_does_not_fit_is_told(mapped, tmp_path: Path, old: str, new: str, error: type, said: str) -> None:
    found, _, _ = mapped
    path = tmp_path / "map.toml"
    path.write_text(toml_from_map(found).replace(old, new))
    with pytest.raises(error) as caught:
        map_from_toml(path, shapes=found.shapes, reference_shapes=found.reference_shapes)
    assert said in f"{caught.value.what} {caught.value.hint}"
