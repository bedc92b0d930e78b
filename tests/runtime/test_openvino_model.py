from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino
import pytest

from regraft.errors import Damaged, Unsupported
from regraft.workflow.load import load


def _has_bfloat16() -> bool:
    return "bfloat16" in str(openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")).lower().replace(
        "bf16", "bfloat16"
    )


@pytest.fixture(scope="module")
def picture() -> dict[str, np.ndarray]:
    return {"input:0": np.random.default_rng(0).normal(size=(1, 224, 224, 3)).astype("float32")}


def test_the_default_precision_is_reported_as_what_it_is(opennsfw, picture):
    reference = load(opennsfw, runtime="onnxruntime")(picture)["outputs"]
    default = load(opennsfw, runtime="openvino")
    exact = load(opennsfw, runtime="openvino", precision="float32")
    assert default.effective_precision == ("bfloat16" if _has_bfloat16() else "float32")
    assert exact.effective_precision == "float32"
    assert np.abs(exact(picture)["outputs"] - reference).max() < 1e-5  # probabilities, float32
    if default.effective_precision == "bfloat16":
        assert np.abs(default(picture)["outputs"] - reference).max() > 1e-4  # eight bits of mantissa show


def test_a_precision_that_the_cpu_lacks_is_refused(opennsfw):
    with pytest.raises(Unsupported, match="does not compute in float64"):
        load(opennsfw, runtime="openvino").cast("float64")


@pytest.fixture
def exact(tiny_bert: Path):
    return load(tiny_bert / "onnx", runtime="openvino", precision="float32")


def test_taps_carry_the_names_of_the_onnx_graph_and_agree(tiny_bert, exact, token_feeds):
    feeds = token_feeds(2, 5, vocabulary=99)
    theirs = {tap.name: tap.value for tap in load(tiny_bert / "onnx").trace(feeds)}
    ours = {tap.name: tap for tap in exact.trace(feeds)}
    shared = [name for name in ours if name in theirs and theirs[name].dtype == np.float32]
    assert len(shared) > 30
    for name in shared:
        scale = max(1.0, float(np.abs(theirs[name][np.isfinite(theirs[name])]).max(initial=0)))
        with np.errstate(invalid="ignore"):
            far = np.abs(ours[name].value - theirs[name])
        assert np.nanmax(far, initial=0) / scale < 1e-5, name  # float32 with other fusions


def test_a_reduced_trace_in_passes_equals_a_whole_one(exact, token_feeds, statistics):
    feeds = token_feeds(2, 5, vocabulary=99)
    whole = {tap.name: tap.order for tap in exact.trace(feeds)}
    exact._trace_bytes = 64 << 10
    reduced = list(exact.trace(feeds, reduce=statistics))
    assert {tap.name: tap.order for tap in reduced} == whole
    assert all(tap.value is None for tap in reduced)


def test_segments_reproduce_the_taps_they_were_cut_at(exact, token_feeds):
    feeds = token_feeds(2, 5, vocabulary=99)
    taps = {tap.name: tap for tap in exact.trace(feeds)}
    hidden = [n for n, tap in taps.items() if tap.value.shape == (2, 5, 32) and tap.operator == "Add"]
    for start, end in zip(hidden[-3:], hidden[-2:], strict=False):
        try:
            segment = exact.segment([start], [end])
        except Unsupported:
            continue
        found = segment({start: taps[start].value})[end]
        # the traced graph and the segment are fused differently, so float32 rounding may differ
        np.testing.assert_allclose(found, taps[end].value, rtol=1e-5, atol=1e-6)
        break
    else:
        pytest.fail("no pair of taps could be cut")
    with pytest.raises(Unsupported, match="no such tensor"):
        exact.segment(["nope"], [hidden[-1]])
    with pytest.raises(Unsupported, match="need more"):
        exact.segment([hidden[0]], [list(taps)[-1]])


def test_an_ir_is_loaded_with_its_constants_from_beside_it(tiny_bert, tmp_path, exact, token_feeds):
    openvino.save_model(exact.graph, tmp_path / "model.xml", compress_to_fp16=False)
    feeds = token_feeds(3, 4, vocabulary=99)
    again = load(tmp_path, precision="float32")
    assert again.runtime == "openvino"
    assert again.signature.ranges["input_ids"] == (0, 98)
    for name, value in exact(feeds).items():
        np.testing.assert_allclose(again(feeds)[name], value, rtol=1e-5, atol=1e-6)
    (tmp_path / "model.bin").unlink()
    with pytest.raises(Damaged, match=r"model\.bin"):
        load(tmp_path)
