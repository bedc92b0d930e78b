from __future__ import annotations

import pytest

from regraft.trust.scan.allowlist import allow_list
from regraft.trust.scan.library_effects import _effects, effect_of_call, effect_of_class, loads_by_name


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("gensim.utils", "unpickle"),
        ("keras.utils", "get_file"),
        ("turtle", "config_dict"),
        ("nltk.data", "load"),
        ("dill.source", "getsource"),
    ],
)
def test_what_functions_of_libraries_do_is_known(module, name):
    assert effect_of_call(module, name) is not None


@pytest.mark.parametrize(
    ("module", "name"), [("numpy", "zeros"), ("torch.nn", "Linear"), ("nowhere", "x"), (None, "x")]
)
def test_what_only_computes_has_no_effect(module, name):
    assert effect_of_call(module, name) is None


def test_what_pickles_call_by_the_allow_list_hardly_ever_has_an_effect():
    """The list was seen in use, so an effect there is one that the analysis made up."""
    called = [(m, n) for (m, n), uses in allow_list()._uses.items() if "reduce" in uses]
    wrong = [pair for pair in called if pair in _effects()]
    assert len(wrong) <= 0.01 * len(called), wrong


@pytest.mark.parametrize("name", ["loadmat", "read_csv", "open_dataset", "Reader.load", "fetch_20newsgroups", "_load"])
def test_functions_that_load_by_name_are_known_by_theirs(name):
    assert loads_by_name(name, ("x",))
    assert not loads_by_name(name, (b"x",))
    assert not loads_by_name(name, ())


@pytest.mark.parametrize("name", ["Loader", "reload", "Loading", "unload", None])
def test_other_names_tell_nothing(name):
    assert not loads_by_name(name, ("x",))


def test_classes_that_act_when_they_are_constructed():
    assert effect_of_class("InferenceSession", ("model.onnx",)) is not None
    assert effect_of_class("net.HttpClient", ("host",)) is not None
    assert effect_of_class("HttpClient", ()) is None
    assert effect_of_class("LogisticRegression", ("l2",)) is None
