"""The format `pickle`: recognised by content in every protocol, never where it is not, described without loading."""

from __future__ import annotations

import collections
import json
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regraft.package.formats import Probe, recognise
from regraft.package.formats.pickle import Pickle
from regraft.package.formats.pickle_streams import pickle_streams
from regraft.package.reader import BytesReader, FileReader


def probe(data: bytes, name: str = "x.pkl") -> Probe:
    return Probe(BytesReader(data, where=name), name)


VALUES: list[Any] = [
    {"a": 1, "b": [1.5, "x", None]},
    list(range(100)),
    collections.OrderedDict(a=1),
    {"w": np.zeros((2, 3))},
    ("a", ("b",)),
    {1, 2},
    "some text",
]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("value", VALUES, ids=str)
def test_every_protocol_is_recognised_under_any_name(value: Any, protocol: int) -> None:
    data = pickle.dumps(value, protocol)
    assert Pickle().matches(probe(data, "renamed.json"))
    form = recognise(probe(data, "renamed.json"))
    assert form is not None
    assert form.name == "pickle"


@pytest.mark.parametrize("protocol", range(2, 6))
def test_damaged_pickles_are_recognised(protocol: int) -> None:
    data = pickle.dumps({str(i): [i, str(i) * 3] for i in range(200)}, protocol)
    for cut in (40, 400, len(data) - 1):
        assert Pickle().matches(probe(data[:cut]))


def test_calls_in_a_stream_that_breaks_off_are_recognised() -> None:
    assert Pickle().matches(probe(b"cos\nsystem\n(S'echo pwned'\ntR"))
    assert Pickle().matches(probe(b"cos\nsystem\n(S'echo pwned'\ntR\xff\xff\xff"))
    assert Pickle().matches(probe(b"cos\nsystem\n(S'echo pwned'\ntR." + b"and then some text\n" * 100))


NOT_PICKLES: dict[str, bytes] = {
    "empty": b"",
    "pattern": bytes((i * 131 + 17) % 251 for i in range(4096)),
    "json": json.dumps({"a": [1, 2, {"b": None}]}).encode(),
    "json list": b"[]",
    "text": b"It is a truth universally acknowledged, that a single man\nin possession of a good fortune\n" * 50,
    "numbers": b"1.5 2.5\n" * 100,
    "python": b"import os\nclass X:\n    pass\n" * 20,
    "words": b"\n".join(word.encode() for word in ("cat cow crab crane cod carp clam cuckoo colt cub " * 30).split()),
    "full stop": b".",
    "bracket": b"].",
    "n": b"N" * 5000,
    "dna": b"ACGTNNNNNNNN" * 500,
    "parentheses": b"(((((((((((((((((((((((((",
    "csv": b"Id,Name,Value\n1,a,2\n2,b,3\n" * 40,
    "yaml": b"ckpt: 1\nconfig:\n  a: b\n" * 40,
    "licence": b"Copyright (c) 2020\n\nPermission is hereby granted, free of charge\n" * 20,
    "zeros": bytes(1000),
    "empty msgpack": b"\x80",
}


@pytest.mark.parametrize("name", NOT_PICKLES)
def test_other_content_is_not_recognised(name: str) -> None:
    assert not Pickle().matches(probe(NOT_PICKLES[name]))


def test_random_bytes_are_hardly_ever_recognised() -> None:
    rng = random.Random(1)
    hits = sum(Pickle().matches(probe(rng.randbytes(rng.choice([20, 300, 5000])))) for _ in range(3000))
    assert hits <= 3  # a few random heads are real pickles of one small value


def test_random_lines_of_text_are_hardly_ever_recognised() -> None:
    rng = random.Random(2)
    letters = "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ.,()[]{}0123456789\n'\""
    hits = sum(Pickle().matches(probe("".join(rng.choices(letters, k=200)).encode())) for _ in range(3000))
    assert hits == 0


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_nothing_raises(data: bytes) -> None:
    found = probe(b"\x80\x04" + data)
    if Pickle().matches(found):
        Pickle().describe(found)


def test_description_of_arrays() -> None:
    data = pickle.dumps({"w": np.zeros((2, 3), "f4"), "n": {"b": np.arange(4)}}, 5)
    description = Pickle().describe(probe(data))
    assert description.version == "5"
    assert {(t.name, t.dtype, t.shape) for t in description.tensors or ()} == {
        ("w", "float32", (2, 3)),
        ("n.b", "int64", (4,)),
    }
    assert description.metadata["class"] == "dict"
    assert description.metadata["libraries"] == "numpy"
    assert not description.problems


def test_description_of_an_estimator() -> None:
    import sklearn
    from sklearn.linear_model import LogisticRegression

    x = np.random.default_rng(0).random((20, 2))
    data = pickle.dumps(LogisticRegression().fit(x, x[:, 0] > 0.5), 2)
    description = Pickle().describe(probe(data))
    assert description.metadata["class"] == "sklearn.linear_model._logistic.LogisticRegression"
    assert description.metadata["sklearn_version"] == sklearn.__version__
    assert "coef_" in {tensor.name for tensor in description.tensors or ()}


def test_concatenated_streams_are_counted() -> None:
    data = pickle.dumps([1], 0) + pickle.dumps([2], 2) + pickle.dumps([3], 5)
    assert Pickle().describe(probe(data)).metadata["streams"] == "3"
    assert [offset for offset, _ in pickle_streams(probe(data), "pickle")][:2] == [0, len(pickle.dumps([1], 0))]


def test_damage_is_told() -> None:
    description = Pickle().describe(probe(pickle.dumps(list(range(500)), 4)[:-30]))
    assert description.problems


def test_real_old_pickles(asset: Callable[[str, str, str], Path]) -> None:
    folder = asset("pypi", "gensim", "4.4.0") / "gensim/test/test_data"
    for name in ("word2vec_pre_kv_py2", "phrases-3.6.0.model", "old_w2v_models/w2v_0.12.0.mdl", "doc2vec_old"):
        found = Probe(FileReader(folder / name), name)
        form = recognise(found)
        assert form is not None
        assert form.name == "pickle"
        description = form.describe(found)
        assert not description.problems
        assert description.metadata["class"].startswith("gensim.models.")
