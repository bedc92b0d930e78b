"""The pickle machine: it rebuilds what the unpickler would build, and survives what it would not."""

from __future__ import annotations

import collections
import io
import math
import pickle
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regraft.package.formats.pickle_machine import read_pickle, read_pickles
from regraft.package.formats.pickle_values import Blob, Buffer, Call, Dict, Global, PersistentId, Set, named_values
from regraft.package.reader import BytesReader, Reader

PROTOCOLS = range(6)


def plain(value: Any) -> Any:
    """An abstract value as the Python value that it stands for."""
    if isinstance(value, Dict):
        return {plain(key): plain(item) for key, item in value.pairs}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, tuple):
        return tuple(plain(item) for item in value)
    if isinstance(value, Set):
        return (frozenset if value.frozen else set)(plain(item) for item in value.items)
    if isinstance(value, Call):
        arguments = tuple(plain(item) for item in value.arguments)
        made = {
            "builtins.set": set,
            "builtins.frozenset": frozenset,
            "builtins.bytearray": bytearray,
            "builtins.bytes": bytes,
            "builtins.complex": complex,
            "_codecs.encode": lambda text, codec: text.encode(codec),
            "collections.OrderedDict": collections.OrderedDict,
        }[value.path](*arguments)
        for key, item in value.pairs:
            made[plain(key)] = plain(item)
        return made
    return value


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(10**600), 10**600),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=[])),
    st.binary(),
    st.binary().map(bytearray),
)
hashable = st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.binary())
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner),
        st.tuples(inner, inner),
        st.lists(inner).map(tuple),
        st.dictionaries(hashable, inner),
        st.dictionaries(st.text(), inner).map(collections.OrderedDict),
        st.sets(hashable),
        st.frozensets(hashable),
    ),
    max_leaves=30,
)


class Dribble(Reader):
    """A reader that counts its fetches."""

    def __init__(self, data: bytes) -> None:
        super().__init__(len(data), where="dribble")
        self.data = data

    def _fetch(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]


class Sparse(Reader):
    """A short head and tail with a gap of zeros between them that exists only as a number."""

    def __init__(self, head: bytes, gap: int, tail: bytes) -> None:
        super().__init__(len(head) + gap + len(tail), where="sparse")
        self.head, self.gap, self.tail = head, gap, tail

    def _fetch(self, offset: int, length: int) -> bytes:
        assert length < 1 << 22
        end = len(self.head) + self.gap
        out = bytearray()
        for place in range(offset, offset + length):
            if place < len(self.head):
                out.append(self.head[place])
            else:
                out.append(0 if place < end else self.tail[place - end])
        return bytes(out)


@given(values, st.sampled_from(PROTOCOLS))
@settings(max_examples=400, deadline=None)
def test_the_value_that_is_rebuilt_is_the_value_that_was_pickled(value: Any, protocol: int) -> None:
    data = pickle.dumps(value, protocol)
    stream = read_pickle(data)
    assert stream.complete, stream.problem
    assert stream.end_offset == len(data)
    rebuilt = plain(stream.root)
    assert rebuilt == value
    assert type(rebuilt) is type(value) or isinstance(value, (bytes, bytearray))


@given(values, st.sampled_from(PROTOCOLS), st.data())
@settings(max_examples=300, deadline=None)
def test_no_truncation_raises_and_none_is_called_complete(value: Any, protocol: int, data: st.DataObject) -> None:
    whole = pickle.dumps(value, protocol)
    cut = data.draw(st.integers(0, len(whole) - 1))
    stream = read_pickle(whole[:cut])
    assert not stream.complete
    assert stream.problem is not None
    assert 0 <= (stream.problem.offset or 0) <= cut


