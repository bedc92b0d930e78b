from __future__ import annotations

import importlib.util
import random
import subprocess
import sys
from pathlib import Path

import pytest
from tests.trust.fuzzing import NAMES, damaged, judge, seeds


def test_damaged_samples_are_judged_without_a_fault():
    rng = random.Random(7)  # reproducible; tools/fuzz.py searches further
    for number, (name, content) in enumerate(seeds()):
        if number % 4 == 0:
            judge(damaged(content, rng), name if rng.random() < 0.7 else rng.choice(NAMES))


def test_random_bytes_under_every_name_are_judged_without_a_fault():
    rng = random.Random(1)
    for name in NAMES:
        for length in (0, 1, 3, 17, 300):
            judge(rng.randbytes(length), name)


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris has no wheel for this platform")
def test_a_search_guided_by_coverage_from_the_kept_corpus_finds_no_fault(tmp_path):
    """Every input of the kept corpus, then new ones for as long as CI can spare; `make fuzz` searches for longer."""
    tool = Path(__file__).parents[3] / "tools/fuzz.py"
    # Linux counts what the parent held at exec as the child's peak; `timeout` stands between, and holds nothing.
    command = ["timeout", "600", sys.executable, tool, "--seconds", "20", "--seed", "1", "--corpus", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "DONE" in done.stderr  # not ended by an import that failed
