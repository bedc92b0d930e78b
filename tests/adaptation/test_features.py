from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from regraft.adaptation.candidate_process import CandidateFailed
from regraft.adaptation.data import LabelledData
from regraft.adaptation.features import Candidate, Setting, examine, extract
from regraft.errors import PermitRefused, Unsupported
from regraft.progress import listening

ROWS = np.arange(12)


def test_features_come_from_the_store_the_second_time(digits: LabelledData, setting: Setting) -> None:
    examined = examine(Candidate(ref="py:own_networks:works"), setting)
    first = extract(examined, digits, ROWS, setting)
    again = extract(examined, digits, ROWS, setting)
    assert (first.is_cached, again.is_cached) == (False, True)
    assert (first.vectors == again.vectors).all()
    assert first.vectors.shape == (12, 16)
    assert digits.images is not None
    expected = digits.images[ROWS].reshape(12, 4, 2, 4, 2).mean(axis=(2, 4)).reshape(12, 16)
    np.testing.assert_allclose(first.vectors, expected, atol=1 / 255)  # pictures are rounded to 8 bits
    assert not extract(examined, digits, ROWS[:5], setting).is_cached


def test_two_networks_of_one_file_are_two_candidates(digits: LabelledData, setting: Setting) -> None:
    works, useless = (examine(Candidate(ref=f"py:own_networks:{name}"), setting) for name in ("works", "useless"))
    assert works.subject.sha256 != useless.subject.sha256
    assert extract(works, digits, ROWS, setting).vectors.shape == (12, 16)
    assert extract(useless, digits, ROWS, setting).vectors.shape == (12, 3)


def test_a_kept_blob_that_was_changed_is_computed_again(digits: LabelledData, setting: Setting) -> None:
    examined = examine(Candidate(ref="py:own_networks:works"), setting)
    first = extract(examined, digits, ROWS[:4], setting)
    for path in (setting.store.root / "blobs").rglob("*"):
        if path.is_file():
            path.chmod(0o644)
            path.write_bytes(b"x" * path.stat().st_size)
    again = extract(examined, digits, ROWS[:4], setting)
    assert not again.is_cached
    assert (first.vectors == again.vectors).all()


@pytest.mark.parametrize(
    ("factory", "error", "said"),
    [
        ("crashes", CandidateFailed, "SIGABRT"),
        ("raises", CandidateFailed, "layers.7"),
        ("not_finite", Unsupported, "12 of 12 rows"),
    ],
)
def test_failures_are_told(
    factory: str, error: type[Exception], said: str, digits: LabelledData, setting: Setting
) -> None:
    examined = examine(Candidate(ref=f"py:own_networks:{factory}"), setting)
    with pytest.raises(error, match=said):
        extract(examined, digits, ROWS, setting)


def test_a_hanging_candidate_is_ended(digits: LabelledData, setting: Setting) -> None:
    examined = examine(Candidate(ref="py:own_networks:hangs"), setting)
    began = time.monotonic()
    with pytest.raises(CandidateFailed, match="within 2 s"):
        extract(examined, digits, ROWS, msgspec.structs.replace(setting, time_limit_s=2.0))
    assert time.monotonic() - began < 10


def test_a_pickle_is_not_loaded_without_a_scan(asset: Callable[[str, str, str], Path], setting: Setting) -> None:
    ref = f"{asset('pypi', 'rxnfp', '0.1.0')}#rxnfp/models/transformers/bert_pretrained"
    with pytest.raises(PermitRefused, match="no scan") as raised:
        examine(Candidate(ref=ref), setting)
    assert raised.value.hint.startswith("regraft scan")


def test_texts_and_their_progress(
    asset: Callable[[str, str, str], Path], reviews: Callable[[int, int], LabelledData], setting: Setting
) -> None:
    counted: list[int] = []

    class Counter:
        def start(self, what: str, total: int | None, unit: str) -> int:
            return 1 if what.startswith("features") else 0

        def advance(self, task: int, amount: int) -> None:
            if task:
                counted.append(amount)

        def finish(self, task: int) -> None:
            pass

    examined = examine(Candidate(ref=str(asset("pypi", "wordllama", "0.4.0.post1"))), setting)
    with listening(Counter()):
        found = extract(examined, reviews(100, 100), np.arange(70), setting)
    assert found.vectors.shape == (70, 256)
    assert sum(counted) == 70
    assert found.runtime == "numpy"