@given(st.binary(max_size=300), st.sampled_from([b"", b"\x80\x04", b"\x80\x02}q\x00(", b"(", b"cos\nsystem\n"]))
@settings(max_examples=600, deadline=None)
def test_random_bytes_never_raise(noise: bytes, head: bytes) -> None:
    stream = read_pickle(head + noise)
    assert stream.complete or stream.problem is not None


@given(values, st.sampled_from(PROTOCOLS), st.data())
@settings(max_examples=200, deadline=None)
def test_flipped_bits_never_raise(value: Any, protocol: int, data: st.DataObject) -> None:
    whole = bytearray(pickle.dumps(value, protocol))
    for _ in range(3):
        whole[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    stream = read_pickle(bytes(whole))
    assert stream.complete or stream.problem is not None


@given(st.lists(st.integers(0, 5)))
@settings(max_examples=30, deadline=None)
def test_concatenated_streams_follow_each_other(protocols: list[int]) -> None:
    data = b"".join(pickle.dumps({"n": n}, protocol) for n, protocol in enumerate(protocols))
    streams = list(read_pickles(data))
    assert [plain(stream.root)["n"] for stream in streams] == list(range(len(protocols)))
    assert all(stream.complete for stream in streams)


def test_special_floats() -> None:
    for protocol in PROTOCOLS:
        root = read_pickle(pickle.dumps([math.inf, -math.inf, math.nan, -0.0], protocol)).root
        assert root[:2] == [math.inf, -math.inf]
        assert math.isnan(root[2])
        assert math.copysign(1, root[3]) == -1


def test_sharing_and_cycles_are_kept() -> None:
    inner: list[Any] = [1]
    outer: list[Any] = [inner, inner]
    outer.append(outer)
    for protocol in PROTOCOLS:
        root = read_pickle(pickle.dumps(outer, protocol)).root
        assert root[0] is root[1]
        assert root[2] is root
        assert {name for name, _ in named_values(root)} == {"0.0"}


def test_a_gigabyte_of_payload_is_skipped_not_read() -> None:
    size = 1 << 30
    for opcode in (b"\x8e", b"\x96", b"\x8d"):  # BINBYTES8, BYTEARRAY8, BINUNICODE8
        reader = Sparse(b"\x80\x05]\x94(" + opcode + struct.pack("<Q", size), size, b"K\x01e.")
        stream = read_pickle(reader)
        assert stream.complete, stream.problem
        blob = stream.root[0]
        assert isinstance(blob, Blob)
        assert (blob.offset, blob.length, stream.root[1]) == (14, size, 1)
        assert reader.meter.bytes_read < 100_000


def test_a_numpy_array_costs_its_metadata_only() -> None:
    data = pickle.dumps({"w": np.zeros(1 << 20), "b": np.zeros(3)}, 4)
    reader = Dribble(data)
    stream = read_pickle(reader)
    assert stream.complete
    assert reader.meter.bytes_read < 100_000
    assert [call.path for name, call in named_values(stream.root) if name in "wb"] == [
        "numpy._core.multiarray._reconstruct"
    ] * 2


def test_text_arguments_may_be_longer_than_the_window() -> None:
    text = "x" * 300_000
    stream = read_pickle(Dribble(b"(lp0\nV" + text.encode() + b"\nap1\nVshort\na."))
    assert stream.complete
    assert isinstance(stream.root[0], Blob)
    assert stream.root[0].length == len(text)
    assert stream.root[1] == "short"
    stream = read_pickle(Dribble(b"(lp0\nV" + b"y" * 60_000 + b"\na."))
    assert stream.root == ["y" * 60_000]


def test_an_opcode_may_straddle_every_window_border() -> None:
    for padding in range(16_370, 16_390):
        data = b"\x80\x04](" + b"N" * padding + b"J" + struct.pack("<i", -7) + b"X\x03\0\0\0abce."
        root = read_pickle(Dribble(data)).root
        assert root[-2:] == [-7, "abc"]
        assert len(root) == padding + 2


def test_names_calls_and_offsets() -> None:
    data = b"\x80\x02cos\nsystem\nq\x00X\x02\x00\x00\x00hiq\x01\x85q\x02Rq\x03."
    stream = read_pickle(data)
    (name,) = stream.globals
    (call,) = stream.calls
    assert (name.path, name.offset) == ("os.system", 2)
    assert (call.path, call.kind, call.args) == ("os.system", "reduce", ("hi",))
    assert data[call.offset : call.offset + 1] == b"R"
    assert stream.root is call


@pytest.mark.parametrize(
    ("data", "path", "kind"),
    [
        (b"(S'x'\nios\nsystem\n.", "os.system", "inst"),
        (b"(cos\nsystem\nS'x'\no.", "os.system", "obj"),
        (b"\x8c\x02os\x8c\x06system\x93)R.", "os.system", "reduce"),
        (b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93\x94)\x81.", "os.system", "newobj"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93)}\x92.", "os.system", "newobj_ex"),
        (b"c__builtin__\neval\n(S'1'\ntR.", "builtins.eval", "reduce"),
        (b"ccommands\ngetoutput\n)R.", "subprocess.getoutput", "reduce"),
        (b"\x80\x04c__builtin__\neval\n)R.", "__builtin__.eval", "reduce"),
        (b"\x80\x04\x8c\x0bcollections\x8c\x0b_sys.system\x93)R.", "collections._sys.system", "reduce"),
    ],
)
def test_every_way_to_call(data: bytes, path: str, kind: str) -> None:
    stream = read_pickle(data)
    assert stream.complete, stream.problem
    assert [(call.path, call.kind) for call in stream.calls] == [(path, kind)]


