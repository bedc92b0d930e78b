"""The restricted unpickler gives back what a stream describes, makes no object, and refuses what is not on the list."""

from __future__ import annotations

import collections
import io
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regraft.errors import Damaged, LimitExceeded, RegraftError
from regraft.package.formats.pickle_machine import read_pickle
from regraft.package.formats.pickle_values import PersistentId
from regraft.package.formats.unpickle import Name, Record, RefusedGlobal, Unresolved, restricted_values
from regraft.package.reader import BytesReader


class Marked:
    """A class whose every way of being made leaves a mark."""

    made = 0

    def __init__(self, size: int) -> None:
        type(self).made += 1
        self.size = size
        self.self = self

    def __setstate__(self, state: dict[str, Any]) -> None:
        type(self).made += 1


def values(data: bytes, allow: set[str] | None = frozenset(), **options: Any) -> Any:
    return restricted_values(read_pickle(data), BytesReader(data, where="x.pkl"), allow=allow, **options)


@pytest.mark.parametrize("protocol", range(6))
def test_an_object_becomes_a_record_and_is_not_made(protocol: int) -> None:
    data = pickle.dumps([Marked(3)], protocol)
    before = Marked.made
    (record,) = values(data, None)
    assert Marked.made == before
    assert isinstance(record, Record)
    assert record.attributes["size"] == 3
    assert record.attributes["self"] is record  # what is cyclic stays so
    assert Marked.__qualname__ in (record.path.rpartition(".")[2], *(getattr(a, "path", "")[-6:] for a in record.args))


def test_what_is_shared_stays_shared() -> None:
    inner = [1]
    loaded = values(pickle.dumps({"a": inner, "b": inner}))
    assert loaded["a"] is loaded["b"]


def test_every_name_must_be_on_the_list() -> None:
    data = pickle.dumps([Marked(3), len], 4)
    names = {name.path for name in read_pickle(data).globals}
    assert values(data, names)[1] == Name("builtins.len")
    for missing in names:
        with pytest.raises(RefusedGlobal, match=missing):
            values(data, names - {missing})


def test_a_refusal_names_the_global_and_its_offset() -> None:
    with pytest.raises(RefusedGlobal, match=r"builtins\.print at byte 2") as caught:
        values(b"\x80\x02cbuiltins\nprint\n)R.")
    assert caught.value.code == "permit-refused"


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
        b"\x80\x02ccollections\nOrderedDict\n)Rcbuiltins\nprint\n(X\x04\x00\x00\x00hereutR.",
        b"cbuiltins\nprint\n(Vhere\ntR",
    ],
)
def test_ways_around_the_list_are_refused(data: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RefusedGlobal):
        values(data)
    assert capsys.readouterr().out == ""


def test_code_that_would_run_does_not_run_even_when_its_name_is_allowed(capsys: pytest.CaptureFixture[str]) -> None:
    loaded = values(b"cbuiltins\nprint\n(Vhere\ntR.", None)
    assert (loaded.path, loaded.args) == ("builtins.print", ("here",))
    assert capsys.readouterr().out == ""


def test_python_2_names_are_compared_as_they_resolve() -> None:
    assert values(b"c__builtin__\nset\n((lp0\nI1\natR.") == {1}


def test_damage_is_damage_and_never_half_a_value() -> None:
    data = pickle.dumps({"a": [1, 2, 3]}, 4)
    for cut in range(len(data)):
        with pytest.raises(Damaged):
            values(data[:cut])


@pytest.mark.parametrize("data", [b"cbuiltins\nset\n((lp0\n(lp1\natR.", b"}(]K\x01u.", b"\x80\x05\x97."])
def test_what_python_could_not_build_is_an_error_of_ours(data: bytes) -> None:
    with pytest.raises(RegraftError):
        values(data)


def test_size_and_depth_are_bounded() -> None:
    with pytest.raises(LimitExceeded):
        values(pickle.dumps(b"x" * 100_000), limit=100)
    with pytest.raises(LimitExceeded):
        values(b"]" * 1000 + b"a" * 999 + b".")


def test_laughter_is_shared_and_not_multiplied() -> None:
    doubled: list[Any] = []
    for _ in range(100):
        doubled = [doubled, doubled]
    loaded = values(pickle.dumps(doubled))  # 2^100 leaves
    assert loaded[0] is loaded[1]


def test_persistent_ids_go_to_the_caller() -> None:
    class Writer(pickle.Pickler):
        def persistent_id(self, value: Any) -> Any:
            return "id" if isinstance(value, bytearray) else None

    def resolve(value: Any, _: Any) -> Any:
        if isinstance(value, PersistentId):
            return f"<{value.id}>"
        raise Unresolved

    out = io.BytesIO()
    Writer(out, 2).dump([bytearray(b"x")])
    assert values(out.getvalue(), resolve=resolve) == ["<id>"]
    with pytest.raises(Damaged):
        values(out.getvalue())


@given(
    st.recursive(
        st.none() | st.integers() | st.text() | st.binary() | st.floats(allow_nan=False),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x) | st.tuples(x, x) | st.frozensets(st.integers()),
    ),
    st.integers(0, 5),
)
@settings(max_examples=100, deadline=None)
def test_plain_values_need_no_names(value: Any, protocol: int) -> None:
    assert values(pickle.dumps(value, protocol)) == value


def test_long_strings_are_read_from_the_content() -> None:
    value = {"bytes": b"\x00\xff" * 100_000, "text": "ä" * 100_000}
    for protocol in (3, 5):
        assert values(pickle.dumps(value, protocol)) == value


def test_dicts_of_any_kind_are_dicts() -> None:
    counted = collections.defaultdict(list, b=[1])
    for protocol in (0, 2, 5):
        data = pickle.dumps([collections.OrderedDict(b=1, a=2), counted], protocol)
        ordered, found = values(data)
        assert list(ordered) == ["b", "a"]
        assert found == {"b": [1]}


NESTED = b")" + b"2\x86" * 40
"""A tuple of one tuple twice, forty levels deep: 2⁴⁰ steps of hashing."""
SHARED = b"\x80\x02]q\x00(" + b"N" * 50_000 + b"e0"


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02}(" + NESTED + b"K\x01u.",
        b"\x80\x02(" + NESTED + b"K\x01d.",
        b"\x80\x04\x8f(" + NESTED + b"\x90.",
        b"\x80\x02cbuiltins\nset\n](" + NESTED + b"e\x85R.",
        b"\x80\x02ccollections\nOrderedDict\n](" + NESTED + b"K\x01\x86e\x85R.",
        SHARED + b"cbuiltins\nlist\nq\x010](" + b"h\x01h\x00\x85R" * 300 + b"e.",
        b"\x80\x02(cbuiltins\nset\n]q\x00\x85Rh\x00(" + NESTED + b"et.",  # the list is filled after the call
    ],
)
def test_what_is_hashed_or_copied_once_for_each_way_to_it_is_bounded(data: bytes) -> None:
    with pytest.raises((Damaged, LimitExceeded), match="amount to more than"):
        values(data)


def test_keys_that_are_tuples_are_values_like_others() -> None:
    table = {(number, (str(number), frozenset({number}))): number for number in range(2000)}
    for protocol in range(6):
        assert values(pickle.dumps(table, protocol), None) == table
