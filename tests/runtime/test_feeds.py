from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from regraft.errors import Damaged, Unsupported, UsageError
from regraft.package.formats import Port
from regraft.runtime.feed_files import feeds_from_file
from regraft.runtime.feeding import checked_feeds
from regraft.runtime.feeds import FLOAT_VALUES, generated_feeds, text_feeds
from regraft.runtime.interface import Signature
from regraft.workflow.load import load, load_text

MIXED = Signature(
    (
        Port("input_ids", "int64", ("batch", "tokens")),
        Port("attention_mask", "int64", ("batch", "tokens")),
        Port("x", "float32", ("batch", 3, None)),
    ),
    ranges={"input_ids": (0, 98), "attention_mask": (0, 1)},
)


def test_every_symbolic_dimension_is_tried_at_one_odd_and_an_awkward_size():
    cases = list(generated_feeds(MIXED))
    for symbol in ("batch", "tokens", "x.2"):
        assert {case.sizes[symbol] for case in cases} == {1, 3, 17}
    assert set(FLOAT_VALUES) <= {case.values for case in cases}
    assert len({case.name for case in cases}) == len(cases)


def test_cases_fit_the_signature_and_stay_within_the_vocabulary():
    for case in generated_feeds(MIXED):
        checked_feeds(MIXED, case.feeds, where="m")
        ids = case.feeds["input_ids"]
        assert ids.min() >= 0
        assert ids.max() <= 98
        assert case.feeds["attention_mask"].any(axis=1).all()


def test_the_same_seed_gives_the_same_bytes_and_another_does_not():
    first, again = list(generated_feeds(MIXED, seed=7)), list(generated_feeds(MIXED, seed=7))
    for left, right in zip(first, again, strict=True):
        assert left.seed == right.seed
        assert all(np.array_equal(left.feeds[name], right.feeds[name]) for name in left.feeds)
    other = next(iter(generated_feeds(MIXED, seed=8)))
    assert not np.array_equal(first[0].feeds["x"], other.feeds["x"])


def test_edge_values_are_what_they_are_called():
    by_kind = {case.values: case.feeds["x"] for case in generated_feeds(MIXED)}
    assert not by_kind["zeros"].any()
    assert (by_kind["negative"] <= 0).all()
    assert np.abs(by_kind["large"]).max() > 1e3
    tiny = np.abs(by_kind["denormal"])
    assert 0 < tiny.max() < np.finfo(np.float32).smallest_normal
    assert np.unique(by_kind["repeated"]).size == 1
    assert np.unique(by_kind["ties"]).size < by_kind["ties"].size / 2


@given(
    seed=st.integers(0, 2**32),
    rank=st.lists(st.one_of(st.integers(1, 4), st.sampled_from(["a", "b"]), st.none()), max_size=4),
    dtype=st.sampled_from(["float16", "float32", "float64", "int8", "uint8", "int32", "bool"]),
)
@settings(max_examples=30, deadline=None)
def test_any_shape_and_dtype_gives_feeds_that_fit(seed, rank, dtype):
    signature = Signature((Port("p", dtype, tuple(rank)),))
    for case in generated_feeds(signature, seed=seed):
        checked_feeds(signature, case.feeds, where="m")


def test_what_is_not_known_must_be_said():
    unknown = Signature((Port("x", "float32"),))
    with pytest.raises(Unsupported, match="shape of 'x'") as raised:
        next(generated_feeds(unknown))
    assert "--feeds FILE" in raised.value.hint
    case = next(generated_feeds(unknown, shapes={"x": ("batch", 5)}, sizes={"batch": [2]}))
    assert case.feeds["x"].shape == (2, 5)
    with pytest.raises(Unsupported, match="complex64"):
        next(generated_feeds(Signature((Port("s", "complex64", (1,)),))))


def test_strings_are_made_up():
    case = next(generated_feeds(Signature((Port("s", "string", ("batch",)),)), sizes={"batch": [9]}))
    assert case.feeds["s"].shape == (9,)
    assert case.feeds["s"].dtype.kind == "U"