def test_names_that_the_stream_computes_are_unknown() -> None:
    joined = b"\x80\x04\x8c\x02os\x8c\x08builtins\x8c\x04repr\x93\x8c\x01x\x85R\x93)R."
    stream = read_pickle(joined)
    assert (stream.globals[1].module, stream.globals[1].name) == ("os", None)
    stream = read_pickle(b"\x80\x02\x82\x07)R.")
    assert stream.globals[0].extension == 7
    assert stream.globals[0].module is None


def test_memo_tricks_are_followed() -> None:
    # The memo slot of a harmless name is overwritten before it is fetched for the call.
    data = b"\x80\x02cbuiltins\nprint\nq\x000cos\nsystem\nq\x000h\x00)R."
    assert [call.path for call in read_pickle(data).calls] == ["os.system"]
    data = b"cos\nsystem\np99999999999\n0g99999999999\n)R."
    assert [call.path for call in read_pickle(data).calls] == ["os.system"]


def test_calls_before_a_broken_end_are_reported() -> None:
    for tail in (b"", b"\xff", b"R", b"h\x63.", b"\x8e" + b"\xff" * 8, b"a" * 3, b"X\xff\xff\xff\x7f", b"I12x\n."):
        stream = read_pickle(b"cos\nsystem\n(S'x'\ntR" + tail)
        assert [call.path for call in stream.calls] == ["os.system"]
        assert not stream.complete
        assert stream.problem is not None


def test_persistent_ids_and_torch_layout() -> None:
    class Writer(pickle.Pickler):
        def persistent_id(self, value: Any) -> Any:
            return ("storage", collections.OrderedDict, "0", "cpu", 6) if isinstance(value, bytearray) else None

    out = io.BytesIO()
    Writer(out, 2).dump({"w": bytearray(b"x")})
    stream = read_pickle(out.getvalue())
    found = stream.root.get("w")
    assert isinstance(found, PersistentId)
    assert found.id[0] == "storage"
    assert isinstance(found.id[1], Global)
    assert found.id[2:] == ("0", "cpu", 6)
    assert read_pickle(b"Pabc\n.").root.id == "abc"


