"""The corpus as a whole: what the aim of the scanner is, on both parts. Single samples are not looked at here."""

from __future__ import annotations

import collections
from collections.abc import Iterator

import pytest
from tests.trust.corpus import WRITTEN, Sample, samples

from regraft.record.evidence import Verdict
from regraft.trust.scan import scan

FAMILIES = (*WRITTEN, "benign_pickles", "benign_repositories")
"""Those that need no framework to be imported; benchmarks/scanning.py judges all."""


@pytest.fixture(scope="module")
def counts(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, bool], collections.Counter[Verdict]]:
    """(kind, held out) → verdicts."""
    found: dict[tuple[str, bool], collections.Counter[Verdict]] = collections.defaultdict(collections.Counter)
    folder = tmp_path_factory.mktemp("corpus")
    for number, sample in enumerate(_samples()):
        evidence = scan(sample.write(folder / str(number)), weights=True)
        found[sample.kind, sample.is_held_out][evidence.verdict] += 1
    return found


def _samples() -> Iterator[Sample]:
    names: set[str] = set()
    for sample in samples(*FAMILIES):
        assert sample.name not in names
        names.add(sample.name)
        yield sample


@pytest.mark.parametrize("held_out", [False, True])
def test_attacks_fail_and_hardly_any_passes(counts, held_out):
    verdicts = counts["malicious", held_out]
    assert verdicts.total() > 300
    assert verdicts[Verdict.FAIL] >= 0.95 * verdicts.total()
    assert verdicts[Verdict.PASS] <= 0.01 * verdicts.total()


@pytest.mark.parametrize("held_out", [False, True])
def test_what_libraries_write_passes(counts, held_out):
    verdicts = counts["benign", held_out]
    assert verdicts[Verdict.FAIL] == 0
    assert verdicts[Verdict.PASS] >= 0.92 * verdicts.total()


def test_what_only_a_person_can_judge_is_inconclusive(counts):
    verdicts = counts["unclear", False] + counts["unclear", True]
    assert verdicts[Verdict.INCONCLUSIVE] >= 0.9 * verdicts.total()
