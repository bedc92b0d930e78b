from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from regraft.compare.exact import exact_model
from regraft.errors import BadFeeds, Unsupported, UsageError
from regraft.runtime.feeding import feeds_for
from regraft.runtime.jax_model import JaxModel
from regraft.workflow.load import load


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def _tokens(rows: int, tokens: int) -> dict[str, np.ndarray]:
    ids = np.random.default_rng(rows).integers(0, 50, (rows, tokens)).astype("int32")
    mask = np.ones((rows, tokens), "int32")
    mask[-1, tokens // 2 :] = 0
    return {"ids": ids, "mask": mask}


def _feeds(model: JaxModel) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        p.name: rng.standard_normal([6 if e == "batch" else e for e in p.shape]).astype(p.dtype)
        for p in model.signature.inputs
    }


def test_a_function_of_a_dict_is_a_model():
    model = load("py:jax_factories:encoder")
    assert isinstance(model, JaxModel)
    assert (model.runtime, model.effective_precision) == ("jax", "float32")
    assert [(p.name, p.dtype, p.shape) for p in model.signature.inputs] == [
        ("ids", "int32", ("batch", 5)),
        ("mask", "int32", ("batch", 5)),
    ]
    answer = model(_tokens(3, 5))
    assert {name: value.shape for name, value in answer.items()} == {"logits": (3, 5, 7), "pooled": (3, 32)}
    twin = load("py:jax_factories:torch_twin")
    feeds = feeds_for(twin, _tokens(3, 5))
    for name, value in twin(feeds).items():
        # sums of at most 32 products of numbers near 1, in another order: some 2**-24 times a few
        np.testing.assert_allclose(answer[name], value, rtol=0, atol=3e-6)


def test_every_equation_is_a_tap_and_calls_are_written_out(statistics):
    model = load("py:jax_factories:encoder")
    taps = list(model.trace(_tokens(2, 5)))
    operators = {tap.operator for tap in taps}
    assert {"gather", "dot_general", "exp", "sqrt"} <= operators
    assert not operators & {"jit", "pjit", "custom_jvp_call"}  # gelu and where are calls in JAX
    assert len({tap.name for tap in taps}) == len(taps)
    assert any(tap.scope.startswith("attention") for tap in taps)
    made = {tap.name for tap in taps} | {"ids", "mask"}
    products = [tap for tap in taps if tap.operator == "dot_general"]
    assert all(set(tap.inputs) & made for tap in products)
    answer = model(_tokens(2, 5))
    last = next(tap for tap in reversed(taps) if tap.value.shape == (2, 5, 7))
    # XLA fuses the whole graph for a call; the taps come from one equation after the other
    np.testing.assert_allclose(last.value, answer["logits"], rtol=0, atol=3e-6)
    (one,) = model.trace(_tokens(2, 5), taps=[last.name], reduce=statistics)
    assert one.kept == statistics(last.value)


@pytest.mark.parametrize("name", ["encoder", "module", "loops", "convolution", "half"])
def test_float64_computes_the_same_more_exactly(name):
    model = load(f"py:jax_factories:{name}")
    feeds = _tokens(2, 5) if name == "encoder" else _feeds(model)
    exact = exact_model(model, feeds)
    assert exact.effective_precision == "float64"
    ours, theirs = model(feeds), exact(feeds_for(exact, feeds))
    floats = [tap for tap in exact.trace(feeds_for(exact, feeds)) if tap.value.dtype.kind == "f"]
    assert floats
    assert {tap.value.dtype.name for tap in floats} == {"float64"}
    unit = 2.0**-8 if name == "half" else 2.0**-24
    for output, value in theirs.items():
        scale = np.abs(value).max()
        worst = np.abs(ours[output] - value).max() / scale
        assert 0 < worst < 100 * unit  # some dozens of roundings of the precision that it computes in, and not none


def test_bfloat16_inside_is_recognised():
    model = load("py:jax_factories:half")
    assert model.effective_precision == "bfloat16"
    assert all(tap.value.dtype != "bfloat16" for tap in model.trace(_feeds(model)))  # handed out as float32


def test_segments_reproduce_their_taps():
    model = load("py:jax_factories:encoder")
    feeds = _tokens(2, 5)
    taps = {tap.name: tap for tap in model.trace(feeds)}
    first, *_, last = [name for name, tap in taps.items() if tap.operator == "dot_general"]
    before = next(iter(taps[last].inputs))
    part = model.segment([before], [last])
    (value,) = part({before: taps[before].value}).values()
    np.testing.assert_allclose(value, taps[last].value, rtol=0, atol=1e-6)  # the same product, compiled once more
    with pytest.raises(Unsupported, match="also need"):
        model.segment([before], [first])
    with pytest.raises(Unsupported, match="no such tensor"):
        model.segment([before], ["nope"])


def test_operators_run_alone_in_both_precisions():
    model = load("py:jax_factories:encoder")
    feeds = _tokens(2, 5)
    graph = model.graph(feeds)
    taps = {tap.name: tap.value for tap in model.trace(feeds)}
    assert set(graph.inputs) == {"ids", "mask"}
    for node in graph.nodes:
        values = {name: taps.get(name, feeds.get(name)) for name in node.inputs if graph.constant(name) is None}
        again = graph.run(node, values)
        assert all(np.array_equal(again[name], taps[name]) for name in node.outputs if name)
        wide = graph.run(node, values, precision="float64")
        assert all(value.dtype in ("float64", "int32", "bool") for value in wide.values())
    rounded = graph.with_rounded_weights("bfloat16")
    weights = [(graph.constant(name), rounded.constant(name)) for name in graph.constant_names]
    moved = [(ours, theirs) for ours, theirs in weights if not np.array_equal(ours, theirs)]
    assert len(moved) == 6  # the six matrices; lone numbers stay
    for ours, theirs in moved:
        assert not np.any(theirs.view(np.uint32) & 0xFFFF)
        np.testing.assert_allclose(theirs, ours, rtol=2.0**-8)  # bfloat16 rounds by half of that
    (embed,) = [n for n in graph.nodes if n.operator == "gather"]
    assert graph.constant(embed.inputs[0]).shape == (50, 16)


def test_what_goes_wrong_is_told(monkeypatch):
    with pytest.raises(Unsupported, match=r"dot_general|incompatible|TypeError"):
        load("py:jax_factories:broken")
    with pytest.raises(UsageError, match="example inputs"):
        load("py:jax_factories:without_examples")
    with pytest.raises(Unsupported, match="number of threads"):
        load("py:jax_factories:encoder", threads=1)
    model = load("py:jax_factories:module")
    with pytest.raises(BadFeeds, match="axis 1 is fixed"):
        model({"x": np.zeros((2, 5), "float32")})
    with pytest.raises(Unsupported, match="not in float16"):
        model.cast("float16")


def test_a_trace_of_jax_is_written_and_read(tmp_path):
    from regraft.runtime.feeds import FeedCase
    from regraft.runtime.trace_files import write_trace

    model = load("py:jax_factories:encoder")
    write_trace(tmp_path / "run", model, [FeedCase("tokens", _tokens(2, 5), "data")], is_exact_too=True)
    again = load(f"trace:{tmp_path / 'run'}")
    assert np.array_equal(again(_tokens(2, 5))["logits"], model(_tokens(2, 5))["logits"])
    assert again.cast("float64")(_tokens(2, 5))["logits"].dtype == np.float64
    again.close()
