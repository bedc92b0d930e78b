"""Traces in low bytes are found where they were planted, and nothing is found in what is not trained on purpose.

Payloads are the inert ones of the corpus, encrypted data are pseudo-random bytes. All is seeded: no outcome is chance.
"""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable

import numpy as np
import pytest
from tests.trust.corpus.weight_payloads import in_onnx, weights, with_low_bytes

from regraft.package.reader import BytesReader
from regraft.trust.scan.mantissa import BLOCK, Trace, traces_in
from regraft.trust.scan.planes import may_be_text, streams_of

RNG = np.random.default_rng(11)
TEXT = inspect.getsource(argparse).encode()[:60_000]
NATURAL: dict[str, Callable[[int], np.ndarray]] = {
    "normal": lambda n: RNG.normal(0, 0.02, n),
    "uniform": lambda n: RNG.uniform(-0.125, 0.125, n),
    "clipped": lambda n: np.clip(RNG.normal(0, 0.02, n), -0.03, 0.03),
    "heavy tails": lambda n: RNG.standard_t(3, n),
    "squares": lambda n: RNG.normal(0, 1, n) ** 2,
    "rounded to float16": lambda n: RNG.normal(0, 0.02, n).astype(np.float16),
    "rounded to float16 and scaled": lambda n: RNG.normal(0, 0.02, n).astype(np.float16) * np.float32(1.37),
    "int8 and a scale": lambda n: RNG.integers(-127, 128, n) * 0.0173,
    "pruned": lambda n: RNG.normal(0, 0.02, n) * (RNG.random(n) < 0.1),
    "positions": lambda n: np.sin(np.outer(np.arange(n // 64), 0.9 ** np.arange(64))).ravel(),
    "integers": lambda n: np.arange(n),
    "constant": lambda n: np.full(n, 0.1),
}


def traces(array: np.ndarray, dtype: str = "float32") -> list[Trace]:
    return list(traces_in(BytesReader(array.tobytes(), where="test"), dtype))


@pytest.mark.parametrize("count", [2048, 200_000])
@pytest.mark.parametrize("kind", NATURAL)
def test_weights_of_every_kind_are_quiet(kind: str, count: int) -> None:
    array = NATURAL[kind](count).astype("<f4")
    assert traces(array) == []
    with np.errstate(over="ignore"):
        assert traces(array.astype("<f2"), "float16") == []
    assert traces((array.view("<u4") >> 16).astype("<u2"), "bfloat16") == []


@pytest.mark.parametrize("columns", [(0, 1, 2), (2, 1, 0), (0, 1), (1, 0), (0,)])
def test_text_in_low_bytes_is_structure_where_it_begins(columns: tuple[int, ...]) -> None:
    start = 5 * BLOCK
    [trace] = traces(with_low_bytes(weights(100_000), TEXT, columns, start=start))
    assert trace.kind == "structure"
    assert trace.first == start
    assert trace.blocks <= len(TEXT) / len(columns) / BLOCK + 1


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_text_in_the_low_byte_of_16_bits(dtype: str) -> None:
    array = weights(100_000)
    words = array.astype("<f2") if dtype == "float16" else (array.view("<u4") >> 16).astype("<u2")
    assert [trace.kind for trace in traces(with_low_bytes(words, TEXT, (0,)), dtype)] == ["structure"]


def test_encrypted_data_in_three_bytes_are_flat() -> None:
    payload = RNG.bytes(3 * 131_072)
    [trace] = traces(with_low_bytes(weights(300_000), payload, (0, 1, 2), start=65_536))
    assert trace.kind == "flatness"
    assert (trace.first, trace.blocks) == (65_536, 2)


def test_encrypted_data_in_two_bytes_cannot_be_told() -> None:
    assert traces(with_low_bytes(weights(300_000), RNG.bytes(200_000), (0, 1))) == []


def test_few_numbers_are_not_judged() -> None:
    assert traces(np.frombuffer(TEXT[:4000], "<f4")) == []


def test_streams_put_together_what_was_taken_apart() -> None:
    payload = b"\x7fELF" + RNG.bytes(300)
    for columns, name in (
        ((0, 1, 2), "3 low bytes"),
        ((2, 1, 0), "3 low bytes, highest first"),
        ((0,), "lowest bytes"),
    ):
        data = with_low_bytes(weights(4000), payload, columns).tobytes()
        assert any(payload in stream for plane, stream in streams_of(data, "float32") if plane == name)


def test_text_is_suspected_where_it_stands_and_not_in_numbers() -> None:
    data = weights(100_000).tobytes()
    assert not may_be_text(data)
    assert may_be_text(data[:1001] + b"print('a text of at least forty-eight characters, all printable')" + data)
    assert not may_be_text(b"short")
    assert not may_be_text(in_onnx(weights(3000))[200:])