def test_state_is_kept_and_walked_under_dotted_names() -> None:
    module = pytest.importorskip("torch.nn").Sequential(__import__("torch").nn.Linear(2, 2))
    buffers: list[pickle.PickleBuffer] = []
    stream = read_pickle(pickle.dumps(module, 5, buffer_callback=buffers.append))
    assert stream.complete
    names = {name for name, value in named_values(stream.root) if isinstance(value, Call)}
    assert {"0.weight", "0.bias"} <= names


def test_out_of_band_buffers() -> None:
    stream = read_pickle(pickle.dumps([pickle.PickleBuffer(b"abc")], 5, buffer_callback=lambda b: False))
    assert stream.buffers == 1
    assert isinstance(stream.root[0], Buffer)


def test_billion_laughs_stay_small() -> None:
    data = b"\x80\x02K\x01" + b"2\x86" * 5_000 + b"."  # a pair of the same pair, five thousand levels
    stream = read_pickle(data)
    assert stream.complete
    assert sum(1 for _ in named_values(stream.root)) < 10_000
    data = b"\x80\x02]q\x00" + b"".join(
        b"]q" + bytes([i]) + b"(" + b"h" + bytes([i - 1]) + b"h" + bytes([i - 1]) + b"e" for i in range(1, 200)
    )
    assert read_pickle(data + b".").complete


def test_depth_has_no_bound_and_no_recursion() -> None:
    stream = read_pickle(b"\x80\x02)" + b"\x85" * 500_000 + b".")
    assert stream.complete
    assert list(named_values(stream.root)) == []
    del stream
    marks = read_pickle(b"(" * 300_000)
    assert not marks.complete


def test_opcodes_are_bounded() -> None:
    stream = read_pickle(b"\x80\x02" + b"N0" * 5_000 + b"N.", max_opcodes=1_000)
    assert stream.limited
    assert stream.opcodes == 1_000
    assert not stream.complete


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b".",
        b"\x80",
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"B\xff\xff\xff\xff.",
        b"T\xff\xff\xff\xff.",
        b"\x8b\xff\xff\xff\xff.",
        b"L" + b"9" * 10_000 + b"L\n",
        b"S'abc\n.",
        b"(t0R.",
        b"h\x00.",
        b"p-1\n.",
        b"N(K\x01u.",
        b"V\\uZZ\n.",
        b"X\x01\x00\x00\x00\xff.",
    ],
)
def test_malformed_streams_end_in_a_problem(data: bytes) -> None:
    stream = read_pickle(data)
    assert not stream.complete
    assert stream.problem is not None


def test_leniencies_of_the_real_unpickler() -> None:
    assert read_pickle(b"I0x10\n.").root == 16
    assert read_pickle(b"I01\n.").root is True
    assert read_pickle(b"L7\n.").root == 7
    assert read_pickle(b"(K\x010K\x02.").root == 2  # POP takes the mark
    assert read_pickle(b"N\x80\x02.").complete  # PROTO may stand anywhere
    for data in (b"I0x10\n.", b"I01\n.", b"L7\n.", b"N\x80\x02."):
        pickle.loads(data)  # plain constants only: it really is that lenient


def test_changes_to_imported_objects_are_events() -> None:
    stream = read_pickle(b"cos\nenviron\n(S'a'\nS'b'\nu.")
    assert [(call.kind, call.function.path) for call in stream.calls] == [("setitem", "os.environ")]
    stream = read_pickle(b"ccollections\nOrderedDict\n}b.")
    assert [(call.kind, call.function.path) for call in stream.calls] == [("build", "collections.OrderedDict")]


def test_reading_starts_and_ends_where_it_is_told() -> None:
    data = b"junk" + pickle.dumps([1], 2) + b"more"
    stream = read_pickle(BytesReader(data, where="x"), 4)
    assert stream.root == [1]
    assert data[stream.end_offset :] == b"more"
    assert not read_pickle(data, 4, end=6).complete
    assert not read_pickle(data, 10_000).complete
