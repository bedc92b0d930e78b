"""Arrays in a file are the same numbers, whatever was let go of, and a bound is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from regraft.errors import LimitExceeded
from regraft.runtime.spill import Spill, resident_bytes


@pytest.mark.parametrize("shape", [(300, 100), (1, 3, 224, 224), (100_000,)])
@pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
def test_an_array_comes_back(shape: tuple[int, ...], dtype: str) -> None:
    value = np.random.default_rng(0).integers(-9, 9, shape).astype(dtype)
    spill = Spill()
    first, second = spill.put(value), spill.put(value[::-1])
    for _ in range(2):
        np.testing.assert_array_equal(first, value, strict=True)
        np.testing.assert_array_equal(second, value[::-1], strict=True)
        spill.release()
    with spill.releasing():
        np.testing.assert_array_equal(first.copy(), value, strict=True)
    assert not first.flags.writeable


def test_small_arrays_and_texts_stay_where_they_are() -> None:
    spill = Spill()
    for value in (np.zeros(10), np.array(["text"] * 9000, dtype=object), np.zeros((0, 5))):
        assert spill.put(value) is value
    assert len(spill.put_bytes(memoryview(b""))) == 0


def test_the_file_has_no_name(tmp_path: Path) -> None:
    spill = Spill(folder=tmp_path)
    spill.put(np.ones(100_000))
    assert list(tmp_path.iterdir()) == []


def test_views_outlive_it() -> None:
    view = Spill().put(np.arange(100_000))
    np.testing.assert_array_equal(view, np.arange(100_000))


def test_a_bound_that_is_exceeded_says_what_would_do() -> None:
    Spill(limit_bytes=1 << 45).breathe()
    with pytest.raises(LimitExceeded) as caught:
        Spill(limit_bytes=1 << 20).breathe()
    assert int(caught.value.hint.rsplit(" ", maxsplit=1)[-1]) << 20 > resident_bytes()
