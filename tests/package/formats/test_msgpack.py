"""MessagePack: arrays of Flax and of thinc, found without reading their payloads."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regraft.errors import Damaged, LimitExceeded, RegraftError
from regraft.package.formats.interface import Probe
from regraft.package.formats.msgpack import Blob, FlaxMsgpack, Msgpack, read_msgpack
from regraft.package.reader import BytesReader, FileReader

Asset = Callable[[str, str, str], Path]
pack = msgspec.msgpack.encode


def array(values: Any) -> msgspec.msgpack.Ext:
    """As flax.serialization packs an array: extension 1 around (shape, dtype, bytes)."""
    return msgspec.msgpack.Ext(1, pack((values.shape, values.dtype.name, values.tobytes())))


def probe_of(data: bytes) -> Probe:
    return Probe(BytesReader(data, where="x"), "checkpoint")


def test_flax_parameters() -> None:
    big = np.zeros((256, 1024), "f4")
    content = {
        "params": {"dense": {"kernel": array(big), "bias": array(np.zeros(4, "f2"))}},
        "step": 3,
        "large": {
            "__msgpack_chunked_array__": True,
            "shape": {"0": 4, "1": 2},
            "chunks": {"0": array(np.zeros(4)), "1": array(np.zeros(4))},
        },
    }
    probe = probe_of(pack(content))
    assert FlaxMsgpack().matches(probe)
    description = FlaxMsgpack().describe(probe)
    assert [(t.name, t.dtype, t.shape, t.size_bytes) for t in description.tensors or ()] == [
        ("params/dense/kernel", "float32", (256, 1024), 1 << 20),
        ("params/dense/bias", "float16", (4,), 8),
        ("large", "float64", (4, 2), 64),
    ]
    assert description.metadata["keys"] == "params, step, large"
    assert probe.reader.meter.bytes_read < 700_000


def test_a_spacy_model(asset: Asset) -> None:
    folder = asset("pypi", "ja-ginza", "5.3.0") / "ja_ginza/ja_ginza-5.3.0"
    probe = Probe(FileReader(folder / "tok2vec/model"), "model")
    assert not FlaxMsgpack().matches(probe)
    assert Msgpack().matches(probe)
    description = Msgpack().describe(probe)
    tensors = {tensor.name: tensor for tensor in description.tensors or ()}
    assert len(tensors) == 39
    assert tensors["params/8/W"].shape == (256, 300)
    assert all(tensor.size_bytes == 4 * tensor.elements for tensor in tensors.values() if tensor.dtype == "float32")
    assert probe.reader.meter.bytes_read < probe.reader.size / 5


@pytest.mark.parametrize(
    "data", [b"{}", b"\x80\x04\x95\x00", b"plain text", b"\x93\x01\x02", b"\x91\x01\x02", b"\xdc", b""]
)
def test_other_content_is_not_taken_for_msgpack(data: bytes) -> None:
    assert not Msgpack().matches(probe_of(data))


def test_bounds() -> None:
    with pytest.raises(LimitExceeded):
        read_msgpack(BytesReader(b"\x91" * 5000 + b"\x01", where="x"))
    with pytest.raises(LimitExceeded):
        read_msgpack(BytesReader(b"\xdf\x00\x00\x00\x01\x01" * 5000, where="x"))
    with pytest.raises(LimitExceeded):
        read_msgpack(BytesReader(b"\xdd\x00\x04\x00\x00" + b"\x01" * (1 << 18), where="x"))
    with pytest.raises(Damaged):
        read_msgpack(BytesReader(b"\xdd\xff\xff\xff\xff", where="x"))


def test_a_broken_array_is_a_problem() -> None:
    content = {"good": array(np.zeros(2)), "bad": msgspec.msgpack.Ext(1, pack(((-1,), "float32", b"")))}
    description = FlaxMsgpack().describe(probe_of(pack(content)))
    assert len(description.tensors or ()) == 1
    assert description.problems[0].member == "bad"


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=300) | st.binary(max_size=300),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=9), inner, max_size=20),
    max_leaves=40,
)


def skipped(value: Any) -> Any:
    """What the walk makes of a value: payloads by their size."""
    if isinstance(value, bytes | Blob):
        return ("bytes", len(value) if isinstance(value, bytes) else value.size_bytes)
    if isinstance(value, dict):
        return {key: skipped(item) for key, item in value.items()}
    return [skipped(item) for item in value] if isinstance(value, list) else value


@given(values)
def test_any_value_is_walked_to_its_end(value: Any) -> None:
    assert skipped(read_msgpack(BytesReader(pack(value), where="x"))) == skipped(value)


@given(st.binary(max_size=300))
def test_any_bytes_end_in_an_answer_or_an_error_of_ours(data: bytes) -> None:
    with contextlib.suppress(RegraftError):
        read_msgpack(BytesReader(data, where="x"))


def test_damage_never_escapes(hammer: Callable[..., int]) -> None:
    data = pack({"params": {str(i): array(np.zeros((2, i))) for i in range(20)}})
    hammer(FlaxMsgpack(), data, rounds=300)
    hammer(Msgpack(), data, rounds=300)


@pytest.mark.parametrize("first", [0x93, 0xDC, 0xDD, 0xDE, 0xDF, 0x8F])
def test_noise_is_no_messagepack(first: int) -> None:
    noise = bytes([first, 0, 255, 255, 255]) + np.random.default_rng(first).bytes(1 << 20)
    assert not Msgpack().matches(probe_of(noise))


def test_an_object_of_more_items_than_are_looked_at_is_still_one() -> None:
    probe = probe_of(pack({n: n for n in range(150_000)}))
    assert Msgpack().matches(probe)
    assert [problem.kind for problem in Msgpack().describe(probe).problems] == ["partial"]