def test_text_feeds_have_padding_and_the_greatest_length(minilm):
    encoder = load_text(minilm)
    cases = list(text_feeds(encoder, ["short", "a somewhat longer text, with more words in it", "middling text"]))
    padded, alone, longest = cases
    assert alone.feeds["attention_mask"].all()
    assert not padded.feeds["attention_mask"].all()
    assert longest.feeds["input_ids"].shape == (1, 256)
    assert encoder.model(longest.feeds)["last_hidden_state"].shape == (1, 256, 384)


def test_many_texts_are_tried_as_they_stand_up_to_64_of_them(minilm):
    encoder = load_text(minilm)
    texts = [f"review {n}" + " of a long film" * (n % 7) for n in range(70)]
    cases = list(text_feeds(encoder, texts))[3:]
    assert [case.sizes["batch"] for case in cases] == [16, 16, 16, 16]
    ids = [
        row[mask == 1]
        for case in cases
        for row, mask in zip(*[case.feeds[n] for n in ("input_ids", "attention_mask")], strict=True)
    ]
    wanted = [encoding.ids for encoding in encoder.tokenize(texts[:64])]
    assert [row.tolist() for row in ids] == wanted


def test_data_of_the_user(tmp_path):
    signature = Signature((Port("x", "float32", ("batch", 2)),))
    data = np.arange(6, dtype=np.float64).reshape(3, 2)
    np.savez(tmp_path / "d.npz", x=data)
    save_file({"x": data}, tmp_path / "d.safetensors")
    (tmp_path / "d.csv").write_text("a,b\n0,1\n2,3\n4,5\n")
    for name in ("d.npz", "d.safetensors", "d.csv"):
        case = feeds_from_file(tmp_path / name, signature)
        assert case.feeds["x"].dtype == np.float32
        assert case.feeds["x"].tolist() == data.tolist()
        assert case.seed is None
    with pytest.raises(UsageError, match="no array for y"):
        feeds_from_file(tmp_path / "d.npz", Signature((Port("y", "float32", ("batch", 2)),)))
    np.savez(tmp_path / "half.npz", x=data + 0.5)
    with pytest.raises(UsageError, match="without changing values"):
        feeds_from_file(tmp_path / "half.npz", Signature((Port("x", "int64", ("batch", 2)),)))


def test_hostile_data_is_damaged_and_never_unpickled(tmp_path):
    signature = Signature((Port("x", "float32", ("batch", 2)),))
    np.savez(tmp_path / "evil.npz", x=np.array([print], dtype=object))
    for name, content in (
        ("cut.npz", b"PK\x03\x04abc"),
        ("cut.safetensors", b"\xff" * 20),
        ("bad.csv", b"a\n1,2\n3\n"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(Damaged):
            feeds_from_file(tmp_path / name, signature)
    with pytest.raises(Damaged, match="numbers"):
        feeds_from_file(tmp_path / "evil.npz", signature)
    with pytest.raises(UsageError):
        feeds_from_file(tmp_path / "d.pkl", signature)


def test_generated_feeds_run_on_a_real_model(opennsfw):
    model = load(opennsfw)
    for case in generated_feeds(model.signature, sizes={model.signature.inputs[0].shape[0]: [1, 2]}, values=["zeros"]):
        (probabilities,) = model(case.feeds).values()
        assert np.isfinite(probabilities).all()


def test_kinds_of_values_may_be_tried_at_a_size_of_their_own_which_stands_for_it() -> None:
    signature = Signature((Port("pixels", "float32", ("batch", 3, 8)),))
    cases = list(generated_feeds(signature, sizes={"batch": (1, 2)}, values=["zeros", "large"], kinds_at={"batch": 1}))
    assert [(case.values, case.sizes["batch"]) for case in cases] == [("normal", 2), ("zeros", 1), ("large", 1)]
    alone = list(generated_feeds(signature, sizes={"batch": (1, 2)}, values=[], kinds_at={"batch": 1}))
    assert [case.sizes["batch"] for case in alone] == [2, 1]
