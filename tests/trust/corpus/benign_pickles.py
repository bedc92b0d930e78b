"""What Python and numpy write: values of many types, in every protocol, in the files that people put them in."""

from __future__ import annotations

import array
import collections
import datetime
import decimal
import enum
import fractions
import gzip
import io
import pathlib
import pickle
import random
import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
from tests.trust.corpus import Sample


def values() -> dict[str, Any]:
    """Values whose pickles run nothing."""
    zone = datetime.timezone(datetime.timedelta(hours=1))
    rng = np.random.default_rng(0)
    record = np.zeros(3, dtype=[("x", "<f4"), ("y", "<i8")])
    return {
        "numbers": [1, -1, 2**70, 1.5, 1j, True, None],
        "texts": ["", "a", "ä" * 300, b"bytes", bytearray(b"x")],
        "containers": {"a": [1, (2, {3}), frozenset({4})], "b": {"c": {}}},
        "ordered dict": collections.OrderedDict(a=1, b=[2]),
        "default dict": collections.defaultdict(list, a=[1]),
        "counter": collections.Counter("abracadabra"),
        "deque": collections.deque([1, 2], maxlen=5),
        "dates": [datetime.datetime(2026, 1, 1, tzinfo=zone), datetime.date(2026, 1, 1), datetime.timedelta(1)],
        "exact numbers": [decimal.Decimal("1.5"), fractions.Fraction(1, 3)],
        "identifiers": [uuid.UUID(int=5)],
        "paths": [pathlib.PurePosixPath("a/b")],
        "array of Python": array.array("d", [1.0, 2.0]),
        "generator of Python": random.Random(0),
        "types": {"dtype": float, "kind": dict},
        "errors": [ValueError("x"), KeyError("y")],
        "recursive list": _recursive(),
        "vocabulary": {f"token{i}": i for i in range(3000)},
        "text that names os.system": {"note": "never call os.system or eval", "cmd": "rm -rf /"},
        "bytes that look like a pickle": pickle.dumps({"a": 1}),
        "array": rng.normal(size=(20, 30)).astype(np.float32),
        "array, Fortran order": np.asfortranarray(rng.normal(size=(5, 7))),
        "array of texts": np.array(["a", "bc"]),
        "array of objects": np.array([{"a": 1}, [2], None], dtype=object),
        "array of records": record,
        "array, big endian": np.arange(5, dtype=">i4"),
        "array of dates": np.array(["2026-01-01"], dtype="datetime64[D]"),
        "masked array": np.ma.masked_array([1, 2, 3], mask=[0, 1, 0]),
        "scalars of numpy": [np.float32(1), np.int64(2), np.bool_(True), np.float16(3)],
        "generator of numpy": rng,
        "random state of numpy": np.random.RandomState(0),
        "dtype": np.dtype([("a", "<f8"), ("b", "|S4")]),
        "record array": np.rec.array([(1, 2.0)], dtype=[("a", int), ("b", float)]),
        "large array": np.zeros(300_000),
    }


def _recursive() -> list[Any]:
    inner: list[Any] = [1]
    inner.append(inner)
    return inner


def samples() -> Iterator[Sample]:
    """Every value in one protocol or two, then in other files."""
    for number, (what, value) in enumerate(values().items()):
        for protocol in {number % 6, 4}:
            yield _benign(f"{what}, protocol {protocol}", {"data.pkl": pickle.dumps(value, protocol)})
    table = values()
    yield _benign("gz", {"data.pkl.gz": gzip.compress(pickle.dumps(table["vocabulary"]))})
    yield _benign("several streams", {"log.pkl": b"".join(pickle.dumps({"step": i}) for i in range(20))})
    yield _benign("a named tuple of the library", {"x.pkl": pickle.dumps(np.linalg.slogdet(np.eye(2)))})
    yield _benign("an enumeration of the library", {"x.pkl": pickle.dumps(enum.IntEnum)})
    for what in ("array", "array of objects", "array of records", "array of texts", "array, Fortran order"):
        buffer = io.BytesIO()
        np.save(buffer, table[what], allow_pickle=True)
        yield _benign(f"npy, {what}", {"data.npy": buffer.getvalue()})
    for compress in (np.savez, np.savez_compressed):
        buffer = io.BytesIO()
        compress(buffer, w=table["array"], b=np.zeros(3), names=np.array(["x", "y"]))
        yield _benign(f"npz by {compress.__name__}", {"data.npz": buffer.getvalue()})


def _benign(what: str, files: dict[str, bytes]) -> Sample:
    return Sample(f"benign pickles/{what}", files, kind="benign")
