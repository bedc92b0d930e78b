"""The restricted unpickler loads what is allowed, and nothing of a stream that names anything else."""

from __future__ import annotations

import collections
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regraft.errors import Damaged, LimitExceeded, RegraftError
from regraft.package.formats.pickle_machine import read_pickle
from regraft.package.formats.unpickle import RefusedGlobal, load_restricted
from regraft.package.reader import FileReader

NUMPY = {
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


@pytest.mark.parametrize("protocol", range(6))
def test_an_array_comes_back(protocol: int, tmp_path: Path) -> None:
    value = {"w": np.arange(6.0).reshape(2, 3), "n": np.float32(2)}
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(value, protocol))
    loaded = load_restricted(FileReader(tmp_path / "x.pkl"), NUMPY)
    assert np.array_equal(loaded["w"], value["w"])
    assert loaded["n"] == 2


def test_a_fitted_estimator_needs_every_one_of_its_names() -> None:
    from sklearn.linear_model import LogisticRegression

    x = np.random.default_rng(0).random((20, 2))
    data = pickle.dumps(LogisticRegression().fit(x, x[:, 0] > 0.5))
    names = {(name.module or "", name.name or "") for name in read_pickle(data).globals}
    assert load_restricted(data, names).predict(x).shape == (20,)
    for missing in names:
        with pytest.raises(RefusedGlobal, match=missing[1]):
            load_restricted(data, names - {missing})


def test_a_refusal_names_the_global_and_its_offset() -> None:
    with pytest.raises(RefusedGlobal, match=r"builtins\.print at byte 2") as caught:
        load_restricted(b"\x80\x02cbuiltins\nprint\n)R.", set())
    assert caught.value.code == "pickle-refused"


def test_nothing_runs_before_the_refusal(capsys: pytest.CaptureFixture[str]) -> None:
    first_allowed = b"\x80\x02ccollections\nOrderedDict\n)Rcbuiltins\nprint\n(X\x04\x00\x00\x00hereutR."
    with pytest.raises(RegraftError):
        load_restricted(first_allowed, {("collections", "OrderedDict")})
    with pytest.raises(RegraftError):
        load_restricted(b"cbuiltins\nprint\n(Vhere\ntR", {("collections", "OrderedDict")})
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "data",
    [
        b"c__builtin__\nprint\n)R.",
        b"(ibuiltins\nprint\n.",
        b"\x80\x04\x8c\x08builtins\x8c\x05print\x93)R.",
        b"\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.__init__\x93)R.",
        b"\x80\x02\x82\x01)R.",
        b"ccollections\nOrderedDict\n}b.",
        b"ccollections\nOrderedDict\n)R)R.",
    ],
)
def test_ways_around_the_list_are_refused(data: bytes) -> None:
    with pytest.raises(RefusedGlobal):
        load_restricted(data, {("collections", "OrderedDict")})


def test_python_2_names_are_compared_as_they_resolve() -> None:
    assert load_restricted(b"c__builtin__\nset\n((lp0\nI1\natR.", {("builtins", "set")}) == {1}


def test_damage_is_damage_and_never_half_a_value() -> None:
    data = pickle.dumps({"a": [1, 2, 3]}, 4)
    for cut in range(len(data)):
        with pytest.raises(Damaged):
            load_restricted(data[:cut], set())


def test_constructors_that_refuse_their_arguments_are_damage() -> None:
    with pytest.raises(Damaged, match="cannot be unpickled"):
        load_restricted(b"cbuiltins\nset\n(I1\ntR.", {("builtins", "set")})


def test_size_is_bounded() -> None:
    with pytest.raises(LimitExceeded):
        load_restricted(pickle.dumps(b"x" * 1000), set(), limit=100)


def test_persistent_ids_go_to_the_caller() -> None:
    class Writer(pickle.Pickler):
        def persistent_id(self, value: Any) -> Any:
            return "id" if isinstance(value, bytearray) else None

    out = io.BytesIO()
    Writer(out, 2).dump([bytearray(b"x")])
    assert load_restricted(out.getvalue(), set(), persistent_load=lambda key: f"<{key}>") == ["<id>"]
    with pytest.raises(Damaged):
        load_restricted(out.getvalue(), set())


@given(
    st.recursive(
        st.none() | st.integers() | st.text() | st.binary(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    ),
    st.integers(3, 5),
)
@settings(max_examples=100, deadline=None)
def test_plain_values_need_no_names(value: Any, protocol: int) -> None:
    assert load_restricted(pickle.dumps(value, protocol), set()) == value


def test_ordered_dicts() -> None:
    value = collections.OrderedDict(b=1, a=2)
    assert list(load_restricted(pickle.dumps(value), {("collections", "OrderedDict")})) == ["b", "a"]
